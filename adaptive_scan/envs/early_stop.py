"""Ending a scan when its completer predicts that it is good enough."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from adaptive_scan.envs.judge import Judge
from adaptive_scan.errors import SettingError
from adaptive_scan.scans import partial_scans

if TYPE_CHECKING:
    from adaptive_scan.generators import Completer

_FEWEST_SEGMENTS = 2  # a reset measures the first segment, and no scan ends with its reset


class EarlyStop:
    """Which scans of a batch are predicted to be good enough.

    Args:
        judge: Holds the completer, which predicts its own error.
        stop_below: A scan ends once its predicted RMSE, on [0, 1], is at most this.
        n_scans: Number of scans N.

    Attributes:
        predicted: Predicted RMSE of each scan after its last segment, on [0, 1], float64, shape (N,); infinite after
            the first segment, for which nothing is predicted.

    Raises:
        SettingError: If the threshold is not positive, or the completer has no ``predicted_rmse``.
    """

    def __init__(self, judge: Judge | None, stop_below: float, n_scans: int) -> None:
        if not 0.0 < stop_below < math.inf:
            raise SettingError(f"stop_below: got {stop_below}; expected a positive, finite RMSE on [0, 1]")
        if judge is None:
            raise SettingError(f"completer: got None and stop_below {stop_below}; expected {_PREDICTING}")
        if not judge.predicts_errors:
            name = type(judge.completer).__name__
            raise SettingError(f"completer: got a {name} without predicted_rmse; expected {_PREDICTING}")
        self._judge, self.stop_below = judge, float(stop_below)
        self.predicted = np.full(n_scans, np.inf)

    @property
    def is_reached(self) -> np.ndarray:
        """Which scans have come down to the threshold, bool, shape (N,)."""
        return self.predicted <= self.stop_below

    def begin(self, which: np.ndarray) -> None:
        """Start scans anew."""
        self.predicted[which] = np.inf

    def predict(self, scans: np.ndarray) -> None:
        """Predict the errors of all scans from their partial scans so far, float32, shape (N, 2, S, S)."""
        self.predicted[:] = self._judge.predicted_rmse(scans)


_PREDICTING = "one that predicts its error, such as CompleterWithError, where stop_below is set"


class StoppedScans(NamedTuple):
    """Where scans that were made to their end would have stopped.

    Attributes:
        n_segments: Segments after which each scan stops, all T where it never comes down to the threshold, int64,
            shape (n_scans,).
        predicted_rmse: RMSE predicted after each segment, on [0, 1], float64, shape (n_scans, T).
    """

    n_segments: np.ndarray
    predicted_rmse: np.ndarray


def stopped_scans(
    positions: ArrayLike,
    values: ArrayLike,
    completer: Completer,
    stop_below: float,
    image_size: int,
) -> StoppedScans:
    """After how many segments scans along known paths stop, by the rule of the environment's ``stop_below``.

    The first segment for which the predicted RMSE is at most the threshold is the last one; as in the environment,
    that is the second one at the earliest. For static scans, which need no environment, and for thresholds tried
    on scans that were already made; nothing measured after the stop enters it.

    Args:
        positions: Probing positions [px] in the order of measuring, shape (n_scans, T, P, 2), or (1, T, P, 2) where
            all scans share one path.
        values: What was measured there, shape (n_scans, T, P).
        completer: Completer with ``predicted_rmse``.
        stop_below: Threshold of the predicted RMSE, on [0, 1].
        image_size: Side S of the field [px].

    Returns:
        The numbers of segments, and the predictions that they follow from.

    Raises:
        ValueError: If the threshold is not positive, the completer predicts no error, or shapes do not fit.

    Example:
        >>> import torch
        >>> class Halving:
        ...     def __call__(self, scans):
        ...         return scans[:, :1]
        ...     def predicted_rmse(self, scans):
        ...         return 1.0 / scans[:, 1].sum(dim=(1, 2))
        >>> positions = np.arange(8.0).reshape(1, 4, 2, 1).repeat(2, axis=3)
        >>> stopped_scans(positions, np.zeros((1, 4, 2)), Halving(), 0.25, 8).n_segments
        array([2])
    """
    measured = np.asarray(values, dtype=np.float32)
    if measured.ndim != 3:
        raise ValueError(f"values have shape {measured.shape}; expected (n_scans, n_segments, n_positions)")
    n_scans, n_segments, _ = measured.shape
    paths = np.asarray(positions, dtype=np.float32)
    rule = EarlyStop(Judge(completer), stop_below, n_scans)
    predicted = np.empty((n_scans, n_segments))
    for last in range(n_segments):
        rule.predict(partial_scans(measured[:, : last + 1], paths[:, : last + 1], image_size))
        predicted[:, last] = rule.predicted
    reached = predicted <= rule.stop_below
    reached[:, : _FEWEST_SEGMENTS - 1] = False
    reached[:, -1] = True
    return StoppedScans(reached.argmax(axis=1) + 1, predicted)
