"""What every model of an instrument's fault has in common, and what it is told of the positions visited."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from adaptive_scan.acquisition import draws
from adaptive_scan.acquisition.exposure import Exposure
from adaptive_scan.acquisition.kernels import arrival_times

Memory = dict[str, np.ndarray]
"""What a model remembers of every scan: arrays with one row for each, changed in place."""


@dataclass(frozen=True)
class Visit:
    """The next positions of every scan, as a model sees them.

    A position is read at the end of its dwell, and the dwell of a position is also the time since the one before.

    Attributes:
        keys: What the random numbers of this model come from, uint64, shape (n_scans,).
        n_before: Positions each scan has visited before these, int64, shape (n_scans,).
        start_times: When each scan read its last position [s], float64, shape (n_scans,).
        n_positions: Number of positions visited now.
        dwell: Dwell times [s], float64, shape (1 or n_scans, 1 or n_positions).
        electrons: Electrons that the detector sees at full scale, shape of ``dwell``.
    """

    keys: np.ndarray
    n_before: np.ndarray
    start_times: np.ndarray
    n_positions: int
    dwell: np.ndarray
    electrons: np.ndarray

    @cached_property
    def begins(self) -> np.ndarray:
        """Indices of the scans whose first position is among these, shape (n_begun,)."""
        return np.flatnonzero(self.n_before == 0)

    @cached_property
    def times(self) -> np.ndarray:
        """When each position is read [s], since the scan began; float64, shape (n_scans, n_positions)."""
        return arrival_times(self.start_times, self.dwell, self.n_positions)

    def uniforms(self, n_numbers: int = 1) -> np.ndarray:
        """Numbers on [0, 1), shape (n_scans, n_positions, n_numbers); the same ones at each call."""
        return draws.uniforms(self.keys, self.n_before, self.n_positions, n_numbers)

    def normals(self, n_numbers: int = 1) -> np.ndarray:
        """Standard normal numbers, shape (n_scans, n_positions, n_numbers); made of the same bits as `uniforms`."""
        return draws.normals(self.keys, self.n_before, self.n_positions, n_numbers)


class Model:
    """A fault of the instrument; subclass `ProbeModel` or `DetectorModel`."""

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether the model changes nothing, so that the instrument may leave it out."""
        return False

    def begin(self, n_scans: int) -> Memory:
        """The memory of scans that have visited nothing yet; `Visit.begins` tells when to fill it."""
        return {}


class ProbeModel(Model, ABC):
    """A fault that puts the probe elsewhere than where it was sent."""

    @abstractmethod
    def displace(self, positions: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """Where the probe lands.

        Args:
            positions: Where the models before put it [px], float64, shape (n_scans, n_positions, 2); may be changed.
            visit: What is known of these positions.
            memory: What the model remembers of these scans; to be brought up to date.

        Returns:
            Positions [px], of the same shape.
        """


class DetectorModel(Model, ABC):
    """A fault of what is read at a position."""

    @abstractmethod
    def detect(self, intensities: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """What is read.

        Args:
            intensities: What the models before read, as a share of the full scale (`Exposure`), float64, shape
                (n_scans, n_positions); may be changed.
            visit: What is known of these positions.
            memory: What the model remembers of these scans; to be brought up to date.

        Returns:
            Intensities, of the same shape.
        """
