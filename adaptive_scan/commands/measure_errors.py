"""``measure-errors``: where completions are wrong, by pixel, by distance from path and edge, and by picture."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from tqdm import tqdm

from adaptive_scan.commands.command_options import ErrorsConfig
from adaptive_scan.commands.contenders import adaptive_contender, family_contender
from adaptive_scan.commands.crops import open_micrographs, report_skipped
from adaptive_scan.commands.held_out import TrainedGenerator, trained_generator, without_trained
from adaptive_scan.commands.networks import make_device, use_threads
from adaptive_scan.commands.options import OWN_SCANS
from adaptive_scan.commands.plugins import generator_name, load_completers, load_sized_generator
from adaptive_scan.commands.run_folder import MANIFEST, POLICY, check_new, make_run_folder, read_json
from adaptive_scan.commands.runs import load_run
from adaptive_scan.commands.settings import CropSettings
from adaptive_scan.commands.terminal import note_unknown_training, print_whole
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation import Contender, static_contenders
from adaptive_scan.evaluation.systematic_errors import (
    Crops,
    Measured,
    SystematicErrors,
    measure_errors,
    summary,
)
from adaptive_scan.files import write_atomically, write_json, write_npz
from adaptive_scan.generators import Completer
from adaptive_scan.micrographs import MicrographCrops, MicrographDataset
from adaptive_scan.report import errors_figure, save_figure
from adaptive_scan.scans import STATIC_SCANS, ScanGeometry
from adaptive_scan.specimens import procedural_crops

_DEFAULT_SIZE, _DEFAULT_COVERAGE = 96, 0.04
_BATCH_SIZE = 64
_N_SETS = 256
_PROCEDURAL = (2**32 - 1, 2)  # a stream of random numbers that no training and no comparison draws from
_COLUMNS = ("scan", "completer", "quantity", "at", "n", "rmse", "low", "high")


@dataclass(frozen=True)
class _Settings:
    """Settings with those of the run filled in: a `DataConfig`, and what else is measured with."""

    micrographs: Path | None
    groups: Path | None
    skip_bad: bool
    seed: int
    geometry: ScanGeometry
    data: CropSettings
    blur: bool
    acquisition: str


def _settings(config: ErrorsConfig, run: TrainedGenerator | None) -> _Settings:
    if run is None:
        size, downsample = config.size or _DEFAULT_SIZE, config.downsample or 1
        blur, acquisition = True, "ideal"
        geometry = _geometry(size, config.coverage or _DEFAULT_COVERAGE)
    else:
        size, downsample = run.config.geometry.image_size, run.config.data.downsample
        for name, given, own in (("size", config.size, size), ("downsample", config.downsample, downsample)):
            if given not in (None, own):
                raise SettingError(f"{name}: got {given} with a run whose own is {own}; expected that one or none")
        blur, acquisition = run.blur, run.config.acquisition
        geometry = run.config.geometry if config.coverage is None else _geometry(size, config.coverage)
    return _Settings(
        config.micrographs,
        config.groups,
        config.skip_bad,
        config.seed,
        geometry,
        CropSettings(downsample=downsample),
        blur if config.blur is None else config.blur,
        acquisition if config.acquisition is None else config.acquisition,
    )


def _geometry(size: int, coverage: float) -> ScanGeometry:
    """Field and dose; static scans need no segments."""
    return ScanGeometry(size, 1, max(round(coverage * size**2), 1))


def _contenders(config: ErrorsConfig, settings: _Settings, run: TrainedGenerator | None) -> list[Contender]:
    """The scans.

    Raises:
        SettingError: If a scan of a run's own is asked for without a run, or at another coverage than the run's.
    """
    own = [name for name in config.scans if name in OWN_SCANS]
    if own and (run is None or config.coverage is not None):
        found = "no run" if run is None else "a coverage"
        raise SettingError(
            f"scans: got {own[0]!r} with {found}; expected a run, at its own coverage, or one of "
            f"{', '.join(STATIC_SCANS)}"
        )
    return [_contender(name, settings, run) for name in config.scans]


def _contender(name: str, settings: _Settings, run: TrainedGenerator | None) -> Contender:
    if name in STATIC_SCANS or run is None:
        return static_contenders([name])[0]
    if name != "adaptive":
        return family_contender(name, settings.geometry)
    if not (run.folder / POLICY).exists():
        raise SettingError(f"{run.folder}: got no {POLICY}; expected a run of train_rdpg for the adaptive scan")
    trained = load_run(run.folder)
    return adaptive_contender(trained.config, trained.policy)


def _completers(
    config: ErrorsConfig, run: TrainedGenerator | None, image_size: int, device: torch.device
) -> dict[str, Completer]:
    """Completers by their names: of files and runs those that tell them apart."""
    files = {path: generator_name(path) for path in config.generators}
    if run is not None:
        files[run.path] = run.folder.resolve().name
    names = config.completers or (() if files else ("linear",))
    completers = load_completers(names, image_size=image_size, device=device)
    for path, name in files.items():
        completers[str(path) if name in completers else name] = load_sized_generator(path, image_size, device)
    return completers


def _batches(config: ErrorsConfig, settings: _Settings, run: TrainedGenerator | None) -> tuple[int, Iterator[Crops]]:
    """Number of crops, and the crops, of which only a batch is in memory where they need not all be.

    Raises:
        SettingError: If nothing is left that the run did not train on.
        MicrographError: If micrographs cannot be used.
    """
    if config.micrographs is not None:
        dataset = open_micrographs(config.micrographs, settings, skip_bad=config.skip_bad, groups=config.groups)
        report_skipped(dataset.skipped)
        if run is not None:
            dataset = without_trained(dataset, read_json(run.folder / MANIFEST))
        return _micrograph_batches(dataset, settings, config.crops_per_micrograph)
    if run is not None:
        test = run.test
        return len(test.crops), (
            Crops(test.crops[begin : begin + _BATCH_SIZE], test.groups[begin : begin + _BATCH_SIZE])
            for begin in range(0, len(test.crops), _BATCH_SIZE)
        )
    return config.n_crops, _procedural_batches(config.n_crops, settings.geometry.image_size)


def _micrograph_batches(
    dataset: MicrographDataset, settings: _Settings, per_micrograph: int
) -> tuple[int, Iterator[Crops]]:
    source = MicrographCrops(
        dataset, settings.geometry.image_size, downsample=settings.data.downsample, symmetries=False
    )
    ids = source.tiles(max_per_micrograph=per_micrograph or None)
    return len(ids), (
        Crops(source.take(some), [dataset.groups[i] for i in some[:, 0]])
        for some in (ids[begin : begin + _BATCH_SIZE] for begin in range(0, len(ids), _BATCH_SIZE))
    )


def _procedural_batches(n_crops: int, size: int) -> Iterator[Crops]:
    """Procedural crops, the same ones whatever the seed; for the bootstrap, independent crops are dealt out to sets."""
    for begin in range(0, n_crops, _BATCH_SIZE):
        n_drawn = min(_BATCH_SIZE, n_crops - begin)
        crops, _ = procedural_crops(n_drawn, size, np.random.default_rng([*_PROCEDURAL, begin]))
        yield Crops(crops, [f"set {i % _N_SETS}" for i in range(begin, begin + n_drawn)])


def measure_completions(config: ErrorsConfig) -> None:
    """Measure, write ``errors.json``, ``.csv``, ``.npz`` and ``.png``, show a table, and say where the files are.

    Raises:
        SettingError: If settings do not go together, or there is no such run or no picture left.
        FileContentError: If a generator or a file of micrographs cannot be used.
    """
    check_new(config.out)
    device = make_device(config.device)
    use_threads(config.n_threads)
    run = None if config.run is None else trained_generator(config.run, skip_bad=config.skip_bad)
    settings = _settings(config, run)
    contenders = _contenders(config, settings, run)
    completers = _completers(config, run, settings.geometry.image_size, device)
    if config.micrographs is not None or (run is not None and run.config.micrographs is not None):
        note_unknown_training(config.generators)
    n_crops, batches = _batches(config, settings, run)
    found = measure_errors(
        tqdm(batches, total=-(-n_crops // _BATCH_SIZE), desc="measuring", unit="batch", disable=None),
        contenders,
        completers,
        settings.geometry,
        blur_targets=settings.blur,
        acquisition=settings.acquisition,
        seed=config.seed,
    )
    folder = make_run_folder(config.out, "errors")
    report = _report(found, config, settings)
    files = _write(report, found, folder)
    print_whole(_table(report["measured"]))
    print(f"written: {', '.join(str(file) for file in files)}")


def _report(found: Mapping[Measured, SystematicErrors], config: ErrorsConfig, settings: _Settings) -> dict[str, Any]:
    """What ``errors.json`` holds."""
    measured = [
        {**dataclasses.asdict(key), **summary(errors, np.random.default_rng([config.seed, 0]))}
        for key, errors in found.items()
    ]
    return {
        "run": None if config.run is None else str(config.run),
        "generators": [str(path) for path in config.generators],
        "micrographs": None if config.micrographs is None else str(config.micrographs.absolute()),
        "size": settings.geometry.image_size,
        "n_positions": settings.geometry.n_positions_total,
        "dose": settings.geometry.n_positions_total,  # the name until 0.1, to be left out in 0.3
        "downsample": settings.data.downsample,
        "blur": settings.blur,
        "acquisition": settings.acquisition,
        "seed": config.seed,
        "measured": measured,
    }


def _write(report: Mapping[str, Any], found: Mapping[Measured, SystematicErrors], folder: Path) -> list[Path]:
    """Write the files, the JSON last, so that where it is the others are."""
    maps = {key.label: errors.map for key, errors in found.items()}
    entries = {key.label: entry for key, entry in zip(found, report["measured"], strict=True)}
    table, arrays, figure, values = (folder / f"errors.{suffix}" for suffix in ("csv", "npz", "png", "json"))
    write_atomically(table, errors_csv(report["measured"]))
    write_npz(arrays, **maps)
    save_figure(errors_figure(maps, entries), figure)
    write_json(values, report)
    return [table, arrays, figure, values]


def errors_csv(measured: Sequence[Mapping[str, Any]]) -> str:
    """Curves and histograms as CSV text, one row for each distance and for each bin.

    Args:
        measured: Entries ``measured`` of ``errors.json``.

    Returns:
        Text with the columns scan, completer, quantity (path, edge or histogram), at (distance [px], or
        lower edge of the bin), n (pixels, or pictures), rmse, low, high.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in measured:
        name = [entry["scan"], entry["completer"]]
        for quantity in ("path", "edge"):
            for at, n, *figures in zip(*entry[quantity].values(), strict=True):
                cells = ["" if figure is None else f"{figure:.9g}" for figure in figures]
                writer.writerow([*name, quantity, at, n, *cells])
        histogram = entry["histogram"]
        counts = [*histogram["n_pictures"], histogram["n_above"]]
        for at, n in zip(histogram["edges"], counts, strict=True):
            writer.writerow([*name, "histogram", f"{at:.9g}", n, "", "", ""])
    return text.getvalue()


