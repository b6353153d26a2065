"""Spaces, exploration noise and arguments of constructors as plain data: what agents' files hold beside the weights.

Arguments are whatever a caller passed, tuples and known classes among them, so they are written as trees are
(`adaptive_scan.trees`); settings that are dataclasses have a codec of their own, `adaptive_scan.settings`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from torch import Tensor

from adaptive_scan.agents.noise import ExplorationNoise, GaussianNoise, OrnsteinUhlenbeckNoise
from adaptive_scan.agents.replay import EpisodeReplayBuffer, FieldSpec
from adaptive_scan.trees import decode_tree, encode_tree

KNOWN_CLASSES: dict[str, type] = {
    each.__name__: each for each in (FlattenExtractor, NatureCNN, CombinedExtractor, EpisodeReplayBuffer, FieldSpec)
}
"""Classes that files name; a file gets no other."""

_NOISES: dict[str, tuple[type[ExplorationNoise], tuple[str, ...]]] = {
    "GaussianNoise": (GaussianNoise, ("sigma", "final_scale")),
    "OrnsteinUhlenbeckNoise": (OrnsteinUhlenbeckNoise, ("sigma", "final_scale", "theta")),
}


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """A space that Stable-Baselines3 learns from as a tree of lists, strings and numbers.

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
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": list(space.n) if isinstance(space.n, tuple) else int(space.n)}
    raise TypeError(f"space: got {space}; expected a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict of them")


def space_from_json(data: dict[str, Any]) -> spaces.Space[Any]:
    """The space of :func:`space_to_json`.

    Example:
        >>> space_from_json(space_to_json(spaces.Box(-1.0, np.inf, (2,))))
        Box(-1.0, inf, (2,), float32)
    """
    if data["kind"] == "Dict":
        return spaces.Dict({key: space_from_json(part) for key, part in data["spaces"].items()})
    if data["kind"] == "Discrete":
        return spaces.Discrete(data["n"], start=data["start"])
    if data["kind"] == "MultiDiscrete":
        return spaces.MultiDiscrete(data["nvec"])
    if data["kind"] == "MultiBinary":
        return spaces.MultiBinary(data["n"])
    dtype = np.dtype(data["dtype"])
    low, high = (np.broadcast_to(np.asarray(decode_tree(data[k], {}), dtype), data["shape"]) for k in ("low", "high"))
    return spaces.Box(low.copy(), high.copy(), dtype=dtype.type)


def noise_to_json(noise: ActionNoise) -> dict[str, Any] | None:
    """Gaussian or Ornstein-Uhlenbeck noise with the state of its generator as plain data; None for any other noise."""
    name = type(noise).__name__
    kind, arguments = _NOISES.get(name, (None, ()))
    if kind is not type(noise) or not isinstance(noise, ExplorationNoise):
        return None
    content = {
        "kind": name,
        "n_envs": noise.n_envs,
        "arguments": {argument: getattr(noise, argument) for argument in arguments},
        "state": noise.state_dict(),
    }
    encoded: dict[str, Any] = encode_tree(_arrays_as_lists(content), {})
    return encoded


def _arrays_as_lists(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _arrays_as_lists(value) for key, value in node.items()}
    return node.tolist() if isinstance(node, np.ndarray) else node


def noise_from_json(data: dict[str, Any], n_envs: int | None = None) -> ExplorationNoise:
    """The noise of :func:`noise_to_json`, going on with the same sequence.

    Args:
        data: What :func:`noise_to_json` returned.
        n_envs: Number of environments; None is as many as there were. For another number the processes start from 0.

    Example:
        >>> noise = OrnsteinUhlenbeckNoise(2, np.array([0.3]), theta=0.5, seed=1)
        >>> again = noise_from_json(noise_to_json(noise))
        >>> bool((again() == noise()).all())
        True
    """
    content = decode_tree(data, {})
    kind, _ = _NOISES[content["kind"]]
    noise = kind(int(content["n_envs"]) if n_envs is None else n_envs, **content["arguments"])
    state = content["state"]
    if noise.n_envs != content["n_envs"]:
        state = {**noise.state_dict(), **{key: state[key] for key in ("rng", "scale")}}
    noise.load_state_dict(state)
    return noise


def arguments_to_json(settings: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Arguments by name as plain data, and the names of those that have no such form, which are written as None.

    Example:
        >>> arguments_to_json({"gamma": 0.9, "features": NatureCNN, "learning_rate": lambda progress: 1.0})
        ({'gamma': 0.9, 'features': {'__class__': 'NatureCNN'}, 'learning_rate': None}, ['learning_rate'])
    """
    left_out = [name for name, value in settings.items() if not _is_plain(value)]
    written = {name: None if name in left_out else value for name, value in settings.items()}
    return {name: encode_tree(value, {}, KNOWN_CLASSES) for name, value in written.items()}, left_out


def _is_plain(value: Any) -> bool:
    arrays: dict[str, Tensor] = {}
    try:
        encode_tree(value, arrays, KNOWN_CLASSES)
    except TypeError:
        return False
    return not arrays


def arguments_from_json(data: dict[str, Any]) -> dict[str, Any]:
    """The arguments of :func:`arguments_to_json`.

    Raises:
        KeyError: If a class is named that files may not name.
    """
    return {name: decode_tree(value, {}, KNOWN_CLASSES) for name, value in data.items()}
