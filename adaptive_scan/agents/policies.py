"""Policies with a memory, in Stable-Baselines3's form.

Actor and critic each run a memory of their own over (observation, previous action). The critic's head takes the memory's
output and the current action, so that replayed and live actions share one pass over the sequence.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim, preprocess_obs
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
)
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from adaptive_scan.agents.memories import MemoryState, make_memory
from adaptive_scan.agents.replay import Observations

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "silu": nn.SiLU}
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}


def _choose(what: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise ValueError(f"{what}: got {name!r}; expected one of {', '.join(known)}")
    return known[name]


def _mlp(input_size: int, net_arch: list[int], output_size: int, activation: type[nn.Module]) -> nn.Sequential:
    sizes = [input_size, *net_arch]
    hidden = [m for a, b in zip(sizes, sizes[1:], strict=False) for m in (nn.Linear(a, b), activation())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], output_size))


class SequenceEncoder(nn.Module):
    """Features of each observation beside the previous action, through a memory.

    Args:
        observation_space: Space of one observation.
        action_size: Components of an action.
        features_extractor: Stable-Baselines3 extractor for single observations.
        memory: Name of the memory.
        memory_kwargs: Its settings.
        normalize_images: Whether uint8 images are divided by 255.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_size: int,
        features_extractor: BaseFeaturesExtractor,
        memory: str,
        memory_kwargs: dict[str, Any],
        *,
        normalize_images: bool = True,
    ) -> None:
        super().__init__()
        self.observation_space = observation_space
        self.normalize_images = normalize_images
        self.features_extractor = features_extractor
        self.memory = make_memory(memory, features_extractor.features_dim + action_size, **memory_kwargs)
        self.output_size = self.memory.output_size

    def forward(
        self, observations: Observations, previous_actions: Tensor, state: MemoryState | None = None
    ) -> tuple[Tensor, MemoryState]:
        """Outputs of the memory for each step, and its state after the last.

        Args:
            observations: Shape (n_sequences, n_steps, ...), or a dict of such.
            previous_actions: Shape (n_sequences, n_steps, action_size), zero before the first step.
            state: Memory state to start from; None is the initial one.

        Returns:
            Latents (n_sequences, n_steps, output_size) and the state.
        """
        n_sequences, n_steps = previous_actions.shape[:2]
        flat: Any
        if isinstance(observations, dict):
            flat = {key: part.flatten(0, 1) for key, part in observations.items()}
        else:
            flat = observations.flatten(0, 1)
        ready: Any = preprocess_obs(flat, self.observation_space, normalize_images=self.normalize_images)
        features = self.features_extractor(ready).view(n_sequences, n_steps, -1)
        return self.memory(torch.cat([features, previous_actions], dim=-1), state)


