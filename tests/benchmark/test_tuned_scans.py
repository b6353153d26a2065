"""Tuned static scans: what may be tried, what is chosen, and what is written down of it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from adaptive_scan.acquisition import make_instrument
from adaptive_scan.benchmark.tuned_scans import TUNED_FAMILIES, Axis, TunedScan, tune_static, tuned_positions
from adaptive_scan.evaluation.contenders import VALIDATION, measure, static_contenders
from adaptive_scan.evaluation.metrics import loss
from adaptive_scan.generators import make_completer
from adaptive_scan.micrographs import blur_target
from adaptive_scan.scans import ScanGeometry, partial_scans, sample, static_scan

GEOMETRY = ScanGeometry(image_size=32, n_segments=10, n_positions=8, spacing=(1.0, 5.0))
FAMILIES = sorted(TUNED_FAMILIES)
# A search of its paths takes a second each, so it is tested apart.
QUICK_FAMILIES = sorted(set(FAMILIES) - {"polygonal_spiral"})


def smooth_crops(rng: np.random.Generator, n_crops: int, size: int = 32) -> np.ndarray:
    crops = blur_target(blur_target(rng.normal(size=(n_crops, size, size)).astype(np.float32)))
    return np.clip(crops / np.abs(crops).max(axis=(1, 2), keepdims=True), -1, 1)


def mean_loss(positions: np.ndarray, crops: np.ndarray, name: str = "linear", *, blur: bool = True) -> float:
    paths = np.broadcast_to(positions, (len(crops), *positions.shape))
    scans = partial_scans(sample(crops, paths), paths, crops.shape[-1])
    completions = make_completer(name)(torch.from_numpy(scans)).numpy()[:, 0]
    return float(loss(completions, blur_target(crops) if blur else crops).mean())


@pytest.mark.parametrize("name", ["spiral", "square_spiral", "raster", "lissajous"])
def test_the_usual_parameters_are_the_static_scan_to_the_last_bit(name: str) -> None:
    defaults = TUNED_FAMILIES[name].defaults(GEOMETRY)
    found = tuned_positions(name, defaults, GEOMETRY)
    np.testing.assert_array_equal(found, static_scan(name, GEOMETRY.n_positions_total, GEOMETRY.image_size))


@given(data=st.data(), n_segments=st.integers(2, 30), n_positions=st.integers(1, 20), size=st.integers(24, 96))
def test_every_candidate_has_the_dose_and_lies_in_the_field(
    data: Any, n_segments: int, n_positions: int, size: int
) -> None:
    geometry = ScanGeometry(image_size=size, n_segments=n_segments, n_positions=n_positions)
    family = TUNED_FAMILIES[data.draw(st.sampled_from(QUICK_FAMILIES))]
    parameters = family.defaults(geometry)
    for name, axis in family.axes(geometry).items():
        values = [*axis.values, parameters[name]]
        if axis.step and not isinstance(axis.values[0], int):
            low, high = max(axis.low, min(axis.values)), min(axis.high, max(axis.values))
            values.append(data.draw(st.floats(low, high)))
        parameters[name] = data.draw(st.sampled_from(values))
    positions = tuned_positions(family.name, parameters, geometry)
    assert positions.shape == (geometry.n_positions_total, 2)
    assert positions.dtype == np.float32
    assert positions.min() >= 0
    assert positions.max() <= size - 1


@pytest.mark.parametrize("name", QUICK_FAMILIES)
def test_tuned_is_never_worse_than_the_usual_scan_nor_than_any_candidate(name: str, rng: np.random.Generator) -> None:
    crops = smooth_crops(rng, 5)
    tuned = tune_static(name, GEOMETRY, crops, make_completer("linear"), batch_size=2)
    assert len(tuned.candidates) <= 60
    assert tuned.candidates[0].parameters == TUNED_FAMILIES[name].defaults(GEOMETRY)
    assert tuned.default_loss == pytest.approx(mean_loss(static_scan(name, 80, 32), crops), rel=1e-5)
    assert tuned.loss == min(each.loss for each in tuned.candidates)
    assert tuned.loss == pytest.approx(mean_loss(tuned.positions, crops), rel=1e-5)
    tried = [tuple(each.parameters.values()) for each in tuned.candidates]
    assert len(set(tried)) == len(tried)
    # Smooth crops are oversampled along the usual scan, so there is much to win.
    assert tuned.loss < 0.8 * tuned.default_loss


@pytest.mark.parametrize(("family", "wide"), [("spiral", "wide_spiral"), ("raster", "wide_raster")])
def test_the_evenly_spread_scan_is_among_the_candidates(family: str, wide: str, rng: np.random.Generator) -> None:
    for geometry in (GEOMETRY, ScanGeometry(24, 7, 9), ScanGeometry(48, 10, 11), ScanGeometry(96, 20, 20)):
        expected = static_scan(wide, geometry.n_positions_total, geometry.image_size)
        axes, parameters = TUNED_FAMILIES[family].axes(geometry), TUNED_FAMILIES[family].defaults(geometry)
        (pitch, axis), *_ = axes.items()
        candidates = [tuned_positions(family, {**parameters, pitch: value}, geometry) for value in axis.values]
        assert any(np.array_equal(found, expected) for found in candidates)
    crops = smooth_crops(rng, 4)
    # The first dozen are all pitches in the usual direction.
    tuned = tune_static(family, GEOMETRY, crops, make_completer("linear"), n_most=14)
    assert tuned.loss <= mean_loss(static_scan(wide, 80, 32), crops) * (1 + 1e-6)


@pytest.mark.parametrize("transposed", [False, True])
def test_stripes_turn_the_raster_across_them(transposed: bool, rng: np.random.Generator) -> None:
    # White noise from row to row, constant along rows: a line down the field sees all of it, one along a row one row.
    profiles = rng.uniform(-1, 1, (4, 32)).astype(np.float32)
    crops = np.repeat(profiles[:, :, None] if transposed else profiles[:, None, :], 32, axis=2 if transposed else 1)
    tuned = tune_static("raster", GEOMETRY, crops, make_completer("nearest"), blur=False)
    assert tuned.parameters["transposed"] is transposed
    positions = tuned.positions.astype(float)
    seen = np.unique(np.round(positions[:, 0 if transposed else 1]))
    assert len(seen) > 28
    assert tuned.loss < 0.5 * mean_loss(static_scan("wide_raster", 80, 32), crops, "nearest", blur=False)
    along = [each.loss for each in tuned.candidates if each.parameters["transposed"] is not transposed]
    assert tuned.loss < 0.7 * min(along)


def test_bright_lines_at_the_edge_move_the_raster_there(rng: np.random.Generator) -> None:
    # All that there is to see lies in the first rows, where only a raster with its margins at the other edge goes.
    crops = np.zeros((3, 32, 32), dtype=np.float32)
    crops[:, 0] = rng.uniform(0.5, 1.0, (3, 32))
    tuned = tune_static("raster", GEOMETRY, crops, make_completer("nearest"), blur=False)
    assert tuned.positions[:, 0 if not tuned.parameters["transposed"] else 1].min() < 0.5


def test_nothing_to_win_leaves_the_usual_scan() -> None:
    tuned = tune_static("raster", GEOMETRY, np.zeros((2, 32, 32), np.float32), make_completer("nearest"))
    assert tuned.parameters == TUNED_FAMILIES["raster"].defaults(GEOMETRY)
    assert {each.loss for each in tuned.candidates} == {0.0}


def test_polygonal_spiral_takes_spacings_that_an_actor_may_choose(rng: np.random.Generator) -> None:
    geometry = ScanGeometry(image_size=32, n_segments=8, n_positions=5, spacing=(1.0, 4.0))
    tuned = tune_static("polygonal_spiral", geometry, smooth_crops(rng, 3), make_completer("linear"), n_most=6)
    spacing = tuned.parameters["spacing"]
    assert isinstance(spacing, float)
    assert 1.0 <= spacing <= 4.0
    assert tuned.loss <= tuned.default_loss
    segments = tuned.positions.reshape(8, 5, 2).astype(float)
    steps = np.hypot(*np.moveaxis(np.diff(segments, axis=1), -1, 0))
    np.testing.assert_allclose(steps, spacing, rtol=1e-4)
    np.testing.assert_allclose(segments[1:, 0] - segments[:-1, -1], segments[:-1, 1] - segments[:-1, 0], atol=1e-4)
    np.testing.assert_allclose(segments[0, 1] - segments[0, 0], spacing / math.sqrt(2), rtol=1e-4)
    fixed = ScanGeometry(image_size=32, n_segments=8, n_positions=5)
    assert len(tune_static("polygonal_spiral", fixed, smooth_crops(rng, 2), make_completer("linear")).candidates) == 1


def test_the_instrument_is_the_one_of_the_comparison(rng: np.random.Generator) -> None:
    crops, instrument = smooth_crops(rng, 4), make_instrument("low-dose")
    settings: dict[str, Any] = {"acquisition": instrument, "n_most": 4, "batch_size": 4}
    tuned = tune_static("raster", GEOMETRY, crops, make_completer("nearest"), seed=7, **settings)
    (raster,) = static_contenders(["raster"])

    def loss_in(stream: int) -> float:
        measured = measure(raster, crops, GEOMETRY, acquisition=instrument, seed=7, stream=stream)
        scans = partial_scans(measured.values, measured.positions, 32)
        completions = make_completer("nearest")(torch.from_numpy(scans)).numpy()[:, 0]
        return float(loss(completions, blur_target(crops)).mean())

    assert tuned.default_loss == pytest.approx(loss_in(VALIDATION), rel=1e-6)
    # The crops to test on meet faults that nothing was tuned for.
    assert tuned.default_loss != pytest.approx(loss_in(0), rel=1e-4)
    again = tune_static("raster", GEOMETRY, crops, make_completer("nearest"), seed=7, **settings)
    assert again.candidates == tuned.candidates
    other = tune_static("raster", GEOMETRY, crops, make_completer("nearest"), seed=8, **settings)
    assert other.default_loss != tuned.default_loss


def test_a_network_completes_in_evaluation_mode_and_is_left_as_it_was(rng: np.random.Generator) -> None:
    class Watched(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.modes: set[bool] = set()

        def forward(self, scans: torch.Tensor) -> torch.Tensor:
            self.modes.add(self.training)
            return scans[:, :1]

    network = Watched().train()
    tune_static("raster", GEOMETRY, smooth_crops(rng, 2), network, n_most=3)
    assert network.modes == {False}
    assert network.training


def test_a_tuned_scan_comes_back_from_json(rng: np.random.Generator) -> None:
    tuned = tune_static("square_spiral", GEOMETRY, smooth_crops(rng, 3), make_completer("nearest"), n_most=9)
    again = TunedScan.from_dict(json.loads(json.dumps(tuned.to_dict(), allow_nan=False)))
    assert (again.family, again.geometry, again.parameters) == (tuned.family, tuned.geometry, tuned.parameters)
    assert again.candidates == tuned.candidates
    assert (again.loss, again.default_loss) == (tuned.loss, tuned.default_loss)
    np.testing.assert_array_equal(again.positions, tuned.positions)
    contender = again.contender
    assert (contender.name, contender.role, contender.contiguous) == ("tuned_square_spiral", "static", True)
    assert isinstance(contender.path, np.ndarray)
    np.testing.assert_array_equal(contender.path, tuned.positions)


@hypothesis_settings(max_examples=8)
@given(n_most=st.integers(1, 30), name=st.sampled_from(QUICK_FAMILIES))
def test_no_more_candidates_than_allowed(n_most: int, name: str) -> None:
    crops = smooth_crops(np.random.default_rng(0), 1)
    tuned = tune_static(name, GEOMETRY, crops, make_completer("infill"), n_most=n_most)
    assert len(tuned.candidates) <= n_most
    assert tuned.loss <= tuned.default_loss


def test_nonsense_is_refused(rng: np.random.Generator) -> None:
    completer = make_completer("nearest")
    with pytest.raises(ValueError, match="family: got 'circle'; expected one of"):
        tune_static("circle", GEOMETRY, smooth_crops(rng, 1), completer)
    with pytest.raises(ValueError, match=r"validation crops have shape \(1, 24, 24\); expected \(n_crops, 32, 32\)"):
        tune_static("raster", GEOMETRY, smooth_crops(rng, 1, 24), completer)
    with pytest.raises(ValueError, match="completer: got completions that are not finite"):
        tune_static("raster", GEOMETRY, smooth_crops(rng, 1), lambda scans: scans[:, :1] * math.nan)
    with pytest.raises(ValueError, match="n_most: got 0; expected at least 1"):
        tune_static("raster", GEOMETRY, smooth_crops(rng, 1), completer, n_most=0)
    with pytest.raises(ValueError, match=r"parameters of 'spiral': got \['spacing'\]; expected \['phase', 'spacing'\]"):
        tuned_positions("spiral", {"spacing": 1.0}, GEOMETRY)
    with pytest.raises(ValueError, match="spacing of 'spiral': got 'wide'; expected a number"):
        tuned_positions("spiral", {"spacing": "wide", "phase": 0.0}, GEOMETRY)  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="got no key 'geometry'; expected it there"):
        TunedScan.from_dict({"family": "spiral"})


def test_every_family_says_what_it_tries_of_each_parameter() -> None:
    for name in FAMILIES:
        family = TUNED_FAMILIES[name]
        axes = family.axes(GEOMETRY)
        assert family.defaults(GEOMETRY) == {name: axis.default for name, axis in axes.items()}
        for axis in axes.values():
            assert isinstance(axis, Axis)
            assert all(value is None or axis.low <= value <= axis.high for value in axis.values)
