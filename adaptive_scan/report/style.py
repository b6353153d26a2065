"""How figures look, and how they are made and saved: one colour, marker and dash for each scan, and labels.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; every scan has a marker and its role a dash
as well, so that a print in black and white says the same. Text is set for a page 900 px wide.

Figures are plain `matplotlib.figure.Figure` objects with an Agg canvas. pyplot and its global state are not touched, so
they can be made in any thread and on a machine without a display.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from scipy.optimize import isotonic_regression

from adaptive_scan.evaluation.results import distinct
from adaptive_scan.files import replacing

STYLE: Any = {
    "font.size": 7.5,
    "axes.linewidth": 0.5,
    "axes.labelcolor": "0.1",
    "text.color": "0.1",
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.0,
    "ytick.major.size": 2.0,
    "figure.dpi": 200,
    "savefig.dpi": 200,
    # Names of the parts of a vector figure are made from their content and this, not drawn at random.
    "svg.hashsalt": "adaptive_scan",
}
"""Settings of Matplotlib for every figure of a report."""

PRINT_STYLE: Any = {
    "font.size": 7.0,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.0,
    "ytick.major.size": 2.0,
    "figure.dpi": 300,
    "savefig.dpi": 300,
}
"""Settings of Matplotlib for a figure in print."""

SCREEN_STYLE: Any = {"font.size": 7.0, "axes.linewidth": 0.5, "xtick.major.size": 2.0, "ytick.major.size": 2.0}
"""Settings of Matplotlib for a figure that a command leaves to look at; it says its dots per inch itself."""

WIDTH = 7.08
"""Width of a figure [inch]: two columns of print."""

GREY = "0.4"
"""Colour of what is no contender."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of Okabe and Ito: blue, vermilion, green, purple, orange, sky blue."""

BLACK = "#000000"
"""The colour that goes with them."""

CURVE_DASHES: tuple[Any, ...] = ("-", (0, (4, 1)), (0, (4, 1, 1, 1)), (0, (2, 1)))
"""Dashes that tell curves apart where print has no colours."""

ERROR_COLOURS = "cividis"
VISIT_COLOURS = "magma"
TIME_COLOURS = "plasma"
"""Names of the colour maps of errors, of visits, and of time along a path."""

_SCAN_COLOURS = (*COLOURS[:4], BLACK, *COLOURS[4:])
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_DASHES: dict[str, Any] = {
    "adaptive": "-",
    "static": (0, (4, 1.2)),
    "oracle": (0, (1, 1)),
    "control": (0, (4, 1, 1, 1)),
    "dense": (0, (8, 2)),
}
_TAGS = {"oracle": "oracle, no contender", "control": "control, no contender", "dense": "every pixel, no contender"}


@dataclass(frozen=True)
class ScanStyle:
    """How one scan is drawn and named.

    Attributes:
        name: Its name in the benchmark.
        role: One of `adaptive_scan.evaluation.results.ROLES`.
        contiguous: Whether the probe moves along one line.
        colour: Of lines and markers.
        marker: Of points; no two of the first 56 scans have both in common.
    """

    name: str
    role: str
    contiguous: bool
    colour: str
    marker: str

    @property
    def is_contender(self) -> bool:
        """Whether a microscope could use it and the comparison is about it."""
        return self.role in ("static", "adaptive")

    @property
    def tag(self) -> str:
        """What a reader must know of it beside its name; empty for a contiguous static or adaptive scan."""
        return _TAGS.get(self.role, "" if self.contiguous else "not contiguous")

    @property
    def kind(self) -> str:
        """What it is, in words for a table."""
        return self.tag if self.role in _TAGS else ", ".join(part for part in (self.role, self.tag) if part)

    @property
    def dashes(self) -> Any:
        """Dashes of its lines: solid where it adapts, else by role."""
        return _DASHES.get(self.role, "-")

    @property
    def drawn(self) -> dict[str, Any]:
        """Keywords of `Axes.plot`; markers of what is no contender are hollow."""
        face = self.colour if self.is_contender else "white"
        return {"color": self.colour, "linestyle": self.dashes, "marker": self.marker, "markerfacecolor": face}


