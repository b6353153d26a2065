from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from adaptive_scan.generators import COMPLETERS, LinearCompleter, NearestCompleter, make_completer


def _scan(points: list[tuple[int, int, float]], size: int = 8) -> torch.Tensor:
    scan = torch.zeros(1, 2, size, size)
    for row, column, value in points:
        scan[0, :, row, column] = torch.tensor([value, 1.0])
    return scan


def test_nearest_equals_scipy(make_scans: Callable[..., torch.Tensor]) -> None:
    scans = make_scans(3, 24)
    found = NearestCompleter()(scans)[:, 0].numpy()
    for (values, mask), picture in zip(scans.numpy(), found, strict=True):
        distance, near = distance_transform_edt(mask == 0, return_indices=True)
        rows, columns = np.indices(mask.shape)
        several = _n_nearest(mask, distance, rows, columns) > 1
        np.testing.assert_array_equal(picture[~several], values[tuple(near)][~several])


def _n_nearest(mask: np.ndarray, distance: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    points = np.argwhere(mask)
    squared = (rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2
    return (np.abs(np.sqrt(squared) - distance[..., None]) < 1e-9).sum(axis=-1)


def test_linear_reproduces_a_plane_inside_the_hull_and_nearest_outside() -> None:
    corners = [(1, 1), (1, 6), (6, 1), (6, 6)]
    scan = _scan([(row, column, 0.1 * row - 0.05 * column) for row, column in corners])
    completion = LinearCompleter()(scan)[0, 0]
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    plane = 0.1 * rows - 0.05 * columns
    torch.testing.assert_close(completion[1:7, 1:7], plane[1:7, 1:7], rtol=0, atol=1e-6)
    torch.testing.assert_close(completion[0, 0], plane[1, 1])
    torch.testing.assert_close(completion[7, 7], plane[6, 6])


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(3, 3, 0.5)],
        [(3, 3, 0.5), (5, 1, -0.5)],
        [(1, 1, 0.1), (2, 2, 0.2), (5, 5, 0.3), (7, 7, 0.4)],
        [(4, 0, 0.1), (4, 3, 0.2), (4, 7, 0.3)],
    ],
)
def test_linear_falls_back_on_nearest_without_a_triangle(points: list[tuple[int, int, float]]) -> None:
    scan = _scan(points)
    torch.testing.assert_close(LinearCompleter()(scan), NearestCompleter()(scan), rtol=0, atol=0)


def test_linear_completes_a_batch_scan_by_scan(make_scans: Callable[..., torch.Tensor]) -> None:
    scans = make_scans(3, 16)
    scans[1] = 0
    together = LinearCompleter()(scans)
    alone = torch.cat([LinearCompleter()(scan[None]) for scan in scans])
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, alone, rtol=0, atol=0)
    assert LinearCompleter()(scans[:0]).shape == (0, 1, 16, 16)


def test_make_completer_knows_its_names() -> None:
    assert {name: type(make_completer(name)) for name in COMPLETERS} == {
        "nearest": NearestCompleter,
        "linear": LinearCompleter,
    }
    with pytest.raises(ValueError, match="completer is 'cubic'; expected one of nearest, linear"):
        make_completer("cubic")
