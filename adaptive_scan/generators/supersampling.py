"""The one-stage generator that supersamples a uniform grid of one coverage."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.checks import checked_scans
from adaptive_scan.generators.distance import nearest_infill
from adaptive_scan.generators.normalisation import SharedBatchNorm2d

_WIDTHS = (32, 64, 128)
_N_BLOCKS = 6
_UPSAMPLED_WIDTHS = (128, 96, 64, 32)


def n_cells(image_size: int, factor: int) -> int:
    """Cells along a side of S px that each are ``factor`` px wide or a little less, ceil(S / factor).

    Args:
        image_size: Side S of the field [px].
        factor: Largest side of a cell [px].

    Returns:
        The number of cells, which is the side of the low-resolution picture [px].

    Example:
        >>> n_cells(512, 5), n_cells(512, 7), n_cells(512, 10)
        (103, 74, 52)
    """
    return -(-image_size // factor)


def cell_means(partial_scans: Tensor, factor: int) -> Tensor:
    """The low-resolution picture that a scan of a uniform grid is: one value per cell.

    The field is divided into L x L equal cells with L = ceil(S / factor); pixel r lies in cell floor((r + 1/2) L / S).
    ``static_scan("grid", L * L, S)`` measures exactly one pixel of each. The value of a cell is the mean of its
    measured pixels; a cell that has none, in scans of another kind, takes the measured pixel nearest to its centre.

    Args:
        partial_scans: Measured values and masks, shape (n_scans, 2, S, S).
        factor: Largest side of a cell [px].

    Returns:
        Pictures, shape (n_scans, 1, L, L); 0 everywhere for a scan with no measured pixel.

    Example:
        >>> partial_scans = torch.zeros(1, 2, 4, 4)
        >>> partial_scans[0, :, 1, 1] = torch.tensor([0.5, 1.0])
        >>> partial_scans[0, :, 1, 2:] = torch.tensor([[-1.0, 0.5], [1.0, 1.0]])
        >>> cell_means(partial_scans, 2)[0, 0, 0]
        tensor([ 0.5000, -0.2500])
    """
    size = partial_scans.shape[-1]
    side = n_cells(size, factor)
    places = torch.arange(side, device=partial_scans.device)
    # (2 r + 1) L // (2 S) is floor((r + 1/2) L / S) in whole numbers
    cells = (2 * torch.arange(size, device=partial_scans.device) + 1) * side // (2 * size)
    membership = (cells == places[:, None]).to(partial_scans)
    measured = (partial_scans[:, 1:] != 0).to(partial_scans)
    counts = membership @ measured @ membership.T
    sums = membership @ (partial_scans[:, :1] * measured) @ membership.T
    means = sums / counts.clamp(min=1)
    # A graph that is exported cannot branch on values.
    if not torch.compiler.is_exporting() and bool((counts > 0).all()):
        return means
    centres = (2 * places + 1) * size // (2 * side)
    nearest = nearest_infill(partial_scans)[:, :, centres][..., centres]
    return torch.where(counts > 0, means, nearest)


class _Unit(nn.Module):
    """ReLU, batch normalisation and a convolution, in the paper's order, with a bilinear resize before the last."""

    def __init__(self, n_in: int, n_out: int, *, transposed: bool = False) -> None:
        super().__init__()
        self.normalisation = SharedBatchNorm2d(n_in)
        self.convolution: nn.Module = (
            nn.ConvTranspose2d(n_in, n_out, 3, 2, 1, output_padding=1)
            if transposed
            else nn.Conv2d(n_in, n_out, 3, padding=1)
        )

    def forward(self, features: Tensor, side: int | None = None) -> Tensor:
        features = self.normalisation(F.relu(features))
        if side is not None:
            features = F.interpolate(features, size=(side, side), mode="bilinear", align_corners=False)
        convolved: Tensor = self.convolution(features)
        return convolved


