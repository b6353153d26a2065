"""The crops of a run: micrographs or procedural ones, to train and to test on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from adaptive_scan.commands.settings import CropSettings
from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import (
    ArrayCrops,
    CropSource,
    MicrographCrops,
    MicrographDataset,
    MicrographError,
    MixedCrops,
    fingerprint,
    split_groups,
)
from adaptive_scan.micrographs.dataset import DEFAULT_CACHE_BYTES
from adaptive_scan.scans import ScanGeometry
from adaptive_scan.specimens import procedural_crops
from adaptive_scan.specimens.imaging import IMAGINGS

_TRAIN, _TEST = 0, 1  # streams of random numbers of procedural crops


class DataConfig(Protocol):
    """The settings that decide the crops of a run, of whatever kind it is."""

    @property
    def micrographs(self) -> Path | None:
        """File or folder of micrographs; None for procedural ones."""

    @property
    def groups(self) -> Path | None:
        """CSV of the groups of micrographs."""

    @property
    def skip_bad(self) -> bool:
        """Whether bad files are skipped."""

    @property
    def seed(self) -> int:
        """Seed of the split and of procedural crops."""

    @property
    def geometry(self) -> ScanGeometry:
        """The scan, whose field is a crop."""

    @property
    def data(self) -> CropSettings:
        """How crops are cut or made."""


@dataclass(frozen=True)
class TestCrops:
    """Crops that no training saw, and where they come from.

    Attributes:
        crops: Shape (n_crops, S, S), in [-1, 1].
        micrographs: Name of each crop's micrograph.
        groups: Group of each crop's micrograph: what the bootstrap draws.
        corners: Row and column of each crop in its micrograph, or None for procedural crops.
    """

    crops: np.ndarray
    micrographs: list[str]
    groups: list[str]
    corners: np.ndarray | None


@dataclass(frozen=True)
class Data:
    """Crops of a run.

    Attributes:
        train: Source of crops to train on.
        test: Crops to compare scans on.
        description: Names, numbers and hashes, for the manifest.
        skipped: What was wrong with each file that was skipped; grows when more are found in training.
    """

    train: CropSource
    test: TestCrops
    description: dict[str, Any]
    skipped: list[MicrographError]


def load_data(config: DataConfig) -> Data:
    """Crops to train and to test on, split by group of micrographs.

    Raises:
        MicrographError: If a file cannot be used and bad files are not skipped, or nothing is left.
        SettingError: If the micrographs cannot be split.
    """
    return _procedural_data(config) if config.micrographs is None else _micrograph_data(config, config.micrographs)


def _procedural_data(config: DataConfig) -> Data:
    train, trained_on = procedural_training_crops(config)
    test = procedural_test_crops(config)
    description = {
        "micrographs": None,
        **trained_on,
        "n_test_crops": len(test.crops),
        "test_sha256": hashlib.sha256(test.crops.tobytes()).hexdigest(),
    }
    return Data(train, test, description, [])


def procedural_training_crops(config: DataConfig) -> tuple[CropSource, dict[str, Any]]:
    """Procedural crops to train on, those of the seed of the run, and what the manifest says of them."""
    rng = np.random.default_rng([config.seed, _TRAIN])
    crops, _ = _draw_procedural(config, config.data.n_procedural, rng)
    described = {"n_train_crops": len(crops), "train_sha256": hashlib.sha256(crops.tobytes()).hexdigest()}
    return ArrayCrops(crops, symmetries=True), described


def _draw_procedural(config: DataConfig, n_crops: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    settings, size = config.data, config.geometry.image_size
    families, imaging = settings.families or None, IMAGINGS[settings.imaging]
    return procedural_crops(n_crops, size, rng, families=families, imaging=imaging)


def procedural_test_crops(config: DataConfig) -> TestCrops:
    """Procedural crops to compare scans on, the same ones whatever the seed of the run."""
    rng = np.random.default_rng([2**32 - 1, _TEST])
    crops, families = _draw_procedural(config, config.data.n_procedural_test, rng)
    names = [f"{family}_{i:04d}" for i, family in enumerate(families)]
    return TestCrops(crops, names, names, None)


def open_micrographs(
    path: Path, config: DataConfig, *, skip_bad: bool, groups: Path | None = None
) -> MicrographDataset:
    """Micrographs large enough for a crop under these settings.

    Raises:
        MicrographError: As :class:`~adaptive_scan.micrographs.MicrographDataset` does; if all pictures fit into memory,
            also for damage inside one of them.
    """
    side = config.geometry.image_size * config.data.downsample
    dataset = MicrographDataset(path, crop_size=side, skip_bad=skip_bad, groups=groups)
    if not skip_bad and 4 * dataset.shapes.prod(axis=1).sum() <= DEFAULT_CACHE_BYTES:
        for number in range(len(dataset)):
            # Better now than in the middle of training; they are decoded once and kept either way.
            dataset.window(number, 0, 0, side)
    return dataset


def split_micrographs(dataset: MicrographDataset, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the micrographs to train and to test on: by folder where folders say so, else by group at random.

    Folders say so where there is ``train`` beside ``test`` or, without that, beside ``validation``.

    Raises:
        SettingError: If all micrographs are of one group.
    """
    folders = dataset.predefined_splits or {}
    held_out = folders.get("test", folders.get("validation"))
    if "train" in folders and held_out is not None:
        return folders["train"], held_out
    if len(set(dataset.groups)) < 2:
        what = "one micrograph" if len(dataset) == 1 else f"{len(dataset)} micrographs of one group"
        raise SettingError(
            f"{dataset.root}: got {what}; expected at least two groups, one of them to hold out"
            " (add a micrograph of another area, or cut this one into two files)"
        )
    fraction = config.data.test_fraction
    train, test = split_groups(dataset.groups, (1.0 - fraction, fraction), seed=config.seed)
    return train, test


