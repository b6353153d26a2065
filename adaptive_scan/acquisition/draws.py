"""Random numbers as functions of a scan's key, a position's number and the number of the draw.

A scan draws one key when it begins, and nothing after that. What happens at its position i is a function of that key
and of i alone, so a scan meets the same faults whether it is fed whole or segment by segment, whatever other scans
run beside it and whenever these begin anew. The bits are those of SplitMix64 (Steele, Lea and Flood 2014,
doi:10.1145/2660193.2660195), applied once to choose a sequence for each position and once along that sequence.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# Numba makes floats of uint64 and int64 together, so every number below is a uint64.
_STRIDE = np.uint64(0x9E3779B97F4A7C15)
_FIRST_FACTOR, _SECOND_FACTOR = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_FIRST_SHIFT, _SECOND_SHIFT, _THIRD_SHIFT = _SHIFTS
_ELEVEN = np.uint64(11)
_UNIT = 2.0**-53
_MANY_COUNTS = 10.0


@njit(cache=True, nogil=True, inline="always")
def _mix(bits: np.uint64) -> np.uint64:
    """The finaliser of SplitMix64, a bijection of uint64."""
    bits = (bits ^ (bits >> _FIRST_SHIFT)) * _FIRST_FACTOR
    bits = (bits ^ (bits >> _SECOND_SHIFT)) * _SECOND_FACTOR
    return bits ^ (bits >> _THIRD_SHIFT)


@njit(cache=True, nogil=True, inline="always")
def _sequence(key: np.uint64, index: int) -> np.uint64:
    """Where the sequence of one position starts."""
    return _mix(key + _STRIDE * (np.uint64(index) + np.uint64(1)))


@njit(cache=True, nogil=True, inline="always")
def _uniform(sequence: np.uint64, draw: int) -> float:
    """A number in [0, 1) out of a sequence."""
    return (_mix(sequence + _STRIDE * np.uint64(draw)) >> _ELEVEN) * _UNIT


def model_keys(keys: np.ndarray, model: int) -> np.ndarray:
    """Keys of one model of an instrument: those of its scans, made different for each model.

    Args:
        keys: Keys of the scans, int64, shape (n_scans,).
        model: Place of the model in the instrument.

    Returns:
        uint64, shape (n_scans,).

    Example:
        >>> a, b = (model_keys(np.array([1, 2]), model) for model in range(2))
        >>> len({*a.tolist(), *b.tolist()})
        4
    """
    bits = keys.astype(np.uint64) ^ np.uint64((model + 1) * 0xD1B54A32D192ED03 % 2**64)
    bits = (bits ^ (bits >> _FIRST_SHIFT)) * _FIRST_FACTOR
    bits = (bits ^ (bits >> _SECOND_SHIFT)) * _SECOND_FACTOR
    return bits ^ (bits >> _THIRD_SHIFT)


@njit(cache=True, nogil=True)
def uniforms(keys: np.ndarray, first: np.ndarray, n_positions: int, n_numbers: int) -> np.ndarray:
    """Uniform numbers on [0, 1) for the next positions of every scan.

    Args:
        keys: uint64, shape (n_scans,).
        first: Number of the first of these positions in each scan, int64, shape (n_scans,).
        n_positions: Number of positions.
        n_numbers: Numbers for each position.

    Returns:
        float64, shape (n_scans, n_positions, n_numbers).

    Example:
        >>> keys = np.array([7], dtype=np.uint64)
        >>> whole = uniforms(keys, np.array([0]), 3, 2)
        >>> bool((uniforms(keys, np.array([1]), 2, 2) == whole[:, 1:]).all())
        True
    """
    numbers = np.empty((len(keys), n_positions, n_numbers))
    for scan in range(len(keys)):
        for i in range(n_positions):
            sequence = _sequence(keys[scan], first[scan] + i)
            for number in range(n_numbers):
                numbers[scan, i, number] = _uniform(sequence, number)
    return numbers


@njit(cache=True, nogil=True)
def normals(keys: np.ndarray, first: np.ndarray, n_positions: int, n_numbers: int) -> np.ndarray:
    """Standard normal numbers for the next positions of every scan (Box and Muller 1958).

    Args:
        keys: uint64, shape (n_scans,).
        first: Number of the first of these positions in each scan, int64, shape (n_scans,).
        n_positions: Number of positions.
        n_numbers: Numbers for each position.

    Returns:
        float64, shape (n_scans, n_positions, n_numbers).

    Example:
        >>> normals(np.array([7], dtype=np.uint64), np.array([0]), 3, 2).shape
        (1, 3, 2)
    """
    numbers = np.empty((len(keys), n_positions, n_numbers))
    for scan in range(len(keys)):
        for i in range(n_positions):
            sequence = _sequence(keys[scan], first[scan] + i)
            for number in range(0, n_numbers, 2):
                radius = math.sqrt(-2.0 * math.log(1.0 - _uniform(sequence, number)))
                angle = 2.0 * math.pi * _uniform(sequence, number + 1)
                numbers[scan, i, number] = radius * math.cos(angle)
                if number + 1 < n_numbers:
                    numbers[scan, i, number + 1] = radius * math.sin(angle)
    return numbers


@njit(cache=True, nogil=True)
def poisson_counts(means: np.ndarray, keys: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Poisson numbers of given means, by inversion below 10 and by Hörmann's rejection above.

    W. Hörmann 1993, Insurance: Mathematics and Economics 12, 39, algorithm PTRS, doi:10.1016/0167-6687(93)90997-4.

    Args:
        means: Expected counts, float64, shape (n_scans, n_positions); those below 0 count as 0.
        keys: uint64, shape (n_scans,).
        first: Number of the first of these positions in each scan, int64, shape (n_scans,).

    Returns:
        Counts, float64, shape (n_scans, n_positions).

    Example:
        >>> poisson_counts(np.array([[0.0, 1e6]]), np.array([7], dtype=np.uint64), np.array([0])).round(-5).tolist()
        [[0.0, 1000000.0]]
    """
    counts = np.empty(means.shape)
    for scan in range(means.shape[0]):
        for i in range(means.shape[1]):
            sequence = _sequence(keys[scan], first[scan] + i)
            mean = means[scan, i]
            counts[scan, i] = _few_counts(mean, sequence) if mean < _MANY_COUNTS else _many_counts(mean, sequence)
    return counts


