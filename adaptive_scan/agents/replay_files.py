"""Replay buffers as one ``.npz`` file of arrays and a line of JSON, written by rename and read without pickle."""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_scan.files import FileContentError, write_npz, zip_fault

FORMAT_VERSION = 1
_FORMAT = "adaptive_scan replay"
_EXPECTED = "a replay buffer written by this package"
_GROUPS = ("episodes", "open")


class ReplayFileError(FileContentError):
    """A file that holds no whole replay buffer, or one that does not fit."""


Target = str | os.PathLike[str] | io.BufferedIOBase
"""A file by name, or an open one."""


def npz_path(path: str | os.PathLike[str]) -> Path:
    """The name with the suffix ``.npz``, in place of ``.pkl`` or added to whatever else is there.

    Example:
        >>> [npz_path(name).name for name in ("a.npz", "a.pkl", "a", "run_0.5")]
        ['a.npz', 'a.npz', 'a.npz', 'run_0.5.npz']
    """
    path = Path(path)
    return path.with_suffix(".npz") if path.suffix in (".npz", ".pkl") else path.with_name(f"{path.name}.npz")


def write_replay(target: Target, state: dict[str, Any]) -> None:
    """Write the state of an :class:`~adaptive_scan.agents.EpisodeReplayBuffer`; a file by name appears by rename.

    Args:
        target: Destination; the suffix of a name must be ``.npz``.
        state: What :meth:`EpisodeReplayBuffer.state_dict` gives.

    Raises:
        ValueError: If the suffix is another one.
        OSError: If the file cannot be written; a file by name is then as it was.
    """
    arrays = {f"{group}/{key}": values for group in _GROUPS for key, values in state[group].items()}
    arrays["open_steps"] = state["open_steps"]
    small = {"format": _FORMAT, "version": FORMAT_VERSION, **{name: state[name] for name in ("pos", "full", "rng")}}
    if state["priorities"] is not None:
        arrays["priorities"] = state["priorities"]["values"]
        small["largest_priority"] = state["priorities"]["largest"]
    arrays["state"] = np.array(json.dumps(small, allow_nan=False))
    if isinstance(target, io.BufferedIOBase):
        np.savez(target, **arrays)
    else:
        write_npz(target, **arrays)


def read_replay(target: Target) -> dict[str, Any]:
    """The state that :func:`write_replay` wrote; what is in a file never runs.

    Raises:
        ReplayFileError: If the file is missing, broken, pickled, of a later format or something else.
    """
    path = name_of(target)
    arrays = _read_arrays(target)
    state: dict[str, Any] = {group: {} for group in _GROUPS}
    text = arrays.pop("state", None)
    if text is None or text.shape != () or text.dtype.kind != "U":
        raise ReplayFileError(path, "no entry 'state'", _EXPECTED)
    state |= _read_small(path, text.item())
    for name, values in arrays.items():
        group, separator, key = name.partition("/")
        if separator and group in _GROUPS:
            state[group][key] = values
        elif name == "open_steps":
            state[name] = values
        elif name == "priorities" and state["priorities"] is not None:
            state[name]["values"] = values
        else:
            raise ReplayFileError(path, f"the entry {name!r}", _EXPECTED)
    if "open_steps" not in state or (state["priorities"] is not None and "values" not in state["priorities"]):
        raise ReplayFileError(path, "entries left out", _EXPECTED)
    return state


def name_of(target: Target) -> str:
    """What error messages call a file."""
    return "replay" if isinstance(target, io.BufferedIOBase) else str(target)


def _read_arrays(target: Target) -> dict[str, np.ndarray]:
    path = name_of(target)
    try:
        # np.load leaves a file that it cannot read open.
        with nullcontext(target) if isinstance(target, io.BufferedIOBase) else Path(target).open("rb") as file:
            fault = _fault(file)
            if fault is not None:
                raise ReplayFileError(path, fault, _EXPECTED)
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ReplayFileError(path, "a single array", _EXPECTED)
            arrays = {name: archive[name] for name in archive.files}
    except OSError as error:
        raise ReplayFileError(path, error.strerror or "nothing readable", _EXPECTED) from error
    except ReplayFileError:
        raise
    # KeyError, RuntimeError and NotImplementedError: entries misnamed, encrypted, or compressed in unknown ways.
    except (ValueError, EOFError, KeyError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ReplayFileError(path, f"no whole .npz archive ({error})", _EXPECTED) from error
    foreign = [name for name, values in arrays.items() if not isinstance(values, np.ndarray)]
    if foreign:
        raise ReplayFileError(path, f"the entry {foreign[0]!r}", _EXPECTED)
    return arrays


def _fault(file: Any) -> str | None:
    """What is wrong with an archive before anything in it is read; what is no archive is left to NumPy."""
    start = file.tell()
    fault = None
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            fault = zip_fault(archive)
    file.seek(start)
    return fault


def _read_small(path: str, text: str) -> dict[str, Any]:
    """Position, random state and largest priority from the JSON entry."""
    try:
        content = json.loads(text)
        if content["format"] != _FORMAT:
            raise ReplayFileError(path, f"the format {content['format']!r}", _EXPECTED)
        if not 1 <= int(content["version"]) <= FORMAT_VERSION:
            raise ReplayFileError(path, f"format version {content['version']}", f"a version up to {FORMAT_VERSION}")
        np.random.PCG64(0).state = content["rng"]  # refuses what is no state of a generator
        largest = content.get("largest_priority")
        priorities = None if largest is None else {"largest": float(largest)}
        if priorities is not None and not (math.isfinite(priorities["largest"]) and priorities["largest"] > 0):
            raise ReplayFileError(path, f"the largest priority {largest}", "a positive number")
        small = {"pos": int(content["pos"]), "full": bool(content["full"]), "rng": content["rng"]}
        return {**small, "priorities": priorities}
    except ReplayFileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ReplayFileError(path, f"an unreadable entry 'state' ({error})", _EXPECTED) from error
