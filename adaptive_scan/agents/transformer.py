"""Causal transformer as a memory: each step looks back at the steps before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_scan.agents.memory import Memory, MemoryState, check_sizes
from adaptive_scan.errors import SettingError

FEEDFORWARD_FACTOR = 4  # hidden units of the feed-forward part over the width, Vaswani et al. 2017 (arXiv:1706.03762)
SLOWEST_WAVELENGTH = 10_000.0  # Su et al. 2021, section 3.2.2
KEEP_BIAS = 2.0  # Parisotto et al. 2019, section 3.2: gates that start near the identity


def rotations(n_positions: int, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of m theta_i for positions m, theta_i = 10000^(-2 i / size).

    Args:
        n_positions: Positions m from 0.
        size: Size of the vectors to be rotated, even.
        like: Tensor whose type and device they take.

    Returns:
        Two tensors of shape (n_positions, size / 2).

    Example:
        >>> rotations(2, 2, torch.zeros(1))[0]
        tensor([[1.0000],
                [0.5403]])
    """
    # In double precision: rounding of m theta grows with m.
    exponents = torch.arange(0, size, 2, dtype=torch.float64, device=like.device) / size
    positions = torch.arange(n_positions, dtype=torch.float64, device=like.device)
    angles = positions[:, None] * SLOWEST_WAVELENGTH**-exponents
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotate(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864, equation 34): (x, y) turned by m theta_i.

    The product of a query at m and a key at n, both rotated, depends on m - n alone. x is the i-th number of the first
    half of a vector, y of the second.

    Args:
        vectors: Shape (..., n_positions, size).
        cosines: Shape (n_positions, size / 2).
        sines: Shape (n_positions, size / 2).

    Returns:
        The shape of ``vectors``.

    Example:
        >>> rotate(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0]]), torch.tensor([[1.0]]))
        tensor([[0., 1.]])
    """
    x, y = vectors.chunk(2, dim=-1)
    return torch.cat([x * cosines - y * sines, x * sines + y * cosines], dim=-1)


class _Gate(nn.Module):
    """Joins a sub-layer's output to the stream: a GRU whose state is the stream, or the plain sum."""

    def __init__(self, size: int, *, gated: bool) -> None:
        super().__init__()
        self.cell = nn.GRUCell(size, size) if gated else None
        if self.cell is not None:
            with torch.no_grad():
                self.cell.bias_ih[size : 2 * size] += KEEP_BIAS

    def forward(self, stream: Tensor, update: Tensor) -> Tensor:
        if self.cell is None:
            return stream + update
        joined = self.cell(F.relu(update).flatten(0, 1), stream.flatten(0, 1))
        return torch.unflatten(joined, 0, stream.shape[:2])


