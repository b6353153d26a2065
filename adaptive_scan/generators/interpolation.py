"""Interpolation of scattered measured pixels: linear, Clough-Tocher and thin-plate spline.

All three reproduce planes (the first two inside the hull of the measured pixels), keep the measured values, are linear
in them and do not clip: where a smooth method overshoots [-1, 1], that counts as the error it is.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from scipy.interpolate import CloughTocher2DInterpolator, RBFInterpolator
from scipy.spatial import Delaunay, QhullError
from torch import Tensor

from adaptive_scan.generators.by_mask import complete_by_mask, nearest_pictures, on_one_line
from adaptive_scan.generators.distance import nearest_measured
from adaptive_scan.generators.kernels import blend_kernel, triangle_weights_kernel

_POINTS_OF_A_SPLINE = 600  # the cost of a spline grows with the cube of its points


class LinearCompleter:
    """Linear interpolation on the Delaunay triangulation of the measured pixels, nearest outside their hull.

    Fewer than three measured pixels, or pixels that all lie on one line, have no triangulation and are completed by
    the nearest measured pixel. Computed on the CPU without gradients; scans that measured the same pixels share one
    triangulation. Of four pixels on one circle either diagonal may be an edge, so a flipped scan gives a flipped
    picture only where no four neighbours lie on one.

    Example:
        >>> partial_scans = torch.zeros(1, 2, 3, 3)
        >>> for row, column, value in ((0, 0, 0.0), (0, 2, 0.0), (2, 0, 1.0), (2, 2, 1.0)):
        ...     partial_scans[0, :, row, column] = torch.tensor([value, 1.0])
        >>> LinearCompleter()(partial_scans)[0, 0, :, 1]
        tensor([0.0000, 0.5000, 1.0000])
    """

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        return complete_by_mask(partial_scans, _linear)


def _linear(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    pictures = np.empty((len(values), mask.size), dtype=np.float32)
    blend_kernel(values.reshape(len(values), -1), *_interpolation(mask), pictures)
    return pictures.reshape(values.shape)


def _interpolation(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The three measured pixels that each pixel is interpolated from, and their weights, both (H * W, 3).

    SciPy's interpolator on the same triangulation would call LAPACK once per triangle, where most of its time goes.
    """
    nearest = nearest_measured(torch.from_numpy(mask[None]))[0].numpy()
    corners = np.repeat(nearest[..., None], 3, axis=-1)
    weights = np.zeros(corners.shape)
    weights[..., 0] = 1.0
    points = np.argwhere(mask)
    # Qhull gives up on rare sets of nearly cocircular points; the nearest pixel serves them as it does lines.
    with contextlib.suppress(QhullError):
        triangle_weights_kernel(points, Delaunay(points).simplices, corners, weights)
    return corners.reshape(-1, 3), weights.reshape(-1, 3)


class CloughTocherCompleter:
    """Piecewise cubic interpolation with continuous slopes on the Delaunay triangulation, nearest outside the hull.

    The slopes at the measured pixels are those of least curvature (Nielson 1983, Math. Comp. 40, 253; Renka and Cline
    1984, Rocky Mountain J. Math. 14, 223), by SciPy's interpolator. Without a triangle, and for scans that share their
    pixels, as :class:`LinearCompleter`.

    Example:
        >>> partial_scans = torch.zeros(1, 2, 3, 3)
        >>> for row, column, value in ((0, 0, 0.0), (0, 2, 0.0), (2, 0, 1.0), (2, 2, 1.0)):
        ...     partial_scans[0, :, row, column] = torch.tensor([value, 1.0])
        >>> CloughTocherCompleter()(partial_scans)[0, 0, :, 1]
        tensor([0.0000, 0.5000, 1.0000])
    """

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        return complete_by_mask(partial_scans, _clough_tocher)


def _clough_tocher(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    pictures = nearest_pictures(mask, values)
    at_points = values[:, mask].T.astype(np.float64)
    with contextlib.suppress(QhullError):
        spline = CloughTocher2DInterpolator(Delaunay(np.argwhere(mask)), at_points)
        smooth = np.moveaxis(spline(*np.indices(mask.shape)), -1, 0)
        inside = ~np.isnan(smooth) & ~mask
        pictures[inside] = smooth[inside]
    return pictures


class ThinPlateSplineCompleter:
    """Thin-plate spline through the measured pixels, ``sum_i a_i r_i^2 log r_i`` and a plane.

    It has the least bending energy of all surfaces through them (Duchon 1977, doi:10.1007/BFb0086566), by SciPy's
    radial basis functions. Up to 600 measured pixels make one spline. More are taken in windows, halved until each
    holds 300 at most, through the 600 measured pixels nearest to the window: what lies farther hardly acts. Against
    one spline through 1600 pixels of a micrograph that changes grey values by 0.0002 (grid) to 0.003 (raster), root
    mean square on [-1, 1]. Without a triangle, and for scans that share their pixels, as :class:`LinearCompleter`.

    Example:
        >>> partial_scans = torch.zeros(1, 2, 4, 4)
        >>> for row, column, value in ((0, 0, 0.0), (0, 2, 0.0), (2, 0, 1.0)):
        ...     partial_scans[0, :, row, column] = torch.tensor([value, 1.0])
        >>> ThinPlateSplineCompleter()(partial_scans)[0, 0, :, 1].abs().numpy().round(5).tolist()
        [0.0, 0.5, 1.0, 1.5]
    """

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        return complete_by_mask(partial_scans, _thin_plate_spline)


def _thin_plate_spline(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    points = np.argwhere(mask)
    at_points = values[:, mask].T.astype(np.float64)
    pictures = np.empty_like(values)
    for rows, columns in _windows(mask):
        near = _points_near(points, rows, columns)
        spline = RBFInterpolator(points[near], at_points[near], kernel="thin_plate_spline")
        pixels = np.mgrid[rows, columns]
        smooth = spline(pixels.reshape(2, -1).T)
        pictures[:, rows, columns] = smooth.T.reshape(-1, *pixels.shape[1:])
    pictures[:, mask] = values[:, mask]
    return pictures


def _windows(mask: np.ndarray) -> list[tuple[slice, slice]]:
    """Windows that tile the picture: all of it, or with half the points of a spline each at most."""
    height, width = mask.shape
    if np.count_nonzero(mask) <= _POINTS_OF_A_SPLINE:
        return [(slice(0, height), slice(0, width))]
    found, waiting = [], [(0, height, 0, width)]
    while waiting:
        top, bottom, left, right = waiting.pop()
        if np.count_nonzero(mask[top:bottom, left:right]) <= _POINTS_OF_A_SPLINE // 2:
            found.append((slice(top, bottom), slice(left, right)))
            continue
        row, column = (top + bottom) // 2, (left + right) // 2
        rows, columns = ((top, row), (row, bottom)), ((left, column), (column, right))
        waiting.extend((*some_rows, *some_columns) for some_rows in rows for some_columns in columns)
    return found


def _points_near(points: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """The points of the spline of a window: the nearest ones, with all at the same distance, not all on one line."""
    first, last = np.array([rows.start, columns.start]), np.array([rows.stop - 1, columns.stop - 1])
    beyond = np.maximum(first - points, 0) + np.maximum(points - last, 0)
    distances = (beyond**2).sum(axis=1)
    n_points = min(_POINTS_OF_A_SPLINE, len(points))
    while True:
        near = np.flatnonzero(distances <= np.partition(distances, n_points - 1)[n_points - 1])
        if not on_one_line(points[near]):
            return near
        n_points = min(2 * n_points, len(points))
