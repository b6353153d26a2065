from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from adaptive_scan.generators import (
    GENERATORS,
    GeneratorFileError,
    UNetGenerator,
    load_generator,
    make_generator,
    read_generator_header,
    save_generator,
)

# Networks small enough for a test; those that are not named are so as they are.
SMALL: dict[str, dict[str, Any]] = {
    "unet": {"n_channels": 8, "n_levels": 2},
    "mask_aware": {"n_channels": 8, "n_levels": 2},
    "residual": {"width": 1 / 8},
    "two_stage": {"width": 1 / 32},
    "supersampling": {"width": 1 / 8},
}


@pytest.fixture
def make_network() -> Callable[[str], nn.Module]:
    """Makes a small network by its name, the same one each time."""
    return lambda kind: make_generator(kind, seed=0, **SMALL[kind])


@pytest.fixture
def network() -> UNetGenerator:
    network = UNetGenerator(n_channels=4, n_levels=2)
    nn.init.normal_(network.correction.weight)
    return network


@pytest.mark.parametrize("kind", sorted(GENERATORS))
def test_saved_generator_comes_back_equal(
    kind: str,
    make_network: Callable[[str], nn.Module],
    tmp_path: Path,
    make_scans: Callable[..., torch.Tensor],
) -> None:
    scans = make_scans(2, 32)
    network = make_network(kind)
    network(scans)  # moves the running statistics of batch normalisation off their start
    save_generator(network, tmp_path / "deep" / "net.safetensors", metadata={"losses": [0.5, 0.25]})
    loaded = load_generator(tmp_path / "deep" / "net.safetensors")
    assert not loaded.training
    with torch.no_grad():
        torch.testing.assert_close(loaded(scans), network.eval()(scans), rtol=0, atol=0)


def test_what_compiling_wraps_around_a_network_is_not_in_its_file(tmp_path: Path, network: UNetGenerator) -> None:
    class Compiled(nn.Module):
        """As ``torch.compile`` leaves a network."""

        def __init__(self) -> None:
            super().__init__()
            self._orig_mod = network

    save_generator(network, tmp_path / "plain")
    save_generator(Compiled(), tmp_path / "compiled")
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "compiled").read_bytes()


def test_header_says_what_the_file_holds(tmp_path: Path, network: UNetGenerator) -> None:
    path = tmp_path / "net.safetensors"
    save_generator(network, path, metadata={"step": 7})
    assert read_generator_header(path) == {
        "format_version": 1,
        "kind": "unet",
        "config": {"n_channels": 4, "n_levels": 2},
        "metadata": {"step": 7},
    }
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert "__metadata__" in json.loads(path.read_bytes()[8 : 8 + length])


def test_same_generator_gives_the_same_bytes(tmp_path: Path, network: UNetGenerator) -> None:
    for name in ("a", "b"):
        save_generator(network, tmp_path / name, metadata={"step": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_failed_write_leaves_the_previous_file(
    tmp_path: Path, network: UNetGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.safetensors"
    save_generator(network, path)
    before = path.read_bytes()

    def broken(temporary: Path, content: bytes) -> None:
        with temporary.open("wb") as half:
            half.write(content[: len(content) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(OSError, match="disk full"):
        save_generator(network, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


def test_only_known_networks_are_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="network: got a Linear; expected one of residual, unet"):
        save_generator(nn.Linear(1, 1), tmp_path / "net.safetensors")


def _refusal(path: Path) -> GeneratorFileError:
    with pytest.raises(GeneratorFileError) as caught:
        load_generator(path)
    error = caught.value
    assert str(error) == f"{path}: got {error.found}; expected {error.expected}"
    assert "\n" not in str(error)
    assert error.path == path
    return error


def _write_header(path: Path, header: Any, tensors: dict[str, torch.Tensor] | None = None) -> None:
    tensors = tensors or {"weight": torch.zeros(1)}
    save_file(tensors, path, metadata={"adaptive_scan.generator": json.dumps(header)})


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "none.safetensors").found == "no such file"
    assert _refusal(tmp_path).found == "a folder"


@pytest.mark.parametrize("n_bytes", [0, 4, 100, -1])
def test_truncated_file(n_bytes: int, tmp_path: Path, network: UNetGenerator) -> None:
    path = tmp_path / "net.safetensors"
    save_generator(network, path)
    path.write_bytes(path.read_bytes()[:n_bytes])
    error = _refusal(path)
    assert error.found.startswith("no whole safetensors file")
    assert error.expected == "a generator file"


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    assert _refusal(path).found.startswith("no whole safetensors file")
    save_file({"weight": torch.zeros(1)}, path)
    assert _refusal(path).found == "a bare safetensors file"
    save_file({"weight": torch.zeros(1)}, path, metadata={"format": "pt"})
    assert _refusal(path).found == "a safetensors file with the headers ['format']"


def test_headers_that_do_not_suit(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    _write_header(path, {"format_version": 99})
    assert _refusal(path).found == "format version 99"
    _write_header(path, [1])
    assert _refusal(path).found == "format version None"
    _write_header(path, {"format_version": 1, "kind": "gan", "config": {}})
    error = _refusal(path)
    assert (error.found, error.expected) == ("a generator of kind 'gan'", f"one of {', '.join(GENERATORS)}")
    for config in ({"n_wheels": 4}, {"n_channels": 0}, {"n_channels": "four"}, None):
        _write_header(path, {"format_version": 1, "kind": "unet", "config": config})
        assert _refusal(path).found == f"the configuration {config}"
    save_file({"weight": torch.zeros(1)}, path, metadata={"adaptive_scan.generator": "{"})
    assert _refusal(path).found.startswith("a header that is not JSON")


def test_tensors_that_do_not_fit_the_header(tmp_path: Path, network: UNetGenerator) -> None:
    path = tmp_path / "net.safetensors"
    header = {"format_version": 1, "kind": "unet", "config": network.config}
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    bias = tensors.pop("correction.bias")
    _write_header(path, header, tensors)
    error = _refusal(path)
    assert error.found == "nothing as correction.bias"
    assert error.expected == "torch.float32 (4,) there in a unet generator"
    _write_header(path, header, {**tensors, "correction.bias": bias.double()})
    assert _refusal(path).found == "torch.float64 (4,) as correction.bias"
    _write_header(path, header, {**tensors, "correction.bias": bias, "extra": bias.clone()})
    assert _refusal(path).found == "torch.float32 (4,) as extra"
