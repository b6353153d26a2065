"""Displacements of the probe, against their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from adaptive_scan.acquisition import CoilLag, Exposure, ScanJitter, SpecimenDrift
from tests.acquisition.conftest import displace

STILL = np.zeros((4000, 30, 2))


def ramp(n: int, speed: float, axis: int = 0) -> np.ndarray:
    path = np.zeros((1, n, 2))
    path[0, :, axis] = speed * np.arange(n)
    return path


def test_jitter_has_its_deviation_from_the_first_position_on_and_the_autocorrelation_of_its_time() -> None:
    jitter = displace(ScanJitter(0.5, 4e-6), STILL, dwell=1e-6)
    np.testing.assert_allclose(jitter.std(axis=0), 0.5, rtol=0.05)
    np.testing.assert_allclose(jitter.mean(axis=0), 0.0, atol=0.04)
    for lag in (1, 4, 9):
        correlation = np.mean(jitter[:, lag:] * jitter[:, :-lag]) / 0.25
        assert correlation == pytest.approx(math.exp(-lag / 4.0), abs=0.02)
    assert abs(np.mean(jitter[..., 0] * jitter[..., 1])) < 0.01


def test_jitter_is_the_series_of_equation_41() -> None:
    series = ScanJitter.of_series(sigma=0.75, phi=0.6, dwell=2e-6)
    jitter = displace(series, STILL, dwell=2e-6)
    innovations = jitter[:, 1:] - 0.6 * jitter[:, :-1]
    assert innovations.std() == pytest.approx(0.75, rel=0.01)
    assert abs(np.mean(innovations[:, 1:] * innovations[:, :-1])) < 0.01
    assert jitter[:, 0].std() == pytest.approx(0.75 / math.sqrt(1 - 0.36), rel=0.03)


def test_jitter_without_memory_is_white() -> None:
    jitter = displace(ScanJitter(0.5), STILL)
    assert abs(np.mean(jitter[:, 1:] * jitter[:, :-1])) < 0.005
    assert jitter.std() == pytest.approx(0.5, rel=0.01)


def test_jitter_forgets_more_in_longer_dwell_times() -> None:
    dwell = np.array([1e-6] * 15 + [8e-6] * 15)
    jitter = displace(ScanJitter(1.0, 4e-6), STILL, dwell=dwell)
    short, long = np.mean(jitter[:, 1:15] * jitter[:, :14]), np.mean(jitter[:, 15:] * jitter[:, 14:-1])
    assert short == pytest.approx(math.exp(-0.25), abs=0.02)
    assert long == pytest.approx(math.exp(-2.0), abs=0.02)


def test_drift_is_a_straight_line_in_time() -> None:
    dwell = np.array([1.0, 2.0, 0.5, 4.0])
    drifted = displace(SpecimenDrift(speed=3.0, heading=math.pi / 6), np.zeros((2, 4, 2)), dwell=dwell)
    expected = 3.0 * np.cumsum(dwell)[:, None] * [math.cos(math.pi / 6), 0.5]
    np.testing.assert_allclose(drifted, np.broadcast_to(expected, (2, 4, 2)), rtol=1e-6)


def test_drift_takes_any_direction_and_keeps_it() -> None:
    drifted = displace(SpecimenDrift(speed=1.0), STILL, dwell=1.0)
    angles = np.arctan2(drifted[..., 1], drifted[..., 0])
    np.testing.assert_allclose(angles, np.broadcast_to(angles[:, :1], angles.shape), atol=1e-5)
    assert abs(np.exp(1j * angles[:, 0]).mean()) < 0.05
    np.testing.assert_allclose(np.linalg.norm(drifted, axis=2)[:, -1], 30.0, rtol=1e-5)


def test_random_walk_spreads_with_the_root_of_time() -> None:
    walked = displace(SpecimenDrift(diffusion=0.3), STILL, dwell=0.01)
    times = 0.01 * np.arange(1, 31)
    np.testing.assert_allclose(walked.var(axis=0), 0.09 * times[:, None] * [1.0, 1.0], rtol=0.12)
    steps = np.diff(walked, axis=1)
    assert abs(np.mean(steps[:, 1:] * steps[:, :-1])) < 0.02 * steps.var()


@given(st.floats(0.1, 20.0), st.sampled_from([math.inf, 0.3, 1.0, 1.7]), st.floats(-3.0, 3.0))
def test_straight_line_at_constant_speed_lags_by_speed_times_time_constant(
    time_constant: float, damping: float, speed: float
) -> None:
    n = int(60 + 60 * time_constant)
    path = ramp(n, speed)
    lagged = displace(CoilLag(time_constant, damping), path, dwell=1.0)
    assert path[0, -1, 0] - lagged[0, -1, 0] == pytest.approx(speed * time_constant, abs=1e-6 * n * (1 + abs(speed)))
    np.testing.assert_array_equal(lagged[..., 1], 0.0)


def test_step_response_of_the_first_order_is_an_exponential() -> None:
    path = np.zeros((1, 12, 2))
    path[:, 1:, 1] = 1.0
    lagged = displace(CoilLag(2.0), path, dwell=1.0)[0, :, 1]
    # The command rises within the first dwell time, then stands still.
    after_rise = 2.0 * (1.0 - math.exp(-0.5))
    expected = 1.0 - after_rise * np.exp(-np.arange(11) / 2.0)
    np.testing.assert_allclose(lagged[1:], expected, rtol=1e-6)
    assert lagged[0] == 0.0
    sudden = displace(CoilLag(2.0), path, dwell=np.array([1.0, 1e-9] + [1.0] * 10))[0, :, 1]
    np.testing.assert_allclose(sudden[1:], 1.0 - np.exp(-np.arange(11) / 2.0), atol=1e-6)


@pytest.mark.parametrize("damping", [0.2, 0.9999, 1.0, 1.0001, 3.0])
def test_second_order_solves_its_differential_equation(damping: float) -> None:
    tau, rng = 1.5, np.random.default_rng(0)
    path, dwell = rng.normal(0, 1, (1, 9, 2)), rng.uniform(0.3, 2.0, 9)
    times, rate = np.cumsum(dwell), 2.0 * damping / tau
    commands = [np.interp(times, times, path[0, :, axis]) for axis in range(2)]

    def slope(t: float, y: np.ndarray) -> list[float]:
        command = np.interp(t, times, commands[0])
        return [y[1], rate**2 * (command - y[0]) - 2 * damping * rate * y[1]]

    exact = solve_ivp(slope, (times[0], times[-1]), [path[0, 0, 0], 0.0], "DOP853", times, rtol=1e-9, max_step=0.02)
    lagged = displace(CoilLag(tau, damping), path, dwell=dwell)[0, :, 0]
    np.testing.assert_allclose(lagged, exact.y[0], atol=2e-5)


def test_strong_damping_is_the_first_order() -> None:
    path = np.random.default_rng(0).normal(0, 1, (1, 40, 2))
    first, strong = displace(CoilLag(3.0), path, dwell=1.0), displace(CoilLag(3.0, 100.0), path, dwell=1.0)
    np.testing.assert_allclose(strong, first, atol=1e-3)


def test_sharp_turns_are_cut() -> None:
    path = np.concatenate([ramp(40, 1.0), np.array([39.0, 0.0]) + ramp(40, 1.0, axis=1)], axis=1)
    lagged = displace(CoilLag(3.0), path, dwell=1.0)
    assert np.linalg.norm(lagged[0] - path[0, 39], axis=1).min() > 1.0
    assert lagged[0, :, 0].max() < 39.0


@pytest.mark.parametrize("small", [ScanJitter(1e-9, 1.0), SpecimenDrift(1e-9, 1e-9), CoilLag(1e-9), CoilLag(1e-9, 0.7)])
def test_small_faults_are_close_to_none(small: object) -> None:
    path = np.random.default_rng(0).uniform(0, 95, (3, 20, 2)).astype(np.float32)
    np.testing.assert_allclose(displace(small, path, dwell=1.0), path, atol=1e-5)


@pytest.mark.parametrize("none", [ScanJitter(0.0, 1.0), SpecimenDrift(), CoilLag(0.0)])
def test_no_fault_is_none(none) -> None:
    assert none.is_ideal(Exposure())
    path = np.random.default_rng(0).uniform(-9, 99, (3, 20, 2)).astype(np.float32)
    np.testing.assert_array_equal(displace(none, path), path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScanJitter(-0.1), "deviation: got -0.1; expected a number in"),
        (lambda: ScanJitter(0.1, math.inf), "correlation_time: got inf"),
        (lambda: ScanJitter.of_series(0.1, 1.0, 1e-6), r"phi: got 1.0; expected a number in \[0, 1\)"),
        (lambda: SpecimenDrift(math.nan), "speed: got nan"),
        (lambda: SpecimenDrift(1.0, heading=math.inf), "heading: got inf; expected a finite angle"),
        (lambda: CoilLag(-1.0), "time_constant: got -1.0"),
        (lambda: CoilLag(1.0, 0.0), r"damping: got 0.0; expected a number in \[0.05, 100\]"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
