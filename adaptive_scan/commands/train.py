"""``train``: train an actor and a generator together, and compare the result with static scans."""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Image

from adaptive_scan.agents import ScanRDPG
from adaptive_scan.agents.noise import ExplorationNoise
from adaptive_scan.commands.agent import make_agent
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
from adaptive_scan.commands.compare_run import compare_run, print_comparison
from adaptive_scan.commands.crops import load_data, report_skipped
from adaptive_scan.commands.networks import make_device, use_threads
from adaptive_scan.commands.run_folder import GENERATOR, POLICY, check_out, update_manifest
from adaptive_scan.commands.runs import load_run
from adaptive_scan.commands.settings import TrainingConfig
from adaptive_scan.generators import save_generator


def train(config: TrainingConfig) -> Path:
    """Train an actor that steers the probe and a generator that completes what it measured, then compare scans.

    Args:
        config: Settings of the run; ``resume`` names the folder of one to go on with.

    Returns:
        The run folder.

    Raises:
        SettingError: If settings, pictures or folders cannot be used.
        MicrographError: If a file of micrographs cannot be used.
        TrainingFailedError: If training diverges.
        KeyboardInterrupt: After Ctrl-C, with a line that says how to go on.
    """
    check_out(config.out)
    device = make_device(config.device)
    use_threads(config.n_threads)
    data = load_data(config)
    report_skipped(data.skipped)
    agent = make_agent(config, data.train)
    folder = begin_folder(config, config.seed, data.description, f"{config.preset}-seed{config.seed}")
    update_manifest(folder, acquisition=config.acquisition)
    state = begin_state(config, folder)
    if state is not None:
        agent.load_training_state(state)
    with reporting_skipped(data, folder):
        _learn(agent, config, folder)
    with finishing(folder):
        comparison = compare_run(load_run(folder, device), data.test)
        print_comparison(
            comparison,
            folder,
            run=folder,
            micrographs=config.micrographs,
            acquisition=config.acquisition,
            seed=0,
        )
    return folder


def _learn(agent: ScanRDPG, config: TrainingConfig, folder: Path) -> None:
    """Train up to the number of iterations, or until Ctrl-C."""
    per_iteration = config.agent.n_environments * (config.geometry.n_segments - 1)
    done = agent.num_timesteps // per_iteration
    if done >= config.iterations:
        return
    if done:
        print(f"going on from iteration {done}", flush=True)
    logger = make_logger(folder, done)
    agent.set_logger(logger)
    left = (config.iterations - done) * per_iteration
    with stopping_cleanly(folder) as stop, failing_in_one_line(folder):
        keeper = RunKeeper(config, folder, stop, per_iteration)
        try:
            agent.learn(left, callback=keeper, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]
        finally:
            logger.close()
            keeper.close()


class RunKeeper(BaseCallback):
    """Keeps a run's folder, log and progress bar, between the update of one iteration and the scans of the next.

    Args:
        config: Settings of the run.
        folder: Its folder.
        stop: Flag that asks for a checkpoint and an end.
        per_iteration: Steps of all environments together in an iteration.
    """

    def __init__(self, config: TrainingConfig, folder: Path, stop: Stop, per_iteration: int) -> None:
        super().__init__()
        self.config, self.folder, self.stop, self.per_iteration = config, folder, stop, per_iteration
        self.keeper: Keeper | None = None  # before training has begun

    @property
    def agent(self) -> ScanRDPG:
        """The agent that learns."""
        if not isinstance(self.model, ScanRDPG):
            raise TypeError(f"agent: got a {type(self.model).__name__}; expected a ScanRDPG")
        return self.model

    @property
    def iteration(self) -> int:
        """Iterations made so far."""
        return self.agent.num_timesteps // self.per_iteration

    @property
    def _kept(self) -> Keeper:
        if self.keeper is None:
            raise RuntimeError("keeper: got none before training; expected that training has begun")
        return self.keeper

    def _on_training_start(self) -> None:
        self.first = self.iteration
        self.keeper = Keeper(
            self.folder,
            total=self.config.iterations,
            first=self.first,
            checkpoint_every=self.config.checkpoint_every,
            stop=self.stop,
            save=self._save,
            state=self.agent.training_state,
            log=self._log,
        )

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        """The place for checkpoints: an update is done and no scan is under way."""
        if self.iteration > self.first:
            self._try()
            self._kept.reached(self.iteration)

    def _on_training_end(self) -> None:
        self._try(last=True)
        self._kept.finish(self.iteration)

    def _try(self, *, last: bool = False) -> None:
        """Try the actor against the best one so far, if that is due."""
        if last or self.iteration % self.config.agent.try_every == 0:
            loss, best_loss = self.agent.try_actor()
            self.agent.logger.record("trial/loss", loss)
            self.agent.logger.record("trial/loss_best", best_loss)

    def close(self) -> None:
        """Leave the progress bar as it is, where training got so far as to have one."""
        if self.keeper is not None:
            self.keeper.close()

    def _save(self, iteration: int) -> None:
        with self.agent.using_best_actor():
            self.agent.save(self.folder / POLICY)
        save_generator(self.agent.generator, self.folder / GENERATOR, metadata={"iteration": iteration})

    def _log(self, iteration: int) -> dict[str, float] | None:
        logger = self.agent.logger
        if iteration % self.config.picture_every == 0 and self.agent.examples is not None:
            logger.record("pictures/scan_completion_target", Image(picture_strip(*self.agent.examples), "HW"))
        if iteration % self.config.log_every:
            return None
        if isinstance(self.agent.action_noise, ExplorationNoise):
            logger.record("train/noise_scale", self.agent.action_noise.scale)
        names = {
            "loss": "generator/loss",
            "static": "generator/loss_reference",
            "generator lr": "generator/learning_rate",
            "actor lr": "train/actor_learning_rate",
            "critic lr": "train/critic_learning_rate",
        }
        shown = {name: logger.name_to_value[key] for name, key in names.items() if key in logger.name_to_value}
        logger.dump(iteration)
        return shown
