"""Folds of groups of micrographs: each seed tests on a fold of its own, so that no picture is tested twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fold:
    """Micrographs of one seed by their use, each as sorted indices, int64.

    Attributes:
        train: What networks and policies learn on.
        validation: What scans are tuned and chosen on.
        test: What scans are compared on.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def make_fold(
    groups: Sequence[str], seed: int, *, n_folds: int = 5, validation_share: float = 0.15, split_seed: int = 0
) -> Fold:
    """Deal micrographs out so that no group is in two parts, and seeds of different folds test on different groups.

    The groups, sorted by name, are shuffled once with ``split_seed`` and dealt into ``n_folds`` folds, whose sizes
    differ by at most one. The test set is fold ``seed mod n_folds``. The other groups are shuffled with both seeds; the
    first of them, ``validation_share`` of their number but at least one, are for validation. Neither the order of the
    files nor how many a group has matters to which part a group falls into.

    Args:
        groups: Group of each micrograph, shape (n_micrographs,).
        seed: Which repetition.
        n_folds: Number of folds, at least 2.
        validation_share: Share of the groups outside the test fold that are for validation.
        split_seed: Of the one shuffle that all repetitions share.

    Returns:
        The three parts.

    Raises:
        ValueError: If there are fewer groups than folds, or than it takes to train and to validate beside a fold.

    Example:
        >>> fold = make_fold(["a", "a", "b", "c", "d", "e"], seed=0)
        >>> np.sort(np.concatenate([fold.train, fold.validation, fold.test])).tolist()
        [0, 1, 2, 3, 4, 5]
    """
    names = np.array(sorted(set(groups)), dtype=str)
    n_needed = 4 if n_folds == 2 else n_folds  # two groups at least must be left beside a fold
    if len(names) < n_needed:
        raise ValueError(f"got {len(names)} group(s) of micrographs for {n_folds} folds; expected at least {n_needed}")
    folds = np.array_split(np.random.default_rng(split_seed).permutation(len(names)), n_folds)
    place = seed % n_folds
    rest = np.sort(np.concatenate([fold for i, fold in enumerate(folds) if i != place]))
    rest = np.random.default_rng([split_seed, seed]).permutation(rest)
    n_validation = min(max(round(validation_share * len(rest)), 1), len(rest) - 1)
    parts = {"test": folds[place], "validation": rest[:n_validation], "train": rest[n_validation:]}
    members = np.array(groups, dtype=str)
    return Fold(**{part: np.flatnonzero(np.isin(members, names[chosen])) for part, chosen in parts.items()})
