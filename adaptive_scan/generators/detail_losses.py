"""Losses that ask for what the mean squared error leaves out: edges, local contrast, spectrum, mean and deviation.

Equations of "the restoration paper" are those of Lobato, Friedrich and Van Aert, "Deep convolutional neural networks to
restore single-shot electron microscopy images".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptive_scan.errors import SettingError

WHITENING_WINDOWS = (2, 4, 8, 16)  # [px]
FOURIER_POWER = 0.125
_SMALLEST_VARIANCE = 1e-12  # below it a picture is uniform, and the slope of its standard deviation is taken as 0


def _sobel_gradients(pictures: Tensor) -> Tensor:
    """Sobel gradients along rows and columns, shape (n_scans, 1, S, S) -> (n_scans, 2, S - 2, S - 2)."""
    smooth = pictures.new_tensor([0.25, 0.5, 0.25])
    slope = pictures.new_tensor([-0.5, 0.0, 0.5])
    kernels = torch.stack((torch.outer(slope, smooth), torch.outer(smooth, slope)))[:, None]
    return F.conv2d(pictures, kernels)


def sobel_loss(completions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared difference of the Sobel gradients, L = mean(|∇(completion - target)|²).

    Ede added Sobel losses to mean squared errors because sight is sensitive to edges (thesis; adaptive-scan paper,
    Fig. S2c), without stating their form. Here the kernels are divided by 8, so that a ramp of 1 per px has a gradient
    of 1 per px; the frame of one pixel, where they do not fit, is left out.

    Args:
        completions: Completed pictures, shape (n_scans, 1, S, S), S at least 3.
        targets: What they should be, same shape.

    Returns:
        Losses [per px²], shape (n_scans,).

    Example:
        >>> ramps = torch.arange(8.0).expand(1, 1, 8, 8)
        >>> sobel_loss(0.5 * ramps, torch.zeros(1, 1, 8, 8))
        tensor([0.2500])
    """
    return _sobel_gradients(completions - targets).square().sum(dim=1).flatten(1).mean(dim=1)


def local_whitening(pictures: Tensor, window: int, *, smallest_deviation: float = 0.01) -> Tensor:
    """Whitening transform of each pixel by the square around it (restoration paper, Eq. 7).

    y' = (y - mean(y)) / max(sigma_min, std(y)), with mean and standard deviation over the window x window pixels from
    (i - window // 2, j - window // 2) on. Beyond the border the picture is reflected without repeating the edge pixel.

    Args:
        pictures: Pictures, shape (n_scans, 1, S, S).
        window: Side of the square [px], at most 2 S - 2.
        smallest_deviation: sigma_min; the paper gives no value.

    Returns:
        Whitened pictures, same shape.

    Raises:
        ValueError: If the window is below 2 px or too wide for the pictures.

    Example:
        >>> whitened = local_whitening(torch.tensor([[[[1.0, 5.0], [1.0, 5.0]]]]), 2)
        >>> whitened[0, 0, 1].tolist()
        [-1.0, 1.0]
    """
    before = window // 2
    size = min(pictures.shape[-2:])
    if window < 2 or before >= size:
        raise SettingError(f"window: got {window} px; expected 2 to {2 * size - 1} px for pictures of side {size} px")
    after = window - 1 - before
    # moments about the picture's mean, so that a bright picture keeps its small variances
    centred = pictures - pictures.mean(dim=(-2, -1), keepdim=True)
    padded = F.pad(centred, (before, after, before, after), mode="reflect")
    means = F.avg_pool2d(padded, window, stride=1)
    variances = F.avg_pool2d(padded.square(), window, stride=1) - means.square()
    return (centred - means) / variances.clamp(min=smallest_deviation**2).sqrt()


