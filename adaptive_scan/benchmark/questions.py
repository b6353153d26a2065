"""Which scans of a benchmark are set beside which: the questions that its results are asked, fixed beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adaptive_scan.benchmark.definition import OWN, SHARED
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.results import Paired, Results, distinct, select
from adaptive_scan.generators.completers import is_classical

PRIMARY = "adaptive scans against the best static scan and the learned path"
"""Name of the family of comparisons that a benchmark is made for."""

OTHER_ADAPTIVE = "other adaptive scans against the best static scan and the learned path"
"""Name of the family of the adaptive scans that a benchmark is not made for, such as rules of thumb."""

_LEARNED_PATH = "learned_path"

Side = tuple[str, str]
"""A scan and a completer."""


@dataclass(frozen=True, eq=False)
class ScanLosses:
    """What one scan and completer reached at one geometry, by seed and crop.

    Attributes:
        geometry: Name of the geometry.
        scan: Name of the scan.
        completer: Name of the completer.
        role: One of `adaptive_scan.evaluation.results.ROLES`.
        contiguous: Whether the probe moves from each position to one nearby.
        rows: All its rows.
        losses: Float64, shape (n,).
        seeds: Seed of each crop, int64, shape (n,).
        crops: Crop within its seed, int64, shape (n,).
        groups: Specimen of each crop, strings, shape (n,).
        content: What each picture shows, strings, shape (n,); empty where it is not known.
        sparsity: In [0, 1], NaN where it is not known, shape (n,).
    """

    geometry: str
    scan: str
    completer: str
    role: str
    contiguous: bool
    rows: pa.Table
    losses: np.ndarray
    seeds: np.ndarray
    crops: np.ndarray
    groups: np.ndarray
    content: np.ndarray
    sparsity: np.ndarray

    @property
    def mean(self) -> float:
        """Mean loss over all crops of all seeds."""
        return float(np.mean(self.losses))


LossTable = Mapping[tuple[str, str, str], ScanLosses]
"""By geometry, scan and completer, in the order of the rows."""


@dataclass(frozen=True)
class Question:
    """Two sides that are compared.

    Attributes:
        geometry: Name of the geometry.
        first: Scan and completer of the one.
        second: Scan and completer of the other, which the first is measured against.
        family: Comparisons of one family are corrected for their number together.
    """

    geometry: str
    first: Side
    second: Side
    family: str


def load_losses(rows: pa.Table) -> dict[tuple[str, str, str], ScanLosses]:
    """The rows of results by geometry, scan and completer.

    Raises:
        SettingError: If there are no rows.
    """
    found = distinct(rows, ("geometry", "scan", "completer"))
    if not found:
        raise SettingError("the results hold no rows; expected at least one")
    return {key: _scan_losses(rows, *key) for key in found}


def _scan_losses(rows: pa.Table, geometry: str, scan: str, completer: str) -> ScanLosses:
    own = select(rows, geometry=geometry, scan=scan, completer=completer)
    return ScanLosses(
        geometry=geometry,
        scan=scan,
        completer=completer,
        role=own["role"][0].as_py(),
        contiguous=bool(own["contiguous"][0].as_py()),
        rows=own,
        losses=own["loss"].to_numpy(),
        seeds=own["seed"].to_numpy(),
        crops=own["crop"].to_numpy(),
        groups=np.array(own["group"].to_pylist(), dtype=str),
        content=np.array([name or "" for name in own["content"].to_pylist()], dtype=str),
        sparsity=own["sparsity"].to_numpy(),
    )


def common_crops(first: ScanLosses, second: ScanLosses) -> Paired | None:
    """The losses of both on the crops that both have; None if there are none.

    A scan may have a network of its own in some of the seeds only, where it was the best static one there.

    Raises:
        SettingError: If a crop is of one specimen here and of another one there.
    """
    numbers, others = (2**32 * one.seeds + one.crops for one in (first, second))
    _, here, there = np.intersect1d(numbers, others, assume_unique=True, return_indices=True)
    if len(here) == 0:
        return None
    if not np.array_equal(first.groups[here], second.groups[there]):
        raise SettingError(
            f"{first.scan!r} and {second.scan!r} have crops of other groups at {first.geometry}; expected the same ones"
        )
    columns = (first.seeds, first.groups, first.crops, first.content, first.sparsity)
    return Paired(first.losses[here], second.losses[there], *(column[here] for column in columns))


def best_static_scans(results: Results, table: LossTable) -> tuple[dict[str, str], dict[str, str]]:
    """The best contiguous static scan of each geometry, and which crops it was chosen on.

    It is what ``best_static`` of the benchmark's description names, chosen on validation crops. Where that is missing,
    it is the one of the lowest mean loss on the test crops, by the shared generator where there is one. That choice has
    seen the losses it is then compared with, to the advantage of the static side.

    Args:
        results: Of the benchmark.
        table: Its `load_losses`.

    Returns:
        Name of the scan by geometry, and "validation" or "test" by geometry, without geometries that have no such scan.

    Raises:
        SettingError: If the description names a scan without rows.
    """
    given = results.description.get("best_static")
    named = dict(given) if isinstance(given, Mapping) else {}
    best, chosen_on = {}, {}
    for geometry in dict.fromkeys(key[0] for key in table):
        if named.get(geometry) is not None:
            best[geometry], chosen_on[geometry] = str(named[geometry]), "validation"
            if not any(key[:2] == (geometry, best[geometry]) for key in table):
                raise SettingError(
                    f"the best static scan of {geometry}: got {best[geometry]!r}; expected one with rows"
                )
            continue
        candidates = [one for one in table.values() if one.geometry == geometry and is_contiguous_static(one)]
        if candidates:
            by_shared = [one for one in candidates if one.completer == SHARED]
            first_completer = [one for one in candidates if one.completer == candidates[0].completer]
            best[geometry] = min(by_shared or first_completer, key=lambda one: one.mean).scan
            chosen_on[geometry] = "test"
    return best, chosen_on


def is_contiguous_static(scan: ScanLosses) -> bool:
    """Whether a scan is a path fixed beforehand along which the probe moves from each position to one nearby."""
    return scan.role == "static" and scan.contiguous


def best_classical_completers(table: LossTable) -> dict[str, str]:
    """By geometry, the completer that is no network and has the lowest loss, averaged over adaptive and static scans.

    Those of `adaptive_scan.generators.COMPLETERS` are classical, with or without the blur of the targets; a completer
    of ``module:factory`` may be a network, and a denoiser completes nothing. It is one for all scans, so that the
    choice favours none, but it is made on the test losses. Geometries without one are left out.
    """
    means: dict[str, dict[str, list[float]]] = {}
    for one in table.values():
        if is_classical(one.completer) and (one.role == "adaptive" or is_contiguous_static(one)):
            means.setdefault(one.geometry, {}).setdefault(one.completer, []).append(one.mean)
    return {
        geometry: min(by_completer, key=lambda name: float(np.mean(by_completer[name])))
        for geometry, by_completer in means.items()
    }


def reference_scan(results: Results, table: LossTable) -> str:
    """Name of the scan that all others are compared with.

    Raises:
        SettingError: If the description names none, or one without rows.
    """
    name = results.description.get("reference")
    scans = list(dict.fromkeys(scan for _, scan, _ in table))
    if name not in scans:
        raise SettingError(f"reference: got {name!r}; expected one of {', '.join(scans)}")
    return str(name)


def learned_paths(results: Results) -> list[str]:
    """Names of the scans of the kind ``learned_path``, or that name itself where the description lists no scans."""
    entries = _entries(results)
    named = [str(entry["name"]) for entry in entries if entry.get("kind") == _LEARNED_PATH]
    return named if entries else [_LEARNED_PATH]


def controlled_scans(results: Results) -> dict[str, str]:
    """By name of a scan, the one whose policy it is the control of, from ``of`` in its settings."""
    found = {}
    for entry in _entries(results):
        settings = entry.get("settings", entry)
        if isinstance(settings, Mapping) and isinstance(settings.get("of"), str):
            found[str(entry["name"])] = settings["of"]
    return found


def main_adaptive_scans(results: Results, adaptive: Iterable[str]) -> list[str]:
    """The adaptive scans that a benchmark is made for: those that its ``factorial`` names, or all if it names none.

    Args:
        results: Of the benchmark.
        adaptive: Names of all adaptive scans.
    """
    every = list(dict.fromkeys(adaptive))
    given = results.description.get("factorial")
    named = [name for name in every if name in given] if isinstance(given, list | tuple) else []
    return named or every


def _entries(results: Results) -> list[Mapping[str, object]]:
    scans = results.description.get("scans")
    listed = scans if isinstance(scans, list | tuple) else []
    return [entry for entry in listed if isinstance(entry, Mapping) and "name" in entry]


def questions(results: Results, table: LossTable) -> list[Question]:
    """All comparisons that are made, each once, those of the `PRIMARY` family first at each geometry.

    - Every adaptive scan against the best static contiguous scan and the learned path, with the shared generator,
      with generators of their own, and with the best classical completer. Those of `main_adaptive_scans`, at all
      geometries, are the family `PRIMARY`; those of the others, which are mostly rules of thumb, are the family
      `OTHER_ADAPTIVE`, so that their number costs the first nothing. Oracles and controls are set beside the same
      scans, and completers of ``module:factory`` judge the same pairs.
    - Every learned path against the other contiguous static scans, with the same completers.
    - Every policy against its controls, with the same completers.
    - Every scan with each completer against the reference with that completer; every pixel at a share of the dose,
      whose denoiser the reference may not have, against the reference with the shared generator.

    Beside those two, the comparisons of one kind at one geometry with one completer are a family.

    Args:
        results: Of the benchmark.
        table: Its `load_losses`.

    Raises:
        SettingError: If the description's reference or best static scan has no rows.
    """
    best, _ = best_static_scans(results, table)
    classical = best_classical_completers(table)
    reference, learned, controls = reference_scan(results, table), learned_paths(results), controlled_scans(results)
    main = main_adaptive_scans(results, [one.scan for one in table.values() if one.role == "adaptive"])
    found: dict[tuple[str, Side, Side], Question] = {}
    for geometry in dict.fromkeys(key[0] for key in table):
        here = [one for one in table.values() if one.geometry == geometry]
        judges = [SHARED, OWN, *([classical[geometry]] if geometry in classical else [])]
        brought = [name for name in dict.fromkeys(one.completer for one in here) if ":" in name]
        opponents = list(dict.fromkeys([*([best[geometry]] if geometry in best else []), *learned]))
        for question in (
            *_against_static(here, judges, brought, opponents, main),
            *_learned_against_static(here, [*judges, *brought], learned),
            *_against_controls(here, [*judges, *brought], controls),
            *_against_reference(here, reference),
        ):
            if question.first != question.second:
                found.setdefault((geometry, question.first, question.second), question)
    return list(found.values())


def _against_static(
    here: list[ScanLosses], judges: list[str], brought: list[str], opponents: list[str], main: list[str]
) -> Iterator[Question]:
    """By completers that somebody brought, of which nobody knows whether they are networks, in other families."""
    steered = [one for one in here if one.role in ("adaptive", "oracle", "control")]
    for one in (one for names in (judges, brought) for one in steered if one.completer in names):
        family = _family(one, f"{one.role} against static scans")
        if one.role == "adaptive" and one.completer in judges:
            family = PRIMARY if one.scan in main else OTHER_ADAPTIVE
        for opponent in _with_completer(here, one.completer, opponents):
            yield _question(one, opponent, family)


def _learned_against_static(here: list[ScanLosses], judges: list[str], learned: list[str]) -> Iterator[Question]:
    for one in here:
        if one.scan in learned and one.completer in judges:
            others = [other.scan for other in here if is_contiguous_static(other) and other.scan not in learned]
            for other in _with_completer(here, one.completer, others):
                yield _question(one, other, _family(one, "learned path against static scans"))


def _against_controls(here: list[ScanLosses], judges: list[str], controls: Mapping[str, str]) -> Iterator[Question]:
    for one in here:
        own = [control for control, policy in controls.items() if policy == one.scan]
        if one.completer in judges:
            for control in _with_completer(here, one.completer, own):
                if control.role == "control":
                    yield _question(one, control, _family(one, "policies against their controls"))


def _against_reference(here: list[ScanLosses], reference: str) -> Iterator[Question]:
    for one in here:
        beside = _with_completer(here, one.completer, [reference])
        if not beside and one.role == "dense":
            beside = _with_completer(here, SHARED, [reference])
        if one.scan != reference and beside:
            yield _question(one, beside[0], _family(beside[0], "scans against the reference"))


def _with_completer(here: list[ScanLosses], completer: str, scans: Iterable[str]) -> list[ScanLosses]:
    chosen = set(scans)
    return [one for one in here if one.completer == completer and one.scan in chosen]


def _family(one: ScanLosses, kind: str) -> str:
    return f"{kind} at {one.geometry}, {one.completer}"


def _question(first: ScanLosses, second: ScanLosses, family: str) -> Question:
    return Question(first.geometry, (first.scan, first.completer), (second.scan, second.completer), family)
