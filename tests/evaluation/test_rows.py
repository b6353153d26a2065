"""What becomes of a scan: measured on all crops, in the random numbers that they are for."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive_scan.acquisition import make_instrument
from adaptive_scan.evaluation.contenders import VALIDATION, measure, static_contenders
from adaptive_scan.evaluation.crops import CutCrops
from adaptive_scan.evaluation.rows import measure_all
from adaptive_scan.scans import ScanGeometry

GEOMETRY = ScanGeometry(16, 4, 4)


@pytest.mark.parametrize("name", ["spiral", "random"])
def test_crops_to_choose_on_are_measured_in_a_stream_of_their_own(name: str, rng: np.random.Generator) -> None:
    crops, instrument = rng.uniform(-1, 1, (5, 16, 16)).astype(np.float32), make_instrument("low-dose")
    cut = CutCrops(crops, crops, ["m"] * 5, ["g"] * 5, None, ["none"] * 5, [None] * 5)
    (contender,) = static_contenders([name])
    found = measure_all(contender, cut, GEOMETRY, instrument, 3, stream=VALIDATION)
    expected = measure(contender, crops, GEOMETRY, acquisition=instrument, seed=3, stream=VALIDATION)
    np.testing.assert_array_equal(found.values, expected.values)
    tested = measure_all(contender, cut, GEOMETRY, instrument, 3)
    np.testing.assert_array_equal(
        tested.values, measure(contender, crops, GEOMETRY, acquisition=instrument, seed=3).values
    )
    assert (found.values != tested.values).mean() > 0.9
