"""Scan against generator: what adapting brings, what a generator of its own brings, and whether one needs the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from adaptive_scan.benchmark.definition import OWN, SHARED
from adaptive_scan.benchmark.questions import LossTable, ScanLosses, common_crops
from adaptive_scan.benchmark.verdicts import Interval
from adaptive_scan.evaluation.results import Paired


@dataclass(frozen=True)
class FactorialRow:
    """One cell of {adaptive, best static} x {shared generator, own generator, best classical completer}.

    A classical completer is the same for all scans, so it has one column where the networks have two.

    Attributes:
        geometry: Name of the geometry.
        adaptive: The adaptive scan whose table it is.
        scan: This one, or the best static scan.
        role: "adaptive" or "best static".
        completer: Name of the completer.
        network: Whether that is a trained network.
        n_crops: Number of crops.
        loss: Mean loss.
        ratio_to_static: Mean loss over that of the best static scan by the same kind of completer; 1 for that itself;
            None if there is none.
        ratio_to_static_ci95: 95% interval of that ratio; None if there is none.
        ratio_to_shared: Mean loss over that of the same scan by the shared generator; likewise.
        ratio_to_shared_ci95: 95% interval of that ratio; None if there is none.
    """

    geometry: str
    adaptive: str
    scan: str
    role: str
    completer: str
    network: bool
    n_crops: int
    loss: float
    ratio_to_static: float | None
    ratio_to_static_ci95: Interval | None
    ratio_to_shared: float | None
    ratio_to_shared_ci95: Interval | None


@dataclass(frozen=True, eq=False)
class FactorialCell:
    """A cell before its ratios are taken.

    Attributes:
        adaptive: The adaptive scan whose table it is.
        role: "adaptive" or "best static".
        own: Losses of the cell.
        to_static: Them beside those of the best static scan.
        to_shared: Them beside those of the same scan by the shared generator.
    """

    adaptive: str
    role: str
    own: ScanLosses
    to_static: Paired | None
    to_shared: Paired | None


def factorial_cells(
    table: LossTable, best_static: Mapping[str, str], classical: Mapping[str, str]
) -> list[FactorialCell]:
    """The cells of every adaptive scan that has a generator of its own, in the order of the rows.

    Args:
        table: Losses by geometry, scan and completer.
        best_static: The best contiguous static scan of each geometry.
        classical: The best classical completer of each geometry.

    Returns:
        At most six cells for each geometry and adaptive scan; those that were not measured are left out.
    """
    adaptive = [key for key, one in table.items() if one.role == "adaptive" and key[2] == OWN]
    return [
        cell
        for geometry, scan, _ in adaptive
        if geometry in best_static
        for cell in _cells(table, geometry, scan, best_static[geometry], [SHARED, OWN, classical.get(geometry)])
    ]


def _cells(
    table: LossTable, geometry: str, adaptive: str, static: str, completers: Sequence[str | None]
) -> Iterator[FactorialCell]:
    for scan, role in ((adaptive, "adaptive"), (static, "best static")):
        for completer in completers:
            own = table.get((geometry, scan, completer or ""))
            if own is not None:
                to_static = table.get((geometry, static, own.completer))
                to_shared = table.get((geometry, scan, SHARED))
                yield FactorialCell(adaptive, role, own, _paired(own, to_static), _paired(own, to_shared))


def _paired(first: ScanLosses, second: ScanLosses | None) -> Paired | None:
    return None if second is None else common_crops(first, second)


def factorial_row(
    cell: FactorialCell,
    to_static: tuple[float | None, Interval | None],
    to_shared: tuple[float | None, Interval | None],
) -> FactorialRow:
    """A cell with its ratios and their intervals."""
    return FactorialRow(
        cell.own.geometry,
        cell.adaptive,
        cell.own.scan,
        cell.role,
        cell.own.completer,
        cell.own.completer in (SHARED, OWN),
        len(cell.own.losses),
        cell.own.mean,
        *to_static,
        *to_shared,
    )
