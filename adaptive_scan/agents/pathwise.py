"""A recurrent actor that learns by gradients through the sampling itself, without a critic.

The actor follows a reference path, a static scan worth following, and bends it: from all it has measured it chooses how
far from the reference's corners the next segments end. A corner that was moved does not move those after it, so that
what is learned of one part of the path is not undone by another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_scan.agents.path_loss import Readings
from adaptive_scan.errors import SettingError
from adaptive_scan.files import FileContentError
from adaptive_scan.generators.infill import pull_push_infill
from adaptive_scan.scans import ScanGeometry, tensors
from adaptive_scan.scans.waypoints import between_corners, corners_of, segments_between, walk
from adaptive_scan.settings import settings_from_json, settings_to_json
from adaptive_scan.trees import read_tree, write_tree

_KIND = "adaptive_scan.pathwise"  # what a file says it holds
_PATCH = 16  # cells of two pixels around the next waypoint: a third of a field of 96 px, two thirds of one of 48 px
_LOOK = (2, 6, 12)  # how many corners beyond the next one the actor sees of the reference


@dataclass(frozen=True)
class PathwiseSettings:
    """What a pathwise actor may do.

    Attributes:
        n_together: Segments chosen at each decision.
        hidden_size: Units of its recurrent memory.
        largest_offset: Largest distance of a segment's end from that of the reference, along rows and along columns
            [px].

    Raises:
        SettingError: If one of them is out of range.

    Example:
        >>> PathwiseSettings(n_together=4).hidden_size
        64
    """

    n_together: int = 2
    hidden_size: int = 64
    largest_offset: float = 10.0

    def __post_init__(self) -> None:
        for name in ("n_together", "hidden_size"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name}: got {getattr(self, name)}; expected at least 1")
        if not 0.0 < self.largest_offset < math.inf:
            raise SettingError(f"largest_offset: got {self.largest_offset}; expected more than 0")


class Progress(NamedTuple):
    """Where scans are between two decisions, and what their actor remembers.

    Attributes:
        hidden: Recurrent memory, shape (n_scans, hidden_size).
        offsets: How far from the reference the segments of the last decision were to end [px], shape
            (n_scans, n_together, 2).
        end: Corner where the next segment to choose begins [px], shape (n_scans, 2).
    """

    hidden: Tensor
    offsets: Tensor
    end: Tensor


class PathwiseActor(nn.Module):
    """Chooses the next segments from the partial scan, the last values and a recurrent memory (a GRU).

    It sees a rough completion (pull-push) and the mask of what was measured, around the next waypoint and, coarsely,
    everywhere. Its output layer starts at zero: an untrained actor follows the reference.

    Args:
        reference: Corners of the reference path [px], float32, shape (n_segments + 1, 2); the first two are those with
            which every scan of the geometry begins.
        geometry: The geometry of the scans, an even side.
        settings: What it may do.

    Raises:
        SettingError: If the reference does not fit the geometry.

    Example:
        >>> from adaptive_scan.scans import filling_path
        >>> geometry = ScanGeometry(16, 12, 1, spacing=(0.7, 6.0))
        >>> headings, spacings = (torch.from_numpy(path) for path in filling_path(geometry))
        >>> actor = PathwiseActor(corners_of(geometry, headings, spacings).float(), geometry)
        >>> actor.scan(torch.zeros(3, 16, 16)).shape
        torch.Size([3, 12, 1, 2])
    """

    reference: Tensor
    window: Tensor

    def __init__(self, reference: Tensor, geometry: ScanGeometry, settings: PathwiseSettings | None = None) -> None:
        super().__init__()
        self.geometry = geometry
        self.settings = settings = PathwiseSettings() if settings is None else settings
        _check_reference(reference, geometry)
        self.register_buffer("reference", reference.detach().float().clone())
        steps = 2.0 * (torch.arange(_PATCH) - (_PATCH - 1) / 2)
        self.register_buffer("window", torch.cartesian_prod(steps, steps), persistent=False)
        self.around = _encoder(2, (16, 32), first_stride=2, side=_PATCH, n_out=96)
        self.everywhere = _encoder(2, (16, 16), first_stride=2, side=geometry.image_size // 2, n_out=32)
        n_seen = settings.n_together * (geometry.n_positions + 2 + 2) + 2 + 2 * len(_LOOK) + 1
        self.embedding = nn.Sequential(nn.Linear(n_seen + 96 + 32, 96), nn.ReLU())
        self.memory = nn.GRUCell(96, settings.hidden_size)
        self.choice = nn.Linear(settings.hidden_size + 96, 2 * settings.n_together)
        nn.init.zeros_(self.choice.weight)
        nn.init.zeros_(self.choice.bias)

    def begin(self, n_scans: int) -> Progress:
        """The state of scans whose first segment was measured."""
        hidden = self.reference.new_zeros(n_scans, self.settings.hidden_size)
        offsets = self.reference.new_zeros(n_scans, self.settings.n_together, 2)
        return Progress(hidden, offsets, self.reference[1].expand(n_scans, 2))

    def decide(self, partial_scans: Tensor, values: Tensor, n_chosen: int, state: Progress) -> tuple[Tensor, Progress]:
        """Choose the next segments.

        Args:
            partial_scans: What was measured so far, shape (n_scans, 2, S, S).
            values: The last values, in order, shape (n_scans, n_together * n_positions); zeros before the first.
            n_chosen: Segments whose ends are known already, the same for all scans.
            state: Where the scans are.

        Returns:
            Ends of the next ``n_together`` segments [px], shape (n_scans, n_together, 2), and the state after them.
        """
        wanted = self._corners_after(n_chosen, range(1, self.settings.n_together + 1))
        hidden, chosen = self._choose(partial_scans, values, n_chosen, state)
        offsets = self.settings.largest_offset * torch.tanh(chosen.reshape(-1, *wanted.shape))
        corners = walk(state.end, wanted + offsets, self.geometry)
        return corners, Progress(hidden, offsets, corners[:, -1])

    def scan(self, crops: Tensor, readings: Readings | None = None) -> Tensor:
        """Scan crops; the positions are differentiable in the weights.

        What is observed carries no gradient: the loss reaches the weights by way of the positions alone.

        Args:
            crops: Shape (n_scans, S, S).
            readings: What an instrument reads of them on the way; None for an ideal one.

        Returns:
            Positions [px], shape (n_scans, n_segments, n_positions, 2).
        """
        n_segments, together = self.geometry.n_segments, self.settings.n_together
        corners = [self.reference[:2].expand(len(crops), 2, 2)]
        state, n_chosen = self.begin(len(crops)), 1
        while n_chosen < n_segments:
            with torch.no_grad():
                positions = between_corners(torch.cat(corners, dim=1), self.geometry.n_positions)
                read = tensors.sample(crops, positions) if readings is None else readings.follow(positions)
                partial = tensors.partial_scans(read, positions, self.geometry.image_size)
                values = _last(read.flatten(1), together * self.geometry.n_positions)
            ends, state = self.decide(partial, values, n_chosen, state)
            corners.append(ends)
            n_chosen += together
        return between_corners(torch.cat(corners, dim=1)[:, : n_segments + 1], self.geometry.n_positions)

    def _choose(self, partial: Tensor, values: Tensor, n_chosen: int, state: Progress) -> tuple[Tensor, Tensor]:
        """The memory after looking, shape (n_scans, hidden_size), and two numbers for each segment to choose."""
        geometry, together = self.geometry, self.settings.n_together
        middle = geometry.image_size / 2
        ahead = self._corners_after(n_chosen, [*range(1, together + 1), *(1 + look for look in _LOOK)])
        coarse = _coarse(partial)
        cells = (ahead[:together].mean(dim=0) + self.window - 0.5) / (middle - 1.0) - 1.0
        cells = cells.flip(-1).expand(len(partial), 1, -1, -1)
        around = F.grid_sample(coarse, cells, align_corners=True).reshape(-1, 2, _PATCH, _PATCH)
        seen = [
            values,
            (state.end - middle) / middle,
            state.offsets.flatten(1) / self.settings.largest_offset,
            ((ahead - state.end[:, None]) / 10.0).flatten(1),
            values.new_full((len(values), 1), n_chosen / geometry.n_segments),
            self.around(around),
            self.everywhere(coarse),
        ]
        features = self.embedding(torch.cat(seen, dim=1))
        hidden = self.memory(features, state.hidden)
        return hidden, self.choice(torch.cat((hidden, features), dim=1))

    def _corners_after(self, n_chosen: int, steps: Sequence[int]) -> Tensor:
        """Corners of the reference so many steps after those chosen, its last one for all beyond, (n_steps, 2)."""
        last = len(self.reference) - 1
        return self.reference[[min(n_chosen + step, last) for step in steps]]


def _check_reference(reference: Tensor, geometry: ScanGeometry) -> None:
    expected = (geometry.n_segments + 1, 2)
    if tuple(reference.shape) != expected or not torch.isfinite(reference).all():
        raise SettingError(f"reference has shape {tuple(reference.shape)}; expected finite corners of shape {expected}")
    if geometry.image_size % 2 or geometry.n_segments < 2 or not geometry.has_free_spacing:
        raise SettingError(f"geometry: got {geometry}; expected an even side, two segments or more, and a free spacing")
    first = corners_of(geometry, torch.tensor([geometry.first_heading]), _first_spacing(reference, geometry)[None])
    off = float((reference[:2] - first).abs().max())
    if off > 1e-3:
        raise SettingError(f"reference begins {off:.3g} px off the first segment; expected that of the geometry")


def _first_spacing(reference: Tensor, geometry: ScanGeometry) -> Tensor:
    """Spacing of the first segment of a reference path [px]."""
    length: Tensor = torch.linalg.vector_norm((reference[1] - reference[0]).double()) / geometry.n_positions
    return length.clamp(*geometry.spacing_bounds)


def _encoder(n_in: int, widths: tuple[int, int], *, first_stride: int, side: int, n_out: int) -> nn.Sequential:
    """Two convolutions with stride and a linear layer."""
    side = math.ceil(math.ceil(side / first_stride) / 2)
    return nn.Sequential(
        nn.Conv2d(n_in, widths[0], 3, first_stride, 1),
        nn.ReLU(),
        nn.Conv2d(widths[0], widths[1], 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(widths[1] * side**2, n_out),
        nn.ReLU(),
    )


def _coarse(partial_scans: Tensor) -> Tensor:
    """Infill and mask of what was measured, two pixels wide a cell, shape (n_scans, 2, S / 2, S / 2)."""
    means = F.avg_pool2d(partial_scans, 2)
    masks = (means[:, 1:] > 0).to(means.dtype)
    coarse = torch.cat((means[:, :1] / means[:, 1:].clamp(min=0.25), masks), dim=1)
    return torch.cat((pull_push_infill(coarse), masks), dim=1)


def _last(values: Tensor, n_values: int) -> Tensor:
    """The last values of each scan, zeros in front where there are fewer, shape (n_scans, n_values)."""
    return F.pad(values, (max(n_values - values.shape[1], 0), 0))[:, -n_values:]


class PathwisePolicy:
    """A pathwise actor as a policy of the environment, with Stable-Baselines3's ``predict``.

    Its memory between segments is a tuple of arrays, handed in and out as a recurrent policy's is.

    Args:
        actor: The actor.

    Attributes:
        actor: The actor, in evaluation mode.
        environment: Settings of the environment that it acts in.

    Example:
        >>> from adaptive_scan.envs import ScanBatch
        >>> from adaptive_scan.scans import filling_path
        >>> geometry = ScanGeometry(16, 12, 1, spacing=(0.7, 6.0))
        >>> headings, spacings = (torch.from_numpy(path) for path in filling_path(geometry))
        >>> policy = PathwisePolicy(PathwiseActor(corners_of(geometry, headings, spacings).float(), geometry))
        >>> batch = ScanBatch(3, rng=np.random.default_rng(0), completer=None, **policy.environment)
        >>> actions, state = policy.predict(batch.reset())
        >>> actions.shape
        (3, 3)
    """

    def __init__(self, actor: PathwiseActor) -> None:
        self.actor = actor.eval()
        geometry = actor.geometry
        # Only the first segment, which no action chooses, needs a spacing of its own.
        spacings = np.full(geometry.n_segments, geometry.first_spacing)
        spacings[0] = float(_first_spacing(actor.reference, geometry))
        self.environment: dict[str, Any] = {
            "geometry": geometry,
            "action_kind": "direction",
            "observe_image": True,
            "reference_spacings": spacings,
        }

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Direction and spacing of the next segment of each scan.

        Args:
            observation: A batch of observations with the partial scan; all scans are at the same segment.
            state: What the last call returned; None at the start of scans.
            episode_start: Ignored: scans begin where their progress says so.
            deterministic: Ignored: nothing is drawn.

        Returns:
            Actions, float64, shape (n_scans, 3), and the state.
        """
        geometry, together = self.actor.geometry, self.actor.settings.n_together
        measured = torch.from_numpy(np.asarray(observation["measured"], dtype=np.float32))
        n_measured = round(float(np.asarray(observation["progress"]).reshape(-1)[0]) * geometry.n_segments)
        if state is None or n_measured <= 1:
            begun = self.actor.begin(len(measured))
            ends = begun.end[:, None].expand(-1, together, 2)
            values = measured.new_zeros(len(measured), together * geometry.n_positions)
            queued = (ends, values)
        else:
            *progress, ends, values = (torch.from_numpy(array) for array in state)
            begun, queued = Progress(*progress), (ends, values)
        ends, values = queued
        values = torch.cat((values, measured), dim=1)[:, -values.shape[1] :]
        start = begun.end if (n_measured - 1) % together == 0 else ends[:, (n_measured - 2) % together]
        if (n_measured - 1) % together == 0:
            partial = torch.from_numpy(np.asarray(observation["partial_scan"], dtype=np.float32))
            with torch.inference_mode():
                ends, begun = self.actor.decide(partial, values, n_measured, begun)
        end = ends[:, (n_measured - 1) % together]
        return _actions(start, end, geometry), tuple(part.clone().numpy() for part in (*begun, ends, values))

    def save(self, path: Path) -> None:
        """Write the actor and all that rebuilds it, as safetensors."""
        actor = self.actor
        settings = {"geometry": actor.geometry.to_dict(), "settings": settings_to_json(actor.settings)}
        write_tree(path, {"kind": _KIND, **settings, "weights": dict(actor.state_dict())})


