"""What a family of procedural pictures is, and the scale of what it draws."""

from __future__ import annotations

from typing import Protocol

import numpy as np

SMALLEST_FEATURE = 3.0
"""Smallest feature drawn [px]: a spot spacing below it aliases on the pixel grid."""

LARGEST_FEATURE = 0.3125
"""Largest feature drawn, as a fraction of the side of the crop: 30 px at 96 px."""


class Family(Protocol):
    """A kind of specimen that can be drawn any number of times.

    A family knows the specimen only: what the microscope and the detector add is common to all of them
    (:func:`adaptive_scan.specimens.imaging.record`).
    """

    def __call__(self, n_crops: int, crop_size: int, rng: np.random.Generator) -> np.ndarray:
        """Draw specimens.

        Args:
            n_crops: Number of pictures N, at least 0.
            crop_size: Side S of each picture [px], at least 16.
            rng: Source of everything random.

        Returns:
            Projected mass in arbitrary units, float32, shape (N, S, S), finite; a fresh array.
        """
        ...


def log_uniform(
    low: float | np.ndarray, high: float | np.ndarray, size: int | tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
    """Draw from the density proportional to 1/x on [low, high].

    Args:
        low: Lower bounds, positive, of a shape that broadcasts to ``size``.
        high: Upper bounds, at least ``low``.
        size: Shape of the result.
        rng: Source of randomness.

    Returns:
        Float64 array of shape ``size``.

    Example:
        >>> log_uniform(2.0, 2.0, 3, np.random.default_rng(0)).tolist()
        [2.0, 2.0, 2.0]
    """
    exponents = rng.uniform(size=size)
    return low * (np.asarray(high) / low) ** exponents


def feature_sizes(n_crops: int, crop_size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the scale of each picture, log-uniform from 3 px to 0.3125 S (3 to 30 px at 96 px).

    Most draws are several pixels, because most micrographs are oversampled.

    Args:
        n_crops: Number of pictures N.
        crop_size: Side S of a picture [px].
        rng: Source of randomness.

    Returns:
        Feature sizes [px], float64, shape (N,).

    Example:
        >>> sizes = feature_sizes(1000, 96, np.random.default_rng(0))
        >>> bool(sizes.min() >= 3.0 and sizes.max() <= 30.0)
        True
    """
    return log_uniform(SMALLEST_FEATURE, LARGEST_FEATURE * crop_size, n_crops, rng)
