from __future__ import annotations

import inspect
import json
import math
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from adaptive_scan.agents.candidates import Candidates
from adaptive_scan.agents.heuristics import CoverageGreedy, GradientFollowing, VarianceGreedy
from adaptive_scan.agents.learned_path import PATH_LEARNING, PathLearning
from adaptive_scan.agents.oracle import LookAheadOracle
from adaptive_scan.agents.pathwise import PathwiseSettings
from adaptive_scan.benchmark.definition import Benchmark, ScanEntry
from adaptive_scan.benchmark.presets import preset_benchmark
from adaptive_scan.benchmark.scan_kinds import (
    SCAN_KINDS,
    BenchmarkCell,
    ControlScan,
    LearnedPathScan,
    PathwiseScan,
    ScanKind,
    check_scans,
    find_kind,
    resolve_scans,
)
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation import Contender
from adaptive_scan.evaluation.controls import CONTROLS
from adaptive_scan.evaluation.dense_raster import DENOISERS
from adaptive_scan.scans import ScanGeometry


def test_every_default_is_written_down() -> None:
    full = preset_benchmark("full", acquisition="low-dose")
    known = replace(full, scans=tuple(scan for scan in full.scans if scan.kind != "rdpg"), factorial=("pathwise",))
    resolved = resolve_scans(known, SCAN_KINDS)
    for scan in resolved.scans:
        if scan.kind != "control":
            assert set(scan.settings) == {part.name for part in fields(SCAN_KINDS[scan.kind])}
    settings = {scan.name: scan.settings for scan in resolved.scans}
    assert settings["grid"] == {"family": "grid", "n_positions": None}
    assert (settings["pathwise"]["n_together"], settings["pathwise"]["hidden_size"]) == (4, 64)
    assert settings["coverage greedy"]["n_headings"] == 9  # around a reference
    assert settings["coverage greedy"]["widest_turn"] == math.pi / 4
    assert settings["pathwise, seeing nothing"] == {"of": "pathwise", "control": "constant", "value": None}
    assert settings["pathwise, seeing late"]["n_segments"] == 1
    assert settings["pathwise, on another crop"] == {"of": "pathwise", "control": "other_crop"}
    assert settings["dense"]["methods"] == list(DENOISERS)
    assert resolve_scans(resolved, SCAN_KINDS) == resolved
    assert Benchmark.from_dict(json.loads(json.dumps(resolved.to_dict()))) == resolved


def test_settings_of_learning_are_those_of_its_dataclass() -> None:
    names = [part.name for part in fields(PathLearning)]
    path, actor = LearnedPathScan(), PathwiseScan()
    assert {name: getattr(path, name) for name in names} == {name: getattr(PATH_LEARNING, name) for name in names}
    assert {name: getattr(actor, name) for name in names} == {name: getattr(PathLearning(), name) for name in names}
    assert {part.name: getattr(actor, part.name) for part in fields(PathwiseSettings)} == vars(PathwiseSettings())


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        ("coverage_greedy", CoverageGreedy),
        ("variance_greedy", VarianceGreedy),
        ("gradient_following", GradientFollowing),
        ("look_ahead_oracle", LookAheadOracle),
    ],
)
def test_defaults_of_candidates_are_those_of_the_policies(kind: str, policy: type) -> None:
    given = {**inspect.signature(Candidates).parameters, **inspect.signature(policy).parameters}
    settings = SCAN_KINDS[kind].from_settings("a", {}).to_settings()
    own = {name: value for name, value in settings.items() if (kind, name) != ("look_ahead_oracle", "completer")}
    assert own == {name: given[name].default for name in own}


def test_settings_of_controls_are_those_of_their_functions() -> None:
    for kind, make in CONTROLS.items():
        settings = ControlScan("a", kind).to_settings()
        parameters = inspect.signature(make).parameters
        expected = {name: parameters[name].default for name in ("n_segments", "value") if name in parameters}
        assert settings == {"of": "a", "control": kind, **expected}


def test_numbers_are_written_in_one_way() -> None:
    entries = [ScanEntry("a", "pathwise", {"largest_offset": value}) for value in (10, 10.0)]
    first, second = (find_kind(entry, SCAN_KINDS).to_settings() for entry in entries)
    assert json.dumps(first) == json.dumps(second)


@dataclass(frozen=True)
class Refusing(ScanKind):
    error: str = "ValueError"

    def check(self, scan: str, geometry: ScanGeometry, benchmark: Benchmark) -> None:
        raise {"ValueError": ValueError, "TypeError": TypeError, "KeyError": KeyError}[self.error]("side: got 1")

    def make(self, cell: BenchmarkCell) -> Contender:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ("ValueError", SettingError, "scan 'a' at '1/16': side: got 1"),
        ("TypeError", SettingError, "scan 'a' at '1/16': got settings that fail (side: got 1); expected others"),
        ("KeyError", KeyError, "'side: got 1'"),
    ],
)
def test_what_a_kind_refuses_is_a_complaint_about_its_scan(error: str, kind: Any, message: str) -> None:
    scans = (ScanEntry("spiral", "static"), ScanEntry("a", "mine", {"error": error}))
    benchmark = Benchmark("b", {"1/16": ScanGeometry(16, 4, 4)}, scans)
    with pytest.raises(kind) as raised:
        check_scans(benchmark, {**SCAN_KINDS, "mine": Refusing})
    assert str(raised.value) == message
