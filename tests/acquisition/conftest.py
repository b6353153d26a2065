"""What the instruments' tests share: feeding a path in pieces, and statistics of many scans."""

from __future__ import annotations

import itertools

import numpy as np

from adaptive_scan.acquisition import Instrument
from adaptive_scan.acquisition.instrument import Reading


def constant(value: float):
    """Specimens that have one value everywhere."""
    return lambda positions: np.full(positions.shape[:2], value, dtype=np.float32)


def feed(instrument: Instrument, positions: np.ndarray, values: np.ndarray, cuts=(), seed=0, dwell=None) -> Reading:
    """Measure specimens whose values along the path are given, in the pieces between ``cuts``."""
    state = instrument.begin(len(positions), np.random.default_rng(seed))
    times = None if dwell is None else np.broadcast_to(dwell, values.shape)
    edges = itertools.pairwise([0, *cuts, positions.shape[1]])
    parts = []
    for low, high in edges:
        piece = values[:, low:high].astype(np.float32)
        own = None if times is None else times[:, low:high]
        parts.append(instrument.measure(positions[:, low:high].astype(np.float32), lambda _, v=piece: v, state, own))
    assert instrument.is_ideal or state.n_visited.tolist() == [positions.shape[1]] * len(positions)
    return Reading(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True)))


def detect(model, values: np.ndarray, *, seed=0, dwell=None, cuts=(), **settings) -> np.ndarray:
    """What one detector model makes of values along a path."""
    positions = np.zeros((*values.shape, 2))
    instrument = Instrument((model,), limits=(-1e6, 1e6), **settings)
    return feed(instrument, positions, values, cuts, seed, dwell).values.astype(np.float64)


def displace(model, positions: np.ndarray, *, seed=0, dwell=None, cuts=()) -> np.ndarray:
    """Where one probe model puts the probe."""
    values = np.zeros(positions.shape[:2])
    return feed(Instrument((model,)), positions, values, cuts, seed, dwell).positions.astype(np.float64)
