"""Proportional prioritised replay (Schaul et al. 2016, arXiv:1511.05952) over episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaptive_scan.errors import SettingError

SMALLEST_PRIORITY = 1e-6


def episode_priorities(errors: Tensor, mask: Tensor, mix: float) -> Tensor:
    """Priorities p = mix max_t |e_t| + (1 - mix) mean_t |e_t| + 1e-6 (Kapturowski et al. 2019, section 2.3).

    The last term keeps episodes without error drawable (Schaul et al. 2016, section 3.3).

    Args:
        errors: Errors e of the values, shape (n_episodes, n_steps).
        mask: 1 where the step took place, shape (n_episodes, n_steps); at least one in each episode.
        mix: Share of the largest error.

    Returns:
        Shape (n_episodes,).

    Example:
        >>> errors, mask = torch.tensor([[1.0, -3.0, 8.0]]), torch.tensor([[1.0, 1.0, 0.0]])
        >>> round(episode_priorities(errors, mask, 0.9).item(), 3)
        2.9
    """
    errors = torch.where(mask > 0, errors.abs().float(), 0)
    return mix * errors.amax(dim=1) + (1 - mix) * errors.sum(dim=1) / mask.sum(dim=1) + SMALLEST_PRIORITY


def importance_weights(probabilities: np.ndarray, n_episodes: int, exponent: float) -> np.ndarray:
    """Weights w_i = (N P_i)^-beta / max_j w_j, which undo the bias of the sampling (Schaul et al. 2016, section 3.4).

    Args:
        probabilities: P_i of the drawn episodes, shape (batch_size,).
        n_episodes: N, the episodes that could have been drawn.
        exponent: beta; 1 undoes the bias wholly, 0 not at all.

    Returns:
        Shape (batch_size,), the largest is 1.

    Example:
        >>> importance_weights(np.array([0.25, 0.0625]), 4, 0.5).tolist()
        [0.5, 1.0]
    """
    weights: np.ndarray = (n_episodes * probabilities) ** -exponent
    weights /= weights.max()
    return weights


class EpisodePriorities:
    """Priority p of each episode, drawn with probability P_i = p_i^alpha / sum_j p_j^alpha.

    A sum over all episodes takes less than a millisecond for 100,000 of them, so that no tree of sums is kept.

    Args:
        n_capacity: Episodes that there is room for.
        exponent: alpha; 0 draws all with the same probability.
        weight_exponent: beta of :func:`importance_weights`.

    Attributes:
        values: p of each place, float64, shape (n_capacity,).
        largest: The largest priority so far, which new episodes get; 1 at first.

    Raises:
        SettingError: If an exponent is out of its range.

    Example:
        >>> priorities = EpisodePriorities(3, exponent=1.0, weight_exponent=1.0)
        >>> for place in range(3):
        ...     priorities.add(place)
        >>> priorities.update(np.array([1]), np.array([2.0]))
        >>> priorities.sample(3, 4, np.random.default_rng(0))
        (array([0, 1, 1, 2]), array([1. , 0.5, 0.5, 1. ]))
    """

    def __init__(self, n_capacity: int, *, exponent: float, weight_exponent: float) -> None:
        if not exponent >= 0:
            raise SettingError(f"priority_exponent: got {exponent}; expected at least 0")
        if not weight_exponent >= 0:
            raise SettingError(f"weight_exponent: got {weight_exponent}; expected at least 0")
        self.exponent, self.weight_exponent = exponent, weight_exponent
        self.values = np.zeros(n_capacity)
        self.largest = 1.0

    def reset(self) -> None:
        """Forget all errors seen."""
        self.largest = 1.0

    def add(self, place: int) -> None:
        """Give the new episode at ``place`` the largest priority so far, so that it is soon drawn."""
        self.values[place] = self.largest

    def sample(self, n_episodes: int, batch_size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Places of episodes and their weights.

        One is drawn from each of ``batch_size`` equal parts of the sum (Schaul et al. 2016, appendix B.2.1): the
        probabilities are the same as for independent draws, and the counts vary less.

        Args:
            n_episodes: Episodes there are, at the first places.
            batch_size: Episodes to draw, with replacement.
            rng: Source of randomness.

        Returns:
            Places, shape (batch_size,), and importance weights, shape (batch_size,).
        """
        shares = self.values[:n_episodes] ** self.exponent
        ends = shares.cumsum()
        drawn = (np.arange(batch_size) + rng.random(batch_size)) / batch_size * ends[-1]
        places = np.minimum(ends.searchsorted(drawn, side="right"), n_episodes - 1)
        return places, importance_weights(shares[places] / ends[-1], n_episodes, self.weight_exponent)

    def update(self, places: np.ndarray, priorities: np.ndarray) -> None:
        """Set priorities; of several for one place the last one counts.

        Raises:
            FloatingPointError: If one is not finite; nothing is then set.
        """
        if not np.isfinite(priorities).all():
            raise FloatingPointError("priorities: got a value that is not finite; expected finite errors")
        self.values[places] = priorities
        self.largest = max(self.largest, float(priorities.max(initial=0.0)))

    def state_dict(self, n_episodes: int) -> dict[str, Any]:
        """Priorities of the first ``n_episodes``; the array is the buffer's own, not a copy."""
        return {"values": self.values[:n_episodes], "largest": self.largest}

    def load_state_dict(self, state: dict[str, Any] | None, n_episodes: int) -> None:
        """Go on from :meth:`state_dict`; None, from a uniform replay, makes all episodes equal."""
        self.reset()
        self.values[:n_episodes] = self.largest
        if state is not None:
            self.values[:n_episodes] = state["values"]
            self.largest = float(state["largest"])
