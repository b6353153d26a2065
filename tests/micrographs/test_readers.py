"""Every kind of good file read back to its values, and every kind of bad one refused in one line."""

from __future__ import annotations

import contextlib
import copy
import gc
import logging
import pickle
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from adaptive_scan.micrographs import MicrographError, read_micrograph
from adaptive_scan.micrographs.readers import list_planes

NUMBERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]


def picture_of(dtype: str, height: int = 24, width: int = 20) -> np.ndarray:
    return (np.arange(height * width).reshape(height, width) % 120).astype(dtype)


def refused(path: Path, found: str, page: int = 0) -> MicrographError:
    """Read a bad file and check that its error is one line that names the file and what was found."""
    with pytest.raises(MicrographError, match=found) as caught:
        read_micrograph(path, page)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: got ")
    assert "; expected " in message
    return caught.value


class TestTiff:
    @pytest.mark.parametrize("byteorder", ["<", ">"])
    @pytest.mark.parametrize("dtype", NUMBERS)
    def test_numbers_in_either_byte_order(self, tmp_path: Path, dtype: str, byteorder: str):
        expected = picture_of(dtype)
        tifffile.imwrite(tmp_path / "a.tif", expected, byteorder=byteorder)
        result = read_micrograph(tmp_path / "a.tif")
        assert result.dtype == np.dtype("=f4")
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, expected)

    @pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd", "packbits", "lzma"])
    @pytest.mark.parametrize("tile", [None, (16, 16)])
    def test_tiles_and_compression(self, tmp_path: Path, tile: tuple[int, int] | None, compression: str | None):
        expected = picture_of("uint16", 40, 50)
        predictor = compression in ("zlib", "lzw")
        tifffile.imwrite(tmp_path / "a.TIFF", expected, tile=tile, compression=compression, predictor=predictor)
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.TIFF"), expected)

    @pytest.mark.parametrize(
        "options",
        [{}, {"imagej": True}, {"ome": True}, {"bigtiff": True}, {"compression": "zlib"}, {"metadata": None}],
        ids=str,
    )
    def test_pages_of_a_stack(self, tmp_path: Path, options: dict[str, object]):
        stack = np.stack([picture_of("float32") + 100 * number for number in range(3)])
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **options)
        assert len(list_planes(tmp_path / "a.tif")) == 3
        for page in range(3):
            np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif", page), stack[page])
        refused(tmp_path / "a.tif", "3 pictures, page 3 asked for", page=3)
        refused(tmp_path / "a.tif", "page number -1", page=-1)

    @pytest.mark.parametrize("imagej", [True, False])
    def test_stack_behind_a_single_page(self, tmp_path: Path, imagej: bool):
        stack = np.stack([picture_of("uint16") + 7 * number for number in range(4)])
        with tifffile.TiffWriter(tmp_path / "a.tif", imagej=imagej) as writer:
            writer.write(stack, photometric="minisblack", truncate=True)
        with tifffile.TiffFile(tmp_path / "a.tif") as tif:
            assert len(tif.pages) == 1
        assert len(list_planes(tmp_path / "a.tif")) == 4
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif", 3), stack[3])
        (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:2100])
        refused(tmp_path / "a.tif", "truncated stack", page=3)

    def test_ome_channels_are_pages_and_hyperstacks_too(self, tmp_path: Path):
        stack = np.arange(2 * 3 * 8 * 9, dtype=np.uint16).reshape(2, 3, 8, 9)
        tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata={"axes": "TCYX"})
        tifffile.imwrite(tmp_path / "b.tif", stack, imagej=True, metadata={"axes": "TCYX"})
        for name in ("a.ome.tif", "b.tif"):
            np.testing.assert_array_equal(read_micrograph(tmp_path / name, 4), stack[1, 1])

    def test_ome_file_is_only_itself(self, tmp_path: Path):
        """A series over several files would otherwise count the pictures of all of them in each."""
        stack = np.zeros((2, 8, 9), dtype=np.uint16)
        tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata={"axes": "TYX"})
        with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
            description = tif.ome_metadata.replace('SizeT="2"', 'SizeT="9"')
        one = picture_of("uint16", 8, 9)
        tifffile.imwrite(tmp_path / "b.ome.tif", one, description=description, metadata=None)
        assert len(list_planes(tmp_path / "b.ome.tif")) == 1
        np.testing.assert_array_equal(read_micrograph(tmp_path / "b.ome.tif"), one)

    def test_pages_of_different_sizes_in_their_order_without_thumbnails(self, tmp_path: Path):
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(picture_of("uint8", 8, 9))
            writer.write(picture_of("uint8", 4, 4), subfiletype=1)
            writer.write(picture_of("float32", 6, 5))
            writer.write(picture_of("uint8", 8, 9) + 1)
        planes = list_planes(tmp_path / "a.tif")
        assert [(plane.height, plane.width) for plane in planes] == [(8, 9), (6, 5), (8, 9)]
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif", 2), picture_of("uint8", 8, 9) + 1)

    def test_volume_in_one_page(self, tmp_path: Path):
        volume = np.arange(16 * 32 * 32, dtype=np.float32).reshape(16, 32, 32)
        tifffile.imwrite(tmp_path / "a.tif", volume, tile=(16, 16, 16), volumetric=True, photometric="minisblack")
        assert len(list_planes(tmp_path / "a.tif")) == 16
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif", 5), volume[5])

    def test_one_page_of_many_is_decoded_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        stack = np.stack([picture_of("uint16") + number for number in range(50)])
        tifffile.imwrite(tmp_path / "a.tif", stack, compression="zlib", photometric="minisblack")
        decoded = []
        original = tifffile.TiffPage.asarray
        monkeypatch.setattr(
            tifffile.TiffPage, "asarray", lambda page, **options: decoded.append(page.index) or original(page)
        )
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif", 17), stack[17])
        assert decoded == [17]

    def test_display_colours_of_imagej_leave_the_values(self, tmp_path: Path):
        expected = picture_of("uint8")
        palette = np.zeros((3, 256), dtype=np.uint16)
        options = {"photometric": "palette", "colormap": palette}
        tifffile.imwrite(tmp_path / "a.tif", expected, **options, description="ImageJ=1.53t\n", metadata=None)
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif"), expected)
        tifffile.imwrite(tmp_path / "b.tif", expected, **options)
        refused(tmp_path / "b.tif", "colour picture .*PALETTE")

    @pytest.mark.parametrize(
        ("shape", "options", "found"),
        [
            ((16, 17, 3), {"photometric": "rgb"}, "colour picture .3 samples"),
            ((3, 16, 17), {"photometric": "rgb", "planarconfig": "separate"}, "colour picture .3 samples"),
            ((16, 17, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, "colour picture .4 samples"),
            ((16, 17, 2), {"photometric": "minisblack", "planarconfig": "contig"}, "colour picture .2 samples"),
            ((16, 17, 3), {"photometric": "minisblack"}, "16 pages of 17 x 3, colour with the channel last"),
        ],
    )
    def test_colour_is_refused(self, tmp_path: Path, shape: tuple[int, ...], options: dict[str, object], found: str):
        tifffile.imwrite(tmp_path / "a.tif", np.ones(shape, dtype=np.uint8), **options)
        error = refused(tmp_path / "a.tif", found)
        assert "grey" in error.expected

    @pytest.mark.parametrize(
        ("values", "found"),
        [
            (np.ones((5, 6), dtype=np.complex64), "complex values"),
            (np.ones((5, 6), dtype=bool), "1-bit values"),
            (np.ones(30, dtype=np.float32), "1-D data"),
        ],
    )
    def test_no_picture_of_real_numbers(self, tmp_path: Path, values: np.ndarray, found: str):
        tifffile.imwrite(tmp_path / "a.tif", values)
        refused(tmp_path / "a.tif", found)

    def test_three_pages_are_a_stack_and_no_colour(self, tmp_path: Path):
        tifffile.imwrite(tmp_path / "a.tif", np.ones((3, 16, 17), dtype=np.uint8), photometric="minisblack")
        assert len(list_planes(tmp_path / "a.tif")) == 3

    def test_zero_pixels(self, tmp_path: Path):
        with pytest.warns(UserWarning, match="zero-size"):
            tifffile.imwrite(tmp_path / "a.tif", np.zeros((0, 5), dtype=np.float32))
        refused(tmp_path / "a.tif", "empty picture")

    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("kept", [3, 6, 8, 60, 200, 0.3, 0.6, -160])
    def test_truncation_shows_in_the_header(self, tmp_path: Path, kept: float, compression: str | None):
        rng = np.random.default_rng(0)
        stack = rng.random((3, 32, 32), dtype=np.float32)
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", compression=compression)
        whole = (tmp_path / "a.tif").read_bytes()
        n_kept = round(kept * len(whole)) if isinstance(kept, float) else kept
        (tmp_path / "a.tif").write_bytes(whole[:n_kept])
        with pytest.raises(MicrographError, match=r"trunc|text|unknown") as caught:
            list_planes(tmp_path / "a.tif")
        assert "\n" not in str(caught.value)

    def test_list_of_pages_that_breaks_off(self, tmp_path: Path):
        """Without a description, only the pointer to the next page tells that there was one."""
        stack = np.zeros((3, 32, 32), dtype=np.float32)
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata=None)
        (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:6000])
        with pytest.raises(MicrographError, match="truncated list of pages: the one after 1 would be at byte"):
            list_planes(tmp_path / "a.tif")

    def test_damage_inside_compressed_data(self, tmp_path: Path):
        tifffile.imwrite(tmp_path / "a.tif", picture_of("uint16", 64, 64), compression="zlib")
        data = bytearray((tmp_path / "a.tif").read_bytes())
        data[-60:] = bytes(60)
        (tmp_path / "a.tif").write_bytes(data)
        assert len(list_planes(tmp_path / "a.tif")) == 1
        refused(tmp_path / "a.tif", "damaged or truncated")

    def test_random_damage_gives_values_or_the_typed_error(self, tmp_path: Path, rng: np.random.Generator):
        tifffile.imwrite(tmp_path / "a.tif", picture_of("uint16"), compression="zlib", tile=(16, 16))
        whole = np.frombuffer((tmp_path / "a.tif").read_bytes(), dtype=np.uint8)
        n_refused = 0
        for _ in range(150):
            damaged = whole.copy()
            damaged[rng.integers(len(whole), size=6)] = rng.integers(256, size=6)
            (tmp_path / "b.tif").write_bytes(damaged.tobytes())
            with contextlib.suppress(MicrographError):
                assert read_micrograph(tmp_path / "b.tif").ndim == 2
                continue
            n_refused += 1
        assert n_refused > 50


