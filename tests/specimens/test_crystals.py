from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_scan.specimens.atoms import AtomModel, add_atoms
from adaptive_scan.specimens.crystals import (
    DISTANCES,
    LENGTHS,
    MATERIALS,
    MOST_SPECIES,
    ZONES,
    Crystal,
    cell_vectors,
    density,
    fill,
    material,
    oriented,
    random_crystal,
    shortest_translation,
    zone_cell,
)
from adaptive_scan.specimens.elements import MASSES
from adaptive_scan.specimens.symmetry import PLANE_GROUPS, Operations, plane_group, space_group

# Masses per volume [g/cm^3] from CRC Handbook of Chemistry and Physics; the cell must hold the right atoms.
DENSITIES = {"Au": 19.3, "Si": 2.33, "MgO": 3.6, "SrTiO3": 5.12, "CeO2": 7.22, "TiO2 (rutile)": 4.23, "Al2O3": 3.99}
DENSITIES |= {"GaN": 6.1, "MoS2": 5.06, "graphite": 2.26, "YBa2Cu3O7": 6.37, "TiO2 (anatase)": 3.9, "MgAl2O4": 3.58}
DENSITIES |= {"Bi2Te3": 7.86, "FePt": 15.0, "Ti": 4.5, "ZnO": 5.6, "GaAs": 5.32, "Fe": 7.87, "AuCu3": 12.2}


def closest(crystal: Crystal) -> float:
    """Smallest distance between any two atoms [Å], by brute force over neighbouring cells."""
    cells = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3)
    differences = crystal.positions[:, None] - crystal.positions
    differences -= np.rint(differences)
    lengths = np.linalg.norm((differences[:, :, None] + cells) @ crystal.vectors, axis=-1)
    return float(lengths[lengths > 1e-6].min())


def assert_invariant(crystal: Crystal, operations: Operations) -> None:
    """Every operation maps the atoms onto atoms of the same species, and lengths onto equal ones."""
    metric = crystal.vectors @ crystal.vectors.T
    for rotation, translation in zip(*operations, strict=True):
        np.testing.assert_allclose(rotation.T @ metric @ rotation, metric, atol=1e-9)
        images = crystal.positions @ rotation.T + translation
        differences = images[:, None] - crystal.positions
        differences -= np.rint(differences)
        is_same = np.abs(differences).max(axis=2) < 1e-6
        np.testing.assert_array_equal(is_same.sum(axis=1), 1)
        np.testing.assert_array_equal(crystal.numbers[is_same.argmax(axis=1)], crystal.numbers)


@pytest.mark.parametrize(
    "number", [1, 2, 5, 9, 14, 19, 33, 43, 62, 70, 88, 96, 122, 136, 141, 148, 152, 167, 176, 194, 205, 216, 227, 230]
)
def test_random_crystals_have_the_symmetry_of_their_space_group(number: int) -> None:
    for seed in range(3):
        crystal = random_crystal(np.random.default_rng(seed), number=number, min_distance=1.6)

        assert crystal.name == f"space group {number}"
        assert_invariant(crystal, space_group(number))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_crystals_keep_their_ranges(seed: int) -> None:
    crystal = random_crystal(np.random.default_rng(seed))

    lengths = np.linalg.norm(crystal.vectors, axis=1)
    assert lengths.min() >= LENGTHS[0] - 1e-9
    assert lengths.max() <= LENGTHS[1] + 1e-9
    assert 1 <= len(np.unique(crystal.numbers)) <= MOST_SPECIES
    assert closest(crystal) >= DISTANCES[0] * 0.8**4
    assert np.linalg.det(crystal.vectors) > 0


@pytest.mark.parametrize("plane", PLANE_GROUPS)
def test_a_drawn_plane_pattern_is_invariant_under_its_own_operations(plane: str) -> None:
    crystal = random_crystal(np.random.default_rng(5), plane=plane)
    assert_invariant(crystal, plane_group(plane))
    step, size = 0.3, 90
    model = AtomModel(np.unique(crystal.numbers), *_plain(len(np.unique(crystal.numbers))))
    box = np.array([[-4.0, -4.0, -1.0], [size * step + 4.0, size * step + 4.0, 1.0]])
    origin = np.array([13.0, 14.0, 0.0])
    flat = oriented(crystal, (0, 0, 1), 0.4)
    positions, numbers = fill(flat, origin, *box)
    # The cell may have become another one; operations act on the coordinates of the conventional vectors.
    to_cell = np.linalg.inv(_lab_vectors(crystal, flat))

    for rotation, translation in zip(*plane_group(plane), strict=True):
        picture, other = np.zeros((2, size, size), np.float32)
        add_atoms(picture, positions, numbers, model, step)
        inner = slice(30, 60)
        # The image of a box is another box: both cover the middle only if a wider one is mapped.
        wide, wide_numbers = fill(flat, origin, box[0] - [80.0, 80.0, 0.0], box[1] + [80.0, 80.0, 0.0])
        images = ((wide - origin) @ to_cell @ rotation.T + translation) @ np.linalg.inv(to_cell) + origin
        add_atoms(other, images, wide_numbers, model, step)
        np.testing.assert_allclose(other[inner, inner], picture[inner, inner], atol=1e-3 * picture.max())


