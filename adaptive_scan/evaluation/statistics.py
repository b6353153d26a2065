"""Losses of two scans on the same crops: ratios, win rates, intervals, tests and sizes of effects.

Everything here is paired, crop by crop. Losses are nested: a seed has its own networks and test specimens, a specimen
(group) has several crops, which resemble each other and are no independent evidence, and each crop was measured by both
scans. The group is the unit of evidence. `bootstrap_ratio` draws whole groups, for one comparison of one seed;
`hierarchical_bootstrap` draws seeds, groups and crops, for benchmarks.

The interval and the test look at different things, and a verdict needs both. The interval is of the ratio of the mean
losses, as a reader reports it, and spreads over seeds; the test asks whether specimen after specimen goes the same
way, and takes the networks of these seeds as given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy import optimize, stats

from adaptive_scan.errors import SettingError

_LARGEST_BLOCK = 2_000_000
_LARGEST_NESTED_BLOCK = 1_000_000
_LOWEST_SHARE = 1e-6
_WILCOXON_EFFICIENCY = 3.0 / math.pi
_LARGEST_EXACT = 50


def ratio_of_means(first: np.ndarray, second: np.ndarray) -> float | None:
    """Mean loss as a fraction of the reference's mean loss; below 1 is better than the reference.

    Args:
        first: Loss of each crop, shape ``(n_crops,)``.
        second: Loss of the reference on the same crops, in the same order.

    Returns:
        The ratio, or None where the reference's mean is 0 and no ratio exists.

    Raises:
        ValueError: If the shapes differ or are not ``(n_crops,)`` with at least one crop.

    Example:
        >>> ratio_of_means(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
        0.5
    """
    _check_losses(first, second)
    reference_mean = float(np.mean(second, dtype=np.float64))
    if reference_mean == 0:
        return None
    return float(np.mean(first, dtype=np.float64)) / reference_mean


def win_rate(first: np.ndarray, second: np.ndarray) -> float:
    """Fraction of crops with a lower loss than the reference's; a tie counts one half.

    Args:
        first: Loss of each crop, shape ``(n_crops,)``.
        second: Loss of the reference on the same crops, in the same order.

    Returns:
        The fraction, in [0, 1].

    Raises:
        ValueError: If the shapes differ or are not ``(n_crops,)`` with at least one crop.

    Example:
        >>> win_rate(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 2.0, 2.0]))
        0.375
    """
    _check_losses(first, second)
    wins = np.count_nonzero(first < second)
    ties = np.count_nonzero(first == second)
    return float((wins + 0.5 * ties) / len(first))


def bootstrap_ratio(
    first: np.ndarray,
    second: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
    *,
    n_resamples: int = 4000,
    confidence: float = 0.95,
) -> tuple[float, float] | None:
    """Confidence interval of the ratio of mean losses: percentiles of a paired bootstrap over groups.

    Each resample draws as many groups as there are, with replacement, each with all its crops, and takes the ratio of
    the two mean losses over the crops drawn (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 13
    and 8).

    Args:
        first: Loss of each crop, shape ``(n_crops,)``.
        second: Loss of the reference on the same crops, in the same order.
        groups: Group of each crop, such as its micrograph or specimen, numbers or names, shape ``(n_crops,)``.
        rng: Draws the resamples.
        n_resamples: Number of resamples.
        confidence: Nominal coverage of the interval, inside (0, 1).

    Returns:
        Lower and upper end; or None where there is no interval: with a single group, whose resamples are all the same,
        or where some resample has a reference loss of 0.

    Raises:
        ValueError: If shapes differ, ``n_resamples`` is not positive or ``confidence`` is outside (0, 1).

    Example:
        >>> reference = np.array([1.0, 1.0, 2.0, 3.0])
        >>> bootstrap_ratio(reference / 2, reference, np.array([0, 0, 1, 2]), np.random.default_rng(0))
        (0.5, 0.5)
    """
    _check_losses(first, second, groups)
    _check_resampling(n_resamples, confidence)
    names, places = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return None
    reference_sums = np.bincount(places, weights=second)
    excess_sums = np.bincount(places, weights=np.subtract(first, second, dtype=np.float64))
    sums = [(drawn @ excess_sums, drawn @ reference_sums) for drawn in group_resamples(len(names), n_resamples, rng)]
    excess, reference = (np.concatenate(parts) for parts in zip(*sums, strict=True))
    if not np.all(reference > 0):
        return None
    # 1 + (a - b) / b rather than a / b: exactly 1 where the two scans are the same, whatever the order of summation.
    lower, upper = percentile_ends(1.0 + excess / reference, confidence)
    return float(lower), float(upper)


def group_resamples(n_groups: int, n_resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each resample of a bootstrap over groups holds each group, in blocks of bounded memory.

    Args:
        n_groups: Number of groups.
        n_resamples: Number of resamples.
        rng: Draws them.

    Yields:
        Counts, float64, shapes ``(at most n_resamples, n_groups)``.

    Example:
        >>> [block.sum(axis=1).tolist() for block in group_resamples(3, 2, np.random.default_rng(0))]
        [[3.0, 3.0]]
    """
    block = max(1, _LARGEST_BLOCK // n_groups)
    for begin in range(0, n_resamples, block):
        n_here = min(block, n_resamples - begin)
        yield rng.multinomial(n_groups, _equal(n_groups), size=n_here).astype(np.float64)


def percentile_ends(resampled: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """Ends of the central interval of resampled figures.

    Args:
        resampled: Figures of each resample, shape ``(n_resamples, ...)``.
        confidence: Nominal coverage, inside (0, 1).

    Returns:
        Lower and upper ends, shape ``(2, ...)``.

    Example:
        >>> percentile_ends(np.arange(101.0), 0.5).tolist()
        [25.0, 75.0]
    """
    tail = 0.5 * (1.0 - confidence)
    found: np.ndarray = np.quantile(resampled, [tail, 1.0 - tail], axis=0)
    return found


def hierarchical_bootstrap(
    first: np.ndarray,
    second: np.ndarray,
    seeds: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
    *,
    n_resamples: int = 4000,
    confidence: float = 0.95,
) -> list[tuple[float, float] | None]:
    """Confidence intervals of ratios of mean losses over seeds, groups and crops, from the same resamples for all.

    Each resample draws as many seeds as there are, with replacement; for each seed drawn, as many of its groups as it
    has; for each group drawn, as many of its crops as it has; and takes the ratio of the mean losses over the crops
    drawn, the same ones for both scans. The ends are percentiles (Davison and Hinkley 1997, Bootstrap Methods and their
    Application, section 3.8; Saravanan et al. 2020, arXiv:2007.07797). With one seed, groups and crops are drawn.

    Drawing with replacement at each level counts the spread of a lower level at those above it once more, so the
    interval is too wide where seeds differ little; and a bootstrap of three seeds shows two thirds of the variance
    between seeds and nothing of its tails, so it is too narrow where they differ much. On log-normal losses of 3 seeds,
    each with 13 groups of 8 crops, with logarithms of the ratio that spread by 0.05 between groups and 0.1 between
    crops, 95% intervals hold the true ratio in 98% of the cases if seeds do not differ, in 90% if they spread by 0.03
    and in 76% if they spread by 0.1, more than the groups; with one seed in 95%. Three seeds can show that a difference
    is no accident of one training; they cannot say how far the next one may lie.

    Args:
        first: Losses of one or more comparisons on the same crops, shape ``(n_comparisons, n_crops)``.
        second: Losses that they are compared with, the same shape.
        seeds: Seed of each crop, shape ``(n_crops,)``.
        groups: Specimen of each crop, numbers or names, shape ``(n_crops,)``.
        rng: Draws the resamples.
        n_resamples: Number of resamples.
        confidence: Nominal coverage of the intervals, inside (0, 1).

    Returns:
        Lower and upper end of each comparison, exactly (1.0, 1.0) for identical losses; or None where there is no
        interval: with one group in all, or where some resample has a mean of 0 in ``second``.

    Raises:
        ValueError: If shapes differ, or a loss is not finite.
        SettingError: If ``n_resamples`` is not positive or ``confidence`` is outside (0, 1).

    Example:
        >>> second = np.array([[1.0, 1.0, 2.0, 3.0]])
        >>> seeds, groups = np.array([0, 0, 1, 1]), np.array(["gold", "iron", "gold", "salt"])
        >>> hierarchical_bootstrap(second / 2, second, seeds, groups, np.random.default_rng(0))
        [(0.5, 0.5)]
    """
    _check_losses(first, second, groups, n_dimensions=2)
    _check_finite(first, second)
    if seeds.shape != groups.shape:
        raise ValueError(f"seeds have shape {seeds.shape}; expected {groups.shape}")
    _check_resampling(n_resamples, confidence)
    if len(np.unique(groups)) < 2:
        return [None] * len(first)
    excess, reference = np.subtract(first, second, dtype=np.float64).T, np.asarray(second, dtype=np.float64).T
    sums = [(counts @ excess, counts @ reference) for counts in _crop_counts(seeds, groups, rng, n_resamples)]
    excess_sums, reference_sums = (np.concatenate(parts) for parts in zip(*sums, strict=True))
    exists = np.all(reference_sums > 0, axis=0)
    # 1 + (a - b) / b rather than a / b: exactly 1 where the two scans are the same, whatever the order of summation.
    ratios = 1.0 + excess_sums / np.where(exists, reference_sums, 1.0)
    ends = percentile_ends(ratios, confidence).T
    return [(float(low), float(high)) if there else None for (low, high), there in zip(ends, exists, strict=True)]


def _crop_counts(
    seeds: np.ndarray, groups: np.ndarray, rng: np.random.Generator, n_resamples: int
) -> Iterator[np.ndarray]:
    """How often each resample holds each crop, float64, shapes ``(at most n_resamples, n_crops)``, in blocks.

    As many draws with replacement as there are things have multinomial counts, and the counts of independent copies
    (of a seed or group drawn more than once) add up to a multinomial with as many times the draws.
    """
    members = _nested_members(seeds, groups)
    block = max(1, _LARGEST_NESTED_BLOCK // len(groups))
    for begin in range(0, n_resamples, block):
        n_here = min(block, n_resamples - begin)
        counts = np.empty((n_here, len(groups)))
        drawn_seeds = rng.multinomial(len(members), _equal(len(members)), size=n_here)
        for seed, of_seed in enumerate(members):
            n_groups = sum(len(crops) for crops in of_seed)
            drawn_groups = rng.multinomial(drawn_seeds[:, seed] * n_groups, _equal(n_groups))
            n_before = 0
            for crops in of_seed:
                n_alike, size = crops.shape
                drawn = drawn_groups[:, n_before : n_before + n_alike]
                counts[:, crops] = rng.multinomial(drawn * size, _equal(size)) if size > 1 else drawn[..., None]
                n_before += n_alike
        yield counts


def _nested_members(seeds: np.ndarray, groups: np.ndarray) -> list[list[np.ndarray]]:
    """Indices of the crops of each group of each seed; groups of one size together, shapes ``(n_groups, n_crops)``."""
    members = []
    for seed in np.unique(seeds):
        of_seed = np.flatnonzero(seeds == seed)
        _, places, sizes = np.unique(groups[of_seed], return_inverse=True, return_counts=True)
        by_group = np.split(of_seed[np.argsort(places, kind="stable")], np.cumsum(sizes)[:-1])
        members.append([np.stack([by_group[g] for g in np.flatnonzero(sizes == size)]) for size in np.unique(sizes)])
    return members


def _equal(n: int) -> np.ndarray:
    return np.full(n, 1.0 / n)


def small_sample_interval(
    interval: tuple[float, float], ratio: float, n_groups: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """A percentile interval of a ratio, made wider for the few groups that it comes from.

    Both ends move away from the ratio, in logarithms, by the factor sqrt(n / (n - 1)) t / z, with the quantiles of
    Student's t of n - 1 degrees of freedom and of the normal distribution: a bootstrap of n groups shows (n - 1) / n of
    their variance, and nothing of how uncertain that is (Hesterberg 2015, doi:10.1080/00031305.2015.1089789).

    On log-normal losses of one seed with 8 crops in a group, where two scans are equal and groups alone differ, 95%
    intervals exclude 1 in 14% of the cases with 6 groups, 12% with 8 and 10% with 12; wider by this factor, in 5% to
    6%. Where crops of a group differ as much as groups, or there are several seeds, in 3% to 4%.

    Args:
        interval: Lower and upper end, positive.
        ratio: What it is an interval of, positive.
        n_groups: Number of groups in all, at least 2.
        confidence: Nominal coverage of the interval, inside (0, 1).

    Returns:
        The wider interval.

    Raises:
        ValueError: If there are fewer than 2 groups or something is not positive.

    Example:
        >>> low, high = small_sample_interval((0.9, 1.1), 1.0, 6)
        >>> round(low, 3), round(high, 3)
        (0.86, 1.147)
    """
    if n_groups < 2 or not min(ratio, *interval) > 0:
        raise ValueError(
            f"n_groups: got {n_groups}, ratio {ratio}, interval {interval}; expected at least 2 and positive numbers"
        )
    chance = 0.5 * (1.0 + confidence)
    factor = math.sqrt(n_groups / (n_groups - 1)) * float(stats.t.ppf(chance, n_groups - 1) / stats.norm.ppf(chance))
    low, high = (ratio * (end / ratio) ** factor for end in interval)
    return low, high


def group_log_ratios(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """One number for each group: the mean of log(first / second) over all its crops in all seeds.

    A loss below a millionth of the mean loss of both scans counts as that, so that a perfect completion weighs much but
    not infinitely, and two perfect ones are equal.

    Args:
        first: Loss of each crop, shape ``(n_crops,)``.
        second: Loss of the other scan on the same crops, in the same order.
        groups: Specimen of each crop, numbers or names, shape ``(n_crops,)``.

    Returns:
        Float64, shape ``(n_groups,)``, in the order of the sorted groups; negative where the first is better.

    Raises:
        ValueError: If shapes differ or a loss is negative or not finite.

    Example:
        >>> group_log_ratios(np.array([1.0, 4.0, 1.0]), np.ones(3), np.array([5, 5, 9])).round(4).tolist()
        [0.6931, 0.0]
    """
    _check_losses(first, second, groups)
    _check_finite(first, second)
    if min(first.min(), second.min()) < 0:
        raise ValueError(f"the lowest loss: got {min(first.min(), second.min())}; expected none below 0")
    mean = 0.5 * (np.mean(first, dtype=np.float64) + np.mean(second, dtype=np.float64))
    lowest = max(_LOWEST_SHARE * float(mean), float(np.finfo(np.float64).tiny))
    logs = np.log(np.maximum(first, lowest, dtype=np.float64)) - np.log(np.maximum(second, lowest, dtype=np.float64))
    _, places = np.unique(groups, return_inverse=True)
    return np.bincount(places, weights=logs) / np.bincount(places)


def wilcoxon(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> float:
    """Two-sided p-value of the signed-rank test over groups (Wilcoxon 1945, doi:10.2307/3001968).

    Each group is one observation, its `group_log_ratios`. Groups with no difference take no part. The p-value is exact
    up to 50 groups without ties and 13 with them, and asymptotic beyond; with n groups it is never below 2^(1 - n), so
    fewer than six can show nothing at 5%.

    Args:
        first: Loss of each crop, shape ``(n_crops,)``.
        second: Loss of the other scan on the same crops, in the same order.
        groups: Specimen of each crop, shape ``(n_crops,)``.

    Returns:
        The p-value; 1.0 where no group differs.

    Raises:
        ValueError: As `group_log_ratios`.

    Example:
        >>> reference = np.ones(6)
        >>> wilcoxon(0.9 * reference - 0.01 * np.arange(6), reference, np.arange(6))
        0.03125
    """
    differences = group_log_ratios(first, second, groups)
    differences = differences[differences != 0]
    return float(stats.wilcoxon(differences).pvalue) if len(differences) > 0 else 1.0


def effect_size(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation over groups; positive where the first scan is better.

    The groups are ranked by the size of their `group_log_ratios`; the effect is the sum of the ranks of those where the
    first has the lower loss, less that of those where it has the higher, over the sum of all (Kerby 2014,
    doi:10.2466/11.IT.3.1). It is 1 where the first is better on every group, -1 where it is worse on every one.

    Args:
        first: Loss of each crop, shape ``(n_crops,)``.
        second: Loss of the other scan on the same crops, in the same order.
        groups: Specimen of each crop, shape ``(n_crops,)``.

    Returns:
        The correlation, in [-1, 1]; 0.0 where no group differs.

    Raises:
        ValueError: As `group_log_ratios`.

    Example:
        >>> effect_size(np.array([0.5, 0.8, 1.1]), np.ones(3), np.arange(3))  # ranks 3 and 2 for, 1 against
        0.6666666666666666
    """
    differences = group_log_ratios(first, second, groups)
    differences = differences[differences != 0]
    if len(differences) == 0:
        return 0.0
    ranks = stats.rankdata(np.abs(differences))
    return float(-np.sum(np.sign(differences) * ranks) / np.sum(ranks))


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values adjusted for their number by Holm's step-down method (Holm 1979, Scand. J. Statist. 6, 65-70).

    With the m p-values in rising order, the k-th becomes the largest of (m - j + 1) p_j over j <= k, at most 1.
    Rejecting where it is at most alpha makes one or more false rejections with a probability of at most alpha, however
    the tests depend on one another.

    Args:
        p_values: In [0, 1], shape ``(n_tests,)``, in any order.

    Returns:
        Adjusted p-values in the same order, float64, shape ``(n_tests,)``.

    Raises:
        ValueError: If one is outside [0, 1] or not a number, or the shape is another one.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    if p_values.ndim != 1 or not np.all((p_values >= 0) & (p_values <= 1)):
        raise ValueError(f"p_values: got {p_values.tolist()}; expected a list of numbers in [0, 1]")
    n_tests = len(p_values)
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(n_tests)
    adjusted[order] = np.minimum(np.maximum.accumulate((n_tests - np.arange(n_tests)) * p_values[order]), 1.0)
    return adjusted


def minimum_detectable_ratio(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The ratio of losses closest to 1 that `wilcoxon` would find with this power, for these groups and their spread.

    A shift of the logarithm of the ratio by delta, with standard deviation s between groups, gives Student's t of n
    groups the noncentrality sqrt(3 n / pi) delta / s, where 3 / pi is the asymptotic relative efficiency of the
    signed-rank test for normal differences (Hodges and Lehmann 1956, doi:10.1214/aoms/1177728261). The level is the
    highest one that n groups can reach within ``alpha``.

    It is the figure of one test on its own. Where several are corrected for their number by `holm`, ``alpha`` over that
    number gives the difference that is found whatever the others show.

    Args:
        first: Loss of each crop, shape ``(n_crops,)``.
        second: Loss of the other scan on the same crops, in the same order.
        groups: Specimen of each crop, shape ``(n_crops,)``.
        alpha: Level of the two-sided test, inside (0, 1).
        power: Probability of finding the difference, inside (``alpha``, 1).

    Returns:
        exp(-delta), at most 1; its inverse is as detectable. None where so few groups can show nothing at ``alpha``.

    Raises:
        ValueError: As `group_log_ratios`, or if ``alpha`` or ``power`` is out of range.

    Example:
        >>> first, second = np.exp(0.1 * np.array([-1.0, 1.0] * 10)), np.ones(20)
        >>> round(minimum_detectable_ratio(first, second, np.arange(20)), 3)
        0.933
    """
    if not 0 < alpha < power < 1:
        raise SettingError(f"alpha: got {alpha}, power {power}; expected 0 < alpha < power < 1")
    ratios = group_log_ratios(first, second, groups)
    n_groups = len(ratios)
    level = _attainable_level(n_groups, alpha)
    if level is None:
        return None
    threshold = stats.t.ppf(1.0 - 0.5 * level, n_groups - 1)

    def shortfall(noncentrality: float) -> float:
        # The other tail is left out: it holds less than a hundredth of a percent where the power is of interest.
        return float(stats.nct.sf(threshold, n_groups - 1, noncentrality)) - power

    noncentrality = optimize.brentq(shortfall, 0.0, 100.0 + 2.0 * threshold)
    shift = noncentrality * float(np.std(ratios, ddof=1)) / math.sqrt(_WILCOXON_EFFICIENCY * n_groups)
    return math.exp(-shift)


def _attainable_level(n_groups: int, alpha: float) -> float | None:
    """Highest two-sided p-value within alpha that the signed-rank test of n groups can give; None if there is none."""
    if n_groups > _LARGEST_EXACT:
        return alpha
    chances = np.ones(1)  # of each sum of the ranks of the positive differences, 0, 1, 2, ...
    for rank in range(1, n_groups + 1):
        gap = np.zeros(rank)
        chances = 0.5 * (np.concatenate([chances, gap]) + np.concatenate([gap, chances]))
    levels = 2.0 * np.cumsum(chances)
    within = levels[levels <= alpha]
    return float(within[-1]) if len(within) > 0 else None


def _check_losses(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None, *, n_dimensions: int = 1
) -> None:
    shape = first.shape
    fits = first.ndim == n_dimensions and second.shape == shape and first.size > 0
    if not fits or (groups is not None and groups.shape != shape[-1:]):
        units = "" if groups is None else f", groups {groups.shape}"
        raise ValueError(
            f"losses have shapes {shape} and {second.shape}{units}; expected one loss of both"
            f"{'' if groups is None else ' and one group'} for each crop, and at least one crop"
        )


def _check_finite(first: np.ndarray, second: np.ndarray) -> None:
    if not (np.all(np.isfinite(first)) and np.all(np.isfinite(second))):
        raise ValueError(f"got {int(np.sum(~np.isfinite(first) | ~np.isfinite(second)))} losses that are not finite")


def _check_resampling(n_resamples: int, confidence: float) -> None:
    if n_resamples < 1 or not 0 < confidence < 1:
        raise SettingError(
            f"n_resamples: got {n_resamples}, confidence {confidence}; expected at least 1, inside (0, 1)"
        )
