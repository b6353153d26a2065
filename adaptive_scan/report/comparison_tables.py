"""Tables of the comparisons of a benchmark: all of them, by kinds of picture, and scan against generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adaptive_scan.benchmark.analysis import Analysis
from adaptive_scan.benchmark.definition import SHARED
from adaptive_scan.benchmark.questions import OTHER_ADAPTIVE, PRIMARY
from adaptive_scan.benchmark.verdicts import LOWERS, NO_DIFFERENCE, NOT_SHOWN, RAISES, Part, ScanComparison
from adaptive_scan.report.style import ScanStyle
from adaptive_scan.report.tables import NONE, Cell, ReportTable, number, ratio_text, scan_cells

_VERDICTS = {
    LOWERS: "lower loss",
    RAISES: "higher loss",
    NOT_SHOWN: "not shown",
    NO_DIFFERENCE: "the same losses",
}

_SIDES = ("geometry", "scan", "completer", "against")


def comparison_tables(analysis: Analysis, styles: Mapping[str, ScanStyle]) -> list[ReportTable]:
    """All comparisons: those that the benchmark is made for first, then those of other adaptive scans, then the rest.

    The rest is one table for each geometry.

    Verdicts that show a difference are set in bold.

    Args:
        analysis: What was made of the results.
        styles: Of the scans.
    """
    primary = [one for one in analysis.comparisons if one.family == PRIMARY]
    rules = [one for one in analysis.comparisons if one.family == OTHER_ADAPTIVE]
    others = [one for one in analysis.comparisons if one.family not in (PRIMARY, OTHER_ADAPTIVE)]
    tables = [
        _comparison_table("Adaptive scans against the best static scan and the learned path", primary, styles),
        _comparison_table("Other adaptive scans against the best static scan and the learned path", rules, styles),
    ]
    for geometry in dict.fromkeys(one.geometry for one in others):
        here = [one for one in others if one.geometry == geometry]
        tables.append(_comparison_table(f"All other comparisons at {geometry}", here, styles))
    return [table for table in tables if table.rows]


def _comparison_table(
    caption: str, comparisons: Sequence[ScanComparison], styles: Mapping[str, ScanStyle]
) -> ReportTable:
    headers = (
        *_SIDES, "ratio [95% interval]", "verdict", "mean loss",
        "mean loss of the other", "wins [%]", "p", "p, corrected (Holm)", "effect size", "detectable ratio", "crops",
        "specimens",
    )  # fmt: skip
    rows = tuple(_comparison_row(one, styles) for one in comparisons)
    return ReportTable(caption, headers, rows, 4)


def _comparison_row(one: ScanComparison, styles: Mapping[str, ScanStyle]) -> tuple[Cell, ...]:
    return (
        *_sides(one, styles),
        Cell(ratio_text(one.ratio, one.ratio_ci95), best=one.verdict in (LOWERS, RAISES)),
        Cell(_VERDICTS.get(one.verdict, one.verdict), best=one.verdict in (LOWERS, RAISES)),
        Cell(number(one.mean_first)),
        Cell(number(one.mean_second)),
        Cell(number(100.0 * one.win_rate, ".0f")),
        Cell(_p_text(one.p_value)),
        Cell(_p_text(one.p_holm)),
        Cell(number(one.effect_size, ".2f")),
        Cell(number(one.minimum_detectable_ratio, ".3f")),
        Cell(str(one.n_crops)),
        Cell(str(one.n_groups)),
    )


def content_tables(analysis: Analysis, styles: Mapping[str, ScanStyle]) -> list[ReportTable]:
    """Ratios of the comparisons on each kind of picture; no table where there is one kind alone.

    Args:
        analysis: What was made of the results.
        styles: Of the scans.
    """
    parts = [(one, one.by_content) for one in _findings(analysis)]
    return _part_tables("Ratios of losses by what the pictures show", parts, styles)


def sparsity_tables(analysis: Analysis, styles: Mapping[str, ScanStyle]) -> list[ReportTable]:
    """Ratios of the comparisons on the thirds of the pictures by sparsity.

    Args:
        analysis: What was made of the results.
        styles: Of the scans.
    """
    parts = [(one, one.by_sparsity) for one in _findings(analysis)]
    return _part_tables("Ratios of losses by the sparsity of the pictures", parts, styles)


def seed_tables(analysis: Analysis, styles: Mapping[str, ScanStyle]) -> list[ReportTable]:
    """Ratios of the comparisons in each seed by itself; no table where there is one seed alone.

    Args:
        analysis: What was made of the results.
        styles: Of the scans.
    """
    parts = [(one, one.by_seed) for one in _findings(analysis)]
    return _part_tables("Ratios of losses by seed", parts, styles)


def _findings(analysis: Analysis) -> list[ScanComparison]:
    """The comparisons that the benchmark is made for, or all if there is none of them."""
    primary = [one for one in analysis.comparisons if one.family == PRIMARY]
    return primary or list(analysis.comparisons)


def _part_tables(
    caption: str, parts: Sequence[tuple[ScanComparison, Mapping[str, Part]]], styles: Mapping[str, ScanStyle]
) -> list[ReportTable]:
    kinds = list(dict.fromkeys(kind for _, by_kind in parts for kind in by_kind))
    if len(kinds) < 2:
        return []
    rows = tuple(
        (*_sides(one, styles), *(_part_cell(by_kind.get(kind)) for kind in kinds)) for one, by_kind in parts if by_kind
    )
    headers = (*_SIDES, *(kind.replace("_", " ") for kind in kinds))
    return [ReportTable(caption, headers, rows, 4)]


def _part_cell(part: Part | None) -> Cell:
    if part is None:
        return Cell(NONE)
    ratio, interval, n_groups, verdict = part
    text = ratio_text(ratio, interval)
    return Cell(text if text == NONE else f"{text}, n = {n_groups}", best=verdict in (LOWERS, RAISES))


def factorial_tables(analysis: Analysis, styles: Mapping[str, ScanStyle]) -> list[ReportTable]:
    """The factorial: an adaptive and the best static scan, each by the shared, its own, and a classical completer.

    Args:
        analysis: What was made of the results.
        styles: Of the scans.
    """
    headers = (
        "geometry", "scan", "as", "completer", "kind of completer", "mean loss", "against the best static scan",
        "against the shared generator", "crops",
    )  # fmt: skip
    tables = []
    for adaptive in dict.fromkeys(row.adaptive for row in analysis.factorial):
        rows = tuple(
            (
                Cell(row.geometry),
                scan_cells(styles, row.scan)[0],
                Cell(row.role),
                Cell(row.completer),
                Cell("network" if row.network else "classical"),
                Cell(number(row.loss)),
                _ratio_cell(row.ratio_to_static, row.ratio_to_static_ci95, row.role == "best static"),
                _ratio_cell(row.ratio_to_shared, row.ratio_to_shared_ci95, row.completer == SHARED),
                Cell(str(row.n_crops)),
            )
            for row in analysis.factorial
            if row.adaptive == adaptive
        )
        tables.append(
            ReportTable(f"{adaptive} and the best static scan, with three kinds of completer", headers, rows, 5)
        )
    return tables


def _ratio_cell(ratio: float | None, interval: tuple[float, float] | None, is_itself: bool) -> Cell:
    if is_itself:
        return Cell("1")
    shown = interval is not None and not interval[0] <= 1.0 <= interval[1]
    return Cell(ratio_text(ratio, interval), best=shown)


def _sides(one: ScanComparison, styles: Mapping[str, ScanStyle]) -> tuple[Cell, ...]:
    (first, judge), (second, other) = one.first, one.second
    quiet = not styles[first].is_contender
    tag = f" ({styles[first].tag})" if styles[first].tag else ""
    against = second if judge == other else f"{second} by {other}"
    return Cell(one.geometry), Cell(first + tag, quiet=quiet), Cell(judge), Cell(against)


def _p_text(value: float) -> str:
    return "< 0.001" if value < 0.001 else number(value, ".2g")
