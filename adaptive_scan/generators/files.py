"""Generators on disk: safetensors with a JSON header, written by rename, read without pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from adaptive_scan.errors import SettingError
from adaptive_scan.files import FileContentError, write_atomically
from adaptive_scan.generators.networks import GENERATORS

FORMAT_VERSION = 1
GENERATOR_HEADER = "adaptive_scan.generator"


class GeneratorFileError(FileContentError):
    """A file that should hold a generator and does not.

    Example:
        >>> str(GeneratorFileError("net.safetensors", "no such file", "a generator file"))
        'net.safetensors: got no such file; expected a generator file'
    """


def _write(path: Path, header_name: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors and one JSON header; ``path`` appears whole or not at all."""
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, save(contiguous, metadata={header_name: json.dumps(header)}))


def _read(path: Path, header_name: str, expected: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON header and the tensors of a file, or a GeneratorFileError that says what it is instead."""
    if not path.is_file():
        raise GeneratorFileError(path, "a folder" if path.is_dir() else "no such file", expected)
    try:
        with safe_open(path, framework="pt") as opened:
            headers = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise GeneratorFileError(path, f"no whole safetensors file ({error})", expected) from error
    if header_name not in headers:
        found = f"a safetensors file with the headers {sorted(headers)}" if headers else "a bare safetensors file"
        raise GeneratorFileError(path, found, f"{expected} with the header {header_name}")
    try:
        header = json.loads(headers[header_name])
    except json.JSONDecodeError as error:
        raise GeneratorFileError(path, f"a header that is not JSON ({error})", expected) from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if version != FORMAT_VERSION:
        raise GeneratorFileError(path, f"format version {version!r}", f"format version {FORMAT_VERSION}")
    return header, tensors


def _plain(network: nn.Module) -> nn.Module:
    """The network itself where ``torch.compile`` has wrapped it: a file knows nothing of how it was run."""
    inner = getattr(network, "_orig_mod", network)
    return inner if isinstance(inner, nn.Module) else network


def _kind_of(network: nn.Module) -> str:
    """Name of a network's class in ``GENERATORS``."""
    for kind, network_class in GENERATORS.items():
        if type(network) is network_class:
            return kind
    raise SettingError(f"network: got a {type(network).__name__}; expected one of {', '.join(GENERATORS)}")


def save_generator(
    network: nn.Module, path: str | os.PathLike[str], *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a generator: safetensors with a JSON header {format_version, kind, config, metadata}.

    The file appears by rename: a killed process leaves the previous file or the new one, never a part.

    Args:
        network: One of the classes in ``GENERATORS``, compiled or not.
        path: File to write; missing folders are made.
        metadata: Anything JSON can hold, kept with the network (training settings, losses).

    Raises:
        ValueError: If the network is of another class.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> save_generator(GENERATORS["unet"](), f"{folder.name}/unet.safetensors", metadata={"step": 3})
        >>> read_generator_header(f"{folder.name}/unet.safetensors")["metadata"]
        {'step': 3}
        >>> folder.cleanup()
    """
    network = _plain(network)
    header = {
        "format_version": FORMAT_VERSION,
        "kind": _kind_of(network),
        "config": network.config,
        "metadata": dict(metadata or {}),
    }
    _write(Path(path), GENERATOR_HEADER, header, network.state_dict())


def read_generator_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Header of a generator file: ``format_version``, ``kind``, ``config`` and ``metadata``.

    Raises:
        GeneratorFileError: If the file is missing, truncated or no generator file.
    """
    return _read(Path(path), GENERATOR_HEADER, "a generator file")[0]


def load_generator(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> nn.Module:
    """Read a generator that ``save_generator`` wrote, in evaluation mode.

    Args:
        path: The file.
        device: Where the network goes.

    Returns:
        The network, rebuilt from the header and filled with the tensors.

    Raises:
        GeneratorFileError: If the file is missing, truncated, foreign, of an unknown kind, or its tensors do
            not fit the network that the header describes.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> save_generator(GENERATORS["unet"](n_levels=2), f"{folder.name}/unet.safetensors")
        >>> load_generator(f"{folder.name}/unet.safetensors").config["n_levels"]
        2
        >>> folder.cleanup()
    """
    path = Path(path)
    header, tensors = _read(path, GENERATOR_HEADER, "a generator file")
    kind, config = header.get("kind"), header.get("config")
    if kind not in GENERATORS:
        raise GeneratorFileError(path, f"a generator of kind {kind!r}", f"one of {', '.join(GENERATORS)}")
    try:
        network = GENERATORS[kind](**(config if isinstance(config, dict) else {"config": config}))
    except (TypeError, ValueError) as error:
        raise GeneratorFileError(path, f"the configuration {config}", f"one of {kind} ({error})") from error
    _check_tensors(path, kind, tensors, network.state_dict())
    network.load_state_dict(tensors)
    return network.to(device).eval()


def _check_tensors(path: Path, kind: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise a GeneratorFileError at the first tensor that is missing, left over or of another shape or type."""
    for name in sorted(found.keys() | expected.keys()):
        there = f"{found[name].dtype} {tuple(found[name].shape)}" if name in found else "nothing"
        wanted = f"{expected[name].dtype} {tuple(expected[name].shape)}" if name in expected else "nothing"
        if there != wanted:
            raise GeneratorFileError(path, f"{there} as {name}", f"{wanted} there in a {kind} generator")
