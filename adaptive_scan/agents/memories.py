"""Memories by name."""

from __future__ import annotations

from collections.abc import Callable

from adaptive_scan.agents.dnc import DncMemory
from adaptive_scan.agents.memory import Memory
from adaptive_scan.agents.recurrent import RecurrentMemory
from adaptive_scan.agents.transformer import TransformerMemory
from adaptive_scan.errors import SettingError


def _lstm(input_size: int, **settings: object) -> Memory:
    return RecurrentMemory("lstm", input_size, **settings)  # type: ignore[arg-type]


def _gru(input_size: int, **settings: object) -> Memory:
    return RecurrentMemory("gru", input_size, **settings)  # type: ignore[arg-type]


MEMORIES: dict[str, Callable[..., Memory]] = {
    "lstm": _lstm,
    "gru": _gru,
    "dnc": DncMemory,
    "transformer": TransformerMemory,
}
"""Memories by name; each is called as ``MEMORIES[name](input_size, **memory_kwargs)``."""


def make_memory(name: str, input_size: int, **settings: object) -> Memory:
    """A memory by its name.

    Raises:
        SettingError: If no memory has that name.

    Example:
        >>> make_memory("lstm", 4, hidden_size=8, n_layers=1).output_size
        8
    """
    if name not in MEMORIES:
        raise SettingError(f"memory: got {name!r}; expected one of {', '.join(MEMORIES)}")
    return MEMORIES[name](input_size, **settings)
