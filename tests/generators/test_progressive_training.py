"""Training of the generator of progressive scans."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.progressive import Passes, ProgressiveGenerator
from adaptive_scan.generators.progressive_training import ProgressiveTrainer, ProgressiveTraining, error_likelihood
from adaptive_scan.micrographs import ArrayCrops

SIDE = 48


def bank(n: int = 60, seed: int = 0) -> ArrayCrops:
    """Smooth fields, half of them with structure in one half only."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, SIDE, SIDE))
    fine, coarse = (ndimage.gaussian_filter(noise, (0, sigma, sigma)) for sigma in (1.5, 6.0))
    pictures = coarse / coarse.std() + np.where(np.arange(SIDE) < SIDE // 2, 0.8, 0.0) * fine / fine.std()
    return ArrayCrops(pictures, symmetries=False)


def trainer(settings: ProgressiveTraining, crops: ArrayCrops | None = None) -> ProgressiveTrainer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = ProgressiveGenerator(n_channels=8)
    return ProgressiveTrainer(generator, bank() if crops is None else crops, settings)


def test_the_likelihood_is_least_at_the_mean_error() -> None:
    errors = torch.distributions.Exponential(1 / 0.3).sample((20_000,))
    expected = torch.linspace(math.log(0.1), math.log(1.0), 91)
    values = torch.stack([error_likelihood(each.expand_as(errors), errors).mean() for each in expected])
    assert math.exp(float(expected[values.argmin()])) == pytest.approx(0.3, rel=0.05)


def test_one_surprise_has_a_bounded_pull() -> None:
    log_expected = torch.zeros(2, requires_grad=True)
    error_likelihood(log_expected, torch.tensor([math.exp(3.9), 1e9])).sum().backward()
    assert log_expected.grad is not None
    assert log_expected.grad[1] == pytest.approx(1.0 - math.exp(4.0), rel=1e-4)
    assert log_expected.grad[0] == pytest.approx(1.0 - math.exp(3.9), rel=1e-3)


def test_training_goes_on_to_the_same_bits() -> None:
    settings = ProgressiveTraining(n_updates=6, batch_size=3, warm_up=2)
    whole, first = trainer(settings), trainer(settings)
    figures = [whole.update() for _ in range(6)]
    assert [first.update() for _ in range(3)] == figures[:3]
    second = trainer(settings)
    second.load_state_dict(first.state_dict())
    assert [second.update() for _ in range(3)] == figures[3:]
    for one, other in zip(whole.averaged.parameters(), second.averaged.parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_learns_to_complete_and_where_it_is_wrong() -> None:
    settings = ProgressiveTraining(n_updates=150, batch_size=8, warm_up=20, learning_rate=4e-3, augmented_share=0.0)
    learning = trainer(settings)
    figures = [learning.update() for _ in range(settings.n_updates)]
    assert np.mean([each["relative_error"] for each in figures[-30:]]) < 0.9
    held_out = torch.from_numpy(bank(32, seed=1).crops)[:, None]
    levels = torch.full((32, *learning.lattice.n_blocks), 2)
    with torch.no_grad():
        passes = Passes(learning.averaged.predict, learning._measured(held_out, levels))
        found = passes.measured(learning._measured(held_out, levels + 1))
    errors = found.log_block_errors[:, 0].exp()
    # Structure is in the left half, and further passes are predicted to help there.
    assert errors[:, :, 0].mean() > 1.5 * errors[:, :, 2].mean()
    gains = errors - found.log_block_errors[:, 1].exp()
    assert gains[:, :, 0].mean() > 1.5 * gains[:, :, 2].mean()


@pytest.mark.parametrize("way", [0.1, 0.4, 0.9])
def test_only_blocks_of_the_last_pass_are_refined(way: float, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(ProgressiveTraining(n_updates=1, batch_size=4))
    seen = []
    measured = made._measured

    def watched(fields: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        seen.append(levels.clone())
        return measured(fields, levels)

    monkeypatch.setattr(made, "_measured", watched)
    for _ in range(10):
        seen.clear()
        made._scan(made._draw())
        for before, after in pairwise(seen):
            top = before.amax(dim=(1, 2), keepdim=True)
            assert set((after - before).unique().tolist()) <= {0, 1}
            assert (before == top)[after > before].all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_updates": 0}, "n_updates: got 0; expected at least 1"),
        ({"learning_rate": -1.0}, "learning_rate: got -1.0; expected a number of at least 0"),
        ({"augmented_share": 1.5}, "augmented_share: got 1.5; expected 0 to 1"),
        ({"precision": "int8"}, "precision: got 'int8'; expected 'float32' or 'bfloat16'"),
        ({"finest_level": 7}, "finest_level: got 7; expected 3 to 5"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        ProgressiveTraining(**settings)


def test_sides_that_hold_no_whole_blocks_are_refused() -> None:
    with pytest.raises(SettingError, match="crops: got a side of 20 px; expected a multiple of 16"):
        trainer(ProgressiveTraining(), ArrayCrops(np.random.default_rng(0).normal(size=(2, 20, 20))))
