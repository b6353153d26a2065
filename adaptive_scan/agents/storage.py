"""Models and policies as files of JSON and safetensors; what is written here needs no pickle to be read.

Nothing here knows the classes of models and policies: what goes into a file and what comes out of it is plain data, and
those classes make themselves from it. A model is a zip with the entries ``data`` (JSON), ``policy.safetensors``,
``actor.optimizer.safetensors``, ``critic.optimizer.safetensors``, ``_format_version`` and
``_stable_baselines3_version``. Files of earlier versions are brought up to the present one, a version at a time.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import stable_baselines3
from gymnasium import spaces

from adaptive_scan.agents.pickles import ModelFileError, read_settings, read_weights
from adaptive_scan.agents.plain_data import (
    arguments_from_json,
    arguments_to_json,
    noise_from_json,
    noise_to_json,
    space_from_json,
    space_to_json,
)
from adaptive_scan.errors import SettingError
from adaptive_scan.files import replacing, zip_fault
from adaptive_scan.trees import read_tree, tree_from_bytes, tree_to_bytes, write_tree

FORMAT_VERSION = 2
POLICY_FORMAT_VERSION = 1
HYPERPARAMETERS = (
    *("learning_rate", "critic_learning_rate", "buffer_size", "max_episode_steps", "learning_starts", "batch_size"),
    *("tau", "gamma", "gradient_steps", "updates_per_batch", "n_target_steps", "policy_delay", "actor_learning_starts"),
    *("target_policy_noise", "target_noise_clip", "use_target_actor", "max_grad_norm", "policy_kwargs"),
    *("replay_buffer_class", "replay_buffer_kwargs", "compile_networks", "mixed_precision"),
    *("saturation_penalty", "stats_window_size", "verbose", "seed"),
)
# What a malformed file makes our readers raise.
MALFORMED = (KeyError, TypeError, ValueError, OverflowError, MemoryError, RecursionError)
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
    """What a file holds of a model.

    Attributes:
        policy: Name of the policy, or its class.
        observation_space: Space of the observations.
        action_space: Space of the actions.
        settings: Arguments of the model's constructor: `HYPERPARAMETERS` and ``train_freq``.
        left_out: Those that could not be written.
        noise: Action noise as plain data.
        num_timesteps: Steps taken.
        n_updates: Updates done.
        n_episodes: Episodes ended.
        parameters: Weights and states of the optimisers, by the names of Stable-Baselines3's ``get_parameters``.
        name: What error messages call the file.
    """

    policy: str | type
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    settings: dict[str, Any]
    left_out: list[str]
    noise: dict[str, Any] | None
    num_timesteps: int
    n_updates: int
    n_episodes: int
    parameters: dict[str, Any]
    name: str = "model"


class StoredPolicy(NamedTuple):
    """What a file holds of a policy.

    Attributes:
        observation_space: Space of the observations.
        action_space: Space of the actions.
        settings: All further arguments of its constructor but the learning rate.
        state: The weights of its networks by name.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Box
    settings: dict[str, Any]
    state: dict[str, Any]


# Writing


def write_model(path: str | os.PathLike[str] | io.BufferedIOBase, model: StoredModel) -> None:
    """Write a model as a zip of JSON and safetensors entries; a file by name appears by rename.

    Settings that are no plain data (functions of the progress, classes of one's own) are left out; whoever loads the
    model passes them again.

    Args:
        path: File to write, by name or open; ``.zip`` is added where a suffix is missing.
        model: What goes into it.
    """
    settings, left_out = arguments_to_json({name: model.settings[name] for name in HYPERPARAMETERS})
    frequency, unit = model.settings["train_freq"]
    data = {
        "policy": model.policy,
        "observation_space": space_to_json(model.observation_space),
        "action_space": space_to_json(model.action_space),
        "hyperparameters": settings,
        "left_out": [*left_out, *model.left_out],
        "train_freq": [frequency, unit],
        "action_noise": model.noise,
        "num_timesteps": model.num_timesteps,
        "n_updates": model.n_updates,
        "n_episodes": model.n_episodes,
    }
    entries: dict[str, bytes] = {
        "data": json.dumps(data, indent=1, allow_nan=False).encode(),
        _VERSION: str(FORMAT_VERSION).encode(),
        _SB3_VERSION: stable_baselines3.__version__.encode(),
    }
    entries |= {_OUR_STATES[name]: tree_to_bytes(state) for name, state in model.parameters.items()}
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


def read_model(path: Any, given: dict[str, Any], *, trust_pickle: bool = False) -> StoredModel:
    """What :func:`write_model` wrote, or Stable-Baselines3's own ``save``.

    Args:
        path: File to read, by name or open.
        given: Settings that replace the stored ones, which need not be readable then.
        trust_pickle: Whether pickled entries, which can run any program, are read.

    Raises:
        ModelFileError: If the file is missing, broken, of a later format, has a pickled entry and is not trusted, or
            holds an entry that the format does not know.
    """
    file, name = _locate(path)
    entries, version = _read_zip(file, name)
    parameters = _read_parameters(entries, version, name, trust_pickle=trust_pickle)
    if version is None:
        return _read_sb3_description(entries["data"], name, given, parameters, trust_pickle=trust_pickle)
    return _read_description(entries["data"], version, name, parameters)


