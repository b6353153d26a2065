"""Symmetry operations of the 17 plane groups and the 230 space groups, from their generators.

An operation maps fractional coordinates ``x`` to ``W x + w`` (modulo lattice translations). Space groups are generated
from their Hall symbols, plane groups from coordinate triplets that leave the third coordinate alone.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from adaptive_scan.errors import SettingError
from adaptive_scan.specimens.space_groups import HALL_SYMBOLS

_TWELFTHS = 12  # all translations of all groups are multiples of 1/12 of a cell


class Operations(NamedTuple):
    """The G operations of a group, the identity first.

    Attributes:
        rotations: Matrices W on fractional coordinates, int64, shape (G, 3, 3).
        translations: Vectors w in units of the cell, float64, in [0, 1), shape (G, 3).
    """

    rotations: np.ndarray
    translations: np.ndarray


PLANE_GROUPS: dict[str, tuple[str, ...]] = {
    "p1": (),
    "p2": ("-x,-y",),
    "pm": ("-x,y",),
    "pg": ("-x,y+1/2",),
    "cm": ("x+1/2,y+1/2", "-x,y"),
    "p2mm": ("-x,-y", "-x,y"),
    "p2mg": ("-x,-y", "-x+1/2,y"),
    "p2gg": ("-x,-y", "-x+1/2,y+1/2"),
    "c2mm": ("x+1/2,y+1/2", "-x,-y", "-x,y"),
    "p4": ("-y,x",),
    "p4mm": ("-y,x", "-x,y"),
    "p4gm": ("-y,x", "-x+1/2,y+1/2"),
    "p3": ("-y,x-y",),
    "p3m1": ("-y,x-y", "-y,-x"),
    "p31m": ("-y,x-y", "y,x"),
    "p6": ("x-y,x",),
    "p6mm": ("x-y,x", "y,x"),
}
"""Generators of the 17 plane groups (International Tables A, part 2), besides the lattice translations."""

_CENTRINGS = {
    "P": (),
    "A": ((0, 6, 6),),
    "B": ((6, 0, 6),),
    "C": ((6, 6, 0),),
    "I": ((6, 6, 6),),
    "R": ((8, 4, 4), (4, 8, 8)),
    "F": ((0, 6, 6), (6, 0, 6), (6, 6, 0)),
}
_SHIFTS = {
    "a": (6, 0, 0),
    "b": (0, 6, 0),
    "c": (0, 0, 6),
    "n": (6, 6, 6),
    "u": (3, 0, 0),
    "v": (0, 3, 0),
    "w": (0, 0, 3),
    "d": (3, 3, 3),
}
# Rotations about the third axis; those about the others follow by cyclic exchange of the axes.
_ABOUT_Z = {
    "1": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "2": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "3": ((0, -1, 0), (1, -1, 0), (0, 0, 1)),
    "4": ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    "6": ((1, -1, 0), (1, 0, 0), (0, 0, 1)),
}
_DIAGONAL = {
    "'": ((0, -1, 0), (-1, 0, 0), (0, 0, -1)),
    '"': ((0, 1, 0), (1, 0, 0), (0, 0, -1)),
}
_BODY_DIAGONAL = np.array(((0, 0, 1), (1, 0, 0), (0, 1, 0)))
_AXES = {"x": 0, "y": 1, "z": 2}


def _hall_generator(text: str, previous: tuple[str, int], position: int) -> tuple[np.ndarray, np.ndarray, str, int]:
    """Matrix, translation [1/12], order and axis of one symbol; ``previous`` is order and axis of the one before."""
    sign = -1 if text.startswith("-") else 1
    order, marks = text.lstrip("-")[0], text.lstrip("-")[1:]
    axis, diagonal = 2, ""
    if position == 1 and order == "2":
        axis, diagonal = (0, "") if previous[0] in "24" else (previous[1], "'")
    elif position == 2 and order == "3":
        diagonal = "*"
    elif position > 0:
        axis = previous[1]
    shift = np.zeros(3, dtype=np.int64)
    for mark in marks:
        if mark in _AXES:
            axis = _AXES[mark]
        elif mark in "'\"*":
            axis, diagonal = previous[1] if mark != "*" else axis, mark
        elif mark.isdigit():
            shift[axis] += _TWELFTHS * int(mark) // int(order)
        else:
            shift += _SHIFTS[mark]
    if diagonal == "*":
        matrix = _BODY_DIAGONAL
    else:
        matrix = np.array(_DIAGONAL[diagonal] if diagonal else _ABOUT_Z[order])
        matrix = np.roll(matrix, (axis + 1) % 3, axis=(0, 1))
    return sign * matrix, shift, order, axis


def _closure(generators: list[tuple[np.ndarray, np.ndarray]]) -> Operations:
    """All products of generators (translations in 1/12, modulo the lattice), the identity first."""

    def key(matrix: np.ndarray, shift: np.ndarray) -> bytes:
        return np.concatenate([matrix.ravel(), shift]).astype(np.int64).tobytes()

    identity = (np.eye(3, dtype=np.int64), np.zeros(3, dtype=np.int64))
    found = {key(*identity): identity}
    waiting = [identity]
    while waiting:
        matrix, shift = waiting.pop()
        for other, other_shift in generators:
            product = (other @ matrix, (other @ shift + other_shift) % _TWELFTHS)
            name = key(*product)
            if name not in found:
                found[name] = product
                waiting.append(product)
    rotations = np.array([matrix for matrix, _ in found.values()])
    return Operations(rotations, np.array([shift for _, shift in found.values()]) / _TWELFTHS)


def hall_operations(symbol: str) -> Operations:
    """All operations of a space group, centring translations among them.

    Args:
        symbol: Hall symbol, such as ``"-F 4 2 3"``; behind it may stand a shift of the origin ``v`` in twelfths, as in
            ``"P 31 2 (0 0 4)"``, which makes each translation ``w + v - W v``.

    Returns:
        The group, modulo lattice translations.

    Example:
        >>> len(hall_operations("-F 4 2 3").rotations)
        192
    """
    symbol, _, origin = symbol.rstrip(")").partition(" (")
    origin_shift = np.array([int(part) for part in origin.split()] or [0, 0, 0])
    lattice, *texts = symbol.split()
    identity = np.eye(3, dtype=np.int64)
    generators = [(identity, np.array(shift)) for shift in _CENTRINGS[lattice[-1]]]
    if lattice.startswith("-"):
        generators.append((-identity, 2 * origin_shift))
    previous = ("1", 2)
    for position, text in enumerate(texts):
        matrix, shift, order, axis = _hall_generator(text, previous, position)
        previous = (order, axis)
        generators.append((matrix, shift + origin_shift - matrix @ origin_shift))
    return _closure(generators)


@cache
def space_group(number: int) -> Operations:
    """Operations of a space group, in the setting of :data:`~adaptive_scan.specimens.space_groups.HALL_SYMBOLS`.

    Args:
        number: Its number, 1 to 230.

    Returns:
        The group; shared, not to be changed.

    Raises:
        ValueError: If there is no such group.

    Example:
        >>> len(space_group(221).rotations)
        48
    """
    if not 1 <= number <= len(HALL_SYMBOLS):
        raise SettingError(f"number: got {number}; expected a space group from 1 to {len(HALL_SYMBOLS)}")
    return _read_only(hall_operations(HALL_SYMBOLS[number - 1]))


def _triplet(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and translation [1/12] of a triplet of plane coordinates, such as ``-y,x-y+1/2``."""
    matrix, shift = np.zeros((3, 3), dtype=np.int64), np.zeros(3, dtype=np.int64)
    matrix[2, 2] = 1
    for row, part in enumerate(text.split(",")):
        if part.endswith("+1/2"):
            shift[row], part = 6, part.removesuffix("+1/2")
        for column, name in enumerate("xy"):
            place = part.find(name)
            if place >= 0:
                matrix[row, column] = -1 if place > 0 and part[place - 1] == "-" else 1
    return matrix, shift


