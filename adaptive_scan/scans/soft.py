"""Partial scans that are differentiable in where the probe goes.

A position counts for the four pixels around it, by bilinear weights, where `adaptive_scan.scans.tensors` has it count
for the nearest pixel alone. Gradients of a completion's loss then lead to better positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST_WEIGHT = 1e-12  # keeps 0/0 at 0 where nothing was measured


def soft_partial_scans(crops: Tensor, positions: Tensor, values: Tensor | None = None) -> Tensor:
    """Partial scans with bilinear weights, differentiable in the positions.

    A position (r, c) reads ``v = sum_k w_k crop_k`` from the four pixels k around it, ``w_k`` the product of 1 less the
    distance along rows and along columns (the bilinear sampling of Jaderberg et al. 2015, arXiv 1506.02025, eq. 5), and
    gives these pixels their value by the same weights: ``value_k = sum w_k v / sum w_k`` over all positions and
    ``mask_k = min(1, sum w_k)``. At positions on pixels it is the partial scan itself.

    Args:
        crops: Pictures, shape (n_scans, S, S), S at least 2.
        positions: Positions [px] as (row, column), shape (n_scans, ..., 2); those outside the field count where they
            are nearest to it, and have no gradient across its edge.
        values: What an instrument measured there, shape (n_scans, ...): taken in place of the values read, whose
            gradients they then have (straight through). None has the values read.

    Returns:
        Partial scans, shape (n_scans, 2, S, S), with masks in [0, 1].

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> crop = torch.arange(16.0).reshape(1, 4, 4)
        >>> soft_partial_scans(crop, torch.tensor([[[1.0, 1.5]]]))[0, :, 1].tolist()
        [[0.0, 5.5, 5.5, 0.0], [0.0, 0.5, 0.5, 0.0]]
    """
    n_scans, side = len(crops), crops.shape[-1]
    if crops.ndim != 3 or crops.shape[1] != side or side < 2:
        raise ValueError(f"crops have shape {tuple(crops.shape)}; expected (n_scans, S, S) with S at least 2")
    if positions.ndim < 3 or positions.shape[-1] != 2 or len(positions) != n_scans:
        raise ValueError(f"positions have shape {tuple(positions.shape)}; expected ({n_scans}, ..., 2)")
    pixels, weights = _corners(positions.reshape(n_scans, -1, 2), side)
    read = (weights * crops.reshape(n_scans, -1).gather(1, pixels.flatten(1)).reshape(pixels.shape)).sum(dim=2)
    if values is not None:
        read = values.reshape(read.shape).to(read.dtype) + (read - read.detach())
    empty = torch.zeros(n_scans, side**2, dtype=read.dtype, device=read.device)
    sums = empty.scatter_add(1, pixels.flatten(1), (weights * read[..., None]).flatten(1))
    totals = empty.scatter_add(1, pixels.flatten(1), weights.flatten(1))
    scans = torch.stack((sums / totals.clamp(min=_SMALLEST_WEIGHT), totals.clamp(max=1.0)), dim=1)
    return scans.reshape(n_scans, 2, side, side)


def _corners(positions: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Flat indices of the four pixels around each position and their weights, both (n_scans, n_positions, 4)."""
    inside = positions.clamp(0, side - 1)
    lowest = inside.detach().floor().clamp(max=side - 2)
    over = inside - lowest
    rows = torch.stack((1 - over[..., 0], over[..., 0]), dim=-1)
    columns = torch.stack((1 - over[..., 1], over[..., 1]), dim=-1)
    weights = (rows[..., :, None] * columns[..., None, :]).flatten(-2)
    first = (lowest[..., 0] * side + lowest[..., 1]).long()
    offsets = torch.tensor([0, 1, side, side + 1], device=positions.device)
    return first[..., None] + offsets, weights
