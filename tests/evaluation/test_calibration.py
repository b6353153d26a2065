"""Calibration of predicted errors: against data whose calibration is known, and slow sums."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from adaptive_scan.evaluation.calibration import (
    ErrorSample,
    bootstrap_calibration,
    calibration_error,
    calibration_summary,
    interval_coverage,
    nominal_coverage,
    rank_correlation,
    relative_calibration_error,
    reliability_curve,
    sample_errors,
    sparsification,
)
from adaptive_scan.files import write_json
from adaptive_scan.generators import LinearCompleter, NearestCompleter
from adaptive_scan.generators.completers import InfillCompleter
from adaptive_scan.generators.uncertainty import EnsembleCompleter


def calibrated(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations over a decade, and normal errors that have them."""
    rng = np.random.default_rng(seed)
    sigmas = 10.0 ** rng.uniform(-2, -1, n)
    return sigmas, sigmas * rng.normal(size=n)


def make_sample(n_groups: int = 6, n_each: int = 3, n_pixels: int = 200, seed: int = 0) -> ErrorSample:
    n_scans = n_groups * n_each
    sigmas, errors = (array.reshape(n_scans, n_pixels) for array in calibrated(n_scans * n_pixels, seed))
    levels = [0.5 * np.sqrt(np.square(values).mean(axis=1)) for values in (sigmas, errors)]
    return ErrorSample(sigmas, errors, levels[0], levels[1], np.repeat(np.arange(n_groups), n_each))


def test_predictions_that_are_right_have_an_error_of_sampling_alone() -> None:
    for n, largest in ((3_000, 0.1), (300_000, 0.01)):
        curve = reliability_curve(*calibrated(n))
        # sqrt(2 / pi) of the deviation predicted / sqrt(2 n) of the RMSE of a bin of n pixels is its mean distance.
        expected = np.sqrt(2 / np.pi) * np.sum(curve.weights * curve.predicted / np.sqrt(2 * curve.weights * n))
        assert calibration_error(curve) == pytest.approx(expected, rel=0.6)
        assert relative_calibration_error(curve) < largest


def test_predictions_twice_too_large_have_the_known_error() -> None:
    sigmas, errors = calibrated(300_000)
    level = np.mean(reliability_curve(sigmas, errors).observed)
    assert calibration_error(reliability_curve(2.0 * sigmas, errors)) == pytest.approx(level, rel=0.02)
    assert relative_calibration_error(reliability_curve(2.0 * sigmas, errors)) == pytest.approx(1.0, abs=0.02)
    assert relative_calibration_error(reliability_curve(0.5 * sigmas, errors)) == pytest.approx(0.5, abs=0.02)


@given(factor=st.floats(0.01, 100), seed=st.integers(0, 100), n_bins=st.integers(1, 30))
def test_a_common_factor_is_the_relative_error(factor: float, seed: int, n_bins: int) -> None:
    errors = np.random.default_rng(seed).normal(size=200)
    curve = reliability_curve(factor * np.abs(errors), errors, n_bins=n_bins)
    assert relative_calibration_error(curve) == pytest.approx(abs(factor - 1.0), abs=1e-9)
    assert curve.weights.sum() == pytest.approx(1.0)
    assert (np.diff(curve.predicted) > 0).all()


def test_the_curve_is_that_of_a_slow_loop_over_bins_of_equal_numbers(rng: np.random.Generator) -> None:
    predicted, errors = rng.permutation(np.arange(1.0, 41.0)).reshape(5, 8), rng.normal(size=(5, 8))
    curve = reliability_curve(predicted, errors, n_bins=4)
    pixels = sorted(zip(predicted.ravel(), errors.ravel(), strict=True))
    for index in range(4):
        inside = pixels[10 * index : 10 * index + 10]
        assert curve.weights[index] == pytest.approx(0.25)
        assert curve.predicted[index] == pytest.approx(np.sqrt(np.mean([p**2 for p, _ in inside])))
        assert curve.observed[index] == pytest.approx(np.sqrt(np.mean([e**2 for _, e in inside])))


def test_equal_predictions_are_one_bin() -> None:
    curve = reliability_curve(np.full(50, 0.5), np.linspace(-1, 1, 50))
    assert [len(values) for values in curve] == [1, 1, 1]
    curve = reliability_curve(np.repeat([0.1, 0.9], [95, 5]), np.ones(100), n_bins=10)
    assert curve.weights.tolist() == pytest.approx([0.95, 0.05])


