"""An instrument: models of its faults, applied along a scan with what each scan remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from adaptive_scan.acquisition.draws import model_keys
from adaptive_scan.acquisition.exposure import Exposure, check_range
from adaptive_scan.acquisition.models import DetectorModel, Memory, Model, ProbeModel, Visit
from adaptive_scan.acquisition.timing import Timing
from adaptive_scan.errors import SettingError

_HIGHEST_KEY = 2**63 - 1
_NO_LIMIT = Exposure()
_USUAL_TIMING = Timing()


class Reading(NamedTuple):
    """What a scan brought back from some positions.

    Attributes:
        values: Measured values, float32, shape (n_scans, n_positions).
        positions: Where the probe really was [px], float32, shape (n_scans, n_positions, 2).
    """

    values: np.ndarray
    positions: np.ndarray


@dataclass
class InstrumentState:
    """What an instrument remembers of scans in progress; every array has one row for each scan.

    Attributes:
        keys: What a scan's random numbers come from, int64, shape (n_scans,).
        n_visited: Positions visited, int64, shape (n_scans,).
        times: Time since the scan began [s], float64, shape (n_scans,).
        memories: Of each model, in the instrument's order.
    """

    keys: np.ndarray
    n_visited: np.ndarray
    times: np.ndarray
    memories: tuple[Memory, ...]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays themselves by name, to save them or to fill them with saved ones."""
        memories = {f"{i}.{name}": array for i, each in enumerate(self.memories) for name, array in each.items()}
        return {"keys": self.keys, "n_visited": self.n_visited, "times": self.times, **memories}

    def put(self, which: np.ndarray, others: InstrumentState) -> None:
        """Give scans the states of others, which begin anew: row i of ``others`` goes to scan ``which[i]``."""
        for own, other in zip(self.arrays().values(), others.arrays().values(), strict=True):
            own[which] = other


