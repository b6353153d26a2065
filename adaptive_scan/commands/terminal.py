"""Tables and notes on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def print_whole(table: Table) -> None:
    """Print a table; where lines are shorter than it, whole numbers on wrapped lines beat numbers that are cut off.

    Example:
        >>> table = Table("loss", box=None)
        >>> table.add_row("0.1")
        >>> print_whole(table)  # doctest: +NORMALIZE_WHITESPACE
        loss
        0.1
    """
    console = Console()
    needed = Measurement.get(console, console.options.update(width=1_000), table).maximum
    Console(width=max(console.width, needed)).print(table)


def note_unknown_training(generators: Sequence[Path]) -> None:
    """Say of generator files, which come without a run, that their errors on micrographs may be too small.

    Example:
        >>> note_unknown_training([Path("a.safetensors")])
        note: a.safetensors does not say which pictures it was trained on; errors on those would be too small
    """
    for path in generators:
        print(f"note: {path} does not say which pictures it was trained on; errors on those would be too small")
