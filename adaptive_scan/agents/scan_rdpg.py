"""The scan agent: recurrent deterministic policy gradients with a generator that learns beside them.

At each update the replayed scans are completed by the current generator, which takes its own supervised step on them;
the losses of that pass, capped and normalised, are the rewards that the critic learns from (Ede 2021, section 2).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adaptive_scan.acquisition import Instrument
from adaptive_scan.agents.policies import MemoryPolicy
from adaptive_scan.agents.recurrent_td3 import RDPG
from adaptive_scan.agents.replay import EpisodeBatch, EpisodeReplayBuffer, FieldSpec
from adaptive_scan.envs import PartialScanVecEnv, ScanBatch
from adaptive_scan.errors import SettingError
from adaptive_scan.generators import blur_targets, completion_loss
from adaptive_scan.generators.augment import augment
from adaptive_scan.generators.families import draw_positions
from adaptive_scan.generators.loss_settings import AlrcState
from adaptive_scan.generators.losses import alrc
from adaptive_scan.generators.training import generator_step
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import ScanGeometry, tensors

_TRIAL_BATCH = 64
_REPLAYS = (None, EpisodeReplayBuffer)  # what the file of a scan agent names


@dataclass(frozen=True)
class CoTraining:
    """How the generator learns beside the agent, and what its losses become as rewards.

    Attributes:
        static_scans: Scan families the generator is trained on as well, so that it serves them too.
        n_static: Such scans in each of its batches, of the crops that are replayed.
        reward: What the critic learns of a scan's loss L: ``"absolute"``, L over its running mean (the paper's);
            ``"relative"``, L less the loss R of the reference scan of the same crop, over that mean; ``"log-ratio"``,
            log(L / R), in which every crop has the same weight whatever its difficulty.
        use_alrc: Whether losses are capped by adaptive learning rate clipping before they become rewards; log-ratios
            need no cap.
        loss_decay: Decay of the running mean that normalises the rewards.
        complete: Which scans are completed in each iteration: ``"replayed"`` ones, whose losses are thus always those
            of the current generator (the paper's), or the ``"newest"`` ones, so that every scan gets a score.
        n_remembered_updates: Further updates of actor and critic in each iteration, on replayed scans with the scores
            they were last given; these need no generator and cost little.
        remembered_batch_size: Scans in each of them.
        augment: Whether the generator sees scans and targets under random symmetries of the square.
        blur: Whether targets are blurred by the 5x5 Gaussian.

    Raises:
        SettingError: If a name is unknown.

    Example:
        >>> CoTraining(static_scans=("spiral",), n_static=8).reward
        'relative'
    """

    static_scans: tuple[str, ...] = ()
    n_static: int = 0
    reward: Literal["absolute", "relative", "log-ratio"] = "relative"
    use_alrc: bool = True
    loss_decay: float = 0.997
    complete: Literal["replayed", "newest"] = "replayed"
    n_remembered_updates: int = 0
    remembered_batch_size: int = 128
    augment: bool = True
    blur: bool = True

    def __post_init__(self) -> None:
        for name, known in (("reward", ("absolute", "relative", "log-ratio")), ("complete", ("replayed", "newest"))):
            if getattr(self, name) not in known:
                raise SettingError(f"{name}: got {getattr(self, name)!r}; expected one of {', '.join(known)}")


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
        """Crop, measured pixels and key of the instrument's faults from the ``info`` at the end of a scan."""
        size = self.image_size
        pixels = np.clip(np.floor(info["positions"].reshape(-1, 2) + 0.5), 0, size - 1).astype(np.int64)
        fields = {"crop_id": info["crop_id"], "pixels": pixels[:, 0] * size + pixels[:, 1], "score": np.nan}
        return {**fields, **{name: info[name] for name in self._fields if name not in fields}}

    def sample_scored(self, batch_size: int) -> EpisodeBatch:
        """Scans drawn uniformly, with replacement, from those that have a score.

        Raises:
            ValueError: If no scan has one yet.
        """
        scored = np.flatnonzero(~np.isnan(self.episodes["fields/score"][: self.n_episodes]))
        if len(scored) == 0:
            raise ValueError("replay: no scan has a score yet; expected at least one")
        return self._get_samples(self.rng.choice(scored, batch_size))


def _with_scores(batch: EpisodeBatch, scores: Tensor) -> Tensor:
    """The stored rewards, at each scan's last step less its score, shape (n_scans, n_steps)."""
    rewards = batch.rewards.clone()
    rewards[torch.arange(len(scores), device=rewards.device), batch.lengths - 1] -= scores
    return rewards


def _check_scans(batch: ScanBatch, generator: nn.Module, reward: str, *, has_reference: bool) -> None:
    """Refuse a reward, a generator or scans that a scan agent cannot learn from."""
    if reward != "absolute" and not has_reference:
        raise SettingError(f"reward: got {reward!r} and no reference_headings; expected the reference scan's")
    if reward != "absolute" and any(isinstance(module, _BatchNorm) for module in generator.modules()):
        raise SettingError(
            f"reward: got {reward!r} for a generator with batch normalisation; expected 'absolute'"
            " (its completions of the reference would depend on the other scans of the batch)"
        )
    if batch.judge is not None:
        raise SettingError("env: got one with a completer; expected completer=None, the agent scores scans itself")
    if batch.has_free_dwell:
        found, expected = "one with free dwell times", "dwell=None, the same number of positions in all scans"
        raise SettingError(f"env: got {found}; expected {expected}")


class ScanRDPG(RDPG):
    """RDPG on partial scans, co-training a generator.

    Static and reference scans go through the environment's instrument, as the actor's do. The reference of a scan meets
    the faults of that scan, so that their difference is due to the path and not to chance.

    Args:
        policy: ``"MultiInputMemoryPolicy"`` or a policy class.
        env: Batch of scans without a completer: the agent scores scans itself.
        generator: Network that completes partial scans.
        generator_optimizer: Its optimiser.
        generator_learning_rate: Its learning rate over the remaining progress.
        reference_headings: Headings of the reference scan [rad], (n_segments,); needed unless rewards are absolute.
        reference_spacings: Its spacings [px], shape (n_segments,); None takes the geometry's first spacing.
        trial: Scans without a completer, on whose crops (drawn once) actors are tried; see :meth:`try_actor`.
        co_training: How the generator learns and what its losses become.
        learning_rate: Of the actor.
        kwargs: Everything else :class:`RDPG` takes.

    Raises:
        SettingError: If rewards refer to a reference and there is none, or the generator normalises over batches; or if
            the environment scores scans, leaves their dwell times free or normalises observations.

    Example:
        >>> generator = nn.Conv2d(2, 1, 3, padding=1)
        >>> agent = ScanRDPG(
        ...     "MultiInputMemoryPolicy",
        ...     PartialScanVecEnv(2, geometry=ScanGeometry(16, 4, 5), completer=None),
        ...     generator=generator,
        ...     generator_optimizer=torch.optim.Adam(generator.parameters()),
        ...     generator_learning_rate=lambda progress: 1e-3,
        ...     co_training=CoTraining(reward="absolute"),
        ...     policy_kwargs={"memory_kwargs": {"hidden_size": 8}},
        ...     buffer_size=60,
        ...     learning_starts=0,
        ...     device="cpu",
        ... )
        >>> agent.learn(12).num_timesteps
        12
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
        reference_spacings: ArrayLike | None = None,
        trial: ScanBatch | None = None,
        co_training: CoTraining | None = None,
        learning_rate: float | Schedule = 5e-4,
        **kwargs: Any,
    ) -> None:
        self.co_training = CoTraining() if co_training is None else co_training
        _check_scans(env.batch, generator, self.co_training.reward, has_reference=reference_headings is not None)
        self.geometry: ScanGeometry = env.batch.geometry
        self.crops: CropSource = env.batch.source
        self.instrument: Instrument = env.batch.acquisition
        self.generator, self.generator_optimizer = generator, generator_optimizer
        self.generator_learning_rate = generator_learning_rate
        self.examples: ScanExamples | None = None
        self._alrc_state = AlrcState()
        self._mean_loss: float | None = None
        self._trial = trial
        self._trial_crops: np.ndarray | None = None
        self.best_actor: dict[str, Any] = {}
        if kwargs.get("replay_buffer_kwargs") or kwargs.get("replay_buffer_class") not in _REPLAYS:
            raise SettingError(
                "replay_buffer_class, replay_buffer_kwargs: got some; expected none, scans have their own"
            )
        kwargs = {"max_episode_steps": self.geometry.n_segments - 1, "use_target_actor": False, **kwargs}
        super().__init__(policy, env, learning_rate, **kwargs)
        if self._vec_normalize_env is not None:
            raise SettingError("env: got a VecNormalize; expected the measured values themselves, which are completed")
        self.generator.to(self.device)
        self._reference: Tensor | None = None
        if reference_headings is not None:
            spacings = None if reference_spacings is None else np.asarray(reference_spacings)[None]
            path = self.geometry.path(np.asarray(reference_headings)[None], spacings)
            self._reference = torch.as_tensor(path, device=self.device).reshape(1, -1, 2)

    def _make_replay_buffer(self) -> EpisodeReplayBuffer:
        pixel_type = "int16" if self.geometry.image_size**2 <= np.iinfo(np.int16).max else "int32"
        keys = {} if self.instrument.is_ideal else {"instrument_key": FieldSpec((), "int64")}
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
                "score": FieldSpec((), "float32"),
                "pixels": FieldSpec((self.geometry.n_positions_total,), pixel_type),
                **keys,
            },
            seed=int(self.rng.integers(2**63)),
        )

    @classmethod
    def load(  # type: ignore[override]
        cls, path: Any, env: GymEnv | None = None, device: torch.device | str = "auto", **kwargs: Any
    ) -> Self:
        """Rebuild the actor and the critic from :meth:`save`'s file.

        Args:
            path: File to read.
            env: Scans to go on with.
            device: Where the networks go.
            kwargs: The generator, its optimiser, and whatever else the constructor needs; they are in files of their
                own.

        Raises:
            ModelFileError: If the file is missing, broken, or holds an entry this format does not know.
            SettingError: If there is no environment.
        """
        if env is None:
            raise SettingError("env: got None; expected scans to go on with (RDPG.load reads a policy to predict with)")
        model = super().load(path, env, device, **kwargs)
        model.best_actor = copy.deepcopy(model.actor.state_dict())
        return model

    def batch_rewards(self, batch: EpisodeBatch) -> Tensor:
        """Rewards of scans from the current generator, which learns from them in the same pass.

        Returns:
            The stored rewards (edge penalties), and at the last step less the normalised loss; (n_scans, n_steps).

        Raises:
            FloatingPointError: If the generator's loss is not finite.
        """
        crops = self.crops.take(batch.fields["crop_id"].cpu().numpy())
        pictures = torch.as_tensor(crops, device=self.device)
        targets = blur_targets(pictures[:, None]) if self.co_training.blur else pictures[:, None]
        self.generator.train()
        scans, references = self._replayed_scans(batch), self._reference_scans(pictures, batch)
        scans, references, wanted = self._turn(scans, references, targets)
        reference_losses = self._losses(references, wanted)
        losses = self._train_generator(scans, wanted, pictures, targets)
        scores = self._score(losses, reference_losses)
        self._log(losses, reference_losses)
        self.replay_buffer.episodes["fields/score"][batch.indices] = scores.cpu().numpy()
        return _with_scores(batch, scores)

    def train(self, gradient_steps: int, batch_size: int = 32) -> None:
        """Update generator, actor, critic and targets; ``batch_size`` scans go through the generator each time."""
        replay, settings = self.replay_buffer, self.co_training
        if replay.n_episodes == 0 or not isinstance(replay, ScanReplayBuffer):
            return
        self.policy.set_training_mode(True)
        self._set_learning_rates()
        for _ in range(gradient_steps):
            newest = settings.complete == "newest"
            batch = replay.newest(batch_size) if newest else replay.sample(batch_size)
            rewards = self.batch_rewards(batch)
            for _ in range(self.updates_per_batch):
                self._update(batch, rewards)
            for _ in range(settings.n_remembered_updates):
                batch = replay.sample_scored(settings.remembered_batch_size)
                self._update(batch, _with_scores(batch, batch.fields["score"]))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def try_actor(self) -> tuple[float, float]:
        """Let the actor scan the trial's crops, and keep it as the best one if its mean loss is lower than the best's.

        Both are completed by the generator as it stands, so that an actor is never kept for a generator that has gone,
        and both meet the same faults of the instrument, so that none is kept for its luck.

        Returns:
            Mean losses of the actor and of the best one so far.

        Raises:
            ValueError: If the agent was made without a trial.
        """
        if self._trial is None or self._trial_crops is None:
            raise ValueError("trial: got None when the agent was made; expected scans to try actors on")
        learning = copy.deepcopy(self.actor.state_dict())
        faults = self._trial.rng.bit_generator.state
        loss = self._trial_loss(self._trial, self._trial_crops)
        self.actor.load_state_dict(self.best_actor)
        self._trial.rng.bit_generator.state = faults
        best_loss = self._trial_loss(self._trial, self._trial_crops)
        self.actor.load_state_dict(learning)
        if loss < best_loss:
            self.best_actor = learning
        return loss, min(loss, best_loss)

    @contextmanager
    def using_best_actor(self) -> Iterator[None]:
        """The best actor in place of the one that learns, for the time of the block."""
        learning = copy.deepcopy(self.actor.state_dict())
        self.actor.load_state_dict(self.best_actor)
        try:
            yield
        finally:
            self.actor.load_state_dict(learning)

    def _trial_loss(self, trial: ScanBatch, crop_ids: np.ndarray) -> float:
        """Mean loss of the actor's deterministic scans of the trial's crops."""
        observation, state = trial.reset(crop_ids=crop_ids), None
        while True:
            actions, state = self.policy.predict(observation, state)
            step = trial.step(actions)
            if step.ended.all():
                break
            observation = step.observations
        size, losses = self.geometry.image_size, []
        pictures = torch.as_tensor(self.crops.take(crop_ids), device=self.device)[:, None]
        targets = blur_targets(pictures) if self.co_training.blur else pictures
        values, positions = (torch.as_tensor(step.final[k], device=self.device) for k in ("values", "positions"))
        scans = tensors.partial_scans(values.flatten(1), positions.flatten(1, 2), size)
        self.generator.eval()
        with torch.no_grad():
            for some, wanted in zip(torch.split(scans, _TRIAL_BATCH), torch.split(targets, _TRIAL_BATCH), strict=True):
                losses.append(completion_loss(self.generator(some), wanted))
        return torch.cat(losses).mean().item()

    def _replayed_scans(self, batch: EpisodeBatch) -> Tensor:
        """Partial scans (n_scans, 2, S, S) from the stored values and pixels."""
        size = self.geometry.image_size
        if not isinstance(batch.observations, dict):
            raise TypeError("observations: got a tensor; expected a dict with the measured values")
        values = batch.observations["measured"].flatten(1)
        pixels = batch.fields["pixels"].long()
        positions = torch.stack([pixels // size, pixels % size], dim=-1).float()
        return tensors.partial_scans(values, positions, size)

    def _static_scans(self, crops: Tensor) -> Tensor:
        """Partial scans of crops by the static families in turn (n_scans, 2, S, S)."""
        drawn = draw_positions(self.co_training.static_scans, self.geometry, len(crops), self.rng)
        positions = torch.as_tensor(drawn, device=self.device)
        return self._measured(crops, positions)

    def _reference_scans(self, crops: Tensor, batch: EpisodeBatch) -> Tensor | None:
        """Partial scans of crops by the reference (n_scans, 2, S, S), if rewards need it."""
        if self.co_training.reward == "absolute" or self._reference is None:
            return None
        positions = self._reference.expand(len(crops), -1, -1)
        return self._measured(crops, positions, batch.fields.get("instrument_key"))

    def _measured(self, crops: Tensor, positions: Tensor, keys: Tensor | None = None) -> Tensor:
        """Partial scans (n_scans, 2, S, S) of crops along paths (n_scans, n_positions, 2), by the instrument.

        Its faults are those of the keys (n_scans,), or new ones.
        """
        if self.instrument.is_ideal:
            values = tensors.sample(crops, positions)
        else:

            def read(displaced: np.ndarray) -> np.ndarray:
                return tensors.sample(crops, torch.as_tensor(displaced, device=self.device)).cpu().numpy()

            instrument, n_scans = self.instrument, len(crops)
            begun = instrument.begin(n_scans, self.rng) if keys is None else instrument.begin_with(keys.cpu().numpy())
            reading = instrument.measure(positions.cpu().numpy(), read, begun)
            values = torch.as_tensor(reading.values, device=self.device)
        return tensors.partial_scans(values, positions, self.geometry.image_size)

    def _turn(self, scans: Tensor, references: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Scans, references and targets under random symmetries of the square.

        A crop's scan and its reference share one: the generator does not complete a picture and its mirror image
        equally well, and that difference is not due to the scan.
        """
        if not self.co_training.augment:
            return scans, references, targets
        both = scans if references is None else torch.cat([scans, references], dim=1)
        both, targets = augment(both, targets, self._augmentation_rng)
        return both[:, :2], None if references is None else both[:, 2:], targets

    def _losses(self, scans: Tensor | None, targets: Tensor) -> Tensor | None:
        """Losses of scans (n_scans,) by the generator as it stands, None for none."""
        if scans is None:
            return None
        with torch.no_grad():
            return completion_loss(self.generator(scans), targets)

    def _train_generator(self, scans: Tensor, wanted: Tensor, crops: Tensor, targets: Tensor) -> Tensor:
        """Losses of the replayed scans (n_scans,) from the pass that also trains the generator."""
        settings = self.co_training
        n_replayed, n_static = len(scans), min(settings.n_static, len(crops)) if settings.static_scans else 0
        if n_static:
            more, _, wanted_more = self._turn(self._static_scans(crops[:n_static]), None, targets[:n_static])
            scans, wanted = torch.cat([scans, more]), torch.cat([wanted, wanted_more])
        rate = self.generator_learning_rate(self._current_progress_remaining)
        for group in self.generator_optimizer.param_groups:
            group["lr"] = rate
        losses, completions = generator_step(self.generator, self.generator_optimizer, scans, wanted)
        self.logger.record("generator/learning_rate", rate)
        if n_static:
            self.logger.record_mean("generator/loss_static", losses[n_replayed:].mean().item())
        self.examples = ScanExamples(scans[:4], completions[:4], wanted[:4])
        return losses[:n_replayed]

    def _setup_model(self) -> None:
        super()._setup_model()
        # On the CPU, so that every device sees the same symmetries.
        self._augmentation_rng = torch.Generator().manual_seed(int(self.rng.integers(2**63)))
        if self._trial is not None:
            self._trial_crops = self.crops.draw(self._trial.n_scans, self.rng)
        self.best_actor = copy.deepcopy(self.actor.state_dict())

    def _score(self, losses: Tensor, references: Tensor | None) -> Tensor:
        """Losses as the critic learns them, (n_scans,); see `CoTraining.reward`."""
        capped, limit = losses, float("inf")
        if self.co_training.use_alrc:
            limit = self._alrc_state.mu1 + 3.0 * self._alrc_state.standard_deviation
            capped, self._alrc_state = alrc(losses, self._alrc_state)
        mean, decay = capped.mean().item(), self.co_training.loss_decay
        self._mean_loss = mean if self._mean_loss is None else decay * self._mean_loss + (1.0 - decay) * mean
        mean = max(self._mean_loss, 1e-12)
        if references is None:
            return capped / mean
        if self.co_training.reward == "relative":
            return (capped - references.clamp(max=limit)) / mean
        # Crops that are all but uniform have losses near zero, whose ratio means nothing.
        return torch.log((losses + 0.01 * mean) / (references + 0.01 * mean))

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
            "best_actor": self.best_actor,
            "trial_crops": self._trial_crops,
            "trial_rng": None if self._trial is None else self._trial.rng.bit_generator.state,
            "environment": self.env.batch.get_state(),  # type: ignore[union-attr]
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`training_state`; call ``learn`` with ``reset_num_timesteps=False`` afterwards."""
        super().load_training_state(state)
        self.generator.load_state_dict(state["generator"])
        self.generator_optimizer.load_state_dict(copy.deepcopy(state["generator_optimizer"]))
        self._alrc_state = AlrcState(*state["alrc"])
        self._mean_loss = state["mean_loss"]
        self.best_actor = state["best_actor"]
        self._trial_crops = state["trial_crops"]
        if self._trial is not None and state["trial_rng"] is not None:
            self._trial.rng.bit_generator.state = state["trial_rng"]
        self._augmentation_rng.set_state(torch.as_tensor(state["augmentation_rng"], device="cpu"))
        self.env.batch.set_state(state["environment"])  # type: ignore[union-attr]
