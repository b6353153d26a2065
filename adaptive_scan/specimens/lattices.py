"""Crystals seen along a zone axis: two-dimensional lattices of atomic columns.

A column is a Gaussian spot. A crystal is a lattice (two vectors and an origin), a motif of up to two columns
per cell, and a map of its thickness, which is 0 where the crystal is not: single crystals, grains, embedded
phases, free edges and particles differ in nothing but that map.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from adaptive_scan.specimens.family import feature_sizes, log_uniform
from adaptive_scan.specimens.films import amorphous_films, smooth_fields
from adaptive_scan.specimens.grains import bending_warps, voronoi

SYMMETRIES = ("oblique", "rectangular", "centred", "square", "hexagonal")
"""The five plane lattices, in the order of the codes that :func:`lattice_vectors` takes."""

_REACH = 4.0  # a spot is cut at this many standard deviations, where it has fallen to 3e-4
_SUBSTITUTE = 1.6
_MAX_REGIONS = 3


class Crystals(NamedTuple):
    """K crystals.

    Attributes:
        vectors: Lattice vectors a1 and a2, each (row, column) [px], float64, shape (K, 2, 2).
        origins: Position (row, column) [px] of one lattice point, float64, shape (K, 2).
        motifs: Positions of the columns in units of a1 and a2, float64, shape (K, 2, 2).
        heights: Peak of each column at thickness 1, float64, shape (K, 2); 0 leaves the column out.
        widths: Standard deviation of a column [px], float64, shape (K,).
        vacancies: Probability that a column is missing, float64, shape (K,).
        substitutions: Probability that a column is 1.6 times as bright, float64, shape (K,).
        displacements: Standard deviation of random displacements [px], float64, shape (K,).
    """

    vectors: np.ndarray
    origins: np.ndarray
    motifs: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    vacancies: np.ndarray
    substitutions: np.ndarray
    displacements: np.ndarray


def lattice_vectors(symmetries: np.ndarray, areas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lattice vectors of given symmetries and cell areas, randomly rotated.

    Oblique cells have angles of 65 to 85 degrees and side ratios of 1.1 to 1.5, rectangular ones ratios of 1.15
    to 1.8; centred ones are rhombic with angles of 66 to 84 degrees.

    Args:
        symmetries: Indices into ``SYMMETRIES``, shape (K,).
        areas: Areas of the primitive cells [px^2], shape (K,).
        rng: Source of randomness.

    Returns:
        Vectors a1, a2 as (row, column) [px], float64, shape (K, 2, 2).

    Example:
        >>> vectors = lattice_vectors(np.array([3]), np.array([25.0]), np.random.default_rng(0))
        >>> np.round(np.linalg.norm(vectors[0], axis=1), 6).tolist()
        [5.0, 5.0]
    """
    n_crystals = len(symmetries)
    right, free = np.full(n_crystals, np.pi / 2), rng.uniform(size=(2, n_crystals))
    ratios = np.choose(symmetries, [1.1 + 0.4 * free[0], 1.15 + 0.65 * free[0], 1.0, 1.0, 1.0])
    angles = np.choose(
        symmetries,
        [np.deg2rad(65 + 20 * free[1]), right, np.deg2rad(66 + 18 * free[1]), right, np.pi / 3],
    )
    shorter = np.sqrt(areas / (ratios * np.sin(angles)))
    rotations = rng.uniform(0.0, 2.0 * np.pi, n_crystals)
    first = np.stack([np.cos(rotations), np.sin(rotations)], axis=-1)
    second = np.stack([np.cos(rotations + angles), np.sin(rotations + angles)], axis=-1)
    return np.stack([shorter[:, None] * first, (shorter * ratios)[:, None] * second], axis=1)


def random_crystals(spacings: np.ndarray, crop_size: int, rng: np.random.Generator) -> Crystals:
    """Crystals of all symmetries with one or two columns per cell.

    The second column sits at the centre of the cell, at the hexagonal third, or beside the first (a dumbbell),
    and is 0.25 to 1 times as bright.

    Args:
        spacings: Square root of the area per column of each crystal [px], shape (K,).
        crop_size: Side S of the field the origins are spread over [px].
        rng: Source of randomness.

    Returns:
        K crystals.

    Example:
        >>> random_crystals(np.array([6.0, 9.0]), 96, np.random.default_rng(0)).widths.shape
        (2,)
    """
    n_crystals = len(spacings)
    symmetries = rng.integers(len(SYMMETRIES), size=n_crystals)
    is_binary = rng.uniform(size=n_crystals) < 0.5
    vectors = lattice_vectors(symmetries, spacings**2 * np.where(is_binary, 2.0, 1.0), rng)
    places = np.where((symmetries == 4)[:, None], 1.0 / 3.0, 0.5) * np.ones((n_crystals, 2))
    is_dumbbell = rng.uniform(size=n_crystals) < 0.3
    places[is_dumbbell] = rng.uniform(0.22, 0.34, (n_crystals, 1))[is_dumbbell] * np.array([1.0, 0.0])
    heights = np.ones((n_crystals, 2))
    heights[:, 1] = np.where(is_binary, rng.uniform(0.25, 1.0, n_crystals), 0.0)
    return Crystals(
        vectors=vectors,
        origins=rng.uniform(0.0, crop_size, (n_crystals, 2)),
        motifs=np.stack([np.zeros((n_crystals, 2)), places], axis=1),
        heights=heights,
        widths=np.maximum(spacings * rng.uniform(0.18, 0.36, n_crystals), 0.6),
        vacancies=rng.uniform(0.0, 0.1, n_crystals) * (rng.uniform(size=n_crystals) < 0.4),
        substitutions=rng.uniform(0.0, 0.12, n_crystals) * (rng.uniform(size=n_crystals) < 0.3),
        displacements=spacings * rng.uniform(0.0, 0.05, n_crystals),
    )


