from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.benchmark.definition import Benchmark, PictureSettings, ScanEntry
from adaptive_scan.benchmark.pictures import Fold, MicrographBank, ProceduralBank, make_fold, open_pictures
from adaptive_scan.micrographs import blur_target
from adaptive_scan.scans import ScanGeometry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(4):
        np.save(pictures / f"{i}.npy", rng.normal(size=(40, 50)).astype(np.float32))
    table = "file,group,content\n0.npy,a,Au nanoparticles\n1.npy,a,Au nanoparticles\n2.npy,b,Si <110> dumbbells\n"
    (pictures / "manifest.csv").write_text(table)
    return pictures


def benchmark_of(settings: PictureSettings) -> Benchmark:
    return Benchmark("a", {"1/16": ScanGeometry(16, 4, 4)}, (ScanEntry("spiral", "static"),), pictures=settings)


def test_a_procedural_crop_depends_on_its_number_alone() -> None:
    settings = PictureSettings(families=("grains", "points", "boxes"), n_crops=6)
    few, many = ProceduralBank(replace(settings, n_crops=3), 16), ProceduralBank(settings, 16)
    assert many.groups[:3] == few.groups
    assert np.array_equal(many.cut(np.arange(3)).crops, few.cut(np.arange(3)).crops)
    other = ProceduralBank(replace(settings, seed=1), 16)
    assert not np.array_equal(other.cut(np.arange(6)).crops, many.cut(np.arange(6)).crops)


def test_specimens_have_a_truth_and_every_crop_is_a_group() -> None:
    bank = ProceduralBank(PictureSettings(families=("grains", "points"), n_crops=8), 16)
    cut = bank.cut(np.arange(8))
    assert set(cut.content) == {"grains", "points"}
    assert [truth is not None for truth in cut.truths] == [kind == "points" for kind in cut.content]
    assert len(set(cut.groups)) == 8
    assert cut.corners is None


def test_the_train_source_holds_the_chosen_crops_only() -> None:
    bank = ProceduralBank(PictureSettings(n_crops=6), 16)
    source = bank.train_source(np.array([1, 4]))
    chosen = bank.cut(np.array([1, 4])).crops
    upright = [[0, 0], [1, 0]]
    assert np.array_equal(source.take(np.array(upright)), chosen)
    drawn = source.take(source.draw(50, np.random.default_rng(0)))
    sums = np.sort(chosen.reshape(2, -1), axis=1)
    assert all(np.isclose(np.sort(crop.ravel()), sums).all(axis=1).any() for crop in drawn)


@pytest.mark.parametrize("blur", [True, False])
def test_micrographs_are_cut_where_they_are_said_to_be(folder: Path, blur: bool) -> None:
    settings = PictureSettings(micrographs=str(folder), crops_per_micrograph=3, downsample=2, blur=blur)
    bank = MicrographBank(settings, 16)
    assert bank.groups == ["a", "a", "b", "3.npy"]
    cut = bank.cut(np.array([1, 2]))
    assert cut.micrographs == ["1.npy", "2.npy"]  # of 40 x 50 px one square of 32 px fits in
    assert cut.groups == ["a", "b"]
    assert cut.content == ["particles", "lattice"]
    assert np.array_equal(cut.targets, blur_target(cut.crops) if blur else cut.crops)
    for crop, name, (row, column) in zip(cut.crops, cut.micrographs, cut.corners, strict=True):
        square = np.load(folder / name)[row : row + 32, column : column + 32]
        expected = square.reshape(16, 2, 16, 2).mean(axis=(1, 3))
        expected = 2 * (expected - expected.min()) / np.ptp(expected) - 1
        assert np.allclose(crop, expected, atol=1e-5)


def test_the_fingerprint_is_that_of_pictures_groups_and_content(folder: Path, tmp_path: Path) -> None:
    plain = benchmark_of(PictureSettings(micrographs=str(folder)))
    resolved, bank = open_pictures(plain)
    assert resolved.pictures.fingerprint == bank.fingerprint
    assert open_pictures(resolved)[0].identity == resolved.identity

    moved = folder.rename(tmp_path / "elsewhere")
    settings = replace(resolved.pictures, micrographs=str(moved))
    assert open_pictures(replace(resolved, pictures=settings))[0].identity == resolved.identity

    table = moved / "manifest.csv"
    for old, new in ((",b,", ",c,"), ("nanoparticles", "lattice")):
        before = table.read_text()
        table.write_text(before.replace(old, new))
        with pytest.raises(ValueError, match=r"got other pictures or groups at .*; expected those with"):
            open_pictures(replace(resolved, pictures=settings))
        table.write_text(before)
    np.save(moved / "0.npy", np.zeros((40, 50), np.float32) + np.eye(40, 50, dtype=np.float32))
    with pytest.raises(ValueError, match="got other pictures"):
        open_pictures(replace(resolved, pictures=settings))


def test_procedural_pictures_need_no_fingerprint() -> None:
    benchmark = benchmark_of(PictureSettings(n_crops=2))
    assert open_pictures(benchmark)[0] == benchmark


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
