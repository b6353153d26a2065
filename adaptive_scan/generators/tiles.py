"""Completing pictures of any size by overlapping tiles whose edges are discarded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, product

import torch
from torch import Tensor

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.completers import Completer

Span = tuple[int, int, int]
Place = tuple[int, Span, Span]  # the scan, and the spans of rows and columns


class TiledCompleter:
    """Completes pictures of any height and width with a completer of square ones.

    A picture is cut into square tiles; of each completed tile the outermost ``overlap`` px are discarded, except along
    the borders of the picture, so that neighbouring tiles share 2 ``overlap`` px or more. Tiles start at multiples of
    ``stride``, and the last one of a row is shifted inwards to end with the picture. So the result is that of the
    completer itself where its pixels depend on nothing farther away than ``overlap`` px, and nearly so where influence
    fades with distance: errors of generators are largest within 20 px of their edges (Ede, arXiv 1910.10467, fig. 8).
    A picture smaller than a tile, or whose sides are no multiples of ``stride``, is continued by reflection to the
    right and downwards.

    A tile with no measured pixel is completed from nothing, so take tiles that are larger than the gaps of the scan.

    Args:
        completer: Completes partial scans of the tile's side, a network or a classical one. Call a network inside
            ``torch.inference_mode()``, or the graphs of all tiles are kept in memory.
        tile: Side of the tiles [px].
        overlap: Width of the edge that is discarded [px].
        stride: What ``tile`` and the places of tiles are multiples of [px]; the completer's ``stride`` by default,
            or 1 where it has none.
        n_at_once: Tiles that are completed in one call, which bounds the memory.

    Raises:
        ValueError: If ``tile`` is no positive multiple of ``stride``, or too small for ``overlap`` to leave a step of
            ``stride``, or a number is out of range.

    Example:
        >>> from adaptive_scan.generators.completers import NearestCompleter
        >>> tiled = TiledCompleter(NearestCompleter(), tile=16, overlap=4)
        >>> tiled(torch.ones(1, 2, 20, 50)).shape
        torch.Size([1, 1, 20, 50])
    """

    def __init__(
        self, completer: Completer, tile: int, overlap: int, *, stride: int | None = None, n_at_once: int = 8
    ) -> None:
        if stride is None:
            stride = int(getattr(completer, "stride", 1))
        if stride < 1 or n_at_once < 1 or overlap < 0:
            found = f"stride: got {stride}, n_at_once {n_at_once} and overlap {overlap}"
            raise SettingError(f"{found}; expected at least 1, 1 and 0")
        if tile < 1 or tile % stride:
            raise SettingError(f"tile: got {tile} px; expected a positive multiple of {stride}")
        if tile - 2 * overlap < stride:
            raise SettingError(f"tile: got {tile} px; expected at least 2 overlap + stride = {2 * overlap + stride}")
        self.completer = completer
        self.tile = tile
        self.overlap = overlap
        self.stride = stride
        self.n_at_once = n_at_once

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, height, width), to pictures, shape (n_scans, 1, height, width)."""
        shape = tuple(partial_scans.shape)
        if len(shape) != 4 or shape[1] != 2 or 0 in shape[2:]:
            raise ValueError(f"partial scans have shape {shape}; expected (n_scans, 2, height, width)")
        scans = self._continued(partial_scans)
        completions = scans.new_empty(len(scans), 1, *scans.shape[2:])
        places = product(range(len(scans)), self._spans(scans.shape[2]), self._spans(scans.shape[3]))
        for chosen in _batches(places, self.n_at_once):
            tiles = torch.stack([_cut(scans[scan], rows[0], columns[0], self.tile) for scan, rows, columns in chosen])
            for completed, (scan, rows, columns) in zip(self.completer(tiles), chosen, strict=True):
                (top, first_row, last_row), (left, first, last) = rows, columns
                kept = completed[:, first_row - top : last_row - top, first - left : last - left]
                completions[scan, :, first_row:last_row, first:last] = kept
        return completions[:, :, : shape[2], : shape[3]]

    def _spans(self, size: int) -> list[Span]:
        """Along one side [px]: where each tile starts, and the first pixel and the end of what is kept of it."""
        step = (self.tile - 2 * self.overlap) // self.stride * self.stride
        starts = [*range(0, size - self.tile, step), size - self.tile]
        ends = [*(start + self.tile - self.overlap for start in starts[:-1]), size]
        return list(zip(starts, [0, *ends[:-1]], ends, strict=True))

    def _continued(self, partial_scans: Tensor) -> Tensor:
        """Partial scans continued by reflection until tiles fit."""
        for dimension in (2, 3):
            size = partial_scans.shape[dimension]
            wanted = max(self.tile, -(-size // self.stride) * self.stride)
            if wanted != size:
                indices = _reflected(size, wanted).to(partial_scans.device)
                partial_scans = partial_scans.index_select(dimension, indices)
        return partial_scans


def _reflected(size: int, wanted: int) -> Tensor:
    """Pixels 0, 1, ..., size - 1, size - 2, ..., 1, 0, 1, ...: ``wanted`` of them."""
    period = max(2 * (size - 1), 1)
    indices = torch.arange(wanted) % period
    return torch.minimum(indices, period - indices) if size > 1 else torch.zeros_like(indices)


def _cut(partial_scan: Tensor, row: int, column: int, side: int) -> Tensor:
    return partial_scan[:, row : row + side, column : column + side]


def _batches(places: Iterable[Place], n_at_once: int) -> Iterator[list[Place]]:
    """Lists of ``n_at_once`` places, the last one shorter."""
    remaining = iter(places)
    while chosen := list(islice(remaining, n_at_once)):
        yield chosen
