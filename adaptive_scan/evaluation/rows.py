"""What becomes of a scan: measured on every crop, completed, scored crop by crop, and summed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adaptive_scan.acquisition import Instrument, ScanCosts, scan_costs
from adaptive_scan.evaluation import metrics
from adaptive_scan.evaluation.contenders import Contender, Measurement, measure
from adaptive_scan.evaluation.crops import CutCrops
from adaptive_scan.evaluation.resolution import frc_cutoff, ring_sums
from adaptive_scan.evaluation.results import COST_COLUMNS, METRIC_COLUMNS, SCHEMA, Sums
from adaptive_scan.evaluation.systematic_errors import path_bins
from adaptive_scan.evaluation.truth import TRUTH_METRICS, truth_metrics
from adaptive_scan.scans import ScanGeometry, coverage, partial_scans
from adaptive_scan.specimens import Truth

N_AT_ONCE = 256
"""Crops scanned and completed at once; another number may change the last bits of a network's answer."""


def measure_all(
    contender: Contender,
    cut: CutCrops,
    geometry: ScanGeometry,
    instrument: Instrument,
    seed: int,
    *,
    stream: int = 0,
    batch_size: int = N_AT_ONCE,
) -> Measurement:
    """Scan every crop once, in batches of a fixed size.

    Args:
        contender: What scans.
        cut: The crops, and the targets that only an oracle sees.
        geometry: Fixes the number of positions.
        instrument: What all scans go through.
        seed: Of random paths and of the instrument.
        stream: Which random numbers of the seed; `adaptive_scan.evaluation.contenders.VALIDATION` for crops that
            something is chosen on.
        batch_size: Crops scanned at once; the faults that they meet depend on it.

    Returns:
        Positions and values of all crops, in their order.

    Raises:
        ValueError: As `adaptive_scan.evaluation.contenders.measure`.
    """
    parts = [
        measure(
            contender,
            cut.crops[begin : begin + batch_size],
            geometry,
            first_crop=begin,
            acquisition=instrument,
            seed=seed,
            stream=stream,
            targets=cut.targets[begin : begin + batch_size],
        )
        for begin in range(0, len(cut), batch_size)
    ]
    return Measurement(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def example_crops(losses: np.ndarray, n_examples: int) -> np.ndarray:
    """Crops at evenly spaced quantiles of the loss, in its order; the very extremes are left out.

    Args:
        losses: Loss of each crop, shape (n_crops,).
        n_examples: How many are wanted; there are no more than crops.

    Returns:
        Indices of the crops, int64, shape (n_chosen,).

    Example:
        >>> example_crops(np.array([0.4, 0.1, 0.3, 0.2]), 2).tolist()
        [3, 0]
    """
    n_chosen = min(max(n_examples, 0), len(losses))
    quantiles = (np.arange(n_chosen) + 0.5) / max(n_chosen, 1)
    return np.argsort(losses, kind="stable")[(quantiles * len(losses)).astype(np.int64)]


@dataclass(frozen=True)
class RowNames:
    """What names the rows of a part.

    Attributes:
        seed: The seed.
        geometry: Name of the geometry.
        scan: Name of the scan.
        completer: Name of the completer.
        role: One of `adaptive_scan.evaluation.results.ROLES`.
        contiguous: Whether the probe moves from each position to one nearby.
    """

    seed: int
    geometry: str
    scan: str
    completer: str
    role: str
    contiguous: bool


def make_rows(
    names: RowNames,
    cut: CutCrops,
    positions: np.ndarray,
    completions: np.ndarray,
    instrument: Instrument,
    costs: ScanCosts | None = None,
) -> pa.Table:
    """One row for each crop, with the columns of `SCHEMA`.

    Args:
        names: What names the rows.
        cut: The crops, in order.
        positions: Where the probe was sent [px], shape (n_crops, n_positions, 2).
        completions: Shape (n_crops, S, S).
        instrument: Fixes dwell time, exposure and timing.
        costs: What the scans cost, where that is not what the instrument says of the positions.

    Returns:
        The table, n_crops rows.

    Example:
        >>> from adaptive_scan.acquisition import make_instrument
        >>> crops = np.zeros((1, 8, 8), np.float32)
        >>> cut = CutCrops(crops, crops, ["m"], ["g"], None, ["other"], [None])
        >>> names = RowNames(0, "2/64", "line", "none", "static", contiguous=True)
        >>> positions = np.array([[[0.0, 0.0], [0.0, 4.0]]])
        >>> rows = make_rows(names, cut, positions, crops + 0.1, make_instrument("ideal"))
        >>> round(rows["loss"][0].as_py(), 6), rows["coverage"][0].as_py(), rows["path_length"][0].as_py()
        (0.1, 0.03125, 4.0)
    """
    corners = [(None, None)] * len(cut) if cut.corners is None else cut.corners.tolist()
    size = cut.targets.shape[-1]
    spent = scan_costs(positions, instrument) if costs is None else costs
    columns = {
        **{name: [value] * len(cut) for name, value in vars(names).items()},
        "crop": range(len(cut)),
        "micrograph": cut.micrographs,
        "group": cut.groups,
        "row": [row for row, _ in corners],
        "column": [column for _, column in corners],
        "content": cut.content,
        "sparsity": cut.sparsity,
        **_metric_columns(completions, _masks(positions, size), cut),
        **_cost_columns(positions, size, spent),
    }
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in SCHEMA}, schema=SCHEMA)


