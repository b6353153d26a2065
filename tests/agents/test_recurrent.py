"""Stacked LSTM and GRU layers: what goes where."""

from __future__ import annotations

import pytest
import torch

from adaptive_scan.agents.recurrent import RecurrentMemory
from adaptive_scan.errors import SettingError


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_skip_connections_put_out_all_layers_and_feed_the_input_to_each(kind):
    memory = RecurrentMemory(kind, 3, hidden_size=5, n_layers=2, skip_connections=True)
    assert memory.output_size == 10
    assert [layer.input_size for layer in memory.layers] == [3, 8]
    inputs = torch.randn(2, 4, 3)
    first, _ = memory.layers[0](inputs)
    second, _ = memory.layers[1](torch.cat([first, inputs], dim=-1))
    torch.testing.assert_close(memory(inputs)[0], torch.cat([first, second], dim=-1))


@pytest.mark.parametrize(("kind", "n_parts"), [("lstm", 2), ("gru", 1)])
def test_the_initial_state_is_zero_in_every_layer(kind, n_parts):
    state = RecurrentMemory(kind, 3, hidden_size=5, n_layers=2).initial_state(4)
    assert [part.shape for part in state] == [(2, 4, 5)] * n_parts
    assert not any(part.any() for part in state)


def test_an_unknown_kind_is_named():
    with pytest.raises(SettingError, match="memory kind: got 'rnn'; expected one of lstm, gru"):
        RecurrentMemory("rnn", 3)


def test_gates_start_with_time_constants_up_to_the_longest_dependency():
    memory = RecurrentMemory("lstm", 3, hidden_size=400, n_layers=2, longest_dependency=100)
    for layer in memory.layers:
        total = layer.bias_ih_l0 + layer.bias_hh_l0
        time_constants = 1 + torch.exp(total[400:800])  # of sigmoid(b) = 1 - 1 / T
        torch.testing.assert_close(total[:400], -total[400:800])
        assert time_constants.min() >= 2.0 - 1e-4
        assert time_constants.max() <= 100.0 + 1e-3
        assert time_constants.mean().item() == pytest.approx(51.0, abs=5.0)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_long_dependency_keeps_more_of_what_was_first(kind):
    def left_after(n_steps, **settings):
        torch.manual_seed(0)
        memory = RecurrentMemory(kind, 1, hidden_size=64, n_layers=1, **settings)
        cues = torch.zeros(2, n_steps, 1)
        cues[:, 0] = torch.tensor([[-1.0], [1.0]])
        outputs, _ = memory(cues)
        return ((outputs[1, -1] - outputs[0, -1]).norm() / (outputs[1, 0] - outputs[0, 0]).norm()).item()

    assert left_after(50) < 1e-6
    assert left_after(50, longest_dependency=100) > 0.05


def test_a_dependency_of_one_step_is_refused():
    with pytest.raises(SettingError, match="longest_dependency: got 1; expected at least 2 steps, or None"):
        RecurrentMemory("lstm", 3, longest_dependency=1)
