"""How commands end."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from adaptive_scan.commands.errors import TrainingFailedError, run_command, settings_border
from adaptive_scan.errors import SettingError
from adaptive_scan.files import FileContentError


def raising(error: BaseException):
    def command(arguments: list[str]) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (SettingError("seed: got -1;\n expected at least 0"), 2, "error: seed: got -1; expected at least 0"),
        (FileContentError("a.tif", "nothing", "a TIFF file"), 2, "error: a.tif: got nothing; expected a TIFF file"),
        (TrainingFailedError("diverged"), 1, "error: diverged"),
        (OSError(errno.ENOSPC, "No space left on device", "a.npy"), 1, "error: a.npy: No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("go on"), 130, "interrupted: go on"),
    ],
)
def test_expected_ends_are_one_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(raising(error), []) == status
    assert capsys.readouterr() == ("", line + "\n")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("operands could not be broadcast"),
        ValueError("shape: got (1, 2); expected (2, 2)"),
        KeyError("a"),
        FileNotFoundError(errno.ENOENT, "no", "a"),
        OSError(),
    ],
)
def test_defects_show_a_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        run_command(raising(error), [])
    assert raised.value is error


def test_success_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    assert run_command(seen.extend, ["a"]) == 0
    assert seen == ["a"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [ValueError("n: got 0"), TypeError("got an unexpected keyword argument")])
def test_what_settings_are_refused_with_is_the_users_to_mend(error: Exception) -> None:
    with pytest.raises(SettingError) as raised, settings_border():
        raise error
    assert str(raised.value) == str(error)
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyError("x"), SettingError("a"), RuntimeError("n: got 0; expected 1")])
def test_other_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, settings_border():
        raise error
    assert raised.value is error


def test_an_error_of_a_file_stays_what_it_is() -> None:
    with pytest.raises(FileContentError), settings_border():
        raise FileContentError("a", "b", "c")


def test_a_reader_that_goes_away_is_no_defect() -> None:
    code = (
        "import sys; from adaptive_scan.commands.errors import run_command\n"
        "def flood(arguments):\n    for _ in range(100_000): print('line')\n"
        "sys.exit(run_command(flood, []))"
    )
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
