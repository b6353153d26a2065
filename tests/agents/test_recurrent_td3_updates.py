"""Whole updates of recurrent TD3: on single steps Stable-Baselines3's; slices, priorities, and what computes them.

A memory that remembers nothing and drops the previous action makes a sequence of length one TD3's single transition.
"""

from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DDPG, TD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from adaptive_scan.agents import RDPG, EpisodeReplayBuffer, RecurrentTD3
from adaptive_scan.agents.memories import MEMORIES
from adaptive_scan.agents.memory import Memory
from adaptive_scan.agents.passes import PASSES
from adaptive_scan.agents.policies import MemoryPolicy
from adaptive_scan.agents.targets import masked_mean

N_TRANSITIONS = 16


class NoMemory(Memory):
    """Puts out its input without the previous action, and remembers nothing."""

    def __init__(self, input_size, *, n_dropped):
        super().__init__()
        self.input_size, self.output_size = input_size, input_size - n_dropped

    def initial_state(self, n_sequences):
        """A state of nothing, (1, n_sequences, 1)."""
        return (torch.zeros(1, n_sequences, 1),)

    def forward(self, inputs, state=None):
        """The inputs' first part."""
        return inputs[..., : self.output_size], self.initial_state(len(inputs))


class NoiseEnv(gym.Env):
    """Episodes of noise; some lengths are drawn, and ends are terminations or time limits in turn."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, lengths=(1,), offset=0):
        self.lengths, self.offset, self.n_episodes = lengths, offset, -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.rng = np.random.default_rng([self.offset, self.n_episodes + 1])
        self.n_episodes, self.step_index = self.n_episodes + 1, 0
        return self.rng.normal(size=3).astype(np.float32), {}

    def step(self, action):
        self.step_index += 1
        ended = self.step_index == self.lengths[self.n_episodes % len(self.lengths)]
        terminated = ended and self.n_episodes % 3 > 0
        seen, reward = self.rng.normal(size=3).astype(np.float32), float(self.rng.normal() + action.sum())
        return seen, reward, terminated, ended and not terminated, {}


def make(cls=RecurrentTD3, envs=None, **settings):
    policy_kwargs = {"memory_kwargs": {"hidden_size": 6, "n_layers": 1}, "net_arch": [5], "activation": "tanh"}
    policy_kwargs |= settings.pop("policy_kwargs", {})
    settings = {"max_episode_steps": 9, "seed": 0, "device": "cpu", "learning_starts": 10**9, **settings}
    envs = DummyVecEnv([NoiseEnv]) if envs is None else envs
    model = cls("MlpMemoryPolicy", envs, policy_kwargs=policy_kwargs, **settings)
    model.set_logger(Logger(None, []))
    return model


def collected(cls=RecurrentTD3, lengths=(9, 2, 7, 5), **settings):
    """An agent with thirty episodes of these lengths, acted at random."""
    model = make(cls, DummyVecEnv([lambda: NoiseEnv(lengths)]), buffer_size=9 * 30, **settings)
    while not model.replay_buffer.full:
        model.learn(60, reset_num_timesteps=False)
    model.set_logger(Logger(None, []))
    return model


# Single steps against Stable-Baselines3


def copy_head(theirs, ours):
    """Linear layers one by one: SB3's networks end in a tanh of their own, where ours do not."""
    pairs = zip(*([m for m in net if isinstance(m, torch.nn.Linear)] for net in (theirs, ours)), strict=True)
    for one, other in pairs:
        other.load_state_dict(one.state_dict())


