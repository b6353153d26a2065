"""From pictures to crops: normalisation, target blur, area downsampling and the symmetries of the square."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from adaptive_scan.errors import SettingError

UNIFORM_RANGE = 1e-6
"""A crop whose values span less than this is uniform."""

N_SYMMETRIES = 8
"""Flips and rotations that map the square onto itself."""


def normalise(crops: ArrayLike) -> np.ndarray:
    """Scale each crop to [-1, 1]: ``2 (x - min) / (max - min) - 1``.

    Non-finite values become 0 before the extremes are taken; a uniform crop, whose values span less than
    ``UNIFORM_RANGE``, becomes 0 everywhere (Ede 2021, doi:10.1088/2632-2153/abf5b6, released code).

    Args:
        crops: Real values in any unit, shape (..., height, width).

    Returns:
        A fresh float32 array of the same shape.

    Raises:
        ValueError: If ``crops`` has fewer than two axes or a side of 0 px.

    Example:
        >>> normalise([[0.0, 1.0], [2.0, 4.0]])
        array([[-1. , -0.5],
               [ 0. ,  1. ]], dtype=float32)
    """
    with np.errstate(over="ignore"):
        values = np.array(crops, dtype=np.float32)
    if values.ndim < 2 or 0 in values.shape[-2:]:
        raise ValueError(f"crops have shape {values.shape}; expected (..., height, width), sides above 0")
    values[~np.isfinite(values)] = 0.0
    with np.errstate(over="ignore"):
        span = np.ptp(values, axis=(-2, -1), keepdims=True)
    # The difference of two float32 can overflow although neither does; halving both cannot.
    halved = np.where(np.isfinite(span), np.float32(1.0), np.float32(0.5))
    values *= halved
    lowest = values.min(axis=(-2, -1), keepdims=True)
    span = values.max(axis=(-2, -1), keepdims=True) - lowest
    uniform = span < UNIFORM_RANGE
    values -= lowest
    values /= np.where(uniform, np.float32(1.0), span)
    values *= 2.0
    values -= 1.0
    np.copyto(values, np.float32(0.0), where=uniform)
    return values


def gaussian_kernel(size: int = 5, sigma: float = 2.5) -> np.ndarray:
    """One-dimensional Gaussian ``exp(-x^2 / (2 sigma^2))`` on ``size`` pixels, normalised to a sum of 1.

    The two-dimensional kernel of the same size is its outer product with itself, also normalised to 1.

    Args:
        size: Number of taps [px], odd and positive.
        sigma: Standard deviation [px], positive.

    Returns:
        The taps, float32, shape (size,).

    Raises:
        ValueError: If ``size`` is not odd and positive, or ``sigma`` not positive.

    Example:
        >>> [round(float(tap), 4) for tap in gaussian_kernel()]
        [0.1689, 0.2148, 0.2326, 0.2148, 0.1689]
    """
    if size < 1 or size % 2 == 0:
        raise SettingError(f"kernel size: got {size!r} px; expected an odd number of at least 1")
    if not sigma > 0:
        raise SettingError(f"sigma: got {sigma!r} px; expected a number above 0")
    offsets = np.arange(size) - size // 2
    taps = np.exp(-0.5 * (offsets / sigma) ** 2)
    result: np.ndarray = (taps / taps.sum()).astype(np.float32)
    return result


def blur_target(crops: ArrayLike, *, size: int = 5, sigma: float = 2.5) -> np.ndarray:
    """Blur crops into the targets that completions are compared with.

    Convolution with the outer product of :func:`gaussian_kernel` with itself. The border is reflected without
    repeating the edge pixel (``mirror`` in SciPy, ``reflect`` in torch).

    Args:
        crops: Shape (..., S, S).
        size: Side of the kernel [px], odd.
        sigma: Standard deviation of the Gaussian [px].

    Returns:
        A fresh float32 array of the same shape.

    Raises:
        ValueError: If ``size`` is not odd and positive, or ``sigma`` not positive.

    Example:
        >>> point = np.zeros((1, 9, 9), dtype=np.float32)
        >>> point[0, 4, 4] = 1.0
        >>> round(float(blur_target(point).sum()), 4)
        1.0
    """
    kernel = gaussian_kernel(size, sigma)
    blurred = np.asarray(crops, dtype=np.float32)
    for axis in (-2, -1):
        blurred = ndimage.correlate1d(blurred, kernel, axis=axis, mode="mirror")
    return blurred


def area_downsample(picture: ArrayLike, factor: int) -> np.ndarray:
    """Average blocks of ``factor x factor`` pixels; rows and columns that fill no block are trimmed.

    A block with a non-finite value is non-finite, and :func:`normalise` then makes it 0.

    Args:
        picture: Real values, shape (..., height, width).
        factor: Side of a block [px], at least 1.

    Returns:
        A fresh float32 array, shape (..., height // factor, width // factor).

    Raises:
        ValueError: If ``factor`` is below 1 or larger than a side.

    Example:
        >>> area_downsample([[1.0, 3.0, 9.0], [5.0, 7.0, 9.0]], 2)
        array([[4.]], dtype=float32)
    """
    values = np.asarray(picture)
    height, width = values.shape[-2:]
    if not 1 <= factor <= min(height, width):
        raise SettingError(f"downsampling factor: got {factor!r}; expected 1 to {min(height, width)}, the shorter side")
    n_rows, n_columns = height // factor, width // factor
    trimmed = values[..., : n_rows * factor, : n_columns * factor]
    blocks = trimmed.reshape(*values.shape[:-2], n_rows, factor, n_columns, factor)
    with np.errstate(over="ignore", invalid="ignore"):
        result: np.ndarray = blocks.mean(axis=(-3, -1), dtype=np.float64).astype(np.float32)
        return result


def apply_symmetry(crops: np.ndarray, symmetry: int | np.ndarray) -> np.ndarray:
    """Apply flips and rotations of the square to the last two axes.

    Symmetry ``k`` transposes first if ``k >= 4`` and then makes ``k % 4`` quarter turns (``numpy.rot90``);
    0 is the identity.

    Args:
        crops: Shape (..., S, S), or (N, ..., S, S) when ``symmetry`` is an array.
        symmetry: One number from 0 to 7 for all, or one per crop, shape (N,).

    Returns:
        A fresh, C-contiguous array of the shape and type of ``crops``.

    Raises:
        ValueError: If a symmetry lies outside 0 to 7, crops are not square, or shapes do not match.

    Example:
        >>> apply_symmetry(np.array([[1, 2], [3, 4]]), 1)
        array([[2, 4],
               [1, 3]])
    """
    numbers = np.asarray(symmetry)
    if numbers.size and (numbers.min() < 0 or numbers.max() >= N_SYMMETRIES):
        raise SettingError(f"symmetries range over {numbers.min()} to {numbers.max()}; expected 0 to 7")
    if crops.ndim < 2 or crops.shape[-1] != crops.shape[-2]:
        raise ValueError(f"crops have shape {crops.shape}; expected two equal last sides")
    if numbers.ndim == 0:
        return _transformed(crops, int(numbers)).copy()
    if crops.ndim < 3 or numbers.shape != crops.shape[:1]:
        raise ValueError(f"symmetries have shape {numbers.shape} for crops {crops.shape}; expected one per crop")
    result = np.empty_like(crops, order="C")
    for number in np.unique(numbers):
        chosen = numbers == number
        result[chosen] = _transformed(crops[chosen], int(number))
    return result


def _transformed(crops: np.ndarray, symmetry: int) -> np.ndarray:
    if symmetry >= 4:
        crops = np.swapaxes(crops, -2, -1)
    return np.rot90(crops, symmetry % 4, axes=(-2, -1))
