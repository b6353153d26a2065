"""A cell of a benchmark, one seed at one geometry: what a scan may be prepared from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from adaptive_scan.acquisition import Instrument
from adaptive_scan.evaluation.contenders import Contender
from adaptive_scan.evaluation.crops import CutCrops
from adaptive_scan.generators.uncertainty import CompleterWithError
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import ScanGeometry


@dataclass(frozen=True, eq=False)
class Cell:
    """All that may be known where a scan is prepared; the crops that it is tested on are not among it.

    Attributes:
        name: Name of the scan that is prepared.
        seed: The seed, for everything random.
        geometry: Field, dose and segments of the scan.
        acquisition: Name of the instrument.
        instrument: The instrument.
        blur: Whether targets are the crops after the 5x5 Gaussian.
        train: Random crops to learn on.
        validation: Crops to tune and to choose on.
        generator: The base network of the seed, in evaluation mode.
        device: Where networks learn.
        folder: Where the scan keeps what takes long to make; it may lie there already, from a run that was killed.
        find_contender: Another scan of the cell by its name.
        find_folder: The folder of another scan of the cell.
        find_predictor: The base network with a head that predicts its errors.
    """

    name: str
    seed: int
    geometry: ScanGeometry
    acquisition: str
    instrument: Instrument
    blur: bool
    train: CropSource
    validation: CutCrops
    generator: nn.Module
    device: str
    folder: Path
    find_contender: Callable[[str], Contender]
    find_folder: Callable[[str], Path]
    find_predictor: Callable[[], CompleterWithError]


ScanMaker = Callable[[Cell, Mapping[str, Any]], Contender]
"""``(cell, settings) -> contender``: prepares a scan. It is called again when a run goes on and must then give the same
contender; what it learned it keeps in the cell's folder."""
