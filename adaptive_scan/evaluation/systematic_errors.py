"""Systematic errors of completions: by pixel, by distance from the path and from the edge, and by picture.

Of a completion C of a target X, both in [-1, 1], the error of a pixel is (C - X)². Everything here is a sum of such
errors over pixels, kept as it runs, so any number of pictures fits into memory. Root mean squared errors are on the
scale [0, 1], sqrt(mean) / 2. What is measured follows Ede and Beanland, Sci. Rep. 10 (2020) 8332, figures 5 and 6b (by
pixel and of whole pictures), and Ede, arXiv 1910.10467, figures 7 and 8 (by pixel and by distance from the edge).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from adaptive_scan.acquisition import Acquisition, Instrument
from adaptive_scan.evaluation.contenders import Contender, measure
from adaptive_scan.evaluation.statistics import group_resamples, percentile_ends
from adaptive_scan.generators import Completer, complete
from adaptive_scan.generators.distance import distance_to_measured
from adaptive_scan.micrographs import blur_target
from adaptive_scan.scans import ScanGeometry, partial_scans

HISTOGRAM_EDGES = np.linspace(0.0, 0.224, 101)
"""Edges of the histogram of pictures' RMSE on [0, 1]: those of figure 6b; larger errors are counted apart."""

N_RESAMPLES = 1000
"""Resamples of the bootstrap of a curve."""


class ErrorCurve(NamedTuple):
    """RMSE on [0, 1] of the pixels at each distance.

    Attributes:
        distances: Distances [px], whole numbers, shape ``(n_distances,)``; those that no pixel had are left out.
        n_pixels: Pixels at each of them, over all pictures.
        rmse: Their root mean squared error.
        low: Lower ends of its 95 % intervals over groups; NaN where there is none.
        high: Upper ends.
    """

    distances: np.ndarray
    n_pixels: np.ndarray
    rmse: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Crops(NamedTuple):
    """A batch of pictures.

    Attributes:
        crops: Shape ``(n_crops, S, S)``, in [-1, 1].
        groups: Group of each: what the bootstrap draws.
    """

    crops: np.ndarray
    groups: Sequence[str]


