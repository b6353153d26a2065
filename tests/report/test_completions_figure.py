from __future__ import annotations

import numpy as np

from adaptive_scan.evaluation.completion import complete_scans
from adaptive_scan.generators import make_completer
from adaptive_scan.report import completions_figure


def test_the_figure_names_its_columns_and_draws_the_spectrum_of_every_completer() -> None:
    crops = np.random.default_rng(0).uniform(-1, 1, (3, 48, 48)).astype(np.float32)
    completers = {name: make_completer(name) for name in ("nearest", "linear", "infill", "area", "bilinear")}
    targets, scans, completions = complete_scans(crops, completers, scan="grid", coverage=1 / 16)
    figure = completions_figure(crops, targets, scans, completions, n_rows=2)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["crop", "measured", "target", "nearest", "linear", "infill", "area"]
    spectra = {line.get_label(): line.get_ydata() for line in figure.axes[-1].lines}
    assert list(spectra) == ["crop", "target", *completers]
    # relative to the target's lowest frequency: a blurred picture of noise has lost its highest
    assert spectra["target"][0] == 0.0
    assert spectra["target"][-1] < spectra["crop"][-1] - 10.0
    shown = figure.axes[0].images[0].get_array()
    assert np.allclose(shown[..., 0], 0.5 * crops[0] + 0.5)
