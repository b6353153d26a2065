"""Crops of several sources under one roof."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs.crops import CropSource


class MixedCrops:
    """Crops of several sources, each drawn with its share. An id is (source, id in that source, zeros).

    Args:
        sources: Where crops come from, all of one side.
        shares: Share of each source, positive; equal ones by default.

    Attributes:
        crop_size: Side S of the crops [px].
        id_width: Numbers in an id, one more than the longest of the sources.

    Raises:
        ValueError: If there is no source, their sides differ, or shares are not one positive number for each.

    Example:
        >>> from adaptive_scan.micrographs import ArrayCrops
        >>> black, white = (ArrayCrops(np.full((1, 4, 4), value), normalise=False) for value in (-1.0, 1.0))
        >>> mixed = MixedCrops([black, white], shares=[3.0, 1.0])
        >>> float(mixed.take(mixed.draw(4000, np.random.default_rng(0))).mean().round(1))
        -0.5
    """

    def __init__(self, sources: Sequence[CropSource], *, shares: Sequence[float] | None = None) -> None:
        sides = sorted({source.crop_size for source in sources})
        if len(sides) != 1:
            raise SettingError(f"sources have sides {sides} px; expected at least one source, and all of one side")
        weights = np.ones(len(sources)) if shares is None else np.array(shares, dtype=np.float64)
        if weights.shape != (len(sources),) or not np.all((weights > 0) & np.isfinite(weights)):
            raise SettingError(f"shares: got {shares}; expected {len(sources)} positive numbers, one for each source")
        self.sources = tuple(sources)
        self.shares = weights / weights.sum()
        self.crop_size = sides[0]
        self.id_width = 1 + max(source.id_width for source in sources)

    def draw(self, n_crops: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ids of crops, independently: the source by the shares, then whatever it draws.

        Args:
            n_crops: How many.
            rng: Source of randomness.

        Returns:
            Ids, int64, shape (n_crops, id_width).
        """
        ids = np.zeros((n_crops, self.id_width), dtype=np.int64)
        ids[:, 0] = rng.choice(len(self.sources), size=n_crops, p=self.shares)
        for number, source in enumerate(self.sources):
            own = np.flatnonzero(ids[:, 0] == number)
            ids[own, 1 : 1 + source.id_width] = source.draw(len(own), rng)
        return ids

    def take(self, ids: np.ndarray) -> np.ndarray:
        """Build the crops of ids.

        Args:
            ids: Shape (n, id_width).

        Returns:
            A fresh float32 array in [-1, 1], shape (n, S, S).

        Raises:
            ValueError: If an id names no source, or no crop of it.
        """
        unknown = ids[(ids[:, 0] < 0) | (ids[:, 0] >= len(self.sources)), 0]
        if len(unknown):
            raise SettingError(f"ids name source {unknown[0]}; expected 0 to {len(self.sources) - 1}")
        crops = np.empty((len(ids), self.crop_size, self.crop_size), dtype=np.float32)
        for number, source in enumerate(self.sources):
            own = np.flatnonzero(ids[:, 0] == number)
            if len(own):
                crops[own] = source.take(ids[own, 1 : 1 + source.id_width])
        return crops
