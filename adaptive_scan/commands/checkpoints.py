"""What happens between two steps of any training: progress bar, log, checkpoints, and stopping on Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from adaptive_scan.commands.crops import Data, report_skipped
from adaptive_scan.commands.errors import TrainingFailedError
from adaptive_scan.commands.options import RunOptions
from adaptive_scan.commands.run_folder import (
    CHECKPOINT,
    MANIFEST,
    TENSORBOARD,
    check_same_data,
    make_run_folder,
    read_json,
    update_manifest,
    write_config,
    write_manifest,
)
from adaptive_scan.trees import read_tree, write_tree


@dataclass
class Stop:
    """Whether somebody pressed Ctrl-C."""

    asked: bool = False


@contextmanager
def stopping_cleanly(folder: Path) -> Iterator[Stop]:
    """A flag that the first Ctrl-C raises, for training to save and end; the second one ends the block at once.

    Args:
        folder: Run folder, for the line that says how to go on.

    Yields:
        The flag.

    Raises:
        KeyboardInterrupt: After the second Ctrl-C, with that line.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt(f"the last checkpoint stands; go on with --resume {folder}")
        stop.asked = True

    previous = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def finishing(folder: Path) -> Iterator[None]:
    """The comparison after training: its time goes to the manifest, and Ctrl-C says that training is done.

    Raises:
        KeyboardInterrupt: With that line.
    """
    began = time.monotonic()
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(_done(folder)) from interrupt
    update_manifest(folder, seconds_comparison=round(time.monotonic() - began, 1))


def _done(folder: Path) -> str:
    return f"training is done; for the comparison go on with --resume {folder}"


@contextmanager
def failing_in_one_line(folder: Path) -> Iterator[None]:
    """Turn losses that are not finite into one line that says what may help.

    Raises:
        TrainingFailedError: In place of a FloatingPointError.
    """
    try:
        yield
    except FloatingPointError as error:
        hint = "training diverged; a lower learning rate may help"
        raise TrainingFailedError(f"{folder}: got that {error}; {hint}") from error


def begin_folder(config: RunOptions, seed: int, data: Mapping[str, Any], name: str) -> Path:
    """The folder of a run, a new one or the one to go on with, described by its settings and manifest.

    Raises:
        SettingError: If the folder cannot be used, or the pictures are others than the run began with.
    """
    folder = make_run_folder(config.out, name) if config.resume is None else config.resume
    # A run killed at its very beginning has settings and no manifest.
    if (folder / MANIFEST).exists():
        check_same_data(folder, data)
        write_config(folder, config)
    else:
        write_config(folder, config)
        write_manifest(folder, seed=seed, data=data, n_threads=torch.get_num_threads())
    print(f"run folder: {folder}", flush=True)
    return folder


def begin_state(config: RunOptions, folder: Path) -> dict[str, Any] | None:
    """State of the last checkpoint of a run to go on with; None for a run that has none.

    Raises:
        TreeFileError: If the checkpoint is broken.
    """
    if config.resume is None:
        return None
    if not (folder / CHECKPOINT).exists():
        print("no checkpoint yet; starting at the beginning", flush=True)
        return None
    state: dict[str, Any] = read_tree(folder / CHECKPOINT)
    return state


class _ResumedTensorBoard(TensorBoardOutputFormat):
    """TensorBoard output that hides what a killed run wrote after the checkpoint that is gone on from."""

    def __init__(self, folder: Path, first_step: int) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=first_step)
        self._is_closed = False


@contextmanager
def reporting_skipped(data: Data, folder: Path) -> Iterator[None]:
    """Report the files that the block finds bad and skips, in the terminal and in the manifest."""
    n_before = len(data.skipped)
    try:
        yield
    finally:
        if len(data.skipped) > n_before:
            report_skipped(data.skipped[n_before:])
            skipped = [str(error) for error in data.skipped]
            update_manifest(folder, data={**data.description, "skipped": skipped})


