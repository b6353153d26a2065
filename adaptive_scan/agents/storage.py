"""Models as zip archives of JSON and safetensors entries; nothing here writes or reads a pickle."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import check_for_correct_spaces

from adaptive_scan.files import FileContentError, replacing
from adaptive_scan.trees import decode_tree, encode_tree, tree_from_bytes, tree_to_bytes

if TYPE_CHECKING:
    from adaptive_scan.agents.recurrent_td3 import RecurrentTD3

    Model = TypeVar("Model", bound=RecurrentTD3)

FORMAT_VERSION = 1
HYPERPARAMETERS = (
    *("learning_rate", "critic_learning_rate", "buffer_size", "max_episode_steps", "learning_starts", "batch_size"),
    *("tau", "gamma", "gradient_steps", "updates_per_batch", "n_target_steps", "policy_delay", "actor_learning_starts"),
    *("target_policy_noise", "target_noise_clip", "use_target_actor", "max_grad_norm", "policy_kwargs"),
    *("verbose", "seed"),
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
    """Write a model as a zip of JSON and safetensors entries.

    Settings that are no plain data (functions of the progress, classes) are left out; whoever loads the model passes
    them again.
    """
    settings = {name: getattr(model, name) for name in HYPERPARAMETERS}
    left_out = [name for name, value in settings.items() if not _is_plain(value)]
    known = {name: encode_tree(None if name in left_out else value, {}) for name, value in settings.items()}
    aliases = {policy: name for name, policy in model.policy_aliases.items()}
    data = {
        "policy": aliases.get(model.policy_class, model.policy_class.__name__),
        "observation_space": space_to_json(model.observation_space),
        "action_space": space_to_json(model.action_space),
        "hyperparameters": known,
        "left_out": left_out,
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


def _is_plain(value: Any) -> bool:
    arrays: dict[str, torch.Tensor] = {}
    try:
        encode_tree(value, arrays)
    except TypeError:
        return False
    return not arrays


def _write_zip(target: Path | io.BufferedIOBase, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in entries.items():
            # A fixed date keeps files of equal models equal byte by byte.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)


def _read_zip(path: Any, name: str) -> dict[str, bytes]:
    known = _ENTRIES | set(_STATES.values())
    try:
        with zipfile.ZipFile(path) as archive:
            unknown = sorted(set(archive.namelist()) - known)
            if unknown:
                raise ModelFileError(name, f"the entry {unknown[0]!r}", f"only {', '.join(sorted(known))}")
            entries = {entry: archive.read(entry) for entry in archive.namelist()}
    except OSError as error:
        raise ModelFileError(name, error.strerror or "nothing readable", "a model file") from error
    # RuntimeError: encrypted; NotImplementedError: compressed in a way that zipfile does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise ModelFileError(name, f"no whole zip archive ({error})", "a model file") from error
    missing = sorted(known - set(entries))
    if missing:
        raise ModelFileError(name, f"no entry {missing[0]!r}", f"all of {', '.join(sorted(known))}")
    version = entries["_format_version"].decode(errors="replace")
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        raise ModelFileError(name, f"format version {version!r}", f"a version up to {FORMAT_VERSION}")
    return entries


class _Description(NamedTuple):
    """What the entry ``data`` says of a model."""

    policy: str
    observation_space: spaces.Space
    action_space: spaces.Space
    settings: dict[str, Any]
    left_out: list[str]
    num_timesteps: int
    n_updates: int


def _read_description(data: bytes, name: str) -> _Description:
    try:
        content = json.loads(data)
        frequency, unit = content["train_freq"]
        settings = {key: decode_tree(value, {}) for key, value in content["hyperparameters"].items()}
        description = _Description(
            str(content["policy"]),
            space_from_json(content["observation_space"]),
            space_from_json(content["action_space"]),
            {**settings, "train_freq": (int(frequency), str(unit))},
            [str(setting) for setting in content["left_out"]],
            int(content["num_timesteps"]),
            int(content["n_updates"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(name, f"unreadable data ({error})", "the JSON of a model") from error
    unknown = sorted(set(settings) - set(HYPERPARAMETERS))
    if unknown:
        raise ModelFileError(name, f"the setting {unknown[0]!r}", f"only {', '.join(HYPERPARAMETERS)}")
    return description


def load_model(
    cls: type[Model], path: Any, *, env: Any = None, device: torch.device | str = "auto", **settings: Any
) -> Model:
    """Rebuild a model of class ``cls`` from :func:`save_model`'s file.

    Args:
        cls: Class of the model.
        path: File to read, by name or open.
        env: Environment to go on with; without one the model predicts.
        device: Where the networks go.
        settings: Settings that replace the stored ones; ``policy`` where that is a class of one's own.

    Raises:
        ModelFileError: If the file is missing, broken, of a later format, or holds an entry that the format does not
            know.
        ValueError: If a setting that could not be written is not passed again, or the environment has other spaces.
    """
    if isinstance(path, str | os.PathLike):
        path = Path(path)
        path = path if path.suffix or path.exists() else path.with_suffix(".zip")
    name = str(path) if isinstance(path, Path) else "model"
    entries = _read_zip(path, name)
    found = _read_description(entries["data"], name)
    policy = settings.pop("policy", found.policy)
    if isinstance(policy, str) and policy not in cls.policy_aliases:
        raise ModelFileError(
            name, f"the policy {policy!r}", f"one of {', '.join(cls.policy_aliases)}, or its class passed"
        )
    # A model that only predicts does without its schedules.
    spare = {} if env is not None else {"learning_rate": 0.0, "tau": 0.0, "critic_learning_rate": None}
    given = {**{key: spare[key] for key in found.left_out if key in spare}, **settings}
    needed = [setting for setting in found.left_out if setting not in given]
    if needed:
        raise ValueError(f"{needed[0]}: could not be written with the model; expected it to be passed again")
    if env is not None:
        env = cls._wrap_env(env, int(found.settings.get("verbose", 0)))
        check_for_correct_spaces(env, found.observation_space, found.action_space)
    model = cls(policy, env, device=device, _init_setup_model=False, **{**found.settings, **given})
    if env is None:
        model.observation_space, model.action_space, model.n_envs = found.observation_space, found.action_space, 1
    model._setup_model()
    _restore(model, entries, name)
    model.num_timesteps, model._n_updates = found.num_timesteps, found.n_updates
    return model


def _restore(model: RecurrentTD3, entries: dict[str, bytes], name: str) -> None:
    """Put the stored weights and optimiser states into a model."""
    try:
        parameters = {key: tree_from_bytes(entries[entry], entry) for key, entry in _STATES.items()}
        model.set_parameters(parameters, exact_match=True, device=model.device)
    # What torch raises where names, shapes or types differ from the networks'.
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(name, f"unfitting parameters ({error})", "those of its networks") from error