class MemoryActor(nn.Module):
    """Deterministic actor: encoder, head, tanh.

    Args:
        encoder: The sequence encoder, the actor's own.
        net_arch: Hidden units of the head.
        action_size: Components of an action.
        activation: Activation of the head.
        zero_initial_action: Whether the last layer starts at zero, so that the first policy puts out zero everywhere:
            a correction to whatever a zero action means.
    """

    def __init__(
        self,
        encoder: SequenceEncoder,
        net_arch: list[int],
        action_size: int,
        activation: type[nn.Module],
        *,
        zero_initial_action: bool,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = _mlp(encoder.output_size, net_arch, action_size, activation)
        if zero_initial_action:
            last = self.head[-1]
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(
        self, observations: Observations, previous_actions: Tensor, state: MemoryState | None = None
    ) -> tuple[Tensor, MemoryState]:
        """Actions on [-1, 1] for each step (n_sequences, n_steps, action_size), and the memory's state."""
        latents, state = self.encoder(observations, previous_actions, state)
        return torch.tanh(self.head(latents)), state


class MemoryCritic(nn.Module):
    """One or more value heads on one memory.

    Args:
        encoder: The sequence encoder, shared by the heads.
        net_arch: Hidden units of each head.
        action_size: Components of an action.
        activation: Activation of the heads.
        n_critics: Number of heads.
    """

    def __init__(
        self,
        encoder: SequenceEncoder,
        net_arch: list[int],
        action_size: int,
        activation: type[nn.Module],
        n_critics: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(
            _mlp(encoder.output_size + action_size, net_arch, 1, activation) for _ in range(n_critics)
        )

    def encode(self, observations: Observations, previous_actions: Tensor) -> Tensor:
        """Latents for each step, shape (n_sequences, n_steps, output_size)."""
        return self.encoder(observations, previous_actions)[0]

    def values(self, latents: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        """Value of an action at each step, one tensor (n_sequences, n_steps) for each head."""
        joint = torch.cat([latents, actions], dim=-1)
        return tuple(head(joint).squeeze(-1) for head in self.heads)


class MemoryPolicy(BasePolicy):
    """Actor and critic with memories, and their targets.

    Args:
        observation_space: Space of the observations.
        action_space: A Box.
        lr_schedule: Learning rate over the remaining progress.
        memory: Name of the memory: ``"lstm"`` or ``"gru"``.
        memory_kwargs: Its settings, such as ``hidden_size`` and ``n_layers``.
        net_arch: Hidden units of the heads of actor and critic.
        activation: Activation of the heads, by name.
        n_critics: Number of critic heads.
        zero_initial_action: Whether the untrained actor puts out zeros.
        features_extractor_class: Stable-Baselines3 features extractor for single observations.
        features_extractor_kwargs: Its settings.
        normalize_images: Whether uint8 images are divided by 255.
        optimizer: ``"adam"``, ``"adamw"`` or ``"rmsprop"``.
        optimizer_kwargs: Its settings beyond the learning rate.

    Raises:
        ValueError: If a name is unknown.
    """

    actor: MemoryActor
    actor_target: MemoryActor
    critic: MemoryCritic
    critic_target: MemoryCritic

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        *,
        memory: str = "lstm",
        memory_kwargs: dict[str, Any] | None = None,
        net_arch: list[int] | None = None,
        activation: str = "relu",
        n_critics: int = 2,
        zero_initial_action: bool = False,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer: str = "adam",
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            features_extractor_class,
            features_extractor_kwargs,
            normalize_images=normalize_images,
            squash_output=True,
        )
        self.action_size = get_action_dim(action_space)
        self.net_arch = [] if net_arch is None else list(net_arch)
        self._memory, self._memory_kwargs = memory, dict(memory_kwargs or {})
        head = _choose("activation", activation, ACTIVATIONS)
        self.actor = MemoryActor(
            self._make_encoder(), self.net_arch, self.action_size, head, zero_initial_action=zero_initial_action
        )
        self.critic = MemoryCritic(self._make_encoder(), self.net_arch, self.action_size, head, n_critics)
        self.actor_target = copy.deepcopy(self.actor).requires_grad_(False)
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        make_optimizer = _choose("optimizer", optimizer, OPTIMIZERS)
        for part in (self.actor, self.critic):
            rate = {"lr": lr_schedule(1.0)}
            part.optimizer = make_optimizer(part.parameters(), **rate, **(optimizer_kwargs or {}))

    def _make_encoder(self) -> SequenceEncoder:
        return SequenceEncoder(
            self.observation_space,
            self.action_size,
            self.make_features_extractor(),
            self._memory,
            self._memory_kwargs,
            normalize_images=self.normalize_images,
        )

    def initial_state(self, n_envs: int) -> tuple[np.ndarray, ...]:
        """State of ``predict`` before the first step: the actor's memory, then the previous action (1, n_envs, action_size)."""
        memory = self.actor.encoder.memory.initial_state(n_envs)
        previous_action = np.zeros((1, n_envs, self.action_size), np.float32)
        return (*(part.detach().cpu().numpy().copy() for part in memory), previous_action)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Action for each environment, and the state to pass on to the next call, as sb3-contrib's RecurrentPPO does.

        Args:
            observation: One observation, or a batch of them.
            state: What the last call returned; None is the initial state. NumPy arrays with the environments on the
                second axis; the last one is the action chosen at the last call, on [-1, 1].
            episode_start: Environments that begin an episode, shape (n_envs,): their state alone is put back.
            deterministic: Ignored; the actor is deterministic, exploration is the algorithm's.

        Returns:
            Actions in the action space's own units, and the state.
        """
        self.set_training_mode(False)
        observations, vectorized = self.obs_to_tensor(observation)
        first = next(iter(observations.values())) if isinstance(observations, dict) else observations
        n_envs = first.shape[0]
        state = self.initial_state(n_envs) if state is None else state
        starts = torch.zeros(n_envs, dtype=torch.bool, device=self.device)
        if episode_start is not None:
            starts = torch.as_tensor(np.asarray(episode_start, dtype=bool).reshape(n_envs), device=self.device)
        with torch.no_grad():
            *memory, previous = (torch.as_tensor(part, device=self.device) for part in state)
            memory_state = self.actor.encoder.memory.reset_state(tuple(memory), starts)
            previous = torch.where(starts[:, None], 0.0, previous[0])
            scaled, memory_state = self.actor(_one_step(observations), previous[:, None], memory_state)
        actions = scaled[:, 0].cpu().numpy()
        new_state = (*(part.cpu().numpy() for part in memory_state), actions[None].copy())
        actions = self.unscale_action(actions.reshape(-1, *self.action_space.shape))  # type: ignore[misc]
        return (actions if vectorized else actions[0]), new_state

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        """Action on [-1, 1] from the initial state; :meth:`predict` carries the state."""
        first = next(iter(observation.values())) if isinstance(observation, dict) else observation
        previous = torch.zeros(first.shape[0], 1, self.action_size, device=self.device)
        return self.actor(_one_step(observation), previous)[0][:, 0]


def _one_step(observations: Observations) -> Observations:
    if isinstance(observations, dict):
        return {key: part[:, None] for key, part in observations.items()}
    return observations[:, None]


class MultiInputMemoryPolicy(MemoryPolicy):
    """:class:`MemoryPolicy` for Dict observations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"features_extractor_class": CombinedExtractor, **kwargs})


class CnnMemoryPolicy(MemoryPolicy):
    """:class:`MemoryPolicy` for images."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"features_extractor_class": NatureCNN, **kwargs})
