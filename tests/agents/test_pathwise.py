from pathlib import Path

import numpy as np
import pytest
import torch

from adaptive_scan.agents.pathwise import (
    PathwiseActor,
    PathwisePolicy,
    PathwiseSettings,
    load_pathwise,
    pathwise_geometry,
)
from adaptive_scan.evaluation import Contender, measure
from adaptive_scan.files import FileContentError
from adaptive_scan.scans import ScanGeometry, filling_path
from adaptive_scan.scans.waypoints import corners_of


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


@pytest.mark.parametrize("content", [None, b"", b"not safetensors"])
def test_files_that_hold_no_policy_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "policy.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileContentError, match="expected a pathwise policy"):
        load_pathwise(path)


def test_references_and_settings_that_do_not_fit_are_refused() -> None:
    geometry = ScanGeometry(24, 6, 1, spacing=(0.7, 9.0))
    corners = corners_of(geometry, *(torch.from_numpy(part) for part in filling_path(geometry))).float()
    with pytest.raises(ValueError, match="expected finite corners"):
        PathwiseActor(corners[:-1], geometry)
    with pytest.raises(ValueError, match="off the first segment"):
        PathwiseActor(corners + 1.0, geometry)
    with pytest.raises(ValueError, match="free spacing"):
        PathwiseActor(corners, ScanGeometry(24, 6, 1))
    with pytest.raises(ValueError, match=r"largest_offset is 0\.0"):
        PathwiseSettings(largest_offset=0.0)
    with pytest.raises(ValueError, match="n_together is 0"):
        PathwiseSettings(n_together=0)


def test_the_geometry_of_single_positions_has_the_same_dose() -> None:
    found = pathwise_geometry(ScanGeometry(48, 10, 10))
    assert (found.dose, found.n_positions, found.image_size) == (100, 1, 48)
    assert found.spacing_bounds[1] == pytest.approx(3 * 4.8)
    with pytest.raises(ValueError, match="divisor of the dose, 100"):
        pathwise_geometry(ScanGeometry(48, 10, 10), n_positions=3)
