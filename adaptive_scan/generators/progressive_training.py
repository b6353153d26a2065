"""Training of the generator of progressive scans: fields scanned pass by pass, errors now and after further passes."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.averaging import averaged_copy, move_average, warm_decay
from adaptive_scan.generators.infill import pull_push_infill
from adaptive_scan.generators.loss_settings import LOSS_SCALE
from adaptive_scan.generators.losses import blur_targets
from adaptive_scan.generators.progressive import BLOCK, N_HORIZONS, Passes, Prediction, ProgressiveGenerator
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans.progressive import NestedLattice
from adaptive_scan.specimens.imaging import ImagingSettings, record

AUGMENTATION = ImagingSettings(
    blurs=(0.0, 0.7, 1.1, 1.8),
    blur_shares=(0.65, 0.12, 0.12, 0.11),
    inverted_share=0.2,
    powers=(0.5, 2.0),
    shading_share=0.2,
    noise_free_share=0.45,
    noise_levels=(0.005, 0.12),
    streaks=0.1,
)
"""What is added to crops so that a generator carries over to other instruments: blur, contrast, shading and noise."""

_LEAST_ERROR = 1e-6
_LEAST_REFERENCE = 2e-3  # of the mean squared error of the interpolation that a field's error is divided by
_LARGEST_SURPRISE = 4.0  # log ratio of an error to its prediction from which its loss grows slowly
_PIXEL_WINDOW = 5


@dataclass(frozen=True)
class ProgressiveTraining:
    """Settings of the training.

    Attributes:
        n_updates: Updates in all.
        batch_size: Fields in an update.
        learning_rate: Where its half cosine starts; it ends at a hundredth.
        warm_up: Updates over which it grows to that.
        weight_decay: Decoupled weight decay.
        ema_decay: Decay of the running average of the weights, which is what is kept and what chooses passes.
        augmented_share: Share of the fields with `AUGMENTATION`.
        finest_level: Finest level that a field is scanned to before further passes are looked at.
        absolute_weight: Weight of the mean squared error beside that relative to interpolation.
        pixel_weight: Weight of the likelihood of errors of pixels.
        block_weight: Weight of the likelihood of errors of blocks, now and after further passes.
        precision: "float32", or "bfloat16" for the passes of the network.
        seed: Of everything random.

    Raises:
        SettingError: If a setting is not usable.

    Example:
        >>> ProgressiveTraining(n_updates=10).batch_size
        12
    """

    n_updates: int = 10_000
    batch_size: int = 12
    learning_rate: float = 1.5e-3
    warm_up: int = 200
    weight_decay: float = 1e-4
    ema_decay: float = 0.999
    augmented_share: float = 0.6
    finest_level: int = 5
    absolute_weight: float = 5.0
    pixel_weight: float = 0.02
    block_weight: float = 0.05
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_updates", "batch_size", "warm_up"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name}: got {getattr(self, name)}; expected at least 1")
        for name in ("learning_rate", "weight_decay", "absolute_weight", "pixel_weight", "block_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingError(f"{name}: got {getattr(self, name)}; expected a number of at least 0")
        if not 0 <= self.augmented_share <= 1:
            raise SettingError(f"augmented_share: got {self.augmented_share}; expected 0 to 1")
        if not 0 <= self.ema_decay < 1:
            raise SettingError(f"ema_decay: got {self.ema_decay}; expected 0 to below 1")
        if not 3 <= self.finest_level <= 5:
            raise SettingError(f"finest_level: got {self.finest_level}; expected 3 to 5")
        if self.precision not in ("float32", "bfloat16"):
            raise SettingError(f"precision: got {self.precision!r}; expected 'float32' or 'bfloat16'")


def error_likelihood(log_expected: Tensor, errors: Tensor) -> Tensor:
    """How badly errors were expected, least in the mean where the expectation is the mean error.

    ``e / E + log E``, the negative log-likelihood of squared errors e that are exponentially distributed about E, in
    which E is right in the mean whatever the distribution is. Where ``e > exp(4) E`` the first term grows with the
    logarithm, so that one field that surprises does not undo what others taught.

    Args:
        log_expected: Natural logarithm of expected squared errors E, of any shape.
        errors: Squared errors e, the same shape.

    Returns:
        The same shape.

    Example:
        >>> error_likelihood(torch.tensor([0.0, 1.0]), torch.tensor([1.0, math.e])).round(decimals=3).tolist()
        [1.0, 2.0]
    """
    surprise = torch.log(errors + _LEAST_ERROR) - log_expected
    near = torch.exp(surprise.clamp(max=_LARGEST_SURPRISE))
    beyond = math.exp(_LARGEST_SURPRISE) * (surprise - _LARGEST_SURPRISE).clamp(min=0.0)
    return near + beyond + log_expected


class ProgressiveTrainer:
    """Trains a `ProgressiveGenerator` on fields that are scanned pass by pass, as far as a random pass.

    Blocks are refined everywhere, at random or where errors are predicted, at a random price. What was completed before
    is compared with what was measured after, so the residuals of training are those of use. The errors after one, two
    or three further passes are those of the averaged network, which makes these passes.

    Args:
        generator: The network, which is trained in place.
        crops: Where fields come from, in [-1, 1], of a side that is a multiple of 16.
        settings: Of the training.
        device: Where it runs.

    Attributes:
        averaged: The running average of the weights: what to keep and to use.
        n_done: Updates made.

    Example:
        >>> from adaptive_scan.micrographs import ArrayCrops
        >>> crops = ArrayCrops(np.random.default_rng(0).normal(size=(4, 32, 32)))
        >>> settings = ProgressiveTraining(n_updates=2, batch_size=2)
        >>> trainer = ProgressiveTrainer(ProgressiveGenerator(n_channels=8), crops, settings)
        >>> sorted(trainer.update())
        ['block_likelihood', 'level', 'loss', 'pixel_likelihood', 'relative_error']
    """

    def __init__(
        self,
        generator: ProgressiveGenerator,
        crops: CropSource,
        settings: ProgressiveTraining | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        if crops.crop_size % BLOCK:
            raise SettingError(f"crops: got a side of {crops.crop_size} px; expected a multiple of {BLOCK}")
        self.settings = ProgressiveTraining() if settings is None else settings
        self.device = torch.device(device)
        self.generator = generator.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = averaged_copy(self.generator)
        self.crops = crops
        self.lattice = NestedLattice((crops.crop_size, crops.crop_size))
        self.n_done = 0
        self._levels = torch.from_numpy(self.lattice.levels).to(self.device)
        self._rng = np.random.default_rng(self.settings.seed)
        self._optimiser = torch.optim.AdamW(
            self.generator.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )

    def update(self) -> dict[str, float]:
        """Make one update.

        Returns:
            Figures of it: the loss (10 MSE), the error relative to interpolation, both likelihoods, the mean level.

        Raises:
            FloatingPointError: If the objective is not finite.
        """
        fields = self._draw()
        targets = blur_targets(fields)
        passes, levels = self._scan(fields)
        prediction = self._predict(self.generator, passes.partial_scans, passes.residuals)
        objective, figures = self._objective(prediction, passes.partial_scans, targets)
        horizon = int(self._rng.integers(1, N_HORIZONS + 1))
        objective = objective + self.settings.block_weight * self._later(
            prediction, passes, levels, fields, targets, horizon
        )
        if not torch.isfinite(objective):
            raise FloatingPointError(f"the objective of update {self.n_done + 1} is {objective.item()}")
        self._step(objective)
        return {**figures, "level": float(levels.float().mean())}

    def state_dict(self) -> dict[str, Any]:
        """All that training goes on from."""
        return {
            "generator": self.generator.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "rng": self._rng.bit_generator.state,
            "n_done": self.n_done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.generator.load_state_dict(state["generator"])
        self.averaged.load_state_dict(state["averaged"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._rng.bit_generator.state = state["rng"]
        self.n_done = int(state["n_done"])

    def _draw(self) -> Tensor:
        """Fields, some of them with what other instruments would have added, shape (n, 1, S, S)."""
        fields = self.crops.take(self.crops.draw(self.settings.batch_size, self._rng))
        chosen = np.flatnonzero(self._rng.random(len(fields)) < self.settings.augmented_share)
        if len(chosen):
            fields[chosen] = record(fields[chosen], self._rng, AUGMENTATION)
        return torch.from_numpy(fields)[:, None].to(self.device)

    def _measured(self, fields: Tensor, levels: Tensor) -> Tensor:
        """Partial scans of fields whose blocks have reached levels."""
        spread = levels.repeat_interleave(BLOCK, dim=1).repeat_interleave(BLOCK, dim=2)
        masks = (self._levels <= spread).to(fields)[:, None]
        return torch.cat([fields * masks, masks], dim=1)

    def _scan(self, fields: Tensor) -> tuple[Passes, Tensor]:
        """Survey fields and refine them for a random number of passes."""
        survey = int(self._rng.choice([1, 2, 2, 2]))
        levels = torch.full((len(fields), *self.lattice.n_blocks), survey, device=self.device)
        n_passes = int(self._rng.integers(0, self.settings.finest_level - survey + 1))
        way = self._rng.random()
        price = np.exp(self._rng.uniform(math.log(3e-5), math.log(3e-3), (len(fields), 1, 1)))
        with torch.no_grad():
            passes = Passes(self._average, self._measured(fields, levels))
            for _ in range(n_passes):
                chosen = self._chosen(way, levels, passes.prediction, torch.from_numpy(price).to(fields))
                levels = levels + (chosen & (levels == levels.amax(dim=(1, 2), keepdim=True))).long()
                passes.measured(self._measured(fields, levels))
        return passes, levels

    def _chosen(self, way: float, levels: Tensor, prediction: Prediction, price: Tensor) -> Tensor:
        """Blocks that are refined: all, smooth random regions, or those whose error exceeds a price."""
        if way < 0.3:
            return torch.ones_like(levels, dtype=torch.bool)
        if way < 0.55:
            noise = self._rng.normal(size=levels.shape)
            smooth = ndimage.gaussian_filter(noise, (0, 1, 1), mode="nearest")
            return torch.from_numpy(smooth > 0.35 * self._rng.normal()).to(self.device)
        return torch.exp(prediction.log_block_errors[:, 0]) / 2.0**levels > price

    def _later(
        self,
        prediction: Prediction,
        passes: Passes,
        levels: Tensor,
        fields: Tensor,
        targets: Tensor,
        horizon: int,
    ) -> Tensor:
        """Likelihood of the errors of blocks after further passes over the whole field."""
        finest = self.lattice.n_levels - 1
        reached = (levels + horizon <= finest).to(fields)
        if not reached.any():
            return torch.zeros((), device=self.device)
        with torch.no_grad():
            passes.prediction = Prediction(*(part.detach() for part in prediction))
            for _ in range(horizon):
                levels = (levels + 1).clamp(max=finest)
                passes.measured(self._measured(fields, levels))
            errors = F.avg_pool2d((passes.prediction.completion - targets).square(), BLOCK)[:, 0]
        surprise = error_likelihood(prediction.log_block_errors[:, horizon], errors)
        return (surprise * reached).sum() / reached.sum()

    def _objective(
        self, prediction: Prediction, partial_scans: Tensor, targets: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        settings = self.settings
        squared = (prediction.completion - targets).square()
        errors = squared.mean(dim=(1, 2, 3))
        start = (blur_targets(pull_push_infill(partial_scans)) - targets).square().mean(dim=(1, 2, 3))
        relative = (errors / (start + _LEAST_REFERENCE)).mean()
        smooth = F.avg_pool2d(squared.detach(), _PIXEL_WINDOW, 1, padding=_PIXEL_WINDOW // 2, count_include_pad=False)
        pixels = error_likelihood(prediction.log_variance, smooth).mean()
        blocks = error_likelihood(prediction.log_block_errors[:, :1], F.avg_pool2d(squared.detach(), BLOCK)).mean()
        objective = relative + settings.absolute_weight * errors.mean()
        objective = objective + settings.pixel_weight * pixels + settings.block_weight * blocks
        figures = {
            "loss": LOSS_SCALE * float(errors.mean().detach()),
            "relative_error": float(relative.detach()),
            "pixel_likelihood": float(pixels.detach()),
            "block_likelihood": float(blocks.detach()),
        }
        return objective, figures

    def _step(self, objective: Tensor) -> None:
        settings, place = self.settings, self.n_done / self.settings.n_updates
        rate = 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(place, 1.0)))
        for group in self._optimiser.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, (self.n_done + 1) / settings.warm_up) * rate
        self._optimiser.zero_grad(set_to_none=True)
        objective.backward()
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        self._optimiser.step()
        move_average(self.averaged, self.generator, warm_decay(settings.ema_decay, self.n_done))
        self.n_done += 1

    def _average(self, partial_scans: Tensor, residuals: Tensor) -> Prediction:
        return self._predict(self.averaged, partial_scans, residuals)

    def _predict(self, network: Any, partial_scans: Tensor, residuals: Tensor) -> Prediction:
        half = torch.autocast(self.device.type, torch.bfloat16)
        with half if self.settings.precision == "bfloat16" else contextlib.nullcontext():
            found: Prediction = network.predict(partial_scans, residuals)
        return Prediction(*(part.float() for part in found))
