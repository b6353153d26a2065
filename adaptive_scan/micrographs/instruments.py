"""Pictures in the formats of instruments and of HyperSpy, through rosettasciio (the extra ``formats``)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_scan.micrographs.border import (
    A_PICTURE,
    LeftOut,
    Plane,
    damaged,
    require_area,
    require_real,
    require_signature,
)
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
_MRC_HEADER = 1024
_IMOD_STAMP = 1146047817
_SPECTRA = ("EELS", "EDS", "CL", "XPS")  # beginnings of the kinds of signals that have an axis of energies
_ENERGY_UNITS = ("ev", "kev", "1/ev")
_SPECTRAL_AXES = ("energy", "wavelength", "energies")
# Spectra of a Velox file are slow to build and never used here.
_OPTIONS: dict[str, dict[str, Any]] = {".emd": {"select_type": "images"}}


def planes(path: Path) -> Iterator[Plane | LeftOut]:
    """Walk the pictures of an instrument file: each image signal, each frame of a 3-D one.

    Signals of another kind beside them are left out: spectra and spectrum images, colour, complex values.

    Raises:
        MicrographError: If rosettasciio is absent, or the file holds no picture or stack of real values.
    """
    others = []
    n_pictures = 0
    for number, signal in enumerate(_signals(path)):
        shape = tuple(int(side) for side in signal["data"].shape)
        where = f"signal {number}: "
        other = _other_kind(signal)
        if other is not None:
            others.append(f"{other} of shape {shape}")
            yield LeftOut(f"{where}{others[-1]}")
            continue
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
    values = np.asarray(data.compute(scheduler="synchronous") if hasattr(data, "compute") else data)
    return values.view(np.int8) if _has_signed_bytes(path, values.dtype) else values


def _has_signed_bytes(path: Path, dtype: np.dtype) -> bool:
    """Whether the bytes of an MRC file are signed, which rosettasciio never takes them for.

    MRC2014 says that mode 0 is int8 (Cheng et al. 2015, doi:10.1016/j.jsb.2015.04.002). Older files of IMOD are
    unsigned where its stamp stands without the flag, and others where the largest value of the header says so.
    """
    if path.suffix.lower() != ".mrc" or dtype != np.uint8:
        return False
    with path.open("rb") as file:
        header = file.read(_MRC_HEADER)
    order = _mrc_byte_order(header)
    stamp, flags = struct.unpack_from(f"{order}2i", header, 152)
    (highest,) = struct.unpack_from(f"{order}f", header, 80)
    return bool(flags & 1) if stamp == _IMOD_STAMP else not highest > np.iinfo(np.int8).max


def _mrc_byte_order(header: bytes) -> str:
    return ">" if header[212:214] == b"\x11\x11" else "<"


def _other_kind(signal: dict[str, Any]) -> str | None:
    """What a signal is that is no picture or stack of pictures; None where it is one."""
    data = signal["data"]
    if data.dtype.kind == "c":
        return f"complex values ({data.dtype})"
    if data.dtype.kind == "V":
        return f"colour or structured values ({data.dtype})"
    if _is_spectral(signal):
        return "spectra"
    return None if _is_picture(signal) else f"{data.ndim}-D data"


def _is_spectral(signal: dict[str, Any]) -> bool:
    """Whether an axis is one of energies or wavelengths, by the kind of the signal, or by unit or name of an axis.

    In files of DigitalMicrograph that axis comes first, where that of frames would be.
    """
    kind = str(signal.get("metadata", {}).get("Signal", {}).get("signal_type", ""))
    if kind.upper().startswith(_SPECTRA):
        return True
    for axis in signal["axes"]:
        unit, name = str(axis.get("units", "")).strip().lower(), str(axis.get("name", "")).lower()
        if unit in _ENERGY_UNITS or any(word in name for word in _SPECTRAL_AXES):
            return True
    return False


def _is_picture(signal: dict[str, Any]) -> bool:
    """Whether the last two axes are those of a picture, with at most one axis of frames before them.

    Scans of diffraction patterns have four axes.
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
        options = {**_OPTIONS.get(suffix, {}), **_byte_order(path)}
        signals: list[dict[str, Any]] = plugin.file_reader(str(path), lazy=True, **options)
    except ImportError as error:
        raise _missing_extra(path, error) from error
    except faults as error:
        raise damaged(path, error) from error
    return signals


def _byte_order(path: Path) -> dict[str, str]:
    """The option that says the byte order of an MRC file, by its machine stamp."""
    if path.suffix.lower() != ".mrc":
        return {}
    with path.open("rb") as file:
        return {"endianness": _mrc_byte_order(file.read(_MRC_HEADER))}


def _missing_extra(path: Path, error: ImportError) -> MicrographError:
    found = f"a {path.suffix} file, which rosettasciio reads, but {error.name or 'a part of it'} is not installed"
    return MicrographError(path, found, "the extra formats: pip install adaptive_scan[formats]")
