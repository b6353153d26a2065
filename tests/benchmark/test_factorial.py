from __future__ import annotations

import numpy as np
import pytest

from adaptive_scan.benchmark.analysis import analyse
from adaptive_scan.benchmark.factorial import factorial_cells
from adaptive_scan.benchmark.questions import load_losses
from tests.synthetic_results import nested_losses, synthetic_results

FACTORS = {
    ("spiral", "shared"): 2.0,
    ("learned_path", "shared"): 1.0,
    ("learned_path", "own"): 0.9,
    ("learned_path", "infill+"): 1.5,
    ("learned_path", "linear"): 3.0,
    ("pathwise", "shared"): 0.8,
    ("pathwise", "own"): 0.6,
    ("pathwise", "infill+"): 1.2,
    ("pathwise", "linear"): 2.0,
    ("coverage_greedy", "shared"): 1.1,
}


def test_cells_and_ratios_are_those_of_the_losses(rng: np.random.Generator) -> None:
    base = nested_losses(rng)
    rows = analyse(
        synthetic_results({("1/23", *key): factor * base for key, factor in FACTORS.items()}), n_resamples=20
    ).factorial
    found = {(row.scan, row.completer): row for row in rows}
    assert len(rows) == len(found) == 6
    assert {row.adaptive for row in rows} == {"pathwise"}
    expected = {  # loss over the base's, over that of the static scan, over that by the shared generator
        ("pathwise", "shared"): ("adaptive", True, 0.8, 0.8, 1.0),
        ("pathwise", "own"): ("adaptive", True, 0.6, 0.6 / 0.9, 0.6 / 0.8),
        ("pathwise", "infill+"): ("adaptive", False, 1.2, 1.2 / 1.5, 1.2 / 0.8),
        ("learned_path", "shared"): ("best static", True, 1.0, 1.0, 1.0),
        ("learned_path", "own"): ("best static", True, 0.9, 1.0, 0.9),
        ("learned_path", "infill+"): ("best static", False, 1.5, 1.0, 1.5),
    }
    assert list(found) == list(expected)
    for key, (role, network, loss, to_static, to_shared) in expected.items():
        row = found[key]
        assert (row.role, row.network, row.n_crops) == (role, network, base.size)
        assert row.loss == pytest.approx(loss * base.mean())
        assert (row.ratio_to_static, row.ratio_to_shared) == pytest.approx((to_static, to_shared))
        assert row.ratio_to_static_ci95 == pytest.approx((to_static, to_static))
        assert row.ratio_to_shared_ci95 == pytest.approx((to_shared, to_shared))


def test_missing_cells_are_left_out_and_missing_ratios_are_none(rng: np.random.Generator) -> None:
    base = nested_losses(rng)
    losses = {("1/23", "spiral", "shared"): base, ("1/23", "pathwise", "own"): 0.5 * base}
    rows = analyse(synthetic_results(losses), n_resamples=20).factorial
    assert [(row.scan, row.completer, row.ratio_to_static, row.ratio_to_shared) for row in rows] == [
        ("pathwise", "own", None, None),
        ("spiral", "shared", 1.0, 1.0),
    ]
    assert rows[0].ratio_to_static_ci95 is None


def test_without_an_adaptive_scan_of_its_own_generator_there_is_no_factorial(rng: np.random.Generator) -> None:
    base = nested_losses(rng)
    losses = {("1/23", "spiral", "shared"): base, ("1/23", "spiral", "own"): base, ("1/23", "pathwise", "shared"): base}
    table = load_losses(synthetic_results(losses).rows)
    assert factorial_cells(table, {"1/23": "spiral"}, {}) == []
    losses["1/23", "pathwise", "own"] = base
    assert factorial_cells(load_losses(synthetic_results(losses).rows), {}, {}) == []
