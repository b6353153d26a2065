"""Replay of whole episodes, or of slices of them.

Every episode is kept once, as its T + 1 observations, T actions and T rewards, so that a memory can be run over it from
its first observation. Fields beyond these are declared by name, shape and type and read from the last step's ``info``.
Slices with burn-in and the mixture of largest and mean error as priority are those of R2D2 (Kapturowski et al. 2019).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer
from torch import Tensor

from adaptive_scan.agents.priorities import EpisodePriorities, episode_priorities
from adaptive_scan.agents.replay_files import ReplayFileError, Target, name_of, npz_path, read_replay, write_replay
from adaptive_scan.agents.slices import draw_starts, take_rows
from adaptive_scan.errors import SettingError

Observations = Tensor | dict[str, Tensor]
_BOX = ""  # the key under which observations that are no Dict are kept
_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


@dataclass(frozen=True)
class FieldSpec:
    """Shape and type of one more array kept for each episode."""

    shape: tuple[int, ...]
    dtype: str


class BurnIn(NamedTuple):
    """The B steps before each slice, over which a memory warms up from its zero state.

    Attributes:
        observations: o_{s-B} .. o_{s-1}, shape (n_episodes, B, ...), or a dict of such.
        previous_actions: a_{s-B-1} .. a_{s-2}, with zeros for a_{-1}, shape (n_episodes, B, action_size).
        is_start: Whether the slice begins with its episode, bool, shape (n_episodes,): its memory starts from the
            initial state, and its rows here are zeros.
    """

    observations: Observations
    previous_actions: Tensor
    is_start: Tensor


class EpisodeBatch(NamedTuple):
    """Episodes of one batch, padded to the longest of them.

    In a batch of slices an episode is what its slice shows: for the slice [s, s + L), o_0 below stands for o_s,
    ``lengths`` holds L, and a slice that ends before its episode does has not terminated. The action before a slice
    is then the true one, a_{s-1}.

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
        burn_in: The steps before each slice; None without slices or burn-in.
        weights: Importance weights, of which the largest is 1, shape (n_episodes,); None where all episodes are drawn
            with the same probability.
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
    burn_in: BurnIn | None = None
    weights: Tensor | None = None


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
        n_slice_steps: Steps of the slices that batches consist of, one from each drawn episode (:func:`draw_starts`
            has their law); None for whole episodes. Episodes are drawn alike whatever their length.
        n_burn_in: Steps before each slice over which a memory warms up, at most ``n_slice_steps``.
        priority_exponent: Exponent alpha of the priorities; 0 draws all episodes with the same probability.
        weight_exponent: Exponent beta of the importance weights.
        priority_mix: Share of the largest error in the priority of an episode; the rest is that of the mean error.
        seed: Seed of the sampling.

    Raises:
        ValueError: If a number is out of its range, or an episode turns out longer than the longest.

    Example:
        >>> box = spaces.Box(-1.0, 1.0, (2,))
        >>> replay = EpisodeReplayBuffer(60, box, box, "cpu", max_episode_steps=6, n_slice_steps=3, n_burn_in=1, seed=0)
        >>> for step in range(6):
        ...     seen = np.full((1, 2), step / 10, np.float32)
        ...     replay.add(seen, seen + 0.1, seen, np.ones(1), np.array([step == 5]), [{}])
        >>> batch = replay.sample(4)
        >>> batch.rewards.shape, batch.burn_in.observations.shape
        (torch.Size([4, 3]), torch.Size([4, 1, 2]))
        >>> replay.memory_report()
        'replay: 10 episodes of up to 6 steps, 1.5 kB (observations 0.6, actions 0.5, rewards 0.2, ends 0.1, open 0.1)'
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        max_episode_steps: int,
        fields: Mapping[str, FieldSpec] | None = None,
        n_slice_steps: int | None = None,
        n_burn_in: int = 0,
        priority_exponent: float = 0.0,
        weight_exponent: float = 0.4,
        priority_mix: float = 0.9,
        seed: int | None = None,
    ) -> None:
        super().__init__(buffer_size, observation_space, action_space, device, n_envs=n_envs)
        if max_episode_steps < 1:
            raise SettingError(f"max_episode_steps: got {max_episode_steps}; expected at least 1")
        if buffer_size < 1:
            raise SettingError(f"buffer_size: got {buffer_size}; expected at least 1")
        if n_slice_steps is not None and n_slice_steps < 1:
            raise SettingError(f"n_slice_steps: got {n_slice_steps}; expected at least 1, or None for whole episodes")
        if not 0 <= n_burn_in <= (n_slice_steps or 0):
            raise SettingError(f"n_burn_in: got {n_burn_in}; expected 0 to n_slice_steps={n_slice_steps or 0}")
        if not 0 <= priority_mix <= 1:
            raise SettingError(f"priority_mix: got {priority_mix}; expected 0 to 1")
        self.max_episode_steps = max_episode_steps
        self.n_slice_steps, self.n_burn_in, self.priority_mix = n_slice_steps, n_burn_in, priority_mix
        self.n_capacity = max(1, buffer_size // max_episode_steps)
        self.rng = np.random.default_rng(seed)
        self._is_dict = isinstance(observation_space, spaces.Dict)
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {_BOX: observation_space}
        self._steps = {key: FieldSpec(tuple(space.shape or ()), str(space.dtype)) for key, space in parts.items()}
        self._fields = dict(fields or {})
        self.episodes = self._allocate(self.n_capacity, with_fields=True)
        self._open = self._allocate(n_envs, with_fields=False)
        self._open_steps = np.zeros(n_envs, dtype=np.int64)
        self.priorities: EpisodePriorities | None = None
        if priority_exponent != 0:
            self.priorities = EpisodePriorities(
                self.n_capacity, exponent=priority_exponent, weight_exponent=weight_exponent
            )

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
        return sum(self._bytes_of_parts().values())

    def _bytes_of_parts(self) -> dict[str, int]:
        parts = dict.fromkeys(("observations", "actions", "rewards", "fields", "ends"), 0)
        for key, values in self.episodes.items():
            part = key.partition("/")[0]
            parts[part if part in parts else "ends"] += values.nbytes
        parts["priorities"] = 0 if self.priorities is None else self.priorities.values.nbytes
        parts["open"] = sum(values.nbytes for values in self._open.values())
        return parts

    def memory_report(self) -> str:
        """Memory of all that the buffer has room for, and what takes it, in one line.

        ``ends`` are lengths and whether episodes terminated, ``open`` is the unfinished episodes.
        """
        unit, scale = next((u for u in _UNITS if self.nbytes >= u[1]), _UNITS[-1])
        parts = ", ".join(f"{name} {size / scale:.1f}" for name, size in self._bytes_of_parts().items() if size)
        room = f"{self.n_capacity:,} episodes of up to {self.max_episode_steps:,} steps"
        return f"replay: {room}, {self.nbytes / scale:.1f} {unit} ({parts})"

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
            raise SettingError(
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
        if self.priorities is not None:
            self.priorities.add(self.pos)
        self._open_steps[env] = 0
        self.pos += 1
        if self.pos == self.n_capacity:
            self.full, self.pos = True, 0

    def read_fields(self, info: dict[str, Any]) -> dict[str, Any]:
        """Values of the declared fields from the ``info`` of an episode's last step.

        Raises:
            ValueError: If one is not there.
        """
        for key in self._fields:
            if key not in info:
                raise ValueError(f"info: got {sorted(info)} at the end of an episode; expected the field {key!r}")
        return {key: info[key] for key in self._fields}

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        if self.priorities is not None:
            self.priorities.reset()
        self.forget_open_episodes()

    def forget_open_episodes(self) -> None:
        """Drop the unfinished episodes, for instance because the environments were reset."""
        self._open_steps[:] = 0

    def sample(self, batch_size: int, env: Any = None) -> EpisodeBatch:
        """Episodes drawn with replacement, uniformly or by their priorities, or a slice of each.

        Args:
            batch_size: Episodes to draw.
            env: The VecNormalize whose statistics apply to observations and rewards, if there is one.

        Raises:
            ValueError: If no whole episode is there yet.
        """
        if self.n_episodes == 0:
            raise ValueError("replay: no whole episode yet; expected at least one before sampling")
        weights: Tensor | None = None
        if self.priorities is None:
            chosen = self.rng.integers(self.n_episodes, size=batch_size)
        else:
            chosen, drawn_weights = self.priorities.sample(self.n_episodes, batch_size, self.rng)
            weights = torch.as_tensor(drawn_weights, dtype=torch.float32, device=self.device)
        if self.n_slice_steps is None:
            batch = self._get_samples(chosen, env)
        else:
            lengths = self.episodes["lengths"][chosen]
            starts = draw_starts(lengths, self.n_slice_steps, self.n_burn_in, self.rng)
            batch = self._get_slices(chosen, starts, env)
        return batch if weights is None else batch._replace(weights=weights)

    def update_priorities(self, indices: np.ndarray, errors: Tensor, mask: Tensor) -> None:
        """Set the priorities of sampled episodes from the errors of their values; uniform sampling has none to set.

        Of several slices of one episode the last one counts.

        Args:
            indices: ``indices`` of the batch, shape (n_episodes,).
            errors: Their sign does not matter, shape (n_episodes, n_steps).
            mask: ``mask`` of the batch, shape (n_episodes, n_steps).

        Raises:
            FloatingPointError: If an error where the mask is 1 is not finite; nothing is then set.
        """
        if self.priorities is not None:
            priorities = episode_priorities(errors.detach(), mask, self.priority_mix)
            self.priorities.update(indices, priorities.cpu().numpy().astype(np.float64))

    def newest(self, n_episodes: int) -> EpisodeBatch:
        """The last episodes, whole, newest first, or as many as there are.

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
        actions = torch.as_tensor(self.episodes["actions"][batch_inds, :n_time], device=self.device)
        return EpisodeBatch(
            observations=self._seen({key: self._observed(key)[batch_inds, : n_time + 1] for key in self._steps}, env),
            previous_actions=torch.nn.functional.pad(actions, (0, 0, 1, 0)),
            actions=actions,
            rewards=self._rewards(self.episodes["rewards"][batch_inds, :n_time], env),
            **self._ends(batch_inds, lengths, n_time, self.episodes["terminated"][batch_inds]),
        )

    def _get_slices(self, batch_inds: np.ndarray, starts: np.ndarray, env: Any = None) -> EpisodeBatch:
        whole = self.episodes["lengths"][batch_inds]
        lengths = np.minimum(whole - starts, self.n_slice_steps)  # type: ignore[arg-type]
        n_time = int(lengths.max())
        terminated = self.episodes["terminated"][batch_inds] & (starts + lengths == whole)
        parts = {key: take_rows(self._observed(key), batch_inds, starts, n_time + 1, whole + 1) for key in self._steps}
        actions = take_rows(self.episodes["actions"], batch_inds, starts - 1, n_time + 1, whole)
        rewards = take_rows(self.episodes["rewards"], batch_inds, starts, n_time, whole)
        previous_actions = torch.as_tensor(actions, device=self.device)
        return EpisodeBatch(
            observations=self._seen(parts, env),
            previous_actions=previous_actions,
            actions=previous_actions[:, 1:],
            rewards=self._rewards(rewards, env),
            **self._ends(batch_inds, lengths, n_time, terminated),
            burn_in=self._get_burn_in(batch_inds, starts, whole, env) if self.n_burn_in else None,
        )

    def _get_burn_in(self, batch_inds: np.ndarray, starts: np.ndarray, whole: np.ndarray, env: Any) -> BurnIn:
        n_rows, is_start = self.n_burn_in, torch.as_tensor(starts == 0, device=self.device)
        first = starts - n_rows
        actions = take_rows(self.episodes["actions"], batch_inds, first - 1, n_rows, whole)
        seen = self._seen(
            {key: take_rows(self._observed(key), batch_inds, first, n_rows, whole) for key in self._steps}, env
        )
        for part in seen.values() if isinstance(seen, dict) else (seen,):
            part[is_start] = 0  # normalising makes something else of zeros
        return BurnIn(seen, torch.as_tensor(actions, device=self.device), is_start)

    def _observed(self, key: str) -> np.ndarray:
        return self.episodes[f"observations/{key}"]

    def _seen(self, parts: dict[str, np.ndarray], env: Any) -> Observations:
        return self._on_device(self._normalize_obs(parts if self._is_dict else parts[_BOX], env))

    def _rewards(self, rewards: np.ndarray, env: Any) -> Tensor:
        return torch.as_tensor(self._normalize_reward(rewards, env), dtype=torch.float32, device=self.device)

    def _ends(self, batch_inds: np.ndarray, lengths: np.ndarray, n_time: int, terminated: np.ndarray) -> dict[str, Any]:
        """What a batch holds once for each episode, and its mask."""
        return {
            "mask": torch.as_tensor(np.arange(n_time) < lengths[:, None], dtype=torch.float32, device=self.device),
            "lengths": torch.as_tensor(lengths, dtype=torch.int64, device=self.device),
            "terminated": torch.as_tensor(terminated, device=self.device),
            "fields": {
                k: torch.as_tensor(self.episodes[f"fields/{k}"][batch_inds], device=self.device) for k in self._fields
            },
            "indices": batch_inds,
        }

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
            "priorities": None if self.priorities is None else self.priorities.state_dict(kept),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict` of a buffer of the same shape.

        Without priorities in it, as from a buffer that draws uniformly, all its episodes get the same.

        Raises:
            ValueError: If the saved buffer has other fields, shapes or types, lengths that cannot be, or more episodes
                than this one holds; this buffer is then as it was.
        """
        pairs = self._fitting_pairs(state)
        kept = len(state["episodes"]["lengths"])
        self.full = kept == self.n_capacity
        # In a larger buffer the oldest episode of a full ring comes first.
        turned = int(state["pos"]) if state["full"] and not self.full else 0
        order = (turned + np.arange(kept)) % max(kept, 1)
        for number, (_, values, own) in enumerate(pairs):
            own[...] = values[order] if number < len(self.episodes) else values
        if self.priorities is not None:
            self.priorities.load_state_dict(state.get("priorities"), kept)
            self.priorities.values[:kept] = self.priorities.values[:kept][order]
        self.pos = int(state["pos"]) % self.n_capacity if self.full else kept
        self.rng.bit_generator.state = state["rng"]

    def _fitting_pairs(self, state: dict[str, Any]) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Names and arrays of a state, each beside the part of this buffer that it goes to."""
        for name, saved, known in (("fields", "episodes", self.episodes), ("open fields", "open", self._open)):
            if set(state[saved]) != set(known):
                raise ValueError(f"replay: got {name} {sorted(state[saved])}; expected {sorted(known)}")
        lengths = np.atleast_1d(state["episodes"]["lengths"])
        kept, longest = len(lengths), self.max_episode_steps
        if kept > self.n_capacity:
            raise ValueError(f"replay: got {kept} episodes; expected at most {self.n_capacity}")
        pairs = [(key, values, self.episodes[key][:kept]) for key, values in state["episodes"].items()]
        pairs += [(key, values, self._open[key]) for key, values in state["open"].items()]
        pairs.append(("open_steps", np.asarray(state["open_steps"]), self._open_steps))
        for key, values, own in pairs:
            if values.shape != own.shape:
                raise ValueError(f"replay: got {key} of shape {values.shape}; expected {own.shape}")
            if values.dtype != own.dtype:
                raise ValueError(f"replay: got {key} of type {values.dtype}; expected {own.dtype}")
        for saved in ("episodes", "open"):
            rewards, actions = state[saved]["rewards"], state[saved]["actions"]
            if not (np.isfinite(rewards).all() and (np.abs(actions) <= 1.0 + 1e-6).all()):
                raise ValueError("replay: got values out of range; expected finite rewards and actions on [-1, 1]")
        steps = np.concatenate([lengths - 1, state["open_steps"]])
        if steps.min() < 0 or lengths.max(initial=0) > longest or steps.max() > longest:
            raise ValueError(f"replay: got lengths out of range; expected 1 to {longest} steps")
        saved_priorities = state.get("priorities")
        if saved_priorities is not None:
            values = saved_priorities["values"]
            if values.shape != (kept,) or values.dtype != np.float64 or not (np.isfinite(values) & (values > 0)).all():
                raise ValueError(f"replay: got unfitting priorities; expected {kept} positive numbers")
        return pairs

    def save(self, path: Target) -> None:
        """Write the whole buffer as one ``.npz`` that needs no pickle to be read; the file appears by rename.

        Args:
            path: Destination, by name or open. The suffix ``.pkl``, which Stable-Baselines3 gives to replay buffers,
                becomes ``.npz``; to other names ``.npz`` is added.

        Raises:
            OSError: If the file cannot be written; an old one is then as it was.
        """
        write_replay(path if isinstance(path, io.BufferedIOBase) else npz_path(path), self.state_dict())

    def load(self, path: Target) -> None:
        """Go on from :meth:`save`'s file of a buffer of the same shape.

        Args:
            path: The file, open, by its own name, or by the one that was given to :meth:`save`.

        Raises:
            ReplayFileError: If the file is missing, broken, pickled or something else, or does not fit; this buffer is
                then as it was.
        """
        if not isinstance(path, io.BufferedIOBase) and not Path(path).exists():
            path = npz_path(path)
        state = read_replay(path)
        try:
            self.load_state_dict(state)
        except ValueError as error:
            found = f"an unfitting buffer ({error})"
            raise ReplayFileError(name_of(path), found, "one of the same spaces and steps") from error
