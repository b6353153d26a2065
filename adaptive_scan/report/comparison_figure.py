"""The figure of a comparison, for print: no titles, one scale per quantity, colour-blind safe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from adaptive_scan.evaluation.comparison import Comparison
from adaptive_scan.report.pictures import draw_line, frame_pixels, path_points
from adaptive_scan.report.style import ERROR_COLOURS, PRINT_STYLE, TIME_COLOURS, WIDTH, end_of_errors, new_figure

_LARGEST_PANEL = 1.2
_GAP = 0.03
_GROUP_GAP = 0.12
_MARGIN = 0.03
_HEAD = 0.34
_FOOT = 0.46


def comparison_figure(
    comparison: Comparison, scans: Sequence[str] | None = None, completer: str | None = None
) -> Figure:
    """Examples of a comparison: one row per crop, and for each scan its path, its completion and the error.

    Grey values are intensities on [0, 1], on the same scale in all panels; colour along the path is the time
    at which a position was measured; the error is |completion - target| on [0, 1], on one scale whose upper
    end is the 99.5th percentile of all errors shown. The figure in each error panel is that completion's
    RMSE.

    Args:
        comparison: What `adaptive_scan.evaluation.compare_scans` returned, with at least one example.
        scans: Which scans, in which order; None is the first policy (or, without one, the first contiguous
            scan), the reference, and the uniform grid where it was compared.
        completer: Whose completions; None is the first.

    Returns:
        The figure, at most 180 mm wide (two columns), 300 dots per inch.

    Raises:
        ValueError: If there are no examples, or a scan or the completer was not compared.

    Example:
        >>> from adaptive_scan.evaluation import compare_scans
        >>> from adaptive_scan.scans import ScanGeometry
        >>> figure = comparison_figure(compare_scans(np.eye(12)[None], geometry=ScanGeometry(12, 4, 4)), ["spiral"])
        >>> [text.get_text() for text in figure.texts][:4]
        ['crop', 'path', 'completion', 'error, RMSE']
    """
    examples = comparison.examples
    shown = _default_scans(comparison) if scans is None else list(scans)
    judge = comparison.completers[0] if completer is None else completer
    missing = [scan for scan in shown if (scan, judge) not in examples.completions]
    if missing or not shown or len(examples.indices) == 0:
        raise ValueError(
            f"got {len(examples.indices)} examples and none of scans {missing} with completer {judge!r}; "
            f"expected examples, scans among {comparison.scans} and a completer among {comparison.completers}"
        )
    errors = {scan: np.abs(examples.completions[scan, judge] - examples.targets) / 2.0 for scan in shown}
    largest_error = end_of_errors(np.stack(list(errors.values())))
    with mpl.rc_context(PRINT_STYLE):
        layout = _Layout(len(examples.indices), len(shown))
        for row in range(layout.n_rows):
            _show_picture(layout.panel(row, 0), examples.crops[row])
            for group, scan in enumerate(shown):
                panels = [layout.panel(row, 1 + 3 * group + column) for column in range(3)]
                _show_picture(panels[0], examples.crops[row])
                _draw_path(panels[0], examples.positions[scan][row], comparison.summary(scan, judge).contiguous)
                _show_picture(panels[1], examples.completions[scan, judge][row])
                _show_error(panels[2], errors[scan][row], largest_error)
        _label(layout, shown)
        _add_scales(layout, largest_error)
    return layout.figure


class _Layout:
    """Square panels of one size at exact places; automatic layouts would make columns of unequal width."""

    def __init__(self, n_rows: int, n_groups: int) -> None:
        self.n_rows = n_rows
        self.n_groups = n_groups
        n_columns = 1 + 3 * n_groups
        spare = 2 * _MARGIN + (n_columns - 1 - n_groups) * _GAP + n_groups * _GROUP_GAP
        self.side = min((WIDTH - spare) / n_columns, _LARGEST_PANEL)
        self.width = spare + n_columns * self.side
        self.height = _HEAD + n_rows * self.side + (n_rows - 1) * _GAP + _FOOT
        self.figure = new_figure(self.height, width=self.width)

    def left(self, column: int) -> float:
        """Left edge of a column [inch]."""
        n_group_gaps = (column + 2) // 3
        return _MARGIN + column * self.side + (column - n_group_gaps) * _GAP + n_group_gaps * _GROUP_GAP

    def panel(self, row: int, column: int) -> Axes:
        bottom = self.height - _HEAD - (row + 1) * self.side - row * _GAP
        return self.axes(self.left(column), bottom, self.side, self.side)

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Axes at a place given in inches."""
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def text(self, left: float, bottom: float, text: str, **settings: Any) -> None:
        self.figure.text(left / self.width, bottom / self.height, text, **settings)


