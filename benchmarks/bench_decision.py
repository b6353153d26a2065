"""Latency of a live decision of the LSTM actor through ``model.predict``, beside sb3-contrib's RecurrentPPO, one core.

Run with ``python benchmarks/bench_decision.py``. Both sides steer the same scans of the preset "ede96" with two LSTM
layers of 256 and a hidden layer of 256, one unvectorised observation at a time, with the state of the last decision, as
an instrument would. Times are processor times of the thread, so that waiting for a busy machine does not count; blocks
of scans of both sides alternate, so that what disturbs one disturbs the other. A decision reads 4 MB of weights, so
other programs that fill the caches still count; the quietest tenth of the run says what an undisturbed core would do.
The budget is 0.5 ms at the 99th percentile.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from sb3_contrib import RecurrentPPO

from adaptive_scan.agents import RDPG
from adaptive_scan.envs import PartialScanEnv
from common import machine, markdown_table

HIDDEN_SIZE, N_LAYERS = 256, 2
N_BLOCKS, N_SCANS = 20, 20  # blocks of scans in turn; the first block is not counted


class Steered:
    """Scans steered by a model, each decision timed."""

    def __init__(self, model: Any, env: PartialScanEnv) -> None:
        self.model, self.env = model, env
        self.seconds: list[float] = []
        self.begin()

    def begin(self) -> None:
        """Start a scan."""
        self.observation, _ = self.env.reset()
        self.state, self.start = None, True

    def decide(self) -> bool:
        """Take one decision and move; whether the scan has ended."""
        begin = time.thread_time()
        action, self.state = self.model.predict(
            self.observation, self.state, np.array([self.start]), deterministic=True
        )
        self.seconds.append(time.thread_time() - begin)
        self.observation, _, ended, _, _ = self.env.step(action)
        self.start = False
        return ended

    def scan(self, n_scans: int) -> None:
        """Steer whole scans."""
        for _ in range(n_scans):
            self.begin()
            while not self.decide():
                pass


def make_sides() -> dict[str, Steered]:
    """The two actors in scans of the same crops."""
    crops = np.random.default_rng(0).uniform(-1, 1, (8, 96, 96)).astype(np.float32)
    envs = [PartialScanEnv(crops, completer=None, action_kind="angle") for _ in range(2)]
    ours = RDPG(
        "MultiInputMemoryPolicy",
        envs[0],
        max_episode_steps=19,
        buffer_size=19,
        policy_kwargs={"memory_kwargs": {"hidden_size": HIDDEN_SIZE, "n_layers": N_LAYERS}},
        device="cpu",
        seed=0,
    )
    generic = RecurrentPPO(
        "MultiInputLstmPolicy",
        envs[1],
        policy_kwargs={"lstm_hidden_size": HIDDEN_SIZE, "n_lstm_layers": N_LAYERS, "net_arch": [64]},
        device="cpu",
        seed=0,
    )
    return {"RDPG": Steered(ours, envs[0]), "RecurrentPPO": Steered(generic, envs[1])}


def main() -> None:
    """Measure and print a Markdown table."""
    torch.set_num_threads(1)
    sides = make_sides()
    for _ in range(1 + N_BLOCKS):
        for side in sides.values():
            side.scan(N_SCANS)
    times = {name: 1e3 * np.array(side.seconds[19 * N_SCANS :]) for name, side in sides.items()}
    rows = []
    for name, ms in times.items():
        quietest = min(np.array_split(ms, 10), key=lambda part: np.percentile(part, 99))
        figures = (*np.percentile(ms, (50, 99)), *np.percentile(quietest, (50, 99)), ms.max())
        rows.append((name, *(f"{figure:.3f}" for figure in figures)))
    print(f"One decision, LSTM {N_LAYERS} x {HIDDEN_SIZE}, {len(times['RDPG'])} decisions, {machine()}")
    columns = ("p50 [ms]", "p99 [ms]", "p50, quietest tenth [ms]", "p99, quietest tenth [ms]", "longest [ms]")
    print(markdown_table(("`predict` of", *columns), rows))
    print(f"ratio of medians: {np.median(times['RecurrentPPO']) / np.median(times['RDPG']):.1f}")


if __name__ == "__main__":
    main()
