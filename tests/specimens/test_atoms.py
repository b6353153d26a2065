from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from adaptive_scan.specimens.atoms import (
    COEFFICIENTS,
    EXPONENTS,
    AtomModel,
    add_atoms,
    atomic_radii,
    line_integrals,
    profile,
    random_atom_model,
    reaches,
)
from adaptive_scan.specimens.elements import POTENTIAL_RADII


def model_of(number: int = 6, *, radius: float = 0.7, exponent: float = 5.0) -> AtomModel:
    return AtomModel(np.array([number]), np.array([radius]), np.array([[0.6, 0.8, 0.9]]), np.array([exponent]))


def test_profile_is_equation_17() -> None:
    for r in (0.0, 0.3, 0.7, 1.4, 3.0):
        x = r / 0.7
        expected = 0.6 * np.exp(-(x**2) / 2) + 0.8 * np.exp(-x) + 0.9 / (1 + x**10)
        assert profile(model_of(), 0, r) == pytest.approx(expected)


def test_line_integral_is_the_integral_of_the_profile() -> None:
    numeric, _ = quad(lambda r: float(profile(model_of(), 0, r)), 0.0, 60.0, points=[0.7, 2.0], limit=200)

    assert line_integrals(model_of())[0] == pytest.approx(numeric, rel=1e-6)


@settings(max_examples=60)
@given(
    numbers=st.lists(st.integers(1, 103), min_size=1, max_size=16),
    sharpness=st.floats(0.3, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_constraints_hold_for_all_draws(numbers: list[int], sharpness: float, seed: int) -> None:
    model = random_atom_model(numbers, np.random.default_rng(seed), sharpness=sharpness)

    assert model.numbers.tolist() == sorted(set(numbers))
    integrals = line_integrals(model)
    assert (np.diff(integrals) > 0).all()  # equation 22
    assert (model.radii > 0).all()
    assert (model.heights > 0).all()
    assert ((model.exponents >= EXPONENTS[0]) & (model.exponents <= EXPONENTS[1])).all()
    assert ((model.heights[-1] >= COEFFICIENTS[0]) & (model.heights[-1] <= COEFFICIENTS[1])).all()
    if len(integrals) > 1:
        powers = np.log(integrals[:-1] / integrals[-1]) / np.log(model.numbers[:-1] / model.numbers[-1])
        assert powers.min() >= 1.0 - 1e-6
        assert powers.max() <= 2.0 + 1e-6
        np.testing.assert_allclose(powers, powers[0], rtol=1e-6)


@given(power=st.floats(0.75, 1.25))
def test_radii_keep_mean_spread_and_order_of_the_elements(power: float) -> None:
    radii = atomic_radii(power)[1:]

    assert radii.mean() == pytest.approx(POTENTIAL_RADII[1:].mean())
    assert radii.std() == pytest.approx(POTENTIAL_RADII[1:].std())
    np.testing.assert_array_equal(np.argsort(radii, kind="stable"), np.argsort(POTENTIAL_RADII[1:], kind="stable"))
    assert radii.min() > 0.2


def test_a_picture_is_the_plain_sum_of_its_atoms(rng: np.random.Generator) -> None:
    step, size = 0.21, 40
    model = random_atom_model([8, 79], rng, sharpness=0.6)
    positions = rng.uniform(-1.0, size * step + 1.0, (30, 3))
    numbers = rng.choice([8, 79], 30)
    picture = np.zeros((size, size), np.float32)

    add_atoms(picture, positions, numbers, model, step)

    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1) * step
    expected = np.zeros((size, size))
    for position, number in zip(positions, numbers, strict=True):
        kind = int(np.searchsorted(model.numbers, number))
        distances = np.hypot(*np.moveaxis(grid - position[:2], -1, 0))
        expected += np.where(distances <= reaches(model)[kind], profile(model, kind, distances), 0.0)
    np.testing.assert_allclose(picture, expected, atol=2e-3 * expected.max())


def test_atoms_of_one_column_add_up_and_other_species_stay_apart() -> None:
    model = random_atom_model([6, 79], np.random.default_rng(0))
    single, column, mixed = (np.zeros((24, 24), np.float32) for _ in range(3))
    place = np.array([[5.0, 5.0, 0.0]])

    add_atoms(single, place, np.array([79]), model, 0.4)
    add_atoms(column, np.repeat(place, 3, axis=0) + np.arange(3)[:, None] * [0, 0, 2.0], np.full(3, 79), model, 0.4)
    add_atoms(mixed, np.repeat(place, 2, axis=0), np.array([6, 79]), model, 0.4)

    np.testing.assert_allclose(column, 3.0 * single, rtol=1e-5)
    assert single.max() < mixed.max() < 2.0 * single.max()


def test_an_atom_has_faded_to_almost_nothing_where_it_is_cut(rng: np.random.Generator) -> None:
    model = random_atom_model(np.arange(1, 104), rng)
    for kind, reach in enumerate(reaches(model)):
        peak = float(profile(model, kind, 0.0))
        assert float(profile(model, kind, reach)) < 5e-3 * peak
