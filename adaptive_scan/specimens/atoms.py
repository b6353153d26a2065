"""What one atom adds to a picture: the radial model of Lobato et al. 2023, equations 16 to 22.

I. Lobato, T. Friedrich, S. Van Aert, *Deep convolutional neural networks to restore single-shot electron microscopy
images*, arXiv:2303.17025; the numbers of equations are theirs.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike

from adaptive_scan.specimens.elements import HEAVIEST, POTENTIAL_RADII

EXPONENTS = (4.0, 16.0)
"""Range of the Butterworth exponent n."""
RADIUS_POWERS = (0.75, 1.25)
"""Range of the power alpha of equation 18."""
COEFFICIENTS = (0.5, 1.0)
"""Range of h1, h2 and h3 before the atoms are scaled to their order."""
CONTRAST_POWERS = (1.0, 2.0)
"""Range of the power gamma of the atomic number that intensities follow."""

_FAINTEST = 2e-3  # an atom is cut where it has fallen to this share of its peak
_N_TABLE = 1024
_SAME_PLACE = 1e-3  # atoms of one kind that lie this near to each other [px] are drawn as one


class AtomModel(NamedTuple):
    """Radial functions of K species, equation 17.

    ``f(r) = h1 exp(-r^2 / (2 m^2)) + h2 exp(-r / m) + h3 / (1 + (r / m)^(2 n))``.

    Attributes:
        numbers: Atomic numbers, ascending, int64, shape (K,).
        radii: Radii m [Å], float64, shape (K,).
        heights: Coefficients h1, h2, h3, float64, shape (K, 3).
        exponents: Exponents n, float64, shape (K,).
    """

    numbers: np.ndarray
    radii: np.ndarray
    heights: np.ndarray
    exponents: np.ndarray


def atomic_radii(power: float) -> np.ndarray:
    """Radii of all elements from those of their projected potentials, equations 18 to 21.

    ``m_Z = a r_Z^alpha + b`` with ``a = Std(r) / Std(r^alpha)`` and ``b = E(r) - a E(r^alpha)`` over the elements:
    their mean and their spread stay, only the differences between them shift.

    Args:
        power: The power alpha, positive.

    Returns:
        Radii [Å] at the index Z, float64, shape (104,); NaN at 0.

    Example:
        >>> bool(np.allclose(atomic_radii(1.0)[1:], POTENTIAL_RADII[1:]))
        True
    """
    plain = POTENTIAL_RADII[1:]
    powered = plain**power
    slope = plain.std() / powered.std()
    radii = np.full(HEAVIEST + 1, np.nan)
    radii[1:] = slope * powered + plain.mean() - slope * powered.mean()
    return radii


def line_integrals(model: AtomModel) -> np.ndarray:
    """Integrals of f over r from 0 to infinity, which equation 22 orders by atomic number.

    ``m (h1 sqrt(pi / 2) + h2 + h3 (pi / (2 n)) / sin(pi / (2 n)))``.

    Args:
        model: Radial functions of K species.

    Returns:
        Integrals [Å], float64, shape (K,).

    Example:
        >>> one = AtomModel(np.array([6]), np.ones(1), np.array([[0.0, 1.0, 0.0]]), np.array([4.0]))
        >>> line_integrals(one).tolist()
        [1.0]
    """
    angle = np.pi / (2.0 * model.exponents)
    shares = np.stack([np.full_like(angle, np.sqrt(np.pi / 2.0)), np.ones_like(angle), angle / np.sin(angle)], axis=1)
    result: np.ndarray = model.radii * (model.heights * shares).sum(axis=1)
    return result


def random_atom_model(
    numbers: ArrayLike, rng: np.random.Generator, *, sharpness: float = 1.0, contrast_power: float | None = None
) -> AtomModel:
    """Radial functions of the species of a specimen, with the constraints 18 to 22.

    The coefficients h are uniform in [0.5, 1] and say what the atom looks like. Within that range alone most sets of
    species could not keep the order of equation 22, so each atom is then scaled as a whole: its line integral is
    proportional to ``Z^gamma`` with one gamma in [1, 2] for the specimen, the law that the paper gives as its reason.
    The brightest species keeps its coefficients.

    Args:
        numbers: Atomic numbers, 1 to 103; repeated ones count once.
        rng: Source of randomness.
        sharpness: Factor on all radii: 1 as in the paper, smaller for a finer probe.
        contrast_power: The power gamma; drawn by default.

    Returns:
        Functions of the distinct species, in the order of their atomic numbers.

    Example:
        >>> model = random_atom_model([79, 6, 79], np.random.default_rng(0))
        >>> model.numbers.tolist(), bool(np.all(np.diff(line_integrals(model)) > 0))
        ([6, 79], True)
    """
    species = np.unique(np.asarray(numbers, dtype=np.int64))
    n_species = len(species)
    radii = sharpness * atomic_radii(rng.uniform(*RADIUS_POWERS))[species]
    heights = rng.uniform(*COEFFICIENTS, (n_species, 3))
    model = AtomModel(species, radii, heights, np.full(n_species, rng.uniform(*EXPONENTS)))
    gamma = rng.uniform(*CONTRAST_POWERS) if contrast_power is None else contrast_power
    integrals = line_integrals(model)
    shares = (species / species[-1]) ** gamma * integrals[-1] / integrals
    return model._replace(heights=heights * shares[:, None])


def profile(model: AtomModel, species: int, distances: ArrayLike) -> np.ndarray:
    """The radial function f of one species, equation 17, not cut.

    Args:
        model: Radial functions of K species.
        species: Which one, 0 to K - 1.
        distances: Distances r [Å], any shape.

    Returns:
        Values of f, float64, same shape.

    Example:
        >>> one = AtomModel(np.array([6]), np.ones(1), np.array([[1.0, 1.0, 1.0]]), np.array([4.0]))
        >>> float(profile(one, 0, 0.0))
        3.0
    """
    x = np.asarray(distances, dtype=np.float64) / model.radii[species]
    h1, h2, h3 = model.heights[species]
    # Beyond a few radii the power overflows to infinity, and its share is the 0 that it should be.
    with np.errstate(over="ignore"):
        result: np.ndarray = (
            h1 * np.exp(-0.5 * x**2) + h2 * np.exp(-x) + h3 / (1.0 + x ** (2.0 * model.exponents[species]))
        )
        return result


def reaches(model: AtomModel) -> np.ndarray:
    """Distances at which atoms are cut: where the tail ``h2 exp(-r / m)`` has fallen to 0.2 % of the peak.

    Args:
        model: Radial functions of K species.

    Returns:
        Distances [Å], float64, shape (K,); never below 3.2 m, where the other terms have gone.

    Example:
        >>> one = AtomModel(np.array([6]), np.ones(1), np.array([[1.0, 1.0, 1.0]]), np.array([4.0]))
        >>> round(float(reaches(one)[0]), 2)
        5.12
    """
    shares = model.heights[:, 1] / (_FAINTEST * model.heights.sum(axis=1))
    result: np.ndarray = model.radii * np.maximum(np.log(np.maximum(shares, 1.0)), 3.2)
    return result


@numba.njit(cache=True, fastmath=True)
def _add_disc(picture: np.ndarray, row: float, column: float, reach: float, weight: float, table: np.ndarray) -> None:
    height, width = picture.shape
    per_step = np.float32((len(table) - 2) / reach)
    factor = np.float32(weight)
    for r in range(max(0, int(np.ceil(row - reach))), min(height - 1, int(np.floor(row + reach))) + 1):
        down = (r - row) ** 2
        half = np.sqrt(max(reach * reach - down, 0.0))
        left, right = max(0, int(np.ceil(column - half))), min(width - 1, int(np.floor(column + half)))
        down32, column32 = np.float32(down), np.float32(column)
        for c in range(left, right + 1):
            across = np.float32(c) - column32
            place = np.sqrt(down32 + across * across) * per_step
            node = np.int32(place)
            share = place - np.float32(node)
            low = table[node]
            picture[r, c] += factor * (low + share * (table[node + 1] - low))


@numba.njit(cache=True)
def _add_atoms(
    picture: np.ndarray, positions: np.ndarray, species: np.ndarray, scale: float, reach: np.ndarray, tables: np.ndarray
) -> None:
    n_atoms, k = len(positions), 0
    while k < n_atoms:
        row, column, kind, weight = positions[k, 0] * scale, positions[k, 1] * scale, species[k], 1.0
        k += 1
        # Atoms of one column follow each other, and one disc of their weight is what they add.
        while (
            k < n_atoms
            and species[k] == kind
            and abs(positions[k, 0] * scale - row) < _SAME_PLACE
            and abs(positions[k, 1] * scale - column) < _SAME_PLACE
        ):
            weight += 1.0
            k += 1
        _add_disc(picture, row, column, reach[kind] * scale, weight, tables[kind])


def add_atoms(
    picture: np.ndarray, positions: np.ndarray, numbers: np.ndarray, model: AtomModel, pixel_size: float
) -> None:
    """Add atoms to a picture, in place: ``y(p) = sum_i f_Z(i)(|p - r_i|)``, equation 16.

    Args:
        picture: What is added to, float32, shape (S, S); pixel (i, j) has its centre at (i, j) times the pixel size.
        positions: Atoms as (row, column) or (row, column, height) [Å], shape (n_atoms, 2 or 3).
        numbers: Their atomic numbers, each among ``model.numbers``, shape (n_atoms,).
        model: Radial functions.
        pixel_size: Side of a pixel [Å].

    Example:
        >>> one = AtomModel(np.array([6]), np.ones(1), np.array([[1.0, 0.0, 0.0]]), np.array([4.0]))
        >>> picture = np.zeros((8, 8), np.float32)
        >>> add_atoms(picture, np.array([[2.0, 2.0]]), np.array([6]), one, 0.5)
        >>> float(picture[4, 4]), round(float(picture[4, 6]), 3) == round(float(np.exp(-0.5)), 3)
        (1.0, True)
    """
    reach = reaches(model)
    distances = reach[:, None] * np.linspace(0.0, 1.0, _N_TABLE - 1)
    tables = np.zeros((len(reach), _N_TABLE), np.float32)
    for kind in range(len(reach)):
        tables[kind, :-1] = profile(model, kind, distances[kind])
    tables[:, -1] = tables[:, -2]
    species = np.searchsorted(model.numbers, numbers)
    _add_atoms(picture, positions, species, 1.0 / pixel_size, reach, tables)
