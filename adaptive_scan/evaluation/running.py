"""A benchmark from its pictures to its results, stage by stage.

First everything is prepared for all seeds, on crops to train and to validate on: networks, scans, and the choice of the
best static scan. Only then are crops to test on cut at all, measured, completed and scored.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from adaptive_scan._version import __version__
from adaptive_scan.evaluation.bank import PictureBank, open_pictures
from adaptive_scan.evaluation.benchmark import DENSE, Benchmark
from adaptive_scan.evaluation.cells import ScanMaker
from adaptive_scan.evaluation.folds import make_fold
from adaptive_scan.evaluation.making import RASTER_MAKER, SCAN_KINDS, KeywordMaker
from adaptive_scan.evaluation.preparing import SeedStages, Setting, best_static
from adaptive_scan.evaluation.result_files import read_all_sums, read_examples, read_rows, write_results
from adaptive_scan.evaluation.results import Results
from adaptive_scan.evaluation.scoring import CellScoring
from adaptive_scan.evaluation.stages import RunFolder, Stage, run_stages
from adaptive_scan.generators import Completer

_PACKAGES = ("torch", "numpy", "numba", "scipy", "scikit-image", "pyarrow", "safetensors")


def run_benchmark(
    benchmark: Benchmark,
    folder: str | os.PathLike[str],
    *,
    makers: Mapping[str, ScanMaker] | None = None,
    completers: Mapping[str, Completer] | None = None,
    device: str = "cpu",
    progress: bool = True,
    only_seeds: Sequence[int] = (),
) -> Results | None:
    """Run a benchmark, or what is left of it, and collect its results.

    Every stage leaves a file that appears by rename; a run that was killed goes on behind its last whole stage when it
    is called again, and ends as it would have without.

    Args:
        benchmark: What is compared.
        folder: Where everything goes: a new or empty folder, or that of a run of the same benchmark.
        makers: Further kinds of scans beside `adaptive_scan.evaluation.making.SCAN_KINDS`.
        completers: Further completers by the names that the benchmark has for them.
        device: Where networks are trained and run.
        progress: Whether to show a progress bar.
        only_seeds: Seeds whose stages are made, so that several processes or machines with one folder can share the
            work; without any, all.

    Returns:
        The results, which `adaptive_scan.evaluation.result_files.load_results` reads again; None where stages of other
        seeds are not made yet.

    Raises:
        ValueError: If a seed is none of the benchmark's, a kind or a completer is unknown, there are too few groups,
            the folder is that of another benchmark, the pictures are others than it was written for, or a scan exceeds
            its budget.
        MicrographError: If a file of micrographs cannot be used.

    Example:
        >>> import tempfile
        >>> from adaptive_scan.evaluation.benchmark import GeneratorPlan, PictureSettings, ScanEntry
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
    benchmark, bank = open_pictures(benchmark)
    check_folds(benchmark, bank)
    known = {**SCAN_KINDS, **(makers or {})}
    _check_names(benchmark, known, completers or {})
    files = RunFolder(Path(folder))
    _begin(files, benchmark)
    setting = Setting(benchmark, bank, files, known, device)
    seeds = [SeedStages(setting, seed) for seed in benchmark.seeds]
    split = {str(each.seed): each.groups() for each in seeds}
    shared = _Shared(files.root, _own_seeds(benchmark, only_seeds), progress)
    if not shared.run("preparing", {each.seed: each.stages() for each in seeds}):
        return None
    best = best_static(seeds)
    scored = _scored(seeds, best, completers or {})
    of_seeds = {
        seed: [part for each in scored if each.cell.seed == seed for part in each.stages()] for seed in benchmark.seeds
    }
    if not shared.run("comparing", of_seeds):
        return None
    found = {"best_static": best, "split": split, "skipped": bank.skipped, "versions": _versions()}
    results = _collected(setting, scored, found)
    write_results(files.root, results)
    return results


def _own_seeds(benchmark: Benchmark, only: Sequence[int]) -> Sequence[int]:
    for seed in only:
        if seed not in benchmark.seeds:
            known = ", ".join(str(each) for each in benchmark.seeds)
            raise ValueError(f"only_seeds: found {seed}; expected some of the benchmark's, {known}")
    return only or benchmark.seeds


class _Shared(NamedTuple):
    """Work that several processes may share, each by its own seeds."""

    root: Path
    seeds: Sequence[int]
    progress: bool

    def run(self, title: str, stages: Mapping[int, Sequence[Stage]]) -> bool:
        """Make the stages of the own seeds; whether those of the others are made as well."""
        own = [stage for seed in self.seeds for stage in stages[seed]]
        run_stages(own, self.root, progress=self.progress, title=title)
        return all(stage.file.exists() for of_seed in stages.values() for stage in of_seed)


def _check_names(benchmark: Benchmark, makers: Mapping[str, ScanMaker], completers: Mapping[str, Completer]) -> None:
    for scan in benchmark.scans:
        known = {**makers, DENSE: RASTER_MAKER}
        if scan.kind not in known:
            raise ValueError(f"scan {scan.name!r}: found kind {scan.kind!r}; expected one of {', '.join(known)}")
        maker = known[scan.kind]
        if isinstance(maker, KeywordMaker):
            maker.check(scan)
    for name in benchmark.completers:
        if ":" in name and name not in completers:
            raise ValueError(f"completers: found {name!r} and nothing that makes it; expected it among `completers`")


def check_folds(benchmark: Benchmark, bank: PictureBank) -> None:
    """Raise a ValueError if the pictures have too few groups for the folds."""
    make_fold(bank.groups, benchmark.seeds[0], n_folds=benchmark.split.n_folds)


def _begin(files: RunFolder, benchmark: Benchmark) -> None:
    """Make the folder a run's own.

    Raises:
        ValueError: If it is that of another benchmark, or has something else in it.
    """
    if files.benchmark.exists():
        found = Benchmark.read(files.benchmark)
        if found.identity != benchmark.identity:
            raise ValueError(
                f"{files.root}: found a run of the identity {found.identity[:12]}; expected one of this benchmark, "
                f"{benchmark.identity[:12]}, or a new folder"
            )
    elif files.root.is_dir() and not all(_is_left_over(file) for file in files.root.iterdir()):
        raise ValueError(f"{files.root}: found a folder with files in it; expected a new folder or that of a run")
    benchmark.write(files.benchmark)


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
    """What the numbers were made with."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"adaptive_scan": __version__, "python": platform.python_version(), **packages}


def _is_left_over(file: Path) -> bool:
    """Whether a file is a part of one that was being written when a run was killed."""
    return re.match(r"\..*\.tmp", file.name) is not None