def make_pair(monkeypatch, theirs_cls, ours_cls, **settings):
    """SB3's algorithm and ours on the same weights and the same transitions."""
    monkeypatch.setitem(MEMORIES, "none", NoMemory)
    common = {"gamma": 0.9, "tau": 0.05, "learning_rate": 1e-2, "seed": 0, "device": "cpu"}
    theirs = theirs_cls("MlpPolicy", NoiseEnv(), policy_kwargs={"net_arch": [8, 7]}, **common, **settings)
    head = {"memory": "none", "memory_kwargs": {"n_dropped": 2}, "net_arch": [8, 7], "activation": "relu"}
    settings = {"target_policy_noise": 0.0, **settings}
    ours = make(ours_cls, policy_kwargs=head, max_episode_steps=1, buffer_size=N_TRANSITIONS, **common, **settings)
    for name in ("actor", "actor_target"):
        copy_head(getattr(theirs, name).mu, getattr(ours, name).head)
    for name in ("critic", "critic_target"):
        for one, other in zip(getattr(theirs, name).q_networks, getattr(ours, name).heads, strict=True):
            copy_head(one, other)
    rng = np.random.default_rng(1)
    for i in range(N_TRANSITIONS):
        seen, following = rng.normal(size=(2, 1, 3)).astype(np.float32)
        infos = [{"TimeLimit.truncated": i % 3 == 0}]
        step = (seen, following, rng.uniform(-1, 1, (1, 2)), rng.normal(size=1), np.ones(1, bool), infos)
        theirs.replay_buffer.add(*step)
        ours.replay_buffer.add(*step)
    drawn = theirs.replay_buffer._get_samples(np.arange(N_TRANSITIONS))
    monkeypatch.setattr(theirs.replay_buffer, "sample", lambda *_, **__: drawn)
    theirs.set_logger(Logger(None, []))
    return theirs, ours, ours.replay_buffer._get_samples(np.arange(N_TRANSITIONS))


def assert_same_weights(theirs, ours, names=("actor", "actor_target", "critic", "critic_target")):
    for name in names:
        one, other = (
            [p for p in getattr(model, name).parameters() if p.numel()]
            for model in (theirs, ours)
        )  # fmt: skip
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(b, a, atol=1e-6, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


def step_critic_last(monkeypatch, model):
    """SB3's critic takes its step before the actor's gradient; ours after it, so that one pass serves both."""
    critic, actor = model.critic.optimizer, model.actor.optimizer
    step_critic, step_actor = critic.step, actor.step
    kept = []

    def keep():
        kept[:] = [p.grad.clone() for p in model.critic.parameters()]
        if (model._n_updates % model.policy_delay) != 0:
            step_critic()

    def step_both():
        step_actor()
        for parameter, gradient in zip(model.critic.parameters(), kept, strict=True):
            parameter.grad = gradient
        step_critic()

    monkeypatch.setattr(critic, "step", keep)
    monkeypatch.setattr(actor, "step", step_both)


@pytest.mark.parametrize(("theirs_cls", "ours_cls", "settings"), [
    (TD3, RecurrentTD3, {"target_policy_noise": 0.0}),
    (TD3, RecurrentTD3, {"target_policy_noise": 0.0, "policy_delay": 3}),
    (DDPG, RDPG, {}),
])  # fmt: skip
@pytest.mark.parametrize("n_updates", [1, 6])
def test_updates_on_single_steps_are_those_of_sb3(theirs_cls, ours_cls, settings, n_updates, monkeypatch):
    theirs, ours, batch = make_pair(monkeypatch, theirs_cls, ours_cls, **settings)
    before = copy.deepcopy(ours.actor_target.state_dict())
    step_critic_last(monkeypatch, theirs)
    for _ in range(n_updates):
        theirs.train(1, N_TRANSITIONS)
        ours._update(batch, batch.rewards)
        assert_same_weights(theirs, ours)
        for key in ("train/critic_loss", "train/actor_loss"):
            if key in theirs.logger.name_to_value:
                expected = theirs.logger.name_to_value.pop(key)
                assert ours.logger.name_to_value.pop(key) == pytest.approx(expected, abs=1e-6)
                ours.logger.name_to_count.pop(key)
    moved = any(not torch.equal(before[name], value) for name, value in ours.actor_target.state_dict().items())
    assert moved == (n_updates >= ours.policy_delay)


def test_the_first_update_is_sb3s_without_help(monkeypatch):
    """Where no actor follows, the order of the two steps makes no difference."""
    theirs, ours, batch = make_pair(monkeypatch, TD3, RecurrentTD3, target_policy_noise=0.0, policy_delay=100)
    for _ in range(5):
        theirs.train(1, N_TRANSITIONS)
        ours._update(batch, batch.rewards)
    assert_same_weights(theirs, ours)


def test_target_smoothing_is_that_of_sb3_for_the_same_noise(monkeypatch):
    theirs, ours, batch = make_pair(monkeypatch, TD3, RecurrentTD3, target_policy_noise=0.4, target_noise_clip=0.5)
    noise = torch.Generator().set_state(ours.torch_rng.get_state())
    drawn = torch.randn(N_TRANSITIONS, 2, 2, generator=noise)[:, 1]
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, mean, std: self.copy_(drawn * std))
    theirs.train(1, N_TRANSITIONS)
    ours._update(batch, batch.rewards)
    assert (drawn.abs() * 0.4 > 0.5).any()
    assert_same_weights(theirs, ours)
    assert ours.logger.name_to_value["train/critic_loss"] == pytest.approx(
        theirs.logger.name_to_value["train/critic_loss"], abs=1e-6
    )


