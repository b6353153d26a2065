"""Targets and losses against slow loops and Stable-Baselines3's own mathematics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import TD3

from adaptive_scan.agents.targets import actor_loss, critic_loss, masked_mean, n_step_targets


def slow_targets(rewards, values, length, terminated, gamma, n_steps):
    """The sum of the definition, term by term."""
    targets = np.zeros(len(rewards))
    for t in range(length):
        m = min(n_steps, length - t)
        targets[t] = sum(gamma**k * rewards[t + k] for k in range(m))
        if not (t + m == length and terminated):
            targets[t] += gamma**m * values[t + m - 1]
    return targets


@given(
    length=st.integers(1, 7),
    n_steps=st.integers(1, 9),
    terminated=st.booleans(),
    gamma=st.floats(0.0, 1.0),
    seed=st.integers(0, 1000),
)
def test_targets_equal_the_sum_of_the_definition(length, n_steps, terminated, gamma, seed):
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(2, 7))
    got = n_step_targets(
        torch.from_numpy(rewards)[None],
        torch.from_numpy(values)[None],
        torch.tensor([length]),
        torch.tensor([terminated]),
        gamma=gamma,
        n_steps=n_steps,
    )
    expected = slow_targets(rewards, values, length, terminated, gamma, n_steps)
    np.testing.assert_allclose(got[0].numpy(), expected, atol=1e-12)


def test_time_limit_and_termination_differ_in_the_bootstrap_term_alone():
    rewards, values = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 20.0, 30.0]])
    ends = [n_step_targets(rewards, values, torch.tensor([3]), torch.tensor([end]), gamma=0.9) for end in (False, True)]
    assert (ends[0] - ends[1]).tolist() == [[0.0, 0.0, pytest.approx(0.9 * 30.0)]]


def test_what_stands_behind_the_end_of_an_episode_changes_nothing():
    rewards, values = torch.rand(2, 4), torch.rand(2, 4)
    lengths, terminated = torch.tensor([2, 3]), torch.tensor([True, False])
    mask = (torch.arange(4) < lengths[:, None]).float()
    dirty_rewards, dirty_values = (torch.where(mask > 0, x, torch.nan) for x in (rewards, values))
    clean = n_step_targets(rewards, values, lengths, terminated, gamma=0.9, n_steps=2)
    dirty = n_step_targets(dirty_rewards, dirty_values, lengths, terminated, gamma=0.9, n_steps=2)
    assert torch.equal(clean, dirty)
    q = torch.rand(2, 4)
    assert torch.equal(critic_loss((q,), clean, mask), critic_loss((torch.where(mask > 0, q, 99.0),), clean, mask))


def test_masked_mean_divides_by_the_true_step_count():
    values = torch.tensor([[1.0, 2.0], [6.0, torch.nan]])
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert masked_mean(values, mask).item() == 3.0
    assert actor_loss(values, mask).item() == -3.0


def test_zero_steps_are_refused():
    with pytest.raises(ValueError, match="n_steps: got 0; expected at least 1"):
        n_step_targets(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1), torch.ones(1), gamma=1.0, n_steps=0)


def test_losses_of_single_steps_equal_those_of_sb3s_td3():
    """On sequences of length 1 with the memory cut out, targets and losses are TD3's, on the same weights."""
    theirs = TD3("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", policy_kwargs={"net_arch": [8]})
    generator = torch.Generator().manual_seed(1)
    obs, next_obs = torch.randn(2, 5, 3, generator=generator)
    actions, next_actions = torch.rand(2, 5, 1, generator=generator) * 2 - 1
    rewards = torch.randn(5, 1, generator=generator)
    dones = torch.tensor([[0.0], [1.0], [0.0], [1.0], [0.0]])
    with torch.no_grad():
        next_values = torch.stack(theirs.critic_target(next_obs, next_actions)).amin(dim=0)
        target = rewards + (1 - dones) * theirs.gamma * next_values
        q_values = theirs.critic(obs, actions)
        expected_critic = sum(torch.nn.functional.mse_loss(q, target) for q in q_values)
        expected_actor = -theirs.critic.q1_forward(obs, theirs.actor(obs)).mean()

        got = n_step_targets(rewards, next_values, torch.ones(5), dones[:, 0].bool(), gamma=theirs.gamma)
        mask = torch.ones(5, 1)
        torch.testing.assert_close(got, target, atol=1e-6, rtol=0)
        torch.testing.assert_close(critic_loss(q_values, got, mask), expected_critic, atol=1e-6, rtol=0)
        live = theirs.critic.q1_forward(obs, theirs.actor(obs))
        torch.testing.assert_close(actor_loss(live, mask), expected_actor, atol=1e-6, rtol=0)
