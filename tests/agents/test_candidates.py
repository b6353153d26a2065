"""Candidates lie where the environment will place them, and the best of those in the field is taken."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.evaluation import evaluate_policy

from adaptive_scan.agents.candidates import CandidatePolicy, Candidates, Probe, first_of_the_best
from adaptive_scan.envs import PartialScanEnv, PartialScanVecEnv, ScanBatch
from adaptive_scan.errors import SettingError
from adaptive_scan.scans import ScanGeometry, filling_path

FIXED = ScanGeometry(16, 5, 4, 1.5)
FREE = ScanGeometry(24, 6, 3, (0.5, 4.0))
N_SCANS = 3


class Whim(CandidatePolicy):
    """Scores are drawn at random; keeps what it chose among."""

    def __init__(self, geometry, **settings):
        super().__init__(geometry, **settings)
        self.rng = np.random.default_rng(5)
        self.tried = []

    def _scores(self, partial_scans, segments):
        scores = np.where(segments.allowed, self.rng.uniform(size=segments.headings.shape), -np.inf)
        chosen = first_of_the_best(scores)
        rows = np.arange(len(chosen))
        paths = self.candidates.paths(segments, rows, chosen)
        self.tried.append((segments, chosen, self.candidates.positions(paths)))
        return scores


def run(policy, n_scans=N_SCANS):
    """A batch of scans by a policy: the positions that were measured."""
    batch = ScanBatch(n_scans, rng=np.random.default_rng(0), completer=None, **policy.environment)
    observation, state = batch.reset(), None
    episode_start = np.ones(n_scans, dtype=bool)
    while True:
        action, state = policy.predict(observation, state, episode_start, deterministic=True)
        step = batch.step(action)
        if step.ended.all():
            return step.final
        observation, episode_start = step.observations, np.zeros(n_scans, dtype=bool)


@pytest.mark.parametrize("around_reference", [False, True])
@pytest.mark.parametrize("geometry", [FIXED, FREE])
def test_what_is_tried_is_what_the_environment_measures(geometry, around_reference):
    policy = Whim(geometry, around_reference=around_reference, n_ahead=0)
    final = run(policy)
    tried = np.concatenate([positions for _, _, positions in policy.tried], axis=1)
    np.testing.assert_allclose(tried, final["positions"][:, 1:], atol=1e-5)
    spacings = final.get("spacings")
    np.testing.assert_allclose(final["positions"], geometry.path(final["headings"], spacings), atol=1e-5)
    for index, (segments, chosen, _) in enumerate(policy.tried, start=1):
        turned = segments.headings[np.arange(N_SCANS), chosen] - final["headings"][:, index]
        np.testing.assert_allclose(np.sin(turned / 2), 0.0, atol=1e-12)
        if spacings is not None:
            np.testing.assert_allclose(segments.spacings[np.arange(N_SCANS), chosen], spacings[:, index])


def test_headings_are_evenly_spaced_and_spacings_reach_both_bounds():
    candidates = Candidates(FREE, n_headings=8, n_spacings=3)
    segments = candidates.segments(Probe(np.full((1, 2), 12.0), np.array([1])))
    headings, spacings = (part.reshape(8, 3) for part in (segments.headings[0], segments.spacings[0]))
    np.testing.assert_allclose(headings[:, 0], FREE.first_heading + np.arange(8) * math.pi / 4)
    np.testing.assert_allclose(spacings, np.tile([0.5, math.sqrt(2.0), 4.0], (8, 1)))
    assert Candidates(FREE, n_headings=8, n_spacings=1).actions[:, 2].tolist() == [0.0] * 8


def test_corrections_are_evenly_spaced_about_the_reference():
    headings, spacings = np.linspace(0.8, 3.0, 6), np.array([1.0, 2.0, 3.0, 1.0, 0.5, 4.0])
    candidates = Candidates(
        FREE,
        n_headings=5,
        n_spacings=3,
        reference_headings=headings,
        reference_spacings=spacings,
        widest_turn=0.4,
        widest_stretch=0.5,
    )
    segments = candidates.segments(Probe(np.full((2, 2), 12.0), np.array([1, 4])))
    np.testing.assert_allclose(segments.headings[:, ::3] - headings[[1, 4], None], [[-0.4, -0.2, 0.0, 0.2, 0.4]] * 2)
    # Half of the way, geometrically, to a bound: 2 between 0.5 and 4; 0.5 is a bound itself.
    np.testing.assert_allclose(segments.spacings[0, :3], [1.0, 2.0, math.sqrt(8.0)])
    np.testing.assert_allclose(segments.spacings[1, :3], [0.5, 0.5, math.sqrt(2.0)])


@pytest.mark.parametrize("geometry", [FIXED, FREE])
def test_the_reference_itself_is_followed_to_the_last_bit(geometry):
    class Straight(CandidatePolicy):
        def _scores(self, partial_scans, segments):
            middle = np.arange(segments.headings.shape[1]) == segments.headings.shape[1] // 2
            return np.where(segments.allowed, 1.0 * middle, -np.inf)

    headings, spacings = filling_path(geometry)
    final = run(Straight(geometry, around_reference=True))
    expected = geometry.path(headings[None], spacings[None] if geometry.has_free_spacing else None)
    np.testing.assert_array_equal(final["positions"], np.repeat(expected, N_SCANS, axis=0))


@given(
    row=st.floats(-1.0, 24.0),
    column=st.floats(-1.0, 24.0),
    n_measured=st.integers(1, 5),
    spacing=st.sampled_from([(0.5, 4.0), (2.0, 16.0)]),
)
def test_segments_that_leave_the_field_are_chosen_only_where_all_do(row, column, n_measured, spacing):
    geometry = ScanGeometry(24, 6, 3, spacing)
    candidates = Candidates(geometry, n_headings=7, n_spacings=2)
    segments = candidates.segments(Probe(np.array([[row, column]]), np.array([n_measured])))
    beyond = []
    for heading, length in zip(segments.headings[0], segments.spacings[0], strict=True):
        # The positions of the segment, and of the next one's first where there is a next one.
        n = 3 if n_measured == 5 else 4
        path = [(row + i * length * math.cos(heading), column + i * length * math.sin(heading)) for i in range(1, n)]
        beyond.append(max(max(-p, p - 23.0, 0.0) for p in path[-1]))
    assert segments.allowed[0].tolist() == [value <= min(beyond) + 1e-6 for value in beyond]


def test_of_all_that_leave_the_reference_itself_stays_allowed():
    headings = np.zeros(5)  # along the rows, out of the field
    candidates = Candidates(FIXED, n_headings=3, reference_headings=headings)
    segments = candidates.segments(Probe(np.array([[14.0, 8.0]]), np.array([2])))
    assert segments.allowed.tolist() == [[True, True, True]]
    segments = candidates.segments(Probe(np.array([[8.0, 1.0]]), np.array([2])))
    assert segments.allowed.tolist() == [[False, True, True]]


def test_what_follows_goes_straight_on_or_along_the_reference():
    straight = Candidates(FREE, n_headings=4, n_spacings=2, n_ahead=2)
    probe = Probe(np.array([[12.0, 12.0], [3.0, 4.0]]), np.array([1, 4]))
    segments = straight.segments(probe)
    paths = straight.paths(segments, np.array([0, 1]), np.array([2, 5]))
    step = segments.spacings[0, 2] * np.array([math.cos(segments.headings[0, 2]), math.sin(segments.headings[0, 2])])
    expected = np.array([12.0, 12.0]) + np.arange(9)[:, None] * step
    np.testing.assert_allclose(straight.positions(paths)[0].reshape(9, 2), expected, atol=1e-5)
    # The second scan has two segments left: what would be its third repeats a position that it has.
    np.testing.assert_array_equal(straight.positions(paths)[1, 2], np.repeat([[3.0, 4.0]], 3, axis=0))

    headings, spacings = filling_path(FREE)
    planned = Candidates(FREE, around_reference=True)
    start = planned.probe({"position": np.zeros((1, 2)), "heading": np.eye(2)[:1], "progress": np.full((1, 1), 1 / 6)})
    segments = planned.segments(start)
    first = int(np.flatnonzero(segments.allowed[0])[0])
    positions = planned.positions(planned.paths(segments, np.array([0]), np.array([first])))[0]
    turned, stretched = headings.copy(), spacings.copy()
    turned[1], stretched[1] = segments.headings[0, first], segments.spacings[0, first]
    np.testing.assert_allclose(positions, FREE.path(turned[None], stretched[None])[0, 1:], atol=1e-5)


def test_without_a_state_the_observation_tells_where_a_segment_of_fixed_spacing_ended():
    policy = Whim(FIXED)
    batch = ScanBatch(N_SCANS, rng=np.random.default_rng(0), completer=None, **policy.environment)
    observation, state = batch.reset(), None
    for _ in range(3):
        action, state = policy.predict(observation, state)
        observation = batch.step(action).observations
        seen = policy.candidates.probe(observation)
        np.testing.assert_allclose(seen.starts, state[0], atol=1e-5)
        np.testing.assert_array_equal(seen.n_measured, state[1])
    free = Whim(FREE)
    late = {"progress": np.full((1, 1), 0.5), "position": np.zeros((1, 2)), "heading": np.ones((1, 2))}
    with pytest.raises(ValueError, match="no state after 3 segments of free spacing; expected the state that predict"):
        free.predict({**late, "partial_scan": np.zeros((1, 2, 24, 24))})


def test_scans_that_begin_anew_forget_their_state():
    policy = Whim(FREE)
    batch = ScanBatch(2, rng=np.random.default_rng(0), completer=None, **policy.environment)
    observation = batch.reset()
    _, state = policy.predict(observation)
    observation = batch.step(policy.candidates.actions[[0, 0]]).observations
    moved = batch.reset(np.array([1]))
    _, again = policy.predict(moved, state, np.array([False, True]))
    kept, begun = policy.tried[-1][0].probe
    np.testing.assert_array_equal(kept[0], state[0][0])
    np.testing.assert_allclose(kept[1], FREE.start_position + 3 * FREE.first_spacing / math.sqrt(2.0))
    assert begun.tolist() == [2, 1]
    assert again[1].tolist() == [3, 2]


def test_a_single_environment_and_stable_baselines3_are_served():
    env = PartialScanEnv(completer=None, **Whim(FREE).environment)
    policy, state = Whim(FREE), None
    observation, _ = env.reset(seed=0)
    for _ in range(FREE.n_segments - 1):
        action, state = policy.predict(observation, state, np.array([state is None]))
        assert env.action_space.contains(action.astype(np.float32))
        observation, _, ended, _, _ = env.step(action)
    assert ended
    envs = PartialScanVecEnv(2, completer="nearest", **Whim(FREE).environment)
    mean, _ = evaluate_policy(Whim(FREE), envs, n_eval_episodes=4, warn=False)
    assert mean < 0.0


def test_the_first_of_equals_is_taken():
    scores = np.array([[1.0, 2.0, 2.0], [2.0, 2.0 + 1e-7, 1.0], [-np.inf, -5.0, -4.0], [0.0, 0.0, -1e-30]])
    assert first_of_the_best(scores).tolist() == [1, 0, 2, 0]


def test_settings_out_of_range_are_refused():
    for settings, message in (
        ({"n_headings": 0}, "n_headings: got 0; expected at least 1"),
        ({"n_spacings": 0}, "n_spacings: got 0; expected at least 1"),
        ({"n_headings": 4, "around_reference": True}, "n_headings: got 4; expected an odd number around a reference"),
        ({"widest_turn": 0.0}, "widest_turn: got 0.0; expected more than 0 and at most pi"),
        ({"widest_stretch": 1.5}, "widest_stretch: got 1.5; expected more than 0 and at most 1"),
        ({"n_ahead": -1}, "n_ahead: got -1; expected 0 or more, or None"),
        ({"reference_headings": np.zeros(4)}, r"reference_headings have shape \(4,\); expected \(6,\)"),
        ({"reference_spacings": np.ones(6)}, "got reference_spacings without a reference"),
        ({"reference_headings": np.zeros(6), "reference_spacings": np.full(6, 9.0)}, "got 9 to 9; expected 0.5 to 4"),
        ({"batch_size": 0}, "batch_size: got 0; expected at least 1"),
    ):
        with pytest.raises(SettingError, match=message):
            Whim(FREE, **settings)


def test_observations_without_the_picture_or_of_another_field_are_refused():
    policy = Whim(FIXED)
    with pytest.raises(ValueError, match=r"has \['progress'\]; expected partial_scan: set observe_image=True"):
        policy.predict({"progress": np.full((1, 1), 0.2)})
    with pytest.raises(ValueError, match=r"partial scans have shape \(1, 2, 8, 8\); expected \(n_scans, 2, 16, 16\)"):
        policy.predict({"progress": np.full((1, 1), 0.2), "partial_scan": np.zeros((1, 2, 8, 8))})
