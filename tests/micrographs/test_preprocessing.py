"""Normalisation, blur, downsampling and symmetries against closed forms and slow versions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import signal

from adaptive_scan.micrographs import apply_symmetry, area_downsample, blur_target, gaussian_kernel, normalise


class TestNormalise:
    def test_values(self):
        crop = np.array([[1.0, 2.0], [3.0, 5.0]])
        np.testing.assert_array_equal(normalise(crop), np.float32([[-1.0, -0.5], [0.0, 1.0]]))

    def test_each_crop_by_its_own_extremes(self):
        crops = np.array([[[0, 4], [2, 1]], [[100, 300], [200, 100]]], dtype=np.uint16)
        expected = np.float32([[[-1, 1], [0, -0.5]], [[-1, 1], [0, -1]]])
        np.testing.assert_array_equal(normalise(crops), expected)

    def test_non_finite_values_count_as_zero(self):
        crop = np.array([[np.nan, np.inf], [-np.inf, 4.0]])
        np.testing.assert_array_equal(normalise(crop), np.float32([[-1, -1], [-1, 1]]))

    def test_uniform_crops_become_zero_and_others_stay(self):
        crops = np.stack([np.full((2, 2), 7.0), [[0.0, 9e-7], [0, 0]], [[0.0, 2e-6], [0, 0]], np.full((2, 2), np.nan)])
        result = normalise(crops)
        assert not result[[0, 1, 3]].any()
        np.testing.assert_array_equal(result[2], np.float32([[-1, 1], [-1, -1]]))

    def test_range_beyond_float32(self):
        crop = np.array([[-3e38, 0.0], [3e38, 3e38]], dtype=np.float32)
        np.testing.assert_allclose(normalise(crop), [[-1, 0], [1, 1]], atol=1e-6)

    def test_input_is_left_alone(self):
        crop = np.array([[np.nan, 1.0], [2.0, 3.0]], dtype=np.float32)
        before = crop.copy()
        result = normalise(crop)
        np.testing.assert_array_equal(crop, before)
        assert not np.shares_memory(result, crop)

    @pytest.mark.parametrize("shape", [(5,), (2, 0, 4), ()])
    def test_refuses_what_is_no_picture(self, shape: tuple[int, ...]):
        with pytest.raises(ValueError, match="expected"):
            normalise(np.zeros(shape))

    @given(hnp.arrays(np.float32, (2, 3, 4), elements=st.floats(width=32)))
    def test_every_input_gives_extremes_of_one_or_zero(self, crops: np.ndarray):
        result = normalise(crops)
        assert result.dtype == np.float32
        assert np.isfinite(result).all()
        for crop in result:
            assert not crop.any() or (crop.min() == -1.0 and crop.max() == 1.0)


class TestBlur:
    def test_kernel_is_the_normalised_gaussian(self):
        taps = np.exp([-4 / 12.5, -1 / 12.5, 0.0, -1 / 12.5, -4 / 12.5])
        np.testing.assert_allclose(gaussian_kernel(), taps / taps.sum(), rtol=1e-6)
        assert gaussian_kernel(7, 1.0).shape == (7,)

    @pytest.mark.parametrize(("size", "sigma"), [(4, 1.0), (0, 1.0), (-3, 1.0), (5, 0.0), (5, float("nan"))])
    def test_refuses_kernels_that_are_none(self, size: int, sigma: float):
        with pytest.raises(ValueError, match="expected"):
            gaussian_kernel(size, sigma)

    def test_equals_convolution_of_the_mirrored_crop(self, rng: np.random.Generator):
        crops = rng.standard_normal((3, 12, 12)).astype(np.float32)
        kernel = np.outer(gaussian_kernel(), gaussian_kernel())
        padded = np.pad(crops, ((0, 0), (2, 2), (2, 2)), mode="reflect")
        expected = [signal.convolve2d(crop, kernel, mode="valid") for crop in padded]
        result = blur_target(crops)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, atol=1e-6)

    def test_one_tap_changes_nothing(self, rng: np.random.Generator):
        crop = rng.random((6, 6), dtype=np.float32)
        np.testing.assert_array_equal(blur_target(crop, size=1), crop)


class TestAreaDownsample:
    def test_means_and_trimmed_remainder(self):
        picture = np.arange(35.0).reshape(5, 7)
        slow = [[picture[2 * r : 2 * r + 2, 3 * 0 :][:, 2 * c : 2 * c + 2].mean() for c in range(3)] for r in range(2)]
        np.testing.assert_array_equal(area_downsample(picture, 2), np.float32(slow))

    def test_batch_and_factor_one(self, rng: np.random.Generator):
        pictures = rng.random((2, 6, 6), dtype=np.float32)
        np.testing.assert_array_equal(area_downsample(pictures, 1), pictures)
        np.testing.assert_allclose(area_downsample(pictures, 6)[:, 0, 0], pictures.mean(axis=(1, 2)), rtol=1e-6)

    def test_integers_do_not_wrap(self):
        assert area_downsample(np.full((2, 2), 65535, dtype=np.uint16), 2)[0, 0] == 65535.0

    @pytest.mark.parametrize("factor", [0, -1, 5])
    def test_refuses_factors_out_of_range(self, factor: int):
        with pytest.raises(ValueError, match="expected 1 to 4"):
            area_downsample(np.zeros((4, 6)), factor)


class TestSymmetry:
    def test_all_eight_are_different_and_named_as_documented(self):
        crop = np.arange(9).reshape(3, 3)
        turned = [apply_symmetry(crop, number) for number in range(8)]
        assert len({picture.tobytes() for picture in turned}) == 8
        np.testing.assert_array_equal(turned[0], crop)
        np.testing.assert_array_equal(turned[3], np.rot90(crop, 3))
        np.testing.assert_array_equal(turned[4], crop.T)
        np.testing.assert_array_equal(turned[6], np.rot90(crop.T, 2))

    def test_one_per_crop_equals_one_by_one(self, rng: np.random.Generator):
        crops = rng.random((16, 5, 5), dtype=np.float32)
        numbers = rng.integers(8, size=16)
        expected = [apply_symmetry(crop, int(number)) for crop, number in zip(crops, numbers, strict=True)]
        np.testing.assert_array_equal(apply_symmetry(crops, numbers), expected)

    def test_channels_turn_together(self, rng: np.random.Generator):
        crops = rng.random((3, 2, 4, 4), dtype=np.float32)
        result = apply_symmetry(crops, np.array([5, 0, 2]))
        np.testing.assert_array_equal(result[:, 1], apply_symmetry(crops[:, 1], np.array([5, 0, 2])))

    def test_result_is_fresh_and_contiguous(self):
        crop = np.zeros((4, 4))
        for number in (0, 4):
            result = apply_symmetry(crop, number)
            assert not np.shares_memory(result, crop)
            assert result.flags.c_contiguous

    @pytest.mark.parametrize(
        ("shape", "symmetry"), [((4, 4), 8), ((4, 4), -1), ((4, 5), 1), ((2, 4, 4), np.array([1])), ((4,), 0)]
    )
    def test_refuses(self, shape: tuple[int, ...], symmetry: int | np.ndarray):
        with pytest.raises(ValueError, match="expected"):
            apply_symmetry(np.zeros(shape), symmetry)
