from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from adaptive_scan.evaluation.resolution import (
    THRESHOLD,
    RingSums,
    frc_cutoff,
    ring_correlation,
    ring_frequencies,
    ring_sums,
)


def obvious_sums(completion: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rings coefficient by coefficient, with the transform written out; shape (3, n_rings)."""
    size = len(target)
    steps = np.arange(size)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (steps + 0.5) / size)
    window = hann[:, None] * hann[None, :]
    first, second = (window * (p - p.mean()) for p in (completion, target))
    sums = np.zeros((3, size // 2))
    for u in range(-(size // 2), (size + 1) // 2):
        for v in range(-(size // 2), (size + 1) // 2):
            wave = np.exp(-2j * np.pi * (u * steps[:, None] + v * steps[None, :]) / size)
            ring = round(np.hypot(u, v))
            if 1 <= ring <= size // 2:
                c, x = np.sum(first * wave), np.sum(second * wave)
                sums[:, ring - 1] += (c * np.conj(x)).real, abs(c) ** 2, abs(x) ** 2
    return sums


@pytest.mark.parametrize("size", [9, 12])
def test_sums_equal_those_of_the_transform_written_out(size: int, rng: np.random.Generator) -> None:
    targets = rng.normal(size=(3, size, size))
    completions = targets + rng.normal(size=targets.shape)
    expected = sum(obvious_sums(c, x) for c, x in zip(completions, targets, strict=True))
    np.testing.assert_allclose(ring_sums(completions, targets), expected, rtol=1e-10)


def test_identical_pictures_correlate_fully_up_to_the_nyquist_frequency(rng: np.random.Generator) -> None:
    pictures = gaussian_filter(rng.normal(size=(4, 48, 48)), (0, 1, 1))
    correlations = ring_correlation(*ring_sums(pictures, pictures))
    np.testing.assert_allclose(correlations, np.ones(24), atol=1e-12)
    assert frc_cutoff(pictures, pictures).tolist() == [0.5] * 4
    assert ring_frequencies(48)[-1] == 0.5
    assert ring_frequencies(49)[-1] == 24 / 49


def test_neither_contrast_nor_brightness_counts(rng: np.random.Generator) -> None:
    targets = rng.normal(size=(4, 16, 16))
    np.testing.assert_allclose(ring_correlation(*ring_sums(0.3 * targets + 5.0, targets)), np.ones(8), atol=1e-12)


@pytest.mark.parametrize("edge", [6, 10, 16])
def test_cutoff_of_a_copy_without_higher_frequencies_is_the_edge_of_its_band(
    edge: int, rng: np.random.Generator
) -> None:
    size, n = 48, 40
    targets = rng.normal(size=(n, size, size))
    frequencies = np.fft.fftfreq(size, 1 / size)
    passed = np.hypot(frequencies[:, None], frequencies) <= edge
    completions = np.fft.ifft2(np.fft.fft2(targets) * passed).real
    correlations = ring_correlation(*ring_sums(completions, targets))
    # The window mixes coefficients up to 2 px apart in each direction.
    np.testing.assert_allclose(correlations[: edge - 3], 1.0, atol=1e-2)
    assert np.all(correlations[edge + 3 :] < THRESHOLD)
    assert abs(np.mean(frc_cutoff(completions, targets)) - edge / size) < 2.5 / size


def test_independent_noise_lowers_the_correlation_by_the_share_of_its_power(rng: np.random.Generator) -> None:
    # <c conj(x)> = P, <|c|^2> = P (1 + r): the correlation is 1 / sqrt(1 + r) in every ring.
    targets = rng.normal(size=(600, 16, 16))
    for ratio in (0.25, 3.0, 48.0):
        completions = targets + np.sqrt(ratio) * rng.normal(size=targets.shape)
        correlations = ring_correlation(*ring_sums(completions, targets))
        np.testing.assert_allclose(correlations, 1 / np.sqrt(1 + ratio), atol=0.05)
    assert 1 / np.sqrt(1 + 48.0) == pytest.approx(THRESHOLD)


def test_window_keeps_the_jump_between_borders_out_of_high_frequencies(rng: np.random.Generator) -> None:
    # Two pictures share a ramp and nothing else; only its own low frequencies may correlate.
    ramp = np.linspace(-1, 1, 48)[:, None] * np.ones(48)
    noise = 0.02 * rng.normal(size=(2, 200, 48, 48))
    correlations = ring_correlation(*ring_sums(ramp + noise[0], ramp + noise[1]))
    assert correlations[0] > 0.99
    assert np.abs(correlations[9:]).max() < 0.03
    spectra = [np.fft.fft2(ramp + n) for n in noise]
    axis = np.sum((spectra[0] * spectra[1].conj()).real, axis=0)[10:24, 0]
    powers = [np.sum(np.abs(s) ** 2, axis=0)[10:24, 0] for s in spectra]
    assert np.min(axis / np.sqrt(powers[0] * powers[1])) > 0.5


def test_sums_of_batches_add_up_and_cutoffs_are_those_of_single_pictures(rng: np.random.Generator) -> None:
    targets = rng.normal(size=(6, 20, 20))
    completions = gaussian_filter(targets, (0, 1.5, 1.5)) + 0.1 * rng.normal(size=targets.shape)
    parts = [ring_sums(completions[k : k + 2], targets[k : k + 2]) for k in (0, 2, 4)]
    added = RingSums(*(sum(kind) for kind in zip(*parts, strict=True)))
    np.testing.assert_allclose(added, ring_sums(completions, targets), rtol=1e-12)
    singly = [float(frc_cutoff(c[None], x[None])[0]) for c, x in zip(completions, targets, strict=True)]
    assert frc_cutoff(completions, targets).tolist() == singly


def test_cutoff_is_the_first_crossing_by_linear_interpolation(rng: np.random.Generator) -> None:
    targets = rng.normal(size=(20, 16, 16))
    completions = targets + 1.5 * rng.normal(size=targets.shape)
    frequencies, checked = ring_frequencies(16), 0
    for completion, target, found in zip(completions, targets, frc_cutoff(completions, targets, 0.4), strict=True):
        curve = ring_correlation(*obvious_sums(completion, target))
        below = [k for k in range(len(curve)) if curve[k] < 0.4]
        if below and below[0] > 0:
            k = below[0]
            assert frequencies[k - 1] < found <= frequencies[k]
            assert np.interp(found, frequencies, curve) == pytest.approx(0.4)
            checked += 1
        else:
            assert found == (0.0 if below else 0.5)
    assert checked >= 5


@given(size=st.integers(4, 33), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 999))
def test_correlations_and_cutoffs_stay_in_their_ranges(size: int, scale: float, seed: int) -> None:
    first, second = np.random.default_rng(seed).normal(size=(2, 2, size, size))
    sums = ring_sums(first, second)
    correlations = ring_correlation(*sums)
    assert correlations.shape == (size // 2,)
    assert np.all(np.abs(correlations) <= 1)
    np.testing.assert_allclose(ring_correlation(*ring_sums(scale * first, second)), correlations, atol=1e-9)
    cutoffs = frc_cutoff(first, second)
    assert np.all((cutoffs >= 0) & (cutoffs <= 0.5))


def test_uniform_completion_shows_nothing(rng: np.random.Generator) -> None:
    targets = rng.normal(size=(3, 24, 24)).astype(np.float32)
    uniform = np.full_like(targets, 0.1)
    assert ring_correlation(*ring_sums(uniform, targets)).tolist() == [0.0] * 12
    assert frc_cutoff(uniform, targets).tolist() == [0.0] * 3


def test_large_batches_in_blocks_are_the_same(rng: np.random.Generator) -> None:
    targets = rng.normal(size=(3, 700, 700)).astype(np.float32)
    completions = np.roll(targets, 1, axis=1)
    together = ring_sums(completions, targets)
    singly = [ring_sums(c[None], x[None]) for c, x in zip(completions, targets, strict=True)]
    np.testing.assert_allclose(together, np.sum(singly, axis=0), rtol=1e-12)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"completions \(2, 8, 8\) and targets \(1, 8, 8\); expected both"):
        ring_sums(np.zeros((2, 8, 8)), np.zeros((1, 8, 8)))
    with pytest.raises(ValueError, match="S >= 4"):
        frc_cutoff(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match=r"threshold: got 1.0; expected a correlation in \(0, 1\)"):
        frc_cutoff(np.zeros((2, 8, 8)), np.zeros((2, 8, 8)), 1.0)
