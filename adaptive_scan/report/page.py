"""The report of a benchmark: one HTML page that needs nothing else, and its figures as PNG files.

The page has no scripts and asks for nothing over a network, and a policy in its head holds the browser to that. The
same results give the same bytes.
"""

from __future__ import annotations

import base64
import io
import json
import os
import platform
from collections.abc import Iterator, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from adaptive_scan.benchmark.analysis import Analysis
from adaptive_scan.benchmark.definition import benchmark_content
from adaptive_scan.evaluation.results import Results
from adaptive_scan.files import write_atomically
from adaptive_scan.report.figures import Plate, benchmark_plates
from adaptive_scan.report.style import STYLE, save_figure, scan_styles
from adaptive_scan.report.tables import (
    Cell,
    ReportTable,
    adaptivity_tables,
    comparison_tables,
    cost_tables,
    factorial_tables,
    mean_tables,
    part_tables,
)
from adaptive_scan.report.texts import NOTES, STYLE_SHEET, plain_facts, without_folders

_LIBRARIES = ("adaptive_scan", "numpy", "scipy", "torch", "scikit-image", "pyarrow", "matplotlib")


def write_report(results: Results, analysis: Analysis, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``report.html`` and the figures ``figures/*.png`` of a benchmark.

    The page holds its figures itself, drawings as SVG and pictures as PNG, so it can be sent alone. Parts for which the
    benchmark has nothing are left out. Each file appears whole, by rename; the page is the last.

    Args:
        results: What the benchmark found.
        analysis: What `adaptive_scan.benchmark.analysis.analyse` made of it.
        folder: Where to; made if need be.

    Returns:
        The paths written, the page first.

    Raises:
        OSError: If a file cannot be written.
    """
    page, figures = Path(folder) / "report.html", Path(folder) / "figures"
    written: list[Path] = []
    drawn: dict[str, list[str]] = {}
    for plate in benchmark_plates(results, analysis):
        path = figures / f"{plate.name}.png"
        save_figure(plate.figure, path)
        written.append(path)
        drawn.setdefault(plate.section, []).append(_figure(plate, path))
    write_atomically(page, report_page(results, analysis, drawn))
    return [page, *written]


def report_page(results: Results, analysis: Analysis, drawn: dict[str, list[str]]) -> str:
    """The page as text.

    Args:
        results: What the benchmark found.
        analysis: What was made of it.
        drawn: HTML of the figures by section, see `adaptive_scan.report.figures.SECTIONS`.
    """
    sections = [section for section in _sections(results, analysis, drawn) if section[2]]
    links = "\n".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in sections)
    body = "\n".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n<h2 id="{anchor}-title">{escape(title)}</h2>\n'
        + "\n".join(parts)
        + "\n</section>"
        for anchor, title, parts in sections
    )
    title = escape(f"{results.name}: a comparison of scans")
    return f"""<!DOCTYPE html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{STYLE_SHEET}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="facts">{escape(_facts(results))}</p>
{_plain_facts(results)}
{_verdicts(analysis)}
{_further(analysis)}
<nav aria-label="Sections">
{links}
</nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def _sections(
    results: Results, analysis: Analysis, drawn: dict[str, list[str]]
) -> Iterator[tuple[str, str, list[str]]]:
    """Anchor, title and parts of every section; one without parts is left out of the page."""
    styles = scan_styles(results.rows)
    yield "ratios", "Ratios of losses", drawn.get("ratios", [])
    yield "means", "All means", _noted(NOTES["means"], mean_tables(analysis, styles))
    yield "comparisons", "Comparisons", _noted(NOTES["comparisons"], comparison_tables(analysis, styles))
    yield "factorial", "Scan against generator", _noted(NOTES["factorial"], factorial_tables(analysis, styles))
    kinds = [table for by in ("content", "sparsity") for table in part_tables(analysis, styles, by)]
    yield "kinds", "Kinds of picture", _noted(NOTES["kinds"], kinds)
    yield "seeds", "Each seed by itself", _noted(NOTES["seeds"], part_tables(analysis, styles, "seed"))
    yield (
        "adaptivity",
        "Controls of adaptivity",
        _noted(NOTES["adaptivity"], adaptivity_tables(results.adaptivity, styles)),
    )
    yield "costs", "What the scans cost", _noted(NOTES["costs"], cost_tables(analysis, styles))
    for section, title in _FIGURE_TITLES.items():
        yield section, title, drawn.get(section, [])
    yield "benchmark", "The benchmark", _benchmark(results)


_FIGURE_TITLES = {
    "coverage": "Loss against coverage",
    "examples": "Examples",
    "errors": "Errors of each pixel",
    "distance": "Error against distance from the path",
    "frequency": "Fourier ring correlation",
    "paths": "Where the probe was",
    "wins": "Win rates",
}


def _noted(note: str, tables: Sequence[ReportTable]) -> list[str]:
    return [f"<p>{escape(note)}</p>", *(_table(table) for table in tables)] if tables else []


def _table(table: ReportTable) -> str:
    label = escape(table.caption)
    head = "".join(
        f'<th scope="col"{_classes(name=place < table.n_names)}>{escape(name)}</th>'
        for place, name in enumerate(table.headers)
    )
    firsts = [row[0].text for row in table.rows]
    # A line above each group of rows, where there are groups.
    begins = [len(set(firsts)) < len(firsts) and first != before for before, first in pairwise(["", *firsts])]
    cells = ["".join(_cell(cell, place < table.n_names) for place, cell in enumerate(row)) for row in table.rows]
    body = "\n".join(f"<tr{_classes(first=begin)}>{row}</tr>" for begin, row in zip(begins, cells, strict=True))
    # A region that scrolls has to be reachable without a mouse.
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{label}">\n<table>\n<caption>{label}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def _cell(cell: Cell, is_name: bool) -> str:
    text = f"<strong>{escape(cell.text)}</strong>" if cell.best else escape(cell.text)
    classes = _classes(name=is_name, quiet=cell.quiet)
    return f'<th scope="row"{classes}>{text}</th>' if is_name else f"<td{classes}>{text}</td>"


def _classes(**kinds: bool) -> str:
    found = [name for name, holds in kinds.items() if holds]
    return f' class="{" ".join(found)}"' if found else ""


def _figure(plate: Plate, path: Path) -> str:
    if plate.is_drawing:
        kind, content = "svg+xml", _vectors(plate.figure)
    else:
        kind, content = "png", path.read_bytes()
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    width, height = (round(100 * side) for side in plate.figure.get_size_inches())
    return (
        f'<figure id="{escape(plate.name)}">\n<img src="{source}" width="{width}" height="{height}" '
        f'style="max-width: {width / 7.08:.1f}%" alt="{escape(plate.alternative)}">\n'
        f"<figcaption>{escape(plate.caption)}</figcaption>\n</figure>"
    )


def _vectors(figure: Figure) -> bytes:
    """A figure as SVG without a date and with letters as outlines, so that it looks the same everywhere."""
    stream = io.BytesIO()
    with mpl.rc_context({**STYLE, "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return stream.getvalue()


def _facts(results: Results) -> str:
    rows = results.rows
    n_crops = rows.select(["seed", "crop"]).group_by(["seed", "crop"]).aggregate([]).num_rows
    counts = {name: len(rows[name].unique()) for name in ("group", "seed", "geometry", "scan", "completer")}
    nouns = {"group": "specimen", "seed": "seed", "geometry": "geometry", "scan": "scan", "completer": "completer"}
    texts = [_counted(n_crops, "test crop"), *(_counted(count, nouns[name]) for name, count in counts.items())]
    return f"{', '.join(texts)}. Benchmark {results.identity[:12]}."


def _counted(n: int, noun: str) -> str:
    plural = "geometries" if noun == "geometry" else f"{noun}s"
    return f"{n:,} {noun if n == 1 else plural}"


def _verdicts(analysis: Analysis) -> str:
    items = "\n".join(f"<li>{escape(sentence)}</li>" for sentence in analysis.verdicts)
    return f'<div class="verdicts" role="region" aria-label="Findings">\n<ul>\n{items}\n</ul>\n</div>' if items else ""


def _plain_facts(results: Results) -> str:
    text = plain_facts(results.description)
    return f'<p class="facts">{escape(text)}</p>' if text else ""


def _further(analysis: Analysis) -> str:
    items = "\n".join(f"<li>{escape(sentence)}</li>" for sentence in analysis.further)
    title = f"{_counted(len(analysis.further), 'other finding')} in one sentence each"
    return _closed(title, f"<ul>\n{items}\n</ul>") if items else ""


def _closed(title: str, content: str) -> str:
    """What a reader may open; it is open in print."""
    return f"<details>\n<summary>{escape(title)}</summary>\n{content}\n</details>"


def _benchmark(results: Results) -> list[str]:
    described = without_folders(benchmark_content(results.description))
    description = json.dumps(described, indent=2, ensure_ascii=False, default=str)
    versions = ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES)
    return [
        f"<p>Identity: <code>{escape(results.identity)}</code>. Results with the same identity are comparable.</p>",
        f"<p>Page written by {escape(versions)}, Python {platform.python_version()}.</p>",
        _closed("The benchmark as JSON", f"<pre>{escape(description)}</pre>"),
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "of unknown version"
