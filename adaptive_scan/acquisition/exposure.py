"""From the values of a crop to electrons, and back to the same scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptive_scan.errors import SettingError

ELECTRONS_PER_PICOAMPERE_SECOND = 1e-12 / 1.602176634e-19


@dataclass(frozen=True)
class Exposure:
    """What the beam brings and how much of it the detector sees: the scale between values and electrons.

    A value v on [-1, 1] is the intensity x = d + (1 - d)(v + 1) / 2 as a share of the full scale, that of the
    brightest place, with the dark level d where the crop is darkest: crops are stretched to [-1, 1], and their darkest
    place is seldom vacuum. The detector sees x N electrons on average, N = c t I / e, in the dwell time t. Measured
    intensities return by the inverse, v = 2 (x - d) / (1 - d) - 1, so noise has no bias and losses stay comparable.

    Attributes:
        current: Beam current I [pA]; infinite for a signal without counting statistics.
        collected: Share c of the beam's electrons that the detector sees where the specimen is brightest, in (0, 1].
        dark: Dark level d as a share of the full scale, in [0, 1).

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> round(float(Exposure(current=20.0, collected=0.1).electrons(1e-5)), 1)
        124.8
    """

    current: float = math.inf
    collected: float = 1.0
    dark: float = 0.0

    def __post_init__(self) -> None:
        check_range("current", self.current, 0.0, math.inf, above=True)
        check_range("collected", self.collected, 0.0, 1.0, above=True)
        if not 0.0 <= self.dark < 1.0:
            raise SettingError(f"dark: got {self.dark}; expected a number in [0, 1)")

    @classmethod
    def per_position(cls, electrons: float, dwell: float, *, collected: float = 1.0, dark: float = 0.0) -> Exposure:
        """The exposure that brings so many electrons to a position.

        Args:
            electrons: Electrons of the beam per position.
            dwell: Dwell time [s] in which they come.
            collected: Share of them seen where the specimen is brightest.
            dark: Dark level.

        Returns:
            The exposure.

        Raises:
            ValueError: If a number is out of its range.

        Example:
            >>> round(float(Exposure.per_position(50.0, 2e-6).electrons(1e-6)), 9)
            25.0
        """
        check_range("dwell", dwell, 0.0, 1e6, above=True)
        return cls(electrons / dwell / ELECTRONS_PER_PICOAMPERE_SECOND, collected, dark)

    @classmethod
    def per_area(
        cls, dose: float, pixel_size: float, dwell: float, *, collected: float = 1.0, dark: float = 0.0
    ) -> Exposure:
        """The exposure that brings each position the dose of one pixel's area.

        Args:
            dose: Electrons of the beam per area [1/Å²].
            pixel_size: Side of a pixel [Å].
            dwell: Dwell time [s].
            collected: Share of the electrons seen where the specimen is brightest.
            dark: Dark level.

        Returns:
            The exposure.

        Raises:
            ValueError: If a number is out of its range.

        Example:
            >>> round(float(Exposure.per_area(1000.0, 0.2, 1e-5).electrons(1e-5)), 9)
            40.0
        """
        check_range("pixel_size", pixel_size, 0.0, 1e6, above=True)
        return cls.per_position(dose * pixel_size**2, dwell, collected=collected, dark=dark)

    def incident(self, dwell: Any) -> Any:
        """Electrons of the beam in the dwell time [s]: what damages the specimen."""
        return self.current * ELECTRONS_PER_PICOAMPERE_SECOND * dwell

    def electrons(self, dwell: Any) -> Any:
        """Electrons N that the detector sees in the dwell time [s] at full scale."""
        return self.collected * self.incident(dwell)

    def intensities(self, values: np.ndarray) -> np.ndarray:
        """Intensities x of values v; float64."""
        return self.dark + (1.0 - self.dark) / 2.0 * (values.astype(np.float64) + 1.0)

    def values(self, intensities: np.ndarray) -> np.ndarray:
        """Values v of intensities x; float64."""
        return 2.0 / (1.0 - self.dark) * (intensities - self.dark) - 1.0


def check_range(name: str, number: float, low: float, high: float, *, above: bool = False) -> None:
    """Refuse a number outside [low, high], or with ``above`` outside (low, high].

    Raises:
        ValueError: If it is outside.

    Example:
        >>> check_range("dwell", 0.0, 0.0, 1.0, above=True)
        Traceback (most recent call last):
        adaptive_scan.errors.SettingError: dwell: got 0.0; expected a number in (0, 1]
    """
    if not low <= number <= high or (above and number == low):
        raise SettingError(f"{name}: got {number}; expected a number in {'(' if above else '['}{low:g}, {high:g}]")
