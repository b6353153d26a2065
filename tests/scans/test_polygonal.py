"""The polygonal spiral: exact segments, inside the field, and an even filling of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.spatial import cKDTree

from adaptive_scan.scans import (
    PRESETS,
    ScanGeometry,
    archimedean_spiral,
    filling_path,
    path_length,
    polygonal_spiral,
)
from adaptive_scan.scans.polygonal import _filling_loss


def mean_distance(positions: np.ndarray, size: int) -> float:
    pixels = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1).reshape(-1, 2)
    return float(cKDTree(positions.reshape(-1, 2)).query(pixels)[0].mean())


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_filled_evenly_and_not_left(name: str, rng: np.random.Generator) -> None:
    geometry = PRESETS[name]
    size = geometry.image_size
    headings = polygonal_spiral(geometry)
    assert headings.shape == (geometry.n_segments,)
    assert headings[0] == geometry.first_heading
    positions = geometry.path(headings[None])
    ends = positions[0, :, -1] + (positions[0, :, -1] - positions[0, :, -2])
    assert min(positions.min(), ends.min()) >= 0
    assert max(positions.max(), ends.max()) <= size - 1
    length = geometry.n_positions * geometry.first_spacing
    corners = np.concatenate((positions[0, :, 0], ends[-1:])).astype(float)
    np.testing.assert_allclose(np.hypot(*np.diff(corners, axis=0).T), length, rtol=1e-5)
    assert path_length(corners[None])[0] == pytest.approx(geometry.n_segments * length, rel=1e-5)
    archimedean = mean_distance(
        archimedean_spiral(geometry.n_positions_total, size, spacing=geometry.first_spacing), size
    )
    assert mean_distance(positions, size) < 1.12 * archimedean
    random_headings = rng.uniform(0, 2 * math.pi, size=(20, geometry.n_segments))
    naive = [mean_distance(np.clip(path, 0, size - 1), size) for path in geometry.path(random_headings)]
    assert mean_distance(positions, size) < 0.7 * min(naive)


@pytest.mark.parametrize("name", list(PRESETS))
def test_it_winds_one_way_and_outwards(name: str) -> None:
    geometry = PRESETS[name]
    headings = polygonal_spiral(geometry)
    turns = np.diff(headings)
    assert headings[-1] - headings[0] > 2 * math.pi
    assert (turns > -0.3).all()
    radii = np.hypot(*(geometry.path(headings[None])[0, :, 0] - geometry.start_position).T)
    third = len(radii) // 3
    assert radii[:third].mean() < radii[-third:].mean()


def test_gradient_equals_finite_differences(rng: np.random.Generator) -> None:
    geometry = ScanGeometry(32, 8, 6)
    pixels = rng.uniform(0, 31, size=(300, 2))
    headings = polygonal_spiral(geometry) + rng.normal(scale=0.2, size=8)
    spacings = rng.uniform(1.0, 2.0, size=8)
    _, by_heading, by_spacing = _filling_loss(headings, spacings, geometry, pixels)
    numerical = approx_fprime(headings, lambda h: _filling_loss(h, spacings, geometry, pixels)[0], 1e-7)
    np.testing.assert_allclose(by_heading, numerical, atol=2e-5)
    numerical = approx_fprime(spacings, lambda s: _filling_loss(headings, s, geometry, pixels)[0], 1e-7)
    np.testing.assert_allclose(by_spacing, numerical, atol=2e-5)


def test_filling_path_uses_the_freedom_of_the_spacing() -> None:
    geometry = PRESETS["wide48"]
    low, high = geometry.spacing_bounds
    headings, spacings = filling_path(geometry)
    assert headings[0] == geometry.first_heading
    assert ((low <= spacings) & (spacings <= high)).all()
    pixels = np.stack(np.meshgrid(np.arange(48), np.arange(48), indexing="ij"), axis=-1).reshape(-1, 2)
    positions = geometry.path(headings[None], spacings[None]).reshape(-1, 2)
    assert positions.min() >= 0
    assert positions.max() <= 47
    constant = geometry.path(polygonal_spiral(geometry)[None]).reshape(-1, 2)
    gap, gap_constant = (cKDTree(path).query(pixels)[0].mean() for path in (positions, constant))
    assert gap < 0.75 * gap_constant


def test_filling_path_of_a_fixed_spacing_is_the_polygonal_spiral() -> None:
    geometry = PRESETS["quick48"]
    headings, spacings = filling_path(geometry)
    np.testing.assert_array_equal(headings, polygonal_spiral(geometry))
    np.testing.assert_array_equal(spacings, geometry.first_spacing)


def test_it_is_deterministic_and_fresh() -> None:
    geometry = ScanGeometry(32, 6, 6)
    first = polygonal_spiral(geometry)
    first[:] = 0.0
    second = polygonal_spiral(ScanGeometry(32, 6, 6))
    assert second[1] != 0.0
    polygonal_spiral.__globals__["_cached_headings"].cache_clear()
    np.testing.assert_array_equal(polygonal_spiral(geometry), second)


@settings(max_examples=8)
@given(
    n_segments=st.integers(1, 15),
    n_positions=st.integers(1, 12),
    first_heading=st.floats(-3.2, 3.2),
    start=st.tuples(st.floats(0, 31), st.floats(0, 31)),
)
def test_any_geometry_gets_finite_headings(
    n_segments: int, n_positions: int, first_heading: float, start: tuple[float, float]
) -> None:
    geometry = ScanGeometry(32, n_segments, n_positions, 1.4, start, first_heading)
    headings = polygonal_spiral(geometry)
    assert headings.shape == (n_segments,)
    assert headings[0] == first_heading
    assert np.isfinite(headings).all()
