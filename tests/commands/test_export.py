"""``export_generator``: the file it leaves, and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adaptive_scan.commands import export as exporting_module
from adaptive_scan.commands import export_generator_main
from adaptive_scan.generators import UNetGenerator, load_generator, read_generator_header, save_generator
from adaptive_scan.generators import export as export_module
from adaptive_scan.generators.export import MissingExtraError, OnnxCompleter

Export = Callable[..., int]


@pytest.fixture
def export_generator(monkeypatch: pytest.MonkeyPatch) -> Export:
    """``scripts/export_generator.py`` in this process; returns the exit status."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["export_generator.py", *map(str, arguments)])
        return export_generator_main()

    return call


@pytest.fixture
def generator_file(tmp_path: Path) -> Path:
    """A small generator whose completions are not its infill."""
    network = UNetGenerator(n_channels=2, n_levels=1)
    torch.nn.init.normal_(network.correction.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    save_generator(network, tmp_path / "net.safetensors", metadata={"n_updates": 3})
    return tmp_path / "net.safetensors"


def test_an_onnx_file_has_the_completions_and_the_header_of_the_generator(
    export_generator: Export, generator_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra 'export' is not installed")
    out = tmp_path / "net.onnx"
    assert export_generator("--generator", generator_file, "--size", 16, "--out", out) == 0
    assert f"written: {out}" in capsys.readouterr().out
    completer = OnnxCompleter(out, n_threads=1)
    assert completer.header == {**read_generator_header(generator_file), "image_size": 16}
    scans = torch.zeros(1, 2, 16, 16)
    scans[:, 1, ::4, ::4] = 1.0
    scans[:, 0, ::8, ::4] = 0.5
    torch.testing.assert_close(completer(scans), load_generator(generator_file)(scans), rtol=0, atol=1e-4)


def test_a_program_takes_the_size_of_the_run(export_generator: Export, generator_file: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "exported" / "net.pt2"
    run.mkdir()
    generator_file.rename(run / "generator.safetensors")
    (run / "config.json").write_text('{"geometry": {"image_size": 16}}')
    assert export_generator("--run", run, "--format", "torch", "--out", out) == 0
    completer = torch.export.load(out).module()
    scans = torch.zeros(3, 2, 16, 16)
    scans[:, :, 8, 8] = 1.0
    network = load_generator(run / "generator.safetensors")
    torch.testing.assert_close(completer(scans), network(scans), rtol=0, atol=1e-5)


def test_a_file_whose_completions_differ_does_not_take_its_place(
    generator_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = export_module.trace_generator
    wrong = torch.nn.Sequential(torch.nn.Conv2d(2, 1, 1))
    monkeypatch.setattr(export_module, "trace_generator", lambda network, size: trace(wrong, size))
    config = exporting_module.ExportConfig(out=tmp_path / "net.pt2", generator=generator_file, format="torch", size=16)
    with pytest.raises(RuntimeError, match=r"exported completions differ by .*; expected at most 0\.0001"):
        exporting_module.export(config)
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


def test_missing_packages_are_named_in_one_line(
    export_generator: Export,
    generator_file: Path,
    tmp_path: Path,
    complaint: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise MissingExtraError("got no package 'onnx'; expected the extra 'export'")

    monkeypatch.setattr(exporting_module, "export_onnx", refuse)
    assert export_generator("--generator", generator_file, "--size", 16, "--out", tmp_path / "a.onnx") == 2
    assert complaint() == "error: format onnx: got no package 'onnx'; expected the extra 'export'"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "a.onnx"), "run and generator: got neither; expected one of them"),
        (("--run", "a", "--generator", "b", "--out", "a.onnx"), "run and generator: got both; expected one of them"),
        (("--generator", "b", "--out", "a.pt"), "out: got 'a.pt'; expected a name that ends in .onnx"),
        (("--generator", "b", "--out", "a.onnx", "--format", "torch"), "out: got 'a.onnx'; expected a name that ends"),
        (("--generator", "b", "--out", "a.onnx"), "b: got no such file; expected a generator file"),
        (("--generator", "b", "--out", "a.onnx", "--size", 0), "size: got 0; expected at least 1"),
        (("--run", "nowhere", "--out", "a.onnx"), "nowhere: got no such folder; expected a run folder"),
    ],
)
def test_bad_requests_end_in_one_line(
    export_generator: Export, complaint: Callable[[], str], arguments: tuple[object, ...], message: str
) -> None:
    assert export_generator(*arguments) == 2
    assert complaint().startswith(f"error: {message}")


def test_places_where_no_file_can_be_are_named_in_one_line(
    export_generator: Export, generator_file: Path, tmp_path: Path, complaint: Callable[[], str]
) -> None:
    (tmp_path / "folder.onnx").mkdir()
    assert export_generator("--generator", generator_file, "--size", 16, "--out", tmp_path / "folder.onnx") == 2
    assert complaint() == f"error: {tmp_path / 'folder.onnx'}: got a folder; expected a file to write"
    assert export_generator("--generator", generator_file, "--size", 16, "--out", generator_file / "a.onnx") == 2
    assert complaint() == f"error: {generator_file}: got File exists; expected a place to make a folder"


def test_a_size_that_does_not_suit_the_generator_ends_in_one_line(
    export_generator: Export, generator_file: Path, tmp_path: Path, complaint: Callable[[], str]
) -> None:
    out = tmp_path / "a.onnx"
    assert export_generator("--generator", generator_file, "--size", 17, "--out", out) == 2
    assert complaint() == "error: size: got 17 px; expected a multiple of 2 for this generator"
    assert not out.exists()
