"""What is compared, on which pictures, by which rules: one JSON file and the hash by which its results are known.

A benchmark says everything that decides a result. Two results with the same `Benchmark.identity` may be set side by
side; where the identity is another one, so is the question.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from adaptive_scan.acquisition import INSTRUMENTS
from adaptive_scan.errors import SettingError
from adaptive_scan.files import FileContentError, write_json
from adaptive_scan.generators import COMPLETERS, GENERATORS, known_families
from adaptive_scan.generators.completers import is_classical
from adaptive_scan.scans import ScanGeometry
from adaptive_scan.settings import settings_from_json, settings_to_json
from adaptive_scan.specimens import FAMILIES, SPECIMEN_FAMILIES

FORMAT_VERSION = 1
"""Version of the file, and of what the numbers in a result mean; it counts in the identity."""

SHARED, OWN = "shared", "own"
"""Completers that a benchmark trains: one for all scans, and one for each scan of the factorial."""

DENSE, DENOISED = "dense", "denoised"
"""The kind of scan that measures every pixel with a share of the dose, and its only completer."""

LIMITS = ("electrons", "scan_time", "path_length")
"""What a scan may spend at most, beside the number of positions that is equal for all; see
`adaptive_scan.evaluation.budget.Budget.within`."""

NOT_COMPETING = (DENSE, "control", "look_ahead_oracle")
"""Kinds whose scans stand beside those that compete: no network is fine-tuned to them."""

COMPETING_ROLES = ("static", "adaptive")
"""Roles of the scans that compete."""


class BenchmarkFileError(FileContentError):
    """A file that should hold a benchmark and does not; without ``expected``, ``found`` is a whole complaint.

    Example:
        >>> str(BenchmarkFileError("b.json", "seeds: got 0; expected a list"))
        'b.json: seeds: got 0; expected a list'
    """

    def __init__(self, path: str | os.PathLike[str], found: str, expected: str = "") -> None:
        super().__init__(path, found, expected)

    def __str__(self) -> str:
        return super().__str__() if self.expected else f"{self.path}: {self.found}"


@dataclass(frozen=True)
class PictureSettings:
    """Where the crops come from.

    Attributes:
        micrographs: File or folder of micrographs; None for procedural ones.
        groups: CSV with the columns file and group; None for what lies beside the micrographs.
        fingerprint: Hash of samples of each file of micrographs (see `adaptive_scan.micrographs.fingerprint`), of the
            groups and of what the pictures show, filled in when they are opened, and checked where it is given.
        skip_bad: Whether micrographs that cannot be used are left out.
        downsample: Side of the blocks of a micrograph that are averaged into a pixel.
        crops_per_micrograph: Crops of each test or validation micrograph, at most.
        families: Families of procedural crops, equally likely; none for the default mixture. Those of
            `adaptive_scan.specimens.SPECIMEN_FAMILIES` have a truth.
        imaging: What the microscope adds to procedural crops, "default" or "realistic".
        pixel_size: Side of a pixel of specimens at atomic resolution [Å]; drawn for each without it.
        n_crops: Procedural crops in all, each a specimen of its own.
        seed: Seed of procedural crops.
        blur: Whether targets are the crops after the 5x5 Gaussian.
    """

    micrographs: str | None = None
    groups: str | None = None
    fingerprint: str | None = None
    skip_bad: bool = False
    downsample: int = 1
    crops_per_micrograph: int = 8
    families: tuple[str, ...] = ()
    imaging: Literal["default", "realistic"] = "default"
    pixel_size: float | None = None
    n_crops: int = 1_000
    seed: int = 0
    blur: bool = True

    def __post_init__(self) -> None:
        _check_at_least(self, 1, "downsample", "crops_per_micrograph", "n_crops")
        _check_at_least(self, 0, "seed")
        if self.pixel_size is not None and not 0 < self.pixel_size < math.inf:
            raise SettingError(f"pixel_size: got {self.pixel_size}; expected more than 0 Å")
        _check_choices("imaging", [self.imaging], ("default", "realistic"))
        _check_choices("families", self.families, (*FAMILIES, *SPECIMEN_FAMILIES))


@dataclass(frozen=True)
class SplitSettings:
    """How groups of micrographs are dealt out; see `adaptive_scan.benchmark.pictures.make_fold`.

    Attributes:
        n_folds: Parts of one fixed shuffle of the groups, of which each seed tests on one.
        validation_share: Share of the other groups on which scans are tuned.
        seed: Seed of the shuffle.
    """

    n_folds: int = 5
    validation_share: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        _check_at_least(self, 2, "n_folds")
        _check_at_least(self, 0, "seed")
        if not 0 < self.validation_share < 1:
            raise SettingError(f"validation_share: got {self.validation_share}; expected between 0 and 1")


@dataclass(frozen=True)
class ScanEntry:
    """A scan that takes part.

    Attributes:
        name: What tables call it.
        kind: How it is made: a name of `adaptive_scan.benchmark.scan_kinds.SCAN_KINDS`, or of a
            kind that is given beside.
        settings: Those of its kind, JSON values; what is left out takes its default.
    """

    name: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or self.name != self.name.strip():
            raise SettingError(f"name: got {self.name!r}; expected one without blanks around it")


@dataclass(frozen=True)
class GeneratorPlan:
    """How the networks that complete are trained.

    Attributes:
        kind: A name of `adaptive_scan.generators.GENERATORS`.
        n_channels: Channels of the finest level, for networks that have the setting.
        n_levels: Resolutions, likewise.
        scans: Families of scans that the base network is trained on, at the coverages of all geometries.
        n_updates: Updates of the base network.
        batch_size: Scans in an update.
        learning_rate: Where its cosine starts.
        final_learning_rate: Where it ends.
        fine_tuning_crops: Crops that each fine-tuned network sees.
        fine_tuning_learning_rate: Where the cosine of the fine-tuning starts.
        error_updates: Updates of the head that predicts errors, where a scan asks for one.
    """

    kind: str = "mask_aware"
    n_channels: int = 24
    n_levels: int = 2
    scans: tuple[str, ...] = ("spiral", "wide_spiral", "raster", "wide_raster", "grid", "random", "random_headings")
    n_updates: int = 4_000
    batch_size: int = 32
    learning_rate: float = 2e-3
    final_learning_rate: float = 1e-5
    fine_tuning_crops: int = 32_000
    fine_tuning_learning_rate: float = 5e-4
    error_updates: int = 500

    def __post_init__(self) -> None:
        _check_at_least(self, 1, "n_channels", "n_levels", "n_updates", "batch_size", "error_updates")
        _check_choices("kind", [self.kind], tuple(GENERATORS))
        _check_choices("scans", self.scans, known_families())
        if not self.scans:
            raise SettingError("scans holds nothing; expected at least one family")
        for name in ("learning_rate", "final_learning_rate", "fine_tuning_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingError(f"{name}: got {getattr(self, name)}; expected more than 0")
        if self.fine_tuning_crops < self.batch_size:
            raise SettingError(
                f"fine_tuning_crops: got {self.fine_tuning_crops}; expected at least the batch_size, {self.batch_size}"
            )


@dataclass(frozen=True)
class Benchmark:
    """Everything that decides a comparison.

    Attributes:
        name: What reports call it.
        pictures: Where the crops come from.
        split: How they are dealt out to training, validation and test.
        geometries: Field, number of positions and segments of the scans by name; all of one field.
        acquisition: The instrument that all scans go through, a name of `adaptive_scan.acquisition.INSTRUMENTS`.
        scans: What is compared; a control stands behind the scan that it belongs to.
        completers: "shared", "own", names of `adaptive_scan.generators.COMPLETERS`, with "+" behind the blur of the
            targets, or ``module:factory``. The first chooses the examples.
        seeds: One for each repetition; each tests on a fold of its own.
        generator: How the networks are trained.
        factorial: Scans that get a network of their own ("own"); the best static contiguous scan is added to them.
        reference: Scan that all others are compared with.
        budgets: By geometry, upper bounds of `LIMITS`. The number of positions is equal for all.
        n_examples: Crops of each geometry that are kept for pictures.

    Raises:
        SettingError: If settings do not go together; the message names what was found and what was expected.

    Example:
        >>> benchmark = Benchmark(
        ...     "mine", geometries={"1/16": ScanGeometry(16, 4, 4)}, scans=(ScanEntry("spiral", "static"),)
        ... )
        >>> Benchmark.from_dict(benchmark.to_dict()) == benchmark
        True
    """

    name: str
    geometries: Mapping[str, ScanGeometry]
    scans: tuple[ScanEntry, ...]
    pictures: PictureSettings = field(default_factory=PictureSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    acquisition: str = "ideal"
    completers: tuple[str, ...] = (SHARED, "linear")
    seeds: tuple[int, ...] = (0,)
    generator: GeneratorPlan = field(default_factory=GeneratorPlan)
    factorial: tuple[str, ...] = ()
    reference: str = "spiral"
    budgets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    n_examples: int = 4

    def __post_init__(self) -> None:
        self._check_geometries()
        self._check_scans()
        self._check_completers()
        self._check_seeds()
        _check_choices("acquisition", [self.acquisition], tuple(INSTRUMENTS))
        _check_at_least(self, 0, "n_examples")

    def _check_geometries(self) -> None:
        sizes = {geometry.image_size for geometry in self.geometries.values()}
        if len(sizes) != 1:
            found = f"fields of {sorted(sizes)} px" if sizes else "nothing"
            raise SettingError(f"geometries: got {found}; expected geometries of one field")
        _check_choices("budgets", tuple(self.budgets), tuple(self.geometries))
        for name, limits in self.budgets.items():
            _check_choices(f"budgets[{name!r}]", tuple(limits), LIMITS)
            for what, limit in limits.items():
                if not 0 < limit < math.inf:
                    raise SettingError(f"budgets[{name!r}].{what}: got {limit}; expected more than 0")

    def _check_scans(self) -> None:
        names = self.scan_names
        _check_different("scans", names)
        completed = [scan.name for scan in self.scans if scan.kind != DENSE]
        _check_choices("reference", [self.reference], completed)
        _check_choices(
            "factorial", self.factorial, [scan.name for scan in self.scans if scan.kind not in NOT_COMPETING]
        )
        for place, scan in enumerate(self.scans):
            other = scan.settings.get("of")
            if other is not None and other not in names[:place]:
                raise SettingError(f"scan {scan.name!r}: got 'of' {other!r}; expected a scan that stands before it")

    def _check_completers(self) -> None:
        _check_different("completers", self.completers)
        for name in (f"{SHARED}+", f"{OWN}+"):
            if name in self.completers:
                raise SettingError(f"completers: got {name!r}; expected {name[:-1]!r}, which learns the blur itself")
        plain = [name for name in self.completers if ":" not in name and not is_classical(name)]
        _check_choices("completers", plain, (SHARED, OWN, *COMPLETERS))
        if not self.completers:
            raise SettingError("completers: got nothing; expected at least one")
        if set(self.completers) == {OWN}:
            raise SettingError(f"completers: got {OWN!r} alone; expected at least one beside it that judges every scan")

    def _check_seeds(self) -> None:
        _check_different("seeds", self.seeds)
        folds = [seed % self.split.n_folds for seed in self.seeds]
        if not self.seeds or min(self.seeds) < 0 or len(set(folds)) < len(folds):
            raise SettingError(
                f"seeds: got {list(self.seeds)}; expected at least one and at most {self.split.n_folds}, 0 or more, "
                f"no two of one fold (seed modulo n_folds)"
            )

    @property
    def scan_names(self) -> tuple[str, ...]:
        """Names of the scans, in order."""
        return tuple(scan.name for scan in self.scans)

    @property
    def image_size(self) -> int:
        """Side S of the crops [px]."""
        return next(iter(self.geometries.values())).image_size

    @property
    def identity(self) -> str:
        """Hash of all that decides a result: SHA-256 of the canonical JSON without name, paths and number of examples.

        What the JSON leaves out does not count: a run is known by the benchmark whose scans say all their settings, see
        `adaptive_scan.benchmark.scan_kinds.resolve_scans`.

        Raises:
            SettingError: If the benchmark has micrographs whose fingerprint is not known; see
                `adaptive_scan.benchmark.pictures.open_pictures`.
        """
        if self.pictures.micrographs is not None and self.pictures.fingerprint is None:
            raise SettingError(
                f"the fingerprint of {self.pictures.micrographs}: got None; expected a resolved benchmark"
            )
        content = self.to_dict()
        del content["name"], content["n_examples"], content["pictures"]["micrographs"], content["pictures"]["groups"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return {"format": FORMAT_VERSION, **settings_to_json(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Benchmark:
        """The benchmark that `to_dict` wrote down; settings left out take their defaults.

        Raises:
            SettingError: If a key is unknown or missing, a value is of another kind, or settings do not go together;
                the message names the key.
        """
        if not isinstance(content, Mapping):
            raise SettingError(f"got {type(content).__name__} {content!r}; expected an object of settings")
        if content.get("format", FORMAT_VERSION) != FORMAT_VERSION:
            raise SettingError(f"format: got {content['format']!r}; expected {FORMAT_VERSION}")
        return settings_from_json(cls, {key: value for key, value in content.items() if key != "format"})

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Benchmark:
        """The benchmark of a JSON file.

        Raises:
            BenchmarkFileError: If there is none; one line with the file and the key.
        """
        expected = "a benchmark, as `adaptive-scan compare --new` writes"
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        except OSError as error:
            raise BenchmarkFileError(path, str(error.strerror), expected) from error
        except ValueError as error:
            raise BenchmarkFileError(path, f"no JSON ({error})", expected) from error
        try:
            return cls.from_dict(content)
        except SettingError as error:
            raise BenchmarkFileError(path, str(error)) from error

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the benchmark as JSON; the file appears by rename."""
        write_json(path, self.to_dict())


