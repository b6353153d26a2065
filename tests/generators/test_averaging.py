from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from adaptive_scan.generators import ResidualGenerator
from adaptive_scan.generators.averaging import averaged_copy, move_average, warm_decay


def test_warm_decay_is_that_of_the_formula() -> None:
    assert warm_decay(0.999, 0) == pytest.approx(1 / 10)
    assert warm_decay(0.999, 90) == pytest.approx(91 / 100)
    assert warm_decay(0.5, 90) == 0.5


@given(st.floats(0, 0.9999), st.integers(0, 10**7))
def test_warm_decay_never_falls_and_never_exceeds_the_decay(decay: float, step: int) -> None:
    assert warm_decay(decay, step) <= warm_decay(decay, step + 1) <= decay


def test_average_is_the_weighted_sum_of_all_weights() -> None:
    """After n moves with decay d, a = d^n w_0 + sum_k (1 - d) d^(n - k) w_k."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 4.0)
    average = averaged_copy(network)
    for value in (1.0, -2.0, 3.0):
        nn.init.constant_(network.weight, value)
        move_average(average, network, 0.5)
    assert average.weight.item() == pytest.approx(4.0 / 8 + 1.0 / 8 - 2.0 / 4 + 3.0 / 2)
    assert network.weight.item() == 3.0


def test_running_statistics_are_averaged_and_counters_copied() -> None:
    network = ResidualGenerator()
    average = averaged_copy(network)
    network(torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0)))
    move_average(average, network, 0.75)
    own, averaged = network.layers[0][2], average.layers[0][2]
    torch.testing.assert_close(averaged.running_mean, 0.25 * own.running_mean)
    torch.testing.assert_close(averaged.running_var, 0.75 + 0.25 * own.running_var)
    assert averaged.num_batches_tracked.item() == own.num_batches_tracked.item() == 1


def test_the_copy_is_ready_to_complete_and_apart() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    average = averaged_copy(network)
    assert not average.training
    assert network.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
    nn.init.zeros_(network[0].weight)
    assert average[0].weight.any()
