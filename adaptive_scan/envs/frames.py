"""Pictures of a scan in progress, and a window that shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_LEAST_PANEL_SIDE = 384
_GAP = 8
_GAP_COLOUR = (255, 255, 255)
_UNMEASURED_COLOUR = (44, 56, 104)
_FIRST_COLOUR = np.array([255.0, 209.0, 82.0])
_LAST_COLOUR = np.array([232.0, 62.0, 96.0])
_OVERSAMPLING = 2


def draw_frame(
    crop: np.ndarray, path: np.ndarray, partial_scan: np.ndarray, completion: np.ndarray | None
) -> np.ndarray:
    """A row of panels: the path so far over the crop, the measured values, and the completion.

    Pixels are enlarged by nearest neighbours to panels at least 384 px wide. The path runs from yellow (first
    segment) to red (last), a dot on every probing position; a ring marks the start.

    Args:
        crop: Values in [-1, 1], shape (S, S).
        path: Positions of the measured segments [px], shape (n_segments, n_positions, 2).
        partial_scan: Measured values and their mask, shape (2, S, S).
        completion: Values in [-1, 1], shape (S, S), or None for no third panel.

    Returns:
        RGB, uint8, shape (side, width, 3) with width = n_panels * side + gaps.

    Example:
        >>> crop = np.zeros((48, 48), dtype=np.float32)
        >>> draw_frame(crop, np.full((1, 2, 2), 24.0), np.zeros((2, 48, 48)), None).shape
        (384, 776, 3)
    """
    scale = -(-_LEAST_PANEL_SIDE // len(crop))
    measured = _grey(partial_scan[0])
    measured[partial_scan[1] == 0] = _UNMEASURED_COLOUR
    panels = [_with_path(_enlarged(_grey(crop), scale), path, scale), _enlarged(measured, scale)]
    if completion is not None:
        panels.append(_enlarged(_grey(completion), scale))
    gap = np.full((len(panels[0]), _GAP, 3), _GAP_COLOUR, dtype=np.uint8)
    with_gaps = [part for panel in panels for part in (gap, panel)][1:]
    return np.concatenate(with_gaps, axis=1)


def _grey(values: np.ndarray) -> np.ndarray:
    """Values in [-1, 1] as grey RGB, uint8."""
    levels = np.rint(127.5 * (np.clip(values, -1.0, 1.0) + 1.0)).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=-1)


def _enlarged(picture: np.ndarray, scale: int) -> np.ndarray:
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def _with_path(panel: np.ndarray, path: np.ndarray, scale: int) -> np.ndarray:
    """The panel with the path drawn over it, smooth because it is drawn larger and reduced."""
    side = len(panel)
    overlay = Image.new("RGBA", (side * _OVERSAMPLING, side * _OVERSAMPLING), (0, 0, 0, 0))
    draw = ImageDraw.Draw(overlay)
    # A pixel's centre is half a pixel inside its corner; PIL wants (x, y) = (column, row).
    points = ((path + 0.5) * scale * _OVERSAMPLING)[..., ::-1]
    colours = _FIRST_COLOUR + np.linspace(0.0, 1.0, len(path))[:, None] * (_LAST_COLOUR - _FIRST_COLOUR)
    radius = 0.3 * scale * _OVERSAMPLING
    for n, (segment, colour) in enumerate(zip(points, colours.astype(int), strict=True)):
        ink = (*colour.tolist(), 255)
        # The stretch to the next segment's first position belongs to this segment.
        line = segment if n + 1 == len(points) else np.concatenate((segment, points[n + 1, :1]))
        draw.line([tuple(point) for point in line.tolist()], fill=ink, width=_OVERSAMPLING)
        for x, y in segment.tolist():
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    x, y = points[0, 0].tolist()
    ring = 3.0 * radius
    draw.ellipse((x - ring, y - ring, x + ring, y + ring), outline=(96, 230, 150, 255), width=2 * _OVERSAMPLING)
    reduced = overlay.resize((side, side), Image.Resampling.BOX)
    return np.asarray(Image.alpha_composite(Image.fromarray(panel).convert("RGBA"), reduced).convert("RGB"))


class Window:
    """A matplotlib window that shows frames as they come; with a backend that has no windows it only draws them.

    Example:
        >>> import matplotlib; matplotlib.use("Agg")
        >>> window = Window("partial scan")
        >>> window.show(np.zeros((4, 8, 3), dtype=np.uint8))
        >>> window.close()
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._figure: Figure | None = None
        self._image: AxesImage | None = None

    def show(self, frame: np.ndarray) -> None:
        """Show a frame, RGB uint8, shape (height, width, 3); returns at once."""
        if self._figure is None or self._image is None:
            self._open(frame)
        else:
            self._image.set_data(frame)
        if self._figure is None:
            return
        canvas = self._figure.canvas
        canvas.draw_idle()
        canvas.flush_events()

    def close(self) -> None:
        """Close the window; closing a closed one does nothing."""
        if self._figure is not None:
            import matplotlib.pyplot as plt

            plt.close(self._figure)
        self._figure = self._image = None

    def _open(self, frame: np.ndarray) -> None:
        import matplotlib.pyplot as plt  # only a window needs it, a frame does not

        height, width = frame.shape[:2]
        self._figure = plt.figure(num=self._title, figsize=(width / 100, height / 100), dpi=100, clear=True)
        axes = self._figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        self._image = axes.imshow(frame)
        # A canvas without a user-interface framework (Agg and the file formats) has nothing to show.
        if self._figure.canvas.required_interactive_framework is not None:
            self._figure.show()
