from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.specimens.particles import (
    FLAT,
    GAUSSIAN,
    SPHERE,
    Particles,
    add_particles,
    counts_for_coverage,
    random_particles,
    scatter,
    sharp_particles,
    soft_particles,
)


def one_particle(profile: int, **changes: np.ndarray) -> Particles:
    particle = Particles(
        centres=np.array([[14.3, 16.8]]),
        radii=np.array([[7.0, 4.0]]),
        angles=np.array([0.7]),
        n_facets=np.array([0]),
        facets=np.ones((1, 8)),
        profiles=np.array([profile]),
        edges=np.array([0.25]),
        heights=np.array([0.8]),
    )
    return particle._replace(**changes)


def drawn(particle: Particles, size: int = 32) -> np.ndarray:
    pictures = np.zeros((1, size, size), np.float32)
    add_particles(pictures, np.array([0]), particle)
    return pictures[0]


def reduced_positions(particle: Particles, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    rows, columns = rows - particle.centres[0, 0], columns - particle.centres[0, 1]
    cosine, sine = np.cos(particle.angles[0]), np.sin(particle.angles[0])
    return (
        (cosine * rows + sine * columns) / particle.radii[0, 0],
        (cosine * columns - sine * rows) / particle.radii[0, 1],
    )


@given(
    centre=st.tuples(st.floats(-10.0, 42.0), st.floats(-10.0, 42.0)),
    radii=st.tuples(st.floats(1.0, 12.0), st.floats(1.0, 12.0)),
    angle=st.floats(0.0, 6.3),
)
def test_soft_particle_follows_its_formula(
    centre: tuple[float, float], radii: tuple[float, float], angle: float
) -> None:
    particle = one_particle(GAUSSIAN, centres=np.array([centre]), radii=np.array([radii]), angles=np.array([angle]))
    u, v = reduced_positions(particle)
    squared = u**2 + v**2

    picture = drawn(particle)

    inside = squared < 4.0
    np.testing.assert_allclose(picture[inside], 0.8 * np.exp(-2.0 * squared[inside]), rtol=1e-4)
    assert np.all(picture[~inside] < 0.8 * 3.4e-4)


def test_sphere_follows_its_formula() -> None:
    particle = one_particle(SPHERE)
    u, v = reduced_positions(particle)

    np.testing.assert_allclose(drawn(particle), 0.8 * np.sqrt(np.clip(1 - u**2 - v**2, 0, None)), atol=1e-6)


def test_flat_particle_follows_its_formula_and_has_its_area() -> None:
    particle = one_particle(FLAT)
    u, v = reduced_positions(particle)

    picture = drawn(particle)

    np.testing.assert_allclose(picture, 0.8 * np.clip((1 - np.hypot(u, v)) / 0.25 + 0.5, 0, 1), atol=1e-6)
    assert picture.sum() == pytest.approx(0.8 * np.pi * 7.0 * 4.0, rel=0.02)


@pytest.mark.parametrize("n_facets", [3, 4, 6, 8])
def test_polygon_is_the_intersection_of_its_half_planes(n_facets: int, rng: np.random.Generator) -> None:
    facets = rng.uniform(0.7, 1.0, (1, 8))
    particle = one_particle(FLAT, n_facets=np.array([n_facets]), facets=facets, edges=np.array([1e-9]))
    u, v = reduced_positions(particle)
    inside = np.ones(u.shape, bool)
    for facet in range(n_facets):
        direction = 2 * np.pi * facet / n_facets
        inside &= u * np.cos(direction) + v * np.sin(direction) < facets[0, facet]

    np.testing.assert_allclose(drawn(particle), 0.8 * inside, atol=1e-6)


def test_particles_add_up_in_their_owners() -> None:
    particle = one_particle(SPHERE)
    two = Particles(*(np.repeat(field, 2, axis=0) for field in particle))
    pictures = np.ones((2, 32, 32), np.float32)

    add_particles(pictures, np.array([1, 1]), two)

    np.testing.assert_array_equal(pictures[0], 1.0)
    np.testing.assert_allclose(pictures[1], 1.0 + 2.0 * drawn(particle), rtol=1e-6)


def test_scatter_gives_each_picture_its_number_and_clusters_some(rng: np.random.Generator) -> None:
    counts = np.full(200, 40)

    owners, centres = scatter(counts, 100, rng)

    np.testing.assert_array_equal(np.bincount(owners), counts)
    assert centres.min() >= -5.0
    assert centres.max() <= 105.0
    places = centres.reshape(200, 40, 2)
    separations = np.linalg.norm(places[:, :, None] - places[:, None], axis=3) + 1e3 * np.eye(40)
    nearest = separations.min(axis=2).mean(axis=1)
    # 40 even points on 110 x 110 px are 0.5 * 110 / sqrt(40) = 8.7 px from their nearest neighbour, a little more
    # for those at the edge, which have fewer neighbours.
    assert np.median(nearest[nearest > 7.6]) == pytest.approx(9.1, abs=0.5)
    assert (nearest < 7.0).mean() == pytest.approx(0.42, abs=0.13)


def test_counts_for_coverage_cover_a_share_of_the_picture(rng: np.random.Generator) -> None:
    radii = np.full(2000, 2.0)

    counts = counts_for_coverage(radii, 96, 10_000, rng)

    covered = counts * np.pi * 4.0 / 96**2
    assert covered.min() == pytest.approx(0.04, abs=0.005)
    assert covered.max() == pytest.approx(0.8, abs=0.01)
    assert counts_for_coverage(radii, 96, 7, rng).max() == 7


def test_random_particles_have_the_area_of_their_radius(rng: np.random.Generator) -> None:
    radii = rng.uniform(1.0, 20.0, 100)

    particles = random_particles(rng.uniform(size=(100, 2)), radii, np.full(100, FLAT), radii > 10.0, rng)

    np.testing.assert_allclose(particles.radii.prod(axis=1), radii**2)
    np.testing.assert_array_equal(particles.n_facets > 0, radii > 10.0)
    assert np.all(particles.edges * radii >= 1.0 - 1e-12)


def test_sharp_particles_are_steeper_than_soft_ones(rng: np.random.Generator) -> None:
    steepest = []
    for family in (soft_particles, sharp_particles):
        pictures = family(200, 64, rng)
        contrast = np.ptp(pictures, axis=(1, 2))
        steepest.append(np.median(np.abs(np.diff(pictures, axis=1)).max(axis=(1, 2)) / contrast))

    assert steepest[1] > 1.3 * steepest[0]