def test_crops(dataset: MicrographDataset, config: DataConfig) -> TestCrops:
    """Crops of each micrograph, without overlap, at fixed places."""
    source = MicrographCrops(dataset, config.geometry.image_size, downsample=config.data.downsample, symmetries=False)
    ids = source.tiles(max_per_micrograph=config.data.test_crops_per_micrograph)
    return TestCrops(
        source.take(ids),
        [dataset.names[i] for i in ids[:, 0]],
        [dataset.groups[i] for i in ids[:, 0]],
        ids[:, 1:3],
    )


def micrograph_hashes(dataset: MicrographDataset) -> list[str]:
    """A hash of each micrograph's content, shape and page, by which a run knows again what it trained on.

    Names do not count: a copy that was renamed or moved is known as well.
    """
    return [fingerprint(dataset.subset([i]), with_names=False) for i in range(len(dataset))]


def named_groups(dataset: MicrographDataset) -> set[str]:
    """Groups that a table names, which mean the same thing in another folder.

    A micrograph that no table names is a group of its own and bears its file's name, as pictures of other specimens in
    other folders may as well.
    """
    return {group for name, group in zip(dataset.names, dataset.groups, strict=True) if group != name}


def _micrograph_data(config: DataConfig, path: Path) -> Data:
    dataset = open_micrographs(path, config, skip_bad=config.skip_bad, groups=config.groups)
    train, test = split_micrographs(dataset, config)
    description = {
        "micrographs": str(path),
        "fingerprint": fingerprint(dataset),
        "test": [dataset.names[i] for i in test],
        "skipped": [str(error) for error in dataset.skipped],
    }
    held_out = test_crops(dataset.subset(test), config)
    if config.data.train_on == "procedural":
        procedural, trained_on = procedural_training_crops(config)
        return Data(procedural, held_out, {**description, **trained_on}, dataset.skipped)
    hashes, named = micrograph_hashes(dataset), named_groups(dataset)
    description |= {
        "train": [dataset.names[i] for i in train],
        "train_hashes": [hashes[i] for i in train],
        "train_groups": sorted(named.intersection(dataset.groups[i] for i in train)),
    }
    size, factor = config.geometry.image_size, config.data.downsample
    source: CropSource = MicrographCrops(dataset.subset(train), size, downsample=factor, symmetries=True)
    if config.data.train_on == "both":
        procedural, trained_on = procedural_training_crops(config)
        source, description = MixedCrops([source, procedural]), {**description, **trained_on}
    return Data(source, held_out, description, dataset.skipped)


def report_skipped(skipped: list[MicrographError]) -> None:
    """Say which files were left out, and why."""
    for error in skipped:
        print(f"skipped: {error}")
