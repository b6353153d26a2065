"""Families at atomic resolution: crystals, patterns of one layer, packings, single atoms and nanocrystals."""

from __future__ import annotations

import numpy as np

from adaptive_scan.specimens import objects
from adaptive_scan.specimens.amorphous import number_density, random_packing
from adaptive_scan.specimens.crystals import (
    Crystal,
    fill,
    oriented,
    random_crystal,
    random_material,
    random_plane_group,
)
from adaptive_scan.specimens.elements import COVALENT_RADII, HEAVIEST
from adaptive_scan.specimens.scenes import RECIPE, Scene, begin, cover, finish, random_origin, randomly_oriented
from adaptive_scan.specimens.shapes import (
    HalfSpaces,
    half_space,
    inside,
    joined,
    polygonal_rod,
    polyhedron,
    thickness_map,
    wedge,
)
from adaptive_scan.specimens.truth import Specimen

_UP = np.array([0.0, 0.0, 1.0])


def _random_shape(scene: Scene) -> HalfSpaces:
    """A rod, a polyhedron or a half-space in the box of the scene."""
    rng, kind = scene.rng, scene.rng.integers(3)
    centre = np.append(scene.place(0.1)[:2], scene.high[2] / 2.0)
    radius = rng.uniform(0.1, 0.5) * scene.extent
    if kind == 0:
        return polygonal_rod(centre, rng.standard_normal(3), radius, int(rng.integers(3, 16)), rng)
    if kind == 1:
        return polyhedron(centre, radius, int(rng.integers(4, 21)), rng)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    return half_space(centre, np.array([np.cos(angle), np.sin(angle), 0.0]))


def _random_wedge(scene: Scene) -> HalfSpaces:
    rng = scene.rng
    angle, direction = np.deg2rad(rng.uniform(*RECIPE.wedge_angles)), rng.uniform(0.0, 2.0 * np.pi)
    ahead = np.array([np.cos(direction), np.sin(direction)])
    edge = scene.extent * (0.5 - rng.uniform(0.1, 0.6) * ahead)
    sides = ("top", "bottom", "both")[rng.integers(3)]
    return wedge(edge, direction, angle, float(scene.high[2]), sides=sides)


def _crystal_specimen(
    family: str, crystal: Crystal, size: int, rng: np.random.Generator, step: float | None
) -> Specimen:
    """One crystal, whole or as a wedge, perhaps with a piece kept or cut out."""
    scene = begin(size, rng, step, [crystal])
    turned = randomly_oriented(crystal, rng)
    positions, numbers = fill(turned, random_origin(scene, turned), scene.low, scene.high)
    base = HalfSpaces(np.array([_UP]), scene.high[2:])
    if rng.random() < RECIPE.wedge_share:
        base = joined(base, _random_wedge(scene))
    keep = inside(positions, base)
    height = float(scene.high[2])
    lengths = thickness_map(base, size, scene.pixel_size, low=0.0, high=height)
    if rng.random() < RECIPE.shape_share:
        shape = _random_shape(scene)
        within = thickness_map(joined(base, shape), size, scene.pixel_size, low=0.0, high=height)
        keeps = rng.random() < 0.5
        keep &= inside(positions, shape) == keeps
        lengths = within if keeps else lengths - within
    if not keep.any():
        keep[:] = True
        lengths[:] = height
    scene.mask("grains")[lengths > 1e-3] = 1
    scene.add(positions[keep], numbers[keep], 1)
    return finish(scene, family)


