"""What holds for all completers, and the completers of `completers` itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from adaptive_scan.generators import UNetGenerator
from adaptive_scan.generators.augment import apply_symmetries
from adaptive_scan.generators.completers import (
    COMPLETERS,
    GRID_COMPLETERS,
    BiharmonicCompleter,
    CloughTocherCompleter,
    GridCompleter,
    InfillCompleter,
    LinearCompleter,
    NearestCompleter,
    ThinPlateSplineCompleter,
    TotalVariationCompleter,
    make_completer,
)

SCATTERED = tuple(name for name in COMPLETERS if name not in GRID_COMPLETERS)


def _scans_for(name: str, seed: int, size: int = 16, n_scans: int = 2, fraction: float = 0.1) -> torch.Tensor:
    """Scans that the completer takes: of a grid, or of scattered pixels with three off one line; with random values."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n_scans, size, size), bool)
    if name in GRID_COMPLETERS:
        for mask in masks:
            stride, first = rng.integers(2, 6), rng.integers(0, 3)
            mask[first::stride, ::3] = True
    else:
        masks = rng.random(masks.shape) < fraction
        masks[:, [1, 2, size - 2], [2, size - 3, 5]] = True
    values = rng.uniform(-1, 1, masks.shape) * masks
    return torch.from_numpy(np.stack((values, masks), axis=1).astype(np.float32))


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
        "clough_tocher": CloughTocherCompleter,
        "thin_plate_spline": ThinPlateSplineCompleter,
        "biharmonic": BiharmonicCompleter,
        "total_variation": TotalVariationCompleter,
        **dict.fromkeys(("area", "bilinear", "bicubic", "lanczos"), GridCompleter),
    }
    assert GRID_COMPLETERS == ("area", "bilinear", "bicubic", "lanczos")
    assert [make_completer(name).method for name in GRID_COMPLETERS] == list(GRID_COMPLETERS)
    with pytest.raises(
        ValueError, match="completer: got 'cubic'; expected one of nearest, linear, infill, clough_tocher"
    ):
        make_completer("cubic")


@pytest.mark.parametrize("name", COMPLETERS)
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), level=st.floats(-3, 3, width=32))
def test_constants_are_reproduced(name: str, seed: int, level: float) -> None:
    scans = _scans_for(name, seed)
    scans[:, 0] = level * scans[:, 1]
    torch.testing.assert_close(make_completer(name)(scans), torch.full((2, 1, 16, 16), level), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", COMPLETERS)
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), fraction=st.sampled_from([0.02, 0.2, 1.0]))
def test_measured_pixels_stand(name: str, seed: int, fraction: float) -> None:
    scans = _scans_for(name, seed, fraction=fraction)
    measured = scans[:, 1] != 0
    assert torch.equal(make_completer(name)(scans)[:, 0][measured], scans[:, 0][measured])


@pytest.mark.parametrize("name", COMPLETERS)
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.125, 5, width=32), level=st.floats(-2, 2, width=32))
def test_brightness_and_contrast_commute_with_completion(name: str, seed: int, scale: float, level: float) -> None:
    # So nothing is clipped either.
    scans = _scans_for(name, seed)
    mapped = scans.clone()
    mapped[:, 0] = (scale * scans[:, 0] + level) * scans[:, 1]
    completer = make_completer(name)
    # Least total variation has many pictures in some places; rounding may choose among them.
    tolerance = 2e-3 if name == "total_variation" else 1e-4
    torch.testing.assert_close(
        completer(mapped), scale * completer(scans) + level, rtol=0, atol=scale * tolerance + 1e-5
    )


@pytest.mark.parametrize("name", [name for name in COMPLETERS if name not in ("total_variation",)])
def test_completion_is_linear_in_the_values(name: str) -> None:
    scans, others = _scans_for(name, 0), _scans_for(name, 0)
    others[:, 0] = torch.rand(others[:, 0].shape, generator=torch.Generator().manual_seed(0)) * others[:, 1]
    both = scans.clone()
    both[:, 0] += others[:, 0]
    completer = make_completer(name)
    torch.testing.assert_close(completer(both), completer(scans) + completer(others), rtol=0, atol=2e-5)


