"""What is done with the crops to test on, for a seed at a geometry: measure, complete, score, keep examples."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from adaptive_scan.acquisition import ScanCosts
from adaptive_scan.benchmark.definition import DENOISED, DENSE, OWN, SHARED
from adaptive_scan.benchmark.folder import Stage
from adaptive_scan.benchmark.preparation import CellStages
from adaptive_scan.benchmark.result_files import read_rows, write_examples, write_rows, write_sums
from adaptive_scan.benchmark.scan_kinds import is_of_other_crops
from adaptive_scan.evaluation.budget import Budget
from adaptive_scan.evaluation.contenders import Contender, Measurement
from adaptive_scan.evaluation.controls import adaptivity, of_other_crops
from adaptive_scan.evaluation.crops import CutCrops
from adaptive_scan.evaluation.results import ExampleScans
from adaptive_scan.evaluation.rows import N_AT_ONCE, RowNames, cost_columns, make_rows, make_sums, measure_all
from adaptive_scan.files import write_json, write_npz
from adaptive_scan.generators import Completer, complete, load_generator, make_completer
from adaptive_scan.scans import partial_scans

_OTHER_CROPS, _ADAPTIVITY = 2, 3  # streams of random numbers
_N_REPEATS, _REPEAT = 3, 10_000  # scans of each crop under other noise, and how far apart their seeds are


class CellScoring:
    """Scores the scans of a seed at a geometry.

    Args:
        cell: What was made for the seed at the geometry.
        owners: Scans that have a network of their own.
        completers: Completers that were given beside those of the benchmark, by name.
        identity: Identity of the benchmark.
    """

    def __init__(
        self, cell: CellStages, owners: Collection[str], completers: Mapping[str, Completer], identity: str
    ) -> None:
        self.cell, self.owners, self.identity = cell, owners, identity
        self.setting, self.benchmark = cell.setting, cell.setting.benchmark
        self.size = cell.geometry.image_size
        self._given = completers
        self._made: dict[str, Completer] = {}

    def stages(self) -> list[Stage]:
        """All that is to be made, in order."""
        cell, where = self.cell, f"seed {self.cell.seed}, {self.cell.name}"
        made: list[Stage] = []
        if SHARED in self.benchmark.completers:
            made.append(Stage(f"{where}: tuning the shared network", cell.shared_file, cell.fine_tune_shared))
        for scan in self.owners if OWN in self.benchmark.completers else ():
            made.append(Stage(f"{where}: tuning to {scan}", cell.own_file(scan), partial(cell.fine_tune_own, scan)))
        for scan in self.benchmark.scan_names:
            if not self._is_dense(scan):
                made.append(Stage(f"{where}: measuring {scan}", self._scans_file(scan), partial(self._measure, scan)))
            for completer in self.completers_of(scan):
                file = self.setting.files.part(cell.seed, cell.name, scan, completer)
                made.append(Stage(f"{where}: {scan}, {completer}", file, partial(self._score, scan, completer)))
        if cell.seed == self.benchmark.seeds[0]:
            made.append(Stage(f"{where}: examples", self.setting.files.examples(cell.name), self._keep_examples))
        return made

    def parts(self) -> list[tuple[str, str, str]]:
        """Geometry, scan and completer of all parts, in order."""
        scans = self.benchmark.scan_names
        return [(self.cell.name, scan, completer) for scan in scans for completer in self.completers_of(scan)]

    def completers_of(self, scan: str) -> list[str]:
        """Names of the completers that a scan is judged with."""
        if self._is_dense(scan):
            return [DENOISED]
        return [name for name in self.benchmark.completers if name != OWN or scan in self.owners]

    def adaptivity(self, scan: str) -> dict[str, float]:
        """What was found of the paths that a policy chose; nothing of other scans."""
        if self._is_dense(scan):
            return {}
        found: dict[str, float] = json.loads(self._adaptivity_file(scan).read_text(encoding="utf-8"))
        return found

    @property
    def _test(self) -> CutCrops:
        return self.cell.of_seed.test

    def _scans_file(self, scan: str) -> Path:
        return self.cell.scan_file(scan, "scans.npz")

    def _adaptivity_file(self, scan: str) -> Path:
        return self.cell.scan_file(scan, "adaptivity.json")

    def _measure(self, scan: str) -> None:
        """Scan every crop, see that the budget is kept, and keep positions and values."""
        contender = self._contender(scan)
        measured = self._scan_all(contender, self.cell.seed)
        self._budget.check(scan, measured.positions, self.setting.instrument, image_size=self.size)
        write_json(self._adaptivity_file(scan), self._adaptivity_of(contender, measured))
        write_npz(self._scans_file(scan), positions=measured.positions, values=measured.values)

    def _scan_all(self, contender: Contender, seed: int) -> Measurement:
        return measure_all(contender, self._test, self.cell.geometry, self.setting.instrument, seed)

    def _contender(self, scan: str) -> Contender:
        """The scan as it meets the test crops."""
        contender, entry = self.cell.contender(scan), self.cell.entries[scan]
        if not is_of_other_crops(entry):
            return contender
        # Made here, because which paths were chosen for other crops is known only once these are scanned.
        chosen = self._measured(entry.settings["of"]).positions
        rng = np.random.default_rng([self.cell.seed, _OTHER_CROPS])
        return of_other_crops(contender, chosen, self._test.groups, rng)

    @cached_property
    def _budget(self) -> Budget:
        limits = self.benchmark.budgets.get(self.cell.name, {})
        return Budget.within(self.cell.geometry.n_positions_total, self.setting.instrument, **limits)

    def _measured(self, scan: str) -> Measurement:
        with np.load(self._scans_file(scan), allow_pickle=False) as archive:
            return Measurement(archive["positions"], archive["values"])

    def _adaptivity_of(self, contender: Contender, measured: Measurement) -> dict[str, float]:
        """How different the paths of a policy are; repeated where noise may have a part in it."""
        if contender.policy is None or len(self._test) < 2:
            return {}
        repeats = None
        if not self.setting.instrument.is_ideal:
            seeds = [self.cell.seed + number * _REPEAT for number in range(1, _N_REPEATS)]
            again = [self._scan_all(contender, seed).positions for seed in seeds]
            repeats = np.stack([measured.positions, *again])
        rng = np.random.default_rng([self.cell.seed, _ADAPTIVITY])
        return adaptivity(measured.positions, self._test.targets, self._test.groups, rng, repeats=repeats)

    def _is_dense(self, scan: str) -> bool:
        return self.cell.entries[scan].kind == DENSE

    def _score(self, scan: str, completer: str) -> None:
        """Complete what was measured, and keep sums and rows."""
        cell, cut = self.cell, self._test
        if self._is_dense(scan):
            positions, costs, completions = self._raster(scan)
        else:
            positions, costs = self._measured(scan).positions, None
            completions = self._complete(scan, completer, slice(None))
        masks = partial_scans(np.zeros(positions.shape[:2]), positions, self.size)[:, 1]
        nature = cell.nature(scan)
        names = RowNames(cell.seed, cell.name, scan, completer, nature.role, nature.contiguous)
        columns = cost_columns(positions, self.setting.instrument, self.size, costs)
        sums = make_sums(positions, completions, masks, cut.targets)
        write_sums(self.setting.files.sums(cell.seed, cell.name, scan, completer), sums)
        rows = make_rows(names, cut, completions, masks, columns)
        write_rows(self.setting.files.part(cell.seed, cell.name, scan, completer), rows, self.identity)

    def _complete(self, scan: str, completer: str, chosen: slice | np.ndarray) -> np.ndarray:
        """Completions of some of the crops, shape (n, S, S)."""
        measured = self._measured(scan)
        scans = partial_scans(measured.values[chosen], measured.positions[chosen], self.size)
        return complete(self._completer(scan, completer), scans, batch_size=N_AT_ONCE, name=completer)[:, 0]

    def _raster(self, scan: str) -> tuple[np.ndarray, ScanCosts, np.ndarray]:
        """Positions, costs and completions of a dense raster."""
        raster, crops = self.cell.raster(scan), self._test.crops
        costs = raster.costs(self.size, len(crops))
        self._budget.check_raster(scan, costs, self.size)
        pixels = np.moveaxis(np.indices((self.size, self.size), dtype=np.float32), 0, -1).reshape(-1, 2)
        positions = np.broadcast_to(pixels, (len(crops), *pixels.shape))
        return positions, costs, raster.scan(crops, self.cell.seed)

    def _completer(self, scan: str, name: str) -> Completer:
        """The completer of a name that judges a scan."""
        if name == OWN:
            return load_generator(self.cell.own_file(scan), self.setting.device)
        if name not in self._made:
            self._made[name] = self._make_completer(name)
        return self._made[name]

    def _make_completer(self, name: str) -> Completer:
        if name == SHARED:
            return load_generator(self.cell.shared_file, self.setting.device)
        if ":" in name:
            return self._given[name]
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
        targets = self._test.targets[chosen]
        examples = ExampleScans(self.cell.name, self.cell.seed, chosen, targets, positions, completions)
        write_examples(self.setting.files.examples(self.cell.name), examples)

    def _example_crops(self) -> np.ndarray:
        """Crops at evenly spaced quantiles of the reference's loss; the very extremes are left out."""
        reference = self.benchmark.reference
        part = self.setting.files.part(self.cell.seed, self.cell.name, reference, self.completers_of(reference)[0])
        losses = read_rows(part, self.identity)["loss"].to_numpy()
        n_chosen = min(self.benchmark.n_examples, len(losses))
        quantiles = (np.arange(n_chosen) + 0.5) / max(n_chosen, 1)
        return np.argsort(losses, kind="stable")[(quantiles * len(losses)).astype(np.int64)]
