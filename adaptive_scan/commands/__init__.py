"""What the scripts and the console command run."""

from __future__ import annotations

import sys

COMMANDS = {
    "train": "train an actor and a generator together, then compare scans",
    "compare": "run a benchmark, or compare the scans of a run with static ones",
    "train-generator": "train a generator on a mixture of scans",
    "compare-completers": "compare trained generators with interpolations on static scans",
    "measure-errors": "measure where completions are wrong, by distance from path and edge",
    "export-generator": "write a trained generator as ONNX or as a torch.export program",
    "make-specimens": "make procedural micrographs with their truth",
    "calibrate-generator": "predict the errors of a run's generator, and judge the predictions on held-out crops",
}


# What a command needs is imported only once its arguments are known to be good: help and complaints come quickly.


def _train(arguments: list[str]) -> None:
    from adaptive_scan.commands.cli import parse_training

    config = parse_training(arguments)
    from adaptive_scan.commands.train import train_rdpg

    train_rdpg(config)


def _compare(arguments: list[str]) -> None:
    from adaptive_scan.commands.compare_settings import compare_help, is_about_benchmarks, parse_benchmark

    if {"-h", "--help"} & {*arguments}:
        print(compare_help())
        return
    if is_about_benchmarks(arguments):
        asked = parse_benchmark(arguments)
        from adaptive_scan.commands.compare import benchmark_command

        benchmark_command(asked)
        return
    from adaptive_scan.commands.cli import parse_comparison

    config = parse_comparison(arguments)
    from adaptive_scan.commands.compare_run import compare_command

    compare_command(config)


def _train_generator(arguments: list[str]) -> None:
    from adaptive_scan.commands.generator_settings import parse_generator_training

    config = parse_generator_training(arguments)
    from adaptive_scan.commands.train_generator import train_generator_command

    train_generator_command(config)


def _compare_completers(arguments: list[str]) -> None:
    from adaptive_scan.commands.compare_completers import compare_completers_command, parse_completion

    compare_completers_command(parse_completion(arguments))


def _measure_errors(arguments: list[str]) -> None:
    from adaptive_scan.commands.measure_errors import measure_errors_command, parse_errors

    measure_errors_command(parse_errors(arguments))


def _export_generator(arguments: list[str]) -> None:
    from adaptive_scan.commands.export import export_generator_command, parse_export

    export_generator_command(parse_export(arguments))


def _make_specimens(arguments: list[str]) -> None:
    from adaptive_scan.commands.specimens import make_specimens_command, parse_specimens

    make_specimens_command(parse_specimens(arguments))


def _calibrate_generator(arguments: list[str]) -> None:
    from adaptive_scan.commands.calibrate import calibrate_generator_command, parse_calibration

    calibrate_generator_command(parse_calibration(arguments))


_RUN = {
    "train": _train,
    "compare": _compare,
    "train-generator": _train_generator,
    "compare-completers": _compare_completers,
    "measure-errors": _measure_errors,
    "export-generator": _export_generator,
    "make-specimens": _make_specimens,
    "calibrate-generator": _calibrate_generator,
}


def _run(name: str, arguments: list[str]) -> int:
    from adaptive_scan.commands.errors import BAD_INPUT, run_command

    if name == "compare" and not arguments:
        from adaptive_scan.commands.compare_settings import USAGE

        print(USAGE, file=sys.stderr)
        return BAD_INPUT
    return run_command(_RUN[name], arguments)


def main() -> int:
    """The console command ``adaptive-scan``."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        return _run(arguments[0], arguments[1:])
    if arguments and arguments[0] not in ("-h", "--help"):
        print(f"error: got {arguments[0]!r}; expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    output = sys.stdout if arguments else sys.stderr
    print("usage: adaptive-scan COMMAND [OPTIONS]\n", file=output)
    for name, purpose in COMMANDS.items():
        print(f"  {name:<22} {purpose}", file=output)
    return 0 if arguments else 2


def train_rdpg_main() -> int:
    """``scripts/train_rdpg.py``."""
    return _run("train", sys.argv[1:])


def compare_scans_main() -> int:
    """``scripts/compare_scans.py``."""
    return _run("compare", sys.argv[1:])


def train_generator_main() -> int:
    """``scripts/train_generator.py``."""
    return _run("train-generator", sys.argv[1:])


def compare_completers_main() -> int:
    """``scripts/compare_completers.py``."""
    return _run("compare-completers", sys.argv[1:])


def measure_errors_main() -> int:
    """``scripts/measure_errors.py``."""
    return _run("measure-errors", sys.argv[1:])


def export_generator_main() -> int:
    """``scripts/export_generator.py``."""
    return _run("export-generator", sys.argv[1:])


def make_specimens_main() -> int:
    """``scripts/make_specimens.py``."""
    return _run("make-specimens", sys.argv[1:])


def calibrate_generator_main() -> int:
    """``scripts/calibrate_generator.py``."""
    return _run("calibrate-generator", sys.argv[1:])
