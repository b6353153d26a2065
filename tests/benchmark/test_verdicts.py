from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.benchmark.questions import OTHER_ADAPTIVE, PRIMARY
from adaptive_scan.benchmark.verdicts import (
    LOWERS,
    NO_DIFFERENCE,
    NOT_SHOWN,
    RAISES,
    ScanComparison,
    counted,
    decide,
    further_sentences,
    headlines,
    join,
    percent,
    sentence,
)

SHOWN = ScanComparison(
    geometry="1/23",
    first=("pathwise", "shared"),
    second=("learned_path", "shared"),
    family="",
    n_crops=104,
    n_groups=13,
    mean_first=0.96,
    mean_second=1.0,
    ratio=0.96,
    ratio_ci95=(0.94, 0.98),
    win_rate=0.7,
    p_value=0.001,
    p_holm=0.01,
    effect_size=0.9,
    minimum_detectable_ratio=0.97,
    by_content={},
    by_sparsity={},
    verdict=LOWERS,
)


@pytest.mark.parametrize(
    ("interval", "p_holm", "effect", "verdict"),
    [
        ((0.9, 0.99), 0.049, 0.5, LOWERS),
        ((1.01, 1.1), 0.049, -0.5, RAISES),
        ((0.9, 1.0), 0.001, 0.5, NOT_SHOWN),
        ((1.0, 1.1), 0.001, -0.5, NOT_SHOWN),
        ((0.9, 0.99), 0.05, 0.5, NOT_SHOWN),
        ((0.9, 0.99), 0.001, -0.5, NOT_SHOWN),
        ((1.01, 1.1), 0.001, 0.5, NOT_SHOWN),
        (None, 0.001, 1.0, NOT_SHOWN),
        ((0.9, 0.99), float("nan"), 0.5, NOT_SHOWN),
    ],
)
def test_interval_and_test_must_go_the_same_way(
    interval: tuple[float, float] | None, p_holm: float, effect: float, verdict: str
) -> None:
    assert decide(interval, p_holm, effect) == verdict


def test_shown_difference_is_one_plain_sentence() -> None:
    assert sentence(SHOWN) == "pathwise lowers the loss by 4% [2, 6] against learned_path at 1/23 (shared generator)"
    worse = replace(SHOWN, ratio=1.25, ratio_ci95=(1.2, 1.3), verdict=RAISES, effect_size=-0.9)
    assert sentence(worse) == "pathwise raises the loss by 25% [20, 30] against learned_path at 1/23 (shared generator)"


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [
        (("a", "own"), ("b", "own"), "a lowers the loss by 4% [2, 6] against b at 1/23 (own generators)"),
        (("a", "infill+"), ("b", "infill+"), "a lowers the loss by 4% [2, 6] against b at 1/23 (completed by infill+)"),
        (
            ("dense", "denoiser"),
            ("b", "shared"),
            "dense (completed by denoiser) lowers the loss by 4% [2, 6] against b (shared generator) at 1/23",
        ),
        (
            ("a", "shared"),
            ("a, seeing nothing", "shared"),
            'a lowers the loss by 4% [2, 6] against "a, seeing nothing" at 1/23 (shared generator)',
        ),
    ],
)
def test_completers_are_named(first: tuple[str, str], second: tuple[str, str], place: str) -> None:
    assert sentence(replace(SHOWN, first=first, second=second)) == place


def test_kinds_of_pictures_that_differ_are_named() -> None:
    by_content = {
        "lattice": (0.99, (0.97, 1.01), 6, NOT_SHOWN),
        "single atoms": (0.98, (0.95, 1.02), 6, NOT_SHOWN),
        "particles": (0.9, (0.88, 0.92), 8, LOWERS),
        "soft_objects": (1.03, (1.01, 1.05), 9, RAISES),
        "other": (0.9, None, 2, NOT_SHOWN),
    }
    assert sentence(replace(SHOWN, by_content=by_content)).partition("; ")[2] == (
        "not shown on lattices and single atoms; raises it by 3% [1, 5] on soft objects; "
        "too few specimens of other pictures to tell"
    )
    worse = replace(SHOWN, ratio=1.25, ratio_ci95=(1.2, 1.3), verdict=RAISES, by_content=by_content)
    assert "; lowers it by 10% [8, 12] on particles" in sentence(worse)
    assert "soft objects" not in sentence(worse)


def test_an_interval_without_one_is_not_enough_to_say_the_opposite_of_a_kind() -> None:
    by_content = {"soft_objects": (1.03, (1.01, 1.05), 6, NOT_SHOWN)}
    assert sentence(replace(SHOWN, by_content=by_content)).endswith("; not shown on soft objects")


