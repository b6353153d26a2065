"""Random symmetries of the square, applied to partial scans and their targets together."""

from __future__ import annotations

import torch
from torch import Tensor

N_SYMMETRIES = 8


def apply_symmetries(pictures: Tensor, symmetries: Tensor) -> Tensor:
    """Apply to each picture its own symmetry of the square; the torch form of ``micrographs.apply_symmetry``.

    Args:
        pictures: Pictures, shape (n_scans, n_channels, S, S).
        symmetries: Integers 0 to 7, shape (n_scans,): transposed first if 4 or more, then turned by k % 4 quarter
            turns from the row axis to the column axis, as ``np.rot90`` does; 0 is the identity.

    Returns:
        New pictures, same shape.

    Example:
        >>> apply_symmetries(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([1]))
        tensor([[[[2, 4],
                  [1, 3]]]])
    """
    chosen = symmetries.to(pictures.device)[:, None, None, None]
    pictures = torch.where(chosen >= 4, pictures.mT, pictures)
    pictures = torch.where(chosen % 2 == 1, pictures.rot90(1, (-2, -1)), pictures)
    return torch.where(chosen % 4 >= 2, pictures.flip(-2, -1), pictures)


def augment(partial_scans: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flip and turn each partial scan and its target at random, both by the same symmetry of the square.

    Args:
        partial_scans: Measured values and masks, shape (n_scans, 2, S, S).
        targets: Pictures to learn, shape (n_scans, 1, S, S).
        generator: Source of the symmetries, one per scan, uniform over the eight.

    Returns:
        The partial scans and the targets, transformed; same shapes.

    Example:
        >>> scans, targets = augment(torch.eye(4).expand(3, 2, 4, 4), torch.eye(4).expand(3, 1, 4, 4),
        ...                          torch.Generator().manual_seed(0))
        >>> torch.equal(scans[:, :1], targets)
        True
    """
    symmetries = torch.randint(N_SYMMETRIES, (len(partial_scans),), generator=generator, device=generator.device)
    return apply_symmetries(partial_scans, symmetries), apply_symmetries(targets, symmetries)
