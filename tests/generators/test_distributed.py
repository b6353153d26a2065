"""Several processes train as one does. This file is also the script that ``torchrun`` starts for that."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adaptive_scan.generators import GeneratorTrainer, GeneratorTraining, ResidualGenerator, UNetGenerator
from adaptive_scan.generators.distributed import (
    ALONE,
    Processes,
    is_launched,
    joined_processes,
    share_batch_statistics,
)
from adaptive_scan.micrographs import ArrayCrops
from adaptive_scan.scans import ScanGeometry
from adaptive_scan.trees import read_tree, write_tree

GEOMETRY = ScanGeometry(16, 6, 4)
N_PROCESSES, N_CROPS = 4, 24
SETTINGS = GeneratorTraining(
    n_updates=6,
    batch_size=8,
    scans=("random", "spiral", "random_headings", "adaptive"),
    coverages=(1 / 4, 1 / 16),
    sampling="epochs",
    alrc=True,
    alrc_mu1=0.5,
    alrc_mu2=0.3,
    prioritisation="tracked",
    ema_decay=0.5,
    max_grad_norm=1.0,
)


class Counting(ArrayCrops):
    """Crops that remember which of them were taken."""

    def __init__(self) -> None:
        super().__init__(np.random.default_rng(0).normal(size=(N_CROPS, 16, 16)).cumsum(1).cumsum(2))
        self.taken: list[int] = []

    def take(self, ids: np.ndarray) -> np.ndarray:
        self.taken += ids[:, 0].tolist()
        return super().take(ids)


def wander(crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paths that need both the crops and random numbers."""
    steps = rng.normal(size=(len(crops), GEOMETRY.n_positions_total, 2)) + crops[:, :1, :1]
    return (8 + steps.cumsum(axis=1)).clip(0, 15).astype(np.float32)


class Dim:
    """A simple instrument of one's own, which draws for all scans at once."""

    value_range = (-2.0, 2.0)

    def displace(self, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return positions

    def detect(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.clip(values + rng.normal(0, 0.1, values.shape), -2, 2).astype(np.float32)


def make_trainer(kind: str, processes: Processes, crops: Counting) -> GeneratorTrainer:
    torch.manual_seed(0)
    settings, network, acquisition = SETTINGS, UNetGenerator(n_channels=4, n_levels=2), "low-dose"
    if kind == "unet":
        # At zero, as it begins, most gradients are rounding alone, which Adam makes as large as all others.
        nn.init.normal_(network.correction.weight, std=0.1)
    else:
        network = ResidualGenerator(width=1 / 8)
        settings = dataclasses.replace(SETTINGS, scans=("random", "spiral"), coverages=(), n_updates=3)
    paths = {"adaptive": wander}
    return GeneratorTrainer(
        network, crops, GEOMETRY, settings, acquisition=acquisition, paths=paths, processes=processes
    )


def train(trainer: GeneratorTrainer, n_updates: int) -> Tensor:
    """Losses of the updates up to a number of them, shape (n, batch_size)."""
    losses = [trainer.update() for _ in range(n_updates - trainer.step)]
    return torch.stack(losses)


def completions(trainer: GeneratorTrainer) -> Tensor:
    scans = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (3, 2, 16, 16)).astype(np.float32))
    with torch.no_grad():
        return trainer.saved_network.eval()(scans)