@numba.njit(cache=True)
def _add_spot(picture: np.ndarray, row: float, column: float, width: float, height: float, profile: np.ndarray) -> None:
    size = picture.shape[0]
    reach = _REACH * width
    top, bottom = max(0, int(np.ceil(row - reach))), min(size - 1, int(np.floor(row + reach)))
    left, right = max(0, int(np.ceil(column - reach))), min(size - 1, int(np.floor(column + reach)))
    scale = -0.5 / (width * width)
    for c in range(left, right + 1):
        profile[c] = np.exp(scale * (c - column) ** 2)
    for r in range(top, bottom + 1):
        factor = np.float32(height * np.exp(scale * (r - row) ** 2))
        for c in range(left, right + 1):
            picture[r, c] += factor * profile[c]


@numba.njit(cache=True)
def _occupied(thickness: np.ndarray) -> tuple[int, int, int, int]:
    size = thickness.shape[0]
    top, bottom, left, right = size, -1, size, -1
    for r in range(size):
        for c in range(size):
            if thickness[r, c] > 0.0:
                top, bottom = min(top, r), r
                left, right = min(left, c), max(right, c)
    return top, bottom, left, right


@numba.njit(cache=True)
def _cells_within(
    window: tuple[float, float, float, float], vectors: np.ndarray, origin: np.ndarray
) -> tuple[int, int, int, int]:
    (a, b), (c, d) = vectors[0], vectors[1]
    determinant = a * d - b * c
    lows, highs = np.full(2, np.inf), np.full(2, -np.inf)
    for edge in range(4):
        row, column = window[edge // 2] - origin[0], window[2 + edge % 2] - origin[1]
        places = ((row * d - column * c) / determinant, (column * a - row * b) / determinant)
        for axis in range(2):
            lows[axis], highs[axis] = min(lows[axis], places[axis]), max(highs[axis], places[axis])
    # Columns of a motif lie up to one cell beyond their lattice point.
    return int(lows[0]) - 2, int(highs[0]) + 2, int(lows[1]) - 2, int(highs[1]) + 2


@numba.njit(cache=True)
def _add_crystals(
    pictures: np.ndarray,
    owners: np.ndarray,
    thickness: np.ndarray,
    crystals: Crystals,
    rng: np.random.Generator,
) -> None:
    size = pictures.shape[1]
    profile = np.empty(size, np.float32)
    for k in range(len(owners)):
        top, bottom, left, right = _occupied(thickness[k])
        if bottom < 0:
            continue
        reach = _REACH * crystals.widths[k]
        window = (top - reach, bottom + reach, left - reach, right + reach)
        vectors, origin = crystals.vectors[k], crystals.origins[k]
        i_low, i_high, j_low, j_high = _cells_within(window, vectors, origin)
        for i in range(i_low, i_high + 1):
            for j in range(j_low, j_high + 1):
                for column in range(2):
                    height = crystals.heights[k, column]
                    u, v = i + crystals.motifs[k, column, 0], j + crystals.motifs[k, column, 1]
                    r = origin[0] + u * vectors[0, 0] + v * vectors[1, 0]
                    c = origin[1] + u * vectors[0, 1] + v * vectors[1, 1]
                    if height == 0.0 or r < window[0] or r > window[1] or c < window[2] or c > window[3]:
                        continue
                    nearest_row = min(max(int(np.floor(r + 0.5)), 0), size - 1)
                    nearest_column = min(max(int(np.floor(c + 0.5)), 0), size - 1)
                    height *= thickness[k, nearest_row, nearest_column]
                    if height <= 0.0 or rng.random() < crystals.vacancies[k]:
                        continue
                    if rng.random() < crystals.substitutions[k]:
                        height *= _SUBSTITUTE
                    r += crystals.displacements[k] * rng.standard_normal()
                    c += crystals.displacements[k] * rng.standard_normal()
                    _add_spot(pictures[owners[k]], r, c, crystals.widths[k], height, profile)


def add_crystals(
    pictures: np.ndarray,
    owners: np.ndarray,
    thickness: np.ndarray,
    crystals: Crystals,
    rng: np.random.Generator,
) -> None:
    """Add the columns of crystals to pictures, in place.

    A column at ``r_c`` adds ``h t(r_c) exp(-|r - r_c|^2 / (2 w^2))``, cut at 4 w, with the thickness ``t`` of the
    pixel nearest to it (beyond the field, of the nearest pixel inside).

    Args:
        pictures: Pictures to add to, float32, shape (N, S, S).
        owners: Index of the picture that each crystal belongs to, shape (K,).
        thickness: Thickness of each crystal, float32, shape (K, S, S); 0 where it is not.
        crystals: The K crystals.
        rng: Source of vacancies, substitutions and displacements.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> pictures = np.zeros((1, 32, 32), np.float32)
        >>> crystals = random_crystals(np.array([8.0]), 32, rng)
        >>> add_crystals(pictures, np.array([0]), np.ones_like(pictures), crystals, rng)
        >>> bool(pictures.max() > 0.5)
        True
    """
    _add_crystals(pictures, owners, thickness, crystals, rng)


def _region_masks(n_crops: int, crop_size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split each picture into one to three regions: labels (N, S, S) and counts (N,)."""
    counts = rng.choice(_MAX_REGIONS, n_crops, p=[0.5, 0.35, 0.15]) + 1
    seeds = rng.uniform(-0.2 * crop_size, 1.2 * crop_size, (n_crops, _MAX_REGIONS, 2))
    labels, _ = voronoi(seeds, counts, crop_size, warps=bending_warps(n_crops, crop_size, rng))
    return labels, counts


def _related_crystals(n_crops: int, crop_size: int, rng: np.random.Generator) -> Crystals:
    """Crystals of the regions, shape (N * 3, ...): the same phase in new orientations, or another phase."""
    spacings = np.repeat(feature_sizes(n_crops, crop_size, rng), _MAX_REGIONS)
    crystals = random_crystals(spacings, crop_size, rng)
    is_new_phase = np.repeat(rng.uniform(size=n_crops) < 0.4, _MAX_REGIONS)
    indices = np.arange(len(spacings))
    parents = np.where(is_new_phase, indices, indices // _MAX_REGIONS * _MAX_REGIONS)
    related = Crystals(*(field[parents] for field in crystals))
    turns = rng.uniform(0.0, 2.0 * np.pi, len(spacings))
    matrices = np.stack([np.cos(turns), np.sin(turns), -np.sin(turns), np.cos(turns)], axis=-1).reshape(-1, 2, 2)
    return related._replace(vectors=related.vectors @ matrices, origins=crystals.origins)


def lattice(n_crops: int, crop_size: int, rng: np.random.Generator) -> np.ndarray:
    """Crystals that fill the field: single, with grain boundaries, with a second phase or with a free edge.

    Args:
        n_crops: Number of pictures N.
        crop_size: Side S of a picture [px].
        rng: Source of randomness.

    Returns:
        Intensities, float32, shape (N, S, S).

    Example:
        >>> lattice(2, 32, np.random.default_rng(0)).shape
        (2, 32, 32)
    """
    labels, counts = _region_masks(n_crops, crop_size, rng)
    crystals = _related_crystals(n_crops, crop_size, rng)
    strengths = rng.uniform(0.6, 1.0, (n_crops, _MAX_REGIONS))
    has_edge = (rng.uniform(size=n_crops) < 0.4) & (counts > 1)
    strengths[np.flatnonzero(has_edge), counts[has_edge] - 1] = 0.0

    thickness = 1.0 + rng.uniform(0.0, 0.2, (n_crops, 1, 1)).astype(np.float32) * smooth_fields(
        log_uniform(crop_size / 4, 2 * crop_size, n_crops, rng), crop_size, rng
    )
    mass = strengths.astype(np.float32)[np.arange(n_crops)[:, None, None], labels] * np.maximum(thickness, 0.0)
    pictures = amorphous_films(n_crops, crop_size, rng)
    pictures *= rng.uniform(0.0, 0.3, (n_crops, 1, 1)).astype(np.float32)
    # Between columns that are far apart there is little intensity.
    pedestals = rng.uniform(0.0, 1.0, n_crops) * np.minimum(1.0, 2.5 / crystals.widths[::_MAX_REGIONS])
    pictures += pedestals.astype(np.float32)[:, None, None] * mass
    crops, regions = np.nonzero(np.arange(_MAX_REGIONS) < counts[:, None])
    maps = mass[crops] * (labels[crops] == regions[:, None, None])
    used = Crystals(*(field[crops * _MAX_REGIONS + regions] for field in crystals))
    add_crystals(pictures, crops, maps, used, rng)
    return pictures
