"""Uniform grids: what counts as one, and resampling against Pillow, torch and closed forms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adaptive_scan.generators.grids import (
    GRID_WEIGHTS,
    GridCompleter,
    area_weights,
    bicubic_weights,
    bilinear_weights,
    find_grid,
    lanczos_weights,
    nearest_weights,
)
from adaptive_scan.scans import static_scan

EVEN = np.arange(0, 49, 4)
UNEVEN = np.array([1, 5, 10, 14, 19, 23, 28, 32, 37, 41, 46])
PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def _grid_mask(n_positions: int, size: int) -> np.ndarray:
    pixels = np.floor(static_scan("grid", n_positions, size) + 0.5).astype(int)
    mask = np.zeros((size, size), bool)
    mask[pixels[:, 0], pixels[:, 1]] = True
    return mask


def _scan(picture: torch.Tensor, mask: np.ndarray) -> torch.Tensor:
    measured = torch.from_numpy(mask).float()
    return torch.stack((picture * measured, measured))[None].float()


@pytest.mark.parametrize("method", PILLOW)
def test_weights_at_the_centres_of_cells_equal_pillow_away_from_the_edges(
    method: str, rng: np.random.Generator
) -> None:
    values = rng.uniform(-1, 1, (14, 14)).astype(np.float32)
    centres = (np.arange(14) + 0.5) * 5 - 0.5
    weights = GRID_WEIGHTS[method](centres, 70)
    expected = np.asarray(Image.fromarray(values).resize((70, 70), PILLOW[method]))
    inside = slice(15, 55)
    np.testing.assert_allclose((weights @ values @ weights.T)[inside, inside], expected[inside, inside], atol=2e-6)


def test_bilinear_equals_torch_with_aligned_corners(rng: np.random.Generator) -> None:
    values = torch.from_numpy(rng.uniform(-1, 1, (1, 1, 9, 9)))
    mask = np.zeros((33, 33), bool)
    mask[::4, ::4] = True
    scan = torch.zeros(1, 2, 33, 33)
    scan[:, 0, ::4, ::4], scan[:, 1] = values[0], torch.from_numpy(mask)
    expected = F.interpolate(values, size=(33, 33), mode="bilinear", align_corners=True).float()
    torch.testing.assert_close(GridCompleter("bilinear")(scan), expected, rtol=0, atol=1e-6)


def test_bicubic_is_the_kernel_of_keys_inside(rng: np.random.Generator) -> None:
    def keys(t: np.ndarray) -> np.ndarray:
        t = np.abs(t)
        near = 1.5 * t**3 - 2.5 * t**2 + 1
        far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
        return np.where(t < 1, near, np.where(t < 2, far, 0.0))

    expected = keys((np.arange(49)[:, None] - EVEN) / 4)
    np.testing.assert_allclose(bicubic_weights(EVEN, 49)[4:45], expected[4:45], atol=1e-12)


@pytest.mark.parametrize("knots", [EVEN, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("method", GRID_WEIGHTS)
def test_weights_sum_to_one_and_keep_the_knots(method: str, knots: np.ndarray) -> None:
    weights = GRID_WEIGHTS[method](knots, 52)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(weights[knots], np.eye(len(knots)), atol=1e-12)
    np.testing.assert_allclose(weights[knots[-1] :], weights[knots[-1]][None].repeat(52 - knots[-1], axis=0), atol=0)


@pytest.mark.parametrize("knots", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_bilinear_and_bicubic_reproduce_lines_between_the_outermost_knots(knots: np.ndarray) -> None:
    pixels = np.arange(knots[0], knots[-1] + 1)
    for weights in (bilinear_weights, bicubic_weights):
        np.testing.assert_allclose(weights(knots, 50)[pixels] @ knots, pixels, atol=1e-11)
    inside = np.arange(knots[1], knots[-2] + 1)
    np.testing.assert_allclose(bicubic_weights(knots, 50)[inside] @ knots**2, inside**2, atol=1e-9)


def test_lanczos_nearly_reproduces_lines_at_even_knots() -> None:
    error = lanczos_weights(EVEN, 49)[12:37] @ EVEN - np.arange(12, 37)
    assert 1e-6 < np.abs(error).max() < 0.02 * 4


def test_nearest_and_area_differ_in_ties_only() -> None:
    nearest, area = nearest_weights(EVEN, 49), area_weights(EVEN, 49)
    ties = EVEN[:-1] + 2
    assert (area[ties].max(axis=1) == 0.5).all()
    others = np.setdiff1d(np.arange(49), ties)
    np.testing.assert_array_equal(area[others], nearest[others])
    odd = np.arange(0, 49, 3)
    np.testing.assert_array_equal(area_weights(odd, 49), nearest_weights(odd, 49))


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("n_positions", "size"), [(400, 96), (369, 96), (92, 48), (92, 96)])
def test_ramps_are_exact_on_static_grids_also_with_rows_of_different_numbers(
    method: str, n_positions: int, size: int
) -> None:
    mask = _grid_mask(n_positions, size)
    rows, columns = np.nonzero(mask)
    ramp = 0.01 * torch.arange(size)[:, None] - 0.02 * torch.arange(size)
    found = GridCompleter(method)(_scan(ramp, mask))[0, 0]
    first = max(columns[rows == row].min() for row in np.unique(rows))
    last = min(columns[rows == row].max() for row in np.unique(rows))
    inside = (slice(rows.min(), rows.max() + 1), slice(first, last + 1))
    torch.testing.assert_close(found[inside], ramp[inside], rtol=0, atol=1e-6)


@given(size=st.integers(8, 128), share=st.floats(0.01, 0.5))
def test_static_grids_are_grids(size: int, share: float) -> None:
    mask = _grid_mask(max(4, round(share * size * size)), size)
    grid = find_grid(mask)
    again = np.zeros_like(mask)
    for row, columns in zip(grid.rows, grid.columns, strict=True):
        again[row, columns] = True
    np.testing.assert_array_equal(again, mask)


@pytest.mark.parametrize("method", ["area", "bilinear", "bicubic", "lanczos"])
def test_a_grid_whose_columns_differ_in_number_is_completed_lying_down(method: str) -> None:
    mask = _grid_mask(92, 48)
    picture = torch.rand(48, 48, generator=torch.Generator().manual_seed(1))
    upright = GridCompleter(method)(_scan(picture, mask))
    with pytest.raises(ValueError, match="expected a grid"):
        find_grid(mask.T)
    lying = GridCompleter(method)(_scan(picture.T, mask.T))
    torch.testing.assert_close(lying.mT, upright, rtol=0, atol=0)


def _uneven_rows(mask: np.ndarray) -> None:
    mask[[0, 2, 9], ::4] = True


def _rows_of_many_numbers(mask: np.ndarray) -> None:
    mask[::4, ::4] = True
    mask[4, 8:] = False


def _shifted_row(mask: np.ndarray) -> None:
    mask[::4, ::4] = True
    mask[4] = np.roll(mask[4], 1)


def _uneven_columns(mask: np.ndarray) -> None:
    mask[np.ix_([0, 4, 8], [0, 2, 7, 15])] = True


@pytest.mark.parametrize(
    ("draw", "found"),
    [
        (_uneven_rows, "mask: got one of 12 pixels with 3 rows that are 2 to 7 px apart"),
        (_rows_of_many_numbers, "mask: got one of 14 pixels with rows of 2 to 4 pixels"),
        (_shifted_row, "mask: got one of 16 pixels with rows of the same number of pixels in different columns"),
        (_uneven_columns, "mask: got one of 12 pixels with pixels that are 2 to 8 px apart in row 0"),
    ],
)
def test_what_is_no_grid_is_named(draw: Callable[[np.ndarray], None], found: str) -> None:
    mask = np.zeros((16, 16), bool)
    draw(mask)
    with pytest.raises(ValueError, match=f"^{found}; expected a grid, even to 1 px in rows and columns$"):
        GridCompleter("area")(_scan(torch.ones(16, 16), mask))


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="grid method: got 'cubic'; expected one of nearest, area, bilinear"):
        GridCompleter("cubic")
