"""``export_generator``: a trained generator as an ONNX file or a ``torch.export`` program, for other programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_scan.commands.cli import parse_config
from adaptive_scan.commands.errors import InputError, refusals_as_input_errors
from adaptive_scan.commands.run_folder import CONFIG, GENERATOR, make_folder, read_json
from adaptive_scan.commands.settings import check_positive
from adaptive_scan.files import replacing
from adaptive_scan.generators import load_generator, read_generator_header
from adaptive_scan.generators.export import MissingExtraError, OnnxCompleter, export_onnx, export_program

LARGEST_DIFFERENCE = 1e-4
"""How far a completion of an exported generator may be from the generator's own, on [-1, 1]."""

_DEFAULT_SIZE = 96
_SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
_N_TRIED = 3
_MEASURED_SHARE = 0.04


@dataclass(frozen=True)
class ExportConfig:
    """What is exported, and where to."""

    out: Path
    """File to write: .onnx for ONNX, .pt2 for a torch.export program."""
    run: Path | None = None
    """Run folder whose generator is exported."""
    generator: Path | None = None
    """File of the generator, instead of a run."""
    format: Literal["onnx", "torch"] = "onnx"
    """ONNX file or torch.export program."""
    size: int | None = None
    """Side of the pictures that the exported generator takes [px]; without it that of the run's crops, or 96."""

    def __post_init__(self) -> None:
        if (self.run is None) == (self.generator is None):
            found = "neither" if self.run is None else "both"
            raise ValueError(f"run and generator: got {found}; expected one of them")
        if self.size is not None:
            check_positive(self, "size")
        suffix = _SUFFIXES[self.format]
        if self.out.suffix != suffix:
            raise ValueError(f"out: got {str(self.out)!r}; expected a name that ends in {suffix}")


def parse_export(arguments: list[str]) -> ExportConfig:
    """Settings of ``export_generator``.

    Raises:
        InputError: If an option or a value is none.

    Example:
        >>> parse_export(["--generator", "a.safetensors", "--out", "a.onnx"]).format
        'onnx'
    """
    description = "Write a trained generator as an ONNX file or a torch.export program."
    return parse_config(ExportConfig, arguments, "export_generator", description)


def export_generator_command(config: ExportConfig) -> None:
    """Export, compare with the generator's own completions, and say where the file is.

    The file takes its place only if its completions are the generator's: an ONNX file is run by onnxruntime, of a
    ``torch.export`` program the graph that was written, for reading such a file back may need pickle.

    Raises:
        InputError: If there is no such run, the size does not suit the generator, packages are missing, or no file can
            be where it should go.
        FileContentError: If the file of the generator cannot be used.
        RuntimeError: If the completions differ.
    """
    path = config.generator if config.run is None else config.run / GENERATOR
    assert path is not None  # ExportConfig saw to it
    if config.out.is_dir():
        raise InputError(f"{config.out}: got a folder; expected a file to write")
    size = _size(config)
    network, header = load_generator(path), read_generator_header(path)
    make_folder(config.out.parent)
    try:
        with refusals_as_input_errors(), replacing(config.out) as temporary:
            if config.format == "onnx":
                export_onnx(network, temporary, image_size=size, header=header)
                difference = _difference(network, OnnxCompleter(temporary), size)
            else:
                program = export_program(network, temporary, image_size=size, header=header)
                difference = _difference(network, program.module(), size)
    except MissingExtraError as error:
        raise InputError(f"format {config.format}: {error}") from error
    print(f"largest difference from the generator's own completions: {difference:.1e} (on [-1, 1])")
    print(f"written: {config.out}")


def _size(config: ExportConfig) -> int:
    if config.size is not None:
        return config.size
    if config.run is None:
        return _DEFAULT_SIZE
    content = read_json(config.run / CONFIG)
    size = content.get("geometry", {}).get("image_size")
    if not isinstance(size, int):
        raise InputError(f"{config.run / CONFIG}: got no geometry.image_size; expected the settings of a run")
    return size


def _difference(network: nn.Module, exported: Callable[[Tensor], Tensor], size: int) -> float:
    """Largest difference of completions of random partial scans.

    Raises:
        RuntimeError: If it is above `LARGEST_DIFFERENCE`.
    """
    rng = np.random.default_rng(0)
    masks = rng.random((_N_TRIED, size, size)) < _MEASURED_SHARE
    values = rng.uniform(-1.0, 1.0, masks.shape) * masks
    scans = torch.from_numpy(np.stack((values, masks), axis=1).astype(np.float32))
    with torch.no_grad():
        difference = (exported(scans) - network(scans)).abs().max().item()
    if not difference <= LARGEST_DIFFERENCE:
        raise RuntimeError(f"exported completions differ by {difference}; expected at most {LARGEST_DIFFERENCE}")
    return difference
