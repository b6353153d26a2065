from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_scan.specimens import FAMILIES, procedural_crops
from adaptive_scan.specimens.imaging import DEFAULT_IMAGING, REALISTIC_IMAGING

NAMES = ["lattice", "nanoparticles", "soft_particles", "sharp_particles", "grains"]


def test_the_families_are_registered() -> None:
    assert list(FAMILIES) == NAMES


@pytest.mark.parametrize("family", NAMES)
def test_same_seed_same_crops_other_seed_other_crops(family: str) -> None:
    first, names = procedural_crops(6, 48, np.random.default_rng(4), families=[family])
    again, _ = procedural_crops(6, 48, np.random.default_rng(4), families=[family])
    other, _ = procedural_crops(6, 48, np.random.default_rng(5), families=[family])

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert names.tolist() == [family] * 6


def test_a_generator_that_went_on_gives_new_crops(rng: np.random.Generator) -> None:
    first, _ = procedural_crops(4, 32, rng)
    second, _ = procedural_crops(4, 32, rng)

    assert not np.array_equal(first, second)


def test_no_two_crops_are_equal(rng: np.random.Generator) -> None:
    crops, _ = procedural_crops(500, 32, rng)

    assert len(np.unique(crops.reshape(500, -1), axis=0)) == 500


@settings(max_examples=25)
@given(
    n_crops=st.integers(0, 6),
    crop_size=st.integers(16, 70),
    seed=st.integers(0, 2**32 - 1),
    families=st.none() | st.lists(st.sampled_from(NAMES), min_size=1, max_size=5),
)
def test_any_number_and_size_is_drawn_in_range(
    n_crops: int, crop_size: int, seed: int, families: list[str] | None
) -> None:
    crops, names = procedural_crops(n_crops, crop_size, np.random.default_rng(seed), families=families)

    assert crops.shape == (n_crops, crop_size, crop_size)
    assert crops.dtype == np.float32
    assert crops.flags["C_CONTIGUOUS"]
    assert names.shape == (n_crops,)
    assert set(names.tolist()) <= set(families or NAMES)
    np.testing.assert_array_equal(crops.min(axis=(1, 2)), -1.0)
    np.testing.assert_array_equal(crops.max(axis=(1, 2)), 1.0)


def test_families_are_equally_likely(rng: np.random.Generator) -> None:
    _, names = procedural_crops(2000, 16, rng)

    _, counts = np.unique(names, return_counts=True)
    np.testing.assert_allclose(counts / 2000, 0.2, atol=0.04)


def test_names_belong_to_their_crops_and_a_new_family_joins(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    asked: list[int] = []

    def stripes(n_crops: int, crop_size: int, rng: np.random.Generator) -> np.ndarray:
        asked.append(n_crops)
        pattern = np.tile(np.repeat([0.0, 1.0], 8).astype(np.float32), crop_size // 16)
        return np.ones((n_crops, crop_size, 1), np.float32) * pattern

    monkeypatch.setitem(FAMILIES, "stripes", stripes)

    crops, names = procedural_crops(200, 128, rng, families=["grains", "stripes"])

    across = crops.mean(axis=1)
    edges = np.abs(across[:, 7::16] - across[:, 8::16]).min(axis=1)
    np.testing.assert_array_equal(edges > 0.1, names == "stripes")
    assert sum(asked) == (names == "stripes").sum()
    assert max(asked) * 128**2 <= 2**20  # memory of intermediate arrays stays bounded


def test_one_family_may_be_named_alone(rng: np.random.Generator) -> None:
    _, names = procedural_crops(3, 16, rng, families="lattice")

    assert names.tolist() == ["lattice"] * 3


@pytest.mark.parametrize(
    ("arguments", "families", "message"),
    [
        ((-1, 32), None, r"n_crops: got -1; expected at least 0"),
        ((1, 15), None, r"crop_size: got 15 px; expected at least 16 px"),
        (
            (1, 32),
            ["grains", "cheese"],
            r"unknown families \['cheese'\]; expected names among \['lattice', .*'grains'\]",
        ),
        ((1, 32), [], r"no families; expected names among"),
    ],
)
def test_bad_requests_name_what_is_wrong(
    arguments: tuple[int, int], families: list[str] | None, message: str, rng: np.random.Generator
) -> None:
    with pytest.raises(ValueError, match=message):
        procedural_crops(*arguments, rng, families=families)


def test_default_crops_are_to_the_last_bit_what_they_always_were() -> None:
    crops, _ = procedural_crops(60, 64, np.random.default_rng(5))

    np.testing.assert_array_equal(crops, procedural_crops(60, 64, np.random.default_rng(5), imaging=DEFAULT_IMAGING)[0])
    # Of the version before imaging had settings; means of many pixels bear another processor's rounding.
    assert [round(float(crop.mean(dtype=np.float64)), 4) for crop in crops[:4]] == [-0.8675, -0.3181, -0.3007, 0.2808]


def test_other_imaging_keeps_the_families_and_changes_the_pictures() -> None:
    default, names = procedural_crops(20, 48, np.random.default_rng(5))
    realistic, same_names = procedural_crops(20, 48, np.random.default_rng(5), imaging=REALISTIC_IMAGING)

    assert names.tolist() == same_names.tolist()
    assert not np.array_equal(default, realistic)
