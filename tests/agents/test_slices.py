"""Slices: the law of their starts, and rows that lie outside an episode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.agents.slices import draw_starts, take_rows

SIZES = st.integers(1, 9).flatmap(lambda n: st.tuples(st.integers(1, 30), st.just(n), st.integers(0, n)))


def law(length, n_slice_steps, n_burn_in):
    """How many values of u give each start, by going through them all."""
    if length <= n_slice_steps:
        return {0: 1}
    last, counts = max(length - n_slice_steps, n_burn_in), {}
    for u in range(1 - n_slice_steps, last + n_slice_steps):
        start = min(max(u, 0), last)
        start = 0 if start < n_burn_in else start
        counts[start] = counts.get(start, 0) + 1
    return counts


@given(SIZES)
def test_starts_are_those_of_the_law_and_leave_room_for_the_burn_in(sizes):
    length, n_slice_steps, n_burn_in = sizes
    starts = draw_starts(np.full(2000, length), n_slice_steps, n_burn_in, np.random.default_rng(0))
    assert set(starts.tolist()) == set(law(length, n_slice_steps, n_burn_in))
    assert ((starts == 0) | (starts >= n_burn_in)).all()


@given(SIZES)
def test_every_step_is_drawn_with_the_stated_probability(sizes):
    length, n_slice_steps, n_burn_in = sizes
    counts = law(length, n_slice_steps, n_burn_in)
    covering = [sum(c for s, c in counts.items() if s <= t < s + n_slice_steps) for t in range(length)]
    if length <= n_slice_steps:
        assert covering == [1] * length
        return
    # The closed forms of the docstring.
    last, extra = max(length - n_slice_steps, n_burn_in), max(n_burn_in - 1, 0)
    assert sum(counts.values()) == last + 2 * n_slice_steps - 1
    assert counts[0] == covering[0] == n_slice_steps + extra
    assert counts[last] == covering[-1] == n_slice_steps
    assert {c for s, c in counts.items() if 0 < s < last} <= {1}
    assert min(covering) >= n_slice_steps - extra > 0


def test_starts_have_the_frequencies_of_the_law():
    for length, n_slice_steps, n_burn_in in ((20, 5, 0), (20, 5, 3), (6, 5, 5), (8, 5, 4)):
        starts = draw_starts(np.full(100_000, length), n_slice_steps, n_burn_in, np.random.default_rng(0))
        counts = law(length, n_slice_steps, n_burn_in)
        expected = np.array(list(counts.values())) / sum(counts.values()) * len(starts)
        drawn = np.array([(starts == s).sum() for s in counts])
        chi_square, n_free = ((drawn - expected) ** 2 / expected).sum(), len(counts) - 1
        assert abs(chi_square - n_free) < 4 * np.sqrt(2 * n_free), (length, n_slice_steps, n_burn_in)


def test_each_episode_has_its_own_range_of_starts():
    starts = draw_starts(np.tile([3, 5, 9], 500), 4, 2, np.random.default_rng(0)).reshape(500, 3)
    assert [sorted(set(column)) for column in starts.T.tolist()] == [[0], [0, 2], [0, 2, 3, 4, 5]]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-9, 9), st.integers(0, 5)), min_size=1), st.integers(1, 9))
def test_rows_outside_an_episode_are_zeros(drawn, n_rows):
    values = np.arange(1, 31).reshape(3, 5, 2)
    episodes, first, lengths = map(np.array, zip(*drawn, strict=True))
    taken = take_rows(values, episodes, first, n_rows, lengths)
    for i, (episode, start, length) in enumerate(drawn):
        for row in range(n_rows):
            inside = 0 <= start + row < length
            assert taken[i, row].tolist() == (values[episode, start + row].tolist() if inside else [0, 0])


def test_rows_are_copies_and_keep_their_type():
    values = np.ones((2, 3), np.uint8)
    taken = take_rows(values, np.array([1]), np.array([-1]), 3, np.array([3]))
    taken[:] = 7
    assert (taken.dtype, values.tolist()) == (np.uint8, [[1, 1, 1], [1, 1, 1]])


class EveryDraw:
    """Draws each number of a range once."""

    def integers(self, low, high):
        return np.arange(low, high[0])


@pytest.mark.parametrize(("n_slice_steps", "n_burn_in"), [(1, 0), (3, 0), (3, 1), (3, 2), (4, 4), (8, 5)])
def test_each_step_is_drawn_as_often_as_the_law_says(n_slice_steps, n_burn_in):
    for length in range(n_slice_steps + 1, 40):
        n_draws = max(length - n_slice_steps, n_burn_in) + 2 * n_slice_steps - 1
        starts = draw_starts(np.full(n_draws, length), n_slice_steps, n_burn_in, EveryDraw())
        steps = np.arange(length)
        times = ((starts[:, None] <= steps) & (steps < starts[:, None] + n_slice_steps)).sum(axis=0)
        spared = max(n_burn_in - 1, 0)
        assert times[-1] == n_slice_steps
        assert times.min() >= n_slice_steps - spared
        assert (times[n_slice_steps + spared : length - n_slice_steps] == n_slice_steps).all()
