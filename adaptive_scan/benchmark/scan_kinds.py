"""How each kind of scan is prepared, from the training and validation crops of a cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np

from adaptive_scan.agents.candidates import CandidatePolicy, CandidateSettings
from adaptive_scan.agents.heuristics import CoverageGreedy, GradientFollowing, VarianceGreedy
from adaptive_scan.agents.learned_path import PATH_LEARNING, PathLearning, learn_path, train_pathwise
from adaptive_scan.agents.oracle import LookAheadOracle
from adaptive_scan.agents.pathwise import PathwisePolicy, PathwiseSettings, load_pathwise, single_positions
from adaptive_scan.benchmark.cells import Cell, ScanMaker
from adaptive_scan.benchmark.definition import ScanEntry
from adaptive_scan.benchmark.keyword_makers import KeywordMaker
from adaptive_scan.benchmark.scan_checks import (
    OTHER_CROP,
    ControlSettings,
    candidate_defaults,
    check_control,
    check_dense,
    check_learned_path,
    check_pathwise,
    check_policy_among_candidates,
    check_static,
    check_tuned,
    path_geometry,
    with_control_defaults,
    with_number_of_headings,
)
from adaptive_scan.benchmark.tuned_scans import TunedScan, tune_static
from adaptive_scan.evaluation.contenders import Contender, measure, static_contenders
from adaptive_scan.evaluation.controls import control as make_control_of
from adaptive_scan.evaluation.controls import mean_value
from adaptive_scan.evaluation.dense_raster import DENOISERS, Denoiser, DenseRaster, tune_denoiser
from adaptive_scan.files import write_json, write_npz
from adaptive_scan.generators import make_completer
from adaptive_scan.generators.families import family_positions, known_families
from adaptive_scan.generators.uncertainty import EnsembleCompleter
from adaptive_scan.scans import STATIC_SCANS, ScanGeometry, filling_path

PREDICTOR_KINDS = ("variance_greedy",)
"""Kinds that need the error head of the base network."""

_PATH = "path.npz"
_SHOWN = 4  # stream of random numbers: crops whose mean controls are shown


def is_of_other_crops(entry: ScanEntry) -> bool:
    """Whether a scan is the control that follows the paths chosen for other crops, which only the test can make."""
    return entry.kind == "control" and entry.settings.get("control") == OTHER_CROP


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
        raise ValueError(f"scan {cell.name!r}: got family {family!r}; expected one of {', '.join(known_families())}")
    if family in STATIC_SCANS:
        return static_contenders([family])[0]

    def path(n_total: int, image_size: int, rng: np.random.Generator) -> np.ndarray:
        return family_positions(family, path_geometry(cell.geometry, n_positions), 1, rng)[0]

    return Contender(family, path=path, random=family == "random_headings")


def make_tuned(cell: Cell, *, family: str, n_most: int = 60) -> Contender:
    """A static scan whose parameters suit the validation crops best; see `adaptive_scan.benchmark.tuned_scans`.

    Args:
        cell: Where it takes part.
        family: A name of `adaptive_scan.benchmark.tuned_scans.TUNED_FAMILIES`.
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
    """Those of `adaptive_scan.agents.learned_path.PathLearning`, which documents them."""

    n_updates: int
    batch_size: int
    learning_rate: float
    network_learning_rate: float
    completer: Literal["infill", "network"]
    try_every: int
    further_learning_rates: tuple[float, ...]


def make_learned_path(
    cell: Cell, *, of: str | None = None, n_positions: int | None = None, **settings: Unpack[PathLearningSettings]
) -> Contender:
    """The static path whose headings and spacings were learned by gradients through the sampling.

    Args:
        cell: Where it takes part.
        of: Name of the static scan that it begins as, position by position; the filling path without it.
        n_positions: Positions of its segments, whose spacing is then free; those of the geometry without it. With
            ``of`` they are single positions.
        settings: Of the learning.
    """
    geometry, start = _beginning(cell, of, n_positions)

    def learn() -> dict[str, np.ndarray]:
        headings, spacings = learn_path(
            cell.train,
            geometry,
            cell.generator,
            validation=cell.validation.crops,
            start=start,
            settings=replace(PATH_LEARNING, **settings),
            acquisition=cell.instrument,
            blur=cell.blur,
            seed=cell.seed,
        )
        described = np.array(json.dumps(geometry.to_dict()))
        return {"headings": headings, "spacings": spacings, "geometry": described}

    path = _kept(cell.folder / _PATH, learn)
    positions = geometry.path(path["headings"][None], path["spacings"][None])
    return Contender(cell.name, path=positions.reshape(-1, 2))


