"""What the page on comparisons says of benchmarks: its file is one, and its tables leave nothing out."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from adaptive_scan.benchmark.definition import Benchmark
from adaptive_scan.benchmark.scan_kinds import SCAN_KINDS, find_kind
from adaptive_scan.commands.compare import KINDS
from adaptive_scan.evaluation.controls import CONTROLS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "comparison.md").read_text(encoding="utf-8")


def first_cells(head: str) -> set[str]:
    """Names in code in the first column of the table that begins with this head."""
    (table,) = re.findall(rf"^\| {head} \|.*\n(?:\|.*\n)+", PAGE, re.M)
    rows = table.splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_the_file_on_the_page_is_a_benchmark() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    benchmark = Benchmark.from_dict(json.loads(block))
    assert benchmark.scan_names[-1] == "mine, seeing nothing"
    for scan in benchmark.scans:
        find_kind(scan, {**SCAN_KINDS, **KINDS})


def test_the_table_of_kinds_is_complete() -> None:
    assert first_cells("kind") == {*SCAN_KINDS, *KINDS}


def test_the_table_of_keys_is_complete() -> None:
    keys = {field.name for field in dataclasses.fields(Benchmark)}
    assert first_cells("key") | {"name"} == keys


@pytest.mark.parametrize("name", [*CONTROLS, "shared", "own"])
def test_controls_and_trained_completers_are_named(name: str) -> None:
    assert f"`{name}`" in PAGE
