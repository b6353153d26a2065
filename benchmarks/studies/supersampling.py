"""``compare_supersampling``: methods that complete uniform grids, on crops of any folder of micrographs."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adaptive_scan.commands.cli import parse_options
from adaptive_scan.commands.crops import report_skipped
from adaptive_scan.commands.errors import run_command
from adaptive_scan.commands.networks import make_device, use_threads
from adaptive_scan.commands.options import CommandOptions, check_not_negative, check_positive
from adaptive_scan.commands.run_folder import check_new, make_run_folder
from adaptive_scan.commands.terminal import note_unknown_training, print_whole
from adaptive_scan.errors import SettingError
from adaptive_scan.files import write_atomically, write_json
from adaptive_scan.generators import load_generator
from adaptive_scan.generators.completers import COMPLETERS, make_completer
from adaptive_scan.generators.grids import GRID_WEIGHTS
from adaptive_scan.micrographs import MicrographCrops, MicrographDataset, fingerprint
from studies.supersampling_scores import (
    STRIDES,
    CellCompleter,
    SupersamplingScore,
    supersampling_errors,
    supersampling_scores,
)

REFERENCE = "bilinear"
"""The method that ratios refer to; it is always among those compared."""


@dataclass(frozen=True, kw_only=True)
class SupersamplingConfig(CommandOptions):
    """What is compared, on which crops, and where the files go."""

    micrographs: Path
    """File or folder of micrographs."""
    groups: Path | None = None
    """CSV with the columns file and group; a group is the unit of the bootstrap."""
    out: Path | None = None
    """New or empty folder for the files; without it one under runs/, named by the time."""
    size: int | Literal["any"] = 512
    """Side of the crops [px]; any takes the largest square in the middle of each micrograph."""
    crops_per_micrograph: int = 1
    """Most crops of one micrograph, without overlap."""
    methods: tuple[str, ...] = tuple(GRID_WEIGHTS)
    """Classical completers; those of the published table by default."""
    generator: tuple[Path, ...] = ()
    """Generator files to compare as well, named by their stems."""
    strides: tuple[int, ...] = STRIDES
    """Distances of the kept pixels [px]: s keeps about 1 / s^2 of all."""
    blur: bool = True
    """Whether the targets are blurred, as the paper's are."""
    alignment: Literal["measured", "cells"] = "measured"
    """Where values stand: measured, or cells for the centres of cells, as image libraries resize."""
    batch_size: int = 16
    """Crops at once."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the generators run."""
    n_threads: int = 0
    """Threads of PyTorch on the CPU, 0 for its own choice."""
    skip_bad: bool = False
    """Whether files that cannot be used are skipped and reported, instead of ending the command."""
    seed: int = 0
    """Seed of the bootstrap."""

    def __post_init__(self) -> None:
        check_positive(self, "crops_per_micrograph", "batch_size")
        check_not_negative(self, "seed", "n_threads")
        if not self.strides or min(self.strides) < 1 or len(set(self.strides)) < len(self.strides):
            raise ValueError(f"strides: got {self.strides}; expected different numbers of at least 1 px")
        if self.size != "any" and self.size < self.smallest_size:
            raise ValueError(
                f"size: got {self.size} px; expected at least {self.smallest_size} px for the stride"
                f" {max(self.strides)} px"
            )
        known = tuple(GRID_WEIGHTS) if self.alignment == "cells" else tuple(COMPLETERS)
        unknown = [name for name in self.methods if name not in known]
        if unknown:
            of = " with --alignment cells" if self.alignment == "cells" else ""
            raise ValueError(f"methods: got {unknown[0]!r}; expected names among {', '.join(known)}{of}")

    @property
    def smallest_size(self) -> int:
        """Side of the smallest crop that keeps 2 x 2 pixels at every stride and can be blurred [px]."""
        return max(7, max(self.strides) + 1)


def parse_supersampling(arguments: list[str]) -> SupersamplingConfig:
    """Settings of ``compare_supersampling``.

    Args:
        arguments: Arguments of the command line.

    Raises:
        SettingError: If an option or a value is none.

    Example:
        >>> parse_supersampling(["--micrographs", "a", "--size", "256", "--strides", "4", "8"]).strides
        (4, 8)
    """
    description = "Compare methods that supersample uniform grids, on crops of a folder of micrographs."
    return parse_options(SupersamplingConfig, arguments, "compare_supersampling", description)