def local_whitening_loss(
    completions: Tensor,
    targets: Tensor,
    *,
    windows: Sequence[int] = WHITENING_WINDOWS,
    smallest_deviation: float = 0.01,
) -> Tensor:
    """Multi-local whitening loss: mean absolute difference of the whitened pictures (restoration paper, Eq. 8).

    L = mean over windows of mean(abs(completion' - target')), with the whitening y' of :func:`local_whitening`. Fine
    detail counts alike where contrast is low and where it is high: L does not change when a picture is scaled by a
    positive number or shifted, as long as its local deviations stay above the smallest one.

    Args:
        completions: Completed pictures, shape (n_scans, 1, S, S).
        targets: What they should be, same shape.
        windows: Sides of the neighbourhoods [px].
        smallest_deviation: Local standard deviation below which contrast is not raised.

    Returns:
        Losses, shape (n_scans,).

    Raises:
        ValueError: If a window is too wide for the pictures.

    Example:
        >>> pictures = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> bool((local_whitening_loss(0.5 * pictures + 0.2, pictures) < 1e-4).all())
        True
    """
    whitened = [
        [
            local_whitening(pictures, window, smallest_deviation=smallest_deviation)
            for pictures in (completions, targets)
        ]
        for window in windows
    ]
    differences = [(completed - target).abs().flatten(1).mean(dim=1) for completed, target in whitened]
    return torch.stack(differences).mean(dim=0)


def fourier_loss(
    completions: Tensor, targets: Tensor, *, power: float = FOURIER_POWER, smallest: float = 1e-3
) -> Tensor:
    """Mean power of the Fourier amplitudes of the error, L = mean(|F(completion - target)|^power).

    Equation 9 of the restoration paper, which takes power 0.125 to raise the high frequencies, whose amplitudes are
    small. F is unitary (divided by S), so amplitudes do not grow with the picture, and ``power=2`` gives the mean
    squared error (Parseval). Below ``smallest`` the power becomes a parabola through 0, because its slope has no limit.

    Args:
        completions: Completed pictures, shape (n_scans, 1, S, S).
        targets: What they should be, same shape.
        power: Exponent, in (0, 2].
        smallest: Amplitude below which the parabola stands in.

    Returns:
        Losses, shape (n_scans,).

    Raises:
        ValueError: If ``power`` is out of range.

    Example:
        >>> fourier_loss(torch.full((1, 1, 8, 8), 0.5), torch.zeros(1, 1, 8, 8), power=1.0)
        tensor([0.0625])
    """
    if not 0 < power <= 2:
        raise SettingError(f"power: got {power}; expected more than 0 and at most 2")
    spectrum = torch.fft.fft2(completions - targets, norm="ortho")
    squares = spectrum.real.square() + spectrum.imag.square()
    floor = smallest**2
    # the untaken branch must have a finite slope too
    powers = squares.clamp(min=floor).pow(power / 2)
    parabola = squares * floor ** (power / 2 - 1)
    return torch.where(squares >= floor, powers, parabola).flatten(1).mean(dim=1)


def mean_loss(completions: Tensor, targets: Tensor) -> Tensor:
    """Difference of the pictures' means, L = abs(mean(target) - mean(completion)) (restoration paper, Eq. 10).

    Args:
        completions: Completed pictures, shape (n_scans, 1, S, S).
        targets: What they should be, same shape.

    Returns:
        Losses, shape (n_scans,).

    Example:
        >>> mean_loss(torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, 1, 4, 4))
        tensor([0.5000])
    """
    return (targets - completions).flatten(1).mean(dim=1).abs()


def _standard_deviations(pictures: Tensor) -> Tensor:
    variances = pictures.flatten(1).var(dim=1, correction=0)
    return torch.where(
        variances > _SMALLEST_VARIANCE, variances.clamp(min=_SMALLEST_VARIANCE).sqrt(), torch.zeros_like(variances)
    )


def standard_deviation_loss(completions: Tensor, targets: Tensor) -> Tensor:
    """Difference of the pictures' standard deviations, abs(std(target) - std(completion)) (restoration paper, Eq. 11).

    The standard deviation is that of the picture's pixels, divided by their number S². The gradient of a uniform
    picture's is 0.

    Args:
        completions: Completed pictures, shape (n_scans, 1, S, S).
        targets: What they should be, same shape.

    Returns:
        Losses, shape (n_scans,).

    Example:
        >>> standard_deviation_loss(torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]]), torch.zeros(1, 1, 2, 2))
        tensor([1.])
    """
    return (_standard_deviations(targets) - _standard_deviations(completions)).abs()


DETAIL_LOSSES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    sobel_loss,
    local_whitening_loss,
    fourier_loss,
    mean_loss,
    standard_deviation_loss,
)
"""The losses whose weights are the settings of `adaptive_scan.generators.loss_settings.DetailLosses`, in its order."""
