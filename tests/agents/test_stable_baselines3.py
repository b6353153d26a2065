"""Recurrent TD3 and RDPG as users of Stable-Baselines3 use any algorithm: callbacks, logs, files, wrappers, spaces."""

from __future__ import annotations

import copy
import csv
import io
import json
import pickletools
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import TD3, HerReplayBuffer
from stable_baselines3.common import callbacks
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    sync_envs_normalization,
)
from torch import nn

from adaptive_scan.agents import RDPG, GaussianNoise, MemoryPolicy, OrnsteinUhlenbeckNoise, RecurrentTD3
from adaptive_scan.errors import SettingError
from adaptive_scan.trees import read_tree, write_tree


class DriftEnv(gym.Env):
    """A position, seen at the first step alone, that actions move towards 0: at each step the reward is -position^2."""

    observation_space = spaces.Box(-2.0, 2.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, n_steps=5, start=None):
        self.n_steps, self.start = n_steps, start

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_index = 0
        self.position = self.np_random.uniform(-1.0, 1.0) if self.start is None else self.start
        return np.array([self.position, 0.0], np.float32), {}

    def step(self, action):
        self.step_index += 1
        self.position += 0.5 * float(action[0])
        seen = np.array([0.0, self.step_index / self.n_steps], np.float32)
        return seen, -(self.position**2), self.step_index == self.n_steps, False, {}


class SpaceEnv(gym.Env):
    """Random observations of a space; it takes only actions of its action space, and remembers them."""

    def __init__(self, observation_space=DriftEnv.observation_space, action_space=DriftEnv.action_space, n_steps=4):
        self.observation_space, self.action_space = copy.deepcopy(observation_space), action_space
        self.n_steps, self.actions = n_steps, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.step_index = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), repr(action)
        self.actions.append(action.copy())
        self.step_index += 1
        return self.observation_space.sample(), float(action.sum()), self.step_index == self.n_steps, False, {}


def drift_envs(n_envs=1, **settings):
    return DummyVecEnv([lambda: Monitor(DriftEnv(**settings))] * n_envs)


def space_envs(n_envs=1, **settings):
    return DummyVecEnv([lambda: SpaceEnv(**settings)] * n_envs)


def make(envs, cls=RDPG, policy="MlpMemoryPolicy", **settings):
    kwargs = {"memory_kwargs": {"hidden_size": 4, "n_layers": 1}, "net_arch": [4], **settings.pop("policy_kwargs", {})}
    settings = {"max_episode_steps": 5, "seed": 0, "device": "cpu", "learning_starts": 10, "batch_size": 4, **settings}
    return cls(policy, envs, policy_kwargs=kwargs, **settings)


def weights(model):
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


def assert_same_weights(a, b):
    for name, value in weights(a).items():
        assert torch.equal(value, b.policy.state_dict()[name]), name


def actions_of(model, observations):
    """Actions over a sequence of observations, from the initial state."""
    state, actions = None, []
    for seen in observations:
        action, state = model.predict(seen, state)
        actions.append(action)
    return np.array(actions)


def holds_pickle(content):
    """Whether bytes are a pickle, or an archive with one in it, as deep as archives go."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(holds_pickle(archive.read(name)) for name in archive.namelist())
    try:
        names = {opcode.name for opcode, _, _ in pickletools.genops(content)}
    except (ValueError, IndexError, KeyError):
        return False
    # The text "2.9.2" is made of opcodes too, but not of these.
    return not names.isdisjoint({"PROTO", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"})


# Callbacks


class KeepWeights(callbacks.BaseCallback):
    """Keeps the weights each time it is called."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def _on_step(self):
        self.kept.append((self.num_timesteps, weights(self.model)))
        return True


