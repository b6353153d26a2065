"""Exploration noise: closed forms, resets and the decay."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive_scan.agents import GaussianNoise, OrnsteinUhlenbeckNoise
from adaptive_scan.errors import SettingError


def test_variance_follows_the_closed_form():
    n, theta, sigma = 40_000, 0.1, 0.2
    noise = OrnsteinUhlenbeckNoise(n, np.array([sigma]), theta=theta, seed=0)
    for step in range(1, 12):
        sample = noise()
        expected = sigma**2 * (1 - (1 - theta) ** (2 * step)) / (1 - (1 - theta) ** 2)
        assert np.var(sample) == pytest.approx(expected, rel=0.04)
    assert noise.state.mean() == pytest.approx(0.0, abs=0.01)


def test_gaussian_steps_are_independent():
    noise = GaussianNoise(40_000, np.array([0.5]), seed=0)
    first, second = noise(), noise()
    assert np.std(first) == pytest.approx(0.5, rel=0.02)
    assert np.corrcoef(first[:, 0], second[:, 0])[0, 1] == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(("remaining", "scale"), [(1.0, 1.0), (0.5, 0.55), (0.0, 0.1), (-0.1, 0.1)])
def test_decay_is_linear_and_applied(remaining, scale):
    noise, plain = (GaussianNoise(3, np.array([0.5]), final_scale=0.1, seed=4) for _ in range(2))
    noise.update(remaining)
    np.testing.assert_allclose(noise(), scale * plain(), rtol=1e-6)


def test_reset_puts_back_the_named_environments():
    noise = OrnsteinUhlenbeckNoise(3, np.array([0.2, 0.1]), seed=0)
    noise()
    kept = noise.state.copy()
    noise.reset([1])
    assert (noise.state[1] == 0).all()
    assert (noise.state[[0, 2]] == kept[[0, 2]]).all()
    noise.reset()
    assert (noise.state == 0).all()


def test_goes_on_from_its_state():
    noise, other = (OrnsteinUhlenbeckNoise(2, np.array([0.2]), seed=s) for s in (0, 9))
    noise()
    other.load_state_dict(noise.state_dict())
    assert np.array_equal(noise(), other())


def test_negative_sigma_is_refused():
    with pytest.raises(SettingError, match="expected neither below 0"):
        GaussianNoise(1, np.array([-0.1]))


def test_it_says_what_it_is():
    noise = OrnsteinUhlenbeckNoise(2, np.array([0.2]))
    assert repr(noise) == "OrnsteinUhlenbeckNoise(n_envs=2, sigma=[0.2], scale=1.0)"
