"""Paths of straight segments that an actor can reproduce and that fill the field evenly."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial import cKDTree

from adaptive_scan.scans.geometry import ScanGeometry

_Array = NDArray[np.float64]

# A grid of this side resolves the gaps between turns and keeps one evaluation under half a millisecond.
_GRID_SIDE = 26
_MARGIN = 0.5
_EDGE_WEIGHT = 5.0
_MOST_ITERATIONS = 120
_SPACING_SHARES = (0.6, 0.75, 0.9)  # where between the bounds, geometrically, the search starts


def polygonal_spiral(geometry: ScanGeometry) -> NDArray[np.float64]:
    """Headings of a polygonal spiral that starts as the geometry does and fills the field evenly.

    The segments have the geometry's fixed length ``n_positions * first_spacing`` and the first heading is the
    geometry's. The headings minimise the mean distance from the field's pixels to the nearest probing
    position, the measure by which an Archimedean spiral is the best of paths (errors of completion grow with
    that distance: Ede and Beanland, Sci. Rep. 10 (2020) 8332), plus a penalty for segments that end outside
    the field. The search starts from the best spiral of two parameters, whose radius after the path length s
    is ``sqrt(r0^2 + pitch s / pi)``, and turns its segments by BFGS with the exact gradient. Deterministic
    and cached.

    Args:
        geometry: The scan's geometry; where it leaves the spacing free, its first spacing is used throughout.

    Returns:
        Headings [rad], float64, shape (n_segments,), a fresh array; the first is ``geometry.first_heading``.
        A path too long to fit, or a start at an edge, may leave the field.

    Example:
        >>> geometry = ScanGeometry(image_size=48, n_segments=10, n_positions=10)
        >>> positions = geometry.path(polygonal_spiral(geometry)[None])
        >>> bool(positions.min() >= 0 and positions.max() <= 47)
        True
    """
    return np.array(_cached_headings(geometry))


@lru_cache(maxsize=64)
def _cached_headings(geometry: ScanGeometry) -> tuple[float, ...]:
    first = np.array([geometry.first_heading])
    if geometry.n_segments == 1:
        return (geometry.first_heading,)
    side = (np.arange(_GRID_SIDE) + 0.5) * (geometry.image_size / _GRID_SIDE) - 0.5
    pixels = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)

    spacings = np.full(geometry.n_segments, geometry.first_spacing)

    def objective(free_headings: _Array) -> tuple[float, _Array]:
        loss, gradient, _ = _filling_loss(np.concatenate((first, free_headings)), spacings, geometry, pixels)
        return loss, gradient[1:]

    begin = min(_simple_spirals(geometry), key=lambda headings: objective(headings[1:])[0])
    found = minimize(objective, begin[1:], jac=True, method="BFGS", options={"maxiter": _MOST_ITERATIONS})
    return (geometry.first_heading, *found.x.tolist())


def filling_path(geometry: ScanGeometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Headings and spacings of the path that fills the field most evenly, with all that an actor may choose.

    Minimises the mean distance from the field's pixels to the nearest probing position over headings and, where
    the geometry leaves them free, spacings within their bounds: `polygonal_spiral` where they are fixed. The search
    starts from the polygonal spirals of several constant spacings. Deterministic and cached.

    Args:
        geometry: The scan's geometry.

    Returns:
        Headings [rad] and spacings [px], float64, shape (n_segments,) each, fresh arrays; the first heading is
        ``geometry.first_heading``.

    Example:
        >>> geometry = ScanGeometry(image_size=48, n_segments=10, n_positions=4, spacing=(1.0, 5.0))
        >>> headings, spacings = filling_path(geometry)
        >>> bool(spacings.mean() > geometry.first_spacing)
        True
    """
    headings, spacings = _cached_path(geometry)
    return np.array(headings), np.array(spacings)


