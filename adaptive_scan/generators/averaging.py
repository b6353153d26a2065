"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn


def warm_decay(decay: float, step: int) -> float:
    """Decay of the average at an update: min(decay, (1 + step) / (10 + step)).

    Early in training, weights move fast and a slow average would drag the untrained network along.

    Args:
        decay: Decay in the long run.
        step: Number of updates averaged before.

    Returns:
        The decay.

    Example:
        >>> warm_decay(0.999, 0), warm_decay(0.999, 100_000)
        (0.1, 0.999)
    """
    return min(decay, (1 + step) / (10 + step))


def averaged_copy(network: nn.Module) -> nn.Module:
    """A copy of a network that an average goes into: in evaluation mode, its parameters need no gradients.

    Args:
        network: The network.

    Returns:
        The copy.

    Example:
        >>> averaged_copy(nn.Linear(2, 1)).weight.requires_grad
        False
    """
    return copy.deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move averaged weights towards those of a network: a <- decay a + (1 - decay) w.

    Floating-point buffers, such as the running means of a normalisation, are averaged as parameters are; whole numbers,
    such as counters, are copied.

    Args:
        average: What `averaged_copy` made of the network; changed.
        network: The network.
        decay: In [0, 1].

    Example:
        >>> network = nn.Linear(1, 1, bias=False)
        >>> average = averaged_copy(network)
        >>> _ = nn.init.ones_(network.weight), nn.init.zeros_(average.weight)
        >>> move_average(average, network, 0.75)
        >>> average.weight.item()
        0.25
    """
    averages: list[Tensor] = []
    weights: list[Tensor] = []
    pairs = zip(_tensors(average), _tensors(network), strict=True)
    for averaged, own in pairs:
        if averaged.is_floating_point():
            averages.append(averaged)
            weights.append(own)
        else:
            averaged.copy_(own)
    torch._foreach_lerp_(averages, weights, 1.0 - decay)


def _tensors(network: nn.Module) -> itertools.chain[Tensor]:
    return itertools.chain(network.parameters(), network.buffers())
