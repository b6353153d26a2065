"""Supervised training of completers on mixtures of scan families, exactly resumable."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_scan.acquisition import Acquisition, Instrument, as_instrument
from adaptive_scan.acquisition.instrument import Memoryless
from adaptive_scan.errors import SettingError
from adaptive_scan.generators.adversarial import replace_known
from adaptive_scan.generators.augment import N_SYMMETRIES, apply_symmetries
from adaptive_scan.generators.averaging import averaged_copy, move_average, warm_decay
from adaptive_scan.generators.coverage import TrackedPriorities, given_priorities
from adaptive_scan.generators.distributed import ALONE, Processes, share_batch_statistics
from adaptive_scan.generators.epochs import EpochOrder
from adaptive_scan.generators.families import DrawnScans, PathMaker, check_families, draw_scans
from adaptive_scan.generators.loss_settings import LOSS_SCALE, AlrcState
from adaptive_scan.generators.losses import alrc, blur_targets, completion_loss
from adaptive_scan.generators.networks import GENERATORS
from adaptive_scan.generators.normalisation import initialise_from_data
from adaptive_scan.generators.training_settings import GeneratorTraining
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import STATIC_SCANS, ScanGeometry, partial_scans, sample

Cap = Callable[[Tensor], Tensor]

_BETA2 = 0.999


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Scans of an update and what they should be completed to; unpacks to partial scans and targets.

    Among several processes it is the share of this one.

    Attributes:
        partial_scans: Measured values and masks, shape (n_scans, 2, S, S).
        targets: Pictures to learn, shape (n_scans, 1, S, S).
        families: Name of each scan's family.
        coverage_indices: Coverage of each scan, its place in the trainer's ``coverages``, int64, shape (n_scans,), on
            the CPU.
        coverages: Nominal coverage of each scan, float32, shape (n_scans,), on the CPU.
        upright_crops: The crops as they were before the symmetry, and before any blur, shape (n_scans, 1, S, S).
        symmetries: Symmetry of each scan, int64, shape (n_scans,), or None for the identity.
    """

    partial_scans: Tensor
    targets: Tensor
    families: tuple[str, ...]
    coverage_indices: Tensor
    coverages: Tensor
    upright_crops: Tensor
    symmetries: Tensor | None

    def __len__(self) -> int:
        return len(self.partial_scans)

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.partial_scans, self.targets))

    @cached_property
    def crops(self) -> Tensor:
        """The crops themselves, not blurred, under the same symmetries as scans and targets, shape (n, 1, S, S)."""
        if self.symmetries is None:
            return self.upright_crops
        return apply_symmetries(self.upright_crops, self.symmetries)


def make_generator(kind: str, *, seed: int, **config: Any) -> nn.Module:
    """A generator whose first weights come from a seed and leave the global random state as it was.

    Args:
        kind: A name of ``GENERATORS``.
        seed: Seed of the weights.
        config: Constructor keywords of the network.

    Returns:
        The network, on the CPU, in training mode.

    Raises:
        ValueError: If there is no generator of that kind.

    Example:
        >>> first, second = (make_generator("unet", seed=3, n_levels=1) for _ in range(2))
        >>> torch.equal(first.encoders[0].first.weight, second.encoders[0].first.weight)
        True
    """
    if kind not in GENERATORS:
        raise SettingError(f"generator: got {kind!r}; expected one of {', '.join(GENERATORS)}")
    with torch.random.fork_rng(devices=[]):  # initialisers of torch.nn draw from the global state only
        torch.manual_seed(seed)
        return GENERATORS[kind](**config)


