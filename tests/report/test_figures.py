from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text

from adaptive_scan.benchmark.analysis import Analysis, analyse
from adaptive_scan.evaluation.results import Results
from adaptive_scan.report.figures import MOST_EXAMPLES, SECTIONS, Plate, benchmark_plates, file_name
from tests.synthetic_results import nested_losses, small_results, synthetic_results


@pytest.fixture(scope="module")
def results() -> Results:
    return small_results()


@pytest.fixture(scope="module")
def analysis(results: Results) -> Analysis:
    return analyse(results, n_resamples=50)


@pytest.fixture(scope="module")
def plates(results: Results, analysis: Analysis) -> list[Plate]:
    return list(benchmark_plates(results, analysis))


def one_geometry() -> Results:
    rng = np.random.default_rng(0)
    losses = {("1/23", scan, "shared"): nested_losses(rng) for scan in ("spiral", "grid", "pathwise")}
    return synthetic_results(losses)


def test_every_section_has_figures_in_order(plates: list[Plate]) -> None:
    assert list(dict.fromkeys(plate.section for plate in plates)) == list(SECTIONS)


def test_each_geometry_has_its_pictures(plates: list[Plate]) -> None:
    named = [plate.name for plate in plates]
    assert len(set(named)) == len(named)
    for geometry in ("1-23", "1-46"):
        assert {f"errors_{geometry}", f"paths_{geometry}", f"wins_{geometry}"} <= set(named)
        assert sum(name.startswith(f"examples_{geometry}_") for name in named) == MOST_EXAMPLES


def test_nothing_is_cut_off_or_too_small_to_read(plates: list[Plate]) -> None:
    for plate in plates:
        box = plate.figure.get_tightbbox()
        width, height = plate.figure.get_size_inches()
        assert -0.01 <= box.x0 < box.x1 <= width + 0.01, plate.name
        assert -0.01 <= box.y0 < box.y1 <= height + 0.01, plate.name
        assert width <= 7.09
        # On a page 900 px wide a figure of 7.08 inch has 127 px to the inch: 6 pt are more than 10 px.
        assert min(text.get_fontsize() for text in plate.figure.findobj(Text)) >= 6.0, plate.name


def test_figures_have_words_for_those_who_cannot_see_them(plates: list[Plate]) -> None:
    for plate in plates:
        assert len(plate.caption) > 40
        assert plate.alternative.endswith(".")


def test_all_errors_of_pixels_share_one_scale(plates: list[Plate]) -> None:
    scales = {
        axes.images[0].get_clim()
        for plate in plates
        if plate.section == "errors"
        for axes in plate.figure.axes
        if axes.images
    }
    assert len(scales) == 1
    assert next(iter(scales))[0] == 0


def test_maps_of_errors_are_roots_of_mean_squares(results: Results, plates: list[Plate]) -> None:
    (plate,) = (plate for plate in plates if plate.name == "errors_1-23")
    part = results.sums["1/23", "spiral", "shared"]
    np.testing.assert_allclose(
        plate.figure.axes[0].images[0].get_array(), np.sqrt(part.squared_error / part.n_crops) / 2
    )


def test_paths_are_visits_per_crop_without_dense_scans(results: Results, plates: list[Plate]) -> None:
    (plate,) = (plate for plate in plates if plate.name == "paths_1-23")
    pictures = [axes.images[0].get_array() for axes in plate.figure.axes if axes.images]
    part = results.sums["1/23", "spiral", "shared"]
    np.testing.assert_allclose(pictures[0], part.visits / part.n_crops)
    assert len(pictures) == 8


def test_forest_plots_show_the_ratios_of_the_analysis(analysis: Analysis, plates: list[Plate]) -> None:
    (plate,) = (plate for plate in plates if plate.name == "forest_reference")
    wanted = {round(one.ratio or 0, 9) for one in analysis.comparisons if one.second[0] == analysis.reference}
    drawn = {
        round(float(line.get_xdata()[0]), 9)
        for axes in plate.figure.axes
        for line in axes.lines
        if line.get_marker() not in ("None", "<", ">")
    }
    assert drawn == wanted


