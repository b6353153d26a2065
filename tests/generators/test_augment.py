from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from adaptive_scan.generators.augment import apply_symmetries, augment
from adaptive_scan.micrographs import apply_symmetry


def test_symmetries_equal_those_of_the_micrographs_room(rng: np.random.Generator) -> None:
    crops = rng.uniform(-1, 1, (8, 6, 6)).astype(np.float32)
    found = apply_symmetries(torch.from_numpy(crops)[:, None], torch.arange(8))[:, 0].numpy()
    for symmetry in range(8):
        first = crops[symmetry].T if symmetry >= 4 else crops[symmetry]
        np.testing.assert_array_equal(found[symmetry], np.rot90(first, symmetry % 4))
    np.testing.assert_array_equal(found, apply_symmetry(crops, np.arange(8)))
    np.testing.assert_array_equal(found[0], crops[0])


def test_the_eight_symmetries_differ() -> None:
    pictures = torch.arange(16.0).view(1, 1, 4, 4).expand(8, 1, 4, 4)
    found = apply_symmetries(pictures, torch.arange(8))
    assert len({tuple(picture.flatten().tolist()) for picture in found}) == 8


def test_scan_and_target_move_together(make_scans: Callable[..., torch.Tensor]) -> None:
    scans = make_scans(64, 12, fraction=0.3)
    moved_scans, moved_targets = augment(scans, scans[:, :1] * 2, torch.Generator().manual_seed(1))
    torch.testing.assert_close(moved_scans[:, :1] * 2, moved_targets, rtol=0, atol=0)
    torch.testing.assert_close(moved_scans.sum((2, 3)), scans.sum((2, 3)))


def test_every_symmetry_is_drawn_equally_often_and_reproducibly() -> None:
    pictures = torch.arange(16.0).view(1, 1, 4, 4).expand(4000, 1, 4, 4)
    moved, _ = augment(pictures.expand(-1, 2, -1, -1), pictures, torch.Generator().manual_seed(2))
    again, _ = augment(pictures.expand(-1, 2, -1, -1), pictures, torch.Generator().manual_seed(2))
    assert torch.equal(moved, again)
    _, counts = moved[:, 0].flatten(1).unique(dim=0, return_counts=True)
    assert len(counts) == 8
    assert (counts - 500).abs().max() < 100
