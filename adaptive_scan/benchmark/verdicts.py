"""What may be said of two scans: a comparison, its verdict, one plain sentence, and the main ones of a benchmark.

A difference is shown where three things hold: the 95% interval of the ratio of mean losses excludes 1; the signed-rank
test over specimens, corrected for the number of comparisons, goes the same way with p below 0.05; and so does the ratio
of every seed by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from adaptive_scan.benchmark.definition import OWN, SHARED
from adaptive_scan.benchmark.questions import OTHER_ADAPTIVE, PRIMARY, Side

LOWERS, RAISES, NOT_SHOWN, NO_DIFFERENCE = "lowers", "raises", "not shown", "no difference"
"""Verdicts: the first scan has the lower loss, or the higher one; neither is shown; or all losses are the same."""

LEVEL = 0.05
"""A p-value below this, after correction, counts as shown."""

Interval = tuple[float, float]
"""Lower and upper end."""

Part = tuple[float | None, Interval | None, int, str]
"""Of some of the crops: ratio of mean losses, its 95% interval, the number of groups, and the verdict, whose test is
corrected for the number of parts of that kind; None where there is none."""

_LEARNED = "learned path against"
_CONTROLS = "policies against their controls"
_FURTHER = (_LEARNED, _CONTROLS, "oracle against", "adaptive against", PRIMARY, OTHER_ADAPTIVE)
_PLURALS = {"lattice": "lattices", "other": "other pictures"}


@dataclass(frozen=True)
class ScanComparison:
    """One scan and completer beside another on the same crops; a ratio below 1 says that the first is better.

    Attributes:
        geometry: Name of the geometry.
        first: Scan and completer of the one.
        second: Scan and completer of the other.
        family: Comparisons that were corrected for their number together; see `adaptive_scan.benchmark.questions`.
        n_crops: Number of crops, each counted in each seed.
        n_groups: Number of specimens.
        mean_first: Mean loss of the first.
        mean_second: Mean loss of the second.
        ratio: ``mean_first / mean_second``; None if that is 0.
        ratio_ci95: 95% interval of the ratio over seeds, specimens and crops; None if there is none.
        win_rate: Fraction of crops on which the first has the lower loss, ties counted half.
        p_value: Of the signed-rank test over specimens.
        p_holm: The same, corrected for the number of comparisons of the family.
        effect_size: Matched-pairs rank-biserial correlation over specimens; positive where the first is better.
        minimum_detectable_ratio: Ratio that the test would find with a power of 0.8 at `LEVEL` over the number of
            comparisons of the family; None where it could find none.
        by_content: By what the pictures show.
        by_sparsity: By thirds of the pictures from the least sparse to the sparsest.
        by_seed: By seed, each with networks and test pictures of its own.
        family_size: Number of comparisons of the family.
        verdict: `LOWERS`, `RAISES`, `NOT_SHOWN` or `NO_DIFFERENCE`.
        sentence: The verdict in words.
    """

    geometry: str
    first: Side
    second: Side
    family: str
    n_crops: int
    n_groups: int
    mean_first: float
    mean_second: float
    ratio: float | None
    ratio_ci95: Interval | None
    win_rate: float
    p_value: float
    p_holm: float
    effect_size: float
    minimum_detectable_ratio: float | None
    by_content: Mapping[str, Part]
    by_sparsity: Mapping[str, Part]
    by_seed: Mapping[str, Part] = field(default_factory=dict)
    family_size: int = 1
    verdict: str = NOT_SHOWN
    sentence: str = ""


def decide(
    interval: Interval | None, p_holm: float, effect_size: float, seed_ratios: Sequence[float | None] = ()
) -> str:
    """Whether a difference is shown: the interval excludes 1, and the corrected test and all seeds go the same way.

    Args:
        interval: 95% interval of the ratio of mean losses.
        p_holm: Corrected p-value of the signed-rank test.
        effect_size: Rank-biserial correlation, positive where the first scan is better.
        seed_ratios: Ratio of mean losses of each seed.

    Returns:
        `LOWERS`, `RAISES` or `NOT_SHOWN`.

    Example:
        >>> decide((0.94, 0.98), 0.01, 0.8), decide((0.94, 0.98), 0.09, 0.5), decide((0.94, 1.02), 0.01, 0.8)
        ('lowers', 'not shown', 'not shown')
        >>> decide((0.94, 0.98), 0.01, 0.8, [0.92, 0.93, 1.01])
        'not shown'
    """
    if interval is None or not p_holm < LEVEL:
        return NOT_SHOWN
    if interval[1] < 1 and effect_size > 0:
        return LOWERS if all(ratio is not None and ratio < 1 for ratio in seed_ratios) else NOT_SHOWN
    if interval[0] > 1 and effect_size < 0:
        return RAISES if all(ratio is not None and ratio > 1 for ratio in seed_ratios) else NOT_SHOWN
    return NOT_SHOWN


def sentence(comparison: ScanComparison) -> str:
    """The verdict of a comparison as one plain sentence, without a full stop.

    A change of p% is a ratio of 1 - p/100 (lower) or 1 + p/100 (higher); brackets hold its 95% interval. Kinds of
    pictures on which a difference is not shown, or the opposite is, or which have too few specimens, are named. Where
    nothing is shown, it says what is missing, and what could have been found.

    Example:
        >>> part = {"lattice": (0.99, (0.96, 1.02), 6, NOT_SHOWN), "particles": (0.93, (0.9, 0.96), 8, LOWERS)}
        >>> print(sentence(ScanComparison(
        ...     "1/23", ("pathwise", "shared"), ("learned_path", "shared"), "", 104, 13, 0.96, 1.0, 0.96, (0.94, 0.98),
        ...     0.7, 0.001, 0.01, 0.9, 0.97, part, {}, verdict="lowers")))
        pathwise lowers the loss by 4% [2, 6] against learned_path at 1/23 (shared generator); not shown on lattices
    """
    names, place = _names(comparison)
    if comparison.verdict == NO_DIFFERENCE:
        return f"{names[0]} makes no difference to the loss against {names[1]} {place}: all losses are the same"
    if comparison.ratio is None:
        return f"{names[0]} cannot be set in proportion to {names[1]} {place}, whose loss is 0"
    change = percent(comparison.ratio, comparison.ratio_ci95)
    if comparison.verdict == NOT_SHOWN:
        direction = "lower" if comparison.ratio <= 1 else "higher"
        return "; ".join(
            [
                f"{names[0]} is not shown to change the loss against {names[1]} {place}: {direction} by {change}, "
                f"corrected p {_p_text(comparison.p_holm)}",
                *_what_fails(comparison),
                *([] if comparison.p_holm < LEVEL else [_detectable(comparison)]),
            ]
        )
    exceptions = "".join(f"; {text}" for text in _exceptions(comparison))
    return f"{names[0]} {comparison.verdict} the loss by {change} against {names[1]} {place}{exceptions}"


def percent(ratio: float, interval: Interval | None) -> str:
    """The change that a ratio stands for in percent, towards the side of 1 on which it lies, as ``4% [2, 6]``.

    There are as many decimals, up to two, as it takes to tell the ends apart and the nearer one from no change.

    Example:
        >>> percent(0.96, (0.94, 0.98)), percent(1.004, (1.001, 1.007)), percent(0.99, None)
        ('4% [2, 6]', '0.4% [0.1, 0.7]', '1%')
    """
    sign = -1.0 if ratio <= 1 else 1.0
    low, high = sorted(100.0 * sign * (end - 1.0) for end in interval or (ratio, ratio))
    value = 100.0 * sign * (ratio - 1.0)
    smallest = min((abs(end) for end in (low, high) if end != 0), default=1.0)
    width = high - low if interval is not None else 2.0
    decimals = next((n for n in (0, 1) if smallest > 0.5 * 10**-n and width >= 2 * 10**-n), 2)
    texts = [f"{number + 0.0:.{decimals}f}" for number in (value, low, high)]
    value_text, low_text, high_text = (text.removeprefix("-") if float(text) == 0 else text for text in texts)
    return f"{value_text}% [{low_text}, {high_text}]" if interval is not None else f"{value_text}%"


def join(names: Sequence[str]) -> str:
    """Names as a list in a sentence.

    Example:
        >>> join(["a"]), join(["a", "b"]), join(["a", "b", "c"])
        ('a', 'a and b', 'a, b and c')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def counted(n: int, singular: str) -> str:
    """A number with its noun, whose plural takes an s.

    Example:
        >>> counted(1, "specimen"), counted(13, "specimen")
        ('1 specimen', '13 specimens')
    """
    return f"{n} {singular}{'' if n == 1 else 's'}"


