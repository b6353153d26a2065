"""Runs small enough to be made in a test, and pictures for them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from adaptive_scan import commands
from tests.conftest import write_pictures

ROOT = Path(__file__).resolve().parents[2]

TINY_SCAN = (
    *("--geometry.image-size", "16", "--geometry.n-segments", "4", "--geometry.n-positions", "4"),
    *("--data.downsample", "1", "--data.n-procedural", "40", "--data.n-procedural-test", "8"),
    *("--data.test-crops-per-micrograph", "2", "--device", "cpu", "--log-every", "2", "--picture-every", "4"),
)
TINY_RUN = (
    *TINY_SCAN,
    *("--iterations", "12", "--checkpoint-every", "3", "--agent.hidden-size", "8", "--agent.n-layers", "1"),
    *("--agent.n-environments", "4", "--agent.batch-size", "4", "--agent.buffer-scans", "64"),
    *("--agent.actor-learning-starts", "2", "--generator.n-channels", "4", "--generator.n-levels", "2"),
    *("--generator.n-static", "2"),
)
TINY_GENERATOR = (
    *TINY_SCAN,
    *("--n-updates", "12", "--checkpoint-every", "3", "--batch-size", "4", "--n-channels", "4", "--n-levels", "2"),
)

Command = Callable[..., int]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums of floating-point numbers depend on how they are shared out."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def _command(monkeypatch: pytest.MonkeyPatch, name: str, main: str) -> Command:
    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        return getattr(commands, main)()

    return call


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Command:
    """``scripts/train_rdpg.py`` in this process; returns the exit status."""
    return _command(monkeypatch, "train_rdpg", "train_rdpg_main")


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Command:
    """``scripts/compare_scans.py`` in this process; returns the exit status."""
    return _command(monkeypatch, "compare_scans", "compare_scans_main")


@pytest.fixture
def train_generator(monkeypatch: pytest.MonkeyPatch) -> Command:
    """``scripts/train_generator.py`` in this process; returns the exit status."""
    return _command(monkeypatch, "train_generator", "train_generator_main")


@pytest.fixture
def tiny_run() -> tuple[str, ...]:
    """Arguments of ``train_rdpg`` for a run of a second."""
    return TINY_RUN


@pytest.fixture
def tiny_generator() -> tuple[str, ...]:
    """Arguments of ``train_generator`` for a training of a second."""
    return TINY_GENERATOR


def _start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """Starts a script in a process of its own, with as many threads as the tests have."""
    return _start


def _results(folder: Path) -> dict[str, bytes]:
    names = ("generator.safetensors", "policy.zip", "comparison.json", "comparison.csv")
    found = {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}
    if "comparison.json" in found:
        # Where a run and its pictures lie is the one thing in which equal runs differ.
        lines = found["comparison.json"].splitlines(keepends=True)
        found["comparison.json"] = b"".join(x for x in lines if not x.startswith((b'  "run": ', b'  "micrographs": ')))
    return found


@pytest.fixture
def results() -> Callable[[Path], dict[str, bytes]]:
    """What a run must end with to the last bit."""
    return _results


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on procedural crops that nothing interrupted; not to be changed."""
    from adaptive_scan.commands.settings import parse_training
    from adaptive_scan.commands.train import train as train_rdpg

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "finished"
    train_rdpg(parse_training([*TINY_RUN, "--out", str(folder)]))
    return folder


@pytest.fixture(scope="session")
def finished_on_micrographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a run on five micrographs, and that of the micrographs; not to be changed."""
    from adaptive_scan.commands.settings import parse_training
    from adaptive_scan.commands.train import train as train_rdpg

    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("measured")
    pictures, folder = write_pictures(place / "pictures", n=5), place / "run"
    train_rdpg(parse_training([*TINY_RUN, "--micrographs", str(pictures), "--out", str(folder)]))
    return folder, pictures
