"""``compare-completers``: the error of networks and interpolations on static scans at equal dose."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from tqdm import tqdm

from adaptive_scan.commands.command_options import CompletionConfig
from adaptive_scan.commands.crops import TestCrops
from adaptive_scan.commands.held_out import TrainedGenerator, trained_generator
from adaptive_scan.commands.networks import make_device, use_threads
from adaptive_scan.commands.plugins import load_completers
from adaptive_scan.commands.run_folder import check_new, make_folder
from adaptive_scan.commands.terminal import print_whole
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.completion import CompletionScore, complete_scans, score_completers
from adaptive_scan.files import write_atomically, write_json
from adaptive_scan.generators import COMPLETERS, Completer, load_generator
from adaptive_scan.report import completions_figure, save_figure

_COLUMNS = ("scan", "coverage", "completer", "rmse", "low", "high", "mean_loss", "milliseconds", "n_crops", "n_groups")


def compare_completers(config: CompletionConfig) -> None:
    """Compare completers, write ``completers.json``, ``.csv`` and ``.png``, and show the table.

    Raises:
        SettingError: If a folder is no run, the runs held out different pictures, or a scan is unknown.
        FileContentError: If a file of a run or of the micrographs cannot be used.
    """
    check_new(config.out)
    use_threads(config.n_threads)
    runs = [trained_generator(folder, skip_bad=config.skip_bad) for folder in config.run]
    test = _common_test(runs)
    completers = _completers(config, runs)
    folder = make_folder(config.out)
    n_scores = len(config.scans) * len(config.coverages) * len(completers)
    with tqdm(total=n_scores, desc="completing", disable=None) as bar:
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
        SettingError: If they held out other crops, or were trained towards other targets.
    """
    first = runs[0]
    for run in runs[1:]:
        if not np.array_equal(run.test.crops, first.test.crops):
            raise SettingError(f"{run.folder}: got other held-out crops than in {first.folder}; expected the same")
        if run.blur != first.blur:
            raise SettingError(f"{run.folder}: got blur {run.blur}; expected {first.blur}, as in {first.folder}")
    return first.test


def _completers(config: CompletionConfig, runs: Sequence[TrainedGenerator]) -> dict[str, Completer]:
    """Generators by the name of their run's folder, then interpolations."""
    device = make_device(config.device)
    others = load_completers(config.completers, image_size=runs[0].config.geometry.image_size, device=device)
    completers: dict[str, Completer] = {}
    for run in runs:
        name = run.folder.resolve().name
        if name in completers or name in others or name in COMPLETERS:
            raise SettingError(f"{run.folder}: got a second completer named {name!r}; expected folders of other names")
        completers[name] = load_generator(run.path, device=device)
    return completers | others


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
