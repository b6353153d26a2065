"""Files and checkpoints of an off-policy algorithm, none of which needs pickle."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import check_for_correct_spaces, get_system_info

from adaptive_scan.agents.noise import ExplorationNoise
from adaptive_scan.agents.pickles import ModelFileError
from adaptive_scan.agents.plain_data import noise_from_json, noise_to_json
from adaptive_scan.agents.replay import EpisodeReplayBuffer
from adaptive_scan.agents.storage import (
    HYPERPARAMETERS,
    MALFORMED,
    StoredModel,
    check_left_out,
    read_model,
    read_parameters,
    write_model,
)
from adaptive_scan.errors import SettingError

# What stands in for a setting that could not be written in a model that only predicts.
_SPARE = {
    **{"learning_rate": 0.0, "tau": 0.0, "critic_learning_rate": None, "action_noise": None},
    **{"replay_buffer_class": None, "replay_buffer_kwargs": None},
}


class StoredAlgorithm(OffPolicyAlgorithm):
    """What :class:`~adaptive_scan.agents.RecurrentTD3` writes and reads.

    Stable-Baselines3 pickles settings, spaces and replay. Here models are JSON and safetensors, replay is ``.npz``, and
    :meth:`training_state` is a tree of arrays and numbers.

    Attributes:
        rng: Source of the random numbers of collecting.
        torch_rng: Source of those of learning.
    """

    replay_buffer: EpisodeReplayBuffer  # type: ignore[assignment]
    rng: np.random.Generator
    torch_rng: torch.Generator
    _memory_state: tuple[np.ndarray, ...] | None
    _is_inside_step: bool

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "actor.optimizer", "critic.optimizer"], []

    def save(self, path: Any, exclude: Any = None, include: Any = None) -> None:
        """Write the model as a zip of JSON and safetensors entries; nothing in it needs pickle.

        In the file: the weights of all networks and the states of both optimisers, the spaces, the settings of the
        constructor, the counts of steps, updates and episodes, and Gaussian or Ornstein-Uhlenbeck noise with the state
        of its generator. Classes of Stable-Baselines3's features extractors are there by name.

        Not in the file: settings that are no plain data (schedules that are functions, classes of one's own, other
        noise), which :meth:`load` asks for by name; where logs go; and what a model has in hand while it learns: the
        replayed episodes, the states of the random generators, the episodes under way. A loaded model therefore learns
        on with the same networks, from new episodes and other random numbers. :meth:`training_state` holds these as
        well: a model that is loaded and takes it over goes on as one that was never interrupted, to the last bit.

        Args:
            path: File to write; ``.zip`` is added where a suffix is missing. It appears by rename.
            exclude: Part of Stable-Baselines3's signature; what is written is fixed by the format.
            include: Likewise.
        """
        noise = None if self.action_noise is None else noise_to_json(self.action_noise)
        aliases = {policy: name for name, policy in self.policy_aliases.items()}
        frequency: Any = self.train_freq  # a number and its unit once the model is made
        stored = StoredModel(
            policy=aliases.get(self.policy_class, self.policy_class.__name__),
            observation_space=self.observation_space,
            action_space=self.action_space,
            settings={
                **{name: getattr(self, name) for name in HYPERPARAMETERS},
                "train_freq": (frequency.frequency, frequency.unit.value),
            },
            left_out=["action_noise"] if noise is None and self.action_noise is not None else [],
            noise=noise,
            num_timesteps=self.num_timesteps,
            n_updates=self._n_updates,
            n_episodes=self._episode_num,
            parameters=self.get_parameters(),
        )
        write_model(path, stored)

    @classmethod
    def load(
        cls,
        path: Any,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        trust_pickle: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Rebuild a model from :meth:`save`'s file, or from one that Stable-Baselines3's own ``save`` wrote.

        The latter has pickled entries, which can run any program when they are read: they are refused by name, unless
        the file is to be trusted. Files of earlier versions of the format are read as well.

        Args:
            path: File to read.
            env: Environment to go on with; without one the model predicts. Stored noise goes on where the number of
                environments is the same; for another number its processes start anew.
            device: Where the networks go.
            custom_objects: Settings that replace the stored ones, as Stable-Baselines3 has them.
            print_system_info: Whether the versions of this machine are printed.
            force_reset: Part of Stable-Baselines3's signature; a loaded model always begins new episodes.
            trust_pickle: Whether pickled entries are read, in a file whose origin is known.
            kwargs: Settings that replace the stored ones.

        Raises:
            ModelFileError: If the file is missing, broken, of a later version, holds a pickled entry and is not
                trusted, or holds an entry this format does not know.
            SettingError: If a setting that could not be written is not passed again, or ``policy_kwargs`` describe
                other networks.
            ValueError: If the environment has other spaces.
        """
        if print_system_info:
            get_system_info()
        settings = {**(custom_objects or {}), **kwargs}
        stored = read_model(path, settings, trust_pickle=trust_pickle)
        policy = _check_policy(cls, settings.pop("policy", stored.policy), stored.name)
        spare = {} if env is not None else {key: _SPARE[key] for key in stored.left_out if key in _SPARE}
        given = {**spare, **settings}
        check_left_out(stored.left_out, given, "model")
        networks = stored.settings.get("policy_kwargs")
        if "policy_kwargs" not in stored.left_out and settings.get("policy_kwargs", networks) != networks:
            expected = f"those of the file, {networks}"
            raise SettingError(f"policy_kwargs: got {settings['policy_kwargs']}; expected {expected}")
        wrapped = None if env is None else cls._wrap_env(env, int(stored.settings.get("verbose", 0)))
        if wrapped is not None:
            check_for_correct_spaces(wrapped, stored.observation_space, stored.action_space)
        if stored.noise is not None:
            n_envs = None if wrapped is None else wrapped.num_envs
            given.setdefault("action_noise", noise_from_json(stored.noise, n_envs))
        try:
            model = cls._from_stored(stored, policy, wrapped, device=device, **{**stored.settings, **given})
        except (*MALFORMED, AssertionError, RuntimeError) as error:
            if settings:
                raise
            raise ModelFileError(stored.name, f"settings that make no model ({error})", "those of a model") from error
        model._restore(stored.parameters, stored.name)
        model.num_timesteps, model._n_updates = stored.num_timesteps, stored.n_updates
        model._episode_num = stored.n_episodes
        return model

    @classmethod
    def _from_stored(cls, stored: StoredModel, policy: Any, env: Any, **settings: Any) -> Self:
        """A model with new weights."""
        make: Any = cls
        model: Self = make(policy, env, _init_setup_model=False, **settings)
        if env is None:
            model.observation_space, model.action_space = stored.observation_space, stored.action_space
            model.n_envs = 1
        model._setup_model()
        return model

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: torch.device | str = "auto"
    ) -> None:
        """Take over weights and states of the optimisers; everything else stays.

        Args:
            load_path_or_dict: What :meth:`get_parameters` returned, or a model's file, of which only the weights are
                read: from Stable-Baselines3's own too, as they need no pickle.
            exact_match: Whether all parts and all their weights must be there.
            device: Part of Stable-Baselines3's signature; the networks stay where they are.

        Raises:
            ModelFileError: If the file is missing or broken, its weights are pickled, or are another network's.
            ValueError: If the parts of a dict are not those of the model.
        """
        if isinstance(load_path_or_dict, dict):
            super().set_parameters(load_path_or_dict, exact_match, device)
        else:
            self._restore(*read_parameters(load_path_or_dict), exact_match=exact_match)

    def _restore(self, parameters: dict[str, Any], name: str, *, exact_match: bool = True) -> None:
        """Put weights and states of the optimisers that were read from the file ``name`` into the model."""
        own = self.get_parameters()
        try:
            for part in ("actor.optimizer", "critic.optimizer"):
                if part in parameters:
                    weights = list(getattr(self, part.split(".")[0]).parameters())
                    _check_optimizer(parameters[part], own[part], weights)
            self.set_parameters(parameters, exact_match=exact_match, device=self.device)
        # What torch raises where names, shapes or types differ from the networks'.
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelFileError(name, f"unfitting parameters ({error})", "those of its networks") from error

    def save_replay_buffer(self, path: Any) -> None:
        """Write the replay buffer as one ``.npz`` that needs no pickle to be read; the file appears by rename.

        Args:
            path: File to write. Where it ends in ``.pkl``, as Stable-Baselines3's CheckpointCallback has it, that
                becomes ``.npz``; to other names ``.npz`` is added.
        """
        self.replay_buffer.save(path)

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """Read :meth:`save_replay_buffer`'s file into this model's buffer.

        Args:
            path: File to read, by its own name or by the one that was given to :meth:`save_replay_buffer`.
            truncate_last_traj: Whether unfinished episodes are dropped, as they must be where the environments do not
                go on in the middle of them.

        Raises:
            ReplayFileError: If the file is missing, broken, pickled or something else, or does not fit the buffer.
            ValueError: If the model has no environment, and so no buffer yet.
        """
        if self.env is None:
            raise ValueError("env: got None; expected set_env before load_replay_buffer, which fills its buffer")
        self.replay_buffer.load(path)
        if truncate_last_traj:
            self.replay_buffer.forget_open_episodes()

    def training_state(self) -> dict[str, Any]:
        """Everything that learning changes, for a checkpoint from which training goes on to the last bit.

        Take it between updates, for instance in a callback's ``on_rollout_start``; taken inside a step, episodes begin
        anew. Its tensors and arrays are the model's own, not copies: write them before learning goes on.

        Not in it are the environments' state, the running means of a VecNormalize, torch's global generator, which
        layers with dropout draw from, and the end of learning: schedules go on alike for the same ``total_timesteps``.
        """
        noise = self.action_noise
        return {
            "parameters": self.get_parameters(),
            "replay": self.replay_buffer.state_dict(),
            "noise": noise.state_dict() if isinstance(noise, ExplorationNoise) else None,
            "rng": self.rng.bit_generator.state,
            "torch_rng": self.torch_rng.get_state(),
            "num_timesteps": self.num_timesteps,
            "n_updates": self._n_updates,
            "episode_num": self._episode_num,
            "last_obs": None if self._is_inside_step else self._last_obs,
            "last_original_obs": None if self._vec_normalize_env is None else self._last_original_obs,
            "last_episode_starts": self._last_episode_starts,
            "memory_state": self._memory_state,
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`training_state`; call ``learn`` with ``reset_num_timesteps=False`` afterwards."""
        # Optimisers keep the tensors they are given.
        self.set_parameters(copy.deepcopy(state["parameters"]), exact_match=True)
        self.replay_buffer.load_state_dict(state["replay"])
        if isinstance(self.action_noise, ExplorationNoise) and state["noise"] is not None:
            self.action_noise.load_state_dict(state["noise"])
        self.rng.bit_generator.state = state["rng"]
        self.torch_rng.set_state(torch.as_tensor(state["torch_rng"], device="cpu"))
        self.num_timesteps = int(state["num_timesteps"])
        self._n_updates = int(state["n_updates"])
        self._episode_num = int(state["episode_num"])
        self._is_inside_step = False
        self._last_obs = state["last_obs"]
        self._last_original_obs = state.get("last_original_obs")
        self._last_episode_starts = state["last_episode_starts"]
        memory = state["memory_state"]
        self._memory_state = None if memory is None else tuple(np.asarray(part) for part in memory)


def _check_policy(cls: type[StoredAlgorithm], policy: Any, name: str) -> Any:
    """The policy, if the model can be made with it."""
    known = ", ".join(cls.policy_aliases)
    if isinstance(policy, str) and policy not in cls.policy_aliases:
        raise ModelFileError(name, f"the policy {policy!r}", f"one of {known}, or its class passed")
    if not isinstance(policy, str | type) or (
        isinstance(policy, type) and not issubclass(policy, tuple(cls.policy_aliases.values()))
    ):
        found = policy.__name__ if isinstance(policy, type) else type(policy).__name__
        raise ModelFileError(name, f"the policy {found!r}", f"one of {known}, or a subclass")
    return policy


def _check_optimizer(state: dict[str, Any], own: dict[str, Any], weights: list[torch.nn.Parameter]) -> None:
    """Raise a ValueError unless a stored optimiser steps as the own one does; torch itself takes whatever it is given.

    The learning rate may be another one: it is set before each update. Settings that only one side knows are those of
    another version of torch, which puts in what is missing and never reads what it does not know.
    """
    for group, ours in zip(state["param_groups"], own["param_groups"], strict=True):
        free = {"lr", "initial_lr"}
        for key in sorted((ours.keys() & group.keys()) - free):
            got, expected = (_as_list(settings[key]) for settings in (group, ours))
            if got != expected:
                raise ValueError(f"optimizer's {key}: got {got}; expected {expected}")
    for index, moments in state["state"].items():
        shapes = {tuple(value.shape) for value in moments.values() if isinstance(value, torch.Tensor) and value.dim()}
        if shapes - {tuple(weights[int(index)].shape)}:
            raise ValueError(f"optimizer's state {index}: got {shapes}; expected {tuple(weights[int(index)].shape)}")


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