class SetBias(callbacks.BaseCallback):
    """Sets what the actor does before tanh every ten steps, so that it is known when it is best."""

    def __init__(self, biases):
        super().__init__()
        self.biases = biases

    def _on_step(self):
        if self.n_calls % 10 == 0:
            nn.init.constant_(self.model.actor.head[-1].bias, self.biases[self.n_calls // 10 - 1])
        return True


def test_eval_callback_writes_the_best_model_and_all_evaluations(tmp_path):
    model, bests = make(drift_envs(), learning_rate=0.0, policy_kwargs={"zero_initial_action": True}), KeepWeights()
    evaluation = callbacks.EvalCallback(
        drift_envs(start=1.0), callback_on_new_best=bests, n_eval_episodes=2, eval_freq=10,
        log_path=str(tmp_path), best_model_save_path=str(tmp_path / "best"), verbose=0,
    )  # fmt: skip
    model.learn(40, callback=[SetBias([0.5, 0.0, -0.5, -2.0]), evaluation])
    with np.load(tmp_path / "evaluations.npz", allow_pickle=False) as log:
        steps, returns, lengths = (log[name] for name in ("timesteps", "results", "ep_lengths"))
    assert steps.tolist() == [10, 20, 30, 40]
    assert (lengths == 5).all()
    positions = 1.0 + 0.5 * np.tanh([[0.5], [0.0], [-0.5], [-2.0]]) * np.arange(1, 6)
    np.testing.assert_allclose(returns, np.tile(-(positions**2).sum(axis=1, keepdims=True), 2), rtol=1e-5)
    assert [n_steps for n_steps, _ in bests.kept] == [10, 20, 30]
    loaded = RDPG.load(tmp_path / "best" / "best_model.zip", device="cpu")
    assert all(torch.equal(loaded.policy.state_dict()[name], value) for name, value in bests.kept[-1][1].items())
    assert loaded.num_timesteps == 30
    got, _ = evaluate_policy(loaded, drift_envs(start=1.0), 2, return_episode_rewards=True)
    np.testing.assert_array_equal(got, returns[2])
    got, _ = evaluate_policy(model, drift_envs(start=1.0), 2, return_episode_rewards=True)
    np.testing.assert_array_equal(got, returns[3])


def test_evaluation_during_learning_changes_nothing_of_it():
    models = [make(drift_envs(2), action_noise=GaussianNoise(2, np.array([0.3]), seed=0)) for _ in range(2)]
    evaluation = callbacks.EvalCallback(drift_envs(3), n_eval_episodes=3, eval_freq=7, verbose=0)
    models[0].learn(80)
    models[1].learn(80, callback=evaluation)
    assert evaluation.n_calls == 40
    assert models[0]._n_updates > 20
    assert_same_weights(*models)


@pytest.mark.parametrize(("threshold", "n_steps"), [(-1e9, 20), (1.0, 100)])
def test_learning_stops_at_a_return_that_is_good_enough(threshold, n_steps):
    enough = callbacks.StopTrainingOnRewardThreshold(threshold)
    model = make(drift_envs(2))
    evaluation = callbacks.EvalCallback(drift_envs(), callback_on_new_best=enough, eval_freq=10, verbose=0)
    model.learn(100, callback=evaluation)
    assert model.num_timesteps == n_steps


def test_learning_stops_after_so_many_episodes_of_each_environment():
    model = make(drift_envs(2))
    model.learn(500, callback=callbacks.StopTrainingOnMaxEpisodes(3))
    assert model.num_timesteps == 2 * 3 * 5


def test_learning_stops_without_improvement():
    stalled = callbacks.StopTrainingOnNoModelImprovement(max_no_improvement_evals=2)
    evaluation = callbacks.EvalCallback(drift_envs(start=0.5), callback_after_eval=stalled, eval_freq=10, verbose=0)
    model = make(drift_envs(), learning_rate=0.0)
    model.learn(500, callback=evaluation)
    assert model.num_timesteps == 40  # the first evaluation is a best one, and three more are not


def test_callbacks_come_as_lists_functions_and_at_intervals():
    seen, every = [], KeepWeights()
    model = make(drift_envs(2))

    def function(local_names, global_names):
        seen.append(local_names["self"].num_timesteps)
        return True

    model.learn(24, callback=[callbacks.ConvertCallback(function), callbacks.EveryNTimesteps(6, every)])
    assert seen == list(range(2, 26, 2))
    assert [steps for steps, _ in every.kept] == [6, 12, 18, 24]
    model.learn(4, callback=function)
    assert seen[-2:] == [2, 4]


def test_checkpoints_load_and_go_on_and_hold_no_pickle(tmp_path):
    model = make(drift_envs(2), learning_rate=0.01)
    names = {"save_path": str(tmp_path), "name_prefix": "agent", "save_replay_buffer": True}
    kept = KeepWeights()
    model.learn(60, callback=[callbacks.CheckpointCallback(10, **names), callbacks.EveryNTimesteps(20, kept)])
    for steps, expected in kept.kept:
        loaded = RDPG.load(tmp_path / f"agent_{steps}_steps.zip", env=drift_envs(2), device="cpu")
        assert loaded.num_timesteps == steps
        assert all(torch.equal(loaded.policy.state_dict()[name], value) for name, value in expected.items())
        loaded.load_replay_buffer(tmp_path / f"agent_replay_buffer_{steps}_steps.pkl")
        # The callback comes before the step is stored: the episodes that end with it are not there yet.
        assert loaded.replay_buffer.n_episodes == 2 * (steps // 2 // 5) - 2
        loaded.learn(20, reset_num_timesteps=False)
        assert loaded.num_timesteps == steps + 20
        assert loaded.replay_buffer.n_episodes == 2 * (steps // 2 // 5) + 2
    files = sorted(tmp_path.iterdir())
    assert len(files) == 6
    assert not any(holds_pickle(path.read_bytes()) for path in files)


def test_pickles_are_found_where_there_are_some(tmp_path):
    model = TD3("MlpPolicy", drift_envs(), buffer_size=10, device="cpu", policy_kwargs={"net_arch": [2]})
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "replay.pkl")
    assert holds_pickle((tmp_path / "model.zip").read_bytes())
    assert holds_pickle((tmp_path / "replay.pkl").read_bytes())
    assert not holds_pickle(b"2.9.2")


@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")
def test_progress_bars_count_the_steps_of_all_environments(capsys):
    model, bar = make(drift_envs(2)), callbacks.ProgressBarCallback()
    model.learn(30, callback=bar)
    assert (bar.pbar.n, bar.pbar.total) == (30, 30)
    model.learn(20, reset_num_timesteps=False, progress_bar=True)
    out, err = capsys.readouterr()
    assert "20/20" in out + err


# Logs


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("cls", [RDPG, RecurrentTD3])
def test_tensorboard_has_grouped_curves_in_a_folder_named_after_the_algorithm(cls, tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model = make(drift_envs(2), cls, tensorboard_log=str(tmp_path), learning_rate=0.01, critic_learning_rate=0.02)
    model.learn(60)
    model.learn(40, reset_num_timesteps=False)
    model.learn(20)
    model.learn(10, tb_log_name="own")
    model.logger.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{cls.__name__}_1", f"{cls.__name__}_2", "own_1"]
    log = accumulators.EventAccumulator(str(tmp_path / f"{cls.__name__}_1"))
    log.Reload()
    curves = {name: {event.step: event.value for event in log.Scalars(name)} for name in log.Tags()["scalars"]}
    groups = {
        "rollout": {"ep_rew_mean", "ep_len_mean"},
        "time": {"fps"},
        "train": {"actor_loss", "critic_loss", "mean_value", "actor_learning_rate", "critic_learning_rate"},
    }
    assert {f"{group}/{name}" for group, names in groups.items() for name in names} <= set(curves)
    # Four episodes of five steps between entries, on two environments.
    assert list(curves["rollout/ep_rew_mean"]) == [20, 40, 60, 80, 100]
    assert set(curves["rollout/ep_len_mean"].values()) == {5.0}
    assert all(np.isfinite(list(curve.values())).all() for curve in curves.values())
    assert curves["train/actor_learning_rate"][100] == pytest.approx(0.01)
    assert curves["train/critic_learning_rate"][100] == pytest.approx(0.02)


def test_loggers_write_tables_and_stay_over_several_calls(tmp_path, capsys):
    model = make(drift_envs(), RecurrentTD3)
    logger = configure(str(tmp_path), ["stdout", "csv", "json"])
    model.set_logger(logger)
    model.learn(60, log_interval=2)
    model.learn(20, log_interval=2, reset_num_timesteps=False)
    assert model.logger is logger
    logger.close()
    with (tmp_path / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "progress.json").read_text().splitlines()]
    assert [int(row["time/total_timesteps"]) for row in rows] == list(range(10, 90, 10))
    assert len(lines) == len(rows)
    assert rows[-1]["time/episodes"] == "16"
    for row, line in zip(rows[2:], lines[2:], strict=True):
        for name in ("train/critic_loss", "train/actor_loss", "rollout/ep_rew_mean"):
            assert float(row[name]) == pytest.approx(line[name])
    assert "critic_loss" in capsys.readouterr().out


# Evaluation


def slow_returns(model, env, seed, n_episodes, reset_memory=True):
    """Returns of single episodes of one environment without Stable-Baselines3's loop."""
    returns, state = [], None
    for episode in range(n_episodes):
        seen, _ = env.reset(seed=seed if episode == 0 else None)
        total, ended = 0.0, False
        state = None if reset_memory else state
        while not ended:
            action, state = model.predict(seen, state, deterministic=True)
            seen, reward, ended, _, _ = env.step(action)
            total += reward
        returns.append(total)
    return returns


def test_evaluate_policy_starts_the_memory_anew_in_each_environment_alone():
    lengths = [3, 5, 4]
    model = make(drift_envs())
    for parameter in model.actor.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    envs = DummyVecEnv([lambda n=n: Monitor(DriftEnv(n)) for n in lengths])
    envs.seed(5)
    seen = {0: [], 1: [], 2: []}

    def note(local_names, global_names):
        if local_names["done"]:
            seen[local_names["i"]].append(local_names["info"]["episode"]["r"])

    returns, n_steps = evaluate_policy(model, envs, 9, callback=note, return_episode_rewards=True)
    assert sorted(n_steps) == [3] * 3 + [4] * 3 + [5] * 3
    assert sorted(returns) == sorted(seen[0] + seen[1] + seen[2])
    for i, length in enumerate(lengths):
        expected = slow_returns(model, DriftEnv(length), 5 + i, 3)
        np.testing.assert_allclose(seen[i], expected, atol=1e-5)
        assert np.abs(np.subtract(expected, slow_returns(model, DriftEnv(length), 5 + i, 3, False))).max() > 1e-3


def test_predict_takes_observations_of_environments_and_of_vectors_of_them():
    model = make(drift_envs(3)).learn(30)
    one, _ = DriftEnv(start=0.3).reset()
    action, state = model.predict(one)
    assert action.shape == (1,)
    assert [part.shape for part in state] == [(1, 1, 4), (1, 1, 4), (1, 1, 1)]
    actions, states = model.predict(np.stack([one, one + 0.1, one]))
    assert actions.shape == (3, 1)
    assert [part.shape for part in states] == [(1, 3, 4), (1, 3, 4), (1, 3, 1)]
    np.testing.assert_allclose(actions[0], action, atol=1e-6)
    assert all(np.array_equal(model.predict(one, deterministic=d)[0], action) for d in (True, False))
    with pytest.raises(ValueError, match=r"observation: got shape \(3,\); expected \(2,\) or \(n_envs, "):
        model.predict(np.zeros(3, np.float32))


# Files


def continued(model, envs, folder):
    """A model saved, loaded on other environments in the same state, and given its training state again."""
    model.save(folder / "model.zip")
    write_tree(folder / "state.safetensors", model.training_state())
    noise = OrnsteinUhlenbeckNoise(2, np.array([0.3]), seed=99)
    loaded = RDPG.load(folder / "model.zip", env=envs, device="cpu", action_noise=noise)
    loaded.load_training_state(read_tree(folder / "state.safetensors"))
    return loaded


@pytest.mark.parametrize("normalised", [False, True])
def test_a_model_saved_loaded_and_continued_is_one_not_interrupted(normalised, tmp_path):
    base = drift_envs(2)
    envs = VecNormalize(base) if normalised else base
    straight = make(envs, action_noise=OrnsteinUhlenbeckNoise(2, np.array([0.3]), seed=3), learning_rate=0.01)
    straight.learn(44)  # two steps into the fifth episodes
    others = copy.deepcopy(base)
    if normalised:
        envs.save(str(tmp_path / "statistics.pkl"))
        others = VecNormalize.load(str(tmp_path / "statistics.pkl"), others)
        others.returns = envs.returns.copy()
    resumed = continued(straight, others, tmp_path)
    for model in (straight, resumed):
        model.learn(46, reset_num_timesteps=False)
    assert straight._n_updates > 30
    assert_same_weights(straight, resumed)
    returns = []
    for model in (straight, resumed):
        held_out = drift_envs(2)
        held_out.seed(7)
        if normalised:
            held_out = VecNormalize(held_out, training=False, norm_reward=False)
            sync_envs_normalization(model.get_env(), held_out)
        returns.append(evaluate_policy(model, held_out, 6, return_episode_rewards=True)[0])
    assert returns[0] == returns[1]
    assert len(set(returns[0])) > 1


def test_learning_goes_on_from_a_model_file_and_a_replay_file(tmp_path):
    model = make(drift_envs(2)).learn(40)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "replay.npz")
    loaded = RDPG.load(tmp_path / "model", env=drift_envs(2), device="cpu")
    assert_same_weights(model, loaded)
    loaded.load_replay_buffer(tmp_path / "replay.npz")
    batches = [each.replay_buffer.newest(8) for each in (model, loaded)]
    assert torch.equal(batches[0].observations, batches[1].observations)
    loaded.learn(20, reset_num_timesteps=False)
    assert (loaded.num_timesteps, loaded.replay_buffer.n_episodes) == (60, 12)
    assert loaded._n_updates > model._n_updates


def test_replay_goes_through_streams_as_models_do():
    model, stream = make(drift_envs()).learn(40), io.BytesIO()
    model.save_replay_buffer(stream)
    stream.seek(0)
    other = make(drift_envs())
    other.load_replay_buffer(stream)
    assert other.replay_buffer.n_episodes == 8
    stream = io.BytesIO()
    model.save(stream)
    stream.seek(0)
    assert_same_weights(model, RDPG.load(stream, device="cpu"))


def test_parameters_are_put_into_another_model_from_dicts_and_files(tmp_path):
    first, second = make(drift_envs()).learn(40), make(drift_envs(), seed=1)
    parameters = copy.deepcopy(first.get_parameters())
    assert set(parameters) == {"policy", "actor.optimizer", "critic.optimizer"}
    second.set_parameters(parameters, device="cpu")
    assert_same_weights(first, second)
    assert second.actor.optimizer.state_dict()["state"].keys() == first.actor.optimizer.state_dict()["state"].keys()
    with pytest.raises(ValueError, match="invalid object name"):
        second.set_parameters({**parameters, "I_should_not_be_a_valid_object": {}})
    del parameters["actor.optimizer"]
    with pytest.raises(ValueError, match="do not match"):
        second.set_parameters(parameters)
    third = make(drift_envs(), seed=2)
    third.set_parameters({"policy": parameters["policy"]}, exact_match=False)
    assert_same_weights(first, third)
    first.save(tmp_path / "model.zip")
    fourth = make(drift_envs(), seed=3)
    fourth.set_parameters(str(tmp_path / "model.zip"), device="cpu")
    assert_same_weights(first, fourth)


def test_load_takes_the_arguments_of_stable_baselines3(tmp_path, capsys):
    model = make(drift_envs(), stats_window_size=7).learn(20)
    model.save(tmp_path / "model.zip")
    # What RL Baselines3 Zoo passes.
    loaded = RDPG.load(
        tmp_path / "model.zip", env=drift_envs(3), device="cpu", custom_objects={"learning_rate": 0.125},
        print_system_info=True, force_reset=True, seed=4, buffer_size=30,
    )  # fmt: skip
    assert "Stable-Baselines3" in capsys.readouterr().out
    assert (loaded.n_envs, loaded.seed, loaded.buffer_size) == (3, 4, 30)
    assert loaded.lr_schedule(0.5) == 0.125
    assert loaded._stats_window_size == 7


def test_a_model_without_an_environment_predicts_and_says_that_it_cannot_learn(tmp_path):
    model = make(drift_envs()).learn(20)
    model.save(tmp_path / "model.zip")
    loaded = RDPG.load(tmp_path / "model.zip", device="cpu")
    assert loaded.get_env() is None
    observations = np.random.default_rng(0).uniform(-1, 1, (4, 2)).astype(np.float32)
    np.testing.assert_array_equal(actions_of(loaded, observations), actions_of(model, observations))
    with pytest.raises(AssertionError, match="must set the environment"):
        loaded.learn(10)


def test_policies_alone_are_saved_without_pickle(tmp_path):
    policy = make(drift_envs(), RecurrentTD3).learn(20).policy
    policy.save(str(tmp_path / "policy"))
    (file,) = tmp_path.iterdir()
    loaded = MemoryPolicy.load(str(tmp_path / "policy"), device="cpu")
    observations = np.random.default_rng(0).uniform(-1, 1, (4, 2)).astype(np.float32)
    np.testing.assert_array_equal(actions_of(loaded, observations), actions_of(policy, observations))
    assert not holds_pickle(file.read_bytes())


# Runs


def test_learning_in_two_calls_is_learning_in_one():
    models = [make(drift_envs(2), action_noise=GaussianNoise(2, np.array([0.3]), seed=1)) for _ in range(2)]
    models[0].learn(90)
    models[1].learn(44)
    models[1].learn(46, reset_num_timesteps=False)
    assert [model.num_timesteps for model in models] == [90, 90]
    assert_same_weights(*models)


@pytest.mark.parametrize("schedule", [LinearSchedule(0.02, 0.0, 1.0), lambda remaining: 0.02 * remaining])
def test_learning_rates_may_be_schedules(schedule):
    model = make(drift_envs(), learning_rate=schedule, train_freq=5)
    model.learn(100)
    # The last update comes when nothing remains, the one before it with a twentieth of the run to go.
    assert model.actor.optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)
    model.learn(100, callback=lambda names, _: names["self"].num_timesteps < 96)
    for part in (model.actor, model.critic):
        assert part.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)


