"""A batch of partial scans as Gymnasium's vector environment."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from adaptive_scan.envs.batch import Observations, ScanBatch, ScanSettings
from adaptive_scan.envs.single import check_render_mode
from adaptive_scan.micrographs import CropSource, MicrographDataset


class PartialScanVectorEnv(VectorEnv[Observations, np.ndarray, np.ndarray]):
    """N partial scans steered together, with one compiled call per step.

    Scans that end are started anew in the same step (``AutoresetMode.SAME_STEP``): the observation returned is then
    the new scan's, and the info holds ``final_obs`` and ``final_info`` of the old one in the layout of
    `gymnasium.vector.SyncVectorEnv`, with the masks ``_final_obs``, ``_final_info`` and, for each key, ``_key``.
    `PartialScanEnv` says what the info of a scan holds.

    Args:
        num_envs: Number of scans N.
        crops: Crops (n_crops, S, S), a crop source, micrographs, or None for procedural crops.
        render_mode: None or "rgb_array".
        **settings: See `ScanBatch`.

    Raises:
        TypeError: If ``crops`` is no source of crops.
        SettingError: If a setting has no meaning or does not fit the geometry.

    Example:
        >>> envs = PartialScanVectorEnv(3, geometry="quick48", completer=None)
        >>> observations, infos = envs.reset(seed=0)
        >>> for _ in range(9):
        ...     observations, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())
        >>> terminations, infos["final_info"]["positions"].shape
        (array([ True,  True,  True]), (3, 10, 10, 2))
    """

    metadata = {  # noqa: RUF012  gymnasium's own form
        "render_modes": ["rgb_array"],
        "render_fps": 8,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        crops: np.ndarray | CropSource | MicrographDataset | None = None,
        *,
        render_mode: str | None = None,
        **settings: Unpack[ScanSettings],
    ) -> None:
        check_render_mode(render_mode, ("rgb_array",))
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.batch = ScanBatch(num_envs, crops, rng=self.np_random, **settings)
        self.single_observation_space = self.batch.observation_space
        self.single_action_space = self.batch.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start the scans and measure their first segments.

        Args:
            seed: Seed of the crops drawn from now on, by all scans; None continues.
            options: {"crop_id": ids} chooses the crops, (n_started, id_width) integers; {"reset_mask": mask} starts
                only some of the scans, bool, shape (N,).

        Returns:
            The observations, and an info with the crops' ids.

        Raises:
            ValueError: If the crop ids or the mask have another shape, or an id names no crop.
        """
        super().reset(seed=seed)
        self.batch.rng = self.np_random
        chosen = {} if options is None else options
        mask = np.asarray(chosen.get("reset_mask", np.ones(self.num_envs, dtype=np.bool_)))
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            expected = f"({self.num_envs},), at least one True"
            raise ValueError(f"reset_mask: got {mask.dtype} of shape {mask.shape}; expected bool of shape {expected}")
        observations = self.batch.reset(np.flatnonzero(mask), crop_ids=chosen.get("crop_id"))
        return observations, self._crop_info(mask)

    def step(self, actions: np.ndarray) -> tuple[Observations, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Measure the next segment of every scan; scans that end are started anew.

        Args:
            actions: Shape (N, n_components); every finite one is valid.

        Returns:
            Observations, rewards, terminations, truncations (all False) and the info.

        Raises:
            ValueError: If the shape is another, or an action is not finite; the message names its index.
            ResetNeeded: If the scans were never started.
        """
        step = self.batch.step(actions)
        truncations = np.zeros(self.num_envs, dtype=np.bool_)
        if not step.final:
            return step.observations, step.rewards, step.ended, truncations, {}
        infos = {
            "final_obs": _rows_as_objects(step.observations, step.ended),
            "_final_obs": step.ended.copy(),
            "final_info": _spread(step.final, step.ended),
            "_final_info": step.ended.copy(),
        }
        observations = self.batch.reset(np.flatnonzero(step.ended))
        infos.update(self._crop_info(step.ended))
        return observations, step.rewards, step.ended, truncations, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture of each scan, RGB uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(self.batch.frame(scan) for scan in range(self.num_envs))

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on; see `ScanBatch.get_state`."""
        return self.batch.get_state()

    def set_state(self, state: dict[str, Any]) -> Observations:
        """Continue where `get_state` was called, and return the current observations."""
        self.batch.rng = self.np_random
        self.batch.set_state(state)
        return self.batch.observations()

    def _crop_info(self, mask: np.ndarray) -> dict[str, Any]:
        return {"crop_id": np.where(mask[:, None], self.batch.crop_ids, 0), "_crop_id": mask.copy()}


def _rows_as_objects(observations: Observations, mask: np.ndarray) -> np.ndarray:
    """Observations of the scans in the mask, one dictionary each, in an object array with None elsewhere."""
    rows = np.full(len(mask), None, dtype=object)
    names = tuple(observations)
    columns = zip(*observations.values(), strict=True)
    for scan, row in enumerate(columns):
        if mask[scan]:
            rows[scan] = dict(zip(names, row, strict=True))
    return rows


def _spread(final: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of the ended scans put at their scans' places, zeros elsewhere, with a mask ``_name`` for each name."""
    spread = {}
    for name, rows in final.items():
        if len(rows) == len(mask):
            spread[name] = rows
        else:
            spread[name] = np.zeros((len(mask), *rows.shape[1:]), dtype=rows.dtype)
            spread[name][mask] = rows
        spread[f"_{name}"] = mask.copy()
    return spread
