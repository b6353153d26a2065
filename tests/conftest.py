"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import settings
from torch import Tensor

MakeScans = Callable[..., Tensor]

# The same examples in every run: a change fails by what it does, not by what was drawn.
settings.register_profile("house", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("house")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260)


@pytest.fixture
def real_data_dir() -> Path:
    """The folder of real micrographs: $ADAPTIVE_SCAN_DATA, or shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ADAPTIVE_SCAN_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no real micrographs here")
    return folder


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """The one line on standard error since the last call."""

    def read() -> str:
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return read


def write_pictures(folder: Path, n: int = 4, side: int = 64, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((side, side))
    for i in range(n):
        picture = np.sin(rows / (2 + i)) + np.cos(columns / 3.0) + rng.normal(0, 0.1, (side, side))
        tifffile.imwrite(folder / f"good_{i}.tif", picture.astype(np.float32))
    return folder


@pytest.fixture
def write_micrographs() -> Callable[..., Path]:
    """Writes pictures that differ, as float32 TIFF files."""
    return write_pictures


@pytest.fixture
def make_scans(rng: np.random.Generator) -> MakeScans:
    """Partial scans of scattered pixels with random values, the centre always measured."""

    def make(n_scans: int, size: int, fraction: float = 0.05) -> Tensor:
        masks = rng.random((n_scans, size, size)) < fraction
        masks[:, size // 2, size // 2] = True
        values = rng.uniform(-1, 1, masks.shape) * masks
        return torch.from_numpy(np.stack((values, masks), axis=1).astype(np.float32))

    return make
