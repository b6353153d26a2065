"""Fixtures that the tests of the generators share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

MakeScans = Callable[..., Tensor]


@pytest.fixture
def make_scans(rng: np.random.Generator) -> MakeScans:
    """Partial scans of scattered pixels with random values, the centre always measured."""

    def make(n_scans: int, size: int, fraction: float = 0.05) -> Tensor:
        masks = rng.random((n_scans, size, size)) < fraction
        masks[:, size // 2, size // 2] = True
        values = rng.uniform(-1, 1, masks.shape) * masks
        return torch.from_numpy(np.stack((values, masks), axis=1).astype(np.float32))

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)
