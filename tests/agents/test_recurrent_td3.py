"""Recurrent TD3: gradients against finite differences, closed forms, a cue to remember, and exact continuation."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize

from adaptive_scan.agents import RDPG, GaussianNoise, OrnsteinUhlenbeckNoise, RecurrentTD3
from adaptive_scan.agents.replay import EpisodeBatch
from adaptive_scan.errors import SettingError
from adaptive_scan.trees import read_tree, write_tree


def make(envs, cls=RecurrentTD3, **settings):
    policy_kwargs = {"memory_kwargs": {"hidden_size": 6}, "net_arch": [5], "activation": "tanh"}
    policy_kwargs |= settings.pop("policy_kwargs", {})
    settings = {"max_episode_steps": 5, "seed": 0, "device": "cpu", "learning_starts": 0, **settings}
    return cls("MlpMemoryPolicy", envs, policy_kwargs=policy_kwargs, **settings)


def random_batch(lengths, seed=0):
    """Episodes of these lengths, zero behind their ends, that ended by themselves."""
    generator = torch.Generator().manual_seed(seed)
    n, n_time = len(lengths), max(lengths)
    lengths = torch.tensor(lengths)
    mask = (torch.arange(n_time) < lengths[:, None]).float()
    actions = (torch.rand(n, n_time, 1, generator=generator) * 2 - 1) * mask[..., None]
    seen = torch.rand(n, n_time + 1, 2, generator=generator) * (torch.arange(n_time + 1) <= lengths[:, None])[..., None]
    rewards = torch.randn(n, n_time, generator=generator) * mask
    return EpisodeBatch(
        observations=seen,
        previous_actions=torch.nn.functional.pad(actions, (0, 0, 1, 0)),
        actions=actions,
        rewards=rewards,
        mask=mask,
        lengths=lengths,
        terminated=torch.ones(n, dtype=torch.bool),
        fields={},
        indices=np.arange(n),
    )


def update(model, batch):
    """One update on a batch, with the logger that learning would have set up."""
    if not hasattr(model, "_logger"):
        model.learn(0)
    model._update(batch, batch.rewards)


def gradients(part):
    return {name: p.grad.clone() for name, p in part.named_parameters()}


def stand_still(model):
    for part in (model.actor, model.critic):
        part.optimizer.param_groups[0]["lr"] = 0.0


def slow_actor_loss(model, batch):
    """Minus the mean first value of the live actions, episode by episode and without padding."""
    total, n_steps = 0.0, 0
    with torch.no_grad():
        for i, length in enumerate(batch.lengths.tolist()):
            seen, previous = batch.observations[i : i + 1, :length], batch.previous_actions[i : i + 1, :length]
            live, _ = model.actor(seen, previous)
            latents = model.critic.encode(seen, previous)
            total += model.critic.values(latents, live)[0].double().sum().item()
            n_steps += length
    return -total / n_steps


def test_actor_s_gradient_is_the_finite_difference_at_the_live_actions(cue_envs):
    model = make(cue_envs(), RDPG)
    batch = random_batch([4, 2, 5])
    stand_still(model)
    update(model, batch)
    step = 1e-2
    for name, parameter in model.actor.named_parameters():
        flat, got = parameter.data.view(-1), parameter.grad.view(-1)
        for i in range(0, flat.numel(), max(1, flat.numel() // 5)):
            kept = flat[i].item()
            flat[i] = kept + step
            above = slow_actor_loss(model, batch)
            flat[i] = kept - step
            below = slow_actor_loss(model, batch)
            flat[i] = kept
            assert got[i].item() == pytest.approx((above - below) / (2 * step), rel=0.02, abs=2e-5), name
    assert max(g.abs().max().item() for g in gradients(model.actor).values()) > 1e-3


def test_padding_changes_no_gradient(cue_envs):
    model = make(cue_envs(), RDPG)
    stand_still(model)
    clean = random_batch([2, 4])
    update(model, clean)
    expected = gradients(model.critic), gradients(model.actor)
    behind = torch.arange(5) > clean.lengths[:, None]
    dirty = clean._replace(
        observations=torch.where(behind[..., None], 3.0, clean.observations),
        actions=torch.where(behind[:, 1:, None], 0.9, clean.actions),
        rewards=torch.where(behind[:, 1:], 50.0, clean.rewards),
        previous_actions=torch.where(behind[..., None], 0.9, clean.previous_actions),
    )
    update(model, dirty)
    for got, wanted in zip((gradients(model.critic), gradients(model.actor)), expected, strict=True):
        for name in wanted:
            torch.testing.assert_close(got[name], wanted[name], atol=1e-7, rtol=1e-5)


def test_gradient_of_a_batch_is_the_step_weighted_mean_of_its_episodes(cue_envs):
    model = make(cue_envs(), RDPG)
    stand_still(model)
    batch, singles = random_batch([2, 4]), []
    for i, length in enumerate((2, 4)):
        parts = {k: v[i : i + 1] for k, v in batch._asdict().items() if isinstance(v, torch.Tensor)}
        for key in ("actions", "rewards", "mask"):
            parts[key] = parts[key][:, :length]
        for key in ("observations", "previous_actions"):
            parts[key] = parts[key][:, : length + 1]
        update(model, EpisodeBatch(**parts, fields={}, indices=np.array([i])))
        singles.append((gradients(model.critic), gradients(model.actor)))
    update(model, batch)
    for part, got in enumerate((gradients(model.critic), gradients(model.actor))):
        for name, gradient in got.items():
            expected = (2 * singles[0][part][name] + 4 * singles[1][part][name]) / 6
            torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)


def test_actor_s_loss_leaves_no_gradient_in_the_critic(cue_envs):
    batch, seen = random_batch([4, 2, 5]), []
    for actor_learning_starts in (0, 100):
        model = make(cue_envs(), RDPG, actor_learning_starts=actor_learning_starts)
        stand_still(model)
        update(model, batch)
        seen.append(gradients(model.critic))
        assert (next(model.actor.parameters()).grad is None) == (actor_learning_starts == 100)
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


@pytest.mark.parametrize("use_target_actor", [True, False])
def test_targets_move_by_tau(use_target_actor, cue_envs):
    model = make(cue_envs(), RDPG, tau=0.3, use_target_actor=use_target_actor)
    stand_still(model)
    for parameter in model.policy.parameters():
        torch.nn.init.normal_(parameter)
    before = copy.deepcopy(model.policy.state_dict())
    update(model, random_batch([3]))
    after = model.policy.state_dict()
    for name, value in after.items():
        expected = before[name]
        if name.startswith("critic_target.") or (use_target_actor and name.startswith("actor_target.")):
            expected = 0.7 * before[name] + 0.3 * before[name.replace("_target", "")]
        torch.testing.assert_close(value, expected)


def test_tau_and_learning_rates_follow_the_remaining_progress(cue_envs):
    schedules = {"tau": lambda remaining: 1.0 - remaining, "critic_learning_rate": lambda remaining: remaining}
    model = make(cue_envs(), RDPG, learning_rate=1e-2, **schedules)
    update(model, random_batch([3]))
    model._current_progress_remaining = 0.25
    model._set_learning_rates()
    assert model.actor.optimizer.param_groups[0]["lr"] == 1e-2
    assert model.critic.optimizer.param_groups[0]["lr"] == 0.25
    online, target = (next(part.parameters()) for part in (model.critic, model.critic_target))
    expected = 0.25 * target + 0.75 * online
    model._update_targets()
    torch.testing.assert_close(target, expected)


def test_actor_and_targets_wait_for_their_turns(cue_envs):
    model = make(cue_envs(), policy_delay=2, actor_learning_starts=4)
    model.learn(0)
    parts = {"critic": model.critic, "actor": model.actor, "target": model.critic_target}
    moved = {name: [] for name in parts}
    for _ in range(6):
        before = {name: next(part.parameters()).clone() for name, part in parts.items()}
        update(model, random_batch([3, 5]))
        for name, part in parts.items():
            moved[name].append(not torch.equal(before[name], next(part.parameters())))
    assert moved["critic"] == [True] * 6
    assert moved["target"] == [False, True] * 3
    assert moved["actor"] == [False] * 5 + [True]


def test_target_takes_the_smaller_critic_and_the_noise_is_clipped(cue_envs):
    batch = random_batch([3, 5])
    model = make(cue_envs(), target_policy_noise=0.0, gamma=0.9)
    with torch.no_grad():
        live, _ = model.actor(batch.observations, batch.previous_actions)
        latents = model.critic_target.encode(batch.observations, batch.previous_actions)
        q1, q2 = model.critic_target.values(latents, live)
        expected = batch.rewards + 0.9 * torch.minimum(q1, q2)[:, 1:] * batch.mask
        expected[[0, 1], batch.lengths - 1] = batch.rewards[[0, 1], batch.lengths - 1]
        torch.testing.assert_close(model._targets(batch, batch.rewards, live), expected * batch.mask)
        # Huge noise, clipped to nothing, changes nothing; clipped to something, it does.
        model.target_policy_noise, model.target_noise_clip = 100.0, 0.0
        torch.testing.assert_close(model._targets(batch, batch.rewards, live), expected * batch.mask)
        model.target_noise_clip = 0.5
        assert not torch.allclose(model._targets(batch, batch.rewards, live), expected * batch.mask)


def cue_agent(envs, **settings):
    n_envs = envs.num_envs
    return make(
        envs,
        RDPG,
        learning_rate=3e-3,
        actor_learning_starts=50,
        critic_learning_rate=5e-3,
        policy_kwargs={"memory": "gru", "memory_kwargs": {"hidden_size": 16, "n_layers": 1}, "net_arch": [32]},
        n_target_steps=5,
        batch_size=64,
        train_freq=5,
        gradient_steps=4,
        learning_starts=5 * n_envs * 4,
        action_noise=GaussianNoise(n_envs, np.array([0.4]), final_scale=0.2, seed=1),
        max_grad_norm=1.0,
        **settings,
    )


class Forgetful:
    """An agent whose state is zeroed at every step."""

    def __init__(self, model):
        self.model = model

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return self.model.predict(observation, None, episode_start, deterministic)


def test_a_cue_is_remembered_and_acted_on(cue_envs):
    model = cue_agent(cue_envs(16))
    model.learn(5 * 16 * 100)
    envs = cue_envs(8)
    envs.seed(5)
    with_memory, _ = evaluate_policy(model, envs, 64, warn=False)
    without, _ = evaluate_policy(Forgetful(model), envs, 64, warn=False)
    assert with_memory > -0.05
    assert without < -0.8


def test_seeds_repeat_exactly(cue_envs):
    first, second, other = (cue_agent(cue_envs(4), seed=seed) for seed in (3, 3, 4))
    for model in (first, second, other):
        model.learn(5 * 4 * 8)
    a, b, c = (model.policy.state_dict() for model in (first, second, other))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)
    assert (first.num_timesteps, first._n_updates) == (160, 16)
    seen, again = (model.replay_buffer.episodes["observations/"] for model in (first, second))
    assert np.array_equal(seen, again)


@pytest.mark.parametrize(("train_freq", "gradient_steps", "n_envs", "n_updates"), [
    (4, 1, 2, 5),  # every 4 steps of both environments: 40 / (4 * 2)
    (4, 3, 2, 15),
    (4, -1, 2, 40),  # as many as steps were taken in all environments
    ((1, "episode"), 1, 1, 8),
    ((2, "episode"), -1, 1, 40),
])  # fmt: skip
def test_updates_come_as_often_as_train_freq_and_gradient_steps_say(
    train_freq, gradient_steps, n_envs, n_updates, cue_envs
):
    settings = {"train_freq": train_freq, "gradient_steps": gradient_steps, "batch_size": 2}
    model = make(cue_envs(n_envs), RDPG, **settings)
    counted = []
    model._update = lambda batch, rewards: counted.append(len(batch.lengths))
    model.learn(5 * n_envs)  # a whole episode, so that every later call has something to learn from
    counted.clear()
    model.learn(40, reset_num_timesteps=False)
    assert counted == [2] * n_updates


class Snapshot(BaseCallback):
    """Writes the training state and copies the environment between two updates."""

    def __init__(self, at, path):
        super().__init__()
        self.at, self.path, self.envs = at, path, None

    def _on_rollout_start(self):
        if self.num_timesteps == self.at:
            write_tree(self.path, self.model.training_state())
            self.envs = copy.deepcopy(self.model.get_env())

    def _on_step(self):
        return True


def assert_equal_trees(a, b, where=""):
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal_trees(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal_trees(x, y, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, np.ndarray):
        assert np.array_equal(a, b), where
    else:
        assert a == b, where


@pytest.mark.parametrize("at", [3, 18, 36])
def test_training_goes_on_to_the_last_bit(at, cue_envs, tmp_path):
    """Checkpoints fall in the middle of episodes, during warm-up (3, 6) and after it."""

    def agent(envs, seed):
        noise = OrnsteinUhlenbeckNoise(3, np.array([0.2]), final_scale=0.1, seed=seed)
        settings = {"train_freq": 3, "batch_size": 4, "buffer_size": 40, "tau": 0.1, "n_target_steps": 2}
        return make(envs, seed=seed, action_noise=noise, learning_starts=20, **settings)

    at *= 3
    straight = agent(cue_envs(3), seed=0)
    snapshot = Snapshot(at, tmp_path / "state.safetensors")
    straight.learn(180, callback=snapshot)
    resumed = agent(cue_envs(3), seed=77)
    resumed.load_training_state(read_tree(snapshot.path))
    resumed.set_env(snapshot.envs, force_reset=False)
    resumed.learn(180 - at, reset_num_timesteps=False)
    assert straight._n_updates > 10
    write_tree(tmp_path / "a", straight.training_state())
    write_tree(tmp_path / "b", resumed.training_state())
    assert_equal_trees(read_tree(tmp_path / "a"), read_tree(tmp_path / "b"))


def test_a_loaded_state_is_not_shared(cue_envs):
    first, second = (cue_agent(cue_envs(2)) for _ in range(2))
    first.learn(100)
    second.load_training_state(first.training_state())
    kept = copy.deepcopy(second.training_state())
    first.learn(100, reset_num_timesteps=False)
    assert_equal_trees(second.training_state(), kept)


class StopAt(BaseCallback):
    """Ends learning inside a step, as callbacks that have seen enough do."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def _on_step(self):
        return self.num_timesteps != self.at


