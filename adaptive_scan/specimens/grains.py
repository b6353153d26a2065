"""Polycrystals: Voronoi grains of different greys, some with fringes, some with visible boundaries."""

from __future__ import annotations

import numba
import numpy as np

from adaptive_scan.specimens.family import feature_sizes, log_uniform
from adaptive_scan.specimens.films import smooth_fields

_SMALLEST_GRAIN_AREA = 100.0
_MAX_GRAINS = 60


@numba.njit(cache=True)
def _voronoi(seeds: np.ndarray, counts: np.ndarray, warps: np.ndarray, labels: np.ndarray, gaps: np.ndarray) -> None:
    n_crops, size, _ = labels.shape
    for crop in range(n_crops):
        for row in range(size):
            for column in range(size):
                r = row + warps[crop, 0, row, column]
                c = column + warps[crop, 1, row, column]
                nearest, second, label = np.inf, np.inf, 0
                for seed in range(counts[crop]):
                    d = (seeds[crop, seed, 0] - r) ** 2 + (seeds[crop, seed, 1] - c) ** 2
                    if d < nearest:
                        nearest, second, label = d, nearest, seed
                    elif d < second:
                        second = d
                labels[crop, row, column] = label
                gaps[crop, row, column] = np.sqrt(second) - np.sqrt(nearest)


