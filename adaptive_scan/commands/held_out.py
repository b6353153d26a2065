"""The pictures that a run held out, for whatever measures its networks later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_scan.commands.crops import (
    DataConfig,
    TestCrops,
    micrograph_hashes,
    named_groups,
    open_micrographs,
    procedural_test_crops,
    test_crops,
)
from adaptive_scan.commands.generator_settings import GeneratorConfig
from adaptive_scan.commands.run_folder import MANIFEST, POLICY, find_generator, read_config, read_json
from adaptive_scan.commands.settings import TrainingConfig
from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import MicrographDataset, fingerprint


@dataclass(frozen=True)
class TrainedGenerator:
    """The generator of a run of either kind, with the pictures that it never saw.

    Attributes:
        folder: Run folder.
        config: Settings of the run.
        path: File of the generator.
        blur: Whether it was trained towards blurred targets.
        test: What the run held out.
    """

    folder: Path
    config: TrainingConfig | GeneratorConfig
    path: Path
    blur: bool
    test: TestCrops


def trained_generator(folder: Path, *, skip_bad: bool = False) -> TrainedGenerator:
    """The generator of a folder that ``train_rdpg`` or ``train_generator`` wrote.

    Args:
        folder: Run folder.
        skip_bad: Whether files of its micrographs that cannot be used are skipped.

    Raises:
        SettingError: If the folder is none, has no generator yet, or its pictures are not those of the run any more.
        MicrographError: If a file of the micrographs cannot be used.
    """
    config: TrainingConfig | GeneratorConfig
    if (folder / POLICY).exists():
        config = read_config(TrainingConfig, folder)
        blur = config.data.blur
    else:
        config = read_config(GeneratorConfig, folder)
        blur = config.training.blur
    path = find_generator(folder)
    test = held_out_crops(folder, config, read_json(folder / MANIFEST), skip_bad=skip_bad)
    return TrainedGenerator(folder, config, path, blur, test)


def held_out_crops(
    folder: Path,
    config: DataConfig,
    manifest: Mapping[str, Any],
    *,
    skip_bad: bool = False,
    groups: Path | None = None,
) -> TestCrops:
    """Crops of the pictures that a run held out.

    Args:
        folder: Run folder, for complaints.
        config: Settings of the run.
        manifest: Its manifest.
        skip_bad: Whether files that cannot be used are skipped, as they are where the run skipped them.
        groups: CSV of groups instead of the run's.

    Raises:
        SettingError: If the pictures are not those of the run any more.
        MicrographError: If a file of the micrographs cannot be used.
    """
    if config.micrographs is None:
        return procedural_test_crops(config)
    groups = config.groups if groups is None else groups
    dataset = open_micrographs(config.micrographs, config, skip_bad=skip_bad or config.skip_bad, groups=groups)
    if fingerprint(dataset) != manifest["data"].get("fingerprint"):
        raise SettingError(f"{dataset.root}: got other pictures than {folder} was trained on; expected the same")
    # By name and not by a new split: groups may have changed since training.
    held_out = set(manifest["data"]["test"])
    return test_crops(dataset.subset(np.flatnonzero([name in held_out for name in dataset.names])), config)


def without_trained(dataset: MicrographDataset, manifest: Mapping[str, Any]) -> MicrographDataset:
    """The micrographs whose group has none that a run trained on, here or in its own pictures.

    Args:
        dataset: Micrographs, perhaps some of those that the run trained on among them.
        manifest: That of the run.

    Raises:
        SettingError: If nothing is left.
    """
    data = manifest["data"]
    trained = set(data.get("train_hashes", ()))
    hashes = micrograph_hashes(dataset)
    groups = {group for group, a_hash in zip(dataset.groups, hashes, strict=True) if a_hash in trained}
    groups |= named_groups(dataset).intersection(data.get("train_groups", ()))
    kept = np.flatnonzero([group not in groups for group in dataset.groups])
    if len(kept) == 0:
        raise SettingError(f"{dataset.root}: got only pictures that the run trained on; expected some that it did not")
    if len(kept) < len(dataset):
        n_left_out = len(dataset) - len(kept)
        print(f"left out: {n_left_out} of {len(dataset)} micrographs, which the run trained on or whose group it did")
    return dataset.subset(kept)
