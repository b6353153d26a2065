from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import sobel
from torch import Tensor

from adaptive_scan.generators.detail_losses import (
    fourier_loss,
    local_whitening,
    local_whitening_loss,
    mean_loss,
    sobel_loss,
    standard_deviation_loss,
)
from adaptive_scan.generators.loss_settings import DetailLosses

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES = (sobel_loss, local_whitening_loss, fourier_loss, mean_loss, standard_deviation_loss)


def _pictures(n_scans: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    return 2 * torch.rand(n_scans, 1, size, size, generator=torch.Generator().manual_seed(seed)) - 1


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_sobel_loss_of_a_linear_ramp_is_its_squared_slope(down: float, across: float) -> None:
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    ramp = (down * rows + across * columns)[None, None]
    found = sobel_loss(ramp, torch.zeros_like(ramp))
    assert found.item() == pytest.approx(down**2 + across**2, abs=1e-5)


def test_sobel_loss_equals_that_of_scipy() -> None:
    first, second = _pictures(), _pictures(seed=1)
    found = sobel_loss(first, second)
    for index, difference in enumerate((first - second)[:, 0].double().numpy()):
        gradients = [sobel(difference, axis=axis)[1:-1, 1:-1] / 8 for axis in (0, 1)]
        assert found[index].item() == pytest.approx((gradients[0] ** 2 + gradients[1] ** 2).mean(), rel=1e-5)


def _whitened_slowly(picture: np.ndarray, window: int, smallest: float) -> np.ndarray:
    before, after = window // 2, window - 1 - window // 2
    padded = np.pad(picture, ((before, after), (before, after)), mode="reflect")
    whitened = np.empty_like(picture)
    for i, j in np.ndindex(picture.shape):
        square = padded[i : i + window, j : j + window]
        whitened[i, j] = (picture[i, j] - square.mean()) / max(smallest, square.std())
    return whitened


@pytest.mark.parametrize("window", [2, 3, 4, 8, 16])
def test_whitening_equals_the_slow_one(window: int) -> None:
    pictures = _pictures(2)
    pictures[1, :, :8] *= 1e-3  # deviations on both sides of the smallest one
    found = local_whitening(pictures, window, smallest_deviation=0.05)
    for index in range(2):
        expected = _whitened_slowly(pictures[index, 0].double().numpy(), window, 0.05)
        np.testing.assert_allclose(found[index, 0].numpy(), expected, rtol=0, atol=2e-4)


def test_whitening_loss_is_the_mean_over_windows() -> None:
    first, second = _pictures(2), _pictures(2, seed=1)
    expected = [
        np.mean(
            [
                np.abs(_whitened_slowly(a, window, 0.01) - _whitened_slowly(b, window, 0.01)).mean()
                for window in (2, 4, 8, 16)
            ]
        )
        for a, b in zip(first[:, 0].double().numpy(), second[:, 0].double().numpy(), strict=True)
    ]
    np.testing.assert_allclose(local_whitening_loss(first, second).numpy(), expected, rtol=1e-3)


def test_whitening_loss_ignores_brightness_and_contrast() -> None:
    first, second = _pictures(), _pictures(seed=1)
    plain = local_whitening_loss(first, second)
    torch.testing.assert_close(local_whitening_loss(0.3 * first - 5.0, second), plain, rtol=1e-2, atol=0)
    assert (local_whitening_loss(-first, first) > 0.5).all()


@pytest.mark.parametrize("window", [1, 32])
def test_windows_that_do_not_fit_are_refused(window: int) -> None:
    with pytest.raises(ValueError, match=f"window: got {window} px; expected 2 to 31 px for pictures of side 16 px"):
        local_whitening(_pictures(), window)


def test_fourier_loss_of_power_two_is_the_mean_squared_error() -> None:
    first, second = _pictures(), _pictures(seed=1)
    expected = (first - second).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(fourier_loss(first, second, power=2.0), expected)


def test_fourier_loss_of_a_wave_by_hand() -> None:
    """A cosine of amplitude 0.5 has two coefficients of 0.5 S / 2 = 4 in the unitary transform."""
    wave = 0.5 * torch.cos(2 * math.pi * 3 * torch.arange(16.0) / 16).expand(1, 1, 16, 16)
    found = fourier_loss(wave, torch.zeros_like(wave))
    assert found.item() == pytest.approx(2 * 4**0.125 / 256, rel=1e-4)


def test_fourier_loss_equals_that_of_numpy_where_amplitudes_are_not_small() -> None:
    first, second = _pictures(), _pictures(seed=1)
    amplitudes = np.abs(np.fft.fft2((first - second)[:, 0].double().numpy(), norm="ortho"))
    assert amplitudes.min() > 1e-3
    expected = (amplitudes**0.125).mean(axis=(1, 2))
    np.testing.assert_allclose(fourier_loss(first, second).numpy(), expected, rtol=1e-5)


def test_fourier_loss_is_continuous_and_zero_at_zero() -> None:
    def loss(amplitude: float) -> float:
        picture = torch.full((1, 1, 4, 4), amplitude / 4, dtype=torch.float64)
        return 16 * fourier_loss(picture, torch.zeros_like(picture), smallest=1e-3).item()

    assert loss(0.0) == 0.0
    assert loss(1e-3 * (1 - 1e-9)) == pytest.approx(loss(1e-3 * (1 + 1e-9)), rel=1e-8)
    assert loss(5e-4) == pytest.approx((1e-3) ** 0.125 / 4)


@pytest.mark.parametrize("power", [0.0, 2.5, math.nan])
def test_fourier_powers_out_of_range_are_refused(power: float) -> None:
    with pytest.raises(ValueError, match=f"power: got {power}; expected more than 0 and at most 2"):
        fourier_loss(_pictures(), _pictures(), power=power)


def test_mean_and_deviation_losses_equal_those_of_numpy() -> None:
    first, second = _pictures(), _pictures(seed=1)
    a, b = (pictures[:, 0].double().numpy() for pictures in (first, second))
    np.testing.assert_allclose(mean_loss(first, second), np.abs(a.mean((1, 2)) - b.mean((1, 2))), atol=1e-6)
    expected = np.abs(a.std((1, 2)) - b.std((1, 2)))
    np.testing.assert_allclose(standard_deviation_loss(first, second), expected, atol=1e-6)


def test_a_shift_changes_the_mean_loss_and_one_fourier_coefficient_only() -> None:
    pictures = _pictures()
    shifted = pictures + 0.25
    torch.testing.assert_close(mean_loss(shifted, pictures), torch.full((3,), 0.25))
    expected = torch.full((3,), (0.25 * 16) ** 0.125 / 256)
    torch.testing.assert_close(fourier_loss(shifted, pictures), expected, rtol=1e-3, atol=0)
    for loss in (sobel_loss, local_whitening_loss, standard_deviation_loss):
        torch.testing.assert_close(loss(shifted, pictures), torch.zeros(3), rtol=0, atol=2e-4)


def test_scaling_contrast_changes_the_deviation_loss_by_hand() -> None:
    pictures = _pictures()
    expected = 0.5 * pictures.flatten(1).std(dim=1, correction=0)
    torch.testing.assert_close(standard_deviation_loss(1.5 * pictures, pictures), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_per_scan_zero_at_the_target_and_have_finite_gradients_there(loss: Loss) -> None:
    targets = torch.cat((_pictures(2), torch.zeros(1, 1, 16, 16)))
    completions = targets.clone().requires_grad_()
    losses = loss(completions, targets)
    assert losses.shape == (3,)
    torch.testing.assert_close(losses, torch.zeros(3), rtol=0, atol=1e-7)
    losses.sum().backward()
    assert completions.grad is not None
    assert torch.isfinite(completions.grad).all()
    other = torch.cat((targets[:2], _pictures(1, seed=9)))
    changed = loss(other, targets)
    assert changed[2] > 0
    torch.testing.assert_close(changed[:2], losses[:2].detach(), rtol=0, atol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_finite_differences(loss: Loss) -> None:
    targets = _pictures(1, 12, seed=1).double()
    completions = _pictures(1, 12).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda pictures: loss(pictures, targets), completions, eps=1e-7, atol=1e-4)


def test_weighted_sum() -> None:
    first, second = _pictures(), _pictures(seed=1)
    assert not DetailLosses().active
    assert DetailLosses()(first, second).tolist() == [0.0, 0.0, 0.0]
    weights = DetailLosses(sobel=1.0, local_whitening=2.0, fourier=3.0, mean=4.0, standard_deviation=5.0)
    assert weights.active
    expected = sum(weight * loss(first, second) for weight, loss in enumerate(LOSSES, start=1))
    torch.testing.assert_close(weights(first, second), expected)
    assert DetailLosses(fourier=0.5)(first, second).tolist() == (0.5 * fourier_loss(first, second)).tolist()


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_weights_out_of_range_are_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=f"weight of mean: got {weight}; expected a finite number, 0 or more"):
        DetailLosses(mean=weight)
