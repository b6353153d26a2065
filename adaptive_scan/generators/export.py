"""Generators for other programs: a ``torch.export`` program, or an ONNX file.

Both hold the graph of one network in evaluation mode, for one size of picture and any number of scans, with the
network's JSON header. They are made from a generator's safetensors file, which stays the source: of the two only ONNX
files are read back here, by :class:`OnnxCompleter`, and they hold no pickle.
"""

from __future__ import annotations

import copy
import importlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from adaptive_scan.errors import SettingError
from adaptive_scan.files import replacing
from adaptive_scan.generators.files import GENERATOR_HEADER

INPUT, OUTPUT = "partial_scans", "completions"
"""Names of what goes in, (n_scans, 2, S, S), and of what comes out, (n_scans, 1, S, S)."""

HEADER_FILE = f"{GENERATOR_HEADER}.json"
"""Extra file of a program that holds the header."""

_N_SCANS = Dim("n_scans")
_N_EXAMPLES = 2  # with 1, the exporter would take the number of scans for a constant


class MissingExtraError(ImportError):
    """A package that only exporting needs and that is not installed."""


def _frozen(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode on the CPU, its tensors in the plain layout, which alone can be written raw."""
    frozen = copy.deepcopy(network).cpu().eval()
    for tensor in (*frozen.parameters(), *frozen.buffers()):
        tensor.data = tensor.data.contiguous()
    return frozen.requires_grad_(False)


def _example(network: nn.Module, image_size: int) -> Tensor:
    stride = getattr(network, "stride", 1)
    if image_size < 1 or image_size % stride:
        raise SettingError(f"image_size: got {image_size} px; expected a positive multiple of {stride}")
    return torch.zeros(_N_EXAMPLES, 2, image_size, image_size)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say about their own insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # PyTorch 2.13 copies an object that it has deprecated itself.
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def trace_generator(network: nn.Module, image_size: int) -> ExportedProgram:
    """The graph of a network in evaluation mode, for any number of scans.

    Args:
        network: A generator; it is left as it is.
        image_size: Side S of the partial scans [px].

    Returns:
        The program; ``program.module()`` is called as the network is.

    Raises:
        ValueError: If the network does not take pictures of this size.

    Example:
        >>> from adaptive_scan.generators import UNetGenerator
        >>> program = trace_generator(UNetGenerator(n_channels=2, n_levels=1), 8)
        >>> program.module()(torch.zeros(3, 2, 8, 8)).shape
        torch.Size([3, 1, 8, 8])
    """
    example = _example(network, image_size)
    with _quiet(), torch.no_grad():
        return torch.export.export(_frozen(network), (example,), dynamic_shapes=({0: _N_SCANS},), strict=False)


def export_program(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    image_size: int,
    header: Mapping[str, Any] | None = None,
) -> ExportedProgram:
    """Write a network as a ``torch.export`` program, which PyTorch runs without this package.

    ``torch.export.load(path).module()`` completes partial scans; the header is the extra file `HEADER_FILE`.

    Args:
        network: A generator; it is left as it is.
        path: File to write, with the suffix ``.pt2``; it appears whole or not at all.
        image_size: Side S of the partial scans [px].
        header: Header of the generator's file, as `read_generator_header` gives it.

    Returns:
        The program that the file holds.

    Raises:
        ValueError: If the suffix is another one or the network does not take pictures of this size.
        OSError: If the file cannot be written.
    """
    _check_suffix(path, ".pt2")
    program = trace_generator(network, image_size)
    with replacing(path) as temporary, _quiet():
        torch.export.save(program, temporary, extra_files={HEADER_FILE: _header_text(header, image_size)})
    return program


def export_onnx(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    image_size: int,
    header: Mapping[str, Any] | None = None,
) -> None:
    """Write a network as an ONNX file, input ``partial_scans`` and output ``completions``.

    The header is the metadata entry ``adaptive_scan.generator``. What compiled loops do in the package is in the graph
    as operations on tensors, so that any runtime of ONNX has all it needs.

    Args:
        network: A generator; it is left as it is.
        path: File to write, with the suffix ``.onnx``; it appears whole or not at all.
        image_size: Side S of the partial scans [px].
        header: Header of the generator's file, as `read_generator_header` gives it.

    Raises:
        ValueError: If the suffix is another one or the network does not take pictures of this size.
        MissingExtraError: If onnx or onnxscript is not installed.
        OSError: If the file cannot be written.
    """
    _check_suffix(path, ".onnx")
    example = _example(network, image_size)
    for package in ("onnx", "onnxscript"):
        _require(package)
    with _quiet(), torch.no_grad():
        made = torch.onnx.export(
            _frozen(network),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: _N_SCANS},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            external_data=False,
            verbose=False,
        )
    assert made is not None  # with dynamo
    made.model.metadata_props[GENERATOR_HEADER] = _header_text(header, image_size)
    with replacing(path) as temporary:
        made.save(os.fspath(temporary))


def _check_suffix(path: str | os.PathLike[str], suffix: str) -> None:
    if Path(path).suffix != suffix:
        raise SettingError(f"{os.fspath(path)}: got suffix {Path(path).suffix!r}; expected {suffix!r}")


def _header_text(header: Mapping[str, Any] | None, image_size: int) -> str:
    return json.dumps({**(header or {}), "image_size": image_size})


def _require(package: str) -> Any:
    """A package of the extra ``export``."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(
            f"got no package {package!r}; expected the extra 'export': pip install 'adaptive_scan[export]'"
        ) from error


class OnnxCompleter:
    """Runs an ONNX file of :func:`export_onnx` by onnxruntime, on the CPU, as a completer.

    Args:
        path: The file.
        n_threads: Threads of onnxruntime; 0 for its own choice.

    Attributes:
        header: The generator's header, with the ``image_size`` that the file takes.

    Raises:
        MissingExtraError: If onnxruntime is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, n_threads: int = 0) -> None:
        onnxruntime = _require("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        self._session = onnxruntime.InferenceSession(
            os.fspath(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.header: dict[str, Any] = json.loads(metadata.get(GENERATOR_HEADER, "{}"))

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        scans = partial_scans.detach().float().cpu().numpy()
        (completions,) = self._session.run([OUTPUT], {INPUT: scans})
        return torch.from_numpy(completions).to(partial_scans)
