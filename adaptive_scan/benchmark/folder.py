"""The folder of a run: where its files lie, the stages that leave them, and the results that are read back from it."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from adaptive_scan._version import __version__
from adaptive_scan.benchmark.definition import Benchmark
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.results import SCHEMA, ExampleScans, Results, Sums
from adaptive_scan.files import FileContentError, replacing, write_json, write_npz

RESULTS_VERSION = 1
_PACKAGES = ("torch", "numpy", "numba", "scipy", "scikit-image", "pyarrow", "safetensors")
IDENTITY = b"adaptive_scan.identity"
"""Key of the metadata of the rows under which the identity of their benchmark stands."""

_EXPECTED = "the results of a finished `adaptive-scan compare` of a benchmark"


class OtherRunError(SettingError):
    """A folder that is that of a run of another benchmark, or has something else in it."""


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


def begin_run(files: RunFolder, benchmark: Benchmark, made_with: Mapping[str, str]) -> None:
    """Make the folder a run's own, and write down what it is made with, this package and its libraries among it.

    Raises:
        OtherRunError: If it is that of another benchmark, or has something else in it.
    """
    if files.benchmark.exists():
        found = Benchmark.read(files.benchmark)
        if found.identity != benchmark.identity:
            raise OtherRunError(
                f"{files.root}: got a run of the identity {found.identity[:12]}; expected one of this benchmark, "
                f"{benchmark.identity[:12]}, or a new folder"
            )
    elif files.root.is_dir() and not all(_is_left_over(file) for file in files.root.iterdir()):
        raise OtherRunError(f"{files.root}: got a folder with files in it; expected a new folder or that of a run")
    benchmark.write(files.benchmark)
    _note(files, {**_versions(), **made_with})


def _note(files: RunFolder, versions: Mapping[str, str]) -> None:
    """Add to what a run is made with; where it was made with something else before, a line says what changed."""
    known = json.loads(files.versions.read_text(encoding="utf-8")) if files.versions.exists() else []
    found: list[Mapping[str, str]] = known if isinstance(known, list) else [known]  # one alone in older runs
    if versions in found:
        return
    if found:
        last = found[-1]
        names = [name for name in {**last, **versions} if last.get(name) != versions.get(name)]
        changes = [f"{name} {_short(versions.get(name))} (before: {_short(last.get(name))})" for name in names]
        print(f"note: the run goes on with {', '.join(changes)}", flush=True)
    write_json(files.versions, [*found, versions])


def _short(version: str | None) -> str:
    """A version, or the beginning of a hash."""
    return "none" if version is None else version[:12]


def _versions() -> dict[str, str]:
    """Versions of the software that the numbers are made with."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    own = {"adaptive_scan": __version__, "adaptive_scan_files": _hash_of_package()}
    return {**own, "python": platform.python_version(), **packages}


