"""Mixtures of scan families: the probing positions that a completer is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from adaptive_scan.scans import STATIC_SCANS, ScanGeometry, filling_path, polygonal_spiral, static_scan

GEOMETRY_SCANS = ("polygonal_spiral", "filling_path", "random_headings")
_N_GENTLE_TURNS = 4
_N_SHARP_TURNS = 6
_MEAN_CURVATURE = 1.25  # standard deviation of a scan's curvature, in units of 1 / S
_LARGEST_NOISE = 1.85  # heading noise over a path of length S [rad]; per segment it adds up as a random walk


def known_families() -> tuple[str, ...]:
    """Names of all scan families that ``draw_positions`` knows.

    Example:
        >>> "random_headings" in known_families()
        True
    """
    return (*GEOMETRY_SCANS, *STATIC_SCANS)


def check_families(families: Sequence[str]) -> None:
    """Raise a ValueError unless there is a family and every one of them is known.

    Example:
        >>> check_families(["spiral", "random_headings"])
    """
    unknown = [name for name in families if name not in known_families()]
    if unknown or not families:
        found = repr(unknown[0]) if unknown else "nothing"
        raise ValueError(f"scans holds {found}; expected some of {', '.join(known_families())}")


def random_spacings(geometry: ScanGeometry, n_scans: int, rng: np.random.Generator) -> np.ndarray | None:
    """Spacings drawn log-uniformly within the bounds, one per segment; the first is ``first_spacing``.

    Args:
        geometry: Geometry of the scans.
        n_scans: Number of scans N.
        rng: Source of the spacings.

    Returns:
        Spacings [px], float64, shape (n_scans, n_segments), or None where the spacing is fixed.

    Example:
        >>> random_spacings(ScanGeometry(48, 10, 10, spacing=1.0), 3, np.random.default_rng(0)) is None
        True
    """
    if not geometry.has_free_spacing:
        return None
    low, high = geometry.spacing_bounds
    spacings = low * (high / low) ** rng.uniform(size=(n_scans, geometry.n_segments))
    spacings[:, 0] = geometry.first_spacing
    return spacings


def random_headings(
    geometry: ScanGeometry, n_scans: int, rng: np.random.Generator, spacings: np.ndarray | None = None
) -> np.ndarray:
    """Headings of scans that wander through the field, as an exploring actor's do.

    The heading turns by a drift and noise, h' = h + a + s e with e standard normal. Drift a and noise s are drawn
    once per scan, so that some scans spiral and others zigzag. Of several turns tried,
    the first that keeps the next segment inside the field is taken, or else the one that leaves it least; the last
    few tried are as sharp as it takes.

    Args:
        geometry: Geometry of the scans; the first heading is its own.
        n_scans: Number of scans N.
        rng: Source of the headings.
        spacings: Spacing of each segment [px], shape (n_scans, n_segments); ``first_spacing`` when None.

    Returns:
        Headings [rad], float64, shape (n_scans, n_segments).

    Example:
        >>> random_headings(ScanGeometry(48, 10, 10), 3, np.random.default_rng(0)).shape
        (3, 10)
    """
    if spacings is None:
        spacings = np.full((n_scans, geometry.n_segments), geometry.first_spacing)
    length = geometry.n_positions * geometry.first_spacing / geometry.image_size
    drift = rng.normal(0.0, _MEAN_CURVATURE * length, size=(n_scans, 1))
    noise = np.sqrt(length) * _LARGEST_NOISE * 10.0 ** rng.uniform(-1.0, 0.0, size=(n_scans, 1))
    noise = np.concatenate(
        (np.repeat(noise, _N_GENTLE_TURNS, axis=1), np.full((n_scans, _N_SHARP_TURNS), np.pi)), axis=1
    )
    headings = np.full((n_scans, geometry.n_segments), geometry.first_heading)
    position = np.tile(geometry.start_position.astype(np.float64), (n_scans, 1))
    for segment in range(1, geometry.n_segments):
        position += _steps(headings[:, segment - 1], geometry.n_positions * spacings[:, segment - 1])
        turns = drift + noise * rng.normal(size=noise.shape)
        candidates = headings[:, segment - 1, None] + turns
        ends = position[:, None] + _steps(candidates, geometry.n_positions * spacings[:, segment, None])
        outside = np.maximum(-ends, ends - (geometry.image_size - 1)).clip(min=0.0).sum(axis=-1)
        headings[:, segment] = candidates[np.arange(n_scans), outside.argmin(axis=1)]
    return headings


def _steps(headings: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Vectors (row, column) of given headings [rad] and lengths [px], shape (..., 2)."""
    return lengths[..., None] * np.stack((np.cos(headings), np.sin(headings)), axis=-1)


