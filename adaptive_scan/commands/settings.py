"""Settings of a training run: one dataclass, from which the command line and ``config.json`` are both made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from adaptive_scan.commands.options import (
    RunOptions,
    SeedOptions,
    check_names,
    check_not_negative,
    check_positive,
    check_share,
)
from adaptive_scan.commands.resume import parse_resumable
from adaptive_scan.errors import SettingError
from adaptive_scan.scans import PRESETS, ScanGeometry


@dataclass(frozen=True)
class CropSettings:
    """Where crops come from."""

    downsample: int = 1
    """Side of the blocks that are averaged into one pixel, so that a crop covers more of a micrograph."""
    train_on: Literal["micrographs", "procedural", "both"] = "micrographs"
    """What is trained on where micrographs are given: they, or procedural crops, so that they are only tested on, or
    as many of the one as of the other."""
    n_procedural: int = 20_000
    """Procedural crops to train on where there are no micrographs."""
    families: tuple[str, ...] = ()
    """Families of procedural crops, equally likely; without any, those of the default mixture."""
    imaging: Literal["default", "realistic"] = "default"
    """What the microscope adds to procedural crops: mild noise, or noise, blur and contrast as in real micrographs."""
    test_fraction: float = 0.2
    """Share of the groups of micrographs that is held out, where no test folder says which."""
    test_crops_per_micrograph: int = 8
    """Crops of each held-out micrograph in the comparison, at most."""
    n_procedural_test: int = 256
    """Procedural crops in the comparison where there are no micrographs."""

    def __post_init__(self) -> None:
        check_positive(self, "downsample", "n_procedural", "test_crops_per_micrograph", "n_procedural_test")
        if not 0 < self.test_fraction < 1:
            raise SettingError(f"test_fraction: got {self.test_fraction}; expected between 0 and 1")
        if self.families:
            from adaptive_scan.specimens import FAMILIES, SPECIMEN_FAMILIES  # which help need not load

            check_names("families", self.families, (*FAMILIES, *SPECIMEN_FAMILIES))


@dataclass(frozen=True)
class DataSettings(CropSettings):
    """Where crops come from, and what of them is learned."""

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
    net_arch: tuple[int, ...] = (64,)
    """Hidden units of actor and critic between memory and output."""
    start_from_path: bool = True
    """Whether the actor's output is a correction to the static filling path, zero at first; else it is free."""
    reward: Literal["absolute", "relative", "log-ratio"] = "log-ratio"
    """What the critic learns: the loss, the loss less that of the filling path, or the log of their ratio."""
    complete: Literal["replayed", "newest"] = "replayed"
    """Scans that are completed in each iteration: replayed ones, as in the paper, or the newest."""
    n_remembered_updates: int = 0
    """Further updates of actor and critic in each iteration, on replayed scans with the scores they had."""
    remembered_batch_size: int = 128
    """Scans in each of these."""
    n_trial_crops: int = 256
    """Training crops on which actors are tried; the best actor so far is the one that is saved."""
    try_every: int = 1_000
    """Iterations between trials."""
    actor_learning_rate: float = 5e-4
    """Learning rate of the actor."""
    critic_learning_rate: float = 1e-3
    """Learning rate of the critic."""
    optimizer: Literal["adam", "adamw", "rmsprop"] = "rmsprop"
    """Optimiser of actor and critic."""
    weight_decay: float = 0.0
    """Weight decay of actor and critic."""
    gamma: float = 0.97
    """Discount per segment."""
    n_target_steps: int = 1
    """Rewards summed before bootstrapping; 0 sums those of the whole scan (Monte Carlo)."""
    first_tau: float = 0.003
    """Share of the critic that goes into its target at the first update."""
    tau: float = 0.003
    """The same after a tenth of training, reached linearly."""
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
    spacing_noise_sigma: float = 0.05
    """The same for a free spacing, of which 1 is the way from the reference to a bound."""
    noise_theta: float = 0.1
    """Rate at which Ornstein-Uhlenbeck noise returns to zero."""
    final_noise_scale: float = 0.1
    """Factor on the noise at the end of training, reached linearly."""
    edge_penalty: float = 0.05
    """Penalty for each segment that ends outside the field, in units of the reward: a share of the mean loss, or with
    log-ratio an addition to the log of the ratio."""

    def __post_init__(self) -> None:
        check_positive(self, "hidden_size", "n_layers", "n_environments", "batch_size")
        check_positive(self, "buffer_scans", "updates_per_batch", "remembered_batch_size", "n_trial_crops", "try_every")
        check_not_negative(self, "n_remembered_updates", "n_target_steps", "spacing_noise_sigma", "weight_decay")
        check_not_negative(self, "actor_learning_rate", "critic_learning_rate", "actor_learning_starts")
        check_not_negative(self, "noise_sigma", "noise_theta", "final_noise_scale", "edge_penalty")
        check_share(self, "gamma", "first_tau", "tau")
        if self.complete == "newest" and self.batch_size < self.n_environments:
            raise SettingError(
                f"batch_size: got {self.batch_size} with complete 'newest'; expected at least n_environments,"
                f" {self.n_environments}, or some scans would never be completed"
            )
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise SettingError(f"max_grad_norm: got {self.max_grad_norm}; expected more than 0, or None")


