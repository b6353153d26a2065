from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from adaptive_scan.generators.infill import pull_push_infill


def test_measured_pixels_keep_their_values(make_scans: Callable[..., torch.Tensor]) -> None:
    scans = make_scans(3, 48)
    infill = pull_push_infill(scans)
    measured = scans[:, 1:] == 1
    torch.testing.assert_close(infill[measured], scans[:, :1][measured], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 17, 32, 48, 96, 100])
def test_one_measured_value_fills_the_field(size: int) -> None:
    scans = torch.zeros(1, 2, size, size)
    scans[0, :, size - 1, 0] = torch.tensor([-0.25, 1.0])
    torch.testing.assert_close(pull_push_infill(scans), torch.full((1, 1, size, size), -0.25))


def test_empty_mask_gives_zero() -> None:
    scans = torch.zeros(2, 2, 48, 48)
    scans[:, 0] = 3.0
    assert (pull_push_infill(scans) == 0).all()


def test_infill_is_linear_in_the_values_and_stays_within_them(
    make_scans: Callable[..., torch.Tensor], rng: np.random.Generator
) -> None:
    scans = make_scans(2, 33)
    other = scans.clone()
    other[:, 0] = torch.from_numpy(rng.uniform(-1, 1, (2, 33, 33)).astype(np.float32)) * scans[:, 1]
    both = scans.clone()
    both[:, 0] = 2 * scans[:, 0] - 3 * other[:, 0]
    expected = 2 * pull_push_infill(scans) - 3 * pull_push_infill(other)
    torch.testing.assert_close(pull_push_infill(both), expected, rtol=0, atol=1e-5)
    assert (pull_push_infill(scans).amax((1, 2, 3)) <= scans[:, 0].amax((1, 2)) + 1e-6).all()


def test_two_levels_by_hand() -> None:
    """The one coarse pixel has weights 0.75² (1 + 1) = 1.125, saturated to 1, and the mean 2, which fills the gaps."""
    scans = torch.zeros(1, 2, 2, 2)
    scans[0, :, 0, 0] = torch.tensor([1.0, 1.0])
    scans[0, :, 1, 1] = torch.tensor([3.0, 1.0])
    torch.testing.assert_close(pull_push_infill(scans)[0, 0], torch.tensor([[1.0, 2.0], [2.0, 3.0]]))


def test_infill_turns_with_the_scan(make_scans: Callable[..., torch.Tensor]) -> None:
    scans = make_scans(2, 32)
    turned = pull_push_infill(scans.rot90(1, (2, 3)))
    torch.testing.assert_close(turned, pull_push_infill(scans).rot90(1, (2, 3)), rtol=0, atol=1e-5)


def test_each_pixel_is_a_mean_of_the_values(make_scans: Callable[..., torch.Tensor]) -> None:
    scans = make_scans(1, 16).requires_grad_()
    pull_push_infill(scans)[0, 0, 3, 11].backward()
    assert scans.grad is not None
    assert (scans.grad[0, 0] >= 0).all()
    torch.testing.assert_close(scans.grad[0, 0].sum(), torch.tensor(1.0))
    assert (scans.grad[0, 0][scans[0, 1] == 0] == 0).all()
