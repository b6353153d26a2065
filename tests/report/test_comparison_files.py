from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from rich.console import Console
from skimage.io import imread

from adaptive_scan.evaluation import Comparison, LossRatio, compare_scans, static_contenders
from adaptive_scan.generators import LinearCompleter, NearestCompleter
from adaptive_scan.report import (
    comparison_csv,
    comparison_figure,
    comparison_sentence,
    comparison_table,
    save_figure,
    write_comparison,
)
from adaptive_scan.scans import ScanGeometry


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    rng = np.random.default_rng(1)
    return compare_scans(
        rng.uniform(-1, 1, (4, 12, 12)),
        ["a.tif", 'b, "two".tif', "a.tif", "a.tif"],
        static_contenders(["spiral", "raster", "grid"]),
        {"linear": LinearCompleter(), "nearest": NearestCompleter()},
        geometry=ScanGeometry(12, 4, 4),
        corners=np.array([[0, 0], [3, 4], [0, 12], [12, 0]]),
        n_examples=2,
    )


def test_csv_has_one_row_per_crop_scan_and_completer(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv(comparison))))
    assert len(rows) == 4 * 3 * 2
    keys = {(row["crop"], row["scan"], row["completer"]) for row in rows}
    assert len(keys) == 24
    assert [rows[1][name] for name in ("micrograph", "row", "column")] == ['b, "two".tif', "3", "4"]
    for row, line in zip(rows, comparison.table.to_pylist(), strict=True):
        assert (int(row["crop"]), row["scan"]) == (line["crop"], line["scan"])
        for name in ("loss", "rmse", "psnr", "ssim", "coverage", "path_length", "scan_time", "largest_acceleration"):
            assert float(row[name]) == pytest.approx(line[name], rel=1e-8)
        assert (row["n_positions"], row["electrons"]) == ("16", "")


def test_csv_leaves_unknown_corners_empty() -> None:
    bare = compare_scans(np.zeros((1, 12, 12)), geometry=ScanGeometry(12, 4, 4))
    assert comparison_csv(bare).splitlines()[1].startswith("0,0,,,spiral,linear,0,0,100,1,")


