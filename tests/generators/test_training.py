from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from adaptive_scan.generators import (
    GENERATORS,
    AlrcState,
    GeneratorTrainer,
    GeneratorTraining,
    LinearCompleter,
    UNetGenerator,
    blur_targets,
    completion_loss,
    draw_positions,
    generator_step,
    make_generator,
    pull_push_infill,
    train_generator,
)
from adaptive_scan.micrographs import ArrayCrops
from adaptive_scan.scans import ScanGeometry, partial_scans, sample
from adaptive_scan.trees import read_tree, write_tree

GEOMETRY = ScanGeometry(16, 6, 4)
SETTINGS = GeneratorTraining(n_updates=4, batch_size=6, scans=("random", "random_headings"))


@pytest.fixture
def crops() -> ArrayCrops:
    noise = np.random.default_rng(5).normal(size=(40, 16, 16))
    smooth = np.stack([gaussian_filter(picture, 2.0, mode="wrap") for picture in noise])
    return ArrayCrops((smooth / np.abs(smooth).max(axis=(1, 2), keepdims=True)).astype(np.float32))


def _trainer(crops: ArrayCrops, settings: GeneratorTraining = SETTINGS) -> GeneratorTrainer:
    network = make_generator("unet", seed=settings.seed, n_channels=8, n_levels=2)
    return GeneratorTrainer(network, crops, GEOMETRY, settings)


def _weights(network: nn.Module) -> list[Tensor]:
    return [value.clone() for value in network.state_dict().values()]


