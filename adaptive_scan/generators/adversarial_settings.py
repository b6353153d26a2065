"""Settings of adversarial training; loads no torch, so that command lines and files of settings come quickly."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.loss_settings import DetailLosses


@dataclass(frozen=True)
class AdversarialSettings:
    """Settings of adversarial training beyond those of ``GeneratorTraining``; the defaults are those of partial STEM.

    The share of adversarial updates and their learning rate and beta1 are in ``GeneratorTraining``. Auxiliary and
    detail losses and noise levels work in both parts, and without an adversarial one.

    Attributes:
        adversarial_weight: Weight lambda_adv of the adversarial loss beside the paper's 200 MSE in [0, 1]; it scales
            with ``loss_scale``, so that the ratio of the two stays.
        auxiliary_weight: Weight lambda_aux of the auxiliary trainer's loss, for a ``TwoStageGenerator``; 0 for none.
        auxiliary_learning_rate_factor: The auxiliary trainer's learning rate over the generator's; 2 in the
            supersampling paper's table 1.
        details: Weights of further losses, beside the mean squared error in [-1, 1]; measured pixels count in them.
        discriminator_width: Factor of the discriminators' channels.
        discriminator_learning_rate: Their constant learning rate; None for the generator's at the start of the game.
        discriminators_see: What discriminators are shown at measured pixels: what is "completed" there, or what was
            "measured", which leaves them nothing to judge there but lets them see the path.
        blur_completions: Blur completions by a 3x3 Gaussian, sigma 1.5 px, before their squared error is taken in the
            game, so that noise is suppressed less (supersampling paper, eq. 10).
        replay_size: Examples that the experience replay keeps.
        replay_top_share: Share of examples, those of the greatest losses, that it keeps.
        replay_chance: Chance of an example in the game to be a replayed one.
        noise_levels: Divide losses by those predicted from the noise of the targets, by ``NoiseLevelPredictors`` that
            learn in the supervised part; meant for targets without blur.

    Raises:
        ValueError: If a setting is out of range or a name is unknown.

    Example:
        >>> AdversarialSettings(details=DetailLosses(sobel=0.1)).adversarial_weight
        5.0
    """

    adversarial_weight: float = 5.0
    auxiliary_weight: float = 1.0
    auxiliary_learning_rate_factor: float = 1.0
    details: DetailLosses = field(default_factory=DetailLosses)
    discriminator_width: float = 1.0
    discriminator_learning_rate: float | None = None
    discriminators_see: Literal["completed", "measured"] = "completed"
    blur_completions: bool = False
    replay_size: int = 50
    replay_top_share: float = 0.2
    replay_chance: float = 0.2
    noise_levels: bool = False

    def __post_init__(self) -> None:
        for name in ("adversarial_weight", "auxiliary_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingError(f"{name}: got {getattr(self, name)}; expected 0 or more")
        for name in ("auxiliary_learning_rate_factor", "discriminator_width"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingError(f"{name}: got {getattr(self, name)}; expected more than 0")
        rate = self.discriminator_learning_rate
        if rate is not None and not 0 < rate < math.inf:
            raise SettingError(f"discriminator_learning_rate: got {rate}; expected more than 0, or None")
        if self.discriminators_see not in ("completed", "measured"):
            raise SettingError(
                f"discriminators_see: got {self.discriminators_see!r}; expected 'completed' or 'measured'"
            )
        check_replay(self.replay_size, self.replay_top_share, self.replay_chance)


def check_replay(size: int, top_share: float, chance: float) -> None:
    """Refuse settings of an :class:`~adaptive_scan.generators.adversarial.ExperienceReplay` that make no sense.

    Raises:
        SettingError: If ``size`` is below 1 or a share is outside (0, 1] or [0, 1).
    """
    if size < 1:
        raise SettingError(f"size: got {size}; expected at least 1")
    if not 0 < top_share <= 1:
        raise SettingError(f"top_share: got {top_share}; expected more than 0 and at most 1")
    if not 0 <= chance < 1:
        raise SettingError(f"chance: got {chance}; expected 0 or more, and less than 1")
