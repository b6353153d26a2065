"""What becomes of a scan: measured on every crop, completed, scored crop by crop, and summed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adaptive_scan.acquisition import Instrument, ScanCosts, scan_costs
from adaptive_scan.evaluation import metrics
from adaptive_scan.evaluation.contenders import Contender, Measurement, measure
from adaptive_scan.evaluation.content import sparsity
from adaptive_scan.evaluation.crops import CutCrops
from adaptive_scan.evaluation.resolution import frc_cutoff, ring_sums
from adaptive_scan.evaluation.results import COST_COLUMNS, METRIC_COLUMNS, SCHEMA, Sums
from adaptive_scan.evaluation.systematic_errors import path_bins
from adaptive_scan.evaluation.truth import TRUTH_METRICS, truth_metrics
from adaptive_scan.scans import ScanGeometry, coverage
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
) -> Measurement:
    """Scan every crop once, in batches of a fixed size.

    Args:
        contender: What scans.
        cut: The crops, and the targets that only an oracle sees.
        geometry: Fixes the dose.
        instrument: What all scans go through.
        seed: Of random paths and of the instrument.
        stream: Which random numbers of the seed; `adaptive_scan.evaluation.contenders.VALIDATION` for crops that
            something is chosen on.
    """
    parts = [
        measure(
            contender,
            cut.crops[begin : begin + N_AT_ONCE],
            geometry,
            first_crop=begin,
            acquisition=instrument,
            seed=seed,
            stream=stream,
            targets=cut.targets[begin : begin + N_AT_ONCE],
        )
        for begin in range(0, len(cut), N_AT_ONCE)
    ]
    return Measurement(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def cost_columns(
    positions: np.ndarray, instrument: Instrument, image_size: int, costs: ScanCosts | None = None
) -> dict[str, np.ndarray]:
    """The columns `COST_COLUMNS` of scans, float64, shape (n_scans,) each.

    Args:
        positions: Where the probe was sent [px], shape (n_scans, n_positions, 2).
        instrument: Fixes dwell time, exposure and timing.
        image_size: Side S of the field [px].
        costs: What the scans cost, where that is not what the instrument says of the positions.

    Example:
        >>> from adaptive_scan.acquisition import make_instrument
        >>> costs = cost_columns(np.array([[[0.0, 0.0], [0.0, 3.0]]]), make_instrument("ideal"), 4)
        >>> costs["coverage"].tolist(), costs["path_length"].tolist()
        ([0.125], [3.0])
    """
    costs = scan_costs(positions, instrument) if costs is None else costs
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


def metric_columns(completions: np.ndarray, masks: np.ndarray, cut: CutCrops) -> dict[str, np.ndarray]:
    """The columns `METRIC_COLUMNS` of completions, float64, shape (n_crops,) each.

    Args:
        completions: Shape (n_crops, S, S).
        masks: Nonzero where a pixel was measured, the same shape.
        cut: The crops, their targets and what is known of them.
    """
    targets = cut.targets
    found = {
        "loss": metrics.loss(completions, targets),
        "rmse": metrics.rmse(completions, targets),
        "psnr": metrics.psnr(completions, targets),
        "ssim": metrics.ssim(completions, targets),
        "rmse_measured": metrics.rmse_measured(completions, targets, masks),
        "rmse_unmeasured": metrics.rmse_unmeasured(completions, targets, masks),
        "frc_cutoff": frc_cutoff(completions, targets),
        **truth_columns(completions, cut.truths),
    }
    return {name: np.asarray(found[name], np.float64) for name in METRIC_COLUMNS}


def truth_columns(completions: np.ndarray, truths: Sequence[Truth | None]) -> dict[str, np.ndarray]:
    """What `adaptive_scan.evaluation.truth.truth_metrics` finds; NaN for crops of which nothing is known.

    Args:
        completions: Shape (n_crops, S, S).
        truths: What is known of each crop.
    """
    known = {place: truth for place, truth in enumerate(truths) if truth is not None}
    columns = {name: np.full(len(truths), np.nan) for name in TRUTH_METRICS}
    if known:
        places = list(known)
        for name, values in truth_metrics(completions[places], list(known.values())).items():
            columns[name][places] = values
    return columns


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
    names: RowNames, cut: CutCrops, completions: np.ndarray, masks: np.ndarray, costs: Mapping[str, np.ndarray]
) -> pa.Table:
    """One row for each crop, with the columns of `SCHEMA`.

    Args:
        names: What names the rows.
        cut: The crops, in order.
        completions: Shape (n_crops, S, S).
        masks: Nonzero where a pixel was measured, the same shape.
        costs: The columns `COST_COLUMNS`.
    """
    corners = [(None, None)] * len(cut) if cut.corners is None else cut.corners.tolist()
    columns = {
        **{name: [value] * len(cut) for name, value in vars(names).items()},
        "crop": range(len(cut)),
        "micrograph": cut.micrographs,
        "group": cut.groups,
        "row": [row for row, _ in corners],
        "column": [column for _, column in corners],
        "content": cut.content,
        "sparsity": sparsity(cut.targets),
        **metric_columns(completions, masks, cut),
        **costs,
    }
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in SCHEMA}, schema=SCHEMA)


def make_sums(positions: np.ndarray, completions: np.ndarray, masks: np.ndarray, targets: np.ndarray) -> Sums:
    """What maps and curves are made from, over all crops.

    Args:
        positions: Where the probe was sent [px], shape (n_crops, n_positions, 2).
        completions: Shape (n_crops, S, S).
        masks: Nonzero where a pixel was measured, the same shape.
        targets: What the completions should be, the same shape.
    """
    size = targets.shape[-1]
    squared = np.subtract(completions, targets, dtype=np.float64) ** 2
    bins = path_bins(masks).ravel()
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
