"""Exploration noise for many environments at once, from its own generator, with a decay that is applied.

Both are :class:`~stable_baselines3.common.noise.VectorizedActionNoise`, so that Stable-Baselines3 takes them as they
are instead of wrapping copies of them in a Python loop; actions are on the scale of the replay buffer, [-1, 1].
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
from stable_baselines3.common.noise import VectorizedActionNoise

from adaptive_scan.errors import SettingError


class ExplorationNoise(VectorizedActionNoise):
    """Noise whose scale falls linearly from 1 to ``final_scale`` over the course of training.

    Args:
        n_envs: Number of environments.
        sigma: Standard deviation per step for each action component, shape (action_size,).
        final_scale: Factor on sigma at the end of training; 1 is no decay.
        seed: Seed of the noise's own generator.

    Raises:
        SettingError: If sigma or the final scale is negative.
    """

    def __init__(self, n_envs: int, sigma: np.ndarray, *, final_scale: float = 1.0, seed: int | None = None) -> None:
        # The parent's constructor would copy a base noise for each environment.
        self.n_envs = n_envs
        self.sigma = np.atleast_1d(np.asarray(sigma, dtype=np.float64))
        if self.sigma.min() < 0 or final_scale < 0:
            raise SettingError(f"noise: got sigma {sigma}, final scale {final_scale}; expected neither below 0")
        self.final_scale = final_scale
        self.scale = 1.0
        self.rng = np.random.default_rng(seed)

    def update(self, progress_remaining: float) -> None:
        """Set the scale for what is left of training (1 at the start, 0 at the end)."""
        progress = min(max(1.0 - progress_remaining, 0.0), 1.0)
        self.scale = 1.0 + progress * (self.final_scale - 1.0)

    @abstractmethod
    def __call__(self) -> np.ndarray:
        """Noise for one step of every environment, float32, shape (n_envs, action_size)."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_envs={self.n_envs}, sigma={self.sigma.tolist()}, scale={self.scale})"

    def _normal(self) -> np.ndarray:
        return self.scale * self.sigma * self.rng.standard_normal((self.n_envs, self.sigma.size))

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on with the same sequence."""
        return {"rng": self.rng.bit_generator.state, "scale": self.scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.rng.bit_generator.state = state["rng"]
        self.scale = state["scale"]


class GaussianNoise(ExplorationNoise):
    """Independent normal noise at every step.

    Example:
        >>> GaussianNoise(3, np.array([0.1, 0.1]), seed=0)().shape
        (3, 2)
    """

    def reset(self, indices: Iterable[int] | None = None) -> None:
        """Nothing to reset: steps are independent."""

    def __call__(self) -> np.ndarray:
        """Noise for one step of every environment, float32, shape (n_envs, action_size)."""
        return self._normal().astype(np.float32)


class OrnsteinUhlenbeckNoise(ExplorationNoise):
    """Correlated noise x_{t+1} = x_t - theta x_t + sigma n_t, from 0 at the start of each episode.

    Its variance after k steps is sigma^2 (1 - (1 - theta)^{2k}) / (1 - (1 - theta)^2) (Lillicrap et al. 2015,
    arXiv:1509.02971, section 3, with a time step of 1). The adaptive-scan paper takes theta 0.1 and sigma 0.2 rad.

    Example:
        >>> noise = OrnsteinUhlenbeckNoise(2, np.array([0.2]), theta=0.1, seed=0)
        >>> _ = noise()
        >>> noise.reset([0])
        >>> bool(noise.state[0, 0] == 0), bool(noise.state[1, 0] == 0)
        (True, False)
    """

    def __init__(
        self,
        n_envs: int,
        sigma: np.ndarray,
        *,
        theta: float = 0.1,
        final_scale: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(n_envs, sigma, final_scale=final_scale, seed=seed)
        self.theta = theta
        self.state = np.zeros((n_envs, self.sigma.size))

    def reset(self, indices: Iterable[int] | None = None) -> None:
        """Put the processes of these environments (default: all) back to 0."""
        self.state[slice(None) if indices is None else list(indices)] = 0.0

    def __call__(self) -> np.ndarray:
        """Noise for one step of every environment, float32, shape (n_envs, action_size)."""
        self.state = self.state - self.theta * self.state + self._normal()
        return self.state.astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on with the same sequence."""
        return {**super().state_dict(), "state": self.state.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        super().load_state_dict(state)
        self.state = np.array(state["state"])
