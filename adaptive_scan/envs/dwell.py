"""Dwell times that the actor chooses, and the budget that they spend."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from adaptive_scan.acquisition import Exposure
from adaptive_scan.errors import SettingError
from adaptive_scan.scans import ScanGeometry, spacing_from_action


@dataclass(frozen=True)
class DwellControl:
    """Bounds of the dwell times of segments, and what all of them together may take.

    A segment of P positions with dwell time t spends P t. The dwell time asked for is cut to what is left, and a scan
    ends when what is left no longer pays for a segment at the lowest one. Flyback and settling are not counted.

    Attributes:
        lowest: Lowest dwell time of a position [s], above 0.
        highest: Highest dwell time [s], above the lowest.
        budget: Sum of the dwell times of all positions [s].

    Raises:
        SettingError: If the bounds are none, or the budget is not positive.

    Example:
        >>> DwellControl(1e-6, 4e-6, 1e-3).first
        2e-06
    """

    lowest: float
    highest: float
    budget: float

    def __post_init__(self) -> None:
        if not 0.0 < self.lowest < self.highest < math.inf:
            raise SettingError(f"dwell: got bounds ({self.lowest}, {self.highest}) s; expected 0 < lowest < highest")
        if not 0.0 < self.budget < math.inf:
            raise SettingError(f"budget: got {self.budget} s; expected a positive, finite one")

    @classmethod
    def of_electrons(cls, lowest: float, highest: float, electrons: float, exposure: Exposure) -> DwellControl:
        """Control with a budget of electrons of the beam.

        Args:
            lowest: Lowest dwell time [s].
            highest: Highest dwell time [s].
            electrons: Electrons of the beam in all dwell times together.
            exposure: That of the instrument, with a finite current.

        Returns:
            The control.

        Raises:
            SettingError: If the bounds are none, or the budget is not positive.

        Example:
            >>> control = DwellControl.of_electrons(1e-6, 4e-6, 500.0, Exposure.per_position(10.0, 1e-6))
            >>> round(control.budget, 9)
            5e-05
        """
        return cls(lowest, highest, electrons / float(exposure.incident(1.0)))

    @property
    def first(self) -> float:
        """Dwell time of the first segment [s]: the geometric mean of the bounds."""
        return math.sqrt(self.lowest * self.highest)


class DwellState:
    """What the scans of a batch have spent.

    Args:
        control: Bounds and budget.
        n_scans: Number of scans N.
        geometry: Their geometry, with at most T segments of P positions.

    Attributes:
        dwell: Dwell times of the segments [s], 0 for those not measured, float64, shape (N, T).
        spent: Sum of the dwell times of all positions [s], float64, shape (N,).

    Raises:
        SettingError: If the budget does not pay for two segments.
    """

    def __init__(self, control: DwellControl, n_scans: int, geometry: ScanGeometry) -> None:
        needed = geometry.n_positions * (control.first + control.lowest)
        if control.budget < needed:
            raise SettingError(f"budget: got {control.budget} s; expected at least {needed} s, for two segments")
        self.control, self.n_positions = control, geometry.n_positions
        self.dwell, self.spent = np.zeros((n_scans, geometry.n_segments)), np.zeros(n_scans)

    @property
    def progress(self) -> np.ndarray:
        """Share of the budget that is spent, shape (N,)."""
        return np.minimum(self.spent / self.control.budget, 1.0)

    @property
    def is_spent(self) -> np.ndarray:
        """Which scans can pay for no further segment, bool, shape (N,)."""
        # Sums of the very times that the budget is cut into may miss it by some ulps.
        needed = self.n_positions * self.control.lowest * (1.0 - 1e-9)
        return self.control.budget - self.spent < needed

    def begin(self, which: np.ndarray) -> None:
        """Start scans anew, each with its first segment."""
        self.dwell[which] = 0.0
        self.dwell[which, 0] = self.control.first
        self.spent[which] = self.n_positions * self.control.first

    def spend(self, components: np.ndarray, segments: np.ndarray) -> None:
        """Pay for the next segment of every scan.

        Args:
            components: Of the actions, shape (N,): the dwell time, geometric between the bounds.
            segments: Numbers of these segments, shape (N,).
        """
        asked = spacing_from_action(components, (self.control.lowest, self.control.highest))
        left = (self.control.budget - self.spent) / self.n_positions
        dwell = np.minimum(asked, left)
        self.dwell[np.arange(len(dwell)), segments] = dwell
        self.spent += self.n_positions * dwell
