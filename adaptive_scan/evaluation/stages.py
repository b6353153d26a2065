"""The stages of a run: each leaves a file, appears in the progress bar, and is not made again when the run goes on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tqdm import tqdm

from adaptive_scan.files import write_json

TIMINGS = "timings.json"


class RunFolder:
    """Where the files of a run lie.

    Args:
        root: The folder.

    Example:
        >>> RunFolder(Path("out")).part(0, "1/23", "spiral", "infill+").as_posix()
        'out/rows/seed0/1%2F23/spiral/infill+.parquet'
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.benchmark = root / "benchmark.json"
        self.results = root / "results.json"
        self.rows = root / "results.parquet"

    def seed(self, seed: int) -> Path:
        """What was trained for a seed."""
        return self.root / f"seed{seed}"

    def cell(self, seed: int, geometry: str) -> Path:
        """What was trained for a seed and a geometry."""
        return self.seed(seed) / _as_name(geometry)

    def scan(self, seed: int, geometry: str, scan: str) -> Path:
        """What was made for a scan."""
        return self.cell(seed, geometry) / _as_name(scan)

    def part(self, seed: int, geometry: str, scan: str, completer: str) -> Path:
        """Rows of a part of the results."""
        return self._part("rows", seed, geometry, scan, f"{_as_name(completer)}.parquet")

    def sums(self, seed: int, geometry: str, scan: str, completer: str) -> Path:
        """Sums of the same part."""
        return self._part("sums", seed, geometry, scan, f"{_as_name(completer)}.npz")

    def _part(self, what: str, seed: int, geometry: str, scan: str, file: str) -> Path:
        return self.root / what / f"seed{seed}" / _as_name(geometry) / _as_name(scan) / file

    def examples(self, geometry: str) -> Path:
        """Examples of a geometry."""
        return self.root / "examples" / f"{_as_name(geometry)}.npz"


def _as_name(name: str) -> str:
    """A name as that of a file; no two names become the same one."""
    return quote(name, safe=" +")


class Stage(NamedTuple):
    """A part of a run.

    Attributes:
        name: What the progress bar and the timings call it.
        file: The last file that ``make`` writes, by rename: where it is, the stage is made.
        make: Makes it.
    """

    name: str
    file: Path
    make: Callable[[], None]


def run_stages(stages: Sequence[Stage], folder: Path, *, progress: bool, title: str) -> None:
    """Make the stages that are not made yet, and keep what each took [s] in ``timings.json``.

    Args:
        stages: The stages, in order.
        folder: Where the timings lie.
        progress: Whether to show a progress bar.
        title: What the bar calls them together.
    """
    file = folder / TIMINGS
    # A terminal redraws the bar in place; in a log file every update is one more line.
    is_terminal = sys.stderr.isatty()
    often = 0.1 if is_terminal else 10.0
    with tqdm(total=len(stages), desc=title, disable=not progress, unit="stage", mininterval=often) as bar:
        for stage in stages:
            bar.set_postfix_str(stage.name, refresh=is_terminal)
            if not stage.file.exists():
                began = time.monotonic()
                stage.make()
                taken = round(time.monotonic() - began, 3)
                # Read again each time: another process may share the work.
                seconds = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
                write_json(file, {**seconds, stage.name: taken})
            bar.update()
