"""The dynamics of a batch of scans in numba: action -> heading, spacing -> positions -> values -> observation.

One call of `advance_scans` moves every scan by one segment. The state and the observation are named tuples of arrays,
so that a kernel takes them whole and nothing is allocated inside. Helpers are inlined: passing arrays between
compiled functions counts references, which took half of the time of a step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from adaptive_scan.scans.kernels import nearest_pixel


class ScanState(NamedTuple):
    """Everything that scans in progress have done, N scans of T segments of P positions.

    Attributes:
        bank: Crops, float32, shape (n_crops, S, S).
        crop_index: Index into the bank of each scan's crop, int64, shape (N,).
        steps: Number of segments measured, int64, shape (N,).
        next_start: First position of the next segment [px], float64, shape (N, 2).
        headings: Headings of the segments [rad], float64, shape (N, T).
        spacings: Spacings of the positions in each segment [px], float64, shape (N, T).
        positions: Nominal probing positions [px], float32, shape (N, T, P, 2).
        values: Measured values, float32, shape (N, T, P).
    """

    bank: np.ndarray
    crop_index: np.ndarray
    steps: np.ndarray
    next_start: np.ndarray
    headings: np.ndarray
    spacings: np.ndarray
    positions: np.ndarray
    values: np.ndarray


class SegmentObservation(NamedTuple):
    """What a policy sees of the segment just measured, float32 arrays of N rows.

    Attributes:
        measured: Measured values, shape (N, P).
        position: First position of the segment, clipped into the field and scaled to [-1, 1], shape (N, 2).
        heading: Unit vector of the segment, shape (N, 2).
        progress: Measured segments / T, shape (N, 1).
    """

    measured: np.ndarray
    position: np.ndarray
    heading: np.ndarray
    progress: np.ndarray


class Steering(NamedTuple):
    """How an action is read.

    Attributes:
        by_angle: True where the first component is an angle / pi, False where the first two are a direction.
        relative: True where the action is relative to ``reference_headings``.
        reference_headings: Headings that a zero action follows [rad], float64, shape (T,).
        reference_spacings: Spacings that a zero spacing component asks for [px], float64, shape (T,).
        lowest_spacing: Lower bound of the spacing [px].
        highest_spacing: Upper bound of the spacing [px].
    """

    by_angle: bool
    relative: bool
    reference_headings: np.ndarray
    reference_spacings: np.ndarray
    lowest_spacing: float
    highest_spacing: float


@njit(cache=True, nogil=True, inline="always")
def _heading_of(action: np.ndarray, step: int, last_heading: float, steering: Steering) -> float:
    """The heading [rad] that an action asks for."""
    reference: float = steering.reference_headings[step] if steering.relative else 0.0
    if steering.by_angle:
        # An angle beyond [-1, 1] wraps; fmod is exact, so that angles inside are not touched.
        angle: float = reference + math.pi * np.fmod(action[0], 2.0)
        return angle
    if action[0] == 0.0 and action[1] == 0.0:
        return reference if steering.relative else last_heading
    return reference + math.atan2(action[1], action[0])


@njit(cache=True, nogil=True, inline="always")
def _spacing_of(action: np.ndarray, step: int, last_spacing: float, steering: Steering) -> float:
    """The spacing [px] that an action asks for, the last one where it is fixed; see `scans.spacing_from_action`."""
    n_directions = 1 if steering.by_angle else 2
    if action.shape[0] == n_directions:
        return last_spacing
    share = min(max(action[n_directions], -1.0), 1.0)
    low, high, reference = steering.lowest_spacing, steering.highest_spacing, steering.reference_spacings[step]
    spacing: float = reference * (high / reference) ** share if share >= 0.0 else reference * (reference / low) ** share
    return min(max(spacing, low), high)


@njit(cache=True, nogil=True, inline="always")
def _measure_segment(scan: int, heading: float, spacing: float, state: ScanState) -> None:
    """Place one scan's next segment, read the crop at its positions and count it as measured."""
    step = state.steps[scan]
    state.headings[scan, step] = heading
    state.spacings[scan, step] = spacing
    row_step, column_step = spacing * math.cos(heading), spacing * math.sin(heading)
    first_row, first_column = state.next_start[scan, 0], state.next_start[scan, 1]
    positions, values = state.positions[scan, step], state.values[scan, step]
    crop = state.bank[state.crop_index[scan]]
    size, n_positions = crop.shape[0], values.shape[0]
    for i in range(n_positions):
        positions[i, 0] = first_row + i * row_step
        positions[i, 1] = first_column + i * column_step
        # Read back in float32, so that sampling at the positions returned gives these very values.
        values[i] = crop[nearest_pixel(positions[i, 0], size), nearest_pixel(positions[i, 1], size)]
    state.next_start[scan, 0] = first_row + n_positions * row_step
    state.next_start[scan, 1] = first_column + n_positions * column_step
    state.steps[scan] = step + 1


