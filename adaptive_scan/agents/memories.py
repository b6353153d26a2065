"""Memories: what an agent carries from one observation to the next.

A memory maps a sequence of inputs to a sequence of outputs and a state. A live decision is a sequence of length one, so
that acting and learning run the same code; sequences of any length go through one batched call per layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

MemoryState = tuple[Tensor, ...]
"""Tensors of shape (n_layers, n_sequences, size): the sequences stand on the second axis, as in PyTorch's LSTM."""


class Memory(nn.Module, ABC):
    """Interface of all memories.

    Attributes:
        input_size: Features per step that go in.
        output_size: Features per step that come out.
    """

    input_size: int
    output_size: int

    @abstractmethod
    def initial_state(self, n_sequences: int) -> MemoryState:
        """State before the first step, each tensor of shape (n_layers, n_sequences, size)."""

    @abstractmethod
    def forward(self, inputs: Tensor, state: MemoryState | None = None) -> tuple[Tensor, MemoryState]:
        """Outputs for a batch of sequences, and the state after the last step.

        Args:
            inputs: Shape (n_sequences, n_steps, input_size).
            state: State before the first step; None is the initial state.

        Returns:
            Outputs (n_sequences, n_steps, output_size) and the state to carry on from.
        """

    def reset_state(self, state: MemoryState, starts: Tensor) -> MemoryState:
        """The state with the sequences named by ``starts`` (n_sequences,) of bool put back to the initial one."""
        fresh = self.initial_state(starts.shape[0])
        return tuple(torch.where(starts[None, :, None], f, s) for f, s in zip(fresh, state, strict=True))


class RecurrentMemory(Memory):
    """Stacked LSTM or GRU layers, with the skip connections of the adaptive-scan paper.

    With ``skip_connections`` every layer sees the input beside the output of the layer below, and the output is all
    layers' outputs side by side, as in the paper's actor and critic (Ede 2021, section 2; two layers of 256).

    Args:
        kind: ``"lstm"`` or ``"gru"``.
        input_size: Features per step.
        hidden_size: Units of each layer.
        n_layers: Number of layers.
        skip_connections: Whether layers see the input and all of them are put out.
        learned_initial_state: Whether the initial state is a parameter; otherwise it is zero.

    Raises:
        ValueError: If the kind is unknown or a size is not positive.

    Example:
        >>> memory = RecurrentMemory("gru", 3, hidden_size=8, n_layers=2)
        >>> outputs, state = memory(torch.zeros(5, 7, 3))
        >>> outputs.shape, state[0].shape
        (torch.Size([5, 7, 16]), torch.Size([2, 5, 8]))
    """

    def __init__(
        self,
        kind: str,
        input_size: int,
        *,
        hidden_size: int = 256,
        n_layers: int = 2,
        skip_connections: bool = True,
        learned_initial_state: bool = False,
    ) -> None:
        super().__init__()
        cells: dict[str, tuple[type[nn.LSTM] | type[nn.GRU], int]] = {"lstm": (nn.LSTM, 2), "gru": (nn.GRU, 1)}
        if kind not in cells:
            raise ValueError(f"memory kind: got {kind!r}; expected one of {', '.join(cells)}")
        if min(input_size, hidden_size, n_layers) < 1:
            raise ValueError(
                f"memory sizes: got input {input_size}, hidden {hidden_size}, layers {n_layers}; expected at least 1"
            )
        cell, self._n_state_tensors = cells[kind]
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.n_layers = n_layers
        self.skip_connections = skip_connections
        self.output_size = hidden_size * n_layers if skip_connections else hidden_size
        extra = input_size if skip_connections else 0
        self.layers = nn.ModuleList(
            cell(input_size if i == 0 else hidden_size + extra, hidden_size, batch_first=True) for i in range(n_layers)
        )
        zeros = torch.zeros(self._n_state_tensors, n_layers, 1, hidden_size)
        if learned_initial_state:
            self.first_state = nn.Parameter(zeros)
        else:
            self.register_buffer("first_state", zeros, persistent=False)

    def initial_state(self, n_sequences: int) -> MemoryState:
        """Zeros or the learned state, each tensor of shape (n_layers, n_sequences, hidden_size)."""
        return tuple(part.expand(-1, n_sequences, -1) for part in self.first_state)

    def forward(self, inputs: Tensor, state: MemoryState | None = None) -> tuple[Tensor, MemoryState]:
        """One batched call per layer over the whole sequence; see :meth:`Memory.forward`."""
        if state is None:
            state = self.initial_state(inputs.shape[0])
        below, outputs, ends = inputs, [], []
        for i, layer in enumerate(self.layers):
            # A whole-sequence call repacks its weights first, which takes most of the time of a live decision.
            run = _run_step if inputs.shape[1] == 1 else _run_sequence
            below, end = run(layer, below, [part[i] for part in state])
            outputs.append(below)
            ends.append(end)
            if self.skip_connections:
                below = torch.cat([below, inputs], dim=-1)
        output = torch.cat(outputs, dim=-1) if self.skip_connections else outputs[-1]
        return output, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))


def _run_sequence(layer: Any, inputs: Tensor, state: list[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
    """One layer over inputs (n_sequences, n_steps, size); its state has shape (n_sequences, hidden_size)."""
    start = [part[None].contiguous() for part in state]
    outputs, end = layer(inputs, tuple(start) if isinstance(layer, nn.LSTM) else start[0])
    return outputs, [part[0] for part in (end if isinstance(end, tuple) else (end,))]


def _run_step(layer: Any, inputs: Tensor, state: list[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
    """:func:`_run_sequence` for a single step."""
    weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
    end: Sequence[Tensor]
    if isinstance(layer, nn.LSTM):
        end = torch.lstm_cell(inputs[:, 0], state, *weights)
    else:
        end = [torch.gru_cell(inputs[:, 0], state[0], *weights)]
    return end[0][:, None], end


def _lstm(input_size: int, **settings: object) -> Memory:
    return RecurrentMemory("lstm", input_size, **settings)  # type: ignore[arg-type]


def _gru(input_size: int, **settings: object) -> Memory:
    return RecurrentMemory("gru", input_size, **settings)  # type: ignore[arg-type]


MEMORIES: dict[str, Callable[..., Memory]] = {"lstm": _lstm, "gru": _gru}
"""Memories by name; each is called as ``MEMORIES[name](input_size, **memory_kwargs)``."""


def make_memory(name: str, input_size: int, **settings: object) -> Memory:
    """A memory by its name.

    Raises:
        ValueError: If no memory has that name.

    Example:
        >>> make_memory("lstm", 4, hidden_size=8, n_layers=1).output_size
        8
    """
    if name not in MEMORIES:
        raise ValueError(f"memory: got {name!r}; expected one of {', '.join(MEMORIES)}")
    return MEMORIES[name](input_size, **settings)
