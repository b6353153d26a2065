"""Interpolation of scattered pixels: against SciPy one by one, slow formulas and planes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CloughTocher2DInterpolator, LinearNDInterpolator
from scipy.spatial import Delaunay, QhullError

from adaptive_scan.generators import interpolation
from adaptive_scan.generators.completers import (
    CloughTocherCompleter,
    LinearCompleter,
    NearestCompleter,
    ThinPlateSplineCompleter,
)
from adaptive_scan.generators.families import draw_positions
from adaptive_scan.scans import ScanGeometry, partial_scans


def _scan(points: list[tuple[int, int, float]], size: int = 8) -> torch.Tensor:
    scan = torch.zeros(1, 2, size, size)
    for row, column, value in points:
        scan[0, :, row, column] = torch.tensor([value, 1.0])
    return scan


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
    values = rng.uniform(-1, 1, (3, geometry.n_positions_total)).astype(np.float32)
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
    monkeypatch.setattr(interpolation, "Delaunay", counted)
    torch.testing.assert_close(LinearCompleter()(scans), alone, rtol=0, atol=0)
    assert triangulated == [int(scans[0, 1].sum()), int(scans[1, 1].sum())]


def test_linear_survives_a_triangulation_that_fails(
    make_scans: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(points: np.ndarray) -> Delaunay:
        raise QhullError("QH6271 topology error")

    monkeypatch.setattr(interpolation, "Delaunay", fails)
    scans = make_scans(2, 16)
    torch.testing.assert_close(LinearCompleter()(scans), NearestCompleter()(scans), rtol=0, atol=0)


def test_linear_ignores_values_outside_the_mask_and_keeps_the_type(make_scans: Callable[..., torch.Tensor]) -> None:
    scans = make_scans(2, 16)
    scans[1, 1] = 0
    noisy = torch.where(scans[:, 1:] != 0, scans, torch.tensor([7.0, 0.0])[:, None, None])
    torch.testing.assert_close(LinearCompleter()(noisy), LinearCompleter()(scans), rtol=0, atol=0)
    assert (LinearCompleter()(noisy)[1] == 0).all()
    assert LinearCompleter()(scans.double().requires_grad_()).dtype == torch.float64


def test_clough_tocher_equals_scipy_and_beats_linear_on_a_smooth_surface(rng: np.random.Generator) -> None:
    rows, columns = np.indices((40, 40)) / 40
    surface = (np.sin(3.0 * rows) * np.cos(4.0 * columns)).astype(np.float32)
    mask = rng.random((40, 40)) < 0.06
    mask[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    scans = torch.from_numpy(np.stack([[surface * mask, mask], [2 - surface * mask, mask]]).astype(np.float32))
    found = CloughTocherCompleter()(scans)[:, 0].numpy()
    alone = CloughTocher2DInterpolator(np.argwhere(mask), surface[mask])(*np.indices(mask.shape))
    np.testing.assert_allclose(found[0], alone, atol=1e-5)
    np.testing.assert_allclose(found[1], 2 - alone, atol=1e-5)
    linear = LinearCompleter()(scans)[0, 0].numpy()
    assert np.mean((found[0] - surface) ** 2) < 0.2 * np.mean((linear - surface) ** 2)


def test_clough_tocher_reproduces_a_plane_inside_the_hull_and_takes_the_nearest_outside() -> None:
    points = [(1, 1), (1, 6), (6, 1), (6, 6), (3, 4)]
    completion = CloughTocherCompleter()(_scan([(row, column, 0.1 * row - 0.05 * column) for row, column in points]))
    plane = 0.1 * torch.arange(8.0)[:, None] - 0.05 * torch.arange(8.0)
    torch.testing.assert_close(completion[0, 0, 1:7, 1:7], plane[1:7, 1:7], rtol=0, atol=1e-6)
    torch.testing.assert_close(completion[0, 0, 7, 7], plane[6, 6])


def test_clough_tocher_survives_a_triangulation_that_fails(
    make_scans: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(points: np.ndarray) -> Delaunay:
        raise QhullError("QH6271 topology error")

    monkeypatch.setattr(interpolation, "Delaunay", fails)
    scans = make_scans(2, 16)
    torch.testing.assert_close(CloughTocherCompleter()(scans), NearestCompleter()(scans), rtol=0, atol=0)


def _spline_by_hand(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The spline's own equations: it goes through the points, and its coefficients are orthogonal to planes."""
    points = np.argwhere(mask).astype(float)
    pixels = np.indices(mask.shape).reshape(2, -1).T

    def kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        squares = ((first[:, None] - second) ** 2).sum(axis=-1)
        return 0.5 * squares * np.log(np.maximum(squares, 1.0))

    def plane(places: np.ndarray) -> np.ndarray:
        return np.column_stack((np.ones(len(places)), places))

    corner = np.zeros((3, 3))
    system = np.block([[kernel(points, points), plane(points)], [plane(points).T, corner]])
    coefficients = np.linalg.solve(system, np.concatenate((values[mask], np.zeros(3))))
    return (np.hstack((kernel(pixels, points), plane(pixels))) @ coefficients).reshape(mask.shape)


def test_thin_plate_spline_solves_its_equations(make_scans: Callable[..., torch.Tensor]) -> None:
    scans = make_scans(2, 20, 0.1)
    found = ThinPlateSplineCompleter()(scans)[:, 0].numpy()
    for (values, mask), picture in zip(scans.double().numpy(), found, strict=True):
        np.testing.assert_allclose(picture, _spline_by_hand(values, mask != 0), atol=1e-4)


def test_thin_plate_spline_in_windows_is_nearly_the_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = np.indices((48, 48)) / 48
    mask = np.random.default_rng(3).random((48, 48)) < 0.15
    scan = torch.from_numpy(np.stack((np.sin(9.0 * rows * columns) * mask, mask))[None].astype(np.float32))
    whole = ThinPlateSplineCompleter()(scan)
    monkeypatch.setattr(interpolation, "_POINTS_OF_A_SPLINE", 120)
    windows = interpolation._windows(mask)
    assert len(windows) > 4
    counts = np.zeros(mask.shape, int)
    for window in windows:
        counts[window] += 1
        assert mask[window].sum() <= 60
    assert (counts == 1).all()
    difference = ThinPlateSplineCompleter()(scan) - whole
    assert 0 < float(difference.square().mean().sqrt()) < 2e-3


def test_thin_plate_spline_of_lines_takes_points_of_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpolation, "_POINTS_OF_A_SPLINE", 10)
    scan = torch.zeros(1, 2, 32, 32)
    scan[:, 1, ::10] = 1.0
    scan[:, 0, ::10] = torch.linspace(0.0, 0.93, 32) + 0.01 * torch.arange(0, 32, 10)[:, None]
    plane = torch.linspace(0.0, 0.93, 32) + 0.01 * torch.arange(32)[:, None]
    torch.testing.assert_close(ThinPlateSplineCompleter()(scan)[0, 0], plane, rtol=0, atol=1e-4)
