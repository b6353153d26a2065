"""What is known of a procedural picture: its truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Defect:
    """An extended defect.

    Attributes:
        kind: What it is, such as ``edge_dislocation``.
        position: A point of it, the centre where it has one, as (row, column) [px].
        vectors: What describes it, by name, such as a Burgers vector or a plane's normal as (row, column, height):
            lengths in Å, directions as unit vectors, angles in rad.
    """

    kind: str
    position: tuple[float, float]
    vectors: dict[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Truth:
    """What a picture of side S shows.

    Attributes:
        family: Name of the family.
        pixel_size: Side of a pixel [Å].
        positions: Atoms as (row, column, height) [Å] with the origin at the centre of the first pixel, float32, shape
            (n_atoms, 3); some lie up to their reach outside the field. None at low magnification: shape (0, 3).
        numbers: Their atomic numbers, uint8, shape (n_atoms,).
        parts: What they belong to, uint8, shape (n_atoms,): 0 the support, else the label in ``masks["grains"]``.
        displaced: Which of them were moved at random off their sites, bool, shape (n_atoms,).
        vacancies: Sites that are empty, as positions [Å], float32, shape (n_vacancies, 3).
        masks: Labels of the pixels, uint8, shape (S, S), 0 where there is nothing: ``particles``, ``grains`` and
            ``defects``, each one where the family has it; ``defects`` has the number of the record in ``defects``, from
            1, or 1 at the pixel of a vacancy in the family of that name, or the number of a crack.
        defects: Extended defects.
        specimen: What it is made of, in words: materials or symmetries.
    """

    family: str
    pixel_size: float
    positions: np.ndarray
    numbers: np.ndarray
    parts: np.ndarray
    displaced: np.ndarray
    vacancies: np.ndarray
    masks: dict[str, np.ndarray]
    defects: tuple[Defect, ...] = ()
    specimen: str = ""

    @property
    def positions_px(self) -> np.ndarray:
        """Atoms as (row, column) [px], float32, shape (n_atoms, 2)."""
        return self.positions[:, :2] / np.float32(self.pixel_size)


@dataclass(frozen=True)
class Specimen:
    """A procedural picture and its truth.

    Attributes:
        picture: Intensities before the instrument, from 0 to 1, float32, shape (S, S).
        truth: What it shows.
    """

    picture: np.ndarray
    truth: Truth
