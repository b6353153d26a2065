"""What the scripts and the console command run."""

from __future__ import annotations

import sys
from collections.abc import Callable

COMMANDS = {
    "train": "train an actor and a generator together, then compare scans",
    "compare": "compare the scans of a run with static ones on held-out micrographs",
    "train-generator": "train a generator on a mixture of static scans",
}


def _find(name: str) -> Callable[[list[str]], None]:
    """A command by name; what it needs is imported only now."""
    if name == "train":
        from adaptive_scan.commands.training import train_rdpg

        return train_rdpg
    if name == "compare":
        from adaptive_scan.commands.comparing import compare_command

        return compare_command
    from adaptive_scan.commands.generator_training import train_generator_command

    return train_generator_command


def _run(name: str, arguments: list[str]) -> int:
    from adaptive_scan.commands.errors import run_command

    return run_command(_find(name), arguments)


def main() -> int:
    """The console command ``adaptive-scan``."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        return _run(arguments[0], arguments[1:])
    asked_for_help = bool(arguments) and arguments[0] in ("-h", "--help")
    print("usage: adaptive-scan COMMAND [OPTIONS]\n", file=sys.stdout if asked_for_help else sys.stderr)
    for name, purpose in COMMANDS.items():
        print(f"  {name:<16} {purpose}", file=sys.stdout if asked_for_help else sys.stderr)
    return 0 if asked_for_help else 2


def train_rdpg_main() -> int:
    """``scripts/train_rdpg.py``."""
    return _run("train", sys.argv[1:])


def compare_scans_main() -> int:
    """``scripts/compare_scans.py``."""
    return _run("compare", sys.argv[1:])


def train_generator_main() -> int:
    """``scripts/train_generator.py``."""
    return _run("train-generator", sys.argv[1:])
