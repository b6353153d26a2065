from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.generators.epochs import EpochOrder
from adaptive_scan.micrographs import ArrayCrops, MicrographCrops, MicrographDataset


def _bank(n_crops: int, *, symmetries: bool = False) -> ArrayCrops:
    return ArrayCrops(np.random.default_rng(0).random((n_crops, 4, 4)), symmetries=symmetries)


@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 3))
def test_every_sample_comes_once_in_each_epoch(n_crops: int, batch_size: int, seed: int) -> None:
    order = EpochOrder(_bank(n_crops), seed)
    n_batches = -(-3 * n_crops // batch_size)
    drawn = np.concatenate([order.ids(step * batch_size, batch_size) for step in range(n_batches)])[:, 0]
    for epoch in range(3):
        assert sorted(drawn[epoch * n_crops : (epoch + 1) * n_crops].tolist()) == list(range(n_crops))


def test_order_depends_on_seed_and_place_alone() -> None:
    order, other = EpochOrder(_bank(30), 0), EpochOrder(_bank(30), 0)
    other.ids(95, 3)
    np.testing.assert_array_equal(order.ids(25, 10), other.ids(25, 10))
    assert (EpochOrder(_bank(30), 1).ids(0, 30) != order.ids(0, 30)).any()
    assert (order.ids(30, 30) != order.ids(0, 30)).any()


def test_symmetries_are_drawn_anew_in_each_epoch() -> None:
    order = EpochOrder(_bank(400, symmetries=True), 0)
    first, second = order.ids(0, 400), order.ids(400, 400)
    assert set(first[:, 1].tolist()) == set(range(8))
    by_crop = [ids[np.argsort(ids[:, 0]), 1] for ids in (first, second)]
    assert (by_crop[0] == by_crop[1]).mean() < 0.25
    assert not EpochOrder(_bank(5), 0).ids(0, 5)[:, 1:].any()


def test_samples_of_micrographs_are_their_tiles(tmp_path: Path) -> None:
    for name, shape in (("a", (20, 30)), ("b", (8, 8))):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).random(shape))
    crops = MicrographCrops(MicrographDataset(tmp_path), 8)
    order = EpochOrder(crops, 0)
    assert order.n_samples == len(crops.tiles()) == 7
    ids = order.ids(0, 7)
    assert sorted(map(tuple, ids[:, :3].tolist())) == sorted(map(tuple, crops.tiles()[:, :3].tolist()))
    assert crops.take(ids).shape == (7, 8, 8)


def test_a_source_without_a_list_of_samples_is_refused() -> None:
    class Endless:
        crop_size, id_width = 4, 1

        def draw(self, n_crops: int, rng: np.random.Generator) -> np.ndarray:
            return np.zeros((n_crops, 1), dtype=np.int64)

        def take(self, ids: np.ndarray) -> np.ndarray:
            return np.zeros((len(ids), 4, 4), dtype=np.float32)

    with pytest.raises(ValueError, match="sampling: got 'epochs' with crops from Endless; expected ArrayCrops or"):
        EpochOrder(Endless(), 0)
