"""Policies that score a number of possible next segments and take the best.

What they share: where the probe is, which segments it may measure next, which of these leave the field, and the
``predict`` that takes the one of the highest score. Everything works on a batch of scans at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike

from adaptive_scan.errors import SettingError
from adaptive_scan.scans import ScanGeometry, filling_path, spacing_from_action
from adaptive_scan.scans.geometry import segment_positions, segment_steps

_TIE = 1e-6  # of the largest score: batches of other sizes may change a network's last digits, and not the choice
_TOLERANCE = 1e-6  # px: an end on the field's border is inside
_N_HEADINGS, _N_CORRECTIONS = 16, 9


class CandidateSettings(TypedDict, total=False):
    """The settings that every such policy takes as keywords; `Candidates` documents them."""

    n_headings: int | None
    n_spacings: int
    around_reference: bool
    reference_headings: ArrayLike | None
    reference_spacings: ArrayLike | None
    widest_turn: float
    widest_stretch: float
    n_ahead: int | None


class Probe(NamedTuple):
    """Where the scans in progress are: what such a policy remembers from segment to segment.

    Attributes:
        starts: First position of the next segment [px], float64, shape (n_scans, 2).
        n_measured: Number of segments measured, int64, shape (n_scans,).
    """

    starts: np.ndarray
    n_measured: np.ndarray


class Segments(NamedTuple):
    """The candidates of each scan for its next segment.

    Attributes:
        probe: Where the scans are.
        headings: Headings [rad], float64, shape (n_scans, n_candidates).
        spacings: Spacings [px], float64, shape (n_scans, n_candidates).
        allowed: Which may be chosen, bool, shape (n_scans, n_candidates); at least one of each scan.
    """

    probe: Probe
    headings: np.ndarray
    spacings: np.ndarray
    allowed: np.ndarray


class Paths(NamedTuple):
    """What a scan would measure next if it chose a candidate: that segment, and those assumed to follow it.

    Attributes:
        starts: First positions of the segments [px], float64, shape (..., n_ahead + 1, 2); where the scan is complete
            before, that of the candidate.
        headings: Headings [rad], float64, shape (..., n_ahead + 1).
        spacings: Spacings [px], float64, shape (..., n_ahead + 1); 0 where the scan is complete before.
    """

    starts: np.ndarray
    headings: np.ndarray
    spacings: np.ndarray


class Candidates:
    """The segments that a scan may measure next: evenly spaced headings times a few spacings.

    Without a reference the headings are ``first_heading + 2 pi k / n_headings`` and, where the geometry leaves the
    spacing free, the spacings lie geometrically between its bounds, both bounds among them. Around a
    reference, the candidates are corrections to its next heading and spacing: the reference plans the whole scan and
    the policy only adjusts it. Turns are evenly spaced in [-widest_turn, widest_turn], spacing components in
    [-widest_stretch, widest_stretch], where 1 would ask for a bound. The reference's own segment is one of them.

    A candidate leaves the field where one of its positions, or the first position of the segment after it, lies
    outside [0, S - 1]. Those that leave are not allowed; where all leave, those that go least far outside are. The
    reference's own segment is always allowed.

    A candidate is scored together with the ``n_ahead`` segments assumed to follow it: along the reference, from where
    the candidate ends, or straight on where there is none. Around a reference these are by default all that
    remain, so that a correction is scored by the scan as a whole, a rollout of the reference (Bertsekas et al. 1997,
    doi:10.1023/A:1009635226865); without one there are none.

    Args:
        geometry: The scan's geometry; None is the default one.
        n_headings: Number of headings; None is 16, or 9 around a reference, where it has to be odd.
        n_spacings: Number of spacings where the spacing is free; odd around a reference.
        around_reference: Whether candidates are corrections to a static scan; given one, they are.
        reference_headings: Its headings [rad], shape (n_segments,); None is `adaptive_scan.scans.filling_path`.
        reference_spacings: Its spacings [px], shape (n_segments,); None is those of the filling path where the
            headings are also its own, and else the geometry's first spacing throughout.
        widest_turn: Largest correction of a heading [rad].
        widest_stretch: Largest correction of a spacing, as a component of the action in [0, 1].
        n_ahead: Segments assumed to follow; None is all that remain around a reference, and 0 without one.

    Attributes:
        geometry: The geometry.
        actions: What the environment is told for each candidate, float64, shape (n_candidates, n_components).
        environment: Settings of `adaptive_scan.envs.ScanBatch` that the policy needs.

    Raises:
        SettingError: If a setting is out of range or does not fit the geometry.

    Example:
        >>> Candidates(ScanGeometry(48, 10, 10), n_headings=8).actions.shape
        (8, 2)
        >>> Candidates(ScanGeometry(48, 10, 10, (1.0, 4.0))).actions.shape
        (48, 3)
    """

    def __init__(
        self,
        geometry: ScanGeometry | None = None,
        *,
        n_headings: int | None = None,
        n_spacings: int = 3,
        around_reference: bool = False,
        reference_headings: ArrayLike | None = None,
        reference_spacings: ArrayLike | None = None,
        widest_turn: float = math.pi / 4.0,
        widest_stretch: float = 0.5,
        n_ahead: int | None = None,
    ) -> None:
        self.geometry = ScanGeometry() if geometry is None else geometry
        self.has_reference = around_reference or reference_headings is not None
        if n_headings is None:
            n_headings = _N_CORRECTIONS if self.has_reference else _N_HEADINGS
        _check_numbers(n_headings, n_spacings, self.has_reference)
        if not 0.0 < widest_turn <= math.pi:
            raise SettingError(f"widest_turn: got {widest_turn}; expected more than 0 and at most pi rad")
        if not 0.0 < widest_stretch <= 1.0:
            raise SettingError(f"widest_stretch: got {widest_stretch}; expected more than 0 and at most 1")
        if n_ahead is not None and n_ahead < 0:
            raise SettingError(f"n_ahead: got {n_ahead}; expected 0 or more, or None")
        most = self.geometry.n_segments - 1
        self.n_ahead = min(n_ahead, most) if n_ahead is not None else most if self.has_reference else 0
        self.reference_headings, self.reference_spacings = _reference(
            self.geometry, self.has_reference, reference_headings, reference_spacings
        )
        if self.has_reference:
            angles, highest = np.linspace(-widest_turn, widest_turn, n_headings), widest_stretch
        else:
            angles = self.geometry.first_heading + 2.0 * math.pi * np.arange(n_headings) / n_headings
            highest = 1.0
        is_fixed = not self.geometry.has_free_spacing or n_spacings == 1
        components = np.zeros(1) if is_fixed else np.linspace(-highest, highest, n_spacings)
        # The middle of an odd linspace may be off by an ulp, and the reference's own segment must be exact.
        angles, components = (np.where(np.abs(values) < 1e-12, 0.0, values) for values in (angles, components))
        self._angles, self._components = np.repeat(angles, len(components)), np.tile(components, len(angles))
        self.actions = self._all_actions()

    @property
    def environment(self) -> dict[str, Any]:
        """Settings of `adaptive_scan.envs.ScanBatch` that the policy needs."""
        settings: dict[str, Any] = {
            "geometry": self.geometry,
            "action_kind": "direction",
            "observe_image": True,
        }
        if self.has_reference:
            settings["reference_headings"] = self.reference_headings
            settings["reference_spacings"] = self.reference_spacings
        return settings

    def probe(self, observation: dict[str, np.ndarray]) -> Probe:
        """Where the scans are, from what their last segment showed.

        The first segment is known exactly. A later one ended where ``position`` and ``heading`` say, to float32 and
        within the field, if the spacing is fixed.

        Raises:
            ValueError: If the spacing is free and a scan is past its first segment: what it was cannot be seen.
        """
        geometry = self.geometry
        n_measured = np.rint(observation["progress"][:, 0].astype(np.float64) * geometry.n_segments).astype(np.int64)
        later = n_measured > 1
        if geometry.has_free_spacing and later.any():
            found = f"no state after {int(n_measured[later][0])} segments of free spacing"
            raise ValueError(f"got {found}; expected the state that predict returned for the segment before")
        heading = self.reference_headings[0] if self.has_reference else geometry.first_heading
        first = self._step(np.array(heading), np.array(self.reference_spacings[0])) + geometry.start_position
        scaled = (observation["position"].astype(np.float64) + 1.0) / 2.0 * (geometry.image_size - 1)
        ends = scaled + geometry.n_positions * geometry.first_spacing * observation["heading"]
        return Probe(np.where(later[:, None], ends, first), n_measured)

    def segments(self, probe: Probe) -> Segments:
        """The candidates of each scan and which of them are allowed."""
        # A scan that has ended has no next segment: its row is not used.
        step = np.minimum(probe.n_measured, self.geometry.n_segments - 1)
        headings = np.broadcast_to(self._angles, (len(step), len(self._angles)))
        if self.has_reference:
            headings = headings + self.reference_headings[step][:, None]
        bounds, references = self.geometry.spacing_bounds, self.reference_spacings[step][:, None]
        spacings = spacing_from_action(self._components, bounds, references)
        return Segments(probe, headings, spacings, self._allowed(probe, headings, spacings))

    def paths(self, segments: Segments, scans: np.ndarray, candidates: np.ndarray) -> Paths:
        """Some candidates and the segments assumed to follow them.

        Args:
            segments: The candidates of all scans.
            scans: Indices of the scans, of any shape.
            candidates: Index of a candidate of each, the same shape.

        Returns:
            The paths, of that shape.
        """
        last = self.geometry.n_segments - 1
        start, n_measured = segments.probe.starts[scans], segments.probe.n_measured[scans]
        heading, spacing = segments.headings[scans, candidates], segments.spacings[scans, candidates]
        parts = [(start, heading, spacing)]
        for ahead in range(1, min(self.n_ahead, last - int(n_measured.min(initial=last))) + 1):
            start = start + self._step(heading, spacing)
            if self.has_reference:
                index = np.minimum(n_measured + ahead, last)
                heading, spacing = self.reference_headings[index], self.reference_spacings[index]
            remains = n_measured + ahead <= last
            kept = np.where(remains[..., None], start, parts[0][0])
            parts.append((kept, heading, np.where(remains, spacing, 0.0)))
        starts, headings, spacings = zip(*parts, strict=True)
        return Paths(np.stack(starts, axis=-2), np.stack(headings, axis=-1), np.stack(spacings, axis=-1))

    def pixels(self, segments: Segments, scans: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns that candidates and the segments after them measure, each (n_pairs, n_pixels).

        Args:
            segments: The candidates of all scans.
            scans: Indices of the scans, shape (n_pairs,).
            candidates: Index of a candidate of each, shape (n_pairs,).
        """
        positions = self.positions(self.paths(segments, scans, candidates)).reshape(len(scans), -1, 2)
        nearest = np.floor(positions + np.float32(0.5)).astype(np.int64)
        pixels = np.clip(nearest, 0, self.geometry.image_size - 1)
        return pixels[..., 0], pixels[..., 1]

    def positions(self, paths: Paths) -> np.ndarray:
        """Where paths will be measured [px], float32, shape (..., n_ahead + 1, n_positions, 2)."""
        return segment_positions(paths.starts, segment_steps(paths.headings, paths.spacings), self.geometry.n_positions)

    def after(self, segments: Segments, chosen: np.ndarray) -> Probe:
        """Where the scans are once each has measured one of its candidates, indices of shape (n_scans,)."""
        rows = np.arange(len(chosen))
        step = self._step(segments.headings[rows, chosen], segments.spacings[rows, chosen])
        return Probe(segments.probe.starts + step, segments.probe.n_measured + 1)

    def _step(self, headings: np.ndarray, spacings: np.ndarray) -> np.ndarray:
        """From the first position of a segment to that of the next [px], shape (..., 2)."""
        return self.geometry.n_positions * segment_steps(headings, spacings)

    def _allowed(self, probe: Probe, headings: np.ndarray, spacings: np.ndarray) -> np.ndarray:
        """Which candidates stay in the field or, where none does, go least far outside; (n_scans, n_candidates)."""
        n_positions = self.geometry.n_positions
        is_last = probe.n_measured >= self.geometry.n_segments - 1
        # The next segment starts a step further; after the last one there is none.
        share = np.where(is_last, (n_positions - 1) / n_positions, 1.0)[:, None, None]
        ends = probe.starts[:, None] + share * self._step(headings, spacings)
        beyond = np.maximum(-ends, ends - (self.geometry.image_size - 1)).max(axis=-1)
        outside = np.maximum(beyond, 0.0)
        allowed: np.ndarray = outside <= outside.min(axis=1, keepdims=True) + _TOLERANCE
        if self.has_reference:
            allowed[:, (self._angles == 0.0) & (self._components == 0.0)] = True
        return allowed

    def _all_actions(self) -> np.ndarray:
        directions = np.stack([np.cos(self._angles), np.sin(self._angles)], axis=-1)
        if not self.geometry.has_free_spacing:
            return directions
        return np.concatenate([directions, self._components[:, None]], axis=1)


