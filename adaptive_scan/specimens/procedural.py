"""The registry of families, and crops drawn from a mixture of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaptive_scan.errors import SettingError
from adaptive_scan.specimens.family import Family
from adaptive_scan.specimens.grains import grains
from adaptive_scan.specimens.imaging import DEFAULT_IMAGING, ImagingSettings, record
from adaptive_scan.specimens.lattices import lattice
from adaptive_scan.specimens.nanoparticles import nanoparticles
from adaptive_scan.specimens.particles import sharp_particles, soft_particles
from adaptive_scan.specimens.recipes import SPECIMEN_FAMILIES, make_specimen

FAMILIES: dict[str, Family] = {
    "lattice": lattice,
    "nanoparticles": nanoparticles,
    "soft_particles": soft_particles,
    "sharp_particles": sharp_particles,
    "grains": grains,
}
"""The families by name. A family added here is drawn by :func:`procedural_crops` like any other."""

SMALLEST_CROP = 16

_CHUNK_PIXELS = 2**20  # bounds the memory of intermediate arrays, and keeps them near the processor


def procedural_crops(
    n_crops: int,
    crop_size: int,
    rng: np.random.Generator,
    *,
    families: Sequence[str] | str | None = None,
    imaging: ImagingSettings = DEFAULT_IMAGING,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw crops of procedural micrographs, normalised like crops of real ones.

    Each crop is of a family drawn with equal probability. The same state of ``rng`` gives the same crops.

    Args:
        n_crops: Number of crops N, at least 0.
        crop_size: Side S of a crop [px], at least 16.
        rng: Source of everything random.
        families: Names to draw from, or one of them: those of ``FAMILIES``, by default all of these, and those of
            ``SPECIMEN_FAMILIES``, which are slower and have a truth that is not kept here.
        imaging: What the microscope adds.

    Returns:
        Crops in [-1, 1], float32, shape (N, S, S), and the name of each crop's family, shape (N,).

    Raises:
        ValueError: If ``n_crops`` is negative, ``crop_size`` below 16, or a family unknown or none given.

    Example:
        >>> crops, names = procedural_crops(4, 32, np.random.default_rng(0), families=["grains"])
        >>> crops.shape, names.tolist()
        ((4, 32, 32), ['grains', 'grains', 'grains', 'grains'])
    """
    chosen = _checked_families(families)
    if n_crops < 0:
        raise SettingError(f"n_crops: got {n_crops}; expected at least 0")
    if crop_size < SMALLEST_CROP:
        raise SettingError(f"crop_size: got {crop_size} px; expected at least {SMALLEST_CROP} px")
    crops = np.empty((n_crops, crop_size, crop_size), np.float32)
    choices = rng.integers(len(chosen), size=n_crops)
    n_at_once = max(1, _CHUNK_PIXELS // crop_size**2)
    for code, name in enumerate(chosen):
        indices = np.flatnonzero(choices == code)
        for begin in range(0, len(indices), n_at_once):
            some = indices[begin : begin + n_at_once]
            crops[some] = record(_specimens(name, len(some), crop_size, rng), rng, imaging)
    return crops, np.array(chosen)[choices]


def _specimens(name: str, n_crops: int, crop_size: int, rng: np.random.Generator) -> np.ndarray:
    """Pictures of a family of either kind, before the microscope; shape (N, S, S)."""
    if name in FAMILIES:
        return FAMILIES[name](n_crops, crop_size, rng)
    return np.stack([make_specimen(name, crop_size, rng).picture for _ in range(n_crops)])


def _checked_families(families: Sequence[str] | str | None) -> list[str]:
    if families is None:
        return list(FAMILIES)
    chosen = [families] if isinstance(families, str) else list(families)
    unknown = [name for name in chosen if name not in FAMILIES and name not in SPECIMEN_FAMILIES]
    if unknown or not chosen:
        found = f"unknown families {unknown}" if unknown else "no families"
        raise SettingError(f"{found}; expected names among {list(FAMILIES)} and {list(SPECIMEN_FAMILIES)}")
    return chosen
