"""``compare_scans``: which pictures count as held out, what is compared, and what is written."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from adaptive_scan.commands.crops import load_data, named_groups, open_micrographs, split_micrographs
from adaptive_scan.commands.run_folder import read_json
from adaptive_scan.commands.settings import TrainingConfig, preset_config
from adaptive_scan.files import write_json

Command = Callable[..., int]
ROW = {
    *("scan", "completer", "loss_mean", "loss_std", "rmse_mean", "psnr_mean", "ssim_mean", "coverage_mean"),
    *("ratio_to_spiral", "ratio_ci95", "win_rate"),
    *("ratio_to_filling_path", "ratio_to_filling_path_ci95", "win_rate_to_filling_path"),
}
POLICY = """
import numpy as np

class Straight:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return observation["heading"], None

def straight():
    return Straight()

def straight_on():
    return Straight()

class Raises:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        raise OSError("no weights")

def nothing():
    return object()

def generator():
    return lambda partial_scans: partial_scans[:, :1]

def values():
    return generator()

def mask():
    return lambda partial_scans: partial_scans[:, 1:]

def both():
    return lambda partial_scans: partial_scans

def unsure():
    return lambda partial_scans: partial_scans[:, :1] / (partial_scans[:, :1] == 0)

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
    assert (spiral["ratio_to_filling_path"], spiral["ratio_to_filling_path_ci95"]) == (None, None)
    assert (summary["run"], summary["micrographs"], summary["seed"]) == (str(finished_run), None, 0)


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


