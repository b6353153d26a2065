import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.scans import tensors
from adaptive_scan.scans.soft import soft_partial_scans


def slow_soft_scan(crop: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """One position and one pixel at a time, by the definition."""
    side = len(crop)
    sums, totals = np.zeros((side, side)), np.zeros((side, side))
    for row, column in np.clip(positions, 0, side - 1):
        weights = np.zeros((side, side))
        for i in range(side):
            for j in range(side):
                weights[i, j] = max(0.0, 1 - abs(row - i)) * max(0.0, 1 - abs(column - j))
        sums += weights * (weights * crop).sum()
        totals += weights
    values = np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)
    return np.stack((values, np.minimum(totals, 1)))


@given(seed=st.integers(0, 1000), n_positions=st.integers(1, 9))
def test_a_slow_obvious_implementation_agrees(seed: int, n_positions: int) -> None:
    rng = np.random.default_rng(seed)
    crops = rng.uniform(-1, 1, (2, 5, 5))
    positions = rng.uniform(-1, 5, (2, n_positions, 2))
    found = soft_partial_scans(torch.from_numpy(crops), torch.from_numpy(positions)).numpy()
    expected = np.stack([slow_soft_scan(*pair) for pair in zip(crops, positions, strict=True)])
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(seed=st.integers(0, 1000))
def test_on_pixels_it_is_the_partial_scan(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crops = torch.from_numpy(rng.uniform(-1, 1, (2, 6, 6)).astype(np.float32))
    positions = torch.from_numpy(rng.integers(0, 6, (2, 7, 2)).astype(np.float32))
    expected = tensors.partial_scans(tensors.sample(crops, positions), positions, 6)
    torch.testing.assert_close(soft_partial_scans(crops, positions), expected)


def test_gradients_in_the_positions_are_those_of_finite_differences() -> None:
    rng = np.random.default_rng(1)
    crops = torch.from_numpy(rng.uniform(-1, 1, (2, 5, 5)))
    positions = torch.from_numpy(rng.uniform(0.1, 0.9, (2, 4, 2)) + rng.integers(0, 4, (2, 4, 2))).requires_grad_()
    assert torch.autograd.gradcheck(lambda where: soft_partial_scans(crops, where), positions)


def test_measured_values_are_taken_and_have_the_gradient_of_the_values_read() -> None:
    crops = torch.arange(16.0, dtype=torch.float64).reshape(1, 4, 4)
    positions = torch.tensor([[[1.25, 1.5]]], dtype=torch.float64, requires_grad=True)
    measured = torch.tensor([[3.0]], dtype=torch.float64)
    found = soft_partial_scans(crops, positions, measured)
    assert found[0, 0, 1:3, 1:3].flatten().tolist() == [3.0] * 4
    (gradient,) = torch.autograd.grad(found[0, 0, 1, 1], positions)
    # One row down adds 4 to the value, one column 1.
    torch.testing.assert_close(gradient, torch.tensor([[[4.0, 1.0]]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("crops", "positions", "message"),
    [
        ((2, 4, 5), (2, 3, 2), "crops have shape"),
        ((2, 1, 1), (2, 3, 2), "crops have shape"),
        ((2, 4, 4), (1, 3, 2), "positions have shape"),
        ((2, 4, 4), (2, 3, 3), "positions have shape"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(crops: tuple, positions: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        soft_partial_scans(torch.zeros(crops), torch.zeros(positions))
