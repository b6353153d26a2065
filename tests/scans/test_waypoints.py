import numpy as np
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
