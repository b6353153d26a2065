from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from adaptive_scan.acquisition import make_instrument, scan_costs
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation import (
    Comparison,
    Contender,
    bootstrap_ratio,
    compare_scans,
    loss,
    measure,
    psnr,
    ratio_of_means,
    rmse,
    ssim,
    static_contenders,
    win_rate,
)
from adaptive_scan.evaluation.metrics import rmse_unmeasured
from adaptive_scan.evaluation.results import SCHEMA
from adaptive_scan.generators import LinearCompleter, NearestCompleter
from adaptive_scan.micrographs import blur_target
from adaptive_scan.scans import ScanGeometry, coverage, partial_scans, path_length, sample, static_scan

GEOMETRY = ScanGeometry(image_size=16, n_segments=4, n_positions=6)
MICROGRAPHS = np.array(["a", "a", "b", "c", "c", "c", "d", "d", "e", "e"])


class Straight:
    def predict(self, observation: dict[str, np.ndarray], **_: Any) -> tuple[np.ndarray, None]:
        return np.zeros((len(observation["measured"]), 2)), None


def fill_with_mean(partial: torch.Tensor) -> torch.Tensor:
    values, mask = partial[:, :1], partial[:, 1:]
    mean = values.sum(dim=(2, 3), keepdim=True) / mask.sum(dim=(2, 3), keepdim=True)
    return torch.where(mask > 0, values, mean)


def smooth_crops(n_crops: int = 10) -> np.ndarray:
    pictures = gaussian_filter(np.random.default_rng(9).normal(size=(n_crops, 16, 16)), (0, 2, 2))
    return (pictures / np.abs(pictures).max(axis=(1, 2), keepdims=True)).astype(np.float32)


def compare(**settings: Any) -> Comparison:
    given: dict[str, Any] = {
        "contenders": static_contenders(["spiral", "grid", "random"]),
        "completers": {"mean": fill_with_mean, "nearest": NearestCompleter()},
        "geometry": GEOMETRY,
        "n_resamples": 500,
    }
    return compare_scans(smooth_crops(), MICROGRAPHS, **{**given, **settings})


def test_table_holds_what_a_slow_loop_over_crops_finds() -> None:
    completers = {"linear": LinearCompleter(), "nearest": NearestCompleter()}
    comparison = compare(contenders=static_contenders(["spiral", "grid"]), completers=completers)
    crops = smooth_crops()
    targets = blur_target(crops)
    for name, completer in completers.items():
        rows = comparison.rows("grid", name)
        assert rows["crop"].tolist() == list(range(10))
        for index in range(10):
            positions = static_scan("grid", 24, 16)[None]
            partial = partial_scans(sample(crops[index : index + 1], positions), positions, 16)
            completion = completer(torch.from_numpy(partial))[:, 0].numpy()
            target = targets[index : index + 1]
            for column, function in (("loss", loss), ("rmse", rmse), ("psnr", psnr), ("ssim", ssim)):
                assert rows[column][index] == pytest.approx(function(completion, target)[0], rel=1e-6)
            assert rows["coverage"][index] == coverage(positions, 16)[0]
            assert rows["path_length"][index] == path_length(positions)[0]


def test_summaries_are_the_means_and_statistics_of_the_table() -> None:
    comparison = compare(seed=3)
    assert [(row.scan, row.completer) for row in comparison.summaries] == [
        (scan, completer) for scan in ("spiral", "grid", "random") for completer in ("mean", "nearest")
    ]
    for row in comparison.summaries:
        table = comparison.rows(row.scan, row.completer)
        reference = comparison.rows("spiral", row.completer)["loss"]
        assert row.loss_mean == pytest.approx(table["loss"].mean())
        assert row.loss_std == pytest.approx(table["loss"].std())
        assert row.rmse_mean == pytest.approx(table["rmse"].mean())
        assert row.psnr_mean == pytest.approx(table["psnr"].mean())
        assert row.ssim_mean == pytest.approx(table["ssim"].mean())
        assert row.coverage_mean == pytest.approx(table["coverage"].mean())
        assert row.path_length_mean == pytest.approx(table["path_length"].mean())
        assert row.ratio_to_reference == ratio_of_means(table["loss"], reference)
        assert row.win_rate == win_rate(table["loss"], reference)
        assert row.ratio_ci95 == bootstrap_ratio(
            table["loss"], reference, MICROGRAPHS, np.random.default_rng(3), n_resamples=500
        )
        assert row.contiguous == (row.scan == "spiral")