class TestNpy:
    @pytest.mark.parametrize("dtype", [*NUMBERS, ">u2", ">f4", ">f8", "uint64"])
    def test_numbers(self, tmp_path: Path, dtype: str):
        expected = picture_of(dtype)
        np.save(tmp_path / "a.npy", expected)
        result = read_micrograph(tmp_path / "a.npy")
        assert result.dtype == np.dtype("=f4")
        np.testing.assert_array_equal(result, expected)

    @pytest.mark.parametrize("fortran", [False, True])
    @pytest.mark.parametrize("channel", [False, True])
    def test_stack_and_wemd_layout(self, tmp_path: Path, channel: bool, fortran: bool):
        stack = np.arange(5 * 9 * 8, dtype=np.float32).reshape(5, 9, 8)
        stored = stack[..., None] if channel else stack
        np.save(tmp_path / "a.npy", np.asfortranarray(stored) if fortran else stored)
        assert len(list_planes(tmp_path / "a.npy")) == 5
        for page in range(5):
            np.testing.assert_array_equal(read_micrograph(tmp_path / "a.npy", page), stack[page])
        refused(tmp_path / "a.npy", "5 pictures, page 5", page=5)

    def test_one_picture_with_a_channel_axis(self, tmp_path: Path):
        np.save(tmp_path / "a.npy", picture_of("float32")[..., None])
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.npy"), picture_of("float32"))

    @pytest.mark.parametrize(
        ("values", "found"),
        [
            (np.ones((8, 9, 3)), r"colour picture or stack of shape \(8, 9, 3\)"),
            (np.ones((2, 8, 9, 4)), "colour picture or stack"),
            (np.ones((2, 2, 8, 9)), "4-D data"),
            (np.ones(9), "1-D data"),
            (np.ones((1, 9)), "1-D data"),
            (np.float32(3.0), "0-D data"),
            (np.ones((0, 8, 9)), "empty array"),
            (np.ones((8, 9), dtype=complex), "complex values"),
            (np.ones((8, 9), dtype=bool), "1-bit values"),
            (np.zeros((8, 9), dtype=[("r", "u1"), ("g", "u1")]), "colour or structured"),
            (np.array([["a", "b"], ["c", "d"]]), "no numbers"),
            (np.array([[None, 1], [1, 2]], dtype=object), "damaged or truncated"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_refused(self, tmp_path: Path, values: np.ndarray, found: str):
        np.save(tmp_path / "a.npy", values, allow_pickle=True)
        refused(tmp_path / "a.npy", found)

    @pytest.mark.parametrize("kept", [4, 20, 100, 140, -1])
    def test_truncated(self, tmp_path: Path, kept: int):
        np.save(tmp_path / "a.npy", picture_of("float32"))
        (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:kept])
        with pytest.raises(MicrographError, match="got"):
            list_planes(tmp_path / "a.npy")


class TestPng:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    def test_grey(self, tmp_path: Path, dtype: str):
        expected = picture_of(dtype) * 2
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(expected))
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.png"), expected)

    @pytest.mark.parametrize("n_channels", [2, 3, 4])
    def test_colour_and_transparency(self, tmp_path: Path, n_channels: int):
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.ones((8, 9, n_channels), dtype=np.uint8)))
        refused(tmp_path / "a.png", "colour|transparent")

    def test_palette_and_bilevel(self, tmp_path: Path):
        image = pytest.importorskip("PIL.Image")
        grey = image.fromarray(picture_of("uint8"))
        coloured = grey.convert("P")
        coloured.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
        coloured.save(tmp_path / "palette.png")
        refused(tmp_path / "palette.png", "palette-colour")
        grey.convert("1").save(tmp_path / "bilevel.png")
        refused(tmp_path / "bilevel.png", "grey picture of 1 bits")

    @pytest.mark.parametrize("kept", [6, 12, 25, 60, -13, -1])
    def test_truncated(self, tmp_path: Path, kept: int):
        noise = np.random.default_rng(0).integers(256, size=(32, 32)).astype(np.uint8)
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(noise)[:kept])
        with pytest.raises(MicrographError, match="got"):
            list_planes(tmp_path / "a.png")

    def test_damage_inside(self, tmp_path: Path):
        data = bytearray(imagecodecs.png_encode(picture_of("uint8", 64, 64)))
        data[60:80] = bytes(20)
        (tmp_path / "a.png").write_bytes(data)
        refused(tmp_path / "a.png", "damaged")


