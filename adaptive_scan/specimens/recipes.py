"""The registry of the families that carry their truth, and specimens drawn from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from adaptive_scan.errors import SettingError
from adaptive_scan.specimens import atomic, extended, objects
from adaptive_scan.specimens.contrast import random_contrast
from adaptive_scan.specimens.scenes import checked_size, never_uniform, random_pixel_size
from adaptive_scan.specimens.truth import Specimen, Truth


class SpecimenFamily(Protocol):
    """A kind of specimen that can be drawn any number of times, with its truth."""

    def __call__(self, size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
        """Draw one.

        Args:
            size: Side S of the picture [px], at least 16.
            rng: Source of everything random.
            pixel_size: Side of a pixel [Å]; drawn by default.
        """
        ...


_OBJECTS = {
    "soft_objects": (objects.soft_objects, "particles"),
    "sharp_objects": (objects.sharp_objects, "particles"),
    "grain_objects": (objects.grain_objects, "grains"),
    "bands": (objects.band_objects, "grains"),
    "boxes": (objects.box_objects, "particles"),
    "cracks": (objects.crack_objects, "defects"),
}
_LOW_MAGNIFICATION = (2.0, 100.0)  # range of the pixel size where no atom is seen [Å]


@dataclass(frozen=True)
class ObjectFamily:
    """Pictures of low magnification: one kind of objects.

    Attributes:
        name: Name of the family, which names the kind.
    """

    name: str

    def __call__(self, size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
        """Draw one; see :class:`SpecimenFamily`."""
        checked_size(size)
        step = random_pixel_size(size, rng, pixel_size, _LOW_MAGNIFICATION, 0.0)
        draw, mask = _OBJECTS[self.name]
        picture, labels = draw(size, rng)
        nothing = np.empty((0, 3), np.float32)
        truth = Truth(
            family=self.name,
            pixel_size=step,
            positions=nothing,
            numbers=np.empty(0, np.uint8),
            parts=np.empty(0, np.uint8),
            displaced=np.empty(0, np.bool_),
            vacancies=nothing,
            masks={mask: labels},
            specimen=self.name,
        )
        return Specimen(random_contrast(never_uniform(picture), rng), truth)


ATOMIC_FAMILIES: dict[str, SpecimenFamily] = {
    "space_group_crystal": atomic.space_group_crystal,
    "material_crystal": atomic.material_crystal,
    "plane_group_pattern": atomic.plane_group_pattern,
    "amorphous": atomic.amorphous,
    "points": atomic.points,
    "nanocrystals": atomic.nanocrystals,
    "grain_boundary": extended.grain_boundary,
    "twin_boundary": extended.twin_boundary,
    "stacking_fault": extended.stacking_fault,
    "antiphase_boundary": extended.antiphase_boundary,
    "edge_dislocation": extended.edge_dislocation,
    "precipitate": extended.precipitate,
    "step_edge": extended.step_edge,
    "vacancies": atomic.vacancies,
}
"""Families at atomic resolution."""

SPECIMEN_FAMILIES: dict[str, SpecimenFamily] = {**ATOMIC_FAMILIES, **{name: ObjectFamily(name) for name in _OBJECTS}}
"""All families that carry their truth, those of low magnification behind those of atoms."""


def make_specimen(family: str, size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """Draw a specimen with its truth. The same state of ``rng`` gives the same specimen.

    Args:
        family: One of ``SPECIMEN_FAMILIES``.
        size: Side S of the picture [px], at least 16.
        rng: Source of everything random.
        pixel_size: Side of a pixel [Å]; drawn from the family's range by default.

    Returns:
        Picture and truth.

    Raises:
        ValueError: If the family is unknown, or the size or the pixel size too small.

    Example:
        >>> specimen = make_specimen("stacking_fault", 64, np.random.default_rng(0))
        >>> specimen.picture.shape, specimen.truth.defects[0].kind
        ((64, 64), 'stacking_fault')
    """
    if family not in SPECIMEN_FAMILIES:
        raise SettingError(f"family: got {family!r}; expected one of {', '.join(SPECIMEN_FAMILIES)}")
    return SPECIMEN_FAMILIES[family](size, rng, pixel_size=pixel_size)
