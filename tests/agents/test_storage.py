"""Model files: what is read is what was written, and nothing that could run code is read."""

from __future__ import annotations

import base64
import copy
import io
import json
import pickle
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load as load_tensors
from stable_baselines3 import TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor

from adaptive_scan.agents import (
    RDPG,
    EpisodeReplayBuffer,
    GaussianNoise,
    MemoryPolicy,
    ModelFileError,
    OrnsteinUhlenbeckNoise,
    RecurrentTD3,
    storage,
)
from adaptive_scan.agents.plain_data import (
    arguments_from_json,
    arguments_to_json,
    noise_from_json,
    noise_to_json,
    space_from_json,
    space_to_json,
)
from adaptive_scan.agents.policies import MultiInputMemoryPolicy
from adaptive_scan.agents.replay import FieldSpec
from adaptive_scan.errors import SettingError
from adaptive_scan.trees import TreeFileError, read_tree, tree_from_bytes, tree_to_bytes, write_tree

VERSION_1 = Path(__file__).parent / "data" / "model_version_1.zip"

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
    "replay_buffer_kwargs": {"n_slice_steps": 4, "n_burn_in": 2},
    "compile_networks": False,
    "mixed_precision": False,
    "verbose": 0,
    "seed": 4,
}


@pytest.fixture
def model(cue_envs):
    model = RecurrentTD3("MlpMemoryPolicy", cue_envs(2), device="cpu", **SETTINGS)
    return model.learn(60)


_FILES = {}


@pytest.fixture
def files(cue_envs, tmp_path):
    """Files of the fixture ``model`` as bytes, ours and Stable-Baselines3's own; made once, for many tests."""
    if not _FILES:
        model = RecurrentTD3("MlpMemoryPolicy", cue_envs(2), device="cpu", **SETTINGS).learn(60)
        model.save(tmp_path / "ours" / "policy")
        OffPolicyAlgorithm.save(model, tmp_path / "ours" / "sb3")
        _FILES.update({file.name: file.read_bytes() for file in (tmp_path / "ours").iterdir()})
    return _FILES


@pytest.fixture
def path(files, tmp_path):
    (tmp_path / "policy.zip").write_bytes(files["policy.zip"])
    return tmp_path / "policy.zip"


@pytest.fixture
def sb3_path(files, tmp_path):
    (tmp_path / "sb3.zip").write_bytes(files["sb3.zip"])
    return tmp_path / "sb3.zip"


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
        return Path.touch, (self.marker,)


def serialized(value):
    """A value as Stable-Baselines3 writes it into the JSON entry ``data``."""
    return {":type:": "what it was", ":serialized:": base64.b64encode(pickle.dumps(value)).decode()}


