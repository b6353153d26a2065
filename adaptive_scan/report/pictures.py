"""Sheets of pictures of a benchmark: examples, errors of each pixel, and where the probe was.

Each quantity has one scale wherever it is drawn: intensities are black at -1 and white at 1, and errors and visits
share the scale that is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adaptive_scan.evaluation.results import ExampleScans
from adaptive_scan.report.style import (
    ERROR_COLOURS,
    GREY,
    STYLE,
    TIME_COLOURS,
    WIDTH,
    ScanStyle,
    end_of_errors,
    new_figure,
    wrapped,
)

_N_COLUMNS = 6
_GAP = 0.05
_SIDE_TEXT = 0.17
_LINE = 0.125
_BAND_GAP = 0.14
_LARGEST_PANEL = 1.6


class _Sheet:
    """Square panels of one size at exact places, in bands that each have a line of titles above."""

    def __init__(
        self, titles: Sequence[tuple[str, str]], n_rows: int, *, image_size: int, side_text: bool, foot: float
    ) -> None:
        self.n_columns = min(_N_COLUMNS, len(titles))
        self.n_rows = n_rows
        self.left = _SIDE_TEXT if side_text else 0.02
        spare = self.left + 0.02 + (self.n_columns - 1) * _GAP
        self.side = min((WIDTH - spare) / self.n_columns, _LARGEST_PANEL)
        characters = int(self.side / 0.062)
        names = [wrapped(name, characters) for name, _ in titles]
        tags = [wrapped(tag, int(self.side / 0.052), most=3) if tag else "" for _, tag in titles]
        lines = max(
            (name.count("\n") + 1) + (tag.count("\n") + 1 if tag else 0) for name, tag in zip(names, tags, strict=True)
        )
        self.head = lines * _LINE + 0.06
        self.band = self.head + n_rows * self.side + (n_rows - 1) * _GAP
        n_bands = math.ceil(len(titles) / self.n_columns)
        self.height = n_bands * self.band + (n_bands - 1) * _BAND_GAP + foot + 0.02
        self.figure = new_figure(self.height, dpi=_whole_dots(image_size, self.side))
        for index, (name, tag) in enumerate(zip(names, tags, strict=True)):
            self._title(index, name, tag)

    def _corner(self, index: int) -> tuple[float, float]:
        """Left end and top of a column of panels [inch]."""
        band, column = divmod(index, self.n_columns)
        top = self.height - 0.01 - band * (self.band + _BAND_GAP) - self.head
        return self.left + column * (self.side + _GAP), top

    def _title(self, index: int, name: str, tag: str) -> None:
        left, top = self._corner(index)
        bottom = top + 0.055
        if tag:
            self.text(left + self.side / 2, bottom, tag, ha="center", va="baseline", fontsize=6.2, color=GREY)
            bottom += (tag.count("\n") + 1) * _LINE * 0.85
        self.text(left + self.side / 2, bottom, name, ha="center", va="baseline", fontsize=7.5, linespacing=1.05)

    def text(self, left: float, bottom: float, text: str, **settings: Any) -> None:
        self.figure.text(left / WIDTH, bottom / self.height, text, **settings)

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((left / WIDTH, bottom / self.height, width / WIDTH, height / self.height))

    def panel(self, index: int, row: int = 0) -> Axes:
        left, top = self._corner(index)
        bottom = top - (row + 1) * self.side - row * _GAP
        axes = self.axes(left, bottom, self.side, self.side)
        axes.set_xticks([])
        axes.set_yticks([])
        return axes

    def name_rows(self, names: Sequence[str], *, first: int = 0) -> None:
        """Names of the rows along the left side, in the bands from ``first``."""
        n_bands = round((self.height + _BAND_GAP) / (self.band + _BAND_GAP))
        for band in range(first, n_bands):
            _, top = self._corner(band * self.n_columns)
            for row, name in enumerate(names):
                middle = top - row * (self.side + _GAP) - self.side / 2
                self.text(0.03, middle, name, ha="left", va="center", rotation="vertical", fontsize=7.5)

    def bar(self, place: int, n_places: int, mappable: ScalarMappable, name: str, extend: str) -> None:
        """A horizontal scale in the foot of the sheet, one of several side by side."""
        width = min(1.9, WIDTH / n_places - 0.4)
        space = WIDTH / n_places
        axes = self.axes(place * space + (space - width) / 2, 0.31, width, 0.075)
        bar = self.figure.colorbar(mappable, cax=axes, orientation="horizontal", extend=extend, ticks=MaxNLocator(4))
        bar.set_label(name, labelpad=1.5, fontsize=7.0)
        bar.ax.tick_params(labelsize=6.5, pad=1.5)
        bar.outline.set_linewidth(0.5)


_FOOT = 0.46


def _whole_dots(image_size: int, side: float) -> float:
    """Dots per inch, at least 150, that give each pixel of a picture a whole number of dots: sharp, and small files."""
    return math.ceil(150.0 * side / image_size) * image_size / side


def largest_error(examples: Sequence[ExampleScans], styles: Mapping[str, ScanStyle], completer: str) -> float:
    """Upper end of the scale of errors: the 99.5th percentile of all errors shown, up to the next 0.05.

    Args:
        examples: Crops of all geometries.
        styles: Of the scans shown.
        completer: Whose completions, as in `example_sheet`.
    """
    errors = [
        np.abs(example.completions[scan, judge] - example.targets).ravel() / 2.0
        for example in examples
        for scan in styles
        if (judge := _judge(example, scan, completer)) is not None
    ]
    return end_of_errors(np.concatenate(errors) if errors else np.empty(0))


def example_sheet(
    examples: ExampleScans, index: int, styles: Mapping[str, ScanStyle], completer: str, largest: float
) -> Figure:
    """One crop: its target, and for each scan the path over it, the completion and its error, in one column.

    Grey is intensity from -1 to 1; the colour of a path is time; the error is |completion - target| / 2, on the scale
    [0, 1] of RMSE, and the figure in it is the RMSE of that completion.

    Args:
        examples: Crops of one geometry.
        index: Which of them.
        styles: Of the scans shown, in their order; those without a completion are left out.
        completer: Whose completions; where a scan has none of it, those of its first, with its name.
        largest: Upper end of the scale of errors.

    Returns:
        The figure, 180 mm wide.

    Raises:
        ValueError: If no scan has a completion.
    """
    judges = {scan: _judge(examples, scan, completer) for scan in styles}
    shown = [(style, judge) for style, judge in ((styles[scan], judges[scan]) for scan in styles) if judge is not None]
    if not shown:
        raise ValueError(f"completions: got those of {list(examples.completions)}; expected some of {list(styles)}")
    titles = [("target", "")] + [
        (style.name, ", ".join(part for part in (style.tag, f"by {judge}" if judge != completer else "") if part))
        for style, judge in shown
    ]
    target = examples.targets[index]
    with mpl.rc_context(STYLE):
        sheet = _Sheet(titles, 3, image_size=len(target), side_text=True, foot=_FOOT)
        sheet.name_rows(("path over target", "completion", "error"))
        _grey(sheet.panel(0), target)
        for column, (style, judge) in enumerate(shown, start=1):
            completion = examples.completions[style.name, judge][index]
            over, whole, error = (sheet.panel(column, row) for row in range(3))
            _grey(over, target)
            positions = examples.positions.get(style.name)
            _path(over, None if positions is None else positions[index], style)
            _grey(whole, completion)
            _error(error, completion - target, largest)
        sheet.bar(0, 3, ScalarMappable(Normalize(-1.0, 1.0), "gray"), "intensity", "neither")
        sheet.bar(1, 3, ScalarMappable(Normalize(0.0, 1.0), TIME_COLOURS), "time, fraction of the scan", "neither")
        sheet.bar(2, 3, ScalarMappable(Normalize(0.0, largest), ERROR_COLOURS), "absolute error on [0, 1]", "max")
    return sheet.figure


def _judge(examples: ExampleScans, scan: str, completer: str) -> str | None:
    found = [judge for name, judge in examples.completions if name == scan]
    return completer if completer in found else found[0] if found else None


def map_sheet(
    maps: Mapping[str, np.ndarray],
    styles: Mapping[str, ScanStyle],
    limits: tuple[float, float],
    name: str,
    *,
    colours: str = ERROR_COLOURS,
    power: float = 1.0,
    figures: bool = False,
) -> Figure:
    """One picture for each scan, such as the RMSE of each pixel, all on one scale.

    Args:
        maps: By scan, shape ``(S, S)``.
        styles: Of the scans.
        limits: Ends of the scale.
        name: Of the quantity, for the scale.
        colours: Name of the colour map.
        power: Exponent of the scale; below 1 it shows small values more.
        figures: Whether the root mean square of a map is written into it.

    Returns:
        The figure, 180 mm wide.

    Raises:
        ValueError: If there is no map.
    """
    if not maps:
        raise ValueError("maps: got none; expected at least one")
    norm = Normalize(*limits) if power == 1.0 else PowerNorm(power, *limits)
    with mpl.rc_context(STYLE):
        titles = [(scan, styles[scan].tag) for scan in maps]
        size = len(next(iter(maps.values())))
        sheet = _Sheet(titles, 1, image_size=size, side_text=False, foot=_FOOT)
        for index, picture in enumerate(maps.values()):
            axes = sheet.panel(index)
            axes.imshow(picture, cmap=colours, norm=norm, interpolation="nearest")
            if figures:
                _figure_in(axes, f"{np.sqrt(np.mean(picture**2)):.3f}")
        extend = "max" if any(np.nanmax(picture) > limits[1] * (1 + 1e-9) for picture in maps.values()) else "neither"
        sheet.bar(0, 1, ScalarMappable(norm, colours), name, extend)
    return sheet.figure


def _grey(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="gray", vmin=-1.0, vmax=1.0, interpolation="nearest")


def _error(axes: Axes, difference: np.ndarray, largest: float) -> None:
    error = np.abs(difference) / 2.0
    axes.imshow(error, cmap=ERROR_COLOURS, vmin=0.0, vmax=largest, interpolation="nearest")
    _figure_in(axes, f"{np.sqrt(np.mean(np.square(error, dtype=np.float64))):.3f}")


def _figure_in(axes: Axes, text: str) -> None:
    axes.text(
        0.97, 0.04, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=6.8, color="white",
        bbox={"facecolor": "black", "alpha": 0.65, "edgecolor": "none", "pad": 1.0},
    )  # fmt: skip


def _path(axes: Axes, positions: np.ndarray | None, style: ScanStyle) -> None:
    """Positions coloured by time, and the line through them where the probe moved along one."""
    side = axes.get_xlim()[1] + 0.5
    if positions is None or style.role == "dense" or len(positions) >= side**2:
        axes.text(
            0.5, 0.5, "every pixel", transform=axes.transAxes, ha="center", va="center", fontsize=7.5, color="white",
            path_effects=[patheffects.withStroke(linewidth=2.0, foreground="black")],
        )  # fmt: skip
        return
    points, time = path_points(positions, side)
    if style.contiguous:
        draw_line(axes, points, time, casing=1.7)
    else:
        axes.scatter(points[:, 0], points[:, 1], c="white", s=3.0, linewidths=0)
        axes.scatter(points[:, 0], points[:, 1], c=time, cmap=TIME_COLOURS, s=1.5, linewidths=0, zorder=3)
    frame_pixels(axes, side)


def path_points(positions: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Where positions are drawn, and when they were measured.

    Args:
        positions: Probing positions (row, column) [px], shape ``(n_positions, 2)``.
        side: Side of the picture [px]; what lies outside is drawn at its border.

    Returns:
        Points (x, y), shape ``(n_positions, 2)``, and fractions of the scan, shape ``(n_positions,)``.

    Example:
        >>> path_points(np.array([[0.0, 2.0], [1.0, 9.0]]), 8.0)[0].tolist()
        [[2.0, 0.0], [7.0, 1.0]]
    """
    return np.clip(positions, 0.0, side - 1.0)[:, ::-1], np.linspace(0.0, 1.0, len(positions))


def draw_line(axes: Axes, points: np.ndarray, time: np.ndarray, *, casing: float) -> None:
    """Draw a line through points, coloured by time.

    Args:
        axes: Where to.
        points: As (x, y), shape ``(n, 2)``.
        time: Fractions of the scan, shape ``(n,)``.
        casing: Width of the white line below, which keeps the dark first part visible over dark specimens [pt].
    """
    axes.plot(points[:, 0], points[:, 1], color="white", linewidth=casing, solid_joinstyle="round")
    pieces = np.stack([points[:-1], points[1:]], axis=1)
    axes.add_collection(
        LineCollection(list(pieces), array=time[:-1], cmap=TIME_COLOURS, linewidths=0.9, capstyle="round", zorder=3)
    )


def frame_pixels(axes: Axes, side: float) -> None:
    """Limit axes to the pixels of a picture, rows downwards.

    Args:
        axes: Axes with the picture.
        side: Its side [px].
    """
    axes.set_xlim(-0.5, side - 0.5)
    axes.set_ylim(side - 0.5, -0.5)
