"""Classical completers: interpolation of the measured pixels, called as a network is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from scipy.spatial import Delaunay, QhullError
from torch import Tensor

from adaptive_scan.generators.distance import nearest_infill, nearest_measured
from adaptive_scan.generators.infill import pull_push_infill
from adaptive_scan.generators.kernels import blend_kernel, triangle_weights_kernel

_MIN_POINTS_OF_A_TRIANGLE = 3


class Completer(Protocol):
    """Anything that completes partial scans: a network, an interpolation, a function.

    Example:
        >>> def zeros(partial_scans: torch.Tensor) -> torch.Tensor:
        ...     return torch.zeros_like(partial_scans[:, :1])
        >>> completer: Completer = zeros
    """

    def __call__(self, partial_scans: Tensor, /) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        ...


class NearestCompleter:
    """Every pixel takes the value of the nearest measured one; 0 where nothing was measured.

    Example:
        >>> partial_scan = torch.tensor([[[[0.0, 0.5], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]])
        >>> NearestCompleter()(partial_scan).unique()
        tensor([0.5000])
    """

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        return nearest_infill(partial_scans)


class InfillCompleter:
    """The pull-push infill that `UNetGenerator` starts from, without the network.

    What it scores is the part of that network's score that no training earned.

    Example:
        >>> partial_scan = torch.zeros(1, 2, 8, 8)
        >>> partial_scan[0, :, 3, 5] = 1.0
        >>> bool(torch.isclose(InfillCompleter()(partial_scan), torch.ones(1)).all())
        True
    """

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        return pull_push_infill(partial_scans)


class LinearCompleter:
    """Linear interpolation on the Delaunay triangulation of the measured pixels, nearest outside their hull.

    Fewer than three measured pixels, or pixels that all lie on one line, have no triangulation and are completed by
    the nearest measured pixel. Computed on the CPU without gradients; scans that measured the same pixels share one
    triangulation.

    Example:
        >>> partial_scans = torch.zeros(1, 2, 3, 3)
        >>> for row, column, value in ((0, 0, 0.0), (0, 2, 0.0), (2, 0, 1.0), (2, 2, 1.0)):
        ...     partial_scans[0, :, row, column] = torch.tensor([value, 1.0])
        >>> LinearCompleter()(partial_scans)[0, 0, :, 1]
        tensor([0.0000, 0.5000, 1.0000])
    """

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        scans = partial_scans.detach().float().cpu()
        measured = (scans[:, 1] != 0).numpy()
        values = scans[:, 0].flatten(1).numpy()
        pictures = np.zeros_like(values)
        for mask, same in _by_mask(measured):
            picture = np.empty((len(same), mask.size), dtype=np.float32)
            blend_kernel(values[same], *_interpolation(mask), picture)
            pictures[same] = picture
        return torch.from_numpy(pictures).view_as(scans[:, :1]).to(partial_scans)


def _by_mask(measured: np.ndarray) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Each different mask (S, S) among ``measured`` (N, S, S) that is not empty, and the scans that have it."""
    scans: dict[bytes, list[int]] = {}
    for index, mask in enumerate(measured):
        scans.setdefault(mask.tobytes(), []).append(index)
    for same in scans.values():
        if measured[same[0]].any():
            yield measured[same[0]], same


def _interpolation(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The three measured pixels that each pixel is interpolated from, and their weights, both (S * S, 3).

    SciPy's interpolator on the same triangulation would call LAPACK once per triangle, where most of its time goes.
    """
    nearest = nearest_measured(torch.from_numpy(mask[None]))[0].numpy()
    corners = np.repeat(nearest[..., None], 3, axis=-1)
    weights = np.zeros(corners.shape)
    weights[..., 0] = 1.0
    points = np.argwhere(mask)
    if not _on_one_line(points):
        # Qhull gives up on rare sets of nearly cocircular points; the nearest pixel serves them as it does lines.
        with contextlib.suppress(QhullError):
            triangle_weights_kernel(points, Delaunay(points).simplices, corners, weights)
    return corners.reshape(-1, 3), weights.reshape(-1, 3)


def _on_one_line(points: np.ndarray) -> bool:
    """Whether different points with whole coordinates, shape (n_points, 2), have no triangle among them."""
    if len(points) < _MIN_POINTS_OF_A_TRIANGLE:
        return True
    rows, columns = (points[1:] - points[0]).T
    return not np.any(rows * columns[0] - columns * rows[0])


COMPLETERS: dict[str, Callable[[], Completer]] = {
    "nearest": NearestCompleter,
    "linear": LinearCompleter,
    "infill": InfillCompleter,
}


def make_completer(name: str) -> Completer:
    """Classical completer of that name.

    Args:
        name: A key of ``COMPLETERS``.

    Returns:
        The completer.

    Raises:
        ValueError: If there is no completer of that name.

    Example:
        >>> type(make_completer("linear")).__name__
        'LinearCompleter'
    """
    if name not in COMPLETERS:
        raise ValueError(f"completer is {name!r}; expected one of {', '.join(COMPLETERS)}")
    return COMPLETERS[name]()
