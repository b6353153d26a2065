from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from adaptive_scan.generators import GENERATORS, ResidualGenerator, UNetGenerator
from adaptive_scan.generators import distance as distance_module
from adaptive_scan.generators import export as export_module
from adaptive_scan.generators.distance import distance_to_measured, nearest_measured
from adaptive_scan.generators.export import (
    HEADER_FILE,
    MissingExtraError,
    OnnxCompleter,
    export_onnx,
    export_program,
    trace_generator,
)
from adaptive_scan.generators.files import GENERATOR_HEADER

SIZE = 16
HEADER = {"format_version": 1, "kind": "unet", "config": {"n_levels": 1}, "metadata": {"n_updates": 7}}


SETTINGS: dict[str, dict[str, float]] = {"unet": {"n_channels": 4, "n_levels": 1}, "residual": {"width": 0.25}}


def trained(kind: str, settings: dict[str, float] | None = None) -> nn.Module:
    """A small network with weights and statistics that are not those it begins with, in training mode."""
    network = GENERATORS[kind](**(SETTINGS[kind] if settings is None else settings))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.3 * torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.mul_(0.5 + torch.rand(buffer.shape, generator=generator))
    return network.train()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[nn.Module, Path]]:
    """Networks by kind, and their ONNX files."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra 'export' is not installed")
    made, folder = {}, tmp_path_factory.mktemp("exported")
    for kind in ("unet", "residual"):
        network = trained(kind)
        export_onnx(network, folder / f"{kind}.onnx", image_size=SIZE, header=HEADER)
        made[kind] = network, folder / f"{kind}.onnx"
    return made


def scans_with_all_kinds_of_masks(make_scans: Callable[..., Tensor], n_scans: int) -> Tensor:
    scans = make_scans(n_scans, SIZE, 0.1)
    scans[0] = 0.0
    scans[1, 1] = 1.0
    return scans


@pytest.mark.parametrize("kind", ["unet", "residual"])
def test_onnxruntime_gives_the_same_completions(
    exported: dict[str, tuple[nn.Module, Path]], make_scans: Callable[..., Tensor], kind: str
) -> None:
    network, path = exported[kind]
    completer = OnnxCompleter(path, n_threads=1)
    network.eval()
    for n_scans in (2, 5):
        scans = scans_with_all_kinds_of_masks(make_scans, n_scans)
        with torch.no_grad():
            expected = network(scans)
        assert expected.std() > 0.01
        torch.testing.assert_close(completer(scans), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(completer(scans[3:4]), expected[3:4], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mask_aware", {"n_channels": 4, "n_levels": 1}),
        ("two_stage", {"width": 0.03}),
        ("supersampling", {"width": 0.1, "factor": 4}),
    ],
)
def test_every_generator_can_be_exported(
    kind: str, settings: dict[str, float], tmp_path: Path, make_scans: Callable[..., Tensor]
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    network = trained(kind, settings).eval()
    export_onnx(network, tmp_path / "net.onnx", image_size=32)
    scans = make_scans(3, 32, 0.1)
    scans[0] = 0.0
    scans[1, 1] = 1.0
    with torch.no_grad():
        expected = network(scans)
    assert expected[1:].std() > 0.01
    torch.testing.assert_close(OnnxCompleter(tmp_path / "net.onnx", n_threads=1)(scans), expected, rtol=0, atol=1e-4)


def test_the_onnx_file_has_names_a_free_number_of_scans_and_the_header(
    exported: dict[str, tuple[nn.Module, Path]],
) -> None:
    onnx = pytest.importorskip("onnx")
    _, path = exported["unet"]
    model = onnx.load(path)
    onnx.checker.check_model(model)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"partial_scans": ["n_scans", 2, SIZE, SIZE], "completions": ["n_scans", 1, SIZE, SIZE]}
    assert json.loads({entry.key: entry.value for entry in model.metadata_props}[GENERATOR_HEADER]) == {
        **HEADER,
        "image_size": SIZE,
    }
    assert OnnxCompleter(path, n_threads=1).header == {**HEADER, "image_size": SIZE}
    assert {node.domain for node in model.graph.node} == {""}, "only operators that every runtime has"
    assert [file.name for file in path.parent.iterdir() if file.stem == "unet"] == ["unet.onnx"]


def test_a_program_needs_no_package_of_ours_and_gives_the_same_completions(
    make_scans: Callable[..., Tensor], tmp_path: Path
) -> None:
    network = trained("unet")
    export_program(network, tmp_path / "unet.pt2", image_size=SIZE, header=HEADER)
    extra = {HEADER_FILE: ""}
    program = torch.export.load(tmp_path / "unet.pt2", extra_files=extra)
    assert json.loads(extra[HEADER_FILE]) == {**HEADER, "image_size": SIZE}
    operators = {str(node.target) for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)}
    assert operators
    assert all(name.startswith("aten.") for name in operators), "no operator that PyTorch alone does not have"
    network.eval()
    for n_scans in (2, 4):
        scans = scans_with_all_kinds_of_masks(make_scans, n_scans)
        torch.testing.assert_close(program.module()(scans), network(scans), rtol=0, atol=1e-5)


def small_network() -> nn.Sequential:
    """What is quick to trace."""
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))


def test_exporting_leaves_the_network_as_it_was() -> None:
    network = small_network().to(memory_format=torch.channels_last)
    assert not network[0].weight.is_contiguous()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    strides = [parameter.stride() for parameter in network.parameters()]
    trace_generator(network, SIZE)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert [parameter.stride() for parameter in network.parameters()] == strides
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@given(arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 40)).map(lambda s: (s[0], s[1], s[1]))))
def test_the_graph_finds_what_the_compiled_loop_finds(masks: np.ndarray) -> None:
    scans = torch.from_numpy(masks)
    indices, distances = distance_module._nearest_for_export(scans)
    assert torch.equal(indices, nearest_measured(scans))
    torch.testing.assert_close(distances, distance_to_measured(scans), rtol=3e-7, atol=0)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_tracing_takes_no_distance_for_a_constant(make_scans: Callable[..., Tensor]) -> None:
    class Distances(nn.Module):
        def forward(self, masks: Tensor) -> Tensor:
            return distance_to_measured(masks)

    masks = make_scans(4, 12)[:, 1]
    traced = torch.jit.trace(Distances(), masks[:2], check_trace=False)
    torch.testing.assert_close(traced(masks[2:]), distance_to_measured(masks[2:]), rtol=3e-7, atol=0)


def test_sizes_and_suffixes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image_size: got 18 px; expected a positive multiple of 4"):
        trace_generator(ResidualGenerator(), 18)
    with pytest.raises(ValueError, match=r"got suffix '\.pt'; expected '\.pt2'"):
        export_program(ResidualGenerator(), tmp_path / "a.pt", image_size=16)
    with pytest.raises(ValueError, match=r"got suffix '\.pt2'; expected '\.onnx'"):
        export_onnx(ResidualGenerator(), tmp_path / "a.pt2", image_size=16)
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(package: str) -> None:
        raise ImportError(package)

    monkeypatch.setattr(export_module.importlib, "import_module", refuse)
    with pytest.raises(MissingExtraError, match=r"got no package 'onnx'; expected the extra 'export': pip install"):
        export_onnx(UNetGenerator(n_channels=2, n_levels=1), tmp_path / "a.onnx", image_size=8)


def test_a_failed_export_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **settings: object) -> None:
        raise OSError("disk full")

    (tmp_path / "a.pt2").write_text("old")
    monkeypatch.setattr(torch.export, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        export_program(small_network(), tmp_path / "a.pt2", image_size=8)
    assert (tmp_path / "a.pt2").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt2"]
