"""Static scans of separate points: uniform grid, Halton points, uniformly random pixels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from adaptive_scan.errors import SettingError
from adaptive_scan.scans._polylines import cell_centres, check_scan, inside

# Beyond this ratio of sides a whole grid is less even than rows of slightly different counts.
_MOST_OBLONG = 1.25


def uniform_grid(n_positions: int, image_size: int) -> NDArray[np.float32]:
    """Positions on the centred grid nearest to a square one that has exactly ``n_positions`` points.

    Row i of n lies at ``(i + 1/2) S / n - 1/2``, and so do the points of each row. A dose that is no product
    of two numbers close to its root is spread over ``round(sqrt(n_positions))`` rows whose counts differ by one at
    most.

    Args:
        n_positions: Number of positions, at most the number of pixels.
        image_size: Side S of the square field [px].

    Returns:
        Positions [px] as (row, column), float32, shape (n_positions, 2).

    Raises:
        ValueError: If the dose or the field is not positive, or the dose exceeds the number of pixels.

    Example:
        >>> uniform_grid(4, 8).tolist()
        [[1.5, 1.5], [1.5, 5.5], [5.5, 1.5], [5.5, 5.5]]
    """
    _check_pixels(n_positions, image_size)
    n_rows = _whole_rows(n_positions)
    if n_rows is None or max(n_rows, n_positions // n_rows) > image_size:
        n_rows = round(math.sqrt(n_positions))
    # Rounding the running total spreads the longer rows evenly over the field.
    totals = np.floor(np.arange(n_rows + 1) * n_positions / n_rows + 0.5).astype(int)
    rows = cell_centres(n_rows, image_size)
    counts = np.diff(totals)
    columns = np.concatenate([cell_centres(count, image_size) for count in counts])
    return inside(np.stack((np.repeat(rows, counts), columns), axis=1), image_size)


def halton_points(n_positions: int, image_size: int, rng: np.random.Generator | None = None) -> NDArray[np.float32]:
    """Positions at the first points of the Halton sequence of bases 2 and 3, a low-discrepancy set.

    A point u of the unit square goes to ``S u - 1/2``, so that every pixel has an equal share of the square.

    Args:
        n_positions: Number of positions.
        image_size: Side S of the square field [px].
        rng: Scrambles the sequence; without it the plain sequence is used, from its second point (1/2, 1/3)
            on.

    Returns:
        Positions [px] as (row, column), float32, shape (n_positions, 2).

    Raises:
        ValueError: If the dose or the field is not positive.

    Example:
        >>> halton_points(2, 12).tolist()
        [[5.5, 3.5], [2.5, 7.5]]
    """
    check_scan(n_positions, image_size)
    from scipy.stats import qmc  # half a second, which command lines need not wait for

    sequence = qmc.Halton(2, scramble=rng is not None, seed=rng)
    if rng is None:
        sequence.fast_forward(1)
    return inside(sequence.random(n_positions) * image_size - 0.5, image_size)


def random_points(n_positions: int, image_size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Positions at distinct pixels drawn uniformly, in the order of a raster.

    Args:
        n_positions: Number of positions, at most the number of pixels.
        image_size: Side S of the square field [px].
        rng: Source of the draw.

    Returns:
        Positions [px] as (row, column), float32, shape (n_positions, 2).

    Raises:
        ValueError: If the dose or the field is not positive, or the dose exceeds the number of pixels.

    Example:
        >>> len(np.unique(random_points(16, 4, np.random.default_rng(0)), axis=0))
        16
    """
    _check_pixels(n_positions, image_size)
    pixels = np.sort(rng.choice(image_size * image_size, size=n_positions, replace=False))
    return np.stack(np.divmod(pixels, image_size), axis=1).astype(np.float32)


def _check_pixels(n_positions: int, image_size: int) -> None:
    check_scan(n_positions, image_size)
    if n_positions > image_size * image_size:
        raise SettingError(
            f"n_positions: got {n_positions}; expected at most {image_size * image_size}, the pixels of the field"
        )


def _whole_rows(n_positions: int) -> int | None:
    """Rows of the squarest whole grid of ``n_positions`` points, or None where every one is too oblong."""
    root = math.isqrt(n_positions)
    return next((n for n in range(root, 0, -1) if n_positions % n == 0 and n_positions <= _MOST_OBLONG * n * n), None)
