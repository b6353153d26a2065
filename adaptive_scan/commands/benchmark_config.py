"""Command lines of ``compare`` that are about benchmarks; loads neither torch nor the networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from adaptive_scan.commands.arguments import parse_config
from adaptive_scan.commands.config import InstrumentName, check_not_negative


@dataclass(frozen=True)
class BenchmarkConfig:
    """A benchmark that is run, or gone on with."""

    benchmark: tyro.conf.Positional[Path]
    """The benchmark, a JSON file that --new writes."""
    out: Path | None = None
    """Folder for the results; one that has a part of them is gone on with. Without it one under runs/, named after the
    benchmark, so that the same command goes on."""
    policy: tuple[str, ...] = ()
    """Further policies, each as package.module:factory; the factory is called without arguments."""
    completer: tuple[str, ...] = ()
    """Further completers, in the same form."""
    only_seeds: tuple[int, ...] = ()
    """Seeds whose stages are made, so that several processes or machines with one folder can share the work: once for
    the preparation, once more for the comparison, and a last time without it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run."""
    n_threads: int = 0
    """Threads of PyTorch on the CPU, 0 for its own choice; small networks on shared cores are fastest with one."""

    def __post_init__(self) -> None:
        check_not_negative(self, "n_threads")


@dataclass(frozen=True)
class NewBenchmarkConfig:
    """A benchmark that is written, to be edited and run."""

    new: Path
    """JSON file to write."""
    preset: Literal["quick", "full"] = "quick"
    """What it begins with: quick takes minutes on two cores, full has three coverages, three seeds and all scans."""
    micrographs: Path | None = None
    """File or folder of micrographs; procedural specimens without it."""
    groups: Path | None = None
    """CSV with the columns file and group: groups are never split between training and test."""
    acquisition: InstrumentName = "ideal"
    """The instrument that all scans go through; with one whose noise is of counts, a dense raster takes part."""


@dataclass(frozen=True)
class ReportConfig:
    """Results whose analysis and report are made again."""

    report: Path
    """Folder of the results."""


def is_about_benchmarks(arguments: list[str]) -> bool:
    """Whether arguments of ``compare`` are about a benchmark, and not about a run.

    Example:
        >>> is_about_benchmarks(["b.json", "--out", "b"]), is_about_benchmarks(["--run", "runs/a"])
        (True, False)
    """
    options = {argument.partition("=")[0] for argument in arguments}
    return bool(arguments) and (arguments[0].endswith(".json") or not options.isdisjoint(("--new", "--report")))


def parse_benchmark(arguments: list[str]) -> BenchmarkConfig | NewBenchmarkConfig | ReportConfig:
    """Settings of ``compare`` where it is about benchmarks.

    Raises:
        InputError: If an option or a value is none.

    Example:
        >>> parse_benchmark(["--new", "b.json", "--preset", "full"]).preset
        'full'
    """
    options = {argument.partition("=")[0] for argument in arguments}
    if "--new" in options:
        return parse_config(NewBenchmarkConfig, arguments, "compare", "Write a benchmark, to be edited and run.")
    if "--report" in options:
        return parse_config(ReportConfig, arguments, "compare", "Make analysis and report of results again.")
    return parse_config(BenchmarkConfig, arguments, "compare", "Run a benchmark, or go on with it.")
