from __future__ import annotations

from dataclasses import replace

import pytest

from adaptive_scan.benchmark.headlines import further_sentences, headlines
from adaptive_scan.benchmark.questions import OTHER_ADAPTIVE, PRIMARY
from adaptive_scan.benchmark.verdicts import LOWERS, NO_DIFFERENCE, NOT_SHOWN, RAISES, Comparison

ONE = Comparison(
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