def test_no_errors_have_no_relative_error() -> None:
    assert relative_calibration_error(reliability_curve(np.ones(4), np.zeros(4))) is None
    assert sparsification(np.ones(4), np.zeros(4)).area is None


def test_normal_errors_are_covered_as_the_normal_law_says() -> None:
    sigmas, errors = calibrated(200_000)
    for n_sigmas, nominal in ((1.0, 0.682689), (2.0, 0.954500), (3.0, 0.997300)):
        assert nominal_coverage(n_sigmas) == pytest.approx(nominal, abs=1e-6)
        assert interval_coverage(sigmas, errors, n_sigmas) == pytest.approx(nominal, abs=0.004)
    assert interval_coverage(2.0 * sigmas, errors, 1.0) == interval_coverage(sigmas, errors, 2.0)


def test_sparsification_is_zero_for_a_perfect_ranking_and_flat_for_none(rng: np.random.Generator) -> None:
    errors = rng.normal(size=4_000)
    perfect = sparsification(np.square(errors), errors)
    assert perfect.area == 0.0
    np.testing.assert_array_equal(perfect.remaining, perfect.oracle)
    blind = sparsification(rng.uniform(size=4_000), errors)
    np.testing.assert_allclose(blind.remaining, 1.0, atol=0.1)
    assert blind.area > 0.4
    worst = sparsification(-np.abs(errors), errors)
    assert worst.area > blind.area


def test_sparsification_is_that_of_a_slow_loop(rng: np.random.Generator) -> None:
    predicted, errors = rng.uniform(size=30), rng.normal(size=30)
    found = sparsification(predicted, errors, n_shares=5)
    for index, share in enumerate((0.0, 0.2, 0.4, 0.6, 0.8)):
        left = 30 - round(30 * share)
        assert found.shares[index] == pytest.approx(share)
        assert found.remaining[index] == pytest.approx(np.sqrt(np.mean(errors[np.argsort(predicted)[:left]] ** 2)))
        assert found.oracle[index] == pytest.approx(np.sqrt(np.mean(np.sort(errors**2)[:left])))


@given(seed=st.integers(0, 1000))
def test_rank_correlation_is_spearman_s(seed: int) -> None:
    first, second = np.random.default_rng(seed).integers(0, 6, (2, 12)).astype(float)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert rank_correlation(first, second) is None
    else:
        assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)


def test_resamples_are_of_groups_so_that_copies_within_them_bring_no_certainty() -> None:
    sample = make_sample()
    twice = sample.chosen(np.repeat(np.arange(len(sample.rmse)), 2))
    bands = [bootstrap_calibration(one, np.random.default_rng(1)) for one in (sample, twice)]
    assert bands[0] is not None
    assert bands[1] is not None
    for first, second in zip(*bands, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6)
    lower, upper = bands[0].observed
    assert (lower < upper).all()
    curve = reliability_curve(sample.predicted, sample.errors)
    assert ((lower <= curve.observed) & (curve.observed <= upper)).all()


def test_bands_are_those_of_a_slow_resampling() -> None:
    sample = make_sample(n_groups=3, n_each=2, n_pixels=40)
    found = bootstrap_calibration(sample, np.random.default_rng(5), n_bins=1, n_resamples=50)
    assert found is not None
    drawn = np.random.default_rng(5).multinomial(3, np.full(3, 1 / 3), size=50)
    gaps = []
    for counts in drawn:
        which = np.concatenate([np.flatnonzero(sample.groups == group) for group in np.repeat(np.arange(3), counts)])
        levels = [np.sqrt(np.mean(array[which] ** 2)) for array in (sample.predicted, sample.errors)]
        gaps.append(abs(levels[1] - levels[0]))
    assert found.error == pytest.approx(tuple(np.quantile(gaps, [0.025, 0.975])))