def test_seeds_set_afterwards_repeat_too():
    models = [make(drift_envs(2), RecurrentTD3, seed=seed) for seed in (0, 1)]
    models[1].policy.load_state_dict(models[0].policy.state_dict())
    for model in models:
        model.set_random_seed(5)
        model.learn(60)
    assert models[0]._n_updates > 10
    assert_same_weights(*models)


def test_an_environment_is_exchanged_for_one_of_the_same_kind_alone():
    model = make(drift_envs(2)).learn(24)
    with pytest.raises(AssertionError, match=r"number of environments .* \(3 != 2\)"):
        model.set_env(drift_envs(3))
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        model.set_env(space_envs(2, observation_space=spaces.Box(-1, 1, (3,))))
    envs = drift_envs(2, start=0.25)
    model.set_env(envs)
    assert model.get_env() is envs
    model.learn(20, reset_num_timesteps=False)
    stored = model.replay_buffer.episodes["observations/"]
    # The two steps of the unfinished episodes are gone; what follows is of the new environment.
    assert model.replay_buffer.n_episodes == 4 + 4
    assert (stored[4:8, 0, 0] == 0.25).all()
    assert not (stored[:4, 0, 0] == 0.25).any()


# Vectorised environments


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_environments_in_processes_give_the_same_weights():
    models = []
    for kind in (DummyVecEnv, lambda makers: SubprocVecEnv(makers, start_method="fork")):
        envs = VecMonitor(kind([DriftEnv, DriftEnv]))
        models.append(make(envs).learn(60))
        assert list(models[-1].ep_info_buffer)[-1]["l"] == 5
        envs.close()
    assert_same_weights(*models)