def test_a_second_reference_is_paired_like_the_first() -> None:
    both, swapped = compare(second_reference="grid"), compare(reference="grid")
    for row, other in zip(both.summaries, swapped.summaries, strict=True):
        assert row.second is not None
        paired = (row.second.ratio, row.second.ratio_ci95, row.second.win_rate)
        assert paired == (other.ratio_to_reference, other.ratio_ci95, other.win_rate)
    content = both.as_dict()["rows"][0]
    paired = tuple(content[name] for name in ("ratio_to_grid", "ratio_to_grid_ci95", "win_rate_to_grid"))
    assert paired == (
        swapped.summaries[0].ratio_to_reference,
        swapped.summaries[0].ratio_ci95,
        swapped.summaries[0].win_rate,
    )
    assert {name: content[name] for name in compare().as_dict()["rows"][0]} == compare().as_dict()["rows"][0]
    absent = compare(second_reference="raster").as_dict()["rows"][0]
    assert [absent[name] for name in ("ratio_to_raster", "ratio_to_raster_ci95", "win_rate_to_raster")] == [None] * 3


@pytest.mark.parametrize("name", ["spiral", "random"])
def test_the_same_scan_twice_has_ratio_one_and_wins_half(name: str) -> None:
    (scan,) = static_contenders([name])
    twin = Contender("twin", path=scan.path, random=scan.random)
    comparison = compare(contenders=[twin, scan], reference=name, batch_size=3)
    for row in comparison.summaries:
        assert row.ratio_to_reference == 1.0
        assert row.ratio_ci95 == (1.0, 1.0)
        assert row.win_rate == 0.5


def test_same_seed_gives_the_same_comparison_whatever_the_batches() -> None:
    first, again, other = (compare(seed=1, batch_size=64), compare(seed=1, batch_size=3), compare(seed=2))
    for name in ("loss", "psnr", "coverage"):
        np.testing.assert_allclose(again.table[name], first.table[name], rtol=1e-6)
    np.testing.assert_equal(compare(seed=1, batch_size=64).table.to_pydict(), first.table.to_pydict())
    assert compare(seed=1, batch_size=64).as_dict() == first.as_dict()
    random_rows = [comparison.rows("random", "mean")["loss"] for comparison in (first, other)]
    assert not np.array_equal(*random_rows)
    np.testing.assert_array_equal(first.rows("grid", "mean")["loss"], other.rows("grid", "mean")["loss"])


def test_one_call_compares_a_policy_with_the_default_scans() -> None:
    comparison = compare_scans(smooth_crops(), policies={"mine": Straight()}, geometry=GEOMETRY)
    assert comparison.scans == ["spiral", "raster", "grid", "random", "mine"]
    assert comparison.completers == ["linear"]
    assert comparison.policies == ("mine",)
    assert comparison.n_micrographs == 10
    assert comparison.summary("mine", "linear").contiguous
    # 24 positions straight down the diagonal, sqrt(2) px apart.
    assert comparison.rows("mine", "linear")["path_length"] == pytest.approx(np.full(10, 23 * np.sqrt(2)), rel=1e-5)


