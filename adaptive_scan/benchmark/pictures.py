"""The pictures of a benchmark: micrographs, or procedural specimens with what is known of them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from adaptive_scan.benchmark.definition import Benchmark, PictureSettings
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


class PictureBank(Protocol):
    """Pictures that can be dealt out by group.

    Attributes:
        groups: Group of each picture.
    """

    groups: list[str]

    @property
    def skipped(self) -> list[str]:
        """What was wrong with each picture that was left out."""
        ...

    def train_source(self, indices: np.ndarray) -> CropSource:
        """Random crops of these pictures, under the symmetries of the square."""
        ...

    def cut(self, indices: np.ndarray) -> CutCrops:
        """Crops of these pictures at fixed places."""
        ...


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


def open_pictures(benchmark: Benchmark) -> tuple[Benchmark, MicrographBank | ProceduralBank]:
    """The pictures of a benchmark, and the benchmark with their fingerprint, which gives it its identity.

    Raises:
        MicrographError: If a file cannot be used.
        ValueError: If the pictures are others than the benchmark was written for.
    """
    settings = benchmark.pictures
    if settings.micrographs is None:
        return benchmark, ProceduralBank(settings, benchmark.image_size)
    bank = MicrographBank(settings, benchmark.image_size)
    if settings.fingerprint not in (None, bank.fingerprint):
        raise ValueError(
            f"pictures.micrographs: got other pictures or groups at {settings.micrographs}, with the fingerprint "
            f"{bank.fingerprint[:12]}; expected those with {str(settings.fingerprint)[:12]}"
        )
    known = dataclasses.replace(settings, fingerprint=bank.fingerprint)
    return dataclasses.replace(benchmark, pictures=known), bank
