from pathlib import Path

import numpy as np
import pytest
import torch

from adaptive_scan.acquisition import make_instrument
from adaptive_scan.agents.path_loss import Readings
from adaptive_scan.agents.pathwise import (
    PathwiseActor,
    PathwisePolicy,
    PathwiseSettings,
    load_pathwise,
    pathwise_geometry,
    single_positions,
)
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation import Contender, measure
from adaptive_scan.evaluation.contenders import instrument_seed
from adaptive_scan.files import FileContentError
from adaptive_scan.scans import STATIC_SCANS, ScanGeometry, filling_path, static_scan
from adaptive_scan.scans.waypoints import corners_of
from adaptive_scan.trees import write_tree


def make_actor(n_segments: int, n_positions: int, *, trained: bool = True, **settings: float) -> PathwiseActor:
    geometry = ScanGeometry(24, n_segments, n_positions, spacing=(0.7, 9.0))
    path = (torch.from_numpy(part) for part in filling_path(geometry))
    torch.manual_seed(0)
    actor = PathwiseActor(corners_of(geometry, *path).float(), geometry, PathwiseSettings(**settings))
    if trained:
        torch.nn.init.normal_(actor.choice.weight, std=0.3)
    return actor


def textured(n_crops: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (n_crops, 24, 24)).astype(np.float32)


@pytest.mark.parametrize(("n_segments", "n_positions", "together"), [(24, 1, 4), (13, 2, 3), (6, 4, 1), (5, 1, 8)])
def test_the_policy_measures_in_the_environment_what_the_actor_scanned(
    n_segments: int, n_positions: int, together: int
) -> None:
    actor = make_actor(n_segments, n_positions, n_together=together)
    crops = textured(5)
    with torch.no_grad():
        expected = actor.scan(torch.from_numpy(crops)).reshape(5, -1, 2).numpy()
    policy = PathwisePolicy(actor)
    contender = Contender("pathwise", policy=policy, environment=policy.environment)
    found = measure(contender, crops, ScanGeometry(24, n_segments, n_positions))
    np.testing.assert_allclose(found.positions, expected, atol=1e-3)
    if n_segments > 2 * together:
        assert np.abs(found.positions - found.positions[:1]).max() > 0.1  # crops differ, and so do paths


@pytest.mark.parametrize("acquisition", ["low-dose", "fast-scan"])
@pytest.mark.parametrize(("n_segments", "n_positions", "together"), [(24, 1, 4), (13, 2, 3)])
def test_the_actor_meets_the_faults_that_the_policy_meets_in_the_environment(
    acquisition: str, n_segments: int, n_positions: int, together: int
) -> None:
    # Lags and drift carry on from segment to segment, in the one as in the other.
    actor = make_actor(n_segments, n_positions, n_together=together)
    crops, instrument = textured(5), make_instrument(acquisition)
    keys = instrument.begin(5, np.random.default_rng(instrument_seed(3, 0))).keys
    readings = Readings(instrument, torch.from_numpy(crops), keys)
    with torch.no_grad():
        positions = actor.scan(torch.from_numpy(crops), readings)
        ideal = actor.scan(torch.from_numpy(crops))
    policy = PathwisePolicy(actor)
    contender = Contender("pathwise", policy=policy, environment=policy.environment)
    geometry = ScanGeometry(24, n_segments, n_positions)
    found = measure(contender, crops, geometry, acquisition=acquisition, seed=3)
    np.testing.assert_allclose(positions.reshape(5, -1, 2).numpy(), found.positions, atol=2e-3)
    np.testing.assert_allclose(readings.follow(positions).reshape(5, -1).numpy(), found.values, atol=1e-3)
    assert (positions - ideal).abs().max() > 0.1


def test_an_untrained_actor_follows_the_reference() -> None:
    actor = make_actor(24, 1, trained=False)
    with torch.no_grad():
        positions = actor.scan(torch.from_numpy(textured(2)))
    torch.testing.assert_close(positions[:, :, 0], actor.reference[:-1].expand(2, -1, -1), atol=1e-4, rtol=0)


def test_a_corner_that_was_moved_does_not_move_those_after_it() -> None:
    actor = make_actor(24, 1, trained=False, n_together=2, largest_offset=2.0)
    state, nothing = actor.begin(1), torch.zeros(1, 2, 24, 24)
    with torch.no_grad():
        actor.choice.bias[:] = torch.tensor([20.0, -20.0, 20.0, 20.0])
        moved, state = actor.decide(nothing, torch.zeros(1, 2), 1, state)
        torch.testing.assert_close(moved[0, 0], actor.reference[2] + torch.tensor([2.0, -2.0]))
        torch.testing.assert_close(moved[0, 1], actor.reference[3] + torch.tensor([2.0, 2.0]))
        actor.choice.bias[:] = 0.0
        back, _ = actor.decide(nothing, torch.zeros(1, 2), 3, state)
    torch.testing.assert_close(back[0], actor.reference[4:6])


