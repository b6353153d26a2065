"""The files of results: parts as they are made, and the whole that is read back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adaptive_scan.benchmark.folder import RunFolder
from adaptive_scan.evaluation.results import SCHEMA, ExampleScans, Results, Sums
from adaptive_scan.files import FileContentError, replacing, write_json, write_npz

FORMAT_VERSION = 1
IDENTITY = b"adaptive_scan.identity"
"""Key of the metadata of the rows under which the identity of their benchmark stands."""

_EXPECTED = "the results of a finished `adaptive-scan compare` of a benchmark"


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
        "format": FORMAT_VERSION,
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
    if not isinstance(content, dict) or content.get("format") != FORMAT_VERSION:
        raise ResultsFileError(path, "JSON of another kind", _EXPECTED)
    return content
