"""The single environment: Gymnasium's and SB3's checks, its ends, its pictures."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

from adaptive_scan import ENVIRONMENT_ID
from adaptive_scan.envs import PartialScanEnv, ScanBatch
from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import blur_target
from adaptive_scan.scans import ScanGeometry

WIDE = ScanGeometry(image_size=16, n_segments=4, n_positions=3, spacing=(0.7, 5.0))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"geometry": "quick48", "completer": None},
        {"geometry": WIDE, "observe_image": True, "reward": "dense"},
        {"geometry": WIDE, "action_kind": "angle", "reference_headings": [0.0, 1.0, 2.0, 3.0]},
    ],
)
def test_both_checks_pass_for_the_registered_id(settings: dict[str, Any]) -> None:
    env = gym.make(ENVIRONMENT_ID, **settings)
    check_env(env.unwrapped)
    # SB3 warns of every float picture in an observation, and of that alone.
    check_env_for_sb3(env.unwrapped, warn=not settings.get("observe_image", False))
    env.close()


def test_both_checks_pass_for_the_class(small: ScanGeometry, small_crops: np.ndarray, noisy: Any) -> None:
    env = PartialScanEnv(small_crops, geometry=small, acquisition=noisy, render_mode="rgb_array")
    with pytest.warns(UserWarning, match="does not have a spec|not having a spec"):
        check_env(env)
    check_env_for_sb3(env, skip_render_check=False)


@pytest.mark.parametrize("name", ["fast-scan", "low-dose"])
def test_both_checks_pass_with_a_named_instrument(name: str) -> None:
    env = gym.make(ENVIRONMENT_ID, acquisition=name, geometry="quick48", completer=None, observe_image=True)
    check_env(env.unwrapped, skip_render_check=True)
    check_env_for_sb3(env.unwrapped, warn=False)
    env.reset(seed=0)
    for _ in range(9):
        *_, info = env.step(np.array([0.1, 1.0], dtype=np.float32))
    assert info["true_positions"].shape == info["positions"].shape == (10, 10, 2)
    assert 0.0 < np.abs(info["true_positions"] - info["positions"]).max() < 10.0
    env.close()


def test_an_episode_has_one_decision_less_than_segments() -> None:
    env = gym.make(ENVIRONMENT_ID)
    assert env.unwrapped.batch.geometry == ScanGeometry()
    observation, info = env.reset(seed=1)
    assert list(info) == ["crop_id"]
    for t in range(19):
        assert observation["progress"] == np.float32((t + 1) / 20)
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert observation in env.observation_space
        assert (terminated, truncated) == (t == 18, False)
        assert bool(info) == terminated
    assert reward <= -info["loss"] < 0
    shapes = {name: value.shape for name, value in info.items() if isinstance(value, np.ndarray)}
    assert shapes == {
        "crop_id": (1,),
        "headings": (20,),
        "positions": (20, 20, 2),
        "true_positions": (20, 20, 2),
        "values": (20, 20),
        "partial_scan": (2, 96, 96),
        "completion": (1, 96, 96),
        "target": (1, 96, 96),
    }
    assert {name for name, value in info.items() if type(value) is float} == {
        "loss",
        "rmse",
        "coverage",
        "path_length",
    }
    assert info["path_length"] == pytest.approx(399 * np.sqrt(2))


def test_crop_can_be_chosen(small: ScanGeometry, small_crops: np.ndarray) -> None:
    env = PartialScanEnv(small_crops, geometry=small)
    _, info = env.reset(options={"crop_id": 4})
    assert info["crop_id"].tolist() == [4]
    for _ in range(3):
        *_, info = env.step(np.array([1.0, 0.0], dtype=np.float32))
    np.testing.assert_array_equal(info["target"][0], blur_target(small_crops[4]))


def test_seed_repeats_the_crops(small: ScanGeometry, small_crops: np.ndarray) -> None:
    def drawn(seed: int) -> list[int]:
        env = PartialScanEnv(small_crops, geometry=small, completer=None)
        seeds = [seed] + [None] * 9
        return [int(env.reset(seed=s)[1]["crop_id"][0]) for s in seeds]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
    assert len(set(drawn(3))) > 2


def test_step_after_the_end_needs_a_reset(small: ScanGeometry, small_crops: np.ndarray) -> None:
    env = PartialScanEnv(small_crops, geometry=small, completer=None)
    action = np.array([1.0, 0.0], dtype=np.float32)
    with pytest.raises(ResetNeeded):
        env.step(action)
    env.reset(seed=0)
    for _ in range(3):
        env.step(action)
    with pytest.raises(ResetNeeded):
        env.step(action)
    env.reset()
    env.step(action)


@pytest.mark.parametrize("bad", [np.array([np.nan, 0.0]), np.array([0.0, np.inf])])
def test_non_finite_action_is_refused(small: ScanGeometry, small_crops: np.ndarray, bad: np.ndarray) -> None:
    env = PartialScanEnv(small_crops, geometry=small, completer=None)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action of scan 0: got .*; expected finite numbers"):
        env.step(bad)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 2)])
def test_wrong_shape_is_refused(small: ScanGeometry, small_crops: np.ndarray, shape: tuple[int, ...]) -> None:
    env = PartialScanEnv(small_crops, geometry=small, completer=None)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action has shape .*; expected \(2,\)"):
        env.step(np.zeros(shape))


def test_state_round_trip(small: ScanGeometry, small_crops: np.ndarray) -> None:
    first, second = (PartialScanEnv(small_crops, geometry=small) for _ in range(2))
    action = np.array([0.2, -0.9])
    first.reset(seed=0)
    seen, *_ = first.step(action)
    np.testing.assert_equal(second.set_state(first.get_state()), seen)
    for _ in range(2):
        np.testing.assert_equal(first.step(action), second.step(action))
    np.testing.assert_equal(first.reset(), second.reset())


def test_frame_shows_crop_measurement_and_completion(small: ScanGeometry, small_crops: np.ndarray) -> None:
    env = PartialScanEnv(small_crops, geometry=small, render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match="before render"):
        env.render()
    env.reset(seed=0)
    first = env.render()
    env.step(np.array([1.0, 0.0]))
    second = env.render()
    assert first.shape == second.shape == (384, 3 * 384 + 16, 3)
    assert (first[:, :384] != second[:, :384]).any()
    assert (first[:, 392:776] != second[:, 392:776]).any()


def test_frame_without_completer_has_two_panels(small: ScanGeometry, small_crops: np.ndarray) -> None:
    env = PartialScanEnv(small_crops, geometry=small, completer=None, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (384, 2 * 384 + 8, 3)


def test_human_mode_draws_by_itself_and_closes(small: ScanGeometry, small_crops: np.ndarray) -> None:
    before = plt.get_fignums()
    env = PartialScanEnv(small_crops, geometry=small, render_mode="human")
    env.reset(seed=0)
    env.step(np.array([1.0, 0.0]))
    assert env.render() is None
    shown = np.asarray(plt.figure("partial scan").axes[0].images[0].get_array())
    np.testing.assert_array_equal(shown, env.batch.frame(0))
    env.close()
    env.close()
    assert plt.get_fignums() == before


def test_render_without_a_mode_warns(small: ScanGeometry, small_crops: np.ndarray) -> None:
    env = PartialScanEnv(small_crops, geometry=small, completer=None)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="without a render mode"):
        assert env.render() is None
    with pytest.raises(SettingError, match="render_mode: got 'ansi'; expected None or one of"):
        PartialScanEnv(small_crops, geometry=small, render_mode="ansi")


def test_dynamics_alone_load_no_torch() -> None:
    code = (
        "import sys, gymnasium, numpy, adaptive_scan\n"
        "settings = dict(crops=numpy.eye(48)[None], geometry='quick48', completer=None)\n"
        "env = gymnasium.make(adaptive_scan.ENVIRONMENT_ID, **settings)\n"
        "env.reset(seed=0)\n"
        "for _ in range(9): env.step(env.action_space.sample())\n"
        "envs = gymnasium.make_vec(adaptive_scan.ENVIRONMENT_ID, num_envs=2, **settings)\n"
        "envs.reset(seed=0)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_reach_the_batch(small: ScanGeometry, small_crops: np.ndarray, noisy: Any) -> None:
    env = PartialScanEnv(small_crops, geometry=small, acquisition=noisy, edge_penalty=0.7, completer=None)
    assert isinstance(env.batch, ScanBatch)
    assert env.batch.acquisition.acquisition is noisy
    assert env.batch.edge_penalty == 0.7