def _actions(starts: Tensor, ends: Tensor, geometry: ScanGeometry) -> np.ndarray:
    """Actions that lead from start to end, float64, shape (n_scans, 3)."""
    corners = torch.stack((starts, ends), dim=1).double()
    headings, spacings = segments_between(corners, geometry.n_positions)
    component = tensors.action_from_spacing(spacings, geometry.spacing_bounds)
    return torch.cat((torch.cos(headings), torch.sin(headings), component), dim=1).numpy()


def load_pathwise(path: Path) -> PathwisePolicy:
    """The policy that `PathwisePolicy.save` wrote.

    Args:
        path: File to read.

    Raises:
        FileContentError: If the file is missing, broken or something else.

    Example:
        >>> import tempfile
        >>> from adaptive_scan.scans import filling_path
        >>> geometry = ScanGeometry(16, 12, 1, spacing=(0.7, 6.0))
        >>> headings, spacings = (torch.from_numpy(path) for path in filling_path(geometry))
        >>> policy = PathwisePolicy(PathwiseActor(corners_of(geometry, headings, spacings).float(), geometry))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     policy.save(Path(folder) / "actor.safetensors")
        ...     load_pathwise(Path(folder) / "actor.safetensors").actor.geometry == geometry
        True
    """
    tree = read_tree(path)
    try:
        if tree["kind"] != _KIND:
            raise ValueError(f"got {tree['kind']!r}")
        geometry = ScanGeometry.from_dict(tree["geometry"])
        settings = settings_from_json(PathwiseSettings, tree["settings"])
        actor = PathwiseActor(tree["weights"]["reference"], geometry, settings)
        actor.load_state_dict(tree["weights"])
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise FileContentError(path, f"no pathwise policy ({error})", "one that this package wrote") from error
    return PathwisePolicy(actor)


