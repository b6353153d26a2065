"""A specimen that is being put together: its box, its atoms, its film, its marks, and the picture they make.

The recipe is that of Lobato et al. 2023 (arXiv:2303.17025, "Data generation"); :class:`Recipe` holds its shares and
ranges, and says where ours differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from adaptive_scan.errors import SettingError
from adaptive_scan.specimens.amorphous import number_density, random_packing
from adaptive_scan.specimens.atoms import AtomModel, add_atoms, random_atom_model, reaches
from adaptive_scan.specimens.contrast import random_contrast
from adaptive_scan.specimens.crystals import Crystal, density, oriented, random_zone, rotated
from adaptive_scan.specimens.elements import COVALENT_RADII
from adaptive_scan.specimens.family import log_uniform
from adaptive_scan.specimens.shapes import HalfSpaces, random_rotation, thickness_map
from adaptive_scan.specimens.truth import Defect, Specimen, Truth

SMALLEST_PICTURE = 16
"""Smallest side of a picture [px]."""

_CARBON = 6
_UNDISTURBED = ("points", "amorphous", "vacancies")


@dataclass(frozen=True)
class Recipe:
    """Shares and ranges of atomic-resolution specimens; where the paper has another value, it is said."""

    pixel_sizes: tuple[float, float] = (0.025, 0.6)
    """Range of the side of a pixel [Å], log-uniform; the paper has 0.025 to 0.90 Å."""
    least_field: float = 14.0
    """Least side of the field [Å], which bounds small pixels in small pictures."""
    sharpness: tuple[float, float] = (0.4, 1.0)
    """Range of the factor on the radii of atoms; the paper has 1, the width of a probe without corrector."""
    thickness: tuple[float, float] = (5.0, 60.0)
    """Range of the thickness of crystals [Å], log-uniform, cut where ``most_atoms`` or ``most_visits`` are reached."""
    zone_share: float = 0.75
    """Share of crystals along a zone axis; the others are turned at random."""
    mistilt: float = 1.0
    """Standard deviation of the tilt off the zone axis [degrees]; the paper has 5, which blurs most columns away."""
    wedge_share: float = 0.5
    """Share of crystals that are wedges; the paper has 0.75."""
    wedge_angles: tuple[float, float] = (5.0, 45.0)
    """Range of the angle of a wedge [degrees]."""
    shape_share: float = 0.3
    """Share of crystals that a rod, a polyhedron or a half-space cuts; the paper has 0.5."""
    defect_share: float = 0.6
    """Share of crystals with vacancies or displaced atoms; the paper has 0.8."""
    most_selected: float = 0.1
    """Largest share of the atoms that are missing or displaced; the paper has 0.25."""
    support_share: float = 0.6
    """Share of crystals on an amorphous carbon film; the paper has 0.95, half of them crystalline."""
    support_thickness: tuple[float, float] = (10.0, 300.0)
    """Range of the thickness of the film [Å], log-uniform, cut like that of crystals."""
    most_atoms: float = 0.06
    """Atoms of a crystal or a film per pixel of the picture, at most, but never fewer than 1,000 in all."""
    most_visits: float = 40.0
    """Times that atoms of a crystal or a film reach each pixel, at most, on average."""


RECIPE = Recipe()
"""What all families of this module are made with."""


@dataclass
class Scene:
    """A specimen that is being put together."""

    size: int
    pixel_size: float
    model: AtomModel
    rng: np.random.Generator
    low: np.ndarray
    high: np.ndarray
    has_film: bool
    specimen: str
    positions: list[np.ndarray] = field(default_factory=list)
    numbers: list[np.ndarray] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    displaced: list[np.ndarray] = field(default_factory=list)
    vacancies: list[np.ndarray] = field(default_factory=list)
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    defects: list[Defect] = field(default_factory=list)

    @property
    def extent(self) -> float:
        """Side of the field [Å], between the centres of the outermost pixels."""
        return (self.size - 1) * self.pixel_size

    def place(self, margin: float = 0.2) -> np.ndarray:
        """A random place (row, column, 0) [Å] of the field, off its edges by a share of its side."""
        return np.append(self.rng.uniform(margin, 1.0 - margin, 2) * self.extent, 0.0)

    def add(self, positions: np.ndarray, numbers: np.ndarray, part: int) -> None:
        """Add atoms of one part, whole or with vacancies and displaced atoms."""
        self.positions.append(positions)
        self.numbers.append(numbers)
        self.parts.append(part)
        self.displaced.append(np.zeros(len(positions), np.bool_))

    def mask(self, name: str) -> np.ndarray:
        """A mask, made where there is none."""
        return self.masks.setdefault(name, np.zeros((self.size, self.size), np.uint8))

    def pixels(self, position: np.ndarray) -> tuple[float, float]:
        """A position as (row, column) [px]."""
        return float(position[0] / self.pixel_size), float(position[1] / self.pixel_size)


def checked_size(size: int) -> int:
    """The side of a picture [px].

    Raises:
        ValueError: If it is below 16 px.

    Example:
        >>> checked_size(16)
        16
    """
    if size < SMALLEST_PICTURE:
        raise SettingError(f"size: got {size} px; expected at least {SMALLEST_PICTURE} px")
    return size


def random_pixel_size(
    size: int, rng: np.random.Generator, given: float | None, bounds: tuple[float, float], least_field: float
) -> float:
    """The side of a pixel [Å]: the one given, or one drawn log-uniformly that makes the field large enough.

    Args:
        size: Side S of the picture [px].
        rng: Source of randomness.
        given: The side asked for [Å]; None to draw one.
        bounds: Range to draw from [Å].
        least_field: Least side of the field [Å], which raises the lower bound.

    Raises:
        ValueError: If the side asked for is not above 0.

    Example:
        >>> random_pixel_size(64, np.random.default_rng(0), 0.25, (0.1, 1.0), 0.0)
        0.25
    """
    if given is not None:
        if not given > 0.0:
            raise SettingError(f"pixel_size: got {given}; expected a length above 0 Å")
        return given
    low, high = bounds
    low = min(max(low, least_field / size), high)
    return float(log_uniform(low, high, 1, rng)[0])


def begin(
    size: int, rng: np.random.Generator, pixel_size: float | None, crystals: list[Crystal], *, film: float | None = None
) -> Scene:
    """A scene with room for crystals: pixel size, atom model, film or none, and a box as thick as can be afforded.

    Args:
        size: Side S of the picture [px].
        rng: Source of randomness, which the scene keeps.
        pixel_size: Side of a pixel [Å]; drawn where it is None.
        crystals: What will be put into it.
        film: Probability of a film below; that of the recipe by default.

    Raises:
        ValueError: If the picture or the pixel is too small.
    """
    checked_size(size)
    step = random_pixel_size(size, rng, pixel_size, RECIPE.pixel_sizes, RECIPE.least_field)
    has_film = rng.random() < (RECIPE.support_share if film is None else film)
    numbers = np.concatenate([crystal.numbers for crystal in crystals] + [np.full(int(has_film), _CARBON)])
    model = random_atom_model(numbers, rng, sharpness=rng.uniform(*RECIPE.sharpness))
    margin = float(reaches(model).max())
    side = (size - 1) * step + 2.0 * margin
    thickness = float(log_uniform(*RECIPE.thickness, 1, rng)[0])
    crowded = max(density(crystal) for crystal in crystals)
    thickness = min(thickness, _most_atoms(size, step, margin) / (crowded * side**2))
    # A crystal is never thinner than a cell, or its columns would not all be there.
    thickness = max(thickness, min(float(np.linalg.norm(crystals[0].vectors, axis=1).min()), 6.0))
    low = np.array([-margin, -margin, 0.0])
    high = np.array([side - margin, side - margin, thickness])
    return Scene(size, step, model, rng, low, high, has_film, " + ".join(crystal.name for crystal in crystals))


def _most_atoms(size: int, pixel_size: float, reach: float) -> float:
    by_memory = max(RECIPE.most_atoms * size**2, 1000.0)
    return min(by_memory, max(RECIPE.most_visits * size**2 / (np.pi * (reach / pixel_size) ** 2), 100.0))


def randomly_oriented(crystal: Crystal, rng: np.random.Generator, *, n_zones: int = 8, exact: bool = False) -> Crystal:
    """A crystal along a random zone axis, or (unless ``exact``) sometimes turned at random."""
    if not exact and rng.random() >= RECIPE.zone_share:
        return rotated(crystal, random_rotation(rng))
    tilt = (0.0, 0.0) if exact else tuple(np.deg2rad(RECIPE.mistilt) * rng.standard_normal(2))
    return oriented(crystal, random_zone(rng, n_zones=n_zones), rng.uniform(0.0, 2.0 * np.pi), (tilt[0], tilt[1]))


def random_origin(scene: Scene, crystal: Crystal) -> np.ndarray:
    """A place for a corner of a crystal's cell, in the field and at any phase of the lattice, shape (3,) [Å]."""
    result: np.ndarray = scene.rng.uniform(size=3) @ crystal.vectors + scene.place()
    return result


