"""Controls of adaptivity: whether it is the specimen that steers an adaptive scan, and whether that pays.

A policy may beat a static scan because of the path that it would follow on any specimen. Three controls take the
specimen away from it and leave the rest: its observations are held constant, they come late, or it follows the path
that it chose for another crop. `adaptive_scan.evaluation.adaptivity` says how different the paths of different crops
are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.contenders import Contender, Policy
from adaptive_scan.micrographs import CropSource

_SPECIMEN = frozenset({"measured", "partial_scan"})
_KINEMATICS = frozenset({"position", "heading", "progress"})
_SHUFFLES = 32


class HeldConstant:
    """A policy that no longer sees the specimen: all measured values it is shown are one constant.

    What is replaced is the specimen alone: ``measured`` is the constant, and so are the values of ``partial_scan``
    wherever its mask says measured. Position, heading, progress and the mask stay true, so the policy still knows
    where it is and has been. A deterministic policy then follows one path for all crops: the static scan in it.

    Args:
        policy: The policy, with a batch's ``predict``.
        value: The constant, such as the mean of the crops it was trained on: a value that the policy never meets may
            make it do what it never does, and then what is found is not what seeing the specimen is worth.

    Example:
        >>> class Echo:
        ...     def predict(self, observation, state=None, episode_start=None, deterministic=False):
        ...         return observation["measured"][:, :2], state
        >>> HeldConstant(Echo(), 0.5).predict({"measured": np.array([[0.1, 0.9, 0.3]])})[0].tolist()
        [[0.5, 0.5]]
    """

    def __init__(self, policy: Policy, value: float) -> None:
        self.policy = policy
        self.value = value

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """What the policy does without the specimen; see `Policy.predict`.

        Raises:
            ValueError: If an observation has parts that are not known to be free of the specimen.
        """
        shown = {**observation, **_constant(_specimen(observation), self.value)}
        return self.policy.predict(shown, state=state, episode_start=episode_start, deterministic=deterministic)


class _Arrivals(NamedTuple):
    """What a delayed policy remembers: its own memory, what was measured lately, and how long each scan has run."""

    inner: Any
    recent: tuple[dict[str, np.ndarray], ...]
    n_seen: np.ndarray


class Delayed:
    """A policy that sees what it measured some segments late.

    When it decides after segment t, ``measured`` and ``partial_scan``, mask included, are those of segment
    ``t - n_segments``; position, heading and progress are true. Until the first segment has arrived, it is shown that
    segment's mask with a constant for all values, as `HeldConstant` shows it.

    Args:
        policy: The policy, with a batch's ``predict``.
        n_segments: The delay, at least one segment.
        value: The constant before anything has arrived, such as the mean of the crops it was trained on.

    Raises:
        ValueError: If the delay is not a positive number of segments.

    Example:
        >>> class Echo:
        ...     def predict(self, observation, state=None, episode_start=None, deterministic=False):
        ...         return observation["measured"], state
        >>> policy, state = Delayed(Echo(), value=0.0), None
        >>> for measured in (0.1, 0.2, 0.3):
        ...     action, state = policy.predict({"measured": np.array([[measured]])}, state)
        ...     print(action.item())
        0.0
        0.1
        0.2
    """

    def __init__(self, policy: Policy, n_segments: int = 1, *, value: float) -> None:
        if isinstance(n_segments, bool) or not isinstance(n_segments, int | np.integer) or n_segments < 1:
            raise SettingError(f"n_segments: got {n_segments!r}; expected a delay of at least one segment")
        self.policy = policy
        self.n_segments = int(n_segments)
        self.value = value

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """What the policy does with late observations; see `Policy.predict`.

        Raises:
            ValueError: If an observation has parts that are not known to be free of the specimen.
        """
        now = {name: array.copy() for name, array in _specimen(observation).items()}
        n_scans = len(observation["measured"])
        past = _Arrivals(None, (), np.zeros(n_scans, dtype=np.int64)) if state is None else state
        began = np.zeros(n_scans, dtype=bool) if episode_start is None else np.asarray(episode_start, dtype=bool)
        n_seen = np.where(began, 0, past.n_seen)
        recent = (*past.recent, now)[-self.n_segments - 1 :]
        shown = self._arrived(recent, n_seen)
        actions, inner = self.policy.predict(
            {**observation, **shown}, state=past.inner, episode_start=episode_start, deterministic=deterministic
        )
        return actions, _Arrivals(inner, recent, n_seen + 1)

    def _arrived(self, recent: Sequence[dict[str, np.ndarray]], n_seen: np.ndarray) -> dict[str, np.ndarray]:
        """What each scan is shown: what is as old as the delay, or its first segment without the specimen."""
        late = {name: array.copy() for name, array in recent[-1].items()}
        ages = np.minimum(n_seen, self.n_segments)
        for age in np.unique(ages[ages > 0]):
            for name in late:
                late[name][ages == age] = recent[-1 - age][name][ages == age]
        waiting = n_seen < self.n_segments
        for name, array in _constant(late, self.value).items():
            late[name][waiting] = array[waiting]
        return late


def mean_value(crops: CropSource, rng: np.random.Generator, n_crops: int = 256) -> float:
    """Mean value of random crops: what `held_constant` and `delayed` show in place of what is measured.

    Args:
        crops: Training crops.
        rng: Draws them.
        n_crops: How many.

    Example:
        >>> from adaptive_scan.micrographs import ArrayCrops
        >>> crops = ArrayCrops(np.full((2, 8, 8), 0.25, np.float32), normalise=False)
        >>> mean_value(crops, np.random.default_rng(0))
        0.25
    """
    return float(crops.take(crops.draw(n_crops, rng)).mean(dtype=np.float64))


def held_constant(contender: Contender, value: float | None = None, *, mean: float | None = None) -> Contender:
    """The control of a policy whose observations are held constant; see `HeldConstant`.

    Args:
        contender: A policy.
        value: The constant, in [-1, 1]; None for the mean.
        mean: Mean value of the crops that the policy was trained on; see `mean_value`.

    Returns:
        The control, called ``<name>_constant``.

    Raises:
        ValueError: If the contender is a path or may peek at the truth, or there is neither constant nor mean.
    """
    return _control(contender, "constant", HeldConstant(_seeing_policy(contender), _shown(value, mean)))


def delayed(
    contender: Contender, n_segments: int = 1, value: float | None = None, *, mean: float | None = None
) -> Contender:
    """The control of a policy that sees what it measured some segments late; see `Delayed`.

    Args:
        contender: A policy.
        n_segments: The delay, at least one segment.
        value: What it is shown before anything has arrived, in [-1, 1]; None for the mean.
        mean: Mean value of the crops that the policy was trained on; see `mean_value`.

    Returns:
        The control, called ``<name>_delayed``.

    Raises:
        ValueError: If the contender is a path or may peek at the truth, the delay is no positive number, or there is
            neither constant nor mean.
    """
    policy = _seeing_policy(contender)
    return _control(contender, "delayed", Delayed(policy, n_segments, value=_shown(value, mean)))


def _shown(value: float | None, mean: float | None) -> float:
    """What a policy is shown in place of what was measured."""
    shown = mean if value is None else value
    if shown is None:
        raise SettingError("value and mean: got None; expected a constant, or the mean of the crops trained on")
    return shown


def of_other_crops(
    contender: Contender, positions: np.ndarray, groups: Sequence[Any] | np.ndarray, rng: np.random.Generator
) -> Contender:
    """The control that follows, on each crop, the path that was chosen for a crop of another specimen.

    Args:
        contender: What chose the paths.
        positions: The path it chose for each crop [px], shape (n_crops, n_positions, 2).
        groups: Specimen of each crop, shape (n_crops,).
        rng: Draws whose path each crop gets.

    Returns:
        The control, called ``<name>_other_crop``: a path for each crop, in their order.

    Raises:
        ValueError: If the shapes do not fit or all crops are of one specimen.

    Example:
        >>> chosen = np.arange(8.0).reshape(4, 1, 2)
        >>> other = of_other_crops(Contender("mine", path=chosen), chosen, list("aabb"), np.random.default_rng(0))
        >>> sorted(other.path[:2, 0, 0].tolist())
        [4.0, 6.0]
    """
    paths = np.asarray(positions, dtype=np.float32)
    if paths.ndim != 3 or paths.shape[2] != 2 or len(paths) != len(groups):
        raise ValueError(f"positions: got shape {paths.shape}; expected ({len(groups)}, n_positions, 2), one each")
    chosen = paths[other_crops(groups, rng)]
    name = f"{contender.name}_other_crop"
    return Contender(name, path=chosen, contiguous=contender.contiguous, role="control")


CONTROLS: dict[str, Callable[..., Contender]] = {
    "constant": held_constant,
    "delayed": delayed,
    "other_crop": of_other_crops,
}
"""What makes a control of an adaptive scan, by kind."""


def other_crops(groups: Sequence[Any] | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each crop another one of another specimen, each of them once where that is possible.

    It is possible where no specimen has more than half of the crops. Otherwise the crops of the others are each used as
    evenly as can be for those of the largest.

    Args:
        groups: Specimen of each crop, shape (n_crops,).
        rng: Draws them.

    Returns:
        Index of each crop's other crop, int64, shape (n_crops,).

    Raises:
        ValueError: If all crops are of one specimen.

    Example:
        >>> other_crops(["a", "b"], np.random.default_rng(0)).tolist()
        [1, 0]
    """
    _, labels, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    n_crops, largest = len(labels), int(counts.max(initial=0))
    if len(counts) < 2:
        raise SettingError(f"groups: got {n_crops} crops of {len(counts)} specimen; expected at least 2 specimens")
    if 2 * largest > n_crops:
        inside = rng.permutation(np.flatnonzero(labels == np.argmax(counts)))
        outside = rng.permutation(np.flatnonzero(labels != np.argmax(counts)))
        others = np.empty(n_crops, dtype=np.int64)
        others[inside], others[outside] = np.resize(outside, len(inside)), inside[: len(outside)]
        return others
    # Specimens lie side by side in a ring, in random order; a shift by the largest leaves none where it was.
    ring = np.lexsort((rng.permutation(n_crops), rng.permutation(len(counts))[labels]))
    shift = int(rng.integers(largest, n_crops - largest + 1))
    others = np.empty(n_crops, dtype=np.int64)
    others[ring] = np.roll(ring, -shift)
    return _shuffled(others, labels, rng)