def compared_methods(config: SupersamplingConfig) -> dict[str, Callable[[Tensor], Tensor]]:
    """Completers by name: the reference, the methods asked for, and the generators.

    Args:
        config: Settings.

    Raises:
        SettingError: If a generator has the name of another method, or crops of this size cannot go through it.
        GeneratorFileError: If a file holds no generator.
    """
    make = CellCompleter if config.alignment == "cells" else make_completer
    names = config.methods if REFERENCE in config.methods else (REFERENCE, *config.methods)
    methods: dict[str, Callable[[Tensor], Tensor]] = {name: make(name) for name in names}
    device = make_device(config.device)
    for path in config.generator:
        if path.stem in methods:
            raise SettingError(f"generator: got the name {path.stem!r} twice; expected another file name than that")
        network = load_generator(path, device)
        stride = getattr(network, "stride", 1)
        if config.size != "any" and config.size % stride:
            raise SettingError(f"size: got {config.size} px; expected a multiple of {stride} px for {path}")
        methods[path.stem] = network
    return methods


@dataclass(frozen=True)
class Places:
    """Where the crops lie.

    Attributes:
        dataset: The micrographs that are large enough.
        squares: Micrograph, row, column and side of each crop [px], shape (n_crops, 4), sides in order.
    """

    dataset: MicrographDataset
    squares: np.ndarray

    @property
    def groups(self) -> np.ndarray:
        """Group of micrographs of each crop, shape (n_crops,)."""
        names = self.dataset.groups
        return np.array([names[number] for number in self.squares[:, 0]])

    def crops(self, batch: slice) -> np.ndarray:
        """Crops in [-1, 1], shape (n, S, S), of a batch whose sides are equal."""
        ids = self.squares[batch]
        source = MicrographCrops(self.dataset, int(ids[0, 3]), symmetries=False)
        return source.take(np.column_stack((ids[:, :3], np.zeros(len(ids), dtype=np.int64))))

    def batches(self, batch_size: int) -> list[slice]:
        """Parts of the crops that have one side."""
        ends = [*np.flatnonzero(np.diff(self.squares[:, 3])) + 1, len(self.squares)]
        begins = [0, *ends[:-1]]
        return [
            slice(first, min(first + batch_size, end))
            for begin, end in zip(begins, ends, strict=True)
            for first in range(begin, end, batch_size)
        ]


def choose_places(config: SupersamplingConfig, *, multiple: int = 1) -> Places:
    """The crops of all micrographs that are large enough.

    Args:
        config: Settings.
        multiple: What the sides of crops of any size are multiples of [px].

    Raises:
        MicrographError: If a file cannot be used and bad files are not skipped, or no micrograph is large enough.
    """
    dataset = MicrographDataset(config.micrographs, skip_bad=config.skip_bad, groups=config.groups)
    least = math.ceil(config.smallest_size / multiple) * multiple if config.size == "any" else config.size
    candidates = MicrographCrops(dataset, least, symmetries=False).candidates
    report_skipped(dataset.skipped)
    if len(candidates) < len(dataset):
        n_left_out = len(dataset) - len(candidates)
        print(f"left out: {n_left_out} of {len(dataset)} micrographs, which are smaller than {least} px")
    dataset = dataset.subset(candidates)
    sides = np.full(len(dataset), least)
    if config.size == "any":
        sides = dataset.shapes.min(axis=1) // multiple * multiple
    squares = []
    for side in np.unique(sides):
        same = np.flatnonzero(sides == side)
        source = MicrographCrops(dataset.subset(same), int(side), symmetries=False)
        ids = source.tiles(max_per_micrograph=1 if config.size == "any" else config.crops_per_micrograph)
        squares.append(np.column_stack((same[ids[:, 0]], ids[:, 1:3], np.full(len(ids), side))))
    return Places(dataset, np.concatenate(squares))


