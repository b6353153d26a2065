"""Pull-push infill: a smooth picture through scattered measurements, batched and differentiable in values and masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST_WEIGHT = 1e-12  # keeps 0/0 at 0 where no measurement reaches


def _pull(pictures: Tensor, kernel: Tensor) -> Tensor:
    """Next coarser level of (weighted values, weights), shape (N, 2, h, w) -> (N, 2, ceil(h/2), ceil(w/2))."""
    height, width = pictures.shape[-2:]
    padded = F.pad(pictures, (1, 1 + width % 2, 1, 1 + height % 2))
    summed = F.conv2d(padded, kernel, stride=2, groups=2)
    weights = summed[:, 1:]
    return summed * (weights.clamp(max=1) / weights.clamp(min=_SMALLEST_WEIGHT))


def pull_push_infill(partial_scans: Tensor) -> Tensor:
    """Fill a partial scan by normalised convolution over a pyramid of scales.

    Pull: weighted values w v and weights w are summed under a tent of 4x4 pixels, level after level, each half as fine;
    weights saturate at 1, so that crowded measurements count no more than one per coarse pixel. Push: from
    the coarsest level down, each level keeps its own values in proportion to their weight and takes the rest from the
    interpolated coarser one, x = w v + (1 - w) up(x') (Gortler et al. 1996, doi:10.1145/237170.237200).

    Args:
        partial_scans: Measured values and masks, shape (n_scans, 2, S, S). A mask between 0 and 1, as that of
            `adaptive_scan.scans.soft.soft_partial_scans`, is the weight of its pixel.

    Returns:
        Pictures, shape (n_scans, 1, S, S), equal to the measured values at the pixels with a mask of 1; 0 everywhere
        for a scan with no measured pixel. Each pixel is a weighted mean of measured values.

    Example:
        >>> partial_scan = torch.zeros(1, 2, 8, 8)
        >>> partial_scan[0, :, 3, 5] = 1.0
        >>> bool(torch.isclose(pull_push_infill(partial_scan), torch.ones(1)).all())
        True
    """
    masks = partial_scans[:, 1:].clamp(0, 1)
    tent = torch.tensor([0.25, 0.75, 0.75, 0.25], dtype=partial_scans.dtype, device=partial_scans.device)
    kernel = (tent[:, None] * tent).expand(2, 1, 4, 4)
    values = torch.where(masks > 0, partial_scans[:, :1], 0)
    levels = [torch.cat((values * masks, masks), dim=1)]
    while max(levels[-1].shape[-2:]) > 1:
        levels.append(_pull(levels[-1], kernel))
    weighted, weights = levels[-1].split(1, dim=1)
    pictures = weighted / weights.clamp(min=_SMALLEST_WEIGHT)
    for level in levels[-2::-1]:
        weighted, weights = level.split(1, dim=1)
        coarse = F.interpolate(pictures, scale_factor=2, mode="bilinear", align_corners=False)
        coarse = coarse[..., : weights.shape[-2], : weights.shape[-1]]
        pictures = weighted + (1 - weights) * coarse
    result: Tensor = pictures
    return result
