"""Supervised training of completers on mixtures of scan families, exactly resumable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_scan.acquisition import Acquisition, Instrument, as_instrument
from adaptive_scan.generators.augment import augment
from adaptive_scan.generators.families import check_families, draw_positions
from adaptive_scan.generators.losses import AlrcState, alrc, blur_targets, completion_loss
from adaptive_scan.generators.networks import GENERATORS
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import ScanGeometry, partial_scans, sample

Cap = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GeneratorTraining:
    """Settings of the supervised training of a generator.

    Attributes:
        generator: Kind of network, a name of ``GENERATORS``.
        scans: Scan families to train on, equally likely: names of ``STATIC_SCANS``, "polygonal_spiral", "filling_path"
            and "random_headings". A name given twice is drawn twice as often.
        n_updates: Number of updates.
        batch_size: Scans in an update.
        learning_rate: Adam's learning rate at the start.
        schedule: "constant", or "cosine", which falls to ``final_learning_rate`` at the last update.
        final_learning_rate: Where the cosine ends.
        weight_decay: Decoupled weight decay.
        alrc: Cap the losses by adaptive learning rate clipping.
        augment: Apply a random symmetry of the square to each scan and its target together.
        blur: Train towards the crop after the 5x5 Gaussian blur instead of the crop itself.
        seed: Seed of the network's first weights and of everything drawn.

    Raises:
        ValueError: If a setting is out of range or a name is unknown.

    Example:
        >>> GeneratorTraining(n_updates=100, schedule="cosine").learning_rate_at(0)
        0.001
    """

    generator: Literal["unet", "residual"] = "unet"
    scans: tuple[str, ...] = ("polygonal_spiral", "random_headings")
    n_updates: int = 10_000
    batch_size: int = 32
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    final_learning_rate: float = 1e-5
    weight_decay: float = 1e-5
    alrc: bool = False
    augment: bool = True
    blur: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.generator not in GENERATORS:
            raise ValueError(f"generator is {self.generator!r}; expected one of {', '.join(GENERATORS)}")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule is {self.schedule!r}; expected 'constant' or 'cosine'")
        check_families(self.scans)
        for name in ("n_updates", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0")
        for name in ("final_learning_rate", "weight_decay", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of an update; steps past the last one keep its rate.

        Args:
            step: Number of updates made before it.

        Returns:
            The learning rate.
        """
        if self.schedule == "constant":
            return self.learning_rate
        progress = min(step / max(self.n_updates - 1, 1), 1.0)
        fraction = 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.final_learning_rate + fraction * (self.learning_rate - self.final_learning_rate)


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
        raise ValueError(f"generator is {kind!r}; expected one of {', '.join(GENERATORS)}")
    with torch.random.fork_rng(devices=[]):  # initialisers of torch.nn draw from the global state only
        torch.manual_seed(seed)
        return GENERATORS[kind](**config)


def make_optimiser(network: nn.Module, settings: GeneratorTraining) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay for a generator."""
    return torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)


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
        FloatingPointError: If a loss is not finite; the network is left as it was.

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
    if not torch.isfinite(losses).all():
        n_bad = int((~torch.isfinite(losses)).sum())
        raise FloatingPointError(f"{n_bad} of {len(losses)} losses are not finite; expected finite losses")
    followed = losses if cap is None else cap(losses)
    followed.mean().backward()
    optimiser.step()
    return losses.detach(), completions.detach()


class GeneratorTrainer:
    """Trains a generator on random crops under a mixture of scan families.

    The same seed gives the same result to the last bit on the same machine with the same number of threads,
    also when training is interrupted and resumed from ``state_dict``.

    Args:
        network: Generator to train; moved to ``device`` and put in training mode.
        crops: Where crops come from, of side ``geometry.image_size``.
        geometry: Dose and field of the scans, and the segments of those that have them.
        settings: Everything else.
        device: Where the network learns.
        acquisition: The instrument that measures the scans, or a preset's name; None is the ideal one.

    Attributes:
        network: The generator.
        step: Number of updates made.

    Raises:
        ValueError: If the crops and the geometry disagree on the side, or the side does not suit the network.

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
    ) -> None:
        if crops.crop_size != geometry.image_size:
            raise ValueError(f"crops have side {crops.crop_size} px; expected the geometry's {geometry.image_size}")
        stride = getattr(network, "stride", 1)
        if geometry.image_size % stride:
            raise ValueError(f"image_size is {geometry.image_size} px; expected a multiple of {stride}")
        self.device = torch.device(device)
        self.network = network.to(self.device).train()
        self.crops = crops
        self.geometry = geometry
        self.settings = settings
        self.instrument = as_instrument(acquisition)
        self.step = 0
        self._optimiser = make_optimiser(self.network, settings)
        self._alrc_state = AlrcState()
        self._rng = np.random.default_rng(settings.seed)
        self._generator = torch.Generator().manual_seed(settings.seed)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next update."""
        return self.settings.learning_rate_at(self.step)

    def draw_batch(self) -> tuple[Tensor, Tensor]:
        """Draw crops and scans of them.

        Returns:
            Partial scans, shape (batch_size, 2, S, S), and targets, shape (batch_size, 1, S, S).
        """
        n_scans = self.settings.batch_size
        crops = self.crops.take(self.crops.draw(n_scans, self._rng))
        positions = draw_positions(self.settings.scans, self.geometry, n_scans, self._rng)
        begun = self.instrument.begin(n_scans, self._rng)
        reading = self.instrument.measure(positions, lambda displaced: sample(crops, displaced), begun)
        scans = partial_scans(reading.values, positions, self.geometry.image_size)
        inputs = torch.from_numpy(scans).to(self.device)
        targets = torch.from_numpy(crops)[:, None].to(self.device)
        if self.settings.blur:
            targets = blur_targets(targets)
        return augment(inputs, targets, self._generator) if self.settings.augment else (inputs, targets)

    def update(self) -> Tensor:
        """Make one update.

        Returns:
            Losses of the batch before the update, shape (batch_size,), on the trainer's device.

        Raises:
            FloatingPointError: If a loss is not finite.
        """
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate
        inputs, targets = self.draw_batch()
        cap = self._cap if self.settings.alrc else None
        losses, _ = generator_step(self.network, self._optimiser, inputs, targets, cap=cap)
        self.step += 1
        return losses

    def _cap(self, losses: Tensor) -> Tensor:
        capped, self._alrc_state = alrc(losses, self._alrc_state)
        return capped

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides how training goes on; ``adaptive_scan.trees.write_tree`` writes it."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "alrc": [self._alrc_state.mu1, self._alrc_state.mu2],
            "rng": self._rng.bit_generator.state,
            "generator": self._generator.get_state(),
            "step": self.step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of a trainer with the same network, crops, geometry and settings."""
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._alrc_state = AlrcState(*state["alrc"])
        self._rng.bit_generator.state = state["rng"]
        self._generator.set_state(state["generator"].cpu())
        self.step = state["step"]


def train_generator(
    crops: CropSource,
    geometry: ScanGeometry,
    settings: GeneratorTraining,
    *,
    device: torch.device | str = "cpu",
    acquisition: Instrument | Acquisition | str | None = None,
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
    trainer = GeneratorTrainer(network, crops, geometry, settings, device=device, acquisition=acquisition)
    if state is not None:
        trainer.load_state_dict(state)
    while trainer.step < settings.n_updates:
        losses = trainer.update()
        if on_update is not None and on_update(trainer, losses):
            break
    return trainer
