"""Slices of long episodes, and the steps before them over which a memory warms up (Kapturowski et al. 2019)."""

from __future__ import annotations

import numpy as np


def draw_starts(lengths: np.ndarray, n_slice_steps: int, n_burn_in: int, rng: np.random.Generator) -> np.ndarray:
    """First step s of one slice [s, s + S) in each episode of T steps.

    An episode of at most S steps is taken whole. In a longer one u is drawn uniformly from 1 - S .. M + S - 1, where
    M = max(T - S, B) is the last start, and s is u clipped to 0 .. M; then 0 < s < B, which has no room for B steps of
    burn-in, becomes 0. With s uniform on 0 .. M instead, the step that ends the episode, and often brings the reward,
    would be S times rarer than those in its middle.

    With N = M + 2 S - 1 and b = max(B - 1, 0), s = 0 has probability (S + b) / N, s = M has S / N, and each start
    between them 1 / N. The last step is drawn with probability S / N, as is each step S + b .. T - S - 1 in the middle
    of a long episode; those nearer to the ends are drawn more or less often, and no step less than (S - b) / N.

    Args:
        lengths: T of each episode, shape (n_slices,).
        n_slice_steps: S, at least 1.
        n_burn_in: B, from 0 to S.
        rng: Source of randomness.

    Returns:
        Starts, int64, shape (n_slices,).

    Example:
        >>> draw_starts(np.array([3, 9, 9, 9]), 4, 2, np.random.default_rng(0)).tolist()
        [0, 4, 3, 0]
    """
    last = np.where(lengths > n_slice_steps, np.maximum(lengths - n_slice_steps, n_burn_in), 0)
    starts = np.clip(rng.integers(1 - n_slice_steps, last + n_slice_steps), 0, last)
    return np.where(starts < n_burn_in, 0, starts)


def take_rows(
    values: np.ndarray, episodes: np.ndarray, first: np.ndarray, n_rows: int, lengths: np.ndarray
) -> np.ndarray:
    """Rows first .. first + n_rows - 1 of some episodes; zeros before the first row and behind the length.

    Args:
        values: Shape (n_capacity, n_stored_rows, ...), contiguous.
        episodes: Places of the episodes, shape (n_slices,).
        first: First row of each, may be negative, shape (n_slices,).
        n_rows: Rows of each.
        lengths: Rows that each episode has, shape (n_slices,).

    Returns:
        Shape (n_slices, n_rows, ...), a copy.

    Example:
        >>> stored = np.array([[1, 2, 3], [4, 5, 6]])
        >>> take_rows(stored, np.array([1, 0]), np.array([-1, 1]), 3, np.array([3, 2])).tolist()
        [[0, 4, 5], [2, 0, 0]]
    """
    rows = first[:, None] + np.arange(n_rows)
    inside = (rows >= 0) & (rows < lengths[:, None])
    places = episodes[:, None] * values.shape[1] + np.where(inside, rows, 0)
    taken: np.ndarray = values.reshape(-1, *values.shape[2:]).take(places, axis=0)
    taken[~inside] = 0
    return taken
