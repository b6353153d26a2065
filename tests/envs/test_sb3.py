"""The SB3 bridge, and SB3's algorithms training on the single environment and on the batch."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import data_equivalence
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from adaptive_scan import ENVIRONMENT_ID
from adaptive_scan.envs import PartialScanEnv, PartialScanVecEnv
from adaptive_scan.scans import ScanGeometry

N_STEPS = 216
NET = {"net_arch": [8]}
ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], str, dict[str, Any]]] = {
    "SAC": (SAC, "MultiInputPolicy", {"learning_starts": 36, "train_freq": 9, "batch_size": 8, "policy_kwargs": NET}),
    "PPO": (PPO, "MultiInputPolicy", {"n_steps": 36, "batch_size": 36, "n_epochs": 1, "policy_kwargs": NET}),
    "RecurrentPPO": (
        RecurrentPPO,
        "MultiInputLstmPolicy",
        {"n_steps": 36, "batch_size": 36, "n_epochs": 1, "policy_kwargs": {**NET, "lstm_hidden_size": 8}},
    ),
}


@pytest.mark.parametrize("name", list(ALGORITHMS))
@pytest.mark.parametrize("bridged", [False, True])
def test_algorithms_train(name: str, bridged: bool) -> None:
    torch.set_num_threads(1)
    make, policy, settings = copy.deepcopy(ALGORITHMS[name])  # SB3 writes into policy_kwargs
    if bridged:
        env: Any = VecMonitor(PartialScanVecEnv(3, geometry="quick48"))
    else:
        env = gym.make(ENVIRONMENT_ID, geometry="quick48")
    model = make(policy, env, seed=0, device="cpu", **settings)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    model.learn(N_STEPS)
    assert model.num_timesteps == N_STEPS
    assert any(not torch.equal(before[key], value) for key, value in model.policy.state_dict().items())
    assert all(torch.isfinite(value).all() for value in model.policy.state_dict().values())
    episodes = list(model.ep_info_buffer)
    assert len(episodes) == N_STEPS // 9
    assert {episode["l"] for episode in episodes} == {9}
    assert all(episode["r"] < 0 for episode in episodes)


def test_steps_equal_those_of_sb3s_own_vec_env(small: ScanGeometry, small_crops: np.ndarray) -> None:
    bank = small_crops[:1]
    theirs = DummyVecEnv([lambda: PartialScanEnv(bank, geometry=small) for _ in range(3)])
    ours = PartialScanVecEnv(3, bank, geometry=small)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    np.testing.assert_equal(ours.reset(), dict(theirs.reset()))
    rng = np.random.default_rng(0)
    for _ in range(8):
        actions = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        seen, rewards, dones, infos = ours.step(actions)
        their_seen, their_rewards, their_dones, their_infos = theirs.step(actions)
        np.testing.assert_equal(seen, dict(their_seen))
        np.testing.assert_allclose(rewards, their_rewards, rtol=1e-6)
        assert rewards.dtype == their_rewards.dtype
        np.testing.assert_array_equal(dones, their_dones)
        for info, their_info in zip(infos, their_infos, strict=True):
            assert their_info.pop("TimeLimit.truncated") is False
            if their_info:
                assert info.pop("TimeLimit.truncated") is False
            assert info.keys() == their_info.keys()
            for key, value in their_info.items():
                if isinstance(value, dict):
                    np.testing.assert_equal(info[key], value)
                else:
                    np.testing.assert_allclose(info[key], value, rtol=1e-6)
        assert [i["crop_id"].tolist() for i in ours.reset_infos] == [i["crop_id"].tolist() for i in theirs.reset_infos]


def test_infos_are_empty_but_at_the_ends(small: ScanGeometry, small_crops: np.ndarray) -> None:
    envs = PartialScanVecEnv(2, small_crops, geometry=small, completer=None)
    envs.reset()
    for step in range(1, 7):
        seen, _, dones, infos = envs.step(np.full((2, 2), 0.3))
        assert dones.all() == (step % 3 == 0)
        assert infos[0] is not infos[1]
        for info in infos:
            assert bool(info) == (step % 3 == 0)
        if dones.all():
            assert infos[1]["terminal_observation"]["progress"] == [1.0]
            assert infos[1]["TimeLimit.truncated"] is False
            assert infos[1]["positions"].shape == (4, 3, 2)
            assert seen["progress"].tolist() == [[0.25], [0.25]]


def test_seed_and_options_count_once(small: ScanGeometry, small_crops: np.ndarray) -> None:
    envs = PartialScanVecEnv(2, small_crops, geometry=small, completer=None)

    def drawn() -> list[list[int]]:
        envs.reset()
        return [info["crop_id"].tolist() for info in envs.reset_infos]

    envs.seed(3)
    first = [drawn() for _ in range(6)]
    envs.seed(3)
    assert [drawn() for _ in range(6)] == first
    assert len({str(ids) for ids in first}) > 1
    envs.set_options([{"crop_id": 6}, {"crop_id": 7}])
    with pytest.raises(ValueError, match=r"crop ids: got some in \[6, 7\]; expected \[0, 6\]"):
        envs.reset()
    envs.set_options([{"crop_id": 6}, {"crop_id": 2}])
    assert drawn() == [[6], [2]]
    assert envs._options == [{}, {}]
    envs.set_options([{"crop_id": 6}, {}])
    with pytest.raises(ValueError, match="1 scans are given a crop_id; expected none or all 2"):
        envs.reset()


def test_state_round_trip_over_an_end(small: ScanGeometry, small_crops: np.ndarray) -> None:
    first, second = (PartialScanVecEnv(3, small_crops, geometry=small) for _ in range(2))
    first.seed(4)
    first.reset()
    seen, *_ = first.step(np.full((3, 2), 0.1))
    np.testing.assert_equal(second.set_state(first.get_state()), seen)
    rng = np.random.default_rng(0)
    for _ in range(7):
        actions = rng.uniform(-1, 1, (3, 2))
        assert data_equivalence(first.step(actions), second.step(actions), exact=True)


def test_attributes_and_methods_are_the_batchs(small: ScanGeometry, small_crops: np.ndarray) -> None:
    envs = PartialScanVecEnv(3, small_crops, geometry=small, completer=None, render_mode="rgb_array")
    assert envs.get_attr("geometry", [0, 2]) == [small, small]
    assert envs.get_attr("render_mode") == ["rgb_array"] * 3
    assert not envs.has_attr("no_such_thing")
    envs.set_attr("edge_penalty", 0.5)
    assert envs.batch.edge_penalty == 0.5
    with pytest.raises(ValueError, match="indices: got 1; expected None"):
        envs.set_attr("edge_penalty", 0.1, indices=1)
    assert envs.env_is_wrapped(gym.Wrapper) == [False] * 3
    envs.reset()
    assert envs.env_method("frame", 0, indices=[1])[0].shape == (384, 776, 3)
    assert envs.render().shape == (768, 1552, 3)
    envs.close()


def test_step_wait_without_actions_is_refused(small: ScanGeometry, small_crops: np.ndarray) -> None:
    envs = PartialScanVecEnv(1, small_crops, geometry=small, completer=None)
    envs.reset()
    with pytest.raises(RuntimeError, match="expected a call of step_async"):
        envs.step_wait()
