from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from adaptive_scan.evaluation import Contender
from adaptive_scan.scans import ScanGeometry
from studies.input_bits import (
    INPUT_BITS,
    STEP,
    QuantisedInput,
    decode_values,
    encode_values,
    price_of_bits,
    quantise,
)

values_of_scans = arrays(np.float32, (2, 5, 5), elements=st.floats(-1.0, 1.0, width=32))
masks_of_scans = arrays(bool, (2, 5, 5))


def scans_of(values: np.ndarray, masks: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack((values * masks, masks), axis=1).astype(np.float32))


@given(values_of_scans, masks_of_scans)
def test_8_bits_move_no_value_by_more_than_half_a_step_and_leave_masks(values: np.ndarray, masks: np.ndarray) -> None:
    scans = scans_of(values, masks)
    sent = quantise(scans, 8)
    assert (sent[:, 0] - scans[:, 0]).abs().max() <= 1 / 255 + 3e-7
    assert torch.equal(sent[:, 1], scans[:, 1])
    assert (sent[:, 0][scans[:, 1] == 0] == 0).all()


@given(values_of_scans, masks_of_scans)
def test_16_bits_are_those_of_half_precision(values: np.ndarray, masks: np.ndarray) -> None:
    scans = scans_of(values, masks)
    sent = quantise(scans, 16)
    np.testing.assert_array_equal(sent[:, 0].numpy(), scans[:, 0].numpy().astype(np.float16).astype(np.float32))
    # 11 significant bits: relative error of at most 2^-11 above the smallest normal number, 2^-25 at most below.
    assert (sent[:, 0] - scans[:, 0]).abs().le((scans[:, 0].abs() * 2.0**-11).clamp(min=2.0**-25)).all()


@given(values_of_scans, masks_of_scans, st.sampled_from(INPUT_BITS))
def test_what_was_sent_once_can_be_sent_again_unchanged(values: np.ndarray, masks: np.ndarray, bits: int) -> None:
    sent = quantise(scans_of(values, masks), bits)
    assert torch.equal(quantise(sent, bits), sent)


def test_32_bits_change_nothing(make_scans: Callable[..., Tensor]) -> None:
    scans = make_scans(2, 8)
    assert torch.equal(quantise(scans, 32), scans)


def test_error_of_evenly_spread_values_is_that_of_uniform_noise(rng: np.random.Generator) -> None:
    values = torch.from_numpy(rng.uniform(-1, 1, 200_000).astype(np.float32))
    error = (decode_values(encode_values(values, 8)) - values).double()
    # Standard errors at this number: 0.2 % of the variance (kurtosis 9/5), and STEP / sqrt(12 n) of the mean.
    assert error.square().mean().item() == pytest.approx(STEP**2 / 12, rel=0.01)
    assert abs(error.mean().item()) < 4 * STEP / np.sqrt(12 * len(values))


def test_each_integer_stands_for_one_of_256_evenly_spaced_values() -> None:
    integers = torch.arange(256, dtype=torch.uint8)
    values = decode_values(integers)
    torch.testing.assert_close(values, torch.linspace(-1, 1, 256))
    assert torch.equal(encode_values(values, 8), integers)


def test_values_outside_the_range_take_the_nearer_end() -> None:
    assert encode_values(torch.tensor([-7.0, 7.0]), 8).tolist() == [0, 255]


@pytest.mark.parametrize(("bits", "dtype"), [(32, torch.float32), (16, torch.float16), (8, torch.uint8)])
def test_so_many_bits_are_sent(bits: int, dtype: torch.dtype) -> None:
    encoded = encode_values(torch.zeros(3, dtype=torch.float64), bits)
    assert encoded.dtype == dtype
    assert 8 * encoded.element_size() == bits


def test_a_completer_gets_what_was_sent(make_scans: Callable[..., Tensor]) -> None:
    got: list[Tensor] = []

    def completer(partial_scans: Tensor) -> Tensor:
        got.append(partial_scans)
        return partial_scans[:, :1]

    scans = make_scans(2, 8)
    QuantisedInput(completer, 8)(scans)
    assert torch.equal(got[0], quantise(scans, 8))
    assert not torch.equal(got[0], scans)


def test_other_numbers_of_bits_and_types_are_refused() -> None:
    with pytest.raises(ValueError, match="bits: got 4; expected one of 32, 16, 8"):
        encode_values(torch.zeros(1), 4)
    with pytest.raises(ValueError, match="bits: got 64; expected one of 32, 16, 8"):
        QuantisedInput(lambda scans: scans, 64)
    with pytest.raises(ValueError, match=r"encoded values: got torch\.int64; expected torch\.float32"):
        decode_values(torch.zeros(1, dtype=torch.int64))


def test_price_of_bits_is_the_ratio_of_errors_to_those_at_32_bits(rng: np.random.Generator) -> None:
    size, groups = 16, [f"g{i}" for i in range(8)]
    crops = rng.uniform(-1, 1, (8, size, size)).astype(np.float32)
    everywhere = Contender("all", path=np.stack(np.indices((size, size)), axis=-1).reshape(-1, 2).astype(np.float32))
    offset = 0.01

    def off(partial_scans: Tensor) -> Tensor:
        return partial_scans[:, :1] + offset

    settings = {"geometry": ScanGeometry(size, 1, size**2), "blur_targets": False}
    price, interval = price_of_bits(crops, groups, everywhere, off, 8, **settings)
    # Uniform noise of variance STEP^2 / 12 is added to a squared error of offset^2.
    assert price == pytest.approx(math.sqrt(1 + (2 / 255) ** 2 / 12 / offset**2) - 1, rel=0.15)
    assert interval is not None
    assert interval[0] <= price <= interval[1]
    assert abs(price_of_bits(crops, groups, everywhere, off, 16, **settings)[0]) < 0.001
