from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_scan.generators import GENERATORS, load_generator, save_generator
from adaptive_scan.generators.distance import nearest_infill
from adaptive_scan.generators.normalisation import NormalisedConvolution, freeze_normalisation, initialise_from_data
from adaptive_scan.generators.partial_stem import AuxiliaryTrainer, TwoStageGenerator, half_size

MakeScans = Callable[..., Tensor]


def _tiny(**config: float) -> TwoStageGenerator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TwoStageGenerator(**{"width": 1 / 16, **config})


def _layers(network: nn.Module) -> list[tuple[str, int, int, int, int]]:
    layers = [module for module in network.modules() if isinstance(module, NormalisedConvolution)]
    return [
        (
            "transposed" if isinstance(layer.convolution, nn.ConvTranspose2d) else "convolution",
            layer.convolution.in_channels,
            layer.convolution.out_channels,
            layer.convolution.kernel_size[0],
            layer.convolution.stride[0],
        )
        for layer in layers
    ]


def test_generator_has_the_papers_layers() -> None:
    with torch.device("meta"):
        network = TwoStageGenerator()
    assert _layers(network.inner) == [
        ("convolution", 2, 64, 5, 1),
        ("convolution", 64, 128, 3, 2),
        ("convolution", 128, 256, 3, 2),
        ("convolution", 256, 512, 3, 2),
        ("convolution", 512, 768, 3, 2),
        *[("convolution", 768, 768, 3, 1)] * 18,
        ("transposed", 768, 512, 3, 2),
        ("transposed", 512, 256, 3, 2),
        ("transposed", 256, 128, 3, 2),
        ("transposed", 128, 64, 3, 2),
    ]
    assert _layers(network.embedding) == [("convolution", 2, 32, 5, 1), ("convolution", 32, 64, 3, 2)]
    assert _layers(network.outer) == [
        *[("convolution", 64, 64, 3, 1)] * 9,
        ("transposed", 64, 32, 3, 2),
        ("convolution", 32, 32, 3, 1),
        ("convolution", 32, 1, 3, 1),
    ]
    normalised = [m.normalisation is not None for m in network.modules() if isinstance(m, NormalisedConvolution)]
    assert normalised == [True] * (27 + 2 + 11) + [False]
    assert sum(parameter.numel() for parameter in network.parameters()) == 106_126_145


def test_auxiliary_trainer_has_two_layers() -> None:
    trainer = AuxiliaryTrainer()
    assert _layers(trainer) == [("convolution", 64, 64, 3, 1), ("convolution", 64, 1, 3, 1)]
    assert sum(parameter.numel() for parameter in trainer.parameters()) == 37_505


def test_half_size_is_bilinear_downsampling() -> None:
    pictures = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    bilinear = F.interpolate(pictures, scale_factor=0.5, mode="bilinear", align_corners=False)
    torch.testing.assert_close(half_size(pictures), bilinear)


def test_forward_is_the_papers_composition(make_scans: MakeScans) -> None:
    """G(I) = G_outer(G_inner(half I) + embedding(I)), values in [0, 1] inside and [-1, 1] outside."""
    scans, network = make_scans(2, 64), _tiny().eval()
    inputs = torch.cat((0.5 * nearest_infill(scans) + 0.5, scans[:, 1:]), dim=1)
    with torch.no_grad():
        inner = network.inner(F.interpolate(inputs, size=(32, 32), mode="bilinear", align_corners=False))
        expected = 2 * network.outer(network.embedding(inputs) + inner) - 1
        completions, features = network.complete_with_features(scans)
        torch.testing.assert_close(completions, expected)
        torch.testing.assert_close(features, inner)
        torch.testing.assert_close(network(scans), completions, rtol=0, atol=0)
        assert AuxiliaryTrainer(width=1 / 16)(features).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("size", [32, 96, 160])
