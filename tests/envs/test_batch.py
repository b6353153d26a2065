"""The dynamics of a batch of scans, against an obvious slow implementation and hand-computed cases."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from adaptive_scan.acquisition import (
    CoilLag,
    DetectorLag,
    Dropouts,
    Exposure,
    Instrument,
    PoissonCounting,
    ReadoutLag,
    ScanJitter,
    SpecimenDrift,
)
from adaptive_scan.envs import ScanBatch
from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import ArrayCrops, blur_target
from adaptive_scan.scans import ScanGeometry, partial_scans, path_length, sample

# Everything that an instrument remembers along a path, and counting.
FAULTY = Instrument(
    (
        CoilLag(1e-6, damping=0.6),
        ScanJitter(0.4, 2e-6),
        SpecimenDrift(2e5, 300.0),
        DetectorLag(2e-6),
        PoissonCounting(),
        ReadoutLag(1e-6, 8e-6, 1.2),
        Dropouts(0.1, 3.0),
    ),
    Exposure.per_position(30.0, 1e-6, dark=0.1),
)

# Components of an action: ordinary ones, exact zeros, and some far outside the box.
COMPONENTS = st.one_of(st.floats(-1, 1), st.just(0.0), st.floats(-50, 50))


@st.composite
def scan_problems(draw: st.DrawFn) -> dict[str, Any]:
    """A geometry, a kind of action, crops, and the actions of a whole episode."""
    spacing = draw(st.one_of(st.floats(0.3, 3.0), st.just((0.5, 4.0))))
    n_segments = draw(st.integers(2, 5))
    geometry = ScanGeometry(
        image_size=draw(st.integers(4, 16)),
        n_segments=n_segments,
        n_positions=draw(st.integers(1, 6)),
        spacing=spacing,
        first_heading=draw(st.floats(-3, 3)),
    )
    kind = draw(st.sampled_from(["direction", "angle"]))
    n_scans = draw(st.integers(1, 3))
    n_components = (1 if kind == "angle" else 2) + geometry.has_free_spacing
    actions = draw(hnp.arrays(np.float64, (n_segments - 1, n_scans, n_components), elements=COMPONENTS))
    reference = draw(st.one_of(st.none(), hnp.arrays(np.float64, (n_segments,), elements=st.floats(-4, 4))))
    shape = (5, geometry.image_size, geometry.image_size)
    crops = np.random.default_rng(draw(st.integers(0, 99))).uniform(-1, 1, shape)
    return {"geometry": geometry, "kind": kind, "actions": actions, "reference": reference, "crops": crops}


def slow_heading(action: np.ndarray, kind: str, last: float, reference: float | None) -> float:
    if kind == "angle":
        return (0.0 if reference is None else reference) + math.pi * math.fmod(action[0], 2.0)
    if action[0] == 0 and action[1] == 0:
        return last if reference is None else reference
    return (0.0 if reference is None else reference) + math.atan2(action[1], action[0])


def slow_path(problem: dict[str, Any], scan: int) -> tuple[np.ndarray, list[float], list[float]]:
    """Positions (T, P, 2), headings and spacings of one scan, position by position."""
    geometry, reference = problem["geometry"], problem["reference"]
    low, high = geometry.spacing_bounds
    headings = [geometry.first_heading if reference is None else reference[0]]
    spacings = [math.sqrt(low * high)]
    for t, action in enumerate(problem["actions"][:, scan], start=1):
        now = None if reference is None else reference[t]
        headings.append(slow_heading(action, problem["kind"], headings[-1], now))
        component = min(max(action[-1], -1.0), 1.0)
        spacings.append(low * (high / low) ** ((component + 1) / 2) if geometry.has_free_spacing else low)
    row, column = geometry.image_size / 2, geometry.image_size / 2
    positions = []
    for heading, spacing in zip(headings, spacings, strict=True):
        for _ in range(geometry.n_positions):
            positions.append((row, column))
            row, column = row + spacing * math.cos(heading), column + spacing * math.sin(heading)
    return np.array(positions).reshape(geometry.n_segments, geometry.n_positions, 2), headings, spacings


def slow_value(crop: np.ndarray, position: np.ndarray) -> float:
    row, column = (min(max(math.floor(p + np.float32(0.5)), 0), len(crop) - 1) for p in position)
    return crop[row, column]


def batch_of(problem: dict[str, Any], n_scans: int, **settings: Any) -> ScanBatch:
    return ScanBatch(
        n_scans,
        problem["crops"],
        rng=np.random.default_rng(1),
        geometry=problem["geometry"],
        completer=None,
        action_kind=problem["kind"],
        reference_headings=problem["reference"],
        **settings,
    )


@given(scan_problems())
def test_dynamics_equal_a_slow_implementation(problem: dict[str, Any]) -> None:
    geometry, actions = problem["geometry"], problem["actions"]
    n_scans = actions.shape[1]
    batch = batch_of(problem, n_scans)
    seen = [batch.reset()]
    rewards, ended = [], []
    for chosen in actions:
        step = batch.step(chosen)
        seen.append(step.observations)
        rewards.append(step.rewards)
        ended.append(step.ended)
    assert np.array(ended).tolist() == [[False] * n_scans] * (len(actions) - 1) + [[True] * n_scans]
    last = geometry.image_size - 1
    for n in range(n_scans):
        expected, headings, spacings = slow_path(problem, n)
        positions = step.final["positions"][n]
        np.testing.assert_allclose(positions, expected, atol=2e-5)
        np.testing.assert_allclose(step.final["headings"][n], headings)
        crop = batch.source.take(step.final["crop_id"][n : n + 1])[0]
        values = [[slow_value(crop, p) for p in segment] for segment in positions]
        np.testing.assert_array_equal(step.final["values"][n], values)
        for t, observation in enumerate(seen):
            np.testing.assert_array_equal(observation["measured"][n], np.float32(values[t]))
            np.testing.assert_allclose(
                observation["position"][n], np.clip(2 * positions[t, 0] / last - 1, -1, 1), atol=1e-6
            )
            direction = [math.cos(headings[t]), math.sin(headings[t])]
            np.testing.assert_allclose(observation["heading"][n], direction, atol=1e-6)
            assert observation["progress"][n, 0] == np.float32((t + 1) / geometry.n_segments)
            assert {k: v[n] for k, v in observation.items()} in batch.observation_space
        outside = [not all(0 <= x <= last for x in positions[t, -1]) for t in range(1, geometry.n_segments)]
        np.testing.assert_allclose(np.array(rewards)[:, n], -0.05 * np.array(outside))
        pixels = {tuple(np.clip(np.floor(p + np.float32(0.5)), 0, last)) for p in positions.reshape(-1, 2)}
        assert step.final["coverage"][n] == pytest.approx(len(pixels) / geometry.image_size**2)
        if geometry.has_free_spacing:
            np.testing.assert_allclose(step.final["spacings"][n], spacings)
    np.testing.assert_allclose(step.final["path_length"], path_length(step.final["positions"]), rtol=1e-5, atol=1e-5)


@given(scan_problems())
def test_final_headings_and_spacings_reproduce_the_path(problem: dict[str, Any]) -> None:
    batch = batch_of(problem, problem["actions"].shape[1])
    batch.reset()
    for chosen in problem["actions"]:
        final = batch.step(chosen).final
    path = problem["geometry"].path(final["headings"], final.get("spacings"))
    np.testing.assert_allclose(final["positions"], path, atol=2e-5)


@given(scan_problems(), st.booleans())
def test_a_batch_equals_single_scans(problem: dict[str, Any], observe_image: bool) -> None:
    n_scans = problem["actions"].shape[1]
    together = batch_of(problem, n_scans, observe_image=observe_image)
    seen = together.reset()
    ids = together.crop_ids
    steps = [together.step(chosen) for chosen in problem["actions"]]
    for n in range(n_scans):
        alone = batch_of(problem, 1, observe_image=observe_image)
        first = alone.reset(crop_ids=ids[n])
        for name, rows in seen.items():
            np.testing.assert_array_equal(rows[n], first[name][0])
        for chosen, step in zip(problem["actions"], steps, strict=True):
            single = alone.step(chosen[n : n + 1])
            assert single.rewards[0] == step.rewards[n]
            for name, rows in step.observations.items():
                np.testing.assert_array_equal(rows[n], single.observations[name][0])
        for name, rows in steps[-1].final.items():
            np.testing.assert_array_equal(rows[n], single.final[name][0])


def make(small: ScanGeometry, crops: Any, n_scans: int = 3, **settings: Any) -> ScanBatch:
    settings = {"geometry": small, "completer": None, "rng": np.random.default_rng(5), **settings}
    return ScanBatch(n_scans, crops, **settings)


def episode(batch: ScanBatch, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rewards (T - 1, N) and the final rows of an episode of random actions."""
    actions = np.random.default_rng(seed).uniform(-1, 1, (batch.geometry.n_segments - 1, batch.n_scans, 2))
    steps = [batch.step(chosen) for chosen in actions]
    return np.array([step.rewards for step in steps]), steps[-1].final


