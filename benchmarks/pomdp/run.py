"""Train and test recurrent agents on tasks that hide part of their state.

    python benchmarks/pomdp/run.py pendulum-velocity --seeds 0 1 2
    python benchmarks/pomdp/run.py pendulum-no-velocity --algorithms rdpg --forgetful
    python benchmarks/pomdp/run.py cue-100 --memories lstm gru dnc transformer

Each run (task, algorithm, memory, seed) keeps a checkpoint after every evaluation and its returns in one JSON file.
Interrupted runs go on from there when the same command is given again, beginning new episodes; finished ones are left
alone. ``python benchmarks/pomdp/table.py --folder runs/pomdp`` makes the table.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import numpy as np
import torch
import tyro
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adaptive_scan.agents import RecurrentTD3
from adaptive_scan.files import write_atomically
from adaptive_scan.trees import read_tree, write_tree
from pomdp.agents import AlgorithmName, make_agent
from pomdp.tasks import TASKS

N_EVALUATION_EPISODES = 100
EVALUATION_SEED = 10_000  # the same 100 episodes for every agent, and none of those it learns from
RESULTS = Path("runs/pomdp")


@dataclass(frozen=True)
class Settings:
    """What to run.

    Attributes:
        task: Name of the task.
        algorithms: Algorithms to train.
        memories: Their memories.
        forgetful: Whether to put the memory's state back at every step: the ablation.
        seeds: One run for each of them.
        n_steps: Steps of learning; None takes the task's.
        folder: Where the results go; checkpoints go into its folder ``checkpoints``.
        device: Where the networks are.
        n_threads: Threads of PyTorch.
    """

    task: Annotated[Literal[*TASKS], tyro.conf.Positional]  # type: ignore[valid-type]
    algorithms: tuple[AlgorithmName, ...] = ("rdpg", "td3")
    memories: tuple[str, ...] = ("lstm",)
    forgetful: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    n_steps: int | None = None
    folder: Path = RESULTS
    device: str = "cpu"
    n_threads: int = 1


def refuse(reason: str) -> NoReturn:
    """End with one line, and the status of bad input."""
    print(f"error: {reason}", file=sys.stderr)
    raise SystemExit(2)


def evaluate(model: RecurrentTD3, envs: VecEnv) -> np.ndarray:
    """Returns of the first episode of every environment, without noise, shape (n_envs,)."""
    envs.seed(EVALUATION_SEED)
    observations, state = envs.reset(), None
    returns, alive = np.zeros(envs.num_envs), np.ones(envs.num_envs, bool)
    starts = alive.copy()
    while alive.any():
        actions, state = model.predict(observations, state, starts, deterministic=True)
        observations, rewards, starts, _ = envs.step(actions)
        returns += rewards * alive
        alive &= ~starts
    return returns


@dataclass
class Progress:
    """What is known of a run so far; its fields are the JSON file's."""

    task: str
    algorithm: str
    memory: str
    forgets: bool
    seed: int
    settings: dict[str, Any]
    steps: list[int] = dataclasses.field(default_factory=list)
    means: list[float] = dataclasses.field(default_factory=list)
    spreads: list[float] = dataclasses.field(default_factory=list)
    final_returns: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    finished: bool = False


