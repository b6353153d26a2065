"""Adversarial training of generators: supervised first, then in a game against discriminators; exactly resumable."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_scan.acquisition import Acquisition, Instrument
from adaptive_scan.generators.adversarial import (
    Example,
    ExperienceReplay,
    adversarial_losses,
    discriminator_losses,
    replace_known,
)
from adaptive_scan.generators.adversarial_settings import AdversarialSettings
from adaptive_scan.generators.discriminators import Discriminators, Places
from adaptive_scan.generators.distributed import ALONE, Processes
from adaptive_scan.generators.families import PathMaker
from adaptive_scan.generators.loss_settings import LOSS_SCALE, AlrcState
from adaptive_scan.generators.losses import blur_targets, completion_loss
from adaptive_scan.generators.noise_levels import NoiseLevelPredictors
from adaptive_scan.generators.normalisation import freeze_normalisation, initialise_from_data
from adaptive_scan.generators.partial_stem import AuxiliaryTrainer, TwoStageGenerator, half_size
from adaptive_scan.generators.training import (
    GeneratorTrainer,
    TrainingBatch,
    capped_together,
    check_losses,
    make_optimiser,
)
from adaptive_scan.generators.training_settings import GeneratorTraining
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import ScanGeometry

_PAPER_LOSS_SCALE = 50.0  # the papers' 200 MSE in [0, 1], as a factor on the MSE in [-1, 1]


class AdversarialTrainer(GeneratorTrainer):
    """Trains a generator by supervision first and then also against discriminators, as in partial STEM.

    The supervised updates are those of ``GeneratorTrainer``. From ``settings.n_supervised`` on, normalisations are
    frozen and the generator follows

        L_G = ALRC(lambda MSE(G, target)) + lambda_adv L_adv + lambda_aux ALRC(lambda MSE(T, half-size target)),

    while discriminators learn to tell its completions from the crops, which are not blurred for them (Ede and Beanland
    2020, doi:10.1038/s41598-020-65261-0, eqs. 2 to 6). Generator, auxiliary trainer T and discriminators each make one
    step per update, all from the networks as they were before it. Both kinds of picture are cropped at the same places
    and scored in one pass of the discriminators, hence one power iteration of their spectral norms in each update; they
    compute in float32 whatever the precision. Only a ``TwoStageGenerator`` has an auxiliary trainer; it is not saved
    with the generator.

    Several processes draw replayed examples and places of crops for the whole batch from the same seed, all keep the
    same replay, of examples of the whole batch, and average the gradients of every network; they make the updates that
    one would make, up to rounding, and a state may be resumed with another number of processes.

    Args:
        network: Generator to train; moved to ``device`` and put in training mode.
        crops: Where crops come from, of side ``geometry.image_size``.
        geometry: Dose and field of the scans, and the segments of those that have them.
        settings: Those of all training.
        device: Where the networks learn.
        acquisition: The instrument that measures the scans, or a preset's name; None is the ideal one.
        paths: What makes the scans of adaptive families, by name.
        processes: Those that share each batch, this one among them.
        adversarial: Further settings; None for the defaults.

    Attributes:
        discriminators: They, or None where no update is adversarial.
        auxiliary: The auxiliary trainer, or None.
        predictors: The predictors of noise levels, or None.
        replay: The kept examples.
        report: Means over the whole batch of the terms of the last update, without weights: "auxiliary", "details",
            "adversarial", "discriminator", "score_of_micrographs", "score_of_completions", "replayed" (a share),
            those that it had.

    Raises:
        ValueError: If the crops and the geometry disagree on the side, or the side does not suit the network.

    Example:
        >>> from adaptive_scan.generators.training import make_generator
        >>> from adaptive_scan.micrographs import ArrayCrops
        >>> settings = GeneratorTraining(n_updates=2, batch_size=4, adversarial_share=0.5)
        >>> crops = ArrayCrops(np.random.default_rng(0).uniform(-1, 1, (5, 16, 16)).astype(np.float32))
        >>> network = make_generator("unet", seed=settings.seed, n_channels=4, n_levels=2)
        >>> small = AdversarialSettings(discriminator_width=0.02)
        >>> trainer = AdversarialTrainer(network, crops, ScanGeometry(16, 4, 4), settings, adversarial=small)
        >>> for _ in range(2):
        ...     losses = trainer.update()
        >>> losses.shape, "adversarial" in trainer.report
        (torch.Size([4]), True)
    """

    def __init__(
        self,
        network: nn.Module,
        crops: CropSource,
        geometry: ScanGeometry,
        settings: GeneratorTraining,
        *,
        device: torch.device | str = "cpu",
        acquisition: Instrument | Acquisition | str | None = None,
        paths: Mapping[str, PathMaker] | None = None,
        processes: Processes = ALONE,
        adversarial: AdversarialSettings | None = None,
    ) -> None:
        super().__init__(
            network,
            crops,
            geometry,
            settings,
            device=device,
            acquisition=acquisition,
            paths=paths,
            processes=processes,
        )
        self.adversarial = AdversarialSettings() if adversarial is None else adversarial
        self.replay = ExperienceReplay(
            self.adversarial.replay_size,
            top_share=self.adversarial.replay_top_share,
            chance=self.adversarial.replay_chance,
        )
        self.report: dict[str, float] = {}
        self._terms: dict[str, Tensor] = {}
        # another stream than that of the symmetries, which the seed itself begins
        (own_seed,) = np.random.SeedSequence([settings.seed, 1]).generate_state(1)
        self._adversarial_generator = torch.Generator().manual_seed(int(own_seed))
        with torch.random.fork_rng(devices=[]):  # initialisers of torch.nn draw from the global state only
            torch.manual_seed(int(own_seed))
            self.auxiliary = self._make_auxiliary()
            self.discriminators = self._make_discriminators()
        for other in (self.auxiliary, self.discriminators):
            if other is not None:
                processes.copy_from_first(other)
        self.predictors = (
            NoiseLevelPredictors(seed=int(own_seed), device=self.device) if self.adversarial.noise_levels else None
        )

    def _make_auxiliary(self) -> AuxiliaryTrainer | None:
        if not isinstance(self.network, TwoStageGenerator) or not self.adversarial.auxiliary_weight:
            return None
        network = AuxiliaryTrainer(width=self.network.config["width"]).to(self.device).train()
        self._auxiliary_optimiser = make_optimiser(network, self.settings)
        self._auxiliary_alrc = AlrcState(self.settings.alrc_mu1, self.settings.alrc_mu2)
        self._half_completions: Tensor | None = None
        complete: Callable[[Tensor], tuple[Tensor, Tensor]] = self.network.complete_with_features
        self._complete_with_features = torch.compile(complete) if self.settings.compile else complete
        return network

    def _make_discriminators(self) -> Discriminators | None:
        if self.settings.n_supervised == self.settings.n_updates:
            return None
        network = Discriminators(width=self.adversarial.discriminator_width).to(self.device).train()
        self._discriminator_optimiser = torch.optim.Adam(network.parameters())
        return network

    def initialise(self) -> None:
        """As in ``GeneratorTrainer``, and the auxiliary trainer by the features of the same first batch."""
        super().initialise()
        self.initialise_auxiliary()

    def initialise_auxiliary(self) -> None:
        """Initialise the auxiliary trainer alone, where there is one, for a generator whose weights are not new."""
        if self.auxiliary is None:
            return
        assert isinstance(self.network, TwoStageGenerator)
        rng, generator = self._rng.bit_generator.state, self._generator.get_state()
        batch = self.draw_batch()
        self._rng.bit_generator.state = rng
        self._generator.set_state(generator)
        self.network.eval()
        with torch.no_grad():
            _, features = self.network.complete_with_features(batch.partial_scans)
        self.network.train()
        initialise_from_data(self.auxiliary, features)

    @property
    def is_adversarial(self) -> bool:
        """Whether the next update is an adversarial one."""
        return self.discriminators is not None and self.step >= self.settings.n_supervised

    def update(self) -> Tensor:
        """Make one update of all networks that learn at this step.

        Returns:
            Completion losses of the whole batch before the update, shape (batch_size,), on the trainer's device.

        Raises:
            FloatingPointError: If a completion loss or an adversarial loss is not finite; all weights are left as they
                were.
        """
        self._terms = {}
        reported = self._adversarial_update() if self.is_adversarial else super().update()
        self.report = self._means_of_terms()
        return reported

    def _adversarial_update(self) -> Tensor:
        for network in (self.network, self.auxiliary):
            if network is not None:
                freeze_normalisation(network)
        self.set_rates()
        n_scans = self.settings.batch_size
        replayed = self.replay.draw(n_scans, self._adversarial_generator)
        batch = self._with_replayed(self.draw_batch(), replayed[self.processes.share])
        completions = self.complete(batch)
        losses = self.losses_of(completions, batch)
        reported = self.processes.gather(losses.detach())
        check_losses(reported)
        places = self._draw_crops()
        adversarial = self._adversarial_losses(completions, batch, places)
        check_losses(self.processes.gather(adversarial.detach()))
        if self.adversarial.blur_completions:
            losses = self.losses_of(blur_targets(completions, size=3, sigma=1.5), batch)
        weight = self.adversarial.adversarial_weight * self.settings.loss_scale / _PAPER_LOSS_SCALE
        self.descend(self.objective(completions, losses, batch) + weight * adversarial.mean())
        self._step_discriminators(completions.detach(), batch, places)
        self._keep_examples(batch, reported, replayed)
        self.finish_update()
        return reported

    def complete(self, batch: TrainingBatch) -> Tensor:
        """Completions (n_scans, 1, S, S) of a batch, float32; the auxiliary trainer's half-size ones are set aside."""
        if self.auxiliary is None:
            return super().complete(batch)
        with self.autocast():
            completions, features = self._complete_with_features(batch.partial_scans)
            self._half_completions = self.auxiliary(features).float()
        return completions.float()

    def objective(self, completions: Tensor, losses: Tensor, batch: TrainingBatch) -> Tensor:
        """What the generator follows but for the adversarial loss: followed, detail and auxiliary losses, a number."""
        # both before `followed` moves the running means of the coverages
        auxiliary = self._auxiliary_losses(batch)
        weights = self._noise_weights(losses, batch)
        if self.adversarial.details.active:
            details = self.adversarial.details(completions, batch.targets)
            self._record(details=details)
            losses = losses + LOSS_SCALE * details
        if weights is not None:
            losses = losses * weights
        objective = self.followed(losses, batch).mean()
        return objective if auxiliary is None else objective + self.adversarial.auxiliary_weight * auxiliary.mean()

    def _auxiliary_losses(self, batch: TrainingBatch) -> Tensor | None:
        """Losses of the auxiliary trainer, scaled, divided by p(c) and capped as others are, by moments of its own."""
        if self.auxiliary is None:
            return None
        assert self._half_completions is not None
        losses = completion_loss(self._half_completions, half_size(batch.targets))
        self._half_completions = None
        self._record(auxiliary=losses)
        losses = losses * (self.settings.loss_scale / LOSS_SCALE) / self._priorities_of(batch)
        if self.settings.alrc:
            losses, self._auxiliary_alrc = capped_together(losses, self._auxiliary_alrc, self.processes)
        return losses

    def _priorities_of(self, batch: TrainingBatch) -> Tensor:
        """What the losses of each scan are divided by for its coverage, shape (n_scans,)."""
        if self.settings.prioritisation == "none":
            return torch.ones(len(batch), device=self.device)
        priorities = torch.from_numpy(self.priorities()).float()
        return priorities[batch.coverage_indices].to(self.device)

    def _noise_weights(self, losses: Tensor, batch: TrainingBatch) -> Tensor | None:
        """Weights of the losses by the noise of the targets; the predictors learn while training is supervised."""
        if self.predictors is None:
            return None
        n_scans, size = self.settings.batch_size, self.geometry.image_size
        places = self.predictors.draw_places(n_scans, size, self._adversarial_generator)
        crops = self.predictors.cut(batch.targets, places[self.processes.share])
        weights = self.predictors.weights(crops)
        if not self.is_adversarial:
            known = losses.detach() / self._priorities_of(batch)
            self.predictors.update(self.processes.gather(crops), self.processes.gather(known))
        return weights

    def _draw_crops(self) -> Places:
        """Draw places of the discriminators' crops for the whole batch and keep this process's share."""
        assert self.discriminators is not None
        places = self.discriminators.draw_places(
            self.settings.batch_size, self.geometry.image_size, self._adversarial_generator
        )
        return tuple(corners[self.processes.share] for corners in places)

    def _shown(self, completions: Tensor, batch: TrainingBatch) -> Tensor:
        """Completions as the discriminators see them."""
        if self.adversarial.discriminators_see == "completed":
            return completions
        return replace_known(completions, batch.crops, batch.partial_scans)

    def _adversarial_losses(self, completions: Tensor, batch: TrainingBatch, places: Places) -> Tensor:
        """Adversarial loss of each scan, whose gradient reaches the generator and leaves the discriminators alone."""
        assert self.discriminators is not None
        with _held(self.discriminators):
            scores = self.discriminators(self._shown(completions, batch), places=places)
        losses = adversarial_losses(scores)
        self._record(adversarial=losses)
        return losses

    def _step_discriminators(self, completions: Tensor, batch: TrainingBatch, places: Places) -> None:
        """Let the discriminators learn to tell completions, without gradients, from crops."""
        assert self.discriminators is not None
        pictures = torch.cat((batch.crops, self._shown(completions, batch)))
        scores = self.discriminators(pictures, places=tuple(torch.cat((corners, corners)) for corners in places))
        of_micrographs, of_completions = zip(*(each.chunk(2) for each in scores), strict=True)
        losses = discriminator_losses(of_micrographs, of_completions)
        self._record(
            discriminator=losses,
            score_of_micrographs=torch.stack(of_micrographs).mean(dim=0),
            score_of_completions=torch.stack(of_completions).mean(dim=0),
        )
        self.descend(losses.mean(), self._discriminator_optimiser)

    def _with_replayed(self, batch: TrainingBatch, places: Tensor) -> TrainingBatch:
        """The batch with kept examples at the scans whose place is not -1."""
        self._record(replayed=(places >= 0).to(self.device))
        if not (places >= 0).any():
            return batch
        scans, targets, crops, codes = self.replay.replace(self._example(batch), places)
        indices, families = codes.cpu().unbind(dim=1)
        return dataclasses.replace(
            batch,
            partial_scans=scans,
            targets=targets,
            upright_crops=crops,
            symmetries=None,
            families=tuple(self.settings.scans[index] for index in families.tolist()),
            coverage_indices=indices,
            coverages=torch.tensor(self.coverages, dtype=torch.float32)[indices],
        )

    def _example(self, batch: TrainingBatch) -> Example:
        """A batch as tensors on the trainer's device: scans, targets, crops, and numbers of coverages and families."""
        families = torch.tensor([self.settings.scans.index(name) for name in batch.families])
        codes = torch.stack((batch.coverage_indices, families), dim=1).to(self.device)
        return batch.partial_scans, batch.targets, batch.crops, codes

    def _keep_examples(self, batch: TrainingBatch, losses: Tensor, replayed: Tensor) -> None:
        """Offer the new examples of the whole batch to the replay, with their losses (batch_size,)."""
        are_new = (replayed < 0).to(losses.device)
        parts = tuple(self.processes.gather(part)[are_new] for part in self._example(batch))
        self.replay.keep(parts, losses[are_new])

    def descend(self, objective: Tensor, *optimisers: torch.optim.Optimizer) -> None:
        """As in ``GeneratorTrainer``; without optimisers, the generator and its auxiliary trainer are stepped."""
        if not optimisers and self.auxiliary is not None:
            optimisers = (self.optimiser, self._auxiliary_optimiser)
        super().descend(objective, *optimisers)

    def set_rates(self) -> None:
        """Set the learning rates and beta1 of the next update; that of the discriminators stays constant."""
        super().set_rates()
        beta1 = self.settings.beta1_at(self.step)
        rates: list[tuple[torch.optim.Optimizer, float]] = []
        if self.auxiliary is not None:
            factor = self.adversarial.auxiliary_learning_rate_factor
            rates.append((self._auxiliary_optimiser, factor * self.learning_rate))
        if self.discriminators is not None:
            rate = self.adversarial.discriminator_learning_rate
            rates.append(
                (self._discriminator_optimiser, self.settings.adversarial_learning_rate if rate is None else rate)
            )
        for optimiser, rate in rates:
            for group in optimiser.param_groups:
                group["lr"] = rate
                group["betas"] = (beta1, group["betas"][1])

    def finish_update(self) -> None:
        """As in ``GeneratorTrainer``, and the auxiliary trainer's running means are averaged over the processes."""
        if self.auxiliary is not None:
            self.processes.average_buffers(self.auxiliary)
        super().finish_update()

    def _record(self, **terms: Tensor) -> None:
        """Remember terms of this process's scans, shape (n_scans,), for the report."""
        self._terms.update({name: term.detach().float() for name, term in terms.items()})

    def _means_of_terms(self) -> dict[str, float]:
        if not self._terms:
            return {}
        terms = self.processes.gather(torch.stack(tuple(self._terms.values()), dim=1))
        return dict(zip(self._terms, terms.mean(dim=0).tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides how training goes on; ``adaptive_scan.trees.write_tree`` writes it."""
        state = super().state_dict()
        state["adversarial_generator"] = self._adversarial_generator.get_state()
        if self.auxiliary is not None:
            state["auxiliary"] = self.auxiliary.state_dict()
            state["auxiliary_optimiser"] = self._auxiliary_optimiser.state_dict()
            state["auxiliary_alrc"] = [self._auxiliary_alrc.mu1, self._auxiliary_alrc.mu2]
        if self.discriminators is not None:
            state["discriminators"] = self.discriminators.state_dict()
            state["discriminator_optimiser"] = self._discriminator_optimiser.state_dict()
            state["replay"] = self.replay.state_dict()
        if self.predictors is not None:
            state["noise_levels"] = self.predictors.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of a trainer with the same network, crops, geometry and settings.

        The number of processes may be another.
        """
        super().load_state_dict(state)
        self._adversarial_generator.set_state(state["adversarial_generator"].cpu())
        if self.auxiliary is not None:
            self.auxiliary.load_state_dict(state["auxiliary"])
            self._auxiliary_optimiser.load_state_dict(state["auxiliary_optimiser"])
            self._auxiliary_alrc = AlrcState(*state["auxiliary_alrc"])
        if self.discriminators is not None:
            self.discriminators.load_state_dict(state["discriminators"])
            self._discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])
            self.replay.load_state_dict(state["replay"])
        if self.predictors is not None:
            self.predictors.load_state_dict(state["noise_levels"])


@contextlib.contextmanager
def _held(network: nn.Module) -> Iterator[None]:
    """Pass through a network without moving its spectral norms and without gradients for its weights."""
    network.eval().requires_grad_(False)
    try:
        yield
    finally:
        network.train().requires_grad_(True)
