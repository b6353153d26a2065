"""Forward and backward passes of every generator, against the same machine's matrix products and convolutions.

Run with ``python benchmarks/bench_generators.py``; ``--processes`` also trains the mask-aware network by one and by two
processes at the same total batch. One thread per process. Operations are counted by PyTorch (a multiplication and an
addition are two), and a share is that of the faster of the two ceilings, measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from adaptive_scan.generators import GENERATORS
from adaptive_scan.scans import partial_scans, sample, static_scan
from common import machine, markdown_table, median_seconds

NETWORKS: dict[str, tuple[str, dict[str, float], int, int]] = {
    "residual, the paper's": ("residual", {}, 96, 8),
    "unet": ("unet", {}, 96, 8),
    "mask_aware": ("mask_aware", {}, 96, 8),
    "mask_aware, quick": ("mask_aware", {"n_channels": 24, "n_levels": 2}, 48, 32),
    "two_stage, a quarter of the width": ("two_stage", {"width": 0.25}, 256, 1),
    "supersampling, a quarter of the width": ("supersampling", {"factor": 4, "width": 0.25}, 256, 1),
}
STEPS = {"quick": 200, "ede96": 15}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", action="store_true", help="also measure training by one and two processes")
    parser.add_argument("--n-repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ceilings = {"matrix product, 1024 x 1024": matrix_product(), "convolution, 3x3, 128 channels": convolution()}
    for name, rate in ceilings.items():
        print(f"{name}: {rate / 1e9:.1f} GFLOP/s")
    ceiling = max(ceilings.values())
    passes = ("forward [ms]", "of ceiling", "and backward [ms]", "of ceiling")
    columns = ("network", "side [px]", "batch", "weights", *passes)
    rows = [_row(name, ceiling, arguments.n_repeats) for name in NETWORKS]
    print(f"\n{machine()}, one thread; ms per picture\n\n{markdown_table(columns, rows)}")
    if arguments.processes:
        for preset in STEPS:
            one, two = updates_per_second(preset, 1), updates_per_second(preset, 2)
            print(f"\n{preset}: {one:.2f} updates/s by one process, {two:.2f} by two, {two / one:.2f} times")


def matrix_product() -> float:
    """Operations a second of a product of two matrices of 1024 x 1024."""
    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)
    return 2 * 1024**3 / median_seconds(lambda: a @ b)


def convolution() -> float:
    """Operations a second of a 3x3 convolution of 128 channels, in the faster memory layout."""
    pictures, weight = torch.rand(8, 128, 24, 24), torch.rand(128, 128, 3, 3)
    n_operations = 2 * 8 * 24 * 24 * 128 * 128 * 9
    last = pictures.contiguous(memory_format=torch.channels_last)
    weight_last = weight.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = median_seconds(lambda: F.conv2d(pictures, weight, padding=1))
        seconds = min(plain, median_seconds(lambda: F.conv2d(last, weight_last, padding=1)))
    return n_operations / seconds


def _row(name: str, ceiling: float, n_repeats: int) -> list[object]:
    kind, settings, size, n_scans = NETWORKS[name]
    network = GENERATORS[kind](**settings)
    scans = _grid_scans(n_scans, size)
    n_weights = sum(weight.numel() for weight in network.parameters())
    forward, both = _passes(network, scans)
    cells: list[object] = [name, size, n_scans, f"{n_weights:,}"]
    for run in (forward, both):
        with FlopCounterMode(display=False) as counter:
            run()
        seconds = median_seconds(run, n_repeats=n_repeats)
        cells += [f"{1e3 * seconds / n_scans:.2f}", f"{100 * counter.get_total_flops() / seconds / ceiling:.0f} %"]
    return cells


def _grid_scans(n_scans: int, size: int) -> Tensor:
    """Partial scans of noise on a uniform grid of 1/16 coverage, which every network takes."""
    crops = np.random.default_rng(0).uniform(-1, 1, (n_scans, size, size)).astype(np.float32)
    positions = np.broadcast_to(static_scan("grid", size**2 // 16, size), (n_scans, size**2 // 16, 2))
    return torch.from_numpy(partial_scans(sample(crops, positions), positions, size))


def _passes(network: nn.Module, scans: Tensor) -> tuple[Callable[[], None], Callable[[], None]]:
    def forward() -> None:
        network.eval()
        with torch.no_grad():
            network(scans)

    def both() -> None:
        network.train()
        network.zero_grad(set_to_none=True)
        network(scans).square().mean().backward()

    return forward, both


def updates_per_second(preset: str, n_processes: int) -> float:
    """Updates of 32 scans a second of ``train_generator`` by so many processes, start and comparison left out."""
    few, many = STEPS[preset], 3 * STEPS[preset]
    with tempfile.TemporaryDirectory() as folder:
        seconds = [_seconds(preset, n_processes, n, Path(folder) / str(n)) for n in (few, many)]
    return (many - few) / (seconds[1] - seconds[0])


def _seconds(preset: str, n_processes: int, n_updates: int, out: Path) -> float:
    """Wall time of a whole run [s]."""
    script = Path(__file__).parents[1] / "scripts" / "train_generator.py"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if n_processes == 2 else []
    settings = [
        "--preset",
        preset,
        "--generator",
        "mask_aware",
        "--n-updates",
        n_updates,
        "--data.n-procedural",
        256,
        "--device",
        "cpu",
    ]
    small = ["--data.n-procedural-test", 8, "--n-threads", 1, "--batch-size", 32, "--out", out]
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, *launcher, str(script), *map(str, (*settings, *small))],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
