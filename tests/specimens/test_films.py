from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from adaptive_scan.specimens.films import amorphous_films, smooth_fields


def test_smooth_field_is_the_spline_of_its_nodes() -> None:
    scale, size = 5.5, 24

    field = smooth_fields(np.array([scale]), size, np.random.default_rng(3))[0]

    rng = np.random.default_rng(3)
    n_nodes = int(size / scale) + 6
    nodes = rng.standard_normal((n_nodes, n_nodes)) * 315.0 / 151.0
    # Place 0 of the field lies one node in, so that all four nodes of the first pixel exist.
    rows, columns = (1.0 + rng.random() + np.arange(size) / scale for _ in range(2))
    places = np.meshgrid(rows, columns, indexing="ij")
    np.testing.assert_allclose(field, ndimage.map_coordinates(nodes, places, order=3, prefilter=False), atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 3.7, 12.0])
def test_smooth_fields_have_mean_0_and_variance_1(scale: float, rng: np.random.Generator) -> None:
    fields = smooth_fields(np.full(400, scale), 32, rng)

    assert fields.mean() == pytest.approx(0.0, abs=0.05)
    assert fields.var() == pytest.approx(1.0, rel=0.06)


def test_smooth_fields_correlate_over_their_scale_and_not_beyond(rng: np.random.Generator) -> None:
    fields = smooth_fields(np.full(200, 8.0), 64, rng)

    assert np.mean(fields[..., 1:] * fields[..., :-1]) > 0.95
    assert np.mean(fields[..., 40:] * fields[..., :-40]) == pytest.approx(0.0, abs=0.03)


def test_amorphous_films_have_mean_thickness_1_and_no_holes_below_0(rng: np.random.Generator) -> None:
    films = amorphous_films(500, 32, rng)

    assert films.dtype == np.float32
    assert films.min() >= 0.0
    assert films.mean() == pytest.approx(1.0, abs=0.03)
