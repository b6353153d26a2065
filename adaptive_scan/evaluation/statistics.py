"""Paired comparisons of losses: ratio of means with a bootstrap over micrographs, and win rate.

Crops of one micrograph resemble each other, so they are no independent evidence. The unit that is resampled
is the micrograph (or group of micrographs of one specimen), and all its crops go with it.
"""

from __future__ import annotations

import numpy as np

from adaptive_scan.errors import SettingError

_LARGEST_BLOCK = 2_000_000


def ratio_of_means(losses: np.ndarray, reference_losses: np.ndarray) -> float | None:
    """Mean loss as a fraction of the reference's mean loss; below 1 is better than the reference.

    Args:
        losses: Loss of each crop, shape ``(n_crops,)``.
        reference_losses: Loss of the reference on the same crops, in the same order.

    Returns:
        The ratio, or None where the reference's mean is 0 and no ratio exists.

    Raises:
        ValueError: If the shapes differ or are not ``(n_crops,)`` with at least one crop.

    Example:
        >>> ratio_of_means(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
        0.5
    """
    _check_paired(losses, reference_losses)
    reference_mean = float(np.mean(reference_losses, dtype=np.float64))
    if reference_mean == 0:
        return None
    return float(np.mean(losses, dtype=np.float64)) / reference_mean


def bootstrap_ratio(
    losses: np.ndarray,
    reference_losses: np.ndarray,
    micrograph_ids: np.ndarray,
    rng: np.random.Generator,
    *,
    n_resamples: int = 4000,
    confidence: float = 0.95,
) -> tuple[float, float] | None:
    """Confidence interval of the ratio of mean losses: percentiles of a paired bootstrap over micrographs.

    Each resample draws as many micrographs as there are, with replacement, each with all its crops, and takes
    the ratio of the two mean losses over the crops drawn (Efron and Tibshirani 1993, An Introduction to the
    Bootstrap, chapters 13 and 8).

    Args:
        losses: Loss of each crop, shape ``(n_crops,)``.
        reference_losses: Loss of the reference on the same crops, in the same order.
        micrograph_ids: Micrograph (or group) of each crop, numbers or names, shape ``(n_crops,)``.
        rng: Draws the resamples.
        n_resamples: Number of resamples.
        confidence: Nominal coverage of the interval, inside (0, 1).

    Returns:
        Lower and upper end; or None where there is no interval: with a single micrograph, whose resamples are
        all the same, or where some resample has a reference loss of 0.

    Raises:
        ValueError: If shapes differ, ``n_resamples`` is not positive or ``confidence`` is outside (0, 1).

    Example:
        >>> reference = np.array([1.0, 1.0, 2.0, 3.0])
        >>> bootstrap_ratio(reference / 2, reference, np.array([0, 0, 1, 2]), np.random.default_rng(0))
        (0.5, 0.5)
    """
    _check_paired(losses, reference_losses)
    if micrograph_ids.shape != losses.shape:
        raise ValueError(f"got micrograph_ids of shape {micrograph_ids.shape}; expected {losses.shape}")
    if n_resamples < 1 or not 0 < confidence < 1:
        raise SettingError(
            f"got n_resamples={n_resamples}, confidence={confidence}; expected at least 1 and inside (0, 1)"
        )
    names, groups = np.unique(micrograph_ids, return_inverse=True)
    if len(names) < 2:
        return None
    reference_sums = np.bincount(groups, weights=reference_losses)
    excess_sums = np.bincount(groups, weights=np.subtract(losses, reference_losses, dtype=np.float64))
    excess, reference = _resampled_sums(excess_sums, reference_sums, n_resamples, rng)
    if not np.all(reference > 0):
        return None
    # 1 + (a - b) / b rather than a / b: exactly 1 where the two scans are the same, whatever the order of summation.
    tail = 0.5 * (1.0 - confidence)
    lower, upper = np.quantile(1.0 + excess / reference, [tail, 1.0 - tail])
    return float(lower), float(upper)


def _resampled_sums(
    first: np.ndarray, second: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of both arrays over each resample of their n elements, shapes ``(n_resamples,)``, in bounded memory."""
    n_units = len(first)
    block = max(1, _LARGEST_BLOCK // n_units)
    sums = np.empty((2, n_resamples))
    for begin in range(0, n_resamples, block):
        end = min(begin + block, n_resamples)
        drawn = rng.multinomial(n_units, np.full(n_units, 1.0 / n_units), size=end - begin).astype(np.float64)
        sums[0, begin:end] = drawn @ first
        sums[1, begin:end] = drawn @ second
    return sums[0], sums[1]


def win_rate(losses: np.ndarray, reference_losses: np.ndarray) -> float:
    """Fraction of crops with a lower loss than the reference's; a tie counts one half.

    Args:
        losses: Loss of each crop, shape ``(n_crops,)``.
        reference_losses: Loss of the reference on the same crops, in the same order.

    Returns:
        The fraction, in [0, 1].

    Raises:
        ValueError: If the shapes differ or are not ``(n_crops,)`` with at least one crop.

    Example:
        >>> win_rate(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 2.0, 2.0]))
        0.375
    """
    _check_paired(losses, reference_losses)
    wins = np.count_nonzero(losses < reference_losses)
    ties = np.count_nonzero(losses == reference_losses)
    return float((wins + 0.5 * ties) / len(losses))


def _check_paired(losses: np.ndarray, reference_losses: np.ndarray) -> None:
    if losses.ndim != 1 or losses.shape != reference_losses.shape or len(losses) == 0:
        raise ValueError(
            f"got losses {losses.shape} and reference losses {reference_losses.shape}; "
            "expected both (n_crops,) with at least one crop"
        )
