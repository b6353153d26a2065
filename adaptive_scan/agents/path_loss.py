"""The loss of completing what paths measured, differentiable in the paths: what pathwise learning descends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_scan.acquisition import Instrument
from adaptive_scan.generators import blur_targets, completion_loss
from adaptive_scan.generators.infill import pull_push_infill
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import tensors
from adaptive_scan.scans.soft import soft_partial_scans

_SMALLEST_LOSS = 0.05
"""Added to the loss that others are divided by, so that flat crops, of which nothing is to be learned, do not weigh."""


class Readings:
    """What an instrument reads of crops along paths that grow, as an environment's does: lags and drift carry on.

    Args:
        instrument: The instrument.
        crops: Shape (n_scans, S, S).
        keys: What the faults of each scan are drawn from, int64, shape (n_scans,); see `Instrument.begin_with`.
    """

    def __init__(self, instrument: Instrument, crops: Tensor, keys: np.ndarray) -> None:
        self._instrument, self._crops = instrument, crops
        self._state = instrument.begin_with(keys)
        self._values = crops.new_empty(len(crops), 0)

    def follow(self, positions: Tensor) -> Tensor:
        """Measure what is new of the paths.

        Args:
            positions: All positions so far [px], shape (n_scans, n_segments, n_positions, 2); those that were measured
                before come first.

        Returns:
            The values at all of them, without gradients, shape (n_scans, n_segments, n_positions).
        """
        new = positions.detach().flatten(1, -2)[:, self._values.shape[1] :]
        if new.shape[1]:
            reading = self._instrument.measure(new.contiguous().numpy(), self._read, self._state)
            self._values = torch.cat((self._values, torch.from_numpy(reading.values)), dim=1)
        return self._values.reshape(positions.shape[:-1])

    def _read(self, displaced: np.ndarray) -> np.ndarray:
        return tensors.sample(self._crops, torch.from_numpy(displaced)).numpy()


class Scanner(Protocol):
    """What makes paths: one for all crops, or each from what it measures of its crop."""

    def scan(self, crops: Tensor, readings: Readings | None = None) -> Tensor:
        """Positions [px], shape (n_scans, n_segments, n_positions, 2).

        Args:
            crops: Shape (n_scans, S, S).
            readings: What is measured on the way; None for an ideal instrument.
        """
        ...


@dataclass(frozen=True)
class PathLoss:
    """Loss of completions of scans along paths, with gradients that lead to better paths.

    The scans are sampled and splatted bilinearly (`soft_partial_scans`), what an instrument that is not ideal measured
    straight through, and completed by a network or, where there is none, by pull-push interpolation.

    Attributes:
        network: What completes the scans; None for pull-push interpolation, blurred where targets are.
        instrument: What measures.
        blur: Whether targets are the crops after the 5x5 Gaussian.
    """

    network: nn.Module | None
    instrument: Instrument
    blur: bool = True

    def targets(self, crops: Tensor) -> Tensor:
        """What completions are compared with, shape (n_scans, 1, S, S)."""
        return blur_targets(crops[:, None]) if self.blur else crops[:, None]

    def keys(self, n_scans: int, rng: np.random.Generator) -> np.ndarray:
        """What the instrument's faults are drawn from; scans of the same crops with the same keys meet the same."""
        return self.instrument.begin(n_scans, rng).keys

    def scan(self, scanner: Scanner, crops: Tensor, keys: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Scan crops through the instrument: what is looked at on the way is what the loss is of.

        Args:
            scanner: What makes the paths.
            crops: Shape (n_scans, S, S), in [-1, 1].
            keys: What the faults are drawn from, shape (n_scans,).

        Returns:
            Positions [px], shape (n_scans, n_segments, n_positions, 2), and the values measured there, None where the
            instrument is ideal and reads the crops themselves.
        """
        if self.instrument.is_ideal:
            return scanner.scan(crops), None
        readings = Readings(self.instrument, crops, keys)
        positions = scanner.scan(crops, readings)
        return positions, readings.follow(positions)

    def __call__(self, crops: Tensor, positions: Tensor, values: Tensor | None = None) -> Tensor:
        """Losses of scans, differentiable in the positions and in the network.

        Args:
            crops: Shape (n_scans, S, S), in [-1, 1].
            positions: Positions [px], shape (n_scans, ..., 2).
            values: What was measured there, shape (n_scans, ...); None reads the crops themselves.

        Returns:
            Losses, 10 MSE on [-1, 1], shape (n_scans,).
        """
        scans = soft_partial_scans(crops, positions, values)
        return completion_loss(self._complete(scans), self.targets(crops))

    def hard(self, crops: Tensor, positions: Tensor, values: Tensor | None = None) -> Tensor:
        """The same losses as a microscope would have them, from the nearest pixels, without gradients."""
        with torch.no_grad():
            values = tensors.sample(crops, positions) if values is None else values
            scans = tensors.partial_scans(values, positions, crops.shape[-1])
            return completion_loss(self._complete(scans), self.targets(crops))

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
