"""Random numbers by key and position: their laws, and that nothing else enters them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adaptive_scan.acquisition.draws import model_keys, normals, poisson_counts, uniforms

KEYS = np.random.default_rng(0).integers(2**63 - 1, size=200).astype(np.uint64)
START = np.zeros(200, dtype=np.int64)


def slow_bits(key: int, index: int, draw: int) -> int:
    """SplitMix64 in Python's own integers."""

    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    stride = 0x9E3779B97F4A7C15
    return mix((mix((key + stride * (index + 1)) % 2**64) + stride * draw) % 2**64)


def test_uniform_numbers_are_the_bits_of_splitmix() -> None:
    numbers = uniforms(KEYS[:3], np.array([0, 5, 10**6]), 4, 2)
    for scan, first in enumerate((0, 5, 10**6)):
        for i in range(4):
            for draw in range(2):
                assert numbers[scan, i, draw] == (slow_bits(int(KEYS[scan]), first + i, draw) >> 11) * 2.0**-53


def test_numbers_have_their_laws_and_no_correlation() -> None:
    flat = uniforms(KEYS, START, 400, 2)
    assert stats.kstest(flat.ravel(), "uniform").pvalue > 0.01
    bell = normals(KEYS, START, 400, 3)
    assert stats.kstest(bell.ravel(), "norm").pvalue > 0.01
    neighbours = [(bell[:, 1:], bell[:, :-1]), (bell[1:], bell[:-1]), (bell[..., 1], bell[..., 0])]
    for one, other in neighbours:
        assert abs(np.mean(one * other)) < 4.0 / np.sqrt(one.size)


@pytest.mark.parametrize("mean", [0.2, 3.0, 9.99, 10.0, 37.5, 1000.0])
def test_counts_are_poisson(mean: float) -> None:
    counts = poisson_counts(np.full((200, 400), mean), KEYS, START).ravel()
    law = stats.poisson(mean)
    edges = np.unique(law.ppf(np.linspace(0, 1, 22)[1:-1]))
    expected = np.diff(np.concatenate([[0.0], law.cdf(edges), [1.0]])) * counts.size
    bins = np.searchsorted(edges, counts, side="left")
    observed = np.bincount(bins, minlength=len(expected))
    assert stats.chisquare(observed, expected).pvalue > 0.01
    assert (counts == np.rint(counts)).all()


def test_counts_of_nothing_are_nothing() -> None:
    assert poisson_counts(np.array([[0.0, -3.0]]), KEYS[:1], START[:1]).tolist() == [[0.0, 0.0]]


def test_models_of_one_instrument_have_unrelated_keys() -> None:
    keys = np.arange(200)
    one, other = (normals(model_keys(keys, model), START, 400, 1) for model in range(2))
    assert abs(np.mean(one * other)) < 4.0 / np.sqrt(one.size)
