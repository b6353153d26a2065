from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest

from adaptive_scan.benchmark.analysis import THIRDS, Analysis, analyse
from adaptive_scan.benchmark.questions import OTHER_ADAPTIVE, PRIMARY
from adaptive_scan.benchmark.verdicts import LOWERS, NO_DIFFERENCE, NOT_SHOWN, RAISES, ScanComparison
from adaptive_scan.evaluation.results import COST_COLUMNS, METRIC_COLUMNS, Results, pair
from adaptive_scan.evaluation.statistics import (
    effect_size,
    hierarchical_bootstrap,
    holm,
    minimum_detectable_ratio,
    small_sample_interval,
    wilcoxon,
)
from tests.synthetic_results import TRUTH_METRICS, nested_losses, small_results, synthetic_results


@pytest.fixture(scope="module")
def results() -> Results:
    return small_results()


@pytest.fixture(scope="module")
def analysis(results: Results) -> Analysis:
    return analyse(results, n_resamples=200)


def find(
    analysis: Analysis, first: str, second: str, completer: str = "shared", geometry: str = "1/23"
) -> ScanComparison:
    found = [
        one
        for one in analysis.comparisons
        if (one.geometry, one.first, one.second) == (geometry, (first, completer), (second, completer))
    ]
    assert len(found) == 1
    return found[0]


def two_scans(first: np.ndarray, second: np.ndarray, **settings: object) -> ScanComparison:
    """An adaptive scan beside the only static one."""
    losses = {("1/23", "spiral", "shared"): second, ("1/23", "pathwise", "shared"): first}
    return find(analyse(synthetic_results(losses, **settings), n_resamples=1000), "pathwise", "spiral")


def test_the_same_scan_under_two_names_is_no_difference(rng: np.random.Generator) -> None:
    losses = nested_losses(rng)
    same = two_scans(losses, losses.copy())
    assert (same.ratio, same.ratio_ci95, same.p_value, same.p_holm) == (1.0, (1.0, 1.0), 1.0, 1.0)
    assert (same.effect_size, same.win_rate, same.verdict) == (0.0, 0.5, NO_DIFFERENCE)
    assert set(same.by_content.values()) == {(1.0, (1.0, 1.0), 9, NOT_SHOWN)}
    assert set(same.by_sparsity.values()) == {(1.0, (1.0, 1.0), 6, NOT_SHOWN)}
    assert same.sentence.startswith("pathwise makes no difference to the loss against spiral at 1/23")


@pytest.mark.parametrize(("factor", "verdict"), [(0.95, LOWERS), (1.08, RAISES)])
def test_a_scan_changed_by_a_known_factor_is_found_to_be(factor: float, verdict: str, rng: np.random.Generator) -> None:
    second = nested_losses(rng, n_groups=13)
    changed = two_scans(factor * second * np.exp(0.05 * rng.standard_normal(second.shape) - 0.00125), second)
    assert changed.ratio == pytest.approx(factor, abs=0.01)
    assert changed.ratio_ci95[0] < factor < changed.ratio_ci95[1]
    assert changed.ratio_ci95[1] - changed.ratio_ci95[0] < 0.04
    assert changed.verdict == verdict
    assert changed.p_holm < 1e-4
    percent = round(100 * abs(1 - changed.ratio))
    assert f"pathwise {verdict} the loss by {percent}% [" in changed.sentence


def test_a_difference_smaller_than_detectable_is_not_shown(rng: np.random.Generator) -> None:
    second = nested_losses(rng, n_groups=4)
    weak = two_scans(0.995 * second * np.exp(0.1 * rng.standard_normal(second.shape)), second)
    assert weak.minimum_detectable_ratio < 0.98
    assert weak.verdict == NOT_SHOWN
    assert "is not shown to change the loss" in weak.sentence


