"""The main findings of a benchmark as a short list of sentences, and the rest as a longer one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from adaptive_scan.benchmark.definition import OWN, SHARED
from adaptive_scan.benchmark.questions import OTHER_ADAPTIVE, PRIMARY
from adaptive_scan.benchmark.verdicts import LOWERS, NO_DIFFERENCE, RAISES, Comparison, counted, join

_LEARNED = "learned path against"
_CONTROLS = "policies against their controls"
_FURTHER = (_LEARNED, _CONTROLS, "oracle against", "adaptive against", PRIMARY, OTHER_ADAPTIVE)


def headlines(
    comparisons: Sequence[Comparison],
    best_static: Mapping[str, str],
    chosen_on: Mapping[str, str],
    *,
    n_seeds: int = 1,
) -> list[str]:
    """The findings that a benchmark is made for, and how they came about.

    Args:
        comparisons: Of `adaptive_scan.benchmark.analysis.analyse`.
        best_static: The best contiguous static scan of each geometry.
        chosen_on: "validation" or "test" by geometry.
        n_seeds: Number of seeds, each with networks of its own.

    Returns:
        Sentences that end in a full stop: the tally of the primary family, in all and by completer; what the seeds
        allow to say; the comparisons of that family by networks; its scans against their controls, and the learned path
        against the best other static scan, both by the shared generator; and how the best static scan was chosen. All
        others that are told are those of `further_sentences`.
    """
    told = [f"{one.sentence}." for one in _main(comparisons)]
    return [*_tally(comparisons), _about_seeds(n_seeds), *told, *_choices(best_static, chosen_on)]


def further_sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """The findings that `headlines` leaves out and that are no mere row of a table of means.

    Args:
        comparisons: Of `adaptive_scan.benchmark.analysis.analyse`.
    """
    told = {id(one) for one in _main(comparisons)}
    return [f"{one.sentence}." for one in comparisons if id(one) not in told and one.family.startswith(_FURTHER)]


def _main(comparisons: Sequence[Comparison]) -> list[Comparison]:
    primary = [one for one in comparisons if one.family == PRIMARY]
    actors = {one.first[0] for one in primary}
    by_networks = [one for one in primary if one.first[1] in (SHARED, OWN)] or primary
    shared = [one for one in comparisons if one.first[1] == SHARED]
    controls = [one for one in shared if one.family.startswith(_CONTROLS) and one.first[0] in actors]
    learned = [one for one in shared if one.family.startswith(_LEARNED)]
    best: dict[tuple[str, str], Comparison] = {}
    for one in sorted(learned, key=lambda one: one.mean_second):
        best.setdefault((one.geometry, one.first[0]), one)
    return [*by_networks, *controls, *(one for one in learned if one in best.values())]


def _tally(comparisons: Sequence[Comparison]) -> Iterator[str]:
    primary = [one for one in comparisons if one.family == PRIMARY]
    if not primary:
        yield "No adaptive scan was compared with a static one."
        return
    completers = list(dict.fromkeys(one.first[1] for one in primary))
    parts = [f"{_by(name)}: {_counts([one for one in primary if one.first[1] == name])}" for name in completers]
    noun = counted(len(primary), "comparison")
    yield (
        f"Of {noun} of {join(list(dict.fromkeys(one.first[0] for one in primary)))} with the best static scan or the "
        f"learned path, corrected for their number together: {'; '.join(parts)}."
    )


def _by(completer: str) -> str:
    return {SHARED: "by the shared generator", OWN: "by generators of their own"}.get(completer, f"by {completer}")


def _counts(comparisons: Sequence[Comparison]) -> str:
    verdicts = [one.verdict for one in comparisons]
    lower, higher, same = (verdicts.count(verdict) for verdict in (LOWERS, RAISES, NO_DIFFERENCE))
    parts = [
        f"{n} {text}"
        for n, text in (
            (lower, "with a lower loss"),
            (higher, "with a higher loss"),
            (same, "with the same losses"),
            (len(comparisons) - lower - higher - same, "in which no difference is shown"),
        )
        if n
    ]
    return join(parts)


def _about_seeds(n_seeds: int) -> str:
    if n_seeds == 1:
        return "These are the networks of 1 seed; nothing is known of another training."
    return (
        f"These are the networks of {n_seeds} seeds; a difference is shown only where all of them go the same way, and "
        "how far the next training may lie from them is not known."
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
