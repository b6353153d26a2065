from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from adaptive_scan.generators import (
    GeneratorTrainer,
    GeneratorTraining,
    ResidualGenerator,
    blur_targets,
    completion_loss,
    make_generator,
)
from adaptive_scan.generators.adversarial_settings import AdversarialSettings
from adaptive_scan.generators.adversarial_training import AdversarialTrainer
from adaptive_scan.generators.detail_losses import sobel_loss
from adaptive_scan.generators.discriminators import Places
from adaptive_scan.generators.distributed import ALONE, Processes
from adaptive_scan.generators.loss_settings import AlrcState, DetailLosses
from adaptive_scan.generators.losses import alrc
from adaptive_scan.generators.normalisation import MeanOnlyBatchNorm2d
from adaptive_scan.generators.partial_stem import TwoStageGenerator, half_size
from adaptive_scan.micrographs import ArrayCrops
from adaptive_scan.scans import ScanGeometry
from adaptive_scan.trees import read_tree, write_tree

SETTINGS = GeneratorTraining(
    n_updates=6, batch_size=4, scans=("random", "random_headings"), adversarial_share=0.5, learning_rate=3e-3
)
SMALL = AdversarialSettings(discriminator_width=0.02)


def _crops(size: int) -> ArrayCrops:
    noise = np.random.default_rng(5).normal(size=(12, size, size))
    smooth = np.stack([gaussian_filter(picture, 1.5, mode="wrap") for picture in noise])
    return ArrayCrops((smooth / np.abs(smooth).max(axis=(1, 2), keepdims=True)).astype(np.float32))


def _trainer(settings: GeneratorTraining = SETTINGS, adversarial: AdversarialSettings = SMALL) -> AdversarialTrainer:
    network = make_generator("unet", seed=settings.seed, n_channels=4, n_levels=2)
    return AdversarialTrainer(network, _crops(16), ScanGeometry(16, 6, 4), settings, adversarial=adversarial)


def _two_stage_trainer(
    settings: GeneratorTraining = SETTINGS, adversarial: AdversarialSettings = SMALL
) -> AdversarialTrainer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = TwoStageGenerator(width=1 / 32)
    trainer = AdversarialTrainer(network, _crops(32), ScanGeometry(32, 6, 4), settings, adversarial=adversarial)
    trainer.initialise()
    return trainer


def _update(trainer: GeneratorTrainer, n_updates: int) -> None:
    for _ in range(n_updates):
        trainer.update()


def _leaves(node: Any, path: str = "") -> dict[str, Any]:
    """Everything in a state by its path."""
    if isinstance(node, Mapping):
        return {key: leaf for name, child in node.items() for key, leaf in _leaves(child, f"{path}/{name}").items()}
    if isinstance(node, list | tuple):
        return {key: leaf for i, child in enumerate(node) for key, leaf in _leaves(child, f"{path}/{i}").items()}
    return {path: node.clone() if isinstance(node, Tensor) else node}


