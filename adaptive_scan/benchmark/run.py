"""A benchmark from its pictures to its results, stage by stage.

First everything is prepared for all seeds, on crops to train and to validate on: networks, scans, and the choice of the
best static scan. Only then are crops to test on cut at all, measured, completed and scored.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from adaptive_scan._version import __version__
from adaptive_scan.benchmark.cells import ScanMaker
from adaptive_scan.benchmark.definition import DENSE, Benchmark
from adaptive_scan.benchmark.folder import RunFolder, Stage, merge_timings, run_stages
from adaptive_scan.benchmark.folds import make_fold
from adaptive_scan.benchmark.keyword_makers import check_scans, resolve_scans
from adaptive_scan.benchmark.pictures import PictureBank, open_pictures
from adaptive_scan.benchmark.preparation import SeedStages, Setting, best_static
from adaptive_scan.benchmark.result_files import read_all_sums, read_examples, read_rows, write_results
from adaptive_scan.benchmark.scan_kinds import RASTER_MAKER, SCAN_KINDS, is_of_other_crops
from adaptive_scan.benchmark.scores import CellScoring
from adaptive_scan.evaluation.budget import Budget
from adaptive_scan.evaluation.results import Results
from adaptive_scan.files import write_json
from adaptive_scan.generators import Completer

_PACKAGES = ("torch", "numpy", "numba", "scipy", "scikit-image", "pyarrow", "safetensors")


class OtherRunError(ValueError):
    """A folder that is that of a run of another benchmark, or has something else in it."""


def run_benchmark(
    benchmark: Benchmark,
    folder: str | os.PathLike[str],
    *,
    makers: Mapping[str, ScanMaker] | None = None,
    completers: Mapping[str, Completer] | None = None,
    device: str = "cpu",
    progress: bool = True,
    only_seeds: Sequence[int] = (),
    made_with: Mapping[str, str] | None = None,
) -> Results | None:
    """Run a benchmark, or what is left of it, and collect its results.

    Before anything is made, every scan is given all its settings, the makers' defaults among them (see
    `complete_benchmark`), so that the results say them and their identity holds them, and is checked at every geometry.

    Every stage leaves a file that appears by rename; a run that was killed goes on behind its last whole stage when it
    is called again, and ends as it would have without.

    Args:
        benchmark: What is compared.
        folder: Where everything goes: a new or empty folder, or that of a run of the same benchmark.
        makers: Further kinds of scans beside `adaptive_scan.benchmark.scan_kinds.SCAN_KINDS`. Those of the command,
            "rdpg" (in the preset "full") and "policy", are `adaptive_scan.commands.compare.MAKERS`.
        completers: Further completers by the names that the benchmark has for them.
        device: Where networks are trained and run.
        progress: Whether to show a progress bar.
        only_seeds: Seeds whose stages are made, so that several processes or machines with one folder can share the
            work; without any, all. Until all seeds are prepared, a call prepares those; after that, one compares them.
            The call that makes the last stage of all collects the results.
        made_with: What the numbers are made with beside this package, its libraries and the device, such as hashes of
            one's own modules. A run that goes on with something else says so in a line, and its results name both.

    Returns:
        The results, which `adaptive_scan.benchmark.result_files.load_results` reads again; None where stages of other
        seeds are not made yet.

    Raises:
        OtherRunError: If the folder is that of another benchmark, or has something else in it.
        ValueError: If a seed is none of the benchmark's, a kind, a completer or a setting cannot be used, there are too
            few groups, the pictures are others than it was written for, or a scan exceeds its budget.
        MicrographError: If a file of micrographs cannot be used.

    Example:
        >>> import tempfile
        >>> from adaptive_scan.benchmark.definition import GeneratorPlan, PictureSettings, ScanEntry
        >>> from adaptive_scan.scans import ScanGeometry
        >>> benchmark = Benchmark(
        ...     "tiny",
        ...     geometries={"1/16": ScanGeometry(16, 4, 4)},
        ...     scans=(ScanEntry("spiral", "static"), ScanEntry("grid", "static")),
        ...     pictures=PictureSettings(n_crops=10),
        ...     completers=("linear",),
        ...     generator=GeneratorPlan(n_updates=1, batch_size=2, n_channels=4),
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     results = run_benchmark(benchmark, folder, progress=False)
        >>> results.rows.num_rows  # two crops of a fold, two scans
        4
    """
    own_seeds = _own_seeds(benchmark, only_seeds)
    _check_completers(benchmark, completers or {})
    benchmark, bank = complete_benchmark(benchmark, makers)
    known = {**SCAN_KINDS, **(makers or {})}
    files = RunFolder(Path(folder))
    _begin(files, benchmark, {**_versions(), "device": device, **(made_with or {})})
    setting = Setting(benchmark, bank, files, known, device)
    seeds = [SeedStages(setting, seed) for seed in benchmark.seeds]
    groups = {str(each.seed): each.groups() for each in seeds}
    shared = _Shared(files, own_seeds, progress)
    if not shared.run("preparing", {each.seed: each.stages() for each in seeds}):
        return None
    best = best_static(seeds)
    scored = _scored(seeds, best, completers or {})
    of_seeds = {
        seed: [part for each in scored if each.cell.seed == seed for part in each.stages()] for seed in benchmark.seeds
    }
    if not shared.run("comparing", of_seeds):
        return None
    found = {
        "best_static": best,
        "groups_by_seed": groups,
        "skipped": bank.skipped,
        "versions": json.loads(files.versions.read_text(encoding="utf-8")),
    }
    results = _collected(setting, scored, found)
    merge_timings(files, benchmark.seeds)
    write_results(files.root, results)
    return results


def complete_benchmark(
    benchmark: Benchmark, makers: Mapping[str, ScanMaker] | None = None
) -> tuple[Benchmark, PictureBank]:
    """A benchmark as it is run, which says everything that it is made of, and its pictures.

    The fingerprint of the pictures and the settings that its scans leave out are filled in, and all is checked that can
    be checked before anything is trained.

    Args:
        benchmark: The benchmark.
        makers: Further kinds of scans beside `adaptive_scan.benchmark.scan_kinds.SCAN_KINDS`.

    Raises:
        ValueError: If a kind or a setting cannot be used, there are too few groups, or the pictures are others than it
            was written for.
        MicrographError: If a file of micrographs cannot be used.

    Example:
        >>> from adaptive_scan.benchmark.definition import PictureSettings, ScanEntry
        >>> from adaptive_scan.scans import ScanGeometry
        >>> benchmark = Benchmark(
        ...     "tiny",
        ...     geometries={"1/16": ScanGeometry(16, 4, 4)},
        ...     scans=(ScanEntry("spiral", "static"),),
        ...     pictures=PictureSettings(n_crops=10),
        ... )
        >>> complete_benchmark(benchmark)[0].scans[0].settings
        {'family': 'spiral', 'n_positions': None}
    """
    known: dict[str, ScanMaker] = {**SCAN_KINDS, **(makers or {}), DENSE: RASTER_MAKER}
    benchmark = resolve_scans(benchmark, known)
    check_budgets(benchmark)
    check_scans(benchmark, known)
    benchmark, bank = open_pictures(benchmark)
    check_folds(benchmark, bank)
    return benchmark, bank


def _own_seeds(benchmark: Benchmark, only: Sequence[int]) -> Sequence[int]:
    for seed in only:
        if seed not in benchmark.seeds:
            known = ", ".join(str(each) for each in benchmark.seeds)
            raise ValueError(f"only_seeds: got {seed}; expected some of the benchmark's, {known}")
    return only or benchmark.seeds


class _Shared(NamedTuple):
    """Work that several processes may share, each by its own seeds."""

    files: RunFolder
    seeds: Sequence[int]
    progress: bool

    def run(self, title: str, stages: Mapping[int, Sequence[Stage]]) -> bool:
        """Make the stages of the own seeds; whether those of the others are made as well."""
        run_stages({seed: stages[seed] for seed in self.seeds}, self.files, progress=self.progress, title=title)
        return all(stage.file.exists() for of_seed in stages.values() for stage in of_seed)


def _check_completers(benchmark: Benchmark, completers: Mapping[str, Completer]) -> None:
    for name in benchmark.completers:
        if ":" in name and name not in completers:
            raise ValueError(f"completers: got {name!r} and nothing that makes it; expected it among `completers`")


def check_budgets(benchmark: Benchmark) -> None:
    """Raise a ValueError if no scan can keep to a budget."""
    for name, limits in benchmark.budgets.items():
        try:
            Budget.within(benchmark.geometries[name].n_positions_total, benchmark.acquisition, **limits)
        except ValueError as error:
            raise ValueError(f"budgets[{name!r}].{error}") from error


def check_folds(benchmark: Benchmark, bank: PictureBank) -> None:
    """Raise a ValueError if the pictures have too few groups for the folds, or a fold too few for a control."""
    split, groups = benchmark.split, np.array(bank.groups, dtype=str)
    others = [scan.name for scan in benchmark.scans if is_of_other_crops(scan)]
    for seed in benchmark.seeds:
        fold = make_fold(bank.groups, seed, n_folds=split.n_folds, split_seed=split.seed)
        if others and len(np.unique(groups[fold.test])) < 2:
            raise ValueError(
                f"scan {others[0]!r}: got one group in the test fold of seed {seed}; expected at least 2, for each "
                f"crop gets the path of another one (of {len(np.unique(groups))} groups, in {split.n_folds} folds)"
            )


def _begin(files: RunFolder, benchmark: Benchmark, versions: Mapping[str, str]) -> None:
    """Make the folder a run's own, and write down what it is made with.

    Raises:
        OtherRunError: If it is that of another benchmark, or has something else in it.
    """
    if files.benchmark.exists():
        found = Benchmark.read(files.benchmark)
        if found.identity != benchmark.identity:
            raise OtherRunError(
                f"{files.root}: got a run of the identity {found.identity[:12]}; expected one of this benchmark, "
                f"{benchmark.identity[:12]}, or a new folder"
            )
    elif files.root.is_dir() and not all(_is_left_over(file) for file in files.root.iterdir()):
        raise OtherRunError(f"{files.root}: got a folder with files in it; expected a new folder or that of a run")
    benchmark.write(files.benchmark)
    _note(files, versions)


def _note(files: RunFolder, versions: Mapping[str, str]) -> None:
    """Add to what a run is made with; where it was made with something else before, a line says what changed."""
    known = json.loads(files.versions.read_text(encoding="utf-8")) if files.versions.exists() else []
    found: list[Mapping[str, str]] = known if isinstance(known, list) else [known]  # one alone in older runs
    if versions in found:
        return
    if found:
        last = found[-1]
        names = [name for name in {**last, **versions} if last.get(name) != versions.get(name)]
        changes = [f"{name} {_short(versions.get(name))} (before: {_short(last.get(name))})" for name in names]
        print(f"note: the run goes on with {', '.join(changes)}", flush=True)
    write_json(files.versions, [*found, versions])


def _short(version: str | None) -> str:
    """A version, or the beginning of a hash."""
    return "none" if version is None else version[:12]


def _scored(
    seeds: Sequence[SeedStages], best: Mapping[str, str], completers: Mapping[str, Completer]
) -> list[CellScoring]:
    """What is to be scored; with a factorial, the best static scan has a network of its own as well."""
    benchmark = seeds[0].setting.benchmark
    found = []
    for each in seeds:
        for name, cell in each.cells.items():
            others = (best[name],) if benchmark.factorial and name in best else ()
            owners = tuple(dict.fromkeys((*benchmark.factorial, *others)))
            found.append(CellScoring(cell, owners, completers, benchmark.identity))
    return found


def _collected(setting: Setting, scored: Sequence[CellScoring], found: Mapping[str, Any]) -> Results:
    """The parts as one."""
    benchmark, files = setting.benchmark, setting.files
    keys = [(each.cell.seed, *key) for each in scored for key in each.parts()]
    return Results(
        name=benchmark.name,
        identity=benchmark.identity,
        description={**benchmark.to_dict(), **found},
        rows=pa.concat_tables([read_rows(files.part(*key), benchmark.identity) for key in keys]),
        sums={key: read_all_sums(files, benchmark.seeds, key) for key in dict.fromkeys(key[1:] for key in keys)},
        examples=[read_examples(files.examples(name)) for name in benchmark.geometries],
        adaptivity=_adaptivity(scored),
    )


def _adaptivity(scored: Sequence[CellScoring]) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of the paths of policies by geometry and scan, each the mean over the seeds."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in dict.fromkeys(each.cell.name for each in scored):
        of_name = [each for each in scored if each.cell.name == name]
        by_scan = {scan: [each.adaptivity(scan) for each in of_name] for scan in of_name[0].benchmark.scan_names}
        found[name] = {scan: _means(figures) for scan, figures in by_scan.items() if figures[0]}
    return found


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    shared = [name for name in figures[0] if all(name in each for each in figures)]
    return {name: float(np.mean([each[name] for each in figures])) for name in shared}


def _versions() -> dict[str, str]:
    """Versions of the software that the numbers are made with."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    own = {"adaptive_scan": __version__, "adaptive_scan_files": _hash_of_package()}
    return {**own, "python": platform.python_version(), **packages}


@functools.cache
def _hash_of_package() -> str:
    """SHA-256 over the package's modules, by their places: two checkouts of one version may differ."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _is_left_over(file: Path) -> bool:
    """Whether a file is a part of one that was being written when a run was killed."""
    return re.match(r"\..*\.tmp", file.name) is not None
