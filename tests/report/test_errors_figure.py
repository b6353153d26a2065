from __future__ import annotations

import json

import numpy as np
import pytest

from adaptive_scan.evaluation.systematic_errors import SystematicErrors, summary
from adaptive_scan.report import errors_figure


def test_the_figure_has_a_map_of_each_set_on_one_scale_and_all_curves(rng: np.random.Generator) -> None:
    maps, summaries = {}, {}
    for number in range(5):
        errors = SystematicErrors(8)
        errors.add(rng.uniform(-1, 1, (3, 8, 8)), np.zeros((3, 8, 8)), rng.random((3, 8, 8)) < 0.1, list("abc"))
        maps[f"set {number}"] = errors.map
        summaries[f"set {number}"] = json.loads(json.dumps(summary(errors, rng), default=lambda x: x.tolist()))
    figure = errors_figure(maps, summaries)
    pictures = [axes.images[0] for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in figure.axes if axes.images] == list(maps)
    assert len({image.get_clim() for image in pictures}) == 1
    path, edge, _ = figure.axes[-3:]
    for axes, name in ((path, "path"), (edge, "edge")):
        drawn = {line.get_label(): line.get_ydata() for line in axes.lines if line.get_label() in maps}
        assert {label: list(values) for label, values in drawn.items()} == {
            label: values[name]["rmse"] for label, values in summaries.items()
        }
        low, high = axes.get_ylim()
        assert low == 0
        assert high >= max(map(max, drawn.values()))
    with pytest.raises(ValueError, match="expected the same names, at least one"):
        errors_figure({}, {})
