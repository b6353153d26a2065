"""What a benchmark leaves behind: one row per crop, scan, completer and seed, sums for curves and maps, and examples.

The rows are a `pyarrow.Table`, written as Parquet, which pandas, polars and R read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

KEYS = {
    "seed": pa.int64(),
    "geometry": pa.string(),
    "scan": pa.string(),
    "completer": pa.string(),
    "crop": pa.int64(),
}
"""Columns that name a row; ``crop`` is the place of the crop among those of its seed's test set."""

PICTURE = {
    "micrograph": pa.string(),
    "group": pa.string(),
    "row": pa.int64(),
    "column": pa.int64(),
    "content": pa.string(),
    "sparsity": pa.float64(),
}
"""Columns that trace a row to its picture: file, specimen, first pixel (null for procedural crops), what it shows."""

ROLES = ("static", "adaptive", "oracle", "control", "dense")
"""What a scan is in a comparison: a path fixed beforehand; a policy that sees only what it measured; one that may peek
at the truth; a policy whose observations were tampered with, as a control; or every pixel at a share of the dose."""

SCAN = {"role": pa.string(), "contiguous": pa.bool_()}
"""Columns that say what a scan is."""

METRIC_COLUMNS = (
    "loss",
    "rmse",
    "psnr",
    "ssim",
    "rmse_measured",
    "rmse_unmeasured",
    "frc_cutoff",
    "atom_error_pm",
    "atoms_missed",
    "atoms_invented",
    "defect_recall",
    "particle_area_error",
)
"""Columns of how good a completion is; NaN where there is none, as the truth of a real micrograph."""

COST_COLUMNS = (
    "n_positions",
    "electrons",
    "coverage",
    "path_length",
    "scan_time",
    "largest_turn",
    "largest_acceleration",
)
"""Columns of what the scan cost."""

SCHEMA = pa.schema(
    [pa.field(name, kind) for name, kind in {**KEYS, **PICTURE, **SCAN}.items()]
    + [pa.field(name, pa.float64()) for name in (*METRIC_COLUMNS, *COST_COLUMNS)]
)
"""All columns of the rows, in order."""