def cover(scene: Scene, shape: HalfSpaces | None, part: int) -> None:
    """Mark the pixels that a part of the specimen covers."""
    grains = scene.mask("grains")
    if shape is None:
        grains[:] = part
        return
    covered = thickness_map(shape, scene.size, scene.pixel_size, low=0.0, high=float(scene.high[2])) > 0.0
    grains[covered] = part


def finish(scene: Scene, family: str) -> Specimen:
    """Put the film under everything, take out or move atoms, draw them, and turn mass into intensity.

    Args:
        scene: What was put together.
        family: Name of the family.

    Returns:
        Picture and truth.
    """
    if scene.has_film:
        _add_film(scene)
    positions, numbers = np.concatenate(scene.positions), np.concatenate(scene.numbers)
    parts = np.repeat(np.array(scene.parts, np.uint8), [len(part) for part in scene.positions])
    displaced = np.concatenate(scene.displaced)
    if scene.rng.random() < RECIPE.defect_share and family not in _UNDISTURBED:
        keep = _disturb(scene, positions, numbers, parts, displaced)
        positions, numbers, parts, displaced = positions[keep], numbers[keep], parts[keep], displaced[keep]
    picture = np.zeros((scene.size, scene.size), np.float32)
    add_atoms(picture, positions, numbers, scene.model, scene.pixel_size)
    empty = np.concatenate([*scene.vacancies, np.empty((0, 3))]).astype(np.float32)
    seen = random_contrast(never_uniform(picture), scene.rng)
    truth = Truth(
        family,
        scene.pixel_size,
        positions.astype(np.float32),
        numbers.astype(np.uint8),
        parts,
        displaced,
        empty,
        scene.masks,
        tuple(scene.defects),
        scene.specimen,
    )
    return Specimen(seen, truth)


