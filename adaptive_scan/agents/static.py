"""Static scans as policies: paths chosen beforehand, with the ``predict`` of a trained model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from adaptive_scan.errors import SettingError
from adaptive_scan.scans import ScanGeometry, action_from_spacing

_TOLERANCE = 0.01  # px: float32 positions give headings to about 1e-6 rad


class StaticScanPolicy:
    """A polygonal path as a policy of the environment with direction actions.

    The next segment follows from the observation's ``progress``, so that nothing is carried from step to step: one
    policy serves single scans and batches in any order. In :class:`~adaptive_scan.envs.PartialScanEnv` with this
    geometry, and neither angle actions nor a reference, it measures ``geometry.path(headings)``.

    Args:
        path: Headings [rad], shape (n_segments,); or positions [px], shape (n_segments, n_positions, 2) or
            (n_positions, 2), from which headings and, where the geometry leaves them free, spacings are taken.
        geometry: The environment's geometry; None is the default one.

    Attributes:
        headings: Heading of each segment [rad], float64, shape (n_segments,).
        spacings: Spacing of each segment [px], float64, shape (n_segments,).

    Raises:
        SettingError: If the path has another shape, does not begin as the geometry does, or is none that its segments
            can follow.

    Example:
        >>> from adaptive_scan.scans import PRESETS, polygonal_spiral
        >>> policy = StaticScanPolicy(polygonal_spiral(PRESETS["quick48"]), PRESETS["quick48"])
        >>> action, _ = policy.predict({"progress": np.array([0.3])})
        >>> np.allclose(action, [np.cos(policy.headings[3]), np.sin(policy.headings[3])])
        True
    """

    def __init__(self, path: ArrayLike, geometry: ScanGeometry | None = None) -> None:
        self.geometry = ScanGeometry() if geometry is None else geometry
        given = np.asarray(path, dtype=np.float64)
        if not np.isfinite(given).all():
            raise SettingError("path: got a number that is not finite; expected finite headings or positions")
        if given.ndim == 1:
            self.headings, self.spacings = given, np.full(given.shape, self.geometry.first_spacing)
        else:
            self.headings, self.spacings = _segments_of(given, self.geometry)
        self._check_beginning()
        self._actions = self._all_actions()

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Direction of the next segment of each scan.

        Args:
            observation: One observation or a batch of them; only ``progress`` is read.
            state: Handed back as it came: there is no memory.
            episode_start: Ignored.
            deterministic: Ignored.

        Returns:
            Unit vectors, with a spacing component behind them where the geometry leaves it free, float64, shape
            (n_components,) or (n_scans, n_components); and ``state``.
        """
        progress = np.asarray(observation["progress"], dtype=np.float64)[..., 0]
        next_segment = np.rint(progress * len(self.headings)).astype(np.int64)
        # A scan that has ended has no next segment; whatever is said of it is not used.
        return self._actions[np.minimum(next_segment, len(self.headings) - 1)], state

    def _check_beginning(self) -> None:
        geometry = self.geometry
        if self.headings.shape != (geometry.n_segments,):
            raise SettingError(f"path: got headings of shape {self.headings.shape}; expected ({geometry.n_segments},)")
        off = np.angle(np.exp(1j * (self.headings[0] - geometry.first_heading)))
        if abs(off) > 1e-5:
            expected = f"the geometry's, {geometry.first_heading:.6g} rad"
            raise SettingError(f"path: got first heading {self.headings[0]:.6g} rad; expected {expected}")

    def _all_actions(self) -> np.ndarray:
        directions = np.stack([np.cos(self.headings), np.sin(self.headings)], axis=-1)
        if not self.geometry.has_free_spacing:
            return directions
        components = action_from_spacing(self.spacings, self.geometry.spacing_bounds)
        return np.concatenate([directions, components[:, None]], axis=1)


def _segments_of(positions: np.ndarray, geometry: ScanGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Headings [rad] and spacings [px] of the segments of a polygonal path, each of shape (n_segments,)."""
    shape = (geometry.n_segments, geometry.n_positions, 2)
    if positions.shape not in (shape, (geometry.n_positions_total, 2)):
        raise SettingError(
            f"path: got positions of shape {positions.shape}; expected {shape} or {(geometry.n_positions_total, 2)}"
        )
    segments = positions.reshape(shape)
    if geometry.n_positions > 1:
        steps = (segments[:, -1] - segments[:, 0]) / (geometry.n_positions - 1)
    else:
        # A lone position points to the next one; where the last one points leads nowhere.
        steps = np.diff(segments[:, 0], axis=0, append=2 * segments[-1:, 0] - segments[-2:-1, 0])
    headings, lengths = np.arctan2(steps[:, 1], steps[:, 0]), np.hypot(steps[:, 0], steps[:, 1])
    low, high = geometry.spacing_bounds
    spacings = np.clip(lengths, low, high)
    reached = geometry.path(headings[None], spacings[None] if geometry.has_free_spacing else None)[0]
    off = np.linalg.norm(reached - segments, axis=-1).max()
    if abs(spacings[0] - geometry.first_spacing) > _TOLERANCE or off > _TOLERANCE:
        rule = f"segments of {geometry.n_positions} positions that the geometry can follow to {_TOLERANCE} px"
        raise SettingError(f"path: got positions up to {off:.3g} px off such a path; expected {rule}")
    return headings, spacings
