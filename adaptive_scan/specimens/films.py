"""Smooth random fields, and the amorphous films that are made of them."""

from __future__ import annotations

import numba
import numpy as np

from adaptive_scan.specimens.family import log_uniform

# A cubic B-spline keeps on average this share of the variance of its white coefficients, per axis.
_SPLINE_VARIANCE = 151.0 / 315.0


@numba.njit(cache=True)
def _spline_weights(steps: float, offset: float, size: int, firsts: np.ndarray, weights: np.ndarray) -> None:
    for pixel in range(size):
        place = offset + pixel / steps
        first = int(np.floor(place))
        t = place - first
        firsts[pixel] = first
        weights[pixel, 0] = (1.0 - t) ** 3 / 6.0
        weights[pixel, 1] = (3.0 * t**3 - 6.0 * t**2 + 4.0) / 6.0
        weights[pixel, 2] = (-3.0 * t**3 + 3.0 * t**2 + 3.0 * t + 1.0) / 6.0
        weights[pixel, 3] = t**3 / 6.0


@numba.njit(cache=True)
def _fill_fields(fields: np.ndarray, scales: np.ndarray, gain: float, rng: np.random.Generator) -> None:
    n_crops, size, _ = fields.shape
    firsts = np.empty((2, size), np.int64)
    weights = np.empty((2, size, 4), np.float32)
    for crop in range(n_crops):
        n_nodes = int(size / scales[crop]) + 6
        nodes = np.empty((n_nodes, n_nodes), np.float32)
        for i in range(n_nodes):
            for j in range(n_nodes):
                nodes[i, j] = gain * rng.standard_normal()
        for axis in range(2):
            _spline_weights(scales[crop], rng.random(), size, firsts[axis], weights[axis])
        blended = np.empty((n_nodes, size), np.float32)
        for i in range(n_nodes):
            for column in range(size):
                first = firsts[1, column]
                total = np.float32(0.0)
                for tap in range(4):
                    total += weights[1, column, tap] * nodes[i, first + tap]
                blended[i, column] = total
        for row in range(size):
            first = firsts[0, row]
            w0, w1, w2, w3 = weights[0, row]
            for column in range(size):
                fields[crop, row, column] = (
                    w0 * blended[first, column]
                    + w1 * blended[first + 1, column]
                    + w2 * blended[first + 2, column]
                    + w3 * blended[first + 3, column]
                )


def smooth_fields(scales: np.ndarray, crop_size: int, rng: np.random.Generator) -> np.ndarray:
    """Random fields of mean 0 and variance 1 without structure below a scale.

    The field is ``sum_ij c_ij B(r/scale - i) B(c/scale - j)`` with independent standard normal ``c_ij``, the
    cubic B-spline ``B`` and a random phase.

    Args:
        scales: Distance between spline nodes of each field [px], at least 1, shape (N,).
        crop_size: Side S of a field [px].
        rng: Source of randomness.

    Returns:
        Fields, float32, shape (N, S, S).

    Example:
        >>> smooth_fields(np.array([4.0, 20.0]), 32, np.random.default_rng(0)).shape
        (2, 32, 32)
    """
    fields = np.empty((len(scales), crop_size, crop_size), np.float32)
    _fill_fields(fields, np.asarray(scales, np.float64), 1.0 / _SPLINE_VARIANCE, rng)
    return fields


def amorphous_films(n_crops: int, crop_size: int, rng: np.random.Generator) -> np.ndarray:
    """Films of mean thickness 1: speckle of a few pixels on slow thickness variations.

    Args:
        n_crops: Number of films N.
        crop_size: Side S of a film [px].
        rng: Source of randomness.

    Returns:
        Thickness, float32, shape (N, S, S), at least 0.

    Example:
        >>> float(amorphous_films(2, 32, np.random.default_rng(0)).min()) >= 0.0
        True
    """
    speckle = smooth_fields(log_uniform(1.0, 4.0, n_crops, rng), crop_size, rng)
    waves = smooth_fields(log_uniform(crop_size / 10, crop_size, n_crops, rng), crop_size, rng)
    speckle *= log_uniform(0.01, 0.12, (n_crops, 1, 1), rng).astype(np.float32)
    waves *= log_uniform(0.03, 0.4, (n_crops, 1, 1), rng).astype(np.float32)
    films = speckle
    films += waves
    films += np.float32(1.0)
    result: np.ndarray = np.maximum(films, np.float32(0.0), out=films)
    return result