@lru_cache(maxsize=64)
def _cached_path(geometry: ScanGeometry) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not geometry.has_free_spacing:
        return _cached_headings(geometry), (geometry.first_spacing,) * geometry.n_segments
    pixels, (low, high) = _pixels(geometry), geometry.spacing_bounds
    n_segments = geometry.n_segments

    def unpack(free: _Array) -> tuple[_Array, _Array, _Array]:
        """Headings, spacings and the derivative of these by the free variable, a logistic one between the bounds."""
        share = 1.0 / (1.0 + np.exp(-free[n_segments - 1 :]))
        headings = np.concatenate(([geometry.first_heading], free[: n_segments - 1]))
        return headings, low + (high - low) * share, (high - low) * share * (1.0 - share)

    def objective(free: _Array) -> tuple[float, _Array]:
        headings, spacings, slope = unpack(free)
        loss, by_heading, by_spacing = _filling_loss(headings, spacings, geometry, pixels)
        return loss, np.concatenate((by_heading[1:], by_spacing * slope))

    candidates = []
    for share in _SPACING_SHARES:
        spiral = _cached_headings(replace(geometry, spacing=low * (high / low) ** share))
        inside = (low * (high / low) ** share - low) / (high - low)
        begin = np.concatenate((spiral[1:], np.full(n_segments, math.log(inside / (1.0 - inside)))))
        candidates.append(minimize(objective, begin, jac=True, method="BFGS", options={"maxiter": _MOST_ITERATIONS}))
    best = min(candidates, key=lambda found: found.fun)
    headings, spacings, _ = unpack(best.x)
    return tuple(headings.tolist()), tuple(spacings.tolist())


def _pixels(geometry: ScanGeometry) -> _Array:
    """Points spread evenly over the field, shape (n_points, 2)."""
    side = (np.arange(_GRID_SIDE) + 0.5) * (geometry.image_size / _GRID_SIDE) - 0.5
    return np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)


def _simple_spirals(geometry: ScanGeometry) -> list[_Array]:
    """Headings of spirals of constant pitch about the start, each turn that of a chord at its radius."""
    length = geometry.n_positions * geometry.first_spacing
    even_pitch = geometry.image_size**2 / (geometry.n_segments * length)
    travelled = length * np.arange(1, geometry.n_segments)
    spirals = []
    for first_radius in np.linspace(0.2, 1.2, 9) * length:
        for pitch in np.linspace(0.3, 1.3, 11) * even_pitch:
            radii = np.sqrt(first_radius**2 + pitch * travelled / math.pi)
            turns = 2.0 * np.arcsin(np.minimum(1.0, length / (2.0 * radii)))
            spirals.append(geometry.first_heading + np.concatenate(([0.0], np.cumsum(turns))))
    return spirals


def _filling_loss(
    headings: _Array, spacings: _Array, geometry: ScanGeometry, pixels: _Array
) -> tuple[float, _Array, _Array]:
    """Mean distance from pixels to the path plus the edge penalty, in sides of the field, and its two gradients."""
    n_segments, n_positions = geometry.n_segments, geometry.n_positions
    side = float(geometry.image_size)
    directions = np.stack((np.cos(headings), np.sin(headings)), axis=1)
    steps = spacings[:, None] * directions
    corners = np.cumsum(np.concatenate((geometry.start_position[None], n_positions * steps)), axis=0)
    offsets = np.arange(n_positions, dtype=np.float64)[:, None]
    positions = (corners[:-1, None] + offsets * steps[:, None]).reshape(-1, 2)
    distances, nearest = cKDTree(positions).query(pixels)
    outside = (corners - np.clip(corners, _MARGIN, side - 1.0 - _MARGIN)) / side
    loss = float(distances.mean() / side + _EDGE_WEIGHT * np.sum(outside**2))

    pulls = (positions[nearest] - pixels) / (np.maximum(distances, 1e-9) * (len(pixels) * side))[:, None]
    position_gradient = np.stack(
        [np.bincount(nearest, weights=pull, minlength=len(positions)) for pull in pulls.T], axis=1
    ).reshape(n_segments, n_positions, 2)
    corner_gradient = 2.0 * _EDGE_WEIGHT / side * outside
    corner_gradient[:-1] += position_gradient.sum(axis=1)
    # A step carries every later corner with it.
    later = np.cumsum(corner_gradient[::-1], axis=0)[::-1][1:]
    step_gradient = n_positions * later + (position_gradient * offsets).sum(axis=1)
    by_heading = -steps[:, 1] * step_gradient[:, 0] + steps[:, 0] * step_gradient[:, 1]
    return loss, by_heading, np.sum(directions * step_gradient, axis=1)
