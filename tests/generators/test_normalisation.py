from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from adaptive_scan.generators.normalisation import (
    MeanOnlyBatchNorm2d,
    NormalisedConvolution,
    SharedBatchNorm2d,
    channel_means,
    freeze_normalisation,
    initialise_from_data,
)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            NormalisedConvolution(2, 6, side=5),
            nn.ReLU(),
            NormalisedConvolution(6, 4, stride=2),
            nn.ReLU(),
            NormalisedConvolution(4, 5, stride=2, transposed=True),
            nn.ReLU(),
            SharedBatchNorm2d(5),
            NormalisedConvolution(5, 1, normalised=False),
        )


def _kernels(layer: NormalisedConvolution) -> Tensor:
    """Weights with the channels out first."""
    weight: Tensor = layer.convolution.weight
    return weight.transpose(0, 1) if isinstance(layer.convolution, nn.ConvTranspose2d) else weight


@pytest.mark.parametrize("transposed", [False, True])
def test_weights_are_lengths_times_unit_directions(transposed: bool) -> None:
    layer = NormalisedConvolution(3, 4, stride=2, transposed=transposed)
    torch.testing.assert_close(_kernels(layer).flatten(1).norm(dim=1), torch.full((4,), 2.0**0.5))
    directions = _kernels(layer) / 2.0**0.5
    with torch.no_grad():
        layer.lengths.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]).view_as(layer.lengths))
    expected = directions * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None, None]
    torch.testing.assert_close(_kernels(layer), expected)


def test_the_length_of_a_direction_does_not_matter() -> None:
    layer = NormalisedConvolution(2, 3)
    before = layer(_random(2, 2, 6, 6))
    with torch.no_grad():
        layer.convolution.parametrizations.weight.original1.mul_(7.0)
    torch.testing.assert_close(layer(_random(2, 2, 6, 6)), before)


def test_convolutions_have_no_bias_and_keep_a_sides_multiple() -> None:
    features = torch.zeros(1, 2, 12, 12)
    for side in (3, 5, 7):
        assert NormalisedConvolution(2, 3, side=side)(features).shape == (1, 3, 12, 12)
        assert NormalisedConvolution(2, 3, side=side, stride=2)(features).shape == (1, 3, 6, 6)
        assert NormalisedConvolution(2, 3, side=side, stride=2, transposed=True)(features).shape == (1, 3, 24, 24)
    assert not [name for name, _ in _network().named_parameters() if "convolution.bias" in name]


def test_running_mean_follows_its_recurrence_and_evaluation_uses_it() -> None:
    layer = MeanOnlyBatchNorm2d(3)
    running = torch.zeros(3)
    for seed in range(5):
        features = _random(2, 3, 4, 5, seed=seed) + 2.0
        normalised = layer(features)
        means = features.mean(dim=(0, 2, 3))
        torch.testing.assert_close(normalised, features - means[:, None, None])
        running = 0.99 * running + 0.01 * means
    torch.testing.assert_close(layer.running_mean, running)
    before = layer.running_mean.clone()
    torch.testing.assert_close(layer.eval()(features), features - running[:, None, None])
    torch.testing.assert_close(layer.running_mean, before, rtol=0, atol=0)


def test_gradient_passes_through_the_batch_mean() -> None:
    """Of sum(c (x - mean x)) it is c - mean(c)."""
    features = _random(2, 1, 3, 3).requires_grad_()
    cotangents = _random(2, 1, 3, 3, seed=1)
    (MeanOnlyBatchNorm2d(1)(features) * cotangents).sum().backward()
    torch.testing.assert_close(features.grad, cotangents - cotangents.mean())


def test_decay_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decay: got 1.5; expected a number in \[0, 1\]"):
        MeanOnlyBatchNorm2d(3, decay=1.5)


@pytest.mark.parametrize("make", [MeanOnlyBatchNorm2d, SharedBatchNorm2d])
def test_frozen_layers_use_and_keep_their_running_statistics(make: Callable[[int], nn.Module]) -> None:
    layer = make(3)
    layer(_random(4, 3, 5, 5) + 1.0)
    assert freeze_normalisation(layer) == 1
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    frozen = layer(_random(4, 3, 5, 5, seed=1))
    assert layer.training
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    torch.testing.assert_close(frozen, layer.eval()(_random(4, 3, 5, 5, seed=1)), rtol=0, atol=0)
    freeze_normalisation(layer, frozen=False)
    layer.train()(_random(4, 3, 5, 5, seed=1))
    assert not torch.equal(layer.state_dict()["running_mean"], before["running_mean"])


def test_state_dict_restores_everything_the_frozen_flag_included() -> None:
    network, inputs = _network(), _random(3, 2, 8, 8)
    initialise_from_data(network, inputs)
    network(inputs)
    freeze_normalisation(network)
    restored = _network()
    restored.load_state_dict(network.state_dict())
    torch.testing.assert_close(restored(inputs + 1), network(inputs + 1), rtol=0, atol=0)
    assert all(isinstance(value, Tensor) for value in network.state_dict().values())
    assert freeze_normalisation(restored, frozen=False) == 4
    assert not torch.allclose(restored(inputs + 1), network(inputs + 1))


