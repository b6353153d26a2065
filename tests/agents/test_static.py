"""Static scans as policies: in the environment they measure the static path."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adaptive_scan.agents import StaticScanPolicy
from adaptive_scan.envs import PartialScanEnv, PartialScanVectorEnv
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.contenders import Contender, measure
from adaptive_scan.scans import PRESETS, ScanGeometry, archimedean_spiral, polygonal_spiral, sample

SMALL = ScanGeometry(16, 5, 4, 1.5)
FREE = ScanGeometry(32, 6, 4, (0.5, 4.0))


def run(env, policy):
    observation, _ = env.reset(seed=0)
    terminated, info = False, {}
    while not terminated:
        action, state = policy.predict(observation, None, np.array([False]))
        assert state is None
        observation, _, terminated, _, info = env.step(action)
    return info


@pytest.mark.parametrize("name", PRESETS)
def test_the_polygonal_spiral_is_measured_to_the_last_bit(name, rng):
    geometry = PRESETS[name]
    crops = rng.uniform(-1, 1, (1, geometry.image_size, geometry.image_size)).astype(np.float32)
    path = geometry.path(polygonal_spiral(geometry)[None])
    policy = StaticScanPolicy(polygonal_spiral(geometry), geometry)
    env = PartialScanEnv(crops, geometry=geometry, completer=None)
    info = run(env, policy)
    assert np.array_equal(info["positions"], path[0])
    assert np.array_equal(info["values"], sample(env.batch.source.crops, path)[0])


def test_headings_beyond_a_turn_are_followed(rng):
    headings = rng.uniform(-20, 20, SMALL.n_segments)
    headings[0] = SMALL.first_heading + 2 * math.pi
    info = run(PartialScanEnv(geometry=SMALL, completer=None), StaticScanPolicy(headings, SMALL))
    np.testing.assert_allclose(info["positions"], SMALL.path(headings[None])[0], atol=1e-5)


@pytest.mark.parametrize("flat", [False, True])
def test_positions_give_headings_and_free_spacings_back(flat, rng):
    headings = rng.uniform(-3, 3, FREE.n_segments)
    headings[0] = FREE.first_heading
    spacings = np.exp(rng.uniform(math.log(0.5), math.log(4.0), FREE.n_segments))
    spacings[0] = FREE.first_spacing
    path = FREE.path(headings[None], spacings[None])[0]
    policy = StaticScanPolicy(path.reshape(-1, 2) if flat else path, FREE)
    np.testing.assert_allclose(policy.headings, headings, atol=1e-4)
    np.testing.assert_allclose(policy.spacings, spacings, atol=1e-4)
    info = run(PartialScanEnv(geometry=FREE, completer=None), policy)
    np.testing.assert_allclose(info["positions"], path, atol=1e-2)


def test_batches_need_not_be_in_step():
    policy = StaticScanPolicy(polygonal_spiral(SMALL), SMALL)
    progress = np.array([[0.2], [0.8], [0.6], [1.0]], np.float32)
    actions, _ = policy.predict({"progress": progress})
    headings = policy.headings[[1, 4, 3, 4]]
    np.testing.assert_allclose(actions, np.stack([np.cos(headings), np.sin(headings)], axis=1))
    single, _ = policy.predict({"progress": progress[1]})
    assert np.array_equal(single, actions[1])


def test_batch_of_environments_and_comparison_follow_the_path(rng):
    crops = rng.uniform(-1, 1, (3, 16, 16)).astype(np.float32)
    headings = polygonal_spiral(SMALL)
    path = SMALL.path(headings[None])
    policy = StaticScanPolicy(headings, SMALL)
    envs = PartialScanVectorEnv(3, crops, geometry=SMALL, completer=None)
    observations, infos = envs.reset(seed=0)
    for _ in range(SMALL.n_segments - 1):
        observations, _, _, _, infos = envs.step(policy.predict(observations)[0])
    assert np.array_equal(infos["final_info"]["positions"], np.repeat(path, 3, axis=0))
    measured = measure(Contender("spiral", policy=policy), crops, SMALL)
    assert np.array_equal(measured.values, sample(crops, path).reshape(3, -1))


def test_other_paths_are_refused():
    headings = polygonal_spiral(SMALL)
    with pytest.raises(SettingError, match=r"headings of shape \(3,\); expected \(5,\)"):
        StaticScanPolicy(headings[:3], SMALL)
    with pytest.raises(SettingError, match=r"first heading 1\.0854 rad; expected the geometry's, 0\.785398 rad"):
        StaticScanPolicy(headings + 0.3, SMALL)
    with pytest.raises(SettingError, match=r"positions of shape \(7, 2\); expected \(5, 4, 2\) or \(20, 2\)"):
        StaticScanPolicy(np.zeros((7, 2)), SMALL)
    with pytest.raises(SettingError, match="px off such a path"):
        StaticScanPolicy(archimedean_spiral(SMALL.n_positions_total, SMALL.image_size), SMALL)
    with pytest.raises(SettingError, match="px off such a path"):
        StaticScanPolicy(SMALL.path(headings[None])[0] + 1.0, SMALL)
    with pytest.raises(SettingError, match="not finite"):
        StaticScanPolicy(np.full(5, np.nan), SMALL)
