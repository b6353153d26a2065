"""The two-stage generator of partial STEM and the network that trains its inner half beside it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.checks import checked_scans
from adaptive_scan.generators.distance import nearest_infill
from adaptive_scan.generators.normalisation import NormalisedConvolution

_INNER_WIDTHS = (64, 128, 256, 512, 768)
_OUTER_WIDTHS = (32, 64)
_N_INNER_BLOCKS = 6
_N_OUTER_BLOCKS = 3
_FIRST_DEVIATION = 0.1  # of an output after initialisation from data


def half_size(pictures: Tensor) -> Tensor:
    """Bilinear downsampling to half the side, which is the mean of each 2x2 pixels.

    Args:
        pictures: Pictures of even sides, shape (n, n_channels, height, width).

    Returns:
        Pictures, shape (n, n_channels, height / 2, width / 2).

    Example:
        >>> half_size(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]))
        tensor([[[[1.5000]]]])
    """
    return F.avg_pool2d(pictures, 2)


def _scaled(widths: tuple[int, ...], width: float) -> list[int]:
    """Channels of layers when all of them are ``width`` times as wide, at least one each."""
    if not width > 0:
        raise SettingError(f"width: got {width}; expected more than 0")
    return [max(1, round(n_channels * width)) for n_channels in widths]


def _layer(n_in: int, n_out: int, *, side: int = 3, stride: int = 1, transposed: bool = False) -> nn.Sequential:
    """A normalised convolution and ReLU."""
    return nn.Sequential(NormalisedConvolution(n_in, n_out, side=side, stride=stride, transposed=transposed), nn.ReLU())


def _output(n_in: int) -> NormalisedConvolution:
    """A linear convolution to one channel, which starts small: pictures in [0, 1] do not deviate by 1."""
    return NormalisedConvolution(n_in, 1, normalised=False, deviation=_FIRST_DEVIATION)


class _SkipThree(nn.Module):
    """Three layers of equal width and a skip connection around them."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_layer(n_channels, n_channels) for _ in range(3)))

    def forward(self, features: Tensor) -> Tensor:
        skipped: Tensor = features + self.layers(features)
        return skipped


