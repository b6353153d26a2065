"""Comparing scans at equal dose: metrics, statistics, the comparison itself, and what it leaves behind.

One call compares a policy of one's own with the static scans::

    comparison = compare_scans(crops, micrograph_ids, policies={"mine": policy})
    write_comparison(comparison, "out")
"""

from __future__ import annotations

from adaptive_scan.evaluation.comparison import (
    DEFAULT_SCANS,
    Comparison,
    Examples,
    Paired,
    ScanSummary,
    compare_scans,
)
from adaptive_scan.evaluation.contenders import (
    Contender,
    Measurement,
    Policy,
    measure,
    static_contenders,
)
from adaptive_scan.evaluation.figures import comparison_figure, learning_figure, save_figure
from adaptive_scan.evaluation.metrics import LARGEST_PSNR, loss, psnr, rmse, ssim
from adaptive_scan.evaluation.report import comparison_csv, comparison_sentence, comparison_table, write_comparison
from adaptive_scan.evaluation.statistics import bootstrap_ratio, ratio_of_means, win_rate

__all__ = [
    "DEFAULT_SCANS",
    "LARGEST_PSNR",
    "Comparison",
    "Contender",
    "Examples",
    "Measurement",
    "Paired",
    "Policy",
    "ScanSummary",
    "bootstrap_ratio",
    "compare_scans",
    "comparison_csv",
    "comparison_figure",
    "comparison_sentence",
    "comparison_table",
    "learning_figure",
    "loss",
    "measure",
    "psnr",
    "ratio_of_means",
    "rmse",
    "save_figure",
    "ssim",
    "static_contenders",
    "win_rate",
    "write_comparison",
]