def test_environments_of_different_episode_lengths_share_one_model():
    lengths = [2, 5, 3]
    model = make(DummyVecEnv([lambda n=n: DriftEnv(n) for n in lengths]), RecurrentTD3, train_freq=4)
    model.learn(3 * 16)
    buffer = model.replay_buffer
    stored = buffer.episodes["lengths"][: buffer.n_episodes]
    assert sorted(stored) == [2] * 8 + [3] * 5 + [5] * 3
    for i, length in enumerate(stored):
        progress = buffer.episodes["observations/"][i, : length + 1, 1]
        np.testing.assert_allclose(progress, np.arange(length + 1) / length, rtol=1e-6)
    # After 16 steps the environments are 0, 1 and 1 steps into episodes; each memory knows its own alone.
    assert buffer._open_steps.tolist() == [0, 1, 1]
    for env in (1, 2):
        _, expected = model.predict(buffer._open["observations/"][env, 0])
        for got, wanted in zip(model._memory_state[:-1], expected[:-1], strict=True):
            np.testing.assert_allclose(got[:, env], wanted[:, 0], atol=0.05)


def test_the_longest_episode_is_that_of_all_environments():
    def limited(n_steps):
        spec = gym.envs.registration.EnvSpec("Drift-v0", entry_point=lambda: DriftEnv(9), max_episode_steps=n_steps)
        return lambda: gym.make(spec, disable_env_checker=True)

    model = make(DummyVecEnv([limited(3), limited(4)]), max_episode_steps=None)
    model.learn(24)
    assert model.max_episode_steps == 4
    assert model.replay_buffer.n_episodes == 4 + 3
    assert not model.replay_buffer.episodes["terminated"][:7].any()


