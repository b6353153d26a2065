"""One way to complete partial scans: batches, mode, device, checks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adaptive_scan.evaluation.metrics import loss
from adaptive_scan.generators import complete, completion_loss, make_completer
from adaptive_scan.generators.completers import blurred
from adaptive_scan.generators.losses import blur_targets


class Noisy(nn.Module):
    """Gives the values while it is evaluated, and something else in training."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, partial_scans: Tensor) -> Tensor:
        self.batches.append(len(partial_scans))
        assert torch.is_inference_mode_enabled()
        return self.weight * partial_scans[:, :1] + float(self.training)


def scans(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(5, 2, 6, 6), (3, 2, 4, 9), (1, 2, 9, 4)])
def test_arrays_and_tensors_of_any_shape_are_completed_in_evaluation_mode(shape: tuple[int, ...]) -> None:
    network, partial = Noisy().train(), scans(*shape)
    array = complete(network, partial)
    tensor = complete(network, torch.from_numpy(partial))
    assert isinstance(array, np.ndarray)
    assert isinstance(tensor, Tensor)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, partial[:, :1])
    np.testing.assert_array_equal(tensor.numpy(), array)
    assert network.training


def test_batches_are_as_large_as_asked_for() -> None:
    network = Noisy()
    complete(network, scans(7, 2, 4, 4), batch_size=3)
    assert network.batches == [3, 3, 1]
    assert complete(network, scans(0, 2, 4, 5)).shape == (0, 1, 4, 5)


def test_the_answer_is_fresh() -> None:
    partial = scans(2, 2, 4, 4)
    answer = complete(lambda given: given[:, :1], partial)
    answer[:] = 9.0
    assert np.abs(partial).max() < 1


def test_training_mode_returns_after_a_failure() -> None:
    class Failing(nn.Module):
        def forward(self, partial_scans: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    network = Failing().train()
    with pytest.raises(RuntimeError, match="out of memory"):
        complete(network, scans(1, 2, 4, 4))
    assert network.training


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda given: given, r"completer 'mine': got completions \(2, 2, 4, 4\); expected \(2, 1, 4, 4\)"),
        (lambda given: given[:, :1] / 0.0, "completer 'mine': got completions that are not finite; expected finite"),
    ],
)
def test_wrong_answers_are_named(answer: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        complete(answer, scans(2, 2, 4, 4), name="mine")  # type: ignore[arg-type]


def test_a_plus_blurs_as_targets_are_blurred() -> None:
    partial = torch.from_numpy(scans(2, 2, 12, 12))
    partial[:, 1] = (partial[:, 1] > 0.5).float()
    partial[:, 0] *= partial[:, 1]
    expected = blur_targets(make_completer("linear")(partial))
    assert torch.equal(make_completer("linear+")(partial), expected)
    assert torch.equal(blurred(make_completer("linear"))(partial), expected)


def test_the_loss_of_arrays_is_that_of_tensors() -> None:
    one, other = scans(4, 1, 9, 7), scans(4, 1, 9, 7)[::-1].copy()
    of_tensors = completion_loss(torch.from_numpy(one), torch.from_numpy(other))
    np.testing.assert_allclose(loss(one[:, 0], other[:, 0]), of_tensors.numpy(), rtol=1e-6)
    np.testing.assert_allclose(loss(one[:, 0], other[:, 0]), 10 * ((one - other) ** 2).mean((1, 2, 3)), rtol=1e-6)
