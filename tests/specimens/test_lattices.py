from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.specimens.lattices import (
    SYMMETRIES,
    Crystals,
    add_crystals,
    lattice,
    lattice_vectors,
    random_crystals,
)


def one_crystal(cell: list[list[float]], **changes: np.ndarray) -> Crystals:
    crystal = Crystals(
        vectors=np.array([cell]),
        origins=np.array([[1.3171, 2.6393]]),
        motifs=np.array([[[0.0, 0.0], [0.5, 0.5]]]),
        heights=np.array([[1.0, 0.0]]),
        widths=np.array([1.2]),
        vacancies=np.zeros(1),
        substitutions=np.zeros(1),
        displacements=np.zeros(1),
    )
    return crystal._replace(**changes)


def drawn(crystal: Crystals, thickness: np.ndarray, seed: int = 0) -> np.ndarray:
    pictures = np.zeros((1, *thickness.shape), np.float32)
    add_crystals(pictures, np.array([0]), thickness[None].astype(np.float32), crystal, np.random.default_rng(seed))
    return pictures[0]


def brute_force_crystal(crystal: Crystals, thickness: np.ndarray) -> np.ndarray:
    """The whole sum over far more cells than can matter, of spots that are not cut."""
    size = len(thickness)
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    picture, width = np.zeros((size, size)), crystal.widths[0]
    cells = np.stack(np.meshgrid(np.arange(-40, 41), np.arange(-40, 41)), axis=-1).reshape(-1, 2)
    for motif, height in zip(crystal.motifs[0], crystal.heights[0], strict=True):
        sites = crystal.origins[0] + (cells + motif) @ crystal.vectors[0]
        reached = np.all((sites >= -4.0 * width) & (sites <= size - 1 + 4.0 * width), axis=1)
        for r, c in sites[reached]:
            row, column = (int(np.clip(np.floor(x + 0.5), 0, size - 1)) for x in (r, c))
            spot = np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / (2 * width**2))
            picture += height * thickness[row, column] * spot
    return picture


@pytest.mark.parametrize(
    ("symmetry", "ratios", "angles"),
    [
        ("oblique", (1.1, 1.5), (65.0, 85.0)),
        ("rectangular", (1.15, 1.8), (90.0, 90.0)),
        ("centred", (1.0, 1.0), (66.0, 84.0)),
        ("square", (1.0, 1.0), (90.0, 90.0)),
        ("hexagonal", (1.0, 1.0), (60.0, 60.0)),
    ],
)
def test_lattice_vectors_have_their_symmetry_and_area(
    symmetry: str, ratios: tuple[float, float], angles: tuple[float, float], rng: np.random.Generator
) -> None:
    areas = rng.uniform(9.0, 400.0, 200)

    vectors = lattice_vectors(np.full(200, SYMMETRIES.index(symmetry)), areas, rng)

    lengths = np.linalg.norm(vectors, axis=2)
    cosines = (vectors[:, 0] * vectors[:, 1]).sum(axis=1) / lengths.prod(axis=1)
    np.testing.assert_allclose(np.abs(np.linalg.det(vectors)), areas)
    between = lengths[:, 1] / lengths[:, 0]
    assert between.min() >= ratios[0] - 1e-9
    assert between.max() <= ratios[1] + 1e-9
    degrees = np.rad2deg(np.arccos(cosines))
    assert degrees.min() >= angles[0] - 1e-6
    assert degrees.max() <= angles[1] + 1e-6
    directions = np.arctan2(vectors[:, 0, 1], vectors[:, 0, 0])
    assert np.abs(np.exp(1j * directions).mean()) < 0.2