# The end of an episode


def test_a_time_limit_and_a_termination_differ_exactly_in_the_bootstrap_term():
    """From the environment's flags to the loss: the one target that changes is the last one, by gamma Q'."""
    found = {}
    for n_episodes in (-1, 0):  # the first episode of NoiseEnv is cut, the second one terminates
        env = NoiseEnv((4,))
        env.n_episodes = n_episodes
        model = make(RDPG, DummyVecEnv([lambda env=env: env]), gamma=0.9)
        env.n_episodes = n_episodes
        model.learn(4)
        found[bool(model.replay_buffer.episodes["terminated"][0])] = model
    assert found.keys() == {True, False}
    model = found[False]
    batch = model.replay_buffer._get_samples(np.array([0]))
    with torch.no_grad():
        cut = model._targets(batch, batch.rewards, None)
        ended = model._targets(batch._replace(terminated=torch.tensor([True])), batch.rewards, None)
        actions, _ = model.actor_target(batch.observations, batch.previous_actions)
        latents = model.critic_target.encode(batch.observations, batch.previous_actions)
        bootstrap = 0.9 * model.critic_target.values(latents, actions)[0][:, -1]
    assert torch.equal(cut[:, :-1], ended[:, :-1])
    torch.testing.assert_close(cut[:, -1] - ended[:, -1], bootstrap)
    assert bootstrap.abs() > 1e-3


@pytest.mark.parametrize("n_target_steps", [1, 3, 9])
def test_n_step_and_monte_carlo_targets_reach_the_critic(n_target_steps):
    """The loss of the first update is that of targets summed term by term over stored episodes."""
    model = collected(RDPG, n_target_steps=n_target_steps, gamma=0.9)
    batch = model.replay_buffer._get_samples(np.arange(8))
    errors = []
    with torch.no_grad():
        actions, _ = model.actor_target(batch.observations, batch.previous_actions)
        latents = model.critic_target.encode(batch.observations, batch.previous_actions)
        following = model.critic_target.values(latents, actions)[0].double()
        latents = model.critic.encode(batch.observations, batch.previous_actions)[:, :-1]
        values = model.critic.values(latents, batch.actions)[0].double()
    for i, (length, terminated) in enumerate(zip(batch.lengths.tolist(), batch.terminated.tolist(), strict=True)):
        for t in range(length):
            m = min(n_target_steps, length - t)
            target = sum(0.9**k * batch.rewards[i, t + k].item() for k in range(m))
            if not (terminated and t + m == length):
                target += 0.9**m * following[i, t + m].item()
            errors.append((values[i, t].item() - target) ** 2)
    model._update(batch, batch.rewards)
    assert model.logger.name_to_value["train/critic_loss"] == pytest.approx(np.mean(errors), rel=1e-5)


# Slices and burn-in


