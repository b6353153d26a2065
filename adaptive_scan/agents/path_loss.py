"""The loss of completing what paths measured, differentiable in the paths: what pathwise learning descends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_scan.acquisition import Instrument
from adaptive_scan.generators import blur_targets, completion_loss, pull_push_infill
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import tensors
from adaptive_scan.scans.soft import soft_partial_scans

_SMALLEST_LOSS = 0.05
"""Added to the loss that others are divided by, so that flat crops, of which nothing is to be learned, do not weigh."""


@dataclass(frozen=True)
class PathLoss:
    """Loss of completions of scans along paths, with gradients that lead to better paths.

    The scans are sampled and splatted bilinearly (`soft_partial_scans`), what an instrument that is not ideal measured
    straight through, and completed by a network or, where there is none, by the pull-push infill.

    Attributes:
        network: What completes the scans; None for the infill, behind the blur where targets are blurred.
        instrument: What measures.
        blur: Whether targets are the crops after the 5x5 Gaussian.
    """

    network: nn.Module | None
    instrument: Instrument
    blur: bool = True

    def targets(self, crops: Tensor) -> Tensor:
        """What completions are compared with, shape (n_scans, 1, S, S)."""
        return blur_targets(crops[:, None]) if self.blur else crops[:, None]

    def __call__(self, crops: Tensor, positions: Tensor, rng: np.random.Generator) -> Tensor:
        """Losses of scans, differentiable in the positions and in the network.

        Args:
            crops: Shape (n_scans, S, S), in [-1, 1].
            positions: Positions [px], shape (n_scans, ..., 2).
            rng: Source of what is random in the instrument.

        Returns:
            Losses, 10 MSE on [-1, 1], shape (n_scans,).
        """
        scans = soft_partial_scans(crops, positions, self.measured(crops, positions, rng))
        return completion_loss(self._complete(scans), self.targets(crops))

    def hard(self, crops: Tensor, positions: Tensor, rng: np.random.Generator) -> Tensor:
        """The same losses as a microscope would have them, from the nearest pixels, without gradients."""
        with torch.no_grad():
            values = self.measured(crops, positions, rng)
            values = tensors.sample(crops, positions) if values is None else values
            scans = tensors.partial_scans(values, positions, crops.shape[-1])
            return completion_loss(self._complete(scans), self.targets(crops))

    def measured(self, crops: Tensor, positions: Tensor, rng: np.random.Generator) -> Tensor | None:
        """What the instrument measures, shape (n_scans, ...); None where it is ideal and reads the crops themselves."""
        if self.instrument.is_ideal:
            return None

        def read(displaced: np.ndarray) -> np.ndarray:
            return tensors.sample(crops, torch.from_numpy(displaced)).numpy()

        state = self.instrument.begin(len(crops), rng)
        reading = self.instrument.measure(positions.detach().flatten(1, -2).numpy(), read, state)
        return torch.from_numpy(reading.values).reshape(positions.shape[:-1])

    def _complete(self, scans: Tensor) -> Tensor:
        if self.network is not None:
            completions: Tensor = self.network(scans)
            return completions
        infill = pull_push_infill(scans)
        return blur_targets(infill) if self.blur else infill


def draw_crops(source: CropSource, n_crops: int, rng: np.random.Generator) -> Tensor:
    """Random crops of a source, shape (n_crops, S, S)."""
    return torch.from_numpy(source.take(source.draw(n_crops, rng)))


def outside(positions: Tensor, image_size: int) -> Tensor:
    """Mean squared distance of positions from the field [px^2], 0 for those inside; a scalar."""
    return (positions - positions.clamp(0, image_size - 1)).square().mean()


def relative(losses: Tensor, references: Tensor) -> Tensor:
    """Losses as a share of those of a reference path on the same crops, so that hard crops do not outweigh all others.

    Args:
        losses: Shape (n_scans,).
        references: The same shape; no gradient flows into them.

    Returns:
        ``losses / (references + 0.05)``, shape (n_scans,).
    """
    return losses / (references.detach() + _SMALLEST_LOSS)
