from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_scan.generators.discriminators import Discriminators


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pictures(n_pictures: int, size: int) -> Tensor:
    return 2 * torch.rand(n_pictures, 1, size, size, generator=_generator(5)) - 1


def _tiny(**config: object) -> Discriminators:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Discriminators(**{"width": 1 / 16, **config})  # type: ignore[arg-type]


def test_discriminators_have_the_papers_layers() -> None:
    network = Discriminators()
    assert len(network.discriminators) == 3
    for discriminator in network.discriminators:
        layers = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d)]
        found = [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.padding[0]) for m in layers]
        assert found == [(1, 64, 4, 2, 0), (64, 128, 4, 2, 0), (128, 256, 4, 2, 0), (256, 512, 4, 2, 0)]
        (linear,) = [module for module in discriminator.modules() if isinstance(module, nn.Linear)]
        assert (linear.in_features, linear.out_features) == (512 * 2 * 2, 1)
        slopes = [module.negative_slope for module in discriminator.modules() if isinstance(module, nn.LeakyReLU)]
        assert slopes == [0.2] * 4
        for layer in (*layers, linear):
            assert (layer.bias == 0).all()
            assert layer.parametrizations.weight.original.std().item() == pytest.approx(0.03, rel=0.1)
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_269_635


def test_spectral_norm_of_every_weight_becomes_one() -> None:
    network = _tiny()
    pictures, generator = _pictures(1, 280), _generator()
    with torch.no_grad():
        for _ in range(60):
            network(pictures, generator)
        for module in network.eval().modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                largest = torch.linalg.svdvals(module.weight.flatten(1))[0]
                assert largest.item() == pytest.approx(1.0, abs=0.02)


def test_evaluation_makes_no_power_iteration_and_training_makes_one() -> None:
    network, places = _tiny(), _tiny().draw_places(1, 280, _generator())
    vectors = {name: value.clone() for name, value in network.state_dict().items() if name.endswith("_u")}
    assert len(vectors) == 15
    with torch.no_grad():
        network.eval()(_pictures(1, 280), places=places)
        assert all(torch.equal(network.state_dict()[name], value) for name, value in vectors.items())
        network.train()(_pictures(1, 280), places=places)
        assert not all(torch.equal(network.state_dict()[name], value) for name, value in vectors.items())


def test_crops_are_the_pictures_at_their_places_and_resampled_to_the_side() -> None:
    network, pictures = _tiny().eval(), _pictures(2, 512)
    places = network.draw_places(2, 512, _generator(3))
    seen: list[Tensor] = []
    hooks = [
        discriminator.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        for discriminator in network.discriminators
    ]
    with torch.no_grad():
        scores = network(pictures, places=places)
    for hook in hooks:
        hook.remove()
    for crops, corners, size, discriminator, score in zip(
        seen, places, (70, 140, 280), network.discriminators, scores, strict=True
    ):
        assert crops.shape == (2, 1, 70, 70)
        for crop, picture, (row, column) in zip(crops, pictures, corners.tolist(), strict=True):
            cut = picture[None, :, row : row + size, column : column + size]
            expected = F.interpolate(cut, size=(70, 70), mode="bilinear", antialias=True)[0] if size > 70 else cut[0]
            torch.testing.assert_close(crop, expected)
        with torch.no_grad():
            torch.testing.assert_close(discriminator(crops), score)


def test_larger_crops_average_noise_away() -> None:
    """From 280 to 70 px the deviation of white noise falls to sum(w²), w the antialiased weights along one side."""
    network, seen = _tiny().eval(), []
    network.discriminators[2].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    noise = torch.randn(4, 1, 512, 512, generator=_generator())
    with torch.no_grad():
        network(noise, _generator())
    weights = torch.tensor([0.5, 1.5, 2.5, 3.5, 3.5, 2.5, 1.5, 0.5]) / 16
    interior = seen[0][..., 2:-2, 2:-2]
    assert interior.std().item() == pytest.approx(weights.square().sum().item(), rel=0.05)