def _assert_equal_states(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    ours, others = _leaves(first), _leaves(second)
    assert ours.keys() == others.keys()
    for path, leaf in ours.items():
        same = torch.equal(leaf, others[path]) if isinstance(leaf, Tensor) else leaf == others[path]
        assert same, path


def _weights(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def _are_equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class _Brightness(nn.Module):
    """Discriminators whose scores are weight times the mean of the whole picture; remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.seen: list[Tensor] = []
        self.places: list[Places] = []

    def draw_places(self, n_pictures: int, image_size: int, generator: torch.Generator) -> Places:
        return tuple(torch.randint(image_size, (n_pictures, 2), generator=generator) for _ in range(3))

    def forward(self, pictures: Tensor, *, places: Places) -> tuple[Tensor, ...]:
        self.seen.append(pictures.detach().clone())
        self.places.append(places)
        return tuple(weight * pictures.mean(dim=(1, 2, 3)) for weight in self.weights)


def _with_brightness(trainer: AdversarialTrainer) -> _Brightness:
    judge = _Brightness()
    trainer.discriminators = judge  # type: ignore[assignment]
    trainer._discriminator_optimiser = torch.optim.Adam(judge.parameters())
    return judge


def test_supervised_part_is_the_plain_trainers_to_the_last_bit() -> None:
    trainer = _trainer()
    _update(trainer, 3)
    assert not trainer.report
    network = make_generator("unet", seed=SETTINGS.seed, n_channels=4, n_levels=2)
    settings = dataclasses.replace(SETTINGS, n_updates=3, adversarial_share=0.0)
    plain = GeneratorTrainer(network, _crops(16), ScanGeometry(16, 6, 4), settings)
    _update(plain, 3)
    assert _are_equal(_weights(trainer.network), _weights(plain.network))
    assert trainer.is_adversarial
    before = _weights(trainer.discriminators)
    trainer.update()
    assert not _are_equal(before, _weights(trainer.discriminators))


@pytest.mark.parametrize("n_before", [2, 3, 5])
def test_resumed_training_ends_the_same_to_the_last_bit(n_before: int, tmp_path: Path) -> None:
    """Across the switch after update 3, on it, and after it, with all there is to remember."""
    settings = dataclasses.replace(SETTINGS, alrc=True, ema_decay=0.9, blur=False, prioritisation="tracked")
    adversarial = dataclasses.replace(
        SMALL, noise_levels=True, replay_chance=0.5, replay_top_share=0.5, details=DetailLosses(sobel=0.1)
    )
    whole, stopped, resumed = (_trainer(settings, adversarial) for _ in range(3))
    _update(whole, 6)
    _update(stopped, n_before)
    write_tree(tmp_path / "state.safetensors", stopped.state_dict())
    resumed.load_state_dict(read_tree(tmp_path / "state.safetensors"))
    _update(resumed, 6 - n_before)
    _assert_equal_states(whole.state_dict(), resumed.state_dict())
    assert whole.report == resumed.report
    assert len(whole.replay) > 0


def test_two_stage_training_resumes_across_the_switch_to_the_last_bit(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, n_updates=4, alrc=True)
    whole, stopped, resumed = (_two_stage_trainer(settings) for _ in range(3))
    _update(whole, 4)
    _update(stopped, 3)
    write_tree(tmp_path / "state.safetensors", stopped.state_dict())
    resumed.load_state_dict(read_tree(tmp_path / "state.safetensors"))
    _update(resumed, 1)
    _assert_equal_states(whole.state_dict(), resumed.state_dict())


def test_equal_seeds_give_equal_bits_and_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = (_trainer(dataclasses.replace(SETTINGS, seed=seed)) for seed in (1, 1, 2))
    for trainer in (first, second, other):
        _update(trainer, 5)
    assert torch.equal(torch.get_rng_state(), before)
    _assert_equal_states(first.state_dict(), second.state_dict())
    assert not _are_equal(_weights(first.discriminators), _weights(other.discriminators))


def test_each_step_touches_its_own_networks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator's gradient passes through the discriminators and leaves none there; theirs stops at completions."""
    trainer = _trainer(dataclasses.replace(SETTINGS, n_updates=2))
    _update(trainer, 1)
    assert trainer.discriminators is not None
    descend = AdversarialTrainer.descend
    calls = []

    def watched(self: AdversarialTrainer, objective: Tensor, *optimisers: torch.optim.Optimizer) -> None:
        networks = {"generator": self.network, "discriminators": self.discriminators}
        before = {name: _weights(network) for name, network in networks.items()}
        buffers = _leaves(self.discriminators.state_dict())
        for network in networks.values():
            network.zero_grad(set_to_none=True)
        descend(self, objective, *optimisers)
        moved = {name for name, network in networks.items() if not _are_equal(before[name], _weights(network))}
        given = {
            name
            for name, network in networks.items()
            if any(parameter.grad is not None for parameter in network.parameters())
        }
        calls.append((moved, given))
        if not optimisers:
            after = _leaves(self.discriminators.state_dict())
            assert all(torch.equal(leaf, after[path]) for path, leaf in buffers.items())

    monkeypatch.setattr(AdversarialTrainer, "descend", watched)
    trainer.update()
    assert calls == [({"generator"}, {"generator"}), ({"discriminators"}, {"discriminators"})]
    assert all(parameter.requires_grad for parameter in trainer.discriminators.parameters())
    assert trainer.discriminators.training


def test_gradients_of_the_game_by_hand() -> None:
    """With weight 5 beside 200 MSE in [0, 1], that is 50 MSE in [-1, 1], it is 1 beside 10 MSE."""
    trainer = _trainer(dataclasses.replace(SETTINGS, n_updates=2, weight_decay=0.0))
    _update(trainer, 1)
    judge = _with_brightness(trainer)
    twin = _trainer(dataclasses.replace(SETTINGS, n_updates=2, weight_decay=0.0))
    _update(twin, 1)
    batch = twin.draw_batch()
    completions = twin.network(batch.partial_scans)
    mse = completion_loss(completions, batch.targets)
    scores = torch.tensor([1.0, 2.0, 3.0])[:, None] * completions.mean(dim=(1, 2, 3))
    adversarial = (scores - 1).square().mean(dim=0)
    twin.network.zero_grad()
    (mse.mean() + 5 * 10 / 50 * adversarial.mean()).backward()
    losses = trainer.update()
    torch.testing.assert_close(losses, mse.detach())
    assert trainer.report["adversarial"] == pytest.approx(adversarial.mean().item(), rel=1e-5)
    for own, other in zip(trainer.network.parameters(), twin.network.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-6)

    weights = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    real = weights[:, None] * batch.crops.mean(dim=(1, 2, 3))
    completed = weights[:, None] * completions.detach().mean(dim=(1, 2, 3))
    expected = (completed.square() + (real - 1).square()).mean()
    expected.backward()
    torch.testing.assert_close(judge.weights.grad, weights.grad)
    assert trainer.report["discriminator"] == pytest.approx(expected.item(), rel=1e-5)
    assert trainer.report["score_of_micrographs"] == pytest.approx(real.mean().item(), abs=1e-6)
    assert trainer.report["score_of_completions"] == pytest.approx(scores.mean().item(), abs=1e-6)
    assert torch.equal(judge.seen[1][:4], batch.crops)
    assert not torch.equal(batch.crops, batch.targets)
    torch.testing.assert_close(judge.seen[1][4:], completions.detach())
    torch.testing.assert_close(judge.seen[0], completions.detach())


def test_micrographs_and_completions_are_cropped_at_the_same_places() -> None:
    trainer = _trainer(dataclasses.replace(SETTINGS, n_updates=2))
    _update(trainer, 1)
    judge = _with_brightness(trainer)
    trainer.update()
    for_generator, for_discriminators = judge.places
    for own, both in zip(for_generator, for_discriminators, strict=True):
        assert own.shape == (4, 2)
        assert torch.equal(torch.cat((own, own)), both)


def test_measured_pixels_can_be_kept_from_the_discriminators() -> None:
    trainer = _trainer(
        dataclasses.replace(SETTINGS, n_updates=2), dataclasses.replace(SMALL, discriminators_see="measured")
    )
    _update(trainer, 1)
    judge = _with_brightness(trainer)
    batches = []
    draw = trainer.draw_batch
    trainer.draw_batch = lambda: batches.append(draw()) or batches[-1]  # type: ignore[func-returns-value,method-assign]
    trainer.update()
    known = batches[0].partial_scans[:, 1:] > 0
    for shown in (judge.seen[0], judge.seen[1][4:]):
        assert torch.equal(shown[known], batches[0].crops[known])
        assert not torch.isclose(shown[~known], batches[0].crops[~known]).all()


def test_completions_are_blurred_for_the_squared_error_of_the_game_alone() -> None:
    settings = dataclasses.replace(SETTINGS, n_updates=2)
    weights = dataclasses.replace(SMALL, adversarial_weight=0.0, blur_completions=True)
    trainer, twin = _trainer(settings, weights), _trainer(settings, weights)
    for each in (trainer, twin):
        _update(each, 1)
    batch = twin.draw_batch()
    completions = twin.network(batch.partial_scans)
    losses = trainer.update()
    torch.testing.assert_close(losses, completion_loss(completions, batch.targets).detach())
    twin.network.zero_grad()
    completion_loss(blur_targets(completions, size=3, sigma=1.5), batch.targets).mean().backward()
    for own, other in zip(trainer.network.parameters(), twin.network.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_detail_losses_are_added_to_the_mean_squared_error() -> None:
    settings = dataclasses.replace(SETTINGS, n_updates=1, adversarial_share=0.0, loss_scale=50.0)
    trainer = _trainer(settings, dataclasses.replace(SMALL, details=DetailLosses(sobel=0.5)))
    assert trainer.discriminators is None
    batch = trainer.draw_batch()
    completions = trainer.complete(batch)
    losses = trainer.losses_of(completions, batch)
    expected = 50 * (losses / 10 + 0.5 * sobel_loss(completions, batch.targets)).mean()
    assert trainer.objective(completions, losses, batch).item() == pytest.approx(expected.item(), rel=1e-5)
    trainer.update()
    assert list(trainer.report) == ["details"]


def test_auxiliary_trainer_learns_half_size_targets_beside_the_generator() -> None:
    settings = dataclasses.replace(SETTINGS, alrc=True, alrc_mu1=0.01, alrc_mu2=0.0002)
    trainer = _two_stage_trainer(settings, dataclasses.replace(SMALL, auxiliary_weight=2.0))
    assert trainer.auxiliary is not None
    network = trainer.network
    assert isinstance(network, TwoStageGenerator)
    batch = trainer.draw_batch()
    completions = trainer.complete(batch)
    losses = trainer.losses_of(completions, batch)
    _, features = network.complete_with_features(batch.partial_scans)
    half = completion_loss(trainer.auxiliary(features), half_size(batch.targets))
    own, other = AlrcState(0.02, 0.0005), AlrcState(0.01, 0.0002)
    trainer._auxiliary_alrc = own
    assert (half > 0.1).all()
    expected = alrc(losses, other)[0].mean() + 2 * alrc(half, own)[0].mean()
    objective = trainer.objective(completions, losses, batch)
    assert objective.item() == pytest.approx(expected.item(), rel=1e-5)
    assert trainer._auxiliary_alrc == alrc(half.detach(), own)[1]
    assert trainer._alrc_state == alrc(losses.detach(), other)[1]
    before = _weights(trainer.auxiliary)
    trainer.update()
    assert not _are_equal(before, _weights(trainer.auxiliary))
    assert list(trainer.report) == ["auxiliary"]


def test_auxiliary_trainer_can_be_left_out_and_needs_a_two_stage_generator() -> None:
    assert _two_stage_trainer(adversarial=dataclasses.replace(SMALL, auxiliary_weight=0.0)).auxiliary is None
    assert _trainer().auxiliary is None


def test_auxiliary_trainer_is_initialised_from_data_and_the_draws_stay() -> None:
    trainer = _two_stage_trainer()
    network = trainer.network
    assert isinstance(network, TwoStageGenerator)
    batch = trainer.draw_batch()
    with torch.no_grad():
        _, features = network.eval().complete_with_features(batch.partial_scans)
        activations = trainer.auxiliary.eval().layers[0][0](features)  # type: ignore[union-attr,index]
    torch.testing.assert_close(activations.mean(dim=(0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-4)
    torch.testing.assert_close(activations.std(dim=(0, 2, 3), correction=0), torch.ones(2), rtol=0, atol=1e-3)


def test_compiled_two_stage_passes_are_those_that_give_features_too(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    trainer = _two_stage_trainer(dataclasses.replace(SETTINGS, compile=True))
    assert isinstance(trainer.network, TwoStageGenerator)
    assert trainer.network.complete_with_features in compiled
    trainer.update()
    assert "auxiliary" in trainer.report


def test_normalisation_learns_in_the_supervised_part_and_is_frozen_in_the_game() -> None:
    trainer = _two_stage_trainer(dataclasses.replace(SETTINGS, n_updates=2))
    networks = (trainer.network, trainer.auxiliary)
    layers = [layer for each in networks for layer in each.modules() if isinstance(layer, MeanOnlyBatchNorm2d)]
    assert len(layers) > 10

    def means() -> list[Tensor]:
        return [layer.running_mean.clone() for layer in layers]

    start = means()
    trainer.update()
    middle = means()
    assert not _are_equal(start, middle)
    trainer.update()
    assert _are_equal(middle, means())
    assert {"auxiliary", "adversarial"} <= trainer.report.keys()


def test_plain_batch_normalisation_is_frozen_in_the_game_with_one_process_as_with_several() -> None:
    settings = dataclasses.replace(SETTINGS, n_updates=2)
    network = ResidualGenerator(width=1 / 8)
    names = network.state_dict().keys()
    trainer = AdversarialTrainer(network, _crops(16), ScanGeometry(16, 6, 4), settings, adversarial=SMALL)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(layers) > 10
    statistics: list[list[Tensor]] = []
    for _ in range(3):
        statistics.append([part.clone() for layer in layers for part in (layer.running_mean, layer.running_var)])
        if len(statistics) < 3:
            trainer.update()
    assert not _are_equal(statistics[0], statistics[1])
    assert _are_equal(statistics[1], statistics[2])
    assert network.state_dict().keys() == names


def test_rates_of_all_optimisers() -> None:
    settings = dataclasses.replace(
        SETTINGS, n_updates=32, schedule="steps", final_beta1=0.5, adversarial_learning_rate=2e-4
    )
    trainer = _two_stage_trainer(settings, dataclasses.replace(SMALL, auxiliary_learning_rate_factor=2.0))

    def rates(step: int) -> list[tuple[float, float]]:
        trainer.step = step
        trainer.set_rates()
        optimisers = (trainer.optimiser, trainer._auxiliary_optimiser, trainer._discriminator_optimiser)
        return [(each.param_groups[0]["lr"], each.param_groups[0]["betas"][0]) for each in optimisers]

    assert rates(0) == [(3e-3, 0.9), (6e-3, 0.9), (2e-4, 0.9)]
    assert rates(16) == [(2e-4, 0.9), (4e-4, 0.9), (2e-4, 0.9)]
    last = rates(28)  # half way down: 16 of 32 updates, the latter 8 of them in eight steps
    assert [rate for rate, _ in last] == pytest.approx([1e-4, 2e-4, 2e-4])
    assert [beta1 for _, beta1 in last] == pytest.approx([0.7] * 3)
    own = _trainer(settings, dataclasses.replace(SMALL, discriminator_learning_rate=5e-4))
    own.set_rates()
    assert own._discriminator_optimiser.param_groups[0]["lr"] == 5e-4


def test_replayed_scans_are_kept_ones_and_new_ones_alone_are_kept() -> None:
    settings = dataclasses.replace(
        SETTINGS, n_updates=12, adversarial_share=0.9, coverages=(0.1, 0.3), scans=("random",)
    )
    adversarial = dataclasses.replace(SMALL, replay_size=1000, replay_top_share=1.0, replay_chance=0.5)
    trainer = _trainer(settings, adversarial)
    drawn, used = [], []
    draw, complete = trainer.draw_batch, trainer.complete
    trainer.draw_batch = lambda: drawn.append(draw()) or drawn[-1]  # type: ignore[func-returns-value,method-assign]
    trainer.complete = lambda batch: used.append(batch) or complete(batch)  # type: ignore[func-returns-value,method-assign]
    _update(trainer, 12)
    known: list[tuple[Tensor, Tensor, Tensor, float]] = []
    n_replayed = 0
    for number, (fresh, batch) in enumerate(zip(drawn, used, strict=True)):
        examples = [
            (batch.partial_scans[i], batch.targets[i], batch.crops[i], batch.coverages[i].item()) for i in range(4)
        ]
        is_new = [torch.equal(example[0], fresh.partial_scans[i]) for i, example in enumerate(examples)]
        for example, new in zip(examples, is_new, strict=True):
            twins = [other for other in known if torch.equal(other[0], example[0])]
            assert new or any(
                all(torch.equal(a, b) for a, b in zip(other[:3], example[:3], strict=True)) and other[3] == example[3]
                for other in twins
            )
        n_replayed += is_new.count(False)
        if number > 0:  # the first update is supervised
            known += [example for example, new in zip(examples, is_new, strict=True) if new]
    assert len(trainer.replay) == len(known) == 44 - n_replayed
    assert 8 < n_replayed < 34
    assert trainer.report["replayed"] * 4 == is_new.count(False)


def test_noise_levels_weigh_the_losses_and_learn_while_supervised() -> None:
    settings = dataclasses.replace(SETTINGS, n_updates=4, blur=False)
    trainer = _trainer(settings, dataclasses.replace(SMALL, noise_levels=True))
    assert trainer.predictors is not None
    _update(trainer, 2)
    learnt = _leaves(trainer.predictors.state_dict())
    assert trainer.predictors.mean != 1.0
    _update(trainer, 2)
    after = _leaves(trainer.predictors.state_dict())
    assert all(torch.equal(a, after[p]) if isinstance(a, Tensor) else a == after[p] for p, a in learnt.items())
    trainer.predictors.weights = lambda crops: torch.full((len(crops),), 3.0)  # type: ignore[method-assign]
    batch = trainer.draw_batch()
    completions = trainer.complete(batch)
    losses = trainer.losses_of(completions, batch)
    assert trainer.objective(completions, losses, batch).item() == pytest.approx(3 * losses.mean().item(), rel=1e-5)


def test_passes_in_bfloat16_are_near_those_in_float32() -> None:
    settings = dataclasses.replace(SETTINGS, n_updates=2)
    exact, half = (_trainer(dataclasses.replace(settings, precision=name)) for name in ("float32", "bfloat16"))
    for trainer in (exact, half):
        _update(trainer, 2)
    assert exact.report != half.report
    assert exact.report == pytest.approx(half.report, rel=0.05, abs=1e-3)
    assert {parameter.dtype for parameter in half.network.parameters()} == {torch.float32}


def test_an_adversarial_loss_that_is_not_finite_is_refused_before_anything_moves() -> None:
    trainer = _trainer(dataclasses.replace(SETTINGS, n_updates=2))
    _update(trainer, 1)
    judge = _with_brightness(trainer)
    judge.weights.data[1] = float("nan")
    before = _weights(trainer.network)
    with pytest.raises(FloatingPointError, match="4 of 4 losses are not finite"):
        trainer.update()
    assert _are_equal(before, _weights(trainer.network))
    assert trainer.step == 1


@dataclass(frozen=True)
class _Threads(Processes):
    """Processes played by threads, which hand over what they gather and average through a list."""

    barrier: Any = None
    handed: Any = None

    def _exchange(self, own: Any) -> list[Any]:
        self.handed[self.rank] = own
        self.barrier.wait()
        everything = list(self.handed)
        self.barrier.wait()
        return everything

    def gather(self, own: Tensor) -> Tensor:
        return torch.stack(self._exchange(own), dim=1).flatten(0, 1)

    def copy_from_first(self, network: nn.Module) -> None:
        """Threads are made one after the other and begin alike."""

    @torch.no_grad()
    def _average(self, tensors: list[Tensor]) -> None:
        copies = self._exchange([tensor.clone() for tensor in tensors])
        for tensor, *others in zip(tensors, *copies, strict=True):
            tensor.copy_(torch.stack(others).mean(dim=0))


def _update_together(make: Callable[[Processes], AdversarialTrainer], n_updates: int) -> list[AdversarialTrainer]:
    barrier, handed = threading.Barrier(2, timeout=60), [None, None]
    trainers = [make(_Threads(rank, 2, barrier=barrier, handed=handed)) for rank in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda trainer: _update(trainer, n_updates), trainers))
    return trainers


def test_two_processes_make_the_updates_of_one_and_can_take_them_over() -> None:
    settings = dataclasses.replace(SETTINGS, alrc=True, blur=False, prioritisation="tracked", learning_rate=1e-3)
    adversarial = dataclasses.replace(
        SMALL, noise_levels=True, replay_chance=0.5, replay_top_share=0.5, details=DetailLosses(fourier=0.1)
    )
    network = make_generator("unet", seed=0, n_channels=4, n_levels=2)

    def make(processes: Processes, state: Mapping[str, Any] | None = None) -> AdversarialTrainer:
        own, crops, geometry = copy.deepcopy(network), _crops(16), ScanGeometry(16, 6, 4)
        trainer = AdversarialTrainer(own, crops, geometry, settings, processes=processes, adversarial=adversarial)
        if state is not None:
            trainer.load_state_dict(copy.deepcopy(state))
        return trainer

    alone = make(ALONE)
    _update(alone, 4)
    state = copy.deepcopy(alone.state_dict())
    _update(alone, 2)
    for together in (_update_together(make, 6), _update_together(lambda processes: make(processes, state), 2)):
        for trainer in together:
            for name in ("network", "discriminators"):
                pairs = zip(_weights(getattr(alone, name)), _weights(getattr(trainer, name)), strict=True)
                for ours, other in pairs:
                    torch.testing.assert_close(ours, other, rtol=0, atol=2e-4)
            assert trainer.report == pytest.approx(alone.report, rel=1e-3, abs=1e-5)
            assert len(trainer.replay) == len(alone.replay) > 2
            for ours, other in zip(alone.replay.examples, trainer.replay.examples, strict=True):
                assert torch.equal(ours[0], other[0])
                assert torch.equal(ours[3], other[3])
            assert torch.equal(trainer._adversarial_generator.get_state(), alone._adversarial_generator.get_state())
        first, second = together
        assert _are_equal(_weights(first.network), _weights(second.network))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"adversarial_weight": -1.0}, "adversarial_weight: got -1.0; expected 0 or more"),
        ({"auxiliary_weight": float("nan")}, "auxiliary_weight: got nan; expected 0 or more"),
        ({"auxiliary_learning_rate_factor": 0.0}, "auxiliary_learning_rate_factor: got 0.0; expected more than 0"),
        ({"discriminator_width": 0.0}, "discriminator_width: got 0.0; expected more than 0"),
        ({"discriminator_learning_rate": 0.0}, "discriminator_learning_rate: got 0.0; expected more than 0, or None"),
        ({"discriminators_see": "all"}, "discriminators_see: got 'all'; expected 'completed' or 'measured'"),
        ({"replay_size": 0}, "size: got 0; expected at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdversarialSettings(**keywords)
