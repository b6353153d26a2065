"""The benchmark of the updates compares the same update: step by step it reaches the same weights."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield importlib.import_module("bench_updates")
    torch.set_num_threads(n_threads)


@pytest.mark.parametrize("loop", ["StepByStep", "StepByStepCell"])
def test_the_loop_learns_the_same_weights(bench, loop):
    batched, stepped = (bench.make_agent(cls, 8, 6) for cls in (bench.RecurrentTD3, getattr(bench, loop)))
    before = {name: weights.clone() for name, weights in batched.actor.state_dict().items()}
    for model in (batched, stepped):
        model.train(4, 32)
    torch.testing.assert_close(batched.policy.state_dict(), stepped.policy.state_dict(), atol=1e-6, rtol=0.0)
    assert not any(torch.equal(weights, before[name]) for name, weights in batched.actor.state_dict().items())