@pytest.mark.parametrize("size", [280, 281, 512])
def test_places_keep_crops_inside_and_reach_every_place(size: int) -> None:
    places = _tiny().draw_places(3000, size, _generator())
    for corners, crop_size in zip(places, (70, 140, 280), strict=True):
        assert corners.shape == (3000, 2)
        assert corners.min() == 0
        assert corners.max() <= size - crop_size
        assert corners.float().mean().item() == pytest.approx((size - crop_size) / 2, rel=0.05, abs=0.05)


def test_crops_of_small_pictures_shrink_in_proportion() -> None:
    network = _tiny()
    assert network.crop_sizes(512) == network.crop_sizes(280) == (70, 140, 280)
    assert network.crop_sizes(256) == (35, 70, 140)
    assert network.crop_sizes(96) == (round(70 * 96 / 512), round(140 * 96 / 512), round(280 * 96 / 512))
    assert network.crop_sizes(1) == (1, 1, 1)
    assert _tiny(sizes=(1024,)).crop_sizes(96) == (96,)
    with torch.no_grad():
        scores = network(_pictures(2, 96), _generator())
    assert [score.shape for score in scores] == [(2,)] * 3


def test_same_generator_state_and_same_places_give_the_same_scores() -> None:
    network, pictures = _tiny().eval(), _pictures(3, 300)
    with torch.no_grad():
        drawn = network(pictures, _generator(1))
        again = network(pictures, places=network.draw_places(3, 300, _generator(1)))
        other = network(pictures, _generator(2))
    for first, second, third in zip(drawn, again, other, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
        assert not torch.equal(first, third)


def test_gradient_reaches_the_pixels_of_the_crops_and_no_others() -> None:
    network, pictures = _tiny(sizes=(70,)), _pictures(1, 128).requires_grad_()
    ((row, column),) = network.draw_places(1, 128, _generator(1))[0].tolist()
    network(pictures, _generator(1))[0].sum().backward()
    assert pictures.grad is not None
    touched = pictures.grad[0, 0] != 0
    inside = torch.zeros_like(touched)
    inside[row : row + 70, column : column + 70] = True
    assert not (touched & ~inside).any()
    # 70, 34, 16, 7, 2: without padding the last convolution leaves one of 7 pixels out, and so 62 px are seen
    assert touched.sum().item() == 62 * 62


def test_discriminators_can_tell_noise_from_flat_pictures() -> None:
    network, generator = _tiny(sizes=(70, 140)), _generator()
    real, completed = _pictures(4, 140), torch.zeros(4, 1, 140, 140)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(25):
        optimiser.zero_grad()
        loss = sum(
            (true - 1).square().mean() + false.square().mean()
            for true, false in zip(network(real, generator), network(completed, generator), strict=True)
        )
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        for true, false in zip(network(real, generator), network(completed, generator), strict=True):
            assert true.min() > false.max() + 0.5


def test_config_rebuilds_the_network() -> None:
    network = _tiny(sizes=(24, 48), side=46)
    assert network.config == {"sizes": [24, 48], "side": 46, "width": 1 / 16}
    rebuilt = Discriminators(**network.config)
    rebuilt.load_state_dict(network.state_dict())
    with torch.no_grad():
        found, expected = (n.eval()(_pictures(1, 64), _generator()) for n in (rebuilt, network))
    for first, second in zip(found, expected, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_what_does_not_suit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sizes: got \(\)"):
        Discriminators(sizes=())
    with pytest.raises(ValueError, match=r"sizes: got \(70, 0\); expected sides of crops of at least 1 px"):
        Discriminators(sizes=(70, 0))
    with pytest.raises(ValueError, match="side: got 45 px; expected at least 46"):
        Discriminators(side=45)
    with pytest.raises(ValueError, match="width: got 0; expected more than 0"):
        Discriminators(width=0)
    network, pictures = _tiny(), _pictures(1, 64)
    with pytest.raises(ValueError, match="got neither of generator and places; expected one of them"):
        network(pictures)
    with pytest.raises(ValueError, match="got both of generator and places"):
        network(pictures, _generator(), places=network.draw_places(1, 64, _generator()))
    with pytest.raises(ValueError, match=r"pictures have shape \(1, 2, 64, 64\); expected \(n_pictures, 1, S, S\)"):
        network(torch.zeros(1, 2, 64, 64), _generator())
