"""The passes of learning through the networks, plain or compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor

from adaptive_scan.agents.policies import MemoryActor, MemoryCritic
from adaptive_scan.agents.replay import BurnIn, Observations
from adaptive_scan.errors import SettingError


class Passes(NamedTuple):
    """What learning calls to run the networks over a batch: plain functions, or their compiled forms.

    The networks themselves are never compiled, so that copies, files and decisions know nothing of it.

    Attributes:
        act: An actor's actions before the tanh (n_episodes, n_steps + 1, action_size), from (actor, observations,
            previous actions, burn-in).
        encode: Latents of a critic (n_episodes, n_steps + 1, output_size), likewise.
        values: Values (n_episodes, n_steps) of each of a critic's heads, from (critic, latents, actions).
    """

    act: Callable[[MemoryActor, Observations, Tensor, BurnIn | None], Tensor]
    encode: Callable[[MemoryCritic, Observations, Tensor, BurnIn | None], Tensor]
    values: Callable[[MemoryCritic, Tensor, Tensor], tuple[Tensor, ...]]

    def compiled(self, device: torch.device) -> Self:
        """The same by ``torch.compile``; the first calls with new shapes take their time.

        Raises:
            SettingError: If there is no compiler for the device.
        """
        try:
            torch.compile(torch.sin)(torch.zeros(2, device=device))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            found, expected = f"True where torch.compile fails ({reason})", "a C++ compiler (CPU) or Triton (CUDA)"
            raise SettingError(f"compile_networks: got {found}; expected {expected}") from error
        return type(self)(torch.compile(self.act), torch.compile(self.encode), torch.compile(self.values))


def _act(actor: MemoryActor, observations: Observations, previous_actions: Tensor, burn_in: BurnIn | None) -> Tensor:
    return actor.before_tanh(observations, previous_actions, actor.encoder.start_state(burn_in))[0].float()


def _encode(critic: MemoryCritic, observations: Observations, previous: Tensor, burn_in: BurnIn | None) -> Tensor:
    return critic.encode(observations, previous, critic.encoder.start_state(burn_in))


def _values(critic: MemoryCritic, latents: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
    return tuple(values.float() for values in critic.values(latents, actions))


PASSES = Passes(_act, _encode, _values)
