from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaptive_scan.benchmark.definition import Benchmark, PictureSettings, ScanEntry
from adaptive_scan.benchmark.pictures import MicrographBank, ProceduralBank, open_pictures
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
