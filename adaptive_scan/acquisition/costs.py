"""What a scan costs: electrons, time, and what its path asks of the deflectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from adaptive_scan.acquisition.instrument import Acquisition, Instrument, dwell_times
from adaptive_scan.acquisition.kernels import survey_paths
from adaptive_scan.acquisition.presets import as_instrument
from adaptive_scan.scans import path_length


@dataclass(frozen=True)
class ScanCosts:
    """What scans cost; every array has one number for each scan, shape (n_scans,).

    Attributes:
        n_positions: Probing positions, int64.
        electrons: Electrons of the beam on the specimen, which is blanked but for the dwell times; infinite without a
            limit of the dose.
        path_length: Length of the path, jumps included [px].
        time: Dwell times, flybacks and settling together [s].
        largest_turn: Largest change of direction between two moves [rad], in [0, pi]; moves of no length have none.
        largest_acceleration: Largest change of the probe's velocity from one move to the next over the time between
            their middles [px/s^2], each move made in the dwell time of the position it leads to: what the deflectors
            would need to follow the path without ever waiting.
    """

    n_positions: np.ndarray
    electrons: np.ndarray
    path_length: np.ndarray
    time: np.ndarray
    largest_turn: np.ndarray
    largest_acceleration: np.ndarray


def scan_costs(
    positions: ArrayLike,
    acquisition: Instrument | Acquisition | str | None = None,
    dwell: ArrayLike | None = None,
) -> ScanCosts:
    """Costs of scans, static or not, from where the probe is sent.

    t = sum of dwell times + flyback n_flybacks + jump_settling n_jumps + turn_settling n_turns, with moves counted as
    `adaptive_scan.acquisition.Timing` says; a = max |v_{i+1} - v_i| / ((dwell_i + dwell_{i+1}) / 2) with
    v_i = (p_i - p_{i-1}) / dwell_i.

    Args:
        positions: Nominal positions [px], shape (n_scans, ..., 2); the axes between are read in order.
        acquisition: The instrument, whose dwell time, exposure and timing count, or a preset's name; None is the ideal
            one.
        dwell: Dwell times [s], broadcast to (n_scans, n_positions); None for the instrument's.

    Returns:
        The costs.

    Raises:
        ValueError: If a shape does not fit, a position is not finite or a dwell time is not positive.

    Example:
        >>> costs = scan_costs([[[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [1.0, 2.0]]], dwell=1e-6)
        >>> costs.time.round(9).tolist(), costs.largest_turn.round(4).tolist()
        ([5e-06], [1.5708])
    """
    instrument = as_instrument(acquisition)
    lengths = path_length(positions)
    paths = np.asarray(positions, dtype=np.float64)
    paths = np.ascontiguousarray(paths.reshape(len(paths), -1, 2))
    shape = paths.shape[:2]
    times = dwell_times(instrument.dwell if dwell is None else dwell, shape)
    timing = instrument.timing
    counts, largest = survey_paths(paths, times, timing.longest_step, timing.sharp_turn)
    dwelt = np.broadcast_to(times, shape).sum(axis=1)
    lost = counts @ np.array([timing.flyback, timing.jump_settling, timing.turn_settling])
    return ScanCosts(
        n_positions=np.full(shape[0], shape[1], dtype=np.int64),
        electrons=np.asarray(instrument.exposure.incident(dwelt)),
        path_length=lengths,
        time=dwelt + lost,
        largest_turn=largest[:, 0],
        largest_acceleration=largest[:, 1],
    )
