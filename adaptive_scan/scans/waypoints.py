"""Paths towards waypoints, for tensors: what an actor can follow, differentiable in the waypoints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptive_scan.scans.geometry import ScanGeometry

_SHORTEST = 1e-3  # px; a waypoint that is reached already has no direction


def walk(ends: Tensor, waypoints: Tensor, geometry: ScanGeometry) -> Tensor:
    """Corners of the path that makes one segment towards each waypoint in turn.

    A segment is as long as the way to its waypoint, but its spacing stays within the geometry's bounds, so that it may
    end before or beyond it: ``c' = c + u min(max(|w - c|, P d_low), P d_high)`` with ``u = (w - c) / |w - c|``. A
    waypoint within 0.001 px of the corner has no direction to speak of, and gradients without bounds if it had one:
    there the segment goes on as the one before it, the first one down the rows, whatever the waypoint.

    Args:
        ends: Corners where the first segments begin [px], shape (n_scans, 2).
        waypoints: What each segment heads for [px], shape (n_scans, n_waypoints, 2).
        geometry: Positions P of a segment and bounds of their spacing.

    Returns:
        Corners where the segments end [px], shape (n_scans, n_waypoints, 2).

    Example:
        >>> geometry = ScanGeometry(8, 3, 1, spacing=(1.0, 2.0))
        >>> walk(torch.zeros(1, 2), torch.tensor([[[1.5, 0.0], [1.5, 9.0]]]), geometry).tolist()
        [[[1.5, 0.0], [1.5, 2.0]]]
    """
    shortest, longest = (geometry.n_positions * bound for bound in geometry.spacing_bounds)
    corners, step = [], ends.new_tensor([[1.0, 0.0]])
    for waypoint in waypoints.unbind(dim=1):
        way = waypoint - ends
        distance = torch.linalg.vector_norm(way, dim=1, keepdim=True)
        length = distance.clamp(min=_SHORTEST)
        covered = length.clamp(shortest, longest)
        before, step = step, way * (covered / length)
        is_reached = distance < _SHORTEST
        if is_reached.any():
            onwards = F.normalize(before.detach(), dim=1) * covered.detach()
            step = torch.where(is_reached, onwards, step)
        ends = ends + step
        corners.append(ends)
    return torch.stack(corners, dim=1)


def between_corners(corners: Tensor, n_positions: int) -> Tensor:
    """Probing positions of straight segments between corners, evenly spaced, each segment from its first corner on.

    Args:
        corners: Corners [px], shape (n_scans, n_segments + 1, 2).
        n_positions: Positions P of a segment.

    Returns:
        Positions [px], shape (n_scans, n_segments, P, 2).

    Example:
        >>> between_corners(torch.tensor([[[0.0, 0.0], [0.0, 3.0]]]), 3)[0, 0].tolist()
        [[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]]
    """
    shares = torch.arange(n_positions, dtype=corners.dtype, device=corners.device)[:, None] / n_positions
    first, last = corners[:, :-1, None], corners[:, 1:, None]
    return first + shares * (last - first)


def corners_of(geometry: ScanGeometry, headings: Tensor, spacings: Tensor) -> Tensor:
    """Corners of a path of segments, the first at the geometry's start.

    Args:
        geometry: The scan's geometry.
        headings: Heading of each segment [rad], shape (n_segments,).
        spacings: Spacing of each segment [px], shape (n_segments,).

    Returns:
        Corners [px], the dtype of the headings, shape (n_segments + 1, 2).

    Example:
        >>> geometry = ScanGeometry(8, 2, 2, spacing=1.0)
        >>> corners_of(geometry, torch.zeros(2), torch.ones(2)).tolist()
        [[4.0, 4.0], [6.0, 4.0], [8.0, 4.0]]
    """
    start = torch.as_tensor(geometry.start_position).to(headings)
    directions = torch.stack((torch.cos(headings), torch.sin(headings)), dim=-1)
    steps = geometry.n_positions * spacings[:, None] * directions
    return torch.cat((start[None], start + torch.cumsum(steps, dim=0)))


def segments_between(corners: Tensor, n_positions: int) -> tuple[Tensor, Tensor]:
    """Headings and spacings of the segments between corners; the inverse of `corners_of`.

    Args:
        corners: Corners [px], shape (..., n_segments + 1, 2).
        n_positions: Positions P of a segment.

    Returns:
        Headings [rad] and spacings [px], both of shape (..., n_segments).

    Example:
        >>> segments_between(torch.tensor([[0.0, 0.0], [0.0, 3.0]]), 2)[1].tolist()
        [1.5]
    """
    steps = torch.diff(corners, dim=-2)
    return torch.atan2(steps[..., 1], steps[..., 0]), torch.linalg.vector_norm(steps, dim=-1) / n_positions
