"""Make the pictures of the documentation that depend on nothing but the code: ``python docs/figures.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from adaptive_scan.files import replacing
from adaptive_scan.scans import PRESETS, STATIC_SCANS, filling_path, polygonal_spiral, static_scan
from adaptive_scan.specimens import FAMILIES, procedural_crops

IMAGES = Path(__file__).resolve().parent / "images"
GEOMETRY = PRESETS["ede96"]
N_COLUMNS = 5
N_EXAMPLES = 6
N_COLOURS = 96  # enough for these pictures, and half of the bytes
SEED = 4


def static_scans_figure() -> Figure:
    """All static scans at the dose of ``ede96``, coloured by the order in which positions are measured."""
    size, dose = GEOMETRY.image_size, GEOMETRY.dose
    paths = {name: static_scan(name, dose, size, np.random.default_rng(SEED)) for name in STATIC_SCANS}
    paths["polygonal_spiral"] = GEOMETRY.path(polygonal_spiral(GEOMETRY)[None]).reshape(dose, 2)
    headings, spacings = filling_path(PRESETS["wide96"])
    paths["filling_path of wide96"] = PRESETS["wide96"].path(headings[None], spacings[None]).reshape(dose, 2)
    figure, panels = _panels(-(-len(paths) // N_COLUMNS), N_COLUMNS, side=1.5, head=0.2)
    for axes in panels.flat[len(paths) :]:
        axes.set_axis_off()
    for axes, (name, positions) in zip(panels.flat, paths.items(), strict=False):
        axes.scatter(positions[:, 1], positions[:, 0], c=np.arange(dose), s=2.0, cmap="plasma", linewidths=0)
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
    figures = {"static_scans.png": static_scans_figure(), "specimens.png": specimens_figure()}
    for name, figure in figures.items():
        _save(figure, folder / name)
    return [folder / name for name in figures]


if __name__ == "__main__":
    for path in main():
        print(path)
