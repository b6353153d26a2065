"""The oracle takes the truly best candidate, found again by brute force through nothing but public functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from adaptive_scan.agents.oracle import LookAheadOracle
from adaptive_scan.evaluation.contenders import Contender, measure
from adaptive_scan.generators import make_completer
from adaptive_scan.micrographs import blur_target
from adaptive_scan.scans import ScanGeometry, filling_path, partial_scans, sample

FIXED = ScanGeometry(16, 5, 4, 1.5)
FREE = ScanGeometry(20, 5, 3, (0.8, 4.0))


def crops_of(geometry, n_crops, rng):
    waves = np.cumsum(rng.normal(size=(n_crops, 2, geometry.image_size)), axis=2)
    pictures = waves[:, 0, :, None] + waves[:, 1, None, :]
    return (pictures / np.abs(pictures).max(axis=(1, 2), keepdims=True)).astype(np.float32)


def losses_of(positions, crops, targets, completer="nearest"):
    """True losses of scans at positions (n_scans, ..., 2)."""
    scans = partial_scans(sample(crops, positions), positions, crops.shape[-1])
    completions = make_completer(completer)(torch.from_numpy(scans)).numpy()[:, 0]
    return 10.0 * np.square(completions.astype(np.float64) - targets).mean(axis=(1, 2))


def scanned(oracle, crops, **settings):
    contender = Contender("oracle", policy=oracle, environment=oracle.environment)
    return measure(contender, crops, oracle.geometry, **settings)


@pytest.mark.parametrize("n_ahead", [0, 2])
@pytest.mark.parametrize("geometry", [FIXED, FREE])
def test_each_segment_is_the_truly_best_candidate(geometry, n_ahead, rng):
    crop = crops_of(geometry, 1, rng)
    target = blur_target(crop)
    found = scanned(LookAheadOracle("nearest", geometry, n_headings=8, n_ahead=n_ahead), crop).positions
    segments = found.reshape(geometry.n_segments, geometry.n_positions, 2)
    low, high = geometry.spacing_bounds
    n_positions = geometry.n_positions
    for n_measured in range(1, geometry.n_segments):
        start = segments[n_measured, 0].astype(np.float64)
        is_last = n_measured == geometry.n_segments - 1
        n_behind = min(n_ahead, geometry.n_segments - 1 - n_measured)
        losses = {}
        for k in range(8):
            for spacing in np.geomspace(low, high, 3) if geometry.has_free_spacing else [low]:
                heading = geometry.first_heading + k * math.pi / 4
                step = spacing * np.array([math.cos(heading), math.sin(heading)])
                end = start + (n_positions - is_last) * step
                if (end < -1e-4).any() or (end > geometry.image_size - 1 + 1e-4).any():
                    continue
                path = start + np.arange(n_positions * (1 + n_behind))[:, None] * step
                tried = np.concatenate([segments[:n_measured].reshape(-1, 2), path])[None].astype(np.float32)
                losses[tuple(step)] = losses_of(tried, crop, target)[0]
        taken = segments[n_measured, 1] - segments[n_measured, 0]
        chosen = min(losses, key=lambda step: math.dist(step, taken))
        assert losses[chosen] <= min(losses.values()) * (1 + 1e-5)


@pytest.mark.parametrize("geometry", [FIXED, FREE])
def test_around_a_reference_no_crop_is_completed_worse_than_by_it(geometry, rng):
    crops = crops_of(geometry, 6, rng)
    targets = blur_target(crops)
    headings, spacings = filling_path(geometry)
    path = geometry.path(headings[None], spacings[None] if geometry.has_free_spacing else None)
    reference = losses_of(np.repeat(path, 6, axis=0).reshape(6, -1, 2), crops, targets, "infill")
    found = losses_of(
        scanned(LookAheadOracle("infill", geometry, around_reference=True), crops).positions, crops, targets, "infill"
    )
    assert (found <= reference * (1 + 1e-5)).all()
    assert found.mean() < 0.95 * reference.mean()


def test_it_sees_the_target_that_it_is_shown(rng):
    crops = crops_of(FREE, 3, rng)
    oracle = LookAheadOracle("nearest", FREE)
    blurred = scanned(oracle, crops).positions
    np.testing.assert_array_equal(scanned(oracle, crops, targets=blur_target(crops)).positions, blurred)
    # Judged by pictures that are all zero, it seeks the values nearest to zero.
    zeros = np.zeros_like(crops)
    sought = scanned(oracle, crops, targets=zeros)
    assert not np.array_equal(sought.positions, blurred)
    assert losses_of(sought.positions, crops, zeros).sum() < losses_of(blurred, crops, zeros).sum()


def test_no_more_candidates_are_completed_at_once_than_asked(rng):
    sizes = []

    def completer(scans):
        sizes.append(len(scans))
        return make_completer("nearest")(scans)

    crops = crops_of(FREE, 5, rng)
    scanned(LookAheadOracle(completer, FREE, batch_size=32), crops)
    assert max(sizes) == 32
    positions = scanned(LookAheadOracle("nearest", FREE, batch_size=10_000), crops).positions
    np.testing.assert_array_equal(scanned(LookAheadOracle(completer, FREE, batch_size=1), crops).positions, positions)


def test_what_was_measured_stays_as_it_was_measured(rng):
    """With noise, a completer sees the noisy value at a measured pixel and not the truth."""
    seen = []

    def completer(scans):
        seen.append(scans.clone())
        return scans[:, :1]

    oracle = LookAheadOracle(completer, FREE, n_headings=4)
    crops = crops_of(FREE, 1, rng)
    oracle.peek(crops, crops)
    scan = np.zeros((1, 2, 20, 20), np.float32)
    scan[0, 1, 8:14, 8:14], scan[0, 0, 8:14, 8:14] = 1.0, 0.123
    oracle.predict({"progress": np.full((1, 1), 0.2), "partial_scan": scan}, (np.full((1, 2), 10.0), np.array([1])))
    values, masks = torch.cat(seen).numpy().swapaxes(0, 1)
    assert (values[:, 8:14, 8:14] == np.float32(0.123)).all()
    new = masks.astype(bool) & (scan[:, 1] == 0.0)
    assert new.any()
    np.testing.assert_array_equal(values[new], np.broadcast_to(crops, values.shape)[new])


def test_it_has_to_be_shown_the_truth_of_its_scans(rng):
    oracle = LookAheadOracle("nearest", FREE)
    observation = {
        "progress": np.full((2, 1), 0.2),
        "position": np.zeros((2, 2)),
        "heading": np.ones((2, 2)),
        "partial_scan": np.zeros((2, 2, 20, 20)),
    }
    with pytest.raises(ValueError, match="got the truth of 0 scans; expected that of 2: call peek before the scan"):
        oracle.predict(observation)
    crops = crops_of(FREE, 2, rng)
    with pytest.raises(ValueError, match=r"targets have shape \(1, 20, 20\); expected \(2, 20, 20\)"):
        oracle.peek(crops, crops[:1])
    with pytest.raises(ValueError, match=r"crops have shape \(2, 9, 9\); expected \(2, 20, 20\)"):
        oracle.peek(crops[:, :9, :9], crops)
