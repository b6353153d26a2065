"""What a person sees who brings pictures that cannot be used: one line, status 2, nothing on the disk."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from adaptive_scan.commands.run_folder import read_json
from adaptive_scan.errors import SettingError


def corrupted(folder: Path) -> None:
    whole = io.BytesIO()
    tifffile.imwrite(whole, np.random.default_rng(0).random((64, 64), dtype=np.float32))
    (folder / "scan.tif").write_bytes(whole.getvalue()[:9000])


def damaged_inside(folder: Path) -> None:
    whole = io.BytesIO()
    tifffile.imwrite(whole, np.random.default_rng(0).random((64, 64), dtype=np.float32), compression="zlib")
    data = bytearray(whole.getvalue())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    (folder / "scan.tif").write_bytes(bytes(data))


def colour_png(folder: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(picture).save(folder / "scan.tif", "png")


def all_nan(folder: Path) -> None:
    tifffile.imwrite(folder / "scan.tif", np.full((64, 64), np.nan, dtype=np.float32))


def small(folder: Path) -> None:
    tifffile.imwrite(folder / "scan.tif", np.random.default_rng(0).random((20, 20), dtype=np.float32))


def empty(folder: Path) -> None:
    assert not list(folder.iterdir())


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "corrupted": (
        corrupted,
        "{}/scan.tif: got a truncated file: page 0 ends at byte ",
    ),
    "damaged inside": (damaged_inside, "{}/scan.tif: got damaged or truncated data ("),
    "colour PNG": (
        colour_png,
        "{}/scan.tif: got PNG data; expected a picture in the format of the suffix .tif",
    ),
    "all NaN": (all_nan, "{}/scan.tif: got no finite value; expected a picture with finite values"),
    "small": (small, "{}/scan.tif: got a picture of 20 x 20 px; expected sides of at least 32 px for the crop"),
    "empty folder": (empty, "{}: got no micrograph files, an empty folder; expected files with one of the suffixes"),
}
WITH_CROPS_OF_32 = ("--data.downsample", "2")
Command = Callable[..., int]


@pytest.mark.parametrize("case", CASES)
def test_bad_pictures_end_in_one_line(
    case: str, train: Command, tmp_path: Path, tiny_run: tuple[str, ...], complaint: Callable[[], str]
) -> None:
    make, message = CASES[case]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    make(pictures)
    assert train(*tiny_run, *WITH_CROPS_OF_32, "--micrographs", pictures, "--out", tmp_path / "run") == 2
    assert complaint().startswith(f"error: {message.format(pictures)}")
    assert not (tmp_path / "run").exists()


def test_the_real_command_ends_in_one_line(
    tmp_path: Path, tiny_run: tuple[str, ...], start: Callable[..., subprocess.Popen[str]]
) -> None:
    corrupted(tmp_path)
    process = start("train_rdpg.py", *tiny_run, *WITH_CROPS_OF_32, "--micrographs", tmp_path, "--out", tmp_path / "run")
    output, said = process.communicate(timeout=120)
    assert (process.returncode, output) == (2, "")
    (line,) = said.splitlines()
    assert line.startswith(f"error: {CASES['corrupted'][1].format(tmp_path)}")
    assert line.endswith(" of 9000; expected a whole TIFF file")


def test_a_bad_picture_among_good_ones_is_found_before_training(
    train: Command,
    tmp_path: Path,
    tiny_run: tuple[str, ...],
    complaint: Callable[[], str],
    write_micrographs: Callable[..., Path],
) -> None:
    pictures = write_micrographs(tmp_path / "pictures")
    all_nan(pictures)
    assert train(*tiny_run, "--micrographs", pictures, "--out", tmp_path / "run") == 2
    assert complaint() == f"error: {CASES['all NaN'][1].format(pictures)}"
    assert not (tmp_path / "run").exists()


def test_skip_bad_reports_each_file_and_trains_on_the_rest(
    train: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tiny_run: tuple[str, ...],
    write_micrographs: Callable[..., Path],
) -> None:
    pictures, run = write_micrographs(tmp_path / "pictures"), tmp_path / "run"
    made = {name: make for name, (make, _) in CASES.items() if name != "empty folder"}
    for name, make in made.items():
        folder = pictures / name
        folder.mkdir()
        make(folder)
    line = ("--micrographs", pictures, "--skip-bad", "--out", run, "--iterations", "2")
    assert train(*tiny_run, *WITH_CROPS_OF_32, *line) == 0
    said = [text.removeprefix("skipped: ") for text in capsys.readouterr().out.splitlines() if "skipped: " in text]
    assert len(said) == len(made)
    for name in made:
        expected = CASES[name][1].format(pictures / name)
        assert [text for text in said if text.startswith(expected)], name
    data = read_json(run / "manifest.json")["data"]
    assert sorted(data["skipped"]) == sorted(said)
    assert sorted(data["train"] + data["test"]) == [f"good_{i}.tif" for i in range(4)]


def test_nothing_left_is_said_with_the_first_reason(
    train: Command, tmp_path: Path, tiny_run: tuple[str, ...], complaint: Callable[[], str]
) -> None:
    all_nan(tmp_path)
    assert train(*tiny_run, "--micrographs", tmp_path, "--skip-bad", "--out", tmp_path / "run") == 2
    assert "got no readable micrograph (1 skipped, the first: " in complaint()


def test_a_single_micrograph_says_what_to_do(
    train: Command,
    tmp_path: Path,
    tiny_run: tuple[str, ...],
    complaint: Callable[[], str],
    write_micrographs: Callable[..., Path],
) -> None:
    pictures = write_micrographs(tmp_path / "pictures", n=1)
    assert train(*tiny_run, "--micrographs", pictures, "--out", tmp_path / "run") == 2
    assert complaint() == (
        f"error: {pictures}: got one micrograph; expected at least two groups, one of them to hold out"
        " (add a micrograph of another area, or cut this one into two files)"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("thing", ["folder", "file"])
def test_what_is_there_stays(
    thing: str, train: Command, tmp_path: Path, tiny_run: tuple[str, ...], complaint: Callable[[], str]
) -> None:
    out = tmp_path / "run"
    note = out / "note.txt" if thing == "folder" else out
    note.parent.mkdir(exist_ok=True)
    note.write_text("mine")
    assert train(*tiny_run, "--out", out) == 2
    assert complaint() == (f"error: {out}: got something there already; expected a new or empty folder (or --resume)")
    assert note.read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [note]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("--geometry.image-size", "18", "--generator.n-levels", "3"),
            "geometry.image_size: got 18 px; expected a multiple of",
        ),
        (("--generator.static-scans", "spiral", "foo"), "generator.static_scans: got 'foo'; expected some of"),
        (("--geometry.start", "90", "2"), "geometry: start: got"),
        (("--groups", "missing.csv", "--micrographs", "."), "."),
        (("--micrographs", "missing"), "missing: got nothing there; expected a file of micrographs"),
    ],
)
def test_settings_that_do_not_go_together_end_in_one_line(
    settings: tuple[str, ...],
    message: str,
    train: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_run: tuple[str, ...],
    complaint: Callable[[], str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(*tiny_run, *settings, "--out", "run") == 2
    assert complaint().startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


def test_a_defect_shows_its_traceback(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_run: tuple[str, ...]
) -> None:
    def broken(*arguments: object) -> None:
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr("adaptive_scan.agents.RDPG.batch_rewards", broken)
    monkeypatch.setattr("adaptive_scan.agents.ScanRDPG.batch_rewards", broken)
    with pytest.raises(ValueError, match="broadcast"):
        train(*tiny_run, "--out", tmp_path / "run")


def test_training_that_diverges_says_so(
    train: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_run: tuple[str, ...],
) -> None:
    def diverge(*arguments: object) -> None:
        raise FloatingPointError("4 of 4 losses are not finite; expected finite losses")

    monkeypatch.setattr("adaptive_scan.agents.ScanRDPG.batch_rewards", diverge)
    assert train(*tiny_run, "--out", tmp_path / "run") == 1
    assert "losses are not finite" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("place", ["adaptive_scan.agents.ScanRDPG._setup_learn", "adaptive_scan.commands.train.Keeper"])
def test_what_fails_in_the_first_moments_of_training_is_told(
    place: str, train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_run: tuple[str, ...]
) -> None:
    def fail(*arguments: object, **settings: object) -> None:
        raise MemoryError("Unable to allocate 64. PiB")

    monkeypatch.setattr(place, fail)
    with pytest.raises(MemoryError, match="64"):
        train(*tiny_run, "--out", tmp_path / "run")


def test_a_misuse_inside_training_keeps_its_traceback_whatever_it_says(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_run: tuple[str, ...]
) -> None:
    def broken(*arguments: object, **settings: object) -> None:
        raise ValueError("scans: got (4, 2); expected (4, 3)")

    monkeypatch.setattr("adaptive_scan.commands.agent.ScanRDPG", broken)
    with pytest.raises(ValueError, match="scans: got") as raised:
        train(*tiny_run, "--out", tmp_path / "run")
    assert not isinstance(raised.value, SettingError)
