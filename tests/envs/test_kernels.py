"""The compiled kernels against the functions of `adaptive_scan.scans`."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from adaptive_scan.envs.kernels import sample_bank
from adaptive_scan.scans import sample


@given(hnp.arrays(np.float32, (3, 5, 2), elements=st.floats(-20, 30, width=32)), st.integers(0, 99))
def test_sampling_a_bank_equals_sampling_its_crops(positions: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bank = rng.uniform(-1, 1, (4, 9, 9)).astype(np.float32)
    index = rng.integers(4, size=3)
    np.testing.assert_array_equal(sample_bank(bank, index, positions), sample(bank[index], positions))
