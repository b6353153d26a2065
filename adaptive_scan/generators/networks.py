"""Networks that complete partial scans: the adaptive-scan paper's, and small fast ones that see more."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.checks import checked_scans
from adaptive_scan.generators.distance import distance_to_measured
from adaptive_scan.generators.infill import pull_push_infill
from adaptive_scan.generators.losses import blur_targets
from adaptive_scan.generators.partial_stem import TwoStageGenerator
from adaptive_scan.generators.supersampling import SupersamplingGenerator

_MAX_GROUPS = 4
_DISTANCE_SCALE = 4.0  # [px]; half of the range of the scaled distance lies below it


def _convolution(n_in: int, n_out: int, *, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, ReLU and batch normalisation, in the paper's order."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1), nn.ReLU(), nn.BatchNorm2d(n_out))


def _transposed_convolution(n_in: int, n_out: int) -> nn.Sequential:
    """A 3x3 transposed convolution that doubles the side, ReLU and batch normalisation."""
    transposed = nn.ConvTranspose2d(n_in, n_out, 3, 2, 1, output_padding=1)
    return nn.Sequential(transposed, nn.ReLU(), nn.BatchNorm2d(n_out))


class _PaperBlock(nn.Module):
    """Three convolutions of equal width and a skip connection around them."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*(_convolution(n_channels, n_channels) for _ in range(3)))

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = features + self.convolutions(features)
        return result