def benchmark_content(description: Mapping[str, Any]) -> dict[str, Any]:
    """The benchmark in the description of results, which says beside it what was found: JSON that can be run again.

    Args:
        description: That of a `Results`.

    Example:
        >>> benchmark_content({"name": "mine", "seeds": [0], "versions": {"numpy": "2.0"}})
        {'name': 'mine', 'seeds': [0]}
    """
    own = ("format", *(part.name for part in fields(Benchmark)))
    return {key: value for key, value in description.items() if key in own}


def check_competing(benchmark: Benchmark, scan: str, role: str) -> None:
    """Refuse a scan of the factorial that does not compete.

    Args:
        benchmark: The benchmark.
        scan: Name of a scan, of the factorial or not.
        role: What it turned out to be, one of `adaptive_scan.evaluation.results.ROLES`.

    Raises:
        SettingError: If the factorial names the scan and its role is none of `COMPETING_ROLES`.
    """
    if scan in benchmark.factorial and role not in COMPETING_ROLES:
        raise SettingError(f"factorial: got {scan!r}, of the role {role!r}; expected static and adaptive scans")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def check_comparable(first: Any, second: Any) -> None:
    """Refuse two results of other benchmarks side by side.

    Args:
        first: A `Results`.
        second: Another.

    Raises:
        SettingError: If their identities differ.
    """
    if first.identity != second.identity:
        raise SettingError(
            f"results {first.name!r} and {second.name!r} have the identities {first.identity[:12]} and "
            f"{second.identity[:12]}; expected the same one, for only equal benchmarks are comparable"
        )


def _check_at_least(settings: Any, lowest: int, *names: str) -> None:
    for name in names:
        if not getattr(settings, name) >= lowest:
            raise SettingError(f"{name}: got {getattr(settings, name)!r}; expected at least {lowest}")


def _check_choices(what: str, found: Sequence[str], known: Sequence[str]) -> None:
    for name in found:
        if name not in known:
            raise SettingError(f"{what}: got {name!r}; expected one of {', '.join(known)}")


def _check_different(what: str, found: Sequence[Any]) -> None:
    for value in found:
        if list(found).count(value) > 1:
            raise SettingError(f"{what}: got {value!r} twice; expected each once")
