"""Line-like static scans: raster, jittered gridlike lines, Lissajous curves and random walks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from adaptive_scan.errors import SettingError
from adaptive_scan.scans._polylines import (
    DEFAULT_SPACING,
    along_polyline,
    cell_centres,
    check_scan,
    inside,
)

_VERTICES_PER_OSCILLATION = 400


def serpentine_raster(
    n_positions: int,
    image_size: int,
    *,
    spacing: float = DEFAULT_SPACING,
    n_lines: int | None = None,
    margin: float = 0.5,
    phase: float = 0.5,
) -> NDArray[np.float32]:
    """Positions equally spaced along horizontal lines, scanned to and fro, and the moves between them.

    n lines at ``(i + 2 m phase) pitch - 1/2``, with ``pitch = S / (n - 1 + 2 m)`` for a margin m, span the field; the
    path, ``n (S - 1) + (n - 1) pitch`` px long, is never broken. With the usual margins of half a pitch at both edges
    the lines lie at ``(i + 1/2) S / n - 1/2``. The number of lines, unless it is given, is the one that brings the
    spacing nearest to ``spacing`` there.

    Args:
        n_positions: Number of positions, all inside the field.
        image_size: Side S of the square field [px].
        spacing: Distance wanted between neighbouring positions [px]; without effect where the lines are given.
        n_lines: Number of lines.
        margin: Mean of the two margins between the outer lines and the edges of the field's pixels [pitches]; lines
            that would leave the pixels' centres are put back on them.
        phase: How the margins are shared, in [0, 1]: 0 leaves all of both to the last edge, 1 to the first.

    Returns:
        Positions [px] as (row, column), float32, shape (n_positions, 2).

    Raises:
        ValueError: If the dose, the field, the spacing or the number of lines is not positive, the margin is negative,
            or the phase is not in [0, 1].

    Example:
        >>> serpentine_raster(4, 4, spacing=2.0).tolist()  # two lines of 3 px, 2 px apart
        [[0.5, 1.0], [0.5, 3.0], [2.5, 3.0], [2.5, 1.0]]
    """
    check_scan(n_positions, image_size, spacing)
    check_lines("n_lines", n_lines, margin)
    if not 0.0 <= phase <= 1.0:
        raise SettingError(f"phase: got {phase!r}; expected a number in [0, 1]")
    side = image_size - 1.0

    def mismatch(n_lines: int) -> float:
        return abs(n_lines * side + (n_lines - 1) * image_size / n_lines - n_positions * spacing)

    if n_lines is None:
        estimate = math.floor(n_positions * spacing / side)
        n_lines = min(range(max(1, estimate - 2), max(1, estimate) + 2), key=mismatch)
    # One line alone has no pitch but that of its margins.
    pitch = image_size / (n_lines - 1 + 2.0 * margin or 1.0)
    places = (np.arange(n_lines) + 2.0 * margin * phase) * pitch - 0.5
    rows = np.repeat(np.clip(places, 0.0, side), 2)
    columns = np.resize([0.0, side, side, 0.0], 2 * n_lines)
    return inside(along_polyline(np.stack((rows, columns), axis=1), n_positions), image_size)


def jittered_gridlike(
    n_positions: int,
    image_size: int,
    rng: np.random.Generator,
    *,
    spacing: float = DEFAULT_SPACING,
    jitter: float = 0.15,
) -> NDArray[np.float32]:
    """Positions along a grid of horizontal and vertical lines that wander about their places.

    As many lines run across as down. Each line's excursion is a stationary first-order random walk with
    standard deviation ``jitter`` times the pitch of the lines and a correlation length of one pitch:
    jittered gridlike scans (Ede and Beanland, Sci. Rep. 10 (2020) 8332) with our own choice of process. Lines
    are scanned to and fro, first all horizontal ones, then all vertical ones; the beam is blanked between
    lines.

    Args:
        n_positions: Number of positions, all inside the field.
        image_size: Side S of the square field [px].
        rng: Source of the excursions.
        spacing: Distance wanted between neighbouring positions along a line [px].
        jitter: Standard deviation of the excursions as a fraction of the pitch; not negative.

    Returns:
        Positions [px] as (row, column), float32, shape (n_positions, 2).

    Raises:
        ValueError: If the dose, the field or the spacing is not positive, or the jitter is negative.

    Example:
        >>> jittered_gridlike(400, 96, np.random.default_rng(0)).shape
        (400, 2)
    """
    check_scan(n_positions, image_size, spacing)
    if not (math.isfinite(jitter) and jitter >= 0):
        raise SettingError(f"jitter: got {jitter!r}; expected a fraction of the pitch, not negative")
    n_lines = max(1, min(round(n_positions * spacing / (2 * image_size)), n_positions // 2))
    pitch = image_size / n_lines
    lines = []
    for i, part in enumerate(np.array_split(np.arange(n_positions), min(2 * n_lines, n_positions))):
        along = cell_centres(len(part), image_size)[:: -1 if i % 2 else 1]
        memory = math.exp(-image_size / (len(part) * pitch))
        across = cell_centres(n_lines, image_size)[i % n_lines] + jitter * pitch * _noise(len(part), memory, rng)
        lines.append(np.stack((across, along) if i < n_lines else (along, across), axis=1))
    return inside(np.concatenate(lines), image_size)


def lissajous(
    n_positions: int, image_size: int, *, spacing: float = DEFAULT_SPACING, n_oscillations: int | None = None
) -> NDArray[np.float32]:
    """Positions equally spaced in arc length along a Lissajous curve that runs from corner to edge once.

    ``(cos n t, cos (n + 1) t)``, t in [0, pi], scaled to the field: the generating curve of the Padua points,
    which never retraces itself. The number of oscillations n, unless it is given, is the one that brings the spacing
    nearest to ``spacing``.

    Args:
        n_positions: Number of positions, all inside the field.
        image_size: Side S of the square field [px].
        spacing: Distance wanted between neighbouring positions [px]; without effect where the oscillations are given.
        n_oscillations: Number of oscillations n.

    Returns:
        Positions [px] as (row, column), float32, shape (n_positions, 2).

    Raises:
        ValueError: If the dose, the field, the spacing or the number of oscillations is not positive.

    Example:
        >>> lissajous(400, 96).shape
        (400, 2)
    """
    check_scan(n_positions, image_size, spacing)
    half = (image_size - 1) / 2.0

    def curve(n: int) -> NDArray[np.float64]:
        t = np.linspace(0.0, math.pi, _VERTICES_PER_OSCILLATION * n + 1)
        return half + half * np.stack((np.cos(n * t), np.cos((n + 1) * t)), axis=1)

    def mismatch(n: int) -> float:
        return abs(float(np.hypot(*np.diff(curve(n), axis=0).T).sum()) - n_positions * spacing)

    check_lines("n_oscillations", n_oscillations)
    # The mean of sqrt(sin^2 + sin^2) is near 0.96, so each oscillation adds about 3 half sides.
    if n_oscillations is None:
        estimate = max(1, round(n_positions * spacing / (3.0 * half)))
        n_oscillations = min(range(max(1, estimate - 2), estimate + 2), key=mismatch)
    return inside(along_polyline(curve(n_oscillations), n_positions), image_size)


def check_lines(name: str, n_lines: int | None, margin: float = 0.5) -> None:
    """Refuse a number of lines, turns or oscillations, or a margin, that no scan can have.

    Args:
        name: What the number is called.
        n_lines: The number; None where it is not given.
        margin: Margin to the edges [pitches].

    Raises:
        ValueError: If the number is not a positive integer or the margin is negative.
    """
    is_count = isinstance(n_lines, int | np.integer) and not isinstance(n_lines, bool) and n_lines >= 1
    if n_lines is not None and not is_count:
        raise SettingError(f"{name}: got {n_lines!r}; expected a positive integer")
    if not (math.isfinite(margin) and margin >= 0):
        raise SettingError(f"margin: got {margin!r}; expected a number of pitches, not negative")


def random_walk(
    n_positions: int,
    image_size: int,
    rng: np.random.Generator,
    *,
    spacing: float = DEFAULT_SPACING,
    persistence: float = 0.25,
) -> NDArray[np.float32]:
    """Positions of a walk whose heading drifts, mirrored at the borders of the field.

    The heading changes by a normal step of variance ``2 spacing / (persistence S)`` at each position, so the
    walk forgets its direction over ``persistence * S`` px. It starts anywhere in the field, in any direction.

    Args:
        n_positions: Number of positions, all inside the field.
        image_size: Side S of the square field [px].
        rng: Source of the start and of the headings.
        spacing: Distance between neighbouring positions [px], but for steps that meet the border.
        persistence: Persistence length as a fraction of the side of the field.

    Returns:
        Positions [px] as (row, column), float32, shape (n_positions, 2).

    Raises:
        ValueError: If the dose, the field, the spacing or the persistence is not positive.

    Example:
        >>> random_walk(400, 96, np.random.default_rng(0)).shape
        (400, 2)
    """
    check_scan(n_positions, image_size, spacing)
    if not (math.isfinite(persistence) and persistence > 0):
        raise SettingError(f"persistence: got {persistence!r}; expected a positive fraction of the field")
    side = image_size - 1.0
    turns = rng.normal(scale=math.sqrt(2.0 * spacing / (persistence * image_size)), size=n_positions - 1)
    headings = rng.uniform(0.0, 2.0 * math.pi) + np.cumsum(turns)
    steps = spacing * np.stack((np.cos(headings), np.sin(headings)), axis=1)
    free = np.concatenate((rng.uniform(0.0, side, size=(1, 2)), steps)).cumsum(axis=0)
    # Folding the free walk like a triangle wave is what mirrors at the borders do to it.
    return inside(side - np.abs(free % (2.0 * side) - side), image_size)


def _noise(n_values: int, memory: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Stationary noise of unit variance that keeps ``memory`` of each value in the next, shape (n_values,)."""
    kicks = rng.standard_normal(n_values)
    kicks[1:] *= math.sqrt(1.0 - memory * memory)
    from scipy.signal import lfilter  # most of a second, which command lines need not wait for

    return np.asarray(lfilter([1.0], [1.0, -memory], kicks))