@pytest.mark.parametrize("at", [4, 5, 8, 10])
def test_episodes_stay_aligned_after_learning_was_stopped_inside_a_step(at, cue_envs):
    model = make(cue_envs(), RDPG, train_freq=5, batch_size=2)
    model.learn(20, callback=StopAt(at))
    model.learn(30, reset_num_timesteps=False)
    model.learn(13)
    model.learn(22, reset_num_timesteps=False)
    model.learn(10)
    buffer = model.replay_buffer
    assert buffer.n_episodes >= 6 + 7 + 2
    assert buffer.episodes["lengths"][: buffer.n_episodes].tolist() == [5] * buffer.n_episodes
    progress = buffer.episodes["observations/"][: buffer.n_episodes, :, 1]
    np.testing.assert_allclose(progress, np.tile(np.arange(6) / 5, (buffer.n_episodes, 1)), rtol=1e-6)


@pytest.mark.parametrize("learning_starts", [0, 1000])
def test_memory_sees_what_was_done_and_starts_anew_with_each_episode(learning_starts, cue_envs):
    """Random steps before learning starts advance the memory as well."""
    noise = GaussianNoise(2, np.array([0.3]), seed=3)
    settings = {"learning_starts": learning_starts, "gradient_steps": 0, "action_noise": noise}
    model = make(cue_envs(2), RDPG, train_freq=12, **settings)
    model.learn(2 * 12)
    last = model.replay_buffer._open["actions"][np.arange(2), model.replay_buffer._open_steps - 1]
    np.testing.assert_array_equal(model._memory_state[-1][0], last)
    # Two steps into their third episodes, the memory holds those two steps and nothing of the episodes before.
    assert model.replay_buffer._open_steps.tolist() == [2, 2]
    seen = torch.from_numpy(model.replay_buffer._open["observations/"][:, :2])
    done = torch.from_numpy(model.replay_buffer._open["actions"][:, :1])
    with torch.no_grad():
        _, expected = model.actor(seen, torch.nn.functional.pad(done, (0, 0, 1, 0)))
    for got, wanted in zip(model._memory_state[:-1], expected, strict=True):
        np.testing.assert_allclose(got, wanted.numpy(), atol=1e-6)


