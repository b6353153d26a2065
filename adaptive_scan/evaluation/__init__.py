"""Comparing scans at equal dose: metrics, statistics, the comparison itself, and what it leaves behind.

One call compares a policy of one's own with the static scans::

    comparison = compare_scans(crops, micrograph_ids, policies={"mine": policy})
    write_comparison(comparison, "out")
"""

from __future__ import annotations

from adaptive_scan.evaluation.analysis import Analysis, Summary, WinRates, analyse
from adaptive_scan.evaluation.benchmark import Benchmark, check_comparable
from adaptive_scan.evaluation.benchmark_presets import preset_benchmark
from adaptive_scan.evaluation.budget import Budget, BudgetError
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
from adaptive_scan.evaluation.content import CONTENT_CLASSES, content_class, find_contents, read_contents, sparsity
from adaptive_scan.evaluation.controls import (
    CONTROLS,
    adaptivity,
    control,
    delayed,
    held_constant,
    mean_value,
    of_other_crops,
)
from adaptive_scan.evaluation.dense import DENOISERS, Denoiser, DenseRaster, tune_denoiser
from adaptive_scan.evaluation.factorial import FactorialRow
from adaptive_scan.evaluation.figures import comparison_figure, learning_figure, save_figure
from adaptive_scan.evaluation.html_report import write_report
from adaptive_scan.evaluation.metrics import LARGEST_PSNR, loss, psnr, rmse, rmse_measured, rmse_unmeasured, ssim
from adaptive_scan.evaluation.paired import (
    effect_size,
    hierarchical_bootstrap,
    holm,
    minimum_detectable_ratio,
    wilcoxon,
)
from adaptive_scan.evaluation.report import comparison_csv, comparison_sentence, comparison_table, write_comparison
from adaptive_scan.evaluation.resolution import RingSums, frc_cutoff, ring_correlation, ring_frequencies, ring_sums
from adaptive_scan.evaluation.result_files import load_results
from adaptive_scan.evaluation.results import Results
from adaptive_scan.evaluation.running import run_benchmark
from adaptive_scan.evaluation.statistics import bootstrap_ratio, ratio_of_means, win_rate
from adaptive_scan.evaluation.truth_metrics import TRUTH_METRICS, specimen_crops, truth_metrics
from adaptive_scan.evaluation.tuning import TUNED_FAMILIES, TunedScan, tune_static, tuned_positions

__all__ = [
    "CONTENT_CLASSES",
    "CONTROLS",
    "DEFAULT_SCANS",
    "DENOISERS",
    "LARGEST_PSNR",
    "TRUTH_METRICS",
    "TUNED_FAMILIES",
    "Analysis",
    "Benchmark",
    "Budget",
    "BudgetError",
    "Comparison",
    "Contender",
    "Denoiser",
    "DenseRaster",
    "Examples",
    "FactorialRow",
    "Measurement",
    "Paired",
    "Policy",
    "Results",
    "RingSums",
    "ScanSummary",
    "Summary",
    "TunedScan",
    "WinRates",
    "adaptivity",
    "analyse",
    "bootstrap_ratio",
    "check_comparable",
    "compare_scans",
    "comparison_csv",
    "comparison_figure",
    "comparison_sentence",
    "comparison_table",
    "content_class",
    "control",
    "delayed",
    "effect_size",
    "find_contents",
    "frc_cutoff",
    "held_constant",
    "hierarchical_bootstrap",
    "holm",
    "learning_figure",
    "load_results",
    "loss",
    "mean_value",
    "measure",
    "minimum_detectable_ratio",
    "of_other_crops",
    "preset_benchmark",
    "psnr",
    "ratio_of_means",
    "read_contents",
    "ring_correlation",
    "ring_frequencies",
    "ring_sums",
    "rmse",
    "rmse_measured",
    "rmse_unmeasured",
    "run_benchmark",
    "save_figure",
    "sparsity",
    "specimen_crops",
    "ssim",
    "static_contenders",
    "truth_metrics",
    "tune_denoiser",
    "tune_static",
    "tuned_positions",
    "wilcoxon",
    "win_rate",
    "write_comparison",
    "write_report",
]