class _SkipTwo(nn.Module):
    """Two units of equal width and a skip connection around them."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.units = nn.Sequential(_Unit(n_channels, n_channels), _Unit(n_channels, n_channels))

    def forward(self, features: Tensor) -> Tensor:
        skipped: Tensor = features + self.units(features)
        return skipped


class SupersamplingGenerator(nn.Module):
    """The one-stage generator of DLSS-STEM for one coverage, 1 / factor² (Ede, arXiv 1910.10467, section IV, fig. 9).

    It takes the partial scan of a uniform grid, such as that of ``static_scan("grid", ...)``, reduces it to one
    value per cell (`cell_means`) and supersamples that to S x S: 103 x 103 to 512 x 512 at factor 5. ReLU and then
    batch normalisation precede every 3x3 convolution but the first, which only batch normalisation precedes.

    Layers: 32 channels; bilinear to the geometric mean of the sides before and after, 64; bilinear to S / 16, 128; six
    residual blocks of two 128-channel convolutions; transposed with stride 2 to 128, 96, 64 and 32; 1, linear, no bias.

    The text does not print the layers of the figure; they are those of the source code published with it, 2,200,226
    parameters. It maps inputs to [0, 1]; here the first normalisation makes that no matter, and inputs and
    completions stay in [-1, 1]. The normalisation can be frozen, as the paper does halfway through training
    (`adaptive_scan.generators.normalisation.freeze_normalisation`).

    Args:
        factor: Distance of the grid's points [px]; the coverage is 1 / factor².
        width: Factor of the number of channels of every layer; 1 is the paper's.

    Attributes:
        config: Constructor keywords that rebuild the network.
        stride: The side S of a partial scan must be a multiple of it, 16.

    Raises:
        ValueError: If ``factor`` is below 1 or ``width`` not positive, and in ``forward`` if S is no multiple of
            ``stride``.

    Example:
        >>> network = SupersamplingGenerator(factor=4, width=1 / 8).eval()
        >>> network(torch.zeros(1, 2, 48, 48)).shape
        torch.Size([1, 1, 48, 48])
    """

    stride = 16

    def __init__(self, *, factor: int = 5, width: float = 1.0) -> None:
        super().__init__()
        if factor < 1 or not width > 0:
            raise SettingError(f"factor: got {factor} and width {width}; expected at least 1 and more than 0")
        self.config: dict[str, Any] = {"factor": factor, "width": width}
        self.factor = factor
        first, second, third = (max(1, round(width * n_channels)) for n_channels in _WIDTHS)
        upsampled = [third, *(max(1, round(width * n_channels)) for n_channels in _UPSAMPLED_WIDTHS)]
        self.embedding = nn.Sequential(SharedBatchNorm2d(1), nn.Conv2d(1, first, 3, padding=1))
        self.resized = nn.ModuleList((_Unit(first, second), _Unit(second, third)))
        self.blocks = nn.Sequential(*(_SkipTwo(third) for _ in range(_N_BLOCKS)))
        self.upsampling = nn.Sequential(
            *(_Unit(n_in, n_out, transposed=True) for n_in, n_out in pairwise(upsampled)),
            nn.ReLU(),
            SharedBatchNorm2d(upsampled[-1]),
            nn.Conv2d(upsampled[-1], 1, 3, padding=1, bias=False),
        )

    def forward(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        partial_scans = checked_scans(partial_scans, self.stride)
        if partial_scans.shape[-2] != partial_scans.shape[-1]:
            raise ValueError(f"partial scans have shape {tuple(partial_scans.shape)}; expected (n_scans, 2, S, S)")
        return self.supersample(cell_means(partial_scans, self.factor), partial_scans.shape[-1])

    def supersample(self, pictures: Tensor, image_size: int) -> Tensor:
        """Low-resolution pictures, shape (n, 1, L, L), to pictures, shape (n, 1, S, S), S = ``image_size`` px."""
        low, bottom = pictures.shape[-1], image_size // self.stride
        features = self.embedding(pictures)
        for unit, side in zip(self.resized, (round(math.sqrt(low * bottom)), bottom), strict=True):
            features = unit(features, side)
        completions: Tensor = self.upsampling(self.blocks(features))
        return completions
