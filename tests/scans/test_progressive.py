"""Nested lattices, static progressive scans and tours through refined blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from adaptive_scan.errors import SettingError
from adaptive_scan.scans.progressive import NestedLattice, progressive_lattice, tour

SHAPES = st.tuples(st.integers(2, 90), st.integers(2, 90))


@given(SHAPES, st.sampled_from([2, 4, 8, 16]))
def test_each_pass_adds_to_all_before_it_and_the_last_holds_every_pixel(shape: tuple[int, int], coarsest: int) -> None:
    lattice = NestedLattice(shape, coarsest, 2 * int(np.log2(coarsest)) + 1)
    seen: set[tuple[float, ...]] = set()
    for level in range(lattice.n_levels):
        further = {tuple(position) for position in lattice.pass_positions(level).tolist()}
        assert not further & seen
        seen |= further
        assert len(seen) == lattice.n_positions(level) == len(lattice.positions(level)) == len(lattice.survey(level))
    assert seen == set(itertools.product(map(float, range(shape[0])), map(float, range(shape[1]))))


@pytest.mark.parametrize("level", range(7))
def test_a_level_is_an_even_lattice_of_twice_the_density(level: int) -> None:
    lattice = NestedLattice((128, 192))
    assert lattice.n_positions(level) == 2**level * 8 * 12
    distances = cKDTree(lattice.survey(level)).query(lattice.survey(level), k=2)[0][:, 1]
    spacing = 16 / 2 ** (level // 2) / (np.sqrt(2) if level % 2 else 1)
    np.testing.assert_allclose(distances, spacing)


@pytest.mark.parametrize("level", [2, 3, 4])
def test_no_edge_is_farther_than_the_spacing(level: int) -> None:
    lattice = NestedLattice((128, 128))
    pixels = np.stack(np.indices((128, 128)), axis=-1).reshape(-1, 2)
    farthest = cKDTree(lattice.survey(level)).query(pixels)[0].max()
    assert farthest <= 1.1 * 16 / 2 ** (level // 2)


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_blocks_reach_levels_on_their_own(shape: tuple[int, int], seed: int) -> None:
    lattice = NestedLattice(shape)
    rng = np.random.default_rng(seed)
    levels = rng.integers(-1, 6, lattice.n_blocks)
    chosen = rng.random(lattice.n_blocks) < 0.4
    mask = lattice.mask(levels)
    for row, column in itertools.product(*map(range, lattice.n_blocks)):
        block = slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16)
        np.testing.assert_array_equal(mask[block], lattice.levels[block] <= levels[row, column])
        count = lattice.counts[levels[row, column], row, column] if levels[row, column] >= 0 else 0
        assert mask[block].sum() == count
    added = lattice.added(levels, chosen)
    both = mask.copy()
    both[tuple(added.T)] = True
    np.testing.assert_array_equal(both, lattice.mask(levels + chosen))
    assert not mask[tuple(added.T)].any()


def test_passes_go_forth_and_back_in_steps_of_the_lattice() -> None:
    lattice = NestedLattice((64, 96))
    for level in range(1, 6):
        steps = np.hypot(*np.diff(lattice.pass_positions(level), axis=0).T)
        assert steps.max() <= 16 / 2 ** ((level - 1) // 2) * np.sqrt(2)


@given(st.integers(4, 40), st.data())
def test_a_static_progressive_scan_has_exactly_so_many_different_positions(size: int, data: st.DataObject) -> None:
    n_positions = data.draw(st.integers(1, size**2))
    positions = progressive_lattice(n_positions, size)
    assert positions.shape == (n_positions, 2)
    assert len(np.unique(positions, axis=0)) == n_positions
    assert positions.min() >= 0
    assert positions.max() <= size - 1


def _shortest(stops: np.ndarray, start: np.ndarray) -> float:
    orders = (stops[list(order)] for order in itertools.permutations(range(len(stops))))
    return min(float(np.hypot(*np.diff(np.vstack([start, path]), axis=0).T).sum()) for path in orders)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=40)
def test_a_tour_visits_all_and_is_nearly_the_shortest(seed: int, n_stops: int) -> None:
    rng = np.random.default_rng(seed)
    stops, start = rng.integers(0, 30, (n_stops, 2)).astype(float), rng.uniform(0, 30, 2)
    path = tour(stops, start).positions
    assert sorted(map(tuple, path.tolist())) == sorted(map(tuple, stops.tolist()))
    length = float(np.hypot(*np.diff(np.vstack([start, path]), axis=0).T).sum())
    assert length <= 1.35 * _shortest(stops, start) + 1e-6


@given(st.integers(0, 2**32 - 1), st.floats(1.0, 12.0))
@settings(max_examples=40)
def test_no_step_is_longer_than_the_largest(seed: int, largest_step: float) -> None:
    rng = np.random.default_rng(seed)
    stops, start = rng.integers(0, 60, (20, 2)).astype(float), np.array([5.0, 5.0])
    found = tour(stops, start, largest_step=largest_step)
    steps = np.hypot(*np.diff(np.vstack([start, found.positions]), axis=0).T)
    assert steps.max() <= largest_step * (1 + 1e-5)
    np.testing.assert_allclose(found.positions[found.wanted], tour(stops, start).positions, atol=1e-5)
    assert found.length == pytest.approx(tour(stops, start).length + steps[0], rel=0.5)


def test_nothing_to_visit_is_an_empty_tour() -> None:
    assert tour(np.empty((0, 2)), [0, 0], largest_step=2.0).positions.shape == (0, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NestedLattice((1, 9)), "shape: got"),
        (lambda: NestedLattice((64, 64), 12), "coarsest: got 12; expected a power of two"),
        (lambda: NestedLattice((64, 64), 16, 10), "n_levels: got 10; expected 1 to 9"),
        (lambda: progressive_lattice(17, 4), "n_positions: got 17; expected 1 to 16"),
        (lambda: tour([[0, 0]], [1, 1], largest_step=0.0), "largest_step: got 0.0; expected more than 0 px"),
    ],
)
def test_what_cannot_be_is_refused(make: object, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make()  # type: ignore[operator]