def test_the_actor_is_set_beside_the_filling_path_in_a_sentence(
    finished_run: Path, compare: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ("--scans", "adaptive", "filling_path", "polygonal_spiral", "--out", tmp_path)
    assert compare("--run", finished_run, *line) == 0
    rows = {(row["scan"], row["completer"]): row for row in read_json(tmp_path / "comparison.json")["rows"]}
    assert [scan for scan, completer in rows if completer == "linear"] == [*line[1:4], "spiral"]
    row = rows["adaptive", "generator"]
    own, other = (rows[scan, "generator"]["loss_mean"] for scan in ("adaptive", "filling_path"))
    assert row["ratio_to_filling_path"] == pytest.approx(own / other)
    low, high = row["ratio_to_filling_path_ci95"]
    start = f"adaptive against filling_path (generator): ratio {own / other:.3f} [{low:.3f}, {high:.3f}]: "
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith(start)
    assert said[-1].startswith("written: ")


@pytest.mark.parametrize("line", [("--scans", "spiral"), ("--seed", "1")])
def test_another_comparison_leaves_the_run_s_own(
    line: tuple[str, ...],
    finished_run: Path,
    compare: Command,
    tmp_path: Path,
    results: Callable[[Path], dict[str, bytes]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    assert compare("--run", run, *line) == 0
    (folder,) = run.glob("comparison-*")
    assert f"comparison folder: {folder}" in capsys.readouterr().out
    assert read_json(folder / "comparison.json")["run"] == str(run)
    assert results(run) == results(finished_run)
    (run / "comparison.json").write_text("old")
    assert compare("--run", run) == 0
    assert results(run) == results(finished_run)
    assert list(run.glob("comparison-*")) == [folder]


def test_no_folder_is_made_for_pictures_that_cannot_be_read(
    finished_on_micrographs: tuple[Path, Path], compare: Command, tmp_path: Path
) -> None:
    line = ("--micrographs", tmp_path / "missing", "--out", tmp_path / "out")
    assert compare("--run", finished_on_micrographs[0], *line) == 2
    assert not list(tmp_path.iterdir())


def held_out_of(folder: Path) -> set[str]:
    lines = (folder / "comparison.csv").read_text().splitlines()[1:]
    return {line.split(",")[1] for line in lines}


def write_groups(file: Path, **groups: str) -> Path:
    rows = [f"{name}.tif,{group}" for name, group in groups.items()]
    file.write_text("\n".join(["file,group", *rows]) + "\n")
    return file


def test_other_groups_change_the_bootstrap_and_not_what_is_held_out(
    finished_on_micrographs: tuple[Path, Path], compare: Command, tmp_path: Path
) -> None:
    run, _ = finished_on_micrographs
    held_out = read_json(run / "manifest.json")["data"]["test"]
    # With these, a new split would hold out one whole group: two or three pictures.
    groups = write_groups(tmp_path / "groups.csv", **{f"good_{i}": "ab"[i % 2] for i in range(5)})
    out = tmp_path / "out"
    assert compare("--run", run, "--groups", groups, "--scans", "spiral", "--out", out) == 0
    assert held_out_of(out) == set(held_out)
    assert len(held_out) == 1


def test_renamed_and_moved_copies_of_trained_pictures_are_known(
    finished_on_micrographs: tuple[Path, Path], compare: Command, tmp_path: Path
) -> None:
    run, pictures = finished_on_micrographs
    data = read_json(run / "manifest.json")["data"]
    parent = tmp_path / "parent"
    (parent / "inner").mkdir(parents=True)
    for name in data["test"]:
        shutil.copy(pictures / name, parent / "inner" / name)
    for number, name in enumerate(data["train"]):
        shutil.copy(pictures / name, parent / "inner" / (f"renamed_{number}.tif" if number % 2 else name))
    assert compare("--run", run, "--micrographs", parent, "--scans", "spiral", "--out", tmp_path / "out") == 0
    assert held_out_of(tmp_path / "out") == {f"inner/{name}" for name in data["test"]}


def test_new_pictures_of_a_group_of_training_are_left_out(
    finished_on_micrographs: tuple[Path, Path],
    compare: Command,
    tmp_path: Path,
    write_micrographs: Callable[..., Path],
    complaint: Callable[[], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, new = tmp_path / "run", write_micrographs(tmp_path / "new", n=3, seed=8)
    shutil.copytree(finished_on_micrographs[0], run)
    manifest = read_json(run / "manifest.json")
    assert manifest["data"]["train_groups"] == []  # a file that is its own group names none
    write_json(run / "manifest.json", manifest | {"data": manifest["data"] | {"train_groups": ["area", "good_1.tif"]}})
    write_groups(new / "manifest.csv", good_0="area", good_2="other")
    line = ("--run", run, "--micrographs", new, "--scans", "spiral")
    assert compare(*line, "--out", tmp_path / "out") == 0
    assert held_out_of(tmp_path / "out") == {"good_1.tif", "good_2.tif"}
    write_groups(new / "manifest.csv", good_0="area", good_1="area", good_2="area")
    capsys.readouterr()
    assert compare(*line, "--out", tmp_path / "none") == 2
    assert "got only pictures that the run trained on" in complaint()


def test_groups_that_a_table_names_are_told_from_files(tmp_path: Path, write_micrographs: Callable[..., Path]) -> None:
    write_groups(write_micrographs(tmp_path) / "manifest.csv", good_0="x", good_1="x", good_2="good_3.tif")
    assert named_groups(open_micrographs(tmp_path, small_config(), skip_bad=False)) == {"x", "good_3.tif"}
    write_groups(tmp_path / "manifest.csv", good_0="x", good_1="x", good_2="y")
    data = load_data(dataclasses.replace(small_config(), micrographs=tmp_path)).description
    group_of = {"good_0.tif": "x", "good_1.tif": "x", "good_2.tif": "y"}
    assert data["train_groups"] == sorted({group_of[name] for name in data["train"] if name in group_of})


def small_config() -> TrainingConfig:
    config = preset_config("quick")
    return dataclasses.replace(config, data=dataclasses.replace(config.data, downsample=1))


@pytest.mark.parametrize(
    ("folders", "held_out"),
    [
        (("train", "test", "validation"), "test"),
        (("train", "validation"), "validation"),
        (("train",), None),
        (("validation", "test"), None),
    ],
)
def test_folders_say_what_is_held_out(folders: tuple[str, ...], held_out: str | None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in folders:
        (tmp_path / folder).mkdir()
        for number in range(3):
            tifffile.imwrite(tmp_path / folder / f"{number}.tif", rng.random((64, 64), dtype=np.float32))
    dataset = open_micrographs(tmp_path, small_config(), skip_bad=False)
    train, test = ([dataset.names[i] for i in part] for part in split_micrographs(dataset, small_config()))
    if held_out is None:
        assert sorted(train + test) == dataset.names
        assert len(test) == max(1, round(0.2 * len(dataset)))
    else:
        expected = [[f"{name}/{i}.tif" for i in range(3)] for name in ("train", held_out)]
        assert [train, test] == expected


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
    assert "left out: 4 of 7 micrographs, which the run trained on or whose group it did" in capsys.readouterr().out
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
        f"error: {pictures / seen}: got only pictures that the run trained on; expected some that it did not"
    )


def test_a_policy_of_the_current_folder_joins(
    finished_run: Path, compare: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_policies.py").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    line = ("--scans", "spiral", "--policies", "my_policies:straight", "--out", "out")
    assert compare("--run", finished_run, *line) == 0
    rows = read_json(tmp_path / "out" / "comparison.json")["rows"]
    assert [row["scan"] for row in rows] == ["spiral"] * 3 + ["straight"] * 3


def test_several_policies_and_completers_join(
    finished_run: Path, compare: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_plugins_of_both_kinds.py").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    policies, completers = (
        [f"my_plugins_of_both_kinds:{name}" for name in names]
        for names in (("straight", "straight_on"), ("values", "mask"))
    )
    line = ("--scans", "spiral", "--policies", *policies, "--completers", *completers, "--out", "out")
    assert compare("--run", finished_run, *line) == 0
    rows = {(row["scan"], row["completer"]): row for row in read_json(tmp_path / "out" / "comparison.json")["rows"]}
    judges = (*COMPLETERS, "values", "mask")
    assert list(rows) == [(scan, judge) for scan in ("spiral", "straight", "straight_on") for judge in judges]
    # The same policy under two names, and five completers that differ.
    for judge in judges:
        assert rows["straight", judge]["loss_mean"] == rows["straight_on", judge]["loss_mean"]
    assert len({rows["spiral", judge]["loss_mean"] for judge in judges}) == len(judges)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            ("--completers", "my_plugins_to_refuse:both"),
            "completer 'my_plugins_to_refuse:both': got completions (2, 2, 16, 16); expected (2, 1, 16, 16)",
        ),
        (
            ("--completers", "my_plugins_to_refuse:generator"),
            "completer: got the name 'generator'; expected none of generator, linear, infill, which are taken",
        ),
        (
            ("--completers", "my_plugins_to_refuse:mask", "my_plugins_to_refuse:mask"),
            "completers: got the name 'mask' twice; expected each once",
        ),
        (
            ("--policies", "my_plugins_to_refuse:straight", "my_plugins_to_refuse:straight"),
            "policy: got the name 'straight'; expected none of spiral, straight, which are taken",
        ),
        # Nothing that was measured is 0 in the trial alone.
        (
            ("--completers", "my_plugins_to_refuse:unsure"),
            "completer 'my_plugins_to_refuse:unsure': got non-finite completions; expected finite ones",
        ),
    ],
)
def test_names_that_are_taken_and_wrong_completions_are_refused(
    line: tuple[str, ...],
    message: str,
    finished_run: Path,
    compare: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "my_plugins_to_refuse.py").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    assert compare("--run", finished_run, "--scans", "spiral", *line, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {message}"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("foo", "policy: got 'foo'; expected package.module:factory"),
        ("no_such_module:a", "policy: got 'no_such_module:a' (No module named 'no_such_module'); expected"),
        ("my_policies_too:missing", "policy: got 'my_policies_too:missing' (module 'my_policies_too' has no"),
        ("my_policies_too:Raises", "policy 'my_policies_too:Raises': got OSError (no weights; my_policies_too.py"),
        ("my_policies_too:nothing", "policy: got a object without predict; expected a policy"),
        ("my_policies_too:number", "policy: 'my_policies_too:number' cannot be called; expected"),
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
    assert compare("--run", finished_run, "--policies", policy) == 2
    assert complaint().startswith(f"error: {message}")


def test_a_run_without_results_is_refused(
    finished_run: Path, compare: Command, tmp_path: Path, complaint: Callable[[], str]
) -> None:
    assert compare("--run", tmp_path / "none") == 2
    assert complaint() == f"error: {tmp_path / 'none'}: got no such folder; expected a run folder"
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    (folder / "policy.zip").unlink()
    assert compare("--run", folder) == 2
    assert complaint() == (
        f"error: {folder}: got no policy.zip yet; expected a run that has reached its first checkpoint"
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
    assert complaint() == f"error: {run}: got other pictures than the run was trained on; expected the same ones"
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
    assert complaint() == f"error: {pictures}: got other pictures than {run} was trained on; expected the same"
