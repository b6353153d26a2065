"""``compare_supersampling``: the files it leaves, and what it refuses."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from adaptive_scan.generators import UNetGenerator, save_generator
from adaptive_scan.generators.completers import make_completer
from adaptive_scan.micrographs import normalise
from studies.supersampling import main
from studies.supersampling_scores import supersampling_errors

Compare = Callable[..., int]
SMALL = ("--size", 32, "--strides", 4, 5)


@pytest.fixture
def compare_supersampling(monkeypatch: pytest.MonkeyPatch) -> Compare:
    """``benchmarks/studies/supersampling.py`` in this process; returns the exit status."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["compare_supersampling.py", *map(str, arguments)])
        return main()

    return call


def _report(folder: Path) -> tuple[dict, list[dict[str, str]]]:
    report = json.loads((folder / "supersampling.json").read_text())
    with (folder / "supersampling.csv").open(newline="") as file:
        return report, list(csv.DictReader(file))


def test_scores_are_those_of_the_crops_and_the_same_seed_repeats_them(
    compare_supersampling: Compare,
    tmp_path: Path,
    write_micrographs: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pictures = write_micrographs(tmp_path / "pictures", n=3, side=40)
    (tmp_path / "groups.csv").write_text("file,group\ngood_0.tif,x\ngood_1.tif,x\ngood_2.tif,y\n")
    options = ("--micrographs", pictures, "--groups", tmp_path / "groups.csv", *SMALL)
    assert compare_supersampling(*options, "--out", tmp_path / "a", "--batch-size", 2) == 0
    assert compare_supersampling(*options, "--out", tmp_path / "b", "--batch-size", 2) == 0
    for name in ("supersampling.json", "supersampling.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    report, rows = _report(tmp_path / "a")
    assert [report["micrographs"][key] for key in ("n_micrographs", "n_groups", "n_crops")] == [3, 2, 3]
    assert [(s["method"], s["stride"]) for s in report["scores"]] == [
        (method, stride) for method in ("nearest", "area", "bilinear", "bicubic", "lanczos") for stride in (4, 5)
    ]
    crops = normalise(np.stack([tifffile.imread(pictures / f"good_{i}.tif")[4:36, 4:36] for i in range(3)]))
    errors = supersampling_errors(crops, {"lanczos": make_completer("lanczos")}, [5])[0, 0]
    found = [float(row["mse"]) for row in rows if (row["method"], row["stride"]) == ("lanczos", "5")]
    np.testing.assert_allclose(found, errors, rtol=1e-6)
    assert report["scores"][-1]["rmse"] == pytest.approx(np.sqrt(errors.mean()))
    assert [(row["group"], row["row"], row["size"]) for row in rows[::10]] == [
        ("x", "4", "32"),
        ("x", "4", "32"),
        ("y", "4", "32"),
    ]
    said = capsys.readouterr().out
    assert f"{report['scores'][-1]['rmse']:.4f}" in said
    assert f"written: {tmp_path / 'a' / 'supersampling.json'}" in said


def test_squares_of_any_size_go_through_a_generator(
    compare_supersampling: Compare,
    tmp_path: Path,
    write_micrographs: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pictures = write_micrographs(tmp_path / "pictures", n=2, side=39)
    write_micrographs(pictures / "larger", n=1, side=50)
    save_generator(UNetGenerator(n_channels=4, n_levels=2), tmp_path / "mine.safetensors")
    options = ("--size", "any", "--strides", 4, "--methods", "linear", "--generator", tmp_path / "mine.safetensors")
    assert compare_supersampling("--micrographs", pictures, *options, "--out", tmp_path / "out") == 0
    assert f"note: {tmp_path / 'mine.safetensors'} does not say which pictures it was" in capsys.readouterr().out
    report, rows = _report(tmp_path / "out")
    assert [score["method"] for score in report["scores"]] == ["bilinear", "linear", "mine"]
    assert {(row["micrograph"], row["size"]) for row in rows} == {
        ("good_0.tif", "36"),
        ("good_1.tif", "36"),
        ("larger/good_0.tif", "48"),
    }


def test_raw_targets_and_cells_are_options(
    compare_supersampling: Compare, tmp_path: Path, write_micrographs: Callable[..., Path]
) -> None:
    pictures = write_micrographs(tmp_path / "pictures", n=1)
    errors = {}
    for name, options in {"plain": (), "raw": ("--no-blur",), "cells": ("--alignment", "cells")}.items():
        assert compare_supersampling("--micrographs", pictures, *SMALL, *options, "--out", tmp_path / name) == 0
        report, _ = _report(tmp_path / name)
        errors[name] = {(score["method"], score["stride"]): score["rmse"] for score in report["scores"]}
        assert report["scores"][0]["rmse_ci95"] is None
    assert errors["plain"]["bilinear", 4] < min(errors["raw"]["bilinear", 4], errors["cells"]["bilinear", 4])
    assert errors["cells"]["area", 4] == pytest.approx(errors["cells"]["nearest", 4])


def test_smaller_micrographs_are_left_out_and_counted(
    compare_supersampling: Compare,
    tmp_path: Path,
    write_micrographs: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pictures = write_micrographs(tmp_path / "pictures", n=2, side=32)
    write_micrographs(pictures / "tiny", n=1, side=31)
    options = ("--crops-per-micrograph", 4, "--out", tmp_path / "out")
    assert compare_supersampling("--micrographs", pictures, *SMALL, *options) == 0
    assert "left out: 1 of 3 micrographs, which are smaller than 32 px" in capsys.readouterr().out
    assert _report(tmp_path / "out")[0]["micrographs"]["n_crops"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--micrographs", "missing", *SMALL), "missing: got nothing there; expected a file of micrographs"),
        (("--micrographs", "empty", *SMALL), "empty: got no micrograph files, an empty folder; expected files"),
        (
            ("--micrographs", "pictures", "--size", "65"),
            "pictures: got micrographs of at most 64 x 64 px; expected one with sides of at least 65 px for the crop",
        ),
        (
            ("--micrographs", "pictures", "--size", "10"),
            "size: got 10 px; expected at least 11 px for the stride 10 px",
        ),
        (
            ("--micrographs", "pictures", "--size", "30", "--generator", "net.safetensors"),
            "size: got 30 px; expected a multiple of 4 px for net.safetensors",
        ),
        (
            ("--micrographs", "pictures", *SMALL, "--generator", "net.safetensors", "net.safetensors"),
            "generator: got the name 'net' twice; expected another file name than that",
        ),
        (
            ("--micrographs", "pictures", *SMALL, "--generator", "pictures/good_0.tif"),
            "pictures/good_0.tif: got no whole safetensors file",
        ),
        (("--micrographs", "pictures", *SMALL, "--methods", "cubic"), "methods: got 'cubic'; expected names among"),
        (
            ("--micrographs", "pictures", *SMALL, "--methods", "linear", "--alignment", "cells"),
            "methods: got 'linear'; expected names among nearest, area, bilinear, bicubic, lanczos with --alignment",
        ),
        (("--micrographs", "pictures", "--strides", "4", "4"), "strides: got (4, 4); expected different numbers"),
        (("--micrographs", "pictures", *SMALL, "--groups", "no.csv"), "no.csv: got nothing there; expected a CSV"),
        (("--micrographs", "pictures", *SMALL, "--out", "pictures"), "pictures: got something there already"),
    ],
)
def test_bad_input_ends_in_one_line(
    options: tuple[str, ...],
    message: str,
    compare_supersampling: Compare,
    tmp_path: Path,
    write_micrographs: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    complaint: Callable[[], str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_micrographs(Path("pictures"), n=2)
    Path("empty").mkdir()
    save_generator(UNetGenerator(n_channels=4, n_levels=2), "net.safetensors")
    before = sorted(tmp_path.rglob("*"))
    assert compare_supersampling(*options) == 2
    assert complaint().startswith(f"error: {message}")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.real_data
def test_bilinear_is_best_of_the_published_methods_on_real_micrographs(
    compare_supersampling: Compare, real_data_dir: Path, tmp_path: Path
) -> None:
    options = ("--size", 256, "--strides", 4, 8, "--out", tmp_path / "out")
    assert compare_supersampling("--micrographs", real_data_dir / "micrographs", *options) == 0
    scores = {(score["method"], score["stride"]): score["rmse"] for score in _report(tmp_path / "out")[0]["scores"]}
    # The order of the published table: Ede, arXiv 1910.10467, Table 2.
    for stride in (4, 8):
        order = sorted(("nearest", "bilinear", "bicubic", "lanczos"), key=lambda name: scores[name, stride])
        assert order == ["bilinear", "bicubic", "lanczos", "nearest"]
