"""Supersampling of nearest-neighbour downsampled crops, the experiment of Table 2 of Ede, arXiv 1910.10467.

Every s-th pixel of every s-th row of a crop is kept, a uniform grid that covers about 1/s^2 of the pixels, and each
method completes it to the full size again. What is compared is the mean squared error on [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adaptive_scan.evaluation.metrics import rmse
from adaptive_scan.evaluation.statistics import bootstrap_ratio, ratio_of_means
from adaptive_scan.generators.grids import GRID_WEIGHTS
from adaptive_scan.micrographs import blur_target

STRIDES = (4, 5, 6, 8, 10)
"""Strides of the published table [px]: 1/16, 1/25, 1/36, 1/64 and 1/100."""


def downsample_nearest(crops: np.ndarray, stride: int) -> Tensor:
    """Partial scans of every ``stride``-th pixel of every ``stride``-th row, from the first pixel on.

    Args:
        crops: In [-1, 1], shape (n_crops, S, S).
        stride: Distance of the kept pixels [px].

    Returns:
        Partial scans, float32, shape (n_crops, 2, S, S).

    Raises:
        ValueError: If ``stride`` is below 1, or leaves fewer than 2 x 2 pixels.

    Example:
        >>> downsample_nearest(np.ones((1, 5, 5)), 2)[0, 1].sum().item()
        9.0
    """
    side = crops.shape[-1]
    if stride < 1 or stride >= side:
        raise ValueError(f"stride: got {stride!r} px for crops of {side} px; expected 1 to {side - 1} px")
    scans = torch.zeros(len(crops), 2, side, side)
    scans[:, 0, ::stride, ::stride] = torch.from_numpy(np.ascontiguousarray(crops[:, ::stride, ::stride])).float()
    scans[:, 1, ::stride, ::stride] = 1.0
    return scans


class CellCompleter:
    """Resampling as image libraries resize: each kept value is taken for that of its whole cell.

    Pixel k of n stands at the centre of its cell, ``(k + 1/2) S / n - 1/2`` [px]. After nearest-neighbour downsampling
    from the first pixel on that moves the picture by ``(s - 1) / 2`` px along both axes. It is here to show what
    published figures contain; `adaptive_scan.generators.grids.GridCompleter` leaves values where they were measured.

    Args:
        method: A key of `adaptive_scan.generators.grids.GRID_WEIGHTS`.

    Example:
        >>> CellCompleter("nearest")(downsample_nearest(np.eye(4)[None], 2))[0, 0, 0]
        tensor([1., 1., 0., 0.])
    """

    def __init__(self, method: str) -> None:
        self.method = method

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete scans that share one grid, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        side = partial_scans.shape[-1]
        rows = partial_scans[0, 1].any(dim=1).nonzero()[:, 0]
        centres = (np.arange(len(rows)) + 0.5) * side / len(rows) - 0.5
        weights = torch.from_numpy(GRID_WEIGHTS[self.method](centres, side)).to(partial_scans)
        return weights @ partial_scans[:, :1, rows][..., rows] @ weights.T


def supersampling_errors(
    crops: np.ndarray,
    methods: Mapping[str, Callable[[Tensor], Tensor]],
    strides: Sequence[int] = STRIDES,
    *,
    blur: bool = True,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Mean squared error on [0, 1] of every method at every stride on every crop.

    Args:
        crops: In [-1, 1], shape (n_crops, S, S).
        methods: Completers by name.
        strides: Distances of the kept pixels [px].
        blur: Whether targets are blurred by `adaptive_scan.micrographs.blur_target` (5 x 5 px, sigma 2.5 px), as the
            paper's are. What is measured never is.
        device: Where the partial scans go.

    Returns:
        Float64, shape (n_methods, n_strides, n_crops).

    Raises:
        ValueError: As :func:`downsample_nearest`.

    Example:
        >>> from adaptive_scan.generators import make_completer
        >>> ramp = np.tile(np.linspace(-1.0, 1.0, 9), (1, 9, 1))
        >>> supersampling_errors(ramp, {"bilinear": make_completer("bilinear")}, [2, 4], blur=False).max().round(12)
        np.float64(0.0)
    """
    targets = blur_target(crops) if blur else crops
    errors = np.empty((len(methods), len(strides), len(crops)))
    for place, stride in enumerate(strides):
        scans = downsample_nearest(crops, stride).to(device)
        for number, complete in enumerate(methods.values()):
            with torch.no_grad():
                pictures = complete(scans)[:, 0].cpu().numpy()
            errors[number, place] = rmse(pictures, targets) ** 2
    return errors


@dataclass(frozen=True)
class SupersamplingScore:
    """How well one method supersamples at one stride; errors on [0, 1].

    Attributes:
        method: Its name.
        stride: Distance of the kept pixels [px].
        rmse: Root of the mean over crops of the mean squared error, the published figure.
        rmse_ci95: Its interval by a bootstrap over groups; None for a single group or an error of 0.
        rmse_of_crops: Mean over crops of each crop's root mean squared error.
        deviation: Root of the standard deviation of the crops' mean squared errors, as published beside the RMSE.
        ratio: Its mean squared error over the reference's; None where that is 0.
        ratio_ci95: Interval of the ratio.
    """

    method: str
    stride: int
    rmse: float
    rmse_ci95: tuple[float, float] | None
    rmse_of_crops: float
    deviation: float
    ratio: float | None
    ratio_ci95: tuple[float, float] | None


def supersampling_scores(
    errors: np.ndarray,
    methods: Sequence[str],
    strides: Sequence[int],
    groups: np.ndarray,
    *,
    reference: str,
    seed: int = 0,
) -> list[SupersamplingScore]:
    """Summarise what :func:`supersampling_errors` found.

    Args:
        errors: Mean squared errors on [0, 1], shape (n_methods, n_strides, n_crops).
        methods: Their names.
        strides: Their strides [px].
        groups: Group of micrographs of each crop, the unit of the bootstrap, shape (n_crops,).
        reference: The method that ratios refer to.
        seed: Of the bootstrap; every interval is of the same resamples.

    Returns:
        A score for each method and stride, by method.

    Raises:
        ValueError: If the reference is none of the methods, or the shapes do not fit.

    Example:
        >>> errors = np.array([[[0.01, 0.04]], [[0.04, 0.16]]])
        >>> score = supersampling_scores(errors, ["a", "b"], [4], np.array(["x", "y"]), reference="b")[0]
        >>> round(score.rmse, 4), round(score.rmse_of_crops, 4), score.ratio
        (0.1581, 0.15, 0.25)
    """
    if reference not in methods:
        raise ValueError(f"reference: got {reference!r}; expected one of {', '.join(methods)}")
    ones = np.ones(errors.shape[-1])
    scores = []
    for number, method in enumerate(methods):
        for place, stride in enumerate(strides):
            own, other = errors[number, place], errors[list(methods).index(reference), place]
            interval = bootstrap_ratio(own, ones, groups, np.random.default_rng(seed))
            scores.append(
                SupersamplingScore(
                    method,
                    stride,
                    rmse=float(np.sqrt(own.mean())),
                    rmse_ci95=None if interval is None else (float(interval[0] ** 0.5), float(interval[1] ** 0.5)),
                    rmse_of_crops=float(np.sqrt(own).mean()),
                    deviation=float(np.sqrt(own.std())),
                    ratio=ratio_of_means(own, other),
                    ratio_ci95=bootstrap_ratio(own, other, groups, np.random.default_rng(seed)),
                )
            )
    return scores
