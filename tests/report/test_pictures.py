from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from adaptive_scan.evaluation.results import ExampleScans, Results
from adaptive_scan.report.pictures import example_sheet, largest_error, map_sheet
from adaptive_scan.report.style import ERROR_COLOURS, ScanStyle, scan_styles
from tests.synthetic_results import small_results


@pytest.fixture(scope="module")
def results() -> Results:
    return small_results(geometries=("1/23",))


@pytest.fixture(scope="module")
def styles(results: Results) -> dict[str, ScanStyle]:
    return scan_styles(results.rows)


def pictures(figure: Figure, colours: str) -> list[np.ndarray]:
    images = [image for axes in figure.axes for image in axes.images]
    return [np.asarray(image.get_array()) for image in images if image.get_cmap().name == colours]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for part in [figure, *figure.axes] for text in part.texts]


def test_every_scan_has_path_completion_and_error(results: Results, styles: dict[str, ScanStyle]) -> None:
    examples = results.examples[0]
    figure = example_sheet(examples, 1, styles, "shared", 0.3)
    greys, errors = pictures(figure, "gray"), pictures(figure, ERROR_COLOURS)
    assert (len(greys), len(errors)) == (1 + 2 * len(styles), len(styles))
    np.testing.assert_array_equal(greys[0], examples.targets[1])
    completion = examples.completions["raster", "shared"][1]
    np.testing.assert_array_equal(greys[4], completion)
    np.testing.assert_allclose(errors[1], np.abs(completion - examples.targets[1]) / 2)
    rmse = np.sqrt(np.mean((completion - examples.targets[1]).astype(float) ** 2)) / 2
    assert f"{rmse:.3f}" in words(figure)


def test_the_same_quantity_has_the_same_scale(results: Results, styles: dict[str, ScanStyle]) -> None:
    figure = example_sheet(results.examples[0], 0, styles, "shared", 0.3)
    images = [image for axes in figure.axes for image in axes.images]
    assert {image.get_clim() for image in images if image.get_cmap().name == "gray"} == {(-1.0, 1.0)}
    assert {image.get_clim() for image in images if image.get_cmap().name == ERROR_COLOURS} == {(0.0, 0.3)}


def test_a_scan_without_the_completer_names_its_own(results: Results, styles: dict[str, ScanStyle]) -> None:
    assert any(
        "by denoiser" in text.replace("\n", " ")
        for text in words(example_sheet(results.examples[0], 0, styles, "shared", 0.3))
    )


def test_paths_are_drawn_where_the_probe_was(results: Results, styles: dict[str, ScanStyle]) -> None:
    examples = results.examples[0]
    figure = example_sheet(examples, 0, {"grid": styles["grid"]}, "shared", 0.3)
    dots = [dots.get_offsets() for axes in figure.axes for dots in axes.collections if len(dots.get_offsets()) > 1]
    np.testing.assert_allclose(dots[-1], examples.positions["grid"][0][:, ::-1])
    line = example_sheet(examples, 0, {"spiral": styles["spiral"]}, "shared", 0.3).axes[1].lines[0]
    np.testing.assert_allclose(np.transpose(line.get_data()), examples.positions["spiral"][0][:, ::-1])


def test_no_completions_make_no_sheet(results: Results, styles: dict[str, ScanStyle]) -> None:
    with pytest.raises(ValueError, match="expected some of"):
        example_sheet(replace(results.examples[0], completions={}), 0, styles, "shared", 0.3)


def test_largest_error_is_a_percentile_of_what_is_shown(styles: dict[str, ScanStyle]) -> None:
    targets = np.zeros((1, 10, 10), np.float32)
    wrong = targets.copy()
    wrong[0, 0] = 0.5  # a tenth of the pixels, by 0.25 on [0, 1]
    shown = ExampleScans(
        "1/4", 0, np.arange(1), targets, {}, {("spiral", "shared"): wrong, ("spiral", "own"): wrong + 1}
    )
    assert largest_error([shown], {"spiral": styles["spiral"]}, "shared") == pytest.approx(0.25)
    assert largest_error([], styles, "shared") == pytest.approx(0.05)


def test_maps_share_a_scale_and_say_their_rmse(styles: dict[str, ScanStyle], rng: np.random.Generator) -> None:
    maps = {"spiral": rng.uniform(0, 0.1, (8, 8)), "grid": rng.uniform(0, 0.3, (8, 8))}
    figure = map_sheet(maps, styles, (0.0, 0.2), "RMSE", figures=True)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert {image.get_clim() for image in images} == {(0.0, 0.2)}
    np.testing.assert_array_equal(images[1].get_array(), maps["grid"])
    assert f"{np.sqrt(np.mean(maps['grid'] ** 2)):.3f}" in words(figure)
    assert "not contiguous" in words(figure)


def test_panels_are_square_and_inside_the_figure(results: Results, styles: dict[str, ScanStyle]) -> None:
    figure = example_sheet(results.examples[0], 0, styles, "shared", 0.3)
    width, height = figure.get_size_inches()
    for axes in figure.axes:
        box = axes.get_position()
        assert box.x0 >= 0
        assert box.x1 <= 1 + 1e-9
        assert box.y0 >= 0
        assert box.y1 <= 1
        if axes.images:
            assert box.width * width == pytest.approx(box.height * height)


def test_figures_leave_the_settings_of_others_alone(results: Results, styles: dict[str, ScanStyle]) -> None:
    before = dict(mpl.rcParams)
    example_sheet(results.examples[0], 0, styles, "shared", 0.3)
    assert dict(mpl.rcParams) == before


def test_no_maps_make_no_sheet(styles: dict[str, ScanStyle]) -> None:
    with pytest.raises(ValueError, match="got none"):
        map_sheet({}, styles, (0.0, 1.0), "RMSE")
