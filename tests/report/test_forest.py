from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adaptive_scan.report.forest import Ratio, forest_figure

SERIES = {"shared": {"color": "#0072B2", "marker": "o"}, "own": {"color": "#D55E00", "marker": "s"}}


def ratio(row: str, value: float, interval: tuple[float, float] | None = None, **others: str) -> Ratio:
    given = {"geometry": "1/23", "heading": "", "series": "shared", **others}
    return Ratio(given["geometry"], given["heading"], row, given["series"], value, interval)


def marks(axes: Axes, marker: str = "o") -> list[tuple[float, float]]:
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


def intervals(axes: Axes) -> list[tuple[float, float]]:
    lines = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_color() in ("#0072B2", "#D55E00")]
    return [tuple(map(float, line.get_xdata())) for line in lines]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_marks_and_intervals_stand_at_their_values() -> None:
    figure = forest_figure([ratio("a", 0.9, (0.8, 0.97)), ratio("b", 1.2, (1.1, 1.4))], SERIES)
    (axes,) = figure.axes
    assert [value for value, _ in marks(axes)] == [0.9, 1.2]
    assert intervals(axes) == [(0.8, 0.97), (1.1, 1.4)]
    assert axes.get_xscale() == "log"
    assert marks(axes)[0][1] < marks(axes)[1][1] < axes.get_ylim()[0]


def test_geometries_are_columns_with_one_axis() -> None:
    figure = forest_figure([ratio("a", 0.5), ratio("a", 2.0, geometry="1/46")], SERIES)
    assert [axes.get_title() for axes in figure.axes] == ["1/23", "1/46"]
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()


def test_the_line_of_no_difference_is_always_on_the_axis() -> None:
    for value in (0.2, 5.0):
        low, high = forest_figure([ratio("a", value)], SERIES).axes[0].get_xlim()
        assert low < 1 < high


def test_series_of_a_row_do_not_share_a_place() -> None:
    figure = forest_figure([ratio("a", 0.9), ratio("a", 0.9, series="own")], SERIES)
    (first,), (second,) = marks(figure.axes[0]), marks(figure.axes[0], "s")
    assert first[1] < second[1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["shared", "own"]


def test_one_series_needs_no_legend() -> None:
    assert not forest_figure([ratio("a", 0.9)], SERIES).legends


def test_no_contenders_are_hollow_and_tagged() -> None:
    figure = forest_figure(
        [ratio("a", 0.9), ratio("oracle", 0.5)], SERIES, tags={"oracle": "no contender"}, hollow=frozenset({"oracle"})
    )
    faces = [line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert faces == ["#0072B2", "white"]
    assert "no contender" in words(figure)


def test_an_interval_beyond_the_axis_ends_in_an_arrow() -> None:
    figure = forest_figure([ratio("a", 0.9, (0.01, 100.0))], SERIES)
    (axes,) = figure.axes
    assert {line.get_marker() for line in axes.lines} >= {"<", ">"}
    assert axes.get_xlim()[0] == pytest.approx(0.45, rel=0.1)
    assert axes.get_xlim()[1] == pytest.approx(2.0, rel=0.1)


def test_headings_part_the_rows() -> None:
    figure = forest_figure([ratio("a", 0.9, heading="against b"), ratio("a", 0.8, heading="against c")], SERIES)
    assert {"against b", "against c"} <= set(words(figure))
    assert len({place for _, place in marks(figure.axes[0])}) == 2


def test_what_is_no_ratio_is_left_out() -> None:
    figure = forest_figure([ratio("a", 0.9), ratio("b", np.nan), ratio("c", 0.0)], SERIES)
    assert len(marks(figure.axes[0])) == 1
    with pytest.raises(ValueError, match="ratios: none of 1 is positive"):
        forest_figure([ratio("b", np.inf)], SERIES)
