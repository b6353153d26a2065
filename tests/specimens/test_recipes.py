from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree

from adaptive_scan.specimens import ATOMIC_FAMILIES, FAMILIES, SPECIMEN_FAMILIES, make_specimen, procedural_crops
from adaptive_scan.specimens.contrast import ContrastSettings
from adaptive_scan.specimens.truth import Specimen

NAMES = list(SPECIMEN_FAMILIES)
WITH_ONE_DEFECT = [
    "grain_boundary",
    "twin_boundary",
    "stacking_fault",
    "antiphase_boundary",
    "edge_dislocation",
    "precipitate",
    "step_edge",
]


def drawn(family: str, seed: int, size: int = 96, pixel_size: float | None = None) -> Specimen:
    return make_specimen(family, size, np.random.default_rng(seed), pixel_size=pixel_size)


def in_field(specimen: Specimen, border: float = 0.0) -> np.ndarray:
    places = specimen.truth.positions_px
    return np.all((places >= border) & (places <= len(specimen.picture) - 1 - border), axis=1)


@settings(max_examples=60)
@given(family=st.sampled_from(NAMES), size=st.integers(16, 80), seed=st.integers(0, 2**32 - 1))
def test_every_draw_keeps_its_promises(family: str, size: int, seed: int) -> None:
    specimen = drawn(family, seed, size)
    picture, truth = specimen.picture, specimen.truth

    assert (picture.shape, picture.dtype) == ((size, size), np.float32)
    assert np.isfinite(picture).all()
    assert picture.max() == 1.0
    ratio = picture.std(dtype=np.float64) / picture.mean(dtype=np.float64)
    assert 0.01 * (1 - 1e-3) <= ratio <= 0.35 * (1 + 1e-3)
    assert truth.family == family
    assert truth.pixel_size > 0.0
    n_atoms = len(truth.positions)
    assert truth.positions.shape == (n_atoms, 3)
    assert truth.numbers.shape == truth.parts.shape == truth.displaced.shape == (n_atoms,)
    assert (n_atoms > 0) == (family in ATOMIC_FAMILIES)
    assert truth.vacancies.shape[1:] == (3,)
    for mask in truth.masks.values():
        assert (mask.shape, mask.dtype) == ((size, size), np.uint8)
    assert set(truth.masks) <= {"particles", "grains", "defects"}


@pytest.mark.parametrize("family", NAMES)
def test_seeds_repeat(family: str) -> None:
    first, again, other = (drawn(family, seed, 48) for seed in (7, 7, 8))

    np.testing.assert_array_equal(first.picture, again.picture)
    np.testing.assert_array_equal(first.truth.positions, again.truth.positions)
    assert first.truth.defects == again.truth.defects
    assert not np.array_equal(first.picture, other.picture)


def test_every_atom_of_the_truth_is_an_extremum_at_its_place_and_there_is_no_other() -> None:
    specimens = [drawn("points", seed, 128, pixel_size=0.25) for seed in range(16)]
    # The atoms of a film overlap.
    sparse = [specimen for specimen in specimens if specimen.truth.parts.all()]
    assert len(sparse) >= 8
    for specimen in sparse:
        places = specimen.truth.positions_px[in_field(specimen, 3.0)]
        picture = specimen.picture
        rows, columns = np.rint(places).astype(int).T
        # Inverted pictures have minima where others have maxima.
        signed = picture if np.median(picture[rows, columns]) > np.median(picture) else -picture
        peaks = (signed == ndimage.maximum_filter(signed, 5)) & (signed - ndimage.median_filter(signed, 31) > 0.08)
        found = np.argwhere(peaks)
        found = found[np.all((found >= 3) & (found <= 124), axis=1)]

        assert cKDTree(found).query(places)[0].max() <= 1.0
        assert cKDTree(specimen.truth.positions_px).query(found)[0].max() <= 1.0


@pytest.mark.parametrize("family", WITH_ONE_DEFECT)
def test_extended_defects_are_recorded_and_marked(family: str) -> None:
    for seed in range(6):
        truth = drawn(family, seed).truth
        (defect,) = truth.defects
        assert defect.kind == family
        mask = truth.masks["defects"]
        assert set(np.unique(mask)) == {0, 1}
        rows, columns = np.nonzero(mask)
        assert np.hypot(rows - defect.position[0], columns - defect.position[1]).min() < 8.0


def test_halves_beside_a_stacking_fault_differ_by_the_phase_of_its_vector() -> None:
    for seed in range(6):
        truth = drawn("stacking_fault", seed, 160, 0.25).truth
        (defect,) = truth.defects
        normal, shift = (np.array(defect.vectors[name]) for name in ("normal", "shift"))
        length = np.linalg.norm(shift) * np.sqrt(6.0)
        # The reflection (11-1) is made of the directions [111] and [11-2], and R = a/6 [11-2] has g . R = 2/3.
        along = shift / np.linalg.norm(shift)
        reflection = (normal / np.sqrt(3.0) + 4.0 / np.sqrt(6.0) * along) / length
        assert reflection @ shift == pytest.approx(2.0 / 3.0)
        atoms = truth.positions[truth.parts == 1].astype(float)
        beyond = (atoms - np.append(np.array(defect.position) * 0.25, 0.0)) @ normal > 0
        moved, still = (np.exp(-2j * np.pi * atoms[side] @ reflection).mean() for side in (beyond, ~beyond))
        assert min(abs(moved), abs(still)) > 0.3
        assert np.exp(1j * np.angle(moved / still)) == pytest.approx(np.exp(-4j * np.pi / 3.0), abs=0.3)


