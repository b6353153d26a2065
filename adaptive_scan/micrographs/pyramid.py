"""Crops of micrographs at several scales, as fields of view are chosen at a microscope."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs.crops import MicrographCrops
from adaptive_scan.micrographs.dataset import MicrographDataset
from adaptive_scan.micrographs.preprocessing import N_SYMMETRIES, apply_symmetry, area_downsample, normalise

SCALES = (1, 2, 3, 4, 6, 8)
"""Pixels of a micrograph along a side of a pixel of a crop, by default."""


class PyramidCrops(MicrographCrops):
    """Random or tiled crops at several scales. An id is (micrograph, row, column, symmetry, scale).

    A crop of scale k is the square of ``k * crop_size`` px of the micrograph, averaged over k x k pixels: the same
    specimen seen at a lower magnification. Scales that do not fit into a micrograph are not drawn from it.

    Args:
        dataset: The micrographs.
        crop_size: Side S of the crops [px].
        scales: Pixels of a micrograph along a side of a pixel of a crop, each at least 1.
        symmetries: Draw one of the eight flips and rotations; without it, always the picture as it is.
        weights: How often each micrograph is drawn, relative to others, shape (n_micrographs,); all alike without it.

    Raises:
        SettingError: If ``crop_size`` or a scale is below 1, or weights are not positive numbers, one for each.
        MicrographError: If no micrograph is large enough.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/ramp.npy", np.arange(600.0).reshape(20, 30))
        ...     crops = PyramidCrops(MicrographDataset(folder), 8, scales=(1, 2))
        ...     crops.take(crops.tiles()).shape
        (7, 8, 8)
    """

    id_width = 5

    def __init__(
        self,
        dataset: MicrographDataset,
        crop_size: int,
        *,
        scales: Sequence[int] = SCALES,
        symmetries: bool = True,
        weights: ArrayLike | None = None,
    ) -> None:
        if not scales or min(scales) < 1:
            raise SettingError(f"scales: got {tuple(scales)}; expected whole numbers of at least 1")
        super().__init__(dataset, crop_size, downsample=min(scales), symmetries=symmetries)
        self.scales = tuple(sorted(set(scales)))
        shortest = self._shapes.min(axis=1)
        self._n_scales = np.array([sum(side >= scale * crop_size for scale in self.scales) for side in shortest])
        self._weights = _checked_weights(weights, len(dataset))[self.candidates]

    def draw(self, n_crops: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ids: a micrograph, one of the scales that fit into it, a place, a symmetry, each uniformly.

        Args:
            n_crops: How many.
            rng: Source of randomness.

        Returns:
            Ids, int64, shape (n_crops, 5).

        Raises:
            MicrographError: If the dataset skips bad files and all turned out bad.
        """
        micrographs = self._draw_micrographs(n_crops, rng)
        scales = np.array(self.scales)[rng.integers(self._n_scales[micrographs])]
        corners = rng.integers(self._shapes[micrographs] - (scales * self.crop_size)[:, None] + 1)
        symmetry = rng.integers(N_SYMMETRIES, size=n_crops) if self.symmetries else np.zeros(n_crops, dtype=np.int64)
        return np.column_stack([micrographs, corners, symmetry, scales])

    def take(self, ids: np.ndarray) -> np.ndarray:
        """Build the crops of ids.

        Args:
            ids: Shape (n, 5).

        Returns:
            A fresh float32 array in [-1, 1], shape (n, S, S).

        Raises:
            IndexError: If an id names no micrograph, or a square outside it.
            MicrographError: If a micrograph turns out bad.
        """
        taken = np.empty((len(ids), self.crop_size, self.crop_size), dtype=np.float32)
        for place in np.argsort(ids[:, 0], kind="stable").tolist():  # each micrograph is decoded once
            number, row, column, _, scale = ids[place].tolist()
            square = self.dataset.window(number, row, column, scale * self.crop_size)
            taken[place] = square if scale == 1 else area_downsample(square, scale)
        return apply_symmetry(normalise(taken), ids[:, 3])

    def tiles(self, *, max_per_micrograph: int | None = None) -> np.ndarray:
        """Name crops that do not overlap within their scale, the same ones each time; see `MicrographCrops.tiles`.

        Args:
            max_per_micrograph: Bound on the crops of one micrograph at one scale; None for all.

        Returns:
            Ids, int64, shape (n_tiles, 5), by scale, micrograph, row and column, with symmetry 0.
        """
        found = []
        for number, scale in enumerate(self.scales):
            fitting = np.flatnonzero(self._n_scales > number)
            if len(fitting):
                subset = self.dataset.subset(fitting)
                plain = MicrographCrops(subset, self.crop_size, downsample=scale, symmetries=False)
                ids = plain.tiles(max_per_micrograph=max_per_micrograph)
                ids[:, 0] = fitting[ids[:, 0]]
                found.append(np.column_stack([ids, np.full(len(ids), scale)]))
        return np.concatenate(found)

    def _draw_micrographs(self, n_crops: int, rng: np.random.Generator) -> np.ndarray:
        chosen = self.candidates[rng.choice(len(self.candidates), size=n_crops, p=self._weights / self._weights.sum())]
        usable = np.array([self._is_usable(number) for number in chosen.tolist()], dtype=bool)
        if usable.all():
            return chosen
        chosen[~usable] = super()._draw_micrographs(int((~usable).sum()), rng)
        return chosen


def _checked_weights(weights: ArrayLike | None, n_micrographs: int) -> np.ndarray:
    if weights is None:
        return np.ones(n_micrographs)
    found = np.asarray(weights, dtype=np.float64)
    if found.shape != (n_micrographs,) or not (found > 0).all() or not np.isfinite(found).all():
        raise SettingError(
            f"weights: got {weights}; expected {n_micrographs} positive numbers, one for each micrograph"
        )
    return found


def balanced_weights(sources: Sequence[str], groups: Sequence[str]) -> np.ndarray:
    """Weights by which sources are drawn in proportion to the root of their groups, and groups of a source alike.

    Pictures of one laboratory are more alike than those of several; a laboratory with many must not rule the training.

    Args:
        sources: Source of each micrograph, such as a laboratory.
        groups: Group of each, such as a specimen.

    Returns:
        Weights with a sum of 1, shape (n_micrographs,).

    Example:
        >>> balanced_weights(["a", "a", "a", "b"], ["1", "1", "2", "3"]).round(3).tolist()
        [0.146, 0.146, 0.293, 0.414]
    """
    pairs = list(zip(sources, groups, strict=True))
    n_groups = {source: len({group for its, group in pairs if its == source}) for source in set(sources)}
    weights = np.array([n_groups[source] ** -0.5 / pairs.count((source, group)) for source, group in pairs])
    weights /= weights.sum()
    return weights
