"""The geometry of an adaptive scan: how many segments, how long, from where, and where headings lead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptive_scan.errors import SettingError

Spacing = float | tuple[float, float]

_DIAGONAL = math.sqrt(2.0)

# Spacings arrive as float32, so a bound itself may come back off by an ulp or two.
_BOUND_TOLERANCE = 1e-5


@dataclass(frozen=True)
class ScanGeometry:
    """Straight segments of equally spaced probing positions, joined end to start.

    Position i of a segment with heading h and spacing d is ``start + i d (cos h, sin h)`` as (row, column),
    and the next segment starts at ``start + n_positions d (cos h, sin h)`` (Ede, arXiv 2004.02786). The
    nominal positions may leave the field ``[0, image_size - 1]``; sampling then takes the nearest pixel
    inside.

    Args:
        image_size: Side S of the square field [px].
        n_segments: Segments T of a scan.
        n_positions: Probing positions P of a segment.
        spacing: Distance d between neighbouring positions [px], or its bounds (lowest, highest) where the
            actor chooses it for each segment.
        start: First position (row, column) [px], inside the field; by default (S/2, S/2).
        first_heading: Heading of the first segment [rad]; 0 is along +row, pi/2 along +column.

    Raises:
        ValueError: If a setting is not usable; the message names the value received and the one expected.

    Example:
        >>> geometry = ScanGeometry(image_size=48, n_segments=10, n_positions=10)
        >>> geometry.n_positions_total, geometry.start_position.tolist()
        (100, [24.0, 24.0])
        >>> geometry.path(np.zeros((2, 10))).shape
        (2, 10, 10, 2)
    """

    image_size: int = 96
    n_segments: int = 20
    n_positions: int = 20
    spacing: Spacing = _DIAGONAL
    start: tuple[float, float] | None = None
    first_heading: float = math.pi / 4.0

    def __post_init__(self) -> None:
        for name, lowest in (("image_size", 2), ("n_segments", 1), ("n_positions", 1)):
            object.__setattr__(self, name, _checked_integer(name, getattr(self, name), lowest))
        object.__setattr__(self, "spacing", _checked_spacing(self.spacing))
        if self.start is not None:
            object.__setattr__(self, "start", _checked_start(self.start, self.image_size))
        if not _is_finite_number(self.first_heading):
            raise SettingError(f"first_heading: got {self.first_heading!r}; expected a finite angle in rad")
        object.__setattr__(self, "first_heading", float(self.first_heading))

    @property
    def n_positions_total(self) -> int:
        """Probing positions of a whole scan, ``n_segments * n_positions``."""
        return self.n_segments * self.n_positions

    @property
    def nominal_coverage(self) -> float:
        """Dose divided by the number of pixels of the field."""
        return self.n_positions_total / self.image_size**2

    @property
    def has_free_spacing(self) -> bool:
        """Whether the spacing is chosen for each segment, within ``spacing_bounds``."""
        return isinstance(self.spacing, tuple)

    @property
    def spacing_bounds(self) -> tuple[float, float]:
        """Lowest and highest spacing [px]; equal where the spacing is fixed."""
        return self.spacing if isinstance(self.spacing, tuple) else (self.spacing, self.spacing)

    @property
    def first_spacing(self) -> float:
        """Spacing of the first segment [px]: the fixed one, or the geometric mean of the bounds."""
        low, high = self.spacing_bounds
        return math.sqrt(low * high) if self.has_free_spacing else low

    @property
    def start_position(self) -> NDArray[np.float32]:
        """First position (row, column) [px], float32, shape (2,)."""
        centre = self.image_size / 2.0
        return np.array((centre, centre) if self.start is None else self.start, dtype=np.float32)

    def path(self, headings: ArrayLike, spacings: ArrayLike | None = None) -> NDArray[np.float32]:
        """Probing positions that a sequence of headings leads to.

        Args:
            headings: Heading of each segment [rad], shape (n_scans, n_segments).
            spacings: Spacing of each segment [px], the same shape, where the geometry leaves it free;
                ``first_spacing`` throughout when None.

        Returns:
            Positions [px], float32 computed in float64, shape (n_scans, n_segments, n_positions, 2).

        Raises:
            ValueError: If a shape does not fit, a number is not finite, a spacing is out of bounds, or
                spacings are given for a fixed spacing.

        Example:
            >>> geometry = ScanGeometry(image_size=8, n_segments=2, n_positions=2, spacing=1.0)
            >>> geometry.path([[0.0, np.pi / 2]])[0, 1].tolist()
            [[6.0, 4.0], [6.0, 5.0]]
        """
        angles = np.asarray(headings, dtype=np.float64)
        if angles.ndim != 2 or angles.shape[1] != self.n_segments:
            raise ValueError(f"headings have shape {angles.shape}; expected (n_scans, {self.n_segments})")
        if not np.isfinite(angles).all():
            raise ValueError("headings hold a non-finite number; expected finite angles in rad")
        distances = self._checked_spacings(spacings, angles.shape)
        steps = segment_steps(angles, distances)
        starts = np.empty_like(steps)
        starts[:, 0] = self.start_position
        starts[:, 1:] = self.n_positions * steps[:, :-1]
        # Summed in this order, a batch equals one segment added at a time, to the last bit.
        np.cumsum(starts, axis=1, out=starts)
        return segment_positions(starts, steps, self.n_positions)

    def _checked_spacings(self, spacings: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
        if spacings is None:
            return np.full(shape, self.first_spacing)
        distances = np.asarray(spacings, dtype=np.float64)
        if distances.shape != shape:
            raise ValueError(f"spacings have shape {distances.shape}; expected that of the headings, {shape}")
        low, high = self.spacing_bounds
        inside = (distances >= low * (1 - _BOUND_TOLERANCE)) & (distances <= high * (1 + _BOUND_TOLERANCE))
        if not inside.all():
            raise SettingError(f"spacings hold {distances[~inside][0]}; expected numbers in [{low}, {high}] px")
        return distances

    def to_dict(self) -> dict[str, Any]:
        """Settings as a dictionary that JSON can hold.

        Example:
            >>> ScanGeometry(spacing=(1.0, 4.0)).to_dict()["spacing"]
            [1.0, 4.0]
        """
        settings = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> ScanGeometry:
        """The geometry that ``to_dict`` described; settings left out take their defaults.

        Args:
            settings: Settings by name.

        Raises:
            ValueError: If a name is unknown or a value is not usable.

        Example:
            >>> ScanGeometry.from_dict(ScanGeometry(48, 10, 10).to_dict()) == ScanGeometry(48, 10, 10)
            True
        """
        known = set(cls.__dataclass_fields__)
        if not known.issuperset(settings):
            raise SettingError(f"geometry settings: got {sorted(settings)}; expected some of {sorted(known)}")
        return cls(**settings)


def spacing_from_action(
    component: ArrayLike, bounds: tuple[float, float], reference: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Spacing that an action component chooses, geometrically between the bounds.

    Without a reference ``d = lowest (highest / lowest)^((c + 1) / 2)``: a component c of -1 gives the lowest spacing, 0
    the geometric mean, 1 the highest. With one, 0 gives the reference spacing r, and either side of it is geometric by
    itself: ``d = r (highest / r)^c`` for c >= 0, and ``d = r (r / lowest)^c`` below. A reference at the geometric mean
    is the same as none. The compiled twin is in ``adaptive_scan.envs.kernels``.

    Args:
        component: Action components, clipped to [-1, 1], any shape.
        bounds: Lowest and highest spacing [px].
        reference: Spacings that a component of 0 keeps [px], within the bounds, of a shape that broadcasts with that of
            ``component``.

    Returns:
        Spacings [px], float64, the shape of ``component`` and ``reference`` together.

    Example:
        >>> spacing_from_action([-1.0, 0.0, 1.0], (1.0, 4.0)).tolist()
        [1.0, 2.0, 4.0]
        >>> spacing_from_action([-1.0, 0.0, 0.5, 1.0], (1.0, 16.0), reference=4.0).tolist()
        [1.0, 4.0, 8.0, 16.0]
    """
    low, high = bounds
    share = np.clip(np.asarray(component, dtype=np.float64), -1.0, 1.0)
    if reference is None:
        return np.asarray(low * (high / low) ** ((share + 1.0) / 2.0))
    kept = np.asarray(reference, dtype=np.float64)
    spacings = np.where(share >= 0.0, kept * (high / kept) ** share, kept * (kept / low) ** share)
    return np.asarray(np.clip(spacings, low, high))


