"""``train_generator``: what it leaves behind, how it is killed and goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adaptive_scan.commands.folders import CHECKPOINT, read_json
from adaptive_scan.generators import GeneratorTrainer, load_generator, read_generator_header

Command = Callable[..., int]
Results = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def trained(train_generator: Command, tmp_path: Path, tiny_generator: tuple[str, ...]) -> Path:
    folder = tmp_path / "trained"
    scans = ("--scans", "spiral", "grid", "polygonal_spiral", "random_headings")
    assert train_generator(*tiny_generator, *scans, "--out", folder) == 0
    return folder


def test_it_leaves_a_generator_judged_beside_interpolation(trained: Path) -> None:
    assert load_generator(trained / "generator.safetensors").config["n_channels"] == 4
    assert read_generator_header(trained / "generator.safetensors")["metadata"] == {"n_updates": 12}
    rows = read_json(trained / "comparison.json")["rows"]
    assert [(row["scan"], row["completer"]) for row in rows] == [
        (scan, completer)
        for scan in ("spiral", "grid", "polygonal_spiral", "random_headings")
        for completer in ("generator", "linear", "nearest")
    ]
    manifest = read_json(trained / "manifest.json")
    assert (manifest["iterations_done"], manifest["seed"]) == (12, 0)
    log = EventAccumulator(str(trained / "tensorboard"))
    log.Reload()
    assert set(log.Tags()["scalars"]) == {"generator/loss", "generator/loss_std", "generator/learning_rate"}
    assert [event.step for event in log.Images("pictures/scan_completion_target")] == [4, 8, 12]


class Killed(BaseException):
    """The end of the process, as far as the program can tell."""


def test_killed_and_resumed_it_ends_with_the_same_bits(
    train_generator: Command,
    tmp_path: Path,
    tiny_generator: tuple[str, ...],
    results: Results,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    update = GeneratorTrainer.update

    def update_until_killed(self: GeneratorTrainer) -> object:
        if self.step == 8:
            raise Killed
        return update(self)

    folder = tmp_path / "killed"
    scans = ("--scans", "spiral", "grid", "polygonal_spiral", "random_headings")
    with monkeypatch.context() as patch:
        patch.setattr(GeneratorTrainer, "update", update_until_killed)
        with pytest.raises(Killed):
            train_generator(*tiny_generator, *scans, "--out", folder)
    assert read_json(folder / "manifest.json")["iterations_done"] == 6
    assert train_generator("--resume", folder) == 0
    assert results(folder) == results(trained)


def test_ctrl_c_saves_and_says_how_to_go_on(
    train_generator: Command,
    tmp_path: Path,
    tiny_generator: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    update = GeneratorTrainer.update

    def update_and_interrupt(self: GeneratorTrainer) -> object:
        losses = update(self)
        if self.step == 5:
            signal.raise_signal(signal.SIGINT)
        return losses

    monkeypatch.setattr(GeneratorTrainer, "update", update_and_interrupt)
    folder = tmp_path / "run"
    assert train_generator(*tiny_generator, "--out", folder) == 130
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"interrupted: saved after 5 iterations; go on with --resume {folder}"
    assert (folder / CHECKPOINT).exists()
    assert train_generator("--resume", folder) == 0
    assert read_json(folder / "manifest.json")["iterations_done"] == 12


def test_the_folder_of_another_kind_of_run_is_refused(
    finished_run: Path, train_generator: Command, complaint: Callable[[], str]
) -> None:
    assert train_generator("--resume", finished_run) == 2
    assert complaint() == f"error: {finished_run}: found a run of train_rdpg; expected one of train_generator"


def test_a_generator_s_folder_is_no_run_to_compare(
    trained: Path, compare: Command, train: Command, complaint: Callable[[], str]
) -> None:
    for command, option in ((compare, "--run"), (train, "--resume")):
        assert command(option, trained) == 2
        assert complaint() == f"error: {trained}: found a run of train_generator; expected one of train_rdpg"


def test_it_uses_the_threads_it_is_given(
    train_generator: Command, tmp_path: Path, tiny_generator: tuple[str, ...]
) -> None:
    line = ("--n-updates", "1", "--n-threads", "2", "--out", tmp_path / "run")
    assert train_generator(*tiny_generator, *line) == 0
    assert read_json(tmp_path / "run" / "manifest.json")["n_threads"] == 2
