"""Progressive scans: nested lattices that double the density pass by pass, and refinements of chosen blocks.

After every pass the whole is an even lattice, so stopping costs nothing; and a block that was refined on its own is
still even inside, which is what completers do best with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptive_scan.errors import SettingError

N_TOUR_ROUNDS = 6


@dataclass(frozen=True)
class NestedLattice:
    """Lattices of pixels that hold one another: square, quincunx, square at half the spacing, and so on.

    Level 2 k is the square lattice of spacing ``coarsest / 2**k``; level 2 k + 1 adds the centres of its squares, the
    quincunx. Level l has the density ``2**l / coarsest**2``, and a pass measures what a level adds to the one before.
    The field is cut into blocks of ``coarsest`` px, those at the far edges as large as the field leaves them; each
    whole block has ``2**l`` positions at level l.

    Args:
        shape: Height and width of the field [px].
        coarsest: Spacing of level 0 and side of a block [px], a power of two.
        n_levels: Number of levels; by default the last one holds every second pixel in rows and columns.

    Raises:
        SettingError: If a setting is not usable.

    Example:
        >>> lattice = NestedLattice((64, 128))
        >>> [lattice.n_positions(level) for level in range(5)]
        [32, 64, 128, 256, 512]
        >>> lattice.n_blocks
        (4, 8)
    """

    shape: tuple[int, int]
    coarsest: int = 16
    n_levels: int = 7

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 2:
            raise SettingError(f"shape: got {self.shape}; expected (height, width) of at least 2 px")
        if self.coarsest < 2 or self.coarsest & (self.coarsest - 1):
            raise SettingError(f"coarsest: got {self.coarsest}; expected a power of two, at least 2 px")
        most = 2 * int(math.log2(self.coarsest)) + 1
        if not 1 <= self.n_levels <= most:
            raise SettingError(f"n_levels: got {self.n_levels}; expected 1 to {most}, whose spacing is a pixel")

    @property
    def n_blocks(self) -> tuple[int, int]:
        """Blocks along rows and columns."""
        height, width = self.shape
        return -(-height // self.coarsest), -(-width // self.coarsest)

    @cached_property
    def levels(self) -> NDArray[np.int64]:
        """The first level that holds each pixel, ``n_levels`` where none does, shape (height, width)."""
        rows, columns = np.indices(self.shape) - self._origin
        found = np.full(self.shape, self.n_levels, dtype=np.int64)
        for level in reversed(range(self.n_levels)):
            found[_on_lattice(rows, columns, self.coarsest >> (level // 2), quincunx=bool(level % 2))] = level
        return found

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Positions of each block up to each level, shape (n_levels, *n_blocks)."""
        return np.stack([self._by_block(self.levels <= level) for level in range(self.n_levels)])

    def n_positions(self, level: int) -> int:
        """Positions of the whole lattice of a level."""
        return int(self.counts[level].sum())

    def mask(self, levels: ArrayLike) -> NDArray[np.bool_]:
        """Pixels that are measured where each block has reached a level.

        Args:
            levels: Level of each block, -1 for none, shape (..., *n_blocks).

        Returns:
            True where measured, shape (..., height, width).

        Example:
            >>> int(NestedLattice((32, 32)).mask([[2, 2], [2, 4]]).sum())
            28
        """
        height, width = self.shape
        reached = np.asarray(levels)
        if reached.shape[-2:] != self.n_blocks:
            raise ValueError(f"levels: got shape {reached.shape}; expected (..., {', '.join(map(str, self.n_blocks))})")
        spread = reached.repeat(self.coarsest, axis=-2).repeat(self.coarsest, axis=-1)
        measured: NDArray[np.bool_] = self.levels <= spread[..., :height, :width]
        return measured

    def pass_positions(self, level: int) -> NDArray[np.float32]:
        """What a level adds to the one before, row by row, forth and back.

        Args:
            level: The level, 0 to ``n_levels - 1``.

        Returns:
            Positions [px] as (row, column), float32, shape (n_positions, 2).

        Example:
            >>> NestedLattice((32, 32)).pass_positions(0).tolist()
            [[3.0, 3.0], [3.0, 19.0], [19.0, 19.0], [19.0, 3.0]]
        """
        return _forth_and_back(np.argwhere(self.levels == level))

    def positions(self, level: int) -> NDArray[np.float32]:
        """All passes up to a level, one after the other, shape (n_positions, 2)."""
        return np.concatenate([self.pass_positions(each) for each in range(level + 1)])

    def survey(self, level: int) -> NDArray[np.float32]:
        """The whole lattice of a level in one pass, row by row, shape (n_positions, 2)."""
        return _forth_and_back(np.argwhere(self.levels <= level))

    def added(self, levels: ArrayLike, chosen: ArrayLike) -> NDArray[np.int64]:
        """Positions that one further level adds in chosen blocks.

        Args:
            levels: Level of each block, shape ``n_blocks``.
            chosen: Whether each goes one level further, the same shape.

        Returns:
            Pixels as (row, column), shape (n_positions, 2), by row.
        """
        before = np.asarray(levels)
        after = before + np.asarray(chosen, dtype=np.int64)
        return np.argwhere(self.mask(after) & ~self.mask(before))

    @property
    def _origin(self) -> int:
        # A quarter of the coarsest spacing, so that the second square lattice lies even between the edges.
        return max(self.coarsest // 4 - 1, 0)

    def _by_block(self, measured: NDArray[np.bool_]) -> NDArray[np.int64]:
        rows = np.add.reduceat(measured.astype(np.int64), np.arange(0, self.shape[0], self.coarsest), axis=0)
        return np.add.reduceat(rows, np.arange(0, self.shape[1], self.coarsest), axis=1)


def _on_lattice(
    rows: NDArray[np.int64], columns: NDArray[np.int64], spacing: int, *, quincunx: bool
) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (rows % spacing == 0) & (columns % spacing == 0)
    if quincunx:
        half = spacing // 2
        found |= ((rows - half) % spacing == 0) & ((columns - half) % spacing == 0)
    return found


def _forth_and_back(pixels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Pixels row by row, every second row backwards."""
    _, row_number = np.unique(pixels[:, 0], return_inverse=True)
    along = np.where(row_number % 2 == 0, pixels[:, 1], -pixels[:, 1])
    return pixels[np.lexsort((along, row_number))].astype(np.float32)


def progressive_lattice(n_positions: int, image_size: int) -> NDArray[np.float32]:
    """The static progressive scan: whole passes of nested lattices, and an even part of the next.

    Args:
        n_positions: Number of positions, at most the number of pixels.
        image_size: Side of the square field [px].

    Returns:
        Positions [px] as (row, column), float32, shape (n_positions, 2), all different.

    Raises:
        SettingError: If there are more positions than pixels, or a number is not positive.

    Example:
        >>> progressive_lattice(100, 48).shape
        (100, 2)
    """
    if not 1 <= n_positions <= image_size**2:
        raise SettingError(f"n_positions: got {n_positions}; expected 1 to {image_size**2}, the pixels of the field")
    lattice = NestedLattice((image_size, image_size), n_levels=9)
    level = next(each for each in range(lattice.n_levels) if lattice.n_positions(each) >= n_positions)
    before = lattice.survey(level - 1) if level else np.empty((0, 2), np.float32)
    further = lattice.pass_positions(level)
    n_missing = n_positions - len(before)
    even = (np.arange(n_missing) * len(further)) // max(n_missing, 1)
    return np.concatenate([before, further[even]])


@dataclass(frozen=True, eq=False)
class Tour:
    """A contiguous path through positions that were asked for.

    Attributes:
        positions: Probing positions [px] in order, float32, shape (n, 2).
        wanted: Which of them were asked for; the others lie on the way, bool, shape (n,).
    """

    positions: NDArray[np.float32]
    wanted: NDArray[np.bool_]

    @property
    def length(self) -> float:
        """Way from the first position to the last [px]."""
        return float(np.hypot(*np.diff(self.positions.astype(np.float64), axis=0).T).sum())


def tour(positions: ArrayLike, start: ArrayLike, *, largest_step: float | None = None) -> Tour:
    """A short contiguous path through positions, from where the probe is.

    Nearest neighbour first, then exchanges of two edges (2-opt; Croes 1958, doi:10.1287/opre.6.6.791). Where a step
    would be longer than the largest one, positions on the way are measured as well, as a probe that cannot be blanked
    would; without a largest step the beam is blanked between positions, which costs time and no dose.

    Args:
        positions: Positions to visit [px], shape (n, 2).
        start: Where the probe is [px], shape (2,).
        largest_step: Longest step of the probe while it measures [px]; None for blanked moves.

    Returns:
        The path, which does not hold ``start``.

    Raises:
        SettingError: If the largest step is not positive.

    Example:
        >>> path = tour([[0, 9], [0, 3], [0, 6]], [0, 0], largest_step=2.0)
        >>> path.positions[:, 1].tolist()
        [1.5, 3.0, 4.5, 6.0, 7.5, 9.0]
        >>> path.wanted.tolist()
        [False, True, False, True, False, True]
    """
    if largest_step is not None and not 0 < largest_step < math.inf:
        raise SettingError(f"largest_step: got {largest_step}; expected more than 0 px, or None")
    stops = np.ascontiguousarray(positions, dtype=np.float64).reshape(-1, 2)
    from adaptive_scan.scans.tour_kernel import tour_kernel  # numba, which command lines need not wait for

    path = tour_kernel(stops, np.asarray(start, dtype=np.float64), N_TOUR_ROUNDS) if len(stops) else stops
    wanted = np.ones(len(path), dtype=np.bool_)
    if largest_step is not None:
        path, wanted = _with_steps(np.asarray(start, dtype=np.float64), path, largest_step)
    return Tour(path.astype(np.float32), wanted)


def _with_steps(
    start: NDArray[np.float64], path: NDArray[np.float64], largest_step: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A path with positions between those farther apart than the largest step."""
    moves = np.diff(np.concatenate([start[None], path]), axis=0)
    n_steps = np.maximum(np.ceil(np.hypot(*moves.T) / largest_step - 1e-9).astype(np.int64), 1)
    ends = np.cumsum(n_steps)
    back = np.arange(1, int(n_steps.sum()) + 1) - np.repeat(ends, n_steps)
    points = np.repeat(path, n_steps, axis=0) + np.repeat(moves / n_steps[:, None], n_steps, axis=0) * back[:, None]
    return points, back == 0