def pathwise_geometry(geometry: ScanGeometry, *, n_positions: int = 1, highest: float | None = None) -> ScanGeometry:
    """The geometry of scans with as many positions, whose segments are shorter and whose spacing is free.

    Args:
        geometry: The geometry to shorten the segments of.
        n_positions: Positions of a segment, a divisor of those of the whole scan.
        highest: Largest spacing [px]; three times that of an even scan with as many positions when None.

    Raises:
        SettingError: If the positions of the whole scan are no multiple of those of a segment.

    Example:
        >>> pathwise_geometry(ScanGeometry(48, 10, 10)).n_segments
        100
    """
    if n_positions < 1 or geometry.n_positions_total % n_positions:
        expected = f"a divisor of {geometry.n_positions_total}, the positions of the scan"
        raise SettingError(f"n_positions: got {n_positions}; expected {expected}")
    even = geometry.image_size / math.sqrt(geometry.n_positions_total)
    bounds = (math.sqrt(0.5), max(3.0 * even if highest is None else highest, 1.0))
    return replace(
        geometry, n_segments=geometry.n_positions_total // n_positions, n_positions=n_positions, spacing=bounds
    )


def single_positions(positions: np.ndarray, image_size: int) -> tuple[ScanGeometry, np.ndarray, np.ndarray]:
    """Any path as segments of one position each, so that it can be learned from and bent.

    Args:
        positions: Positions of the path [px], shape (n_positions, 2), two at least, all inside the field.
        image_size: Side S of the field [px].

    Returns:
        A geometry that begins as the path does and leaves its spacing free, up to its longest step or three times that
        of an even scan; and the path's headings [rad] and spacings [px], both float64, shape (n_positions,).

    Raises:
        ValueError: If the shape is another one, or a position lies outside the field.

    Example:
        >>> geometry, headings, spacings = single_positions(np.array([[1.0, 1.0], [1.0, 3.0], [4.0, 3.0]]), 8)
        >>> geometry.path(headings[None], spacings[None])[0, :, 0].round(5).tolist()
        [[1.0, 1.0], [1.0, 3.0], [4.0, 3.0]]
    """
    path = np.asarray(positions, dtype=np.float64)
    if path.ndim != 2 or path.shape[1] != 2 or len(path) < 2:
        raise ValueError(f"positions have shape {path.shape}; expected (n_positions, 2) with two or more")
    # Where the last segment leads is not measured any more.
    steps = np.diff(path, axis=0, append=2 * path[-1:] - path[-2:-1])
    headings, lengths = np.arctan2(steps[:, 1], steps[:, 0]), np.hypot(steps[:, 0], steps[:, 1])
    shortest = min(math.sqrt(0.5), float(lengths.min(initial=1.0, where=lengths > 0)))
    longest = max(3.0 * image_size / math.sqrt(len(path)), float(lengths.max()), 1.0)
    geometry = ScanGeometry(
        image_size,
        len(path),
        1,
        spacing=(shortest, longest),
        start=(float(path[0, 0]), float(path[0, 1])),
        first_heading=float(headings[0]),
    )
    return geometry, headings, np.clip(lengths, shortest, longest)
