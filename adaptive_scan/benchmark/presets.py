"""Benchmarks to begin with: written to a file, they are complete, and meant to be edited."""

from __future__ import annotations

import dataclasses
import math

from adaptive_scan.acquisition import PoissonCounting, make_instrument
from adaptive_scan.benchmark.definition import (
    OWN,
    SHARED,
    Benchmark,
    GeneratorPlan,
    PictureSettings,
    ScanEntry,
    SplitSettings,
)
from adaptive_scan.errors import SettingError
from adaptive_scan.scans import ScanGeometry

BENCHMARK_PRESETS = ("quick", "full")
"""Names of the presets: quick takes minutes on two cores, full is what an answer needs."""

_WIDE = (math.sqrt(2.0) / 2.0, 4.0 * math.sqrt(2.0))  # spacing that an actor may choose [px]
_STRONGEST = "tuned square_spiral"  # of all that was tuned on real micrographs, at three coverages
_BENT = {"of": "learned path", "n_positions": 1, "n_together": 4}
_AROUND = {"around_reference": True}  # a heuristic that corrects the filling path beats one that goes on its own


def preset_benchmark(
    name: str = "quick", *, micrographs: str | None = None, groups: str | None = None, acquisition: str = "ideal"
) -> Benchmark:
    """A complete benchmark.

    Args:
        name: One of `BENCHMARK_PRESETS`.
        micrographs: File or folder of micrographs; procedural specimens without it.
        groups: CSV of the groups of micrographs.
        acquisition: The instrument; with one whose noise is of counts, a dense raster of the same dose takes part.

    Returns:
        The benchmark.

    Raises:
        SettingError: If there is no preset of that name.

    Example:
        >>> benchmark = preset_benchmark("full")
        >>> list(benchmark.geometries), benchmark.seeds
        (['1/12', '1/23', '1/46'], (0, 1, 2))
    """
    if name not in BENCHMARK_PRESETS:
        raise SettingError(f"preset: got {name!r}; expected one of {', '.join(BENCHMARK_PRESETS)}")
    pictures = _pictures(name, micrographs, groups)
    benchmark = _quick(pictures) if name == "quick" else _full(pictures)
    counts = any(isinstance(model, PoissonCounting) for model in make_instrument(acquisition).models)
    dense = (ScanEntry("dense", "dense"),) if counts else ()
    return dataclasses.replace(benchmark, acquisition=acquisition, scans=(*benchmark.scans, *dense))


def _pictures(preset: str, micrographs: str | None, groups: str | None) -> PictureSettings:
    if micrographs is not None:
        return PictureSettings(micrographs=micrographs, groups=groups, downsample=2)
    families = ("lattice", "soft_particles", "sharp_particles", "grains", "points", "vacancies", "soft_objects")
    return PictureSettings(families=families, pixel_size=0.3, n_crops=600 if preset == "quick" else 4_000)


def _quick(pictures: PictureSettings) -> Benchmark:
    learned = {"of": _STRONGEST, "n_positions": 1, "n_updates": 100}
    return Benchmark(
        "quick",
        geometries={"1/16": ScanGeometry(32, 16, 4, _WIDE)},
        scans=(
            *_static_scans(),
            ScanEntry("learned path", "learned_path", learned),
            ScanEntry("coverage greedy", "coverage_greedy", _AROUND),
            ScanEntry("gradient following", "gradient_following", _AROUND),
            ScanEntry("pathwise", "pathwise", {**_BENT, "n_updates": 150}),
            *_controls("pathwise"),
        ),
        pictures=pictures,
        split=SplitSettings(),
        completers=(SHARED, OWN, "linear", "infill+"),
        generator=GeneratorPlan(n_channels=16, n_updates=600, fine_tuning_crops=6_400),
        factorial=("pathwise",),
    )


def _full(pictures: PictureSettings) -> Benchmark:
    geometries = {
        "1/12": ScanGeometry(48, 48, 4, _WIDE),
        "1/23": ScanGeometry(48, 25, 4, _WIDE),
        "1/46": ScanGeometry(48, 25, 2, (_WIDE[0], 2.0 * _WIDE[1])),
    }
    return Benchmark(
        "full",
        geometries=geometries,
        scans=(
            *_static_scans(),
            ScanEntry("fine filling path", "static", {"family": "filling_path", "n_positions": 1}),
            ScanEntry("learned path", "learned_path", {"of": _STRONGEST, "n_positions": 1}),
            ScanEntry("learned segments", "learned_path", {"n_positions": 2}),
            ScanEntry("coverage greedy", "coverage_greedy", _AROUND),
            ScanEntry("variance greedy", "variance_greedy", _AROUND),
            ScanEntry("gradient following", "gradient_following", _AROUND),
            ScanEntry("pathwise", "pathwise", _BENT),
            ScanEntry("rdpg", "rdpg"),
            ScanEntry("look-ahead oracle", "look_ahead_oracle", {"completer": "infill", **_AROUND}),
            *_controls("pathwise"),
        ),
        pictures=pictures,
        split=SplitSettings(),
        completers=(SHARED, OWN, "linear", "infill+"),
        seeds=(0, 1, 2),
        factorial=("pathwise", "rdpg"),
    )


def _static_scans() -> tuple[ScanEntry, ...]:
    usual = ("spiral", "wide_spiral", "raster", "filling_path", "grid", "halton")
    tuned = ("spiral", "raster", "square_spiral", "polygonal_spiral")
    return (
        *(ScanEntry(name, "static") for name in usual),
        *(ScanEntry(f"tuned {family}", "tuned", {"family": family}) for family in tuned),
    )


def _controls(scan: str) -> tuple[ScanEntry, ...]:
    return tuple(
        ScanEntry(f"{scan}, {told}", "control", {"of": scan, "control": kind})
        for kind, told in (
            ("constant", "seeing nothing"),
            ("delayed", "seeing late"),
            ("other_crop", "on another crop"),
        )
    )
