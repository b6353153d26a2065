"""A benchmark from its pictures to its results, stage by stage.

First everything is prepared for all seeds, on crops to train and to validate on: networks, scans, and the choice of the
best static scan. Only then are crops to test on cut at all, measured, completed and scored.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import nn

from adaptive_scan.acquisition import Instrument, ScanCosts, make_instrument
from adaptive_scan.benchmark.definition import COMPETING_ROLES, DENOISED, DENSE, OWN, SHARED, Benchmark, check_competing
from adaptive_scan.benchmark.folder import (
    RunFolder,
    Stage,
    begin_run,
    merge_timings,
    read_all_sums,
    read_examples,
    read_rows,
    run_stages,
    write_examples,
    write_results,
    write_rows,
    write_sums,
)
from adaptive_scan.benchmark.networks import fine_tune, train_base, train_predictor
from adaptive_scan.benchmark.pictures import Fold, PictureBank, make_fold, open_pictures
from adaptive_scan.benchmark.scan_kinds import (
    SCAN_KINDS,
    BenchmarkCell,
    KindTable,
    check_scans,
    find_kind,
    is_of_other_crops,
    resolve_scans,
)
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation import metrics
from adaptive_scan.evaluation.adaptivity import adaptivity
from adaptive_scan.evaluation.budget import Budget
from adaptive_scan.evaluation.contenders import VALIDATION, Contender, Measurement
from adaptive_scan.evaluation.controls import of_other_crops
from adaptive_scan.evaluation.crops import CutCrops
from adaptive_scan.evaluation.dense_raster import DenseRaster
from adaptive_scan.evaluation.results import ExampleScans, Results
from adaptive_scan.evaluation.rows import N_AT_ONCE, RowNames, example_crops, make_rows, make_sums, measure_all
from adaptive_scan.files import write_json, write_npz
from adaptive_scan.generators import Completer, complete, load_generator, make_completer, save_generator
from adaptive_scan.generators.uncertainty import CompleterWithError, load_error_head, save_error_head
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import ScanGeometry, partial_scans

_OTHER_CROPS, _ADAPTIVITY = 2, 3  # streams of random numbers
_N_REPEATS, _REPEAT = 3, 10_000  # scans of each crop under other noise, and how far apart their seeds are


def run_benchmark(
    benchmark: Benchmark,
    folder: str | os.PathLike[str],
    *,
    kinds: KindTable | None = None,
    completers: Mapping[str, Completer] | None = None,
    device: str = "cpu",
    progress: bool = True,
    only_seeds: Sequence[int] = (),
    made_with: Mapping[str, str] | None = None,
) -> Results | None:
    """Run a benchmark, or what is left of it, and collect its results.

    Before anything is made, every scan is given all its settings, the defaults among them (see
    `complete_benchmark`), so that the results say them and their identity holds them, and is checked at every geometry.

    Every stage leaves a file that appears by rename; a run that was killed goes on behind its last whole stage when it
    is called again, and ends as it would have without.

    Args:
        benchmark: What is compared.
        folder: Where everything goes: a new or empty folder, or that of a run of the same benchmark.
        kinds: Further kinds of scans beside `adaptive_scan.benchmark.scan_kinds.SCAN_KINDS`, each a
            `adaptive_scan.benchmark.scan_kinds.ScanKind`. Those of the command, "rdpg" (in the preset "full") and
            "policy", are `adaptive_scan.commands.compare.KINDS`.
        completers: Further completers by the names that the benchmark has for them.
        device: Where networks are trained and run.
        progress: Whether to show a progress bar.
        only_seeds: Seeds whose stages are made, so that several processes or machines with one folder can share the
            work; without any, all. Until all seeds are prepared, a call prepares those; after that, one compares them.
            The call that makes the last stage of all collects the results.
        made_with: What the numbers are made with beside this package, its libraries and the device, such as hashes of
            one's own modules. A run that goes on with something else says so in a line, and its results name both.

    Returns:
        The results, which `adaptive_scan.benchmark.folder.load_results` reads again; None where stages of other
        seeds are not made yet.

    Raises:
        OtherRunError: If the folder is that of another benchmark, or has something else in it.
        SettingError: If a seed is none of the benchmark's, a kind, a completer or a setting cannot be used, there are
            too few groups, the pictures are others than it was written for, or a scan exceeds its budget.
        MicrographError: If a file of micrographs cannot be used.

    Example:
        >>> import tempfile
        >>> from adaptive_scan.benchmark.folder import load_results
        >>> from adaptive_scan.benchmark.definition import GeneratorPlan, PictureSettings, ScanEntry
        >>> from adaptive_scan.scans import ScanGeometry
        >>> benchmark = Benchmark(
        ...     "tiny",
        ...     geometries={"1/16": ScanGeometry(16, 4, 4)},
        ...     scans=(ScanEntry("spiral", "static"), ScanEntry("grid", "static")),
        ...     pictures=PictureSettings(n_crops=10),
        ...     completers=("linear",),
        ...     generator=GeneratorPlan(n_updates=1, batch_size=2, n_channels=4),
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     results = run_benchmark(benchmark, folder, progress=False)
        ...     again = load_results(folder)
        >>> results.rows.num_rows  # two crops of a fold, two scans
        4
        >>> from adaptive_scan.benchmark.analysis import analyse
        >>> analyse(again).verdicts[0]
        'No adaptive scan was compared with a static one.'
    """
    own_seeds = _own_seeds(benchmark, only_seeds)
    _check_completers(benchmark, completers or {})
    benchmark, bank = complete_benchmark(benchmark, kinds)
    files = RunFolder(Path(folder))
    begin_run(files, benchmark, {"device": device, **(made_with or {})})
    run = Run(benchmark, bank, files, {**SCAN_KINDS, **(kinds or {})}, completers or {}, device)
    seeds = [SeedStages(run, seed) for seed in benchmark.seeds]

    def are_made(title: str, stages: Mapping[int, Sequence[Stage]]) -> bool:
        """Make the stages of the own seeds; whether those of the others, which have other processes, are made too."""
        run_stages({seed: stages[seed] for seed in own_seeds}, files, progress=progress, title=title)
        return all(stage.file.exists() for of_seed in stages.values() for stage in of_seed)

    if not are_made("preparing", {each.seed: each.preparation() for each in seeds}):
        return None
    best = best_static(seeds)
    if not are_made("comparing", {each.seed: each.comparison(best) for each in seeds}):
        return None
    results = _collected(run, seeds, best)
    merge_timings(files, benchmark.seeds)
    write_results(files.root, results)
    return results


def complete_benchmark(benchmark: Benchmark, kinds: KindTable | None = None) -> tuple[Benchmark, PictureBank]:
    """A benchmark as it is run, which says everything that it is made of, and its pictures.

    The fingerprint of the pictures and the settings that its scans leave out are filled in, and all is checked that can
    be checked before anything is trained.

    Args:
        benchmark: The benchmark.
        kinds: Further kinds of scans beside `adaptive_scan.benchmark.scan_kinds.SCAN_KINDS`.

    Raises:
        SettingError: If a kind or a setting cannot be used, there are too few groups, or the pictures are others than
            it was written for.
        MicrographError: If a file of micrographs cannot be used.

    Example:
        >>> from adaptive_scan.benchmark.definition import PictureSettings, ScanEntry
        >>> from adaptive_scan.scans import ScanGeometry
        >>> benchmark = Benchmark(
        ...     "tiny",
        ...     geometries={"1/16": ScanGeometry(16, 4, 4)},
        ...     scans=(ScanEntry("spiral", "static"),),
        ...     pictures=PictureSettings(n_crops=10),
        ... )
        >>> complete_benchmark(benchmark)[0].scans[0].settings
        {'family': 'spiral', 'n_positions': None}
    """
    known = {**SCAN_KINDS, **(kinds or {})}
    benchmark = resolve_scans(benchmark, known)
    check_budgets(benchmark)
    check_scans(benchmark, known)
    benchmark, bank = open_pictures(benchmark)
    check_folds(benchmark, bank)
    return benchmark, bank


def _own_seeds(benchmark: Benchmark, only: Sequence[int]) -> Sequence[int]:
    for seed in only:
        if seed not in benchmark.seeds:
            known = ", ".join(str(each) for each in benchmark.seeds)
            raise SettingError(f"only_seeds: got {seed}; expected some of the benchmark's, {known}")
    return only or benchmark.seeds


def _check_completers(benchmark: Benchmark, completers: Mapping[str, Completer]) -> None:
    for name in benchmark.completers:
        if ":" in name and name not in completers:
            raise SettingError(f"completers: got {name!r} and nothing that makes it; expected it among `completers`")


def check_budgets(benchmark: Benchmark) -> None:
    """Raise a SettingError if no scan can keep to a budget."""
    for name, limits in benchmark.budgets.items():
        try:
            Budget.within(benchmark.geometries[name].n_positions_total, benchmark.acquisition, **limits)
        except ValueError as error:
            raise SettingError(f"budgets[{name!r}].{error}") from error


def check_folds(benchmark: Benchmark, bank: PictureBank) -> None:
    """Raise a SettingError if the pictures have too few groups for the folds, or a fold too few for a control."""
    split, groups = benchmark.split, np.array(bank.groups, dtype=str)
    others = [scan.name for scan in benchmark.scans if is_of_other_crops(scan)]
    for seed in benchmark.seeds:
        fold = make_fold(bank.groups, seed, n_folds=split.n_folds, split_seed=split.seed)
        if others and len(np.unique(groups[fold.test])) < 2:
            raise SettingError(
                f"scan {others[0]!r}: got one group in the test fold of seed {seed}; expected at least 2, for each "
                f"crop gets the path of another one (of {len(np.unique(groups))} groups, in {split.n_folds} folds)"
            )


@dataclass(frozen=True, eq=False)
class Run:
    """What all stages of a run share.

    Attributes:
        benchmark: What is compared.
        bank: Its pictures.
        files: Where everything lies.
        kinds: The kinds of its scans by name.
        completers: Completers that were given beside those of the benchmark, by name.
        device: Where networks are trained and run.
    """

    benchmark: Benchmark
    bank: PictureBank
    files: RunFolder
    kinds: KindTable
    completers: Mapping[str, Completer]
    device: str

    @cached_property
    def instrument(self) -> Instrument:
        """What all scans go through."""
        return make_instrument(self.benchmark.acquisition)


class SeedStages:
    """What is made for a seed.

    Args:
        run: What all stages share.
        seed: The seed.
    """

    def __init__(self, run: Run, seed: int) -> None:
        self.run, self.seed = run, seed
        self.base_file = run.files.seed(seed) / "base.safetensors"
        self.predictor_file = run.files.seed(seed) / "error_head.safetensors"
        self.cells = {name: CellStages(self, name) for name in run.benchmark.geometries}

    @cached_property
    def fold(self) -> Fold:
        """Which pictures are for what."""
        split = self.run.benchmark.split
        return make_fold(
            self.run.bank.groups,
            self.seed,
            n_folds=split.n_folds,
            validation_share=split.validation_share,
            split_seed=split.seed,
        )

    def groups(self) -> dict[str, list[str]]:
        """Groups of pictures by their use."""
        groups = np.array(self.run.bank.groups, dtype=str)
        return {part: np.unique(groups[getattr(self.fold, part)]).tolist() for part in ("train", "validation", "test")}

    @cached_property
    def train(self) -> CropSource:
        """Random crops to learn on."""
        return self.run.bank.train_source(self.fold.train)

    @cached_property
    def validation(self) -> CutCrops:
        """Crops to tune and to choose on."""
        return self.run.bank.cut(self.fold.validation)

    @cached_property
    def test(self) -> CutCrops:
        """Crops to compare scans on."""
        return self.run.bank.cut(self.fold.test)

    @cached_property
    def base(self) -> nn.Module:
        """The base network."""
        return load_generator(self.base_file, self.run.device)

    @cached_property
    def predictor(self) -> CompleterWithError:
        """The base network with a head that predicts its errors."""
        return load_error_head(self.predictor_file, self.base, self.run.device)

    def preparation(self) -> list[Stage]:
        """All that is made before any crop to test on is cut, in order."""
        made = [Stage(f"seed {self.seed}: training the base network", self.base_file, self.make_base)]
        if any(self.run.kinds[entry.kind].needs_predictor for entry in self.run.benchmark.scans):
            name = f"seed {self.seed}: training the error head"
            made.append(Stage(name, self.predictor_file, self.make_predictor))
        return [*made, *(stage for cell in self.cells.values() for stage in cell.preparation())]

    def comparison(self, best: Mapping[str, str]) -> list[Stage]:
        """All that is made with the crops to test on, in order.

        Args:
            best: The best static scan of each geometry, which has a network of its own if there is a factorial.
        """
        for name, cell in self.cells.items():
            factorial = self.run.benchmark.factorial
            cell.owners = tuple(dict.fromkeys((*factorial, *([best[name]] if factorial and name in best else []))))
        return [stage for cell in self.cells.values() for stage in cell.comparison()]

    def make_base(self) -> None:
        """Train the base network."""
        network = train_base(self.run.benchmark, self.train, self.seed, self.run.device)
        save_generator(network, self.base_file)

    def make_predictor(self) -> None:
        """Train the head that predicts the errors of the base network."""
        found = train_predictor(self.run.benchmark, self.base, self.train, self.seed, self.run.device)
        save_error_head(found, self.predictor_file)


@dataclass(frozen=True)
class ScanNature:
    """What a scan that was prepared is.

    Attributes:
        role: One of `adaptive_scan.evaluation.results.ROLES`.
        contiguous: Whether the probe moves from each position to one nearby.
    """

    role: str
    contiguous: bool


# Files of a scan: what it is, once it is prepared; what it measured on the crops to test on; how different the paths of
# a policy are; the network that was fine-tuned to it alone.
_NATURE, _SCANS, _PATHS, _OWN_NETWORK = "scan.json", "scans.npz", "adaptivity.json", "own.safetensors"


class CellStages:
    """What is made for a seed at a geometry: scans, networks, and what the crops to test on say of them.

    Args:
        of_seed: What is made for the seed.
        name: Name of the geometry.

    Attributes:
        owners: Scans that have a network of their own, known once all is prepared.
    """

    def __init__(self, of_seed: SeedStages, name: str) -> None:
        self.of_seed, self.name = of_seed, name
        self.run, self.seed, self.benchmark = of_seed.run, of_seed.seed, of_seed.run.benchmark
        self.geometry: ScanGeometry = self.benchmark.geometries[name]
        self.size = self.geometry.image_size
        self.folder = self.run.files.cell(self.seed, name)
        self.validation_file = self.folder / "validation.json"
        self.shared_file = self.folder / "shared.safetensors"
        self.entries = {entry.name: entry for entry in self.benchmark.scans}
        self.owners: tuple[str, ...] = ()
        self._contenders: dict[str, Contender] = {}
        self._completers: dict[str, Completer] = {}

    def preparation(self) -> list[Stage]:
        """All that is made before any crop to test on is cut, in order."""
        where = f"seed {self.seed}, {self.name}"
        made = [
            Stage(f"{where}: preparing {scan}", self.file(scan, _NATURE), partial(self.prepare, scan))
            for scan in self.entries
        ]
        return [*made, Stage(f"{where}: validating static scans", self.validation_file, self.validate)]

    def comparison(self) -> list[Stage]:
        """All that is made with the crops to test on, in order."""
        where = f"seed {self.seed}, {self.name}"
        made: list[Stage] = []
        if SHARED in self.benchmark.completers:
            made.append(Stage(f"{where}: tuning the shared network", self.shared_file, self.fine_tune_shared))
        for scan in self.owners if OWN in self.benchmark.completers else ():
            made.append(
                Stage(f"{where}: tuning to {scan}", self.file(scan, _OWN_NETWORK), partial(self.fine_tune_own, scan))
            )
        for scan in self.benchmark.scan_names:
            if not self._is_dense(scan):
                made.append(Stage(f"{where}: measuring {scan}", self.file(scan, _SCANS), partial(self._measure, scan)))
            for completer in self.completers_of(scan):
                file = self.run.files.part(self.seed, self.name, scan, completer)
                made.append(Stage(f"{where}: {scan}, {completer}", file, partial(self._score, scan, completer)))
        if self.seed == self.benchmark.seeds[0]:
            made.append(Stage(f"{where}: examples", self.run.files.examples(self.name), self._keep_examples))
        return made

    def file(self, scan: str, name: str) -> Path:
        """A file of a scan: one of those named above this class."""
        return self.run.files.scan(self.seed, self.name, scan) / name

    def contender(self, scan: str) -> Contender:
        """A scan, prepared now or before."""
        if scan not in self._contenders:
            made = self._make(scan)
            assert isinstance(made, Contender), scan
            self._contenders[scan] = dataclasses.replace(made, name=scan)
        return self._contenders[scan]

    def raster(self, scan: str) -> DenseRaster:
        """A dense raster, prepared now or before."""
        made = self._make(scan)
        assert isinstance(made, DenseRaster), scan
        return made

    def _make(self, scan: str) -> Contender | DenseRaster:
        return find_kind(self.entries[scan], self.run.kinds).make(self._cell(scan))

    def nature(self, scan: str) -> ScanNature:
        """What a scan is that was prepared."""
        return ScanNature(**json.loads(self.file(scan, _NATURE).read_text(encoding="utf-8")))

    def prepare(self, scan: str) -> None:
        """Prepare a scan and write down what it is."""
        if self._is_dense(scan):
            self.raster(scan)
            nature = ScanNature("dense", contiguous=True)
        else:
            made = self.contender(scan)
            nature = ScanNature(made.effective_role, made.contiguous)
        check_competing(self.benchmark, scan, nature.role)
        write_json(self.file(scan, _NATURE), dataclasses.asdict(nature))

    def validate(self) -> None:
        """Mean loss of each static contiguous scan on the validation crops, completed by the base network."""
        write_json(self.validation_file, {scan: self._validation_loss(scan) for scan in self._static_contiguous()})

    @cached_property
    def validation_losses(self) -> dict[str, float]:
        """What `validate` found, by scan."""
        losses: dict[str, float] = json.loads(self.validation_file.read_text(encoding="utf-8"))
        return losses

    def fine_tune_shared(self) -> None:
        """Fine-tune a network to all scans that compete: not to controls, oracles and dense rasters."""
        competing = [scan for scan in self.entries if self.nature(scan).role in COMPETING_ROLES]
        self._fine_tune(competing, self.shared_file)

    def fine_tune_own(self, scan: str) -> None:
        """Fine-tune a network to one scan."""
        self._fine_tune([scan], self.file(scan, _OWN_NETWORK))

    def _fine_tune(self, scans: Sequence[str], file: Path) -> None:
        contenders, (base, train) = [self.contender(scan) for scan in scans], (self.of_seed.base, self.of_seed.train)
        network = fine_tune(self.benchmark, base, train, self.geometry, contenders, self.seed, self.run.device)
        save_generator(network, file, metadata={"scans": list(scans)})

    def _static_contiguous(self) -> list[str]:
        natures = {scan: self.nature(scan) for scan in self.entries}
        return [scan for scan, nature in natures.items() if nature.role == "static" and nature.contiguous]

    def _validation_loss(self, scan: str) -> float:
        cut, instrument = self.of_seed.validation, self.run.instrument
        measured = measure_all(self.contender(scan), cut, self.geometry, instrument, self.seed, stream=VALIDATION)
        scans = partial_scans(measured.values, measured.positions, self.size)
        completions = complete(self.of_seed.base, scans, batch_size=N_AT_ONCE, name="base")[:, 0]
        return float(metrics.loss(completions, cut.targets).mean())

    def _cell(self, scan: str) -> BenchmarkCell:
        of_seed = self.of_seed
        return BenchmarkCell(
            name=scan,
            seed=self.seed,
            geometry=self.geometry,
            acquisition=self.benchmark.acquisition,
            instrument=self.run.instrument,
            blur=self.benchmark.pictures.blur,
            train=of_seed.train,
            validation=of_seed.validation,
            generator=of_seed.base,
            device=self.run.device,
            folder=self.run.files.scan(self.seed, self.name, scan),
            find_contender=self.contender,
            find_folder=partial(self.run.files.scan, self.seed, self.name),
            find_predictor=lambda: of_seed.predictor,
        )

    def parts(self) -> list[tuple[str, str, str]]:
        """Geometry, scan and completer of all parts, in order."""
        scans = self.benchmark.scan_names
        return [(self.name, scan, completer) for scan in scans for completer in self.completers_of(scan)]

    def completers_of(self, scan: str) -> list[str]:
        """Names of the completers that a scan is judged with."""
        if self._is_dense(scan):
            return [DENOISED]
        return [name for name in self.benchmark.completers if name != OWN or scan in self.owners]

    def adaptivity(self, scan: str) -> dict[str, float]:
        """What was found of the paths that a policy chose; nothing of other scans."""
        if self._is_dense(scan):
            return {}
        found: dict[str, float] = json.loads(self.file(scan, _PATHS).read_text(encoding="utf-8"))
        return found

    def _measure(self, scan: str) -> None:
        """Scan every crop, see that the budget is kept, and keep positions and values."""
        contender = self._contender(scan)
        measured = self._scan_all(contender, self.seed)
        self._budget.check(scan, measured.positions, self.run.instrument, image_size=self.size)
        write_json(self.file(scan, _PATHS), self._adaptivity_of(contender, measured))
        write_npz(self.file(scan, _SCANS), positions=measured.positions, values=measured.values)

    def _scan_all(self, contender: Contender, seed: int) -> Measurement:
        return measure_all(contender, self.of_seed.test, self.geometry, self.run.instrument, seed)

    def _contender(self, scan: str) -> Contender:
        """The scan as it meets the test crops."""
        contender, entry = self.contender(scan), self.entries[scan]
        if not is_of_other_crops(entry):
            return contender
        # Made here, because which paths were chosen for other crops is known only once these are scanned.
        chosen = self._measured(entry.settings["of"]).positions
        rng = np.random.default_rng([self.seed, _OTHER_CROPS])
        return of_other_crops(contender, chosen, self.of_seed.test.groups, rng)

    @cached_property
    def _budget(self) -> Budget:
        limits = self.benchmark.budgets.get(self.name, {})
        return Budget.within(self.geometry.n_positions_total, self.run.instrument, **limits)

    def _measured(self, scan: str) -> Measurement:
        with np.load(self.file(scan, _SCANS), allow_pickle=False) as archive:
            return Measurement(archive["positions"], archive["values"])

    def _adaptivity_of(self, contender: Contender, measured: Measurement) -> dict[str, float]:
        """How different the paths of a policy are; repeated where noise may have a part in it."""
        if contender.policy is None or len(self.of_seed.test) < 2:
            return {}
        repeats = None
        if not self.run.instrument.is_ideal:
            seeds = [self.seed + number * _REPEAT for number in range(1, _N_REPEATS)]
            again = [self._scan_all(contender, seed).positions for seed in seeds]
            repeats = np.stack([measured.positions, *again])
        rng = np.random.default_rng([self.seed, _ADAPTIVITY])
        return adaptivity(measured.positions, self.of_seed.test.targets, self.of_seed.test.groups, rng, repeats=repeats)

    def _is_dense(self, scan: str) -> bool:
        return self.entries[scan].kind == DENSE

    def _score(self, scan: str, completer: str) -> None:
        """Complete what was measured, and keep sums and rows."""
        cut = self.of_seed.test
        if self._is_dense(scan):
            positions, costs, completions = self._raster(scan)
        else:
            positions, costs = self._measured(scan).positions, None
            completions = self._complete(scan, completer, slice(None))
        nature = self.nature(scan)
        names = RowNames(self.seed, self.name, scan, completer, nature.role, nature.contiguous)
        sums = make_sums(positions, completions, cut.targets)
        write_sums(self.run.files.sums(self.seed, self.name, scan, completer), sums)
        rows = make_rows(names, cut, positions, completions, self.run.instrument, costs)
        write_rows(self.run.files.part(self.seed, self.name, scan, completer), rows, self.benchmark.identity)

    def _complete(self, scan: str, completer: str, chosen: slice | np.ndarray) -> np.ndarray:
        """Completions of some of the crops, shape (n, S, S)."""
        measured = self._measured(scan)
        scans = partial_scans(measured.values[chosen], measured.positions[chosen], self.size)
        return complete(self._completer(scan, completer), scans, batch_size=N_AT_ONCE, name=completer)[:, 0]

    def _raster(self, scan: str) -> tuple[np.ndarray, ScanCosts, np.ndarray]:
        """Positions, costs and completions of a dense raster."""
        raster, crops = self.raster(scan), self.of_seed.test.crops
        costs = raster.costs(self.size, len(crops))
        self._budget.check_raster(scan, costs, self.size)
        pixels = np.moveaxis(np.indices((self.size, self.size), dtype=np.float32), 0, -1).reshape(-1, 2)
        positions = np.broadcast_to(pixels, (len(crops), *pixels.shape))
        return positions, costs, raster.scan(crops, self.seed)

    def _completer(self, scan: str, name: str) -> Completer:
        """The completer of a name that judges a scan."""
        if name == OWN:
            return load_generator(self.file(scan, _OWN_NETWORK), self.run.device)
        if name not in self._completers:
            self._completers[name] = self._make_completer(name)
        return self._completers[name]

    def _make_completer(self, name: str) -> Completer:
        if name == SHARED:
            return load_generator(self.shared_file, self.run.device)
        if ":" in name:
            return self.run.completers[name]
        return make_completer(name)

    def _keep_examples(self) -> None:
        """A few crops, spread over the losses of the reference scan, with everything that a figure shows of them."""
        chosen = self._example_crops()
        positions, completions = {}, {}
        for scan in self.benchmark.scan_names:
            if self._is_dense(scan):
                completions[scan, DENOISED] = self._raster(scan)[2][chosen]
                continue
            positions[scan] = self._measured(scan).positions[chosen]
            for name in self.completers_of(scan):
                completions[scan, name] = self._complete(scan, name, chosen)
        targets = self.of_seed.test.targets[chosen]
        examples = ExampleScans(self.name, self.seed, chosen, targets, positions, completions)
        write_examples(self.run.files.examples(self.name), examples)

    def _example_crops(self) -> np.ndarray:
        """Crops at evenly spaced quantiles of the reference's loss; the very extremes are left out."""
        reference = self.benchmark.reference
        part = self.run.files.part(self.seed, self.name, reference, self.completers_of(reference)[0])
        losses = read_rows(part, self.benchmark.identity)["loss"].to_numpy()
        return example_crops(losses, self.benchmark.n_examples)


def best_static(seeds: Sequence[SeedStages]) -> dict[str, str]:
    """The static contiguous scan of the lowest mean loss on the validation crops of all seeds, by geometry.

    What one seed validates on another may test on. The choice is of static scans alone, so if that favours anything, it
    is the static side. Where there is no such scan, the geometry has no entry.
    """
    found = {}
    for geometry in seeds[0].cells:
        losses = [of_seed.cells[geometry].validation_losses for of_seed in seeds]
        means = {scan: float(np.mean([each[scan] for each in losses])) for scan in losses[0]}
        if means:
            found[geometry] = min(means, key=lambda scan: means[scan])
    return found


def _collected(run: Run, seeds: Sequence[SeedStages], best: Mapping[str, str]) -> Results:
    """The parts as one."""
    benchmark, files = run.benchmark, run.files
    cells = [cell for each in seeds for cell in each.cells.values()]
    keys = [(cell.seed, *key) for cell in cells for key in cell.parts()]
    found = {
        "best_static": best,
        "groups_by_seed": {str(each.seed): each.groups() for each in seeds},
        "skipped": run.bank.skipped,
        "versions": json.loads(files.versions.read_text(encoding="utf-8")),
    }
    return Results(
        name=benchmark.name,
        identity=benchmark.identity,
        description={**benchmark.to_dict(), **found},
        rows=pa.concat_tables([read_rows(files.part(*key), benchmark.identity) for key in keys]),
        sums={key: read_all_sums(files, benchmark.seeds, key) for key in dict.fromkeys(key[1:] for key in keys)},
        examples=[read_examples(files.examples(name)) for name in benchmark.geometries],
        adaptivity=_adaptivity(cells),
    )


def _adaptivity(cells: Sequence[CellStages]) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of the paths of policies by geometry and scan, each the mean over the seeds."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in dict.fromkeys(each.name for each in cells):
        of_name = [each for each in cells if each.name == name]
        by_scan = {scan: [each.adaptivity(scan) for each in of_name] for scan in of_name[0].benchmark.scan_names}
        found[name] = {scan: _means(figures) for scan, figures in by_scan.items() if figures[0]}
    return found


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    shared = [name for name in figures[0] if all(name in each for each in figures)]
    return {name: float(np.mean([each[name] for each in figures])) for name in shared}
