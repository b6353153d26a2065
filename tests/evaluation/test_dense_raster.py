from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from adaptive_scan.acquisition import (
    INSTRUMENTS,
    Exposure,
    Instrument,
    PoissonCounting,
    Quantisation,
    Saturation,
    Zingers,
    make_instrument,
    scan_costs,
)
from adaptive_scan.acquisition.detector import FaultyReadings
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.contenders import VALIDATION
from adaptive_scan.evaluation.dense_raster import DENOISERS, Denoiser, DenseRaster, diluted, tune_denoiser
from adaptive_scan.evaluation.metrics import loss
from adaptive_scan.scans import static_scan

NOISY = sorted(set(INSTRUMENTS) - {"ideal"})


def counting(electrons: float, dark: float = 0.1) -> Instrument:
    """An instrument whose only fault is counting, with so many electrons seen at full scale."""
    exposure = Exposure.per_position(2.0 * electrons, 1e-6, collected=0.5, dark=dark)
    return Instrument((PoissonCounting(),), exposure, dwell=1e-6)


def smooth_crops(n: int, size: int = 32) -> np.ndarray:
    waves = gaussian_filter(np.random.default_rng(7).normal(size=(n, size, size)), (0, 4, 4), mode="wrap")
    return (waves / np.abs(waves).max(axis=(1, 2), keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize("n_positions", [37, 100, 1024])
def test_electrons_equal_those_of_the_partial_scan(name: str, n_positions: int) -> None:
    partial = scan_costs(static_scan("raster", n_positions, 32)[None], name)
    dense = DenseRaster(name, n_positions).costs(32, n_scans=3)
    np.testing.assert_allclose(dense.electrons, partial.electrons[0], rtol=1e-12)
    assert dense.n_positions.tolist() == [1024] * 3
    dwell = make_instrument(name).dwell
    assert dense.time[0] >= 1024 * dwell
    assert dense.path_length[0] == 1023


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_readings_have_the_mean_and_the_variance_of_shared_out_electrons(value: float) -> None:
    instrument = counting(40.0)
    raster = DenseRaster(instrument, 128)
    crops = np.full((60, 32, 32), value, dtype=np.float32)
    measured = raster.measure(crops, seed=3).astype(np.float64)
    intensities = instrument.exposure.intensities(measured)
    expected = float(instrument.exposure.intensities(np.array([value]))[0])
    electrons = 40.0 * 128 / 1024
    n = intensities.size
    assert intensities.mean() == pytest.approx(expected, abs=5 * math.sqrt(expected / electrons / n))
    # Variance of a Poisson variance: (2 m^2 + m) / n with m the mean count.
    mean_count = expected * electrons
    deviation = math.sqrt((2 * mean_count**2 + mean_count) / n) / electrons**2
    assert intensities.var() == pytest.approx(expected / electrons, abs=5 * deviation)
    counts = intensities * electrons
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)


@pytest.mark.parametrize("name", NOISY)
def test_presets_measure_without_bias_at_a_share_of_their_electrons(name: str) -> None:
    crops = np.full((40, 32, 32), 0.2, dtype=np.float32)
    measured = DenseRaster(name, 1024 // 23).measure(crops, seed=1)
    assert measured.mean() == pytest.approx(0.2, abs=0.06)


def test_detector_keeps_its_levels_in_electrons() -> None:
    models = (PoissonCounting(), Saturation(2.0), Quantisation(0.01), Zingers(0.1, 3.0), FaultyReadings(hot=0.1))
    whole = Instrument(models, Exposure(current=10.0, dark=0.1))
    quarter = diluted(whole, 0.25)
    assert quarter.exposure.current == 2.5
    assert quarter.models == (
        PoissonCounting(),
        Saturation(8.0),
        Quantisation(0.04),
        Zingers(0.1, 12.0),
        FaultyReadings(hot=0.1, level=4.0),
    )
    assert quarter.limits[1] == pytest.approx(
        float(whole.exposure.values(whole.exposure.intensities(np.array(3.0)) * 4))
    )
    assert diluted(whole, 1.0) == whole


def test_every_pixel_is_read_where_it_is() -> None:
    crops = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16)).astype(np.float32)
    measured = DenseRaster(counting(1e9), 64).measure(crops)
    np.testing.assert_allclose(measured, crops, atol=1e-3)
    np.testing.assert_allclose(DenseRaster(counting(1e9), 64).scan(crops), crops, atol=1e-3)


def test_denoised_raster_beats_the_raw_one_and_the_best_was_chosen() -> None:
    crops = smooth_crops(8)
    tuning = tune_denoiser(crops[:4], crops[:4], counting(20.0), 64, seed=1)
    assert tuning.losses[tuning.denoiser] == min(tuning.losses.values())
    assert {denoiser.method for denoiser in tuning.losses} == set(DENOISERS)
    raw, denoised = (
        loss(DenseRaster(counting(20.0), 64, denoiser).scan(crops[4:], seed=2), crops[4:]).mean()
        for denoiser in (Denoiser(), tuning.denoiser)
    )
    assert denoised < 0.2 * raw
    assert raw == pytest.approx(tuning.losses[Denoiser()], rel=0.3)


