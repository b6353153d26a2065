"""Procedural micrographs: crystals, particles, grains and amorphous films.

One module holds one group of families; a family is a function that draws specimens (:class:`Family`), and
:data:`FAMILIES` lists those that :func:`procedural_crops` draws from.
"""

from __future__ import annotations

from adaptive_scan.specimens.family import Family
from adaptive_scan.specimens.procedural import FAMILIES, procedural_crops

__all__ = ["FAMILIES", "Family", "procedural_crops"]