@runtime_checkable
class Acquisition(Protocol):
    """A simple instrument of one's own, without memory: v = detect(crop[displace(p)]) for nominal positions p.

    `as_instrument` makes an `Instrument` of it, so it goes wherever one does. Both methods are called once per segment
    in the environment and once per path in comparisons, for a whole batch of scans.

    Attributes:
        value_range: The lowest and the highest value that `detect` returns, which bound the observation.
    """

    @property
    def value_range(self) -> tuple[float, float]:
        """The lowest and the highest value that `detect` returns."""
        ...

    def displace(self, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Where the probe lands [px] when it is sent to ``positions``, both (n_scans, n_positions, 2)."""
        ...

    def detect(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the detector reports where the specimen has ``values``, both (n_scans, n_positions)."""
        ...


@dataclass(frozen=True)
class Instrument:
    """What the microscope makes of a scan, as a chain of models of its faults.

    A scan is sent to nominal positions p. The probe is at p~ = (the probe models in their order)(p), the specimen has
    the value I(p~) there, and what is reported is (the detector models in their order)(I(p~)), on the scale of the crop
    (`Exposure`) and clipped into `value_range`. What models remember, such as the lag of a detector, is carried along
    the path of each scan: feeding a scan whole, segment by segment or beside other scans gives the same bits. All
    random numbers come from one key for each scan, which `begin` draws. Without active models the instrument is ideal,
    changes nothing and costs nothing.

    Attributes:
        models: Faults; probe models act in their order on positions, detector models in theirs on values.
        exposure: How values become electrons.
        dwell: Dwell time of a position where none is given [s].
        limits: Lowest and highest value reported; readings beyond are clipped.
        timing: Flyback and settling times, which count in `adaptive_scan.acquisition.scan_costs` and change no reading.

    Raises:
        TypeError: If a model is neither a probe nor a detector model.
        ValueError: If the dwell time is not positive or the limits do not hold [-1, 1].

    Example:
        >>> from adaptive_scan.acquisition import CoilLag
        >>> instrument = Instrument((CoilLag(1e-6),), dwell=1e-6)
        >>> state = instrument.begin(1, np.random.default_rng(0))
        >>> path = np.array([[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]])
        >>> instrument.displace(path, state)[0, :, 0].round(3)
        array([0.   , 0.368, 1.135], dtype=float32)
    """

    models: tuple[Model, ...] = ()
    exposure: Exposure = _NO_LIMIT
    dwell: float = 1e-6
    limits: tuple[float, float] = (-2.0, 3.0)
    timing: Timing = _USUAL_TIMING

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", tuple(self.models))
        for model in self.models:
            if not isinstance(model, ProbeModel | DetectorModel):
                raise TypeError(f"models: got {type(model).__name__}; expected ProbeModel or DetectorModel")
        check_range("dwell", self.dwell, 0.0, 1e6, above=True)
        low, high = self.limits
        if not (-np.inf < low <= -1.0 and 1.0 <= high < np.inf):
            raise SettingError(f"limits: got {self.limits}; expected finite ones, at most -1 and at least 1")

    @cached_property
    def _active(self) -> tuple[tuple[int, Model], ...]:
        return tuple((i, each) for i, each in enumerate(self.models) if not each.is_ideal(self.exposure))

    @cached_property
    def is_ideal(self) -> bool:
        """Whether positions and values stay what they are."""
        return not self._active

    @cached_property
    def value_range(self) -> tuple[float, float]:
        """The lowest and the highest value reported: the limits, or [-1, 1] where no model touches values."""
        reads_values = any(isinstance(model, DetectorModel) for _, model in self._active)
        return self.limits if reads_values else (-1.0, 1.0)

    def begin(self, n_scans: int, rng: np.random.Generator) -> InstrumentState:
        """The state of scans that have visited nothing yet.

        Args:
            n_scans: Number of scans.
            rng: Source of their keys, one number for each; not used by an ideal instrument.

        Returns:
            The state.
        """
        keys = np.zeros(n_scans, dtype=np.int64) if self.is_ideal else rng.integers(_HIGHEST_KEY, size=n_scans)
        return self.begin_with(keys)

    def begin_with(self, keys: np.ndarray) -> InstrumentState:
        """The state of scans that have visited nothing yet and meet the faults of these keys.

        Args:
            keys: Those of other scans, whose faults these are to share, int64, shape (n_scans,).

        Returns:
            The state.
        """
        n_scans = len(keys)
        memories = tuple(model.begin(n_scans) for _, model in self._active)
        own = np.array(keys, dtype=np.int64)
        return InstrumentState(own, np.zeros(n_scans, dtype=np.int64), np.zeros(n_scans), memories)

    def measure(
        self,
        positions: np.ndarray,
        read: Callable[[np.ndarray], np.ndarray],
        state: InstrumentState,
        dwell: ArrayLike | None = None,
    ) -> Reading:
        """Visit the next positions of every scan.

        Args:
            positions: Nominal positions [px], float32, shape (n_scans, n_positions, 2).
            read: The specimens: takes positions, float32, and returns their values, float32, on [-1, 1].
            state: Of these scans; brought up to date.
            dwell: Dwell times [s], broadcast to (n_scans, n_positions); None for the instrument's.

        Returns:
            Measured values and true positions.

        Raises:
            ValueError: If a shape does not fit or a dwell time is not positive.
        """
        displaced = self.displace(positions, state, dwell)
        return Reading(self.detect(read(displaced), state, dwell), displaced)

    def displace(self, positions: np.ndarray, state: InstrumentState, dwell: ArrayLike | None = None) -> np.ndarray:
        """Where the probe is when it is sent to the next positions; `detect` must follow, with the same dwell times.

        Args:
            positions: Nominal positions [px], shape (n_scans, n_positions, 2).
            state: Of these scans; what probe models remember is brought up to date.
            dwell: Dwell times [s], broadcast to (n_scans, n_positions); None for the instrument's.

        Returns:
            Positions [px], shape (n_scans, n_positions, 2), float32 where a model moved them; they may lie outside the
            field.

        Raises:
            ValueError: If a shape does not fit or a dwell time is not positive.
        """
        if positions.ndim != 3 or positions.shape[2] != 2 or len(positions) != len(state.keys):
            raise ValueError(f"positions: got shape {positions.shape}; expected ({len(state.keys)}, n_positions, 2)")
        steps = [(m, i, each) for m, (i, each) in enumerate(self._active) if isinstance(each, ProbeModel)]
        if not steps:
            return positions
        times = self._dwell(dwell, positions.shape[:2])
        displaced = positions.astype(np.float64)
        for memory, i, model in steps:
            displaced = model.displace(displaced, self._visit(i, positions, times, state), state.memories[memory])
        return displaced.astype(np.float32)

    def detect(self, values: np.ndarray, state: InstrumentState, dwell: ArrayLike | None = None) -> np.ndarray:
        """What is reported where the specimen has ``values``; ends the visit that `displace` began.

        Args:
            values: Values at the true positions, shape (n_scans, n_positions).
            state: Of these scans; brought up to date.
            dwell: Dwell times [s], broadcast to (n_scans, n_positions); None for the instrument's.

        Returns:
            Measured values within `value_range`, shape (n_scans, n_positions), float32 where a model read them.

        Raises:
            ValueError: If a shape does not fit or a dwell time is not positive.
        """
        if self.is_ideal:
            return values
        if values.ndim != 2 or len(values) != len(state.keys):
            raise ValueError(f"values: got shape {values.shape}; expected ({len(state.keys)}, n_positions)")
        times = self._dwell(dwell, values.shape)
        steps = [(m, i, each) for m, (i, each) in enumerate(self._active) if isinstance(each, DetectorModel)]
        reported = values
        if steps:
            intensities = self.exposure.intensities(values)
            for memory, i, model in steps:
                visit = self._visit(i, values, times, state)
                intensities = model.detect(intensities, visit, state.memories[memory])
            reported = np.clip(self.exposure.values(intensities), *self.limits).astype(np.float32)
        state.times[:] = self._visit(0, values, times, state).times[:, -1]
        state.n_visited += values.shape[1]
        return reported

    def _visit(self, model: int, visited: np.ndarray, dwell: np.ndarray, state: InstrumentState) -> Visit:
        keys, electrons = model_keys(state.keys, model), np.asarray(self.exposure.electrons(dwell))
        return Visit(keys, state.n_visited, state.times, visited.shape[1], dwell, electrons)

    def _dwell(self, dwell: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
        return dwell_times(self.dwell if dwell is None else dwell, shape)


@dataclass(frozen=True)
class Memoryless(Instrument):
    """An `Acquisition` as an instrument.

    Its generator is made anew for each call, from the keys and progress of the scans, so that a state holds all.

    Attributes:
        acquisition: The simple instrument.
    """

    acquisition: Acquisition | None = None

    @cached_property
    def is_ideal(self) -> bool:
        """False: what an acquisition does is not known beforehand."""
        return False

    @property
    def value_range(self) -> tuple[float, float]:
        """That of the acquisition."""
        return self._inner.value_range

    @property
    def _inner(self) -> Acquisition:
        if self.acquisition is None:
            raise TypeError("acquisition: got None; expected an Acquisition")
        return self.acquisition

    def displace(self, positions: np.ndarray, state: InstrumentState, dwell: ArrayLike | None = None) -> np.ndarray:
        """See `Acquisition.displace`."""
        return np.asarray(self._inner.displace(positions, _generator(state, 0)), dtype=np.float32)

    def detect(self, values: np.ndarray, state: InstrumentState, dwell: ArrayLike | None = None) -> np.ndarray:
        """See `Acquisition.detect`.

        Raises:
            ValueError: If it returns another shape, or values beyond its range.
        """
        measured = np.asarray(self._inner.detect(values, _generator(state, 1)), dtype=np.float32)
        low, high = self.value_range
        if measured.shape != values.shape:
            raise ValueError(f"detect returned shape {measured.shape}; expected {values.shape}")
        if not (measured.min() >= low and measured.max() <= high):
            raise ValueError(
                f"detect returned values in [{measured.min()}, {measured.max()}]; expected [{low}, {high}]"
            )
        state.n_visited += values.shape[1]
        return measured


def dwell_times(dwell: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Dwell times as (1 or n_scans, 1 or n_positions), which the loops broadcast.

    Args:
        dwell: Dwell times [s].
        shape: Numbers of scans and positions.

    Returns:
        Float64, two axes.

    Raises:
        ValueError: If they do not broadcast to the shape, or one is not positive and finite.

    Example:
        >>> dwell_times([1e-6, 2e-6], (3, 2)).shape
        (1, 2)
    """
    times = np.array(dwell, dtype=np.float64, ndmin=2)
    if times.ndim != 2 or any(own not in (1, full) for own, full in zip(times.shape, shape, strict=True)):
        raise ValueError(f"dwell: got shape {times.shape}; expected one that broadcasts to {shape}")
    if not (times > 0.0).all() or not np.isfinite(times).all():
        raise SettingError(f"dwell: got times in [{times.min()}, {times.max()}] s; expected positive, finite ones")
    return times


def _generator(state: InstrumentState, call: int) -> np.random.Generator:
    return np.random.default_rng([call, *state.keys.tolist(), *state.n_visited.tolist()])
