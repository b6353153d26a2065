"""The completion loss, its targets, and adaptive learning rate clipping, as pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptive_scan.generators.loss_settings import LOSS_SCALE, AlrcState
from adaptive_scan.micrographs import gaussian_kernel


def completion_loss(completions: Tensor, targets: Tensor) -> Tensor:
    """Loss of each scan, E = 10 mean((completion - target)²) (Ede, arXiv 2004.02786).

    Args:
        completions: Completed pictures, shape (n_scans, 1, S, S).
        targets: What they should be, same shape.

    Returns:
        Losses, shape (n_scans,).

    Example:
        >>> completion_loss(torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, 1, 2, 2))
        tensor([2.5000])
    """
    return LOSS_SCALE * (completions - targets).square().flatten(1).mean(dim=1)


def blur_targets(crops: Tensor, *, size: int = 5, sigma: float = 2.5) -> Tensor:
    """Gaussian blur of crops: the torch form of ``adaptive_scan.micrographs.blur_target``.

    Args:
        crops: Pictures, shape (n_scans, 1, S, S); S larger than ``size // 2``.
        size: Side of the kernel [px], odd.
        sigma: Standard deviation of the Gaussian [px].

    Returns:
        Blurred pictures, same shape; the border is reflected without repeating the edge pixel.

    Example:
        >>> blur_targets(torch.ones(1, 1, 8, 8)).allclose(torch.ones(1, 1, 8, 8))
        True
    """
    kernel = torch.from_numpy(gaussian_kernel(size, sigma)).to(crops)
    radius = size // 2
    padded = F.pad(crops, (radius, radius, radius, radius), mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, size, 1)), kernel.view(1, 1, 1, size))


def alrc(losses: Tensor, state: AlrcState, *, n_sigma: float = 3.0, decay: float = 0.999) -> tuple[Tensor, AlrcState]:
    """Adaptive learning rate clipping (Ede and Beanland 2020, doi:10.1088/2632-2153/ab81e2).

    A loss L above the limit l = mu1 + n sqrt(mu2 - mu1²) becomes L stopgrad(l / L): its value is the limit and its
    gradient keeps the direction and shrinks by l / L. The limit is per scan. The moments then move towards
    the batch means of the capped losses and of their squares,

        mu1 <- decay mu1 + (1 - decay) mean(capped),  mu2 <- decay mu2 + (1 - decay) mean(capped²).

    Args:
        losses: Losses, not negative, shape (n_scans,).
        state: Moments before this batch, which set its limit.
        n_sigma: Standard deviations above the mean at which the limit lies.
        decay: Decay of the running moments, in [0, 1].

    Returns:
        The capped losses, shape (n_scans,), and the moments after this batch.

    Example:
        >>> capped, state = alrc(torch.tensor([2.0, 20.0]), AlrcState(mu1=1.0, mu2=5.0), decay=0.5)
        >>> capped, state.mu1, state.mu2
        (tensor([2., 7.]), 2.75, 15.75)
    """
    limit = state.mu1 + n_sigma * state.standard_deviation
    over = losses.detach() > limit
    factors = torch.where(over, limit / losses.detach(), torch.ones_like(losses))
    capped = losses * factors
    known = capped.detach().double()
    mu1 = decay * state.mu1 + (1 - decay) * known.mean().item()
    mu2 = decay * state.mu2 + (1 - decay) * known.square().mean().item()
    # convexity gives mu2 >= mu1**2; rounding can break it when all losses are equal
    return capped, AlrcState(mu1, max(mu2, mu1**2))
