"""Crops of several sources under one roof."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive_scan.micrographs import ArrayCrops, CropSource, MixedCrops


def bank(n: int, value: float, *, symmetries: bool = False) -> ArrayCrops:
    crops = np.full((n, 6, 6), value)
    crops[:, 0, 0] = np.linspace(-1, 1, n)
    return ArrayCrops(crops, symmetries=symmetries, normalise=False)


def test_an_id_is_the_source_and_the_id_in_it() -> None:
    first, second = bank(3, 0.25), bank(5, 0.5, symmetries=True)
    mixed = MixedCrops([first, second])
    assert isinstance(mixed, CropSource)
    assert (mixed.crop_size, mixed.id_width) == (6, 3)
    ids = np.array([[1, 4, 3], [0, 2, 0], [1, 0, 6], [0, 1, 0]])
    crops = mixed.take(ids)
    assert np.array_equal(crops[[0, 2]], second.take(ids[[0, 2], 1:]))
    assert np.array_equal(crops[[1, 3]], first.take(ids[[1, 3], 1:2]))


def test_sources_are_drawn_by_their_shares_and_repeatably() -> None:
    mixed = MixedCrops([bank(3, 0.25), bank(5, 0.5, symmetries=True)], shares=[1, 3])
    ids = mixed.draw(8000, np.random.default_rng(1))
    assert np.array_equal(ids, mixed.draw(8000, np.random.default_rng(1)))
    # 5 standard deviations of a binomial share of 3/4 in 8000 draws
    assert abs((ids[:, 0] == 1).mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 8000)
    assert set(ids[ids[:, 0] == 0, 1]) == {0, 1, 2}
    assert set(ids[ids[:, 0] == 1, 1]) == {0, 1, 2, 3, 4}
    assert not ids[ids[:, 0] == 0, 2].any()
    assert mixed.take(ids[:0]).shape == (0, 6, 6)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sides \[4, 6\] px; expected at least one source, and all of one side"):
        MixedCrops([bank(2, 0.0), ArrayCrops(np.zeros((1, 4, 4)))])
    with pytest.raises(ValueError, match=r"sides \[\] px"):
        MixedCrops([])
    for shares in ([1.0], [1.0, 0.0], [1.0, np.nan]):
        with pytest.raises(ValueError, match="expected 2 positive numbers, one for each source"):
            MixedCrops([bank(2, 0.0), bank(2, 0.5)], shares=shares)
    with pytest.raises(ValueError, match="ids name source 2; expected 0 to 1"):
        MixedCrops([bank(2, 0.0), bank(2, 0.5)]).take(np.array([[2, 0]]))
