from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.specimens.grains import bending_warps, grains, paint_grains, voronoi


def brute_force_voronoi(seeds: np.ndarray, count: int, size: int, warp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    places = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij")) + warp
    distances = np.sqrt(((seeds[:count, :, None, None] - places[None]) ** 2).sum(axis=1))
    in_order = np.sort(distances, axis=0)
    return distances.argmin(axis=0), in_order[1] - in_order[0]


@given(
    size=st.integers(4, 24), counts=st.lists(st.integers(2, 7), min_size=1, max_size=3), seed=st.integers(0, 2**32 - 1)
)
def test_voronoi_equals_brute_force(size: int, counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(-3.0, size + 3.0, (len(counts), 7, 2))
    warps = rng.normal(0.0, 1.0, (len(counts), 2, size, size)).astype(np.float32)

    labels, gaps = voronoi(seeds, np.array(counts), size, warps=warps)

    for crop, count in enumerate(counts):
        expected_labels, expected_gaps = brute_force_voronoi(seeds[crop], count, size, warps[crop])
        np.testing.assert_array_equal(labels[crop], expected_labels)
        np.testing.assert_allclose(gaps[crop], expected_gaps, rtol=1e-5, atol=1e-5)


def test_voronoi_without_warp_has_straight_boundaries() -> None:
    labels, gaps = voronoi(np.array([[[4.0, 1.0], [4.0, 6.0]]]), np.array([2]), 9)

    np.testing.assert_array_equal(labels[0], np.broadcast_to(np.arange(9) > 3.5, (9, 9)))
    assert gaps[0, 4, 1] == pytest.approx(5.0)
    assert gaps[0, 4, 3] == pytest.approx(1.0)


def test_voronoi_of_one_seed_has_no_boundary() -> None:
    labels, gaps = voronoi(np.array([[[4.0, 1.0], [0.0, 0.0]]]), np.array([1]), 9)

    assert not labels.any()
    assert np.isinf(gaps).all()


def test_bending_warps_stay_small_against_the_crop(rng: np.random.Generator) -> None:
    warps = bending_warps(300, 48, rng)

    assert warps.shape == (300, 2, 48, 48)
    assert 0.2 < warps.std() < 2.0


def test_paint_grains_follows_its_formula(rng: np.random.Generator) -> None:
    size, n_grains = 12, 4
    labels, gaps = voronoi(rng.uniform(0, size, (2, n_grains, 2)), np.array([4, 3]), size)
    greys, fringes = rng.uniform(size=(2, n_grains)), rng.uniform(0.1, 1.0, (2, n_grains, 4))
    fringes[1, :, 3] = 0.0
    grooves = np.array([[0.5, 1.5], [-0.3, 2.0]])

    painted = paint_grains(labels, gaps, greys, fringes, grooves)

    for crop in range(2):
        for row in range(size):
            for column in range(size):
                k = labels[crop, row, column]
                q_row, q_column, phase, amplitude = fringes[crop, k]
                expected = greys[crop, k] + amplitude * np.cos(q_row * row + q_column * column + phase)
                depth, width = grooves[crop]
                expected += depth * np.exp(-(gaps[crop, row, column] ** 2) / (2 * width**2))
                assert painted[crop, row, column] == pytest.approx(expected, abs=1e-5)


def test_grains_have_steps_between_them_and_slopes_within(rng: np.random.Generator) -> None:
    pictures = grains(200, 48, rng)
    steps = np.abs(np.diff(pictures, axis=2))

    assert np.isfinite(pictures).all()
    assert np.median(steps.max(axis=(1, 2))) > 0.3
    assert np.median(np.median(steps, axis=(1, 2))) < 0.05
