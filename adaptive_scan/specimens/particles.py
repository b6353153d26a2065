"""Particles: ellipses and polygons with soft, spherical or flat thickness profiles."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from adaptive_scan.specimens.family import feature_sizes, log_uniform
from adaptive_scan.specimens.films import amorphous_films

GAUSSIAN, SPHERE, FLAT = 0, 1, 2
"""Profiles over the reduced radius: ``exp(-2 rho^2)``, ``sqrt(1 - rho^2)``, and a plateau with a sloping edge."""

_REACH = 2.0  # of a Gaussian profile, in units of its radius: 4 standard deviations
_MAX_FACETS = 8
_N_CLUSTERS = 3


class Particles(NamedTuple):
    """K particles.

    Attributes:
        centres: Positions (row, column) [px], float64, shape (K, 2).
        radii: Semi-axes [px], float64, shape (K, 2).
        angles: Directions of the first semi-axis from +row towards +column [rad], float64, shape (K,).
        n_facets: Number of facets, 3 to 8, or 0 for an ellipse, int64, shape (K,).
        facets: Distances of the facets from the centre in units of the radius, float64, shape (K, 8).
        profiles: GAUSSIAN, SPHERE or FLAT, int64, shape (K,).
        edges: Width of the edge of a flat particle in units of its radius, float64, shape (K,).
        heights: Thickness at the centre, float64, shape (K,).
    """

    centres: np.ndarray
    radii: np.ndarray
    angles: np.ndarray
    n_facets: np.ndarray
    facets: np.ndarray
    profiles: np.ndarray
    edges: np.ndarray
    heights: np.ndarray


@numba.njit(cache=True)
def _reduced_radius(u: float, v: float, n_facets: int, facets: np.ndarray, normals: np.ndarray) -> float:
    if n_facets == 0:
        result: float = np.sqrt(u * u + v * v)
        return result
    rho = 0.0
    for facet in range(n_facets):
        rho = max(rho, (u * normals[facet, 0] + v * normals[facet, 1]) / facets[facet])
    return rho


@numba.njit(cache=True)
def _profile(rho: float, kind: int, edge: float) -> float:
    if kind == GAUSSIAN:
        result: float = np.exp(-2.0 * rho * rho)
        return result
    if kind == SPHERE:
        result = np.sqrt(max(1.0 - rho * rho, 0.0))
        return result
    return min(max((1.0 - rho) / edge + 0.5, 0.0), 1.0)


@numba.njit(cache=True)
def _add_particles(pictures: np.ndarray, owners: np.ndarray, particles: Particles) -> None:
    size = pictures.shape[1]
    normals = np.empty((_MAX_FACETS, 2))
    for k in range(len(owners)):
        n_facets, kind, edge = particles.n_facets[k], particles.profiles[k], particles.edges[k]
        for facet in range(n_facets):
            direction = 2.0 * np.pi * facet / n_facets
            normals[facet, 0], normals[facet, 1] = np.cos(direction), np.sin(direction)
        longest = np.max(particles.radii[k])
        if n_facets > 0:
            # The polygon lies within the regular one of its furthest facet, whose corners are this far away.
            longest *= np.max(particles.facets[k, :n_facets]) / np.cos(np.pi / n_facets)
        reach = longest * (_REACH if kind == GAUSSIAN else 1.0 + 0.5 * edge)
        row, column = particles.centres[k]
        left, right = max(0, int(np.ceil(column - reach))), min(size - 1, int(np.floor(column + reach)))
        cosine, sine = np.cos(particles.angles[k]), np.sin(particles.angles[k])
        for r in range(max(0, int(np.ceil(row - reach))), min(size - 1, int(np.floor(row + reach))) + 1):
            for c in range(left, right + 1):
                u = (cosine * (r - row) + sine * (c - column)) / particles.radii[k, 0]
                v = (cosine * (c - column) - sine * (r - row)) / particles.radii[k, 1]
                rho = _reduced_radius(u, v, n_facets, particles.facets[k], normals)
                pictures[owners[k], r, c] += particles.heights[k] * _profile(rho, kind, edge)


def add_particles(pictures: np.ndarray, owners: np.ndarray, particles: Particles) -> None:
    """Add the projected thickness of particles to pictures, in place.

    With ``(u, v)`` the position relative to the centre, turned by the angle and divided by the semi-axes, the
    reduced radius is ``rho = |(u, v)|`` for an ellipse and ``max_m (u, v).n_m / d_m`` for a polygon whose m-th
    facet has the distance ``d_m`` and the normal ``n_m`` at ``2 pi m / n_facets``. The thickness is
    ``h exp(-2 rho^2)`` (Gaussian, cut at rho = 2), ``h sqrt(1 - rho^2)`` (sphere) or
    ``h clip((1 - rho) / edge + 1/2, 0, 1)`` (flat).

    Args:
        pictures: Pictures to add to, float32, shape (N, S, S).
        owners: Index of the picture that each particle belongs to, shape (K,).
        particles: The K particles.

    Example:
        >>> centre, radii, zero, one = np.full((1, 2), 8.0), np.full((1, 2), 4.0), np.zeros(1), np.ones(1)
        >>> sphere = Particles(centre, radii, zero, np.array([0]), np.ones((1, 8)), np.array([SPHERE]), one, one)
        >>> pictures = np.zeros((1, 16, 16), np.float32)
        >>> add_particles(pictures, np.array([0]), sphere)
        >>> float(pictures[0, 8, 8]), float(pictures[0, 8, 12])
        (1.0, 0.0)
    """
    _add_particles(pictures, owners, particles)


def scatter(counts: np.ndarray, crop_size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Place particles, evenly in some pictures and in up to three clusters in others.

    A place of a cluster beyond the field is reflected into it.

    Args:
        counts: Number of particles in each picture, shape (N,).
        crop_size: Side S of a picture [px].
        rng: Source of randomness.

    Returns:
        Owners, shape (K,), and centres (row, column) [px], shape (K, 2), with K the sum of the counts.

    Example:
        >>> owners, centres = scatter(np.array([2, 1]), 32, np.random.default_rng(0))
        >>> owners.tolist(), centres.shape
        ([0, 0, 1], (3, 2))
    """
    owners = np.repeat(np.arange(len(counts)), counts)
    n_particles = len(owners)
    even = rng.uniform(-0.05 * crop_size, 1.05 * crop_size, (n_particles, 2))
    cluster_centres = rng.uniform(0.0, crop_size, (len(counts), _N_CLUSTERS, 2))
    spreads = rng.uniform(0.03, 0.15, len(counts)) * crop_size
    clustered = cluster_centres[owners, rng.integers(_N_CLUSTERS, size=n_particles)]
    clustered = clustered + spreads[owners, None] * rng.standard_normal((n_particles, 2))
    clustered = crop_size - np.abs(crop_size - np.abs(clustered))
    joins = rng.uniform(size=n_particles) < (rng.uniform(size=len(counts)) < 0.5)[owners] * 0.9
    return owners, np.where(joins[:, None], clustered, even)


