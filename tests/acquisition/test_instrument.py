"""The protocol of an instrument, and the ideal one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from adaptive_scan.acquisition import Acquisition, IdealAcquisition

FLOATS = st.floats(-200, 200, width=32)


@given(hnp.arrays(np.float32, (2, 3, 2), elements=FLOATS))
def test_ideal_instrument_leaves_positions_and_values_as_they_are(positions: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    ideal = IdealAcquisition()
    np.testing.assert_array_equal(ideal.displace(positions, rng), positions)
    np.testing.assert_array_equal(ideal.detect(positions[..., 0], rng), positions[..., 0])
    assert rng.bit_generator.state == before


def test_ideal_instrument_reports_the_range_of_a_normalised_crop() -> None:
    assert IdealAcquisition().value_range == (-1.0, 1.0)


def test_protocol_tells_an_instrument_from_something_else() -> None:
    assert isinstance(IdealAcquisition(), Acquisition)
    assert not isinstance(object(), Acquisition)
