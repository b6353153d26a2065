from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adaptive_scan.benchmark.definition import (
    Benchmark,
    BenchmarkFileError,
    GeneratorPlan,
    PictureSettings,
    ScanEntry,
    SplitSettings,
    check_comparable,
)
from adaptive_scan.benchmark.presets import BENCHMARK_PRESETS, preset_benchmark
from adaptive_scan.benchmark.scan_kinds import SCAN_KINDS, find_kind
from adaptive_scan.scans import ScanGeometry


def make_benchmark(**settings: Any) -> Benchmark:
    given: dict[str, Any] = {
        "name": "mine",
        "geometries": {"1/16": ScanGeometry(16, 4, 4, start=(8.0, 8.0))},
        "scans": (
            ScanEntry("spiral", "static"),
            ScanEntry("greedy", "coverage_greedy", {"n_headings": 8}),
            ScanEntry("held", "control", {"of": "greedy", "control": "constant"}),
        ),
        "pictures": PictureSettings(
            micrographs="a", groups="g.csv", fingerprint="f", families=("grains",), pixel_size=0.3
        ),
        "completers": ("shared", "own", "linear"),
        "seeds": (0, 3),
        "generator": GeneratorPlan(scans=("spiral",)),
        "factorial": ("greedy",),
        "budgets": {"1/16": {"scan_time": 1.0}},
    }
    return Benchmark(**{**given, **settings})


def test_a_file_gives_the_benchmark_again(tmp_path: Path) -> None:
    benchmark = make_benchmark()
    benchmark.write(tmp_path / "b.json")
    assert Benchmark.read(tmp_path / "b.json") == benchmark
    assert Benchmark.read(tmp_path / "b.json").identity == benchmark.identity


def test_what_is_left_out_takes_its_default() -> None:
    content = {"name": "a", "geometries": {"x": {"image_size": 32}}, "scans": [{"name": "spiral", "kind": "static"}]}
    benchmark = Benchmark.from_dict(content)
    assert benchmark.split == SplitSettings()
    assert benchmark.geometries["x"] == ScanGeometry(32)


