"""Crops drawn by epochs: every sample of a source once before any comes again."""

from __future__ import annotations

import numpy as np

from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import ArrayCrops, CropSource, MicrographCrops
from adaptive_scan.micrographs.preprocessing import N_SYMMETRIES


class EpochOrder:
    """The samples of a source in an order that is another in every epoch.

    Samples are the crops of a bank, or the tiles of micrographs, which do not overlap. The ids are one endless
    sequence: epoch after epoch, each a permutation of all samples with a random symmetry for each where the source
    draws symmetries. An epoch's permutation comes from the seed and its own number alone, so whoever knows how many
    ids were drawn can go on, and several processes agree without talking.

    Args:
        source: Where crops come from.
        seed: Seed of the permutations.

    Attributes:
        n_samples: Samples of an epoch.

    Raises:
        ValueError: If the source is of a kind whose samples cannot be listed.

    Example:
        >>> order = EpochOrder(ArrayCrops(np.random.default_rng(0).random((5, 8, 8))), seed=0)
        >>> sorted(order.ids(10, 5)[:, 0].tolist())
        [0, 1, 2, 3, 4]
    """

    def __init__(self, source: CropSource, seed: int) -> None:
        if isinstance(source, MicrographCrops):
            self._samples = source.tiles()
        elif isinstance(source, ArrayCrops):
            self._samples = np.zeros((len(source), source.id_width), dtype=np.int64)
            self._samples[:, 0] = np.arange(len(source))
        else:
            raise SettingError(
                f"sampling: got 'epochs' with crops from {type(source).__name__}; expected ArrayCrops or "
                "MicrographCrops"
            )
        self._has_symmetries = source.symmetries
        self._seed = seed
        self._epoch = -1
        self._ids = self._samples
        self.n_samples = len(self._samples)

    def ids(self, first: int, n_crops: int) -> np.ndarray:
        """Ids from a place in the sequence on.

        Args:
            first: Number of ids before them, 0 at the beginning of the first epoch.
            n_crops: How many.

        Returns:
            Ids, int64, shape (n_crops, id_width).
        """
        found = []
        while n_crops > 0:
            epoch, place = divmod(first, self.n_samples)
            part = self._of_epoch(epoch)[place : place + n_crops]
            found.append(part)
            first, n_crops = first + len(part), n_crops - len(part)
        return np.concatenate(found)

    def _of_epoch(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            rng = np.random.default_rng([self._seed, epoch])
            self._ids = self._samples[rng.permutation(self.n_samples)]
            if self._has_symmetries:
                # The last number of an id is its symmetry, in a bank as in micrographs.
                self._ids[:, -1] = rng.integers(N_SYMMETRIES, size=self.n_samples)
            self._epoch = epoch
        return self._ids