def _plain(n_species: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    heights = np.linspace(0.5, 1.0, n_species)[:, None] * np.array([1.0, 0.0, 0.0])
    return np.full(n_species, 0.5), heights, np.full(n_species, 4.0)


def _lab_vectors(crystal: Crystal, turned: Crystal) -> np.ndarray:
    """The conventional vectors in the frame of the turned crystal."""
    reduced = zone_cell(crystal, (0, 0, 1))
    rotation = np.linalg.solve(reduced.vectors, turned.vectors)
    return crystal.vectors @ rotation


@pytest.mark.parametrize("name", MATERIALS)
def test_materials_have_the_symmetry_of_their_group(name: str) -> None:
    assert_invariant(material(name), space_group(MATERIALS[name].group))
    assert closest(material(name)) > 1.35


@pytest.mark.parametrize(("name", "expected"), list(DENSITIES.items()))
def test_materials_have_their_published_densities(name: str, expected: float) -> None:
    crystal = material(name)
    grams = MASSES[crystal.numbers].sum() / abs(np.linalg.det(crystal.vectors)) / 0.602214
    assert grams == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("name", ["SrTiO3", "Ti", "YBa2Cu3O7"])
def test_a_zone_cell_holds_the_same_crystal(name: str, zone: tuple[int, int, int]) -> None:
    crystal, cell = material(name), zone_cell(material(name), zone)

    np.testing.assert_allclose(cell.vectors[2], np.array(zone) @ crystal.vectors)
    assert abs(np.linalg.det(cell.vectors)) == pytest.approx(abs(np.linalg.det(crystal.vectors)))
    boxes = (np.zeros(3) + 0.01, np.full(3, 14.0))
    first, first_numbers = fill(crystal, np.zeros(3), *boxes)
    second, second_numbers = fill(cell, np.zeros(3), *boxes)
    order, other = np.lexsort(np.round(first, 4).T), np.lexsort(np.round(second, 4).T)
    np.testing.assert_allclose(first[order], second[other], atol=1e-6)
    np.testing.assert_array_equal(first_numbers[order], second_numbers[other])


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_filling_finds_every_atom_of_the_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crystal = oriented(material("GaN"), (2, 1, 0), rng.uniform(0.0, 6.0), (0.1, -0.2))
    origin, low = rng.uniform(-3.0, 3.0, (2, 3))
    high = low + rng.uniform(2.0, 9.0, 3)

    positions, numbers = fill(crystal, origin, low, high)

    cells = np.stack(np.meshgrid(*[np.arange(-12, 13)] * 3), axis=-1).reshape(-1, 1, 3)
    every = ((cells + crystal.positions) @ crystal.vectors + origin).reshape(-1, 3)
    within = np.all((every >= low) & (every <= high), axis=1)
    expected = every[within]
    assert len(positions) == len(expected)
    np.testing.assert_allclose(np.sort(positions.sum(axis=1)), np.sort(expected.sum(axis=1)), atol=1e-6)
    n_gallium = int(np.tile(crystal.numbers == 31, len(cells))[within].sum())
    assert int((numbers == 31).sum()) == n_gallium


def test_the_spacing_in_the_power_spectrum_is_that_of_the_lattice() -> None:
    step, size = 0.15, 256
    crystal = oriented(material("Au"), (0, 0, 1), 0.3)
    positions, numbers = fill(crystal, np.zeros(3), np.array([-4.0, -4.0, 0.0]), np.array([43.0, 43.0, 4.0]))
    picture = np.zeros((size, size), np.float32)
    add_atoms(picture, positions, numbers, AtomModel(np.array([79]), *_plain(1)), step)

    window = np.hanning(size)[:, None] * np.hanning(size)
    spectrum = np.abs(np.fft.fft2((picture - picture.mean()) * window, s=(1024, 1024)))
    row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
    frequency = np.hypot(np.fft.fftfreq(1024)[row], np.fft.fftfreq(1024)[column]) / step

    # Along [001] gold shows its {200} spacing of a / 2.
    assert 1.0 / frequency == pytest.approx(4.078 / 2.0, rel=0.01)


def test_shortest_translations_are_the_known_burgers_vectors() -> None:
    # fcc: a/2 <110> lies across [001]; bcc: a/2 <111>, of which a / sqrt 2 does; a simple cubic lattice: a <100>.
    for name, length in (("Au", 2.884), ("Fe", 2.027), ("MgO", 2.978), ("SrTiO3", 3.905)):
        vector = shortest_translation(oriented(material(name), (0, 0, 1), 0.7))
        assert np.hypot(vector[0], vector[1]) == pytest.approx(length, abs=1e-3)


def test_cells_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"angles: got \[120.0, 120.0, 120.0\] degrees; expected angles of a cell"):
        cell_vectors(np.ones(3), np.full(3, 120.0))
    with pytest.raises(ValueError, match="name: got 'cheese'; expected one of the materials Au, Pt"):
        material("cheese")


def test_density_counts_atoms() -> None:
    assert density(material("Si")) == pytest.approx(8 / 5.431**3)
