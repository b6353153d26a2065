"""Three spectrally normalised discriminators that look at random crops of three sizes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from adaptive_scan.errors import SettingError

_WIDTHS = (64, 128, 256, 512)
_KERNEL_SIDE = 4
_LEAK = 0.2
_WEIGHT_DEVIATION = 0.03
_IMAGE_SIZE = 512  # [px]; the pictures that the paper's crop sizes are meant for

Places = tuple[Tensor, ...]


def _side_after(side: int) -> int:
    """Side of what is left of a picture after all convolutions, each 4x4 with stride 2 and no padding."""
    for _ in _WIDTHS:
        side = (side - _KERNEL_SIDE) // 2 + 1 if side >= _KERNEL_SIDE else 0
    return side


class _Discriminator(nn.Module):
    """Score of square pictures of one side: strided convolutions with leaky ReLU, and one linear unit."""

    def __init__(self, side: int, width: float) -> None:
        super().__init__()
        channels = [1, *(max(1, round(n_channels * width)) for n_channels in _WIDTHS)]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(channels):
            layers += [_normalised(nn.Conv2d(n_in, n_out, _KERNEL_SIDE, 2)), nn.LeakyReLU(_LEAK)]
        n_features = channels[-1] * _side_after(side) ** 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), _normalised(nn.Linear(n_features, 1)))

    def forward(self, crops: Tensor) -> Tensor:
        scores: Tensor = self.layers(crops)
        return scores[:, 0]


def _normalised(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """The layer with the paper's first weights and biases, its weights divided by their largest singular value."""
    nn.init.normal_(layer.weight, std=_WEIGHT_DEVIATION)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return spectral_norm(layer, n_power_iterations=1)


class Discriminators(nn.Module):
    """The multiscale discriminator of partial STEM, D = {D1, D2, D3} (Ede and Beanland, Sci. Rep. 10 (2020) 8332).

    Each looks at one random crop of a picture, of 70, 140 or 280 px, resampled bilinearly to 70 px, and says how real
    it is; they learn to say 1 of micrographs and 0 of completions. Layers of each: 4x4 convolutions with stride 2 and
    no padding to 64, 128, 256 and 512 channels, with leaky ReLU of slope 0.2, and a linear unit. All weights are
    spectrally normalised, with one power iteration in each forward pass in training.

    The figure's numbers of channels are not in the text; they are those of the published source code: 2,756,545
    parameters each, 8,269,635 in all. Crops are resampled with an antialiasing filter, since larger ones are there to
    be insensitive to high-frequency noise. Ours is the extension to small pictures: where S is less than the largest
    crop, all crops are S / 512 times their size, and at least 1 px.

    Args:
        sizes: Sides of the crops [px].
        side: Side to which crops are resampled [px], at least 46, which the convolutions reduce to one.
        width: Factor of the number of channels; 1 is the paper's.

    Attributes:
        config: Constructor keywords that rebuild the network.

    Raises:
        ValueError: If a size, ``side`` or ``width`` is too small, or there are no sizes.

    Example:
        >>> discriminators = Discriminators(width=1 / 16)
        >>> scores = discriminators(torch.zeros(2, 1, 96, 96), torch.Generator().manual_seed(0))
        >>> [tuple(score.shape) for score in scores]
        [(2,), (2,), (2,)]
    """

    def __init__(self, *, sizes: Sequence[int] = (70, 140, 280), side: int = 70, width: float = 1.0) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise SettingError(f"sizes: got {tuple(sizes)}; expected sides of crops of at least 1 px")
        if _side_after(side) < 1:
            raise SettingError(f"side: got {side} px; expected at least 46")
        if not width > 0:
            raise SettingError(f"width: got {width}; expected more than 0")
        self.config: dict[str, Any] = {"sizes": list(sizes), "side": side, "width": width}
        self.sizes = tuple(sizes)
        self.side = side
        self.discriminators = nn.ModuleList(_Discriminator(side, width) for _ in sizes)

    def crop_sizes(self, image_size: int) -> tuple[int, ...]:
        """Sides of the crops of pictures of side S [px]: ``sizes``, or S / 512 of them where one does not fit.

        Args:
            image_size: Side S of the pictures [px].

        Returns:
            Sides [px], one for each discriminator.
        """
        if image_size >= max(self.sizes):
            return self.sizes
        return tuple(min(image_size, max(1, round(size * image_size / _IMAGE_SIZE))) for size in self.sizes)

    def draw_places(self, n_pictures: int, image_size: int, generator: torch.Generator) -> Places:
        """Draw where to crop, uniformly over all places where a crop lies inside the picture.

        Args:
            n_pictures: Number of pictures.
            image_size: Their side S [px].
            generator: Source of the places.

        Returns:
            For each discriminator the top-left pixels (row, column) of the crops, int64, shape (n_pictures, 2).
        """
        return tuple(
            torch.randint(image_size - size + 1, (n_pictures, 2), generator=generator, device=generator.device)
            for size in self.crop_sizes(image_size)
        )

    def forward(
        self, pictures: Tensor, generator: torch.Generator | None = None, *, places: Places | None = None
    ) -> tuple[Tensor, ...]:
        """Scores of pictures.

        Args:
            pictures: Micrographs or completions in [-1, 1], shape (n_pictures, 1, S, S).
            generator: Source of the places of the crops.
            places: What `draw_places` returned, instead of a generator: the same places for micrographs and for
                their completions.

        Returns:
            A score for each picture by each discriminator, a tuple of tensors of shape (n_pictures,).

        Raises:
            ValueError: If there is neither a generator nor places, or both, or pictures have another shape.
        """
        shape = tuple(pictures.shape)
        if len(shape) != 4 or shape[1] != 1 or shape[2] != shape[3]:
            raise ValueError(f"pictures have shape {shape}; expected (n_pictures, 1, S, S)")
        if (generator is None) == (places is None):
            found = "neither" if places is None else "both"
            raise SettingError(f"got {found} of generator and places; expected one of them")
        if generator is not None:
            places = self.draw_places(shape[0], shape[2], generator)
        assert places is not None
        crops = (
            _crop(pictures, corners, size) for corners, size in zip(places, self.crop_sizes(shape[2]), strict=True)
        )
        return tuple(
            discriminator(_resample(crop, self.side))
            for discriminator, crop in zip(self.discriminators, crops, strict=True)
        )


def _crop(pictures: Tensor, corners: Tensor, size: int) -> Tensor:
    """Square cuts, shape (n_pictures, 1, size, size), of pictures at their corners, shape (n_pictures, 2)."""
    return torch.stack(
        [
            picture[:, row : row + size, column : column + size]
            for picture, (row, column) in zip(pictures, corners.tolist(), strict=True)
        ]
    )


def _resample(crops: Tensor, side: int) -> Tensor:
    """Crops resampled bilinearly to a side [px], with antialiasing where they shrink."""
    if crops.shape[-1] == side:
        return crops
    return F.interpolate(crops, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
