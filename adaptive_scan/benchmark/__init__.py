r"""Benchmarks: what is compared and how, run stage by stage, and what its results say.

A benchmark is one JSON file; its results come with the hash of all that decides them::

    results = run_benchmark(Benchmark.read("mine.json"), "runs/mine")
    print("\n".join(analyse(results).verdicts))
"""

from __future__ import annotations

from adaptive_scan.benchmark.analysis import Analysis, FactorialRow, Summary, WinRates, analyse
from adaptive_scan.benchmark.definition import (
    Benchmark,
    BenchmarkFileError,
    GeneratorPlan,
    PictureSettings,
    ScanEntry,
    SplitSettings,
    check_comparable,
)
from adaptive_scan.benchmark.folder import ResultsFileError, load_results
from adaptive_scan.benchmark.presets import preset_benchmark
from adaptive_scan.benchmark.run import run_benchmark
from adaptive_scan.benchmark.scan_kinds import SCAN_KINDS, BenchmarkCell, ScanKind
from adaptive_scan.benchmark.tuned_scans import TUNED_FAMILIES, TunedScan, tune_static
from adaptive_scan.benchmark.verdicts import ScanComparison

__all__ = [
    "SCAN_KINDS",
    "TUNED_FAMILIES",
    "Analysis",
    "Benchmark",
    "BenchmarkCell",
    "BenchmarkFileError",
    "FactorialRow",
    "GeneratorPlan",
    "PictureSettings",
    "ResultsFileError",
    "ScanComparison",
    "ScanEntry",
    "ScanKind",
    "SplitSettings",
    "Summary",
    "TunedScan",
    "WinRates",
    "analyse",
    "check_comparable",
    "load_results",
    "preset_benchmark",
    "run_benchmark",
    "tune_static",
]
