"""Scans side by side: the same crops, the same number of positions, the same completers.

`compare_scans` measures every crop with every contender, completes what each measured with every completer, and keeps
one row for each scan, completer and crop, as a benchmark of one seed does (`adaptive_scan.evaluation.results`). Ratios
and win rates compare a scan with the reference scan completed by the same completer, crop by crop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from adaptive_scan.acquisition import Acquisition, Instrument, as_instrument
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.contenders import Contender, Measurement, Policy, static_contenders
from adaptive_scan.evaluation.crops import CutCrops
from adaptive_scan.evaluation.results import names, select
from adaptive_scan.evaluation.rows import N_AT_ONCE, RowNames, example_crops, make_rows, measure_all
from adaptive_scan.evaluation.statistics import bootstrap_ratio, ratio_of_means, win_rate
from adaptive_scan.generators import Completer, complete, make_completer
from adaptive_scan.micrographs import blur_target
from adaptive_scan.scans import ScanGeometry, partial_scans

DEFAULT_SCANS = ("spiral", "raster", "grid", "random")
"""Static scans that are compared when no others are named."""

METRICS = (
    *("loss", "rmse", "psnr", "ssim", "coverage", "path_length"),
    *("n_positions", "electrons", "scan_time", "largest_turn", "largest_acceleration"),
)
"""Columns of the rows that summaries are made of and ``comparison.csv`` holds."""

_RANGE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class LossRatio:
    """Losses of a scan beside those of another, crop by crop.

    Attributes:
        ratio: Mean loss over the other's; None if that is 0.
        ratio_ci95: 95% interval of the ratio, bootstrapped over micrographs; None if there is none.
        win_rate: Fraction of crops with a lower loss than the other's, ties counted half.
    """

    ratio: float | None
    ratio_ci95: tuple[float, float] | None
    win_rate: float


@dataclass(frozen=True)
class ScanSummary:
    """One scan with one completer, over all crops.

    Attributes:
        scan: Name of the contender.
        completer: Name of the completer.
        loss_mean: Mean of the loss, 10 MSE on [-1, 1].
        loss_std: Standard deviation of the loss over the crops (population form, 0 for a single crop).
        rmse_mean: Mean RMSE on [0, 1].
        psnr_mean: Mean PSNR [dB].
        ssim_mean: Mean SSIM.
        coverage_mean: Mean fraction of the pixels that were measured.
        ratio_to_reference: Mean loss over that of the reference scan with this completer; None if that is 0.
        ratio_ci95: 95% interval of the ratio, bootstrapped over micrographs; None if there is none.
        win_rate: Fraction of crops with a lower loss than the reference's, ties counted half.
        path_length_mean: Mean length of the probe's way through all positions [px].
        contiguous: Whether the probe moves from each position to one nearby.
        n_positions_mean: Mean number of positions.
        electrons_mean: Mean number of electrons of the beam; None without a limit of the dose.
        scan_time_mean: Mean time of the scan, flybacks and settling included [s].
        largest_turn_mean: Mean of the largest turns [rad].
        largest_acceleration_mean: Mean of the largest accelerations asked of the deflectors [px/s^2].
        second: The scan beside the second reference; None where that takes no part.
    """

    scan: str
    completer: str
    loss_mean: float
    loss_std: float
    rmse_mean: float
    psnr_mean: float
    ssim_mean: float
    coverage_mean: float
    ratio_to_reference: float | None
    ratio_ci95: tuple[float, float] | None
    win_rate: float
    path_length_mean: float
    contiguous: bool
    n_positions_mean: float
    electrons_mean: float | None
    scan_time_mean: float
    largest_turn_mean: float
    largest_acceleration_mean: float
    second: LossRatio | None = None

    def as_dict(self, reference: str, second_reference: str | None = None) -> dict[str, Any]:
        """The row as it stands in ``comparison.json``, where ratios carry the names of the reference scans."""
        ratio_name = {"ratio_to_reference": f"ratio_to_{reference}"}
        row = {ratio_name.get(name, name): value for name, value in asdict(self).items() if name != "second"}
        if second_reference is None:
            return row
        ratio = f"ratio_to_{second_reference}"
        names = {ratio: "ratio", f"{ratio}_ci95": "ratio_ci95", f"win_rate_to_{second_reference}": "win_rate"}
        return row | {key: getattr(self.second, name, None) for key, name in names.items()}


@dataclass(frozen=True)
class Examples:
    """A few crops with everything a figure needs, spread over the quantiles of the reference scan's loss.

    Attributes:
        indices: Their indices among all crops, from the lowest loss to the highest, shape ``(n_examples,)``.
        crops: Shape ``(n_examples, S, S)``, in [-1, 1].
        targets: What completions are compared with, the same shape.
        positions: By scan, probing positions [px], shape ``(n_examples, n_positions, 2)``.
        completions: By scan and completer, shape ``(n_examples, S, S)``.
    """

    indices: np.ndarray
    crops: np.ndarray
    targets: np.ndarray
    positions: dict[str, np.ndarray]
    completions: dict[tuple[str, str], np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """All that `compare_scans` found.

    Attributes:
        table: One row for each scan, completer and crop, in this order, with the columns of
            `adaptive_scan.evaluation.results.SCHEMA`.
        summaries: One per scan and completer, in the same order.
        examples: Crops for figures.
        n_positions: Number of positions of every scan.
        image_size: Side of the crops [px].
        reference: Scan that ratios refer to.
        second_reference: Scan that further ratios refer to, or None.
        policies: Names of the contenders that are policies.
    """

    table: pa.Table
    summaries: list[ScanSummary]
    examples: Examples
    n_positions: int
    image_size: int
    reference: str
    second_reference: str | None
    policies: tuple[str, ...]

    @property
    def n_crops(self) -> int:
        """Number of crops."""
        return len(self.table) // len(self.summaries)

    @property
    def n_micrographs(self) -> int:
        """Number of micrographs that the crops come from."""
        return len(names(self.table, "micrograph"))

    @property
    def n_groups(self) -> int:
        """Number of units that the bootstrap resampled."""
        return len(names(self.table, "group"))

    @property
    def scans(self) -> list[str]:
        """Names of the contenders, in order."""
        return names(self.table, "scan")

    @property
    def completers(self) -> list[str]:
        """Names of the completers, in order."""
        return names(self.table, "completer")

    def rows(self, scan: str, completer: str) -> dict[str, np.ndarray]:
        """The table's columns for one scan and completer, in the order of the crops, shape ``(n_crops,)`` each.

        Raises:
            KeyError: If there is no such scan or completer.
        """
        rows = select(self.table, scan=scan, completer=completer)
        return {name: rows[name].to_numpy() for name in rows.column_names}

    def summary(self, scan: str, completer: str) -> ScanSummary:
        """The summary of one scan with one completer.

        Raises:
            KeyError: If there is no such scan or completer.
        """
        for summary in self.summaries:
            if (summary.scan, summary.completer) == (scan, completer):
                return summary
        raise KeyError(f"got no summary of scan {scan!r} with completer {completer!r}")

    def as_dict(self) -> dict[str, Any]:
        """The content of ``comparison.json``; every number in it is finite."""
        return {
            "n_crops": self.n_crops,
            "n_micrographs": self.n_micrographs,
            "n_groups": self.n_groups,
            "image_size": self.image_size,
            "n_positions": self.n_positions,
            "dose": self.n_positions,  # the name until 0.1, to be left out in 0.3
            "reference": self.reference,
            "rows": [summary.as_dict(self.reference, self.second_reference) for summary in self.summaries],
        }


def compare_scans(
    crops: np.ndarray,
    micrograph_ids: Sequence[str] | Sequence[int] | np.ndarray | None = None,
    contenders: Sequence[Contender] | None = None,
    completers: Mapping[str, Completer] | None = None,
    *,
    policies: Mapping[str, Policy] | None = None,
    geometry: ScanGeometry | None = None,
    acquisition: Instrument | Acquisition | str | None = None,
    reference: str = "spiral",
    second_reference: str | None = None,
    groups: Sequence[str] | Sequence[int] | np.ndarray | None = None,
    corners: np.ndarray | None = None,
    blur_targets: bool = True,
    n_resamples: int = 4000,
    n_examples: int = 4,
    batch_size: int = N_AT_ONCE,
    seed: int = 0,
    progress: bool = False,
) -> Comparison:
    """Compare scans of the same crops at equal dose.

    Args:
        crops: Shape ``(n_crops, S, S)``, in [-1, 1].
        micrograph_ids: Micrograph of each crop, numbers or names; None makes each crop a micrograph of its
            own.
        contenders: What is compared; None is the `DEFAULT_SCANS`.
        completers: By name; None is linear interpolation. Networks run in evaluation mode. Examples are
            chosen with the first.
        policies: Further contenders by name, run in the environment with its default settings. A policy that
            needs others is a `Contender` with ``environment``.
        geometry: Fixes the number of positions; None is the default geometry for crops of this size.
        acquisition: The instrument that all scans go through, or a preset's name; None is the ideal one.
        reference: Contender that ratios and win rates refer to.
        second_reference: Contender that further ratios and win rates refer to; where it takes no part, there are none.
        groups: Units that the bootstrap resamples, such as specimens, shape ``(n_crops,)``; None is the
            micrographs.
        corners: Row and column of each crop in its micrograph, shape ``(n_crops, 2)``, for the table.
        blur_targets: Whether targets are the crops after the 5x5 Gaussian, as in training.
        n_resamples: Resamples of the bootstrap.
        n_examples: Crops kept for figures, at most.
        batch_size: Crops scanned and completed at once.
        seed: Of random paths, environments, instrument and bootstrap; the same seed gives the same
            comparison.
        progress: Whether to show a progress bar.

    Returns:
        Rows, summaries and examples.

    Raises:
        SettingError: If names do not fit, a contender measures more or fewer positions than all, or a completer's
            answer has a wrong shape or is not finite.
        ValueError: If crops or what there is one of for each do not fit.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> comparison = compare_scans(rng.uniform(-1, 1, (3, 32, 32)), geometry=ScanGeometry(32, 5, 10))
        >>> comparison.n_positions, comparison.summary("spiral", "linear").ratio_to_reference
        (50, 1.0)
    """
    crops = _checked_crops(crops)
    geometry = ScanGeometry(image_size=crops.shape[-1]) if geometry is None else geometry
    field = list(static_contenders(DEFAULT_SCANS) if contenders is None else contenders)
    field += [Contender(name, policy=policy) for name, policy in (policies or {}).items()]
    judges = {"linear": make_completer("linear")} if completers is None else dict(completers)
    _check_field(field, judges, reference, crops, geometry)
    micrographs = _per_crop("micrograph_ids", micrograph_ids, len(crops)).astype(str)
    units = micrographs if groups is None else _per_crop("groups", groups, len(crops))
    cut = CutCrops(
        crops=crops,
        targets=blur_target(crops) if blur_targets else crops,
        micrographs=micrographs.tolist(),
        groups=units.astype(str).tolist(),
        corners=None if corners is None else _per_crop("corners", corners, len(crops)),
        content=["other"] * len(crops),
        truths=[None] * len(crops),
    )
    scored = _Scored(cut, judges, geometry, as_instrument(acquisition), batch_size, seed)
    # The reference goes first, because the examples are spread over its losses and no one else's.
    order = sorted(field, key=lambda contender: contender.name != reference)
    for contender in tqdm(order, desc="comparing", unit="scan", disable=not progress):
        scored.add(contender, n_examples)

    pairing = _Pairing(units, n_resamples, seed)
    table = pa.concat_tables([scored.rows[contender.name, name] for contender in field for name in judges])
    return Comparison(
        table=table,
        summaries=[
            _summarise(scored.rows, (contender.name, name), (reference, second_reference), pairing)
            for contender in field
            for name in judges
        ],
        examples=scored.examples,
        n_positions=geometry.n_positions_total,
        image_size=geometry.image_size,
        reference=reference,
        second_reference=second_reference,
        policies=tuple(contender.name for contender in field if contender.policy is not None),
    )


def _checked_crops(crops: np.ndarray) -> np.ndarray:
    checked = np.ascontiguousarray(crops, dtype=np.float32)
    if checked.ndim != 3 or checked.shape[1] != checked.shape[2] or len(checked) == 0:
        raise ValueError(f"crops: got shape {checked.shape}; expected (n_crops, S, S) with at least one crop")
    lowest, highest = float(checked.min()), float(checked.max())
    if not (lowest >= -1 - _RANGE_TOLERANCE and highest <= 1 + _RANGE_TOLERANCE):
        raise ValueError(f"crops: got values in [{lowest:g}, {highest:g}]; expected them in [-1, 1]")
    return checked


def _check_field(
    field: Sequence[Contender],
    completers: Mapping[str, Completer],
    reference: str,
    crops: np.ndarray,
    geometry: ScanGeometry,
) -> None:
    names = [contender.name for contender in field]
    if len(set(names)) != len(names):
        raise SettingError(f"contenders: got {names}; expected different names")
    if reference not in names:
        raise SettingError(f"reference: got {reference!r}; expected one of the contenders, {names}")
    if not completers:
        raise SettingError("completers: got none; expected at least one")
    if geometry.image_size != crops.shape[-1]:
        raise ValueError(f"geometry: got {geometry.image_size} px for crops of {crops.shape[-1]} px; expected the same")


def _per_crop(what: str, values: Any, n_crops: int) -> np.ndarray:
    """Whatever there is one of for each crop, as an array; the crops' own indices where nothing is given."""
    array = np.arange(n_crops) if values is None else np.asarray(values)
    if len(array) != n_crops:
        raise ValueError(f"{what}: got {len(array)}; expected one for each of {n_crops} crops")
    return array


