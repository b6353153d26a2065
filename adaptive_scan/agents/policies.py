"""Policies with a memory, in Stable-Baselines3's form.

Actor and critic each run a memory of their own over (observation, previous action). The critic's head takes the
memory's output and the current action, so that replayed and live actions share one pass over the sequence.
"""

from __future__ import annotations

import copy
import itertools
import os
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim, is_image_space, preprocess_obs
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
)
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import get_device
from torch import Tensor, nn

from adaptive_scan.agents.memories import make_memory
from adaptive_scan.agents.memory import MemoryState
from adaptive_scan.agents.pickles import ModelFileError
from adaptive_scan.agents.replay import BurnIn, Observations
from adaptive_scan.agents.storage import read_policy, write_policy
from adaptive_scan.errors import SettingError

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "silu": nn.SiLU}
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}


def _choose(what: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise SettingError(f"{what}: got {name!r}; expected one of {', '.join(known)}")
    return known[name]


def _mlp(input_size: int, net_arch: list[int], output_size: int, activation: type[nn.Module]) -> nn.Sequential:
    sizes = [input_size, *net_arch]
    hidden = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), activation())]
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
        observation_space: spaces.Space[Any],
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
        self.memory = make_memory(memory, int(features_extractor.features_dim) + action_size, **memory_kwargs)
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
        features = self.features_extractor(ready).reshape(n_sequences, n_steps, -1)
        seen: tuple[Tensor, MemoryState] = self.memory(torch.cat([features, previous_actions], dim=-1), state)
        return seen

    def start_state(self, burn_in: BurnIn | None) -> MemoryState | None:
        """State of the memory before slices of episodes, warmed up on the steps before them.

        The memory runs over these from its initial state and without a gradient (Kapturowski et al. 2019, "Recurrent
        experience replay in distributed reinforcement learning", section 3); slices that begin with their episode get
        the initial state itself, and their gradient reaches it where it is learned.

        Args:
            burn_in: The steps before the slices; None for whole episodes.

        Returns:
            The state, or None for the initial one.
        """
        if burn_in is None:
            return None
        with torch.no_grad():
            _, state = self(burn_in.observations, burn_in.previous_actions)
        return self.memory.reset_state(state, burn_in.is_start)


class MemoryActor(nn.Module):
    """Deterministic actor: encoder, head, tanh.

    Args:
        encoder: The sequence encoder, the actor's own.
        net_arch: Hidden units of the head.
        action_size: Components of an action.
        activation: Activation of the head.
        zero_initial_action: Whether the last layer starts at zero, so that the first policy puts out zero everywhere:
            a correction to whatever a zero action means.

    Attributes:
        optimizer: What follows its gradient; :class:`MemoryPolicy` makes it.
    """

    optimizer: torch.optim.Optimizer

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
        before_tanh, state = self.before_tanh(observations, previous_actions, state)
        return torch.tanh(before_tanh), state

    def before_tanh(
        self, observations: Observations, previous_actions: Tensor, state: MemoryState | None = None
    ) -> tuple[Tensor, MemoryState]:
        """What the tanh is applied to (n_sequences, n_steps, action_size), and the memory's state."""
        latents, state = self.encoder(observations, previous_actions, state)
        return self.head(latents), state


