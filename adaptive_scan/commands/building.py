"""From settings to the things they describe: crops, scans, networks and the agent."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from adaptive_scan.agents import RDPG, CoTraining, GaussianNoise, OrnsteinUhlenbeckNoise, ScanRDPG
from adaptive_scan.commands.config import TrainingConfig
from adaptive_scan.envs import PartialScanVecEnv
from adaptive_scan.evaluation import Contender
from adaptive_scan.generators import make_generator
from adaptive_scan.micrographs import (
    ArrayCrops,
    CropSource,
    MicrographCrops,
    MicrographDataset,
    MicrographError,
    fingerprint,
    split_groups,
)
from adaptive_scan.scans import polygonal_spiral
from adaptive_scan.specimens import procedural_crops

_TRAIN, _TEST = 0, 1  # streams of random numbers of procedural crops


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
        skipped: What was wrong with each file that was skipped.
    """

    train: CropSource
    test: TestCrops
    description: dict[str, Any]
    skipped: list[MicrographError]


def load_data(config: TrainingConfig) -> Data:
    """Crops to train and to test on, split by group of micrographs.

    Raises:
        MicrographError: If a file cannot be used and bad files are not skipped, or nothing is left.
        ValueError: If the micrographs cannot be split.
    """
    return _procedural_data(config) if config.micrographs is None else _micrograph_data(config, config.micrographs)


def _procedural_data(config: TrainingConfig) -> Data:
    size, settings = config.geometry.image_size, config.data
    train, _ = procedural_crops(settings.n_procedural, size, np.random.default_rng([config.seed, _TRAIN]))
    # The test crops are the same whatever the seed of the run: runs are compared on the same pictures.
    test, families = procedural_crops(settings.n_procedural_test, size, np.random.default_rng([2**32 - 1, _TEST]))
    names = [f"{family}_{i:04d}" for i, family in enumerate(families)]
    description = {
        "micrographs": None,
        "n_train_crops": len(train),
        "n_test_crops": len(test),
        "train_sha256": hashlib.sha256(train.tobytes()).hexdigest(),
        "test_sha256": hashlib.sha256(test.tobytes()).hexdigest(),
    }
    return Data(ArrayCrops(train, symmetries=True), TestCrops(test, names, names, None), description, [])


def open_micrographs(
    path: Path, config: TrainingConfig, *, skip_bad: bool, groups: Path | None = None
) -> MicrographDataset:
    """Micrographs large enough for a crop under these settings.

    Raises:
        MicrographError: As :class:`~adaptive_scan.micrographs.MicrographDataset` does.
    """
    side = config.geometry.image_size * config.data.downsample
    return MicrographDataset(path, crop_size=side, skip_bad=skip_bad, groups=groups)


