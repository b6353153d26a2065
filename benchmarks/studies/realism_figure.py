"""One figure of a comparison of procedural with real crops: the crops side by side, and the curves of both."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adaptive_scan.evaluation.spectra import N_FREQUENCIES
from adaptive_scan.report.style import BLACK, COLOURS, SCREEN_STYLE, WIDTH, new_figure
from studies.crop_statistics import (
    GRADIENT_EDGES,
    INTENSITY_EDGES,
    N_LEVELS,
    OCTAVE_EDGES,
    CropStatistics,
    pooled,
    spectrum_bands,
)

_COLOURS = (BLACK, *COLOURS)
_N_COLUMNS = 10


def realism_figure(
    crops: Mapping[str, np.ndarray],
    statistics: Mapping[str, CropStatistics],
    groups: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> Figure:
    """Contact sheet, one row of crops per set, above the curves of all sets: mean over the crops of each.

    The band about a spectrum is its 95 % interval over resamples of the groups.

    Args:
        crops: Crops in [-1, 1] of each set by its name, each of shape (N, S, S); the first ten are shown.
        statistics: Statistics of each set.
        groups: Group of each crop of each set, shape (N,).
        rng: Draws the resamples of the bands.

    Returns:
        The figure, 180 mm wide.

    Raises:
        ValueError: If there is no set, or the names differ.

    Example:
        >>> crops = {"noise": np.random.default_rng(0).uniform(-1, 1, (3, 48, 48))}
        >>> statistics = {"noise": CropStatistics.of(crops["noise"])}
        >>> len(realism_figure(crops, statistics, {"noise": np.arange(3)}, np.random.default_rng(0)).axes)
        9
    """
    if not crops or not set(crops) == set(statistics) == set(groups):
        raise ValueError(f"sets: got {list(crops)}, {list(statistics)} and {list(groups)}; expected the same names")
    with mpl.rc_context(SCREEN_STYLE):
        side = WIDTH / _N_COLUMNS
        curves, sheet = 3.1, len(crops) * (side + 0.14)
        figure = new_figure(sheet + curves, dpi=200)
        above, below = figure.subfigures(2, 1, height_ratios=(sheet, curves), squeeze=False)[:, 0]
        _contact_sheet(above.subplots(len(crops), _N_COLUMNS, squeeze=False), crops)
        above.subplots_adjust(left=0.005, right=0.995, top=0.965, bottom=0.01, wspace=0.03, hspace=0.2)
        panels = below.subplots(2, 3)
        below.subplots_adjust(left=0.07, right=0.99, top=0.97, bottom=0.12, wspace=0.3, hspace=0.42)
        for index, name in enumerate(crops):
            colour = _COLOURS[index % len(_COLOURS)]
            _curves(panels.ravel(), name, statistics[name], groups[name], colour, rng)
        panels[0, 0].legend(frameon=False, fontsize=6)
    for axes in [axes for axes in figure.axes if not axes.has_data()]:
        axes.remove()
    return figure


def _contact_sheet(panels: np.ndarray, crops: Mapping[str, np.ndarray]) -> None:
    for row, (name, pictures) in enumerate(crops.items()):
        for column in range(_N_COLUMNS):
            panels[row, column].axis("off")
            if column < len(pictures):
                panels[row, column].imshow(pictures[column], cmap="gray", vmin=-1.0, vmax=1.0)
        panels[row, 0].set_title(name, loc="left", fontsize=7, pad=1.5)


def _curves(
    panels: np.ndarray,
    name: str,
    statistics: CropStatistics,
    groups: np.ndarray,
    colour: str,
    rng: np.random.Generator,
) -> None:
    frequencies = (np.arange(N_FREQUENCIES) + 0.5) / (2 * N_FREQUENCIES)
    mean, low, high = (10.0 * x for x in spectrum_bands(statistics.spectra, groups, rng))
    panels[0].plot(frequencies, mean, color=colour, linewidth=1.0, label=name)
    panels[0].fill_between(frequencies, low, high, color=colour, alpha=0.2, linewidth=0)
    _label(panels[0], "frequency [1/px]", "power [dB]")
    _density(panels[1], pooled(statistics.intensities), INTENSITY_EDGES, colour)
    _label(panels[1], "intensity", "density")
    _density(panels[2], pooled(statistics.gradients), GRADIENT_EDGES, colour)
    panels[2].set_yscale("log")
    _label(panels[2], "gradient [1/px]", "density")
    noise = np.clip(statistics.noise, -4.0, 0.0)
    panels[3].hist(noise, bins=np.linspace(-4.0, 0.0, 33), density=True, histtype="step", color=colour)
    _label(panels[3], "log10 noise level", "density")
    levels = -1.0 + 2.0 * (np.arange(N_LEVELS) + 0.5) / N_LEVELS
    panels[4].plot(levels, pooled(statistics.noise_by_mean), color=colour, marker="o", markersize=2, linewidth=1.0)
    _label(panels[4], "mean intensity", "log10 noise level")
    spacings = np.nan_to_num(pooled(statistics.spacings)).reshape(-1, 2).sum(axis=1)
    _density(panels[5], spacings, OCTAVE_EDGES[::2], colour)
    _label(panels[5], "log2 nearest feature [px]", "density")


def _density(axes: Axes, shares: np.ndarray, edges: np.ndarray, colour: str) -> None:
    axes.stairs(shares / np.diff(edges), edges, color=colour, linewidth=1.0)


def _label(axes: Axes, horizontal: str, vertical: str) -> None:
    axes.set_xlabel(horizontal, labelpad=1.0)
    axes.set_ylabel(vertical, labelpad=1.0)
    axes.spines[["top", "right"]].set_visible(False)
