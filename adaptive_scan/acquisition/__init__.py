"""What the instrument makes of a scan: where the probe really lands and what the detector reports.

An `Instrument` is a chain of small models: `ProbeModel`s displace the probe, `DetectorModel`s change what is read. What
they remember runs along the path of each scan. `INSTRUMENTS` holds presets by name, and
`scan_costs` says what a scan costs in electrons and time.
"""

from __future__ import annotations

from adaptive_scan.acquisition.costs import ScanCosts, scan_costs
from adaptive_scan.acquisition.detector import (
    DetectorLag,
    Dropouts,
    DurationNoise,
    Photomultiplier,
    PoissonCounting,
    Quantisation,
    ReadoutLag,
    Saturation,
    Zingers,
)
from adaptive_scan.acquisition.exposure import Exposure
from adaptive_scan.acquisition.instrument import Acquisition, Instrument
from adaptive_scan.acquisition.presets import INSTRUMENTS, as_instrument, make_instrument
from adaptive_scan.acquisition.probe import CoilLag, ScanJitter, SpecimenDrift
from adaptive_scan.acquisition.timing import Timing

__all__ = [
    "INSTRUMENTS",
    "Acquisition",
    "CoilLag",
    "DetectorLag",
    "Dropouts",
    "DurationNoise",
    "Exposure",
    "Instrument",
    "Photomultiplier",
    "PoissonCounting",
    "Quantisation",
    "ReadoutLag",
    "Saturation",
    "ScanCosts",
    "ScanJitter",
    "SpecimenDrift",
    "Timing",
    "Zingers",
    "as_instrument",
    "make_instrument",
    "scan_costs",
]