def test_nothing_of_the_rest_of_the_crop_is_seen() -> None:
    # Two crops that differ only where the probe has not been yet give the same path so far.
    actor = make_actor(24, 1)
    crops = torch.from_numpy(textured(1)).repeat(2, 1, 1)
    with torch.no_grad():
        path = actor.scan(crops)[0, :, 0]
        seen = torch.zeros(24, 24, dtype=torch.bool)
        rows, columns = path[:9].round().clamp(0, 23).long().unbind(-1)
        seen[rows, columns] = True
        crops[1, ~seen] = 1.0
        both = actor.scan(crops)
    torch.testing.assert_close(both[0, :10], both[1, :10])
    assert (both[0] - both[1]).abs().max() > 0.05


def test_the_loss_of_positions_reaches_the_weights() -> None:
    actor = make_actor(12, 1)
    actor.scan(torch.from_numpy(textured(2))).square().mean().backward()
    for name, weights in actor.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.abs().max() > 0, name


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    policy = PathwisePolicy(make_actor(12, 2, n_together=3, hidden_size=8))
    policy.save(tmp_path / "policy.safetensors")
    loaded = load_pathwise(tmp_path / "policy.safetensors")
    assert loaded.actor.settings == policy.actor.settings
    assert loaded.actor.geometry == policy.actor.geometry
    crops = torch.from_numpy(textured(3))
    with torch.no_grad():
        assert torch.equal(loaded.actor.scan(crops), policy.actor.scan(crops))


def test_files_that_hold_no_policy_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    with pytest.raises(FileContentError, match=r"policy\.safetensors: "):
        load_pathwise(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(FileContentError, match=r"policy\.safetensors: "):
        load_pathwise(path)
    for tree in ({"kind": "something else"}, {}, {"kind": "adaptive_scan.pathwise", "geometry": {}, "settings": {}}):
        write_tree(path, tree)
        with pytest.raises(FileContentError, match="no pathwise policy"):
            load_pathwise(path)


def test_references_and_settings_that_do_not_fit_are_refused() -> None:
    geometry = ScanGeometry(24, 6, 1, spacing=(0.7, 9.0))
    corners = corners_of(geometry, *(torch.from_numpy(part) for part in filling_path(geometry))).float()
    with pytest.raises(SettingError, match="expected finite corners"):
        PathwiseActor(corners[:-1], geometry)
    with pytest.raises(SettingError, match="off the first segment"):
        PathwiseActor(corners + 1.0, geometry)
    with pytest.raises(SettingError, match="free spacing"):
        PathwiseActor(corners, ScanGeometry(24, 6, 1))
    with pytest.raises(SettingError, match=r"largest_offset: got 0\.0"):
        PathwiseSettings(largest_offset=0.0)
    with pytest.raises(SettingError, match="n_together: got 0"):
        PathwiseSettings(n_together=0)


def test_the_geometry_of_single_positions_has_the_same_dose() -> None:
    found = pathwise_geometry(ScanGeometry(48, 10, 10))
    assert (found.n_positions_total, found.n_positions, found.image_size) == (100, 1, 48)
    assert found.spacing_bounds[1] == pytest.approx(3 * 4.8)
    with pytest.raises(SettingError, match="divisor of 100, the positions"):
        pathwise_geometry(ScanGeometry(48, 10, 10), n_positions=3)


@pytest.mark.parametrize("family", sorted(name for name, scan in STATIC_SCANS.items() if not scan.random))
def test_every_static_path_is_one_of_single_positions(family: str) -> None:
    positions = static_scan(family, 60, 48)
    geometry, headings, spacings = single_positions(positions, 48)
    np.testing.assert_allclose(geometry.path(headings[None], spacings[None])[0, :, 0], positions, atol=1e-3)
    corners = corners_of(geometry, torch.from_numpy(headings), torch.from_numpy(spacings)).float()
    with torch.no_grad():
        followed = PathwiseActor(corners, geometry).scan(torch.zeros(1, 48, 48))
    np.testing.assert_allclose(followed[0, :, 0].numpy(), positions, atol=1e-2)


def test_a_path_of_other_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="positions have shape"):
        single_positions(np.zeros((1, 2)), 8)
