"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

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