def _table(measured: Sequence[Mapping[str, Any]]) -> Table:
    """RMSE of each entry, on its path and far from it."""
    n_pictures, n_groups = measured[0]["n_pictures"], measured[0]["n_groups"]
    table = Table(title=f"RMSE on [0, 1], %: {n_pictures} crops of {n_groups} groups")
    headings = (
        "scan",
        "completer",
        "all",
        "95 %",
        "on path",
        "far half",
        "edge",
    )
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < 2 else "right")
    for entry in measured:
        interval = entry["interval"]
        table.add_row(
            entry["scan"],
            entry["completer"],
            f"{100 * entry['rmse']:.2f}",
            "" if interval is None else f"{100 * interval[0]:.2f}-{100 * interval[1]:.2f}",
            *(f"{100 * value:.2f}" for value in _near_and_far(entry["path"])),
            f"{100 * entry['edge']['rmse'][0]:.2f}",
        )
    return table


def _near_and_far(path: Mapping[str, Sequence[Any]]) -> tuple[float, float]:
    """RMSE of the nearest bin, and of the farthest ones that hold half of the pixels or just more."""
    n_pixels, errors = np.array(path["n_pixels"], np.float64), np.array(path["rmse"]) ** 2
    beyond = np.cumsum(n_pixels[::-1])[::-1]
    far = np.flatnonzero(beyond >= 0.5 * beyond[0])[-1]
    return float(path["rmse"][0]), float(np.sqrt(np.average(errors[far:], weights=n_pixels[far:])))
