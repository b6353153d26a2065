"""Pictures in the formats of instruments and of HyperSpy, through rosettasciio (the extra ``formats``)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_scan.micrographs.border import A_PICTURE, Plane, damaged, require_area, require_real, require_signature
from adaptive_scan.micrographs.errors import MicrographError

PLUGINS = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".emd": "emd",
    ".emi": "tia",
    ".hspy": "hspy",
    ".mrc": "mrc",
    ".ser": "tia",
}
"""Suffix to the rosettasciio plugin that reads it."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_SIGNATURES = {
    ".dm3": b"\x00\x00\x00\x03",
    ".dm4": b"\x00\x00\x00\x04",
    ".emd": _HDF5,
    ".hspy": _HDF5,
    ".ser": b"II\x97\x01",
}
# Spectra of a Velox file are slow to build and never used here.
_OPTIONS: dict[str, dict[str, Any]] = {".emd": {"select_type": "images"}}


def planes(path: Path) -> Iterator[Plane]:
    """Walk the pictures of an instrument file: each image signal, each frame of a 3-D one.

    Raises:
        MicrographError: If rosettasciio is absent, or the file holds no picture or stack of real values.
    """
    others = []
    n_pictures = 0
    for number, signal in enumerate(_signals(path)):
        shape = tuple(int(side) for side in signal["data"].shape)
        if not _is_picture(signal):
            others.append(f"{len(shape)}-D data of shape {shape}")
            continue
        where = f"signal {number}: "
        require_real(path, signal["data"].dtype, where)
        require_area(path, shape[-2], shape[-1], where)
        for frame in range(shape[0] if len(shape) == 3 else 1):
            n_pictures += 1
            yield Plane(shape[-2], shape[-1], (number, frame))
    if n_pictures == 0:
        found = ", ".join(others) or "no signal"
        raise MicrographError(path, f"no picture ({found})", f"{A_PICTURE}, or a stack of them")


def load(path: Path, plane: Plane) -> np.ndarray:
    """Read one frame of one signal; the others stay on the disk. Shape (height, width), the file's own type."""
    number, frame = plane.index
    data = _signals(path)[number]["data"]
    if data.ndim == 3:
        data = data[frame]
    return np.asarray(data.compute(scheduler="synchronous") if hasattr(data, "compute") else data)


def _is_picture(signal: dict[str, Any]) -> bool:
    """Whether the last two axes are those of a picture, with at most one axis of frames before them.

    A spectrum image has its positions first and its energies last; scans of diffraction patterns have four axes.
    """
    is_navigation = [bool(axis.get("navigate", False)) for axis in signal["axes"]]
    n_axes = signal["data"].ndim
    return 2 <= n_axes <= 3 and len(is_navigation) == n_axes and not any(is_navigation[-2:])


def _signals(path: Path) -> list[dict[str, Any]]:
    """Open a file lazily: the data stay on the disk until a frame is asked for."""
    suffix = path.suffix.lower()
    if suffix in _SIGNATURES:
        require_signature(path, _SIGNATURES[suffix])
    if _SIGNATURES.get(suffix) == _HDF5:
        # Kept signals would keep the HDF5 file open, and locked against writers.
        return _read_signals(path)
    state = path.stat()
    return _kept_signals(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _kept_signals(path: Path, modified: int, size: int) -> list[dict[str, Any]]:
    """Keep the last file's signals: parsing the tags of a stack again for each frame would take most of the time."""
    return _read_signals(path)


def _read_signals(path: Path) -> list[dict[str, Any]]:
    suffix = path.suffix.lower()
    try:
        plugin = import_module(f"rsciio.{PLUGINS[suffix]}")
        exceptions = import_module("rsciio.exceptions")
    except ImportError as error:
        raise _missing_extra(path, error) from error
    # These derive from Exception itself, so the common border does not know them.
    faults = tuple(kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, Exception))
    try:
        signals: list[dict[str, Any]] = plugin.file_reader(str(path), lazy=True, **_OPTIONS.get(suffix, {}))
    except ImportError as error:
        raise _missing_extra(path, error) from error
    except faults as error:
        raise damaged(path, error) from error
    return signals


def _missing_extra(path: Path, error: ImportError) -> MicrographError:
    found = f"a {path.suffix} file, which rosettasciio reads, but {error.name or 'a part of it'} is not installed"
    return MicrographError(path, found, "the extra formats: pip install adaptive_scan[formats]")
