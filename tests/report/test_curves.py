from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes

from adaptive_scan.evaluation.resolution import ring_correlation
from adaptive_scan.evaluation.results import Results
from adaptive_scan.report.curves import coverage_figure, distance_figure, frequency_figure, win_rate_figure
from adaptive_scan.report.style import ScanStyle, scan_styles
from tests.synthetic_results import small_results


@pytest.fixture(scope="module")
def results() -> Results:
    return small_results()


@pytest.fixture(scope="module")
def styles(results: Results) -> dict[str, ScanStyle]:
    return scan_styles(results.rows)


def curve(axes: Axes, style: ScanStyle) -> tuple[np.ndarray, np.ndarray]:
    (line,) = (
        line
        for line in axes.lines
        if (line.get_marker(), line.get_color()) == (style.marker, style.colour) and len(line.get_xdata()) > 1
    )
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def panel(figure_axes: list[Axes], title: str) -> Axes:
    (found,) = (axes for axes in figure_axes if axes.get_title() == title)
    return found


def test_errors_by_distance_are_root_means_on_the_unit_scale(results: Results, styles: dict[str, ScanStyle]) -> None:
    figure = distance_figure(results.sums, styles)
    part = results.sums["1/46", "raster", "linear"]
    distances, rmse = curve(panel(figure.axes, "1/46 · linear"), styles["raster"])
    kept = part.distance_pixels > 0
    np.testing.assert_array_equal(distances, np.flatnonzero(kept))
    np.testing.assert_allclose(rmse, np.sqrt(part.distance_squared_error[kept] / part.distance_pixels[kept]) / 2)


def test_rare_distances_are_left_out(results: Results, styles: dict[str, ScanStyle]) -> None:
    key = ("1/23", "raster", "linear")
    part = results.sums[key]
    rare = part.distance_pixels.copy()
    rare[10] = 1e-4 * rare.sum()
    part = type(part)(**{**vars(part), "distance_pixels": rare})
    distances, _ = curve(distance_figure({key: part}, styles).axes[0], styles["raster"])
    assert 10 not in distances


def test_fourier_rings_stand_at_their_frequencies(results: Results, styles: dict[str, ScanStyle]) -> None:
    figure = frequency_figure(results.sums, styles)
    part = results.sums["1/23", "pathwise", "own"]
    frequencies, correlation = curve(panel(figure.axes, "1/23 · own"), styles["pathwise"])
    np.testing.assert_allclose(frequencies[:8], np.arange(1, 9) / 16)
    np.testing.assert_allclose(correlation, ring_correlation(part.frc_cross, part.frc_completion, part.frc_target))


def test_every_pixel_stands_in_all_panels_of_its_geometry(results: Results, styles: dict[str, ScanStyle]) -> None:
    figure = frequency_figure(results.sums, styles)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 2 * 4
    for axes in shown:
        assert len(curve(axes, styles["dense"])[0])


def test_one_geometry_puts_completers_side_by_side(results: Results, styles: dict[str, ScanStyle]) -> None:
    sums = {key: part for key, part in results.sums.items() if key[0] == "1/23" and key[2] != "denoiser"}
    titles = [axes.get_title() for axes in distance_figure(sums, styles).axes if axes.get_visible()]
    assert titles == [f"completer: {name}" for name in ("shared", "own", "infill+", "linear")]
    places = [axes.get_subplotspec().get_gridspec().get_geometry() for axes in distance_figure(sums, styles).axes]
    assert set(places) == {(2, 2)}


def test_coverage_is_drawn_as_given_and_labelled(styles: dict[str, ScanStyle]) -> None:
    losses = {"shared": {"spiral": [(0.04, 0.1), (0.02, 0.2)], "raster": [(0.02, 0.3), (0.04, float("nan"))]}}
    figure = coverage_figure(losses, styles)
    (axes,) = figure.axes
    coverage, loss = curve(axes, styles["spiral"])
    assert (coverage.tolist(), loss.tolist()) == ([0.02, 0.04], [0.2, 0.1])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in axes.texts] == ["spiral"]
    with pytest.raises(ValueError, match="two coverages"):
        coverage_figure({"shared": {"spiral": [(0.04, 0.1)]}}, styles)


def test_win_rates_are_printed_in_their_cells(styles: dict[str, ScanStyle]) -> None:
    shares = np.array([[np.nan, 0.25, 1.0], [0.75, np.nan, np.nan], [0.0, np.nan, np.nan]])
    figure = win_rate_figure({"shared": (("spiral", "grid", "look_ahead_oracle"), shares)}, styles)
    (axes,) = figure.axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(1, 0): "25", (2, 0): "100", (0, 1): "75", (0, 2): "0"}
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["spiral", "grid", "look_ahead_oracle"]
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        box = label.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height


def scans_of(n: int) -> dict[str, ScanStyle]:
    names = ["pathwise, on another crop", *(f"scan {index}" for index in range(1, n))]
    return {name: ScanStyle(name, "static", True, "k", "o") for name in names}


def test_long_names_are_whole_and_many_scans_legible() -> None:
    many = scans_of(21)
    figure = win_rate_figure({"shared": (tuple(many), np.full((21, 21), 0.5))}, many)
    (axes,) = figure.axes
    assert axes.get_yticklabels()[0].get_text() == "pathwise, on another crop"
    assert min(text.get_fontsize() for text in axes.texts) >= 6.0


def test_a_small_matrix_leaves_no_blank_below_it() -> None:
    many = scans_of(8)
    names = tuple(many)
    large, small = (names, np.full((8, 8), 0.5)), (names[:2], np.full((2, 2), 0.5))
    height = {
        n: win_rate_figure(dict(zip("abc", matrices, strict=False)), many).get_size_inches()[1]
        for n, matrices in ((2, [large, large]), (3, [small, large, large]))
    }
    cell = win_rate_figure({"a": large}, many).axes[0].get_position().height * height[2] / 8
    assert height[3] == pytest.approx(2 * height[2] - 6 * cell, rel=1e-6)
