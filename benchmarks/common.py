"""What the benchmarks share: medians of repeated timings, and the table they print."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence


def median_seconds(run: Callable[[], object], *, n_repeats: int = 7, n_warmup: int = 1) -> float:
    """Median wall time of ``run()`` [s], which one disturbed repeat cannot move.

    Args:
        run: What to time; its result is dropped.
        n_repeats: Timed calls, at least 1.
        n_warmup: Calls before them, for caches and compilation.

    Returns:
        The median of the timed calls [s].

    Raises:
        ValueError: If ``n_repeats`` is below 1 or ``n_warmup`` below 0.
    """
    if n_repeats < 1 or n_warmup < 0:
        raise ValueError(f"n_repeats={n_repeats}, n_warmup={n_warmup}; expected at least 1 and at least 0")
    for _ in range(n_warmup):
        run()
    seconds = []
    for _ in range(n_repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The rows as a Markdown table, ready for ``benchmarks/README.md``."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine() -> str:
    """One line that says where and with what the figures were measured."""
    return f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
