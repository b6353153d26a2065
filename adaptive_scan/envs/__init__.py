"""The partial-scan environment: single, batched, and bridged to Stable-Baselines3.

`ScanBatch` holds the dynamics; `PartialScanEnv` (gymnasium), `PartialScanVectorEnv` (gymnasium.vector) and
`PartialScanVecEnv` (Stable-Baselines3) are its faces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptive_scan.envs.batch import BatchStep, ScanBatch, ScanSettings
from adaptive_scan.envs.dwell import DwellControl
from adaptive_scan.envs.single import PartialScanEnv
from adaptive_scan.envs.vector import PartialScanVectorEnv

if TYPE_CHECKING:
    from adaptive_scan.envs.sb3 import PartialScanVecEnv

__all__ = [
    "BatchStep",
    "DwellControl",
    "PartialScanEnv",
    "PartialScanVecEnv",
    "PartialScanVectorEnv",
    "ScanBatch",
    "ScanSettings",
]


def __getattr__(name: str) -> Any:
    """The SB3 bridge, on first use: it loads torch, which the other environments do without."""
    if name == "PartialScanVecEnv":
        from adaptive_scan.envs.sb3 import PartialScanVecEnv

        return PartialScanVecEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
