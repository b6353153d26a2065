from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from adaptive_scan.evaluation.results import COST_COLUMNS, KEYS, METRIC_COLUMNS, SCHEMA, Sums, names, pair, select


def table(*rows: dict[str, Any]) -> pa.Table:
    """Rows with the given values, zero or empty in all other columns."""
    empty = {field.name: "" if pa.types.is_string(field.type) else 0 for field in SCHEMA} | {"contiguous": True}
    return pa.Table.from_pylist([{**empty, **row} for row in rows], schema=SCHEMA)


ROWS = table(
    *(
        {
            "geometry": "a",
            "scan": scan,
            "completer": "linear",
            "seed": seed,
            "crop": crop,
            "group": f"g{seed}{crop}",
            "content": "grains",
            "sparsity": 0.1 * crop,
            "loss": factor * (1 + 2 * seed + crop),
        }
        for scan, factor in (("one", 1.0), ("two", 2.0))
        for seed in (1, 0)
        for crop in (1, 0)
    )
)


def test_every_column_has_a_type() -> None:
    assert set(KEYS) | {"role", "contiguous"} | set(METRIC_COLUMNS) | set(COST_COLUMNS) <= set(SCHEMA.names)
    assert len(SCHEMA.names) == len(set(SCHEMA.names))


def test_selected_rows_come_by_seed_and_crop() -> None:
    rows = select(ROWS, scan="two", geometry="a")
    assert rows["seed"].to_pylist() == [0, 0, 1, 1]
    assert rows["crop"].to_pylist() == [0, 1, 0, 1]
    assert rows["loss"].to_pylist() == [2.0, 4.0, 6.0, 8.0]
    with pytest.raises(KeyError, match="got no rows"):
        select(ROWS, scan="three")


def test_pairs_are_of_the_same_crops() -> None:
    paired = pair(ROWS, "a", ("one", "linear"), ("two", "linear"))
    assert paired.first.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert (paired.second / paired.first).tolist() == [2.0] * 4
    assert paired.groups.tolist() == ["g00", "g01", "g10", "g11"]
    assert paired.seeds.tolist() == [0, 0, 1, 1]
    few = paired.where(paired.sparsity > 0.05)
    assert (len(few), few.crops.tolist(), few.first.tolist()) == (2, [1, 1], [2.0, 4.0])
    other = pair(ROWS, "a", ("one", "linear"), ("two", "linear"), metric="sparsity")
    assert other.first.tolist() == other.second.tolist() == [0.0, 0.1, 0.0, 0.1]


def test_other_crops_are_no_pair() -> None:
    with pytest.raises(ValueError, match="were measured on other crops at a; expected the same ones"):
        pair(ROWS.slice(1), "a", ("one", "linear"), ("two", "linear"))


def test_names_come_once_in_the_order_of_the_table() -> None:
    assert names(ROWS, "scan") == ["one", "two"]


def test_sums_add_up() -> None:
    rng = np.random.default_rng(0)
    first, second = (Sums(3, *(rng.random(4) for _ in fields(Sums)[1:])) for _ in range(2))
    both = first + second
    assert both.n_crops == 6
    for field in fields(Sums)[1:]:
        assert np.array_equal(getattr(both, field.name), getattr(first, field.name) + getattr(second, field.name))
