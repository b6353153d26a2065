"""Where crops come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptive_scan.envs.crops import N_DEFAULT_CROPS, as_crop_source, default_crops
from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import MicrographCrops, MicrographDataset


def test_default_crops_are_one_pool_for_each_size() -> None:
    pool = default_crops(16)
    assert pool is default_crops(16)
    assert pool.crops.shape == (N_DEFAULT_CROPS, 16, 16)
    assert as_crop_source(None, 16) is pool
    assert pool.crops.min() == -1.0
    assert pool.crops.max() == 1.0


def test_a_source_is_used_as_it_is() -> None:
    pool = default_crops(16)
    assert as_crop_source(pool, 16) is pool


def test_micrographs_are_cropped_to_the_field(tmp_path: Path, rng: np.random.Generator) -> None:
    np.save(tmp_path / "stack.npy", rng.uniform(0, 9, (2, 40, 40, 1)).astype(np.float32))
    source = as_crop_source(MicrographDataset(tmp_path / "stack.npy"), 16)
    assert isinstance(source, MicrographCrops)
    crops = source.take(source.draw(3, rng))
    assert crops.shape == (3, 16, 16)
    np.testing.assert_allclose(crops.min(axis=(1, 2)), -1.0)


def test_another_size_and_another_type_are_refused() -> None:
    with pytest.raises(SettingError, match="crops: got 16 px wide; expected the geometry's 48 px"):
        as_crop_source(default_crops(16), 48)
    with pytest.raises(TypeError, match="crops: got a str; expected an array"):
        as_crop_source("crops.npy", 48)  # type: ignore[arg-type]
