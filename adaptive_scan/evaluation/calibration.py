"""Whether predicted errors are right: reliability, expected calibration error, coverage and ranking.

Predicted errors are standard deviations of each pixel, true ones are completion less target, both in units of the
completion on [-1, 1]; what is reported is on [0, 1], half of that. Bins hold equal numbers of pixels. Intervals come
from resampling groups of micrographs with all their scans, as everywhere in this package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata

from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.statistics import group_resamples, percentile_ends
from adaptive_scan.generators.uncertainty import PredictingCompleter, scan_rmse

N_BINS = 15
N_SIGMAS = (1.0, 2.0, 3.0)
_N_RESAMPLES = 1_000
_N_SHARES = 20


@dataclass(frozen=True)
class ErrorSample:
    """Predicted and true errors of scans that no training saw.

    Attributes:
        predicted: Predicted standard deviations of some pixels of each scan, shape (n_scans, n_pixels), on [-1, 1].
        errors: Completion less target at the same pixels, same shape.
        predicted_rmse: Predicted RMSE over all pixels of each scan, shape (n_scans,), on [0, 1].
        rmse: The true one.
        groups: Group of each scan's micrograph, shape (n_scans,).

    Raises:
        ValueError: If there is no scan or the shapes do not fit.

    Example:
        >>> ones = np.ones((3, 4))
        >>> ErrorSample(ones, ones, ones[:, 0] / 2, ones[:, 0] / 2, np.arange(3)).scaled(2.0).predicted_rmse
        array([1., 1., 1.])
    """

    predicted: np.ndarray
    errors: np.ndarray
    predicted_rmse: np.ndarray
    rmse: np.ndarray
    groups: np.ndarray

    def __post_init__(self) -> None:
        shapes = [np.shape(array) for array in (self.predicted, self.errors)]
        rows = [np.shape(array) for array in (self.predicted_rmse, self.rmse, self.groups)]
        n_scans = len(self.rmse)
        if len(shapes[0]) != 2 or shapes[0] != shapes[1] or not n_scans or {*rows, shapes[0][:1]} != {(n_scans,)}:
            raise ValueError(f"errors have shapes {shapes} and {rows}; expected (n_scans, n_pixels) and (n_scans,)")

    def chosen(self, which: np.ndarray) -> ErrorSample:
        """The scans of these indices or of this mask."""
        arrays = (self.predicted, self.errors, self.predicted_rmse, self.rmse, self.groups)
        return ErrorSample(*(array[which] for array in arrays))

    def scaled(self, factor: float) -> ErrorSample:
        """The same scans with all predicted errors times a factor."""
        predicted, predicted_rmse = factor * self.predicted, factor * self.predicted_rmse
        return ErrorSample(predicted, self.errors, predicted_rmse, self.rmse, self.groups)


def sample_errors(
    completer: PredictingCompleter,
    partial_scans: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
    *,
    n_pixels: int = 1024,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> ErrorSample:
    """Complete scans, and keep what was predicted of their errors beside the errors.

    Args:
        completer: Completes and predicts, on ``device``.
        partial_scans: Measured values and masks, float32, shape (n_scans, 2, S, S).
        targets: What completions should be, shape (n_scans, S, S).
        groups: Group of each scan's micrograph, shape (n_scans,).
        rng: Draws the pixels that are kept, anew for each scan.
        n_pixels: Pixels kept of each scan, at most all.
        batch_size: Scans completed at once.
        device: Where the completer is.

    Returns:
        The sample; each scan's two RMSEs are of all its pixels.
    """
    side = partial_scans.shape[-1]
    n_kept = min(n_pixels, side * side)
    kept_predicted, kept_errors = (np.empty((len(partial_scans), n_kept), dtype=np.float32) for _ in range(2))
    levels = np.empty((2, len(partial_scans)))
    for begin in range(0, len(partial_scans), batch_size):
        batch = slice(begin, begin + batch_size)
        with torch.no_grad():
            completions, sigmas = completer.with_error(torch.from_numpy(partial_scans[batch]).to(device))
            errors = completions - torch.from_numpy(targets[batch])[:, None].to(completions)
        levels[:, batch] = [scan_rmse(pictures.double()).cpu().numpy() for pictures in (sigmas, errors)]
        order = np.argsort(rng.random((len(errors), side * side)), axis=1)[:, :n_kept]
        for kept, pictures in ((kept_predicted, sigmas), (kept_errors, errors)):
            kept[batch] = np.take_along_axis(pictures.flatten(1).cpu().numpy(), order, axis=1)
    return ErrorSample(kept_predicted, kept_errors, levels[0], levels[1], np.asarray(groups))


class Reliability(NamedTuple):
    """Predicted and observed errors, bin by bin of the predicted error; all of shape (n_bins,).

    Attributes:
        predicted: Root mean square of the predicted standard deviations.
        observed: Root mean square of the errors.
        weights: Share of the pixels; they sum up to 1.
    """

    predicted: np.ndarray
    observed: np.ndarray
    weights: np.ndarray


def reliability_curve(predicted: np.ndarray, errors: np.ndarray, *, n_bins: int = N_BINS) -> Reliability:
    """Observed RMSE against predicted RMSE in bins of equal numbers of pixels; calibrated, it is the diagonal.

    The edges are quantiles of the predicted error. Equal predictions share a bin, so that there may be fewer bins.

    Args:
        predicted: Predicted standard deviations, at least 0, any shape.
        errors: True errors, same shape.
        n_bins: Number of bins, at least 1.

    Returns:
        The curve, in the units of the errors.

    Raises:
        ValueError: If the shapes differ, there is nothing to bin, or ``n_bins`` is below 1.

    Example:
        >>> curve = reliability_curve(np.array([1.0, 1.0, 2.0, 2.0]), np.array([1.0, -1.0, 3.0, -3.0]), n_bins=2)
        >>> curve.predicted, curve.observed, curve.weights
        (array([1., 2.]), array([1., 3.]), array([0.5, 0.5]))
    """
    _check(predicted, errors)
    bins = _bins(predicted, n_bins)
    return _curve(_sums(predicted.ravel(), errors.ravel(), bins.ravel()))


def _check(predicted: np.ndarray, errors: np.ndarray) -> None:
    if np.shape(predicted) != np.shape(errors) or not np.size(errors):
        found = f"{np.shape(predicted)} and {np.shape(errors)}"
        raise ValueError(f"predicted and true errors have shapes {found}; expected the same, of at least one pixel")


def _bins(predicted: np.ndarray, n_bins: int) -> np.ndarray:
    """Number of each prediction's bin, the shape of ``predicted``."""
    if n_bins < 1:
        raise SettingError(f"n_bins: got {n_bins}; expected at least 1")
    inner = np.unique(np.quantile(predicted, np.linspace(0.0, 1.0, n_bins + 1)[1:-1]))
    bins = np.searchsorted(inner, predicted, side="left")
    return np.unique(bins, return_inverse=True)[1].reshape(np.shape(predicted))


