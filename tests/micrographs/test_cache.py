"""The bound in bytes, and what is thrown out first."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from adaptive_scan.micrographs.cache import PictureCache


def picture(value: float, n_pixels: int = 10) -> np.ndarray:
    return np.full((1, n_pixels), value, dtype=np.float32)


def test_least_recently_used_goes_first():
    cache = PictureCache(n_bytes=100)
    cache.put("a", picture(1))
    cache.put("b", picture(2))
    assert cache.get("a") is not None
    cache.put("c", picture(3))
    assert cache.get("b") is None
    np.testing.assert_array_equal(cache.get("a"), picture(1))
    np.testing.assert_array_equal(cache.get("c"), picture(3))
    assert cache.n_used == 80


def test_replacing_counts_once_and_too_large_is_not_kept():
    cache = PictureCache(n_bytes=100)
    cache.put("a", picture(1))
    cache.put("a", picture(2, 20))
    assert cache.n_used == 80
    cache.put("b", picture(3, 26))
    assert cache.get("b") is None
    assert cache.get("a") is not None


def test_kept_pictures_are_read_only():
    cache = PictureCache(n_bytes=100)
    cache.put("a", picture(1))
    with pytest.raises(ValueError, match="read-only"):
        cache.get("a")[0, 0] = 5


def test_a_copy_in_another_process_starts_empty():
    cache = PictureCache(n_bytes=100)
    cache.put("a", picture(1))
    other = pickle.loads(pickle.dumps(cache))  # noqa: S301
    assert other.n_bytes == 100
    assert other.get("a") is None