class EvaluateAndKeep(BaseCallback):
    """Evaluates at regular steps, and keeps everything that is needed to go on.

    Args:
        progress: What is known of the run, which grows.
        result: Its JSON file.
        checkpoint: File of the agent's state.
        envs: Environments to evaluate in.
        every: Steps from one evaluation to the next.
    """

    def __init__(self, progress: Progress, result: Path, checkpoint: Path, envs: VecEnv, every: int) -> None:
        super().__init__()
        self.progress, self.result, self.checkpoint, self.envs, self.every = progress, result, checkpoint, envs, every
        self._began = time.monotonic() - progress.seconds

    def _on_rollout_start(self) -> None:
        last = self.progress.steps[-1] if self.progress.steps else -self.every
        if self.model.num_timesteps // self.every > last // self.every:
            self.evaluate()

    def _on_step(self) -> bool:
        return True

    def evaluate(self, *, finished: bool = False) -> None:
        """Add the returns of now, and write all."""
        returns = evaluate(self.model, self.envs)  # type: ignore[arg-type]
        progress = self.progress
        progress.steps.append(self.model.num_timesteps)
        progress.means.append(round(float(returns.mean()), 3))
        progress.spreads.append(round(float(returns.std()), 3))
        progress.seconds = round(time.monotonic() - self._began, 1)
        progress.final_returns = returns.round(3).tolist() if finished else []
        progress.finished = finished
        if not finished:
            state = {"training": self.model.training_state(), "progress": dataclasses.asdict(progress)}  # type: ignore[attr-defined]
            write_tree(self.checkpoint, state)
        write_atomically(self.result, json.dumps(dataclasses.asdict(progress), allow_nan=False) + "\n")
        print(
            f"{self.result.stem} {progress.steps[-1]:>7} {progress.means[-1]:9.2f} {progress.seconds:6.0f} s",
            flush=True,
        )


def run(settings: Settings, algorithm: AlgorithmName, memory: str, seed: int) -> Progress:
    """One agent from where it stands to the end; a finished one is read from its file."""
    task = TASKS[settings.task]
    n_steps = task.n_steps if settings.n_steps is None else settings.n_steps
    progress = Progress(
        settings.task, algorithm, memory, settings.forgetful, seed, task.as_json(algorithm, memory, n_steps)
    )
    stem = f"{settings.task}-{algorithm}-{memory}{'-forgetful' if settings.forgetful else ''}-{seed}"
    result = settings.folder / f"{stem}.json"
    if result.exists():
        found = Progress(**json.loads(result.read_text(encoding="utf-8")))
        if found.settings != progress.settings:
            refuse(f"{result}: got other settings; expected those of the task, or another folder")
        if found.finished:
            print(f"{result}: finished before, return {found.means[-1]:.2f}", flush=True)
            return found
    model = make_agent(task, algorithm, memory, forgets=settings.forgetful, seed=seed, device=settings.device)
    checkpoint = settings.folder / "checkpoints" / f"{stem}.safetensors"
    if checkpoint.exists():
        state = read_tree(checkpoint)
        progress = Progress(**state["progress"])
        if progress.settings != task.as_json(algorithm, memory, n_steps):
            refuse(f"{checkpoint}: got other settings; expected those of the task, or no checkpoint")
        # Environments begin anew, and so must the episodes; they are not to be the first ones again.
        model.load_training_state({**state["training"], "last_obs": None})
        model.env.seed(seed + 1_000 * len(progress.steps))  # type: ignore[union-attr]
    envs = DummyVecEnv([task.make_env] * N_EVALUATION_EPISODES)
    callback = EvaluateAndKeep(progress, result, checkpoint, envs, task.evaluate_every)
    model.learn(n_steps - model.num_timesteps, callback, reset_num_timesteps=model.num_timesteps == 0)
    callback.evaluate(finished=True)
    checkpoint.unlink(missing_ok=True)
    return progress


def main(arguments: Sequence[str] | None = None) -> list[Progress]:
    """Run what the command line asks for, one after the other."""
    settings = tyro.cli(Settings, args=arguments, description=__doc__)
    torch.set_num_threads(settings.n_threads)
    known = TASKS[settings.task].memories
    unknown = [memory for memory in settings.memories if memory not in known]
    if unknown:
        refuse(f"memories: got {unknown[0]!r}; expected some of {', '.join(known)}")
    choices = itertools.product(settings.seeds, settings.algorithms, settings.memories)
    return [run(settings, algorithm, memory, seed) for seed, algorithm, memory in choices]


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from the last evaluation", file=sys.stderr)
        sys.exit(130)
