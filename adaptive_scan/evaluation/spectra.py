"""Radially averaged power spectra of crops."""

from __future__ import annotations

import numpy as np

N_FREQUENCIES = 24
"""Rings of the radial average, from 0 to the Nyquist frequency."""


def power_spectra(crops: np.ndarray) -> np.ndarray:
    """Radially averaged power spectra, ``P(k) = <|FFT(w (x - <x>))|^2> / sum w^2`` over the ring k.

    ``w`` is a Hann window, without which the jump between opposite borders fills the axes of the transform. White
    noise of variance v has P = v at all frequencies.

    Args:
        crops: Shape (N, S, S).

    Returns:
        Power, shape (N, N_FREQUENCIES), of rings of equal width from 0 to 0.5 cycles per px; the frequency 0 is
        left out.

    Example:
        >>> noise = np.random.default_rng(0).standard_normal((50, 64, 64))
        >>> bool(np.all(np.abs(power_spectra(noise).mean(axis=0) - 1.0) < 0.2))
        True
    """
    found, frequencies = power(crops)
    ring_of = rings(frequencies)
    return np.stack([found[:, ring_of == ring].mean(axis=1) for ring in range(N_FREQUENCIES)], axis=1)


def power(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Power of windowed crops (N, S, S), and row and column frequency of each element, (2, S, S) [1/px]."""
    size = crops.shape[-1]
    window = np.outer(np.hanning(size), np.hanning(size))
    centred = crops - crops.mean(axis=(1, 2), keepdims=True)
    found = np.abs(np.fft.fft2(window * centred)) ** 2 / np.sum(window**2)
    axis = np.fft.fftfreq(size)
    return found, np.stack(np.meshgrid(axis, axis, indexing="ij"))


def rings(frequencies: np.ndarray) -> np.ndarray:
    """Ring of each element; -1 outside and at frequency 0."""
    radius = np.hypot(*frequencies)
    # An element on the edge of two rings, up to rounding, belongs to the inner one.
    found: np.ndarray = np.ceil(radius * 2 * N_FREQUENCIES - 1e-9).astype(np.int64) - 1
    found[found >= N_FREQUENCIES] = -1
    return found
