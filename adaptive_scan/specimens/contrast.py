"""From projected mass to intensity: Lobato et al. 2023 (arXiv:2303.17025), equations 23 to 26."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ContrastSettings:
    """Shares and ranges of what is done to intensities; the values of the paper but for the share of inversions."""

    inverted_share: float = 0.2
    """Share of pictures that are inverted, as in bright field; the paper has 0.5, for bright and dark field alike."""
    nonlinear_share: float = 0.5
    """Share of pictures raised to a power."""
    powers: tuple[float, float] = (0.5, 1.5)
    """Range of that power."""
    plane_share: float = 0.5
    """Share of backgrounds that are planes; the others are Gaussians."""
    largest_background: float = 0.5
    """Largest height of a background, relative to the picture's maximum."""
    widths: tuple[float, float] = (0.2, 0.6)
    """Range of the standard deviation of a Gaussian background, relative to the side of the picture."""
    ratios: tuple[float, float] = (0.01, 0.35)
    """Bounds of the standard deviation over the mean."""


def inverted(picture: np.ndarray) -> np.ndarray:
    """``max(y) - y``, equation 23.

    Example:
        >>> inverted(np.array([1.0, 3.0])).tolist()
        [2.0, 0.0]
    """
    result: np.ndarray = picture.max() - picture
    return result


def with_power(picture: np.ndarray, power: float) -> np.ndarray:
    """``|y|^beta``, equation 24.

    Example:
        >>> with_power(np.array([-4.0, 9.0]), 0.5).tolist()
        [2.0, 3.0]
    """
    result: np.ndarray = np.abs(picture) ** power
    return result


def random_background(
    size: int, height: float, rng: np.random.Generator, settings: ContrastSettings | None = None
) -> np.ndarray:
    """A background from 0 to ``height``: a plane of random direction, or a Gaussian about a random place.

    Args:
        size: Side S of the picture [px].
        height: Its largest value.
        rng: Source of randomness.
        settings: Share of planes and widths of Gaussians.

    Returns:
        Float32, shape (S, S), not negative.

    Example:
        >>> background = random_background(16, 2.0, np.random.default_rng(0))
        >>> bool(background.min() >= 0.0 and background.max() <= 2.0 + 1e-6)
        True
    """
    settings = settings or ContrastSettings()
    steps = np.arange(size, dtype=np.float32)
    if rng.random() < settings.plane_share:
        angle = rng.uniform(0.0, 2.0 * np.pi)
        down, across = np.float32(np.cos(angle)) * steps, np.float32(np.sin(angle)) * steps
        lowest = down.min() + across.min()
        span = down.max() + across.max() - lowest
        result: np.ndarray = np.float32(height / span) * ((down - lowest)[:, None] + across)
        return result
    row, column = rng.uniform(0.0, size - 1.0, 2)
    width = rng.uniform(*settings.widths) * size
    down, across = (np.exp(-0.5 * ((steps - centre) / width) ** 2).astype(np.float32) for centre in (row, column))
    result = np.float32(height) * down[:, None] * across
    return result


def limit_ratio(picture: np.ndarray, low: float = 0.01, high: float = 0.35) -> np.ndarray:
    """Add a constant that brings the standard deviation over the mean within bounds, equation 25 with c = 1.

    Args:
        picture: Intensities of standard deviation above 0 and mean above 0.
        low: Smallest ratio.
        high: Largest ratio.

    Returns:
        Intensities of the same shape; the picture itself where it keeps the bounds.

    Example:
        >>> limited = limit_ratio(np.array([0.0, 4.0]))
        >>> round(float(limited.std() / limited.mean()), 6)
        0.35
    """
    mean, deviation = float(picture.mean(dtype=np.float64)), float(picture.std(dtype=np.float64))
    if deviation > high * mean:
        result: np.ndarray = picture + picture.dtype.type(deviation / high - mean)
        return result
    if deviation < low * mean:
        result = picture + picture.dtype.type(deviation / low - mean)
        return result
    return picture


def random_contrast(
    picture: np.ndarray, rng: np.random.Generator, settings: ContrastSettings | None = None
) -> np.ndarray:
    """Intensities of a picture: inversion, power, background, bounded ratio, maximum 1; equations 23 to 26.

    Args:
        picture: Projected mass, float32, not uniform, shape (S, S).
        rng: Source of randomness.
        settings: Shares and ranges; those of the class by default.

    Returns:
        Intensities, float32, shape (S, S), of maximum 1 and of a standard deviation over mean within the bounds.

    Example:
        >>> seen = random_contrast(np.eye(16, dtype=np.float32), np.random.default_rng(0))
        >>> float(seen.max()), bool(0.01 <= seen.std() / seen.mean() <= 0.35 + 1e-4)
        (1.0, True)
    """
    settings = settings or ContrastSettings()
    # Powers of a maximum of 1 neither overflow nor vanish.
    seen = picture / picture.max()
    if rng.random() < settings.inverted_share:
        seen = inverted(seen)
    if rng.random() < settings.nonlinear_share:
        seen = with_power(seen, rng.uniform(*settings.powers))
    height = float(seen.max()) * rng.uniform(0.0, settings.largest_background)
    seen += random_background(len(seen), height, rng, settings)
    seen = limit_ratio(seen, *settings.ratios)
    seen /= seen.max()
    return seen
