"""One figure of systematic errors: maps of them, their two curves, and the histogram of pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from adaptive_scan.evaluation.systematic_errors import HISTOGRAM_EDGES
from adaptive_scan.report.style import BLACK, COLOURS, CURVE_DASHES, ERROR_COLOURS, SCREEN_STYLE, WIDTH, new_figure

_CURVE_COLOURS = (BLACK, *COLOURS)
_N_COLUMNS = 4
_SIDE = 1.55
_CURVES = 2.1
_LEGEND_ROW = 0.16
_MANY_PICTURES = 2_000
_N_MERGED = 4
_LARGER = 0.25  # right end of the bin that stands for all larger errors


def errors_figure(maps: Mapping[str, np.ndarray], summaries: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Maps of the RMSE of each pixel on one scale, above the curves and histograms of all sets.

    Bands are 95 % intervals over groups; the dotted line is the RMSE of all pixels. Where pictures are few, each four
    bins of the histogram are drawn as one; the bin behind the grey line holds all larger errors.

    Args:
        maps: RMSE of each pixel on [0, 1] by the name of the set, each of shape ``(S, S)``.
        summaries: What `adaptive_scan.evaluation.systematic_errors.summary` gives for each set.

    Returns:
        The figure, 180 mm wide.

    Raises:
        ValueError: If there is no set, or the names differ.

    Example:
        >>> from adaptive_scan.evaluation.systematic_errors import SystematicErrors, summary
        >>> errors = SystematicErrors(4)
        >>> errors.add(np.full((1, 4, 4), 0.2), np.zeros((1, 4, 4)), np.ones((1, 4, 4)), ["a"])
        >>> summaries = {"linear": summary(errors, np.random.default_rng(0))}
        >>> len(errors_figure({"linear": errors.map}, summaries).axes)
        5
    """
    if not maps or list(maps) != list(summaries):
        raise ValueError(f"sets: got {list(maps)} and {list(summaries)}; expected the same names, at least one")
    n_rows = math.ceil(len(maps) / _N_COLUMNS)
    sheet, legend = n_rows * (_SIDE + 0.2) + 0.05, _LEGEND_ROW * math.ceil(len(maps) / 3) + 0.05
    with mpl.rc_context(SCREEN_STYLE):
        figure = new_figure(sheet + _CURVES + legend, dpi=200)
        above, below = figure.subfigures(2, 1, height_ratios=(sheet, _CURVES + legend), squeeze=False)[:, 0]
        _maps(above, maps, n_rows, sheet)
        panels = below.subplots(1, 3)
        height = _CURVES + legend
        below.subplots_adjust(
            left=0.065, right=0.99, top=1 - 0.08 / height, bottom=(0.38 + legend) / height, wspace=0.3
        )
        for index, (name, values) in enumerate(summaries.items()):
            style: dict[str, Any] = {
                "color": _CURVE_COLOURS[index % len(_CURVE_COLOURS)],
                "linestyle": CURVE_DASHES[index % len(CURVE_DASHES)],
            }
            _curve(panels[0], values["path"], style, name)
            _curve(panels[1], values["edge"], style, name)
            panels[1].axhline(values["rmse"], color=style["color"], linestyle=":", linewidth=0.6)
            _histogram(panels[2], values["histogram"], style)
        for axes in panels:
            axes.set_ylim(bottom=0.0)
        panels[2].axvline(HISTOGRAM_EDGES[-1], color="0.6", linewidth=0.5)
        _label(panels[0], "distance from the path [px]", "RMSE on [0, 1]")
        _label(panels[1], "distance from the edge [px]", "RMSE on [0, 1]")
        _label(panels[2], "RMSE of a picture on [0, 1]", "share of pictures [%]")
        handles, names = panels[0].get_legend_handles_labels()
        below.legend(handles, names, loc="lower center", ncols=3, frameon=False, fontsize=6.5, handlelength=3.0)
    return figure


def _maps(part: SubFigure, maps: Mapping[str, np.ndarray], n_rows: int, height: float) -> None:
    """Pictures side by side, those of one row as high as they are wide, and one scale at the right of all."""
    values = np.stack(list(maps.values()))
    low, high = np.quantile(values, [0.002, 0.998])
    columns = min(len(maps), _N_COLUMNS)
    for index, (name, picture) in enumerate(maps.items()):
        row, column = divmod(index, columns)
        left, bottom = 0.05 + column * (_SIDE + 0.06), height - 0.17 - _SIDE - row * (_SIDE + 0.2)
        axes = part.add_axes((left / WIDTH, bottom / height, _SIDE / WIDTH, _SIDE / height))
        image = axes.imshow(picture, cmap=ERROR_COLOURS, vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(name, fontsize=7, pad=2.0)
        axes.set_axis_off()
    left = 0.05 + columns * (_SIDE + 0.06) + 0.02
    bar = part.add_axes((left / WIDTH, (height - 0.17 - _SIDE) / height, 0.09 / WIDTH, _SIDE / height))
    part.colorbar(image, cax=bar).outline.set_linewidth(0.5)
    bar.set_ylabel("RMSE on [0, 1]", labelpad=2.0, fontsize=6)
    bar.tick_params(labelsize=5.5, pad=1.0, width=0.5, length=1.5)


def _curve(axes: Axes, curve: Mapping[str, Any], style: Mapping[str, Any], name: str) -> None:
    distances = np.array(curve["distances"], np.float64)
    low, high = (np.array(curve[end], np.float64) for end in ("low", "high"))
    axes.plot(distances, curve["rmse"], linewidth=1.0, label=name, **style)
    axes.fill_between(distances, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _histogram(axes: Axes, histogram: Mapping[str, Any], style: Mapping[str, Any]) -> None:
    counts, edges = np.asarray(histogram["n_pictures"]), np.asarray(histogram["edges"])
    n_pictures = counts.sum() + histogram["n_above"]
    if n_pictures < _MANY_PICTURES:
        counts, edges = counts.reshape(-1, _N_MERGED).sum(axis=1), edges[::_N_MERGED]
    counts, edges = np.append(counts, histogram["n_above"]), np.append(edges, _LARGER)
    axes.stairs(100.0 * counts / n_pictures, edges, linewidth=1.0, **style)


def _label(axes: Axes, horizontal: str, vertical: str) -> None:
    axes.set_xlabel(horizontal, labelpad=1.5)
    axes.set_ylabel(vertical, labelpad=2.0)
    axes.spines[["top", "right"]].set_visible(False)
