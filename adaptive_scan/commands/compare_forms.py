"""The four forms of ``compare``: what each is told by, its options and its help."""

from __future__ import annotations

import sys

from adaptive_scan.commands.cli import parse_options, print_help
from adaptive_scan.commands.command_options import BenchmarkConfig, ComparisonConfig, NewBenchmarkConfig, ReportConfig
from adaptive_scan.commands.errors import BAD_INPUT

CompareConfig = BenchmarkConfig | NewBenchmarkConfig | ReportConfig | ComparisonConfig

USAGE = """usage: adaptive-scan compare BENCHMARK.json [OPTIONS]    run a benchmark, or go on with it
       adaptive-scan compare --new FILE [OPTIONS]        write a benchmark, to be edited and run
       adaptive-scan compare --report FOLDER             make analysis and report of results again
       adaptive-scan compare --run FOLDER [OPTIONS]      compare the scans of a run with static ones"""

_FORMS: dict[str, tuple[type[CompareConfig], str]] = {
    "--new": (NewBenchmarkConfig, "Write a benchmark, to be edited and run."),
    "--report": (ReportConfig, "Make analysis and report of results again."),
    "--run": (ComparisonConfig, "Compare the scans of a run with static ones at equal dose, on held-out micrographs."),
    "": (BenchmarkConfig, "Run a benchmark, or go on with it."),
}


def parse_compare(arguments: list[str], prog: str = "adaptive-scan compare") -> CompareConfig:
    """Settings of ``compare``, of the form that its options tell.

    Raises:
        SettingError: If an option or a value is none.
        SystemExit: After help, which shows all forms, and without any arguments.

    Example:
        >>> parse_compare(["--new", "b.json", "--preset", "full"]).preset
        'full'
    """
    if {"-h", "--help", "--help-all"} & {*arguments}:
        print(USAGE)
        for form, (kind, description) in _FORMS.items():
            print("\n")
            print_help(kind, f"{prog} {form}".strip(), description)
        raise SystemExit(0)
    if not arguments:
        print(USAGE, file=sys.stderr)
        raise SystemExit(BAD_INPUT)
    options = {argument.partition("=")[0] for argument in arguments}
    kind, description = next(told for form, told in _FORMS.items() if form in options or not form)
    return parse_options(kind, arguments, prog, description)
