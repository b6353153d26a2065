"""Families of crystals with one extended defect: boundaries, faults, a dislocation, a precipitate, a step."""

from __future__ import annotations

import numpy as np

from adaptive_scan.specimens.crystals import (
    Crystal,
    axes_of,
    fill,
    frame,
    material,
    oriented,
    random_material,
    rotated,
    shortest_translation,
    zone_cell,
)
from adaptive_scan.specimens.defects import dislocation_displacements, faulted, mirrored, signed_distances
from adaptive_scan.specimens.elements import COVALENT_RADII
from adaptive_scan.specimens.scenes import (
    Scene,
    begin,
    cover,
    finish,
    mark_plane,
    random_origin,
    randomly_oriented,
    record_defect,
    shell,
    within,
)
from adaptive_scan.specimens.shapes import HalfSpaces, half_space, inside, polyhedron
from adaptive_scan.specimens.truth import Specimen

_CLOSE_PACKED = ("Au", "Pt", "Pd", "Ag", "Cu", "Al", "Ni", "Si", "Ge", "GaAs", "InP", "CdTe", "ZnS")
_AT_ONCE = 4096
_ORDERED = ("NiAl", "CsCl", "AuCu3", "AlNi3", "SrTiO3", "BaTiO3", "KTaO3")


def _across(scene: Scene) -> np.ndarray:
    """A random unit vector across the beam."""
    angle = scene.rng.uniform(0.0, 2.0 * np.pi)
    return np.array([np.cos(angle), np.sin(angle), 0.0])


