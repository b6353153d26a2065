"""Replay of episodes and of slices: what comes out is what went in, index by index."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from adaptive_scan.agents import EpisodeReplayBuffer
from adaptive_scan.agents.replay import FieldSpec
from adaptive_scan.errors import SettingError

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
    with pytest.raises(SettingError, match="longer than max_episode_steps=4"):
        fill(buffer, [[5]])
    with pytest.raises(SettingError, match="max_episode_steps: got 0"):
        EpisodeReplayBuffer(8, spaces.Box(-1, 1, (1,)), ACTIONS, max_episode_steps=0)


def test_a_larger_buffer_goes_on_behind_the_last_episode():
    buffer, larger = make(n_envs=1, capacity=2), make(n_envs=1, capacity=3)
    fill(buffer, [[2, 3, 1]])
    larger.load_state_dict(buffer.state_dict())
    assert (larger.n_episodes, larger.size()) == (2, 4)
    fill(larger, [[4, 4]])
    assert larger.n_episodes == 3
    assert sorted(larger.episodes["lengths"].tolist()) == [1, 4, 4]  # of 3 and 1, 3 was the older one


def test_a_full_ring_is_turned_for_a_larger_buffer():
    buffer, larger = make(n_envs=1, capacity=3), make(n_envs=1, capacity=6)
    fill(buffer, [[1, 2, 3, 4, 2]])  # holds 4, 2, 3
    larger.load_state_dict(buffer.state_dict())
    assert larger.newest(3).lengths.tolist() == buffer.newest(3).lengths.tolist() == [2, 4, 3]
    fill(larger, [[1, 1, 1, 1]])
    assert larger.newest(6).lengths.tolist() == [1, 1, 1, 1, 2, 4]


def test_a_field_that_is_not_there_is_named():
    buffer = make(n_envs=1, fields={"score": FieldSpec((), "float32")})
    with pytest.raises(ValueError, match=r"info: got \[.*\] at the end of an episode; expected the field 'score'"):
        buffer.read_fields({"other": 1})


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


# Slices


def fill_long(buffer, episodes):
    """Episodes (length, terminated) one after another: o_t = 1000 e + t + 1, a_t = o_t / 1e5, r_t = -o_t."""
    for e, (length, terminated) in enumerate(episodes):
        for t in range(length):
            obs = np.full((1, 1), 1000 * e + t + 1, np.float32)
            infos = [{"TimeLimit.truncated": not terminated, "tag": e}]
            buffer.add(obs, obs + 1, obs / 1e5, -obs[:, 0], np.array([t == length - 1]), infos)
    return buffer


def make_sliced(n_slice_steps, n_burn_in, **settings):
    return EpisodeReplayBuffer(
        60,
        spaces.Box(-np.inf, np.inf, (1,)),
        ACTIONS,
        "cpu",
        max_episode_steps=12,
        seed=0,
        n_slice_steps=n_slice_steps,
        n_burn_in=n_burn_in,
        fields={"tag": FieldSpec((), "int32")},
        **settings,
    )


def obvious_slice(batch, i, episode, n_slice_steps, n_burn_in):
    """All that item i of a batch has to be, step by step, given the episode it is from; returns its start."""
    e, (length, terminated) = int(batch.fields["tag"][i]), episode
    start = int(batch.observations[i, 0, 0]) - 1000 * e - 1
    n_steps = min(n_slice_steps, length - start)

    def obs(t):
        return float(1000 * e + t + 1)

    def action(t):
        return np.float32(np.float32(obs(t)) / 1e5) if t >= 0 else 0.0

    assert 0 <= start < length
    assert start == 0 or start >= n_burn_in
    assert int(batch.lengths[i]) == n_steps
    assert bool(batch.terminated[i]) == (terminated and start + n_steps == length)
    n_time = batch.actions.shape[1]
    for t in range(n_time + 1):
        inside = t <= n_steps
        assert batch.observations[i, t, 0] == (obs(start + t) if inside else 0)
        assert batch.previous_actions[i, t, 0] == (action(start + t - 1) if inside else 0)
    for t in range(n_time):
        inside = t < n_steps
        assert batch.mask[i, t] == inside
        assert batch.actions[i, t, 0] == (action(start + t) if inside else 0)
        assert batch.rewards[i, t] == (-obs(start + t) if inside else 0)
    if n_burn_in:
        assert bool(batch.burn_in.is_start[i]) == (start == 0)
        for b in range(n_burn_in):
            t = start - n_burn_in + b
            assert batch.burn_in.observations[i, b, 0] == (obs(t) if start else 0)
            assert batch.burn_in.previous_actions[i, b, 0] == (action(t - 1) if start else 0)
    return start


@given(
    st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=4),
    st.integers(1, 14).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
)
def test_slices_are_those_of_a_step_by_step_implementation(episodes, sizes):
    n_slice_steps, n_burn_in = sizes
    batch = fill_long(make_sliced(n_slice_steps, n_burn_in), episodes).sample(12)
    assert (batch.burn_in is None) == (n_burn_in == 0)
    assert batch.weights is None
    for i in range(12):
        obvious_slice(batch, i, episodes[int(batch.fields["tag"][i])], n_slice_steps, n_burn_in)
    assert batch.indices.tolist() == batch.fields["tag"].tolist()


@pytest.mark.parametrize(("n_slice_steps", "n_burn_in"), [(3, 0), (3, 2), (4, 4), (8, 8), (1, 1), (11, 11)])
def test_every_step_of_an_episode_is_drawn(n_slice_steps, n_burn_in):
    batch = fill_long(make_sliced(n_slice_steps, n_burn_in), [(12, True)]).sample(3000)
    steps = set(batch.rewards[batch.mask > 0].tolist())
    assert steps == {-float(t + 1) for t in range(12)}
    starts = np.unique([obvious_slice(batch, i, (12, True), n_slice_steps, n_burn_in) for i in range(0, 3000, 30)])
    assert len(starts) > 1


def test_a_slice_as_long_as_the_longest_episode_is_the_whole_episode():
    episodes = [(12, True), (3, False), (7, True)]
    sliced, whole = fill_long(make_sliced(12, 4), episodes), fill_long(make_sliced(None, 0), episodes)
    ours, theirs = sliced.sample(40), whole.sample(40)
    assert ours.burn_in.is_start.all()
    for name in ("observations", "previous_actions", "actions", "rewards", "mask", "lengths", "terminated"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def test_sliced_dict_observations_keep_their_types():
    space = spaces.Dict({"a": spaces.Box(0, 255, (2, 2), np.uint8), "b": spaces.Box(-1, 1, (3,))})
    buffer = EpisodeReplayBuffer(5, space, ACTIONS, "cpu", max_episode_steps=5, n_slice_steps=2, n_burn_in=2, seed=0)
    for t in range(5):
        obs, after = (
            {"a": np.full((1, 2, 2), n, np.uint8), "b": np.full((1, 3), n / 10, np.float32)} for n in (t + 1, t + 2)
        )
        buffer.add(obs, after, np.zeros((1, 1)), np.zeros(1), np.array([t == 4]), [{}])
    batch = buffer.sample(20)
    assert (batch.observations["a"].dtype, batch.burn_in.observations["a"].dtype) == (torch.uint8, torch.uint8)
    first = batch.observations["a"][:, 0, 0, 0]
    assert set(first.tolist()) == {1, 3, 4}
    later = ~batch.burn_in.is_start
    assert torch.equal(batch.burn_in.observations["a"][later][:, :, 1, 1], first[later, None] + torch.tensor([-2, -1]))
    assert torch.equal(batch.observations["b"][:, 1, 2], (first + 1) / 10)


def test_slices_are_normalised_and_the_burn_in_of_a_start_stays_zero(cue_envs):
    statistics = RunningMeanStd(shape=(1,))
    statistics.mean, statistics.var = np.array([5.0]), np.array([4.0])
    env = VecNormalize(DummyVecEnv([lambda: cue_envs(1).envs[0]]), norm_reward=False, clip_obs=1e6)
    env.observation_space, env.obs_rms = spaces.Box(-np.inf, np.inf, (1,)), statistics
    buffer = fill_long(make_sliced(3, 2), [(12, True)])
    plain = fill_long(make_sliced(3, 2), [(12, True)]).sample(50)
    batch, is_start = buffer.sample(50, env), plain.burn_in.is_start
    torch.testing.assert_close(batch.observations, (plain.observations - 5) / 2)
    assert (batch.burn_in.observations[is_start] == 0).all()
    later = batch.burn_in.observations[~is_start]
    torch.testing.assert_close(later, (plain.burn_in.observations[~is_start] - 5) / 2)
    assert 0 < is_start.sum() < 50


def test_the_newest_episodes_are_whole_also_where_slices_are_drawn():
    batch = fill_long(make_sliced(2, 1), [(12, True), (5, False)]).newest(2)
    assert batch.lengths.tolist() == [5, 12]
    assert (batch.burn_in, batch.weights) == (None, None)


def test_bad_settings_of_slices_and_priorities_are_named():
    for settings, message in (
        ({"n_slice_steps": 0, "n_burn_in": 0}, "n_slice_steps: got 0; expected at least 1"),
        ({"n_slice_steps": 3, "n_burn_in": 4}, "n_burn_in: got 4; expected 0 to n_slice_steps=3"),
        ({"n_slice_steps": 3, "n_burn_in": -1}, "n_burn_in: got -1"),
        ({"n_slice_steps": None, "n_burn_in": 1}, "n_burn_in: got 1; expected 0 to n_slice_steps=0"),
        ({"n_slice_steps": 3, "n_burn_in": 1, "priority_exponent": -1.0}, "priority_exponent: got -1.0"),
        ({"n_slice_steps": 3, "n_burn_in": 1, "priority_mix": 1.5}, "priority_mix: got 1.5; expected 0 to 1"),
    ):
        with pytest.raises(SettingError, match=message):
            make_sliced(**settings)


# Priorities


def test_uniform_batches_are_drawn_with_the_numbers_of_one_call_of_the_generator():
    buffer = make()
    fill(buffer, [[2, 2, 3], [4, 4, 1]])
    rng = np.random.default_rng(0)
    for _ in range(3):
        assert buffer.sample(7).indices.tolist() == rng.integers(buffer.n_episodes, size=7).tolist()


def test_priorities_decide_which_episodes_are_drawn_and_weigh_them():
    buffer = make(n_envs=1, priority_exponent=1.0, weight_exponent=0.5)
    fill(buffer, [[1, 2, 3]])
    first = buffer.sample(30)
    assert np.bincount(first.indices).tolist() == [10, 10, 10]
    assert torch.equal(first.weights, torch.ones(30))
    errors = torch.tensor([[-2.0, 9.0], [4.0, -8.0], [0.0, 0.0]], requires_grad=True)
    buffer.update_priorities(np.array([0, 1, 2]), errors, torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]]))
    expected = [2.0, 0.9 * 8 + 0.1 * 6, 0.0]
    np.testing.assert_allclose(buffer.priorities.values[:3], np.array(expected) + 1e-6, rtol=1e-6)
    batch = buffer.sample(98)
    assert np.bincount(batch.indices, minlength=3).tolist() == [20, 78, 0]
    weight_of_rarer = (np.array(expected[:2]) / sum(expected)) ** -0.5
    np.testing.assert_allclose(batch.weights, (weight_of_rarer / weight_of_rarer.max())[batch.indices], rtol=1e-5)
    assert (batch.weights.dtype, batch.weights.max()) == (torch.float32, 1)


def test_uniform_buffers_take_errors_and_stay_uniform():
    buffer, other = make(), make()
    for each in (buffer, other):
        fill(each, [[2, 2], [4, 4]])
    buffer.update_priorities(np.array([0]), torch.tensor([[9.0]]), torch.ones(1, 1))
    assert buffer.sample(20).indices.tolist() == other.sample(20).indices.tolist()


def test_an_episode_that_takes_the_place_of_another_gets_the_largest_priority():
    buffer = make(n_envs=1, capacity=2, priority_exponent=0.6)
    fill(buffer, [[1, 1]])
    buffer.update_priorities(np.array([0, 1]), torch.tensor([[0.1], [3.0]]), torch.ones(2, 1))
    fill(buffer, [[2]])
    assert buffer.priorities.values.tolist() == pytest.approx([3.0, 3.0], rel=1e-6)
    buffer.reset()
    fill(buffer, [[2]])
    assert buffer.priorities.values[0] == 1


def test_slices_are_drawn_by_priority_as_well():
    buffer = fill_long(make_sliced(3, 2, priority_exponent=1.0), [(12, True), (9, False), (2, True)])
    buffer.update_priorities(np.arange(3), torch.tensor([[1.0], [2.0], [1.0]]), torch.ones(3, 1))
    batch = buffer.sample(40)
    assert np.bincount(batch.indices).tolist() == [10, 20, 10]
    assert batch.weights[batch.indices == 0].tolist() == [1.0] * 10
    assert set(batch.observations[batch.indices == 1, 0, 0].int().tolist()) <= {1001, *range(1003, 1008)}


# States and memory


def prioritised():
    buffer = fill_long(make_sliced(3, 2, priority_exponent=0.7), [(12, True), (9, False), (2, True), (11, True)])
    batch = buffer.sample(8)
    buffer.update_priorities(batch.indices, batch.rewards / 7, batch.mask)
    buffer.add(*[np.ones((1, 1), np.float32)] * 3, np.ones(1), np.array([False]), [{}])
    return buffer


def assert_same_sampling(buffer, other, n_batches=5):
    for _ in range(n_batches):
        ours, theirs = buffer.sample(6), other.sample(6)
        assert ours.indices.tolist() == theirs.indices.tolist()
        assert torch.equal(ours.observations, theirs.observations)
        assert torch.equal(ours.weights, theirs.weights)
        for each, batch in ((buffer, ours), (other, theirs)):
            each.update_priorities(batch.indices, batch.rewards * batch.weights[:, None], batch.mask)
    assert buffer.priorities.values.tolist() == other.priorities.values.tolist()
    assert buffer.priorities.largest == other.priorities.largest


def test_priorities_go_on_from_a_state_to_the_last_bit():
    buffer, other = prioritised(), make_sliced(3, 2, priority_exponent=0.7)
    other.load_state_dict(buffer.state_dict())
    assert_same_sampling(buffer, other)
    for each in (buffer, other):
        each.add(*[np.ones((1, 1), np.float32)] * 3, np.ones(1), np.array([True]), [{"tag": 9}])
    assert other.episodes["lengths"][:5].tolist() == [12, 9, 2, 11, 2]
    assert_same_sampling(buffer, other)


def test_states_from_before_there_were_priorities_load():
    buffer = fill_long(make_sliced(None, 0), [(12, True), (3, False)])
    state = buffer.state_dict()
    assert state.pop("priorities") is None
    uniform, other = make_sliced(None, 0), make_sliced(None, 0, priority_exponent=1.0)
    other.priorities.update(np.array([0]), np.array([50.0]))
    for each in (uniform, other):
        each.load_state_dict(state)
    assert (other.priorities.values[:2].tolist(), other.priorities.largest) == ([1.0, 1.0], 1.0)
    assert torch.equal(buffer.sample(9).observations, uniform.sample(9).observations)


def test_a_uniform_buffer_takes_the_state_of_a_prioritised_one():
    buffer = make_sliced(3, 2)
    buffer.load_state_dict(prioritised().state_dict())
    assert (buffer.n_episodes, buffer.priorities, buffer.sample(3).weights) == (4, None, None)


def test_states_that_do_not_fit_change_nothing():
    state = prioritised().state_dict()
    episodes = state["episodes"]
    for changed, message in (
        ({"episodes": episodes | {"rewards": episodes["rewards"].astype(np.float64)}}, "rewards of type float64"),
        ({"episodes": episodes | {"lengths": episodes["lengths"] + 1}}, "lengths out of range; expected 1 to 12 steps"),
        ({"episodes": episodes | {"lengths": episodes["lengths"] * 0}}, "lengths out of range"),
        ({"open": {}}, r"got open fields \[\]; expected"),
        ({"open_steps": np.array([13])}, "lengths out of range"),
        ({"open_steps": np.array([1, 1])}, "open_steps of shape"),
        ({"priorities": {"values": np.ones(3), "largest": 1.0}}, "unfitting priorities; expected 4 positive"),
        ({"priorities": {"values": np.full(4, np.nan), "largest": 1.0}}, "unfitting priorities"),
    ):
        buffer = make_sliced(3, 2, priority_exponent=0.7)
        with pytest.raises(ValueError, match=message):
            buffer.load_state_dict(state | changed)
        assert (buffer.n_episodes, buffer.episodes["rewards"].any(), buffer.priorities.values.any()) == (
            0,
            False,
            False,
        )


def test_the_memory_report_adds_up():
    buffer = make(n_envs=2, capacity=1000, fields={"tag": FieldSpec((5,), "int32")}, priority_exponent=1.0)
    assert buffer.nbytes == 1000 * (4 * (5 + 4 + 4) + 5 + 20 + 8) + 2 * 4 * (5 + 4 + 4)
    assert buffer.memory_report() == (
        "replay: 1,000 episodes of up to 4 steps, 85.1 kB "
        "(observations 20.0, actions 16.0, rewards 16.0, fields 20.0, ends 5.0, priorities 8.0, open 0.1)"
    )
    large = EpisodeReplayBuffer(100_000_000, spaces.Box(-1, 1, (2,)), ACTIONS, "cpu", max_episode_steps=1000)
    assert large.memory_report().startswith("replay: 100,000 episodes of up to 1,000 steps, 1.6 GB (observations 0.8,")
