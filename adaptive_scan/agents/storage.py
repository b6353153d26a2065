"""Models and policies as files of JSON and safetensors; what is written here needs no pickle to be read.

A model is a zip with the entries ``data`` (JSON), ``policy.safetensors``, ``actor.optimizer.safetensors``,
``critic.optimizer.safetensors``, ``_format_version`` and ``_stable_baselines3_version``. Files of earlier versions are
brought up to the present one, a version at a time.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import check_for_correct_spaces, get_device

from adaptive_scan.agents.pickled import ModelFileError, read_settings, read_weights
from adaptive_scan.agents.plain_data import (
    noise_from_json,
    noise_to_json,
    settings_from_json,
    settings_to_json,
    space_from_json,
    space_to_json,
)
from adaptive_scan.files import replacing, zip_fault
from adaptive_scan.trees import read_tree, tree_from_bytes, tree_to_bytes, write_tree

if TYPE_CHECKING:
    from adaptive_scan.agents.pickle_free import PickleFreeAlgorithm
    from adaptive_scan.agents.policies import MemoryPolicy

    Model = TypeVar("Model", bound=PickleFreeAlgorithm)
    Policy = TypeVar("Policy", bound=MemoryPolicy)

FORMAT_VERSION = 2
POLICY_FORMAT_VERSION = 1
HYPERPARAMETERS = (
    *("learning_rate", "critic_learning_rate", "buffer_size", "max_episode_steps", "learning_starts", "batch_size"),
    *("tau", "gamma", "gradient_steps", "updates_per_batch", "n_target_steps", "policy_delay", "actor_learning_starts"),
    *("target_policy_noise", "target_noise_clip", "use_target_actor", "max_grad_norm", "policy_kwargs"),
    *("replay_buffer_class", "replay_buffer_kwargs", "compile_networks", "mixed_precision"),
    *("saturation_penalty", "stats_window_size", "verbose", "seed"),
)
# What stands in for a setting that could not be written in a model that only predicts.
_SPARE = {
    **{"learning_rate": 0.0, "tau": 0.0, "critic_learning_rate": None, "action_noise": None},
    **{"replay_buffer_class": None, "replay_buffer_kwargs": None},
}
# What a malformed file makes our readers raise.
_MALFORMED = (KeyError, TypeError, ValueError, OverflowError, MemoryError, RecursionError)
_DATA = {
    *("policy", "observation_space", "action_space", "hyperparameters", "left_out", "train_freq", "action_noise"),
    *("num_timesteps", "n_updates", "n_episodes"),
}
_COUNTS = {"num_timesteps": "num_timesteps", "n_updates": "_n_updates", "n_episodes": "_episode_num"}
_STATES = ("policy", "actor.optimizer", "critic.optimizer")
_OUR_STATES, _SB3_STATES = ({state: f"{state}.{suffix}" for state in _STATES} for suffix in ("safetensors", "pth"))
_VERSION = "_format_version"
_SB3_VERSION = "_stable_baselines3_version"
_OUR_ENTRIES = {"data", _VERSION, _SB3_VERSION, *_OUR_STATES.values()}
_SB3_NEEDED = {"data", *_SB3_STATES.values()}
_SB3_ENTRIES = {*_SB3_NEEDED, "pytorch_variables.pth", _SB3_VERSION, "system_info.txt"}


class StoredModel(NamedTuple):
    """What a file says of a model.

    Attributes:
        policy: Name of the policy, or its class.
        observation_space: Space of the observations.
        action_space: Space of the actions.
        settings: Arguments of the model's constructor.
        left_out: Those that could not be written.
        noise: Action noise as plain data.
        num_timesteps: Steps taken.
        n_updates: Updates done.
        n_episodes: Episodes ended.
    """

    policy: str | type
    observation_space: spaces.Space
    action_space: spaces.Space
    settings: dict[str, Any]
    left_out: list[str]
    noise: dict[str, Any] | None
    num_timesteps: int
    n_updates: int
    n_episodes: int


# Writing


def save_model(model: PickleFreeAlgorithm, path: str | os.PathLike[str] | io.BufferedIOBase) -> None:
    """Write a model as a zip of JSON and safetensors entries.

    Settings that are no plain data (functions of the progress, classes of one's own, noise of other kinds) are left
    out; whoever loads the model passes them again.
    """
    settings, left_out = settings_to_json({name: getattr(model, name) for name in HYPERPARAMETERS})
    noise = None if model.action_noise is None else noise_to_json(model.action_noise)
    if noise is None and model.action_noise is not None:
        left_out.append("action_noise")
    aliases = {policy: name for name, policy in model.policy_aliases.items()}
    data = {
        "policy": aliases.get(model.policy_class, model.policy_class.__name__),
        "observation_space": space_to_json(model.observation_space),
        "action_space": space_to_json(model.action_space),
        "hyperparameters": settings,
        "left_out": left_out,
        "train_freq": [model.train_freq.frequency, model.train_freq.unit.value],  # type: ignore[union-attr]
        "action_noise": noise,
        "num_timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
        "n_episodes": model._episode_num,
    }
    entries: dict[str, bytes] = {
        "data": json.dumps(data, indent=1, allow_nan=False).encode(),
        _VERSION: str(FORMAT_VERSION).encode(),
        _SB3_VERSION: stable_baselines3.__version__.encode(),
    }
    entries |= {_OUR_STATES[name]: tree_to_bytes(state) for name, state in model.get_parameters().items()}
    if isinstance(path, io.BufferedIOBase):
        _write_zip(path, entries)
        return
    destination = Path(path)
    with replacing(destination if destination.suffix else destination.with_suffix(".zip")) as temporary:
        _write_zip(temporary, entries)


def _write_zip(target: Path | io.BufferedIOBase, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in entries.items():
            # A fixed date keeps files of equal models equal byte by byte.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)


# Reading


def _locate(path: Any) -> tuple[Any, str]:
    """The file to open, and its name for errors."""
    if not isinstance(path, str | os.PathLike):
        return path, "model"
    path = Path(path)
    path = path if path.suffix or path.exists() else path.with_suffix(".zip")
    return path, str(path)


def _read_zip(path: Any, name: str) -> tuple[dict[str, bytes], int | None]:
    """The entries of a model's file, and the version of its format: None is the zip of Stable-Baselines3 itself."""
    try:
        with zipfile.ZipFile(path) as archive:
            fault = zip_fault(archive)
            if fault is not None:
                raise ModelFileError(name, fault, "entries stored once, as they are")
            names = archive.namelist()
            version = _read_version(archive.read(_VERSION), name) if _VERSION in names else None
            is_sb3 = version is None and any(entry.endswith(".pth") for entry in names)
            known, needed = (_SB3_ENTRIES, _SB3_NEEDED) if is_sb3 else (_OUR_ENTRIES, _OUR_ENTRIES)
            for entry in sorted(set(names) - known):
                raise ModelFileError(name, f"the entry {entry!r}", f"only {', '.join(sorted(known))}")
            for entry in sorted(needed - set(names)):
                raise ModelFileError(name, f"no entry {entry!r}", f"all of {', '.join(sorted(needed))}")
            return {entry: archive.read(entry) for entry in names}, version
    except OSError as error:
        raise ModelFileError(name, error.strerror or "nothing readable", "a model file") from error
    # RuntimeError: encrypted; NotImplementedError: compressed in a way that zipfile does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise ModelFileError(name, f"no whole zip archive ({error})", "a model file") from error


def _read_version(content: bytes, name: str) -> int:
    text = content.decode(errors="replace")
    if text in {str(version) for version in range(1, FORMAT_VERSION + 1)}:
        return int(text)
    expected = f"a version from 1 to {FORMAT_VERSION} (to read a later one, update adaptive_scan)"
    raise ModelFileError(name, f"format version {text!r}", expected)


def _from_version_1(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 replayed whole episodes from one kind of buffer, and kept neither noise nor the number of episodes."""
    new = {
        **{"replay_buffer_class": None, "replay_buffer_kwargs": None},
        **{"compile_networks": False, "mixed_precision": False, "saturation_penalty": 0.0, "stats_window_size": 100},
    }
    return {**data, "hyperparameters": {**new, **data["hyperparameters"]}, "action_noise": None, "n_episodes": 0}


_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_version_1}
"""What brings ``data`` of a version to the next one."""


def _read_description(data: bytes, version: int, name: str) -> StoredModel:
    try:
        content = json.loads(data)
        for earlier in range(version, FORMAT_VERSION):
            content = _MIGRATIONS[earlier](content)
        if content.keys() != _DATA:
            raise ValueError(f"{', '.join(sorted(content.keys() ^ _DATA))} instead of {', '.join(sorted(_DATA))}")
        frequency, unit = content["train_freq"]
        settings = settings_from_json(content["hyperparameters"])
        noise = content["action_noise"]
        stored = StoredModel(
            str(content["policy"]),
            space_from_json(content["observation_space"]),
            space_from_json(content["action_space"]),
            {**settings, "train_freq": (int(frequency), str(unit))},
            [str(setting) for setting in content["left_out"]],
            noise if noise is None else noise_to_json(noise_from_json(noise)),
            int(content["num_timesteps"]),
            int(content["n_updates"]),
            int(content["n_episodes"]),
        )
    except (*_MALFORMED, AttributeError) as error:
        raise ModelFileError(name, f"unreadable data ({error})", "the JSON of a model") from error
    for unknown in sorted(set(settings) - set(HYPERPARAMETERS)):
        raise ModelFileError(name, f"the setting {unknown!r}", f"only {', '.join(HYPERPARAMETERS)}")
    for missing in sorted(set(HYPERPARAMETERS) - set(settings)):
        raise ModelFileError(name, f"no setting {missing!r}", f"all of {', '.join(HYPERPARAMETERS)}")
    return stored


def _read_sb3_description(data: bytes, name: str, given: dict[str, Any], *, trust_pickle: bool) -> StoredModel:
    """What Stable-Baselines3's ``data`` says of a model; pickled values whose settings are given are not read."""
    attributes = {
        **{key: key for key in (*HYPERPARAMETERS, "train_freq", "action_noise") if key not in given},
        **({} if "policy" in given else {"policy": "policy_class"}),
        **{"observation_space": "observation_space", "action_space": "action_space"},
        **_COUNTS,
    }
    found = read_settings(data, name, attributes.values(), trust_pickle=trust_pickle)
    settings = {key: found[attribute] for key, attribute in attributes.items() if attribute in found}
    try:
        observation_space, action_space = settings.pop("observation_space"), settings.pop("action_space")
        if not (isinstance(observation_space, spaces.Space) and isinstance(action_space, spaces.Space)):
            raise TypeError("the spaces are none")
        num_timesteps, n_updates, n_episodes = (int(settings.pop(key)) for key in _COUNTS)
        if "train_freq" in settings:
            frequency, unit = settings["train_freq"]
            settings["train_freq"] = (int(frequency), str(getattr(unit, "value", unit)))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(name, f"unreadable data ({error})", "that of a model") from error
    policy = settings.pop("policy", given.get("policy"))
    noise = noise_to_json(settings["action_noise"]) if settings.get("action_noise") is not None else None
    if noise is not None:
        del settings["action_noise"]
    return StoredModel(
        policy, observation_space, action_space, settings, [], noise, num_timesteps, n_updates, n_episodes
    )


def _read_parameters(
    entries: dict[str, bytes], version: int | None, name: str, *, trust_pickle: bool
) -> dict[str, Any]:
    """Weights and states of the optimisers, by the names of ``get_parameters``."""
    if version is not None:
        try:
            return {state: tree_from_bytes(entries[entry], entry) for state, entry in _OUR_STATES.items()}
        except ValueError as error:
            raise ModelFileError(name, f"unfitting parameters ({error})", "those of its networks") from error
    variables = entries.get("pytorch_variables.pth")
    if variables is not None:
        others = read_weights(variables, name, "pytorch_variables.pth", trust_pickle=trust_pickle)
        if others:
            raise ModelFileError(name, "variables in 'pytorch_variables.pth'", "none beside the networks'")
    return {
        state: read_weights(entries[entry], name, entry, trust_pickle=trust_pickle)
        for state, entry in _SB3_STATES.items()
    }


def load_model(
    cls: type[Model],
    path: Any,
    *,
    env: Any = None,
    device: torch.device | str = "auto",
    trust_pickle: bool = False,
    **settings: Any,
) -> Model:
    """Rebuild a model of class ``cls`` from :func:`save_model`'s file, or from Stable-Baselines3's own.

    Args:
        cls: Class of the model.
        path: File to read, by name or open.
        env: Environment to go on with; without one the model predicts.
        device: Where the networks go.
        trust_pickle: Whether pickled entries, which can run any program, are read.
        settings: Settings that replace the stored ones; ``policy`` where that is a class of one's own.

    Raises:
        ModelFileError: If the file is missing, broken, of a later format, has a pickled entry and is not trusted, or
            holds an entry that the format does not know.
        ValueError: If a setting that could not be written is not passed again, the environment has other spaces, or
            ``policy_kwargs`` describe other networks.
    """
    file, name = _locate(path)
    entries, version = _read_zip(file, name)
    parameters = _read_parameters(entries, version, name, trust_pickle=trust_pickle)
    if version is None:
        found = _read_sb3_description(entries["data"], name, settings, trust_pickle=trust_pickle)
    else:
        found = _read_description(entries["data"], version, name)
    policy = _check_policy(cls, settings.pop("policy", found.policy), name)
    spare = {} if env is not None else {key: _SPARE[key] for key in found.left_out if key in _SPARE}
    given = {**spare, **settings}
    for setting in found.left_out:
        if setting not in given:
            raise ValueError(f"{setting}: could not be written with the model; expected it to be passed again")
    stored = found.settings.get("policy_kwargs")
    if "policy_kwargs" not in found.left_out and settings.get("policy_kwargs", stored) != stored:
        raise ValueError(f"policy_kwargs: got {settings['policy_kwargs']}; expected those of the file, {stored}")
    if env is not None:
        env = cls._wrap_env(env, int(found.settings.get("verbose", 0)))
        check_for_correct_spaces(env, found.observation_space, found.action_space)
    if found.noise is not None:
        given.setdefault("action_noise", noise_from_json(found.noise, None if env is None else env.num_envs))
    try:
        model = _make_model(cls, policy, env, found, device=device, **{**found.settings, **given})
    except (*_MALFORMED, AssertionError, RuntimeError) as error:
        if settings:
            raise
        raise ModelFileError(name, f"settings that make no model ({error})", "those of a model") from error
    _restore(model, parameters, name)
    model.num_timesteps, model._n_updates, model._episode_num = found.num_timesteps, found.n_updates, found.n_episodes
    return model


def _make_model(cls: type[Model], policy: Any, env: Any, found: StoredModel, **settings: Any) -> Model:
    """A model with new weights."""
    make: Any = cls
    model: Model = make(policy, env, _init_setup_model=False, **settings)
    if env is None:
        model.observation_space, model.action_space, model.n_envs = found.observation_space, found.action_space, 1
    model._setup_model()
    return model


def _check_policy(cls: type[PickleFreeAlgorithm], policy: Any, name: str) -> Any:
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


def load_parameters(model: PickleFreeAlgorithm, path: Any, *, exact_match: bool = True) -> None:
    """Put weights and states of the optimisers from a model's file into a model.

    Of a file of Stable-Baselines3's own, only entries that hold weights alone are read, and nothing else is opened.

    Args:
        model: The model that gets them.
        path: File to read, by name or open.
        exact_match: Whether all of them must be there.

    Raises:
        ModelFileError: If the file is missing or broken, its weights are pickled, or are another network's.
    """
    file, name = _locate(path)
    entries, version = _read_zip(file, name)
    _restore(model, _read_parameters(entries, version, name, trust_pickle=False), name, exact_match=exact_match)


def _restore(model: PickleFreeAlgorithm, parameters: dict[str, Any], name: str, *, exact_match: bool = True) -> None:
    """Put weights and states of the optimisers that were read from the file ``name`` into a model."""
    own = model.get_parameters()
    try:
        for part in ("actor.optimizer", "critic.optimizer"):
            if part in parameters:
                _check_optimizer(parameters[part], own[part], list(getattr(model, part.split(".")[0]).parameters()))
        model.set_parameters(parameters, exact_match=exact_match, device=model.device)
    # What torch raises where names, shapes or types differ from the networks'.
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(name, f"unfitting parameters ({error})", "those of its networks") from error


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


# Policies alone


def save_policy(policy: MemoryPolicy, path: str | os.PathLike[str]) -> None:
    """Write a policy as safetensors with a JSON header; the file appears by rename.

    Raises:
        TypeError: If its spaces are neither Boxes nor Dicts of them.
    """
    arguments = dict(policy._get_constructor_parameters())
    arguments.pop("lr_schedule", None)
    observation_space, action_space = (arguments.pop(key) for key in ("observation_space", "action_space"))
    settings, left_out = settings_to_json(arguments)
    content = {
        "policy_format_version": POLICY_FORMAT_VERSION,
        "observation_space": space_to_json(observation_space),
        "action_space": space_to_json(action_space),
        "settings": settings,
        "left_out": left_out,
        "state": policy.state_dict(),
    }
    write_tree(path, content)


def load_policy(
    cls: type[Policy], path: str | os.PathLike[str], *, device: torch.device | str = "auto", **settings: Any
) -> Policy:
    """Rebuild a policy of class ``cls`` from :func:`save_policy`'s file.

    Raises:
        TreeFileError: If the file is missing or broken.
        ModelFileError: If it holds no policy, or one of a later format.
        ValueError: If a setting that could not be written is not passed again.
    """
    content, name = read_tree(path), os.fspath(path)
    version = content.get("policy_format_version") if isinstance(content, dict) else None
    if version != POLICY_FORMAT_VERSION:
        raise ModelFileError(name, f"policy format version {version!r}", f"{POLICY_FORMAT_VERSION}, a saved policy's")
    try:
        observation_space, action_space = (
            space_from_json(content[key]) for key in ("observation_space", "action_space")
        )
        given = {**settings_from_json(content["settings"]), **settings}
        left_out, state = list(content["left_out"]), content["state"]
        if not isinstance(action_space, spaces.Box):
            raise TypeError(f"the actions are a {type(action_space).__name__}")
    except (*_MALFORMED, AttributeError) as error:
        raise ModelFileError(name, f"unreadable data ({error})", "that of a policy") from error
    for setting in left_out:
        if setting not in settings:
            raise ValueError(f"{setting}: could not be written with the policy; expected it to be passed again")
    policy = cls(observation_space, action_space, cls._dummy_schedule, **given)
    try:
        policy.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ModelFileError(name, f"unfitting parameters ({error})", "those of its networks") from error
    return policy.to(get_device(device))
