"""Benchmarks: what is compared and how, run stage by stage, and what its results say."""

from __future__ import annotations

from adaptive_scan.benchmark.analysis import Analysis, Summary, WinRates, analyse
from adaptive_scan.benchmark.definition import Benchmark, check_comparable
from adaptive_scan.benchmark.factorial import FactorialRow
from adaptive_scan.benchmark.presets import preset_benchmark
from adaptive_scan.benchmark.result_files import load_results
from adaptive_scan.benchmark.run import run_benchmark
from adaptive_scan.benchmark.tuned_scans import TUNED_FAMILIES, TunedScan, tune_static, tuned_positions

__all__ = [
    "TUNED_FAMILIES",
    "Analysis",
    "Benchmark",
    "FactorialRow",
    "Summary",
    "TunedScan",
    "WinRates",
    "analyse",
    "check_comparable",
    "load_results",
    "preset_benchmark",
    "run_benchmark",
    "tune_static",
    "tuned_positions",
]