class TwoStageGenerator(nn.Module):
    """The generator of partial STEM, G(I) = G_outer(G_inner(I_half), I) (Ede and Beanland, Sci. Rep. 10 (2020) 8332).

    It sees the values after nearest-neighbour infilling, mapped to [0, 1], and the path mask; it puts out [0, 1],
    mapped to [-1, 1]. Convolutions have no biases; each is weight-normalised and, but the output's, followed by running
    mean-only batch normalisation and ReLU (`adaptive_scan.generators.normalisation`).

    - Inner, at half the side: 5x5 to 64 channels; 3x3 with stride 2 to 128, 256, 512 and 768; six residual blocks of
      three 768-channel convolutions; transposed with stride 2 to 512, 256, 128 and 64.
    - Outer: 5x5 to 32 channels; 3x3 with stride 2 to 64; the inner features are added; three residual blocks of three
      64-channel convolutions; transposed with stride 2 to 32; 32; 1, linear.

    The paper draws its layers in a figure and prints no table of them; numbers of layers and channels and sides of the
    kernels are those of the source code that it was published with. They make 106,126,145 parameters; with
    `AuxiliaryTrainer`, `Discriminators` and Adam's two moments of each parameter that is 1.28 GiB, and the paper
    prints 1.3 GB. We chose where the text leaves it open: the half-size input is the 2x2 mean of the infilled values
    and of the mask, inner features are added after ReLU, and pictures are padded with zeros. And we depart from it in
    one thing: `adaptive_scan.generators.normalisation.initialise_from_data` gives the output a standard deviation of
    0.1 in place of 1, from which learning starts nearer to pictures.

    Normalised weights are computed anew in each call. Around many calls of a trained network,
    ``torch.nn.utils.parametrize.cached()`` computes them once, which saves a fifth of the time at 512 x 512.

    Args:
        width: Factor of the number of channels of every layer; 1 is the paper's.
        infill: Infill by the nearest measured pixel, as for binary masks in the paper. False feeds the measured values
            alone, as the paper does for blurred masks: give the partial scan of such a scan the blurred mask, between 0
            and 1, in place of the binary one, and the values times it.

    Attributes:
        config: Constructor keywords that rebuild the network.
        stride: The side S of a partial scan must be a multiple of it, 32.

    Raises:
        ValueError: If ``width`` is not positive, and in ``forward`` if S is no multiple of ``stride``.

    Example:
        >>> network = TwoStageGenerator(width=1 / 32)
        >>> network(torch.zeros(1, 2, 64, 64)).shape
        torch.Size([1, 1, 64, 64])
    """

    stride = 32

    def __init__(self, *, width: float = 1.0, infill: bool = True) -> None:
        super().__init__()
        inner = _scaled(_INNER_WIDTHS, width)
        fine, coarse = _scaled(_OUTER_WIDTHS, width)
        self.config: dict[str, Any] = {"width": width, "infill": infill}
        self.infill = infill
        self.inner = nn.Sequential(
            _layer(2, inner[0], side=5),
            *(_layer(n_in, n_out, stride=2) for n_in, n_out in pairwise(inner)),
            *(_SkipThree(inner[-1]) for _ in range(_N_INNER_BLOCKS)),
            *(_layer(n_in, n_out, stride=2, transposed=True) for n_in, n_out in pairwise(reversed(inner))),
        )
        self.embedding = nn.Sequential(_layer(2, fine, side=5), _layer(fine, coarse, stride=2))
        self.outer = nn.Sequential(
            *(_SkipThree(coarse) for _ in range(_N_OUTER_BLOCKS)),
            _layer(coarse, fine, stride=2, transposed=True),
            _layer(fine, fine),
            _output(fine),
        )

    def forward(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        return self.complete_with_features(partial_scans)[0]

    def complete_with_features(self, partial_scans: Tensor) -> tuple[Tensor, Tensor]:
        """Complete partial scans and return what the auxiliary trainer needs as well.

        Args:
            partial_scans: Measured values and masks, shape (n_scans, 2, S, S).

        Returns:
            Completions, shape (n_scans, 1, S, S), and inner features, shape (n_scans, 64 width, S / 2, S / 2).
        """
        return self.complete_inputs(self.prepare(partial_scans))

    def prepare(self, partial_scans: Tensor) -> Tensor:
        """What the convolutions see: values, infilled and mapped to [0, 1], and masks, shape (n_scans, 2, S, S)."""
        partial_scans = checked_scans(partial_scans, self.stride)
        values = nearest_infill(partial_scans) if self.infill else partial_scans[:, :1]
        return torch.cat(((values + 1) / 2, partial_scans[:, 1:]), dim=1)

    def complete_inputs(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """`complete_with_features` of inputs that `prepare` returned: the convolutions alone."""
        features: Tensor = self.inner(half_size(inputs))
        completions: Tensor = self.outer(self.embedding(inputs) + features)
        return 2 * completions - 1, features


class AuxiliaryTrainer(nn.Module):
    """Completes half-size pictures from the inner features of a `TwoStageGenerator` (the paper's T).

    It learns with the generator, towards the half-size blurred truth, gives the inner generator a short way for
    gradients, and is not needed afterwards. Layers: 3x3 to 64 channels with normalisation and ReLU; 1, linear, in
    [0, 1], mapped to [-1, 1]. The paper has 37,505 parameters in it.

    Args:
        width: That of the generator.

    Attributes:
        config: Constructor keywords that rebuild the network.

    Raises:
        ValueError: If ``width`` is not positive.

    Example:
        >>> generator, trainer = TwoStageGenerator(width=1 / 32), AuxiliaryTrainer(width=1 / 32)
        >>> completions, features = generator.complete_with_features(torch.zeros(1, 2, 64, 64))
        >>> trainer(features).shape
        torch.Size([1, 1, 32, 32])
    """

    def __init__(self, *, width: float = 1.0) -> None:
        super().__init__()
        n_channels = _scaled(_INNER_WIDTHS, width)[0]
        self.config: dict[str, Any] = {"width": width}
        self.layers = nn.Sequential(_layer(n_channels, n_channels), _output(n_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Inner features, shape (n_scans, 64 width, S / 2, S / 2), to pictures, shape (n_scans, 1, S / 2, S / 2)."""
        completions: Tensor = self.layers(features)
        return 2 * completions - 1
