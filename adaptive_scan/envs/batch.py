"""The dynamics of partial scanning for a batch of scans: the one implementation behind every environment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import ArrayLike

from adaptive_scan.acquisition import Acquisition, Instrument, as_instrument
from adaptive_scan.acquisition.instrument import InstrumentState
from adaptive_scan.envs.crops import as_crop_source
from adaptive_scan.envs.dwell import DwellControl, DwellState
from adaptive_scan.envs.early_stop import EarlyStop
from adaptive_scan.envs.frames import draw_frame
from adaptive_scan.envs.judge import Judge, Judgement
from adaptive_scan.envs.kernels import (
    ScanState,
    SegmentObservation,
    Steering,
    advance_scans,
    begin_scans,
    observe_scans,
    sample_bank,
)
from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import ArrayCrops, CropSource, MicrographDataset
from adaptive_scan.scans import PRESETS, ScanGeometry, coverage, partial_scans

if TYPE_CHECKING:
    from adaptive_scan.generators import Completer

RewardKind = Literal["final", "dense"]
ActionKind = Literal["direction", "angle"]
Observations = dict[str, np.ndarray]


class ScanSettings(TypedDict, total=False):
    """The settings that every environment takes as keywords; `ScanBatch` documents them.

    Example:
        >>> settings = ScanSettings(geometry="quick48", completer=None, action_kind="angle")
        >>> ScanBatch(2, rng=np.random.default_rng(0), **settings).action_space.shape
        (1,)
    """

    geometry: ScanGeometry | str
    completer: str | Completer | None
    acquisition: Instrument | Acquisition | str | None
    dwell: DwellControl | None
    reward: RewardKind
    edge_penalty: float
    observe_image: bool
    blur_targets: bool
    action_kind: ActionKind
    reference_headings: ArrayLike | None
    reference_spacings: ArrayLike | None
    stop_below: float | None


@dataclass(frozen=True)
class BatchStep:
    """What one step of a batch of N scans brought.

    Attributes:
        observations: By name, arrays of N rows.
        rewards: float64, shape (N,).
        ended: Which scans this step ended, bool, shape (N,).
        final: What is known of the ended scans, by name, with one row for each of them in their order; empty when
            none ended.

    Example:
        >>> batch = ScanBatch(2, rng=np.random.default_rng(0), geometry="quick48", completer=None)
        >>> observations = batch.reset()
        >>> step = batch.step(np.ones((2, 2)))
        >>> step.rewards.shape, step.ended.tolist(), sorted(step.final)
        ((2,), [False, False], [])
    """

    observations: Observations
    rewards: np.ndarray
    ended: np.ndarray
    final: dict[str, np.ndarray]


class ScanBatch:
    """N partial scans in progress, moved together by one compiled call per step.

    A reset measures the first segment of T; each step measures the next one, with heading atan2(a1, a0) for the
    action's direction (a0, a1); T - 1 steps end a scan. The reward is 0 until then and minus the completion's loss,
    10 mean((completion - target)^2), at the end (Ede, arXiv 2004.02786), or, "dense", the drop of that loss at every
    step; and ``edge_penalty`` less for each segment whose last nominal position lies outside the field.

    Args:
        n_scans: Number of scans N.
        crops: Crops (n_crops, S, S), a crop source, micrographs, or None for procedural crops.
        rng: Source of random numbers, for the crops drawn and for the keys of the instrument's faults.
        geometry: The scan's geometry or a preset's name.
        completer: Name of a classical completer, a callable on tensors, or None for the dynamics alone: then nothing
            is completed and the final reward is 0.
        acquisition: The instrument, a preset's name, or a simple `Acquisition`; None for the ideal instrument.
        dwell: Lets the action choose the dwell time of each segment within bounds and a budget, by one more component
            at its end. A scan then ends when its budget is spent, after at most T segments. None has the instrument's
            dwell time throughout.
        reward: "final" or "dense".
        edge_penalty: Taken from the reward at each segment that ends outside the field.
        observe_image: Whether the observation holds the partial scan.
        blur_targets: Whether completions are judged by the blurred crop or by the crop itself.
        action_kind: "direction", two components, of which the zero vector keeps the heading; or "angle", one
            component times pi. Where the geometry leaves the spacing free, a last component sets it, geometrically
            between its bounds.
        reference_headings: Headings of a static scan [rad], shape (T,): actions are then relative to its next
            heading, so that a zero action follows it.
        reference_spacings: Spacings of a static scan [px], shape (T,), within the geometry's bounds: what a zero
            spacing component asks for, in place of the geometry's first spacing.
        stop_below: A scan also ends with the segment, the second at the earliest, after which the root-mean-square
            error that the completer predicts for itself, on [0, 1], is at most this. The completer then needs a method
            ``predicted_rmse`` of partial scans, as `adaptive_scan.generators.uncertainty.CompleterWithError` has. None
            predicts nothing and ends no scan early.

    Raises:
        TypeError: If ``crops`` is no source of crops.
        SettingError: If a setting has no meaning or does not fit the geometry.

    Example:
        >>> batch = ScanBatch(4, rng=np.random.default_rng(0), geometry="quick48", completer=None)
        >>> batch.reset()["measured"].shape
        (4, 10)
        >>> batch.step(np.zeros((4, 2))).ended
        array([False, False, False, False])
    """

    def __init__(
        self,
        n_scans: int,
        crops: np.ndarray | CropSource | MicrographDataset | None = None,
        *,
        rng: np.random.Generator,
        geometry: ScanGeometry | str = "ede96",
        completer: str | Completer | None = "nearest",
        acquisition: Instrument | Acquisition | str | None = None,
        dwell: DwellControl | None = None,
        reward: RewardKind = "final",
        edge_penalty: float = 0.05,
        observe_image: bool = False,
        blur_targets: bool = True,
        action_kind: ActionKind = "direction",
        reference_headings: ArrayLike | None = None,
        reference_spacings: ArrayLike | None = None,
        stop_below: float | None = None,
    ) -> None:
        _check_settings(n_scans, reward, edge_penalty, has_completer=completer is not None)
        self.n_scans = n_scans
        self.rng = rng
        self.geometry = resolve_geometry(geometry)
        self.source = as_crop_source(crops, self.geometry.image_size)
        self.judge = None if completer is None else Judge(completer, blur_targets=blur_targets)
        self.acquisition = as_instrument(acquisition)
        self.reward = reward
        self.edge_penalty = float(edge_penalty)
        self.observe_image = observe_image
        self.steering = _steering(self.geometry, action_kind, reference_headings, reference_spacings)
        self.observation_space = _observation_space(self.geometry, self.acquisition, observe_image)
        self.action_space = _action_space(self.geometry, action_kind, has_free_dwell=dwell is not None)
        self._indexes_bank = isinstance(self.source, ArrayCrops) and self.source.id_width == 1
        self._crop_ids = np.zeros((n_scans, self.source.id_width), dtype=np.int64)
        self._losses = np.zeros(n_scans)
        self._state = self._empty_state()
        self._actions_shape = (n_scans, *self.action_space.shape)
        self._dwell = None if dwell is None else DwellState(dwell, n_scans, self.geometry)
        self._faults = None if self.acquisition.is_ideal else _Faults(self.acquisition, self._state.positions)
        self._early_stop = None if stop_below is None else EarlyStop(self.judge, stop_below, n_scans)

    @property
    def crop_ids(self) -> np.ndarray:
        """Ids of the crops being scanned, int64, shape (n_scans, id_width)."""
        return self._crop_ids.copy()

    @property
    def has_free_dwell(self) -> bool:
        """Whether the action chooses the dwell times, so that scans may end before their last segment."""
        return self._dwell is not None

    @property
    def has_fixed_dose(self) -> bool:
        """Whether every scan has all T segments at the instrument's own dwell time, and so the same dose."""
        return self._dwell is None and self._early_stop is None

    @property
    def n_measured(self) -> np.ndarray:
        """Number of segments each scan has measured, int64, shape (n_scans,); 0 before the first reset."""
        return self._state.steps.copy()

    def reset(self, which: np.ndarray | None = None, *, crop_ids: ArrayLike | None = None) -> Observations:
        """Start scans anew, each with its first segment.

        Args:
            which: Indices of the scans to start, int, shape (n_started,); None for all.
            crop_ids: Ids of their crops, shape (n_started, id_width); drawn at random when None.

        Returns:
            Observations of all scans.

        Raises:
            ValueError: If the crop ids have another shape or name no crop.
            ResetNeeded: If other scans have never been started.
        """
        started = np.arange(self.n_scans) if which is None else np.asarray(which, dtype=np.int64)
        if crop_ids is None:
            ids = self.source.draw(len(started), self.rng)
        else:
            ids = self._checked_crop_ids(crop_ids, len(started))
        self._put_crops(started, ids)
        steering, geometry = self.steering, self.geometry
        heading = steering.reference_headings[0] if steering.relative else geometry.first_heading
        begin_scans(started, geometry.start_position, heading, steering.reference_spacings[0], self._state)
        if self._dwell is not None:
            self._dwell.begin(started)
        if self._early_stop is not None:
            self._early_stop.begin(started)
        if self._faults is not None:
            begun = self.acquisition.begin(len(started), self.rng)
            self._measure_with_instrument(started, self._faults, begun)
            self._faults.state.put(started, begun)
        if self.reward == "dense":
            _, judgement = self._judge(started)
            self._losses[started] = judgement.loss
        return self.observations()

    def step(self, actions: ArrayLike) -> BatchStep:
        """Measure the next segment of every scan.

        Args:
            actions: One action for each scan, shape (n_scans, n_components); every finite one is valid.

        Returns:
            Observations, rewards, and what is known of the scans that ended. These stay ended until they are reset.

        Raises:
            ValueError: If the shape is another or an action is not finite; nothing has moved then.
            ResetNeeded: If a scan has ended or was never started.
        """
        chosen = np.ascontiguousarray(actions, dtype=np.float64)
        if chosen.shape != self._actions_shape:
            raise ValueError(f"actions have shape {chosen.shape}; expected {self._actions_shape}")
        state = self._state
        observation = self._empty_observation()
        rewards = np.empty(self.n_scans)
        steering = chosen if self.has_fixed_dose else self._checked_steering(chosen)
        refused = advance_scans(steering, self.steering, self.edge_penalty, state, observation, rewards)
        if refused >= 0:
            self._refuse(refused, chosen)
        if self._dwell is not None:
            self._dwell.spend(chosen[:, -1], state.steps - 1)
        if self._faults is not None:
            self._measure_with_instrument(np.arange(self.n_scans), self._faults, self._faults.state)
            observation.measured[:] = state.values[np.arange(self.n_scans), state.steps - 1]
        if self._early_stop is not None:
            self._early_stop.predict(self.partial_scans())
        ended = self._has_ended()
        final = self._reward_and_final(ended, rewards)
        return BatchStep(self._named(observation), rewards, ended, final)

    def observations(self) -> Observations:
        """What every scan's last segment showed, as `reset` and `step` return it.

        Raises:
            ResetNeeded: If a scan was never started.
        """
        if not self._state.steps.all():
            raise ResetNeeded("a scan was never started; expected a call of reset first")
        observation = self._empty_observation()
        observe_scans(self._state, observation)
        return self._named(observation)

    def partial_scans(self, which: np.ndarray | None = None) -> np.ndarray:
        """Partial scans measured so far.

        Args:
            which: Indices of the scans; None for all.

        Returns:
            float32, shape (n_scans, 2, S, S).
        """
        chosen = np.arange(self.n_scans) if which is None else which
        steps, size = self._state.steps[chosen], self.geometry.image_size
        scans = np.empty((len(chosen), 2, size, size), dtype=np.float32)
        for n_measured in np.unique(steps):
            same = chosen[steps == n_measured]
            values, positions = self._state.values[same, :n_measured], self._state.positions[same, :n_measured]
            if len(same) == len(chosen):
                return partial_scans(values, positions, size)
            scans[steps == n_measured] = partial_scans(values, positions, size)
        return scans

    def frame(self, scan: int) -> np.ndarray:
        """A picture of one scan: its path over the crop, what it measured, and the completion if there is one.

        Args:
            scan: Index of the scan.

        Returns:
            RGB, uint8, shape (height, width, 3).
        """
        which = np.array([scan])
        measured = self.partial_scans(which)
        completion = None if self.judge is None else self.judge.complete(measured)[0, 0]
        path = self._state.positions[scan, : self._state.steps[scan]]
        return draw_frame(self._crops(which)[0], path, measured[0], completion)

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on, as plain values and arrays; crops are named by their ids.

        Returns:
            The state: copies, which `set_state` takes back, to the last bit.
        """
        return {
            "rng": self.rng.bit_generator.state,
            **{name: array.copy() for name, array in self._saved_arrays().items()},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `get_state` was called, on this batch or on another one with the same settings.

        Args:
            state: What `get_state` returned; arrays may have become lists.

        Raises:
            ValueError: If an array has another shape than this batch's.
        """
        own = self._saved_arrays()
        if missing := sorted(own.keys() - state.keys()):
            raise ValueError(f"state lacks {missing}; expected the state of a batch with the same instrument")
        saved = {name: np.asarray(state[name]) for name in own}
        for name, array in saved.items():
            if array.shape != own[name].shape:
                raise ValueError(f"state's {name} have shape {array.shape}; expected {own[name].shape}")
        started = np.flatnonzero(saved["steps"])
        self._put_crops(started, self._checked_crop_ids(saved["crop_ids"][started], len(started)))
        for name, array in saved.items():
            own[name][:] = array
        self.rng.bit_generator.state = state["rng"]

    def _reward_and_final(self, ended: np.ndarray, rewards: np.ndarray) -> dict[str, np.ndarray]:
        """Add the losses to the rewards and return what is known of the scans that ended."""
        which = np.flatnonzero(ended)
        if self.reward == "dense":
            scans, judgement = self._judge(np.arange(self.n_scans))
            rewards += self._losses - judgement.loss
            self._losses[:] = judgement.loss
            if len(which) == 0:
                return {}
            judged = {name: array[which] for name, array in judgement._asdict().items()}
            return {**self._final(which), "partial_scan": scans[which], **judged}
        if len(which) == 0:
            return {}
        if self.judge is None:
            return self._final(which)
        scans, judgement = self._judge(which)
        rewards[which] -= judgement.loss
        return {**self._final(which), "partial_scan": scans, **judgement._asdict()}

    def _final(self, which: np.ndarray) -> dict[str, np.ndarray]:
        """What is known of ended scans without completing them."""
        state = self._state
        positions, spacings = state.positions[which], state.spacings[which]
        final = {
            "crop_id": self._crop_ids[which],
            "headings": state.headings[which],
            "positions": positions,
            "true_positions": positions if self._faults is None else self._faults.true_positions[which],
            "values": state.values[which],
            "coverage": coverage(positions, self.geometry.image_size),
            # Every position is followed by a step of its segment's spacing, the scan's last one excepted.
            "path_length": self.geometry.n_positions * spacings.sum(axis=1) - spacings[:, -1],
        }
        if self.geometry.has_free_spacing:
            final["spacings"] = spacings
        if not self.has_fixed_dose:
            final = self._padded(final, which)
        if self._faults is not None:
            final["instrument_key"] = self._faults.state.keys[which]
        return final

    def _has_ended(self) -> np.ndarray:
        """Which scans have measured their last segment, bool, shape (n_scans,)."""
        ended = self._is_complete()
        return ended if self._early_stop is None else ended | self._early_stop.is_reached

    def _is_complete(self) -> np.ndarray:
        """Which scans cannot measure another segment, bool, shape (n_scans,)."""
        ended: np.ndarray = self._state.steps == self.geometry.n_segments
        return ended if self._dwell is None else ended | (self._dwell.is_spent & (self._state.steps > 0))

    def _checked_steering(self, actions: np.ndarray) -> np.ndarray:
        """The components that steer, where scans may end early; none may come after the end.

        Nor may a dwell time be asked for that is not finite, which the compiled step does not see.
        """
        refused = np.flatnonzero(self._has_ended() | ~np.isfinite(actions[:, -1]))
        if len(refused):
            self._refuse(int(refused[0]), actions)
        return actions if self._dwell is None else np.ascontiguousarray(actions[:, :-1])

    def _padded(self, final: dict[str, np.ndarray], which: np.ndarray) -> dict[str, np.ndarray]:
        """What is known of ended scans, up to T segments: the last position, value and heading repeated, no length."""
        steps, n_segments = self._state.steps[which], self.geometry.n_segments
        padding = np.arange(n_segments) >= steps[:, None]
        last = np.arange(len(which)), steps - 1
        for name in ("positions", "true_positions", "values"):
            array = final[name].copy()
            ends = np.broadcast_to(array[last][:, None, -1:], array.shape)
            array[padding] = ends[padding]
            final[name] = array
        final["headings"] = np.where(padding, final["headings"][last][:, None], final["headings"])
        spacings = np.where(padding, 0.0, self._state.spacings[which])
        if "spacings" in final:
            final["spacings"] = spacings
        final["path_length"] = self.geometry.n_positions * spacings.sum(axis=1) - spacings[last]
        final["coverage"] = coverage(final["positions"], self.geometry.image_size)
        final["n_segments"] = steps
        if self._dwell is not None:
            final["dwell"], final["dwell_time"] = self._dwell.dwell[which], self._dwell.spent[which]
        if self._early_stop is not None:
            final["n_positions"] = steps * self.geometry.n_positions
            final["predicted_rmse"] = self._early_stop.predicted[which]
            final["stopped_early"] = (self._early_stop.is_reached & ~self._is_complete())[which]
        return final

    def _judge(self, which: np.ndarray) -> tuple[np.ndarray, Judgement]:
        """Partial scans and their judgement; only called where there is a completer."""
        if self.judge is None:
            raise RuntimeError("judge: got None; expected a completer where scans are judged")
        scans = self.partial_scans(which)
        return scans, self.judge(scans, self._crops(which))

    def _measure_with_instrument(self, which: np.ndarray, faults: _Faults, begun: InstrumentState) -> None:
        """Replace the ideal values of the last segments by what the instrument makes of them."""
        state = self._state
        last = state.steps[which] - 1

        def read(positions: np.ndarray) -> np.ndarray:
            return sample_bank(state.bank, state.crop_index[which], positions)

        dwell = None if self._dwell is None else self._dwell.dwell[which, last][:, None]
        reading = self.acquisition.measure(state.positions[which, last], read, begun, dwell)
        state.values[which, last] = reading.values
        faults.true_positions[which, last] = reading.positions

    def _saved_arrays(self) -> dict[str, np.ndarray]:
        """The arrays themselves that a state consists of; crops are taken from the source again, by their ids."""
        faults = {} if self._faults is None else self._faults.arrays()
        dwell = {} if self._dwell is None else {"dwell": self._dwell.dwell, "dwell_time": self._dwell.spent}
        predicted = {} if self._early_stop is None else {"predicted_rmse": self._early_stop.predicted}
        own = {name: getattr(self._state, name) for name in _SAVED_ARRAYS}
        return {"crop_ids": self._crop_ids, "losses": self._losses, **own, **dwell, **predicted, **faults}

    def _refuse(self, scan: int, actions: np.ndarray) -> None:
        """Raise what is wrong with one scan's action."""
        if self._state.steps[scan] == 0 or self._has_ended()[scan]:
            raise ResetNeeded(f"scan {scan} has ended or was never started; expected a call of reset first")
        raise ValueError(f"action of scan {scan}: got {actions[scan].tolist()}; expected finite numbers")

    def _put_crops(self, which: np.ndarray, ids: np.ndarray) -> None:
        """Give scans the crops of these ids."""
        if self._indexes_bank:
            self._state.crop_index[which] = ids[:, 0]
        elif len(which) > 0:
            self._state.bank[which] = self.source.take(ids)
        self._crop_ids[which] = ids

    def _crops(self, which: np.ndarray) -> np.ndarray:
        """A copy of the crops being scanned, shape (n_scans, S, S)."""
        crops: np.ndarray = self._state.bank[self._state.crop_index[which]]
        return crops

    def _checked_crop_ids(self, crop_ids: ArrayLike, n_crops: int) -> np.ndarray:
        ids = np.asarray(crop_ids)
        expected = (n_crops, self.source.id_width)
        if ids.size != n_crops * self.source.id_width or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"crop ids: got {ids.dtype} of shape {ids.shape}; expected integers of shape {expected}")
        ids = ids.reshape(expected).astype(np.int64)
        if self._indexes_bank and not ((ids >= 0) & (ids < len(self._state.bank))).all():
            raise ValueError(
                f"crop ids: got some in [{ids.min()}, {ids.max()}]; expected [0, {len(self._state.bank) - 1}]"
            )
        return ids

    def _empty_state(self) -> ScanState:
        geometry, n_scans = self.geometry, self.n_scans
        size, shape = geometry.image_size, (n_scans, geometry.n_segments, geometry.n_positions)
        if self._indexes_bank and isinstance(self.source, ArrayCrops):
            bank, crop_index = self.source.crops, np.zeros(n_scans, dtype=np.int64)
        else:
            bank, crop_index = np.zeros((n_scans, size, size), dtype=np.float32), np.arange(n_scans)
        return ScanState(
            bank=bank,
            crop_index=crop_index,
            steps=np.zeros(n_scans, dtype=np.int64),
            next_start=np.zeros((n_scans, 2)),
            headings=np.zeros(shape[:2]),
            spacings=np.zeros(shape[:2]),
            positions=np.zeros((*shape, 2), dtype=np.float32),
            values=np.zeros(shape, dtype=np.float32),
        )

    def _empty_observation(self) -> SegmentObservation:
        n_scans = self.n_scans
        return SegmentObservation(
            measured=np.empty((n_scans, self.geometry.n_positions), dtype=np.float32),
            position=np.empty((n_scans, 2), dtype=np.float32),
            heading=np.empty((n_scans, 2), dtype=np.float32),
            progress=np.empty((n_scans, 1), dtype=np.float32),
        )

    def _named(self, observation: SegmentObservation) -> Observations:
        if self._dwell is not None:
            observation.progress[:, 0] = self._dwell.progress
        named = observation._asdict()
        if self.observe_image:
            named["partial_scan"] = self.partial_scans()
        return named


