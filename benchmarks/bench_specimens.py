"""Procedural crops per second on one core, against plain numpy that draws one crop at a time.

The alternative draws the same specimens with the compiled kernels replaced by numpy: whole arrays where a loop can be
avoided, one slice per column and per particle where it cannot.

With ``--truth`` the families that carry their truth are measured instead: pictures per second of processor time, and
the most memory that one picture takes while it is made, against its own. They have no plainer alternative.

Run: python benchmarks/bench_specimens.py [--n-crops 300] [--sizes 48 96 512] [--truth]
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from contextlib import ExitStack
from unittest import mock

import numpy as np
from scipy.interpolate import BSpline

from adaptive_scan.specimens import (
    ATOMIC_FAMILIES,
    FAMILIES,
    SPECIMEN_FAMILIES,
    films,
    grains,
    lattices,
    make_specimen,
    particles,
    procedural_crops,
)
from adaptive_scan.specimens.lattices import Crystals
from adaptive_scan.specimens.particles import Particles
from common import machine, markdown_table, median_seconds

BUDGET = 500
BUDGET_SIZE = 96
TRUTH_BUDGETS = {96: 200, 512: 20}
MEMORY_BUDGET, MEMORY_SIZE = 10.0, 512


def fill_fields(fields: np.ndarray, scales: np.ndarray, gain: float, rng: np.random.Generator) -> None:
    size = fields.shape[1]
    spline = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    for field, scale in zip(fields, scales, strict=True):
        nodes = np.arange(int(size / scale) + 6)
        places = 1.0 + rng.random((2, 1)) + np.arange(size) / scale
        down, across = np.nan_to_num(spline(places[:, :, None] - nodes))
        field[:] = gain * down @ rng.standard_normal((len(nodes), len(nodes))) @ across.T


def fill_voronoi(
    seeds: np.ndarray, counts: np.ndarray, warps: np.ndarray, labels: np.ndarray, gaps: np.ndarray
) -> None:
    grid = np.mgrid[: labels.shape[1], : labels.shape[2]]
    for crop, count in enumerate(counts):
        rows, columns = grid + warps[crop]
        squares = (seeds[crop, :count, 0, None, None] - rows) ** 2 + (seeds[crop, :count, 1, None, None] - columns) ** 2
        labels[crop] = squares.argmin(axis=0)
        nearest = np.sqrt(np.partition(squares, 1, axis=0)[:2]) if count > 1 else np.zeros((2, *labels.shape[1:]))
        gaps[crop] = nearest[1] - nearest[0] if count > 1 else np.inf


def paint(
    labels: np.ndarray, gaps: np.ndarray, greys: np.ndarray, fringes: np.ndarray, grooves: np.ndarray, out: np.ndarray
) -> None:
    rows, columns = np.mgrid[: labels.shape[1], : labels.shape[2]]
    for crop, label in enumerate(labels):
        q_row, q_column, phase, amplitude = np.moveaxis(fringes[crop][label], -1, 0)
        out[crop] = greys[crop][label] + amplitude * np.cos(q_row * rows + q_column * columns + phase)
        depth, width = grooves[crop]
        out[crop] += depth * np.exp(-0.5 * (gaps[crop] / width) ** 2)


def add_crystals(
    pictures: np.ndarray, owners: np.ndarray, thickness: np.ndarray, crystals: Crystals, rng: np.random.Generator
) -> None:
    size = pictures.shape[1]
    corners = np.array([[0, 0], [0, size], [size, 0], [size, size]], float)
    for k, owner in enumerate(owners):
        width = crystals.widths[k]
        reach = 4.0 * width
        places = (corners + reach * np.sign(corners - 1.0) - crystals.origins[k]) @ np.linalg.inv(crystals.vectors[k])
        lows, highs = np.floor(places.min(axis=0)).astype(int) - 1, np.ceil(places.max(axis=0)).astype(int) + 2
        cells = np.mgrid[lows[0] : highs[0], lows[1] : highs[1]].reshape(2, -1).T
        for motif, height in zip(crystals.motifs[k], crystals.heights[k], strict=True):
            sites = crystals.origins[k] + (cells + motif) @ crystals.vectors[k]
            sites = sites[np.all((sites > -reach) & (sites < size + reach), axis=1)]
            nearest = np.clip(np.rint(sites).astype(int), 0, size - 1)
            heights = height * thickness[k, nearest[:, 0], nearest[:, 1]]
            heights *= rng.random(len(sites)) >= crystals.vacancies[k]
            heights *= np.where(rng.random(len(sites)) < crystals.substitutions[k], 1.6, 1.0)
            sites = sites + crystals.displacements[k] * rng.standard_normal(sites.shape)
            for (row, column), peak in zip(sites[heights > 0], heights[heights > 0], strict=True):
                add_spot(pictures[owner], row, column, width, peak)


def add_spot(picture: np.ndarray, row: float, column: float, width: float, height: float) -> None:
    reach = 4.0 * width
    top, left = max(0, int(np.ceil(row - reach))), max(0, int(np.ceil(column - reach)))
    window = picture[top : max(0, int(row + reach) + 1), left : max(0, int(column + reach) + 1)]
    down = np.exp(-0.5 * ((np.arange(window.shape[0]) + top - row) / width) ** 2)
    across = np.exp(-0.5 * ((np.arange(window.shape[1]) + left - column) / width) ** 2)
    window += height * np.outer(down, across)


def add_particles(pictures: np.ndarray, owners: np.ndarray, p: Particles) -> None:
    for k, owner in enumerate(owners):
        reach = 2.0 * p.radii[k].max() + 1.0
        row, column = p.centres[k]
        top, left = max(0, int(np.ceil(row - reach))), max(0, int(np.ceil(column - reach)))
        window = pictures[owner, top : max(0, int(row + reach) + 1), left : max(0, int(column + reach) + 1)]
        rows, columns = np.ogrid[: window.shape[0], : window.shape[1]]
        rows, columns = rows + top - row, columns + left - column
        cosine, sine = np.cos(p.angles[k]), np.sin(p.angles[k])
        u, v = (cosine * rows + sine * columns) / p.radii[k, 0], (cosine * columns - sine * rows) / p.radii[k, 1]
        rho = np.hypot(u, v)
        if n_facets := int(p.n_facets[k]):
            directions = 2.0 * np.pi * np.arange(n_facets)[:, None, None] / n_facets
            sides = u * np.cos(directions) + v * np.sin(directions)
            rho = np.maximum((sides / p.facets[k, :n_facets, None, None]).max(axis=0), 0.0)
        if p.profiles[k] == particles.GAUSSIAN:
            profile = np.exp(-2.0 * rho**2)
        elif p.profiles[k] == particles.SPHERE:
            profile = np.sqrt(np.maximum(1.0 - rho**2, 0.0))
        else:
            profile = np.clip((1.0 - rho) / p.edges[k] + 0.5, 0.0, 1.0)
        window += p.heights[k] * profile


REPLACEMENTS = [
    (films, "_fill_fields", fill_fields),
    (grains, "_voronoi", fill_voronoi),
    (grains, "_paint", paint),
    (lattices, "_add_crystals", add_crystals),
    (particles, "_add_particles", add_particles),
]


def plain_crops(n_crops: int, crop_size: int, families: str | None) -> None:
    """Draw crops one by one without compiled code."""
    rng = np.random.default_rng(0)
    with ExitStack() as stack:
        for module, name, function in REPLACEMENTS:
            stack.enter_context(mock.patch.object(module, name, function))
        for _ in range(n_crops):
            procedural_crops(1, crop_size, rng, families=families)


def rate(crop_size: int, families: str | None, n_crops: int) -> tuple[float, float]:
    """Crops per second, ours and plain."""
    ours = median_seconds(
        lambda: procedural_crops(n_crops, crop_size, np.random.default_rng(0), families=families), n_repeats=5
    )
    n_plain = max(5, n_crops // 10)
    plain = median_seconds(lambda: plain_crops(n_plain, crop_size, families), n_repeats=3)
    return n_crops / ours, n_plain / plain


def truth_rate(family: str, size: int, n_pictures: int) -> float:
    """Pictures per second of processor time, which the machine's other work leaves alone."""
    for draw in range(3):
        make_specimen(family, size, np.random.default_rng(draw))
    start = time.thread_time()
    for draw in range(n_pictures):
        make_specimen(family, size, np.random.default_rng([1, draw]))
    return n_pictures / (time.thread_time() - start)


