"""Replay of whole episodes.

Every episode is kept once, as its T + 1 observations, T actions and T rewards, so that a memory can be run over it from
its first observation. Fields beyond these are declared by name, shape and type and read from the last step's ``info``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer
from torch import Tensor

Observations = Tensor | dict[str, Tensor]
_BOX = ""  # the key under which observations that are no Dict are kept


@dataclass(frozen=True)
class FieldSpec:
    """Shape and type of one more array kept for each episode."""

    shape: tuple[int, ...]
    dtype: str


class EpisodeBatch(NamedTuple):
    """Episodes of one batch, padded to the longest of them.

    Attributes:
        observations: o_0 .. o_T, shape (n_episodes, n_steps + 1, ...), or a dict of such.
        previous_actions: 0, a_0 .. a_{T-1}: what the memory sees beside the observation, shape
            (n_episodes, n_steps + 1, action_size).
        actions: a_0 .. a_{T-1} on [-1, 1], shape (n_episodes, n_steps, action_size).
        rewards: r_0 .. r_{T-1}, shape (n_episodes, n_steps).
        mask: 1 where the step took place, shape (n_episodes, n_steps).
        lengths: Steps of each episode, shape (n_episodes,).
        terminated: Whether the episode ended by itself and not by a time limit, shape (n_episodes,).
        fields: The declared fields, each (n_episodes, *shape).
        indices: Where the episodes stand in the buffer, shape (n_episodes,).
    """

    observations: Observations
    previous_actions: Tensor
    actions: Tensor
    rewards: Tensor
    mask: Tensor
    lengths: Tensor
    terminated: Tensor
    fields: dict[str, Tensor]
    indices: np.ndarray


class EpisodeReplayBuffer(BaseBuffer):
    """Ring of whole episodes, filled step by step from several environments.

    Args:
        buffer_size: Capacity [steps]; it holds ``buffer_size // max_episode_steps`` episodes, at least one.
        observation_space: Space of the observations, Box or flat Dict.
        action_space: A Box.
        device: Where batches go.
        n_envs: Environments that fill it side by side.
        optimize_memory_usage: Part of Stable-Baselines3's signature; observations are stored once in any case.
        max_episode_steps: Steps of the longest episode.
        fields: Further arrays to keep for each episode, read from the ``info`` of its last step.
        seed: Seed of the sampling.

    Raises:
        ValueError: If the longest episode has no step, or an episode turns out longer than that.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        max_episode_steps: int,
        fields: Mapping[str, FieldSpec] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(buffer_size, observation_space, action_space, device, n_envs=n_envs)
        if max_episode_steps < 1:
            raise ValueError(f"max_episode_steps: got {max_episode_steps}; expected at least 1")
        self.max_episode_steps = max_episode_steps
        self.n_capacity = max(1, buffer_size // max_episode_steps)
        self.rng = np.random.default_rng(seed)
        self._is_dict = isinstance(observation_space, spaces.Dict)
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {_BOX: observation_space}
        self._steps = {key: FieldSpec(tuple(space.shape or ()), str(space.dtype)) for key, space in parts.items()}
        self._fields = dict(fields or {})
        self.episodes = self._allocate(self.n_capacity, with_fields=True)
        self._open = self._allocate(n_envs, with_fields=False)
        self._open_steps = np.zeros(n_envs, dtype=np.int64)

    def _allocate(self, n: int, *, with_fields: bool) -> dict[str, np.ndarray]:
        n_time = self.max_episode_steps
        arrays = {f"observations/{k}": np.zeros((n, n_time + 1, *s.shape), s.dtype) for k, s in self._steps.items()}
        arrays["actions"] = np.zeros((n, n_time, self.action_dim), np.float32)
        arrays["rewards"] = np.zeros((n, n_time), np.float32)
        if with_fields:
            arrays["lengths"] = np.zeros(n, np.int32)
            arrays["terminated"] = np.zeros(n, np.bool_)
            arrays |= {f"fields/{k}": np.zeros((n, *s.shape), s.dtype) for k, s in self._fields.items()}
        return arrays

    @property
    def n_episodes(self) -> int:
        """Whole episodes in the buffer."""
        return self.n_capacity if self.full else self.pos

    @property
    def nbytes(self) -> int:
        """Memory of all that the buffer has room for [bytes]."""
        return sum(a.nbytes for a in (*self.episodes.values(), *self._open.values()))

    def size(self) -> int:
        """Steps of the whole episodes in the buffer."""
        return int(self.episodes["lengths"][: self.n_episodes].sum())

    def add(
        self,
        obs: Any,
        next_obs: Any,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Take one step of every environment; where ``done``, the episode moves into the ring.

        ``next_obs`` is the true next observation, also at the end of an episode, as Stable-Baselines3 passes it.
        """
        envs, step = np.arange(self.n_envs), self._open_steps
        if step.max() >= self.max_episode_steps:
            raise ValueError(
                f"episode of environment {int(step.argmax())}: longer than max_episode_steps={self.max_episode_steps}"
            )
        before = obs if self._is_dict else {_BOX: obs}
        after = next_obs if self._is_dict else {_BOX: next_obs}
        for key, spec in self._steps.items():
            stored = self._open[f"observations/{key}"]
            starts = step == 0
            stored[starts, 0] = np.reshape(before[key], (self.n_envs, *spec.shape))[starts]
            stored[envs, step + 1] = np.reshape(after[key], (self.n_envs, *spec.shape))
        self._open["actions"][envs, step] = np.reshape(action, (self.n_envs, self.action_dim))
        self._open["rewards"][envs, step] = reward
        self._open_steps = step + 1
        for env in np.flatnonzero(done):
            self._close(int(env), infos[env])

    def _close(self, env: int, info: dict[str, Any]) -> None:
        length = int(self._open_steps[env])
        for key, values in self._open.items():
            kept = length + 1 if key.startswith("observations/") else length
            self.episodes[key][self.pos, :kept] = values[env, :kept]
            self.episodes[key][self.pos, kept:] = 0
        self.episodes["lengths"][self.pos] = length
        self.episodes["terminated"][self.pos] = not info.get("TimeLimit.truncated", False)
        for key, value in self.read_fields(info).items():
            self.episodes[f"fields/{key}"][self.pos] = value
        self._open_steps[env] = 0
        self.pos += 1
        if self.pos == self.n_capacity:
            self.full, self.pos = True, 0

    def read_fields(self, info: dict[str, Any]) -> dict[str, Any]:
        """Values of the declared fields from the ``info`` of an episode's last step."""
        return {key: info[key] for key in self._fields}

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.forget_open_episodes()

    def forget_open_episodes(self) -> None:
        """Drop the unfinished episodes, for instance because the environments were reset."""
        self._open_steps[:] = 0

    def sample(self, batch_size: int, env: Any = None) -> EpisodeBatch:
        """Episodes drawn uniformly, with replacement.

        Args:
            batch_size: Episodes to draw.
            env: The VecNormalize whose statistics apply to observations and rewards, if there is one.

        Raises:
            ValueError: If no whole episode is there yet.
        """
        if self.n_episodes == 0:
            raise ValueError("replay: no whole episode yet; expected at least one before sampling")
        return self._get_samples(self.rng.integers(self.n_episodes, size=batch_size), env)

    def newest(self, n_episodes: int) -> EpisodeBatch:
        """The last whole episodes, newest first, or as many as there are.

        Raises:
            ValueError: If no whole episode is there yet.
        """
        if self.n_episodes == 0:
            raise ValueError("replay: no whole episode yet; expected at least one before sampling")
        n_episodes = min(n_episodes, self.n_episodes)
        return self._get_samples((self.pos - 1 - np.arange(n_episodes)) % self.n_capacity)

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> EpisodeBatch:  # type: ignore[override]
        lengths = self.episodes["lengths"][batch_inds]
        n_time = int(lengths.max())

        def steps(key: str, n: int) -> np.ndarray:
            return self.episodes[key][batch_inds, :n]

        parts = {key: steps(f"observations/{key}", n_time + 1) for key in self._steps}
        seen: Any = self._normalize_obs(parts if self._is_dict else parts[_BOX], env)
        rewards = self._normalize_reward(steps("rewards", n_time), env)
        actions = torch.as_tensor(steps("actions", n_time), device=self.device)
        return EpisodeBatch(
            observations=self._on_device(seen),
            previous_actions=torch.nn.functional.pad(actions, (0, 0, 1, 0)),
            actions=actions,
            rewards=torch.as_tensor(rewards, dtype=torch.float32, device=self.device),
            mask=torch.as_tensor(np.arange(n_time) < lengths[:, None], dtype=torch.float32, device=self.device),
            lengths=torch.as_tensor(lengths, dtype=torch.int64, device=self.device),
            terminated=torch.as_tensor(self.episodes["terminated"][batch_inds], device=self.device),
            fields={
                k: torch.as_tensor(self.episodes[f"fields/{k}"][batch_inds], device=self.device) for k in self._fields
            },
            indices=batch_inds,
        )

    def _on_device(self, observations: Any) -> Observations:
        if isinstance(observations, dict):
            return {key: torch.as_tensor(part, device=self.device) for key, part in observations.items()}
        return torch.as_tensor(observations, device=self.device)

    def state_dict(self) -> dict[str, Any]:
        """Everything in the buffer, and where its sampling stands; its arrays are the buffer's own, not copies."""
        kept = self.n_episodes
        return {
            "episodes": {key: values[:kept] for key, values in self.episodes.items()},
            "open": self._open,
            "open_steps": self._open_steps,
            "pos": self.pos,
            "full": self.full,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict` of a buffer of the same shape.

        Raises:
            ValueError: If the saved buffer has other fields or shapes or more episodes than this one holds.
        """
        if set(state["episodes"]) != set(self.episodes):
            raise ValueError(f"replay: got fields {sorted(state['episodes'])}; expected {sorted(self.episodes)}")
        kept = len(state["episodes"]["lengths"])
        if kept > self.n_capacity:
            raise ValueError(f"replay: got {kept} episodes; expected at most {self.n_capacity}")
        pairs = [(key, values, self.episodes[key][:kept]) for key, values in state["episodes"].items()]
        pairs += [(key, values, self._open[key]) for key, values in state["open"].items()]
        for key, values, own in pairs:
            if values.shape != own.shape:
                raise ValueError(f"replay: got {key} of shape {values.shape}; expected {own.shape}")
        for _, values, own in pairs:
            own[...] = values
        self._open_steps = np.array(state["open_steps"])
        self.full = kept == self.n_capacity
        # A buffer of another capacity goes on behind the last episode.
        self.pos = int(state["pos"]) % self.n_capacity if self.full else kept
        self.rng.bit_generator.state = state["rng"]
