"""The agent of a run, with its environment and its generator, from the settings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from adaptive_scan.agents import CoTraining, GaussianNoise, OrnsteinUhlenbeckNoise, ScanRDPG
from adaptive_scan.commands.contenders import environment_settings
from adaptive_scan.commands.networks import make_device, make_network
from adaptive_scan.commands.options import check_names
from adaptive_scan.commands.settings import AgentSettings, TrainingConfig
from adaptive_scan.envs import PartialScanVecEnv, ScanBatch
from adaptive_scan.generators import known_families
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import filling_path


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
        SettingError: If settings do not go together.
    """
    check_names("generator.static_scans", config.generator.static_scans, known_families())
    agent, generator = config.agent, config.generator
    device = make_device(config.device)
    sizes = {"n_channels": generator.n_channels, "n_levels": generator.n_levels}
    scans: dict[str, Any] = {"completer": None, "acquisition": config.acquisition, **environment_settings(config)}
    environment = PartialScanVecEnv(agent.n_environments, crops, edge_penalty=agent.edge_penalty, **scans)
    network = make_network(generator.kind, config, blurred=config.data.blur, **sizes).to(device)
    headings, spacings = filling_path(config.geometry)
    return ScanRDPG(
        "MultiInputMemoryPolicy",
        environment,
        generator=network,
        generator_optimizer=torch.optim.AdamW(
            network.parameters(), lr=generator.learning_rate, weight_decay=generator.weight_decay
        ),
        generator_learning_rate=cosine_schedule(generator.learning_rate, generator.final_learning_rate),
        reference_headings=headings,
        reference_spacings=spacings,
        trial=ScanBatch(agent.n_trial_crops, crops, rng=np.random.default_rng(0), **scans),
        co_training=_co_training(config),
        action_noise=_make_noise(config, environment.action_space.shape or (1,)),
        seed=config.seed,
        device=device,
        **_learning_settings(agent, config.geometry.n_segments - 1),
    )


def _co_training(config: TrainingConfig) -> CoTraining:
    """How the generator learns beside the agent."""
    agent, generator = config.agent, config.generator
    return CoTraining(
        static_scans=generator.static_scans,
        n_static=generator.n_static,
        reward=agent.reward,
        complete=agent.complete,
        n_remembered_updates=agent.n_remembered_updates,
        remembered_batch_size=agent.remembered_batch_size,
        blur=config.data.blur,
    )


def _learning_settings(agent: AgentSettings, n_actions: int) -> dict[str, Any]:
    """How the agent learns, in the words of `ScanRDPG`."""
    return {
        "learning_rate": agent.actor_learning_rate,
        "critic_learning_rate": agent.critic_learning_rate,
        "buffer_size": agent.buffer_scans * n_actions,
        # Nothing is random before the first update: the actor starts at a scan worth starting from.
        "learning_starts": 0,
        "batch_size": agent.batch_size,
        "tau": agent.tau if agent.first_tau == agent.tau else falling_tau(agent.first_tau, agent.tau),
        "gamma": agent.gamma,
        "n_target_steps": agent.n_target_steps or n_actions,
        "train_freq": n_actions,
        "gradient_steps": 1,
        "updates_per_batch": agent.updates_per_batch,
        "actor_learning_starts": agent.actor_learning_starts,
        "max_grad_norm": agent.max_grad_norm,
        "policy_kwargs": {
            "memory": agent.memory,
            "memory_kwargs": {"hidden_size": agent.hidden_size, "n_layers": agent.n_layers},
            "optimizer": agent.optimizer,
            "optimizer_kwargs": {"weight_decay": agent.weight_decay},
            "net_arch": list(agent.net_arch),
            "zero_initial_action": agent.start_from_path,
        },
    }


def _make_noise(config: TrainingConfig, shape: tuple[int, ...]) -> Any:
    agent = config.agent
    sigma = np.full(shape, agent.noise_sigma / math.pi)  # an action of 1 turns by pi
    if config.geometry.has_free_spacing:
        sigma[-1] = agent.spacing_noise_sigma
    settings: dict[str, Any] = {"final_scale": agent.final_noise_scale, "seed": config.seed + 1}
    if agent.noise == "gaussian":
        return GaussianNoise(agent.n_environments, sigma, **settings)
    return OrnsteinUhlenbeckNoise(agent.n_environments, sigma, theta=agent.noise_theta, **settings)
