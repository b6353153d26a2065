from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adaptive_scan.evaluation import bootstrap_ratio, ratio_of_means, win_rate
from adaptive_scan.evaluation import statistics as module

losses_of_six = arrays(np.float64, 6, elements=st.floats(0.01, 100.0))


def test_ratio_is_of_means_and_not_the_mean_of_ratios() -> None:
    assert ratio_of_means(np.array([1.0, 3.0]), np.array([4.0, 1.0])) == 0.8


def test_ratio_to_a_perfect_reference_does_not_exist() -> None:
    zeros = np.zeros(4)
    assert ratio_of_means(np.ones(4), zeros) is None
    assert bootstrap_ratio(np.ones(4), zeros, np.arange(4), np.random.default_rng(0)) is None


def test_win_rate_counts_ties_half() -> None:
    assert win_rate(np.array([1.0, 2.0, 3.0, 5.0]), np.array([2.0, 2.0, 2.0, 6.0])) == 0.625


@given(losses=losses_of_six, other=losses_of_six)
def test_win_rates_of_both_sides_add_to_one(losses: np.ndarray, other: np.ndarray) -> None:
    assert win_rate(losses, other) + win_rate(other, losses) == 1.0


@given(losses=losses_of_six, n_micrographs=st.integers(2, 6))
def test_the_same_scan_has_ratio_one_exactly(losses: np.ndarray, n_micrographs: int) -> None:
    groups = np.arange(6) % n_micrographs
    assert ratio_of_means(losses, losses.copy()) == 1.0
    assert bootstrap_ratio(losses, losses.copy(), groups, np.random.default_rng(1)) == (1.0, 1.0)
    assert win_rate(losses, losses.copy()) == 0.5


@given(reference=losses_of_six, factor=st.floats(0.1, 10.0))
def test_proportional_losses_have_an_interval_of_no_width(reference: np.ndarray, factor: float) -> None:
    interval = bootstrap_ratio(factor * reference, reference, np.arange(6), np.random.default_rng(1))
    assert interval == pytest.approx((factor, factor), rel=1e-9)


def all_resampled_ratios(losses: np.ndarray, reference: np.ndarray, groups: np.ndarray) -> np.ndarray:
    names = np.unique(groups)
    ratios = []
    for drawn in itertools.product(names, repeat=len(names)):
        crops = np.concatenate([np.flatnonzero(groups == name) for name in drawn])
        ratios.append(losses[crops].mean() / reference[crops].mean())
    return np.array(ratios)


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
def test_interval_equals_that_of_all_possible_resamples(confidence: float) -> None:
    rng = np.random.default_rng(3)
    groups = np.array([2, 0, 0, 1, 3, 3, 3, 4, 2, 4, 1])
    reference = rng.uniform(0.5, 2.0, len(groups))
    losses = reference * rng.uniform(0.5, 1.5, len(groups))
    exact = np.quantile(all_resampled_ratios(losses, reference, groups), [(1 - confidence) / 2, (1 + confidence) / 2])
    found = bootstrap_ratio(losses, reference, groups, rng, n_resamples=100_000, confidence=confidence)
    # 5^5 resamples: neighbouring quantiles of the exact distribution lie about 1e-3 apart.
    assert found == pytest.approx(tuple(exact), abs=4e-3)


def test_crops_of_one_micrograph_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(4)
    effects = rng.uniform(0.6, 1.4, 12)
    groups = np.repeat(np.arange(12), 50)
    reference = np.ones(600)
    by_micrograph = bootstrap_ratio(effects[groups], reference, groups, np.random.default_rng(0))
    by_crop = bootstrap_ratio(effects[groups], reference, np.arange(600), np.random.default_rng(0))
    alone = bootstrap_ratio(effects, np.ones(12), np.arange(12), np.random.default_rng(0))
    assert by_micrograph is not None
    assert by_crop is not None
    # Fifty copies of each micrograph's crop say what one copy says, and no more.
    assert by_micrograph == pytest.approx(alone, rel=1e-9)
    widths = [np.diff(interval)[0] for interval in (by_micrograph, by_crop)]
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(50), rel=0.1)


def test_nominal_95_percent_interval_holds_the_true_ratio_about_as_often() -> None:
    rng = np.random.default_rng(5)
    n_trials, n_micrographs = 600, 60
    groups = np.repeat(np.arange(n_micrographs), rng.integers(1, 6, n_micrographs))
    hits = 0
    for _ in range(n_trials):
        difficulty = rng.gamma(2.0, 0.5, n_micrographs)[groups] * rng.gamma(4.0, 0.25, len(groups))
        effect = 0.8 * rng.gamma(16.0, 1 / 16, n_micrographs)[groups] * rng.gamma(16.0, 1 / 16, len(groups))
        interval = bootstrap_ratio(difficulty * effect, difficulty, groups, rng, n_resamples=400)
        assert interval is not None
        hits += interval[0] <= 0.8 <= interval[1]
    # Percentile intervals with 60 units fall a little short of 95%; the standard error of this estimate is 0.9%.
    assert 0.91 <= hits / n_trials <= 0.975


def test_single_micrograph_has_no_interval() -> None:
    losses = np.array([1.0, 2.0, 3.0])
    assert bootstrap_ratio(losses, losses + 1, np.array(["a", "a", "a"]), np.random.default_rng(0)) is None


def test_names_and_numbers_of_micrographs_mean_the_same() -> None:
    rng = np.random.default_rng(6)
    losses, reference = rng.uniform(1, 2, (2, 9))
    numbers = np.array([0, 1, 2, 0, 1, 2, 3, 3, 3])
    names = np.array(["a", "b", "c", "d"])[numbers]
    found = [bootstrap_ratio(losses, reference, ids, np.random.default_rng(0)) for ids in (numbers, names)]
    assert found[0] == found[1]


def test_interval_is_reproducible_and_contains_the_ratio() -> None:
    rng = np.random.default_rng(7)
    losses, reference = rng.uniform(1, 2, (2, 40))
    first, again, other = (
        bootstrap_ratio(losses, reference, np.arange(40), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first is not None
    assert first[0] < losses.mean() / reference.mean() < first[1]


def test_small_blocks_of_resamples_give_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    losses, reference = rng.uniform(1, 2, (2, 40))
    whole = bootstrap_ratio(losses, reference, np.arange(40), np.random.default_rng(1))
    monkeypatch.setattr(module, "_LARGEST_BLOCK", 40 * 7)
    blocked = bootstrap_ratio(losses, reference, np.arange(40), np.random.default_rng(1))
    assert blocked == pytest.approx(whole, rel=1e-12)


def test_wrong_arguments_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"losses \(2,\) and reference losses \(3,\)"):
        ratio_of_means(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="at least one crop"):
        win_rate(np.ones(0), np.ones(0))
    with pytest.raises(ValueError, match=r"micrograph_ids of shape \(2,\); expected \(3,\)"):
        bootstrap_ratio(np.ones(3), np.ones(3), np.arange(2), rng)
    with pytest.raises(ValueError, match="n_resamples=0"):
        bootstrap_ratio(np.ones(3), np.ones(3), np.arange(3), rng, n_resamples=0)
    with pytest.raises(ValueError, match=r"confidence=1\.0"):
        bootstrap_ratio(np.ones(3), np.ones(3), np.arange(3), rng, confidence=1.0)