class CandidatePolicy:
    """A policy of the environment that takes the candidate of the highest score; see `Candidates`.

    A subclass defines the score. Between calls it remembers only what ``predict`` returned as the state: where the next
    segment starts and how many are measured, because the observation does not show spacings. The choice itself depends
    on the partial scan alone. Of candidates with the same score the first is taken.

    Args:
        geometry: The scan's geometry; None is the default one.
        batch_size: Candidates tried at once, which bounds the memory.
        **settings: Of `Candidates`.

    Raises:
        SettingError: If a setting is out of range or does not fit the geometry.
    """

    def __init__(
        self, geometry: ScanGeometry | None = None, *, batch_size: int = 512, **settings: Unpack[CandidateSettings]
    ) -> None:
        if batch_size < 1:
            raise SettingError(f"batch_size: got {batch_size}; expected at least 1")
        self.batch_size = batch_size
        self.candidates = Candidates(geometry, **settings)

    @property
    def geometry(self) -> ScanGeometry:
        """The scan's geometry."""
        return self.candidates.geometry

    @property
    def environment(self) -> dict[str, Any]:
        """Settings of `adaptive_scan.envs.ScanBatch` that the policy needs."""
        return self.candidates.environment

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Direction of the next segment of each scan, and its spacing where that is free.

        Args:
            observation: One observation or a batch of them, with the partial scan.
            state: What the call before returned; None at the start of scans.
            episode_start: Which scans have just begun, shape (n_scans,); None is none of those with a state.
            deterministic: Ignored: nothing is drawn.

        Returns:
            Actions, float64, shape (n_components,) or (n_scans, n_components); and the state.

        Raises:
            ValueError: If the observation lacks the partial scan or shows another field, if a state is needed, or if
                a score is not finite.
        """
        is_single = np.ndim(observation["progress"]) == 1
        batch = {name: np.asarray(array)[None] if is_single else array for name, array in observation.items()}
        partial_scans = self._partial_scans(batch)
        segments = self.candidates.segments(self._located(batch, state, episode_start))
        scores = self._scores(partial_scans, segments)
        if not np.isfinite(scores[segments.allowed]).all():
            raise ValueError("got scores that are not finite; expected finite ones: what does the completer return?")
        chosen = first_of_the_best(scores)
        actions = self.candidates.actions[chosen]
        return actions[0] if is_single else actions, tuple(self.candidates.after(segments, chosen))

    def _scores(self, partial_scans: np.ndarray, segments: Segments) -> np.ndarray:
        """How good each candidate is, float64, shape (n_scans, n_candidates); minus infinity where not allowed."""
        raise NotImplementedError

    def _in_parts(self, segments: Segments) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Scans and candidates of all pairs that are allowed, so many at once as the memory may hold."""
        scans, candidates = np.nonzero(segments.allowed)
        for begin in range(0, len(scans), self.batch_size):
            yield scans[begin : begin + self.batch_size], candidates[begin : begin + self.batch_size]

    def _partial_scans(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        if "partial_scan" not in observation:
            raise ValueError(f"observation has {sorted(observation)}; expected partial_scan: set observe_image=True")
        size = self.geometry.image_size
        partial_scans = np.ascontiguousarray(observation["partial_scan"], dtype=np.float32)
        if partial_scans.shape != (len(observation["progress"]), 2, size, size):
            raise ValueError(f"partial scans have shape {partial_scans.shape}; expected (n_scans, 2, {size}, {size})")
        return partial_scans

    def _located(
        self,
        observation: dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None,
        episode_start: np.ndarray | None,
    ) -> Probe:
        if state is None:
            return self.candidates.probe(observation)
        carried = Probe(*state)
        begun = np.zeros(len(carried.starts), dtype=bool) if episode_start is None else np.asarray(episode_start, bool)
        if not begun.any():
            return carried
        new = self.candidates.probe({name: array[begun] for name, array in observation.items()})
        starts, n_measured = carried.starts.copy(), carried.n_measured.copy()
        starts[begun], n_measured[begun] = new
        return Probe(starts, n_measured)


def first_of_the_best(scores: np.ndarray) -> np.ndarray:
    """Index of each row's first score that equals its highest to a millionth of that.

    Args:
        scores: Shape (n_scans, n_candidates), finite or minus infinity, at least one finite in each row.

    Returns:
        Indices, int64, shape (n_scans,).

    Example:
        >>> first_of_the_best(np.array([[1.0, 3.0, 3.0 + 1e-9], [-np.inf, -2.0, -1.0]])).tolist()
        [1, 2]
    """
    best = scores.max(axis=1, keepdims=True)
    firsts: np.ndarray = np.argmax(scores >= best - _TIE * np.abs(best), axis=1)
    return firsts


def _check_numbers(n_headings: int, n_spacings: int, has_reference: bool) -> None:
    for name, number in (("n_headings", n_headings), ("n_spacings", n_spacings)):
        if number < 1:
            raise SettingError(f"{name}: got {number}; expected at least 1")
        if has_reference and number % 2 == 0:
            raise SettingError(
                f"{name}: got {number}; expected an odd number around a reference, which is in the middle"
            )


def _reference(
    geometry: ScanGeometry, has_reference: bool, headings: ArrayLike | None, spacings: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """Headings and spacings of the reference; without one, zeros and the geometry's first spacing."""
    constant = np.full(geometry.n_segments, geometry.first_spacing)
    if not has_reference:
        if spacings is not None:
            raise SettingError("got reference_spacings without a reference; expected reference_headings as well")
        return np.zeros(geometry.n_segments), constant
    if headings is None:
        headings, filling = filling_path(geometry)
        spacings = filling if spacings is None else spacings
    chosen = (
        np.array(headings, dtype=np.float64),
        constant if spacings is None else np.array(spacings, dtype=np.float64),
    )
    for name, values in zip(("reference_headings", "reference_spacings"), chosen, strict=True):
        if values.shape != (geometry.n_segments,) or not np.isfinite(values).all():
            raise SettingError(f"{name} have shape {values.shape}; expected ({geometry.n_segments},), finite")
    low, high = geometry.spacing_bounds
    if not ((low <= chosen[1]) & (chosen[1] <= high)).all():
        raise SettingError(
            f"reference_spacings: got {chosen[1].min():g} to {chosen[1].max():g}; expected {low} to {high}"
        )
    return chosen