@given(
    size=st.integers(16, 28),
    width=st.floats(0.7, 3.0),
    shear=st.floats(-3.0, 3.0),
    weight=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_add_crystals_equals_the_plain_sum(size: int, width: float, shear: float, weight: float, seed: int) -> None:
    thickness = np.random.default_rng(seed).uniform(0.0, 1.0, (size, size)).astype(np.float32)
    crystal = one_crystal([[4.1, shear], [-1.2, 5.3]], widths=np.array([width]), heights=np.array([[1.0, weight]]))

    # Each spot is cut where it has fallen to exp(-8) = 3.4e-4, and about ten are cut near any one pixel.
    np.testing.assert_allclose(drawn(crystal, thickness), brute_force_crystal(crystal, thickness), atol=4e-3)


@pytest.mark.parametrize("symmetry", range(len(SYMMETRIES)))
def test_strongest_frequencies_are_the_reciprocal_vectors(symmetry: int, rng: np.random.Generator) -> None:
    size = 256
    vectors = lattice_vectors(np.array([symmetry]), np.array([130.0]), rng)
    crystal = one_crystal([[1.0, 0.0], [0.0, 1.0]], vectors=vectors, widths=np.array([2.0]))

    window = np.hanning(size)[:, None] * np.hanning(size)
    picture = drawn(crystal, np.ones((size, size)))
    spectrum = np.abs(np.fft.fft2((picture - picture.mean()) * window))

    reciprocal = np.linalg.inv(vectors[0])  # its columns b1, b2 satisfy a_i . b_j = delta_ij
    candidates = [i * reciprocal[:, 0] + j * reciprocal[:, 1] for i, j in [(1, 0), (0, 1), (1, 1), (1, -1)]]
    shortest = min(candidates, key=lambda vector: float(np.linalg.norm(vector)))
    peak = np.unravel_index(spectrum.argmax(), spectrum.shape)
    frequency = np.array([np.fft.fftfreq(size)[index] for index in peak])
    nearest = min(np.linalg.norm(frequency - sign * vector) for vector in candidates for sign in (1, -1))
    assert nearest <= 0.8 / size
    assert np.linalg.norm(frequency) == pytest.approx(np.linalg.norm(shortest), abs=1.5 / size)


def test_vacancies_remove_their_share_of_the_columns() -> None:
    field = np.ones((200, 200))
    full = drawn(one_crystal([[5.0, 0.0], [0.0, 5.0]]), field).sum()

    holed = drawn(one_crystal([[5.0, 0.0], [0.0, 5.0]], vacancies=np.array([0.3])), field).sum()
    empty = drawn(one_crystal([[5.0, 0.0], [0.0, 5.0]], vacancies=np.ones(1)), field)

    assert holed / full == pytest.approx(0.7, abs=0.04)
    assert not empty.any()


def test_substitutes_are_brighter() -> None:
    field = np.ones((64, 64))
    pure = drawn(one_crystal([[8.0, 0.0], [0.0, 8.0]]), field)

    np.testing.assert_allclose(
        drawn(one_crystal([[8.0, 0.0], [0.0, 8.0]], substitutions=np.ones(1)), field), 1.6 * pure, rtol=1e-5
    )


def test_displacements_spread_the_columns_about_their_sites() -> None:
    crystal = one_crystal(
        [[20.0, 0.0], [0.0, 20.0]],
        origins=np.array([[10.0, 10.0]]),
        widths=np.array([1.0]),
        displacements=np.array([1.5]),
    )

    blocks = drawn(crystal, np.ones((400, 400))).reshape(20, 20, 20, 20).transpose(0, 2, 1, 3)
    mass = blocks.sum(axis=(2, 3))
    rows = (blocks.sum(axis=3) * np.arange(20)).sum(axis=2) / mass - 10.0
    columns = (blocks.sum(axis=2) * np.arange(20)).sum(axis=2) / mass - 10.0

    assert rows.std() == pytest.approx(1.5, rel=0.1)
    assert columns.std() == pytest.approx(1.5, rel=0.1)
    assert rows.mean() == pytest.approx(0.0, abs=0.25)


def test_columns_stand_only_where_the_crystal_is() -> None:
    half = np.zeros((60, 60))
    half[:, 30:] = 2.0

    picture = drawn(one_crystal([[6.0, 0.0], [0.0, 6.0]]), half)

    np.testing.assert_array_equal(picture[:, :24], 0.0)
    assert picture[:, 30:].max() == pytest.approx(2.0, rel=0.1)
    assert not drawn(one_crystal([[6.0, 0.0], [0.0, 6.0]]), np.zeros((60, 60))).any()


def test_crystals_are_added_to_their_owners() -> None:
    pictures = np.ones((3, 32, 32), np.float32)
    crystal = one_crystal([[6.0, 0.0], [0.0, 6.0]])
    two = Crystals(*(np.repeat(field, 2, axis=0) for field in crystal))

    add_crystals(pictures, np.array([2, 2]), np.ones((2, 32, 32), np.float32), two, np.random.default_rng(0))

    np.testing.assert_array_equal(pictures[:2], 1.0)
    np.testing.assert_allclose(pictures[2], 1.0 + 2.0 * drawn(crystal, np.ones((32, 32))), rtol=1e-5)


def test_random_crystals_keep_the_area_per_column(rng: np.random.Generator) -> None:
    spacings = rng.uniform(3.0, 30.0, 300)

    crystals = random_crystals(spacings, 96, rng)

    n_columns = (crystals.heights > 0.0).sum(axis=1)
    np.testing.assert_allclose(np.abs(np.linalg.det(crystals.vectors)) / n_columns, spacings**2)
    assert set(n_columns.tolist()) == {1, 2}
    assert crystals.widths.min() >= 0.6
    assert (crystals.vacancies == 0.0).mean() == pytest.approx(0.6, abs=0.1)


def test_some_lattices_end_in_the_field_and_most_fill_it(rng: np.random.Generator) -> None:
    pictures = lattice(300, 64, rng)
    tiles = pictures.reshape(300, 4, 16, 4, 16).std(axis=(2, 4)).reshape(300, 16)

    flat_somewhere = tiles.min(axis=1) < 0.15 * tiles.max(axis=1)
    assert np.isfinite(pictures).all()
    assert 0.05 < flat_somewhere.mean() < 0.5
