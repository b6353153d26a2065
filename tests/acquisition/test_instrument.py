"""Chains of models along a scan: pieces, restarts, states, and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.acquisition import (
    INSTRUMENTS,
    Acquisition,
    CoilLag,
    DetectorLag,
    Dropouts,
    DurationNoise,
    Exposure,
    Instrument,
    Photomultiplier,
    PoissonCounting,
    Quantisation,
    ReadoutLag,
    Saturation,
    ScanJitter,
    SpecimenDrift,
    Zingers,
    as_instrument,
    make_instrument,
)
from adaptive_scan.acquisition.detector import FaultyReadings
from adaptive_scan.acquisition.models import DetectorModel
from tests.acquisition.conftest import constant, feed

EVERYTHING = Instrument(
    (
        CoilLag(1e-6, 0.7),
        ScanJitter(0.3, 2e-6),
        SpecimenDrift(1e4, 50.0),
        CoilLag(2e-6),
        DetectorLag(2e-6),
        PoissonCounting(),
        Photomultiplier(electronic=0.3),
        ReadoutLag(2e-6, 9e-6, 1.0),
        Dropouts(0.05, 4.0),
        FaultyReadings(0.02, 0.02),
        Zingers(0.02),
        DurationNoise(2e-6),
        Saturation(1.5),
        Quantisation(0.01),
    ),
    Exposure.per_position(20.0, 1e-6, dark=0.1),
)


@given(st.sets(st.integers(1, 39), max_size=6), st.booleans(), st.integers(0, 10))
def test_a_path_in_pieces_is_the_path_in_one_to_the_last_bit(cuts: set[int], varied: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions, values = rng.uniform(0, 95, (3, 40, 2)), rng.uniform(-1, 1, (3, 40))
    dwell = rng.uniform(0.5e-6, 3e-6, (3, 40)) if varied else None
    whole = feed(EVERYTHING, positions, values, seed=seed, dwell=dwell)
    pieces = feed(EVERYTHING, positions, values, sorted(cuts), seed, dwell)
    np.testing.assert_array_equal(pieces.values, whole.values)
    np.testing.assert_array_equal(pieces.positions, whole.positions)


def test_a_scan_does_not_depend_on_those_beside_it() -> None:
    rng = np.random.default_rng(0)
    positions, values = rng.uniform(0, 95, (5, 30, 2)).astype(np.float32), rng.uniform(-1, 1, (5, 30)).astype("f4")
    together = EVERYTHING.begin(5, np.random.default_rng(1))
    alone = EVERYTHING.begin(1, np.random.default_rng(2))
    alone.keys[:] = together.keys[3]
    all_of_them = EVERYTHING.measure(positions, lambda _: values, together)
    one = EVERYTHING.measure(positions[3:4], lambda _: values[3:4], alone)
    np.testing.assert_array_equal(one.values[0], all_of_them.values[3])
    np.testing.assert_array_equal(one.positions[0], all_of_them.positions[3])
    assert len({row.tobytes() for row in all_of_them.values}) == 5


def test_some_scans_begin_anew_and_a_saved_state_continues_exactly() -> None:
    rng = np.random.default_rng(0)
    state = EVERYTHING.begin(4, rng)
    first, second = rng.uniform(0, 95, (2, 4, 10, 2)).astype(np.float32)
    EVERYTHING.measure(first, constant(0.3), state)
    fresh = EVERYTHING.begin(2, rng)
    alone = EVERYTHING.begin(2, np.random.default_rng(0))
    alone.put(np.arange(2), fresh)
    state.put(np.array([1, 3]), fresh)
    saved = json.loads(json.dumps({name: array.tolist() for name, array in state.arrays().items()}))
    continued = EVERYTHING.measure(second, constant(0.3), state)
    begun = EVERYTHING.measure(second[[1, 3]], constant(0.3), alone)
    np.testing.assert_array_equal(continued.values[[1, 3]], begun.values)
    np.testing.assert_array_equal(continued.positions[[1, 3]], begun.positions)
    other = EVERYTHING.begin(4, np.random.default_rng(9))
    for name, array in other.arrays().items():
        array[:] = saved[name]
    again = EVERYTHING.measure(second, constant(0.3), other)
    np.testing.assert_array_equal(again.values, continued.values)
    np.testing.assert_array_equal(again.positions, continued.positions)
    np.testing.assert_equal(other.arrays(), state.arrays())


def test_same_seed_same_faults() -> None:
    positions, values = np.zeros((2, 20, 2)), np.zeros((2, 20))
    one, other, third = (feed(EVERYTHING, positions, values, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.values, other.values)
    assert not np.array_equal(one.values, third.values)
    assert not np.array_equal(one.positions, third.positions)


def test_ideal_instrument_hands_back_what_it_is_given_and_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    positions, values = np.full((2, 3, 2), 1.5, dtype=np.float32), np.full((2, 3), 0.1, dtype=np.float32)
    for ideal in (Instrument(), Instrument((ScanJitter(0.0), CoilLag(0.0), PoissonCounting(), Quantisation(0.0)))):
        state = ideal.begin(2, rng)
        reading = ideal.measure(positions, lambda _: values, state)
        assert reading.positions is positions
        assert reading.values is values
        assert ideal.is_ideal
        assert ideal.value_range == (-1.0, 1.0)
    assert rng.bit_generator.state == before


def test_models_act_in_their_order() -> None:
    values = np.array([[-1.0, 0.0, 1.0]])
    clipped = feed(Instrument((Saturation(0.5), Quantisation(0.8))), np.zeros((1, 3, 2)), values)
    rounded = feed(Instrument((Quantisation(0.8), Saturation(0.5))), np.zeros((1, 3, 2)), values)
    np.testing.assert_allclose((clipped.values + 1) / 2, [[0.0, 0.8, 0.8]], atol=1e-6)
    np.testing.assert_allclose((rounded.values + 1) / 2, [[0.0, 0.5, 0.5]], atol=1e-6)


def test_values_are_clipped_into_the_range_that_is_announced() -> None:
    loud = Instrument((Zingers(0.5, 100.0),), limits=(-1.5, 2.5))
    measured = feed(loud, np.zeros((5, 50, 2)), np.zeros((5, 50))).values
    assert loud.value_range == (-1.5, 2.5)
    assert measured.max() == 2.5
    assert Instrument((ScanJitter(1.0),)).value_range == (-1.0, 1.0)


@dataclass(frozen=True)
class Hum(DetectorModel):
    """A model of one's own: mains hum, which needs the time."""

    frequency: float

    def detect(self, intensities, visit, memory):
        return intensities + 0.1 * np.sin(2 * np.pi * self.frequency * visit.times)


