"""``calibrate``: a per-pixel error estimate for the generator of a run, and how right it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from adaptive_scan.acquisition import as_instrument
from adaptive_scan.commands.checkpoints import failing_in_one_line
from adaptive_scan.commands.command_options import CalibrationConfig
from adaptive_scan.commands.contenders import adaptive_contender
from adaptive_scan.commands.crops import Data, TestCrops, load_data, report_skipped
from adaptive_scan.commands.generator_settings import GeneratorConfig
from adaptive_scan.commands.networks import make_device, use_threads
from adaptive_scan.commands.run_folder import (
    CONFIG,
    check_new,
    check_same_data,
    find_generator,
    make_folder,
    read_config,
    read_json,
)
from adaptive_scan.commands.runs import load_run
from adaptive_scan.commands.settings import TrainingConfig
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation import Contender, measure
from adaptive_scan.evaluation.calibration import ErrorSample, calibration_summary, sample_errors
from adaptive_scan.files import write_json
from adaptive_scan.generators import blur_targets, load_generator
from adaptive_scan.generators.augment import augment
from adaptive_scan.generators.families import dose_of, family_positions, is_adaptive
from adaptive_scan.generators.uncertainty import (
    CompleterWithError,
    ErrorTraining,
    PredictingCompleter,
    completer_fingerprint,
    fit_scale,
    save_error_head,
    train_error_head,
)
from adaptive_scan.micrographs import CropSource, blur_target, split_groups
from adaptive_scan.report import calibration_figure, save_figure
from adaptive_scan.scans import STATIC_SCANS, ScanGeometry, partial_scans, sample

UNCERTAINTY, REPORT, FIGURE = "uncertainty.safetensors", "calibration.json", "calibration.png"
FORMAT_VERSION = 1
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the dose after which held-out scans are judged; a scan that stops early is one of the first three."""

_FEWEST_SEGMENTS = 2
_N_PIECES = 4
_SCANS, _PIXELS, _RESAMPLES = 1, 2, 3  # streams of random numbers


@dataclass(frozen=True)
class ScanKind:
    """A kind of scan that a generator was trained to complete.

    Attributes:
        name: What the report calls it.
        family: Name of a family of static scans, or a policy as it takes part in comparisons.
        n_positions: Number of positions of the whole scan.
    """

    name: str
    family: str | Contender
    n_positions: int

    def partial_scans(
        self, crops: np.ndarray, geometry: ScanGeometry, acquisition: str, *, n_positions: int, seed: int
    ) -> np.ndarray:
        """Partial scans of crops after so many positions.

        Args:
            crops: Shape (n_scans, S, S).
            geometry: Field, and the segments of scans that have them.
            acquisition: Name of the instrument.
            n_positions: Positions after which the scans are looked at, at most the dose.
            seed: Of random scans and of the instrument.

        Returns:
            Measured values and masks, float32, shape (n_scans, 2, S, S).
        """
        if isinstance(self.family, str):
            rng = np.random.default_rng(seed)
            positions = family_positions(self.family, geometry, len(crops), rng, n_positions=self.n_positions)[
                :, :n_positions
            ]
            instrument = as_instrument(acquisition)
            begun = instrument.begin(len(crops), rng)
            values = instrument.measure(positions, lambda displaced: sample(crops, displaced), begun).values
        else:
            positions, values = measure(self.family, crops, geometry, acquisition=acquisition, seed=seed)
        return partial_scans(values[:, :n_positions], positions[:, :n_positions], geometry.image_size)


@dataclass(frozen=True)
class GeneratorRun:
    """What any run with a generator holds.

    Attributes:
        config: Settings of the run.
        generator: The trained generator.
        kinds: The scans that it was trained to complete.
        blur: Whether it was trained towards blurred crops.
    """

    config: TrainingConfig | GeneratorConfig
    generator: nn.Module
    kinds: list[ScanKind]
    blur: bool

    def partial_scans(self, kind: ScanKind, crops: np.ndarray, *, n_positions: int, seed: int) -> np.ndarray:
        """Partial scans of crops by the run's instrument; see `ScanKind.partial_scans`."""
        config = self.config
        return kind.partial_scans(crops, config.geometry, config.acquisition, n_positions=n_positions, seed=seed)

    def fewest_positions(self, kind: ScanKind) -> int:
        """Positions of two segments, after which a scan may first stop, or the dose where that is less."""
        return min(_FEWEST_SEGMENTS * self.config.geometry.n_positions, kind.n_positions)