def test_halves_of_a_twin_are_mirror_images() -> None:
    for seed in range(30):
        truth = drawn("twin_boundary", seed, 128, 0.2).truth
        if truth.displaced.any() or len(truth.vacancies):
            continue
        (defect,) = truth.defects
        normal, point = np.array(defect.vectors["normal"]), np.append(np.array(defect.position) * 0.2, 0.0)
        first, second = (truth.positions[truth.parts == part].astype(float) for part in (1, 2))
        images = second - 2.0 * np.outer((second - point) @ normal, normal)
        near = np.abs((images - point)[:, :2]).max(axis=1) < 6.0
        assert near.sum() > 3
        assert cKDTree(first).query(images[near])[0].max() < 1e-3
        return
    pytest.fail("no undisturbed specimen")


def test_a_dislocation_has_an_edge_part_and_is_marked_around_its_line() -> None:
    for seed in range(8):
        truth = drawn("edge_dislocation", seed, 160, 0.25).truth
        (defect,) = truth.defects
        assert np.hypot(*defect.vectors["burgers"][:2]) > 1.0
        np.testing.assert_allclose(ndimage.center_of_mass(truth.masks["defects"] > 0), defect.position, atol=1.0)


def test_vacancies_are_missing_in_the_picture() -> None:
    depths = []
    for seed in range(12):
        specimen = drawn("vacancies", seed, 128)
        truth, picture = specimen.truth, specimen.picture
        model_radius = 0.3 / truth.pixel_size
        if model_radius < 0.6 or len(np.unique(truth.numbers)) > 1 or truth.displaced.any():
            continue
        atoms = truth.positions_px[in_field(specimen, 4.0)]
        empty = truth.vacancies[:, :2] / truth.pixel_size
        empty = empty[np.all((empty > 4) & (empty < 123), axis=1)]
        if len(empty) == 0:
            continue
        assert cKDTree(truth.positions).query(truth.vacancies)[0].min() > 1e-3
        values, holes = (ndimage.map_coordinates(picture, p.T, order=1) for p in (atoms, empty))
        background = np.median(picture)
        depths.append((values.mean() - holes.mean()) / (values.mean() - background + 1e-9))
    assert len(depths) >= 2
    assert np.median(depths) > 0.5


def test_masks_of_nanocrystals_hold_their_atoms() -> None:
    for seed in range(10):
        specimen = drawn("nanocrystals", seed, 128)
        truth = specimen.truth
        inside = in_field(specimen, 1.0) & (truth.parts > 0) & ~truth.displaced
        if not inside.any():
            continue
        rows, columns = np.rint(truth.positions_px[inside]).astype(int).T
        wide = ndimage.maximum_filter(truth.masks["particles"], 3)
        assert (wide[rows, columns] > 0).all()
        # Nowhere in the masks is a place further from an atom than a cell.
        masked = np.argwhere(truth.masks["particles"] > 0) * truth.pixel_size
        if len(masked) > 200:
            distances, _ = cKDTree(truth.positions[truth.parts > 0][:, :2]).query(masked)
            assert np.quantile(distances, 0.9) < 6.0


def test_grains_of_a_boundary_lie_where_the_mask_says() -> None:
    for seed in range(8):
        specimen = drawn("grain_boundary", seed)
        truth = specimen.truth
        inside = in_field(specimen) & (truth.parts > 0) & ~truth.displaced
        rows, columns = np.rint(truth.positions_px[inside]).astype(int).T
        away = ndimage.maximum_filter(truth.masks["defects"], 3)[rows, columns] == 0
        np.testing.assert_array_equal(truth.masks["grains"][rows, columns][away], truth.parts[inside][away])


def test_a_step_makes_one_side_thinner_by_its_height() -> None:
    for seed in range(20):
        truth = drawn("step_edge", seed, 96, 0.3).truth
        if truth.displaced.any():
            continue
        (defect,) = truth.defects
        normal, point = np.array(defect.vectors["normal"]), np.append(np.array(defect.position) * 0.3, 0.0)
        atoms = truth.positions[truth.parts == 1]
        lower = (atoms - point) @ normal > 0
        assert atoms[lower, 2].max() < atoms[~lower, 2].max()
        return
    pytest.fail("no undisturbed specimen")


def test_pixel_sizes_can_be_given_and_bad_requests_name_what_is_wrong() -> None:
    assert drawn("points", 0, 32, 0.4).truth.pixel_size == 0.4
    with pytest.raises(ValueError, match="family: got 'cheese'; expected one of space_group_crystal, "):
        drawn("cheese", 0)
    for family in ("points", "bands"):
        with pytest.raises(ValueError, match="size: got 15 px; expected at least 16 px"):
            drawn(family, 0, 15)
        with pytest.raises(ValueError, match="pixel_size: got 0; expected a length above 0 Å"):
            drawn(family, 0, 32, 0)


def test_the_fast_families_and_their_default_mixture_stay_as_they_were() -> None:
    assert not set(FAMILIES) & set(SPECIMEN_FAMILIES)
    _, names = procedural_crops(200, 16, np.random.default_rng(0))
    assert set(names.tolist()) <= set(FAMILIES)


@pytest.mark.parametrize("family", NAMES)
def test_families_with_truth_are_drawn_as_crops_where_they_are_named(family: str) -> None:
    crops, names = procedural_crops(3, 32, np.random.default_rng(0), families=["grains", family])

    assert set(names.tolist()) <= {"grains", family}
    assert crops.min() == -1.0
    assert crops.max() == 1.0


def test_contrast_ranges_are_those_of_the_paper() -> None:
    settings_now = ContrastSettings()
    assert settings_now.powers == (0.5, 1.5)
    assert settings_now.ratios == (0.01, 0.35)
    assert settings_now.widths == (0.2, 0.6)
