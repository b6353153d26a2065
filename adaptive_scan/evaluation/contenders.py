"""The scans that are compared, and how each of them measures a batch of crops.

A contender is a fixed path, a function that makes one, or a policy that steers the probe in the environment.
All of them end as the same two arrays, positions and values, and nothing after that knows which kind it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from adaptive_scan.acquisition import Acquisition, Instrument, as_instrument
from adaptive_scan.envs import ScanBatch
from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import blur_target
from adaptive_scan.scans import STATIC_SCANS, ScanGeometry, sample, static_scan

VALIDATION = 2
"""The stream of random numbers of crops that something is chosen on; that of crops to test on is 0."""

_OURS = ("acquisition", "completer", "crops", "rng", "n_scans", "dwell")  # of the environment: same for all contenders
_PATH_ROLES: tuple[str, ...] = ("static", "control", "dense")
_POLICY_ROLES: tuple[str, ...] = ("adaptive", "oracle", "control")

PathFunction = Callable[[int, int, np.random.Generator], np.ndarray]
"""``(n_positions, image_size, rng) -> positions (n_positions, 2)`` [px]; may ignore ``rng``."""


class Policy(Protocol):
    """Anything with Stable-Baselines3's ``predict``: an algorithm, one of its policies, or a class of one's own."""

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions ``(n_scans, n_components)`` for a batch of observations, and the memory to hand in next time."""
        ...


class Measurement(NamedTuple):
    """What a scan of each crop measured, in the order in which it did.

    Attributes:
        positions: Probing positions [px], float32, shape ``(n_scans, n_positions, 2)``.
        values: Measured values, float32, shape ``(n_scans, n_positions)``.
    """

    positions: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Contender:
    """A scan that takes part in a comparison: a path, fixed beforehand, or a policy.

    Attributes:
        name: What the tables call it.
        path: Positions [px], shape ``(n_positions, 2)`` for every crop or ``(n_crops, n_positions, 2)`` for each; or a
            function ``(n_positions, image_size, rng) -> (n_positions, 2)``.
        policy: Steers the probe through ``predict``; its memory is carried from segment to segment. Where the spacing
            is free, a policy that gives only directions keeps the reference spacing.
        environment: Keyword arguments of `adaptive_scan.envs.ScanBatch` that the policy was trained with,
            such as ``action_kind``, ``reference_headings``, ``observe_image`` or a ``geometry`` of its own. The
            instrument, the crops and what completes them are those of the comparison.
        contiguous: Whether the probe moves from each position to one nearby, so that the path can be drawn as
            a line.
        random: Whether a path function draws a new path for each crop.
        role: One of `adaptive_scan.evaluation.results.ROLES`; "" leaves it to `effective_role`.

    Raises:
        SettingError: If there is not exactly one of ``path`` and ``policy``, if a path has environment settings, if a
            policy brings an environment setting that all contenders share, or if the role is unknown or none that such
            a scan can have: a policy is not static, a path does not adapt, paths made for the crops one by one are no
            static scan, and a policy that peeks at the truth is not adaptive.

    Example:
        >>> Contender("diagonal", path=np.repeat(np.arange(8.0)[:, None], 2, axis=1)).name
        'diagonal'
    """

    name: str
    path: np.ndarray | PathFunction | None = None
    policy: Policy | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    contiguous: bool = True
    random: bool = False
    role: str = ""

    def __post_init__(self) -> None:
        if (self.path is None) == (self.policy is None):
            found = "neither" if self.path is None else "both"
            raise SettingError(f"contender {self.name!r}: got {found} of path and policy; expected exactly one")
        if self.policy is None and self.environment:
            raise SettingError(
                f"contender {self.name!r}: got a path with environment settings {sorted(self.environment)}; "
                "expected them with a policy only"
            )
        if brought := [name for name in _OURS if name in self.environment]:
            raise SettingError(
                f"contender {self.name!r}: got environment settings {brought}; expected none of {list(_OURS)}, which"
                " are the same for all contenders"
            )
        self._check_role()

    @property
    def effective_role(self) -> str:
        """What the scan is in a comparison: ``role``, or else what it is by nature.

        A path is "static", but paths that were made for the crops one by one are a "control"; a policy that peeks at
        the truth, by a method ``peek``, is an "oracle", any other "adaptive".

        Example:
            >>> Contender("diagonal", path=np.repeat(np.arange(8.0)[:, None], 2, axis=1)).effective_role
            'static'
        """
        if self.role:
            return self.role
        if self.policy is None:
            return "control" if self._has_paths_of_crops else "static"
        return "oracle" if _peeks(self.policy) else "adaptive"

    def _check_role(self) -> None:
        if not self.role:
            return
        # Loads pyarrow, which contenders do not need otherwise.
        from adaptive_scan.evaluation.results import ROLES

        if self.role not in ROLES:
            raise SettingError(f"contender {self.name!r}: got role {self.role!r}; expected one of {ROLES}")
        kind, expected = ("path", _PATH_ROLES) if self.policy is None else ("policy", _POLICY_ROLES)
        if self.policy is None and self._has_paths_of_crops:
            # Whatever made them may have seen the crops.
            kind, expected = "path for each crop", ("control",)
        if self.role not in expected:
            found = f"role {self.role!r} of a {kind}"
            raise SettingError(f"contender {self.name!r}: got {found}; expected one of {expected}")
        if self.policy is not None and _peeks(self.policy) and self.role not in ("oracle", "control"):
            found = f"role {self.role!r} of a policy that peeks at the truth"
            raise SettingError(f"contender {self.name!r}: got {found}; expected 'oracle' or 'control'")

    @property
    def _has_paths_of_crops(self) -> bool:
        return self.path is not None and not callable(self.path) and np.ndim(self.path) == 3


