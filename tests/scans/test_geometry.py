"""The geometry of adaptive scans against closed forms."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.scans import PRESETS, ScanGeometry, spacing_from_action


def slow_path(geometry: ScanGeometry, headings: np.ndarray, spacings: np.ndarray) -> np.ndarray:
    positions = np.empty((*headings.shape, geometry.n_positions, 2))
    for n in range(headings.shape[0]):
        row, column = (float(p) for p in geometry.start_position)
        for t in range(headings.shape[1]):
            step = (spacings[n, t] * math.cos(headings[n, t]), spacings[n, t] * math.sin(headings[n, t]))
            for i in range(geometry.n_positions):
                positions[n, t, i] = row + i * step[0], column + i * step[1]
            row, column = row + geometry.n_positions * step[0], column + geometry.n_positions * step[1]
    return positions


def test_default_geometry_is_the_papers() -> None:
    geometry = PRESETS["ede96"]
    assert geometry == ScanGeometry()
    assert geometry.n_positions_total == 400
    assert 1 / geometry.nominal_coverage == pytest.approx(23.04)
    assert geometry.start_position.tolist() == [48.0, 48.0]
    first = geometry.path(np.full((1, 20), math.pi / 4))[0, 0]
    np.testing.assert_allclose(first, 48.0 + np.arange(20)[:, None] * [1.0, 1.0], atol=1e-5)


def test_wide_preset_has_the_same_dose_and_free_spacing() -> None:
    wide = PRESETS["wide96"]
    assert wide.n_positions_total == PRESETS["ede96"].n_positions_total
    assert wide.has_free_spacing
    assert wide.spacing_bounds == pytest.approx((math.sqrt(2) / 2, 4 * math.sqrt(2)))
    assert wide.first_spacing == pytest.approx(2.0)


def test_quick_preset() -> None:
    quick = PRESETS["quick48"]
    assert (quick.image_size, quick.n_segments, quick.n_positions, quick.n_positions_total) == (48, 10, 10, 100)
    assert quick.first_spacing == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("is_free", [False, True])
def test_path_equals_slow_path(is_free: bool, rng: np.random.Generator) -> None:
    geometry = ScanGeometry(32, 7, 5, spacing=(0.5, 3.0) if is_free else 1.3, start=(3.0, 20.5))
    headings = rng.uniform(-7.0, 7.0, size=(4, 7))
    spacings = rng.uniform(0.5, 3.0, size=(4, 7)) if is_free else np.full((4, 7), 1.3)
    positions = geometry.path(headings, spacings if is_free else None)
    assert positions.dtype == np.float32
    np.testing.assert_array_equal(positions, slow_path(geometry, headings, spacings).astype(np.float32))


def test_free_spacing_defaults_to_the_geometric_mean() -> None:
    geometry = ScanGeometry(32, 2, 2, spacing=(1.0, 4.0))
    np.testing.assert_allclose(geometry.path(np.zeros((1, 2)))[0, :, :, 0].ravel(), [16, 18, 20, 22])


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=5), st.floats(0.1, 2.0), st.floats(1.01, 50.0))
def test_spacing_from_action_is_geometric(components: list[float], low: float, ratio: float) -> None:
    spacings = spacing_from_action(components, (low, low * ratio))
    expected = [math.exp(math.log(low) + (c + 1) / 2 * math.log(ratio)) for c in components]
    np.testing.assert_allclose(spacings, expected, rtol=1e-9)


def test_every_action_gives_an_allowed_spacing() -> None:
    geometry = PRESETS["wide96"]
    components = np.linspace(-3.0, 3.0, 80)
    spacings = spacing_from_action(components, geometry.spacing_bounds).astype(np.float32)
    assert geometry.path(np.zeros((1, 80)), spacings[None]).shape == (1, 80, 5, 2)
    assert spacings[0] == np.float32(math.sqrt(2) / 2)
    assert spacings[-1] == np.float32(4 * math.sqrt(2))


@pytest.mark.parametrize(
    "geometry",
    [ScanGeometry(), PRESETS["wide96"], ScanGeometry(16, 3, 4, 2, (1, 2), -1.0), ScanGeometry(np.int64(16))],
)
def test_settings_survive_json(geometry: ScanGeometry) -> None:
    rebuilt = ScanGeometry.from_dict(json.loads(json.dumps(geometry.to_dict())))
    assert rebuilt == geometry
    assert hash(rebuilt) == hash(geometry)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 1}, "image_size: got 1; expected an integer of at least 2"),
        ({"image_size": 96.0}, "image_size: got 96.0; expected"),
        ({"n_segments": 0}, "n_segments: got 0; expected"),
        ({"n_positions": True}, "n_positions: got True; expected"),
        ({"spacing": 0.0}, "spacing: got 0.0; expected a positive"),
        ({"spacing": float("nan")}, "spacing: got nan; expected"),
        ({"spacing": (2.0, 1.0)}, r"spacing: got \(2.0, 1.0\); expected"),
        ({"spacing": (1.0,)}, r"spacing: got \(1.0,\); expected"),
        ({"spacing": (1.0, 2.0, 3.0)}, "expected"),
        ({"spacing": ()}, r"spacing: got \(\); expected"),
        ({"spacing": "wide"}, "spacing: got 'wide'; expected"),
        ({"start": (96.0, 0.0)}, r"start: got \(96.0, 0.0\); expected .* inside \[0, 95\]"),
        ({"start": (1.0,)}, "expected"),
        ({"start": 3.0}, "start: got 3.0; expected"),
        ({"first_heading": float("inf")}, "first_heading: got inf; expected"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        ScanGeometry(**settings)
    assert "\n" not in str(refusal.value)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"geometry settings: got \['pixels'\]; expected"):
        ScanGeometry.from_dict({"pixels": 96})


def test_bad_paths_are_refused() -> None:
    fixed, free = ScanGeometry(16, 3, 4), ScanGeometry(16, 3, 4, (1.0, 2.0))
    with pytest.raises(ValueError, match=r"headings have shape \(3,\); expected \(n_scans, 3\)"):
        fixed.path(np.zeros(3))
    with pytest.raises(ValueError, match="non-finite"):
        fixed.path(np.full((1, 3), np.nan))
    with pytest.raises(ValueError, match=r"spacings hold 1\.0; expected numbers in"):
        fixed.path(np.zeros((1, 3)), np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"spacings have shape \(3,\)"):
        free.path(np.zeros((1, 3)), np.ones(3))
    for wrong in (0.9, 2.1, np.nan):
        with pytest.raises(ValueError, match=f"spacings hold {wrong}; expected numbers in"):
            free.path(np.zeros((1, 3)), np.full((1, 3), wrong))
