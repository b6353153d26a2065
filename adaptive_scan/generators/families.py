"""Mixtures of scan families: the probing positions that a completer is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from adaptive_scan.errors import SettingError
from adaptive_scan.scans import STATIC_SCANS, ScanGeometry, filling_path, polygonal_spiral, static_scan

GEOMETRY_SCANS = ("polygonal_spiral", "filling_path", "random_headings")
ADAPTIVE = "adaptive"

PathMaker = Callable[[np.ndarray, np.random.Generator], np.ndarray | tuple[np.ndarray, np.ndarray]]
"""``(crops (n, S, S), rng) -> positions (n, n_positions, 2)`` [px]: scans that look at
what they measure, as policies do.

It may return ``(positions, values (n, n_positions))``, what was measured as well. It should where readings are noisy: a
path suits the noise that it was chosen in, and a network that is shown other noise never sees how well.
"""

_N_GENTLE_TURNS = 4
_N_SHARP_TURNS = 6
_MEAN_CURVATURE = 1.25  # standard deviation of a scan's curvature, in units of 1 / S
_LARGEST_NOISE = 1.85  # heading noise over a path of length S [rad]; per segment it adds up as a random walk


def known_families() -> tuple[str, ...]:
    """Names of all scan families that ``draw_positions`` knows.

    Example:
        >>> "random_headings" in known_families()
        True
    """
    return (*GEOMETRY_SCANS, *STATIC_SCANS)


def is_adaptive(family: str) -> bool:
    """Whether a name is one of a family whose scans depend on the crop: "adaptive", or one that begins with it.

    Example:
        >>> is_adaptive("adaptive_second"), is_adaptive("spiral")
        (True, False)
    """
    return family.startswith(ADAPTIVE)


def check_families(families: Sequence[str], paths: Mapping[str, PathMaker] | None = None) -> None:
    """Raise a ValueError unless there is a family and every one of them is known.

    Args:
        families: Names of families.
        paths: What makes the scans of adaptive families.

    Example:
        >>> check_families(["spiral", "random_headings"])
    """
    known = (*known_families(), *(paths or ()))
    unknown = [name for name in families if name not in known]
    if unknown or not families:
        found = repr(unknown[0]) if unknown else "nothing"
        raise SettingError(f"scans holds {found}; expected some of {', '.join(known)}")


def random_spacings(geometry: ScanGeometry, n_scans: int, rng: np.random.Generator) -> np.ndarray | None:
    """Spacings drawn log-uniformly within the bounds, one per segment; the first is ``first_spacing``.

    Args:
        geometry: Geometry of the scans.
        n_scans: Number of scans N.
        rng: Source of the spacings.

    Returns:
        Spacings [px], float64, shape (n_scans, n_segments), or None where the spacing is fixed.

    Example:
        >>> random_spacings(ScanGeometry(48, 10, 10, spacing=1.0), 3, np.random.default_rng(0)) is None
        True
    """
    if not geometry.has_free_spacing:
        return None
    low, high = geometry.spacing_bounds
    spacings = low * (high / low) ** rng.uniform(size=(n_scans, geometry.n_segments))
    spacings[:, 0] = geometry.first_spacing
    return spacings


def random_headings(
    geometry: ScanGeometry, n_scans: int, rng: np.random.Generator, spacings: np.ndarray | None = None
) -> np.ndarray:
    """Headings of scans that wander through the field, as an exploring actor's do.

    The heading turns by a drift and noise, h' = h + a + s e with e standard normal. Drift a and noise s are drawn
    once per scan, so that some scans spiral and others zigzag. Of several turns tried,
    the first that keeps the next segment inside the field is taken, or else the one that leaves it least; the last
    few tried are as sharp as it takes.

    Args:
        geometry: Geometry of the scans; the first heading is its own.
        n_scans: Number of scans N.
        rng: Source of the headings.
        spacings: Spacing of each segment [px], shape (n_scans, n_segments); ``first_spacing`` when None.

    Returns:
        Headings [rad], float64, shape (n_scans, n_segments).

    Example:
        >>> random_headings(ScanGeometry(48, 10, 10), 3, np.random.default_rng(0)).shape
        (3, 10)
    """
    if spacings is None:
        spacings = np.full((n_scans, geometry.n_segments), geometry.first_spacing)
    length = geometry.n_positions * geometry.first_spacing / geometry.image_size
    drift = rng.normal(0.0, _MEAN_CURVATURE * length, size=(n_scans, 1))
    noise = np.sqrt(length) * _LARGEST_NOISE * 10.0 ** rng.uniform(-1.0, 0.0, size=(n_scans, 1))
    noise = np.concatenate(
        (np.repeat(noise, _N_GENTLE_TURNS, axis=1), np.full((n_scans, _N_SHARP_TURNS), np.pi)), axis=1
    )
    headings = np.full((n_scans, geometry.n_segments), geometry.first_heading)
    position = np.tile(geometry.start_position.astype(np.float64), (n_scans, 1))
    for segment in range(1, geometry.n_segments):
        position += _steps(headings[:, segment - 1], geometry.n_positions * spacings[:, segment - 1])
        turns = drift + noise * rng.normal(size=noise.shape)
        candidates = headings[:, segment - 1, None] + turns
        ends = position[:, None] + _steps(candidates, geometry.n_positions * spacings[:, segment, None])
        outside = np.maximum(-ends, ends - (geometry.image_size - 1)).clip(min=0.0).sum(axis=-1)
        headings[:, segment] = candidates[np.arange(n_scans), outside.argmin(axis=1)]
    return headings


def _steps(headings: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Vectors (row, column) of given headings [rad] and lengths [px], shape (..., 2)."""
    result: np.ndarray = lengths[..., None] * np.stack((np.cos(headings), np.sin(headings)), axis=-1)
    return result


