"""The generator of progressive scans: units, sizes, horizons, residuals of passes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.progressive import (
    BLOCK,
    N_HORIZONS,
    Passes,
    Prediction,
    ProgressiveGenerator,
    residual_energy,
)
from adaptive_scan.scans.progressive import NestedLattice


def scan_of(pictures: Tensor, level: int) -> Tensor:
    lattice = NestedLattice((int(pictures.shape[-2]), int(pictures.shape[-1])))
    mask = torch.from_numpy(lattice.levels <= level).float().expand(len(pictures), 1, -1, -1)
    return torch.cat([pictures * mask, mask], dim=1)


@pytest.fixture
def pictures(rng: np.random.Generator) -> Tensor:
    rows, columns = np.indices((48, 64))
    waves = np.sin(rows / 5.0) + np.cos(columns / 7.0) + rng.normal(0, 0.1, (3, 48, 64))
    return torch.from_numpy(0.4 * waves[:, None]).float()


@pytest.fixture
def generator() -> ProgressiveGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = ProgressiveGenerator(n_channels=8)
        for parameter in made.parameters():  # the last layers start at zero, which would hide everything
            nn.init.normal_(parameter, std=0.05)
    return made.eval()


def test_an_untrained_generator_interpolates_and_halves_no_error(pictures: Tensor) -> None:
    found = ProgressiveGenerator(n_channels=8).predict(scan_of(pictures, 4))
    assert found.completion.shape == pictures.shape
    assert (found.completion - pictures).square().mean() < 0.2 * pictures.var()
    assert found.log_block_errors.shape == (3, 1 + N_HORIZONS, 3, 4)


@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (0.1, -0.7), (1.0, 5.0)])
def test_grey_scales_do_not_matter(
    generator: ProgressiveGenerator, pictures: Tensor, gain: float, offset: float
) -> None:
    plain = Passes(generator.predict, scan_of(pictures, 2))
    other = Passes(generator.predict, scan_of(gain * pictures + offset, 2))
    for level in (3, 4):
        plain.measured(scan_of(pictures, level))
        other.measured(scan_of(gain * pictures + offset, level))
    torch.testing.assert_close(
        other.prediction.completion, gain * plain.prediction.completion + offset, rtol=2e-2, atol=2e-2 * gain
    )
    shift = 2 * math.log(gain)
    torch.testing.assert_close(
        other.prediction.log_block_errors, plain.prediction.log_block_errors + shift, rtol=0, atol=0.1
    )
    torch.testing.assert_close(other.residuals, plain.residuals + shift, rtol=0, atol=0.1, equal_nan=True)


def test_errors_fall_from_horizon_to_horizon(generator: ProgressiveGenerator, pictures: Tensor) -> None:
    errors = generator.predict(scan_of(pictures, 3)).log_block_errors
    assert (errors.diff(dim=1) < 0).all()


@pytest.mark.parametrize("shape", [(16, 16), (33, 70), (90, 17)])
def test_fields_of_any_size_are_completed(generator: ProgressiveGenerator, shape: tuple[int, int]) -> None:
    scan = scan_of(torch.rand(2, 1, *shape), 3)
    found = generator.predict(scan)
    assert found.completion.shape == found.log_variance.shape == (2, 1, *shape)
    assert found.log_block_errors.shape[-2:] == NestedLattice(shape).n_blocks
    assert all(part.isfinite().all() for part in found)


def test_what_lies_outside_the_mask_is_not_looked_at(generator: ProgressiveGenerator, pictures: Tensor) -> None:
    scan = scan_of(pictures, 3)
    spoiled = scan.clone()
    spoiled[:, 0][scan[:, 1] == 0] = math.nan
    torch.testing.assert_close(generator(spoiled), generator(scan))


def test_a_uniform_field_is_finite(generator: ProgressiveGenerator) -> None:
    found = generator.predict(scan_of(torch.zeros(1, 1, 32, 32), 2))
    assert all(part.isfinite().all() for part in found)
    assert found.completion.abs().max() < 1e-2


def test_residuals_are_those_of_a_slow_sum(rng: np.random.Generator) -> None:
    completions, values = (torch.from_numpy(rng.normal(size=(2, 1, 40, 56))).float() for _ in range(2))
    new = torch.from_numpy((rng.random((2, 1, 40, 56)) < 0.05).astype(np.float32))
    new[:, :, :16, :16] = 0
    scans = torch.cat([values, torch.ones_like(values)], dim=1)
    found = residual_energy(completions, scans, new).exp().numpy()
    squared = ((completions - values).square() * new).numpy()
    for scan in range(2):
        for row in range(3):
            for column in range(4):
                block = np.s_[scan, 0, BLOCK * row : BLOCK * row + BLOCK, BLOCK * column : BLOCK * column + BLOCK]
                if not new.numpy()[block].any():
                    assert math.isnan(found[scan, 0, row, column])
                    continue
                total = weight = 0.0
                for r in range(max(row - 1, 0), min(row + 2, 3)):
                    for c in range(max(column - 1, 0), min(column + 2, 4)):
                        near = np.s_[scan, 0, BLOCK * r : BLOCK * r + BLOCK, BLOCK * c : BLOCK * c + BLOCK]
                        factor = 3.0 if (r, c) == (row, column) else 1.0
                        total += factor * squared[near].sum()
                        weight += factor * new.numpy()[near].sum()
                assert found[scan, 0, row, column] == pytest.approx(total / weight + 1e-6, rel=1e-4)


def test_a_block_keeps_the_residuals_of_its_own_last_passes(pictures: Tensor) -> None:
    seen: list[Tensor] = []

    def constant(partial_scans: Tensor, residuals: Tensor) -> Prediction:
        seen.append(residuals)
        return Prediction(torch.zeros_like(partial_scans[:, :1]), partial_scans[:, :1], residuals)

    lattice = NestedLattice((48, 64))
    levels = np.full(lattice.n_blocks, 2)
    passes = Passes(constant, scan_of(pictures, 2))
    first = scan_of(pictures, 3)
    passes.measured(first)
    levels[:] = 3
    levels[0, 0] = 4
    mask = torch.from_numpy(lattice.mask(levels)).float().expand(3, 1, -1, -1)
    passes.measured(torch.cat([pictures * mask, mask], dim=1))
    assert seen[0].isnan().all()
    assert seen[1][:, 0].isfinite().all()
    assert seen[1][:, 1].isnan().all()
    assert torch.equal(seen[2][:, 1, 0, 0], seen[1][:, 0, 0, 0])
    assert seen[2][:, 1].isnan().sum() == 3 * 11
    assert torch.equal(seen[2][:, 0, 1:], seen[1][:, 0, 1:])


def test_too_few_channels_are_refused() -> None:
    with pytest.raises(SettingError, match="n_channels: got 7; expected at least 8"):
        ProgressiveGenerator(n_channels=7)
