"""Equal spacing along paths, and the checks that the static families share."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from adaptive_scan.errors import SettingError

DEFAULT_SPACING = math.sqrt(2.0)


def check_scan(n_positions: int, image_size: int, spacing: float = DEFAULT_SPACING) -> None:
    """Refuse a dose, a field or a spacing that no scan can have.

    Raises:
        ValueError: If the dose is not a positive integer, the field is smaller than 2 px or the spacing is
        not a
            positive number.
    """
    if isinstance(n_positions, bool) or not isinstance(n_positions, int | np.integer) or n_positions < 1:
        raise SettingError(f"n_positions: got {n_positions!r}; expected a positive number of positions")
    if isinstance(image_size, bool) or not isinstance(image_size, int | np.integer) or image_size < 2:
        raise SettingError(f"image_size: got {image_size!r}; expected an integer of at least 2 px")
    if not (math.isfinite(spacing) and spacing > 0):
        raise SettingError(f"spacing: got {spacing!r}; expected a positive number of px")


def inside(positions: NDArray[np.float64], image_size: int) -> NDArray[np.float32]:
    """Positions as float32, with what rounding pushed over the edge put back on it."""
    return np.clip(positions, 0.0, image_size - 1.0).astype(np.float32)


def cell_centres(n_cells: int, image_size: int) -> NDArray[np.floating]:
    """Centres [px] of equal cells that tile the field's pixels, shape (n_cells,).

    Example:
        >>> cell_centres(2, 4).tolist()
        [0.5, 2.5]
    """
    return (np.arange(n_cells) + 0.5) * (image_size / n_cells) - 0.5


def along_polyline(vertices: NDArray[np.float64], n_positions: int) -> NDArray[np.float64]:
    """Positions equally spaced in arc length along a polyline, half a spacing from its ends.

    Args:
        vertices: Corners [px], shape (n_vertices, 2).
        n_positions: Number of positions.

    Returns:
        Positions [px], shape (n_positions, 2).

    Example:
        >>> along_polyline(np.array([[0.0, 0.0], [0.0, 2.0], [2.0, 2.0]]), 4).tolist()
        [[0.0, 0.5], [0.0, 1.5], [0.5, 2.0], [1.5, 2.0]]
    """
    travelled = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(vertices, axis=0).T))))
    wanted = (np.arange(n_positions) + 0.5) * (travelled[-1] / n_positions)
    return np.stack([np.interp(wanted, travelled, vertices[:, axis]) for axis in (0, 1)], axis=1)
