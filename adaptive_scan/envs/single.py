"""One partial scan as a Gymnasium environment."""

from __future__ import annotations

from typing import Any, Unpack

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from adaptive_scan.envs.batch import Observations, ScanBatch, ScanSettings
from adaptive_scan.envs.frames import Window
from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import CropSource, MicrographDataset

RENDER_MODES = ("human", "rgb_array")
_NUMBERS = ("loss", "rmse", "coverage", "path_length", "dwell_time", "predicted_rmse")


class PartialScanEnv(gym.Env[Observations, np.ndarray]):
    """Steering one partial scan of one crop, segment by segment: the batch of scans with N = 1.

    A finite-horizon POMDP (Ede, arXiv 2004.02786): the observation shows what the last segment measured, the action
    is the direction of the next one, and after T - 1 steps the reward is minus the loss of the completion. See
    `ScanBatch` for the dynamics, the rewards and every setting.

    The info of `reset` holds ``crop_id``. That of the last step holds ``crop_id`` (id_width,), ``headings`` (T,) [rad],
    the nominal ``positions`` and the ``true_positions`` (T, P, 2) [px], the measured ``values`` (T, P), ``coverage``,
    ``path_length`` [px], with free spacing ``spacings`` (T,) [px], with an instrument that is not ideal the
    ``instrument_key`` of its faults, with free dwell times ``n_segments``, ``dwell`` (T,) [s] and ``dwell_time`` [s]
    (see `DwellControl`; arrays are then padded with the last position and value), with ``stop_below`` ``n_segments``,
    ``n_positions``, ``predicted_rmse`` and ``stopped_early`` (padded likewise), and with a completer
    ``partial_scan`` (2, S, S), ``completion`` and ``target`` (1, S, S), ``loss`` and ``rmse``.

    Args:
        crops: Crops (n_crops, S, S), a crop source, micrographs, or None for procedural crops.
        render_mode: None, "rgb_array" or "human".
        **settings: See `ScanBatch`.

    Raises:
        TypeError: If ``crops`` is no source of crops.
        SettingError: If a setting has no meaning or does not fit the geometry.

    Example:
        >>> env = PartialScanEnv(geometry="quick48", completer=None)
        >>> observation, info = env.reset(seed=0, options={"crop_id": 3})
        >>> observation["progress"], info["crop_id"]
        (array([0.1], dtype=float32), array([3]))
        >>> observation, reward, terminated, truncated, info = env.step(np.array([1.0, 0.0]))
        >>> observation["heading"]
        array([1., 0.], dtype=float32)
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 8}  # noqa: RUF012  gymnasium's own form

    def __init__(
        self,
        crops: np.ndarray | CropSource | MicrographDataset | None = None,
        *,
        render_mode: str | None = None,
        **settings: Unpack[ScanSettings],
    ) -> None:
        check_render_mode(render_mode, RENDER_MODES)
        self.render_mode = render_mode
        self.batch = ScanBatch(1, crops, rng=self.np_random, **settings)
        self.observation_space: gym.Space[Any] = self.batch.observation_space
        self.action_space = self.batch.action_space
        self._window: Window | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start a scan and measure its first segment.

        Args:
            seed: Seed of the crops drawn from now on; None continues.
            options: {"crop_id": id} chooses the crop, (id_width,) integers.

        Returns:
            The observation, and an info with the crop's id.

        Raises:
            ValueError: If the crop id has another shape or names no crop.
        """
        super().reset(seed=seed)
        self.batch.rng = self.np_random
        observations = self.batch.reset(crop_ids=None if options is None else options.get("crop_id"))
        if self.render_mode == "human":
            self._show()
        return _first(observations), {"crop_id": self.batch.crop_ids[0]}

    def step(self, action: np.ndarray) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Measure the next segment.

        Args:
            action: Shape (n_components,); every finite one is valid.

        Returns:
            Observation, reward, whether the scan has ended, False, and the info, empty but at the end.

        Raises:
            ValueError: If the action has another shape or is not finite.
            ResetNeeded: If the scan has ended or was never started.
        """
        chosen = np.asarray(action)
        if chosen.shape != self.action_space.shape:
            raise ValueError(f"action has shape {chosen.shape}; expected {self.action_space.shape}")
        step = self.batch.step(chosen[None])
        if self.render_mode == "human":
            self._show()
        info = {name: float(rows[0]) if name in _NUMBERS else rows[0] for name, rows in step.final.items()}
        return _first(step.observations), float(step.rewards[0]), bool(step.ended[0]), False, info

    def render(self) -> np.ndarray | None:
        """The path so far over the crop, the measured values and the completion.

        Returns:
            RGB, uint8, shape (height, width, 3), in the mode "rgb_array"; None in the others, "human" showing its
            window by itself at each step.

        Raises:
            ResetNeeded: If the scan was never started.
        """
        if self.render_mode is None:
            gym.logger.warn("render was called without a render mode; expected render_mode='rgb_array' or 'human'")
            return None
        if not self.batch.n_measured[0]:
            raise ResetNeeded("the scan was never started; expected a call of reset before render")
        if self.render_mode == "human":
            self._show()
            return None
        return self.batch.frame(0)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on; see `ScanBatch.get_state`."""
        return self.batch.get_state()

    def set_state(self, state: dict[str, Any]) -> Observations:
        """Continue where `get_state` was called, and return the current observation."""
        self.batch.rng = self.np_random
        self.batch.set_state(state)
        return _first(self.batch.observations())

    def _show(self) -> None:
        if self._window is None:
            self._window = Window("partial scan")
        self._window.show(self.batch.frame(0))


def check_render_mode(render_mode: str | None, modes: tuple[str, ...]) -> None:
    """Refuse a render mode that is not None or one of the modes.

    Raises:
        SettingError: If it is another one.

    Example:
        >>> check_render_mode("rgb_array", ("rgb_array",))
    """
    if render_mode is not None and render_mode not in modes:
        raise SettingError(f"render_mode: got {render_mode!r}; expected None or one of {list(modes)}")


def _first(observations: Observations) -> Observations:
    return {name: rows[0] for name, rows in observations.items()}
