"""Models as zip archives of JSON and safetensors entries; nothing here writes or reads a pickle."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces

from adaptive_scan.files import FileContentError, replacing
from adaptive_scan.trees import decode_tree, encode_tree, tree_from_bytes, tree_to_bytes

if TYPE_CHECKING:
    from adaptive_scan.agents.recurrent_td3 import RecurrentTD3

    Model = TypeVar("Model", bound=RecurrentTD3)

FORMAT_VERSION = 1
HYPERPARAMETERS = (
    *("learning_rate", "critic_learning_rate", "buffer_size", "max_episode_steps", "learning_starts", "batch_size"),
    *("tau", "gamma", "gradient_steps", "updates_per_batch", "n_target_steps", "policy_delay", "actor_learning_starts"),
    *(
        "target_policy_noise",
        "target_noise_clip",
        "use_target_actor",
        "max_grad_norm",
        "policy_kwargs",
        "verbose",
        "seed",
    ),
)
_ENTRIES = {"data", "_format_version", "_stable_baselines3_version"}
_STATES = {"policy": "policy.safetensors"} | {
    f"{part}.optimizer": f"{part}.optimizer.safetensors" for part in ("actor", "critic")
}


class ModelFileError(FileContentError):
    """A file that holds no model, or one that this version cannot read."""


def space_to_json(space: spaces.Space) -> dict[str, Any]:
    """A Box or a Dict of Boxes as a tree of lists, strings and numbers.

    Raises:
        TypeError: For other spaces.
    """
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "spaces": {key: space_to_json(part) for key, part in space.spaces.items()}}
    if isinstance(space, spaces.Box):
        bounds = {
            name: bound.flat[0].item() if (bound == bound.flat[0]).all() else bound.tolist()
            for name, bound in (("low", space.low), ("high", space.high))
        }
        return {"kind": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **encode_tree(bounds, {})}
    raise TypeError(f"space: got {space}; expected a Box or a Dict of them")


def space_from_json(data: dict[str, Any]) -> spaces.Space:
    """The space of :func:`space_to_json`.

    Example:
        >>> space_from_json(space_to_json(spaces.Box(-1.0, np.inf, (2,))))
        Box(-1.0, inf, (2,), float32)
    """
    if data["kind"] == "Dict":
        return spaces.Dict({key: space_from_json(part) for key, part in data["spaces"].items()})
    dtype = np.dtype(data["dtype"])
    low, high = (np.broadcast_to(np.asarray(decode_tree(data[k], {}), dtype), data["shape"]) for k in ("low", "high"))
    return spaces.Box(low.copy(), high.copy(), dtype=dtype.type)


def save_model(model: RecurrentTD3, path: str | os.PathLike[str] | io.BufferedIOBase) -> None:
    """Write a model as a zip of JSON and safetensors entries."""
    settings = {name: getattr(model, name) for name in HYPERPARAMETERS}
    # A function of the progress cannot be written down; whoever loads the model passes it again.
    settings = {name: None if callable(value) else value for name, value in settings.items()}
    data = {
        "policy": next(
            (k for k, v in model.policy_aliases.items() if v is model.policy_class), model.policy_class.__name__
        ),
        "observation_space": space_to_json(model.observation_space),
        "action_space": space_to_json(model.action_space),
        "hyperparameters": settings,
        "left_out": [name for name in HYPERPARAMETERS if callable(getattr(model, name))],
        "train_freq": [model.train_freq.frequency, model.train_freq.unit.value],  # type: ignore[union-attr]
        "num_timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
    }
    entries: dict[str, bytes] = {
        "data": json.dumps(data, indent=1, allow_nan=False).encode(),
        "_format_version": str(FORMAT_VERSION).encode(),
        "_stable_baselines3_version": stable_baselines3.__version__.encode(),
    }
    parameters = model.get_parameters()
    entries |= {_STATES[name]: tree_to_bytes(state) for name, state in parameters.items()}
    if isinstance(path, io.BufferedIOBase):
        _write_zip(path, entries)
        return
    destination = Path(path)
    with replacing(destination if destination.suffix else destination.with_suffix(".zip")) as temporary:
        _write_zip(temporary, entries)


def _write_zip(target: Path | io.BufferedIOBase, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(target, "w") as archive:  # type: ignore[arg-type]
        for name, content in entries.items():
            # A fixed date keeps files of equal models equal byte by byte.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)


def _read_zip(path: Any) -> dict[str, bytes]:
    name = path if isinstance(path, str | os.PathLike) else "model"
    known = _ENTRIES | set(_STATES.values())
    try:
        with zipfile.ZipFile(path) as archive:
            unknown = sorted(set(archive.namelist()) - known)
            if unknown:
                raise ModelFileError(name, f"the entry {unknown[0]!r}", f"only {', '.join(sorted(known))}")
            entries = {entry: archive.read(entry) for entry in archive.namelist()}
    except OSError as error:
        raise ModelFileError(name, error.strerror or "nothing readable", "a model file") from error
    except zipfile.BadZipFile as error:
        raise ModelFileError(name, "no whole zip archive", "a model file") from error
    missing = sorted(known - set(entries))
    if missing:
        raise ModelFileError(name, f"no entry {missing[0]!r}", f"all of {', '.join(sorted(known))}")
    version = entries["_format_version"].decode()
    if not version.isdigit() or int(version) > FORMAT_VERSION:
        raise ModelFileError(name, f"format version {version!r}", f"a version up to {FORMAT_VERSION}")
    return entries


def load_model(
    cls: type[Model], path: Any, *, env: Any = None, device: torch.device | str = "auto", **settings: Any
) -> Model:
    """Rebuild a model of class ``cls`` from :func:`save_model`'s file.

    Raises:
        ModelFileError: If the file is missing, broken, of a later format, or holds an entry that the format does not know.
        ValueError: If a setting was a function when the model was saved and is not passed again.
    """
    if isinstance(path, str | os.PathLike):
        path = Path(path)
        path = path if path.suffix or path.exists() else path.with_suffix(".zip")
    entries = _read_zip(path)
    name = path if isinstance(path, Path) else "model"
    try:
        data = json.loads(entries["data"])
        hyperparameters, policy = data["hyperparameters"], data["policy"]
        observation_space, action_space = (space_from_json(data[f"{k}_space"]) for k in ("observation", "action"))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
        raise ModelFileError(name, f"unreadable data ({error})", "the JSON of a model") from error
    needed = [setting for setting in data["left_out"] if env is not None and setting not in settings]
    if needed:
        raise ValueError(f"load: {needed[0]} was a function when the model was saved; expected it to be passed again")
    # A model that only predicts needs neither its schedules nor room for replay.
    fallback = {"learning_rate": 0.0, "tau": 0.0}
    restored = {k: fallback.get(k) if v is None and k in fallback else v for k, v in hyperparameters.items()}
    if policy not in cls.policy_aliases:
        raise ModelFileError(name, f"the policy {policy!r}", f"one of {', '.join(cls.policy_aliases)}")
    model = cls(policy, None, device=device, _init_setup_model=False, **{**restored, **settings})
    model.train_freq = tuple(data["train_freq"])  # type: ignore[assignment]
    model.observation_space, model.action_space = observation_space, action_space
    model.n_envs = 1
    if env is not None:
        wrapped = model._wrap_env(env, model.verbose)
        stable_baselines3.common.base_class.check_for_correct_spaces(wrapped, observation_space, action_space)
        model.env, model.n_envs = wrapped, wrapped.num_envs
    else:
        model.buffer_size = 1
    model._setup_model()
    parameters = {key: tree_from_bytes(entries[entry], f"{name}:{entry}") for key, entry in _STATES.items()}
    model.set_parameters(parameters, exact_match=True, device=device)
    model.num_timesteps, model._n_updates = data["num_timesteps"], data["n_updates"]
    return model
