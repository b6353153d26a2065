"""How each kind of scan is prepared, from the training and validation crops of a cell."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, get_args, get_type_hints

import numpy as np

from adaptive_scan.agents.candidates import CandidatePolicy, CandidateSettings
from adaptive_scan.agents.heuristics import CoverageGreedy, GradientFollowing, VarianceGreedy
from adaptive_scan.agents.oracle import LookAheadOracle
from adaptive_scan.agents.path_learning import PATH_LEARNING, PathLearning, learn_path, train_pathwise
from adaptive_scan.agents.pathwise import PathwisePolicy, PathwiseSettings, load_pathwise, pathwise_geometry
from adaptive_scan.evaluation.benchmark import ScanEntry
from adaptive_scan.evaluation.cells import Cell, ScanMaker
from adaptive_scan.evaluation.contenders import Contender, static_contenders
from adaptive_scan.evaluation.controls import control as make_control_of
from adaptive_scan.evaluation.dense import Denoiser, DenseRaster, tune_denoiser
from adaptive_scan.evaluation.tuning import TunedScan, tune_static
from adaptive_scan.files import write_json, write_npz
from adaptive_scan.generators.families import family_positions, known_families
from adaptive_scan.scans import STATIC_SCANS, ScanGeometry, filling_path

PREDICTOR_KINDS = ("variance_greedy",)
"""Kinds that need the error head of the base network."""

_OTHER_CROP = "other_crop"
_PATH = "path.npz"


def is_of_other_crops(entry: ScanEntry) -> bool:
    """Whether a scan is the control that follows the paths chosen for other crops, which only the test can make."""
    return entry.kind == "control" and entry.settings.get("control") == _OTHER_CROP


def make_static(cell: Cell, *, family: str | None = None, n_positions: int | None = None) -> Contender:
    """A static scan.

    Args:
        cell: Where it takes part.
        family: A name of `adaptive_scan.generators.known_families`; the scan's own name without it.
        n_positions: Positions of the segments of a family that has segments, whose spacing is then free; those of the
            geometry without it.
    """
    family = cell.name if family is None else family
    if family not in known_families():
        raise ValueError(f"scan {cell.name!r}: found family {family!r}; expected one of {', '.join(known_families())}")
    if family in STATIC_SCANS:
        return static_contenders([family])[0]

    def path(dose: int, image_size: int, rng: np.random.Generator) -> np.ndarray:
        return family_positions(family, _path_geometry(cell, n_positions), 1, rng)[0]

    return Contender(family, path=path, random=family == "random_headings")


def make_tuned(cell: Cell, *, family: str, n_most: int = 60) -> Contender:
    """A static scan whose parameters suit the validation crops best; see `adaptive_scan.evaluation.tuning`.

    Args:
        cell: Where it takes part.
        family: A name of `adaptive_scan.evaluation.tuning.TUNED_FAMILIES`.
        n_most: Candidates tried, at most.
    """
    file = cell.folder / "tuned.json"
    if not file.exists():
        tuned = tune_static(
            family,
            cell.geometry,
            cell.validation.crops,
            cell.generator,
            blur=cell.blur,
            acquisition=cell.instrument,
            seed=cell.seed,
            n_most=n_most,
        )
        write_json(file, tuned.to_dict())
    return TunedScan.from_dict(json.loads(file.read_text(encoding="utf-8"))).contender


class PathLearningSettings(TypedDict, total=False):
    """Those of `adaptive_scan.agents.path_learning.PathLearning`, which documents them."""

    n_updates: int
    batch_size: int
    learning_rate: float
    network_learning_rate: float
    completer: Literal["infill", "network"]
    try_every: int


def make_learned_path(
    cell: Cell, *, n_positions: int | None = None, **settings: Unpack[PathLearningSettings]
) -> Contender:
    """The static path whose headings and spacings were learned by gradients through the sampling.

    Args:
        cell: Where it takes part.
        n_positions: Positions of its segments, whose spacing is then free; those of the geometry without it.
        settings: Of the learning.
    """
    geometry = _path_geometry(cell, n_positions)

    def learn() -> dict[str, np.ndarray]:
        headings, spacings = learn_path(
            cell.train,
            geometry,
            cell.generator,
            validation=cell.validation.crops,
            settings=replace(PATH_LEARNING, **settings),
            acquisition=cell.instrument,
            blur=cell.blur,
            seed=cell.seed,
        )
        return {"headings": headings, "spacings": spacings}

    path = _kept(cell.folder / _PATH, learn)
    positions = geometry.path(path["headings"][None], path["spacings"][None])
    return Contender(cell.name, path=positions.reshape(-1, 2))


def _path_geometry(cell: Cell, n_positions: int | None) -> ScanGeometry:
    return cell.geometry if n_positions is None else pathwise_geometry(cell.geometry, n_positions=n_positions)


def _kept(file: Path, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """Arrays of a file, which are made where it is not there yet."""
    if not file.exists():
        write_npz(file, **make())
    with np.load(file, allow_pickle=False) as archive:
        return dict(archive)


def make_pathwise(
    cell: Cell,
    *,
    of: str | None = None,
    n_positions: int | None = None,
    n_together: int = 2,
    largest_offset: float = 10.0,
    hidden_size: int = 64,
    **settings: Unpack[PathLearningSettings],
) -> Contender:
    """The recurrent actor that is trained by gradients through the sampling, without a critic.

    Args:
        cell: Where it takes part.
        of: Name of the learned path that it starts from, with the same ``n_positions``; the filling path without it.
        n_positions: Positions of its segments, as for the learned path.
        n_together: Segments chosen at each decision.
        largest_offset: How far from the path it starts from it may end a segment [px].
        hidden_size: Units of its memory.
        settings: Of the learning.
    """
    file = cell.folder / "policy.safetensors"
    if not file.exists():
        geometry = _path_geometry(cell, n_positions)
        actor = train_pathwise(
            cell.train,
            geometry,
            filling_path(geometry) if of is None else _learned_path(cell, of),
            cell.generator,
            validation=cell.validation.crops,
            actor_settings=PathwiseSettings(n_together, hidden_size, largest_offset),
            settings=PathLearning(**settings),
            acquisition=cell.instrument,
            blur=cell.blur,
            seed=cell.seed,
        )
        PathwisePolicy(actor).save(file)
    policy = load_pathwise(file)
    return Contender(cell.name, policy=policy, environment=policy.environment)


def _learned_path(cell: Cell, scan: str) -> tuple[np.ndarray, np.ndarray]:
    """Headings and spacings of a learned path of the cell."""
    cell.find_contender(scan)
    file = cell.find_folder(scan) / _PATH
    if not file.exists():
        raise ValueError(f"scan {cell.name!r}: found 'of' {scan!r}; expected a learned path")
    with np.load(file, allow_pickle=False) as archive:
        return archive["headings"], archive["spacings"]


def make_coverage_greedy(cell: Cell, **settings: Unpack[CandidateSettings]) -> Contender:
    """The heuristic that fills the field; see `adaptive_scan.agents.heuristics.CoverageGreedy`."""
    return _of_policy(cell, CoverageGreedy(cell.geometry, **settings))


def make_variance_greedy(cell: Cell, **settings: Unpack[CandidateSettings]) -> Contender:
    """The heuristic that goes where the base network expects errors; see `VarianceGreedy` there."""
    return _of_policy(cell, VarianceGreedy(cell.find_predictor(), cell.geometry, **settings))


def make_gradient_following(
    cell: Cell, *, exploration: float = 1.0, completer: str = "infill", **settings: Unpack[CandidateSettings]
) -> Contender:
    """The heuristic that goes where the picture seems steep; see `GradientFollowing` there.

    Args:
        cell: Where it takes part.
        exploration: Weight of the mean gradient beside each pixel's own.
        completer: Name of the classical completer whose gradients are followed.
        settings: Of all policies that choose among candidates.
    """
    policy = GradientFollowing(cell.geometry, completer, exploration=exploration, **settings)
    return _of_policy(cell, policy)


def make_oracle(cell: Cell, *, completer: str | None = None, **settings: Unpack[CandidateSettings]) -> Contender:
    """The one-step look-ahead that may peek at the truth; see `adaptive_scan.agents.oracle.LookAheadOracle`.

    Args:
        cell: Where it takes part.
        completer: Name of a classical completer that judges the candidates; the base network without it.
        settings: Of all policies that choose among candidates.
    """
    judge = cell.generator if completer is None else completer
    return _of_policy(cell, LookAheadOracle(judge, cell.geometry, **settings))


def _of_policy(cell: Cell, policy: CandidatePolicy) -> Contender:
    return Contender(cell.name, policy=policy, environment=policy.environment)


def make_control(cell: Cell, *, of: str, control: str, **settings: Any) -> Contender:
    """A control of an adaptive scan of the same cell; see `adaptive_scan.evaluation.controls`.

    Args:
        cell: Where it takes part.
        of: Name of the adaptive scan.
        control: A name of `adaptive_scan.evaluation.controls.CONTROLS`. Where it is "other_crop", the scan itself
            stands in until its paths of the test crops are known.
        settings: Of the control.
    """
    contender = cell.find_contender(of)
    if control == _OTHER_CROP:
        return replace(contender, role="control")
    return make_control_of(control, contender, **settings)


class KeywordMaker:
    """A maker whose settings are keywords, so that one it does not know is found before anything is trained.

    Args:
        make: ``(cell, *, keywords) -> contender``.

    Attributes:
        known: Names of its settings; None where it takes any.
        needed: Names of those that have no default.

    Example:
        >>> KeywordMaker(make_tuned).known, KeywordMaker(make_tuned).needed
        (('family', 'n_most'), ('family',))
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        keywords = [each for each in inspect.signature(make).parameters.values() if each.kind == each.KEYWORD_ONLY]
        self.known = _with_unpacked(make, tuple(each.name for each in keywords))
        self.needed = tuple(each.name for each in keywords if each.default is each.empty)

    def __call__(self, cell: Cell, settings: Mapping[str, Any]) -> Any:
        """Prepare a scan."""
        return self._make(cell, **settings)

    def check(self, entry: ScanEntry) -> None:
        """Raise a ValueError at the first setting of an entry that is unknown or missing."""
        for name in entry.settings:
            if self.known is not None and name not in self.known:
                known = ", ".join(self.known) or "none"
                raise ValueError(f"scan {entry.name!r}: found the unknown setting {name!r}; expected some of {known}")
        for name in self.needed:
            if name not in entry.settings:
                raise ValueError(f"scan {entry.name!r}: found no setting {name!r}; expected it for {entry.kind!r}")


