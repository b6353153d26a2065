"""Pictures in TIFF files, through tifffile."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffPage

from adaptive_scan.micrographs.border import A_PICTURE, LeftOut, Plane, require_area, require_real, require_signature
from adaptive_scan.micrographs.errors import MicrographError

_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_WHOLE = "a whole TIFF file"
# Bits of NewSubfileType: a smaller copy of another page (thumbnail, pyramid level), and a transparency mask.
_REDUCED_OR_MASK = 1 | 4
_UIC2 = 33629  # the tag of a MetaMorph stack that has an entry for each plane


def planes(path: Path) -> Iterator[Plane | LeftOut]:
    """Walk the pictures of a TIFF file in the order of its pages, without decoding them.

    Each page (image file directory) of an OME or plain file is one picture. A single page that an ImageJ or
    tifffile description declares to be the first of a stack, with the others behind it, is that stack, and so is the
    page of a MetaMorph stack. Smaller copies (thumbnails, pyramid levels) are left out wherever they stand, a colour
    preview before grey pages as well, and an information bar below a picture.

    Raises:
        MicrographError: If a page is coloured, complex, empty, a line, or reaches beyond the end of the file.
    """
    require_signature(path, *_SIGNATURES)
    size = path.stat().st_size
    with TiffFile(path) as tif:
        for number, page in enumerate(tif.pages):
            if not isinstance(page, TiffPage):
                raise MicrographError(path, f"page {number} without a description of its own", _WHOLE)
            if page.subfiletype & _REDUCED_OR_MASK and (number or len(tif.pages) > 1):
                continue
            if number == 0 and _is_preview(tif, page):
                yield LeftOut(f"page 0: a colour preview of {len(tif.pages) - 1} further pages")
                continue
            _require_grey(path, tif, page, number)
            _require_whole(path, page, number, size)
            yield from _planes_of_page(path, tif, page, number, size)
        _require_last_page(path, tif, size)


def load(path: Path, plane: Plane) -> np.ndarray:
    """Decode one picture; the other pages are not touched. Shape (height, width), the file's own type."""
    number, depth = plane.index
    with TiffFile(path) as tif:
        page = tif.pages[number]
        if not isinstance(page, TiffPage):
            raise MicrographError(path, f"page {number} without a description of its own", _WHOLE)
        pictures = page.asarray().reshape(-1, *page.shape[-2:])
        values: np.ndarray = _grey_values(page, pictures[depth])[: plane.height]
        return values


def _is_preview(tif: TiffFile, page: TiffPage) -> bool:
    """Whether a colour page stands before a grey one, for programs that show nothing else."""
    is_colour = page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
    return is_colour and len(tif.pages) > 1 and isinstance(tif.pages[1], TiffPage) and tif.pages[1].samplesperpixel == 1


def _is_grey_palette(page: TiffPage) -> bool:
    """Whether a palette gives each value a grey: its entries are the values then."""
    colours = page.colormap
    if page.photometric != PHOTOMETRIC.PALETTE or colours is None or page.dtype is None or page.dtype.kind != "u":
        return False
    return bool((colours == colours[:1]).all() and colours.any())


