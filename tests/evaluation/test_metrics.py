from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from adaptive_scan.evaluation.metrics import LARGEST_PSNR, loss, psnr, rmse, rmse_measured, rmse_unmeasured, ssim


@pytest.fixture
def pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    targets = gaussian_filter(rng.normal(size=(5, 24, 24)), (0, 2, 2))
    targets /= np.abs(targets).max()
    completions = targets + rng.normal(scale=[[[0.01]], [[0.05]], [[0.1]], [[0.2]], [[0.4]]], size=targets.shape)
    return completions.astype(np.float32), targets.astype(np.float32)


def test_constant_offset_has_closed_form_metrics() -> None:
    targets = np.zeros((3, 8, 8), dtype=np.float32)
    offsets = np.array([0.02, 0.2, 2.0])
    completions = (targets + offsets[:, None, None]).astype(np.float32)
    np.testing.assert_allclose(loss(completions, targets), 10 * offsets**2, rtol=1e-6)
    np.testing.assert_allclose(rmse(completions, targets), offsets / 2, rtol=1e-6)
    np.testing.assert_allclose(psnr(completions, targets), [40.0, 20.0, 0.0], atol=1e-5)


def test_rmse_is_the_reference_s_conversion_of_the_loss(pair: tuple[np.ndarray, np.ndarray]) -> None:
    # REFERENCE: RMSE on [0, 1] = 0.158 sqrt(E), exactly sqrt(1/40).
    np.testing.assert_allclose(rmse(*pair), np.sqrt(loss(*pair) / 40), rtol=1e-12)
    assert round(np.sqrt(1 / 40), 3) == 0.158


def test_rmse_and_psnr_are_those_of_the_pictures_on_the_unit_scale(pair: tuple[np.ndarray, np.ndarray]) -> None:
    completions, targets = (np.asarray(p, dtype=np.float64) / 2 + 0.5 for p in pair)
    for index in range(len(targets)):
        error = np.mean((completions[index] - targets[index]) ** 2)
        assert rmse(*pair)[index] == pytest.approx(np.sqrt(error), rel=1e-9)
        assert psnr(*pair)[index] == pytest.approx(10 * np.log10(1 / error), rel=1e-9)


def test_identical_completion_has_the_largest_psnr_and_full_similarity(pair: tuple[np.ndarray, np.ndarray]) -> None:
    targets = pair[1]
    assert psnr(targets, targets).tolist() == [LARGEST_PSNR] * 5
    assert psnr(targets + np.float64(1e-7), targets).max() == LARGEST_PSNR
    assert ssim(targets, targets).tolist() == [1.0] * 5
    assert loss(targets, targets).tolist() == [0.0] * 5


def test_ssim_equals_the_formula_written_out(pair: tuple[np.ndarray, np.ndarray]) -> None:
    def mean(picture: np.ndarray) -> np.ndarray:
        return gaussian_filter(picture, 1.5, truncate=3.5, mode="reflect")

    for x, y, score in zip(*(p.astype(np.float64) for p in pair), ssim(*pair), strict=True):
        c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
        mx, my = mean(x), mean(y)
        vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
        similarity = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        assert score == pytest.approx(similarity[5:-5, 5:-5].mean(), abs=1e-5)


def test_ssim_falls_with_noise_and_is_symmetric(pair: tuple[np.ndarray, np.ndarray]) -> None:
    scores = ssim(*pair)
    assert np.all(np.diff(scores) < 0)
    assert scores[0] > 0.95
    np.testing.assert_allclose(ssim(*pair[::-1]), scores, atol=1e-6)


@given(side=st.integers(7, 14), seed=st.integers(0, 1000))
def test_ssim_fits_every_side_from_seven_px(side: int, seed: int) -> None:
    pictures = np.random.default_rng(seed).uniform(-1, 1, (2, 1, side, side))
    assert ssim(pictures[0], pictures[0])[0] == pytest.approx(1.0)
    assert -1 <= ssim(pictures[0], pictures[1])[0] < 0.9


def test_batch_is_the_single_scans_one_by_one(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for function in (loss, rmse, psnr, ssim):
        together = function(*pair)
        assert together.dtype == np.float64
        assert together.tolist() == [float(function(x[None], y[None])[0]) for x, y in zip(*pair, strict=True)]


def test_wrong_shapes_are_refused_with_both_named() -> None:
    with pytest.raises(ValueError, match=r"completions \(2, 8, 8\) and targets \(1, 8, 8\); expected both"):
        loss(np.zeros((2, 8, 8)), np.zeros((1, 8, 8)))
    with pytest.raises(ValueError, match=r"got completions \(8, 8\)"):
        psnr(np.zeros((8, 8)), np.zeros((8, 8)))
    with pytest.raises(ValueError, match="got pictures of 6 x 6 px; expected at least 7 x 7"):
        ssim(np.zeros((1, 6, 6)), np.zeros((1, 6, 6)))


def test_errors_of_measured_and_unmeasured_pixels_are_those_of_pixels_picked_one_by_one(
    pair: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> None:
    completions, targets = (p.astype(np.float64) for p in pair)
    masks = (rng.uniform(size=targets.shape) < 0.1).astype(np.float32)
    for index in range(len(targets)):
        for function, wanted in ((rmse_measured, 1.0), (rmse_unmeasured, 0.0)):
            squares = [
                (completions[index, row, column] - targets[index, row, column]) ** 2
                for row, column in np.argwhere(masks[index] == wanted)
            ]
            found = function(completions, targets, masks)[index]
            assert found == pytest.approx(0.5 * np.sqrt(sum(squares) / len(squares)), rel=1e-12)


@given(coverage=st.floats(0.0, 1.0), seed=st.integers(0, 1000))
def test_squared_errors_of_both_kinds_of_pixels_add_up_to_those_of_all(coverage: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    completions, targets = rng.uniform(-1, 1, (2, 3, 8, 8))
    masks = rng.uniform(size=targets.shape) < coverage
    n_measured = masks.sum(axis=(1, 2))
    shares = np.stack([n_measured, 64 - n_measured]) / 64
    parts = np.stack([rmse_measured(completions, targets, masks), rmse_unmeasured(completions, targets, masks)])
    assert np.array_equal(np.isnan(parts), shares == 0)
    total = np.sum(shares * np.nan_to_num(parts) ** 2, axis=0)
    np.testing.assert_allclose(np.sqrt(total), rmse(completions, targets), rtol=1e-12)


def test_values_of_pixels_of_the_other_kind_do_not_count() -> None:
    masks = np.zeros((2, 8, 8), dtype=bool)
    masks[:, :4] = True
    completions = np.where(masks, 0.2, np.array([0.6, np.nan])[:, None, None])
    targets = np.zeros_like(completions)
    assert rmse_measured(completions, targets, masks) == pytest.approx([0.1, 0.1])
    assert rmse_unmeasured(completions, targets, masks)[0] == pytest.approx(0.3)


def test_masks_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got masks \(1, 8, 8\); expected \(2, 8, 8\)"):
        rmse_measured(np.zeros((2, 8, 8)), np.zeros((2, 8, 8)), np.zeros((1, 8, 8)))
