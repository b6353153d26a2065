"""Classical completers: interpolation of the measured pixels, called as a network is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import QhullError
from torch import Tensor

from adaptive_scan.generators.distance import nearest_infill

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


class LinearCompleter:
    """Linear interpolation on the Delaunay triangulation of the measured pixels, nearest outside their hull.

    Fewer than three measured pixels, or pixels that all lie on one line, have no triangulation and are completed by
    the nearest measured pixel. Computed on the CPU, one scan at a time, without gradients.

    Example:
        >>> partial_scans = torch.zeros(1, 2, 3, 3)
        >>> for row, column, value in ((0, 0, 0.0), (0, 2, 0.0), (2, 0, 1.0), (2, 2, 1.0)):
        ...     partial_scans[0, :, row, column] = torch.tensor([value, 1.0])
        >>> LinearCompleter()(partial_scans)[0, 0, :, 1]
        tensor([0.0000, 0.5000, 1.0000])
    """

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        completions = nearest_infill(partial_scans.detach())
        measured = partial_scans.detach().cpu().numpy()
        pictures = [_interpolate(values, mask) for values, mask in measured]
        if not pictures:
            return completions
        linear = torch.from_numpy(np.stack(pictures)[:, None]).to(completions)
        return torch.where(torch.isnan(linear), completions, linear)


def _interpolate(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Linear interpolation of one picture (S, S); NaN where it is not defined."""
    points = np.argwhere(mask != 0)
    undefined = np.full(mask.shape, np.nan, dtype=np.float32)
    if len(points) < _MIN_POINTS_OF_A_TRIANGLE or np.linalg.matrix_rank(points - points[0]) < points.shape[1]:
        return undefined
    try:
        interpolator = LinearNDInterpolator(points, values[mask != 0])
    except QhullError:  # points too close to a line for the triangulation
        return undefined
    rows, columns = np.indices(mask.shape)
    return interpolator(rows, columns).astype(np.float32)


COMPLETERS: dict[str, Callable[[], Completer]] = {"nearest": NearestCompleter, "linear": LinearCompleter}


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
