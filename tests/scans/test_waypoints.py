import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.scans import ScanGeometry
from adaptive_scan.scans.waypoints import between_corners, corners_of, segments_between, walk


@given(seed=st.integers(0, 1000), n_positions=st.integers(1, 4))
def test_corners_and_positions_are_those_of_the_geometry(seed: int, n_positions: int) -> None:
    rng = np.random.default_rng(seed)
    geometry = ScanGeometry(32, 5, n_positions, spacing=(1.0, 4.0))
    headings, spacings = rng.uniform(-np.pi, np.pi, 5), rng.uniform(1.0, 4.0, 5)
    corners = corners_of(geometry, torch.from_numpy(headings), torch.from_numpy(spacings))
    expected = geometry.path(headings[None], spacings[None])
    np.testing.assert_allclose(between_corners(corners[None], n_positions).numpy(), expected, atol=1e-4)
    back = segments_between(corners, n_positions)
    np.testing.assert_allclose(np.exp(1j * back[0].numpy()), np.exp(1j * headings), atol=1e-9)
    np.testing.assert_allclose(back[1].numpy(), spacings, atol=1e-9)


@given(seed=st.integers(0, 1000))
def test_segments_head_for_their_waypoints_within_the_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    geometry = ScanGeometry(32, 5, 2, spacing=(0.5, 3.0))
    start, waypoints = torch.from_numpy(rng.uniform(0, 31, (3, 2))), torch.from_numpy(rng.uniform(0, 31, (3, 4, 2)))
    corners = torch.cat((start[:, None], walk(start, waypoints, geometry)), dim=1)
    steps, ways = torch.diff(corners, dim=1), waypoints - corners[:, :-1]
    lengths, wanted = steps.norm(dim=-1), ways.norm(dim=-1)
    torch.testing.assert_close(lengths, wanted.clamp(1.0, 6.0))
    torch.testing.assert_close(steps / lengths[..., None], ways / wanted[..., None])


def test_the_path_to_waypoints_is_differentiable_in_them() -> None:
    geometry = ScanGeometry(32, 5, 1, spacing=(0.5, 3.0))
    start = torch.zeros(1, 2, dtype=torch.float64)
    waypoints = torch.tensor([[[1.0, 1.0], [9.0, 2.0], [5.0, 5.0]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda where: walk(start, where, geometry), waypoints)


@pytest.mark.parametrize("off", [0.0, 1e-9, 1e-5])
def test_a_waypoint_that_is_reached_already_keeps_the_direction_and_gradients_finite(off: float) -> None:
    geometry = ScanGeometry(32, 5, 2, spacing=(0.5, 3.0))
    start = torch.tensor([[4.0, 4.0]], dtype=torch.float64, requires_grad=True)
    ways = [[4.0, 4.0 + off], [5.0, 6.0], [5.0, 6.0 + off], [9.0, 9.0]]
    waypoints = torch.tensor([ways], dtype=torch.float64, requires_grad=True)
    corners = walk(start, waypoints, geometry)
    # The first goes down the rows, the third on as the second; both as far as the shortest segment.
    assert corners[0, 0].tolist() == [5.0, 4.0]
    torch.testing.assert_close(corners[0, 1], torch.tensor([5.0, 6.0], dtype=torch.float64))
    torch.testing.assert_close(corners[0, 2], torch.tensor([5.0, 7.0], dtype=torch.float64))
    corners.square().sum().backward()
    for gradient in (start.grad, waypoints.grad):
        assert gradient is not None
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() < 1e3
    assert (waypoints.grad[0, [0, 2]] == 0).all()
