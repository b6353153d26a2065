"""Heuristic scans choose what a slow, obvious implementation chooses, and go where there is something to find."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from adaptive_scan.agents.candidates import CandidatePolicy, Probe
from adaptive_scan.agents.heuristics import CoverageGreedy, GradientFollowing, VarianceGreedy
from adaptive_scan.agents.oracle import LookAheadOracle
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.contenders import Contender, measure
from adaptive_scan.generators import CompleterWithError, EnsembleCompleter, make_completer
from adaptive_scan.generators.uncertainty import ErrorHead
from adaptive_scan.scans import ScanGeometry, filling_path, partial_scans

FIXED = ScanGeometry(16, 5, 4, 1.5)
FREE = ScanGeometry(20, 6, 3, (0.8, 4.0))
ROOM = ScanGeometry(32, 8, 6, 1.5)


class Spot:
    """A completer whose error is one pixel's."""

    def __init__(self, row, column, size):
        self.error = torch.zeros(size, size)
        self.error[row, column] = 1.0

    def with_error(self, scans):
        return torch.zeros_like(scans[:, :1]), self.error.expand(len(scans), 1, -1, -1)


def ensemble():
    return EnsembleCompleter([make_completer(name) for name in ("nearest", "infill")])


POLICIES = {
    "coverage": CoverageGreedy,
    "variance": lambda geometry, **settings: VarianceGreedy(ensemble(), geometry, **settings),
    "gradient": GradientFollowing,
    "oracle": lambda geometry, **settings: LookAheadOracle("infill", geometry, **settings),
}


def crops_of(geometry, n_crops, rng):
    """Smooth random pictures in [-1, 1]."""
    waves = np.cumsum(rng.normal(size=(n_crops, 2, geometry.image_size)), axis=2)
    pictures = waves[:, 0, :, None] + waves[:, 1, None, :]
    return (pictures / np.abs(pictures).max(axis=(1, 2), keepdims=True)).astype(np.float32)


def scanned(policy, crops):
    contender = Contender("it", policy=policy, environment=policy.environment)
    return measure(contender, crops, policy.geometry)


def distances_to(positions, size):
    """Distance from each pixel to the nearest of the pixels that hold the positions, by brute force."""
    pixels = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1).reshape(-1, 2)
    measured = np.clip(np.floor(positions.reshape(-1, 2).astype(np.float32) + np.float32(0.5)), 0, size - 1)
    return cdist(pixels, measured).min(axis=1).reshape(size, size)


def slow_choice(geometry, before, start, n_measured, weigh, n_headings=16, n_spacings=3):
    """Heading and spacing of the candidate of the largest gain, one candidate and one position at a time."""
    size, n_positions = geometry.image_size, geometry.n_positions
    low, high = geometry.spacing_bounds
    spacings = np.geomspace(low, high, n_spacings) if geometry.has_free_spacing else [low]
    r = distances_to(before, size)
    is_last = n_measured == geometry.n_segments - 1
    if not is_last:
        length_left = (geometry.n_segments - n_measured) * n_positions * high
        r = np.minimum(r, max(np.count_nonzero(r) / length_left, 2.0))
    best, chosen = -1.0, None
    for k in range(n_headings):
        heading = geometry.first_heading + 2 * math.pi * k / n_headings
        for spacing in spacings:
            step = spacing * np.array([math.cos(heading), math.sin(heading)])
            path = np.array([start + i * step for i in range(n_positions)])
            end = start + (n_positions - is_last) * step
            if (end < 0).any() or (end > size - 1).any():
                continue
            d = distances_to(np.concatenate([before.reshape(-1, 2), path]), size)
            gain = (weigh(r) * np.maximum(r - d, 0.0)).sum()
            if gain > best * (1 + 1e-6):
                best, chosen = gain, (heading, spacing)
    return chosen


def decide(policy, before, values, start, n_measured):
    """Heading and spacing that a policy chooses for one scan."""
    scan = partial_scans(values[None], before[None], policy.geometry.image_size)
    observation = {"progress": np.full((1, 1), n_measured / policy.geometry.n_segments), "partial_scan": scan}
    state = Probe(np.asarray(start, dtype=np.float64)[None], np.array([n_measured]))
    action, _ = policy.predict(observation, tuple(state))
    segments = policy.candidates.segments(state)
    (index,) = np.flatnonzero((policy.candidates.actions == action[0]).all(axis=1))
    return segments.headings[0, index], segments.spacings[0, index]


