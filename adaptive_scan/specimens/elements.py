"""What is tabulated of the elements 1 to 103: names, masses and radii.

- Masses: standard atomic weights (IUPAC; the interval elements by their conventional value, elements without stable
  isotopes by their longest-lived one).
- Radii of the projected potential: the two-dimensional root-mean-square radius of equation 21 of Lobato et al. 2023
  (single-shot restoration), in closed form from the parameterisation of electron scattering factors by Lobato and
  Van Dyck 2014, doi:10.1107/S205327331401643X. With ``f(g) = sum_i a_i (2 + b_i g^2) / (1 + b_i g^2)^2`` and the
  projected potential its two-dimensional transform, ``r^2 = 3 sum_i a_i b_i / (2 pi^2 sum_i a_i)``.
- Covalent radii: Cordero et al. 2008, doi:10.1039/b801115j, table 2 (carbon sp3; Mn, Fe and Co at low spin), given
  up to curium; the seven elements behind it take curium's.
"""

from __future__ import annotations

import numpy as np

from adaptive_scan.errors import SettingError

HEAVIEST = 103
"""Largest atomic number in the tables."""

# fmt: off
SYMBOLS: tuple[str, ...] = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K", "Ca",
    "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y",
    "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce",
    "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir",
    "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm",
    "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr",
)
# fmt: on
"""Symbol of element Z at Z - 1."""

# fmt: off
_MASSES = (
    1.008, 4.0026, 6.94, 9.0122, 10.81, 12.011, 14.007, 15.999, 18.998, 20.18, 22.99, 24.305, 26.982, 28.085,
    30.974, 32.06, 35.45, 39.948, 39.098, 40.078, 44.956, 47.867, 50.941, 51.996, 54.938, 55.845, 58.933, 58.693,
    63.546, 65.38, 69.723, 72.63, 74.922, 78.971, 79.904, 83.798, 85.468, 87.62, 88.906, 91.224, 92.906, 95.95,
    97.907, 101.07, 102.91, 106.42, 107.87, 112.41, 114.82, 118.71, 121.76, 127.6, 126.9, 131.29, 132.91, 137.33,
    138.91, 140.12, 140.91, 144.24, 144.91, 150.36, 151.96, 157.25, 158.93, 162.5, 164.93, 167.26, 168.93, 173.05,
    174.97, 178.49, 180.95, 183.84, 186.21, 190.23, 192.22, 195.08, 196.97, 200.59, 204.38, 207.2, 208.98, 208.98,
    209.99, 222.02, 223.02, 226.03, 227.03, 232.04, 231.04, 238.03, 237.05, 244.06, 243.06, 247.07, 247.07, 251.08,
    252.08, 257.1, 258.1, 259.1, 262.11,
)
_POTENTIAL_RADII = (
    0.6481, 0.4288, 1.3044, 0.9337, 0.7696, 0.6614, 0.5731, 0.5058, 0.4490, 0.4023, 1.2532, 1.0233, 0.9842, 0.8692,
    0.7678, 0.6859, 0.6144, 0.5556, 1.3615, 1.1754, 1.0893, 1.0248, 0.9722, 0.9889, 0.8886, 0.8537, 0.8246, 0.7979,
    0.7766, 0.7629, 0.8514, 0.8043, 0.7422, 0.6849, 0.6300, 0.5834, 1.3808, 1.2352, 1.1170, 1.0337, 1.0025, 0.9663,
    0.9308, 0.8974, 0.8643, 0.5707, 0.7463, 0.7351, 0.8314, 0.8171, 0.7741, 0.7276, 0.6799, 0.6385, 1.3878, 1.2778,
    1.1633, 1.2270, 1.2071, 1.1890, 1.1718, 1.1594, 1.1412, 1.0510, 1.1101, 1.0959, 1.0848, 1.0726, 1.0630, 1.0573,
    0.9752, 0.9058, 0.8503, 0.8047, 0.7658, 0.7322, 0.6349, 0.6956, 0.6229, 0.6363, 0.7371, 0.7819, 0.7675, 0.7317,
    0.6902, 0.6556, 1.2475, 1.1895, 1.0879, 1.0054, 1.0338, 1.0145, 0.9974, 1.0191, 1.0021, 0.9457, 0.9341, 0.9563,
    0.9413, 0.9313, 0.9166, 0.9098, 0.8724,
)
_COVALENT_RADII = (
    0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58, 1.66, 1.41, 1.21, 1.11, 1.07, 1.05, 1.02, 1.06,
    2.03, 1.76, 1.70, 1.60, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22, 1.22, 1.20, 1.19, 1.20, 1.20, 1.16,
    2.20, 1.95, 1.90, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44, 1.42, 1.39, 1.39, 1.38, 1.39, 1.40,
    2.44, 2.15, 2.07, 2.04, 2.03, 2.01, 1.99, 1.98, 1.98, 1.96, 1.94, 1.92, 1.92, 1.89, 1.90, 1.87, 1.87, 1.75,
    1.70, 1.62, 1.51, 1.44, 1.41, 1.36, 1.36, 1.32, 1.45, 1.46, 1.48, 1.40, 1.50, 1.50, 2.60, 2.21, 2.15, 2.06,
    2.00, 1.96, 1.90, 1.87, 1.80, 1.69,
)
# fmt: on


def _by_number(values: tuple[float, ...]) -> np.ndarray:
    """Values at the index Z, up to ``HEAVIEST``; the last one stands for elements without."""
    table = np.full(HEAVIEST + 1, values[-1])
    table[1 : len(values) + 1] = values
    table[0] = np.nan
    table.setflags(write=False)
    return table


MASSES = _by_number(_MASSES)
"""Atomic mass [u] at the index Z; NaN at 0."""

POTENTIAL_RADII = _by_number(_POTENTIAL_RADII)
"""Root-mean-square radius of the projected potential [Å] at the index Z; NaN at 0."""

COVALENT_RADII = _by_number(_COVALENT_RADII)
"""Covalent radius [Å] at the index Z; NaN at 0."""


def number_of(symbol: str) -> int:
    """Atomic number of an element.

    Args:
        symbol: Its symbol, such as ``"Au"``.

    Returns:
        Z, 1 to 103.

    Raises:
        ValueError: If there is no such element.

    Example:
        >>> number_of("Au"), SYMBOLS[number_of("Au") - 1]
        (79, 'Au')
    """
    if symbol not in SYMBOLS:
        raise SettingError(f"symbol: got {symbol!r}; expected one of the elements H to Lr")
    return SYMBOLS.index(symbol) + 1
