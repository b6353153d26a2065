"""Controls of adaptivity: what is taken from a policy and what is left to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.acquisition import make_instrument
from adaptive_scan.evaluation.adaptivity import adaptivity
from adaptive_scan.evaluation.contenders import Contender, measure
from adaptive_scan.evaluation.controls import (
    CONTROLS,
    Delayed,
    HeldConstant,
    delayed,
    held_constant,
    mean_value,
    of_other_crops,
    other_crops,
)
from adaptive_scan.micrographs import ArrayCrops
from adaptive_scan.scans import ScanGeometry, partial_scans, sample

GEOMETRY = ScanGeometry(image_size=24, n_segments=6, n_positions=4)


class Follower:
    """Turns by what it measures and by what its partial scan holds; its memory is the sum of all it saw."""

    def __init__(self, gain: float = 3.0) -> None:
        self.gain = gain
        self.seen: list[dict[str, np.ndarray]] = []

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        self.seen.append({name: array.copy() for name, array in observation.items()})
        total = 0.0 if state is None else np.where(episode_start, 0.0, state[0])
        total = total + observation["measured"].sum(axis=1)
        if "partial_scan" in observation:
            total = total + observation["partial_scan"][:, 0].sum(axis=(1, 2))
        angle = np.arctan2(observation["heading"][:, 1], observation["heading"][:, 0]) + self.gain * total
        return np.stack([np.cos(angle), np.sin(angle)], axis=1), (total,)


@pytest.fixture
def crops(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, (9, 24, 24)).astype(np.float32)


def follower(**environment: Any) -> Contender:
    return Contender("follower", policy=Follower(), environment=environment)


@pytest.mark.parametrize("observe_image", [False, True])
def test_held_constant_every_crop_has_one_path(observe_image: bool, crops: np.ndarray) -> None:
    free = follower(observe_image=observe_image)
    own = measure(free, crops, GEOMETRY).positions
    assert np.ptp(own, axis=0).max() > 1.0
    held = held_constant(free, 0.1)
    assert (held.name, held.role, held.environment) == ("follower_constant", "control", free.environment)
    measured = measure(held, crops, GEOMETRY)
    np.testing.assert_array_equal(measured.positions, np.broadcast_to(measured.positions[:1], own.shape))
    # What it measures is the crop's own all the same.
    np.testing.assert_array_equal(measured.values, sample(crops, measured.positions))


def test_held_constant_equals_the_policy_on_a_uniform_crop(crops: np.ndarray) -> None:
    uniform = np.full_like(crops[:1], 0.25)
    free = follower(observe_image=True)
    expected = measure(free, uniform, GEOMETRY).positions
    held = measure(held_constant(free, 0.25), crops[:1], GEOMETRY).positions
    np.testing.assert_array_equal(held, expected)


def test_held_constant_leaves_all_but_the_specimen(crops: np.ndarray) -> None:
    free = follower(observe_image=True)
    assert isinstance(free.policy, Follower)
    measured = measure(held_constant(free, -0.5), crops, GEOMETRY)
    for step, shown in enumerate(free.policy.seen):
        positions = measured.positions[:, : 4 * (step + 1)]
        true = partial_scans(sample(crops, positions), positions, 24)
        np.testing.assert_array_equal(shown["measured"], np.full((9, 4), -0.5, np.float32))
        np.testing.assert_array_equal(shown["partial_scan"][:, 1], true[:, 1])
        np.testing.assert_array_equal(shown["partial_scan"][:, 0], -0.5 * true[:, 1])
        middle = positions[:, -4:].mean(axis=1)
        direction = positions[:, -1] - positions[:, -4]
        np.testing.assert_allclose(shown["heading"], direction / (3 * GEOMETRY.first_spacing), atol=1e-4)
        np.testing.assert_allclose(shown["progress"], (step + 1) / 6, atol=1e-6)
        assert np.abs(shown["position"] - np.clip(2 * middle / 23 - 1, -1, 1)).max() < 0.5


class Replayed:
    """Decides as a follower does that was handed observations delayed by hand."""

    def __init__(self, n_segments: int) -> None:
        self.n_segments, self.past, self.inner = n_segments, [], Follower()

    def predict(self, observation: dict[str, np.ndarray], state: Any = None, **settings: Any) -> tuple[np.ndarray, Any]:
        self.past.append({name: observation[name].copy() for name in ("measured", "partial_scan")})
        step = len(self.past) - 1
        if step >= self.n_segments:
            late = self.past[step - self.n_segments]
        else:
            late = {name: array.copy() for name, array in self.past[0].items()}
            late["measured"][:] = 0.2
            late["partial_scan"][:, 0] = 0.2 * late["partial_scan"][:, 1]
        return self.inner.predict({**observation, **late}, state=state, **settings)


@pytest.mark.parametrize("n_segments", [1, 2, 4, 9])
def test_delayed_equals_a_delay_made_by_hand(n_segments: int, crops: np.ndarray) -> None:
    late = delayed(follower(observe_image=True), n_segments, value=0.2)
    assert (late.name, late.role) == ("follower_delayed", "control")
    found = measure(late, crops, GEOMETRY)
    by_hand = Contender("hand", policy=Replayed(n_segments), environment={"observe_image": True})
    expected = measure(by_hand, crops, GEOMETRY)
    np.testing.assert_array_equal(found.positions, expected.positions)
    np.testing.assert_array_equal(found.values, expected.values)
    one_path = bool(np.all(found.positions == found.positions[:1]))
    assert one_path == (n_segments >= GEOMETRY.n_segments - 1)
    # The same contender measures again as if it had never measured.
    np.testing.assert_array_equal(measure(late, crops, GEOMETRY).positions, found.positions)


def test_a_delayed_policy_whose_scans_begin_at_different_times_keeps_them_apart(rng: np.random.Generator) -> None:
    policy, inner = Delayed(Follower(), 2, value=0.0), Follower()
    streams = rng.uniform(-1, 1, (2, 8, 4)).astype(np.float32)
    begins = np.zeros((2, 8), dtype=bool)
    begins[:, 0] = begins[1, 3] = True
    heading = np.tile(np.array([[1.0, 0.0]]), (2, 1))
    state, own = None, None
    for step in range(8):
        observation = {"measured": streams[:, step], "heading": heading}
        actions, state = policy.predict(observation, state, begins[:, step])
        since = [step - np.flatnonzero(begins[scan, : step + 1]).max() for scan in (0, 1)]
        shown = np.stack([streams[scan, step - 2] if since[scan] >= 2 else np.zeros(4) for scan in (0, 1)])
        expected, own = inner.predict({"measured": shown, "heading": heading}, own, begins[:, step])
        np.testing.assert_allclose(actions, expected, atol=1e-6)


def test_a_control_shows_the_mean_of_the_crops_trained_on_unless_told_otherwise(crops: np.ndarray) -> None:
    bright = ArrayCrops(0.5 + 0.5 * crops, normalise=False)
    mean = mean_value(bright, np.random.default_rng(0), n_crops=512)
    assert mean == pytest.approx(0.5 + 0.5 * crops.mean(dtype=np.float64), abs=0.02)
    for make in (held_constant, delayed):
        from_mean, given = make(follower(), mean=mean), make(follower(), value=-0.5, mean=mean)
        assert (from_mean.policy.value, given.policy.value) == (mean, -0.5)
        with pytest.raises(ValueError, match="value and mean: got None; expected a constant, or the mean"):
            make(follower())
    assert CONTROLS["constant"](follower(), mean=0.25).policy.value == 0.25


def test_what_cannot_be_a_control_is_refused(crops: np.ndarray) -> None:
    path = Contender("line", path=np.zeros((24, 2)))
    with pytest.raises(ValueError, match="'line': got a path; expected a policy"):
        held_constant(path)
    with pytest.raises(ValueError, match="'line': got a path; expected a policy"):
        delayed(path)

    class Peeker(Follower):
        def peek(self, crops: np.ndarray, targets: np.ndarray) -> None:
            raise AssertionError

    with pytest.raises(ValueError, match="'oracle' peeks at the truth"):
        held_constant(Contender("oracle", policy=Peeker()))
    with pytest.raises(ValueError, match="n_segments: got 0; expected a delay of at least one"):
        delayed(follower(), 0, value=0.0)
    with pytest.raises(ValueError, match=r"observation has \['specimen_name'\]; expected no parts but"):
        HeldConstant(Follower(), 0.0).predict({"measured": np.zeros((1, 4)), "specimen_name": np.zeros((1, 1))})
    with pytest.raises(ValueError, match=r"positions: got shape \(9, 24\); expected \(9, n_positions, 2\)"):
        of_other_crops(follower(), np.zeros((9, 24)), list("aabbccdde"), np.random.default_rng(0))


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=8),
    seed=st.integers(0, 2**31),
)
def test_other_crops_are_of_other_specimens_and_each_is_used_once_where_it_can_be(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(str)
    others = other_crops(groups, rng)
    assert others.shape == groups.shape
    assert (groups[others] != groups).all()
    uses = np.bincount(others, minlength=len(groups))
    if 2 * max(sizes) <= sum(sizes):
        assert (uses == 1).all()
    else:
        outside = groups != str(int(np.argmax(sizes)))
        assert np.ptp(uses[outside]) <= 1
        assert uses[~outside].max() <= 1


def test_other_crops_are_drawn_from_all_other_specimens() -> None:
    groups = np.repeat(np.arange(5), 4)
    drawn = np.stack([other_crops(groups, np.random.default_rng(seed)) for seed in range(400)])
    pairs = np.zeros((5, 5))
    np.add.at(pairs, (np.broadcast_to(groups, drawn.shape), groups[drawn]), 1)
    np.testing.assert_allclose(pairs[~np.eye(5, dtype=bool)] / (400 * 4), 0.25, atol=0.04)
    # One draw alone mixes them as well.
    assert min(len(set(groups[others[:4]].tolist())) for others in drawn[:50]) >= 2


def test_one_specimen_has_no_other() -> None:
    with pytest.raises(ValueError, match="groups: got 3 crops of 1 specimen; expected at least 2"):
        other_crops(["a"] * 3, np.random.default_rng(0))


def test_the_path_of_another_crop_is_followed_on_this_one(crops: np.ndarray, rng: np.random.Generator) -> None:
    free = follower()
    chosen = measure(free, crops, GEOMETRY).positions
    groups = list("aabbccdde")
    swapped = CONTROLS["other_crop"](free, positions=chosen, groups=groups, rng=np.random.default_rng(3))
    assert (swapped.name, swapped.role) == ("follower_other_crop", "control")
    others = other_crops(groups, np.random.default_rng(3))
    measured = measure(swapped, crops[3:7], GEOMETRY, first_crop=3)
    np.testing.assert_array_equal(measured.positions, chosen[others[3:7]])
    np.testing.assert_array_equal(measured.values, sample(crops[3:7], measured.positions))


def test_adaptivity_of_a_policy_and_of_its_control_under_noise(crops: np.ndarray, rng: np.random.Generator) -> None:
    instrument = make_instrument("low-dose")
    groups = list("aabbccdde")

    def scanned(contender: Contender) -> np.ndarray:
        return np.stack(
            [measure(contender, crops, GEOMETRY, acquisition=instrument, seed=s).positions for s in range(4)]
        )

    free, held = scanned(Contender("gentle", policy=Follower(0.3))), scanned(held_constant(follower(), 0.0))
    of_free = adaptivity(free[0], crops, groups, rng, repeats=free)
    of_held = adaptivity(held[0], crops, groups, rng, repeats=held)
    assert of_free["path_diversity"] > 1.0
    assert 0.05 < of_free["crop_share"] < 1.0
    assert (of_held["path_diversity"], of_held["crop_share"]) == (0.0, 0.0)