def work(folder: Path) -> None:
    """What each of the processes does: training, and then one of them fails."""
    torch.set_num_threads(1)
    with joined_processes() as processes:
        found: dict[str, Any] = {"n_processes": processes.n_processes}
        for kind in ("unet", "residual"):
            crops = Counting()
            trainer = make_trainer(kind, processes, crops)
            found[kind] = {"losses": train(trainer, trainer.settings.n_updates)}
            found[kind] |= {"completions": completions(trainer), "state": trainer.state_dict()}
            counts = torch.bincount(torch.tensor(crops.taken), minlength=N_CROPS).float()
            found[kind]["counts"] = processes.gather(counts[None])
        resumed = make_trainer("unet", processes, Counting())
        resumed.load_state_dict(processes.from_first(read_tree(folder / "start") if processes.is_first else None))
        found["resumed"] = train(resumed, 4)
        network = nn.Linear(2, 1)
        nn.init.constant_(network.weight, float(processes.rank))
        processes.copy_from_first(network)
        found["copied"] = processes.gather(network.weight.detach())
        found["any"] = [processes.any(processes.rank == 2), processes.any(False)]
        if processes.is_first:
            write_tree(folder / "found", found)
        processes.wait()
        if processes.rank == 1:
            sys.exit("one process fails")
        processes.wait()


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """What one process finds."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for kind in ("unet", "residual"):
        trainer = make_trainer(kind, ALONE, Counting())
        found[kind] = {"losses": train(trainer, trainer.settings.n_updates), "completions": completions(trainer)}
    trainer = make_trainer("unet", ALONE, Counting())
    train(trainer, 2)
    found["start"] = trainer.state_dict()
    torch.set_num_threads(n_threads)
    return found


@pytest.fixture(scope="module")
def launched(alone: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Any]:
    """What four processes find, and how they end."""
    folder = tmp_path_factory.mktemp("together")
    write_tree(folder / "start", alone["start"])
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(N_PROCESSES))
    ended = subprocess.run(
        [sys.executable, *launch, __file__, str(folder)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (folder / "found").exists(), ended.stderr
    return read_tree(folder / "found"), ended


def test_four_processes_make_the_updates_of_one(launched: tuple[dict[str, Any], Any], alone: dict[str, Any]) -> None:
    found, _ = launched
    assert found["n_processes"] == N_PROCESSES
    torch.testing.assert_close(found["unet"]["losses"], alone["unet"]["losses"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["unet"]["completions"], alone["unet"]["completions"], rtol=0, atol=1e-4)


def test_batch_normalisation_is_that_of_the_whole_batch(
    launched: tuple[dict[str, Any], Any], alone: dict[str, Any]
) -> None:
    together = launched[0]["residual"]
    torch.testing.assert_close(together["losses"][:2], alone["residual"]["losses"][:2], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(together["losses"], alone["residual"]["losses"], rtol=0.02, atol=1e-2)
    assert together["state"]["network"].keys() == ResidualGenerator(width=1 / 8).state_dict().keys()


def test_each_sample_is_seen_once_in_each_epoch_by_one_process(launched: tuple[dict[str, Any], Any]) -> None:
    """Three updates of eight scans are an epoch of 24 crops; with adaptive scans every process would take them all."""
    counts = launched[0]["residual"]["counts"]
    assert counts.shape == (N_PROCESSES, N_CROPS)
    assert (counts.sum(0) == 1).all()
    assert (counts.sum(1) == N_CROPS / N_PROCESSES).all()


def test_resumption_with_another_number_of_processes(
    launched: tuple[dict[str, Any], Any], alone: dict[str, Any]
) -> None:
    found, _ = launched
    torch.testing.assert_close(found["resumed"], alone["unet"]["losses"][2:4], rtol=1e-4, atol=1e-5)
    trainer = make_trainer("unet", ALONE, Counting())
    trainer.load_state_dict(found["unet"]["state"])
    assert trainer.step == 6
    undisturbed = make_trainer("unet", ALONE, Counting())
    train(undisturbed, 6)
    torch.testing.assert_close(trainer.update(), undisturbed.update(), rtol=1e-4, atol=1e-5)


def test_messages_between_processes(launched: tuple[dict[str, Any], Any]) -> None:
    found, _ = launched
    assert found["copied"].tolist() == [[0.0, 0.0]] * N_PROCESSES
    assert found["any"] == [True, False]


def test_a_process_that_fails_ends_all(launched: tuple[dict[str, Any], Any]) -> None:
    _, ended = launched
    assert ended.returncode != 0
    assert "one process fails" in ended.stderr


@pytest.mark.parametrize("acquisition", [None, "low-dose", Dim()])
@pytest.mark.parametrize("scans", [("random", "spiral", "random_headings"), ("random", "adaptive")])
def test_shares_of_a_batch_are_those_of_the_whole(acquisition: Any, scans: tuple[str, ...]) -> None:
    settings = dataclasses.replace(SETTINGS, scans=scans)

    def trainer(processes: Processes) -> GeneratorTrainer:
        return GeneratorTrainer(
            UNetGenerator(n_channels=4, n_levels=2), Counting(), GEOMETRY, settings,
            acquisition=acquisition, paths={"adaptive": wander}, processes=processes,
        )  # fmt: skip

    alone = trainer(ALONE)
    members = [trainer(Processes(rank, 2)) for rank in range(2)]
    for _ in range(2):
        whole = alone.draw_batch()
        for rank, member in enumerate(members):
            share = member.draw_batch()
            for name in ("partial_scans", "targets", "coverages", "coverage_indices", "crops", "symmetries"):
                assert torch.equal(getattr(share, name), getattr(whole, name)[rank::2]), name
            assert share.families == whole.families[rank::2]


def test_one_process_leaves_all_as_it_is() -> None:
    losses = torch.arange(3.0)
    assert ALONE.gather(losses) is losses
    assert ALONE.from_first({"a": 1}) == {"a": 1}
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert not is_launched()
    with joined_processes() as processes:
        assert processes is ALONE


def test_shared_statistics_alone_are_those_of_torch() -> None:
    plain, shared = (ResidualGenerator(width=1 / 8) for _ in range(2))
    shared.load_state_dict(plain.state_dict())
    assert share_batch_statistics(shared) == sum(isinstance(each, nn.BatchNorm2d) for each in plain.modules())
    scans = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shared(scans), plain(scans), rtol=0, atol=0)
    for mine, theirs in zip(shared.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
