"""Settings of a training that begins at a preset, or goes on under those in its run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from adaptive_scan.commands.cli import parse_options
from adaptive_scan.commands.run_folder import Trainable, read_config
from adaptive_scan.errors import SettingError

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
        SettingError: If an option or a value is none, or settings of a resumed run are given anew.
    """
    resumed = _resumed(kind, arguments)
    default = presets(_value_of("--preset", arguments) or "quick") if resumed is None else resumed
    config = parse_options(kind, arguments, prog, description, default=default)
    if resumed is not None:
        _check_unchanged(config, resumed)
    return config


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


def _check_unchanged(config: Trainable, resumed: Trainable) -> None:
    changed = [name for name in _differences(config, resumed, "") if name not in _MAY_CHANGE]
    if changed:
        option = config.NAMES.get(changed[0], changed[0]).replace("_", "-")
        raise SettingError(f"--{option}: got it beside --resume; expected the run's own settings to stand")


def _differences(one: Any, other: Any, prefix: str) -> Iterator[str]:
    """Dotted names of the settings in which two dataclasses differ."""
    for field in dataclasses.fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if dataclasses.is_dataclass(mine):
            yield from _differences(mine, theirs, f"{prefix}{field.name}.")
        elif mine != theirs:
            yield prefix + field.name
