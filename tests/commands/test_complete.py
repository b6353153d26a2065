"""``complete``: what is measured, what is written, and what is refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from adaptive_scan.commands import main
from adaptive_scan.evaluation.metrics import rmse
from adaptive_scan.generators import make_completer, save_generator
from adaptive_scan.generators.networks import UNetGenerator
from adaptive_scan.micrographs import blur_target, normalise
from adaptive_scan.scans import static_scan

Command = Callable[..., int]


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> Command:
    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["adaptive-scan", "complete", *map(str, arguments)])
        return main()

    return call


def picture(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (300.0 + 50.0 * np.sin(rows / 5.0) * np.cos(columns / 7.0)).astype(np.float32)


def test_a_picture_is_measured_where_the_scan_goes_and_completed_in_its_own_units(
    complete: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(60, 60))
    out = tmp_path / "out"
    line = ("--scan", "grid", "--coverage", "1/20", "--completer", "linear", "--out", out)
    assert complete(tmp_path / "a.tif", *line) == 0
    mask, completion = (tifffile.imread(out / f"a_{what}.tif") for what in ("mask", "completion"))
    assert sorted(path.name for path in out.iterdir()) == ["a_completion.tif", "a_mask.tif"]
    assert (mask.dtype, completion.dtype, mask.shape) == (np.float32, np.float32, (60, 60))
    places = np.rint(static_scan("grid", 180, 60)).astype(int)
    expected = np.zeros((60, 60), np.float32)
    expected[places[:, 0], places[:, 1]] = 1.0
    assert np.array_equal(mask, expected)
    scaled = normalise(picture(60, 60))
    scans = np.stack((scaled * mask, mask))[None].astype(np.float32)
    completed = make_completer("linear")(torch.from_numpy(scans))[0, 0].numpy()
    low, high = picture(60, 60).min(), picture(60, 60).max()
    assert completion == pytest.approx(low + (completed + 1) / 2 * (high - low), rel=1e-5)
    error = float(rmse(completed[None], blur_target(scaled)[None])[0])
    assert capsys.readouterr().out.splitlines() == [
        f"a: RMSE {100 * error:.2f} % of the range (grid, linear)",
        f"written: NAME_completion.tif and NAME_mask.tif of each in {out}",
    ]


def test_a_network_completes_pictures_larger_than_its_crops(
    complete: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, file = tmp_path / "pictures", tmp_path / "generator.safetensors"
    (pictures / "below").mkdir(parents=True)
    tifffile.imwrite(pictures / "a.tif", picture(70, 70))
    np.save(pictures / "below" / "b.npy", picture(50, 50))
    save_generator(UNetGenerator(n_channels=4, n_levels=2), file)
    for number, completer in enumerate(("--generator", "--completer")):
        out = tmp_path / f"out{number}"
        assert complete(pictures, "--coverage", "0.1", "--size", 32, completer, file, "--out", out) == 0
        shapes = {path.name: tifffile.imread(path).shape for path in out.iterdir()}
        assert shapes == {
            f"{name}_{what}.tif": (side, side)
            for name, side in (("a", 70), ("below_b", 50))
            for what in ("mask", "completion")
        }
    errors = re.findall(r"^(\w+): RMSE ([\d.]+) %", capsys.readouterr().out, re.MULTILINE)
    assert [name for name, _ in errors] == ["a", "below_b"] * 2
    assert errors[:2] == errors[2:]


def test_the_generator_of_a_run_completes_at_the_size_of_its_crops(
    complete: Command, finished_run: Path, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(40, 40))
    assert complete(tmp_path / "a.tif", "--run", finished_run, "--out", tmp_path / "out") == 0
    assert np.isfinite(tifffile.imread(tmp_path / "out" / "a_completion.tif")).all()


def test_rectangular_pictures_are_refused_or_left_out(
    complete: Command, tmp_path: Path, complaint: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    tifffile.imwrite(pictures / "a.tif", picture(40, 50))
    assert complete(pictures, "--out", tmp_path / "out") == 2
    said = f"{pictures / 'a.tif'}: got a picture of 40 x 50 px; expected a square one"
    assert complaint() == f"error: {said}"
    assert not (tmp_path / "out").exists()
    tifffile.imwrite(pictures / "b.tif", picture(40, 40))
    assert complete(pictures, "--skip-bad", "--out", tmp_path / "out") == 0
    assert f"skipped: {said}" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b_completion.tif", "b_mask.tif"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("--scan", "adaptive"), "scans: got 'adaptive'; expected some of spiral"),
        (("--coverage", "2"), "coverage: got 2.0; expected more than 0 and at most 1"),
        (("--completer", "cubist"), "completers: got 'cubist'; expected some of nearest"),
        (("--run", "a", "--completer", "linear"), "completer: got it beside run; expected one of run, generator"),
        (("--generator", "missing.safetensors"), "missing.safetensors: got no such file; expected a generator file"),
        (("--run", "missing"), "missing"),
        (("--completer", "no_such_module:make"), "completer: got 'no_such_module:make'"),
    ],
)
def test_what_it_cannot_use_is_refused_in_one_line(
    complete: Command, tmp_path: Path, complaint: Callable[[], str], line: tuple[str, ...], message: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(40, 40))
    assert complete(tmp_path / "a.tif", *line, "--out", tmp_path / "out") == 2
    assert complaint().startswith(f"error: {message}")
    assert not (tmp_path / "out").exists()
