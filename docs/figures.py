"""Make the pictures of the documentation that depend on nothing but the code: ``python docs/figures.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image
from scipy.ndimage import map_coordinates

from adaptive_scan.acquisition import (
    INSTRUMENTS,
    CoilLag,
    DetectorLag,
    Dropouts,
    DurationNoise,
    Exposure,
    Instrument,
    Photomultiplier,
    PoissonCounting,
    Quantisation,
    ReadoutLag,
    Saturation,
    ScanJitter,
    SpecimenDrift,
    Zingers,
)
from adaptive_scan.acquisition.detector import FaultyReadings
from adaptive_scan.files import replacing
from adaptive_scan.scans import PRESETS, STATIC_SCANS, filling_path, polygonal_spiral, static_scan
from adaptive_scan.specimens import FAMILIES, SPECIMEN_FAMILIES, make_specimen, procedural_crops

IMAGES = Path(__file__).resolve().parent / "images"
GEOMETRY = PRESETS["ede96"]
N_COLUMNS = 5
N_EXAMPLES = 6
N_COLOURS = 96  # enough for these pictures, and half of the bytes
SEED = 4
SPECIMEN, SPECIMEN_SEED = "lattice", 3


def static_scans_figure() -> Figure:
    """All static scans at the dose of ``ede96``, coloured by the order in which positions are measured."""
    size, n_positions = GEOMETRY.image_size, GEOMETRY.n_positions_total
    paths = {name: static_scan(name, n_positions, size, np.random.default_rng(SEED)) for name in STATIC_SCANS}
    paths["polygonal_spiral"] = GEOMETRY.path(polygonal_spiral(GEOMETRY)[None]).reshape(n_positions, 2)
    headings, spacings = filling_path(PRESETS["wide96"])
    paths["filling_path of wide96"] = PRESETS["wide96"].path(headings[None], spacings[None]).reshape(n_positions, 2)
    figure, panels = _panels(-(-len(paths) // N_COLUMNS), N_COLUMNS, side=1.5, head=0.2)
    for axes in panels.flat[len(paths) :]:
        axes.set_axis_off()
    for axes, (name, positions) in zip(panels.flat, paths.items(), strict=False):
        axes.scatter(positions[:, 1], positions[:, 0], c=np.arange(n_positions), s=2.0, cmap="plasma", linewidths=0)
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal", facecolor="0.93")
        axes.set_title(name.replace("_", " "), fontsize=8, pad=3)
    return figure


def specimens_figure() -> Figure:
    """Procedural crops of every family, one family to a row."""
    figure, panels = _panels(len(FAMILIES), N_EXAMPLES, side=1.0, head=0.0)
    for number, (row, name) in enumerate(zip(panels, FAMILIES, strict=True)):
        rng = np.random.default_rng([SEED, number])
        crops, _ = procedural_crops(N_EXAMPLES, GEOMETRY.image_size, rng, families=name)
        for axes, crop in zip(row, crops, strict=True):
            axes.imshow(crop, cmap="gray", vmin=-1.0, vmax=1.0, interpolation="nearest")
        row[0].set_ylabel(name.replace("_", " "), fontsize=7)
    return figure


def gallery_figure() -> Figure:
    """Three specimens of each family that carries its truth."""
    n_across, n_each, side = 3, 3, 128
    n_rows = -(-len(SPECIMEN_FAMILIES) // n_across)
    figure, panels = _panels(n_rows, n_across * n_each, side=0.8, head=0.17)
    for axes in panels.flat:
        axes.set_axis_off()
    for number, name in enumerate(SPECIMEN_FAMILIES):
        row, first = number // n_across, number % n_across * n_each
        for draw, axes in enumerate(panels[row, first : first + n_each]):
            picture = make_specimen(name, side, np.random.default_rng([SEED, number, draw])).picture
            axes.imshow(picture, cmap="gray", interpolation="nearest")
        panels[row, first].set_title(name.replace("_", " "), fontsize=7, pad=2, loc="left")
    return figure


def instruments_figure() -> Figure:
    """Each fault of an instrument on one specimen, scanned line by line; then presets, and a path of sharp turns."""
    dwell, size = 1e-6, GEOMETRY.image_size
    specimen = procedural_crops(1, size, np.random.default_rng(SPECIMEN_SEED), families=SPECIMEN)[0][0]
    dim = Exposure.per_position(12.0, dwell, dark=0.05)
    faults = {
        "specimen": Instrument(),
        "coil lag": Instrument((CoilLag(2.5e-6, damping=0.5),)),
        "scan jitter": Instrument((ScanJitter(0.8, 8e-6),)),
        "drift": Instrument((SpecimenDrift(speed=2000.0, diffusion=60.0, heading=1.2),)),
        "counting, 12 electrons": Instrument((PoissonCounting(),), dim),
        "photomultiplier": Instrument((Photomultiplier(efficiency=0.05, electronic=0.5),), dim),
        "detector lag": Instrument((DetectorLag(8e-6, n_remembered=32),)),
        "read-out lag": Instrument((ReadoutLag(4e-6, period=15e-6, phase=0.7),)),
        "dropouts": Instrument((Dropouts(0.004, length=12.0, factors=(0.2, 1.8)),)),
        "dead and hot": Instrument((FaultyReadings(dead=0.02, hot=0.005, level=1.2),)),
        "zingers": Instrument((Zingers(0.004, brightness=2.0),)),
        "saturation": Instrument((Saturation(0.55),)),
        "quantisation, 2 bits": Instrument((Quantisation.of_bits(2, highest=1.0),)),
        "duration noise": Instrument((DurationNoise(2.5e-6),)),
        **{name: INSTRUMENTS[name] for name in ("probe-corrected-200kv", "fast-scan", "low-dose")},
    }
    figure, panels = _panels(3, 6, side=1.42, head=0.2)
    for axes, (name, instrument) in zip(panels.flat, faults.items(), strict=False):
        axes.imshow(_raster(specimen, instrument), cmap="gray", vmin=-1.0, vmax=1.0, interpolation="nearest")
        axes.set_title(name, fontsize=7, pad=3)
    _draw_turns(panels.flat[len(faults)], specimen)
    return figure


def _raster(specimen: np.ndarray, instrument: Instrument) -> np.ndarray:
    """What an instrument makes of a picture measured pixel by pixel, line by line."""

    def read(positions: np.ndarray) -> np.ndarray:
        return map_coordinates(specimen, positions[0].T, order=1, mode="nearest")[None]

    lines = np.indices(specimen.shape, dtype=np.float32).reshape(2, -1).T[None]
    state = instrument.begin(1, np.random.default_rng(SEED))
    return instrument.measure(lines, read, state).values.reshape(specimen.shape)


def _draw_turns(axes: Axes, specimen: np.ndarray) -> None:
    """The nominal path of a polygonal spiral, and where slow coils and jitter take the probe."""
    path = GEOMETRY.path(polygonal_spiral(GEOMETRY)[None]).reshape(1, -1, 2)
    slow = Instrument((CoilLag(5e-6, damping=0.5), ScanJitter(0.25, 3e-6)))
    true = slow.displace(path, slow.begin(1, np.random.default_rng(SEED)))
    axes.imshow(specimen, cmap="gray", vmin=-1.0, vmax=1.0, alpha=0.3)
    axes.plot(path[0, :, 1], path[0, :, 0], color="0.1", linewidth=0.6)
    axes.plot(true[0, :, 1], true[0, :, 0], color="#e00020", linewidth=1.6, alpha=0.85)
    axes.set(xlim=(17.5, 79.5), ylim=(79.5, 17.5))
    axes.set_title("sent (thin), true (thick)", fontsize=7, pad=3)


def time_alignment_figure() -> Figure:
    """Which index of observations, actions, rewards, memory and values belongs to which, and three items of a batch."""
    width, height = 8.4, 9.15
    figure = Figure(figsize=(width, height), dpi=125)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0.0, width), ylim=(height, 0.0))  # inches, from the upper left corner
    axes.set_axis_off()
    _draw_episode(axes)
    _draw_batch(axes, top=7.1)
    return figure


# The colours of Okabe and Ito, pale for the cells: fill, edge.
STORED, PASS, REPLAYED, LIVE, TARGET = (
    ("#dff0fb", "#0072b2"),
    ("#d9f1e8", "#009e73"),
    ("#dff0fb", "#0072b2"),
    ("#fdebc8", "#d55e00"),
    ("#f6e3ed", "#aa4f86"),
)
N_ACTIONS = 4
# Heights of the rows [in], and what stands at their left.
ROWS = {
    "mask": (1.0, "mask"),
    "reward": (1.42, "reward"),
    "action": (1.84, "action"),
    "observation": (2.26, "observation"),
    "reads": (3.02, "memory reads"),
    "memory": (3.62, "its output"),
    "replayed": (4.28, "value of the\nreplayed action"),
    "live": (4.72, "value of the\nlive action"),
    "next": (5.5, "value by the\ntarget networks"),
    "target": (6.12, "target"),
}


def _column(t: int) -> float:
    """Middle of the column of index t [in]."""
    return 2.45 + 1.29 * t


def _draw_episode(axes: Axes) -> None:
    """All rows of one episode of ``N_ACTIONS`` actions, cell by cell."""
    last = N_ACTIONS
    axes.text(0.15, 0.27, f"An episode of T = {last} actions", fontsize=13, weight="bold", va="center")
    for name, (top, bottom, (_, colour)) in {
        "replay": ("mask", "observation", STORED),
        "one pass": ("reads", "live", PASS),
        "targets": ("next", "target", TARGET),
    }.items():
        ends = ROWS[top][0] - 0.17, ROWS[bottom][0] + 0.17
        axes.plot((0.38, 0.38), ends, color=colour, linewidth=3, solid_capstyle="butt")
        axes.text(0.2, sum(ends) / 2, name, rotation=90, fontsize=11, color=colour, ha="center", va="center")
    for height, label in ROWS.values():
        axes.text(1.62, height, label, fontsize=10.5, ha="right", va="center", linespacing=1.05)
    for t in range(last + 1):
        x = _column(t)
        axes.text(x, 0.66, f"$t = {t}$" if t < last else f"$t = T = {t}$", fontsize=11, ha="center", va="center")
        _cell(axes, x, "observation", f"$o_{t}$", STORED)
        _cell(axes, x, "memory", f"$h_{t}$", PASS, rounded=True)
        _cell(axes, x - 0.265, "reads", f"$a_{t - 1}$" if t else "0", PASS, width=0.53)
        _cell(axes, x + 0.265, "reads", f"$o_{t}$", PASS, width=0.53)
        if t < last:
            _cell(axes, x, "mask", "1", STORED)
            _cell(axes, x, "reward", f"$r_{t}$", STORED)
            _cell(axes, x, "action", f"$a_{t}$", STORED)
            _cell(axes, x, "replayed", f"$Q(h_{t}, a_{t})$", REPLAYED)
            _cell(axes, x, "live", rf"$Q(h_{t}, \pi(h_{t}))$", LIVE)
            end = rf"$r_{t} + \gamma\, v_{t + 1}$" if t < last - 1 else rf"$r_{t}\;(+\,\gamma\, v_{t + 1})$"
            _cell(axes, x, "target", end, TARGET)
        if t:
            _cell(axes, x, "next", f"$v_{t}$", TARGET)
    _draw_arrows(axes)


def _draw_arrows(axes: Axes) -> None:
    """What goes from one cell of the episode to another."""
    y = {name: height for name, (height, _) in ROWS.items()}
    half = 0.17
    for t in range(N_ACTIONS + 1):
        x = _column(t)
        _arrow(axes, [(x + 0.265, y["observation"] + half), (x + 0.265, y["reads"] - half)], STORED[1])
        _arrow(axes, [(x, y["reads"] + half), (x, y["memory"] - half)], PASS[1])
        before = x - 1.29 + 0.53 if t else x - 0.75
        _arrow(axes, [(before, y["memory"]), (x - 0.53, y["memory"])], PASS[1])
        if t == N_ACTIONS:
            break
        _arrow(axes, [(x, y["memory"] + half), (x, y["replayed"] - half)], PASS[1])
        gap, following = x + 0.645, _column(t + 1)
        turn = (y["observation"] + y["reads"]) / 2
        path = [(x + 0.53, y["action"]), (gap, y["action"]), (gap, turn), (following - 0.265, turn)]
        _arrow(axes, [*path, (following - 0.265, y["reads"] - half)], REPLAYED[1])
        style = "-" if t < N_ACTIONS - 1 else (0, (3, 2))
        path = [(following - 0.53, y["next"]), (gap, y["next"]), (gap, y["target"]), (x + 0.53, y["target"])]
        _arrow(axes, path, TARGET[1], style)
    note = {"fontsize": 9.5, "color": "0.25", "va": "center"}
    axes.text(_column(N_ACTIONS), y["target"], "only if a time\nlimit ended it", ha="center", **note)
    axes.text(1.85, 5.06, r"$h_t$ knows $o_0 \ldots o_t$ and $a_0 \ldots a_{t-1}$, but not $a_t$", **note)
    axes.text(1.85, 6.54, r"$v_t = Q'(h_t', \pi'(h_t'))$, from memories of their own over the same inputs", **note)


def _draw_batch(axes: Axes, *, top: float) -> None:
    """An episode that ended by itself, a shorter one that a time limit cut, and a slice with its burn-in."""
    axes.text(0.15, top, "Three items of a batch", fontsize=13, weight="bold", va="center")
    first, pitch, n_steps, n_burn_in, cut = 4.35, 0.41, 6, 3, 4
    heights = [top + 0.42, top + 0.87, top + 1.32]
    labels = ("ended by itself", "cut by a time limit", "slice of L = 6 steps,\nburn-in of B = 3")
    for height, label in zip(heights, labels, strict=True):
        axes.text(1.82, height, label, fontsize=10.5, ha="right", va="center", linespacing=1.05)
    for step in range(-n_burn_in - 2, n_steps + 2):
        x = first + step * pitch
        if 0 <= step < n_steps:
            _square(axes, x, heights[0], "step")
            _square(axes, x, heights[1], "step" if step < cut else "padding")
        kind = "step" if 0 <= step < n_steps else "burn-in" if -n_burn_in <= step < 0 else "unseen"
        _square(axes, x, heights[2], kind)
    for height, end, bootstrapped in zip(heights, (n_steps, cut, n_steps), (False, True, True), strict=True):
        _end(axes, first + end * pitch, height, bootstrapped=bootstrapped)
    note = {"fontsize": 9.5, "va": "center"}
    keys = {"step": (0.72, "in the losses"), "padding": (2.1, "padding, mask 0"), "burn-in": (3.72, "memory only")}
    bottom = top + 1.8
    for kind, (x, text) in keys.items():
        _square(axes, x, bottom, kind, side=0.24)
        axes.text(x + 0.2, bottom, text, **note)
    for x, bootstrapped, text in ((5.12, True, "bootstrapped"), (6.47, False, "not bootstrapped")):
        _end(axes, x, bottom, bootstrapped=bootstrapped)
        axes.text(x + 0.18, bottom, text, **note)


def _cell(
    axes: Axes,
    x: float,
    row: str,
    text: str,
    colours: tuple[str, str],
    *,
    width: float = 1.06,
    rounded: bool = False,
) -> None:
    """A labelled box in the middle of ``x`` [in]."""
    style = "round,pad=0,rounding_size=0.17" if rounded else "square,pad=0"
    corner = (x - width / 2, ROWS[row][0] - 0.17)
    fill, edge = colours
    axes.add_patch(FancyBboxPatch(corner, width, 0.34, boxstyle=style, facecolor=fill, edgecolor=edge, linewidth=1.2))
    axes.text(x, ROWS[row][0], text, fontsize=11.5, ha="center", va="center")


def _arrow(axes: Axes, path: list[tuple[float, float]], colour: str, style: Any = "-") -> None:
    """A line through some points [in], with a head at the last one."""
    *_, before, end = path
    axes.plot(*zip(*path, strict=True), color=colour, linewidth=1.4, linestyle=style, solid_joinstyle="miter")
    head = {"arrowstyle": "-|>,head_length=0.45,head_width=0.2", "color": colour, "shrinkA": 0, "shrinkB": 0}
    near = tuple(np.add(end, 0.02 * np.sign(np.subtract(before, end))))
    axes.annotate("", end, near, arrowprops=head)


def _square(axes: Axes, x: float, y: float, kind: str, *, side: float = 0.34) -> None:
    """One step of an item of a batch, in the middle of (x, y) [in]."""
    looks: dict[str, dict[str, Any]] = {
        "step": {"facecolor": "#8cc5ea", "edgecolor": "#0072b2"},
        "padding": {"facecolor": "white", "edgecolor": "0.35", "linestyle": (0, (2, 1.5))},
        "burn-in": {"facecolor": "#d9f1e8", "edgecolor": "#009e73", "hatch": "////"},
        "unseen": {"facecolor": "white", "edgecolor": "0.8"},
    }
    axes.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, linewidth=1.1, **looks[kind]))


def _end(axes: Axes, x: float, y: float, *, bootstrapped: bool) -> None:
    """The observation behind the last step of an item: a disc where its value counts, otherwise a cross."""
    marker, colour = ("o", "#aa4f86") if bootstrapped else ("X", "0.2")
    axes.plot([x], [y], marker=marker, markersize=9, color=colour, markeredgewidth=0)


def _panels(n_rows: int, n_columns: int, *, side: float, head: float) -> tuple[Figure, np.ndarray]:
    """A figure with square panels of ``side`` inches, ``head`` inches for the title of each, and no ticks."""
    gap, margin = 0.06, 0.18
    width = 2 * margin + n_columns * side + (n_columns - 1) * gap
    height = 2 * margin + n_rows * (side + head) + (n_rows - 1) * gap
    figure = Figure(figsize=(width, height), dpi=125)
    panels = np.empty((n_rows, n_columns), dtype=object)
    for row, column in np.ndindex(n_rows, n_columns):
        left = margin + column * (side + gap)
        bottom = height - margin - (row + 1) * (side + head) - row * gap
        axes: Axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
        axes.set_xticks([])
        axes.set_yticks([])
        panels[row, column] = axes
    return figure, panels


def _save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG of few colours, in one step."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    with replacing(path) as temporary:
        picture.quantize(N_COLOURS, dither=Image.Dither.NONE).save(temporary, optimize=True)


def main(folder: Path = IMAGES) -> list[Path]:
    """Write the pictures into ``folder``; returns where they are."""
    figures = {
        "static_scans.png": static_scans_figure(),
        "specimens.png": specimens_figure(),
        "specimen_gallery.png": gallery_figure(),
        "instruments.png": instruments_figure(),
        "time_alignment.png": time_alignment_figure(),
    }
    for name, figure in figures.items():
        _save(figure, folder / name)
    return [folder / name for name in figures]


if __name__ == "__main__":
    for path in main():
        print(path)
