"""Tables of a benchmark as text, for a page: means of metrics and costs, and controls of adaptivity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from adaptive_scan.benchmark.analysis import Analysis, Summary
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