def gradients(model, batch):
    for part in (model.actor, model.critic):
        part.optimizer.param_groups[0]["lr"] = 0.0
    model._update(batch, batch.rewards)
    names = {id(p): name for name, p in model.policy.named_parameters()}
    return {names[id(p)]: p.grad.clone() for part in (model.actor, model.critic) for p in part.parameters()}


def assert_close(got, expected, atol=1e-7):
    assert got.keys() == expected.keys()
    for name in got:
        torch.testing.assert_close(got[name], expected[name], atol=atol, rtol=1e-4, msg=lambda text, n=name: n + text)


SLICES = {"n_slice_steps": 4, "n_burn_in": 3}
LEARNED = {"memory_kwargs": {"hidden_size": 6, "n_layers": 1, "learned_initial_state": True}}


def place_of(model, length):
    """Where an episode of that length stands."""
    return int(np.flatnonzero(model.replay_buffer.episodes["lengths"] == length)[0])


def sliced_batch(model, starts):
    """Slices of one episode of nine steps."""
    return model.replay_buffer._get_slices(np.full(len(starts), place_of(model, 9)), np.array(starts))


def test_a_slice_s_memory_starts_from_the_steps_before_it():
    """Each network warms its own memory up, and the latents are those of a walk over all of these steps."""
    model = collected(RDPG, replay_buffer_kwargs=SLICES, policy_kwargs=LEARNED)
    for part in model.policy.modules():
        if isinstance(part, Memory):
            torch.nn.init.normal_(part.first_state)
    batch = sliced_batch(model, [5, 0])
    whole = model.replay_buffer._get_samples(np.array([place_of(model, 9)]))
    for network in (model.actor, model.critic, model.actor_target, model.critic_target):
        state = network.encoder.start_state(batch.burn_in)
        with torch.no_grad():
            got, _ = network.encoder(batch.observations, batch.previous_actions, state)
            walk, _ = network.encoder(whole.observations[:, 2:], whole.previous_actions[:, 2:])
            torch.testing.assert_close(got[0, :5], walk[0, 3:8], atol=1e-6, rtol=0)
            walk, _ = network.encoder(whole.observations, whole.previous_actions)
            torch.testing.assert_close(got[1, :5], walk[0, :5], atol=1e-6, rtol=0)
    assert model.actor.encoder.start_state(None) is None


def test_all_four_passes_of_an_update_start_from_the_burn_in(monkeypatch):
    model = collected(replay_buffer_kwargs=SLICES, policy_delay=1)
    batch = sliced_batch(model, [3, 5])
    clean = gradients(model, batch)
    other = batch._replace(burn_in=batch.burn_in._replace(observations=batch.burn_in.observations + 1.0))
    assert any(not torch.allclose(clean[name], value) for name, value in gradients(model, other).items())
    starts = []
    for name in ("actor", "critic", "actor_target", "critic_target"):
        encoder = getattr(model, name).encoder
        monkeypatch.setattr(encoder, "start_state", lambda burn_in, name=name: starts.append((name, burn_in)))
    model._update(batch, batch.rewards)
    assert sorted(name for name, _ in starts) == ["actor", "actor_target", "critic", "critic_target"]
    assert all(burn_in is batch.burn_in for _, burn_in in starts)


def test_burn_in_gives_no_gradient_to_what_is_before_the_slice():
    """Slices inside an episode leave a learned initial state alone, slices at its start move it."""
    model = collected(RDPG, replay_buffer_kwargs=SLICES, policy_kwargs=LEARNED)
    inside, beginning = sliced_batch(model, [3, 5]), sliced_batch(model, [0, 5])
    initial = [name for name in gradients(model, inside) if name.endswith("first_state")]
    assert len(initial) == 2
    for batch, has_gradient in ((inside, False), (beginning, True)):
        found = gradients(model, batch)
        assert [found[name].abs().max().item() > 1e-6 for name in initial] == [has_gradient] * 2
    burn_in = inside.burn_in._replace(observations=inside.burn_in.observations.clone().requires_grad_())
    gradients(model, inside._replace(burn_in=burn_in))
    assert burn_in.observations.grad is None


