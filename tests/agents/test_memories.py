"""What holds for every memory: steps, splits and whole sequences agree, and resets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.agents import MEMORIES, make_memory
from adaptive_scan.errors import SettingError

SIZES = {
    "lstm": {"hidden_size": 5},
    "gru": {"hidden_size": 5},
    "dnc": {"hidden_size": 5, "n_read_heads": 2, "n_slots": 4, "slot_size": 3},
    "transformer": {"hidden_size": 8, "n_heads": 2},
}


@st.composite
def memories(draw, name=None):
    name = name or draw(st.sampled_from(sorted(MEMORIES)))
    settings = SIZES[name] | {
        "n_layers": draw(st.integers(1, 3)),
        "skip_connections": draw(st.booleans()),
        "learned_initial_state": draw(st.booleans()),
    }
    if name == "transformer":
        settings |= {"context": draw(st.integers(1, 9)), "gated": draw(st.booleans())}
    torch.manual_seed(draw(st.integers(0, 100)))
    memory = make_memory(name, 3, **settings)
    # Weights large enough for the memory to matter, and a learned state that is not zero.
    for parameter in memory.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return memory


def run(memory, pieces, state=None):
    outputs = []
    for piece in pieces:
        output, state = memory(piece, state)
        outputs.append(output)
    return torch.cat(outputs, dim=1), state


def assert_close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(MEMORIES))
@given(data=st.data(), n_steps=st.integers(1, 12), split=st.integers(1, 11))
def test_steps_and_pieces_equal_the_whole_sequence(name, data, n_steps, split):
    memory = data.draw(memories(name))
    inputs = torch.randn(4, n_steps, 3)
    with torch.inference_mode():
        whole, end = memory(inputs)
        assert whole.shape == (4, n_steps, memory.output_size)
        for pieces in (inputs.split(1, dim=1), inputs.split(split, dim=1)):
            for start in (None, memory.initial_state(4)):
                outputs, state = run(memory, pieces, start)
                assert_close(outputs, whole)
                for a, b in zip(state, end, strict=True):
                    assert_close(a, b)


@given(memory=memories(), n_steps=st.integers(1, 6))
def test_a_state_has_one_shape_in_single_precision(memory, n_steps):
    states = memory.initial_state(4), memory(torch.randn(4, n_steps, 3))[1]
    for first, later in zip(*states, strict=True):
        assert first.shape == later.shape
        assert first.shape[1] == 4
        assert first.ndim == 3
        assert first.dtype == later.dtype == torch.float32


@given(memory=memories())
def test_a_reset_sequence_begins_anew_and_the_others_go_on(memory):
    before, after = torch.randn(3, 5, 3), torch.randn(3, 4, 3)
    starts = torch.tensor([False, True, False])
    _, state = memory(before)
    outputs, _ = memory(after, memory.reset_state(state, starts))
    assert_close(outputs[1:2], memory(after[1:2])[0])
    assert_close(outputs[[0, 2]], memory(after, state)[0][[0, 2]])


@given(memory=memories())
def test_sequences_know_nothing_of_each_other(memory):
    inputs, order = torch.randn(5, 6, 3), torch.tensor([3, 1, 4, 0, 2])
    assert_close(memory(inputs)[0][order], memory(inputs[order])[0])
    assert_close(memory(inputs)[0][:1], memory(inputs[:1])[0])


@given(memory=memories(), later=st.integers(1, 5))
def test_no_output_sees_a_later_input(memory, later):
    inputs = torch.randn(2, 6, 3)
    changed = inputs.clone()
    changed[:, later:] += 1
    a, b = memory(inputs)[0], memory(changed)[0]
    assert_close(a[:, :later], b[:, :later])
    assert not torch.allclose(a[:, later:], b[:, later:])


@pytest.mark.parametrize("name", sorted(MEMORIES))
def test_mixed_precision_keeps_the_state_in_single_precision(name):
    torch.manual_seed(0)
    memory, inputs = make_memory(name, 3, **SIZES[name]), torch.randn(2, 4, 3)
    exact, _ = memory(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, state = run(memory, inputs.split(2, dim=1))
    assert all(part.dtype == torch.float32 for part in state)
    torch.testing.assert_close(outputs.float(), exact, atol=0.05, rtol=0)


@pytest.mark.parametrize("name", sorted(MEMORIES))
def test_every_parameter_is_learned_from_the_outputs(name):
    torch.manual_seed(0)
    for skip_connections in (False, True):
        memory = make_memory(name, 3, **SIZES[name], skip_connections=skip_connections, learned_initial_state=True)
        (memory(torch.randn(2, 4, 3))[0] ** 2).sum().backward()
        gradients = {key: parameter.grad for key, parameter in memory.named_parameters()}
        assert all(gradient is not None and gradient.any() for gradient in gradients.values()), gradients


@pytest.mark.parametrize("name", sorted(MEMORIES))
def test_only_a_learned_initial_state_is_a_parameter(name):
    for learned in (False, True):
        memory = make_memory(name, 3, **SIZES[name], learned_initial_state=learned)
        assert ("first_state" in dict(memory.named_parameters())) is learned
        assert ("first_state" in memory.state_dict()) is learned


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tape", 3), "memory: got 'tape'; expected one of lstm, gru, dnc, transformer"),
        (("lstm", 0), "memory sizes: got input 0, hidden 256, layers 2; expected at least 1"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(SettingError, match=message):
        make_memory(*arguments)