class TestBorder:
    @pytest.mark.parametrize(
        "suffix", [".tif", ".npy", ".png", ".dm3", ".dm4", ".emd", ".hspy", ".ser", ".mrc", ".emi"]
    )
    def test_text_and_emptiness_under_every_suffix(self, tmp_path: Path, suffix: str):
        text = tmp_path / f"notes{suffix}"
        text.write_text("These are notes,\nnot a micrograph.\n")
        refused(text, "text|damaged")
        empty = tmp_path / f"empty{suffix}"
        empty.touch()
        assert refused(empty, "an empty file").expected == "a file of micrographs"

    def test_content_is_named(self, tmp_path: Path):
        path = tmp_path / "picture.tif"
        path.write_text("hello\n")
        assert refused(path, "text").expected == "a picture in the format of the suffix .tif"
        path.write_bytes(imagecodecs.png_encode(np.ones((8, 9, 3), dtype=np.uint8)))
        refused(path, "PNG data")
        path.write_bytes(bytes(range(256)))
        refused(path, "unknown binary data")
        tifffile.imwrite(tmp_path / "picture.png", picture_of("uint8"))
        refused(tmp_path / "picture.png", "TIFF data")

    def test_absent_folder_and_unknown_suffix(self, tmp_path: Path):
        refused(tmp_path / "absent.tif", "nothing there")
        refused(tmp_path, "a folder")
        (tmp_path / "a.gif").write_text("x")
        refused(tmp_path / "a.gif", "suffix '.gif'")

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_no_finite_value(self, tmp_path: Path, value: float):
        tifffile.imwrite(tmp_path / "a.tif", np.full((2, 8, 9), value, dtype=np.float32), photometric="minisblack")
        refused(tmp_path / "a.tif", "no finite value")
        refused(tmp_path / "a.tif", "no finite value in page 1", page=1)

    def test_one_finite_value_is_enough_and_large_ones_are_infinite(self, tmp_path: Path):
        picture = np.full((8, 9), np.nan)
        picture[7, 8] = 2.5
        picture[0, 0] = 1e300
        np.save(tmp_path / "a.npy", picture)
        result = read_micrograph(tmp_path / "a.npy")
        assert result[7, 8] == 2.5
        assert result[0, 0] == np.inf
        assert np.isnan(result[1:7]).all()
        np.save(tmp_path / "b.npy", np.full((8, 9), 1e300))
        refused(tmp_path / "b.npy", "no finite value")

    def test_no_file_is_left_open_by_a_decoder_that_failed(self, tmp_path: Path):
        pytest.importorskip("rsciio")
        (tmp_path / "a.mrc").write_text("not a micrograph\n" * 100)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(MicrographError):
                read_micrograph(tmp_path / "a.mrc")
            gc.collect()
        assert [str(warning.message) for warning in caught] == []

    def test_error_survives_pickle_and_copy(self):
        error = MicrographError("a.tif", "two\nlines", "one")
        for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
            assert str(other) == "a.tif: got two lines; expected one"
            assert other.path == Path("a.tif")

    def test_library_logs_are_held_back_and_levels_restored(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        tifffile.imwrite(tmp_path / "a.tif", np.ones((3, 32, 32), dtype=np.float32), photometric="minisblack")
        (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:6000])
        logger = logging.getLogger("tifffile")
        before = logger.level
        with pytest.raises(MicrographError):
            list_planes(tmp_path / "a.tif")
        assert not caplog.records
        assert logger.level == before
