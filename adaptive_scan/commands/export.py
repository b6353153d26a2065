"""``export``: a trained generator as an ONNX file or a ``torch.export`` program, for other programs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_scan.commands.command_options import ExportConfig
from adaptive_scan.commands.networks import check_size
from adaptive_scan.commands.run_folder import GENERATOR, make_folder, read_crop_size
from adaptive_scan.errors import SettingError
from adaptive_scan.files import replacing
from adaptive_scan.generators import load_generator, read_generator_header
from adaptive_scan.generators.export import MissingExtraError, OnnxCompleter, export_onnx, export_program

LARGEST_DIFFERENCE = 1e-4
"""How far a completion of an exported generator may be from the generator's own, on [-1, 1]."""

_DEFAULT_SIZE = 96
_N_TRIED = 3
_MEASURED_SHARE = 0.04


def export(config: ExportConfig) -> None:
    """Export, compare with the generator's own completions, and say where the file is.

    The file takes its place only if its completions are the generator's: an ONNX file is run by onnxruntime, of a
    ``torch.export`` program the graph that was written, for reading such a file back may need pickle.

    Raises:
        SettingError: If there is no such run, the size does not suit the generator, packages are missing, or no file
            can be where it should go.
        FileContentError: If the file of the generator cannot be used.
        RuntimeError: If the completions differ.
    """
    path = config.generator if config.run is None else config.run / GENERATOR
    assert path is not None  # ExportConfig saw to it
    if config.out.is_dir():
        raise SettingError(f"{config.out}: got a folder; expected a file to write")
    size = config.size or (_DEFAULT_SIZE if config.run is None else read_crop_size(config.run))
    network, header = load_generator(path), read_generator_header(path)
    check_size(network, size, "size")
    make_folder(config.out.parent)
    try:
        with replacing(config.out) as temporary:
            if config.format == "onnx":
                export_onnx(network, temporary, image_size=size, header=header)
                difference = _difference(network, OnnxCompleter(temporary), size)
            else:
                program = export_program(network, temporary, image_size=size, header=header)
                difference = _difference(network, program.module(), size)
    except MissingExtraError as error:
        raise SettingError(f"format {config.format}: {error}") from error
    print(f"largest difference from the generator's own completions: {difference:.1e} (on [-1, 1])")
    print(f"written: {config.out}")


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
        difference = float((exported(scans) - network(scans)).abs().max())
    if not difference <= LARGEST_DIFFERENCE:
        raise RuntimeError(f"exported completions differ by {difference}; expected at most {LARGEST_DIFFERENCE}")
    return difference
