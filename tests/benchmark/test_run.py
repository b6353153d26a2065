from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptive_scan.acquisition import make_instrument
from adaptive_scan.benchmark import folder as folders
from adaptive_scan.benchmark import run as running
from adaptive_scan.benchmark.definition import (
    Benchmark,
    GeneratorPlan,
    PictureSettings,
    ScanEntry,
    SplitSettings,
    benchmark_content,
)
from adaptive_scan.benchmark.folder import OtherRunError, ResultsFileError, load_results
from adaptive_scan.benchmark.networks import SameCrops
from adaptive_scan.benchmark.pictures import make_fold, open_pictures
from adaptive_scan.benchmark.run import complete_benchmark, run_benchmark
from adaptive_scan.benchmark.scan_kinds import BenchmarkCell, ScanKind
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation import Contender, compare_scans, loss, static_contenders
from adaptive_scan.evaluation.contenders import VALIDATION
from adaptive_scan.evaluation.results import METRIC_COLUMNS, SCHEMA, Results, pair, select
from adaptive_scan.evaluation.rows import measure_all
from adaptive_scan.generators import complete, load_generator, read_generator_header
from adaptive_scan.micrographs import ArrayCrops
from adaptive_scan.scans import ScanGeometry, partial_scans

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
    files = [file for file in files if file.parent.name != "timings"]
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
        split = results.description["groups_by_seed"][str(seed)]
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
    from adaptive_scan.generators import make_completer
    from adaptive_scan.generators.completers import blurred

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
    assert (
        table.schema.metadata[b"adaptive_scan.identity"].decode()
        == results.identity
        == complete_benchmark(BENCHMARK)[0].identity
    )
    assert set(METRIC_COLUMNS) <= set(table.column_names)


