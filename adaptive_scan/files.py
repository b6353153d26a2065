"""Writing files so that a killed run leaves either the old whole file or the new whole file, never a part of one.

Everything is written to a temporary file in the folder of its destination, flushed to the disk, and renamed.
Names of temporary files start with a dot and end in ``.tmp`` and the destination's suffix.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_scan.errors import SettingError

_LONGEST = 300


class FileContentError(SettingError):
    """A file or folder that does not hold what it should; its text is ``<path>: got <found>; expected <expected>``.

    Args:
        path: The file or folder, as the caller named it.
        found: What is there; joined to one line and cut to a readable length, for it may quote a library.
        expected: What was needed instead.

    Example:
        >>> print(FileContentError("scan.tif", "an empty file", "a TIFF file"))
        scan.tif: got an empty file; expected a TIFF file
    """

    def __init__(self, path: str | os.PathLike[str], found: str, expected: str) -> None:
        # The three arguments go to the base class so that the error survives the way between processes.
        super().__init__(path, found, expected)
        self.path = Path(path)
        self.found = _one_line(found)
        self.expected = _one_line(expected)

    def __str__(self) -> str:
        return f"{self.path}: got {self.found}; expected {self.expected}"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Name a temporary file beside ``path`` that takes its place when the block ends without an exception.

    For writers that want a path of their own (figures, safetensors). The folder of ``path`` is made if need
    be; after an exception the temporary file is removed and ``path`` is as it was.

    Args:
        path: Destination.

    Yields:
        Path of the temporary file, in the same folder and with the same suffix; the block must create it.

    Raises:
        OSError: If the folder cannot be made or the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "note.txt") as temporary:
        ...         _ = temporary.write_text("whole")
        ...     (Path(folder) / "note.txt").read_text()
        'whole'
    """
    destination = Path(path)
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = destination.with_name(f".{destination.stem}.{secrets.token_hex(6)}.tmp{destination.suffix}")
    try:
        yield temporary
        _flush_to_disk(temporary, os.O_RDWR)
        temporary.replace(destination)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        # The rename itself is on the disk only once its folder is.
        _flush_to_disk(destination.parent, os.O_RDONLY)


def _flush_to_disk(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write text (UTF-8, newlines as given) or bytes to ``path`` in one step.

    Args:
        path: Destination; its folder is made if need be.
        data: The whole content.

    Raises:
        OSError: If the file cannot be written; ``path`` is then as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically(Path(folder) / "a.bin", b"12")
        ...     (Path(folder) / "a.bin").read_bytes()
        b'12'
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` as strict JSON (no NaN, no Infinity), indented, in one step.

    Args:
        path: Destination; its folder is made if need be.
        content: Whatever ``json`` takes, and NumPy scalars and arrays.

    Raises:
        ValueError: If a number is not finite; ``path`` is then as it was.
        TypeError: If something in ``content`` has no JSON form.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(Path(folder) / "a.json", {"loss": np.float32(0.5)})
        ...     json.loads((Path(folder) / "a.json").read_text())
        {'loss': 0.5}
    """
    try:
        text = json.dumps(content, indent=2, allow_nan=False, default=_plain)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: got {error}; expected finite numbers") from error
    write_atomically(path, text + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"got a {type(value).__name__} where JSON has no form for it; expected plain data")


def zip_fault(archive: zipfile.ZipFile) -> str | None:
    """What tells that an archive was not made for its size: entries that grow when they are read, or hide each other.

    Everything that this package, NumPy and Stable-Baselines3 write is stored as it is, so a file of a stranger can be
    asked to take no more memory than disk.

    Args:
        archive: An archive that is open for reading.

    Returns:
        What was found, or None.

    Example:
        >>> import io
        >>> stream = io.BytesIO()
        >>> with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        ...     archive.writestr("zeros", bytes(1_000_000))
        >>> with zipfile.ZipFile(stream) as archive:
        ...     zip_fault(archive)
        "the compressed entry 'zeros'"
    """
    entries = archive.infolist()
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            return f"the compressed entry {entry.filename!r}"
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        return f"the entry {max(names, key=names.count)!r} twice"
    if archive.fp is not None:
        size = archive.fp.seek(0, os.SEEK_END)
        if sum(entry.file_size for entry in entries) > size:
            return f"entries of more than the file's {size} bytes"
    return None


def write_npz(path: str | os.PathLike[str], **arrays: np.ndarray) -> None:
    """Write named arrays to a NumPy ``.npz`` archive in one step.

    Args:
        path: Destination; its suffix must be ``.npz``.
        **arrays: The arrays by name; none may hold Python objects, which only pickle could read back.

    Raises:
        ValueError: If the suffix is another one or an array holds Python objects.
        OSError: If the file cannot be written; ``path`` is then as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_npz(Path(folder) / "a.npz", losses=np.arange(3))
        ...     with np.load(Path(folder) / "a.npz") as archive:
        ...         archive["losses"].tolist()
        [0, 1, 2]
    """
    if Path(path).suffix != ".npz":
        raise ValueError(f"{os.fspath(path)}: got suffix {Path(path).suffix!r}; expected '.npz'")
    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)