def test_zero_direction_keeps_the_heading(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops, 1)
    batch.reset()
    batch.step([[0.3, -0.4]])
    np.testing.assert_allclose(batch.step([[0.0, 0.0]]).observations["heading"], [[0.6, -0.8]], atol=1e-7)


@pytest.mark.parametrize("huge", [1e300, -1e300, 5e-324])
def test_every_finite_action_is_valid(small: ScanGeometry, small_crops: np.ndarray, huge: float) -> None:
    for kind, n_components in (("direction", 2), ("angle", 1)):
        batch = make(small, small_crops, 1, action_kind=kind)
        batch.reset()
        observations = batch.step(np.full((1, n_components), huge)).observations
        assert np.linalg.norm(observations["heading"]) == pytest.approx(1.0)


def test_angle_is_the_action_times_pi(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops, 4, action_kind="angle")
    batch.reset()
    observations = batch.step([[0.0], [0.5], [-0.5], [2.5]]).observations
    np.testing.assert_allclose(observations["heading"], [[1, 0], [0, 1], [0, -1], [0, 1]], atol=1e-7)


@pytest.mark.parametrize(
    ("component", "spacing"), [(-1.0, 1.0), (0.0, 2.0), (0.5, math.sqrt(8)), (1.0, 4.0), (7.0, 4.0)]
)
def test_spacing_is_geometric_between_its_bounds(component: float, spacing: float) -> None:
    geometry = ScanGeometry(image_size=16, n_segments=2, n_positions=2, spacing=(1.0, 4.0))
    batch = ScanBatch(1, np.zeros((1, 16, 16)), rng=np.random.default_rng(0), geometry=geometry, completer=None)
    batch.reset()
    final = batch.step([[1.0, 0.0, component]]).final
    np.testing.assert_allclose(final["spacings"], [[2.0, spacing]])
    np.testing.assert_allclose(np.diff(final["positions"][0, 1, :, 0]), [spacing], rtol=1e-6)


