"""Crops at several scales."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import MicrographDataset, apply_symmetry, area_downsample, normalise
from adaptive_scan.micrographs.pyramid import PyramidCrops, balanced_weights


@pytest.fixture
def dataset(tmp_path: Path, rng: np.random.Generator) -> MicrographDataset:
    for number, shape in enumerate([(40, 50), (20, 64), (90, 90)]):
        np.save(tmp_path / f"{number}.npy", rng.normal(size=shape).astype(np.float32))
    return MicrographDataset(tmp_path)


def test_a_crop_is_the_average_of_its_square(dataset: MicrographDataset, rng: np.random.Generator) -> None:
    crops = PyramidCrops(dataset, 10, scales=(1, 3, 4))
    ids = crops.draw(60, rng)
    taken = crops.take(ids)
    for crop, (number, row, column, symmetry, scale) in zip(taken, ids.tolist(), strict=True):
        square = dataset[number][row : row + 10 * scale, column : column + 10 * scale]
        expected = apply_symmetry(normalise(area_downsample(square, scale)), symmetry)
        np.testing.assert_allclose(crop, expected, atol=1e-6)


def test_scales_that_fit_are_drawn_alike_and_others_never(dataset: MicrographDataset, rng: np.random.Generator) -> None:
    ids = PyramidCrops(dataset, 10, scales=(1, 2, 4, 8)).draw(6_000, rng)
    for number, fitting in enumerate([(1, 2, 4), (1, 2), (1, 2, 4, 8)]):
        found, counts = np.unique(ids[ids[:, 0] == number, 4], return_counts=True)
        assert tuple(found) == fitting
        assert counts.min() > 0.85 * counts.mean()


def test_weights_say_how_often_a_micrograph_is_drawn(dataset: MicrographDataset, rng: np.random.Generator) -> None:
    ids = PyramidCrops(dataset, 10, weights=[1, 2, 5]).draw(8_000, rng)
    np.testing.assert_allclose(np.bincount(ids[:, 0]) / 1_000, [1, 2, 5], rtol=0.1)


def test_tiles_are_those_of_each_scale(dataset: MicrographDataset) -> None:
    crops = PyramidCrops(dataset, 10, scales=(2, 4))
    ids = crops.tiles()
    assert {tuple(row) for row in ids[:, [0, 4]].tolist()} == {(0, 2), (1, 2), (2, 2), (0, 4), (2, 4)}
    assert len(ids) == 2 * 2 + 1 * 3 + 4 * 4 + 1 + 2 * 2
    assert len(crops.tiles(max_per_micrograph=1)) == 5
    assert crops.take(ids).shape == (len(ids), 10, 10)


def test_sources_are_balanced() -> None:
    sources, groups = list("aaaaab"), list("112345")
    weights = balanced_weights(sources, groups)
    assert weights.sum() == pytest.approx(1)
    assert weights[:5].sum() / weights[5] == pytest.approx(np.sqrt(4))
    assert weights[0] + weights[1] == pytest.approx(weights[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": ()}, r"scales: got \(\); expected whole numbers"),
        ({"scales": (0, 1)}, r"scales: got \(0, 1\); expected"),
        ({"weights": [1.0, 0.0, 1.0]}, "weights: got .*; expected 3 positive numbers, one for each micrograph"),
        ({"weights": [1.0]}, "weights: got .*; expected 3 positive numbers, one for each micrograph"),
    ],
)
def test_what_cannot_be_is_refused(dataset: MicrographDataset, settings: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        PyramidCrops(dataset, 10, **settings)