def truth_memory(family: str, size: int, n_pictures: int = 8) -> float:
    """The most memory at once while one of some pictures is made, relative to the picture."""
    peaks = []
    tracemalloc.start()
    for draw in range(n_pictures):
        tracemalloc.reset_peak()
        make_specimen(family, size, np.random.default_rng([1, draw]))
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    return max(peaks) / (4 * size**2)


def print_truth(sizes: list[int], n_pictures: int) -> None:
    """Measure and print the table of the families that carry their truth."""
    rows, kept = [], {}
    for size in sizes:
        n_here = max(8, round(n_pictures * min(1.0, (96 / size) ** 2)))
        rates = {name: truth_rate(name, size, n_here) for name in SPECIMEN_FAMILIES}
        memory = {name: truth_memory(name, size) for name in SPECIMEN_FAMILIES}
        rows += [(size, name, f"{rates[name]:.0f}", f"{memory[name]:.1f}") for name in SPECIMEN_FAMILIES]
        if size in TRUTH_BUDGETS:
            slowest = min(ATOMIC_FAMILIES, key=rates.__getitem__)
            words = "kept" if rates[slowest] >= TRUTH_BUDGETS[size] else "NOT kept"
            kept[f"{TRUTH_BUDGETS[size]}/s at {size} px, slowest atomic family {slowest} {rates[slowest]:.0f}/s"] = (
                words
            )
        if size == MEMORY_SIZE:
            most = max(memory, key=memory.__getitem__)
            words = "kept" if memory[most] <= MEMORY_BUDGET else "NOT kept"
            kept[f"{MEMORY_BUDGET:.0f} times the picture at {size} px, most: {most} {memory[most]:.1f}"] = words
    print(machine())
    print(markdown_table(("side [px]", "family", "pictures/s", "memory / picture"), rows))
    for budget, words in kept.items():
        print(f"budget {budget}: {words}")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-crops", type=int, default=300, help="crops per timing at up to 96 px, fewer above")
    parser.add_argument("--sizes", type=int, nargs="+", default=[48, 96, 512], help="sides of the crops [px]")
    parser.add_argument("--truth", action="store_true", help="measure the families that carry their truth")
    arguments = parser.parse_args()
    if arguments.truth:
        print_truth(arguments.sizes, arguments.n_crops)
        return
    rows, mixture = [], {}
    for size in arguments.sizes:
        n_crops = max(10, round(arguments.n_crops * min(1.0, (96 / size) ** 2)))
        for families in (None, *FAMILIES):
            ours, plain = rate(size, families, n_crops)
            rows.append((size, families or "all", f"{ours:.0f}", f"{plain:.0f}", f"{ours / plain:.1f}"))
            mixture[size, families] = ours
    print(machine())
    print(markdown_table(("side [px]", "family", "crops/s", "plain numpy, crops/s", "ratio of medians"), rows))
    if (measured := mixture.get((BUDGET_SIZE, None))) is not None:
        print(f"budget {BUDGET} crops/s at {BUDGET_SIZE} px: {'kept' if measured >= BUDGET else 'NOT kept'}")


if __name__ == "__main__":
    main()
