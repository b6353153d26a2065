"""Costs of scans in closed form: straight lines, corners, circles, flybacks and jumps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.acquisition import Exposure, Instrument, Timing, make_instrument, scan_costs
from adaptive_scan.scans import archimedean_spiral, path_length, uniform_grid

TIMING = Timing(flyback=100e-6, jump_settling=10e-6, turn_settling=1e-6, longest_step=5.0, sharp_turn=0.5)
INSTRUMENT = Instrument(exposure=Exposure.per_position(50.0, 2e-6), dwell=2e-6, timing=TIMING)


def raster(n_lines: int, n_columns: int, spacing: float) -> np.ndarray:
    """Lines that all run the same way, shape (1, n_lines, n_columns, 2)."""
    rows, columns = np.indices((n_lines, n_columns)) * spacing
    return np.stack([rows, columns], axis=-1)[None]


def test_a_straight_line_costs_its_dwell_times_alone() -> None:
    costs = scan_costs(np.stack([np.full(9, 3.0), np.arange(9.0)], axis=1)[None], INSTRUMENT)
    assert costs.n_positions.tolist() == [9]
    assert costs.electrons == pytest.approx([9 * 50.0])
    assert costs.path_length.tolist() == [8.0]
    assert costs.time == pytest.approx([18e-6])
    assert (costs.largest_turn.tolist(), costs.largest_acceleration.tolist()) == ([0.0], [0.0])


def test_a_raster_flies_back_between_its_lines() -> None:
    costs = scan_costs(raster(4, 10, 1.0), INSTRUMENT)
    back = math.hypot(1.0, 9.0)
    assert costs.time == pytest.approx([40 * 2e-6 + 3 * 100e-6])
    assert costs.path_length == pytest.approx([4 * 9 + 3 * back])
    assert costs.largest_turn == pytest.approx([math.pi - math.atan(1 / 9)])
    # From +1 px a dwell along the line to -9 px along it and 1 px across.
    assert costs.largest_acceleration == pytest.approx([math.hypot(10.0, 1.0) / (2e-6) ** 2])


def test_a_raster_to_and_fro_waits_at_its_corners() -> None:
    path = raster(3, 10, 1.0)
    path[:, 1] = path[:, 1, ::-1]
    costs = scan_costs(path, INSTRUMENT)
    assert costs.time == pytest.approx([30 * 2e-6 + 4 * 1e-6])
    assert costs.largest_turn == pytest.approx([math.pi / 2])
    assert costs.largest_acceleration == pytest.approx([math.sqrt(2.0) / (2e-6) ** 2])


@given(n_positions=st.integers(20, 200), radius=st.floats(1.0, 30.0))
def test_a_circle_turns_and_accelerates_by_its_angle(n_positions: int, radius: float) -> None:
    angle = 2.0 * math.pi / n_positions
    angles = angle * np.arange(n_positions)
    costs = scan_costs(40 + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)[None], INSTRUMENT)
    step = 2.0 * radius * math.sin(angle / 2)
    assert costs.largest_turn == pytest.approx([angle], rel=1e-6)
    assert costs.largest_acceleration == pytest.approx([2.0 * step * math.sin(angle / 2) / 4e-12], rel=1e-6)
    expected = n_positions * 2e-6
    if step > 5.0:
        expected += (n_positions - 1) * 10e-6
    assert costs.time == pytest.approx([expected])


def test_separate_points_settle_after_every_jump() -> None:
    points = np.array([[[0.0, 0.0], [0.0, 20.0], [0.0, 0.0], [20.0, 0.0], [21.0, 0.0], [21.0, 1.0]]])
    costs = scan_costs(points, INSTRUMENT)
    # Turning back after a jump is a jump; the step after one is no turn, the corner after that step is.
    assert costs.time == pytest.approx([6 * 2e-6 + 3 * 10e-6 + 1e-6])
    assert costs.largest_turn == pytest.approx([math.pi])


def test_a_move_as_long_as_the_longest_step_is_none_and_a_turn_as_sharp_as_allowed_is_free() -> None:
    path = np.array([[[0.0, 0.0], [0.0, 5.0], [5.0, 5.0], [5.0, 10.0]]])
    wide = Timing(1.0, 1.0, 1e-6, longest_step=5.0, sharp_turn=math.pi / 2)
    assert scan_costs(path, Instrument(dwell=1e-6, timing=wide)).time == pytest.approx([4e-6])
    assert scan_costs(path, INSTRUMENT).time == pytest.approx([4 * 2e-6 + 2 * 1e-6])


def test_dwell_times_of_one_s_own_count_in_time_electrons_and_acceleration() -> None:
    path = np.array([[[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]]])
    dwell = np.array([[1e-6, 2e-6, 4e-6]])
    costs = scan_costs(path, INSTRUMENT, dwell)
    assert costs.time == pytest.approx([7e-6])
    assert costs.electrons == pytest.approx([7e-6 * 50.0 / 2e-6])
    assert costs.largest_acceleration == pytest.approx([(1 / 2e-6 - 1 / 4e-6) / 3e-6])
    with pytest.raises(ValueError, match=r"dwell: got shape \(1, 2\); expected one that broadcasts to \(1, 3\)"):
        scan_costs(path, INSTRUMENT, dwell[:, :2])


def test_a_position_visited_twice_in_a_row_has_no_direction() -> None:
    path = np.array([[[0.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 2.0]]])
    costs = scan_costs(path, INSTRUMENT)
    assert (costs.largest_turn.tolist(), costs.time.tolist()) == ([0.0], pytest.approx([8e-6]))
    assert costs.largest_acceleration == pytest.approx([1.0 / (2e-6) ** 2])
    alone = scan_costs(np.zeros((2, 1, 2)), INSTRUMENT)
    assert (alone.largest_turn.tolist(), alone.largest_acceleration.tolist()) == ([0.0, 0.0], [0.0, 0.0])


@given(st.integers(0, 1000), st.floats(0.0, 2 * math.pi))
def test_costs_do_not_change_when_a_path_is_turned_or_measured_beside_others(seed: int, angle: float) -> None:
    rng = np.random.default_rng(seed)
    paths = rng.uniform(0, 30, (3, 12, 2)).astype(np.float32)
    costs, alone = scan_costs(paths, INSTRUMENT), scan_costs(paths[1:2], INSTRUMENT)
    turned = paths @ np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    assert costs.time[1] == alone.time[0]
    np.testing.assert_allclose(
        scan_costs(turned, INSTRUMENT).largest_acceleration, costs.largest_acceleration, rtol=1e-4
    )
    np.testing.assert_array_equal(costs.path_length, path_length(paths))


def test_static_scans_differ_in_what_they_wait_for() -> None:
    instrument = make_instrument("probe-corrected-200kv")
    grid, spiral = uniform_grid(400, 96)[None], archimedean_spiral(400, 96)[None]
    # 20 rows of 4.8 px steps, and 19 ways back.
    assert scan_costs(grid, instrument).time == pytest.approx([400 * 1e-5 + 19 * 5e-5])
    # The spiral's outermost turn leaves the field at the corners, and jumps from where it does to where it returns.
    n_jumps = int((np.hypot(*np.diff(spiral[0].astype(float), axis=0).T) > 10.0).sum())
    assert 0 < n_jumps < 9
    assert scan_costs(spiral, instrument).time == pytest.approx([400 * 1e-5 + n_jumps * 5e-6])
    assert scan_costs(grid, instrument).electrons == pytest.approx([400 * 25.0 * 1e-17 / 1.602176634e-19])
    assert scan_costs(grid).electrons.tolist() == [math.inf]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"flyback": -1.0}, r"flyback: got -1.0; expected a number in \[0, 1e\+06\]"),
        ({"sharp_turn": 4.0}, r"sharp_turn: got 4.0; expected a number in \[0, 3.14159\]"),
        ({"longest_step": math.nan}, "longest_step: got nan; expected"),
    ],
)
def test_times_that_mean_nothing_are_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Timing(**setting)