def test_a_bin_that_a_resample_may_miss_has_no_band() -> None:
    # One group alone has large predicted errors; a resample without it says nothing of them, least of all that
    # nothing was wrong there.
    predicted = np.concatenate((np.full((5, 40), 0.1), np.full((1, 40), 0.9)))
    errors = predicted * np.random.default_rng(0).normal(size=predicted.shape)
    sample = ErrorSample(predicted, errors, np.full(6, 0.1), np.full(6, 0.1), np.arange(6))
    bands = bootstrap_calibration(sample, np.random.default_rng(1), n_bins=12)
    assert bands is not None
    assert np.isnan(bands.observed).tolist() == [[False, True]] * 2
    assert (bands.observed[:, 0] > 0.05).all()
    lower, upper = calibration_summary(sample, np.random.default_rng(1), n_bins=12)["reliability"]["observed_interval"]
    assert lower == [pytest.approx(0.5 * bands.observed[0, 0], rel=0.05), None]
    assert upper[1] is None


def test_one_group_has_no_interval() -> None:
    sample = make_sample(n_groups=1)
    assert bootstrap_calibration(sample, np.random.default_rng(0)) is None
    summary = calibration_summary(sample, np.random.default_rng(0))
    assert summary["ece_interval"] is None
    assert summary["reliability"]["observed_interval"] is None


def test_samples_hold_what_the_completer_predicts_and_gets_wrong(rng: np.random.Generator) -> None:
    masks = rng.random((5, 12, 12)) < 0.2
    masks[:, 6, 6] = True
    targets = rng.uniform(-1, 1, (5, 12, 12)).astype(np.float32)
    scans = np.stack([targets * masks, masks], axis=1).astype(np.float32)
    completer = EnsembleCompleter([NearestCompleter(), LinearCompleter(), InfillCompleter()])
    whole = sample_errors(completer, scans, targets, np.arange(5), rng, n_pixels=10**6, batch_size=2)
    completions, sigmas = (pictures.numpy()[:, 0] for pictures in completer.with_error(torch.from_numpy(scans)))
    errors = completions - targets
    assert whole.errors.shape == (5, 144)
    np.testing.assert_allclose(np.sort(whole.errors), np.sort(errors.reshape(5, -1)), atol=1e-6)
    np.testing.assert_allclose(whole.rmse, 0.5 * np.sqrt((errors**2).mean(axis=(1, 2))), rtol=1e-5)
    np.testing.assert_allclose(whole.predicted_rmse, 0.5 * np.sqrt((sigmas**2).mean(axis=(1, 2))), rtol=1e-5)
    some = sample_errors(completer, scans, targets, np.arange(5), rng, n_pixels=7)
    pairs = {*zip(sigmas.ravel().tolist(), errors.ravel().tolist(), strict=True)}
    assert some.predicted.shape == (5, 7)
    assert {*zip(some.predicted.ravel().tolist(), some.errors.ravel().tolist(), strict=True)} <= pairs
    np.testing.assert_allclose(some.rmse, whole.rmse)


def test_the_summary_is_on_zero_to_one_and_goes_into_json(tmp_path: Path) -> None:
    sample = make_sample()
    summary = calibration_summary(sample, np.random.default_rng(0))
    write_json(tmp_path / "summary.json", summary)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    curve = reliability_curve(sample.predicted, sample.errors)
    assert summary["ece"] == pytest.approx(0.5 * calibration_error(curve))
    assert summary["rmse"] == pytest.approx(0.5 * np.sqrt(np.mean(sample.errors**2)))
    assert summary["predicted_rmse"] == pytest.approx(0.5 * np.sqrt(np.mean(sample.predicted**2)))
    assert (summary["n_scans"], summary["n_groups"]) == (18, 6)
    doubled = calibration_summary(sample.scaled(2.0), np.random.default_rng(0))
    assert doubled["relative_ece"] == pytest.approx(1.0, abs=0.1)
    assert doubled["ause"] == summary["ause"]
    assert doubled["rank_correlation"] == summary["rank_correlation"]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes \(3,\) and \(4,\); expected the same, of at least one pixel"):
        reliability_curve(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="n_bins: got 0; expected at least 1"):
        reliability_curve(np.ones(3), np.ones(3), n_bins=0)
    ones = np.ones((3, 4))
    with pytest.raises(ValueError, match=r"expected \(n_scans, n_pixels\) and \(n_scans,\)"):
        ErrorSample(ones, ones, ones[:, 0], ones[:2, 0], np.arange(3))