def test_a_zero_spacing_component_asks_for_the_reference(small_crops: np.ndarray) -> None:
    geometry = ScanGeometry(12, 4, 3, (0.5, 2.0))
    headings, spacings = [0.3, 0.9, 2.0, -1.0], [0.7, 1.9, 1.0, 0.5]
    batch = make(
        geometry, small_crops, 3, action_kind="angle", reference_headings=headings, reference_spacings=spacings
    )
    batch.reset()
    steps = [batch.step(np.array([[0.0, 0.0], [0.0, 1.0], [0.0, -0.5]])) for _ in range(3)]
    final = steps[-1].final
    np.testing.assert_array_equal(final["positions"][0], geometry.path([headings], [spacings])[0])
    np.testing.assert_allclose(final["spacings"][1], [0.7, 2.0, 2.0, 2.0])
    halfway = [0.7, *(np.sqrt(0.5 * np.array(spacings[1:])))]
    np.testing.assert_allclose(final["spacings"][2], halfway)


@pytest.mark.parametrize("kind", ["direction", "angle"])
def test_zero_action_follows_the_reference(small: ScanGeometry, small_crops: np.ndarray, kind: str) -> None:
    reference = np.array([0.4, 1.9, -2.5, 3.0])
    batch = make(small, small_crops, 2, action_kind=kind, reference_headings=reference)
    batch.reset()
    for _ in range(3):
        final = batch.step(np.zeros((2, *batch.action_space.shape))).final
    np.testing.assert_array_equal(final["headings"], [reference, reference])
    np.testing.assert_allclose(final["positions"][0], small.path(reference[None])[0], rtol=0, atol=1e-6)


