"""Where the probe goes: scan geometry, static scan families, sampling for arrays.

The same functions for tensors are in ``adaptive_scan.scans.tensors``, which alone imports torch; the compiled
loops are in ``adaptive_scan.scans.kernels``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptive_scan.lazy import exports

if TYPE_CHECKING:
    from adaptive_scan.scans.geometry import PRESETS, ScanGeometry, action_from_spacing, spacing_from_action
    from adaptive_scan.scans.lines import jittered_gridlike, lissajous, random_walk, serpentine_raster
    from adaptive_scan.scans.points import halton_points, random_points, uniform_grid
    from adaptive_scan.scans.polygonal import filling_path, polygonal_spiral
    from adaptive_scan.scans.sampling import coverage, partial_scans, path_length, sample
    from adaptive_scan.scans.spirals import archimedean_spiral, square_spiral
    from adaptive_scan.scans.static import STATIC_SCANS, StaticScan, static_scan, wide_raster, wide_spiral
else:
    __getattr__ = exports(__name__, __file__)

__all__ = [
    "PRESETS",
    "STATIC_SCANS",
    "ScanGeometry",
    "StaticScan",
    "action_from_spacing",
    "archimedean_spiral",
    "coverage",
    "filling_path",
    "halton_points",
    "jittered_gridlike",
    "lissajous",
    "partial_scans",
    "path_length",
    "polygonal_spiral",
    "random_points",
    "random_walk",
    "sample",
    "serpentine_raster",
    "spacing_from_action",
    "square_spiral",
    "static_scan",
    "uniform_grid",
    "wide_raster",
    "wide_spiral",
]
