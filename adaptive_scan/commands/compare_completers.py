"""``compare_completers``: the error of networks and interpolations on static scans at equal dose."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from tqdm import tqdm

from adaptive_scan.commands.cli import parse_config
from adaptive_scan.commands.data import TestCrops, use_threads
from adaptive_scan.commands.errors import InputError, refusals_as_input_errors
from adaptive_scan.commands.held_out import TrainedGenerator, trained_generator
from adaptive_scan.commands.run_folder import check_new, make_folder
from adaptive_scan.commands.settings import check_not_negative
from adaptive_scan.commands.terminal import print_whole
from adaptive_scan.evaluation.completion import CompletionScore, complete_scans, score_completers
from adaptive_scan.files import write_atomically, write_json
from adaptive_scan.generators import COMPLETERS, Completer, load_generator, make_completer
from adaptive_scan.report.completions_figure import completions_figure
from adaptive_scan.report.style import save_figure
from adaptive_scan.scans import STATIC_SCANS

_COLUMNS = ("scan", "coverage", "completer", "rmse", "low", "high", "mean_loss", "milliseconds", "n_crops", "n_groups")


@dataclass(frozen=True)
class CompletionConfig:
    """What is compared, and on which scans."""

    run: tuple[Path, ...]
    """Run folders of trained generators, all with the same held-out pictures, on which everything is compared."""
    out: Path
    """New or empty folder for the results."""
    completers: tuple[str, ...] = ("nearest", "linear", "infill")
    """Interpolations to compare; a + behind a name blurs its pictures as targets are blurred."""
    scans: tuple[str, ...] = ("grid", "spiral", "gridlike")
    """Static scans to complete; the picture shows the first, at the first coverage."""
    coverages: tuple[float, ...] = (1 / 16, 1 / 25, 1 / 100)
    """Positions by pixel."""
    n_threads: int = 1
    """Threads of PyTorch on the CPU, 0 for its own choice."""
    seed: int = 0
    """Seed of random scans and of the bootstrap."""
    skip_bad: bool = False
    """Whether files that cannot be used are skipped."""

    def __post_init__(self) -> None:
        check_not_negative(self, "n_threads", "seed")
        for name in self.completers:
            if name.removesuffix("+") not in COMPLETERS:
                raise ValueError(f"completers: got {name!r}; expected some of {', '.join(COMPLETERS)}")
        for name in self.scans:
            if name not in STATIC_SCANS:
                raise ValueError(f"scans: got {name!r}; expected some of {', '.join(STATIC_SCANS)}")
        for coverage in self.coverages:
            if not 0 < coverage <= 1:
                raise ValueError(f"coverages: got {coverage}; expected more than 0 and at most 1")


def parse_completion(arguments: list[str]) -> CompletionConfig:
    """Settings of ``compare_completers``.

    Raises:
        InputError: If an option or a value is none.

    Example:
        >>> parse_completion(["--run", "runs/a", "--out", "b", "--scans", "grid"]).scans
        ('grid',)
    """
    description = "Compare trained generators with interpolations on static scans of held-out micrographs."
    return parse_config(CompletionConfig, arguments, "compare_completers", description)


def compare_completers_command(config: CompletionConfig) -> None:
    """Compare completers, write ``completers.json``, ``.csv`` and ``.png``, and show the table.

    Raises:
        InputError: If a folder is no run, the runs held out different pictures, or a scan is unknown.
        FileContentError: If a file of a run or of the micrographs cannot be used.
    """
    check_new(config.out)
    use_threads(config.n_threads)
    runs = [trained_generator(folder, skip_bad=config.skip_bad) for folder in config.run]
    test = _common_test(runs)
    completers = _completers(config, runs)
    folder = make_folder(config.out)
    with (
        refusals_as_input_errors(),
        tqdm(total=len(config.scans) * len(config.coverages) * len(completers), desc="completing", disable=None) as bar,
    ):
        scores = score_completers(
            test.crops,
            completers,
            scans=config.scans,
            coverages=config.coverages,
            blur=runs[0].blur,
            seed=config.seed,
            on_score=lambda _: bar.update(),
        )
    rows = [_row(score, np.array(test.groups), config.seed) for score in scores]
    write_json(
        folder / "completers.json", {"runs": [str(run) for run in config.run], "blur": runs[0].blur, "rows": rows}
    )
    write_atomically(folder / "completers.csv", _crop_table(scores, test))
    _draw(config, test.crops, completers, folder / "completers.png", blur=runs[0].blur)
    print_whole(_table(rows))
    print(f"written: {', '.join(str(folder / f'completers.{end}') for end in ('json', 'csv', 'png'))}")


def _draw(
    config: CompletionConfig, crops: np.ndarray, completers: dict[str, Completer], path: Path, *, blur: bool
) -> None:
    """Draw completions of the first scan and coverage."""
    targets, scans, completions = complete_scans(
        crops, completers, scan=config.scans[0], coverage=config.coverages[0], blur=blur, seed=config.seed
    )
    save_figure(completions_figure(crops, targets, scans, completions), path)


def _common_test(runs: Sequence[TrainedGenerator]) -> TestCrops:
    """What all runs held out.

    Raises:
        InputError: If they held out other crops, or were trained towards other targets.
    """
    first = runs[0]
    for run in runs[1:]:
        if not np.array_equal(run.test.crops, first.test.crops):
            raise InputError(f"{run.folder}: got other held-out crops than in {first.folder}; expected the same")
        if run.blur != first.blur:
            raise InputError(f"{run.folder}: got blur {run.blur}; expected {first.blur}, as in {first.folder}")
    return first.test


def _completers(config: CompletionConfig, runs: Sequence[TrainedGenerator]) -> dict[str, Completer]:
    """Generators by the name of their run's folder, then interpolations."""
    completers: dict[str, Completer] = {}
    for run in runs:
        name = run.folder.resolve().name
        if name in completers or name in COMPLETERS:
            raise InputError(f"{run.folder}: got a second completer named {name!r}; expected folders of other names")
        completers[name] = load_generator(run.path)
    for name in config.completers:
        completers[name] = make_completer(name)
    return completers