def _grey_values(page: TiffPage, picture: np.ndarray) -> np.ndarray:
    """The values of a picture; those of a grey palette are its greys, in 8 bits where they are multiples of 257."""
    if page.parent.is_imagej or not _is_grey_palette(page):
        return picture
    greys = np.asarray(page.colormap)[0]
    greys = (greys // 257).astype(np.uint8) if (greys % 257 == 0).all() else greys
    found: np.ndarray = greys[picture]
    return found


def _bar_height(tif: TiffFile, page: TiffPage) -> int:
    """Rows of an information bar below the picture, as the microscope's metadata tell [px]."""
    told = tif.fei_metadata if tif.is_fei else None
    if not told:
        return 0
    height = page.shape[-2]
    bar = int(told.get("PrivateFei", {}).get("DatabarHeight", 0) or 0)
    picture = int(told.get("Image", {}).get("ResolutionY", 0) or 0)
    bar = max(bar, height - picture if 0 < picture < height else 0)
    return bar if 0 < bar < height - 1 else 0


def _planes_of_page(path: Path, tif: TiffFile, page: TiffPage, number: int, size: int) -> Iterator[Plane]:
    height, width = page.shape[-2:]
    height -= _bar_height(tif, page)
    mapping = None
    if page.is_memmappable and page.dtype is not None and page.photometric != PHOTOMETRIC.PALETTE:
        mapping = (page.dataoffsets[0], page.dtype.newbyteorder(tif.byteorder).str)
    if page.ndim > 2:
        for depth in range(page.shape[0]):
            yield Plane(height, width, (number, depth))
        return
    n_pictures = _n_declared(tif, page, number)
    if n_pictures == 1:
        yield Plane(height, width, (number, 0), mapping)
        return
    if mapping is None or mapping[0] + n_pictures * page.nbytes > size:
        found = f"a truncated stack: {n_pictures} pictures declared, {size} bytes in all"
        raise MicrographError(path, found, "the values of all pictures, one behind the other")
    for depth in range(n_pictures):
        yield Plane(height, width, (number, depth), (mapping[0] + depth * page.nbytes, mapping[1]))


def _n_declared(tif: TiffFile, page: TiffPage, number: int) -> int:
    """Pictures behind a single page, by its ImageJ or tifffile description.

    An OME description is not asked: it may count the pictures of other files. Nor are tifffile's series: of a truncated
    stack they give the first page as if it were all.
    """
    if tif.is_stk and number == 0:
        planes = page.tags.get(_UIC2)
        return 1 if planes is None else max(1, planes.count)
    if number > 0 or not (tif.is_imagej or tif.is_shaped) or len(tif.pages) > 1:
        return 1
    if tif.is_imagej:
        return max(1, int((tif.imagej_metadata or {}).get("images", 1)))
    if not page.description.startswith("{"):
        return 1
    declared = json.loads(page.description).get("shape", page.shape)
    result: int = max(1, math.prod(declared) // math.prod(page.shape))
    return result


def _require_grey(path: Path, tif: TiffFile, page: TiffPage, number: int) -> None:
    where = f"page {number}: "
    # ImageJ writes the display colours of 8-bit grey data as a palette; the values are still the data.
    is_palette = page.photometric == PHOTOMETRIC.PALETTE and not tif.is_imagej and not _is_grey_palette(page)
    if page.samplesperpixel > 1 or is_palette or page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR):
        kind = getattr(page.photometric, "name", page.photometric)
        found = f"{where}a colour picture ({page.samplesperpixel} samples per pixel, {kind})"
        raise MicrographError(path, found, A_PICTURE)
    if page.dtype is None:
        found = f"{where}values of {page.bitspersample} bits in sample format {page.sampleformat}"
        raise MicrographError(path, found, A_PICTURE)
    require_real(path, page.dtype, where)
    if page.ndim < 2:
        raise MicrographError(path, f"{where}1-D data of shape {page.shape}", A_PICTURE)
    if page.shape[-1] in (3, 4) and page.shape[-1] < page.shape[-2] and len(tif.pages) > 1:
        found = f"{len(tif.pages)} pages of {page.shape[-2]} x {page.shape[-1]}, colour with the channel last"
        raise MicrographError(path, found, A_PICTURE)
    require_area(path, page.shape[-2], page.shape[-1], where)


def _require_whole(path: Path, page: TiffPage, number: int, size: int) -> None:
    """Compare where the strips or tiles lie with the size of the file: a cut file shows without being decoded."""
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    n_stored = sum(page.databytecounts)
    if not ends or n_stored == 0:
        raise MicrographError(path, f"page {number} without any data", _WHOLE)
    if max(ends) > size:
        raise MicrographError(path, f"a truncated file: page {number} ends at byte {max(ends)} of {size}", _WHOLE)
    is_sparse = not all(page.databytecounts)
    is_packed = page.dtype is not None and page.dtype.itemsize * 8 != page.bitspersample
    if page.compression == COMPRESSION.NONE and not is_sparse and not is_packed and n_stored < page.nbytes:
        raise MicrographError(path, f"page {number} with {n_stored} of its {page.nbytes} bytes", _WHOLE)


def _require_last_page(path: Path, tif: TiffFile, size: int) -> None:
    """Refuse a list of pages that breaks off: tifffile only logs it and gives the pages up to there."""
    if len(tif.pages) == 0:
        raise MicrographError(path, f"a truncated file of {size} bytes, without a page", _WHOLE)
    layout = tif.tiff
    handle = tif.filehandle
    handle.seek(tif.pages[-1].offset)
    (n_tags,) = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
    handle.seek(tif.pages[-1].offset + layout.tagnosize + n_tags * layout.tagsize)
    (following,) = struct.unpack(layout.offsetformat, handle.read(layout.offsetsize))
    if following:
        found = f"a truncated list of pages: the one after {len(tif.pages)} would be at byte {following} of {size}"
        raise MicrographError(path, found, _WHOLE)
