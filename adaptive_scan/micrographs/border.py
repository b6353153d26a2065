"""What all file readers share: the place of a picture in its file, and one kind of error for every bad file."""

from __future__ import annotations

import logging
import struct
import traceback
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaptive_scan.micrographs.errors import MicrographError

A_PICTURE = "a grey picture of real numbers, at least 2 x 2 px"

# Decoders meet damaged files with nearly every built-in exception, and none of them lists which: a wrong offset shows
# as IndexError, KeyError or struct.error, a wrong size as MemoryError, a damaged strip as RuntimeError (imagecodecs).
# Errors of this package and of the operator (KeyboardInterrupt, SystemExit) are not among them.
_DECODER_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG data"),
    (b"II*\x00", "TIFF data"),
    (b"MM\x00*", "TIFF data"),
    (b"II+\x00", "BigTIFF data"),
    (b"MM\x00+", "BigTIFF data"),
    (b"\x93NUMPY", "NumPy data"),
    (b"\x89HDF\r\n\x1a\n", "HDF5 data"),
    (b"\xff\xd8\xff", "JPEG data"),
    (b"PK\x03\x04", "a zip archive"),
    (b"GIF8", "GIF data"),
    (b"BM", "BMP data"),
    (b"%PDF", "a PDF document"),
)


@dataclass(frozen=True, slots=True)
class Plane:
    """Where one picture lies in its file, as the header tells.

    Args:
        height: Rows [px].
        width: Columns [px].
        index: How the reader of the format finds it again.
        mapping: Byte offset and NumPy type of its values where they lie uncompressed, row after row.
        apart: Whether it shows another specimen than the other pictures of its file, as in a bank of crops.
    """

    height: int
    width: int
    index: tuple[int, ...] = ()
    mapping: tuple[int, str] | None = None
    apart: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something in a file that is no micrograph and stands beside those that are.

    Args:
        found: What it is, as complaints say it.
    """

    found: str


def describe_content(path: Path) -> str:
    """Say in a few words what a file holds, judged by its first bytes."""
    with path.open("rb") as file:
        head = file.read(512)
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return "unknown binary data"
    return "text" if text.isprintable() or all(c.isprintable() or c.isspace() for c in text) else "unknown binary data"


def require_signature(path: Path, *signatures: bytes) -> None:
    """Refuse a file whose first bytes are not those of its format.

    Raises:
        MicrographError: If the file starts with none of ``signatures``.
    """
    with path.open("rb") as file:
        head = file.read(max(map(len, signatures)))
    if not head.startswith(signatures):
        raise MicrographError(path, describe_content(path), f"a picture in the format of the suffix {path.suffix}")


def require_real(path: Path, dtype: np.dtype, where: str = "") -> None:
    """Refuse values that are not integers or real floating-point numbers.

    Raises:
        MicrographError: If ``dtype`` is complex, structured, boolean or no number at all.
    """
    if dtype.kind in "iuf":
        return
    kinds = {"c": "complex values", "b": "1-bit values", "V": "colour or structured values"}
    raise MicrographError(path, f"{where}{kinds.get(dtype.kind, 'values that are no numbers')} ({dtype})", A_PICTURE)


def require_area(path: Path, height: int, width: int, where: str = "") -> None:
    """Refuse a picture without pixels and one that is a single line.

    Raises:
        MicrographError: If a side is below 2 px.
    """
    if height < 1 or width < 1:
        raise MicrographError(path, f"{where}an empty picture of {height} x {width} px", A_PICTURE)
    if height < 2 or width < 2:
        raise MicrographError(path, f"{where}1-D data, {height} x {width} values", A_PICTURE)


def require_file(path: Path) -> None:
    """Refuse a path that is no file with something in it.

    Raises:
        MicrographError: If nothing is there, or a folder, or a file of 0 bytes.
    """
    try:
        is_file = path.is_file()
        size = path.stat().st_size if is_file else 0
        there = path.exists()
    except (OSError, ValueError) as error:
        raise MicrographError(path, f"a path that cannot be opened ({error})", "a file of micrographs") from error
    if not there:
        raise MicrographError(path, "nothing there", "a file of micrographs")
    if not is_file:
        raise MicrographError(path, "a folder" if path.is_dir() else "no regular file", "a file of micrographs")
    if size == 0:
        raise MicrographError(path, "an empty file (0 bytes)", "a file of micrographs")


def damaged(path: Path, error: Exception) -> MicrographError:
    """Describe a fault of a decoder, and close the files that its frames still hold open.

    Args:
        path: The bad file.
        error: What the decoder raised.

    Returns:
        The error to raise from ``error``.
    """
    # Left to the garbage collector they would be closed later, with a ResourceWarning out of nowhere.
    traceback.clear_frames(error.__traceback__)
    found = f"damaged or truncated data ({type(error).__name__}: {error})"
    return MicrographError(path, found, "a whole file in the format of its suffix")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a decoder says about a bad file into one :class:`MicrographError`.

    Warnings and log messages of the decoding libraries are held back meanwhile: what matters of them is raised.

    Raises:
        MicrographError: In place of any fault of a decoder.
    """
    loggers = [logging.getLogger(name) for name in ("tifffile", "rsciio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            except MicrographError:
                raise
            except _DECODER_FAULTS as error:
                raise damaged(path, error) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
