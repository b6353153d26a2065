"""``measure_errors``: what it leaves, on which pictures, and what it refuses."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adaptive_scan.commands import measure_errors as systematic_module
from adaptive_scan.commands import measure_errors_main
from adaptive_scan.commands.command_options import ErrorsConfig
from adaptive_scan.commands.measure_errors import errors_csv, measure_completions
from adaptive_scan.evaluation import metrics
from adaptive_scan.generators import UNetGenerator, save_generator
from adaptive_scan.micrographs import MicrographCrops, MicrographDataset
from adaptive_scan.scans import partial_scans, static_scan

Measure = Callable[..., int]


@pytest.fixture
def measure_errors(monkeypatch: pytest.MonkeyPatch) -> Measure:
    """``scripts/measure_errors.py`` in this process; returns the exit status."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["measure_errors.py", *map(str, arguments), "--device", "cpu"])
        return measure_errors_main()

    return call


def test_the_files_hold_the_same_errors_and_the_same_seed_repeats_them(
    measure_errors: Measure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--scans", "spiral", "random", "--completers", "nearest", "infill", "--size", 16, "--n-crops", 70)
    for out in ("a", "b"):
        assert measure_errors(*options, "--out", tmp_path / out) == 0
    assert "written: " in capsys.readouterr().out
    names = ["errors.csv", "errors.json", "errors.npz", "errors.png"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for name in names:
        if name != "errors.npz":  # which holds the time of writing
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    report = json.loads((tmp_path / "a" / "errors.json").read_text())
    assert (report["size"], report["dose"], report["blur"]) == (16, round(0.04 * 256), True)
    assert [(x["scan"], x["completer"]) for x in report["measured"]] == [
        (scan, completer) for scan in ("spiral", "random") for completer in ("nearest", "infill")
    ]
    with np.load(tmp_path / "a" / "errors.npz") as maps:
        for entry in report["measured"]:
            pixels = maps[f"{entry['scan']}, {entry['completer']}"]
            assert np.sqrt(np.mean(pixels**2)) == pytest.approx(entry["rmse"])
            assert entry["n_pictures"] == entry["n_groups"] == 70
            assert entry["interval"][0] < entry["rmse"] < entry["interval"][1]
    text = (tmp_path / "a" / "errors.csv").read_text()
    assert text == errors_csv(report["measured"])
    rows = list(csv.DictReader(text.splitlines()))
    for quantity, n in (("path", 4 * 70 * 256), ("edge", 4 * 70 * 256), ("histogram", 4 * 70)):
        assert sum(int(row["n"]) for row in rows if row["quantity"] == quantity) == n


def test_errors_of_micrographs_are_those_of_their_tiles(tmp_path: Path, write_micrographs: Callable[..., Path]) -> None:
    folder = write_micrographs(tmp_path / "pictures", n=3, side=48)
    config = ErrorsConfig(
        scans=("grid",), completers=("nearest",), micrographs=folder, size=16, coverage=0.25, blur=False,
        crops_per_micrograph=0, out=tmp_path / "out", device="cpu",
    )  # fmt: skip
    measure_completions(config)
    (found,) = json.loads((tmp_path / "out" / "errors.json").read_text())["measured"]

    source = MicrographCrops(MicrographDataset(folder), 16, symmetries=False)
    crops = source.take(source.tiles())
    assert len(crops) == found["n_pictures"] == 27
    assert found["n_groups"] == 3
    (_, mask) = partial_scans(np.zeros((1, 64)), static_scan("grid", 64, 16)[None], 16)[0]
    rows, columns = np.argwhere(mask).T
    pixels = np.indices((16, 16)).reshape(2, -1).T
    away = ((pixels[:, None] - np.stack((rows, columns), axis=1)) ** 2).sum(axis=-1)
    # Ties between measured pixels go to the lowest column, then the lowest row.
    order = np.lexsort((rows, columns))
    near = order[away[:, order].argmin(axis=1)]
    completions = crops[:, rows[near], columns[near]].reshape(crops.shape)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(metrics.rmse(completions, crops) ** 2)), rel=1e-5)


