from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from adaptive_scan.files import replacing, write_atomically, write_json, write_npz, zip_fault


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "a.csv", "µ,1\r\n2\n")
    assert (tmp_path / "new" / "a.csv").read_bytes() == "µ,1\r\n2\n".encode()
    write_atomically(tmp_path / "new" / "a.csv", b"\x00\xff")
    assert (tmp_path / "new" / "a.csv").read_bytes() == b"\x00\xff"
    assert names_in(tmp_path / "new") == ["a.csv"]


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_failed_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            assert path.read_text() == "old"
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_temporary_file_is_beside_its_destination_and_hidden(tmp_path: Path) -> None:
    with replacing(tmp_path / "figure.png") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"1")
    assert not temporary.exists()


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL and umask")
def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "1")
    (tmp_path / "b").write_text("1")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL and umask")
def test_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    program = (
        "import sys\nfrom adaptive_scan.files import write_atomically\n"
        "for index in range(10**6):\n    write_atomically(sys.argv[1], str(index % 10) * 3_000_000)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)])
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    text = path.read_text()
    assert text == text[0] * 3_000_000


def test_json_holds_numpy_numbers_and_arrays(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": np.float32(0.25), "b": np.arange(3), "c": (1.5, None), "d": np.bool_(True)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 0.25, "b": [0, 1, 2], "c": [1.5, None], "d": True}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float32("nan"), np.array([1.0, -np.inf])])
def test_json_refuses_what_is_not_finite_and_keeps_the_old_file(tmp_path: Path, number: float) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(ValueError, match=r"a\.json: got .*; expected finite numbers"):
        write_json(tmp_path / "a.json", {"new": number})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}


def test_json_refuses_other_objects(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="got a set"):
        write_json(tmp_path / "a.json", {"a": {1}})


def test_npz_comes_back(tmp_path: Path, rng: np.random.Generator) -> None:
    picture = rng.normal(size=(4, 5))
    write_npz(tmp_path / "a.npz", picture=picture, names=np.array(["a", "bc"]))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["picture"], picture)
        assert archive["names"].tolist() == ["a", "bc"]


def test_npz_refuses_objects_and_other_suffixes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got suffix '\.dat'; expected '\.npz'"):
        write_npz(tmp_path / "a.dat", a=np.arange(2))
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        write_npz(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    assert names_in(tmp_path) == []


def test_entries_that_claim_more_than_the_file_holds_are_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", bytes(100))
        archive.writestr("b", bytes(100))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert zip_fault(archive) is None
        # As where the entries of a directory share the bytes of one.
        archive.infolist()[0].file_size = 10**9
        size = (tmp_path / "a.zip").stat().st_size
        assert zip_fault(archive) == f"entries of more than the file's {size} bytes"
