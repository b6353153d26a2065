from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy.optimize import minimize

from adaptive_scan.report.style import ScanStyle, label_ends, log_ticks, scan_styles, spread, wrapped


def rows(n_scans: int) -> pa.Table:
    names = [f"scan {index}" for index in range(n_scans)]
    return pa.table({"scan": names * 2, "role": ["static"] * (2 * n_scans), "contiguous": [True] * (2 * n_scans)})


def test_no_two_scans_look_the_same_in_colour_and_marker() -> None:
    looks = {(style.colour, style.marker) for style in scan_styles(rows(56)).values()}
    assert len(looks) == 56


def test_neighbouring_scans_differ_in_marker_alone_too() -> None:
    markers = [style.marker for style in scan_styles(rows(20)).values()]
    assert all(first != second for first, second in itertools.pairwise(markers))


def test_line_colours_stand_out_from_white() -> None:
    for style in scan_styles(rows(7)).values():
        luminance = np.dot([0.2126, 0.7152, 0.0722], np.array(to_rgb(style.colour)) ** 2.2)
        assert 1.05 / (luminance + 0.05) > 2.0


@pytest.mark.parametrize(
    ("role", "contiguous", "kind", "is_contender"),
    [
        ("static", True, "static", True),
        ("static", False, "static, not contiguous", True),
        ("adaptive", True, "adaptive", True),
        ("oracle", True, "oracle, no contender", False),
        ("control", True, "control, no contender", False),
        ("dense", True, "every pixel, no contender", False),
    ],
)
def test_what_is_no_contender_says_so(role: str, contiguous: bool, kind: str, is_contender: bool) -> None:
    style = ScanStyle("a", role, contiguous, "#0072B2", "o")
    assert (style.kind, style.is_contender) == (kind, is_contender)
    assert (style.drawn["markerfacecolor"] == "white") is not is_contender


def test_dashes_tell_roles_apart() -> None:
    dashes = [ScanStyle("a", role, True, "k", "o").dashes for role in ("static", "adaptive", "oracle", "control")]
    assert len(set(map(str, dashes))) == 4


@given(st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=12), st.floats(0.01, 0.3))
def test_spread_keeps_order_gap_and_ends(places: list[float], gap: float) -> None:
    found = spread(places, gap, 0.0, 1.0)
    fitting = min(gap, 1.0 / max(len(places) - 1, 1))
    assert np.all(np.diff(np.sort(found)) >= fitting - 1e-9)
    assert found.min() >= -1e-9
    assert found.max() <= 1 + 1e-9
    assert np.all(np.diff(found[np.argsort(places, kind="stable")]) > 0)


def test_spread_moves_labels_as_little_as_it_can() -> None:
    places, gap = np.array([0.1, 0.42, 0.45, 0.5, 0.97]), 0.1
    limits = [{"type": "ineq", "fun": lambda x, i=i: x[i + 1] - x[i] - gap} for i in range(4)]
    best = minimize(lambda x: np.sum((x - places) ** 2), places, bounds=[(0, 1)] * 5, constraints=limits)
    np.testing.assert_allclose(spread(places, gap, 0.0, 1.0), best.x, atol=1e-5)


def test_labels_of_lines_do_not_overlap() -> None:
    figure = Figure(figsize=(4, 2), dpi=100)
    axes = figure.add_axes((0.1, 0.1, 0.5, 0.8))
    styles = list(scan_styles(rows(6)).values())
    label_ends(axes, [(1.0, 0.5 + 0.001 * index, style) for index, style in enumerate(styles)])
    figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent().y0, text.get_window_extent().y1) for text in axes.texts)
    assert len(boxes) == 6
    assert all(lower[1] <= upper[0] + 1.0 for lower, upper in itertools.pairwise(boxes))


@given(st.floats(1e-3, 10.0), st.floats(1.02, 100.0))
def test_log_ticks_are_few_and_inside(low: float, factor: float) -> None:
    axes = Figure().add_subplot()
    axes.set_xscale("log")
    log_ticks(axes.xaxis, low, low * factor, most=7)
    ticks = np.asarray(axes.xaxis.get_majorticklocs())
    assert 1 <= len(ticks) <= 7 or factor < 10
    assert np.all((ticks >= low * (1 - 1e-6)) & (ticks <= low * factor * (1 + 1e-6)))


@pytest.mark.parametrize(("low", "high"), [(0.965, 1.09), (0.9, 1.7), (0.93, 1.02), (0.88, 2.1), (0.2, 1.3)])
@pytest.mark.parametrize("most", [3, 5, 9])
def test_ticks_do_not_stand_on_top_of_each_other(low: float, high: float, most: int) -> None:
    axes = Figure().add_subplot()
    log_ticks(axes.xaxis, low, high, most=most)
    ticks = np.asarray(axes.xaxis.get_majorticklocs())
    assert 1 <= len(ticks) <= most
    assert np.all(np.diff(np.log(ticks)) >= 0.5 * np.log(high / low) / most)
    if high < 2 * low:
        np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-9)


def test_log_ticks_are_round() -> None:
    axes = Figure().add_subplot()
    log_ticks(axes.xaxis, 0.09, 1.1, most=4)
    assert axes.xaxis.get_majorticklocs().tolist() == [0.1, 0.2, 0.5, 1.0]


@pytest.mark.parametrize("name", ["filling_path", "look_ahead_oracle", "variance_greedy_slow, seen late"])
def test_names_are_those_of_the_rows(name: str) -> None:
    assert wrapped(name, 40) == name
    assert "".join(wrapped(name, 17).split()) == name.replace(" ", "")


@given(st.text(max_size=80), st.integers(5, 30))
def test_wrapped_names_stay_within_their_box(name: str, width: int) -> None:
    lines = wrapped(name, width).replace(r"\$", "$").split("\n")
    assert len(lines) <= 2
    assert all(len(line) <= width for line in lines)


def test_a_dollar_in_a_name_is_no_mathematics() -> None:
    figure = Figure()
    figure.text(0.5, 0.5, wrapped("costs $x_{$", 20))
    figure.draw_without_rendering()
    assert wrapped("a$b$", 20) == r"a\$b\$"
