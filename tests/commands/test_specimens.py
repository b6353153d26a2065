"""``make_specimens``: the folder it leaves, and what it refuses."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from adaptive_scan.commands import make_specimens_main
from adaptive_scan.commands.specimens import COLUMNS
from adaptive_scan.micrographs import MicrographDataset
from adaptive_scan.specimens import SPECIMEN_FAMILIES, make_specimen

Make = Callable[..., int]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """``scripts/make_specimens.py`` in this process; returns the exit status."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["make_specimens.py", *map(str, arguments)])
        return make_specimens_main()

    return call


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_manifest_reads_back_and_its_seeds_remake_the_pictures(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    families = ("stacking_fault", "points", "bands")

    assert make("--n", 6, "--size", 48, "--families", *families, "--seed", 3, "--out", folder) == 0

    rows = rows_of(folder)
    assert tuple(rows[0]) == COLUMNS == ("file", "group", "family", "pixel_size", "seed")
    assert len({row["group"] for row in rows}) == len(rows) == 6
    assert {row["family"] for row in rows} <= set(families)
    for row in rows:
        specimen = make_specimen(row["family"], 48, np.random.default_rng(int(row["seed"])))
        with tifffile.TiffFile(folder / row["file"]) as tif:
            page = tif.pages[0]
            np.testing.assert_array_equal(page.asarray(), specimen.picture)
            described = json.loads(page.description)
            numerator, denominator = page.tags["XResolution"].value
        assert described["family"] == row["family"]
        assert described["pixel_size"] == float(row["pixel_size"]) == specimen.truth.pixel_size
        assert described["seed"] == int(row["seed"])
        assert [tuple(defect["position"]) for defect in described["defects"]] == [
            defect.position for defect in specimen.truth.defects
        ]
        # Pixels per centimetre, so that other programs show a scale bar.
        assert 1e8 * denominator / numerator == pytest.approx(specimen.truth.pixel_size, rel=1e-3)
        with np.load(folder / described["truth"], allow_pickle=False) as truth:
            np.testing.assert_array_equal(truth["positions"], specimen.truth.positions)
            np.testing.assert_array_equal(truth["numbers"], specimen.truth.numbers)
            for name, mask in specimen.truth.masks.items():
                np.testing.assert_array_equal(truth[f"mask_{name}"], mask)


def test_the_folder_is_a_dataset_with_its_groups(make: Make, tmp_path: Path) -> None:
    assert make("--n", 5, "--size", 32, "--families", "vacancies", "--out", tmp_path / "made") == 0

    dataset = MicrographDataset(tmp_path / "made", crop_size=32)

    assert len(dataset) == 5
    assert dataset.groups == [row["group"] for row in rows_of(tmp_path / "made")]
    assert dataset[0].max() == 1.0


def test_all_families_are_drawn_by_default_and_the_seed_decides(make: Make, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert make("--n", 60, "--size", 16, "--seed", seed, "--out", tmp_path / name) == 0
    tables = [rows_of(tmp_path / name) for name in "abc"]

    assert tables[0] == tables[1] != tables[2]
    assert len({row["family"] for row in tables[0]}) > len(SPECIMEN_FAMILIES) / 2


def test_a_pixel_size_holds_for_all_pictures(make: Make, tmp_path: Path) -> None:
    assert make("--n", 3, "--size", 32, "--pixel-size", 0.3, "--out", tmp_path / "made") == 0

    assert {row["pixel_size"] for row in rows_of(tmp_path / "made")} == {"0.3"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--families", "cheese"), "families: got 'cheese'; expected some of space_group_crystal, "),
        (("--size", 15), "size: got 15 px; expected at least 16 px"),
        (("--n", 0), "n: got 0; expected at least 1"),
        (("--seed", -1), "seed: got -1; expected a number of at least 0"),
        (("--pixel-size", 0), "pixel_size: got 0.0; expected a length above 0 Å"),
        (("--size", "wide"), ""),
    ],
)
def test_bad_requests_end_in_one_line(
    make: Make, tmp_path: Path, complaint: Callable[[], str], arguments: tuple[object, ...], message: str
) -> None:
    assert make(*arguments, "--out", tmp_path / "made") == 2
    assert complaint().startswith(f"error: {message}")
    assert not (tmp_path / "made").exists()


def test_a_folder_with_something_in_it_is_refused(make: Make, tmp_path: Path, complaint: Callable[[], str]) -> None:
    (tmp_path / "note.txt").write_text("mine")

    assert make("--n", 1, "--size", 16, "--out", tmp_path) == 2
    assert complaint() == f"error: {tmp_path}: got something there already; expected a new or empty folder"
    assert make("--n", 1, "--size", 16, "--out", tmp_path / "note.txt") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
