"""Settings of the training of a generator, with the schedules of learning rate and beta1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.families import check_families, is_adaptive
from adaptive_scan.generators.loss_settings import LOSS_SCALE, AlrcState

GeneratorKind = Literal["residual", "unet", "mask_aware", "two_stage", "supersampling"]
"""Names of `adaptive_scan.generators.GENERATORS`, which settings alone need not load."""

_N_STEPS = 8  # of the partial-STEM paper's schedules


@dataclass(frozen=True)
class GeneratorTraining:
    """Settings of the training of a generator.

    Attributes:
        generator: Kind of network, a name of ``GENERATORS``.
        scans: Scan families to train on, equally likely: names of ``STATIC_SCANS``, "polygonal_spiral", "filling_path",
            "random_headings", and "adaptive" for those of a policy. A name given twice is drawn twice as often.
        coverages: Nominal coverages, of which each scan of a static family draws one; with none it has the geometry's
            dose, as the other families always do.
        n_updates: Number of updates.
        batch_size: Scans in an update, of all processes together.
        sampling: How crops are drawn: "random" ones independently, or by "epochs", where each comes once before any
            comes again.
        learning_rate: Adam's learning rate at the start.
        schedule: "constant", "cosine", which falls to ``final_learning_rate`` at the last update, or "steps", which is
            constant for half of the updates and then falls towards zero in eight equal steps.
        final_learning_rate: Where the cosine ends.
        warm_up: Updates over which the learning rate first rises linearly.
        beta1: Decay of Adam's mean of the gradients.
        final_beta1: Where it goes in eight equal steps over the second half of the updates.
        weight_decay: Decoupled weight decay.
        max_grad_norm: Bound of the norm of all gradients of a network together; none without it.
        ema_decay: Decay of the exponential moving average of the weights, which is then what is saved and judged; 0 for
            no average.
        loss_scale: Factor on the mean squared error in [-1, 1] that is followed; it matters beside bounds and other
            losses. The losses reported always have the factor 10.
        alrc: Cap the losses by adaptive learning rate clipping.
        alrc_mu1: Running mean of the losses, as scaled, that clipping starts from.
        alrc_mu2: Running mean of their squares that it starts from.
        prioritisation: What the losses of each coverage are divided by: "none", "given" for the supersampling paper's
            p(c), or "tracked" for their own running mean.
        priority_decay: Decay of that running mean.
        known_pixels: Whether measured pixels count in the loss: "learned", or "excluded" as in the supersampling paper.
        augment: Apply a random symmetry of the square to each scan and its target together.
        blur: Train towards the crop after the 5x5 Gaussian blur instead of the crop itself.
        precision: "float32", or "bfloat16" for the passes through the network, where weights stay float32.
        compile: Compile the network by ``torch.compile``.
        adversarial_share: Share of the updates, the last ones, that are adversarial; 0.5 in the papers.
        adversarial_learning_rate: Learning rate that the schedule begins anew with there.
        adversarial_beta1: The same for the decay of Adam's mean.
        seed: Seed of the network's first weights and of everything drawn.

    Raises:
        ValueError: If a setting is out of range or a name is unknown.

    Example:
        >>> GeneratorTraining(n_updates=100, schedule="cosine").learning_rate_at(0)
        0.001
    """

    generator: GeneratorKind = "unet"
    scans: tuple[str, ...] = ("polygonal_spiral", "random_headings")
    coverages: tuple[float, ...] = ()
    n_updates: int = 10_000
    batch_size: int = 32
    sampling: Literal["random", "epochs"] = "random"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine", "steps"] = "cosine"
    final_learning_rate: float = 1e-5
    warm_up: int = 0
    beta1: float = 0.9
    final_beta1: float = 0.9
    weight_decay: float = 1e-5
    max_grad_norm: float | None = None
    ema_decay: float = 0.0
    loss_scale: float = LOSS_SCALE
    alrc: bool = False
    alrc_mu1: float = 1.0
    alrc_mu2: float = 4.0
    prioritisation: Literal["none", "given", "tracked"] = "none"
    priority_decay: float = 0.997
    known_pixels: Literal["learned", "excluded"] = "learned"
    augment: bool = True
    blur: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    adversarial_share: float = 0.0
    adversarial_learning_rate: float = 1e-4
    adversarial_beta1: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_names()
        for name in ("n_updates", "batch_size", "learning_rate", "loss_scale", "adversarial_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingError(f"{name}: got {getattr(self, name)}; expected more than 0")
        for name in ("final_learning_rate", "weight_decay", "warm_up", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingError(f"{name}: got {getattr(self, name)}; expected 0 or more")
        shares = ("beta1", "final_beta1", "adversarial_beta1", "ema_decay", "priority_decay", "adversarial_share")
        for name in shares:
            if not 0 <= getattr(self, name) < 1:
                raise SettingError(f"{name}: got {getattr(self, name)}; expected 0 or more, and less than 1")
        for coverage in self.coverages:
            if not 0 < coverage <= 1:
                raise SettingError(f"coverages holds {coverage}; expected numbers above 0 and at most 1")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise SettingError(f"max_grad_norm: got {self.max_grad_norm}; expected more than 0, or None")
        AlrcState(self.alrc_mu1, self.alrc_mu2)

    def _check_names(self) -> None:
        choices: dict[str, tuple[str, ...]] = {
            "schedule": ("constant", "cosine", "steps"),
            "sampling": ("random", "epochs"),
            "prioritisation": ("none", "given", "tracked"),
            "known_pixels": ("learned", "excluded"),
            "precision": ("float32", "bfloat16"),
        }
        kinds = get_args(GeneratorKind)
        if self.generator not in kinds:
            raise SettingError(f"generator: got {self.generator!r}; expected one of {', '.join(kinds)}")
        for name, known in choices.items():
            if getattr(self, name) not in known:
                *most, last = (repr(choice) for choice in known)
                raise SettingError(f"{name}: got {getattr(self, name)!r}; expected {', '.join(most)} or {last}")
        # The paths of adaptive families are not settings: the trainer is given them, and checks that it is.
        plain = [name for name in self.scans if not is_adaptive(name)]
        if plain or not self.scans:
            check_families(plain)

    @property
    def n_supervised(self) -> int:
        """Updates before the adversarial ones."""
        return self.n_updates - round(self.adversarial_share * self.n_updates)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of an update; steps past the last one keep its rate.

        Args:
            step: Number of updates made before it.

        Returns:
            The learning rate.
        """
        place, n_updates, is_first = self._place(step)
        rate = self.learning_rate if is_first else self.adversarial_learning_rate
        if self.schedule == "cosine":
            progress = min(place / max(n_updates - 1, 1), 1.0)
            fraction = 0.5 * (1.0 + math.cos(math.pi * progress))
            rate = self.final_learning_rate + fraction * (rate - self.final_learning_rate)
        elif self.schedule == "steps":
            rate *= 1.0 - _stepped(place, n_updates)
        return rate * (place + 1) / self.warm_up if is_first and place < self.warm_up else rate

    def beta1_at(self, step: int) -> float:
        """Decay of Adam's mean of the gradients at an update.

        Args:
            step: Number of updates made before it.

        Returns:
            The decay.
        """
        place, n_updates, is_first = self._place(step)
        start = self.beta1 if is_first else self.adversarial_beta1
        return start + (self.final_beta1 - start) * _stepped(place, n_updates)

    def _place(self, step: int) -> tuple[int, int, bool]:
        """Updates before this one in its phase, all updates of the phase, and whether it is the supervised one."""
        if step < self.n_supervised or self.n_supervised == self.n_updates:
            return step, self.n_supervised, True
        return step - self.n_supervised, self.n_updates - self.n_supervised, False


def _stepped(place: int, n_updates: int) -> float:
    """Share of a way that is gone in eight equal steps: none for half of the updates, 7/8 at the last ones.

    The partial-STEM paper decays learning rate and beta1 so (Ede and Beanland 2020, doi:10.1038/s41598-020-65261-0).
    """
    progress = min(place, n_updates - 1) / n_updates
    return max(math.floor(_N_STEPS * (2.0 * progress - 1.0)), 0) / _N_STEPS
