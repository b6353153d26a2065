"""Memories: one step at a time against whole sequences, and resets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.agents import RecurrentMemory, make_memory


@given(
    kind=st.sampled_from(["lstm", "gru"]),
    n_layers=st.integers(1, 3),
    skip=st.booleans(),
    n_steps=st.integers(1, 6),
    seed=st.integers(0, 100),
)
def test_steps_equal_the_whole_sequence(kind, n_layers, skip, n_steps, seed):
    torch.manual_seed(seed)
    memory = RecurrentMemory(
        kind, 3, hidden_size=5, n_layers=n_layers, skip_connections=skip, learned_initial_state=True
    )
    torch.nn.init.normal_(memory.first_state)
    inputs = torch.randn(4, n_steps, 3)
    whole, end = memory(inputs)
    state, outputs = None, []
    for t in range(n_steps):
        output, state = memory(inputs[:, t : t + 1], state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole, atol=1e-5, rtol=0)
    for a, b in zip(state, end, strict=True):
        assert a.shape == (n_layers, 4, 5)
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_skip_connections_put_out_all_layers_and_feed_the_input_to_each():
    memory = RecurrentMemory("lstm", 3, hidden_size=5, n_layers=2, skip_connections=True)
    assert memory.output_size == 10
    assert [layer.input_size for layer in memory.layers] == [3, 8]
    inputs = torch.randn(2, 4, 3)
    first, _ = memory.layers[0](inputs)
    second, _ = memory.layers[1](torch.cat([first, inputs], dim=-1))
    torch.testing.assert_close(memory(inputs)[0], torch.cat([first, second], dim=-1))


def test_reset_touches_the_named_sequences_alone():
    memory = make_memory("gru", 2, hidden_size=3, n_layers=2)
    _, state = memory(torch.randn(3, 5, 2))
    reset = memory.reset_state(state, torch.tensor([False, True, False]))
    assert torch.equal(reset[0][:, [0, 2]], state[0][:, [0, 2]])
    assert torch.equal(reset[0][:, 1], torch.zeros(2, 3))


def test_order_of_the_sequences_changes_nothing_but_order():
    memory = make_memory("lstm", 2, hidden_size=4)
    inputs, order = torch.randn(5, 6, 2), torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(memory(inputs)[0][order], memory(inputs[order])[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tape", 3), "memory: got 'tape'; expected one of lstm, gru"),
        (("lstm", 0), "memory sizes: got input 0"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_memory(*arguments)
