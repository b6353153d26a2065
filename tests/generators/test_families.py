from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.generators import known_families
from adaptive_scan.generators.families import (
    dose_of,
    draw_positions,
    draw_scans,
    family_positions,
    random_headings,
    random_spacings,
)
from adaptive_scan.scans import PRESETS, STATIC_SCANS, ScanGeometry, polygonal_spiral, static_scan

GEOMETRY = ScanGeometry(48, 10, 10)


def test_all_static_scans_are_known() -> None:
    assert set(known_families()) == {*STATIC_SCANS, "polygonal_spiral", "filling_path", "random_headings"}


@pytest.mark.parametrize("family", known_families())
@pytest.mark.parametrize("preset", ["quick48", "wide48"])
def test_every_family_has_the_dose_of_the_geometry(family: str, preset: str, rng: np.random.Generator) -> None:
    geometry = PRESETS[preset]
    positions = family_positions(family, geometry, 3, rng)
    assert positions.shape == (3, geometry.n_positions_total, 2)
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


def test_doses_of_coverages() -> None:
    assert [dose_of(1 / side**2, 512) for side in (4, 5, 10)] == [128**2, 10486, 2621]
    assert dose_of(1e-9, 16) == 1


def test_static_scans_draw_their_coverage_and_the_others_keep_the_dose(rng: np.random.Generator) -> None:
    families, coverages = ["spiral", "random", "filling_path"], [1 / 4, 1 / 36]
    scans = draw_scans(families, GEOMETRY, 600, rng, coverages=coverages)
    doses = np.zeros(600, dtype=int)
    for members, positions in scans.groups:
        assert positions.shape[2:] == (2,)
        doses[members] = positions.shape[1]
    np.testing.assert_array_equal(doses[scans.families == 2], 100)
    np.testing.assert_array_equal(scans.coverages[scans.families == 2], -1)
    is_static = scans.families < 2
    np.testing.assert_array_equal(doses[is_static], np.array([576, 64])[scans.coverages[is_static]])
    # 400 of 600 scans are static and half of them have each coverage: 5 standard deviations are 50.
    assert abs((doses == 576).sum() - 200) < 50
    spiral = static_scan("spiral", 64, 48)
    ((members, positions),) = [group for group in scans.groups if group[1].shape[1] == 64]
    for place in np.flatnonzero((scans.families == 0) & (doses == 64)):
        np.testing.assert_array_equal(positions[members == place][0], spiral)


def test_without_coverages_scans_are_those_that_always_were_drawn() -> None:
    """Choice of families first, then each family's scans in turn: the order that runs of before rest on."""
    families = ["random", "random_headings", "spiral"]
    drawn, slow = np.random.default_rng(3), np.random.default_rng(3)
    scans = draw_scans(families, GEOMETRY, 12, drawn)
    choice = slow.integers(3, size=12)
    expected = np.empty((12, 100, 2), dtype=np.float32)
    for index, family in enumerate(families):
        expected[choice == index] = family_positions(family, GEOMETRY, int((choice == index).sum()), slow)
    ((members, positions),) = scans.groups
    np.testing.assert_array_equal(members, np.arange(12))
    np.testing.assert_array_equal(positions, expected)
    assert drawn.bit_generator.state == slow.bit_generator.state


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 100))
def test_shares_of_all_processes_are_the_whole_batch(n_processes: int, n_each: int, seed: int) -> None:
    rng, n_scans = np.random.default_rng(seed), n_processes * n_each
    whole = draw_scans(["random", "grid"], ScanGeometry(8, 2, 4), n_scans, rng, coverages=[1 / 4, 1 / 2])
    together: dict[int, np.ndarray] = {}
    for rank in range(n_processes):
        share = whole.shared(slice(rank, None, n_processes))
        assert len(share.families) == len(share.coverages) == n_each
        for members, positions in share.groups:
            together.update(zip((rank + n_processes * members).tolist(), positions, strict=True))
    assert sorted(together) == list(range(n_scans))
    for members, positions in whole.groups:
        for place, path in zip(members.tolist(), positions, strict=True):
            np.testing.assert_array_equal(together[place], path)


def test_adaptive_scans_see_their_own_crops(rng: np.random.Generator) -> None:
    crops = rng.uniform(size=(20, 48, 48)).astype(np.float32)

    def corner(seen: np.ndarray, _: np.random.Generator) -> np.ndarray:
        return np.broadcast_to(seen[:, None, :1, 0] * np.ones((1, 100, 2)), (len(seen), 100, 2))

    families = ["adaptive", "grid"]
    scans = draw_scans(families, GEOMETRY, 20, rng, coverages=[1 / 9], paths={"adaptive": corner}, crops=crops)
    (members, positions) = next(group for group in scans.groups if group[1].shape[1] == 100)
    assert (scans.families[members] == 0).all()
    assert 0 < len(members) < 20
    np.testing.assert_allclose(positions[:, 7, 1], crops[members, 0, 0], rtol=1e-6)


def test_what_was_measured_stays_with_its_scan(rng: np.random.Generator) -> None:
    crops = np.arange(20.0, dtype=np.float32)[:, None, None] * np.ones((48, 48), np.float32)

    def measured(seen: np.ndarray, _: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(seen), 100, 2)), seen[:, 0, :1] * np.ones(100, np.float32)

    scans = draw_scans(["adaptive", "spiral"], GEOMETRY, 20, rng, paths={"adaptive": measured}, crops=crops)
    for drawn, indices in ((scans, np.arange(20)), (scans.shared(slice(1, None, 2)), np.arange(1, 20, 2))):
        ((members, positions),) = drawn.groups
        values = drawn.values[positions.shape[1]]
        is_adaptive = drawn.families[members] == 0
        assert 0 < is_adaptive.sum() < len(members)
        np.testing.assert_array_equal(values[is_adaptive, 5], indices[members][is_adaptive])
        assert np.isnan(values[~is_adaptive]).all()
    wrong = {"adaptive": lambda crops, _: (np.zeros((len(crops), 100, 2)), np.full((len(crops), 100), np.nan))}
    with pytest.raises(ValueError, match=r"values of shape \(2, 100\); expected finite \(2, 100\)"):
        draw_scans(["adaptive"], GEOMETRY, 2, rng, paths=wrong, crops=crops[:2])


def test_adaptive_scans_are_refused_without_path_crops_or_dose(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="scans holds 'adaptive'; expected some of polygonal_spiral"):
        draw_scans(["adaptive"], GEOMETRY, 2, rng)
    short = {"adaptive": lambda crops, _: np.zeros((len(crops), 99, 2))}
    with pytest.raises(ValueError, match="crops: got None with scans 'adaptive'; expected the crops"):
        draw_scans(["adaptive"], GEOMETRY, 2, rng, paths=short)
    with pytest.raises(ValueError, match=r"shape \(2, 99, 2\); expected \(2, 100, 2\)"):
        draw_scans(["adaptive"], GEOMETRY, 2, rng, paths=short, crops=np.zeros((2, 48, 48)))
