"""``specimens``: a folder of procedural micrographs, each with its truth, and a manifest that names them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tqdm import tqdm

from adaptive_scan._version import __version__
from adaptive_scan.commands.command_options import SpecimenConfig
from adaptive_scan.commands.run_folder import check_new, make_folder
from adaptive_scan.files import replacing, write_atomically, write_npz
from adaptive_scan.micrographs.splits import MANIFEST_NAME
from adaptive_scan.specimens.recipes import SPECIMEN_FAMILIES, make_specimen
from adaptive_scan.specimens.truth import Specimen

COLUMNS = ("file", "group", "family", "pixel_size", "seed")
"""Columns of the manifest; the pixel size is in Å."""

_ANGSTROMS_PER_CM = 1e8


def make_specimens(config: SpecimenConfig) -> Path:
    """Write pictures, their truth and the manifest, which comes last: a folder without it is not finished.

    Picture k is ``specimen_k.tif`` (float32; its description is JSON with pixel size [Å], family, seed and defects,
    its resolution tags hold the pixel size) beside ``specimen_k.npz`` with the arrays of its truth. The seed in
    the manifest remakes it: ``make_specimen(family, size, np.random.default_rng(seed))``.

    Args:
        config: Settings.

    Returns:
        The manifest.

    Raises:
        SettingError: If the folder has something in it or cannot be made.
    """
    check_new(config.out)
    folder = make_folder(config.out)
    draws = np.random.default_rng(config.seed)
    names = config.families or tuple(SPECIMEN_FAMILIES)
    families = draws.integers(len(names), size=config.n)
    seeds = draws.integers(2**32, size=config.n)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(COLUMNS)
    for number in tqdm(range(config.n), desc="specimens", disable=None):
        family, seed = names[families[number]], int(seeds[number])
        specimen = make_specimen(family, config.size, np.random.default_rng(seed), pixel_size=config.pixel_size)
        name = f"specimen_{number:05d}"
        write_specimen(specimen, folder / f"{name}.tif", seed)
        rows.writerow([f"{name}.tif", f"{config.seed}-{number:05d}", family, repr(specimen.truth.pixel_size), seed])
    write_atomically(folder / MANIFEST_NAME, table.getvalue())
    return folder / MANIFEST_NAME


def write_specimen(specimen: Specimen, path: Path, seed: int) -> None:
    """Write a picture with its metadata, and its truth beside it under the same name with the suffix ``.npz``.

    Args:
        specimen: Picture and truth.
        path: Where the picture goes.
        seed: What it was made from.
    """
    truth = specimen.truth
    arrays = {name: getattr(truth, name) for name in ("positions", "numbers", "parts", "displaced", "vacancies")}
    arrays |= {f"mask_{name}": mask for name, mask in truth.masks.items()}
    write_npz(path.with_suffix(".npz"), **arrays)
    step = _ANGSTROMS_PER_CM / truth.pixel_size
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            specimen.picture,
            photometric="minisblack",
            description=json.dumps(_description(specimen, path, seed), allow_nan=False),
            resolution=(step, step),
            resolutionunit="CENTIMETER",
            metadata=None,
        )


def _description(specimen: Specimen, path: Path, seed: int) -> dict[str, Any]:
    truth = specimen.truth
    return {
        "adaptive_scan": __version__,
        "family": truth.family,
        "specimen": truth.specimen,
        "pixel_size": truth.pixel_size,
        "pixel_size_unit": "angstrom",
        "seed": seed,
        "n_atoms": len(truth.positions),
        "defects": [dataclasses.asdict(defect) for defect in truth.defects],
        "truth": path.with_suffix(".npz").name,
    }


def write_specimens(config: SpecimenConfig) -> None:
    """Make what is asked for, and say where it is.

    Raises:
        SettingError: If the folder cannot be used.
    """
    print(f"written: {config.n} pictures of {config.size} px and {make_specimens(config)}")