def test_seeds_must_agree() -> None:
    assert decide((0.9, 0.95), 0.01, 0.9, [0.8, 0.9, 0.99]) == LOWERS
    assert decide((0.9, 0.95), 0.01, 0.9, [0.8, 0.9, 1.001]) == NOT_SHOWN
    assert decide((1.1, 1.2), 0.01, -0.9, [1.3, 1.01]) == RAISES
    assert decide((1.1, 1.2), 0.01, -0.9, [1.3, 1.0]) == NOT_SHOWN
    assert decide((0.9, 0.95), 0.01, 0.9, [0.8, None]) == NOT_SHOWN


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        (
            {"p_holm": 0.2, "effect_size": 0.4},
            "corrected p = 0.2; the mean over all crops falls, but the test over specimens does not bear it out; "
            "with 13 specimens the test finds a difference of 3% four times in five",
        ),
        (
            {"p_holm": 0.2, "effect_size": -0.4},
            "corrected p = 0.2; the mean over all crops falls, but most specimens rise; "
            "with 13 specimens the test finds a difference of 3% four times in five",
        ),
        (
            {"ratio_ci95": (0.9, 1.02)},
            "corrected p = 0.01; most specimens fall, but the interval of the mean over all crops holds no change",
        ),
        (
            {"p_holm": 0.0002, "effect_size": -0.9},
            "corrected p below 0.001; the mean over all crops falls, but most specimens rise",
        ),
        (
            {"by_seed": {f"seed {n}": (ratio, None, 4, NOT_SHOWN) for n, ratio in enumerate((0.9, 0.95, 1.1))}},
            "corrected p = 0.01; the seeds disagree: it is lower in 2 of 3",
        ),
    ],
)
def test_the_half_of_a_verdict_that_is_missing_is_named(changes: dict[str, Any], ending: str) -> None:
    assert sentence(replace(SHOWN, verdict=NOT_SHOWN, **changes)).endswith(f", {ending}")


def test_what_is_not_shown_comes_with_what_could_have_been() -> None:
    weak = replace(SHOWN, ratio=0.99, ratio_ci95=(0.97, 1.01), p_holm=0.314, verdict=NOT_SHOWN, family_size=12)
    assert sentence(weak) == (
        "pathwise is not shown to change the loss against learned_path at 1/23 (shared generator): "
        "lower by 1% [-1, 3], corrected p = 0.31; "
        "with 13 specimens the test, corrected for 12 comparisons, finds a difference of 3% four times in five"
    )
    higher = replace(weak, ratio=1.03, ratio_ci95=(0.96, 1.1), p_holm=1.0)
    assert ": higher by 3% [-4, 10], corrected p = 1;" in sentence(higher)


@pytest.mark.parametrize(
    ("n_groups", "ending"),
    [(1, "1 specimen is too few to show any difference"), (5, "5 specimens are too few to show any difference")],
)
def test_too_few_specimens_are_said_to_be(n_groups: int, ending: str) -> None:
    few = replace(
        SHOWN, n_groups=n_groups, p_holm=0.5, ratio_ci95=None, minimum_detectable_ratio=None, verdict=NOT_SHOWN
    )
    assert sentence(few).endswith(f"; {ending}")
    assert "lower by 4%," in sentence(few)
    among = ending.replace("any difference", "anything among 12 comparisons")
    assert sentence(replace(few, family_size=12)).endswith(f"; {among}")


def test_equal_losses_and_losses_of_zero_are_said_to_be() -> None:
    assert sentence(replace(SHOWN, ratio=1.0, ratio_ci95=(1.0, 1.0), verdict=NO_DIFFERENCE)) == (
        "pathwise makes no difference to the loss against learned_path at 1/23 (shared generator): "
        "all losses are the same"
    )
    assert sentence(replace(SHOWN, ratio=None, ratio_ci95=None, verdict=NOT_SHOWN)) == (
        "pathwise cannot be set in proportion to learned_path at 1/23 (shared generator), whose loss is 0"
    )


@pytest.mark.parametrize(
    ("ratio", "interval", "text"),
    [
        (0.96, (0.94, 0.98), "4% [2, 6]"),
        (0.96, (0.938, 0.997), "4.0% [0.3, 6.2]"),
        (0.9965, (0.9958, 0.9972), "0.35% [0.28, 0.42]"),
        (1.0, (0.992, 1.008), "0.0% [-0.8, 0.8]"),
        (3.0, (2.0, 4.0), "200% [100, 300]"),
        (0.999, (0.98, 1.02), "0% [-2, 2]"),
        (0.5, (0.5, 0.5), "50.00% [50.00, 50.00]"),
        (1.0, (1.0, 1.0), "0.00% [0.00, 0.00]"),
    ],
)
def test_percentages_have_as_many_decimals_as_it_takes(ratio: float, interval: tuple[float, float], text: str) -> None:
    assert percent(ratio, interval) == text


@given(ratio=st.floats(0.01, 10.0), below=st.floats(0.0, 0.9), above=st.floats(0.0, 5.0))
def test_percentages_are_those_of_the_ratio(ratio: float, below: float, above: float) -> None:
    low, high = ratio * (1 - below), ratio * (1 + above)
    value, _, ends = percent(ratio, (low, high)).partition("% [")
    sign = -1 if ratio <= 1 else 1
    expected = sorted(100 * sign * (end - 1) for end in (low, high))
    assert float(value) == pytest.approx(100 * abs(ratio - 1), abs=0.51)
    assert [float(end) for end in ends.removesuffix("]").split(", ")] == pytest.approx(expected, abs=0.51)
    if low > 1.0001 or high < 0.9999:
        assert float(ends.split(",")[0]) > 0 or abs(1 - (high if high < 1 else low)) < 0.0001