def test_comparison_is_made_of_the_functions_of_statistics(results: Results, analysis: Analysis) -> None:
    found = find(analysis, "pathwise", "learned_path", "own", "1/46")
    both = pair(results.rows, "1/46", ("pathwise", "own"), ("learned_path", "own"))
    data = (both.first, both.second)
    rng = np.random.default_rng(0)
    assert found.ratio == pytest.approx(both.first.mean() / both.second.mean())
    together = (losses[None] for losses in data)
    (interval,) = hierarchical_bootstrap(*together, both.seeds, both.groups, rng, n_resamples=200)
    assert interval is not None
    assert found.ratio_ci95 == pytest.approx(small_sample_interval(interval, found.ratio, 18))
    assert found.p_value == wilcoxon(*data, both.groups)
    assert found.effect_size == effect_size(*data, both.groups)
    assert found.family_size == sum(one.family == found.family for one in analysis.comparisons) > 1
    assert found.minimum_detectable_ratio == minimum_detectable_ratio(
        *data, both.groups, alpha=0.05 / found.family_size
    )
    assert found.win_rate == np.mean(both.first < both.second)
    assert (found.n_crops, found.n_groups) == (72, 18)
    assert (found.mean_first, found.mean_second) == pytest.approx((both.first.mean(), both.second.mean()))


def test_p_values_are_corrected_within_their_family(analysis: Analysis) -> None:
    families = {one.family for one in analysis.comparisons}
    assert PRIMARY in families
    for family in families:
        members = [one for one in analysis.comparisons if one.family == family]
        assert [one.p_holm for one in members] == holm(np.array([one.p_value for one in members])).tolist()
    # Two adaptive scans, one of them with a generator of its own, by two other completers of which the best counts.
    assert len([one for one in analysis.comparisons if one.family == PRIMARY]) == 2 * (3 + 2)


def test_content_classes_have_intervals_of_their_own_from_six_specimens_on(rng: np.random.Generator) -> None:
    second = nested_losses(rng, n_seeds=1, n_groups=13)
    factors = np.array([0.5] * 6 + [2.0] * 5 + [1.0, 1.0])[None, :, None]
    content = ["lattice"] * 6 + ["particles"] * 5 + ["grains", ""]
    found = two_scans(factors * second, second, content=content).by_content
    assert found == {
        "grains": (pytest.approx(1.0), None, 1, NOT_SHOWN),
        "lattice": (pytest.approx(0.5), pytest.approx((0.5, 0.5)), 6, LOWERS),
        "particles": (pytest.approx(2.0), None, 5, NOT_SHOWN),
    }


def test_kinds_are_corrected_for_their_number(rng: np.random.Generator) -> None:
    """Six specimens all one way have p = 1/32: shown for one kind, and not for one of two."""
    second = nested_losses(rng, n_seeds=1, n_groups=12)
    factors = np.array([0.5] * 6 + [2.0] * 6)[None, :, None]
    found = two_scans(factors * second, second, content=["lattice"] * 6 + ["particles"] * 6).by_content
    assert [part[3] for part in found.values()] == [NOT_SHOWN, NOT_SHOWN]


def test_a_whole_comparison_of_five_specimens_has_no_interval(rng: np.random.Generator) -> None:
    second = nested_losses(rng, n_seeds=1, n_groups=5)
    assert two_scans(0.5 * second, second).ratio_ci95 is None


def test_too_few_specimens_for_many_comparisons_are_said_to_be(rng: np.random.Generator) -> None:
    """Twelve tests of eight specimens: no p below 12 / 128, however large the difference."""
    second = nested_losses(rng, n_seeds=1, n_groups=8)
    losses = {("1/23", "spiral", "shared"): second}
    for number in range(12):
        noise = np.exp(0.02 * rng.standard_normal(second.shape))
        losses["1/23", f"adaptive {number}", "shared"] = 0.6 * second * noise
    results = synthetic_results(losses, roles={f"adaptive {number}": "adaptive" for number in range(12)})
    found = find(analyse(results, n_resamples=100), "adaptive 3", "spiral")
    assert (found.p_holm, found.verdict) == (pytest.approx(12 / 128), NOT_SHOWN)
    assert found.minimum_detectable_ratio is None
    assert found.sentence.endswith("; 8 specimens are too few to show anything among 12 comparisons")


