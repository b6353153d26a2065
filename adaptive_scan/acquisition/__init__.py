"""What the instrument makes of a scan: where the probe really lands and what the detector reports.

The environment asks an `Acquisition` after each segment. `IdealAcquisition` changes nothing; dose, detector noise,
scan jitter, fast-scan lag and drift are further implementations of the same protocol.
"""

from __future__ import annotations

from adaptive_scan.acquisition.instrument import Acquisition, IdealAcquisition

__all__ = ["Acquisition", "IdealAcquisition"]
