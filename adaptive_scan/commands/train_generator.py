"""``train-generator``: train a generator to complete scans, and compare it with interpolation."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from stable_baselines3.common.logger import Image
from torch import Tensor, nn

from adaptive_scan.commands.checkpoints import (
    Keeper,
    Stop,
    begin_folder,
    begin_state,
    failing_in_one_line,
    finishing,
    make_logger,
    picture_strip,
    reporting_skipped,
    stopping_cleanly,
)
from adaptive_scan.commands.compare_run import print_comparison
from adaptive_scan.commands.contenders import adaptive_contender, family_contender
from adaptive_scan.commands.crops import Data, load_data, report_skipped
from adaptive_scan.commands.errors import TrainingFailedError
from adaptive_scan.commands.generator_settings import GeneratorConfig
from adaptive_scan.commands.networks import make_device, make_network, use_threads
from adaptive_scan.commands.run_folder import CHECKPOINT, GENERATOR, check_out, update_manifest
from adaptive_scan.commands.runs import Run, load_run
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation import Comparison, Contender, compare_scans
from adaptive_scan.evaluation.contenders import Measurement, measure
from adaptive_scan.generators import (
    GeneratorTrainer,
    complete,
    load_generator,
    make_completer,
    read_generator_header,
    save_generator,
)
from adaptive_scan.generators.adversarial_training import AdversarialTrainer
from adaptive_scan.generators.distributed import Processes, joined_processes, leave_processes
from adaptive_scan.generators.families import PathMaker, is_adaptive
from adaptive_scan.generators.normalisation import freeze_normalisation

_N_PICTURES = 4


def train_generator(config: GeneratorConfig) -> Path:
    """Train a generator on a mixture of scans, and compare it with interpolation on held-out crops.

    Under ``torchrun`` all its processes train together; the first writes the files, talks and compares.

    Args:
        config: Settings; ``resume`` names the folder of a run to go on with.

    Returns:
        The run folder.

    Raises:
        SettingError: If settings, pictures or folders cannot be used.
        MicrographError: If a file of micrographs cannot be used.
        GeneratorFileError: If the generator to start from cannot be read.
        TrainingFailedError: If training diverges, or another process ended.
        KeyboardInterrupt: After Ctrl-C, with a line that says how to go on.
    """
    device = make_device(config.device)
    use_threads(config.n_threads)
    with joined_processes(cuda=device.type == "cuda") as processes, _talking_once(processes), _losing_others(processes):
        if processes.n_processes > 1 and device.type == "cuda":
            device = torch.device("cuda", processes.local_rank)
        return _train(config, device, processes)


def _train(config: GeneratorConfig, device: torch.device, processes: Processes) -> Path:
    if processes.is_first:
        check_out(config.out)
    data = load_data(config)
    report_skipped(data.skipped)
    run = None if config.policy is None else _policy_of(config.policy, config)
    trainer = _make_trainer(config, data, run, device, processes)
    folder, state = _begin(config, data, processes)
    if state is not None:
        trainer.load_state_dict(state)
    elif config.start_from is None:
        trainer.initialise()
    elif isinstance(trainer, AdversarialTrainer):
        trainer.initialise_auxiliary()
    processes.copy_from_first(trainer.network)
    with reporting_skipped(data, folder) if processes.is_first else contextlib.nullcontext():
        _learn(trainer, config, folder)
    leave_processes()
    if processes.is_first:
        with finishing(folder):
            _compare(config, folder, data, run, device)
    return folder


@contextlib.contextmanager
def _talking_once(processes: Processes) -> Iterator[None]:
    """Keep processes other than the first from printing what the first prints."""
    if processes.is_first:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextlib.contextmanager
def _losing_others(processes: Processes) -> Iterator[None]:
    """Say in one line that another process is gone, which messages between processes report at length.

    Raises:
        TrainingFailedError: In place of such a report.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error).lower()
        is_lost = isinstance(error, dist.DistError) or any(word in said for word in ("gloo", "connection", "peer"))
        if processes.n_processes == 1 or not is_lost:
            raise
        raise TrainingFailedError(
            f"process {processes.rank}: another process ended; what it said stands apart"
        ) from error


def _begin(config: GeneratorConfig, data: Data, processes: Processes) -> tuple[Path, dict[str, Any] | None]:
    """The folder of the run and the state to go on from, which the first process reads for all."""
    found: dict[str, Any] = {}
    if processes.is_first:
        start_from, policy = (
            None if place is None else place.absolute() for place in (config.start_from, config.policy)
        )
        config = dataclasses.replace(config, start_from=start_from, policy=policy)
        folder = begin_folder(config, config.seed, data.description, f"generator-{config.preset}-seed{config.seed}")
        update_manifest(folder, acquisition=config.acquisition, n_processes=processes.n_processes)
        found = {"folder": str(folder), "state": begin_state(config, folder)}
    found = processes.from_first(found)
    return Path(found["folder"]), found["state"]


