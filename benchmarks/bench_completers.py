"""Time of every classical completer per picture, beside linear interpolation in the same run.

A batch of pictures is completed at once: each from its own random pixels, or all from one uniform grid, where scans
share what only depends on the mask. At 512 px only a grid is measured, and the biharmonic equation, whose
factorisation is slow there, only with ``--all``. Medians of processor time, which the machine's other work
mostly leaves alone, on one thread.

Run: python benchmarks/bench_completers.py [--sizes 48 96 512] [--inverse-coverages 16 25] [--n-repeats 5] [--all]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from adaptive_scan.generators.completers import COMPLETERS, GRID_COMPLETERS, make_completer
from adaptive_scan.specimens import procedural_crops
from common import machine, markdown_table
from studies.supersampling_scores import downsample_nearest

REFERENCE = "linear"
LARGE = 512
SLOW = ("biharmonic",)


def random_scans(crops: np.ndarray, inverse_coverage: int, rng: np.random.Generator) -> torch.Tensor:
    """Partial scans of pixels drawn anew for each crop."""
    masks = rng.random(crops.shape) < 1.0 / inverse_coverage
    return torch.from_numpy(np.stack((crops * masks, masks), axis=1).astype(np.float32))


def processor_seconds(run: Callable[[], object], n_repeats: int) -> float:
    """Median processor time of ``run()`` [s], after one call for compilation and caches."""
    run()
    seconds = []
    for _ in range(n_repeats):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def milliseconds(size: int, inverse_coverage: int, n_repeats: int, with_slow: bool) -> list[tuple[object, ...]]:
    """Rows of the table for one size and coverage."""
    rng = np.random.default_rng(0)
    crops = procedural_crops(4 if size < LARGE else 1, size, rng)[0]
    kinds = {"grid": downsample_nearest(crops, round(inverse_coverage**0.5))}
    if size < LARGE:
        kinds["random"] = random_scans(crops, inverse_coverage, rng)
    rows = []
    for kind, scans in kinds.items():
        seconds = {}
        for name in sorted(COMPLETERS, key=lambda name: name != REFERENCE):
            if (kind == "random" and name in GRID_COMPLETERS) or (size >= LARGE and name in SLOW and not with_slow):
                continue
            complete = make_completer(name)
            n = max(1, n_repeats // 2) if size >= LARGE else n_repeats
            seconds[name] = processor_seconds(partial(complete, scans), n) / len(crops)
        for name in (name for name in COMPLETERS if name in seconds):
            ratio = seconds[name] / seconds[REFERENCE]
            rows.append((size, f"1/{inverse_coverage}", kind, name, f"{1e3 * seconds[name]:.3g}", f"{ratio:.3g}"))
    return rows


def main() -> None:
    """Measure and print a table for each size and coverage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[48, 96, 512], help="sides of the pictures [px]")
    parser.add_argument("--inverse-coverages", type=int, nargs="+", default=[16, 25], help="squares: pixels per kept")
    parser.add_argument("--n-repeats", type=int, default=5, help="timed runs of each, half as many at 512 px")
    parser.add_argument("--all", action="store_true", help="measure slow completers at 512 px as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    columns = ("side [px]", "coverage", "mask", "completer", "ms per picture", "times linear")
    for size in arguments.sizes:
        for inverse_coverage in arguments.inverse_coverages:
            rows = milliseconds(size, inverse_coverage, arguments.n_repeats, arguments.all)
            print(markdown_table(columns, rows) + "\n", flush=True)


if __name__ == "__main__":
    main()
