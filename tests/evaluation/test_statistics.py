from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from adaptive_scan.benchmark.verdicts import NOT_SHOWN, decide
from adaptive_scan.evaluation import statistics as module
from adaptive_scan.evaluation.statistics import (
    bootstrap_ratio,
    effect_size,
    group_log_ratios,
    hierarchical_bootstrap,
    holm,
    minimum_detectable_ratio,
    ratio_of_means,
    small_sample_interval,
    wilcoxon,
    win_rate,
)

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
    with pytest.raises(ValueError, match=r"losses have shapes \(2,\) and \(3,\)"):
        ratio_of_means(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="at least one crop"):
        win_rate(np.ones(0), np.ones(0))
    with pytest.raises(ValueError, match=r"groups \(2,\); expected one loss"):
        bootstrap_ratio(np.ones(3), np.ones(3), np.arange(2), rng)
    with pytest.raises(ValueError, match="n_resamples: got 0"):
        bootstrap_ratio(np.ones(3), np.ones(3), np.arange(3), rng, n_resamples=0)
    with pytest.raises(ValueError, match=r"confidence 1\.0"):
        bootstrap_ratio(np.ones(3), np.ones(3), np.arange(3), rng, confidence=1.0)


losses_of_twelve = arrays(np.float64, 12, elements=st.floats(0.01, 100.0))
p_value_lists = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8).map(np.array)
SEEDS = np.repeat([0, 1], 6)
GROUPS = np.repeat(np.arange(6), 2)


def interval_alone(first: np.ndarray, second: np.ndarray, *others: Any, **settings: Any) -> tuple[float, float] | None:
    """The interval of a single comparison."""
    (interval,) = hierarchical_bootstrap(first[None], second[None], *others, **settings)
    return interval


def binomial_bounds(n: int, chance: float) -> tuple[float, float]:
    """Rates that n draws stay within but once in ten thousand times."""
    low, high = stats.binom.interval(0.9999, n, chance)
    return low / n, high / n


def nested(n_seeds: int, n_groups: int, n_crops: int) -> tuple[np.ndarray, np.ndarray]:
    """Seed and group of each crop, with groups that no two seeds share."""
    seeds, groups, _ = (index.ravel() for index in np.indices((n_seeds, n_groups, n_crops)))
    return seeds, seeds * n_groups + groups


@given(losses=losses_of_twelve)
def test_the_same_scan_twice_has_ratio_one_exactly(losses: np.ndarray) -> None:
    assert interval_alone(losses, losses.copy(), SEEDS, GROUPS, np.random.default_rng(0)) == (1.0, 1.0)
    assert wilcoxon(losses, losses.copy(), GROUPS) == 1.0
    assert effect_size(losses, losses.copy(), GROUPS) == 0.0


@given(second=losses_of_twelve, factor=st.floats(0.1, 10.0))
def test_nested_proportional_losses_have_an_interval_of_no_width(second: np.ndarray, factor: float) -> None:
    interval = interval_alone(factor * second, second, SEEDS, GROUPS, np.random.default_rng(0), n_resamples=50)
    assert interval == pytest.approx((factor, factor), rel=1e-9)


def test_one_group_in_all_has_no_interval() -> None:
    first, second, seeds = np.arange(1.0, 7.0), np.ones(6), np.repeat([0, 1, 2], 2)
    rng = np.random.default_rng(0)
    assert interval_alone(first, second, seeds, np.zeros(6), rng) is None
    assert interval_alone(first, second, seeds, seeds, rng) is not None


def test_a_perfect_second_scan_has_no_interval() -> None:
    both = hierarchical_bootstrap(
        np.ones((2, 12)), np.stack([np.zeros(12), np.full(12, 2.0)]), SEEDS, GROUPS, np.random.default_rng(0)
    )
    assert both == [None, (0.5, 0.5)]


def test_spread_of_the_resamples_is_that_of_three_nested_draws() -> None:
    """Var = (V_seeds + (E V_groups + E V_crops / n) / G) / S with the variances of the S, G and n things drawn from."""
    values = np.random.default_rng(1).normal(size=(3, 4, 5))
    seeds, groups = nested(3, 4, 5)
    counts = np.concatenate(list(module._crop_counts(seeds, groups, np.random.default_rng(2), 40_000)))
    means = counts @ values.ravel() / values.size
    expected = (
        values.mean(axis=(1, 2)).var() + (values.mean(axis=2).var(axis=1).mean() + values.var(axis=2).mean() / 5) / 4
    ) / 3
    assert np.var(means) == pytest.approx(expected, rel=0.04)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * np.sqrt(expected / 40_000))


