"""Memory of 100,000 replayed scans at the preset "ede96" and the rate of sampling, against a plain list of episodes.

Run with ``python benchmarks/bench_replay.py``. Both sides are filled with the same scans, made by the environment with
random actions; the list keeps each as a dictionary of arrays, one entry a step, with the partial scan that the
generator needs. The budget is 500 MB beyond the crops themselves. Resident memory is what the process gained by it.
"""

from __future__ import annotations

import resource
from typing import Any

import numpy as np
import torch

from adaptive_scan.agents import EpisodeReplayBuffer, ScanRDPG
from adaptive_scan.envs import PartialScanVecEnv
from adaptive_scan.generators import make_generator
from adaptive_scan.micrographs import ArrayCrops
from adaptive_scan.scans import ScanGeometry, partial_scans, polygonal_spiral
from common import machine, markdown_table, median_seconds

N_SCANS, N_PLAIN = 100_000, 10_000
N_ENVS, BATCH_SIZE = 250, 32


class PlainReplay:
    """Episodes in a list, as one would write it first."""

    def __init__(self) -> None:
        self.episodes: list[dict[str, Any]] = []
        self.rng = np.random.default_rng(0)

    def append(self, steps: list[dict[str, Any]], info: dict[str, Any]) -> None:
        """Keep one episode."""
        scan = partial_scans(info["values"][None], info["positions"][None], 96)[0]
        self.episodes.append({"steps": steps, "crop_id": info["crop_id"], "scan": scan})

    def sample(self, batch_size: int) -> dict[str, torch.Tensor]:
        """A batch, stacked step by step."""
        chosen = [self.episodes[i] for i in self.rng.integers(len(self.episodes), size=batch_size)]
        batch = {
            key: torch.as_tensor(np.stack([np.stack([step[key] for step in episode["steps"]]) for episode in chosen]))
            for key in chosen[0]["steps"][0]
        }
        batch["scan"] = torch.as_tensor(np.stack([episode["scan"] for episode in chosen]))
        return batch


def peak_mb() -> float:
    """Largest resident memory of this process so far [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def make_agent(crops: ArrayCrops) -> ScanRDPG:
    """An agent at the paper's setting, with room for all scans."""
    generator = make_generator("unet", seed=0, n_channels=4, n_levels=2)
    return ScanRDPG(
        "MultiInputMemoryPolicy",
        PartialScanVecEnv(N_ENVS, crops, completer=None, action_kind="angle"),
        generator=generator,
        generator_optimizer=torch.optim.Adam(generator.parameters()),
        generator_learning_rate=lambda progress: 1e-3,
        reference_headings=polygonal_spiral(ScanGeometry()),
        buffer_size=N_SCANS * 19,
        policy_kwargs={"memory_kwargs": {"hidden_size": 8}},
        device="cpu",
        seed=0,
    )


def fill(buffer: EpisodeReplayBuffer, envs: PartialScanVecEnv, n_scans: int) -> None:
    """Fill a replay buffer as Stable-Baselines3 does, step by step."""
    rng, observations = np.random.default_rng(0), envs.reset()
    while buffer.n_episodes < n_scans:
        actions = rng.uniform(-1, 1, (N_ENVS, 1)).astype(np.float32)
        after, rewards, dones, infos = envs.step(actions)
        reached = after
        if dones.any():
            ends = [info["terminal_observation"] for info in infos]
            reached = {key: np.stack([end[key] for end in ends]) for key in after}
        buffer.add(observations, reached, actions, rewards, dones, infos)
        observations = after


def fill_plain(replay: PlainReplay, envs: PartialScanVecEnv, n_scans: int) -> None:
    """Fill the plain list with scans of the same kind."""
    rng, observations = np.random.default_rng(0), envs.reset()
    open_episodes: list[list[dict[str, Any]]] = [[] for _ in range(N_ENVS)]
    while len(replay.episodes) < n_scans:
        actions = rng.uniform(-1, 1, (N_ENVS, 1)).astype(np.float32)
        after, rewards, dones, infos = envs.step(actions)
        for scan, steps in enumerate(open_episodes):
            seen = {key: part[scan].copy() for key, part in observations.items()}
            steps.append({**seen, "action": actions[scan].copy(), "reward": rewards[scan]})
            if dones[scan]:
                replay.append(steps, infos[scan])
                open_episodes[scan] = []
        observations = after


def main() -> None:
    """Measure and print a Markdown table."""
    torch.set_num_threads(1)
    crops = ArrayCrops(np.random.default_rng(0).uniform(-1, 1, (64, 96, 96)).astype(np.float32), symmetries=True)
    agent = make_agent(crops)
    buffer, envs = agent.replay_buffer, PartialScanVecEnv(N_ENVS, crops, completer=None, action_kind="angle")
    fill(buffer, envs, N_ENVS)  # compilation and the environment's own memory are not the replay's
    before = peak_mb()
    fill(buffer, envs, N_SCANS)
    resident = peak_mb() - before
    plain, before = PlainReplay(), peak_mb()
    fill_plain(plain, envs, N_PLAIN)
    resident_plain = (peak_mb() - before) * N_SCANS / N_PLAIN
    n_calls = 50
    ours = median_seconds(lambda: [buffer.sample(BATCH_SIZE) for _ in range(n_calls)]) / n_calls
    scans = median_seconds(lambda: [agent._replayed_scans(buffer.sample(BATCH_SIZE)) for _ in range(n_calls)]) / n_calls
    theirs = median_seconds(lambda: [plain.sample(BATCH_SIZE) for _ in range(5)]) / 5
    print(f"{N_SCANS:,} scans at ede96, batches of {BATCH_SIZE}, one core, {machine()}")
    rows = [
        (
            "`ScanReplayBuffer`",
            f"{buffer.nbytes / 1e6:.0f}",
            f"{resident:.0f}",
            f"{1 / ours:,.0f}",
            f"{1 / scans:,.0f}",
        ),
        (f"plain list (from {N_PLAIN:,} scans)", "", f"{resident_plain:,.0f}", "", f"{1 / theirs:,.0f}"),
    ]
    columns = ("", "arrays [MB]", "resident [MB]", "batches/s", "batches/s with partial scans")
    print(markdown_table(columns, rows))


if __name__ == "__main__":
    main()
