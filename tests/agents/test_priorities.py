"""Prioritised replay: frequencies and weights against their closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.agents.priorities import (
    SMALLEST_PRIORITY,
    EpisodePriorities,
    episode_priorities,
    importance_weights,
)
from adaptive_scan.errors import SettingError

POSITIVE = st.floats(1e-3, 1e3)


def make(values, *, exponent=0.7, weight_exponent=0.5, n_capacity=None):
    priorities = EpisodePriorities(n_capacity or len(values), exponent=exponent, weight_exponent=weight_exponent)
    priorities.update(np.arange(len(values)), np.array(values))
    return priorities


@given(st.lists(POSITIVE, min_size=1, max_size=9), st.integers(1, 40), st.integers(0, 9))
def test_each_batch_has_the_expected_counts_to_within_two(values, batch_size, seed):
    places, _ = make(values).sample(len(values), batch_size, np.random.default_rng(seed))
    shares = np.array(values) ** 0.7
    expected = batch_size * shares / shares.sum()
    # One draw from each of equal parts: all parts inside an episode's share fall to it, and two more may.
    assert (np.abs(np.bincount(places, minlength=len(values)) - expected) < 2).all()


@pytest.mark.parametrize("batch_size", [1, 7])
def test_frequencies_are_proportional_to_the_power_of_the_priorities(batch_size):
    values, rng, n_batches = [0.1, 3.0, 1.0, 0.5, 2.0], np.random.default_rng(0), 20_000
    priorities = make([*values, 100.0], n_capacity=9)
    drawn = np.concatenate([priorities.sample(5, batch_size, rng)[0] for _ in range(n_batches)])
    expected = np.array(values) ** 0.7 / (np.array(values) ** 0.7).sum() * len(drawn)
    chi_square = ((np.bincount(drawn, minlength=5) - expected) ** 2 / expected).sum()
    assert chi_square < 4 + 4 * np.sqrt(8)  # four degrees of freedom; parts make the counts vary less, never more


def test_the_exponent_zero_draws_all_alike():
    drawn = make([1.0, 100.0], exponent=0.0).sample(2, 1000, np.random.default_rng(0))[0]
    assert np.bincount(drawn).tolist() == [500, 500]


@given(st.lists(POSITIVE, min_size=1, max_size=9), st.floats(0, 1))
def test_weights_have_their_closed_form(values, exponent):
    priorities = make(values, weight_exponent=exponent)
    places, weights = priorities.sample(len(values), 16, np.random.default_rng(0))
    shares = np.array(values) ** 0.7
    expected = [(len(values) * shares[i] / shares.sum()) ** -exponent for i in places]
    np.testing.assert_allclose(weights, np.array(expected) / max(expected), rtol=1e-9)
    assert weights.max() == 1


def test_full_weights_undo_the_bias_of_the_sampling():
    # With beta = 1 the weighted mean over draws is the plain mean over episodes.
    numbers, probabilities = np.array([4.0, -1.0, 7.0]), np.array([0.2, 0.7, 0.1])
    weights = importance_weights(probabilities, 3, 1.0)
    assert (probabilities * weights * numbers).sum() / (probabilities * weights).sum() == pytest.approx(numbers.mean())


@given(st.lists(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=5), min_size=1, max_size=5), st.floats(0, 1))
def test_priorities_mix_the_largest_and_the_mean_error_of_true_steps(errors, mix):
    n_time = max(map(len, errors))
    padded = torch.tensor([e + [float("nan")] * (n_time - len(e)) for e in errors])
    mask = torch.tensor([[1.0] * len(e) + [0.0] * (n_time - len(e)) for e in errors])
    expected = [mix * max(map(abs, e)) + (1 - mix) * sum(map(abs, e)) / len(e) + SMALLEST_PRIORITY for e in errors]
    np.testing.assert_allclose(episode_priorities(padded, mask, mix), expected, rtol=1e-5)


def test_priorities_of_half_precision_errors_are_single_precision():
    errors = torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16)
    assert episode_priorities(errors, torch.ones(1, 2), 0.5).numpy().tolist() == pytest.approx([1.75])


def test_new_episodes_get_the_largest_priority_so_far():
    priorities = EpisodePriorities(3, exponent=1.0, weight_exponent=0.0)
    priorities.add(0)
    assert priorities.values[0] == 1
    priorities.update(np.array([0]), np.array([0.2]))
    priorities.add(1)
    priorities.update(np.array([0]), np.array([5.0]))
    priorities.update(np.array([0]), np.array([0.1]))
    priorities.add(2)
    assert priorities.values.tolist() == [0.1, 1.0, 5.0]
    priorities.reset()
    priorities.add(0)
    assert priorities.values[0] == 1


def test_of_several_priorities_for_one_episode_the_last_counts():
    priorities = make([1.0, 1.0])
    priorities.update(np.array([1, 0, 1]), np.array([9.0, 2.0, 3.0]))
    assert priorities.values.tolist() == [2.0, 3.0]


def test_bad_numbers_are_refused_and_change_nothing():
    priorities = make([1.0, 2.0])
    with pytest.raises(FloatingPointError, match="not finite"):
        priorities.update(np.array([0, 1]), np.array([3.0, np.nan]))
    assert priorities.values.tolist() == [1.0, 2.0]
    for name in ("exponent", "weight_exponent"):
        with pytest.raises(SettingError, match=rf"{name}: got -0.5; expected at least 0"):
            EpisodePriorities(1, **{"exponent": 1.0, "weight_exponent": 1.0, name: -0.5})


def test_a_state_without_priorities_makes_all_equal():
    priorities = make([3.0, 7.0, 9.0], n_capacity=4)
    priorities.load_state_dict(None, 2)
    assert (priorities.values[:2].tolist(), priorities.largest) == ([1.0, 1.0], 1.0)


def test_the_largest_draw_stays_inside():
    class Almost:
        def random(self, n):
            return np.full(n, np.nextafter(1.0, 0.0))

    places, _ = make([1e-6] * 3 + [1e3, 1e-6]).sample(5, 3, Almost())
    assert places.max() == 4
