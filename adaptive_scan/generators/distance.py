"""The exact Euclidean distance transform of path masks, and the nearest-neighbour infill it gives.

The transform is separable (Felzenszwalb and Huttenlocher 2012, doi:10.4086/toc.2012.v008a019): the distance to the
nearest measured pixel of the same column comes from two running extrema, and the squared distance is then

    d²(r, c) = min over c' of (c - c')² + g²(r, c')

where g is the distance along the column. On a CPU a compiled loop finds it scan by scan, in linear time. Elsewhere the
minimum is kept as a running one over c', so memory stays at a few pictures per scan whatever the image size. In a graph
that is exported, g is such a minimum as well, for graphs know no running extrema, and both are taken over blocks of c',
which keeps the graph small.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from adaptive_scan.generators.kernels import nearest_measured_kernel

_MAX_EXACT_FLOAT32_SIDE = 2048  # squared distances stay below 2**24, where float32 counts exactly
_BLOCK = 16  # columns that an exported graph looks at together; each takes the memory of a picture per scan


def _nearest_on_cpu(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Flat index of the nearest measured pixel, int64, and the distance to it [px], float32; both (N, S, S)."""
    measured = np.ascontiguousarray((masks != 0).numpy())
    indices, distances = np.zeros(measured.shape, np.int64), np.empty(measured.shape, np.float32)
    nearest_measured_kernel(measured, indices, distances)
    return torch.from_numpy(indices), torch.from_numpy(distances)


def _nearest_row(measured: Tensor) -> tuple[Tensor, Tensor]:
    """Row of the nearest measured pixel in the same column, and whether there is one; both (N, S, S)."""
    n_rows = measured.shape[-2]
    rows = torch.arange(n_rows, device=measured.device)[:, None].expand_as(measured)
    above = torch.where(measured, rows, -1).cummax(dim=-2).values
    below = torch.where(measured, rows, 2 * n_rows).flip(-2).cummin(dim=-2).values.flip(-2)
    take_above = (above >= 0) & ((below >= n_rows) | (rows - above <= below - rows))
    return torch.where(take_above, above, below.clamp(max=n_rows - 1)), (above >= 0) | (below < n_rows)


def _squared_column_distance(nearest_row: Tensor, exists: Tensor) -> Tensor:
    """Squared distance to the nearest measured pixel of the same column, infinite where the column has none."""
    n_rows = nearest_row.shape[-2]
    dtype = torch.float32 if n_rows <= _MAX_EXACT_FLOAT32_SIDE else torch.float64
    rows = torch.arange(n_rows, device=nearest_row.device)[:, None]
    squared = (nearest_row - rows).to(dtype).square()
    return squared.masked_fill(~exists, torch.inf)


