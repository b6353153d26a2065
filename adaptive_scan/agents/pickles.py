"""The zip that Stable-Baselines3 itself writes; some of its entries are pickles, programs that run when they are read.

Weights are read by torch's weights-only reader, which builds tensors and runs nothing. What needs more is refused by
its name, unless whoever reads the file says that it is to be trusted.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import warnings
from collections.abc import Iterable
from typing import Any

import torch

from adaptive_scan.files import FileContentError

_SERIALIZED = ":serialized:"
# What reading a pickle raises where it is cut short, or names what is not installed here.
_UNREADABLE = (
    *(pickle.UnpicklingError, EOFError, ImportError, AttributeError, LookupError),
    *(TypeError, ValueError, RuntimeError, OSError),
)


class ModelFileError(FileContentError):
    """A file that holds no model, or one that this version cannot read.

    Example:
        >>> print(ModelFileError("agent.zip", "no whole zip archive", "a model file"))
        agent.zip: got no whole zip archive; expected a model file
    """


def _refusal(name: str, entry: str) -> ModelFileError:
    return ModelFileError(name, f"the pickled entry {entry!r}", "none, or trust_pickle=True for a file you trust")


def read_settings(content: bytes, name: str, wanted: Iterable[str], *, trust_pickle: bool) -> dict[str, Any]:
    """Those of ``wanted`` that the entry ``data`` has; of its pickled values no others are read.

    Args:
        content: The entry ``data``: JSON, in which ``":serialized:"`` marks a value that is pickled.
        name: Name of the file, for errors.
        wanted: Names of the values to read.
        trust_pickle: Whether pickled values are read.

    Raises:
        ModelFileError: If a value is pickled and not to be trusted, or the entry cannot be read.
    """
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(name, f"unreadable data ({error})", "the JSON of a model") from error
    if not isinstance(data, dict):
        raise ModelFileError(name, f"a {type(data).__name__} as data", "the JSON of a model")
    pickled = {
        key: value[_SERIALIZED] for key, value in data.items() if isinstance(value, dict) and _SERIALIZED in value
    }
    if pickled and not trust_pickle:
        raise _refusal(name, f"data: {next(iter(pickled))}")
    return {
        key: _unpickle(pickled[key], name, f"data: {key}") if key in pickled else data[key]
        for key in wanted
        if key in data
    }


def _unpickle(text: str, name: str, entry: str) -> Any:
    try:
        return pickle.loads(base64.b64decode(text))  # noqa: S301 (only of a file that is trusted)
    except _UNREADABLE as error:
        raise ModelFileError(name, f"the unreadable entry {entry!r} ({error})", "a whole pickle") from error


def read_weights(content: bytes, name: str, entry: str, *, trust_pickle: bool) -> Any:
    """What ``torch.save`` wrote, its tensors on the CPU.

    Args:
        content: The entry.
        name: Name of the file, for errors.
        entry: Name of the entry.
        trust_pickle: Whether an entry that holds more than weights is read.

    Raises:
        ModelFileError: If the entry holds more than weights and is not to be trusted, or cannot be read.

    Example:
        >>> stream = io.BytesIO()
        >>> torch.save({"weight": torch.ones(2)}, stream)
        >>> read_weights(stream.getvalue(), "model.zip", "policy.pth", trust_pickle=False)
        {'weight': tensor([1., 1.])}
    """
    try:
        with warnings.catch_warnings():
            # Of pickle protocols that torch did not write; the outcome says more.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not trust_pickle:
            raise _refusal(name, entry) from error
    except _UNREADABLE as error:
        raise ModelFileError(name, f"the unreadable entry {entry!r} ({error})", "what torch.save wrote") from error
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    except _UNREADABLE as error:
        raise ModelFileError(name, f"the unreadable entry {entry!r} ({error})", "what torch.save wrote") from error