@dataclass(frozen=True, eq=False)
class Paired:
    """Two scans (or one by two completers) on the same crops of the same seeds.

    Attributes:
        first: The metric of the one, float64, shape (n,).
        second: That of the other, in the same order.
        seeds: Seed of each, int64, shape (n,).
        groups: Specimen of each, strings, shape (n,): the unit of evidence.
        crops: Crop of each within its seed, int64, shape (n,).
        content: What each picture shows, strings, shape (n,).
        sparsity: How sparse each picture is, in [0, 1], shape (n,).
    """

    first: np.ndarray
    second: np.ndarray
    seeds: np.ndarray
    groups: np.ndarray
    crops: np.ndarray
    content: np.ndarray
    sparsity: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def where(self, chosen: np.ndarray) -> Paired:
        """Those of a boolean mask, shape (n,)."""
        return Paired(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def select(rows: pa.Table, **values: str | int) -> pa.Table:
    """Rows whose columns have these values, by seed and crop.

    Raises:
        KeyError: If there is none.
    """
    mask = None
    for name, value in values.items():
        equal = pc.equal(rows[name], value)
        mask = equal if mask is None else pc.and_(mask, equal)
    found = rows if mask is None else rows.filter(mask)
    if len(found) == 0:
        raise KeyError(f"got no rows with {values}")
    return found.sort_by([("seed", "ascending"), ("crop", "ascending")])


def distinct(rows: pa.Table, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """The different values of these columns, in the order in which they first appear.

    (`Table.group_by` keeps that order for some tables and not for others, so it depends on how a table is stored.)
    """
    return list(dict.fromkeys(zip(*(rows[name].to_pylist() for name in columns), strict=True)))


def pair(
    rows: pa.Table, geometry: str, first: tuple[str, str], second: tuple[str, str], *, metric: str = "loss"
) -> Paired:
    """A metric of two (scan, completer) on the crops that both have.

    Args:
        rows: Table with the columns of `SCHEMA`.
        geometry: Name of the geometry.
        first: Scan and completer of the one.
        second: Scan and completer of the other.
        metric: A name of `METRIC_COLUMNS` or `COST_COLUMNS`.

    Raises:
        KeyError: If one of them has no rows.
        ValueError: If the two were not measured on the same crops.
    """
    one, other = (select(rows, geometry=geometry, scan=scan, completer=judge) for scan, judge in (first, second))
    for key in ("seed", "crop", "group"):
        if one[key].to_pylist() != other[key].to_pylist():
            raise ValueError(f"{first} and {second} were measured on other crops at {geometry}; expected the same ones")
    return Paired(
        first=_numbers(one, metric),
        second=_numbers(other, metric),
        seeds=_numbers(one, "seed"),
        groups=np.array(one["group"].to_pylist(), dtype=str),
        crops=_numbers(one, "crop"),
        content=np.array(one["content"].to_pylist(), dtype=str),
        sparsity=_numbers(one, "sparsity"),
    )


def names(rows: pa.Table, column: str) -> list[str]:
    """Values of a column of names, each once, in the order of the table."""
    return list(dict.fromkeys(rows[column].to_pylist()))


def _numbers(rows: pa.Table, column: str) -> np.ndarray:
    found: np.ndarray = rows[column].to_numpy()
    return found


@dataclass(eq=False)
class Sums:
    """Sums over the crops of one scan and completer, from which maps and curves are made.

    All errors are squared, on [-1, 1], in float64.

    Attributes:
        n_crops: Number of crops.
        squared_error: Sum of the squared error at each pixel, shape (S, S).
        distance_squared_error: Sum of the squared errors by distance from the nearest measured pixel, as
            `adaptive_scan.evaluation.systematic_errors.path_bins` counts it, shape (n_bins,), the same for all parts
            of a benchmark.
        distance_pixels: Number of pixels at each of these distances, shape (n_bins,).
        visits: How often each pixel was measured, revisits counted, shape (S, S).
        frc_cross: Real part of the sum of completion times conjugate target in each Fourier ring, shape (n_rings,).
        frc_completion: Sum of the squared magnitudes of the completions' Fourier coefficients, shape (n_rings,).
        frc_target: The same of the targets.
    """

    n_crops: int
    squared_error: np.ndarray
    distance_squared_error: np.ndarray
    distance_pixels: np.ndarray
    visits: np.ndarray
    frc_cross: np.ndarray
    frc_completion: np.ndarray
    frc_target: np.ndarray

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class ExampleScans:
    """A few crops of one seed and geometry with everything that a figure needs.

    Attributes:
        geometry: Name of the geometry.
        seed: The seed.
        indices: Their places among the seed's test crops, int64, shape (n_examples,).
        targets: What completions are compared with, float32, shape (n_examples, S, S).
        positions: By scan, probing positions [px], float32, shape (n_examples, n_positions, 2).
        completions: By scan and completer, float32, shape (n_examples, S, S).
    """

    geometry: str
    seed: int
    indices: np.ndarray
    targets: np.ndarray
    positions: dict[str, np.ndarray]
    completions: dict[tuple[str, str], np.ndarray]


@dataclass(frozen=True, eq=False)
class Results:
    """All that a benchmark found.

    Attributes:
        name: Name of the benchmark.
        identity: Its hash: results with the same one are comparable.
        description: The benchmark as JSON values.
        rows: Table with the columns of `SCHEMA`.
        sums: By geometry, scan and completer, over all seeds.
        examples: A few crops of each geometry, of the first seed.
        adaptivity: Controls of adaptivity that are no rows, plain JSON values by geometry and scan; see
            `adaptive_scan.evaluation.controls`.
    """

    name: str
    identity: str
    description: dict[str, object]
    rows: pa.Table
    sums: dict[tuple[str, str, str], Sums]
    examples: Sequence[ExampleScans]
    adaptivity: dict[str, dict[str, dict[str, float]]]
