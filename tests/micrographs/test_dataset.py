"""Folders, stacks, groups, splits and bad files; and that nothing is read before it is needed."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from adaptive_scan.micrographs import (
    MicrographCrops,
    MicrographDataset,
    MicrographError,
    fingerprint,
    split_groups,
)
from adaptive_scan.micrographs import (
    dataset as dataset_module,
)

DATA = Path(__file__).with_name("data")


def write(path: Path, value: float = 0.0, side: int = 32, dtype: str = "float32", **options: object) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = (np.arange(side * side).reshape(side, side) + value).astype(dtype)
    tifffile.imwrite(path, picture, **options)
    return picture


def write_bad_files(folder: Path) -> list[str]:
    """Write one file of each bad kind that a header shows, and give their names in order."""
    folder.mkdir(parents=True, exist_ok=True)
    colour = np.zeros((32, 32, 3), dtype=np.uint8)
    (folder / "bad_colour.tif").write_bytes(imagecodecs.png_encode(colour))
    np.save(folder / "bad_complex.npy", np.ones((32, 32), dtype=complex))
    (folder / "bad_empty.tif").touch()
    write(folder / "bad_small.tif", side=20)
    (folder / "bad_text.tif").write_text("text\n")
    write(folder / "bad_truncated.tif")
    (folder / "bad_truncated.tif").write_bytes((folder / "bad_truncated.tif").read_bytes()[:-1000])
    return sorted(path.name for path in folder.glob("bad_*"))


class TestListing:
    def test_tree_in_order_of_names(self, tmp_path: Path):
        second = write(tmp_path / "b.tif", 5)
        first = write(tmp_path / "a" / "deep" / "x.TIF", 7)
        np.save(tmp_path / "c.npy", np.stack([first, second]))
        (tmp_path / "notes.txt").write_text("x")
        (tmp_path / ".hidden").mkdir()
        write(tmp_path / ".hidden" / "x.tif")
        (tmp_path / "._b.tif").write_bytes(b"resource fork")
        dataset = MicrographDataset(tmp_path)
        assert dataset.names == ["a/deep/x.TIF", "b.tif", "c.npy#0", "c.npy#1"]
        assert dataset.groups == ["a/deep/x.TIF", "b.tif", "c.npy", "c.npy"]
        assert dataset.predefined_splits is None
        assert dataset.shapes.tolist() == [[32, 32]] * 4
        for picture, expected in zip(dataset, [first, second, first, second], strict=True):
            np.testing.assert_array_equal(picture, expected)
        np.testing.assert_array_equal(dataset[-1], second)

    def test_one_file_and_several_paths_without_repeats(self, tmp_path: Path):
        write(tmp_path / "one" / "x.tif", 1)
        write(tmp_path / "two" / "x.tif", 2)
        assert MicrographDataset(str(tmp_path / "one" / "x.tif")).names == ["x.tif"]
        dataset = MicrographDataset([tmp_path / "two", tmp_path / "one" / "x.tif", tmp_path / "two" / "x.tif"])
        assert [picture[0, 0] for picture in dataset] == [2.0, 1.0]
        assert len(set(dataset.groups)) == 2

    def test_wemd_array(self, tmp_path: Path, rng: np.random.Generator):
        crops = rng.random((7, 96, 96, 1), dtype=np.float32)
        np.save(tmp_path / "wemd.npy", crops)
        dataset = MicrographDataset(tmp_path / "wemd.npy", crop_size=96)
        assert len(dataset) == len(set(dataset.groups)) == 7
        np.testing.assert_array_equal(dataset[6], crops[6, :, :, 0])

    def test_predefined_splits(self, tmp_path: Path):
        for name in ("train/a.tif", "train/sub/b.tif", "validation/c.tif", "test/d.tif", "e.tif"):
            write(tmp_path / name)
        dataset = MicrographDataset(tmp_path)
        named = {split: [dataset.names[i] for i in part] for split, part in dataset.predefined_splits.items()}
        assert named == {
            "train": ["train/a.tif", "train/sub/b.tif"],
            "validation": ["validation/c.tif"],
            "test": ["test/d.tif"],
        }
        assert list(dataset.subset(dataset.predefined_splits["train"]).predefined_splits) == ["train"]
        assert MicrographDataset(tmp_path / "train").predefined_splits is None

    def test_link_to_a_folder_above_ends(self, tmp_path: Path):
        write(tmp_path / "a.tif")
        (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
        assert MicrographDataset(tmp_path).names == ["a.tif"]

    def test_nothing_to_read(self, tmp_path: Path):
        for path, found in (
            (tmp_path, "no micrograph files, an empty folder"),
            (tmp_path / "absent", "nothing there"),
        ):
            with pytest.raises(MicrographError, match=f"{path.name}: got {found}; expected"):
                MicrographDataset(path)
        (tmp_path / "notes.txt").touch()
        with pytest.raises(MicrographError, match=r"no micrograph files \(1 other files\)"):
            MicrographDataset(tmp_path, skip_bad=True)
        with pytest.raises(ValueError, match="no path"):
            MicrographDataset([])
        with pytest.raises(ValueError, match="crop_size: got 0"):
            MicrographDataset(tmp_path, crop_size=0)

    def test_index_out_of_range(self, tmp_path: Path):
        write(tmp_path / "a.tif")
        dataset = MicrographDataset(tmp_path)
        for number in (1, -2):
            with pytest.raises(IndexError, match="expected 0 to 0"):
                dataset[number]
        with pytest.raises(IndexError, match="expected 0 to 0"):
            dataset.subset([0, 1])


class TestGroups:
    def test_pages_of_a_stack_are_one_group_unless_a_table_says_otherwise(self, tmp_path: Path):
        pages = np.random.default_rng(0).random((4, 8, 8), dtype=np.float32)
        tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
        np.save(tmp_path / "bank.npy", np.ones((2, 8, 8, 1)))
        assert MicrographDataset(tmp_path).groups == ["bank.npy#0", "bank.npy#1"] + ["stack.tif"] * 4
        table = tmp_path / "groups.csv"
        table.write_text("file,group\nstack.tif,series\nstack.tif#2,other\n")
        assert MicrographDataset(tmp_path, groups=table).groups[2:] == ["series", "series", "other", "series"]
        table.write_text("file,group\nstack.tif,#page\n")
        assert MicrographDataset(tmp_path, groups=table).groups[2:] == [f"stack.tif#{page}" for page in range(4)]

    def test_what_stands_beside_the_pictures_is_reported(self, tmp_path: Path):
        (tmp_path / "a.tif").write_bytes((DATA / "colour_preview_first.tif").read_bytes())
        dataset = MicrographDataset(tmp_path)
        assert dataset.shapes.tolist() == [[128, 160]]
        assert [str(error).partition(": got ")[2] for error in dataset.skipped] == [
            "page 0: a colour preview of 1 further pages; expected a grey picture of real numbers, at least 2 x 2 px"
        ]

    def test_manifest_names_some_files(self, tmp_path: Path):
        for name in "abc":
            write(tmp_path / "pictures" / f"{name}.tif")
        np.save(tmp_path / "pictures" / "d.npy", np.ones((2, 8, 8)))
        table = "file,group\npictures/a.tif,area\npictures/c.tif,area\npictures/d.npy,series\n"
        (tmp_path / "manifest.csv").write_text(table)
        expected = ["area", "b.tif", "area", "series", "series"]
        assert MicrographDataset(tmp_path / "pictures").groups == expected
        moved = tmp_path / "elsewhere" / "table.csv"
        moved.parent.mkdir()
        (tmp_path / "manifest.csv").rename(moved)
        assert MicrographDataset(tmp_path / "pictures").groups == ["a.tif", "b.tif", "c.tif", "d.npy", "d.npy"]
        assert MicrographDataset(tmp_path / "pictures", groups=moved).groups == expected

    def test_given_table_must_name_a_file(self, tmp_path: Path):
        write(tmp_path / "a.tif")
        (tmp_path / "table.csv").write_text("file,group\nother.tif,area\n")
        with pytest.raises(MicrographError, match=r"table\.csv: got a table that names none of the files"):
            MicrographDataset(tmp_path, groups=tmp_path / "table.csv")

    def test_subset_keeps_groups_and_shares_the_cache(self, tmp_path: Path):
        for name in "abc":
            write(tmp_path / f"{name}.tif", ord(name))
        dataset = MicrographDataset(tmp_path)
        smaller = dataset.subset(np.array([2, 0]))
        assert smaller.groups == ["c.tif", "a.tif"]
        np.testing.assert_array_equal(smaller[0], dataset[2])
        assert smaller._cache is dataset._cache


class TestBadFiles:
    def test_each_kind_raises_its_own_line(self, tmp_path: Path):
        found = {
            "bad_colour.tif": "PNG data",
            "bad_complex.npy": "complex values",
            "bad_empty.tif": "an empty file",
            "bad_small.tif": "a picture of 20 x 20 px; expected sides of at least 32 px",
            "bad_text.tif": "text",
            "bad_truncated.tif": "a truncated file",
        }
        assert write_bad_files(tmp_path) == list(found)
        for name, text in found.items():
            with pytest.raises(MicrographError, match=f"{name}: got {text}"):
                MicrographDataset(tmp_path / name, crop_size=32)

    def test_skipped_ones_are_reported(self, tmp_path: Path):
        names = write_bad_files(tmp_path)
        good = write(tmp_path / "good.tif")
        with pytest.raises(MicrographError, match="bad_colour"):
            MicrographDataset(tmp_path, crop_size=32)
        dataset = MicrographDataset(tmp_path, crop_size=32, skip_bad=True)
        assert dataset.names == ["good.tif"]
        np.testing.assert_array_equal(dataset[0], good)
        assert [error.path.name for error in dataset.skipped] == names

    def test_nothing_left(self, tmp_path: Path):
        write_bad_files(tmp_path)
        with pytest.raises(MicrographError, match=r"no readable micrograph \(6 skipped, the first: .*bad_colour"):
            MicrographDataset(tmp_path, crop_size=32, skip_bad=True)

    def test_small_page_of_a_file(self, tmp_path: Path):
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(np.ones((40, 40), dtype=np.float32))
            writer.write(np.ones((16, 40), dtype=np.float32))
        with pytest.raises(MicrographError, match="page 1: a picture of 16 x 40 px"):
            MicrographDataset(tmp_path, crop_size=32)
        assert MicrographDataset(tmp_path, crop_size=32, skip_bad=True).names == ["a.tif#0"]

    def write_late_ones(self, folder: Path) -> None:
        write(folder / "good.tif", 3)
        tifffile.imwrite(folder / "nan.tif", np.full((32, 32), np.nan, dtype=np.float32))
        write(folder / "rotten.tif", compression="zlib")
        data = bytearray((folder / "rotten.tif").read_bytes())
        data[-100:] = bytes(100)
        (folder / "rotten.tif").write_bytes(data)

    def test_hidden_ones_are_found_at_construction_when_all_fits(self, tmp_path: Path):
        self.write_late_ones(tmp_path)
        dataset = MicrographDataset(tmp_path, skip_bad=True)
        assert dataset.names == ["good.tif"]
        assert [error.found.split(" (")[0] for error in dataset.skipped] == [
            "no finite value",
            "damaged or truncated data",
        ]

    def test_hidden_ones_raise_when_asked_for(self, tmp_path: Path):
        self.write_late_ones(tmp_path)
        dataset = MicrographDataset(tmp_path)
        assert len(dataset) == 3
        with pytest.raises(MicrographError, match=r"nan\.tif: got no finite value"):
            dataset[1]
        with pytest.raises(MicrographError, match=r"rotten\.tif: got damaged"):
            dataset[2]
        assert dataset.skipped == []

    def test_hidden_ones_of_a_large_set_are_reported_once_they_show(self, tmp_path: Path):
        self.write_late_ones(tmp_path)
        dataset = MicrographDataset(tmp_path, skip_bad=True, cache_bytes=6000)
        assert len(dataset) == 3
        assert dataset.skipped == []
        for _ in range(2):
            with pytest.raises(MicrographError, match="no finite value"):
                dataset[1]
            assert not dataset.is_readable(1)
        assert [error.path.name for error in dataset.skipped] == ["nan.tif"]
        assert dataset.is_readable(0)

    def test_file_that_disappears(self, tmp_path: Path):
        write(tmp_path / "a.tif")
        dataset = MicrographDataset(tmp_path)
        (tmp_path / "a.tif").unlink()
        with pytest.raises(MicrographError, match="nothing there"):
            dataset[0]
        with pytest.raises(MicrographError, match="cannot be read"):
            fingerprint(dataset)


class TestLaziness:
    def test_construction_decodes_nothing_and_pictures_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        for number in range(5):
            write(tmp_path / f"{number}.tif", number)
        opened = []
        original = dataset_module.open_plane
        monkeypatch.setattr(
            dataset_module, "open_plane", lambda path, plane: opened.append(path.name) or original(path, plane)
        )
        dataset = MicrographDataset(tmp_path)
        assert opened == []
        for _ in range(2):
            dataset[3]
            dataset.window(3, 0, 0, 4)
        assert opened == ["3.tif"]

    def test_memory_for_one_crop_of_many(self, tmp_path: Path):
        np.save(tmp_path / "stack.npy", np.ones((300, 256, 256), dtype=np.float32))
        tracemalloc.start()
        try:
            dataset = MicrographDataset(tmp_path)
            crops = MicrographCrops(dataset, 96)
            crops.take(crops.draw(1, np.random.default_rng(0)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4e6, "the stack has 79 MB, one picture of it 0.26 MB"

    def test_cache_stays_within_its_bound(self, tmp_path: Path):
        np.save(tmp_path / "stack.npy", np.ones((20, 32, 32), dtype=np.float32))
        dataset = MicrographDataset(tmp_path, cache_bytes=5 * 4096 + 100)
        for picture in dataset:
            assert picture.shape == (32, 32)
        assert dataset._cache.n_used == 5 * 4096

    @pytest.mark.parametrize("byteorder", ["<", ">"])
    def test_large_mapped_picture_is_read_square_by_square(self, tmp_path: Path, byteorder: str):
        picture = np.arange(2000 * 1000, dtype=np.uint16).reshape(2000, 1000)
        tifffile.imwrite(tmp_path / "a.tif", picture, byteorder=byteorder)
        dataset = MicrographDataset(tmp_path, cache_bytes=2**20)
        tracemalloc.start()
        try:
            square = dataset.window(0, 1990, 17, 10)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1e6
        np.testing.assert_array_equal(square, picture[1990:2000, 17:27])
        assert dataset.is_readable(0)

    def test_large_mapped_picture_without_a_finite_value(self, tmp_path: Path):
        picture = np.full((400, 400), np.nan, dtype=np.float32)
        np.save(tmp_path / "bad.npy", picture)
        picture[399, 399] = 1.0
        np.save(tmp_path / "good.npy", picture)
        dataset = MicrographDataset(tmp_path, cache_bytes=2**18, skip_bad=True)
        with pytest.raises(MicrographError, match=r"bad\.npy: got no finite value"):
            dataset.window(0, 0, 0, 10)
        assert len(dataset.skipped) == 1
        assert not dataset.is_readable(0)
        assert dataset.is_readable(1)
        assert np.isnan(dataset.window(1, 0, 0, 10)).all()

    @pytest.mark.parametrize("corner", [(-1, 0, 4), (0, 29, 4), (0, 0, 33), (0, 0, 0)])
    def test_squares_outside(self, tmp_path: Path, corner: tuple[int, int, int]):
        write(tmp_path / "a.tif")
        with pytest.raises(IndexError, match="expected inside 32 x 32 px"):
            MicrographDataset(tmp_path).window(0, *corner)

    def test_what_is_given_is_fresh(self, tmp_path: Path):
        expected = write(tmp_path / "a.tif")
        dataset = MicrographDataset(tmp_path)
        dataset[0][:] = -1
        dataset.window(0, 0, 0, 4)[:] = -1
        np.testing.assert_array_equal(dataset[0], expected)

    def test_goes_to_another_process(self, tmp_path: Path):
        expected = write(tmp_path / "a.tif")
        dataset = MicrographDataset(tmp_path)
        dataset[0]
        data = pickle.dumps(dataset)
        assert len(data) < 2000
        np.testing.assert_array_equal(pickle.loads(data)[0], expected)  # noqa: S301


class TestFingerprint:
    def test_follows_names_shapes_and_content_but_not_the_place(self, tmp_path: Path):
        for folder in ("one", "two"):
            write(tmp_path / folder / "a.tif", 1)
            write(tmp_path / folder / "b.tif", 2)
        one, two = MicrographDataset(tmp_path / "one"), MicrographDataset(tmp_path / "two")
        known = fingerprint(one)
        assert len(known) == 64
        assert fingerprint(two) == known
        assert fingerprint(one.subset([0])) != known
        assert fingerprint(one.subset([1, 0])) != known
        write(tmp_path / "two" / "b.tif", 3)
        assert fingerprint(MicrographDataset(tmp_path / "two")) != known
        (tmp_path / "one" / "b.tif").rename(tmp_path / "one" / "c.tif")
        assert fingerprint(MicrographDataset(tmp_path / "one")) != known


@pytest.mark.real_data
class TestRealMicrographs:
    def test_all_are_found_with_their_groups(self, real_data_dir: Path):
        dataset = MicrographDataset(real_data_dir / "micrographs", crop_size=96)
        assert len(dataset) == 103
        groups = dict(zip(dataset.names, dataset.groups, strict=True))
        assert groups["hpai_PtNC_20_034.tif"] == groups["hpai_PtNC_21_021.tif"] == "hpai_PtNC"
        assert groups["warwick_ede_00.tif"] == "warwick_ede_00"
        assert dataset.groups.count("hpai_PtNC") == 12
        train, test = split_groups(dataset.groups)
        assert not {dataset.groups[i] for i in train} & {dataset.groups[i] for i in test}
        assert 8 <= len(test) <= 35

    def test_values_and_crops(self, real_data_dir: Path):
        dataset = MicrographDataset(real_data_dir / "micrographs", crop_size=96).subset([0, 40, 102])
        path = real_data_dir / "micrographs" / dataset.names[2]
        np.testing.assert_array_equal(dataset[2], tifffile.imread(path))
        crops = MicrographCrops(dataset, 96, downsample=2)
        taken = crops.take(crops.draw(20, np.random.default_rng(0)))
        np.testing.assert_array_equal(taken.min(axis=(1, 2)), -1.0)
        np.testing.assert_array_equal(taken.max(axis=(1, 2)), 1.0)