def torch_saved(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def with_data(path, target, **changes):
    """Copy of a model file with values of the entry ``data`` replaced or added."""
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    return rewrite(path, target, data=json.dumps({**data, **changes}))


def assert_goes_on_alike(a, b, batch):
    for each in (a, b):
        each.torch_rng.manual_seed(0)
        for _ in range(4):
            each._update(batch, batch.rewards)
    assert_same_policy(a, b)


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
    assert (loaded.num_timesteps, loaded._n_updates, loaded._episode_num) == (60, model._n_updates, 12)
    assert loaded.replay_buffer_class is EpisodeReplayBuffer


def test_settings_of_the_passes_are_kept(model, tmp_path, monkeypatch):
    monkeypatch.setattr("adaptive_scan.agents.passes.Passes.compiled", lambda passes, device: passes)
    model.compile_networks = model.mixed_precision = True
    model.save(tmp_path / "policy.zip")
    loaded = RecurrentTD3.load(tmp_path / "policy.zip", device="cpu")
    assert loaded.compile_networks is True
    assert loaded.mixed_precision is True


def test_a_loaded_model_goes_on_as_the_saved_one(model, path, cue_envs):
    loaded = RecurrentTD3.load(path, env=cue_envs(3), device="cpu")
    assert loaded.n_envs == 3
    batch = model.replay_buffer.sample(4)
    loaded.learn(0)
    assert_goes_on_alike(model, loaded, batch)
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


def test_pickles_in_our_own_files_are_refused_by_name_and_do_not_run(path, tmp_path):
    marker = tmp_path / "ran"
    payload = pickle.dumps(Payload(marker))
    for entry in ("policy.pkl", "policy.pth", "pytorch_variables.pth"):
        added = rewrite(path, tmp_path / "added.zip", **{entry: payload})
        message = rf"added\.zip: got the entry '{entry}'; expected only _format_version"
        for trust in (False, True):
            with pytest.raises(ModelFileError, match=message):
                RecurrentTD3.load(added, trust_pickle=trust)
        with pytest.raises(ModelFileError, match=message):
            RecurrentTD3.load(path, device="cpu").set_parameters(added)
    for entry in ("policy.safetensors", "data", "actor.optimizer.safetensors"):
        for content in (payload, torch_saved(Payload(marker))):
            swapped = rewrite(path, tmp_path / "swapped.zip", **{entry: content})
            with pytest.raises(ModelFileError, match=r"swapped\.zip: got un"):
                RecurrentTD3.load(swapped, trust_pickle=True)
    # Stable-Baselines3's mark for a pickled value means nothing here.
    for changes in ({"extra": serialized(Payload(marker))}, {"policy": serialized(Payload(marker))}):
        with pytest.raises(ModelFileError):
            RecurrentTD3.load(with_data(path, tmp_path / "x.zip", **changes), trust_pickle=True)
    assert not marker.exists()
    pickle.loads(payload)  # noqa: S301
    assert marker.exists()


def test_a_file_of_stable_baselines3_s_own_save_is_read_where_it_is_trusted(model, sb3_path, cue_envs, rng):
    message = (
        r"sb3\.zip: got the pickled entry 'data: policy_class'; "
        r"expected none, or trust_pickle=True for a file you trust$"
    )
    with pytest.raises(ModelFileError, match=message):
        RecurrentTD3.load(sb3_path)
    loaded = RecurrentTD3.load(sb3_path, cue_envs(2), device="cpu", trust_pickle=True)
    assert_same_policy(model, loaded)
    state = other = None
    for _ in range(3):
        seen = rng.uniform(-1, 1, (4, 2)).astype(np.float32)
        action, state = model.predict(seen, state)
        again, other = loaded.predict(seen, other)
        assert np.array_equal(action, again)
    assert {name: getattr(loaded, name) for name in SETTINGS} == {name: getattr(model, name) for name in SETTINGS}
    assert (loaded.num_timesteps, loaded._n_updates, loaded._episode_num) == (60, model._n_updates, 12)
    batch = model.replay_buffer.sample(4)
    loaded.learn(0)
    assert_goes_on_alike(model, loaded, batch)
    loaded.learn(30)
    assert loaded.replay_buffer.n_episodes == 6


def test_what_only_a_pickle_can_hold_comes_with_a_trusted_file(cue_envs, tmp_path):
    noise = OrnsteinUhlenbeckNoise(2, np.array([0.3]), theta=0.5, seed=1)
    policy_kwargs = {"features_extractor_class": FlattenExtractor, "memory_kwargs": {"hidden_size": 4}}
    settings = {"max_episode_steps": 5, "learning_starts": 5, "batch_size": 2, "policy_kwargs": policy_kwargs}
    model = RDPG(
        "MlpMemoryPolicy", cue_envs(2), lambda progress: 0.01 * progress, action_noise=noise, device="cpu", **settings
    )
    model.learn(20)
    OffPolicyAlgorithm.save(model, tmp_path / "sb3.zip")
    loaded = RDPG.load(tmp_path / "sb3", cue_envs(2), device="cpu", trust_pickle=True)
    assert loaded.lr_schedule(0.25) == 0.0025
    assert loaded.policy_kwargs == {"n_critics": 1, **policy_kwargs}
    assert np.array_equal(loaded.action_noise(), noise())
    more = RDPG.load(tmp_path / "sb3", cue_envs(3), device="cpu", trust_pickle=True)
    assert more.learn(30).action_noise.n_envs == 3
    given = RDPG.load(
        tmp_path / "sb3", device="cpu", trust_pickle=True, action_noise=None, learning_rate=0.5, policy=MemoryPolicy
    )
    assert (given.action_noise, given.learning_rate) == (None, 0.5)


@pytest.mark.parametrize("save", [torch_saved, lambda value: pickle.dumps(value, protocol=2)])
@pytest.mark.parametrize("entry", ["policy.pth", "actor.optimizer.pth", "pytorch_variables.pth"])
def test_weights_made_to_run_code_are_refused_by_name_and_do_not_run(sb3_path, tmp_path, entry, save):
    marker = tmp_path / "ran"
    # No value of ``data`` is pickled, so that what is refused is this entry.
    evil = rewrite(sb3_path, tmp_path / "evil.zip", **{entry: save({"a": Payload(marker)}), "data": "{}"})
    model = RecurrentTD3.load(sb3_path, device="cpu", trust_pickle=True)
    for read in (RecurrentTD3.load, model.set_parameters):
        with pytest.raises(ModelFileError, match=rf"evil\.zip: got the pickled entry '{entry}'; expected none, or"):
            read(evil)
    assert not marker.exists()
    if save is torch_saved:
        with pytest.raises(ModelFileError):
            RecurrentTD3.load(evil, trust_pickle=True)
        assert marker.exists()


def test_settings_made_to_run_code_are_refused_by_name_and_do_not_run(sb3_path, tmp_path):
    marker = tmp_path / "ran"
    evil = rewrite(sb3_path, tmp_path / "evil.zip", data=json.dumps({"lr_schedule": serialized(Payload(marker))}))
    with pytest.raises(ModelFileError) as caught:
        RecurrentTD3.load(evil)
    assert str(caught.value) == (
        f"{evil}: got the pickled entry 'data: lr_schedule'; expected none, or trust_pickle=True for a file you trust"
    )
    # A trusted file is not run either where nobody asks for the value, or where it is given.
    for key in ("ep_info_buffer", "seed"):
        with_data(sb3_path, evil, **{key: serialized(Payload(marker))})
        RecurrentTD3.load(evil, device="cpu", trust_pickle=True, seed=0)
    assert not marker.exists()
    RecurrentTD3.load(evil, device="cpu", trust_pickle=True)
    assert marker.exists()


def test_unknown_entries_are_refused_even_in_a_trusted_file(sb3_path, tmp_path):
    marker = tmp_path / "ran"
    for entry in ("extra.pkl", "critic_target.pth"):
        evil = rewrite(sb3_path, tmp_path / "evil.zip", **{entry: torch_saved(Payload(marker))})
        for trust in (False, True):
            with pytest.raises(ModelFileError, match=rf"evil\.zip: got the entry '{entry}'; expected only "):
                RecurrentTD3.load(evil, trust_pickle=trust)
    with pytest.raises(ModelFileError, match=r"got variables in 'pytorch_variables\.pth'; expected none"):
        RecurrentTD3.load(
            rewrite(sb3_path, evil, **{"pytorch_variables.pth": torch_saved({"a": torch.ones(1)})}), trust_pickle=True
        )
    assert not marker.exists()


def test_broken_files_of_stable_baselines3_are_refused(sb3_path, tmp_path):
    weights = zipfile.ZipFile(sb3_path).read("policy.pth")
    broken_pickle = {":serialized:": base64.b64encode(b"cos\nnothing\n.").decode()}
    nowhere = {":serialized:": base64.b64encode(b"cnowhere_at_all\nnothing\n.").decode()}
    cases = [
        ({"policy.pth": None}, "no entry 'policy.pth'"),
        ({"policy.pth": weights[:-60]}, "the unreadable entry 'policy.pth'"),
        ({"policy.pth": b""}, "the unreadable entry 'policy.pth'"),
        ({"policy.pth": b"noise"}, "the unreadable entry 'policy.pth'"),
        ({"policy.pth": torch_saved({"weight": torch.ones(1)})}, "unfitting parameters"),
        ({"data": b"{"}, "unreadable data"),
        ({"data": b"[" * 100_000}, "unreadable data"),
        ({"data": b"[1]"}, "a list as data"),
        ({"data": b"{}"}, "unreadable data"),
        ({"observation_space": 3}, "unreadable data"),
        ({"train_freq": 3}, "unreadable data"),
        ({"policy_class": "NoPolicy"}, "the policy 'NoPolicy'; expected one of MlpMemoryPolicy"),
        ({"seed": broken_pickle}, "the unreadable entry 'data: seed'"),
        ({"seed": nowhere}, "the unreadable entry 'data: seed'"),
        ({"seed": {":serialized:": 3}}, "the unreadable entry 'data: seed'"),
    ]
    for changes, message in cases:
        is_entry = next(iter(changes)) in ("data", "policy.pth")
        file = (rewrite if is_entry else with_data)(sb3_path, tmp_path / "x.zip", **changes)
        with pytest.raises(ModelFileError) as caught:
            RecurrentTD3.load(file, device="cpu", trust_pickle=True)
        assert f"x.zip: got {message}" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_model_of_another_algorithm_is_refused(tmp_path):
    TD3("MlpPolicy", "Pendulum-v1", device="cpu", policy_kwargs={"net_arch": [4]}).save(tmp_path / "td3.zip")
    with pytest.raises(ModelFileError, match=r"td3\.zip: got the pickled entry 'data: policy_class'"):
        RecurrentTD3.load(tmp_path / "td3.zip")
    with pytest.raises(ModelFileError, match=r"td3\.zip: got the policy 'TD3Policy'; expected one of MlpMemoryPolicy"):
        RecurrentTD3.load(tmp_path / "td3.zip", trust_pickle=True)


# Versions


def test_a_file_of_version_1_is_read(cue_envs):
    """The file was written by the last commit whose format had version 1."""
    model = RecurrentTD3.load(VERSION_1, device="cpu")
    state = None
    expected = ([0.31273722648620605], [0.32411623001098633], [0.34464800357818604])
    for seen, action in zip(([0.5, -0.25], [-1.0, 1.0], [0.0, 0.75]), expected, strict=True):
        got, state = model.predict(np.array(seen, np.float32), state)
        np.testing.assert_allclose(got, action, atol=1e-6)
    assert (model.learning_rate, model.gamma, model.train_freq.frequency, model.batch_size) == (0.02, 0.9, 4, 3)
    assert (model.num_timesteps, model._n_updates, model._episode_num) == (64, 7, 0)
    assert (model.replay_buffer_kwargs, model.compile_networks, model.mixed_precision) == ({}, False, False)
    assert {int(part["step"]) for part in model.critic.optimizer.state_dict()["state"].values()} == {7}
    goes_on = RecurrentTD3.load(VERSION_1, cue_envs(2), device="cpu")
    assert goes_on.action_noise is None
    goes_on.learn(20)
    # Updates after every 4 steps of each environment, from the first whole episode on.
    assert (goes_on.num_timesteps, goes_on._n_updates) == (24, 7 + 2)


def test_a_file_is_brought_up_a_version_at_a_time(tmp_path, monkeypatch):
    def from_version_2(data):
        assert data["hyperparameters"]["mixed_precision"] is False  # came with version 2
        return {**data, "num_timesteps": data["num_timesteps"] + 1000}

    model = RecurrentTD3.load(VERSION_1, device="cpu")
    model.save(tmp_path / "version_2.zip")
    monkeypatch.setattr(storage, "FORMAT_VERSION", 3)
    monkeypatch.setitem(storage._MIGRATIONS, 2, from_version_2)
    for path in (VERSION_1, tmp_path / "version_2.zip"):
        assert RecurrentTD3.load(path, device="cpu").num_timesteps == 1064
    model.save(tmp_path / "version_3.zip")
    assert RecurrentTD3.load(tmp_path / "version_3.zip", device="cpu").num_timesteps == 64


@pytest.mark.parametrize("version", ["3", "10", "0", "", "2.0", "-1", "\u00b2"])
def test_other_versions_are_refused_with_the_ones_that_can_be_read(path, tmp_path, version):
    # A later version may have entries of its own; what is said is that it is later.
    later = rewrite(path, tmp_path / "later.zip", _format_version=version, memory="new")
    with pytest.raises(ModelFileError) as caught:
        RecurrentTD3.load(later)
    assert str(caught.value) == (
        f"{later}: got format version {version!r}; expected a version from 1 to 2 (to read a later one, "
        "update adaptive_scan)"
    )


# Broken files


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_files_are_refused(path, tmp_path, share):
    content = path.read_bytes()
    short = tmp_path / "short.zip"
    short.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError, match=r"short\.zip: got no whole zip archive"):
        RecurrentTD3.load(short)


