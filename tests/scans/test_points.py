"""Point scans against closed forms and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import qmc

from adaptive_scan.scans import coverage, halton_points, random_points, uniform_grid


@given(n_rows=st.integers(2, 16), size=st.integers(16, 128))
def test_square_dose_gives_the_square_grid(n_rows: int, size: int) -> None:
    ticks = (np.arange(n_rows) + 0.5) * size / n_rows - 0.5
    expected = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(uniform_grid(n_rows**2, size), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("n_positions", "rows", "columns"), [(400, 20, 20), (380, 19, 20), (80, 8, 10), (90, 9, 10), (72, 8, 9)]
)
def test_nearly_square_products_give_whole_grids(n_positions: int, rows: int, columns: int) -> None:
    _, counts = np.unique(uniform_grid(n_positions, 96)[:, 0], return_counts=True)
    assert counts.tolist() == [columns] * rows


@example(n_positions=864, size=30)  # 27 x 32 is nearly square, but 32 columns do not fit
@given(n_positions=st.integers(1, 900), size=st.integers(30, 96))
def test_any_dose_gives_an_even_centred_grid(n_positions: int, size: int) -> None:
    positions = uniform_grid(n_positions, size).astype(float)
    rows, counts = np.unique(positions[:, 0], return_counts=True)
    assert counts.max() - counts.min() <= 1
    assert max(len(rows), counts.max()) <= 1.25 * min(len(rows), counts.max()) + 1
    np.testing.assert_allclose(np.diff(rows), size / len(rows), atol=1e-4)
    assert positions[:, 1].mean() == pytest.approx((size - 1) / 2, abs=1e-4)
    # Where the counts differ, longer rows are spread over the field.
    assert positions[:, 0].mean() == pytest.approx((size - 1) / 2, abs=size / (2 * math.sqrt(n_positions)))
    assert coverage(positions[None], size)[0] == pytest.approx(n_positions / size**2)


def test_a_full_grid_is_every_pixel() -> None:
    assert sorted(map(tuple, uniform_grid(49, 7).tolist())) == [(r, c) for r in range(7) for c in range(7)]


def test_halton_points_are_scipys() -> None:
    unit = qmc.Halton(2, scramble=False).random(101)[1:]
    np.testing.assert_allclose(halton_points(100, 64), np.clip(unit * 64 - 0.5, 0, 63), atol=1e-5)
    first = halton_points(100, 64, np.random.default_rng(3))
    assert np.array_equal(first, halton_points(100, 64, np.random.default_rng(3)))
    assert not np.array_equal(first, halton_points(100, 64, np.random.default_rng(4)))
    assert qmc.discrepancy((first + 0.5) / 64) < 0.25 * qmc.discrepancy(np.random.default_rng(0).random((100, 2)))


def test_random_points_are_distinct_and_uniform(rng: np.random.Generator) -> None:
    counts = np.zeros((8, 8))
    for _ in range(2000):
        pixels = random_points(16, 8, rng).astype(int)
        assert len(np.unique(pixels, axis=0)) == 16
        np.add.at(counts, tuple(pixels.T), 1)
    # Each pixel is drawn with probability 1/4: mean 500, standard deviation 19.4.
    assert np.abs(counts - 500).max() < 5 * 19.4


def test_more_points_than_pixels_are_refused(rng: np.random.Generator) -> None:
    for call in (lambda: uniform_grid(65, 8), lambda: random_points(65, 8, rng)):
        with pytest.raises(ValueError, match="n_positions: got 65; expected at most 64"):
            call()
