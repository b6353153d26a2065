from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_scan.generators import GENERATORS, load_generator, save_generator
from adaptive_scan.generators.distance import nearest_infill
from adaptive_scan.generators.normalisation import SharedBatchNorm2d, freeze_normalisation
from adaptive_scan.generators.supersampling import SupersamplingGenerator, cell_means, n_cells
from adaptive_scan.scans import partial_scans, sample, static_scan

MakeScans = Callable[..., Tensor]


def _tiny(factor: int = 4) -> SupersamplingGenerator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SupersamplingGenerator(factor=factor, width=1 / 8)


def _grid_scan(crops: np.ndarray, side: int) -> tuple[Tensor, np.ndarray]:
    """Partial scans of crops (N, S, S) by the grid of ``side`` x ``side`` points, and the measured values."""
    size = crops.shape[-1]
    positions = np.repeat(static_scan("grid", side * side, size)[None], len(crops), axis=0)
    values = sample(crops, positions)
    return torch.from_numpy(partial_scans(values, positions, size)), values


@pytest.mark.parametrize(("size", "factor"), [(32, 4), (48, 5), (64, 7), (96, 10), (16, 1)])
def test_a_uniform_grid_becomes_the_picture_of_its_values(size: int, factor: int, rng: np.random.Generator) -> None:
    crops = rng.uniform(-1, 1, (2, size, size)).astype(np.float32)
    side = math.ceil(size / factor)
    scans, values = _grid_scan(crops, side)
    low = cell_means(scans, factor)
    torch.testing.assert_close(low, torch.from_numpy(values).reshape(2, 1, side, side))


def test_numbers_of_cells_are_the_papers() -> None:
    assert [n_cells(512, factor) for factor in (4, 5, 7, 10)] == [128, 103, 74, 52]


@pytest.mark.parametrize(("size", "factor"), [(12, 3), (14, 4), (13, 5)])
def test_cells_are_means_or_else_the_nearest_as_a_plain_loop_finds(
    size: int, factor: int, make_scans: MakeScans
) -> None:
    scans = make_scans(3, size, 0.15)
    side = n_cells(size, factor)
    infill = nearest_infill(scans)
    expected = torch.zeros(3, 1, side, side)
    cells = [math.floor((pixel + 0.5) * side / size) for pixel in range(size)]
    n_empty = 0
    for scan in range(3):
        for row in range(side):
            for column in range(side):
                pixels = [(r, c) for r in range(size) for c in range(size) if (cells[r], cells[c]) == (row, column)]
                found = [scans[scan, 0, r, c] for r, c in pixels if scans[scan, 1, r, c]]
                centre = [math.floor((place + 0.5) * size / side) for place in (row, column)]
                n_empty += not found
                expected[scan, 0, row, column] = (
                    torch.stack(found).mean() if found else infill[scan, 0, centre[0], centre[1]]
                )
    assert n_empty > 0
    torch.testing.assert_close(cell_means(scans, factor), expected)


def test_empty_scans_become_zero_and_unmeasured_values_do_not_count() -> None:
    assert (cell_means(torch.zeros(1, 2, 8, 8), 2) == 0).all()
    scans = torch.ones(1, 2, 4, 4)
    scans[:, 1, 0, 0] = 0
    scans[:, 0, 0, 0] = 100
    assert (cell_means(scans, 2) == 1).all()


def test_generator_has_the_papers_layers() -> None:
    network = SupersamplingGenerator()
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    found = [(type(layer).__name__, layer.in_channels, layer.out_channels, layer.stride[0]) for layer in layers]
    assert found == [
        ("Conv2d", 1, 32, 1),
        ("Conv2d", 32, 64, 1),
        ("Conv2d", 64, 128, 1),
        *[("Conv2d", 128, 128, 1)] * 12,
        ("ConvTranspose2d", 128, 128, 2),
        ("ConvTranspose2d", 128, 96, 2),
        ("ConvTranspose2d", 96, 64, 2),
        ("ConvTranspose2d", 64, 32, 2),
        ("Conv2d", 32, 1, 1),
    ]
    assert [layer.bias is None for layer in layers] == [False] * 19 + [True]
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_200_226
    assert network.config == {"factor": 5, "width": 1.0}


def test_relu_and_normalisation_precede_every_convolution_but_the_first(make_scans: MakeScans) -> None:
    network, order = _tiny(), []
    for module in network.modules():
        if isinstance(module, SharedBatchNorm2d):
            module.register_forward_hook(lambda _m, inputs, _o: order.append(("normalised", inputs[0].min() >= 0)))
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda *_: order.append(("convolved", None)))
    network(make_scans(2, 32))
    assert [name for name, _ in order] == ["normalised", "convolved"] * 20
    assert [bool(not_negative) for name, not_negative in order if name == "normalised"] == [False] + [True] * 19


@pytest.mark.parametrize(("size", "factor"), [(48, 4), (48, 5), (64, 16), (64, 32), (16, 3), (96, 1)])
def test_any_factor_and_multiple_of_the_stride(size: int, factor: int, make_scans: MakeScans) -> None:
    with torch.no_grad():
        assert _tiny(factor).eval()(make_scans(2, size)).shape == (2, 1, size, size)


def test_low_resolution_features_pass_the_geometric_mean_of_both_sides() -> None:
    network, sides = SupersamplingGenerator(width=1 / 32).eval(), []
    for unit in network.resized:
        unit.register_forward_hook(lambda _module, _inputs, output: sides.append(output.shape[-1]))
    with torch.no_grad():
        network.supersample(torch.zeros(1, 1, 103, 103), 512)
    assert sides == [57, 32]


def test_generator_learns_and_freezes(rng: np.random.Generator) -> None:
    crops = torch.from_numpy(rng.uniform(-1, 1, (4, 1, 8, 8)).astype(np.float32))
    crops = F.interpolate(crops, scale_factor=4, mode="bilinear")
    scans, _ = _grid_scan(crops[:, 0].numpy(), 8)
    network, losses = _tiny(), []
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        loss = (network(scans) - crops).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * crops.square().mean()
    assert freeze_normalisation(network) == 20
    with torch.no_grad():
        trained = network(scans)
        torch.testing.assert_close(trained, network.eval()(scans), rtol=0, atol=0)


def test_generator_files_round_trip(make_scans: MakeScans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GENERATORS, "supersampling", SupersamplingGenerator)
    scans, network = make_scans(2, 32), _tiny(5)
    network(scans)
    save_generator(network, tmp_path / "generator.safetensors")
    loaded = load_generator(tmp_path / "generator.safetensors")
    assert loaded.config == {"factor": 5, "width": 1 / 8}
    with torch.no_grad():
        torch.testing.assert_close(loaded(scans), network.eval()(scans), rtol=0, atol=0)


def test_what_does_not_suit_is_refused() -> None:
    with pytest.raises(ValueError, match="have side 50 px; expected a positive multiple of 16"):
        _tiny()(torch.zeros(1, 2, 50, 50))
    with pytest.raises(ValueError, match=r"factor: got 0 and width 1\.0; expected at least 1 and more than 0"):
        SupersamplingGenerator(factor=0)
    with pytest.raises(ValueError, match="width 0"):
        SupersamplingGenerator(width=0)
