"""Policies: ``predict`` step by step is the actor over the whole sequence, and its state is Stable-Baselines3's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from adaptive_scan.agents import MemoryPolicy
from adaptive_scan.agents.policies import CnnMemoryPolicy, MultiInputMemoryPolicy
from adaptive_scan.errors import SettingError

DICT = spaces.Dict({"a": spaces.Box(-1, 1, (3,)), "b": spaces.Box(-1, 1, (1,))})
ACTIONS = spaces.Box(np.array([-2.0, 1.0], np.float32), np.array([2.0, 5.0], np.float32))


def make(memory="lstm", actions=ACTIONS, seed=0, **settings):
    torch.manual_seed(seed)
    memory_kwargs = settings.pop("memory_kwargs", {"hidden_size": 6, "n_layers": 2})
    return MultiInputMemoryPolicy(DICT, actions, lambda _: 1e-3, memory=memory, memory_kwargs=memory_kwargs, **settings)


def observations(rng, *shape):
    return {key: rng.uniform(-1, 1, (*shape, *box.shape)).astype(np.float32) for key, box in DICT.items()}


def step(whole, t):
    return {key: part[:, t] for key, part in whole.items()}


@pytest.mark.parametrize(("memory", "n_parts"), [("lstm", 2), ("gru", 1)])
def test_state_has_the_environments_on_its_second_axis(memory, n_parts, rng):
    policy = make(memory)
    actions, state = policy.predict(observations(rng, 4))
    assert actions.shape == (4, 2)
    assert [part.shape for part in state] == [(2, 4, 6)] * n_parts + [(1, 4, 2)]
    assert all(isinstance(part, np.ndarray) for part in state)
    # The last part is the action just chosen, on [-1, 1].
    np.testing.assert_allclose(policy.unscale_action(state[-1][0]), actions, rtol=1e-6)
    assert [part.shape for part in policy.initial_state(4)] == [part.shape for part in state]


@pytest.mark.parametrize("memory", ["lstm", "gru", "dnc", "transformer"])
@pytest.mark.parametrize("learned", [False, True])
def test_step_by_step_equals_the_actor_over_the_whole_sequence(memory, learned, rng):
    policy = make(memory, memory_kwargs={"hidden_size": 8, "learned_initial_state": learned})
    if learned:
        torch.nn.init.normal_(policy.actor.encoder.memory.first_state)
    whole, state, scaled = observations(rng, 3, 5), None, []
    for t in range(5):
        actions, state = policy.predict(step(whole, t), state, np.full(3, t == 0))
        scaled.append(policy.scale_action(actions))
    previous = np.stack([np.zeros((3, 2), np.float32), *scaled[:-1]], axis=1)
    tensors = {key: torch.from_numpy(part) for key, part in whole.items()}
    with torch.no_grad():
        expected, _ = policy.actor(tensors, torch.from_numpy(previous))
    np.testing.assert_allclose(np.stack(scaled, axis=1), expected.numpy(), atol=1e-5)


def test_episode_start_puts_that_environment_alone_back(rng):
    policy = make(memory_kwargs={"hidden_size": 6, "learned_initial_state": True})
    torch.nn.init.normal_(policy.actor.encoder.memory.first_state)
    first, second = observations(rng, 3), observations(rng, 3)
    _, state = policy.predict(first)
    mixed, mixed_state = policy.predict(second, state, np.array([False, True, False]))
    kept, kept_state = policy.predict(second, state, np.array([False, False, False]))
    fresh, fresh_state = policy.predict(second, None)
    for got, other in (
        (mixed, (kept, fresh)),
        *zip(mixed_state, zip(kept_state, fresh_state, strict=True), strict=True),
    ):
        axis = got.ndim - 2
        expected = np.where(np.array([False, True, False])[:, None], other[1], other[0])
        np.testing.assert_allclose(got, expected, atol=1e-6)
        assert not np.allclose(np.take(other[0], 1, axis), np.take(other[1], 1, axis))


def test_no_state_is_the_initial_one_and_the_caller_s_arrays_are_left_alone(rng):
    policy = make()
    seen = observations(rng, 2)
    without, after = policy.predict(seen)
    given = policy.initial_state(2)
    np.testing.assert_array_equal(policy.predict(seen, given, np.ones(2, bool))[0], without)
    kept = [part.copy() for part in after]
    policy.predict(seen, after, np.array([True, False]))
    assert all(np.array_equal(a, b) for a, b in zip(kept, after, strict=True))
    assert all((part == 0).all() for part in given)


def test_a_single_observation_is_the_batch_of_one(rng):
    policy = make()
    batch = observations(rng, 1)
    single = {key: part[0] for key, part in batch.items()}
    state_of_batch = state_of_single = None
    for start in (True, False):
        actions, state_of_batch = policy.predict(batch, state_of_batch, np.array([start]))
        action, state_of_single = policy.predict(single, state_of_single, start)
        assert action.shape == (2,)
        np.testing.assert_array_equal(action, actions[0])
    assert [part.shape for part in state_of_single] == [(2, 1, 6), (2, 1, 6), (1, 1, 2)]


def test_actions_are_in_the_space_s_own_units(rng):
    actions, _ = make().predict(observations(rng, 200))
    assert (actions >= ACTIONS.low).all()
    assert (actions <= ACTIONS.high).all()


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_zero_initial_action_is_exactly_zero(memory, rng):
    policy = make(memory, spaces.Box(-1, 1, (2,)), zero_initial_action=True, net_arch=[5])
    state = None
    for _ in range(3):
        actions, state = policy.predict(observations(rng, 7), state)
        assert (actions == 0).all()
    assert (make(memory, spaces.Box(-1, 1, (2,))).predict(observations(rng, 7))[0] != 0).all()


def test_box_and_image_observations(rng):
    plain = MemoryPolicy(spaces.Box(-1, 1, (3,)), ACTIONS, lambda _: 1e-3, memory_kwargs={"hidden_size": 4})
    assert plain.predict(rng.uniform(-1, 1, (2, 3)))[0].shape == (2, 2)
    space = spaces.Box(0, 255, (3, 36, 36), np.uint8)
    policy = CnnMemoryPolicy(space, ACTIONS, lambda _: 1e-3, memory_kwargs={"hidden_size": 4})
    picture = space.sample()
    action, _ = policy.predict(picture)
    last_channels = np.transpose(picture, (1, 2, 0))
    np.testing.assert_array_equal(policy.predict(last_channels)[0], action)
    assert not np.array_equal(policy.predict(255 - picture)[0], action)


def test_decisions_are_made_in_evaluation_mode(rng):
    policy = make()
    policy.set_training_mode(True)
    policy.predict(observations(rng, 1))
    assert not any(module.training for module in policy.modules())


def test_a_policy_file_rebuilds_the_same_network(tmp_path, rng):
    policy = make("gru", net_arch=[3], n_critics=1, activation="tanh")
    policy.save(tmp_path / "policy.pt")
    loaded = MultiInputMemoryPolicy.load(tmp_path / "policy.pt", device="cpu")
    seen = observations(rng, 2)
    np.testing.assert_array_equal(loaded.predict(seen)[0], policy.predict(seen)[0])


def test_bad_use_is_named(rng):
    policy = make()
    seen = observations(rng, 2)
    _, state = policy.predict(observations(rng, 3))
    with pytest.raises(ValueError, match="state: got 3 environments; expected 2"):
        policy.predict(seen, state)
    with pytest.raises(ValueError, match="episode_start: got 3 environments; expected 2"):
        policy.predict(seen, policy.initial_state(2), np.zeros(3, bool))
    with pytest.raises(ValueError, match=r"observation: got shape \(2, 5\); expected \(3,\) or \(n_envs, \*\(3,\)\)"):
        policy.predict({**seen, "a": np.zeros((2, 5))})
    with pytest.raises(ValueError, match=r"observation: got \['a'\]; expected a dict of \['a', 'b'\]"):
        policy.predict({"a": seen["a"]})
    with pytest.raises(SettingError, match="activation: got 'step'; expected one of relu, tanh, elu, silu"):
        make(activation="step")
    with pytest.raises(SettingError, match="optimizer: got 'sgd'; expected one of adam, adamw, rmsprop"):
        make(optimizer="sgd")
