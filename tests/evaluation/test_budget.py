"""Budgets: what keeps to them passes, what does not is refused with its figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.acquisition import make_instrument, scan_costs
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.budget import Budget, BudgetError
from adaptive_scan.scans import STATIC_SCANS, coverage, static_scan

SIZE, DOSE = 32, 50


@pytest.mark.parametrize("name", sorted(STATIC_SCANS))
@pytest.mark.parametrize("instrument", [None, "low-dose"])
def test_all_static_scans_keep_to_the_dose(name: str, instrument: str | None, rng: np.random.Generator) -> None:
    positions = static_scan(name, DOSE, SIZE, rng)[None]
    Budget.of_instrument(DOSE, instrument).check(name, positions, instrument, image_size=SIZE)


@pytest.mark.parametrize("n_found", [DOSE - 1, DOSE + 1])
def test_another_number_of_positions_is_refused_whether_more_or_fewer(n_found: int) -> None:
    positions = static_scan("spiral", n_found, SIZE)[None]
    with pytest.raises(BudgetError, match=f"'spiral' spends {n_found} positions; expected exactly {DOSE}: "):
        Budget(DOSE).check("spiral", positions, image_size=SIZE)


def test_the_message_is_one_line_with_every_figure_of_the_scan_that_is_furthest_off() -> None:
    positions = np.stack([static_scan(name, DOSE, SIZE) for name in ("spiral", "halton", "raster")])
    costs = scan_costs(positions, "low-dose")
    furthest = int(np.argmax(costs.path_length))
    assert furthest == 1
    budget = Budget(DOSE, electrons=float(costs.electrons[0]), scan_time=1.0, path_length=100.0)
    with pytest.raises(BudgetError) as refusal:
        budget.check("mixed", positions, "low-dose", image_size=SIZE)
    n_pixels = round(coverage(positions, SIZE)[furthest] * SIZE**2)
    length, time = costs.path_length[furthest], costs.time[furthest]
    assert str(refusal.value) == (
        f"scan 'mixed' spends {length:.6g} px of path length; expected at most 100 px: "
        f"positions 50 (budget 50), electrons {costs.electrons[0]:.7g} (budget {costs.electrons[0]:.7g}), "
        f"distinct pixels {n_pixels} (no limit), path length {length:.7g} px (budget 100 px), "
        f"scan time {time:.7g} s (budget 1 s), largest turn {costs.largest_turn[furthest]:.7g} rad (no limit), "
        "in scan 1 of 3"
    )


def test_electrons_are_equal_in_both_directions() -> None:
    instrument = make_instrument("low-dose")
    positions = static_scan("spiral", DOSE, SIZE)[None]
    budget = Budget.of_instrument(DOSE, instrument)
    for factor in (0.9, 1.1):
        with pytest.raises(BudgetError, match="electrons; expected exactly"):
            budget.check("spiral", positions, instrument, image_size=SIZE, dwell=factor * instrument.dwell)
    # The same dose may be spent unevenly, and on more positions where the budget names as many.
    uneven = instrument.dwell * np.tile([0.5, 1.5], DOSE // 2)
    budget.check("spiral", positions, instrument, image_size=SIZE, dwell=uneven)
    dense = static_scan("raster", SIZE**2, SIZE, None)[None]
    short = instrument.dwell * DOSE / SIZE**2
    Budget(SIZE**2, electrons=budget.electrons).check("dense", dense, instrument, image_size=SIZE, dwell=short)
    # An instrument without a limit of the dose is no match for one with a limit.
    with pytest.raises(BudgetError, match="spends inf electrons"):
        budget.check("spiral", positions, None, image_size=SIZE)
    with pytest.raises(BudgetError, match="expected exactly inf"):
        Budget(DOSE, electrons=math.inf).check("spiral", positions, instrument, image_size=SIZE)


@given(share=st.floats(0.2, 3.0), what=st.sampled_from(["scan_time", "path_length"]))
def test_time_and_length_are_limits_and_not_demands(share: float, what: str) -> None:
    positions = static_scan("raster", DOSE, SIZE)[None]
    costs = scan_costs(positions, "fast-scan")
    spent = float({"scan_time": costs.time, "path_length": costs.path_length}[what][0])
    budget = Budget(DOSE, **{what: share * spent})
    if share >= 1.0:
        budget.check("raster", positions, "fast-scan", image_size=SIZE)
        return
    if share < 1.0 - 1e-5:
        with pytest.raises(BudgetError, match=what.replace("_", " ")):
            budget.check("raster", positions, "fast-scan", image_size=SIZE)


def test_the_limit_itself_is_kept_to() -> None:
    positions = static_scan("raster", DOSE, SIZE)[None]
    costs = scan_costs(positions)
    Budget(DOSE, scan_time=float(costs.time[0]), path_length=float(costs.path_length[0])).check(
        "raster", positions, image_size=SIZE
    )


def test_positions_that_are_not_finite_are_refused() -> None:
    positions = np.stack([static_scan("spiral", DOSE, SIZE)] * 3)
    positions[1, 7, 0] = np.nan
    positions[2, 0, 1] = np.inf
    with pytest.raises(BudgetError, match="'spiral' has 2 of 3 scans with positions that are not finite"):
        Budget(DOSE).check("spiral", positions, image_size=SIZE)


def test_nonsense_is_refused() -> None:
    with pytest.raises(SettingError, match="n_positions: got 0; expected a positive integer"):
        Budget(0)
    with pytest.raises(SettingError, match=r"scan_time: got -1\.0; expected a positive number"):
        Budget(10, scan_time=-1.0)
    with pytest.raises(SettingError, match="electrons: got nan; expected a positive number"):
        Budget(10, electrons=math.nan)
    with pytest.raises(ValueError, match=r"'flat' has positions of shape \(10, 2\); expected"):
        Budget(10).check("flat", np.zeros((10, 2)), image_size=8)