def family_positions(
    family: str, geometry: ScanGeometry, n_scans: int, rng: np.random.Generator, *, n_positions: int | None = None
) -> np.ndarray:
    """Probing positions of scans of one family, at the dose and field of a geometry.

    Args:
        family: A name of ``STATIC_SCANS``, "polygonal_spiral", "filling_path" or "random_headings".
        geometry: Geometry whose ``n_positions_total`` and ``image_size`` a static scan takes, and whose segments the
            others follow.
        n_scans: Number of scans N; scans of a family without randomness are equal.
        rng: Source of the random families.
        n_positions: Positions of a static scan, where they are not as many as the geometry's.

    Returns:
        Positions [px] as (row, column), float32, shape (n_scans, n_positions, 2).

    Example:
        >>> family_positions("random_headings", ScanGeometry(48, 10, 10), 3, np.random.default_rng(0)).shape
        (3, 100, 2)
    """
    n_positions = geometry.n_positions_total if n_positions is None or family in GEOMETRY_SCANS else n_positions
    shape = (n_scans, n_positions, 2)
    if family == "random_headings":
        spacings = random_spacings(geometry, n_scans, rng)
        return geometry.path(random_headings(geometry, n_scans, rng, spacings), spacings).reshape(shape)
    if family == "polygonal_spiral":
        return np.broadcast_to(_polygonal_positions(geometry), shape)
    if family == "filling_path":
        return np.broadcast_to(_filling_positions(geometry), shape)
    if not STATIC_SCANS[family].random:
        return np.broadcast_to(static_scan(family, n_positions, geometry.image_size), shape)
    return np.stack([static_scan(family, n_positions, geometry.image_size, rng) for _ in range(n_scans)])


@lru_cache(maxsize=64)
def _polygonal_positions(geometry: ScanGeometry) -> np.ndarray:
    return geometry.path(polygonal_spiral(geometry)[None]).reshape(geometry.n_positions_total, 2)


@lru_cache(maxsize=64)
def _filling_positions(geometry: ScanGeometry) -> np.ndarray:
    headings, spacings = filling_path(geometry)
    return geometry.path(headings[None], spacings[None]).reshape(geometry.n_positions_total, 2)


def dose_of(coverage: float, image_size: int) -> int:
    """Dose whose nominal coverage of a field is nearest to the one wanted, at least 1.

    Args:
        coverage: Dose over number of pixels.
        image_size: Side S of the square field [px].

    Returns:
        Number of positions.

    Example:
        >>> dose_of(1 / 25, 96)
        369
    """
    return max(round(coverage * image_size**2), 1)


@dataclass(frozen=True)
class DrawnScans:
    """Scans of a batch; those of as many positions are together.

    Attributes:
        families: Family of each scan, its place among the names drawn from, int64, shape (n_scans,).
        coverages: Coverage of each scan, its place among the coverages drawn from, or -1 where it is the
            geometry's, int64, shape (n_scans,).
        groups: For each number of positions the places of its scans in the batch, int64, shape (n,), and their
            positions [px], float32, shape (n, n_positions, 2).
        values: What was measured already, by number of positions: float32, shape (n, n_positions), the scans in the
            order of their group, NaN for those that were not measured; numbers of which nothing was measured are left
            out.
    """

    families: np.ndarray
    coverages: np.ndarray
    groups: list[tuple[np.ndarray, np.ndarray]]
    values: dict[int, np.ndarray] = field(default_factory=dict)

    def shared(self, share: slice) -> DrawnScans:
        """Those of some places in the batch, which keep their order.

        Args:
            share: Which.

        Example:
            >>> scans = draw_scans(["grid"], ScanGeometry(16, 4, 4), 5, np.random.default_rng(0))
            >>> scans.shared(slice(1, None, 2)).groups[0][1].shape
            (2, 16, 2)
        """
        places = np.full(len(self.families), -1)
        kept = np.arange(len(places))[share]
        places[kept] = np.arange(len(kept))
        groups, values = [], {}
        for members, positions in self.groups:
            is_kept, n_positions = places[members] >= 0, positions.shape[1]
            if is_kept.any():
                groups.append((places[members[is_kept]], positions[is_kept]))
                if n_positions in self.values:
                    values[n_positions] = self.values[n_positions][is_kept]
        return DrawnScans(self.families[share], self.coverages[share], groups, values)