def _sums(predicted: np.ndarray, errors: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Numbers of pixels, sums of predicted and sums of true square errors, shape (3, n_bins), of flat arrays."""
    weights = (None, np.square(predicted, dtype=np.float64), np.square(errors, dtype=np.float64))
    return np.stack([np.bincount(bins, weights=weight) for weight in weights])


def _curve(sums: np.ndarray) -> Reliability:
    """Curves from sums of shape (3, ..., n_bins); a bin that a resample left empty has weight 0."""
    counts = np.maximum(sums[0], 1.0)
    return Reliability(
        np.sqrt(sums[1] / counts), np.sqrt(sums[2] / counts), sums[0] / sums[0].sum(axis=-1, keepdims=True)
    )


def calibration_error(curve: Reliability) -> float:
    """Expected calibration error: mean over pixels of |observed - predicted| RMSE of their bin.

    ECE = sum over bins of w |observed - predicted|, in the units of the curve. Of n pixels in a bin, observed differs
    from predicted by about predicted / sqrt(2 n) even where the prediction is perfect, more for correlated pixels.

    Args:
        curve: The reliability curve.

    Returns:
        The error, at least 0.

    Example:
        >>> calibration_error(Reliability(np.array([1.0, 2.0]), np.array([1.0, 3.0]), np.array([0.5, 0.5])))
        0.5
    """
    return float(_weighted_gap(curve))


def relative_calibration_error(curve: Reliability) -> float | None:
    """Expected calibration error divided by the mean of the observed RMSE, both over pixels.

    Predictions that are all f times what they should be have |f - 1|. (The expected normalised calibration error of
    Levi et al. 2019, arXiv 1905.11659, divides each bin by its predicted error, which for an ensemble may be 0.)

    Args:
        curve: The reliability curve.

    Returns:
        The relative error, or None where there are no errors at all.

    Example:
        >>> relative_calibration_error(Reliability(np.array([2.0, 4.0]), np.array([1.0, 2.0]), np.array([0.5, 0.5])))
        1.0
    """
    level = float(_level(curve))
    return None if level == 0.0 else float(_weighted_gap(curve)) / level


def _weighted_gap(curve: Reliability) -> np.ndarray:
    found: np.ndarray = np.sum(curve.weights * np.abs(curve.observed - curve.predicted), axis=-1)
    return found


def _level(curve: Reliability) -> np.ndarray:
    found: np.ndarray = np.sum(curve.weights * curve.observed, axis=-1)
    return found


def interval_coverage(predicted: np.ndarray, errors: np.ndarray, n_sigmas: float) -> float:
    """Share of the pixels whose error is within so many predicted standard deviations.

    Normal errors have erf(k / sqrt(2)), `nominal_coverage`. Errors of completions have longer tails than normal ones,
    so that well calibrated predictions cover more at k = 1 and less at k = 3.

    Args:
        predicted: Predicted standard deviations, any shape.
        errors: True errors, same shape.
        n_sigmas: Half width k of the interval, in standard deviations.

    Returns:
        The share, in [0, 1].

    Raises:
        ValueError: If the shapes differ or there are no pixels.

    Example:
        >>> interval_coverage(np.ones(4), np.array([0.5, -0.5, 1.5, -2.5]), 1.0)
        0.5
    """
    _check(predicted, errors)
    return float(np.mean(np.abs(errors) <= n_sigmas * predicted))


def nominal_coverage(n_sigmas: float) -> float:
    """Share of normal errors within so many standard deviations, erf(k / sqrt(2)).

    Example:
        >>> round(nominal_coverage(1.0), 4)
        0.6827
    """
    return math.erf(n_sigmas / math.sqrt(2.0))


class Sparsification(NamedTuple):
    """RMSE of what is left when the pixels of the largest predicted errors are taken away, share by share.

    Attributes:
        shares: Shares taken away, from 0 to below 1, shape (n_shares,).
        remaining: RMSE of the rest, largest predicted errors first.
        oracle: The same, largest true errors first: what no prediction can beat.
        area: Mean of ``remaining - oracle`` over the shares, divided by the RMSE of all pixels (AUSE, Ilg et al. 2018,
            arXiv 1802.07095): 0 for a prediction that ranks perfectly; None where all errors are 0.
    """

    shares: np.ndarray
    remaining: np.ndarray
    oracle: np.ndarray
    area: float | None


def sparsification(predicted: np.ndarray, errors: np.ndarray, *, n_shares: int = _N_SHARES) -> Sparsification:
    """How well predicted errors rank pixels, whatever their scale.

    Args:
        predicted: Predicted standard deviations, any shape.
        errors: True errors, same shape.
        n_shares: Number of shares k / n_shares that are taken away, k = 0, ..., n_shares - 1.

    Returns:
        The curves, in the units of the errors.

    Raises:
        ValueError: If the shapes differ or there are no pixels.

    Example:
        >>> sparsification(np.array([1.0, 2.0]), np.array([3.0, 4.0]), n_shares=2).remaining
        array([3.53553391, 3.        ])
    """
    _check(predicted, errors)
    squares = np.square(errors, dtype=np.float64).ravel()
    shares = np.arange(n_shares) / n_shares
    n_left = squares.size - np.floor(shares * squares.size).astype(int)
    curves = []
    for order in (np.argsort(predicted, axis=None, kind="stable"), np.argsort(squares, kind="stable")):
        curves.append(np.sqrt(np.cumsum(squares[order])[n_left - 1] / n_left))
    remaining, oracle = curves
    area = None if remaining[0] == 0.0 else float(np.mean(remaining - oracle) / remaining[0])
    return Sparsification(shares, remaining, oracle, area)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rank correlation; None where one of them is the same for all.

    Args:
        first: Numbers, shape (n,).
        second: Numbers, same shape.

    Returns:
        The correlation, in [-1, 1], or None.

    Example:
        >>> round(rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([0.1, 0.2, 0.3])), 6)
        1.0
    """
    ranks = [rankdata(values) for values in (first, second)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


class CalibrationBands(NamedTuple):
    """What resampling groups of micrographs says of a reliability curve; 95 % intervals, lower and upper.

    Attributes:
        error: Of the expected calibration error.
        relative_error: Of the relative one.
        observed: Of the observed RMSE of each bin, shape (2, n_bins); NaN where some resample has no pixel of the bin.
    """

    error: tuple[float, float]
    relative_error: tuple[float, float]
    observed: np.ndarray


def bootstrap_calibration(
    sample: ErrorSample, rng: np.random.Generator, *, n_bins: int = N_BINS, n_resamples: int = _N_RESAMPLES
) -> CalibrationBands | None:
    """Percentile intervals of the calibration error and of the curve over resamples of the groups; bins stay fixed.

    The error of a resample counts the resample's own deviations as well, so the interval of an error near 0 lies above
    it.

    Args:
        sample: Predicted and true errors, on [-1, 1].
        rng: Draws the resamples.
        n_bins: Number of bins.
        n_resamples: Number of resamples.

    Returns:
        The intervals, in units of the completion, or None with fewer than two groups or without any error.
    """
    names, groups = np.unique(sample.groups, return_inverse=True)
    if len(names) < 2 or not sample.errors.any():
        return None
    bins = _bins(sample.predicted, n_bins)
    n_found = int(bins.max()) + 1
    joint = (groups[:, None] * n_found + bins).ravel()
    sums = np.zeros((3, len(names) * n_found))
    found = _sums(sample.predicted.ravel(), sample.errors.ravel(), joint)
    sums[:, : found.shape[1]] = found
    drawn = np.concatenate(list(group_resamples(len(names), n_resamples, rng)))
    resampled = _curve(np.einsum("rg,sgb->srb", drawn, sums.reshape(3, len(names), n_found)))
    gaps, levels = _weighted_gap(resampled), _level(resampled)
    relative = np.divide(gaps, levels, out=np.zeros_like(gaps), where=levels > 0)
    observed = np.where(resampled.weights > 0, resampled.observed, np.nan)
    lower, upper = percentile_ends(gaps)
    relative_lower, relative_upper = percentile_ends(relative)
    return CalibrationBands(
        (float(lower), float(upper)),
        (float(relative_lower), float(relative_upper)),
        percentile_ends(observed),
    )


def calibration_summary(sample: ErrorSample, rng: np.random.Generator, *, n_bins: int = N_BINS) -> dict[str, Any]:
    """All figures of a sample, in plain numbers for JSON; errors on [0, 1].

    Args:
        sample: Predicted and true errors.
        rng: Draws the resamples of the groups.
        n_bins: Number of bins.

    Returns:
        ``n_scans``, ``n_groups``, ``rmse`` and ``predicted_rmse`` (root mean squares over scans), ``ece``,
        ``relative_ece`` and their 95 % intervals, ``coverage`` and ``nominal_coverage`` by number of standard
        deviations, ``ause``, ``rank_correlation`` of the scans' predicted and true RMSE, and ``reliability``. Missing
        intervals and ends of intervals are None.

    Example:
        >>> errors = np.array([[0.2, -0.2], [0.4, -0.4]])
        >>> sample = ErrorSample(abs(errors), errors, np.array([0.1, 0.2]), np.array([0.1, 0.2]), np.arange(2))
        >>> calibration_summary(sample, np.random.default_rng(0))["ece"]
        0.0
    """
    curve = reliability_curve(sample.predicted, sample.errors, n_bins=n_bins)
    bands = bootstrap_calibration(sample, rng, n_bins=n_bins)
    return {
        "n_scans": len(sample.rmse),
        "n_groups": len(np.unique(sample.groups)),
        "rmse": float(np.sqrt(np.mean(np.square(sample.rmse)))),
        "predicted_rmse": float(np.sqrt(np.mean(np.square(sample.predicted_rmse)))),
        "ece": 0.5 * calibration_error(curve),
        "ece_interval": None if bands is None else [0.5 * end for end in bands.error],
        "relative_ece": relative_calibration_error(curve),
        "relative_ece_interval": None if bands is None else list(bands.relative_error),
        "coverage": {f"{k:g}": interval_coverage(sample.predicted, sample.errors, k) for k in N_SIGMAS},
        "nominal_coverage": {f"{k:g}": nominal_coverage(k) for k in N_SIGMAS},
        "ause": sparsification(sample.predicted, sample.errors).area,
        "rank_correlation": rank_correlation(sample.predicted_rmse, sample.rmse),
        "reliability": {
            "predicted": (0.5 * curve.predicted).tolist(),
            "observed": (0.5 * curve.observed).tolist(),
            "observed_interval": None if bands is None else [_numbers(0.5 * ends) for ends in bands.observed],
            "weights": curve.weights.tolist(),
        },
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    """Values for JSON, None where there is none."""
    return [None if np.isnan(value) else value for value in values.tolist()]
