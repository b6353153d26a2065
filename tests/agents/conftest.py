"""A task that needs a memory: what is shown at the first step is asked for at the last."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

N_STEPS = 5
CUE = 1.0


class CueEnv(gym.Env):
    """A cue of +-1 at the first of five observations; the last action is to be the cue.

    The reward is 0, then -(action - cue)^2: 0 at best, -1 at best without a memory.
    """

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_index, self.cue = 0, float(self.np_random.choice([-CUE, CUE]))
        return np.array([self.cue, 0.0], np.float32), {}

    def step(self, action):
        self.step_index += 1
        ended = self.step_index == N_STEPS
        reward = -((float(action[0]) - self.cue) ** 2) if ended else 0.0
        return np.array([0.0, self.step_index / N_STEPS], np.float32), reward, ended, False, {}


@pytest.fixture
def cue_envs():
    """Makes a vectorised environment of the cue task."""
    return lambda n_envs=1: DummyVecEnv([CueEnv] * n_envs)


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small run many times slower on several threads than on one."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)