@pytest.mark.parametrize("geometry", [FIXED, FREE])
def test_coverage_greedy_takes_what_brute_force_takes_from_an_empty_field_to_the_end(geometry, rng):
    (crop,) = crops_of(geometry, 1, rng)
    positions = scanned(CoverageGreedy(geometry), crop[None]).positions[0].reshape(geometry.n_segments, -1, 2)
    start = geometry.start_position.astype(np.float64)
    heading, spacing = geometry.first_heading, geometry.first_spacing
    for n_measured in range(1, geometry.n_segments):
        start = start + geometry.n_positions * spacing * np.array([math.cos(heading), math.sin(heading)])
        heading, spacing = slow_choice(geometry, positions[:n_measured], start, n_measured, np.ones_like)
        step = spacing * np.array([math.cos(heading), math.sin(heading)])
        expected = start + np.arange(geometry.n_positions)[:, None] * step
        np.testing.assert_allclose(positions[n_measured], expected, atol=1e-4)


@pytest.mark.parametrize("geometry", [FIXED, FREE])
def test_coverage_greedy_around_a_reference_never_fills_worse_than_it(geometry, rng):
    headings, spacings = filling_path(geometry)
    worse = headings.copy()
    worse[2:] -= 0.5
    found = {}
    for name, reference in (("filling", headings), ("worse", worse)):
        path = geometry.path(reference[None], spacings[None] if geometry.has_free_spacing else None)[0]
        policy = CoverageGreedy(geometry, reference_headings=reference, reference_spacings=spacings)
        positions = scanned(policy, crops_of(geometry, 1, rng)).positions[0]
        own, reference_s = (distances_to(part, geometry.image_size).mean() for part in (positions, path))
        assert own <= reference_s + 1e-9
        found[name] = own / reference_s
    assert found["worse"] < 0.95


def test_coverage_greedy_looks_at_where_was_measured_and_not_at_what(rng):
    crops = crops_of(FREE, 3, rng)
    positions = scanned(CoverageGreedy(FREE), crops).positions
    np.testing.assert_array_equal(positions, np.repeat(positions[:1], 3, axis=0))


def test_scans_that_stand_elsewhere_are_not_taken_for_alike(rng):
    policy = CoverageGreedy(FREE, n_headings=8)
    masks = np.zeros((4, 2, 20, 20), np.float32)
    masks[:, 1, :3] = 1.0
    masks[3, 1, -3:] = 1.0
    starts = np.array([[4.0, 10.0], [4.0, 10.0], [10.0, 4.0], [4.0, 10.0]])
    n_measured = np.array([2, 5, 2, 2])
    observation = {"progress": n_measured[:, None] / 6, "partial_scan": masks}
    together, _ = policy.predict(observation, (starts, n_measured))
    for i in range(4):
        one = {name: array[i : i + 1] for name, array in observation.items()}
        alone, _ = policy.predict(one, (starts[i : i + 1], n_measured[i : i + 1]))
        np.testing.assert_array_equal(together[i], alone[0])


@pytest.mark.parametrize("k", [2, 5, 9, 14])
def test_variance_greedy_heads_for_the_hot_spot(k):
    direction = ROOM.first_heading + 2 * math.pi * k / 16
    row, column = (math.floor(16 + 6.0 * part + 0.5) for part in (math.cos(direction), math.sin(direction)))
    policy = VarianceGreedy(Spot(row, column, 32), ROOM, exploration=0.0)
    before = np.array([[15.0, 16.0]])
    heading, _ = decide(policy, before, np.zeros(1), (16.0, 16.0), 1)
    # Positions at 6 px along this heading lie within half a pixel's diagonal of the spot, and on no other.
    assert heading == pytest.approx(direction)


def test_variance_greedy_counts_each_pixel_s_squared_error_once_and_neighbours_less(rng):
    error = rng.uniform(0.0, 1.0, (20, 20)) ** 4

    class Known:
        def with_error(self, scans):
            return torch.zeros_like(scans[:, :1]), torch.from_numpy(error).float().expand(len(scans), 1, -1, -1)

    before = np.array([[10.0, 8.0], [10.0, 10.0], [11.0, 11.0]])
    squared = error.astype(np.float32).astype(np.float64) ** 2
    for n_measured in (1, 3, 5):
        for exploration in (0.0, 1.0):
            weight = squared + exploration * squared.mean() + 1e-6
            expected = slow_choice(FREE, before, (11.0, 12.0), n_measured, lambda r: weight / np.maximum(r, 1.0))  # noqa: B023
            policy = VarianceGreedy(Known(), FREE, exploration=exploration)
            assert decide(policy, before, np.zeros(3), (11.0, 12.0), n_measured) == pytest.approx(expected)


def test_gradient_following_takes_what_brute_force_takes(rng):
    picture = crops_of(FREE, 1, rng)[0]
    before = np.array([[10.0, 8.0], [10.0, 10.0], [11.0, 11.0]])
    rows, columns = np.gradient(picture.astype(np.float64))
    slopes = np.sqrt(rows**2 + columns**2)
    weight = slopes + 0.25 * slopes.mean() + 1e-6
    policy = GradientFollowing(
        FREE, lambda scans: torch.from_numpy(picture).expand(len(scans), 1, -1, -1), exploration=0.25
    )
    expected = slow_choice(FREE, before, (11.0, 12.0), 2, lambda r: weight)
    assert decide(policy, before, np.zeros(3), (11.0, 12.0), 2) == pytest.approx(expected)


