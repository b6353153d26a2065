"""The compiled kernels against the functions of `adaptive_scan.scans`."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from adaptive_scan.envs import ScanBatch
from adaptive_scan.envs.kernels import sample_bank
from adaptive_scan.scans import PRESETS, ScanGeometry, action_from_spacing, filling_path, sample, spacing_from_action
from adaptive_scan.scans import tensors as scan_tensors


@given(hnp.arrays(np.float32, (3, 5, 2), elements=st.floats(-20, 30, width=32)), st.integers(0, 99))
def test_sampling_a_bank_equals_sampling_its_crops(positions: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bank = rng.uniform(-1, 1, (4, 9, 9)).astype(np.float32)
    index = rng.integers(4, size=3)
    np.testing.assert_array_equal(sample_bank(bank, index, positions), sample(bank[index], positions))


def spacings_measured(geometry: ScanGeometry, components: np.ndarray, **settings: object) -> np.ndarray:
    """Spacings of the segments that a batch of scans measures with these components, shape (n_scans, n_segments)."""
    batch = ScanBatch(len(components), rng=np.random.default_rng(0), geometry=geometry, completer=None, **settings)
    batch.reset(crop_ids=np.zeros((len(components), 1), dtype=np.int64))
    for step in range(geometry.n_segments - 1):
        final = batch.step(np.stack([np.ones(len(components)), np.zeros(len(components)), components[:, step]], axis=1))
    return final.final["spacings"]


@given(
    hnp.arrays(np.float64, (3, 4), elements=st.floats(-1.5, 1.5)),
    hnp.arrays(np.float64, 5, elements=st.floats(0.0, 1.0)),
    st.floats(0.1, 2.0),
    st.floats(1.01, 50.0),
)
def test_the_environment_reads_spacings_as_the_function_does(
    components: np.ndarray, shares: np.ndarray, low: float, ratio: float
) -> None:
    geometry = ScanGeometry(16, 5, 2, spacing=(low, low * ratio))
    bounds = geometry.spacing_bounds
    free = spacings_measured(geometry, components)
    np.testing.assert_allclose(free[:, 1:], spacing_from_action(components, bounds), rtol=1e-12)
    reference = np.clip(low * ratio**shares, *bounds)
    referred = spacings_measured(geometry, components, reference_spacings=reference)
    np.testing.assert_allclose(referred[:, 1:], spacing_from_action(components, bounds, reference[1:]), rtol=1e-12)


@given(hnp.arrays(np.float64, 6, elements=st.floats(-1.0, 1.0)), st.floats(0.1, 2.0), st.floats(1.01, 50.0))
def test_components_lead_back_to_their_spacings(components: np.ndarray, low: float, ratio: float) -> None:
    bounds = (low, low * ratio)
    spacings = spacing_from_action(components, bounds)
    np.testing.assert_allclose(action_from_spacing(spacings, bounds), components, atol=1e-9)
    twin = scan_tensors.action_from_spacing(torch.from_numpy(spacings), bounds)
    np.testing.assert_allclose(twin.numpy(), action_from_spacing(spacings, bounds), atol=1e-12)


def test_a_reference_moves_what_the_middle_of_an_action_means() -> None:
    geometry = PRESETS["wide48"]
    headings, spacings = filling_path(geometry)
    components = np.full((1, geometry.n_segments - 1), 0.5)
    measured = spacings_measured(geometry, components, reference_headings=headings, reference_spacings=spacings)
    np.testing.assert_allclose(measured[0, 1:], np.sqrt(spacings[1:] * geometry.spacing_bounds[1]))
    without = spacing_from_action(0.5, geometry.spacing_bounds)
    np.testing.assert_allclose(without, 3.3636, atol=1e-4)
    assert (measured[0, 1:] > without + 0.5).all()
