"""Spirals against their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.scans import archimedean_spiral, path_length, square_spiral


def polar(positions: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    offsets = positions.astype(float) - (size - 1) / 2
    return np.hypot(*offsets.T), np.unwrap(np.arctan2(offsets[:, 1], offsets[:, 0]))


@pytest.mark.parametrize(("n_positions", "size"), [(400, 96), (100, 48), (1024, 128), (13107, 512)])
def test_archimedean_spiral_is_one_with_equal_arcs(n_positions: int, size: int) -> None:
    positions = archimedean_spiral(n_positions, size)
    radii, angles = polar(positions, size)
    whole = radii < (size - 1) / 2 - 1
    n_whole = int(np.argmin(whole))
    assert n_whole > n_positions * 0.6
    scale = radii[n_whole // 2] / angles[n_whole // 2]
    np.testing.assert_allclose(radii[:n_whole], scale * angles[:n_whole], atol=2e-4 * size / 96)
    arcs = scale / 2 * (angles * np.sqrt(1 + angles**2) + np.arcsinh(angles))
    np.testing.assert_allclose(np.diff(arcs[:n_whole]), math.sqrt(2), rtol=2e-3)
    np.testing.assert_allclose(arcs[0], math.sqrt(2) / 2, rtol=2e-3)


def test_archimedean_spiral_of_the_papers_dose() -> None:
    positions = archimedean_spiral(400, 96)
    radii, angles = polar(positions, 96)
    pitch = 2 * math.pi * radii[100] / angles[100]
    # The arcs inside are about the area of the field over the pitch.
    assert pitch == pytest.approx(95**2 / (400 * math.sqrt(2)), rel=0.05)
    assert radii.max() > 47.5 * math.sqrt(2) - pitch / 2
    corners = np.array([(0, 0), (0, 95), (95, 0), (95, 95)])
    gaps = np.hypot(*(positions[:, None] - corners).transpose(2, 0, 1)).min(axis=0)
    assert gaps.max() < pitch


@given(n_positions=st.integers(30, 600), size=st.integers(32, 96))
def test_lost_positions_come_back_inside(n_positions: int, size: int) -> None:
    positions = archimedean_spiral(n_positions, size)
    radii, angles = polar(positions, size)
    # Re-walk the unclipped spiral of the same pitch at the same spacing: as many positions fall inside the field.
    n = max(2, int(np.argmax(radii > (size - 1) / 4)))
    scale = radii[n] / angles[n]
    spacing = scale / 2 * (angles[n] * math.hypot(1, angles[n]) + math.asinh(angles[n])) / (n + 0.5)
    assert spacing >= math.sqrt(2) * (1 - 1e-3)
    theta = np.linspace(0, math.sqrt(2) * (size - 1) / 2 / scale, 50_000)
    points = scale * theta[:, None] * np.stack((np.cos(theta), np.sin(theta)), axis=1)
    steps = np.hypot(*np.diff(points, axis=0).T)
    length_inside = steps[np.abs(points[1:]).max(axis=1) <= (size - 1) / 2].sum()
    assert length_inside / spacing == pytest.approx(n_positions, rel=5e-3)


def test_a_wider_spacing_tightens_the_pitch() -> None:
    wide, narrow = (archimedean_spiral(400, 96, spacing=spacing) for spacing in (4.5, 1.5))
    steps = np.hypot(*np.diff(wide[20:200], axis=0).T)
    np.testing.assert_allclose(steps, 4.5, rtol=0.03)
    assert polar(wide, 96)[1][-1] > 2.5 * polar(narrow, 96)[1][-1]


def test_a_dose_too_small_for_a_turn_widens_the_spacing() -> None:
    positions = archimedean_spiral(8, 128)
    _, angles = polar(positions, 128)
    assert np.hypot(*np.diff(positions[:5], axis=0).T).min() > 5
    assert 0.75 * 2 * math.pi < angles[-1] < 2 * math.pi


@given(size=st.integers(16, 128), fraction=st.floats(0.02, 0.15))
def test_square_spiral_has_right_angles_and_equal_spacing(size: int, fraction: float) -> None:
    n_positions = max(20, round(fraction * size**2))
    positions = square_spiral(n_positions, size).astype(float)
    moves = np.diff(positions, axis=0)
    straight = np.abs(moves).min(axis=1) < 1e-4
    spacing = float(np.median(np.abs(moves).sum(axis=1)))
    # Every step runs along an axis, or around one corner.
    np.testing.assert_allclose(np.abs(moves).sum(axis=1), spacing, rtol=2e-2, atol=1e-3)
    turns = n_positions * spacing / size
    assert (~straight).sum() <= 2 * turns + 3


def test_square_spiral_closed_form() -> None:
    # Two turns of pitch 4: legs 4, 4, 8, 8, 8, half a pitch from the edges of the pixels.
    positions = square_spiral(32, 12, spacing=1.0)
    assert path_length(positions[None])[0] == pytest.approx(31 - 4 * (1 - math.sqrt(0.5)), abs=1e-5)
    assert positions.min(axis=0).tolist() == [1.5, 1.5]
    assert positions.max(axis=0).tolist() == [9.5, 9.5]
    np.testing.assert_allclose(positions[:4], [[6, 5.5], [7, 5.5], [8, 5.5], [9, 5.5]], atol=1e-6)


@given(n_positions=st.integers(30, 500), size=st.integers(32, 96), phase=st.floats(-10, 10), share=st.floats(0.3, 1.0))
def test_a_phase_turns_the_archimedean_spiral(n_positions: int, size: int, phase: float, share: float) -> None:
    positions = archimedean_spiral(n_positions, size, spacing=share * size / math.sqrt(n_positions), phase=phase)
    assert positions.shape == (n_positions, 2)
    assert positions.min() >= 0
    assert positions.max() <= size - 1
    # Every position lies on r = scale theta, theta being its direction less the phase, whole turns added.
    offsets = positions.astype(float) - (size - 1) / 2
    radii, turned = np.hypot(*offsets.T), np.arctan2(offsets[:, 1], offsets[:, 0]) - phase
    scale = radii[0] / (turned[0] % (2 * math.pi))
    turns = (radii / scale - turned) / (2 * math.pi)
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-3)


def test_a_quarter_turn_of_phase_turns_the_whole_scan() -> None:
    still = archimedean_spiral(400, 96, spacing=3.0, phase=0.3).astype(float) - 47.5
    turned = archimedean_spiral(400, 96, spacing=3.0, phase=0.3 + math.pi / 2).astype(float) - 47.5
    np.testing.assert_allclose(turned, np.stack((-still[:, 1], still[:, 0]), axis=1), atol=1e-4)


def test_the_arcs_of_a_turned_spiral_are_as_long_as_asked() -> None:
    for phase in (0.2, 0.7, 1.4):
        positions = archimedean_spiral(4000, 96, spacing=0.5, phase=phase)
        steps = np.hypot(*np.diff(positions, axis=0).T)
        assert float(np.median(steps)) == pytest.approx(0.5, rel=2e-3)


@given(n_turns=st.integers(1, 9), margin=st.floats(0.0, 1.5), size=st.integers(32, 96))
def test_turns_and_margin_set_the_pitch_of_a_square_spiral(n_turns: int, margin: float, size: int) -> None:
    positions = square_spiral(4000, size, n_turns=n_turns, margin=margin).astype(float)
    pitch = size / (n_turns + 2 * margin)
    reach = np.clip((size - 1) / 2 + np.array([-0.5, 0.5]) * n_turns * pitch, 0, size - 1)
    np.testing.assert_allclose([positions.min(), positions.max()], reach, atol=0.1)
    length = n_turns * (n_turns + 2) * pitch
    assert path_length(positions[None])[0] <= length
    if margin * pitch > 0.5:
        assert path_length(positions[None])[0] == pytest.approx(length, rel=1e-2)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="phase: got nan; expected"):
        archimedean_spiral(10, 16, phase=math.nan)
    with pytest.raises(ValueError, match="n_turns: got 0; expected a positive integer"):
        square_spiral(10, 16, n_turns=0)
    with pytest.raises(ValueError, match=r"margin: got -0\.5; expected"):
        square_spiral(10, 16, margin=-0.5)


def test_given_turns_of_the_usual_margin_are_the_default() -> None:
    # 400 positions 1.41 px apart on 96 px make five turns: 96 * 5 * 7 / 6 = 560 px.
    np.testing.assert_array_equal(square_spiral(400, 96), square_spiral(400, 96, n_turns=5, margin=0.5))
    np.testing.assert_array_equal(archimedean_spiral(400, 96), archimedean_spiral(400, 96, phase=0.0))
