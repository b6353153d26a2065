"""Are procedural crops like real ones? Statistics of crops, distances between sets of them, and a classifier.

All statistics are taken crop by crop, so that sets are pooled, halved and resampled by group without looking at a
pixel again. Nothing here knows what is real: two sets go in, figures of how they differ come out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, spatial
from skimage.feature import peak_local_max

from adaptive_scan.evaluation.spectra import power, power_spectra

N_BINS = 64
"""Bins of histograms."""

N_LEVELS = 8
"""Bins of the mean intensity that noise is measured against."""

INTENSITY_EDGES = np.linspace(-1.0, 1.0, N_BINS + 1)
"""Edges of the bins of intensities, the normalised range."""

GRADIENT_EDGES = np.linspace(0.0, 1.0, N_BINS + 1)
"""Edges of the bins of gradients [1/px]; steeper ones count in the last bin."""

OCTAVE_EDGES = np.linspace(1.0, 6.0, N_BINS + 1)
"""Edges of the bins of log2 of nearest-feature distances [px], 2 to 64 px; others count in the bin at their end."""

DISTANCES = {
    "spectrum": "dB",
    "intensity": "range",
    "gradient": "range/px",
    "noise": "decades",
    "noise_by_mean": "decades",
    "spacing": "octaves",
}
"""What is compared, and the unit of the distance."""

_BLOCK = 16
_LEAST_NOISE = 1e-4  # below the steps of any detector; keeps logarithms of noise-free crops finite
_LEAST_POWER = _LEAST_NOISE**2
_IMMERKAER = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
_MAD_OF_NORMAL = 0.6744897501960817
_SMOOTHING, _BACKGROUND = 1.2, 4.0  # of the difference of Gaussians that peaks are sought in [px]
_LEAST_PEAK = 0.3  # of the highest
_RIDGE = 0.1


def anisotropies(crops: np.ndarray, n_bands: int = 4) -> np.ndarray:
    """How much more power lies along the columns' frequency axis than along the rows', by band.

    Streaks along the rows, which line noise makes, have their power at column frequency 0.

    Args:
        crops: Shape (N, S, S).
        n_bands: Bands of equal width from 0 to 0.5 cycles per px.

    Returns:
        log10 of power within 15 degrees of the row-frequency axis over that of the other, shape (N, n_bands).

    Example:
        >>> streaks = np.random.default_rng(0).standard_normal((5, 64, 1)) * np.ones((5, 64, 64))
        >>> bool(np.all(anisotropies(streaks) > 1.0))
        True
    """
    found, (rows, columns) = power(crops)
    radius, slope = np.hypot(rows, columns), np.tan(np.deg2rad(15.0))
    result = np.empty((len(crops), n_bands))
    for band in range(n_bands):
        ring = (radius > 0.5 * band / n_bands) & (radius <= 0.5 * (band + 1) / n_bands)
        along = found[:, ring & (np.abs(columns) <= slope * np.abs(rows))].mean(axis=1)
        across = found[:, ring & (np.abs(rows) <= slope * np.abs(columns))].mean(axis=1)
        result[:, band] = np.log10((along + _LEAST_POWER) / (across + _LEAST_POWER))
    return result


def _histograms(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Shares of values (N, n) in equal bins; what lies outside counts in the bin at its end."""
    n_bins = len(edges) - 1
    scaled = (values - edges[0]) * (n_bins / (edges[-1] - edges[0]))
    bins = np.clip(scaled, 0, n_bins - 1).astype(np.int64)
    offsets = n_bins * np.arange(len(values))[:, None]
    counts = np.bincount((bins + offsets).ravel(), minlength=n_bins * len(values))
    return counts.reshape(len(values), n_bins) / values.shape[1]


def intensity_histograms(crops: np.ndarray) -> np.ndarray:
    """Share of the pixels in each bin of ``INTENSITY_EDGES``; shape (N, N_BINS).

    Example:
        >>> float(intensity_histograms(np.full((1, 16, 16), -1.0))[0, 0])
        1.0
    """
    return _histograms(crops.reshape(len(crops), -1), INTENSITY_EDGES)