def test_ratio_is_to_the_reference_completed_by_the_same_completer() -> None:
    def perfect(partial: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(blur_target(smooth_crops()))[:, None] + 0.1

    comparison = compare(completers={"perfect": perfect, "nearest": NearestCompleter()}, n_examples=0)
    assert comparison.summary("grid", "perfect").ratio_to_reference == pytest.approx(1.0)
    assert comparison.summary("grid", "perfect").loss_mean == pytest.approx(0.1, rel=1e-5)
    assert comparison.summary("grid", "nearest").ratio_to_reference < 0.95


def test_better_scan_has_lower_ratio_and_wins() -> None:
    corner = Contender("corner", path=np.zeros((24, 2)), contiguous=True)
    comparison = compare(contenders=[*static_contenders(["spiral"]), corner])
    row = comparison.summary("corner", "nearest")
    assert row.ratio_to_reference > 2
    assert row.ratio_ci95 is not None
    assert row.ratio_ci95[0] < row.ratio_to_reference < row.ratio_ci95[1]
    assert row.win_rate == 0.1
    assert row.coverage_mean == 1 / 256


def test_targets_are_blurred_unless_told_otherwise() -> None:
    truth = torch.from_numpy(smooth_crops())[:, None]
    sharp = compare(completers={"truth": lambda partial: truth}, blur_targets=False, n_examples=0)
    assert sharp.rows("grid", "truth")["loss"].tolist() == [0.0] * 10
    assert sharp.rows("grid", "truth")["psnr"].tolist() == [100.0] * 10
    assert sharp.summary("grid", "truth").ratio_to_reference is None
    assert sharp.summary("grid", "truth").ratio_ci95 is None
    assert sharp.summary("grid", "truth").win_rate == 0.5


class Peeking(Straight):
    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def peek(self, crops: np.ndarray, targets: np.ndarray) -> None:
        self.seen.append(targets)


@pytest.mark.parametrize("blur", [True, False])
def test_an_oracle_peeks_at_the_targets_that_it_is_judged_by(blur: bool) -> None:
    crops = np.random.default_rng(0).uniform(-1, 1, (5, 16, 16)).astype(np.float32)
    oracle = Peeking()
    compare_scans(
        crops,
        contenders=[*static_contenders(["spiral"]), Contender("oracle", policy=oracle)],
        geometry=GEOMETRY,
        blur_targets=blur,
        batch_size=2,
    )
    np.testing.assert_array_equal(np.concatenate(oracle.seen), blur_target(crops) if blur else crops)


def test_networks_are_judged_in_evaluation_mode_and_left_as_they_were() -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(2), torch.nn.Conv2d(2, 1, 1))
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    whole, halves = (compare(completers={"net": network}, batch_size=size) for size in (10, 5))
    np.testing.assert_allclose(whole.table["loss"], halves.table["loss"], rtol=1e-5)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_groups_are_what_the_bootstrap_resamples() -> None:
    specimens = np.repeat([0, 1], 5)
    comparison = compare(groups=specimens)
    assert (comparison.n_micrographs, comparison.n_groups) == (5, 2)
    table, reference = (comparison.rows(scan, "mean")["loss"] for scan in ("grid", "spiral"))
    expected = bootstrap_ratio(table, reference, specimens, np.random.default_rng(0), n_resamples=500)
    assert comparison.summary("grid", "mean").ratio_ci95 == expected
    assert compare(groups=np.zeros(10)).summary("grid", "mean").ratio_ci95 is None


def test_examples_are_spread_over_the_reference_s_losses() -> None:
    comparison = compare(n_examples=3)
    examples = comparison.examples
    ordered = np.argsort(comparison.rows("spiral", "mean")["loss"])
    assert examples.indices.tolist() == ordered[[1, 5, 8]].tolist()
    crops = smooth_crops()
    np.testing.assert_array_equal(examples.crops, crops[examples.indices])
    np.testing.assert_array_equal(examples.targets, blur_target(crops)[examples.indices])
    for scan in comparison.scans:
        assert examples.positions[scan].shape == (3, 24, 2)
        found = loss(examples.completions[scan, "mean"], examples.targets)
        np.testing.assert_allclose(found, comparison.rows(scan, "mean")["loss"][examples.indices], rtol=1e-5)
    assert len(compare(n_examples=50).examples.indices) == 10