@njit(cache=True, nogil=True)
def _few_counts(mean: float, sequence: np.uint64) -> float:
    """A Poisson number by walking through the distribution function."""
    if mean <= 0.0:
        return 0.0
    left, count, share = _uniform(sequence, 0), 0.0, math.exp(-mean)
    # The shares of counts beyond 200 are below the resolution of the uniform number for every mean below 10.
    while left >= share and count < 200.0:
        left -= share
        count += 1.0
        share *= mean / count
    return count


@njit(cache=True, nogil=True)
def _many_counts(mean: float, sequence: np.uint64) -> float:
    """A Poisson number by rejection from a table mountain (PTRS); names as in the paper."""
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2.0)
    log_mean, draw = math.log(mean), 0
    while True:
        u, v = _uniform(sequence, draw) - 0.5, 1.0 - _uniform(sequence, draw + 1)
        draw += 2
        u_s = 0.5 - abs(u)
        if u_s == 0.0:
            continue
        k = math.floor((2.0 * a / u_s + b) * u + mean + 0.43)
        if u_s >= 0.07 and v <= v_r:
            return k
        if k < 0.0 or (u_s < 0.013 and v > u_s):
            continue
        if math.log(v * inverse_alpha / (a / (u_s * u_s) + b)) <= k * log_mean - mean - math.lgamma(k + 1.0):
            return k