def _with_unpacked(make: Callable[..., Any], named: tuple[str, ...]) -> tuple[str, ...] | None:
    """Names of keywords with those of an unpacked dictionary; None where any will do."""
    rest = [each.name for each in inspect.signature(make).parameters.values() if each.kind == each.VAR_KEYWORD]
    if not rest:
        return named
    hint = get_type_hints(make)[rest[0]]
    return None if hint is Any else (*named, *get_type_hints(get_args(hint)[0]))


def make_raster(cell: Cell, *, methods: Sequence[str] | None = None) -> DenseRaster:
    """The raster over all pixels at the dose of the others, with the denoiser that suits the validation crops best.

    Args:
        cell: Where it takes part.
        methods: Denoisers that are tried, names of `adaptive_scan.evaluation.dense.DENOISERS`; all without it.
    """
    file, dose = cell.folder / "denoiser.json", cell.geometry.dose
    if not file.exists():
        crops, targets = cell.validation.crops, cell.validation.targets
        tuning = tune_denoiser(crops, targets, cell.instrument, dose, seed=cell.seed, methods=methods)
        write_json(file, asdict(tuning.denoiser))
    return DenseRaster(cell.instrument, dose, Denoiser(**json.loads(file.read_text(encoding="utf-8"))))


RASTER_MAKER = KeywordMaker(make_raster)
"""What prepares the scan of the kind `DENSE`, which is no contender: it has a completer of its own."""

SCAN_KINDS: dict[str, ScanMaker] = {
    "static": KeywordMaker(make_static),
    "tuned": KeywordMaker(make_tuned),
    "learned_path": KeywordMaker(make_learned_path),
    "pathwise": KeywordMaker(make_pathwise),
    "coverage_greedy": KeywordMaker(make_coverage_greedy),
    "variance_greedy": KeywordMaker(make_variance_greedy),
    "gradient_following": KeywordMaker(make_gradient_following),
    "look_ahead_oracle": KeywordMaker(make_oracle),
    "control": KeywordMaker(make_control),
}
"""What prepares a scan, by kind, but for `adaptive_scan.evaluation.benchmark.DENSE`."""
