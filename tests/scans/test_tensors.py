"""The torch forms against the array forms."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan import scans
from adaptive_scan.scans import ScanGeometry, tensors

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@given(seed=st.integers(0, 2**32 - 1), n_scans=st.integers(1, 4), is_shared=st.booleans(), on_halves=st.booleans())
def test_measuring_equals_the_array_form(
    device: str, seed: int, n_scans: int, is_shared: bool, on_halves: bool
) -> None:
    rng = np.random.default_rng(seed)
    crops = rng.normal(size=(n_scans, 11, 11)).astype(np.float32)
    positions = rng.uniform(-4, 15, size=(1 if is_shared else n_scans, 3, 40, 2)).astype(np.float32)
    if on_halves:
        positions = np.round(2 * positions) / 2
    values = tensors.sample(torch.as_tensor(crops, device=device), torch.as_tensor(positions, device=device))
    np.testing.assert_array_equal(values.cpu(), scans.sample(crops, positions))
    partial = tensors.partial_scans(values, torch.as_tensor(positions, device=device), 11)
    assert partial.dtype == torch.float32
    assert partial.is_contiguous()
    np.testing.assert_allclose(
        partial.cpu(), scans.partial_scans(values.cpu().numpy(), positions, 11), atol=1e-6, rtol=0
    )


def test_rounding_equals_the_array_form_next_to_halves() -> None:
    halves = np.arange(-2.5, 12.5, 1.0, dtype=np.float32)
    near = np.concatenate((halves, np.nextafter(halves, np.float32(-99)), np.nextafter(halves, np.float32(99))))
    positions = np.stack((near, near[::-1]), axis=-1)[None]
    crops = np.arange(121, dtype=np.float32).reshape(1, 11, 11)
    expected = scans.sample(crops, positions)
    np.testing.assert_array_equal(tensors.sample(torch.as_tensor(crops), torch.as_tensor(positions.copy())), expected)


@pytest.mark.parametrize("is_free", [False, True])
def test_path_equals_the_array_form(is_free: bool, rng: np.random.Generator) -> None:
    geometry = ScanGeometry(spacing=(0.7, 3.0) if is_free else 1.1, start=(20.0, 60.25))
    headings = rng.uniform(-9, 9, size=(5, 20))
    spacings = rng.uniform(0.7, 3.0, size=(5, 20)) if is_free else None
    given_spacings = None if spacings is None else torch.as_tensor(spacings)
    positions = tensors.path(torch.as_tensor(headings), geometry, given_spacings)
    assert positions.shape == (5, 20, 20, 2)
    np.testing.assert_allclose(positions, geometry.path(headings, spacings), atol=1e-5)
    single = tensors.path(torch.as_tensor(headings, dtype=torch.float32), geometry, given_spacings)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, geometry.path(headings.astype(np.float32), spacings), atol=1e-5)


def test_path_is_differentiable_in_headings_and_spacings(rng: np.random.Generator) -> None:
    geometry = ScanGeometry(16, 4, 3, spacing=(0.5, 2.0))
    headings = torch.tensor(rng.uniform(-3, 3, size=(2, 4)), requires_grad=True)
    spacings = torch.tensor(rng.uniform(0.5, 2.0, size=(2, 4)), requires_grad=True)
    assert torch.autograd.gradcheck(lambda h, d: tensors.path(h, geometry, d), (headings, spacings))
    # The end of a scan moves at right angles to its first segment, by that segment's length per radian.
    last = tensors.path(headings, geometry, spacings)[0, -1, -1]
    gradient = torch.autograd.grad(last[0], headings)[0]
    assert gradient[0, 0].item() == pytest.approx(-3 * spacings[0, 0].item() * math.sin(headings[0, 0].item()))
    assert gradient[1].abs().max() == 0


def test_measuring_carries_gradients_to_what_was_measured() -> None:
    crops = torch.zeros(1, 3, 3, requires_grad=True)
    positions = torch.tensor([[[0.0, 0.0], [0.0, 0.2], [2.0, 2.0]]])
    partial = tensors.partial_scans(tensors.sample(crops, positions), positions, 3)
    partial[0, 0].sum().backward()
    assert crops.grad is not None
    assert crops.grad[0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_order_of_visits_does_not_matter(rng: np.random.Generator) -> None:
    positions = torch.as_tensor(rng.uniform(0, 3, size=(2, 3000, 2)), dtype=torch.float32)
    values = torch.as_tensor(1000 + rng.normal(size=(2, 3000)), dtype=torch.float32)
    order = torch.as_tensor(rng.permutation(3000))
    first = tensors.partial_scans(values, positions, 4)
    assert torch.equal(tensors.partial_scans(values[:, order], positions[:, order], 4), first)


def test_shapes_that_do_not_fit_are_refused() -> None:
    geometry = ScanGeometry(16, 3, 4, (1.0, 2.0))
    with pytest.raises(ValueError, match=r"headings have shape \(3,\); expected \(n_scans, 3\)"):
        tensors.path(torch.zeros(3), geometry)
    with pytest.raises(ValueError, match=r"spacings have shape \(1, 2\); expected \(1, 3\)"):
        tensors.path(torch.zeros(1, 3), geometry, torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"crops have shape \(2, 1, 4, 4\); expected"):
        tensors.sample(torch.zeros(2, 1, 4, 4), torch.zeros(2, 5, 2))
    with pytest.raises(ValueError, match=r"positions have shape \(3, 5, 2\); expected \(2, ..., 2\)"):
        tensors.sample(torch.zeros(2, 4, 4), torch.zeros(3, 5, 2))
    with pytest.raises(ValueError, match=r"values have shape \(2, 4\); expected \(2, 5\)"):
        tensors.partial_scans(torch.zeros(2, 4), torch.zeros(2, 5, 2), 4)


def test_the_room_does_not_load_torch() -> None:
    code = "import sys, adaptive_scan.scans; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
