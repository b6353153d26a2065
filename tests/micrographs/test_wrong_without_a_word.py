"""Files that were read wrongly, or refused though they are good."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from adaptive_scan.micrographs import MicrographError, instruments, read_micrograph
from adaptive_scan.micrographs.readers import list_planes

DATA = Path(__file__).with_name("data")


def mrc(
    path: Path, values: np.ndarray, *, stamp: int = 0, flags: int = 0, highest: float = 0.0, order: str = "<"
) -> Path:
    """An MRC file of one section of mode 0."""
    header = bytearray(1024)
    struct.pack_into(f"{order}4i", header, 0, values.shape[1], values.shape[0], 1, 0)
    struct.pack_into(f"{order}3i", header, 28, values.shape[1], values.shape[0], 1)
    struct.pack_into(f"{order}3f", header, 40, float(values.shape[1]), float(values.shape[0]), 1.0)
    struct.pack_into(f"{order}3i", header, 64, 1, 2, 3)
    struct.pack_into(f"{order}3f", header, 76, 0.0, highest, 0.0)
    struct.pack_into(f"{order}2i", header, 152, stamp, flags)
    header[208:212] = b"MAP "
    header[212:214] = b"DD" if order == "<" else b"\x11\x11"
    path.write_bytes(bytes(header) + values.tobytes())
    return path


@pytest.mark.parametrize(
    ("settings", "is_signed"),
    [
        ({}, True),
        ({"highest": 127.0}, True),
        ({"highest": 200.0}, False),
        ({"stamp": 1146047817, "flags": 1, "highest": 200.0}, True),
        ({"stamp": 1146047817, "flags": 0}, False),
        ({"order": ">"}, True),
    ],
)
def test_bytes_of_mrc_are_signed_unless_the_header_says_otherwise(
    tmp_path: Path, settings: dict[str, Any], is_signed: bool
) -> None:
    pytest.importorskip("rsciio")
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = read_micrograph(mrc(tmp_path / "a.mrc", values, **settings))
    np.testing.assert_array_equal(np.sort(found.ravel()), np.arange(-128, 128) if is_signed else np.arange(256))


def test_the_small_files_of_mrc() -> None:
    pytest.importorskip("rsciio")
    assert read_micrograph(DATA / "signed_int8.mrc").min() < 0
    assert read_micrograph(DATA / "big_endian.mrc").std() > 0


def signal(shape: tuple[int, ...], *axes: dict[str, Any], kind: str = "", dtype: str = "f4") -> dict[str, Any]:
    told = [{"name": "", "units": "nm", "navigate": False, **axis} for axis in axes]
    return {"data": np.ones(shape, dtype), "axes": told, "metadata": {"Signal": {"signal_type": kind}}}


FRAMES, ROWS, COLUMNS = {"name": "z", "navigate": True}, {"name": "y"}, {"name": "x"}


@pytest.mark.parametrize(
    "spectra",
    [
        signal((8, 4, 4), FRAMES, ROWS, COLUMNS, kind="EELS"),
        signal((8, 4, 4), FRAMES, ROWS, COLUMNS, kind="EDS_TEM"),
        signal((8, 4, 4), {"name": "", "units": "eV", "navigate": True}, ROWS, COLUMNS),
        signal((8, 4, 4), {"name": "", "units": "keV", "navigate": True}, ROWS, COLUMNS),
        signal((8, 4, 4), {"name": "Wavelength", "units": "nm", "navigate": True}, ROWS, COLUMNS),
        signal((8, 4), ROWS, {"name": "Energy loss", "units": "eV"}),
        signal((4, 4), ROWS, COLUMNS, dtype="c8"),
    ],
)
def test_spectra_and_complex_values_are_no_micrographs_and_do_not_hide_those_that_are(
    spectra: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.emi"
    path.write_bytes(b"x")
    monkeypatch.setattr(instruments, "_signals", lambda _: [spectra])
    with pytest.raises(MicrographError, match=r"no picture|complex|spectra"):
        list_planes(path)
    monkeypatch.setattr(instruments, "_signals", lambda _: [spectra, signal((3, 6, 7), FRAMES, ROWS, COLUMNS)])
    left_out: list[MicrographError] = []
    assert [(plane.height, plane.width) for plane in list_planes(path, left_out)] == [(6, 7)] * 3
    assert len(left_out) == 1


def test_a_complex_signal_of_a_velox_file_is_left_out() -> None:
    pytest.importorskip("rsciio")
    left_out: list[MicrographError] = []
    assert len(list_planes(DATA / "velox_with_complex.emd", left_out)) == 2
    assert "complex values" in str(left_out[0])


def test_a_thumbnail_before_the_picture_is_left_out() -> None:
    (plane,) = list_planes(DATA / "thumbnail_first.tif")
    assert (plane.height, plane.width) == (128, 160)
    assert read_micrograph(DATA / "thumbnail_first.tif").shape == (128, 160)


def test_a_reduced_page_alone_is_the_picture(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((8, 9), np.uint16), subfiletype=1)
    assert read_micrograph(tmp_path / "a.tif").shape == (8, 9)


def test_a_colour_preview_does_not_hide_the_picture() -> None:
    assert read_micrograph(DATA / "colour_preview_first.tif").shape == (128, 160)


@pytest.mark.parametrize("name", ["grey_palette.tif", "grey_palette.png"])
def test_a_palette_of_greys_is_grey(name: str) -> None:
    with tifffile.TiffFile(DATA / "grey_palette.tif") as tif:
        expected = tif.pages[0].asarray()
    found = read_micrograph(DATA / name)
    assert found.shape == (100, 120)
    if name.endswith(".tif"):
        np.testing.assert_array_equal(found, expected)


def test_values_of_a_palette_are_its_greys(tmp_path: Path) -> None:
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    greys = np.zeros(256, np.uint16)
    greys[:64] = np.arange(64)[::-1] * 257
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="palette", colormap=np.stack([greys] * 3))
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif"), 63.0 - picture)


def test_planes_of_a_metamorph_stack(tmp_path: Path) -> None:
    planes = np.arange(3 * 6 * 8, dtype=np.uint16).reshape(3, 6, 8)
    path = tmp_path / "a.stk"
    # UIC2Tag holds six whole numbers for each plane, and its count is that of the planes.
    tags = [(33628, 5, 1, (1, 1), True), (33629, 5, 9, (1,) * 18, True)]
    tifffile.imwrite(path, planes[0], extratags=tags, metadata=None, software=None)
    content = path.read_bytes().replace(struct.pack("<HHI", 33629, 5, 9), struct.pack("<HHI", 33629, 5, 3))
    path.write_bytes(content)
    with tifffile.TiffFile(path) as tif:
        end = tif.pages[0].dataoffsets[0] + planes[0].nbytes
        assert tif.is_stk
    assert end == len(content)  # the values of further planes lie behind those of the first
    path.write_bytes(content + planes[1:].tobytes())
    assert len(list_planes(path)) == 3
    for number in range(3):
        np.testing.assert_array_equal(read_micrograph(path, number), planes[number])


def test_an_information_bar_below_the_picture_is_cut_off(tmp_path: Path) -> None:
    picture = np.arange(20 * 16, dtype=np.uint8).reshape(20, 16) % 251
    told = b"[Image]\r\nResolutionX=16\r\nResolutionY=15\r\n[PrivateFei]\r\nDatabarHeight=5\r\n"
    tifffile.imwrite(tmp_path / "a.tif", picture, extratags=[(34682, 2, 0, told, True)], metadata=None)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif"), picture[:15])
    tifffile.imwrite(
        tmp_path / "b.tif", picture, extratags=[(34682, 2, 0, told, True)], metadata=None, compression="zlib"
    )
    np.testing.assert_array_equal(read_micrograph(tmp_path / "b.tif"), picture[:15])
