"""Convex shapes that keep or remove atoms: half-spaces, wedges, polygonal rods and polyhedra.

Every shape is an intersection of half-spaces, so one test says which atoms lie in it and one formula how thick it is
along the beam.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from adaptive_scan.errors import SettingError


class HalfSpaces(NamedTuple):
    """The points ``x`` with ``n_m . x <= d_m`` for all m.

    Attributes:
        normals: Outward unit normals (row, column, height), float64, shape (M, 3).
        offsets: Distances d of the planes from the origin [Å], float64, shape (M,).
    """

    normals: np.ndarray
    offsets: np.ndarray


@numba.njit(cache=True)
def _inside(positions: np.ndarray, normals: np.ndarray, offsets: np.ndarray, found: np.ndarray) -> None:
    for k in range(len(positions)):
        found[k] = True
        for m in range(len(offsets)):
            along = normals[m, 0] * positions[k, 0] + normals[m, 1] * positions[k, 1] + normals[m, 2] * positions[k, 2]
            if along > offsets[m]:
                found[k] = False
                break


def inside(positions: np.ndarray, shape: HalfSpaces) -> np.ndarray:
    """Which positions lie in a shape.

    Args:
        positions: (row, column, height) [Å], shape (K, 3).
        shape: The shape.

    Returns:
        Bool, shape (K,); the surface belongs to the shape.

    Example:
        >>> half = HalfSpaces(np.array([[1.0, 0.0, 0.0]]), np.array([2.0]))
        >>> inside(np.array([[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]), half).tolist()
        [True, False]
    """
    found = np.empty(len(positions), np.bool_)
    _inside(positions, shape.normals, shape.offsets, found)
    return found


@numba.njit(cache=True)
def _thickness(
    normals: np.ndarray, offsets: np.ndarray, pixel_size: float, low: float, high: float, lengths: np.ndarray
) -> None:
    for r in range(lengths.shape[0]):
        for c in range(lengths.shape[1]):
            bottom, top = low, high
            for m in range(len(offsets)):
                left = offsets[m] - (normals[m, 0] * r + normals[m, 1] * c) * pixel_size
                up = normals[m, 2]
                if up > 1e-9:
                    top = min(top, left / up)
                elif up < -1e-9:
                    bottom = max(bottom, left / up)
                elif left < 0.0:
                    top = bottom
            lengths[r, c] = max(top - bottom, 0.0)


def thickness_map(
    shape: HalfSpaces, size: int, pixel_size: float, *, low: float = -np.inf, high: float = np.inf
) -> np.ndarray:
    """Thickness of a shape along the beam at each pixel.

    Args:
        shape: The shape.
        size: Side S of the map [px].
        pixel_size: Side of a pixel [Å].
        low: Height below which nothing counts [Å].
        high: Height above which nothing counts [Å].

    Returns:
        Thickness [Å], float32, shape (S, S), 0 where the shape is not.

    Example:
        >>> half = HalfSpaces(np.array([[0.0, 1.0, 0.0]]), np.array([1.5]))
        >>> thickness_map(half, 4, 1.0, low=0.0, high=7.0)[0]
        array([7., 7., 0., 0.], dtype=float32)
    """
    lengths = np.empty((size, size), np.float32)
    _thickness(shape.normals, shape.offsets, pixel_size, low, high, lengths)
    return lengths


def half_space(point: np.ndarray, normal: np.ndarray) -> HalfSpaces:
    """The side of a plane that its normal points away from.

    Args:
        point: A point of the plane [Å], shape (3,).
        normal: Normal of any length, shape (3,).

    Example:
        >>> half_space(np.array([1.0, 5.0, 0.0]), np.array([2.0, 0.0, 0.0])).offsets.tolist()
        [1.0]
    """
    unit = np.asarray(normal, dtype=np.float64) / np.linalg.norm(normal)
    return HalfSpaces(unit[None], np.array([unit @ point]))


def wedge(edge: np.ndarray, direction: float, angle: float, height: float, *, sides: str = "top") -> HalfSpaces:
    """A specimen that thins towards an edge: planes tilted by an angle cut it from the top, the bottom or both.

    Args:
        edge: A point (row, column) [Å] on the edge, where the thickness reaches 0, shape (2,).
        direction: Direction in the plane in which it grows thicker, from +row towards +column [rad].
        angle: Angle between the tilted plane and the flat one [rad].
        height: Height of the flat top [Å]; the bottom lies at 0.
        sides: Where it is cut: ``top``, ``bottom`` or ``both``, where the angle is shared between the two.

    Raises:
        ValueError: If ``sides`` is another word.

    Example:
        >>> shape = wedge(np.zeros(2), 0.0, np.pi / 4, 10.0)
        >>> inside(np.array([[5.0, 0.0, 4.0], [5.0, 0.0, 6.0]]), shape).tolist()
        [True, False]
    """
    if sides not in ("top", "bottom", "both"):
        raise SettingError(f"sides: got {sides!r}; expected top, bottom or both")
    ahead = np.array([np.cos(direction), np.sin(direction), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    each = angle / 2.0 if sides == "both" else angle
    start = {"top": 0.0, "bottom": height, "both": height / 2.0}[sides]
    point = np.array([edge[0], edge[1], start])
    planes = []
    if sides != "bottom":
        planes.append(half_space(point, np.cos(each) * up - np.sin(each) * ahead))
    if sides != "top":
        planes.append(half_space(point, -np.cos(each) * up - np.sin(each) * ahead))
    return HalfSpaces(np.concatenate([p.normals for p in planes]), np.concatenate([p.offsets for p in planes]))


def joined(first: HalfSpaces, second: HalfSpaces) -> HalfSpaces:
    """What two shapes have in common.

    Args:
        first: A shape.
        second: Another one.

    Example:
        >>> slab = [half_space(np.full(3, 2.0 * s), np.array([0.0, 0.0, s])) for s in (1.0, -1.0)]
        >>> inside(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 3.0]]), joined(*slab)).tolist()
        [True, False]
    """
    return HalfSpaces(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))


def polygonal_rod(
    centre: np.ndarray, axis: np.ndarray, radius: float, n_vertices: int, rng: np.random.Generator
) -> HalfSpaces:
    """An endless rod whose cross-section is a convex polygon with vertices on a circle.

    Args:
        centre: A point of its axis [Å], shape (3,).
        axis: Direction of its axis, shape (3,).
        radius: Radius of the circle [Å].
        n_vertices: Number of vertices, at least 3.
        rng: Source of the places of the vertices.

    Example:
        >>> rod = polygonal_rod(np.zeros(3), np.array([0.0, 0.0, 1.0]), 2.0, 5, np.random.default_rng(0))
        >>> inside(np.array([[0.0, 0.0, 99.0], [2.1, 0.0, 0.0]]), rod).tolist()
        [True, False]
    """
    # Gaps below half a turn keep the axis inside.
    gaps = rng.uniform(0.4, 1.0, n_vertices)
    angles = rng.uniform(0.0, 2.0 * np.pi) + np.cumsum(2.0 * np.pi * gaps / gaps.sum())
    first, second = perpendicular(axis)
    following = np.append(angles[1:], angles[0] + 2.0 * np.pi)
    middles, halves = (angles + following) / 2.0, (following - angles) / 2.0
    normals = np.cos(middles)[:, None] * first + np.sin(middles)[:, None] * second
    return HalfSpaces(normals, radius * np.cos(halves) + normals @ centre)


def polyhedron(centre: np.ndarray, radius: float, n_faces: int, rng: np.random.Generator) -> HalfSpaces:
    """A convex polyhedron about a centre, with faces at 0.6 to 1 radii.

    Args:
        centre: Its centre [Å], shape (3,).
        radius: Radius of the sphere that the furthest faces touch [Å].
        n_faces: Number of faces, at least 4.
        rng: Source of their directions and distances.

    Example:
        >>> shape = polyhedron(np.zeros(3), 5.0, 8, np.random.default_rng(0))
        >>> inside(np.array([[0.0, 0.0, 0.0], [99.0, 0.0, 0.0]]), shape).tolist()
        [True, False]
    """
    # Directions of a spiral, turned and shaken, leave no side open; four of a tetrahedron's would otherwise.
    k = np.arange(n_faces) + 0.5
    heights, turns = 1.0 - 2.0 * k / n_faces, np.pi * (1.0 + 5.0**0.5) * k
    flat = np.sqrt(1.0 - heights**2)
    directions = np.stack([flat * np.cos(turns), flat * np.sin(turns), heights], axis=1)
    directions = directions @ random_rotation(rng) + 0.15 * rng.standard_normal((n_faces, 3))
    normals = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return HalfSpaces(normals, radius * rng.uniform(0.6, 1.0, n_faces) + normals @ centre)


def perpendicular(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors that stand on an axis and on each other.

    Example:
        >>> first, second = perpendicular(np.array([0.0, 0.0, 2.0]))
        >>> float(abs(first @ second)), float(abs(first[2]) + abs(second[2]))
        (0.0, 0.0)
    """
    unit = axis / np.linalg.norm(axis)
    first = np.cross(unit, np.eye(3)[np.argmin(np.abs(unit))])
    first /= np.linalg.norm(first)
    return first, np.cross(unit, first)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation matrix drawn uniformly, shape (3, 3).

    Example:
        >>> matrix = random_rotation(np.random.default_rng(0))
        >>> bool(np.allclose(matrix @ matrix.T, np.eye(3)) and np.linalg.det(matrix) > 0)
        True
    """
    w, x, y, z = (q := rng.standard_normal(4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
