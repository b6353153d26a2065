from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.evaluation.truth import (
    RESOLUTION_ANGSTROM,
    RESOLUTION_PX,
    TRUTH_METRICS,
    atom_columns,
    find_atoms,
    specimen_crops,
    truth_metrics,
)
from adaptive_scan.micrographs import blur_target
from adaptive_scan.specimens import Truth
from adaptive_scan.specimens.imaging import DEFAULT_IMAGING

SIZE, STEP = 48, 0.25


def make_truth(places: np.ndarray, *, vacancies: np.ndarray | None = None, numbers: int | np.ndarray = 79) -> Truth:
    """Single atoms at places [px]."""
    n = len(places)
    empty = np.empty((0, 2)) if vacancies is None else vacancies
    return Truth(
        "made",
        STEP,
        np.column_stack([places, np.zeros(n)]).astype(np.float32) * np.float32(STEP),
        np.broadcast_to(numbers, n).astype(np.uint8),
        np.ones(n, np.uint8),
        np.zeros(n, np.bool_),
        np.column_stack([empty, np.zeros(len(empty))]).astype(np.float32) * np.float32(STEP),
        {},
    )


def draw(places: np.ndarray, heights: float | np.ndarray = 1.0, size: int = SIZE) -> np.ndarray:
    """Gaussian atoms of 2 px at places [px], on -0.9."""
    rows, columns = np.indices((size, size))
    picture = np.full((size, size), -0.9)
    for (row, column), height in zip(places, np.broadcast_to(heights, len(places)), strict=True):
        picture += height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8.0)
    return picture


def square_lattice(spacing: float = 9.0, offset: float = 6.3) -> np.ndarray:
    steps = np.arange(offset, SIZE - 5, spacing)
    return np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)


def scores(picture: np.ndarray, truth: Truth) -> dict[str, float]:
    return {name: float(values[0]) for name, values in truth_metrics(picture[None], [truth]).items()}


@pytest.fixture
def lattice() -> np.ndarray:
    return square_lattice()


def test_picture_of_the_truth_has_all_atoms_in_their_places(lattice: np.ndarray) -> None:
    found = scores(draw(lattice), make_truth(lattice))
    assert found["atoms_missed"] == 0
    assert found["atoms_invented"] == 0
    assert found["atom_error_pm"] < 0.1 * STEP * 100
    assert np.isnan(found["defect_recall"])
    assert np.isnan(found["particle_area_error"])


def test_position_error_is_the_root_mean_square_shift_in_picometres(lattice: np.ndarray) -> None:
    shift = np.array([0.6, -0.8])
    for scale in (1.0, 2.0):
        found = scores(draw(lattice + scale * shift), make_truth(lattice))
        assert found["atom_error_pm"] == pytest.approx(scale * STEP * 100, rel=0.06)
        assert found["atoms_missed"] == 0
    halved = lattice.copy()
    halved[::2] += [0.0, 1.0]
    assert scores(draw(halved), make_truth(lattice))["atom_error_pm"] == pytest.approx(
        np.sqrt(np.mean(np.arange(len(lattice)) % 2 == 0)) * STEP * 100, rel=0.1
    )


def test_atoms_left_out_are_missed_and_atoms_added_are_invented(lattice: np.ndarray) -> None:
    truth = make_truth(lattice)
    left_out = scores(draw(lattice[3:]), truth)
    assert left_out["atoms_missed"] == pytest.approx(3 / len(lattice))
    assert left_out["atoms_invented"] == 0
    between = lattice[0] + [4.5, 4.5]
    added = scores(draw(np.vstack([lattice, between])), truth)
    assert added["atoms_missed"] == 0
    assert added["atoms_invented"] == pytest.approx(1 / (len(lattice) + 1))


def test_lattice_moved_by_half_a_spacing_is_wrong_everywhere(lattice: np.ndarray) -> None:
    found = scores(draw(lattice + 4.5), make_truth(lattice))
    assert found["atoms_missed"] == 1
    assert found["atoms_invented"] == 1
    assert np.isnan(found["atom_error_pm"])


