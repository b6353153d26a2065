"""Every completer on pictures that are not square, and with anything written where nothing was measured."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import LinearNDInterpolator, RBFInterpolator
from scipy.spatial import cKDTree
from torch import Tensor

from adaptive_scan.generators import COMPLETERS, GENERATORS, MaskAwareGenerator, UNetGenerator, make_completer
from adaptive_scan.generators.completers import GRID_COMPLETERS
from adaptive_scan.generators.distance import distance_to_measured
from adaptive_scan.generators.uncertainty import ErrorHead

SHAPES = [(9, 30), (30, 9), (6, 41), (25, 24)]
SCATTERED = sorted(set(COMPLETERS) - set(GRID_COMPLETERS))


def scattered(shape: tuple[int, int], rng: np.random.Generator, n_scans: int = 2, share: float = 0.15) -> Tensor:
    mask = rng.random(shape) < share
    mask[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    masks = np.broadcast_to(mask, (n_scans, *shape))
    values = rng.uniform(-1, 1, masks.shape)
    return torch.from_numpy(np.stack([values * masks, masks], axis=1).astype(np.float32))


def plane(shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (0.02 * rows - 0.015 * columns + 0.1).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SCATTERED)
def test_a_transposed_scan_gives_the_transposed_picture(
    name: str, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    scan = scattered(shape, rng)
    # Interpolations of planes do not depend on which diagonal of four points is an edge.
    scan[:, 0] = torch.from_numpy(plane(shape)) * scan[:, 1]
    upright = make_completer(name)(scan)
    lying = make_completer(name)(scan.transpose(-2, -1).contiguous())
    tolerance = 2e-3 if name == "total_variation" else 1e-4
    if name != "nearest":  # of two at one distance, that of the lowest column is taken
        torch.testing.assert_close(lying.transpose(-2, -1), upright, rtol=0, atol=tolerance)
    assert upright.isfinite().all()
    assert torch.equal(upright[:, 0][scan[:, 1] > 0], scan[:, 0][scan[:, 1] > 0])


@pytest.mark.parametrize("shape", SHAPES)
def test_linear_is_that_of_scipy(shape: tuple[int, int], rng: np.random.Generator) -> None:
    scan = scattered(shape, rng)
    points = np.argwhere(scan[0, 1].numpy())
    expected = LinearNDInterpolator(points, plane(shape)[tuple(points.T)])(*np.indices(shape))
    scan[:, 0] = torch.from_numpy(plane(shape)) * scan[:, 1]
    found = make_completer("linear")(scan)[0, 0].numpy()
    inside = ~np.isnan(expected)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_thin_plate_spline_is_that_of_scipy(shape: tuple[int, int], rng: np.random.Generator) -> None:
    scan = scattered(shape, rng)
    points = np.argwhere(scan[0, 1].numpy())
    pixels = np.stack(np.indices(shape), axis=-1).reshape(-1, 2)
    spline = RBFInterpolator(points, scan[0, 0].numpy()[tuple(points.T)].astype(float), kernel="thin_plate_spline")
    found = make_completer("thin_plate_spline")(scan)[0, 0].numpy()
    np.testing.assert_allclose(found.ravel(), spline(pixels), atol=1e-4)


def test_splines_in_windows_cover_every_pixel(rng: np.random.Generator) -> None:
    scan = scattered((20, 90), rng, n_scans=1, share=0.5)
    scan[:, 0] = torch.from_numpy(plane((20, 90))) * scan[:, 1]
    np.testing.assert_allclose(make_completer("thin_plate_spline")(scan)[0, 0].numpy(), plane((20, 90)), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_biharmonic_solves_its_equation(shape: tuple[int, int], rng: np.random.Generator) -> None:
    scan = scattered(shape, rng)
    found = make_completer("biharmonic")(scan)[0, 0].numpy().astype(np.float64)

    def laplacian(picture: np.ndarray) -> np.ndarray:
        padded = np.pad(picture, 1, mode="edge")
        neighbours = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2]
        return neighbours - 4 * picture

    assert np.abs(laplacian(laplacian(found))[scan[0, 1].numpy() == 0]).max() < 1e-4


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_distances_are_exact(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < 0.1
    mask[rng.integers(height), rng.integers(width)] = True
    pixels = np.stack(np.indices(mask.shape), axis=-1).reshape(-1, 2)
    expected = cKDTree(np.argwhere(mask)).query(pixels)[0].reshape(mask.shape)
    found = distance_to_measured(torch.from_numpy(mask[None]))[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", GRID_COMPLETERS)
@pytest.mark.parametrize("shape", [(12, 36), (36, 12)])
def test_grids_of_rectangles(name: str, shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, np.float32)
    mask[1::4, 2::4] = 1.0
    scan = torch.from_numpy(np.stack([plane(shape) * mask, mask])[None])
    found = make_completer(name)(scan)[0, 0].numpy()
    inside = np.s_[1 : shape[0] - 2, 2 : shape[1] - 1]
    tolerance = {"area": 0.05, "lanczos": 0.03}.get(name, 1e-6)
    np.testing.assert_allclose(found[inside], plane(shape)[inside], atol=tolerance)


@pytest.mark.parametrize("name", SCATTERED)
def test_what_was_not_measured_is_not_looked_at(name: str, rng: np.random.Generator) -> None:
    scan = scattered((14, 22), rng)
    spoiled = scan.clone()
    spoiled[:, 0][scan[:, 1] == 0] = torch.nan
    torch.testing.assert_close(make_completer(name)(spoiled), make_completer(name)(scan), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["residual", "unet", "mask_aware", "two_stage"])
def test_networks_take_rectangles_and_look_at_the_mask(kind: str, rng: np.random.Generator) -> None:
    sizes = {"residual": {"width": 0.1}, "two_stage": {"width": 0.05}}.get(kind, {"n_channels": 4, "n_levels": 2})
    network = GENERATORS[kind](**sizes).eval()
    scan = scattered((32, 64), rng)
    spoiled = scan.clone()
    spoiled[:, 0][scan[:, 1] == 0] = torch.nan
    with torch.no_grad():
        found = network(scan)
        assert found.shape == (2, 1, 32, 64)
        assert found.isfinite().all()
        assert torch.equal(network(spoiled), found)


def test_sides_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"partial scans have sides \(32, 30\) px; expected positive multiples of 4"):
        UNetGenerator(n_channels=4, n_levels=2)(torch.zeros(1, 2, 32, 30))
    with pytest.raises(ValueError, match=r"\(1, 2, 48, 80\); expected \(n_scans, 2, S, S\)"):
        GENERATORS["supersampling"](factor=4, width=1 / 8)(torch.zeros(1, 2, 48, 80))


def test_error_heads_take_rectangles(rng: np.random.Generator) -> None:
    scan = scattered((18, 33), rng)
    spoiled = scan.clone()
    spoiled[:, 0][scan[:, 1] == 0] = torch.nan
    completions = make_completer("infill")(scan)
    head = ErrorHead(n_channels=4)
    found = head(scan, completions)
    assert found.shape == (2, 1, 18, 33)
    assert torch.equal(head(spoiled, completions), found)


def test_an_untrained_network_is_the_interpolation_of_a_rectangle(rng: np.random.Generator) -> None:
    scan = scattered((16, 48), rng)
    network = MaskAwareGenerator(n_channels=4, n_levels=2, blurred=False)
    torch.testing.assert_close(network(scan), make_completer("infill")(scan))


def test_no_kernel_leaves_its_arrays() -> None:
    code = """
