"""The agents: recurrent TD3 and RDPG with each memory, and with a memory that forgets at every step."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor

from adaptive_scan.agents import (
    MEMORIES,
    RDPG,
    GaussianNoise,
    Memory,
    RecurrentTD3,
    make_memory,
)
from adaptive_scan.agents.memory import MemoryState
from pomdp.tasks import Task

ALGORITHMS: dict[str, type[RecurrentTD3]] = {"rdpg": RDPG, "td3": RecurrentTD3}
AlgorithmName = Literal["rdpg", "td3"]


class Forgetful(Memory):
    """Another memory whose state is put back to the initial one at every step.

    It has the same weights and sees the same (observation, previous action), so that what it does worse it does worse
    for want of a memory.

    Args:
        input_size: Features per step.
        of: Name of the memory that forgets.
        settings: Settings of that memory.
    """

    def __init__(self, input_size: int, *, of: str, **settings: Any) -> None:
        super().__init__()
        self.memory = make_memory(of, input_size, **settings)
        self.input_size, self.output_size = input_size, self.memory.output_size

    def initial_state(self, n_sequences: int) -> MemoryState:
        """State of the memory before its first step; nothing reads it."""
        return self.memory.initial_state(n_sequences)

    def forward(self, inputs: Tensor, state: MemoryState | None = None) -> tuple[Tensor, MemoryState]:
        """Outputs (n_sequences, n_steps, output_size), each step on its own."""
        n_sequences, n_steps = inputs.shape[:2]
        outputs, _ = self.memory(inputs.flatten(0, 1)[:, None])
        return outputs.reshape(n_sequences, n_steps, -1), self.initial_state(n_sequences)


MEMORIES["forgetful"] = Forgetful


def make_agent(
    task: Task, algorithm: AlgorithmName, memory: str, *, forgets: bool, seed: int, device: str
) -> RecurrentTD3:
    """An untrained agent in fresh environments of a task."""

    def make_env() -> gym.Env:
        return gym.wrappers.TransformReward(task.make_env(), lambda reward: task.reward_scale * float(reward))

    name, memory_kwargs = memory, dict(task.memories[memory])
    if forgets:
        memory, memory_kwargs = "forgetful", {"of": name, **memory_kwargs}
    # The first policy does nothing, and explores from there.
    heads = {"net_arch": list(task.net_arch), "zero_initial_action": True}
    return ALGORITHMS[algorithm](
        "MlpMemoryPolicy",
        make_vec_env(make_env, task.n_envs, seed=seed),
        action_noise=GaussianNoise(task.n_envs, np.array([task.noise]), seed=seed),
        policy_kwargs={"memory": memory, "memory_kwargs": memory_kwargs, **heads},
        seed=seed,
        device=device,
        **task.settings_of(algorithm, name),
    )