def gradient_histograms(crops: np.ndarray) -> np.ndarray:
    """Share of the pixels in each bin of ``GRADIENT_EDGES`` of the gradient's magnitude; shape (N, N_BINS).

    The gradient is that of central differences, in the unit of the crops per px.

    Example:
        >>> ramp = np.broadcast_to(0.1 * np.arange(16.0), (1, 16, 16))
        >>> int(np.argmax(gradient_histograms(ramp))), round(0.1 * N_BINS, 1)
        (6, 6.4)
    """
    rows, columns = np.gradient(crops, axis=(1, 2))
    return _histograms(np.hypot(rows, columns).reshape(len(crops), -1), GRADIENT_EDGES)


def noise_residuals(crops: np.ndarray) -> np.ndarray:
    """White noise as it is, and little else: crops through a difference of two Laplacians, over 6.

    The mask [[1, -2, 1], [-2, 4, -2], [1, -2, 1]] keeps nothing of planes and edges along the axes and has the norm
    6 (J. Immerkaer 1996, doi:10.1006/cviu.1996.0060).

    Args:
        crops: Shape (N, S, S).

    Returns:
        Shape (N, S - 2, S - 2).

    Example:
        >>> plane = np.add.outer(np.arange(8.0), 2.0 * np.arange(8.0))
        >>> bool(np.abs(noise_residuals(plane[None])).max() < 1e-12)
        True
    """
    return ndimage.correlate(crops, _IMMERKAER[None] / 6.0)[:, 1:-1, 1:-1]


def noise_levels(crops: np.ndarray) -> np.ndarray:
    """Standard deviation of the noise, ``median |residual| / 0.6745``; shape (N,).

    Of :func:`noise_residuals`; the median absolute deviation is not misled by the few pixels where the specimen has
    fine detail (Donoho and Johnstone 1994, doi:10.1093/biomet/81.3.425). Noise that is correlated over neighbouring
    pixels counts less than it is.

    Args:
        crops: Shape (N, S, S).

    Example:
        >>> noise = 0.2 * np.random.default_rng(0).standard_normal((1, 256, 256))
        >>> round(float(noise_levels(noise)[0]), 2)
        0.2
    """
    return np.median(np.abs(noise_residuals(crops)), axis=(1, 2)) / _MAD_OF_NORMAL


def noise_by_mean(crops: np.ndarray) -> np.ndarray:
    """Noise level against mean intensity: the median over the blocks of 16 px whose mean lies in a bin.

    Args:
        crops: In [-1, 1], shape (N, S, S), S at least 18.

    Returns:
        Standard deviations, shape (N, N_LEVELS), for bins of equal width from -1 to 1; NaN where no block is.

    Example:
        >>> flat = 0.01 * np.random.default_rng(0).standard_normal((1, 64, 64)) + 0.1
        >>> np.isfinite(noise_by_mean(flat))[0].tolist()
        [False, False, False, False, True, False, False, False]
    """
    residuals = _blocks(np.abs(noise_residuals(crops)))
    means = _blocks(crops[:, 1:-1, 1:-1]).mean(axis=-1)
    levels = np.median(residuals, axis=-1) / _MAD_OF_NORMAL
    bins = np.clip((means + 1.0) * 0.5 * N_LEVELS, 0, N_LEVELS - 1).astype(np.int64)
    result = np.full((len(crops), N_LEVELS), np.nan)
    for crop in range(len(crops)):
        for level in np.unique(bins[crop]):
            result[crop, level] = np.median(levels[crop, bins[crop] == level])
    return result


def _blocks(pictures: np.ndarray) -> np.ndarray:
    """Whole blocks of pictures (N, H, W): shape (N, n_blocks, pixels of a block)."""
    n = pictures.shape[-1] // _BLOCK
    cut = pictures[:, : n * _BLOCK, : n * _BLOCK].reshape(len(pictures), n, _BLOCK, n, _BLOCK)
    return cut.swapaxes(2, 3).reshape(len(pictures), n * n, _BLOCK * _BLOCK)