def _pre_activations(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    found: list[Tensor] = []
    layers = [module for module in network.modules() if isinstance(module, NormalisedConvolution)]
    hooks = [layer.register_forward_hook(lambda _module, _inputs, output: found.append(output)) for layer in layers]
    with torch.no_grad():
        network(inputs)
    for hook in hooks:
        hook.remove()
    return found


def test_initialisation_gives_each_layer_zero_mean_and_unit_variance() -> None:
    network, inputs = _network(), 3 * _random(8, 2, 12, 12) + 5
    assert initialise_from_data(network, inputs) == 4
    assert network.training
    *hidden, output = _pre_activations(network.eval(), inputs)
    for features in hidden:
        torch.testing.assert_close(features.mean(dim=(0, 2, 3)), torch.zeros(features.shape[1]), rtol=0, atol=1e-5)
    for features in (*hidden, output):
        deviations = features.std(dim=(0, 2, 3), correction=0)
        torch.testing.assert_close(deviations, torch.ones(features.shape[1]), rtol=1e-4, atol=0)


def test_initialisation_is_that_of_the_paper_layer_by_layer() -> None:
    """A layer's lengths become those at hand over the deviation of its output, which the layers before it shape."""
    network, inputs = nn.Sequential(NormalisedConvolution(2, 3), nn.ReLU(), NormalisedConvolution(3, 2)), None
    inputs = _random(4, 2, 9, 9)
    features, expected = inputs, []
    with torch.no_grad():
        for layer in (network[0], network[2]):
            convolved = layer.convolution(features)
            means, deviations = convolved.mean(dim=(0, 2, 3)), convolved.std(dim=(0, 2, 3), correction=0)
            expected.append((2.0**0.5 / deviations, means / deviations))
            features = ((convolved - means[:, None, None]) / deviations[:, None, None]).relu()
    initialise_from_data(network, inputs)
    for layer, (lengths, means) in zip((network[0], network[2]), expected, strict=True):
        torch.testing.assert_close(layer.lengths.flatten(), lengths)
        torch.testing.assert_close(layer.normalisation.running_mean, means)


def test_initialisation_moves_neither_directions_nor_modes_and_leaves_no_hooks() -> None:
    network = _network()
    network[0].eval()
    before = [parameter.clone() for name, parameter in network.named_parameters() if "original1" in name]
    initialise_from_data(network, _random(2, 2, 8, 8))
    after = [parameter for name, parameter in network.named_parameters() if "original1" in name]
    for first, second in zip(before, after, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert [network[0].training, network[2].training, network.training] == [False, True, True]
    assert not any(module._forward_hooks for module in network.modules())


def test_outputs_get_the_deviation_that_they_were_made_with() -> None:
    layer, inputs = NormalisedConvolution(2, 1, normalised=False, deviation=0.1), _random(4, 2, 9, 9)
    initialise_from_data(layer, inputs)
    assert layer(inputs).std(correction=0).item() == pytest.approx(0.1, rel=1e-4)


def test_channels_that_hardly_vary_are_not_blown_up() -> None:
    """The root mean square of inputs 1 +- 1e-4 becomes 20, or sqrt(n) if that is less, and not 10,000."""
    for n_scans, size, expected in ((4, 12, 20.0), (1, 4, 4.0)):
        layer, inputs = NormalisedConvolution(1, 1, side=1), 1 + 1e-4 * _random(n_scans, 1, size, size)
        initialise_from_data(layer, inputs)
        assert layer.convolution(inputs).square().mean().sqrt().item() == pytest.approx(expected, rel=1e-3)


def test_initialisation_leaves_flat_channels_and_other_networks_alone() -> None:
    network = _network()
    lengths = network[0].lengths.clone()
    initialise_from_data(network, torch.zeros(1, 2, 8, 8))
    torch.testing.assert_close(network[0].lengths, lengths, rtol=0, atol=0)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
    assert initialise_from_data(nn.Conv2d(2, 1, 3), torch.zeros(1, 2, 8, 8)) == 0
    assert freeze_normalisation(nn.Conv2d(2, 1, 3)) == 0


def test_shared_batch_norm_is_torchs_in_one_process() -> None:
    ours, theirs = SharedBatchNorm2d(3), nn.BatchNorm2d(3)
    for seed in range(3):
        features = _random(4, 3, 5, 5, seed=seed) + 1
        torch.testing.assert_close(ours(features), theirs(features), rtol=0, atol=0)
    torch.testing.assert_close(ours.eval()(features), theirs.eval()(features), rtol=0, atol=0)


def _step(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Initialise, one forward and backward pass, and everything that they left."""
    initialise_from_data(network, inputs)
    network(inputs).square().mean().backward()
    gradients = {f"gradient {name}": parameter.grad for name, parameter in network.named_parameters()}
    return {**network.state_dict(), **gradients}


def _share(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        found = _step(_network(), _random(4, 2, 8, 8)[2 * rank : 2 * rank + 2])
        for name, value in found.items():
            if name.startswith("gradient"):  # their mean is what data-parallel training follows
                distributed.all_reduce(value)
                value.div_(2)
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        distributed.destroy_process_group()


def test_two_processes_compute_what_one_does_with_the_whole_batch(tmp_path: Path) -> None:
    multiprocessing.start_processes(_share, args=(str(tmp_path),), nprocs=2, start_method="spawn")
    expected = _step(_network(), _random(4, 2, 8, 8))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(
                found[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
            )


def test_channel_means_count_the_values_of_a_channel() -> None:
    means, count = channel_means(_random(2, 3, 4, 5))
    torch.testing.assert_close(means, _random(2, 3, 4, 5).mean(dim=(0, 2, 3)))
    assert count == 40
