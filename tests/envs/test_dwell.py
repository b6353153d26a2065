"""Dwell times that the actor chooses: what segments cost, when scans end, and what their info holds."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.acquisition import Exposure, Instrument, PoissonCounting
from adaptive_scan.envs import DwellControl, PartialScanEnv, PartialScanVectorEnv, ScanBatch
from adaptive_scan.errors import SettingError
from adaptive_scan.scans import ScanGeometry, coverage, partial_scans, path_length, sample

GEOMETRY = ScanGeometry(16, 8, 5, (0.5, 2.0))
CONTROL = DwellControl(1e-6, 4e-6, 100e-6)
CROPS = np.random.default_rng(3).uniform(-1, 1, (6, 16, 16)).astype(np.float32)


def make_batch(n_scans: int = 3, dwell: DwellControl = CONTROL, seed: int = 0, **settings: Any) -> ScanBatch:
    given: dict[str, Any] = {"geometry": GEOMETRY, "completer": None, "action_kind": "angle", **settings}
    return ScanBatch(n_scans, CROPS, rng=np.random.default_rng(seed), dwell=dwell, **given)


def test_the_last_component_is_geometric_between_the_bounds() -> None:
    batch = make_batch(5)
    assert batch.action_space.shape == (3,)
    assert batch.reset()["progress"][:, 0] == pytest.approx([5 * 2e-6 / 100e-6] * 5)
    step = batch.step(np.stack([np.zeros(5), np.zeros(5), [-1.0, -0.5, 0.0, 1.0, 9.0]], axis=1))
    times = np.array([1e-6, math.sqrt(2.0) * 1e-6, 2e-6, 4e-6, 4e-6])
    assert step.observations["progress"][:, 0] == pytest.approx((10e-6 + 5 * times) / 100e-6)
    assert not step.ended.any()


def test_a_scan_ends_when_its_budget_is_spent_and_never_spends_more() -> None:
    batch = make_batch(2)
    batch.reset()
    # 10 us for the first segment and 20 us for each other one: the sixth has what is left, 10 us.
    for n in range(2, 7):
        step = batch.step(np.array([[0.1, 0.3, 1.0], [0.1, -0.4, -1.0]]))
        assert step.ended.tolist() == [n == 6, False]
    assert step.final["n_segments"].tolist() == [6]
    assert step.final["dwell"] == pytest.approx(np.array([[2e-6, *[4e-6] * 4, 2e-6, 0.0, 0.0]]))
    assert step.final["dwell_time"] == pytest.approx([100e-6])
    assert step.observations["progress"][0] == pytest.approx(1.0)
    with pytest.raises(ResetNeeded, match="scan 0 has ended"):
        batch.step(np.zeros((2, 3)))
    batch.reset(np.array([0]))
    # The other scan is thrifty and ends with its last segment.
    for n in (7, 8):
        step = batch.step(np.array([[0.1, 0.3, 0.0], [0.1, -0.4, -1.0]]))
        assert step.ended.tolist() == [False, n == 8]
    assert step.final["n_segments"].tolist() == [8]
    assert step.final["dwell_time"] == pytest.approx([10e-6 + 7 * 5e-6])


def test_a_rest_that_pays_for_no_segment_is_left() -> None:
    batch = make_batch(1, DwellControl(1e-6, 4e-6, 34e-6))
    batch.reset()
    step = batch.step(np.array([[0.0, 0.0, 1.0]]))
    assert step.ended.tolist() == [True]
    assert step.observations["progress"][0] == pytest.approx(30 / 34)


@given(seed=st.integers(0, 200), budget=st.floats(20e-6, 300e-6))
def test_budget_and_info_hold_for_all_actions(seed: int, budget: float) -> None:
    rng = np.random.default_rng(seed)
    batch = make_batch(4, DwellControl(1e-6, 4e-6, budget), completer="nearest", acquisition="fast-scan")
    batch.reset()
    ended = 0
    while ended < 4:
        step = batch.step(rng.uniform(-1, 1, (4, 3)))
        if not step.ended.any():
            continue
        final, ended = step.final, ended + int(step.ended.sum())
        for row in range(len(final["n_segments"])):
            n = final["n_segments"][row]
            positions, values = final["positions"][row : row + 1], final["values"][row : row + 1]
            assert final["dwell_time"][row] == pytest.approx(5 * final["dwell"][row].sum())
            assert final["dwell_time"][row] <= budget * (1 + 1e-9)
            left = budget - final["dwell_time"][row]
            assert n == 8 or left <= 5e-6
            assert (final["dwell"][row, n:] == 0).all()
            assert (final["spacings"][row, n:] == 0).all()
            assert (positions[0, n:] == positions[0, n - 1, -1]).all()
            assert (values[0, n:] == values[0, n - 1, -1]).all()
            assert (final["true_positions"][row, n:] == final["true_positions"][row, n - 1, -1]).all()
            assert final["coverage"][row] == coverage(positions[:, :n], 16)[0]
            assert final["path_length"][row] == pytest.approx(path_length(positions)[0], rel=1e-4)
            np.testing.assert_array_equal(
                final["partial_scan"][row], partial_scans(values[:, :n], positions[:, :n], 16)[0]
            )
        batch.reset(np.flatnonzero(step.ended))


def test_longer_dwell_times_bring_more_electrons_and_less_noise() -> None:
    instrument = Instrument((PoissonCounting(),), Exposure.per_position(100.0, 1e-6), limits=(-50.0, 50.0))
    batch = make_batch(400, acquisition=instrument, dwell=DwellControl(1e-6, 16e-6, 1.0))
    batch.reset()
    deviations = []
    for component in (-1.0, 1.0):
        step = batch.step(np.tile([0.1, 0.0, component], (400, 1)))
        n = batch.n_measured[0]
        positions = batch._state.positions[:, n - 1]
        truth = sample(CROPS[batch.crop_ids[:, 0]], positions)
        # Poisson: the variance of x is x / N, and values are 2 x - 1.
        expected = 2.0 * np.sqrt((truth + 1.0) / 2.0)
        deviations.append(((step.observations["measured"] - truth) / expected).std())
    assert deviations == pytest.approx([1 / math.sqrt(100.0), 1 / math.sqrt(1600.0)], rel=0.08)


def test_without_control_nothing_changes() -> None:
    plain = ScanBatch(3, CROPS, rng=np.random.default_rng(0), geometry=GEOMETRY, completer=None, action_kind="angle")
    controlled = make_batch(dwell=DwellControl(1e-6, 4e-6, 1.0))
    plain.reset()
    controlled.reset()
    rng = np.random.default_rng(1)
    for _ in range(7):
        actions = rng.uniform(-1, 1, (3, 3))
        one, other = plain.step(actions[:, :2]), controlled.step(actions)
        np.testing.assert_array_equal(one.observations["measured"], other.observations["measured"])
        np.testing.assert_array_equal(one.rewards, other.rewards)
    for name, rows in one.final.items():
        np.testing.assert_array_equal(rows, other.final[name])
    assert "dwell" not in one.final


def test_a_state_goes_on_to_the_last_bit() -> None:
    first, second = (make_batch(seed=seed, acquisition="fast-scan") for seed in (0, 5))
    first.reset()
    first.step(np.array([[0.1, 0.0, 0.5], [0.2, 0.0, -0.5], [0.3, 0.0, 1.0]]))
    state = first.get_state()
    second.set_state(state)
    for _ in range(3):
        steps = [batch.step(np.array([[0.1, 0.2, 0.3]] * 3)) for batch in (first, second)]
        for name, rows in steps[0].observations.items():
            np.testing.assert_array_equal(rows, steps[1].observations[name])


def test_the_single_and_the_vector_environment_end_early() -> None:
    settings: dict[str, Any] = {"geometry": GEOMETRY, "dwell": CONTROL}
    check_env(PartialScanEnv(CROPS, **settings), skip_render_check=True)
    env, n_steps, ended = PartialScanEnv(CROPS, **settings), 0, False
    env.reset(seed=0)
    while not ended:
        _, _, ended, _, info = env.step(np.array([1.0, 0.2, 0.0, 1.0]))
        n_steps += 1
    assert (n_steps, int(info["n_segments"]), info["dwell_time"]) == (5, 6, pytest.approx(100e-6))
    envs = PartialScanVectorEnv(2, CROPS, **settings)
    envs.reset(seed=0)
    actions = np.array([[1.0, 0.2, 0.0, 1.0], [1.0, 0.2, 0.0, -1.0]])
    for _ in range(5):
        observations, _, terminations, _, infos = envs.step(actions)
    assert terminations.tolist() == [True, False]
    assert infos["final_info"]["n_segments"].tolist() == [6, 0]
    assert observations["progress"][0] == pytest.approx(0.1)
    assert isinstance(gym.make("adaptive_scan/PartialScan-v0", **settings).reset(seed=1)[0], dict)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SettingError, match=r"dwell: got bounds \(2e-06, 1e-06\) s; expected 0 < lowest < highest"):
        DwellControl(2e-6, 1e-6, 1.0)
    with pytest.raises(SettingError, match=r"budget: got 0\.0 s; expected a positive, finite one"):
        DwellControl.of_electrons(1e-6, 2e-6, 5.0, Exposure())
    with pytest.raises(SettingError, match=r"budget: got 1.4e-05 s; expected at least 1.5\d*e-05 s, for two segments"):
        make_batch(dwell=DwellControl(1e-6, 4e-6, 14e-6))
    batch = make_batch()
    batch.reset()
    before = batch.get_state()
    with pytest.raises(ValueError, match=r"action of scan 1: got \[0.0, 0.0, nan\]; expected finite numbers"):
        batch.step(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, np.nan], [0.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(batch.get_state()["dwell_time"], before["dwell_time"])
    with pytest.raises(ResetNeeded, match="was never started"):
        make_batch().step(np.zeros((3, 3)))


def test_recurrent_agents_learn_on_scans_of_different_lengths() -> None:
    from adaptive_scan.agents import RDPG
    from adaptive_scan.envs import PartialScanVecEnv

    control = DwellControl(1e-6, 4e-6, 60e-6)
    envs = PartialScanVecEnv(3, CROPS, geometry=GEOMETRY, dwell=control, completer="nearest", acquisition="low-dose")
    agent = RDPG(
        "MultiInputMemoryPolicy",
        envs,
        learning_starts=20,
        train_freq=7,
        batch_size=8,
        buffer_size=500,
        max_episode_steps=7,
        policy_kwargs={"memory_kwargs": {"hidden_size": 4, "n_layers": 1}},
        device="cpu",
        seed=0,
    )
    agent.learn(84)
    lengths = agent.replay_buffer.episodes["lengths"][: agent.replay_buffer.n_episodes]
    assert len(set(lengths.tolist())) > 1
    assert lengths.max() <= 7