def action_from_spacing(spacing: ArrayLike, bounds: tuple[float, float]) -> NDArray[np.float64]:
    """Action component that chooses a spacing where there is no reference; the inverse of `spacing_from_action`.

    Args:
        spacing: Spacings [px], any shape.
        bounds: Lowest and highest spacing [px]; a spacing outside gets the component of the nearer bound.

    Returns:
        Components in [-1, 1], float64, the shape of ``spacing``.

    Example:
        >>> action_from_spacing([1.0, 2.0, 4.0], (1.0, 4.0)).tolist()
        [-1.0, 0.0, 1.0]
    """
    low, high = bounds
    component = 2.0 * np.log(np.asarray(spacing, dtype=np.float64) / low) / np.log(high / low) - 1.0
    return np.asarray(np.clip(component, -1.0, 1.0))


def segment_steps(headings: NDArray[np.float64], spacings: NDArray[np.float64]) -> NDArray[np.float64]:
    """From each position of a segment to the next one [px], ``d (cos h, sin h)``.

    Args:
        headings: Headings h [rad], any shape.
        spacings: Spacings d [px], the same shape.

    Returns:
        (row, column), float64, shape (..., 2).

    Example:
        >>> segment_steps(np.zeros(1), np.full(1, 1.5)).tolist()
        [[1.5, 0.0]]
    """
    return np.asarray(spacings[..., None] * np.stack((np.cos(headings), np.sin(headings)), axis=-1))


