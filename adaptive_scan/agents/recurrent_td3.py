"""Recurrent TD3 and RDPG as Stable-Baselines3 algorithms."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import FloatSchedule, polyak_update, update_learning_rate
from torch import Tensor

from adaptive_scan.agents.noise import ExplorationNoise
from adaptive_scan.agents.passes import PASSES
from adaptive_scan.agents.plain_data import noise_from_json, noise_to_json
from adaptive_scan.agents.policies import (
    CnnMemoryPolicy,
    MemoryActor,
    MemoryCritic,
    MemoryPolicy,
    MultiInputMemoryPolicy,
)
from adaptive_scan.agents.replay import EpisodeBatch, EpisodeReplayBuffer
from adaptive_scan.agents.stored_algorithm import StoredAlgorithm
from adaptive_scan.agents.targets import actor_loss, critic_loss, masked_mean, n_step_targets, saturation
from adaptive_scan.errors import SettingError


class RecurrentTD3(StoredAlgorithm):
    """Twin delayed deterministic policy gradients with memories, replaying whole episodes.

    Heess et al. 2015 (arXiv:1512.04455) with the additions of Fujimoto et al. 2018 (arXiv:1802.09477). Each batch is a
    set of whole episodes; actor and critic run their memories over them from the first observation, and the actor's
    gradient is taken at its live actions, with the critic's memory driven by the replayed ones.

    Args:
        policy: ``"MlpMemoryPolicy"``, ``"MultiInputMemoryPolicy"``, ``"CnnMemoryPolicy"`` or a policy class.
        env: Environment, vectorised environment, or registered id.
        learning_rate: Of the actor, a number or a function of the remaining progress.
        critic_learning_rate: Of the critic; None takes the actor's.
        buffer_size: Steps kept for replay.
        max_episode_steps: Steps of the longest episode; None asks the environments' ``TimeLimit``.
        learning_starts: Steps taken at random before learning, which begins once a whole episode is there.
        batch_size: Episodes per update.
        tau: Share of the online networks that goes into the targets at each update, a number or a function of the
            remaining progress.
        gamma: Discount per step.
        train_freq: Steps (of every environment) or ``(n, "episode")`` between updates.
        gradient_steps: Updates each time; -1 for as many as steps were taken.
        updates_per_batch: Updates of the networks on each sampled batch, with the same rewards.
        action_noise: Exploration noise on the scale [-1, 1].
        n_target_steps: Rewards summed before bootstrapping; at least the episode's length makes Monte Carlo targets.
        policy_delay: Critic updates for each update of the actor and the targets.
        actor_learning_starts: Updates of the critic before the first of the actor.
        target_policy_noise: Standard deviation of the smoothing noise on the target's actions.
        target_noise_clip: Bound of that noise.
        use_target_actor: Whether targets take the target actor's action, or the live actor's as the adaptive-scan paper
            does.
        max_grad_norm: Bound of the gradient norm of actor and critic; None is no bound.
        saturation_penalty: Weight of :func:`~adaptive_scan.agents.targets.saturation` in the actor's loss: an actor
            that an uninformed critic has driven deep into its tanh gets no gradient to come back.
        replay_buffer_class: Kind of the replay buffer; None is :class:`~adaptive_scan.agents.EpisodeReplayBuffer`.
        replay_buffer_kwargs: Its settings beyond the spaces and sizes: slices with burn-in, priorities.
        compile_networks: Whether ``torch.compile`` translates the passes of learning; decisions stay as they are.
        mixed_precision: Whether the passes of learning run in bfloat16 where ``torch.autocast`` says so; weights and
            losses stay in float32.
        policy_kwargs: Settings of :class:`~adaptive_scan.agents.MemoryPolicy`.
        stats_window_size: Episodes in the running means of the log.
        tensorboard_log: Folder for TensorBoard.
        verbose: 0 silent, 1 information, 2 debugging.
        seed: Seed of everything random.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises:
        SettingError: If the length of the longest episode is neither given nor known, the replay buffer keeps no
            episodes or has no room for one, there is no compiler for ``compile_networks``, a number is out of its
            range, or the actions are no floats that can differ.

    Example:
        >>> small = {"memory_kwargs": {"hidden_size": 8}}
        >>> model = RecurrentTD3("MlpMemoryPolicy", "Pendulum-v1", policy_kwargs=small, seed=0, device="cpu")
        >>> actions, state = model.predict(np.zeros((5, 3), np.float32))
        >>> actions.shape
        (5, 1)
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpMemoryPolicy": MemoryPolicy,
        "MultiInputMemoryPolicy": MultiInputMemoryPolicy,
        "CnnMemoryPolicy": CnnMemoryPolicy,
    }
    policy: MemoryPolicy
    actor: MemoryActor
    actor_target: MemoryActor
    critic: MemoryCritic
    critic_target: MemoryCritic
    replay_buffer: EpisodeReplayBuffer

    def __init__(
        self,
        policy: str | type[MemoryPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        *,
        critic_learning_rate: float | Schedule | None = None,
        buffer_size: int = 1_000_000,
        max_episode_steps: int | None = None,
        learning_starts: int = 1_000,
        batch_size: int = 32,
        tau: float | Schedule = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        updates_per_batch: int = 1,
        action_noise: ActionNoise | None = None,
        n_target_steps: int = 1,
        policy_delay: int = 2,
        actor_learning_starts: int = 0,
        target_policy_noise: float = 0.2,
        target_noise_clip: float = 0.5,
        use_target_actor: bool = True,
        max_grad_norm: float | None = None,
        saturation_penalty: float = 0.0,
        replay_buffer_class: type[EpisodeReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        compile_networks: bool = False,
        mixed_precision: bool = False,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            action_noise=action_noise,
            replay_buffer_class=replay_buffer_class or EpisodeReplayBuffer,  # type: ignore[arg-type]
            replay_buffer_kwargs=replay_buffer_kwargs,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            sde_support=False,
            supported_action_spaces=(spaces.Box,),
        )
        _check_settings(
            at_least_1={
                **{"batch_size": batch_size, "updates_per_batch": updates_per_batch},
                **{"n_target_steps": n_target_steps, "policy_delay": policy_delay},
            },
            not_negative={
                **{"learning_starts": learning_starts, "actor_learning_starts": actor_learning_starts},
                **{"target_policy_noise": target_policy_noise, "target_noise_clip": target_noise_clip},
                **{"saturation_penalty": saturation_penalty, "max_grad_norm": max_grad_norm},
            },
            shares={"gamma": gamma, "tau": tau},
        )
        self.critic_learning_rate = critic_learning_rate
        self.max_episode_steps = max_episode_steps
        self.tau = tau  # type: ignore[assignment]
        self.n_target_steps = n_target_steps
        self.updates_per_batch = updates_per_batch
        self.policy_delay = policy_delay
        self.actor_learning_starts = actor_learning_starts
        self.target_policy_noise = target_policy_noise
        self.target_noise_clip = target_noise_clip
        self.use_target_actor = use_target_actor
        self.max_grad_norm = max_grad_norm
        self.saturation_penalty = saturation_penalty
        self.stats_window_size = stats_window_size
        self.compile_networks = compile_networks
        self.mixed_precision = mixed_precision
        self._memory_state: tuple[np.ndarray, ...] | None = None
        self._is_inside_step = False
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        _check_actions(self.action_space)
        self.rng = np.random.default_rng(self.seed)
        if self.replay_buffer is None:
            self._add_replay_buffer()
        super()._setup_model()
        # On the CPU, so that every device sees the same noise and can take over the generator's state.
        self.torch_rng = torch.Generator().manual_seed(int(self.rng.integers(2**63)))
        critic_rate = self.learning_rate if self.critic_learning_rate is None else self.critic_learning_rate
        self.critic_lr_schedule = FloatSchedule(critic_rate)
        self.tau_schedule = FloatSchedule(self.tau)
        self.actor, self.critic = self.policy.actor, self.policy.critic
        self.actor_target, self.critic_target = self.policy.actor_target, self.policy.critic_target
        self._set_passes()

    def _set_passes(self) -> None:
        compiles = self.compile_networks and self.env is not None  # a model that only predicts has no such passes
        self._passes = PASSES.compiled(self.device) if compiles else PASSES

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed everything random anew: networks, environments, warm-up, the noise of the targets, and replay."""
        super().set_random_seed(seed)
        if seed is not None and hasattr(self, "torch_rng"):  # otherwise the model is being set up
            self.rng = np.random.default_rng(seed)
            self.replay_buffer.rng = np.random.default_rng(int(self.rng.integers(2**63)))
            self.torch_rng.manual_seed(int(self.rng.integers(2**63)))

    def _add_replay_buffer(self) -> None:
        self.replay_buffer = self._make_replay_buffer()
        if self.verbose >= 1 and self.env is not None:
            print(self.replay_buffer.memory_report())

    def _make_replay_buffer(self) -> EpisodeReplayBuffer:
        longest = self._longest_episode()
        if self.env is not None and self.buffer_size < longest:
            raise SettingError(f"buffer_size: got {self.buffer_size}; expected room for an episode of {longest} steps")
        make: Any = self.replay_buffer_class
        if not issubclass(make, EpisodeReplayBuffer):
            raise SettingError(
                f"replay_buffer_class: got {make.__name__}; expected EpisodeReplayBuffer or a kind of it"
            )
        buffer: EpisodeReplayBuffer = make(
            self.buffer_size if self.env is not None else 1,  # a model that only predicts replays nothing
            self.observation_space,
            self.action_space,
            self.device,
            n_envs=self.n_envs,
            **{
                "max_episode_steps": longest,
                "seed": int(self.rng.integers(2**63)),
                **self.replay_buffer_kwargs,
            },
        )
        return buffer

    def _longest_episode(self) -> int:
        """Steps of the longest episode, as given or as the environments' time limits have it."""
        if self.max_episode_steps is not None:
            return self.max_episode_steps
        if self.env is None:
            return 1
        # Gymnasium's TimeLimit has it; asking workers for their specification would pickle what made them.
        if not self.env.has_attr("_max_episode_steps"):
            raise SettingError("max_episode_steps: got None, and environments without TimeLimit; expected a number")
        self.max_episode_steps = max(self.env.get_attr("_max_episode_steps"))
        return self.max_episode_steps

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Go on with another environment; a model loaded without one gets its replay buffer with it."""
        had_none = self.env is None
        env = self._wrap_env(env, self.verbose)
        if had_none:
            self.n_envs = env.num_envs
            stored = None if self.action_noise is None else noise_to_json(self.action_noise)
            if stored is not None:
                self.action_noise = noise_from_json(stored, self.n_envs)
        super().set_env(env, force_reset)
        if had_none:
            self._add_replay_buffer()
            self._set_passes()

    # Collecting

    def _setup_learn(
        self, total_timesteps: int, callback: MaybeCallback = None, reset_num_timesteps: bool = True, *args: Any
    ) -> Any:
        if self._is_inside_step:
            # A callback or an interrupt ended learning inside a step, whose outcome is lost: episodes begin anew.
            self._last_obs, self._is_inside_step = None, False
        noise = self.action_noise if isinstance(self.action_noise, ExplorationNoise) else None
        if noise is not None and noise.n_envs != self.n_envs:
            raise SettingError(f"action_noise: got noise for {noise.n_envs} environments; expected {self.n_envs}")
        goes_on = not reset_num_timesteps and self._last_obs is not None
        noise_state = noise.state_dict() if noise is not None else {}
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args)
        if not goes_on:
            self.replay_buffer.forget_open_episodes()
            self._memory_state = None
        elif noise is not None:
            noise.load_state_dict(noise_state)  # the base class has put it back to the start of an episode
        if noise is not None and reset_num_timesteps:
            noise.update(1.0)
        return result

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Action of the actor, or a random one during warm-up; the memory sees the observation either way."""
        self._is_inside_step = True
        actions, state = self.policy.predict(
            self._last_obs,  # type: ignore[arg-type]
            self._memory_state,
            self._last_episode_starts,
        )
        scaled = self.policy.scale_action(actions)
        if self.num_timesteps < learning_starts:
            scaled = self.rng.uniform(-1.0, 1.0, size=scaled.shape).astype(np.float32)
        elif action_noise is not None:
            scaled = np.clip(scaled + action_noise().reshape(scaled.shape), -1.0, 1.0)
        scaled = scaled.astype(np.float32)
        # What the memory is told of the last action is the one that was taken.
        self._memory_state = (*state[:-1], scaled.reshape(1, n_envs, -1))
        return self.policy.unscale_action(scaled), scaled

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        self._last_episode_starts = dones
        self._is_inside_step = False

    def _on_step(self) -> None:
        if isinstance(self.action_noise, ExplorationNoise):
            self.action_noise.update(self._current_progress_remaining)

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Action and memory state; see :meth:`MemoryPolicy.predict`."""
        return self.policy.predict(observation, state, episode_start, deterministic)

    # Learning

    def batch_rewards(self, batch: EpisodeBatch) -> Tensor:
        """Rewards of a batch, shape (n_episodes, n_steps).

        The hook for agents that score episodes anew when they are replayed.
        """
        return batch.rewards

    def train(self, gradient_steps: int, batch_size: int = 32) -> None:
        """Update actor, critic and targets ``gradient_steps`` times on ``batch_size`` episodes each."""
        if self.replay_buffer.n_episodes == 0:
            self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
            return
        self.policy.set_training_mode(True)
        self._set_learning_rates()
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            rewards = self.batch_rewards(batch)
            for _ in range(self.updates_per_batch):
                self._update(batch, rewards)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _set_learning_rates(self) -> None:
        progress = self._current_progress_remaining
        rates = {"actor": self.lr_schedule(progress), "critic": self.critic_lr_schedule(progress)}
        for name, rate in rates.items():
            update_learning_rate(getattr(self, name).optimizer, rate)
            self.logger.record(f"train/{name}_learning_rate", rate)

    def _update(self, batch: EpisodeBatch, rewards: Tensor) -> None:
        self._n_updates += 1
        update_targets = self._n_updates % self.policy_delay == 0
        update_actor = update_targets and self._n_updates > self.actor_learning_starts
        measured, errors = self._agent_losses(batch, rewards, update_actor=update_actor)
        if update_actor:
            loss = measured["actor_loss"]
            if self.saturation_penalty > 0:
                loss = loss + self.saturation_penalty * measured["saturation"]
            self.actor.optimizer.zero_grad()
            torch.autograd.backward(loss, inputs=list(self.actor.parameters()))
        self.critic.optimizer.zero_grad()
        torch.autograd.backward(measured["critic_loss"])
        self._step(self.critic)
        if update_actor:
            self._step(self.actor)
        if update_targets:
            self._update_targets()
        if batch.weights is not None:
            self.replay_buffer.update_priorities(batch.indices, errors, batch.mask)
        self._log_update(measured)

    def _agent_losses(
        self, batch: EpisodeBatch, rewards: Tensor, *, update_actor: bool
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Losses by name with their graphs, and the size of the first critic's errors (n_episodes, n_steps)."""
        n_time = batch.actions.shape[1]
        seen = (batch.observations, batch.previous_actions, batch.burn_in)
        live_actions, measured = None, {}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision):
            if update_actor or not self.use_target_actor:
                with torch.set_grad_enabled(update_actor):
                    before_tanh = self._passes.act(self.actor, *seen)
                    live_actions = torch.tanh(before_tanh)
            with torch.no_grad():
                targets = self._targets(batch, rewards, live_actions)
            latents = self._passes.encode(self.critic, *seen)[:, :n_time]
            q_values = self._passes.values(self.critic, latents, batch.actions)
            if update_actor and live_actions is not None:
                # One pass serves both: the latents are the replayed ones, and only the actor takes this gradient, at
                # the critic before its step (Stable-Baselines3's TD3 takes it at the critic after it).
                live_values = self._passes.values(self.critic, latents.detach(), live_actions[:, :n_time])[0]
                measured["actor_loss"] = actor_loss(live_values, batch.mask)
                if self.saturation_penalty > 0:
                    measured["saturation"] = saturation(before_tanh[:, :n_time], batch.mask)
        measured["critic_loss"] = critic_loss(q_values, targets, batch.mask, batch.weights)
        measured["mean_value"] = masked_mean(q_values[0], batch.mask)
        return measured, (q_values[0] - targets).abs().detach()

    def _log_update(self, measured: dict[str, Tensor]) -> None:
        # One copy from the device: each of them waits for all that is under way there.
        numbers = torch.stack([value.detach() for value in measured.values()]).tolist()
        for name, number in zip(measured, numbers, strict=True):
            self.logger.record_mean(f"train/{name}", number)

    def _targets(self, batch: EpisodeBatch, rewards: Tensor, live_actions: Tensor | None) -> Tensor:
        """Targets of the critic, shape (n_episodes, n_steps)."""
        seen = (batch.observations, batch.previous_actions, batch.burn_in)
        actions = live_actions
        if self.use_target_actor or actions is None:
            actions = torch.tanh(self._passes.act(self.actor_target, *seen))
        if self.target_policy_noise > 0:
            noise = torch.randn(actions.shape, generator=self.torch_rng).to(actions.device)
            noise = (noise * self.target_policy_noise).clamp(-self.target_noise_clip, self.target_noise_clip)
            actions = (actions + noise).clamp(-1.0, 1.0)
        latents = self._passes.encode(self.critic_target, *seen)
        values = torch.stack(self._passes.values(self.critic_target, latents, actions)).amin(dim=0)
        return n_step_targets(
            rewards, values[:, 1:], batch.lengths, batch.terminated, gamma=self.gamma, n_steps=self.n_target_steps
        )

    def _step(self, part: MemoryActor | MemoryCritic) -> None:
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(part.parameters(), self.max_grad_norm)
        part.optimizer.step()

    def _update_targets(self) -> None:
        tau = self.tau_schedule(self._current_progress_remaining)
        pairs: list[tuple[torch.nn.Module, torch.nn.Module]] = [(self.critic, self.critic_target)]
        if self.use_target_actor:
            pairs.append((self.actor, self.actor_target))
        for online, target in pairs:
            polyak_update(online.parameters(), target.parameters(), tau)
            # Means that the online network's layers keep are no weights: the target takes them as they are.
            for own, value in zip(target.buffers(), online.buffers(), strict=True):
                own.copy_(value)

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Collect and learn for ``total_timesteps`` steps, as every Stable-Baselines3 algorithm does.

        Args:
            total_timesteps: Steps to take, over all environments.
            callback: Callback, or a list of them.
            log_interval: Episodes between two lines of the log.
            tb_log_name: Folder of the run within the TensorBoard log; None is the name of the class.
            reset_num_timesteps: Whether steps are counted from zero; otherwise learning goes on.
            progress_bar: Whether a progress bar is shown.
        """
        name = type(self).__name__ if tb_log_name is None else tb_log_name
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)


def _check_settings(*, at_least_1: dict[str, Any], not_negative: dict[str, Any], shares: dict[str, Any]) -> None:
    """Raise a ValueError that names the first number out of its range; functions, and None for no bound, pass."""
    for name, value in at_least_1.items():
        if not isinstance(value, int | np.integer) or value < 1:
            raise SettingError(f"{name}: got {value!r}; expected a whole number of at least 1")
    for name, value in not_negative.items():
        if value is not None and not (isinstance(value, float | int | np.number) and value >= 0):
            raise SettingError(f"{name}: got {value!r}; expected a number of at least 0")
    for name, value in shares.items():
        if not callable(value) and not (isinstance(value, float | int | np.number) and 0 <= value <= 1):
            raise SettingError(f"{name}: got {value!r}; expected a number between 0 and 1")


def _check_actions(space: spaces.Space[Any] | None) -> None:
    """Raise a ValueError unless every component of the actions is a float that can differ from another."""
    if space is None:
        return
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise SettingError(f"action_space: got {space}; expected a Box of floats")
    if not (space.low < space.high).all():
        raise SettingError("action_space: got a component with equal bounds; expected low below high in all of them")


class RDPG(RecurrentTD3):
    """Recurrent deterministic policy gradients: one critic, no policy delay, no target smoothing (Heess et al. 2015).

    Args:
        policy: As for :class:`RecurrentTD3`.
        env: As for :class:`RecurrentTD3`.
        learning_rate: Of the actor.
        kwargs: Everything else :class:`RecurrentTD3` takes.

    Example:
        >>> model = RDPG("MlpMemoryPolicy", "Pendulum-v1", seed=0, policy_kwargs={"memory_kwargs": {"hidden_size": 8}})
        >>> model.policy_delay, len(model.critic.heads)
        (1, 1)
    """

    def __init__(
        self,
        policy: str | type[MemoryPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        **kwargs: Any,
    ) -> None:
        policy_kwargs = {"n_critics": 1, **(kwargs.pop("policy_kwargs", None) or {})}
        kwargs = {"policy_delay": 1, "target_policy_noise": 0.0, **kwargs}
        super().__init__(policy, env, learning_rate, policy_kwargs=policy_kwargs, **kwargs)
