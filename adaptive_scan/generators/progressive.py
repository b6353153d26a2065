"""A generator for progressive scans, which knows what it does not know: its error now, and after further passes.

A progressive scan measures a field in passes, each of which doubles the density of some blocks
(`adaptive_scan.scans.progressive`). What a pass measured was completed before it was measured. The residuals cost
neither dose nor training, and tell how good the completion is at this specimen and this instrument; a network's own
opinion of its error alone carries over badly to other laboratories. The generator sees both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.infill import pull_push_infill
from adaptive_scan.generators.losses import blur_targets

BLOCK = 16
"""Side of the blocks of which errors are predicted [px], that of `adaptive_scan.scans.progressive.NestedLattice`."""

N_HORIZONS = 3
"""Further passes after which errors are predicted."""

N_PASSES_SEEN = 2
"""Passes whose residuals are seen: the last of each block, and the one before it."""

_LEAST_DEVIATION = 1e-4  # keeps a field that seems uniform finite
_LEAST_ENERGY = 1e-6  # of residuals and errors, on [-1, 1]; below the steps of any detector
_LOWEST, _HIGHEST = -12.0, 6.0  # of logarithms of errors relative to the variance of what was measured
_DENSITY_SCALE, _LOG_SCALE = 10.0, 0.2  # bring inputs to the order of 1
_DENSITY_WINDOW = 9
_N_OF_BLOCK = 2 * N_PASSES_SEEN + 1  # maps of blocks: residuals, whether there are any, level


class Prediction(NamedTuple):
    """What the generator makes of partial scans.

    Attributes:
        completion: Completed pictures, shape (n_scans, 1, H, W).
        log_variance: Natural logarithm of the expected squared error of each pixel, the same shape.
        log_block_errors: Natural logarithm of the expected mean squared error of each block, now and after one, two
            and three further passes, shape (n_scans, 1 + `N_HORIZONS`, rows, columns).
    """

    completion: Tensor
    log_variance: Tensor
    log_block_errors: Tensor


class ProgressiveGenerator(nn.Module):
    """A U-Net that corrects a blurred pull-push interpolation, and predicts its errors.

    It works in units of what was measured: values less their mean, divided by their standard deviation, so that neither
    the grey scale of the unseen picture nor the contrast matters. It sees the values, the mask, the blurred
    interpolation and the local density at half resolution by space-to-depth, and for each block the logarithms of the
    residuals of its last two passes. Errors fall from horizon to horizon by construction.

    Args:
        n_channels: Channels of the finest level, at least 8.

    Attributes:
        config: Constructor keywords that rebuild the network.
        stride: 1: a field of any size is taken, and padded inside.

    Raises:
        SettingError: If ``n_channels`` is below 8.

    Example:
        >>> generator = ProgressiveGenerator(n_channels=8)
        >>> partial_scan = torch.zeros(1, 2, 40, 24)
        >>> partial_scan[0, :, 3::8, 3::8] = 1.0
        >>> generator(partial_scan).shape, generator.predict(partial_scan).log_block_errors.shape
        (torch.Size([1, 1, 40, 24]), torch.Size([1, 4, 3, 2]))
    """

    stride = 1

    def __init__(self, *, n_channels: int = 32) -> None:
        super().__init__()
        if n_channels < 8:
            raise SettingError(f"n_channels: got {n_channels}; expected at least 8")
        self.config: dict[str, Any] = {"n_channels": n_channels}
        widths = [round(n_channels * factor) for factor in (1.0, 1.5, 2.0, 3.0)]
        self.enter = _Block(4 * 4 + _N_OF_BLOCK, widths[0])
        self.down = nn.ModuleList(_Block(fine, coarse) for fine, coarse in pairwise(widths))
        self.up = nn.ModuleList(_Block(coarse + fine, fine) for fine, coarse in pairwise(widths))
        self.last = _zero(nn.Conv2d(widths[0], 8, 3, padding=1))
        n_seen = widths[0] + widths[-1] + _N_OF_BLOCK + N_PASSES_SEEN + 2
        self.head = nn.Sequential(
            nn.Conv2d(n_seen, 64, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, 64, 1),
            nn.SiLU(),
            _zero(nn.Conv2d(64, 1 + N_HORIZONS, 1)),
        )

    def forward(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, H, W), to pictures, shape (n_scans, 1, H, W)."""
        return self.predict(partial_scans).completion

    def predict(self, partial_scans: Tensor, residuals: Tensor | None = None) -> Prediction:
        """Complete partial scans and predict the errors of the completions.

        Args:
            partial_scans: Measured values and masks, shape (n_scans, 2, H, W), with a measured pixel in each scan.
            residuals: `residual_energy` of the last pass of each block and of the one before, newest first, NaN where
                there was none, shape (n_scans, `N_PASSES_SEEN`, rows, columns); None where nothing is known of passes.

        Returns:
            Completions and errors; blocks are counted from the first pixel, those at the far edges may be smaller.
        """
        height, width = partial_scans.shape[-2:]
        rows, columns = -(-height // BLOCK), -(-width // BLOCK)
        padded = F.pad(partial_scans, (0, columns * BLOCK - width, 0, rows * BLOCK - height))
        if residuals is None:
            residuals = padded.new_full((len(padded), N_PASSES_SEEN, rows, columns), math.nan)
        scale = _Scale.of(partial_scans)
        found = self._predict(scale.scaled(padded), residuals - 2.0 * scale.log_deviation)
        completion = scale.mean + scale.deviation * found.completion
        return Prediction(
            completion[..., :height, :width],
            (found.log_variance + 2.0 * scale.log_deviation)[..., :height, :width],
            found.log_block_errors + 2.0 * scale.log_deviation,
        )

    def _predict(self, scans: Tensor, residuals: Tensor) -> Prediction:
        """The prediction in units of what was measured."""
        masks = scans[:, 1:]
        start = blur_targets(pull_push_infill(scans))
        density = _DENSITY_SCALE * F.avg_pool2d(masks, _DENSITY_WINDOW, stride=1, padding=_DENSITY_WINDOW // 2)
        of_blocks = _of_blocks(residuals, masks)
        fine = F.pixel_unshuffle(torch.cat([scans, start, density], dim=1), 2)
        spread = F.interpolate(of_blocks[:, :_N_OF_BLOCK], scale_factor=BLOCK / 2, mode="bilinear")
        levels = [self.enter(torch.cat([fine, spread], dim=1))]
        for block in self.down:
            levels.append(block(F.avg_pool2d(levels[-1], 2)))
        features = levels[-1]
        for block, skipped in zip(reversed(self.up), reversed(levels[:-1]), strict=True):
            upper = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = block(torch.cat([upper, skipped], dim=1))
        last = self.last(features).float()
        log_variance = F.pixel_shuffle(last[:, 4:], 2).clamp(_LOWEST, _HIGHEST)
        completion = start + F.pixel_shuffle(last[:, :4], 2)
        errors = self._block_errors(features, levels[-1], of_blocks, residuals[:, :1], log_variance)
        return Prediction(completion, log_variance, errors)

    def _block_errors(
        self, fine: Tensor, coarse: Tensor, of_blocks: Tensor, residuals: Tensor, log_variance: Tensor
    ) -> Tensor:
        pooled = torch.log(F.avg_pool2d(torch.exp(log_variance), BLOCK) + _LEAST_ENERGY)
        seen = [F.avg_pool2d(fine, BLOCK // 2), coarse, of_blocks, _LOG_SCALE * pooled, _mean(_LOG_SCALE * pooled)]
        found = self.head(torch.cat(seen, dim=1)).float()
        # Between the two opinions, of the pixels and of the last residuals, where there are any.
        start = torch.where(residuals.isnan(), pooled, 0.5 * (pooled + residuals))
        now = (start + found[:, :1]).clamp(_LOWEST, _HIGHEST)
        falls = F.softplus(found[:, 1:] - 0.5).cumsum(dim=1)
        return torch.cat([now, now - falls], dim=1)


class _Block(nn.Module):
    """Two 3x3 convolutions beside one of a single pixel."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.beside = nn.Conv2d(n_in, n_out, 1)

    def forward(self, features: Tensor) -> Tensor:
        return F.silu(self.second(F.silu(self.first(features))) + self.beside(features))


class _Scale(NamedTuple):
    """Mean and standard deviation of what each scan measured, shape (n_scans, 1, 1, 1)."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, partial_scans: Tensor) -> _Scale:
        masks = partial_scans[:, 1:]
        values = torch.where(masks > 0, partial_scans[:, :1], 0.0)
        n_measured = masks.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1.0)
        mean = (values * masks).sum(dim=(1, 2, 3), keepdim=True) / n_measured
        variance = ((values - mean).square() * masks).sum(dim=(1, 2, 3), keepdim=True) / n_measured
        return cls(mean, variance.sqrt() + _LEAST_DEVIATION)

    @property
    def log_deviation(self) -> Tensor:
        return torch.log(self.deviation)

    def scaled(self, partial_scans: Tensor) -> Tensor:
        masks = partial_scans[:, 1:]
        values = torch.where(masks > 0, (partial_scans[:, :1] - self.mean) / self.deviation, 0.0)
        return torch.cat([values, masks], dim=1)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer that starts at zero, so that an untrained network returns what it corrects."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _mean(maps: Tensor) -> Tensor:
    """The mean over all blocks, for each of them."""
    return maps.mean(dim=(2, 3), keepdim=True).expand_as(maps)


def _of_blocks(residuals: Tensor, masks: Tensor) -> Tensor:
    """What is known of blocks: scaled residuals, whether there are any, level, and means over the field."""
    known = ~residuals.isnan()
    scaled = _LOG_SCALE * torch.where(known, residuals, 0.0)
    level = torch.log2(BLOCK**2 * F.avg_pool2d(masks, BLOCK) + 1.0) / 6.0
    return torch.cat([scaled, known.to(scaled), level, _mean(scaled)], dim=1)


def residual_energy(completions: Tensor, partial_scans: Tensor, new: Tensor) -> Tensor:
    """How far completions were from what was measured after them, by block, as log mean squared residual.

    A block that measured nothing new has none. The others are smoothed by 3 x 3 blocks, the middle one weighing three
    times, since a block of few positions says little on its own.

    Args:
        completions: What was completed before, shape (n_scans, 1, H, W).
        partial_scans: What is measured now, shape (n_scans, 2, H, W).
        new: 1 where a pixel was measured since, shape (n_scans, 1, H, W).

    Returns:
        Natural logarithms, NaN where nothing is new, shape (n_scans, 1, rows, columns).

    Example:
        >>> before, now = torch.zeros(1, 1, 16, 32), torch.full((1, 2, 16, 32), 0.5)
        >>> new = torch.zeros(1, 1, 16, 32)
        >>> new[..., :16] = 1.0
        >>> residual_energy(before, now, new).exp().round(decimals=2).flatten().tolist()
        [0.25, nan]
    """
    height, width = new.shape[-2:]
    spare = (0, -width % BLOCK, 0, -height % BLOCK)
    squared = torch.where(new > 0, (completions - partial_scans[:, :1]).square(), 0.0)
    energy, share = (F.avg_pool2d(F.pad(part, spare), BLOCK) for part in (squared, new))
    kernel = torch.ones(1, 1, 3, 3, dtype=new.dtype, device=new.device)
    kernel[0, 0, 1, 1] = 3.0
    smooth, weight = (F.conv2d(part, kernel, padding=1) for part in (energy, share))
    return torch.where(share > 0, torch.log(smooth / weight.clamp(min=1e-12) + _LEAST_ENERGY), math.nan)


class Passes:
    """Scans of a batch of fields, pass by pass, with what the generator made of each pass.

    Args:
        generator: ``(partial scans, residuals) -> Prediction``, such as `ProgressiveGenerator.predict`.
        partial_scans: What the survey measured, shape (n_scans, 2, H, W).

    Attributes:
        partial_scans: All that is measured so far.
        residuals: Residuals of the last two passes of each block, as `ProgressiveGenerator.predict` takes them.
        prediction: What the generator makes of it.

    Example:
        >>> survey = torch.zeros(1, 2, 32, 32)
        >>> survey[:, :, 3::8, 3::8] = 1.0
        >>> passes = Passes(ProgressiveGenerator(n_channels=8).predict, survey)
        >>> passes.residuals.isnan().all().item()
        True
    """

    def __init__(self, generator: Callable[[Tensor, Tensor], Prediction], partial_scans: Tensor) -> None:
        height, width = partial_scans.shape[-2:]
        shape = (len(partial_scans), N_PASSES_SEEN, -(-height // BLOCK), -(-width // BLOCK))
        self._generator = generator
        self.partial_scans = partial_scans
        self.residuals = partial_scans.new_full(shape, math.nan)
        self.prediction = generator(partial_scans, self.residuals)

    def measured(self, partial_scans: Tensor) -> Prediction:
        """Take what is measured after a further pass, and predict again.

        Args:
            partial_scans: All that is measured now, shape (n_scans, 2, H, W).

        Returns:
            The new prediction.
        """
        new = ((partial_scans[:, 1:] > 0) & ~(self.partial_scans[:, 1:] > 0)).to(partial_scans)
        found = residual_energy(self.prediction.completion, partial_scans, new)
        older = torch.cat([found, self.residuals[:, :-1]], dim=1)
        self.residuals = torch.where(found.isnan(), self.residuals, older)
        self.partial_scans = partial_scans
        self.prediction = self._generator(partial_scans, self.residuals)
        return self.prediction