def test_direction_is_rotated_by_the_reference(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops, 2, reference_headings=[0.0, math.pi / 2, 0.0, 0.0])
    batch.reset()
    observations = batch.step([[1.0, 0.0], [0.0, 1.0]]).observations
    np.testing.assert_allclose(observations["heading"], [[0, 1], [-1, 0]], atol=1e-7)


def test_edge_penalty_by_hand() -> None:
    # From (4, 4) at 1 px along the rows, two positions each: rows 4, 5 | 6, 7 | 8, 9 | 10, 11; the field ends at 7.
    geometry = ScanGeometry(image_size=8, n_segments=4, n_positions=2, spacing=1.0, first_heading=0.0)
    batch = ScanBatch(
        1, np.zeros((1, 8, 8)), rng=np.random.default_rng(0), geometry=geometry, completer=None, edge_penalty=0.3
    )
    batch.reset()
    assert [batch.step([[1.0, 0.0]]).rewards[0] for _ in range(3)] == [0.0, -0.3, -0.3]


def test_position_is_clipped_into_the_field() -> None:
    geometry = ScanGeometry(image_size=8, n_segments=3, n_positions=4, spacing=1.0, first_heading=0.0)
    batch = ScanBatch(1, np.zeros((1, 8, 8)), rng=np.random.default_rng(0), geometry=geometry, completer=None)
    batch.reset()
    step = batch.step([[0.0, 1.0]])
    assert step.observations["position"].tolist() == [[1.0, pytest.approx(1 / 7)]]
    assert step.rewards[0] == -0.05


@pytest.mark.parametrize(("bad", "named"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_non_finite_action_is_refused_and_nothing_moves(
    small: ScanGeometry, small_crops: np.ndarray, bad: float, named: str
) -> None:
    batch = make(small, small_crops)
    batch.reset()
    before = batch.get_state()
    with pytest.raises(
        ValueError, match=rf"action of scan 2: got \[0.5, {named}\]; expected finite numbers"
    ) as refused:
        batch.step([[1.0, 0.0], [0.0, 1.0], [0.5, bad]])
    assert not isinstance(refused.value, SettingError)  # a policy's fault, which keeps its traceback
    np.testing.assert_equal(batch.get_state(), before)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 3), (2, 2), (1, 3, 2)])
def test_wrong_shape_is_refused(small: ScanGeometry, small_crops: np.ndarray, shape: tuple[int, ...]) -> None:
    batch = make(small, small_crops)
    batch.reset()
    with pytest.raises(ValueError, match=r"actions have shape .*; expected \(3, 2\)"):
        batch.step(np.zeros(shape))


def test_steps_need_a_reset(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops)
    with pytest.raises(ResetNeeded, match="scan 0"):
        batch.step(np.zeros((3, 2)))
    with pytest.raises(ResetNeeded, match="never started"):
        batch.observations()
    batch.reset()
    episode(batch)
    with pytest.raises(ResetNeeded, match="scan 0 has ended"):
        batch.step(np.zeros((3, 2)))


def test_loss_and_rmse_by_hand(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops, completer=lambda scans: torch.full_like(scans[:, :1], 0.5), edge_penalty=0.0)
    batch.reset()
    rewards, final = episode(batch)
    targets = blur_target(small_crops[final["crop_id"][:, 0]])
    mean_square = np.mean((targets - 0.5) ** 2, axis=(1, 2))
    np.testing.assert_allclose(final["loss"], 10 * mean_square, rtol=1e-5)
    np.testing.assert_allclose(final["rmse"], 0.5 * np.sqrt(mean_square), rtol=1e-5)
    np.testing.assert_array_equal(final["target"][:, 0], targets)
    np.testing.assert_array_equal(rewards[:-1], 0.0)
    np.testing.assert_array_equal(rewards[-1], -final["loss"])


def test_target_without_blur_is_the_crop(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops, completer="nearest", blur_targets=False)
    batch.reset()
    _, final = episode(batch)
    np.testing.assert_array_equal(final["target"][:, 0], small_crops[final["crop_id"][:, 0]])


