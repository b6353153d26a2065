"""Resampling of uniform grids: bilinear, bicubic, Lanczos and area, with every value where it was measured.

A grid is completed along its rows and then across them, each time by a matrix from the values at the knots to the
values at all pixels. Image libraries take each value for that of a cell and resample between the cells' centres; on a
grid of single pixels s px apart that would shift the picture by (s - 1) / 2 px. The matrices here take the knots where
they are, also where they are uneven because each was measured at its nearest pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicHermiteSpline, make_interp_spline
from torch import Tensor

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.by_mask import complete_by_mask

_LANCZOS_LOBES = 3


def nearest_weights(knots: np.ndarray, size: int) -> np.ndarray:
    """Every pixel takes the value of the nearest knot, of two at the same distance that of the first.

    Args:
        knots: Where the values are [px], increasing, shape (n,).
        size: Number of pixels, which lie at 0, 1, ..., size - 1.

    Returns:
        Weights, float64, shape (size, n); the values at the pixels are their product with the values at the knots.

    Example:
        >>> nearest_weights(np.array([0, 3]), 4)[:, 1].tolist()
        [0.0, 0.0, 1.0, 1.0]
    """
    distances = np.abs(np.arange(size)[:, None] - np.asarray(knots, dtype=np.float64))
    result: np.ndarray = np.eye(len(knots))[distances.argmin(axis=1)]
    return result


def area_weights(knots: np.ndarray, size: int) -> np.ndarray:
    """Every pixel takes the mean, over its width of 1 px, of the value of the nearest knot.

    It differs from the nearest knot only where a pixel lies midway between two.

    Args:
        knots: As in :func:`nearest_weights`.
        size: As there.

    Returns:
        As there.

    Example:
        >>> area_weights(np.array([0, 2]), 3)[:, 1].tolist()
        [0.0, 0.5, 1.0]
    """
    knots = np.asarray(knots, dtype=np.float64)
    borders = np.concatenate(([-np.inf], 0.5 * (knots[1:] + knots[:-1]), [np.inf]))
    pixels = np.arange(size)[:, None]
    result: np.ndarray = np.maximum(np.minimum(borders[1:], pixels + 0.5) - np.maximum(borders[:-1], pixels - 0.5), 0.0)
    return result


def bilinear_weights(knots: np.ndarray, size: int) -> np.ndarray:
    """Linear interpolation between knots, the value of the outermost knot beyond it.

    Args:
        knots: As in :func:`nearest_weights`.
        size: As there.

    Returns:
        As there.

    Example:
        >>> bilinear_weights(np.array([0, 4]), 6)[:, 1].tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    if len(knots) == 1:
        return np.ones((size, 1))
    result: np.ndarray = make_interp_spline(knots, np.eye(len(knots)), k=1)(_between(knots, size))
    return result


def bicubic_weights(knots: np.ndarray, size: int) -> np.ndarray:
    """Cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711, a = -1/2), the outermost value beyond the knots.

    Between two knots it is the cubic with the slopes of the parabolas through each knot and its two neighbours, at the
    outermost knots the slope of the line to their neighbour. At even knots that is Keys's kernel; at uneven ones it
    still reproduces lines everywhere and parabolas inside.

    Args:
        knots: As in :func:`nearest_weights`.
        size: As there.

    Returns:
        As there.

    Example:
        >>> bicubic_weights(np.array([0, 2, 4, 6]), 7)[3].tolist()
        [-0.0625, 0.5625, 0.5625, -0.0625]
    """
    if len(knots) == 1:
        return np.ones((size, 1))
    gaps = np.diff(knots)[:, None].astype(np.float64)
    lines = np.diff(np.eye(len(knots)), axis=0) / gaps
    parabolas = (gaps[1:] * lines[:-1] + gaps[:-1] * lines[1:]) / (gaps[1:] + gaps[:-1])
    slopes = np.concatenate((lines[:1], parabolas, lines[-1:]))
    result: np.ndarray = CubicHermiteSpline(knots, np.eye(len(knots)), slopes)(_between(knots, size))
    return result


def lanczos_weights(knots: np.ndarray, size: int) -> np.ndarray:
    """The sinc function windowed by its own central lobe, ``sinc(t) sinc(t / 3)``, scaled to a sum of 1.

    ``t`` counts knots, evenly between neighbours (Duchon 1979, doi:10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2, for
    the window). Knots beyond the edge are left out of the sum, and pixels beyond the outermost knot take its value.
    Lines come out wavy by up to a fiftieth of their rise between knots.

    Args:
        knots: As in :func:`nearest_weights`.
        size: As there.

    Returns:
        As there.

    Example:
        >>> lanczos_weights(np.arange(0, 12, 2), 11)[5].round(3).tolist()
        [0.024, -0.136, 0.611, 0.611, -0.136, 0.024]
    """
    places = np.interp(np.arange(size), knots, np.arange(len(knots)))
    offsets = places[:, None] - np.arange(len(knots))
    weights = np.sinc(offsets) * np.sinc(offsets / _LANCZOS_LOBES) * (np.abs(offsets) < _LANCZOS_LOBES)
    result: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return result


