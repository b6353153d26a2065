from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from adaptive_scan import commands
from adaptive_scan.benchmark.definition import (
    Benchmark,
    GeneratorPlan,
    PictureSettings,
    ScanEntry,
    SplitSettings,
)
from adaptive_scan.benchmark.folder import load_results
from adaptive_scan.benchmark.run import complete_benchmark, run_benchmark
from adaptive_scan.benchmark.scan_kinds import SCAN_KINDS, resolve_scans
from adaptive_scan.commands import compare as benchmarking
from adaptive_scan.commands.command_options import BenchmarkConfig, ComparisonConfig, NewBenchmarkConfig, ReportConfig
from adaptive_scan.commands.compare_forms import parse_compare
from adaptive_scan.commands.errors import run_command
from adaptive_scan.scans import ScanGeometry

TINY = Benchmark(
    "tiny",
    geometries={"1/16": ScanGeometry(16, 4, 4)},
    scans=(ScanEntry("spiral", "static"), ScanEntry("grid", "static")),
    pictures=PictureSettings(n_crops=12),
    split=SplitSettings(n_folds=3),
    completers=("linear",),
    generator=GeneratorPlan(n_channels=4, n_updates=1, batch_size=2),
    n_examples=1,
)
IDENTITY = complete_benchmark(TINY)[0].identity


def compare(*arguments: object) -> int:
    """``adaptive-scan compare`` where it is about benchmarks; returns the exit status."""
    return run_command(lambda given: benchmarking.compare(parse_compare(given)), [*map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    TINY.write(tmp_path / "tiny.json")
    return tmp_path / "tiny.json"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["b.json"], BenchmarkConfig),
        (["b.json", "--out", "a"], BenchmarkConfig),
        (["--new", "b.json"], NewBenchmarkConfig),
        (["--new=b.json"], NewBenchmarkConfig),
        (["--report", "folder"], ReportConfig),
        (["--run", "runs/a"], ComparisonConfig),
        (["--run=runs/a.json"], ComparisonConfig),
    ],
)
def test_options_tell_the_form(arguments: list[str], kind: type) -> None:
    assert type(parse_compare(arguments)) is kind


def test_a_new_benchmark_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new.json"
    assert compare("--new", path) == 0
    assert str(path) in capsys.readouterr().out
    assert Benchmark.read(path).name == "quick"
    assert Benchmark.read(path).scans[0].settings == {"family": "spiral", "n_positions": None}
    assert compare("--new", path) == 2
    assert "got something there already; expected a new file" in capsys.readouterr().err


def test_a_new_benchmark_of_micrographs_knows_them(
    tmp_path: Path, write_micrographs: Callable[..., Path], complaint: Callable[[], str]
) -> None:
    pictures = write_micrographs(tmp_path / "pictures", n=6, side=70)
    assert compare("--new", tmp_path / "b.json", "--micrographs", pictures, "--acquisition", "low-dose") == 0
    benchmark = Benchmark.read(tmp_path / "b.json")
    assert benchmark.pictures.micrographs == str(pictures)
    assert len(benchmark.pictures.fingerprint or "") == 64
    assert benchmark.scans[-1].kind == "dense"
    few = write_micrographs(tmp_path / "few", n=4, side=70)
    assert compare("--new", tmp_path / "c.json", "--micrographs", few) == 2
    assert complaint() == "error: got 4 group(s) of micrographs for 5 folds; expected at least 5"
    assert not (tmp_path / "c.json").exists()


def test_a_benchmark_runs_to_its_report(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert compare(file, "--out", out, "--device", "cpu") == 0
    shown = capsys.readouterr().out
    assert IDENTITY in shown
    assert str(out) in shown
    assert IDENTITY in (out / "report.html").read_text(encoding="utf-8")
    analysis = json.loads((out / "analysis.json").read_text())
    assert analysis["comparisons"]
    before = (out / "analysis.json").read_bytes()
    for name in ("analysis.json", "report.html"):
        (out / name).unlink()
    assert compare("--report", out) == 0
    assert (out / "analysis.json").read_bytes() == before
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    "path",
    sorted((Path(__file__).parents[2] / "benchmarks" / "comparisons").glob("*.json")),
    ids=lambda path: path.stem,
)
def test_published_benchmarks_say_everything(path: Path) -> None:
    benchmark = Benchmark.read(path)
    known = {**SCAN_KINDS, **benchmarking.KINDS}
    assert resolve_scans(benchmark, known).to_dict() == benchmark.to_dict()
    assert benchmark.pictures.micrographs is None or len(benchmark.pictures.fingerprint or "") == 64