def split_micrographs(dataset: MicrographDataset, config: TrainingConfig) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the micrographs to train and to test on: by folder where folders say so, else by group at random.

    Raises:
        ValueError: If there are too few groups.
    """
    folders = dataset.predefined_splits
    if folders is not None and len(folders.get("train", ())) and len(folders.get("test", ())):
        return np.asarray(folders["train"]), np.asarray(folders["test"])
    fraction = config.data.test_fraction
    train, test = split_groups(dataset.groups, (1.0 - fraction, fraction), seed=config.seed)
    return train, test


def test_crops(dataset: MicrographDataset, config: TrainingConfig) -> TestCrops:
    """Crops of each micrograph, without overlap, at fixed places."""
    source = MicrographCrops(dataset, config.geometry.image_size, downsample=config.data.downsample, symmetries=False)
    ids = source.tiles(max_per_micrograph=config.data.test_crops_per_micrograph)
    return TestCrops(
        source.take(ids),
        [dataset.names[i] for i in ids[:, 0]],
        [dataset.groups[i] for i in ids[:, 0]],
        ids[:, 1:3],
    )


def _micrograph_data(config: TrainingConfig, path: Path) -> Data:
    dataset = open_micrographs(path, config, skip_bad=config.skip_bad, groups=config.groups)
    train, test = split_micrographs(dataset, config)
    size, factor = config.geometry.image_size, config.data.downsample
    description = {
        "micrographs": str(path),
        "fingerprint": fingerprint(dataset),
        "train": [dataset.names[i] for i in train],
        "test": [dataset.names[i] for i in test],
        "skipped": [str(error) for error in dataset.skipped],
    }
    source = MicrographCrops(dataset.subset(train), size, downsample=factor, symmetries=True)
    return Data(source, test_crops(dataset.subset(test), config), description, list(dataset.skipped))


def spiral_headings(config: TrainingConfig) -> np.ndarray:
    """Headings of the polygonal spiral under these settings, shape (n_segments,)."""
    return polygonal_spiral(config.geometry)


def environment_settings(config: TrainingConfig) -> dict[str, Any]:
    """Settings of the environment that the agent acts in, for training and for comparison alike."""
    settings: dict[str, Any] = {
        "geometry": config.geometry,
        "action_kind": "angle",
        "observe_image": config.agent.observe_image,
    }
    if config.agent.start_from_spiral:
        settings["reference_headings"] = spiral_headings(config)
    return settings


def make_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one.

    Raises:
        ValueError: If CUDA is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: got 'cuda', and PyTorch finds no CUDA device; expected 'cpu' or 'auto'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def make_network(config: TrainingConfig) -> nn.Module:
    """The generator before training."""
    settings = config.generator
    sizes = {"n_channels": settings.n_channels, "n_levels": settings.n_levels} if settings.kind == "unet" else {}
    return make_generator(settings.kind, seed=config.seed, **sizes)


def cosine_schedule(first: float, last: float) -> Any:
    """Learning rate over the remaining progress, from ``first`` at 1 to ``last`` at 0 along half a cosine.

    Example:
        >>> round(cosine_schedule(1.0, 0.0)(0.5), 6)
        0.5
    """

    def rate(progress_remaining: float) -> float:
        return last + (first - last) * 0.5 * (1.0 - math.cos(math.pi * progress_remaining))

    return rate


def make_agent(config: TrainingConfig, crops: CropSource) -> ScanRDPG:
    """The agent, its environment and its generator, ready to learn."""
    agent, generator = config.agent, config.generator
    device = make_device(config.device)
    environment = PartialScanVecEnv(
        agent.n_environments,
        crops,
        completer=None,
        edge_penalty=agent.edge_penalty,
        **environment_settings(config),
    )
    network = make_network(config).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=generator.learning_rate, weight_decay=generator.weight_decay)
    n_actions = config.geometry.n_segments - 1
    return ScanRDPG(
        "MultiInputMemoryPolicy",
        environment,
        generator=network,
        generator_optimizer=optimizer,
        generator_learning_rate=cosine_schedule(generator.learning_rate, generator.final_learning_rate),
        reference_headings=spiral_headings(config),
        co_training=CoTraining(
            static_scans=generator.static_scans,
            n_static=generator.n_static,
            relative_reward=agent.relative_reward,
            blur=config.data.blur,
        ),
        learning_rate=agent.actor_learning_rate,
        critic_learning_rate=agent.critic_learning_rate,
        buffer_size=agent.buffer_scans * n_actions,
        # Nothing is random before the first update: the actor starts at a scan worth starting from.
        learning_starts=0,
        batch_size=agent.batch_size,
        tau=agent.tau,
        gamma=agent.gamma,
        n_target_steps=agent.n_target_steps,
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
            "zero_initial_action": agent.start_from_spiral,
        },
        seed=config.seed,
        device=device,
    )


def _make_noise(config: TrainingConfig, shape: tuple[int, ...]) -> Any:
    agent = config.agent
    # An action of 1 turns by pi; a free spacing gets the same noise on its own scale.
    sigma = np.full(shape, agent.noise_sigma / math.pi)
    settings: dict[str, Any] = {"final_scale": agent.final_noise_scale, "seed": config.seed + 1}
    if agent.noise == "gaussian":
        return GaussianNoise(agent.n_environments, sigma, **settings)
    return OrnsteinUhlenbeckNoise(agent.n_environments, sigma, theta=agent.noise_theta, **settings)


def adaptive_contender(config: TrainingConfig, policy: RDPG) -> Contender:
    """The trained actor as it takes part in a comparison."""
    return Contender("adaptive", policy=policy, environment=environment_settings(config))


def spiral_contender(config: TrainingConfig) -> Contender:
    """The polygonal spiral that the actor started from."""
    path = config.geometry.path(spiral_headings(config)[None]).reshape(-1, 2)
    return Contender("polygonal_spiral", path=path)