class _Scored:
    """Rows by scan and completer, and examples, of the contenders added so far."""

    def __init__(
        self,
        cut: CutCrops,
        completers: Mapping[str, Completer],
        geometry: ScanGeometry,
        instrument: Instrument,
        batch_size: int,
        seed: int,
    ) -> None:
        self._cut = cut
        self._completers = completers
        self._geometry = geometry
        self._instrument = instrument
        self._batch_size = batch_size
        self._seed = seed
        self.rows: dict[tuple[str, str], pa.Table] = {}
        self.examples = Examples(np.empty(0, np.int64), cut.crops[:0], cut.targets[:0], {}, {})

    def add(self, contender: Contender, n_examples: int) -> None:
        """Measure, complete and score; the first contender's losses with the first completer choose the examples."""
        cut, batch_size = self._cut, self._batch_size
        measured = measure_all(contender, cut, self._geometry, self._instrument, self._seed, batch_size=batch_size)
        for name in self._completers:
            names = RowNames(
                seed=self._seed,
                geometry=f"{self._geometry.n_positions_total} positions",
                scan=contender.name,
                completer=name,
                role=contender.effective_role,
                contiguous=contender.contiguous,
            )
            completions = self._complete(name, measured)
            rows = make_rows(names, cut, measured.positions, completions, self._instrument)
            if not self.rows:
                chosen = example_crops(rows["loss"].to_numpy(), n_examples)
                self.examples = Examples(chosen, cut.crops[chosen], cut.targets[chosen], {}, {})
            self.rows[contender.name, name] = rows
        few = Measurement(*(array[self.examples.indices] for array in measured))
        self.examples.positions[contender.name] = few.positions
        for name in self._completers:
            self.examples.completions[contender.name, name] = self._complete(name, few)

    def _complete(self, completer: str, measured: Measurement) -> np.ndarray:
        """Completions of measurements, shape ``(n_scans, S, S)``."""
        size = self._geometry.image_size
        if len(measured.values) == 0:
            return np.empty((0, size, size), np.float32)
        partial = partial_scans(measured.values, measured.positions, size)
        return complete(self._completers[completer], partial, batch_size=self._batch_size, name=completer)[:, 0]


