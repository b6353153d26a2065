"""Pictures in NumPy files, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from adaptive_scan.micrographs.border import A_PICTURE, Plane, require_area, require_real, require_signature
from adaptive_scan.micrographs.errors import MicrographError


def planes(path: Path) -> Iterator[Plane]:
    """Walk the pictures of a ``.npy`` file, without reading them.

    Shapes: (H, W) is one picture, (M, H, W) and (M, H, W, 1) are M pictures; (H, W, 1) is one. The latter is the layout
    of WEMD, where each picture is of another micrograph.

    Raises:
        MicrographError: If the array is coloured, complex, 1-D, empty or truncated.
    """
    values, is_bank = _open(path)
    n_pictures, height, width = values.shape
    step = height * width * values.dtype.itemsize
    # A memmap of an array in Fortran order has its values elsewhere; those pictures are cut from the whole map.
    start = values.offset if isinstance(values, np.memmap) and values.flags.c_contiguous else None
    for number in range(n_pictures):
        mapping = None if start is None else (start + number * step, values.dtype.str)
        yield Plane(height, width, (number,), mapping, apart=is_bank)


def load(path: Path, plane: Plane) -> np.ndarray:
    """View one picture of the map. Shape (height, width), the file's own type."""
    result: np.ndarray = _open(path)[0][plane.index[0]]
    return result


def _open(path: Path) -> tuple[np.ndarray, bool]:
    """Map a file as (n_pictures, height, width), and whether it has the layout of a bank, (M, H, W, 1)."""
    require_signature(path, b"\x93NUMPY")
    values: np.ndarray = open_memmap(path, mode="r")
    shape = values.shape
    is_bank = values.ndim == 4
    require_real(path, values.dtype)
    if 0 in shape:
        raise MicrographError(path, f"an empty array of shape {shape}", A_PICTURE)
    if len(shape) in (3, 4) and shape[-1] in (3, 4) and shape[-1] < shape[-2]:
        raise MicrographError(path, f"a colour picture or stack of shape {shape}, channel last", A_PICTURE)
    if len(shape) in (3, 4) and shape[-1] == 1:
        values, shape = values[..., 0], shape[:-1]
    if len(shape) == 2:
        values = values[None]
    if values.ndim != 3:
        found = f"{len(shape)}-D data of shape {shape}"
        raise MicrographError(path, found, "one picture (H, W), a stack (M, H, W) or (M, H, W, 1)")
    require_area(path, *values.shape[1:])
    return values, is_bank
