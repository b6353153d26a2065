from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from adaptive_scan.generators import NearestCompleter
from adaptive_scan.generators import distance as distance_module
from adaptive_scan.generators.distance import distance_to_measured, nearest_infill, nearest_measured


@given(arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 12)).map(lambda s: (s[0], s[1], s[1]))))
def test_distance_equals_scipy(masks: np.ndarray) -> None:
    found = distance_to_measured(torch.from_numpy(masks)).numpy()
    for mask, distance in zip(masks, found, strict=True):
        expected = distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, len(mask))
        np.testing.assert_allclose(distance, expected, rtol=3e-7)


@pytest.mark.parametrize("size", [48, 96, 512])
def test_distance_equals_scipy_on_sparse_large_masks(size: int, rng: np.random.Generator) -> None:
    mask = rng.random((size, size)) < 0.002
    found = distance_to_measured(torch.from_numpy(mask[None].astype(np.float32)))[0].numpy()
    np.testing.assert_allclose(found, distance_transform_edt(~mask), rtol=3e-7)


@given(arrays(bool, st.integers(1, 12).map(lambda size: (2, size, size))))
def test_nearest_pixel_is_measured_and_at_the_exact_distance(masks: np.ndarray) -> None:
    indices = nearest_measured(torch.from_numpy(masks)).numpy()
    rows, columns = np.indices(masks.shape[1:])
    for mask, index in zip(masks, indices, strict=True):
        if not mask.any():
            assert (index == 0).all()
            continue
        near_rows, near_columns = np.divmod(index, len(mask))
        assert mask[near_rows, near_columns].all()
        distance = np.hypot(rows - near_rows, columns - near_columns)
        np.testing.assert_allclose(distance, distance_transform_edt(~mask), rtol=1e-12)


@given(arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 12)).map(lambda s: (s[0], s[1], s[1]))))
def test_other_devices_find_what_the_cpu_finds(masks: np.ndarray) -> None:
    # The batched form is the one that accelerators run; ties included, it must not differ.
    masks_there = torch.from_numpy(masks)
    assert torch.equal(distance_module._batched_nearest(masks_there), nearest_measured(masks_there))
    torch.testing.assert_close(
        distance_module._batched_distance(masks_there), distance_to_measured(masks_there), rtol=3e-7, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float64, torch.bfloat16])
def test_any_type_and_layout_of_mask_will_do(dtype: torch.dtype) -> None:
    scans = (torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)) < 0.1).to(dtype)
    strided = scans[:, 1].transpose(1, 2)
    expected = nearest_measured(strided.float().contiguous())
    assert torch.equal(nearest_measured(strided), expected)


def test_ties_go_to_the_lowest_column_then_the_lowest_row() -> None:
    masks = torch.zeros(2, 3, 3)
    masks[0, 1, 0] = masks[0, 1, 2] = 1
    masks[1, 0, 1] = masks[1, 2, 1] = 1
    assert nearest_measured(masks)[:, 1, 1].tolist() == [3, 1]


def test_empty_mask_gives_the_side_as_distance_and_zero_infill() -> None:
    empty = torch.zeros(2, 2, 8, 8)
    assert (distance_to_measured(empty[:, 1]) == 8).all()
    assert (NearestCompleter()(empty) == 0).all()


def test_no_scans_give_no_pictures() -> None:
    assert nearest_infill(torch.zeros(0, 2, 8, 8)).shape == (0, 1, 8, 8)
    assert distance_to_measured(torch.zeros(0, 8, 8)).shape == (0, 8, 8)


def test_gradient_of_nearest_infill_counts_the_pixels_each_value_fills() -> None:
    scans = torch.zeros(1, 2, 4, 4)
    scans[0, 1, 0, 0] = scans[0, 1, 3, 3] = 1
    scans.requires_grad_()
    nearest_infill(scans).sum().backward()
    assert scans.grad is not None
    assert scans.grad[0, 0, 0, 0] + scans.grad[0, 0, 3, 3] == 16
    assert scans.grad[0, 0].abs().sum() == 16
    assert (scans.grad[0, 1] == 0).all()


def test_values_outside_the_mask_are_ignored() -> None:
    scans = torch.full((1, 2, 4, 4), 7.0)
    scans[:, 1] = 0
    assert (nearest_infill(scans) == 0).all()
