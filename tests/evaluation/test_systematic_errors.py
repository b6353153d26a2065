"""Systematic errors: sums, bins, curves and intervals against closed forms and slow loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from adaptive_scan.evaluation import static_contenders
from adaptive_scan.evaluation.statistics import bootstrap_ratio
from adaptive_scan.evaluation.systematic_errors import (
    HISTOGRAM_EDGES,
    Crops,
    SystematicErrors,
    edge_bins,
    measure_errors,
    path_bins,
    resampled_rmse,
)
from adaptive_scan.generators import NearestCompleter
from adaptive_scan.generators.distance import distance_to_measured
from adaptive_scan.scans import ScanGeometry

batches_of_masks = st.tuples(st.integers(1, 3), st.integers(2, 9)).flatmap(
    lambda shape: arrays(bool, (shape[0], shape[1], shape[1]))
)


def nearest(masks: np.ndarray, n: int, row: int, column: int) -> float:
    """Distance to the nearest measured pixel, by looking at all of them."""
    measured = np.argwhere(masks[n])
    return min((math.dist((row, column), place) for place in measured), default=float(masks.shape[1]))


@given(batches_of_masks)
def test_every_pixel_is_in_one_bin_of_each_curve(masks: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    errors = SystematicErrors(masks.shape[1])
    completions = rng.uniform(-1, 1, masks.shape)
    errors.add(completions, np.zeros(masks.shape), masks, ["a", "b", "c"][: len(masks)])
    bins = path_bins(masks)
    for n, row, column in np.ndindex(*masks.shape):
        distance = nearest(masks, n, row, column)
        assert bins[n, row, column] - 1 < distance <= bins[n, row, column] or distance == bins[n, row, column] == 0
    for curve in (errors.path_curve(rng, n_resamples=10), errors.edge_curve(rng, n_resamples=10)):
        assert curve.n_pixels.sum() == masks.size
        # All errors are in the curves, none twice: the curves' mean square is that of all pixels.
        assert np.average(curve.rmse**2, weights=curve.n_pixels) == pytest.approx(0.25 * np.mean(completions**2))


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_distance_from_the_edge_counts_the_steps_to_it(size: int) -> None:
    found = edge_bins(size)
    for row, column in np.ndindex(size, size):
        assert found[row, column] == min(row, column, size - 1 - row, size - 1 - column)


def test_the_map_is_that_of_a_slow_loop_however_pictures_come(rng: np.random.Generator) -> None:
    completions, targets = rng.uniform(-1, 1, (2, 7, 6, 6)).astype(np.float32)
    masks, groups = rng.random((7, 6, 6)) < 0.2, list("aabbbca")
    whole, parts = SystematicErrors(6), SystematicErrors(6)
    whole.add(completions, targets, masks, groups)
    for part in (slice(0, 2), slice(2, 3), slice(3, 7)):
        parts.add(completions[part], targets[part], masks[part], groups[part])

    expected = np.empty((6, 6))
    for row, column in np.ndindex(6, 6):
        total = 0.0
        for n in range(7):
            total += (float(completions[n, row, column]) - float(targets[n, row, column])) ** 2
        expected[row, column] = 0.5 * math.sqrt(total / 7)
    np.testing.assert_allclose(whole.map, expected, rtol=1e-12)
    np.testing.assert_allclose(parts.map, expected, rtol=1e-12)
    assert (parts.n_pictures, parts.n_groups) == (7, 3)
    for name in ("path_curve", "edge_curve"):
        one, other = (getattr(errors, name)(np.random.default_rng(0)) for errors in (whole, parts))
        for values, others in zip(one, other, strict=True):
            np.testing.assert_allclose(values, others, rtol=1e-12)


def test_an_error_that_is_a_function_of_distance_is_found_exactly() -> None:
    def completer(partial_scans: Tensor) -> Tensor:
        """Off by 0.02 for every pixel of distance, rounded up: the crops are 0."""
        return 0.02 * distance_to_measured(partial_scans[:, 1]).ceil()[:, None]

    crops = Crops(np.zeros((5, 24, 24), np.float32), list("abcde"))
    found = measure_errors(
        [crops], static_contenders(["spiral", "random"]), {"ramp": completer}, ScanGeometry(24, 1, 30)
    )
    for errors in found.values():
        curve = errors.path_curve(np.random.default_rng(0))
        assert len(curve.distances) > 4
        np.testing.assert_allclose(curve.rmse, 0.01 * curve.distances, rtol=1e-6)
        present = np.isfinite(curve.low)
        np.testing.assert_allclose(curve.low[present], curve.rmse[present], rtol=1e-6)
        np.testing.assert_allclose(curve.high[present], curve.rmse[present], rtol=1e-6)


def test_an_error_that_is_a_function_of_the_edge_distance_is_found_exactly() -> None:
    ramp = 0.1 * (1 + edge_bins(9))
    errors = SystematicErrors(9)
    errors.add(ramp[None], np.zeros((1, 9, 9)), np.ones((1, 9, 9)), ["a"])
    curve = errors.edge_curve(np.random.default_rng(0))
    assert curve.distances.tolist() == [0, 1, 2, 3, 4]
    assert curve.n_pixels.tolist() == [32, 24, 16, 8, 1]
    np.testing.assert_allclose(curve.rmse, 0.05 * (1 + curve.distances), rtol=1e-12)
    assert np.isnan(curve.low).all(), "one group has no interval"


def test_pictures_are_counted_by_their_rmse() -> None:
    levels = np.array([0.0, 0.00223, 0.00225, 0.1, 0.2239, 0.2241, 0.9])
    errors = SystematicErrors(4)
    completions = np.broadcast_to(2.0 * levels[:, None, None], (7, 4, 4))
    errors.add(completions, np.zeros((7, 4, 4)), np.ones((7, 4, 4)), ["a"] * 7)
    expected, _ = np.histogram(levels, bins=[*HISTOGRAM_EDGES, np.inf])
    assert errors.histogram.tolist() == expected.tolist()
    assert errors.histogram[[0, 1, 99, 100]].tolist() == [2, 1, 1, 2]
    assert errors.histogram.sum() == 7


def test_intervals_are_those_of_the_bootstrap_of_ratios(rng: np.random.Generator) -> None:
    sums, counts = rng.gamma(2.0, size=(12, 3)), rng.integers(1, 9, (12, 3)).astype(np.float64)
    low, high = resampled_rmse(sums, counts, np.random.default_rng(5), n_resamples=300)
    for column in range(3):
        interval = bootstrap_ratio(
            sums[:, column], counts[:, column], np.arange(12), np.random.default_rng(5), n_resamples=300
        )
        assert interval is not None
        # The square root of a quantile is not quite the quantile of square roots between two resamples.
        np.testing.assert_allclose([low[column], high[column]], 0.5 * np.sqrt(interval), rtol=2e-3)


def test_distances_that_few_groups_have_get_no_interval() -> None:
    sums, counts = np.array([[1.0, 1.0], [1.0, 0.0], [2.0, 0.0]]), np.array([[4.0, 2.0], [4.0, 0.0], [4.0, 0.0]])
    low, high = resampled_rmse(sums, counts, np.random.default_rng(0))
    assert np.isfinite([low[0], high[0]]).all()
    assert np.isnan([low[1], high[1]]).all()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda scans: scans, r"got completions \(2, 2, 16, 16\); expected \(2, 1, 16, 16\)"),
        (lambda scans: torch.full_like(scans[:, :1], torch.nan), "got completions that are not finite"),
    ],
)
def test_completers_with_unusable_answers_are_named(answer: NearestCompleter, message: str) -> None:
    crops = Crops(np.zeros((2, 16, 16), np.float32), ["a", "b"])
    with pytest.raises(ValueError, match=f"completer 'mine': {message}"):
        measure_errors([crops], static_contenders(["spiral"]), {"mine": answer}, ScanGeometry(16, 4, 4))


@pytest.mark.parametrize("groups", [["a"], ["a", "b", "c"]])
def test_shapes_that_do_not_fit_are_refused(groups: Sequence[str]) -> None:
    pictures = np.zeros((2, 4, 4))
    with pytest.raises(ValueError, match="completions, targets and masks have shapes"):
        SystematicErrors(4).add(pictures, pictures, pictures, groups)
    with pytest.raises(ValueError, match="errors hold no picture; expected at least one"):
        _ = SystematicErrors(4).map
