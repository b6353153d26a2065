"""Files to arrays: readers, preprocessing, crops and splits. Floor 0: imports neither torch nor numba."""

from __future__ import annotations

from adaptive_scan.micrographs.crops import ArrayCrops, CropSource, MicrographCrops, materialise
from adaptive_scan.micrographs.dataset import MicrographDataset, fingerprint
from adaptive_scan.micrographs.errors import MicrographError
from adaptive_scan.micrographs.mixed import MixedCrops
from adaptive_scan.micrographs.preprocessing import (
    apply_symmetry,
    area_downsample,
    blur_target,
    gaussian_kernel,
    normalise,
)
from adaptive_scan.micrographs.readers import SUFFIXES, read_micrograph
from adaptive_scan.micrographs.splits import split_groups

__all__ = [
    "SUFFIXES",
    "ArrayCrops",
    "CropSource",
    "MicrographCrops",
    "MicrographDataset",
    "MicrographError",
    "MixedCrops",
    "apply_symmetry",
    "area_downsample",
    "blur_target",
    "fingerprint",
    "gaussian_kernel",
    "materialise",
    "normalise",
    "read_micrograph",
    "split_groups",
]
