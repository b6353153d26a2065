"""``compare BENCHMARK.json``: a benchmark from its file to its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from stable_baselines3.common.callbacks import BaseCallback

from adaptive_scan.agents import RDPG
from adaptive_scan.benchmark.analysis import analyse
from adaptive_scan.benchmark.definition import Benchmark, ScanEntry, check_competing
from adaptive_scan.benchmark.folder import OtherRunError, load_results
from adaptive_scan.benchmark.presets import preset_benchmark
from adaptive_scan.benchmark.run import complete_benchmark, run_benchmark
from adaptive_scan.benchmark.scan_kinds import BenchmarkCell, ScanKind
from adaptive_scan.commands.agent import make_agent
from adaptive_scan.commands.checkpoints import failing_in_one_line
from adaptive_scan.commands.command_options import BenchmarkConfig, ComparisonConfig, NewBenchmarkConfig, ReportConfig
from adaptive_scan.commands.compare_forms import CompareConfig
from adaptive_scan.commands.compare_run import compare_command
from adaptive_scan.commands.contenders import environment_settings
from adaptive_scan.commands.errors import settings_border
from adaptive_scan.commands.networks import make_device, use_threads
from adaptive_scan.commands.plugins import check_policy, load_completer, load_named_policy, source_hash
from adaptive_scan.commands.run_folder import POLICY
from adaptive_scan.commands.settings import TrainingConfig, preset_config
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation import Contender
from adaptive_scan.evaluation.results import Results
from adaptive_scan.files import replacing, write_json
from adaptive_scan.report.page import write_report
from adaptive_scan.scans import ScanGeometry

ANALYSIS = "analysis.json"


@dataclass(frozen=True)
class PolicyScan(ScanKind):
    """A user's policy.

    Attributes:
        factory: ``package.module:factory``; the factory is called without arguments.
    """

    factory: str

    def check(self, scan: str, geometry: ScanGeometry, benchmark: Benchmark) -> None:
        """See that the policy can be loaded, and let it scan two crops."""
        named = load_named_policy(self.factory)
        check_competing(benchmark, scan, named.effective_role)
        check_policy(self.factory, named, geometry, acquisition=benchmark.acquisition)

    def make(self, cell: BenchmarkCell) -> Contender:
        """The policy of the factory."""
        return load_named_policy(self.factory)


@dataclass(frozen=True)
class RecurrentScan(ScanKind):
    """The recurrent actor of ``train``, with the agent of its quick preset, on the cell's crops.

    Attributes:
        iterations: Iterations of training, each with new scans and one update.
        hidden_size: Units of the memory of actor and critic.
    """

    iterations: int = 2_000
    hidden_size: int = 64

    def check(self, scan: str, geometry: ScanGeometry, benchmark: Benchmark) -> None:
        """See that the settings of the training can be used."""
        self._training_config(geometry, benchmark.acquisition)

    def make(self, cell: BenchmarkCell) -> Contender:
        """The actor, trained by actor and critic."""
        config = self._training_config(cell.geometry, cell.acquisition)
        data = dataclasses.replace(config.data, blur=cell.blur)
        config = dataclasses.replace(config, seed=cell.seed, device=cast(Any, cell.device), data=data)
        file = cell.folder / POLICY
        if not file.exists():
            agent = make_agent(config, cell.train)
            per_iteration = config.agent.n_environments * (config.geometry.n_segments - 1)
            trying = _Trying(config.agent.try_every, per_iteration)
            agent.learn(self.iterations * per_iteration, callback=trying, log_interval=None)  # type: ignore[arg-type]
            with agent.using_best_actor(), replacing(file) as temporary:
                agent.save(temporary)
        policy = RDPG.load(file, device=cell.device)
        return Contender(cell.name, policy=policy, environment=environment_settings(config))

    def _training_config(self, geometry: ScanGeometry, acquisition: str) -> TrainingConfig:
        """The quick preset of ``train`` at a geometry."""
        quick = preset_config("quick")
        return dataclasses.replace(
            quick,
            iterations=self.iterations,
            acquisition=cast(Any, acquisition),
            geometry=geometry,
            agent=dataclasses.replace(quick.agent, hidden_size=self.hidden_size),
        )


class _Trying(BaseCallback):
    """Tries the actor against the best one so far, every so many iterations and at the end."""

    def __init__(self, try_every: int, per_iteration: int) -> None:
        super().__init__()
        self.try_every, self.per_iteration = try_every, per_iteration

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        iteration = self.num_timesteps // self.per_iteration
        if iteration and iteration % self.try_every == 0:
            self.model.try_actor()  # type: ignore[attr-defined]

    def _on_training_end(self) -> None:
        self.model.try_actor()  # type: ignore[attr-defined]


KINDS: dict[str, type[ScanKind]] = {"policy": PolicyScan, "rdpg": RecurrentScan}
"""Kinds of scans that only commands can prepare, beside `adaptive_scan.benchmark.scan_kinds.SCAN_KINDS`."""


def compare(config: CompareConfig) -> None:
    """What ``compare`` does, with a benchmark or with a run.

    Raises:
        SettingError: If settings, files or folders cannot be used.
        FileContentError: If a file is none of its kind.
        KeyboardInterrupt: After Ctrl-C, with a line that says how to go on.
    """
    if isinstance(config, ComparisonConfig):
        compare_command(config)
    elif isinstance(config, NewBenchmarkConfig):
        write_new(config)
    elif isinstance(config, ReportConfig):
        report_results(load_results(config.report), config.report)
    else:
        run(config)


def write_new(config: NewBenchmarkConfig) -> None:
    """Write a benchmark to begin with, and say what to do with it.

    Raises:
        SettingError: If the file is there already, or the pictures are too few.
        MicrographError: If a file of micrographs cannot be used.
    """
    if config.new.exists():
        raise SettingError(f"{config.new}: got something there already; expected a new file")
    micrographs, groups = (None if place is None else str(place) for place in (config.micrographs, config.groups))
    with settings_border():
        preset = preset_benchmark(config.preset, micrographs=micrographs, groups=groups, acquisition=config.acquisition)
    benchmark, _ = complete_benchmark(preset, KINDS)
    benchmark.write(config.new)
    print(f"written: {config.new}; edit it, and run it by adaptive-scan compare {config.new}")


def run(config: BenchmarkConfig) -> Results | None:
    """Run a benchmark, or what is left of it, and write its report once all seeds are done.

    Raises:
        SettingError: If settings, files or folders cannot be used.
        FileContentError: If a file is none of its kind.
        TrainingFailedError: If training diverges.
        KeyboardInterrupt: After Ctrl-C, with a line that says how to go on.
    """
    device = make_device(config.device)
    use_threads(config.n_threads)
    benchmark = found_at(Benchmark.read(config.benchmark), config.micrographs, config.groups)
    benchmark = with_own(benchmark, config.policies, config.completers)
    judges = [name for name in benchmark.completers if ":" in name]
    completers = {name: load_completer(name, image_size=benchmark.image_size, device=device)[1] for name in judges}
    out = Path("runs") / config.benchmark.stem if config.out is None else config.out
    if out.exists() and not out.is_dir():
        raise SettingError(f"{out}: got a file; expected a folder, or nothing")
    print(f"results folder: {out}", flush=True)
    try:
        with _asking_for_another_folder(config), failing_in_one_line(out):
            results = run_benchmark(
                benchmark,
                out,
                kinds=KINDS,
                completers=completers,
                device=str(device),
                only_seeds=config.only_seeds,
                made_with={name: source_hash(name) for name in (*_factories(benchmark), *judges)},
            )
        if results is None:
            print("stages of other seeds are not made yet; the same command goes on once they are")
            return None
        report_results(results, out)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"whole stages stand; the same command with --out {out} goes on") from interrupt
    return results


def _factories(benchmark: Benchmark) -> list[str]:
    """Modules and factories of the policies of a benchmark."""
    return [str(scan.settings.get("factory")) for scan in benchmark.scans if scan.kind == "policy"]


@contextmanager
def _asking_for_another_folder(config: BenchmarkConfig) -> Iterator[None]:
    """Say what to do where a folder is refused."""
    try:
        yield
    except OtherRunError as error:
        given = [option for option in ("policies", "completers") if getattr(config, option)]
        why = f": --{' and --'.join(given)} made it another benchmark" if given else ""
        raise SettingError(f"{error}; give another --out{why}") from error


def found_at(benchmark: Benchmark, micrographs: Path | None, groups: Path | None) -> Benchmark:
    """A benchmark whose micrographs lie elsewhere than its file says; its identity stays.

    Args:
        benchmark: The benchmark of the file.
        micrographs: Their file or folder here; None leaves both places.
        groups: CSV of their groups here; None where it lies beside them.

    Raises:
        SettingError: If there is nothing where the benchmark has its micrographs, it has none, or groups come alone.
    """
    if micrographs is None:
        if groups is not None:
            raise SettingError(f"--groups: got {groups} without --micrographs; expected both")
        place = benchmark.pictures.micrographs
        if place is not None and not Path(place).exists():
            raise SettingError(f"{place}: got no micrographs where the benchmark says; expected --micrographs PATH")
        return benchmark
    if benchmark.pictures.micrographs is None:
        raise SettingError(f"--micrographs: got {micrographs}; expected none, for this benchmark makes its pictures")
    csv = None if groups is None else str(groups)
    pictures = dataclasses.replace(benchmark.pictures, micrographs=str(micrographs), groups=csv)
    return dataclasses.replace(benchmark, pictures=pictures)


def with_own(benchmark: Benchmark, policies: Sequence[str], completers: Sequence[str]) -> Benchmark:
    """A benchmark with the policies and completers of a command line, which count in its identity.

    Args:
        benchmark: The benchmark of the file.
        policies: Each as package.module:factory, whose factory gives the scan its name.
        completers: In the same form.

    Raises:
        SettingError: If one of them is in the benchmark already.
    """
    scans = tuple(ScanEntry(name.rpartition(":")[2], "policy", {"factory": name}) for name in policies)
    with settings_border():
        return dataclasses.replace(
            benchmark,
            scans=(*benchmark.scans, *scans),
            completers=(*benchmark.completers, *completers),
        )


def report_results(results: Results, folder: Path) -> None:
    """Analyse results, write ``analysis.json``, the report and its figures, and say the verdicts."""
    analysis = analyse(results)
    write_json(folder / ANALYSIS, analysis.as_dict())
    files = write_report(results, analysis, folder)
    for verdict in analysis.verdicts:
        print(verdict)
    print(f"identity: {results.identity}")
    print(f"written: {folder / ANALYSIS}, {files[0]} and {len(files) - 1} figures")