def _has_cocircular_points(mask: np.ndarray) -> bool:
    """Whether the triangulation of a few points leaves a choice: four on one circle, or three on one line."""
    points = np.argwhere(mask)
    rows = np.column_stack((points, (points**2).sum(axis=1), np.ones(len(points), int))).astype(float)
    fours = np.array([rows[[a, b, c, d]] for a in range(5) for b in range(a) for c in range(b) for d in range(c)])
    threes = np.array([rows[[a, b, c]][:, [0, 1, 3]] for a in range(5) for b in range(a) for c in range(b)])
    return bool((np.abs(np.linalg.det(fours)) < 0.5).any() or (np.abs(np.linalg.det(threes)) < 0.5).any())


@pytest.mark.parametrize("name", [name for name in COMPLETERS if name != "nearest"])
@settings(max_examples=6)
@given(seed=st.integers(0, 10_000))
def test_flips_and_quarter_turns_commute_with_completion(name: str, seed: int) -> None:
    # Nearest pixels at the same distance are chosen by their columns, so it is left out.
    scans = _scans_for(name, seed, n_scans=1)
    if name in ("linear", "clough_tocher"):
        places = np.random.default_rng(seed).choice(256, 5, replace=False)
        scans = torch.zeros(1, 2, 16, 16)
        scans.view(2, 256)[:, places] = torch.stack((torch.linspace(-1, 1, 5), torch.ones(5)))
        assume(not _has_cocircular_points(scans[0, 1].numpy() != 0))
    turned = apply_symmetries(scans.repeat(8, 1, 1, 1), torch.arange(8))
    found = make_completer(name)(turned)
    expected = apply_symmetries(make_completer(name)(scans).repeat(8, 1, 1, 1), torch.arange(8))
    if name in ("linear", "clough_tocher"):
        # Outside the hull the nearest pixels may tie; medians over the picture are above that.
        assert float((found - expected).abs().median()) < 1e-5
        inside = (found - expected).abs() < 1e-4
        assert inside.float().mean() > 0.9
    else:
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 if name == "total_variation" else 1e-4)


@pytest.mark.parametrize("name", COMPLETERS)
@settings(max_examples=15)
@given(
    first=st.tuples(st.integers(0, 11), st.integers(0, 11)),
    step=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
    n_points=st.integers(0, 8),
    seed=st.integers(0, 100),
)
def test_scans_without_a_triangle_are_completed_by_the_nearest_pixel(
    name: str, first: tuple[int, int], step: tuple[int, int], n_points: int, seed: int
) -> None:
    scan = torch.zeros(1, 2, 12, 12)
    places = [(first[0] + k * step[0], first[1] + k * step[1]) for k in range(n_points)]
    for row, column in places:
        if 0 <= row < 12 and 0 <= column < 12:
            scan[0, 1, row, column] = 1.0
    scan[:, 0] = torch.rand(12, 12, generator=torch.Generator().manual_seed(seed)) * scan[:, 1]
    found = make_completer(name)(scan)
    if name == "infill":
        assert found.isfinite().all()
    else:
        torch.testing.assert_close(found, NearestCompleter()(scan), rtol=0, atol=0)


@pytest.mark.parametrize("name", COMPLETERS)
def test_a_batch_is_completed_scan_by_scan_and_keeps_type_and_shape(name: str) -> None:
    scans = torch.cat((_scans_for(name, 0, n_scans=3), _scans_for(name, 1, n_scans=1)))
    scans[1] = 0
    scans[2, 1] = scans[0, 1]
    scans[2, 0] = -scans[0, 0]
    completer = make_completer(name)
    together = completer(scans)
    assert (together.shape, together.dtype) == ((4, 1, 16, 16), torch.float32)
    assert (together[1] == 0).all()
    torch.testing.assert_close(together, torch.cat([completer(scan[None]) for scan in scans]), rtol=0, atol=1e-5)
    torch.testing.assert_close(completer(scans), together, rtol=0, atol=0)
    noisy = torch.where(scans[:, 1:] != 0, scans, torch.tensor([7.0, 0.0])[:, None, None])
    torch.testing.assert_close(completer(noisy), together, rtol=0, atol=0)
    assert completer(scans[:0]).shape == (0, 1, 16, 16)
    doubled = completer(scans.double().requires_grad_())
    assert doubled.dtype == torch.float64
    torch.testing.assert_close(doubled.float(), together, rtol=0, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", COMPLETERS)
def test_completions_lie_on_the_device_of_the_scans(name: str) -> None:
    scans = _scans_for(name, 0)
    found = make_completer(name)(scans.cuda())
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), make_completer(name)(scans), rtol=0, atol=1e-3)
