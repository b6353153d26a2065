from __future__ import annotations

import numpy as np
import pytest

from adaptive_scan.specimens import nanoparticles as module
from adaptive_scan.specimens.nanoparticles import nanoparticles


def no_films(n_crops: int, crop_size: int, rng: np.random.Generator) -> np.ndarray:
    return np.zeros((n_crops, crop_size, crop_size), np.float32)


def test_particles_lie_on_an_otherwise_empty_support(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.setattr(module, "amorphous_films", no_films)

    pictures = nanoparticles(200, 64, rng)

    covered = (pictures > 0.0).mean(axis=(1, 2))
    assert pictures.min() == 0.0
    assert (covered > 0.0).mean() > 0.95
    assert 0.1 < np.median(covered) < 0.6


def test_columns_are_inside_their_particles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "amorphous_films", no_films)
    seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def no_columns(pictures: np.ndarray, owners: np.ndarray, thickness: np.ndarray, *_: object) -> None:
        seen.append((pictures, owners, thickness))

    monkeypatch.setattr(module, "add_crystals", no_columns)

    nanoparticles(200, 48, np.random.default_rng(5))

    ((pictures, owners, thickness),) = seen
    assert np.all(pictures[owners][thickness > 0.0] > 0.0)
    has_particle = (pictures > 0.0).any(axis=(1, 2))
    resolved = np.zeros(200, bool)
    resolved[owners] = True
    assert resolved[has_particle].mean() == pytest.approx(0.75, abs=0.1)
