"""From settings to the things they describe: crops, scans, networks and the agent."""

from __future__ import annotations

import hashlib
import inspect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from adaptive_scan.agents import RDPG, CoTraining, GaussianNoise, OrnsteinUhlenbeckNoise, ScanRDPG
from adaptive_scan.commands.errors import InputError, refusals_as_input_errors
from adaptive_scan.commands.settings import CropSettings, TrainingConfig
from adaptive_scan.envs import PartialScanVecEnv, ScanBatch
from adaptive_scan.evaluation import Contender, static_contenders
from adaptive_scan.generators import GENERATORS, known_families, make_generator
from adaptive_scan.generators.families import family_positions
from adaptive_scan.micrographs import (
    ArrayCrops,
    CropSource,
    MicrographCrops,
    MicrographDataset,
    MicrographError,
    MixedCrops,
    fingerprint,
    split_groups,
)
from adaptive_scan.micrographs.dataset import DEFAULT_CACHE_BYTES
from adaptive_scan.scans import STATIC_SCANS, ScanGeometry, filling_path
from adaptive_scan.specimens import procedural_crops
from adaptive_scan.specimens.imaging import IMAGINGS

_TRAIN, _TEST = 0, 1  # streams of random numbers of procedural crops


class DataConfig(Protocol):
    """The settings that decide the crops of a run, of whatever kind it is."""

    @property
    def micrographs(self) -> Path | None:
        """File or folder of micrographs; None for procedural ones."""

    @property
    def groups(self) -> Path | None:
        """CSV of the groups of micrographs."""

    @property
    def skip_bad(self) -> bool:
        """Whether bad files are skipped."""

    @property
    def seed(self) -> int:
        """Seed of the split and of procedural crops."""

    @property
    def geometry(self) -> ScanGeometry:
        """The scan, whose field is a crop."""

    @property
    def data(self) -> CropSettings:
        """How crops are cut or made."""


@dataclass(frozen=True)
class TestCrops:
    """Crops that no training saw, and where they come from.

    Attributes:
        crops: Shape (n_crops, S, S), in [-1, 1].
        micrographs: Name of each crop's micrograph.
        groups: Group of each crop's micrograph: what the bootstrap draws.
        corners: Row and column of each crop in its micrograph, or None for procedural crops.
    """

    crops: np.ndarray
    micrographs: list[str]
    groups: list[str]
    corners: np.ndarray | None


@dataclass(frozen=True)
class Data:
    """Crops of a run.

    Attributes:
        train: Source of crops to train on.
        test: Crops to compare scans on.
        description: Names, numbers and hashes, for the manifest.
        skipped: What was wrong with each file that was skipped; grows when more are found in training.
    """

    train: CropSource
    test: TestCrops
    description: dict[str, Any]
    skipped: list[MicrographError]


def load_data(config: DataConfig) -> Data:
    """Crops to train and to test on, split by group of micrographs.

    Raises:
        MicrographError: If a file cannot be used and bad files are not skipped, or nothing is left.
        InputError: If the micrographs cannot be split.
    """
    return _procedural_data(config) if config.micrographs is None else _micrograph_data(config, config.micrographs)


def _procedural_data(config: DataConfig) -> Data:
    train, trained_on = procedural_training_crops(config)
    test = procedural_test_crops(config)
    description = {
        "micrographs": None,
        **trained_on,
        "n_test_crops": len(test.crops),
        "test_sha256": hashlib.sha256(test.crops.tobytes()).hexdigest(),
    }
    return Data(train, test, description, [])


def procedural_training_crops(config: DataConfig) -> tuple[CropSource, dict[str, Any]]:
    """Procedural crops to train on, those of the seed of the run, and what the manifest says of them."""
    rng = np.random.default_rng([config.seed, _TRAIN])
    crops, _ = _draw_procedural(config, config.data.n_procedural, rng)
    described = {"n_train_crops": len(crops), "train_sha256": hashlib.sha256(crops.tobytes()).hexdigest()}
    return ArrayCrops(crops, symmetries=True), described


