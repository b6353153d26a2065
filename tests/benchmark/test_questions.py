from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest

from adaptive_scan.benchmark.questions import (
    OTHER_ADAPTIVE,
    PRIMARY,
    Question,
    best_classical_completers,
    best_static_scans,
    common_crops,
    controlled_scans,
    learned_paths,
    load_losses,
    main_adaptive_scans,
    questions,
    reference_scan,
)
from adaptive_scan.evaluation.results import Results, pair
from tests.synthetic_results import nested_losses, small_results, synthetic_results

ENTRIES = [
    {"name": "spiral", "kind": "static", "settings": {}},
    {"name": "free_path", "kind": "learned_path", "settings": {"spacing": True}},
    {"name": "pathwise", "kind": "pathwise", "settings": {}},
    {"name": "pathwise_constant", "kind": "control", "settings": {"of": "pathwise"}},
]


def results_of(losses: Mapping[tuple[str, str], float], *, geometry: str = "1/23", **description: object) -> Results:
    """Results with the same loss on every crop, by scan and completer."""
    return synthetic_results(
        {(geometry, *key): np.full((2, 3, 2), value) for key, value in losses.items()}, description=description
    )


def asked(results: Results) -> list[Question]:
    return questions(results, load_losses(results.rows))


def best_static(results: Results) -> tuple[dict[str, str], dict[str, str]]:
    return best_static_scans(results, load_losses(results.rows))


def test_losses_are_those_of_the_rows() -> None:
    results = small_results()
    table = load_losses(results.rows)
    assert list(table)[:2] == [("1/23", "spiral", "shared"), ("1/23", "spiral", "own")]
    expected = pair(results.rows, "1/23", ("pathwise", "own"), ("spiral", "shared"))
    found = common_crops(table["1/23", "pathwise", "own"], table["1/23", "spiral", "shared"])
    assert found is not None
    for name in expected.__dataclass_fields__:
        assert getattr(found, name).tolist() == getattr(expected, name).tolist()


def test_the_order_is_that_of_the_rows_however_the_table_is_stored() -> None:
    names = [f"scan {n}" for n in np.random.default_rng(0).permutation(200)]
    expected = [("1/23", name, completer) for name in names for completer in ("shared", "own", "linear")]
    rows = results_of({key[1:]: 1.0 for key in expected}).rows
    for table in (rows, rows.combine_chunks(), pa.concat_tables(rows.slice(n, 7) for n in range(0, len(rows), 7))):
        assert list(load_losses(table)) == expected


def test_scans_are_paired_on_the_crops_that_both_have(rng: np.random.Generator) -> None:
    losses = nested_losses(rng, n_seeds=3, n_groups=2, n_crops=2)
    results = synthetic_results({("1/23", "spiral", "own"): losses, ("1/23", "raster", "own"): 2 * losses})
    rows = results.rows
    scans, seeds = np.array(rows["scan"].to_pylist()), rows["seed"].to_numpy()
    table = load_losses(rows.filter((scans == "spiral") | (seeds != 1)))
    found = common_crops(table["1/23", "raster", "own"], table["1/23", "spiral", "own"])
    assert found is not None
    assert found.seeds.tolist() == [0] * 4 + [2] * 4
    assert found.first.tolist() == (2 * losses[[0, 2]]).ravel().tolist()
    assert found.second.tolist() == losses[[0, 2]].ravel().tolist()
    apart = load_losses(rows.filter((scans == "spiral") == (seeds == 0)))
    assert common_crops(apart["1/23", "raster", "own"], apart["1/23", "spiral", "own"]) is None


def test_crops_of_other_groups_are_refused() -> None:
    both = [
        synthetic_results({("1/23", scan, "shared"): np.ones((2, 3, 2))}, crossed=crossed)
        for scan, crossed in (("spiral", False), ("raster", True))
    ]
    first, second = (next(iter(load_losses(results.rows).values())) for results in both)
    with pytest.raises(ValueError, match="'spiral' and 'raster' have crops of other groups at 1/23"):
        common_crops(first, second)


def test_results_without_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="the results hold no rows"):
        load_losses(small_results().rows.slice(0, 0))


def test_best_static_scan_is_the_one_that_validation_chose() -> None:
    losses = {("spiral", "shared"): 1.0, ("raster", "shared"): 2.0}
    assert best_static(results_of(losses, best_static={"1/23": "raster"})) == (
        {"1/23": "raster"},
        {"1/23": "validation"},
    )
    with pytest.raises(ValueError, match="the best static scan of 1/23: got 'lissajous'; expected one with rows"):
        best_static(results_of(losses, best_static={"1/23": "lissajous"}))


def test_else_it_is_the_contiguous_one_with_the_lowest_loss_by_the_shared_generator() -> None:
    losses = {
        ("spiral", "linear"): 0.1,
        ("spiral", "shared"): 1.0,
        ("raster", "shared"): 0.8,
        ("grid", "shared"): 0.2,
        ("pathwise", "shared"): 0.5,
    }
    assert best_static(results_of(losses)) == ({"1/23": "raster"}, {"1/23": "test"})
    assert best_static(results_of({("grid", "shared"): 1.0, ("pathwise", "shared"): 1.0})) == ({}, {})
    classical = {("spiral", "linear"): 2.0, ("raster", "linear"): 1.0, ("raster", "nearest"): 3.0}
    assert best_static(results_of(classical)) == ({"1/23": "raster"}, {"1/23": "test"})