def make_logger(folder: Path, first_step: int) -> Logger:
    """Logger of a run to TensorBoard alone.

    Args:
        folder: Run folder.
        first_step: Steps made before; entries after them, of a run that was killed, are hidden.
    """
    place = folder / TENSORBOARD
    return Logger(str(place), [_ResumedTensorBoard(place, first_step + 1)])


def picture_strip(partial_scans: Tensor, completions: Tensor, targets: Tensor) -> np.ndarray:
    """Partial scans, completions and targets side by side as one grey picture.

    Args:
        partial_scans: Shape (n_scans, 2, S, S).
        completions: Shape (n_scans, 1, S, S).
        targets: Shape (n_scans, 1, S, S).

    Returns:
        Shape (n_scans * S, 3 * S), uint8; -1 is black and 1 is white.

    Example:
        >>> picture_strip(torch.zeros(2, 2, 4, 4), -torch.ones(2, 1, 4, 4), torch.ones(2, 1, 4, 4))[0, ::4].tolist()
        [128, 0, 255]
    """
    columns = (partial_scans[:, 0], completions[:, 0], targets[:, 0])
    picture = torch.cat(columns, dim=2).flatten(0, 1).clamp(-1.0, 1.0).cpu().numpy()
    return np.rint((picture + 1.0) * 127.5).astype(np.uint8)


class Keeper:
    """Keeps the folder, the log and the progress bar of a training.

    Args:
        folder: Run folder.
        total: Iterations of the whole training.
        first: Iterations made before.
        checkpoint_every: Iterations between checkpoints.
        stop: Flag that asks for a checkpoint and an end.
        save: Writes the results so far, given the number of iterations; each file by rename.
        state: Everything that training goes on from.
        log: Writes the log of an iteration, and gives the values that the bar shows, if it is due.
    """

    def __init__(
        self,
        folder: Path,
        *,
        total: int,
        first: int,
        checkpoint_every: int,
        stop: Stop,
        save: Callable[[int], None],
        state: Callable[[], dict[str, Any]],
        log: Callable[[int], Mapping[str, float] | None],
    ) -> None:
        self.folder, self.checkpoint_every, self.stop = folder, checkpoint_every, stop
        self._save_results, self._state, self._log = save, state, log
        self.seconds_before = float(read_json(folder / MANIFEST).get("seconds_training", 0.0))
        self.began = time.monotonic()
        self.saved_at = first
        # A terminal redraws the bar in place; in a log file every update is one more line.
        often = 0.1 if sys.stderr.isatty() else 10.0
        self.bar = tqdm(total=total, initial=first, desc="training", unit="it", dynamic_ncols=True, mininterval=often)

    def reached(self, iteration: int) -> None:
        """Note that so many iterations are made, and save if that is due.

        Raises:
            KeyboardInterrupt: After a checkpoint, if a stop was asked for.
        """
        self._show(iteration)
        if self.stop.asked or iteration - self.saved_at >= self.checkpoint_every:
            self.save(iteration)
        if self.stop.asked:
            raise KeyboardInterrupt(f"saved after {iteration} iterations; go on with --resume {self.folder}")

    def finish(self, iteration: int) -> None:
        """Note the end of training.

        Raises:
            KeyboardInterrupt: If a stop was asked for.
        """
        self._show(iteration)
        self.save(iteration)
        if self.stop.asked:
            raise KeyboardInterrupt(_done(self.folder))

    def close(self) -> None:
        """Leave the progress bar as it is."""
        self.bar.close()

    def save(self, iteration: int) -> None:
        """Write the results and then the checkpoint: where a checkpoint is, the results of that iteration are."""
        self._save_results(iteration)
        write_tree(self.folder / CHECKPOINT, self._state())
        seconds = self.seconds_before + time.monotonic() - self.began
        update_manifest(self.folder, iterations_done=iteration, seconds_training=round(seconds, 1))
        self.saved_at = iteration

    def _show(self, iteration: int) -> None:
        self.bar.update(iteration - self.bar.n)
        shown = self._log(iteration)
        if shown is not None:
            self.bar.set_postfix({name: f"{float(value):.3g}" for name, value in shown.items()}, refresh=False)