def test_micrographs_may_lie_elsewhere_than_the_file_says(
    tmp_path: Path,
    write_micrographs: Callable[..., Path],
    complaint: Callable[[], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pictures = write_micrographs(tmp_path / "pictures", n=6, side=70)
    there = replace(TINY, pictures=PictureSettings(micrographs=str(pictures), crops_per_micrograph=2))
    written = complete_benchmark(there)[0]
    elsewhere = pictures.rename(tmp_path / "elsewhere")
    written.write(tmp_path / "b.json")
    assert compare(tmp_path / "b.json", "--out", tmp_path / "out") == 2
    assert complaint() == (
        f"error: {pictures}: got no micrographs where the benchmark says; expected --micrographs PATH"
    )
    assert not (tmp_path / "out").exists()
    assert compare(tmp_path / "b.json", "--out", tmp_path / "out", "--micrographs", elsewhere) == 0
    assert load_results(tmp_path / "out").identity == written.identity
    capsys.readouterr()
    others = write_micrographs(tmp_path / "others", n=5, side=70)
    assert compare(tmp_path / "b.json", "--out", tmp_path / "other", "--micrographs", others) == 2
    assert "got other pictures or groups at" in complaint()
    assert compare(tmp_path / "b.json", "--out", tmp_path / "other", "--groups", "g.csv") == 2
    assert complaint() == "error: --groups: got g.csv without --micrographs; expected both"


def test_pictures_that_are_made_have_no_place(file: Path, complaint: Callable[[], str]) -> None:
    assert compare(file, "--micrographs", "pictures") == 2
    assert complaint() == ("error: --micrographs: got pictures; expected none, for this benchmark makes its pictures")


def test_the_folder_is_named_after_the_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmarking, "report_results", lambda results, folder: None)
    assert compare(file, "--device", "cpu") == 0
    assert load_results(tmp_path / "runs" / "tiny").identity == IDENTITY


def test_an_unknown_key_is_one_line(file: Path, complaint: Callable[[], str]) -> None:
    content = json.loads(file.read_text())
    content["generator"]["n_layers"] = 3
    file.write_text(json.dumps(content))
    assert compare(file) == 2
    assert complaint().startswith(f"error: {file}: got the unknown key 'generator.n_layers'; expected some of kind, ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.json"], "none.json: got No such file or directory"),
        (["b.json", "--outt", "a"], "--out was meant"),
        (["--report", "nowhere"], "results.json: got No such file or directory"),
    ],
)
def test_bad_arguments_are_one_line(arguments: list[str], said: str, complaint: Callable[[], str]) -> None:
    assert compare(*arguments) == 2
    assert said in complaint()


def test_a_folder_of_another_benchmark_is_refused(file: Path, tmp_path: Path, complaint: Callable[[], str]) -> None:
    run_benchmark(TINY, tmp_path / "out", progress=False)
    replace(TINY, seeds=(1,)).write(file)
    assert compare(file, "--out", tmp_path / "out", "--device", "cpu") == 2
    assert "got a run of the identity" in complaint()


