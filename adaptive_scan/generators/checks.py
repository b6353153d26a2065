"""What every network demands of the partial scans that it is given."""

from __future__ import annotations

import torch
from torch import Tensor


def checked_scans(partial_scans: Tensor, stride: int) -> Tensor:
    """Partial scans whose values are 0 wherever nothing was measured, whatever was written there.

    Args:
        partial_scans: Measured values and masks, shape (n_scans, 2, H, W).
        stride: What the sides H and W have to be positive multiples of.

    Returns:
        The same shape; NaN outside the mask does not get in.

    Raises:
        ValueError: If the shape is another one.

    Example:
        >>> scan = torch.tensor([[[[0.5, torch.nan]], [[1.0, 0.0]]]])
        >>> checked_scans(scan, 1)[0, 0].tolist()
        [[0.5, 0.0]]
    """
    shape = tuple(partial_scans.shape)
    if len(shape) != 4 or shape[1] != 2:
        raise ValueError(f"partial scans have shape {shape}; expected (n_scans, 2, H, W)")
    if 0 in shape[2:] or shape[2] % stride or shape[3] % stride:
        raise ValueError(f"partial scans have sides {shape[2:]} px; expected positive multiples of {stride}")
    masks = partial_scans[:, 1:]
    return torch.cat((torch.where(masks != 0, partial_scans[:, :1], 0), masks), dim=1)
