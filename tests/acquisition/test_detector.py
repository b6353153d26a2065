"""Faults of what is read, against their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from adaptive_scan.acquisition import (
    DetectorLag,
    Dropouts,
    DurationNoise,
    Exposure,
    Photomultiplier,
    PoissonCounting,
    Quantisation,
    ReadoutLag,
    Saturation,
    Zingers,
)
from adaptive_scan.acquisition.detector import FaultyReadings
from tests.acquisition.conftest import detect

N_SCANS, N_POSITIONS = 500, 100


def flat(value: float) -> np.ndarray:
    return np.full((N_SCANS, N_POSITIONS), value)


def step(n: int = 30, at: int = 5) -> np.ndarray:
    """Value -1, intensity 0, before ``at`` and value 1, intensity 1, from there on."""
    values = np.full((1, n), -1.0)
    values[:, at:] = 1.0
    return values


def intensity(values: np.ndarray) -> np.ndarray:
    return (values + 1.0) / 2.0


@pytest.mark.parametrize(("electrons", "dark"), [(3.0, 0.0), (20.0, 0.1), (2000.0, 0.3)])
def test_counting_has_the_mean_and_the_variance_of_poisson(electrons: float, dark: float) -> None:
    for value in (-1.0, -0.2, 1.0):
        measured = detect(PoissonCounting(), flat(value), exposure=Exposure.per_position(electrons, 1e-6, dark=dark))
        mean = electrons * (dark + (1 - dark) * (value + 1) / 2)
        scale = 2.0 / (electrons * (1 - dark))
        assert measured.mean() == pytest.approx(value, abs=4 * scale * math.sqrt(mean / measured.size) + 1e-6)
        assert measured.var() == pytest.approx(scale**2 * mean, rel=0.03)
        counts = (measured - (2.0 * (0 - dark) / (1 - dark) - 1.0)) / scale
        np.testing.assert_allclose(counts, np.rint(counts), atol=2e-3)


def test_longer_dwell_times_count_more_electrons() -> None:
    exposure = Exposure.per_position(10.0, 1e-6)
    dwell = np.array([1e-6] * 50 + [4e-6] * 50)
    measured = detect(PoissonCounting(), flat(1.0), exposure=exposure, dwell=dwell)
    assert measured[:, :50].var() == pytest.approx(4.0 / 10.0, rel=0.03)
    assert measured[:, 50:].var() == pytest.approx(4.0 / 40.0, rel=0.03)


def test_photomultiplier_spreads_as_equation_44_says() -> None:
    tube = Photomultiplier(photons=80.0, efficiency=0.2, gain=6.0, photon_variance=120.0, electronic=3.0)
    spread = math.sqrt((1 - 0.2 + 1 / 5) / (80 * 0.2) + 120 / 80**2)
    assert tube.spread == pytest.approx(spread)
    assert tube.width == pytest.approx(2.354820045 * spread)
    exposure = Exposure.per_position(50.0, 1e-6)
    for value in (-1.0, 0.0, 1.0):
        measured = detect(tube, flat(value), exposure=exposure)
        variance = (spread**2 * 50.0 * (value + 1) / 2 + 9.0) / 50.0**2
        assert measured.mean() == pytest.approx(value, abs=0.005)
        assert intensity(measured).var() == pytest.approx(variance, rel=0.03)


def test_one_electron_of_the_default_tube_spreads_by_its_photons() -> None:
    assert Photomultiplier().spread == pytest.approx(math.sqrt(1.0 / 25.0 + 1.0 / 100.0))


def test_step_response_of_the_detector_is_the_sum_of_its_weights() -> None:
    answer = intensity(detect(DetectorLag(3.0, n_remembered=8), step(), dwell=1.0))[0]
    weights = 3.0 / (4 * math.pi**2 * np.arange(8) ** 2 + 9.0)
    expected = np.cumsum(weights) / weights.sum()
    np.testing.assert_allclose(answer[:5], 0.0, atol=1e-7)
    np.testing.assert_allclose(answer[5:13], expected, rtol=1e-6)
    np.testing.assert_allclose(answer[13:], 1.0, rtol=1e-6)


def test_detector_lag_weighs_by_time_and_not_by_position() -> None:
    rng = np.random.default_rng(0)
    values, dwell = rng.uniform(-1, 1, (2, 12)), rng.uniform(0.5, 3.0, (2, 12))
    measured = detect(DetectorLag(4.0, n_remembered=5), values, dwell=dwell)
    times = np.cumsum(dwell, axis=1)
    for scan in range(2):
        for i in range(4, 12):
            ages = times[scan, i] - times[scan, i - 4 : i + 1]
            weights = 1.0 / (4 * math.pi**2 * ages**2 + 16.0)
            assert measured[scan, i] == pytest.approx(
                np.average(values[scan, i - 4 : i + 1], weights=weights), abs=1e-6
            )


@pytest.mark.parametrize(("period", "phase"), [(math.inf, math.pi / 2), (7.0, math.pi / 2), (9.0, 0.8)])
def test_step_response_of_the_read_out_is_the_sum_of_its_weights(period: float, phase: float) -> None:
    lags = np.linspace(0.0, 60.0, 600_001)
    weights = np.exp(-lags / 2.5) * np.sin(2 * math.pi * lags / period + phase)
    integral = np.concatenate([[0.0], np.cumsum((weights[1:] + weights[:-1]) / 2)])
    expected = integral[10_000:260_000:10_000] / integral[-1]
    answer = intensity(detect(ReadoutLag(2.5, period, phase), step(), dwell=1.0))[0]
    np.testing.assert_allclose(answer[:5], 0.0, atol=1e-7)
    np.testing.assert_allclose(answer[5:], expected, atol=2e-6)


def test_read_out_of_first_order_is_an_exponential_and_of_a_period_overshoots() -> None:
    plain = intensity(detect(ReadoutLag(2.5), step(), dwell=1.0))[0, 5:]
    np.testing.assert_allclose(plain, 1.0 - np.exp(-np.arange(1, 26) / 2.5), rtol=2e-6)
    assert intensity(detect(ReadoutLag(5.0, 10.0, 1.0), step(), dwell=1.0)).max() > 1.05


@given(st.floats(-1, 1, width=32), st.integers(0, 99))
def test_lags_keep_a_constant_whatever_the_dwell_times(value: float, seed: int) -> None:
    dwell = np.random.default_rng(seed).uniform(0.2, 2.0, (2, 15))
    for model in (DetectorLag(2.0), ReadoutLag(3.0, 9.0, 1.0), ReadoutLag(1.0)):
        measured = detect(model, np.full((2, 15), value), dwell=dwell)
        np.testing.assert_allclose(measured, value, atol=1e-6)


def test_dropouts_cover_the_share_of_their_chain_and_last_as_long_as_asked() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (400, 300))
    measured = detect(Dropouts(0.02, 6.0, (0.0, 0.0)), values)
    dropped = measured < -1.0 + 1e-6
    begins, ends = 0.02, 1 / 6.0
    share = begins / (begins + ends - begins * ends)
    assert dropped[:, 100:].mean() == pytest.approx(share, rel=0.05)
    np.testing.assert_allclose(measured[~dropped], values[~dropped], atol=1e-6)
    assert dropped[:, 0].mean() == pytest.approx(0.02, abs=0.02)


def test_a_dropout_shows_a_factor_times_its_mean_so_far() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (50, 20))
    measured = intensity(detect(Dropouts(1.0, 1e9, (0.5, 1.5)), values))
    mean = np.cumsum(intensity(values), axis=1) / np.arange(1, 21)
    factors = measured / mean
    np.testing.assert_allclose(factors, np.broadcast_to(factors[:, :1], factors.shape), rtol=1e-5)
    assert stats.kstest(factors[:, 0], stats.uniform(0.5, 1.0).cdf).pvalue > 0.01
    single = intensity(detect(Dropouts(1.0, 1.0, (0.7, 0.7)), values))
    np.testing.assert_allclose(single, 0.7 * intensity(values), atol=1e-6)


def test_dead_and_hot_readings_are_as_frequent_as_asked() -> None:
    measured = intensity(detect(FaultyReadings(dead=0.05, hot=0.02, level=3.0), flat(0.5)))
    values, counts = np.unique(measured.round(6), return_counts=True)
    assert values.tolist() == [0.0, 0.75, 3.0]
    np.testing.assert_allclose(counts / measured.size, [0.05, 0.93, 0.02], atol=0.004)


def test_zingers_add_exponential_bursts() -> None:
    bursts = intensity(detect(Zingers(0.1, 2.0), flat(-1.0)))
    hit = bursts > 0
    assert hit.mean() == pytest.approx(0.1, abs=0.006)
    assert stats.kstest(bursts[hit], stats.expon(scale=2.0).cdf).pvalue > 0.01


def test_saturation_clips_what_is_above_it() -> None:
    values = np.linspace(-1, 1, 9)[None]
    np.testing.assert_allclose(
        intensity(detect(Saturation(0.5), values)), np.minimum(intensity(values), 0.5), atol=1e-7
    )


def test_quantisation_error_is_uniform_over_a_step() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (N_SCANS, N_POSITIONS))
    step_size = 1 / 63
    measured = intensity(detect(Quantisation.of_bits(6, highest=1.0), values))
    np.testing.assert_allclose(measured / step_size, np.rint(measured / step_size), atol=1e-4)
    error = measured - intensity(values)
    assert error.var() == pytest.approx(step_size**2 / 12, rel=0.01)
    assert np.abs(error).max() <= step_size / 2 + 1e-6


def test_duration_noise_grows_as_the_dwell_time_shrinks() -> None:
    dwell = np.array([1.0] * 50 + [4.0] * 50)
    measured = intensity(detect(DurationNoise(4.0), flat(0.2), dwell=dwell))
    assert measured[:, :50].mean() == pytest.approx(0.6, rel=0.01)
    assert measured[:, :50].std() == pytest.approx(0.6 * 0.75 / math.sqrt(3), rel=0.01)
    np.testing.assert_allclose(measured[:, 50:], 0.6, rtol=1e-6)


NONE = [
    PoissonCounting(),
    Photomultiplier(electronic=9.0),
    DetectorLag(0.0),
    ReadoutLag(0.0),
    Dropouts(0.0),
    FaultyReadings(),
    Zingers(0.0),
    Saturation(math.inf),
    Quantisation(0.0),
    DurationNoise(0.0),
]


@pytest.mark.parametrize("none", NONE, ids=lambda model: type(model).__name__)
def test_no_fault_is_none_to_the_last_bit(none) -> None:
    assert none.is_ideal(Exposure())
    values = np.random.default_rng(0).uniform(-1, 1, (3, 20)).astype(np.float32) * np.float32(1e-3)
    np.testing.assert_array_equal(detect(none, values).astype(np.float32), values)


SMALL = [
    DetectorLag(1e-9),
    ReadoutLag(1e-3),
    Dropouts(1.0, 1.0, (1.0, 1.0)),
    Saturation(1.0),
    Quantisation(1e-9),
    DurationNoise(1.0),
]


@pytest.mark.parametrize("small", SMALL, ids=lambda model: type(model).__name__)
def test_small_faults_are_close_to_none(small) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (3, 20))
    np.testing.assert_allclose(detect(small, values, dwell=1.0), values, atol=1e-6)


def test_a_large_dose_is_close_to_none() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (3, 20))
    for model in (PoissonCounting(), Photomultiplier()):
        measured = detect(model, values, exposure=Exposure.per_position(1e12, 1e-6))
        np.testing.assert_allclose(measured, values, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Photomultiplier(photons=0.0), "photons: got 0.0"),
        (lambda: Photomultiplier(efficiency=1.1), r"efficiency: got 1.1; expected a number in \(0, 1\]"),
        (lambda: Photomultiplier(gain=1.0), "gain: got 1.0"),
        (lambda: Photomultiplier(photon_variance=-1.0), "photon_variance: got -1.0"),
        (lambda: Photomultiplier(electronic=-1.0), "electronic: got -1.0"),
        (lambda: DetectorLag(-1.0), "alpha: got -1.0"),
        (lambda: DetectorLag(1.0, 1), r"n_remembered: got 1; expected a number in \[2"),
        (lambda: ReadoutLag(-1.0), "decay: got -1.0"),
        (lambda: ReadoutLag(1.0, 0.0), "period: got 0.0"),
        (lambda: ReadoutLag(1.0, phase=0.0), "phase: got 0.0"),
        (lambda: ReadoutLag(1.0, 1.0, 1.6), "phase: got 1.6"),
        (lambda: Dropouts(1.1), "probability: got 1.1"),
        (lambda: Dropouts(0.1, 0.5), "length: got 0.5"),
        (lambda: Dropouts(0.1, factors=(1.0, 0.5)), r"factors: got \(1.0, 0.5\); expected 0 <= lowest <= highest"),
        (lambda: FaultyReadings(0.6, 0.6), r"hot: got 0.6; expected a number in \[0, 0.4\]"),
        (lambda: FaultyReadings(level=-1.0), "level: got -1.0"),
        (lambda: Zingers(-0.1), "probability: got -0.1"),
        (lambda: Zingers(0.1, -1.0), "brightness: got -1.0"),
        (lambda: Saturation(0.0), "level: got 0.0"),
        (lambda: Quantisation(-1.0), "step: got -1.0"),
        (lambda: Quantisation.of_bits(0), "n_bits: got 0"),
        (lambda: DurationNoise(-1.0), "full_dwell: got -1.0"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
