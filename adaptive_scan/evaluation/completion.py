"""Completers side by side: the error of each on the same scans of the same crops, at equal dose."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.metrics import loss, rmse_of_loss
from adaptive_scan.evaluation.statistics import bootstrap_ratio
from adaptive_scan.generators import Completer, blur_targets, complete
from adaptive_scan.scans import STATIC_SCANS, partial_scans, sample, static_scan

_AT_ONCE = 64


@dataclass(frozen=True)
class CompletionScore:
    """Losses of one completer on one kind of scan.

    Attributes:
        scan: Family of the scan, a name of ``STATIC_SCANS``.
        coverage: Nominal coverage, positions / S^2.
        completer: Name of the completer.
        losses: Loss of each crop, 10 MSE on [-1, 1], shape (n_crops,).
        seconds: Time of one completion [s], mean over the crops.
    """

    scan: str
    coverage: float
    completer: str
    losses: np.ndarray
    seconds: float

    @property
    def rmse(self) -> float:
        """Root of the mean squared error over all crops, on [0, 1], as the papers give it."""
        return rmse_of_loss(self.losses.mean())

    def rmse_interval(self, groups: np.ndarray, rng: np.random.Generator) -> tuple[float, float] | None:
        """95 % bootstrap interval of `rmse` over groups of micrographs; None where there is one group only."""
        interval = bootstrap_ratio(self.losses, np.ones_like(self.losses), groups, rng)
        return None if interval is None else (rmse_of_loss(interval[0]), rmse_of_loss(interval[1]))


def score_completers(
    crops: np.ndarray,
    completers: Mapping[str, Completer],
    *,
    scans: Sequence[str],
    coverages: Sequence[float],
    blur: bool = True,
    seed: int = 0,
    on_score: Callable[[CompletionScore], None] | None = None,
) -> list[CompletionScore]:
    """Complete static scans of crops by several completers, all on the same positions.

    Every scan of a coverage c has the same number of positions, round(c S^2). A scan that draws positions at random
    draws other ones for each crop, the same for every completer. A completer that refuses a kind of scan, as those for
    uniform grids refuse all others, has no score there.

    Args:
        crops: Shape (n_crops, S, S), in [-1, 1].
        completers: The completers by name; networks in evaluation mode.
        scans: Names of ``STATIC_SCANS``.
        coverages: Nominal coverages, above 0 and at most 1.
        blur: Whether targets are the crops after the 5x5 Gaussian of 2.5 px.
        seed: Of scans that are drawn at random.
        on_score: Called with each score as soon as it is known.

    Returns:
        Scores, by scan, coverage and completer in the order given.

    Raises:
        SettingError: If a scan is unknown, a coverage out of range, or a completer refuses every scan.

    Example:
        >>> from adaptive_scan.generators import make_completer
        >>> crops = np.zeros((2, 16, 16), np.float32)
        >>> scores = score_completers(crops, {"nearest": make_completer("nearest")}, scans=["grid"], coverages=[1 / 16])
        >>> scores[0].scan, scores[0].rmse
        ('grid', 0.0)
    """
    for name in scans:
        if name not in STATIC_SCANS:
            raise SettingError(f"scans: got {name!r}; expected some of {', '.join(STATIC_SCANS)}")
    for coverage in coverages:
        if not 0 < coverage <= 1:
            raise SettingError(f"coverages: got {coverage}; expected more than 0 and at most 1")
    targets = torch.from_numpy(np.ascontiguousarray(crops))[:, None]
    targets = blur_targets(targets) if blur else targets
    scores: list[CompletionScore] = []
    refusals: dict[str, ValueError] = {}
    for scan, coverage, measured in _measured(crops, scans, coverages, seed):
        for name, completer in completers.items():
            try:
                score = _score(scan, coverage, name, completer, measured, targets)
            except ValueError as error:
                refusals[name] = error
                continue
            scores.append(score)
            if on_score is not None:
                on_score(score)
    for name in refusals.keys() - {score.completer for score in scores}:
        raise SettingError(f"completer {name!r} refuses every scan: {refusals[name]}") from refusals[name]
    return scores


def complete_scans(
    crops: np.ndarray,
    completers: Mapping[str, Completer],
    *,
    scan: str,
    coverage: float,
    blur: bool = True,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Completions of the scans that `score_completers` scores with the same seed and this as the first coverage.

    Args:
        crops: Shape (n_crops, S, S), in [-1, 1].
        completers: The completers by name; those that refuse the scan are left out.
        scan: Name of the scan, one of ``STATIC_SCANS``.
        coverage: Nominal coverage.
        blur: Whether targets are the crops after the 5x5 Gaussian of 2.5 px.
        seed: Of scans that are drawn at random.

    Returns:
        Targets, shape (n_crops, S, S); partial scans, shape (n_crops, 2, S, S); and completions by name, each of shape
        (n_crops, S, S).

    Example:
        >>> from adaptive_scan.generators import make_completer
        >>> crops = np.zeros((2, 16, 16), np.float32)
        >>> named = {"nearest": make_completer("nearest")}
        >>> targets, scans, completions = complete_scans(crops, named, scan="grid", coverage=1 / 16)
        >>> scans.shape, completions["nearest"].shape
        ((2, 2, 16, 16), (2, 16, 16))
    """
    ((_, _, measured),) = _measured(crops, [scan], [coverage], seed)
    targets = torch.from_numpy(np.ascontiguousarray(crops))[:, None]
    targets = blur_targets(targets) if blur else targets
    completions = {}
    for name, completer in completers.items():
        with contextlib.suppress(ValueError):
            completions[name] = complete(completer, measured, batch_size=_AT_ONCE)[:, 0].numpy()
    return targets[:, 0].numpy(), measured.numpy(), completions


def _measured(
    crops: np.ndarray, scans: Sequence[str], coverages: Sequence[float], seed: int
) -> Iterator[tuple[str, float, Tensor]]:
    """Partial scans of all crops, shape (n_crops, 2, S, S), for each scan and coverage."""
    size = crops.shape[-1]
    for scan in scans:
        for index, coverage in enumerate(coverages):
            n_positions = max(round(coverage * size**2), 1)
            rng = np.random.default_rng([seed, index])
            n_paths = len(crops) if STATIC_SCANS[scan].random else 1
            positions = np.stack([static_scan(scan, n_positions, size, rng) for _ in range(n_paths)])
            positions = np.broadcast_to(positions, (len(crops), n_positions, 2))
            yield scan, coverage, torch.from_numpy(partial_scans(sample(crops, positions), positions, size))


def _score(
    scan: str, coverage: float, name: str, completer: Completer, measured: Tensor, targets: Tensor
) -> CompletionScore:
    """The score; a ValueError is the completer's own."""
    complete(completer, measured[:1])  # compilation and caches are not part of the cost
    begin = time.perf_counter()
    completions = complete(completer, measured, batch_size=_AT_ONCE, name=name)
    seconds = (time.perf_counter() - begin) / len(measured)
    losses = loss(completions[:, 0].numpy(), targets[:, 0].numpy())
    return CompletionScore(scan, coverage, name, losses, seconds)
