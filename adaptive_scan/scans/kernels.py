"""Compiled loops over probing positions, for callers that have already validated their arrays.

Each kernel writes into arrays that the caller allocated, holds no state and releases the interpreter lock, so
threads may share it. ``positions`` are float32, C-contiguous, shape (n_scans, n_positions, 2) as (row,
column) [px], or (1, n_positions, 2) where all scans share one path. ``adaptive_scan.scans.sampling``
validates.

Serial on purpose: one thread gives the same bits whatever the number of threads, and survives being forked.
Callers with a large batch may split it over threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

_HALF = np.float32(0.5)


@njit(cache=True, nogil=True, inline="always")
def nearest_pixel(coordinate: float, image_size: int) -> int:
    """Index of the pixel nearest to a coordinate, ``floor(p + 0.5)`` in float32, clipped into the field.

    Clipped before the conversion to an integer, so that a NaN or a huge coordinate stays inside the array.

    Example:
        >>> [nearest_pixel(np.float32(p), 8) for p in (2.5, -3.0, 9.0)]
        [3, 0, 7]
    """
    rounded = np.floor(np.float32(coordinate) + _HALF)
    if rounded >= image_size - 1:
        return image_size - 1
    return int(rounded) if rounded > 0 else 0


@njit(cache=True, nogil=True)
def all_finite_kernel(positions: NDArray[np.float32]) -> bool:
    """Whether every coordinate of ``positions`` (n_scans, n_positions, 2) is finite.

    Example:
        >>> all_finite_kernel(np.zeros((1, 3, 2), np.float32))
        True
    """
    # 0 * p is 0 for every finite p and NaN otherwise; a sum needs no branch.
    total = np.float32(0.0)
    for p in positions.ravel():
        total += p * np.float32(0.0)
    result: bool = total == 0.0
    return result


@njit(cache=True, nogil=True)
def sample_kernel(crops: NDArray[np.float32], positions: NDArray[np.float32], values: NDArray[np.float32]) -> None:
    """Write the nearest pixel's value at each position into ``values`` (n_scans, n_positions).

    Args:
        crops: Pictures, float32, shape (n_scans, S, S).
        positions: Positions [px], shape (n_scans, n_positions, 2) or (1, n_positions, 2).
        values: Written, float32, shape (n_scans, n_positions).

    Example:
        >>> values = np.empty((1, 1), np.float32)
        >>> sample_kernel(np.eye(4, dtype=np.float32)[None], np.array([[[1.2, 0.9]]], np.float32), values)
        >>> values.tolist()
        [[1.0]]
    """
    image_size = crops.shape[1]
    is_shared = positions.shape[0] == 1
    for n in range(crops.shape[0]):
        path = positions[0 if is_shared else n]
        crop = crops[n]
        for k in range(path.shape[0]):
            row = nearest_pixel(path[k, 0], image_size)
            column = nearest_pixel(path[k, 1], image_size)
            values[n, k] = crop[row, column]


@njit(cache=True, nogil=True)
def partial_scans_kernel(
    values: NDArray[np.float32], positions: NDArray[np.float32], scans: NDArray[np.float32]
) -> None:
    """Write each pixel's mean value and its mask into ``scans``, which must come in as zeros.

    Args:
        values: Measured values, float32, shape (n_scans, n_positions).
        positions: Positions [px], shape (n_scans, n_positions, 2) or (1, n_positions, 2).
        scans: Zeros; written, float32, shape (n_scans, 2, S, S).

    Example:
        >>> scans = np.zeros((1, 2, 2, 2), np.float32)
        >>> partial_scans_kernel(np.array([[1.0, 2.0]], np.float32), np.zeros((1, 2, 2), np.float32), scans)
        >>> scans[0, :, 0, 0].tolist()
        [1.5, 1.0]
    """
    image_size = scans.shape[2]
    is_shared = positions.shape[0] == 1
    sums = np.zeros((image_size, image_size))
    for n in range(values.shape[0]):
        path = positions[0 if is_shared else n]
        means, counts = scans[n, 0], scans[n, 1]
        for k in range(path.shape[0]):
            row = nearest_pixel(path[k, 0], image_size)
            column = nearest_pixel(path[k, 1], image_size)
            sums[row, column] += values[n, k]
            counts[row, column] += np.float32(1.0)
        for k in range(path.shape[0]):
            row = nearest_pixel(path[k, 0], image_size)
            column = nearest_pixel(path[k, 1], image_size)
            means[row, column] = sums[row, column] / counts[row, column]
        # Only visited pixels are reset, so the scratch array costs nothing per scan.
        for k in range(path.shape[0]):
            row = nearest_pixel(path[k, 0], image_size)
            column = nearest_pixel(path[k, 1], image_size)
            sums[row, column] = 0.0
            counts[row, column] = np.float32(1.0)


@njit(cache=True, nogil=True)
def coverage_kernel(positions: NDArray[np.float32], image_size: int, covered: NDArray[np.float64]) -> None:
    """Write the fraction of distinct measured pixels of each scan into ``covered`` (n_scans,).

    Example:
        >>> covered = np.empty(1)
        >>> coverage_kernel(np.zeros((1, 5, 2), np.float32), 2, covered)
        >>> covered.tolist()
        [0.25]
    """
    last_visitor = np.full((image_size, image_size), -1, dtype=np.int64)
    for n in range(positions.shape[0]):
        n_distinct = 0
        for k in range(positions.shape[1]):
            row = nearest_pixel(positions[n, k, 0], image_size)
            column = nearest_pixel(positions[n, k, 1], image_size)
            if last_visitor[row, column] != n:
                last_visitor[row, column] = n
                n_distinct += 1
        covered[n] = n_distinct / (image_size * image_size)


@njit(cache=True, nogil=True)
def path_length_kernel(positions: NDArray[np.float32], lengths: NDArray[np.float64]) -> None:
    """Write the length of each path [px], summed over its straight steps, into ``lengths`` (n_scans,).

    Example:
        >>> lengths = np.empty(1)
        >>> path_length_kernel(np.array([[[0.0, 0.0], [3.0, 4.0]]], np.float32), lengths)
        >>> lengths.tolist()
        [5.0]
    """
    for n in range(positions.shape[0]):
        total = 0.0
        for k in range(1, positions.shape[1]):
            rows = np.float64(positions[n, k, 0]) - np.float64(positions[n, k - 1, 0])
            columns = np.float64(positions[n, k, 1]) - np.float64(positions[n, k - 1, 1])
            total += math.sqrt(rows * rows + columns * columns)
        lengths[n] = total
