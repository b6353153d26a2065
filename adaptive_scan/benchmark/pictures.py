"""The pictures of a benchmark, micrographs or specimens with what is known of them, and how they are dealt out.

Each seed tests on a fold of its own, so that no picture is tested twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaptive_scan.benchmark.definition import Benchmark, PictureSettings
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.content import content_class, find_contents, read_contents
from adaptive_scan.evaluation.crops import CutCrops
from adaptive_scan.evaluation.truth import specimen_crops
from adaptive_scan.micrographs import (
    ArrayCrops,
    CropSource,
    MicrographCrops,
    MicrographDataset,
    blur_target,
    fingerprint,
)
from adaptive_scan.specimens import FAMILIES, SPECIMEN_FAMILIES, Truth, procedural_crops
from adaptive_scan.specimens.imaging import IMAGINGS

_PROCEDURAL = 2**32 - 3  # a stream of random numbers that no training and no other comparison draws from


class MicrographBank:
    """Micrographs of a file or folder.

    Args:
        settings: Where they are and how they are cut.
        image_size: Side S of the crops [px].

    Attributes:
        groups: Group of each micrograph.
        fingerprint: Hash of name, shape and samples of each micrograph (`adaptive_scan.micrographs.fingerprint`), of
            their groups and of their content. A file that was changed between the samples alone keeps it.

    Raises:
        MicrographError: If a file cannot be used, or none is left.
    """

    def __init__(self, settings: PictureSettings, image_size: int) -> None:
        assert settings.micrographs is not None
        side = image_size * settings.downsample
        self.settings, self.image_size = settings, image_size
        self.dataset = MicrographDataset(
            settings.micrographs, crop_size=side, skip_bad=settings.skip_bad, groups=settings.groups
        )
        self.groups = self.dataset.groups
        told = find_contents(self.dataset.root)
        if settings.groups is not None:
            told = told | read_contents(Path(settings.groups), [self.dataset.root])
        self._content = [content_class(told.get(file.resolve(), "")) for file in self.dataset.files]
        lines = [fingerprint(self.dataset), *self.groups, *self._content]
        self.fingerprint = hashlib.sha256("\0".join(lines).encode()).hexdigest()

    @property
    def skipped(self) -> list[str]:
        """What was wrong with each file that was left out."""
        return [str(error) for error in self.dataset.skipped]

    def train_source(self, indices: np.ndarray) -> CropSource:
        """Random crops of these micrographs, under the symmetries of the square."""
        return self._source(indices, symmetries=True)

    def cut(self, indices: np.ndarray) -> CutCrops:
        """Crops of these micrographs that do not overlap, at most as many of each as the settings allow."""
        source = self._source(indices, symmetries=False)
        ids = source.tiles(max_per_micrograph=self.settings.crops_per_micrograph)
        crops, chosen = source.take(ids), indices[ids[:, 0]]
        return CutCrops(
            crops,
            blur_target(crops) if self.settings.blur else crops,
            [self.dataset.names[i] for i in chosen],
            [self.groups[i] for i in chosen],
            ids[:, 1:3],
            [self._content[i] for i in chosen],
            [None] * len(crops),
        )

    def _source(self, indices: np.ndarray, *, symmetries: bool) -> MicrographCrops:
        subset = self.dataset.subset(indices)
        return MicrographCrops(subset, self.image_size, downsample=self.settings.downsample, symmetries=symmetries)


class ProceduralBank:
    """Procedural crops, each a specimen of its own, which its number and the seed alone decide.

    Args:
        settings: How many, of which families, under which seed.
        image_size: Side S of the crops [px].

    Attributes:
        groups: A name for each crop.
        fingerprint: None: the settings say all.

    Example:
        >>> bank = ProceduralBank(PictureSettings(n_crops=3, families=("grains",)), 16)
        >>> bank.groups, bank.cut(np.array([2])).crops.shape
        (['grains_00000', 'grains_00001', 'grains_00002'], (1, 16, 16))
    """

    fingerprint = None

    def __init__(self, settings: PictureSettings, image_size: int) -> None:
        self.settings = settings
        families = settings.families or tuple(FAMILIES)
        drawn = [_draw(families, image_size, settings, number) for number in range(settings.n_crops)]
        self._crops = np.stack([crop for crop, _, _ in drawn])
        self._families = [family for _, family, _ in drawn]
        self._truths = [truth for _, _, truth in drawn]
        self.groups = [f"{family}_{number:05d}" for number, family in enumerate(self._families)]

    @property
    def skipped(self) -> list[str]:
        """None is left out."""
        return []

    def train_source(self, indices: np.ndarray) -> CropSource:
        """Random ones of these crops, under the symmetries of the square."""
        return ArrayCrops(self._crops[indices], symmetries=True, normalise=False)

    def cut(self, indices: np.ndarray) -> CutCrops:
        """These crops."""
        crops, names = self._crops[indices], [self.groups[i] for i in indices]
        return CutCrops(
            crops,
            blur_target(crops) if self.settings.blur else crops,
            names,
            names,
            None,
            [self._families[i] for i in indices],
            [self._truths[i] for i in indices],
        )


def _draw(
    families: Sequence[str], image_size: int, settings: PictureSettings, number: int
) -> tuple[np.ndarray, str, Truth | None]:
    """A procedural crop (S, S), its family, and its truth where the family knows it."""
    rng = np.random.default_rng([_PROCEDURAL, settings.seed, number])
    family, imaging = str(rng.choice(families)), IMAGINGS[settings.imaging]
    if family not in SPECIMEN_FAMILIES:
        return procedural_crops(1, image_size, rng, families=family, imaging=imaging)[0][0], family, None
    crops, truths, _ = specimen_crops(1, image_size, rng, [family], pixel_size=settings.pixel_size, imaging=imaging)
    return crops[0], family, truths[0]


PictureBank = MicrographBank | ProceduralBank
"""Pictures that can be dealt out by group."""


def open_pictures(benchmark: Benchmark) -> tuple[Benchmark, PictureBank]:
    """The pictures of a benchmark, and the benchmark with their fingerprint, which gives it its identity.

    Raises:
        MicrographError: If a file cannot be used.
        SettingError: If the pictures are others than the benchmark was written for.
    """
    settings = benchmark.pictures
    if settings.micrographs is None:
        return benchmark, ProceduralBank(settings, benchmark.image_size)
    bank = MicrographBank(settings, benchmark.image_size)
    if settings.fingerprint not in (None, bank.fingerprint):
        raise SettingError(
            f"pictures.micrographs: got other pictures or groups at {settings.micrographs}, with the fingerprint "
            f"{bank.fingerprint[:12]}; expected those with {str(settings.fingerprint)[:12]}"
        )
    known = dataclasses.replace(settings, fingerprint=bank.fingerprint)
    return dataclasses.replace(benchmark, pictures=known), bank


@dataclass(frozen=True)
class Fold:
    """Micrographs of one seed by their use, each as sorted indices, int64.

    Attributes:
        train: What networks and policies learn on.
        validation: What scans are tuned and chosen on.
        test: What scans are compared on.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def make_fold(
    groups: Sequence[str], seed: int, *, n_folds: int = 5, validation_share: float = 0.15, split_seed: int = 0
) -> Fold:
    """Deal micrographs out so that no group is in two parts, and seeds of different folds test on different groups.

    The groups, sorted by name, are shuffled once with ``split_seed`` and dealt into ``n_folds`` folds, whose sizes
    differ by at most one. The test set is fold ``seed mod n_folds``. The other groups are shuffled with both seeds; the
    first of them, ``validation_share`` of their number but at least one, are for validation. Neither the order of the
    files nor how many a group has matters to which part a group falls into.

    Args:
        groups: Group of each micrograph, shape (n_micrographs,).
        seed: Which repetition.
        n_folds: Number of folds, at least 2.
        validation_share: Share of the groups outside the test fold that are for validation.
        split_seed: Of the one shuffle that all repetitions share.

    Returns:
        The three parts.

    Raises:
        SettingError: If there are fewer groups than folds, or than it takes to train and to validate beside a fold.

    Example:
        >>> fold = make_fold(["a", "a", "b", "c", "d", "e"], seed=0)
        >>> np.sort(np.concatenate([fold.train, fold.validation, fold.test])).tolist()
        [0, 1, 2, 3, 4, 5]
    """
    names = np.array(sorted(set(groups)), dtype=str)
    n_needed = 4 if n_folds == 2 else n_folds  # two groups at least must be left beside a fold
    if len(names) < n_needed:
        raise SettingError(
            f"got {len(names)} group(s) of micrographs for {n_folds} folds; expected at least {n_needed}"
        )
    folds = np.array_split(np.random.default_rng(split_seed).permutation(len(names)), n_folds)
    place = seed % n_folds
    rest = np.sort(np.concatenate([fold for i, fold in enumerate(folds) if i != place]))
    rest = np.random.default_rng([split_seed, seed]).permutation(rest)
    n_validation = min(max(round(validation_share * len(rest)), 1), len(rest) - 1)
    parts = {"test": folds[place], "validation": rest[:n_validation], "train": rest[n_validation:]}
    members = np.array(groups, dtype=str)
    return Fold(**{part: np.flatnonzero(np.isin(members, names[chosen])) for part, chosen in parts.items()})