def _peeks(policy: Policy) -> bool:
    return callable(getattr(policy, "peek", None))


def static_contenders(names: Sequence[str] | None = None) -> list[Contender]:
    """Contenders for static scans by the names they have in `adaptive_scan.scans.STATIC_SCANS`.

    Args:
        names: Names, or None for all.

    Returns:
        The contenders, in the order of the names.

    Raises:
        SettingError: If a name is unknown.

    Example:
        >>> [contender.name for contender in static_contenders(["spiral"])]
        ['spiral']
    """
    unknown = sorted(set(names or ()) - set(STATIC_SCANS))
    if unknown:
        raise SettingError(f"got unknown scans {unknown}; expected names among {sorted(STATIC_SCANS)}")
    return [_static_contender(name) for name in (STATIC_SCANS if names is None else names)]


def _static_contender(name: str) -> Contender:
    def path(n_positions: int, image_size: int, rng: np.random.Generator) -> np.ndarray:
        return static_scan(name, n_positions, image_size, rng)

    kind = STATIC_SCANS[name]
    return Contender(name, path=path, contiguous=kind.contiguous, random=kind.random)


def measure(
    contender: Contender,
    crops: np.ndarray,
    geometry: ScanGeometry,
    *,
    first_crop: int = 0,
    acquisition: Instrument | Acquisition | str | None = None,
    seed: int = 0,
    stream: int = 0,
    targets: np.ndarray | None = None,
) -> Measurement:
    """Scan each crop of a batch once.

    A random path for crop ``i`` depends on the seed and on ``first_crop + i`` alone, so neither the size of a
    batch nor the other contenders change it.

    Args:
        contender: What scans.
        crops: Shape ``(n_scans, S, S)``, float32 in [-1, 1].
        geometry: Fixes the number of positions, and the environment of policies that bring no geometry of their own.
        first_crop: Index of the first of these crops among all that are compared.
        acquisition: The instrument or a preset's name, the same for paths and policies; None is the ideal one. Its
            faults run along each path from its first position to its last, whatever the segments, and the
            contenders of one crop meet the same random ones.
        seed: Of random paths, of the environment and of the instrument.
        stream: Which random numbers of the seed: `VALIDATION` for crops that something is chosen on, so that it is not
            chosen for the faults that the crops to test on will meet.
        targets: What completions of these crops are judged by, shown to policies that peek; None is the blurred crops.

    Returns:
        Positions and values.

    Raises:
        SettingError: If the contender measures another number of positions than the geometry has.

    Example:
        >>> crops = np.zeros((2, 32, 32), np.float32)
        >>> measured = measure(static_contenders(["spiral"])[0], crops, ScanGeometry(32, 5, 10))
        >>> measured.positions.shape, measured.values.shape
        ((2, 50, 2), (2, 50))
    """
    instrument = as_instrument(acquisition)
    faults = instrument_seed(seed, first_crop, stream)
    if contender.policy is not None:
        if _peeks(contender.policy):
            contender.policy.peek(crops, blur_target(crops) if targets is None else targets)  # type: ignore[attr-defined]
        measured = _run_policy(contender, contender.policy, crops, geometry, instrument, faults)
    else:
        positions = _paths(contender, len(crops), geometry, seed, first_crop, stream).astype(np.float32)
        _check_positions(contender.name, positions, geometry.n_positions_total)
        measured = _follow_paths(positions, crops, instrument, faults)
    _check_positions(contender.name, measured.positions, geometry.n_positions_total)
    return measured


