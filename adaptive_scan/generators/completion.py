"""Completing partial scans: on the completer's device, in evaluation mode, in batches, with the answer checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.completers import Completer

Pictures = TypeVar("Pictures", np.ndarray, Tensor)


def complete(
    completer: Completer, partial_scans: Pictures, *, batch_size: int | None = None, name: str | None = None
) -> Pictures:
    """Complete partial scans without gradients; a network on its own device and in evaluation mode, restored after.

    Args:
        completer: Makes pictures (N, 1, H, W) of partial scans (N, 2, H, W).
        partial_scans: Values and mask, float32, shape (N, 2, H, W); an array or a tensor.
        batch_size: Scans completed at once; all of them without it. It may change the last bits of a network's answer.
        name: What complaints call the completer.

    Returns:
        Completions, float32, shape (N, 1, H, W), fresh, of the kind that was given; tensors are on the device of
        ``partial_scans``.

    Raises:
        SettingError: If a completion has another shape or is not finite.

    Example:
        >>> from adaptive_scan.generators import make_completer
        >>> scan = np.zeros((1, 2, 4, 6), np.float32)
        >>> scan[0, :, 1, 2] = 0.5, 1.0
        >>> complete(make_completer("nearest"), scan).shape
        (1, 1, 4, 6)
    """
    scans: Tensor = torch.from_numpy(partial_scans) if isinstance(partial_scans, np.ndarray) else partial_scans
    shape: tuple[int, ...] = (len(scans), 1, *scans.shape[2:])
    answer = torch.empty(shape, dtype=torch.float32, device=scans.device)
    step = max(len(scans), 1) if batch_size is None else batch_size
    with evaluating(completer), torch.inference_mode():
        for begin in range(0, len(scans), step):
            part = scans[begin : begin + step]
            completions = completer(part.to(device_of(completer)))
            _check(completions, (len(part), *shape[1:]), name)
            answer[begin : begin + step] = completions
    return answer.numpy() if isinstance(partial_scans, np.ndarray) else answer


@contextlib.contextmanager
def evaluating(completer: object) -> Iterator[None]:
    """Evaluation mode for the time of the block, where the completer is a network; its mode returns after it."""
    if not isinstance(completer, nn.Module):
        yield
        return
    was_training = completer.training
    completer.eval()
    try:
        yield
    finally:
        completer.train(was_training)


def device_of(completer: object) -> torch.device:
    """Where a network's parameters are; the CPU for everything else."""
    if isinstance(completer, nn.Module):
        for parameter in completer.parameters():
            return parameter.device
    return torch.device("cpu")


def _check(completions: Tensor, expected: tuple[int, ...], name: str | None) -> None:
    who = "completer" if name is None else f"completer {name!r}"
    if tuple(completions.shape) != expected:
        raise SettingError(f"{who}: got completions {tuple(completions.shape)}; expected {expected}")
    if not bool(torch.isfinite(completions).all()):
        raise SettingError(f"{who}: got completions that are not finite; expected finite ones")
