"""What the microscope adds to every specimen: inversion, shading, a blur and mild noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from adaptive_scan.micrographs.preprocessing import normalise
from adaptive_scan.specimens.family import log_uniform

# A few blurs instead of a continuum, so that one library call blurs all the pictures that share one.
_BLURS = (0.0, 0.7, 1.1, 1.8)
_BLUR_SHARES = (0.5, 0.2, 0.2, 0.1)
_INVERTED_SHARE = 0.2
_NOISE_FREE_SHARE = 0.3


def _blurred(pictures: np.ndarray, rng: np.random.Generator) -> None:
    choices = rng.choice(len(_BLURS), len(pictures), p=_BLUR_SHARES)
    for choice, sigma in enumerate(_BLURS):
        chosen = np.flatnonzero(choices == choice)
        if sigma > 0.0 and len(chosen):
            pictures[chosen] = ndimage.gaussian_filter(pictures[chosen], (0.0, sigma, sigma), truncate=3.0)


def _shaded(pictures: np.ndarray, rng: np.random.Generator) -> None:
    n_crops, size, _ = pictures.shape
    steps = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    slopes = rng.uniform(0.0, 0.5, n_crops) * (rng.uniform(size=n_crops) < 0.5)
    angles = rng.uniform(0.0, 2.0 * np.pi, n_crops)
    pictures += (slopes * np.cos(angles)).astype(np.float32)[:, None, None] * steps[:, None]
    pictures += (slopes * np.sin(angles)).astype(np.float32)[:, None, None] * steps


def _add_noise(pictures: np.ndarray, rng: np.random.Generator) -> None:
    noisy = np.flatnonzero(rng.uniform(size=len(pictures)) >= _NOISE_FREE_SHARE)
    levels = log_uniform(0.005, 0.1, (len(noisy), 1, 1), rng).astype(np.float32)
    shot_shares = rng.uniform(size=(len(noisy), 1, 1)).astype(np.float32)
    clean = pictures[noisy]
    deviations = levels * np.sqrt(1.0 - shot_shares + shot_shares * np.clip(clean, 0.0, 1.0))
    noise = rng.standard_normal(clean.shape, dtype=np.float32)
    streaks = 0.3 * levels * rng.standard_normal((len(noisy), clean.shape[1], 1), dtype=np.float32)
    pictures[noisy] = clean + deviations * noise + streaks


def record(specimens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn specimens into crops: blur, contrast, shading, noise, normalisation.

    A fifth of the crops is inverted, as in bright field; half are blurred by 0.7 to 1.8 px; half carry a
    linear shading; seven in ten carry noise of 0.5 to 10 % of the range, partly shot noise, with faint streaks
    along the rows.

    Args:
        specimens: Intensities in arbitrary units, float32, shape (N, S, S); overwritten.
        rng: Source of randomness.

    Returns:
        Crops in [-1, 1], float32, shape (N, S, S).

    Example:
        >>> crops = record(np.eye(16, dtype=np.float32)[None], np.random.default_rng(0))
        >>> float(crops.min()), float(crops.max())
        (-1.0, 1.0)
    """
    _blurred(specimens, rng)
    crops = normalise(specimens)
    inverted = rng.uniform(size=len(crops)) < _INVERTED_SHARE
    crops *= np.where(inverted, np.float32(-0.5), np.float32(0.5))[:, None, None]
    crops += np.float32(0.5)
    _shaded(crops, rng)
    _add_noise(crops, rng)
    return normalise(crops)