def test_json_rows_have_the_contract_s_names() -> None:
    content = compare().as_dict()
    assert {name: content[name] for name in ("n_crops", "n_micrographs", "dose")} == {
        "n_crops": 10,
        "n_micrographs": 5,
        "dose": 24,
    }
    assert list(content["rows"][0]) == [
        "scan",
        "completer",
        "loss_mean",
        "loss_std",
        "rmse_mean",
        "psnr_mean",
        "ssim_mean",
        "coverage_mean",
        "ratio_to_spiral",
        "ratio_ci95",
        "win_rate",
        "path_length_mean",
        "contiguous",
        "n_positions_mean",
        "electrons_mean",
        "scan_time_mean",
        "largest_turn_mean",
        "largest_acceleration_mean",
    ]
    assert "ratio_to_grid" in compare(reference="grid").as_dict()["rows"][0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reference": "raster"}, r"reference: got 'raster'; expected one of the contenders, \['spiral'"),
        ({"policies": {"grid": Straight()}}, r"contenders: got .*; expected different names"),
        ({"completers": {}}, "completers: got none; expected at least one"),
        ({"geometry": ScanGeometry(20, 4, 6)}, "geometry: got 20 px for crops of 16 px"),
        ({"corners": np.zeros((3, 2))}, "corners: got 3; expected one for each of 10 crops"),
        ({"groups": [1, 2]}, "groups: got 2; expected one for each of 10 crops"),
        ({"completers": {"flat": lambda partial: partial[:, 0]}}, r"'flat': got completions \(10, 16, 16\)"),
        ({"completers": {"nan": lambda partial: partial[:, :1] / 0.0}}, "'nan': got completions that are not finite"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(**settings)


@pytest.mark.parametrize("settings", [{"reference": "raster"}, {"completers": {}}, {"policies": {"grid": Straight()}}])
def test_settings_are_refused_as_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        compare(**settings)


def test_unfit_crops_are_refused() -> None:
    with pytest.raises(ValueError, match=r"crops: got values in \[.*\]; expected them in \[-1, 1\]"):
        compare_scans(smooth_crops() * 255)
    with pytest.raises(ValueError, match=r"crops: got values in \[nan, nan\]"):
        compare_scans(np.full((2, 16, 16), np.nan))
    with pytest.raises(ValueError, match=r"crops: got shape \(2, 16, 17\)"):
        compare_scans(np.zeros((2, 16, 17)))
    with pytest.raises(ValueError, match="at least one crop"):
        compare_scans(np.zeros((0, 16, 16)))
    with pytest.raises(ValueError, match="micrograph_ids: got 1; expected one for each of 10 crops"):
        compare_scans(smooth_crops(), ["a"])


def test_costs_are_those_of_each_path_under_the_instrument() -> None:
    comparison = compare(acquisition="fast-scan")
    for scan in ("grid", "random"):
        measured = measure(*static_contenders([scan]), smooth_crops(), GEOMETRY)
        costs = scan_costs(measured.positions, "fast-scan")
        for completer in ("mean", "nearest"):
            rows = comparison.rows(scan, completer)
            assert rows["n_positions"].tolist() == [24.0] * 10
            np.testing.assert_array_equal(rows["electrons"], costs.electrons)
            np.testing.assert_array_equal(rows["scan_time"], costs.time)
            np.testing.assert_array_equal(rows["largest_turn"], costs.largest_turn)
            np.testing.assert_array_equal(rows["largest_acceleration"], costs.largest_acceleration)
    row = comparison.summary("random", "mean")
    assert row.scan_time_mean == pytest.approx(costs.time.mean())
    assert row.electrons_mean == pytest.approx(24 * 150.0 * 0.2e-18 / 1.602176634e-19)
    assert compare().summary("random", "mean").electrons_mean is None


def test_every_contender_is_measured_by_the_instrument_whatever_its_form() -> None:
    low_dose, again = compare(acquisition="low-dose"), compare(acquisition=make_instrument("low-dose"))
    np.testing.assert_equal(low_dose.table.to_pydict(), again.table.to_pydict())
    ideal, named = compare(), compare(acquisition="ideal")
    np.testing.assert_equal(ideal.table.to_pydict(), named.table.to_pydict())
    for scan in ideal.scans:
        assert low_dose.summary(scan, "nearest").loss_mean > 1.2 * ideal.summary(scan, "nearest").loss_mean
    with pytest.raises(ValueError, match=r"acquisition: got 'wild'; expected an Instrument or one of \['fast-scan'"):
        compare(acquisition="wild")


def test_rows_are_those_of_a_benchmark_of_one_seed() -> None:
    comparison = compare(corners=np.stack([np.arange(10), np.full(10, 3)], axis=1), groups=np.arange(10) // 5, seed=4)
    assert comparison.table.schema == SCHEMA
    first = comparison.table.slice(1, 1).to_pylist()[0]
    expected = {"seed": 4, "scan": "spiral", "completer": "mean", "crop": 1, "micrograph": "a", "group": "0"}
    expected |= {"row": 1, "column": 3, "role": "static", "contiguous": True}
    assert {name: first[name] for name in expected} == expected
    crop = smooth_crops()[1:2]
    positions = static_scan("spiral", 24, 16)[None]
    partial = partial_scans(sample(crop, positions), positions, 16)
    completion = fill_with_mean(torch.from_numpy(partial))[:, 0].numpy()
    assert first["rmse_unmeasured"] == rmse_unmeasured(completion, blur_target(crop), partial[:, 1])[0]


def test_unknown_rows_are_named() -> None:
    comparison = compare()
    with pytest.raises(KeyError, match="'scan': 'spiral', 'completer': 'cubic'"):
        comparison.rows("spiral", "cubic")
    with pytest.raises(KeyError, match="scan 'raster'"):
        comparison.summary("raster", "mean")