def test_a_denoiser_is_tuned_on_other_noise_than_crops_to_test_on_meet() -> None:
    crops, raster = smooth_crops(4), DenseRaster(counting(20.0), 64)
    tuning = tune_denoiser(crops, crops, counting(20.0), 64, seed=1, methods=["none"])
    losses = []
    for stream in (0, VALIDATION):
        measured = raster.measure(crops, seed=1, stream=stream)
        losses.append(float(loss(np.clip(measured, -1, 1), crops).mean()))
    assert tuning.losses[Denoiser()] == pytest.approx(losses[1], rel=1e-5)
    assert tuning.losses[Denoiser()] != pytest.approx(losses[0], rel=1e-5)
    np.testing.assert_array_equal(raster.measure(crops, seed=1), raster.measure(crops, seed=1, stream=0))


def test_less_noise_is_tuned_to_less_smoothing() -> None:
    crops = smooth_crops(4)
    strengths = []
    for electrons in (2.0, 20.0, 2000.0):
        tuning = tune_denoiser(crops, crops, counting(electrons), 64, methods=["gaussian"])
        strengths.append(tuning.denoiser.strength)
    assert strengths[0] > strengths[1] > strengths[2]


def test_scans_repeat_with_their_seed_and_differ_with_another() -> None:
    crops = smooth_crops(3)
    raster = DenseRaster("low-dose", 64, Denoiser("gaussian", 2.0))
    first = raster.scan(crops, seed=4)
    assert first.dtype == np.float32
    assert first.shape == crops.shape
    assert np.abs(first).max() <= 1.0
    np.testing.assert_array_equal(first, raster.scan(crops, seed=4))
    assert not np.array_equal(first, raster.scan(crops, seed=5))
    assert not np.array_equal(first, raster.scan(crops, seed=4, first_crop=3))


def test_total_counts_stay_under_linear_smoothing() -> None:
    counts = np.random.default_rng(0).poisson(3.0, (3, 24, 24)).astype(float)
    smoothed = Denoiser("gaussian", 2.0)(counts)
    np.testing.assert_allclose(smoothed.sum(axis=(1, 2)), counts.sum(axis=(1, 2)), rtol=1e-9)


@pytest.mark.parametrize("mean", [1.0, 3.0, 10.0, 100.0])
def test_stabilised_counts_have_unit_deviation_and_come_back_without_bias(mean: float) -> None:
    counts = np.random.default_rng(0).poisson(mean, (1, 256, 256)).astype(float)
    stable = 2 * np.sqrt(counts + 3 / 8)
    if mean >= 3:
        assert stable.std() == pytest.approx(1.0, abs=0.06)
    # A wide Gaussian leaves the mean of the stabilised counts, whose inverse is the mean count and not less.
    back = Denoiser("gaussian", 60.0, stabilised=True)(counts)
    assert back.mean() == pytest.approx(mean, rel=0.02)
    algebraic = stable.mean() ** 2 / 4 - 3 / 8
    assert algebraic < mean - 0.15


@given(
    method=st.sampled_from(sorted(DENOISERS)),
    strength=st.floats(0.3, 4.0),
    stabilised=st.booleans(),
    level=st.floats(0.0, 50.0),
)
def test_uniform_counts_stay_what_they_are(method: str, strength: float, stabilised: bool, level: float) -> None:
    counts = np.full((1, 16, 16), level)
    found = Denoiser(method, strength, stabilised)(counts)
    assert np.ptp(found) < 1e-6 * max(level, 1.0)
    # The unbiased inverse takes away what the mean of noisy counts is raised by, at most 1/4 + 3/8.
    assert abs(found.mean() - level) <= (0.64 if stabilised else 1e-6 * max(level, 1.0))


@pytest.mark.parametrize(
    "instrument",
    ["ideal", Instrument((PoissonCounting(),)), Instrument((Saturation(1.0),), Exposure(current=1.0))],
)
def test_instruments_without_counting_noise_are_refused(instrument: str | Instrument) -> None:
    with pytest.raises(SettingError, match="every pixel is measured perfectly"):
        DenseRaster(instrument, 64)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(SettingError, match="n_positions: got 0; expected at least 1"):
        DenseRaster("low-dose", 0)
    with pytest.raises(SettingError, match="n_positions: got 300 for crops of 16 x 16 px"):
        DenseRaster("low-dose", 300).costs(16)
    with pytest.raises(SettingError, match="method: got 'magic'; expected one of none, gaussian"):
        tune_denoiser(smooth_crops(1), smooth_crops(1), "low-dose", 64, methods=["magic"])
    with pytest.raises(SettingError, match=r"strength: got -1\.0"):
        Denoiser("gaussian", -1.0)
    with pytest.raises(ValueError, match=r"got crops \(1, 32, 32\) and targets \(2, 32, 32\)"):
        tune_denoiser(smooth_crops(1), smooth_crops(2), "low-dose", 64)
    with pytest.raises(SettingError, match=r"share: got 0.0; expected a number in \(0, 1\]"):
        diluted(make_instrument("low-dose"), 0.0)