def test_stacked_frames_are_stored_as_they_were_seen():
    envs = VecFrameStack(drift_envs(2), 3)
    model = make(envs).learn(30)
    stored = model.replay_buffer.episodes["observations/"][: model.replay_buffer.n_episodes]
    assert stored.shape[1:] == (6, 6)
    np.testing.assert_allclose(stored[:, 5, 1::2], np.tile([0.6, 0.8, 1.0], (len(stored), 1)), rtol=1e-6)
    assert model.predict(envs.reset())[0].shape == (2, 1)


# Spaces

OBSERVATION_SPACES = {
    "vector": (spaces.Box(-1, 1, (3,)), "MlpMemoryPolicy"),
    "doubles": (spaces.Box(-1, 1, (2, 2), np.float64), "MlpMemoryPolicy"),
    "discrete": (spaces.Discrete(3), "MlpMemoryPolicy"),
    "multi-discrete": (spaces.MultiDiscrete([2, 3]), "MlpMemoryPolicy"),
    "multi-binary": (spaces.MultiBinary(3), "MlpMemoryPolicy"),
    "image": (spaces.Box(0, 255, (1, 36, 36), np.uint8), "CnnMemoryPolicy"),
    "image, channels last": (spaces.Box(0, 255, (36, 36, 3), np.uint8), "CnnMemoryPolicy"),
    "mixed": (
        spaces.Dict(
            {
                "image": spaces.Box(0, 255, (36, 36, 1), np.uint8),
                "vector": spaces.Box(-1, 1, (2,)),
                "discrete": spaces.Discrete(3),
                "codes": spaces.MultiDiscrete([2, 3]),
            }
        ),
        "MultiInputMemoryPolicy",
    ),
}


