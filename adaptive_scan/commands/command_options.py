"""Options of the commands that train nothing: dataclasses, from which command lines and their help are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import tyro

from adaptive_scan.commands.options import (
    CommandOptions,
    DataOptions,
    DeviceOptions,
    InstrumentName,
    OutOptions,
    PictureOptions,
    SeedOptions,
    check_completer_names,
    check_coverage,
    check_names,
    check_not_negative,
    check_positive,
    check_scan_names,
    check_share,
)
from adaptive_scan.errors import SettingError

RUN_SCANS = ("adaptive", "filling_path", "spiral", "wide_spiral", "raster", "grid", "random")
"""Scans of a run that are compared when no others are named."""

_PLURALS = {"scan": "scans", "completer": "completers", "policy": "policies", "generator": "generators"}
_SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig(SeedOptions, DeviceOptions, OutOptions, DataOptions):
    """What is compared, and on which pictures."""

    RENAMED: ClassVar[Mapping[str, str]] = _PLURALS

    run: Path
    """Run folder that training wrote."""
    scans: tuple[str, ...] = RUN_SCANS
    """Scans to compare: adaptive, filling_path, polygonal_spiral and static families; spiral, which ratios refer to,
    always is."""
    acquisition: InstrumentName | None = None
    """The instrument that all scans go through; without it the run's."""
    policies: tuple[str, ...] = ()
    """Further policies, each as package.module:factory; the factory is called without arguments."""
    completers: tuple[str, ...] = ()
    """Further completers: interpolations, files of generators, or package.module:factory, where the factory makes a
    callable from partial scans (N, 2, S, S) to pictures (N, 1, S, S)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scan_names(self.scans)
        check_completer_names(self.completers)


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(DeviceOptions, OutOptions, PictureOptions):
    """A benchmark that is run, or gone on with."""

    RENAMED: ClassVar[Mapping[str, str]] = _PLURALS

    benchmark: tyro.conf.Positional[Path]
    """The benchmark, a JSON file that --new writes. Results that are there in part are gone on with. Its micrographs
    may lie elsewhere than the file says, but have to be the same pictures."""
    policies: tuple[str, ...] = ()
    """Further policies, each as package.module:factory; the factory is called without arguments. They make it another
    benchmark, which needs another --out."""
    completers: tuple[str, ...] = ()
    """Further completers: interpolations, or package.module:factory."""
    only_seeds: tuple[int, ...] = ()
    """Seeds whose stages are made, so that several processes or machines with one folder can share the work: each seed
    once for the preparation, and once more for the comparison when all seeds are prepared. The last process to finish
    writes the report."""


@dataclass(frozen=True, kw_only=True)
class NewBenchmarkConfig(PictureOptions):
    """A benchmark that is written, to be edited and run."""

    new: Path
    """JSON file to write."""
    preset: Literal["quick", "full"] = "quick"
    """What it begins with: quick takes minutes on two cores, full has three coverages, three seeds and all scans."""
    acquisition: InstrumentName = "ideal"
    """The instrument that all scans go through; with one whose noise is of counts, a dense raster takes part."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig(CommandOptions):
    """Results whose analysis and report are made again."""

    report: Path
    """Folder of the results."""


@dataclass(frozen=True, kw_only=True)
class CompletionConfig(SeedOptions, DeviceOptions, DataOptions):
    """What is compared, and on which scans."""

    RENAMED: ClassVar[Mapping[str, str]] = _PLURALS

    run: tuple[Path, ...]
    """Run folders of trained generators, all with the same held-out pictures, on which everything is compared."""
    out: Path
    """New or empty folder for the results."""
    completers: tuple[str, ...] = ("nearest", "linear", "infill")
    """Completers to compare: interpolations, where a + behind a name blurs its pictures as targets are blurred, files
    of generators, and package.module:factory."""
    scans: tuple[str, ...] = ("grid", "spiral", "gridlike")
    """Static scans to complete; the picture shows the first, at the first coverage."""
    coverages: tuple[float, ...] = (1 / 16, 1 / 25, 1 / 100)
    """Positions by pixel."""
    n_threads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_completer_names(self.completers)
        check_scan_names(self.scans, own=False)
        for coverage in self.coverages:
            check_coverage("coverages", coverage)