def _draw_procedural(config: DataConfig, n_crops: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    settings, size = config.data, config.geometry.image_size
    families, imaging = settings.families or None, IMAGINGS[settings.imaging]
    return procedural_crops(n_crops, size, rng, families=families, imaging=imaging)


def procedural_test_crops(config: DataConfig) -> TestCrops:
    """Procedural crops to compare scans on, the same ones whatever the seed of the run."""
    rng = np.random.default_rng([2**32 - 1, _TEST])
    crops, families = _draw_procedural(config, config.data.n_procedural_test, rng)
    names = [f"{family}_{i:04d}" for i, family in enumerate(families)]
    return TestCrops(crops, names, names, None)


def open_micrographs(
    path: Path, config: DataConfig, *, skip_bad: bool, groups: Path | None = None
) -> MicrographDataset:
    """Micrographs large enough for a crop under these settings.

    Raises:
        MicrographError: As :class:`~adaptive_scan.micrographs.MicrographDataset` does; if all pictures fit into memory,
            also for damage inside one of them.
    """
    side = config.geometry.image_size * config.data.downsample
    dataset = MicrographDataset(path, crop_size=side, skip_bad=skip_bad, groups=groups)
    if not skip_bad and 4 * dataset.shapes.prod(axis=1).sum() <= DEFAULT_CACHE_BYTES:
        for number in range(len(dataset)):
            # Better now than in the middle of training; they are decoded once and kept either way.
            dataset.window(number, 0, 0, side)
    return dataset


def split_micrographs(dataset: MicrographDataset, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the micrographs to train and to test on: by folder where folders say so, else by group at random.

    Folders say so where there is ``train`` beside ``test`` or, without that, beside ``validation``.

    Raises:
        InputError: If all micrographs are of one group.
    """
    folders = dataset.predefined_splits or {}
    held_out = folders.get("test", folders.get("validation"))
    if "train" in folders and held_out is not None:
        return folders["train"], held_out
    if len(set(dataset.groups)) < 2:
        what = "one micrograph" if len(dataset) == 1 else f"{len(dataset)} micrographs of one group"
        raise InputError(
            f"{dataset.root}: got {what}; expected at least two groups, one of them to hold out"
            " (add a micrograph of another area, or cut this one into two files)"
        )
    fraction = config.data.test_fraction
    train, test = split_groups(dataset.groups, (1.0 - fraction, fraction), seed=config.seed)
    return train, test


def test_crops(dataset: MicrographDataset, config: DataConfig) -> TestCrops:
    """Crops of each micrograph, without overlap, at fixed places."""
    source = MicrographCrops(dataset, config.geometry.image_size, downsample=config.data.downsample, symmetries=False)
    ids = source.tiles(max_per_micrograph=config.data.test_crops_per_micrograph)
    return TestCrops(
        source.take(ids),
        [dataset.names[i] for i in ids[:, 0]],
        [dataset.groups[i] for i in ids[:, 0]],
        ids[:, 1:3],
    )


def micrograph_hashes(dataset: MicrographDataset) -> list[str]:
    """A hash of each micrograph's content, shape and page, by which a run knows again what it trained on.

    Names do not count: a copy that was renamed or moved is known as well.
    """
    return [fingerprint(dataset.subset([i]), with_names=False) for i in range(len(dataset))]


def named_groups(dataset: MicrographDataset) -> set[str]:
    """Groups that a table names, which mean the same thing in another folder.

    A micrograph that no table names is a group of its own and bears its file's name, as pictures of other specimens in
    other folders may as well.
    """
    return {group for name, group in zip(dataset.names, dataset.groups, strict=True) if group != name}


def _micrograph_data(config: DataConfig, path: Path) -> Data:
    dataset = open_micrographs(path, config, skip_bad=config.skip_bad, groups=config.groups)
    train, test = split_micrographs(dataset, config)
    description = {
        "micrographs": str(path),
        "fingerprint": fingerprint(dataset),
        "test": [dataset.names[i] for i in test],
        "skipped": [str(error) for error in dataset.skipped],
    }
    held_out = test_crops(dataset.subset(test), config)
    if config.data.train_on == "procedural":
        procedural, trained_on = procedural_training_crops(config)
        return Data(procedural, held_out, {**description, **trained_on}, dataset.skipped)
    hashes, named = micrograph_hashes(dataset), named_groups(dataset)
    description |= {
        "train": [dataset.names[i] for i in train],
        "train_hashes": [hashes[i] for i in train],
        "train_groups": sorted(named.intersection(dataset.groups[i] for i in train)),
    }
    size, factor = config.geometry.image_size, config.data.downsample
    source: CropSource = MicrographCrops(dataset.subset(train), size, downsample=factor, symmetries=True)
    if config.data.train_on == "both":
        procedural, trained_on = procedural_training_crops(config)
        source, description = MixedCrops([source, procedural]), {**description, **trained_on}
    return Data(source, held_out, description, dataset.skipped)


def report_skipped(skipped: list[MicrographError]) -> None:
    """Say which files were left out, and why."""
    for error in skipped:
        print(f"skipped: {error}")


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


def make_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one.

    Raises:
        InputError: If CUDA is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: got 'cuda', and PyTorch finds no CUDA device; expected 'cpu' or 'auto'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def use_threads(n_threads: int) -> None:
    """Let PyTorch use so many threads on the CPU; 0 leaves it its own choice."""
    if n_threads:
        torch.set_num_threads(n_threads)


def make_network(kind: str, config: DataConfig, *, blurred: bool, **sizes: float) -> nn.Module:
    """The generator before training.

    Args:
        kind: A name of `adaptive_scan.generators.GENERATORS`.
        config: Settings with the side of the crops and the seed.
        blurred: Whether targets are blurred, for networks that must know.
        sizes: Constructor keywords of networks, such as the U-Net's ``n_channels`` and ``n_levels``; a network takes
            those that it knows.

    Raises:
        InputError: If crops of this size cannot go through it.
    """
    known = inspect.signature(GENERATORS[kind]).parameters if kind in GENERATORS else {}
    settings = {"blurred": blurred, **sizes}
    with refusals_as_input_errors():
        network = make_generator(kind, seed=config.seed, **{name: settings[name] for name in settings if name in known})
    stride, size = getattr(network, "stride", 1), config.geometry.image_size
    if size % stride:
        raise InputError(f"geometry.image_size: got {size} px; expected a multiple of {stride} for this generator")
    return network


def cosine_schedule(first: float, last: float) -> Any:
    """Learning rate over the remaining progress, from ``first`` at 1 to ``last`` at 0 along half a cosine.

    Example:
        >>> round(cosine_schedule(1.0, 0.0)(0.5), 6)
        0.5
    """

    def rate(progress_remaining: float) -> float:
        return last + (first - last) * 0.5 * (1.0 - math.cos(math.pi * progress_remaining))

    return rate


def falling_tau(first: float, last: float) -> Any:
    """Share of the target critic over the remaining progress: from ``first`` to ``last`` in a tenth of training.

    Example:
        >>> [round(falling_tau(0.033, 0.003)(progress), 6) for progress in (1.0, 0.95, 0.9, 0.0)]
        [0.033, 0.018, 0.003, 0.003]
    """

    def tau(progress_remaining: float) -> float:
        return last + (first - last) * max(1.0 - 10.0 * (1.0 - progress_remaining), 0.0)

    return tau


def make_agent(config: TrainingConfig, crops: CropSource) -> ScanRDPG:
    """The agent, its environment and its generator, ready to learn.

    Raises:
        InputError: If settings do not go together.
    """
    unknown = sorted(set(config.generator.static_scans) - set(known_families()))
    if unknown:
        expected = ", ".join(known_families())
        raise InputError(f"generator.static_scans: got {unknown[0]!r}; expected some of {expected}")
    with refusals_as_input_errors():
        return _make_agent(config, crops)


def _make_agent(config: TrainingConfig, crops: CropSource) -> ScanRDPG:
    agent, generator = config.agent, config.generator
    device = make_device(config.device)
    environment = PartialScanVecEnv(
        agent.n_environments,
        crops,
        completer=None,
        edge_penalty=agent.edge_penalty,
        acquisition=config.acquisition,
        **environment_settings(config),
    )
    sizes = {"n_channels": generator.n_channels, "n_levels": generator.n_levels}
    network = make_network(generator.kind, config, blurred=config.data.blur, **sizes)
    network.to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=generator.learning_rate, weight_decay=generator.weight_decay)
    n_actions = config.geometry.n_segments - 1
    headings, spacings = filling_path(config.geometry)
    return ScanRDPG(
        "MultiInputMemoryPolicy",
        environment,
        generator=network,
        generator_optimizer=optimizer,
        generator_learning_rate=cosine_schedule(generator.learning_rate, generator.final_learning_rate),
        reference_headings=headings,
        reference_spacings=spacings,
        trial=ScanBatch(
            agent.n_trial_crops,
            crops,
            rng=np.random.default_rng(0),
            completer=None,
            acquisition=config.acquisition,
            **environment_settings(config),
        ),
        co_training=CoTraining(
            static_scans=generator.static_scans,
            n_static=generator.n_static,
            reward=agent.reward,
            complete=agent.complete,
            n_remembered_updates=agent.n_remembered_updates,
            remembered_batch_size=agent.remembered_batch_size,
            blur=config.data.blur,
        ),
        learning_rate=agent.actor_learning_rate,
        critic_learning_rate=agent.critic_learning_rate,
        buffer_size=agent.buffer_scans * n_actions,
        # Nothing is random before the first update: the actor starts at a scan worth starting from.
        learning_starts=0,
        batch_size=agent.batch_size,
        tau=agent.tau if agent.first_tau == agent.tau else falling_tau(agent.first_tau, agent.tau),
        gamma=agent.gamma,
        n_target_steps=agent.n_target_steps or n_actions,
        train_freq=n_actions,
        gradient_steps=1,
        updates_per_batch=agent.updates_per_batch,
        actor_learning_starts=agent.actor_learning_starts,
        max_grad_norm=agent.max_grad_norm,
        action_noise=_make_noise(config, environment.action_space.shape or (1,)),
        policy_kwargs={
            "memory": agent.memory,
            "memory_kwargs": {"hidden_size": agent.hidden_size, "n_layers": agent.n_layers},
            "optimizer": agent.optimizer,
            "optimizer_kwargs": {"weight_decay": agent.weight_decay},
            "net_arch": list(agent.net_arch),
            "zero_initial_action": agent.start_from_path,
        },
        seed=config.seed,
        device=device,
    )


def _make_noise(config: TrainingConfig, shape: tuple[int, ...]) -> Any:
    agent = config.agent
    sigma = np.full(shape, agent.noise_sigma / math.pi)  # an action of 1 turns by pi
    if config.geometry.has_free_spacing:
        sigma[-1] = agent.spacing_noise_sigma
    settings: dict[str, Any] = {"final_scale": agent.final_noise_scale, "seed": config.seed + 1}
    if agent.noise == "gaussian":
        return GaussianNoise(agent.n_environments, sigma, **settings)
    return OrnsteinUhlenbeckNoise(agent.n_environments, sigma, theta=agent.noise_theta, **settings)


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
        return family_positions(name, geometry, 1, rng)[0]

    return Contender(name, path=path, random=name == "random_headings")
