"""Objects of low magnification: soft and sharp particles, grains, bands, boxes and cracks.

Every function draws objects on nothing and returns what is there and whose it is. Particles and grains follow Lobato
et al. 2023 (arXiv:2303.17025, "Undistorted data generation"); of bands, boxes and cracks the paper gives
the names only.
"""

from __future__ import annotations

import numba
import numpy as np

from adaptive_scan.specimens.atoms import random_atom_model
from adaptive_scan.specimens.family import log_uniform
from adaptive_scan.specimens.grains import voronoi

N_SOFT = (15, 85)
"""Range of the number of soft particles in a picture."""
N_SHARP = (15, 40)
"""Range of the number of sharp particles."""
N_GRAINS = (15, 175)
"""Range of the number of grains."""

_SOFT_REACH = 5.2  # in units of the radius, where equation 17 has fallen to 0.2 %
_SLOPE = 0.6  # largest change of intensity across an object, relative to its mean


@numba.njit(cache=True)
def _add_soft(picture: np.ndarray, labels: np.ndarray, ellipses: np.ndarray, heights: np.ndarray, power: float) -> None:
    height, width = picture.shape
    for k in range(len(ellipses)):
        row, column, first, second, angle, strength = ellipses[k]
        cosine, sine = np.cos(angle), np.sin(angle)
        reach = _SOFT_REACH * max(first, second)
        for r in range(max(0, int(np.ceil(row - reach))), min(height - 1, int(row + reach)) + 1):
            for c in range(max(0, int(np.ceil(column - reach))), min(width - 1, int(column + reach)) + 1):
                u = (cosine * (r - row) + sine * (c - column)) / first
                v = (cosine * (c - column) - sine * (r - row)) / second
                square = u * u + v * v
                if square > _SOFT_REACH * _SOFT_REACH:
                    continue
                value = heights[0] * np.exp(-0.5 * square) + heights[1] * np.exp(-np.sqrt(square))
                picture[r, c] += strength * (value + heights[2] / (1.0 + square**power))
                if square <= 1.0:
                    labels[r, c] = k + 1


@numba.njit(cache=True)
def _add_flat(
    picture: np.ndarray,
    labels: np.ndarray,
    edges: np.ndarray,
    counts: np.ndarray,
    planes: np.ndarray,
    boxes: np.ndarray,
) -> None:
    height, width = picture.shape
    for k in range(len(counts)):
        row, column = boxes[k, 0], boxes[k, 1]
        for r in range(max(0, int(row - boxes[k, 2])), min(height - 1, int(row + boxes[k, 2]) + 1) + 1):
            for c in range(max(0, int(column - boxes[k, 2])), min(width - 1, int(column + boxes[k, 2]) + 1) + 1):
                down, across = r - row, c - column
                if counts[k] == 0:
                    u = (edges[k, 0, 0] * down + edges[k, 0, 1] * across) / edges[k, 0, 2]
                    v = (edges[k, 0, 0] * across - edges[k, 0, 1] * down) / edges[k, 1, 2]
                    depth = (1.0 - np.sqrt(u * u + v * v)) * min(edges[k, 0, 2], edges[k, 1, 2])
                else:
                    depth = np.inf
                    for m in range(counts[k]):
                        depth = min(depth, edges[k, m, 2] - edges[k, m, 0] * down - edges[k, m, 1] * across)
                # Half a pixel on either side of the edge, the pixel is partly covered.
                share = min(max(depth + 0.5, 0.0), 1.0)
                if share > 0.0:
                    picture[r, c] += share * (planes[k, 0] + planes[k, 1] * down + planes[k, 2] * across)
                    if depth >= 0.0:
                        labels[r, c] = k + 1