class ResidualGenerator(nn.Module):
    """The generator of the adaptive-scan paper (Ede, arXiv 2004.02786), layer by layer.

    3x3 convolutions: 32; 64 with stride 2; 128 with stride 2; five residual blocks of three 128-channel convolutions;
    transposed 64 with stride 2; transposed 32 with stride 2; 32; each followed by ReLU and batch normalisation. A last
    convolution to one channel is linear and has no bias.

    Args:
        width: Factor of all these channels; 1 is the paper's.

    Attributes:
        config: Constructor keywords that rebuild the network.

    Raises:
        ValueError: If ``width`` is not positive, and in ``forward``, if the side S is not a multiple of 4.

    Example:
        >>> ResidualGenerator()(torch.zeros(1, 2, 16, 16)).shape
        torch.Size([1, 1, 16, 16])
    """

    stride = 4

    def __init__(self, *, width: float = 1.0) -> None:
        super().__init__()
        if not 0 < width < math.inf:
            raise SettingError(f"width: got {width}; expected a number above 0")
        self.config: dict[str, Any] = {"width": width}
        fine, middle, coarse = (max(round(width * n_channels), 1) for n_channels in (32, 64, 128))
        self.layers = nn.Sequential(
            _convolution(2, fine),
            _convolution(fine, middle, stride=2),
            _convolution(middle, coarse, stride=2),
            *(_PaperBlock(coarse) for _ in range(5)),
            _transposed_convolution(coarse, middle),
            _transposed_convolution(middle, fine),
            _convolution(fine, fine),
            nn.Conv2d(fine, 1, 3, padding=1, bias=False),
        )

    def forward(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        partial_scans = checked_scans(partial_scans, self.stride)
        completions: Tensor = self.layers(partial_scans)
        return completions


class _Block(nn.Module):
    """Two 3x3 convolutions, the second one residual: ReLU(y + conv(y)) with y = ReLU(norm(conv(x)))."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.norm = nn.GroupNorm(math.gcd(_MAX_GROUPS, n_out), n_out)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        features = F.relu(self.norm(self.first(features)))
        return F.relu(features + self.second(features))


class UNetGenerator(nn.Module):
    """A small U-Net that corrects a pull-push infill and knows which pixels were measured.

    It sees four pictures: the measured values, the mask, the pull-push infill of the values, and the distance r to the
    nearest measured pixel as r / (r + 4 px). Space-to-depth makes 2x2 pixels one pixel of four times the channels,
    since blurred targets hold little between them. The last layer starts at zero, so an untrained network returns the
    infill. Group normalisation, and none over the batch, makes a completion depend on its own partial
    scan alone, alike in a live scan and in a replayed batch.

    Args:
        n_channels: Channels of the finest level; coarser ones have 2, 3, ... times as many.
        n_levels: Resolutions, each half as fine as the last, at least 1.

    Attributes:
        config: Constructor keywords that rebuild the network.
        stride: The side S of a partial scan must be a multiple of it, ``2**n_levels``.

    Raises:
        ValueError: If ``n_channels`` or ``n_levels`` is below 1, and in ``forward`` if S is no multiple of ``stride``.

    Example:
        >>> partial_scans = torch.zeros(1, 2, 16, 16)
        >>> partial_scans[0, :, 8, 8] = 1.0
        >>> bool(torch.isclose(UNetGenerator()(partial_scans), torch.ones(1)).all())
        True
    """

    def __init__(self, *, n_channels: int = 32, n_levels: int = 3) -> None:
        super().__init__()
        if n_channels < 1 or n_levels < 1:
            raise SettingError(f"n_channels: got {n_channels} and n_levels {n_levels}; expected at least 1 of each")
        self.config: dict[str, Any] = {"n_channels": n_channels, "n_levels": n_levels}
        self.stride = 2**n_levels
        widths = [n_channels * (level + 1) for level in range(n_levels)]
        pairs = list(pairwise(widths))
        self.encoders = nn.ModuleList(_Block(n_in, n) for n_in, n in zip([16, *widths], widths, strict=False))
        self.down = nn.ModuleList(nn.Conv2d(fine, fine, 2, stride=2) for fine, _ in pairs)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairs)
        self.decoders = nn.ModuleList(_Block(fine, fine) for fine, _ in pairs)
        self.correction = nn.Conv2d(n_channels, 4, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        """He initialisation, second convolutions of a block at a quarter of it, the correction at zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                # the faster layout of small convolutions on a CPU
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, _Block):
                nn.init.normal_(module.second.weight, std=0.25 * module.second.weight.std().item())
        nn.init.zeros_(self.correction.weight)

    def forward(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        partial_scans = checked_scans(partial_scans, self.stride)
        infill = pull_push_infill(partial_scans)
        distance = distance_to_measured(partial_scans[:, 1])[:, None]
        seen = torch.cat((partial_scans, infill, distance / (distance + _DISTANCE_SCALE)), dim=1)
        features = F.pixel_unshuffle(seen, 2).contiguous(memory_format=torch.channels_last)
        skips = []
        for encoder, down in zip(self.encoders, self.down, strict=False):
            skips.append(encoder(features))
            features = down(skips[-1])
        features = self.encoders[-1](features)
        for up, decoder, skip in zip(reversed(self.up), reversed(self.decoders), reversed(skips), strict=True):
            features = decoder(skip + F.interpolate(up(features), scale_factor=2, mode="nearest"))
        return self._base(infill) + F.pixel_shuffle(self.correction(features), 2)

    def _base(self, infill: Tensor) -> Tensor:
        """The picture that the network corrects, from the infill, both of shape (n_scans, 1, S, S)."""
        return infill


class MaskAwareGenerator(UNetGenerator):
    """A `UNetGenerator` that corrects the infill after the blur of the targets.

    Measured values are noisy and blurred targets are not: what is subtracted from them anyway need not be learned. Of
    what was measured side by side for the same time (gated convolutions, attention at the lowest resolution, normalised
    convolutions at several scales, and this), this alone lowered the loss by more than 1 %, by 5 %
    (docs/generators.md).

    Args:
        n_channels: Channels of the finest level; coarser ones have 2, 3, ... times as many.
        n_levels: Resolutions, each half as fine as the last, at least 1.
        blurred: Whether targets are blurred; without it, it is a `UNetGenerator`.

    Attributes:
        config: Constructor keywords that rebuild the network.
        stride: The side S of a partial scan must be a multiple of it, ``2**n_levels``.

    Raises:
        ValueError: As `UNetGenerator` does.

    Example:
        >>> partial_scans = torch.zeros(1, 2, 16, 16)
        >>> partial_scans[0, :, 8, 8] = 1.0
        >>> bool(torch.isclose(MaskAwareGenerator()(partial_scans), torch.ones(1)).all())
        True
    """

    def __init__(self, *, n_channels: int = 32, n_levels: int = 3, blurred: bool = True) -> None:
        super().__init__(n_channels=n_channels, n_levels=n_levels)
        self.config["blurred"] = blurred
        self.blurred = blurred

    def _base(self, infill: Tensor) -> Tensor:
        return blur_targets(infill) if self.blurred else infill


GENERATORS: dict[str, type[nn.Module]] = {
    "residual": ResidualGenerator,
    "unet": UNetGenerator,
    "mask_aware": MaskAwareGenerator,
    "two_stage": TwoStageGenerator,
    "supersampling": SupersamplingGenerator,
}
"""Networks by the name that files and command lines give them."""
