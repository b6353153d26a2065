"""Inpainting of partial scans: the biharmonic equation and least total variation, both on the pixels themselves."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.by_mask import complete_by_mask, on_one_line
from adaptive_scan.generators.distance import nearest_infill
from adaptive_scan.generators.infill import pull_push_infill

_PIXELS_AT_ONCE = 2**18  # what an iteration works on should stay near the processor
_STEP = 0.03  # of the primal variables, on values whose range is 1; found by trial

# Lengths of outlines from the edges they cut in four directions (Cauchy-Crofton; see the class).
_DIRECTIONS = {
    (1, 0): math.pi / 8,
    (0, 1): math.pi / 8,
    (1, 1): math.pi / 8 / math.sqrt(2),
    (1, -1): math.pi / 8 / math.sqrt(2),
}


class BiharmonicCompleter:
    """The solution u of the biharmonic equation ``L L u = 0`` at all pixels that were not measured.

    L is the five-point Laplacian with reflecting edges; measured pixels stand. It is the equation that
    ``skimage.restoration.inpaint_biharmonic`` solves (Damelin and Hoang 2018, doi:10.1155/2018/3950312), by one sparse
    factorisation that all scans of the same mask share; no value is clipped. Computed on the CPU in float64, without
    gradients. The factorisation grows steeply with the picture: some 0.06 s at 96 px and 3 s at 256 px. Without three
    measured pixels off one line, the nearest one is taken.

    Example:
        >>> partial_scans = torch.zeros(1, 2, 5, 5)
        >>> partial_scans[0, 1, ::2, ::2] = 1.0
        >>> partial_scans[0, 0, ::2, ::2] = 0.25
        >>> bool(torch.isclose(BiharmonicCompleter()(partial_scans), torch.tensor(0.25)).all())
        True
    """

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        return complete_by_mask(partial_scans, _biharmonic)


def _biharmonic(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    if mask.all():
        return values
    measured = mask.ravel()
    laplacian = _laplacian(*mask.shape)
    equations = (laplacian @ laplacian)[~measured].tocsc()
    # Symmetric and positive definite: neither pivots nor the ordering for general matrices are needed.
    factors = splu(
        equations[:, ~measured],
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    known = values.reshape(len(values), -1)[:, measured].astype(np.float64)
    # Constants solve the equation; without them rounding is relative to the contrast.
    means = known.mean(axis=1, keepdims=True)
    pictures = np.empty((len(values), mask.size), dtype=np.float32)
    pictures[:, measured] = known
    pictures[:, ~measured] = factors.solve(-(equations[:, measured] @ (known - means).T)).T + means
    return pictures.reshape(values.shape)


def _laplacian(height: int, width: int) -> sparse.csr_matrix:
    """Five-point Laplacian of a picture with reflecting edges, shape (height * width, height * width)."""
    down, right = _second_difference(height), _second_difference(width)
    return sparse.csr_matrix(sparse.kron(down, sparse.eye(width)) + sparse.kron(sparse.eye(height), right))


def _second_difference(side: int) -> sparse.dia_matrix:
    diagonal = np.full(side, -2.0)
    diagonal[0] += 1.0
    diagonal[-1] += 1.0
    return sparse.diags([np.ones(side - 1), diagonal, np.ones(side - 1)], [-1, 0, 1])


class TotalVariationCompleter:
    """The picture of least total variation that has the measured values.

    The variation is ``V(u) = sum_d w_d sum_x |u(x + e_d) - u(x)|`` over the four directions of neighbouring pixels,
    with ``w = pi / 8`` along rows and columns and ``pi / (8 sqrt 2)`` along diagonals. By these weights of the
    Cauchy-Crofton formula (Boykov and Kolmogorov 2003, doi:10.1109/ICCV.2003.1238310) the variation of an outline is
    its length to 6% whatever its direction, and flips and quarter turns change nothing, unlike with forward
    differences. Minimised by the primal-dual iteration of Chambolle and Pock (2011, doi:10.1007/s10851-010-0251-1,
    algorithm 1), a fixed number of steps from the pull-push infill, on values scaled to a range of 1. Batched on the
    device of the scans, in float32, without gradients. Without three measured pixels off one line, the nearest one is
    taken.

    Args:
        n_iterations: Steps of the iteration.

    Raises:
        ValueError: If ``n_iterations`` is below 1.

    Example:
        >>> partial_scans = torch.ones(1, 2, 4, 6)
        >>> partial_scans[..., 3:5] = 0.0
        >>> partial_scans[:, 0, :, :3] = -1.0
        >>> pictures = TotalVariationCompleter()(partial_scans)
        >>> pictures[0, 0, 0, [2, 5]].tolist(), round(float(total_variation(pictures)), 2)
        ([-1.0, 1.0], 6.47)
    """

    def __init__(self, n_iterations: int = 500) -> None:
        if n_iterations < 1:
            raise SettingError(f"n_iterations: got {n_iterations!r}; expected at least 1")
        self.n_iterations = n_iterations

    @torch.no_grad()
    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        scans = partial_scans.float()
        pictures = nearest_infill(scans)
        masks = (scans[:, 1] != 0).cpu().numpy()
        solved = [number for number, mask in enumerate(masks) if not on_one_line(np.argwhere(mask))]
        n_at_once = max(1, _PIXELS_AT_ONCE // max(1, scans[0, 0].numel() if len(scans) else 1))
        for begin in range(0, len(solved), n_at_once):
            some = torch.tensor(solved[begin : begin + n_at_once], device=scans.device)
            pictures[some] = self._minimise(scans[some])
        return pictures.to(partial_scans)

    def _minimise(self, scans: Tensor) -> Tensor:
        measured = scans[:, 1:] != 0
        lowest = torch.where(measured, scans[:, :1], torch.inf).amin(dim=(1, 2, 3), keepdim=True)
        highest = torch.where(measured, scans[:, :1], -torch.inf).amax(dim=(1, 2, 3), keepdim=True)
        span = torch.where(highest > lowest, highest - lowest, 1.0)
        start = pull_push_infill(torch.cat((torch.where(measured, (scans[:, :1] - lowest) / span, 0.0), measured), 1))
        known = start.clone()
        # Twice the largest degree bounds the eigenvalues of a graph's Laplacian; each direction has two neighbours.
        dual_step = 1.0 / (_STEP * 4 * sum(weight**2 for weight in _DIRECTIONS.values()))
        pictures, ahead = start, start.clone()
        duals = [torch.zeros_like(_difference(start, direction)) for direction in _DIRECTIONS]
        for _ in range(self.n_iterations):
            descent = pictures.clone()
            for dual, (direction, weight) in zip(duals, _DIRECTIONS.items(), strict=True):
                dual.add_(_difference(ahead, direction), alpha=dual_step * weight).clamp_(-1.0, 1.0)
                here, there = _ends(descent, direction)
                here.add_(dual, alpha=_STEP * weight)
                there.sub_(dual, alpha=_STEP * weight)
            descent = torch.where(measured, known, descent)
            ahead = torch.sub(descent, pictures, out=pictures).add_(descent)
            pictures = descent
        return torch.where(measured, scans[:, :1], pictures * span + lowest)


def total_variation(pictures: Tensor) -> Tensor:
    """Total variation of pictures as :class:`TotalVariationCompleter` measures it.

    Args:
        pictures: Shape (n_scans, 1, H, W).

    Returns:
        ``V``, shape (n_scans,).

    Example:
        >>> step = torch.tensor([0.0, 0.0, 1.0]).expand(1, 1, 1, 3)
        >>> round(float(total_variation(step)), 4)
        0.3927
    """
    parts = [
        weight * _difference(pictures, direction).abs().sum(dim=(1, 2, 3)) for direction, weight in _DIRECTIONS.items()
    ]
    return torch.stack(parts).sum(dim=0)


def _ends(pictures: Tensor, direction: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Views of the pixels x and x + direction of all pairs inside the pictures."""
    down, right = direction
    height, width = pictures.shape[-2:]
    here = pictures[..., : height - down, max(0, -right) : width - max(0, right)]
    there = pictures[..., down:, max(0, right) : width - max(0, -right)]
    return here, there


def _difference(pictures: Tensor, direction: tuple[int, int]) -> Tensor:
    here, there = _ends(pictures, direction)
    return there - here