def test_a_burn_in_without_gradient_is_a_state_held_fixed():
    """The critic's gradient equals that of the same slice from the same numbers put in by hand."""
    model = collected(RDPG, replay_buffer_kwargs=SLICES)
    batch = sliced_batch(model, [4])
    expected = gradients(model, batch)
    for network in (model.actor, model.critic, model.actor_target, model.critic_target):
        state = tuple(part.detach().clone() for part in network.encoder.start_state(batch.burn_in))
        network.encoder.start_state = lambda _, state=state: state
    assert_close(gradients(model, batch), expected)


def test_padding_of_slices_and_of_burn_in_rows_changes_no_gradient():
    """Behind the end of a slice, and before slices that begin with their episode, anything may stand."""
    model = collected(RDPG, replay_buffer_kwargs=SLICES)
    batch = model.replay_buffer._get_slices(np.array([place_of(model, n) for n in (9, 2, 9)]), np.array([5, 0, 0]))
    assert batch.lengths.tolist() == [4, 2, 4]
    behind = torch.arange(5) > batch.lengths[:, None]
    rows = batch.burn_in.is_start[:, None, None]
    dirty = batch._replace(
        observations=torch.where(behind[..., None], 3.0, batch.observations),
        previous_actions=torch.where(behind[..., None], 0.9, batch.previous_actions),
        actions=torch.where(behind[:, 1:, None], 0.9, batch.actions),
        rewards=torch.where(behind[:, 1:], 50.0, batch.rewards),
        burn_in=batch.burn_in._replace(
            observations=torch.where(rows, 7.0, batch.burn_in.observations),
            previous_actions=torch.where(rows, -0.9, batch.burn_in.previous_actions),
        ),
    )
    assert_close(gradients(model, dirty), gradients(model, batch))


def test_slices_that_hold_the_whole_episode_are_the_whole_episode():
    whole, sliced = collected(RDPG), collected(RDPG, replay_buffer_kwargs={"n_slice_steps": 9, "n_burn_in": 2})
    places = np.array([0, 1, 2, 3])
    batches = whole.replay_buffer._get_samples(places), sliced.replay_buffer._get_slices(places, np.zeros(4, int))
    assert_close(*(gradients(model, batch) for model, batch in zip((whole, sliced), batches, strict=True)))


def test_slices_are_learned_from_through_the_algorithm():
    settings = {"n_slice_steps": 3, "n_burn_in": 2, "priority_exponent": 0.6}
    model = collected(replay_buffer_kwargs=settings)
    before = copy.deepcopy(model.critic.state_dict())
    model.train(4, batch_size=8)
    after = model.critic.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert model.replay_buffer.n_slice_steps == 3


# Priorities


def test_prioritised_weights_enter_the_loss_in_closed_form():
    """The gradient is the weighted mean of the episodes' own; the actor's is not weighted."""
    model = collected(RDPG)
    one = model.replay_buffer._get_samples(np.array([0, 1]))
    weights = torch.tensor([0.25, 1.0])
    alone = [gradients(model, one._replace(weights=w)) for w in (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))]
    got = gradients(model, one._replace(weights=weights))
    plain = gradients(model, one)
    for name, gradient in got.items():
        expected = 0.25 * alone[0][name] + alone[1][name] if name.startswith("critic.") else plain[name]
        torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-4)
    assert_close(gradients(model, one._replace(weights=torch.ones(2))), plain)