@pytest.mark.parametrize("level", [-1.0, 0.0, 0.3])
def test_flat_completion_misses_all_and_invents_nothing(level: float, lattice: np.ndarray) -> None:
    flat = np.full((SIZE, SIZE), level) + 1e-4 * np.random.default_rng(0).normal(size=(SIZE, SIZE))
    truth = make_truth(np.delete(lattice, 12, axis=0), vacancies=lattice[12:13])
    found = scores(flat, truth)
    assert (found["atoms_missed"], found["atoms_invented"], found["defect_recall"]) == (1, 0, 0)
    assert np.isnan(found["atom_error_pm"])


@given(scale=st.floats(0.1, 1.0), offset=st.floats(-0.05, 0.05), slope=st.floats(-0.005, 0.005))
def test_contrast_and_background_do_not_matter(scale: float, offset: float, slope: float) -> None:
    lattice = square_lattice()
    picture = scale * draw(lattice) + offset + slope * np.arange(SIZE)
    found = scores(picture, make_truth(lattice))
    assert found["atoms_missed"] == 0
    assert found["atoms_invented"] == 0
    assert found["atom_error_pm"] < 0.2 * STEP * 100


def test_peaks_are_found_between_pixels() -> None:
    places = np.array([[10.25, 12.5], [30.0, 15.75], [20.4, 37.1]])
    found = find_atoms(draw(places), RESOLUTION_PX)
    found = found[np.argsort(found[:, 1])]
    np.testing.assert_allclose(found, places[np.argsort(places[:, 1])], atol=0.05)


def test_atom_halfway_between_pixels_is_one_peak() -> None:
    picture = np.zeros((32, 32))
    picture[11:13, 19:21] = 1.0
    np.testing.assert_allclose(find_atoms(picture, RESOLUTION_PX), [[11.5, 19.5]], atol=1e-6)


def test_atoms_of_a_column_count_once_at_their_centre_of_mass() -> None:
    pairs = np.array([[12.0, 12.0], [15.0, 12.0], [30.0, 30.0], [30.0, 12.0]])
    columns = atom_columns(make_truth(pairs), SIZE)
    assert columns is not None
    np.testing.assert_allclose(sorted(columns.positions.round(9).tolist()), [[13.5, 12.0], [30.0, 12.0], [30.0, 30.0]])
    heavier = atom_columns(make_truth(pairs, numbers=np.array([79, 40, 79, 79])), SIZE)
    assert heavier is not None
    share = 40**1.7 / (40**1.7 + 79**1.7)
    np.testing.assert_allclose(np.sort(heavier.positions[:, 0])[0], 12.0 + 3.0 * share, rtol=1e-9)


def test_resolution_is_that_of_the_blur_or_of_the_atoms() -> None:
    truth = make_truth(square_lattice())
    fine = dataclasses.replace(truth, pixel_size=0.05, positions=truth.positions * np.float32(0.2))
    coarse_columns, fine_columns = atom_columns(truth, SIZE), atom_columns(fine, SIZE)
    assert coarse_columns is not None
    assert coarse_columns.resolution == RESOLUTION_PX
    # 0.8 Å are 16 px, and all atoms of a lattice of 9 px become one crowd.
    assert RESOLUTION_ANGSTROM / 0.05 > 9
    assert fine_columns is None


def test_light_columns_are_neither_missed_nor_invented(lattice: np.ndarray) -> None:
    numbers = np.where(np.arange(len(lattice)) % 5 == 0, 8, 79)
    truth = make_truth(lattice, numbers=numbers)
    for height in (0.0, 0.5):
        found = scores(draw(lattice, np.where(numbers == 8, height, 1.0)), truth)
        assert found["atoms_missed"] == 0
        assert found["atoms_invented"] == 0


def test_pictures_of_crowds_and_of_no_atoms_are_not_judged(rng: np.random.Generator) -> None:
    crowd = make_truth(rng.uniform(0, SIZE, (400, 2)))
    outside = make_truth(square_lattice() + 2 * SIZE)
    support = dataclasses.replace(make_truth(square_lattice()), parts=np.zeros(25, np.uint8))
    for truth in (crowd, outside, support, make_truth(np.empty((0, 2)))):
        assert atom_columns(truth, SIZE) is None
        assert all(np.isnan(value) for value in scores(draw(square_lattice()), truth).values())