def test_completer_is_called_once_for_all_scans_that_end(small: ScanGeometry, small_crops: np.ndarray) -> None:
    calls = []

    def completer(scans: torch.Tensor) -> torch.Tensor:
        calls.append((tuple(scans.shape), torch.is_grad_enabled()))
        return scans[:, :1]

    batch = make(small, small_crops, completer=completer)
    batch.reset()
    _, final = episode(batch)
    assert calls == [((3, 2, 12, 12), False)]
    measured = partial_scans(final["values"], final["positions"], 12)
    np.testing.assert_array_equal(final["partial_scan"], measured)
    np.testing.assert_array_equal(final["completion"], measured[:, :1])


def test_dense_rewards_telescope(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops, reward="dense", completer="nearest", edge_penalty=0.0)
    batch.reset()
    first = batch.judge(batch.partial_scans(), small_crops[batch.crop_ids[:, 0]]).loss
    rewards, final = episode(batch)
    np.testing.assert_allclose(rewards.sum(axis=0), first - final["loss"], atol=1e-12)
    assert np.any(rewards[0] != 0)


def test_dense_and_final_rewards_agree_on_the_ends(small: ScanGeometry, small_crops: np.ndarray) -> None:
    finals = []
    for reward in ("dense", "final"):
        batch = make(small, small_crops, reward=reward, completer="nearest")
        batch.reset()
        finals.append(episode(batch)[1])
    np.testing.assert_equal(finals[0], finals[1])


def test_final_of_the_dynamics_alone(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops, edge_penalty=0.0)
    batch.reset()
    rewards, final = episode(batch)
    assert sorted(final) == ["coverage", "crop_id", "headings", "path_length", "positions", "true_positions", "values"]
    np.testing.assert_array_equal(rewards, 0.0)


def test_scans_may_be_started_apart(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops, completer="nearest", observe_image=True)
    batch.reset()
    batch.step(np.full((3, 2), 0.5))
    batch.reset(np.array([1]), crop_ids=[6])
    assert batch.n_measured.tolist() == [2, 1, 2]
    scans = batch.observations()["partial_scan"]
    for n, steps in enumerate([2, 1, 2]):
        state = batch.get_state()
        alone = partial_scans(state["values"][n : n + 1, :steps], state["positions"][n : n + 1, :steps], 12)
        np.testing.assert_array_equal(scans[n], alone[0])
    batch.step(np.full((3, 2), 0.5))
    step = batch.step(np.full((3, 2), 0.5))
    assert step.ended.tolist() == [True, False, True]
    assert step.final["loss"].shape == (2,)
    assert step.rewards[1] > -0.1
    assert (step.rewards[[0, 2]] < -0.1).all()


def test_instrument_displaces_and_detects(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops, acquisition=FAULTY, completer="nearest")
    rng = np.random.default_rng(5)
    crops = small_crops[batch.source.draw(3, rng)[:, 0]]
    observations = batch.reset()
    _, final = episode(batch)
    nominal = final["positions"].reshape(3, 12, 2)
    expected = FAULTY.measure(nominal, lambda path: sample(crops, path), FAULTY.begin(3, rng))
    np.testing.assert_array_equal(final["values"].reshape(3, 12), expected.values)
    np.testing.assert_array_equal(final["true_positions"].reshape(3, 12, 2), expected.positions)
    np.testing.assert_array_equal(observations["measured"], final["values"][:, 0])
    np.testing.assert_array_equal(final["partial_scan"], partial_scans(final["values"], final["positions"], 12))
    assert np.abs(final["true_positions"] - final["positions"]).max() > 0.5
    assert np.abs(expected.values - sample(crops, nominal)).max() > 0.5


