from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.benchmark.folds import Fold, make_fold

GROUPS = st.lists(st.sampled_from([f"g{i}" for i in range(30)]), min_size=4, max_size=80)


def names(groups: list[str], fold: Fold) -> dict[str, set[str]]:
    return {part: {groups[i] for i in getattr(fold, part)} for part in ("train", "validation", "test")}


def least(n_folds: int) -> int:
    return 4 if n_folds == 2 else n_folds


@given(GROUPS, st.integers(2, 6), st.floats(0.01, 0.99), st.integers(0, 5))
def test_no_group_is_in_two_parts_and_none_is_left_out(
    groups: list[str], n_folds: int, share: float, split_seed: int
) -> None:
    if len(set(groups)) < least(n_folds):
        return
    tested: list[set[str]] = []
    for seed in range(n_folds):
        fold = make_fold(groups, seed, n_folds=n_folds, validation_share=share, split_seed=split_seed)
        parts = names(groups, fold)
        assert sorted(np.concatenate([fold.train, fold.validation, fold.test])) == list(range(len(groups)))
        assert not parts["train"] & parts["validation"]
        assert not parts["test"] & (parts["train"] | parts["validation"])
        assert all(parts.values())
        tested.append(parts["test"])
    # The test sets of the seeds are disjoint, of nearly one size, and all groups together.
    assert sum(map(len, tested)) == len(set(groups)) == len(set.union(*tested))
    assert max(map(len, tested)) - min(map(len, tested)) <= 1


@given(GROUPS, st.integers(0, 9), st.randoms(use_true_random=False))
def test_neither_order_nor_number_of_files_matters(groups: list[str], seed: int, random: object) -> None:
    if len(set(groups)) < 5:
        return
    other = [*groups, *groups[:3]]
    random.shuffle(other)  # type: ignore[attr-defined]
    assert names(other, make_fold(other, seed)) == names(groups, make_fold(groups, seed))


def test_seeds_of_one_fold_test_on_the_same_and_validate_on_others() -> None:
    groups = [f"g{i}" for i in range(40)]
    first, second = make_fold(groups, 1), make_fold(groups, 6)
    assert first.test.tolist() == second.test.tolist()
    assert first.validation.tolist() != second.validation.tolist()


def test_shares() -> None:
    fold = make_fold([f"g{i}" for i in range(100)], 0, n_folds=5, validation_share=0.25)
    assert (len(fold.test), len(fold.validation), len(fold.train)) == (20, 20, 60)


@pytest.mark.parametrize(("n_folds", "n_groups"), [(2, 3), (3, 2), (5, 4)])
def test_too_few_groups_are_refused(n_folds: int, n_groups: int) -> None:
    groups = [f"g{i}" for i in range(n_groups)]
    expected = rf"got {n_groups} group\(s\) of micrographs for {n_folds} folds; expected at least {n_groups + 1}"
    with pytest.raises(ValueError, match=expected):
        make_fold(groups, 0, n_folds=n_folds)
    make_fold([*groups, "one more"], 0, n_folds=n_folds)