def space_group_crystal(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """A crystal of a random space group with up to 16 species."""
    return _crystal_specimen("space_group_crystal", random_crystal(rng), size, rng, pixel_size)


def material_crystal(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """A crystal of a known material."""
    return _crystal_specimen("material_crystal", random_material(rng), size, rng, pixel_size)


def plane_group_pattern(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """One layer of atoms with the symmetry of a random plane group, seen from above."""
    crystal = random_crystal(rng, plane=random_plane_group(rng))
    scene = begin(size, rng, pixel_size, [crystal])
    turned = oriented(crystal, (0, 0, 1), rng.uniform(0.0, 2.0 * np.pi))
    origin = scene.place()
    scene.high[2] = 1.0
    scene.low[2] = -1.0
    scene.add(*fill(turned, origin, scene.low, scene.high), 1)
    cover(scene, None, 1)
    return finish(scene, "plane_group_pattern")


def amorphous(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """A packing of one element of 2 to 7 g/cm^3, with a smallest distance of 0.95 to 1.6 Å or its own diameter."""
    number = int(rng.integers(1, HEAVIEST + 1))
    nearest = max(rng.uniform(0.95, 1.6), 1.6 * float(COVALENT_RADII[number]))
    wanted = number_density(number, rng.uniform(2.0, 7.0))
    one = Crystal(np.eye(3) / np.cbrt(wanted), np.zeros((1, 3)), np.array([number]), np.empty((0, 3)), "amorphous")
    scene = begin(size, rng, pixel_size, [one], film=0.0)
    positions = random_packing(scene.low, scene.high, wanted, nearest, rng)
    if len(positions) == 0:
        positions = scene.place()[None]
    scene.add(positions, np.full(len(positions), number), 1)
    cover(scene, None, 1)
    return finish(scene, "amorphous")


def points(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """Single atoms of one element, 1 to 20 px from one another at least."""
    number = int(rng.integers(1, HEAVIEST + 1))
    one = Crystal(10.0 * np.eye(3), np.zeros((1, 3)), np.array([number]), np.empty((0, 3)), "single atoms")
    scene = begin(size, rng, pixel_size, [one], film=0.3)
    most = max(3, min(200, size**2 // 150))
    nearest = max(rng.uniform(1.0, 20.0), 2.0 * float(COVALENT_RADII[number]) / scene.pixel_size)
    places = objects.scattered_points(int(rng.integers(2, most + 1)), nearest, size, rng) * scene.pixel_size
    scene.add(np.column_stack([places, np.zeros(len(places))]), np.full(len(places), number), 1)
    return finish(scene, "points")


def nanocrystals(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """One to four crystalline particles, polyhedra or rods, each oriented on its own, most on a film."""
    crystal = random_material(rng)
    n_particles = int(rng.integers(1, 5))
    scene = begin(size, rng, pixel_size, [crystal], film=0.9)
    masks = scene.mask("particles"), scene.mask("grains")
    for label in range(1, n_particles + 1):
        radius = rng.uniform(0.15, 0.45) * scene.extent / np.sqrt(n_particles)
        height = min(radius, scene.high[2] / 2.0)
        centre = np.append(scene.place(0.15)[:2], 0.7 * height)
        if rng.random() < 0.25:
            lying = rng.uniform(0.0, np.pi)
            axis = np.array([np.cos(lying), np.sin(lying), 0.0])
            shape = polygonal_rod(centre, axis, 0.5 * radius, int(rng.integers(4, 9)), rng)
            shape = joined(shape, half_space(centre + 2.0 * radius * axis, axis))
            shape = joined(shape, half_space(centre - 2.0 * radius * axis, -axis))
        else:
            shape = polyhedron(centre, radius, int(rng.integers(6, 21)), rng)
        turned = randomly_oriented(crystal, rng, n_zones=4)
        low = np.maximum(scene.low, np.append(centre[:2] - 2.8 * radius, 0.0))
        high = np.minimum(scene.high, np.append(centre[:2] + 2.8 * radius, scene.high[2]))
        positions, numbers = fill(turned, random_origin(scene, turned), low, high)
        keep = inside(positions, shape)
        scene.add(positions[keep], numbers[keep], label)
        covered = thickness_map(shape, size, scene.pixel_size, low=0.0, high=float(scene.high[2])) > 0.0
        for mask in masks:
            mask[covered] = label
    return finish(scene, "nanocrystals")


def vacancies(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """A single layer of a plane group with empty sites, each of them visible."""
    crystal = random_crystal(rng, plane=random_plane_group(rng))
    scene = begin(size, rng, pixel_size, [crystal], film=0.0)
    turned = oriented(crystal, (0, 0, 1), rng.uniform(0.0, 2.0 * np.pi))
    scene.low[2], scene.high[2] = -1.0, 1.0
    positions, numbers = fill(turned, scene.place(), scene.low, scene.high)
    empty = rng.random(len(positions)) < rng.uniform(0.02, 0.12)
    scene.vacancies.append(positions[empty])
    scene.add(positions[~empty], numbers[~empty], 1)
    cover(scene, None, 1)
    defects = scene.mask("defects")
    for site in positions[empty]:
        row, column = (round(x) for x in scene.pixels(site))
        if 0 <= row < size and 0 <= column < size:
            defects[row, column] = 1
    return finish(scene, "vacancies")
