from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import distance_transform_edt
from scipy.spatial import Delaunay, QhullError

from adaptive_scan.generators import (
    COMPLETERS,
    InfillCompleter,
    LinearCompleter,
    NearestCompleter,
    UNetGenerator,
    completers,
    draw_positions,
    make_completer,
)
from adaptive_scan.scans import ScanGeometry, partial_scans


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


def _by_scipy(scans: torch.Tensor) -> torch.Tensor:
    """Each scan by SciPy's linear interpolator, the nearest value outside the hull and without a triangle."""
    pictures = NearestCompleter()(scans)
    for (values, mask), picture in zip(scans.numpy(), pictures[:, 0].numpy(), strict=True):
        points = np.argwhere(mask)
        if len(points) >= 3 and np.linalg.matrix_rank(points - points[0]) == 2:
            linear = LinearNDInterpolator(points, values[mask != 0])(*np.indices(mask.shape))
            picture[~np.isnan(linear)] = linear[~np.isnan(linear)]
    return pictures


@settings(max_examples=40)  # SciPy takes most of the time
@given(size=st.integers(2, 14), fraction=st.sampled_from([0.02, 0.1, 0.3, 0.8, 1.0]), seed=st.integers(0, 10_000))
def test_linear_equals_scipy_on_any_mask(size: int, fraction: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((3, size, size)) < fraction
    scans = torch.from_numpy(np.stack((rng.uniform(-1, 1, masks.shape) * masks, masks), axis=1).astype(np.float32))
    torch.testing.assert_close(LinearCompleter()(scans), _by_scipy(scans), rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["spiral", "raster", "grid", "random", "random_headings"])
@pytest.mark.parametrize("geometry", [ScanGeometry(48, 10, 10), ScanGeometry(96, 20, 20)], ids=["48", "96"])
def test_linear_equals_scipy_on_scans(family: str, geometry: ScanGeometry, rng: np.random.Generator) -> None:
    positions = draw_positions([family], geometry, 3, rng)
    values = rng.uniform(-1, 1, (3, geometry.dose)).astype(np.float32)
    scans = torch.from_numpy(partial_scans(values, positions, geometry.image_size))
    torch.testing.assert_close(LinearCompleter()(scans), _by_scipy(scans), rtol=0, atol=1e-6)


def test_scans_of_the_same_pixels_share_one_triangulation(
    make_scans: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = make_scans(4, 16)
    scans[[0, 2, 3], 1] = scans[0, 1].clone()
    triangulated = []

    def counted(points: np.ndarray) -> Delaunay:
        triangulated.append(len(points))
        return Delaunay(points)

    alone = torch.cat([LinearCompleter()(scan[None]) for scan in scans])
    monkeypatch.setattr(completers, "Delaunay", counted)
    torch.testing.assert_close(LinearCompleter()(scans), alone, rtol=0, atol=0)
    assert triangulated == [int(scans[0, 1].sum()), int(scans[1, 1].sum())]


def test_linear_survives_a_triangulation_that_fails(
    make_scans: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(points: np.ndarray) -> Delaunay:
        raise QhullError("QH6271 topology error")

    monkeypatch.setattr(completers, "Delaunay", fails)
    scans = make_scans(2, 16)
    torch.testing.assert_close(LinearCompleter()(scans), NearestCompleter()(scans), rtol=0, atol=0)


def test_linear_ignores_values_outside_the_mask_and_keeps_the_type(make_scans: Callable[..., torch.Tensor]) -> None:
    scans = make_scans(2, 16)
    scans[1, 1] = 0
    noisy = torch.where(scans[:, 1:] != 0, scans, torch.tensor([7.0, 0.0])[:, None, None])
    torch.testing.assert_close(LinearCompleter()(noisy), LinearCompleter()(scans), rtol=0, atol=0)
    assert (LinearCompleter()(noisy)[1] == 0).all()
    assert LinearCompleter()(scans.double().requires_grad_()).dtype == torch.float64


def test_infill_is_the_untrained_network(make_scans: Callable[..., torch.Tensor]) -> None:
    scans = make_scans(3, 16)
    scans[1] = 0
    found = InfillCompleter()(scans)
    torch.testing.assert_close(found, UNetGenerator(n_channels=4, n_levels=2)(scans), rtol=0, atol=0)
    measured = scans[:, 1] != 0
    assert torch.equal(found[:, 0][measured], scans[:, 0][measured])
    assert (found[1] == 0).all()


def test_make_completer_knows_its_names() -> None:
    assert {name: type(make_completer(name)) for name in COMPLETERS} == {
        "nearest": NearestCompleter,
        "linear": LinearCompleter,
        "infill": InfillCompleter,
    }
    with pytest.raises(ValueError, match="completer is 'cubic'; expected one of nearest, linear, infill"):
        make_completer("cubic")


@pytest.mark.parametrize("name", ["nearest", "linear", "infill"])
def test_values_beyond_the_range_of_crops_are_not_clipped(name: str) -> None:
    scan = torch.zeros(1, 2, 16, 16)
    places = torch.randperm(256, generator=torch.Generator().manual_seed(0))[:40]
    scan[0, 0].view(-1)[places] = torch.linspace(-1.0, 1.0, 40)
    scan[0, 1].view(-1)[places] = 1.0
    beyond = scan.clone()
    beyond[:, 0] *= 3.0
    completer = make_completer(name)
    torch.testing.assert_close(completer(beyond), 3.0 * completer(scan))
    assert completer(beyond).max() > 2.0
