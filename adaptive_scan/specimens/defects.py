"""Extended defects of crystals, as functions of positions in the frame (row, column, height) [Å].

The line of a dislocation and the planes of boundaries and faults run along the beam.
"""

from __future__ import annotations

import numpy as np

from adaptive_scan.specimens.crystals import Crystal

_SMALLEST = 1e-9


def signed_distances(positions: np.ndarray, point: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Distances from a plane, positive on the side that its normal points to.

    Args:
        positions: Shape (K, 3) [Å].
        point: A point of the plane, shape (3,) [Å].
        normal: Unit normal, shape (3,).

    Returns:
        Distances [Å], float64, shape (K,).

    Example:
        >>> signed_distances(np.array([[3.0, 0.0, 0.0]]), np.array([1.0, 9.0, 9.0]), np.array([1.0, 0.0, 0.0])).tolist()
        [2.0]
    """
    result: np.ndarray = (positions - point) @ normal
    return result


def faulted(positions: np.ndarray, point: np.ndarray, normal: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Positions with the half beyond a plane moved as a whole: a stacking fault or an antiphase boundary.

    Args:
        positions: Shape (K, 3) [Å].
        point: A point of the fault plane, shape (3,) [Å].
        normal: Its unit normal, towards the half that moves, shape (3,).
        shift: The fault vector [Å], shape (3,).

    Returns:
        New positions, shape (K, 3).

    Example:
        >>> row = np.array([1.0, 0.0, 0.0])
        >>> faulted(np.array([[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]), 2 * row, row, np.array([0.0, 0.5, 0.0])).tolist()
        [[1.0, 0.0, 0.0], [3.0, 0.5, 0.0]]
    """
    result: np.ndarray = positions + (signed_distances(positions, point, normal) > 0.0)[:, None] * shift
    return result


def dislocation_displacements(
    positions: np.ndarray, line: np.ndarray, burgers: np.ndarray, *, poisson: float = 0.3
) -> np.ndarray:
    """Displacements around a straight dislocation along the beam in an isotropic elastic medium.

    With x along the edge part ``b`` of the Burgers vector, y across it, and ``theta = atan2(y, x)``,
    ``u_x = b / (2 pi) [theta + x y / (2 (1 - nu) (x^2 + y^2))]``,
    ``u_y = -b / (2 pi) [(1 - 2 nu) / (4 (1 - nu)) ln((x^2 + y^2) / b^2) + (x^2 - y^2) / (4 (1 - nu) (x^2 + y^2))]``,
    and for the screw part ``b_z``, ``u_z = b_z theta / (2 pi)`` (Hirth & Lothe, *Theory of Dislocations*, 2nd edition,
    Wiley, 1982, equations 3-45, 3-46 and 3-1). The cut, where theta jumps, is the half-plane y = 0, x < 0.

    Args:
        positions: Shape (K, 3) [Å].
        line: The line's (row, column) [Å], shape (2,).
        burgers: Burgers vector (row, column, height) [Å], shape (3,), with a part across the beam.
        poisson: Poisson's ratio nu.

    Returns:
        Displacements [Å], float64, shape (K, 3).

    Example:
        >>> around = np.array([[-5.0, 1e-9, 0.0], [-5.0, -1e-9, 0.0]])
        >>> above, below = dislocation_displacements(around, np.zeros(2), np.array([2.0, 0.0, 0.0]))
        >>> np.round(above - below, 6).tolist()
        [2.0, 0.0, 0.0]
    """
    edge = float(np.hypot(burgers[0], burgers[1]))
    along = np.asarray(burgers[:2]) / edge
    across = np.array([-along[1], along[0]])
    x, y = ((positions[:, :2] - line) @ axis for axis in (along, across))
    square = np.maximum(x**2 + y**2, _SMALLEST)
    theta = np.arctan2(y, x) / (2.0 * np.pi)
    stiff = 1.0 / (1.0 - poisson)
    first = edge * (theta + 0.5 * stiff * x * y / square / (2.0 * np.pi))
    log_part = 0.25 * (1.0 - 2.0 * poisson) * stiff * np.log(square / edge**2)
    second = -edge / (2.0 * np.pi) * (log_part + 0.25 * stiff * (x**2 - y**2) / square)
    flat = first[:, None] * along + second[:, None] * across
    return np.concatenate([flat, burgers[2] * theta[:, None]], axis=1)


def mirrored(crystal: Crystal, origin: np.ndarray, point: np.ndarray, normal: np.ndarray) -> tuple[Crystal, np.ndarray]:
    """The mirror image of a crystal, which with the crystal itself makes a twin.

    Args:
        crystal: The crystal, oriented.
        origin: Place of a corner of its cell [Å], shape (3,).
        point: A point of the mirror plane [Å], shape (3,).
        normal: Its unit normal, shape (3,).

    Returns:
        The image of the crystal and the place of its corner.

    Example:
        >>> from adaptive_scan.specimens.crystals import material
        >>> _, corner = mirrored(material("Au"), np.ones(3), np.zeros(3), np.array([1.0, 0.0, 0.0]))
        >>> corner.tolist()
        [-1.0, 1.0, 1.0]
    """
    reflection = np.eye(3) - 2.0 * np.outer(normal, normal)
    return crystal._replace(vectors=crystal.vectors @ reflection), point + (origin - point) @ reflection