@pytest.mark.parametrize("name", OBSERVATION_SPACES)
def test_observations_of_every_space_are_learned_from_and_saved(name, tmp_path):
    space, policy = OBSERVATION_SPACES[name]
    model = make(space_envs(2, observation_space=space), RecurrentTD3, policy, learning_starts=8)
    before = weights(model)
    model.learn(24)
    assert model.replay_buffer.n_episodes == 6
    assert any(not torch.equal(before[key], value) for key, value in weights(model).items())
    observations = [SpaceEnv(space).reset(seed=seed)[0] for seed in range(3)]
    actions = actions_of(model, observations)
    assert actions.shape == (3, 1)
    assert len(np.unique(actions)) == 3
    model.save(tmp_path / "model.zip")
    loaded = RecurrentTD3.load(tmp_path / "model.zip", env=space_envs(1, observation_space=space), device="cpu")
    np.testing.assert_array_equal(actions_of(loaded, observations), actions)


def test_images_are_stored_in_bytes_and_seen_with_channels_first():
    space, policy = OBSERVATION_SPACES["image, channels last"]
    model = make(space_envs(observation_space=space), policy=policy).learn(8)
    assert model.replay_buffer.episodes["observations/"].dtype == np.uint8
    assert model.replay_buffer.episodes["observations/"].shape[2:] == (3, 36, 36)
    image = np.random.default_rng(0).integers(0, 256, (36, 36, 3)).astype(np.uint8)
    expected, _ = model.predict(image.transpose(2, 0, 1))
    np.testing.assert_array_equal(model.predict(image)[0], expected)
    # What the memory gets is the extractor's features of the image on [0, 1], beside the action before it.
    encoder = model.actor.encoder
    seen = torch.from_numpy(image.transpose(2, 0, 1)[None, None].copy())
    with torch.no_grad():
        features = encoder.features_extractor(seen[0].float() / 255)
        inputs = torch.cat([features[None], torch.zeros(1, 1, 1)], dim=-1)
        torch.testing.assert_close(encoder(seen, torch.zeros(1, 1, 1))[0], encoder.memory(inputs)[0])


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(np.array([-3.0, 0.0], np.float32), np.array([1.0, 5.0], np.float32)),
        spaces.Box(-2.0, 1.0, (2, 2), np.float32),
        spaces.Box(-1.0, 3.0, (1,), np.float64),
    ],
    ids=["not symmetric", "matrix", "double"],
)
def test_actions_have_the_units_shape_and_type_of_their_space(space):
    size = int(np.prod(space.shape))
    noise = GaussianNoise(1, np.full(size, 0.5), seed=0)
    model = make(space_envs(action_space=space), action_noise=noise, train_freq=4)
    model.learn(40)
    done = np.stack(model.get_env().envs[0].actions)
    assert done.dtype == space.dtype
    scaled = model.replay_buffer.episodes["actions"][:10, :4].reshape(40, *space.shape)
    assert np.abs(scaled).max() <= 1.0
    np.testing.assert_allclose(done, space.low + (scaled + 1) / 2 * (space.high - space.low), atol=1e-5)
    action, _ = model.predict(np.zeros(2, np.float32))
    assert space.contains(action)
    actions, _ = model.predict(np.zeros((3, 2), np.float32))
    assert actions.shape == (3, *space.shape)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"action_space": spaces.Discrete(2)}, AssertionError, r"only supports .*Box.* but Discrete\(2\) was provided"),
        ({"observation_space": spaces.Tuple((spaces.Discrete(2),))}, NotImplementedError, "Tuple.* is not supported"),
        (
            {"observation_space": spaces.Dict({"a": spaces.Dict({"b": spaces.Box(-1, 1, (1,))})})},
            NotImplementedError,
            "Nested observation spaces are not supported",
        ),
        ({"observation_space": spaces.Dict({"a": spaces.Box(-1, 1, (1,))})}, ValueError, "MultiInputMemoryPolicy"),
    ],
    ids=["discrete actions", "tuple", "nested", "dict without its policy"],
)
def test_spaces_that_do_not_fit_are_refused(settings, error, message):
    with pytest.raises(error, match=message) as caught:
        make(space_envs(**settings))
    assert "\n" not in str(caught.value)