@pytest.fixture(scope="module")
def many() -> list[Plate]:
    rng = np.random.default_rng(0)
    base = nested_losses(rng, n_seeds=1)
    scans = ["spiral", *(f"static {index}" for index in range(14)), "learned_path", "pathwise", "coverage_greedy"]
    losses = {
        ("1/23", scan, completer): base * np.exp(0.05 * rng.standard_normal(base.shape))
        for completer in ("shared", "own")
        for scan in (scans if completer == "shared" else ["learned_path", "pathwise"])
    }
    described = {"factorial": ["pathwise"], "best_static": {"1/23": "static 3"}}
    results = synthetic_results(losses, description=described, n_examples=1)
    return list(benchmark_plates(results, analyse(results, n_resamples=20)))


def test_many_scans_leave_curves_and_examples_legible(many: list[Plate]) -> None:
    (curves,) = (plate for plate in many if plate.section == "distance")
    names = [text.get_text() for text in curves.figure.legends[0].get_texts()]
    assert names == ["spiral", "static 3", "learned_path", "pathwise"]
    assert "Of 18 scans only the reference" in curves.caption
    (example,) = (plate for plate in many if plate.section == "examples")
    assert example.figure.get_size_inches()[1] < 9.0
    assert len([axes for axes in example.figure.axes if axes.images and axes.get_xlabel() == ""]) >= 1 + 11 * 3
    assert "Of 18 scans 11 are drawn" in example.caption


def test_many_scans_leave_coverages_legible() -> None:
    rng = np.random.default_rng(0)
    scans = ["spiral", *(f"static {index}" for index in range(14)), "pathwise"]
    losses = {(name, scan, "shared"): nested_losses(rng, n_seeds=1) for name in ("1/23", "1/46") for scan in scans}
    described = {"factorial": ["pathwise"], "best_static": {"1/23": "static 3", "1/46": "static 3"}}
    results = synthetic_results(losses, description=described)
    plates = benchmark_plates(results, analyse(results, n_resamples=20))
    (plate,) = (plate for plate in plates if plate.section == "coverage")
    drawn = [line for line in plate.figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert len(drawn) == 3
    assert "Of 16 scans only the reference" in plate.caption


def test_large_matrices_of_win_rates_have_a_figure_each(many: list[Plate]) -> None:
    assert [plate.name for plate in many if plate.section == "wins"] == ["wins_1-23_shared", "wins_1-23"]
    for plate in many:
        box = plate.figure.get_tightbbox()
        assert -0.01 <= box.x0 < box.x1 <= plate.figure.get_size_inches()[0] + 0.01, plate.name


def test_a_small_benchmark_has_no_coverages() -> None:
    results = one_geometry()
    sections = {plate.section for plate in benchmark_plates(results, analyse(results, n_resamples=20))}
    assert sections == set(SECTIONS) - {"coverage"}


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        (lambda results: replace(results, examples=[]), {"examples"}),
        (lambda results: replace(results, sums={}), {"errors", "distance", "frequency", "paths"}),
    ],
)
def test_what_is_absent_has_no_figure(without: Callable[[Results], Results], missing: set[str]) -> None:
    results = without(one_geometry())
    sections = {plate.section for plate in benchmark_plates(results, analyse(results, n_resamples=20))}
    assert sections == set(SECTIONS) - {"coverage"} - missing


def test_names_alike_in_files_do_not_overwrite_each_other() -> None:
    rng = np.random.default_rng(0)
    losses = {(name, scan, "shared"): nested_losses(rng) for name in ("1/23", "1:23") for scan in ("spiral", "grid")}
    results = synthetic_results(losses, n_examples=1)
    named = [plate.name for plate in benchmark_plates(results, analyse(results, n_resamples=20))]
    assert {"errors_1-23", "errors_1-23_2"} <= set(named)
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("name", ["../../etc", "a b/c", "…", "", "con:1*?"])
def test_file_names_hold_no_special_characters(name: str) -> None:
    assert set(file_name("x", name)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-.")
    assert not file_name(name).startswith(".")
