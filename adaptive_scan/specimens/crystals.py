"""Crystals in three dimensions: random ones of any space or plane group, known materials, orientation, and filling.

A crystal is a cell and the atoms in it; :func:`oriented` turns it into the frame of the microscope (row, column,
height) with the beam along a zone axis, and :func:`fill` puts its atoms into a box.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import NamedTuple

import numba
import numpy as np

from adaptive_scan.errors import SettingError
from adaptive_scan.specimens.elements import HEAVIEST, number_of
from adaptive_scan.specimens.family import log_uniform
from adaptive_scan.specimens.symmetry import (
    PLANE_GROUPS,
    Operations,
    centrings,
    orbit,
    plane_group,
    space_group,
)

LENGTHS = (3.1, 25.0)
"""Range of the lattice parameters a, b and c of random crystals [Å] (Lobato et al. 2023, specimen generation)."""
ANGLES = (45.0, 120.0)
"""Range of their free angles [degrees] (ditto)."""
DISTANCES = (1.5, 2.8)
"""Range of the smallest distance between their atoms [Å], within the 0.95 to 7 Å of the paper."""
MOST_SPECIES = 16
"""Most atomic species of a random crystal (ditto)."""
ZONES = ((1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 0), (2, 1, 1), (2, 2, 1), (3, 1, 0), (3, 1, 1))
"""The eight main zone axes, up to the order and the sign of the indices."""

_MOST_ATOMS = 240
_LARGEST_CELL = 2500.0  # [Å^3]; a larger one would be nearly empty after the tries below
_N_TRIES = 24
_FLATTEST = 0.02  # square of the height of c over the plane of a and b, relative to c; flatter cells are refused
_LAYER = 10.0  # height of the cell of a plane pattern [Å]: its layers never meet


class Crystal(NamedTuple):
    """A unit cell with M atoms.

    Attributes:
        vectors: Lattice vectors as rows [Å], float64, shape (3, 3).
        positions: Fractional coordinates, float64, shape (M, 3).
        numbers: Atomic numbers, int64, shape (M,).
        centrings: Fractional translations of the crystal that are no lattice vectors, float64, shape (n, 3).
        name: Formula or symmetry.
    """

    vectors: np.ndarray
    positions: np.ndarray
    numbers: np.ndarray
    centrings: np.ndarray
    name: str


class _Material(NamedTuple):
    group: int
    cell: tuple[float, ...]
    sites: tuple[tuple[str, float, float, float], ...]


_Z, _Q, _H, _T = 0.0, 0.25, 0.5, 1.0 / 3.0


def _of_kind(group: int, sites: tuple[tuple[float, float, float], ...], members: str) -> dict[str, _Material]:
    """Cubic materials of one structure type, from lines such as ``MgO Mg O 4.212``."""
    found = {}
    for line in members.split(";"):
        name, *elements, length = line.split()
        placed = tuple((element, *site) for element, site in zip(elements, sites, strict=True))
        found[name] = _Material(group, (float(length),), placed)
    return found


MATERIALS: dict[str, _Material] = {
    **_of_kind(
        225, ((_Z, _Z, _Z),), "Au Au 4.078;Pt Pt 3.924;Pd Pd 3.891;Ag Ag 4.086;Cu Cu 3.615;Al Al 4.050;Ni Ni 3.524"
    ),
    **_of_kind(229, ((_Z, _Z, _Z),), "Fe Fe 2.867;W W 3.165;Mo Mo 3.147;Ta Ta 3.303"),
    **_of_kind(227, ((_Z, _Z, _Z),), "Si Si 5.431;Ge Ge 5.658;C C 3.567"),
    **_of_kind(
        216,
        ((_Z, _Z, _Z), (_Q, _Q, _Q)),
        "GaAs Ga As 5.653;InP In P 5.869;CdTe Cd Te 6.482;ZnS Zn S 5.409;InSb In Sb 6.479",
    ),
    **_of_kind(225, ((_Z, _Z, _Z), (_H, _H, _H)), "MgO Mg O 4.212;NaCl Na Cl 5.640;PbTe Pb Te 6.462;TiN Ti N 4.240"),
    **_of_kind(221, ((_Z, _Z, _Z), (_H, _H, _H)), "NiAl Ni Al 2.887;CsCl Cs Cl 4.123"),
    **_of_kind(221, ((_Z, _Z, _Z), (_Z, _H, _H)), "AuCu3 Au Cu 3.749;AlNi3 Al Ni 3.572"),
    **_of_kind(225, ((_Z, _Z, _Z), (_Q, _Q, _Q)), "CeO2 Ce O 5.411;CaF2 Ca F 5.463;UO2 U O 5.470"),
    **_of_kind(
        221,
        ((_Z, _Z, _Z), (_H, _H, _H), (_H, _H, _Z)),
        "SrTiO3 Sr Ti O 3.905;BaTiO3 Ba Ti O 4.000;LaAlO3 La Al O 3.790;KTaO3 K Ta O 3.989",
    ),
    "MgAl2O4": _Material(
        227, (8.083,), (("Mg", _Z, _Z, _Z), ("Al", 0.625, 0.625, 0.625), ("O", 0.3874, 0.3874, 0.3874))
    ),
    "FePt": _Material(123, (2.724, 3.713), (("Fe", _Z, _Z, _Z), ("Pt", _H, _H, _H))),
    "TiO2 (rutile)": _Material(136, (4.594, 2.959), (("Ti", _Z, _Z, _Z), ("O", 0.305, 0.305, _Z))),
    "TiO2 (anatase)": _Material(141, (3.785, 9.514), (("Ti", _Z, _Z, _Z), ("O", _Z, _Z, 0.2081))),
    "Ti": _Material(194, (2.951, 4.685), (("Ti", _T, 2 * _T, _Q),)),
    "Mg": _Material(194, (3.209, 5.211), (("Mg", _T, 2 * _T, _Q),)),
    "GaN": _Material(186, (3.189, 5.185), (("Ga", _T, 2 * _T, _Z), ("N", _T, 2 * _T, 0.377))),
    "ZnO": _Material(186, (3.250, 5.207), (("Zn", _T, 2 * _T, _Z), ("O", _T, 2 * _T, 0.382))),
    "MoS2": _Material(194, (3.160, 12.294), (("Mo", _T, 2 * _T, _Q), ("S", _T, 2 * _T, 0.621))),
    "graphite": _Material(194, (2.464, 6.711), (("C", _Z, _Z, _Q), ("C", _T, 2 * _T, _Q))),
    "Al2O3": _Material(167, (4.759, 12.991), (("Al", _Z, _Z, 0.3522), ("O", 0.3063, _Z, _Q))),
    "Bi2Te3": _Material(166, (4.385, 30.49), (("Bi", _Z, _Z, 0.400), ("Te", _Z, _Z, _Z), ("Te", _Z, _Z, 0.2097))),
    "YBa2Cu3O7": _Material(
        47,
        (3.823, 3.887, 11.680),
        (
            ("Ba", _H, _H, 0.1843),
            ("Y", _H, _H, _H),
            ("Cu", _Z, _Z, _Z),
            ("Cu", _Z, _Z, 0.3556),
            ("O", _Z, _H, _Z),
            ("O", _H, _Z, 0.3773),
            ("O", _Z, _H, 0.3789),
            ("O", _Z, _Z, 0.1584),
        ),
    ),
}
"""Known structures: space group, lattice parameters [Å] and the atoms of the asymmetric unit, at room temperature.