# Policies


class Normalising(BaseFeaturesExtractor):
    """Features that depend on whether the network is being trained."""

    def __init__(self, observation_space, features_dim=3):
        super().__init__(observation_space, features_dim)
        self.layers = nn.Sequential(nn.Linear(2, features_dim), nn.BatchNorm1d(features_dim), nn.Dropout(0.5))

    def forward(self, observations):
        return self.layers(observations)


def test_a_features_extractor_of_one_s_own_serves_actor_and_critic_apart():
    settings = {"features_extractor_class": Normalising, "features_extractor_kwargs": {"features_dim": 7}}
    model = make(drift_envs(), policy_kwargs=settings)
    parts = [model.actor, model.critic, model.actor_target, model.critic_target]
    assert len({id(part.encoder.features_extractor) for part in parts}) == 4
    assert all(part.encoder.memory.input_size == 7 + 1 for part in parts)
    before = weights(model)
    model.learn(40)
    for part in ("actor", "critic"):
        name = f"{part}.encoder.features_extractor.layers.0.weight"
        assert not torch.equal(before[name], model.policy.state_dict()[name])


def test_networks_are_in_training_mode_for_their_updates_alone(monkeypatch):
    """As TD3 does: targets never train, and follow the online networks' running means (issue 996 there)."""
    model = make(drift_envs(), policy_kwargs={"features_extractor_class": Normalising})
    modes = []
    update = model._update
    parts = [model.actor, model.critic, model.actor_target, model.critic_target]

    def noted(*arguments):
        modes.append([part.training for part in parts])
        update(*arguments)

    monkeypatch.setattr(model, "_update", noted)
    model.learn(40)
    assert modes
    assert all(mode == [True, True, False, False] for mode in modes)
    for online, target in ((model.critic, model.critic_target), (model.actor, model.actor_target)):
        means = [part.encoder.features_extractor.layers[1].running_mean for part in (online, target)]
        assert means[0].abs().max() > 0
        torch.testing.assert_close(*means)
    state, kept = model.predict(np.zeros(2, np.float32))[0], weights(model)
    assert not model.actor.training
    assert np.array_equal(model.predict(np.zeros(2, np.float32))[0], state)
    assert all(torch.equal(kept[name], value) for name, value in weights(model).items())


def test_policies_are_given_by_name_or_class():
    class Policy(MemoryPolicy):
        """A policy of one's own."""

    by_name, by_class, own = (make(drift_envs(), policy=policy) for policy in ("MlpMemoryPolicy", MemoryPolicy, Policy))
    for model in (by_class, own):
        assert_same_weights(by_name, model)
    assert isinstance(own.policy, Policy)
    with pytest.raises(ValueError, match="Policy MlpPolicy unknown"):
        make(drift_envs(), policy="MlpPolicy")
    gru = make(drift_envs(), policy_kwargs={"memory": "gru", "net_arch": [8, 6], "n_critics": 3, "activation": "tanh"})
    assert [layer.out_features for layer in gru.actor.head if isinstance(layer, nn.Linear)] == [8, 6, 1]
    assert len(gru.critic.heads) == 3


def test_replay_buffers_that_keep_no_episodes_are_refused():
    with pytest.raises((TypeError, ValueError), match=r"replay_buffer_class: got HerReplayBuffer; expected .*Episode"):
        make(drift_envs(), replay_buffer_class=HerReplayBuffer)


# Environments in processes of their own, and environments that come later


def make_limited_env():
    env = gym.wrappers.TimeLimit(DriftEnv(), 4)
    return gym.wrappers.TransformReward(env, lambda reward: 2.0 * reward)


