"""A scan that sees the truth: the most that looking one step ahead could attain."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from adaptive_scan.agents.candidates import CandidatePolicy, CandidateSettings, Segments
from adaptive_scan.generators import Completer, complete, make_completer
from adaptive_scan.scans import ScanGeometry


class LookAheadOracle(CandidatePolicy):
    """Takes the segment after which the true loss, 10 mean((completion - target)^2), is lowest.

    Each allowed candidate is simulated with the true values of the crop, and the scan completed. No policy that chooses
    among the same candidates can lower the loss of that step further: a ceiling for greedy policies, not a contender.
    It is no ceiling for policies that plan, since a segment that gains much now may leave the probe where little is
    left to gain.

    Candidates are scored together with the segments assumed to follow them. Around a reference and to the end of the
    scan, the default there, no crop's loss is higher than the reference's own: the reference is among the candidates of
    each step, and each step can only lower the loss. An instrument with faults may break this slightly.

    Args:
        completer: Name of a classical completer or a callable on tensors; networks run in evaluation mode.
        geometry: The scan's geometry; None is the default one.
        batch_size: Candidates completed at once, which bounds the memory.
        **settings: Of `adaptive_scan.agents.candidates.Candidates`.

    Raises:
        SettingError: If a setting is out of range or does not fit the geometry, or there is no such completer.

    Example:
        >>> from adaptive_scan.envs import ScanBatch
        >>> oracle = LookAheadOracle("nearest", ScanGeometry(16, 4, 5))
        >>> crops = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16)).astype(np.float32)
        >>> oracle.peek(crops, crops)
        >>> batch = ScanBatch(2, crops, rng=np.random.default_rng(0), completer=None, **oracle.environment)
        >>> action, state = oracle.predict(batch.reset(crop_ids=[[0], [1]]))
        >>> action.shape
        (2, 2)
    """

    def __init__(
        self,
        completer: str | Completer,
        geometry: ScanGeometry | None = None,
        *,
        batch_size: int = 512,
        **settings: Unpack[CandidateSettings],
    ) -> None:
        super().__init__(geometry, batch_size=batch_size, **settings)
        self._completer = make_completer(completer) if isinstance(completer, str) else completer
        self._crops = self._targets = np.empty((0, 0, 0), dtype=np.float32)

    def peek(self, crops: np.ndarray, targets: np.ndarray) -> None:
        """Show the truth about the scans that follow; scan i is of crop i.

        Args:
            crops: What the probe would measure, shape (n_scans, S, S).
            targets: What completions are judged by, shape (n_scans, S, S).

        Raises:
            ValueError: If the shapes do not fit.
        """
        size = self.geometry.image_size
        for name, pictures in (("crops", crops), ("targets", targets)):
            if np.shape(pictures) != (len(crops), size, size):
                raise ValueError(f"{name} have shape {np.shape(pictures)}; expected ({len(crops)}, {size}, {size})")
        self._crops = np.ascontiguousarray(crops, dtype=np.float32)
        self._targets = np.ascontiguousarray(targets, dtype=np.float32)

    def _scores(self, partial_scans: np.ndarray, segments: Segments) -> np.ndarray:
        if len(self._crops) != len(partial_scans):
            found = f"the truth of {len(self._crops)} scans"
            raise ValueError(f"got {found}; expected that of {len(partial_scans)}: call peek before the scan")
        scores = np.full(segments.headings.shape, -np.inf)
        for pairs in self._in_parts(segments):
            scores[pairs] = -self._losses(partial_scans, segments, *pairs)
        return scores

    def _losses(
        self, partial_scans: np.ndarray, segments: Segments, scans: np.ndarray, candidates: np.ndarray
    ) -> np.ndarray:
        """Loss once these candidates and what follows them are measured, float64, shape (n_pairs,)."""
        tried = partial_scans[scans]
        rows, columns = self.candidates.pixels(segments, scans, candidates)
        pairs = np.arange(len(scans))[:, None]
        # What was measured before, noise and all, is what a completer will see there.
        known = tried[pairs, 1, rows, columns] > 0.0
        truth = self._crops[scans[:, None], rows, columns]
        tried[pairs, 0, rows, columns] = np.where(known, tried[pairs, 0, rows, columns], truth)
        tried[pairs, 1, rows, columns] = 1.0
        errors = complete(self._completer, tried)[:, 0] - self._targets[scans]
        losses: np.ndarray = 10.0 * np.square(errors).mean(axis=(1, 2), dtype=np.float64)
        return losses
