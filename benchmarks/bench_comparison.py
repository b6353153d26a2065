"""Time and peak memory of a comparison of 1,000 crops, 10 scans and 4 completers, beside the same crop by crop.

Crops are procedural, 48 px; scans are nine static ones and an untrained recurrent actor; completers are the network of
the preset "quick" (untrained, which takes the same time), linear interpolation, the pull-push infill, and one of a
user's. `compare_scans` takes the crops in batches of 256; the plain alternative takes them one by one, a tenth of them,
and its time is scaled. `run_benchmark` measures more of each completion, leaves files and can be resumed.

Times are medians of the repeats; processor time, of all threads together, is what the machine's other work mostly
leaves alone. Memory is the most that the process ever held, and what of that is beyond its state before.
Run each in a process of its own, for memory is never given back:

    python benchmarks/bench_comparison.py [--runner compare_scans] [--n-crops 1000] [--n-repeats 3] [--n-threads 2]
    python benchmarks/bench_comparison.py --runner run_benchmark
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adaptive_scan.agents import RDPG
from adaptive_scan.benchmark.definition import Benchmark, GeneratorPlan, PictureSettings, ScanEntry, SplitSettings
from adaptive_scan.benchmark.run import run_benchmark
from adaptive_scan.benchmark.scan_kinds import BenchmarkCell, ScanKind
from adaptive_scan.envs import PartialScanVecEnv
from adaptive_scan.evaluation import Contender, compare_scans, static_contenders
from adaptive_scan.generators import Completer, make_completer, make_generator
from adaptive_scan.scans import PRESETS
from adaptive_scan.specimens import procedural_crops
from common import machine, markdown_table

GEOMETRY = PRESETS["quick48"]
STATIC = ("spiral", "wide_spiral", "square_spiral", "raster", "wide_raster", "gridlike", "grid", "halton", "random")
CLASSICAL = ("linear", "infill")
NETWORK = {"n_channels": 24, "n_levels": 2}
OWN = "bench_comparison:own_completer"
PLAIN_SHARE = 10


def own_completer(partial_scans: Tensor) -> Tensor:
    """A user's completer: the mean of the measured pixels in a box of 17 px, 0 where there are none."""
    values, mask = F.avg_pool2d(partial_scans, 17, stride=1, padding=8).split(1, dim=1)
    return values / mask.clamp_min(1.0 / 17**2)


def make_actor() -> Contender:
    """An untrained recurrent actor with the default memory."""
    environment = {"geometry": GEOMETRY, "action_kind": "angle"}
    envs = PartialScanVecEnv(1, completer=None, **environment)
    longest = GEOMETRY.n_segments - 1
    actor = RDPG("MultiInputMemoryPolicy", envs, buffer_size=longest, max_episode_steps=longest, seed=0, device="cpu")
    return Contender("actor", policy=actor, environment=environment)


@dataclass(frozen=True)
class ActorScan(ScanKind):
    """The untrained actor as a scan of a benchmark."""

    def make(self, cell: BenchmarkCell) -> Contender:
        """The actor, under the name that the benchmark gives it."""
        return replace(make_actor(), name=cell.name)


class Timed:
    """A completer that adds up the processor time it takes."""

    def __init__(self, completer: Completer) -> None:
        self._completer = completer
        self.seconds = 0.0

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans."""
        begin = time.process_time()
        completions = self._completer(partial_scans)
        self.seconds += time.process_time() - begin
        return completions


def make_completers() -> dict[str, Timed]:
    """The four completers by name."""
    network = make_generator("mask_aware", seed=0, **NETWORK).eval()
    completers = {"network": network, **{name: make_completer(name) for name in CLASSICAL}, "own": own_completer}
    return {name: Timed(completer) for name, completer in completers.items()}


def with_compare_scans(n_crops: int, completers: dict[str, Timed], batch_size: int = 256) -> Callable[[], object]:
    """What compares by `compare_scans`."""
    crops, _ = procedural_crops(n_crops, GEOMETRY.image_size, np.random.default_rng(0))
    contenders = [*static_contenders(STATIC), make_actor()]
    return partial(compare_scans, crops, None, contenders, dict(completers), geometry=GEOMETRY, batch_size=batch_size)


def with_run_benchmark(n_crops: int, completers: dict[str, Timed]) -> Callable[[], object]:
    """What compares by `run_benchmark`: its network is its own, and hardly trained."""
    benchmark = Benchmark(
        "bench",
        geometries={"1/23": GEOMETRY},
        scans=(*(ScanEntry(name, "static") for name in STATIC), ScanEntry("actor", "actor")),
        # One fold of two is the test.
        pictures=PictureSettings(n_crops=2 * n_crops),
        split=SplitSettings(n_folds=2),
        completers=("shared", *CLASSICAL, OWN),
        generator=GeneratorPlan(n_updates=1, batch_size=2, fine_tuning_crops=2, **NETWORK),
    )

    def run() -> object:
        with tempfile.TemporaryDirectory() as folder:
            kinds = {"actor": ActorScan}
            return run_benchmark(benchmark, folder, kinds=kinds, completers={OWN: completers["own"]}, progress=False)

    return run


RUNNERS = {"compare_scans": with_compare_scans, "run_benchmark": with_run_benchmark}


def resident_mb() -> float:
    """Largest resident memory of this process so far [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def medians(run: Callable[[], object], n_repeats: int) -> tuple[float, float]:
    """Median wall time and median processor time of ``run()`` [s]."""
    times = []
    for _ in range(n_repeats):
        wall, processor = time.perf_counter(), time.process_time()
        run()
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    return statistics.median(wall for wall, _ in times), statistics.median(processor for _, processor in times)


def main() -> None:
    """Measure and print a row for benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runner", choices=sorted(RUNNERS), default="compare_scans", help="what compares")
    parser.add_argument("--n-crops", type=int, default=1_000, help="crops to compare on")
    parser.add_argument("--n-repeats", type=int, default=3, help="timed runs, of which the median counts")
    parser.add_argument("--n-threads", type=int, default=2, help="threads of PyTorch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.n_threads)
    print(f"{machine()}, {arguments.n_threads} threads")

    prepare = RUNNERS[arguments.runner]
    prepare(20, make_completers())()  # compiles
    completers = make_completers()
    run = prepare(arguments.n_crops, completers)
    before = resident_mb()
    seconds, processor_seconds = medians(run, arguments.n_repeats)
    peak = resident_mb()
    shares = {name: each.seconds / arguments.n_repeats for name, each in completers.items() if each.seconds}
    n_plain = max(arguments.n_crops // PLAIN_SHARE, 1)
    _, plain = medians(with_compare_scans(n_plain, make_completers(), batch_size=1), 1)
    plain *= arguments.n_crops / n_plain

    columns = (
        "what",
        "crops",
        "time",
        "processor time",
        "peak memory",
        "beyond the start",
        "crop by crop",
        "ratio",
    )
    row = (
        f"{arguments.runner}, 10 scans, 4 completers",
        arguments.n_crops,
        f"{seconds:.1f} s",
        f"{processor_seconds:.1f} s",
        f"{peak:.0f} MB",
        f"{peak - before:.0f} MB",
        f"{plain:.0f} s",
        f"{plain / processor_seconds:.1f}",
    )
    print(markdown_table(columns, [row]))
    print(
        "of the processor time in completers: " + ", ".join(f"{name} {share:.1f} s" for name, share in shares.items())
    )


if __name__ == "__main__":
    main()
