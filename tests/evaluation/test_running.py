from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptive_scan.evaluation import Contender, compare_scans, scoring, static_contenders
from adaptive_scan.evaluation.bank import open_pictures
from adaptive_scan.evaluation.benchmark import Benchmark, GeneratorPlan, PictureSettings, ScanEntry, SplitSettings
from adaptive_scan.evaluation.cells import Cell
from adaptive_scan.evaluation.fitting import SameCrops
from adaptive_scan.evaluation.folds import make_fold
from adaptive_scan.evaluation.result_files import ResultsFileError, load_results
from adaptive_scan.evaluation.results import METRIC_COLUMNS, SCHEMA, Results, pair, select
from adaptive_scan.evaluation.running import run_benchmark
from adaptive_scan.generators import read_generator_header
from adaptive_scan.micrographs import ArrayCrops
from adaptive_scan.scans import ScanGeometry

GEOMETRY = ScanGeometry(16, 4, 4, (1.0, 3.0))
BENCHMARK = Benchmark(
    "tiny",
    geometries={"1/16": GEOMETRY},
    scans=(
        ScanEntry("spiral", "static"),
        ScanEntry("again", "static", {"family": "spiral"}),
        ScanEntry("random", "static"),
        ScanEntry("tuned", "tuned", {"family": "raster", "n_most": 2}),
        ScanEntry("gradient", "gradient_following", {"n_headings": 4, "n_spacings": 2}),
        ScanEntry("held", "control", {"of": "gradient", "control": "constant"}),
        ScanEntry("other", "control", {"of": "gradient", "control": "other_crop"}),
        ScanEntry("oracle", "look_ahead_oracle", {"completer": "nearest", "n_headings": 4, "n_spacings": 1}),
        ScanEntry("dense", "dense", {"methods": ["gaussian"]}),
    ),
    pictures=PictureSettings(families=("lattice", "points"), pixel_size=0.5, n_crops=12),
    split=SplitSettings(n_folds=3),
    acquisition="low-dose",
    completers=("shared", "own", "linear+"),
    seeds=(0, 1),
    generator=GeneratorPlan(
        n_channels=4, scans=("spiral",), n_updates=2, batch_size=4, fine_tuning_crops=8, error_updates=1
    ),
    factorial=("gradient",),
    n_examples=2,
)
SMALL = replace(
    BENCHMARK,
    scans=BENCHMARK.scans[:2],
    completers=("linear",),
    seeds=(0,),
    factorial=(),
    acquisition="ideal",
    generator=replace(BENCHMARK.generator, n_updates=1),
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums of floating-point numbers depend on how they are shared out."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def run(benchmark: Benchmark, folder: Path, **settings: Any) -> Results:
    return run_benchmark(benchmark, folder, progress=False, **settings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    """The run that nothing disturbed, and its folder; not to be changed."""
    folder = tmp_path_factory.mktemp("benchmarks") / "finished"
    return run(BENCHMARK, folder), folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run but for what tells times."""
    timed = {"timings.json", "tuned.json"}
    files = [file for file in folder.rglob("*") if file.is_file() and file.name not in timed]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_there_is_a_row_for_each_crop_scan_completer_and_seed(finished: tuple[Results, Path]) -> None:
    results, _ = finished
    rows = results.rows
    assert rows.schema.equals(SCHEMA)
    own = {"gradient", results.description["best_static"]["1/16"]}
    counts = dict.fromkeys(((s, c) for s in BENCHMARK.scan_names[:-1] for c in ("shared", "linear+")), 8)
    expected = counts | {(scan, "own"): 8 for scan in own} | {("dense", "denoised"): 8}
    found = [(row["scan"], row["completer"]) for row in rows.select(["scan", "completer"]).to_pylist()]
    assert {key: found.count(key) for key in found} == expected
    keys = [tuple(row.values()) for row in rows.select(["seed", "geometry", "scan", "completer", "crop"]).to_pylist()]
    assert len(set(keys)) == len(keys)


def test_rows_lead_to_pictures_of_the_test_fold(finished: tuple[Results, Path]) -> None:
    results, _ = finished
    _, bank = open_pictures(BENCHMARK)
    for seed in BENCHMARK.seeds:
        fold = make_fold(bank.groups, seed, n_folds=3, validation_share=BENCHMARK.split.validation_share)
        rows = select(results.rows, seed=seed, scan="spiral", completer="shared")
        assert rows["group"].to_pylist() == [bank.groups[i] for i in fold.test]
        assert rows["content"].to_pylist() == [bank.groups[i].rpartition("_")[0] for i in fold.test]
        split = results.description["split"][str(seed)]
        assert {part: len(names) for part, names in split.items()} == {"train": 7, "validation": 1, "test": 4}
        assert not {*split["train"], *split["validation"]} & set(split["test"])


def test_roles(finished: tuple[Results, Path]) -> None:
    rows = finished[0].rows
    roles = {row["scan"]: row["role"] for row in rows.select(["scan", "role"]).to_pylist()}
    assert roles == {
        **dict.fromkeys(("spiral", "again", "random", "tuned"), "static"),
        "gradient": "adaptive",
        "held": "control",
        "other": "control",
        "oracle": "oracle",
        "dense": "dense",
    }
    contiguous = {row["scan"]: row["contiguous"] for row in rows.select(["scan", "contiguous"]).to_pylist()}
    assert [scan for scan, is_contiguous in contiguous.items() if not is_contiguous] == ["random"]


def test_the_same_scan_under_two_names_is_no_difference(finished: tuple[Results, Path]) -> None:
    for metric in ("loss", "frc_cutoff", "path_length", "electrons"):
        paired = pair(finished[0].rows, "1/16", ("spiral", "shared"), ("again", "shared"), metric=metric)
        assert len(paired) == 8
        assert np.array_equal(paired.first, paired.second)


def test_all_scans_have_the_same_dose(finished: tuple[Results, Path]) -> None:
    rows = finished[0].rows
    positions, electrons = rows["n_positions"].to_numpy(), rows["electrons"].to_numpy()
    is_dense = np.array([scan == "dense" for scan in rows["scan"].to_pylist()])
    assert (positions[~is_dense] == 16).all()
    assert (positions[is_dense] == 256).all()
    assert np.allclose(electrons, electrons[0])


def test_losses_are_those_of_a_plain_comparison(finished: tuple[Results, Path]) -> None:
    from adaptive_scan.evaluation.completion import blurred
    from adaptive_scan.generators import make_completer

    _, bank = open_pictures(BENCHMARK)
    for seed in BENCHMARK.seeds:
        fold = make_fold(bank.groups, seed, n_folds=3, validation_share=BENCHMARK.split.validation_share)
        crops = bank.cut(fold.test).crops
        plain = compare_scans(
            crops,
            contenders=static_contenders(["spiral", "random"]),
            completers={"linear+": blurred(make_completer("linear"))},
            geometry=GEOMETRY,
            acquisition="low-dose",
            seed=seed,
        )
        for scan in ("spiral", "random"):
            expected = plain.rows(scan, "linear+")
            rows = select(finished[0].rows, seed=seed, scan=scan, completer="linear+")
            for column in ("loss", "rmse", "psnr", "ssim", "coverage", "path_length", "scan_time", "largest_turn"):
                assert np.allclose(rows[column].to_numpy(), expected[column], rtol=1e-6), column


def test_sums_agree_with_rows(finished: tuple[Results, Path]) -> None:
    results, _ = finished
    for (_, scan, completer), sums in results.sums.items():
        rows = select(results.rows, scan=scan, completer=completer)
        assert sums.n_crops == len(rows) == 8
        assert np.isclose(10.0 * sums.squared_error.mean() / 8, rows["loss"].to_numpy().mean())
        assert np.isclose(sums.distance_squared_error.sum(), sums.squared_error.sum())
        assert sums.distance_pixels.sum() == 8 * 256
        assert np.isclose(sums.distance_pixels[0] / (8 * 256), rows["coverage"].to_numpy().mean())
        assert sums.visits.sum() == rows["n_positions"].to_numpy().sum()


def test_examples_are_crops_of_the_rows(finished: tuple[Results, Path]) -> None:
    results, _ = finished
    (examples,) = results.examples
    assert (examples.geometry, examples.seed, len(examples.indices)) == ("1/16", 0, 2)
    assert set(examples.positions) == set(BENCHMARK.scan_names) - {"dense"}
    assert set(examples.completions) == {(scan, completer) for _, scan, completer in results.sums}
    for (scan, completer), completions in examples.completions.items():
        rows = select(results.rows, seed=0, scan=scan, completer=completer)
        losses = 10.0 * ((completions - examples.targets) ** 2).mean(axis=(1, 2))
        assert np.allclose(losses, rows["loss"].to_numpy()[examples.indices], rtol=1e-4)


def test_truth_is_judged_where_it_is_known(finished: tuple[Results, Path]) -> None:
    rows = select(finished[0].rows, scan="spiral", completer="shared")
    is_known = np.array([content == "points" for content in rows["content"].to_pylist()])
    missed = rows["atoms_missed"].to_numpy()
    assert np.isnan(missed[~is_known]).all()
    assert np.isfinite(missed[is_known]).any()


def test_the_shared_network_saw_what_competes_and_nothing_else(finished: tuple[Results, Path]) -> None:
    results, folder = finished
    cell = folder / "seed0" / "1%2F16"
    shared = read_generator_header(cell / "shared.safetensors")["metadata"]["scans"]
    assert shared == ["spiral", "again", "random", "tuned", "gradient"]
    owners = sorted(file.parent.name for file in cell.rglob("own.safetensors"))
    assert owners == sorted({"gradient", results.description["best_static"]["1/16"]})
    assert read_generator_header(cell / "gradient" / "own.safetensors")["metadata"]["scans"] == ["gradient"]


def test_the_best_static_scan_is_chosen_on_validation_crops_of_all_seeds(finished: tuple[Results, Path]) -> None:
    results, folder = finished
    losses = [json.loads((folder / f"seed{seed}/1%2F16/validation.json").read_text()) for seed in (0, 1)]
    means = {scan: losses[0][scan] + losses[1][scan] for scan in losses[0]}
    assert set(means) == {"spiral", "again", "tuned"}  # contiguous and static
    assert results.description["best_static"] == {"1/16": min(means, key=means.__getitem__)}


def test_the_control_follows_paths_of_other_specimens(finished: tuple[Results, Path]) -> None:
    _, folder = finished
    scans = {name: np.load(folder / f"seed1/1%2F16/{name}/scans.npz")["positions"] for name in ("gradient", "other")}
    for i, path in enumerate(scans["other"]):
        assert any(np.array_equal(path, scans["gradient"][j]) for j in range(4) if j != i)


def test_adaptivity_is_measured_for_policies(finished: tuple[Results, Path]) -> None:
    figures = finished[0].adaptivity["1/16"]
    assert set(figures) == {"gradient", "held", "oracle"}
    assert figures["held"]["path_diversity"] == 0.0
    assert figures["gradient"]["path_diversity"] > 0.0
    assert 0.0 <= figures["oracle"]["crop_share"] <= 1.0


def test_loaded_results_are_those_that_were_found(finished: tuple[Results, Path]) -> None:
    results, folder = finished
    loaded = load_results(folder)
    assert (loaded.name, loaded.identity, loaded.description) == (results.name, results.identity, results.description)
    assert loaded.adaptivity == results.adaptivity
    for column in results.rows.column_names:
        values = [rows[column].to_numpy(zero_copy_only=False) for rows in (loaded.rows, results.rows)]
        np.testing.assert_array_equal(*values)
    assert list(loaded.sums) == list(results.sums)
    for key, sums in results.sums.items():
        np.testing.assert_array_equal(loaded.sums[key].visits, sums.visits)
    np.testing.assert_array_equal(loaded.examples[0].targets, results.examples[0].targets)


def test_columns_are_read_by_name_from_the_file(finished: tuple[Results, Path]) -> None:
    import pyarrow.parquet as pq

    results, folder = finished
    table = pq.read_table(folder / "results.parquet")
    assert table.schema.metadata[b"adaptive_scan.identity"].decode() == results.identity == BENCHMARK.identity
    assert set(METRIC_COLUMNS) <= set(table.column_names)


class Killed(BaseException):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize(
    "place", ["fine_tune", "make_rows", "write_sums", "adaptivity", "best_static", "write_results"]
)
def test_a_killed_run_ends_with_the_same_bits(
    finished: tuple[Results, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    from adaptive_scan.evaluation import preparing, running

    module = {"fine_tune": preparing, "best_static": running, "write_results": running}.get(place, scoring)
    n_left = {"make_rows": 4, "write_sums": 7, "adaptivity": 2}.get(place, 1)
    inner = getattr(module, place)

    def failing(*arguments: Any, **settings: Any) -> Any:
        nonlocal n_left
        n_left -= 1
        if n_left == 0:
            raise Killed
        return inner(*arguments, **settings)

    # What was made before is taken over, so that the test is short: a run is killed once in each of these places.
    folder = tmp_path / "run"
    shutil.copytree(finished[1], folder)
    made_later = {"fine_tune": "*/shared.safetensors", "adaptivity": "gradient/scans.npz"}.get(place, "*.parquet")
    for pattern in (made_later, "*.parquet", "results.json"):
        for file in folder.rglob(pattern.rpartition("/")[2]):
            file.unlink()
    monkeypatch.setattr(module, place, failing)
    with pytest.raises(Killed):
        run(BENCHMARK, folder)
    assert not (folder / "results.json").exists()
    monkeypatch.undo()
    run(BENCHMARK, folder)
    assert contents(folder) == contents(finished[1])


def test_two_runs_end_with_the_same_bits(tmp_path: Path) -> None:
    results = run(SMALL, tmp_path / "first")
    run(SMALL, tmp_path / "second")
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    assert results.identity == SMALL.identity


def test_what_is_made_is_not_made_again(finished: tuple[Results, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from adaptive_scan.evaluation import preparing

    def refuse(*arguments: Any, **settings: Any) -> Any:
        raise AssertionError("expected nothing to be made again")

    for module, name in ((preparing, "train_base"), (preparing, "fine_tune"), (scoring, "measure_all")):
        monkeypatch.setattr(module, name, refuse)
    for name in ("make_rows", "complete_all"):
        monkeypatch.setattr(scoring, name, refuse)
    results = run(BENCHMARK, finished[1])
    assert results.rows.num_rows == finished[0].rows.num_rows


def test_a_maker_sees_no_crop_that_is_tested(tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    def make(cell: Cell, settings: Mapping[str, Any]) -> Contender:
        rng = np.random.default_rng(0)
        seen.extend((cell.train.take(cell.train.draw(200, rng)), cell.validation.crops))
        return replace(static_contenders(["grid"])[0], name="ignored")

    scans = (*SMALL.scans, ScanEntry("mine", "own kind", {"any": 1}))
    results = run(replace(SMALL, scans=scans), tmp_path / "run", makers={"own kind": make})
    assert "mine" in results.rows["scan"].to_pylist()
    _, bank = open_pictures(SMALL)
    tested = bank.cut(make_fold(bank.groups, 0, n_folds=3).test).crops
    # Symmetries of the square change the order of the pixels only.
    known = {np.sort(crop.ravel()).tobytes() for crops in seen for crop in crops}
    assert len(known) > 4
    assert not known & {np.sort(crop.ravel()).tobytes() for crop in tested}


def test_a_scan_beyond_its_budget_ends_the_run_with_its_figures(tmp_path: Path) -> None:
    limited = replace(SMALL, budgets={"1/16": {"path_length": 3.0}})
    with pytest.raises(ValueError, match=r"scan 'spiral' spends .* px of path length; expected at most 3 px") as error:
        run(limited, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "run").rglob("scans.npz"))


def test_the_learned_path_and_the_actor_that_starts_from_it(tmp_path: Path) -> None:
    learning = {"n_positions": 2, "n_updates": 2, "batch_size": 2, "try_every": 1, "completer": "infill"}
    scans = (
        *SMALL.scans,
        ScanEntry("path", "learned_path", learning),
        ScanEntry("actor", "pathwise", {"of": "path", "n_together": 2, "hidden_size": 4, **learning}),
    )
    folder, benchmark = tmp_path / "run", replace(SMALL, scans=scans)
    results = run(benchmark, folder)
    assert set(results.rows["scan"].to_pylist()) == {"spiral", "again", "path", "actor"}
    assert (results.rows["n_positions"].to_numpy() == 16).all()
    before = contents(folder)
    for file in folder.rglob("scans.npz"):
        file.unlink()
    run(benchmark, folder)
    assert contents(folder) == before


def test_an_actor_starts_from_learned_paths_only(tmp_path: Path) -> None:
    scans = (*SMALL.scans, ScanEntry("actor", "pathwise", {"of": "spiral"}))
    with pytest.raises(ValueError, match="scan 'actor': found 'of' 'spiral'; expected a learned path"):
        run(replace(SMALL, scans=scans), tmp_path / "run")


def test_a_folder_of_another_benchmark_is_refused(tmp_path: Path) -> None:
    run(SMALL, tmp_path / "run")
    with pytest.raises(ValueError, match=r"found a run of the identity .*; expected one of this benchmark"):
        run(replace(SMALL, n_examples=3), tmp_path / "run")
    run(replace(SMALL, name="another name"), tmp_path / "run")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "letter.txt").touch()
    with pytest.raises(ValueError, match="found a folder with files in it; expected a new folder"):
        run(SMALL, tmp_path / "used")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scans": (*SMALL.scans, ScanEntry("a", "nice"))}, "scan 'a': found kind 'nice'; expected one of static"),
        (
            {"scans": (*SMALL.scans, ScanEntry("a", "static", {"familly": "grid"}))},
            "scan 'a': found the unknown setting 'familly'; expected some of family",
        ),
        ({"scans": (*SMALL.scans, ScanEntry("a", "tuned"))}, "scan 'a': found no setting 'family'; expected it"),
        (
            {"scans": (*SMALL.scans, ScanEntry("a", "coverage_greedy", {"n_heads": 3}))},
            "unknown setting 'n_heads'; expected some of n_headings",
        ),
        ({"completers": ("some:thing",)}, "found 'some:thing' and nothing that makes it"),
        ({"pictures": PictureSettings(n_crops=2)}, r"found 2 group\(s\) of micrographs for 3 folds"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_made(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(replace(SMALL, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_ones_own_completer_takes_part(tmp_path: Path) -> None:
    def flat(partial_scans: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(partial_scans[:, :1])

    benchmark = replace(SMALL, completers=("linear", "mine:flat"))
    results = run(benchmark, tmp_path / "run", completers={"mine:flat": flat})
    _, bank = open_pictures(SMALL)
    targets = bank.cut(make_fold(bank.groups, 0, n_folds=3).test).targets
    rows = select(results.rows, scan="spiral", completer="mine:flat")
    assert np.allclose(rows["loss"].to_numpy(), 10.0 * (targets.astype(np.float64) ** 2).mean(axis=(1, 2)))


def test_results_that_are_not_whole_are_refused(finished: tuple[Results, Path], tmp_path: Path) -> None:
    with pytest.raises(ResultsFileError, match=r"results\.json: found No such file"):
        load_results(tmp_path)
    folder = tmp_path / "copy"
    shutil.copytree(finished[1], folder)
    content = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**content, "identity": "1" * 64}))
    with pytest.raises(ResultsFileError, match=r"results\.parquet: found rows of the identity .*; expected those of"):
        load_results(folder)
    (folder / "results.json").write_text(json.dumps(content))
    (folder / "results.parquet").write_bytes(b"PAR1")
    with pytest.raises(ResultsFileError, match=r"results\.parquet: found no rows"):
        load_results(folder)


def test_crops_of_fine_tuning_are_the_same_whatever_else_is_drawn() -> None:
    crops = ArrayCrops(np.random.default_rng(0).random((50, 8, 8)), symmetries=True)
    first, second, third = SameCrops(crops, 3), SameCrops(crops, 3), SameCrops(crops, 4)
    rngs = [np.random.default_rng(seed) for seed in (0, 1, 0)]
    drawn = [
        np.concatenate([source.draw(5, rng) for _ in range(4)])
        for source, rng in zip((first, second, third), rngs, strict=True)
    ]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
