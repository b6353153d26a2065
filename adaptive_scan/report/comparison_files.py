"""What a comparison leaves behind: ``comparison.csv``, ``.json``, ``.png`` and a table for the terminal."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from adaptive_scan.evaluation.comparison import METRICS, Comparison
from adaptive_scan.files import write_atomically, write_json
from adaptive_scan.report.comparison_figure import comparison_figure
from adaptive_scan.report.style import save_figure

CSV_COLUMNS = ("crop", "micrograph", "row", "column", "scan", "completer", *METRICS)
"""Header of ``comparison.csv``; row and column are empty where they are not known, electrons where nothing limits
them."""


def comparison_csv(comparison: Comparison) -> str:
    """The whole table as CSV text: one line per scan, completer and crop, under the header `CSV_COLUMNS`.

    Args:
        comparison: What `adaptive_scan.evaluation.compare_scans` returned.

    Example:
        >>> import numpy as np
        >>> from adaptive_scan.evaluation import compare_scans
        >>> from adaptive_scan.scans import ScanGeometry
        >>> comparison = compare_scans(np.eye(12)[None], geometry=ScanGeometry(12, 4, 4))
        >>> comparison_csv(comparison).splitlines()[0].split(",")[:6]
        ['crop', 'micrograph', 'row', 'column', 'scan', 'completer']
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for line in comparison.table.select(CSV_COLUMNS).to_pylist():
        writer.writerow(_figure_text(value) if isinstance(value, float) else value for value in line.values())
    return text.getvalue()


def write_comparison(
    comparison: Comparison, folder: str | os.PathLike[str], *, origin: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write ``comparison.csv``, ``comparison.json`` and, where there are examples, ``comparison.png``.

    Each file appears whole, by rename; the JSON is the last, so that where it is, the others are.

    Args:
        comparison: What `adaptive_scan.evaluation.compare_scans` returned.
        folder: Where to; made if need be.
        origin: What the JSON says besides, such as where networks and pictures came from.

    Returns:
        The paths written.

    Raises:
        OSError: If a file cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from adaptive_scan.evaluation import compare_scans
        >>> from adaptive_scan.scans import ScanGeometry
        >>> comparison = compare_scans(np.eye(12)[None], geometry=ScanGeometry(12, 4, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in write_comparison(comparison, folder)]
        ['comparison.csv', 'comparison.png', 'comparison.json']
    """
    table, figure, summary = (Path(folder) / f"comparison.{suffix}" for suffix in ("csv", "png", "json"))
    written = [table]
    write_atomically(table, comparison_csv(comparison))
    if len(comparison.examples.indices) > 0:
        save_figure(comparison_figure(comparison), figure)
        written.append(figure)
    write_json(summary, {**(origin or {}), **comparison.as_dict()})
    return [*written, summary]


def comparison_table(comparison: Comparison) -> Table:
    """A table for the terminal, one line per scan and completer; print it with `rich.console.Console`.

    Args:
        comparison: What `adaptive_scan.evaluation.compare_scans` returned.

    Example:
        >>> import numpy as np
        >>> from adaptive_scan.evaluation import compare_scans
        >>> from adaptive_scan.scans import ScanGeometry
        >>> comparison = compare_scans(np.eye(12)[None], geometry=ScanGeometry(12, 4, 4))
        >>> comparison_table(comparison).title
        '1 crops of 1 micrographs, 16 positions each'
    """
    counts = f"{comparison.n_crops} crops of {comparison.n_micrographs} micrographs"
    table = Table(title=f"{counts}, {comparison.n_positions} positions each")
    for name in ("scan", "completer"):
        table.add_column(name)
    for name in (
        "loss",
        "RMSE",
        "PSNR/dB",
        "SSIM",
        "coverage",
        "time/µs",
        f"loss/{comparison.reference} (95% interval)",
        "wins",
    ):
        table.add_column(name, justify="right")
    last = comparison.completers[-1]
    for row in comparison.summaries:
        table.add_row(
            row.scan,
            row.completer,
            f"{row.loss_mean:.4g}",
            f"{row.rmse_mean:.4f}",
            f"{row.psnr_mean:.2f}",
            f"{row.ssim_mean:.3f}",
            f"{100 * row.coverage_mean:.2f}%",
            f"{1e6 * row.scan_time_mean:.4g}",
            _ratio_text(row.ratio_to_reference, row.ratio_ci95),
            f"{100 * row.win_rate:.0f}%",
            end_section=row.completer == last,
        )
    return table


def comparison_sentence(comparison: Comparison, scan: str, completer: str) -> str | None:
    """One plain sentence on a scan beside the second reference; None where there is nothing to compare with.

    Args:
        comparison: What `adaptive_scan.evaluation.compare_scans` returned.
        scan: Name of the scan.
        completer: Name of the completer.

    Raises:
        KeyError: If there is no such scan or completer.

    Example:
        >>> import numpy as np
        >>> from adaptive_scan.evaluation import compare_scans
        >>> from adaptive_scan.scans import ScanGeometry
        >>> comparison = compare_scans(np.eye(12)[None], geometry=ScanGeometry(12, 4, 4), second_reference="spiral")
        >>> comparison_sentence(comparison, "raster", "linear").startswith("raster against spiral (linear): ratio")
        True
    """
    paired = comparison.summary(scan, completer).second
    if paired is None or paired.ratio is None or scan == comparison.second_reference:
        return None
    start = f"{scan} against {comparison.second_reference} ({completer}): ratio {paired.ratio:.3f}"
    if paired.ratio_ci95 is None:
        return f"{start}, no interval: no difference shown"
    # The verdict is on the figures that stand beside it: "1.000 [1.000, 1.000]" is no difference.
    low, high = (round(end, 3) for end in paired.ratio_ci95)
    verdict = "lower loss" if high < 1 else "higher loss" if low > 1 else "no difference shown"
    return f"{start} [{low:.3f}, {high:.3f}]: {verdict}"


def _figure_text(figure: float) -> str:
    return format(figure, ".9g") if math.isfinite(figure) else ""


def _ratio_text(ratio: float | None, interval: tuple[float, float] | None) -> str:
    if ratio is None:
        return "undefined"
    if interval is None:
        return f"{ratio:.3f} (no interval)"
    return f"{ratio:.3f} ({interval[0]:.3f}-{interval[1]:.3f})"
