from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from adaptive_scan.specimens import imaging
from adaptive_scan.specimens.imaging import DEFAULT_IMAGING, REALISTIC_IMAGING, ImagingSettings, record


def discs(n_crops: int) -> np.ndarray:
    rows, columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    disc = (np.hypot(rows - 15.5, columns - 15.5) < 6.0).astype(np.float32)
    return np.repeat(7.0 * disc[None] + 100.0, n_crops, axis=0)


def test_crops_span_the_whole_range(rng: np.random.Generator) -> None:
    crops = record(discs(300), rng)

    assert crops.dtype == np.float32
    np.testing.assert_array_equal(crops.min(axis=(1, 2)), -1.0)
    np.testing.assert_array_equal(crops.max(axis=(1, 2)), 1.0)


def test_a_fifth_is_inverted(rng: np.random.Generator) -> None:
    crops = record(discs(1500), rng)

    dark = crops[:, 12:20, 12:20].mean(axis=(1, 2)) < crops[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(axis=1)
    assert dark.mean() == pytest.approx(0.2, abs=0.04)


CLEAN = ImagingSettings(inverted_share=0.0, shading_share=0.0, noise_free_share=1.0, blurs=(0.0,), blur_shares=(1.0,))


def test_without_noise_shading_and_inversion_only_the_blur_is_left(rng: np.random.Generator) -> None:
    settings = ImagingSettings(inverted_share=0.0, shading_share=0.0, noise_free_share=1.0)

    crops = record(discs(400), rng, settings)

    found = np.zeros(4)
    for choice, sigma in enumerate((0.0, 0.7, 1.1, 1.8)):
        expected = discs(1)[0] if sigma == 0.0 else ndimage.gaussian_filter(discs(1)[0], sigma, truncate=3.0)
        expected = 2.0 * (expected - expected.min()) / np.ptp(expected) - 1.0
        found[choice] = (np.abs(crops - expected).max(axis=(1, 2)) < 1e-3).mean()
    assert found.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found, [0.5, 0.2, 0.2, 0.1], atol=0.08)


def test_shading_is_a_plane_in_half_of_the_crops(rng: np.random.Generator) -> None:
    crops = np.zeros((600, 24, 24), np.float32)

    imaging._shaded(crops, rng, DEFAULT_IMAGING)

    np.testing.assert_allclose(np.diff(crops, n=2, axis=1), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.diff(crops, n=2, axis=2), 0.0, atol=1e-5)
    slopes = np.hypot(crops[:, -1, 0] - crops[:, 0, 0], crops[:, 0, -1] - crops[:, 0, 0])
    assert (slopes < 1e-6).mean() == pytest.approx(0.5, abs=0.07)
    assert slopes.max() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(crops.mean(axis=(1, 2)), 0.0, atol=1e-6)


def test_noise_is_mild_and_absent_in_three_of_ten(rng: np.random.Generator) -> None:
    crops = np.full((800, 32, 32), 0.5, np.float32)

    imaging._add_noise(crops, rng, DEFAULT_IMAGING)

    deviations = crops.std(axis=(1, 2))
    assert (deviations < 1e-6).mean() == pytest.approx(0.3, abs=0.05)
    assert deviations.max() < 0.12
    assert 0.003 < deviations[deviations > 1e-6].min() < 0.01


def test_a_power_bends_the_intensities_between_the_extremes(rng: np.random.Generator) -> None:
    ramp = np.broadcast_to(np.linspace(3.0, 5.0, 32, dtype=np.float32), (1, 32, 32)).copy()

    crops = record(ramp, rng, replace(CLEAN, powers=(2.0, 2.0)))

    expected = np.linspace(0.0, 1.0, 32) ** 2
    np.testing.assert_allclose(crops[0], np.broadcast_to(2.0 * expected - 1.0, (32, 32)), atol=1e-5)


def test_a_lag_smears_a_point_along_its_row_alone(rng: np.random.Generator) -> None:
    point = np.zeros((1, 32, 32), np.float32)
    point[0, 16, 10] = 1.0

    crops = record(point, rng, replace(CLEAN, lags=(0.5, 0.5)))

    expected = np.zeros((32, 32))
    expected[16, 10:] = 0.5 ** np.arange(22.0)
    np.testing.assert_allclose(0.5 * (crops[0] + 1.0), expected, atol=1e-6)


def test_the_quiet_share_has_noise_of_its_own_range(rng: np.random.Generator) -> None:
    crops = np.full((800, 32, 32), 1.0, np.float32)
    settings = replace(
        CLEAN, noise_free_share=0.0, quiet_share=0.4, quiet_levels=(0.001, 0.002), noise_levels=(0.1, 0.2), streaks=0.0
    )

    imaging._add_noise(crops, rng, settings)

    deviations = crops.std(axis=(1, 2))
    assert (deviations < 0.01).mean() == pytest.approx(0.4, abs=0.05)
    assert deviations[deviations < 0.01].max() < 0.0021
    assert deviations[deviations > 0.01].min() > 0.09


def test_realistic_imaging_is_noisier_and_inverts_less(rng: np.random.Generator) -> None:
    crops = record(discs(600), rng, REALISTIC_IMAGING)

    dark = crops[:, 12:20, 12:20].mean(axis=(1, 2)) < crops[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(axis=1)
    assert np.isfinite(crops).all()
    assert dark.mean() < 0.12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blur_shares": (0.5, 0.5)}, r"blur_shares: got \(0.5, 0.5\); expected 4 shares that add up to 1"),
        ({"quiet_share": 1.5}, "quiet_share: got 1.5; expected a share from 0 to 1"),
        ({"noise_levels": (0.2, 0.1)}, r"noise_levels: got \(0.2, 0.1\); expected a range of numbers above 0"),
        ({"powers": (0.0, 1.0)}, r"powers: got \(0.0, 1.0\); expected a range of numbers above 0"),
        ({"lags": (0.0, 1.0)}, r"lags: got \(0.0, 1.0\); expected a range from 0 to below 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImagingSettings(**settings)