def _check_positions(name: str, positions: np.ndarray, n_positions: int) -> None:
    if positions.ndim != 3 or positions.shape[2] != 2:
        raise SettingError(
            f"contender {name!r}: got positions of shape {positions.shape}; expected (n_positions, 2) each"
        )
    if positions.shape[1] != n_positions:
        raise SettingError(
            f"contender {name!r}: got {positions.shape[1]} positions; expected {n_positions}, as many as all"
        )


def _follow_paths(positions: np.ndarray, crops: np.ndarray, instrument: Instrument, seed: list[int]) -> Measurement:
    state = instrument.begin(len(crops), np.random.default_rng(seed))
    reading = instrument.measure(positions, lambda displaced: sample(crops, displaced), state)
    return Measurement(positions, reading.values)


def instrument_seed(seed: int, first_crop: int, stream: int = 0) -> list[int]:
    """What the generator is seeded with that draws the faults which a batch of crops meets; arguments as in `measure`.

    Example:
        >>> instrument_seed(7, 256, VALIDATION)
        [7, 256, 1, 2]
    """
    return _words(stream, seed, first_crop, 1)


def _words(stream: int, *words: int) -> list[int]:
    """Words with that of the stream, where it is not the first."""
    return [*words, stream] if stream else list(words)


def _paths(
    contender: Contender, n_scans: int, geometry: ScanGeometry, seed: int, first_crop: int, stream: int
) -> np.ndarray:
    path = contender.path
    if callable(path):
        n_drawn = n_scans if contender.random else 1
        indices = range(first_crop, first_crop + n_drawn) if contender.random else [0]
        generators = (np.random.default_rng(_words(stream, seed, i)) for i in indices)
        drawn = [path(geometry.n_positions_total, geometry.image_size, rng) for rng in generators]
        return np.broadcast_to(np.stack(drawn), (n_scans, *np.shape(drawn[0])))
    fixed = np.asarray(path)
    if fixed.ndim == 3:
        chosen = fixed[first_crop : first_crop + n_scans]
        if len(chosen) != n_scans:
            raise ValueError(
                f"contender {contender.name!r}: got paths for {len(fixed)} crops; "
                f"expected one for each of at least {first_crop + n_scans}"
            )
        return chosen
    return np.broadcast_to(fixed, (n_scans, *fixed.shape))


class _InOrder:
    """Crop source that hands out a batch of crops in order, so that scan i of the environment sees crop i."""

    id_width = 1

    def __init__(self, crops: np.ndarray) -> None:
        self._crops = np.ascontiguousarray(crops, dtype=np.float32)
        self.crop_size = int(crops.shape[-1])

    def draw(self, n_crops: int, rng: np.random.Generator) -> np.ndarray:
        return (np.arange(n_crops, dtype=np.int64) % len(self._crops))[:, None]

    def take(self, ids: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._crops[ids[:, 0]]
        return found


def _with_spacing(actions: np.ndarray, batch: ScanBatch) -> np.ndarray:
    """Actions of a policy that steers alone, where the spacing is free as well: it keeps the reference spacing."""
    n_components = batch.action_space.shape[-1]
    if batch.geometry.has_free_spacing and actions.shape[-1] == n_components - 1:
        return np.concatenate([actions, np.zeros((len(actions), 1), dtype=actions.dtype)], axis=1)
    return actions


def _run_policy(
    contender: Contender,
    policy: Policy,
    crops: np.ndarray,
    geometry: ScanGeometry,
    instrument: Instrument,
    seed: list[int],
) -> Measurement:
    settings: dict[str, Any] = {"geometry": geometry, **contender.environment, "acquisition": instrument}
    if settings.get("stop_below") is not None:
        found = f"stop_below {settings['stop_below']}"
        raise SettingError(f"contender {contender.name!r}: got {found}; expected scans of the same number of positions")
    rng = np.random.default_rng(seed)
    batch = ScanBatch(len(crops), _InOrder(crops), rng=rng, completer=None, **settings)
    observation = batch.reset()
    state: tuple[np.ndarray, ...] | None = None
    episode_start = np.ones(len(crops), dtype=bool)
    while True:
        actions, state = policy.predict(observation, state=state, episode_start=episode_start, deterministic=True)
        step = batch.step(_with_spacing(actions, batch))
        if step.ended.all():
            break
        observation = step.observations
        episode_start = np.zeros(len(crops), dtype=bool)
    positions, values = step.final["positions"], step.final["values"]
    return Measurement(positions.reshape(len(crops), -1, 2), values.reshape(len(crops), -1))
