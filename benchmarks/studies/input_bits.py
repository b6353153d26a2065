"""Partial scans with fewer bits per value, as they may be sent to a server, and what that does to them.

Ede's supersampling paper (arXiv 1910.10467, section V and table 3) sends pictures as 16-bit floats or, scaled, as
unsigned 8-bit integers. Masks need one bit per pixel however values are sent, and keep it here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaptive_scan.evaluation import Contender, static_contenders
from adaptive_scan.evaluation.statistics import bootstrap_ratio
from adaptive_scan.evaluation.systematic_errors import N_RESAMPLES, Crops, Measured, measure_errors
from adaptive_scan.generators import Completer, make_completer
from adaptive_scan.scans import ScanGeometry
from adaptive_scan.specimens import procedural_crops

INPUT_BITS = (32, 16, 8)
"""Bits per value: 32-bit floats, 16-bit floats, and 8-bit integers over [-1, 1]."""

LEVELS = 255
"""Steps between the 8-bit integers of -1 and of 1."""

STEP = 2.0 / LEVELS
"""Difference of neighbouring 8-bit values on [-1, 1]; rounding moves a value by half of it at most."""


def _check_bits(bits: int) -> None:
    if bits not in INPUT_BITS:
        raise ValueError(f"bits: got {bits!r}; expected one of {', '.join(map(str, INPUT_BITS))}")


def encode_values(values: Tensor, bits: int) -> Tensor:
    """Values as they are sent: float32, float16, or the integers k = round(255 (v + 1) / 2).

    Args:
        values: Values, any shape; for 8 bits those outside [-1, 1] become the nearer end.
        bits: One of ``INPUT_BITS``.

    Returns:
        The same shape, as float32, float16 or uint8.

    Raises:
        ValueError: If ``bits`` is another number.

    Example:
        >>> encode_values(torch.tensor([-1.0, 0.2, 1.0]), 8)
        tensor([  0, 153, 255], dtype=torch.uint8)
    """
    _check_bits(bits)
    if bits == 32:
        return values.float()
    if bits == 16:
        return values.half()
    return ((values.float().clamp(-1.0, 1.0) + 1.0) * (LEVELS / 2)).round().to(torch.uint8)


def decode_values(encoded: Tensor) -> Tensor:
    """Values that `encode_values` encoded, v = 2 k / 255 - 1 for integers.

    Args:
        encoded: Float32, float16 or uint8, any shape.

    Returns:
        Float32, the same shape.

    Raises:
        ValueError: If the type is another one.

    Example:
        >>> decode_values(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([-1.,  1.])
    """
    if encoded.dtype == torch.uint8:
        return encoded.float() * STEP - 1.0
    if encoded.dtype not in (torch.float16, torch.float32):
        raise ValueError(f"encoded values: got {encoded.dtype}; expected torch.float32, torch.float16 or torch.uint8")
    return encoded.float()


def quantise(partial_scans: Tensor, bits: int) -> Tensor:
    """Partial scans as they are after their values have been sent with so many bits.

    An 8-bit value is off by at most 1/255, and by ``STEP / sqrt(12)`` in root mean square where values are spread over
    many steps (Widrow and Kollár 2008, Quantization Noise, chapter 1).

    Args:
        partial_scans: Measured values and masks, shape (n_scans, 2, S, S), values in [-1, 1].
        bits: One of ``INPUT_BITS``.

    Returns:
        Values that the other side has, and the masks as they were; float32, the same shape. Values are 0 where the
        mask is.

    Raises:
        ValueError: If ``bits`` is another number.

    Example:
        >>> partial_scan = torch.tensor([[[[0.3, 0.0]], [[1.0, 0.0]]]])
        >>> quantise(partial_scan, 8)[0, 0].mul(255).round()
        tensor([[77.,  0.]])
    """
    values, masks = partial_scans[:, :1], partial_scans[:, 1:]
    received = decode_values(encode_values(values, bits))
    # No integer stands for 0, and nothing has to be sent where nothing was measured.
    return torch.cat((received.masked_fill(masks == 0, 0.0), masks.float()), dim=1)


class QuantisedInput:
    """A completer that gets its partial scans through :func:`quantise`.

    Args:
        completer: What completes them.
        bits: One of ``INPUT_BITS``.

    Raises:
        ValueError: If ``bits`` is another number.

    Example:
        >>> from adaptive_scan.generators import NearestCompleter
        >>> partial_scans = torch.full((1, 2, 4, 4), 1.0)
        >>> bool((QuantisedInput(NearestCompleter(), 8)(partial_scans) == 1.0).all())
        True
    """

    def __init__(self, completer: Completer, bits: int) -> None:
        _check_bits(bits)
        self.completer, self.bits = completer, bits

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        return self.completer(quantise(partial_scans, self.bits).to(partial_scans.dtype))


def price_of_bits(
    crops: np.ndarray, groups: Sequence[str], contender: Contender, completer: Completer, bits: int, **settings: Any
) -> tuple[float, tuple[float, float] | None]:
    """How much larger the RMSE is with values of few bits, as a share of it: RMSE / RMSE(32 bit) - 1.

    Args:
        crops: Shape (n_crops, S, S), in [-1, 1].
        groups: Group of each crop, which the bootstrap draws.
        contender: The scan.
        completer: What completes it.
        bits: One of ``INPUT_BITS``.
        settings: Of `adaptive_scan.evaluation.systematic_errors.measure_errors`, ``geometry`` among them.

    Returns:
        The price and its paired bootstrap interval over groups, None with a single group.
    """
    completers = {"32": completer, "few": QuantisedInput(completer, bits)}
    found = measure_errors([Crops(crops, list(groups))], [contender], completers, **settings)
    exact, few = (found[Measured(contender.name, name)] for name in completers)
    sums, reference = few.group_sums[0], exact.group_sums[0]
    rng = np.random.default_rng(0)
    ratio = bootstrap_ratio(sums, reference, np.arange(len(sums)), rng, n_resamples=N_RESAMPLES)
    interval = None if ratio is None else (math.sqrt(ratio[0]) - 1.0, math.sqrt(ratio[1]) - 1.0)
    return few.rmse / exact.rmse - 1.0, interval


def main() -> None:
    """Print the price of 16 and 8 bits for linear interpolation of a spiral on procedural crops."""
    crops, names = procedural_crops(256, 96, np.random.default_rng(0))
    groups = [f"{family} {number}" for number, family in enumerate(names)]
    (spiral,) = static_contenders(["spiral"])
    for bits in INPUT_BITS[1:]:
        price, interval = price_of_bits(
            crops, groups, spiral, make_completer("linear"), bits, geometry=ScanGeometry(96, 1, 369)
        )
        print(f"{bits} bits: {100 * price:+.4f} % {interval}")


if __name__ == "__main__":
    main()