def scan_styles(rows: pa.Table) -> dict[str, ScanStyle]:
    """Styles of the scans of a benchmark by name, in the order of its rows.

    Args:
        rows: Table with the columns of `adaptive_scan.evaluation.results.SCHEMA`.

    Example:
        >>> rows = pa.table({"scan": ["spiral", "grid"], "role": ["static"] * 2, "contiguous": [True, False]})
        >>> [style.tag for style in scan_styles(rows).values()]
        ['', 'not contiguous']
    """
    styles: dict[str, ScanStyle] = {}
    for scan, role, contiguous in distinct(rows, ("scan", "role", "contiguous")):
        index = len(styles)
        colour, marker = _SCAN_COLOURS[index % len(_SCAN_COLOURS)], _MARKERS[index % len(_MARKERS)]
        styles.setdefault(scan, ScanStyle(scan, role, contiguous, colour, marker))
    return styles


def completer_styles(completers: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each completer, as keywords of `Axes.plot`.

    Example:
        >>> completer_styles(["shared", "own"])["own"]
        {'color': '#D55E00', 'marker': 's'}
    """
    return {
        name: {"color": _SCAN_COLOURS[index % len(_SCAN_COLOURS)], "marker": _MARKERS[index % len(_MARKERS)]}
        for index, name in enumerate(completers)
    }


def wrapped(text: str, width: int, *, most: int = 2) -> str:
    """A name on lines of at most ``width`` characters, at most ``most`` of them; what is left over becomes an ellipsis.

    Lines break at blanks and behind underscores; the name itself stays as it is.

    Example:
        >>> wrapped("variance_greedy slow", 12).splitlines()
        ['variance_', 'greedy slow']
    """
    fits = len(text) <= width and text.isprintable()
    # A blank behind each underscore is a place to break, and taken out again.
    lines = [text] if fits else [line.replace("_ ", "_") for line in textwrap.wrap(text.replace("_", "_ "), width)]
    lines = lines or [""]
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1][: width - 1].rstrip() + "…"]
    # A dollar would start mathematics.
    return "\n".join(lines).replace("$", r"\$")


def new_figure(height: float, *, width: float = WIDTH, **settings: Any) -> Figure:
    """An empty figure [inch] that belongs to no window."""
    figure = Figure(figsize=(width, height), **settings)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure in one step, in the format that the suffix of ``path`` names; bytes depend on the figure alone.

    Args:
        figure: The figure.
        path: Where to.

    Raises:
        ValueError: If the suffix names no format that Matplotlib can write.
        OSError: If the file cannot be written.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None} if Path(path).suffix == ".png" else None)


def end_of_errors(errors: np.ndarray) -> float:
    """Upper end of a scale of errors: the 99.5th percentile, up to the next 0.05, so that it is a round figure.

    Args:
        errors: All errors shown, not negative, any shape.

    Example:
        >>> end_of_errors(np.linspace(0.0, 0.12, 100))
        0.15
    """
    highest = float(np.percentile(errors, 99.5)) if errors.size else 0.0
    return round(max(math.ceil(highest / 0.05 - 1e-6), 1) * 0.05, 2)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Places of labels, as near to those wanted as a smallest gap between them and the ends allow.

    The sum of squared shifts is least; with more labels than fit, they stand evenly between the ends.

    Example:
        >>> spread([0.5, 0.5, 0.0], 0.2, 0.0, 1.0).tolist()
        [0.4, 0.6, 0.0]
    """
    wanted = np.asarray(places, np.float64)
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    # With the gaps taken out, the order has only to stay: a regression on increasing functions, cut at the ends.
    level = isotonic_regression(wanted[order] - steps).x
    found = np.empty_like(wanted)
    found[order] = np.clip(level, low, high - gap * (len(wanted) - 1)) + steps
    return found


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, ScanStyle]], *, size: float = 7.0) -> None:
    """Write the name of each line beside its right end, outside the axes, with a thin line to it where it had to move.

    Args:
        axes: With its limits set.
        ends: Last point of each line, in data units, and its style.
        size: Of the text [pt].
    """
    box = axes.get_window_extent()
    shown = [axes.transAxes.inverted().transform(axes.transData.transform((x, y))) for x, y, _ in ends]
    figure = axes.get_figure(root=True)
    dots = 72.0 if figure is None else figure.dpi
    gap = 1.15 * size * dots / 72.0 / box.height
    heights = spread([float(place[1]) for place in shown], gap, 0.0, 1.0)
    for (left, bottom), height, (_, _, style) in zip(shown, heights, ends, strict=True):
        axes.plot(
            [left, 1.03, 1.05], [bottom, height, height], transform=axes.transAxes, color=style.colour, linewidth=0.4,
            clip_on=False,
        )  # fmt: skip
        axes.plot([1.075], [height], transform=axes.transAxes, markersize=3.2, clip_on=False, **style.drawn)
        ink = "0.1" if style.is_contender else GREY
        text = wrapped(style.name, 28, most=1)
        axes.text(1.105, height, text, transform=axes.transAxes, va="center", fontsize=size, color=ink)


