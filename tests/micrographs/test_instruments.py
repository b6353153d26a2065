"""Instrument formats, on real files and without the library that reads them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from adaptive_scan.micrographs import MicrographDataset, MicrographError, instruments, read_micrograph
from adaptive_scan.micrographs.readers import list_planes

REAL_FILES = [
    ("haadf.dm3", 91, (64, 64)),
    ("jeol_haadf.dm4", 1, (112, 112)),
    ("fei_image.emd", 1, (512, 512)),
    ("scanning_preview.emi", 5, (128, 128)),
    ("scanning_preview_1.ser", 5, (128, 128)),
    ("tilt_000.mrc", 2, (1024, 1024)),
    ("sio2_haadf.hspy", 1, (128, 128)),
    ("non_square_float32.dm3", 1, (64, 128)),
    ("volume_int16_64x65x66.dm3", 66, (65, 64)),
]


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "n_pages", "shape"), REAL_FILES)
def test_real_file(real_data_dir: Path, name: str, n_pages: int, shape: tuple[int, int]):
    path = real_data_dir / "formats" / name
    planes = list_planes(path)
    assert len(planes) == n_pages
    assert {(plane.height, plane.width) for plane in planes} == {shape}
    picture = read_micrograph(path, n_pages - 1)
    assert picture.dtype == np.float32
    assert picture.shape == shape
    assert picture.flags.c_contiguous
    assert np.ptp(picture) > 0


@pytest.mark.real_data
def test_values_and_order_of_pages_against_the_raw_bytes(real_data_dir: Path):
    """An MRC file is a header of 1024 bytes, an extended one, and the frames row after row."""
    path = real_data_dir / "formats" / "tilt_000.mrc"
    content = path.read_bytes()
    extended = int(np.frombuffer(content, "<i4", 1, 92)[0])
    frames = np.frombuffer(content, "<i2", 2 * 1024 * 1024, 1024 + extended).reshape(2, 1024, 1024)
    for page in range(2):
        np.testing.assert_array_equal(read_micrograph(path, page), frames[page])


@pytest.mark.real_data
def test_dm3_volume_has_rows_columns_and_frames_in_place(real_data_dir: Path):
    """The values of this file end its data block; find them by their size and compare each frame."""
    path = real_data_dir / "formats" / "volume_int16_64x65x66.dm3"
    pages = np.stack([read_micrograph(path, page) for page in (0, 1, 65)])
    content = path.read_bytes()
    volume_bytes = 64 * 65 * 66 * 2
    first = pages[0].astype("<i2").tobytes()
    start = content.find(first)
    assert start > 0
    volume = np.frombuffer(content, "<i2", volume_bytes // 2, start).reshape(66, 65, 64)
    np.testing.assert_array_equal(pages, volume[[0, 1, 65]])


@pytest.mark.real_data
def test_emi_and_ser_hold_the_same_and_count_once_in_a_folder(real_data_dir: Path):
    folder = real_data_dir / "formats"
    np.testing.assert_array_equal(
        read_micrograph(folder / "scanning_preview.emi", 2), read_micrograph(folder / "scanning_preview_1.ser", 2)
    )
    dataset = MicrographDataset(folder)
    assert len(dataset) == sum(n_pages for name, n_pages, _ in REAL_FILES if not name.endswith(".emi"))
    assert dataset.names[0] == "fei_image.emd"
    assert "haadf.dm3#90" in dataset.names


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["haadf.dm3", "jeol_haadf.dm4", "tilt_000.mrc", "scanning_preview_1.ser"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7])
def test_truncated_instrument_files(real_data_dir: Path, tmp_path: Path, name: str, share: float):
    content = (real_data_dir / "formats" / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(MicrographError, match="got") as caught:
        read_micrograph(path, 10**6)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", sorted(instruments.PLUGINS))
def test_without_rosettasciio_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(instruments._SIGNATURES.get(suffix, b"") + bytes(2048))
    monkeypatch.setitem(sys.modules, f"rsciio.{instruments.PLUGINS[suffix]}", None)
    with pytest.raises(MicrographError, match=r"not installed; expected .*pip install adaptive_scan\[formats\]"):
        read_micrograph(path)


class TestSignals:
    """Which signals are pictures, on what a plugin would return."""

    @staticmethod
    def signal(shape: tuple[int, ...], n_navigation: int, dtype: str = "f4") -> dict[str, object]:
        axes = [{"navigate": number < n_navigation} for number in range(len(shape))]
        return {"data": np.arange(np.prod(shape)).reshape(shape).astype(dtype), "axes": axes}

    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        self.signals: list[dict[str, object]] = []
        monkeypatch.setattr(instruments, "_signals", lambda path: self.signals)
        (tmp_path / "a.mrc").write_bytes(b"x")
        return tmp_path / "a.mrc"

    def test_pictures_and_stacks_are_pages_and_spectra_are_passed_over(self, path: Path):
        self.signals += [self.signal((40,), 0), self.signal((4, 5), 0), self.signal((3, 4, 5), 1)]
        assert [plane.index for plane in list_planes(path)] == [(1, 0), (2, 0), (2, 1), (2, 2)]
        np.testing.assert_array_equal(read_micrograph(path, 3), np.arange(40, 60).reshape(4, 5))

    @pytest.mark.parametrize(
        ("shape", "n_navigation", "dtype", "found"),
        [
            ((40,), 0, "f4", "1-D data"),
            ((4, 5, 6), 2, "f4", "3-D data"),
            ((4, 5, 6, 7), 2, "f4", "4-D data"),
            ((4, 5), 0, "c8", "complex values"),
        ],
    )
    def test_others_are_refused(self, path: Path, shape: tuple[int, ...], n_navigation: int, dtype: str, found: str):
        self.signals.append(self.signal(shape, n_navigation, dtype))
        with pytest.raises(MicrographError, match=found):
            read_micrograph(path)

    def test_colour_and_nothing(self, path: Path):
        with pytest.raises(MicrographError, match="no signal"):
            read_micrograph(path)
        colour = self.signal((4, 5), 0)
        colour["data"] = np.zeros((4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        self.signals.append(colour)
        with pytest.raises(MicrographError, match="colour or structured"):
            read_micrograph(path)
