"""Adaptive partial scans for scanning transmission electron microscopy.

Importing the package registers the Gymnasium environment ``adaptive_scan/PartialScan-v0`` and loads neither torch nor
numba; the rooms ``adaptive_scan.envs``, ``adaptive_scan.agents`` and ``adaptive_scan.generators`` load what they need.
"""

from __future__ import annotations

from gymnasium.envs.registration import register

from adaptive_scan._version import __version__

ENVIRONMENT_ID = "adaptive_scan/PartialScan-v0"

register(
    id=ENVIRONMENT_ID,
    entry_point="adaptive_scan.envs:PartialScanEnv",
    vector_entry_point="adaptive_scan.envs:PartialScanVectorEnv",
)

__all__ = ["ENVIRONMENT_ID", "__version__"]
