"""Completers side by side: who completes what, and the figures of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.completion import complete_scans, score_completers
from adaptive_scan.generators import blur_targets, make_completer


def crops_of(n: int = 3, size: int = 20) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (n, size, size)).astype(np.float32)


def test_every_completer_sees_the_same_scans_at_the_dose_of_the_coverage() -> None:
    seen: dict[str, list[Tensor]] = {"one": [], "two": []}

    def watching(name: str, part: Tensor) -> Tensor:
        seen[name].append(part)
        return torch.zeros_like(part[:, :1])

    crops = crops_of()
    completers = {name: lambda part, name=name: watching(name, part) for name in seen}
    score_completers(crops, completers, scans=["grid", "random"], coverages=[1 / 16, 1 / 4], seed=5)
    assert len(seen["one"]) == 2 * 4  # a first completion that is not timed, then all crops, for each of four
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(seen["one"], seen["two"], strict=True))
    measured = [part[:, 1].sum(dim=(1, 2)).tolist() for part in seen["one"][1::2]]
    assert measured == [[25.0] * 3, [100.0] * 3, [25.0] * 3, [100.0] * 3]
    drawn = seen["one"][5][:, 1]
    assert not torch.equal(drawn[0], drawn[1])  # random points are others for each crop
    values = torch.from_numpy(crops)[:, None] * seen["one"][5][:, 1:]
    assert torch.equal(seen["one"][5][:, :1], values)


@pytest.mark.parametrize("blur", [True, False])
def test_losses_are_those_of_a_constant_error(blur: bool) -> None:
    crops = crops_of()
    target = torch.from_numpy(crops)[:, None]
    target = blur_targets(target) if blur else target

    def off(part: Tensor) -> Tensor:
        return target[: len(part)] + 0.1

    (score,) = score_completers(crops, {"off": off}, scans=["grid"], coverages=[0.25], blur=blur)
    assert score.losses == pytest.approx([0.1] * 3, rel=1e-5)
    assert score.rmse == pytest.approx(0.05, rel=1e-5)
    assert score.rmse_interval(np.array([0, 0, 1]), np.random.default_rng(0)) == pytest.approx((0.05, 0.05), rel=1e-5)
    assert score.rmse_interval(np.array([0, 0, 0]), np.random.default_rng(0)) is None


def test_a_completer_that_refuses_a_scan_has_no_score_there() -> None:
    def grids_only(part: Tensor) -> Tensor:
        if part[0, 1].sum(dim=0).count_nonzero() != 5:
            raise ValueError("measured pixels: got no grid; expected one")
        return part[:, :1]

    completers = {"grids": grids_only, "nearest": make_completer("nearest")}
    scores = score_completers(crops_of(), completers, scans=["grid", "spiral"], coverages=[1 / 16])
    assert [(score.scan, score.completer) for score in scores] == [
        ("grid", "grids"),
        ("grid", "nearest"),
        ("spiral", "nearest"),
    ]
    with pytest.raises(ValueError, match="completer 'grids' refuses every scan: measured pixels: got no grid"):
        score_completers(crops_of(), completers, scans=["spiral"], coverages=[1 / 16])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scans": ["star"], "coverages": [0.1]}, "scans: got 'star'; expected some of spiral"),
        ({"scans": ["grid"], "coverages": [0.0]}, "coverages: got 0.0; expected more than 0 and at most 1"),
        ({"scans": ["grid"], "coverages": [1.5]}, "coverages: got 1.5"),
    ],
)
def test_unknown_scans_and_impossible_coverages_are_refused(settings: dict[str, list[object]], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        score_completers(crops_of(), {}, **settings)  # type: ignore[arg-type]


def test_completions_are_those_that_are_scored() -> None:
    crops = crops_of(3)
    completers = {"nearest": make_completer("nearest")}
    targets, _, completions = complete_scans(crops, completers, scan="random", coverage=1 / 16, seed=4)
    (score,) = score_completers(crops, completers, scans=["random"], coverages=[1 / 16], seed=4)
    assert 10 * np.square(completions["nearest"] - targets).mean(axis=(1, 2)) == pytest.approx(score.losses, rel=1e-5)