def compare_supersampling(config: SupersamplingConfig) -> tuple[Path, dict[str, Any], list[SupersamplingScore]]:
    """Compare, and write ``supersampling.json`` (scores) and ``supersampling.csv`` (the error on each crop).

    Args:
        config: Settings.

    Returns:
        The folder of the two files, what the JSON holds, and the scores.

    Raises:
        SettingError: If the folder has something in it, or generators do not go with the size.
        FileContentError: If a file of micrographs or of a generator cannot be used.
    """
    check_new(config.out)
    use_threads(config.n_threads)
    methods = compared_methods(config)
    places = choose_places(config, multiple=math.lcm(*(getattr(method, "stride", 1) for method in methods.values())))
    note_unknown_training(config.generator)
    folder = make_run_folder(config.out, "supersampling")
    run = partial(
        supersampling_errors,
        methods=methods,
        strides=config.strides,
        blur=config.blur,
        device=make_device(config.device if config.generator else "cpu"),
    )
    batches = [run(places.crops(batch)) for batch in tqdm(places.batches(config.batch_size), disable=None)]
    errors = np.concatenate(batches, axis=-1)
    scores = supersampling_scores(
        errors, list(methods), config.strides, places.groups, reference=REFERENCE, seed=config.seed
    )
    report = _report(config, places, scores)
    write_json(folder / "supersampling.json", report)
    write_atomically(folder / "supersampling.csv", _csv(errors, list(methods), config.strides, places))
    return folder, report, scores


def _report(config: SupersamplingConfig, places: Places, scores: Sequence[SupersamplingScore]) -> dict[str, Any]:
    return {
        "micrographs": {
            "path": str(config.micrographs.absolute()),
            "fingerprint": fingerprint(places.dataset),
            "n_micrographs": len(np.unique(places.squares[:, 0])),
            "n_groups": len(np.unique(places.groups)),
            "n_crops": len(places.squares),
        },
        "generators": [str(path.absolute()) for path in config.generator],
        "size": config.size,
        "crops_per_micrograph": config.crops_per_micrograph,
        "blur": config.blur,
        "alignment": config.alignment,
        "seed": config.seed,
        "reference": REFERENCE,
        "scores": [dataclasses.asdict(score) for score in scores],
    }


def _csv(errors: np.ndarray, methods: Sequence[str], strides: Sequence[int], places: Places) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["micrograph", "group", "row", "column", "size", "method", "stride", "mse"])
    names, groups = places.dataset.names, places.groups.tolist()
    for crop, (number, *square) in enumerate(places.squares.tolist()):
        where = [names[number], groups[crop], *square]
        table.writerows(
            [*where, method, stride, f"{errors[i, j, crop]:.9g}"]
            for i, method in enumerate(methods)
            for j, stride in enumerate(strides)
        )
    return text.getvalue()


def supersampling_table(report: Mapping[str, Any], scores: Sequence[SupersamplingScore]) -> Table:
    """The scores as a table for the terminal: a line per method, a column per stride.

    Args:
        report: As :func:`compare_supersampling` returns it.
        scores: The same.
    """
    counts = report["micrographs"]
    target = "blurred" if report["blur"] else "raw"
    table = Table(
        title=f"RMSE on [0, 1] (95% interval; mean RMSE of the crops), {counts['n_crops']} crops of"
        f" {counts['n_groups']} groups, {target} targets"
    )
    table.add_column("method")
    for stride in dict.fromkeys(score.stride for score in scores):
        table.add_column(f"1/{stride**2}", justify="right")
    for method in dict.fromkeys(score.method for score in scores):
        table.add_row(method, *(_score_text(score) for score in scores if score.method == method))
    return table


def _score_text(score: SupersamplingScore) -> str:
    ends = score.rmse_ci95
    interval = "no interval" if ends is None else f"{ends[0]:.4f}-{ends[1]:.4f}"
    return f"{score.rmse:.4f} ({interval}; {score.rmse_of_crops:.4f})"


def compare_supersampling_command(config: SupersamplingConfig) -> None:
    """Compare, show the table, and say where the files are.

    Raises:
        SettingError: As :func:`compare_supersampling`.
        FileContentError: As there.
    """
    folder, report, scores = compare_supersampling(config)
    print_whole(supersampling_table(report, scores))
    print(f"written: {', '.join(str(folder / f'supersampling.{end}') for end in ('json', 'csv'))}")


def main() -> int:
    """Run the study with the options of the command line; returns the exit status."""
    return run_command(lambda arguments: compare_supersampling_command(parse_supersampling(arguments)), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
