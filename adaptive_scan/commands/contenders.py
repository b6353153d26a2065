"""Scans as they take part in a comparison: those of a trained actor, and of the families that generators train on."""

from __future__ import annotations

from typing import Any

import numpy as np

from adaptive_scan.agents import RDPG
from adaptive_scan.commands.settings import TrainingConfig
from adaptive_scan.evaluation import Contender, static_contenders
from adaptive_scan.generators.families import family_positions
from adaptive_scan.scans import STATIC_SCANS, ScanGeometry, filling_path


def environment_settings(config: TrainingConfig) -> dict[str, Any]:
    """Settings of the environment that the agent acts in, for training and for comparison alike, but the instrument."""
    settings: dict[str, Any] = {
        "geometry": config.geometry,
        "action_kind": "angle",
        "observe_image": config.agent.observe_image,
    }
    if config.agent.start_from_path:
        settings["reference_headings"], settings["reference_spacings"] = filling_path(config.geometry)
    return settings


def adaptive_contender(config: TrainingConfig, policy: RDPG) -> Contender:
    """The trained actor as it takes part in a comparison."""
    return Contender("adaptive", policy=policy, environment=environment_settings(config))


def family_contender(name: str, geometry: ScanGeometry) -> Contender:
    """A family of scans that generators train on, the filling path among them, as it takes part in a comparison.

    Example:
        >>> family_contender("random_headings", ScanGeometry(48, 10, 10)).random
        True
    """
    if name in STATIC_SCANS:
        return static_contenders([name])[0]

    def path(n_positions: int, image_size: int, rng: np.random.Generator) -> np.ndarray:
        positions: np.ndarray = family_positions(name, geometry, 1, rng)[0]
        return positions

    return Contender(name, path=path, random=name == "random_headings")
