from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from adaptive_scan.generators import blur_targets, completion_loss
from adaptive_scan.generators.losses import AlrcState, alrc
from adaptive_scan.micrographs import blur_target


def test_completion_loss_by_hand() -> None:
    completions = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]], [[[0.5, 0.5], [0.5, 0.5]]]])
    assert completion_loss(completions, torch.zeros_like(completions)).tolist() == [2.5, 2.5]
    assert completion_loss(completions, completions).tolist() == [0.0, 0.0]


def test_blur_equals_that_of_the_micrographs_room(rng: np.random.Generator) -> None:
    crops = rng.uniform(-1, 1, (3, 24, 24)).astype(np.float32)
    found = blur_targets(torch.from_numpy(crops)[:, None])[:, 0].numpy()
    np.testing.assert_allclose(found, blur_target(crops), rtol=0, atol=1e-6)
    expected = gaussian_filter(crops[0], 2.5, mode="mirror", radius=2)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-6)


def test_alrc_by_hand() -> None:
    """The start of this task: limit 1 + 3 sqrt(4 - 1) = 6.196152."""
    capped, state = alrc(torch.tensor([0.5, 6.0, 12.392305]), AlrcState())
    torch.testing.assert_close(capped, torch.tensor([0.5, 6.0, 6.196152]), rtol=1e-6, atol=0)
    assert state.mu1 == pytest.approx(0.999 + 0.001 * (0.5 + 6.0 + 6.196152) / 3, rel=1e-7)
    assert state.mu2 == pytest.approx(0.999 * 4 + 0.001 * (0.25 + 36.0 + 38.392305) / 3, rel=1e-7)


def test_alrc_by_hand_over_two_batches() -> None:
    _, state = alrc(torch.tensor([2.0, 20.0]), AlrcState(1.0, 5.0), n_sigma=2.0, decay=0.5)
    assert (state.mu1, state.mu2) == (2.25, 9.75)  # limit 5: capped 2 and 5, means 3.5 and 14.5
    capped, _ = alrc(torch.tensor([100.0]), state, n_sigma=2.0, decay=0.5)
    assert capped.item() == pytest.approx(2.25 + 2 * np.sqrt(9.75 - 2.25**2))


def test_alrc_keeps_the_direction_of_the_gradient_and_scales_it_to_the_limit() -> None:
    errors = torch.tensor([[3.0, 4.0], [0.1, 0.2]], requires_grad=True)
    losses = errors.square().sum(dim=1)
    (plain,) = torch.autograd.grad(losses.sum(), errors, retain_graph=True)
    capped, _ = alrc(losses, AlrcState(1.0, 2.0), n_sigma=4.0)
    (clipped,) = torch.autograd.grad(capped.sum(), errors)
    torch.testing.assert_close(clipped[0], plain[0] * (5.0 / 25.0))
    torch.testing.assert_close(clipped[1], plain[1])


def test_alrc_leaves_its_argument_and_an_infinite_loss_apart() -> None:
    losses = torch.tensor([0.0, 1.0])
    capped, _ = alrc(losses, AlrcState())
    torch.testing.assert_close(capped, losses, rtol=0, atol=0)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=5), st.integers(1, 50))
def test_moments_stay_those_of_some_losses(losses: list[float], n_batches: int) -> None:
    state = AlrcState(0.5, 0.25)
    for _ in range(n_batches):
        capped, state = alrc(torch.tensor(losses), state, decay=0.9)
        assert (capped <= torch.tensor(losses)).all()
    assert state.mu2 >= state.mu1**2


def test_impossible_moments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mu2: got 30\.0 with mu1 25\.0; expected mu2 >= mu1\*\*2 = 625\.0"):
        AlrcState(25.0, 30.0)
    with pytest.raises(ValueError, match="mu2: got nan"):
        AlrcState(1.0, float("nan"))
