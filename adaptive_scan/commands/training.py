"""``train_rdpg``: train an actor and a generator together, and compare the result with static scans."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import torch
import tyro
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Image, configure
from tqdm import tqdm

from adaptive_scan.agents import ScanRDPG
from adaptive_scan.commands.building import Data, load_data, make_agent
from adaptive_scan.commands.comparing import compare_run, print_comparison
from adaptive_scan.commands.config import TrainingConfig, preset_config
from adaptive_scan.commands.errors import InputError
from adaptive_scan.commands.runs import (
    CHECKPOINT,
    GENERATOR,
    MANIFEST,
    POLICY,
    TENSORBOARD,
    load_run,
    make_run_folder,
    read_config,
    read_json,
    update_manifest,
    write_description,
)
from adaptive_scan.generators import save_generator
from adaptive_scan.trees import read_tree, write_tree

_MAY_CHANGE = {"micrographs", "groups", "out", "resume", "device"}


def parse_training(arguments: list[str]) -> TrainingConfig:
    """Settings from the command line: those of the preset, or of the run to resume, and what is given beside.

    Raises:
        InputError: If settings of a resumed run are given anew.
    """
    resume = _value_of("--resume", arguments)
    preset = _value_of("--preset", arguments)
    if resume is not None:
        default = dataclasses.replace(read_config(Path(resume)), out=None, resume=Path(resume))
    else:
        default = preset_config("quick" if preset is None else preset)
    config: TrainingConfig = tyro.cli(
        TrainingConfig, default=default, args=arguments, prog="train_rdpg", description=train_rdpg.__doc__
    )
    changed = [
        f.name
        for f in dataclasses.fields(config)
        if resume is not None and f.name not in _MAY_CHANGE and getattr(config, f.name) != getattr(default, f.name)
    ]
    if changed:
        raise InputError(f"--{changed[0]}: found it beside --resume; expected the run's own settings to stand")
    return config


def _value_of(option: str, arguments: list[str]) -> str | None:
    """Value of an option that decides the defaults of all others."""
    for i, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
        if argument == option and i + 1 < len(arguments):
            return arguments[i + 1]
    return None


def train_rdpg(arguments: list[str]) -> None:
    """Train an actor that steers the probe and a generator that completes what it measured, then compare scans."""
    config = parse_training(arguments)
    data = load_data(config)
    for error in data.skipped:
        print(f"skipped: {error}")
    agent = make_agent(config, data.train)
    folder = config.resume or make_run_folder(config)
    if config.resume is None:
        write_description(folder, config, data.description)
        print(f"run folder: {folder}")
    else:
        _restore(agent, config, folder, data)
    agent.set_logger(configure(str(folder / TENSORBOARD), ["tensorboard"]))
    _learn(agent, config, folder)
    agent.logger.close()
    comparison = compare_run(load_run(folder), data.test)
    print_comparison(comparison, folder)


def _restore(agent: ScanRDPG, config: TrainingConfig, folder: Path, data: Data) -> None:
    """Put a run back to its last checkpoint."""
    stored = read_json(folder / MANIFEST)["data"]
    for key in ("fingerprint", "train_sha256", "test_sha256"):
        if stored.get(key) != data.description.get(key):
            raise InputError(f"{folder}: found other pictures than the run began with; expected the same ones")
    if not (folder / CHECKPOINT).exists():
        print(f"{folder}: no checkpoint yet; starting at the beginning")
        return
    agent.load_training_state(read_tree(folder / CHECKPOINT))
    print(f"run folder: {folder}, going on from iteration {_iteration(agent, config)}")


def _iteration(agent: ScanRDPG, config: TrainingConfig) -> int:
    return agent.num_timesteps // _steps_per_iteration(config)


def _steps_per_iteration(config: TrainingConfig) -> int:
    return config.agent.n_environments * (config.geometry.n_segments - 1)


def _learn(agent: ScanRDPG, config: TrainingConfig, folder: Path) -> None:
    left = config.iterations * _steps_per_iteration(config) - agent.num_timesteps
    if left <= 0:
        return
    with _stop_on_interrupt() as stop:
        keeper = RunKeeper(config, folder, stop)
        agent.learn(left, callback=keeper, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]


@contextmanager
def _stop_on_interrupt() -> Iterator[dict[str, bool]]:
    """A flag that the first Ctrl-C raises; the second one ends the program at once."""
    stop = {"asked": False}

    def ask(number: int, frame: FrameType | None) -> None:
        if stop["asked"]:
            raise KeyboardInterrupt
        stop["asked"] = True

    previous = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)


class RunKeeper(BaseCallback):
    """Keeps a run's folder, log and progress bar, once in each iteration and between updates.

    Args:
        config: Settings of the run.
        folder: Its folder.
        stop: Flag that asks for a checkpoint and an end.
    """

    def __init__(self, config: TrainingConfig, folder: Path, stop: dict[str, bool]) -> None:
        super().__init__()
        self.config, self.folder, self.stop = config, folder, stop
        self.seconds_before = float(read_json(folder / MANIFEST)["seconds_training"])

    @property
    def agent(self) -> ScanRDPG:
        """The agent that learns."""
        if not isinstance(self.model, ScanRDPG):
            raise TypeError(f"agent: got a {type(self.model).__name__}; expected a ScanRDPG")
        return self.model

    def _on_training_start(self) -> None:
        self.began = time.monotonic()
        self.saved_at = self.first = _iteration(self.agent, self.config)
        self.bar = tqdm(
            total=self.config.iterations, initial=self.first, desc="training", unit="it", dynamic_ncols=True
        )

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        """Called between the update of one iteration and the scans of the next: the place for checkpoints."""
        iteration = _iteration(self.agent, self.config)
        if iteration == self.first:
            return
        self.bar.update(iteration - self.bar.n)
        self._log(iteration)
        if self.stop["asked"]:
            self.save(iteration)
            self.bar.close()
            raise KeyboardInterrupt(f"go on with --resume {self.folder}")
        if iteration - self.saved_at >= self.config.checkpoint_every:
            self.save(iteration)

    def _on_training_end(self) -> None:
        iteration = _iteration(self.agent, self.config)
        self.bar.update(iteration - self.bar.n)
        self._log(iteration)
        self.save(iteration)
        self.bar.close()

    def _log(self, iteration: int) -> None:
        logger = self.agent.logger
        if iteration % self.config.picture_every == 0 and self.agent.examples is not None:
            logger.record("pictures/scan_completion_target", Image(_strip(self.agent), "HW"))
        if iteration % self.config.log_every:
            return
        values = logger.name_to_value
        shown = {
            "loss": values["generator/loss"],
            "lr": values["generator/learning_rate"],
            "actor lr": values["train/actor_learning_rate"],
        }
        if "generator/loss_reference" in values:
            shown["spiral"] = values["generator/loss_reference"]
        self.bar.set_postfix({name: f"{float(value):.3g}" for name, value in shown.items()})
        if isinstance(self.agent.action_noise, object) and hasattr(self.agent.action_noise, "scale"):
            logger.record("train/noise_scale", self.agent.action_noise.scale)
        logger.dump(iteration)

    def save(self, iteration: int) -> None:
        """Write checkpoint, policy and generator, each by rename."""
        write_tree(self.folder / CHECKPOINT, self.agent.training_state())
        self.agent.save(self.folder / POLICY)
        save_generator(self.agent.generator, self.folder / GENERATOR, metadata={"iteration": iteration})
        seconds = self.seconds_before + time.monotonic() - self.began
        update_manifest(self.folder, iterations_done=iteration, seconds_training=round(seconds, 1))
        self.saved_at = iteration


def _strip(agent: ScanRDPG) -> np.ndarray:
    """Partial scans, completions and targets side by side as one grey picture, uint8."""
    if agent.examples is None:
        raise ValueError("examples: got none yet; expected an update first")
    scans, completions, targets = agent.examples
    rows = [torch.cat([s[0], c[0], t[0]], dim=1) for s, c, t in zip(scans, completions, targets, strict=True)]
    picture = torch.cat(rows).clamp(-1.0, 1.0).cpu().numpy()
    return np.rint((picture + 1.0) * 127.5).astype(np.uint8)
