from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from adaptive_scan.generators.noise_levels import NoiseLevelPredictors
from adaptive_scan.trees import read_tree, write_tree


def _noisy(n_scans: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ramps under noise of two levels, and the losses of a completion that leaves out the noise."""
    levels = torch.where(torch.arange(n_scans) % 2 == 0, 0.1, 0.4)
    ramps = torch.linspace(-0.5, 0.5, 16).expand(n_scans, 1, 16, 16)
    noise = levels[:, None, None, None] * torch.randn(n_scans, 1, 16, 16, generator=generator)
    return ramps + noise, 10 * noise.square().mean(dim=(1, 2, 3))


def _trained(n_updates: int = 150) -> NoiseLevelPredictors:
    predictors = NoiseLevelPredictors(learning_rate=3e-3, decay=0.9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(n_updates):
        targets, losses = _noisy(16, generator)
        predictors.update(predictors.draw_crops(targets, generator), losses)
    return predictors


def test_weighted_losses_of_noisy_and_clean_pictures_become_alike() -> None:
    predictors = _trained()
    generator = torch.Generator().manual_seed(2)
    targets, losses = _noisy(64, generator)
    weighted = losses * predictors.weights(predictors.draw_crops(targets, generator))
    plain_ratio = losses[1::2].mean() / losses[::2].mean()
    assert plain_ratio == pytest.approx(16, rel=0.1)
    assert 0.5 < weighted[1::2].mean() / weighted[::2].mean() < 2
    assert predictors.mean == pytest.approx(10 * (0.01 + 0.16) / 2, rel=0.1)


def test_all_weights_are_one_before_learning_and_bounded_by_the_floor_after() -> None:
    generator = torch.Generator().manual_seed(0)
    targets, _ = _noisy(4, generator)
    predictors = NoiseLevelPredictors(floor=0.25, learning_rate=0.1)
    crops = predictors.draw_crops(targets, generator)
    assert predictors.weights(crops).tolist() == [1.0] * 4
    # one loss of two is the running mean twice over, the other 0: the network is told 2, 2, 0, 0
    for _ in range(50):
        predictors.update(crops, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    weights = predictors.weights(crops)
    assert predictors.mean == pytest.approx(0.5)
    assert (weights <= 4).all()
    torch.testing.assert_close(weights, 1 / predictors.predictions(crops).clamp(min=0.25))
    assert weights[:2].mean() < weights[2:].mean()


def test_first_error_and_running_mean_by_hand() -> None:
    predictors = NoiseLevelPredictors(n_crops=3, decay=0.9)
    crops = torch.zeros(2, 3, 25)
    assert predictors.mean == 1.0
    # mean 3: the first prediction, 1, misses 1/3 and 5/3
    assert predictors.update(crops, torch.tensor([1.0, 5.0])) == pytest.approx((4 / 9 + 4 / 9) / 2)
    assert predictors.mean == pytest.approx(3.0)
    predictors.update(crops, torch.tensor([1.0, 1.0]))
    assert predictors.mean == pytest.approx((0.9 * 0.1 * 3 + 0.1 * 1) / (0.9 * 0.1 + 0.1))


def test_losses_of_zero_have_no_scale() -> None:
    predictors = NoiseLevelPredictors(n_crops=3)
    assert predictors.update(torch.zeros(2, 3, 25), torch.zeros(2)) == pytest.approx(1.0)
    assert predictors.mean == 1.0


def test_crops_are_those_of_their_places_and_reach_every_edge() -> None:
    targets = torch.arange(2 * 64.0).view(2, 1, 8, 8)
    predictors = NoiseLevelPredictors(n_crops=200, crop_size=5)
    places = predictors.draw_places(2, 8, torch.Generator().manual_seed(0))
    assert places.shape == (2, 200, 2)
    assert (places.amin(dim=(0, 1)).tolist(), places.amax(dim=(0, 1)).tolist()) == ([0, 0], [3, 3])
    crops = predictors.cut(targets, places)
    for scan, index in ((0, 0), (1, 7), (1, 199)):
        row, column = places[scan, index].tolist()
        expected = targets[scan, 0, row : row + 5, column : column + 5]
        assert torch.equal(crops[scan, index].view(5, 5), expected)


def test_pictures_smaller_than_a_crop_are_refused() -> None:
    with pytest.raises(ValueError, match="pictures have side 4 px; expected at least 5"):
        NoiseLevelPredictors().draw_places(1, 4, torch.Generator())


def test_learning_goes_on_from_a_file_to_the_same_bits(tmp_path: Path) -> None:
    first, second = _trained(3), NoiseLevelPredictors(learning_rate=3e-3, decay=0.9, seed=8)
    write_tree(tmp_path / "state.safetensors", first.state_dict())
    second.load_state_dict(read_tree(tmp_path / "state.safetensors"))
    crops = torch.rand(4, 20, 25, generator=torch.Generator().manual_seed(0))
    for predictors in (first, second):
        predictors.update(crops, torch.arange(4.0))
    assert first.mean == second.mean
    assert torch.equal(first.weights(crops), second.weights(crops))


def test_first_weights_come_from_the_seed_and_leave_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = (NoiseLevelPredictors(seed=seed).network.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first["0.weight"], second["0.weight"])
    assert not torch.equal(first["0.weight"], other["0.weight"])
    assert [tuple(first[f"{layer}.weight"].shape) for layer in (0, 2, 4)] == [(100, 25), (200, 100), (1, 200)]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"n_crops": 0}, "n_crops: got 0; expected at least 1"),
        ({"crop_size": 0}, "crop_size: got 0; expected at least 1"),
        ({"widths": ()}, "widths: got 0; expected at least 1"),
        ({"learning_rate": 0.0}, "learning_rate: got 0.0; expected more than 0"),
        ({"floor": float("nan")}, "floor: got nan; expected more than 0"),
        ({"decay": 1.0}, "decay: got 1.0; expected 0 or more, and less than 1"),
    ],
)
def test_settings_out_of_range_are_refused(keywords: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseLevelPredictors(**keywords)  # type: ignore[arg-type]
