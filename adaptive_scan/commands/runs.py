"""The run folder: what training writes and everything else reads."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptive_scan._version import __version__
from adaptive_scan.agents import RDPG
from adaptive_scan.commands.config import TrainingConfig, config_from_dict, config_to_dict
from adaptive_scan.commands.errors import InputError
from adaptive_scan.files import write_json
from adaptive_scan.generators import load_generator

CONFIG, MANIFEST, POLICY, GENERATOR = "config.json", "manifest.json", "policy.zip", "generator.safetensors"
CHECKPOINT = Path("checkpoints") / "state.safetensors"
TENSORBOARD = "tensorboard"


@dataclass(frozen=True)
class Run:
    """A run read back from its folder.

    Attributes:
        folder: The folder.
        config: Settings of the run.
        manifest: What it was made with and from.
        policy: The trained actor.
        generator: The trained generator.
    """

    folder: Path
    config: TrainingConfig
    manifest: dict[str, Any]
    policy: RDPG
    generator: nn.Module


def load_run(folder: Path | str, device: torch.device | str = "cpu") -> Run:
    """Read a run folder.

    Raises:
        InputError: If the folder is none or a file of it is missing or unreadable.
        ValueError: If the policy or the generator is no whole file of its kind.
    """
    folder = Path(folder)
    return Run(
        folder,
        read_config(folder),
        read_json(folder / MANIFEST),
        RDPG.load(folder / POLICY, device=device),
        load_generator(folder / GENERATOR, device=device),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a run folder.

    Raises:
        InputError: If there is none.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: found no such folder; expected a run folder")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: found {error.strerror}; expected the file that training writes") from error
    except ValueError as error:
        raise InputError(f"{path}: found no JSON ({error}); expected the file that training writes") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: found JSON that is no object; expected the file that training writes")
    return content


def read_config(folder: Path) -> TrainingConfig:
    """Settings of a run.

    Raises:
        InputError: If ``config.json`` is missing or holds something else.
    """
    content = read_json(folder / CONFIG)
    try:
        return config_from_dict(TrainingConfig, content)
    except (ValueError, TypeError) as error:
        raise InputError(f"{folder / CONFIG}: found {error}; expected the settings of a run") from error


def make_run_folder(config: TrainingConfig) -> Path:
    """A new, empty folder for a run.

    Raises:
        InputError: If the folder asked for has something in it, or cannot be made.
    """
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{config.preset}-seed{config.seed}"
    folder = Path("runs") / name if config.out is None else config.out
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: found something there already; expected a new or empty folder (or --resume)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: found {error.strerror}; expected a place to make a folder") from error
    return folder


def write_description(folder: Path, config: TrainingConfig, data: dict[str, Any]) -> None:
    """Write ``config.json`` and the ``manifest.json`` of a run that begins."""
    write_json(folder / CONFIG, config_to_dict(config))
    packages = ("torch", "numpy", "numba", "gymnasium", "stable-baselines3", "safetensors")
    write_json(
        folder / MANIFEST,
        {
            "adaptive_scan": __version__,
            "python": platform.python_version(),
            "packages": {name: importlib.metadata.version(name) for name in packages},
            "platform": platform.platform(),
            "n_threads": torch.get_num_threads(),
            "git_commit": _git_commit(),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "seed": config.seed,
            "data": data,
            "started": _now(),
            "seconds_training": 0.0,
            "iterations_done": 0,
        },
    )


def update_manifest(folder: Path, **entries: Any) -> None:
    """Change entries of a run's manifest."""
    write_json(folder / MANIFEST, {**read_json(folder / MANIFEST), **entries, "updated": _now()})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _git_commit() -> str | None:
    """Commit of the package's own checkout, or None where it is installed without one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", os.fspath(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
