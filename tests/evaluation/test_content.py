from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.evaluation.content import (
    CONTENT_CLASSES,
    content_class,
    find_contents,
    read_contents,
    sparsity,
)
from adaptive_scan.micrographs import MicrographError, blur_target
from adaptive_scan.specimens import FAMILIES, procedural_crops
from adaptive_scan.specimens.recipes import SPECIMEN_FAMILIES


def test_single_bright_pixel_has_the_sparsity_of_its_four_neighbours() -> None:
    crop = np.full((1, 48, 48), -1.0, dtype=np.float32)
    crop[0, 20, 30] = 1.0
    # Central differences: four magnitudes of 1, so |g|_1 / |g|_2 = 4 / 2.
    assert sparsity(crop)[0] == pytest.approx((48 - 2) / 47)


def test_edge_across_the_picture_has_that_of_two_columns() -> None:
    crop = np.where(np.arange(32) < 16, -1.0, 1.0) * np.ones((1, 32, 1))
    assert sparsity(crop)[0] == pytest.approx((32 - math.sqrt(64)) / 31)


def test_full_lattice_plane_and_noise_are_not_sparse() -> None:
    wave = np.cos(2 * np.pi * (np.arange(96) + 0.25) / 12)
    lattice = wave[:, None] + wave
    # |g| = sqrt(sin^2 + sin^2) of mean 0.958 and mean square 1.
    assert sparsity(lattice[None])[0] == pytest.approx(1 - 0.958, abs=0.02)
    plane = np.add.outer(0.02 * np.arange(96), -0.01 * np.arange(96))
    assert sparsity(plane[None])[0] == pytest.approx(0.0, abs=1e-9)
    noise = np.random.default_rng(0).normal(size=(40, 96, 96))
    # Rayleigh-distributed magnitudes: mean over root mean square sqrt(pi) / 2; borders have larger differences.
    assert sparsity(noise).mean() == pytest.approx(1 - math.sqrt(math.pi) / 2, abs=0.01)


def test_picture_of_nothing_has_no_sparsity() -> None:
    assert sparsity(np.full((2, 16, 16), 0.3)).tolist() == [0.0, 0.0]
    rounded = np.full((1, 16, 16), 0.3) + 1e-9 * np.eye(16)
    assert sparsity(rounded).tolist() == [0.0]


@given(scale=st.floats(1e-2, 1e2), offset=st.floats(-10, 10), tilt=st.integers(0, 3), seed=st.integers(0, 999))
def test_scale_offset_and_turns_do_not_change_it(scale: float, offset: float, tilt: int, seed: int) -> None:
    crops = np.random.default_rng(seed).normal(size=(2, 12, 12))
    found = sparsity(crops)
    assert np.all((found > 0) & (found < 1))
    np.testing.assert_allclose(sparsity(np.rot90(scale * crops + offset, tilt, (1, 2))), found, rtol=1e-6)


def test_few_particles_are_sparser_than_lattices() -> None:
    kinds = {}
    for family in ("lattice", "nanoparticles"):
        crops, _ = procedural_crops(30, 48, np.random.default_rng(0), families=family)
        kinds[family] = np.median(sparsity(blur_target(crops)))
    assert kinds["nanoparticles"] > 2 * kinds["lattice"]


def test_crops_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got crops \(16, 16\); expected \(n, S, S\)"):
        sparsity(np.zeros((16, 16)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Al-Mg-Si(-Cu) alloy precipitate in Al matrix, atomic columns", "precipitates"),
        ("Pt single atoms on N-doped carbon", "single atoms"),
        ("molecular complexes (single heavy atoms) on oxide support, low contrast", "single atoms"),
        ("see image; Warwick STEM crop", "other"),
        ("supported metal nanoparticles on oxide/carbon", "particles"),
        ("supported metal nanoparticle catalyst (Ru4)", "particles"),
        ("Cr-doped TMD monolayer lattice", "lattice"),
        ("<110> dumbbell lattice", "lattice"),
        ("perovskite lattice DyScO3", "lattice"),
        ("particles on lacey carbon", "particles"),
        ("oxide interface lattice", "lattice"),
        ("nanoparticle edge lattice", "lattice"),
        ("monolayer MoSe2 grain boundary", "lattice"),
        ("MoO3/rod crystals on film", "particles"),
        ("battery electrode product", "other"),
        ("  Single-Atom catalyst ", "single atoms"),
        ("", "other"),
    ],
)
def test_classes_of_texts(text: str, expected: str) -> None:
    assert content_class(text) == expected


@pytest.mark.parametrize("name", [*FAMILIES, *SPECIMEN_FAMILIES, *CONTENT_CLASSES])
def test_families_and_classes_are_classes_of_their_own(name: str) -> None:
    assert content_class(name) == name


def _pictures(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_contents_are_read_for_the_files_that_exist(tmp_path: Path) -> None:
    _pictures(tmp_path, "a.tif", "more/b.tif", "c.tif")
    lines = ["file,group,content", "a.tif,g,a lattice", 'b.tif,g,"rods, long"', "c.tif,g,", "gone.tif,g,nothing"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    a, b = (tmp_path / "a.tif").resolve(), (tmp_path / "more" / "b.tif").resolve()
    assert read_contents(tmp_path / "manifest.csv", [tmp_path / "more"]) == {a: "a lattice", b: "rods, long"}
    assert find_contents(tmp_path) == {a: "a lattice"}
    assert find_contents(tmp_path / "c.tif") == {a: "a lattice"}


def test_table_in_the_parent_holds_for_a_folder_it_names(tmp_path: Path) -> None:
    _pictures(tmp_path, "in/a.tif", "out/b.tif")
    (tmp_path / "manifest.csv").write_text("file,content\nin/a.tif,steps\n", encoding="utf-8")
    assert find_contents(tmp_path / "in") == {(tmp_path / "in" / "a.tif").resolve(): "steps"}
    assert find_contents(tmp_path / "out") == {}


def test_table_without_the_column_says_nothing(tmp_path: Path) -> None:
    _pictures(tmp_path, "a.tif")
    (tmp_path / "manifest.csv").write_text("file,group\na.tif,g\n", encoding="utf-8")
    assert read_contents(tmp_path / "manifest.csv") == {}
    assert find_contents(tmp_path) == {}


def test_unreadable_tables_are_refused_where_named_and_passed_over_where_found(tmp_path: Path) -> None:
    with pytest.raises(MicrographError, match="nothing there"):
        read_contents(tmp_path / "manifest.csv")
    (tmp_path / "manifest.csv").write_bytes(b"file,content\n\xff\xfe\xfa,x\n")
    with pytest.raises(MicrographError, match="a file that is no CSV"):
        read_contents(tmp_path / "manifest.csv")
    assert find_contents(tmp_path) == {}


@pytest.mark.real_data
def test_every_content_of_the_real_micrographs_has_a_class(real_data_dir: Path) -> None:
    contents = find_contents(real_data_dir / "micrographs")
    found = {text: content_class(text) for text in contents.values()}
    assert len(contents) > 50
    assert set(found.values()) <= set(CONTENT_CLASSES)
    assert {text for text, name in found.items() if name == "other"} == {"see image; Warwick STEM crop"}
