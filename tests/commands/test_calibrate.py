"""``calibrate_generator``: what it leaves beside a run of either kind, and what it refuses."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptive_scan.commands import calibrate_generator_main
from adaptive_scan.commands import crops as crops_module
from adaptive_scan.commands.calibrate import ScanKind, calibration_table, halves, load_generator_run
from adaptive_scan.commands.run_folder import read_json
from adaptive_scan.errors import SettingError
from adaptive_scan.generators import GeneratorFileError, UNetGenerator, load_generator
from adaptive_scan.generators.uncertainty import completer_fingerprint, load_error_head
from adaptive_scan.scans import ScanGeometry, coverage

Command = Callable[..., int]
FILES = ("uncertainty.safetensors", "calibration.json", "calibration.png")
FEW = ("--n-updates", 3, "--batch-size", 4, "--n-channels", 4)


@pytest.fixture
def calibrate(monkeypatch: pytest.MonkeyPatch) -> Command:
    """``scripts/calibrate_generator.py`` in this process; returns the exit status."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["calibrate_generator.py", *map(str, arguments)])
        return calibrate_generator_main()

    return call


def test_it_leaves_a_calibrated_head_a_report_and_a_figure_and_the_same_seed_repeats_them(
    calibrate: Command, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        assert calibrate("--run", finished_run, "--out", tmp_path / name, *FEW) == 0
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    report = read_json(tmp_path / "a" / "calibration.json")
    generator = load_generator(finished_run / "generator.safetensors")
    assert report["completer"] == completer_fingerprint(generator)
    completer = load_error_head(tmp_path / "a" / "uncertainty.safetensors", generator)
    assert completer.scale == report["scale"]
    assert not set(report["calibration_groups"]) & set(report["report_groups"])
    assert len(report["calibration_groups"]) + len(report["report_groups"]) == 8
    rows = report["rows"]
    static = ("filling_path", "spiral", "wide_spiral", "raster", "grid", "random")
    shares = [(None, None), *((None, share) for share in (0.25, 0.5, 0.75, 1.0))]
    assert [(row["scan"], row["share"]) for row in rows] == [*shares, *((s, 1.0) for s in ("adaptive", *static))]
    # Each of four held-out crops by each of seven scans after each of four shares of the dose.
    assert [row["n_scans"] for row in rows[:2]] == [4 * 7 * 4, 4 * 7]
    assert rows[0]["predicted_rmse"] == pytest.approx(report["scale"] * report["before_calibration"]["predicted_rmse"])
    said = capsys.readouterr().out
    assert calibration_table(report) in said
    assert f"written: {', '.join(str(tmp_path / 'b' / name) for name in FILES)}" in said
    with pytest.raises(GeneratorFileError, match="got an error head of a completer with the hash"):
        load_error_head(tmp_path / "a" / "uncertainty.safetensors", UNetGenerator())


def test_a_generator_trained_alone_on_micrographs_gets_a_head_too_wherever_they_lie_now(
    calibrate: Command,
    train_generator: Command,
    tiny_generator: tuple[str, ...],
    write_micrographs: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pictures, run = write_micrographs(tmp_path / "pictures", n=6), tmp_path / "run"
    options = ("--scans", "spiral", "random_headings", "--data.test-fraction", "0.5", "--coverages", "0.25", "0.0625")
    assert train_generator(*tiny_generator, *options, "--micrographs", pictures, "--out", run) == 0
    moved = tmp_path / "elsewhere"
    shutil.move(pictures, moved)
    before = {file.name for file in run.iterdir()}
    assert calibrate("--run", run, "--micrographs", moved, *FEW) == 0
    assert {file.name for file in run.iterdir()} == before | set(FILES)
    report = read_json(run / "calibration.json")
    held_out = set(read_json(run / "manifest.json")["data"]["test"])
    assert {*report["calibration_groups"], *report["report_groups"]} == held_out
    assert [row["scan"] for row in report["rows"][5:]] == ["spiral 1/4", "spiral 1/16", "random_headings"]

    other = write_micrographs(tmp_path / "other", n=6, seed=1)

    assert calibrate("--run", run, "--micrographs", other, "--out", tmp_path / "none", *FEW) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"error: {run}: got other pictures than the run was trained on; expected the same ones"
    assert not (tmp_path / "none").exists()


def test_scans_cut_short_are_the_beginnings_of_whole_ones(rng: np.random.Generator) -> None:
    geometry = ScanGeometry(24, 5, 8)
    crops = rng.uniform(0.5, 1.0, (3, 24, 24)).astype(np.float32)
    for family in ("spiral", "random", "random_headings"):
        kind = ScanKind(family, family, geometry.n_positions_total)
        whole, part = (
            kind.partial_scans(crops, geometry, "ideal", n_positions=n_positions, seed=4) for n_positions in (40, 16)
        )
        seen = part[:, 1] > 0
        assert 0 < seen.sum() < (whole[:, 1] > 0).sum()
        np.testing.assert_array_equal(whole[:, 0][seen], part[:, 0][seen])
    dense = ScanKind("spiral 1/4", "spiral", 144).partial_scans(crops, geometry, "ideal", n_positions=144, seed=0)
    assert dense[:, 1].sum() > 100 * 3
    assert coverage(np.zeros((1, 1, 2)), 24)[0] < dense[0, 1].mean()


def test_held_out_crops_of_one_group_cannot_be_halved(
    calibrate: Command,
    finished_run: Path,
    tmp_path: Path,
    complaint: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of_one_group(config: crops_module.DataConfig) -> crops_module.TestCrops:
        test = procedural_test_crops(config)
        return dataclasses.replace(test, groups=["one"] * len(test.groups))

    procedural_test_crops = crops_module.procedural_test_crops
    monkeypatch.setattr(crops_module, "procedural_test_crops", of_one_group)
    assert calibrate("--run", finished_run, "--out", tmp_path / "made", *FEW) == 2
    assert complaint().startswith("error: run: got held-out crops of one group, 'one'; expected at least two groups")
    assert not (tmp_path / "made").exists()


def test_a_folder_that_has_something_in_it_is_left_as_it_is(
    calibrate: Command, finished_run: Path, tmp_path: Path, complaint: Callable[[], str]
) -> None:
    (tmp_path / "calibration.json").write_text("mine")
    assert calibrate("--run", finished_run, "--out", tmp_path, *FEW) == 2
    assert complaint() == f"error: {tmp_path}: got something there already; expected a new or empty folder"
    assert (tmp_path / "calibration.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--n-updates", 0), "n_updates: got 0; expected at least 1"),
        (("--seed", -1), "seed: got -1; expected a number of at least 0"),
        (("--beta", 2), "beta: got 2.0; expected between 0 and 1"),
        (("--learning-rate", 0), "learning_rate: got 0.0; expected a positive number"),
        (("--run", "nowhere"), "nowhere: got no such folder; expected a run folder"),
        (("--micrographs", "pictures"), "micrographs: got pictures for a run on procedural crops; expected none"),
    ],
)
def test_bad_requests_end_in_one_line(
    calibrate: Command,
    finished_run: Path,
    tmp_path: Path,
    complaint: Callable[[], str],
    arguments: tuple[object, ...],
    message: str,
) -> None:
    assert calibrate("--run", finished_run, "--out", tmp_path / "made", *arguments) == 2
    assert complaint().startswith(f"error: {message}")
    assert not (tmp_path / "made").exists()


def test_a_run_without_a_generator_is_refused(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((finished_run / "config.json").read_bytes())
    (tmp_path / "manifest.json").write_bytes((finished_run / "manifest.json").read_bytes())
    with pytest.raises(SettingError, match=r"got no policy\.zip yet; expected a run that has reached its first"):
        load_generator_run(tmp_path, torch.device("cpu"))


def test_halves_share_no_group() -> None:
    from adaptive_scan.commands.crops import TestCrops as Crops

    groups = [f"g{i % 5}" for i in range(20)]
    first, second = halves(Crops(np.zeros((20, 8, 8)), groups, groups, None), seed=0)
    assert {groups[i] for i in first}.isdisjoint(groups[i] for i in second)
    assert sorted([*first, *second]) == list(range(20))
