"""The static scan families by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from adaptive_scan.errors import SettingError
from adaptive_scan.scans._polylines import DEFAULT_SPACING, check_scan
from adaptive_scan.scans.lines import jittered_gridlike, lissajous, random_walk, serpentine_raster
from adaptive_scan.scans.points import halton_points, random_points, uniform_grid
from adaptive_scan.scans.progressive import progressive_lattice
from adaptive_scan.scans.spirals import archimedean_spiral, square_spiral


@dataclass(frozen=True)
class StaticScan:
    """A family of scans that do not look at the specimen.

    Args:
        name: Its name in ``STATIC_SCANS``.
        function: ``function(n_positions, image_size)`` or, where random, ``function(n_positions, image_size, rng)``;
            returns positions [px], float32, shape (n_positions, 2), all inside the field.
        contiguous: Whether the probe measures along lines, as a beam that is scanned, and not at separate
            points.
        random: Whether each call draws another scan.
    """

    name: str
    function: Callable[..., NDArray[np.float32]]
    contiguous: bool
    random: bool


def _even_spacing(n_positions: int, image_size: int) -> float:
    """Spacing at which neighbouring positions are as far apart as neighbouring turns or lines [px]."""
    result: float = max(image_size / n_positions**0.5, DEFAULT_SPACING)
    return result


def wide_spiral(n_positions: int, image_size: int) -> NDArray[np.float32]:
    """Archimedean spiral whose positions lie as far apart along it as its turns do.

    Most micrographs are oversampled, so that positions close together along a path waste dose; this is the spiral
    that spreads the dose evenly in both directions.

    Args:
        n_positions: Number of positions, all inside the field.
        image_size: Side S of the square field [px].

    Returns:
        Positions [px] as (row, column), float32, shape (n_positions, 2).

    Raises:
        ValueError: If the dose or the field is not positive.

    Example:
        >>> wide_spiral(100, 48).shape
        (100, 2)
    """
    check_scan(n_positions, image_size, DEFAULT_SPACING)
    return archimedean_spiral(n_positions, image_size, spacing=_even_spacing(n_positions, image_size))


def wide_raster(n_positions: int, image_size: int) -> NDArray[np.float32]:
    """Serpentine raster whose positions lie as far apart along its lines as the lines do; see `wide_spiral`.

    Args:
        n_positions: Number of positions, all inside the field.
        image_size: Side S of the square field [px].

    Returns:
        Positions [px] as (row, column), float32, shape (n_positions, 2).

    Raises:
        ValueError: If the dose or the field is not positive.

    Example:
        >>> wide_raster(100, 48).shape
        (100, 2)
    """
    check_scan(n_positions, image_size, DEFAULT_SPACING)
    return serpentine_raster(n_positions, image_size, spacing=_even_spacing(n_positions, image_size))


STATIC_SCANS: dict[str, StaticScan] = {
    scan.name: scan
    for scan in (
        StaticScan("spiral", archimedean_spiral, contiguous=True, random=False),
        StaticScan("square_spiral", square_spiral, contiguous=True, random=False),
        StaticScan("raster", serpentine_raster, contiguous=True, random=False),
        StaticScan("wide_spiral", wide_spiral, contiguous=True, random=False),
        StaticScan("wide_raster", wide_raster, contiguous=True, random=False),
        StaticScan("gridlike", jittered_gridlike, contiguous=True, random=True),
        StaticScan("grid", uniform_grid, contiguous=False, random=False),
        StaticScan("halton", halton_points, contiguous=False, random=False),
        StaticScan("progressive", progressive_lattice, contiguous=False, random=False),
        StaticScan("random", random_points, contiguous=False, random=True),
        StaticScan("lissajous", lissajous, contiguous=True, random=False),
        StaticScan("random_walk", random_walk, contiguous=True, random=True),
    )
}
"""The static scan families by name."""


def static_scan(
    name: str, n_positions: int, image_size: int, rng: np.random.Generator | None = None
) -> NDArray[np.float32]:
    """Positions of a static scan by the name of its family; those of the families without randomness are cached.

    Args:
        name: One of ``STATIC_SCANS``.
        n_positions: Number of positions.
        image_size: Side S of the square field [px].
        rng: Source of randomness; needed by the random families, not used by the others.

    Returns:
        Positions [px] as (row, column), float32, shape (n_positions, 2), all inside the field, a fresh array.

    Raises:
        ValueError: If the name is unknown, a random family gets no ``rng``, or the family refuses the dose or
            the field.

    Example:
        >>> static_scan("grid", 4, 8)[0].tolist()
        [1.5, 1.5]
    """
    if name not in STATIC_SCANS:
        raise SettingError(f"static scan: got {name!r}; expected one of {sorted(STATIC_SCANS)}")
    scan = STATIC_SCANS[name]
    check_scan(n_positions, image_size)
    if not scan.random:
        return _cached_positions(scan, n_positions, image_size).copy()
    if rng is None:
        raise SettingError(f"rng: got None for the random static scan {name!r}; expected a numpy Generator")
    return scan.function(n_positions, image_size, rng)


@lru_cache(maxsize=64)
def _cached_positions(scan: StaticScan, n_positions: int, image_size: int) -> NDArray[np.float32]:
    return scan.function(n_positions, image_size)
