"""Options that several commands share, each declared once, and the checks of options and settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from adaptive_scan.errors import SettingError

OWN_SCANS = ("adaptive", "filling_path", "polygonal_spiral")
"""Scans of a run's own: that of its actor, and static ones of segments, which an actor could make."""

InstrumentName = Literal["ideal", "probe-corrected-200kv", "fast-scan", "low-dose"]
"""Names of `adaptive_scan.acquisition.INSTRUMENTS`."""


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """What every command's options are made from: dataclasses, of which tyro makes command lines."""

    BASIC: ClassVar[tuple[str, ...]] = ()
    """Fields that ``--help`` shows, nested ones as ``group.field``; all of them where none is named."""
    RENAMED: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Old names of options and what they are called now; the old ones are to go in 0.3."""
    NAMES: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Fields whose option has another name than they have in files."""

    def __post_init__(self) -> None:
        """Check the options; those of every class that they come from."""


@dataclass(frozen=True, kw_only=True)
class PictureOptions(CommandOptions):
    """Which pictures."""

    micrographs: Path | None = None
    """File or folder of micrographs. Without it those of the run or the benchmark or, where there are none, procedural
    ones. Pictures that a run trained on are left out of what it is judged on."""
    groups: Path | None = None
    """CSV with the columns file and group: pictures of a group stay together where some are held out and where the
    bootstrap draws."""


@dataclass(frozen=True, kw_only=True)
class DataOptions(PictureOptions):
    """Which pictures, and what becomes of those that cannot be used."""

    skip_bad: bool = False
    """Whether files that cannot be used are skipped and reported, instead of ending the command."""


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(CommandOptions):
    """Where networks run."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run."""
    n_threads: int = 0
    """Threads of PyTorch on the CPU, 0 for its own choice; small networks on shared cores are fastest with one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self, "n_threads")


@dataclass(frozen=True, kw_only=True)
class SeedOptions(CommandOptions):
    """The seed."""

    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self, "seed")


@dataclass(frozen=True, kw_only=True)
class OutOptions(CommandOptions):
    """Where files go."""

    out: Path | None = None
    """New or empty folder; without it the one that the command makes and names, or that of the run it is about."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(DeviceOptions, OutOptions, DataOptions):
    """A training that keeps a run folder."""

    COMMAND: ClassVar[str]
    """The command that trains."""

    resume: Path | None = None
    """Run folder to go on with, under its own settings."""
    checkpoint_every: int = 10_000
    """Iterations or updates between checkpoints."""
    log_every: int = 100
    """The same between entries of the log."""
    picture_every: int = 5_000
    """The same between pictures in the log."""
    acquisition: InstrumentName = "ideal"
    """The instrument that all scans go through, in training and in the comparison."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "checkpoint_every", "log_every", "picture_every")


def check_scan_names(names: Sequence[str], *, own: bool = True) -> None:
    """Raise a SettingError unless there is a scan and every one of them is known.

    Args:
        names: Names of scans.
        own: Whether the scans of a run's own are known.

    Example:
        >>> check_scan_names(["adaptive", "raster"])
    """
    from adaptive_scan.scans.static import STATIC_SCANS  # which help need not load

    check_names("scans", names, (*(OWN_SCANS if own else ()), *STATIC_SCANS))
    if not names:
        raise SettingError(f"scans: got nothing; expected some of {', '.join(STATIC_SCANS)}")


def check_completer_names(names: Sequence[str]) -> None:
    """Raise a SettingError unless every name is of an interpolation, a file, or ``package.module:factory``.

    Example:
        >>> check_completer_names(["linear+", "my_package.networks:make", "generator.safetensors"])
    """
    from adaptive_scan.generators import COMPLETERS

    known = {*COMPLETERS, *(f"{name}+" for name in COMPLETERS)}
    for name in names:
        if ":" not in name and not is_file(name) and name not in known:
            raise SettingError(f"completers: got {name!r}; expected some of {', '.join(COMPLETERS)}")


def is_file(completer: str) -> bool:
    """Whether a completer is named by the file of a generator.

    Example:
        >>> is_file("runs/a/generator.safetensors"), is_file("linear+")
        (True, False)
    """
    return completer.endswith(".safetensors")


def check_names(option: str, names: Sequence[str], known: Sequence[str] | Mapping[str, Any]) -> None:
    """Raise a SettingError at the first name that is unknown."""
    for name in names:
        if name not in known:
            raise SettingError(f"{option}: got {name!r}; expected some of {', '.join(known)}")


def check_coverage(option: str, coverage: float) -> None:
    """Raise a SettingError unless a number of positions by pixel makes sense."""
    if not 0 < coverage <= 1:
        raise SettingError(f"{option}: got {coverage}; expected more than 0 and at most 1")


def check_positive(settings: Any, *names: str) -> None:
    """Raise a SettingError unless each of these settings is at least 1, or None."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value >= 1:
            raise SettingError(f"{name}: got {value}; expected at least 1")


def check_not_negative(settings: Any, *names: str) -> None:
    """Raise a SettingError unless each of these settings is a finite number of at least 0."""
    for name in names:
        if not 0 <= getattr(settings, name) < math.inf:
            raise SettingError(f"{name}: got {getattr(settings, name)}; expected a number of at least 0")


def check_share(settings: Any, *names: str) -> None:
    """Raise a SettingError unless each of these settings is between 0 and 1."""
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise SettingError(f"{name}: got {getattr(settings, name)}; expected between 0 and 1")