def _masks(positions: np.ndarray, image_size: int) -> np.ndarray:
    """1 where a pixel was measured, shape (n_scans, S, S)."""
    return partial_scans(np.zeros(positions.shape[:2]), positions, image_size)[:, 1]


def _cost_columns(positions: np.ndarray, image_size: int, costs: ScanCosts) -> dict[str, np.ndarray]:
    """The columns `COST_COLUMNS`, float64, shape (n_scans,) each."""
    found = {
        "n_positions": costs.n_positions,
        "electrons": costs.electrons,
        "coverage": coverage(positions, image_size),
        "path_length": costs.path_length,
        "scan_time": costs.time,
        "largest_turn": costs.largest_turn,
        "largest_acceleration": costs.largest_acceleration,
    }
    return {name: np.asarray(found[name], np.float64) for name in COST_COLUMNS}


def _metric_columns(completions: np.ndarray, masks: np.ndarray, cut: CutCrops) -> dict[str, np.ndarray]:
    """The columns `METRIC_COLUMNS`, float64, shape (n_crops,) each; in batches, which bounds the memory."""
    parts = []
    for begin in range(0, len(cut), N_AT_ONCE):
        batch = slice(begin, begin + N_AT_ONCE)
        pictures = completions[batch], cut.targets[batch]
        parts.append(
            {
                "loss": metrics.loss(*pictures),
                "rmse": metrics.rmse(*pictures),
                "psnr": metrics.psnr(*pictures),
                "ssim": metrics.ssim(*pictures),
                "rmse_measured": metrics.rmse_measured(*pictures, masks[batch]),
                "rmse_unmeasured": metrics.rmse_unmeasured(*pictures, masks[batch]),
                "frc_cutoff": frc_cutoff(*pictures),
                **_truth_columns(completions[batch], cut.truths[batch]),
            }
        )
    return {name: np.concatenate([np.asarray(part[name], np.float64) for part in parts]) for name in METRIC_COLUMNS}


def _truth_columns(completions: np.ndarray, truths: Sequence[Truth | None]) -> dict[str, np.ndarray]:
    """What `adaptive_scan.evaluation.truth.truth_metrics` finds; NaN for crops of which nothing is known."""
    known = {place: truth for place, truth in enumerate(truths) if truth is not None}
    columns = {name: np.full(len(truths), np.nan) for name in TRUTH_METRICS}
    if known:
        places = list(known)
        for name, values in truth_metrics(completions[places], list(known.values())).items():
            columns[name][places] = values
    return columns


def make_sums(positions: np.ndarray, completions: np.ndarray, targets: np.ndarray) -> Sums:
    """What maps and curves are made from, over all crops.

    Args:
        positions: Where the probe was sent [px], shape (n_crops, n_positions, 2).
        completions: Shape (n_crops, S, S).
        targets: What the completions should be, the same shape.
    """
    size = targets.shape[-1]
    squared = np.subtract(completions, targets, dtype=np.float64) ** 2
    bins = path_bins(_masks(positions, size)).ravel()
    # No distance in the field is longer than its diagonal, and a mask with no measured pixel has S.
    n_bins = max(int(np.ceil(np.sqrt(2) * (size - 1))), size) + 1
    pixels = np.clip(np.floor(positions.reshape(-1, 2) + 0.5), 0, size - 1).astype(np.int64)
    rings = ring_sums(completions, targets)
    return Sums(
        n_crops=len(targets),
        squared_error=squared.sum(axis=0),
        distance_squared_error=np.bincount(bins, squared.ravel(), n_bins),
        distance_pixels=np.bincount(bins, minlength=n_bins).astype(np.float64),
        visits=np.bincount(pixels @ [size, 1], minlength=size**2).reshape(size, size).astype(np.float64),
        frc_cross=rings.cross,
        frc_completion=rings.power_completion,
        frc_target=rings.power_target,
    )