def test_ctrl_c_says_how_to_go_on(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from adaptive_scan.benchmark import run as running

    def interrupt(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "make_rows", interrupt)
    out = tmp_path / "out"
    assert compare(file, "--out", out, "--device", "cpu") == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"interrupted: whole stages stand; the same command with --out {out} goes on"
    monkeypatch.undo()
    monkeypatch.setattr(benchmarking, "report_results", lambda results, folder: None)
    assert compare(file, "--out", out, "--device", "cpu") == 0
    run_benchmark(TINY, tmp_path / "whole", progress=False)
    for name in ("results.parquet", "results.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


OWN = """
import numpy as np
import torch


class Straight:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.tile([1.0, 0.0], (len(observation["position"]), 1)), state


def flat():
    return lambda partial_scans: torch.zeros_like(partial_scans[:, :1])
"""


def test_ones_own_policy_and_completer(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_things.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmarking, "report_results", lambda results, folder: None)
    given = ("--policies", "own_things:Straight", "--completers", "own_things:flat")
    assert compare(file, "--out", tmp_path / "out", "--device", "cpu", *given) == 0
    results = load_results(tmp_path / "out")
    assert results.identity != IDENTITY
    roles = {(row["scan"], row["role"]) for row in results.rows.select(["scan", "role"]).to_pylist()}
    assert ("Straight", "adaptive") in roles
    assert set(results.rows["completer"].to_pylist()) == {"linear", "own_things:flat"}


ORACLE = """
from adaptive_scan.evaluation import Contender


class Peeking:
    def peek(self, crops, targets):
        pass

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return observation["heading"], state


def oracle():
    return Contender("mine", policy=Peeking(), role="oracle")
"""
FAILING = """
import numpy as np


class Raises:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        raise OSError("no weights")


class Nowhere:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.full((len(observation["position"]), 2), np.nan), state


class Later:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        if len(observation["position"]) > 2:
            raise OSError("too many")
        return np.tile([1.0, 0.0], (len(observation["position"]), 1)), state
"""


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (
            "Raises",
            "policy 'failing_things:Raises': got OSError (no weights; failing_things.py, line 7)",
        ),
        ("Nowhere", "policy 'failing_things:Nowhere': got actions that are not finite; expected finite ones"),
        ("Missing", "policy: got 'failing_things:Missing' (module"),
    ],
)
def test_a_policy_is_tried_before_anything_is_made(
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    complaint: Callable[[], str],
    factory: str,
    said: str,
) -> None:
    (tmp_path / "failing_things.py").write_text(FAILING)
    monkeypatch.chdir(tmp_path)
    name = f"failing_things:{factory}"
    assert compare(file, "--out", tmp_path / "out", "--device", "cpu", "--policies", name) == 2
    assert complaint().startswith(f"error: scan {factory!r} at '1/16': {said}")
    assert not (tmp_path / "out").exists()


def test_a_policy_that_fails_later_is_named(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "failing_things.py").write_text(FAILING)
    monkeypatch.chdir(tmp_path)
    given = ("--out", tmp_path / "out", "--device", "cpu", "--policies", "failing_things:Later")
    assert compare(file, *given) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: policy 'failing_things:Later': got OSError (too many; failing_things.py, line ")


def test_a_plugin_that_changed_is_noted(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "changing_things.py"
    source.write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmarking, "report_results", lambda results, folder: None)
    factories = ("changing_things:Straight", "changing_things:flat")
    given = ("--device", "cpu", "--policies", factories[0], "--completers", factories[1], "--out", tmp_path / "out")
    assert compare(file, *given) == 0
    assert "note: " not in capsys.readouterr().out
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    source.write_text(OWN + "\n")
    after = hashlib.sha256(source.read_bytes()).hexdigest()
    assert compare(file, *given) == 0
    changes = ", ".join(f"{name} {after[:12]} (before: {before[:12]})" for name in factories)
    assert f"note: the run goes on with {changes}\n" in capsys.readouterr().out
    versions = load_results(tmp_path / "out").description["versions"]
    assert [each[factories[0]] for each in versions] == [before, after]


def test_an_oracle_of_ones_own_is_refused_in_the_factorial(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Callable[[], str]
) -> None:
    (tmp_path / "peeking_things.py").write_text(ORACLE)
    monkeypatch.chdir(tmp_path)
    mine = ScanEntry("mine", "policy", {"factory": "peeking_things:oracle"})
    replace(TINY, scans=(*TINY.scans, mine), factorial=("mine",)).write(file)
    assert compare(file, "--out", tmp_path / "out", "--device", "cpu") == 2
    assert complaint() == (
        "error: scan 'mine' at '1/16': factorial: got 'mine', of the role 'oracle'; expected static and adaptive scans"
    )


def test_an_own_policy_beside_a_run_needs_another_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Callable[[], str]
) -> None:
    (tmp_path / "own_things.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    complete_benchmark(TINY)[0].write(tmp_path / "runs" / "tiny" / "benchmark.json")
    assert compare(file, "--device", "cpu", "--policies", "own_things:Straight") == 2
    said = complaint()
    assert "got a run of the identity" in said
    assert said.endswith("or a new folder; give another --out: --policies made it another benchmark")


@pytest.mark.parametrize("value", ["grit", 3])
def test_refused_settings_leave_no_folder(
    file: Path, tmp_path: Path, complaint: Callable[[], str], value: object
) -> None:
    content = json.loads(file.read_text())
    content["scans"][1]["settings"] = {"family": value}
    file.write_text(json.dumps(content))
    assert compare(file, "--out", tmp_path / "out", "--device", "cpu") == 2
    assert complaint().startswith("error: scan 'grid'")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("settings", [{"iterations": 0}, {"hidden_size": 0}, {"iterations": "many"}])
def test_settings_of_the_recurrent_actor_are_refused(
    tmp_path: Path, complaint: Callable[[], str], settings: dict[str, object]
) -> None:
    replace(TINY, scans=(*TINY.scans, ScanEntry("actor", "rdpg", settings))).write(tmp_path / "b.json")
    assert compare(tmp_path / "b.json", "--out", tmp_path / "out", "--device", "cpu") == 2
    said = complaint()
    assert said.startswith("error: scan 'actor'")
    assert next(iter(settings)) in said.replace("-", "_")
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_one_line(file: Path, complaint: Callable[[], str]) -> None:
    assert compare(file, "--out", file, "--device", "cpu") == 2
    assert complaint() == f"error: {file}: got a file; expected a folder, or nothing"


def test_help_shows_every_form(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["adaptive-scan", "compare", "--help"])
    assert commands.main() == 0
    said = capsys.readouterr().out
    for form in ("BENCHMARK.json [OPTIONS]", "--new FILE [OPTIONS]", "--report FOLDER", "--run FOLDER [OPTIONS]"):
        assert f"adaptive-scan compare {form}" in said
    for option in ("--only-seeds", "--policies", "--preset", "--acquisition", "--report", "--run", "--scans"):
        assert any(line.strip("│| ").startswith(option) for line in said.splitlines())
    plain = " ".join(said.replace("│", "").split())
    assert "each seed once for the preparation, and once more for the comparison" in plain
    assert "The last process to finish writes the report" in plain


def test_no_arguments_show_the_forms(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["adaptive-scan", "compare"])
    assert commands.main() == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("adaptive-scan compare ")) == ("", 4)


