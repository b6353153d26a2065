"""The kinds of scans: each is one dataclass of its settings, which checks them and prepares the scan.

A benchmark's file names a kind and some of its settings. All that it leaves out is filled in and written down: were a
default not, a benchmark would mean another one, under the same identity, as soon as the default changed.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from adaptive_scan.acquisition import Instrument, make_instrument
from adaptive_scan.agents.candidates import CandidatePolicy, Candidates, CandidateSettings
from adaptive_scan.agents.heuristics import CoverageGreedy, GradientFollowing, VarianceGreedy
from adaptive_scan.agents.learned_path import PATH_LEARNING, PathLearning, learn_path, train_pathwise
from adaptive_scan.agents.oracle import LookAheadOracle
from adaptive_scan.agents.pathwise import (
    PathwiseActor,
    PathwisePolicy,
    PathwiseSettings,
    load_pathwise,
    pathwise_geometry,
    single_positions,
)
from adaptive_scan.benchmark.definition import DENSE, Benchmark, ScanEntry
from adaptive_scan.benchmark.tuned_scans import TUNED_FAMILIES, TunedScan, tune_static, tuned_positions
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.budget import Budget
from adaptive_scan.evaluation.contenders import Contender, measure, static_contenders
from adaptive_scan.evaluation.controls import CONTROLS, mean_value
from adaptive_scan.evaluation.crops import CutCrops
from adaptive_scan.evaluation.dense_raster import DENOISERS, Denoiser, DenseRaster, tune_denoiser
from adaptive_scan.files import write_json, write_npz
from adaptive_scan.generators import make_completer
from adaptive_scan.generators.families import family_positions, known_families
from adaptive_scan.generators.uncertainty import CompleterWithError, EnsembleCompleter
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import STATIC_SCANS, ScanGeometry, filling_path
from adaptive_scan.scans.waypoints import corners_of
from adaptive_scan.settings import setting_to_json, settings_from_json, settings_to_json

OTHER_CROP = "other_crop"
"""The control that follows the paths chosen for other crops, which only the test can make."""

_CONTROL_SETTINGS = {"constant": ("value",), "delayed": ("n_segments", "value"), OTHER_CROP: ()}
_NOT_STEERED = ("static", "tuned", "learned_path", DENSE)
_SEES_ALL = "look_ahead_oracle"
_PATH = "path.npz"
_SHOWN = 4  # stream of random numbers: crops whose mean controls are shown


@dataclass(frozen=True, eq=False)
class BenchmarkCell:
    """One seed at one geometry: all that a scan may be prepared from. The crops that it is tested on are not among it.

    Attributes:
        name: Name of the scan that is prepared.
        seed: The seed, for everything random.
        geometry: Field, number of positions and segments of the scan.
        acquisition: Name of the instrument.
        instrument: The instrument.
        blur: Whether targets are the crops after the 5x5 Gaussian.
        train: Random crops to learn on.
        validation: Crops to tune and to choose on.
        generator: The base network of the seed, in evaluation mode.
        device: Where networks learn.
        folder: Where the scan keeps what takes long to make; it may lie there already, from a run that was killed.
        find_contender: Another scan of the cell by its name.
        find_folder: The folder of another scan of the cell.
        find_predictor: The base network with a head that predicts its errors.
    """

    name: str
    seed: int
    geometry: ScanGeometry
    acquisition: str
    instrument: Instrument
    blur: bool
    train: CropSource
    validation: CutCrops
    generator: nn.Module
    device: str
    folder: Path
    find_contender: Callable[[str], Contender]
    find_folder: Callable[[str], Path]
    find_predictor: Callable[[], CompleterWithError]


@dataclass(frozen=True)
class ScanKind(ABC):
    """A kind of scan: a frozen dataclass whose fields, of types that JSON has, are its settings.

    A kind of one's own derives from this class and goes to `adaptive_scan.benchmark.run_benchmark` as
    ``kinds={"ring": Ring}``, the name being the ``kind`` of the benchmark's scans. What its ``__post_init__`` or
    ``check`` refuses with a ValueError ends a run before anything is made.

    Attributes:
        needs_predictor: Whether the scan asks for the base network with a head that predicts its errors.

    Example:
        >>> @dataclass(frozen=True)
        ... class Ring(ScanKind):
        ...     radius: float = 5.0
        ...
        ...     def make(self, cell):
        ...         angles = np.linspace(0.0, 2.0 * np.pi, cell.geometry.n_positions_total)
        ...         ring = np.stack([np.sin(angles), np.cos(angles)], axis=1)
        ...         return Contender(cell.name, path=cell.geometry.image_size / 2.0 + self.radius * ring)
        >>> Ring.from_settings("mine", {"radius": 4}).to_settings()
        {'radius': 4.0}
    """

    needs_predictor: ClassVar[bool] = False

    @classmethod
    def from_settings(cls, scan: str, settings: Mapping[str, Any]) -> Self:
        """The kind with the settings of a benchmark's file.

        Args:
            scan: Name of the scan, for complaints.
            settings: JSON values by name; what is left out takes its default.

        Raises:
            SettingError: If a setting is unknown, missing, of another type or refused.
        """
        try:
            return settings_from_json(cls, settings)
        except SettingError as error:
            raise SettingError(f"scan {scan!r}: {error}") from error

    def to_settings(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return settings_to_json(self)

    def completed(self, scan: str) -> Self:
        """The kind with those settings filled in that depend on others, or on the name of the scan."""
        return self

    def check(self, scan: str, geometry: ScanGeometry, benchmark: Benchmark) -> None:
        """See that the scan can be prepared, as far as that shows before anything is trained.

        Where a class or a function refuses a value itself, it is built or called, on nothing that takes long.

        Args:
            scan: Name of the scan.
            geometry: One of the benchmark's geometries.
            benchmark: The benchmark, whose scans say all their settings.

        Raises:
            ValueError: If it cannot.
        """
        return

    @abstractmethod
    def make(self, cell: BenchmarkCell) -> Contender | DenseRaster:
        """Prepare the scan.

        It is called again when a run goes on and must then give the same contender; what it learned it keeps in the
        cell's folder.
        """


@dataclass(frozen=True)
class StaticScan(ScanKind):
    """A static scan.

    Attributes:
        family: A name of `adaptive_scan.generators.known_families`; the scan's own name without it.
        n_positions: Positions of the segments of a family that has segments, whose spacing is then free; those of the
            geometry without it.
    """

    family: str | None = None
    n_positions: int | None = None

    def completed(self, scan: str) -> Self:
        """With the family that its name says where there is none."""
        return self if self.family is not None else replace(self, family=scan)

    def check(self, scan: str, geometry: ScanGeometry, benchmark: Benchmark) -> None:
        """See that there is such a family and that it has a scan of that geometry."""
        family, own = self._family(scan), path_geometry(geometry, self.n_positions)
        if family in STATIC_SCANS:  # the others take long where segments are many, and suit every geometry
            family_positions(family, own, 1, np.random.default_rng(0))

    def make(self, cell: BenchmarkCell) -> Contender:
        """The scan of the family, a new one for each crop where the family is random."""
        family = self._family(cell.name)
        if family in STATIC_SCANS:
            return static_contenders([family])[0]

        own = path_geometry(cell.geometry, self.n_positions)

        def path(n_total: int, image_size: int, rng: np.random.Generator) -> np.ndarray:
            positions: np.ndarray = family_positions(family, own, 1, rng)[0]
            return positions

        return Contender(family, path=path, random=family == "random_headings")

    def _family(self, scan: str) -> str:
        family = scan if self.family is None else self.family
        _check_choice("family", family, known_families())
        return family


@dataclass(frozen=True)
class TunedStaticScan(ScanKind):
    """A static scan whose parameters suit the validation crops best; see `adaptive_scan.benchmark.tuned_scans`.

    Attributes:
        family: A name of `adaptive_scan.benchmark.tuned_scans.TUNED_FAMILIES`.
        n_most: Candidates tried, at most.
    """

    family: str
    n_most: int = 60

    def check(self, scan: str, geometry: ScanGeometry, benchmark: Benchmark) -> None:
        """See that there is such a family, and something to try."""
        _check_choice("family", self.family, TUNED_FAMILIES)
        if self.n_most < 1:
            raise SettingError(f"n_most: got {self.n_most}; expected at least 1 candidate")
        tuned_positions(self.family, TUNED_FAMILIES[self.family].defaults(geometry), geometry)

    def make(self, cell: BenchmarkCell) -> Contender:
        """The scan with the best parameters, completed by the base network."""
        file = cell.folder / "tuned.json"
        if not file.exists():
            tuned = tune_static(
                self.family,
                cell.geometry,
                cell.validation.crops,
                cell.generator,
                blur=cell.blur,
                acquisition=cell.instrument,
                seed=cell.seed,
                n_most=self.n_most,
            )
            write_json(file, tuned.to_dict())
        return TunedScan.from_dict(json.loads(file.read_text(encoding="utf-8"))).contender


@dataclass(frozen=True)
class _SegmentScan(ScanKind):
    """A scan whose segments are learned.

    Attributes:
        of: Name of the scan that it begins as; the filling path without it.
        n_positions: Positions of its segments, whose spacing is then free; those of the geometry without it.
    """

    of: str | None = None
    n_positions: int | None = None


@dataclass(frozen=True)
class LearnedPathScan(PathLearning, _SegmentScan):
    """The static path whose headings and spacings were learned by gradients through the sampling.

    It begins ``of`` a static scan position by position, and its segments are then single positions. The other settings
    are those of `adaptive_scan.agents.learned_path.PathLearning`.
    """

    n_updates: int = PATH_LEARNING.n_updates
    learning_rate: float = PATH_LEARNING.learning_rate
    try_every: int = PATH_LEARNING.try_every
    further_learning_rates: tuple[float, ...] = PATH_LEARNING.further_learning_rates

    def check(self, scan: str, geometry: ScanGeometry, benchmark: Benchmark) -> None:
        """See that the path has segments or another scan to begin as."""
        _check_segments(path_geometry(geometry, self.n_positions))
        if self.of is None:
            return
        begun = _entry(benchmark, self.of)
        if begun.kind not in ("static", "tuned"):
            raise SettingError(f"got 'of' {begun.name!r} of kind {begun.kind!r}; expected a static or a tuned scan")
        if self.n_positions not in (None, 1):
            raise SettingError(f"n_positions: got {self.n_positions} beside 'of'; expected 1, or none")

    def make(self, cell: BenchmarkCell) -> Contender:
        """The path, learned on the training crops and chosen on the validation crops."""
        file = cell.folder / _PATH
        if not file.exists():
            self._learn(cell, file)
        geometry, (headings, spacings) = _read_path(file)
        return Contender(cell.name, path=geometry.path(headings[None], spacings[None]).reshape(-1, 2))

    def _learn(self, cell: BenchmarkCell, file: Path) -> None:
        geometry, start = _beginning(cell, self.of, self.n_positions)
        headings, spacings = learn_path(
            cell.train,
            geometry,
            cell.generator,
            validation=cell.validation.crops,
            start=start,
            settings=self,
            acquisition=cell.instrument,
            blur=cell.blur,
            seed=cell.seed,
        )
        described = np.array(json.dumps(geometry.to_dict()))
        write_npz(file, headings=headings, spacings=spacings, geometry=described)


@dataclass(frozen=True)
class PathwiseScan(PathLearning, PathwiseSettings, _SegmentScan):
    """The recurrent actor that is trained by gradients through the sampling, without a critic.

    It starts from the learned path that it is ``of``, whose segments are its own. The other settings are those of
    `adaptive_scan.agents.pathwise.PathwiseSettings` and `adaptive_scan.agents.learned_path.PathLearning`.
    """

    def __post_init__(self) -> None:
        PathwiseSettings.__post_init__(self)
        PathLearning.__post_init__(self)

    def check(self, scan: str, geometry: ScanGeometry, benchmark: Benchmark) -> None:
        """See that the actor can start from a path of its segments."""
        own = path_geometry(geometry, self.n_positions)
        # A straight path stands in for the one it will start from, which takes long to make.
        straight = [np.full(own.n_segments, value) for value in (own.first_heading, own.first_spacing)]
        with torch.random.fork_rng(devices=[]):  # initialisers of torch.nn draw from the global state only
            PathwiseActor(corners_of(own, *map(torch.from_numpy, straight)).float(), own, self._actor_settings())
        if self.of is not None:
            self._check_start(_entry(benchmark, self.of))

    def _check_start(self, path: ScanEntry) -> None:
        if path.kind != "learned_path":
            raise SettingError(f"got 'of' {path.name!r}; expected a learned path")
        found = 1 if path.settings["of"] is not None else path.settings["n_positions"]
        if found != self.n_positions:
            raise SettingError(f"n_positions: got {self.n_positions}; expected that of {path.name!r}, {found}")

    def make(self, cell: BenchmarkCell) -> Contender:
        """The actor, trained on the training crops and chosen on the validation crops."""
        file = cell.folder / "policy.safetensors"
        if not file.exists():
            geometry, path = self._start(cell)
            actor = train_pathwise(
                cell.train,
                geometry,
                path,
                cell.generator,
                validation=cell.validation.crops,
                actor_settings=self._actor_settings(),
                settings=self,
                acquisition=cell.instrument,
                blur=cell.blur,
                seed=cell.seed,
            )
            PathwisePolicy(actor).save(file)
        return _steering(cell, load_pathwise(file))

    def _start(self, cell: BenchmarkCell) -> tuple[ScanGeometry, tuple[np.ndarray, np.ndarray]]:
        if self.of is None:
            return _beginning(cell, None, self.n_positions)
        cell.find_contender(self.of)
        return _read_path(cell.find_folder(self.of) / _PATH)

    def _actor_settings(self) -> PathwiseSettings:
        return PathwiseSettings(self.n_together, self.hidden_size, self.largest_offset)


@dataclass(frozen=True)
class _CandidateScan(ScanKind):
    """A policy that chooses among candidates for its next segment.

    Attributes:
        n_headings: Number of headings; None is 16, or 9 around a reference, where it has to be odd.
        n_spacings: Number of spacings where the spacing is free; odd around a reference.
        around_reference: Whether candidates are corrections to a static scan; given one, they are.
        reference_headings: Its headings [rad], shape (n_segments,); None is the filling path.
        reference_spacings: Its spacings [px], shape (n_segments,); None is those of the filling path where the
            headings are also its own, and else the geometry's first spacing throughout.
        widest_turn: Largest correction of a heading [rad].
        widest_stretch: Largest correction of a spacing, as a component of the action in [0, 1].
        n_ahead: Segments that follow a candidate in a simulation; None is all that remain around a reference, and 0
            without one.
    """

    n_headings: int | None = None
    n_spacings: int = 3
    around_reference: bool = False
    reference_headings: ArrayLike | None = None
    reference_spacings: ArrayLike | None = None
    widest_turn: float = np.pi / 4.0
    widest_stretch: float = 0.5
    n_ahead: int | None = None

    def completed(self, scan: str) -> Self:
        """With how many headings there are without being told."""
        if self.n_headings is not None:
            return self
        has_reference = self.around_reference or self.reference_headings is not None
        return replace(self, n_headings=len(Candidates(n_spacings=1, around_reference=has_reference).actions))

    def check(self, scan: str, geometry: ScanGeometry, benchmark: Benchmark) -> None:
        """Make the policy, which refuses what it cannot use."""
        _check_segments(geometry)
        self._policy(geometry, None)

    def make(self, cell: BenchmarkCell) -> Contender:
        """The policy."""
        return _steering(cell, self._policy(cell.geometry, cell))

    @abstractmethod
    def _policy(self, geometry: ScanGeometry, cell: BenchmarkCell | None) -> CandidatePolicy:
        """The policy; without a cell, one whose networks are not trained yet."""

    def _candidates(self) -> CandidateSettings:
        return cast(CandidateSettings, {name: getattr(self, name) for name in CandidateSettings.__annotations__})


@dataclass(frozen=True)
class CoverageGreedyScan(_CandidateScan):
    """The heuristic that fills the field; see `adaptive_scan.agents.heuristics.CoverageGreedy`."""

    def _policy(self, geometry: ScanGeometry, cell: BenchmarkCell | None) -> CandidatePolicy:
        return CoverageGreedy(geometry, **self._candidates())


@dataclass(frozen=True)
class VarianceGreedyScan(_CandidateScan):
    """The heuristic that goes where the base network expects errors; see `VarianceGreedy` there.

    Attributes:
        exploration: Weight of the mean squared error beside each pixel's own.
    """

    needs_predictor: ClassVar[bool] = True
    exploration: float = 1.0

    def _policy(self, geometry: ScanGeometry, cell: BenchmarkCell | None) -> CandidatePolicy:
        predictor = EnsembleCompleter([make_completer("nearest")] * 2) if cell is None else cell.find_predictor()
        return VarianceGreedy(predictor, geometry, exploration=self.exploration, **self._candidates())


@dataclass(frozen=True)
class GradientFollowingScan(_CandidateScan):
    """The heuristic that goes where the picture seems steep; see `GradientFollowing` there.

    Attributes:
        exploration: Weight of the mean gradient beside each pixel's own.
        completer: Name of the classical completer whose gradients are followed.
    """

    exploration: float = 1.0
    completer: str = "infill"

    def _policy(self, geometry: ScanGeometry, cell: BenchmarkCell | None) -> CandidatePolicy:
        return GradientFollowing(geometry, self.completer, exploration=self.exploration, **self._candidates())


@dataclass(frozen=True)
class LookAheadOracleScan(_CandidateScan):
    """The one-step look-ahead that may peek at the truth; see `adaptive_scan.agents.oracle.LookAheadOracle`.

    Attributes:
        completer: Name of a classical completer that judges the candidates; the base network without it.
    """

    completer: str | None = None

    def _policy(self, geometry: ScanGeometry, cell: BenchmarkCell | None) -> CandidatePolicy:
        untold = "nearest" if cell is None else cell.generator
        return LookAheadOracle(untold if self.completer is None else self.completer, geometry, **self._candidates())


@dataclass(frozen=True)
class ControlScan(ScanKind):
    """A control of an adaptive scan of the same cell; see `adaptive_scan.evaluation.controls`.

    Attributes:
        of: Name of the adaptive scan.
        control: A name of `adaptive_scan.evaluation.controls.CONTROLS`. Where it is "other_crop", the scan itself
            stands in until its paths of the test crops are known.
        n_segments: By how many segments a "delayed" scan sees late; no setting of the others.
        value: What a "constant" or "delayed" scan is shown; None for the mean of training crops.
    """

    of: str
    control: str
    n_segments: int = 1
    value: float | None = None

    @classmethod
    def from_settings(cls, scan: str, settings: Mapping[str, Any]) -> Self:
        """See `ScanKind.from_settings`; not every control has each setting."""
        made = super().from_settings(scan, settings)
        if made.control not in CONTROLS:
            raise SettingError(f"scan {scan!r}: control: got {made.control!r}; expected one of {', '.join(CONTROLS)}")
        for name in settings:
            if name not in made.to_settings():
                raise SettingError(
                    f"scan {scan!r}: got the setting {name!r} of the control {made.control!r}; expected some of "
                    f"{', '.join(made.to_settings())}"
                )
        return made

    def to_settings(self) -> dict[str, Any]:
        """The settings that this control has."""
        return {"of": self.of, "control": self.control, **self._own_settings()}

    def check(self, scan: str, geometry: ScanGeometry, benchmark: Benchmark) -> None:
        """See that it is of a scan that it can control."""
        of = _entry(benchmark, self.of)
        if of.kind in (*_NOT_STEERED, "control") or (of.kind == _SEES_ALL and self.control != OTHER_CROP):
            raise SettingError(f"got 'of' {of.name!r}, of the kind {of.kind!r}; expected an adaptive scan")
        if self.control != OTHER_CROP:
            CONTROLS[self.control](Contender(of.name, policy=_Still()), mean=0.0, **self._own_settings())

    def make(self, cell: BenchmarkCell) -> Contender:
        """The control."""
        contender = cell.find_contender(self.of)
        if self.control == OTHER_CROP:
            return replace(contender, role="control")
        mean = mean_value(cell.train, np.random.default_rng([cell.seed, _SHOWN]))
        return CONTROLS[self.control](contender, mean=mean, **self._own_settings())

    def _own_settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _CONTROL_SETTINGS[self.control]}


@dataclass(frozen=True)
class DenseRasterScan(ScanKind):
    """The raster over all pixels at the dose of the others, which is no contender: it has a completer of its own.

    Attributes:
        methods: Denoisers that are tried on the validation crops, names of
            `adaptive_scan.evaluation.dense_raster.DENOISERS`; all without it.
    """

    methods: tuple[str, ...] | None = None

    def completed(self, scan: str) -> Self:
        """With all denoisers where it names none."""
        return self if self.methods is not None else replace(self, methods=tuple(DENOISERS))

    def check(self, scan: str, geometry: ScanGeometry, benchmark: Benchmark) -> None:
        """See that the instrument counts electrons, that the budget is kept, and that there are such denoisers."""
        size, instrument = geometry.image_size, make_instrument(benchmark.acquisition)
        raster = DenseRaster(instrument, geometry.n_positions_total)
        for name, limits in benchmark.budgets.items():
            if benchmark.geometries[name] == geometry:
                budget = Budget.within(geometry.n_positions_total, instrument, **limits)
                budget.check_raster(scan, raster.costs(size), size)
        raster.instrument_at(size)
        for name in self.methods or ():
            _check_choice("methods", name, DENOISERS)
        if not self.methods:
            raise SettingError(f"methods: got nothing; expected some of {', '.join(DENOISERS)}")

    def make(self, cell: BenchmarkCell) -> DenseRaster:
        """The raster with the denoiser that suits the validation crops best."""
        file, n_total = cell.folder / "denoiser.json", cell.geometry.n_positions_total
        if not file.exists():
            crops, targets = cell.validation.crops, cell.validation.targets
            tuning = tune_denoiser(crops, targets, cell.instrument, n_total, seed=cell.seed, methods=self.methods)
            write_json(file, asdict(tuning.denoiser))
        return DenseRaster(cell.instrument, n_total, Denoiser(**json.loads(file.read_text(encoding="utf-8"))))


SCAN_KINDS: dict[str, type[ScanKind]] = {
    "static": StaticScan,
    "tuned": TunedStaticScan,
    "learned_path": LearnedPathScan,
    "pathwise": PathwiseScan,
    "coverage_greedy": CoverageGreedyScan,
    "variance_greedy": VarianceGreedyScan,
    "gradient_following": GradientFollowingScan,
    "look_ahead_oracle": LookAheadOracleScan,
    "control": ControlScan,
    DENSE: DenseRasterScan,
}
"""The kinds of scans by the names that a benchmark's file has for them."""

