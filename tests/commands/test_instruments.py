"""``--acquisition``: the instrument of a run, from its settings to its comparison and through an interruption."""

from __future__ import annotations

import json
import shutil
import signal
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptive_scan.acquisition import INSTRUMENTS
from adaptive_scan.agents import ScanRDPG
from adaptive_scan.commands.options import InstrumentName
from adaptive_scan.commands.run_folder import read_config, read_json
from adaptive_scan.commands.settings import TrainingConfig
from adaptive_scan.files import write_json

Command = Callable[..., int]
Results = Callable[[Path], dict[str, bytes]]

LOW_DOSE = ("--acquisition", "low-dose", "--iterations", "6")


@pytest.fixture(scope="module")
def low_dose_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run under the instrument of low dose that nothing interrupted; not to be changed."""
    from adaptive_scan.commands.settings import parse_training
    from adaptive_scan.commands.train import train as train_rdpg
    from tests.commands.conftest import TINY_RUN

    folder = tmp_path_factory.mktemp("runs") / "low-dose"
    train_rdpg(parse_training([*TINY_RUN, *LOW_DOSE, "--out", str(folder)]))
    return folder


def test_the_choices_are_the_presets() -> None:
    assert set(typing.get_args(InstrumentName)) == set(INSTRUMENTS)


def test_a_run_records_its_instrument_and_is_compared_with_it(
    low_dose_run: Path, compare: Command, tmp_path: Path
) -> None:
    assert read_config(TrainingConfig, low_dose_run).acquisition == "low-dose"
    assert read_json(low_dose_run / "manifest.json")["acquisition"] == "low-dose"
    summary = read_json(low_dose_run / "comparison.json")
    assert summary["acquisition"] == "low-dose"
    # 16 positions of 8 us at 0.5 pA.
    assert summary["rows"][0]["electrons_mean"] == pytest.approx(16 * 24.97, rel=1e-3)
    assert compare("--run", low_dose_run, "--out", tmp_path / "same") == 0
    assert (tmp_path / "same" / "comparison.csv").read_bytes() == (low_dose_run / "comparison.csv").read_bytes()


def test_a_comparison_may_have_another_instrument(low_dose_run: Path, compare: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(low_dose_run, run)
    assert compare("--run", run, "--acquisition", "ideal", "--scans", "adaptive", "raster") == 0
    (folder,) = run.glob("comparison-*")
    ideal, own = read_json(folder / "comparison.json"), read_json(low_dose_run / "comparison.json")
    assert (ideal["acquisition"], ideal["rows"][0]["electrons_mean"]) == ("ideal", None)
    losses = [
        {(row["scan"], row["completer"]): row["loss_mean"] for row in summary["rows"]} for summary in (ideal, own)
    ]
    for scan in ("adaptive", "raster", "spiral"):
        assert losses[0][scan, "linear"] < losses[1][scan, "linear"]


def test_the_ideal_instrument_by_name_changes_nothing(
    finished_run: Path, compare: Command, tmp_path: Path, results: Results
) -> None:
    assert compare("--run", finished_run, "--acquisition", "ideal", "--out", tmp_path) == 0
    assert results(tmp_path)["comparison.csv"] == results(finished_run)["comparison.csv"]
    assert read_json(finished_run / "manifest.json")["acquisition"] == "ideal"


def test_an_interrupted_run_with_an_instrument_resumes_to_the_same_bits(
    low_dose_run: Path,
    train: Command,
    tmp_path: Path,
    tiny_run: tuple[str, ...],
    results: Results,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learn, count = ScanRDPG.train, 0

    def interrupted(self: ScanRDPG, *arguments: int, **settings: int) -> None:
        nonlocal count
        count += 1
        learn(self, *arguments, **settings)
        if count == 4:
            signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(ScanRDPG, "train", interrupted)
        assert train(*tiny_run, *LOW_DOSE, "--out", folder) == 130
    assert read_json(folder / "manifest.json")["iterations_done"] == 4
    assert train("--resume", folder) == 0
    assert results(folder) == results(low_dose_run)


@pytest.mark.parametrize("command", ["train", "compare", "train_generator"])
def test_a_name_of_no_instrument_is_one_line(
    command: str, request: pytest.FixtureRequest, complaint: Callable[[], str], tmp_path: Path
) -> None:
    call: Command = request.getfixturevalue(command)
    line = ("--run", tmp_path) if command == "compare" else ("--out", tmp_path / "run")
    assert call(*line, "--acquisition", "perfect") == 2
    said = complaint()
    assert said.startswith("error: ")
    assert "'perfect'" in said
    assert "--acquisition" in said
    assert all(name in said for name in INSTRUMENTS)
    assert not list(tmp_path.iterdir())


def test_a_run_of_before_there_were_instruments_had_the_ideal_one(finished_run: Path, tmp_path: Path) -> None:
    settings = json.loads((finished_run / "config.json").read_text())
    assert settings.pop("acquisition") == "ideal"
    write_json(tmp_path / "config.json", settings)
    assert read_config(TrainingConfig, tmp_path) == read_config(TrainingConfig, finished_run)


def test_a_generator_is_trained_and_compared_under_its_instrument(
    train_generator: Command, tmp_path: Path, tiny_generator: tuple[str, ...]
) -> None:
    line = ("--acquisition", "fast-scan", "--n-updates", "3", "--scans", "spiral", "grid")
    assert train_generator(*tiny_generator, *line, "--out", tmp_path) == 0
    assert read_json(tmp_path / "manifest.json")["acquisition"] == "fast-scan"
    summary = read_json(tmp_path / "comparison.json")
    assert summary["acquisition"] == "fast-scan"
    assert summary["rows"][0]["electrons_mean"] == pytest.approx(16 * 187.2, rel=1e-3)
