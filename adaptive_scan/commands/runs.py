"""A trained run read back from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptive_scan.agents import RDPG
from adaptive_scan.commands.run_folder import GENERATOR, MANIFEST, POLICY, read_config, read_json
from adaptive_scan.commands.settings import TrainingConfig
from adaptive_scan.errors import SettingError
from adaptive_scan.generators import load_generator


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
        SettingError: If the folder is none, has no trained networks yet, or its settings are missing or unreadable.
        FileContentError: If the policy or the generator is no whole file of its kind.
    """
    folder = Path(folder)
    config, manifest = read_config(TrainingConfig, folder), read_json(folder / MANIFEST)
    for name in (POLICY, GENERATOR):
        if not (folder / name).exists():
            raise SettingError(f"{folder}: got no {name} yet; expected a run that has reached its first checkpoint")
    policy = RDPG.load(folder / POLICY, device=device)
    return Run(folder, config, manifest, policy, load_generator(folder / GENERATOR, device=device))