@functools.cache
def _hash_of_package() -> str:
    """SHA-256 over the package's modules, by their places: two checkouts of one version may differ."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _is_left_over(file: Path) -> bool:
    """Whether a file is a part of one that was being written when a run was killed."""
    return re.match(r"\..*\.tmp", file.name) is not None


class ResultsFileError(FileContentError):
    """A folder that should hold results and does not.

    Example:
        >>> str(ResultsFileError("out/results.json", "no such file", "results"))
        'out/results.json: got no such file; expected results'
    """


def write_rows(path: Path, rows: pa.Table, identity: str) -> None:
    """Write rows as Parquet with the identity of their benchmark in the metadata; the file appears by rename."""
    with replacing(path) as temporary:
        pq.write_table(rows.replace_schema_metadata({IDENTITY: identity.encode()}), temporary)


def read_rows(path: Path, identity: str) -> pa.Table:
    """The rows that `write_rows` wrote.

    Raises:
        ResultsFileError: If there are none, or those of another benchmark.
    """
    try:
        rows = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowInvalid) as error:
        raise ResultsFileError(path, f"no rows ({error})", _EXPECTED) from error
    found = (rows.schema.metadata or {}).get(IDENTITY, b"").decode()
    if found != identity or not rows.schema.equals(SCHEMA):
        raise ResultsFileError(path, f"rows of the identity {found[:12]!r}", f"those of {identity[:12]!r}")
    return rows


def write_sums(path: Path, sums: Sums) -> None:
    """Write sums; the file appears by rename."""
    write_npz(path, **{name: np.asarray(getattr(sums, name)) for name in Sums.__dataclass_fields__})


def read_sums(path: Path) -> Sums:
    """The sums that `write_sums` wrote."""
    arrays = _read_npz(path)
    n_crops = int(arrays.pop("n_crops"))
    return Sums(n_crops, **arrays)


def write_examples(path: Path, examples: ExampleScans) -> None:
    """Write examples; the file appears by rename."""
    scans, pairs = list(examples.positions), list(examples.completions)
    write_npz(
        path,
        geometry=np.array(examples.geometry),
        seed=np.array(examples.seed),
        indices=examples.indices,
        targets=examples.targets,
        scans=np.array(scans, dtype=str),
        pairs=np.array(pairs, dtype=str).reshape(-1, 2),
        **{f"positions{i}": examples.positions[scan] for i, scan in enumerate(scans)},
        **{f"completions{i}": examples.completions[pair] for i, pair in enumerate(pairs)},
    )


def read_examples(path: Path) -> ExampleScans:
    """The examples that `write_examples` wrote."""
    arrays = _read_npz(path)
    pairs = [(scan, completer) for scan, completer in arrays["pairs"].tolist()]
    return ExampleScans(
        geometry=str(arrays["geometry"]),
        seed=int(arrays["seed"]),
        indices=arrays["indices"],
        targets=arrays["targets"],
        positions={scan: arrays[f"positions{i}"] for i, scan in enumerate(arrays["scans"].tolist())},
        completions={pair: arrays[f"completions{i}"] for i, pair in enumerate(pairs)},
    )


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError) as error:
        raise ResultsFileError(path, f"no arrays ({error})", _EXPECTED) from error


def write_results(folder: Path, results: Results) -> None:
    """Write the rows of all parts together, and what else was found as JSON, which comes last.

    Sums and examples stay in their parts.
    """
    files = RunFolder(folder)
    write_rows(files.rows, results.rows, results.identity)
    content = {
        "format": RESULTS_VERSION,
        "name": results.name,
        "identity": results.identity,
        "description": results.description,
        "adaptivity": results.adaptivity,
        "sums": [list(key) for key in results.sums],
        "examples": [examples.geometry for examples in results.examples],
    }
    write_json(files.results, content)


def load_results(folder: str | os.PathLike[str]) -> Results:
    """What `adaptive_scan.benchmark.run.run_benchmark` left in a folder.

    Args:
        folder: The folder.

    Raises:
        ResultsFileError: If the run there is not finished, or a file is broken or of another benchmark.
    """
    files = RunFolder(Path(folder))
    content = _read_json(files.results)
    keys: list[tuple[str, str, str]] = [(geometry, scan, judge) for geometry, scan, judge in content["sums"]]
    seeds = content["description"]["seeds"]
    return Results(
        name=content["name"],
        identity=content["identity"],
        description=content["description"],
        rows=read_rows(files.rows, content["identity"]),
        sums={key: read_all_sums(files, seeds, key) for key in keys},
        examples=[read_examples(files.examples(geometry)) for geometry in content["examples"]],
        adaptivity=content["adaptivity"],
    )


def read_all_sums(files: RunFolder, seeds: Sequence[int], key: tuple[str, str, str]) -> Sums:
    """Sums of a geometry, scan and completer over the seeds that have them, in the order of the seeds."""
    parts = [files.sums(seed, *key) for seed in seeds]
    first, *others = [read_sums(part) for part in parts if part.exists()]
    for other in others:
        first = first + other
    return first


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsFileError(path, str(error.strerror), _EXPECTED) from error
    except ValueError as error:
        raise ResultsFileError(path, f"no JSON ({error})", _EXPECTED) from error
    if not isinstance(content, dict) or content.get("format") != RESULTS_VERSION:
        raise ResultsFileError(path, "JSON of another kind", _EXPECTED)
    return content