def _default_scans(comparison: Comparison) -> list[str]:
    contiguous = {summary.scan: summary.contiguous for summary in comparison.summaries}
    reference = comparison.reference
    others = [scan for scan in comparison.scans if scan != reference]
    policies = [scan for scan in others if scan in comparison.policies]
    first = (policies or [scan for scan in others if contiguous[scan]])[:1]
    grid = [scan for scan in others if scan == "grid"]
    return [*first, reference, *grid]


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])


def _show_picture(axes: Axes, picture: np.ndarray) -> None:
    intensity = np.clip((picture + 1.0) / 2.0, 0.0, 1.0)
    axes.imshow(intensity, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    _bare(axes)


def _show_error(axes: Axes, error: np.ndarray, largest: float) -> None:
    axes.imshow(error, cmap=ERROR_COLOURS, vmin=0.0, vmax=largest, interpolation="nearest")
    _bare(axes)
    axes.text(
        0.97,
        0.04,
        f"{100.0 * np.sqrt(np.mean(error**2)):.1f}%",
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=6,
        color="white",
        bbox={"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "pad": 0.8},
    )


def _draw_path(axes: Axes, positions: np.ndarray, contiguous: bool) -> None:
    """Draw positions, coloured by their order, and the line through them where the probe moved along one."""
    side = axes.get_xlim()[1] + 0.5
    points, time = path_points(positions, side)
    if contiguous:
        draw_line(axes, points, time, casing=1.6)
    else:
        axes.scatter(points[:, 0], points[:, 1], c=time, cmap=TIME_COLOURS, s=1.2, linewidths=0)
    frame_pixels(axes, side)


def _label(layout: _Layout, scans: Sequence[str]) -> None:
    names = ["crop", *(["path", "completion", "error, RMSE"] * layout.n_groups)]
    for column, name in enumerate(names):
        centre = layout.left(column) + layout.side / 2
        layout.text(centre, layout.height - _HEAD + 0.04, name, ha="center", va="bottom")
    for group, scan in enumerate(scans):
        left, right = layout.left(1 + 3 * group), layout.left(3 + 3 * group) + layout.side
        top = layout.height - _HEAD + 0.17
        text = scan.replace("_", " ")
        layout.text((left + right) / 2, top, text, ha="center", va="bottom", fontsize=8, fontweight="bold")


def _add_scales(layout: _Layout, largest_error: float) -> None:
    """Colour bars for time, intensity and error, side by side below the panels."""
    bars = [
        ("intensity", "gray", 1.0, "neither"),
        ("time (fraction of scan)", TIME_COLOURS, 1.0, "neither"),
        ("absolute error", ERROR_COLOURS, largest_error, "max"),
    ]
    width = 1.5
    space = (layout.width - 2 * _MARGIN - len(bars) * width) / len(bars)
    for index, (name, colours, largest, extend) in enumerate(bars):
        left = _MARGIN + space / 2 + index * (width + space)
        axes = layout.axes(left, _FOOT - 0.15, width, 0.07)
        bar = layout.figure.colorbar(
            ScalarMappable(Normalize(0.0, largest), colours), cax=axes, orientation="horizontal", extend=extend
        )
        bar.set_ticks([0.0, largest / 2.0, largest])
        bar.set_label(name, labelpad=1.0)
        bar.outline.set_linewidth(0.5)
