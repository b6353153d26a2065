"""Settings of a training run: one dataclass, from which the command line and ``config.json`` are both made."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from adaptive_scan.scans import ScanGeometry


@dataclass(frozen=True)
class DataSettings:
    """Where crops come from."""

    downsample: int = 1
    """Side of the blocks that are averaged into one pixel, so that a crop covers more of a micrograph."""
    n_procedural: int = 20_000
    """Procedural crops to train on where there are no micrographs."""
    test_fraction: float = 0.2
    """Share of the groups of micrographs that is held out, where no test folder says which."""
    test_crops_per_micrograph: int = 8
    """Crops of each held-out micrograph in the comparison, at most."""
    n_procedural_test: int = 256
    """Procedural crops in the comparison where there are no micrographs."""
    blur: bool = True
    """Whether targets are the crops after the 5x5 Gaussian of 2.5 px."""


@dataclass(frozen=True)
class AgentSettings:
    """The actor and the critic."""

    memory: Literal["lstm", "gru"] = "lstm"
    """Kind of memory of actor and critic."""
    hidden_size: int = 256
    """Units of each layer of the memory."""
    n_layers: int = 2
    """Layers of the memory."""
    observe_image: bool = False
    """Whether the actor sees the partial scan itself besides the last segment."""
    start_from_spiral: bool = True
    """Whether the actor's output is a correction to the polygonal spiral, zero at first; else a free heading."""
    relative_reward: bool = True
    """Whether the critic learns the loss less that of the polygonal spiral on the same crop."""
    actor_learning_rate: float = 5e-4
    """Learning rate of the actor."""
    critic_learning_rate: float = 1e-3
    """Learning rate of the critic."""
    optimizer: Literal["adam", "adamw", "rmsprop"] = "rmsprop"
    """Optimiser of actor and critic."""
    gamma: float = 0.97
    """Discount per segment."""
    n_target_steps: int = 1
    """Rewards summed before bootstrapping; at least the number of segments makes Monte Carlo targets."""
    tau: float = 0.003
    """Share of the critic that goes into its target at each update."""
    max_grad_norm: float | None = 1.0
    """Bound of the gradient norm of actor and critic."""
    updates_per_batch: int = 1
    """Updates of actor and critic on each replayed batch, for one of the generator."""
    n_environments: int = 32
    """Scans made side by side, and new scans in each iteration."""
    batch_size: int = 32
    """Replayed scans in each update."""
    buffer_scans: int = 100_000
    """Scans kept for replay."""
    actor_learning_starts: int = 0
    """Updates of the critic before the first of the actor."""
    noise: Literal["ornstein-uhlenbeck", "gaussian"] = "ornstein-uhlenbeck"
    """Kind of exploration noise on the heading."""
    noise_sigma: float = 0.2
    """Standard deviation of the noise at each segment [rad]."""
    noise_theta: float = 0.1
    """Rate at which Ornstein-Uhlenbeck noise returns to zero."""
    final_noise_scale: float = 0.1
    """Factor on the noise at the end of training, reached linearly."""
    edge_penalty: float = 0.05
    """Penalty for each segment that ends outside the field, in units of the mean loss."""


