"""Killed, interrupted and resumed runs end as those that nothing disturbed, to the last bit."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adaptive_scan.commands.checkpoints import stopping_cleanly
from adaptive_scan.commands.run_folder import CHECKPOINT, read_json

Command = Callable[..., int]
Results = Callable[[Path], dict[str, bytes]]
Start = Callable[..., subprocess.Popen[str]]

# Long enough that a signal sent at the first checkpoint arrives well before the end.
LONG = ("--iterations", "50", "--checkpoint-every", "4")


@pytest.fixture(scope="session")
def long_results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], dict[str, bytes]]:
    return {}


@pytest.fixture
def undisturbed(
    train: Command, tmp_path: Path, tiny_run: tuple[str, ...], results: Results, long_results: dict
) -> dict[str, bytes]:
    """What the long run ends with when nothing happens to it; made once."""
    if LONG not in long_results:
        assert train(*tiny_run, *LONG, "--out", tmp_path / "undisturbed") == 0
        long_results[LONG] = results(tmp_path / "undisturbed")
    return long_results[LONG]


def wait_for_checkpoint(process: subprocess.Popen[str], folder: Path) -> None:
    limit = time.monotonic() + 120
    while not (folder / CHECKPOINT).exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_a_killed_run_resumes_to_the_same_bits(
    start: Start, train: Command, tmp_path: Path, tiny_run: tuple[str, ...], results: Results, undisturbed: dict
) -> None:
    folder = tmp_path / "run"
    process = start("train_rdpg.py", *tiny_run, *LONG, "--out", folder)
    wait_for_checkpoint(process, folder)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "comparison.json").exists()
    assert train("--resume", folder) == 0
    assert set(undisturbed) == {"generator.safetensors", "policy.zip", "comparison.json", "comparison.csv"}
    assert results(folder) == undisturbed
    assert read_json(folder / "manifest.json")["iterations_done"] == 50


def test_ctrl_c_saves_and_says_how_to_go_on(
    start: Start, train: Command, tmp_path: Path, tiny_run: tuple[str, ...], results: Results, undisturbed: dict
) -> None:
    folder = tmp_path / "run"
    process = start("train_rdpg.py", *tiny_run, *LONG, "--out", folder)
    wait_for_checkpoint(process, folder)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    done = read_json(folder / "manifest.json")["iterations_done"]
    assert 4 <= done < 50
    assert said.splitlines()[-1] == f"interrupted: saved after {done} iterations; go on with --resume {folder}"
    assert "Traceback" not in said
    assert train("--resume", folder) == 0
    assert results(folder) == undisturbed


class Killed(BaseException):
    """The end of the process, as far as the program can tell."""


@pytest.mark.parametrize("n_renames", [0, 1, 3, 4, 5])
def test_a_run_may_die_before_any_of_its_files_appears(
    n_renames: int,
    train: Command,
    tmp_path: Path,
    tiny_run: tuple[str, ...],
    results: Results,
    finished_run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, count, rename = tmp_path / "run", 0, Path.replace

    def replace_until_killed(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count > n_renames:
            raise Killed
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_until_killed)
        with pytest.raises(Killed):
            train(*tiny_run, "--out", folder)
    arguments = ("--resume", folder) if (folder / "config.json").exists() else (*tiny_run, "--out", folder)
    assert train(*arguments) == 0
    assert results(folder) == results(finished_run)


def test_the_remains_of_a_first_file_do_not_block_the_folder(
    train: Command, tmp_path: Path, tiny_run: tuple[str, ...]
) -> None:
    (tmp_path / ".config.0123456789ab.tmp.json").write_text("{")
    assert train(*tiny_run, "--iterations", "1", "--out", tmp_path) == 0


def test_resuming_a_finished_run_only_compares_again(
    finished_run: Path, train: Command, tmp_path: Path, results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    for name in ("comparison.json", "comparison.csv", "comparison.png"):
        (folder / name).unlink()
    checkpoint = (folder / CHECKPOINT).stat().st_mtime_ns
    assert train("--resume", folder) == 0
    assert results(folder) == results(finished_run)
    assert (folder / "comparison.png").exists()
    assert (folder / CHECKPOINT).stat().st_mtime_ns == checkpoint
    assert "training:" not in capsys.readouterr().err


def test_a_broken_checkpoint_is_bad_input(
    finished_run: Path, train: Command, tmp_path: Path, complaint: Callable[[], str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    (folder / CHECKPOINT).write_bytes(b"half a file")
    assert train("--resume", folder) == 2
    assert complaint().startswith(f"error: {folder / CHECKPOINT}: got no readable tree")


def test_the_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="--resume"), stopping_cleanly(tmp_path) as stop:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        assert stop.asked
        signal.raise_signal(signal.SIGINT)
        pytest.fail("still running after the second Ctrl-C")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def _ctrl_c_is_heard() -> Iterator[None]:
    """Python's own reaction to SIGINT, which a process that was started in the background may have to ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_is_heard")
@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("load_data", "interrupted"),
        ("compare_run", "interrupted: training is done; for the comparison go on with --resume {}"),
    ],
)
def test_ctrl_c_is_clean_before_and_after_training(
    place: str,
    line: str,
    train: Command,
    tmp_path: Path,
    tiny_run: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*arguments: object, **settings: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(f"adaptive_scan.commands.train.{place}", interrupted)
    folder = tmp_path / "run"
    assert train(*tiny_run, "--iterations", "2", "--out", folder) == 130
    assert capsys.readouterr().err.splitlines()[-1] == line.format(folder)
    assert (folder / "policy.zip").exists() == (place == "compare_run")


def test_ctrl_c_in_the_last_iteration_does_not_go_on_to_the_comparison(
    train: Command, tmp_path: Path, tiny_run: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptive_scan.agents import ScanRDPG

    learn = ScanRDPG.train

    def interrupted(self: ScanRDPG, *arguments: int, **settings: int) -> None:
        learn(self, *arguments, **settings)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ScanRDPG, "train", interrupted)
    assert train(*tiny_run, "--iterations", "1", "--out", tmp_path) == 130
    assert read_json(tmp_path / "manifest.json")["iterations_done"] == 1
    assert not (tmp_path / "comparison.json").exists()
