"""Settings of the training of a generator alone, and its command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from adaptive_scan.commands.options import RunOptions, check_positive
from adaptive_scan.commands.resume import parse_resumable
from adaptive_scan.commands.settings import CropSettings, preset_config
from adaptive_scan.errors import SettingError
from adaptive_scan.generators.adversarial_settings import AdversarialSettings
from adaptive_scan.generators.families import is_adaptive
from adaptive_scan.generators.training_settings import GeneratorTraining
from adaptive_scan.scans import ScanGeometry

_PAPERS_LOSS_SCALE = 50.0  # the papers follow 200 times the squared error on [0, 1], a quarter of that on [-1, 1]


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(RunOptions):
    """Everything that decides the training of a generator."""

    COMMAND: ClassVar[str] = "train-generator"
    BASIC: ClassVar[tuple[str, ...]] = (
        *("preset", "micrographs", "groups", "out", "resume", "start_from", "device"),
        *("training.generator", "training.scans", "training.coverages", "training.n_updates", "training.seed"),
    )
    NAMES: ClassVar[Mapping[str, str]] = {"training.generator": "generator.kind", "policy": "policy-run"}
    RENAMED: ClassVar[Mapping[str, str]] = {"generator": "generator.kind", "policy": "policy-run"}

    preset: Literal["quick", "ede96", "partial-stem-512", "supersampling-512"] = "quick"
    """Where all other settings start: quick takes minutes on two cores, ede96 is the adaptive-scan paper's setting, the
    last two are those of the partial-STEM and the supersampling paper, for days on a GPU."""
    checkpoint_every: int = 1_000
    start_from: Path | None = None
    """Generator file to fine-tune: training starts from its weights. Its kind and size must be those set here."""
    policy: Path | None = None
    """Run folder of train whose actor makes the scans of the family adaptive."""
    n_channels: int = 32
    """Channels of the finest level of the U-Net and its like."""
    n_levels: int = 3
    """Resolutions of these networks."""
    width: float = 1.0
    """Factor of all channels of the two-stage and the supersampling network; 1 is the papers'."""
    factor: int = 5
    """Distance of the points of the grid that the supersampling network is built for [px]."""
    training: Annotated[GeneratorTraining, tyro.conf.arg(name="")] = field(default_factory=GeneratorTraining)
    """Network, scans and optimiser."""
    adversarial: AdversarialSettings = field(default_factory=AdversarialSettings)
    """Further losses, and the game against discriminators."""
    geometry: ScanGeometry = field(default_factory=ScanGeometry)
    """The scan: field and dose, and the segments of scans that have them."""
    data: CropSettings = field(default_factory=CropSettings)
    """Where crops come from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "n_channels", "n_levels")
        adaptive = [name for name in self.training.scans if is_adaptive(name)]
        if adaptive and self.policy is None:
            raise SettingError(f"policy-run: got nothing with the scans {adaptive[0]!r}; expected a run folder")
        if self.policy is not None and not adaptive:
            raise SettingError("policy-run: got one without the scans 'adaptive'; expected them among the scans")

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return self.training.seed

    @property
    def needs_adversarial_trainer(self) -> bool:
        """Whether more is trained or followed than a generator along the squared error."""
        has_auxiliary = self.training.generator == "two_stage"
        return self.training.adversarial_share > 0 or has_auxiliary or self.adversarial != AdversarialSettings()


def _of_run(name: str) -> GeneratorConfig:
    """Scan, crops and network of the preset of that name of whole runs."""
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


def _of_paper(training: GeneratorTraining, geometry: ScanGeometry) -> GeneratorConfig:
    """Settings that the two papers with crops of 512 px share (Ede and Beanland 2020; Ede, arXiv 1910.10467)."""
    shared = dataclasses.replace(
        training,
        n_updates=2_000_000,
        batch_size=1,
        learning_rate=3e-4,
        schedule="steps",
        beta1=0.9,
        final_beta1=0.5,
        weight_decay=0.0,
        loss_scale=_PAPERS_LOSS_SCALE,
        alrc=True,
        alrc_mu1=25.0,
        alrc_mu2=900.0,
        adversarial_share=0.5,
        adversarial_learning_rate=1e-4,
    )
    return GeneratorConfig(
        checkpoint_every=5_000,
        log_every=100,
        picture_every=20_000,
        training=shared,
        geometry=geometry,
        # Crops of this size are a megabyte each: the procedural ones are there to try things out.
        data=CropSettings(n_procedural=256, n_procedural_test=16, test_crops_per_micrograph=1),
    )


def _partial_stem() -> GeneratorConfig:
    """One spiral of 1/20 coverage; beta1 begins anew at 0.9 in the adversarial half."""
    training = GeneratorTraining(generator="two_stage", scans=("spiral",), adversarial_beta1=0.9)
    config = _of_paper(training, ScanGeometry(512, n_segments=51, n_positions=257))
    return dataclasses.replace(config, preset="partial-stem-512")


def _supersampling() -> GeneratorConfig:
    """The unified generator for uniform grids of coverages 1/16 to 1/100, judged at 103 x 103 positions, about 1/25."""
    training = GeneratorTraining(
        generator="two_stage",
        scans=("grid",),
        coverages=tuple(1.0 / side**2 for side in range(4, 11)),
        prioritisation="given",
        known_pixels="excluded",
        adversarial_beta1=0.5,
    )
    config = _of_paper(training, ScanGeometry(512, n_segments=103, n_positions=103))
    adversarial = AdversarialSettings(adversarial_weight=1.0, blur_completions=True, auxiliary_learning_rate_factor=2.0)
    return dataclasses.replace(config, preset="supersampling-512", adversarial=adversarial)


def generator_preset_config(name: str) -> GeneratorConfig:
    """Settings of a preset of the generator's training.

    Raises:
        ValueError: If there is no preset of that name.

    Example:
        >>> generator_preset_config("quick").geometry == preset_config("quick").geometry
        True
    """
    presets: dict[str, Callable[[], GeneratorConfig]] = {
        "quick": lambda: _of_run("quick"),
        "ede96": lambda: _of_run("ede96"),
        "partial-stem-512": _partial_stem,
        "supersampling-512": _supersampling,
    }
    if name not in presets:
        raise SettingError(f"preset: got {name!r}; expected one of {', '.join(presets)}")
    return presets[name]()


def parse_generator_training(arguments: list[str], prog: str = "adaptive-scan train-generator") -> GeneratorConfig:
    """Settings of ``train-generator``: those of the preset, or of the run to resume, and what is given beside.

    Raises:
        SettingError: If an option or a value is none, or settings of a resumed run are given anew.

    Example:
        >>> parse_generator_training(["--scans", "spiral", "grid", "--coverages", "1/16", "0.01"]).training.coverages
        (0.0625, 0.01)
    """
    description = "Train a generator to complete scans, and compare it with interpolation on held-out crops."
    return parse_resumable(GeneratorConfig, generator_preset_config, arguments, prog, description)
