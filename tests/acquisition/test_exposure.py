"""Values, intensities and electrons."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.acquisition import Exposure


@given(st.floats(0, 0.9), st.floats(-1, 1, width=32))
def test_values_come_back_from_intensities(dark: float, value: float) -> None:
    exposure = Exposure(dark=dark)
    intensity = exposure.intensities(np.array([value]))
    assert dark - 1e-12 <= intensity[0] <= 1.0 + 1e-12
    assert exposure.values(intensity)[0] == pytest.approx(value, abs=1e-12)


def test_darkest_and_brightest_are_the_dark_level_and_the_full_scale() -> None:
    np.testing.assert_allclose(Exposure(dark=0.2).intensities(np.array([-1.0, 0.0, 1.0])), [0.2, 0.6, 1.0])


def test_a_picoampere_is_six_electrons_in_a_microsecond() -> None:
    exposure = Exposure(current=1.0, collected=0.5)
    assert exposure.incident(1e-6) == pytest.approx(6.241509)
    assert exposure.electrons(2e-6) == pytest.approx(6.241509)
    assert Exposure().electrons(1e-9) == math.inf


def test_dose_per_position_and_per_area_agree() -> None:
    position, area = Exposure.per_position(36.0, 3e-6, dark=0.1), Exposure.per_area(4.0, 3.0, 3e-6, dark=0.1)
    assert position == area
    assert position.electrons(1e-6) == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"current": 0.0}, r"current: got 0.0; expected a number in \(0, inf\]"),
        ({"current": math.nan}, "current: got nan"),
        ({"collected": 1.5}, r"collected: got 1.5; expected a number in \(0, 1\]"),
        ({"dark": 1.0}, r"dark: got 1.0; expected a number in \[0, 1\)"),
    ],
)
def test_numbers_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Exposure(**settings)
