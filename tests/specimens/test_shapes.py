from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_scan.specimens.shapes import (
    half_space,
    inside,
    perpendicular,
    polygonal_rod,
    polyhedron,
    random_rotation,
    thickness_map,
    wedge,
)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), n_faces=st.integers(4, 20))
def test_thickness_is_the_length_of_the_beam_inside(seed: int, n_faces: int) -> None:
    rng = np.random.default_rng(seed)
    shape = polyhedron(np.array([12.0, 14.0, 9.0]), 9.0, n_faces, rng)

    lengths = thickness_map(shape, 24, 1.2, low=0.0, high=18.0)

    heights = (np.arange(3600) + 0.5) / 200.0
    for row, column in rng.integers(24, size=(8, 2)):
        beam = np.column_stack([np.full(3600, 1.2 * row), np.full(3600, 1.2 * column), heights])
        assert lengths[row, column] == pytest.approx(inside(beam, shape).sum() / 200.0, abs=0.02)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), n_vertices=st.integers(3, 15))
def test_rods_have_their_vertices_on_the_circle(seed: int, n_vertices: int) -> None:
    rng = np.random.default_rng(seed)
    axis, centre = rng.standard_normal(3), rng.standard_normal(3)

    rod = polygonal_rod(centre, axis, 5.0, n_vertices, rng)

    assert rod.normals.shape == (n_vertices, 3)
    np.testing.assert_allclose(rod.normals @ axis, 0.0, atol=1e-9)
    assert inside(np.stack([centre, centre + 50.0 * axis]), rod).all()
    first, second = perpendicular(axis)
    circle = np.linspace(0.0, 2.0 * np.pi, 720, endpoint=False)
    around = np.cos(circle)[:, None] * first + np.sin(circle)[:, None] * second
    assert not inside(centre + 5.01 * around, rod).any()
    # Where two neighbouring sides meet lies the circle.
    angles = np.sort(np.arctan2(rod.normals @ second, rod.normals @ first))
    assert len(angles) == n_vertices


@pytest.mark.parametrize(
    ("sides", "thick"), [("top", 3.0), ("bottom", 3.0), ("both", 2.0 * 3.0 / 1.0 * np.tan(np.pi / 8))]
)
def test_a_wedge_grows_linearly_from_its_edge(sides: str, thick: float) -> None:
    shape = wedge(np.array([4.0, 0.0]), 0.0, np.pi / 4, 20.0, sides=sides)

    lengths = thickness_map(shape, 32, 1.0, low=0.0, high=20.0)[:, 0]

    np.testing.assert_allclose(lengths[:4], 0.0, atol=1e-5)
    assert lengths[7] == pytest.approx(thick, rel=1e-5)
    growth = np.diff(lengths[4:16])
    np.testing.assert_allclose(growth, growth[0], rtol=1e-4)


def test_a_wedge_of_other_sides_is_refused() -> None:
    with pytest.raises(ValueError, match="sides: got 'left'; expected top, bottom or both"):
        wedge(np.zeros(2), 0.0, 0.5, 10.0, sides="left")


def test_a_half_space_ends_at_its_plane(rng: np.random.Generator) -> None:
    point, normal = rng.standard_normal(3), rng.standard_normal(3)
    half = half_space(point, normal)

    assert inside(np.stack([point - 0.01 * normal, point + 0.01 * normal]), half).tolist() == [True, False]


def test_random_rotations_point_everywhere() -> None:
    rng = np.random.default_rng(0)
    tips = np.array([random_rotation(rng)[2] for _ in range(2000)])

    np.testing.assert_allclose(np.linalg.norm(tips, axis=1), 1.0)
    np.testing.assert_allclose(tips.mean(axis=0), 0.0, atol=0.05)
    np.testing.assert_allclose((tips**2).mean(axis=0), 1.0 / 3.0, atol=0.03)


def test_the_mask_of_a_shape_has_the_area_of_its_cross_section() -> None:
    rng = np.random.default_rng(4)
    rod = polygonal_rod(np.array([16.0, 16.0, 0.0]), np.array([0.0, 0.0, 1.0]), 11.0, 6, rng)
    # Vertices on the circle: the triangle of a side at distance d has the area d sqrt(R^2 - d^2).
    distances = rod.offsets - rod.normals @ np.array([16.0, 16.0, 0.0])
    area = float((distances * np.sqrt(11.0**2 - distances**2)).sum())

    mask = thickness_map(rod, 128, 0.25, low=0.0, high=5.0) > 0.0

    assert mask.sum() * 0.25**2 == pytest.approx(area, rel=0.01)
