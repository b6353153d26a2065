"""The stages of a run: each leaves a file, appears in the progress bar, and is not made again when the run goes on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tqdm import tqdm

from adaptive_scan.files import write_json


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
        self.versions = root / "versions.json"
        self.all_timings = root / "timings.json"

    def timings(self, seed: int) -> Path:
        """What the stages of a seed took: a file each, as processes that share one lose each other's entries."""
        return self.root / "timings" / f"seed{seed}.json"

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


def run_stages(stages: Mapping[int, Sequence[Stage]], files: RunFolder, *, progress: bool, title: str) -> None:
    """Make the stages that are not made yet, and keep what each took [s].

    Args:
        stages: The stages of each seed, in order.
        files: Where the timings lie.
        progress: Whether to show a progress bar.
        title: What the bar calls them together.
    """
    # A terminal redraws the bar in place; in a log file every update is one more line.
    is_terminal = sys.stderr.isatty()
    often = 0.1 if is_terminal else 10.0
    n_stages = sum(map(len, stages.values()))
    with tqdm(total=n_stages, desc=title, disable=not progress, unit="stage", mininterval=often) as bar:
        for seed, stage in ((seed, stage) for seed, of_seed in stages.items() for stage in of_seed):
            bar.set_postfix_str(stage.name, refresh=is_terminal)
            if not stage.file.exists():
                began = time.monotonic()
                stage.make()
                seconds = {**_timings(files.timings(seed)), stage.name: round(time.monotonic() - began, 3)}
                write_json(files.timings(seed), seconds)
            bar.update()


def merge_timings(files: RunFolder, seeds: Sequence[int]) -> None:
    """Write what the stages of all seeds took as one file."""
    timings = [_timings(files.timings(seed)) for seed in seeds]
    write_json(files.all_timings, {name: taken for of_seed in timings for name, taken in of_seed.items()})


def _timings(file: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found
