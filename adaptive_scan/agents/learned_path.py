"""Learning paths by gradients through the sampling: one path for all crops, and an actor that bends it for each."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_scan.acquisition import Acquisition, Instrument, as_instrument
from adaptive_scan.agents.path_loss import PathLoss, Readings, draw_crops, outside, relative
from adaptive_scan.agents.pathwise import PathwiseActor, PathwiseSettings
from adaptive_scan.errors import SettingError
from adaptive_scan.generators.completion import evaluating
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import ScanGeometry, filling_path
from adaptive_scan.scans.waypoints import between_corners, corners_of, segments_between, walk

_EDGE_WEIGHT = 1.0
_LAST_RATE = 0.01  # of the first, where the cosine ends
_TRIALS_AT_ONCE = 128
_SMALLEST_MEAN = 1e-12  # of a loss that others are divided by


@dataclass(frozen=True)
class PathLearning:
    """Settings of learning a path or an actor by gradients through the sampling.

    Attributes:
        n_updates: Number of updates.
        batch_size: Crops in each.
        learning_rate: Adam's, at the start of a cosine; of a path [px], of an actor its weights'.
        network_learning_rate: That of the network, which then learns along; 0 keeps it as it is. Learning from scans
            that are splatted bilinearly, it was seen to forget how to complete those that are not.
        completer: What completes the scans that are learned from: the network, or "infill", pull-push interpolation,
            which is cheap.
        try_every: Updates between trials on the validation crops; the best path or actor is kept, the first among them.
        further_learning_rates: Learning rates that are tried beside ``learning_rate``, each from the same beginning,
            with as many updates and the same crops; the best trial of all is kept.

    Raises:
        SettingError: If one of them is out of range.

    Example:
        >>> PathLearning(n_updates=10).completer
        'network'
    """

    n_updates: int = 400
    batch_size: int = 32
    learning_rate: float = 1e-3
    network_learning_rate: float = 0.0
    completer: Literal["infill", "network"] = "network"
    try_every: int = 50
    further_learning_rates: tuple[float, ...] = ()

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """All that are tried, each once, in order."""
        return tuple(dict.fromkeys((self.learning_rate, *self.further_learning_rates)))

    def __post_init__(self) -> None:
        object.__setattr__(self, "further_learning_rates", tuple(self.further_learning_rates))
        for name in ("batch_size", "try_every"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name}: got {getattr(self, name)}; expected at least 1")
        for name in ("n_updates", "learning_rate", "network_learning_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingError(f"{name}: got {getattr(self, name)}; expected 0 or more")
        for rate in self.further_learning_rates:
            if not 0 <= rate < math.inf:
                raise SettingError(f"further_learning_rates hold {rate}; expected 0 or more")
        if self.completer not in ("infill", "network"):
            raise SettingError(f"completer: got {self.completer!r}; expected 'infill' or 'network'")


PATH_LEARNING = PathLearning(n_updates=300, learning_rate=0.03, try_every=25, further_learning_rates=(0.1, 0.3))
"""Settings for a path, whose corners move by hundredths of a pixel at a time, or by tenths: which of it is best depends
on the crops, so each is tried. Adam moves a corner by about its rate at each update, 0.03 px by 2 px or so in all."""


class LearnedPath(nn.Module):
    """A path whose corners are weights.

    Args:
        corners: Corners to begin with [px], shape (n_segments + 1, 2); the first two stay.
        geometry: Bounds of the spacing.
    """

    first: Tensor

    def __init__(self, corners: Tensor, geometry: ScanGeometry) -> None:
        super().__init__()
        self.geometry = geometry
        self.register_buffer("first", corners[:2].detach().float().clone())
        self.waypoints = nn.Parameter(corners[2:].detach().float().clone())

    def corners(self) -> Tensor:
        """Corners of the path [px], shape (n_segments + 1, 2)."""
        return torch.cat((self.first, walk(self.first[1:], self.waypoints[None], self.geometry)[0]))

    def scan(self, crops: Tensor, readings: Readings | None = None) -> Tensor:
        """Its positions for each crop, shape (n_scans, n_segments, n_positions, 2), whatever is measured on the way."""
        positions = between_corners(self.corners()[None], self.geometry.n_positions)
        return positions.expand(len(crops), -1, -1, -1)


def learn_path(
    crops: CropSource,
    geometry: ScanGeometry,
    network: nn.Module | None = None,
    *,
    validation: np.ndarray,
    start: tuple[np.ndarray, np.ndarray] | None = None,
    settings: PathLearning = PATH_LEARNING,
    acquisition: Instrument | Acquisition | str | None = None,
    blur: bool = True,
    seed: int = 0,
    on_trial: Callable[[int, float], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The static path of segments that lowers the loss of completion most: its headings and spacings by gradients.

    It begins as the filling path or another one. Each update scans random crops along it with `soft_partial_scans`,
    completes them, and follows the gradient of the losses, each as a share of the first path's on the same crop. What
    is kept is the best trial of all learning rates, the first path among them: the one whose mean loss on the
    validation crops is lowest.

    Args:
        crops: Training crops.
        geometry: The geometry; its start and its first segment stay.
        network: Network that completes scans, which is left as it was; not needed where ``settings.completer`` is
            "infill".
        validation: Crops on which the best path is chosen, shape (n_crops, S, S).
        start: Headings [rad] and spacings [px] of the path that it begins as, such as `single_positions` gives for a
            spiral or a raster; the filling path without it.
        settings: Everything else.
        acquisition: The instrument, or a preset's name; None is the ideal one.
        blur: Whether targets are blurred.
        seed: Of the crops drawn and of the instrument.
        on_trial: Called with the updates made, those of all learning rates together, and the mean loss on the
            validation crops over that of the first path.

    Returns:
        Headings [rad] and spacings [px], float64, shape (n_segments,) each.

    Raises:
        SettingError: If a network is needed and there is none.

    Example:
        >>> from adaptive_scan.micrographs import ArrayCrops
        >>> crops = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16)).astype(np.float32)
        >>> geometry = ScanGeometry(16, 12, 1, spacing=(0.7, 6.0))
        >>> few = PathLearning(n_updates=2, batch_size=2, completer="infill")
        >>> headings, spacings = learn_path(ArrayCrops(crops), geometry, validation=crops, settings=few)
        >>> headings.shape, spacings.shape
        ((12,), (12,))
    """
    first = filling_path(geometry) if start is None else start
    headings, spacings = (torch.from_numpy(np.asarray(part, dtype=np.float64)) for part in first)
    path = LearnedPath(corners_of(geometry, headings, spacings), geometry)
    loss = _path_loss(network, settings, acquisition, blur)
    _learn(path, copy.deepcopy(path), loss, crops, validation, settings, seed, on_trial)
    with torch.no_grad():
        corners = path.corners().double()
    # What every scan begins with is exact; the rest keeps its corners where they are.
    corners[:2] = corners_of(geometry, headings[:1], spacings[:1])
    found = segments_between(corners, geometry.n_positions)
    low, high = geometry.spacing_bounds
    return found[0].numpy(), found[1].clamp(low, high).numpy()


