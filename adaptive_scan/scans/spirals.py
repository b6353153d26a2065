"""Spirals from the centre of the field outwards, at constant speed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from adaptive_scan.errors import SettingError
from adaptive_scan.scans._polylines import DEFAULT_SPACING, along_polyline, check_scan, inside
from adaptive_scan.scans.lines import check_lines

_Array = NDArray[np.floating]

_BISECTIONS = 50
_NEWTON_STEPS = 12


def archimedean_spiral(
    n_positions: int, image_size: int, *, spacing: float = DEFAULT_SPACING, phase: float = 0.0
) -> NDArray[np.float32]:
    """Positions equally spaced in arc length along an Archimedean spiral, clipped to the square field.

    ``r = pitch theta / (2 pi)`` about the centre of the field in the direction ``theta + phase``, wound out to its
    corners. Equal spacing in arc length gives every position the same dose, unlike constant angular velocity,
    where dose falls with radius (Sang et al. 2016, doi:10.1038/srep43585). The beam is blanked where the spiral
    leaves the field: those positions are spent inside, on a tighter pitch, which is solved so that the arcs
    inside are ``n_positions * spacing`` long: about ``(S - 1)^2 / (n_positions spacing)``, so that the spacing sets the
    pitch. Where they do not suffice for one turn at that spacing, the spacing grows instead.

    Args:
        n_positions: Number of positions, all inside the field.
        image_size: Side S of the square field [px].
        spacing: Distance along the path between neighbouring positions [px].
        phase: Heading in which the spiral leaves the centre [rad].

    Returns:
        Positions [px] as (row, column), float32, shape (n_positions, 2).

    Raises:
        ValueError: If the dose, the field or the spacing is not positive, or the phase is not finite.

    Example:
        >>> archimedean_spiral(400, 96).shape
        (400, 2)
    """
    check_scan(n_positions, image_size, spacing)
    if not math.isfinite(phase):
        raise SettingError(f"phase: got {phase!r}; expected a finite angle in rad")
    half = (image_size - 1) / 2.0
    scale = _solve_pitch(n_positions * spacing, half, phase) / (2.0 * math.pi)
    first, last = _arcs_inside(scale, half, phase)
    lengths = _arc_length(last, scale) - _arc_length(first, scale)
    travelled = np.concatenate(([0.0], np.cumsum(lengths)))
    wanted = (np.arange(n_positions) + 0.5) * (travelled[-1] / n_positions)
    arc = np.clip(np.searchsorted(travelled, wanted, side="right") - 1, 0, len(lengths) - 1)
    angles = _angle_at(_arc_length(first[arc], scale) + wanted - travelled[arc], scale)
    directions = np.stack((np.cos(angles + phase), np.sin(angles + phase)), axis=1)
    return inside(half + scale * angles[:, None] * directions, image_size)


def square_spiral(
    n_positions: int,
    image_size: int,
    *,
    spacing: float = DEFAULT_SPACING,
    n_turns: int | None = None,
    margin: float = 0.5,
) -> NDArray[np.float32]:
    """Positions equally spaced along a square spiral, whose legs grow by one pitch every second turn.

    With n turns and a margin m the pitch is ``S / (n + 2 m)``, which leaves m pitches to each edge, and the path is
    n (n + 2) pitches long: with the usual half a pitch ``S n (n + 2) / (n + 1)`` px. The number of turns, unless it is
    given, is the one that brings the spacing nearest to ``spacing`` there.

    Args:
        n_positions: Number of positions, all inside the field.
        image_size: Side S of the square field [px].
        spacing: Distance wanted between neighbouring positions [px]; without effect where the turns are given.
        n_turns: Turns of the spiral.
        margin: Pitches between the outer legs and the edges of the field's pixels; what would leave the pixels' centres
            is put back on them.

    Returns:
        Positions [px] as (row, column), float32, shape (n_positions, 2).

    Raises:
        ValueError: If the dose, the field, the spacing or the number of turns is not positive, or the margin is
            negative.

    Example:
        >>> square_spiral(3, 8, spacing=4.0).tolist()  # one turn: three legs of 4 px
        [[3.5, 1.5], [5.5, 3.5], [3.5, 5.5]]
    """
    check_scan(n_positions, image_size, spacing)
    check_lines("n_turns", n_turns, margin)
    if n_turns is None:
        estimate = n_positions * spacing / image_size - 1.0
        candidates = [n for n in range(math.floor(estimate) - 1, math.ceil(estimate) + 2) if n >= 1] or [1]
        length_of = {n: image_size * n * (n + 2) / (n + 1) for n in candidates}
        n_turns = min(candidates, key=lambda n: abs(length_of[n] - n_positions * spacing))
    legs = np.append(np.repeat(np.arange(1, n_turns + 1), 2), n_turns) * (image_size / (n_turns + 2.0 * margin))
    directions = np.array([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)])[np.arange(len(legs)) % 4]
    vertices = np.concatenate((np.zeros((1, 2)), np.cumsum(legs[:, None] * directions, axis=0)))
    middle = (vertices.max(axis=0) + vertices.min(axis=0)) / 2.0
    centred = np.clip(vertices - middle + (image_size - 1) / 2.0, 0.0, image_size - 1.0)
    return inside(along_polyline(centred, n_positions), image_size)


def _solve_pitch(length: float, half: float, phase: float) -> float:
    """Pitch [px] at which the spiral's arcs inside the field are ``length`` px long; at most one turn's."""
    widest = math.sqrt(2.0) * half

    def excess(pitch: float) -> float:
        scale = pitch / (2.0 * math.pi)
        first, last = _arcs_inside(scale, half, phase)
        return float(np.sum(_arc_length(last, scale) - _arc_length(first, scale))) - length

    # The length inside is about the field's area over the pitch; a quarter of that pitch is surely too tight.
    tightest = half * half / length
    if tightest >= widest or excess(widest) >= 0.0:
        return widest
    return float(brentq(excess, tightest, widest, xtol=1e-12 * widest, rtol=1e-12))


def _arc_length(angles: _Array, scale: float) -> _Array:
    return scale / 2.0 * (angles * np.sqrt(1.0 + angles * angles) + np.arcsinh(angles))


def _angle_at(lengths: _Array, scale: float) -> _Array:
    # The arc length is convex in the angle, so Newton's method from above falls onto the root without overshoot.
    angles = np.sqrt(2.0 * lengths / scale)
    for _ in range(_NEWTON_STEPS):
        angles -= (_arc_length(angles, scale) - lengths) / (scale * np.sqrt(1.0 + angles * angles))
    result: _Array = angles
    return result


def _arcs_inside(scale: float, half: float, phase: float) -> tuple[_Array, _Array]:
    """First and last angle [rad] of the arcs of ``r = scale theta`` that lie in a square of half side ``half``.

    The spiral is turned by ``phase`` against the square. In the quarter turn about each direction k pi/2 of the square
    one edge limits the spiral, and the distance towards that edge, ``scale theta cos(theta + phase - k pi/2)``, rises
    to a single peak and falls again.
    """
    n_quarters = math.ceil(math.sqrt(2.0) * half / scale / (math.pi / 2.0) + 0.5)
    # A quarter turn leaves the square as it is; within an eighth of the first edge no quarter is lost before angle 0.
    turned = math.remainder(phase, math.pi / 2.0)
    middle = np.arange(n_quarters + 1) * (math.pi / 2.0) - turned
    begin, end = np.maximum(middle - math.pi / 4.0, 0.0), middle + math.pi / 4.0

    def reach(angles: _Array) -> _Array:
        return scale * angles * np.cos(angles - middle)

    def still_rising(angles: _Array) -> NDArray[np.bool_]:
        return np.cos(angles - middle) > angles * np.sin(angles - middle)

    peak = _last_true(still_rising, begin, end)
    leaves = np.where(reach(peak) <= half, peak, _last_true(lambda a: reach(a) <= half, begin, peak))
    returns = np.where(reach(peak) <= half, peak, _last_true(lambda a: reach(a) > half, peak, end))
    first, last = np.concatenate((begin, returns)), np.concatenate((leaves, end))
    whole = np.concatenate((reach(begin) <= half, reach(end) <= half)) & (last > first)
    order = np.argsort(first[whole], kind="stable")
    return first[whole][order], last[whole][order]


def _last_true(
    condition: Callable[[_Array], NDArray[np.bool_]],
    low: _Array,
    high: _Array,
) -> _Array:
    """Where a condition that holds first and then no longer changes, by bisection between ``low`` and ``high``."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        holds = condition(middle)
        low, high = np.where(holds, middle, low), np.where(holds, high, middle)
    return low
