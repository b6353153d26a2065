"""Stacked LSTM and GRU layers as a memory; sequences of any length go through one batched call per layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_scan.agents.memory import Memory, MemoryState, check_sizes
from adaptive_scan.errors import SettingError


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
        longest_dependency: Steps over which the untrained layers are to keep something, at least 2: their gates start
            with time constants of 2 to so many steps (Tallec & Ollivier 2018, arXiv:1804.11188, equation 16). None
            leaves PyTorch's start, which forgets half of its state at each step.

    Raises:
        SettingError: If the kind is unknown, a size is not positive, or the longest dependency is below 2.

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
        longest_dependency: int | None = None,
    ) -> None:
        super().__init__()
        cells: dict[str, tuple[type[nn.LSTM] | type[nn.GRU], int]] = {"lstm": (nn.LSTM, 2), "gru": (nn.GRU, 1)}
        if kind not in cells:
            raise SettingError(f"memory kind: got {kind!r}; expected one of {', '.join(cells)}")
        check_sizes(input=input_size, hidden=hidden_size, layers=n_layers)
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
        if longest_dependency is not None:
            _open_gates(self.layers, longest_dependency)
        zeros = torch.zeros(self._n_state_tensors, n_layers, 1, hidden_size)
        self.register_initial("first_state", zeros, learned=learned_initial_state)

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
            if self.skip_connections and i + 1 < self.n_layers:
                below = torch.cat([below, inputs], dim=-1)
        joins = self.skip_connections and self.n_layers > 1
        output = torch.cat(outputs, dim=-1) if joins else outputs[-1]
        return output, tuple(torch.stack(parts).to(self.first_state.dtype) for parts in zip(*ends, strict=True))


@torch.no_grad()
def _open_gates(layers: nn.ModuleList, longest_dependency: int) -> None:
    """Give each unit of the layers a time constant between 2 and ``longest_dependency`` steps, drawn uniformly.

    The bias of an LSTM's forget gate, or of a GRU's update gate, becomes log(T - 1) for the time constant T, and that
    of an LSTM's input gate its negative.
    """
    if longest_dependency < 2:
        raise SettingError(f"longest_dependency: got {longest_dependency}; expected at least 2 steps, or None")
    for layer in layers:
        assert isinstance(layer, nn.LSTM | nn.GRU)
        n = layer.hidden_size
        # PyTorch's order is input, forget, cell, output in an LSTM, and reset, update, new in a GRU.
        opening = torch.log(torch.empty(n).uniform_(1.0, max(1.0, longest_dependency - 1.0)))
        bias, other_bias = layer.get_parameter("bias_ih_l0"), layer.get_parameter("bias_hh_l0")
        other_bias[: 2 * n] = 0.0
        bias[:n] = -opening if isinstance(layer, nn.LSTM) else 0.0
        bias[n : 2 * n] = opening


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