def _names(comparison: ScanComparison) -> tuple[tuple[str, str], str]:
    """Both scans as a sentence names them, and where and by what they were completed."""
    (first, judge), (second, other_judge) = comparison.first, comparison.second
    # A comma in a name would end the clause that it stands in.
    first, second = (f'"{name}"' if "," in name else name for name in (first, second))
    if judge != other_judge:
        return (f"{first} ({_completer(judge)})", f"{second} ({_completer(other_judge)})"), f"at {comparison.geometry}"
    plural = "s" if judge == OWN and first != second else ""
    return (first, second), f"at {comparison.geometry} ({_completer(judge)}{plural})"


def _completer(name: str) -> str:
    return {SHARED: "shared generator", OWN: "own generator"}.get(name, f"completed by {name}")


def _exceptions(comparison: ScanComparison) -> list[str]:
    """What pictures a shown difference is not shown on, in words."""
    not_shown, opposite, unknown = [], [], []
    for name, (ratio, interval, _, verdict) in comparison.by_content.items():
        pictures = _PLURALS.get(name, name.replace("_", " "))
        if ratio is None or interval is None:
            unknown.append(pictures)
        elif verdict not in (LOWERS, RAISES):
            not_shown.append(pictures)
        elif verdict != comparison.verdict:
            opposite.append(f"{verdict} it by {percent(ratio, interval)} on {pictures}")
    found = [f"not shown on {join(not_shown)}"] if not_shown else []
    return [*found, *opposite, *([f"too few specimens of {join(unknown)} to tell"] if unknown else [])]