Values of common use, rounded, as collected by R. W. G. Wyckoff, *Crystal Structures*, 2nd edition, Wiley, 1963 to 1971.
"""


def cell_vectors(lengths: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Lattice vectors from lattice parameters, a along the first axis and b in the plane of the first two.

    Args:
        lengths: a, b, c [Å], shape (3,).
        angles: alpha, beta, gamma [degrees], shape (3,).

    Returns:
        Vectors as rows [Å], float64, shape (3, 3).

    Raises:
        ValueError: If no cell has these angles.

    Example:
        >>> np.round(cell_vectors(np.array([2.0, 3.0, 4.0]), np.full(3, 90.0)), 9).diagonal().tolist()
        [2.0, 3.0, 4.0]
    """
    a, b, c = lengths
    cosines = np.cos(np.deg2rad(angles))
    cosines[np.abs(cosines) < 1e-12] = 0.0
    sine = np.sqrt(1.0 - cosines[2] ** 2)
    across = (cosines[0] - cosines[1] * cosines[2]) / sine
    square = 1.0 - cosines[1] ** 2 - across**2
    if square < _FLATTEST:
        raise SettingError(f"angles: got {angles.tolist()} degrees; expected angles of a cell")
    return np.array([[a, 0.0, 0.0], [b * cosines[2], b * sine, 0.0], [c * cosines[1], c * across, c * np.sqrt(square)]])


