from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from adaptive_scan.generators import blur_targets
from studies.deconvolution import deconvolution_residuals, deconvolve


@pytest.fixture
def sharp(rng: np.random.Generator) -> Tensor:
    """Smooth random pictures in [-1, 1], of correlation lengths of 1.5 and 3 px."""
    pictures = np.stack([gaussian_filter(rng.normal(size=(24, 24)), width, mode="wrap") for width in (1.5, 3.0)])
    pictures /= np.abs(pictures).max(axis=(1, 2), keepdims=True)
    return torch.from_numpy(pictures.astype(np.float32))[:, None]


def _errors(pictures: Tensor, truth: Tensor) -> Tensor:
    return (pictures - truth).square().mean(dim=(1, 2, 3))


def test_residuals_equal_those_of_scipy(sharp: Tensor) -> None:
    blurred = [gaussian_filter(picture, 2.5, mode="mirror", radius=2) for picture in sharp[:, 0].double().numpy()]
    found = deconvolution_residuals(sharp, torch.full_like(sharp, 0.1))
    np.testing.assert_allclose(found, [((picture - 0.1) ** 2).mean() for picture in blurred], rtol=1e-5)
    assert deconvolution_residuals(sharp, blur_targets(sharp)).tolist() == [0.0, 0.0]


def test_deconvolution_is_far_nearer_to_the_truth_than_the_blur(sharp: Tensor) -> None:
    blurred = blur_targets(sharp)
    found = deconvolve(blurred)
    assert (_errors(found, sharp) < 0.2 * _errors(blurred, sharp)).all()
    assert (deconvolution_residuals(found, blurred) < 1e-3 * deconvolution_residuals(blurred, blurred)).all()


def test_more_steps_never_leave_a_larger_residual(sharp: Tensor) -> None:
    blurred = blur_targets(sharp)
    # a rate at which the iterates themselves rise at first
    residuals = [
        deconvolution_residuals(deconvolve(blurred, n_steps=n_steps, learning_rate=2.0), blurred)
        for n_steps in (0, 1, 3, 10, 30)
    ]
    for before, after in pairwise(residuals):
        assert (after <= before).all()
    assert torch.equal(residuals[1], residuals[0])
    assert (residuals[-1] <= residuals[0]).all()


def test_first_step_of_adam_by_hand(sharp: Tensor) -> None:
    """Adam's first step is the rate times g / (abs(g) + epsilon), with g the adjoint blur of twice the residual."""
    blurred = blur_targets(sharp).double()
    start = blurred.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((blur_targets(start) - blurred).square().sum(), start)
    expected = blurred - 0.01 * gradient / (gradient.abs() + 1e-8 * 512**2 * 2)
    found = deconvolve(blurred, n_steps=1, learning_rate=0.01)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_each_picture_is_treated_alone_and_alike_every_time(sharp: Tensor) -> None:
    blurred = blur_targets(sharp)
    together = deconvolve(blurred, n_steps=20)
    assert torch.equal(together, deconvolve(blurred, n_steps=20))
    for index in range(2):
        alone = deconvolve(blurred[index : index + 1], n_steps=20)
        torch.testing.assert_close(together[index : index + 1], alone, rtol=0, atol=1e-5)


def test_a_uniform_picture_and_zero_steps_change_nothing(sharp: Tensor) -> None:
    uniform = torch.full((1, 1, 12, 12), 0.3)
    torch.testing.assert_close(deconvolve(uniform), uniform, rtol=0, atol=1e-5)
    assert torch.equal(deconvolve(sharp, n_steps=0), sharp)


def test_argument_gets_no_gradient_and_is_kept(sharp: Tensor) -> None:
    blurred = blur_targets(sharp).requires_grad_()
    kept = blurred.detach().clone()
    with torch.no_grad():
        found = deconvolve(blurred, n_steps=2)
    assert not found.requires_grad
    assert blurred.grad is None
    assert torch.equal(blurred.detach(), kept)
    assert not torch.equal(found, kept)


def test_completions_made_in_inference_mode_are_deconvolved_in_it_and_outside(sharp: Tensor) -> None:
    expected = deconvolve(blur_targets(sharp), n_steps=3)
    with torch.inference_mode():
        blurred = blur_targets(sharp)
        assert torch.equal(deconvolve(blurred, n_steps=3), expected)
    assert torch.equal(deconvolve(blurred, n_steps=3), expected)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"n_steps": -1}, "n_steps: got -1; expected 0 or more"),
        ({"learning_rate": 0.0}, "learning_rate: got 0.0; expected a finite number above 0"),
        ({"learning_rate": math.nan}, "learning_rate: got nan; expected a finite number above 0"),
        ({"decay": math.inf}, "decay: got inf; expected a finite number above 0"),
    ],
)
def test_settings_out_of_range_are_refused(keywords: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deconvolve(torch.zeros(1, 1, 8, 8), **keywords)  # type: ignore[arg-type]
