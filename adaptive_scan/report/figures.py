"""All figures of a benchmark, each with a title, a caption and words for those who cannot see it.

They are made one after the other, so that only one is in memory. What a benchmark does not have has no figure.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from matplotlib.figure import Figure

from adaptive_scan.benchmark.analysis import Analysis
from adaptive_scan.benchmark.questions import PRIMARY, learned_paths, main_adaptive_scans
from adaptive_scan.benchmark.verdicts import ScanComparison
from adaptive_scan.evaluation.results import Results, names
from adaptive_scan.report.curves import (
    WIDE_MATRIX,
    coverage_figure,
    distance_figure,
    frequency_figure,
    win_rate_figure,
)
from adaptive_scan.report.forest import Ratio, forest_figure
from adaptive_scan.report.pictures import example_sheet, largest_error, map_sheet
from adaptive_scan.report.style import VISIT_COLOURS, ScanStyle, choice, completer_styles, scan_styles

SECTIONS = ("ratios", "coverage", "examples", "errors", "distance", "frequency", "paths", "wins")
"""What figures are about, in the order of the report."""

MOST_EXAMPLES = 2
"""Crops of each geometry that are drawn."""

MOST_CURVES = 7
"""Scans that are drawn as lines over each other."""

MOST_PICTURED = 11
"""Scans of a sheet of examples: with the target they fill two rows."""

_TRIED = ("adaptive", "oracle", "control")
_TO_REFERENCE = "scans against the reference"
_NO_CONTENDERS = "Hollow markers are no contenders: oracles, controls, and every pixel at the same dose."


@dataclass(frozen=True)
class Plate:
    """A figure and the words around it.

    Attributes:
        section: What it is about, one of `SECTIONS`.
        name: Name of its file without a suffix.
        caption: What one sees and how to read it.
        alternative: What it shows in one sentence, for those who cannot see it.
        figure: The figure.
        is_drawing: Whether it is made of lines and text, and best kept as vectors.
    """

    section: str
    name: str
    caption: str
    alternative: str
    figure: Figure
    is_drawing: bool = False


class _Context:
    """What all figures of one benchmark have in common."""

    def __init__(self, results: Results, analysis: Analysis) -> None:
        self.results = results
        self.analysis = analysis
        self.styles = scan_styles(results.rows)
        self.geometries = names(results.rows, "geometry")
        self.completers = names(results.rows, "completer")
        self.completer = choice(self.completers)
        self.reference = analysis.reference

    @property
    def hollow(self) -> frozenset[str]:
        return frozenset(name for name, style in self.styles.items() if not style.is_contender)

    def foremost(self, most: int, *, fill: bool) -> dict[str, ScanStyle]:
        """Styles of all scans, or of the foremost where there are more than ``most``, in the order of the rows.

        Foremost are the trained actors, the learned path, the best static scan and the reference; the others follow
        them if ``fill`` is set.
        """
        if len(self.styles) <= most:
            return self.styles
        adaptive = [name for name, style in self.styles.items() if style.role == "adaptive"]
        first = [
            self.reference,
            *self.analysis.best_static.values(),
            *learned_paths(self.results),
            *main_adaptive_scans(self.results, adaptive),
        ]
        wanted = list(dict.fromkeys([*first, *(self.styles if fill else ())]))
        chosen = [name for name in wanted if name in self.styles][:most]
        return {name: style for name, style in self.styles.items() if name in chosen}

    @property
    def tags(self) -> dict[str, str]:
        return {name: style.tag for name, style in self.styles.items()}


def benchmark_plates(results: Results, analysis: Analysis) -> Iterator[Plate]:
    """The figures of a benchmark, in the order of `SECTIONS`.

    Args:
        results: What the benchmark found.
        analysis: What `adaptive_scan.benchmark.analysis.analyse` made of it.

    Yields:
        Each figure when it is asked for.
    """
    context = _Context(results, analysis)
    makers = (_ratio_plates, _coverage_plates, _example_plates, _error_plates, _curve_plates, _path_plates, _win_plates)
    taken: Counter[str] = Counter()
    for plate in chain.from_iterable(maker(context) for maker in makers):
        # Two geometries may differ in characters alone that no file name takes.
        taken[plate.name] += 1
        yield plate if taken[plate.name] == 1 else replace(plate, name=f"{plate.name}_{taken[plate.name]}")


def file_name(*parts: str) -> str:
    """A name that every file system takes, of words that may hold anything.

    Example:
        >>> file_name("examples", "1/23")
        'examples_1-23'
    """
    return "_".join(re.sub(r"[^A-Za-z0-9.+-]+", "-", part).strip("-.") or "x" for part in parts)


def series_of(comparison: ScanComparison) -> str:
    """Name of the completers of a comparison: one name where both have the same.

    Args:
        comparison: Two scans, each with its completer.
    """
    first, second = comparison.first[1], comparison.second[1]
    return first if first == second else f"{first} against {second}"


def _ratio_plates(context: _Context) -> Iterator[Plate]:
    comparisons = context.analysis.comparisons
    opponents = {(one.geometry, one.second) for one in comparisons if one.family == PRIMARY}
    at_stake = [one for one in comparisons if (one.geometry, one.second) in opponents]
    tried = [one for one in at_stake if context.styles[one.first[0]].role in _TRIED]
    to_reference = [one for one in comparisons if one.second[0] == context.reference]
    drawn = {id(one) for one in tried}
    rest = [one for one in comparisons if id(one) not in drawn and not one.family.startswith(_TO_REFERENCE)]
    heading, row = "against {second}", "{first}"
    sheets = (
        ("forest_adaptive", tried, (heading, row), "the best static scan or the learned static path, named in bold"),
        ("forest_reference", to_reference, ("", row), f"the reference scan, {context.reference}"),
        ("forest_others", rest, ("{first} against", "{second}"), "the scan of the row; the scan in bold is the first"),
    )
    series = _series_styles(context)
    for name, shown, words, second in sheets:
        order = list(context.styles)
        shown = sorted(shown, key=lambda one: (order.index(one.first[0]), order.index(one.second[0])))
        ratios = [_ratio(one, *words) for one in shown if one.ratio is not None and one.ratio > 0]
        if not ratios:
            continue
        caption = (
            f"Ratio of mean losses on the same crops, with 95% intervals of the hierarchical bootstrap: the loss of a "
            f"scan over that of {second}. Left of the line at 1 the first of the two has the lower loss. A column for "
            f"each geometry; colour and marker name the completer. {_NO_CONTENDERS}"
        )
        yield Plate(
            "ratios",
            name,
            caption,
            f"Forest plot of ratios of losses against {second}; the numbers are in the tables of comparisons.",
            forest_figure(ratios, series, tags=context.tags, hollow=context.hollow),
            is_drawing=True,
        )


def _ratio(one: ScanComparison, heading: str, row: str) -> Ratio:
    words = {"first": one.first[0], "second": one.second[0]}
    value = math.nan if one.ratio is None else one.ratio
    return Ratio(one.geometry, heading.format(**words), row.format(**words), series_of(one), value, one.ratio_ci95)


def _series_styles(context: _Context) -> dict[str, dict[str, str]]:
    """One colour and marker for each completer in all forest plots."""
    found = dict.fromkeys(series_of(one) for one in context.analysis.comparisons)
    named = [name for name in context.completers if name in found]
    return completer_styles([*named, *(name for name in found if name not in named)])


def _coverage_plates(context: _Context) -> Iterator[Plate]:
    styles = context.foremost(MOST_CURVES, fill=False)
    losses: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for summary in context.analysis.summaries:
        coverage, loss = summary.metrics["coverage"], summary.metrics["loss"]
        is_drawn = summary.scan in styles and context.styles[summary.scan].role != "dense"
        if is_drawn and coverage is not None and loss is not None:
            losses.setdefault(summary.completer, {}).setdefault(summary.scan, []).append((coverage, loss))
    if not any(len(points) > 1 for by_scan in losses.values() for points in by_scan.values()):
        return
    caption = (
        "Mean loss of each scan at the geometries against the share of the pixels that it measured, both axes "
        "logarithmic, one panel for each completer. Solid lines adapt, broken ones are static, dotted ones oracles and "
        "dash-dotted ones controls. "
    ) + f"{_NO_CONTENDERS}{_left_out_of_curves(context, styles)}"
    alternative = "Lines of mean loss against coverage for each scan; the numbers are in the table of all means."
    yield Plate("coverage", "coverage", caption, alternative, coverage_figure(losses, styles), is_drawing=True)


def _example_plates(context: _Context) -> Iterator[Plate]:
    styles = context.foremost(MOST_PICTURED, fill=True)
    largest = largest_error(context.results.examples, styles, context.completer)
    for examples in context.results.examples:
        if not examples.completions:
            continue
        for index in range(min(MOST_EXAMPLES, len(examples.targets))):
            crop = int(examples.indices[index])
            caption = (
                f"Crop {crop} of the test set of seed {examples.seed} at {examples.geometry}, completed by "
                f"{context.completer}. Grey is intensity from -1 to 1 everywhere; the colour of a path is time; the "
                f"error is |completion - target| / 2, on one scale in all examples, and the number in it is the RMSE "
                f"on [0, 1]. Points that no line joins are not contiguous.{_left_out(context, styles)}"
            )
            yield Plate(
                "examples",
                file_name("examples", examples.geometry, str(crop)),
                caption,
                f"Target, paths, completions and errors of crop {crop} at {examples.geometry}, a column for each scan.",
                example_sheet(examples, index, styles, context.completer, largest),
            )


def _left_out(context: _Context, shown: Mapping[str, ScanStyle]) -> str:
    """That a figure does not show all scans, where it does not."""
    n_hidden = len(context.styles) - len(shown)
    return f" Of {len(context.styles)} scans {len(shown)} are drawn; the tables have all." if n_hidden else ""


def _left_out_of_curves(context: _Context, shown: Mapping[str, ScanStyle]) -> str:
    """Which scans a figure of curves shows, where it does not show all."""
    if len(shown) == len(context.styles):
        return ""
    return (
        f" Of {len(context.styles)} scans only the reference, the best static scan, the learned path and the trained "
        f"actors are drawn, at most {MOST_CURVES}; the tables have all."
    )


def _first_sums(context: _Context, geometry: str) -> dict[str, tuple[str, str, str]]:
    """Key of the sums of each scan, by the completer that figures show or else the first that the scan has."""
    found: dict[str, tuple[str, str, str]] = {}
    for scan in context.styles:
        here = [key for key in context.results.sums if key[:2] == (geometry, scan)]
        if here:
            wanted = (geometry, scan, context.completer)
            found[scan] = wanted if wanted in here else here[0]
    return found


def _error_plates(context: _Context) -> Iterator[Plate]:
    maps = {
        geometry: {
            scan: np.sqrt(part.squared_error / part.n_crops) / 2.0
            for scan, key in _first_sums(context, geometry).items()
            if (part := context.results.sums[key]).n_crops
        }
        for geometry in context.geometries
    }
    limits = _limits([picture for by_scan in maps.values() for picture in by_scan.values()])
    for geometry, by_scan in maps.items():
        if by_scan:
            caption = (
                f"RMSE of each pixel over all test crops and seeds at {geometry}, completed by {context.completer}"
                f"{_exceptions(context, geometry)}, on one scale at all geometries. The number in it is the RMSE of "
                "all pixels."
            )
            figure = map_sheet(by_scan, context.styles, limits, "RMSE of a pixel on [0, 1]", figures=True)
            alternative = f"Maps of the error of each pixel at {geometry}, one for each scan."
            yield Plate("errors", file_name("errors", geometry), caption, alternative, figure)


def _exceptions(context: _Context, geometry: str) -> str:
    others = [
        f"{scan} by {key[2]}" for scan, key in _first_sums(context, geometry).items() if key[2] != context.completer
    ]
    return f" ({', '.join(others)})" if others else ""


def _limits(pictures: Sequence[np.ndarray]) -> tuple[float, float]:
    """A scale from 0 that all but one in 200 pixels stay within, ending on a round figure."""
    if not pictures:
        return 0.0, 1.0
    highest = float(np.quantile(np.stack(pictures), 0.995))
    if not np.isfinite(highest) or highest <= 0.0:
        return 0.0, 1.0
    step = 10.0 ** np.floor(np.log10(highest)) / 2.0
    return 0.0, float(np.ceil(highest / step - 1e-9) * step)


def _curve_plates(context: _Context) -> Iterator[Plate]:
    styles = context.foremost(MOST_CURVES, fill=False)
    sums = {key: part for key, part in context.results.sums.items() if part.n_crops and key[1] in styles}
    lines = (
        "Solid lines adapt, broken ones are static, dotted ones oracles, dash-dotted ones controls; hollow markers are "
        "no contenders."
    )
    lines += _left_out_of_curves(context, styles)
    if any(style.role == "dense" for style in styles.values()):
        lines += " A scan of every pixel has a completer of its own and stands in all panels."
    if any(np.count_nonzero(part.distance_pixels) > 1 for part in sums.values()):
        caption = (
            "RMSE of the pixels by their distance from the nearest measured one, which is 0 for those measured; one "
            f"panel for each geometry and completer. Distances of fewer than one in 1000 pixels are left out. {lines}"
        )
        alternative = "Lines of the error against the distance from the path, a line for each scan."
        figure = distance_figure(sums, styles)
        yield Plate("distance", "distance", caption, alternative, figure, is_drawing=True)
    if any(np.any(part.frc_completion > 0) for part in sums.values()):
        caption = (
            "Fourier ring correlation of completions with their targets, over all crops; the grey line is at 1/7, "
            f"below which a frequency counts as lost. {lines}"
        )
        alternative = "Lines of the Fourier ring correlation against spatial frequency, a line for each scan."
        figure = frequency_figure(sums, styles)
        yield Plate("frequency", "fourier_ring_correlation", caption, alternative, figure, is_drawing=True)


def _path_plates(context: _Context) -> Iterator[Plate]:
    for geometry in context.geometries:
        visits = {
            scan: part.visits / part.n_crops
            for scan, key in _first_sums(context, geometry).items()
            if (part := context.results.sums[key]).n_crops and context.styles[scan].role != "dense"
        }
        if visits:
            caption = (
                f"How often each pixel was measured per crop at {geometry}, revisits counted, on one scale from 0 to 1 "
                "with small values raised (square root). A static scan measures the same pixels of every crop; the "
                "more an adaptive one spreads, the more its paths differ from crop to crop."
            )
            figure = map_sheet(visits, context.styles, (0.0, 1.0), "visits per crop", colours=VISIT_COLOURS, power=0.5)
            alternative = f"Maps of how often each pixel is measured at {geometry}, one for each scan."
            yield Plate("paths", file_name("paths", geometry), caption, alternative, figure)


def _win_plates(context: _Context) -> Iterator[Plate]:
    for geometry in context.geometries:
        matrices: dict[str, tuple[Sequence[str], np.ndarray]] = {
            rates.completer: (rates.scans, np.array(rates.matrix, np.float64))
            for rates in context.analysis.win_rates
            if rates.geometry == geometry and len(rates.scans) > 1
        }
        if matrices:
            caption = (
                f"Share of the crops [%] on which the scan of the row has the lower loss than the scan of the column, "
                f"at {geometry}. Blue wins, orange loses; names in grey are no contenders."
            )
            # A large matrix has a figure of its own, so that no page is left half empty below it.
            wide = [judge for judge, (scans, _) in matrices.items() if len(scans) > WIDE_MATRIX]
            small = [judge for judge in matrices if judge not in wide]
            for judges in (*([judge] for judge in wide), *([small] if small else [])):
                figure = win_rate_figure({judge: matrices[judge] for judge in judges}, context.styles)
                name = file_name("wins", geometry, *(judges if judges[0] in wide else ()))
                alternative = f"Matrices of win rates at {geometry}, by {', '.join(judges)}, with numbers in the cells."
                yield Plate("wins", name, caption, alternative, figure, is_drawing=True)