def train_pathwise(
    crops: CropSource,
    geometry: ScanGeometry,
    path: tuple[np.ndarray, np.ndarray],
    network: nn.Module | None = None,
    *,
    validation: np.ndarray,
    actor_settings: PathwiseSettings | None = None,
    settings: PathLearning | None = None,
    acquisition: Instrument | Acquisition | str | None = None,
    blur: bool = True,
    seed: int = 0,
    on_trial: Callable[[int, float], None] | None = None,
) -> PathwiseActor:
    """Train a recurrent actor by backpropagating the loss of completion through the sampling, without a critic.

    Args:
        crops: Training crops.
        geometry: The geometry, with a free spacing.
        path: Headings [rad] and spacings [px] of the reference path that it starts from, such as a learned one.
        network: Network that completes scans, which is left as it was; not needed where ``settings.completer`` is
            "infill".
        validation: Crops on which the best actor is chosen, shape (n_crops, S, S).
        actor_settings: What the actor may do.
        settings: Everything else.
        acquisition: The instrument, or a preset's name; None is the ideal one.
        blur: Whether targets are blurred.
        seed: Of the first weights, of the crops drawn and of the instrument.
        on_trial: Called with the updates made, those of all learning rates together, and the mean loss on the
            validation crops over that of the reference.

    Returns:
        The actor.

    Raises:
        SettingError: If a network is needed and there is none, or the path does not fit the geometry.

    Example:
        >>> from adaptive_scan.micrographs import ArrayCrops
        >>> crops = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16)).astype(np.float32)
        >>> geometry = ScanGeometry(16, 12, 1, spacing=(0.7, 6.0))
        >>> few = PathLearning(n_updates=2, batch_size=2, completer="infill")
        >>> path = filling_path(geometry)
        >>> actor = train_pathwise(ArrayCrops(crops), geometry, path, validation=crops, settings=few)
        >>> actor.scan(torch.from_numpy(crops)).shape
        torch.Size([4, 12, 1, 2])
    """
    settings = PathLearning() if settings is None else settings
    reference = corners_of(geometry, *(torch.from_numpy(np.asarray(part, dtype=np.float64)) for part in path)).float()
    with torch.random.fork_rng(devices=[]):  # initialisers of torch.nn draw from the global state only
        torch.manual_seed(seed)
        actor = PathwiseActor(reference, geometry, actor_settings)
    loss = _path_loss(network, settings, acquisition, blur)
    _learn(actor, LearnedPath(reference, geometry), loss, crops, validation, settings, seed, on_trial)
    return actor


def _path_loss(
    network: nn.Module | None,
    settings: PathLearning,
    acquisition: Instrument | Acquisition | str | None,
    blur: bool,
) -> PathLoss:
    if settings.completer == "network" and network is None:
        raise SettingError("network: got None; expected one, since completer is 'network'")
    if network is None or settings.completer == "infill":
        return PathLoss(None, as_instrument(acquisition), blur)
    # The crops and the instrument are on the CPU.
    own = copy.deepcopy(network).cpu()
    learns = settings.network_learning_rate > 0
    return PathLoss(own.train(learns).requires_grad_(learns), as_instrument(acquisition), blur)