def _between(knots: np.ndarray, size: int) -> np.ndarray:
    return np.clip(np.arange(size, dtype=np.float64), knots[0], knots[-1])


GRID_WEIGHTS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "nearest": nearest_weights,
    "area": area_weights,
    "bilinear": bilinear_weights,
    "bicubic": bicubic_weights,
    "lanczos": lanczos_weights,
}
"""From knots and number of pixels to weights, by the name of the method."""


@dataclass(frozen=True)
class Grid:
    """Measured pixels in rows at even distances, with columns at even distances in each row.

    Attributes:
        rows: The rows [px], increasing, shape (n_rows,).
        columns: The columns of each row [px], increasing. Rows differ in number by one at most.

    Example:
        >>> grid = Grid(np.array([0, 2]), [np.array([1, 4]), np.array([1, 4])])
        >>> len(grid.columns)
        2
    """

    rows: np.ndarray
    columns: list[np.ndarray]


def find_grid(mask: np.ndarray) -> Grid:
    """The grid that a mask's measured pixels form.

    Distances may differ by 1 px, as they do where the positions of an even grid are measured at their nearest pixels;
    so may the numbers of pixels in the rows, as in `adaptive_scan.scans.uniform_grid` for doses that are no product.

    Args:
        mask: Where a pixel was measured, bool, shape (S, S), not empty.

    Returns:
        Its rows and columns.

    Raises:
        ValueError: If the pixels form no such grid.

    Example:
        >>> mask = np.zeros((8, 8), bool)
        >>> mask[1::3, ::2] = True
        >>> find_grid(mask).rows.tolist()
        [1, 4, 7]
    """
    rows = np.flatnonzero(mask.any(axis=1))
    columns = [np.flatnonzero(mask[row]) for row in rows]
    counts = [len(some) for some in columns]
    found = None
    if not _is_even(rows):
        found = f"{len(rows)} rows that are {_range_text(np.diff(rows))} px apart"
    elif max(counts) - min(counts) > 1:
        found = f"rows of {min(counts)} to {max(counts)} pixels"
    elif len({tuple(some.tolist()) for some in columns}) > len(set(counts)):
        found = "rows of the same number of pixels in different columns"
    else:
        uneven = next((number for number, some in enumerate(columns) if not _is_even(some)), None)
        if uneven is not None:
            found = f"pixels that are {_range_text(np.diff(columns[uneven]))} px apart in row {rows[uneven]}"
    if found is not None:
        raise SettingError(
            f"mask: got one of {int(mask.sum())} pixels with {found}; expected a grid, even to 1 px in rows and columns"
        )
    return Grid(rows, columns)


def _is_even(places: np.ndarray) -> bool:
    return len(places) < 3 or int(np.ptp(np.diff(places))) <= 1


def _range_text(gaps: np.ndarray) -> str:
    return f"{gaps.min()} to {gaps.max()}"


class GridCompleter:
    """Resampling of uniform grids by a method of ``GRID_WEIGHTS``; all keep the measured values.

    Computed on the CPU in float64, without gradients. Columns may hold different numbers of pixels instead of rows: a
    grid like that is completed lying down. Without three measured pixels off one line, the nearest one is taken.

    Args:
        method: A key of ``GRID_WEIGHTS``.

    Raises:
        ValueError: If there is no method of that name; when called, if the measured pixels of a scan form no grid.

    Example:
        >>> import torch
        >>> partial_scans = torch.zeros(1, 2, 5, 5)
        >>> partial_scans[0, 1, ::2, ::2] = 1.0
        >>> partial_scans[0, 0, ::2, ::2] = torch.tensor([0.0, 0.2, 0.4])
        >>> GridCompleter("bicubic")(partial_scans)[0, 0, 1]
        tensor([0.0000, 0.1000, 0.2000, 0.3000, 0.4000])
    """

    def __init__(self, method: str) -> None:
        if method not in GRID_WEIGHTS:
            raise SettingError(f"grid method: got {method!r}; expected one of {', '.join(GRID_WEIGHTS)}")
        self.method = method

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        return complete_by_mask(partial_scans, self._complete)

    def _complete(self, mask: np.ndarray, values: np.ndarray) -> np.ndarray:
        try:
            pictures = self._resample(find_grid(mask), values)
        except ValueError:
            try:
                lying = find_grid(mask.T)
            except ValueError:
                lying = None
            if lying is None:
                raise
            pictures = self._resample(lying, values.swapaxes(1, 2)).swapaxes(1, 2)
        return np.where(mask, values, pictures)

    def _resample(self, grid: Grid, values: np.ndarray) -> np.ndarray:
        """Along the rows, those with the same columns together, and then across them."""
        weights, (height, width) = GRID_WEIGHTS[self.method], values.shape[-2:]
        in_rows = np.empty((len(values), len(grid.rows), width))
        for columns in {len(some): some for some in grid.columns}.values():
            same = np.array([len(some) == len(columns) for some in grid.columns])
            known = values[:, grid.rows[same][:, None], columns].astype(np.float64)
            in_rows[:, same] = known @ weights(columns, width).T
        return (weights(grid.rows, height) @ in_rows).astype(np.float32)