def test_gradient_following_follows_an_edge():
    geometry = ScanGeometry(32, 6, 6, 1.0, start=(12.0, 2.0))
    crop = np.where(np.arange(32) < 16, -1.0, 1.0).astype(np.float32)[None, :, None].repeat(32, axis=2)
    edge = 15.5
    off = {}
    known = GradientFollowing(geometry, lambda scans: torch.from_numpy(crop)[:, None], exploration=0.0)
    for name, policy in (
        ("known", known),
        ("guessed", GradientFollowing(geometry, exploration=0.0)),
        ("none", CoverageGreedy(geometry)),
    ):
        rows = scanned(policy, crop).positions[0, geometry.n_positions :, 0]
        off[name] = np.abs(rows - edge).mean()
    assert off["known"] < 1.5  # along the edge from where the first segment has met it
    assert off["guessed"] < 0.7 * off["none"]


def test_where_nothing_is_steep_the_widest_gap_decides(rng):
    flat = np.full((1, 20, 20), 0.5, np.float32)
    expected = scanned(CoverageGreedy(FREE), flat).positions
    np.testing.assert_array_equal(scanned(GradientFollowing(FREE), flat).positions, expected)
    nothing = VarianceGreedy(Spot(0, 0, 20), FREE)
    nothing.predictor.error.zero_()
    assert scanned(nothing, flat).positions.shape == expected.shape


@pytest.mark.parametrize("around_reference", [False, True])
@pytest.mark.parametrize("geometry", [FIXED, FREE])
@pytest.mark.parametrize("name", POLICIES)
def test_scans_have_the_dose_stay_in_the_field_and_do_not_depend_on_their_batch(name, geometry, around_reference, rng):
    crops = crops_of(geometry, 4, rng)

    def policy() -> CandidatePolicy:
        return POLICIES[name](geometry, around_reference=around_reference)

    whole = scanned(policy(), crops)
    assert whole.positions.shape == (4, geometry.n_positions_total, 2)
    assert np.isfinite(whole.values).all()
    if not around_reference:
        assert whole.positions.min() >= 0.0
        assert whole.positions.max() <= geometry.image_size - 1
    np.testing.assert_array_equal(scanned(policy(), crops).positions, whole.positions)
    one = policy()
    one.batch_size = 7
    for i in range(4):
        np.testing.assert_array_equal(scanned(one, crops[i : i + 1]).positions, whole.positions[i : i + 1])


def test_completers_with_an_error_head_and_ensembles_predict_for_variance_greedy(rng):
    head = ErrorHead(n_channels=4)
    for predictor in (CompleterWithError(make_completer("infill"), head).eval(), ensemble()):
        assert scanned(VarianceGreedy(predictor, FREE), crops_of(FREE, 2, rng)).positions.shape == (
            2,
            FREE.n_positions_total,
            2,
        )


def test_scans_shown_nothing_still_choose(rng):
    """As a control of adaptivity may show them: the picture held constant, the state carried on."""
    for name, make in POLICIES.items():
        policy, state = make(FREE), None
        if name == "oracle":
            policy.peek(*(crops_of(FREE, 2, rng),) * 2)
        for n_measured in range(1, FREE.n_segments):
            observation = {"progress": np.full((2, 1), 1 / 6), "partial_scan": np.zeros((2, 2, 20, 20))}
            for part in ("position", "heading"):
                observation[part] = np.zeros((2, 2))
            action, state = policy.predict(observation, state)
            assert np.isfinite(action).all()
            assert state[1].tolist() == [n_measured + 1] * 2


def test_bad_settings_and_answers_are_refused(rng):
    with pytest.raises(SettingError, match=r"exploration: got -1\.0; expected a finite number of at least 0"):
        GradientFollowing(FREE, exploration=-1.0)
    with pytest.raises(SettingError, match="exploration: got inf"):
        VarianceGreedy(ensemble(), FREE, exploration=math.inf)
    with pytest.raises(SettingError, match="completer: got 'magic'; expected one of"):
        GradientFollowing(FREE, "magic")
    with pytest.raises(ValueError, match="got completions that are not finite; expected finite ones"):
        scanned(GradientFollowing(FREE, lambda scans: scans[:, :1] * math.nan), crops_of(FREE, 1, rng))
    with pytest.raises(ValueError, match=r"errors of shape \(1, 1, 9, 9\); expected \(1, 1, 20, 20\)"):
        scanned(VarianceGreedy(Spot(0, 0, 9), FREE), crops_of(FREE, 1, rng))