def _planes(radii: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positive plane intensities over objects of given radii: mean and slopes per pixel, shape (K, 3)."""
    means = rng.uniform(0.3, 1.0, len(radii))
    slopes = means * rng.uniform(0.0, _SLOPE, len(radii)) / radii
    angles = rng.uniform(0.0, 2.0 * np.pi, len(radii))
    return np.stack([means, slopes * np.cos(angles), slopes * np.sin(angles)], axis=1)


def scattered_points(n_points: int, nearest: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """Random points of the field, none nearer to another than a distance, as many as find room.

    Args:
        n_points: Number wanted.
        nearest: Smallest distance [px].
        size: Side S of the field [px].
        rng: Source of randomness.

    Returns:
        Points (row, column) [px], float64, shape (n, 2) with 1 <= n <= n_points.

    Example:
        >>> scattered_points(5, 2.0, 64, np.random.default_rng(0)).shape
        (5, 2)
    """
    candidates = rng.uniform(0.0, size - 1.0, (4 * n_points, 2))
    kept = np.empty((n_points, 2))
    n_kept = 0
    for candidate in candidates:
        if n_kept == n_points:
            break
        if n_kept == 0 or ((kept[:n_kept] - candidate) ** 2).sum(axis=1).min() >= nearest**2:
            kept[n_kept] = candidate
            n_kept += 1
    return kept[:n_kept]


def soft_objects(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Soft particles: equation 17 with two radii, ``m_y = alpha m_x`` with alpha in [0.8, 1.2], turned at random.

    Args:
        size: Side S of the picture [px].
        rng: Source of randomness.

    Returns:
        Picture, float32, and labels of the ellipses of the radii, uint8, both of shape (S, S).

    Example:
        >>> picture, labels = soft_objects(48, np.random.default_rng(0))
        >>> picture.shape, int(labels.max()) <= 85
        ((48, 48), True)
    """
    centres = scattered_points(int(rng.integers(N_SOFT[0], N_SOFT[1] + 1)), rng.uniform(1.0, 20.0), size, rng)
    n_particles = len(centres)
    model = random_atom_model([6], rng)
    radii = log_uniform(0.012, 0.08, 1, rng) * size * np.exp(0.3 * rng.standard_normal(n_particles))
    radii = np.maximum(radii, 1.0)
    ellipses = np.stack(
        [
            *centres.T,
            radii,
            radii * rng.uniform(0.8, 1.2, n_particles),
            rng.uniform(0.0, np.pi, n_particles),
            rng.uniform(0.3, 1.0, n_particles),
        ],
        axis=1,
    )
    picture, labels = np.zeros((size, size), np.float32), np.zeros((size, size), np.uint8)
    _add_soft(picture, labels, ellipses, model.heights[0], model.exponents[0])
    return picture, labels


def _random_polygons(radii: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Edges of convex polygons with vertices on circles: unit normals and distances, shape (K, M, 3)."""
    most = int(counts.max())
    edges = np.zeros((len(counts), most, 3))
    gaps = rng.uniform(0.6, 1.0, (len(counts), most)) * (np.arange(most) < counts[:, None])
    turns = 2.0 * np.pi * np.cumsum(gaps, axis=1) / gaps.sum(axis=1, keepdims=True)
    starts = np.concatenate([np.zeros((len(counts), 1)), turns[:, :-1]], axis=1)
    middles = (turns + starts) / 2.0 + rng.uniform(0.0, 2.0 * np.pi, (len(counts), 1))
    edges[..., 0], edges[..., 1] = np.cos(middles), np.sin(middles)
    edges[..., 2] = radii[:, None] * np.cos((turns - starts) / 2.0)
    return edges


def sharp_objects(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sharp particles: polygons of 3 to 5 vertices or ellipses, cut from random planes so that none is flat.

    Args:
        size: Side S of the picture [px].
        rng: Source of randomness.

    Returns:
        Picture, float32, and labels, uint8, the later particle on top, both of shape (S, S).

    Example:
        >>> picture, labels = sharp_objects(48, np.random.default_rng(0))
        >>> bool(np.all(picture[labels > 0] > 0))
        True
    """
    centres = scattered_points(int(rng.integers(N_SHARP[0], N_SHARP[1] + 1)), rng.uniform(1.0, 20.0), size, rng)
    n_particles = len(centres)
    radii = log_uniform(0.03, 0.12, 1, rng) * size * np.exp(0.25 * rng.standard_normal(n_particles))
    radii = np.maximum(radii, 1.5)
    if rng.random() < 0.5:
        counts = rng.integers(3, 6, n_particles)
        edges = _random_polygons(radii, counts, rng)
    else:
        counts = np.zeros(n_particles, np.int64)
        angles, edges = rng.uniform(0.0, np.pi, n_particles), np.zeros((n_particles, 2, 3))
        edges[:, 0, 0], edges[:, 0, 1], edges[:, 0, 2] = np.cos(angles), np.sin(angles), radii
        edges[:, 1, 2] = radii * rng.uniform(0.5, 1.0, n_particles)
    boxes = np.concatenate([centres, radii[:, None] + 1.0], axis=1)
    return _flat(size, edges, counts, _planes(radii, rng), boxes)


def _flat(
    size: int, edges: np.ndarray, counts: np.ndarray, planes: np.ndarray, boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    picture, labels = np.zeros((size, size), np.float32), np.zeros((size, size), np.uint8)
    _add_flat(picture, labels, edges, counts, planes, boxes)
    return picture, labels


def box_objects(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Boxes: rectangles of random sides, most of them with their sides along two directions common to the picture.

    Args:
        size: Side S of the picture [px].
        rng: Source of randomness.

    Returns:
        Picture, float32, and labels, uint8, the later box on top, both of shape (S, S).

    Example:
        >>> box_objects(48, np.random.default_rng(0))[0].shape
        (48, 48)
    """
    n_boxes = int(rng.integers(6, 31))
    centres = scattered_points(n_boxes, rng.uniform(1.0, 20.0), size, rng)
    n_boxes = len(centres)
    halves = np.maximum(log_uniform(0.02, 0.15, (n_boxes, 2), rng) * size, 1.5)
    angles = rng.uniform(0.0, np.pi) + (rng.random(n_boxes) < 0.3) * rng.uniform(0.0, np.pi, n_boxes)
    edges = np.zeros((n_boxes, 4, 3))
    for side in range(4):
        edges[:, side, 0], edges[:, side, 1] = np.cos(angles + side * np.pi / 2), np.sin(angles + side * np.pi / 2)
        edges[:, side, 2] = halves[:, side % 2]
    radii = np.hypot(*halves.T)
    boxes = np.concatenate([centres, radii[:, None] + 1.0], axis=1)
    return _flat(size, edges, np.full(n_boxes, 4), _planes(radii, rng), boxes)


def band_objects(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bands: a stack of parallel layers across the whole field, of random widths and intensities.

    Args:
        size: Side S of the picture [px].
        rng: Source of randomness.

    Returns:
        Picture, float32, and labels of the layers, uint8, both of shape (S, S).

    Example:
        >>> band_objects(48, np.random.default_rng(0))[0].shape
        (48, 48)
    """
    reach = 0.75 * size
    widths = np.maximum(log_uniform(0.03, 0.3, 60, rng) * size, 2.0)
    places = np.cumsum(widths) - reach - rng.uniform(0.0, widths[0])
    n_bands = int(np.searchsorted(places - widths, reach))
    angle, jitter = rng.uniform(0.0, np.pi), 0.03 * rng.standard_normal(n_bands + 1) * (rng.random() < 0.3)
    edges = np.zeros((n_bands, 2, 3))
    edges[:, 0, 0], edges[:, 0, 1] = np.cos(angle + jitter[1:]), np.sin(angle + jitter[1:])
    edges[:, 1, 0], edges[:, 1, 1] = -np.cos(angle + jitter[:-1]), -np.sin(angle + jitter[:-1])
    edges[:, 0, 2], edges[:, 1, 2] = places[:n_bands], -(places - widths)[:n_bands]
    centre = np.full((n_bands, 2), (size - 1.0) / 2.0)
    boxes = np.concatenate([centre, np.full((n_bands, 1), float(size))], axis=1)
    return _flat(size, edges, np.full(n_bands, 2), _planes(np.full(n_bands, 0.75 * size), rng), boxes)


def grain_objects(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Grains: Voronoi cells of 15 to 175 points, each cut from a random plane; half of the pictures show boundaries.

    A boundary is drawn at 0.5 to 1.5 times the mean of the grains.

    Args:
        size: Side S of the picture [px].
        rng: Source of randomness.

    Returns:
        Picture, float32, and labels from 1, uint8, both of shape (S, S).

    Example:
        >>> picture, labels = grain_objects(48, np.random.default_rng(0))
        >>> int(labels.min()) >= 1
        True
    """
    n_grains = int(rng.integers(N_GRAINS[0], min(N_GRAINS[1], max(N_GRAINS[0] + 1, size**2 // 60)) + 1))
    seeds = rng.uniform(-0.5, size - 0.5, (1, n_grains, 2))
    labels, gaps = voronoi(seeds, np.array([n_grains]), size)
    planes = _planes(np.full(n_grains, size / np.sqrt(n_grains)), rng)
    picture = np.empty((size, size), np.float32)
    has_border = rng.random() < 0.5
    border = rng.uniform(0.5, 1.5) * float(planes[:, 0].mean())
    width = rng.uniform(0.7, 2.0) if has_border else 0.0
    _paint_planes(labels[0], gaps[0], seeds[0], planes, np.array([border, width]), picture)
    return picture, (labels[0] + 1).astype(np.uint8)


@numba.njit(cache=True)
def _paint_planes(
    labels: np.ndarray, gaps: np.ndarray, seeds: np.ndarray, planes: np.ndarray, border: np.ndarray, picture: np.ndarray
) -> None:
    for r in range(picture.shape[0]):
        for c in range(picture.shape[1]):
            k = labels[r, c]
            value = planes[k, 0] + planes[k, 1] * (r - seeds[k, 0]) + planes[k, 2] * (c - seeds[k, 1])
            value = max(value, 0.05)
            if border[1] > 0.0:
                share = np.exp(-0.5 * (gaps[r, c] / border[1]) ** 2)
                value += share * (border[0] - value)
            picture[r, c] = value


@numba.njit(cache=True)
def _crack(
    cover: np.ndarray, labels: np.ndarray, label: int, start: np.ndarray, width: float, rng: np.random.Generator
) -> None:
    """Walk from a start in a slowly turning direction and stamp discs that narrow towards the end."""
    size = cover.shape[0]
    row, column, heading = start
    steps = int((0.4 + 1.2 * rng.random()) * size)
    kink, drift = 0.12 + 0.1 * rng.random(), 0.0
    for step in range(steps):
        if rng.random() < 0.06:
            drift = 0.9 * rng.standard_normal()
        heading += kink * rng.standard_normal() + 0.15 * drift
        drift *= 0.7
        row += np.cos(heading)
        column += np.sin(heading)
        radius = max(width * (1.0 - 0.8 * step / steps), 0.75)
        reach = radius + 1.0
        for r in range(max(0, int(np.ceil(row - reach))), min(size - 1, int(np.floor(row + reach))) + 1):
            for c in range(max(0, int(np.ceil(column - reach))), min(size - 1, int(np.floor(column + reach))) + 1):
                depth = radius - np.sqrt((r - row) ** 2 + (c - column) ** 2)
                cover[r, c] = max(cover[r, c], min(max(depth + 0.5, 0.0), 1.0))
                if depth >= 0.0:
                    labels[r, c] = label


def crack_objects(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cracks: winding lines that narrow towards their ends, darker than a smooth background.

    Args:
        size: Side S of the picture [px].
        rng: Source of randomness.

    Returns:
        Picture, float32, and labels of the cracks, uint8, both of shape (S, S).

    Example:
        >>> picture, labels = crack_objects(48, np.random.default_rng(0))
        >>> bool(picture[labels > 0].mean() < picture[labels == 0].mean())
        True
    """
    cover, labels = np.zeros((size, size), np.float32), np.zeros((size, size), np.uint8)
    for label in range(1, int(rng.integers(1, 6)) + 1):
        start = np.array([*rng.uniform(0.1 * size, 0.9 * size, 2), rng.uniform(0.0, 2.0 * np.pi)])
        width = max(0.8, float(log_uniform(0.005, 0.025, 1, rng)[0]) * size)
        _crack(cover, labels, label, start, width, rng)
        # The other end of the same crack.
        start[2] += np.pi + 0.3 * rng.standard_normal()
        _crack(cover, labels, label, start, width, rng)
    background, _ = grain_objects(size, rng) if rng.random() < 0.4 else (np.ones((size, size), np.float32), None)
    depth = np.float32(rng.uniform(0.5, 1.0))
    return background * (1.0 - depth * cover), labels
