"""Differentiable neural computer as a memory (Graves et al. 2016, doi:10.1038/nature20101).

A controller of LSTM layers writes to and reads from slots of a memory. What it writes goes to free slots or to those
like a key; what it reads it finds by a key, or by the order in which it was written. The equations are those of the
paper's Methods, with its symbols. Sequences and heads go through every operation together; only time is a loop.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_scan.agents.memory import Memory, MemoryState, check_sizes

SQUARED_NORM_FLOOR = 1e-6  # added to squared norms: the gradient of a cosine is unbounded where a vector vanishes
USAGE_FLOOR = 1e-6  # added to usages, so that free slots have logarithms
USAGE_STEP = 1e-5  # usages that differ by less are equal, or rounding errors would choose the slot to write to


def inverse_norms(vectors: Tensor) -> Tensor:
    """One over the norms of vectors, 1 / sqrt(|v|^2 + 1e-6).

    Args:
        vectors: Shape (..., size).

    Returns:
        Shape (...); a zero vector has 1000.

    Example:
        >>> inverse_norms(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([2.0000e-01, 1.0000e+03])
    """
    return ((vectors * vectors).sum(-1) + SQUARED_NORM_FLOOR).rsqrt()


def content_weights(slots: Tensor, slot_scales: Tensor, keys: Tensor, strengths: Tensor) -> Tensor:
    """Weights by content, C(M, k, beta)[i] = exp(beta cos(k, M[i])) / sum_j exp(beta cos(k, M[j])).

    Args:
        slots: M, shape (n_sequences, n_slots, slot_size).
        slot_scales: :func:`inverse_norms` of the slots, which the read heads and the next write share.
        keys: k, shape (n_sequences, n_heads, slot_size).
        strengths: Key strengths beta, shape (n_sequences, n_heads).

    Returns:
        Shape (n_sequences, n_heads, n_slots); the weights of a head sum to 1.

    Example:
        >>> slots, keys = torch.eye(2)[None], torch.tensor([[[5.0, 0.0]]])
        >>> content_weights(slots, inverse_norms(slots), keys, torch.tensor([[1.0]])).round(decimals=4)
        tensor([[[0.7311, 0.2689]]])
    """
    scales = (strengths * inverse_norms(keys))[..., None] * slot_scales[:, None]
    return torch.softmax(torch.bmm(keys, slots.mT) * scales, dim=-1)


def retention(free_gates: Tensor, read_weights: Tensor) -> Tensor:
    """Share of each slot that the free gates leave in use, psi_t[i] = prod_r (1 - f_t^r w_{t-1}^{r,r}[i]).

    Args:
        free_gates: f_t, shape (n_sequences, n_read_heads).
        read_weights: The last step's w_{t-1}^r, shape (n_sequences, n_read_heads, n_slots).

    Returns:
        Shape (n_sequences, n_slots), in [0, 1].

    Example:
        >>> retention(torch.tensor([[1.0, 0.0]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
        tensor([[0., 1.]])
    """
    return (1 - free_gates[..., None] * read_weights).prod(dim=1)


def next_usage(usage: Tensor, write_weights: Tensor, retained: Tensor) -> Tensor:
    """Usage of the slots, u_t = (u_{t-1} + w_{t-1}^w - u_{t-1} w_{t-1}^w) psi_t.

    Args:
        usage: u_{t-1}, shape (n_sequences, n_slots).
        write_weights: The last step's w_{t-1}^w, the same shape.
        retained: psi_t of :func:`retention`, the same shape.

    Returns:
        u_t, the same shape, in [0, 1].

    Example:
        >>> next_usage(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]))
        tensor([[0.7500, 0.0000]])
    """
    return torch.addcmul(usage, write_weights, 1 - usage) * retained


def allocation_weights(usage: Tensor) -> Tensor:
    """Weights for writing to free slots, a_t[phi[j]] = (1 - u_t[phi[j]]) prod_{i<j} u_t[phi[i]].

    phi lists the slots from the least to the most used; equally used ones keep their order. As in the paper, the
    gradient takes the order as given. The products are sums of logarithms over the slots that stand earlier on the
    list, so that nothing has to be sorted, and a free slot leaves the gradient of the others finite.

    Args:
        usage: u_t in [0, 1], shape (n_sequences, n_slots).

    Returns:
        The same shape; the weights sum to 1 - prod_i u_t[i].

    Example:
        >>> allocation_weights(torch.tensor([[0.5, 0.25, 1.0]])).round(decimals=4)
        tensor([[0.1250, 0.7500, 0.0000]])
    """
    n_slots = usage.shape[-1]
    with torch.no_grad():
        # Whole numbers, no two of which are equal: usage first, then the slot's own number.
        place = (usage / USAGE_STEP).round().long() * n_slots + torch.arange(n_slots, device=usage.device)
        is_earlier = (place[:, None, :] < place[:, :, None]).to(usage.dtype)
    logarithms = (usage + USAGE_FLOOR).log()
    return (1 - usage) * torch.bmm(is_earlier, logarithms[..., None]).squeeze(-1).exp()


def next_write_weights(content: Tensor, allocation: Tensor, write_gate: Tensor, allocation_gate: Tensor) -> Tensor:
    """Where to write, w_t^w = g_t^w (g_t^a a_t + (1 - g_t^a) c_t^w).

    Args:
        content: c_t^w, shape (n_sequences, n_slots).
        allocation: a_t, the same shape.
        write_gate: g_t^w, shape (n_sequences, 1).
        allocation_gate: g_t^a, shape (n_sequences, 1).

    Returns:
        Shape (n_sequences, n_slots); the weights sum to at most 1.

    Example:
        >>> free, alike, half = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5]])
        >>> next_write_weights(alike, free, half, half)
        tensor([[0.3750, 0.1250]])
    """
    return write_gate * torch.lerp(content, allocation, allocation_gate)


def written_slots(slots: Tensor, write_weights: Tensor, erase: Tensor, values: Tensor) -> Tensor:
    """The slots after a write, M_t = M_{t-1} (1 - w_t^w e_t^T) + w_t^w v_t^T.

    Args:
        slots: M_{t-1}, shape (n_sequences, n_slots, slot_size).
        write_weights: w_t^w, shape (n_sequences, n_slots).
        erase: e_t in [0, 1], shape (n_sequences, slot_size).
        values: v_t, shape (n_sequences, slot_size).

    Returns:
        M_t, the shape of ``slots``.

    Example:
        >>> written_slots(torch.ones(1, 2, 1), torch.tensor([[1.0, 0.0]]), torch.ones(1, 1), torch.full((1, 1), 3.0))
        tensor([[[3.],
                 [1.]]])
    """
    return torch.addcmul(slots, write_weights[..., None], values[:, None] - slots * erase[:, None])


def next_links(links: Tensor, precedence: Tensor, write_weights: Tensor) -> Tensor:
    """Which slot was written after which, L_t[i, j] = (1 - w_t^w[i] - w_t^w[j]) L_{t-1}[i, j] + w_t^w[i] p_{t-1}[j].

    Args:
        links: L_{t-1}, shape (n_sequences, n_slots, n_slots).
        precedence: p_{t-1} of :func:`next_precedence`, shape (n_sequences, n_slots).
        write_weights: w_t^w, shape (n_sequences, n_slots).

    Returns:
        L_t, the shape of ``links``, zero on the diagonal; rows and columns sum to at most 1.

    Example:
        >>> next_links(torch.zeros(1, 2, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([[[0., 0.],
                 [1., 0.]]])
    """
    rows, columns = write_weights[:, :, None], write_weights[:, None, :]
    others = 1 - torch.eye(links.shape[-1], dtype=links.dtype, device=links.device)
    return torch.addcmul((1 - rows - columns) * links, rows, precedence[:, None, :]) * others


def next_precedence(precedence: Tensor, write_weights: Tensor) -> Tensor:
    """How much each slot was the last one written, p_t = (1 - sum_i w_t^w[i]) p_{t-1} + w_t^w.

    Args:
        precedence: p_{t-1}, shape (n_sequences, n_slots).
        write_weights: w_t^w, the same shape.

    Returns:
        p_t, the same shape; it sums to at most 1.

    Example:
        >>> next_precedence(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.75]]))
        tensor([[0.2500, 0.7500]])
    """
    return torch.addcmul(write_weights, 1 - write_weights.sum(-1, keepdim=True), precedence)


def next_read_weights(content: Tensor, links: Tensor, read_weights: Tensor, modes: Tensor) -> Tensor:
    """Where to read, w_t^r = pi_t[1] b_t + pi_t[2] c_t^r + pi_t[3] f_t, b_t = L_t^T w_{t-1}^r, f_t = L_t w_{t-1}^r.

    Args:
        content: c_t^r, shape (n_sequences, n_read_heads, n_slots).
        links: L_t, shape (n_sequences, n_slots, n_slots).
        read_weights: The last step's w_{t-1}^r, the shape of ``content``.
        modes: pi_t, shape (n_sequences, n_read_heads, 3): backward, content, forward, which sum to 1.

    Returns:
        w_t^r, the shape of ``content``; the weights of a head sum to at most 1.

    Example:
        >>> links, last = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> next_read_weights(torch.zeros(1, 1, 2), links, last, torch.tensor([[[0.0, 0.0, 1.0]]]))
        tensor([[[0., 1.]]])
    """
    backward, by_content, forward = torch.split(modes, 1, dim=-1)
    weights = torch.addcmul(by_content * content, backward, torch.bmm(read_weights, links))
    return torch.addcmul(weights, forward, torch.bmm(read_weights, links.mT))


class _Interface(NamedTuple):
    """What the controller asks of the memory at a step; the write head's key and strength stand behind the others'."""

    keys: Tensor  # (n_sequences, n_read_heads + 1, slot_size)
    strengths: Tensor  # (n_sequences, n_read_heads + 1)
    values: Tensor  # (n_sequences, slot_size)
    erase: Tensor  # (n_sequences, slot_size)
    free_gates: Tensor  # (n_sequences, n_read_heads)
    allocation_gate: Tensor  # (n_sequences, 1)
    write_gate: Tensor  # (n_sequences, 1)
    modes: Tensor  # (n_sequences, n_read_heads, 3)


class _Contents(NamedTuple):
    """The memory between two steps, in the paper's symbols M, u, w^w, p, L, w^r."""

    slots: Tensor  # (n_sequences, n_slots, slot_size)
    usage: Tensor  # (n_sequences, n_slots)
    write_weights: Tensor  # (n_sequences, n_slots)
    precedence: Tensor  # (n_sequences, n_slots)
    links: Tensor  # (n_sequences, n_slots, n_slots)
    read_weights: Tensor  # (n_sequences, n_read_heads, n_slots)


