from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from adaptive_scan.acquisition import as_instrument
from adaptive_scan.generators import (
    GENERATORS,
    GeneratorTrainer,
    GeneratorTraining,
    LinearCompleter,
    UNetGenerator,
    blur_targets,
    completion_loss,
    make_generator,
    train_generator,
)
from adaptive_scan.generators.averaging import averaged_copy, move_average
from adaptive_scan.generators.coverage import given_priorities
from adaptive_scan.generators.distributed import Processes
from adaptive_scan.generators.families import draw_positions, draw_scans
from adaptive_scan.generators.infill import pull_push_infill
from adaptive_scan.generators.losses import AlrcState, alrc
from adaptive_scan.generators.normalisation import NormalisedConvolution
from adaptive_scan.generators.training import TrainingBatch, capped_together, generator_step
from adaptive_scan.micrographs import ArrayCrops, MicrographCrops, MicrographDataset
from adaptive_scan.scans import ScanGeometry, partial_scans, sample
from adaptive_scan.trees import read_tree, write_tree

GEOMETRY = ScanGeometry(16, 6, 4)
SETTINGS = GeneratorTraining(n_updates=4, batch_size=6, scans=("random", "random_headings"))

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


@pytest.mark.parametrize("kind", sorted(GENERATORS))
def test_interrupted_and_resumed_training_ends_the_same_to_the_last_bit(
    kind: str, make_network: Callable[[str], nn.Module], tmp_path: Path
) -> None:
    settings = dataclasses.replace(SETTINGS, n_updates=4, batch_size=2, alrc=True)
    pictures = ArrayCrops(np.random.default_rng(0).uniform(-1, 1, (5, 32, 32)))

    def trainer() -> GeneratorTrainer:
        return GeneratorTrainer(make_network(kind), pictures, ScanGeometry(32, 6, 4), settings)

    whole, stopped, resumed = trainer(), trainer(), trainer()
    for each, n_updates in ((whole, 4), (stopped, 2)):
        each.initialise()
        for _ in range(n_updates):
            each.update()
    write_tree(tmp_path / "state.safetensors", stopped.state_dict())
    resumed.load_state_dict(read_tree(tmp_path / "state.safetensors"))
    for _ in range(2):
        resumed.update()
    assert resumed.step == 4
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
        ({"generator": "gan"}, "generator: got 'gan'; expected one of residual, unet"),
        ({"schedule": "step"}, "schedule: got 'step'; expected 'constant', 'cosine' or 'steps'"),
        ({"scans": ("rosette",)}, "scans holds 'rosette'"),
        ({"n_updates": 0}, "n_updates: got 0; expected more than 0"),
        ({"batch_size": -1}, "batch_size: got -1; expected more than 0"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan; expected more than 0"),
        ({"weight_decay": -0.1}, "weight_decay: got -0.1; expected 0 or more"),
        ({"seed": -1}, "seed: got -1; expected 0 or more"),
        ({"scans": ()}, "scans holds nothing"),
        ({"coverages": (0.1, 1.5)}, "coverages holds 1.5; expected numbers above 0 and at most 1"),
        ({"ema_decay": 1.0}, "ema_decay: got 1.0; expected 0 or more, and less than 1"),
        ({"max_grad_norm": 0.0}, "max_grad_norm: got 0.0; expected more than 0, or None"),
        ({"precision": "float16"}, "precision: got 'float16'; expected 'float32' or 'bfloat16'"),
        ({"prioritisation": "yes"}, "prioritisation: got 'yes'; expected 'none', 'given' or 'tracked'"),
        ({"alrc_mu1": 25.0, "alrc_mu2": 30.0}, r"mu2: got 30.0 with mu1 25.0; expected mu2 >= mu1\*\*2"),
        ({"adversarial_share": 1.0}, "adversarial_share: got 1.0; expected 0 or more, and less than 1"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratorTraining(**change)


def test_sides_that_disagree_are_refused(crops: ArrayCrops) -> None:
    with pytest.raises(ValueError, match="crops have side 16 px; expected the geometry's 24"):
        GeneratorTrainer(UNetGenerator(), crops, ScanGeometry(24, 4, 4), SETTINGS)
    with pytest.raises(ValueError, match="image_size: got 16 px; expected a multiple of 32"):
        GeneratorTrainer(UNetGenerator(n_channels=4, n_levels=5), crops, GEOMETRY, SETTINGS)


def test_make_generator_refuses_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="generator: got 'gan'; expected one of residual, unet"):
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


def test_stepped_schedule_is_the_paper_s_table() -> None:
    """Constant for a half, then eight levels from the whole to an eighth; beta1 falls likewise; then it begins anew."""
    settings = GeneratorTraining(
        n_updates=3200, schedule="steps", learning_rate=8.0, final_beta1=0.5, adversarial_share=0.5,
        adversarial_learning_rate=16.0, adversarial_beta1=0.5,
    )  # fmt: skip
    assert settings.n_supervised == 1600
    assert {settings.learning_rate_at(step) for step in range(800)} == {8.0}
    assert [settings.learning_rate_at(step) for step in range(800, 1600, 100)] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert [settings.learning_rate_at(step) for step in (899, 900, 1599)] == [8.0, 7.0, 1.0]
    assert [settings.beta1_at(step) for step in (0, 899)] == [0.9, 0.9]
    np.testing.assert_allclose([settings.beta1_at(step) for step in (900, 1599)], [0.85, 0.55])
    assert [settings.learning_rate_at(step) for step in (1600, 2399, 2500, 3199, 9999)] == [16, 16, 14, 2, 2]
    assert {settings.beta1_at(step) for step in (1600, 3199)} == {0.5}


def test_cosine_begins_anew_in_the_adversarial_part() -> None:
    settings = GeneratorTraining(
        n_updates=302, learning_rate=1.0, final_learning_rate=0.2, adversarial_share=0.5, adversarial_learning_rate=0.4
    )
    assert settings.learning_rate_at(150) == pytest.approx(0.2)
    assert settings.learning_rate_at(151) == 0.4
    assert settings.learning_rate_at(226) == pytest.approx(0.3)


def test_warm_up_rises_linearly() -> None:
    settings = GeneratorTraining(n_updates=100, schedule="constant", learning_rate=1.0, warm_up=4)
    assert [settings.learning_rate_at(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_scheduled_beta1_reaches_the_optimiser(crops: ArrayCrops) -> None:
    trainer = _trainer(crops, dataclasses.replace(SETTINGS, n_updates=16, final_beta1=0.1))
    trainer.step = 15
    trainer.update()
    assert trainer.optimiser.param_groups[0]["betas"] == (pytest.approx(0.9 - 0.8 * 7 / 8), 0.999)


MIXED = dataclasses.replace(
    SETTINGS, batch_size=12, scans=("spiral", "random", "random_headings"), coverages=(1 / 4, 1 / 16)
)


def test_a_batch_of_several_coverages_is_measured_scan_by_scan(crops: ArrayCrops) -> None:
    """Each scan of the batch, measured alone with its own instrument state, by a slow loop over the same draws."""
    settings = dataclasses.replace(MIXED, augment=False, blur=False)
    network = make_generator("unet", seed=0, n_channels=4, n_levels=2)
    trainer = GeneratorTrainer(network, crops, GEOMETRY, settings, acquisition="low-dose")
    batch = trainer.draw_batch()
    assert trainer.coverages == (1 / 4, 1 / 16, 24 / 256)
    rng, instrument = np.random.default_rng(settings.seed), as_instrument("low-dose")
    drawn = crops.take(crops.draw(12, rng))
    scans = draw_scans(settings.scans, GEOMETRY, 12, rng, coverages=settings.coverages)
    keys = instrument.begin(12, rng).keys
    for members, positions in scans.groups:
        for place, path in zip(members, positions, strict=True):
            one, crop = instrument.begin_with(keys[[place]]), drawn[[place]]
            reading = instrument.measure(path[None], lambda p, crop=crop: sample(crop, p), one)
            expected = partial_scans(reading.values, path[None], 16)[0]
            np.testing.assert_array_equal(batch.partial_scans[place].numpy(), expected)
            assert batch.families[place] == settings.scans[scans.families[place]]
            assert batch.coverages[place].item() == pytest.approx(len(path) / 256)
            assert trainer.coverages[batch.coverage_indices[place]] == pytest.approx(len(path) / 256)
    assert len(set(batch.coverages.tolist())) == 3


def test_crops_of_a_batch_turn_with_its_targets(crops: ArrayCrops) -> None:
    batch = _trainer(crops, dataclasses.replace(MIXED, blur=True)).draw_batch()
    torch.testing.assert_close(blur_targets(batch.crops), batch.targets, rtol=0, atol=1e-6)
    assert not torch.equal(batch.crops, batch.upright_crops)
    sharp = _trainer(crops, dataclasses.replace(MIXED, blur=False, augment=False)).draw_batch()
    assert torch.equal(sharp.crops, sharp.targets)


def _batch(coverage_indices: list[int]) -> TrainingBatch:
    n_scans = len(coverage_indices)
    scans, targets = torch.zeros(n_scans, 2, 4, 4), torch.zeros(n_scans, 1, 4, 4)
    indices = torch.tensor(coverage_indices)
    return TrainingBatch(scans, targets, ("spiral",) * n_scans, indices, torch.zeros(n_scans), targets, None)


def test_given_priorities_divide_the_followed_losses(crops: ArrayCrops) -> None:
    settings = dataclasses.replace(SETTINGS, scans=("spiral",), coverages=(1 / 16, 1 / 100), prioritisation="given")
    trainer = _trainer(crops, settings)
    followed = trainer.followed(torch.tensor([1.0, 2.0, 3.0]), _batch([1, 0, 1]))
    easy, hard = given_priorities([1 / 16, 1 / 100])
    torch.testing.assert_close(followed, torch.tensor([1 / hard, 2 / easy, 3 / hard], dtype=torch.float32))
    assert "priorities" not in trainer.state_dict()


def test_tracked_priorities_follow_the_losses_seen_before(crops: ArrayCrops) -> None:
    settings = dataclasses.replace(
        SETTINGS, scans=("spiral",), coverages=(1 / 4, 1 / 16), prioritisation="tracked", priority_decay=0.5
    )
    trainer = _trainer(crops, settings)
    losses = torch.tensor([1.0, 4.0, 2.0])
    assert torch.equal(trainer.followed(losses, _batch([0, 1, 1])), losses)
    torch.testing.assert_close(trainer.followed(losses, _batch([0, 1, 1])), losses / torch.tensor([0.5, 1.5, 1.5]))


def test_loss_scale_and_moments_of_the_papers(crops: ArrayCrops) -> None:
    """200 MSE on [0, 1] is 5 times our 10 MSE on [-1, 1]; mu1 = 25 and mu2 = 30² cap it at 25 + 3 sqrt(275)."""
    settings = dataclasses.replace(SETTINGS, loss_scale=50.0, alrc=True, alrc_mu1=25.0, alrc_mu2=900.0)
    followed = _trainer(crops, settings).followed(torch.tensor([1.0, 100.0]), _batch([0, 0]))
    np.testing.assert_allclose(followed.numpy(), [5.0, 25.0 + 3.0 * np.sqrt(275.0)], rtol=1e-6)


def test_known_pixels_are_excluded_by_their_targets(crops: ArrayCrops) -> None:
    settings = dataclasses.replace(SETTINGS, known_pixels="excluded")
    batch = _batch([0])
    batch.partial_scans[0, 1, 0, :2] = 1.0
    completions = torch.zeros(1, 1, 4, 4)
    completions[0, 0, 0, 1] = 7.0  # a measured pixel: no part in the loss
    completions[0, 0, 2, 2] = 2.0
    assert _trainer(crops, settings).losses_of(completions, batch).item() == pytest.approx(10 * 4.0 / 16)
    assert _trainer(crops).losses_of(completions, batch).item() == pytest.approx(10 * 53.0 / 16)


def test_average_follows_every_update_and_is_what_is_saved(crops: ArrayCrops) -> None:
    trainer = _trainer(crops, dataclasses.replace(SETTINGS, ema_decay=0.15))
    slow = averaged_copy(trainer.network)
    for decay in (0.1, 0.15, 0.15):
        trainer.update()
        move_average(slow, trainer.network, decay)
    assert trainer.saved_network is trainer.ema_network
    assert trainer.ema_network is not None
    assert _equal(_weights(slow), _weights(trainer.ema_network))
    assert not _equal(_weights(trainer.network), _weights(trainer.ema_network))
    assert _trainer(crops).saved_network is not None
    assert _trainer(crops).ema_network is None


def test_average_priorities_and_epochs_resume_to_the_last_bit(crops: ArrayCrops, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        MIXED, n_updates=6, alrc=True, ema_decay=0.9, prioritisation="tracked", sampling="epochs", max_grad_norm=0.5
    )
    whole = train_generator(crops, GEOMETRY, settings)
    stopped = train_generator(crops, GEOMETRY, settings, on_update=lambda trainer, _: trainer.step == 3)
    write_tree(tmp_path / "state.safetensors", stopped.state_dict())
    resumed = train_generator(crops, GEOMETRY, settings, state=read_tree(tmp_path / "state.safetensors"))
    assert _equal(_weights(whole.network), _weights(resumed.network))
    assert _equal(_weights(whole.saved_network), _weights(resumed.saved_network))
    assert whole.state_dict()["priorities"] == resumed.state_dict()["priorities"]


def test_gradients_are_clipped_together(crops: ArrayCrops) -> None:
    trainer = _trainer(crops, dataclasses.replace(SETTINGS, max_grad_norm=1e-3))
    trainer.update()
    gradients = [parameter.grad for parameter in trainer.network.parameters() if parameter.grad is not None]
    assert torch.cat([gradient.flatten() for gradient in gradients]).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_bfloat16_is_near_float32_and_keeps_float32_weights(crops: ArrayCrops) -> None:
    trainers = [_trainer(crops, dataclasses.replace(SETTINGS, precision=name)) for name in ("float32", "bfloat16")]
    for trainer in trainers:
        nn.init.normal_(trainer.network.correction.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    exact, rough = (trainer.complete(trainer.draw_batch()).detach() for trainer in trainers)
    assert rough.dtype == torch.float32
    assert 0 < (exact - rough).abs().max() < 0.05
    trainers[1].update()
    assert {parameter.dtype for parameter in trainers[1].network.parameters()} == {torch.float32}


def test_compiled_training_runs_what_was_compiled_and_keeps_plain_names(
    crops: ArrayCrops, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrapped(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self._orig_mod, self.n_calls = network, 0

        def forward(self, scans: Tensor) -> Tensor:
            self.n_calls += 1
            return self._orig_mod(scans)

    monkeypatch.setattr(torch, "compile", Wrapped)
    trainer = _trainer(crops, dataclasses.replace(SETTINGS, compile=True))
    assert torch.equal(trainer.update(), _trainer(crops).update())
    assert trainer._forward.n_calls == 1
    assert trainer.state_dict()["network"].keys() == _trainer(crops).state_dict()["network"].keys()


def test_adaptive_paths_see_the_crops_they_scan(crops: ArrayCrops) -> None:
    """A path that stays at the brightest pixel of its crop measures 1 there and nothing else."""

    def brightest(seen: np.ndarray, _: np.random.Generator) -> np.ndarray:
        places = np.stack(np.unravel_index(seen.reshape(len(seen), -1).argmax(1), (16, 16)), axis=-1)
        return np.repeat(places[:, None], 24, axis=1).astype(np.float32)

    settings = dataclasses.replace(SETTINGS, scans=("adaptive",))
    network = make_generator("unet", seed=0, n_channels=4, n_levels=2)
    trainer = GeneratorTrainer(network, crops, GEOMETRY, settings, paths={"adaptive": brightest})
    batch = trainer.draw_batch()
    assert (batch.partial_scans[:, 1].sum((1, 2)) == 1).all()
    torch.testing.assert_close(batch.partial_scans[:, 0].amax((1, 2)), batch.crops.amax((1, 2, 3)))
    with pytest.raises(ValueError, match="scans holds 'adaptive'; expected some of"):
        GeneratorTrainer(network, crops, GEOMETRY, settings)


def test_what_a_path_maker_measured_is_what_the_network_is_shown(crops: ArrayCrops) -> None:
    """The noise that a path was chosen in, and no other; scans that are not measured yet are measured as ever."""
    shown: list[np.ndarray] = []

    def look(seen: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        positions = np.broadcast_to(np.indices((4, 6)).reshape(2, 24).T, (len(seen), 24, 2)).astype(np.float32)
        shown.append(rng.uniform(-1, 1, (len(seen), 24)).astype(np.float32))
        return positions, shown[-1]

    settings = dataclasses.replace(SETTINGS, scans=("adaptive", "spiral"), batch_size=12, augment=False)
    network = make_generator("unet", seed=0, n_channels=4, n_levels=2)
    paths = {"adaptive": look}
    trainer = GeneratorTrainer(network, crops, GEOMETRY, settings, acquisition="low-dose", paths=paths)
    batch = trainer.draw_batch()
    is_adaptive = np.array(batch.families) == "adaptive"
    assert 0 < is_adaptive.sum() < 12
    scans = batch.partial_scans.numpy()
    np.testing.assert_allclose(scans[is_adaptive, 0, :4, :6].reshape(-1, 24), shown[0], atol=1e-6)
    others = scans[~is_adaptive]
    assert np.isfinite(others).all()
    assert (others[:, 1].sum((1, 2)) > 10).all()


class _Layer(nn.Module):
    """A completer of one normalised convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = NormalisedConvolution(2, 1)

    def forward(self, scans: Tensor) -> Tensor:
        return self.layer(scans)


def test_networks_that_ask_for_it_are_initialised_from_a_batch(crops: ArrayCrops) -> None:
    trainer = GeneratorTrainer(_Layer(), crops, GEOMETRY, dataclasses.replace(SETTINGS, ema_decay=0.5))
    batch = GeneratorTrainer(_Layer(), crops, GEOMETRY, SETTINGS).draw_batch()
    trainer.initialise()
    with torch.no_grad():
        outputs = trainer.network.eval()(batch.partial_scans)
    assert outputs.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert outputs.std(correction=0).item() == pytest.approx(1.0, rel=1e-4)
    assert torch.equal(trainer.draw_batch().partial_scans, batch.partial_scans)
    assert _equal(_weights(trainer.network), _weights(trainer.saved_network))


def test_a_cache_that_holds_next_to_nothing_gives_the_same_bits(tmp_path: Path) -> None:
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", np.random.default_rng(number).random((40, 30), dtype=np.float32))
    settings = dataclasses.replace(SETTINGS, n_updates=3)
    datasets = [MicrographDataset(tmp_path, crop_size=16, cache_bytes=n_bytes) for n_bytes in (10**9, 5000, 0)]
    whole, *others = (train_generator(MicrographCrops(data, 16), GEOMETRY, settings) for data in datasets)
    for other in others:
        assert _equal(_weights(whole.network), _weights(other.network))
    for data, n_bytes in zip(datasets[1:], (5000, 0), strict=True):
        assert data._cache.n_used <= n_bytes
    assert datasets[0]._cache.n_used == 6 * 40 * 30 * 4


def test_one_process_alone_caps_as_without_others() -> None:
    losses = torch.tensor([0.1, 5.0, 40.0])
    capped, state = capped_together(losses, AlrcState())
    expected, after = alrc(losses, AlrcState())
    assert torch.equal(capped, expected)
    assert state == after


def test_supervised_trainer_refuses_what_it_cannot_do(crops: ArrayCrops) -> None:
    with pytest.raises(ValueError, match=r"adversarial_share: got 0\.5; expected 0 for supervised training"):
        _trainer(crops, dataclasses.replace(SETTINGS, adversarial_share=0.5))
    with pytest.raises(ValueError, match="batch_size: got 6; expected a multiple of the 4 processes"):
        GeneratorTrainer(UNetGenerator(n_levels=2), crops, GEOMETRY, SETTINGS, processes=Processes(1, 4))
