from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.specimens.crystals import fill, frame, material, rotated, zone_cell
from adaptive_scan.specimens.defects import dislocation_displacements, faulted, mirrored, signed_distances


@given(
    length=st.floats(1.5, 6.0),
    turn=st.floats(0.0, 6.28),
    screw=st.floats(-3.0, 3.0),
    radius=st.floats(3.0, 60.0),
    poisson=st.floats(0.1, 0.45),
)
def test_a_burgers_circuit_closes_to_the_burgers_vector(
    length: float, turn: float, screw: float, radius: float, poisson: float
) -> None:
    burgers = np.array([length * np.cos(turn), length * np.sin(turn), screw])
    line = np.array([3.0, -2.0])
    # A circle whose ends lie on the two sides of the cut.
    angles = turn + np.linspace(-np.pi + 1e-7, np.pi - 1e-7, 4001)
    circle = np.column_stack([line[0] + radius * np.cos(angles), line[1] + radius * np.sin(angles), np.zeros(4001)])

    moved = dislocation_displacements(circle, line, burgers, poisson=poisson)

    steps = np.diff(moved, axis=0)
    assert np.abs(steps).max() < 0.01 * length + 0.01  # nothing jumps on the way
    np.testing.assert_allclose(steps.sum(axis=0), burgers, atol=1e-4)


def test_displacements_fulfil_the_equations_of_elastic_equilibrium() -> None:
    # (1 - 2 nu) laplace(u) + grad(div u) = 0 away from the core, by finite differences.
    poisson, step = 0.3, 0.02
    burgers = np.array([2.5, 0.0, 0.0])

    def u(x: float, y: float) -> np.ndarray:
        return dislocation_displacements(np.array([[x, y, 0.0]]), np.zeros(2), burgers, poisson=poisson)[0, :2]

    for x, y in ((4.0, 3.0), (-3.0, 5.0), (6.0, -2.0)):
        east, west, north, south = u(x + step, y), u(x - step, y), u(x, y + step), u(x, y - step)
        centre = u(x, y)
        uxx, uyy = (east - 2 * centre + west) / step**2, (north - 2 * centre + south) / step**2
        corners = u(x + step, y + step) - u(x + step, y - step) - u(x - step, y + step) + u(x - step, y - step)
        uxy = corners / (4 * step**2)
        divergence = np.array([uxx[0] + uxy[1], uxy[0] + uyy[1]])
        np.testing.assert_allclose((1 - 2 * poisson) * (uxx + uyy) + divergence, 0.0, atol=2e-4)


def test_a_fault_moves_one_half_by_its_vector(rng: np.random.Generator) -> None:
    positions = rng.uniform(0.0, 10.0, (200, 3))
    point, normal, shift = np.full(3, 5.0), np.array([0.6, 0.8, 0.0]), np.array([-0.8, 0.6, 0.3])

    moved = faulted(positions, point, normal, shift) - positions

    is_beyond = (positions - point) @ normal > 0.0
    np.testing.assert_allclose(moved[is_beyond], np.tile(shift, (is_beyond.sum(), 1)))
    np.testing.assert_array_equal(moved[~is_beyond], 0.0)
    assert 50 < is_beyond.sum() < 150


def test_three_intrinsic_faults_on_one_plane_restore_the_crystal() -> None:
    # a/6 [11-2] three times is the lattice translation a/2 [11-2].
    crystal = material("Au")
    axes = frame(np.array([1.0, -1.0, 0.0]), np.ones(3))
    turned = rotated(zone_cell(crystal, (1, -1, 0)), axes)
    shift = axes @ (np.array([1.0, 1.0, -2.0]) * 4.078 / 6.0)
    positions, _ = fill(turned, np.zeros(3), np.full(3, -9.0), np.full(3, 9.0))

    thrice = faulted(positions, np.full(3, 0.1), axes @ np.ones(3) / np.sqrt(3.0), 3.0 * shift)

    cells = thrice @ np.linalg.inv(turned.vectors)
    sites = turned.positions
    offsets = cells[:, None] - sites
    assert np.abs(offsets - np.rint(offsets)).max(axis=2).min(axis=1).max() < 1e-6
    assert shift @ axes @ np.ones(3) == pytest.approx(0.0, abs=1e-9)  # the vector lies in the plane


def test_a_mirrored_crystal_is_the_mirror_image_of_its_atoms(rng: np.random.Generator) -> None:
    crystal, origin = material("GaN"), np.array([0.3, 0.1, -0.2])
    point, normal = rng.standard_normal(3), np.array([0.6, 0.0, 0.8])

    image, corner = mirrored(crystal, origin, point, normal)

    sites, images = (c.positions @ c.vectors + o for c, o in ((crystal, origin), (image, corner)))
    np.testing.assert_allclose(signed_distances(images, point, normal), -signed_distances(sites, point, normal))
    np.testing.assert_allclose(sites - images, np.outer(2.0 * signed_distances(sites, point, normal), normal))
