"""Adaptive scans that need no training: each takes the next segment that seems to gain most.

All weigh the pixels of the field and score a candidate by how much of the weighted distance to the nearest measured
pixel its segment would remove,

    gain = sum over pixels x of w(x) max(r(x) - d(x), 0)

with r(x) the distance to the nearest pixel that is measured now, and d(x) that distance once the segment is measured.
This is the farthest-point strategy of progressive sampling, uniform or weighted by the picture (Eldar et al. 1997,
doi:10.1109/83.623193), for segments in place of points: errors of completion grow with the distance from the path
(Ede and Beanland 2020, doi:10.1038/s41598-020-65261-0).

A greedy scan has to take into account how many positions remain, or it runs into corners and leaves gaps that it has
to come back for. Around a reference it scores each correction with the rest of the reference behind it; see
`adaptive_scan.agents.candidates.Candidates`. Without one, r is bounded: if what is left of the path, at its longest,
were spread evenly over the unmeasured pixels, its turns would lie ``unmeasured pixels / length left`` apart, and larger
distances count as that one.
"""

from __future__ import annotations

from typing import Protocol, Unpack

import numpy as np
import torch

from adaptive_scan.agents.candidates import CandidatePolicy, CandidateSettings, Probe, Segments
from adaptive_scan.errors import SettingError
from adaptive_scan.generators import Completer, complete, make_completer
from adaptive_scan.generators.completion import device_of, evaluating
from adaptive_scan.generators.distance import distance_to_measured
from adaptive_scan.scans import ScanGeometry

_SHORTEST_REACH = 2.0  # px: below this nothing but the positions themselves would count
_LEAST_WEIGHT = 1e-6  # of pixels without an expected gain, so that where there is none, the widest gap decides


