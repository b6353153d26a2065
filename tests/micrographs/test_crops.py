"""Crops against pictures cut by hand, drawing against the uniform law, tiles against overlap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.micrographs import (
    ArrayCrops,
    CropSource,
    MicrographCrops,
    MicrographDataset,
    MicrographError,
    apply_symmetry,
    area_downsample,
    materialise,
    normalise,
)
from adaptive_scan.micrographs.crops import _grid_corners, _spread


@pytest.fixture
def dataset(tmp_path: Path, rng: np.random.Generator) -> MicrographDataset:
    """Three micrographs: one square, one oblong, one with a side of 20 px."""
    for name, shape in (("a", (64, 64)), ("b", (40, 70)), ("c", (20, 90))):
        tifffile.imwrite(tmp_path / f"{name}.tif", rng.random(shape, dtype=np.float32))
    return MicrographDataset(tmp_path)


class TestArrayCrops:
    def test_bank_is_normalised(self, rng: np.random.Generator):
        raw = rng.integers(0, 1000, size=(6, 8, 8)).astype(np.uint16)
        bank = ArrayCrops(raw)
        np.testing.assert_array_equal(bank.crops, normalise(raw))
        np.testing.assert_array_equal(ArrayCrops(raw[..., None]).crops, bank.crops)
        assert isinstance(bank, CropSource)
        assert (len(bank), bank.crop_size, bank.id_width) == (6, 8, 1)

    def test_takes_by_index_and_symmetry(self, rng: np.random.Generator):
        raw = rng.random((6, 8, 8))
        plain, turned = ArrayCrops(raw), ArrayCrops(raw, symmetries=True)
        np.testing.assert_array_equal(plain.take(np.array([[4], [0], [4]])), plain.crops[[4, 0, 4]])
        ids = np.array([[2, 5], [1, 0]])
        np.testing.assert_array_equal(turned.take(ids), apply_symmetry(plain.crops[[2, 1]], np.array([5, 0])))

    def test_draws_all_of_them_and_all_symmetries(self, rng: np.random.Generator):
        ids = ArrayCrops(rng.random((6, 8, 8)), symmetries=True).draw(2000, rng)
        assert ids.dtype == np.int64
        assert ids.shape == (2000, 2)
        counts = np.histogram2d(ids[:, 0], ids[:, 1], bins=(6, 8))[0]
        assert counts.min() > 15
        assert counts.max() < 80

    def test_taken_arrays_are_fresh_and_the_source_is_copied(self):
        raw = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 8, 8)
        bank = ArrayCrops(raw, normalise=False)
        bank.take(np.array([[0]]))[:] = 0.5
        np.testing.assert_array_equal(bank.crops, raw)
        assert not np.shares_memory(bank.crops, raw)

    @pytest.mark.parametrize(
        ("crops", "options"),
        [
            (np.zeros((0, 8, 8)), {}),
            (np.zeros((8, 8)), {}),
            (np.zeros((2, 8, 9)), {}),
            (np.zeros((2, 8, 8), dtype=complex), {}),
            (np.full((2, 8, 8), 1.5), {"normalise": False}),
            (np.full((2, 8, 8), np.nan), {"normalise": False}),
        ],
    )
    def test_refuses_banks(self, crops: np.ndarray, options: dict[str, bool]):
        with pytest.raises(ValueError, match="expected"):
            ArrayCrops(crops, **options)

    @pytest.mark.parametrize("ids", [[[6]], [[-1]], [[0, 0]], [0], [[0.0]]])
    def test_refuses_ids(self, ids: list[object]):
        with pytest.raises(ValueError, match="expected"):
            ArrayCrops(np.zeros((6, 8, 8))).take(np.array(ids))


class TestMicrographCrops:
    @pytest.mark.parametrize("downsample", [1, 2])
    def test_crops_equal_those_cut_by_hand(self, dataset: MicrographDataset, downsample: int):
        crops = MicrographCrops(dataset, 10, downsample=downsample)
        ids = crops.draw(40, np.random.default_rng(1))
        side = 10 * downsample
        expected = []
        for number, row, column, symmetry in ids:
            square = dataset[number][row : row + side, column : column + side]
            expected.append(normalise(apply_symmetry(area_downsample(square, downsample), int(symmetry))))
        taken = crops.take(ids)
        assert taken.dtype == np.float32
        np.testing.assert_array_equal(taken, expected)
        np.testing.assert_array_equal(crops.take(ids[::-1]), taken[::-1])
        assert isinstance(crops, CropSource)

    def test_draw_is_uniform_over_micrographs_then_positions(self, dataset: MicrographDataset):
        crops = MicrographCrops(dataset, 30, symmetries=True)
        assert crops.candidates.tolist() == [0, 1]
        ids = crops.draw(6000, np.random.default_rng(0))
        assert ids.dtype == np.int64
        share = (ids[:, 0] == 0).mean()
        assert abs(share - 0.5) < 0.03
        oblong = ids[ids[:, 0] == 1]
        assert sorted(set(oblong[:, 1])) == list(range(11))
        assert sorted(set(oblong[:, 2])) == list(range(41))
        assert abs(oblong[:, 1].mean() - 5) < 0.3
        assert np.bincount(ids[:, 3], minlength=8).min() > 600

    def test_equal_generators_draw_equal_ids_and_symmetries_can_be_left_out(self, dataset: MicrographDataset):
        crops = MicrographCrops(dataset, 16, symmetries=False)
        one, two = (crops.draw(50, np.random.default_rng(5)) for _ in range(2))
        np.testing.assert_array_equal(one, two)
        assert not one[:, 3].any()

    def test_a_crop_as_large_as_the_micrograph(self, dataset: MicrographDataset):
        crops = MicrographCrops(dataset.subset([0]), 64)
        assert not crops.draw(20, np.random.default_rng(0))[:, 1:3].any()

    def test_no_micrograph_is_large_enough(self, dataset: MicrographDataset):
        with pytest.raises(MicrographError, match="at most 64 x 64 px; expected one with sides of at least 130 px"):
            MicrographCrops(dataset, 65, downsample=2)

    @pytest.mark.parametrize(("crop_size", "downsample"), [(0, 1), (8, 0)])
    def test_refuses_sizes(self, dataset: MicrographDataset, crop_size: int, downsample: int):
        with pytest.raises(ValueError, match="expected both at least 1"):
            MicrographCrops(dataset, crop_size, downsample=downsample)

    @pytest.mark.parametrize("corner", [(-1, 0, 0, 0), (3, 0, 0, 0), (0, 60, 0, 0), (0, 0, -1, 0), (0, 0, 0, 8)])
    def test_refuses_ids_outside(self, dataset: MicrographDataset, corner: tuple[int, ...]):
        with pytest.raises((IndexError, ValueError), match="expected"):
            MicrographCrops(dataset, 16).take(np.array([corner]))

    def test_no_ids_no_crops(self, dataset: MicrographDataset):
        crops = MicrographCrops(dataset, 16)
        assert crops.take(crops.draw(0, np.random.default_rng(0))).shape == (0, 16, 16)

    def test_non_finite_and_uniform_squares(self, tmp_path: Path):
        picture = np.ones((8, 16), dtype=np.float32)
        picture[:, 8:] = 3.0
        picture[0, 0] = np.nan
        np.save(tmp_path / "a.npy", picture)
        crops = MicrographCrops(MicrographDataset(tmp_path / "a.npy"), 8)
        taken = crops.take(np.array([[0, 0, 0, 0], [0, 0, 8, 0], [0, 0, 4, 0]]))
        assert taken[0, 0, 0] == -1.0
        assert (taken[0].ravel()[1:] == 1.0).all()
        assert not taken[1].any()
        assert set(np.unique(taken[2])) == {-1.0, 1.0}

    def test_pictures_in_very_small_units_are_not_taken_for_uniform(self, tmp_path: Path, rng: np.random.Generator):
        picture = rng.random((16, 16), dtype=np.float32)
        np.save(tmp_path / "a.npy", picture * np.float32(2.0**-40))
        np.save(tmp_path / "b.npy", 1.0 + picture * 1e-7)
        crops = MicrographCrops(MicrographDataset(tmp_path), 8)
        taken = crops.take(np.array([[0, 3, 2, 0], [1, 3, 2, 0]]))
        np.testing.assert_allclose(taken[0], normalise(picture[3:11, 2:10]), atol=1e-5)
        assert not taken[1].any()


class TestBadMicrographsFoundLate:
    @pytest.fixture
    def folder(self, tmp_path: Path, rng: np.random.Generator) -> Path:
        for number in range(6):
            picture = rng.random((32, 32), dtype=np.float32)
            tifffile.imwrite(tmp_path / f"{number}.tif", picture if number % 2 else np.full_like(picture, np.nan))
        return tmp_path

    def test_are_drawn_again_the_same_whatever_was_read_before(self, folder: Path):
        fresh, used = (MicrographDataset(folder, skip_bad=True, cache_bytes=10000) for _ in range(2))
        for number in (0, 3, 5):
            used.is_readable(number)
        one, two = (MicrographCrops(data, 8).draw(100, np.random.default_rng(2)) for data in (fresh, used))
        np.testing.assert_array_equal(one, two)
        assert set(one[:, 0]) == {1, 3, 5}
        assert {error.path.name for error in fresh.skipped} == {"0.tif", "2.tif", "4.tif"}
        assert len(fresh.skipped) == 3
        assert set(MicrographCrops(fresh, 8).tiles()[:, 0]) == {1, 3, 5}

    def test_all_bad(self, folder: Path):
        dataset = MicrographDataset(folder, skip_bad=True, cache_bytes=10000).subset([0, 2])
        crops = MicrographCrops(dataset, 8)
        with pytest.raises(MicrographError, match="no readable micrograph among 2"):
            crops.draw(3, np.random.default_rng(0))
        with pytest.raises(MicrographError, match="no readable micrograph among 2"):
            crops.tiles()

    def test_without_skipping_they_raise_when_taken(self, folder: Path):
        crops = MicrographCrops(MicrographDataset(folder), 8)
        ids = crops.draw(30, np.random.default_rng(0))
        assert set(ids[:, 0]) == set(range(6))
        with pytest.raises(MicrographError, match=r"0\.tif: got no finite value"):
            crops.take(ids)


class TestTiles:
    def test_cover_the_picture_from_edge_to_edge(self, dataset: MicrographDataset):
        tiles = MicrographCrops(dataset, 10).tiles()
        assert np.bincount(tiles[:, 0]).tolist() == [36, 28, 18]
        oblong = tiles[tiles[:, 0] == 1]
        assert sorted(set(oblong[:, 1])) == [0, 10, 20, 30]
        assert sorted(set(oblong[:, 2])) == [0, 10, 20, 30, 40, 50, 60]
        assert not tiles[:, 3].any()
        assert MicrographCrops(dataset, 10).take(tiles).shape == (82, 10, 10)

    def test_a_single_one_lies_in_the_middle(self, dataset: MicrographDataset):
        assert MicrographCrops(dataset, 30).tiles(max_per_micrograph=1).tolist()[1] == [1, 5, 0, 0]
        assert MicrographCrops(dataset.subset([2]), 20, downsample=1).tiles()[:, 1].tolist() == [0, 0, 0, 0]
        assert MicrographCrops(dataset.subset([0]), 20, downsample=2).tiles().tolist() == [[0, 12, 12, 0]]

    @given(st.integers(8, 60), st.integers(8, 60), st.integers(1, 8), st.integers(1, 70))
    def test_never_overlap_nor_leave_the_picture(self, height: int, width: int, side: int, n_wanted: int):
        every = _grid_corners(np.array([height, width]), side)
        assert len(every) == (height // side) * (width // side)
        chosen = _spread(every, n_wanted)
        assert len(chosen) == min(n_wanted, len(every))
        assert chosen.min() >= 0
        assert (chosen + side <= [height, width]).all()
        visits = np.zeros((height, width), dtype=int)
        for row, column in chosen:
            visits[row : row + side, column : column + side] += 1
        assert visits.max() == 1

    def test_limited_ones_reach_all_quarters(self, dataset: MicrographDataset):
        tiles = MicrographCrops(dataset.subset([0]), 10).tiles(max_per_micrograph=5)
        quarters = {(row < 27, column < 27) for _, row, column, _ in tiles}
        assert len(quarters) == 4
        np.testing.assert_array_equal(tiles, MicrographCrops(dataset.subset([0]), 10).tiles(max_per_micrograph=5))

    def test_refuses_none_at_all(self, dataset: MicrographDataset):
        with pytest.raises(ValueError, match="max_per_micrograph: got 0"):
            MicrographCrops(dataset, 10).tiles(max_per_micrograph=0)


class TestMaterialise:
    def test_bank_holds_the_crops_drawn(self, dataset: MicrographDataset):
        crops = MicrographCrops(dataset, 16)
        bank = materialise(crops, 1500, np.random.default_rng(3))
        ids = crops.draw(1500, np.random.default_rng(3))
        np.testing.assert_array_equal(bank.crops, crops.take(ids))

    def test_refuses_none(self, dataset: MicrographDataset):
        with pytest.raises(ValueError, match="n_crops: got 0"):
            materialise(MicrographCrops(dataset, 16), 0, np.random.default_rng(3))
