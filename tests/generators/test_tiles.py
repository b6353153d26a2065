from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptive_scan.generators import NearestCompleter, UNetGenerator
from adaptive_scan.generators.tiles import TiledCompleter

MakeScans = Callable[..., Tensor]


def _scans(n_scans: int, height: int, width: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    masks = rng.random((n_scans, height, width)) < 0.3
    values = rng.uniform(-1, 1, masks.shape) * masks
    return torch.from_numpy(np.stack((values, masks), axis=1).astype(np.float32))


class _Local:
    """A completer of receptive radius 2 that works on a grid of ``stride`` px, at zero-padded edges like a network."""

    def __init__(self, stride: int) -> None:
        self.stride = stride
        self.kernel = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(1))
        self.n_tiles: list[int] = []

    def __call__(self, partial_scans: Tensor) -> Tensor:
        self.n_tiles.append(len(partial_scans))
        pattern = torch.arange(float(self.stride))  # differs from pixel to pixel of a cell of the grid
        rows = pattern.repeat(partial_scans.shape[-2] // self.stride)
        columns = pattern.repeat(partial_scans.shape[-1] // self.stride)
        return F.conv2d(partial_scans, self.kernel, padding=2) + rows[:, None] + 0.1 * columns


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 5), st.integers(0, 12), st.integers(0, 12), st.integers(2, 4), st.integers(1, 7)
)
def test_tiles_equal_the_completer_itself_where_it_is_local(
    stride: int, n_kept: int, more_rows: int, more_columns: int, overlap: int, n_at_once: int
) -> None:
    tile = -(-2 * overlap // stride) * stride + n_kept * stride
    scans = _scans(2, tile + more_rows * stride, tile + more_columns * stride)
    local = _Local(stride)
    tiled = TiledCompleter(local, tile, overlap, n_at_once=n_at_once)(scans)
    assert max(local.n_tiles) <= n_at_once
    torch.testing.assert_close(tiled, local(scans), rtol=0, atol=1e-5)


def test_less_overlap_than_the_receptive_radius_is_not_enough() -> None:
    scans, local = _scans(1, 40, 40) + 3.0, _Local(1)
    wrong = ((TiledCompleter(local, 16, 1)(scans) - local(scans)).abs() > 1e-4)[0, 0]
    # tiles start at 0, 14 and 24: the outermost kept pixels beside the seams at 15 and 29 are wrong, but for
    # that at 29, of which the last tile, shifted inwards, sees enough
    beside = torch.zeros(40, dtype=torch.bool)
    beside[[14, 15, 28]] = True
    torch.testing.assert_close(wrong, beside[:, None] | beside)


def test_a_local_network_of_stride_four_is_completed_exactly() -> None:
    """Convolutions down and up by 4: a pixel depends on nothing farther away than 3 + 4 + 3 px."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 8, 4, 4), torch.nn.Conv2d(8, 16, 3, padding=1)).eval()

    def complete(partial_scans: Tensor) -> Tensor:
        return F.pixel_shuffle(network(partial_scans), 4)

    scans = _scans(1, 60, 92)
    with torch.inference_mode():
        tiled = TiledCompleter(complete, 32, 10, stride=4)(scans)
        torch.testing.assert_close(tiled, complete(scans), rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_any_height_and_width_is_filled_once(height: int, width: int) -> None:
    def values(partial_scans: Tensor) -> Tensor:
        assert partial_scans.shape[2:] == (16, 16)
        return partial_scans[:, :1].clone()

    scans = _scans(2, height, width)
    tiled = TiledCompleter(values, 16, 3, stride=4)(scans)
    torch.testing.assert_close(tiled, scans[:, :1], rtol=0, atol=0)


def test_small_pictures_are_continued_by_reflection() -> None:
    seen: list[Tensor] = []

    def keep(partial_scans: Tensor) -> Tensor:
        seen.append(partial_scans)
        return partial_scans[:, :1]

    scans = _scans(1, 3, 12)
    TiledCompleter(keep, 12, 0)(scans)
    expected = np.pad(scans.numpy(), ((0, 0), (0, 0), (0, 9), (0, 0)), mode="reflect")
    torch.testing.assert_close(seen[0], torch.from_numpy(expected), rtol=0, atol=0)


def test_a_single_tile_is_the_completer_itself(make_scans: MakeScans) -> None:
    scans = make_scans(2, 32)
    torch.testing.assert_close(TiledCompleter(NearestCompleter(), 32, 8)(scans), NearestCompleter()(scans))


def test_stride_comes_from_the_network(make_scans: MakeScans) -> None:
    network = UNetGenerator(n_channels=4, n_levels=2).eval()
    tiled = TiledCompleter(network, 16, 4)
    assert tiled.stride == 4
    with torch.inference_mode():
        assert tiled(make_scans(1, 50)).shape == (1, 1, 50, 50)
    with pytest.raises(ValueError, match="tile: got 18 px; expected a positive multiple of 4"):
        TiledCompleter(network, 18, 4)


def test_nearest_measured_pixels_closer_than_the_overlap_are_found(make_scans: MakeScans) -> None:
    scans = make_scans(1, 96, 0.3)
    torch.testing.assert_close(TiledCompleter(NearestCompleter(), 48, 16)(scans), NearestCompleter()(scans))


def test_what_does_not_suit_is_refused() -> None:
    completer = NearestCompleter()
    with pytest.raises(ValueError, match=r"tile: got 8 px; expected at least 2 overlap \+ stride = 9"):
        TiledCompleter(completer, 8, 4)
    with pytest.raises(ValueError, match="stride: got 0, n_at_once 8 and overlap 4; expected at least 1, 1 and 0"):
        TiledCompleter(completer, 16, 4, stride=0)
    with pytest.raises(ValueError, match="overlap -1"):
        TiledCompleter(completer, 16, -1)
    with pytest.raises(ValueError, match="tile: got 0 px"):
        TiledCompleter(completer, 0, 0)
    with pytest.raises(ValueError, match=r"shape \(1, 1, 8, 8\); expected \(n_scans, 2, height, width\)"):
        TiledCompleter(completer, 8, 2)(torch.zeros(1, 1, 8, 8))
