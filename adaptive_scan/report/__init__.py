"""What people read of results: the report page, tables and figures."""

from __future__ import annotations

from adaptive_scan.report.calibration_figure import calibration_figure
from adaptive_scan.report.comparison_figure import comparison_figure
from adaptive_scan.report.comparison_files import (
    comparison_csv,
    comparison_sentence,
    comparison_table,
    write_comparison,
)
from adaptive_scan.report.completions_figure import completions_figure
from adaptive_scan.report.errors_figure import errors_figure
from adaptive_scan.report.page import write_report
from adaptive_scan.report.style import save_figure

__all__ = [
    "calibration_figure",
    "comparison_csv",
    "comparison_figure",
    "comparison_sentence",
    "comparison_table",
    "completions_figure",
    "errors_figure",
    "save_figure",
    "write_comparison",
    "write_report",
]
