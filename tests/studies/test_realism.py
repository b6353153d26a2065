"""``compare_specimens``: the report it leaves, and what it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import MicrographDataset, normalise
from adaptive_scan.specimens import procedural_crops
from studies.crop_statistics import DISTANCES
from studies.realism import MIXTURES, RealismConfig, drawn_crops, main, real_crops, realism_table

Compare = Callable[..., int]
FEW = ("--crop-size", 48, "--n-crops", 20, "--crops-per-group", 2)


@pytest.fixture
def compare_specimens(monkeypatch: pytest.MonkeyPatch) -> Compare:
    """``benchmarks/studies/realism.py`` in this process; returns the exit status."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["compare_specimens.py", *map(str, arguments)])
        return main()

    return call


def write_pictures(folder: Path, n: int = 12, side: int = 64, group_of: Callable[[int], int] = lambda i: i) -> Path:
    """Pictures that are drawn like those of the family ``lattice``, and a manifest with their groups."""
    folder.mkdir()
    pictures, _ = procedural_crops(n, side, np.random.default_rng(9), families=["lattice"])
    rows = ["file,group"]
    for number, picture in enumerate(pictures):
        tifffile.imwrite(folder / f"{number:02d}.tif", picture)
        rows.append(f"{number:02d}.tif,g{group_of(number)}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_the_report_holds_a_row_per_family_and_imaging_and_the_same_seed_repeats_it(
    compare_specimens: Compare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    for out in ("a", "b"):
        options = ("--family", "grains", "lattice", "--imaging", "default", "realistic", *FEW)
        assert compare_specimens("--micrographs", pictures, "--out", tmp_path / out, *options) == 0

    report = json.loads((tmp_path / "a" / "realism.json").read_text())
    assert [(row["family"], row["imaging"]) for row in report["families"]] == [
        (family, imaging) for family in ("grains", "lattice") for imaging in ("default", "realistic")
    ]
    assert set(report["reference"]["distances"]) == set(DISTANCES) <= set(report["families"][0])
    assert report["micrographs"]["n_groups"] == 12
    for row in report["families"]:
        told = row["classifier"]
        assert told["accuracy"] == pytest.approx(0.5 * (told["real"] + told["procedural"]))
        assert told["interval"][0] <= told["accuracy"] <= told["interval"][1]
    for name in ("realism.json", "realism.md", "realism.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "realism.md").read_text() == realism_table(report)
    assert "written: " in capsys.readouterr().out


def test_the_family_that_the_pictures_are_of_is_nearest_and_cannot_be_told_from_them(tmp_path: Path) -> None:
    from studies.realism import compare_specimens as compare

    pictures = write_pictures(tmp_path / "pictures", n=80, side=48)
    config = RealismConfig(
        micrographs=pictures,
        out=tmp_path / "out",
        family=("lattice", "grains"),
        crop_size=48,
        n_crops=80,
        crops_per_group=1,
    )

    lattice, grains = compare(config)["families"]

    assert lattice["classifier"]["interval"][0] < 0.5
    assert grains["classifier"]["interval"][0] > 0.6
    for name in ("spectrum", "intensity", "gradient"):
        assert lattice[name] < grains[name]


def test_groups_have_equal_say_and_halves_share_none(tmp_path: Path) -> None:
    # Two thirds of the pictures are of one group.
    pictures = write_pictures(tmp_path / "pictures", n=60, group_of=lambda i: min(i, 20))
    dataset = MicrographDataset(pictures)
    parts = {
        part: real_crops(
            RealismConfig(micrographs=pictures, out=tmp_path, part=part, crop_size=48, crops_per_group=3), dataset
        )[1]  # type: ignore[arg-type]
        for part in ("all", "first", "second")
    }

    assert np.unique(parts["all"], return_counts=True)[1].tolist() == [3] * 21
    assert not set(parts["first"]) & set(parts["second"])
    assert set(parts["first"]) | set(parts["second"]) == set(parts["all"])


def test_procedural_crops_are_averaged_over_blocks_as_real_ones_are(tmp_path: Path) -> None:
    config = RealismConfig(micrographs=tmp_path, out=tmp_path, crop_size=48, downsample=2, n_crops=6)

    crops = drawn_crops(config, "default_mixture", "default")

    families = MIXTURES["default_mixture"]
    full, _ = procedural_crops(6, 96, np.random.default_rng([0, 1]), families=families)
    blocks = full.reshape(6, 48, 2, 48, 2).mean(axis=(2, 4), dtype=np.float64)
    np.testing.assert_allclose(crops, normalise(blocks), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--family", "cheese"), "family: got 'cheese'; expected names among default_mixture, "),
        (("--imaging", "sharp"), "imaging: got 'sharp'; expected names among default, realistic"),
        (("--crop-size", 47), "crop_size: got 47 px; expected at least 48 px"),
        (("--n-crops", 4), "n_crops: got 4; expected at least 5"),
        (("--seed", -1), "seed: got -1; expected at least 0"),
        (("--part", "third"), ""),
    ],
)
def test_bad_requests_end_in_one_line(
    compare_specimens: Compare,
    tmp_path: Path,
    complaint: Callable[[], str],
    arguments: tuple[object, ...],
    message: str,
) -> None:
    assert compare_specimens("--micrographs", tmp_path, "--out", tmp_path / "made", *arguments) == 2
    assert complaint().startswith(f"error: {message}")
    assert not (tmp_path / "made").exists()


def test_too_few_groups_end_in_one_line_and_leave_no_folder(
    compare_specimens: Compare, tmp_path: Path, complaint: Callable[[], str]
) -> None:
    pictures = write_pictures(tmp_path / "pictures", n=9)

    assert compare_specimens("--micrographs", pictures, "--out", tmp_path / "made", *FEW) == 2
    assert complaint() == (f"error: {pictures}: got 9 groups of micrographs with sides of 48 px; expected at least 10")
    assert not (tmp_path / "made").exists()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    from studies.realism import compare_specimens as compare

    (tmp_path / "note.txt").write_text("mine")

    with pytest.raises(SettingError, match="got something there already; expected a new or empty folder"):
        compare(RealismConfig(micrographs=tmp_path, out=tmp_path))


@pytest.mark.real_data
def test_realistic_imaging_is_nearer_to_micrographs_that_it_was_not_set_on(real_data_dir: Path, tmp_path: Path) -> None:
    from studies.realism import compare_specimens as compare

    config = RealismConfig(
        micrographs=real_data_dir / "micrographs",
        out=tmp_path / "out",
        family=("default_mixture",),
        imaging=("default", "realistic"),
        part="second",
        n_crops=120,
        crops_per_group=4,
    )

    default, realistic = compare(config)["families"]

    assert realistic["classifier"]["accuracy"] < default["classifier"]["accuracy"]
    for name in ("spectrum", "intensity", "noise"):
        assert realistic[name] < default[name]