def test_only_micrographs_that_the_run_did_not_train_on_are_measured(
    measure_errors: Measure,
    finished_on_micrographs: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, pictures = finished_on_micrographs
    held_out = json.loads((run / "manifest.json").read_text())["data"]["test"]
    seen: list[set[str]] = []
    plain = systematic_module.measure_errors

    def spy(batches, *arguments, **settings):  # type: ignore[no-untyped-def]
        kept = list(batches)
        seen.append({group for batch in kept for group in batch.groups})
        return plain(kept, *arguments, **settings)

    monkeypatch.setattr(systematic_module, "measure_errors", spy)
    assert measure_errors("--run", run, "--scans", "adaptive", "filling_path", "--out", tmp_path / "own") == 0
    assert measure_errors("--run", run, "--micrographs", pictures, "--out", tmp_path / "given") == 0
    assert seen == [set(held_out)] * 2
    assert "left out: 4 of 5 micrographs, which the run trained on" in capsys.readouterr().out
    report = json.loads((tmp_path / "own" / "errors.json").read_text())
    assert (report["size"], report["dose"]) == (16, 16)
    assert [entry["completer"] for entry in report["measured"]] == ["run", "run"]


def test_a_generator_alone_cannot_say_what_it_was_trained_on(
    measure_errors: Measure,
    tmp_path: Path,
    write_micrographs: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    complaint: Callable[[], str],
) -> None:
    pictures, file = write_micrographs(tmp_path / "pictures", n=2, side=20), tmp_path / "mine.safetensors"
    save_generator(UNetGenerator(n_channels=2, n_levels=2), file)
    options = ("--generators", file, "--micrographs", pictures)
    assert measure_errors(*options, "--size", 16, "--out", tmp_path / "out") == 0
    assert f"note: {file} does not say which pictures it was trained on" in capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "out" / "errors.json").read_text())["measured"]
    assert entry["completer"] == "mine"
    # Untrained, it is the infill that it starts from.
    assert measure_errors("--completers", "infill", *options[2:], "--size", 16, "--out", tmp_path / "infill") == 0
    (infill,) = json.loads((tmp_path / "infill" / "errors.json").read_text())["measured"]
    assert entry["rmse"] == pytest.approx(infill["rmse"], rel=1e-6)
    capsys.readouterr()
    assert measure_errors(*options, "--size", 18, "--out", tmp_path / "no") == 2
    assert complaint() == f"error: {file}, size: got 18 px; expected a multiple of 4 for this generator"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scans", "circle"), "scans: got 'circle'; expected some of adaptive, "),
        (("--scans", "adaptive"), "scans: got 'adaptive' with no run; expected a run, at its own coverage, or one of "),
        (("--completers", "cubic8"), "completers: got 'cubic8'; expected some of nearest, linear"),
        (("--completers", "linear", "linear"), "completers: got 'linear' twice; expected each once"),
        (("--coverage", 1.5), "coverage: got 1.5; expected more than 0 and at most 1"),
        (("--size", 0), "size: got 0; expected at least 1"),
        (("--n-crops", 0), "n_crops: got 0; expected at least 1"),
        (("--seed", -1), "seed: got -1; expected a number of at least 0"),
        (("--run", "nowhere"), "nowhere: got no such folder; expected a run folder"),
        (("--generators", "nowhere.safetensors"), "nowhere.safetensors: got no such file; expected a generator file"),
    ],
)
def test_bad_requests_end_in_one_line_and_leave_no_folder(
    measure_errors: Measure, tmp_path: Path, complaint: Callable[[], str], arguments: tuple[object, ...], message: str
) -> None:
    assert measure_errors(*arguments, "--out", tmp_path / "made") == 2
    assert complaint().startswith(f"error: {message}")
    assert not (tmp_path / "made").exists()


def test_what_a_run_decides_is_not_decided_beside_it(
    measure_errors: Measure,
    finished_on_micrographs: tuple[Path, Path],
    tmp_path: Path,
    complaint: Callable[[], str],
) -> None:
    run, _ = finished_on_micrographs
    assert measure_errors("--run", run, "--size", 32, "--out", tmp_path / "made") == 2
    assert complaint() == "error: size: got 32 with a run whose own is 16; expected that one or none"
    (tmp_path / "note.txt").write_text("mine")
    assert measure_errors("--out", tmp_path) == 2
    assert complaint() == f"error: {tmp_path}: got something there already; expected a new or empty folder"
