"""Import time of ``adaptive_scan`` against a package that imports torch and numba at once.

Each import runs in an interpreter of its own, whose start-up is measured and taken off.

Run: python benchmarks/bench_import.py
"""

from __future__ import annotations

import subprocess
import sys

from common import machine, markdown_table, median_seconds

BUDGET = 0.5
STATEMENTS = {
    "import adaptive_scan": "import adaptive_scan",
    "the same, torch and numba imported at once": "import adaptive_scan, numba, torch",
}


def import_seconds(statement: str) -> float:
    """Median wall time of a fresh interpreter that runs ``statement`` [s]."""
    command = [sys.executable, "-c", statement]
    return median_seconds(lambda: subprocess.run(command, check=True))


def main() -> None:
    """Measure and print the table."""
    start_up = import_seconds("pass")
    seconds = {name: import_seconds(statement) - start_up for name, statement in STATEMENTS.items()}
    rows = [(name, f"{value:.2f} s") for name, value in seconds.items()]
    print(machine())
    print(markdown_table(("what", "median of 7"), rows))
    print(f"budget {BUDGET} s: {'kept' if seconds['import adaptive_scan'] <= BUDGET else 'NOT kept'}")


if __name__ == "__main__":
    main()