_SAVED_ARRAYS = ("steps", "next_start", "headings", "spacings", "positions", "values")


class _Faults:
    """What an instrument that is not ideal adds to a batch: its memory, and where the probe really was."""

    def __init__(self, instrument: Instrument, positions: np.ndarray) -> None:
        # The keys are drawn when scans begin; these only give the arrays their shapes.
        self.state = instrument.begin(len(positions), np.random.default_rng(0))
        self.true_positions = np.zeros_like(positions)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays themselves, by the names under which they are saved."""
        memories = {f"acquisition.{name}": array for name, array in self.state.arrays().items()}
        return {"true_positions": self.true_positions, **memories}


def _check_settings(n_scans: int, reward: str, edge_penalty: float, *, has_completer: bool) -> None:
    if n_scans < 1:
        raise SettingError(f"number of scans: got {n_scans}; expected at least 1")
    if reward not in ("final", "dense"):
        raise SettingError(f"reward: got {reward!r}; expected 'final' or 'dense'")
    if reward == "dense" and not has_completer:
        raise SettingError("reward: got 'dense' and completer is None; expected a completer, whose loss is to drop")
    if not math.isfinite(edge_penalty):
        raise SettingError(f"edge_penalty: got {edge_penalty}; expected a finite number")


def resolve_geometry(geometry: ScanGeometry | str) -> ScanGeometry:
    """The geometry itself, or the preset of that name.

    Raises:
        SettingError: If there is no such preset, or a scan would have no decision to take.

    Example:
        >>> resolve_geometry("quick48").image_size
        48
    """
    if isinstance(geometry, str):
        if geometry not in PRESETS:
            raise SettingError(f"geometry: got {geometry!r}; expected a ScanGeometry or one of {sorted(PRESETS)}")
        geometry = PRESETS[geometry]
    if geometry.n_segments < 2:
        raise SettingError(f"geometry has {geometry.n_segments} segment; expected at least 2, the first being fixed")
    return geometry


def _steering(
    geometry: ScanGeometry,
    kind: ActionKind,
    reference_headings: ArrayLike | None,
    reference_spacings: ArrayLike | None,
) -> Steering:
    if kind not in ("direction", "angle"):
        raise SettingError(f"action_kind: got {kind!r}; expected 'direction' or 'angle'")
    low, high = geometry.spacing_bounds
    spacings = np.full(geometry.n_segments, geometry.first_spacing)
    if reference_spacings is not None:
        spacings = np.array(reference_spacings, dtype=np.float64)
        if spacings.shape != (geometry.n_segments,) or not ((low <= spacings) & (spacings <= high)).all():
            raise SettingError(
                f"reference_spacings have shape {spacings.shape}; expected ({geometry.n_segments},) in [{low}, {high}]"
            )
    if reference_headings is None:
        return Steering(kind == "angle", False, np.zeros(geometry.n_segments), spacings, low, high)
    headings = np.array(reference_headings, dtype=np.float64)
    if headings.shape != (geometry.n_segments,) or not np.isfinite(headings).all():
        raise SettingError(f"reference_headings have shape {headings.shape}; expected ({geometry.n_segments},), finite")
    return Steering(kind == "angle", True, headings, spacings, low, high)


def _observation_space(geometry: ScanGeometry, acquisition: Instrument, observe_image: bool) -> spaces.Dict:
    low, high = acquisition.value_range
    boxes: dict[str, spaces.Space[Any]] = {
        "measured": spaces.Box(low, high, (geometry.n_positions,), np.float32),
        "position": spaces.Box(-1.0, 1.0, (2,), np.float32),
        "heading": spaces.Box(-1.0, 1.0, (2,), np.float32),
        "progress": spaces.Box(0.0, 1.0, (1,), np.float32),
    }
    if observe_image:
        lowest = np.zeros((2, geometry.image_size, geometry.image_size), dtype=np.float32)
        highest = np.ones_like(lowest)
        lowest[0], highest[0] = min(low, 0.0), max(high, 0.0)
        boxes["partial_scan"] = spaces.Box(lowest, highest, dtype=np.float32)
    return spaces.Dict(boxes)


def _action_space(geometry: ScanGeometry, kind: ActionKind, *, has_free_dwell: bool) -> spaces.Box:
    n_components = (1 if kind == "angle" else 2) + geometry.has_free_spacing + has_free_dwell
    return spaces.Box(-1.0, 1.0, (n_components,), np.float32)
