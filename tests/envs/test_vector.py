"""Gymnasium's vector form: the layout of its own SyncVectorEnv, the same-step restart, the registered id."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from adaptive_scan import ENVIRONMENT_ID
from adaptive_scan.envs import PartialScanEnv, PartialScanVectorEnv
from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import ArrayCrops
from adaptive_scan.scans import ScanGeometry


def assert_same_layout(ours: Any, theirs: Any, path: str = "infos") -> None:
    """Equal keys, types, dtypes, shapes and values, all the way down."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict), path
        assert ours.keys() == theirs.keys(), path
        for key in theirs:
            assert_same_layout(ours[key], theirs[key], f"{path}.{key}")
    elif theirs is None:
        assert ours is None, path
    elif theirs.dtype == object:
        assert ours.dtype == object, path
        for k, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_same_layout(one, other, f"{path}[{k}]")
    else:
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), path
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7, err_msg=path)


@pytest.mark.parametrize(
    "settings",
    [
        {"completer": None},
        {"completer": "nearest"},
        {"completer": "nearest", "reward": "dense", "observe_image": True},
        {"completer": None, "action_kind": "angle"},
    ],
)
def test_steps_equal_those_of_gymnasiums_own_vector_env(
    small: ScanGeometry, small_crops: np.ndarray, settings: dict[str, Any]
) -> None:
    # One crop alone, so that both draw the same ones from different generators.
    bank = small_crops[:1]
    theirs = SyncVectorEnv(
        [lambda: PartialScanEnv(bank, geometry=small, **settings)] * 3, autoreset_mode=AutoresetMode.SAME_STEP
    )
    ours = PartialScanVectorEnv(3, bank, geometry=small, **settings)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    for one, other in zip(ours.reset(seed=0), theirs.reset(seed=0), strict=True):
        assert_same_layout(one, other)
    ours.action_space.seed(0)
    for _ in range(8):
        actions = ours.action_space.sample()
        for one, other in zip(ours.step(actions), theirs.step(actions), strict=True):
            assert_same_layout(one, other)


def test_scans_that_end_apart_are_masked(small: ScanGeometry, small_crops: np.ndarray) -> None:
    envs = PartialScanVectorEnv(3, small_crops, geometry=small)
    envs.reset(seed=0)
    actions = np.full((3, 2), 0.5, dtype=np.float32)
    envs.step(actions)
    mask = np.array([False, True, False])
    _, infos = envs.reset(options={"reset_mask": mask, "crop_id": [5]})
    assert infos["_crop_id"].tolist() == mask.tolist()
    assert infos["crop_id"].tolist() == [[0], [5], [0]]
    envs.step(actions)
    observations, _, terminations, truncations, infos = envs.step(actions)
    assert terminations.tolist() == [True, False, True]
    assert not truncations.any()
    assert observations["progress"][:, 0].tolist() == [0.25, 0.75, 0.25]
    ends = terminations.tolist()
    assert infos["_final_obs"].tolist() == infos["_final_info"].tolist() == infos["_crop_id"].tolist() == ends
    assert infos["final_obs"][1] is None
    assert infos["final_obs"][2]["progress"] == [1.0]
    final = infos["final_info"]
    assert all(final[f"_{name}"].tolist() == ends for name in final if not name.startswith("_"))
    assert final["loss"][1] == 0.0
    assert (final["loss"][[0, 2]] > 0).all()
    assert final["positions"].shape == (3, 4, 3, 2)
    assert not final["positions"][1].any()
    *_, terminations, _, infos = envs.step(actions)
    assert terminations.tolist() == [False, True, False]
    assert infos["final_info"]["crop_id"].tolist() == [[0], [5], [0]]


@pytest.mark.parametrize("mask", [np.zeros(3, dtype=bool), np.ones(2, dtype=bool), np.ones(3)])
def test_bad_reset_mask_is_refused(small: ScanGeometry, small_crops: np.ndarray, mask: np.ndarray) -> None:
    envs = PartialScanVectorEnv(3, small_crops, geometry=small, completer=None)
    with pytest.raises(ValueError, match=r"reset_mask: got .*; expected bool of shape \(3,\), at least one True"):
        envs.reset(options={"reset_mask": mask})


def test_registered_id_makes_the_batch_itself() -> None:
    envs = gym.make_vec(ENVIRONMENT_ID, num_envs=8)
    assert isinstance(envs, PartialScanVectorEnv)
    assert envs.num_envs == 8
    assert envs.spec is not None
    observations, infos = envs.reset(seed=0)
    assert observations in envs.observation_space
    assert infos["crop_id"].shape == (8, 1)
    for _ in range(19):
        observations, rewards, terminations, _, infos = envs.step(envs.action_space.sample())
        assert observations in envs.observation_space
    assert terminations.all()
    assert (rewards <= -infos["final_info"]["loss"]).all()
    for scan in range(8):
        assert infos["final_obs"][scan] in envs.single_observation_space
    envs.close()