def family_positions(family: str, geometry: ScanGeometry, n_scans: int, rng: np.random.Generator) -> np.ndarray:
    """Probing positions of scans of one family, at the dose and field of a geometry.

    Args:
        family: A name of ``STATIC_SCANS``, "polygonal_spiral", "filling_path" or "random_headings".
        geometry: Geometry whose ``dose`` and ``image_size`` a static scan takes, and whose segments the others follow.
        n_scans: Number of scans N; scans of a family without randomness are equal.
        rng: Source of the random families.

    Returns:
        Positions [px] as (row, column), float32, shape (n_scans, dose, 2).

    Example:
        >>> family_positions("random_headings", ScanGeometry(48, 10, 10), 3, np.random.default_rng(0)).shape
        (3, 100, 2)
    """
    shape = (n_scans, geometry.dose, 2)
    if family == "random_headings":
        spacings = random_spacings(geometry, n_scans, rng)
        return geometry.path(random_headings(geometry, n_scans, rng, spacings), spacings).reshape(shape)
    if family == "polygonal_spiral":
        return np.broadcast_to(_polygonal_positions(geometry), shape)
    if family == "filling_path":
        return np.broadcast_to(_filling_positions(geometry), shape)
    if not STATIC_SCANS[family].random:
        return np.broadcast_to(static_scan(family, geometry.dose, geometry.image_size), shape)
    return np.stack([static_scan(family, geometry.dose, geometry.image_size, rng) for _ in range(n_scans)])


@lru_cache(maxsize=64)
def _polygonal_positions(geometry: ScanGeometry) -> np.ndarray:
    return geometry.path(polygonal_spiral(geometry)[None]).reshape(geometry.dose, 2)


@lru_cache(maxsize=64)
def _filling_positions(geometry: ScanGeometry) -> np.ndarray:
    headings, spacings = filling_path(geometry)
    return geometry.path(headings[None], spacings[None]).reshape(geometry.dose, 2)


def draw_positions(
    families: Sequence[str], geometry: ScanGeometry, n_scans: int, rng: np.random.Generator
) -> np.ndarray:
    """Probing positions of scans whose families are drawn at random, all equally likely.

    Args:
        families: Names of families; a name given twice is drawn twice as often.
        geometry: Geometry of the scans.
        n_scans: Number of scans N.
        rng: Source of the families and of the scans.

    Returns:
        Positions [px] as (row, column), float32, shape (n_scans, dose, 2).

    Raises:
        ValueError: If a family is unknown.

    Example:
        >>> families = ["spiral", "random"]
        >>> draw_positions(families, ScanGeometry(48, 10, 10), 4, np.random.default_rng(0)).shape
        (4, 100, 2)
    """
    check_families(families)
    choice = rng.integers(len(families), size=n_scans)
    positions = np.empty((n_scans, geometry.dose, 2), dtype=np.float32)
    for index, family in enumerate(families):
        chosen = choice == index
        if chosen.any():
            positions[chosen] = family_positions(family, geometry, int(chosen.sum()), rng)
    return positions
