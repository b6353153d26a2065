"""Model files: what is read is what was written, and nothing that could run code is read."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load as load_tensors
from stable_baselines3 import TD3
from stable_baselines3.common.torch_layers import FlattenExtractor

from adaptive_scan.agents import RDPG, MemoryPolicy, ModelFileError, RecurrentTD3
from adaptive_scan.agents.storage import space_from_json, space_to_json

SETTINGS = {
    "learning_rate": 2e-3,
    "critic_learning_rate": 1e-3,
    "buffer_size": 100,
    "max_episode_steps": 5,
    "learning_starts": 5,
    "batch_size": 3,
    "tau": 0.1,
    "gamma": 0.9,
    "train_freq": 5,
    "gradient_steps": 2,
    "updates_per_batch": 2,
    "n_target_steps": 3,
    "policy_delay": 2,
    "actor_learning_starts": 1,
    "target_policy_noise": 0.1,
    "target_noise_clip": 0.3,
    "use_target_actor": False,
    "max_grad_norm": 0.5,
    "policy_kwargs": {
        "memory": "gru",
        "memory_kwargs": {"hidden_size": 4},
        "net_arch": [3],
        "zero_initial_action": True,
    },
    "verbose": 0,
    "seed": 4,
}


@pytest.fixture
def model(cue_envs):
    model = RecurrentTD3("MlpMemoryPolicy", cue_envs(2), device="cpu", **SETTINGS)
    return model.learn(60)


@pytest.fixture
def path(model, tmp_path):
    model.save(tmp_path / "policy")
    return tmp_path / "policy.zip"


def assert_same_policy(a, b):
    for name, value in a.policy.state_dict().items():
        assert torch.equal(value, b.policy.state_dict()[name]), name


def rewrite(path, target, **changes):
    """Copy of a model file with entries replaced, added, or, where None, left out."""
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()} | changes
    with zipfile.ZipFile(target, "w") as new:
        for name, content in entries.items():
            if content is not None:
                new.writestr(name, content)
    return target


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_a_loaded_model_predicts_the_same_and_keeps_its_settings(model, path, rng):
    loaded = RecurrentTD3.load(path, device="cpu")
    assert_same_policy(model, loaded)
    state = other = None
    for _ in range(3):
        seen = rng.uniform(-1, 1, (4, 2)).astype(np.float32)
        action, state = model.predict(seen, state)
        again, other = loaded.predict(seen, other)
        assert np.array_equal(action, again)
    assert {name: getattr(loaded, name) for name in SETTINGS if name != "train_freq"} == {
        name: value for name, value in SETTINGS.items() if name != "train_freq"
    }
    assert (loaded.train_freq.frequency, loaded.train_freq.unit.value) == (5, "step")
    assert (loaded.num_timesteps, loaded._n_updates) == (60, model._n_updates)


def test_a_loaded_model_goes_on_as_the_saved_one(model, path, cue_envs):
    loaded = RecurrentTD3.load(path, env=cue_envs(3), device="cpu")
    assert loaded.n_envs == 3
    batch = model.replay_buffer.sample(4)
    loaded.learn(0)
    for each in (model, loaded):
        each.torch_rng.manual_seed(0)
        for _ in range(4):
            each._update(batch, batch.rewards)
    assert_same_policy(model, loaded)
    loaded.learn(30)
    assert loaded.replay_buffer.n_episodes == 6


def test_an_environment_can_be_given_later(path, cue_envs):
    loaded = RecurrentTD3.load(path, device="cpu")
    assert loaded.replay_buffer.n_capacity == 1
    loaded.set_env(cue_envs(1))
    assert loaded.replay_buffer.n_capacity == 20
    loaded.learn(20)
    assert loaded.replay_buffer.n_episodes == 4


def test_settings_given_at_loading_replace_the_stored_ones(path):
    loaded = RecurrentTD3.load(path, device="cpu", train_freq=7, gamma=0.5)
    assert (loaded.train_freq.frequency, loaded.gamma, loaded.batch_size) == (7, 0.5, 3)


def test_files_of_equal_models_are_equal_and_streams_work(model, path):
    stream = io.BytesIO()
    model.save(stream)
    assert stream.getvalue() == path.read_bytes()
    stream.seek(0)
    assert_same_policy(model, RecurrentTD3.load(stream, device="cpu"))


def test_every_entry_is_json_safetensors_or_text(path):
    kinds = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith(".safetensors"):
                assert load_tensors(content)
                kinds[name] = "tensors"
            elif name == "data":
                assert json.loads(content)["policy"] == "MlpMemoryPolicy"
                kinds[name] = "json"
            else:
                assert content.decode("ascii").replace(".", "").isalnum()
                kinds[name] = "text"
            with pytest.raises((pickle.UnpicklingError, ValueError, IndexError, KeyError, EOFError, AttributeError)):
                pickle.loads(content)  # noqa: S301
    assert sorted(kinds.values()) == ["json", "tensors", "tensors", "tensors", "text", "text"]


def test_a_pickled_entry_is_refused_by_name_and_does_not_run(path, tmp_path):
    marker = tmp_path / "ran"
    payload = pickle.dumps(Payload(marker))
    added = rewrite(path, tmp_path / "added.zip", **{"policy.pkl": payload})
    with pytest.raises(
        ModelFileError, match=r"added\.zip: found the entry 'policy\.pkl'; expected only _format_version"
    ):
        RecurrentTD3.load(added)
    for name in ("policy.safetensors", "data", "actor.optimizer.safetensors"):
        swapped = rewrite(path, tmp_path / "swapped.zip", **{name: payload})
        with pytest.raises(ModelFileError, match=r"swapped\.zip: found un"):
            RecurrentTD3.load(swapped)
    assert not marker.exists()
    pickle.loads(payload).close()  # noqa: S301
    assert marker.exists()


def test_a_model_of_stable_baselines3_is_refused(tmp_path):
    TD3("MlpPolicy", "Pendulum-v1", device="cpu", policy_kwargs={"net_arch": [4]}).save(tmp_path / "td3.zip")
    with pytest.raises(ModelFileError, match=r"td3\.zip: found the entry .*\.pth'"):
        RecurrentTD3.load(tmp_path / "td3.zip")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_files_are_refused(path, tmp_path, share):
    content = path.read_bytes()
    short = tmp_path / "short.zip"
    short.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError, match=r"short\.zip: found no whole zip archive"):
        RecurrentTD3.load(short)


def test_a_flipped_bit_is_refused(path, tmp_path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.zip").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"flipped\.zip: found no whole zip archive"):
        RecurrentTD3.load(tmp_path / "flipped.zip")


def test_files_that_hold_no_such_model_are_refused(path, tmp_path):
    with pytest.raises(ModelFileError, match=r"nowhere\.zip: found No such file or directory"):
        RecurrentTD3.load(tmp_path / "nowhere")
    with pytest.raises(ModelFileError, match="found no entry 'data'"):
        RecurrentTD3.load(rewrite(path, tmp_path / "x.zip", data=None))
    with pytest.raises(ModelFileError, match="found format version '2'; expected a version up to 1"):
        RecurrentTD3.load(rewrite(path, tmp_path / "x.zip", _format_version=b"2"))
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    larger = {**data, "hyperparameters": {**data["hyperparameters"], "policy_kwargs": {}}}
    for changed, message in (
        ([], "unreadable data"),
        ({**data, "train_freq": 3}, "unreadable data"),
        ({**data, "hyperparameters": {"window": 1}}, "the setting 'window'"),
        ({**data, "policy": "TransformerPolicy"}, "the policy 'TransformerPolicy'; expected one of MlpMemoryPolicy"),
        (larger, "unfitting parameters"),
    ):
        file = rewrite(path, tmp_path / "x.zip", data=json.dumps(changed))
        with pytest.raises(ModelFileError, match=message) as caught:
            RecurrentTD3.load(file, device="cpu")
        assert "\n" not in str(caught.value)


def test_what_is_no_plain_data_is_passed_again(cue_envs, tmp_path):
    class Policy(MemoryPolicy):
        """A policy of one's own."""

    settings = {"policy_kwargs": {"features_extractor_class": FlattenExtractor, "memory_kwargs": {"hidden_size": 4}}}
    schedule = {"learning_rate": lambda remaining: remaining}
    model = RDPG(Policy, cue_envs(), device="cpu", max_episode_steps=5, **schedule, **settings)
    model.save(tmp_path / "model.zip")
    with pytest.raises(ModelFileError, match=r"the policy 'Policy'; expected one of .*, or its class passed"):
        RDPG.load(tmp_path / "model")
    with pytest.raises(ValueError, match="policy_kwargs: could not be written with the model"):
        RDPG.load(tmp_path / "model", policy=Policy)
    loaded = RDPG.load(tmp_path / "model", policy=Policy, device="cpu", **settings)
    assert isinstance(loaded.policy, Policy)
    assert_same_policy(model, loaded)
    with pytest.raises(ValueError, match="learning_rate: could not be written with the model"):
        RDPG.load(tmp_path / "model", cue_envs(), policy=Policy, **settings)
    goes_on = RDPG.load(tmp_path / "model", cue_envs(), policy=Policy, device="cpu", **schedule, **settings)
    assert goes_on.lr_schedule(0.25) == 0.25