def _specimen(observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parts of an observation in which the specimen is seen."""
    if unknown := sorted(set(observation) - _SPECIMEN - _KINEMATICS):
        raise SettingError(f"observation has {unknown}; expected no parts but {sorted(_SPECIMEN | _KINEMATICS)}")
    return {name: array for name, array in observation.items() if name in _SPECIMEN}


def _constant(specimen: dict[str, np.ndarray], value: float) -> dict[str, np.ndarray]:
    """The same parts with a constant for every measured value, fresh arrays."""
    shown = {"measured": np.full_like(specimen["measured"], value)}
    if "partial_scan" in specimen:
        shown["partial_scan"] = specimen["partial_scan"].copy()
        shown["partial_scan"][:, 0] = value * specimen["partial_scan"][:, 1]
    return shown


def _seeing_policy(contender: Contender) -> Policy:
    """The policy of a contender that sees what it measures and nothing else."""
    if contender.policy is None:
        raise SettingError(
            f"contender {contender.name!r}: got a path; expected a policy, which has observations to change"
        )
    if hasattr(contender.policy, "peek"):
        raise SettingError(f"contender {contender.name!r} peeks at the truth; expected a policy that only measures")
    return contender.policy


def _control(contender: Contender, kind: str, policy: Policy) -> Contender:
    return replace(contender, name=f"{contender.name}_{kind}", policy=policy, role="control")


def _shuffled(others: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same after many random exchanges between two crops, of which none gives a crop one of its own specimen."""
    half = len(others) // 2
    for _ in range(_SHUFFLES):
        first, second = rng.permutation(len(others))[: 2 * half].reshape(2, half)
        fits = (labels[others[second]] != labels[first]) & (labels[others[first]] != labels[second])
        first, second = first[fits], second[fits]
        others[first], others[second] = others[second], others[first]
    return others