def test_a_difference_of_one_training_is_not_shown(rng: np.random.Generator) -> None:
    second = nested_losses(rng, n_seeds=3, n_groups=13)
    noise = np.exp(0.02 * rng.standard_normal(second.shape))
    first = np.array([0.5, 0.6, 1.05])[:, None, None] * second * noise
    found = two_scans(first, second)
    assert found.p_holm < 0.05
    assert [part[0] for part in found.by_seed.values()] == pytest.approx([0.5, 0.6, 1.05], abs=0.02)
    assert list(found.by_seed) == ["seed 0", "seed 1", "seed 2"]
    assert found.verdict == NOT_SHOWN
    assert two_scans(first[:2], second[:2]).verdict == LOWERS


def test_rules_of_thumb_take_nothing_from_the_trained_actors(results: Results) -> None:
    described = {**results.description, "factorial": ["pathwise", "spiral"]}
    found = analyse(Results(**{**vars(results), "description": described}), n_resamples=20)
    families: dict[str, set[str]] = {}
    for one in found.comparisons:
        families.setdefault(one.family, set()).add(one.first[0])
    assert families[PRIMARY] == {"pathwise"}
    assert families[OTHER_ADAPTIVE] == {"coverage_greedy"}
    assert find(found, "pathwise", "learned_path").family_size == 2 * 3
    assert not any("coverage_greedy" in text for text in found.verdicts)
    assert any("coverage_greedy" in text for text in found.further)


def test_thirds_of_sparsity_hold_a_third_of_the_crops_each(rng: np.random.Generator) -> None:
    second = nested_losses(rng, n_seeds=1, n_groups=9, n_crops=4)
    sparsity = rng.permutation(36).reshape(second.shape) / 36
    first = np.where(sparsity < 12 / 36, 0.5, np.where(sparsity < 24 / 36, 1.0, 2.0)) * second
    found = two_scans(first, second, sparsity=sparsity).by_sparsity
    assert list(found) == list(THIRDS)
    assert [found[name][0] for name in THIRDS] == pytest.approx([0.5, 1.0, 2.0])


def test_crops_of_one_sparsity_are_not_torn_apart_and_unknown_ones_left_out(rng: np.random.Generator) -> None:
    second = nested_losses(rng, n_seeds=1, n_groups=6, n_crops=2)
    same = two_scans(second / 2, second, sparsity=np.full(second.shape, 0.3)).by_sparsity
    assert {name: part[2] for name, part in same.items()} == {THIRDS[0]: 6}
    sparsity = np.full(second.shape, np.nan)
    assert two_scans(second / 2, second, sparsity=sparsity).by_sparsity == {}
    sparsity[0, :3] = [[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]
    assert [part[2] for part in two_scans(second / 2, second, sparsity=sparsity).by_sparsity.values()] == [1, 1, 1]


def test_intervals_do_not_depend_on_what_else_is_compared(results: Results, analysis: Analysis) -> None:
    rows = results.rows
    fewer = rows.filter([scan in ("spiral", "learned_path", "pathwise") for scan in rows["scan"].to_pylist()])
    alone = find(
        analyse(Results(**{**vars(results), "rows": fewer}), n_resamples=200), "pathwise", "learned_path", "shared"
    )
    together = find(analysis, "pathwise", "learned_path")
    assert alone.ratio_ci95 == pytest.approx(together.ratio_ci95, rel=1e-12)
    assert alone.p_value == together.p_value


def test_order_of_the_rows_does_not_matter(results: Results, analysis: Analysis, rng: np.random.Generator) -> None:
    shuffled = results.rows.take(pa.array(rng.permutation(len(results.rows))))
    found = analyse(Results(**{**vars(results), "rows": shuffled}), n_resamples=200)
    assert find(found, "pathwise", "learned_path") == find(analysis, "pathwise", "learned_path")


def test_the_same_seed_gives_the_same_analysis_and_another_one_other_intervals(
    results: Results, analysis: Analysis
) -> None:
    assert analyse(results, n_resamples=200) == analysis
    other = find(analyse(results, n_resamples=200, seed=1), "pathwise", "learned_path")
    assert other.ratio_ci95 != find(analysis, "pathwise", "learned_path").ratio_ci95
    assert other.ratio_ci95 == pytest.approx(find(analysis, "pathwise", "learned_path").ratio_ci95, abs=0.03)


def test_summaries_are_means_and_say_where_there_is_nothing_to_average(results: Results, analysis: Analysis) -> None:
    assert len(analysis.summaries) == len({(one.geometry, one.scan, one.completer) for one in analysis.summaries})
    one = next(s for s in analysis.summaries if (s.geometry, s.scan, s.completer) == ("1/46", "grid", "linear"))
    both = pair(results.rows, "1/46", ("grid", "linear"), ("grid", "linear"), metric="psnr")
    assert one.metrics["psnr"] == pytest.approx(both.first.mean())
    assert list(one.metrics) == [*METRIC_COLUMNS, *COST_COLUMNS]
    assert [one.metrics[name] for name in TRUTH_METRICS] == [None] * len(TRUTH_METRICS)
    assert (one.role, one.contiguous, one.n_crops, one.n_groups) == ("static", False, 72, 18)


def test_crops_without_a_metric_are_left_out_of_its_mean(results: Results) -> None:
    rows = results.rows
    errors, electrons = np.full(len(rows), math.nan), np.full(len(rows), math.inf)
    errors[:2] = [3.0, 5.0]
    for name, values in (("atom_error_pm", errors), ("electrons", electrons)):
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values))
    summary = analyse(Results(**{**vars(results), "rows": rows}), n_resamples=5).summaries[0]
    assert (summary.metrics["atom_error_pm"], summary.metrics["electrons"]) == (4.0, None)