class ErrorPredictor(Protocol):
    """A completer that predicts its error, as those of `adaptive_scan.generators.uncertainty` do."""

    def with_error(self, partial_scans: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Completions, and standard deviations of their errors, both of shape (n_scans, 1, S, S)."""
        ...


class _DistanceGreedy(CandidatePolicy):
    """Takes the segment that lowers most the weighted distance to the nearest measured pixel."""

    def _weights(self, partial_scans: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """Weight of each pixel, float64, shape (n_scans, S, S), given the distances, bounded by the reach."""
        raise NotImplementedError

    def _scores(self, partial_scans: np.ndarray, segments: Segments) -> np.ndarray:
        masks = partial_scans[:, 1]
        distances = distance_to_measured(torch.from_numpy(masks)).numpy()
        distances = np.minimum(distances, self._reach(masks, segments.probe.n_measured), dtype=np.float64)
        weights = self._weights(partial_scans, distances)
        scores = np.full(segments.headings.shape, -np.inf)
        for scans, candidates in self._in_parts(segments):
            tried = masks[scans]
            rows, columns = self.candidates.pixels(segments, scans, candidates)
            tried[np.arange(len(scans))[:, None], rows, columns] = 1.0
            # A measured pixel more can only shorten distances, so that no gain is negative.
            shorter = np.minimum(distance_to_measured(torch.from_numpy(tried)).numpy(), distances[scans])
            scores[scans, candidates] = (weights[scans] * (distances[scans] - shorter)).sum(axis=(1, 2))
        return scores

    def _reach(self, masks: np.ndarray, n_measured: np.ndarray) -> np.ndarray:
        """Distance between turns that the positions left can afford [px], shape (n_scans, 1, 1).

        Infinite where the segments assumed to follow a candidate complete the scan, which says more than a bound.
        """
        n_left = self.geometry.n_segments - n_measured
        length = np.maximum(n_left, 1) * self.geometry.n_positions * self.geometry.spacing_bounds[1]
        reach = np.maximum((masks == 0.0).sum(axis=(1, 2)) / length, _SHORTEST_REACH)
        return np.where(n_left <= self.candidates.n_ahead + 1, np.inf, reach)[:, None, None]


class CoverageGreedy(_DistanceGreedy):
    """Takes the segment that lowers most the mean distance from the pixels to the nearest measured one.

    All pixels weigh the same. A scan that fills the field has the lowest such mean (see
    `adaptive_scan.scans.polygonal_spiral`); the sum of distances at the segment's own positions would count the same
    gap for each position beside it. Measured values play no part, so that all crops are scanned alike: a greedy rival
    of the filling path, and the baseline for what the other heuristics gain from the values.

    Args:
        geometry: The scan's geometry; None is the default one.
        batch_size: Candidates tried at once, which bounds the memory.
        **settings: Of `adaptive_scan.agents.candidates.Candidates`.

    Raises:
        SettingError: If a setting is out of range or does not fit the geometry.

    Example:
        >>> policy = CoverageGreedy(ScanGeometry(16, 4, 5))
        >>> partial_scans = np.zeros((1, 2, 16, 16), np.float32)
        >>> partial_scans[0, 1, :9] = 1.0  # all that remains lies further along the rows
        >>> observation = {"progress": np.array([[0.25]]), "partial_scan": partial_scans}
        >>> action, _ = policy.predict(observation, (np.full((1, 2), 8.0), np.array([1])))
        >>> bool(action[0, 0] > 0)
        True
    """

    def _scores(self, partial_scans: np.ndarray, segments: Segments) -> np.ndarray:
        # Scans with the same mask and position have the same scores; crops that are scanned in step are all alike.
        parts = (partial_scans[:, 1].reshape(len(partial_scans), -1), *(part[:, None] for part in segments.probe[1:]))
        looks = np.concatenate([*parts, segments.probe.starts], axis=1)
        _, kinds, kind_of = np.unique(looks, axis=0, return_index=True, return_inverse=True)
        few = Segments(Probe(*(part[kinds] for part in segments.probe)), *(part[kinds] for part in segments[1:]))
        return super()._scores(partial_scans[kinds], few)[kind_of.reshape(-1)]

    def _weights(self, partial_scans: np.ndarray, distances: np.ndarray) -> np.ndarray:
        return np.ones_like(distances)


class VarianceGreedy(_DistanceGreedy):
    """Takes the segment that removes most of the squared error that a completer predicts for itself.

    The squared error sigma^2(x) of a pixel is taken to fall in proportion to its distance from the nearest measured
    pixel, so that a segment removes ``sigma^2(x) (1 - d(x) / r(x))`` of it, w = sigma^2 / r: all of it at the pixels it
    measures, less at their neighbours, and nothing at pixels that lie nearer to older measurements. Each pixel
    counts once, however many positions lie around it. A share of the mean squared error is added to that of
    each pixel, because predictions err as well, and most where nothing was measured. Choosing by the expected reduction
    of the distortion is the principle of SLADS (Godaliyadda et al. 2018, arXiv 1703.04653), where a regression
    predicts it.

    Args:
        predictor: Predicts errors by ``with_error``; a network is called on its own device and in evaluation mode.
        geometry: The scan's geometry; None is the default one.
        exploration: Weight of the mean squared error beside each pixel's own.
        batch_size: Candidates tried, and scans completed, at once, which bounds the memory.
        **settings: Of `adaptive_scan.agents.candidates.Candidates`.

    Raises:
        SettingError: If a setting is out of range or does not fit the geometry.

    Example:
        >>> from adaptive_scan.generators import EnsembleCompleter, make_completer
        >>> predictor = EnsembleCompleter([make_completer("nearest"), make_completer("linear")])
        >>> VarianceGreedy(predictor, ScanGeometry(16, 4, 5)).environment["observe_image"]
        True
    """

    def __init__(
        self,
        predictor: ErrorPredictor,
        geometry: ScanGeometry | None = None,
        *,
        exploration: float = 1.0,
        batch_size: int = 512,
        **settings: Unpack[CandidateSettings],
    ) -> None:
        super().__init__(geometry, batch_size=batch_size, **settings)
        self.predictor = predictor
        self.exploration = _checked_exploration(exploration)

    def _weights(self, partial_scans: np.ndarray, distances: np.ndarray) -> np.ndarray:
        variances = np.concatenate(
            [
                self._variances(partial_scans[begin : begin + self.batch_size])
                for begin in range(0, len(partial_scans), self.batch_size)
            ]
        )
        weights: np.ndarray = _explored(variances, self.exploration) / np.maximum(distances, 1.0)
        return weights

    def _variances(self, partial_scans: np.ndarray) -> np.ndarray:
        with evaluating(self.predictor), torch.no_grad():
            _, errors = self.predictor.with_error(torch.from_numpy(partial_scans).to(device_of(self.predictor)))
        expected = (len(partial_scans), 1, *partial_scans.shape[2:])
        if tuple(errors.shape) != expected:
            raise ValueError(f"with_error returned errors of shape {tuple(errors.shape)}; expected {expected}")
        return errors[:, 0].square().cpu().numpy().astype(np.float64)


class GradientFollowing(_DistanceGreedy):
    """Heads along structure: takes the segment with the steepest completion around it, beyond what was measured.

    A pixel weighs the length of the gradient of the current completion, by central differences, so that a segment gains
    by lying on edges that the completer guesses, and nothing by following them where they were measured: the
    image-dependent farthest-point strategy (Eldar et al. 1997, doi:10.1109/83.623193). Far from all measurements
    completions are flat; a share of the mean gradient, added everywhere, keeps such regions in play.

    Args:
        geometry: The scan's geometry; None is the default one.
        completer: Name of a classical completer or a callable on tensors, whose gradients are followed.
        exploration: Weight of the mean gradient beside each pixel's own; the larger, the closer to `CoverageGreedy`.
        batch_size: Candidates tried, and scans completed, at once, which bounds the memory.
        **settings: Of `adaptive_scan.agents.candidates.Candidates`.

    Raises:
        SettingError: If a setting is out of range or does not fit the geometry, or there is no such completer.

    Example:
        >>> GradientFollowing(ScanGeometry(16, 4, 5), exploration=0.5).candidates.actions.shape
        (16, 2)
    """

    def __init__(
        self,
        geometry: ScanGeometry | None = None,
        completer: str | Completer = "infill",
        *,
        exploration: float = 1.0,
        batch_size: int = 512,
        **settings: Unpack[CandidateSettings],
    ) -> None:
        super().__init__(geometry, batch_size=batch_size, **settings)
        self.exploration = _checked_exploration(exploration)
        self._completer = make_completer(completer) if isinstance(completer, str) else completer

    def _weights(self, partial_scans: np.ndarray, distances: np.ndarray) -> np.ndarray:
        completions = complete(self._completer, partial_scans, batch_size=self.batch_size)[:, 0].astype(np.float64)
        return _explored(np.hypot(*np.gradient(completions, axis=(1, 2))), self.exploration)


def _explored(weights: np.ndarray, exploration: float) -> np.ndarray:
    """Weights of pixels, shape (n_scans, S, S), plus a share of their mean, so that no region is ignored."""
    explored: np.ndarray = weights + exploration * weights.mean(axis=(1, 2), keepdims=True) + _LEAST_WEIGHT
    return explored


def _checked_exploration(exploration: float) -> float:
    if not 0.0 <= exploration < np.inf:
        raise SettingError(f"exploration: got {exploration}; expected a finite number of at least 0")
    return exploration
