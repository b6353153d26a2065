"""Crops of micrographs, named by ids so that they can be drawn once and taken again and again."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs.dataset import MicrographDataset
from adaptive_scan.micrographs.errors import MicrographError
from adaptive_scan.micrographs.preprocessing import (
    N_SYMMETRIES,
    UNIFORM_RANGE,
    apply_symmetry,
    area_downsample,
)
from adaptive_scan.micrographs.preprocessing import normalise as normalise_crops

_TAKEN_AT_ONCE = 1024
# Some megabytes: what normalisation passes over several times stays near the processor.
_NORMALISED_AT_ONCE = 64


@runtime_checkable
class CropSource(Protocol):
    """What crops are drawn from. An id names a crop for ever: whoever keeps ids need not keep crops.

    Attributes:
        crop_size: Side S of the crops [px].
        id_width: Numbers in an id.
    """

    crop_size: int
    id_width: int

    def draw(self, n_crops: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the ids of random crops, int64, shape (n_crops, id_width)."""
        ...

    def take(self, ids: np.ndarray) -> np.ndarray:
        """Build the crops of ids (n, id_width): a fresh float32 array in [-1, 1], shape (n, S, S)."""
        ...


class ArrayCrops:
    """A bank of crops in memory. An id is (index,), or (index, symmetry) with ``symmetries``.

    Args:
        crops: Real values, shape (M, S, S) or, as in WEMD, (M, S, S, 1).
        symmetries: Draw each crop in one of its eight flips and rotations.
        normalise: Normalise each crop to [-1, 1]; without it they must lie there already.

    Attributes:
        crops: The bank, float32, shape (M, S, S).

    Raises:
        ValueError: If there is no crop, they are not square, or a value lies outside [-1, 1] with ``normalise=False``.

    Example:
        >>> bank = ArrayCrops(np.arange(32.0).reshape(2, 4, 4))
        >>> ids = bank.draw(3, np.random.default_rng(0))
        >>> ids.shape, bank.take(ids).shape
        ((3, 1), (3, 4, 4))
    """

    def __init__(self, crops: ArrayLike, *, symmetries: bool = False, normalise: bool = True) -> None:
        bank = np.asarray(crops)
        if bank.ndim == 4 and bank.shape[-1] == 1:
            bank = bank[..., 0]
        if bank.ndim != 3 or bank.shape[1] != bank.shape[2] or bank.size == 0 or bank.dtype.kind not in "iuf":
            raise ValueError(f"crops: got {bank.dtype} of shape {bank.shape}; expected real numbers (M, S, S)")
        self.crops = normalise_crops(bank) if normalise else np.array(bank, dtype=np.float32, order="C")
        if not normalise and not (np.abs(self.crops).max() <= 1.0):
            raise SettingError("crops have values outside [-1, 1]; expected them inside, or normalise=True")
        self.symmetries = symmetries
        self.crop_size = int(bank.shape[1])
        self.id_width = 2 if symmetries else 1

    def __len__(self) -> int:
        return len(self.crops)

    def draw(self, n_crops: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ids of crops, uniformly and independently.

        Args:
            n_crops: How many.
            rng: Source of randomness.

        Returns:
            Ids, int64, shape (n_crops, id_width).
        """
        indices = rng.integers(len(self.crops), size=n_crops)
        if not self.symmetries:
            return indices[:, None]
        return np.stack([indices, rng.integers(N_SYMMETRIES, size=n_crops)], axis=1)

    def take(self, ids: np.ndarray) -> np.ndarray:
        """Copy the crops of ids.

        Args:
            ids: Shape (n, id_width).

        Returns:
            A fresh float32 array in [-1, 1], shape (n, S, S).

        Raises:
            ValueError: If ids are not integers of shape (n, id_width), or name no crop.
        """
        ids = _checked_ids(ids, self.id_width)
        indices = ids[:, 0]
        if len(ids) and not 0 <= indices.min() <= indices.max() < len(self.crops):
            raise SettingError(f"crop indices from {indices.min()} to {indices.max()}; expected 0 to {len(self) - 1}")
        taken = self.crops[indices]
        return apply_symmetry(taken, ids[:, 1]) if self.symmetries else taken


class MicrographCrops:
    """Random or tiled crops of the micrographs of a dataset. An id is (micrograph, row, column, symmetry).

    Row and column are those of the crop's first pixel in the full picture [px]. A crop is the square of
    ``crop_size * downsample`` px from there, averaged over ``downsample x downsample`` blocks, transformed by its
    symmetry and normalised. Micrographs that are too small for it are left out.

    Args:
        dataset: The micrographs.
        crop_size: Side S of the crops [px].
        downsample: Side of the blocks that are averaged [px].
        symmetries: Draw one of the eight flips and rotations; without it, always the picture as it is.

    Attributes:
        candidates: Indices of the micrographs that are large enough, int64.

    Raises:
        ValueError: If ``crop_size`` or ``downsample`` is below 1.
        MicrographError: If no micrograph is large enough.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/ramp.npy", np.arange(600.0).reshape(20, 30))
        ...     crops = MicrographCrops(MicrographDataset(folder), 8)
        ...     crops.take(crops.tiles()).shape
        (6, 8, 8)
    """

    id_width = 4

    def __init__(
        self, dataset: MicrographDataset, crop_size: int, *, downsample: int = 1, symmetries: bool = True
    ) -> None:
        if crop_size < 1 or downsample < 1:
            raise SettingError(f"crop_size {crop_size!r} and downsample {downsample!r}; expected both at least 1")
        self.dataset = dataset
        self.crop_size = crop_size
        self.downsample = downsample
        self.symmetries = symmetries
        self._side = crop_size * downsample
        self._shapes = dataset.shapes
        self.candidates = np.flatnonzero(self._shapes.min(axis=1, initial=2**62) >= self._side)
        if len(self.candidates) == 0:
            largest = self._shapes[self._shapes.min(axis=1).argmax()] if len(self._shapes) else (0, 0)
            found = f"micrographs of at most {largest[0]} x {largest[1]} px"
            raise MicrographError(dataset.root, found, f"one with sides of at least {self._side} px for the crop")

    def draw(self, n_crops: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ids: a micrograph uniformly among those large enough, a position in it uniformly, a symmetry.

        If the dataset skips bad files, a micrograph that turns out bad is drawn again. That depends on the files
        alone, so equal generators give equal ids whatever was read before.

        Args:
            n_crops: How many.
            rng: Source of randomness.

        Returns:
            Ids, int64, shape (n_crops, 4).

        Raises:
            MicrographError: If the dataset skips bad files and all turned out bad.
        """
        micrographs = self._draw_micrographs(n_crops, rng)
        corners = rng.integers(self._shapes[micrographs] - self._side + 1)
        symmetry = rng.integers(N_SYMMETRIES, size=n_crops) if self.symmetries else np.zeros(n_crops, dtype=np.int64)
        return np.column_stack([micrographs, corners, symmetry])

    def take(self, ids: np.ndarray) -> np.ndarray:
        """Build the crops of ids.

        Args:
            ids: Shape (n, 4).

        Returns:
            A fresh float32 array in [-1, 1], shape (n, S, S).

        Raises:
            ValueError: If ids are not integers of shape (n, 4), or a symmetry lies outside 0 to 7.
            IndexError: If an id names no micrograph, or a square outside it.
            MicrographError: If a micrograph turns out bad.
        """
        ids = _checked_ids(ids, self.id_width)
        if len(ids) and ids[:, 0].min() < 0:
            raise IndexError(f"micrograph {ids[:, 0].min()}; expected 0 to {len(self.dataset) - 1}")
        taken = np.empty((len(ids), self.crop_size, self.crop_size), dtype=np.float32)
        # In the order of micrographs each is decoded once, however small the cache.
        by_micrograph = np.argsort(ids[:, 0], kind="stable")
        for start in range(0, len(ids), _NORMALISED_AT_ONCE):
            chunk = by_micrograph[start : start + _NORMALISED_AT_ONCE]
            taken[chunk] = apply_symmetry(self._plain_crops(ids[chunk]), ids[chunk, 3])
        return taken

    def tiles(self, *, max_per_micrograph: int | None = None) -> np.ndarray:
        """Name crops that do not overlap, the same ones each time.

        They form a grid that reaches from edge to edge; of a limited number, each next one lies as far as possible
        from those before it, the first in the middle.

        Args:
            max_per_micrograph: Bound on the crops of one micrograph; None for all.

        Returns:
            Ids, int64, shape (n_tiles, 4), by micrograph, row and column, with symmetry 0.

        Raises:
            ValueError: If ``max_per_micrograph`` is below 1.
            MicrographError: If the dataset skips bad files and all turned out bad.
        """
        if max_per_micrograph is not None and max_per_micrograph < 1:
            raise SettingError(f"max_per_micrograph: got {max_per_micrograph!r}; expected at least 1 or None")
        readable = [number for number in self.candidates if self._is_usable(int(number))]
        if not readable:
            raise self._all_bad()
        found = []
        for number in readable:
            corners = _spread(_grid_corners(self._shapes[number], self._side), max_per_micrograph)
            ids = np.zeros((len(corners), self.id_width), dtype=np.int64)
            ids[:, 0] = number
            ids[:, 1:3] = corners
            found.append(ids)
        return np.concatenate(found)

    def _draw_micrographs(self, n_crops: int, rng: np.random.Generator) -> np.ndarray:
        chosen = self.candidates[rng.integers(len(self.candidates), size=n_crops)]
        bad = np.array([not self._is_usable(number) for number in chosen.tolist()], dtype=bool)
        if bad.any() and not any(self._is_usable(number) for number in self.candidates.tolist()):
            raise self._all_bad()
        while bad.any():
            chosen[bad] = self.candidates[rng.integers(len(self.candidates), size=int(bad.sum()))]
            bad = np.array([not self._is_usable(number) for number in chosen.tolist()], dtype=bool)
        return chosen

    def _is_usable(self, number: int) -> bool:
        return not self.dataset.skip_bad or self.dataset.is_readable(number)

    def _all_bad(self) -> MicrographError:
        found = f"no readable micrograph among {len(self.candidates)} ({self.dataset.skipped[-1]})"
        return MicrographError(self.dataset.root, found, "at least one micrograph")

    def _plain_crops(self, ids: np.ndarray) -> np.ndarray:
        """Cut, average and normalise, leaving the symmetries aside."""
        raw = np.empty((len(ids), self.crop_size, self.crop_size), dtype=np.float32)
        for place, (number, row, column) in enumerate(ids[:, :3].tolist()):
            square = self.dataset.window(number, row, column, self._side)
            raw[place] = square if self.downsample == 1 else area_downsample(square, self.downsample)
        crops = normalise_crops(raw)
        for place in np.flatnonzero(~crops.any(axis=(1, 2))).tolist():
            if np.isfinite(raw[place]).any():
                factor = _magnification(self.dataset[ids[place, 0]])
                crops[place] = normalise_crops(raw[place] * np.float32(factor))
        return crops


def materialise(source: CropSource, n_crops: int, rng: np.random.Generator) -> ArrayCrops:
    """Draw crops once and keep them in memory, for when many thousands a second are needed.

    Args:
        source: What to draw from.
        n_crops: How many, at least 1.
        rng: Source of randomness.

    Returns:
        The bank of ``n_crops`` crops, in the order drawn.

    Raises:
        ValueError: If ``n_crops`` is below 1.
        MicrographError: If a micrograph of the source turns out bad.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> len(materialise(ArrayCrops(rng.random((4, 8, 8))), 10, rng))
        10
    """
    if n_crops < 1:
        raise SettingError(f"n_crops: got {n_crops!r}; expected at least 1")
    ids = source.draw(n_crops, rng)
    bank = np.empty((n_crops, source.crop_size, source.crop_size), dtype=np.float32)
    by_first = np.argsort(ids[:, 0], kind="stable")
    for start in range(0, n_crops, _TAKEN_AT_ONCE):
        chunk = by_first[start : start + _TAKEN_AT_ONCE]
        bank[chunk] = source.take(ids[chunk])
    return ArrayCrops(bank, normalise=False)


def _checked_ids(ids: np.ndarray, id_width: int) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.ndim != 2 or ids.shape[1] != id_width or ids.dtype.kind not in "iu":
        raise ValueError(f"ids: got {ids.dtype} of shape {ids.shape}; expected integers of shape (n, {id_width})")
    return ids


def _magnification(picture: np.ndarray) -> float:
    """Factor that brings a picture in very small units (a current in ampere) to a range of 1.

    The least range of a crop is absolute, so such a picture would pass for uniform. A picture that varies by less than
    a thousandth of its values is uniform up to rounding and stays as it is.
    """
    finite = picture[np.isfinite(picture)]
    span = float(np.ptp(finite))
    is_small_unit = span < UNIFORM_RANGE and span > 1e-3 * float(np.abs(finite).max())
    return 1.0 / span if is_small_unit else 1.0


def _grid_corners(shape: np.ndarray, side: int) -> np.ndarray:
    """Corners of the squares of a grid from edge to edge, shape (n, 2)."""
    rows, columns = (
        np.linspace(0, length - side, length // side).astype(np.int64)
        if length >= 2 * side
        else np.array([(length - side) // 2])
        for length in shape.tolist()
    )
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


def _spread(corners: np.ndarray, n_wanted: int | None) -> np.ndarray:
    """Choose corners that lie far from each other, by farthest-point selection, in their old order."""
    if n_wanted is None or n_wanted >= len(corners):
        return corners
    distances = np.linalg.norm(corners - corners.mean(axis=0), axis=1)
    chosen = [int(distances.argmin())]
    nearest = np.linalg.norm(corners - corners[chosen[0]], axis=1)
    while len(chosen) < n_wanted:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(corners - corners[chosen[-1]], axis=1))
    return corners[sorted(chosen)]
