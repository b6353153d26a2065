"""A policy of one's own, compared with static scans at equal dose.

`OpenSpacePolicy` learns nothing. For each scan it remembers what was measured where, and sends the next segment to
where there is most room that nobody has measured; with ``interest`` above 0 it prefers room beside bright pixels, and
so adapts to the specimen. It is a rule of thumb, greedy and short-sighted: it loses to the spiral. Anything with
Stable-Baselines3's ``predict`` takes its place.

    python examples/custom_policy.py
    python examples/custom_policy.py --n-crops 500 --preset ede96

It can join the scans of a run of the preset "quick" as well:

    python scripts/compare_scans.py --run DIR --policies examples.custom_policy:make_policy
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import tyro
from rich.console import Console
from scipy.spatial import cKDTree

from adaptive_scan.evaluation import Comparison, Contender, compare_scans, static_contenders
from adaptive_scan.generators import NearestCompleter
from adaptive_scan.report import comparison_table
from adaptive_scan.scans import PRESETS, ScanGeometry, polygonal_spiral
from adaptive_scan.specimens import procedural_crops


class OpenSpacePolicy:
    """Sends each segment to where there is most unmeasured room.

    Candidates are segments in evenly spaced directions. A candidate's score is the mean over its positions of
    ``gap * (1 + interest * brightness)``, less ten times the mean distance by which they lie outside the field. The gap
    is the distance to the nearest measured position, at most ``reach`` px; the brightness on [0, 1] is what was
    measured there.

    Args:
        geometry: Geometry of the scans, with fixed spacing.
        interest: How much more room beside the brightest pixels counts than room beside the darkest.
        n_directions: Number of candidates.
        reach: Largest gap that counts [px].
    """

    def __init__(
        self, geometry: ScanGeometry, *, interest: float = 0.0, n_directions: int = 24, reach: float = 14.0
    ) -> None:
        self.geometry, self.interest, self.reach = geometry, interest, reach
        angles = np.linspace(0.0, 2.0 * math.pi, n_directions, endpoint=False)
        self.directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Direction of the next segment of each scan of a batch.

        Args:
            observation: What the last segments showed, each array with one row for each scan.
            state: What the last call returned: positions (n_scans, n_segments, n_positions, 2) and values
                (n_scans, n_segments, n_positions) of what was measured; None at the start.
            episode_start: Ignored: ``progress`` tells a scan's first segment.
            deterministic: Ignored: there is nothing random.

        Returns:
            Unit vectors (n_scans, 2), and the state for the next call.
        """
        geometry, n_scans = self.geometry, len(observation["measured"])
        if state is None:
            shape = (n_scans, geometry.n_segments, geometry.n_positions)
            state = (np.zeros((*shape, 2)), np.zeros(shape))
        positions, values = (part.copy() for part in state)
        n_measured = np.rint(observation["progress"][:, 0] * geometry.n_segments).astype(int)
        start = (observation["position"] + 1.0) / 2.0 * (geometry.image_size - 1)
        step = geometry.first_spacing * observation["heading"]
        scans = np.arange(n_scans)
        positions[scans, n_measured - 1] = start[:, None] + np.arange(geometry.n_positions)[:, None] * step[:, None]
        values[scans, n_measured - 1] = observation["measured"]

        next_start = start + geometry.n_positions * step
        best = [
            np.argmax(self._scores(next_start[i], positions[i, :n].reshape(-1, 2), values[i, :n].ravel()))
            for i, n in enumerate(n_measured)
        ]
        return self.directions[best], (positions, values)

    def _scores(self, start: np.ndarray, positions: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Score of every direction for one scan, shape (n_directions,)."""
        geometry = self.geometry
        travelled = geometry.first_spacing * np.arange(1, geometry.n_positions + 1)
        ahead = start + travelled[:, None] * self.directions[:, None]
        gaps, nearest = cKDTree(positions).query(ahead)
        brightness = (values[nearest] + 1.0) / 2.0
        outside = np.linalg.norm(ahead - np.clip(ahead, 0.0, geometry.image_size - 1), axis=-1)
        room = np.minimum(gaps, self.reach) * (1.0 + self.interest * brightness)
        return (room - 10.0 * outside).mean(axis=1)


def make_policy() -> Contender:
    """The policy as a contender with a geometry of its own, at the dose of runs of the preset "quick"."""
    geometry = PRESETS["quick48"]
    return Contender("open_space", policy=OpenSpacePolicy(geometry, interest=1.0), environment={"geometry": geometry})


def main(n_crops: int = 200, preset: Literal["quick48", "ede96"] = "quick48", seed: int = 0) -> Comparison:
    """Compare the policy with static scans on procedural crops, and print the table.

    Args:
        n_crops: Number of crops.
        preset: Geometry of the scans.
        seed: Of the crops and of the random scans.

    Returns:
        The comparison.
    """
    geometry = PRESETS[preset]
    crops, _ = procedural_crops(n_crops, geometry.image_size, np.random.default_rng(seed))
    polygonal_path = geometry.path(polygonal_spiral(geometry)[None]).reshape(-1, 2)
    comparison = compare_scans(
        crops,
        contenders=[
            Contender("open_space", policy=OpenSpacePolicy(geometry)),
            Contender("open_space_bright", policy=OpenSpacePolicy(geometry, interest=1.0)),
            Contender("polygonal_spiral", path=polygonal_path),
            *static_contenders(["spiral", "raster", "grid", "random"]),
        ],
        completers={"nearest": NearestCompleter()},
        geometry=geometry,
        seed=seed,
    )
    # Wide enough for the whole table, whatever the terminal says.
    Console(width=120).print(comparison_table(comparison))
    return comparison


if __name__ == "__main__":
    tyro.cli(main)
