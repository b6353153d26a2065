"""Tables on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def print_whole(table: Table) -> None:
    """Print a table; where lines are shorter than it, whole numbers on wrapped lines beat numbers that are cut off.

    Example:
        >>> print_whole(Table(title="empty"))
        empty
    """
    console = Console()
    needed = Measurement.get(console, console.options.update(width=1_000), table).maximum
    Console(width=max(console.width, needed)).print(table)
