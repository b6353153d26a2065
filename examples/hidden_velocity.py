"""Swinging up a pendulum without seeing how fast it turns.

Gymnasium's pendulum shows the cosine and the sine of its angle, and its angular velocity. Here the velocity is hidden:
what the pendulum does next can no longer be told from one observation, but from several. `RDPG` remembers them;
otherwise it is used as any algorithm of Stable-Baselines3.

    python examples/hidden_velocity.py
    python examples/hidden_velocity.py --steps 2000 --path quick.zip

A random policy gets about -1,200 an episode, the best policies that see the velocity about -150.
"""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro
from gymnasium.wrappers import TransformObservation, TransformReward
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from adaptive_scan.agents import RDPG, GaussianNoise

N_EVALUATION_ENVS = 8


def make_pendulum() -> gym.Env:
    """The pendulum without its velocity."""
    angle = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    return TransformObservation(gym.make("Pendulum-v1"), lambda seen: seen[:2], angle)


def make_training_pendulum() -> gym.Env:
    """The same with a tenth of the reward: a critic learns returns of some ten sooner than of some hundred."""
    return TransformReward(make_pendulum(), lambda reward: 0.1 * float(reward))


def main(steps: int = 16_000, path: Path = Path("hidden_velocity.zip"), seed: int = 0) -> float:
    """Learn, save, load and evaluate.

    Args:
        steps: Steps of learning.
        path: File for the model.
        seed: Of everything random.

    Returns:
        Mean return of 24 episodes.
    """
    model = RDPG(
        "MlpMemoryPolicy",
        make_vec_env(make_training_pendulum, 1, seed=seed),
        learning_rate=1e-3,
        learning_starts=1_600,
        batch_size=16,
        train_freq=40,
        gradient_steps=10,
        gamma=0.97,
        tau=0.01,
        # An actor that young critics have driven to full torque for good would never come back.
        saturation_penalty=0.1,
        action_noise=GaussianNoise(1, np.array([0.2]), seed=seed),
        policy_kwargs={
            "memory": "lstm",
            "memory_kwargs": {"hidden_size": 64, "n_layers": 1},
            "zero_initial_action": True,
        },
        seed=seed,
        device="cpu",
    )
    held_out = make_vec_env(make_pendulum, N_EVALUATION_ENVS, seed=seed + 1_000)
    model.learn(steps, callback=EvalCallback(held_out, n_eval_episodes=N_EVALUATION_ENVS, eval_freq=4_000))
    model.save(path)

    model = RDPG.load(path, device="cpu")
    mean, spread = evaluate_policy(model, held_out, n_eval_episodes=24)
    print(f"{path}: return {mean:.0f} +- {spread:.0f} over 24 episodes")
    return float(np.mean(mean))


if __name__ == "__main__":
    tyro.cli(main)
