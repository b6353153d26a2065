"""Command lines of ``compare`` that are about benchmarks; loads neither torch nor the networks."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from adaptive_scan.commands.cli import parse_config
from adaptive_scan.commands.settings import ComparisonConfig, InstrumentName, check_not_negative


@dataclass(frozen=True)
class BenchmarkConfig:
    """A benchmark that is run, or gone on with."""

    benchmark: tyro.conf.Positional[Path]
    """The benchmark, a JSON file that --new writes."""
    out: Path | None = None
    """Folder for the results; one that has a part of them is gone on with. Without it one under runs/, named after the
    benchmark, so that the same command goes on."""
    micrographs: Path | None = None
    """Where the benchmark's micrographs lie here, if not where the file says. They have to be the same pictures."""
    groups: Path | None = None
    """Where the CSV of their groups lies here, if not where the file says or beside --micrographs."""
    policy: tuple[str, ...] = ()
    """Further policies, each as package.module:factory; the factory is called without arguments. They make it another
    benchmark, which needs another --out."""
    completer: tuple[str, ...] = ()
    """Further completers, in the same form."""
    only_seeds: tuple[int, ...] = ()
    """Seeds whose stages are made, so that several processes or machines with one folder can share the work: each seed
    once for the preparation, and once more for the comparison when all seeds are prepared. The last process to finish
    writes the report."""
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


USAGE = """usage: adaptive-scan compare BENCHMARK.json [OPTIONS]    run a benchmark, or go on with it
       adaptive-scan compare --new FILE [OPTIONS]        write a benchmark, to be edited and run
       adaptive-scan compare --report FOLDER             make analysis and report of results again
       adaptive-scan compare --run FOLDER [OPTIONS]      compare the scans of a run with static ones"""

_FORMS = {
    "compare BENCHMARK.json": BenchmarkConfig,
    "compare --new": NewBenchmarkConfig,
    "compare --report": ReportConfig,
    "compare --run": ComparisonConfig,
}


def compare_help() -> str:
    """The forms of ``compare`` and the options of each.

    Example:
        >>> print(compare_help().partition(" [")[0])
        usage: adaptive-scan compare BENCHMARK.json
    """
    parts = [USAGE]
    for form, kind in _FORMS.items():
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            tyro.cli(kind, args=["--help"], prog=form)
        _, _, told = said.getvalue().partition("\n\n")  # above it stands the usage of this form alone
        parts.append(f"{form}\n\n{told.strip()}")
    return "\n\n\n".join(parts)


def is_about_benchmarks(arguments: list[str]) -> bool:
    """Whether arguments of ``compare`` are about a benchmark, and not about a run.

    Example:
        >>> is_about_benchmarks(["b.json", "--out", "b"]), is_about_benchmarks(["--run", "runs/a"])
        (True, False)
    """
    return not any(argument == "--run" or argument.startswith("--run=") for argument in arguments)


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
