"""Compiled loops over pixels, for the classical completers on a CPU; callers validate and allocate the arrays.

Serial on purpose: one thread gives the same bits and the same speed whatever else runs, and survives being forked.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def nearest_measured_kernel(
    measured: NDArray[np.bool_], indices: NDArray[np.int64], distances: NDArray[np.float32]
) -> None:
    """Write the nearest measured pixel of each pixel and how far it is.

    The lower envelope of parabolas (Felzenszwalb and Huttenlocher 2012, doi:10.4086/toc.2012.v008a019), linear in
    the number of pixels. Among pixels at the same distance the one of the lowest column is taken, then of the lowest
    row.

    Args:
        measured: Where a pixel was measured, shape (n_scans, H, W).
        indices: Zeros; written, flat index (row * W + column), shape (n_scans, H, W).
        distances: Written [px], shape (n_scans, H, W); W where a mask has no measured pixel.

    Example:
        >>> indices, distances = np.zeros((1, 1, 3), np.int64), np.zeros((1, 1, 3), np.float32)
        >>> nearest_measured_kernel(np.array([[[True, False, False]]]), indices, distances)
        >>> distances.tolist()
        [[[0.0, 1.0, 2.0]]]
    """
    n_rows, n_columns = measured.shape[1:]
    nearest_row = np.empty((n_rows, n_columns), np.int64)
    kept = np.empty(n_columns, np.int64)
    begins = np.empty(n_columns)
    heights = np.empty(n_columns)
    for n in range(measured.shape[0]):
        _nearest_rows(measured[n], nearest_row)
        for row in range(n_rows):
            n_kept = 0
            for column in range(n_columns):
                if nearest_row[row, column] < 0:
                    continue
                heights[column] = (row - nearest_row[row, column]) ** 2 + column**2
                begin = -np.inf
                while n_kept > 0:
                    rival = kept[n_kept - 1]
                    begin = (heights[column] - heights[rival]) / (2 * (column - rival))
                    if begin > begins[n_kept - 1]:
                        break
                    n_kept -= 1
                    begin = -np.inf
                kept[n_kept] = column
                begins[n_kept] = begin
                n_kept += 1
            if n_kept == 0:
                distances[n, row] = n_columns
                continue
            k = 0
            for column in range(n_columns):
                while k + 1 < n_kept and begins[k + 1] < column:
                    k += 1
                near_row = nearest_row[row, kept[k]]
                indices[n, row, column] = near_row * n_columns + kept[k]
                distances[n, row, column] = math.sqrt((row - near_row) ** 2 + (column - kept[k]) ** 2)


@njit(cache=True, nogil=True)
def _nearest_rows(measured: NDArray[np.bool_], nearest_row: NDArray[np.int64]) -> None:
    """Write the row of the nearest measured pixel in the same column, -1 where the column has none; both (H, W)."""
    n_rows, n_columns = measured.shape
    for column in range(n_columns):
        above = -1
        for row in range(n_rows):
            if measured[row, column]:
                above = row
            nearest_row[row, column] = above
        below = -1
        for row in range(n_rows - 1, -1, -1):
            if measured[row, column]:
                below = row
            above = nearest_row[row, column]
            if below >= 0 and (above < 0 or below - row < row - above):
                nearest_row[row, column] = below


@njit(cache=True, nogil=True)
def triangle_weights_kernel(
    points: NDArray[np.int64],
    triangles: NDArray[np.int32],
    corners: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> None:
    """Write which three points each pixel inside a triangle is interpolated from, and their barycentric weights.

    Vertices are pixels, so all is decided in whole numbers: with the doubled areas ``w_k`` of the triangles that the
    pixel forms with the opposite edges, it lies inside where no ``w_k`` is negative, and the weights are
    ``w_k / (w_0 + w_1 + w_2)``. Measured pixels keep what they come with, as do pixels in no triangle.

    Args:
        points: Measured pixels (row, column), shape (n_points, 2).
        triangles: Their indices, shape (n_triangles, 3); triangles without an area are passed over.
        corners: Written, flat index (row * W + column) of the three pixels, shape (H, W, 3).
        weights: Written, shape (H, W, 3).

    Example:
        >>> corners, weights = np.zeros((3, 3, 3), np.int64), np.zeros((3, 3, 3))
        >>> points = np.array([[0, 0], [2, 0], [0, 2]])
        >>> triangle_weights_kernel(points, np.array([[0, 1, 2]], np.int32), corners, weights)
        >>> corners[0, 1].tolist(), weights[0, 1].tolist()
        ([0, 6, 2], [0.5, 0.0, 0.5])
    """
    n_rows, n_columns = corners.shape[:2]
    is_measured = np.zeros((n_rows, n_columns), np.bool_)
    for row, column in points:
        is_measured[row, column] = True
    at_left, slope = np.empty(3, np.int64), np.empty(3, np.int64)
    for a, b, c in triangles:
        area = _doubled_area(points[a], points[b], points[c, 0], points[c, 1])
        if area == 0:
            continue
        if area < 0:
            b, c, area = c, b, -area
        top, bottom = min(points[a, 0], points[b, 0], points[c, 0]), max(points[a, 0], points[b, 0], points[c, 0])
        left, right = min(points[a, 1], points[b, 1], points[c, 1]), max(points[a, 1], points[b, 1], points[c, 1])
        for row in range(top, bottom + 1):
            first, last = 0, right - left
            for k, (p, q) in enumerate(((b, c), (c, a), (a, b))):
                at_left[k] = _doubled_area(points[p], points[q], row, left)
                slope[k] = points[q, 0] - points[p, 0]
                if slope[k] > 0:
                    first = max(first, -(at_left[k] // slope[k]))
                elif slope[k] < 0:
                    last = min(last, at_left[k] // -slope[k])
                elif at_left[k] < 0:
                    last = -1
            for step in range(first, last + 1):
                column = left + step
                if is_measured[row, column]:
                    continue
                for k, corner in enumerate((a, b, c)):
                    corners[row, column, k] = points[corner, 0] * n_columns + points[corner, 1]
                    weights[row, column, k] = (at_left[k] + step * slope[k]) / area


@njit(cache=True, nogil=True, inline="always")
def _doubled_area(first: NDArray[np.int64], second: NDArray[np.int64], row: int, column: int) -> int:
    """Twice the signed area of the triangle of two points and a pixel."""
    result: int = (second[0] - first[0]) * (column - first[1]) - (second[1] - first[1]) * (row - first[0])
    return result


@njit(cache=True, nogil=True)
def blend_kernel(
    values: NDArray[np.float32],
    corners: NDArray[np.int64],
    weights: NDArray[np.float64],
    pictures: NDArray[np.float32],
) -> None:
    """Write the weighted sums of three pixels each into ``pictures``.

    Args:
        values: Pictures that are read, shape (n_scans, n_pixels).
        corners: Which pixels, shape (n_pixels, 3).
        weights: Their weights, shape (n_pixels, 3).
        pictures: Written, shape (n_scans, n_pixels).

    Example:
        >>> pictures = np.empty((1, 1), np.float32)
        >>> values = np.array([[1.0, 2.0, 4.0]], np.float32)
        >>> blend_kernel(values, np.array([[0, 1, 2]]), np.array([[0.5, 0.25, 0.25]]), pictures)
        >>> pictures.tolist()
        [[2.0]]
    """
    for n in range(values.shape[0]):
        for pixel in range(corners.shape[0]):
            total = 0.0
            for k in range(3):
                total += weights[pixel, k] * values[n, corners[pixel, k]]
            pictures[n, pixel] = total
