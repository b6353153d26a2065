"""Table 2 of the supersampling paper: what is kept, how errors are counted and summed up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from adaptive_scan.generators.completers import make_completer
from adaptive_scan.micrographs import blur_target
from studies.supersampling_scores import (
    STRIDES,
    CellCompleter,
    downsample_nearest,
    supersampling_errors,
    supersampling_scores,
)


@pytest.mark.parametrize("stride", STRIDES)
def test_downsampling_keeps_every_pixel_at_the_stride_from_the_first_on(stride: int, rng: np.random.Generator) -> None:
    crops = rng.uniform(-1, 1, (2, 53, 53)).astype(np.float32)
    scans = downsample_nearest(crops, stride).numpy()
    assert scans[:, 1].sum() == 2 * math.ceil(53 / stride) ** 2
    for row in range(53):
        for column in range(53):
            kept = row % stride == 0 and column % stride == 0
            assert (scans[:, 1, row, column] == kept).all()
            np.testing.assert_array_equal(scans[:, 0, row, column], crops[:, row, column] * kept)


@pytest.mark.parametrize("stride", [0, 8])
def test_strides_that_leave_nothing_to_supersample_are_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=f"stride: got {stride} px for crops of 8 px; expected 1 to 7 px"):
        downsample_nearest(np.zeros((1, 8, 8)), stride)


def test_cells_are_resized_as_pillow_does_it(rng: np.random.Generator) -> None:
    crops = rng.uniform(-1, 1, (1, 60, 60)).astype(np.float32)
    found = CellCompleter("bilinear")(downsample_nearest(crops, 5))[0, 0].numpy()
    expected = Image.fromarray(crops[0, ::5, ::5].copy()).resize((60, 60), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(found, np.asarray(expected), atol=1e-6)


def test_cells_shift_a_ramp_by_half_a_cell_and_measured_places_do_not() -> None:
    ramp = np.tile(np.linspace(-1.0, 1.0, 64, dtype=np.float32), (1, 64, 1))
    step = 2.0 / 63
    inside = (0, 0, slice(8, 48), slice(8, 48))
    scans = downsample_nearest(ramp, 8)
    shifted = CellCompleter("bilinear")(scans)[inside].numpy()
    np.testing.assert_allclose(shifted, ramp[0, 8:48, 8:48] - 3.5 * step, atol=1e-6)
    np.testing.assert_allclose(make_completer("bilinear")(scans)[inside].numpy(), ramp[0, 8:48, 8:48], atol=1e-6)


def test_area_is_nearest_by_cells_where_the_stride_divides_the_side(rng: np.random.Generator) -> None:
    # As in the published table: equal at 1/16 and 1/64 of 512 px, different at 1/25.
    crops = rng.uniform(-1, 1, (1, 64, 64)).astype(np.float32)
    methods = {name: CellCompleter(name) for name in ("nearest", "area")}
    nearest, area = supersampling_errors(crops, methods, [4, 5, 8])[:, :, 0]
    np.testing.assert_allclose(area[[0, 2]], nearest[[0, 2]], rtol=1e-6)
    assert area[1] < 0.99 * nearest[1]


@pytest.mark.parametrize("blur", [True, False])
def test_errors_are_mean_squares_on_zero_to_one_against_blurred_targets(blur: bool, rng: np.random.Generator) -> None:
    crops = rng.uniform(-1, 1, (3, 20, 20)).astype(np.float32)

    def middle(partial_scans: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(partial_scans[:, :1])

    errors = supersampling_errors(crops, {"middle": middle}, [4, 5], blur=blur)
    targets = (blur_target(crops) if blur else crops) / 2 + 0.5
    expected = ((0.5 - targets) ** 2).mean(axis=(1, 2))
    assert errors.shape == (1, 2, 3)
    np.testing.assert_allclose(errors[0], np.tile(expected, (2, 1)), rtol=1e-5)


def test_scores_by_hand() -> None:
    errors = np.array([[[0.01, 0.04, 0.01]], [[0.04, 0.16, 0.04]]])
    groups = np.array(["a", "b", "a"])
    score, reference = supersampling_scores(errors, ["mine", "theirs"], [4], groups, reference="theirs")
    assert (score.method, score.stride) == ("mine", 4)
    assert score.rmse == pytest.approx(math.sqrt(0.02))
    assert score.rmse_of_crops == pytest.approx(0.4 / 3)
    assert score.deviation == pytest.approx(math.sqrt(math.sqrt(0.0002)))
    # Of two groups a quarter of all resamples is one twice, a quarter the other: the ends are those.
    assert score.rmse_ci95 == pytest.approx((0.1, 0.2))
    assert (score.ratio, score.ratio_ci95) == (pytest.approx(0.25), pytest.approx((0.25, 0.25)))
    assert (reference.ratio, reference.ratio_ci95) == (1.0, (1.0, 1.0))


def test_scores_without_an_interval_or_a_ratio() -> None:
    (score,) = supersampling_scores(np.zeros((1, 1, 2)), ["a"], [4], np.array(["g", "g"]), reference="a")
    assert (score.rmse, score.rmse_ci95, score.ratio, score.ratio_ci95) == (0.0, None, None, None)
    with pytest.raises(ValueError, match="reference: got 'b'; expected one of a"):
        supersampling_scores(np.zeros((1, 1, 2)), ["a"], [4], np.array(["g", "g"]), reference="b")