def _what_fails(comparison: ScanComparison) -> list[str]:
    """Which half of a verdict is missing where the other one is there, in words; nothing where both are missing."""
    found = comparison.p_holm < LEVEL
    if comparison.ratio is None or comparison.ratio_ci95 is None:
        return ["the mean over all crops has no interval"] if found else []
    low, high = comparison.ratio_ci95
    falls = comparison.ratio <= 1
    mean = f"the mean over all crops {'falls' if falls else 'rises'}"
    against = comparison.effect_size != 0 and (comparison.effect_size > 0) != falls
    most = f"most specimens {'fall' if comparison.effect_size > 0 else 'rise'}"
    if low <= 1 <= high:
        return [f"{most}, but the interval of the mean over all crops holds no change"] if found else []
    if against:
        return [f"{mean}, but {most}"]
    if not found:
        return [f"{mean}, but the test over specimens does not bear it out"]
    ratios = [part[0] for part in comparison.by_seed.values()]
    agree = sum(ratio is not None and ratio != 1 and (ratio < 1) == falls for ratio in ratios)
    return [f"the seeds disagree: it is {'lower' if falls else 'higher'} in {agree} of {len(ratios)}"]


def _detectable(comparison: ScanComparison) -> str:
    specimens = counted(comparison.n_groups, "specimen")
    several = comparison.family_size > 1
    if comparison.minimum_detectable_ratio is None:
        among = f"anything among {comparison.family_size} comparisons" if several else "any difference"
        return f"{specimens} {'is' if comparison.n_groups == 1 else 'are'} too few to show {among}"
    change = percent(comparison.minimum_detectable_ratio, None)
    corrected = f", corrected for {comparison.family_size} comparisons," if several else ""
    return f"with {specimens} the test{corrected} finds a difference of {change} four times in five"


def _p_text(p_value: float) -> str:
    return f"= {p_value:.2g}" if p_value >= 0.001 else "below 0.001"


def headlines(
    comparisons: Sequence[ScanComparison],
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


def further_sentences(comparisons: Sequence[ScanComparison]) -> list[str]:
    """The findings that `headlines` leaves out and that are no mere row of a table of means.

    Args:
        comparisons: Of `adaptive_scan.benchmark.analysis.analyse`.
    """
    told = {id(one) for one in _main(comparisons)}
    return [f"{one.sentence}." for one in comparisons if id(one) not in told and one.family.startswith(_FURTHER)]


def _main(comparisons: Sequence[ScanComparison]) -> list[ScanComparison]:
    primary = [one for one in comparisons if one.family == PRIMARY]
    actors = {one.first[0] for one in primary}
    by_networks = [one for one in primary if one.first[1] in (SHARED, OWN)] or primary
    shared = [one for one in comparisons if one.first[1] == SHARED]
    controls = [one for one in shared if one.family.startswith(_CONTROLS) and one.first[0] in actors]
    learned = [one for one in shared if one.family.startswith(_LEARNED)]
    best: dict[tuple[str, str], ScanComparison] = {}
    for one in sorted(learned, key=lambda one: one.mean_second):
        best.setdefault((one.geometry, one.first[0]), one)
    return [*by_networks, *controls, *(one for one in learned if one in best.values())]


def _tally(comparisons: Sequence[ScanComparison]) -> Iterator[str]:
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


def _counts(comparisons: Sequence[ScanComparison]) -> str:
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
