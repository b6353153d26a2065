"""``train_generator``: train a generator to complete static scans, and compare it with interpolation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from stable_baselines3.common.logger import Image
from torch import Tensor

from adaptive_scan.commands.building import (
    TestCrops,
    family_contender,
    load_data,
    make_device,
    make_network,
    report_skipped,
    use_threads,
)
from adaptive_scan.commands.comparing import print_comparison
from adaptive_scan.commands.errors import refusals_as_input_errors
from adaptive_scan.commands.folders import GENERATOR, check_out, update_manifest
from adaptive_scan.commands.generator_config import GeneratorConfig
from adaptive_scan.commands.keeping import (
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
from adaptive_scan.evaluation import Comparison, compare_scans
from adaptive_scan.generators import GeneratorTrainer, load_generator, make_completer, save_generator

_N_PICTURES = 4


def train_generator_command(config: GeneratorConfig) -> Path:
    """Train a generator on a mixture of static scans, and compare it with interpolation on held-out crops.

    Args:
        config: Settings; ``resume`` names the folder of a run to go on with.

    Returns:
        The run folder.

    Raises:
        InputError: If settings, pictures or folders cannot be used.
        MicrographError: If a file of micrographs cannot be used.
        TrainingFailedError: If training diverges.
        KeyboardInterrupt: After Ctrl-C, with a line that says how to go on.
    """
    check_out(config.out)
    device = make_device(config.device)
    use_threads(config.n_threads)
    data = load_data(config)
    report_skipped(data.skipped)
    kind = config.training.generator
    network = make_network(kind, config, n_channels=config.n_channels, n_levels=config.n_levels)
    with refusals_as_input_errors():
        trainer = GeneratorTrainer(
            network, data.train, config.geometry, config.training, device=device, acquisition=config.acquisition
        )
    folder = begin_folder(config, data.description, f"generator-{config.preset}-seed{config.seed}")
    update_manifest(folder, acquisition=config.acquisition)
    state = begin_state(config, folder)
    if state is not None:
        trainer.load_state_dict(state)
    with reporting_skipped(data, folder):
        _learn(trainer, config, folder)
    with finishing(folder):
        comparison = compare_generator(config, folder, data.test, device)
        print_comparison(
            comparison,
            folder,
            run=folder,
            micrographs=config.micrographs,
            acquisition=config.acquisition,
            seed=0,
        )
    return folder


def _learn(trainer: GeneratorTrainer, config: GeneratorConfig, folder: Path) -> None:
    """Train up to the number of updates, or until Ctrl-C."""
    if trainer.step >= config.training.n_updates:
        return
    if trainer.step:
        print(f"going on from update {trainer.step}", flush=True)
    with stopping_cleanly(folder) as stop, failing_in_one_line(folder):
        keeper = _GeneratorKeeper(trainer, config, folder, stop)
        try:
            keeper.run()
        finally:
            keeper.close()


class _GeneratorKeeper:
    """Runs the updates and keeps folder, log and progress bar.

    Args:
        trainer: Makes the updates.
        config: Settings.
        folder: Run folder.
        stop: Flag that asks for a checkpoint and an end.
    """

    def __init__(self, trainer: GeneratorTrainer, config: GeneratorConfig, folder: Path, stop: Stop) -> None:
        self.trainer, self.config, self.folder = trainer, config, folder
        self.logger = make_logger(folder, trainer.step)
        self.losses: list[Tensor] = []
        self.keeper = Keeper(
            folder,
            total=config.training.n_updates,
            first=trainer.step,
            checkpoint_every=config.checkpoint_every,
            stop=stop,
            save=self._save,
            state=trainer.state_dict,
            log=self._log,
        )

    def run(self) -> None:
        """Make the updates that are left."""
        while self.trainer.step < self.config.training.n_updates - 1:
            self.losses.append(self.trainer.update())
            self.keeper.reached(self.trainer.step)
        self.losses.append(self.trainer.update())
        self.keeper.finish(self.trainer.step)

    def close(self) -> None:
        """Close the log and leave the progress bar as it is."""
        self.logger.close()
        self.keeper.close()

    def _save(self, step: int) -> None:
        save_generator(self.trainer.network, self.folder / GENERATOR, metadata={"n_updates": step})

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
        self.logger.dump(step)
        return {"loss": losses.mean().item(), "lr": rate}

    def _pictures(self) -> np.ndarray:
        """Completions of the same few scans each time, drawn apart from those of training."""
        settings = dataclasses.replace(self.config.training, batch_size=_N_PICTURES, augment=False)
        crops, geometry, network = self.trainer.crops, self.trainer.geometry, self.trainer.network
        device, instrument = self.trainer.device, self.trainer.instrument
        apart = GeneratorTrainer(network, crops, geometry, settings, device=device, acquisition=instrument)
        scans, targets = apart.draw_batch()
        network.eval()
        with torch.no_grad():
            completions = network(scans)
        network.train()
        return picture_strip(scans, completions, targets)


def compare_generator(config: GeneratorConfig, folder: Path, test: TestCrops, device: torch.device) -> Comparison:
    """Held-out losses of the trained generator beside linear and nearest interpolation, for each family of scans."""
    names = list(dict.fromkeys([*config.training.scans, "spiral"]))
    completers = {
        "generator": load_generator(folder / GENERATOR, device=device),
        "linear": make_completer("linear"),
        "nearest": make_completer("nearest"),
    }
    return compare_scans(
        test.crops,
        test.micrographs,
        [family_contender(name, config.geometry) for name in names],
        completers,
        geometry=config.geometry,
        acquisition=config.acquisition,
        groups=test.groups,
        corners=test.corners,
        blur_targets=config.training.blur,
        second_reference="filling_path",
        progress=True,
    )
