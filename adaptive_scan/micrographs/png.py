"""Grey pictures in PNG files; imagecodecs decodes them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np

from adaptive_scan.micrographs.border import Plane, require_area, require_signature
from adaptive_scan.micrographs.errors import MicrographError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3
_COLOUR_TYPES = {2: "a colour", 3: "a palette-colour", 4: "a grey and transparent", 6: "a colour and transparent"}
_EXPECTED = "a grey picture of 8 or 16 bits"


def planes(path: Path) -> Iterator[Plane]:
    """Tell the one picture of a PNG file from its header, and that the file goes on to its end mark.

    Raises:
        MicrographError: If it is coloured, transparent, below 8 bits or truncated.
    """
    require_signature(path, _SIGNATURE)
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(16)
        width, height, n_bits, colour_type = struct.unpack(">IIBB", file.read(10))
        is_grey = colour_type == _GREY or (colour_type == _PALETTE and _has_grey_palette(path))
        if not is_grey or n_bits < 8:
            found = f"{_COLOUR_TYPES.get(colour_type, 'a grey')} picture of {n_bits} bits"
            raise MicrographError(path, found, _EXPECTED)
        require_area(path, height, width)
        position = len(_SIGNATURE)
        kind = b""
        while kind != b"IEND":
            file.seek(position)
            head = file.read(8)
            length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"cut")
            position += length + 12
            if kind == b"cut" or position > size:
                raise MicrographError(path, f"a truncated file of {size} bytes", "a whole PNG file")
    yield Plane(height, width)


def load(path: Path, plane: Plane) -> np.ndarray:
    """Decode the picture. Shape (height, width), uint8 or uint16."""
    picture: np.ndarray = imagecodecs.png_decode(path.read_bytes())
    if picture.ndim == 3 and picture.shape[-1] == 3 and _has_grey_palette(path):
        picture = picture[..., 0]  # the palette's colours are the values
    if picture.shape != (plane.height, plane.width):
        raise MicrographError(path, f"a picture of shape {picture.shape}, grey and transparent", _EXPECTED)
    return picture


def _has_grey_palette(path: Path) -> bool:
    """Whether the palette of a picture is one of greys."""
    with path.open("rb") as file:
        position, kind = len(_SIGNATURE), b""
        while kind not in (b"PLTE", b"IDAT", b"IEND", b"cut"):
            file.seek(position)
            head = file.read(8)
            length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"cut")
            position += length + 12
        colours = np.frombuffer(file.read(length), np.uint8) if kind == b"PLTE" else np.empty(0, np.uint8)
    if colours.size == 0 or colours.size % 3:
        return False
    colours = colours.reshape(-1, 3)
    return bool((colours == colours[:, :1]).all() and colours.any())