def grain_boundary(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """Two crystals of one material in different orientations, with a boundary plane along the beam."""
    crystal = random_material(rng)
    scene = begin(size, rng, pixel_size, [crystal])
    point, normal = scene.place(0.35), _across(scene)
    first = randomly_oriented(crystal, rng, n_zones=3, exact=True)
    if rng.random() < 0.6:
        angle = rng.uniform(np.deg2rad(5.0), np.deg2rad(85.0))
        second = rotated(first, axes_of(angle))
    else:
        angle, second = np.nan, randomly_oriented(crystal, rng, n_zones=3)
    # Half of the smallest radius on either side keeps atoms of the two apart.
    gap = 0.5 * float(COVALENT_RADII[crystal.numbers].min())
    for part, (turned, side) in enumerate(((first, 1.0), (second, -1.0)), start=1):
        positions, numbers = fill(turned, random_origin(scene, turned), scene.low, scene.high)
        keep = side * signed_distances(positions, point, normal) > gap
        scene.add(positions[keep], numbers[keep], part)
        cover(scene, half_space(point, -side * normal), part)
    extra = {} if np.isnan(angle) else {"misorientation": np.array(angle)}
    mark_plane(scene, "grain_boundary", point, normal, **extra)
    return finish(scene, "grain_boundary")


def _close_packed(scene: Scene, crystal: Crystal) -> tuple[Crystal, np.ndarray, np.ndarray]:
    """A cubic crystal seen along [1-10], in a frame where its (111) planes stand on edge.

    Returns:
        The crystal, the normal of its (111) planes, and the fault vector a/6 [11-2] in them [Å].
    """
    length = float(np.linalg.norm(crystal.vectors[0]))
    cell = zone_cell(crystal, (1, -1, 0))
    axes = axes_of(scene.rng.uniform(0.0, 2.0 * np.pi)) @ frame(np.array([1.0, -1.0, 0.0]), np.ones(3))
    normal = axes @ (np.ones(3) / np.sqrt(3.0))
    return rotated(cell, axes), normal, axes @ (np.array([1.0, 1.0, -2.0]) * length / 6.0)


def stacking_fault(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """A cubic close-packed or diamond-like crystal along [1-10] with an intrinsic fault, shift a/6 [11-2] on (111)."""
    crystal = material(_CLOSE_PACKED[rng.integers(len(_CLOSE_PACKED))])
    scene = begin(size, rng, pixel_size, [crystal])
    turned, normal, shift = _close_packed(scene, crystal)
    origin = scene.place(0.35)
    spacing = float(np.linalg.norm(crystal.vectors[0])) / np.sqrt(3.0)
    # An eighth of the spacing below a layer: between the two layers of the glide set, where faults lie.
    point = origin - 0.125 * spacing * normal
    positions, numbers = fill(turned, origin, *shell(scene, shift))
    scene.add(*within(scene, faulted(positions, point, normal, shift), numbers), 1)
    cover(scene, None, 1)
    mark_plane(scene, "stacking_fault", point, normal, shift=shift)
    return finish(scene, "stacking_fault")


def antiphase_boundary(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """An ordered cubic crystal along [001] with one half moved by a/2 [110], or a/2 [111] in the CsCl structure."""
    crystal = material(_ORDERED[rng.integers(len(_ORDERED))])
    scene = begin(size, rng, pixel_size, [crystal])
    turned = oriented(crystal, (0, 0, 1), rng.uniform(0.0, 2.0 * np.pi))
    half = np.array([0.5, 0.5, 0.5 if len(crystal.numbers) == 2 else 0.0])
    shift = half @ turned.vectors
    normal = (turned.vectors[0] - turned.vectors[1]) / np.linalg.norm(turned.vectors[0] - turned.vectors[1])
    origin = scene.place(0.35)
    point = origin + 0.25 * float(np.linalg.norm(turned.vectors[0])) / np.sqrt(2.0) * normal
    positions, numbers = fill(turned, origin, *shell(scene, shift))
    scene.add(*within(scene, faulted(positions, point, normal, shift), numbers), 1)
    cover(scene, None, 1)
    mark_plane(scene, "antiphase_boundary", point, normal, shift=shift)
    return finish(scene, "antiphase_boundary")


def twin_boundary(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """A cubic crystal along [1-10] and its mirror image across a (111) plane of atoms."""
    crystal = material(_CLOSE_PACKED[rng.integers(len(_CLOSE_PACKED))])
    scene = begin(size, rng, pixel_size, [crystal])
    turned, normal, _ = _close_packed(scene, crystal)
    origin = scene.place(0.35)
    positions, numbers = fill(turned, origin, scene.low, scene.high)
    # The layer in the plane belongs to both; the crystal itself keeps it.
    keep = signed_distances(positions, origin, normal) > -1e-3
    scene.add(positions[keep], numbers[keep], 1)
    positions, numbers = fill(*mirrored(turned, origin, origin, normal), scene.low, scene.high)
    keep = signed_distances(positions, origin, normal) < -1e-3
    scene.add(positions[keep], numbers[keep], 2)
    cover(scene, half_space(origin, -normal), 1)
    cover(scene, half_space(origin, normal), 2)
    mark_plane(scene, "twin_boundary", origin, normal)
    return finish(scene, "twin_boundary")


def edge_dislocation(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """A crystal along a main zone axis with a dislocation along the beam, its displacements those of elastic theory.

    The Burgers vector is the shortest translation with a part across the beam; where it has a part along the beam too,
    the dislocation is a mixed one.
    """
    crystal = random_material(rng)
    scene = begin(size, rng, pixel_size, [crystal])
    turned = randomly_oriented(crystal, rng, n_zones=3, exact=True)
    burgers = shortest_translation(turned)
    line = scene.place(0.3)
    width = float(np.linalg.norm(burgers))
    positions, numbers = fill(turned, random_origin(scene, turned), *shell(scene, np.array([1.2, 1.2, 0.5]) * burgers))
    # A few atoms at a time, for the field has many intermediate arrays.
    for first in range(0, len(positions), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        positions[some] += dislocation_displacements(positions[some], line[:2], burgers)
    scene.add(*within(scene, positions, numbers), 1)
    cover(scene, None, 1)
    steps = np.arange(size) * scene.pixel_size
    near = np.hypot((steps - line[0])[:, None], steps - line[1]) <= max(1.5 * width, scene.pixel_size)
    record_defect(scene, "edge_dislocation", line, near, burgers=burgers)
    return finish(scene, "edge_dislocation")


def precipitate(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """A polyhedron of another material inside a crystal, reaching through it or buried."""
    matrix, other = random_material(rng), random_material(rng)
    scene = begin(size, rng, pixel_size, [matrix, other])
    centre = np.append(scene.place(0.3)[:2], scene.high[2] / 2.0)
    shape = polyhedron(centre, rng.uniform(0.15, 0.35) * scene.extent, int(rng.integers(6, 15)), rng)
    gap = 0.8
    outer = HalfSpaces(shape.normals, shape.offsets + gap)
    for part, crystal in enumerate((matrix, other), start=1):
        turned = randomly_oriented(crystal, rng, n_zones=3)
        positions, numbers = fill(turned, random_origin(scene, turned), scene.low, scene.high)
        keep = ~inside(positions, outer) if part == 1 else inside(positions, shape)
        scene.add(positions[keep], numbers[keep], part)
        cover(scene, None if part == 1 else shape, part)
    covered = scene.masks["grains"] == 2
    scene.mask("particles")[covered] = 1
    record_defect(scene, "precipitate", centre, covered)
    return finish(scene, "precipitate")


def step_edge(size: int, rng: np.random.Generator, *, pixel_size: float | None = None) -> Specimen:
    """A crystal whose surface drops by a step along a straight edge."""
    crystal = random_material(rng)
    scene = begin(size, rng, pixel_size, [crystal])
    turned = randomly_oriented(crystal, rng, n_zones=3, exact=True)
    point, normal = scene.place(0.3), _across(scene)
    lower = rng.uniform(0.3, 0.75) * float(scene.high[2])
    positions, numbers = fill(turned, random_origin(scene, turned), scene.low, scene.high)
    keep = (signed_distances(positions, point, normal) <= 0.0) | (positions[:, 2] <= lower)
    scene.add(positions[keep], numbers[keep], 1)
    cover(scene, None, 1)
    mark_plane(scene, "step_edge", point, normal, height=np.array(float(scene.high[2]) - lower))
    return finish(scene, "step_edge")