def test_sync_mode_of_the_registered_id_works_too() -> None:
    envs = gym.make_vec(ENVIRONMENT_ID, 2, vectorization_mode="sync", geometry="quick48", completer=None)
    envs.reset(seed=0)
    assert envs.step(envs.action_space.sample())[0]["measured"].shape == (2, 10)
    envs.close()


def test_settings_pass_through_make_vec(small: ScanGeometry, small_crops: np.ndarray) -> None:
    envs = gym.make_vec(ENVIRONMENT_ID, num_envs=2, crops=small_crops, geometry=small, completer=None)
    _, infos = envs.reset(options={"crop_id": [3, 1]})
    assert infos["crop_id"].tolist() == [[3], [1]]


def test_gymnasiums_vector_wrapper_counts_episodes(small: ScanGeometry, small_crops: np.ndarray) -> None:
    envs = RecordEpisodeStatistics(PartialScanVectorEnv(2, small_crops, geometry=small))
    envs.reset(seed=0)
    total = np.zeros(2)
    for _ in range(3):
        _, rewards, _, _, infos = envs.step(np.full((2, 2), 0.3))
        total += rewards
    episode = infos["episode"]
    assert episode["l"].tolist() == [3, 3]
    np.testing.assert_allclose(episode["r"], total, rtol=1e-5)


def test_one_scan_draws_as_the_single_environment_does(small: ScanGeometry, small_crops: np.ndarray) -> None:
    env = PartialScanEnv(small_crops, geometry=small, completer=None)
    envs = PartialScanVectorEnv(1, small_crops, geometry=small, completer=None)
    single, batched = [env.reset(seed=9)[1]["crop_id"]], [envs.reset(seed=9)[1]["crop_id"][0]]
    for _ in range(6):
        single.append(env.reset()[1]["crop_id"])
        batched.append(envs.reset()[1]["crop_id"][0])
    np.testing.assert_array_equal(single, batched)


@pytest.mark.parametrize("symmetries", [False, True])
def test_state_round_trip_over_an_end(
    small: ScanGeometry, small_crops: np.ndarray, noisy: Any, symmetries: bool
) -> None:
    source = ArrayCrops(small_crops, symmetries=symmetries)
    first, second = (PartialScanVectorEnv(3, source, geometry=small, acquisition=noisy) for _ in range(2))
    first.reset(seed=4)
    seen, *_ = first.step(np.full((3, 2), 0.1))
    np.testing.assert_equal(second.set_state(first.get_state()), seen)
    rng = np.random.default_rng(0)
    for _ in range(7):
        actions = rng.uniform(-1, 1, (3, 2))
        assert data_equivalence(first.step(actions), second.step(actions), exact=True)
    assert first.np_random.bit_generator.state == second.np_random.bit_generator.state


def test_returned_arrays_do_not_change_afterwards(small: ScanGeometry, small_crops: np.ndarray) -> None:
    envs = PartialScanVectorEnv(2, small_crops, geometry=small, observe_image=True)
    returned = [envs.reset(seed=0)]
    kept = copy.deepcopy(returned)
    for _ in range(7):
        returned.append(envs.step(np.full((2, 2), -0.4)))  # type: ignore[arg-type]
        kept.append(copy.deepcopy(returned[-1]))
    assert data_equivalence(returned, kept, exact=True)


def test_pictures_of_all_scans(small: ScanGeometry, small_crops: np.ndarray) -> None:
    envs = PartialScanVectorEnv(2, small_crops, geometry=small, completer=None, render_mode="rgb_array")
    envs.reset(seed=0)
    frames = envs.render()
    assert [frame.shape for frame in frames] == [(384, 776, 3)] * 2
    assert PartialScanVectorEnv(2, small_crops, geometry=small, completer=None).render() is None
    with pytest.raises(SettingError, match="render_mode: got 'human'"):
        PartialScanVectorEnv(2, small_crops, geometry=small, render_mode="human")


def test_bad_actions_are_named_by_their_index(small: ScanGeometry, small_crops: np.ndarray) -> None:
    envs = PartialScanVectorEnv(3, small_crops, geometry=small, completer=None)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="action of scan 1: got"):
        envs.step(np.array([[1.0, 0.0], [np.nan, 0.0], [np.nan, 0.0]]))
    with pytest.raises(ValueError, match=r"actions have shape \(2, 2\); expected \(3, 2\)"):
        envs.step(np.zeros((2, 2)))