class Killed(BaseException):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize(
    "place", ["fine_tune", "make_rows", "write_sums", "adaptivity", "best_static", "write_results"]
)
def test_a_killed_run_ends_with_the_same_bits(
    finished: tuple[Results, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    n_left = {"make_rows": 4, "write_sums": 7, "adaptivity": 2}.get(place, 1)
    inner = getattr(running, place)

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
    monkeypatch.setattr(running, place, failing)
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
    assert results.identity == complete_benchmark(SMALL)[0].identity


def test_what_is_made_is_not_made_again(finished: tuple[Results, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **settings: Any) -> Any:
        raise AssertionError("expected nothing to be made again")

    for name in ("train_base", "fine_tune", "measure_all", "make_rows", "complete"):
        monkeypatch.setattr(running, name, refuse)
    results = run(BENCHMARK, finished[1])
    assert results.rows.num_rows == finished[0].rows.num_rows


def test_a_kind_sees_no_crop_that_is_tested(tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    @dataclass(frozen=True)
    class Grid(ScanKind):
        any: int = 0

        def make(self, cell: BenchmarkCell) -> Contender:
            rng = np.random.default_rng(0)
            seen.extend((cell.train.take(cell.train.draw(200, rng)), cell.validation.crops))
            return replace(static_contenders(["grid"])[0], name="ignored")

    scans = (*SMALL.scans, ScanEntry("mine", "own kind", {"any": 1}))
    results = run(replace(SMALL, scans=scans), tmp_path / "run", kinds={"own kind": Grid})
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


def test_a_dense_raster_keeps_to_the_limits_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = (*SMALL.scans, ScanEntry("dense", "dense", {"methods": ["gaussian"]}))
    noisy = replace(SMALL, acquisition="low-dose", scans=scans)
    results = run(noisy, tmp_path / "free")
    spent = select(results.rows, scan="dense", completer="denoised")["scan_time"].to_numpy()[0]
    others = select(results.rows, scan="spiral", completer="linear")["scan_time"].to_numpy().max()
    assert others < 0.5 * spent
    limited = replace(noisy, budgets={"1/16": {"scan_time": 0.5 * spent}})
    said = r"scan 'dense' spends .* s of scan time; expected at most .*distinct pixels 256 \(no limit\)"
    with pytest.raises(ValueError, match=f"scan 'dense' at '1/16': {said}"):
        run(limited, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # And again where it is made.
    monkeypatch.setattr(running, "check_scans", lambda benchmark, kinds: None)
    with pytest.raises(ValueError, match=f"^{said}"):
        run(limited, tmp_path / "run")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {"scan_time": 1e-9},
            r"budgets\['1/16'\].scan_time: got 1e-09 s; expected at least .* for which the probe dwells",
        ),
        ({"electrons": 10.0}, r"budgets\['1/16'\].electrons: got 10; expected at least .*, those of the dose"),
    ],
)
def test_budgets_that_no_scan_keeps_are_refused_at_the_start(
    tmp_path: Path, limits: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(replace(SMALL, acquisition="low-dose", budgets={"1/16": limits}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_electrons_are_an_upper_bound(tmp_path: Path) -> None:
    plenty = replace(SMALL, acquisition="low-dose", budgets={"1/16": {"electrons": 1e12}})
    free = run(replace(plenty, budgets={}), tmp_path / "free")
    assert run(plenty, tmp_path / "run").rows["electrons"].equals(free.rows["electrons"])


def test_a_scan_that_turns_out_not_to_compete_is_refused_in_the_factorial(tmp_path: Path) -> None:
    class Other(ScanKind):
        def make(self, cell: BenchmarkCell) -> Contender:
            return replace(cell.find_contender("spiral"), role="control")

    scans = (*SMALL.scans, ScanEntry("mine", "own kind"))
    with pytest.raises(ValueError, match="factorial: got 'mine', of the role 'control'; expected static and adaptive"):
        run(replace(SMALL, scans=scans, factorial=("mine",)), tmp_path / "run", kinds={"own kind": Other})
    assert not list((tmp_path / "run").rglob("scans.npz"))


def test_other_crops_need_other_groups_in_every_fold(tmp_path: Path) -> None:
    other = ScanEntry("other", "control", {"of": "greedy", "control": "other_crop"})
    few = replace(SMALL, pictures=replace(SMALL.pictures, n_crops=5), seeds=(0, 2), **scans_with(other))
    with pytest.raises(ValueError, match="scan 'other': got one group in the test fold of seed 2; expected at least 2"):
        run(few, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    complete_benchmark(replace(few, seeds=(0, 1)))


def test_kinds_of_commands_are_named_before_pictures_are_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from adaptive_scan.benchmark.presets import preset_benchmark

    monkeypatch.setattr(running, "open_pictures", lambda benchmark: pytest.fail("expected no picture to be drawn"))
    with pytest.raises(ValueError, match=r"got kind 'rdpg'; expected .* adaptive_scan\.commands\.compare\.KINDS"):
        run(preset_benchmark("full"), tmp_path / "run")


@pytest.mark.parametrize(
    "entry",
    [
        ScanEntry("a", "learned_path", {"n_updates": 1}),
        ScanEntry("a", "coverage_greedy", {"n_headings": 4}),
    ],
)
def test_paths_of_one_segment_are_refused_at_the_start(tmp_path: Path, entry: ScanEntry) -> None:
    single = replace(SMALL, geometries={"1/16": ScanGeometry(16, 1, 16)}, scans=(*SMALL.scans, entry))
    with pytest.raises(ValueError, match="scan 'a' at '1/16': geometry has 1 segment; expected at least 2"):
        run(single, tmp_path / "run")
    assert not (tmp_path / "run").exists()


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


def test_static_scans_are_validated_under_noise_that_no_test_crop_meets(finished: tuple[Results, Path]) -> None:
    folder = finished[1]
    benchmark, bank = open_pictures(Benchmark.read(folder / "benchmark.json"))
    cut = bank.cut(make_fold(bank.groups, 0, n_folds=3).validation)
    base = load_generator(folder / "seed0" / "base.safetensors").eval()
    found = json.loads((folder / "seed0" / "1%2F16" / "validation.json").read_text())["spiral"]

    def loss_under(stream: int) -> float:
        (spiral,), instrument = static_contenders(["spiral"]), make_instrument(benchmark.acquisition)
        measured = measure_all(spiral, cut, GEOMETRY, instrument, 0, stream=stream)
        partial = partial_scans(measured.values, measured.positions, GEOMETRY.image_size)
        return float(loss(complete(base, partial)[:, 0], cut.targets).mean())

    assert found == pytest.approx(loss_under(VALIDATION), rel=1e-6)
    assert found != pytest.approx(loss_under(0), rel=1e-3)


def test_a_path_is_learned_from_a_tuned_one_and_an_actor_starts_there(tmp_path: Path) -> None:
    learning = {"n_updates": 0, "completer": "infill"}
    scans = (
        *SMALL.scans,
        ScanEntry("tuned", "tuned", {"family": "raster", "n_most": 2}),
        ScanEntry("path", "learned_path", {"of": "tuned", **learning}),
        ScanEntry("actor", "pathwise", {"of": "path", "n_positions": 1, "hidden_size": 4, **learning}),
    )
    results = run(replace(SMALL, scans=scans), tmp_path)
    # Nothing was learned, so both are still the raster.
    for scan in ("path", "actor"):
        paired = pair(results.rows, "1/16", (scan, "linear"), ("tuned", "linear"))
        np.testing.assert_array_equal(paired.first, paired.second)
    assert select(results.rows, scan="actor")["role"].to_pylist()[0] == "adaptive"


def test_an_actor_starts_from_learned_paths_only(tmp_path: Path) -> None:
    scans = (*SMALL.scans, ScanEntry("actor", "pathwise", {"of": "spiral"}))
    with pytest.raises(ValueError, match="scan 'actor' at '1/16': got 'of' 'spiral'; expected a learned path"):
        run(replace(SMALL, scans=scans), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_benchmark_is_refused(tmp_path: Path) -> None:
    run(SMALL, tmp_path / "run")
    with pytest.raises(OtherRunError, match=r"got a run of the identity .*; expected one of this benchmark"):
        run(replace(SMALL, reference="again"), tmp_path / "run")
    run(replace(SMALL, name="another name", n_examples=3), tmp_path / "run")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "letter.txt").touch()
    with pytest.raises(ValueError, match="got a folder with files in it; expected a new folder"):
        run(SMALL, tmp_path / "used")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scans": (*SMALL.scans, ScanEntry("a", "nice"))}, "scan 'a': got kind 'nice'; expected one of static"),
        (
            {"scans": (*SMALL.scans, ScanEntry("a", "static", {"familly": "grid"}))},
            "scan 'a': got the unknown key 'familly'; expected some of family",
        ),
        ({"scans": (*SMALL.scans, ScanEntry("a", "tuned"))}, "scan 'a': got no key 'family'; expected it"),
        (
            {"scans": (*SMALL.scans, ScanEntry("a", "coverage_greedy", {"n_heads": 3}))},
            "unknown key 'n_heads'; expected some of n_headings",
        ),
        ({"completers": ("some:thing",)}, "got 'some:thing' and nothing that makes it"),
        ({"pictures": PictureSettings(n_crops=2)}, r"got 2 group\(s\) of micrographs for 3 folds"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_made(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        run(replace(SMALL, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def scans_with(*entries: ScanEntry) -> dict[str, Any]:
    return {"scans": (*SMALL.scans, ScanEntry("greedy", "coverage_greedy", {"n_headings": 4}), *entries)}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([ScanEntry("a", "static", {"family": "grit"})], "scan 'a' at '1/16': family: got 'grit'; expected one of"),
        ([ScanEntry("a", "static", {"n_positions": "2"})], "scan 'a': n_positions: got '2'; expected a whole number"),
        (
            [ScanEntry("a", "static", {"family": "filling_path", "n_positions": 3})],
            "scan 'a' at '1/16': n_positions: got 3; expected a divisor of 16, the positions of the scan",
        ),
        ([ScanEntry("a", "tuned", {"family": "grid"})], "scan 'a' at '1/16': family: got 'grid'; expected one of"),
        ([ScanEntry("a", "tuned", {"family": "raster", "n_most": 0})], "n_most: got 0; expected at least 1"),
        (
            [ScanEntry("a", "learned_path", {"n_updates": -1})],
            "scan 'a': n_updates: got -1; expected 0 or more",
        ),
        (
            [ScanEntry("a", "learned_path", {"n_updates": True})],
            "scan 'a': n_updates: got True; expected a whole number",
        ),
        (
            [ScanEntry("a", "learned_path", {"completer": "linear"})],
            "scan 'a': completer: got 'linear'; expected one",
        ),
        (
            [ScanEntry("a", "learned_path", {"n_positions": 5})],
            "n_positions: got 5; expected a divisor of 16, the positions of the scan",
        ),
        ([ScanEntry("a", "pathwise", {"n_together": 0})], "scan 'a': n_together: got 0; expected at least 1"),
        ([ScanEntry("a", "pathwise", {"of": "again"})], "got 'of' 'again'; expected a learned path"),
        (
            [ScanEntry("g", "coverage_greedy"), ScanEntry("a", "learned_path", {"of": "g"})],
            "got 'of' 'g' of kind 'coverage_greedy'; expected a static or a tuned scan",
        ),
        ([ScanEntry("a", "learned_path", {"of": "again", "n_positions": 2})], "n_positions: got 2 beside 'of'"),
        (
            [ScanEntry("p", "learned_path", {"n_positions": 2}), ScanEntry("a", "pathwise", {"of": "p"})],
            "scan 'a' at '1/16': n_positions: got None; expected that of 'p', 2",
        ),
        (
            [ScanEntry("a", "coverage_greedy", {"widest_turn": 9})],
            "widest_turn: got 9.0; expected more than 0 and at most",
        ),
        ([ScanEntry("a", "variance_greedy", {"exploration": -1})], "scan 'a' at '1/16': exploration"),
        ([ScanEntry("a", "gradient_following", {"completer": "cubic"})], "scan 'a' at '1/16': .*'cubic'; expected"),
        ([ScanEntry("a", "look_ahead_oracle", {"n_headings": 0})], "scan 'a' at '1/16': n_headings: got 0; expected"),
        ([ScanEntry("a", "control", {"of": "greedy", "control": "late"})], "scan 'a': control: got 'late'; expected"),
        (
            [ScanEntry("a", "control", {"of": "spiral", "control": "constant"})],
            "scan 'a' at '1/16': got 'of' 'spiral', of the kind 'static'; expected an adaptive scan",
        ),
        (
            [ScanEntry("a", "control", {"of": "greedy", "control": "delayed", "n_segments": 0})],
            "scan 'a' at '1/16': n_segments: got 0; expected a delay",
        ),
        (
            [ScanEntry("a", "control", {"of": "greedy", "control": "constant", "n_segments": 1})],
            "scan 'a': got the setting 'n_segments' of the control 'constant'; expected some of of, control, value",
        ),
        ([ScanEntry("a", "dense")], "scan 'a' at '1/16': .*; expected"),
        (
            [ScanEntry("a", "control", {"of": "greedy", "control": "constant", "value": float("nan")})],
            "scan 'a': got settings that no JSON has",
        ),
    ],
)
def test_values_of_settings_are_refused_before_anything_is_made(
    tmp_path: Path, entries: list[ScanEntry], message: str
) -> None:
    with pytest.raises(SettingError, match=message) as refused:
        run(replace(SMALL, **scans_with(*entries)), tmp_path / "run")
    assert "; expected " in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_denoisers_are_known(tmp_path: Path) -> None:
    noisy = replace(SMALL, acquisition="low-dose", **scans_with(ScanEntry("a", "dense", {"methods": ["magic"]})))
    with pytest.raises(ValueError, match="scan 'a' at '1/16': methods: got 'magic'; expected one of none, gaussian"):
        run(noisy, tmp_path / "run")


def test_defaults_count_in_the_identity_and_are_in_the_files(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Grid(ScanKind):
        pitch: float = 2.0

        def make(self, cell: BenchmarkCell) -> Contender:
            return replace(static_contenders(["grid"])[0], name="ignored")

    @dataclass(frozen=True)
    class Changed(Grid):
        pitch: float = 4.0

    silent = replace(SMALL, scans=(*SMALL.scans, ScanEntry("mine", "own kind")))
    results = run(silent, tmp_path / "run", kinds={"own kind": Grid})
    assert results.description["scans"][-1]["settings"] == {"pitch": 2}
    assert Benchmark.read(tmp_path / "run" / "benchmark.json").scans[-1].settings == {"pitch": 2}
    said = replace(SMALL, scans=(*SMALL.scans, ScanEntry("mine", "own kind", {"pitch": 2})))
    assert run(said, tmp_path / "run", kinds={"own kind": Grid}).identity == results.identity
    with pytest.raises(ValueError, match="got a run of the identity"):
        run(silent, tmp_path / "run", kinds={"own kind": Changed})
    content = benchmark_content(results.description)
    assert Benchmark.from_dict(content).identity == results.identity


def test_the_description_is_a_benchmark_and_what_was_found(finished: tuple[Results, Path]) -> None:
    results, folder = finished
    again = Benchmark.from_dict(benchmark_content(results.description))
    assert again.split == BENCHMARK.split
    assert again.identity == results.identity
    beside = {"best_static", "groups_by_seed", "skipped", "versions"}
    assert set(results.description) - set(benchmark_content(results.description)) == beside
    assert json.loads((folder / "versions.json").read_text()) == results.description["versions"]
    (versions,) = results.description["versions"]
    assert (versions["device"], len(versions["adaptive_scan_files"])) == ("cpu", 64)


def test_a_run_that_goes_on_with_something_else_says_so_and_keeps_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(folders, "__version__", "0.0.1")
        patch.setattr(folders, "_hash_of_package", lambda: "1" * 64)
        run(SMALL, tmp_path / "run", made_with={"mine:flat": "a" * 64})
        run(SMALL, tmp_path / "run", made_with={"mine:flat": "a" * 64})
        assert capsys.readouterr().out == ""
        patch.setattr(folders, "__version__", "0.0.2")
        run(SMALL, tmp_path / "run", made_with={"mine:flat": "b" * 64})
    assert capsys.readouterr().out == (
        "note: the run goes on with adaptive_scan 0.0.2 (before: 0.0.1), "
        "mine:flat bbbbbbbbbbbb (before: aaaaaaaaaaaa)\n"
    )
    found = run(SMALL, tmp_path / "run").description["versions"]
    assert [each["adaptive_scan"] for each in found] == ["0.0.1", "0.0.2", folders.__version__]
    assert [each.get("mine:flat", "none")[0] for each in found] == ["a", "b", "n"]
    assert "mine:flat none (before: bbbbbbbbbbbb)" in capsys.readouterr().out


def test_a_run_of_one_set_of_versions_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(SMALL, tmp_path / "run").description["versions"][0]
    (tmp_path / "run" / "versions.json").write_text(json.dumps({**first, "device": "cuda"}))
    found = run(SMALL, tmp_path / "run").description["versions"]
    assert [each["device"] for each in found] == ["cuda", "cpu"]
    assert capsys.readouterr().out == "note: the run goes on with device cpu (before: cuda)\n"


def test_seeds_are_shared_in_two_calls_each_and_keep_their_timings(tmp_path: Path) -> None:
    shared, folder = replace(SMALL, seeds=(0, 1)), tmp_path / "run"
    assert run(shared, folder, only_seeds=[0]) is None
    first = (folder / "timings" / "seed0.json").read_bytes()
    assert set(json.loads(first)) == {name for name in json.loads(first) if name.startswith("seed 0")} != set()
    # All are prepared now, so that this call compares its seed as well.
    assert run(shared, folder, only_seeds=[1]) is None
    assert (folder / "timings" / "seed0.json").read_bytes() == first
    assert list((folder / "rows").iterdir()) == [folder / "rows" / "seed1"]
    results = run(shared, folder, only_seeds=[0])
    assert set(results.rows["seed"].to_pylist()) == {0, 1}
    parts = [json.loads((folder / "timings" / f"seed{seed}.json").read_text()) for seed in (0, 1)]
    assert json.loads((folder / "timings.json").read_text()) == {**parts[0], **parts[1]}
    assert len(parts[0]) == len(parts[1]) + 1  # the examples


def test_timings_of_a_process_are_not_lost_by_another(tmp_path: Path) -> None:
    from adaptive_scan.benchmark.folder import RunFolder, Stage, run_stages

    files = RunFolder(tmp_path)

    def touch(seed: int) -> Stage:
        return Stage(f"of {seed}", tmp_path / f"done{seed}", lambda: None)

    def meanwhile() -> None:
        run_stages({1: [touch(1)]}, files, progress=False, title="")

    run_stages({0: [touch(0), Stage("long", tmp_path / "long", meanwhile)]}, files, progress=False, title="")
    assert set(json.loads(files.timings(0).read_text())) == {"of 0", "long"}
    assert set(json.loads(files.timings(1).read_text())) == {"of 1"}


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
    with pytest.raises(ResultsFileError, match=r"results\.json: got No such file"):
        load_results(tmp_path)
    folder = tmp_path / "copy"
    shutil.copytree(finished[1], folder)
    content = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**content, "identity": "1" * 64}))
    with pytest.raises(ResultsFileError, match=r"results\.parquet: got rows of the identity .*; expected those of"):
        load_results(folder)
    (folder / "results.json").write_text(json.dumps(content))
    (folder / "results.parquet").write_bytes(b"PAR1")
    with pytest.raises(ResultsFileError, match=r"results\.parquet: got no rows"):
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
