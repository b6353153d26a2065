"""Tables of a benchmark as text, for a page: means, costs, comparisons, the factorial, controls of adaptivity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from adaptive_scan.benchmark.analysis import Analysis, Summary
from adaptive_scan.benchmark.definition import SHARED
from adaptive_scan.benchmark.questions import OTHER_ADAPTIVE, PRIMARY
from adaptive_scan.benchmark.verdicts import LOWERS, NO_DIFFERENCE, NOT_SHOWN, RAISES, Part, ScanComparison
from adaptive_scan.evaluation.results import COST_COLUMNS, METRIC_COLUMNS
from adaptive_scan.report.style import ScanStyle

NONE = "—"
"""What stands in a cell without a number."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: What it says.
        best: Whether it is set in bold.
        quiet: Whether it is set in grey, as what is no contender.
    """

    text: str
    best: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class ReportTable:
    """A table of a report.

    Attributes:
        caption: What it holds.
        headers: Names of the columns.
        rows: Cells, each row as long as the headers.
        n_names: How many columns at the left name the row.
    """

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    n_names: int


@dataclass(frozen=True)
class _Column:
    """How a quantity is written: its heading, its format, the factor to its unit, and which end is the better one."""

    heading: str
    form: str
    factor: float = 1.0
    better: str = "low"


_COLUMNS = {
    "loss": _Column("loss (10 MSE)", ".4g"),
    "rmse": _Column("RMSE on [0,\N{NO-BREAK SPACE}1]", ".4f"),
    "psnr": _Column("PSNR [dB]", ".2f", better="high"),
    "ssim": _Column("SSIM", ".4f", better="high"),
    "rmse_measured": _Column("RMSE, measured pixels", ".4f"),
    "rmse_unmeasured": _Column("RMSE, unmeasured pixels", ".4f"),
    "frc_cutoff": _Column("FRC cut-off [1/px]", ".4f", better="high"),
    "atom_error_pm": _Column("atom position error [pm]", ".1f"),
    "atoms_missed": _Column("atoms missed", ".3f"),
    "atoms_invented": _Column("atoms invented", ".3f"),
    "defect_recall": _Column("defect recall", ".3f", better="high"),
    "particle_area_error": _Column("particle area error", ".3f"),
    "n_positions": _Column("positions", ".6g"),
    "electrons": _Column("electrons", ".4g"),
    "coverage": _Column("distinct pixels / all [%]", ".2f", 100.0),
    "path_length": _Column("path length [px]", ".5g"),
    "scan_time": _Column("scan time [µs]", ".5g", 1e6),
    "largest_turn": _Column("largest turn [°]", ".1f", 180.0 / math.pi),
    "largest_acceleration": _Column("largest acceleration [px/s²]", ".3g"),
}

_ADAPTIVITY = {
    "path_diversity": _Column("path diversity [px]", ".2f"),
    "pixel_overlap": _Column("pixel overlap", ".3f"),
    "predicted_share": _Column("path variance predicted from the crop", ".3f"),
    "crop_share": _Column("path variance between crops, not repeats", ".3f"),
}


_VERDICTS = {
    LOWERS: "lower loss",
    RAISES: "higher loss",
    NOT_SHOWN: "not shown",
    NO_DIFFERENCE: "the same losses",
}

_SIDES = ("geometry", "scan", "completer", "against")


def number(value: float | None, form: str = ".4g") -> str:
    """A number as text; a dash where there is none.

    Example:
        >>> number(0.12345, ".3f"), number(float("nan")), number(-0.001, ".1f")
        ('0.123', '—', '0.0')
    """
    if value is None or not math.isfinite(value):
        return NONE
    text = format(value, form)
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def ratio_text(ratio: float | None, interval: tuple[float, float] | None) -> str:
    """A ratio and its interval.

    Example:
        >>> ratio_text(0.96, (0.94, 0.981)), ratio_text(0.96, None)
        ('0.960 [0.940, 0.981]', '0.960 (no interval)')
    """
    if ratio is None or not math.isfinite(ratio):
        return NONE
    if interval is None:
        return f"{ratio:.3f} (no interval)"
    return f"{ratio:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def mean_tables(analysis: Analysis, styles: Mapping[str, ScanStyle]) -> list[ReportTable]:
    """Mean of every metric by scan and completer, one table for each geometry; columns without a number are left out.

    The best contiguous contender by each completer is set in bold, and whatever prints the same.

    Args:
        analysis: What was made of the results.
        styles: Of the scans.
    """
    tables = []
    for geometry, summaries in _by_geometry(analysis.summaries).items():
        columns = _known(METRIC_COLUMNS, summaries)
        best = {judge: _best(summaries, judge, columns, styles) for judge in {one.completer for one in summaries}}
        rows = []
        for one in sorted(summaries, key=lambda one: list(styles).index(one.scan)):
            texts = {name: _written(one, name) for name in columns}
            marks = [texts[name] == best[one.completer].get(name) and _may_win(styles[one.scan]) for name in columns]
            values = (Cell(text, best=mark) for text, mark in zip(texts.values(), marks, strict=True))
            rows.append((*scan_cells(styles, one.scan), Cell(one.completer), *values))
        headers = ("scan", "kind", "completer", *(_COLUMNS[name].heading for name in columns))
        tables.append(ReportTable(f"Means at {geometry}, {_counts(summaries)}", headers, tuple(rows), 3))
    return tables


def cost_tables(analysis: Analysis, styles: Mapping[str, ScanStyle]) -> list[ReportTable]:
    """Means of what each scan cost, one table for each geometry; completers do not change it.

    Args:
        analysis: What was made of the results.
        styles: Of the scans.
    """
    tables = []
    for geometry, summaries in _by_geometry(analysis.summaries).items():
        first = {one.scan: one for one in reversed(summaries)}
        columns = _known(COST_COLUMNS, summaries)
        rows = [
            (*scan_cells(styles, scan), *(Cell(_written(first[scan], name)) for name in columns))
            for scan in styles
            if scan in first
        ]
        headers = ("scan", "kind", *(_COLUMNS[name].heading for name in columns))
        tables.append(ReportTable(f"Costs at {geometry}, means over the test crops", headers, tuple(rows), 2))
    return tables


def adaptivity_tables(
    adaptivity: Mapping[str, Mapping[str, Mapping[str, float]]], styles: Mapping[str, ScanStyle]
) -> list[ReportTable]:
    """Figures of adaptivity of all geometries and scans in one table; columns without a number are left out.

    Args:
        adaptivity: Figures by geometry and scan.
        styles: Of the scans.
    """
    figures = [(geometry, scan, found) for geometry, scans in adaptivity.items() for scan, found in scans.items()]
    names = list(dict.fromkeys(name for _, _, found in figures for name in found))
    names = [name for name in names if any(_is_finite(found.get(name)) for _, _, found in figures)]
    if not names:
        return []
    columns = {name: _ADAPTIVITY.get(name, _Column(name.replace("_", " "), ".4g")) for name in names}
    rows = tuple(
        (
            Cell(geometry),
            *scan_cells(styles, scan),
            *(Cell(number(found.get(name), column.form)) for name, column in columns.items()),
        )
        for geometry, scan, found in figures
    )
    headers = ("geometry", "scan", "kind", *(column.heading for column in columns.values()))
    return [ReportTable("How much the paths differ from crop to crop, and why", headers, rows, 3)]


def _by_geometry(summaries: Iterable[Summary]) -> dict[str, list[Summary]]:
    found: dict[str, list[Summary]] = {}
    for one in summaries:
        found.setdefault(one.geometry, []).append(one)
    return found


def _known(names: Iterable[str], summaries: Iterable[Summary]) -> list[str]:
    """Columns in which a row has a number."""
    every = list(summaries)
    return [name for name in names if any(_is_finite(one.metrics.get(name)) for one in every)]


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _written(one: Summary, name: str) -> str:
    column, value = _COLUMNS[name], one.metrics.get(name)
    return number(None if value is None else column.factor * value, column.form)


def _counts(summaries: Sequence[Summary]) -> str:
    """Over how many crops and specimens; a scan with a network of its own in some seeds alone has fewer."""
    crops, groups = (sorted({getattr(one, name) for one in summaries}) for name in ("n_crops", "n_groups"))
    fewer = "" if len(crops) == 1 else f" (some over fewer, down to {crops[0]:,})"
    return f"over {crops[-1]:,} crops of {groups[-1]:,} specimens{fewer}"


def _may_win(style: ScanStyle) -> bool:
    return style.is_contender and style.contiguous


def _best(
    summaries: Sequence[Summary], completer: str, columns: Sequence[str], styles: Mapping[str, ScanStyle]
) -> dict[str, str]:
    """How the best mean of each column is written, of the contiguous contenders by a completer."""
    here = [one for one in summaries if one.completer == completer and _may_win(styles[one.scan])]
    found = {}
    for name in columns:
        known = [one for one in here if _is_finite(one.metrics.get(name))]
        if len(known) > 1:
            first = max if _COLUMNS[name].better == "high" else min
            found[name] = _written(first(known, key=lambda one: one.metrics[name] or 0.0), name)
    return found


def scan_cells(styles: Mapping[str, ScanStyle], scan: str) -> tuple[Cell, Cell]:
    """Name and kind of a scan; grey where it is no contender, and no kind for one that is not known.

    Args:
        styles: Of the scans.
        scan: Name of the scan.
    """
    style = styles.get(scan)
    if style is None:
        return Cell(scan), Cell(NONE)
    return Cell(scan, quiet=not style.is_contender), Cell(style.kind, quiet=not style.is_contender)


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


_PARTS = {
    "content": "Ratios of losses by what the pictures show",
    "sparsity": "Ratios of losses by the sparsity of the pictures",
    "seed": "Ratios of losses by seed",
}


def part_tables(analysis: Analysis, styles: Mapping[str, ScanStyle], by: str) -> list[ReportTable]:
    """Ratios of the comparisons that the benchmark is made for on parts of the pictures; no table of one part alone.

    Args:
        analysis: What was made of the results.
        styles: Of the scans.
        by: What makes the parts: "content" (what pictures show), "sparsity" (thirds) or "seed".
    """
    primary = [one for one in analysis.comparisons if one.family == PRIMARY]
    parts: list[tuple[ScanComparison, Mapping[str, Part]]] = [
        (one, getattr(one, f"by_{by}")) for one in primary or analysis.comparisons
    ]
    kinds = list(dict.fromkeys(kind for _, by_kind in parts for kind in by_kind))
    if len(kinds) < 2:
        return []
    rows = tuple(
        (*_sides(one, styles), *(_part_cell(by_kind.get(kind)) for kind in kinds)) for one, by_kind in parts if by_kind
    )
    headers = (*_SIDES, *(kind.replace("_", " ") for kind in kinds))
    return [ReportTable(_PARTS[by], headers, rows, 4)]


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
