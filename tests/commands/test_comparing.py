"""``compare_scans``: which pictures count as held out, what is compared, and what is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptive_scan.commands.folders import read_json

Command = Callable[..., int]
ROW = {
    *("scan", "completer", "loss_mean", "loss_std", "rmse_mean", "psnr_mean", "ssim_mean", "coverage_mean"),
    *("ratio_to_spiral", "ratio_ci95", "win_rate"),
}
POLICY = """
import numpy as np

class Straight:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return observation["heading"], None

def straight():
    return Straight()

def nothing():
    return object()

number = 3
"""


COMPLETERS = ("generator", "linear", "infill")


def test_the_summary_has_the_keys_of_the_contract(finished_run: Path, compare: Command, tmp_path: Path) -> None:
    assert compare("--run", finished_run, "--scans", "adaptive", "raster", "--out", tmp_path) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"comparison.{end}" for end in ("csv", "json", "png")]
    summary = read_json(tmp_path / "comparison.json")
    assert {"n_crops", "n_micrographs", "dose", "rows"} <= set(summary)
    assert (summary["n_crops"], summary["dose"]) == (8, 16)
    assert all(set(row) >= ROW for row in summary["rows"])
    judged = [(row["scan"], row["completer"]) for row in summary["rows"]]
    assert judged == [(scan, name) for scan in ("adaptive", "raster", "spiral") for name in COMPLETERS]
    spiral = summary["rows"][-1]
    assert (spiral["ratio_to_spiral"], spiral["ratio_ci95"], spiral["win_rate"]) == (1.0, [1.0, 1.0], 0.5)


def test_training_ends_with_what_the_command_gives(finished_run: Path, compare: Command, tmp_path: Path) -> None:
    assert compare("--run", finished_run, "--out", tmp_path) == 0
    for name in ("comparison.json", "comparison.csv"):
        assert (tmp_path / name).read_bytes() == (finished_run / name).read_bytes()


def test_an_existing_folder_keeps_its_other_files(finished_run: Path, compare: Command, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    (tmp_path / "comparison.json").write_text("old")
    assert compare("--run", finished_run, "--scans", "spiral", "--out", tmp_path) == 0
    assert (tmp_path / "note.txt").read_text() == "mine"
    assert read_json(tmp_path / "comparison.json")["n_crops"] == 8


def test_pictures_of_training_are_never_held_out(
    finished_on_micrographs: tuple[Path, Path],
    compare: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    write_micrographs: Callable[..., Path],
) -> None:
    run, pictures = finished_on_micrographs
    # The same folder, elsewhere, with two more pictures in it.
    moved = tmp_path / "moved"
    shutil.copytree(pictures, moved)
    write_micrographs(moved / "more", n=2, seed=9)
    assert compare("--run", run, "--micrographs", moved, "--scans", "spiral", "--out", tmp_path / "out") == 0
    assert "left out: 4 of 7 micrographs, which the run trained on" in capsys.readouterr().out
    table = (tmp_path / "out" / "comparison.csv").read_text().splitlines()[1:]
    held_out = read_json(run / "manifest.json")["data"]["test"]
    assert {line.split(",")[1] for line in table} == {*held_out, "more/good_0.tif", "more/good_1.tif"}


def test_only_pictures_of_training_are_refused(
    finished_on_micrographs: tuple[Path, Path], compare: Command, tmp_path: Path, complaint: Callable[[], str]
) -> None:
    run, pictures = finished_on_micrographs
    seen = read_json(run / "manifest.json")["data"]["train"][0]
    assert compare("--run", run, "--micrographs", pictures / seen, "--out", tmp_path / "out") == 2
    assert complaint() == (
        f"error: {pictures / seen}: found only pictures that the run trained on; expected some that it did not"
    )


def test_a_policy_of_the_current_folder_joins(
    finished_run: Path, compare: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_policies.py").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    line = ("--scans", "spiral", "--policy", "my_policies:straight", "--out", "out")
    assert compare("--run", finished_run, *line) == 0
    rows = read_json(tmp_path / "out" / "comparison.json")["rows"]
    assert [row["scan"] for row in rows] == ["spiral"] * 3 + ["straight"] * 3


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("foo", "policy: found 'foo'; expected package.module:factory"),
        ("no_such_module:a", "policy: found 'no_such_module:a' (No module named 'no_such_module'); expected"),
        ("my_policies_too:missing", "policy: found 'my_policies_too:missing' (module 'my_policies_too' has no"),
        ("my_policies_too:nothing", "policy: found a object without predict; expected a policy"),
        ("my_policies_too:number", "policy: found that 'my_policies_too:number' cannot be called; expected"),
    ],
)
def test_a_policy_that_is_none_is_refused(
    policy: str,
    message: str,
    finished_run: Path,
    compare: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    complaint: Callable[[], str],
) -> None:
    (tmp_path / "my_policies_too.py").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    assert compare("--run", finished_run, "--policy", policy) == 2
    assert complaint().startswith(f"error: {message}")


def test_a_run_without_results_is_refused(
    finished_run: Path, compare: Command, tmp_path: Path, complaint: Callable[[], str]
) -> None:
    assert compare("--run", tmp_path / "none") == 2
    assert complaint() == f"error: {tmp_path / 'none'}: found no such folder; expected a run folder"
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    (folder / "policy.zip").unlink()
    assert compare("--run", folder) == 2
    assert complaint() == (
        f"error: {folder}: found no policy.zip yet; expected a run that has reached its first checkpoint"
    )


def test_moved_pictures_are_found_again(
    finished_on_micrographs: tuple[Path, Path],
    train: Command,
    tmp_path: Path,
    results: Callable[[Path], dict[str, bytes]],
) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(finished_on_micrographs[0], run)
    shutil.copytree(finished_on_micrographs[1], moved)
    assert train("--resume", run, "--micrographs", moved) == 0
    assert results(run) == results(finished_on_micrographs[0])
    assert read_json(run / "config.json")["micrographs"] == str(moved)


def test_other_pictures_do_not_resume_a_run(
    finished_on_micrographs: tuple[Path, Path],
    train: Command,
    tmp_path: Path,
    complaint: Callable[[], str],
    write_micrographs: Callable[..., Path],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_on_micrographs[0], run)
    before = (run / "config.json").read_bytes()
    others = write_micrographs(tmp_path / "others", n=5, seed=3)
    assert train("--resume", run, "--micrographs", others) == 2
    assert complaint() == f"error: {run}: found other pictures than the run was trained on; expected the same ones"
    assert (run / "config.json").read_bytes() == before


def test_pictures_that_changed_since_training_are_noticed(
    finished_on_micrographs: tuple[Path, Path],
    compare: Command,
    tmp_path: Path,
    train: Command,
    complaint: Callable[[], str],
    write_micrographs: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, pictures = tmp_path / "run", tmp_path / "pictures"
    shutil.copytree(finished_on_micrographs[0], run)
    shutil.copytree(finished_on_micrographs[1], pictures)
    assert train("--resume", run, "--micrographs", pictures) == 0
    capsys.readouterr()
    write_micrographs(pictures, n=6)
    assert compare("--run", run) == 2
    assert complaint() == f"error: {pictures}: found other pictures than {run} was trained on; expected the same"