def test_best_classical_completer_is_one_for_all_scans_that_compete() -> None:
    losses = {
        ("spiral", "shared"): 0.1,
        ("spiral", "linear"): 1.0,
        ("spiral", "infill+"): 2.0,
        ("pathwise", "linear"): 4.0,
        ("pathwise", "infill+"): 1.0,
        ("dense", "denoiser"): 0.2,
        ("spiral", "my_module:my_network"): 0.1,
        ("pathwise", "my_module:my_network"): 0.1,
        ("grid", "linear"): 0.0,
        ("look_ahead_oracle", "linear"): 0.0,
    }
    assert best_classical_completers(load_losses(results_of(losses).rows)) == {"1/23": "infill+"}
    assert best_classical_completers(load_losses(results_of({("spiral", "shared"): 1.0}).rows)) == {}


def test_reference_must_have_rows() -> None:
    results = results_of({("spiral", "shared"): 1.0}, reference="raster")
    with pytest.raises(ValueError, match="reference: got 'raster'; expected one of spiral"):
        reference_scan(results, load_losses(results.rows))


def test_kinds_of_scans_are_read_from_the_description() -> None:
    losses = {("spiral", "shared"): 1.0}
    assert learned_paths(results_of(losses)) == ["learned_path"]
    assert controlled_scans(results_of(losses)) == {}
    described = results_of(losses, scans=ENTRIES)
    assert learned_paths(described) == ["free_path"]
    assert controlled_scans(described) == {"pathwise_constant": "pathwise"}


def test_every_question_is_asked_once() -> None:
    scans = ["spiral", "raster", "free_path", "grid", "pathwise", "pathwise_constant", "look_ahead_oracle"]
    losses: dict[tuple[str, str], float] = {(scan, "shared"): 1.0 for scan in scans}
    losses |= {("pathwise", "own"): 1.0, ("raster", "own"): 1.0}
    losses |= {("spiral", "linear"): 1.0, ("pathwise", "linear"): 1.0, ("free_path", "linear"): 1.0}
    losses |= {("spiral", "nearest"): 2.0, ("pathwise", "nearest"): 2.0, ("dense", "denoiser"): 1.0}
    results = results_of(losses, scans=ENTRIES, best_static={"1/23": "raster"})
    primary = {(one.first, one.second) for one in asked(results) if one.family == PRIMARY}
    assert primary == {
        (("pathwise", "shared"), ("raster", "shared")),
        (("pathwise", "shared"), ("free_path", "shared")),
        (("pathwise", "own"), ("raster", "own")),
        (("pathwise", "linear"), ("free_path", "linear")),
    }
    families: dict[str, set[tuple[str, str, str]]] = {}
    for one in asked(results):
        if one.family != PRIMARY:
            families.setdefault(one.family, set()).add((*one.first, one.second[0]))
    assert families == {
        "control against static scans at 1/23, shared": {
            ("pathwise_constant", "shared", "raster"),
            ("pathwise_constant", "shared", "free_path"),
        },
        "oracle against static scans at 1/23, shared": {
            ("look_ahead_oracle", "shared", "raster"),
            ("look_ahead_oracle", "shared", "free_path"),
        },
        "learned path against static scans at 1/23, shared": {
            ("free_path", "shared", "spiral"),
            ("free_path", "shared", "raster"),
        },
        "learned path against static scans at 1/23, linear": {("free_path", "linear", "spiral")},
        "policies against their controls at 1/23, shared": {("pathwise", "shared", "pathwise_constant")},
        "scans against the reference at 1/23, shared": {
            *((scan, "shared", "spiral") for scan in scans if scan not in ("spiral", "free_path")),
            ("dense", "denoiser", "spiral"),
        },
        "scans against the reference at 1/23, linear": {("pathwise", "linear", "spiral")},
        "scans against the reference at 1/23, nearest": {("pathwise", "nearest", "spiral")},
    }
    assert len({(one.first, one.second) for one in asked(results)}) == len(asked(results))


def test_completers_that_somebody_brought_judge_in_a_family_of_their_own() -> None:
    scans = ("spiral", "raster", "pathwise")
    losses = {(scan, completer): 1.0 for scan in scans for completer in ("shared", "a:b", "linear")}
    results = results_of(losses, scans=ENTRIES, best_static={"1/23": "raster"})
    assert Question(
        "1/23", ("pathwise", "a:b"), ("raster", "a:b"), "adaptive against static scans at 1/23, a:b"
    ) in asked(results)
    assert {one.first[1] for one in asked(results) if one.family == PRIMARY} == {"shared", "linear"}


def test_the_benchmark_is_made_for_the_scans_of_its_factorial() -> None:
    losses = {(scan, "shared"): 1.0 for scan in ("spiral", "pathwise", "coverage_greedy")}
    adaptive = ["pathwise", "coverage_greedy"]
    assert main_adaptive_scans(results_of(losses), adaptive) == adaptive
    assert main_adaptive_scans(results_of(losses, factorial=["spiral"]), adaptive) == adaptive
    named = results_of(losses, factorial=["pathwise", "spiral"])
    assert main_adaptive_scans(named, adaptive) == ["pathwise"]
    assert {one.first[0]: one.family for one in asked(named)} == {
        "pathwise": PRIMARY,
        "coverage_greedy": OTHER_ADAPTIVE,
    }


def test_no_scan_is_compared_with_itself() -> None:
    results = results_of({("learned_path", "shared"): 1.0, ("pathwise", "shared"): 1.0})
    assert [(one.first[0], one.second[0], one.family) for one in asked(results)] == [
        ("pathwise", "learned_path", PRIMARY)
    ]
