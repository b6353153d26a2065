"""What the microscope adds to every specimen: inversion, shading, a blur and mild noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs.preprocessing import normalise
from adaptive_scan.specimens.family import log_uniform


@dataclass(frozen=True)
class ImagingSettings:
    """Shares and ranges of what the microscope adds; the defaults are what training draws.

    Intensities are relative to the range of the specimen, from 0 to 1. Settings that are None draw nothing at random.
    """

    # A few blurs instead of a continuum, so that one library call blurs all the pictures that share one.
    blurs: tuple[float, ...] = (0.0, 0.7, 1.1, 1.8)
    """Standard deviations of the probe [px]."""
    blur_shares: tuple[float, ...] = (0.5, 0.2, 0.2, 0.1)
    """How many pictures have each; they add up to 1."""
    inverted_share: float = 0.2
    """Share of pictures that are inverted, as in bright field."""
    powers: tuple[float, float] | None = None
    """Range, log-uniform, of the power that intensities are raised to."""
    shading_share: float = 0.5
    """Share of pictures with a linear shading."""
    largest_slope: float = 0.5
    """Largest change of that shading over the picture."""
    noise_free_share: float = 0.3
    """Share of pictures without noise."""
    quiet_share: float = 0.0
    """Share of the noisy pictures whose noise is of ``quiet_levels``."""
    quiet_levels: tuple[float, float] = (0.001, 0.01)
    """Range, log-uniform, of their standard deviation."""
    noise_levels: tuple[float, float] = (0.005, 0.1)
    """Range, log-uniform, of the standard deviation of the noise of the others, at intensity 1."""
    streaks: float = 0.3
    """Standard deviation of the streaks along the rows, relative to the noise."""
    lags: tuple[float, float] | None = None
    """Range, uniform, of what a pixel keeps of the one before it in its row, noise included."""

    def __post_init__(self) -> None:
        if len(self.blurs) != len(self.blur_shares) or abs(sum(self.blur_shares) - 1.0) > 1e-9:
            raise SettingError(
                f"blur_shares: got {self.blur_shares}; expected {len(self.blurs)} shares that add up to 1"
            )
        for name in ("inverted_share", "shading_share", "noise_free_share", "quiet_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise SettingError(f"{name}: got {getattr(self, name)}; expected a share from 0 to 1")
        for name in ("powers", "quiet_levels", "noise_levels"):
            bounds = getattr(self, name)
            if bounds is not None and not 0.0 < bounds[0] <= bounds[1] < np.inf:
                raise SettingError(f"{name}: got {bounds}; expected a range of numbers above 0")
        if self.lags is not None and not 0.0 <= self.lags[0] <= self.lags[1] < 1.0:
            raise SettingError(f"lags: got {self.lags}; expected a range from 0 to below 1")


DEFAULT_IMAGING = ImagingSettings()
"""What training draws unless it is told otherwise."""

REALISTIC_IMAGING = ImagingSettings(
    blurs=(0.0, 1.0, 2.0, 4.0),
    blur_shares=(0.3, 0.25, 0.25, 0.2),
    inverted_share=0.05,
    powers=(0.8, 2.0),
    largest_slope=0.7,
    noise_free_share=0.05,
    quiet_share=0.4,
    quiet_levels=(0.001, 0.015),
    noise_levels=(0.06, 0.4),
    streaks=0.1,
    lags=(0.0, 0.25),
)
"""Set on half of 64 groups of real micrographs: most are noisy, the others hardly at all, few fill their range."""

IMAGINGS = {"default": DEFAULT_IMAGING, "realistic": REALISTIC_IMAGING}
"""Settings by name."""


def _blurred(pictures: np.ndarray, rng: np.random.Generator, settings: ImagingSettings) -> None:
    choices = rng.choice(len(settings.blurs), len(pictures), p=settings.blur_shares)
    for choice, sigma in enumerate(settings.blurs):
        chosen = np.flatnonzero(choices == choice)
        if sigma > 0.0 and len(chosen):
            pictures[chosen] = ndimage.gaussian_filter(pictures[chosen], (0.0, sigma, sigma), truncate=3.0)


def _shaded(pictures: np.ndarray, rng: np.random.Generator, settings: ImagingSettings) -> None:
    n_crops, size, _ = pictures.shape
    steps = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    slopes = rng.uniform(0.0, settings.largest_slope, n_crops)
    slopes = slopes * (rng.uniform(size=n_crops) < settings.shading_share)
    angles = rng.uniform(0.0, 2.0 * np.pi, n_crops)
    pictures += (slopes * np.cos(angles)).astype(np.float32)[:, None, None] * steps[:, None]
    pictures += (slopes * np.sin(angles)).astype(np.float32)[:, None, None] * steps


def _add_noise(pictures: np.ndarray, rng: np.random.Generator, settings: ImagingSettings) -> None:
    noisy = np.flatnonzero(rng.uniform(size=len(pictures)) >= settings.noise_free_share)
    levels = log_uniform(*settings.noise_levels, (len(noisy), 1, 1), rng).astype(np.float32)
    if settings.quiet_share > 0.0:
        quiet = np.flatnonzero(rng.uniform(size=len(noisy)) < settings.quiet_share)
        levels[quiet] = log_uniform(*settings.quiet_levels, (len(quiet), 1, 1), rng)
    shot_shares = rng.uniform(size=(len(noisy), 1, 1)).astype(np.float32)
    clean = pictures[noisy]
    deviations = levels * np.sqrt(1.0 - shot_shares + shot_shares * np.clip(clean, 0.0, 1.0))
    noise = rng.standard_normal(clean.shape, dtype=np.float32)
    streaks = settings.streaks * levels * rng.standard_normal((len(noisy), clean.shape[1], 1), dtype=np.float32)
    pictures[noisy] = clean + deviations * noise + streaks


def _smeared(pictures: np.ndarray, lags: tuple[float, float], rng: np.random.Generator) -> None:
    """``y_j = a y_(j-1) + (1 - a) x_j`` along each row, which begins at its first value."""
    kept = rng.uniform(*lags, (len(pictures), 1)).astype(np.float32)
    for column in range(1, pictures.shape[2]):
        pictures[:, :, column] += kept * (pictures[:, :, column - 1] - pictures[:, :, column])


def record(specimens: np.ndarray, rng: np.random.Generator, settings: ImagingSettings = DEFAULT_IMAGING) -> np.ndarray:
    """Turn specimens into crops: blur, contrast, shading, noise, normalisation.

    By default a fifth of the crops is inverted, as in bright field; half are blurred by 0.7 to 1.8 px; half carry a
    linear shading; seven in ten carry noise of 0.5 to 10 % of the range, partly shot noise, with faint streaks
    along the rows.

    Args:
        specimens: Intensities in arbitrary units, float32, shape (N, S, S); overwritten.
        rng: Source of randomness.
        settings: Shares and ranges.

    Returns:
        Crops in [-1, 1], float32, shape (N, S, S).

    Example:
        >>> crops = record(np.eye(16, dtype=np.float32)[None], np.random.default_rng(0))
        >>> float(crops.min()), float(crops.max())
        (-1.0, 1.0)
    """
    _blurred(specimens, rng, settings)
    crops = normalise(specimens)
    inverted = rng.uniform(size=len(crops)) < settings.inverted_share
    crops *= np.where(inverted, np.float32(-0.5), np.float32(0.5))[:, None, None]
    crops += np.float32(0.5)
    if settings.powers is not None:
        crops **= log_uniform(*settings.powers, (len(crops), 1, 1), rng).astype(np.float32)
    _shaded(crops, rng, settings)
    _add_noise(crops, rng, settings)
    if settings.lags is not None:
        _smeared(crops, settings.lags, rng)
    return normalise(crops)
