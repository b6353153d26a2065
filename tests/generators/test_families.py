from __future__ import annotations

import numpy as np
import pytest

from adaptive_scan.generators import draw_positions, known_families, random_headings
from adaptive_scan.generators.families import family_positions, random_spacings
from adaptive_scan.scans import PRESETS, STATIC_SCANS, ScanGeometry, polygonal_spiral, static_scan

GEOMETRY = ScanGeometry(48, 10, 10)


def test_all_static_scans_are_known() -> None:
    assert set(known_families()) == {*STATIC_SCANS, "polygonal_spiral", "filling_path", "random_headings"}


@pytest.mark.parametrize("family", known_families())
@pytest.mark.parametrize("preset", ["quick48", "wide48"])
def test_every_family_has_the_dose_of_the_geometry(family: str, preset: str, rng: np.random.Generator) -> None:
    geometry = PRESETS[preset]
    positions = family_positions(family, geometry, 3, rng)
    assert positions.shape == (3, geometry.dose, 2)
    assert positions.dtype == np.float32
    assert np.isfinite(positions).all()


def test_fixed_families_are_those_of_the_scans_room(rng: np.random.Generator) -> None:
    spiral = family_positions("spiral", GEOMETRY, 2, rng)
    np.testing.assert_array_equal(spiral[1], static_scan("spiral", 100, 48))
    polygonal = family_positions("polygonal_spiral", GEOMETRY, 2, rng)
    expected = GEOMETRY.path(polygonal_spiral(GEOMETRY)[None]).reshape(100, 2)
    np.testing.assert_array_equal(polygonal[1], expected)


def test_what_was_handed_out_cannot_change_the_next(rng: np.random.Generator) -> None:
    for family in ("spiral", "polygonal_spiral", "filling_path"):
        assert not family_positions(family, GEOMETRY, 2, rng).flags.writeable
        drawn = draw_positions([family], GEOMETRY, 2, rng)
        drawn[:] = 0
        assert draw_positions([family], GEOMETRY, 2, rng).any()


@pytest.mark.parametrize("family", ["random", "random_headings"])
def test_scans_of_a_random_family_differ(family: str, rng: np.random.Generator) -> None:
    first, second = family_positions(family, GEOMETRY, 2, rng)
    assert np.abs(first - second).max() > 1


@pytest.mark.parametrize("preset", ["quick48", "ede96", "wide96"])
def test_random_headings_start_as_the_geometry_says_and_mostly_stay_inside(
    preset: str, rng: np.random.Generator
) -> None:
    geometry = PRESETS[preset]
    spacings = random_spacings(geometry, 300, rng)
    headings = random_headings(geometry, 300, rng, spacings)
    assert (headings[:, 0] == geometry.first_heading).all()
    positions = geometry.path(headings, spacings)
    outside = ((positions < 0) | (positions > geometry.image_size - 1)).any(axis=-1)
    assert outside.mean() < 0.05
    assert len(np.unique(headings[:, 1])) == 300


def test_random_spacings_are_log_uniform_within_the_bounds(rng: np.random.Generator) -> None:
    geometry = ScanGeometry(48, 10, 10, spacing=(1.0, 4.0))
    spacings = random_spacings(geometry, 2000, rng)
    assert spacings is not None
    assert (spacings[:, 0] == 2.0).all()
    assert spacings.min() >= 1.0
    assert spacings.max() <= 4.0
    assert np.log(spacings[:, 1:]).mean() == pytest.approx(np.log(2.0), abs=0.02)
    assert random_spacings(GEOMETRY, 3, rng) is None


def test_mixture_draws_its_families_equally_often_and_reproducibly() -> None:
    families = ["spiral", "raster", "spiral"]
    positions = draw_positions(families, GEOMETRY, 900, np.random.default_rng(1))
    np.testing.assert_array_equal(positions, draw_positions(families, GEOMETRY, 900, np.random.default_rng(1)))
    spiral = (positions == static_scan("spiral", 100, 48)).all(axis=(1, 2))
    raster = (positions == static_scan("raster", 100, 48)).all(axis=(1, 2))
    assert (spiral | raster).all()
    assert abs(spiral.mean() - 2 / 3) < 0.06


def test_unknown_and_missing_families_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(
        ValueError, match="scans holds 'rosette'; expected some of polygonal_spiral, filling_path, random_headings"
    ):
        draw_positions(["rosette"], GEOMETRY, 2, rng)
    with pytest.raises(ValueError, match="scans holds nothing"):
        draw_positions([], GEOMETRY, 2, rng)