def make_optimiser(network: nn.Module, settings: GeneratorTraining) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay for a generator."""
    betas = (settings.beta1, _BETA2)
    return torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, betas=betas, weight_decay=settings.weight_decay
    )


def generator_step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    partial_scans: Tensor,
    targets: Tensor,
    *,
    cap: Cap | None = None,
) -> tuple[Tensor, Tensor]:
    """One supervised update: complete, take each scan's loss, follow the gradient of their mean.

    Args:
        network: Generator in training mode.
        optimiser: Optimiser of its parameters.
        partial_scans: Measured values and masks, shape (n_scans, 2, S, S).
        targets: Pictures to learn, shape (n_scans, 1, S, S).
        cap: Function of the losses (n_scans,) whose mean is followed instead, such as an ALRC.

    Returns:
        The losses before the update and before any cap, shape (n_scans,), and the completions they
        belong to, shape (n_scans, 1, S, S); both detached.

    Raises:
        FloatingPointError: If a loss is not finite; the weights are left as they were.

    Example:
        >>> network = GENERATORS["unet"](n_channels=4, n_levels=1)
        >>> optimiser = torch.optim.Adam(network.parameters())
        >>> losses, completions = generator_step(network, optimiser, torch.ones(3, 2, 8, 8), torch.ones(3, 1, 8, 8))
        >>> losses.shape, completions.shape
        (torch.Size([3]), torch.Size([3, 1, 8, 8]))
    """
    optimiser.zero_grad(set_to_none=True)
    completions = network(partial_scans)
    losses = completion_loss(completions, targets)
    check_losses(losses)
    followed = losses if cap is None else cap(losses)
    followed.mean().backward()
    optimiser.step()
    return losses.detach(), completions.detach()


def check_losses(losses: Tensor) -> None:
    """Raise a FloatingPointError unless all losses (n_scans,) are finite.

    Example:
        >>> check_losses(torch.zeros(3))
    """
    if not torch.isfinite(losses).all():
        n_bad = int((~torch.isfinite(losses)).sum())
        raise FloatingPointError(f"{n_bad} of {len(losses)} losses are not finite; expected finite losses")


def capped_together(losses: Tensor, state: AlrcState, processes: Processes = ALONE) -> tuple[Tensor, AlrcState]:
    """Adaptive learning rate clipping whose moments are those of the whole batch of all processes.

    Args:
        losses: Losses of this process's scans, shape (n_scans,).
        state: Moments before this batch, the same in all processes.
        processes: Those that share the batch.

    Returns:
        The capped losses, shape (n_scans,), and the moments after this batch.

    Example:
        >>> capped_together(torch.tensor([2.0, 20.0]), AlrcState(1.0, 5.0))[0]
        tensor([2., 7.])
    """
    capped, moments = alrc(losses, state)
    if processes.n_processes > 1:
        _, moments = alrc(processes.gather(losses.detach()), state)
    return capped, moments


class GeneratorTrainer:
    """Trains a generator on random crops under a mixture of scan families.

    The same seed gives the same result to the last bit on the same machine with the same number of threads,
    also when training is interrupted and resumed from ``state_dict``. Several processes make the updates that one
    would make, up to rounding and to statistics that a network takes over its batch.

    An update is ``draw_batch``, ``complete``, ``losses_of`` and ``objective``, then ``descend`` along its gradient and
    ``finish_update``; each can be overridden, as other kinds of training do.

    Args:
        network: Generator to train; moved to ``device`` and put in training mode.
        crops: Where crops come from, of side ``geometry.image_size``.
        geometry: Dose and field of the scans, and the segments of those that have them.
        settings: Everything else.
        device: Where the network learns.
        acquisition: The instrument that measures the scans, or a preset's name; None is the ideal one.
        paths: What makes the scans of adaptive families, by name.
        processes: Those that share each batch, this one among them.

    Attributes:
        network: The generator.
        ema_network: The average of its weights, in evaluation mode, or None.
        optimiser: Its optimiser.
        coverages: Nominal coverages of the mixture; the last is the geometry's, where a family has that.
        step: Number of updates made.

    Raises:
        ValueError: If the crops and the geometry disagree on the side, the side does not suit the network, an adaptive
            family has no path, or the batch cannot be shared evenly.

    Example:
        >>> from adaptive_scan.micrographs import ArrayCrops
        >>> settings = GeneratorTraining(n_updates=2, batch_size=4)
        >>> crops = ArrayCrops(np.random.default_rng(0).uniform(-1, 1, (5, 16, 16)).astype(np.float32))
        >>> network = make_generator("unet", seed=settings.seed, n_channels=4, n_levels=2)
        >>> trainer = GeneratorTrainer(network, crops, ScanGeometry(16, 4, 4), settings)
        >>> trainer.update().shape, trainer.step
        (torch.Size([4]), 1)
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
    ) -> None:
        if crops.crop_size != geometry.image_size:
            raise SettingError(f"crops have side {crops.crop_size} px; expected the geometry's {geometry.image_size}")
        stride = getattr(network, "stride", 1)
        if geometry.image_size % stride:
            raise SettingError(f"image_size: got {geometry.image_size} px; expected a multiple of {stride}")
        self.paths = {name: make for name, make in (paths or {}).items() if name in settings.scans}
        check_families(settings.scans, self.paths)
        processes.check_batch_size(settings.batch_size)
        if settings.adversarial_share and type(self) is GeneratorTrainer:
            raise SettingError(
                f"adversarial_share: got {settings.adversarial_share}; expected 0 for supervised training"
            )
        self.device = torch.device(device)
        self.network = network.to(self.device).train()
        if processes.n_processes > 1 or settings.adversarial_share:
            # These can be frozen, as adversarial updates do, and are so whatever the number of processes.
            share_batch_statistics(self.network)
        self.crops = crops
        self.geometry = geometry
        self.settings = settings
        self.instrument = as_instrument(acquisition)
        self.processes = processes
        self.step = 0
        self.coverages = self._coverages_of_mixture()
        self.optimiser = make_optimiser(self.network, settings)
        self.ema_network = averaged_copy(self.network) if settings.ema_decay else None
        self._forward: Callable[[Tensor], Tensor] = torch.compile(self.network) if settings.compile else self.network
        self._order = EpochOrder(crops, settings.seed) if settings.sampling == "epochs" else None
        self._tracked = TrackedPriorities(len(self.coverages), settings.priority_decay)
        self._alrc_state = AlrcState(settings.alrc_mu1, settings.alrc_mu2)
        self._rng = np.random.default_rng(settings.seed)
        self._generator = torch.Generator().manual_seed(settings.seed)
        # What sees the batch as a whole must see all of it: policies, and instruments that draw for all scans at once.
        self._draws_whole = bool(self.paths) or isinstance(self.instrument, Memoryless)

    def _coverages_of_mixture(self) -> tuple[float, ...]:
        """Those of the settings, and the geometry's where a family keeps it."""
        named = self.settings.coverages
        are_all_static = all(name in STATIC_SCANS for name in self.settings.scans)
        return named if named and are_all_static else (*named, self.geometry.nominal_coverage)

    @property
    def saved_network(self) -> nn.Module:
        """What is saved and judged: the average of the weights where there is one, else the network itself."""
        return self.network if self.ema_network is None else self.ema_network

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next update."""
        return self.settings.learning_rate_at(self.step)

    def initialise(self) -> None:
        """Initialise a new network from data, where it has layers that ask for it; the random state stays as it was.

        Networks with normalised convolutions are scaled by a first batch, see
        `adaptive_scan.generators.normalisation.initialise_from_data`.
        """
        rng, generator = self._rng.bit_generator.state, self._generator.get_state()
        batch = self.draw_batch()
        self._rng.bit_generator.state = rng
        self._generator.set_state(generator)
        if initialise_from_data(self.network, batch.partial_scans) and self.ema_network is not None:
            self.ema_network.load_state_dict(self.network.state_dict())

    def draw_batch(self) -> TrainingBatch:
        """Draw crops and scans of them, all at random for the whole batch, and keep this process's share."""
        settings, processes = self.settings, self.processes
        n_scans = settings.batch_size
        early = slice(None) if self._draws_whole else processes.share
        late = processes.share if self._draws_whole else slice(None)
        crops = self.crops.take(self._draw_ids(n_scans)[early])
        drawn = draw_scans(
            settings.scans,
            self.geometry,
            n_scans,
            self._rng,
            coverages=settings.coverages,
            paths=self.paths,
            crops=crops if self.paths else None,
        )
        keys = self.instrument.begin(n_scans, self._rng).keys
        scans = self._measure(crops, drawn.shared(early), keys[early])
        symmetries = None
        if settings.augment:
            generator = self._generator
            symmetries = torch.randint(N_SYMMETRIES, (n_scans,), generator=generator, device=generator.device)
            symmetries = symmetries[processes.share]
        return self._batch(scans[late], crops[late], drawn.shared(processes.share), symmetries)

    def _draw_ids(self, n_crops: int) -> np.ndarray:
        if self._order is None:
            return self.crops.draw(n_crops, self._rng)
        return self._order.ids(self.step * n_crops, n_crops)

    def _measure(self, crops: np.ndarray, drawn: DrawnScans, keys: np.ndarray) -> np.ndarray:
        """Partial scans (n_scans, 2, S, S) of crops (n_scans, S, S); those of the same dose are measured together."""
        groups, values = drawn.groups, drawn.values
        if len(groups) == 1:
            # It is the whole batch, in its order.
            return self._measure_group(crops, groups[0][1], keys, values.get(groups[0][1].shape[1]))
        size = self.geometry.image_size
        scans = np.empty((len(crops), 2, size, size), dtype=np.float32)
        for members, positions in groups:
            measured = values.get(positions.shape[1])
            scans[members] = self._measure_group(crops[members], positions, keys[members], measured)
        return scans

    def _measure_group(
        self, crops: np.ndarray, positions: np.ndarray, keys: np.ndarray, measured: np.ndarray | None
    ) -> np.ndarray:
        begun = self.instrument.begin_with(keys)
        values = self.instrument.measure(positions, lambda displaced: sample(crops, displaced), begun).values
        if measured is not None:
            values = np.where(np.isnan(measured), values, measured)
        return partial_scans(values, positions, self.geometry.image_size)

    def _batch(
        self, scans: np.ndarray, crops: np.ndarray, drawn: DrawnScans, symmetries: Tensor | None
    ) -> TrainingBatch:
        inputs = torch.from_numpy(scans).to(self.device)
        upright = torch.from_numpy(crops)[:, None].to(self.device)
        targets = blur_targets(upright) if self.settings.blur else upright
        if symmetries is not None:
            inputs, targets = apply_symmetries(inputs, symmetries), apply_symmetries(targets, symmetries)
        indices = np.where(drawn.coverages < 0, len(self.coverages) - 1, drawn.coverages)
        return TrainingBatch(
            partial_scans=inputs,
            targets=targets,
            families=tuple(self.settings.scans[index] for index in drawn.families),
            coverage_indices=torch.from_numpy(indices),
            coverages=torch.tensor(self.coverages, dtype=torch.float32)[torch.from_numpy(indices)],
            upright_crops=upright,
            symmetries=symmetries,
        )

    def complete(self, batch: TrainingBatch) -> Tensor:
        """Completions (n_scans, 1, S, S) of a batch, float32 whatever the precision of the pass."""
        with self.autocast():
            completions = self._forward(batch.partial_scans)
        return completions.float()

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision of the settings, for passes through networks in the block."""
        if self.settings.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def losses_of(self, completions: Tensor, batch: TrainingBatch) -> Tensor:
        """Loss of each scan, 10 MSE, shape (n_scans,); measured pixels count as right where they are excluded."""
        if self.settings.known_pixels == "excluded":
            completions = replace_known(completions, batch.targets, batch.partial_scans)
        return completion_loss(completions, batch.targets)

    def followed(self, losses: Tensor, batch: TrainingBatch) -> Tensor:
        """The losses that are followed: scaled, divided by the priority of their coverage, and capped.

        Args:
            losses: From ``losses_of``, shape (n_scans,).
            batch: Whose scans they belong to.

        Returns:
            Losses, shape (n_scans,); moments and running means have moved on.
        """
        followed = losses
        if self.settings.loss_scale != LOSS_SCALE:
            followed = followed * (self.settings.loss_scale / LOSS_SCALE)
        if self.settings.prioritisation != "none":
            priorities = torch.from_numpy(self.priorities()).to(followed)
            followed = followed / priorities[batch.coverage_indices.to(followed.device)]
        if self.settings.prioritisation == "tracked":
            indices = self.processes.gather(batch.coverage_indices.to(losses.device)).cpu().numpy()
            self._tracked.update(self.processes.gather(losses.detach()).cpu().numpy(), indices)
        if self.settings.alrc:
            followed, self._alrc_state = capped_together(followed, self._alrc_state, self.processes)
        return followed

    def priorities(self) -> np.ndarray:
        """What losses are divided by now, one for each of ``coverages``, float64; ones without prioritisation."""
        if self.settings.prioritisation == "given":
            return given_priorities(self.coverages)
        return self._tracked.priorities()

    def objective(self, completions: Tensor, losses: Tensor, batch: TrainingBatch) -> Tensor:
        """What the gradient is taken of: the mean of the followed losses."""
        return self.followed(losses, batch).mean()

    def update(self) -> Tensor:
        """Make one update.

        Returns:
            Losses of the whole batch before the update, shape (batch_size,), on the trainer's device.

        Raises:
            FloatingPointError: If a loss is not finite; the weights are left as they were.
        """
        self.set_rates()
        batch = self.draw_batch()
        completions = self.complete(batch)
        losses = self.losses_of(completions, batch)
        # Checked together, so that all processes end together.
        reported = self.processes.gather(losses.detach())
        check_losses(reported)
        self.descend(self.objective(completions, losses, batch))
        self.finish_update()
        return reported

    def set_rates(self) -> None:
        """Set learning rate and beta1 of the next update."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate
            group["betas"] = (self.settings.beta1_at(self.step), _BETA2)

    def descend(self, objective: Tensor, *optimisers: torch.optim.Optimizer) -> None:
        """Follow the gradient of an objective, averaged over the processes and clipped.

        Args:
            objective: A number whose gradient is followed.
            optimisers: Those whose parameters are stepped; the generator's without any.
        """
        stepped = optimisers or (self.optimiser,)
        for optimiser in stepped:
            optimiser.zero_grad(set_to_none=True)
        objective.backward()
        for optimiser in stepped:
            parameters = [each for group in optimiser.param_groups for each in group["params"]]
            self.processes.average_gradients(parameters)
            if self.settings.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm)
            optimiser.step()

    def finish_update(self) -> None:
        """Move the average of the weights and count the update."""
        self.processes.average_buffers(self.network)
        if self.ema_network is not None:
            move_average(self.ema_network, self.network, warm_decay(self.settings.ema_decay, self.step))
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides how training goes on; ``adaptive_scan.trees.write_tree`` writes it."""
        state = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "alrc": [self._alrc_state.mu1, self._alrc_state.mu2],
            "rng": self._rng.bit_generator.state,
            "generator": self._generator.get_state(),
            "step": self.step,
        }
        if self.ema_network is not None:
            state["ema_network"] = self.ema_network.state_dict()
        if self.settings.prioritisation == "tracked":
            state["priorities"] = self._tracked.state()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of a trainer with the same network, crops, geometry and settings.

        The number of processes may be another.
        """
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._alrc_state = AlrcState(*state["alrc"])
        self._rng.bit_generator.state = state["rng"]
        self._generator.set_state(state["generator"].cpu())
        self.step = state["step"]
        if self.ema_network is not None:
            self.ema_network.load_state_dict(state["ema_network"])
        if self.settings.prioritisation == "tracked":
            self._tracked.restore(state["priorities"])


