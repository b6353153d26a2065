"""The main findings of a benchmark as a short list of sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from adaptive_scan.evaluation.benchmark import OWN, SHARED
from adaptive_scan.evaluation.pairings import PRIMARY
from adaptive_scan.evaluation.verdicts import LOWERS, NO_DIFFERENCE, RAISES, Comparison, counted, join

# Openings of the families of which sentences are told beside the primary one.
_TOLD = ("learned path against", "policies against their controls", "oracle against")


def headlines(
    comparisons: Sequence[Comparison], best_static: Mapping[str, str], chosen_on: Mapping[str, str]
) -> list[str]:
    """Every finding about adaptive scans by networks, the learned path, the controls, and how they came about.

    Args:
        comparisons: Of `adaptive_scan.evaluation.analysis.analyse`.
        best_static: The best contiguous static scan of each geometry.
        chosen_on: "validation" or "test" by geometry.

    Returns:
        Sentences that end in a full stop: the tally of the primary family first, then its comparisons by networks, then
        those of other families by the shared generator that are no mere row of the table, then how the best static scan
        was chosen.
    """
    primary = [one for one in comparisons if one.family == PRIMARY]
    others = [one for one in comparisons if _is_finding(one)]
    told = [one for one in primary if one.first[1] in (SHARED, OWN)] or primary
    return [*_tally(primary), *(f"{one.sentence}." for one in (*told, *others)), *_choices(best_static, chosen_on)]


def _is_finding(one: Comparison) -> bool:
    return one.family.startswith(_TOLD) and one.first[1] == SHARED


def _tally(primary: Sequence[Comparison]) -> Iterator[str]:
    if not primary:
        yield "No adaptive scan was compared with a static one."
        return
    verdicts = [one.verdict for one in primary]
    lower, higher = verdicts.count(LOWERS), verdicts.count(RAISES)
    same = verdicts.count(NO_DIFFERENCE)
    rest = len(primary) - lower - higher - same
    parts = [
        f"{n} {text}"
        for n, text in (
            (lower, "with a lower loss"),
            (higher, "with a higher loss"),
            (same, "with the same losses"),
            (rest, "in which no difference is shown"),
        )
        if n
    ]
    noun = counted(len(primary), "comparison")
    yield (
        f"Of {noun} of an adaptive scan with the best static scan or the learned path, corrected for their number "
        f"together: {join(parts)}."
    )


def _choices(best_static: Mapping[str, str], chosen_on: Mapping[str, str]) -> Iterator[str]:
    for geometry, scan in best_static.items():
        if chosen_on[geometry] == "validation":
            yield f"The best static scan at {geometry} is {scan}, chosen on validation crops."
        else:
            yield (
                f"The best static scan at {geometry} is {scan}, chosen on the test crops themselves, "
                "which favours it over the adaptive scans."
            )
