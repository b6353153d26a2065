"""Undoing the blur that generators are trained towards, by gradient descent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adaptive_scan.generators.losses import blur_targets

# TensorFlow's 1e-8 for gradients of a mean over 512x512 pixels in [0, 1], for those of a sum over pixels in [-1, 1]: it
# damps the steps of pixels that are nearly right, at all sizes alike.
_EPSILON = 1e-8 * 512**2 * 2


def deconvolution_residuals(pictures: Tensor, blurred: Tensor, *, size: int = 5, sigma: float = 2.5) -> Tensor:
    """How far the blur of each picture is from a blurred one, mean((blur(picture) - blurred)²).

    Args:
        pictures: Sharp pictures, shape (n_scans, 1, S, S).
        blurred: Blurred pictures, same shape.
        size: Side of the blur's kernel [px], odd.
        sigma: Standard deviation of its Gaussian [px].

    Returns:
        Residuals, shape (n_scans,).

    Example:
        >>> deconvolution_residuals(torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)).allclose(torch.ones(1))
        True
    """
    return (blur_targets(pictures, size=size, sigma=sigma) - blurred).square().flatten(1).mean(dim=1)


def deconvolve(
    blurred: Tensor,
    *,
    n_steps: int = 100,
    learning_rate: float = 0.1,
    decay: float = 0.99,
    size: int = 5,
    sigma: float = 2.5,
) -> Tensor:
    """Pictures whose Gaussian blur is the given one, such as a completion of a generator trained on blurred targets.

    Division in Fourier space fails, because the transform of so small a kernel passes through 0. As in the
    supersampling paper (Ede, arXiv 1910.10467, section II) Adam (beta1 0.9, beta2 0.999) follows the gradient of the
    squared residuals for 100 iterations i with a learning rate of eta0 a^i, a = 0.99. The paper's eta0 is 0.3 for
    intensities in [0, 1], which is 0.6 in [-1, 1]. Ours is smaller, because that one leaves noise smoothed by Gaussians
    of 1.5 and 3 px with 0.7 and 1.9 times the squared error of its blur, and 0.1 with less than 0.1 times.

    Descent starts from the blurred picture and each scan keeps its iterate of the smallest residual, so more steps
    never give a larger one. What the blur took away entirely does not come back: frequencies near the zeros of the
    kernel's transform stay as they were, and noise at the others is raised.

    Args:
        blurred: Blurred pictures, shape (n_scans, 1, S, S); each is treated alone.
        n_steps: Number of iterations.
        learning_rate: Adam's learning rate at the start, eta0.
        decay: Factor of the learning rate from one iteration to the next, a.
        size: Side of the blur's kernel [px], odd.
        sigma: Standard deviation of its Gaussian [px].

    Returns:
        Sharp pictures, same shape, without a gradient.

    Raises:
        ValueError: If ``n_steps`` is negative, or a rate is not positive and finite.

    Example:
        >>> sharp = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> blurred = blur_targets(sharp)
        >>> bool((deconvolve(blurred) - sharp).square().mean() < 0.7 * (blurred - sharp).square().mean())
        True
    """
    if n_steps < 0:
        raise ValueError(f"n_steps: got {n_steps}; expected 0 or more")
    for name, rate in (("learning_rate", learning_rate), ("decay", decay)):
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"{name}: got {rate}; expected a finite number above 0")
    blurred = blurred.detach()
    # gradients are needed whatever mode the completion was made in
    with torch.inference_mode(False), torch.enable_grad():
        pictures = blurred.clone().requires_grad_()
        optimiser = torch.optim.Adam([pictures], lr=learning_rate, eps=_EPSILON)
        best = blurred.clone()
        smallest = torch.full((len(blurred),), math.inf, dtype=blurred.dtype, device=blurred.device)
        for step in range(n_steps + 1):
            residuals = deconvolution_residuals(pictures, blurred, size=size, sigma=sigma)
            better = residuals.detach() < smallest
            smallest = torch.where(better, residuals.detach(), smallest)
            best[better] = pictures.detach()[better]
            if step == n_steps:
                break
            optimiser.param_groups[0]["lr"] = learning_rate * decay**step
            (gradient,) = torch.autograd.grad(residuals.sum() * blurred[0].numel(), pictures)
            pictures.grad = gradient
            optimiser.step()
    return best
