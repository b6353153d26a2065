"""Differentiable neural computer: each equation of the paper element by element, and what the weights promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.agents import dnc
from adaptive_scan.agents.dnc import DncMemory
from adaptive_scan.errors import SettingError

N_SEQUENCES, N_SLOTS, SLOT_SIZE, N_HEADS = 2, 5, 3, 2
seeds = st.integers(0, 10_000)


def weights(rng, *shape):
    """Non-negative weights over the last axis that sum to at most 1; now and then to 1 on one slot."""
    drawn = rng.dirichlet(np.full(shape[-1], 0.3), shape[:-1]) * rng.uniform(0, 1, (*shape[:-1], 1))
    certain = np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])]
    return np.where(rng.random((*shape[:-1], 1)) < 0.2, certain, drawn)


def usages(rng, *shape):
    """Usages with equal, empty and full slots among them."""
    drawn = rng.uniform(0, 1, shape)
    return np.where(rng.random(shape) < 0.4, rng.integers(0, 3, shape) / 2, drawn)


def call(function, *arrays):
    return function(*(torch.from_numpy(np.asarray(array, np.float32)) for array in arrays)).numpy()


# The equations, one element at a time


def slow_content(slots, key, strength):
    def norm(vector):
        return np.sqrt(sum(x * x for x in vector) + 1e-6)

    cosines = [sum(k * x for k, x in zip(key, slot, strict=True)) / norm(key) / norm(slot) for slot in slots]
    powers = [np.exp(strength * cosine) for cosine in cosines]
    return np.array([power / sum(powers) for power in powers])


def slow_usage(usage, write, free, reads):
    new = np.zeros(len(usage))
    for i in range(len(usage)):
        kept = 1.0
        for r in range(len(free)):
            kept *= 1 - free[r] * reads[r][i]
        new[i] = (usage[i] + write[i] - usage[i] * write[i]) * kept
    return new


def slow_allocation(usage):
    new, product = np.zeros(len(usage)), 1.0
    for i in sorted(range(len(usage)), key=lambda slot: usage[slot]):
        new[i] = (1 - usage[i]) * product
        product *= usage[i]
    return new


def slow_write(slots, write, erase, values):
    new = np.zeros_like(slots)
    for i in range(slots.shape[0]):
        for k in range(slots.shape[1]):
            new[i, k] = slots[i, k] * (1 - write[i] * erase[k]) + write[i] * values[k]
    return new


def slow_links(links, precedence, write):
    new = np.zeros_like(links)
    for i in range(len(write)):
        for j in range(len(write)):
            if i != j:
                new[i, j] = (1 - write[i] - write[j]) * links[i, j] + write[i] * precedence[j]
    return new


def slow_precedence(precedence, write):
    return np.array([(1 - sum(write)) * p + w for p, w in zip(precedence, write, strict=True)])


def slow_read_weights(content, links, last, modes):
    n = len(content)
    backward = [sum(links[j, i] * last[j] for j in range(n)) for i in range(n)]
    forward = [sum(links[i, j] * last[j] for j in range(n)) for i in range(n)]
    return np.array([modes[0] * backward[i] + modes[1] * content[i] + modes[2] * forward[i] for i in range(n)])


@given(seed=seeds)
def test_content_weights_are_a_softmax_of_cosines(seed):
    rng = np.random.default_rng(seed)
    slots = rng.normal(size=(N_SEQUENCES, N_SLOTS, SLOT_SIZE)) * (rng.random((N_SEQUENCES, N_SLOTS, 1)) < 0.7)
    keys, strengths = rng.normal(size=(N_SEQUENCES, N_HEADS, SLOT_SIZE)), rng.uniform(1, 20, (N_SEQUENCES, N_HEADS))
    found = call(dnc.content_weights, slots, call(dnc.inverse_norms, slots), keys, strengths)
    for n in range(N_SEQUENCES):
        for r in range(N_HEADS):
            np.testing.assert_allclose(found[n, r], slow_content(slots[n], keys[n, r], strengths[n, r]), atol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


def test_content_weights_and_their_gradients_are_finite_where_nothing_is_stored():
    slots, keys = torch.zeros(1, 3, 2, requires_grad=True), torch.zeros(1, 1, 2, requires_grad=True)
    found = dnc.content_weights(slots, dnc.inverse_norms(slots), keys, torch.tensor([[50.0]]))
    torch.testing.assert_close(found, torch.full((1, 1, 3), 1 / 3))
    found[..., 0].sum().backward()
    assert slots.grad.isfinite().all()
    assert keys.grad.isfinite().all()


@given(seed=seeds)
def test_usage_grows_where_it_is_written_and_falls_where_it_is_freed(seed):
    rng = np.random.default_rng(seed)
    usage, write = usages(rng, N_SEQUENCES, N_SLOTS), weights(rng, N_SEQUENCES, N_SLOTS)
    free, reads = rng.uniform(0, 1, (N_SEQUENCES, N_HEADS)), weights(rng, N_SEQUENCES, N_HEADS, N_SLOTS)
    found = call(dnc.next_usage, usage, write, call(dnc.retention, free, reads))
    for n in range(N_SEQUENCES):
        np.testing.assert_allclose(found[n], slow_usage(usage[n], write[n], free[n], reads[n]), atol=1e-6)
    assert (found >= 0).all()
    assert (found <= 1 + 1e-6).all()


@given(seed=seeds)
def test_allocation_goes_down_the_free_list(seed):
    usage = usages(np.random.default_rng(seed), N_SEQUENCES, N_SLOTS)
    found = call(dnc.allocation_weights, usage)
    for n in range(N_SEQUENCES):
        np.testing.assert_allclose(found[n], slow_allocation(usage[n]), atol=1e-5)
        least = usage[n].argmin()
        np.testing.assert_allclose(found[n, least], 1 - usage[n, least], atol=1e-5)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(-1), 1 - usage.prod(-1), atol=1e-5)


def test_a_full_memory_is_not_written_to_by_allocation():
    assert not dnc.allocation_weights(torch.ones(1, N_SLOTS)).any()


def test_rounding_errors_do_not_choose_the_slot():
    usage = torch.full((1, N_SLOTS), 0.5)
    usage[0, -1] -= 1e-7
    assert dnc.allocation_weights(usage).argmax() == 0


def test_the_gradient_of_allocation_takes_the_order_as_given():
    usage = torch.tensor([[0.7, 0.2, 0.9, 0.5]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(dnc.allocation_weights, (usage,), atol=1e-4)


def test_allocation_has_a_gradient_where_a_slot_is_free():
    # The slot second on the list has (1 - u_2) u_1, whose derivative by u_1 = 0 is 1 - u_2.
    usage = torch.tensor([[0.0, 0.25, 0.5]], requires_grad=True)
    (gradient,) = torch.autograd.grad(dnc.allocation_weights(usage)[0, 1], usage)
    torch.testing.assert_close(gradient[0, 0], torch.tensor(0.75))


@given(seed=seeds)
def test_a_write_erases_and_adds(seed):
    rng = np.random.default_rng(seed)
    slots, write = rng.normal(size=(N_SEQUENCES, N_SLOTS, SLOT_SIZE)), weights(rng, N_SEQUENCES, N_SLOTS)
    erase, values = rng.uniform(0, 1, (N_SEQUENCES, SLOT_SIZE)), rng.normal(size=(N_SEQUENCES, SLOT_SIZE))
    found = call(dnc.written_slots, slots, write, erase, values)
    for n in range(N_SEQUENCES):
        np.testing.assert_allclose(found[n], slow_write(slots[n], write[n], erase[n], values[n]), atol=1e-5)


@given(seed=seeds)
def test_write_weights_are_gated_between_content_and_allocation(seed):
    rng = np.random.default_rng(seed)
    content, allocation = weights(rng, N_SEQUENCES, N_SLOTS), weights(rng, N_SEQUENCES, N_SLOTS)
    gate, share = rng.uniform(0, 1, (N_SEQUENCES, 1)), rng.uniform(0, 1, (N_SEQUENCES, 1))
    found = call(dnc.next_write_weights, content, allocation, gate, share)
    np.testing.assert_allclose(found, gate * (share * allocation + (1 - share) * content), atol=1e-6)


@given(seed=seeds, n_steps=st.integers(1, 12))
def test_links_and_precedence_follow_the_order_of_writing(seed, n_steps):
    rng = np.random.default_rng(seed)
    links, precedence = np.zeros((1, N_SLOTS, N_SLOTS)), np.zeros((1, N_SLOTS))
    for _ in range(n_steps):
        write = weights(rng, 1, N_SLOTS)
        found = call(dnc.next_links, links, precedence, write), call(dnc.next_precedence, precedence, write)
        np.testing.assert_allclose(found[0][0], slow_links(links[0], precedence[0], write[0]), atol=1e-6)
        np.testing.assert_allclose(found[1][0], slow_precedence(precedence[0], write[0]), atol=1e-6)
        links, precedence = found
    assert not links[0].diagonal().any()
    assert links.min() >= -1e-6
    assert max(links.sum(-1).max(), links.sum(-2).max(), precedence.sum(-1).max()) <= 1 + 1e-5


@given(seed=seeds)
def test_reads_go_back_by_content_or_forward(seed):
    rng = np.random.default_rng(seed)
    content, last = (weights(rng, N_SEQUENCES, N_HEADS, N_SLOTS) for _ in range(2))
    links, modes = weights(rng, N_SEQUENCES, N_SLOTS, N_SLOTS), rng.dirichlet(np.ones(3), (N_SEQUENCES, N_HEADS))
    found = call(dnc.next_read_weights, content, links, last, modes)
    for n in range(N_SEQUENCES):
        for r in range(N_HEADS):
            slow = slow_read_weights(content[n, r], links[n], last[n, r], modes[n, r])
            np.testing.assert_allclose(found[n, r], slow, atol=1e-6)


def test_what_was_written_in_order_is_read_in_order():
    links, precedence = torch.zeros(1, 4, 4), torch.zeros(1, 4)
    for slot in (2, 0, 3):
        write = torch.eye(4)[[slot]]
        links, precedence = dnc.next_links(links, precedence, write), dnc.next_precedence(precedence, write)
    reading = torch.eye(4)[None, [2]]
    for expected, mode in ((0, 2), (3, 2), (0, 0), (2, 0)):
        modes = torch.eye(3)[mode].expand(1, 1, 3)
        reading = dnc.next_read_weights(torch.zeros(1, 1, 4), links, reading, modes)
        assert torch.equal(reading, torch.eye(4)[None, [expected]])


def test_a_freed_slot_is_the_next_to_be_written():
    usage = torch.tensor([[0.9, 0.95, 1.0, 0.8]])
    reads = torch.eye(4)[[1]][None]
    for free, expected in ((0.0, 3), (1.0, 1)):
        after = dnc.next_usage(usage, torch.zeros(1, 4), dnc.retention(torch.tensor([[free]]), reads))
        assert dnc.allocation_weights(after).argmax() == expected
    torch.testing.assert_close(dnc.allocation_weights(after), torch.tensor([[0.0, 1.0, 0.0, 0.0]]))


# The whole memory


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slow_memory(memory, inputs):
    """One sequence (n_steps, input_size) through the paper's equations, with the controller's own LSTM cells."""
    n_slots, size, n_reads = memory.n_slots, memory.slot_size, memory.n_read_heads
    slots, usage, write, precedence = np.zeros((n_slots, size)), *(np.zeros(n_slots) for _ in range(3))
    links, reads, vectors = np.zeros((n_slots, n_slots)), np.zeros((n_reads, n_slots)), np.zeros((n_reads, size))
    layers, outputs = [None] * memory.n_layers, []
    for step_inputs in inputs:
        seen = np.concatenate([step_inputs, *vectors])
        below = seen
        for i, cell in enumerate(memory.layers):
            layers[i] = cell(torch.tensor(below, dtype=torch.float32)[None], layers[i])
            hidden = layers[i][0][0].numpy()
            below = np.concatenate([seen, hidden]) if memory.skip_connections else hidden
        hiddens = [h[0].numpy() for h, _ in layers]
        controlled = np.concatenate(hiddens) if memory.skip_connections else hiddens[-1]
        asked = list(memory.interface.weight.numpy() @ controlled + memory.interface.bias.numpy())

        def take(n, asked=asked):
            return np.array([asked.pop(0) for _ in range(n)])

        keys = [take(size) for _ in range(n_reads + 1)]
        strengths, values = 1 + np.log1p(np.exp(take(n_reads + 1))), take(size)
        erase, free, share, gate = (sigmoid(take(n)) for n in (size, n_reads, 1, 1))
        modes = [np.exp(take(3)) for _ in range(n_reads)]
        assert not asked
        usage = slow_usage(usage, write, free, reads)
        write = gate * (share * slow_allocation(usage) + (1 - share) * slow_content(slots, keys[-1], strengths[-1]))
        slots = slow_write(slots, write, erase, values)
        links, precedence = slow_links(links, precedence, write), slow_precedence(precedence, write)
        reads = np.array(
            [
                slow_read_weights(slow_content(slots, keys[r], strengths[r]), links, reads[r], modes[r] / sum(modes[r]))
                for r in range(n_reads)
            ]
        )
        vectors = reads @ slots
        outputs.append(np.concatenate([controlled, *vectors]))
    return np.array(outputs), (slots, usage, write, precedence, links, reads)


@pytest.mark.parametrize("skip_connections", [False, True])
def test_the_memory_follows_the_paper_step_by_step(skip_connections):
    torch.manual_seed(0)
    sizes = {"hidden_size": 6, "n_layers": 2, "n_read_heads": 2, "n_slots": 4, "slot_size": 3}
    memory = DncMemory(5, **sizes, skip_connections=skip_connections)
    for parameter in memory.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    inputs = torch.randn(3, 7, 5)
    with torch.no_grad():
        outputs, state = memory(inputs)
        for n in range(3):
            expected, contents = slow_memory(memory, inputs[n].numpy())
            np.testing.assert_allclose(outputs[n].numpy(), expected, atol=1e-4)
            for part, slow in zip(state[2:], contents, strict=True):
                np.testing.assert_allclose(part[0, n].numpy(), slow.ravel(), atol=1e-4)


def test_defaults_are_the_adaptive_scan_paper_s():
    memory = DncMemory(22)
    assert (memory.n_layers, memory.hidden_size, memory.n_slots, memory.slot_size) == (2, 128, 16, 64)
    assert memory.n_read_heads == 4
    assert memory.output_size == 2 * 128 + 4 * 64
    sizes = [128, 128, 16 * 64, 16, 16, 16, 16 * 16, 4 * 16]
    assert [part.shape[-1] for part in memory.initial_state(1)] == sizes


@given(seed=seeds, scale=st.floats(0.1, 30))
def test_weights_and_gradients_stay_in_bounds_whatever_the_controller_asks(seed, scale):
    torch.manual_seed(seed)
    memory = DncMemory(3, hidden_size=8, n_layers=1, n_read_heads=2, n_slots=4, slot_size=3)
    torch.nn.init.normal_(memory.interface.weight, std=scale)
    outputs, (*_, usage, write, precedence, links, reads) = memory(torch.randn(4, 15, 3))
    for part in (usage, write, precedence, links, reads):
        assert part.min() >= -1e-5
        assert part.max() <= 1 + 1e-5
    assert max(write.sum(-1).max(), reads.unflatten(-1, (2, 4)).sum(-1).max()) <= 1 + 1e-5
    (outputs**2).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in memory.parameters())


@pytest.mark.parametrize("size", ["hidden_size", "n_layers", "n_read_heads", "n_slots", "slot_size"])
def test_a_size_below_one_is_named(size):
    name = size.removeprefix("n_").removesuffix("_size").replace("_", " ")
    with pytest.raises(SettingError, match=rf"memory sizes: got .*{name} 0.*; expected at least 1"):
        DncMemory(3, **{size: 0})