def test_win_rates_are_of_every_scan_beside_every_other(analysis: Analysis) -> None:
    assert [(rates.geometry, rates.completer) for rates in analysis.win_rates] == [
        (geometry, completer)
        for geometry in ("1/23", "1/46")
        for completer in ("shared", "own", "infill+", "linear", "denoiser")
    ]
    rates = analysis.win_rates[0]
    matrix = np.array(rates.matrix)
    assert np.allclose(matrix + matrix.T, 1.0)
    row, column = rates.scans.index("pathwise"), rates.scans.index("spiral")
    assert matrix[row, column] == find(analysis, "pathwise", "spiral").win_rate
    assert analysis.win_rates[4].scans == ("dense",)


def test_dense_scan_stands_beside_the_reference_by_the_shared_generator(analysis: Analysis) -> None:
    found = [one for one in analysis.comparisons if one.first == ("dense", "denoiser")]
    assert [(one.geometry, one.second) for one in found] == [
        ("1/23", ("spiral", "shared")),
        ("1/46", ("spiral", "shared")),
    ]


def test_analysis_is_strict_json(analysis: Analysis) -> None:
    content = json.loads(json.dumps(analysis.as_dict(), allow_nan=False))
    assert content["reference"] == "spiral"
    assert content["best_static"] == {"1/23": "learned_path", "1/46": "learned_path"}
    assert content["best_static_chosen_on"] == {"1/23": "validation", "1/46": "validation"}
    assert content["best_classical"] == {"1/23": "infill+", "1/46": "infill+"}
    assert content["comparisons"][0]["first"] == ["pathwise", "shared"]
    assert content["comparisons"][0]["sentence"] == analysis.comparisons[0].sentence
    assert len(content["factorial"]) == 2 * 6
    assert content["verdicts"] == list(analysis.verdicts)


def test_one_specimen_has_no_interval_and_shows_nothing(rng: np.random.Generator) -> None:
    second = nested_losses(rng, n_seeds=1, n_groups=1)
    found = two_scans(0.5 * second, second)
    assert (found.ratio, found.ratio_ci95, found.minimum_detectable_ratio) == (0.5, None, None)
    assert (found.n_groups, found.verdict) == (1, NOT_SHOWN)


def test_perfect_scans_have_no_ratio(rng: np.random.Generator) -> None:
    second = nested_losses(rng)
    found = two_scans(second, np.zeros(second.shape))
    assert (found.ratio, found.ratio_ci95, found.verdict, found.win_rate) == (None, None, NOT_SHOWN, 0.0)
    assert "cannot be set in proportion to spiral" in found.sentence
    json.dumps(analyse(synthetic_results({("1/23", "spiral", "shared"): second * 0})).as_dict(), allow_nan=False)