def feature_distances(crop: np.ndarray) -> np.ndarray:
    """Distance from each bright feature to the nearest other one.

    Features are local maxima, at least 2 px apart, of a difference of Gaussians of 1.2 and 4 px, with at least 0.3 of
    the height of the highest.

    Args:
        crop: Shape (S, S).

    Returns:
        Distances [px], shape (n_features,); none where there are fewer than two.

    Example:
        >>> crop = np.zeros((32, 32))
        >>> crop[10, 10] = crop[10, 18] = 1.0
        >>> feature_distances(crop).tolist()
        [8.0, 8.0]
    """
    response = ndimage.gaussian_filter(crop, _SMOOTHING) - ndimage.gaussian_filter(crop, _BACKGROUND)
    highest = float(response.max())
    if not highest > 0.0:
        return np.empty(0)
    peaks = peak_local_max(response, min_distance=2, threshold_abs=_LEAST_PEAK * highest)
    if len(peaks) < 2:
        return np.empty(0)
    return spatial.KDTree(peaks).query(peaks, k=2)[0][:, 1]


def _spacing_histogram(crop: np.ndarray) -> np.ndarray:
    found = feature_distances(crop)
    return _histograms(np.log2(found)[None], OCTAVE_EDGES)[0] if len(found) else np.full(N_BINS, np.nan)


@dataclass(frozen=True)
class CropStatistics:
    """Statistics of N crops, one row each.

    Attributes:
        spectra: log10 of :func:`power_spectra`, shape (N, N_FREQUENCIES).
        directions: :func:`anisotropies`, shape (N, n_bands).
        intensities: :func:`intensity_histograms`, shape (N, N_BINS).
        gradients: :func:`gradient_histograms`, shape (N, N_BINS).
        noise: log10 of :func:`noise_levels`, at least -4, shape (N,).
        noise_by_mean: log10 of :func:`noise_by_mean`, at least -4, shape (N, N_LEVELS), NaN where nothing is.
        spacings: Shares of :func:`feature_distances` between ``OCTAVE_EDGES``, shape (N, N_BINS); NaN without any.
    """

    spectra: np.ndarray
    directions: np.ndarray
    intensities: np.ndarray
    gradients: np.ndarray
    noise: np.ndarray
    noise_by_mean: np.ndarray
    spacings: np.ndarray

    @classmethod
    def of(cls, crops: np.ndarray) -> CropStatistics:
        """Measure crops in [-1, 1].

        Args:
            crops: Shape (N, S, S), N at least 1, S at least 48, so that no ring is empty.

        Raises:
            ValueError: If the shape is another one.

        Example:
            >>> CropStatistics.of(np.random.default_rng(0).uniform(-1, 1, (3, 48, 48))).noise.shape
            (3,)
        """
        if crops.ndim != 3 or len(crops) == 0 or crops.shape[1] != crops.shape[2] or crops.shape[1] < 48:
            raise ValueError(f"crops: got shape {crops.shape}; expected (N, S, S), N at least 1 and S at least 48")
        pictures = np.asarray(crops, np.float64)
        return cls(
            spectra=np.log10(np.maximum(power_spectra(pictures), _LEAST_POWER)),
            directions=anisotropies(pictures),
            intensities=intensity_histograms(pictures),
            gradients=gradient_histograms(pictures),
            noise=np.log10(np.maximum(noise_levels(pictures), _LEAST_NOISE)),
            noise_by_mean=np.log10(np.maximum(noise_by_mean(pictures), _LEAST_NOISE)),
            spacings=np.stack([_spacing_histogram(picture) for picture in pictures]),
        )

    def __len__(self) -> int:
        return len(self.noise)

    def take(self, rows: np.ndarray) -> CropStatistics:
        """Those of some of the crops: indices or a mask."""
        return CropStatistics(**{field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)})

    def features(self) -> np.ndarray:
        """What a classifier sees of each crop; finite, shape (N, n_features).

        Spectrum, directions, cumulative histograms of intensity and gradient at 16 points each, noise, its change
        with the mean (0 where it was not measured), and the cumulative histogram of spacings at 8 points.
        """
        change = np.nan_to_num(self.noise_by_mean - self.noise[:, None])
        step = N_BINS // 16
        cumulated = [np.cumsum(np.nan_to_num(x), axis=1) for x in (self.intensities, self.gradients, self.spacings)]
        columns = [self.spectra, self.directions, cumulated[0][:, step - 1 :: step], cumulated[1][:, step - 1 :: step]]
        return np.concatenate(
            [*columns, self.noise[:, None], change, cumulated[2][:, 2 * step - 1 :: 2 * step]], axis=1
        )


