"""Scans that end when their completer predicts that they are good enough."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adaptive_scan.envs import DwellControl, PartialScanEnv, PartialScanVecEnv, PartialScanVectorEnv, ScanBatch
from adaptive_scan.envs.early_stop import stopped_scans
from adaptive_scan.errors import SettingError
from adaptive_scan.generators import NearestCompleter
from adaptive_scan.generators.completers import InfillCompleter
from adaptive_scan.generators.uncertainty import CompleterWithError, ErrorTraining, train_error_head
from adaptive_scan.scans import ScanGeometry, coverage, partial_scans, sample, static_scan
from adaptive_scan.specimens import procedural_crops

SIZE = 40
GEOMETRY = ScanGeometry(SIZE, 8, 5, 1.5)
CROPS = np.random.default_rng(3).uniform(-1, 1, (6, SIZE, SIZE)).astype(np.float32)


class Hopeful:
    """Completes by the nearest pixel, and predicts an error of 1 / (number of measured pixels)."""

    def __call__(self, scans: Tensor) -> Tensor:
        return NearestCompleter()(scans)

    def predicted_rmse(self, scans: Tensor) -> Tensor:
        return 1.0 / scans[:, 1].sum(dim=(1, 2))


def threshold(n_pixels: int) -> float:
    """What the prediction is at most from so many measured pixels on, and not before."""
    return 1.0 / (n_pixels - 0.5)


def make_batch(n_scans: int = 3, stop_below: float | None = 1 / 15.5, **settings: Any) -> ScanBatch:
    given: dict[str, Any] = {"geometry": GEOMETRY, "completer": Hopeful(), "action_kind": "angle", **settings}
    return ScanBatch(n_scans, CROPS, rng=np.random.default_rng(0), stop_below=stop_below, **given)


def test_a_scan_ends_after_the_first_segment_whose_prediction_is_at_most_the_threshold() -> None:
    batch = make_batch(2, edge_penalty=0.0)
    batch.reset()
    # One scan goes straight on, five new pixels a segment; the other one turns back over its own pixels.
    for n in range(2, 5):
        step = batch.step(np.array([[0.25 if n < 4 else 0.5], [0.25 + (n % 2 == 0)]]))
        n_pixels = batch.partial_scans()[:, 1].sum(axis=(1, 2))
        assert step.ended.tolist() == (n_pixels >= 16).tolist()
        if step.ended.any():
            break
    assert step.ended.tolist() == [True, False]
    assert step.final["n_segments"].tolist() == [n]
    assert step.final["n_positions"].tolist() == [5 * n]
    assert step.final["stopped_early"].tolist() == [True]
    assert step.final["predicted_rmse"] == pytest.approx(1.0 / n_pixels[:1])
    assert step.rewards[0] == pytest.approx(-step.final["loss"][0])
    assert step.rewards[1] == 0.0
    with pytest.raises(ResetNeeded, match="scan 0 has ended"):
        batch.step(np.zeros((2, 1)))
    batch.reset(np.array([0]))
    assert not batch.step(np.zeros((2, 1))).ended[0]


@given(seed=st.integers(0, 100), n_pixels=st.integers(3, 60), is_noisy=st.booleans())
def test_info_and_rewards_hold_for_all_actions(seed: int, n_pixels: int, is_noisy: bool) -> None:
    rng = np.random.default_rng(seed)
    batch = make_batch(4, threshold(n_pixels), acquisition="fast-scan" if is_noisy else None, edge_penalty=0.0)
    batch.reset()
    ended = 0
    while ended < 4:
        step = batch.step(rng.uniform(-1, 1, (4, 1)))
        if not step.ended.any():
            continue
        final, ended = step.final, ended + int(step.ended.sum())
        np.testing.assert_allclose(step.rewards[step.ended], -final["loss"])
        for row in range(len(final["n_segments"])):
            n = final["n_segments"][row]
            positions, values = final["positions"][row : row + 1], final["values"][row : row + 1]
            scan = partial_scans(values[:, :n], positions[:, :n], SIZE)
            before = partial_scans(values[:, : n - 1], positions[:, : n - 1], SIZE)
            np.testing.assert_array_equal(final["partial_scan"][row], scan[0])
            assert final["predicted_rmse"][row] == pytest.approx(1.0 / scan[:, 1].sum())
            assert n == 8 or scan[:, 1].sum() >= n_pixels
            assert n == 2 or before[:, 1].sum() < n_pixels
            assert final["stopped_early"][row] == (n < 8)
            assert final["coverage"][row] == coverage(positions[:, :n], SIZE)[0]
            assert (positions[0, n:] == positions[0, n - 1, -1]).all()
            assert (values[0, n:] == values[0, n - 1, -1]).all()
        batch.reset(np.flatnonzero(step.ended))


def test_without_a_threshold_nothing_changes_and_nothing_is_predicted() -> None:
    class Silent(Hopeful):
        def predicted_rmse(self, scans: Tensor) -> Tensor:
            raise AssertionError("not to be called")

    plain, with_errors = (make_batch(stop_below=None, completer=completer) for completer in ("nearest", Silent()))
    never = make_batch(stop_below=1e-9)
    for batch in (plain, with_errors, never):
        batch.reset()
    rng = np.random.default_rng(1)
    for _ in range(7):
        actions = rng.uniform(-1, 1, (3, 1))
        steps = [batch.step(actions) for batch in (plain, with_errors, never)]
        for other in steps[1:]:
            np.testing.assert_array_equal(steps[0].rewards, other.rewards)
            np.testing.assert_array_equal(steps[0].ended, other.ended)
            np.testing.assert_array_equal(steps[0].observations["measured"], other.observations["measured"])
    assert steps[0].final.keys() == steps[1].final.keys()
    added = {"n_segments", "n_positions", "predicted_rmse", "stopped_early"}
    assert steps[2].final.keys() == steps[0].final.keys() | added
    for name, rows in steps[0].final.items():
        np.testing.assert_array_equal(rows, steps[1].final[name])
        np.testing.assert_allclose(rows, steps[2].final[name])
    assert not steps[2].final["stopped_early"].any()
    assert plain.get_state().keys() == with_errors.get_state().keys() == never.get_state().keys() - {"predicted_rmse"}
    assert plain.has_fixed_dose
    assert not never.has_fixed_dose


def test_all_forms_of_the_environment_agree() -> None:
    settings: dict[str, Any] = {"geometry": GEOMETRY, "completer": Hopeful(), "stop_below": threshold(22)}
    actions = np.random.default_rng(2).uniform(-1, 1, (30, 3, 2))
    vector, bridge = (kind(3, CROPS, **settings) for kind in (PartialScanVectorEnv, PartialScanVecEnv))
    ids = np.array([[4], [0], [2]])
    vector.reset(seed=0, options={"crop_id": ids})
    bridge.set_options([{"crop_id": crop_id} for crop_id in ids])
    bridge.reset()
    singles: list[dict[str, Any]] = []
    for scan in range(3):
        env = PartialScanEnv(CROPS, **settings)
        env.reset(seed=0, options={"crop_id": ids[scan]})
        for batch in actions:
            _, reward, ended, truncated, info = env.step(batch[scan])
            assert not truncated
            if ended:
                singles.append({**info, "reward": reward})
                break
    assert len({int(single["n_segments"]) for single in singles}) > 1
    waiting = {0, 1, 2}
    for batch in actions:
        _, rewards, terminations, truncations, infos = vector.step(batch)
        _, other_rewards, dones, rows = bridge.step(batch)
        np.testing.assert_array_equal(terminations, dones)
        assert not truncations.any()
        for scan in waiting & set(np.flatnonzero(terminations).tolist()):
            single, final = singles[scan], infos["final_info"]
            for name in ("n_segments", "n_positions", "stopped_early", "predicted_rmse", "loss", "positions"):
                np.testing.assert_allclose(final[name][scan], single[name], rtol=1e-6)
                np.testing.assert_allclose(rows[scan][name], single[name], rtol=1e-6)
            assert rewards[scan] == pytest.approx(single["reward"])
            assert other_rewards[scan] == pytest.approx(single["reward"])
            assert rows[scan]["TimeLimit.truncated"] is False
            waiting.remove(scan)
        if not waiting:
            break
    assert not waiting
    check_env(PartialScanEnv(CROPS, **settings), skip_render_check=True)
    assert isinstance(gym.make("adaptive_scan/PartialScan-v0", **settings).reset(seed=1)[0], dict)


def test_dense_rewards_still_sum_up_to_the_drop_of_the_loss() -> None:
    batch = make_batch(1, reward="dense", edge_penalty=0.0)
    batch.reset()
    first = batch.judge(batch.partial_scans(), batch._crops(np.array([0]))).loss[0]
    total, ended = 0.0, False
    while not ended:
        step = batch.step(np.array([[0.25]]))
        total, ended = total + step.rewards[0], step.ended[0]
    assert step.final["stopped_early"].tolist() == [True]
    assert total == pytest.approx(first - step.final["loss"][0])


def test_a_spent_dwell_budget_is_no_early_stop() -> None:
    dwell = DwellControl(1e-6, 4e-6, 50e-6)
    ends = {}
    for stop_below in (threshold(14), 1e-9):
        batch = make_batch(1, stop_below, dwell=dwell)
        batch.reset()
        ended = False
        while not ended:
            step = batch.step(np.array([[0.25, 1.0]]))
            ended = step.ended[0]
        ends[stop_below] = step.final
    # 10 us for the first segment, then 20 us for each.
    assert ends[threshold(14)]["n_segments"].tolist() == ends[1e-9]["n_segments"].tolist() == [3]
    assert [end["stopped_early"].tolist() for end in ends.values()] == [[False], [False]]
    early = make_batch(1, threshold(9), dwell=dwell)
    early.reset()
    step = early.step(np.array([[0.25, 1.0]]))
    assert step.final["stopped_early"].tolist() == [True]
    assert step.final["dwell_time"] == pytest.approx([30e-6])


def test_a_state_goes_on_to_the_last_bit_and_remembers_who_has_stopped() -> None:
    first, second = make_batch(2), make_batch(2)
    first.reset()
    for _ in range(3):
        step = first.step(np.array([[0.25], [-0.3]]))
    assert step.ended.any()
    second.set_state(first.get_state())
    with pytest.raises(ResetNeeded, match="has ended"):
        second.step(np.zeros((2, 1)))
    for batch in (first, second):
        batch.reset(np.flatnonzero(step.ended))
    steps = [batch.step(np.array([[0.1], [0.2]])) for batch in (first, second)]
    for name, rows in steps[0].observations.items():
        np.testing.assert_array_equal(rows, steps[1].observations[name])
    np.testing.assert_array_equal(first.get_state()["predicted_rmse"], second.get_state()["predicted_rmse"])


def test_static_scans_stop_where_the_environment_stops_them() -> None:
    batch, whole = make_batch(5, threshold(22)), make_batch(5, None)
    ids = np.arange(5)[:, None]
    actions = np.random.default_rng(4).uniform(-1, 1, (7, 5, 1))
    for one in (batch, whole):
        one.reset(crop_ids=ids)
    found: dict[int, int] = {}
    for chosen in actions:
        step = batch.step(chosen)
        for row, scan in enumerate(np.flatnonzero(step.ended)):
            found.setdefault(int(scan), int(step.final["n_segments"][row]))
        batch.reset(np.flatnonzero(step.ended), crop_ids=ids[step.ended])
        final = whole.step(chosen).final
    stopped = stopped_scans(final["positions"], final["values"], Hopeful(), threshold(22), SIZE)
    assert stopped.n_segments.tolist() == [found[scan] for scan in range(5)]
    assert len(set(found.values())) > 1
    assert (np.diff(stopped.predicted_rmse, axis=1) <= 0).all()
    for scan, n in enumerate(stopped.n_segments):
        assert stopped.predicted_rmse[scan, n - 1] <= threshold(22) or n == 8
        assert (stopped.predicted_rmse[scan, 1 : n - 1] > threshold(22)).all()
    never = stopped_scans(final["positions"], final["values"], Hopeful(), 1e-9, SIZE)
    assert never.n_segments.tolist() == [8] * 5
    at_once = stopped_scans(final["positions"][:1], final["values"], Hopeful(), 1.0, SIZE)
    assert at_once.n_segments.tolist() == [2] * 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stop_below": 0.0}, r"stop_below: got 0\.0; expected a positive, finite RMSE on \[0, 1\]"),
        ({"stop_below": float("nan")}, "stop_below: got nan; expected a positive"),
        ({"completer": None}, "completer: got None and stop_below 0.06[0-9]*; expected one that predicts its error"),
        (
            {"completer": "nearest"},
            "completer: got a NearestCompleter without predicted_rmse; expected one that",
        ),
    ],
)
def test_what_cannot_stop_a_scan_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make_batch(**settings)


def test_static_scans_refuse_the_same() -> None:
    positions, values = np.zeros((1, 3, 2, 2)), np.zeros((1, 3, 2))
    with pytest.raises(SettingError, match="stop_below: got -1; expected a positive"):
        stopped_scans(positions, values, Hopeful(), -1, 8)
    with pytest.raises(SettingError, match="completer: got a NearestCompleter without predicted_rmse"):
        stopped_scans(positions, values, NearestCompleter(), 0.1, 8)


def test_predictions_of_another_shape_are_refused() -> None:
    class Pixelwise(Hopeful):
        def predicted_rmse(self, scans: Tensor) -> Tensor:
            return scans[:, 1]

    batch = make_batch(completer=Pixelwise())
    batch.reset()
    with pytest.raises(ValueError, match=r"predicted_rmse returned shape \(3, 40, 40\); expected \(3,\)"):
        batch.step(np.zeros((3, 1)))
    with pytest.raises(ValueError, match=r"values have shape \(1, 6\); expected \(n_scans, n_segments, n_positions\)"):
        stopped_scans(np.zeros((1, 6, 2)), np.zeros((1, 6)), Hopeful(), 0.1, 8)


SIDE, N_SEGMENTS, N_POSITIONS = 32, 12, 8


@cache
def trained() -> CompleterWithError:
    """An infill with a head of a hundred updates on procedural crops, spirals cut short at random."""
    crops, _ = procedural_crops(400, SIDE, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    path = static_scan("wide_spiral", N_SEGMENTS * N_POSITIONS, SIDE)[None]

    def draw() -> tuple[Tensor, Tensor]:
        drawn = crops[rng.integers(len(crops), size=24)]
        seen = path[:, : N_POSITIONS * int(rng.integers(2, N_SEGMENTS + 1))]
        scans = partial_scans(sample(drawn, seen), seen.repeat(24, axis=0), SIDE)
        return torch.from_numpy(scans), torch.from_numpy(drawn)[:, None]

    head = train_error_head(InfillCompleter(), draw, ErrorTraining(n_updates=100, n_channels=8, learning_rate=1e-2))
    return CompleterWithError(InfillCompleter(), head)


def stops(pictures: np.ndarray, stop_below: float) -> np.ndarray:
    path = static_scan("wide_spiral", N_SEGMENTS * N_POSITIONS, SIDE).reshape(1, N_SEGMENTS, N_POSITIONS, 2)
    return stopped_scans(path, sample(pictures, path), trained(), stop_below, SIDE).n_segments


def test_with_a_trained_head_a_looser_threshold_stops_earlier() -> None:
    crops, _ = procedural_crops(40, SIDE, np.random.default_rng(7))
    ends = [stops(crops, stop_below) for stop_below in (0.05, 0.15, 0.2, 0.9)]
    for tighter, looser in pairwise(ends):
        assert (looser <= tighter).all()
    means = [end.mean() for end in ends]
    assert means[0] > means[1] > means[2] > means[3] == 2.0


def test_with_a_trained_head_a_simple_picture_stops_before_a_busy_one() -> None:
    rows, columns = np.indices((SIDE, SIDE))
    simple = [np.full((SIDE, SIDE), 0.2), np.sin(6.0 * rows / SIDE - 3.0)]
    busy = [np.sin(2.0 * np.pi * columns / 5.0), np.random.default_rng(5).choice([-1.0, 1.0], (SIDE, SIDE))]
    ends = stops(np.stack([*simple, *busy]).astype(np.float32), 0.15)
    assert ends[:2].max() < N_SEGMENTS // 2 + 1
    assert ends[2:].tolist() == [N_SEGMENTS, N_SEGMENTS]