KindTable = Mapping[str, type[ScanKind]]


def find_kind(entry: ScanEntry, kinds: KindTable) -> ScanKind:
    """The kind of a benchmark's scan with its settings.

    Raises:
        SettingError: If the kind is unknown, or a setting is unknown, missing or of another type.
    """
    if entry.kind not in kinds:
        raise SettingError(
            f"scan {entry.name!r}: got kind {entry.kind!r}; expected one of {', '.join(kinds)}, or what prepares it "
            f"among `kinds`, as adaptive_scan.commands.compare.KINDS does for 'policy' and 'rdpg'"
        )
    return kinds[entry.kind].from_settings(entry.name, entry.settings)


def resolve_scans(benchmark: Benchmark, kinds: KindTable) -> Benchmark:
    """A benchmark whose scans say all their settings, the defaults among them.

    Args:
        benchmark: The benchmark.
        kinds: The kinds of its scans by name.

    Raises:
        SettingError: If a kind is unknown, or a setting is unknown, missing or of another type.

    Example:
        >>> benchmark = Benchmark("a", {"1/16": ScanGeometry(16, 4, 4)}, (ScanEntry("spiral", "static"),))
        >>> resolve_scans(benchmark, SCAN_KINDS).scans[0].settings
        {'family': 'spiral', 'n_positions': None}
    """
    return replace(benchmark, scans=tuple(_resolved(entry, kinds) for entry in benchmark.scans))