def _equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class _Offset(nn.Module):
    """Completes every pixel with one number, whose loss and gradient are known by hand."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(offset))

    def forward(self, partial_scans: Tensor) -> Tensor:
        return self.offset * torch.ones(len(partial_scans), 1, *partial_scans.shape[2:])


def _targets(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None, None].expand(-1, 1, 4, 4)


def test_generator_step_by_hand() -> None:
    """Losses 10 (0 - t)²; gradient of their mean 20 (0 - mean t) = -15, followed with a rate of 0.01."""
    network = _Offset(0.0)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    losses, completions = generator_step(network, optimiser, torch.zeros(2, 2, 4, 4), _targets(0.5, 1.0))
    assert losses.tolist() == [2.5, 10.0]
    assert not losses.requires_grad
    assert not completions.requires_grad
    assert (completions == 0).all()
    assert network.offset.item() == pytest.approx(0.15)


def test_generator_step_follows_capped_losses_and_returns_plain_ones() -> None:
    network = _Offset(0.0)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    halved = lambda losses: losses * 0.5  # noqa: E731
    losses, _ = generator_step(network, optimiser, torch.zeros(2, 2, 4, 4), _targets(0.5, 1.0), cap=halved)
    assert losses.tolist() == [2.5, 10.0]
    assert network.offset.item() == pytest.approx(0.075)


def test_generator_step_refuses_losses_that_are_not_finite() -> None:
    network = _Offset(0.25)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    with pytest.raises(FloatingPointError, match="1 of 2 losses are not finite"):
        generator_step(network, optimiser, torch.zeros(2, 2, 4, 4), _targets(0.5, float("nan")))
    assert network.offset.item() == 0.25


def test_equal_seeds_train_to_equal_bits_and_others_do_not(crops: ArrayCrops) -> None:
    first, second = (train_generator(crops, GEOMETRY, SETTINGS) for _ in range(2))
    assert first.step == 4
    assert _equal(_weights(first.network), _weights(second.network))
    other = train_generator(crops, GEOMETRY, dataclasses.replace(SETTINGS, seed=1))
    assert not _equal(_weights(first.network), _weights(other.network))


def test_training_leaves_the_global_random_state_alone(crops: ArrayCrops) -> None:
    before = torch.get_rng_state()
    train_generator(crops, GEOMETRY, dataclasses.replace(SETTINGS, n_updates=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("generator", sorted(GENERATORS))
def test_interrupted_and_resumed_training_ends_the_same_to_the_last_bit(
    generator: Any, crops: ArrayCrops, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SETTINGS, generator=generator, n_updates=5, alrc=True)
    whole = train_generator(crops, GEOMETRY, settings)
    stopped = train_generator(crops, GEOMETRY, settings, on_update=lambda trainer, _: trainer.step == 2)
    assert stopped.step == 2
    write_tree(tmp_path / "state.safetensors", stopped.state_dict())
    resumed = train_generator(crops, GEOMETRY, settings, state=read_tree(tmp_path / "state.safetensors"))
    assert resumed.step == 5
    assert _equal(_weights(whole.network), _weights(resumed.network))
    assert whole.state_dict()["alrc"] == resumed.state_dict()["alrc"]
    assert whole.state_dict()["rng"] == resumed.state_dict()["rng"]


def test_training_beats_the_infill_and_linear_interpolation_on_new_scans(crops: ArrayCrops) -> None:
    trainer = _trainer(crops, dataclasses.replace(SETTINGS, n_updates=80, batch_size=16, learning_rate=3e-3))
    for _ in range(80):
        trainer.update()
    scans, targets = _trainer(crops, dataclasses.replace(SETTINGS, batch_size=64, seed=99)).draw_batch()
    with torch.no_grad():
        learned = completion_loss(trainer.network.eval()(scans), targets).mean()
    assert learned < 0.92 * completion_loss(pull_push_infill(scans), targets).mean()
    assert learned < 0.8 * completion_loss(LinearCompleter()(scans), targets).mean()


def test_batch_holds_scans_of_its_targets(crops: ArrayCrops) -> None:
    scans, targets = _trainer(crops, dataclasses.replace(SETTINGS, blur=False)).draw_batch()
    assert scans.shape == (6, 2, 16, 16)
    torch.testing.assert_close(scans[:, :1], targets * scans[:, 1:], rtol=0, atol=1e-6)
    assert (scans[:, 1].sum((1, 2)) > 10).all()


def test_blur_and_augmentation_are_options(crops: ArrayCrops) -> None:
    plain = dataclasses.replace(SETTINGS, blur=False, augment=False)
    scans, sharp = _trainer(crops, plain).draw_batch()
    assert all((crops.crops == target[0].numpy()).all(axis=(1, 2)).any() for target in sharp)
    same_scans, blurred = _trainer(crops, dataclasses.replace(plain, blur=True)).draw_batch()
    assert torch.equal(scans, same_scans)
    torch.testing.assert_close(blurred, blur_targets(sharp), rtol=0, atol=0)
    turned, _ = _trainer(crops, dataclasses.replace(plain, augment=True)).draw_batch()
    assert not torch.equal(scans, turned)
    torch.testing.assert_close(scans.sum((2, 3)), turned.sum((2, 3)), rtol=0, atol=1e-5)


def test_alrc_caps_the_followed_loss_only(crops: ArrayCrops, monkeypatch: pytest.MonkeyPatch) -> None:
    start = AlrcState(0.01, 0.0001)  # a limit of 0.01 that every loss of the untrained network exceeds
    trainer = _trainer(crops, dataclasses.replace(SETTINGS, alrc=True))
    trainer._alrc_state = start
    losses = trainer.update()
    assert (losses > 0.01).all()
    mu1, mu2 = trainer.state_dict()["alrc"]
    assert mu1 == pytest.approx(0.01)
    assert mu2 == pytest.approx(0.0001)
    without = _trainer(crops)
    without.update()
    assert without.state_dict()["alrc"] == [1.0, 4.0]


def test_schedules() -> None:
    cosine = GeneratorTraining(n_updates=101, learning_rate=1.0, final_learning_rate=0.2)
    assert cosine.learning_rate_at(0) == 1.0
    assert cosine.learning_rate_at(50) == pytest.approx(0.6)
    assert cosine.learning_rate_at(25) == pytest.approx(0.2 + 0.8 * (1 + np.sqrt(0.5)) / 2)
    assert cosine.learning_rate_at(100) == pytest.approx(0.2)
    assert cosine.learning_rate_at(500) == pytest.approx(0.2)
    constant = dataclasses.replace(cosine, schedule="constant")
    assert {constant.learning_rate_at(step) for step in (0, 50, 100)} == {1.0}
    assert GeneratorTraining(n_updates=1).learning_rate_at(0) == GeneratorTraining().learning_rate


def test_scheduled_rate_reaches_the_optimiser(crops: ArrayCrops) -> None:
    """At a rate of 0 (no decay) the second and last update leaves the weights alone."""
    settings = dataclasses.replace(SETTINGS, n_updates=2, final_learning_rate=0.0)
    trainer = _trainer(crops, settings)
    start = _weights(trainer.network)
    trainer.update()
    middle = _weights(trainer.network)
    trainer.update()
    assert not _equal(start, middle)
    assert _equal(middle, _weights(trainer.network))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": "gan"}, "generator is 'gan'; expected one of residual, unet"),
        ({"schedule": "step"}, "schedule is 'step'; expected 'constant' or 'cosine'"),
        ({"scans": ("rosette",)}, "scans holds 'rosette'"),
        ({"n_updates": 0}, "n_updates is 0; expected more than 0"),
        ({"batch_size": -1}, "batch_size is -1; expected more than 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; expected more than 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; expected 0 or more"),
        ({"seed": -1}, "seed is -1; expected 0 or more"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratorTraining(**change)


def test_sides_that_disagree_are_refused(crops: ArrayCrops) -> None:
    with pytest.raises(ValueError, match="crops have side 16 px; expected the geometry's 24"):
        GeneratorTrainer(UNetGenerator(), crops, ScanGeometry(24, 4, 4), SETTINGS)
    with pytest.raises(ValueError, match="image_size is 16 px; expected a multiple of 32"):
        GeneratorTrainer(UNetGenerator(n_channels=4, n_levels=5), crops, GEOMETRY, SETTINGS)


def test_make_generator_refuses_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="generator is 'gan'; expected one of residual, unet"):
        make_generator("gan", seed=0)


def test_sampled_values_are_those_of_the_crop(crops: ArrayCrops, rng: np.random.Generator) -> None:
    trainer = _trainer(crops, dataclasses.replace(SETTINGS, scans=("spiral",), blur=False, augment=False))
    scans, targets = trainer.draw_batch()
    positions = np.argwhere(scans[0, 1].numpy())[None].astype(np.float32)
    values = sample(targets[:1, 0].numpy(), positions)[0]
    np.testing.assert_allclose(scans[0, 0].numpy()[scans[0, 1].numpy() > 0], values, atol=1e-6)


def test_scans_go_through_the_instrument_and_the_ideal_one_draws_nothing() -> None:
    geometry = ScanGeometry(16, 4, 4)
    crops = ArrayCrops(np.random.default_rng(0).uniform(-1, 1, (5, 16, 16)).astype(np.float32))
    settings = GeneratorTraining(scans=("spiral",), batch_size=6, augment=False, n_updates=1)

    def trainer(acquisition: str | None) -> GeneratorTrainer:
        network = make_generator("unet", seed=0, n_channels=4, n_levels=2)
        return GeneratorTrainer(network, crops, geometry, settings, acquisition=acquisition)

    plain, named, noisy = (trainer(name) for name in (None, "ideal", "low-dose"))
    (ideal, _), (same, _), (measured, targets) = (each.draw_batch() for each in (plain, named, noisy))
    assert torch.equal(ideal, same)
    assert plain._rng.bit_generator.state == named._rng.bit_generator.state != noisy._rng.bit_generator.state
    assert torch.equal(measured[:, 1], ideal[:, 1])
    rng = np.random.default_rng(settings.seed)
    drawn = crops.take(crops.draw(6, rng))
    positions = draw_positions(("spiral",), geometry, 6, rng)
    reading = noisy.instrument.measure(positions, lambda p: sample(drawn, p), noisy.instrument.begin(6, rng))
    np.testing.assert_array_equal(measured.numpy(), partial_scans(reading.values, positions, 16))
    torch.testing.assert_close(targets, blur_targets(torch.from_numpy(drawn)[:, None]))
    trained = train_generator(crops, geometry, settings, acquisition="low-dose")
    assert trained.instrument is noisy.instrument