import numpy as np, torch
from adaptive_scan.generators import COMPLETERS, make_completer
from adaptive_scan.scans import STATIC_SCANS, coverage, partial_scans, sample, static_scan
rng = np.random.default_rng(0)
for shape in ((1, 1), (1, 7), (7, 1), (3, 40), (40, 3), (16, 16)):
    for share in (0.0, 0.1, 1.0):
        mask = rng.random((2, *shape)) < share
        scan = torch.from_numpy(np.stack([rng.normal(size=mask.shape) * mask, mask], 1).astype(np.float32))
        for name in ("nearest", "linear", "infill", "clough_tocher", "thin_plate_spline", "biharmonic"):
            assert make_completer(name)(scan).isfinite().all(), (name, shape, share)
crops = rng.normal(size=(2, 20, 20)).astype(np.float32)
for positions in (rng.uniform(-50, 70, (2, 30, 2)), np.full((2, 3, 2), 1e30), np.full((2, 3, 2), -1e30)):
    values = sample(crops, positions.astype(np.float32))
    partial_scans(values, positions.astype(np.float32), 20)
    coverage(positions.astype(np.float32), 20)
for name in STATIC_SCANS:
    static_scan(name, 50, 20, np.random.default_rng(0))
print("inside")
"""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_DISABLE_CACHING": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, "inside\n"), done.stderr[-2000:]