def path_bins(masks: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest measured one, rounded up to whole pixels.

    Bin 0 holds the measured pixels, and bin k those with k - 1 < distance <= k.

    Args:
        masks: Nonzero where a pixel was measured, shape ``(n_scans, S, S)``.

    Returns:
        Bins, int64, the same shape; S everywhere for a mask with no measured pixel.

    Example:
        >>> path_bins(np.array([[[1, 0], [0, 0]]])).tolist()
        [[[0, 1], [1, 2]]]
    """
    distances = distance_to_measured(torch.from_numpy(np.ascontiguousarray(masks))).numpy()
    found: np.ndarray = np.ceil(distances).astype(np.int64)
    return found


def edge_bins(image_size: int) -> np.ndarray:
    """Distance of each pixel to the nearest edge of the picture, 0 in the outermost rows and columns.

    Args:
        image_size: Side S [px].

    Returns:
        Distances [px], int64, shape ``(S, S)``.

    Example:
        >>> edge_bins(3).tolist()
        [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    """
    rows, columns = np.indices((image_size, image_size))
    inwards = np.minimum(rows, columns)
    found: np.ndarray = np.minimum(inwards, image_size - 1 - np.maximum(rows, columns))
    return found


class SystematicErrors:
    """Running sums of squared errors, for one completer and one scan.

    Args:
        image_size: Side S of the pictures [px].

    Attributes:
        n_pictures: Pictures added so far.
        squared: Sum of the squared errors at each pixel, on [-1, 1], shape ``(S, S)``.
        histogram: Pictures by their RMSE on [0, 1], between `HISTOGRAM_EDGES`; the last count is of larger errors.

    Example:
        >>> errors = SystematicErrors(4)
        >>> errors.add(np.full((1, 4, 4), 0.2), np.zeros((1, 4, 4)), np.ones((1, 4, 4)), ["a"])
        >>> round(errors.rmse, 6), round(float(errors.map[0, 0]), 6)
        (0.1, 0.1)
    """

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self.n_pictures = 0
        self.squared = np.zeros((image_size, image_size))
        self.histogram = np.zeros(len(HISTOGRAM_EDGES), np.int64)
        self._edge_bins = edge_bins(image_size)
        self._edge_counts = np.bincount(self._edge_bins.ravel())
        # No distance in the field is longer than its diagonal, and a mask with no measured pixel has S.
        self._n_path_bins = max(math.ceil(math.sqrt(2) * (image_size - 1)), image_size) + 1
        self._places: dict[str, int] = {}
        self._n_pictures: list[int] = []
        self._path_sums: list[np.ndarray] = []
        self._path_counts: list[np.ndarray] = []
        self._edge_sums: list[np.ndarray] = []

    def add(self, completions: np.ndarray, targets: np.ndarray, masks: np.ndarray, groups: Sequence[str]) -> None:
        """Add the errors of a batch.

        Args:
            completions: Shape ``(n_scans, S, S)``, in [-1, 1]; they are not clipped.
            targets: What they should be, the same shape.
            masks: Nonzero where a pixel was measured, the same shape.
            groups: Group of each scan's picture.

        Raises:
            ValueError: If a shape or the number of groups is another one.
        """
        shape = (len(groups), self.image_size, self.image_size)
        if not completions.shape == targets.shape == masks.shape == shape:
            found = f"{completions.shape}, {targets.shape} and {masks.shape}"
            raise ValueError(f"completions, targets and masks have shapes {found}; expected {shape}")
        squared = np.subtract(completions, targets, dtype=np.float64) ** 2
        self.n_pictures += len(squared)
        self.squared += squared.sum(axis=0)
        rmse = 0.5 * np.sqrt(squared.mean(axis=(1, 2)))
        places = np.searchsorted(HISTOGRAM_EDGES, rmse, side="right") - 1
        self.histogram += np.bincount(places, minlength=len(HISTOGRAM_EDGES))
        for error, bins, group in zip(squared, path_bins(masks), groups, strict=True):
            self._add_to_group(self._place(str(group)), error.ravel(), bins.ravel())

    def _place(self, group: str) -> int:
        if group not in self._places:
            self._places[group] = len(self._places)
            self._n_pictures.append(0)
            self._path_sums.append(np.zeros(self._n_path_bins))
            self._path_counts.append(np.zeros(self._n_path_bins))
            self._edge_sums.append(np.zeros(len(self._edge_counts)))
        return self._places[group]

    def _add_to_group(self, place: int, errors: np.ndarray, bins: np.ndarray) -> None:
        self._n_pictures[place] += 1
        self._path_sums[place] += np.bincount(bins, errors, self._n_path_bins)
        self._path_counts[place] += np.bincount(bins, minlength=self._n_path_bins)
        self._edge_sums[place] += np.bincount(self._edge_bins.ravel(), errors, len(self._edge_counts))

    @property
    def n_groups(self) -> int:
        """Groups that the pictures are of."""
        return len(self._places)

    @property
    def group_sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Sum of the squared errors of each group, and its number of pixels, both ``(n_groups,)``."""
        n_pixels = np.array(self._n_pictures, np.float64) * self.image_size**2
        return np.array(self._edge_sums).sum(axis=1), n_pixels

    @property
    def rmse(self) -> float:
        """Root mean squared error of all pixels, on [0, 1]."""
        self._require_some()
        return 0.5 * math.sqrt(self.squared.mean() / self.n_pictures)

    @property
    def map(self) -> np.ndarray:
        """Root mean squared error of each pixel over all pictures, on [0, 1], shape ``(S, S)``."""
        self._require_some()
        return 0.5 * np.sqrt(self.squared / self.n_pictures)

    def path_curve(self, rng: np.random.Generator, *, n_resamples: int = N_RESAMPLES) -> ErrorCurve:
        """Errors by distance from the nearest measured pixel, in the bins of :func:`path_bins`.

        Args:
            rng: Draws the resamples of the intervals.
            n_resamples: Number of resamples.
        """
        self._require_some()
        return _curve(np.array(self._path_sums), np.array(self._path_counts), rng, n_resamples)

    def edge_curve(self, rng: np.random.Generator, *, n_resamples: int = N_RESAMPLES) -> ErrorCurve:
        """Errors by distance from the nearest edge of the picture, 0 at the border.

        Args:
            rng: Draws the resamples of the intervals.
            n_resamples: Number of resamples.
        """
        self._require_some()
        counts = np.array(self._n_pictures, np.float64)[:, None] * self._edge_counts
        return _curve(np.array(self._edge_sums), counts, rng, n_resamples)

    def _require_some(self) -> None:
        if not self.n_pictures:
            raise ValueError("errors hold no picture; expected at least one")


def _curve(sums: np.ndarray, counts: np.ndarray, rng: np.random.Generator, n_resamples: int) -> ErrorCurve:
    """Curve from the sums of squared errors and numbers of pixels of each group, both ``(n_groups, n_bins)``."""
    totals = counts.sum(axis=0)
    present = np.flatnonzero(totals)
    rmse = 0.5 * np.sqrt(sums.sum(axis=0)[present] / totals[present])
    low, high = resampled_rmse(sums[:, present], counts[:, present], rng, n_resamples=n_resamples)
    return ErrorCurve(present, totals[present].astype(np.int64), rmse, low, high)


def resampled_rmse(
    sums: np.ndarray,
    counts: np.ndarray,
    rng: np.random.Generator,
    *,
    n_resamples: int = N_RESAMPLES,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of 0.5 sqrt(sum of errors / number of pixels), by a bootstrap over groups, for many bins at once.

    What :func:`~adaptive_scan.evaluation.statistics.bootstrap_ratio` does, with the same resamples for every bin.

    Args:
        sums: Sums of squared errors on [-1, 1], shape ``(n_groups, n_bins)``.
        counts: Numbers of pixels, the same shape.
        rng: Draws the resamples.
        n_resamples: Number of resamples.
        confidence: Nominal coverage of the intervals.

    Returns:
        Lower and upper ends on [0, 1], both ``(n_bins,)``; NaN with a single group, and where some resample has no
        pixel.

    Example:
        >>> sums, counts = np.array([[0.04], [0.16]]), np.array([[1.0], [1.0]])
        >>> low, high = resampled_rmse(sums, counts, np.random.default_rng(0))
        >>> low.round(6).tolist(), high.round(6).tolist()
        ([0.1], [0.2])
    """
    n_groups, n_bins = sums.shape
    if n_groups < 2:
        return np.full(n_bins, np.nan), np.full(n_bins, np.nan)
    means = []
    for drawn in group_resamples(n_groups, n_resamples, rng):
        n_pixels = drawn @ counts
        means.append(np.divide(drawn @ sums, n_pixels, out=np.full(n_pixels.shape, np.nan), where=n_pixels > 0))
    low, high = percentile_ends(0.5 * np.sqrt(np.concatenate(means)), confidence)
    return low, high


@dataclass(frozen=True)
class Measured:
    """What is measured together: a scan and a completer.

    Attributes:
        scan: Name of the scan.
        completer: Name of the completer.

    Example:
        >>> Measured("spiral", "linear").label
        'spiral, linear'
    """

    scan: str
    completer: str

    @property
    def label(self) -> str:
        """What figures and tables call it."""
        return f"{self.scan}, {self.completer}"


def measure_errors(
    batches: Iterable[Crops],
    contenders: Sequence[Contender],
    completers: Mapping[str, Completer],
    geometry: ScanGeometry,
    *,
    blur_targets: bool = True,
    acquisition: Instrument | Acquisition | str | None = None,
    seed: int = 0,
) -> dict[Measured, SystematicErrors]:
    """Scan and complete pictures, batch by batch, and sum up the errors of each scan and completer.

    Args:
        batches: The pictures.
        contenders: The scans.
        completers: By name; networks run in evaluation mode, where they are.
        geometry: Fixes field and number of positions.
        blur_targets: Whether targets are the crops after the 5x5 Gaussian.
        acquisition: The instrument that all scans go through, or a preset's name; None is the ideal one.
        seed: Of random scans and of the instrument.

    Returns:
        Sums by scan and completer, in that order.

    Raises:
        SettingError: If a scan has another number of positions than the geometry, or a completion another shape than
            its target or values that are not finite.

    Example:
        >>> from adaptive_scan.evaluation import static_contenders
        >>> from adaptive_scan.generators import NearestCompleter
        >>> crops = Crops(np.zeros((2, 16, 16), np.float32), ["a", "b"])
        >>> found = measure_errors(
        ...     [crops], static_contenders(["spiral"]), {"nearest": NearestCompleter()}, ScanGeometry(16, 4, 4)
        ... )
        >>> {key.label: errors.rmse for key, errors in found.items()}
        {'spiral, nearest': 0.0}
    """
    keys = [Measured(scan.name, name) for scan in contenders for name in completers]
    found = {key: SystematicErrors(geometry.image_size) for key in keys}
    first = 0
    for crops, groups in batches:
        targets = blur_target(crops) if blur_targets else crops
        for scan in contenders:
            positions, values = measure(
                scan, crops, geometry, first_crop=first, acquisition=acquisition, seed=seed, targets=targets
            )
            partial = partial_scans(values, positions, geometry.image_size)
            for name, completer in completers.items():
                completions = complete(completer, partial, name=name)[:, 0]
                found[Measured(scan.name, name)].add(completions, targets, partial[:, 1], groups)
        first += len(crops)
    return found


def summary(errors: SystematicErrors, rng: np.random.Generator) -> dict[str, Any]:
    """Everything but the map as plain values for JSON.

    Args:
        errors: The sums.
        rng: Draws the resamples of the intervals.

    Returns:
        Numbers of pictures and groups, RMSE with its interval, the two curves and the histogram. Missing ends of
        intervals are None.

    Example:
        >>> errors = SystematicErrors(4)
        >>> errors.add(np.full((1, 4, 4), 0.2), np.zeros((1, 4, 4)), np.ones((1, 4, 4)), ["a"])
        >>> round(summary(errors, np.random.default_rng(0))["path"]["rmse"][0], 6)
        0.1
    """
    sums, counts = errors.group_sums
    low, high = resampled_rmse(sums[:, None], counts[:, None], rng)
    return {
        "n_pictures": errors.n_pictures,
        "n_groups": errors.n_groups,
        "rmse": errors.rmse,
        "interval": None if np.isnan(low[0]) else [float(low[0]), float(high[0])],
        "path": _curve_values(errors.path_curve(rng)),
        "edge": _curve_values(errors.edge_curve(rng)),
        "histogram": {"edges": HISTOGRAM_EDGES, "n_pictures": errors.histogram[:-1], "n_above": errors.histogram[-1]},
    }


def _curve_values(curve: ErrorCurve) -> dict[str, list[Any]]:
    return {
        name: [None if np.isnan(value) else value for value in values.tolist()]
        for name, values in curve._asdict().items()
    }