@dataclass(frozen=True)
class _Pairing:
    """How losses are set beside those of another scan."""

    units: np.ndarray
    n_resamples: int
    seed: int

    def pair(self, losses: np.ndarray, others: np.ndarray) -> LossRatio:
        # The same seed for all rows: all intervals then rest on the same draws of micrographs.
        rng = np.random.default_rng(self.seed)
        interval = bootstrap_ratio(losses, others, self.units, rng, n_resamples=self.n_resamples)
        return LossRatio(ratio_of_means(losses, others), interval, win_rate(losses, others))


def _summarise(
    rows: Mapping[tuple[str, str], pa.Table],
    key: tuple[str, str],
    references: tuple[str, str | None],
    pairing: _Pairing,
) -> ScanSummary:
    """What the rows of a scan and completer say, beside those of the references with the same completer."""
    own, completer = rows[key], key[1]
    means = {name: float(np.mean(own[name].to_numpy())) for name in METRICS}
    losses = own["loss"].to_numpy()

    def beside(scan: str | None) -> LossRatio | None:
        others = None if scan is None else rows.get((scan, completer))
        return None if others is None else pairing.pair(losses, others["loss"].to_numpy())

    first = beside(references[0])
    assert first is not None  # The reference is one of the contenders.
    return ScanSummary(
        scan=key[0],
        completer=completer,
        loss_mean=means["loss"],
        loss_std=float(np.std(losses)),
        rmse_mean=means["rmse"],
        psnr_mean=means["psnr"],
        ssim_mean=means["ssim"],
        coverage_mean=means["coverage"],
        ratio_to_reference=first.ratio,
        ratio_ci95=first.ratio_ci95,
        win_rate=first.win_rate,
        path_length_mean=means["path_length"],
        contiguous=own["contiguous"][0].as_py(),
        n_positions_mean=means["n_positions"],
        electrons_mean=means["electrons"] if math.isfinite(means["electrons"]) else None,
        scan_time_mean=means["scan_time"],
        largest_turn_mean=means["largest_turn"],
        largest_acceleration_mean=means["largest_acceleration"],
        second=beside(references[1]),
    )
