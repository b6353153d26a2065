from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.specimens.family import feature_sizes, log_uniform


@given(low=st.floats(1e-3, 10.0), factor=st.floats(1.0, 1e3), seed=st.integers(0, 2**32 - 1))
def test_log_uniform_stays_within_its_bounds(low: float, factor: float, seed: int) -> None:
    drawn = log_uniform(low, low * factor, (5, 3), np.random.default_rng(seed))

    assert drawn.shape == (5, 3)
    assert np.all(drawn >= low * (1 - 1e-12))
    assert np.all(drawn <= low * factor * (1 + 1e-12))


def test_log_uniform_has_the_geometric_mean_as_its_median(rng: np.random.Generator) -> None:
    drawn = log_uniform(np.full(20000, 2.0), 50.0, 20000, rng)

    assert np.median(drawn) == pytest.approx(10.0, rel=0.03)


@pytest.mark.parametrize(("crop_size", "largest"), [(16, 5.0), (96, 30.0), (512, 160.0)])
def test_feature_sizes_grow_with_the_crop(crop_size: int, largest: float, rng: np.random.Generator) -> None:
    sizes = feature_sizes(4000, crop_size, rng)

    assert sizes.min() == pytest.approx(3.0, rel=0.01)
    assert sizes.max() == pytest.approx(largest, rel=0.01)