def test_noise_decays_over_the_course_of_learning_and_starts_again(cue_envs):
    noise = GaussianNoise(1, np.array([0.3]), final_scale=0.1, seed=3)
    model = make(cue_envs(), RDPG, train_freq=100, action_noise=noise)
    model.learn(20)
    assert noise.scale == pytest.approx(0.1)
    model.learn(10, callback=StopAt(1))
    assert noise.scale == 1.0
    model.learn(10, callback=StopAt(5))
    assert noise.scale == pytest.approx(1.0 - 0.9 * 4 / 10)


def test_normalised_observations_reach_the_networks_in_learning_too(cue_envs):
    envs = VecNormalize(cue_envs(2))
    model = make(envs, RDPG, train_freq=10)
    model.learn(40)
    raw = model.replay_buffer._get_samples(np.array([0]))
    batch = model.replay_buffer._get_samples(np.array([0]), envs)
    expected = envs.normalize_obs(raw.observations.numpy())
    np.testing.assert_allclose(batch.observations.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(batch.rewards.numpy(), envs.normalize_reward(raw.rewards.numpy()), rtol=1e-6)
    assert not np.allclose(batch.observations, raw.observations)


def test_sb3_s_own_noise_and_environment_ids_work():
    noise = NormalActionNoise(np.zeros(1), np.full(1, 0.1))
    model = RDPG("MlpMemoryPolicy", "Pendulum-v1", seed=0, device="cpu", action_noise=noise, learning_starts=100,
                 train_freq=(1, "episode"), policy_kwargs={"memory_kwargs": {"hidden_size": 4}})  # fmt: skip
    assert model.max_episode_steps == 200
    model.learn(400)
    assert model.replay_buffer.n_episodes == 2
    assert not model.replay_buffer.episodes["terminated"][:2].any()
    action, _ = model.predict(np.zeros(3, np.float32), episode_start=True)
    assert action.shape == (1,)


def test_bad_settings_are_named(cue_envs):
    with pytest.raises(SettingError, match="max_episode_steps: got None"):
        make(cue_envs(), max_episode_steps=None)
    model = make(cue_envs(2), action_noise=GaussianNoise(3, np.array([0.1])))
    with pytest.raises(SettingError, match="action_noise: got noise for 3 environments; expected 2"):
        model.learn(10)