def load_generator_run(folder: Path, device: torch.device) -> GeneratorRun:
    """Read the run folder of ``train_rdpg`` or of ``train_generator``.

    Raises:
        SettingError: If the folder is none, has no trained generator yet, or its settings cannot be read.
        FileContentError: If a network is no whole file of its kind.
    """
    if "agent" in read_json(folder / CONFIG):
        run = load_run(folder, device)
        settings, geometry = run.config.generator, run.config.geometry
        kinds = [ScanKind("adaptive", adaptive_contender(run.config, run.policy), geometry.n_positions_total)]
        kinds += _static_kinds(settings.static_scans if settings.n_static else (), (), geometry)
        return GeneratorRun(run.config, run.generator, kinds, run.config.data.blur)
    config = read_config(GeneratorConfig, folder)
    kinds = _static_kinds(config.training.scans, config.training.coverages, config.geometry)
    if not kinds:
        found = ", ".join(config.training.scans)
        raise SettingError(f"{folder}: got a generator trained on the scans {found} alone; expected a static one too")
    return GeneratorRun(config, load_generator(find_generator(folder), device), kinds, config.training.blur)


def _static_kinds(families: Sequence[str], coverages: Sequence[float], geometry: ScanGeometry) -> list[ScanKind]:
    """The scans of a mixture that need no policy; those of static families have each coverage, if there are any."""
    kinds = []
    for family in dict.fromkeys(families):
        if is_adaptive(family):
            print(f"left out: the scans {family!r}, which the folder does not tell how to make")
        elif family in STATIC_SCANS and coverages:
            doses = {dose_of(coverage, geometry.image_size): coverage for coverage in coverages}
            kinds += [
                ScanKind(f"{family} 1/{1 / coverage:.3g}", family, n_positions)
                for n_positions, coverage in doses.items()
            ]
        else:
            kinds.append(ScanKind(family, family, geometry.n_positions_total))
    return kinds


