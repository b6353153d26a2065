"""A batch of partial scans as Stable-Baselines3's vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from numpy.typing import ArrayLike
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from adaptive_scan.envs.batch import Observations, ScanBatch, ScanSettings
from adaptive_scan.envs.single import check_render_mode
from adaptive_scan.micrographs import CropSource, MicrographDataset


class PartialScanVecEnv(VecEnv):
    """N partial scans as an SB3 `VecEnv`: any SB3 algorithm trains on the batch itself.

    Infos are empty but at the end of a scan, where they hold what `PartialScanEnv` returns there together with
    ``terminal_observation`` and ``TimeLimit.truncated`` (False: a scan ends by itself).

    Args:
        num_envs: Number of scans N.
        crops: Crops (n_crops, S, S), a crop source, micrographs, or None for procedural crops.
        render_mode: None or "rgb_array".
        **settings: See `ScanBatch`.

    Raises:
        TypeError: If ``crops`` is no source of crops.
        SettingError: If a setting has no meaning or does not fit the geometry.

    Example:
        >>> from stable_baselines3 import PPO
        >>> envs = PartialScanVecEnv(4, geometry="quick48", completer=None)
        >>> model = PPO("MultiInputPolicy", envs, n_steps=9, batch_size=36, n_epochs=1, device="cpu")
        >>> model.learn(36).num_timesteps
        36
    """

    def __init__(
        self,
        num_envs: int = 1,
        crops: np.ndarray | CropSource | MicrographDataset | None = None,
        *,
        render_mode: str | None = None,
        **settings: Unpack[ScanSettings],
    ) -> None:
        check_render_mode(render_mode, ("rgb_array",))
        self.render_mode = render_mode
        rng, _ = seeding.np_random()
        self._pending_actions: np.ndarray | None = None
        self.batch = ScanBatch(num_envs, crops, rng=rng, **settings)
        super().__init__(num_envs, self.batch.observation_space, self.batch.action_space)

    def reset(self) -> Observations:
        """Start all scans; `seed` and `set_options` ({"crop_id": id} for each scan) count once.

        Returns:
            The observations.

        Raises:
            ValueError: If only some scans are given a crop id, or one names no crop.
        """
        if self._seeds[0] is not None:
            self.batch.rng, _ = seeding.np_random(self._seeds[0])
        observations = self.batch.reset(crop_ids=self._chosen_crop_ids())
        self.reset_infos = [{"crop_id": crop_id} for crop_id in self.batch.crop_ids]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Take note of the actions, shape (N, n_components), for `step_wait`."""
        self._pending_actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Measure the next segment of every scan; scans that end are started anew.

        Returns:
            Observations, rewards (float32), dones and a list of infos.

        Raises:
            ValueError: If the actions have another shape or are not finite; the message names the index.
            ResetNeeded: If the scans were never started.
            RuntimeError: If `step_async` was not called before.
        """
        if self._pending_actions is None:
            raise RuntimeError("step_wait was called without actions; expected a call of step_async before")
        actions, self._pending_actions = self._pending_actions, None
        step = self.batch.step(actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        observations = step.observations
        if step.final:
            ended = np.flatnonzero(step.ended)
            rows = _rows(step.final)
            last = _rows({name: array[ended] for name, array in observations.items()})
            observations = self.batch.reset(ended)
            crop_ids = self.batch.crop_ids
            for scan, row, seen in zip(ended.tolist(), rows, last, strict=True):
                infos[scan] = {**row, "terminal_observation": seen, "TimeLimit.truncated": False}
                self.reset_infos[scan] = {"crop_id": crop_ids[scan]}
        return observations, step.rewards.astype(np.float32), step.ended, infos

    def close(self) -> None:
        """Nothing is open."""

    def get_images(self) -> Sequence[np.ndarray | None]:
        """A picture of each scan, RGB uint8, or None for each without a render mode."""
        if self.render_mode is None:
            return [None] * self.num_envs
        return [self.batch.frame(scan) for scan in range(self.num_envs)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the bridge or of its batch, which all scans share, once for each index.

        Raises:
            AttributeError: If neither has it.
        """
        holder = self if attr_name in self.__dict__ else self.batch
        return [getattr(holder, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the batch, for all scans at once.

        Raises:
            ValueError: If only some of the scans are meant: they share one batch.
        """
        if sorted(self._get_indices(indices)) != list(range(self.num_envs)):
            raise ValueError(f"indices: got {indices}; expected None, all scans sharing their settings")
        setattr(self.batch, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the batch once, and return its result once for each index.

        Raises:
            AttributeError: If the batch has no such method.
        """
        result = getattr(self.batch, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """False for each index: a batch has no wrappers."""
        return [False for _ in self._get_indices(indices)]

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on; see `ScanBatch.get_state`."""
        return self.batch.get_state()

    def set_state(self, state: dict[str, Any]) -> Observations:
        """Continue where `get_state` was called, and return the current observations."""
        self.batch.set_state(state)
        return self.batch.observations()

    def _chosen_crop_ids(self) -> ArrayLike | None:
        chosen = [options["crop_id"] for options in self._options if "crop_id" in options]
        if chosen and len(chosen) < self.num_envs:
            raise ValueError(f"{len(chosen)} scans are given a crop_id; expected none or all {self.num_envs}")
        return chosen or None


def _rows(columns: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Columns of equal length as one dictionary for each row, numbers as Python's."""
    names = tuple(columns)
    values = [array.tolist() if array.ndim == 1 else array for array in columns.values()]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