def test_a_file_that_is_no_benchmark_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Callable[[], str]
) -> None:
    (tmp_path / "notes").write_text("no JSON")
    for name, found in (("notes", "no JSON"), ("nope", "No such file or directory")):
        monkeypatch.setattr("sys.argv", ["adaptive-scan", "compare", "--out", "x", str(tmp_path / name)])
        assert commands.main() == 2
        assert complaint().startswith(f"error: {tmp_path / name}: got {found}")


def test_the_last_process_writes_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reported: list[Path] = []
    monkeypatch.setattr(benchmarking, "report_results", lambda results, folder: reported.append(folder))
    file, out = tmp_path / "two.json", tmp_path / "out"
    replace(TINY, seeds=(0, 1)).write(file)
    for seed in (0, 1):
        assert compare(file, "--out", out, "--device", "cpu", "--only-seeds", seed) == 0
        assert "the same command goes on once they are" in capsys.readouterr().out
        assert not reported
    assert compare(file, "--out", out, "--device", "cpu", "--only-seeds", 0) == 0
    assert reported == [out]


def test_an_own_policy_needs_another_name(file: Path, tmp_path: Path, complaint: Callable[[], str]) -> None:
    assert compare(file, "--out", tmp_path / "out", "--device", "cpu", "--policies", "some:grid") == 2
    assert complaint() == "error: scans: got 'grid' twice; expected each once"


def test_the_recurrent_actor_is_trained_and_kept(tmp_path: Path) -> None:
    scans = (*TINY.scans, ScanEntry("actor", "rdpg", {"iterations": 1, "hidden_size": 4}))
    benchmark = replace(TINY, scans=scans)
    results = run_benchmark(benchmark, tmp_path / "out", kinds=benchmarking.KINDS, progress=False)
    assert results.rows["scan"].to_pylist().count("actor") == 4
    kept = tmp_path / "out" / "seed0" / "1%2F16" / "actor" / "policy.zip"
    before = kept.read_bytes()
    (kept.parent / "scans.npz").unlink()
    again = run_benchmark(benchmark, tmp_path / "out", kinds=benchmarking.KINDS, progress=False)
    assert kept.read_bytes() == before
    assert again.rows["loss"].to_pylist() == results.rows["loss"].to_pylist()