@dataclass(frozen=True)
class GeneratorSettings:
    """The generator that completes the scans."""

    kind: Literal["unet", "mask_aware", "residual"] = "unet"
    """Network: the small U-Net, the same from the blurred infill on, or the residual one of the adaptive-scan paper."""
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
    static_scans: tuple[str, ...] = ("filling_path", "spiral", "wide_spiral", "raster", "grid", "random")
    """Static scan families that it also learns to complete."""
    n_static: int = 16
    """Static scans in each batch, beside the replayed ones."""

    def __post_init__(self) -> None:
        check_positive(self, "n_channels", "n_levels")
        check_not_negative(self, "learning_rate", "final_learning_rate", "weight_decay", "n_static")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(SeedOptions, RunOptions):
    """Everything that decides a training run."""

    COMMAND: ClassVar[str] = "train"
    BASIC: ClassVar[tuple[str, ...]] = (
        *("preset", "micrographs", "groups", "skip_bad", "out", "resume", "seed", "device", "n_threads", "iterations"),
        *("acquisition", "data.downsample"),
    )

    preset: Literal["quick", "ede96"] = "quick"
    """Where all other settings start: quick takes minutes on two cores, ede96 is the paper's setting."""
    iterations: int = 1_000_000
    """Iterations: each makes n_environments new scans and one update."""
    geometry: ScanGeometry = field(default_factory=ScanGeometry)
    """The scan: field, segments, positions, spacing."""
    data: DataSettings = field(default_factory=DataSettings)
    """Where crops come from."""
    agent: AgentSettings = field(default_factory=AgentSettings)
    """The actor and the critic."""
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    """The generator that completes the scans."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "iterations")
        if self.geometry.n_segments < 2:
            raise SettingError(f"geometry.n_segments: got {self.geometry.n_segments}; expected at least 2")


def _quick() -> TrainingConfig:
    return TrainingConfig(
        preset="quick",
        n_threads=1,
        iterations=800,
        checkpoint_every=100,
        log_every=10,
        picture_every=200,
        geometry=PRESETS["wide48"],
        data=DataSettings(downsample=2, n_procedural=4_096, n_procedural_test=128, test_crops_per_micrograph=6),
        agent=AgentSettings(
            hidden_size=64,
            n_layers=1,
            net_arch=(64,),
            complete="newest",
            n_remembered_updates=2,
            n_trial_crops=192,
            try_every=50,
            n_target_steps=0,
            optimizer="adam",
            actor_learning_rate=5e-5,
            critic_learning_rate=2e-3,
            actor_learning_starts=600,
            buffer_scans=30_000,
            noise_sigma=0.05,
            final_noise_scale=0.5,
        ),
        generator=GeneratorSettings(n_channels=24, n_levels=2, learning_rate=2e-3),
    )


def _ede96() -> TrainingConfig:
    """The setting of the adaptive-scan paper (J. M. Ede, MLST 2 (2021) 045011).

    Three things depart from it. Actor and critic have a hidden layer between memory and output, and the action enters
    the critic there: a critic linear in the action would have its best action always at a bound. The exploration noise
    falls to a tenth, and the generator's learning rate falls along half a cosine, between the values that the paper's
    code went through.
    """
    return TrainingConfig(
        preset="ede96",
        iterations=1_000_000,
        geometry=PRESETS["ede96"],
        data=DataSettings(downsample=1, blur=True),
        agent=AgentSettings(
            memory="lstm",
            hidden_size=256,
            n_layers=2,
            observe_image=False,
            net_arch=(64,),
            start_from_path=False,
            reward="absolute",
            complete="replayed",
            n_remembered_updates=0,
            actor_learning_rate=5e-4,
            critic_learning_rate=1e-3,
            optimizer="rmsprop",
            weight_decay=1e-5,
            gamma=0.97,
            n_target_steps=1,
            first_tau=0.033,
            tau=0.003,
            max_grad_norm=None,
            updates_per_batch=1,
            n_environments=32,
            batch_size=32,
            buffer_scans=100_000,
            actor_learning_starts=0,
            noise="ornstein-uhlenbeck",
            noise_sigma=0.2,
            noise_theta=0.1,
            edge_penalty=0.05,
        ),
        generator=GeneratorSettings(
            kind="residual", learning_rate=6e-4, final_learning_rate=1.4e-4, weight_decay=1e-5, n_static=0
        ),
    )


def preset_config(name: str) -> TrainingConfig:
    """Settings of a preset.

    Raises:
        ValueError: If there is no preset of that name.

    Example:
        >>> preset_config("ede96").geometry.n_positions_total
        400
    """
    presets = {"quick": _quick, "ede96": _ede96}
    if name not in presets:
        raise SettingError(f"preset: got {name!r}; expected one of {', '.join(presets)}")
    return presets[name]()


def parse_training(arguments: list[str], prog: str = "adaptive-scan train") -> TrainingConfig:
    """Settings of ``train``: those of the preset, or of the run to resume, and what is given beside.

    Raises:
        SettingError: If an option or a value is none, or settings of a resumed run are given anew.

    Example:
        >>> parse_training(["--preset", "ede96", "--iterations", "5"]).iterations
        5
    """
    description = "Train an actor that steers the probe and a generator that completes what it measured; compare scans."
    return parse_resumable(TrainingConfig, preset_config, arguments, prog, description)
