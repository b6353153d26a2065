"""Losses of scans of different coverages brought to one scale, so that no coverage rules the training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaptive_scan.errors import SettingError

_POLYNOMIAL = (0.002211, -0.037887, 0.289451)
_LEAST, _MOST = 1.0 / 100.0, 1.0 / 16.0  # the coverages that the polynomial was fitted to


def fitted_error(coverage: float) -> float:
    """Mean squared error on [0, 1] of the supersampling paper's networks at a coverage.

        p_raw(c) = 0.002211 - 0.037887 c + 0.289451 c²,

    fitted to the training errors at 1/16 to 1/100 (Ede, arXiv 1910.10467, eq. 1). Beyond these the polynomial rises
    again, at 1/4 above its value at 1/100, so coverages outside take the value of the nearest end.

    Args:
        coverage: Nominal coverage c, in (0, 1].

    Returns:
        The error.

    Example:
        >>> round(fitted_error(1 / 25), 6), fitted_error(1 / 4) == fitted_error(1 / 16)
        (0.001159, True)
    """
    c = min(max(coverage, _LEAST), _MOST)
    return _POLYNOMIAL[0] + _POLYNOMIAL[1] * c + _POLYNOMIAL[2] * c**2


def given_priorities(coverages: Sequence[float]) -> np.ndarray:
    """What the losses of each coverage are divided by, p(c) = p_raw(c) / mean p_raw (arXiv 1910.10467, eq. 2).

    Args:
        coverages: All coverages c of the mixture, over which the mean is taken.

    Returns:
        Priorities p, float64, shape (n_coverages,); their mean is 1.

    Raises:
        ValueError: If there are no coverages.

    Example:
        >>> given_priorities([1 / 16, 1 / 100]).round(3)
        array([0.687, 1.313])
    """
    if not len(coverages):
        raise SettingError("coverages holds nothing; expected at least one")
    raw = np.array([fitted_error(coverage) for coverage in coverages])
    result: np.ndarray = raw / raw.mean()
    return result


class TrackedPriorities:
    """Running mean of the losses at each coverage, to divide later losses by.

    The mean of coverage c moves at each update that holds scans of it, m <- d m + (1 - d) mean(losses of c), and is
    corrected for its start at zero as Adam's moments are. Priorities are p(c) = m(c) / mean m over the coverages
    seen so far (arXiv 1910.10467, section II, where p_raw is not known in advance), and 1 for those not seen yet.

    Args:
        n_coverages: Number of coverages in the mixture.
        decay: Decay d of the running means, in [0, 1).

    Example:
        >>> tracked = TrackedPriorities(2, decay=0.5)
        >>> tracked.update(np.array([1.0, 3.0, 6.0]), np.array([0, 0, 1]))
        >>> tracked.priorities()
        array([0.5, 1.5])
    """

    def __init__(self, n_coverages: int, decay: float = 0.997) -> None:
        self.decay = decay
        self._sums = np.zeros(n_coverages)
        self._weights = np.zeros(n_coverages)

    def priorities(self) -> np.ndarray:
        """What the losses of each coverage are to be divided by, float64, shape (n_coverages,)."""
        seen = self._weights > 0
        found = np.ones(len(seen))
        if seen.any():
            means = self._sums[seen] / self._weights[seen]
            # Losses of exactly zero have no scale to be brought to.
            found[seen] = means / means.mean() if means.min() > 0 else 1.0
        return found

    def update(self, losses: np.ndarray, indices: np.ndarray) -> None:
        """Take in the losses of a batch.

        Args:
            losses: Losses before any division, shape (n_scans,).
            indices: Coverage of each scan, its place in the mixture, shape (n_scans,).
        """
        for index in np.unique(indices):
            mean = losses[indices == index].mean(dtype=np.float64)
            self._sums[index] = self.decay * self._sums[index] + (1.0 - self.decay) * mean
            self._weights[index] = self.decay * self._weights[index] + (1.0 - self.decay)

    def state(self) -> list[list[float]]:
        """The running sums and their weights, as plain numbers."""
        return [self._sums.tolist(), self._weights.tolist()]

    def restore(self, state: Sequence[Sequence[float]]) -> None:
        """Go on from what :meth:`state` gave."""
        self._sums, self._weights = (np.array(part, dtype=np.float64) for part in state)
