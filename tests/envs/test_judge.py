"""Judging completions: values by hand, devices, and what is fresh."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaptive_scan.envs.judge import Judge
from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import blur_target


def test_judgement_by_hand() -> None:
    judge = Judge(lambda scans: scans[:, :1], blur_targets=False)
    scans = np.zeros((2, 2, 8, 8), dtype=np.float32)
    scans[1, 0] = 0.5
    judgement = judge(scans, np.ones((2, 8, 8), dtype=np.float32))
    np.testing.assert_allclose(judgement.loss, [10.0, 2.5])
    np.testing.assert_allclose(judgement.rmse, [0.5, 0.25])


def test_target_is_blurred(rng: np.random.Generator) -> None:
    crops = rng.uniform(-1, 1, (3, 8, 8)).astype(np.float32)
    judgement = Judge(lambda scans: scans[:, :1])(np.zeros((3, 2, 8, 8), dtype=np.float32), crops)
    np.testing.assert_array_equal(judgement.target[:, 0], blur_target(crops))
    np.testing.assert_allclose(judgement.loss, 10 * np.mean(blur_target(crops) ** 2, axis=(1, 2)), rtol=1e-6)


def test_completion_is_no_view_of_the_completers_memory() -> None:
    buffer = torch.zeros(1, 1, 8, 8)
    judge = Judge(lambda scans: buffer)
    completion = judge.complete(np.zeros((1, 2, 8, 8), dtype=np.float32))
    buffer += 1.0
    assert (completion == 0).all()


def test_network_gets_its_own_type_of_device_and_no_gradients() -> None:
    network = torch.nn.Conv2d(2, 1, 3, padding=1)
    completion = Judge(network).complete(np.ones((2, 2, 8, 8), dtype=np.float32))
    expected = network(torch.ones(2, 2, 8, 8)).detach().numpy()
    np.testing.assert_array_equal(completion, expected)
    assert network.weight.grad is None


def test_unknown_name_is_refused() -> None:
    with pytest.raises(SettingError, match="completer: got 'cubist'; expected"):
        Judge("cubist")
