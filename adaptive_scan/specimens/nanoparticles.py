"""Crystalline nanoparticles on an amorphous support."""

from __future__ import annotations

import numpy as np

from adaptive_scan.specimens.family import log_uniform
from adaptive_scan.specimens.films import amorphous_films
from adaptive_scan.specimens.lattices import add_crystals, random_crystals
from adaptive_scan.specimens.particles import (
    FLAT,
    SPHERE,
    add_particles,
    counts_for_coverage,
    random_particles,
    scatter,
)

_MOST_PARTICLES = 12
_RESOLVED = 0.75  # share of the pictures whose magnification shows the columns


def nanoparticles(n_crops: int, crop_size: int, rng: np.random.Generator) -> np.ndarray:
    """Particles with atomic columns on an amorphous film, rounded or faceted, each oriented on its own.

    Where the columns are not resolved, a particle is its projected thickness alone.

    Args:
        n_crops: Number of pictures N.
        crop_size: Side S of a picture [px].
        rng: Source of randomness.

    Returns:
        Intensities, float32, shape (N, S, S).

    Example:
        >>> nanoparticles(2, 32, np.random.default_rng(0)).shape
        (2, 32, 32)
    """
    sizes = log_uniform(crop_size / 14, crop_size / 2, n_crops, rng)
    counts = counts_for_coverage(sizes, crop_size, _MOST_PARTICLES, rng)
    owners, centres = scatter(counts, crop_size, rng)
    radii = sizes[owners] * np.exp(0.2 * rng.standard_normal(len(owners)))
    profiles = np.where(rng.uniform(size=n_crops) < 0.6, SPHERE, FLAT)[owners]
    faceted = (rng.uniform(size=n_crops) < 0.4)[owners]
    particles = random_particles(centres, radii, profiles, faceted, rng)

    pictures = amorphous_films(n_crops, crop_size, rng)
    pictures *= rng.uniform(0.05, 0.6, (n_crops, 1, 1)).astype(np.float32)
    shares = rng.uniform(0.15, 0.8, n_crops)[owners]
    add_particles(pictures, owners, particles._replace(heights=shares * particles.heights))

    spacings = log_uniform(3.0, np.maximum(sizes / 1.8, 3.5), n_crops, rng)[owners]
    resolved = (rng.uniform(size=n_crops) < _RESOLVED)[owners]
    thickness = np.zeros((int(resolved.sum()), crop_size, crop_size), np.float32)
    visible = type(particles)(*(field[resolved] for field in particles))
    add_particles(thickness, np.arange(len(thickness)), visible)
    add_crystals(pictures, owners[resolved], thickness, random_crystals(spacings[resolved], crop_size, rng), rng)
    return pictures