def leaves(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to all values of JSON that are no objects or lists."""
    if isinstance(content, dict | list):
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in pairs:
            yield from leaves(value, (*place, key))
    else:
        yield place


# Where one more, or the other truth value, would not do.
OTHERS: dict[tuple[Any, ...], Any] = {
    ("pictures", "families", 0): "lattice",
    ("pictures", "imaging"): "realistic",
    ("split", "validation_share"): 0.2,
    ("acquisition",): "low-dose",
    ("scans", 0, "kind"): "tuned",
    ("scans", 1, "kind"): "pathwise",
    ("scans", 2, "kind"): "static",
    ("scans", 2, "settings", "of"): "spiral",
    ("completers", 0): "infill",
    ("completers", 1): "infill",
    ("completers", 2): "linear+",
    ("generator", "kind"): "unet",
    ("generator", "scans", 0): "grid",
    ("factorial", 0): "spiral",
    ("reference",): "greedy",
    ("geometries", "1/16", "start", 0): 7.0,
}
NOT_IN_IDENTITY = {("name",), ("n_examples",), ("pictures", "micrographs"), ("pictures", "groups")}
FIXED = {("format",), ("scans", 0, "name"), ("scans", 1, "name")}  # the version, and what other settings refer to


def changed(content: dict[str, Any], place: tuple[Any, ...]) -> dict[str, Any]:
    """The same JSON with another value at one place."""
    other = copy.deepcopy(content)
    inner = other
    for key in place[:-1]:
        inner = inner[key]
    value = inner[place[-1]]
    if place in OTHERS:
        inner[place[-1]] = OTHERS[place]
    elif isinstance(value, bool):
        inner[place[-1]] = not value
    elif isinstance(value, str):
        inner[place[-1]] = f"{value}2"
    else:
        inner[place[-1]] = 1 if value is None else value + 1
    return other


def test_every_setting_but_names_and_paths_counts_in_the_identity() -> None:
    content = make_benchmark().to_dict()
    identities = {(): Benchmark.from_dict(content).identity}
    for place in leaves(content):
        if place not in FIXED:
            identities[place] = Benchmark.from_dict(changed(content, place)).identity
    same = {place for place, identity in identities.items() if place and identity == identities[()]}
    assert same == NOT_IN_IDENTITY
    assert len(set(identities.values())) == len(identities) - len(NOT_IN_IDENTITY)


def test_identity_does_not_depend_on_the_order_of_keys() -> None:
    content = make_benchmark().to_dict()
    turned = {key: content[key] for key in reversed(list(content))}
    assert Benchmark.from_dict(turned).identity == Benchmark.from_dict(content).identity


def test_identity_needs_the_pictures_fingerprint() -> None:
    benchmark = make_benchmark()
    unknown = replace(benchmark, pictures=replace(benchmark.pictures, fingerprint=None))
    with pytest.raises(ValueError, match="fingerprint of a: got None; expected a resolved benchmark"):
        _ = unknown.identity


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ((), "'seed'"),
        (("pictures",), "'pictures.seed2'"),
        (("split",), "'split.seed2'"),
        (("generator",), "'generator.seed2'"),
        (("geometries", "1/16"), "geometries.1/16"),
        (("scans", 1), "'scans[1].seed2'"),
    ],
)
def test_an_unknown_key_is_refused_by_name(tmp_path: Path, place: tuple[Any, ...], named: str) -> None:
    content = make_benchmark().to_dict()
    inner = content
    for key in place:
        inner = inner[key]
    inner["seed" if not place else "seed2"] = 1
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(BenchmarkFileError) as error:
        Benchmark.read(tmp_path / "b.json")
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'b.json'}: ")
    assert named in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seeds", 0, "seeds: got 0; expected a list"),
        ("seeds", [0.5], "seeds[0]: got 0.5; expected a whole number"),
        ("seeds", [True], "seeds[0]: got True; expected a whole number"),
        ("pictures", [], "pictures: got []; expected an object"),
        ("pictures", {"n_crops": 0}, "pictures.n_crops: got 0; expected at least 1"),
        ("pictures", {"imaging": "nice"}, "pictures.imaging: got 'nice'; expected one of default, realistic"),
        ("generator", {"learning_rate": "a"}, "generator.learning_rate: got 'a'; expected a number"),
        ("format", 9, "format: got 9; expected 1"),
        ("geometries", {}, "geometries: got nothing; expected geometries of one field"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    content = {**make_benchmark().to_dict(), key: value}
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(BenchmarkFileError) as error:
        Benchmark.read(tmp_path / "b.json")
    assert str(error.value) == f"{tmp_path / 'b.json'}: {message}"


def test_a_missing_key_is_named() -> None:
    content = make_benchmark().to_dict()
    del content["scans"][0]["kind"]
    with pytest.raises(ValueError, match=r"no key 'scans\[0\]\.kind'; expected it there"):
        Benchmark.from_dict(content)


@pytest.mark.parametrize("text", ["", "[]", "{", "1"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(BenchmarkFileError, match=r"b\.json: .*got "):
        Benchmark.read(tmp_path / "b.json")
    with pytest.raises(BenchmarkFileError, match="No such file"):
        Benchmark.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": (0, 5)}, r"seeds: got \[0, 5\]; expected .* no two of one fold"),
        ({"seeds": ()}, "seeds: got"),
        ({"reference": "raster"}, "reference: got 'raster'; expected one of spiral, greedy, held"),
        ({"factorial": ("raster",)}, "factorial: got 'raster'"),
        ({"completers": ("shared+",)}, r"completers: got 'shared\+'; expected 'shared'"),
        ({"completers": ("cubic",)}, "completers: got 'cubic'; expected one of shared, own"),
        ({"completers": ("linear", "linear")}, "completers: got 'linear' twice"),
        ({"completers": ()}, "completers: got nothing"),
        ({"completers": ("own",)}, "completers: got 'own' alone; expected at least one beside it"),
        ({"factorial": ("held",)}, "factorial: got 'held'; expected one of spiral, greedy"),
        (
            {
                "scans": (ScanEntry("spiral", "static"), ScanEntry("peeks", "look_ahead_oracle")),
                "factorial": ("peeks",),
            },
            "factorial: got 'peeks'; expected one of spiral",
        ),
        (
            {"budgets": {"1/16": {"path_length": -1.0}}},
            r"budgets\['1/16'\].path_length: got -1.0; expected more than 0",
        ),
        ({"budgets": {"1/16": {"scan_time": float("nan")}}}, "scan_time: got nan; expected more than 0"),
        ({"pictures": PictureSettings(pixel_size=0.5), "budgets": {"1/16": {"electrons": 0.0}}}, "electrons: got 0.0"),
        ({"acquisition": "mine"}, "acquisition: got 'mine'"),
        ({"budgets": {"1/4": {}}}, "budgets: got '1/4'"),
        ({"budgets": {"1/16": {"time": 1.0}}}, "got 'time'; expected one of electrons, scan_time, path_length"),
        ({"geometries": {"a": ScanGeometry(16), "b": ScanGeometry(32)}}, r"got fields of \[16, 32\] px"),
        ({"scans": (ScanEntry("spiral", "static"), ScanEntry("spiral", "tuned"))}, "scans: got 'spiral' twice"),
        (
            {"scans": (ScanEntry("spiral", "control", {"of": "later"}), ScanEntry("later", "static"))},
            "scan 'spiral': got 'of' 'later'; expected a scan that stands before it",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], message: str) -> None:
    given = {"factorial": (), "budgets": {}, **settings}
    with pytest.raises(ValueError, match=message):
        make_benchmark(**given)


def test_results_of_other_benchmarks_are_not_compared() -> None:
    first = SimpleNamespace(name="a", identity="1" * 64)
    second = SimpleNamespace(name="b", identity="2" * 64)
    check_comparable(first, SimpleNamespace(name="b", identity="1" * 64))
    with pytest.raises(ValueError, match="'a' and 'b' have the identities 111111111111 and 222222222222; expected the"):
        check_comparable(first, second)


@pytest.mark.parametrize("name", BENCHMARK_PRESETS)
def test_presets_are_complete_and_their_settings_known(name: str) -> None:
    benchmark = preset_benchmark(name)
    assert Benchmark.from_dict(json.loads(json.dumps(benchmark.to_dict()))) == benchmark
    for scan in benchmark.scans:
        if scan.kind != "rdpg":
            find_kind(scan, SCAN_KINDS)
    on_micrographs = preset_benchmark(name, micrographs="m", groups="g.csv")
    assert (on_micrographs.pictures.micrographs, on_micrographs.pictures.groups) == ("m", "g.csv")


def test_a_preset_has_the_coverages_of_its_names() -> None:
    for name, geometry in preset_benchmark("full").geometries.items():
        assert round(1.0 / geometry.nominal_coverage) == int(name.removeprefix("1/"))