def train_generator(
    crops: CropSource,
    geometry: ScanGeometry,
    settings: GeneratorTraining,
    *,
    device: torch.device | str = "cpu",
    acquisition: Instrument | Acquisition | str | None = None,
    paths: Mapping[str, PathMaker] | None = None,
    state: Mapping[str, Any] | None = None,
    on_update: Callable[[GeneratorTrainer, Tensor], bool | None] | None = None,
) -> GeneratorTrainer:
    """Train a new generator, or go on with one, until ``settings.n_updates`` updates are made.

    Args:
        crops: Where crops come from, of side ``geometry.image_size``.
        geometry: Dose and field of the scans.
        settings: Network, scans, optimiser and seed.
        device: Where the network learns.
        acquisition: The instrument that measures the scans, or a preset's name; None is the ideal one.
        paths: What makes the scans of adaptive families, by name.
        state: State of an interrupted training with the same arguments, to go on from.
        on_update: Called after each update with the trainer and the losses; training stops when it returns True.

    Returns:
        The trainer, with the network in training mode.

    Example:
        >>> from adaptive_scan.micrographs import ArrayCrops
        >>> crops = ArrayCrops(np.random.default_rng(0).uniform(-1, 1, (5, 16, 16)).astype(np.float32))
        >>> train_generator(crops, ScanGeometry(16, 4, 4), GeneratorTraining(n_updates=2, batch_size=4)).step
        2
    """
    network = make_generator(settings.generator, seed=settings.seed)
    trainer = GeneratorTrainer(network, crops, geometry, settings, device=device, acquisition=acquisition, paths=paths)
    if state is None:
        trainer.initialise()
    else:
        trainer.load_state_dict(state)
    while trainer.step < settings.n_updates:
        losses = trainer.update()
        if on_update is not None and on_update(trainer, losses):
            break
    return trainer
