"""The networks of a benchmark: what they are trained on does not depend on what it should not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from adaptive_scan.benchmark import networks as fitting
from adaptive_scan.benchmark.definition import Benchmark, GeneratorPlan, ScanEntry
from adaptive_scan.benchmark.networks import fine_tune, train_base, train_predictor
from adaptive_scan.evaluation.contenders import Contender
from adaptive_scan.generators import GeneratorTrainer
from adaptive_scan.generators.augment import apply_symmetries
from adaptive_scan.generators.training import TrainingBatch
from adaptive_scan.micrographs import ArrayCrops
from adaptive_scan.scans import ScanGeometry

# Of the same dose, so only their names tell which of them is the last.
GEOMETRIES = {"few": ScanGeometry(16, 2, 8), "many": ScanGeometry(16, 8, 2), "short": ScanGeometry(16, 3, 3)}
PLAN = GeneratorPlan(
    n_channels=4, scans=("random_headings",), n_updates=2, batch_size=4, fine_tuning_crops=8, error_updates=2
)


def make_benchmark(*names: str, acquisition: str = "ideal") -> Benchmark:
    return Benchmark(
        "tiny",
        geometries={name: GEOMETRIES[name] for name in names},
        scans=(ScanEntry("spiral", "static"),),
        acquisition=acquisition,
        completers=("shared",),
        seeds=(0,),
        generator=PLAN,
    )


@pytest.fixture
def crops(rng: np.random.Generator) -> ArrayCrops:
    return ArrayCrops(rng.uniform(-1, 1, (12, 16, 16)).astype(np.float32), normalise=False)


def test_the_order_of_geometries_changes_no_network(crops: ArrayCrops) -> None:
    first, second = make_benchmark("few", "many", "short"), make_benchmark("many", "short", "few")
    assert first.identity == second.identity
    bases = [train_base(benchmark, crops, 0) for benchmark in (first, second)]
    heads = [train_predictor(benchmark, base, crops, 0) for benchmark, base in zip((first, second), bases, strict=True)]
    for one, other in (bases, heads):
        for name, weights in one.state_dict().items():
            assert torch.equal(weights, other.state_dict()[name]), name


class Wandering:
    """Turns by what it measured, and notes it."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def predict(self, observation: dict[str, np.ndarray], state: Any = None, **_: Any) -> tuple[np.ndarray, None]:
        self.seen.append(observation["partial_scan"].copy())
        angle = observation["measured"].sum(axis=1)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1), None


def test_a_network_is_tuned_on_the_readings_that_a_policy_chose_its_path_from(
    crops: ArrayCrops, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[TrainingBatch] = []

    class Watched(GeneratorTrainer):
        def draw_batch(self) -> TrainingBatch:
            batches.append(super().draw_batch())
            return batches[-1]

    benchmark = make_benchmark("many", acquisition="low-dose")
    base, policy = train_base(benchmark, crops, 0), Wandering()
    contender = Contender("wandering", policy=policy, environment={"observe_image": True})
    monkeypatch.setattr(fitting, "GeneratorTrainer", Watched)
    fine_tune(benchmark, base, crops, GEOMETRIES["many"], [contender], 0)
    assert len(batches) == 2
    for batch, seen in zip(batches, policy.seen[6::7], strict=True):
        # What the policy saw last lacks the last segment alone: at pixels that this did not touch it is the same.
        scans, before = batch.partial_scans, apply_symmetries(torch.from_numpy(seen), batch.symmetries)
        is_known = before[:, 1] > 0
        assert (scans[:, 1][is_known] == 1).all()
        is_same = torch.isclose(scans[:, 0][is_known], before[:, 0][is_known], atol=1e-6)
        assert is_same.float().mean() > 0.7
