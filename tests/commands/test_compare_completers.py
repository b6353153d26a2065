"""``compare_completers``: what it compares on, what it leaves, and what it refuses."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adaptive_scan.commands import compare_completers_main
from adaptive_scan.commands.run_folder import read_json

Command = Callable[..., int]
SMALL = ("--scans", "grid", "random", "--coverages", "0.04", "0.01", "--completers", "nearest", "linear+")


@pytest.fixture
def compare_completers(monkeypatch: pytest.MonkeyPatch) -> Command:
    """``scripts/compare_completers.py`` in this process; returns the exit status."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["compare_completers.py", *map(str, arguments)])
        return compare_completers_main()

    return call


def test_it_compares_on_what_the_run_held_out(
    compare_completers: Command, finished_on_micrographs: tuple[Path, Path], tmp_path: Path
) -> None:
    run, out = finished_on_micrographs[0], tmp_path / "out"
    assert compare_completers("--run", run, "--out", out, *SMALL) == 0
    rows = read_json(out / "completers.json")["rows"]
    cases = [(scan, coverage) for scan in ("grid", "random") for coverage in (0.04, 0.01)]
    names = (run.name, "nearest", "linear+")
    assert [(row["scan"], row["coverage"], row["completer"]) for row in rows] == [
        (*case, name) for case in cases for name in names
    ]
    with (out / "completers.csv").open(newline="") as lines:
        crops = list(csv.DictReader(lines))
    assert {row["micrograph"] for row in crops} == set(read_json(run / "manifest.json")["data"]["test"])
    losses = [float(row["loss"]) for row in crops if (row["scan"], row["completer"]) == ("grid", "linear+")]
    means = [np.sqrt(np.mean(part) / 10) / 2 for part in np.split(np.array(losses), 2)]
    found = [row["rmse"] for row in rows if (row["scan"], row["completer"]) == ("grid", "linear+")]
    assert found == pytest.approx(means, rel=1e-6)


def test_the_folder_of_a_generator_alone_is_a_run_too_and_twins_score_the_same(
    compare_completers: Command, train_generator: Command, tiny_generator: tuple[str, ...], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        assert train_generator(*tiny_generator, "--out", tmp_path / name) == 0
    line = ("--run", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "out", "--scans", "grid")
    assert compare_completers(*line, "--coverages", "0.04", "--completers", "nearest") == 0
    one, two, _ = read_json(tmp_path / "out" / "completers.json")["rows"]
    assert (one["completer"], two["completer"]) == ("one", "two")
    assert one["rmse"] == two["rmse"] > 0


def test_what_it_cannot_use_is_refused_in_one_line(
    compare_completers: Command,
    finished_run: Path,
    finished_on_micrographs: tuple[Path, Path],
    tmp_path: Path,
    complaint: Callable[[], str],
) -> None:
    out = ("--out", tmp_path / "out")
    assert compare_completers("--run", tmp_path / "missing", *out) == 2
    assert "missing" in complaint()
    assert compare_completers("--run", finished_run, finished_on_micrographs[0], *out) == 2
    assert "got other held-out crops than in" in complaint()
    assert compare_completers("--run", finished_run, finished_run, *out) == 2
    assert "got a second completer named" in complaint()
    assert compare_completers("--run", finished_run, *out, "--completers", "cubist") == 2
    assert "completers: got 'cubist'; expected some of nearest" in complaint()
    assert compare_completers("--run", finished_run, *out, "--coverages", "2") == 2
    assert "coverages: got 2.0; expected more than 0 and at most 1" in complaint()
    assert compare_completers("--run", finished_run, *out, "--scans", "star") == 2
    assert "scans: got 'star'; expected some of spiral" in complaint()
    assert compare_completers("--run", finished_run, *out, "--completers", "linear++") == 2
    assert "completers: got 'linear++'" in complaint()
    assert not (tmp_path / "out").exists()
    assert compare_completers("--run", finished_run, "--out", finished_run) == 2
    assert "expected a new or empty folder" in complaint()