def test_priorities_follow_the_first_critic_s_errors():
    settings = {"priority_exponent": 0.6, "priority_mix": 0.7}
    model = collected(replay_buffer_kwargs=settings, target_policy_noise=0.0)
    kept = {}
    update = model.replay_buffer.update_priorities

    def noted(indices, errors, mask):
        kept.update(indices=indices, errors=errors, mask=mask)
        update(indices, errors, mask)

    model.replay_buffer.update_priorities = noted
    batch = model.replay_buffer.sample(6)
    assert batch.weights is not None
    with torch.no_grad():
        targets = model._targets(batch, batch.rewards, None)
        latents = model.critic.encode(batch.observations, batch.previous_actions)[:, :-1]
        expected = (model.critic.values(latents, batch.actions)[0] - targets).abs() * batch.mask
    model._update(batch, batch.rewards)
    torch.testing.assert_close(kept["errors"] * batch.mask, expected)
    assert not kept["errors"].requires_grad
    last = {int(place): i for i, place in enumerate(batch.indices)}
    for place, i in last.items():
        mean = masked_mean(expected[i], batch.mask[i]).item()
        value = 0.7 * expected[i].max().item() + 0.3 * mean
        assert model.replay_buffer.priorities.values[place] == pytest.approx(value, rel=1e-3)


# What is run, and what is not


def count_passes(model, monkeypatch):
    counts = dict.fromkeys(("actor", "critic", "actor_target", "critic_target"), 0)

    def count(name, run):
        def counted(*arguments):
            counts[name] += 1
            return run(*arguments)

        return counted

    for name in counts:
        encoder = getattr(model, name).encoder
        monkeypatch.setattr(encoder, "forward", count(name, encoder.forward))
    return counts


@pytest.mark.parametrize(("settings", "expected"), [
    ({"policy_delay": 2}, {"actor": 2, "critic": 4, "actor_target": 4, "critic_target": 4}),
    ({"policy_delay": 2, "use_target_actor": False}, {"actor": 4, "critic": 4, "actor_target": 0, "critic_target": 4}),
    ({"policy_delay": 1, "actor_learning_starts": 3},
     {"actor": 1, "critic": 4, "actor_target": 4, "critic_target": 4}),
])  # fmt: skip
def test_each_network_runs_once_and_only_where_it_is_needed(settings, expected, monkeypatch):
    model = collected(**settings)
    counts = count_passes(model, monkeypatch)
    batch = model.replay_buffer.sample(4)
    for _ in range(4):
        model._update(batch, batch.rewards)
    assert counts == expected


def test_the_memory_of_the_replay_is_printed(capsys):
    model = make(verbose=1, buffer_size=900)
    out = capsys.readouterr().out
    assert model.replay_buffer.memory_report() in out
    assert "replay: 100 episodes of up to 9 steps" in out
    make(verbose=0)
    assert "replay" not in capsys.readouterr().out


class CountingBuffer(EpisodeReplayBuffer):
    """A replay buffer with a setting of its own."""

    def __init__(self, *args, marker, **kwargs):
        super().__init__(*args, **kwargs)
        self.marker = marker


def test_a_replay_buffer_of_one_s_own_gets_its_settings():
    model = make(replay_buffer_class=CountingBuffer, replay_buffer_kwargs={"marker": 7, "n_slice_steps": 4})
    assert isinstance(model.replay_buffer, CountingBuffer)
    assert (model.replay_buffer.marker, model.replay_buffer.n_slice_steps) == (7, 4)
    assert (model.replay_buffer.max_episode_steps, make().replay_buffer.n_slice_steps) == (9, None)


# Order of the environments


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 2, 0]])
def test_shuffling_the_environments_changes_nothing_but_their_order(order):
    def run(places):
        makers = [lambda i=i: NoiseEnv((9, 2, 7, 5), offset=i) for i in places]
        model = make(RDPG, DummyVecEnv(makers), learning_starts=0, train_freq=40, gradient_steps=0)
        model.learn(40 * 3)
        episodes = {
            key: values[: model.replay_buffer.n_episodes] for key, values in model.replay_buffer.episodes.items()
        }
        actions, state = model.predict(model._last_obs, model._memory_state, model._last_episode_starts)
        return model, episodes, actions, state

    plain, shuffled = run([0, 1, 2]), run(order)
    places = np.array(order)
    np.testing.assert_allclose(shuffled[2], plain[2][places], atol=1e-6)
    for got, expected in zip(shuffled[3], plain[3], strict=True):
        np.testing.assert_allclose(got, expected[:, places], atol=1e-6)
    # Episodes that end at the same step are stored in the order of their environments.
    one, other = (np.lexsort(run[1]["observations/"][:, 0].T) for run in (plain, shuffled))
    assert len(one) == len(other) > 9
    for key, values in plain[1].items():
        np.testing.assert_allclose(shuffled[1][key][other], values[one], atol=1e-6, err_msg=key)


