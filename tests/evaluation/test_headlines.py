from __future__ import annotations

from dataclasses import replace

import pytest

from adaptive_scan.evaluation.headlines import headlines
from adaptive_scan.evaluation.pairings import PRIMARY
from adaptive_scan.evaluation.verdicts import LOWERS, NO_DIFFERENCE, NOT_SHOWN, RAISES, Comparison

ONE = Comparison(
    "1/23", ("pathwise", "shared"), ("spiral", "shared"), PRIMARY, 10, 5, 1.0, 1.0, 1.0, None, 0.5, 1.0, 1.0, 0.0, None,
    {}, {}, verdict=NOT_SHOWN, sentence="pathwise this and that",
)  # fmt: skip


FAMILY = "of an adaptive scan with the best static scan or the learned path, corrected for their number together"


@pytest.mark.parametrize(
    ("verdicts", "tally"),
    [
        ([LOWERS], f"Of 1 comparison {FAMILY}: 1 with a lower loss."),
        (
            [LOWERS, RAISES, LOWERS, NOT_SHOWN, NO_DIFFERENCE],
            f"Of 5 comparisons {FAMILY}: 2 with a lower loss, 1 with a higher loss, 1 with the same losses "
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
    assert headlines(comparisons, {}, {})[1:] == ["own.", "shared.", "control.", "learned."]
    assert headlines(comparisons[5:6], {}, {})[1:] == ["linear."]


def test_choice_of_the_static_scan_is_told() -> None:
    assert headlines([], {"1/23": "spiral", "1/46": "raster"}, {"1/23": "validation", "1/46": "test"})[1:] == [
        "The best static scan at 1/23 is spiral, chosen on validation crops.",
        "The best static scan at 1/46 is raster, chosen on the test crops themselves, "
        "which favours it over the adaptive scans.",
    ]
