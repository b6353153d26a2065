"""The table of commands: what it lists can be run, by its names of today and of 0.1."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from adaptive_scan import __version__, commands
from adaptive_scan.commands.table import COMMANDS, find_command, main

SCRIPTS = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "scripts").glob("*.py"))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["adaptive-scan", *arguments])
    return main()


def test_every_entry_leads_somewhere() -> None:
    names = [name for command in COMMANDS for name in (command.name, command.old_name) if name]
    assert len(set(names)) == len(names)
    for command in COMMANDS:
        assert bool(command.options) != bool(command.parse)
        for place in filter(None, (command.run, command.options, command.parse)):
            module, _, name = place.partition(":")
            assert callable(getattr(importlib.import_module(f"adaptive_scan.commands.{module}"), name))


@pytest.mark.parametrize("arguments", [["--version"], *([command.name, "--version"] for command in COMMANDS)])
def test_the_console_command_says_its_version(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 0
    assert capsys.readouterr().out == f"adaptive-scan {__version__}\n"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_say_their_version(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--version"])
    assert getattr(commands, f"{script}_main")() == 0
    assert capsys.readouterr().out == f"adaptive-scan {__version__}\n"


@pytest.mark.parametrize("old", ["calibrate-generator", "export-generator", "make-specimens"])
def test_old_names_of_commands_work_with_a_warning(old: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = find_command(old)
    assert command is not None
    assert command.old_name == old
    assert capsys.readouterr().err == f"warning: {old} is now {command.name}; the old name goes in version 0.3\n"


def test_the_commands_are_listed_with_their_purposes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    said = capsys.readouterr()
    for command in COMMANDS:
        assert f"  {command.name} " in said.out
        assert command.purpose in said.out
        assert len(command.purpose) < 100
    assert run(monkeypatch) == 2
    assert capsys.readouterr() == ("", said.out)


def test_an_unknown_command_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "complet") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: got 'complet'; expected one of train, train-generator, compare, complete, ")
    assert line.endswith("; perhaps complete was meant")
