"""Whether scans of each kind can be prepared at a geometry, as far as that shows before anything is trained.

Where a class or a function refuses a value itself, it is built or called here, on nothing that takes long.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypedDict, get_type_hints

import numpy as np
import torch

from adaptive_scan.acquisition import make_instrument
from adaptive_scan.agents.candidates import CandidatePolicy, Candidates
from adaptive_scan.agents.learned_path import PathLearning
from adaptive_scan.agents.pathwise import PathwiseActor, PathwiseSettings, pathwise_geometry
from adaptive_scan.benchmark.definition import DENSE, Benchmark, ScanEntry
from adaptive_scan.benchmark.keyword_makers import ScanCheck
from adaptive_scan.benchmark.tuned_scans import TUNED_FAMILIES, tuned_positions
from adaptive_scan.evaluation.budget import Budget
from adaptive_scan.evaluation.contenders import Contender
from adaptive_scan.evaluation.controls import CONTROLS
from adaptive_scan.evaluation.controls import control as make_control_of
from adaptive_scan.evaluation.dense_raster import DENOISERS, DenseRaster
from adaptive_scan.generators.families import family_positions, known_families
from adaptive_scan.scans import STATIC_SCANS, ScanGeometry
from adaptive_scan.scans.waypoints import corners_of

OTHER_CROP = "other_crop"
"""The control that follows the paths chosen for other crops, which only the test can make."""

_NOT_STEERED = ("static", "tuned", "learned_path", DENSE)
_SEES_ALL = "look_ahead_oracle"


class ControlSettings(TypedDict, total=False):
    """Those of `adaptive_scan.evaluation.controls`, which documents them; not every control has each."""

    n_segments: int
    value: float | None


def path_geometry(geometry: ScanGeometry, n_positions: int | None) -> ScanGeometry:
    """The geometry of a path of segments of so many positions, whose spacing is then free; None leaves it as it is."""
    return geometry if n_positions is None else pathwise_geometry(geometry, n_positions=n_positions)


def check_static(entry: ScanEntry, geometry: ScanGeometry, benchmark: Benchmark) -> None:
    """See that there is such a family and that it has a scan of that geometry."""
    family, own = entry.settings["family"], path_geometry(geometry, entry.settings["n_positions"])
    _check_choice("family", family, known_families())
    if family in STATIC_SCANS:  # the others take long where segments are many, and suit every geometry
        family_positions(family, own, 1, np.random.default_rng(0))


def check_tuned(entry: ScanEntry, geometry: ScanGeometry, benchmark: Benchmark) -> None:
    """See that there is such a family, and something to try."""
    family, n_most = entry.settings["family"], entry.settings["n_most"]
    _check_choice("family", family, TUNED_FAMILIES)
    if n_most < 1:
        raise ValueError(f"n_most: got {n_most}; expected at least 1 candidate")
    tuned_positions(family, TUNED_FAMILIES[family].defaults(geometry), geometry)


def check_learned_path(entry: ScanEntry, geometry: ScanGeometry, benchmark: Benchmark) -> None:
    """See that the learning has usable settings, and the path segments or another scan to begin as."""
    _taken(PathLearning, entry.settings)
    _check_segments(path_geometry(geometry, entry.settings["n_positions"]))
    if entry.settings["of"] is not None:
        begun = _scan(benchmark, entry.settings["of"])
        if begun.kind not in ("static", "tuned"):
            raise ValueError(f"got 'of' {begun.name!r} of kind {begun.kind!r}; expected a static or a tuned scan")
        if entry.settings["n_positions"] not in (None, 1):
            found = entry.settings["n_positions"]
            raise ValueError(f"n_positions: got {found} beside 'of'; expected 1, or none")


def check_pathwise(entry: ScanEntry, geometry: ScanGeometry, benchmark: Benchmark) -> None:
    """See that actor and learning have usable settings, and that the actor starts from a path of its segments."""
    settings = entry.settings
    _taken(PathLearning, settings)
    own = path_geometry(geometry, settings["n_positions"])
    # A straight path stands in for the one it will start from, which takes long to make.
    headings, spacings = (
        torch.full((own.n_segments,), value, dtype=torch.float64) for value in (own.first_heading, own.first_spacing)
    )
    with torch.random.fork_rng(devices=[]):  # initialisers of torch.nn draw from the global state only
        PathwiseActor(corners_of(own, headings, spacings).float(), own, _taken(PathwiseSettings, settings))
    if settings["of"] is not None:
        _check_learned(_scan(benchmark, settings["of"]), settings["n_positions"])


def _check_learned(path: ScanEntry, n_positions: int | None) -> None:
    if path.kind != "learned_path":
        raise ValueError(f"got 'of' {path.name!r}; expected a learned path")
    found = 1 if path.settings["of"] is not None else path.settings["n_positions"]
    if found != n_positions:
        raise ValueError(f"n_positions: got {n_positions}; expected that of {path.name!r}, {found}")


def check_policy_among_candidates(make: Callable[[ScanGeometry, Mapping[str, Any]], CandidatePolicy]) -> ScanCheck:
    """A check that makes the policy, which refuses what it cannot use.

    Args:
        make: ``(geometry, settings) -> policy``.
    """

    def check(entry: ScanEntry, geometry: ScanGeometry, benchmark: Benchmark) -> None:
        _check_segments(geometry)
        make(geometry, entry.settings)

    return check


def _check_segments(geometry: ScanGeometry) -> None:
    if geometry.n_segments < 2:
        raise ValueError("geometry has 1 segment; expected at least 2, for the first is fixed")


def check_control(entry: ScanEntry, geometry: ScanGeometry, benchmark: Benchmark) -> None:
    """See that there is such a control, and that it is of a scan that it can control."""
    settings = dict(entry.settings)
    of, kind = _scan(benchmark, settings.pop("of")), settings.pop("control")
    if of.kind in (*_NOT_STEERED, "control") or (of.kind == _SEES_ALL and kind != OTHER_CROP):
        raise ValueError(f"got 'of' {of.name!r}, of the kind {of.kind!r}; expected an adaptive scan")
    if kind != OTHER_CROP:
        make_control_of(kind, Contender(of.name, policy=_Still()), mean=0.0, **settings)


def with_control_defaults(entry: ScanEntry, settings: dict[str, Any]) -> Mapping[str, Any]:
    """The settings of a control with those of its kind.

    Raises:
        ValueError: If there is no such control, or it has no such setting.
    """
    kind = settings["control"]
    if kind not in CONTROLS:
        expected = ", ".join(CONTROLS)
        raise ValueError(f"scan {entry.name!r}: control: got {kind!r}; expected one of {expected}")
    parameters = inspect.signature(CONTROLS[kind]).parameters
    defaults = {name: parameters[name].default for name in get_type_hints(ControlSettings) if name in parameters}
    for name in settings:
        if name not in ("of", "control", *defaults):
            known = ", ".join(("of", "control", *defaults))
            raise ValueError(
                f"scan {entry.name!r}: got the setting {name!r} of the control {kind!r}; expected some of {known}"
            )
    return {**defaults, **settings}


def check_dense(entry: ScanEntry, geometry: ScanGeometry, benchmark: Benchmark) -> None:
    """See that the instrument counts electrons, that the budget is kept, and that there are such denoisers."""
    size, instrument = geometry.image_size, make_instrument(benchmark.acquisition)
    raster = DenseRaster(instrument, geometry.n_positions_total)
    for name, other in benchmark.budgets.items():
        if benchmark.geometries[name] == geometry:
            Budget.within(geometry.n_positions_total, instrument, **other).check_raster(
                entry.name, raster.costs(size), size
            )
    raster.instrument_at(size)
    for name in entry.settings["methods"]:
        _check_choice("methods", name, DENOISERS)
    if not entry.settings["methods"]:
        raise ValueError(f"methods holds nothing; expected some of {', '.join(DENOISERS)}")


def candidate_defaults() -> dict[str, Any]:
    """Defaults of `adaptive_scan.agents.candidates.CandidateSettings`."""
    parameters = inspect.signature(Candidates).parameters.values()
    return {each.name: each.default for each in parameters if each.kind == each.KEYWORD_ONLY}


def with_number_of_headings(entry: ScanEntry, settings: dict[str, Any]) -> Mapping[str, Any]:
    """Settings of a policy that chooses among candidates, with how many headings there are without being told."""
    if settings["n_headings"] is None:
        has_reference = settings["around_reference"] or settings["reference_headings"] is not None
        settings["n_headings"] = len(Candidates(n_spacings=1, around_reference=has_reference).actions)
    return settings


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


def _taken(kind: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    """A dataclass of those settings that are its fields."""
    return kind(**{part.name: settings[part.name] for part in fields(kind)})  # type: ignore[arg-type]


def _scan(benchmark: Benchmark, name: str) -> ScanEntry:
    return next(scan for scan in benchmark.scans if scan.name == name)


def _check_choice(what: str, found: str, known: Any) -> None:
    if found not in known:
        raise ValueError(f"{what}: got {found!r}; expected one of {', '.join(known)}")
