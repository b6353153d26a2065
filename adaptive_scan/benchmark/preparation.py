"""What is made for a seed and a geometry before any crop to test on is cut: networks, scans, the best static one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from torch import nn

from adaptive_scan.acquisition import Instrument, make_instrument
from adaptive_scan.benchmark.cells import Cell, ScanMaker
from adaptive_scan.benchmark.definition import COMPETING_ROLES, DENSE, Benchmark, ScanEntry, check_competing
from adaptive_scan.benchmark.folder import RunFolder, Stage
from adaptive_scan.benchmark.folds import Fold, make_fold
from adaptive_scan.benchmark.networks import fine_tune, train_base, train_predictor
from adaptive_scan.benchmark.pictures import PictureBank
from adaptive_scan.benchmark.scan_kinds import PREDICTOR_KINDS, RASTER_MAKER
from adaptive_scan.evaluation import metrics
from adaptive_scan.evaluation.contenders import VALIDATION, Contender
from adaptive_scan.evaluation.crops import CutCrops
from adaptive_scan.evaluation.dense_raster import DenseRaster
from adaptive_scan.evaluation.rows import N_AT_ONCE, measure_all
from adaptive_scan.files import write_json
from adaptive_scan.generators import complete, load_generator, save_generator
from adaptive_scan.generators.uncertainty import CompleterWithError, load_error_head, save_error_head
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import ScanGeometry, partial_scans


@dataclass(frozen=True, eq=False)
class Setting:
    """What all stages of a run share.

    Attributes:
        benchmark: What is compared.
        bank: Its pictures.
        files: Where everything lies.
        makers: What prepares a scan, by kind.
        device: Where networks are trained and run.
    """

    benchmark: Benchmark
    bank: PictureBank
    files: RunFolder
    makers: Mapping[str, ScanMaker]
    device: str

    @cached_property
    def instrument(self) -> Instrument:
        """What all scans go through."""
        return make_instrument(self.benchmark.acquisition)


class SeedStages:
    """What is made for a seed.

    Args:
        setting: What all stages share.
        seed: The seed.
    """

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting, self.seed = setting, seed
        self.base_file = setting.files.seed(seed) / "base.safetensors"
        self.predictor_file = setting.files.seed(seed) / "error_head.safetensors"
        self.cells = {name: CellStages(self, name) for name in setting.benchmark.geometries}

    @cached_property
    def fold(self) -> Fold:
        """Which pictures are for what."""
        split = self.setting.benchmark.split
        return make_fold(
            self.setting.bank.groups,
            self.seed,
            n_folds=split.n_folds,
            validation_share=split.validation_share,
            split_seed=split.seed,
        )

    def groups(self) -> dict[str, list[str]]:
        """Groups of pictures by their use."""
        groups = np.array(self.setting.bank.groups, dtype=str)
        return {part: np.unique(groups[getattr(self.fold, part)]).tolist() for part in ("train", "validation", "test")}

    @cached_property
    def train(self) -> CropSource:
        """Random crops to learn on."""
        return self.setting.bank.train_source(self.fold.train)

    @cached_property
    def validation(self) -> CutCrops:
        """Crops to tune and to choose on."""
        return self.setting.bank.cut(self.fold.validation)

    @cached_property
    def test(self) -> CutCrops:
        """Crops to compare scans on."""
        return self.setting.bank.cut(self.fold.test)

    @cached_property
    def base(self) -> nn.Module:
        """The base network."""
        return load_generator(self.base_file, self.setting.device)

    @cached_property
    def predictor(self) -> CompleterWithError:
        """The base network with a head that predicts its errors."""
        return load_error_head(self.predictor_file, self.base, self.setting.device)

    def stages(self) -> list[Stage]:
        """All that is to be made, in order."""
        made = [Stage(f"seed {self.seed}: training the base network", self.base_file, self.make_base)]
        if any(entry.kind in PREDICTOR_KINDS for entry in self.setting.benchmark.scans):
            name = f"seed {self.seed}: training the error head"
            made.append(Stage(name, self.predictor_file, self.make_predictor))
        return [*made, *(stage for cell in self.cells.values() for stage in cell.stages())]

    def make_base(self) -> None:
        """Train the base network."""
        network = train_base(self.setting.benchmark, self.train, self.seed, self.setting.device)
        save_generator(network, self.base_file)

    def make_predictor(self) -> None:
        """Train the head that predicts the errors of the base network."""
        found = train_predictor(self.setting.benchmark, self.base, self.train, self.seed, self.setting.device)
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


class CellStages:
    """What is made for a seed at a geometry.

    Args:
        of_seed: What is made for the seed.
        name: Name of the geometry.
    """

    def __init__(self, of_seed: SeedStages, name: str) -> None:
        self.of_seed, self.name = of_seed, name
        self.setting, self.seed = of_seed.setting, of_seed.seed
        self.geometry: ScanGeometry = self.setting.benchmark.geometries[name]
        self.folder = self.setting.files.cell(self.seed, name)
        self.validation_file = self.folder / "validation.json"
        self.shared_file = self.folder / "shared.safetensors"
        self.entries = {entry.name: entry for entry in self.setting.benchmark.scans}
        self._contenders: dict[str, Contender] = {}

    def stages(self) -> list[Stage]:
        """All that is to be made, in order."""
        where = f"seed {self.seed}, {self.name}"
        made = [
            Stage(f"{where}: preparing {scan}", self.nature_file(scan), partial(self.prepare, scan))
            for scan in self.entries
        ]
        return [*made, Stage(f"{where}: validating static scans", self.validation_file, self.validate)]

    def scan_file(self, scan: str, file: str) -> Path:
        """A file of a scan."""
        return self.setting.files.scan(self.seed, self.name, scan) / file

    def nature_file(self, scan: str) -> Path:
        """The file that says that a scan is prepared, and what it is."""
        return self.scan_file(scan, "scan.json")

    def own_file(self, scan: str) -> Path:
        """The network that was fine-tuned to a scan alone."""
        return self.scan_file(scan, "own.safetensors")

    def contender(self, scan: str) -> Contender:
        """A scan, prepared now or before."""
        if scan not in self._contenders:
            entry = self.entries[scan]
            made = self.setting.makers[entry.kind](self._cell(entry), entry.settings)
            self._contenders[scan] = dataclasses.replace(made, name=scan)
        return self._contenders[scan]

    def raster(self, scan: str) -> DenseRaster:
        """A dense raster, prepared now or before."""
        entry = self.entries[scan]
        made: DenseRaster = RASTER_MAKER(self._cell(entry), entry.settings)
        return made

    def nature(self, scan: str) -> ScanNature:
        """What a scan is that was prepared."""
        return ScanNature(**json.loads(self.nature_file(scan).read_text(encoding="utf-8")))

    def prepare(self, scan: str) -> None:
        """Prepare a scan and write down what it is."""
        if self.entries[scan].kind == DENSE:
            self.raster(scan)
            nature = ScanNature("dense", contiguous=True)
        else:
            made = self.contender(scan)
            nature = ScanNature(made.effective_role, made.contiguous)
        check_competing(self.setting.benchmark, scan, nature.role)
        write_json(self.nature_file(scan), dataclasses.asdict(nature))

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
        self._fine_tune([scan], self.own_file(scan))

    def _fine_tune(self, scans: Sequence[str], file: Path) -> None:
        contenders = [self.contender(scan) for scan in scans]
        benchmark, device = self.setting.benchmark, self.setting.device
        network = fine_tune(
            benchmark, self.of_seed.base, self.of_seed.train, self.geometry, contenders, self.seed, device
        )
        save_generator(network, file, metadata={"scans": list(scans)})

    def _static_contiguous(self) -> list[str]:
        natures = {scan: self.nature(scan) for scan in self.entries}
        return [scan for scan, nature in natures.items() if nature.role == "static" and nature.contiguous]

    def _validation_loss(self, scan: str) -> float:
        cut = self.of_seed.validation
        instrument = self.setting.instrument
        measured = measure_all(self.contender(scan), cut, self.geometry, instrument, self.seed, stream=VALIDATION)
        scans = partial_scans(measured.values, measured.positions, self.geometry.image_size)
        completions = complete(self.of_seed.base, scans, batch_size=N_AT_ONCE, name="base")[:, 0]
        return float(metrics.loss(completions, cut.targets).mean())

    def _cell(self, entry: ScanEntry) -> Cell:
        benchmark, of_seed = self.setting.benchmark, self.of_seed
        return Cell(
            name=entry.name,
            seed=self.seed,
            geometry=self.geometry,
            acquisition=benchmark.acquisition,
            instrument=self.setting.instrument,
            blur=benchmark.pictures.blur,
            train=of_seed.train,
            validation=of_seed.validation,
            generator=of_seed.base,
            device=self.setting.device,
            folder=self.setting.files.scan(self.seed, self.name, entry.name),
            find_contender=self.contender,
            find_folder=partial(self.setting.files.scan, self.seed, self.name),
            find_predictor=lambda: of_seed.predictor,
        )


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