def test_an_environment_with_other_spaces_is_refused(path):
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        RecurrentTD3.load(path, env=gym.make("Pendulum-v1"))


def test_replay_buffers_are_written_without_pickle(model, cue_envs, tmp_path):
    model.save_replay_buffer(tmp_path / "replay.pkl")
    other = RecurrentTD3("MlpMemoryPolicy", cue_envs(2), device="cpu", **{**SETTINGS, "buffer_size": 200})
    other.load_replay_buffer(tmp_path / "replay.pkl")
    assert load_tensors((tmp_path / "replay.pkl").read_bytes())
    assert other.replay_buffer.n_episodes == model.replay_buffer.n_episodes == 12
    for name, values in model.replay_buffer.episodes.items():
        assert np.array_equal(values[:12], other.replay_buffer.episodes[name][:12]), name


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, np.inf, (2,)),
        spaces.Box(np.array([0.0, -2.0], np.float32), np.array([1.0, np.inf], np.float32)),
        spaces.Box(0, 255, (3, 4, 4), np.uint8),
        spaces.Dict({"b": spaces.Box(-1, 1, (1,)), "a": spaces.Box(0, 1, (2, 2), np.float64)}),
    ],
)
def test_spaces_survive_json(space):
    assert space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False))) == space


def test_other_spaces_are_refused():
    with pytest.raises(TypeError, match=r"space: got Discrete\(3\); expected a Box or a Dict of them"):
        space_to_json(spaces.Discrete(3))
