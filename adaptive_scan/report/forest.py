"""Forest plots: ratios of losses with their intervals, one row for a scan and one column for a geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from adaptive_scan.report.style import GREY, STYLE, WIDTH, log_ticks, new_figure, wrapped

_LABELS = 1.62
_RIGHT = 0.08
_GAP = 0.1
_HEAD = 0.27
_FOOT = 0.37
_LEGEND_ROW = 0.19
_HEADING = 0.24
_MARK = 0.115
_SMALLEST_ROW = 0.23
_TAG_SIZE = 6.2


@dataclass(frozen=True)
class Ratio:
    """One mark of a forest plot.

    Attributes:
        geometry: Which column it stands in.
        heading: Which part of the rows, such as what the scan is compared with.
        row: Name of its row in that part.
        series: What its colour and marker stand for, such as the completer.
        value: The ratio, positive.
        interval: Its ends, or None where there is none.
    """

    geometry: str
    heading: str
    row: str
    series: str
    value: float
    interval: tuple[float, float] | None


def forest_figure(
    ratios: Sequence[Ratio],
    series: Mapping[str, Mapping[str, Any]],
    *,
    tags: Mapping[str, str] | None = None,
    hollow: frozenset[str] = frozenset(),
    quantity: str = "ratio of mean losses",
) -> Figure:
    """Ratios on one logarithmic axis; left of the line at 1 the first of the two is better.

    Args:
        ratios: What is drawn; those that are not positive and finite are left out.
        series: Colour and marker of each series, in the order of the legend.
        tags: Small print below the name of a row.
        hollow: Rows whose markers are hollow: those that are no contenders.
        quantity: Name of the axis.

    Returns:
        The figure, 180 mm wide.

    Raises:
        ValueError: If there is nothing to draw.

    Example:
        >>> ratio = Ratio("1/23", "against spiral", "pathwise", "shared", 0.9, (0.85, 0.96))
        >>> len(forest_figure([ratio], {"shared": {"color": "black", "marker": "o"}}).axes)
        1
    """
    shown = [ratio for ratio in ratios if np.isfinite(ratio.value) and ratio.value > 0]
    if not shown:
        raise ValueError(f"ratios: none of {len(ratios)} is positive and finite; expected at least one")
    used = {name: style for name, style in series.items() if name in {ratio.series for ratio in shown}}
    rows = _Rows(shown, list(used), tags or {})
    geometries = list(dict.fromkeys(ratio.geometry for ratio in shown))
    legend = _LEGEND_ROW if len(used) > 1 else 0.0
    height = _HEAD + rows.height + _FOOT + legend
    width = (WIDTH - _LABELS - _RIGHT - _GAP * (len(geometries) - 1)) / len(geometries)
    limits = _limits(shown)
    with mpl.rc_context(STYLE):
        figure = new_figure(height)
        for index, geometry in enumerate(geometries):
            left = _LABELS + index * (width + _GAP)
            axes = figure.add_axes((left / WIDTH, (_FOOT + legend) / height, width / WIDTH, rows.height / height))
            _frame(axes, rows, limits, geometry, width)
            for ratio in shown:
                if ratio.geometry == geometry:
                    _mark(axes, rows.place(ratio), ratio, used[ratio.series], ratio.row in hollow)
            if index == 0:
                _name_rows(axes, rows, width, hollow)
        centre = (_LABELS + (WIDTH - _RIGHT - _LABELS) / 2) / WIDTH
        figure.text(centre, (legend + 0.06) / height, quantity, ha="center", va="bottom")
        if legend:
            _legend(figure, used, 0.04 / height)
    return figure


class _Rows:
    """Where rows and headings stand, in inches from the top."""

    def __init__(self, ratios: Sequence[Ratio], order: Sequence[str], tags: Mapping[str, str]) -> None:
        self.tags = tags
        self.headings: dict[str, float] = {}
        self.middles: dict[tuple[str, str], float] = {}
        self.steps: dict[tuple[str, str], float] = {}
        self._series: dict[tuple[str, str], list[str]] = {}
        top = 0.0
        for heading in dict.fromkeys(ratio.heading for ratio in ratios):
            if heading:
                self.headings[heading] = top + 0.6 * _HEADING
                top += _HEADING
            for row in dict.fromkeys(ratio.row for ratio in ratios if ratio.heading == heading):
                here = {ratio.series for ratio in ratios if (ratio.heading, ratio.row) == (heading, row)}
                step = max(_SMALLEST_ROW, _MARK * len(here) + 0.09)
                self._series[heading, row] = [name for name in order if name in here]
                self.middles[heading, row], self.steps[heading, row] = top + step / 2, step
                top += step
        self.height = top

    def place(self, ratio: Ratio) -> float:
        """Of the mark of a ratio: the series stand below each other about the middle of the row."""
        key = ratio.heading, ratio.row
        offset = (self._series[key].index(ratio.series) - (len(self._series[key]) - 1) / 2) * _MARK
        return self.middles[key] + offset


def _limits(ratios: Sequence[Ratio]) -> tuple[float, float]:
    """Ends of the axis: all intervals, but none farther than a factor of two beyond all ratios, and the line at 1."""
    values = [ratio.value for ratio in ratios]
    low, high = min(1.0, *values), max(1.0, *values)
    ends = [end for ratio in ratios if ratio.interval is not None for end in ratio.interval if end > 0]
    low, high = max(min([low, *ends]), low / 2), min(max([high, *ends]), high * 2)
    spare = max((high / low) ** 0.04, 1.004)
    return low / spare, high * spare


def _frame(axes: Axes, rows: _Rows, limits: tuple[float, float], geometry: str, width: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.set_ylim(rows.height, 0.0)
    log_ticks(axes.xaxis, *limits, most=max(int(width / 0.42), 2))
    axes.set_yticks([])
    axes.tick_params(axis="x", labelsize=7.0, pad=2.0)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.set_title(wrapped(geometry, 24, most=1), fontsize=8.5, pad=4.0, fontweight="bold")
    for index, (key, middle) in enumerate(rows.middles.items()):
        if index % 2 == 0:
            half = rows.steps[key] / 2
            axes.axhspan(middle - half, middle + half, color="0.95", linewidth=0, zorder=0)
    axes.axvline(1.0, color="0.25", linewidth=0.8, zorder=1)


def _mark(axes: Axes, place: float, ratio: Ratio, style: Mapping[str, Any], hollow: bool) -> None:
    colour = style["color"]
    if ratio.interval is not None:
        low, high = ratio.interval
        left, right = axes.get_xlim()
        axes.plot([max(low, left), min(high, right)], [place, place], color=colour, linewidth=1.0, zorder=2)
        # An arrow says that the interval goes on beyond the axis.
        for beyond, end, arrow in ((low < left, left, "<"), (high > right, right, ">")):
            if beyond:
                axes.plot([end], [place], marker=arrow, color=colour, markersize=3.5, clip_on=False, zorder=2)
    face = "white" if hollow else colour
    axes.plot(
        [ratio.value], [place], color=colour, marker=style["marker"], markersize=4.4, markerfacecolor=face,
        markeredgewidth=0.9, linestyle="none", zorder=3,
    )  # fmt: skip


def _name_rows(axes: Axes, rows: _Rows, width: float, hollow: frozenset[str]) -> None:
    left = -(_LABELS - 0.04) / width
    beside = axes.get_yaxis_transform()
    for heading, place in rows.headings.items():
        text = wrapped(heading, 60, most=1)
        axes.text(left, place, text, transform=beside, va="center", fontweight="bold", fontsize=7.5)
    for (_, row), middle in rows.middles.items():
        tag = rows.tags.get(row, "")
        name, small = wrapped(row, 28, most=1), wrapped(tag, 34, most=1)
        shift = 0.05 if tag else 0.0
        ink = GREY if row in hollow else "0.1"
        axes.text(-0.06 / width, middle - shift, name, transform=beside, ha="right", va="center", color=ink)
        if tag:
            axes.text(
                -0.06 / width, middle + 0.065, small, transform=beside, ha="right", va="center", color=GREY,
                fontsize=_TAG_SIZE,
            )  # fmt: skip


def _legend(figure: Figure, series: Mapping[str, Mapping[str, Any]], bottom: float) -> None:
    handles = [
        Line2D([], [], linewidth=1.0, markersize=4.4, label=wrapped(name, 30, most=1), **style)
        for name, style in series.items()
    ]
    figure.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, bottom), ncols=max(len(handles), 1), frameon=False,
        fontsize=7.5, handlelength=2.0, columnspacing=1.6, borderpad=0.0, borderaxespad=0.0,
    )  # fmt: skip
