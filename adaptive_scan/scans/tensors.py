"""Paths, measuring and partial scans for tensors: batched, on any device, without a loop over scans.

The functions mean the same as those of ``adaptive_scan.scans.geometry`` and ``adaptive_scan.scans.sampling``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adaptive_scan.scans.geometry import ScanGeometry


def path(headings: Tensor, geometry: ScanGeometry, spacings: Tensor | None = None) -> Tensor:
    """Probing positions that headings lead to, differentiable in the headings and the spacings.

    Position i of a segment is ``start + i d (cos h, sin h)``; the next one starts at
    ``start + n_positions d (cos h, sin h)``.

    Args:
        headings: Heading of each segment [rad], shape (n_scans, n_segments).
        geometry: The scan's geometry.
        spacings: Spacing of each segment [px], the same shape; the geometry's first spacing when None.

    Returns:
        Positions [px], the headings' dtype, summed in float64, shape (n_scans, n_segments, n_positions, 2).

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> geometry = ScanGeometry(image_size=8, n_segments=2, n_positions=2, spacing=1.0)
        >>> path(torch.zeros(1, 2), geometry)[0, 1].tolist()
        [[6.0, 4.0], [7.0, 4.0]]
    """
    if headings.ndim != 2 or headings.shape[1] != geometry.n_segments:
        expected = f"(n_scans, {geometry.n_segments})"
        raise ValueError(f"headings have shape {tuple(headings.shape)}; expected {expected}")
    if spacings is not None and spacings.shape != headings.shape:
        raise ValueError(f"spacings have shape {tuple(spacings.shape)}; expected {tuple(headings.shape)}")
    dtype = _sum_dtype(headings.device)
    angles = headings.to(dtype)
    distances = geometry.first_spacing if spacings is None else spacings.to(dtype)[..., None]
    steps = distances * torch.stack((torch.cos(angles), torch.sin(angles)), dim=-1)
    start = torch.as_tensor(geometry.start_position).to(headings.device, dtype)
    moves = torch.cat((start.expand(len(steps), 1, 2), geometry.n_positions * steps[:, :-1]), dim=1)
    starts = torch.cumsum(moves, dim=1)
    offsets = torch.arange(geometry.n_positions, device=headings.device, dtype=dtype)[:, None]
    return (starts[:, :, None] + offsets * steps[:, :, None]).to(headings.dtype)


def action_from_spacing(spacing: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Action component that chooses a spacing where there is no reference.

    Args:
        spacing: Spacings [px], any shape.
        bounds: Lowest and highest spacing [px]; a spacing outside gets the component of the nearer bound.

    Returns:
        Components in [-1, 1], the dtype and shape of ``spacing``.

    Example:
        >>> action_from_spacing(torch.tensor([1.0, 2.0, 4.0]), (1.0, 4.0)).tolist()
        [-1.0, 0.0, 1.0]
    """
    low, high = bounds
    component = 2.0 * torch.log(spacing / low) / math.log(high / low) - 1.0
    return component.clamp(-1, 1)


def sample(crops: Tensor, positions: Tensor) -> Tensor:
    """Values of pictures at probing positions, each from its nearest pixel.

    Args:
        crops: Pictures, shape (n_scans, S, S).
        positions: Positions [px] as (row, column), shape (n_scans, ..., 2), or (1, ..., 2) for one path that
            all pictures share. A position outside the field takes the nearest pixel inside.

    Returns:
        Values, the dtype of ``crops``, shape (n_scans, ...); differentiable in ``crops``.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> sample(torch.arange(16.0).reshape(1, 4, 4), torch.tensor([[[0.0, 0.5], [2.4, 3.0]]])).tolist()
        [[1.0, 11.0]]
    """
    if crops.ndim != 3 or crops.shape[1] != crops.shape[2]:
        raise ValueError(f"crops have shape {tuple(crops.shape)}; expected (n_scans, S, S)")
    pixels = _pixels(positions, len(crops), crops.shape[1])
    values = crops.reshape(len(crops), -1).gather(1, pixels)
    return values.reshape(len(crops), *positions.shape[1:-1])


def partial_scans(values: Tensor, positions: Tensor, image_size: int) -> Tensor:
    """Partial scans: the mean of what was measured at each pixel, and the mask of measured pixels.

    Args:
        values: Measured values, shape (n_scans, ...).
        positions: Their positions [px], shape (n_scans, ..., 2), or (1, ..., 2) where all share one path.
        image_size: Side S of the field [px].

    Returns:
        Partial scans, the dtype of ``values``, summed in float64, shape (n_scans, 2, S, S); differentiable in
        ``values``.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> positions = torch.tensor([[[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]])
        >>> partial_scans(torch.tensor([[1.0, 3.0, 5.0]]), positions, 2)[0, 0].tolist()
        [[2.0, 0.0], [0.0, 5.0]]
    """
    n_scans = len(values)
    pixels = _pixels(positions, n_scans, image_size)
    if values.shape[1:] != positions.shape[1:-1]:
        expected = (n_scans, *positions.shape[1:-1])
        raise ValueError(f"values have shape {tuple(values.shape)}; expected {expected}")
    offsets = torch.arange(n_scans, device=values.device)[:, None] * image_size**2
    index = (pixels + offsets).reshape(-1)
    zeros = torch.zeros(n_scans * image_size**2, device=values.device, dtype=_sum_dtype(values.device))
    sums = zeros.index_add(0, index, values.reshape(-1).to(zeros.dtype))
    counts = zeros.index_add(0, index, torch.ones_like(index, dtype=zeros.dtype))
    scans = torch.stack((sums / counts.clamp(min=1.0), counts.clamp(max=1.0)))
    return scans.reshape(2, n_scans, image_size, image_size).transpose(0, 1).to(values.dtype).contiguous()


def _sum_dtype(device: torch.device) -> torch.dtype:
    # Metal has no float64.
    return torch.float32 if device.type == "mps" else torch.float64


def _pixels(positions: Tensor, n_scans: int, image_size: int) -> Tensor:
    """Flat index of the pixel nearest to each position, int64, shape (n_scans, n_positions)."""
    if positions.ndim < 3 or positions.shape[-1] != 2 or len(positions) not in (1, n_scans):
        raise ValueError(f"positions have shape {tuple(positions.shape)}; expected ({n_scans}, ..., 2) or (1, ..., 2)")
    rounded = torch.floor(positions.detach().to(torch.float32) + 0.5).clamp(0, image_size - 1).long()
    pixels = (rounded[..., 0] * image_size + rounded[..., 1]).reshape(len(positions), -1)
    return pixels.expand(n_scans, -1)