def test_atoms_at_the_edge_are_not_asked_for() -> None:
    places = np.array([[3.0, 20.0], [20.0, 20.0], [30.0, 35.0]])
    truth = make_truth(places)
    assert scores(draw(places[1:]), truth)["atoms_missed"] == 0
    assert scores(draw(places), truth)["atoms_invented"] == 0


def test_vacancies_are_recalled_where_the_gap_is_kept_and_not_where_it_is_filled(lattice: np.ndarray) -> None:
    empty = [6, 12, 18]
    truth = make_truth(np.delete(lattice, empty, axis=0), vacancies=lattice[empty])
    kept = draw(np.delete(lattice, empty, axis=0))
    assert scores(kept, truth)["defect_recall"] == 1
    assert scores(draw(lattice), truth)["defect_recall"] == 0
    assert scores(draw(np.delete(lattice, [6, 12], axis=0)), truth)["defect_recall"] == pytest.approx(2 / 3)
    # Half of the height of its neighbours is where a site counts as filled.
    for height, recall in ((0.35, 1), (0.65, 0)):
        heights = np.where(np.isin(np.arange(len(lattice)), empty), height, 1.0)
        assert scores(draw(lattice, heights), truth)["defect_recall"] == recall


def test_vacancy_that_leaves_no_gap_is_not_judged(lattice: np.ndarray) -> None:
    in_a_column = make_truth(lattice, vacancies=lattice[12:13] + 0.5)
    far_away = make_truth(lattice[:10], vacancies=np.array([[42.0, 42.0]]))
    at_the_edge = make_truth(lattice, vacancies=np.array([[2.5, 20.0]]))
    for truth in (in_a_column, far_away, at_the_edge):
        assert np.isnan(scores(draw(lattice), truth)["defect_recall"])


def particle_truth(mask: np.ndarray) -> Truth:
    return dataclasses.replace(make_truth(np.empty((0, 2))), masks={"particles": mask.astype(np.uint8)})


def test_particle_area_error_is_relative_whatever_the_background() -> None:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[8:20, 10:22] = mask[28:40, 24:36] = True
    truth = particle_truth(mask)
    slope = np.add.outer(0.004 * np.arange(SIZE), -0.003 * np.arange(SIZE))
    assert scores(np.where(mask, 0.8, -0.6) + slope, truth)["particle_area_error"] == 0
    half = mask.copy()
    half[28:] = False
    assert scores(np.where(half, 0.8, -0.6), truth)["particle_area_error"] == 0.5
    assert scores(np.full((SIZE, SIZE), 0.2), truth)["particle_area_error"] == 1.0


def test_particles_narrower_than_the_blur_are_not_judged() -> None:
    for mask in (np.eye(SIZE), np.zeros((SIZE, SIZE)), np.ones((SIZE, SIZE))):
        assert np.isnan(scores(draw(square_lattice()), particle_truth(mask))["particle_area_error"])


@pytest.mark.parametrize(
    ("family", "missed", "invented", "error"),
    [("vacancies", 0.02, 0.02, 8.0), ("stacking_fault", 0.05, 0.05, 20.0), ("points", 0.05, 0.15, 8.0)],
)
def test_blurred_targets_of_fine_pixels_score_nearly_perfectly(
    family: str, missed: float, invented: float, error: float
) -> None:
    crops, truths, _ = specimen_crops(15, SIZE, np.random.default_rng(3), [family], pixel_size=0.3)
    found = truth_metrics(blur_target(crops), truths)
    assert np.isfinite(found["atoms_missed"]).mean() > 0.7
    assert np.nanmean(found["atoms_missed"]) <= missed
    assert np.nanmean(found["atoms_invented"]) <= invented
    assert np.nanmedian(found["atom_error_pm"]) <= error


