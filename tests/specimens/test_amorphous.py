from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from adaptive_scan.specimens.amorphous import number_density, random_packing


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), nearest=st.floats(0.95, 3.0), wanted=st.floats(0.005, 0.5))
def test_no_two_atoms_are_nearer_than_the_smallest_distance(seed: int, nearest: float, wanted: float) -> None:
    low, high = np.array([-2.0, 1.0, -7.0]), np.array([9.0, 13.0, 0.0])

    places = random_packing(low, high, wanted, nearest, np.random.default_rng(seed))

    assert ((places >= low) & (places <= high)).all()
    assert len(places) <= round(wanted * 11 * 12 * 7)
    if len(places) > 1:
        distances, _ = cKDTree(places).query(places, k=2)
        assert distances[:, 1].min() >= nearest


def test_the_density_wanted_is_reached(rng: np.random.Generator) -> None:
    places = random_packing(np.zeros(3), np.full(3, 30.0), 0.1, 1.35, rng)

    assert len(places) == 2700
    np.testing.assert_allclose(places.mean(axis=0), 15.0, atol=0.6)


def test_densities_in_grams_become_numbers() -> None:
    assert number_density(79, 19.3) == pytest.approx(0.0590, rel=1e-2)
