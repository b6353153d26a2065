"""What the environments' tests share: small crops and a small geometry, and an instrument with faults."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from adaptive_scan.scans import ScanGeometry

matplotlib.use("Agg")


@pytest.fixture
def small() -> ScanGeometry:
    """Four segments of three positions in a field of 12 px."""
    return ScanGeometry(image_size=12, n_segments=4, n_positions=3, spacing=1.5)


@pytest.fixture
def small_crops(rng: np.random.Generator) -> np.ndarray:
    """Seven crops of 12 px that span [-1, 1] in steps of 1/128, so that normalising them again changes nothing."""
    crops = (rng.integers(-128, 129, (7, 12, 12)) / 128).astype(np.float32)
    crops[:, 0, 0], crops[:, 0, 1] = -1.0, 1.0
    return crops


class NoisyAcquisition:
    """An instrument that lands beside its target and reports noisy values clipped to [-2, 2]."""

    value_range = (-2.0, 2.0)

    def displace(self, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return positions + rng.normal(0.0, 2.0, positions.shape)

    def detect(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.clip(values + rng.normal(0.0, 0.5, values.shape), *self.value_range)


@pytest.fixture
def noisy() -> NoisyAcquisition:
    return NoisyAcquisition()
