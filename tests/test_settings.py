from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from adaptive_scan.errors import SettingError
from adaptive_scan.scans import ScanGeometry
from adaptive_scan.settings import setting_from_json, setting_to_json, settings_from_json, settings_to_json


@dataclass(frozen=True)
class Part:
    rates: tuple[float, ...] = ()
    pair: tuple[int, str] = (1, "a")

    def __post_init__(self) -> None:
        if self.pair[0] < 0:
            raise ValueError(f"pair[0]: got {self.pair[0]}; expected at least 0")


@dataclass(frozen=True)
class Whole:
    name: str
    out: Path | None = None
    kind: Literal["a", "b"] = "a"
    part: Part = field(default_factory=Part)
    geometry: ScanGeometry = field(default_factory=ScanGeometry)
    limits: dict[str, dict[str, float]] = field(default_factory=dict)
    source: Part | Path | None = None
    free: Any = None

    def to_dict(self) -> dict[str, Any]:
        return settings_to_json(self)


WHOLE = Whole(
    "mine", Path("a/b"), "b", Part((1.0, 2.5), (3, "c")), ScanGeometry(48, 10, 10, (1.0, 4.0)), {"x": {"y": 2.0}}
)


@pytest.mark.parametrize("whole", [WHOLE, Whole("x", source=Part((1.0,))), Whole("y", source=Path("c"), free=[1])])
def test_settings_come_back_from_json(whole: Whole) -> None:
    content = json.loads(json.dumps(whole.to_dict()))
    assert settings_from_json(Whole, content) == whole


def test_what_is_left_out_takes_its_default() -> None:
    assert settings_from_json(Whole, {"name": "mine", "part": {}}) == Whole("mine")


def test_values_take_the_form_of_their_types() -> None:
    found = settings_from_json(Whole, {"name": "mine", "part": {"rates": [1, 2]}, "limits": {"x": {"y": 1}}})
    assert [type(rate) for rate in found.part.rates] == [float, float]
    assert type(found.limits["x"]["y"]) is float
    assert setting_from_json(str | Path, "a", "out") == "a"
    assert setting_from_json(tuple[float, float] | float, [1, 2], "spacing") == (1.0, 2.0)
    assert setting_from_json(tuple[float, float] | float, 3, "spacing") == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "got no key 'name'; expected it there"),
        ({"name": 1}, "name: got 1; expected a string"),
        ({"name": "a", "part": {"rate": 1}}, "got the unknown key 'part.rate'; expected some of rates, pair"),
        ({"name": "a", "part": {"rates": [True]}}, "part.rates[0]: got True; expected a number"),
        ({"name": "a", "part": {"pair": [-1, "a"]}}, "part.pair[0]: got -1; expected at least 0"),
        ({"name": "a", "kind": "c"}, "kind: got 'c'; expected one of a, b"),
        ({"name": "a", "out": 3}, "out: got 3; expected a string"),
        ({"name": "a", "limits": {"x": 1}}, "limits.x: got 1; expected an object"),
        ({"name": "a", "geometry": {"n_segments": 0}}, "geometry.n_segments: got 0; expected an integer of at least 1"),
    ],
)
def test_complaints_name_the_key(content: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as error:
        settings_from_json(Whole, content)
    assert str(error.value) == message


def test_a_class_that_writes_itself_is_asked_where_it_stands_in_another() -> None:
    assert setting_to_json({"a": WHOLE})["a"] == WHOLE.to_dict()
    assert settings_to_json(WHOLE)["geometry"] == WHOLE.geometry.to_dict()