@cache
def material(name: str) -> Crystal:
    """A known material.

    Args:
        name: One of ``MATERIALS``.

    Returns:
        Its conventional cell; shared, not to be changed.

    Raises:
        ValueError: If it is not tabulated.

    Example:
        >>> len(material("Si").numbers), len(material("SrTiO3").numbers)
        (8, 5)
    """
    if name not in MATERIALS:
        raise SettingError(f"name: got {name!r}; expected one of the materials {', '.join(MATERIALS)}")
    group, cell, sites = MATERIALS[name]
    operations = space_group(group)
    lengths = {1: [cell[0]] * 3, 2: [cell[0], cell[0], cell[-1]], 3: list(cell)}[len(cell)]
    gamma = 120.0 if 143 <= group <= 194 else 90.0
    orbits = [orbit(np.array(site[1:]), operations) for site in sites]
    numbers = np.repeat([number_of(site[0]) for site in sites], [len(part) for part in orbits])
    vectors = cell_vectors(np.array(lengths), np.array([90.0, 90.0, gamma]))
    crystal = Crystal(vectors, np.concatenate(orbits), numbers, centrings(operations), name)
    for array in crystal[:4]:
        array.setflags(write=False)
    return crystal


def random_material(rng: np.random.Generator) -> Crystal:
    """One of the known materials, each as likely as another.

    Example:
        >>> random_material(np.random.default_rng(0)).name in MATERIALS
        True
    """
    return material(list(MATERIALS)[rng.integers(len(MATERIALS))])


def _random_cell(number: int, rng: np.random.Generator) -> np.ndarray:
    """Lattice vectors [Å] that a space group allows."""
    a, b, c = log_uniform(*LENGTHS, 3, rng)
    alpha, beta, gamma = rng.uniform(*ANGLES, 3)
    if number >= 195:
        lengths, angles = (a, a, a), (90.0, 90.0, 90.0)
    elif number >= 143:
        lengths, angles = (a, a, c), (90.0, 90.0, 120.0)
    elif number >= 75:
        lengths, angles = (a, a, c), (90.0, 90.0, 90.0)
    elif number >= 16:
        lengths, angles = (a, b, c), (90.0, 90.0, 90.0)
    elif number >= 3:
        lengths, angles = (a, b, c), (90.0, beta, 90.0)
    else:
        lengths, angles = (a, b, c), (alpha, beta, gamma)
    try:
        vectors = cell_vectors(np.array(lengths), np.array(angles))
    except ValueError:
        return _random_cell(number, rng)
    excess = np.cbrt(abs(np.linalg.det(vectors)) / _LARGEST_CELL)
    lengths_now = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors if excess <= 1.0 else vectors * np.maximum(1.0 / excess, LENGTHS[0] / lengths_now.min())