def test_targets_show_their_vacancies_and_particles() -> None:
    crops, truths, _ = specimen_crops(15, SIZE, np.random.default_rng(4), ["vacancies"], pixel_size=0.3)
    recall = truth_metrics(blur_target(crops), truths)["defect_recall"]
    assert np.isfinite(recall).sum() >= 5
    assert np.nanmean(recall) > 0.95
    crops, truths, _ = specimen_crops(20, SIZE, np.random.default_rng(4), ["boxes"])
    error = truth_metrics(blur_target(crops), truths)["particle_area_error"]
    assert np.isfinite(error).sum() >= 10
    assert np.nanmedian(error) < 0.25


def test_noise_shows_nothing_that_is_true(rng: np.random.Generator) -> None:
    crops, truths, _ = specimen_crops(12, SIZE, np.random.default_rng(5), ["vacancies"], pixel_size=0.3)
    target = truth_metrics(blur_target(crops), truths)
    noise = truth_metrics(0.3 * rng.normal(size=crops.shape), truths)
    assert np.nanmean(noise["atoms_missed"]) > 0.4
    assert np.nanmean(noise["atoms_invented"]) > 0.4
    assert np.nanmean(noise["defect_recall"]) < 0.5
    assert np.nanmedian(noise["atom_error_pm"]) > 2 * np.nanmedian(target["atom_error_pm"])


def test_scores_of_a_batch_are_those_of_its_pictures(lattice: np.ndarray) -> None:
    truths = [make_truth(lattice), particle_truth(np.indices((SIZE, SIZE)).max(axis=0) < 12)]
    pictures = np.stack([draw(lattice[4:]), draw(lattice[:1])])
    together = truth_metrics(pictures, truths)
    assert set(together) == set(TRUTH_METRICS)
    for index, truth in enumerate(truths):
        singly = truth_metrics(pictures[index : index + 1], [truth])
        for name in TRUTH_METRICS:
            np.testing.assert_array_equal(singly[name], together[name][index : index + 1])
            assert together[name].dtype == np.float64


def test_crops_are_normalised_bright_and_the_same_from_the_same_state() -> None:
    families = ["points", "plane_group_pattern", "boxes"]
    crops, truths, names = specimen_crops(30, 32, np.random.default_rng(8), families)
    again, _, names_again = specimen_crops(30, 32, np.random.default_rng(8), families)
    np.testing.assert_array_equal(crops, again)
    assert names == names_again == [truth.family for truth in truths]
    assert set(names) == set(families)
    assert crops.dtype == np.float32
    np.testing.assert_allclose(crops.min(axis=(1, 2)), -1.0, atol=1e-6)
    np.testing.assert_allclose(crops.max(axis=(1, 2)), 1.0, atol=1e-6)
    for crop, truth in zip(crops, truths, strict=True):
        if truth.family == "boxes" and (truth.masks["particles"] > 0).any():
            inside = truth.masks["particles"] > 0
            assert np.median(crop[inside]) > np.median(crop[~inside])


def test_pixel_size_is_that_of_atoms_only_and_imaging_never_inverts() -> None:
    imaging = dataclasses.replace(DEFAULT_IMAGING, inverted_share=1.0, noise_free_share=1.0, shading_share=0.0)
    for families in (["points"], ["boxes"]):
        plain, truths, _ = specimen_crops(6, 32, np.random.default_rng(9), families, pixel_size=0.4)
        recorded, _, _ = specimen_crops(6, 32, np.random.default_rng(9), families, pixel_size=0.4, imaging=imaging)
        assert {truth.pixel_size == 0.4 for truth in truths} == {families == ["points"]}
        for one, other in zip(plain, recorded, strict=True):
            assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.7


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got completions \(2, 8, 8\) for 1 truths"):
        truth_metrics(np.zeros((2, 8, 8)), [make_truth(square_lattice())])
    with pytest.raises(ValueError, match="got -1 crops of 1 families"):
        specimen_crops(-1, 32, np.random.default_rng(0), ["points"])
    with pytest.raises(ValueError, match="family: got 'gold'"):
        specimen_crops(1, 32, np.random.default_rng(0), ["gold"])
    assert specimen_crops(0, 32, np.random.default_rng(0))[0].shape == (0, 32, 32)
