from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from adaptive_scan.specimens.objects import (
    N_GRAINS,
    N_SHARP,
    N_SOFT,
    band_objects,
    box_objects,
    crack_objects,
    grain_objects,
    scattered_points,
    sharp_objects,
    soft_objects,
)

Draw = Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]
ALL = [soft_objects, sharp_objects, box_objects, band_objects, grain_objects, crack_objects]


@pytest.mark.parametrize("draw", ALL)
def test_pictures_and_labels_repeat_with_their_seed_and_are_finite(draw: Draw) -> None:
    for seed in range(4):
        picture, labels = draw(64, np.random.default_rng(seed))
        again, labels_again = draw(64, np.random.default_rng(seed))
        other, _ = draw(64, np.random.default_rng(seed + 100))

        np.testing.assert_array_equal(picture, again)
        np.testing.assert_array_equal(labels, labels_again)
        assert not np.array_equal(picture, other)
        assert (picture.dtype, labels.dtype) == (np.float32, np.uint8)
        assert np.isfinite(picture).all()
        assert picture.min() >= 0.0
        assert picture.max() > 0.0


@pytest.mark.parametrize("draw", [sharp_objects, box_objects])
def test_masks_cover_the_particles_that_are_drawn(draw: Draw) -> None:
    for seed in range(12):
        picture, labels = draw(160, np.random.default_rng(seed))
        covered, drawn = labels > 0, picture > 0.0

        assert (drawn & ~covered).sum() <= 1.5 * (ndimage.binary_dilation(covered) & ~covered).sum()
        assert not (covered & ~drawn).any()
        assert min(ndimage.mean(picture, labels, np.unique(labels)[1:])) > 0.05


def test_soft_particles_fall_to_the_value_of_their_radius_at_the_edge_of_the_mask() -> None:
    picture, labels = soft_objects(200, np.random.default_rng(3))

    assert 1 <= len(np.unique(labels)) - 1 <= N_SOFT[1]
    assert picture[labels > 0].mean() > 2.0 * picture[labels == 0].mean()


@pytest.mark.parametrize(("draw", "low", "high"), [(soft_objects, 0, N_SOFT[1]), (sharp_objects, 5, N_SHARP[1])])
def test_numbers_of_particles_keep_their_range(draw: Draw, low: int, high: int) -> None:
    for seed in range(10):
        _, labels = draw(128, np.random.default_rng(seed))
        assert low <= int(labels.max()) <= high


def test_grains_fill_the_field_and_each_is_a_plane() -> None:
    picture, labels = grain_objects(128, np.random.default_rng(2))

    assert N_GRAINS[0] // 2 <= len(np.unique(labels)) <= N_GRAINS[1]
    assert labels.min() >= 1
    largest = int(np.bincount(labels.ravel()).argmax())
    inside = ndimage.binary_erosion(labels == largest, iterations=6)
    rows, columns = np.nonzero(inside)
    design = np.column_stack([np.ones(len(rows)), rows, columns])
    _, residual, *_ = np.linalg.lstsq(design, picture[inside].astype(float), rcond=None)
    assert residual[0] / len(rows) < 1e-4


def test_bands_are_parallel_layers_that_fill_the_field() -> None:
    for seed in range(10):
        picture, labels = band_objects(96, np.random.default_rng(seed))
        assert (labels > 0).mean() > 0.98
        assert (picture > 0).all()
        assert 2 <= len(np.unique(labels)) <= 60


def test_cracks_are_dark_connected_and_thin() -> None:
    for seed in range(10):
        picture, labels = crack_objects(128, np.random.default_rng(seed))
        crack = labels > 0
        assert 0.0 < crack.mean() < 0.3
        beside = ndimage.binary_dilation(crack, iterations=4) & ~ndimage.binary_dilation(crack, iterations=2)
        assert picture[crack].mean() < 0.8 * picture[beside].mean()
        n_pieces = ndimage.label(crack, structure=np.ones((3, 3)))[1]
        assert n_pieces <= int(labels.max())


def test_scattered_points_keep_their_distance(rng: np.random.Generator) -> None:
    points = scattered_points(40, 9.0, 100, rng)

    assert 20 < len(points) <= 40
    assert cKDTree(points).query(points, k=2)[0][:, 1].min() >= 9.0
    assert points.min() >= 0.0
    assert points.max() <= 99.0
