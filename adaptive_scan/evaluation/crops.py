"""Crops at fixed places: what scans are compared on, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from adaptive_scan.evaluation.content import sparsity
from adaptive_scan.specimens import Truth


@dataclass(frozen=True, eq=False)
class CutCrops:
    """Crops at fixed places of some pictures, and where they come from.

    Attributes:
        crops: In [-1, 1], float32, shape (n_crops, S, S).
        targets: What completions are compared with, the same shape.
        micrographs: Name of each crop's micrograph.
        groups: Group of each.
        corners: Row and column of each crop's first pixel, shape (n_crops, 2); None for procedural crops.
        content: What each shows, as `adaptive_scan.evaluation.content.content_class` says it.
        truths: What is known of each; None where nothing is.
    """

    crops: np.ndarray
    targets: np.ndarray
    micrographs: list[str]
    groups: list[str]
    corners: np.ndarray | None
    content: list[str]
    truths: list[Truth | None]

    def __len__(self) -> int:
        return len(self.crops)

    @cached_property
    def sparsity(self) -> np.ndarray:
        """How sparse each target is, as `adaptive_scan.evaluation.content.sparsity` says it, shape (n_crops,)."""
        return sparsity(self.targets)
