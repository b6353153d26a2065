"""The compiled loops of a tour: from stop to nearest stop, then turned around piece by piece (2-opt)."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True)
def tour_kernel(
    stops: NDArray[np.float64], start: NDArray[np.float64], n_rounds: int
) -> NDArray[np.float64]:  # pragma: no cover - compiled
    """Stops in the order of a short open path from a start.

    Args:
        stops: Shape (n_stops, 2).
        start: Shape (2,).
        n_rounds: Rounds of improvement, at most.

    Returns:
        The stops in order, shape (n_stops, 2).
    """
    n_stops = len(stops)
    path = np.empty((n_stops + 1, 2))
    path[0] = start
    is_left = np.ones(n_stops, dtype=np.bool_)
    for place in range(1, n_stops + 1):
        best, nearest = np.inf, 0
        for stop in range(n_stops):
            if is_left[stop]:
                distance = (stops[stop, 0] - path[place - 1, 0]) ** 2 + (stops[stop, 1] - path[place - 1, 1]) ** 2
                if distance < best:
                    best, nearest = distance, stop
        is_left[nearest] = False
        path[place] = stops[nearest]
    for _ in range(n_rounds):
        is_better = False
        for i in range(n_stops - 1):
            edge = math.hypot(path[i + 1, 0] - path[i, 0], path[i + 1, 1] - path[i, 1])
            for j in range(i + 2, n_stops + 1):
                before = edge
                after = math.hypot(path[j, 0] - path[i, 0], path[j, 1] - path[i, 1])
                if j < n_stops:  # the path is open: its last edge has one end
                    before += math.hypot(path[j + 1, 0] - path[j, 0], path[j + 1, 1] - path[j, 1])
                    after += math.hypot(path[j + 1, 0] - path[i + 1, 0], path[j + 1, 1] - path[i + 1, 1])
                if after < before - 1e-9:
                    path[i + 1 : j + 1] = path[i + 1 : j + 1][::-1].copy()
                    edge = math.hypot(path[i + 1, 0] - path[i, 0], path[i + 1, 1] - path[i, 1])
                    is_better = True
        if not is_better:
            break
    return path[1:]