def _make_trainer(
    config: GeneratorConfig, data: Data, run: Run | None, device: torch.device, processes: Processes
) -> GeneratorTrainer:
    """The trainer that the settings ask for, with a new network or the one to fine-tune.

    Raises:
        SettingError: If settings do not go together.
        GeneratorFileError: If the generator to start from cannot be read.
    """
    sizes = {name: getattr(config, name) for name in ("n_channels", "n_levels", "width", "factor")}
    network = make_network(config.training.generator, config, blurred=config.training.blur, **sizes)
    has_checkpoint = config.resume is not None and (config.resume / CHECKPOINT).exists()
    if config.start_from is not None and not has_checkpoint:
        _load_weights(network, config.start_from, config.training.generator)
    make: Callable[..., GeneratorTrainer] = GeneratorTrainer
    if config.needs_adversarial_trainer:
        make = functools.partial(AdversarialTrainer, adversarial=config.adversarial)
    return make(
        network,
        data.train,
        config.geometry,
        config.training,
        device=device,
        acquisition=config.acquisition,
        paths=None if run is None else _paths_of(run, config),
        processes=processes,
    )


def _load_weights(network: nn.Module, path: Path, kind: str) -> None:
    """Fill a network with the weights of a generator file; normalisations that a game froze there learn again.

    Raises:
        SettingError: If the file holds another network.
        GeneratorFileError: If it cannot be read.
    """
    header = read_generator_header(path)
    found, wanted = (header["kind"], header["config"]), (kind, network.config)
    if found != wanted:
        said, expected = (f"a {kind} generator with {config or 'no settings'}" for kind, config in (found, wanted))
        raise SettingError(f"{path}: got {said}; expected {expected}")
    network.load_state_dict(load_generator(path).state_dict())
    freeze_normalisation(network, frozen=False)


def _policy_of(folder: Path, config: GeneratorConfig) -> Run:
    """The run whose actor makes adaptive scans.

    Raises:
        SettingError: If there is none, or its scans are of another geometry.
    """
    run = load_run(folder)
    if run.config.geometry != config.geometry:
        raise SettingError(f"{folder}: got a policy for {run.config.geometry}; expected one for {config.geometry}")
    return run


def _paths_of(run: Run, config: GeneratorConfig) -> dict[str, PathMaker]:
    """What makes the scans of adaptive families: the actor, without exploration, at the run's instrument."""
    contender = adaptive_contender(run.config, run.policy)

    def make(crops: np.ndarray, rng: np.random.Generator) -> Measurement:
        seed = int(rng.integers(2**31))
        return measure(contender, crops, config.geometry, acquisition=config.acquisition, seed=seed)

    return {name: make for name in config.training.scans if is_adaptive(name)}


def _learn(trainer: GeneratorTrainer, config: GeneratorConfig, folder: Path) -> None:
    """Train up to the number of updates, or until somebody stops it."""
    if trainer.step >= config.training.n_updates:
        return
    if trainer.step:
        print(f"going on from update {trainer.step}", flush=True)
    with _stopping(folder, trainer.processes) as stop, failing_in_one_line(folder):
        if trainer.processes.is_first:
            keeper = _GeneratorKeeper(trainer, config, folder, stop)
            try:
                keeper.run()
            finally:
                keeper.close()
        else:
            _follow(trainer, stop)


def _stopping(folder: Path, processes: Processes) -> contextlib.AbstractContextManager[Stop]:
    return stopping_cleanly(folder) if processes.n_processes == 1 else _stopping_together()