def draw_scans(
    families: Sequence[str],
    geometry: ScanGeometry,
    n_scans: int,
    rng: np.random.Generator,
    *,
    coverages: Sequence[float] = (),
    paths: Mapping[str, PathMaker] | None = None,
    crops: np.ndarray | None = None,
) -> DrawnScans:
    """Scans whose families and coverages are drawn at random, all equally likely.

    Families bound to the geometry's segments, and adaptive ones, keep the geometry's dose.

    Args:
        families: Names of families; a name given twice is drawn twice as often.
        geometry: Geometry of the scans.
        n_scans: Number of scans N.
        rng: Source of families, coverages and scans.
        coverages: Nominal coverages of which each scan of a static family has one; with none it has the geometry's.
        paths: What makes the scans of families of further names.
        crops: Pictures that such scans look at, shape (n_scans, S, S).

    Returns:
        The scans.

    Raises:
        ValueError: If a family is unknown, or what a path maker made has another dose or values that are not finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scans = draw_scans(["spiral", "grid"], ScanGeometry(48, 10, 10), 6, rng, coverages=[1 / 4, 1 / 16])
        >>> [positions.shape[1] for _, positions in scans.groups]
        [144, 576]
    """
    check_families(families, paths)
    choice = rng.integers(len(families), size=n_scans)
    levels = np.full(n_scans, -1)
    if len(coverages):
        is_static = np.array([name in STATIC_SCANS for name in families])[choice]
        levels = np.where(is_static, rng.integers(len(coverages), size=n_scans), -1)
    at_level = np.array(
        [*(dose_of(coverage, geometry.image_size) for coverage in coverages), geometry.n_positions_total]
    )
    doses = at_level[levels]
    positions = {
        int(n_positions): np.empty((np.sum(doses == n_positions), n_positions, 2), np.float32)
        for n_positions in np.unique(doses)
    }
    members = {n_positions: np.flatnonzero(doses == n_positions) for n_positions in positions}
    values: dict[int, np.ndarray] = {}
    for index, family in enumerate(families):
        for n_positions in np.unique(doses[choice == index]).tolist():
            chosen = np.flatnonzero((choice == index) & (doses == n_positions))
            places = np.searchsorted(members[n_positions], chosen)
            if paths is not None and family in paths:
                drawn, measured = _made(family, paths[family], crops, chosen, n_positions, rng)
                if measured is not None:
                    unmeasured = np.full((len(members[n_positions]), n_positions), np.nan, np.float32)
                    values.setdefault(n_positions, unmeasured)[places] = measured
            else:
                drawn = family_positions(family, geometry, len(chosen), rng, n_positions=n_positions)
            positions[n_positions][places] = drawn
    return DrawnScans(
        choice, levels, [(members[n_positions], positions[n_positions]) for n_positions in positions], values
    )


def _made(
    family: str,
    maker: PathMaker,
    crops: np.ndarray | None,
    chosen: np.ndarray,
    n_positions: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions, and the values where the maker measured."""
    if crops is None:
        raise SettingError(f"crops: got None with scans {family!r}; expected the crops that they look at")
    made = maker(crops[chosen], rng)
    positions, values = made if isinstance(made, tuple) else (made, None)
    if positions.shape != (len(chosen), n_positions, 2):
        found = positions.shape
        raise ValueError(f"scans {family!r} have positions of shape {found}; expected {(len(chosen), n_positions, 2)}")
    if values is not None and (values.shape != (len(chosen), n_positions) or not np.isfinite(values).all()):
        found = values.shape
        raise ValueError(f"scans {family!r} have values of shape {found}; expected finite {(len(chosen), n_positions)}")
    return positions, values


def draw_positions(
    families: Sequence[str], geometry: ScanGeometry, n_scans: int, rng: np.random.Generator
) -> np.ndarray:
    """Probing positions of scans whose families are drawn at random, all equally likely, at the geometry's dose.

    Args:
        families: Names of families; a name given twice is drawn twice as often.
        geometry: Geometry of the scans.
        n_scans: Number of scans N.
        rng: Source of the families and of the scans.

    Returns:
        Positions [px] as (row, column), float32, shape (n_scans, n_positions, 2).

    Raises:
        ValueError: If a family is unknown.

    Example:
        >>> families = ["spiral", "random"]
        >>> draw_positions(families, ScanGeometry(48, 10, 10), 4, np.random.default_rng(0)).shape
        (4, 100, 2)
    """
    groups = draw_scans(families, geometry, n_scans, rng).groups
    return groups[0][1] if groups else np.empty((0, geometry.n_positions_total, 2), np.float32)