def never_uniform(picture: np.ndarray) -> np.ndarray:
    """The picture, with one brighter pixel where a shape has left it without an atom."""
    if float(np.ptp(picture)) <= 1e-6 * float(picture.max()) or picture.max() <= 0.0:
        picture[0, 0] += 1.0
    return picture


def _disturb(
    scene: Scene, positions: np.ndarray, numbers: np.ndarray, parts: np.ndarray, displaced: np.ndarray
) -> np.ndarray:
    """Take atoms out of crystals or move them off their sites; returns which of all stay, bool, shape (K,)."""
    rng = scene.rng
    sites = np.flatnonzero(parts)
    n_selected = int(rng.uniform(0.0, RECIPE.most_selected) * len(sites))
    selected = rng.choice(sites, n_selected, replace=False)
    keep = np.ones(len(positions), np.bool_)
    if rng.random() < 0.5:
        keep[selected] = False
        scene.vacancies.append(positions[selected])
    else:
        spread = COVALENT_RADII[numbers[selected]][:, None] * rng.uniform(0.1, 1.0)
        positions[selected] += spread * rng.standard_normal((n_selected, 3))
        displaced[selected] = True
    return keep


def _add_film(scene: Scene) -> None:
    """A film of amorphous carbon of about 2 g/cm^3 below height 0."""
    rng, wanted = scene.rng, number_density(_CARBON, float(scene.rng.uniform(1.8, 2.2)))
    side = scene.high[0] - scene.low[0]
    most = _most_atoms(scene.size, scene.pixel_size, float(scene.high[0]) - scene.extent)
    thickness = min(float(log_uniform(*RECIPE.support_thickness, 1, rng)[0]), most / (wanted * side**2))
    low = np.array([scene.low[0], scene.low[1], -thickness])
    positions = random_packing(low, np.array([*scene.high[:2], 0.0]), wanted, 1.35, rng)
    scene.add(positions, np.full(len(positions), _CARBON), 0)


def mark_plane(scene: Scene, kind: str, point: np.ndarray, normal: np.ndarray, **vectors: np.ndarray) -> None:
    """Record a plane along the beam, and mark the pixels within 1.5 Å of it.

    Args:
        scene: What is put together.
        kind: What the plane is.
        point: A point of it [Å], shape (3,).
        normal: Its unit normal, shape (3,).
        **vectors: What else describes it.
    """
    steps = np.arange(scene.size) * scene.pixel_size
    distances = (steps[:, None] - point[0]) * normal[0] + (steps - point[1]) * normal[1]
    width = max(1.5, scene.pixel_size)
    record_defect(scene, kind, point, np.abs(distances) <= width, normal=normal, **vectors)


def record_defect(scene: Scene, kind: str, point: np.ndarray, pixels: np.ndarray, **vectors: np.ndarray) -> None:
    """Add an extended defect to the truth.

    Args:
        scene: What is put together.
        kind: What the defect is.
        point: A point of it [Å], shape (3,).
        pixels: Where it is seen, bool, shape (S, S).
        **vectors: What describes it.
    """
    described = {name: tuple(float(x) for x in np.atleast_1d(vector)) for name, vector in vectors.items()}
    scene.defects.append(Defect(kind, scene.pixels(point), described))
    scene.mask("defects")[pixels] = len(scene.defects)


def shell(scene: Scene, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box of a scene, wider by the parts of a shift for atoms that displacements bring in [Å]."""
    across = float(np.hypot(shift[0], shift[1]))
    wider = np.array([across, across, abs(float(shift[2]))])
    return scene.low - wider, scene.high + wider


def within(scene: Scene, positions: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions and the numbers of those atoms that lie in the box of a scene."""
    keep = np.all((positions >= scene.low) & (positions <= scene.high), axis=1)
    return positions[keep], numbers[keep]
