"""Settings of the training of a generator alone, and its command line."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from adaptive_scan.commands.arguments import parse_resumable
from adaptive_scan.commands.config import (
    CropSettings,
    InstrumentName,
    check_not_negative,
    check_positive,
    preset_config,
)
from adaptive_scan.generators import GeneratorTraining
from adaptive_scan.scans import ScanGeometry


@dataclass(frozen=True)
class GeneratorConfig:
    """Everything that decides the training of a generator on static scans."""

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
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs."""
    n_threads: int = 0
    """Threads of PyTorch on the CPU, 0 for its own choice; small networks on shared cores are fastest with one."""
    skip_bad: bool = False
    """Whether files that cannot be used are skipped and reported, instead of ending the run."""
    checkpoint_every: int = 1_000
    """Updates between checkpoints."""
    log_every: int = 100
    """Updates between entries of the log."""
    picture_every: int = 5_000
    """Updates between pictures in the log."""
    n_channels: int = 32
    """Channels of the U-Net's finest level."""
    n_levels: int = 3
    """Resolutions of the U-Net."""
    acquisition: InstrumentName = "ideal"
    """The instrument that all scans go through, in training and in the comparison."""
    training: Annotated[GeneratorTraining, tyro.conf.arg(name="")] = field(default_factory=GeneratorTraining)
    """Network, scans and optimiser."""
    geometry: ScanGeometry = field(default_factory=ScanGeometry)
    """The scan: field and dose, and the segments of scans that have them."""
    data: CropSettings = field(default_factory=CropSettings)
    """Where crops come from."""

    def __post_init__(self) -> None:
        check_positive(self, "checkpoint_every", "log_every", "picture_every", "n_channels", "n_levels")
        check_not_negative(self, "n_threads")

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return self.training.seed


def generator_preset_config(name: str) -> GeneratorConfig:
    """Settings of a preset of the generator's training; scan, crops and network are those of the run's preset.

    Raises:
        ValueError: If there is no preset of that name.

    Example:
        >>> generator_preset_config("quick").geometry == preset_config("quick").geometry
        True
    """
    run = preset_config(name)
    crops = {f.name: getattr(run.data, f.name) for f in dataclasses.fields(CropSettings)}
    is_quick = name == "quick"
    return GeneratorConfig(
        preset=run.preset,
        n_threads=run.n_threads,
        checkpoint_every=200 if is_quick else 1_000,
        log_every=10 if is_quick else 100,
        picture_every=500 if is_quick else 5_000,
        n_channels=run.generator.n_channels,
        n_levels=run.generator.n_levels,
        training=GeneratorTraining(
            generator=run.generator.kind,
            scans=run.generator.static_scans,
            n_updates=1_500 if is_quick else 100_000,
            learning_rate=run.generator.learning_rate,
            final_learning_rate=run.generator.final_learning_rate,
        ),
        geometry=run.geometry,
        data=CropSettings(**crops),
    )


def parse_generator_training(arguments: list[str]) -> GeneratorConfig:
    """Settings of ``train_generator``: those of the preset, or of the run to resume, and what is given beside.

    Raises:
        InputError: If an option or a value is none, or settings of a resumed run are given anew.

    Example:
        >>> parse_generator_training(["--scans", "spiral", "grid"]).training.scans
        ('spiral', 'grid')
    """
    description = "Train a generator to complete static scans, and compare it with interpolation on held-out crops."
    return parse_resumable(GeneratorConfig, generator_preset_config, arguments, "train_generator", description)