def test_ideal_instrument_lands_where_it_is_sent(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch, named = (make(small, small_crops, acquisition=each) for each in (None, "ideal"))
    np.testing.assert_equal(batch.reset(), named.reset())
    _, final = episode(batch)
    np.testing.assert_array_equal(final["true_positions"], final["positions"])
    assert not any(name.startswith("acquisition") for name in batch.get_state())


def test_scans_that_begin_anew_leave_the_faults_of_others_alone(small: ScanGeometry, small_crops: np.ndarray) -> None:
    alone, beside = (make(small, small_crops, acquisition=FAULTY) for _ in range(2))
    for batch in (alone, beside):
        batch.reset(crop_ids=[0, 1, 2])
        batch.step(np.full((3, 2), 0.5))
    beside.reset(np.array([1]), crop_ids=[1])
    for _ in range(2):
        step, other = (batch.step(np.full((3, 2), -0.5)) for batch in (alone, beside))
        np.testing.assert_array_equal(other.observations["measured"][[0, 2]], step.observations["measured"][[0, 2]])
    assert other.ended.tolist() == [True, False, True]
    np.testing.assert_array_equal(other.final["true_positions"], step.final["true_positions"][[0, 2]])
    assert beside.get_state()["acquisition.n_visited"].tolist() == [12, 9, 12]


def test_instrument_bounds_the_observation(small: ScanGeometry, small_crops: np.ndarray, noisy: Any) -> None:
    batch = make(small, small_crops, 1, acquisition=noisy, observe_image=True)
    assert batch.observation_space["measured"].high.tolist() == [2.0] * 3
    for _ in range(20):
        assert {name: rows[0] for name, rows in batch.reset().items()} in batch.observation_space
        step = batch.step([[0.3, 0.4]])
        assert {name: rows[0] for name, rows in step.observations.items()} in batch.observation_space
        np.testing.assert_array_equal(step.observations["measured"], batch.observations()["measured"])


def test_instrument_that_breaks_its_promise_is_refused(
    small: ScanGeometry, small_crops: np.ndarray, noisy: Any
) -> None:
    class Loud(type(noisy)):  # type: ignore[misc]
        def detect(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            return np.full_like(values, 3.0)

    class Short(type(noisy)):  # type: ignore[misc]
        def detect(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            return values[:, :-1]

    with pytest.raises(ValueError, match=r"detect returned values in \[3.0, 3.0\]; expected \[-2.0, 2.0\]"):
        make(small, small_crops, acquisition=Loud()).reset()
    with pytest.raises(ValueError, match=r"detect returned shape \(3, 2\); expected \(3, 3\)"):
        make(small, small_crops, acquisition=Short()).reset()


def test_bank_is_indexed_and_not_copied(
    small: ScanGeometry, small_crops: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: ArrayCrops, ids: np.ndarray) -> np.ndarray:
        raise AssertionError("crops were copied out of the bank")

    monkeypatch.setattr(ArrayCrops, "take", refuse)
    batch = make(small, ArrayCrops(small_crops))
    batch.reset()
    episode(batch)


def test_crops_with_symmetries_are_taken_by_their_ids(small: ScanGeometry, small_crops: np.ndarray) -> None:
    source = ArrayCrops(small_crops, symmetries=True)
    batch = make(small, source)
    batch.reset(crop_ids=[[2, 5], [2, 0], [6, 7]])
    _, final = episode(batch)
    assert final["crop_id"].tolist() == [[2, 5], [2, 0], [6, 7]]
    for crop, positions, values in zip(source.take(final["crop_id"]), final["positions"], final["values"], strict=True):
        np.testing.assert_array_equal(values, [[slow_value(crop, p) for p in path] for path in positions])


@pytest.mark.parametrize("ids", [[0, 1], [0, 1, 7], [0, 1, -1], [0.0, 1.0, 2.0]])
def test_ids_that_name_no_crops_are_refused(small: ScanGeometry, small_crops: np.ndarray, ids: list[float]) -> None:
    with pytest.raises(ValueError, match=r"crop ids: .*; expected"):
        make(small, small_crops).reset(crop_ids=ids)


@pytest.mark.parametrize("symmetries", [False, True])
@pytest.mark.parametrize(("reward", "simple"), [("final", True), ("final", False), ("dense", False)])
def test_state_round_trip_to_the_last_bit(
    small: ScanGeometry, small_crops: np.ndarray, noisy: Any, symmetries: bool, reward: str, simple: bool
) -> None:
    def new(seed: int) -> ScanBatch:
        source = ArrayCrops(small_crops, symmetries=symmetries)
        rng = np.random.default_rng(seed)
        return make(small, source, acquisition=noisy if simple else FAULTY, reward=reward, completer="nearest", rng=rng)

    first, second = new(0), new(1)
    first.reset()
    first.step(np.full((3, 2), 0.2))
    state = json.loads(json.dumps(first.get_state(), default=lambda array: array.tolist()))
    second.set_state(state)
    np.testing.assert_equal(second.observations(), first.observations())
    for _ in range(2):
        one, other = first.step(np.full((3, 2), -0.7)), second.step(np.full((3, 2), -0.7))
        np.testing.assert_equal(vars(one), vars(other))
    np.testing.assert_equal(first.reset(), second.reset())
    np.testing.assert_equal(first.get_state(), second.get_state())


def test_state_of_another_batch_is_refused(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops, 2)
    batch.reset()
    with pytest.raises(ValueError, match=r"state's crop_ids have shape \(2, 1\); expected \(3, 1\)"):
        make(small, small_crops, 3).set_state(batch.get_state())
    with pytest.raises(ValueError, match=r"state lacks .*'acquisition.keys'.*; expected the state of a batch"):
        make(small, small_crops, 2, acquisition="low-dose").set_state(batch.get_state())


def test_saved_state_does_not_move_with_the_batch(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops)
    batch.reset()
    state = batch.get_state()
    kept = json.dumps(state, default=lambda array: array.tolist())
    episode(batch)
    batch.reset()
    assert json.dumps(state, default=lambda array: array.tolist()) == kept


def test_returned_arrays_are_fresh(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops, completer="nearest", observe_image=True)
    returned = [*batch.reset().values()]
    for _ in range(2):
        for _ in range(3):
            step = batch.step(np.full((3, 2), 0.4))
            # The ideal probe is where it was sent: one array under two names.
            if step.final:
                assert step.final.pop("true_positions") is step.final["positions"]
            returned += [*step.observations.values(), *step.final.values(), step.rewards, step.ended]
        returned += [*batch.reset().values(), batch.crop_ids, *batch.partial_scans()]
    owned = [*batch._state, batch._crop_ids, batch._losses, small_crops]
    for i, array in enumerate(returned):
        assert not any(np.shares_memory(array, other) for other in returned[:i] + owned)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"geometry": "ede97"}, "geometry: got 'ede97'; expected .*'ede96'"),
        ({"geometry": ScanGeometry(image_size=12, n_segments=1)}, "1 segment; expected at least 2"),
        ({"geometry": "quick48"}, "crops: got 12 px wide; expected the geometry's 48 px"),
        ({"completer": "cubist"}, "completer: got 'cubist'; expected"),
        ({"reward": "sparse"}, "reward: got 'sparse'; expected 'final' or 'dense'"),
        ({"reward": "dense"}, "completer is None; expected a completer"),
        ({"edge_penalty": math.nan}, "edge_penalty: got nan; expected a finite number"),
        ({"action_kind": "polar"}, "action_kind: got 'polar'; expected 'direction' or 'angle'"),
        ({"reference_spacings": [1.5] * 3}, r"reference_spacings have shape \(3,\); expected \(4,\) in \[1.5, 1.5\]"),
        ({"reference_spacings": [1.5, 1.5, 9.0, 1.5]}, "reference_spacings .* expected"),
        ({"reference_headings": [0.0, 1.0]}, r"reference_headings have shape \(2,\); expected \(4,\)"),
        ({"reference_headings": [0.0, 1.0, math.inf, 0.0]}, "reference_headings .* finite"),
        ({"n_scans": 0}, "number of scans: got 0; expected at least 1"),
    ],
)
def test_settings_without_meaning_are_refused(
    small: ScanGeometry, small_crops: np.ndarray, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        make(small, small_crops, **settings)


def test_completer_of_another_shape_is_refused(small: ScanGeometry, small_crops: np.ndarray) -> None:
    batch = make(small, small_crops, completer=lambda scans: scans)
    batch.reset()
    with pytest.raises(ValueError, match=r"completer: got completions \(3, 2, 12, 12\); expected \(3, 1, 12, 12\)"):
        episode(batch)


def test_procedural_crops_are_made_once(small: ScanGeometry) -> None:
    field = ScanGeometry(image_size=16, n_segments=4, n_positions=3)
    first, second = make(field, None), make(field, None)
    assert first.source is second.source
    assert len(np.unique(first.source.draw(200, np.random.default_rng(0)))) > 100
    with pytest.raises(TypeError, match="crops: got a list; expected an array"):
        make(small, [1, 2])