def test_any_multiple_of_the_stride_keeps_its_side(size: int, make_scans: MakeScans) -> None:
    with torch.no_grad():
        completions, features = _tiny().eval().complete_with_features(make_scans(1, size))
    assert completions.shape == (1, 1, size, size)
    assert features.shape == (1, 4, size // 2, size // 2)


def test_without_infill_blurred_masks_and_their_values_are_seen_as_they_are(make_scans: MakeScans) -> None:
    scans = make_scans(1, 32)
    scans[:, 1] = F.avg_pool2d(scans[:, 1:], 3, 1, 1)[:, 0]
    inputs = _tiny(infill=False).prepare(scans)
    torch.testing.assert_close(inputs[:, 0], (scans[:, 0] + 1) / 2)
    torch.testing.assert_close(inputs[:, 1], scans[:, 1])


def test_mask_reaches_the_completion(make_scans: MakeScans) -> None:
    scans = make_scans(2, 32)
    scans[:, 0] = 0.5 * scans[:, 1]
    with torch.no_grad():
        first, second = _tiny().eval()(scans)
    assert (first - second).abs().max() > 1e-3


def test_initialisation_and_auxiliary_gradient_reach_every_inner_weight(make_scans: MakeScans) -> None:
    scans, network, trainer = make_scans(2, 64), _tiny(), AuxiliaryTrainer(width=1 / 16)
    assert initialise_from_data(network, scans) == 41
    with torch.no_grad():
        _, features = network.complete_with_features(scans)
    assert initialise_from_data(trainer, features) == 2
    _, features = network.complete_with_features(scans)
    trainer(features).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.inner.parameters())
    assert all(parameter.grad is None for parameter in network.outer.parameters())


@pytest.mark.parametrize(("n_scans", "size", "tolerance"), [(2, 64, 0.05), (1, 32, 0.5), (2, 32, 3.0)])
def test_initialised_outputs_are_small_however_little_the_first_batch_holds(
    n_scans: int, size: int, tolerance: float, make_scans: MakeScans
) -> None:
    """At 32 px the innermost layers have one pixel per scan, whose deviation over one or two scans says little."""
    scans, network = make_scans(n_scans, size), _tiny()
    initialise_from_data(network, scans)
    with torch.no_grad():
        for completions in (network(scans), network.eval()(scans)):
            # a deviation of 0.1 in [0, 1] is one of 0.2 in [-1, 1]
            assert completions.std(correction=0).item() == pytest.approx(0.2, rel=tolerance)


def test_training_lowers_the_loss_and_a_frozen_network_trains_as_it_completes(make_scans: MakeScans) -> None:
    scans, network = make_scans(2, 64), _tiny()
    targets = nearest_infill(scans).clamp(-0.5, 0.5)
    initialise_from_data(network, scans)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = (network(scans) - targets).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert freeze_normalisation(network) == 40
    with torch.no_grad():
        trained = network(scans)
        torch.testing.assert_close(trained, network.eval()(scans), rtol=0, atol=0)


def test_generator_files_round_trip(make_scans: MakeScans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GENERATORS, "two_stage", TwoStageGenerator)
    scans, network = make_scans(2, 32), _tiny(infill=False)
    initialise_from_data(network, scans)
    network(scans)
    freeze_normalisation(network)
    save_generator(network, tmp_path / "generator.safetensors")
    loaded = load_generator(tmp_path / "generator.safetensors")
    assert loaded.config == {"width": 1 / 16, "infill": False}
    with torch.no_grad():
        torch.testing.assert_close(loaded(scans), network.eval()(scans), rtol=0, atol=0)
        torch.testing.assert_close(loaded.train()(scans), loaded.eval()(scans), rtol=0, atol=0)


def test_sides_shapes_and_widths_that_do_not_suit_are_refused() -> None:
    with pytest.raises(ValueError, match="have side 48 px; expected a positive multiple of 32"):
        _tiny()(torch.zeros(1, 2, 48, 48))
    with pytest.raises(ValueError, match=r"shape \(1, 1, 32, 32\); expected \(n_scans, 2, S, S\)"):
        _tiny()(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="width: got 0; expected more than 0"):
        TwoStageGenerator(width=0)
    with pytest.raises(ValueError, match="width: got -1; expected more than 0"):
        AuxiliaryTrainer(width=-1)
