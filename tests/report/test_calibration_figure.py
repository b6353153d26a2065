from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptive_scan.evaluation.calibration import ErrorSample, reliability_curve
from adaptive_scan.report import calibration_figure, save_figure


def test_the_figure_has_its_panels_and_equal_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sigmas = 10.0 ** rng.uniform(-2, -1, (18, 200))
    errors = sigmas * rng.normal(size=sigmas.shape)
    levels = [0.5 * np.sqrt(np.square(values).mean(axis=1)) for values in (sigmas, errors)]
    sample = ErrorSample(sigmas, errors, levels[0], levels[1], np.repeat(np.arange(6), 3))
    for name in ("a.png", "b.png"):
        figure = calibration_figure({"head": sample.scaled(0.5), "calibrated": sample}, np.random.default_rng(0))
        save_figure(figure, tmp_path / name)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "observed RMSE",
        "RMSE of scan",
        "observed coverage",
        "RMSE of the rest",
    ]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    curve = reliability_curve(sample.predicted, sample.errors)
    drawn = figure.axes[0].lines[1]
    np.testing.assert_allclose(drawn.get_xdata(), 0.5 * curve.predicted)
    np.testing.assert_allclose(drawn.get_ydata(), 0.5 * curve.observed)
    with pytest.raises(ValueError, match="samples: got empty; expected at least one"):
        calibration_figure({}, np.random.default_rng(0))