def log_ticks(axis: Any, low: float, high: float, *, most: int = 7) -> None:
    """Round ticks of a logarithmic axis between two positive ends: the finest steps of which not too many fit.

    Decades alone, as Matplotlib places them, would leave most of these axes with one tick or none. Below a factor of
    two between the ends the ticks are evenly spaced numbers; no two are nearer to each other, in logarithms, than half
    of what the axis has for each of them.
    """
    ticks: list[float] = []
    for places in _even_places(low, high, most) if high < 2.0 * low else _decade_places(low, high):
        ticks = [round(float(place), 12) for place in places if low * (1 - 1e-9) <= place <= high * (1 + 1e-9)]
        smallest = 0.5 * np.log(high / low) / most
        if len(ticks) <= most and np.all(np.diff(np.log(ticks)) >= smallest):
            break
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def _even_places(low: float, high: float, most: int) -> Iterator[Iterable[float]]:
    """Evenly spaced numbers, the finest steps first."""
    for n_steps in range(most, 0, -1):
        yield MaxNLocator(n_steps, steps=[1, 2, 5, 10]).tick_values(low, high)


def _decade_places(low: float, high: float) -> Iterator[Iterable[float]]:
    """The same steps in each decade, the finest first."""
    decades = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
    for mantissas in _MANTISSAS:
        yield [mantissa * 10.0**power for power in decades for mantissa in mantissas]


_MANTISSAS: tuple[tuple[float, ...], ...] = (
    *(tuple(np.arange(100, 1000, step) / 100.0) for step in (1, 2, 5, 10, 20)),
    (*(np.arange(10, 20, 2) / 10.0), *(np.arange(20, 100, 5) / 10.0)),
    (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 2.0, 5.0),
    (1.0, 3.0),
    (1.0,),
)


def scan_legend(figure: Figure, styles: Iterable[ScanStyle], bottom: float, n_columns: int) -> None:
    """A legend of scans below the panels, for figures with too many lines for names beside them."""
    handles = [
        Line2D([], [], linewidth=1.1, markersize=3.4, label=wrapped(style.name, 28, most=1), **style.drawn)
        for style in styles
    ]
    figure.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, bottom), ncols=n_columns, frameon=False,
        fontsize=7.0, handlelength=3.4, columnspacing=1.4, labelspacing=0.45, borderpad=0.0, borderaxespad=0.0,
    )  # fmt: skip


def choice(names: Sequence[str], wanted: str = "shared") -> str:
    """The completer that figures of one completer show: the shared one, or else the first."""
    return wanted if wanted in names else names[0]