def segment_positions(starts: NDArray[np.float64], steps: NDArray[np.float64], n_positions: int) -> NDArray[np.float32]:
    """Probing positions of segments, each from its start on.

    Args:
        starts: First positions [px], shape (..., 2).
        steps: From each position to the next one [px], as `segment_steps` has them, the same shape.
        n_positions: Positions of a segment.

    Returns:
        Positions [px], float32 computed in float64, shape (..., n_positions, 2).

    Example:
        >>> segment_positions(np.zeros((1, 2)), np.array([[1.5, 0.0]]), 3)[0].tolist()
        [[0.0, 0.0], [1.5, 0.0], [3.0, 0.0]]
    """
    offsets = np.arange(n_positions, dtype=np.float64)[:, None]
    return (starts[..., None, :] + offsets * steps[..., None, :]).astype(np.float32)


def _is_finite_number(value: object) -> bool:
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return is_number and math.isfinite(float(value))  # type: ignore[arg-type]


def _checked_integer(name: str, value: object, lowest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < lowest:
        raise SettingError(f"{name}: got {value!r}; expected an integer of at least {lowest}")
    return int(value)


def _checked_spacing(spacing: object) -> Spacing:
    expected = "expected a positive number of px, or (lowest, highest) with 0 < lowest < highest"
    bounds = spacing if isinstance(spacing, tuple | list) else (spacing,)
    if len(bounds) > 2 or not bounds or not all(_is_finite_number(bound) and bound > 0 for bound in bounds):
        raise SettingError(f"spacing: got {spacing!r}; {expected}")
    if not isinstance(spacing, tuple | list):
        return float(bounds[0])
    if len(bounds) != 2 or bounds[0] >= bounds[1]:
        raise SettingError(f"spacing: got {spacing!r}; {expected}")
    return (float(bounds[0]), float(bounds[1]))


def _checked_start(start: object, image_size: int) -> tuple[float, float]:
    parts = list(start) if isinstance(start, tuple | list | np.ndarray) else []
    if len(parts) != 2 or not all(_is_finite_number(part) and 0 <= part <= image_size - 1 for part in parts):
        raise SettingError(f"start: got {start!r}; expected (row, column) inside [0, {image_size - 1}] px")
    return (float(parts[0]), float(parts[1]))


PRESETS: dict[str, ScanGeometry] = {
    "ede96": ScanGeometry(),
    "wide96": ScanGeometry(image_size=96, n_segments=80, n_positions=5, spacing=(_DIAGONAL / 2.0, 4.0 * _DIAGONAL)),
    "quick48": ScanGeometry(image_size=48, n_segments=10, n_positions=10),
    "wide48": ScanGeometry(image_size=48, n_segments=25, n_positions=4, spacing=(_DIAGONAL / 2.0, 4.0 * _DIAGONAL)),
}
"""Named geometries: the adaptive-scan paper's, the same dose with free spacing, and a quarter of each."""
