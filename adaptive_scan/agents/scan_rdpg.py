"""The scan agent: recurrent deterministic policy gradients with a generator that learns beside them.

At each update the replayed scans are completed by the current generator, which takes its own supervised step on them; the
losses of that pass, capped and normalised, are the rewards that the critic learns from (Ede 2021, section 2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from adaptive_scan.agents.policies import MemoryPolicy
from adaptive_scan.agents.recurrent_td3 import RDPG
from adaptive_scan.agents.replay import EpisodeBatch, EpisodeReplayBuffer, FieldSpec
from adaptive_scan.envs import PartialScanVecEnv
from adaptive_scan.generators import AlrcState, alrc, augment, blur_targets, completion_loss, draw_positions
from adaptive_scan.generators.training import generator_step
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import ScanGeometry, tensors


@dataclass(frozen=True)
class CoTraining:
    """How the generator learns beside the agent, and what its losses become as rewards.

    Attributes:
        static_scans: Scan families the generator is trained on as well, so that it serves them too.
        n_static: Such scans in each of its batches, of the crops that are replayed.
        relative_reward: Whether the critic learns the loss less that of the reference scan of the same crop.
        use_alrc: Whether losses are capped by adaptive learning rate clipping before they become rewards.
        loss_decay: Decay of the running mean that normalises the rewards.
        augment: Whether the generator sees scans and targets under random symmetries of the square.
        blur: Whether targets are blurred by the 5x5 Gaussian.
    """

    static_scans: tuple[str, ...] = ()
    n_static: int = 0
    relative_reward: bool = True
    use_alrc: bool = True
    loss_decay: float = 0.997
    augment: bool = True
    blur: bool = True


class ScanExamples(NamedTuple):
    """Scans of the last batch with their completions, for pictures: each (n_scans, channels, S, S)."""

    partial_scans: Tensor
    completions: Tensor
    targets: Tensor


class ScanReplayBuffer(EpisodeReplayBuffer):
    """Replay that keeps for each scan the name of its crop and the pixels it measured, not the crop itself.

    Args:
        args: As for :class:`EpisodeReplayBuffer`.
        image_size: Side S of the crops [px].
        kwargs: As for :class:`EpisodeReplayBuffer`.
    """

    def __init__(self, *args: Any, image_size: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.image_size = image_size

    def read_fields(self, info: dict[str, Any]) -> dict[str, Any]:
        """Crop and measured pixels from the ``info`` at the end of a scan."""
        size = self.image_size
        pixels = np.clip(np.floor(info["positions"].reshape(-1, 2) + 0.5), 0, size - 1).astype(np.int64)
        return {"crop_id": info["crop_id"], "pixels": pixels[:, 0] * size + pixels[:, 1]}


class ScanRDPG(RDPG):
    """RDPG on partial scans, co-training a generator.

    Args:
        policy: ``"MultiInputMemoryPolicy"`` or a policy class.
        env: Batch of scans without a completer: the agent scores scans itself.
        generator: Network that completes partial scans.
        generator_optimizer: Its optimiser.
        generator_learning_rate: Its learning rate over the remaining progress.
        reference_headings: Headings of the reference scan [rad], shape (n_segments,); needed for relative rewards.
        co_training: How the generator learns and what its losses become.
        learning_rate: Of the actor.
        kwargs: Everything else :class:`RDPG` takes.

    Raises:
        ValueError: If rewards are relative and there is no reference.
    """

    def __init__(
        self,
        policy: str | type[MemoryPolicy],
        env: PartialScanVecEnv,
        *,
        generator: nn.Module,
        generator_optimizer: torch.optim.Optimizer,
        generator_learning_rate: Callable[[float], float],
        reference_headings: ArrayLike | None = None,
        co_training: CoTraining | None = None,
        learning_rate: Any = 5e-4,
        **kwargs: Any,
    ) -> None:
        self.co_training = CoTraining() if co_training is None else co_training
        if self.co_training.relative_reward and reference_headings is None:
            raise ValueError("relative_reward: got no reference_headings; expected those of the reference scan")
        self.geometry: ScanGeometry = env.batch.geometry
        self.crops: CropSource = env.batch.source
        self.generator, self.generator_optimizer = generator, generator_optimizer
        self.generator_learning_rate = generator_learning_rate
        self.examples: ScanExamples | None = None
        self._alrc_state = AlrcState()
        self._mean_loss: float | None = None
        kwargs = {"max_episode_steps": self.geometry.n_segments - 1, "use_target_actor": False, **kwargs}
        super().__init__(policy, env, learning_rate, **kwargs)
        self.generator.to(self.device)
        self._reference: Tensor | None = None
        if reference_headings is not None:
            path = self.geometry.path(np.asarray(reference_headings)[None])
            self._reference = torch.as_tensor(path, device=self.device).reshape(1, -1, 2)

    def _make_replay_buffer(self) -> EpisodeReplayBuffer:
        pixel_type = "int16" if self.geometry.image_size**2 <= np.iinfo(np.int16).max else "int32"
        return ScanReplayBuffer(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            self.device,
            n_envs=self.n_envs,
            max_episode_steps=self._longest_episode(),
            image_size=self.geometry.image_size,
            fields={
                "crop_id": FieldSpec((self.crops.id_width,), "int64"),
                "pixels": FieldSpec((self.geometry.dose,), pixel_type),
            },
            seed=int(self.rng.integers(2**63)),
        )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "generator", "generator_optimizer"]

    def batch_rewards(self, batch: EpisodeBatch) -> Tensor:
        """Rewards of replayed scans from the current generator, which learns from them in the same pass.

        Returns:
            The stored rewards (edge penalties), and at the last step less the normalised loss; (n_scans, n_steps).

        Raises:
            FloatingPointError: If the generator's loss is not finite.
        """
        crops = self.crops.take(batch.fields["crop_id"].cpu().numpy())
        pictures = torch.as_tensor(crops, device=self.device)
        targets = blur_targets(pictures[:, None]) if self.co_training.blur else pictures[:, None]
        scans = self._replayed_scans(batch)
        references = self._reference_losses(pictures, targets)
        losses = self._train_generator(scans, pictures, targets)
        scores = self._score(losses, references)
        self._log(losses, references)
        rewards = batch.rewards.clone()
        rewards[torch.arange(len(scores), device=self.device), batch.lengths - 1] -= scores
        return rewards

    def _replayed_scans(self, batch: EpisodeBatch) -> Tensor:
        """Partial scans (n_scans, 2, S, S) from the stored values and pixels."""
        size = self.geometry.image_size
        values = batch.observations["measured"].flatten(1)  # type: ignore[call-overload]
        pixels = batch.fields["pixels"].long()
        positions = torch.stack([pixels // size, pixels % size], dim=-1).float()
        return tensors.partial_scans(values, positions, size)

    def _static_scans(self, crops: Tensor) -> Tensor:
        """Partial scans of crops by the static families in turn (n_scans, 2, S, S)."""
        drawn = draw_positions(self.co_training.static_scans, self.geometry, len(crops), self.rng)
        positions = torch.as_tensor(drawn, device=self.device)
        return tensors.partial_scans(tensors.sample(crops, positions), positions, self.geometry.image_size)

    def _reference_losses(self, crops: Tensor, targets: Tensor) -> Tensor | None:
        """Losses of the reference scan of the same crops, (n_scans,), by the generator as it stands."""
        if not self.co_training.relative_reward or self._reference is None:
            return None
        values = tensors.sample(crops, self._reference)
        positions = self._reference.expand(len(crops), -1, -1)
        with torch.no_grad():
            completions = self.generator(tensors.partial_scans(values, positions, self.geometry.image_size))
        return completion_loss(completions, targets)

    def _train_generator(self, scans: Tensor, crops: Tensor, targets: Tensor) -> Tensor:
        """Losses of the replayed scans (n_scans,) from the pass that also trains the generator."""
        settings = self.co_training
        n_replayed, n_static = len(scans), min(settings.n_static, len(crops))
        if settings.static_scans and n_static:
            scans = torch.cat([scans, self._static_scans(crops[:n_static])])
            targets = torch.cat([targets, targets[:n_static]])
        seen, wanted = augment(scans, targets, self._augmentation_rng) if settings.augment else (scans, targets)
        rate = self.generator_learning_rate(self._current_progress_remaining)
        for group in self.generator_optimizer.param_groups:
            group["lr"] = rate
        self.generator.train()
        losses, completions = generator_step(self.generator, self.generator_optimizer, seen, wanted)
        self.logger.record("generator/learning_rate", rate)
        if n_static:
            self.logger.record_mean("generator/loss_static", losses[n_replayed:].mean().item())
        self.examples = ScanExamples(seen[:4], completions[:4], wanted[:4])
        return losses[:n_replayed]

    def _setup_model(self) -> None:
        super()._setup_model()
        # On the CPU, so that every device sees the same symmetries.
        self._augmentation_rng = torch.Generator().manual_seed(int(self.rng.integers(2**63)))

    def _score(self, losses: Tensor, references: Tensor | None) -> Tensor:
        """Losses as the critic learns them (n_scans,): capped, less the reference, over the running mean."""
        capped, limit = losses, float("inf")
        if self.co_training.use_alrc:
            limit = self._alrc_state.mu1 + 3.0 * self._alrc_state.standard_deviation
            capped, self._alrc_state = alrc(losses, self._alrc_state)
        mean, decay = capped.mean().item(), self.co_training.loss_decay
        self._mean_loss = mean if self._mean_loss is None else decay * self._mean_loss + (1.0 - decay) * mean
        if references is not None:
            capped = capped - references.clamp(max=limit)
        return capped / max(self._mean_loss, 1e-12)

    def _log(self, losses: Tensor, references: Tensor | None) -> None:
        self.logger.record_mean("generator/loss", losses.mean().item())
        if references is not None:
            self.logger.record_mean("generator/loss_reference", references.mean().item())

    def training_state(self) -> dict[str, Any]:
        """Everything that learning changes, the generator and the environment included."""
        return {
            **super().training_state(),
            "generator": self.generator.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "alrc": (self._alrc_state.mu1, self._alrc_state.mu2),
            "mean_loss": self._mean_loss,
            "augmentation_rng": self._augmentation_rng.get_state(),
            "environment": self.env.batch.get_state(),  # type: ignore[union-attr]
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`training_state`; call ``learn`` with ``reset_num_timesteps=False`` afterwards."""
        super().load_training_state(state)
        self.generator.load_state_dict(state["generator"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self._alrc_state = AlrcState(*state["alrc"])
        self._mean_loss = state["mean_loss"]
        self._augmentation_rng.set_state(torch.as_tensor(state["augmentation_rng"], device="cpu"))
        self.env.batch.set_state(state["environment"])  # type: ignore[union-attr]
