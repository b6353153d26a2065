"""What every network demands of the partial scans that it is given."""

from __future__ import annotations

from torch import Tensor


def check_partial_scans(partial_scans: Tensor, stride: int) -> None:
    """Raise a ValueError unless the shape is (N, 2, S, S) with S a multiple of ``stride``.

    Args:
        partial_scans: Measured values and masks.
        stride: What the side S has to be a positive multiple of.

    Raises:
        ValueError: If the shape is another one.

    Example:
        >>> import torch
        >>> check_partial_scans(torch.zeros(3, 2, 16, 16), 8)
    """
    shape = tuple(partial_scans.shape)
    if len(shape) != 4 or shape[1] != 2 or shape[2] != shape[3]:
        raise ValueError(f"partial scans have shape {shape}; expected (n_scans, 2, S, S)")
    if shape[2] % stride or not shape[2]:
        raise ValueError(f"partial scans have side {shape[2]} px; expected a positive multiple of {stride}")
