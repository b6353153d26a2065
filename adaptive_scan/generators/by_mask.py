"""What classical completers on a CPU share: scans that measured the same pixels share the work on their geometry."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from adaptive_scan.generators.distance import nearest_measured

_MIN_POINTS_OF_A_TRIANGLE = 3


def complete_by_mask(partial_scans: Tensor, complete: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Tensor:
    """Complete partial scans mask by mask, on the CPU and without gradients.

    A scan without a measured pixel becomes 0 everywhere. Fewer than three measured pixels, or pixels that all lie on
    one line, have no triangle to interpolate in; such scans are completed by the nearest measured pixel, whatever the
    method.

    Args:
        partial_scans: Measured values and masks, shape (n_scans, 2, S, S), any device.
        complete: The method: from one mask, bool, shape (S, S), and the values of the scans that have it, float32,
            shape (n, S, S), 0 where nothing was measured, to their pictures of the same shape.

    Returns:
        Pictures of the dtype and on the device of ``partial_scans``, shape (n_scans, 1, S, S).

    Example:
        >>> partial_scans = torch.zeros(1, 2, 3, 3)
        >>> partial_scans[0, :, 1, 1] = 1.0
        >>> complete_by_mask(partial_scans, lambda mask, values: values)[0, 0, 0]
        tensor([1., 1., 1.])
    """
    scans = partial_scans.detach().float().cpu()
    measured = (scans[:, 1] != 0).numpy()
    values = np.where(measured, scans[:, 0].numpy(), np.float32(0))
    pictures = np.zeros_like(values)
    for mask, same in _by_mask(measured):
        method = nearest_pictures if on_one_line(np.argwhere(mask)) else complete
        pictures[same] = method(mask, values[same])
    return torch.from_numpy(pictures)[:, None].to(partial_scans)


def nearest_pictures(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Give every pixel the value of the nearest measured one.

    Args:
        mask: Where a pixel was measured, shape (S, S), not empty.
        values: Values of the scans that have this mask, shape (n, S, S).

    Returns:
        Pictures, shape (n, S, S).

    Example:
        >>> nearest_pictures(np.array([[True, False], [False, False]]), np.array([[[3.0, 0.0], [0.0, 0.0]]]))
        array([[[3., 3.],
                [3., 3.]]])
    """
    nearest = nearest_measured(torch.from_numpy(mask[None]))[0].numpy()
    return values.reshape(len(values), -1)[:, nearest]


def on_one_line(points: np.ndarray) -> bool:
    """Whether different points with whole coordinates, shape (n_points, 2), have no triangle among them.

    Example:
        >>> on_one_line(np.array([[0, 0], [1, 2], [2, 4]])), on_one_line(np.array([[0, 0], [1, 2], [2, 5]]))
        (True, False)
    """
    if len(points) < _MIN_POINTS_OF_A_TRIANGLE:
        return True
    rows, columns = (points[1:] - points[0]).T
    return not np.any(rows * columns[0] - columns * rows[0])


def _by_mask(measured: np.ndarray) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Each different mask (S, S) among ``measured`` (N, S, S) that is not empty, and the scans that have it."""
    scans: dict[bytes, list[int]] = {}
    for index, mask in enumerate(measured):
        scans.setdefault(mask.tobytes(), []).append(index)
    for same in scans.values():
        if measured[same[0]].any():
            yield measured[same[0]], same
