"""What people read of results: the report page, tables and figures."""

from __future__ import annotations

from adaptive_scan.report.comparison_figure import comparison_figure, learning_figure, save_figure
from adaptive_scan.report.comparison_files import (
    comparison_csv,
    comparison_sentence,
    comparison_table,
    write_comparison,
)
from adaptive_scan.report.page import write_report

__all__ = [
    "comparison_csv",
    "comparison_figure",
    "comparison_sentence",
    "comparison_table",
    "learning_figure",
    "save_figure",
    "write_comparison",
    "write_report",
]
