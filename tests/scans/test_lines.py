"""Rasters, gridlike lines, Lissajous curves and walks against what defines them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.scans import jittered_gridlike, lissajous, path_length, random_walk, serpentine_raster


@given(n_lines=st.integers(2, 12), size=st.integers(32, 128))
def test_raster_lines_are_evenly_spaced_and_alternate(n_lines: int, size: int) -> None:
    length = n_lines * (size - 1) + (n_lines - 1) * size / n_lines
    positions = serpentine_raster(round(length), size, spacing=1.0).astype(float)
    expected = (np.arange(n_lines) + 0.5) * size / n_lines - 0.5
    inner = positions[(positions[:, 1] > 2) & (positions[:, 1] < size - 3)]
    rows = inner[:, 0]
    np.testing.assert_allclose(np.unique(np.round(rows, 3)), expected, atol=2e-3)
    for i, row in enumerate(expected):
        steps = np.diff(inner[np.abs(rows - row) < 1e-2, 1])
        np.testing.assert_allclose(steps, (-1) ** i * length / round(length), rtol=1e-3)


def test_raster_path_is_unbroken() -> None:
    positions = serpentine_raster(400, 96)
    steps = np.hypot(*np.diff(positions, axis=0).T)
    assert steps.max() == pytest.approx((5 * 95 + 4 * 96 / 5) / 400, rel=1e-4)


@pytest.mark.parametrize(("n_positions", "size", "n_lines"), [(400, 96, 3), (1024, 128, 6)])
def test_gridlike_lines_stand_at_their_places(
    n_positions: int, size: int, n_lines: int, rng: np.random.Generator
) -> None:
    still = jittered_gridlike(n_positions, size, rng, jitter=0.0)
    counts = [len(part) for part in np.array_split(np.arange(n_positions), 2 * n_lines)]
    lines = np.split(still, np.cumsum(counts)[:-1])
    places = (np.arange(n_lines) + 0.5) * size / n_lines - 0.5
    for i, line in enumerate(lines):
        across, along = (line[:, 0], line[:, 1]) if i < n_lines else (line[:, 1], line[:, 0])
        np.testing.assert_allclose(across, places[i % n_lines], atol=1e-4)
        np.testing.assert_allclose(np.abs(np.diff(along)), size / counts[i], rtol=1e-4)


def test_gridlike_jitter_has_the_stated_size_and_memory(rng: np.random.Generator) -> None:
    size, n_lines = 1024, 8
    draws = [jittered_gridlike(2 * n_lines * 512, size, rng, spacing=2.0, jitter=0.1) for _ in range(30)]
    place = 3.5 * size / n_lines - 0.5
    excursions = np.stack([draw[3 * 512 : 4 * 512, 0] for draw in draws]).astype(float) - place
    pitch = size / n_lines
    assert excursions.std() == pytest.approx(0.1 * pitch, rel=0.12)
    lag = 16
    correlation = (excursions[:, lag:] * excursions[:, :-lag]).mean() / excursions.var()
    assert correlation == pytest.approx(math.exp(-lag * 2 / pitch), abs=0.08)


def test_lissajous_positions_lie_on_the_curve() -> None:
    size, half = 96, 47.5
    positions = lissajous(700, size).astype(float)
    x = np.clip((positions - half) / half, -1, 1)
    candidates = range(1, 12)
    # cos((n + 1) arccos(cos(n t)) ) = cos(n arccos(cos((n + 1) t))): T_{n+1}(x) = T_n(y) on the Padua curve.
    errors = [np.abs(np.cos((n + 1) * np.arccos(x[:, 0])) - np.cos(n * np.arccos(x[:, 1]))).max() for n in candidates]
    assert min(errors) < 5e-3
    steps = np.hypot(*np.diff(positions, axis=0).T)
    assert steps.max() == pytest.approx(np.median(steps), rel=1e-2)
    assert np.median(steps) == pytest.approx(math.sqrt(2), rel=0.15)


@given(seed=st.integers(0, 1000), n_positions=st.integers(2, 500), size=st.integers(16, 96))
def test_walk_keeps_its_spacing_away_from_borders(seed: int, n_positions: int, size: int) -> None:
    positions = random_walk(n_positions, size, np.random.default_rng(seed)).astype(float)
    inner = ((positions > 1.5) & (positions < size - 2.5)).all(axis=1)
    steps = np.hypot(*np.diff(positions, axis=0).T)
    np.testing.assert_allclose(steps[inner[:-1] & inner[1:]], math.sqrt(2), rtol=1e-4)
    assert steps.max() <= math.sqrt(2) * (1 + 1e-4)


def test_walk_forgets_its_direction_over_the_persistence_length() -> None:
    rng = np.random.default_rng(5)
    # In a field this large few walks meet a border before they have forgotten their direction.
    walks = np.stack([random_walk(60, 4000, rng, persistence=20 / 4000) for _ in range(2000)]).astype(float)
    moves = np.diff(walks, axis=1) / math.sqrt(2)
    for lag in (7, 14):
        correlation = (moves[:, 0] * moves[:, lag]).sum(axis=-1).mean()
        assert correlation == pytest.approx(math.exp(-lag * math.sqrt(2) / 20), abs=0.04)


def test_walk_is_mirrored_not_stopped_at_the_border(rng: np.random.Generator) -> None:
    walk = random_walk(20_000, 16, rng)
    assert path_length(walk[None])[0] > 0.9 * 20_000 * math.sqrt(2)
    np.testing.assert_allclose(walk.mean(axis=0), 7.5, atol=0.7)


def test_nonsense_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"jitter: got -0\.1; expected"):
        jittered_gridlike(10, 16, rng, jitter=-0.1)
    with pytest.raises(ValueError, match=r"persistence: got 0\.0; expected"):
        random_walk(10, 16, rng, persistence=0.0)
    with pytest.raises(ValueError, match="spacing: got nan; expected"):
        serpentine_raster(10, 16, spacing=math.nan)


@given(n_lines=st.integers(1, 12), size=st.integers(32, 96), margin=st.floats(0.0, 1.0), phase=st.floats(0.0, 1.0))
def test_raster_lines_stand_where_margin_and_phase_put_them(
    n_lines: int, size: int, margin: float, phase: float
) -> None:
    positions = serpentine_raster(6000, size, n_lines=n_lines, margin=margin, phase=phase).astype(float)
    pitch = size / ((n_lines - 1 + 2 * margin) or 1)
    first = 2 * margin * phase * pitch - 0.5
    expected = np.clip(first + pitch * np.arange(n_lines), 0, size - 1)
    inner = positions[(positions[:, 1] > 2) & (positions[:, 1] < size - 3), 0]
    assert np.abs(inner[:, None] - expected).min(axis=1).max() < 2e-3
    assert np.abs(inner[:, None] - expected).min(axis=0).max() < 2e-3


def test_given_lines_of_the_usual_margins_are_the_default() -> None:
    # 400 positions 1.41 px apart on 96 px make five lines of 95 px.
    given_lines = serpentine_raster(400, 96, n_lines=5, margin=0.5, phase=0.5)
    np.testing.assert_array_equal(serpentine_raster(400, 96), given_lines)
    # All of both margins at the far edge: the first line is the first row.
    assert serpentine_raster(400, 96, n_lines=5, phase=0.0)[0, 0] == 0.0
    assert serpentine_raster(400, 96, n_lines=5, phase=1.0)[-1, 0] == 95.0


@given(n=st.integers(1, 8))
def test_given_oscillations_make_that_lissajous_curve(n: int) -> None:
    x = np.clip((lissajous(3000, 64, n_oscillations=n).astype(float) - 31.5) / 31.5, -1, 1)
    # On (cos n t, cos (n + 1) t) the Chebyshev polynomials T_{n+1}(x) and T_n(y) agree.
    error = np.cos((n + 1) * np.arccos(x[:, 0])) - np.cos(n * np.arccos(x[:, 1]))
    assert np.abs(error).max() < 2e-2


def test_nonsense_numbers_of_lines_are_refused() -> None:
    with pytest.raises(ValueError, match="n_lines: got 0; expected a positive integer"):
        serpentine_raster(10, 16, n_lines=0)
    with pytest.raises(ValueError, match=r"phase: got 1\.5; expected a number in \[0, 1\]"):
        serpentine_raster(10, 16, phase=1.5)
    with pytest.raises(ValueError, match="margin: got -1; expected"):
        serpentine_raster(10, 16, margin=-1)
    with pytest.raises(ValueError, match=r"n_oscillations: got 2\.5; expected a positive integer"):
        lissajous(10, 16, n_oscillations=2.5)  # type: ignore[arg-type]
