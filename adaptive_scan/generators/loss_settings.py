"""Settings of losses; loads no torch, so that command lines and files of settings come quickly."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

from adaptive_scan.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor

LOSS_SCALE = 10.0  # the unit E of the adaptive-scan paper


@dataclass(frozen=True)
class AlrcState:
    """Running raw moments of the losses for adaptive learning rate clipping.

    Attributes:
        mu1: Running mean of the losses.
        mu2: Running mean of their squares, at least ``mu1**2``.

    Raises:
        ValueError: If ``mu2`` is below ``mu1**2``: no losses have such moments.

    Example:
        >>> AlrcState(mu1=1.0, mu2=5.0).standard_deviation
        2.0
    """

    mu1: float = 1.0
    mu2: float = 4.0

    def __post_init__(self) -> None:
        if not self.mu2 >= self.mu1**2:
            raise SettingError(f"mu2: got {self.mu2} with mu1 {self.mu1}; expected mu2 >= mu1**2 = {self.mu1**2}")

    @property
    def standard_deviation(self) -> float:
        """Running standard deviation of the losses, sqrt(mu2 - mu1²)."""
        return math.sqrt(self.mu2 - self.mu1**2)


@dataclass(frozen=True)
class DetailLosses:
    """Weighted sum of the losses of `detail_losses`, beside the completion loss; those of weight 0 are not computed.

    The restoration paper adds the last four to its pixel losses (Eq. 14); its text gives no weights.

    Attributes:
        sobel: Weight of :func:`~adaptive_scan.generators.detail_losses.sobel_loss`.
        local_whitening: Weight of :func:`~adaptive_scan.generators.detail_losses.local_whitening_loss`.
        fourier: Weight of :func:`~adaptive_scan.generators.detail_losses.fourier_loss`.
        mean: Weight of :func:`~adaptive_scan.generators.detail_losses.mean_loss`.
        standard_deviation: Weight of :func:`~adaptive_scan.generators.detail_losses.standard_deviation_loss`.

    Raises:
        ValueError: If a weight is negative or not finite.

    Example:
        >>> import torch
        >>> DetailLosses(mean=2.0, sobel=1.0)(torch.full((1, 1, 8, 8), 0.5), torch.zeros(1, 1, 8, 8))
        tensor([1.])
    """

    sobel: float = 0.0
    local_whitening: float = 0.0
    fourier: float = 0.0
    mean: float = 0.0
    standard_deviation: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            weight = getattr(self, field.name)
            if not (math.isfinite(weight) and weight >= 0):
                raise SettingError(f"weight of {field.name}: got {weight}; expected a finite number, 0 or more")

    @property
    def active(self) -> bool:
        """Whether a weight is above 0."""
        return any(astuple(self))

    def __call__(self, completions: Tensor, targets: Tensor) -> Tensor:
        """Weighted sum for each scan.

        Args:
            completions: Completed pictures, shape (n_scans, 1, S, S).
            targets: What they should be, same shape.

        Returns:
            Losses, shape (n_scans,).
        """
        from adaptive_scan.generators.detail_losses import DETAIL_LOSSES  # which settings alone need not load

        total = completions.new_zeros(len(completions))
        for weight, loss in zip(astuple(self), DETAIL_LOSSES, strict=True):
            if weight:
                total = total + weight * loss(completions, targets)
        return total
