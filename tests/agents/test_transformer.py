"""Causal transformer: attention pair by pair in NumPy, its window, its positions and its gates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from adaptive_scan.agents.transformer import TransformerMemory, rotate, rotations
from adaptive_scan.errors import SettingError

TURNS = rotations(1001, 8, torch.zeros(()))


def make(seed=0, std=0.4, **settings):
    torch.manual_seed(seed)
    memory = TransformerMemory(3, **{"hidden_size": 8, "n_heads": 2, "context": 3} | settings)
    for parameter in memory.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return memory


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear(layer, x):
    return layer.weight.numpy() @ x + layer.bias.numpy()


def normalised(norm, x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * norm.weight.numpy() + norm.bias.numpy()


def slow_gate(gate, x, y):
    """GTrXL's gate in PyTorch's order: r, z, h from y, then from x."""
    if gate.cell is None:
        return x + y
    y = np.maximum(y, 0)
    from_y = np.split(gate.cell.weight_ih.numpy() @ y + gate.cell.bias_ih.numpy(), 3)
    from_x = np.split(gate.cell.weight_hh.numpy() @ x + gate.cell.bias_hh.numpy(), 3)
    r, z = sigmoid(from_y[0] + from_x[0]), sigmoid(from_y[1] + from_x[1])
    return (1 - z) * np.tanh(from_y[2] + r * from_x[2]) + z * x


def turned(vector, position):
    """Pairs of the first half and the second, each turned by its own angle."""
    half = len(vector) // 2
    new = vector.copy()
    for i in range(half):
        angle = position * 10_000.0 ** (-2 * i / len(vector))
        new[i] = vector[i] * np.cos(angle) - vector[half + i] * np.sin(angle)
        new[half + i] = vector[i] * np.sin(angle) + vector[half + i] * np.cos(angle)
    return new


def slow_attention(layer, stream, t, context, first):
    """What step t takes from itself and the ``context`` entries before it, head by head and pair by pair."""
    size, head = layer.size, layer.size // layer.n_heads
    entries = [linear(layer.queries_keys_values, normalised(layer.attention_norm, x)) for x in stream]
    query, found = entries[t][:size], np.zeros(size)
    # The learned entry stands at position -1.
    known = {-1: first} if first is not None else {}
    known |= {s: entries[s][size:] for s in range(t + 1)}
    seen = {s: entry for s, entry in known.items() if t - s <= context}
    for h in range(layer.n_heads):
        part = slice(h * head, (h + 1) * head)
        scores = {s: turned(query[part], t) @ turned(e[:size][part], s) / np.sqrt(head) for s, e in seen.items()}
        total = sum(np.exp(score) for score in scores.values())
        found[part] = sum(np.exp(scores[s]) / total * e[size:][part] for s, e in seen.items())
    return linear(layer.attention_output, found)


def slow_memory(memory, inputs):
    """One sequence (n_steps, input_size)."""
    stream, outputs = [linear(memory.embedding, x) for x in inputs], [list(inputs)]
    for i, layer in enumerate(memory.layers):
        first = memory.first_state[i, 0, 0].numpy() if memory.n_first else None
        attended = [slow_attention(layer, stream, t, memory.context, first) for t in range(len(stream))]
        stream = [slow_gate(layer.attention_gate, x, y) for x, y in zip(stream, attended, strict=True)]
        norm, up, _, down = layer.feedforward
        for t, x in enumerate(stream):
            hidden = F.gelu(torch.from_numpy(linear(up, normalised(norm, x)))).numpy()
            stream[t] = slow_gate(layer.feedforward_gate, x, linear(down, hidden))
        if memory.skip_connections or i == memory.n_layers - 1:
            norm = memory.output_norms[i if memory.skip_connections else 0]
            outputs.append([normalised(norm, x) for x in stream])
    return np.concatenate(outputs, axis=-1) if memory.skip_connections else np.array(outputs[-1])


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("skip_connections", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_the_memory_equals_attention_pair_by_pair(gated, skip_connections, learned):
    memory = make(gated=gated, skip_connections=skip_connections, learned_initial_state=learned)
    memory.requires_grad_(False)
    inputs = torch.randn(2, 7, 3)
    outputs, _ = memory(inputs)
    assert memory.output_size == (3 + 2 * 8 if skip_connections else 8)
    for n in range(2):
        np.testing.assert_allclose(outputs[n].numpy(), slow_memory(memory, inputs[n].numpy()), atol=1e-4)


@given(m=st.integers(0, 500), n=st.integers(0, 500), shift=st.integers(0, 500), seed=st.integers(0, 100))
def test_rotated_products_depend_on_the_distance_alone(m, n, shift, seed):
    query, key = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed))
    cosines, sines = TURNS
    at = [
        rotate(query, cosines[i], sines[i]) @ rotate(key, cosines[j], sines[j])
        for i, j in ((m, n), (m + shift, n + shift))
    ]
    torch.testing.assert_close(at[0], at[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(rotate(query, cosines[m], sines[m]).norm(), query.norm())


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_a_step_reaches_as_far_back_as_the_layers_times_the_context(n_layers):
    memory = make(n_layers=n_layers, context=2, skip_connections=False)
    inputs = torch.randn(1, 12, 3, requires_grad=True)
    memory(inputs)[0][0, -1].sum().backward()
    reached = inputs.grad[0].any(dim=-1)
    assert reached.tolist() == [t >= 11 - 2 * n_layers for t in range(12)]


def test_outputs_do_not_depend_on_how_long_a_sequence_has_been_going_on():
    memory = make(n_layers=2, context=2)
    seen = torch.randn(1, 10, 3)
    with torch.no_grad():
        _, young = memory(seen)
        _, old = memory(torch.cat([torch.randn(1, 1000, 3), seen], dim=1))
    # The count of filled entries stops at the size of the cache, so that it never grows past single precision.
    assert young[1].item() == old[1].item() == 2
    following = torch.randn(1, 4, 3)
    torch.testing.assert_close(memory(following, young)[0], memory(following, old)[0], atol=1e-5, rtol=0)


def test_the_state_is_a_cache_of_the_newest_entries_and_their_number():
    memory = make(context=3, n_layers=2)
    cache, n_filled = memory.initial_state(4)
    assert cache.shape == (2, 4, 3 * 2 * 8)
    assert n_filled.shape == (1, 4, 1)
    assert not cache.any()
    assert not n_filled.any()
    cache, n_filled = memory(torch.randn(4, 2, 3))[1]
    assert (n_filled == 2).all()
    assert not cache[..., : 2 * 8].any()
    assert cache[..., 2 * 8 :].all()


def test_an_empty_cache_is_not_attended_to():
    memory = make(context=3)
    cache, n_filled = memory.initial_state(2)
    inputs = torch.randn(2, 2, 3)
    torch.testing.assert_close(memory(inputs, (torch.randn_like(cache), n_filled))[0], memory(inputs)[0])


def test_gates_keep_the_stream_at_first():
    torch.manual_seed(0)
    for layer in TransformerMemory(3).layers:
        for gate in (layer.attention_gate, layer.feedforward_gate):
            for weight in (gate.cell.weight_ih, gate.cell.weight_hh):
                torch.nn.init.zeros_(weight)
            kept = gate(torch.ones(1, 1, 64), torch.zeros(1, 1, 64)) - gate(*torch.zeros(2, 1, 1, 64))
            # sigmoid(2), give or take the two biases' own initial values of up to 1/8.
            assert kept.min() > torch.tensor(2 - 0.25).sigmoid()
            assert kept.max() < torch.tensor(2 + 0.25).sigmoid()


def test_training_and_evaluation_agree_for_want_of_dropout():
    memory, inputs = make(), torch.randn(2, 5, 3)
    assert torch.equal(memory.train()(inputs)[0], memory.eval()(inputs)[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 12}, "hidden_size: got 12; expected a multiple of 8, twice n_heads"),
        ({"n_heads": 0}, "memory sizes: got .*heads 0.*; expected at least 1"),
        ({"context": 0}, "memory sizes: got .*context 0; expected at least 1"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(SettingError, match=message):
        TransformerMemory(3, **settings)