class ScanDrawer:
    """Draws scans of training crops, cut short at random, for a head that is to know scans that may still stop.

    A batch is made of pieces, each of one kind of scan; half of the pieces are whole, and the others end after a number
    of positions drawn evenly from those of two segments to all.

    Args:
        run: Scans and instrument.
        crops: Source of training crops.
        batch_size: Scans in a batch.
        seed: Of everything drawn.
    """

    def __init__(self, run: GeneratorRun, crops: CropSource, batch_size: int, seed: int) -> None:

        self._run, self._crops, self._batch_size = run, crops, batch_size
        self._rng = np.random.default_rng([seed, _SCANS])
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Partial scans, shape (batch_size, 2, S, S), and targets, shape (batch_size, 1, S, S)."""
        crops = self._crops.take(self._crops.draw(self._batch_size, self._rng))
        pieces = np.array_split(crops, min(_N_PIECES, self._batch_size))
        scans = torch.from_numpy(np.concatenate([self._scan(piece) for piece in pieces]))
        targets = torch.from_numpy(crops)[:, None]
        return augment(scans, blur_targets(targets) if self._run.blur else targets, self._generator)

    def _scan(self, crops: np.ndarray) -> np.ndarray:
        rng, run = self._rng, self._run
        kind = run.kinds[rng.integers(len(run.kinds))]
        is_whole = rng.random() < 0.5
        cut = int(rng.integers(run.fewest_positions(kind), kind.n_positions + 1))
        seed = int(rng.integers(2**31))
        return run.partial_scans(kind, crops, n_positions=kind.n_positions if is_whole else cut, seed=seed)


def judge_errors(
    run: GeneratorRun,
    completer: PredictingCompleter,
    test: TestCrops,
    which: np.ndarray,
    *,
    seed: int,
    device: torch.device,
) -> tuple[ErrorSample, list[tuple[str, float]]]:
    """Predicted and true errors of held-out scans, of every kind and after every share of the dose.

    Args:
        run: Scans and instrument.
        completer: Completes and predicts.
        test: Held-out crops.
        which: Indices of the crops to scan.
        seed: Of random scans, of the instrument, and of the pixels that are kept.
        device: Where the completer is.

    Returns:
        The sample, and of each of its scans the kind and the share.
    """
    crops, groups = test.crops[which], np.array(test.groups)[which]
    targets = blur_target(crops) if run.blur else crops
    rng = np.random.default_rng([seed, _PIXELS])
    samples, labels = [], []
    for kind in run.kinds:
        for share in SHARES:
            n_positions = max(round(share * kind.n_positions), run.fewest_positions(kind))
            scans = run.partial_scans(kind, crops, n_positions=n_positions, seed=seed)
            samples.append(sample_errors(completer, scans, targets, groups, rng, device=device))
            labels += [(kind.name, share)] * len(crops)
    fields = [field.name for field in dataclasses.fields(ErrorSample)]
    joined = ErrorSample(*(np.concatenate([getattr(sample, name) for sample in samples]) for name in fields))
    return joined, labels


def halves(test: TestCrops, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the held-out crops to calibrate on and of those to report on, by group.

    Raises:
        SettingError: If all crops are of one group.
    """
    if len(set(test.groups)) < 2:
        raise SettingError(
            f"run: got held-out crops of one group, {test.groups[0]!r}; expected at least two groups, one to"
            " calibrate on and one to report on (a larger data.test-fraction in training holds out more)"
        )
    calibration, report = split_groups(test.groups, (0.5, 0.5), seed=seed)
    return calibration, report


def calibrate_generator(config: CalibrationConfig) -> dict[str, Any]:
    """Train and calibrate an error head, and write ``uncertainty.safetensors``, ``calibration.json`` and ``.png``.

    The head learns from training crops, its scale comes from half of the held-out groups, and everything reported from
    the other half, which neither saw.

    Args:
        config: Settings.

    Returns:
        What the JSON holds.

    Raises:
        SettingError: If the folder has something in it, or the run or its micrographs cannot be used.
        FileContentError: If a file of the run or of the micrographs cannot be read.
        TrainingFailedError: If the training of the head diverges.
    """
    check_new(config.out)
    device = make_device(config.device)
    run = load_generator_run(config.run, device)
    use_threads(run.config.n_threads)
    moved = run.config if config.micrographs is None else _moved(run.config, config.micrographs)
    data = load_data(moved)
    report_skipped(data.skipped)
    check_same_data(config.run, data.description)
    calibration, reported = halves(data.test, config.seed)
    folder = make_folder(config.run if config.out is None else config.out)
    head = _train(run, data, config, device)

    own, _ = judge_errors(run, head, data.test, calibration, seed=config.seed, device=device)
    scale = fit_scale(torch.from_numpy(own.predicted_rmse), torch.from_numpy(own.rmse))
    completer = head.scaled(scale)
    sample, labels = judge_errors(run, head, data.test, reported, seed=config.seed, device=device)
    rng = np.random.default_rng([config.seed, _RESAMPLES])
    groups = np.array(data.test.groups)
    report = {
        "format_version": FORMAT_VERSION,
        "run": str(config.run),
        "completer": completer_fingerprint(run.generator),
        "seed": config.seed,
        "n_updates": config.n_updates,
        "scale": scale,
        "calibration_groups": np.unique(groups[calibration]).tolist(),
        "report_groups": np.unique(groups[reported]).tolist(),
        "rows": _rows(sample.scaled(scale), labels, rng),
        "before_calibration": _rows(sample, labels, rng)[0],
    }
    save_error_head(completer, folder / UNCERTAINTY, metadata={"seed": config.seed, "n_updates": config.n_updates})
    _draw(sample, scale, folder / FIGURE, rng)
    write_json(folder / REPORT, report)
    return report


