from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import nn

from adaptive_scan.generators import GENERATORS, ResidualGenerator, UNetGenerator, blur_targets
from adaptive_scan.generators.infill import pull_push_infill
from adaptive_scan.generators.networks import MaskAwareGenerator
from adaptive_scan.generators.training_settings import GeneratorKind

MakeScans = Callable[..., torch.Tensor]


def _convolutions(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]


def test_residual_generator_has_the_papers_layers() -> None:
    layers = _convolutions(ResidualGenerator())
    found = [(type(layer).__name__, layer.in_channels, layer.out_channels, layer.stride[0]) for layer in layers]
    assert found == [
        ("Conv2d", 2, 32, 1),
        ("Conv2d", 32, 64, 2),
        ("Conv2d", 64, 128, 2),
        *[("Conv2d", 128, 128, 1)] * 15,
        ("ConvTranspose2d", 128, 64, 2),
        ("ConvTranspose2d", 64, 32, 2),
        ("Conv2d", 32, 32, 1),
        ("Conv2d", 32, 1, 1),
    ]
    assert all(layer.kernel_size == (3, 3) for layer in layers)
    assert [layer.bias is None for layer in layers] == [False] * 21 + [True]


def test_residual_generator_normalises_after_each_relu_but_the_last() -> None:
    order = [type(module).__name__ for module in ResidualGenerator().modules() if not list(module.children())]
    unit = ["Conv2d", "ReLU", "BatchNorm2d"]
    transposed = ["ConvTranspose2d", "ReLU", "BatchNorm2d"]
    assert order == unit * 18 + transposed * 2 + unit + ["Conv2d"]


def test_residual_blocks_skip_their_three_convolutions(make_scans: MakeScans) -> None:
    network = ResidualGenerator().eval()
    with torch.no_grad():
        features = network.layers[:3](make_scans(2, 16))
        for block in network.layers[3:8]:
            block.convolutions[2][2].weight.zero_()
            block.convolutions[2][2].bias.fill_(0.5)
        torch.testing.assert_close(network.layers[3:8](features), features + 2.5)


@pytest.mark.parametrize("size", [4, 32, 48, 96])
def test_residual_generator_keeps_the_side(size: int, make_scans: MakeScans) -> None:
    assert ResidualGenerator().eval()(make_scans(2, size)).shape == (2, 1, size, size)


@pytest.mark.parametrize(("n_levels", "size"), [(1, 6), (2, 4), (3, 32), (3, 48), (3, 96), (4, 48), (3, 512)])
def test_untrained_unet_returns_the_infill(n_levels: int, size: int, make_scans: MakeScans) -> None:
    scans = make_scans(1, size)
    with torch.no_grad():
        completion = UNetGenerator(n_channels=8, n_levels=n_levels)(scans)
    torch.testing.assert_close(completion, pull_push_infill(scans), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "settings", "stride"),
    [
        ("residual", {}, 4),
        ("unet", {}, 8),
        ("mask_aware", {"n_levels": 2}, 4),
        ("two_stage", {"width": 0.05}, 32),
    ],
)
def test_sides_and_shapes_that_do_not_suit_are_refused(kind: str, settings: dict[str, float], stride: int) -> None:
    network = GENERATORS[kind](**settings)
    with pytest.raises(ValueError, match=rf"have sides \(50, 50\) px; expected positive multiples of {stride}"):
        network(torch.zeros(1, 2, 50, 50))
    with pytest.raises(ValueError, match=r"shape \(1, 1, 16, 16\); expected \(n_scans, 2, H, W\)"):
        network(torch.zeros(1, 1, 16, 16))


def test_unet_refuses_an_empty_network() -> None:
    with pytest.raises(ValueError, match="n_channels: got 0 and n_levels 3; expected at least 1 of each"):
        UNetGenerator(n_channels=0)


def _awake(network: UNetGenerator) -> UNetGenerator:
    nn.init.normal_(network.correction.weight, std=0.1)
    return network


def test_unet_completion_depends_on_its_own_scan_alone(make_scans: MakeScans) -> None:
    scans = make_scans(4, 32)
    network = _awake(UNetGenerator(n_channels=8))
    with torch.no_grad():
        together = network(scans)
        alone = torch.cat([network(scan[None]) for scan in scans])
        evaluated = network.eval()(scans)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(together, evaluated, rtol=0, atol=0)


def test_unet_correction_sees_mask_and_values(make_scans: MakeScans) -> None:
    """Two scans of equal infill differ in their masks; the correction must differ too."""
    constant = make_scans(2, 32)
    constant[:, 0] = 0.5 * constant[:, 1]
    with torch.no_grad():
        first, second = _awake(UNetGenerator(n_channels=8))(constant)
    assert (first - second).abs().max() > 1e-3


def test_unet_is_differentiable_in_the_values_and_unharmed_by_an_empty_scan(make_scans: MakeScans) -> None:
    scans = make_scans(2, 16)
    scans[1] = 0
    scans.requires_grad_()
    network = _awake(UNetGenerator(n_channels=8))
    completions = network(scans)
    completions.square().sum().backward()
    assert torch.isfinite(completions).all()
    assert scans.grad is not None
    assert torch.isfinite(scans.grad).all()
    assert (scans.grad[0, 0] != 0).any()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters() if weight.grad is not None)


def test_config_rebuilds_the_network() -> None:
    network = UNetGenerator(n_channels=12, n_levels=2)
    assert network.config == {"n_channels": 12, "n_levels": 2}
    rebuilt = UNetGenerator(**network.config)
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }


def test_mask_aware_network_starts_at_the_infill_as_targets_are_blurred(make_scans: MakeScans) -> None:
    scans = make_scans(3, 16)
    infill = pull_push_infill(scans)
    assert torch.allclose(MaskAwareGenerator(n_channels=8, n_levels=2)(scans), blur_targets(infill), atol=1e-6)
    plain = MaskAwareGenerator(n_channels=8, n_levels=2, blurred=False)
    assert torch.allclose(plain(scans), infill, atol=1e-6)
    assert plain.config == {"n_channels": 8, "n_levels": 2, "blurred": False}
    assert not MaskAwareGenerator(**plain.config).blurred


def test_width_is_a_factor_of_all_channels_of_the_paper_s_network(make_scans: MakeScans) -> None:
    def n_weights(network: torch.nn.Module) -> int:
        return sum(weight.numel() for weight in network.parameters())

    half = ResidualGenerator(width=0.5)
    assert [layer[0].out_channels for layer in half.layers if isinstance(layer, torch.nn.Sequential)] == [
        16, 32, 64, 32, 16, 16
    ]  # fmt: skip
    # all but the first convolution have half of both their channels
    assert 0.24 < n_weights(half) / n_weights(ResidualGenerator()) < 0.26
    assert half(make_scans(2, 16)).shape == (2, 1, 16, 16)
    assert ResidualGenerator(**half.config).config == {"width": 0.5}
    with pytest.raises(ValueError, match="width: got 0; expected a number above 0"):
        ResidualGenerator(width=0)


def test_settings_name_every_network() -> None:
    assert get_args(GeneratorKind) == tuple(GENERATORS)
