"""One figure of predicted errors: reliability, coverage, ranking of scans and sparsification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adaptive_scan.evaluation.calibration import (
    N_BINS,
    ErrorSample,
    bootstrap_calibration,
    interval_coverage,
    nominal_coverage,
    reliability_curve,
    sparsification,
)
from adaptive_scan.report.style import BLACK, COLOURS, PRINT_STYLE, new_figure

_LINE_COLOURS = (*COLOURS, BLACK)
_HEIGHT = 1.75
_MOST_POINTS = 500
_MARGIN = 1.05


def calibration_figure(samples: Mapping[str, ErrorSample], rng: np.random.Generator, *, n_bins: int = N_BINS) -> Figure:
    """Four panels: reliability, predicted against true RMSE of scans, coverage of intervals, and sparsification.

    The band about the last curve of reliability is its 95 % interval over groups of micrographs. The second panel
    shows the last sample.

    Args:
        samples: Samples of the same scans by name, such as before and after calibration.
        rng: Draws the resamples, and the scans of the second panel where there are very many.
        n_bins: Number of bins.

    Returns:
        The figure, 180 mm wide (two columns), 300 dots per inch.

    Raises:
        ValueError: If there is no sample.

    Example:
        >>> errors = np.random.default_rng(0).normal(size=(4, 50))
        >>> sample = ErrorSample(np.ones((4, 50)), errors, np.full(4, 0.5), np.full(4, 0.5), np.arange(4))
        >>> len(calibration_figure({"head": sample}, np.random.default_rng(0)).axes)
        4
    """
    if not samples:
        raise ValueError("samples: got empty; expected at least one")
    last = list(samples.values())[-1]
    with mpl.rc_context(PRINT_STYLE):
        figure = new_figure(_HEIGHT, layout="constrained")
        panels = figure.subplots(1, 4)
        for index, (name, sample) in enumerate(samples.items()):
            colour = _LINE_COLOURS[index % len(_LINE_COLOURS)]
            # Dashes tell curves apart where print has no colours.
            style = "-" if sample is last else "--"
            _draw_reliability(panels[0], name, sample, colour, style, n_bins)
            _draw_coverage(panels[2], sample, colour, style)
        _frame(panels[0], _MARGIN * 0.5 * _largest(samples, n_bins), "predicted error", "observed RMSE")
        _frame(panels[2], 1.0, "coverage of normal errors", "observed coverage")
        _draw_band(panels[0], last, _LINE_COLOURS[(len(samples) - 1) % len(_LINE_COLOURS)], rng, n_bins)
        _draw_scans(panels[1], last, rng)
        _draw_sparsification(panels[3], last)
        panels[0].legend(frameon=False, loc="upper left")
        for axes in panels:
            axes.spines[["top", "right"]].set_visible(False)
    return figure


def _largest(samples: Mapping[str, ErrorSample], n_bins: int) -> float:
    """The largest error of all reliability curves."""
    curves = [reliability_curve(sample.predicted, sample.errors, n_bins=n_bins) for sample in samples.values()]
    return max(float(errors.max()) for curve in curves for errors in (curve.predicted, curve.observed))


def _frame(axes: Axes, largest: float, horizontal: str, vertical: str) -> None:
    """The line of perfect agreement, and a square panel around it."""
    largest = largest if largest > 0.0 else 1.0
    axes.plot([0.0, largest], [0.0, largest], color="black", linewidth=0.6, linestyle=(0, (4, 3)), zorder=1)
    axes.set(xlim=(0.0, largest), ylim=(0.0, largest), xlabel=horizontal, ylabel=vertical, box_aspect=1)


def _draw_reliability(axes: Axes, name: str, sample: ErrorSample, colour: str, style: str, n_bins: int) -> None:
    curve = reliability_curve(sample.predicted, sample.errors, n_bins=n_bins)
    line: dict[str, Any] = {"color": colour, "linestyle": style, "marker": "o", "markersize": 2, "linewidth": 1.0}
    axes.plot(0.5 * curve.predicted, 0.5 * curve.observed, label=name, **line)


def _draw_band(axes: Axes, sample: ErrorSample, colour: str, rng: np.random.Generator, n_bins: int) -> None:
    bands = bootstrap_calibration(sample, rng, n_bins=n_bins)
    if bands is not None:
        predicted = reliability_curve(sample.predicted, sample.errors, n_bins=n_bins).predicted
        axes.fill_between(0.5 * predicted, *(0.5 * bands.observed), color=colour, alpha=0.2, linewidth=0)


def _draw_scans(axes: Axes, sample: ErrorSample, rng: np.random.Generator) -> None:
    n_scans = len(sample.rmse)
    shown = rng.choice(n_scans, min(n_scans, _MOST_POINTS), replace=False)
    axes.scatter(sample.predicted_rmse[shown], sample.rmse[shown], s=3, color=_LINE_COLOURS[0], alpha=0.5, linewidths=0)
    largest = float(max(sample.predicted_rmse.max(), sample.rmse.max()))
    _frame(axes, _MARGIN * largest, "predicted RMSE of scan", "RMSE of scan")


def _draw_coverage(axes: Axes, sample: ErrorSample, colour: str, style: str) -> None:
    widths = np.linspace(0.0, 3.0, 31)
    observed = [interval_coverage(sample.predicted, sample.errors, k) for k in widths]
    axes.plot([nominal_coverage(k) for k in widths], observed, color=colour, linestyle=style, linewidth=1.0)


def _draw_sparsification(axes: Axes, sample: ErrorSample) -> None:
    curves = sparsification(sample.predicted, sample.errors)
    axes.plot(curves.shares, 0.5 * curves.remaining, color=_LINE_COLOURS[0], linewidth=1.0, label="by prediction")
    axes.plot(curves.shares, 0.5 * curves.oracle, color=_LINE_COLOURS[1], linewidth=1.0, linestyle="--", label="oracle")
    axes.set(xlim=(0.0, 1.0), xlabel="share of pixels left out", ylabel="RMSE of the rest", box_aspect=1)
    axes.set_ylim(bottom=0.0)
    axes.legend(frameon=False)