def voronoi(
    seeds: np.ndarray, counts: np.ndarray, crop_size: int, *, warps: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Voronoi partitions of the field.

    Pixel ``p`` belongs to seed ``argmin_k |p + warp(p) - seed_k|``, the first of equally near ones.

    Args:
        seeds: Seeds (row, column) [px], shape (N, K, 2).
        counts: Number of seeds in use in each picture, 1 to K, shape (N,).
        crop_size: Side S of the field [px].
        warps: Displacements (row, column) [px], shape (N, 2, S, S), that bend the boundaries; none by default.

    Returns:
        Labels, int32, shape (N, S, S), and how much further away the second seed is than the first [px],
        float32, shape (N, S, S): 0 on boundaries, infinite where there is one seed only.

    Example:
        >>> labels, gaps = voronoi(np.array([[[0.0, 0.0], [0.0, 4.0]]]), np.array([2]), 4)
        >>> labels[0, 0].tolist()
        [0, 0, 0, 1]
    """
    shape = (len(seeds), crop_size, crop_size)
    if warps is None:
        warps = np.broadcast_to(np.float32(0.0), (shape[0], 2, crop_size, crop_size))
    labels, gaps = np.empty(shape, np.int32), np.empty(shape, np.float32)
    _voronoi(np.asarray(seeds, np.float64), np.asarray(counts), np.asarray(warps), labels, gaps)
    return labels, gaps


def bending_warps(n_crops: int, crop_size: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth displacements that turn straight Voronoi boundaries into natural ones.

    Args:
        n_crops: Number of pictures N.
        crop_size: Side S of a picture [px].
        rng: Source of randomness.

    Returns:
        Displacements [px], float32, shape (N, 2, S, S).

    Example:
        >>> bending_warps(3, 16, np.random.default_rng(0)).shape
        (3, 2, 16, 16)
    """
    scales = np.repeat(log_uniform(crop_size / 8, crop_size / 2, n_crops, rng), 2)
    warps = smooth_fields(scales, crop_size, rng).reshape(n_crops, 2, crop_size, crop_size)
    warps *= rng.uniform(0.0, crop_size / 24, (n_crops, 1, 1, 1)).astype(np.float32)
    return warps


@numba.njit(cache=True)
def _paint(
    labels: np.ndarray,
    gaps: np.ndarray,
    greys: np.ndarray,
    fringes: np.ndarray,
    grooves: np.ndarray,
    pictures: np.ndarray,
) -> None:
    n_crops, size, _ = labels.shape
    for crop in range(n_crops):
        depth, width = grooves[crop]
        for row in range(size):
            for column in range(size):
                label = labels[crop, row, column]
                grey = greys[crop, label]
                amplitude = fringes[crop, label, 3]
                if amplitude > 0.0:
                    fringe = fringes[crop, label]
                    grey += amplitude * np.cos(fringe[0] * row + fringe[1] * column + fringe[2])
                if depth != 0.0:
                    grey += depth * np.exp(-0.5 * (gaps[crop, row, column] / width) ** 2)
                pictures[crop, row, column] = grey


def paint_grains(
    labels: np.ndarray, gaps: np.ndarray, greys: np.ndarray, fringes: np.ndarray, grooves: np.ndarray
) -> np.ndarray:
    """Give each grain its grey and its fringes, and each boundary its groove.

    A pixel ``p`` of grain ``k`` becomes ``g_k + A_k cos(q_k . p + phi_k) + depth exp(-gap^2 / (2 width^2))``.

    Args:
        labels: Grain of each pixel, 0 to K - 1, shape (N, S, S).
        gaps: How much further away the second seed is than the first [px], shape (N, S, S).
        greys: Greys g, shape (N, K).
        fringes: Wave vector q (row, column) [rad/px], phase phi [rad] and amplitude A, shape (N, K, 4).
        grooves: Depth (bright where positive) and width [px] of the boundaries, shape (N, 2).

    Returns:
        Intensities, float32, shape (N, S, S).

    Example:
        >>> labels, gaps = voronoi(np.array([[[0.0, 0.0], [0.0, 4.0]]]), np.array([2]), 4)
        >>> paint_grains(labels, gaps, np.array([[1.0, 5.0]]), np.zeros((1, 2, 4)), np.array([[0.0, 1.0]]))[0, 0]
        array([1., 1., 1., 5.], dtype=float32)
    """
    pictures = np.empty(labels.shape, np.float32)
    _paint(labels, gaps, greys, fringes, grooves, pictures)
    return pictures


def _random_fringes(n_crops: int, crop_size: int, rng: np.random.Generator) -> np.ndarray:
    """Fringes of one spacing per picture in 40 % of the pictures, there in six of ten grains."""
    frequencies = 2.0 * np.pi / feature_sizes(n_crops, crop_size, rng)[:, None]
    angles = rng.uniform(0.0, np.pi, (n_crops, _MAX_GRAINS))
    phases = rng.uniform(0.0, 2.0 * np.pi, (n_crops, _MAX_GRAINS))
    amplitudes = rng.uniform(0.03, 0.2, (n_crops, 1)) * (rng.uniform(size=(n_crops, 1)) < 0.4)
    diffracts = rng.uniform(size=(n_crops, _MAX_GRAINS)) < 0.6
    waves = (frequencies * np.cos(angles), frequencies * np.sin(angles))
    return np.stack([*waves, phases, amplitudes * diffracts], axis=-1)


def grains(n_crops: int, crop_size: int, rng: np.random.Generator) -> np.ndarray:
    """Voronoi grains, each of its own grey; four in ten pictures carry fringes, half show their boundaries.

    Args:
        n_crops: Number of pictures N.
        crop_size: Side S of a picture [px].
        rng: Source of randomness.

    Returns:
        Intensities, float32, shape (N, S, S).

    Example:
        >>> grains(2, 32, np.random.default_rng(0)).shape
        (2, 32, 32)
    """
    most = float(np.clip(crop_size**2 / _SMALLEST_GRAIN_AREA, 5.0, _MAX_GRAINS))
    counts = log_uniform(4.0, most, n_crops, rng).astype(np.int64)
    seeds = rng.uniform(-0.5, crop_size - 0.5, (n_crops, _MAX_GRAINS, 2))
    labels, gaps = voronoi(seeds, counts, crop_size, warps=bending_warps(n_crops, crop_size, rng))

    greys = rng.uniform(0.2, 1.0, (n_crops, _MAX_GRAINS))
    depths = rng.uniform(-0.5, 0.5, n_crops) * (rng.uniform(size=n_crops) < 0.5)
    grooves = np.stack([depths, log_uniform(0.7, 3.0, n_crops, rng)], axis=-1)
    fringes = _random_fringes(n_crops, crop_size, rng)
    pictures = paint_grains(labels, gaps, greys, fringes, grooves)
    bends = smooth_fields(log_uniform(crop_size / 8, crop_size, n_crops, rng), crop_size, rng)
    bends *= rng.uniform(0.0, 0.12, (n_crops, 1, 1)).astype(np.float32)
    pictures += bends
    return pictures
