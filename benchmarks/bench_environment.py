"""Steps per second of the environment, against a plain NumPy environment stepped one by one, on one core.

Run with ``python benchmarks/bench_environment.py``. Both sides scan the same crops at the preset "ede96" without a
completer, restart included. Times are processor times of this process, so that a busy machine does not count; each
figure is the median of repeats that alternate between the sides, and the ratio is that of the medians.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import numpy as np

from adaptive_scan.envs import PartialScanEnv, PartialScanVectorEnv
from adaptive_scan.scans import ScanGeometry

N_SCANS = 256
N_REPEATS = 15


class PlainEnv:
    """One scan in plain Python and NumPy, position arrays at a time: what one would write first."""

    def __init__(self, crops: np.ndarray, geometry: ScanGeometry) -> None:
        self.crops, self.geometry, self.rng = crops, geometry, np.random.default_rng(0)

    def reset(self) -> dict[str, np.ndarray]:
        """Start a scan of a random crop."""
        self.crop_id = int(self.rng.integers(len(self.crops)))
        self.start = np.array(self.geometry.start_position, dtype=np.float64)
        self.positions: list[np.ndarray] = []
        self.values: list[np.ndarray] = []
        return self._measure(self.geometry.first_heading)

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, dict]:
        """Measure the next segment."""
        if not np.isfinite(action).all():
            raise ValueError("action is not finite")
        heading = math.atan2(action[1], action[0]) if action.any() else self.heading
        observation = self._measure(heading)
        last, size = self.positions[-1][-1], self.geometry.image_size
        reward = -0.05 if (last < 0).any() or (last > size - 1).any() else 0.0
        ended = len(self.positions) == self.geometry.n_segments
        return observation, reward, ended, self._final() if ended else {}

    def _measure(self, heading: float) -> dict[str, np.ndarray]:
        geometry, self.heading = self.geometry, heading
        direction = np.array([math.cos(heading), math.sin(heading)])
        step = geometry.first_spacing * direction
        path = (self.start + np.arange(geometry.n_positions)[:, None] * step).astype(np.float32)
        self.start = self.start + geometry.n_positions * step
        rows, columns = np.clip(np.floor(path + 0.5).astype(int), 0, geometry.image_size - 1).T
        values = self.crops[self.crop_id, rows, columns]
        self.positions.append(path)
        self.values.append(values)
        return {
            "values": values,
            "position": np.clip(2 * path[0] / (geometry.image_size - 1) - 1, -1, 1),
            "heading": direction.astype(np.float32),
            "progress": np.array([len(self.positions) / geometry.n_segments], dtype=np.float32),
        }

    def _final(self) -> dict:
        positions, size = np.array(self.positions), self.geometry.image_size
        rows, columns = np.clip(np.floor(positions.reshape(-1, 2) + 0.5).astype(int), 0, size - 1).T
        gaps = np.diff(positions.reshape(-1, 2), axis=0)
        return {
            "positions": positions,
            "values": np.array(self.values),
            "coverage": len(np.unique(rows * size + columns)) / size**2,
            "path_length": float(np.linalg.norm(gaps, axis=1).sum()),
        }


def seconds(run: Callable[[], None]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def single_run(env: PartialScanEnv, actions: np.ndarray) -> Callable[[], None]:
    def run() -> None:
        env.reset()
        for action in actions:
            if env.step(action)[2]:
                env.reset()

    return run


def plain_run(envs: list[PlainEnv], actions: np.ndarray) -> Callable[[], None]:
    def run() -> None:
        for env in envs:
            env.reset()
        for batch in actions:
            for env, action in zip(envs, batch, strict=True):
                if env.step(action)[2]:
                    env.reset()

    return run


def batch_run(envs: PartialScanVectorEnv, actions: np.ndarray) -> Callable[[], None]:
    def run() -> None:
        for batch in actions:
            envs.step(batch)

    return run


def compare(name: str, n_steps: int, ours: Callable[[], None], plain: Callable[[], None], n_plain: int) -> None:
    """Print one row: steps per second of both sides and the ratio of their medians."""
    ours(), plain()
    times = [(seconds(ours) / n_steps, seconds(plain) / n_plain) for _ in range(N_REPEATS)]
    mine, theirs = (statistics.median(side) for side in zip(*times, strict=True))
    print(
        f"| {name} | {1 / mine:,.0f} | {1 / min(t[0] for t in times):,.0f} | {1 / theirs:,.0f} | {theirs / mine:.1f} |"
    )


def with_partial_scans(envs: PartialScanVectorEnv, actions: np.ndarray) -> Callable[[], None]:
    """The batch with every ended scan's partial scan built as well, as a completer would have it."""

    def run() -> None:
        for step, batch in enumerate(actions):
            if step % 19 == 18:
                envs.batch.partial_scans()
            envs.step(batch)

    return run


def main() -> None:
    """Measure and print a Markdown table."""
    rng = np.random.default_rng(0)
    geometry = ScanGeometry()
    crops = rng.uniform(-1, 1, (256, 96, 96)).astype(np.float32)
    actions = rng.uniform(-1, 1, (19 * 10, N_SCANS, 2)).astype(np.float32)
    single = PartialScanEnv(crops, completer=None)
    single.reset(seed=0)
    envs = PartialScanVectorEnv(N_SCANS, crops, completer=None)
    envs.reset(seed=0)
    one, many = [PlainEnv(crops, geometry)], [PlainEnv(crops, geometry) for _ in range(N_SCANS)]
    few = actions[:19, :1].repeat(50, axis=0)
    print("| steps per processor second, ede96, no completion | median | best | plain NumPy, median | ratio |")
    print("|---|---|---|---|---|")
    compare("single", len(few), single_run(single, few[:, 0]), plain_run(one, few), len(few))
    plain = plain_run(many, actions[:19])
    n_steps, n_plain = actions[..., 0].size, actions[:19, :, 0].size
    compare("batch of 256, restarts and final info", n_steps, batch_run(envs, actions), plain, n_plain)
    envs.reset(seed=0)
    compare("the same with final partial scans", n_steps, with_partial_scans(envs, actions), plain, n_plain)


if __name__ == "__main__":
    main()
