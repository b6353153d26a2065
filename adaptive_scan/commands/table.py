"""The table of commands: a new command is one entry here, its options and the function that runs it."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adaptive_scan._version import __version__

PROG = "adaptive-scan"


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: What it is called on the command line.
        purpose: What it does, in one line.
        run: Module and function, ``module:function``, which takes the options.
        options: Module and dataclass of the options.
        parse: Module and function from arguments and the name of the program to options, for a command whose defaults
            depend on its arguments.
        old_name: What it was called until 0.1.
    """

    name: str
    purpose: str
    run: str
    options: str = ""
    parse: str = ""
    old_name: str = ""

    def read(self, arguments: list[str], prog: str) -> Any:
        """The options that a command line gives."""
        if self.parse:
            return _find(self.parse)(arguments, prog)
        from adaptive_scan.commands.cli import parse_options

        return parse_options(_find(self.options), arguments, prog, f"{self.purpose[0].upper()}{self.purpose[1:]}.")

    def __call__(self, arguments: list[str], prog: str) -> None:
        """Run the command; what it needs is loaded only once its options are known to be good."""
        options = self.read(arguments, prog)
        _find(self.run)(options)


def _find(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"adaptive_scan.commands.{module}"), name)


COMMANDS = (
    Command(
        "train",
        "train an actor and a generator together, then compare scans",
        run="train:train",
        parse="settings:parse_training",
    ),
    Command(
        "train-generator",
        "train a generator on a mixture of scans",
        run="train_generator:train_generator",
        parse="generator_settings:parse_generator_training",
    ),
    Command(
        "compare",
        "run a benchmark, or compare the scans of a run with static ones",
        run="compare:compare",
        parse="compare_forms:parse_compare",
    ),
    Command(
        "complete",
        "sample pictures along a static scan, and complete what it measured",
        run="complete:complete_pictures",
        options="command_options:CompleteConfig",
    ),
    Command(
        "compare-completers",
        "compare trained generators with interpolations on static scans of held-out micrographs",
        run="compare_completers:compare_completers",
        options="command_options:CompletionConfig",
    ),
    Command(
        "measure-errors",
        "measure where completions are wrong: by pixel, by distance from path and edge, and by picture",
        run="measure_errors:measure_completions",
        options="command_options:ErrorsConfig",
    ),
    Command(
        "calibrate",
        "train an error head for a run's generator; calibrate and judge it on micrographs that it held out",
        run="calibrate:calibrate",
        options="command_options:CalibrationConfig",
        old_name="calibrate-generator",
    ),
    Command(
        "export",
        "write a trained generator as an ONNX file or a torch.export program",
        run="export:export",
        options="command_options:ExportConfig",
        old_name="export-generator",
    ),
    Command(
        "specimens",
        "make procedural micrographs with their truth",
        run="specimens:write_specimens",
        options="command_options:SpecimenConfig",
        old_name="make-specimens",
    ),
)


def find_command(name: str) -> Command | None:
    """The command of that name; one that it had until 0.1 gives a warning on standard error.

    Example:
        >>> find_command("export").purpose
        'write a trained generator as an ONNX file or a torch.export program'
    """
    for command in COMMANDS:
        if name == command.name:
            return command
        if name and name == command.old_name:
            print(f"warning: {name} is now {command.name}; the old name goes in version 0.3", file=sys.stderr)
            return command
    return None


def run(command: Command, arguments: list[str], prog: str) -> int:
    """Run a command and say how it ended: its exit status."""
    from adaptive_scan.commands.errors import run_command

    if "--version" in arguments:
        return _say_version()
    try:
        return run_command(lambda given: command(given, prog), arguments)
    except SystemExit as end:  # of help
        return int(end.code or 0)


def main() -> int:
    """The console command ``adaptive-scan``."""
    first, *arguments = sys.argv[1:] or [""]
    command = find_command(first)
    if command is not None:
        return run(command, arguments, f"{PROG} {command.name}")
    if first == "--version":
        return _say_version()
    if first in ("-h", "--help", "--help-all", ""):
        _show_commands(to_error=not first)
        return 0 if first else 2
    names = [command.name for command in COMMANDS]
    likely = difflib.get_close_matches(first, names, 1)
    meant = f"; perhaps {likely[0]} was meant" if likely else ""
    print(f"error: got {first!r}; expected one of {', '.join(names)}{meant}", file=sys.stderr)
    return 2


def _say_version() -> int:
    print(f"{PROG} {__version__}")
    return 0


def _show_commands(*, to_error: bool) -> None:
    output = sys.stderr if to_error else sys.stdout
    print(f"usage: {PROG} COMMAND [OPTIONS]\n", file=output)
    for command in COMMANDS:
        print(f"  {command.name:<20} {command.purpose}", file=output)
    print(f"\n{PROG} COMMAND --help shows its basic options, --help-all every one.", file=output)


def script(name: str) -> Callable[[], int]:
    """What a script in ``scripts/`` runs: a command with the arguments of the script."""

    def script_main() -> int:
        (command,) = (command for command in COMMANDS if command.name == name)
        return run(command, sys.argv[1:], f"{PROG} {name}")

    return script_main
