"""The protocol of an instrument, and the instrument without faults."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Acquisition(Protocol):
    """An instrument: measured values are v = detect(crop[displace(p)]) for the nominal probing positions p.

    The nominal positions are what the microscope was told, so they are what a partial scan is drawn with; the
    displaced ones are where the probe was. Both methods are called once per segment for a whole batch of scans, and
    draw random numbers only from the generator they are given.

    Attributes:
        value_range: The lowest and the highest value that `detect` returns, which bound the observation.
    """

    @property
    def value_range(self) -> tuple[float, float]:
        """The lowest and the highest value that `detect` returns."""
        ...

    def displace(self, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Where the probe lands when it is sent to ``positions``.

        Args:
            positions: Nominal probing positions [px], float32, shape (n_scans, n_positions, 2).
            rng: Source of random numbers.

        Returns:
            Positions [px], shape (n_scans, n_positions, 2); those outside the field take the nearest pixel inside it.
        """
        ...

    def detect(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the detector reports where the specimen has ``values``.

        Args:
            values: Values of the crop at the displaced positions, float32, shape (n_scans, n_positions).
            rng: Source of random numbers.

        Returns:
            Measured values within `value_range`, shape (n_scans, n_positions).
        """
        ...


class IdealAcquisition:
    """The instrument without faults: the probe lands where it is sent and the detector reports the crop's value.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> IdealAcquisition().detect(np.array([[0.25, -1.0]], dtype=np.float32), rng)
        array([[ 0.25, -1.  ]], dtype=float32)
    """

    value_range: tuple[float, float] = (-1.0, 1.0)

    def displace(self, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The nominal positions [px] themselves, shape (n_scans, n_positions, 2)."""
        return positions

    def detect(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The values themselves, shape (n_scans, n_positions)."""
        return values

    def __repr__(self) -> str:
        return "IdealAcquisition()"