def random_particles(
    centres: np.ndarray, radii: np.ndarray, profiles: np.ndarray, faceted: np.ndarray, rng: np.random.Generator
) -> Particles:
    """Particles of random elongation, orientation, facets and thickness.

    Args:
        centres: Positions (row, column) [px], shape (K, 2).
        radii: Mean radii [px], shape (K,).
        profiles: GAUSSIAN, SPHERE or FLAT, shape (K,).
        faceted: Whether a particle is a polygon, shape (K,).
        rng: Source of randomness.

    Returns:
        K particles.

    Example:
        >>> rng, centre = np.random.default_rng(0), np.zeros((1, 2))
        >>> particle = random_particles(centre, np.ones(1), np.array([FLAT]), np.array([True]), rng)
        >>> bool(particle.n_facets[0] >= 4)
        True
    """
    n_particles = len(radii)
    stretch = np.exp(rng.normal(0.0, 0.1, n_particles))
    edges = np.maximum(rng.uniform(0.0, 0.3, n_particles), 1.0 / radii)
    return Particles(
        centres=centres,
        radii=np.stack([radii * stretch, radii / stretch], axis=-1),
        angles=rng.uniform(0.0, 2.0 * np.pi, n_particles),
        n_facets=np.where(faceted, rng.integers(4, _MAX_FACETS + 1, n_particles), 0),
        facets=rng.uniform(0.75, 1.05, (n_particles, _MAX_FACETS)),
        profiles=profiles,
        edges=edges,
        heights=rng.uniform(0.4, 1.0, n_particles),
    )