def test_losses_that_are_not_finite_are_refused(rng: np.random.Generator) -> None:
    second = nested_losses(rng)
    first = second.copy()
    first[0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="1 losses that are not finite"):
        two_scans(first, second)


def test_specimens_that_all_seeds_share_count_once(rng: np.random.Generator) -> None:
    second = nested_losses(rng, n_seeds=3, n_groups=5)
    assert two_scans(second, 2 * second, crossed=True).n_groups == 5
    assert two_scans(second, 2 * second).n_groups == 15


FACTORS = {
    ("spiral", "shared"): 2.0,
    ("learned_path", "shared"): 1.0,
    ("learned_path", "own"): 0.9,
    ("learned_path", "infill+"): 1.5,
    ("learned_path", "linear"): 3.0,
    ("pathwise", "shared"): 0.8,
    ("pathwise", "own"): 0.6,
    ("pathwise", "infill+"): 1.2,
    ("pathwise", "linear"): 2.0,
    ("coverage_greedy", "shared"): 1.1,
}


def test_cells_and_ratios_are_those_of_the_losses(rng: np.random.Generator) -> None:
    base = nested_losses(rng)
    rows = analyse(
        synthetic_results({("1/23", *key): factor * base for key, factor in FACTORS.items()}), n_resamples=20
    ).factorial
    found = {(row.scan, row.completer): row for row in rows}
    assert len(rows) == len(found) == 6
    assert {row.adaptive for row in rows} == {"pathwise"}
    expected = {  # loss over the base's, over that of the static scan, over that by the shared generator
        ("pathwise", "shared"): ("adaptive", True, 0.8, 0.8, 1.0),
        ("pathwise", "own"): ("adaptive", True, 0.6, 0.6 / 0.9, 0.6 / 0.8),
        ("pathwise", "infill+"): ("adaptive", False, 1.2, 1.2 / 1.5, 1.2 / 0.8),
        ("learned_path", "shared"): ("best static", True, 1.0, 1.0, 1.0),
        ("learned_path", "own"): ("best static", True, 0.9, 1.0, 0.9),
        ("learned_path", "infill+"): ("best static", False, 1.5, 1.0, 1.5),
    }
    assert list(found) == list(expected)
    for key, (role, network, loss, to_static, to_shared) in expected.items():
        row = found[key]
        assert (row.role, row.network, row.n_crops) == (role, network, base.size)
        assert row.loss == pytest.approx(loss * base.mean())
        assert (row.ratio_to_static, row.ratio_to_shared) == pytest.approx((to_static, to_shared))
        assert row.ratio_to_static_ci95 == pytest.approx((to_static, to_static))
        assert row.ratio_to_shared_ci95 == pytest.approx((to_shared, to_shared))


def test_missing_cells_are_left_out_and_missing_ratios_are_none(rng: np.random.Generator) -> None:
    base = nested_losses(rng)
    losses = {("1/23", "spiral", "shared"): base, ("1/23", "pathwise", "own"): 0.5 * base}
    rows = analyse(synthetic_results(losses), n_resamples=20).factorial
    assert [(row.scan, row.completer, row.ratio_to_static, row.ratio_to_shared) for row in rows] == [
        ("pathwise", "own", None, None),
        ("spiral", "shared", 1.0, 1.0),
    ]
    assert rows[0].ratio_to_static_ci95 is None


def test_without_an_adaptive_scan_of_its_own_generator_there_is_no_factorial(rng: np.random.Generator) -> None:
    base = nested_losses(rng)
    losses = {("1/23", "spiral", "shared"): base, ("1/23", "spiral", "own"): base, ("1/23", "pathwise", "shared"): base}
    assert analyse(synthetic_results(losses), n_resamples=10).factorial == ()
    # Nor where there is no static scan beside it.
    losses["1/46", "pathwise", "own"] = losses["1/46", "pathwise", "shared"] = base
    assert analyse(synthetic_results(losses), n_resamples=10).factorial == ()
    losses["1/23", "pathwise", "own"] = base
    assert {row.geometry for row in analyse(synthetic_results(losses), n_resamples=10).factorial} == {"1/23"}
