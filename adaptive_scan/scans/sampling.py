"""Measuring pictures along paths, and the partial scans that come of it, for arrays.

A position takes the value of its nearest pixel, index ``floor(p + 0.5)`` clipped into ``[0, S - 1]``.
``adaptive_scan.scans.tensors`` has the same functions for tensors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptive_scan.errors import SettingError
from adaptive_scan.scans import kernels


def sample(crops: ArrayLike, positions: ArrayLike) -> NDArray[np.float32]:
    """Values of pictures at probing positions, each from its nearest pixel.

    Args:
        crops: Pictures, shape (n_scans, S, S).
        positions: Positions [px] as (row, column), shape (n_scans, ..., 2), or (1, ..., 2) for one path that
            all pictures share. A position outside the field takes the nearest pixel inside.

    Returns:
        Values, float32, shape (n_scans, ...).

    Raises:
        ValueError: If a shape does not fit or a position is not finite.

    Example:
        >>> picture = np.arange(16.0).reshape(1, 4, 4)
        >>> sample(picture, [[[0.0, 0.5], [2.4, 3.0], [-5.0, 9.0]]]).tolist()
        [[1.0, 11.0, 3.0]]
    """
    pictures = np.ascontiguousarray(crops, dtype=np.float32)
    if pictures.ndim != 3 or pictures.shape[1] != pictures.shape[2] or pictures.size == 0:
        raise ValueError(f"crops have shape {pictures.shape}; expected (n_scans, S, S)")
    paths, shape = _paths(positions, len(pictures))
    values = np.empty((len(pictures), paths.shape[1]), dtype=np.float32)
    kernels.sample_kernel(pictures, paths, values)
    return values.reshape(len(pictures), *shape)


def partial_scans(values: ArrayLike, positions: ArrayLike, image_size: int) -> NDArray[np.float32]:
    """Partial scans: the mean of what was measured at each pixel, and the mask of measured pixels.

    ``scan[0] = sum of a pixel's values / its visits`` (0 where never visited), ``scan[1] = 1`` where visited.
    Sums run in float64, so the order of the visits does not matter at float32's precision.

    Args:
        values: Measured values, shape (n_scans, ...).
        positions: Their positions [px], shape (n_scans, ..., 2), or (1, ..., 2) where all share one path.
        image_size: Side S of the field [px].

    Returns:
        Partial scans, float32, shape (n_scans, 2, S, S).

    Raises:
        ValueError: If a shape does not fit, a position is not finite, or ``image_size`` is not positive.

    Example:
        >>> scan = partial_scans([[1.0, 3.0, 5.0]], [[[0, 0], [0, 0], [1, 1]]], 2)
        >>> scan[0].tolist()
        [[[2.0, 0.0], [0.0, 5.0]], [[1.0, 0.0], [0.0, 1.0]]]
    """
    _check_image_size(image_size)
    measured = np.ascontiguousarray(values, dtype=np.float32)
    if measured.ndim < 2:
        raise ValueError(f"values have shape {measured.shape}; expected (n_scans, ...)")
    paths, shape = _paths(positions, len(measured))
    if measured.shape[1:] != shape:
        raise ValueError(f"values have shape {measured.shape}; expected {(len(measured), *shape)}")
    scans = np.zeros((len(measured), 2, image_size, image_size), dtype=np.float32)
    kernels.partial_scans_kernel(measured.reshape(len(measured), -1), paths, scans)
    return scans


def coverage(positions: ArrayLike, image_size: int) -> NDArray[np.float64]:
    """Fraction of the field's pixels that a path measures, each counted once.

    Args:
        positions: Positions [px], shape (n_scans, ..., 2).
        image_size: Side S of the field [px].

    Returns:
        Coverage in (0, 1], float64, shape (n_scans,).

    Raises:
        ValueError: If a shape does not fit, a position is not finite, or ``image_size`` is not positive.

    Example:
        >>> coverage([[[0.0, 0.0], [0.2, 0.0], [1.0, 1.0]]], 2).tolist()
        [0.5]
    """
    _check_image_size(image_size)
    paths, _ = _paths(positions, None)
    covered = np.empty(len(paths), dtype=np.float64)
    kernels.coverage_kernel(paths, image_size, covered)
    return covered


def path_length(positions: ArrayLike) -> NDArray[np.float64]:
    """Length of paths through their positions, straight from each to the next.

    Args:
        positions: Positions [px], shape (n_scans, ..., 2); the axes between are read in order.

    Returns:
        Lengths [px], float64, shape (n_scans,).

    Raises:
        ValueError: If the shape does not fit or a position is not finite.

    Example:
        >>> path_length([[[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]]]).tolist()
        [6.0]
    """
    paths, _ = _paths(positions, None)
    lengths = np.empty(len(paths), dtype=np.float64)
    kernels.path_length_kernel(paths, lengths)
    return lengths


def _check_image_size(image_size: int) -> None:
    if image_size < 1:
        raise SettingError(f"image_size: got {image_size}; expected a positive number of pixels")


def _paths(positions: ArrayLike, n_scans: int | None) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    """Positions as (n_paths, n_positions, 2) with the axes that stood between the first and the last."""
    paths = np.ascontiguousarray(positions, dtype=np.float32)
    expected = "(n_scans, ..., 2)" if n_scans is None else f"({n_scans}, ..., 2) or (1, ..., 2)"
    fits = paths.ndim >= 3 and paths.shape[-1] == 2 and paths.size > 0
    if not fits or (n_scans is not None and len(paths) not in (1, n_scans)):
        raise ValueError(f"positions have shape {paths.shape}; expected {expected}")
    flat = paths.reshape(len(paths), -1, 2)
    if not kernels.all_finite_kernel(flat):
        raise ValueError("positions hold a non-finite number; expected finite (row, column) in px")
    return flat, paths.shape[1:-1]