def random_crystal(
    rng: np.random.Generator, *, number: int | None = None, plane: str | None = None, min_distance: float | None = None
) -> Crystal:
    """A crystal of random symmetry, lattice, species and motif.

    Places of the asymmetric unit are drawn until a density is reached: a place nearer to its own images than the
    smallest distance moves onto the symmetry element between them, and one too near to other atoms is dropped.

    Args:
        rng: Source of randomness.
        number: Space group, 1 to 230; drawn by default.
        plane: A plane group instead, for a pattern of one layer.
        min_distance: Smallest distance between atoms [Å]; drawn from ``DISTANCES`` by default.

    Returns:
        A crystal of at least one atom in the cell.

    Example:
        >>> random_crystal(np.random.default_rng(0), number=225).name
        'space group 225'
    """
    if plane is None:
        number = int(rng.integers(1, 231)) if number is None else number
        operations, name = space_group(number), f"space group {number}"
        vectors = _random_cell(number, rng)
    else:
        operations, name = plane_group(plane), f"plane group {plane}"
        vectors = _random_net(plane, rng)
    nearest = rng.uniform(*DISTANCES) if min_distance is None else min_distance
    n_species = min(MOST_SPECIES, int(rng.geometric(0.35)))
    species = rng.choice(np.arange(1, HEAVIEST + 1), n_species, replace=False)
    return _motif(vectors, operations, species, nearest, plane is not None, name, rng)


def _motif(
    vectors: np.ndarray,
    operations: Operations,
    species: np.ndarray,
    nearest: float,
    is_plane: bool,
    name: str,
    rng: np.random.Generator,
) -> Crystal:
    """Fill a cell with sites until its density is reached; smaller distances are tried where nothing fits."""
    rotations = operations.rotations.astype(np.float64)
    places = np.empty((_MOST_ATOMS, 3))
    numbers = np.empty(_MOST_ATOMS, np.int64)
    shares = rng.uniform(1.5, 6.0)
    volume = abs(np.linalg.det(vectors)) * (nearest / _LAYER if is_plane else 1.0)
    wanted = min(volume / (shares * nearest**3), _MOST_ATOMS)
    while True:
        n_atoms = n_sites = 0
        for _ in range(_N_TRIES):
            point = rng.uniform(size=3)
            point[2] *= not is_plane
            added = _place(rotations, operations.translations, vectors, nearest, places, n_atoms, point)
            if added:
                numbers[n_atoms : n_atoms + added] = species[n_sites % len(species)]
                n_atoms, n_sites = n_atoms + added, n_sites + 1
            if n_atoms >= wanted and n_sites >= len(species):
                break
        if n_atoms:
            break
        nearest *= 0.8
    extra = centrings(operations)
    return Crystal(vectors, places[:n_atoms].copy(), numbers[:n_atoms].copy(), extra, name)


def _random_net(plane: str, rng: np.random.Generator) -> np.ndarray:
    """Lattice vectors [Å] that a plane group allows, with a third one across."""
    a, b = log_uniform(LENGTHS[0], 0.6 * LENGTHS[1], 2, rng)
    if plane[1] in "36":
        lengths, gamma = (a, a), 120.0
    elif plane[1] == "4":
        lengths, gamma = (a, a), 90.0
    else:
        lengths, gamma = (a, b), float(rng.uniform(60.0, 90.0)) if plane in ("p1", "p2") else 90.0
    return cell_vectors(np.array([*lengths, _LAYER]), np.array([90.0, 90.0, gamma]))


@numba.njit(cache=True)
def _gap(difference: np.ndarray, vectors: np.ndarray) -> float:
    """Smallest distance [Å] among the images of a fractional difference, but for a distance of 0."""
    nearest = np.inf
    base = difference - np.round(difference)
    for i in range(-1, 2):
        for j in range(-1, 2):
            for k in range(-1, 2):
                u, v, w = base[0] + i, base[1] + j, base[2] + k
                square = 0.0
                for axis in range(3):
                    square += (u * vectors[0, axis] + v * vectors[1, axis] + w * vectors[2, axis]) ** 2
                if square > 1e-10:
                    nearest = min(nearest, square)
    result: float = np.sqrt(nearest)
    return result