def test_lists_and_counts_are_english() -> None:
    assert [join(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert [counted(n, "specimen") for n in (0, 1, 2)] == ["0 specimens", "1 specimen", "2 specimens"]


ONE = ScanComparison(
    "1/23", ("pathwise", "shared"), ("spiral", "shared"), PRIMARY, 10, 5, 1.0, 1.0, 1.0, None, 0.5, 1.0, 1.0, 0.0, None,
    {}, {}, verdict=NOT_SHOWN, sentence="pathwise this and that",
)  # fmt: skip


FAMILY = "of pathwise with the best static scan or the learned path, corrected for their number together"
BY = "by the shared generator"


@pytest.mark.parametrize(
    ("verdicts", "tally"),
    [
        ([LOWERS], f"Of 1 comparison {FAMILY}: {BY}: 1 with a lower loss."),
        (
            [LOWERS, RAISES, LOWERS, NOT_SHOWN, NO_DIFFERENCE],
            f"Of 5 comparisons {FAMILY}: {BY}: 2 with a lower loss, 1 with a higher loss, 1 with the same losses "
            "and 1 in which no difference is shown.",
        ),
        ([], "No adaptive scan was compared with a static one."),
    ],
)
def test_tally_counts_the_primary_family(verdicts: list[str], tally: str) -> None:
    other = replace(ONE, family="scans against the reference at 1/23, shared", verdict=LOWERS)
    assert headlines([*(replace(ONE, verdict=verdict) for verdict in verdicts), other], {}, {})[0] == tally


def test_sentences_are_of_networks_and_of_the_questions_that_matter() -> None:
    comparisons = [
        replace(ONE, family="scans against the reference at 1/23, shared", sentence="a row of the table"),
        replace(ONE, family="policies against their controls at 1/23, shared", sentence="control"),
        replace(ONE, family="learned path against static scans at 1/23, own", first=("p", "own"), sentence="its own"),
        replace(ONE, family="learned path against static scans at 1/23, shared", sentence="learned"),
        replace(ONE, first=("pathwise", "own"), sentence="own"),
        replace(ONE, first=("pathwise", "linear"), sentence="linear"),
        replace(ONE, sentence="shared"),
    ]
    assert headlines(comparisons, {}, {})[2:] == ["own.", "shared.", "control.", "learned."]
    assert further_sentences(comparisons) == ["its own.", "linear."]
    assert headlines(comparisons[5:6], {}, {})[2:] == ["linear."]
    assert further_sentences(comparisons[5:6]) == []


def test_the_tally_is_by_completer_and_every_comparison_in_it_has_its_sentence() -> None:
    sides = [("pathwise", "shared"), ("rdpg", "shared"), ("rdpg", "own"), ("pathwise", "infill+"), ("rdpg", "infill+")]
    primary = [replace(ONE, first=side, sentence=" by ".join(side)) for side in sides]
    primary[1] = replace(primary[1], verdict=LOWERS)
    rules = replace(ONE, family=OTHER_ADAPTIVE, first=("greedy", "shared"), sentence="greedy", verdict=RAISES)
    found = headlines([*primary, rules], {}, {})
    assert found[0] == (
        "Of 5 comparisons of pathwise and rdpg with the best static scan or the learned path, corrected for their "
        "number together: by the shared generator: 1 with a lower loss and 1 in which no difference is shown; "
        "by generators of their own: 1 in which no difference is shown; by infill+: 2 in which no difference is shown."
    )
    told = [*found[2:], *further_sentences([*primary, rules])]
    assert sorted(told) == sorted(f"{one.sentence}." for one in (*primary, rules))
    assert "greedy." not in found


def test_the_learned_path_is_told_against_the_best_other_static_scan_alone() -> None:
    family = "learned path against static scans at 1/23, shared"
    learned = [
        replace(
            ONE, family=family, first=("learned", "shared"), second=(name, "shared"), mean_second=mean, sentence=name
        )
        for name, mean in (("raster", 2.0), ("spiral", 1.0), ("grid", 3.0))
    ]
    assert headlines(learned, {}, {})[2:] == ["spiral."]
    assert further_sentences(learned) == ["raster.", "grid."]


def test_verdicts_are_about_these_networks() -> None:
    assert headlines([], {}, {}, n_seeds=1)[1] == (
        "These are the networks of 1 seed; nothing is known of another training."
    )
    assert headlines([], {}, {}, n_seeds=3)[1].startswith("These are the networks of 3 seeds; ")


def test_choice_of_the_static_scan_is_told() -> None:
    assert headlines([], {"1/23": "spiral", "1/46": "raster"}, {"1/23": "validation", "1/46": "test"})[2:] == [
        "The best static scan at 1/23 is spiral, chosen on validation crops.",
        "The best static scan at 1/46 is raster, chosen on the test crops themselves, "
        "which favours it over the adaptive scans.",
    ]