class MemoryCritic(nn.Module):
    """One or more value heads on one memory.

    Args:
        encoder: The sequence encoder, shared by the heads.
        net_arch: Hidden units of each head.
        action_size: Components of an action.
        activation: Activation of the heads.
        n_critics: Number of heads.

    Attributes:
        optimizer: What follows its gradient; :class:`MemoryPolicy` makes it.
    """

    optimizer: torch.optim.Optimizer

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

    def encode(self, observations: Observations, previous_actions: Tensor, state: MemoryState | None = None) -> Tensor:
        """Latents for each step, shape (n_sequences, n_steps, output_size)."""
        latents: Tensor = self.encoder(observations, previous_actions, state)[0]
        return latents

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
        memory: Name of the memory, in :data:`~adaptive_scan.agents.MEMORIES`.
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
        SettingError: If a name is unknown.

    Example:
        >>> box = spaces.Box(-1.0, 1.0, (2,))
        >>> policy = MemoryPolicy(box, box, lambda progress: 1e-3, memory="gru", memory_kwargs={"hidden_size": 4})
        >>> actions, (memory, previous) = policy.predict(np.zeros((5, 2), np.float32))
        >>> actions.shape, memory.shape, previous.shape
        ((5, 2), (2, 5, 4), (1, 5, 2))
    """

    actor: MemoryActor
    actor_target: MemoryActor
    critic: MemoryCritic
    critic_target: MemoryCritic

    def __init__(
        self,
        observation_space: spaces.Space[Any],
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
        if n_critics < 1:
            raise SettingError(f"n_critics: got {n_critics}; expected at least 1")
        if isinstance(observation_space, spaces.Dict) and features_extractor_class in (FlattenExtractor, NatureCNN):
            raise SettingError(
                f"policy: got {type(self).__name__} for Dict observations; expected MultiInputMemoryPolicy"
            )
        super().__init__(
            observation_space,
            action_space,
            features_extractor_class,
            features_extractor_kwargs,
            normalize_images=normalize_images,
            squash_output=True,
        )
        self.action_size = get_action_dim(action_space)
        # A linear critic would be linear in the action, and its best action always the largest one.
        self.net_arch = [64] if net_arch is None else list(net_arch)
        self._memory, self._memory_kwargs = memory, dict(memory_kwargs or {})
        self._own_arguments = {
            "memory": memory,
            "memory_kwargs": self._memory_kwargs,
            "net_arch": self.net_arch,
            "activation": activation,
            "n_critics": n_critics,
            "zero_initial_action": zero_initial_action,
            "normalize_images": normalize_images,
            "optimizer": optimizer,
            "optimizer_kwargs": optimizer_kwargs,
        }
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"": observation_space}
        # Images may come with their channels last; Stable-Baselines3 sorts those out.
        self._has_images = any(is_image_space(part) for part in parts.values())
        head = _choose("activation", activation, ACTIVATIONS)
        self.actor = MemoryActor(
            self._make_encoder(), self.net_arch, self.action_size, head, zero_initial_action=zero_initial_action
        )
        self.critic = MemoryCritic(self._make_encoder(), self.net_arch, self.action_size, head, n_critics)
        self._n_state_parts = len(self.actor.encoder.memory.initial_state(1)) + 1
        self.actor_target = copy.deepcopy(self.actor).requires_grad_(False).eval()
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False).eval()
        make_optimizer = _choose("optimizer", optimizer, OPTIMIZERS)
        for part in (self.actor, self.critic):
            part.optimizer = make_optimizer(part.parameters(), lr=lr_schedule(1.0), **(optimizer_kwargs or {}))

    def set_training_mode(self, mode: bool) -> None:
        """Put actor and critic into training or evaluation mode; their targets never train."""
        self.actor.train(mode)
        self.critic.train(mode)
        self.training = mode

    def _make_encoder(self) -> SequenceEncoder:
        return SequenceEncoder(
            self.observation_space,
            self.action_size,
            self.make_features_extractor(),
            self._memory,
            self._memory_kwargs,
            normalize_images=self.normalize_images,
        )

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        # The base class asks all parameters, which takes longer than the actor's head.
        return next(self.actor.head.parameters()).device

    def initial_state(self, n_envs: int) -> tuple[np.ndarray, ...]:
        """State of ``predict`` before the first step.

        Returns:
            The actor's memory, each array (n_layers, n_envs, size), then the previous action (1, n_envs, action_size).
        """
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

        Raises:
            ValueError: If state or ``episode_start`` belong to another number of environments, or the observation to
                another space.
        """
        # Walking through all modules would take a good part of the time of a decision.
        if self.training:
            self.set_training_mode(False)
        observations, vectorized = self.obs_to_tensor(observation)
        first = next(iter(observations.values())) if isinstance(observations, dict) else observations
        device = first.device
        state = self._state_before(state, episode_start, n_envs=first.shape[0])
        with torch.inference_mode():
            *memory, previous = (torch.from_numpy(part).to(device) for part in state)
            scaled, memory_state = self.actor(_one_step(observations), previous[0][:, None], tuple(memory))
            actions = scaled[:, 0].cpu().numpy()
            new_state = (*(part.cpu().numpy() for part in memory_state), actions[None].copy())
        actions = self.unscale_action(actions.reshape(-1, *self.action_space.shape))  # type: ignore[misc]
        return (actions if vectorized else actions[0]), new_state

    def _state_before(
        self, state: tuple[np.ndarray, ...] | None, episode_start: np.ndarray | None, *, n_envs: int
    ) -> tuple[np.ndarray, ...]:
        """The state to decide from: the initial one in the environments that begin an episode."""
        starts = np.zeros(n_envs, dtype=bool) if episode_start is None else np.asarray(episode_start, dtype=bool)
        if starts.size != n_envs:
            found = f"{starts.size} environments"
            raise ValueError(f"episode_start: got {found}; expected {n_envs}, as many as observations")
        if state is None:
            return self.initial_state(n_envs)
        state = tuple(np.asarray(part, np.float32) for part in state)
        if len(state) != self._n_state_parts or any(part.ndim != 3 for part in state):
            found = f"{len(state)} arrays of shapes {[part.shape for part in state]}"
            raise ValueError(f"state: got {found}; expected the {self._n_state_parts} that predict returned")
        if any(part.shape[1] != n_envs for part in state):
            raise ValueError(f"state: got {state[0].shape[1]} environments; expected {n_envs}, as many as observations")
        if not starts.any():
            return state
        fresh = self.initial_state(n_envs)
        return tuple(np.where(starts.reshape(1, -1, 1), f, s) for f, s in zip(fresh, state, strict=True))

    def obs_to_tensor(self, observation: np.ndarray | dict[str, np.ndarray]) -> tuple[Any, bool]:
        """Observations as tensors with the environments first, and whether they came as a batch.

        Raises:
            ValueError: If a shape does not fit the observation space, or the observation came with its info.
        """
        if self._has_images:
            return super().obs_to_tensor(observation)
        if isinstance(observation, tuple):
            raise ValueError("observation: got a tuple, maybe (observation, info) of reset; expected the observation")
        device = self.device
        if not isinstance(self.observation_space, spaces.Dict):
            return _as_batch(observation, self.observation_space, device)
        if not isinstance(observation, dict) or observation.keys() != self.observation_space.keys():
            found = sorted(observation) if isinstance(observation, dict) else type(observation).__name__
            raise ValueError(f"observation: got {found}; expected a dict of {sorted(self.observation_space)}")
        parts = {key: _as_batch(observation[key], space, device) for key, space in self.observation_space.items()}
        return {key: part for key, (part, _) in parts.items()}, any(batched for _, batched in parts.values())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the networks as safetensors with a JSON header; the states of the optimisers are not in it.

        Stable-Baselines3's own features extractors are written by name; :meth:`load` asks for others.

        Args:
            path: File to write; it appears by rename.
        """
        write_policy(path, self._get_constructor_parameters(), self.state_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "auto", **settings: Any) -> Self:
        """Rebuild a policy from :meth:`save`'s file, to predict with.

        Args:
            path: File to read.
            device: Where the networks go.
            settings: Settings that replace the stored ones, or could not be written.

        Raises:
            TreeFileError: If the file is missing or broken.
            ModelFileError: If it holds no policy, or one of a later version.
            SettingError: If a setting that could not be written is not passed again.
        """
        stored = read_policy(path, settings)
        policy = cls(stored.observation_space, stored.action_space, cls._dummy_schedule, **stored.settings)
        try:
            policy.load_state_dict(stored.state)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ModelFileError(path, f"unfitting parameters ({error})", "those of its networks") from error
        return policy.to(get_device(device))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "features_extractor_class": self.features_extractor_class,
            "features_extractor_kwargs": self.features_extractor_kwargs,
            **self._own_arguments,
        }

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        """Action on [-1, 1] from the initial state; :meth:`predict` carries the state."""
        first = next(iter(observation.values())) if isinstance(observation, dict) else observation
        previous = torch.zeros(first.shape[0], 1, self.action_size, device=self.device)
        actions: Tensor = self.actor(_one_step(observation), previous)[0]
        return actions[:, 0]


def _as_batch(observation: Any, space: spaces.Space[Any], device: torch.device) -> tuple[Tensor, bool]:
    """One part of an observation as a tensor with the environments first, and whether it came as a batch."""
    array, shape = np.array(observation), space.shape or ()
    batched = array.ndim == len(shape) + 1
    if array.shape[batched:] != shape:
        raise ValueError(f"observation: got shape {array.shape}; expected {shape} or (n_envs, *{shape})")
    return torch.from_numpy(array if batched else array[None]).to(device), batched


def _one_step(observations: Observations) -> Observations:
    if isinstance(observations, dict):
        return {key: part[:, None] for key, part in observations.items()}
    return observations[:, None]


class MultiInputMemoryPolicy(MemoryPolicy):
    """:class:`MemoryPolicy` for Dict observations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        space = kwargs.get("observation_space", args[0] if args else None)
        if not isinstance(space, spaces.Dict):
            raise SettingError(f"policy: got MultiInputMemoryPolicy for {space}; expected MlpMemoryPolicy, or a Dict")
        super().__init__(*args, **{"features_extractor_class": CombinedExtractor, **kwargs})


class CnnMemoryPolicy(MemoryPolicy):
    """:class:`MemoryPolicy` for images."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"features_extractor_class": NatureCNN, **kwargs})
