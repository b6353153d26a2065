"""How far a completion is from its target: loss, RMSE, PSNR and SSIM, one number per scan.

Completions and targets are in [-1, 1]. All functions take batches of shape ``(n_scans, S, S)`` and give
float64 arrays of shape ``(n_scans,)``. Completions are not clipped: leaving [-1, 1] counts as the error it
is.
"""

from __future__ import annotations

import numpy as np
from skimage.metrics import structural_similarity

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.loss_settings import LOSS_SCALE

LARGEST_PSNR = 100.0
"""PSNR of a completion identical to its target, and the most any completion gets [dB]."""


_DATA_RANGE = 2.0
_SMALLEST_SIDE = 7
_FULL_WINDOW = 11


def loss(completions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Loss of each completion, 10 times its mean squared error on [-1, 1].

    The unit of Ede, "Adaptive partial scanning transmission electron microscopy with reinforcement learning",
    MLST 2 (2021) 045011.

    Args:
        completions: Shape ``(n_scans, S, S)``.
        targets: The same shape.

    Returns:
        Float64, shape ``(n_scans,)``.

    Raises:
        ValueError: If the shapes differ or are not those of a batch of square pictures.

    Example:
        >>> loss(np.full((1, 8, 8), 0.1), np.zeros((1, 8, 8))).round(6).tolist()
        [0.1]
    """
    return LOSS_SCALE * _mean_squared_error(completions, targets)


def rmse(completions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Root mean squared error of each completion on the scale [0, 1], half of that on [-1, 1].

    Args:
        completions: Shape ``(n_scans, S, S)``, in [-1, 1].
        targets: The same shape.

    Returns:
        Float64, shape ``(n_scans,)``.

    Raises:
        ValueError: If the shapes differ or are not those of a batch of square pictures.

    Example:
        >>> rmse(np.full((1, 8, 8), 0.1), np.zeros((1, 8, 8))).round(6).tolist()
        [0.05]
    """
    found: np.ndarray = 0.5 * np.sqrt(_mean_squared_error(completions, targets))
    return found


def rmse_of_loss(mean_loss: float) -> float:
    """Root mean squared error on the scale [0, 1] of all pixels together, of which the mean loss is known.

    Example:
        >>> rmse_of_loss(0.1)
        0.05
    """
    return float(np.sqrt(mean_loss / LOSS_SCALE) / 2.0)


def rmse_measured(completions: np.ndarray, targets: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Root mean squared error on the scale [0, 1] of the pixels that were measured.

    Targets may be blurred and readings noisy, so that a completion which keeps what was read is not without error here.

    Args:
        completions: Shape ``(n_scans, S, S)``, in [-1, 1].
        targets: The same shape.
        masks: Nonzero where a pixel was measured, the same shape.

    Returns:
        Float64, shape ``(n_scans,)``; NaN for a scan that measured nothing.

    Raises:
        ValueError: If the shapes differ or are not those of a batch of square pictures.

    Example:
        >>> masks = np.eye(8)[None]
        >>> rmse_measured(0.1 * masks, np.zeros((1, 8, 8)), masks).round(6).tolist()
        [0.05]
    """
    return _masked_rmse(completions, targets, masks, measured=True)


def rmse_unmeasured(completions: np.ndarray, targets: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Root mean squared error on the scale [0, 1] of the pixels that were not measured.

    Args:
        completions: Shape ``(n_scans, S, S)``, in [-1, 1].
        targets: The same shape.
        masks: Nonzero where a pixel was measured, the same shape.

    Returns:
        Float64, shape ``(n_scans,)``; NaN for a scan that measured every pixel.

    Raises:
        ValueError: If the shapes differ or are not those of a batch of square pictures.

    Example:
        >>> masks = np.eye(8)[None]
        >>> rmse_unmeasured(0.1 * masks, np.zeros((1, 8, 8)), masks).tolist()
        [0.0]
    """
    return _masked_rmse(completions, targets, masks, measured=False)


def psnr(completions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each completion [dB], ``10 log10(2^2 / MSE)``: the data range of [-1, 1] is 2.

    An identical completion would have an infinite ratio, which neither a mean nor JSON can hold, so the ratio
    is capped at `LARGEST_PSNR` (100 dB, an RMSE of 1e-5 on [0, 1], below the steps of a 16-bit picture).

    Args:
        completions: Shape ``(n_scans, S, S)``, in [-1, 1].
        targets: The same shape.

    Returns:
        Float64, shape ``(n_scans,)``, finite.

    Raises:
        ValueError: If the shapes differ or are not those of a batch of square pictures.

    Example:
        >>> psnr(np.full((1, 8, 8), 0.2), np.zeros((1, 8, 8))).round(6).tolist()
        [20.0]
    """
    error = _mean_squared_error(completions, targets)
    smallest = _DATA_RANGE**2 * 10.0 ** (-LARGEST_PSNR / 10.0)
    found: np.ndarray = 10.0 * np.log10(_DATA_RANGE**2 / np.maximum(error, smallest))
    return found


def ssim(completions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Structural similarity of each completion, with the settings of Wang et al. 2004 (doi:10.1109/TIP.2003.819861).

    Gaussian window with sigma = 1.5 px in 11 x 11 px, population covariances, K1 = 0.01, K2 = 0.03, data
    range 2; the mean is over the pixels whose window lies inside the picture. Pictures of 7 to 10 px have
    sigma = 0.8 px in 7 x 7 px instead.

    Args:
        completions: Shape ``(n_scans, S, S)``, in [-1, 1], S >= 7.
        targets: The same shape.

    Returns:
        Float64, shape ``(n_scans,)``, at most 1.

    Raises:
        ValueError: If the shapes differ or are not those of a batch of square pictures, or S < 7.

    Example:
        >>> picture = np.linspace(-1, 1, 64).reshape(1, 8, 8)
        >>> ssim(picture, picture).tolist()
        [1.0]
    """
    _check_shapes(completions, targets)
    side = completions.shape[-1]
    if side < _SMALLEST_SIDE:
        raise SettingError(f"got pictures of {side} x {side} px; expected at least 7 x 7 px for the SSIM window")
    sigma = 1.5 if side >= _FULL_WINDOW else 0.8
    scores = [
        structural_similarity(
            target,
            completion,
            data_range=_DATA_RANGE,
            gaussian_weights=True,
            sigma=sigma,
            use_sample_covariance=False,
        )
        for completion, target in zip(completions, targets, strict=True)
    ]
    return np.array(scores, dtype=np.float64)


def _mean_squared_error(completions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    _check_shapes(completions, targets)
    difference = np.subtract(completions, targets, dtype=np.float64)
    found: np.ndarray = np.mean(difference**2, axis=(1, 2))
    return found


def _masked_rmse(completions: np.ndarray, targets: np.ndarray, masks: np.ndarray, *, measured: bool) -> np.ndarray:
    _check_shapes(completions, targets)
    if masks.shape != targets.shape:
        raise ValueError(f"got masks {masks.shape}; expected {targets.shape}, as of the targets")
    chosen = (masks != 0) == measured
    squared = np.where(chosen, np.subtract(completions, targets, dtype=np.float64) ** 2, 0.0)
    n_pixels = chosen.sum(axis=(1, 2))
    means = np.full(len(targets), np.nan)
    np.divide(squared.sum(axis=(1, 2)), n_pixels, out=means, where=n_pixels > 0)
    found: np.ndarray = 0.5 * np.sqrt(means)
    return found


def _check_shapes(completions: np.ndarray, targets: np.ndarray) -> None:
    shape = completions.shape
    if shape != targets.shape or len(shape) != 3:
        raise ValueError(f"got completions {shape} and targets {targets.shape}; expected both (n_scans, H, W)")
