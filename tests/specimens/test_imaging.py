from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from adaptive_scan.specimens import imaging
from adaptive_scan.specimens.imaging import record


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


def test_without_noise_shading_and_inversion_only_the_blur_is_left(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    for step in ("_shaded", "_add_noise"):
        monkeypatch.setattr(imaging, step, lambda pictures, rng: None)
    monkeypatch.setattr(imaging, "_INVERTED_SHARE", 0.0)

    crops = record(discs(400), rng)

    found = np.zeros(4)
    for choice, sigma in enumerate((0.0, 0.7, 1.1, 1.8)):
        expected = discs(1)[0] if sigma == 0.0 else ndimage.gaussian_filter(discs(1)[0], sigma, truncate=3.0)
        expected = 2.0 * (expected - expected.min()) / np.ptp(expected) - 1.0
        found[choice] = (np.abs(crops - expected).max(axis=(1, 2)) < 1e-3).mean()
    assert found.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found, [0.5, 0.2, 0.2, 0.1], atol=0.08)


def test_shading_is_a_plane_in_half_of_the_crops(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    crops = np.zeros((600, 24, 24), np.float32)

    imaging._shaded(crops, rng)

    np.testing.assert_allclose(np.diff(crops, n=2, axis=1), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.diff(crops, n=2, axis=2), 0.0, atol=1e-5)
    slopes = np.hypot(crops[:, -1, 0] - crops[:, 0, 0], crops[:, 0, -1] - crops[:, 0, 0])
    assert (slopes < 1e-6).mean() == pytest.approx(0.5, abs=0.07)
    assert slopes.max() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(crops.mean(axis=(1, 2)), 0.0, atol=1e-6)


def test_noise_is_mild_and_absent_in_three_of_ten(rng: np.random.Generator) -> None:
    crops = np.full((800, 32, 32), 0.5, np.float32)

    imaging._add_noise(crops, rng)

    deviations = crops.std(axis=(1, 2))
    assert (deviations < 1e-6).mean() == pytest.approx(0.3, abs=0.05)
    assert deviations.max() < 0.12
    assert 0.003 < deviations[deviations > 1e-6].min() < 0.01