def _resolved(entry: ScanEntry, kinds: KindTable) -> ScanEntry:
    settings = setting_to_json(find_kind(entry, kinds).completed(entry.name).to_settings())
    try:
        json.dumps(settings, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise SettingError(f"scan {entry.name!r}: got settings that no JSON has ({error}); expected JSON") from error
    return replace(entry, settings=settings)


def check_scans(benchmark: Benchmark, kinds: KindTable) -> None:
    """See that each scan can be prepared at each geometry, as far as that shows before anything is trained.

    Args:
        benchmark: A benchmark of `resolve_scans`.
        kinds: The kinds of its scans by name.

    Raises:
        SettingError: If one cannot; the message names the scan, the geometry and the setting.
    """
    for entry in benchmark.scans:
        kind = find_kind(entry, kinds)
        for name, geometry in benchmark.geometries.items():
            try:
                kind.check(entry.name, geometry, benchmark)
            except ValueError as error:
                raise SettingError(f"scan {entry.name!r} at {name!r}: {error}") from error
            except TypeError as error:
                found = f"got settings that fail ({error}); expected others"
                raise SettingError(f"scan {entry.name!r} at {name!r}: {found}") from error


def is_of_other_crops(entry: ScanEntry) -> bool:
    """Whether a scan is the control that follows the paths chosen for other crops, which only the test can make."""
    return entry.kind == "control" and entry.settings.get("control") == OTHER_CROP


def path_geometry(geometry: ScanGeometry, n_positions: int | None) -> ScanGeometry:
    """The geometry of a path of segments of so many positions, whose spacing is then free; None leaves it as it is."""
    return geometry if n_positions is None else pathwise_geometry(geometry, n_positions=n_positions)


def _beginning(
    cell: BenchmarkCell, of: str | None, n_positions: int | None
) -> tuple[ScanGeometry, tuple[np.ndarray, np.ndarray]]:
    """Geometry of a path to learn, and the headings and spacings that it begins with."""
    if of is None:
        geometry = path_geometry(cell.geometry, n_positions)
        return geometry, filling_path(geometry)
    measured = measure(cell.find_contender(of), cell.validation.crops[:1], cell.geometry, seed=cell.seed)
    geometry, headings, spacings = single_positions(measured.positions[0], cell.geometry.image_size)
    return geometry, (headings, spacings)


def _read_path(file: Path) -> tuple[ScanGeometry, tuple[np.ndarray, np.ndarray]]:
    """Geometry of a learned path, with its headings and spacings."""
    with np.load(file, allow_pickle=False) as archive:
        geometry = ScanGeometry.from_dict(json.loads(str(archive["geometry"])))
        return geometry, (archive["headings"], archive["spacings"])


def _steering(cell: BenchmarkCell, policy: CandidatePolicy | PathwisePolicy) -> Contender:
    return Contender(cell.name, policy=policy, environment=policy.environment)


class _Still:
    """A policy that stands in for one that is not trained yet."""

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        return observation["heading"], state


def _check_segments(geometry: ScanGeometry) -> None:
    if geometry.n_segments < 2:
        raise SettingError("geometry has 1 segment; expected at least 2, for the first is fixed")


def _entry(benchmark: Benchmark, name: str) -> ScanEntry:
    return next(scan for scan in benchmark.scans if scan.name == name)


def _check_choice(what: str, found: str, known: Any) -> None:
    if found not in known:
        raise SettingError(f"{what}: got {found!r}; expected one of {', '.join(known)}")
