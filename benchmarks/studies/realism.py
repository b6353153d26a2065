"""``compare_specimens``: how procedural crops differ from crops of real micrographs, by family."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.markdown import Markdown
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adaptive_scan.commands.cli import parse_options
from adaptive_scan.commands.errors import run_command
from adaptive_scan.commands.options import CommandOptions, check_positive
from adaptive_scan.commands.run_folder import check_new, make_folder
from adaptive_scan.errors import SettingError
from adaptive_scan.files import write_atomically, write_json
from adaptive_scan.micrographs import MicrographCrops, MicrographDataset, area_downsample, fingerprint, normalise
from adaptive_scan.report.style import save_figure
from adaptive_scan.specimens.imaging import IMAGINGS
from adaptive_scan.specimens.procedural import FAMILIES, procedural_crops
from adaptive_scan.specimens.recipes import SPECIMEN_FAMILIES
from studies.crop_statistics import (
    DISTANCES,
    CropStatistics,
    Discrimination,
    distances,
    halves_by_group,
    reference_distances,
    tell_apart,
)
from studies.realism_figure import realism_figure

MIXTURES = {"default_mixture": tuple(FAMILIES), "specimen_mixture": tuple(SPECIMEN_FAMILIES)}
"""Families of which each crop of a mixture is one."""

_ALL = (*MIXTURES, *FAMILIES, *SPECIMEN_FAMILIES)
_SMALLEST_CROP = 48
_N_FOLDS = 5
_N_REFERENCE_SPLITS = 20


@dataclass(frozen=True, kw_only=True)
class RealismConfig(CommandOptions):
    """What is compared, and where the report goes."""

    micrographs: Path
    """Folder of real micrographs; its ``manifest.csv`` says which show one specimen."""
    out: Path
    """New or empty folder for the report."""
    family: tuple[str, ...] = _ALL
    """Families and mixtures to compare."""
    imaging: tuple[str, ...] = ("default",)
    """Settings of the microscope that each of them is drawn with: default, realistic, or both."""
    part: Literal["all", "first", "second"] = "all"
    """Groups of micrographs: all, or one of two random halves, so that what was tuned on one is judged on the other."""
    crop_size: int = 96
    """Side of a crop [px]."""
    downsample: int = 1
    """Side of the blocks that are averaged, in procedural pictures as in real ones [px]."""
    crops_per_group: int = 6
    """Crops of each group of micrographs."""
    n_crops: int = 300
    """Crops of each family."""
    seed: int = 0
    """Seed of everything random; that of the halves is 0 always."""

    def __post_init__(self) -> None:
        check_positive(self, "downsample", "crops_per_group")
        if self.crop_size < _SMALLEST_CROP:
            raise ValueError(f"crop_size: got {self.crop_size} px; expected at least {_SMALLEST_CROP} px")
        if self.n_crops < _N_FOLDS:
            raise ValueError(f"n_crops: got {self.n_crops}; expected at least {_N_FOLDS}")
        if self.seed < 0:
            raise ValueError(f"seed: got {self.seed}; expected at least 0")
        for option, given, known in (("family", self.family, _ALL), ("imaging", self.imaging, tuple(IMAGINGS))):
            unknown = [name for name in given if name not in known]
            if unknown or not given:
                found = repr(unknown[0]) if unknown else "none"
                raise ValueError(f"{option}: got {found}; expected names among {', '.join(known)}")


def parse_realism(arguments: list[str]) -> RealismConfig:
    """Settings of ``compare_specimens``.

    Args:
        arguments: Arguments of the command line.

    Raises:
        SettingError: If an option or a value is none.

    Example:
        >>> parse_realism(["--micrographs", "a", "--out", "b", "--family", "grains"]).family
        ('grains',)
    """
    description = "Compare procedural crops with crops of real micrographs, by family."
    return parse_options(RealismConfig, arguments, "compare_specimens", description)


def real_crops(config: RealismConfig, dataset: MicrographDataset) -> tuple[np.ndarray, np.ndarray]:
    """Crops of the micrographs, as many of each group as of another.

    Args:
        config: Settings.
        dataset: The micrographs.

    Returns:
        Crops in [-1, 1], shape (N, S, S), and the group of each, shape (N,).

    Raises:
        SettingError: If fewer groups than the cross-validation of two halves needs have a picture that is large enough.
    """
    groups = np.array(dataset.groups)
    large = np.zeros(len(dataset), bool)
    large[dataset.shapes.min(axis=1) >= config.crop_size * config.downsample] = True
    names = np.unique(groups[large])
    if config.part != "all" and len(names):
        first = halves_by_group(names, np.random.default_rng(0))
        names = names[first if config.part == "first" else ~first]
    if len(names) < 2 * _N_FOLDS:
        side = config.crop_size * config.downsample
        raise SettingError(
            f"{config.micrographs}: got {len(names)} groups of micrographs with sides of {side} px; "
            f"expected at least {2 * _N_FOLDS}"
        )
    rng = np.random.default_rng([config.seed, 0])
    crops = []
    for name in names:
        some = dataset.subset(np.flatnonzero(large & (groups == name)))
        # As they are: scans have a direction, and so have the faults that show it.
        source = MicrographCrops(some, config.crop_size, downsample=config.downsample, symmetries=False)
        crops.append(source.take(source.draw(config.crops_per_group, rng)))
    return np.concatenate(crops), np.repeat(names, config.crops_per_group)


def drawn_crops(config: RealismConfig, family: str, imaging: str) -> np.ndarray:
    """Crops of a family or mixture, drawn at the size before downsampling and then treated as real ones are.

    Args:
        config: Settings.
        family: One of ``FAMILIES``, ``SPECIMEN_FAMILIES`` or ``MIXTURES``.
        imaging: One of ``IMAGINGS``.

    Returns:
        Crops in [-1, 1], shape (n_crops, S, S).
    """
    rng = np.random.default_rng([config.seed, 1 + _ALL.index(family)])
    pictures, _ = procedural_crops(
        config.n_crops,
        config.crop_size * config.downsample,
        rng,
        families=MIXTURES.get(family, (family,)),
        imaging=IMAGINGS[imaging],
    )
    return normalise(area_downsample(pictures, config.downsample))


def compare_specimens(config: RealismConfig) -> dict[str, Any]:
    """Compare, and write ``realism.json``, ``realism.md`` and ``realism.png``.

    Args:
        config: Settings.

    Returns:
        What the JSON holds.

    Raises:
        SettingError: If the folder has something in it, or the micrographs are too few.
        MicrographError: If they cannot be read.
    """
    check_new(config.out)
    dataset = MicrographDataset(config.micrographs)
    crops, groups = real_crops(config, dataset)
    folder = make_folder(config.out)
    real = CropStatistics.of(crops)
    rng = np.random.default_rng([config.seed, 10_000])
    rows = []
    shown, statistics, names = {"real": _one_of_each(crops, groups)}, {"real": real}, {"real": groups}
    tasks = [(family, imaging) for family in config.family for imaging in config.imaging]
    for family, imaging in tqdm(tasks, desc="families", disable=None):
        drawn = drawn_crops(config, family, imaging)
        measured = CropStatistics.of(drawn)
        own = np.arange(len(drawn))
        told = tell_apart(real.features(), measured.features(), groups, own, rng, n_folds=_N_FOLDS)
        rows.append({"family": family, "imaging": imaging, **distances(real, measured), "classifier": _as_dict(told)})
        if family == config.family[0]:
            label = f"{family}, {imaging} imaging"
            shown[label], statistics[label], names[label] = drawn, measured, own
    report = {
        "micrographs": {
            "fingerprint": fingerprint(dataset),
            "part": config.part,
            "n_groups": len(np.unique(groups)),
            "n_crops": len(groups),
        },
        "crop_size": config.crop_size,
        "downsample": config.downsample,
        "n_crops": config.n_crops,
        "seed": config.seed,
        "units": DISTANCES,
        "reference": _reference(real, groups, rng),
        "families": rows,
    }
    save_figure(realism_figure(shown, statistics, names, rng), folder / "realism.png")
    write_atomically(folder / "realism.md", realism_table(report))
    write_json(folder / "realism.json", report)
    return report


def _one_of_each(crops: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """One crop of each group, groups evenly over their order."""
    firsts = np.unique(groups, return_index=True)[1]
    return crops[firsts[np.linspace(0, len(firsts) - 1, 10).round().astype(int)]]


def _as_dict(told: Discrimination) -> dict[str, Any]:
    return {"accuracy": told.accuracy, "interval": told.interval, "real": told.first, "procedural": told.second}


def _reference(real: CropStatistics, groups: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """What one half of the real groups is to the other."""
    features, accuracies = real.features(), []
    for _ in range(_N_REFERENCE_SPLITS):
        first = halves_by_group(groups, rng)
        told = tell_apart(
            features[first], features[~first], groups[first], groups[~first], rng, n_folds=_N_FOLDS, n_resamples=1
        )
        accuracies.append(told.accuracy)
    bounds = reference_distances(real, groups, rng)
    return {
        "distances": {name: {"median": median, "upper": upper} for name, (median, upper) in bounds.items()},
        "classifier": {
            "accuracy": float(np.mean(accuracies)),
            "interval": [float(x) for x in np.quantile(accuracies, [0.025, 0.975])],
        },
    }


def realism_table(report: Mapping[str, Any]) -> str:
    """The report as a table of Markdown: the reference, then a row per family and imaging.

    Args:
        report: As :func:`compare_specimens` returns it.
    """
    units = [f"{name.replace('_', ' ')} [{unit}]" for name, unit in DISTANCES.items()]
    lines = ["| " + " | ".join(["family", "imaging", *units, "told apart"]) + " |", "|---|---" + "|---:" * 7 + "|"]
    bounds = report["reference"]["distances"]
    cells = [f"{bounds[name]['median']:.3f} (≤ {bounds[name]['upper']:.3f})" for name in DISTANCES]
    reference = ["real against real", "", *cells, _share_text(report["reference"]["classifier"])]
    lines.append("| " + " | ".join(reference) + " |")
    for row in report["families"]:
        cells = ["" if row[name] is None else f"{row[name]:.3f}" for name in DISTANCES]
        lines.append("| " + " | ".join([row["family"], row["imaging"], *cells, _share_text(row["classifier"])]) + " |")
    return "\n".join(lines) + "\n"


def _share_text(told: Mapping[str, Any]) -> str:
    low, high = told["interval"]
    return f"{100 * told['accuracy']:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def compare_specimens_command(config: RealismConfig) -> None:
    """Compare, show the table, and say where the files are.

    Raises:
        SettingError: As :func:`compare_specimens`.
    """
    report = compare_specimens(config)
    Console().print(Markdown(realism_table(report)))
    paths = ", ".join(str(config.out / f"realism.{suffix}") for suffix in ("json", "md", "png"))
    print(f"written: {paths}")


def main() -> int:
    """Run the study with the options of the command line; returns the exit status."""
    return run_command(lambda arguments: compare_specimens_command(parse_realism(arguments)), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
