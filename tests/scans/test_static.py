"""What all static scans promise: the exact dose, inside the field, the same for the same seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.scans import STATIC_SCANS, StaticScan, archimedean_spiral, random_walk, static_scan

NAMES = [
    "spiral",
    "square_spiral",
    "raster",
    "wide_spiral",
    "wide_raster",
    "gridlike",
    "grid",
    "halton",
    "progressive",
    "random",
    "lissajous",
    "random_walk",
]


def test_the_registry_holds_the_families() -> None:
    assert list(STATIC_SCANS) == NAMES
    assert {name for name, scan in STATIC_SCANS.items() if scan.random} == {"gridlike", "random", "random_walk"}
    assert {name for name, scan in STATIC_SCANS.items() if not scan.contiguous} == {
        "grid",
        "halton",
        "progressive",
        "random",
    }
    assert all(scan.name == name for name, scan in STATIC_SCANS.items())


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), size=st.integers(16, 128), seed=st.integers(0, 99))
def test_exactly_the_dose_lies_inside(name: str, data: st.DataObject, size: int, seed: int) -> None:
    n_positions = data.draw(st.integers(1, 8) | st.integers(4, size * size // 4))
    positions = static_scan(name, n_positions, size, np.random.default_rng(seed))
    assert positions.shape == (n_positions, 2)
    assert positions.dtype == np.float32
    assert np.isfinite(positions).all()
    assert positions.min() >= 0
    assert positions.max() <= size - 1
    assert np.array_equal(positions, static_scan(name, n_positions, size, np.random.default_rng(seed)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_smallest_fields(name: str, size: int, rng: np.random.Generator) -> None:
    for n_positions in range(1, size * size + 1):
        positions = static_scan(name, n_positions, size, rng)
        assert positions.shape == (n_positions, 2)
        assert positions.min() >= 0
        assert positions.max() <= size - 1


@pytest.mark.parametrize("name", [name for name in NAMES if STATIC_SCANS[name].contiguous])
def test_contiguous_scans_are_nearly_unbroken(name: str, rng: np.random.Generator) -> None:
    steps = np.hypot(*np.diff(static_scan(name, 400, 96, rng), axis=0).T)
    spacing = 96 / math.sqrt(400) if name.startswith("wide_") else math.sqrt(2)
    # A spiral is blanked in the four corners once for each turn that reaches beyond the middle of the sides.
    n_turns_outside = math.ceil(96 * (math.sqrt(0.5) - 0.5) / spacing)
    n_jumps = 4 * n_turns_outside if name == "wide_spiral" else 6
    assert (steps > 4 * spacing).sum() <= n_jumps
    assert np.median(steps) == pytest.approx(spacing, rel=0.35)


def test_random_families_need_a_generator() -> None:
    for name in ("gridlike", "random", "random_walk"):
        with pytest.raises(ValueError, match=f"rng: got None for the random static scan '{name}'; expected"):
            static_scan(name, 16, 16)
        first, other = (static_scan(name, 16, 16, np.random.default_rng(seed)) for seed in (0, 1))
        assert not np.array_equal(first, other)


def test_names_reach_their_functions() -> None:
    np.testing.assert_array_equal(static_scan("spiral", 50, 32), archimedean_spiral(50, 32))
    expected = random_walk(50, 32, np.random.default_rng(7))
    np.testing.assert_array_equal(static_scan("random_walk", 50, 32, np.random.default_rng(7)), expected)


def test_fixed_families_are_computed_once_and_handed_out_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def corner(n_positions: int, image_size: int) -> np.ndarray:
        computed.append((n_positions, image_size))
        return np.zeros((n_positions, 2), dtype=np.float32)

    monkeypatch.setitem(STATIC_SCANS, "corner", StaticScan("corner", corner, contiguous=True, random=False))
    static_scan("corner", 9, 16)[:] = 5
    assert not static_scan("corner", 9, 16).any()
    static_scan("corner", 9, 32)
    assert computed == [(9, 16), (9, 32)]


def test_random_families_are_drawn_anew() -> None:
    rng = np.random.default_rng(0)
    assert not np.array_equal(static_scan("gridlike", 50, 32, rng), static_scan("gridlike", 50, 32, rng))


def test_a_cached_dose_does_not_let_its_lookalikes_in() -> None:
    static_scan("grid", 1, 16)
    with pytest.raises(ValueError, match="n_positions: got True; expected"):
        static_scan("grid", True, 16)
    with pytest.raises(ValueError, match=r"n_positions: got \[1\]; expected"):
        static_scan("grid", [1], 16)


@pytest.mark.parametrize(
    ("name", "n_positions", "size", "message"),
    [
        ("zigzag", 10, 16, "static scan: got 'zigzag'; expected one of"),
        ("spiral", 0, 16, "n_positions: got 0; expected a positive number"),
        ("spiral", 2.5, 16, "n_positions: got 2.5; expected"),
        ("grid", True, 16, "n_positions: got True; expected"),
        ("raster", 10, 1, "image_size: got 1; expected an integer of at least 2"),
        ("halton", 10, 16.0, "image_size: got 16.0; expected"),
    ],
)
def test_nonsense_is_refused_in_one_line(name: str, n_positions: int, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        static_scan(name, n_positions, size)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["wide_spiral", "wide_raster"])
def test_wide_scans_spread_the_dose_evenly(name: str) -> None:
    n_positions, size = 100, 48
    positions = static_scan(name, n_positions, size)
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    assert np.median(steps) == pytest.approx(size / np.sqrt(n_positions), rel=0.15)
    field = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1).reshape(-1, 2)

    def gap(scan: np.ndarray) -> float:
        return float(np.linalg.norm(field[:, None] - scan[None], axis=-1).min(axis=1).mean())

    assert gap(positions) < 1.2 * gap(static_scan("grid", n_positions, size))
    assert gap(positions) < 0.6 * gap(static_scan(name.removeprefix("wide_"), n_positions, size))