def _access(interface: _Interface, last: _Contents, slot_scales: Tensor) -> tuple[_Contents, Tensor]:
    """One step of the memory, and the new :func:`inverse_norms` of its slots, which the next write needs as well."""
    n_read_heads = last.read_weights.shape[1]
    read_keys, write_keys = torch.split(interface.keys, [n_read_heads, 1], dim=1)
    read_strengths, write_strengths = torch.split(interface.strengths, [n_read_heads, 1], dim=1)
    usage = next_usage(last.usage, last.write_weights, retention(interface.free_gates, last.read_weights))
    write_weights = next_write_weights(
        content_weights(last.slots, slot_scales, write_keys, write_strengths)[:, 0],
        allocation_weights(usage),
        interface.write_gate,
        interface.allocation_gate,
    )
    slots = written_slots(last.slots, write_weights, interface.erase, interface.values)
    slot_scales = inverse_norms(slots)
    links = next_links(last.links, last.precedence, write_weights)
    content = content_weights(slots, slot_scales, read_keys, read_strengths)
    read_weights = next_read_weights(content, links, last.read_weights, interface.modes)
    precedence = next_precedence(last.precedence, write_weights)
    return _Contents(slots, usage, write_weights, precedence, links, read_weights), slot_scales


class DncMemory(Memory):
    """Differentiable neural computer with one write head (Graves et al. 2016, Methods).

    The defaults are those of the adaptive-scan paper (Ede 2021). The output is the controller's hidden state beside the
    vectors just read, h_t and r_t; the paper's y_t = W_y h_t + W_r r_t is a linear layer on it, the first one of what
    comes after the memory.

    With ``skip_connections``, as in the paper, every layer of the controller sees the input and the vectors read at the
    last step beside the layer below, and h_t is all layers' hidden states side by side. Otherwise the first layer alone
    sees them, and h_t is the last layer's.

    Args:
        input_size: Features per step.
        hidden_size: Units of each layer of the controller.
        n_layers: Layers of the controller.
        n_read_heads: Vectors read at each step.
        n_slots: Slots of the memory.
        slot_size: Numbers in a slot.
        skip_connections: Whether layers see the input and all of them are put out.
        learned_initial_state: Whether the first state of the controller and the first contents of the slots are
            parameters; otherwise they are zero. Nothing is in use at first, and nothing linked.

    Raises:
        SettingError: If a size is not positive.

    Example:
        >>> memory = DncMemory(3, hidden_size=8, n_layers=1, n_read_heads=2, n_slots=4, slot_size=5)
        >>> outputs, state = memory(torch.zeros(6, 7, 3))
        >>> outputs.shape, [tuple(part.shape) for part in state[:4]]
        (torch.Size([6, 7, 18]), [(1, 6, 8), (1, 6, 8), (1, 6, 20), (1, 6, 4)])
    """

    first_slots: Tensor

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: int = 128,
        n_layers: int = 2,
        n_read_heads: int = 4,
        n_slots: int = 16,
        slot_size: int = 64,
        skip_connections: bool = True,
        learned_initial_state: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(
            input=input_size,
            hidden=hidden_size,
            layers=n_layers,
            read_heads=n_read_heads,
            slots=n_slots,
            slot=slot_size,
        )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.n_layers = n_layers
        self.n_read_heads = n_read_heads
        self.n_slots = n_slots
        self.slot_size = slot_size
        self.skip_connections = skip_connections
        n_seen = input_size + n_read_heads * slot_size
        extra = n_seen if skip_connections else 0
        self.layers = nn.ModuleList(
            nn.LSTMCell(n_seen if i == 0 else hidden_size + extra, hidden_size) for i in range(n_layers)
        )
        controller_size = hidden_size * n_layers if skip_connections else hidden_size
        n_keys = n_read_heads + 1
        self._interface_sizes = (n_keys * slot_size, n_keys, slot_size, slot_size + n_read_heads + 2, 3 * n_read_heads)
        self.interface = nn.Linear(controller_size, sum(self._interface_sizes))
        self.output_size = controller_size + n_read_heads * slot_size
        self.register_initial("first_state", torch.zeros(2, n_layers, 1, hidden_size), learned=learned_initial_state)
        self.register_initial("first_slots", torch.zeros(1, 1, n_slots * slot_size), learned=learned_initial_state)

    def initial_state(self, n_sequences: int) -> MemoryState:
        """The controller's h and c (n_layers, n_sequences, hidden_size), then six parts (1, n_sequences, size).

        Those are the slots M, the usage u, the write weights w^w, the precedence p, the links L and the read weights
        w^r, of sizes n_slots * slot_size, three times n_slots, n_slots^2 and n_read_heads * n_slots.
        """
        n_slots = self.n_slots
        sizes = (n_slots, n_slots, n_slots, n_slots**2, self.n_read_heads * n_slots)
        controller = (part.expand(-1, n_sequences, -1) for part in self.first_state)
        rest = (self.first_slots.new_zeros(1, n_sequences, size) for size in sizes)
        return (*controller, self.first_slots.expand(-1, n_sequences, -1), *rest)

    def forward(self, inputs: Tensor, state: MemoryState | None = None) -> tuple[Tensor, MemoryState]:
        """A loop over the steps, always in the parameters' precision; see :meth:`Memory.forward`."""
        # Half precision would mistake which slots are free.
        with torch.autocast(inputs.device.type, enabled=False):
            return self._run(inputs.to(self.interface.weight.dtype), state)

    def _run(self, inputs: Tensor, state: MemoryState | None) -> tuple[Tensor, MemoryState]:
        n_sequences = inputs.shape[0]
        hidden, cell, *parts = self.initial_state(n_sequences) if state is None else state
        layers = list(zip(hidden, cell, strict=True))
        contents = self._contents(parts)
        slot_scales = inverse_norms(contents.slots)
        reads = torch.bmm(contents.read_weights, contents.slots).flatten(1)
        outputs = []
        for step_inputs in inputs.unbind(1):
            layers = self._control(torch.cat([step_inputs, reads], dim=-1), layers)
            controlled = torch.cat([h for h, _ in layers], dim=-1) if self.skip_connections else layers[-1][0]
            contents, slot_scales = _access(self._interface(controlled), contents, slot_scales)
            reads = torch.bmm(contents.read_weights, contents.slots).flatten(1)
            outputs += [controlled, reads]
        output = torch.cat(outputs, dim=-1).reshape(n_sequences, -1, self.output_size)
        ends = (torch.stack(part) for part in zip(*layers, strict=True))
        return output, (*ends, *(part.flatten(1)[None] for part in contents))

    def _contents(self, parts: list[Tensor]) -> _Contents:
        slots, usage, write_weights, precedence, links, read_weights = (part[0] for part in parts)
        return _Contents(
            torch.unflatten(slots, -1, (self.n_slots, self.slot_size)),
            usage,
            write_weights,
            precedence,
            torch.unflatten(links, -1, (self.n_slots, self.n_slots)),
            torch.unflatten(read_weights, -1, (self.n_read_heads, self.n_slots)),
        )

    def _control(self, seen: Tensor, layers: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """The controller's next (h, c), each (n_sequences, hidden_size), layer by layer."""
        below, ends = seen, []
        for cell, last in zip(self.layers, layers, strict=True):
            end = cell(below, last)
            ends.append(end)
            below = torch.cat([seen, end[0]], dim=-1) if self.skip_connections else end[0]
        return ends

    def _interface(self, controlled: Tensor) -> _Interface:
        """The interface vector of the paper, parted and put through its activations."""
        keys, strengths, values, gates, modes = self.interface(controlled).split(self._interface_sizes, dim=-1)
        slot_size, n_read_heads = self.slot_size, self.n_read_heads
        erase, free_gates, allocation_gate, write_gate = gates.sigmoid().split((slot_size, n_read_heads, 1, 1), dim=-1)
        return _Interface(
            keys=keys.unflatten(-1, (n_read_heads + 1, slot_size)),
            strengths=1 + F.softplus(strengths),
            values=values,
            erase=erase,
            free_gates=free_gates,
            allocation_gate=allocation_gate,
            write_gate=write_gate,
            modes=modes.unflatten(-1, (n_read_heads, 3)).softmax(dim=-1),
        )