@contextlib.contextmanager
def _stopping_together() -> Iterator[Stop]:
    """A flag that Ctrl-C or SIGTERM raises; ``torchrun`` passes either on to every process, Ctrl-C a second time.

    A second signal therefore says nothing new. ``torchrun`` itself kills what has not ended after half a minute.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked = True

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _follow(trainer: GeneratorTrainer, stop: Stop) -> None:
    """Make the updates that are left, in a process that keeps no folder."""
    while trainer.step < trainer.settings.n_updates:
        trainer.update()
        if trainer.step < trainer.settings.n_updates and trainer.processes.any(stop.asked):
            # The first one writes the checkpoint; until then none may end, or torchrun would end all.
            trainer.processes.wait()
            raise KeyboardInterrupt
    trainer.processes.wait()


class _GeneratorKeeper:
    """Runs the updates and keeps folder, log and progress bar.

    Args:
        trainer: Makes the updates.
        config: Settings.
        folder: Run folder.
        stop: Flag that asks for a checkpoint and an end, in this process.
    """

    def __init__(self, trainer: GeneratorTrainer, config: GeneratorConfig, folder: Path, stop: Stop) -> None:
        self.trainer, self.config, self.folder, self.asked = trainer, config, folder, stop
        # A signal may come at any moment; among several processes only what all agreed on may end the loop.
        self.agreed = stop if trainer.processes.n_processes == 1 else Stop()
        self.logger = make_logger(folder, trainer.step)
        self.losses: list[Tensor] = []
        self.keeper = Keeper(
            folder,
            total=config.training.n_updates,
            first=trainer.step,
            checkpoint_every=config.checkpoint_every,
            stop=self.agreed,
            save=self._save,
            state=trainer.state_dict,
            log=self._log,
        )

    def run(self) -> None:
        """Make the updates that are left."""
        processes = self.trainer.processes
        try:
            while self.trainer.step < self.config.training.n_updates - 1:
                self.losses.append(self.trainer.update())
                if processes.n_processes > 1:
                    self.agreed.asked = processes.any(self.asked.asked)
                self.keeper.reached(self.trainer.step)
            self.losses.append(self.trainer.update())
            # Nothing follows in which the others take part, so they need not agree.
            self.agreed.asked = self.asked.asked
            self.keeper.finish(self.trainer.step)
        except KeyboardInterrupt:
            processes.wait()
            raise
        processes.wait()

    def close(self) -> None:
        """Close the log and leave the progress bar as it is."""
        self.logger.close()
        self.keeper.close()

    def _save(self, step: int) -> None:
        save_generator(self.trainer.saved_network, self.folder / GENERATOR, metadata={"n_updates": step})

    def _log(self, step: int) -> dict[str, float] | None:
        if step % self.config.picture_every == 0:
            self.logger.record("pictures/scan_completion_target", Image(self._pictures(), "HW"))
        if step % self.config.log_every:
            return None
        losses = torch.stack(self.losses)
        self.losses.clear()
        rate = self.config.training.learning_rate_at(step - 1)
        self.logger.record("generator/loss", losses.mean().item())
        self.logger.record("generator/loss_std", losses.std(unbiased=False).item())
        self.logger.record("generator/learning_rate", rate)
        self._log_priorities()
        if isinstance(self.trainer, AdversarialTrainer):
            for name, value in self.trainer.report.items():
                self.logger.record(f"adversarial/{name}", value)
        self.logger.dump(step)
        return {"loss": losses.mean().item(), "lr": rate}

    def _log_priorities(self) -> None:
        if self.config.training.prioritisation == "none":
            return
        for coverage, priority in zip(self.trainer.coverages, self.trainer.priorities().tolist(), strict=True):
            self.logger.record(f"generator/priority_1_in_{1.0 / coverage:.4g}", priority)

    def _pictures(self) -> np.ndarray:
        """Completions of the same few scans each time, drawn apart from those of training."""
        settings = dataclasses.replace(
            self.config.training,
            batch_size=_N_PICTURES,
            augment=False,
            sampling="random",
            compile=False,
            ema_decay=0.0,
            adversarial_share=0.0,
        )
        trainer, network = self.trainer, self.trainer.saved_network
        apart = GeneratorTrainer(
            trainer.network,
            trainer.crops,
            trainer.geometry,
            settings,
            device=trainer.device,
            acquisition=trainer.instrument,
            paths=trainer.paths,
        )
        scans, targets = apart.draw_batch()
        return picture_strip(scans, complete(network, scans), targets)


def _compare(config: GeneratorConfig, folder: Path, data: Data, run: Run | None, device: torch.device) -> None:
    """Compare the trained generator, write and print what was found."""
    adaptive = None
    if run is not None and run.manifest["data"].get("test") == data.description.get("test"):
        adaptive = adaptive_contender(run.config, run.policy)
    elif run is not None:
        print(f"left out: the adaptive scans, for {run.folder} held out other pictures than this run")
    if config.training.coverages:
        print(f"compared at the geometry's dose alone, a coverage of 1/{1.0 / config.geometry.nominal_coverage:.4g}")
    print_comparison(
        compare_generator(config, folder, data, device, adaptive=adaptive),
        folder,
        run=folder,
        micrographs=config.micrographs,
        acquisition=config.acquisition,
        seed=0,
    )


def compare_generator(
    config: GeneratorConfig, folder: Path, data: Data, device: torch.device, *, adaptive: Contender | None = None
) -> Comparison:
    """Held-out losses of the trained generator beside linear and nearest interpolation, for each family of scans.

    All scans have the geometry's dose, whatever coverages were trained on; ``compare-completers`` compares several.
    """
    names = [name for name in dict.fromkeys([*config.training.scans, "spiral"]) if not is_adaptive(name)]
    contenders = [family_contender(name, config.geometry) for name in names]
    completers = {
        "generator": load_generator(folder / GENERATOR, device=device),
        "linear": make_completer("linear"),
        "nearest": make_completer("nearest"),
    }
    test = data.test
    return compare_scans(
        test.crops,
        test.micrographs,
        contenders if adaptive is None else [*contenders, adaptive],
        completers,
        geometry=config.geometry,
        acquisition=config.acquisition,
        groups=test.groups,
        corners=test.corners,
        blur_targets=config.training.blur,
        second_reference="filling_path",
        progress=True,
    )
