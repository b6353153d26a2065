"""Sampling and partial scans against loops a reader can check."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adaptive_scan.scans import coverage, kernels, partial_scans, path_length, sample

SIZE = 7
paths = arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 12), st.just(2)), elements=st.floats(-4, 11, width=32)
)


def pixel(coordinate: float, size: int) -> int:
    return min(max(math.floor(np.float32(coordinate) + np.float32(0.5)), 0), size - 1)


def slow_sample(crops: np.ndarray, positions: np.ndarray) -> np.ndarray:
    values = np.empty(positions.shape[:-1], np.float32)
    for n, k in np.ndindex(values.shape):
        values[n, k] = crops[n, pixel(positions[n, k, 0], crops.shape[1]), pixel(positions[n, k, 1], crops.shape[1])]
    return values


def slow_partial_scans(values: np.ndarray, positions: np.ndarray, size: int) -> np.ndarray:
    scans = np.zeros((len(values), 2, size, size), np.float32)
    for n, row, column in np.ndindex(len(values), size, size):
        visits = [
            float(value)
            for value, (r, c) in zip(values[n], positions[n], strict=True)
            if (pixel(r, size), pixel(c, size)) == (row, column)
        ]
        if visits:
            scans[n, :, row, column] = math.fsum(visits) / len(visits), 1.0
    return scans


@given(paths, st.integers(0, 2**32 - 1))
def test_sample_equals_slow_sample(positions: np.ndarray, seed: int) -> None:
    crops = np.random.default_rng(seed).normal(size=(len(positions), SIZE, SIZE)).astype(np.float32)
    np.testing.assert_array_equal(sample(crops, positions), slow_sample(crops, positions))


@given(paths, st.integers(0, 2**32 - 1))
def test_partial_scans_equal_slow_ones(positions: np.ndarray, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=positions.shape[:2]).astype(np.float32)
    expected = slow_partial_scans(values, positions, SIZE)
    np.testing.assert_allclose(partial_scans(values, positions, SIZE), expected, atol=1e-6)


@given(paths)
def test_coverage_counts_distinct_pixels(positions: np.ndarray) -> None:
    expected = [len({(pixel(r, SIZE), pixel(c, SIZE)) for r, c in path}) / SIZE**2 for path in positions]
    np.testing.assert_allclose(coverage(positions, SIZE), expected, rtol=1e-12)
    masks = partial_scans(np.ones(positions.shape[:2]), positions, SIZE)[:, 1]
    np.testing.assert_allclose(masks.mean(axis=(1, 2)), expected, rtol=1e-6)


@given(paths)
def test_path_length_sums_the_steps(positions: np.ndarray) -> None:
    expected = [sum(math.dist(a, b) for a, b in pairwise(path)) for path in positions.astype(float)]
    np.testing.assert_allclose(path_length(positions), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("coordinate", "index"),
    [
        (0.5, 1), (1.5, 2), (2.5, 3), (2.4999998, 2), (-0.5, 0), (-0.6, 0), (5.5, 6), (6.5, 6), (6.4, 6),
        (-1e30, 0), (1e30, 6), (3.4028235e38, 6),
    ],
)  # fmt: skip
def test_halves_round_up_and_far_positions_clip(coordinate: float, index: int) -> None:
    ramp = np.broadcast_to(np.arange(SIZE, dtype=np.float32), (1, SIZE, SIZE))
    assert sample(ramp, [[[0.0, coordinate]]])[0, 0] == index
    assert sample(ramp.transpose(0, 2, 1), [[[coordinate, 0.0]]])[0, 0] == index
    scan = partial_scans([[2.0]], [[[coordinate, 3.0]]], SIZE)[0]
    assert np.argwhere(scan[1]).tolist() == [[index, 3]]


def test_revisited_pixels_average_whatever_the_order(rng: np.random.Generator) -> None:
    positions = rng.uniform(-0.5, 2.5, size=(1, 5000, 2)).astype(np.float32)
    values = (1000.0 + rng.normal(size=(1, 5000))).astype(np.float32)
    order = rng.permutation(5000)
    scan = partial_scans(values, positions, 3)
    np.testing.assert_array_equal(partial_scans(values[:, order], positions[:, order], 3), scan)
    rows, columns = np.clip(np.floor(positions[0] + np.float32(0.5)).astype(int), 0, 2).T
    for r, c in np.ndindex(3, 3):
        assert scan[0, 0, r, c] == pytest.approx(values[0, (rows == r) & (columns == c)].astype(float).mean(), rel=1e-7)


def test_scans_do_not_leak_into_each_other() -> None:
    positions = np.array([[[0, 0], [0, 0]], [[0, 0], [1, 1]]], np.float32)
    scans = partial_scans([[1.0, 3.0], [5.0, 7.0]], positions, 2)
    np.testing.assert_array_equal(scans[:, 0], [[[2, 0], [0, 0]], [[5, 0], [0, 7]]])
    np.testing.assert_array_equal(scans[:, 1], [[[1, 0], [0, 0]], [[1, 0], [0, 1]]])


def test_one_path_may_be_shared(rng: np.random.Generator) -> None:
    crops = rng.normal(size=(3, 9, 9)).astype(np.float32)
    path = rng.uniform(-1, 9, size=(1, 4, 5, 2)).astype(np.float32)
    repeated = np.repeat(path, 3, axis=0)
    values = sample(crops, path)
    assert values.shape == (3, 4, 5)
    np.testing.assert_array_equal(values, sample(crops, repeated))
    np.testing.assert_array_equal(partial_scans(values, path, 9), partial_scans(values, repeated, 9))


def test_results_do_not_depend_on_threads(rng: np.random.Generator) -> None:
    crops = rng.normal(size=(16, 32, 32)).astype(np.float32)
    positions = rng.uniform(-1, 32, size=(16, 900, 2)).astype(np.float32)

    def scan(_: int) -> bytes:
        return partial_scans(sample(crops, positions), positions, 32).tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(scan, range(24))) == {scan(0)}


def test_kernels_stay_inside_the_array_for_any_number() -> None:
    wild = np.array([[[np.nan, np.inf], [-np.inf, 1.0]]], np.float32)
    values = np.empty((1, 2), np.float32)
    kernels.sample_kernel(np.arange(9, dtype=np.float32).reshape(1, 3, 3), wild, values)
    assert values.tolist() == [[2.0, 1.0]]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_non_finite_positions_are_refused(wrong: float) -> None:
    positions = np.zeros((2, 3, 2), np.float32)
    positions[1, 2, 0] = wrong
    for call in (
        lambda: sample(np.zeros((2, 4, 4)), positions),
        lambda: partial_scans(np.zeros((2, 3)), positions, 4),
        lambda: coverage(positions, 4),
        lambda: path_length(positions),
    ):
        with pytest.raises(ValueError, match="positions hold a non-finite number; expected finite"):
            call()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"crops have shape \(4, 4\); expected \(n_scans, S, S\)"):
        sample(np.zeros((4, 4)), np.zeros((1, 1, 2)))
    with pytest.raises(ValueError, match=r"positions have shape \(3, 5, 2\); expected \(2, ..., 2\) or \(1, ..., 2\)"):
        sample(np.zeros((2, 4, 4)), np.zeros((3, 5, 2)))
    with pytest.raises(ValueError, match=r"positions have shape \(5, 2\)"):
        sample(np.zeros((2, 4, 4)), np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"values have shape \(2, 4\); expected \(2, 5\)"):
        partial_scans(np.zeros((2, 4)), np.zeros((2, 5, 2)), 4)
    with pytest.raises(ValueError, match=r"values have shape \(4,\); expected"):
        partial_scans(np.zeros(4), np.zeros((2, 5, 2)), 4)
    for call in (lambda: partial_scans([[1.0]], [[[0, 0]]], 0), lambda: coverage([[[0, 0]]], 0)):
        with pytest.raises(ValueError, match="image_size: got 0; expected a positive"):
            call()