def test_time_limits_are_found_in_processes_of_their_own():
    envs = SubprocVecEnv([make_limited_env] * 2, start_method="fork")
    try:
        model = RDPG("MlpMemoryPolicy", envs, device="cpu", learning_starts=0, batch_size=2, seed=0)
        assert model.max_episode_steps == 4
        model.learn(16)
        assert model.replay_buffer.n_episodes == 4
    finally:
        envs.close()


@pytest.mark.parametrize("n_envs", [1, 4])
def test_a_model_of_two_environments_goes_on_with_any_number(n_envs, tmp_path):
    noise = OrnsteinUhlenbeckNoise(2, np.array([0.2]), seed=0)
    make(drift_envs(2), action_noise=noise).learn(20).save(tmp_path / "model")
    model = RDPG.load(tmp_path / "model", device="cpu")
    model.set_env(drift_envs(n_envs))
    model.learn(20 * n_envs)
    assert model.action_noise.n_envs == model.replay_buffer.n_envs == n_envs
    assert model.replay_buffer.n_episodes > 0


# What is out of range


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy_delay": 0}, "policy_delay: got 0; expected a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size: got 0; expected a whole number of at least 1"),
        ({"updates_per_batch": 0}, "updates_per_batch: got 0"),
        ({"n_target_steps": 0.5}, "n_target_steps: got 0.5"),
        ({"gamma": 5}, "gamma: got 5; expected a number between 0 and 1"),
        ({"gamma": "x"}, "gamma: got 'x'; expected a number between 0 and 1"),
        ({"tau": 3.0}, "tau: got 3.0"),
        ({"target_policy_noise": -1.0}, "target_policy_noise: got -1.0; expected a number of at least 0"),
        ({"max_grad_norm": -1.0}, "max_grad_norm: got -1.0"),
        ({"buffer_size": 3}, "buffer_size: got 3; expected room for an episode of"),
        ({"policy_kwargs": {"n_critics": 0}}, "n_critics: got 0; expected at least 1"),
    ],
)
def test_numbers_out_of_range_are_named(settings, message):
    with pytest.raises(SettingError, match=message):
        make(drift_envs(), **settings)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (spaces.Box(-1, 1, (2,), np.int32), "action_space: got .*int32.*; expected a Box of floats"),
        (spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 0.0]), dtype=np.float64), "a component with equal bounds"),
    ],
)
def test_actions_that_cannot_be_learned_are_refused(actions, message):
    class OtherActions(DriftEnv):
        action_space = actions

    with pytest.raises(SettingError, match=message):
        make(DummyVecEnv([OtherActions]))


def test_states_that_predict_did_not_return_are_refused():
    model = make(drift_envs())
    seen = np.zeros((1, *model.observation_space.shape), np.float32)
    _, state = model.predict(seen)
    other = tuple(part.astype(np.float64) for part in state)
    np.testing.assert_array_equal(model.predict(seen, other)[0], model.predict(seen, state)[0])
    with pytest.raises(ValueError, match=r"state: got 2 arrays of shapes .*; expected the 3 that predict returned"):
        model.predict(seen, state[:-1])
    with pytest.raises(ValueError, match="state: got 3 arrays of shapes"):
        model.predict(seen, tuple(part[0] for part in state))
    with pytest.raises(ValueError, match="episode_start: got 3 environments; expected 1"):
        model.predict(seen, None, np.ones(3, bool))


def test_the_policy_for_dicts_is_for_dicts():
    with pytest.raises(SettingError, match=r"got MultiInputMemoryPolicy for Box.*; expected MlpMemoryPolicy"):
        make(drift_envs(), policy="MultiInputMemoryPolicy")


# What is easily mixed up


def test_an_observation_with_its_info_is_refused():
    model = make(drift_envs())
    with pytest.raises(ValueError, match=r"got a tuple, maybe \(observation, info\) of reset"):
        model.predict((np.zeros(2, np.float32), {}))


def test_other_networks_than_the_file_s_are_refused_at_loading(tmp_path):
    model = make(drift_envs())
    model.save(tmp_path / "model")
    same = RDPG.load(tmp_path / "model", device="cpu", policy_kwargs=model.policy_kwargs)
    assert_same_weights(model, same)
    with pytest.raises(SettingError, match=r"policy_kwargs: got .*'elu'.*; expected those of the file"):
        RDPG.load(tmp_path / "model", device="cpu", policy_kwargs={**model.policy_kwargs, "activation": "elu"})


def test_a_model_without_environment_has_no_buffer_to_fill(tmp_path):
    model = make(drift_envs()).learn(40)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "replay")
    other = RDPG.load(tmp_path / "model", device="cpu")
    with pytest.raises(ValueError, match="env: got None; expected set_env before load_replay_buffer"):
        other.load_replay_buffer(tmp_path / "replay")
    other.set_env(drift_envs())
    other.load_replay_buffer(tmp_path / "replay")
    assert other.replay_buffer.n_episodes == model.replay_buffer.n_episodes > 0