def _beginning(
    cell: Cell, of: str | None, n_positions: int | None
) -> tuple[ScanGeometry, tuple[np.ndarray, np.ndarray]]:
    """Geometry of a path to learn, and the headings and spacings that it begins with."""
    if of is None:
        geometry = path_geometry(cell.geometry, n_positions)
        return geometry, filling_path(geometry)
    measured = measure(cell.find_contender(of), cell.validation.crops[:1], cell.geometry, seed=cell.seed)
    geometry, headings, spacings = single_positions(measured.positions[0], cell.geometry.image_size)
    return geometry, (headings, spacings)


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
        of: Name of the learned path that it starts from, whose segments are its own; the filling path without it.
        n_positions: Positions of its segments, as for the learned path.
        n_together: Segments chosen at each decision.
        largest_offset: How far from the path it starts from it may end a segment [px].
        hidden_size: Units of its memory.
        settings: Of the learning.
    """
    file = cell.folder / "policy.safetensors"
    if not file.exists():
        geometry, path = _beginning(cell, None, n_positions) if of is None else _learned(cell, of)
        actor = train_pathwise(
            cell.train,
            geometry,
            path,
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


def _learned(cell: Cell, scan: str) -> tuple[ScanGeometry, tuple[np.ndarray, np.ndarray]]:
    """Geometry of a learned path of the cell, with its headings and spacings."""
    cell.find_contender(scan)
    file = cell.find_folder(scan) / _PATH
    if not file.exists():
        raise ValueError(f"scan {cell.name!r}: got 'of' {scan!r}; expected a learned path")
    with np.load(file, allow_pickle=False) as archive:
        geometry = ScanGeometry.from_dict(json.loads(str(archive["geometry"])))
        return geometry, (archive["headings"], archive["spacings"])


def make_coverage_greedy(cell: Cell, **settings: Unpack[CandidateSettings]) -> Contender:
    """The heuristic that fills the field; see `adaptive_scan.agents.heuristics.CoverageGreedy`."""
    return _of_policy(cell, CoverageGreedy(cell.geometry, **settings))


def make_variance_greedy(cell: Cell, *, exploration: float = 1.0, **settings: Unpack[CandidateSettings]) -> Contender:
    """The heuristic that goes where the base network expects errors; see `VarianceGreedy` there.

    Args:
        cell: Where it takes part.
        exploration: Weight of the mean squared error beside each pixel's own.
        settings: Of all policies that choose among candidates.
    """
    policy = VarianceGreedy(cell.find_predictor(), cell.geometry, exploration=exploration, **settings)
    return _of_policy(cell, policy)


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


def make_control(cell: Cell, *, of: str, control: str, **settings: Unpack[ControlSettings]) -> Contender:
    """A control of an adaptive scan of the same cell; see `adaptive_scan.evaluation.controls`.

    Args:
        cell: Where it takes part.
        of: Name of the adaptive scan.
        control: A name of `adaptive_scan.evaluation.controls.CONTROLS`. Where it is "other_crop", the scan itself
            stands in until its paths of the test crops are known.
        settings: Of the control.
    """
    contender = cell.find_contender(of)
    if control == OTHER_CROP:
        return replace(contender, role="control")
    mean = mean_value(cell.train, np.random.default_rng([cell.seed, _SHOWN]))
    return make_control_of(control, contender, mean=mean, **settings)


def make_raster(cell: Cell, *, methods: Sequence[str] | None = None) -> DenseRaster:
    """The raster over all pixels at the dose of the others, with the denoiser that suits the validation crops best.

    Args:
        cell: Where it takes part.
        methods: Denoisers that are tried, names of `adaptive_scan.evaluation.dense_raster.DENOISERS`; all without it.
    """
    file, n_total = cell.folder / "denoiser.json", cell.geometry.n_positions_total
    if not file.exists():
        crops, targets = cell.validation.crops, cell.validation.targets
        tuning = tune_denoiser(crops, targets, cell.instrument, n_total, seed=cell.seed, methods=methods)
        write_json(file, asdict(tuning.denoiser))
    return DenseRaster(cell.instrument, n_total, Denoiser(**json.loads(file.read_text(encoding="utf-8"))))


def _with_methods(entry: ScanEntry, settings: dict[str, Any]) -> Mapping[str, Any]:
    """The settings of a dense raster with all denoisers where it names none."""
    methods = settings["methods"]
    return {**settings, "methods": tuple(DENOISERS) if methods is None else methods}


def _with_family(entry: ScanEntry, settings: dict[str, Any]) -> Mapping[str, Any]:
    """The settings of a static scan with the family that its name says where they say none."""
    return {**settings, "family": entry.name if settings["family"] is None else settings["family"]}


RASTER_MAKER = KeywordMaker(make_raster, complete=_with_methods, check=check_dense)
"""What prepares the scan of the kind `DENSE`, which is no contender: it has a completer of its own."""


def _among_candidates(make: Callable[..., Contender], policy: Callable[..., CandidatePolicy]) -> KeywordMaker:
    """The maker of a policy that chooses among candidates; ``policy(geometry, **settings)`` makes it for a trial."""
    return KeywordMaker(
        make,
        unpacked=candidate_defaults(),
        complete=with_number_of_headings,
        check=check_policy_among_candidates(lambda geometry, settings: policy(geometry, **settings)),
    )


def _variance_greedy(geometry: ScanGeometry, **settings: Any) -> VarianceGreedy:
    """One whose predictor is not trained yet."""
    return VarianceGreedy(EnsembleCompleter([make_completer("nearest")] * 2), geometry, **settings)


def _oracle(geometry: ScanGeometry, *, completer: str | None, **settings: Any) -> LookAheadOracle:
    """One whose network is not trained yet."""
    return LookAheadOracle("nearest" if completer is None else completer, geometry, **settings)


SCAN_KINDS: dict[str, ScanMaker] = {
    "static": KeywordMaker(make_static, complete=_with_family, check=check_static),
    "tuned": KeywordMaker(make_tuned, check=check_tuned),
    "learned_path": KeywordMaker(make_learned_path, unpacked=asdict(PATH_LEARNING), check=check_learned_path),
    "pathwise": KeywordMaker(make_pathwise, unpacked=asdict(PathLearning()), check=check_pathwise),
    "coverage_greedy": _among_candidates(make_coverage_greedy, CoverageGreedy),
    "variance_greedy": _among_candidates(make_variance_greedy, _variance_greedy),
    "gradient_following": _among_candidates(make_gradient_following, GradientFollowing),
    "look_ahead_oracle": _among_candidates(make_oracle, _oracle),
    "control": KeywordMaker(make_control, complete=with_control_defaults, check=check_control),
}
"""What prepares a scan, by kind, but for `adaptive_scan.benchmark.definition.DENSE`."""
