"""How different the paths of different crops are, and how much of that has to do with the crop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist

from adaptive_scan.scans import partial_scans

_SAME_PATH = 1e-3  # px: paths closer than this, root mean squared, are one path
_PENALTIES = 10.0 ** np.arange(-4, 4)
_N_FOLDS = 5


def adaptivity(
    positions: ArrayLike,
    targets: ArrayLike,
    groups: Sequence[Any] | np.ndarray,
    rng: np.random.Generator,
    *,
    repeats: ArrayLike | None = None,
    n_components: int = 32,
    n_most: int = 500,
) -> dict[str, float]:
    """How different the paths of different crops are, and how much of that has to do with the crop.

    Four figures, of which the last needs scans that were repeated:

    - ``path_diversity``: the mean distance between the positions of two crops' paths at the same time [px].
    - ``pixel_overlap``: the mean share of the pixels measured on either of two crops that was measured on both.
    - ``predicted_share``: the share of the variance of the positions that a ridge regression on the first principal
      components of the targets predicts, for crops of specimens that it did not see: ``1 - sum (p - predicted p)^2 /
      sum (p - mean p)^2``, the mean being that of the crops it saw. The penalty is chosen inside each fold. It is
      linear, so it is a lower bound, and a little below 0 where there is nothing to predict.
    - ``crop_share``: the share of the variance of the positions that lies between crops and not between repeated scans
      of one crop, by the components of variance of a one-way analysis: ``b / (b + w)`` with w the mean square within
      crops and ``b = (mean square between crops - w) / n_repeats``, or 0 if that is negative. Without noise a
      deterministic policy repeats itself, and the share is 1 whatever steers it: only noise gives it a meaning.

    Where all paths are one path, the shares are 0: there is nothing that a crop could explain.

    Args:
        positions: The path of each crop [px], shape (n_crops, n_positions, 2), of at least 2 crops.
        targets: What the crops show, shape (n_crops, S, S).
        groups: Specimen of each crop, shape (n_crops,).
        rng: Draws the folds, and the crops where there are too many.
        repeats: The paths of the same crops, scanned again and again with other noise, shape (n_repeats, n_crops,
            n_positions, 2), at least 2 of each.
        n_components: Principal components of the regression, at most.
        n_most: Crops of the first three figures, at most.

    Returns:
        The figures by name; ``predicted_share`` only where there are 2 specimens, ``crop_share`` only with repeats.

    Raises:
        ValueError: If shapes do not fit or there are fewer than 2 crops or repeats.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> static, crops = np.zeros((6, 5, 2)), rng.uniform(size=(6, 8, 8))
        >>> adaptivity(static, crops, list("aabbcc"), rng)
        {'path_diversity': 0.0, 'pixel_overlap': 1.0, 'predicted_share': 0.0}
    """
    paths, pictures = np.asarray(positions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    _check_adaptivity(paths, pictures, labels)
    figures = {}
    if repeats is not None:
        figures["crop_share"] = _crop_share(np.asarray(repeats, dtype=np.float64), paths.shape)
    if len(paths) > n_most:
        chosen = np.sort(rng.choice(len(paths), n_most, replace=False))
        paths, pictures, labels = paths[chosen], pictures[chosen], labels[chosen]
    return {
        "path_diversity": float(np.mean([pdist(paths[:, i]).mean() for i in range(paths.shape[1])])),
        "pixel_overlap": _pixel_overlap(paths, pictures.shape[-1]),
        **_predicted_share(paths, pictures, labels, n_components, rng),
        **figures,
    }


def _check_adaptivity(paths: np.ndarray, pictures: np.ndarray, labels: np.ndarray) -> None:
    if paths.ndim != 3 or paths.shape[2] != 2 or len(paths) < 2:
        raise ValueError(
            f"positions have shape {paths.shape}; expected (n_crops, n_positions, 2) with at least 2 crops"
        )
    if pictures.ndim != 3 or len(pictures) != len(paths):
        raise ValueError(f"targets have shape {pictures.shape}; expected ({len(paths)}, S, S), one for each path")
    if labels.shape != (len(paths),):
        raise ValueError(f"groups have shape {labels.shape}; expected ({len(paths)},), one for each path")


def _pixel_overlap(paths: np.ndarray, image_size: int) -> float:
    """Mean over pairs of paths of the measured pixels in common over those of either."""
    blank = np.zeros(paths.shape[:2], dtype=np.float32)
    masks = partial_scans(blank, paths, image_size)[:, 1].reshape(len(paths), -1)
    common = masks @ masks.T
    sizes = np.diag(common)
    either = sizes[:, None] + sizes - common
    return float((common / either)[np.triu_indices(len(paths), 1)].mean())


def _crop_share(repeats: np.ndarray, shape: tuple[int, ...]) -> float:
    """Share of the variance of repeated paths that lies between crops; see `adaptivity`."""
    if repeats.ndim != 4 or repeats.shape[1:] != shape or len(repeats) < 2:
        raise ValueError(f"repeats have shape {repeats.shape}; expected (n_repeats, *{shape}) with at least 2 repeats")
    n_repeats, n_crops = repeats.shape[:2]
    means = repeats.mean(axis=0)
    within = float(np.square(repeats - means).sum()) / (n_crops * (n_repeats - 1))
    among = n_repeats * float(np.square(means - means.mean(axis=0)).sum()) / (n_crops - 1)
    between = max(0.0, (among - within) / n_repeats)
    total = between + within
    return between / total if total > _SAME_PATH**2 * repeats[0, 0].size else 0.0


def _predicted_share(
    paths: np.ndarray, pictures: np.ndarray, labels: np.ndarray, n_components: int, rng: np.random.Generator
) -> dict[str, float]:
    """Share of the variance of paths that their crops predict across specimens, by name; see `adaptivity`."""
    if len(np.unique(labels)) < 2:
        return {}
    coordinates = paths.reshape(len(paths), -1)
    if math.sqrt(np.square(coordinates - coordinates.mean(axis=0)).mean()) <= _SAME_PATH:
        return {"predicted_share": 0.0}
    features = _principal_components(pictures.reshape(len(pictures), -1), n_components)
    left, total = 0.0, 0.0
    for held_out in _folds(labels, rng):
        seen, known = features[~held_out], coordinates[~held_out]
        units = labels[~held_out] if len(np.unique(labels[~held_out])) > 1 else np.arange(len(seen))
        inner = list(_folds(units, rng)) if len(seen) > 1 else []
        errors = sum((_squared_errors(seen, known, fold) for fold in inner), np.zeros(len(_PENALTIES)))
        predicted = _ridge(seen, known, features[held_out])[int(np.argmin(errors))]
        left += float(np.square(coordinates[held_out] - predicted).sum())
        total += float(np.square(coordinates[held_out] - known.mean(axis=0)).sum())
    return {"predicted_share": 1.0 - left / total}


def _principal_components(flat: np.ndarray, n_components: int) -> np.ndarray:
    """Scores of the first principal components, of unit mean variance, shape (n_crops, n_kept)."""
    centred = flat - flat.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = np.argsort(values)[::-1][:n_components]
    kept = kept[values[kept] > 1e-10 * max(float(values.max()), 1e-300)]
    scores = vectors[:, kept] * np.sqrt(values[kept])
    return scores / math.sqrt(np.square(scores).mean()) if kept.size else np.zeros((len(flat), 1))


def _folds(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Masks of folds that hold whole specimens and about as many crops each, shape (n_crops,) each."""
    names, counts = np.unique(labels, return_counts=True)
    order = rng.permutation(len(names))
    n_folds = min(_N_FOLDS, len(names))
    sizes, members = np.zeros(n_folds), [np.zeros(len(labels), dtype=bool) for _ in range(n_folds)]
    for each in order[np.argsort(-counts[order], kind="stable")]:
        smallest = int(np.argmin(sizes))
        sizes[smallest] += counts[each]
        members[smallest] |= labels == names[each]
    return members


def _squared_errors(features: np.ndarray, coordinates: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Squared error on a fold of the regression on all others, for each penalty, shape (n_penalties,)."""
    predicted = _ridge(features[~fold], coordinates[~fold], features[fold])
    found: np.ndarray = np.square(predicted - coordinates[fold]).sum(axis=(1, 2))
    return found


def _ridge(features: np.ndarray, coordinates: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Ridge regression with an intercept, for each penalty, shape (n_penalties, n_wanted, n_coordinates)."""
    centre, middle = features.mean(axis=0), coordinates.mean(axis=0)
    u, s, vt = np.linalg.svd(features - centre, full_matrices=False)
    projected = u.T @ (coordinates - middle)
    along = (wanted - centre) @ vt.T
    answers = [(along * (s / (s * s + penalty * len(features)))) @ projected for penalty in _PENALTIES]
    found: np.ndarray = np.stack(answers) + middle
    return found
