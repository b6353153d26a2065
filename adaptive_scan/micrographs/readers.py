"""One way into every file format: which pictures a file holds, and one of them as float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adaptive_scan.micrographs import instruments, npy, png, tiff
from adaptive_scan.micrographs.border import A_PICTURE, LeftOut, Plane, reading, require_file
from adaptive_scan.micrographs.errors import MicrographError


class _Format(NamedTuple):
    planes: Callable[[Path], Iterator[Plane | LeftOut]]
    load: Callable[[Path, Plane], np.ndarray]


_FORMATS = {
    ".npy": _Format(npy.planes, npy.load),
    ".png": _Format(png.planes, png.load),
    ".stk": _Format(tiff.planes, tiff.load),
    ".tif": _Format(tiff.planes, tiff.load),
    ".tiff": _Format(tiff.planes, tiff.load),
    **dict.fromkeys(instruments.PLUGINS, _Format(instruments.planes, instruments.load)),
}

SUFFIXES = tuple(sorted(_FORMATS))
"""Suffixes of the files that can be read, in lower case."""


def read_micrograph(path: str | Path, page: int = 0) -> np.ndarray:
    """Read one grey picture from a file.

    TIFF (8, 16, 32-bit integers, 16, 32, 64-bit floats, either byte order, several pages, tiles, compression, ImageJ,
    OME), NumPy ``.npy``, grey PNG of 8 or 16 bits and, with the extra ``formats``, dm3, dm4, emd, mrc, hspy, ser and
    emi. The stored values are given as they are: nothing is scaled or inverted. Only the page asked for is decoded.

    Args:
        path: The file; its suffix names the format, in either case.
        page: Which picture of a file with several, from 0: a page of a TIFF, an element of a stack, a frame.

    Returns:
        The picture, float32, C-contiguous, shape (height, width).

    Raises:
        MicrographError: If the file holds no such picture: it is absent, empty, truncated, of another format than its
            suffix says, coloured, complex, 1-D, without one finite value, or has fewer pages.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/steps.npy", np.arange(6, dtype=np.uint16).reshape(2, 3))
        ...     read_micrograph(f"{folder}/steps.npy")
        array([[0., 1., 2.],
               [3., 4., 5.]], dtype=float32)
    """
    path = Path(path)
    file_format = _format_of(path)
    if page < 0:
        raise MicrographError(path, f"page number {page} asked for", "a page number of at least 0")
    with reading(path), closing(file_format.planes(path)) as found:  # type: ignore[type-var]
        pictures = (plane for plane in found if isinstance(plane, Plane))
        walked = list(islice(pictures, page + 1))
    if len(walked) <= page:
        raise MicrographError(path, f"{len(walked)} pictures, page {page} asked for", f"0 to {len(walked) - 1}")
    return as_micrograph(path, open_plane(path, walked[page]), page)


def list_planes(path: Path, left_out: list[MicrographError] | None = None) -> list[Plane]:
    """Tell the pictures of a file from its header, with the checks that need no decoding.

    Args:
        path: The file; its suffix names the format.
        left_out: Where to add what stands in the file beside its pictures, such as a colour preview.

    Returns:
        One plane per picture, at least one.

    Raises:
        MicrographError: If the file cannot hold a micrograph.
    """
    file_format = _format_of(path)
    with reading(path):
        found = list(file_format.planes(path))
    others = [MicrographError(path, each.found, A_PICTURE) for each in found if isinstance(each, LeftOut)]
    pictures = [each for each in found if isinstance(each, Plane)]
    if not pictures:
        raise others[0] if others else MicrographError(path, "no picture", A_PICTURE)
    if left_out is not None:
        left_out.extend(others)
    return pictures


def open_plane(path: Path, plane: Plane) -> np.ndarray:
    """Open one picture in the file's own type, memory-mapped where its values lie uncompressed.

    Args:
        path: The file.
        plane: One of :func:`list_planes`.

    Returns:
        An array or a read-only map of shape (height, width).

    Raises:
        MicrographError: If the file is absent or its data cannot be decoded.
    """
    file_format = _format_of(path)
    shape = (plane.height, plane.width)
    with reading(path):
        if plane.mapping is not None:
            offset, dtype = plane.mapping
            return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
        picture = file_format.load(path, plane)
    if picture.shape != shape:
        raise MicrographError(path, f"a picture of shape {picture.shape}", f"{shape}, as its header says")
    return picture


def as_micrograph(path: Path, picture: np.ndarray, page: int) -> np.ndarray:
    """Convert an opened picture to C-contiguous float32 of native byte order.

    Raises:
        MicrographError: If none of its values is finite.
    """
    require_finite_value(path, picture, page)
    return to_float32(picture)


def require_finite_value(path: Path, picture: np.ndarray, page: int) -> None:
    """Refuse a picture without a value that is finite as float32; reads no further than the first rows with one.

    Raises:
        MicrographError: If none of its values is finite.
    """
    if picture.dtype.kind in "iu":
        return
    n_rows = max(1, 2**20 // picture.shape[1])
    blocks = (picture[row : row + n_rows] for row in range(0, picture.shape[0], n_rows))
    if not any(np.isfinite(to_float32(block)).any() for block in blocks):
        where = f" in page {page}" if page else ""
        raise MicrographError(path, f"no finite value{where}", "a picture with finite values")


def to_float32(values: np.ndarray) -> np.ndarray:
    """Copy values to C-contiguous native float32; magnitudes beyond its range become infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(values, dtype=np.float32, order="C", subok=False)


def _format_of(path: Path) -> _Format:
    require_file(path)
    file_format = _FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise MicrographError(path, f"the suffix {path.suffix!r}", f"one of {', '.join(SUFFIXES)}")
    return file_format