@numba.njit(cache=True)
def _is_copy(difference: np.ndarray) -> bool:
    largest = 0.0
    for axis in range(3):
        largest = max(largest, abs(difference[axis] - np.round(difference[axis])))
    return largest <= 1e-6


@numba.njit(cache=True)
def _image(rotation: np.ndarray, translation: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Where a symmetry operation puts a point."""
    image = np.zeros(3)
    for row in range(3):
        image[row] = translation[row]
        for column in range(3):
            image[row] += rotation[row, column] * point[column]
    return image


@numba.njit(cache=True)
def _snapped(
    rotations: np.ndarray, translations: np.ndarray, vectors: np.ndarray, nearest: float, point: np.ndarray
) -> np.ndarray:
    """The point moved onto the symmetry elements that its images are too near for."""
    for _ in range(12):
        moved, n_near, furthest = np.zeros(3), 0, 0.0
        for g in range(len(rotations)):
            image = _image(rotations[g], translations[g], point)
            step = image - point
            step -= np.round(step)
            distance = 0.0
            for axis in range(3):
                distance += (step[0] * vectors[0, axis] + step[1] * vectors[1, axis] + step[2] * vectors[2, axis]) ** 2
            if distance < nearest * nearest:
                moved += step
                n_near += 1
                furthest = max(furthest, distance)
        point = point + moved / n_near
        if furthest < 1e-20:
            break
    return point


@numba.njit(cache=True)
def _place(
    rotations: np.ndarray,
    translations: np.ndarray,
    vectors: np.ndarray,
    nearest: float,
    places: np.ndarray,
    n_atoms: int,
    point: np.ndarray,
) -> int:
    """Add the orbit of a point behind ``n_atoms`` places; returns how many atoms were added, 0 if they do not fit."""
    point = _snapped(rotations, translations, vectors, nearest, point)
    if _gap(np.zeros(3), vectors) < nearest:
        return 0
    # The places so far are symmetric, so the distances of one atom of the orbit are those of all.
    for k in range(n_atoms):
        if _is_copy(places[k] - point) or _gap(places[k] - point, vectors) < nearest:
            return 0
    added = 0
    for g in range(len(rotations)):
        image = _image(rotations[g], translations[g], point)
        is_new = True
        for k in range(n_atoms, n_atoms + added):
            if _is_copy(places[k] - image):
                is_new = False
                break
        if not is_new:
            continue
        if n_atoms + added >= len(places) or (not _is_copy(image - point) and _gap(image - point, vectors) < nearest):
            return 0
        places[n_atoms + added] = image - np.floor(image + 1e-9)
        added += 1
    return added


@cache
def _completions(zone: tuple[int, int, int]) -> np.ndarray:
    """Pairs of small integer vectors that make a cell of the lattice together with a zone axis, shape (n, 2, 3)."""
    small = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    first, second = np.repeat(small, len(small), axis=0), np.tile(small, (len(small), 1))
    determinants = np.cross(first, second) @ np.array(zone)
    result: np.ndarray = np.stack([first, second], axis=1)[np.abs(determinants) == 1]
    return result


def zone_cell(crystal: Crystal, zone: tuple[int, int, int]) -> Crystal:
    """The crystal with a cell whose third vector is a zone axis and whose others are short across it.

    Args:
        crystal: The crystal.
        zone: Indices [uvw] without a common divisor.

    Returns:
        The same atoms in another cell of the same volume.

    Example:
        >>> np.round(zone_cell(material("Au"), (1, 1, 0)).vectors[2], 3).tolist()
        [4.078, 4.078, 0.0]
    """
    pairs = _completions(zone)
    axis = np.array(zone) @ crystal.vectors
    across = pairs @ crystal.vectors
    along = across @ axis / (axis @ axis)
    shorts = (across**2).sum(axis=2) - along**2 * (axis @ axis)
    best = int(np.argmin(np.round(shorts.sum(axis=1), 6)))
    # Of the columns' own length nothing is lost by stepping back along the axis.
    matrix = np.concatenate([pairs[best] - np.rint(along[best])[:, None].astype(np.int64) * np.array(zone), [zone]])
    inverse = np.linalg.inv(matrix)
    return crystal._replace(
        vectors=matrix @ crystal.vectors, positions=crystal.positions @ inverse, centrings=crystal.centrings @ inverse
    )


def rotated(crystal: Crystal, axes: np.ndarray) -> Crystal:
    """The crystal in another frame.

    Args:
        crystal: The crystal.
        axes: Axes of the new frame as rows, orthonormal, in the old one, shape (3, 3).

    Example:
        >>> turned = rotated(material("Au"), np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
        >>> turned.vectors[0].tolist()
        [0.0, -4.078, 0.0]
    """
    return crystal._replace(vectors=crystal.vectors @ axes.T)


def frame(beam: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Axes of the frame (row, column, height) with the height along one vector and the rows near another.

    Args:
        beam: Direction that becomes +height, shape (3,).
        rows: Direction whose part across the beam becomes +row, shape (3,), not along the beam.

    Returns:
        Orthonormal axes as rows, right-handed, shape (3, 3).

    Example:
        >>> frame(np.array([0.0, 0.0, 2.0]), np.array([1.0, 0.0, 5.0])).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    up = beam / np.linalg.norm(beam)
    along = rows - (rows @ up) * up
    along = along / np.linalg.norm(along)
    return np.stack([along, np.cross(up, along), up])


def oriented(
    crystal: Crystal, zone: tuple[int, int, int], turn: float, tilt: tuple[float, float] = (0.0, 0.0)
) -> Crystal:
    """The crystal in the frame of the microscope, seen along a zone axis.

    Args:
        crystal: The crystal.
        zone: Indices [uvw].
        turn: Rotation about the beam [rad].
        tilt: Mistilt about the row and the column axis [rad].

    Returns:
        The crystal with vectors as (row, column, height); the third is the zone axis.

    Example:
        >>> np.round(oriented(material("Au"), (0, 0, 1), 0.3).vectors[2], 3).tolist()
        [0.0, 0.0, 4.078]
    """
    cell = zone_cell(crystal, zone)
    axes = frame(cell.vectors[2], cell.vectors[0])
    return rotated(cell, axes_of(turn, tilt) @ axes)


def axes_of(turn: float, tilt: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Rotation about the height, then about the row and the column axis, shape (3, 3).

    Example:
        >>> np.round(axes_of(np.pi / 2) @ np.array([1.0, 0.0, 0.0]), 9).tolist()
        [0.0, 1.0, 0.0]
    """
    (c, s), (cr, sr), (cc, sc) = ((np.cos(angle), np.sin(angle)) for angle in (turn, *tilt))
    about_height = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    about_row = np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
    about_column = np.array([[cc, 0.0, sc], [0.0, 1.0, 0.0], [-sc, 0.0, cc]])
    result: np.ndarray = about_column @ about_row @ about_height
    return result


@numba.njit(cache=True)
def _walk(
    vectors: np.ndarray,
    offsets: np.ndarray,
    ranges: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    positions: np.ndarray,
    members: np.ndarray,
) -> int:
    """Count the atoms in a box, and write as many as there is room for; columns come one after another."""
    n_atoms, room = 0, len(positions)
    for i in range(ranges[0, 0], ranges[0, 1] + 1):
        for j in range(ranges[1, 0], ranges[1, 1] + 1):
            for m in range(len(offsets)):
                first, last = -np.inf, np.inf
                for axis in range(3):
                    base = offsets[m, axis] + i * vectors[0, axis] + j * vectors[1, axis]
                    step = vectors[2, axis]
                    if abs(step) < 1e-9:
                        if base < low[axis] or base > high[axis]:
                            last = -np.inf
                    else:
                        one, other = (low[axis] - base) / step, (high[axis] - base) / step
                        first, last = max(first, min(one, other)), min(last, max(one, other))
                if last < first:
                    continue
                for k in range(int(np.ceil(first)), int(np.floor(last)) + 1):
                    if n_atoms < room:
                        for axis in range(3):
                            positions[n_atoms, axis] = (
                                offsets[m, axis] + i * vectors[0, axis] + j * vectors[1, axis] + k * vectors[2, axis]
                            )
                        members[n_atoms] = m
                    n_atoms += 1
    return n_atoms


def fill(crystal: Crystal, origin: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All atoms of a crystal in a box.

    Args:
        crystal: The crystal, oriented.
        origin: Place of a corner of its cell [Å], shape (3,).
        low: Lowest (row, column, height) of the box [Å], shape (3,).
        high: Highest, shape (3,).

    Returns:
        Positions (row, column, height) [Å], float64, shape (n_atoms, 3), columns one after another, and atomic numbers,
        int64, shape (n_atoms,).

    Example:
        >>> positions, numbers = fill(material("Au"), np.zeros(3), np.full(3, -0.1), np.full(3, 4.0))
        >>> len(positions), set(numbers.tolist())
        (4, {79})
    """
    corners = np.array(list(itertools.product(*zip(low, high, strict=True)))) - origin
    cells = corners @ np.linalg.inv(crystal.vectors)
    motif = crystal.positions
    lowest = np.floor(cells.min(axis=0) - motif.max(axis=0)).astype(np.int64)
    highest = np.ceil(cells.max(axis=0) - motif.min(axis=0)).astype(np.int64)
    ranges = np.stack([lowest, highest], axis=1)[:2]
    offsets = motif @ crystal.vectors + origin
    box = (np.asarray(low, np.float64), np.asarray(high, np.float64))
    n_atoms = _walk(crystal.vectors, offsets, ranges, *box, np.empty((0, 3)), np.empty(0, np.int64))
    positions, members = np.empty((n_atoms, 3)), np.empty(n_atoms, np.int64)
    _walk(crystal.vectors, offsets, ranges, *box, positions, members)
    return positions, crystal.numbers[members]


def density(crystal: Crystal) -> float:
    """Atoms per volume [1/Å^3].

    Example:
        >>> round(density(material("Au")), 4)
        0.059
    """
    return len(crystal.numbers) / abs(float(np.linalg.det(crystal.vectors)))


def random_plane_group(rng: np.random.Generator) -> str:
    """The name of one of the 17 plane groups.

    Example:
        >>> random_plane_group(np.random.default_rng(0)) in PLANE_GROUPS
        True
    """
    return list(PLANE_GROUPS)[rng.integers(len(PLANE_GROUPS))]


def random_zone(rng: np.random.Generator, *, n_zones: int = len(ZONES)) -> tuple[int, int, int]:
    """One of the first main zone axes, with its indices in random order.

    Args:
        rng: Source of randomness.
        n_zones: How many of ``ZONES`` to draw from.

    Example:
        >>> sum(random_zone(np.random.default_rng(0), n_zones=1))
        1
    """
    u, v, w = rng.permutation(ZONES[rng.integers(n_zones)])
    return int(u), int(v), int(w)


def shortest_translation(crystal: Crystal, *, least: float = 1.0) -> np.ndarray:
    """The shortest translation of a crystal with a part across the beam; of equals the one that is least along it.

    Args:
        crystal: The crystal, oriented.
        least: Length across the beam below which a translation does not count [Å].

    Returns:
        The vector (row, column, height) [Å], shape (3,).

    Example:
        >>> step = shortest_translation(oriented(material("Au"), (0, 0, 1), 0.0))
        >>> round(float(np.hypot(step[0], step[1])), 3)
        2.884
    """
    cells = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)))
    shifts = np.concatenate([np.zeros((1, 3)), crystal.centrings])
    steps = (shifts[:, None] + cells).reshape(-1, 3) @ crystal.vectors
    lengths = np.linalg.norm(steps, axis=1)
    lengths[np.hypot(steps[:, 0], steps[:, 1]) < least] = np.inf
    result: np.ndarray = steps[np.argmin(np.round(lengths, 6) + 1e-6 * np.abs(steps[:, 2]))]
    return result