def test_files_are_written_whole_and_readable(comparison: Comparison, tmp_path: Path) -> None:
    written = write_comparison(comparison, tmp_path / "out")
    assert [path.name for path in written] == ["comparison.csv", "comparison.png", "comparison.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    content = json.loads(written[2].read_text())
    assert content == json.loads(json.dumps(comparison.as_dict()))
    assert content["rows"][2]["ratio_ci95"] == list(comparison.summaries[2].ratio_ci95 or ())
    picture = imread(written[1])
    assert picture.shape[1] <= 2124
    assert picture[..., :3].std() > 20
    first = written[1].read_bytes()
    write_comparison(comparison, tmp_path / "out")
    assert written[1].read_bytes() == first


def test_origin_stands_beside_the_figures(comparison: Comparison, tmp_path: Path) -> None:
    written = write_comparison(comparison, tmp_path, origin={"run": "runs/a", "micrographs": None})
    content = json.loads(written[-1].read_text())
    assert content == {"run": "runs/a", "micrographs": None, **json.loads(json.dumps(comparison.as_dict()))}


@pytest.mark.parametrize(
    ("paired", "sentence"),
    [
        (LossRatio(1.004, (0.99, 1.02), 0.5), "ratio 1.004 [0.990, 1.020]: no difference shown"),
        (LossRatio(0.9, (0.85, 0.95), 0.8), "ratio 0.900 [0.850, 0.950]: lower loss"),
        (LossRatio(1.2, (1.1, 1.3), 0.1), "ratio 1.200 [1.100, 1.300]: higher loss"),
        (LossRatio(1.0002, (1.0001, 1.0003), 0.1), "ratio 1.000 [1.000, 1.000]: no difference shown"),
        (LossRatio(1.2, None, 0.1), "ratio 1.200, no interval: no difference shown"),
        (LossRatio(None, None, 0.5), None),
        (None, None),
    ],
)
def test_sentence_says_what_the_interval_shows(
    comparison: Comparison, paired: LossRatio | None, sentence: str | None
) -> None:
    summaries = [dataclasses.replace(summary, second=paired) for summary in comparison.summaries]
    given = dataclasses.replace(comparison, summaries=summaries, second_reference="grid")
    expected = None if sentence is None else f"raster against grid (linear): {sentence}"
    assert comparison_sentence(given, "raster", "linear") == expected
    assert comparison_sentence(given, "grid", "linear") is None


def test_degenerate_comparison_is_still_valid_json(tmp_path: Path) -> None:
    uniform = compare_scans(np.zeros((2, 12, 12)), geometry=ScanGeometry(12, 4, 4), n_examples=0)
    written = write_comparison(uniform, tmp_path)
    assert [path.name for path in written] == ["comparison.csv", "comparison.json"]

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    row = json.loads(written[-1].read_text(), parse_constant=refuse)["rows"][1]
    assert (row["ratio_to_spiral"], row["ratio_ci95"], row["win_rate"], row["psnr_mean"]) == (None, None, 0.5, 100.0)


def test_terminal_table_shows_every_row(comparison: Comparison) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(comparison_table(comparison))
    text = console.export_text()
    assert "4 crops of 2 micrographs, 16 positions each" in text
    for row in comparison.summaries:
        assert row.ratio_to_reference is not None
        assert row.ratio_ci95 is not None
        low, high = row.ratio_ci95
        expected = [
            row.scan,
            row.completer,
            f"{1e6 * row.scan_time_mean:.4g}",
            f"{row.ratio_to_reference:.3f} ({low:.3f}-{high:.3f})",
        ]
        assert any(all(part in line for part in expected) for line in text.splitlines())


def test_terminal_table_says_where_there_is_no_ratio_or_interval(rng: np.random.Generator) -> None:
    def text_of(crops: np.ndarray) -> str:
        console = Console(width=160, record=True, file=io.StringIO())
        console.print(comparison_table(compare_scans(crops, [0] * len(crops), geometry=ScanGeometry(12, 4, 4))))
        return console.export_text()

    assert "undefined" in text_of(np.zeros((2, 12, 12)))
    assert "1.000 (no interval)" in text_of(rng.uniform(-1, 1, (2, 12, 12)))


def test_figure_shows_the_same_quantity_on_the_same_scale(comparison: Comparison) -> None:
    figure = comparison_figure(comparison)
    images = [image for axes in figure.axes for image in axes.images]
    greys = [image for image in images if image.cmap.name == "gray"]
    errors = [image for image in images if image.cmap.name == "cividis"]
    # Two examples; the crop, then path and completion of raster, spiral and grid.
    assert (len(greys), len(errors)) == (2 * 7, 2 * 3)
    assert {image.get_clim() for image in greys} == {(0.0, 1.0)}
    assert len({image.get_clim() for image in errors}) == 1
    examples = comparison.examples
    np.testing.assert_allclose(greys[0].get_array(), examples.crops[0] / 2 + 0.5, atol=1e-6)
    expected = np.abs(examples.completions["raster", "linear"][0] - examples.targets[0]) / 2
    np.testing.assert_allclose(errors[0].get_array(), expected, atol=1e-6)
    labels = [text.get_text() for text in figure.texts]
    assert labels[-3:] == ["raster", "spiral", "grid"]
    assert [axes.get_xlabel() for axes in figure.axes[-3:]] == [
        "intensity",
        "time (fraction of scan)",
        "absolute error",
    ]


def test_figure_draws_the_path_in_order_of_time(comparison: Comparison) -> None:
    figure = comparison_figure(comparison, ["spiral", "grid"], "nearest")
    path_axes = [axes for axes in figure.axes if axes.collections and axes.images]
    line, points = path_axes[0].collections[0], path_axes[1].collections[0]
    segments = np.array(line.get_segments())
    spiral = comparison.examples.positions["spiral"][0]
    np.testing.assert_allclose(segments[:, 0], spiral[:-1, ::-1], atol=1e-5)
    assert np.all(np.diff(line.get_array()) > 0)
    np.testing.assert_allclose(points.get_offsets(), comparison.examples.positions["grid"][0][:, ::-1], atol=1e-5)


def test_figures_leave_global_settings_alone(comparison: Comparison) -> None:
    before = dict(mpl.rcParams)
    comparison_figure(comparison)
    assert dict(mpl.rcParams) == before


def test_figure_refuses_what_was_not_compared(comparison: Comparison) -> None:
    with pytest.raises(ValueError, match=r"none of scans \['halton'\] with completer 'linear'; expected"):
        comparison_figure(comparison, ["spiral", "halton"])
    with pytest.raises(ValueError, match="with completer 'cubic'"):
        comparison_figure(comparison, completer="cubic")


def test_figures_are_saved_in_the_format_of_the_suffix(comparison: Comparison, tmp_path: Path) -> None:
    save_figure(comparison_figure(comparison), tmp_path / "comparison.pdf")
    assert (tmp_path / "comparison.pdf").read_bytes().startswith(b"%PDF")