@dataclass(frozen=True, kw_only=True)
class ErrorsConfig(SeedOptions, DeviceOptions, OutOptions, DataOptions):
    """What is measured, on which pictures."""

    RENAMED: ClassVar[Mapping[str, str]] = _PLURALS
    BASIC: ClassVar[tuple[str, ...]] = (
        *("scans", "completers", "generators", "run", "micrographs", "groups", "size", "coverage", "acquisition"),
        *("out", "seed", "device"),
    )

    scans: tuple[str, ...] = ("spiral",)
    """Static scans; with a run also adaptive, filling_path and polygonal_spiral, at the run's coverage."""
    completers: tuple[str, ...] = ()
    """Interpolations, files of generators and package.module:factory; linear if no completer of any kind is named."""
    generators: tuple[Path, ...] = ()
    """Files of trained generators."""
    run: Path | None = None
    """Run folder, whose generator is measured on what the run held out."""
    size: int | None = None
    """Side of a crop [px]; without it the run's, or 96."""
    coverage: float | None = None
    """Positions by pixel; without it the run's, or 0.04."""
    downsample: int | None = None
    """Side of the blocks that are averaged into one pixel; without it the run's, or 1."""
    blur: bool | None = None
    """Whether targets are the crops after the 5x5 Gaussian of 2.5 px; without it as the run has it, or yes."""
    acquisition: InstrumentName | None = None
    """The instrument that all scans go through; without it the run's, or the ideal one."""
    crops_per_micrograph: int = 8
    """Crops of each micrograph, at most; 0 for all that do not overlap."""
    n_crops: int = 512
    """Procedural crops."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "n_crops", "size", "downsample")
        check_not_negative(self, "crops_per_micrograph")
        check_scan_names(self.scans)
        check_completer_names(self.completers)
        for name in self.completers:
            if self.completers.count(name) > 1:
                raise SettingError(f"completers: got {name!r} twice; expected each once")
        if self.coverage is not None:
            check_coverage("coverage", self.coverage)


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig(SeedOptions, OutOptions):
    """Which generator gets an error head, and how the head learns."""

    run: Path
    """Run folder that train or train-generator wrote; an earlier calibration in it is replaced."""
    micrographs: Path | None = None
    """Where the micrographs of the run lie now, if they were moved."""
    n_updates: int = 1_000
    """Updates of the head."""
    batch_size: int = 32
    """Scans in each update."""
    learning_rate: float = 3e-3
    """Adam's learning rate at the start; it falls along half a cosine to a hundredth of it."""
    beta: float = 0.5
    """Power of the predicted variance that weights a pixel's likelihood, between 0 and 1."""
    n_channels: int = 16
    """Channels of the head's finer level."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "n_updates", "batch_size", "n_channels")
        check_share(self, "beta")
        if not 0.0 < self.learning_rate < float("inf"):
            raise SettingError(f"learning_rate: got {self.learning_rate}; expected a positive number")


@dataclass(frozen=True, kw_only=True)
class CompleteConfig(DeviceOptions, SeedOptions):
    """Which pictures are scanned, how, and what completes the scans."""

    pictures: tyro.conf.Positional[Path]
    """File or folder of square pictures."""
    out: Path
    """New or empty folder for the completions and masks."""
    scan: str = "spiral"
    """Static scan to sample the pictures along."""
    coverage: float = 0.05
    """Positions by pixel, such as 1/20."""
    run: Path | None = None
    """Run folder whose generator completes."""
    generator: Path | None = None
    """File of a trained generator that completes."""
    completer: str | None = None
    """Interpolation, file of a generator, or package.module:factory that completes; without any of the three linear."""
    size: int | None = None
    """Side of the tiles that a network completes [px]; without it that of the run's crops, or 96."""
    skip_bad: bool = False
    """Whether files that cannot be used are skipped and reported, instead of ending the command."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("run", "generator", "completer") if getattr(self, name) is not None]
        if len(given) > 1:
            raise SettingError(f"{given[1]}: got it beside {given[0]}; expected one of run, generator and completer")
        check_scan_names([self.scan], own=False)
        check_completer_names([] if self.completer is None else [self.completer])
        check_coverage("coverage", self.coverage)
        check_positive(self, "size")


@dataclass(frozen=True, kw_only=True)
class ExportConfig(CommandOptions):
    """What is exported, and where to."""

    out: Path
    """File to write: .onnx for ONNX, .pt2 for a torch.export program."""
    run: Path | None = None
    """Run folder whose generator is exported."""
    generator: Path | None = None
    """File of the generator, instead of a run."""
    format: Literal["onnx", "torch"] = "onnx"
    """ONNX file or torch.export program."""
    size: int | None = None
    """Side of the pictures that the exported generator takes [px]; without it that of the run's crops, or 96."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.run is None) == (self.generator is None):
            found = "neither" if self.run is None else "both"
            raise SettingError(f"run and generator: got {found}; expected one of them")
        check_positive(self, "size")
        suffix = _SUFFIXES[self.format]
        if self.out.suffix != suffix:
            raise SettingError(f"out: got {str(self.out)!r}; expected a name that ends in {suffix}")


@dataclass(frozen=True, kw_only=True)
class SpecimenConfig(SeedOptions):
    """What is made, and where it goes."""

    RENAMED: ClassVar[Mapping[str, str]] = {"family": "families"}

    out: Path
    """New or empty folder for the pictures."""
    n: int = 100
    """Number of pictures."""
    size: int = 512
    """Side of a picture [px]."""
    families: tuple[str, ...] = ()
    """Families to draw from, each as likely as another; all of them where none is named."""
    pixel_size: float | None = None
    """Side of a pixel [Å]; drawn for each picture where none is given."""

    def __post_init__(self) -> None:
        from adaptive_scan.specimens.recipes import SPECIMEN_FAMILIES  # which help need not load
        from adaptive_scan.specimens.scenes import SMALLEST_PICTURE

        super().__post_init__()
        check_positive(self, "n")
        if self.size < SMALLEST_PICTURE:
            raise SettingError(f"size: got {self.size} px; expected at least {SMALLEST_PICTURE} px")
        if self.pixel_size is not None and not self.pixel_size > 0.0:
            raise SettingError(f"pixel_size: got {self.pixel_size}; expected a length above 0 Å")
        check_names("families", self.families, SPECIMEN_FAMILIES)
