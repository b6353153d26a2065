"""Command lines to settings; loads neither torch nor the networks, so that help and complaints come quickly."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import tyro

from adaptive_scan.commands.errors import InputError, refusals_as_input_errors
from adaptive_scan.commands.run_folder import Trainable, read_config
from adaptive_scan.commands.settings import ComparisonConfig, TrainingConfig, preset_config

Config = TypeVar("Config")

# None of these decides the result, as long as the pictures and their split are the same, which is checked.
_MAY_CHANGE = {
    "micrographs",
    "groups",
    "start_from",
    "policy",
    "skip_bad",
    "device",
    "checkpoint_every",
    "log_every",
    "picture_every",
}


def parse_training(arguments: list[str]) -> TrainingConfig:
    """Settings of ``train_rdpg``: those of the preset, or of the run to resume, and what is given beside.

    Raises:
        InputError: If an option or a value is none, or settings of a resumed run are given anew.

    Example:
        >>> parse_training(["--preset", "ede96", "--iterations", "5"]).iterations
        5
    """
    description = "Train an actor that steers the probe and a generator that completes what it measured; compare scans."
    return parse_resumable(TrainingConfig, preset_config, arguments, "train_rdpg", description)


def parse_resumable(
    kind: type[Trainable],
    presets: Callable[[str], Trainable],
    arguments: list[str],
    prog: str,
    description: str,
) -> Trainable:
    """Settings of a run that begins at a preset or goes on under its own.

    Args:
        kind: Dataclass of the settings.
        presets: Settings of a preset by its name.
        arguments: Arguments of the command line.
        prog: What help calls the command.
        description: What help says of it.

    Raises:
        InputError: As :func:`parse_training`.
    """
    resumed = _resumed(kind, arguments)
    default = _preset(presets, arguments) if resumed is None else resumed
    return _checked(parse_config(kind, arguments, prog, description, default=default), resumed)


def parse_comparison(arguments: list[str]) -> ComparisonConfig:
    """Settings of ``compare_scans``.

    Raises:
        InputError: If an option or a value is none, or there is no run.

    Example:
        >>> parse_comparison(["--run", "runs/a", "--scans", "adaptive", "raster"]).scans
        ('adaptive', 'raster')
    """
    description = "Compare the scans of a run with static ones at equal dose, on held-out micrographs."
    return parse_config(ComparisonConfig, arguments, "compare_scans", description)


def _preset(presets: Callable[[str], Trainable], arguments: list[str]) -> Trainable:
    """Settings of the preset named on the command line, or of the quick one."""
    name = _value_of("--preset", arguments)
    with refusals_as_input_errors():
        return presets("quick" if name is None else name)


def _resumed(kind: type[Trainable], arguments: list[str]) -> Trainable | None:
    """Settings of the run that the command line resumes, if it does."""
    folder = _value_of("--resume", arguments)
    if folder is None:
        return None
    return dataclasses.replace(read_config(kind, Path(folder)), out=None, resume=Path(folder))


def _value_of(option: str, arguments: list[str]) -> str | None:
    """Value of an option that decides the defaults of all others."""
    for place, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
        if argument == option and place + 1 < len(arguments):
            return arguments[place + 1]
    return None


def _checked(config: Trainable, resumed: Trainable | None) -> Trainable:
    if resumed is None:
        return config
    changed = [option for option in _differences(config, resumed, "") if option not in _MAY_CHANGE]
    if changed:
        option = changed[0].replace("_", "-")
        raise InputError(f"--{option}: got it beside --resume; expected the run's own settings to stand")
    return config


def _differences(one: Any, other: Any, prefix: str) -> Iterator[str]:
    """Dotted names of the settings in which two dataclasses differ."""
    for field in dataclasses.fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if dataclasses.is_dataclass(mine):
            yield from _differences(mine, theirs, f"{prefix}{field.name}.")
        elif mine != theirs:
            yield prefix + field.name


def parse_config(kind: type[Config], arguments: list[str], prog: str, description: str, **settings: Any) -> Config:
    """Parse by tyro; what it would say in a box of many lines becomes one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), refusals_as_input_errors():
            return tyro.cli(kind, args=arguments, prog=prog, description=description, **settings)
    except SystemExit as end:
        if not end.code:
            raise
        raise InputError(f"{_summary(said.getvalue())} (see {prog} --help)") from end


def _summary(box: str) -> str:
    r"""What tyro's box says first, and the option that it thinks was meant.

    Example:
        >>> _summary("╭─ Error ─╮\n│ Bad │\n│ value │\n│ ─── │\n│ Perhaps you meant: │\n│     --seed INT │\n╰──╯")
        'Bad value; perhaps --seed was meant'
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│ ") for line in plain.splitlines() if not line.startswith(("╭", "╰"))]
    rules = [place for place, line in enumerate(lines) if line and not line.strip("─-")]
    if "│" not in plain:
        # Where the terminal has no such characters, the title is a line of its own above the first rule.
        lines, rules = lines[rules[0] + 1 :], [place - rules[0] - 1 for place in rules[1:]]
    said = " ".join(" ".join(lines[: rules[0] if rules else None]).split())
    first = re.sub(r"^Error parsing (\w+Config: )?", "", said)
    likely = re.search(r"Perhaps you meant:[\s│]*(--[\w.-]+)", plain)
    return first.rstrip(".") + (f"; perhaps {likely[1]} was meant" if likely else "")