def test_a_flipped_bit_is_refused(path, tmp_path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.zip").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"flipped\.zip: got no whole zip archive"):
        RecurrentTD3.load(tmp_path / "flipped.zip")


def test_files_that_hold_no_such_model_are_refused(path, tmp_path):
    with pytest.raises(ModelFileError, match=r"nowhere\.zip: got No such file or directory"):
        RecurrentTD3.load(tmp_path / "nowhere")
    with pytest.raises(ModelFileError, match="got no entry 'data'"):
        RecurrentTD3.load(rewrite(path, tmp_path / "x.zip", data=None))
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    larger = {**data, "hyperparameters": {**data["hyperparameters"], "policy_kwargs": {}}}
    for changed, message in (
        ([], "unreadable data"),
        ({**data, "action_noise": {"kind": "Payload", "n_envs": 1}}, "unreadable data"),
        ({**data, "hyperparameters": {"policy_kwargs": {"a": {"__class__": "Popen"}}}}, "unreadable data"),
        ({**data, "hyperparameters": {"gamma": 0.9}}, "no setting 'actor_learning_starts'"),
        ({**data, "train_freq": 3}, "unreadable data"),
        ({**data, "hyperparameters": {"window": 1}}, "the setting 'window'"),
        ({**data, "policy": "TransformerPolicy"}, "the policy 'TransformerPolicy'; expected one of MlpMemoryPolicy"),
        (larger, "unfitting parameters"),
    ):
        file = rewrite(path, tmp_path / "x.zip", data=json.dumps(changed))
        with pytest.raises(ModelFileError, match=message) as caught:
            RecurrentTD3.load(file, device="cpu")
        assert "\n" not in str(caught.value)


class Scaled(BaseFeaturesExtractor):
    """A features extractor of one's own."""

    def __init__(self, observation_space, scale=2.0):
        super().__init__(observation_space, observation_space.shape[0])
        self.scale = scale

    def forward(self, observations):
        return self.scale * observations


def test_what_is_no_plain_data_is_passed_again(cue_envs, tmp_path):
    class Policy(MemoryPolicy):
        """A policy of one's own."""

    class Buffer(EpisodeReplayBuffer):
        """A buffer of one's own."""

    settings = {"policy_kwargs": {"features_extractor_class": Scaled, "memory_kwargs": {"hidden_size": 4}}}
    learning = {
        "learning_rate": lambda remaining: remaining,
        "replay_buffer_class": Buffer,
        "action_noise": NormalActionNoise(np.zeros(1), np.ones(1)),
    }
    model = RDPG(Policy, cue_envs(), device="cpu", max_episode_steps=5, **learning, **settings)
    model.save(tmp_path / "model.zip")
    with pytest.raises(ModelFileError, match=r"the policy 'Policy'; expected one of .*, or its class passed"):
        RDPG.load(tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"the policy 'int'; expected one of .*, or a subclass"):
        RDPG.load(tmp_path / "model", policy=3)
    with pytest.raises(SettingError, match="policy_kwargs: could not be written with the model"):
        RDPG.load(tmp_path / "model", policy=Policy)
    loaded = RDPG.load(tmp_path / "model", policy=Policy, device="cpu", **settings)
    assert isinstance(loaded.policy, Policy)
    assert_same_policy(model, loaded)
    for name in learning:
        given = {key: value for key, value in learning.items() if key != name}
        with pytest.raises(SettingError, match=f"{name}: could not be written with the model"):
            RDPG.load(tmp_path / "model", cue_envs(), policy=Policy, **given, **settings)
    goes_on = RDPG.load(tmp_path / "model", cue_envs(), policy=Policy, device="cpu", **learning, **settings)
    assert goes_on.lr_schedule(0.25) == 0.25
    assert type(goes_on.replay_buffer) is Buffer
    assert goes_on.action_noise is learning["action_noise"]


def test_classes_of_stable_baselines3_are_stored_by_name(cue_envs, tmp_path):
    kwargs = {"features_extractor_class": FlattenExtractor, "memory_kwargs": {"hidden_size": 4}}
    fields = {"place": FieldSpec((2,), "float32")}
    model = RDPG(
        "MlpMemoryPolicy", cue_envs(), device="cpu", max_episode_steps=5, policy_kwargs=kwargs,
        replay_buffer_kwargs={"fields": fields},
    )  # fmt: skip
    model.save(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        data = json.loads(archive.read("data"))
    assert data["left_out"] == []
    settings = data["hyperparameters"]
    assert settings["policy_kwargs"]["features_extractor_class"] == {"__class__": "FlattenExtractor"}
    loaded = RDPG.load(tmp_path / "model.zip", cue_envs(), device="cpu")
    assert loaded.policy_kwargs == {"n_critics": 1, **kwargs}
    assert loaded.replay_buffer.episodes["fields/place"].shape == model.replay_buffer.episodes["fields/place"].shape
    assert_same_policy(model, loaded)


def test_only_known_classes_have_a_name_in_a_file():
    class FlattenExtractor:
        """Not Stable-Baselines3's."""

    settings = {"own": FlattenExtractor, "theirs": [CombinedExtractor], "array": np.ones(2), "rate": np.inf}
    written, left_out = arguments_to_json(settings)
    assert left_out == ["own", "array"]
    read = arguments_from_json(json.loads(json.dumps(written, allow_nan=False)))
    assert read == {"own": None, "theirs": [CombinedExtractor], "array": None, "rate": np.inf}
    for changed in ({"__class__": "Popen"}, {"__instance__": ["EpisodeReplayBuffer", 1]}, {"__tensor__": "0"}):
        with pytest.raises(KeyError):
            arguments_from_json({"own": changed})


# Noise


@pytest.mark.parametrize(
    "noise",
    [
        GaussianNoise(2, np.array([0.1, 0.3]), final_scale=0.2, seed=3),
        OrnsteinUhlenbeckNoise(2, np.array([0.1, 0.3]), theta=0.4, final_scale=0.2, seed=3),
    ],
)
def test_noise_goes_on_with_the_same_sequence(noise):
    noise.update(0.5)
    noise()
    data = json.loads(json.dumps(noise_to_json(noise), allow_nan=False))
    again, more = noise_from_json(data), noise_from_json(data, 3)
    assert [type(each) for each in (again, more)] == [type(noise)] * 2
    assert again.final_scale == more.final_scale == 0.2
    assert getattr(again, "theta", None) == getattr(noise, "theta", None)
    assert again.scale == more.scale == 0.6
    # For another number of environments the processes start from 0, with the same generator.
    drawn = 0.6 * np.array([0.1, 0.3]) * copy.deepcopy(noise.rng).standard_normal((3, 2))
    np.testing.assert_allclose(more(), drawn, rtol=1e-6)
    for _ in range(3):
        assert np.array_equal(again(), noise())


def test_noise_of_other_kinds_has_no_plain_form():
    class Louder(GaussianNoise):
        """A noise of one's own."""

    assert noise_to_json(NormalActionNoise(np.zeros(1), np.ones(1))) is None
    assert noise_to_json(Louder(1, np.array([0.1]))) is None


def test_noise_is_stored_with_the_model(cue_envs, tmp_path):
    noise = OrnsteinUhlenbeckNoise(2, np.array([0.2]), theta=0.3, final_scale=0.5, seed=5)
    model = RecurrentTD3("MlpMemoryPolicy", cue_envs(2), device="cpu", action_noise=noise, **SETTINGS)
    model.learn(20)
    model.save(tmp_path / "model.zip")
    assert noise.scale == 0.5
    loaded = RecurrentTD3.load(tmp_path / "model.zip", cue_envs(2), device="cpu")
    assert loaded.action_noise.state_dict()["rng"] == noise.state_dict()["rng"]
    assert np.array_equal(loaded.action_noise(), noise())
    other = RecurrentTD3.load(tmp_path / "model.zip", cue_envs(3), device="cpu")
    assert other.learn(15).action_noise.n_envs == 3
    none = RecurrentTD3.load(tmp_path / "model.zip", cue_envs(3), device="cpu", action_noise=None)
    assert none.action_noise is None


def test_an_environment_with_other_spaces_is_refused(path):
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        RecurrentTD3.load(path, env=gym.make("Pendulum-v1"))


def test_replay_buffers_are_written_without_pickle(model, cue_envs, tmp_path):
    model.save_replay_buffer(tmp_path / "replay.pkl")  # the name that Stable-Baselines3's CheckpointCallback gives
    other = RecurrentTD3("MlpMemoryPolicy", cue_envs(2), device="cpu", **{**SETTINGS, "buffer_size": 200})
    other.load_replay_buffer(tmp_path / "replay.pkl")
    assert [file.name for file in tmp_path.iterdir()] == ["replay.npz"]
    with np.load(tmp_path / "replay.npz", allow_pickle=False) as archive:
        assert all(archive[name].dtype.kind != "O" for name in archive.files)
    assert other.replay_buffer.n_episodes == model.replay_buffer.n_episodes == 12
    for name, values in model.replay_buffer.episodes.items():
        assert np.array_equal(values[:12], other.replay_buffer.episodes[name][:12]), name


# Weights alone


def test_parameters_are_taken_from_a_file(model, path, sb3_path, cue_envs):
    for source in (path, str(path.with_suffix("")), io.BytesIO(path.read_bytes()), sb3_path):
        other = RecurrentTD3("MlpMemoryPolicy", cue_envs(2), device="cpu", **{**SETTINGS, "seed": 9, "gamma": 0.5})
        before = other.policy.state_dict()["actor.encoder.memory.layers.0.weight_ih_l0"].clone()
        other.set_parameters(source)
        assert not torch.equal(before, other.policy.state_dict()["actor.encoder.memory.layers.0.weight_ih_l0"])
        assert other.gamma == 0.5
        assert_same_policy(model, other)
        kept = model.critic.optimizer.state_dict()["state"]
        for index, part in other.critic.optimizer.state_dict()["state"].items():
            assert torch.equal(part["exp_avg_sq"], kept[index]["exp_avg_sq"])


def test_parameters_of_another_network_are_refused(model, path, cue_envs):
    kwargs = {**SETTINGS["policy_kwargs"], "n_critics": 1}
    other = RecurrentTD3("MlpMemoryPolicy", cue_envs(2), device="cpu", **{**SETTINGS, "policy_kwargs": kwargs})
    with pytest.raises(
        ModelFileError, match=r"policy\.zip: got unfitting parameters .*; expected those of its networks"
    ):
        other.set_parameters(path)
    with pytest.raises(ModelFileError, match=r"nowhere\.zip: got No such file"):
        other.set_parameters(path.with_name("nowhere"))
    weights = model.get_parameters()
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        other.set_parameters({"actor.optimizer": weights["actor.optimizer"]})
    other.set_parameters({"actor.optimizer": weights["actor.optimizer"]}, exact_match=False)


# Policies alone


def test_a_policy_file_needs_no_pickle_and_rebuilds_the_networks(tmp_path, rng):
    space = spaces.Dict({"a": spaces.Box(-1, 1, (3,)), "b": spaces.Box(0, 255, (3, 36, 36), np.uint8)})
    actions = spaces.Box(np.array([-2.0, 1.0], np.float32), np.array([2.0, 5.0], np.float32))
    settings = {"memory": "gru", "memory_kwargs": {"hidden_size": 4}, "net_arch": [3], "n_critics": 1}
    extractor = {"features_extractor_kwargs": {"cnn_output_dim": 5}, "optimizer_kwargs": {"weight_decay": 0.1}}
    policy = MultiInputMemoryPolicy(space, actions, lambda _: 1e-3, **settings, **extractor)
    policy.save(tmp_path / "policy.safetensors")
    content = (tmp_path / "policy.safetensors").read_bytes()
    assert len(load_tensors(content)) == len(policy.state_dict())
    assert b"cnn_output_dim" in content
    loaded = MultiInputMemoryPolicy.load(str(tmp_path / "policy.safetensors"), device="cpu")
    assert loaded.observation_space == space
    assert loaded.action_space == actions
    assert loaded.features_extractor_class is CombinedExtractor
    assert loaded.actor.optimizer.defaults["weight_decay"] == 0.1
    for name, value in policy.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    seen = {"a": rng.uniform(-1, 1, (2, 3)), "b": rng.integers(0, 256, (2, 3, 36, 36), np.uint8)}
    assert np.array_equal(policy.predict(seen)[0], loaded.predict(seen)[0])


def test_policies_with_classes_of_one_s_own_ask_for_them(tmp_path):
    box = spaces.Box(-1, 1, (2,))
    kwargs = {"memory_kwargs": {"hidden_size": 4}, "features_extractor_kwargs": {"scale": 3.0}}
    policy = MemoryPolicy(box, box, lambda _: 1e-3, features_extractor_class=Scaled, **kwargs)
    policy.save(tmp_path / "policy")
    message = "features_extractor_class: could not be written with the policy; expected it to be passed again"
    with pytest.raises(SettingError, match=message):
        MemoryPolicy.load(tmp_path / "policy")
    loaded = MemoryPolicy.load(tmp_path / "policy", "cpu", features_extractor_class=Scaled)
    assert loaded.actor.encoder.features_extractor.scale == 3.0
    assert np.array_equal(policy.predict(np.ones(2))[0], loaded.predict(np.ones(2))[0])


def test_files_that_hold_no_policy_are_refused_and_do_not_run(path, tmp_path):
    marker, file = tmp_path / "ran", tmp_path / "policy.pt"
    for content in (torch_saved(Payload(marker)), pickle.dumps(Payload(marker)), path.read_bytes()):
        file.write_bytes(content)
        with pytest.raises(TreeFileError, match=r"policy\.pt: got no readable tree"):
            MemoryPolicy.load(file)
    assert not marker.exists()
    box = spaces.Box(-1, 1, (2,))
    MemoryPolicy(box, box, lambda _: 1e-3, memory_kwargs={"hidden_size": 4}).save(file)
    content = read_tree(file)
    for changed, message in (
        ([1], "policy format version None; expected 1"),
        ({**content, "policy_format_version": 2}, "policy format version 2; expected 1"),
        ({**content, "settings": {"a": {"__class__": "Popen"}}}, "unreadable data"),
        ({**content, "action_space": {"kind": "Dict", "spaces": {}}}, "unreadable data"),
        ({**content, "state": {}}, "unfitting parameters"),
    ):
        write_tree(file, changed)
        with pytest.raises(ModelFileError) as caught:
            MemoryPolicy.load(file)
        assert f"policy.pt: got {message}" in str(caught.value)
        assert "\n" not in str(caught.value)


# Going on


class Checkpoint(BaseCallback):
    """Writes the model, its training state and its environments at the beginning of a rollout."""

    def __init__(self, at, folder):
        super().__init__()
        self.at, self.folder = at, folder

    def _on_rollout_start(self):
        if self.num_timesteps == self.at:
            self.model.save(self.folder / "model.zip")
            write_tree(self.folder / "state", self.model.training_state())
            self.envs = copy.deepcopy(self.model.get_env())

    def _on_step(self):
        return True


def test_a_model_saved_loaded_and_continued_equals_one_not_interrupted(cue_envs, tmp_path):
    noise = OrnsteinUhlenbeckNoise(2, np.array([0.2]), final_scale=0.1, seed=2)
    straight = RecurrentTD3("MlpMemoryPolicy", cue_envs(2), device="cpu", action_noise=noise, **SETTINGS)
    straight.set_random_seed(4)
    checkpoint = Checkpoint(70, tmp_path)  # in the middle of an episode
    straight.learn(160, callback=checkpoint)
    loaded = RecurrentTD3.load(tmp_path / "model.zip", cue_envs(2), device="cpu", seed=77)
    loaded.load_training_state(read_tree(tmp_path / "state"))
    loaded.set_env(checkpoint.envs, force_reset=False)
    loaded.learn(160 - 70, reset_num_timesteps=False)
    assert loaded.num_timesteps == straight.num_timesteps == 160
    assert_same_policy(straight, loaded)
    returns = [
        evaluate_policy(each, cue_envs(1), n_eval_episodes=4, return_episode_rewards=True, warn=False)
        for each in (straight, loaded)
    ]
    assert returns[0][1] == returns[1][1] == [5, 5, 5, 5]
    for each in (straight, loaded):
        envs = cue_envs(1)
        envs.seed(3)
        each.returns = evaluate_policy(each, envs, n_eval_episodes=4, return_episode_rewards=True, warn=False)[0]
    assert straight.returns == loaded.returns


# Files that were made to do harm


def test_entries_that_grow_when_they_are_read_are_refused(path, tmp_path):
    with zipfile.ZipFile(path) as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**entries, "_format_version": bytes(50_000_000)}.items():
            archive.writestr(name, content)
    with pytest.raises(ModelFileError, match=r"bomb.zip: got the compressed entry '.*'; expected entries stored once"):
        RDPG.load(bomb)


def test_an_entry_that_stands_twice_is_refused(path, tmp_path):
    twice = tmp_path / "twice.zip"
    twice.write_bytes(path.read_bytes())
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("data", "{}")
    with pytest.raises(ModelFileError, match=r"got the entry 'data' twice"):
        RDPG.load(twice)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("num_timesteps", float("inf")),
        ("observation_space", {"kind": "Box", "shape": [10**9, 10**9], "dtype": "float32", "low": 0.0, "high": 1.0}),
        ("action_space", {"kind": "Discrete", "n": 2, "start": 0}),
        ("action_noise", {"kind": "GaussianNoise", "n_envs": 10**15, "arguments": {"sigma": [0.1]}, "state": {}}),
        ("train_freq", [1, "age"]),
    ],
)
def test_descriptions_of_no_model_are_refused(part, value, path, tmp_path):
    with zipfile.ZipFile(path) as whole:
        data = json.loads(whole.read("data"))
    text = json.dumps({**data, part: value}).replace("Infinity", "1e400")
    with pytest.raises(ModelFileError):
        RecurrentTD3.load(rewrite(path, tmp_path / "other.zip", data=text.encode()), device="cpu")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate", "x"),
        ("seed", "x"),
        ("gamma", "x"),
        ("policy_kwargs", {"bogus": 1}),
        ("policy_kwargs", [1]),
        ("policy_kwargs", {"memory_kwargs": {"hidden_size": 10**7}}),
        ("replay_buffer_kwargs", {"bogus": 1}),
    ],
)
def test_settings_of_no_model_are_refused(setting, value, path, tmp_path):
    with zipfile.ZipFile(path) as whole:
        data = json.loads(whole.read("data"))
    data["hyperparameters"][setting] = value
    other = rewrite(path, tmp_path / "other.zip", data=json.dumps(data).encode())
    with pytest.raises(ModelFileError) as refusal:
        RecurrentTD3.load(other)
    assert "\n" not in str(refusal.value)


