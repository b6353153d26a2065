"""The interface of all memories: what an agent carries from one observation to the next.

A memory maps a sequence of inputs to a sequence of outputs and a state. A live decision is a sequence of length one, so
that acting and learning run the same code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from adaptive_scan.errors import SettingError

MemoryState = tuple[Tensor, ...]
"""Tensors of shape (n_layers, n_sequences, size): the sequences stand on the second axis, as in PyTorch's LSTM."""


class Memory(nn.Module, ABC):
    """Interface of all memories.

    Attributes:
        input_size: Features per step that go in.
        output_size: Features per step that come out.
        first_state: What the initial state is made from: a parameter where that state is learned, otherwise zeros.

    Example:
        >>> class Forgetful(Memory):
        ...     input_size = output_size = 3
        ...
        ...     def initial_state(self, n_sequences):
        ...         return (torch.zeros(1, n_sequences, 1),)
        ...
        ...     def forward(self, inputs, state=None):
        ...         return inputs, self.initial_state(len(inputs))
        >>> outputs, state = Forgetful()(torch.zeros(2, 5, 3))
        >>> outputs.shape
        torch.Size([2, 5, 3])
    """

    input_size: int
    output_size: int
    first_state: Tensor

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

    def register_initial(self, name: str, zeros: Tensor, *, learned: bool) -> None:
        """Keep a part of the initial state: a parameter where it is learned, otherwise a buffer in no file.

        Args:
            name: Attribute it goes by.
            zeros: What it starts from.
            learned: Whether it is a parameter.
        """
        if learned:
            self.register_parameter(name, nn.Parameter(zeros))
        else:
            self.register_buffer(name, zeros, persistent=False)


def check_sizes(**sizes: int) -> None:
    """Refuse sizes below one.

    Raises:
        SettingError: If there is one.

    Example:
        >>> check_sizes(input=3, hidden=0)
        Traceback (most recent call last):
            ...
        adaptive_scan.errors.SettingError: memory sizes: got input 3, hidden 0; expected at least 1
    """
    if min(sizes.values()) < 1:
        found = ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in sizes.items())
        raise SettingError(f"memory sizes: got {found}; expected at least 1")