def pooled(statistics: np.ndarray) -> np.ndarray:
    """Mean over the crops, each as much as another; rows or entries that are NaN are left out.

    Example:
        >>> pooled(np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()
        [2.0, nan]
    """
    known = np.isfinite(statistics)
    counts = known.sum(axis=0)
    sums = np.where(known, statistics, 0.0).sum(axis=0)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def histogram_distance(one: np.ndarray, other: np.ndarray, edges: np.ndarray) -> float:
    """Wasserstein distance of order 1 of two histograms, ``sum |F - G| dx`` with the cumulative shares F and G.

    Args:
        one: Shares, shape (n_bins,).
        other: Shares of the same bins.
        edges: Edges of the bins, equally spaced.

    Returns:
        In the unit of the edges.

    Example:
        >>> histogram_distance(np.array([1.0, 0, 0]), np.array([0, 0, 1.0]), np.array([0.0, 2.0, 4.0, 6.0]))
        4.0
    """
    return float(np.abs(np.cumsum(one - other)).sum() * (edges[1] - edges[0]))


def sample_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Wasserstein distance of order 1 of two samples of any sizes, by their quantiles.

    Example:
        >>> round(sample_distance(np.arange(5.0), np.arange(5.0) + 0.5), 6)
        0.5
    """
    shares = (np.arange(400) + 0.5) / 400
    return float(np.abs(np.quantile(one, shares) - np.quantile(other, shares)).mean())


def distances(one: CropStatistics, other: CropStatistics) -> dict[str, float | None]:
    """How far two sets of crops lie apart, by the names of ``DISTANCES``.

    Spectrum: root mean square over frequencies of the difference of the mean log spectra. Intensity, gradient, noise
    and spacing: Wasserstein distance of order 1 of their distributions; intensity and gradient in units of the whole
    range, from -1 to 1. Noise by mean: mean over bins of the difference of mean log levels, where both have any.

    Args:
        one: A set.
        other: Another one.

    Returns:
        Distances in the units of ``DISTANCES``; None where a set has nothing to compare.

    Example:
        >>> same = CropStatistics.of(np.random.default_rng(0).uniform(-1, 1, (3, 48, 48)))
        >>> set(distances(same, same).values())
        {0.0}
    """
    spectra = pooled(one.spectra) - pooled(other.spectra)
    by_mean = np.abs(pooled(one.noise_by_mean) - pooled(other.noise_by_mean))
    spacing = histogram_distance(pooled(one.spacings), pooled(other.spacings), OCTAVE_EDGES)
    return {
        "spectrum": 10.0 * float(np.sqrt(np.mean(spectra**2))),
        "intensity": 0.5 * histogram_distance(pooled(one.intensities), pooled(other.intensities), INTENSITY_EDGES),
        "gradient": 0.5 * histogram_distance(pooled(one.gradients), pooled(other.gradients), GRADIENT_EDGES),
        "noise": sample_distance(one.noise, other.noise),
        "noise_by_mean": float(np.nanmean(by_mean)) if np.isfinite(by_mean).any() else None,
        "spacing": spacing if np.isfinite(spacing) else None,
    }


def halves_by_group(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Halve crops at random so that no group is on both sides; a mask of the first half, shape (N,).

    Example:
        >>> halves_by_group(np.array([0, 0, 1, 1]), np.random.default_rng(0)).sum()
        np.int64(2)
    """
    names, codes = np.unique(groups, return_inverse=True)
    first = np.zeros(len(names), bool)
    first[rng.permutation(len(names))[: len(names) // 2]] = True
    return first[codes]


def reference_distances(
    statistics: CropStatistics, groups: np.ndarray, rng: np.random.Generator, *, n_splits: int = 40
) -> dict[str, tuple[float, float]]:
    """Distances that are to be expected of pictures of one kind: between random halves of the groups.

    Args:
        statistics: Of N crops.
        groups: Group of each, shape (N,), at least two different.
        rng: Draws the halves.
        n_splits: How often.

    Returns:
        Median and 95th percentile over the splits, by the names of ``DISTANCES``.

    Raises:
        ValueError: If there are fewer than two groups, or none has what is compared.

    Example:
        >>> noise = CropStatistics.of(np.random.default_rng(0).uniform(-1, 1, (4, 48, 48)))
        >>> median, upper = reference_distances(noise, np.arange(4), np.random.default_rng(0))["noise"]
        >>> 0.0 < median <= upper
        True
    """
    if len(np.unique(groups)) < 2:
        raise ValueError(f"groups: got {len(np.unique(groups))}; expected at least 2")
    found: dict[str, list[float]] = {name: [] for name in DISTANCES}
    for _ in range(n_splits):
        first = halves_by_group(groups, rng)
        for name, value in distances(statistics.take(first), statistics.take(~first)).items():
            if value is not None:
                found[name].append(value)
    empty = [name for name, values in found.items() if not values]
    if empty:
        raise ValueError(f"groups: got no {empty[0]} on both sides of any split; expected some in most groups")
    return {name: (float(np.median(values)), float(np.quantile(values, 0.95))) for name, values in found.items()}


@dataclass(frozen=True)
class Discrimination:
    """How well two sets are told apart.

    Attributes:
        accuracy: Balanced accuracy, the mean of the two shares below; 0.5 is chance.
        interval: 95 % interval of the accuracy; see :func:`tell_apart`.
        first: Share of the first set that was recognised.
        second: Share of the second set that was recognised.
    """

    accuracy: float
    interval: tuple[float, float]
    first: float
    second: float


def tell_apart(
    first: np.ndarray,
    second: np.ndarray,
    first_groups: np.ndarray,
    second_groups: np.ndarray,
    rng: np.random.Generator,
    *,
    n_folds: int = 5,
    n_resamples: int = 1000,
) -> Discrimination:
    """Balanced accuracy of a classifier, cross-validated by group: no group is in training and test at once.

    Regularised least squares with a Gaussian kernel, ``alpha = (K + D)^-1 y``, ``y = +-1``, on features scaled to
    mean 0 and variance 1 in training (R. Rifkin et al. 2003, Nato Science Series III 190, 131). The kernel's width is
    the median distance in training and the diagonal D the inverse weight that gives both sets the same sum: nothing is
    tuned.

    The interval is that of a bootstrap over the groups of both sets, drawn out about the accuracy by
    ``sqrt(1 + K / (K - 1))`` for K folds, because their training sets overlap (C. Nadeau and Y. Bengio 2003,
    doi:10.1023/A:1024068626366). Without that, intervals of equal sets hold chance in 86 to 89 % of the cases.

    Args:
        first: Features, shape (N, n_features).
        second: Features, shape (M, n_features).
        first_groups: Group of each row, shape (N,).
        second_groups: The same, shape (M,).
        rng: Draws folds and resamples.
        n_folds: Folds, at most the number of groups of either set.
        n_resamples: Resamples for the interval.

    Raises:
        ValueError: If a set has fewer groups than there are folds.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> apart = rng.standard_normal((60, 2)), rng.standard_normal((60, 2)) + 9.0
        >>> tell_apart(*apart, np.arange(60), np.arange(60), rng).accuracy
        1.0
    """
    fewest = min(len(np.unique(first_groups)), len(np.unique(second_groups)))
    if fewest < n_folds or n_folds < 2:
        raise ValueError(f"n_folds: got {n_folds} for {fewest} groups; expected 2 or more, and no more than groups")
    features = np.concatenate([first, second])
    labels = np.repeat([1.0, -1.0], [len(first), len(second)])
    folds = np.concatenate([_folds(groups, n_folds, rng) for groups in (first_groups, second_groups)])
    correct = np.empty(len(features))
    for fold in range(n_folds):
        test = folds == fold
        scores = _scores(features[~test], labels[~test], features[test])
        correct[test] = 0.5 + 0.5 * np.sign(scores * labels[test])
    hits = correct[: len(first)], correct[len(first) :]
    recalls = [
        _resampled_means(right, groups, n_resamples, rng)
        for right, groups in zip(hits, (first_groups, second_groups), strict=True)
    ]
    shares = [float(right.mean()) for right in hits]
    accuracy = 0.5 * sum(shares)
    ends = np.quantile(0.5 * (recalls[0] + recalls[1]), [0.025, 0.975])
    low, high = np.clip(accuracy + np.sqrt(1.0 + n_folds / (n_folds - 1)) * (ends - accuracy), 0.0, 1.0)
    return Discrimination(accuracy, (float(low), float(high)), *shares)


def _folds(groups: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    names, codes = np.unique(groups, return_inverse=True)
    return rng.permutation(np.arange(len(names)) % n_folds)[codes]


def _scores(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Positive where ``asked`` rather belongs to the label 1."""
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    scale = np.where(deviation > 1e-9, deviation, np.inf)  # a constant feature says nothing
    known, asked = (known - mean) / scale, (asked - mean) / scale
    squares = spatial.distance.cdist(known, known, "sqeuclidean")
    width = float(np.median(squares[np.triu_indices(len(known), 1)])) or 1.0
    shares = np.where(labels > 0, np.mean(labels > 0), np.mean(labels < 0))
    kernel = np.exp(-squares / width)
    kernel[np.diag_indices(len(kernel))] += 2.0 * _RIDGE * shares
    weights = np.linalg.solve(kernel, labels)
    return np.exp(-spatial.distance.cdist(asked, known, "sqeuclidean") / width) @ weights


def _resampled_means(values: np.ndarray, groups: np.ndarray, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means over resamples of whole groups, shape (n_resamples,)."""
    codes = np.unique(groups, return_inverse=True)[1]
    sums, counts = np.bincount(codes, values), np.bincount(codes)
    n_groups = len(counts)
    drawn = rng.multinomial(n_groups, np.full(n_groups, 1.0 / n_groups), size=n_resamples)
    return (drawn @ sums) / (drawn @ counts)


def spectrum_bands(
    spectra: np.ndarray, groups: np.ndarray, rng: np.random.Generator, *, n_resamples: int = 400
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean log spectrum and its 95 % interval over resamples of the groups.

    Args:
        spectra: log10 power, shape (N, n_frequencies).
        groups: Group of each row, shape (N,).
        rng: Draws the resamples.
        n_resamples: How many.

    Returns:
        Mean, lower and upper end, each of shape (n_frequencies,).

    Example:
        >>> spectra = np.array([[0.0, 1.0], [2.0, 1.0]])
        >>> [x.tolist() for x in spectrum_bands(spectra, np.arange(2), np.random.default_rng(0))]
        [[1.0, 1.0], [0.0, 1.0], [2.0, 1.0]]
    """
    columns = list(_columns(spectra, groups, rng, n_resamples))
    low, high = np.quantile(np.stack(columns, axis=1), [0.025, 0.975], axis=0)
    return spectra.mean(axis=0), low, high


def _columns(
    values: np.ndarray, groups: np.ndarray, rng: np.random.Generator, n_resamples: int
) -> Iterator[np.ndarray]:
    """Resampled means of each column, the same resamples for all."""
    seed = int(rng.integers(2**63))
    for column in values.T:
        yield _resampled_means(column, groups, n_resamples, np.random.default_rng(seed))