def test_optimisers_that_step_otherwise_are_refused(model, path, tmp_path):
    entry = "critic.optimizer.safetensors"
    with zipfile.ZipFile(path) as whole:
        state = tree_from_bytes(whole.read(entry), entry)
    for group in state["param_groups"]:
        group["maximize"] = True
    with pytest.raises(ModelFileError, match="optimizer's maximize: got True; expected False"):
        RecurrentTD3.load(rewrite(path, tmp_path / "other.zip", **{entry: tree_to_bytes(state)}))
    state["param_groups"][0]["maximize"] = False
    other_torch = {**state["param_groups"][0], "of_a_later_version": True}
    del other_torch["decoupled_weight_decay"]
    loaded = RecurrentTD3.load(
        rewrite(path, tmp_path / "torch.zip", **{entry: tree_to_bytes({**state, "param_groups": [other_torch]})}),
        device="cpu",
    )
    assert loaded.critic.optimizer.param_groups[0]["decoupled_weight_decay"] is False
    state["state"][0]["exp_avg"] = torch.zeros(3, 5, 7)
    with pytest.raises(ModelFileError, match="optimizer's state 0: got"):
        RecurrentTD3.load(rewrite(path, tmp_path / "other.zip", **{entry: tree_to_bytes(state)}))


# Spaces


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, np.inf, (2,)),
        spaces.Box(np.array([0.0, -2.0], np.float32), np.array([1.0, np.inf], np.float32)),
        spaces.Box(0, 255, (3, 4, 4), np.uint8),
        spaces.Dict({"b": spaces.Box(-1, 1, (1,)), "a": spaces.Box(0, 1, (2, 2), np.float64)}),
        spaces.Discrete(3),
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([2, 5]),
        spaces.MultiBinary(4),
        spaces.MultiBinary([2, 3]),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.MultiBinary(2)}),
    ],
)
def test_spaces_survive_json(space):
    assert space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False))) == space


def test_other_spaces_are_refused():
    with pytest.raises(TypeError, match=r"space: got Text.*; expected a Box, Discrete, MultiDiscrete or MultiBinary"):
        space_to_json(spaces.Text(3))