def _moved(config: TrainingConfig | GeneratorConfig, micrographs: Path) -> TrainingConfig | GeneratorConfig:
    if config.micrographs is None:
        raise SettingError(f"micrographs: got {micrographs} for a run on procedural crops; expected none")
    return dataclasses.replace(config, micrographs=micrographs)


def _train(run: GeneratorRun, data: Data, config: CalibrationConfig, device: torch.device) -> CompleterWithError:
    """The generator with a head that is not calibrated yet."""
    settings = ErrorTraining(
        n_updates=config.n_updates,
        learning_rate=config.learning_rate,
        beta=config.beta,
        n_channels=config.n_channels,
        seed=config.seed,
    )
    drawer = ScanDrawer(run, data.train, config.batch_size, config.seed)
    with tqdm(total=config.n_updates, desc="error head", disable=None) as bar, failing_in_one_line(config.run):
        head = train_error_head(
            run.generator, drawer, settings, device=device, on_update=lambda step, losses: bar.update()
        )
    return CompleterWithError(run.generator, head).eval()


def _rows(sample: ErrorSample, labels: Sequence[tuple[str, float]], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Figures of all scans together, of each share of the dose, and of each kind of scan at its whole dose."""
    kinds = np.array([kind for kind, _ in labels])
    shares = np.array([share for _, share in labels])
    everything = np.ones(len(labels), dtype=bool)
    chosen: list[tuple[str | None, float | None, np.ndarray]] = [(None, None, everything)]
    chosen += [(None, share, shares == share) for share in SHARES]
    chosen += [(kind, 1.0, (kinds == kind) & (shares == 1.0)) for kind in dict.fromkeys(kinds.tolist())]
    return [
        {"scan": kind, "share": share, **calibration_summary(sample.chosen(which), rng)}
        for kind, share, which in chosen
    ]


def _draw(sample: ErrorSample, scale: float, path: Path, rng: np.random.Generator) -> None:

    save_figure(calibration_figure({"head": sample, "calibrated": sample.scaled(scale)}, rng), path)


def calibration_table(report: Mapping[str, Any]) -> str:
    """The report as aligned lines of text, errors in percent of the range of values.

    Args:
        report: As :func:`calibrate_generator` returns it.
    """
    head = ["scans", "RMSE", "predicted", "calibration error", "relative", "in 1 sd", "in 2 sd", "rank"]
    rows = [("all", report["rows"][0]), ("all, not calibrated", report["before_calibration"])]
    rows += [(_row_name(row), row) for row in report["rows"][1:]]
    cells = [head, *([name, *_cells(row)] for name, row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = []
    for row in cells:
        numbers = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *numbers]) + "\n")
    return "".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    interval = row["ece_interval"]
    spread = "" if interval is None else f" [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]"
    return [
        f"{100 * row['rmse']:.2f}%",
        f"{100 * row['predicted_rmse']:.2f}%",
        f"{100 * row['ece']:.2f}%{spread}",
        _text(row["relative_ece"]),
        *(_text(row["coverage"][k]) for k in ("1", "2")),
        _text(row["rank_correlation"]),
    ]


def _row_name(row: Mapping[str, Any]) -> str:
    name = "all" if row["scan"] is None else str(row["scan"]).replace("_", " ")
    return f"{name}, {100 * row['share']:.0f} % of the dose" if row["scan"] is None else name


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"


def calibrate(config: CalibrationConfig) -> None:
    """Calibrate, show the table, and say where the files are.

    Raises:
        SettingError: As :func:`calibrate_generator`.
    """
    report = calibrate_generator(config)
    print(calibration_table(report), end="")
    print(f"scale of the predicted errors: {report['scale']:.3f}")
    folder = config.run if config.out is None else config.out
    print(f"written: {', '.join(str(folder / name) for name in (UNCERTAINTY, REPORT, FIGURE))}")