# Options


def test_mixed_precision_stays_near_single_precision_and_keeps_its_weights():
    plain, mixed = collected(RDPG), collected(RDPG, mixed_precision=True)
    batch = plain.replay_buffer._get_samples(np.arange(8))
    expected, got = gradients(plain, batch), gradients(mixed, batch)
    sizes = [torch.cat([g.flatten() for g in found.values()]) for found in (expected, got)]
    assert 1e-5 < (sizes[0] - sizes[1]).norm() / sizes[0].norm() < 0.02
    assert {value.dtype for value in (*mixed.policy.state_dict().values(), *got.values())} == {torch.float32}
    losses = [model.logger.name_to_value["train/critic_loss"] for model in (plain, mixed)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("memory", ["dnc", "gru", "lstm", "transformer"])
def test_mixed_precision_learns_from_slices(memory):
    settings = {
        "policy_kwargs": {"memory": memory, "memory_kwargs": {"hidden_size": 8, "n_layers": 1}},
        "replay_buffer_kwargs": SLICES,
    }
    model = collected(RDPG, mixed_precision=True, learning_rate=2e-2, **settings)
    losses = []
    batch = model.replay_buffer.sample(8)
    for _ in range(30):
        model._update(batch, batch.rewards)
        losses.append(model.logger.name_to_value.pop("train/critic_loss"))
        model.logger.name_to_count.pop("train/critic_loss")
    assert losses[-1] < 0.9 * losses[0]


def test_a_device_without_a_compiler_is_named(monkeypatch):
    def compile_nothing(function):
        def fail(*_):
            raise RuntimeError("no compiler\nand a long story")

        return fail  # fmt: skip

    monkeypatch.setattr(torch, "compile", compile_nothing)
    with pytest.raises(
        ValueError, match=r"compile_networks: got True where torch.compile fails \(no compiler\); expec"
    ):
        make(compile_networks=True)


def test_passes_are_compiled_where_asked_alone(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: lambda *arguments: function(*arguments))
    assert make()._passes is PASSES
    model = collected(compile_networks=True)
    assert all(function is not plain for function, plain in zip(model._passes, PASSES, strict=True))
    plain = collected()
    for one in (model, plain):
        one.train(2, batch_size=4)
    assert_same_weights(plain, model)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler has deprecation warnings of its own
def test_compiled_networks_learn_the_same_weights_and_are_saved_and_copied_alike(tmp_path):
    settings = {
        "policy_kwargs": {"memory_kwargs": {"hidden_size": 8, "n_layers": 1}},
        "replay_buffer_kwargs": {**SLICES, "priority_exponent": 0.5},
        "policy_delay": 1,
    }
    plain, compiled = collected(**settings), collected(compile_networks=True, **settings)
    for model in (plain, compiled):
        model.train(3, batch_size=4)
    assert list(plain.policy.state_dict()) == list(compiled.policy.state_dict())
    for name, value in plain.policy.state_dict().items():
        torch.testing.assert_close(compiled.policy.state_dict()[name], value, atol=1e-4, rtol=0)
    again = copy.deepcopy(compiled.policy)
    compiled.save(tmp_path / "model")
    loaded = RecurrentTD3.load(tmp_path / "model", device="cpu")
    seen = np.ones((2, 3), np.float32)
    expected, _ = compiled.predict(seen)
    assert isinstance(again, MemoryPolicy)
    for policy in (again, loaded):
        np.testing.assert_array_equal(policy.predict(seen)[0], expected)