def drawn_by_loops(seeds: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Crops of one resample, by three loops."""
    crops = []
    for seed in rng.choice(np.unique(seeds), len(np.unique(seeds))):
        names = np.unique(groups[seeds == seed])
        for name in rng.choice(names, len(names)):
            members = np.flatnonzero((seeds == seed) & (groups == name))
            crops.extend(rng.choice(members, len(members)))
    return crops


def test_interval_is_that_of_three_loops_where_seeds_and_groups_are_of_all_sizes(rng: np.random.Generator) -> None:
    seeds = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    groups = np.array([0, 0, 0, 1, 2, 2, 0, 3, 3, 3, 4, 4, 5])
    first, second = rng.uniform(1, 2, 13), rng.uniform(1, 2, 13)
    draws = [drawn_by_loops(seeds, groups, rng) for _ in range(3000)]
    slow = np.quantile([first[crops].mean() / second[crops].mean() for crops in draws], [0.1, 0.9])
    fast = interval_alone(first, second, seeds, groups, rng, n_resamples=30_000, confidence=0.8)
    assert fast == pytest.approx(tuple(slow), abs=0.02)


@given(
    seeds=arrays(np.int64, 15, elements=st.integers(0, 2)),
    groups=arrays(np.int64, 15, elements=st.integers(0, 3)),
    block=st.sampled_from([1, 40, 10_000]),
)
def test_whole_seeds_and_groups_are_drawn(seeds: np.ndarray, groups: np.ndarray, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LARGEST_NESTED_BLOCK", block)
        counts = np.concatenate(list(module._crop_counts(seeds, groups, np.random.default_rng(0), 20)))
    assert counts.shape == (20, 15)
    n_seeds_drawn = np.zeros(20)
    for seed in np.unique(seeds):
        names = np.unique(groups[seeds == seed])
        n_groups_drawn = np.zeros(20)
        for name in names:
            members = (seeds == seed) & (groups == name)
            n_drawn = counts[:, members].sum(axis=1) / members.sum()
            assert np.array_equal(n_drawn, np.round(n_drawn))
            n_groups_drawn += n_drawn
        assert np.array_equal(n_groups_drawn % len(names), np.zeros(20))
        n_seeds_drawn += n_groups_drawn / len(names)
    assert np.array_equal(n_seeds_drawn, np.full(20, len(np.unique(seeds))))


def test_several_comparisons_have_the_intervals_that_each_has_alone(rng: np.random.Generator) -> None:
    first, second = rng.uniform(1, 2, (2, 3, 12))
    together = hierarchical_bootstrap(first, second, SEEDS, GROUPS, np.random.default_rng(5))
    alone = [
        interval_alone(one, other, SEEDS, GROUPS, np.random.default_rng(5))
        for one, other in zip(first, second, strict=True)
    ]
    assert together == [pytest.approx(interval, rel=1e-12) for interval in alone]


def coverage_of_intervals(spread_of_seeds: float, *, n_seeds: int = 3, n_studies: int = 400) -> float:
    """How often a 95% interval holds the true ratio, 0.95, on the nested log-normal losses of the docstring.

    All studies share their resamples, which are independent of their data.
    """
    rng = np.random.default_rng(12)
    seeds, groups = nested(n_seeds, 13, 8)
    shape = (n_studies, n_seeds, 13, 8)
    second = np.exp(0.5 * rng.standard_normal((*shape[:3], 1)) + 0.3 * rng.standard_normal(shape))
    spreads = ((spread_of_seeds, (*shape[:2], 1, 1)), (0.05, (*shape[:3], 1)), (0.1, shape))
    logs = sum(spread * rng.standard_normal(of) - spread**2 / 2 for spread, of in spreads)
    first = 0.95 * second * np.exp(logs)
    intervals = hierarchical_bootstrap(
        first.reshape(n_studies, -1), second.reshape(n_studies, -1), seeds, groups, rng, n_resamples=800
    )
    return float(np.mean([low <= 0.95 <= high for low, high in intervals]))


@pytest.mark.parametrize(
    ("spread_of_seeds", "n_seeds", "coverage"), [(0.0, 3, 0.98), (0.03, 3, 0.90), (0.1, 3, 0.76), (0.0, 1, 0.95)]
)
def test_coverage_is_what_the_docstring_says(spread_of_seeds: float, n_seeds: int, coverage: float) -> None:
    assert coverage_of_intervals(spread_of_seeds, n_seeds=n_seeds) == pytest.approx(coverage, abs=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": np.ones(11)}, "losses have shapes"),
        ({"groups": np.zeros(11)}, "losses have shapes"),
        ({"seeds": np.zeros(11)}, r"seeds have shape \(11,\); expected \(12,\)"),
        ({"first": np.full(12, np.nan)}, "12 losses that are not finite"),
        ({"n_resamples": 0}, "n_resamples: got 0"),
        ({"confidence": 1.0}, "confidence 1.0"),
    ],
)
def test_bad_input_is_refused(changes: dict[str, object], message: str) -> None:
    good = {"first": np.ones(12), "second": np.ones(12), "seeds": SEEDS, "groups": GROUPS}
    with pytest.raises(ValueError, match=message):
        interval_alone(**{**good, "rng": np.random.default_rng(0), **changes})


def test_log_ratios_are_means_over_all_crops_of_a_group_in_all_seeds() -> None:
    first, second = np.exp([0.1, 0.3, 0.5, -1.0]), np.ones(4)
    assert group_log_ratios(first, second, np.array(["b", "a", "b", "a"])) == pytest.approx([-0.35, 0.3])


def test_perfect_completions_weigh_much_but_not_infinitely() -> None:
    ratios = group_log_ratios(np.array([0.0, 0.0, 2.0]), np.array([0.0, 2.0, 2.0]), np.arange(3))
    assert ratios == pytest.approx([0.0, np.log(1e-6 / 2), 0.0])
    assert group_log_ratios(np.zeros(3), np.zeros(3), np.arange(3)).tolist() == [0.0, 0.0, 0.0]


def test_negative_losses_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the lowest loss: got -1\.0"):
        wilcoxon(np.array([1.0, -1.0]), np.ones(2), np.arange(2))


def exact_p(differences: np.ndarray) -> float:
    """Two-sided p-value from all signs that the ranks may have."""
    ranks = stats.rankdata(np.abs(differences))
    sums = np.array([ranks[list(signs)].sum() for signs in itertools.product([False, True], repeat=len(ranks))])
    found = ranks[differences > 0].sum()
    return min(1.0, 2 * min(np.mean(sums <= found + 1e-9), np.mean(sums >= found - 1e-9)))


@given(steps=st.lists(st.integers(-4, 4).filter(bool), min_size=1, max_size=8).map(np.array))
def test_p_value_is_that_of_all_signs_also_with_ties(steps: np.ndarray) -> None:
    # Powers of 2, whose logarithms are equal where they are meant to be.
    assert wilcoxon(2.0**steps, np.ones(len(steps)), np.arange(len(steps))) == pytest.approx(exact_p(steps))


def test_p_value_is_of_groups_and_not_of_crops() -> None:
    first, groups = np.exp(-np.repeat(np.arange(1.0, 7.0), 50)), np.repeat(np.arange(6), 50)
    assert wilcoxon(first, np.ones(300), groups) == 2 / 2**6


def test_groups_without_a_difference_take_no_part() -> None:
    first, groups = np.exp([-0.1, -0.2, 0.3, 0.0]), np.arange(4)
    assert wilcoxon(first, np.ones(4), groups) == wilcoxon(first[:3], np.ones(3), groups[:3])
    assert effect_size(first, np.ones(4), groups) == effect_size(first[:3], np.ones(3), groups[:3])


@pytest.mark.parametrize(
    ("logs", "expected"),
    [([-1.0, -2.0, -3.0], 1.0), ([1.0, 2.0], -1.0), ([-3.0, 1.0, 2.0], 0.0), ([-4.0, -3.0, 1.0, -2.0], 0.8)],
)
def test_effect_size_is_favourable_ranks_less_unfavourable_ones(logs: list[float], expected: float) -> None:
    assert effect_size(np.exp(logs), np.ones(len(logs)), np.arange(len(logs))) == pytest.approx(expected)


@given(first=losses_of_twelve, second=losses_of_twelve)
def test_swapping_the_scans_turns_the_effect_round_and_leaves_the_p_value(
    first: np.ndarray, second: np.ndarray
) -> None:
    effect = effect_size(first, second, GROUPS)
    assert -1.0 <= effect <= 1.0
    assert effect_size(second, first, GROUPS) == pytest.approx(-effect)
    assert wilcoxon(second, first, GROUPS) == pytest.approx(wilcoxon(first, second, GROUPS))


def test_holm_gives_the_textbook_figures() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []


@given(p_values=p_value_lists)
def test_holm_lies_between_the_p_value_and_bonferroni_and_keeps_the_order(p_values: np.ndarray) -> None:
    adjusted = holm(p_values)
    assert np.all(adjusted >= p_values)
    assert np.all(adjusted <= np.minimum(len(p_values) * p_values, 1.0))
    assert np.all(np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0)
    assert adjusted.min() == min(1.0, len(p_values) * p_values.min())


@given(p_values=p_value_lists, alpha=st.floats(0.001, 0.5), data=st.data())
def test_holm_rejects_step_by_step_in_any_order(p_values: np.ndarray, alpha: float, data: st.DataObject) -> None:
    n = len(p_values)
    rejected = set()
    for step, place in enumerate(np.argsort(p_values, kind="stable")):
        if (n - step) * p_values[place] > alpha:
            break
        rejected.add(int(place))
    assert set(np.flatnonzero(holm(p_values) <= alpha).tolist()) == rejected
    order = np.array(data.draw(st.permutations(range(n))))
    assert holm(p_values[order]).tolist() == holm(p_values)[order].tolist()


@pytest.mark.parametrize("p_values", [[0.1, np.nan], [-0.1], [1.1], [[0.1]]])
def test_holm_refuses_what_is_no_p_value(p_values: list[float]) -> None:
    with pytest.raises(ValueError, match="expected a list of numbers in"):
        holm(np.array(p_values))


def with_spread(n_groups: int, spread: float) -> np.ndarray:
    """Losses whose logarithms have this standard deviation between groups."""
    logs = np.linspace(-1.0, 1.0, n_groups)
    return np.exp(spread * logs / logs.std(ddof=1))


@pytest.mark.parametrize("n_groups", [8, 13, 39, 60])
def test_power_at_the_minimum_detectable_ratio_is_four_fifths(n_groups: int, rng: np.random.Generator) -> None:
    ratio = minimum_detectable_ratio(with_spread(n_groups, 0.1), np.ones(n_groups), np.arange(n_groups))
    assert ratio is not None
    differences = np.log(ratio) + 0.1 * rng.standard_normal((2000, n_groups))
    power = np.mean(stats.wilcoxon(differences, axis=1).pvalue <= 0.05)
    assert power == pytest.approx(0.8, abs=0.04)


def test_fewer_than_six_groups_can_detect_nothing() -> None:
    assert minimum_detectable_ratio(np.arange(1.0, 6.0), np.ones(5), np.arange(5)) is None
    assert minimum_detectable_ratio(np.arange(1.0, 7.0), np.ones(6), np.arange(6)) is not None
    assert minimum_detectable_ratio(np.ones(1), np.ones(1), np.arange(1)) is None


def test_smaller_differences_are_detectable_with_more_groups_and_less_spread() -> None:
    def detectable(n_groups: int, spread: float) -> float:
        ratio = minimum_detectable_ratio(with_spread(n_groups, spread), np.ones(n_groups), np.arange(n_groups))
        assert ratio is not None
        return ratio

    assert detectable(10, 0.1) < detectable(20, 0.1) < detectable(100, 0.1) < 1
    assert np.log(detectable(10, 0.2)) == pytest.approx(2 * np.log(detectable(10, 0.1)))
    assert minimum_detectable_ratio(np.full(10, 0.5), np.ones(10), np.arange(10)) == 1.0


def test_shift_is_that_of_the_t_test_less_the_efficiency() -> None:
    """With many groups, (z_0.975 + z_0.8) s sqrt(pi / (3 n))."""
    n = 5000
    ratio = minimum_detectable_ratio(with_spread(n, 0.2), np.ones(n), np.arange(n))
    expected = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 0.2 * np.sqrt(np.pi / (3 * n))
    assert -np.log(ratio) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(("alpha", "power"), [(0.0, 0.8), (0.05, 1.0), (0.5, 0.3)])
def test_impossible_levels_are_refused(alpha: float, power: float) -> None:
    with pytest.raises(ValueError, match="expected 0 < alpha < power < 1"):
        minimum_detectable_ratio(np.ones(9), np.ones(9), np.arange(9), alpha=alpha, power=power)


def swapped_labels(n_studies: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Two scans that differ by 10%, whose names are swapped by a coin for each specimen: no difference is left.

    Returns:
        Losses of both, shape (n_studies, n_crops), and seed and group of each crop.
    """
    seeds, groups = nested(3, 13, 4)
    second = np.exp(0.5 * rng.standard_normal((39, 1)) + 0.3 * rng.standard_normal((39, 4)))
    first = 0.9 * second * np.exp(0.05 * rng.standard_normal((39, 1)) + 0.1 * rng.standard_normal((39, 4)))
    swapped = rng.random((n_studies, 39, 1)) < 0.5
    shape = (n_studies, -1)
    return (
        np.where(swapped, second, first).reshape(shape),
        np.where(swapped, first, second).reshape(shape),
        seeds,
        groups,
    )


def test_swapped_labels_are_found_at_the_nominal_rate(rng: np.random.Generator) -> None:
    n_studies = 400
    first, second, seeds, groups = swapped_labels(n_studies, rng)
    p_values = np.array([wilcoxon(one, other, groups) for one, other in zip(first, second, strict=True)])
    intervals = hierarchical_bootstrap(first, second, seeds, groups, rng, n_resamples=800)
    effects = [effect_size(one, other, groups) for one, other in zip(first, second, strict=True)]
    fewest, most = binomial_bounds(n_studies, 0.05)
    assert fewest <= np.mean(p_values < 0.05) <= most
    # Seeds do not differ here, so the interval is wider than it needs to be; see the docstring.
    assert np.mean([not low <= 1 <= high for low, high in intervals]) <= most
    shown = [decide(*each) != NOT_SHOWN for each in zip(intervals, p_values, effects, strict=True)]
    assert np.mean(shown) <= most


def test_interval_of_one_level_has_the_nominal_rate(rng: np.random.Generator) -> None:
    """With one crop of each of 40 groups of one seed there is one level, and the percentile interval is at home."""
    n_studies = 600
    second = np.exp(0.5 * rng.standard_normal((n_studies, 40)))
    first = second * np.exp(0.1 * rng.standard_normal((n_studies, 40)) - 0.005)
    seeds, groups = np.zeros(40), np.arange(40)
    intervals = hierarchical_bootstrap(first, second, seeds, groups, rng, n_resamples=1000)
    fewest, most = binomial_bounds(n_studies, 0.065)  # percentile intervals of 40 are a little too narrow
    assert fewest <= np.mean([not low <= 1 <= high for low, high in intervals]) <= most


def test_family_of_null_comparisons_is_wrong_once_in_twenty_at_most(rng: np.random.Generator) -> None:
    """Five scans against one, which makes the tests depend on one another; none differs."""
    n_studies, groups = 200, np.arange(13)
    wrong, wrong_uncorrected = [], []
    for _ in range(n_studies):
        reference = np.exp(0.1 * rng.standard_normal(13))
        scans = np.exp(0.1 * rng.standard_normal((5, 13)))
        p_values = np.array([wilcoxon(scan, reference, groups) for scan in scans])
        wrong.append(holm(p_values).min() < 0.05)
        wrong_uncorrected.append(p_values.min() < 0.05)
    assert np.mean(wrong) <= binomial_bounds(n_studies, 0.05)[1]
    assert np.mean(wrong_uncorrected) > binomial_bounds(n_studies, 0.05)[1]


def test_small_samples_have_intervals_of_student() -> None:
    low, high = small_sample_interval((0.9, 1.2), 1.0, 6)
    factor = np.sqrt(6 / 5) * 2.5706 / 1.95996
    assert (np.log(low), np.log(high)) == pytest.approx((factor * np.log(0.9), factor * np.log(1.2)), rel=1e-4)
    assert small_sample_interval((0.9, 1.2), 1.0, 10_000) == pytest.approx((0.9, 1.2), abs=1e-4)
    assert small_sample_interval((1.0, 1.0), 1.0, 6) == (1.0, 1.0)
    with pytest.raises(ValueError, match="n_groups: got 1"):
        small_sample_interval((0.9, 1.2), 1.0, 1)


@pytest.mark.parametrize("n_groups", [6, 8, 12])
def test_widened_intervals_of_few_groups_have_the_nominal_rate(n_groups: int, rng: np.random.Generator) -> None:
    """Where groups alone differ, the worst case; the bare interval excludes 1 in 10% to 14%."""
    n_studies, n_crops, spread = 500, 4, 0.1
    seeds, groups = nested(1, n_groups, n_crops)
    second = np.exp(0.5 * rng.standard_normal((n_studies, n_groups)))[:, groups]
    second = second * np.exp(0.3 * rng.standard_normal(second.shape))
    first = second * np.exp(spread * rng.standard_normal((n_studies, n_groups)) - spread**2 / 2)[:, groups]
    bare = hierarchical_bootstrap(first, second, seeds, groups, rng, n_resamples=400)
    ratios = first.mean(axis=1) / second.mean(axis=1)
    wide = [small_sample_interval(one, float(r), n_groups) for one, r in zip(bare, ratios, strict=True) if one]
    rates = [np.mean([not low <= 1 <= high for low, high in each]) for each in (bare, wide)]
    assert rates[1] < binomial_bounds(n_studies, 0.06)[1]
    assert rates[1] < rates[0] - 0.02
