"""Procedural micrographs: crystals, particles, grains and amorphous films.

Two kinds of families are registered by name. Those of :data:`FAMILIES` draw many crops at once and are what
:func:`procedural_crops` mixes by default. Those of :data:`SPECIMEN_FAMILIES` draw one specimen at a time with its exact
truth (:func:`make_specimen`): atoms, defects and masks; the part of them that shows atoms is :data:`ATOMIC_FAMILIES`.
"""

from __future__ import annotations

from adaptive_scan.specimens.family import Family
from adaptive_scan.specimens.procedural import FAMILIES, procedural_crops
from adaptive_scan.specimens.recipes import ATOMIC_FAMILIES, SPECIMEN_FAMILIES, SpecimenFamily, make_specimen
from adaptive_scan.specimens.truth import Defect, Specimen, Truth

__all__ = [
    "ATOMIC_FAMILIES",
    "FAMILIES",
    "SPECIMEN_FAMILIES",
    "Defect",
    "Family",
    "Specimen",
    "SpecimenFamily",
    "Truth",
    "make_specimen",
    "procedural_crops",
]
