"""Fourier ring correlation: up to which spatial frequency a completion shows what its target shows.

Of a completion C and a target X with Fourier coefficients c and x, the correlation of a ring of frequencies is
``Re sum c conj(x) / sqrt(sum |c|^2 sum |x|^2)``, the sums over the coefficients of the ring (W. O. Saxton and W.
Baumeister 1982, doi:10.1111/j.1365-2818.1982.tb00405.x; M. van Heel, W. Keegstra, W. Schutter and E. F. J. van Bruggen
1982, Arthropod Hemocyanin Structures Studied by Image Analysis, Life Chem. Rep. Suppl. 1, 69). It asks how alike the
detail of each size is, whatever its contrast: a completion that is only too faint at a frequency loses nothing there.

Both pictures are freed of their mean and multiplied by a Hann window. The transform takes a picture for periodic, so
opposite borders meet in a jump whose coefficients fill all frequencies along the axes. Completion and target have
nearly the same jump, and without a window that alone would correlate where the completion shows nothing. The price is
that each coefficient is mixed with its neighbours, by up to 2 px of frequency, and that the borders hardly count.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import fft

from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs.preprocessing import UNIFORM_RANGE

THRESHOLD = 1.0 / 7.0
"""Correlation below which a frequency counts as lost.

Proposed as 0.143 by P. B. Rosenthal and R. Henderson 2003 (doi:10.1016/j.jmb.2003.07.013) for two independent halves of
the data; there it stands for a correlation of 1/2 with the noise-free picture. Targets are nearly free of noise, so
1/7 is the laxer of the two here: the completion's detail has 48 times the power in errors that it has in truth.
"""

_BLOCK_PIXELS = 2**20  # bounds the memory of transforms


class RingSums(NamedTuple):
    """Sums over Fourier rings, of one picture or of many; sums of several batches add up.

    Attributes:
        cross: Real part of the sum of completion times conjugate target, shape ``(..., n_rings)``.
        power_completion: Sum of the squared magnitudes of the completion's coefficients, the same shape.
        power_target: The same of the target.
    """

    cross: np.ndarray
    power_completion: np.ndarray
    power_target: np.ndarray


class _Rings(NamedTuple):
    """Order of the half-plane of coefficients by ring: places, their weights, and where each ring begins."""

    places: np.ndarray
    weights: np.ndarray
    begins: np.ndarray


def ring_frequencies(image_size: int) -> np.ndarray:
    """Frequency of each ring, k / S for k = 1 to S // 2; the last one is the Nyquist frequency where S is even.

    Ring k holds the coefficients at a distance of k - 1/2 up to k + 1/2 px from frequency 0, which is in no ring.

    Args:
        image_size: Side S of the pictures [px].

    Returns:
        Frequencies [cycles/px], float64, shape ``(S // 2,)``.

    Example:
        >>> ring_frequencies(8).tolist()
        [0.125, 0.25, 0.375, 0.5]
    """
    return np.arange(1, image_size // 2 + 1) / image_size


def ring_sums(completions: np.ndarray, targets: np.ndarray) -> RingSums:
    """Sums of each Fourier ring over all pictures of a batch.

    Args:
        completions: Shape ``(n_scans, S, S)``, S at least 4.
        targets: The same shape.

    Returns:
        The sums, float64, shape ``(S // 2,)`` each.

    Raises:
        ValueError: If the shapes differ or are not those of a batch of square pictures of at least 4 px.

    Example:
        >>> pictures = np.random.default_rng(0).normal(size=(3, 16, 16))
        >>> ring_correlation(*ring_sums(0.5 * pictures, pictures)).round(9).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    return RingSums(*(sums.sum(axis=0) for sums in _sums_by_picture(completions, targets)))


def ring_correlation(cross: np.ndarray, power_completion: np.ndarray, power_target: np.ndarray) -> np.ndarray:
    """Fourier ring correlation ``cross / sqrt(power_completion power_target)``.

    Args:
        cross: As in `RingSums`, shape ``(..., n_rings)``.
        power_completion: The same shape.
        power_target: The same shape.

    Returns:
        Correlations, float64, the same shape, in [-1, 1]; 0 where one of the two has no power, as nothing is in common.

    Example:
        >>> ring_correlation(np.array([3.0, 0.0]), np.array([9.0, 0.0]), np.array([4.0, 1.0])).tolist()
        [0.5, 0.0]
    """
    # Two roots and not that of the product, which underflows first.
    scales = np.sqrt(power_completion) * np.sqrt(power_target)
    correlations = np.zeros(np.shape(cross))
    np.divide(cross, scales, out=correlations, where=scales > 0.0)
    return np.clip(correlations, -1.0, 1.0)


def frc_cutoff(completions: np.ndarray, targets: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """Frequency up to which each completion correlates with its target.

    It is the first crossing below the threshold, found linearly between rings. The rings of a single small crop have
    few coefficients, so that this is a noisy number; its mean over crops is what to look at.

    Args:
        completions: Shape ``(n_scans, S, S)``, S at least 4.
        targets: The same shape.
        threshold: Correlation that is enough, in (0, 1).

    Returns:
        Frequencies [cycles/px], float64, shape ``(n_scans,)``, in [0, 0.5]: 0 where even the first ring is below, 0.5
        where none is.

    Raises:
        ValueError: If the shapes differ or are not those of a batch of square pictures of at least 4 px, or the
            threshold is not in (0, 1).

    Example:
        >>> pictures = np.random.default_rng(0).normal(size=(2, 16, 16))
        >>> frc_cutoff(pictures, pictures).tolist(), frc_cutoff(-pictures, pictures).tolist()
        ([0.5, 0.5], [0.0, 0.0])
    """
    if not 0.0 < threshold < 1.0:
        raise SettingError(f"threshold: got {threshold}; expected a correlation in (0, 1)")
    correlations = ring_correlation(*_sums_by_picture(completions, targets))
    return _first_crossings(correlations, ring_frequencies(completions.shape[-1]), threshold)


def _first_crossings(correlations: np.ndarray, frequencies: np.ndarray, threshold: float) -> np.ndarray:
    below = correlations < threshold
    first = np.argmax(below, axis=1)
    scans = np.arange(len(correlations))
    before = np.maximum(first - 1, 0)
    high, low = correlations[scans, before], correlations[scans, first]
    fall = np.where(high > low, high - low, 1.0)
    share = (high - threshold) / fall
    crossings: np.ndarray = frequencies[before] + share * (frequencies[first] - frequencies[before])
    crossings[first == 0] = 0.0
    crossings[~below.any(axis=1)] = 0.5
    return crossings


def _sums_by_picture(completions: np.ndarray, targets: np.ndarray) -> RingSums:
    """Sums of each picture, shape ``(n_scans, S // 2)`` each."""
    shape = completions.shape
    if shape != targets.shape or len(shape) != 3 or shape[1] != shape[2] or shape[2] < 4:
        raise ValueError(f"got completions {shape} and targets {targets.shape}; expected both (n_scans, S, S), S >= 4")
    size, rings = shape[-1], _rings(shape[-1])
    sums = np.empty((3, shape[0], size // 2))
    n_at_once = max(1, _BLOCK_PIXELS // size**2)
    for begin in range(0, shape[0], n_at_once):
        some = slice(begin, begin + n_at_once)
        first, second = _coefficients(completions[some]), _coefficients(targets[some])
        products = (first * second.conj()).real, np.abs(first) ** 2, np.abs(second) ** 2
        for kind, product in enumerate(products):
            ordered = product.reshape(len(product), -1)[:, rings.places] * rings.weights
            sums[kind, some] = np.add.reduceat(ordered, rings.begins, axis=1)
    return RingSums(*sums)


def _coefficients(pictures: np.ndarray) -> np.ndarray:
    """Half of the Fourier coefficients of windowed pictures, shape ``(n, S, S // 2 + 1)``."""
    values = pictures.astype(np.float64)
    spans = np.ptp(values, axis=(1, 2), keepdims=True)
    values -= values.mean(axis=(1, 2), keepdims=True)
    # What rounding leaves of a uniform picture would correlate with anything by chance.
    values *= spans >= UNIFORM_RANGE
    values *= _window(pictures.shape[-1])
    found: np.ndarray = fft.rfft2(values)
    return found


@lru_cache(maxsize=8)
def _window(image_size: int) -> np.ndarray:
    """Hann window with its zeros half a pixel outside of the picture, so that no pixel is lost, shape ``(S, S)``."""
    profile = np.sin(np.pi * (np.arange(image_size) + 0.5) / image_size) ** 2
    return np.outer(profile, profile)


@lru_cache(maxsize=8)
def _rings(image_size: int) -> _Rings:
    rows = np.abs(np.fft.fftfreq(image_size, 1.0 / image_size))
    columns = np.arange(image_size // 2 + 1)
    # Radii are roots of whole numbers, and those of k - 1/2 are not: none lies on the edge of two rings.
    labels = np.floor(np.hypot(rows[:, None], columns) + 0.5).astype(np.int64)
    # A coefficient whose conjugate lies in the half that is left out counts for both.
    alone = (columns == 0) | (2 * columns == image_size)
    weights = np.broadcast_to(np.where(alone, 1.0, 2.0), labels.shape)
    order = np.argsort(labels, axis=None, kind="stable")
    chosen = order[(labels.flat[order] >= 1) & (labels.flat[order] <= image_size // 2)]
    begins = np.searchsorted(labels.flat[chosen], np.arange(1, image_size // 2 + 1))
    return _Rings(chosen, weights.flat[chosen], begins)