@njit(cache=True, nogil=True, inline="always")
def _write_observation(scan: int, state: ScanState, observation: SegmentObservation) -> None:
    """Write what one scan's last segment shows into its row of the observation."""
    step = state.steps[scan] - 1
    last = state.bank.shape[1] - 1
    observation.measured[scan, :] = state.values[scan, step]
    for axis in range(2):
        scaled = 2.0 * state.positions[scan, step, 0, axis] / last - 1.0
        observation.position[scan, axis] = min(max(scaled, -1.0), 1.0)
    observation.heading[scan, 0] = math.cos(state.headings[scan, step])
    observation.heading[scan, 1] = math.sin(state.headings[scan, step])
    observation.progress[scan, 0] = (step + 1) / state.headings.shape[1]


@njit(cache=True, nogil=True, inline="always")
def _leaves_field(scan: int, state: ScanState) -> bool:
    """Whether the last probing position of the last segment lies outside [0, S-1]."""
    last = state.bank.shape[1] - 1
    row, column = state.positions[scan, state.steps[scan] - 1, -1]
    return bool(row < 0.0 or row > last or column < 0.0 or column > last)


@njit(cache=True, nogil=True)
def begin_scans(which: np.ndarray, start: np.ndarray, heading: float, spacing: float, state: ScanState) -> None:
    """Start some scans anew: each measures its first segment.

    Args:
        which: Indices of the scans, int64, shape (n_started,).
        start: First probing position [px], shape (2,).
        heading: Heading of the first segment [rad].
        spacing: Spacing of the first segment [px].
        state: The batch; the rows of these scans are overwritten.
    """
    for scan in which:
        state.steps[scan] = 0
        state.next_start[scan, :] = start
        _measure_segment(scan, heading, spacing, state)


@njit(cache=True, nogil=True)
def advance_scans(
    actions: np.ndarray,
    steering: Steering,
    edge_penalty: float,
    state: ScanState,
    observation: SegmentObservation,
    rewards: np.ndarray,
) -> int:
    """Measure every scan's next segment, in the direction and with the spacing of its action.

    Args:
        actions: float64, shape (N, n_components).
        steering: How an action is read.
        edge_penalty: Taken from the reward where the segment's last position lies outside the field.
        state: The batch, changed in place.
        observation: Filled with what the new segments show.
        rewards: Filled with the edge penalties, float64, shape (N,).

    Returns:
        -1; or the index of the first scan that may not move, because its action is not finite or it has ended or was
        never started, and then nothing has changed.
    """
    n_scans, n_segments = state.headings.shape
    for scan in range(n_scans):
        if not 0 < state.steps[scan] < n_segments:
            return scan
        for component in actions[scan]:
            if not math.isfinite(component):
                return scan
    for scan in range(n_scans):
        step = state.steps[scan]
        heading = _heading_of(actions[scan], step, state.headings[scan, step - 1], steering)
        spacing = _spacing_of(actions[scan], step, state.spacings[scan, step - 1], steering)
        _measure_segment(scan, heading, spacing, state)
        _write_observation(scan, state, observation)
        rewards[scan] = -edge_penalty if _leaves_field(scan, state) else 0.0
    return -1


@njit(cache=True, nogil=True)
def observe_scans(state: ScanState, observation: SegmentObservation) -> None:
    """Fill the observation with what every scan's last segment shows."""
    for scan in range(state.steps.shape[0]):
        _write_observation(scan, state, observation)


@njit(cache=True, nogil=True)
def sample_bank(bank: np.ndarray, crop_index: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Values of each scan's crop at positions, by nearest pixel, without copying crops out of the bank.

    Args:
        bank: Crops, float32, shape (n_crops, S, S).
        crop_index: Index of each scan's crop, int64, shape (n_scans,).
        positions: Positions [px], shape (n_scans, n_positions, 2).

    Returns:
        float32, shape (n_scans, n_positions).
    """
    n_scans, n_positions = positions.shape[:2]
    size = bank.shape[1]
    values = np.empty((n_scans, n_positions), dtype=np.float32)
    for scan in range(n_scans):
        crop = bank[crop_index[scan]]
        for i in range(n_positions):
            row, column = positions[scan, i]
            values[scan, i] = crop[nearest_pixel(row, size), nearest_pixel(column, size)]
    return values
