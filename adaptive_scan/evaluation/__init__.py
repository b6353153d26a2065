"""Comparing scans at equal dose: metrics, statistics, the comparison itself, and what it leaves behind.

One call compares a policy of one's own with the static scans::

    comparison = compare_scans(crops, micrograph_ids, policies={"mine": policy})
    write_comparison(comparison, "out")
"""

from adaptive_scan.evaluation.adaptivity import adaptivity
from adaptive_scan.evaluation.budget import Budget, BudgetError
from adaptive_scan.evaluation.comparison import (
    DEFAULT_SCANS,
    Comparison,
    Examples,
    LossRatio,
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
from adaptive_scan.evaluation.content import CONTENT_CLASSES, content_class, find_contents, read_contents, sparsity
from adaptive_scan.evaluation.controls import (
    CONTROLS,
    control,
    delayed,
    held_constant,
    mean_value,
    of_other_crops,
)
from adaptive_scan.evaluation.dense_raster import DENOISERS, Denoiser, DenseRaster, tune_denoiser
from adaptive_scan.evaluation.metrics import LARGEST_PSNR, loss, psnr, rmse, rmse_measured, rmse_unmeasured, ssim
from adaptive_scan.evaluation.resolution import RingSums, frc_cutoff, ring_correlation, ring_frequencies, ring_sums
from adaptive_scan.evaluation.results import Results
from adaptive_scan.evaluation.statistics import (
    bootstrap_ratio,
    effect_size,
    hierarchical_bootstrap,
    holm,
    minimum_detectable_ratio,
    ratio_of_means,
    wilcoxon,
    win_rate,
)
from adaptive_scan.evaluation.truth import TRUTH_METRICS, specimen_crops, truth_metrics

__all__ = [
    "CONTENT_CLASSES",
    "CONTROLS",
    "DEFAULT_SCANS",
    "DENOISERS",
    "LARGEST_PSNR",
    "TRUTH_METRICS",
    "Budget",
    "BudgetError",
    "Comparison",
    "Contender",
    "Denoiser",
    "DenseRaster",
    "Examples",
    "LossRatio",
    "Measurement",
    "Policy",
    "Results",
    "RingSums",
    "ScanSummary",
    "adaptivity",
    "bootstrap_ratio",
    "compare_scans",
    "content_class",
    "control",
    "delayed",
    "effect_size",
    "find_contents",
    "frc_cutoff",
    "held_constant",
    "hierarchical_bootstrap",
    "holm",
    "loss",
    "mean_value",
    "measure",
    "minimum_detectable_ratio",
    "of_other_crops",
    "psnr",
    "ratio_of_means",
    "read_contents",
    "ring_correlation",
    "ring_frequencies",
    "ring_sums",
    "rmse",
    "rmse_measured",
    "rmse_unmeasured",
    "sparsity",
    "specimen_crops",
    "ssim",
    "static_contenders",
    "truth_metrics",
    "tune_denoiser",
    "wilcoxon",
    "win_rate",
]