def _closest_along_rows(squared: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum over c' of ``squared[..., c'] + (c - c')²`` and the lowest c' that has it, both of the same shape."""
    n_columns = squared.shape[-1]
    columns = torch.arange(n_columns, device=squared.device)
    closest = torch.full_like(squared, torch.inf)
    indices = torch.zeros_like(squared, dtype=torch.int64)
    for begin in range(0, n_columns, _BLOCK):
        block = slice(begin, min(begin + _BLOCK, n_columns))
        steps = (columns[:, None] - columns[block]).square().to(squared.dtype)
        found, place = (squared[..., None, block] + steps).min(dim=-1)
        closer = found < closest
        closest, indices = torch.where(closer, found, closest), torch.where(closer, place + begin, indices)
    return closest, indices


def _is_traced() -> bool:
    """Whether a graph is made of what happens: results of compiled loops would enter it as constants."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def _nearest_for_export(masks: Tensor) -> tuple[Tensor, Tensor]:
    """`_nearest_on_cpu` in operations that every runtime of exported graphs has."""
    n_rows, n_columns = masks.shape[-2:]
    dtype = torch.float32 if max(n_rows, n_columns) <= _MAX_EXACT_FLOAT32_SIDE else torch.float64
    at_pixel = torch.zeros_like(masks, dtype=dtype).masked_fill(masks == 0, torch.inf)
    in_column, rows = _closest_along_rows(at_pixel.transpose(-2, -1))
    squared, columns = _closest_along_rows(in_column.transpose(-2, -1))
    indices = rows.transpose(-2, -1).gather(-1, columns) * n_columns + columns
    return indices, squared.sqrt().masked_fill(torch.isinf(squared), float(n_columns)).float()


def distance_to_measured(masks: Tensor) -> Tensor:
    """Euclidean distance from each pixel to the nearest measured one.

    Args:
        masks: Path masks, shape (n_scans, S, S), any dtype; a pixel is measured where the mask is not zero.

    Returns:
        Distances [px], float32, shape (n_scans, S, S); S everywhere for a mask with no measured pixel.

    Example:
        >>> masks = torch.zeros(1, 3, 3)
        >>> masks[0, 0, 0] = 1
        >>> distance_to_measured(masks)[0, 2]
        tensor([2.0000, 2.2361, 2.8284])
    """
    if _is_traced():
        return _nearest_for_export(masks)[1]
    if masks.device.type == "cpu":
        return _nearest_on_cpu(masks)[1]
    return _batched_distance(masks)


def _batched_distance(masks: Tensor) -> Tensor:
    """`distance_to_measured` on any device, all scans at once."""
    in_column = _squared_column_distance(*_nearest_row(masks != 0))
    columns = torch.arange(masks.shape[-1], device=masks.device, dtype=in_column.dtype)
    squared = torch.full_like(in_column, torch.inf)
    candidate = torch.empty_like(in_column)
    for column in range(masks.shape[-1]):
        torch.add(in_column[..., column, None], (columns - column).square(), out=candidate)
        torch.minimum(squared, candidate, out=squared)
    return squared.sqrt().masked_fill_(torch.isinf(squared), float(masks.shape[-1])).float()


def nearest_measured(masks: Tensor) -> Tensor:
    """Flat index (row * S + column) of the measured pixel nearest to each pixel.

    Among measured pixels at the same distance the one of the lowest column is taken, then of the lowest row.

    Args:
        masks: Path masks, shape (n_scans, S, S), any dtype; a pixel is measured where the mask is not zero.

    Returns:
        Indices, int64, shape (n_scans, S, S); 0 everywhere for a mask with no measured pixel.

    Example:
        >>> nearest_measured(torch.tensor([[[0, 1], [0, 0]]]))
        tensor([[[1, 1],
                 [1, 1]]])
    """
    if _is_traced():
        return _nearest_for_export(masks)[0]
    if masks.device.type == "cpu":
        return _nearest_on_cpu(masks)[0]
    return _batched_nearest(masks)


def _batched_nearest(masks: Tensor) -> Tensor:
    """`nearest_measured` on any device, all scans at once."""
    nearest_row, exists = _nearest_row(masks != 0)
    in_column = _squared_column_distance(nearest_row, exists)
    n_columns = masks.shape[-1]
    columns = torch.arange(n_columns, device=masks.device, dtype=in_column.dtype)
    squared = torch.full_like(in_column, torch.inf)
    indices = torch.zeros_like(nearest_row)
    for column in range(n_columns):
        candidate = in_column[..., column, None] + (columns - column).square()
        closer = candidate < squared
        squared = torch.where(closer, candidate, squared)
        indices = torch.where(closer, nearest_row[..., column, None] * n_columns + column, indices)
    return indices


def nearest_infill(partial_scans: Tensor) -> Tensor:
    """Give every pixel the value of the nearest measured pixel; differentiable in the values.

    Args:
        partial_scans: Measured values and masks, shape (n_scans, 2, S, S).

    Returns:
        Pictures, shape (n_scans, 1, S, S); 0 everywhere for a scan with no measured pixel.

    Example:
        >>> partial_scan = torch.tensor([[[[0.0, 0.5], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]])
        >>> nearest_infill(partial_scan)[0, 0]
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])
    """
    values, masks = partial_scans[:, 0], partial_scans[:, 1]
    values = torch.where(masks != 0, values, 0)
    return values.flatten(1).gather(1, nearest_measured(masks).flatten(1)).view_as(values)[:, None]
