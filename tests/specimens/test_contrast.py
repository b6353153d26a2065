from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.specimens.contrast import (
    ContrastSettings,
    inverted,
    limit_ratio,
    random_background,
    random_contrast,
    with_power,
)


def test_inversion_and_power_are_equations_23_and_24() -> None:
    picture = np.array([[0.0, 1.0], [4.0, 9.0]])

    np.testing.assert_array_equal(inverted(picture), [[9.0, 8.0], [5.0, 0.0]])
    np.testing.assert_allclose(with_power(picture, 1.5), [[0.0, 1.0], [8.0, 27.0]])


@given(mean=st.floats(0.1, 100.0), ratio=st.floats(0.0005, 0.9))
def test_the_ratio_is_brought_within_its_bounds_and_no_further(mean: float, ratio: float) -> None:
    picture = mean * (1.0 + ratio * np.array([-1.0, 1.0, -1.0, 1.0]))

    limited = limit_ratio(picture)

    assert limited.std() / limited.mean() == pytest.approx(min(max(ratio, 0.01), 0.35))
    np.testing.assert_allclose(np.diff(limited), np.diff(picture), rtol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(16, 48), sparse=st.booleans())
def test_pictures_end_with_maximum_1_and_a_bounded_ratio(seed: int, size: int, sparse: bool) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.random((size, size), dtype=np.float32)
    if sparse:
        picture = (picture > 0.99).astype(np.float32)
        picture[3, 3] = 1.0

    seen = random_contrast(picture, rng)

    assert seen.dtype == np.float32
    assert seen.max() == 1.0
    assert seen.min() >= -1e-6
    assert 0.01 * (1 - 1e-3) <= seen.std(dtype=np.float64) / seen.mean(dtype=np.float64) <= 0.35 * (1 + 1e-3)


@given(seed=st.integers(0, 2**32 - 1), height=st.floats(0.01, 5.0))
def test_backgrounds_are_planes_or_gaussians_of_their_height(seed: int, height: float) -> None:
    rng = np.random.default_rng(seed)
    plane = random_background(32, height, rng, ContrastSettings(plane_share=1.0))
    bump = random_background(32, height, rng, ContrastSettings(plane_share=0.0))

    assert plane.min() == pytest.approx(0.0, abs=1e-5 * height)
    assert plane.max() == pytest.approx(height, rel=1e-5)
    np.testing.assert_allclose(np.diff(plane, n=2, axis=0), 0.0, atol=1e-4 * height)
    np.testing.assert_allclose(np.diff(plane, n=2, axis=1), 0.0, atol=1e-4 * height)
    assert 0.9 * height <= bump.max() <= height * (1 + 1e-6)
    logs = np.log(bump.astype(np.float64))
    np.testing.assert_allclose(np.diff(logs, n=3, axis=0), 0.0, atol=1e-3)  # the log of a Gaussian is a parabola


def test_the_share_of_inverted_pictures_is_that_of_the_settings() -> None:
    ramp = np.tile(np.linspace(0.0, 1.0, 16, dtype=np.float32) ** 4, (16, 1))
    settings = ContrastSettings(inverted_share=0.3, nonlinear_share=0.0, largest_background=0.0)
    rng = np.random.default_rng(0)

    falls = [seen[0, 0] > seen[0, -1] for seen in (random_contrast(ramp, rng, settings) for _ in range(600))]

    assert np.mean(falls) == pytest.approx(0.3, abs=0.06)
