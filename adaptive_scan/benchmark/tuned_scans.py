"""Static scans tuned on validation crops, so that an adaptive scan is not compared with a badly chosen one.

Pitch and phase of spirals and rasters, and what else their families leave free, are searched for the lowest mean loss
of a completer. The scan as its family usually is takes part in the search, so a tuned scan is never worse than that on
the crops it was tuned on. What it is worth shows on other crops.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from adaptive_scan.acquisition import Acquisition, Instrument, as_instrument
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.contenders import VALIDATION, Contender, measure
from adaptive_scan.evaluation.metrics import loss
from adaptive_scan.generators import Completer, complete
from adaptive_scan.micrographs import blur_target
from adaptive_scan.scans import (
    ScanGeometry,
    archimedean_spiral,
    lissajous,
    partial_scans,
    polygonal_spiral,
    serpentine_raster,
    square_spiral,
)
from adaptive_scan.settings import settings_from_json, settings_to_json

Setting = float | int | bool | None
Parameters = Mapping[str, Setting]

_USUAL_SPACING = math.sqrt(2.0)  # px: that of `archimedean_spiral` by default
# Shares of the spacing at which neighbouring positions are as far apart as neighbouring turns.
_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6)
_N_ROUNDS = 4


class Axis(NamedTuple):
    """One parameter of a family and what is tried of it.

    Attributes:
        default: Its value in the scan as it usually is.
        values: What is tried in the first round, beside the default.
        step: Distance to the neighbours of the best value that the second round tries; each later round halves it, but
            whole numbers keep theirs. 0 for a parameter without neighbours.
        low: Lowest value.
        high: Highest value.
    """

    default: Setting
    values: tuple[Setting, ...]
    step: float = 0.0
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class TunedFamily:
    """A family of static scans with parameters.

    Attributes:
        name: Its name in `TUNED_FAMILIES`.
        axes: Its parameters for a geometry, in the order in which they are searched; the first two are tried together,
            each value of the one with each of the other, as a pitch is good for one direction of the scan.
        positions: Positions [px] for a geometry and parameters, float32, shape (n_positions, 2).
    """

    name: str
    axes: Callable[[ScanGeometry], dict[str, Axis]]
    positions: Callable[..., np.ndarray]

    def defaults(self, geometry: ScanGeometry) -> dict[str, Setting]:
        """The parameters of the scan as it usually is."""
        return {name: axis.default for name, axis in self.axes(geometry).items()}


@dataclass(frozen=True)
class Candidate:
    """Parameters that were tried, and the mean loss with them."""

    parameters: dict[str, Setting]
    loss: float


@dataclass(frozen=True, eq=False)
class TunedScan:
    """A static scan as validation crops would have it.

    Attributes:
        family: A name of `TUNED_FAMILIES`.
        geometry: The geometry whose number of positions and field it has.
        parameters: The best parameters of its family.
        candidates: All that was tried, in order, the usual scan first.
        seconds: How long the search took [s].
    """

    family: str
    geometry: ScanGeometry
    parameters: dict[str, Setting]
    candidates: tuple[Candidate, ...]
    seconds: float

    @property
    def default_loss(self) -> float:
        """Mean loss of the family's usual scan on the validation crops."""
        return self.candidates[0].loss

    @property
    def loss(self) -> float:
        """Mean loss of the tuned scan on the validation crops."""
        return next(each.loss for each in self.candidates if each.parameters == self.parameters)

    @property
    def positions(self) -> np.ndarray:
        """Probing positions [px], float32, shape (n_positions, 2)."""
        return tuned_positions(self.family, self.parameters, self.geometry)

    @property
    def contender(self) -> Contender:
        """The scan as it takes part in a comparison, called ``tuned_<family>``."""
        return Contender(f"tuned_{self.family}", path=self.positions, role="static")

    def to_dict(self) -> dict[str, Any]:
        """All of it as values that JSON can hold."""
        return settings_to_json(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TunedScan:
        """The scan that `to_dict` described.

        Raises:
            SettingError: If something is missing, or the family, its parameters or the geometry are not known.

        Example:
            >>> scan = TunedScan("spiral", ScanGeometry(), {"spacing": 4.0, "phase": 0.0}, (), 1.0)
            >>> TunedScan.from_dict(scan.to_dict()).parameters
            {'spacing': 4.0, 'phase': 0.0}
        """
        scan = settings_from_json(cls, values)
        _check_parameters(_family(scan.family), scan.parameters, scan.geometry)
        return scan


def tune_static(
    family: str,
    geometry: ScanGeometry,
    crops: np.ndarray,
    completer: Completer,
    *,
    blur: bool = True,
    acquisition: Instrument | Acquisition | str | None = None,
    seed: int = 0,
    n_most: int = 60,
    batch_size: int = 64,
) -> TunedScan:
    """The scan of a family whose mean loss on validation crops is lowest.

    The pitch, from that of the usual scan to beyond that at which turns are as far apart as the positions along them,
    is tried with each direction of the scan; then each further parameter takes all its values, the others staying at
    their best. Further rounds try the neighbours of the best, closer each time. Every candidate meets the same faults
    of the instrument. A candidate has to be strictly better than the best before it, so the usual scan stays where
    nothing beats it; one that leaves the field is passed over.

    Args:
        family: A name of `TUNED_FAMILIES`.
        geometry: Fixes the number of positions and the field; for polygonal spirals the segments as well.
        crops: Validation crops, shape (n_crops, S, S), in [-1, 1].
        completer: What completes the scans; networks run in evaluation mode.
        blur: Whether targets are the crops after the 5x5 Gaussian, as in training.
        acquisition: The instrument, or a preset's name; None is the ideal one.
        seed: Of the instrument, whose faults are those of validation, not those that a comparison meets.
        n_most: Candidates tried, at most.
        batch_size: Crops scanned and completed at once.

    Returns:
        The scan, and all that was tried.

    Raises:
        ValueError: If the family is unknown, the crops do not fit the geometry, nothing may be tried, or a loss is not
            finite.

    Example:
        >>> from adaptive_scan.generators import make_completer
        >>> crops = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32)).astype(np.float32)
        >>> geometry = ScanGeometry(32, 5, 10)
        >>> tuned = tune_static("raster", geometry, crops, make_completer("nearest"), n_most=5)
        >>> len(tuned.candidates), tuned.loss <= tuned.default_loss
        (5, True)
    """
    chosen = _family(family)
    size = geometry.image_size
    if crops.ndim != 3 or crops.shape[1:] != (size, size) or len(crops) == 0:
        raise ValueError(f"validation crops have shape {crops.shape}; expected (n_crops, {size}, {size})")
    if n_most < 1:
        raise SettingError(f"n_most: got {n_most}; expected at least 1 candidate")
    began = time.perf_counter()
    instrument = as_instrument(acquisition)
    targets = blur_target(crops) if blur else crops

    def mean_loss(positions: np.ndarray) -> float:
        return _mean_loss(positions, crops, targets, completer, geometry, instrument, seed, batch_size)

    search = _Search(chosen, geometry, mean_loss, n_most)
    search.run()
    return TunedScan(family, geometry, search.best.parameters, tuple(search.tried), time.perf_counter() - began)


def tuned_positions(family: str, parameters: Parameters, geometry: ScanGeometry) -> np.ndarray:
    """Positions of a family's scan with these parameters.

    Args:
        family: A name of `TUNED_FAMILIES`.
        parameters: All parameters of the family.
        geometry: Fixes the number of positions and the field; for polygonal spirals the segments as well.

    Returns:
        Positions [px], float32, shape (n_positions, 2).

    Raises:
        SettingError: If the family or a parameter is unknown or missing, or a value is not usable.

    Example:
        >>> tuned_positions("spiral", {"spacing": 4.0, "phase": 0.5}, ScanGeometry()).shape
        (400, 2)
    """
    chosen = _family(family)
    _check_parameters(chosen, parameters, geometry)
    return chosen.positions(geometry, **parameters)


class _Search:
    """Coordinate search over a family's parameters.

    Args:
        family: The family.
        geometry: Its geometry.
        mean_loss: Of positions.
        n_most: Candidates, at most.
    """

    def __init__(
        self, family: TunedFamily, geometry: ScanGeometry, mean_loss: Callable[[np.ndarray], float], n_most: int
    ) -> None:
        self._family, self._geometry, self._mean_loss, self._n_most = family, geometry, mean_loss, n_most
        self._axes = family.axes(geometry)
        defaults = family.defaults(geometry)
        self.best = Candidate(defaults, mean_loss(family.positions(geometry, **defaults)))
        self.tried = [self.best]
        self._seen = {tuple(defaults.values())}

    def run(self) -> None:
        """Try values, and then neighbours of the best ones."""
        self._try_together()
        for n_round in range(_N_ROUNDS):
            for name, axis in self._axes.items():
                for value in self._values(axis, self.best.parameters[name], n_round):
                    self._try({**self.best.parameters, name: value})

    def _try_together(self) -> None:
        """Try every pitch in every direction."""
        usual = self.best.parameters
        crossed = {name: (usual[name], *axis.values) for name, axis in list(self._axes.items())[1::-1]}
        for values in itertools.product(*crossed.values()):
            self._try({**usual, **dict(zip(crossed, values, strict=True))})

    def _values(self, axis: Axis, best: Setting, n_round: int) -> tuple[Setting, ...]:
        if n_round == 0 or axis.step == 0.0 or best is None:
            return axis.values
        is_whole = isinstance(best, int)
        step = axis.step if is_whole else axis.step / 2.0 ** (n_round - 1)
        around = (min(max(best + way * step, axis.low), axis.high) for way in (-1, 1))
        return tuple(int(value) if is_whole else value for value in around)

    def _try(self, parameters: dict[str, Setting]) -> None:
        key = tuple(parameters.values())
        if len(self.tried) >= self._n_most or key in self._seen:
            return
        self._seen.add(key)
        positions = self._family.positions(self._geometry, **parameters)
        if positions.min() < 0.0 or positions.max() > self._geometry.image_size - 1.0:
            return
        candidate = Candidate(parameters, self._mean_loss(positions))
        self.tried.append(candidate)
        if candidate.loss < self.best.loss:
            self.best = candidate


def _mean_loss(
    positions: np.ndarray,
    crops: np.ndarray,
    targets: np.ndarray,
    completer: Completer,
    geometry: ScanGeometry,
    instrument: Instrument,
    seed: int,
    batch_size: int,
) -> float:
    """Mean loss of a completer on crops that were scanned along one path."""
    contender = Contender("candidate", path=positions)
    losses = []
    for begin in range(0, len(crops), batch_size):
        batch = slice(begin, begin + batch_size)
        measured = measure(
            contender,
            crops[batch],
            geometry,
            first_crop=begin,
            acquisition=instrument,
            seed=seed,
            stream=VALIDATION,
        )
        scans = partial_scans(measured.values, measured.positions, geometry.image_size)
        losses.append(loss(complete(completer, scans)[:, 0], targets[batch]))
    mean = float(np.concatenate(losses).mean())
    if not math.isfinite(mean):
        raise ValueError(f"the completer's mean loss on the validation crops: got {mean}; expected a finite one")
    return mean


def _family(name: str) -> TunedFamily:
    if name not in TUNED_FAMILIES:
        raise SettingError(f"family: got {name!r}; expected one of {sorted(TUNED_FAMILIES)}")
    return TUNED_FAMILIES[name]


def _check_parameters(family: TunedFamily, parameters: Parameters, geometry: ScanGeometry) -> None:
    expected = family.defaults(geometry)
    if set(parameters) != set(expected):
        raise SettingError(f"parameters of {family.name!r}: got {sorted(parameters)}; expected {sorted(expected)}")
    for name, value in parameters.items():
        if not (value is None or isinstance(value, bool | int | float)):
            raise SettingError(f"{name} of {family.name!r}: got {value!r}; expected a number, true, false or null")


def _spacings(geometry: ScanGeometry) -> Axis:
    even = geometry.image_size / math.sqrt(geometry.n_positions_total)  # as far apart along the path as its turns [px]
    wide = tuple(share * even for share in _SHARES if share * even >= 1.0)
    return Axis(_USUAL_SPACING, wide or (even,), step=0.1 * even, low=min(1.0, even), high=2.0 * even)


def _numbers(geometry: ScanGeometry, share: float = 1.0) -> Axis:
    """Numbers of turns or lines around a share of the one that spreads positions evenly, about a dozen."""
    even, highest = share * math.sqrt(geometry.n_positions_total), geometry.image_size
    low, high = max(1, math.floor(0.5 * even)), min(highest, math.ceil(1.6 * even))
    spread = np.round(np.linspace(low, max(low, high), 10)).astype(int)
    near = np.clip(math.floor(even) + np.arange(-1, 2), 1, highest)
    numbers = np.unique(np.concatenate((spread, near)))
    return Axis(None, tuple(numbers.tolist()), step=1.0, low=1.0, high=float(highest))


_MARGIN = Axis(0.5, (0.25, 0.375, 0.625, 0.75), step=0.0625, low=0.0, high=1.0)
_PHASE = Axis(0.5, (0.25, 0.75), step=0.125, low=0.0, high=1.0)
_TRANSPOSED = Axis(False, (False, True))


def _transposed(positions: np.ndarray, transposed: Setting) -> np.ndarray:
    return np.ascontiguousarray(positions[:, ::-1]) if transposed else positions


def _spiral_axes(geometry: ScanGeometry) -> dict[str, Axis]:
    # A quarter turn leaves the spiral's place in the field as it is: four phases inside it, each in another quarter, in
    # case the crops have a direction.
    phases = tuple((k / 4.0 + k) * math.pi / 2.0 for k in range(1, 4))
    return {"spacing": _spacings(geometry), "phase": Axis(0.0, phases, step=math.pi / 16.0)}


def _spiral_positions(geometry: ScanGeometry, *, spacing: float, phase: float) -> np.ndarray:
    return archimedean_spiral(geometry.n_positions_total, geometry.image_size, spacing=spacing, phase=phase)


def _square_axes(geometry: ScanGeometry) -> dict[str, Axis]:
    return {"n_turns": _numbers(geometry), "transposed": _TRANSPOSED, "margin": _MARGIN}


def _square_positions(geometry: ScanGeometry, *, n_turns: int | None, transposed: bool, margin: float) -> np.ndarray:
    n_positions, size = geometry.n_positions_total, geometry.image_size
    return _transposed(square_spiral(n_positions, size, n_turns=n_turns, margin=margin), transposed)


def _raster_axes(geometry: ScanGeometry) -> dict[str, Axis]:
    return {"n_lines": _numbers(geometry), "transposed": _TRANSPOSED, "margin": _MARGIN, "phase": _PHASE}


def _raster_positions(
    geometry: ScanGeometry, *, n_lines: int | None, transposed: bool, margin: float, phase: float
) -> np.ndarray:
    n_positions, size = geometry.n_positions_total, geometry.image_size
    return _transposed(serpentine_raster(n_positions, size, n_lines=n_lines, margin=margin, phase=phase), transposed)


def _lissajous_axes(geometry: ScanGeometry) -> dict[str, Axis]:
    # n oscillations cross the field 2 n times.
    return {"n_oscillations": _numbers(geometry, 0.75), "transposed": _TRANSPOSED}


def _lissajous_positions(geometry: ScanGeometry, *, n_oscillations: int | None, transposed: bool) -> np.ndarray:
    n_positions, size = geometry.n_positions_total, geometry.image_size
    return _transposed(lissajous(n_positions, size, n_oscillations=n_oscillations), transposed)


def _polygonal_axes(geometry: ScanGeometry) -> dict[str, Axis]:
    low, high = geometry.spacing_bounds
    if not geometry.has_free_spacing:
        return {"spacing": Axis(geometry.first_spacing, ())}
    values = tuple(np.geomspace(low, high, 9).tolist())
    return {"spacing": Axis(geometry.first_spacing, values, step=0.05 * (high - low), low=low, high=high)}


def _polygonal_positions(geometry: ScanGeometry, *, spacing: float) -> np.ndarray:
    fixed = replace(geometry, spacing=float(spacing))
    positions: np.ndarray = fixed.path(polygonal_spiral(fixed)[None])[0].reshape(-1, 2)
    return positions


TUNED_FAMILIES: dict[str, TunedFamily] = {
    family.name: family
    for family in (
        TunedFamily("spiral", _spiral_axes, _spiral_positions),
        TunedFamily("square_spiral", _square_axes, _square_positions),
        TunedFamily("raster", _raster_axes, _raster_positions),
        TunedFamily("lissajous", _lissajous_axes, _lissajous_positions),
        TunedFamily("polygonal_spiral", _polygonal_axes, _polygonal_positions),
    )
}
"""The families that can be tuned, by name."""
