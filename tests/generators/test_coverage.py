from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.generators.coverage import TrackedPriorities, fitted_error, given_priorities

# Root mean squared errors on [0, 1] of the supersampling paper's networks, Table 2, DLSS-Individual.
PUBLISHED = {1 / 16: 0.0320, 1 / 25: 0.0343, 1 / 36: 0.0388, 1 / 64: 0.0452, 1 / 100: 0.0450}


def test_polynomial_at_points_worked_out_by_hand() -> None:
    assert fitted_error(1 / 100) == pytest.approx(0.002211 - 0.00037887 + 0.0000289451)
    assert fitted_error(1 / 16) == pytest.approx(0.002211 - 0.0023679375 + 0.00113066797)


def test_polynomial_is_near_the_published_errors() -> None:
    """It was fitted to training errors, which the test errors of Table 2 are within a tenth of."""
    for coverage, error in PUBLISHED.items():
        assert fitted_error(coverage) ** 0.5 == pytest.approx(error, rel=0.1)


def test_coverages_beyond_the_fit_take_the_nearest_end() -> None:
    assert fitted_error(1 / 4) == fitted_error(1 / 16) < fitted_error(1 / 25)
    assert fitted_error(1 / 400) == fitted_error(1 / 100)


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=8))
def test_given_priorities_have_mean_one_and_the_ratios_of_the_errors(coverages: list[float]) -> None:
    priorities = given_priorities(coverages)
    assert priorities.mean() == pytest.approx(1.0)
    errors = np.array([fitted_error(coverage) for coverage in coverages])
    np.testing.assert_allclose(priorities * errors[0], priorities[0] * errors)


def test_no_coverages_are_refused() -> None:
    with pytest.raises(ValueError, match="coverages holds nothing; expected at least one"):
        given_priorities([])


def test_tracked_priorities_by_hand() -> None:
    """Means with decay 1/2, corrected for their start at 0: (0.5 * 2, 1 - 0.5) -> 2, then (0.5 + 2) / 0.75 = 10/3."""
    tracked = TrackedPriorities(3, decay=0.5)
    assert tracked.priorities().tolist() == [1.0, 1.0, 1.0]
    tracked.update(np.array([1.0, 3.0, 8.0]), np.array([0, 0, 2]))
    np.testing.assert_allclose(tracked.priorities(), [2 / 5, 1.0, 8 / 5])
    tracked.update(np.array([4.0]), np.array([0]))
    mean = (0.5 * 1.0 + 0.5 * 4.0) / 0.75
    np.testing.assert_allclose(tracked.priorities(), [2 * mean / (mean + 8), 1.0, 16 / (mean + 8)])


def test_tracked_priorities_find_the_scale_of_each_coverage(rng: np.random.Generator) -> None:
    scales = np.array([1.0, 2.0, 6.0])
    tracked = TrackedPriorities(3, decay=0.9)
    for _ in range(200):
        indices = rng.integers(3, size=16)
        tracked.update(scales[indices] * rng.uniform(0.9, 1.1, size=16), indices)
    np.testing.assert_allclose(tracked.priorities(), scales / scales.mean(), rtol=0.05)


def test_losses_of_zero_divide_nothing_by_zero() -> None:
    tracked = TrackedPriorities(2)
    tracked.update(np.zeros(2), np.array([0, 1]))
    assert tracked.priorities().tolist() == [1.0, 1.0]


def test_tracked_priorities_go_on_from_their_state() -> None:
    tracked, other = TrackedPriorities(2, decay=0.5), TrackedPriorities(2, decay=0.5)
    tracked.update(np.array([1.0, 3.0]), np.array([0, 1]))
    other.restore(tracked.state())
    for each in (tracked, other):
        each.update(np.array([2.0]), np.array([1]))
    assert tracked.state() == other.state()
