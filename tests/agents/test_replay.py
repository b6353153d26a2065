"""Replay of whole episodes: what comes out is what went in, index by index."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.agents import EpisodeReplayBuffer, FieldSpec

ACTIONS = spaces.Box(-1, 1, (1,))


def fill(buffer, lengths, *, truncated=False):
    """Episode e of environment n: observation 100 n + 10 e + t, action that / 1000, reward t."""
    n_envs = buffer.n_envs
    episode, step = np.zeros(n_envs, int), np.zeros(n_envs, int)
    while (episode < [len(x) for x in lengths]).all():
        base = 100 * np.arange(n_envs) + 10 * episode
        obs = (base + step)[:, None].astype(np.float32)
        done = np.array([step[n] + 1 == lengths[n][episode[n]] for n in range(n_envs)])
        infos = [{"TimeLimit.truncated": truncated, "tag": 7 * n} for n in range(n_envs)]
        buffer.add(obs, obs + 1, obs / 1000, step.astype(np.float32), done, infos)
        step = np.where(done, 0, step + 1)
        episode += done


def make(n_envs=2, capacity=10, **settings):
    return EpisodeReplayBuffer(
        capacity * 4, spaces.Box(-np.inf, np.inf, (1,)), ACTIONS, "cpu", n_envs, max_episode_steps=4, seed=0, **settings
    )


@given(lengths=st.lists(st.integers(1, 4), min_size=3, max_size=3), truncated=st.booleans())
def test_batches_are_aligned_and_masked(lengths, truncated):
    buffer = make(n_envs=1, fields={"tag": FieldSpec((), "int32")})
    fill(buffer, [lengths], truncated=truncated)
    batch = buffer.sample(64)
    assert batch.terminated.tolist() == [not truncated] * 64
    assert batch.fields["tag"].tolist() == [0] * 64
    for i in range(64):
        start, n = batch.observations[i, 0, 0].item(), int(batch.lengths[i])
        assert n == lengths[int(start) // 10]
        steps = torch.arange(n + 1)
        assert batch.observations[i, : n + 1, 0].tolist() == (start + steps).tolist()
        torch.testing.assert_close(batch.actions[i, :n, 0], (start + steps[:n]) / 1000)
        assert batch.rewards[i, :n].tolist() == steps[:n].tolist()
        assert batch.mask[i].tolist() == [float(t < n) for t in range(batch.mask.shape[1])]
        # The memory sees each observation beside the action before it.
        assert batch.previous_actions[i, 0, 0] == 0
        assert torch.equal(batch.previous_actions[i, 1:], batch.actions[i])


def test_the_ring_forgets_the_oldest():
    buffer = make(n_envs=1, capacity=2)
    fill(buffer, [[2, 3, 1]])
    assert buffer.n_episodes == 2
    assert sorted(set(buffer.sample(50).observations[:, 0, 0].tolist())) == [10.0, 20.0]
    assert buffer.size() == 4


def test_several_environments_end_at_different_times():
    buffer = make(n_envs=2)
    fill(buffer, [[2, 2], [4, 4]])
    starts = sorted(buffer.episodes["observations/"][: buffer.n_episodes, 0, 0].tolist())
    assert starts == [0.0, 10.0, 100.0]


def test_dict_observations_keep_their_types():
    space = spaces.Dict({"a": spaces.Box(0, 255, (2,), np.uint8), "b": spaces.Box(-1, 1, (3,))})
    buffer = EpisodeReplayBuffer(8, space, ACTIONS, "cpu", max_episode_steps=2, seed=0)
    obs = {"a": np.array([[1, 2]], np.uint8), "b": np.zeros((1, 3), np.float32)}
    buffer.add(obs, obs, np.zeros((1, 1)), np.zeros(1), np.array([True]), [{}])
    batch = buffer.sample(1)
    assert batch.observations["a"].dtype == torch.uint8
    assert batch.observations["a"].tolist() == [[[1, 2], [1, 2]]]


def test_memory_is_that_of_the_arrays():
    buffer = make(n_envs=1, capacity=10)
    per_episode = 4 * (5 + 4 + 4) + 4 + 1
    assert buffer.nbytes == 10 * per_episode + 4 * (5 + 4 + 4)


def test_goes_on_from_its_state():
    buffer, other = make(), make()
    fill(buffer, [[2, 2], [4, 4]])
    other.load_state_dict(buffer.state_dict())
    assert torch.equal(buffer.sample(9).observations, other.sample(9).observations)
    step = (np.zeros((2, 1), np.float32), np.ones((2, 1), np.float32), np.zeros((2, 1)), np.ones(2))
    for each in (buffer, other):
        each.add(*step, np.array([True, True]), [{}, {}])
    assert torch.equal(buffer.sample(9).rewards, other.sample(9).rewards)


def test_bad_use_is_named():
    buffer = make(n_envs=1)
    with pytest.raises(ValueError, match="no whole episode yet"):
        buffer.sample(1)
    with pytest.raises(ValueError, match="longer than max_episode_steps=4"):
        fill(buffer, [[5]])
    with pytest.raises(ValueError, match="max_episode_steps: got 0"):
        EpisodeReplayBuffer(8, spaces.Box(-1, 1, (1,)), ACTIONS, max_episode_steps=0)


def test_a_larger_buffer_goes_on_behind_the_last_episode():
    buffer, larger = make(n_envs=1, capacity=2), make(n_envs=1, capacity=3)
    fill(buffer, [[2, 3, 1]])
    larger.load_state_dict(buffer.state_dict())
    assert (larger.n_episodes, larger.size()) == (2, 4)
    fill(larger, [[4, 4]])
    assert larger.n_episodes == 3
    assert sorted(larger.episodes["lengths"].tolist()) == [3, 4, 4]


def test_reset_forgets_everything():
    buffer = make()
    fill(buffer, [[2, 2], [4, 4]])
    buffer.reset()
    assert buffer.n_episodes == 0
    fill(buffer, [[3], [3]])
    assert buffer.episodes["lengths"][: buffer.n_episodes].tolist() == [3, 3]


def test_other_buffers_are_refused():
    buffer = make()
    fill(buffer, [[2, 2], [4, 4]])
    state = buffer.state_dict()
    with pytest.raises(ValueError, match="replay: got 3 episodes; expected at most 2"):
        make(capacity=2).load_state_dict(state)
    with pytest.raises(ValueError, match="replay: got observations/ of shape"):
        make(n_envs=3).load_state_dict(state)
    with pytest.raises(ValueError, match="replay: got fields"):
        make(fields={"tag": FieldSpec((), "int32")}).load_state_dict(state)


def test_the_newest_episodes_come_newest_first():
    buffer = make(n_envs=1, capacity=3)
    fill(buffer, [[2, 3]])
    assert buffer.newest(5).observations[:, 0, 0].tolist() == [10.0, 0.0]
    buffer.reset()
    fill(buffer, [[1, 2, 3, 4, 1]])
    batch = buffer.newest(2)
    assert batch.observations[:, 0, 0].tolist() == [40.0, 30.0]
    assert batch.indices.tolist() == [1, 0]
    assert buffer.sample(5).indices.shape == (5,)
