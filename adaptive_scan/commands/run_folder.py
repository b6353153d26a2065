"""The folder of a run: its settings, its manifest, and where everything else in it lies."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from adaptive_scan._version import __version__
from adaptive_scan.commands.options import RunOptions
from adaptive_scan.errors import SettingError
from adaptive_scan.files import write_json
from adaptive_scan.settings import settings_from_json, settings_to_json

CONFIG, MANIFEST, POLICY, GENERATOR = "config.json", "manifest.json", "policy.zip", "generator.safetensors"
CHECKPOINT = Path("checkpoints") / "state.safetensors"
TENSORBOARD = "tensorboard"

_PACKAGES = ("torch", "numpy", "numba", "scipy", "gymnasium", "stable-baselines3", "safetensors", "tifffile")
_TOLD_BY = {"agent": "train", "training": "train-generator"}  # settings that a run of one command alone has
_FROM_TRAINING = "the file that training writes"

Trainable = TypeVar("Trainable", bound=RunOptions)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a run folder.

    Raises:
        SettingError: If there is none.
    """
    if not path.parent.is_dir():
        raise SettingError(f"{path.parent}: got no such folder; expected a run folder")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"{path}: got {error.strerror}; expected {_FROM_TRAINING}") from error
    except ValueError as error:
        raise SettingError(f"{path}: got no JSON ({error}); expected {_FROM_TRAINING}") from error
    if not isinstance(content, dict):
        raise SettingError(f"{path}: got JSON that is no object; expected {_FROM_TRAINING}")
    return content


def read_config(kind: type[Trainable], folder: Path) -> Trainable:
    """Settings of a run.

    Raises:
        SettingError: If ``config.json`` is missing or holds something else.
    """
    content = read_json(folder / CONFIG)
    found = next((command for part, command in _TOLD_BY.items() if part in content), kind.COMMAND)
    if found != kind.COMMAND:
        raise SettingError(f"{folder}: got a run of {found}; expected one of {kind.COMMAND}")
    try:
        return settings_from_json(kind, content)
    except SettingError as error:
        raise SettingError(f"{folder / CONFIG}: {error}") from error


def read_crop_size(folder: Path) -> int:
    """Side of the crops of a run of either kind [px].

    Raises:
        SettingError: If its settings are missing or do not say it.
    """
    size = read_json(folder / CONFIG).get("geometry", {}).get("image_size")
    if not isinstance(size, int):
        raise SettingError(f"{folder / CONFIG}: got no geometry.image_size; expected the settings of a run")
    return size


def find_generator(folder: Path) -> Path:
    """File of the generator of a run of either kind.

    Raises:
        SettingError: If there is none yet.
    """
    if not (folder / GENERATOR).exists():
        raise SettingError(f"{folder}: got no {GENERATOR} yet; expected a run that has reached its first checkpoint")
    return folder / GENERATOR


def check_out(out: Path | None) -> None:
    """Refuse a folder for a new run that has something in it.

    Raises:
        SettingError: If it has, or is no folder.
    """
    _refuse_used(out, "a new or empty folder (or --resume)")


def check_new(out: Path | None) -> None:
    """Refuse a folder for new files that has something in it, for commands that resume nothing.

    Raises:
        SettingError: If it has, or is no folder.
    """
    _refuse_used(out, "a new or empty folder")


def _refuse_used(out: Path | None, expected: str) -> None:
    if out is None or not out.exists():
        return
    # A run killed while it wrote its first file leaves a part of it, of no use to anyone.
    if not out.is_dir() or any(not re.match(r"\..*\.tmp", file.name) for file in out.iterdir()):
        raise SettingError(f"{out}: got something there already; expected {expected}")


def make_run_folder(out: Path | None, name: str) -> Path:
    """A new, empty folder for a run.

    Args:
        out: The folder asked for; None for one under ``runs/``.
        name: What a folder under ``runs/`` is called besides the time.

    Raises:
        SettingError: If the folder asked for has something in it, or cannot be made.
    """
    if out is None:
        out = _unused(Path("runs") / f"{_stamp()}-{name}")
    check_out(out)
    return make_folder(out)


def make_comparison_folder(run: Path) -> Path:
    """A new folder in a run folder, for a comparison beside the run's own.

    Raises:
        SettingError: If it cannot be made.
    """
    return make_folder(_unused(run / f"comparison-{_stamp()}"))


def _stamp() -> str:
    return time.strftime("%Y%m%d-%H%M%S")


def _unused(folder: Path) -> Path:
    """The folder, or where one was named in the same second, its name with a number."""
    names = (folder.name if number == 1 else f"{folder.name}-{number}" for number in itertools.count(1))
    return next(path for path in map(folder.parent.joinpath, names) if not path.exists())


def make_folder(folder: Path) -> Path:
    """A folder, made where there is none.

    Raises:
        SettingError: If it cannot be made or is no folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"{folder}: got {error.strerror}; expected a place to make a folder") from error
    return folder


def write_config(folder: Path, config: RunOptions) -> None:
    """Write ``config.json``, with places of data that hold wherever they are read."""
    micrographs, groups = (None if place is None else place.absolute() for place in (config.micrographs, config.groups))
    absolute = dataclasses.replace(config, resume=None, micrographs=micrographs, groups=groups)
    write_json(folder / CONFIG, settings_to_json(absolute))


def write_manifest(folder: Path, *, seed: int, data: Mapping[str, Any], n_threads: int) -> None:
    """Write the ``manifest.json`` of a run that begins: what it is made with and from."""
    write_json(
        folder / MANIFEST,
        {
            "adaptive_scan": __version__,
            "python": platform.python_version(),
            "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
            "platform": platform.platform(),
            "n_threads": n_threads,
            "git_commit": _git_commit(),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "seed": seed,
            "data": data,
            "started": _now(),
            "seconds_training": 0.0,
            "iterations_done": 0,
        },
    )


def update_manifest(folder: Path, **entries: Any) -> None:
    """Change entries of a run's manifest."""
    write_json(folder / MANIFEST, {**read_json(folder / MANIFEST), **entries, "updated": _now()})


def check_same_data(folder: Path, data: Mapping[str, Any]) -> None:
    """Make sure that pictures are those a run began with, however they are reached now.

    Raises:
        SettingError: If their content or the split into training and test differs.
    """
    stored = read_json(folder / MANIFEST).get("data", {})
    for key in ("fingerprint", "train_sha256", "test_sha256", "train", "test"):
        if stored.get(key) != data.get(key):
            raise SettingError(f"{folder}: got other pictures than the run was trained on; expected the same ones")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _git_commit() -> str | None:
    """Commit of the package's own checkout, ``-dirty`` behind it if files differ; None where there is no checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(
            ["git", "-C", os.fspath(root), *describe], capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