@cache
def plane_group(name: str) -> Operations:
    """Operations of a plane group; they leave the third coordinate alone.

    Args:
        name: One of ``PLANE_GROUPS``.

    Returns:
        The group; shared, not to be changed.

    Raises:
        ValueError: If there is no such group.

    Example:
        >>> len(plane_group("p6mm").rotations)
        12
    """
    if name not in PLANE_GROUPS:
        raise SettingError(f"name: got {name!r}; expected one of the plane groups {', '.join(PLANE_GROUPS)}")
    return _read_only(_closure([_triplet(text) for text in PLANE_GROUPS[name]]))


def _read_only(operations: Operations) -> Operations:
    for array in operations:
        array.setflags(write=False)
    return operations


def centrings(operations: Operations) -> np.ndarray:
    """Translations of a group that are no lattice vectors.

    Args:
        operations: The group.

    Returns:
        Fractional vectors, float64, shape (n, 3): none for a primitive cell.

    Example:
        >>> centrings(space_group(229)).tolist()
        [[0.5, 0.5, 0.5]]
    """
    pure = np.all(operations.rotations == np.eye(3, dtype=np.int64), axis=(1, 2))
    result: np.ndarray = operations.translations[pure & operations.translations.any(axis=1)]
    return result


def orbit(point: np.ndarray, operations: Operations, *, tolerance: float = 1e-6) -> np.ndarray:
    """All positions equivalent to one in a unit cell.

    Args:
        point: Fractional coordinates, shape (3,).
        operations: The group.
        tolerance: Fractional distance below which two positions are one.

    Returns:
        Distinct fractional coordinates in [0, 1), float64, shape (M, 3).

    Example:
        >>> orbit(np.array([0.0, 0.0, 0.0]), space_group(225)).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
    """
    images = operations.rotations @ point + operations.translations
    images = (images + tolerance) % 1.0 - tolerance
    keys = np.rint(images / tolerance).astype(np.int64)
    _, first = np.unique(keys // 4, axis=0, return_index=True)
    images = images[first]
    # Rounding may part two images of one position; the full comparison settles it.
    differences = images[:, None] - images
    differences -= np.rint(differences)
    is_copy = np.tril(np.abs(differences).max(axis=2) < 4 * tolerance, k=-1).any(axis=1)
    result: np.ndarray = np.maximum(images[~is_copy], 0.0)
    return result