class _Layer(nn.Module):
    """Pre-norm attention and feed-forward parts, each behind a gate."""

    def __init__(self, size: int, n_heads: int, *, gated: bool) -> None:
        super().__init__()
        self.size, self.n_heads = size, n_heads
        self.attention_norm = nn.LayerNorm(size)
        self.queries_keys_values = nn.Linear(size, 3 * size)
        self.attention_output = nn.Linear(size, size)
        self.attention_gate = _Gate(size, gated=gated)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(size),
            nn.Linear(size, FEEDFORWARD_FACTOR * size),
            nn.GELU(),
            nn.Linear(FEEDFORWARD_FACTOR * size, size),
        )
        self.feedforward_gate = _Gate(size, gated=gated)

    def forward(
        self, stream: Tensor, past: Tensor, turns: tuple[Tensor, Tensor], mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The stream (n_sequences, n_steps, size) after the layer, and keys and values of the past and these steps.

        Those are of shape (n_sequences, n_past + n_steps, 2 * size), not rotated, so that no position is absolute.
        """
        n_steps = stream.shape[1]
        seen = self.queries_keys_values(self.attention_norm(stream))
        queries, new = torch.split(seen, [self.size, 2 * self.size], dim=-1)
        entries = torch.cat([past, new], dim=1)
        q, k, v = (self._heads(part) for part in (queries, *entries.chunk(2, dim=-1)))
        q, k = rotate(q, *(part[-n_steps:] for part in turns)), rotate(k, *turns)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        stream = self.attention_gate(stream, self.attention_output(attended))
        return self.feedforward_gate(stream, self.feedforward(stream)), entries

    def _heads(self, part: Tensor) -> Tensor:
        """Shape (n_sequences, n, size) to (n_sequences, n_heads, n, head_size)."""
        return torch.unflatten(part, -1, (self.n_heads, -1)).transpose(1, 2)


class TransformerMemory(Memory):
    """Causal transformer over a sliding window (Vaswani et al. 2017), gated for reinforcement learning.

    A linear layer takes the input to the stream; pre-norm layers add to it. In each layer a step attends to itself and
    to the ``context`` steps before it, so that ``n_layers`` layers reach ``n_layers * context`` steps back. Positions
    are relative and rotary (Su et al. 2021, arXiv:2104.09864): unlike ALiBi's fixed slopes, they do not make a step
    that lies far back count less, and an agent may have to act on what it saw first. Keys are kept before their
    rotation, so that nothing depends on how long a sequence has been going on. There is no dropout.

    Gates as in GTrXL (Parisotto et al. 2019, arXiv:1910.06764, section 3.2) keep the stream as it is at first, which
    makes transformers learn reliably from rewards: the sub-layer's output goes through ReLU into a GRU whose state is
    the stream and whose update gate has a bias of 2. The GRU is PyTorch's, which resets after its product.

    Args:
        input_size: Features per step.
        hidden_size: Width of the stream, a multiple of twice ``n_heads``.
        n_layers: Number of layers.
        n_heads: Attention heads of each layer.
        context: Earlier steps that a step attends to.
        gated: Whether sub-layers join the stream through gates; otherwise they are added.
        skip_connections: Whether the output is the input and all layers' outputs side by side; otherwise it is the last
            layer's. Layer normalisation ends each.
        learned_initial_state: Whether a learned key and value stand before the first step in each layer; otherwise
            there is nothing.

    Raises:
        SettingError: If a size is not positive, or the heads do not fit the width.

    Example:
        >>> memory = TransformerMemory(3, hidden_size=8, n_heads=2, context=10, skip_connections=False)
        >>> outputs, state = memory(torch.zeros(5, 7, 3))
        >>> outputs.shape, [tuple(part.shape) for part in state]
        (torch.Size([5, 7, 8]), [(2, 5, 160), (1, 5, 1)])
    """

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        context: int = 128,
        gated: bool = True,
        skip_connections: bool = True,
        learned_initial_state: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(input=input_size, hidden=hidden_size, layers=n_layers, heads=n_heads, context=context)
        if hidden_size % (2 * n_heads) != 0:
            raise SettingError(f"hidden_size: got {hidden_size}; expected a multiple of {2 * n_heads}, twice n_heads")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.context = context
        self.skip_connections = skip_connections
        self.output_size = input_size + n_layers * hidden_size if skip_connections else hidden_size
        self.embedding = nn.Linear(input_size, hidden_size)
        self.layers = nn.ModuleList(_Layer(hidden_size, n_heads, gated=gated) for _ in range(n_layers))
        self.output_norms = nn.ModuleList(nn.LayerNorm(hidden_size) for _ in range(n_layers if skip_connections else 1))
        self.n_first = int(learned_initial_state)
        self.register_initial(
            "first_state", torch.zeros(n_layers, 1, self.n_first, 2 * hidden_size), learned=learned_initial_state
        )

    def initial_state(self, n_sequences: int) -> MemoryState:
        """Keys and values of the last ``context`` steps, and how many of them there are.

        Shapes (n_layers, n_sequences, context * 2 * hidden_size), newest last, and (1, n_sequences, 1).
        """
        first = self.first_state.expand(-1, n_sequences, -1, -1)
        n_filled = first.new_full((1, n_sequences, 1), float(self.n_first))
        return self._newest(first), n_filled

    def _newest(self, entries: Tensor) -> Tensor:
        """The last ``context`` of entries (n_layers, n_sequences, n, 2 * hidden_size), zeros before the first."""
        n_missing = max(self.context - entries.shape[2], 0)
        return F.pad(entries[:, :, -self.context :], (0, 0, n_missing, 0)).flatten(2)

    def forward(self, inputs: Tensor, state: MemoryState | None = None) -> tuple[Tensor, MemoryState]:
        """One batched call per layer over the whole sequence; see :meth:`Memory.forward`."""
        n_sequences, n_steps, _ = inputs.shape
        if state is None:  # as the initial state, without the empty part of the cache
            past = self.first_state.expand(-1, n_sequences, -1, -1)
            n_filled = past.new_full((1, n_sequences, 1), float(self.n_first))
        else:
            past, n_filled = torch.unflatten(state[0], -1, (self.context, 2 * self.hidden_size)), state[1]
        n_past = past.shape[2]
        mask = self._mask(n_filled[0], n_past, n_steps)
        turns = rotations(n_past + n_steps, self.hidden_size // self.n_heads, inputs)
        stream, streams, caches = self.embedding(inputs), [], []
        for layer, layer_past in zip(self.layers, past, strict=True):
            stream, entries = layer(stream, layer_past, turns, mask)
            streams.append(stream)
            caches.append(entries[:, -self.context :])
        outputs = [norm(s) for norm, s in zip(self.output_norms, streams[-len(self.output_norms) :], strict=True)]
        output = torch.cat([inputs, *outputs], dim=-1) if self.skip_connections else outputs[0]
        return output, (self._newest(torch.stack(caches)), (n_filled + n_steps).clamp(max=self.context))

    def _mask(self, n_filled: Tensor, n_past: int, n_steps: int) -> Tensor:
        """Whether a step (third axis) attends to an entry (fourth), for n_filled (n_sequences, 1) entries before it."""
        entries = torch.arange(n_past + n_steps, device=n_filled.device)
        age = entries[n_past:, None] - entries
        is_filled = entries >= n_past - n_filled
        return ((age >= 0) & (age <= self.context) & is_filled[:, None, :])[:, None]