def read_parameters(path: Any) -> tuple[dict[str, Any], str]:
    """Weights and states of the optimisers from a model's file, and what error messages call it.

    Of a file of Stable-Baselines3's own, only entries that hold weights alone are read, and nothing else is opened.

    Args:
        path: File to read, by name or open.

    Raises:
        ModelFileError: If the file is missing or broken, or its weights are pickled.
    """
    file, name = _locate(path)
    entries, version = _read_zip(file, name)
    return _read_parameters(entries, version, name, trust_pickle=False), name


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


def _read_description(data: bytes, version: int, name: str, parameters: dict[str, Any]) -> StoredModel:
    try:
        content = json.loads(data)
        for earlier in range(version, FORMAT_VERSION):
            content = _MIGRATIONS[earlier](content)
        if content.keys() != _DATA:
            raise ValueError(f"{', '.join(sorted(content.keys() ^ _DATA))} instead of {', '.join(sorted(_DATA))}")
        frequency, unit = content["train_freq"]
        settings = arguments_from_json(content["hyperparameters"])
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
            parameters,
            name,
        )
    except (*MALFORMED, AttributeError) as error:
        raise ModelFileError(name, f"unreadable data ({error})", "the JSON of a model") from error
    for unknown in sorted(set(settings) - set(HYPERPARAMETERS)):
        raise ModelFileError(name, f"the setting {unknown!r}", f"only {', '.join(HYPERPARAMETERS)}")
    for missing in sorted(set(HYPERPARAMETERS) - set(settings)):
        raise ModelFileError(name, f"no setting {missing!r}", f"all of {', '.join(HYPERPARAMETERS)}")
    return stored


def _read_sb3_description(
    data: bytes, name: str, given: dict[str, Any], parameters: dict[str, Any], *, trust_pickle: bool
) -> StoredModel:
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
    counts = num_timesteps, n_updates, n_episodes
    return StoredModel(policy, observation_space, action_space, settings, [], noise, *counts, parameters, name)


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


# Policies alone


def write_policy(path: str | os.PathLike[str], arguments: dict[str, Any], state: dict[str, Any]) -> None:
    """Write a policy as safetensors with a JSON header; the file appears by rename.

    Args:
        path: File to write.
        arguments: Those of its constructor by name.
        state: Its weights by name.

    Raises:
        TypeError: If its spaces are neither Boxes nor Dicts of them.
    """
    arguments = {name: value for name, value in arguments.items() if name != "lr_schedule"}
    observation_space, action_space = (arguments.pop(key) for key in ("observation_space", "action_space"))
    settings, left_out = arguments_to_json(arguments)
    content = {
        "policy_format_version": POLICY_FORMAT_VERSION,
        "observation_space": space_to_json(observation_space),
        "action_space": space_to_json(action_space),
        "settings": settings,
        "left_out": left_out,
        "state": state,
    }
    write_tree(path, content)


def read_policy(path: str | os.PathLike[str], given: dict[str, Any]) -> StoredPolicy:
    """What :func:`write_policy` wrote.

    Args:
        path: File to read.
        given: Settings that replace the stored ones, or could not be written.

    Raises:
        TreeFileError: If the file is missing or broken.
        ModelFileError: If it holds no policy, or one of a later format.
        SettingError: If a setting that could not be written is not given.
    """
    content, name = read_tree(path), os.fspath(path)
    version = content.get("policy_format_version") if isinstance(content, dict) else None
    if version != POLICY_FORMAT_VERSION:
        raise ModelFileError(name, f"policy format version {version!r}", f"{POLICY_FORMAT_VERSION}, a saved policy's")
    try:
        observation_space, action_space = (
            space_from_json(content[key]) for key in ("observation_space", "action_space")
        )
        settings = {**arguments_from_json(content["settings"]), **given}
        left_out, state = list(content["left_out"]), content["state"]
        if not isinstance(action_space, spaces.Box):
            raise TypeError(f"the actions are a {type(action_space).__name__}")
    except (*MALFORMED, AttributeError) as error:
        raise ModelFileError(name, f"unreadable data ({error})", "that of a policy") from error
    check_left_out(left_out, given, "policy")
    return StoredPolicy(observation_space, action_space, settings, state)


def check_left_out(left_out: list[str], given: Collection[str], what: str) -> None:
    """Refuse to make a model or a policy without a setting that its file could not hold.

    Raises:
        SettingError: If one of ``left_out`` is not ``given``; the message names it.
    """
    for setting in left_out:
        if setting not in given:
            raise SettingError(f"{setting}: could not be written with the {what}; expected it to be passed again")