def counts_for_coverage(radii: np.ndarray, crop_size: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of particles that cover 4 to 80 % of a picture.

    Args:
        radii: Mean radius of the particles of each picture [px], shape (N,).
        crop_size: Side S of a picture [px].
        most: Upper limit of the numbers.
        rng: Source of randomness.

    Returns:
        Numbers from 1 to ``most``, int64, shape (N,).

    Example:
        >>> counts_for_coverage(np.array([100.0]), 32, 9, np.random.default_rng(0)).tolist()
        [1]
    """
    covered = log_uniform(0.04, 0.8, len(radii), rng) * crop_size**2
    return np.clip(np.rint(covered / (np.pi * radii**2)), 1, most).astype(np.int64)


def _particle_pictures(
    n_crops: int, crop_size: int, kinds: np.ndarray, faceted_share: float, rng: np.random.Generator
) -> np.ndarray:
    """Particles on amorphous films; each picture draws one profile of ``kinds``."""
    scales = feature_sizes(n_crops, crop_size, rng) / 2.0 * rng.choice([1.0, 2.0], n_crops)
    owners, centres = scatter(counts_for_coverage(scales, crop_size, 120, rng), crop_size, rng)
    spread = rng.uniform(0.05, 0.7, n_crops)[owners]
    radii = np.maximum(scales[owners] * np.exp(spread * rng.standard_normal(len(owners))), 1.0)
    profiles = rng.choice(kinds, n_crops)[owners]
    faceted = (rng.uniform(size=n_crops) < faceted_share)[owners]
    films = amorphous_films(n_crops, crop_size, rng)
    films *= rng.uniform(0.05, 1.2, (n_crops, 1, 1)).astype(np.float32)
    add_particles(films, owners, random_particles(centres, radii, profiles, faceted, rng))
    return films


def soft_particles(n_crops: int, crop_size: int, rng: np.random.Generator) -> np.ndarray:
    """Particles without a clear edge (Gaussian or spherical profiles) on films, spread or in aggregates.

    Args:
        n_crops: Number of pictures N.
        crop_size: Side S of a picture [px].
        rng: Source of randomness.

    Returns:
        Intensities, float32, shape (N, S, S).

    Example:
        >>> soft_particles(2, 32, np.random.default_rng(0)).shape
        (2, 32, 32)
    """
    return _particle_pictures(n_crops, crop_size, np.array([GAUSSIAN, SPHERE]), 0.0, rng)


def sharp_particles(n_crops: int, crop_size: int, rng: np.random.Generator) -> np.ndarray:
    """Flat particles with edges, rounded or faceted, on films.

    Args:
        n_crops: Number of pictures N.
        crop_size: Side S of a picture [px].
        rng: Source of randomness.

    Returns:
        Intensities, float32, shape (N, S, S).

    Example:
        >>> sharp_particles(2, 32, np.random.default_rng(0)).shape
        (2, 32, 32)
    """
    return _particle_pictures(n_crops, crop_size, np.array([FLAT]), 0.6, rng)
