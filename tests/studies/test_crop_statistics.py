"""Statistics of crops against closed forms, distances against known ones, and a classifier that is honest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats

from adaptive_scan.evaluation.spectra import N_FREQUENCIES, power_spectra
from studies.crop_statistics import (
    DISTANCES,
    GRADIENT_EDGES,
    INTENSITY_EDGES,
    N_BINS,
    OCTAVE_EDGES,
    CropStatistics,
    anisotropies,
    distances,
    feature_distances,
    gradient_histograms,
    halves_by_group,
    histogram_distance,
    intensity_histograms,
    noise_by_mean,
    noise_levels,
    pooled,
    reference_distances,
    sample_distance,
    spectrum_bands,
    tell_apart,
)
from studies.realism_figure import realism_figure


def test_white_noise_has_a_flat_spectrum_at_its_variance(rng: np.random.Generator) -> None:
    noise = 0.3 * rng.standard_normal((200, 64, 64))

    spectrum = power_spectra(noise).mean(axis=0)

    # The ring of lowest frequency loses what the subtracted mean takes.
    np.testing.assert_allclose(spectrum[1:], 0.09, rtol=0.03)
    assert abs(np.polyfit(np.arange(1, N_FREQUENCIES), spectrum[1:] / 0.09, 1)[0]) < 1e-3


def test_a_sine_has_its_power_in_the_ring_of_its_frequency() -> None:
    rows = np.indices((96, 96))[0]

    spectrum = power_spectra(np.sin(2 * np.pi * rows * (26.5 / 96))[None])[0]

    assert np.argmax(spectrum) == int(26.5 / 96 * 2 * N_FREQUENCIES)
    assert spectrum[np.argmax(spectrum)] > 0.5 * spectrum.sum()


@pytest.mark.parametrize("sigma", [0.01, 0.2])
def test_gaussian_noise_is_measured_within_two_percent_whatever_plane_lies_under_it(
    rng: np.random.Generator, sigma: float
) -> None:
    plane = np.add.outer(0.01 * np.arange(96), -0.02 * np.arange(96))

    levels = noise_levels(plane + sigma * rng.standard_normal((20, 96, 96)))

    assert levels.mean() == pytest.approx(sigma, rel=0.02)


def test_atoms_on_a_tenth_of_the_picture_do_not_mislead_the_noise_level(rng: np.random.Generator) -> None:
    crops = 0.1 * rng.standard_normal((10, 96, 96))
    crops[:, :30, :30] += np.where(rng.random((10, 30, 30)) < 0.5, 1.0, -1.0)

    assert noise_levels(crops).mean() == pytest.approx(0.1, rel=0.15)


def test_shot_noise_grows_with_the_root_of_the_mean(rng: np.random.Generator) -> None:
    means = np.repeat(np.linspace(0.1, 0.9, 6), 16)[:, None] * np.ones(96)
    means = np.pad(means, 1, mode="edge")
    shot = 0.1 * np.sqrt(means) * rng.standard_normal((60, *means.shape))

    measured = pooled(noise_by_mean(2.0 * means - 1.0 + shot))

    # Blocks of mean 0.1 .. 0.9 of the range fall into the bins below; each is compared with the blocks in it.
    for intensity, level in ((0.1, 0), (0.26, 2), (0.42, 3), (0.58, 4), (0.74, 5), (0.9, 7)):
        assert measured[level] == pytest.approx(0.1 * np.sqrt(intensity), rel=0.05)
    assert np.isnan(measured[1])


@pytest.mark.parametrize("spacing", [6, 12])
def test_a_lattice_has_its_spacing_as_the_distance_of_all_features(spacing: int) -> None:
    crop = np.zeros((96, 96))
    crop[spacing // 2 :: spacing, spacing // 2 :: spacing] = 1.0

    found = feature_distances(ndimage.gaussian_filter(crop, 1.2))

    assert len(found) >= (96 // spacing - 1) ** 2
    np.testing.assert_allclose(found, spacing, atol=1.01)
    assert np.median(found) == spacing


def test_a_crop_without_two_features_has_no_distances() -> None:
    single = np.zeros((48, 48))
    single[20, 20] = 1.0

    assert feature_distances(np.zeros((48, 48))).size == 0
    assert feature_distances(single).size == 0


def test_histograms_are_those_of_numpy(rng: np.random.Generator) -> None:
    crops = rng.uniform(-1.0, 1.0, (3, 48, 48))

    intensities, gradients = intensity_histograms(crops), gradient_histograms(crops)

    for crop in range(3):
        expected = np.histogram(crops[crop], INTENSITY_EDGES)[0] / 48**2
        np.testing.assert_allclose(intensities[crop], expected, atol=1e-12)
        steepness = np.hypot(*np.gradient(crops[crop]))
        expected = np.histogram(np.minimum(steepness, GRADIENT_EDGES[-1] - 1e-9), GRADIENT_EDGES)[0] / 48**2
        np.testing.assert_allclose(gradients[crop], expected, atol=1e-12)


def test_streaks_along_rows_and_along_columns_have_opposite_anisotropy(rng: np.random.Generator) -> None:
    crops = rng.standard_normal((5, 48, 1)) + 0.1 * rng.standard_normal((5, 48, 48))

    np.testing.assert_allclose(anisotropies(crops), -anisotropies(crops.swapaxes(1, 2)), atol=1e-9)
    assert anisotropies(crops).min() > 0.5


@given(st.integers(0, 2**32 - 1))
def test_histogram_and_sample_distances_are_the_wasserstein_distance_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.dirichlet(np.ones(N_BINS), 2)
    middles = 0.5 * (OCTAVE_EDGES[1:] + OCTAVE_EDGES[:-1])

    assert histogram_distance(one, other, OCTAVE_EDGES) == pytest.approx(
        stats.wasserstein_distance(middles, middles, one, other)
    )
    normal = rng.standard_normal(4000), 1.0 + rng.standard_normal(3000)
    assert sample_distance(*normal) == pytest.approx(stats.wasserstein_distance(*normal), rel=0.01)


def test_distances_have_their_closed_forms(rng: np.random.Generator) -> None:
    noise = 0.02 * rng.standard_normal((40, 48, 48))

    quiet, loud = CropStatistics.of(noise), CropStatistics.of(4.0 * noise + 0.25)
    found = distances(quiet, loud)

    assert found["spectrum"] == pytest.approx(20.0 * np.log10(4.0), abs=1e-6)
    assert found["noise"] == pytest.approx(np.log10(4.0), abs=1e-6)
    # A shift by an eighth of the range and a widening that is symmetric about it.
    assert found["intensity"] == pytest.approx(0.125, abs=0.002)
    assert set(found) == set(DISTANCES)


def test_the_spacing_of_two_lattices_differs_by_an_octave() -> None:
    lattices = np.zeros((2, 96, 96))
    lattices[0, 4::8, 4::8] = lattices[1, 8::16, 8::16] = 1.0
    fine, coarse = (CropStatistics.of(ndimage.gaussian_filter(x, 1.5)[None]) for x in lattices)

    assert distances(fine, coarse)["spacing"] == pytest.approx(1.0, abs=0.05)


def test_pictures_without_features_or_common_levels_have_no_such_distance() -> None:
    dark, bright = (CropStatistics.of(np.full((2, 48, 48), level)) for level in (-0.9, 0.9))

    found = distances(dark, bright)

    assert found["spacing"] is None
    assert found["noise_by_mean"] is None
    assert found["intensity"] == pytest.approx(0.9, abs=1.0 / N_BINS)


def test_real_against_real_expects_less_than_shifted_sets_differ(rng: np.random.Generator) -> None:
    one = CropStatistics.of(0.1 * rng.standard_normal((40, 48, 48)))
    other = CropStatistics.of(0.15 * rng.standard_normal((40, 48, 48)))

    expected = reference_distances(one, np.repeat(np.arange(20), 2), rng)

    for name in ("spectrum", "intensity", "gradient", "noise"):
        median, upper = expected[name]
        assert 0.0 < median <= upper < (distances(one, other)[name] or 0.0)


def test_halves_keep_groups_whole(rng: np.random.Generator) -> None:
    groups = np.array(list("aabbbcddde"))

    first = halves_by_group(groups, rng)

    assert len(set(groups[first])) == 2
    assert not set(groups[first]) & set(groups[~first])


@pytest.mark.parametrize("crops_per_group", [1, 5])
def test_two_samples_of_one_distribution_are_told_apart_at_chance_and_intervals_say_so(
    rng: np.random.Generator, crops_per_group: int
) -> None:
    n, groups = 100, np.arange(100) // crops_per_group

    def sample() -> np.ndarray:
        return rng.standard_normal((n, 6)) + rng.standard_normal((n // crops_per_group, 6))[groups]

    told = [tell_apart(sample(), sample(), groups, groups, rng, n_resamples=200) for _ in range(100)]

    # A bootstrap alone holds chance in fewer than nine of ten.
    assert sum(result.interval[0] <= 0.5 <= result.interval[1] for result in told) >= 93
    assert np.mean([result.accuracy for result in told]) == pytest.approx(0.5, abs=0.02)


def test_shifted_samples_are_told_apart_as_well_as_the_best_rule_does(rng: np.random.Generator) -> None:
    first, second = rng.standard_normal((2, 400, 2))

    told = tell_apart(first, second + np.array([2.0, 0.0]), np.arange(400), np.arange(400), rng)

    # The best rule, a line half way, is right with probability Phi(1).
    assert told.accuracy == pytest.approx(stats.norm.cdf(1.0), abs=0.03)
    assert 0.5 < told.interval[0] < told.accuracy < told.interval[1]


def test_sets_of_unequal_size_have_the_same_say(rng: np.random.Generator) -> None:
    few, many = rng.standard_normal((60, 2)), rng.standard_normal((600, 2)) + np.array([2.0, 0.0])

    told = tell_apart(few, many, np.arange(60), np.arange(600), rng)

    assert told.first == pytest.approx(told.second, abs=0.12)


def test_what_only_marks_the_group_does_not_help(rng: np.random.Generator) -> None:
    # Each group has a signature of its own; with a group on both sides of a fold, memory would tell them apart.
    signatures = rng.standard_normal((40, 8))
    groups = np.repeat(np.arange(20), 10)
    first = signatures[:20][groups] + 0.01 * rng.standard_normal((200, 8))
    second = signatures[20:][groups] + 0.01 * rng.standard_normal((200, 8))

    by_group = tell_apart(first, second, groups, groups, rng)
    by_crop = tell_apart(first, second, np.arange(200), np.arange(200), rng)

    assert by_crop.accuracy > 0.95
    assert by_group.interval[0] < 0.5 < by_group.interval[1] + 0.05
    assert np.ptp(by_group.interval) > 0.15


def test_the_band_of_a_spectrum_is_as_wide_as_the_spread_of_groups_makes_it(rng: np.random.Generator) -> None:
    groups = np.repeat(np.arange(50), 4)
    spectra = rng.standard_normal(50)[groups][:, None] * np.ones(3)

    mean, low, high = spectrum_bands(spectra, groups, rng, n_resamples=4000)

    expected = 2 * 1.96 * spectra[::4, 0].std() / np.sqrt(50)
    np.testing.assert_allclose(high - low, expected, rtol=0.08)
    assert np.all((low < mean) & (mean < high))


def test_features_are_finite_where_nothing_is_found() -> None:
    features = CropStatistics.of(np.zeros((2, 48, 48))).features()

    assert np.isfinite(features).all()
    assert features.shape == (2, 77)


def test_the_figure_shows_every_set_and_refuses_other_names(rng: np.random.Generator) -> None:
    crops = {"a": rng.uniform(-1, 1, (12, 48, 48)), "b": rng.uniform(-1, 1, (2, 48, 48))}
    statistics = {name: CropStatistics.of(pictures) for name, pictures in crops.items()}
    groups = {name: np.arange(len(pictures)) for name, pictures in crops.items()}

    figure = realism_figure(crops, statistics, groups, rng)

    assert len([axes for axes in figure.axes if axes.images]) == 10 + 2
    assert [
        line.get_label() for axes in figure.axes for line in axes.lines if not line.get_label().startswith("_")
    ] == [
        "a",
        "b",
    ]
    with pytest.raises(ValueError, match=r"sets: got .*; expected the same names"):
        realism_figure(crops, statistics, {"a": groups["a"]}, rng)


@pytest.mark.parametrize("shape", [(0, 48, 48), (2, 48, 49), (2, 47, 47), (48, 48)])
def test_crops_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"crops: got shape .*; expected \(N, S, S\)"):
        CropStatistics.of(np.zeros(shape))


def test_too_few_groups_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="n_folds: got 5 for 4 groups; expected"):
        tell_apart(np.zeros((8, 1)), np.zeros((8, 1)), np.arange(8) // 2, np.arange(8), rng)
    with pytest.raises(ValueError, match="groups: got 1; expected at least 2"):
        reference_distances(CropStatistics.of(np.zeros((2, 48, 48))), np.zeros(2), rng)
