"""Controls of adaptivity: whether it is the specimen that steers an adaptive scan, and whether that pays.

A policy may beat a static scan because of the path that it would follow on any specimen. Three controls take the
specimen away from it and leave the rest: its observations are held constant, they come late, or it follows the path
that it chose for another crop. `adaptivity` says how different the paths of different crops are, and how much of that
has to do with the crop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist

from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.contenders import Contender, Policy
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import partial_scans

_SPECIMEN = frozenset({"measured", "partial_scan"})
_KINEMATICS = frozenset({"position", "heading", "progress"})
_SHUFFLES = 32
_SAME_PATH = 1e-3  # px: paths closer than this, root mean squared, are one path
_PENALTIES = 10.0 ** np.arange(-4, 4)
_N_FOLDS = 5


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
        raise ValueError(f"positions have shape {paths.shape}; expected ({len(groups)}, dose, 2), one for each group")
    chosen = paths[other_crops(groups, rng)]
    name = f"{contender.name}_other_crop"
    return Contender(name, path=chosen, contiguous=contender.contiguous, role="control")


CONTROLS: dict[str, Callable[..., Contender]] = {
    "constant": held_constant,
    "delayed": delayed,
    "other_crop": of_other_crops,
}
"""The controls by kind."""


def control(kind: str, contender: Contender, **settings: Any) -> Contender:
    """The control of that kind.

    Args:
        kind: A name of `CONTROLS`.
        contender: The adaptive scan.
        settings: Of `held_constant`, `delayed` or `of_other_crops`.

    Raises:
        ValueError: If there is no such kind, or as these do.

    Example:
        >>> control("other_crop", Contender("mine", path=np.zeros((2, 1, 2))), positions=np.zeros((2, 1, 2)),
        ...         groups=["a", "b"], rng=np.random.default_rng(0)).name
        'mine_other_crop'
    """
    if kind not in CONTROLS:
        raise SettingError(f"control: got {kind!r}; expected one of {sorted(CONTROLS)}")
    return CONTROLS[kind](contender, **settings)


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


def adaptivity(
    positions: ArrayLike,
    targets: ArrayLike,
    groups: Sequence[Any] | np.ndarray,
    rng: np.random.Generator,
    *,
    repeats: ArrayLike | None = None,
    n_components: int = 32,
    n_most: int = 500,
) -> dict[str, float]:
    """How different the paths of different crops are, and how much of that has to do with the crop.

    Four figures, of which the last needs scans that were repeated:

    - ``path_diversity``: the mean distance between the positions of two crops' paths at the same time [px].
    - ``pixel_overlap``: the mean share of the pixels measured on either of two crops that was measured on both.
    - ``predicted_share``: the share of the variance of the positions that a ridge regression on the first principal
      components of the targets predicts, for crops of specimens that it did not see: ``1 - sum (p - predicted p)^2 /
      sum (p - mean p)^2``, the mean being that of the crops it saw. The penalty is chosen inside each fold. It is
      linear, so it is a lower bound, and a little below 0 where there is nothing to predict.
    - ``crop_share``: the share of the variance of the positions that lies between crops and not between repeated scans
      of one crop, by the components of variance of a one-way analysis: ``b / (b + w)`` with w the mean square within
      crops and ``b = (mean square between crops - w) / n_repeats``, or 0 if that is negative. Without noise a
      deterministic policy repeats itself, and the share is 1 whatever steers it: only noise gives it a meaning.

    Where all paths are one path, the shares are 0: there is nothing that a crop could explain.

    Args:
        positions: The path of each crop [px], shape (n_crops, n_positions, 2), of at least 2 crops.
        targets: What the crops show, shape (n_crops, S, S).
        groups: Specimen of each crop, shape (n_crops,).
        rng: Draws the folds, and the crops where there are too many.
        repeats: The paths of the same crops, scanned again and again with other noise, shape (n_repeats, n_crops, dose,
            2), at least 2 of each.
        n_components: Principal components of the regression, at most.
        n_most: Crops of the first three figures, at most.

    Returns:
        The figures by name; ``predicted_share`` only where there are 2 specimens, ``crop_share`` only with repeats.

    Raises:
        ValueError: If shapes do not fit or there are fewer than 2 crops or repeats.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> static, crops = np.zeros((6, 5, 2)), rng.uniform(size=(6, 8, 8))
        >>> adaptivity(static, crops, list("aabbcc"), rng)
        {'path_diversity': 0.0, 'pixel_overlap': 1.0, 'predicted_share': 0.0}
    """
    paths, pictures = np.asarray(positions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    _check_adaptivity(paths, pictures, labels)
    figures = {}
    if repeats is not None:
        figures["crop_share"] = _crop_share(np.asarray(repeats, dtype=np.float64), paths.shape)
    if len(paths) > n_most:
        chosen = np.sort(rng.choice(len(paths), n_most, replace=False))
        paths, pictures, labels = paths[chosen], pictures[chosen], labels[chosen]
    return {
        "path_diversity": float(np.mean([pdist(paths[:, i]).mean() for i in range(paths.shape[1])])),
        "pixel_overlap": _pixel_overlap(paths, pictures.shape[-1]),
        **_predicted_share(paths, pictures, labels, n_components, rng),
        **figures,
    }


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


def _check_adaptivity(paths: np.ndarray, pictures: np.ndarray, labels: np.ndarray) -> None:
    if paths.ndim != 3 or paths.shape[2] != 2 or len(paths) < 2:
        raise ValueError(
            f"positions have shape {paths.shape}; expected (n_crops, n_positions, 2) with at least 2 crops"
        )
    if pictures.ndim != 3 or len(pictures) != len(paths):
        raise ValueError(f"targets have shape {pictures.shape}; expected ({len(paths)}, S, S), one for each path")
    if labels.shape != (len(paths),):
        raise ValueError(f"groups have shape {labels.shape}; expected ({len(paths)},), one for each path")


def _pixel_overlap(paths: np.ndarray, image_size: int) -> float:
    """Mean over pairs of paths of the measured pixels in common over those of either."""
    blank = np.zeros(paths.shape[:2], dtype=np.float32)
    masks = partial_scans(blank, paths, image_size)[:, 1].reshape(len(paths), -1)
    common = masks @ masks.T
    sizes = np.diag(common)
    either = sizes[:, None] + sizes - common
    return float((common / either)[np.triu_indices(len(paths), 1)].mean())


def _crop_share(repeats: np.ndarray, shape: tuple[int, ...]) -> float:
    """Share of the variance of repeated paths that lies between crops; see `adaptivity`."""
    if repeats.ndim != 4 or repeats.shape[1:] != shape or len(repeats) < 2:
        raise ValueError(f"repeats have shape {repeats.shape}; expected (n_repeats, *{shape}) with at least 2 repeats")
    n_repeats, n_crops = repeats.shape[:2]
    means = repeats.mean(axis=0)
    within = float(np.square(repeats - means).sum()) / (n_crops * (n_repeats - 1))
    among = n_repeats * float(np.square(means - means.mean(axis=0)).sum()) / (n_crops - 1)
    between = max(0.0, (among - within) / n_repeats)
    total = between + within
    return between / total if total > _SAME_PATH**2 * repeats[0, 0].size else 0.0


def _predicted_share(
    paths: np.ndarray, pictures: np.ndarray, labels: np.ndarray, n_components: int, rng: np.random.Generator
) -> dict[str, float]:
    """Share of the variance of paths that their crops predict across specimens, by name; see `adaptivity`."""
    if len(np.unique(labels)) < 2:
        return {}
    coordinates = paths.reshape(len(paths), -1)
    if math.sqrt(np.square(coordinates - coordinates.mean(axis=0)).mean()) <= _SAME_PATH:
        return {"predicted_share": 0.0}
    features = _principal_components(pictures.reshape(len(pictures), -1), n_components)
    left, total = 0.0, 0.0
    for held_out in _folds(labels, rng):
        seen, known = features[~held_out], coordinates[~held_out]
        units = labels[~held_out] if len(np.unique(labels[~held_out])) > 1 else np.arange(len(seen))
        inner = list(_folds(units, rng)) if len(seen) > 1 else []
        errors = sum((_squared_errors(seen, known, fold) for fold in inner), np.zeros(len(_PENALTIES)))
        predicted = _ridge(seen, known, features[held_out])[int(np.argmin(errors))]
        left += float(np.square(coordinates[held_out] - predicted).sum())
        total += float(np.square(coordinates[held_out] - known.mean(axis=0)).sum())
    return {"predicted_share": 1.0 - left / total}


def _principal_components(flat: np.ndarray, n_components: int) -> np.ndarray:
    """Scores of the first principal components, of unit mean variance, shape (n_crops, n_kept)."""
    centred = flat - flat.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = np.argsort(values)[::-1][:n_components]
    kept = kept[values[kept] > 1e-10 * max(float(values.max()), 1e-300)]
    scores = vectors[:, kept] * np.sqrt(values[kept])
    return scores / math.sqrt(np.square(scores).mean()) if kept.size else np.zeros((len(flat), 1))


def _folds(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Masks of folds that hold whole specimens and about as many crops each, shape (n_crops,) each."""
    names, counts = np.unique(labels, return_counts=True)
    order = rng.permutation(len(names))
    n_folds = min(_N_FOLDS, len(names))
    sizes, members = np.zeros(n_folds), [np.zeros(len(labels), dtype=bool) for _ in range(n_folds)]
    for each in order[np.argsort(-counts[order], kind="stable")]:
        smallest = int(np.argmin(sizes))
        sizes[smallest] += counts[each]
        members[smallest] |= labels == names[each]
    return members


def _squared_errors(features: np.ndarray, coordinates: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Squared error on a fold of the regression on all others, for each penalty, shape (n_penalties,)."""
    predicted = _ridge(features[~fold], coordinates[~fold], features[fold])
    return np.square(predicted - coordinates[fold]).sum(axis=(1, 2))


def _ridge(features: np.ndarray, coordinates: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Ridge regression with an intercept, for each penalty, shape (n_penalties, n_wanted, n_coordinates)."""
    centre, middle = features.mean(axis=0), coordinates.mean(axis=0)
    u, s, vt = np.linalg.svd(features - centre, full_matrices=False)
    projected = u.T @ (coordinates - middle)
    along = (wanted - centre) @ vt.T
    answers = [(along * (s / (s * s + penalty * len(features)))) @ projected for penalty in _PENALTIES]
    return np.stack(answers) + middle