def _learn(
    learner: LearnedPath | PathwiseActor,
    reference: LearnedPath,
    loss: PathLoss,
    crops: CropSource,
    validation: np.ndarray,
    settings: PathLearning,
    seed: int,
    on_trial: Callable[[int, float], None] | None,
) -> None:
    """Follow the gradients with each learning rate, and leave the learner as it was at its best trial."""
    begun = _weights(learner, loss)
    best, kept = math.inf, begun[0]
    for run, rate in enumerate(settings.learning_rates):
        for module, weights in zip((learner, loss.network), begun, strict=True):
            if module is not None:
                module.load_state_dict(weights)
        for step in _updates(learner, reference, loss, crops, settings, rate, seed):
            is_due = step % settings.try_every == 0 or step == settings.n_updates
            if not is_due or (run > 0 and step == 0):
                continue
            ratio = _trial(learner, reference, loss, validation, seed)
            if on_trial is not None:
                on_trial(run * settings.n_updates + step, ratio)
            if ratio < best:
                best, kept = ratio, copy.deepcopy(learner.state_dict())
    learner.load_state_dict(kept)


def _weights(learner: nn.Module, loss: PathLoss) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copies of the weights of the learner and of the network, of which the latter may learn along."""
    network = {} if loss.network is None else loss.network.state_dict()
    return copy.deepcopy(learner.state_dict()), copy.deepcopy(network)


def _updates(
    learner: LearnedPath | PathwiseActor,
    reference: LearnedPath,
    loss: PathLoss,
    crops: CropSource,
    settings: PathLearning,
    learning_rate: float,
    seed: int,
) -> Iterator[int]:
    """Make all updates, and say before the first and after each how many were made."""
    rng = np.random.default_rng([seed, 0])
    optimiser = _optimiser(learner, loss, settings, learning_rate)
    for step in range(settings.n_updates):
        yield step
        _set_rates(optimiser, settings, step)
        _update(learner, reference, loss, draw_crops(crops, settings.batch_size, rng), optimiser, rng)
    yield settings.n_updates


def _optimiser(learner: nn.Module, loss: PathLoss, settings: PathLearning, learning_rate: float) -> torch.optim.Adam:
    groups = [{"params": list(learner.parameters()), "first": learning_rate}]
    if loss.network is not None and settings.network_learning_rate > 0:
        groups.append({"params": list(loss.network.parameters()), "first": settings.network_learning_rate})
    return torch.optim.Adam(groups, lr=learning_rate)


def _set_rates(optimiser: torch.optim.Adam, settings: PathLearning, step: int) -> None:
    """Half a cosine, after a warm-up of a twentieth of the updates."""
    share = _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * step / settings.n_updates))
    warm = min(1.0, 20.0 * (step + 1) / settings.n_updates)
    for group in optimiser.param_groups:
        group["lr"] = group["first"] * share * warm


def _update(
    learner: LearnedPath | PathwiseActor,
    reference: LearnedPath,
    loss: PathLoss,
    crops: Tensor,
    optimiser: torch.optim.Adam,
    rng: np.random.Generator,
) -> None:
    keys = loss.keys(len(crops), rng)
    with torch.no_grad():
        references = loss(crops, *loss.scan(reference, crops, keys))
    positions, values = loss.scan(learner, crops, keys)
    losses = loss(crops, positions, values)
    objective = relative(losses, references).mean() + _EDGE_WEIGHT * outside(positions, crops.shape[-1])
    if not torch.isfinite(objective):
        raise FloatingPointError(f"the loss of a path: got {objective.item()}; expected a finite number")
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(objective)
    for group in optimiser.param_groups:
        nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimiser.step()


def _trial(
    learner: LearnedPath | PathwiseActor, reference: LearnedPath, loss: PathLoss, crops: np.ndarray, seed: int
) -> float:
    """Mean loss over that of the reference, measured and completed as a microscope would, without gradients."""
    losses = []
    with evaluating(loss.network), torch.no_grad():
        for begin, part in _parts(crops):
            keys = loss.keys(len(part), np.random.default_rng([seed, 1, begin]))
            scans = [loss.scan(scanner, part, keys) for scanner in (learner, reference)]
            losses.append(torch.stack([loss.hard(part, *scan) for scan in scans], dim=1))
    own, others = torch.cat(losses).double().mean(dim=0).tolist()
    return float(own / max(others, _SMALLEST_MEAN))


def _parts(crops: np.ndarray) -> Iterator[tuple[int, Tensor]]:
    for begin in range(0, len(crops), _TRIALS_AT_ONCE):
        part = np.ascontiguousarray(crops[begin : begin + _TRIALS_AT_ONCE], dtype=np.float32)
        yield begin, torch.from_numpy(part)