def _row(score: CompletionScore, groups: np.ndarray, seed: int) -> dict[str, Any]:
    interval = score.rmse_interval(groups, np.random.default_rng(seed))
    values = (
        score.scan,
        score.coverage,
        score.completer,
        score.rmse,
        *((None, None) if interval is None else interval),
        float(score.losses.mean()),
        1e3 * score.seconds,
        len(score.losses),
        len(np.unique(groups)),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _crop_table(scores: Sequence[CompletionScore], test: TestCrops) -> str:
    """CSV with one row for each crop, scan, coverage and completer."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("crop", "micrograph", "group", "scan", "coverage", "completer", "loss"))
    for score in scores:
        for crop, (micrograph, group, value) in enumerate(
            zip(test.micrographs, test.groups, score.losses, strict=True)
        ):
            line = (crop, micrograph, group, score.scan, f"{score.coverage:.6g}", score.completer, f"{value:.9g}")
            writer.writerow(line)
    return text.getvalue()


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    """RMSE of each completer, a column for each scan and coverage."""
    columns = list(dict.fromkeys((row["scan"], row["coverage"]) for row in rows))
    found = {(row["completer"], row["scan"], row["coverage"]): row for row in rows}
    table = Table(title="RMSE on [0, 1], %")
    for name in ("completer", *(f"{scan}\n1/{1 / coverage:.4g}" for scan, coverage in columns), "ms"):
        table.add_column(name, justify="left" if name == "completer" else "right")
    for completer in dict.fromkeys(row["completer"] for row in rows):
        own = [found.get((completer, *column)) for column in columns]
        cells = ["" if row is None else f"{100 * row['rmse']:.2f}" for row in own]
        cost = np.mean([row["milliseconds"] for row in own if row is not None])
        table.add_row(completer, *cells, f"{cost:.1f}")
    return table
