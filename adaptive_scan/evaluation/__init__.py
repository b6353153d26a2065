"""Measuring scans and completions: one comparison in one call, and the metrics, budgets and statistics behind it.

One call compares a policy of one's own with the static scans::

    comparison = compare_scans(crops, micrograph_ids, policies={"mine": policy})
    write_comparison(comparison, "out")

What few need is imported from its module: dense rasters from `dense_raster`, controls of adaptivity from `controls` and
`adaptivity`, tests over specimens from `statistics`, Fourier rings from `resolution`, kinds of pictures from `content`,
predicted errors from `calibration`, systematic errors from `systematic_errors`, completers alone from `completion`.
"""

from adaptive_scan.evaluation.budget import Budget, BudgetError
from adaptive_scan.evaluation.comparison import Comparison, LossRatio, ScanSummary, compare_scans
from adaptive_scan.evaluation.contenders import Contender, Measurement, Policy, measure, static_contenders
from adaptive_scan.evaluation.metrics import loss, psnr, rmse, ssim
from adaptive_scan.evaluation.resolution import frc_cutoff
from adaptive_scan.evaluation.results import Results
from adaptive_scan.evaluation.statistics import bootstrap_ratio, ratio_of_means, win_rate
from adaptive_scan.evaluation.truth import truth_metrics

__all__ = [
    "Budget",
    "BudgetError",
    "Comparison",
    "Contender",
    "LossRatio",
    "Measurement",
    "Policy",
    "Results",
    "ScanSummary",
    "bootstrap_ratio",
    "compare_scans",
    "frc_cutoff",
    "loss",
    "measure",
    "psnr",
    "ratio_of_means",
    "rmse",
    "ssim",
    "static_contenders",
    "truth_metrics",
    "win_rate",
]
