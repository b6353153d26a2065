"""Atoms without a lattice: random packings with a smallest distance."""

from __future__ import annotations

import numba
import numpy as np

from adaptive_scan.specimens.elements import MASSES

_AVOGADRO = 0.602214076  # (g/cm^3) / u in 1/Å^3
_DENSEST = 0.28  # share of the volume in spheres that random placing reaches quickly
_N_TRIES = 40


@numba.njit(cache=True)
def _pack(
    low: np.ndarray, sides: np.ndarray, nearest: float, positions: np.ndarray, n_tries: int, rng: np.random.Generator
) -> int:
    """Place atoms one after another where there is room; returns how many found it."""
    shape = np.empty(3, np.int64)
    for axis in range(3):
        shape[axis] = max(1, int(sides[axis] / nearest))
    first = np.full(shape[0] * shape[1] * shape[2], -1, np.int32)
    following = np.full(len(positions), -1, np.int32)
    place, cell = np.empty(3), np.empty(3, np.int64)
    n_atoms, left = 0, n_tries * len(positions)
    while n_atoms < len(positions) and left > 0:
        left -= 1
        for axis in range(3):
            share = rng.random()
            place[axis] = low[axis] + share * sides[axis]
            cell[axis] = min(int(share * shape[axis]), shape[axis] - 1)
        is_free = True
        for i in range(max(0, cell[0] - 1), min(shape[0], cell[0] + 2)):
            for j in range(max(0, cell[1] - 1), min(shape[1], cell[1] + 2)):
                for k in range(max(0, cell[2] - 1), min(shape[2], cell[2] + 2)):
                    other = first[(i * shape[1] + j) * shape[2] + k]
                    while other >= 0 and is_free:
                        square = 0.0
                        for axis in range(3):
                            square += (positions[other, axis] - place[axis]) ** 2
                        is_free = square >= nearest * nearest
                        other = following[other]
        if is_free:
            home = (cell[0] * shape[1] + cell[1]) * shape[2] + cell[2]
            positions[n_atoms] = place
            following[n_atoms] = first[home]
            first[home] = n_atoms
            n_atoms += 1
    return n_atoms


def random_packing(
    low: np.ndarray, high: np.ndarray, number_density: float, nearest: float, rng: np.random.Generator
) -> np.ndarray:
    """Random places in a box, none nearer to another than a smallest distance.

    Atoms are placed one after another (random sequential addition), which ends where a share of 0.28 of the volume
    would be in spheres of the smallest distance: a larger density is cut to that.

    Args:
        low: Lowest (row, column, height) of the box [Å], shape (3,).
        high: Highest, shape (3,).
        number_density: Atoms wanted per volume [1/Å^3].
        nearest: Smallest distance [Å].
        rng: Source of randomness.

    Returns:
        Positions [Å], float64, shape (n_atoms, 3).

    Example:
        >>> random_packing(np.zeros(3), np.full(3, 10.0), 0.05, 1.5, np.random.default_rng(0)).shape
        (50, 3)
    """
    sides = np.asarray(high, np.float64) - low
    most = _DENSEST * 6.0 / (np.pi * nearest**3)
    positions = np.empty((round(min(number_density, most) * float(np.prod(sides))), 3))
    n_atoms = _pack(np.asarray(low, np.float64), sides, nearest, positions, _N_TRIES, rng)
    return positions[:n_atoms]


def number_density(number: int, mass_density: float) -> float:
    """Atoms per volume of an element of given density [1/Å^3].

    Args:
        number: Atomic number.
        mass_density: Density [g/cm^3].

    Example:
        >>> round(number_density(6, 2.0), 3)
        0.1
    """
    return _AVOGADRO * mass_density / float(MASSES[number])