@dataclass(frozen=True)
class GeneratorSettings:
    """The generator that completes the scans."""

    kind: Literal["unet", "residual"] = "unet"
    """Network: the small mask-aware U-Net or the adaptive-scan paper's residual generator."""
    n_channels: int = 32
    """Channels of the U-Net's finest level."""
    n_levels: int = 3
    """Resolutions of the U-Net."""
    learning_rate: float = 1e-3
    """Adam's learning rate at the start."""
    final_learning_rate: float = 1e-5
    """Where its cosine ends."""
    weight_decay: float = 1e-5
    """Decoupled weight decay."""
    static_scans: tuple[str, ...] = ("polygonal_spiral", "spiral", "raster", "grid", "random")
    """Static scan families that it also learns to complete."""
    n_static: int = 16
    """Static scans in each batch, beside the replayed ones."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a training run."""

    preset: Literal["quick", "ede96"] = "quick"
    """Where all other settings start: quick takes minutes on two cores, ede96 is the paper's setting."""
    micrographs: Path | None = None
    """File or folder of micrographs; procedural ones without it."""
    groups: Path | None = None
    """CSV with the columns file and group: groups are never split between training and test."""
    out: Path | None = None
    """Run folder to make; without it one under runs/, named by the time."""
    resume: Path | None = None
    """Run folder to go on with, under its own settings."""
    seed: int = 0
    """Seed of everything random."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run."""
    iterations: int = 1_000_000
    """Iterations: each makes n_environments new scans and one update."""
    skip_bad: bool = False
    """Whether files that cannot be used are skipped and reported, instead of ending the run."""
    checkpoint_every: int = 10_000
    """Iterations between checkpoints."""
    log_every: int = 100
    """Iterations between entries of the log."""
    picture_every: int = 5_000
    """Iterations between pictures in the log."""
    geometry: ScanGeometry = field(default_factory=ScanGeometry)
    """The scan: field, segments, positions, spacing."""
    data: DataSettings = field(default_factory=DataSettings)
    """Where crops come from."""
    agent: AgentSettings = field(default_factory=AgentSettings)
    """The actor and the critic."""
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    """The generator that completes the scans."""

    def __post_init__(self) -> None:
        _check_positive(self, "iterations", "checkpoint_every", "log_every", "picture_every")
        _check_positive(self.data, "downsample", "n_procedural", "test_crops_per_micrograph", "n_procedural_test")
        _check_positive(self.agent, "hidden_size", "n_layers", "n_target_steps", "n_environments", "batch_size")
        _check_positive(self.agent, "buffer_scans", "updates_per_batch")
        if not 0 < self.data.test_fraction < 1:
            raise ValueError(f"data.test_fraction: got {self.data.test_fraction}; expected between 0 and 1")
        if self.seed < 0:
            raise ValueError(f"seed: got {self.seed}; expected at least 0")


def _check_positive(settings: Any, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < 1:
            raise ValueError(f"{name}: got {getattr(settings, name)}; expected at least 1")


def _quick() -> TrainingConfig:
    return TrainingConfig(
        preset="quick",
        iterations=800,
        checkpoint_every=100,
        log_every=10,
        picture_every=200,
        geometry=ScanGeometry(image_size=48, n_segments=10, n_positions=10, spacing=math.sqrt(2.0)),
        data=DataSettings(downsample=2, n_procedural=4_096, n_procedural_test=128, test_crops_per_micrograph=6),
        agent=AgentSettings(
            hidden_size=64,
            n_layers=1,
            n_target_steps=10,
            optimizer="adam",
            actor_learning_rate=1e-3,
            critic_learning_rate=3e-3,
            buffer_scans=10_000,
            actor_learning_starts=100,
            noise_sigma=0.3,
        ),
        generator=GeneratorSettings(n_channels=24, n_levels=2, learning_rate=2e-3),
    )


def preset_config(name: str) -> TrainingConfig:
    """Settings of a preset.

    Raises:
        ValueError: If there is no preset of that name.

    Example:
        >>> preset_config("ede96").geometry.dose
        400
    """
    presets = {"quick": _quick, "ede96": lambda: TrainingConfig(preset="ede96")}
    if name not in presets:
        raise ValueError(f"preset: got {name!r}; expected one of {', '.join(presets)}")
    return presets[name]()


def config_to_dict(config: Any) -> Any:
    """Settings as plain JSON values: dataclasses as objects, paths as strings, tuples as lists.

    Example:
        >>> config_to_dict(preset_config("quick"))["geometry"]["image_size"]
        48
    """
    if dataclasses.is_dataclass(config):
        return {f.name: config_to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Path):
        return str(config)
    if isinstance(config, tuple):
        return [config_to_dict(value) for value in config]
    return config


def config_from_dict(kind: type, data: Any) -> Any:
    """The settings that :func:`config_to_dict` wrote down.

    Raises:
        ValueError: If a setting is unknown or missing.

    Example:
        >>> config_from_dict(TrainingConfig, config_to_dict(preset_config("quick"))) == preset_config("quick")
        True
    """
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    for name in sorted(set(data) ^ known):
        raise ValueError(f"settings: {'unknown' if name in data else 'missing'} {name!r} of {kind.__name__}")
    return kind(**{name: _restore(hints[name], value) for name, value in data.items()})


def _restore(hint: Any, value: Any) -> Any:
    options = [hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = list(typing.get_args(hint))
    for option in options:
        if dataclasses.is_dataclass(option) and isinstance(value, dict):
            return config_from_dict(typing.cast(type, option), value)
        if option is Path and isinstance(value, str):
            return Path(value)
    return tuple(_restore(Any, part) for part in value) if isinstance(value, list) else value
