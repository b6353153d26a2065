"""Curves of a benchmark, and its matrix of win rates: loss against coverage, error by distance and by frequency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adaptive_scan.evaluation.resolution import THRESHOLD, ring_correlation
from adaptive_scan.evaluation.results import Sums
from adaptive_scan.report.style import (
    GREY,
    STYLE,
    WIDTH,
    ScanStyle,
    label_ends,
    log_ticks,
    new_figure,
    scan_legend,
    wrapped,
)

_RAREST = 1e-3
_N_MARKERS = 6
_PER_ROW = 4

WIDE_MATRIX = 10
"""A matrix of win rates of more scans takes the whole width of a figure."""

_Curve = tuple[np.ndarray, np.ndarray]


def coverage_figure(
    losses: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], styles: Mapping[str, ScanStyle]
) -> Figure:
    """Mean loss of each scan against its coverage, one panel for each completer, both axes logarithmic.

    Args:
        losses: By completer and scan, (coverage, mean loss) of each geometry; what is not positive is left out.
        styles: Of the scans.

    Returns:
        The figure, at most 180 mm wide.

    Raises:
        ValueError: If no scan has two points.
    """
    curves = {
        judge: {scan: points for scan, points in ((s, _positive(p)) for s, p in by_scan.items()) if len(points) > 1}
        for judge, by_scan in losses.items()
    }
    curves = {judge: by_scan for judge, by_scan in curves.items() if by_scan}
    if not curves:
        raise ValueError("losses: no scan has two coverages with a positive loss; expected one at least")
    n_columns = min(2, len(curves))
    n_rows = math.ceil(len(curves) / n_columns)
    height = max(2.1, 0.135 * max(len(by_scan) for by_scan in curves.values()))
    names, left, foot, head = 1.42, 0.5, 0.42, 0.24
    width, step = (WIDTH / 2 if n_columns == 2 else 4.6), height + foot + head
    whole, total = width * n_columns, n_rows * step
    points = np.array([point for by_scan in curves.values() for each in by_scan.values() for point in each])
    with mpl.rc_context(STYLE):
        figure = new_figure(total, width=whole)
        for index, (judge, by_scan) in enumerate(curves.items()):
            row, column = divmod(index, n_columns)
            place = column * width + left, total - row * step - head - height, width - left - names, height
            axes = figure.add_axes((place[0] / whole, place[1] / total, place[2] / whole, place[3] / total))
            _coverages(axes, by_scan, styles, points)
            _dress(axes, f"completer: {judge}")
    return figure


def _coverages(
    axes: Axes,
    by_scan: Mapping[str, Sequence[tuple[float, float]]],
    styles: Mapping[str, ScanStyle],
    points: np.ndarray,
) -> None:
    """Lines of one completer, on axes that hold the points of all completers."""
    (low_x, low_y), (high_x, high_y) = points.min(axis=0), points.max(axis=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low_x / 1.06, high_x * 1.06)
    axes.set_ylim(low_y / 1.1, high_y * 1.1)
    for scan, each in by_scan.items():
        axes.plot(*np.transpose(each), linewidth=1.1, markersize=3.6, **styles[scan].drawn)
    log_ticks(axes.xaxis, *axes.get_xlim(), most=4)
    log_ticks(axes.yaxis, *axes.get_ylim(), most=7)
    axes.set_xlabel("coverage: measured pixels / all pixels", labelpad=2.0)
    axes.set_ylabel("mean loss", labelpad=2.0)
    label_ends(axes, [(*each[-1], styles[scan]) for scan, each in by_scan.items()])


def distance_figure(sums: Mapping[tuple[str, str, str], Sums], styles: Mapping[str, ScanStyle]) -> Figure:
    """RMSE on [0, 1] of the pixels at each distance from the nearest measured one, a panel per geometry and completer.

    Distances that fewer than one in a thousand pixels have are left out.

    Args:
        sums: By geometry, scan and completer.
        styles: Of the scans.

    Returns:
        The figure, 180 mm wide.
    """
    curves = {key: _distance_curve(part) for key, part in sums.items()}
    curves = {key: curve for key, curve in curves.items() if len(curve[0]) > 1}
    figure = _panels(curves, styles, "distance from the nearest measured pixel [px]", "RMSE on [0, 1]", top=None)
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def frequency_figure(sums: Mapping[tuple[str, str, str], Sums], styles: Mapping[str, ScanStyle]) -> Figure:
    """Fourier ring correlation of completions with targets, a panel per geometry and completer.

    The sums of the correlation go over the ring and over all crops, see `adaptive_scan.evaluation.resolution`; the grey
    line is at the threshold below which a frequency counts as lost.

    Args:
        sums: By geometry, scan and completer.
        styles: Of the scans.

    Returns:
        The figure, 180 mm wide.
    """
    curves = {key: _frequency_curve(part) for key, part in sums.items()}
    figure = _panels(curves, styles, "spatial frequency [1/px]", "Fourier ring correlation", top=1.02)
    for axes in figure.axes:
        axes.axhline(THRESHOLD, color="0.5", linewidth=0.6, zorder=0)
    return figure


def win_rate_figure(
    matrices: Mapping[str, tuple[Sequence[str], np.ndarray]], styles: Mapping[str, ScanStyle]
) -> Figure:
    """Share of the crops on which the scan of the row has the lower loss than that of the column, by completer.

    Args:
        matrices: By completer, the names of the scans and the shares, shape ``(n_scans, n_scans)``.
        styles: Of the scans.

    Returns:
        The figure, at most 180 mm wide; the largest matrices first, two side by side, but one of more than
        `WIDE_MATRIX` scans over the whole width.
    """
    matrices = dict(sorted(matrices.items(), key=lambda item: -len(item[1][0])))
    most = max(len(names) for names, _ in matrices.values())
    n_columns = 1 if most > WIDE_MATRIX else min(2, len(matrices))
    longest = max(len(_short(name)) for names, _ in matrices.values() for name in names)
    left, head, foot, right = 0.12 + 0.056 * longest, 0.26, 0.2 + 0.043 * longest, 0.08
    width = WIDTH if most > WIDE_MATRIX else WIDTH / 2
    cell = min((width - left - right) / most, 0.3)
    # The first of each row is the largest of it.
    heights = [head + cell * len(names) + foot for names, _ in list(matrices.values())[::n_columns]]
    total = sum(heights)
    with mpl.rc_context(STYLE):
        figure = new_figure(total, width=width * n_columns)
        for index, (judge, (names, shares)) in enumerate(matrices.items()):
            row, column = divmod(index, n_columns)
            size = cell * len(names)
            top = total - sum(heights[:row]) - head
            axes = figure.add_axes(
                (
                    (column * width + left) / (width * n_columns),
                    (top - size) / total,
                    size / (width * n_columns),
                    size / total,
                )
            )
            _matrix(axes, [styles[name] for name in names], np.asarray(shares, np.float64), cell)
            axes.set_title(f"completer: {wrapped(judge, 30, most=1)}", fontsize=8.0, pad=4.0, fontweight="bold")
    return figure


def _positive(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    kept = [(x, y) for x, y in points if np.isfinite([x, y]).all() and x > 0 and y > 0]
    return sorted(kept)


def _distance_curve(part: Sums) -> tuple[np.ndarray, np.ndarray]:
    enough = part.distance_pixels > max(_RAREST * part.distance_pixels.sum(), 0.0)
    distances = np.flatnonzero(enough)
    return distances, np.sqrt(part.distance_squared_error[distances] / part.distance_pixels[distances]) / 2.0


def _frequency_curve(part: Sums) -> tuple[np.ndarray, np.ndarray]:
    correlation = ring_correlation(part.frc_cross, part.frc_completion, part.frc_target)
    return np.arange(1, len(correlation) + 1) / len(part.squared_error), correlation


def _panels(
    curves: Mapping[tuple[str, str, str], tuple[np.ndarray, np.ndarray]],
    styles: Mapping[str, ScanStyle],
    horizontal: str,
    vertical: str,
    *,
    top: float | None,
) -> Figure:
    """A panel for each geometry and completer on common axes, and one legend of the scans."""
    cells = _cells(curves, styles)
    n_rows, n_columns = (1 + max(cell[axis] for cell in cells.values()) for axis in (0, 1))
    scans = [style for name, style in styles.items() if any(name == scan for _, scan, _ in curves)]
    legend = 0.175 * math.ceil(len(scans) / _PER_ROW) + 0.1
    panel = {1: 2.4, 2: 2.0}.get(n_columns, 1.6 if n_rows < 4 else 1.35)
    height = n_rows * (panel + 0.23) + 0.36 + legend
    one_geometry = len({geometry for geometry, _ in cells}) == 1
    with mpl.rc_context(STYLE):
        figure = new_figure(height)
        grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
        figure.subplots_adjust(
            left=0.075, right=0.985, top=1 - 0.23 / height, bottom=(0.36 + legend) / height, wspace=0.08,
            hspace=0.23 / panel,
        )  # fmt: skip
        for axes in grid.ravel():
            axes.set_visible(axes in [grid[cell] for cell in cells.values()])
        for (geometry, judge), cell in cells.items():
            _dress(grid[cell], f"completer: {judge}" if one_geometry else f"{geometry} · {judge}")
            for scan in styles:
                curve = curves.get((geometry, scan, judge)) or _only(curves, geometry, scan, styles)
                if curve is not None:
                    _curve(grid[cell], curve, styles[scan], list(styles).index(scan))
        _name_axes(grid, list(cells.values()), horizontal, vertical, top)
        scan_legend(figure, scans, 0.05 / height, _PER_ROW)
    return figure


def _cells(curves: Mapping[tuple[str, str, str], Any], styles: Mapping[str, ScanStyle]) -> dict[tuple[str, str], Any]:
    """Row and column of the panel of each geometry and completer.

    A completer of dense scans alone has none: their curves stand in every panel, for comparison.
    """
    kept = [key for key in curves if styles[key[1]].role != "dense"] or list(curves)
    places = list(dict.fromkeys((geometry, judge) for geometry, _, judge in kept))
    geometries = list(dict.fromkeys(geometry for geometry, _ in places))
    judges = list(dict.fromkeys(judge for _, judge in places))
    if len(geometries) == 1:
        n_columns = 2 if len(places) == 4 else min(len(places), 3)
        return {place: divmod(index, n_columns) for index, place in enumerate(places)}
    return {place: (judges.index(place[1]), geometries.index(place[0])) for place in places}


def _only(
    curves: Mapping[tuple[str, str, str], _Curve], geometry: str, scan: str, styles: Mapping[str, ScanStyle]
) -> _Curve | None:
    """First curve of a dense scan, whose completer is of its own kind."""
    if styles[scan].role != "dense":
        return None
    return next((curve for (place, name, _), curve in curves.items() if (place, name) == (geometry, scan)), None)


def _curve(axes: Axes, curve: _Curve, style: ScanStyle, index: int) -> None:
    every = max(len(curve[0]) // _N_MARKERS, 1)
    # Markers of different scans stand at different places, so that lines on each other stay legible.
    axes.plot(*curve, linewidth=1.0, markersize=2.8, markevery=(index % every, every), **style.drawn)


def _name_axes(
    grid: np.ndarray, cells: list[tuple[int, int]], horizontal: str, vertical: str, top: float | None
) -> None:
    """Names of axes at the left and below; panels above an empty cell get their own numbers."""
    grid[0, 0].set_ylim(bottom=0.0, top=top)
    for row, column in cells:
        axes = grid[row, column]
        if (row + 1, column) not in cells:
            axes.set_xlabel(horizontal if grid.shape[1] < 3 or column == grid.shape[1] // 2 else "", labelpad=2.0)
            axes.tick_params(labelbottom=True)
        if column == 0:
            axes.set_ylabel(vertical, labelpad=2.0)


def _dress(axes: Axes, title: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7.0, pad=2.0)
    axes.set_title(wrapped(title, 40, most=1), fontsize=8.0, pad=3.5, fontweight="bold")


def _short(name: str) -> str:
    return wrapped(name, 28, most=1)


def _matrix(axes: Axes, scans: Sequence[ScanStyle], shares: np.ndarray, cell: float) -> None:
    shown = shares.copy()
    np.fill_diagonal(shown, np.nan)
    # From orange (loses) over white to blue (wins): light where there is no difference.
    colours = LinearSegmentedColormap.from_list("wins", ["#D55E00", "#ffffff", "#0072B2"]).with_extremes(bad="0.92")
    axes.imshow(shown, cmap=colours, vmin=0.0, vmax=1.0, interpolation="nearest")
    size = min(7.5, 28.0 * cell)
    for (row, column), share in np.ndenumerate(shown):
        if np.isfinite(share):
            ink = "white" if share > 0.97 else "0.0"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=size, color=ink)
    ticks = range(len(scans))
    labels = [_short(scan.name) for scan in scans]
    axes.set_xticks(ticks, labels, rotation=50, ha="right", rotation_mode="anchor", fontsize=6.8)
    axes.set_yticks(ticks, labels, fontsize=6.8)
    for label, scan in zip([*axes.get_xticklabels(), *axes.get_yticklabels()], [*scans, *scans], strict=True):
        label.set_color("0.1" if scan.is_contender else GREY)
    axes.tick_params(length=0.0, pad=3.0)
    axes.spines[:].set_visible(False)
