"""From the rows of a benchmark to what may be said: comparisons, the factorial, win rates, means and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from adaptive_scan.benchmark.definition import OWN, SHARED
from adaptive_scan.benchmark.questions import (
    LossTable,
    Question,
    ScanLosses,
    best_classical_completers,
    best_static_scans,
    common_crops,
    load_losses,
    questions,
    reference_scan,
)
from adaptive_scan.benchmark.verdicts import (
    LEVEL,
    NO_DIFFERENCE,
    Interval,
    Part,
    ScanComparison,
    decide,
    further_sentences,
    headlines,
    sentence,
)
from adaptive_scan.evaluation.results import COST_COLUMNS, METRIC_COLUMNS, Paired, Results
from adaptive_scan.evaluation.statistics import (
    effect_size,
    hierarchical_bootstrap,
    holm,
    minimum_detectable_ratio,
    ratio_of_means,
    small_sample_interval,
    wilcoxon,
    win_rate,
)

THIRDS = ("least sparse third", "middle third", "sparsest third")
"""Names of the thirds of the crops by sparsity."""

FEWEST_GROUPS = 6
"""Crops of fewer specimens are given no interval: the signed-rank test could show nothing there either."""


@dataclass(frozen=True)
class Summary:
    """One scan with one completer over all crops of all seeds.

    Attributes:
        geometry: Name of the geometry.
        scan: Name of the scan.
        completer: Name of the completer.
        role: One of `adaptive_scan.evaluation.results.ROLES`.
        contiguous: Whether the probe moves from each position to one nearby.
        n_crops: Number of crops, each counted in each seed.
        n_groups: Number of specimens.
        metrics: Mean of each metric and cost over the crops on which it is finite; None where it is on none.
    """

    geometry: str
    scan: str
    completer: str
    role: str
    contiguous: bool
    n_crops: int
    n_groups: int
    metrics: Mapping[str, float | None]


@dataclass(frozen=True)
class WinRates:
    """How often each scan has a lower loss than each other, by one completer at one geometry.

    Attributes:
        geometry: Name of the geometry.
        completer: Name of the completer.
        scans: Names of the scans.
        matrix: Fraction of crops on which the scan of the row has the lower loss than that of the column, ties counted
            half; None where they share no crop.
    """

    geometry: str
    completer: str
    scans: tuple[str, ...]
    matrix: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class FactorialRow:
    """One cell of {adaptive, best static} x {shared generator, own generator, best classical completer}.

    A classical completer is the same for all scans, so it has one column where the networks have two.

    Attributes:
        geometry: Name of the geometry.
        adaptive: The adaptive scan whose table it is.
        scan: This one, or the best static scan.
        role: "adaptive" or "best static".
        completer: Name of the completer.
        network: Whether that is a trained network.
        n_crops: Number of crops.
        loss: Mean loss.
        ratio_to_static: Mean loss over that of the best static scan by the same kind of completer; 1 for that itself;
            None if there is none.
        ratio_to_static_ci95: 95% interval of that ratio; None if there is none.
        ratio_to_shared: Mean loss over that of the same scan by the shared generator; likewise.
        ratio_to_shared_ci95: 95% interval of that ratio; None if there is none.
    """

    geometry: str
    adaptive: str
    scan: str
    role: str
    completer: str
    network: bool
    n_crops: int
    loss: float
    ratio_to_static: float | None
    ratio_to_static_ci95: Interval | None
    ratio_to_shared: float | None
    ratio_to_shared_ci95: Interval | None


@dataclass(frozen=True)
class Analysis:
    """What the results of a benchmark say.

    Attributes:
        name: Name of the benchmark.
        identity: Its hash.
        reference: Name of the scan that all others are compared with.
        n_resamples: Resamples of the bootstrap.
        best_static: The best contiguous static scan of each geometry.
        best_static_chosen_on: "validation" where the benchmark chose it, "test" where it was chosen from these losses.
        best_classical: The best classical completer of each geometry.
        comparisons: Two scans each; see `adaptive_scan.benchmark.questions.questions` for which.
        summaries: Means by geometry, scan and completer.
        factorial: {adaptive, best static} x {shared, own, best classical} for each adaptive scan with a generator of
            its own.
        win_rates: By geometry and completer.
        verdicts: The main findings, and how they came about, in plain sentences.
        further: Sentences of the other comparisons that are no mere row of the table.
    """

    name: str
    identity: str
    reference: str
    n_resamples: int
    best_static: Mapping[str, str]
    best_static_chosen_on: Mapping[str, str]
    best_classical: Mapping[str, str]
    comparisons: tuple[ScanComparison, ...]
    summaries: tuple[Summary, ...]
    factorial: tuple[FactorialRow, ...]
    win_rates: tuple[WinRates, ...]
    verdicts: tuple[str, ...]
    further: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Everything as values that strict JSON takes; numbers that are not finite become None."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def analyse(results: Results, *, n_resamples: int = 4000, seed: int = 0) -> Analysis:
    """Compare the scans of a benchmark as `adaptive_scan.benchmark.questions.questions` lists it.

    Every ratio of `FEWEST_GROUPS` specimens or more has the interval of `hierarchical_bootstrap`, widened by
    `small_sample_interval`, and every p-value is of `wilcoxon`, corrected by `holm` within its family. The primary
    family holds the comparisons of the adaptive scans that the description's ``factorial`` names (the trained actors),
    or of all where it names none, with the best static scan and the learned path, at all geometries, by the shared
    generator, generators of their own and the best classical completer. The other adaptive scans (the heuristics) are
    a family of their own, so that their number takes nothing from the first.
    The resamples of two comparisons on the same crops are the same, so no interval depends on what else is compared.

    Args:
        results: Of the benchmark. Its description names the ``reference`` scan, and may name the ``best_static`` scan
            of each geometry, chosen on validation crops; see `adaptive_scan.benchmark.questions.best_static_scans`.
        n_resamples: Resamples of each interval.
        seed: Of the resamples.

    Returns:
        The analysis; the same one for the same results and seed.

    Raises:
        SettingError: If there are no rows, or a scan that the description names has none.
        ValueError: If a loss is not finite.
    """
    table = load_losses(results.rows)
    best_static, chosen_on = best_static_scans(results, table)
    classical = best_classical_completers(table)
    bootstrap = _Bootstrap(n_resamples, seed)
    comparisons = compare(questions(results, table), table, bootstrap)
    return Analysis(
        name=results.name,
        identity=results.identity,
        reference=reference_scan(results, table),
        n_resamples=n_resamples,
        best_static=best_static,
        best_static_chosen_on=chosen_on,
        best_classical=classical,
        comparisons=tuple(comparisons),
        summaries=tuple(_summary(one) for one in table.values()),
        factorial=tuple(_factorial(table, best_static, classical, bootstrap)),
        win_rates=tuple(_win_rates(table)),
        verdicts=tuple(
            headlines(comparisons, best_static, chosen_on, n_seeds=len(set(results.rows["seed"].to_pylist())))
        ),
        further=tuple(further_sentences(comparisons)),
    )


@dataclass(frozen=True)
class _Bootstrap:
    """Intervals of many comparisons, those on the same crops with the same resamples.

    There is none of fewer than `FEWEST_GROUPS` groups.
    """

    n_resamples: int
    seed: int

    def intervals(self, pairs: Sequence[Paired]) -> list[Interval | None]:
        alike: dict[bytes, list[int]] = {}
        for place, pair in enumerate(pairs):
            if len(np.unique(pair.groups)) >= FEWEST_GROUPS:
                alike.setdefault(_structure(pair), []).append(place)
        found: list[Interval | None] = [None] * len(pairs)
        for places in alike.values():
            one = pairs[places[0]]
            first, second = (
                np.stack([getattr(pairs[place], side) for place in places]) for side in ("first", "second")
            )
            rng = np.random.default_rng(self.seed)
            ends = hierarchical_bootstrap(first, second, one.seeds, one.groups, rng, n_resamples=self.n_resamples)
            for place, interval in zip(places, ends, strict=True):
                found[place] = _widened(interval, pairs[place])
        return found

    def ratios(self, pairs: Sequence[Paired | None]) -> list[tuple[float | None, Interval | None]]:
        """Ratio of mean losses and its interval of each; None and None where there is no pair."""
        found: list[tuple[float | None, Interval | None]] = [(None, None)] * len(pairs)
        known = [(place, pair) for place, pair in enumerate(pairs) if pair is not None]
        for (place, pair), interval in zip(known, self.intervals([pair for _, pair in known]), strict=True):
            found[place] = (ratio_of_means(pair.first, pair.second), interval)
        return found


def _widened(interval: Interval | None, pair: Paired) -> Interval | None:
    ratio = ratio_of_means(pair.first, pair.second)
    if interval is None or ratio is None or not min(ratio, *interval) > 0:
        return None
    return small_sample_interval(interval, ratio, len(np.unique(pair.groups)))


def _structure(pair: Paired) -> bytes:
    """Equal for pairs on the same crops of the same seeds and groups."""
    return b"|".join([pair.seeds.tobytes(), pair.crops.tobytes(), "\n".join(pair.groups.tolist()).encode()])


def compare(asked: Sequence[Question], table: LossTable, bootstrap: _Bootstrap) -> list[ScanComparison]:
    """Answer each question whose two sides share crops."""
    paired = [common_crops(table[one.geometry, *one.first], table[one.geometry, *one.second]) for one in asked]
    answered = [(question, pair) for question, pair in zip(asked, paired, strict=True) if pair is not None]
    pairs = [pair for _, pair in answered]
    intervals = bootstrap.intervals(pairs)
    by_content = _parts_by(pairs, [_content_masks(pair) for pair in pairs], bootstrap)
    by_sparsity = _parts_by(pairs, [_sparsity_masks(pair) for pair in pairs], bootstrap)
    by_seed = _parts_by(pairs, [_seed_masks(pair) for pair in pairs], bootstrap)
    p_values = np.array([wilcoxon(pair.first, pair.second, pair.groups) for pair in pairs])
    families = [question.family for question, _ in answered]
    p_holm = _holm_by_family(families, p_values)
    return [
        _comparison(
            question,
            pair,
            intervals[place],
            (p_values[place], p_holm[place], families.count(question.family)),
            (by_content[place], by_sparsity[place], by_seed[place]),
        )
        for place, (question, pair) in enumerate(answered)
    ]


def _comparison(
    question: Question,
    pair: Paired,
    interval: Interval | None,
    test: tuple[float, float, int],
    parts: tuple[Mapping[str, Part], Mapping[str, Part], Mapping[str, Part]],
) -> ScanComparison:
    (p_value, p_holm, family_size), (by_content, by_sparsity, by_seed) = test, parts
    seed_ratios = [part[0] for part in by_seed.values()]
    effect = effect_size(pair.first, pair.second, pair.groups)
    same = np.array_equal(pair.first, pair.second)
    comparison = ScanComparison(
        geometry=question.geometry,
        first=question.first,
        second=question.second,
        family=question.family,
        n_crops=len(pair),
        n_groups=len(np.unique(pair.groups)),
        mean_first=float(np.mean(pair.first)),
        mean_second=float(np.mean(pair.second)),
        ratio=ratio_of_means(pair.first, pair.second),
        ratio_ci95=interval,
        win_rate=win_rate(pair.first, pair.second),
        p_value=float(p_value),
        p_holm=float(p_holm),
        effect_size=effect,
        minimum_detectable_ratio=minimum_detectable_ratio(
            pair.first, pair.second, pair.groups, alpha=LEVEL / family_size
        ),
        by_content=by_content,
        by_sparsity=by_sparsity,
        by_seed=by_seed,
        family_size=family_size,
        verdict=NO_DIFFERENCE if same else decide(interval, float(p_holm), effect, seed_ratios),
    )
    return replace(comparison, sentence=sentence(comparison))


def _parts_by(
    pairs: Sequence[Paired], masks: Sequence[Mapping[str, np.ndarray]], bootstrap: _Bootstrap
) -> list[dict[str, Part]]:
    """Parts of each pair by the names of its masks, whose tests are corrected for their number together."""
    places = [(place, name) for place, by_name in enumerate(masks) for name in by_name]
    parts = [pairs[place].where(masks[place][name]) for place, name in places]
    intervals = bootstrap.intervals(parts)
    # Those without an interval show nothing, so they take no part in the correction.
    tested = [number for number, interval in enumerate(intervals) if interval is not None]
    p_values = np.array([wilcoxon(parts[n].first, parts[n].second, parts[n].groups) for n in tested])
    p_holm = dict(zip(tested, _holm_by_family([places[n][0] for n in tested], p_values), strict=True))
    found: list[dict[str, Part]] = [{} for _ in pairs]
    for number, ((place, name), part, interval) in enumerate(zip(places, parts, intervals, strict=True)):
        effect = effect_size(part.first, part.second, part.groups)
        verdict = decide(interval, float(p_holm.get(number, 1.0)), effect)
        ratio = ratio_of_means(part.first, part.second)
        found[place][name] = (ratio, interval, len(np.unique(part.groups)), verdict)
    return found


def _seed_masks(pair: Paired) -> dict[str, np.ndarray]:
    return {f"seed {seed}": pair.seeds == seed for seed in np.unique(pair.seeds)}


def _content_masks(pair: Paired) -> dict[str, np.ndarray]:
    return {str(name): pair.content == name for name in np.unique(pair.content) if name}


def _sparsity_masks(pair: Paired) -> dict[str, np.ndarray]:
    """Thirds of the crops; equal ones fall into the same third, and one without crops is left out."""
    known = np.isfinite(pair.sparsity)
    if not known.any():
        return {}
    edges = np.quantile(pair.sparsity[known], [1 / 3, 2 / 3])
    third = np.searchsorted(edges, pair.sparsity, side="left")
    masks = {name: known & (third == place) for place, name in enumerate(THIRDS)}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _holm_by_family(families: Sequence[str | int], p_values: np.ndarray) -> np.ndarray:
    adjusted = np.empty(len(p_values))
    for family in dict.fromkeys(families):
        members = np.array([name == family for name in families])
        adjusted[members] = holm(p_values[members])
    return adjusted


def _factorial(
    table: LossTable, best_static: Mapping[str, str], classical: Mapping[str, str], bootstrap: _Bootstrap
) -> list[FactorialRow]:
    """At most six rows for each adaptive scan with a generator of its own, without those that were not measured."""
    cells = [
        (adaptive, role, own)
        for geometry, adaptive, judge in table
        if judge == OWN and table[geometry, adaptive, judge].role == "adaptive" and geometry in best_static
        for scan, role in ((adaptive, "adaptive"), (best_static[geometry], "best static"))
        for completer in (SHARED, OWN, classical.get(geometry, ""))
        if (own := table.get((geometry, scan, completer))) is not None
    ]
    beside = [
        table.get(key)
        for _, _, own in cells
        for key in (
            (own.geometry, best_static[own.geometry], own.completer),
            (own.geometry, own.scan, SHARED),
        )
    ]
    owners = [own for _, _, own in cells for _ in range(2)]
    pairs = [None if other is None else common_crops(own, other) for own, other in zip(owners, beside, strict=True)]
    ratios = bootstrap.ratios(pairs)
    return [
        FactorialRow(
            own.geometry, adaptive, own.scan, role, own.completer, own.completer in (SHARED, OWN), len(own.losses),
            own.mean, *ratios[2 * place], *ratios[2 * place + 1],
        )
        for place, (adaptive, role, own) in enumerate(cells)
    ]  # fmt: skip


def _summary(one: ScanLosses) -> Summary:
    means = {}
    for name in (*METRIC_COLUMNS, *COST_COLUMNS):
        values = one.rows[name].to_numpy()
        finite = values[np.isfinite(values)]
        means[name] = float(np.mean(finite)) if len(finite) > 0 else None
    n_groups = len(np.unique(one.groups))
    return Summary(one.geometry, one.scan, one.completer, one.role, one.contiguous, len(one.losses), n_groups, means)


def _win_rates(table: LossTable) -> list[WinRates]:
    found = []
    for geometry, completer in dict.fromkeys((one.geometry, one.completer) for one in table.values()):
        scans = [one for one in table.values() if (one.geometry, one.completer) == (geometry, completer)]
        matrix = tuple(tuple(_win_rate(one, other) for other in scans) for one in scans)
        found.append(WinRates(geometry, completer, tuple(one.scan for one in scans), matrix))
    return found


def _win_rate(first: ScanLosses, second: ScanLosses) -> float | None:
    pair = common_crops(first, second)
    return None if pair is None else win_rate(pair.first, pair.second)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
