"""Gradient updates per second, beside the same update step by step and sb3-contrib's RecurrentPPO, one core.

Run with ``python benchmarks/bench_updates.py``. Networks have one LSTM layer and a hidden layer of 64 units in each
head, observations 8 numbers, actions 2, episodes T steps; a batch is 32 of them. The sides take turns, so that what
disturbs one disturbs the other; times are processor times of the thread, and figures are medians over the turns.

- "loop, LSTM": the same update of the same networks, where everything that depends on the step (features, memory,
  heads, targets, losses) is called for one step after the other. Its memory is called as sb3-contrib calls it,
  ``nn.LSTM`` on sequences of length one.
- "loop, cell": the same with ``torch.lstm_cell``, the fastest step there is.
- "RecurrentPPO": one epoch of its ``train`` on one minibatch of 32 sequences, with memories of their own for actor and
  critic as here, and episodes that begin inside its rollouts, as they do in use.

The ceiling is what float32 matrix products alone would take at the speed this core has for a product as large as a
step's, (32, H) by (H, 4H): neither side can do without these. A whole sequence in one call spares the rest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from adaptive_scan.agents import RDPG, RecurrentTD3
from adaptive_scan.agents.policies import SequenceEncoder
from adaptive_scan.agents.replay import EpisodeBatch
from adaptive_scan.agents.targets import actor_loss, critic_loss
from common import machine, markdown_table

BATCH_SIZE, OBSERVATION_SIZE, ACTION_SIZE, HEAD_SIZE = 32, 8, 2, 64
N_UPDATES = 2  # in each turn: as many as a delayed actor needs for its one


class NoiseEnv(gym.Env[np.ndarray, np.ndarray]):
    """Episodes of noise, all of the same length: only their shapes matter here."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)

    def __init__(self, n_steps: int) -> None:
        self.n_steps, self.step_index = n_steps, 0

    def _look(self) -> np.ndarray:
        return self.np_random.standard_normal(OBSERVATION_SIZE).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.step_index = 0
        return self._look(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Go on by one step."""
        self.step_index += 1
        return self._look(), float(action[0]), False, self.step_index == self.n_steps, {}


class Stepper:
    """A memory called for one step after the other, with the features of each observation."""

    def __init__(self, encoder: SequenceEncoder, *, use_cell: bool) -> None:
        self.encoder, self.layer, self.use_cell = encoder, encoder.memory.layers[0], use_cell
        zeros = torch.zeros(BATCH_SIZE, self.layer.hidden_size)
        self.state = (zeros, zeros)

    def __call__(self, observation: Tensor, previous_action: Tensor) -> Tensor:
        """Output (n_sequences, hidden_size) for the next step."""
        features = self.encoder.features_extractor(observation)
        inputs, layer = torch.cat([features, previous_action], dim=-1), self.layer
        if self.use_cell:
            weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
            self.state = torch.lstm_cell(inputs, self.state, *weights)
        else:
            _, ends = layer(inputs[:, None], tuple(part[None] for part in self.state))
            self.state = tuple(part[0] for part in ends)
        return self.state[0]


class StepByStep(RecurrentTD3):
    """The update of :class:`RecurrentTD3` as a Python loop over the steps of the episodes."""

    use_cell = False

    def _update(self, batch: EpisodeBatch, rewards: Tensor) -> None:
        self._n_updates += 1
        n_time = rewards.shape[1]
        update_targets = self._n_updates % self.policy_delay == 0
        with torch.no_grad():
            targets = self._stepped_targets(batch, rewards)
        critic = Stepper(self.critic.encoder, use_cell=self.use_cell)
        actor = Stepper(self.actor.encoder, use_cell=self.use_cell)
        q_values, live_values = [], []
        for t in range(n_time):
            seen, previous = batch.observations[:, t], batch.previous_actions[:, t]
            latent = critic(seen, previous)
            q_values.append(torch.stack(self.critic.values(latent, batch.actions[:, t])))
            if update_targets:
                live = torch.tanh(self.actor.head(actor(seen, previous)))
                live_values.append(self.critic.values(latent.detach(), live)[0])
        loss = critic_loss(tuple(torch.stack(q_values, dim=-1)), targets, batch.mask)
        if update_targets:
            policy_loss = actor_loss(torch.stack(live_values, dim=-1), batch.mask)
            self.actor.optimizer.zero_grad()
            policy_loss.backward(inputs=list(self.actor.parameters()))
        self.critic.optimizer.zero_grad()
        loss.backward()
        self._step(self.critic)
        if update_targets:
            self._step(self.actor)
            self._update_targets()
            self.logger.record_mean("train/actor_loss", policy_loss.item())
        self.logger.record_mean("train/critic_loss", loss.item())

    def _stepped_targets(self, batch: EpisodeBatch, rewards: Tensor) -> Tensor:
        actor = Stepper(self.actor_target.encoder, use_cell=self.use_cell)
        critic = Stepper(self.critic_target.encoder, use_cell=self.use_cell)
        noise = torch.randn((*batch.previous_actions.shape,), generator=self.torch_rng) * self.target_policy_noise
        noise = noise.clamp(-self.target_noise_clip, self.target_noise_clip)
        targets = []
        for t in range(rewards.shape[1] + 1):
            seen, previous = batch.observations[:, t], batch.previous_actions[:, t]
            action = torch.tanh(self.actor_target.head(actor(seen, previous)))
            if self.target_policy_noise > 0:
                action = (action + noise[:, t]).clamp(-1.0, 1.0)
            value = torch.stack(self.critic_target.values(critic(seen, previous), action)).amin(dim=0)
            if t > 0:
                ends = (batch.lengths == t) & batch.terminated
                targets.append(rewards[:, t - 1] + self.gamma * torch.where(ends, 0, value))
        return torch.stack(targets, dim=-1) * batch.mask


class StepByStepCell(StepByStep):
    """:class:`StepByStep` with the fastest step there is."""

    use_cell = True


def make_agent(cls: type[RecurrentTD3], hidden_size: int, n_steps: int, **settings: Any) -> RecurrentTD3:
    """An agent with 64 random episodes to learn from."""
    policy_kwargs = {"memory_kwargs": {"hidden_size": hidden_size, "n_layers": 1}, "net_arch": [HEAD_SIZE]}
    policy_kwargs |= settings.pop("policy_kwargs", {})
    model = cls(
        "MlpMemoryPolicy",
        DummyVecEnv([lambda: NoiseEnv(n_steps)] * BATCH_SIZE),
        max_episode_steps=n_steps,
        buffer_size=2 * BATCH_SIZE * n_steps,
        learning_starts=10**9,
        batch_size=BATCH_SIZE,
        device="cpu",
        seed=0,
        policy_kwargs=policy_kwargs,
        **settings,
    )
    return model.learn(2 * BATCH_SIZE * n_steps)


def make_recurrent_ppo(hidden_size: int, n_steps: int) -> RecurrentPPO:
    """RecurrentPPO with one rollout of 32 episodes, which its one minibatch takes whole."""
    model = RecurrentPPO(
        "MlpLstmPolicy",
        DummyVecEnv([lambda: NoiseEnv(n_steps)] * BATCH_SIZE),
        n_steps=n_steps,
        batch_size=BATCH_SIZE * n_steps,
        n_epochs=1,
        device="cpu",
        seed=0,
        policy_kwargs={
            "lstm_hidden_size": hidden_size,
            "n_lstm_layers": 1,
            "net_arch": [HEAD_SIZE],
            "activation_fn": torch.nn.ReLU,
        },
    )
    return model.learn(BATCH_SIZE * n_steps)


def make_sides(hidden_size: int, n_steps: int) -> dict[str, Callable[[], object]]:
    """What each side does in its turn: ``N_UPDATES`` updates."""

    def learn(cls: type[RecurrentTD3], **settings: Any) -> Callable[[], object]:
        model = make_agent(cls, hidden_size, n_steps, **settings)
        return lambda: model.train(N_UPDATES, BATCH_SIZE)

    generic = make_recurrent_ppo(hidden_size, n_steps)
    generic.n_epochs = N_UPDATES
    single = {"policy_delay": 1, "target_policy_noise": 0.0, "policy_kwargs": {"n_critics": 1}}
    return {
        "RecurrentTD3": learn(RecurrentTD3),
        "TD3 loop, LSTM": learn(StepByStep),
        "TD3 loop, cell": learn(StepByStepCell),
        "RDPG": learn(RDPG),
        "RDPG loop, LSTM": learn(StepByStep, **single),
        "RDPG loop, cell": learn(StepByStepCell, **single),
        "RecurrentPPO": generic.train,
    }


def seconds_per_update(sides: dict[str, Callable[[], object]], n_turns: int) -> dict[str, float]:
    """Median processor time of an update of each side [s]; the first turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(1 + n_turns):
        for name, run in sides.items():
            begin = time.thread_time()
            run()
            seconds[name].append((time.thread_time() - begin) / N_UPDATES)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def product_seconds(hidden_size: int, n_steps: int) -> float:
    """Time of the memories' matrix products in one update of RecurrentTD3 [s].

    A pass has one product a step, its gradient two more. An update has the critic's pass and gradient, two target
    passes, and half of the actor's: 3 + 2 + 1.5 products a step.
    """
    left = torch.randn(BATCH_SIZE, hidden_size + OBSERVATION_SIZE + ACTION_SIZE)
    right = torch.randn(left.shape[1], 4 * hidden_size)
    times = []
    for _ in range(9):
        begin = time.thread_time()
        for _ in range(100):
            left @ right
        times.append((time.thread_time() - begin) / 100)
    return 6.5 * n_steps * statistics.median(times)


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description="Gradient updates per second.")
    parser.add_argument("--turns", type=int, default=7, help="turns of each side")
    parser.add_argument("--short", action="store_true", help="only LSTM(256), T = 50")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [(256, 50)] if arguments.short else [(256, 50), (64, 50), (128, 50), (256, 10), (256, 200)]
    print(machine(), f"torch {torch.__version__}, one thread, batches of {BATCH_SIZE} sequences")
    for i, (hidden_size, n_steps) in enumerate(sizes):
        seconds = seconds_per_update(make_sides(hidden_size, n_steps), arguments.turns)
        row = make_row(hidden_size, n_steps, seconds, product_seconds(hidden_size, n_steps))
        lines = markdown_table(list(row), [list(row.values())]).splitlines()
        print("\n".join(lines if i == 0 else lines[-1:]), flush=True)


def make_row(hidden_size: int, n_steps: int, seconds: dict[str, float], product: float) -> dict[str, object]:
    """One line of the table: updates per second, and ours over the others'."""
    row: dict[str, object] = {"LSTM": hidden_size, "T": n_steps}
    row |= {f"{name} [1/s]": f"{1 / seconds[name]:.1f}" for name in ("RecurrentTD3", "RDPG", "RecurrentPPO")}
    for ours, short in (("RecurrentTD3", "TD3"), ("RDPG", "RDPG")):
        for loop in ("LSTM", "cell"):
            row[f"{short} / loop, {loop}"] = f"{seconds[f'{short} loop, {loop}'] / seconds[ours]:.2f}"
        row[f"{short} / PPO"] = f"{seconds['RecurrentPPO'] / seconds[ours]:.2f}"
    row["TD3 loop, LSTM / ceiling"] = f"{seconds['TD3 loop, LSTM'] / product:.2f}"
    return row


if __name__ == "__main__":
    main()
