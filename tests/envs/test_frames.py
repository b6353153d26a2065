"""Frames, pixel by pixel where it counts, and the window."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from adaptive_scan.envs.frames import Window, draw_frame

SIDE, GAP = 384, 8


def panels(frame: np.ndarray, n_panels: int) -> list[np.ndarray]:
    assert frame.shape == (SIDE, n_panels * SIDE + (n_panels - 1) * GAP, 3)
    assert frame.dtype == np.uint8
    return [frame[:, k * (SIDE + GAP) : k * (SIDE + GAP) + SIDE] for k in range(n_panels)]


def frame_parts() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A crop, a horizontal path along row 24 from column 8 to 39, its partial scan and a completion."""
    crop = np.full((48, 48), -1.0, dtype=np.float32)
    path = np.stack([np.full(32, 24.0), np.arange(8.0, 40.0)], axis=-1).reshape(2, 16, 2)
    partial = np.zeros((2, 48, 48), dtype=np.float32)
    partial[0, 24, 8:40], partial[1, 24, 8:40] = 1.0, 1.0
    return crop, path, partial, np.linspace(-1, 1, 48 * 48).reshape(48, 48)


def test_path_is_drawn_over_its_own_pixels() -> None:
    crop, path, partial, completion = frame_parts()
    over, _, _ = panels(draw_frame(crop, path, partial, completion), 3)
    touched = np.flatnonzero((over != 0).any(axis=(1, 2)))
    # Row 24 of 48 is enlarged eight times: its centre is at 196; the ring around the start reaches a little further.
    assert abs(touched.mean() - 195.5) < 1
    columns = np.flatnonzero((over[196] != 0).any(axis=-1))
    assert columns.min() < 8.5 * 8 < 39.5 * 8 <= columns.max() + 1
    first, last = over[196, int(9.5 * 8)].astype(int), over[196, int(38.5 * 8)].astype(int)
    assert first[1] > 180 > 90 > last[1]  # yellow, then red


def test_measured_values_and_completion_are_enlarged_by_nearest() -> None:
    crop, path, partial, completion = frame_parts()
    _, measured, completed = panels(draw_frame(crop, path, partial, completion), 3)
    assert (measured[24 * 8 : 25 * 8, 8 * 8 : 40 * 8] == 255).all()
    assert len(np.unique(measured.reshape(-1, 3), axis=0)) == 2
    levels = np.rint(127.5 * (completion + 1)).astype(np.uint8)
    np.testing.assert_array_equal(completed[..., 0], levels.repeat(8, 0).repeat(8, 1))


def test_without_a_completion_there_are_two_panels() -> None:
    crop, path, partial, _ = frame_parts()
    panels(draw_frame(crop, path, partial, None), 2)


def test_positions_outside_the_field_do_not_disturb_the_frame() -> None:
    crop, path, partial, _ = frame_parts()
    panels(draw_frame(crop, path + 100.0, partial, None), 2)


def test_window_opens_once_and_closes() -> None:
    before = plt.get_fignums()
    window = Window("a test's window")
    for level in (0, 90):
        window.show(np.full((10, 20, 3), level, dtype=np.uint8))
    assert len(plt.get_fignums()) == len(before) + 1
    image = plt.figure("a test's window").axes[0].images[0]
    assert (image.get_array() == 90).all()
    window.close()
    window.close()
    assert plt.get_fignums() == before
