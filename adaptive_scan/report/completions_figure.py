"""Completions of the same scans by several completers side by side, and their power at each spatial frequency."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adaptive_scan.evaluation.spectra import power_spectra
from adaptive_scan.report.style import COLOURS, CURVE_DASHES, SCREEN_STYLE, new_figure

_MOST_COMPLETERS = 4
_SMALLEST_WITH_SPECTRUM = 48
_PANEL, _HEAD, _SPECTRUM = 1.15, 0.2, 1.9


def completions_figure(
    crops: np.ndarray, targets: np.ndarray, scans: np.ndarray, completions: Mapping[str, np.ndarray], *, n_rows: int = 4
) -> Figure:
    """A row for each of some crops: the crop, what was measured, the target, and the first completions; spectra below.

    All pictures have the grey scale from -1 to 1; what was not measured is blue. Spectra are radial means over all
    crops, in decibels relative to the target's power at its lowest frequency; crops below 48 px have too few
    frequencies for them.

    Args:
        crops: Shape ``(n_crops, S, S)``, in [-1, 1].
        targets: What they should be completed to, the same shape.
        scans: Partial scans, values and masks, shape ``(n_crops, 2, S, S)``.
        completions: Completions by the name of the completer, each of the shape of the crops.
        n_rows: Number of crops shown, evenly over their order.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no crop or no completer.

    Example:
        >>> crops = np.random.default_rng(0).uniform(-1, 1, (2, 48, 48))
        >>> scans = np.stack((crops, np.ones_like(crops)), axis=1)
        >>> len(completions_figure(crops, crops, scans, {"nearest": crops}).axes)
        9
    """
    if not len(crops) or not completions:
        raise ValueError(f"got {len(crops)} crops and {len(completions)} completers; expected at least one of each")
    n_rows = min(n_rows, len(crops))
    chosen = np.unique(np.linspace(0, len(crops) - 1, n_rows).round().astype(int))
    shown = dict(list(completions.items())[:_MOST_COMPLETERS])
    columns = {"crop": crops, "measured": None, "target": targets, **shown}
    height = len(chosen) * _PANEL + _HEAD
    with mpl.rc_context(SCREEN_STYLE):
        figure = new_figure(height + _SPECTRUM, width=len(columns) * _PANEL, dpi=200)
        above, below = figure.subfigures(2, 1, height_ratios=(height, _SPECTRUM), squeeze=False)[:, 0]
        panels = above.subplots(len(chosen), len(columns), squeeze=False)
        above.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=1 - _HEAD / height, wspace=0.03, hspace=0.03)
        for row, index in zip(panels, chosen, strict=True):
            for axes, pictures in zip(row, columns.values(), strict=True):
                _show(axes, _measured(scans[index]) if pictures is None else _grey(pictures[index]))
        for axes, name in zip(panels[0], columns, strict=True):
            axes.set_title(name, fontsize=7, pad=2)
        if crops.shape[-1] >= _SMALLEST_WITH_SPECTRUM:
            axes = below.subplots()
            below.subplots_adjust(left=0.12, right=0.7, bottom=0.2, top=0.97)
            _spectra(axes, {"crop": crops, "target": targets}, completions)
    return figure


def _grey(picture: np.ndarray) -> np.ndarray:
    """Shape (S, S, 3), black at -1 and white at 1."""
    grey = np.clip(0.5 * picture + 0.5, 0.0, 1.0)
    return np.repeat(grey[..., None], 3, axis=-1)


def _measured(scan: np.ndarray) -> np.ndarray:
    return np.where(scan[1, ..., None] > 0, _grey(scan[0]), np.array([0.25, 0.45, 0.7]))


def _show(axes: Axes, colours: np.ndarray) -> None:
    axes.imshow(colours, interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _spectra(axes: Axes, given: Mapping[str, np.ndarray], completions: Mapping[str, np.ndarray]) -> None:
    reference = _radial(given["target"])[0]
    greys = {"crop": "0.6", "target": "0.0"}
    for name, pictures in given.items():
        axes.plot(*_decibels(_radial(pictures), reference), color=greys[name], linewidth=1.2, label=name)
    for index, (name, pictures) in enumerate(completions.items()):
        axes.plot(
            *_decibels(_radial(pictures), reference),
            color=COLOURS[index % len(COLOURS)],
            linestyle=CURVE_DASHES[index % len(CURVE_DASHES)],
            linewidth=0.9,
            label=name,
        )
    axes.set(xlabel="spatial frequency [Nyquist]", ylabel="power [dB]", xlim=(0.0, 1.0))
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=6.5)


def _radial(pictures: np.ndarray) -> np.ndarray:
    mean: np.ndarray = power_spectra(np.ascontiguousarray(pictures, dtype=np.float32)).mean(axis=0)
    return mean


def _decibels(spectrum: np.ndarray, reference: float) -> tuple[np.ndarray, np.ndarray]:
    frequencies = (np.arange(len(spectrum)) + 0.5) / len(spectrum)
    return frequencies, 10.0 * np.log10(np.maximum(spectrum, 1e-12) / max(float(reference), 1e-12))