def test_a_model_of_ones_own_knows_the_time() -> None:
    dwell = np.random.default_rng(0).uniform(0.001, 0.003, (1, 30))
    measured = feed(Instrument((Hum(50.0),)), np.zeros((1, 30, 2)), np.zeros((1, 30)), (7, 20), dwell=dwell)
    expected = 0.2 * np.sin(2 * np.pi * 50.0 * np.cumsum(dwell))
    np.testing.assert_allclose(measured.values[0], expected, atol=1e-5)


class Simple:
    """An `Acquisition`: two methods, no memory."""

    value_range = (-3.0, 3.0)

    def displace(self, positions, rng):
        return positions + rng.normal(0, 1, positions.shape)

    def detect(self, values, rng):
        return np.clip(values + rng.normal(0, 0.5, values.shape), -3, 3)


def test_a_simple_instrument_goes_where_an_instrument_does() -> None:
    assert isinstance(Simple(), Acquisition)
    instrument = as_instrument(Simple())
    assert (instrument.value_range, instrument.is_ideal) == ((-3.0, 3.0), False)
    reading = feed(instrument, np.zeros((400, 20, 2)), np.zeros((400, 20)), (10,))
    assert reading.positions.std() == pytest.approx(1.0, rel=0.03)
    assert reading.values.std() == pytest.approx(0.5, rel=0.03)
    correlation = np.corrcoef(reading.values[:, :10].ravel(), reading.values[:, 10:].ravel())[0, 1]
    assert abs(correlation) < 0.06
    again = feed(instrument, np.zeros((400, 20, 2)), np.zeros((400, 20)), (10,))
    np.testing.assert_array_equal(again.values, reading.values)


def test_settings_name_an_instrument() -> None:
    assert as_instrument(None).is_ideal
    assert as_instrument("fast-scan") is INSTRUMENTS["fast-scan"] is make_instrument("fast-scan")
    assert as_instrument(EVERYTHING) is EVERYTHING
    with pytest.raises(ValueError, match=r"acquisition: got 'slow'; expected an Instrument or one of .*'low-dose'"):
        as_instrument("slow")
    with pytest.raises(TypeError, match="acquisition: got int; expected an Instrument or one's name"):
        as_instrument(3)


@pytest.mark.parametrize("name", [name for name in INSTRUMENTS if name != "ideal"])
def test_named_instruments_measure_without_bias_and_with_noise(name: str) -> None:
    instrument = make_instrument(name)
    path = np.broadcast_to(40 + 0.5 * np.arange(200)[:, None] * [1.0, 0.5], (200, 200, 2))
    measured, true = feed(instrument, path, np.full((200, 200), -0.3))
    assert np.median(measured) == pytest.approx(-0.3, abs=0.35)
    assert measured.mean() == pytest.approx(-0.3, abs=0.03)
    assert 0.05 < measured.std() < 1.0
    assert 0.05 < np.linalg.norm(true - path, axis=2).mean() < 3.0
    low, high = instrument.value_range
    assert low <= measured.min() <= measured.max() <= high


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TypeError, match="models: got str; expected ProbeModel or DetectorModel"):
        Instrument(("jitter",))
    with pytest.raises(ValueError, match=r"dwell: got 0.0; expected a number in \(0"):
        Instrument(dwell=0.0)
    with pytest.raises(ValueError, match=r"limits: got \(-0.5, 2.0\); expected finite ones"):
        Instrument(limits=(-0.5, 2.0))
    state = EVERYTHING.begin(2, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"positions: got shape \(3, 4, 2\); expected \(2, n_positions, 2\)"):
        EVERYTHING.displace(np.zeros((3, 4, 2)), state)
    with pytest.raises(ValueError, match=r"values: got shape \(3, 4\); expected \(2, n_positions\)"):
        EVERYTHING.detect(np.zeros((3, 4)), state)
    with pytest.raises(ValueError, match=r"dwell: got shape \(1, 5\); expected one that broadcasts to \(2, 4\)"):
        EVERYTHING.displace(np.zeros((2, 4, 2)), state, np.ones(5))
    with pytest.raises(ValueError, match=r"dwell: got times in \[-1.0, 1.0\] s; expected positive, finite ones"):
        EVERYTHING.displace(np.zeros((2, 2, 2)), state, [1.0, -1.0])


def test_scans_with_the_keys_of_others_meet_their_faults() -> None:
    positions = np.random.default_rng(0).uniform(0, 95, (4, 30, 2)).astype(np.float32)
    drawn = EVERYTHING.begin(4, np.random.default_rng(1))
    shared = EVERYTHING.begin_with(drawn.keys)
    first = EVERYTHING.measure(positions, constant(0.5), drawn)
    second = EVERYTHING.measure(positions, constant(0.5), shared)
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.positions, second.positions)
    assert shared.keys is not drawn.keys
