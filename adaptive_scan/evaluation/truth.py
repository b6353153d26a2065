"""Completions of procedural specimens against what is truly there: atoms, vacancies and particles.

Everything is judged in the completion alone, by the same finder whoever made it, with atoms and particles bright as in
an annular dark field (`specimen_crops` turns inverted pictures round). What a picture of this resolution cannot show is
not asked for: NaN stands where there is nothing to judge. The finder is not perfect. The score of the target itself,
``truth_metrics(targets, truths)``, is the floor that no completion is expected to beat.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage, optimize, sparse, spatial
from skimage.filters import threshold_otsu

from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import normalise
from adaptive_scan.specimens.imaging import ImagingSettings, record
from adaptive_scan.specimens.recipes import ATOMIC_FAMILIES, SPECIMEN_FAMILIES, make_specimen
from adaptive_scan.specimens.truth import Truth

TRUTH_METRICS = ("atom_error_pm", "atoms_missed", "atoms_invented", "defect_recall", "particle_area_error")
"""Names of what `truth_metrics` measures."""

RESOLUTION_PX = 5.0
"""Atoms nearer to each other are one column [px]: the side of the kernel that targets are blurred with."""

RESOLUTION_ANGSTROM = 0.8
"""The same for fine pixels [Å]: about the width of the specimens' atoms."""

_SHARE_RESOLVED = 0.75  # of the atoms in the field, for a picture whose columns can be judged
_SHARE_OF_HEAVIEST = 0.7  # columns below are not asked for: contrast follows the mass only roughly
_CONTRAST_POWER = 1.7  # of the atomic number; specimens have 1 to 2
_FINE = 0.3  # standard deviation of the smoothing that peaks are sought after, in resolutions
_LEAST_PEAK = 0.2  # height of a peak, as a share of the high ones
_LEAST_CONTRAST = 0.01  # height of a peak on the scale [-1, 1]: below is what rounding and networks leave on a flat
_MARGIN = 4.0  # nearer to the edge nothing is asked for [px]: there the blur of the targets moves peaks
_AROUND = 1.5  # columns around a vacancy, in spacings
_N_TURNS = 3  # of finding the background and its plane
_OPENED_SHARE = 0.3  # of the particles' area that a square of the blur kernel fits into
_PICOMETRES_PER_ANGSTROM = 100.0


class Columns(NamedTuple):
    """Columns of atoms that a picture may show.

    Attributes:
        positions: As (row, column) [px], weighted by mass, float64, shape (n_columns, 2); some outside the field.
        required: Which of them a good picture shows, bool, shape (n_columns,).
        crowds: Atoms that no picture resolves, as (row, column) [px], shape (n_atoms, 2): peaks there do not count.
        resolution: Distance within which atoms are one column [px].
        spacing: Median distance of a column in the field to the nearest other [px]; the resolution for a single one.
    """

    positions: np.ndarray
    required: np.ndarray
    crowds: np.ndarray
    resolution: float
    spacing: float

    @property
    def tolerance(self) -> float:
        """Distance within which a peak is that of a column [px]: half of the resolution."""
        return 0.5 * self.resolution


class _Peaks(NamedTuple):
    """Peaks of a picture and the columns they belong to, both shape (n_matched,), with the distances [px]."""

    positions: np.ndarray
    of_column: np.ndarray
    of_peak: np.ndarray
    distances: np.ndarray


def truth_metrics(completions: np.ndarray, truths: Sequence[Truth]) -> dict[str, np.ndarray]:
    """How well completions show what is truly there.

    Atoms of a specimen, not of its support, are merged into columns as `atom_columns` says; peaks of the completion are
    found by `find_atoms`, and assigned to columns so that the sum of squared distances is smallest (H. W. Kuhn 1955,
    doi:10.1002/nav.3800020109), none beyond the tolerance.

    - ``atom_error_pm``: root mean square distance of the required columns from their peaks [pm].
    - ``atoms_missed``: share of the required columns without a peak.
    - ``atoms_invented``: share of the peaks that belong to no column; 0 where there are no peaks.
    - ``defect_recall``: share of the vacancies that are seen. A vacancy is judged where there is a gap to see: no atom
      within the resolution, and required columns within one and a half spacings. It is seen where at least half of
      these have peaks, and the completion, smoothed as for peaks, is at the empty site less than halfway from the
      darkest place around to them. A flat completion sees none, and one that goes on with the lattice none either.
    - ``particle_area_error``: ``|A - A_true| / A_true`` with A the number of pixels brighter than Otsu's threshold (N.
      Otsu 1979, doi:10.1109/TSMC.1979.4310076) of the completion less the plane of its background, for particles
      without atoms of which at least 0.3 of the area is as wide as the blur kernel.

    Args:
        completions: In [-1, 1] with bright atoms and particles, shape ``(n_scans, S, S)``.
        truths: What each picture shows, n_scans of them.

    Returns:
        By the names of `TRUTH_METRICS`, float64, shape ``(n_scans,)`` each; NaN where there is nothing to judge.

    Raises:
        ValueError: If the completions are no batch of square pictures, or not as many as the truths.

    Example:
        >>> crops, truths, _ = specimen_crops(1, 64, np.random.default_rng(1), ["points"], pixel_size=0.3)
        >>> scores = truth_metrics(crops, truths)
        >>> float(scores["atoms_missed"][0]), float(scores["atoms_invented"][0]), bool(scores["atom_error_pm"][0] < 10)
        (0.0, 0.0, True)
    """
    shape = completions.shape
    if len(shape) != 3 or shape[1] != shape[2] or shape[0] != len(truths):
        raise ValueError(f"got completions {shape} for {len(truths)} truths; expected (n_scans, S, S), one truth each")
    scores = {name: np.full(len(truths), np.nan) for name in TRUTH_METRICS}
    for scan, (completion, truth) in enumerate(zip(completions.astype(np.float64), truths, strict=True)):
        columns = atom_columns(truth, shape[1])
        if columns is not None:
            peaks = _matched(find_atoms(completion, columns.resolution), columns)
            missed, invented, error = _atom_scores(peaks, columns, shape[1])
            scores["atoms_missed"][scan], scores["atoms_invented"][scan] = missed, invented
            scores["atom_error_pm"][scan] = error * truth.pixel_size * _PICOMETRES_PER_ANGSTROM
            scores["defect_recall"][scan] = _vacancies_seen(completion, truth, columns, peaks)
        scores["particle_area_error"][scan] = _particle_area_error(completion, truth)
    return scores


def atom_columns(truth: Truth, image_size: int) -> Columns | None:
    """Columns of atoms, as far as a picture can show them.

    Atoms of the specimen nearer to each other than the resolution are one column, and so are their neighbours in turn;
    the resolution is `RESOLUTION_PX` or, where that is more, `RESOLUTION_ANGSTROM`. A column that spreads beyond the
    resolution is a crowd of atoms with no single place. Required are columns at least 4 px inside the field with 0.7 or
    more of the mass of the heaviest (the 90th percentile): a light column beside a heavy one is hardly seen.

    Args:
        truth: What the picture shows.
        image_size: Side S of the picture [px].

    Returns:
        The columns; None where none is required, or more than a quarter of the atoms in the field are in crowds.

    Example:
        >>> _, truths, _ = specimen_crops(1, 48, np.random.default_rng(0), ["points"])
        >>> columns = atom_columns(truths[0], 48)
        >>> columns.resolution, len(columns.positions) <= len(truths[0].positions)
        (5.0, True)
    """
    atoms, masses = _atoms(truth)
    resolution = max(RESOLUTION_PX, RESOLUTION_ANGSTROM / truth.pixel_size)
    inside = _within(atoms, image_size, 0.0)
    if not inside.any():
        return None
    n_columns, labels = _connected(atoms, resolution)
    mass = np.bincount(labels, masses, n_columns)
    centres = np.stack([np.bincount(labels, masses * atoms[:, axis], n_columns) / mass for axis in (0, 1)], axis=1)
    spread = np.zeros(n_columns)
    np.maximum.at(spread, labels, np.hypot(*(atoms - centres[labels]).T))
    compact = spread <= resolution
    seen = compact & _within(centres, image_size, 0.0)
    if compact[labels][inside].mean() < _SHARE_RESOLVED or not seen.any():
        return None
    heavy = mass >= _SHARE_OF_HEAVIEST * np.percentile(mass[seen], 90)
    required = compact & heavy & _within(centres, image_size, _MARGIN)
    if not required.any():
        return None
    spacing = resolution
    if n_columns > 1:
        spacing = float(np.median(spatial.KDTree(centres).query(centres[seen], k=2)[0][:, 1]))
    return Columns(centres[compact], required[compact], atoms[~compact[labels]], resolution, spacing)


def find_atoms(picture: np.ndarray, resolution: float) -> np.ndarray:
    """Peaks of a picture: maxima of a difference of Gaussians of 0.3 and 1 times the resolution.

    A peak is the highest pixel within half of the resolution to either side, at least a fifth as high as the high peaks
    (the 95th percentile) and 0.01 high. Its place between pixels is that of the parabola through it and its neighbours,
    along each axis.

    Args:
        picture: In [-1, 1] with bright atoms, shape (S, S).
        resolution: Distance of atoms that can be told apart [px].

    Returns:
        Positions as (row, column) [px], float64, shape (n_peaks, 2).

    Example:
        >>> rows, columns = np.indices((32, 32))
        >>> atom = np.exp(-((rows - 12.3) ** 2 + (columns - 20.0) ** 2) / 8.0)
        >>> find_atoms(atom, 5.0).round(1).tolist()
        [[12.3, 20.0]]
    """
    response = _response(np.asarray(picture, dtype=np.float64), resolution)
    highest = response == ndimage.maximum_filter(response, 2 * int(resolution / 2.0) + 1)
    # An atom halfway between pixels has several highest ones, and the first stands for them.
    groups, _ = ndimage.label(highest, np.ones((3, 3)))
    _, first = np.unique(groups[highest], return_index=True)
    heights = response[highest][first]
    least = max(_LEAST_PEAK * float(np.percentile(heights, 95)), _LEAST_CONTRAST)
    peaks = np.argwhere(highest)[first][heights >= least]
    padded = np.pad(response, 1, mode="edge")
    rows, columns = peaks[:, 0] + 1, peaks[:, 1] + 1
    top = padded[rows, columns]
    down = _vertex(padded[rows - 1, columns], top, padded[rows + 1, columns])
    across = _vertex(padded[rows, columns - 1], top, padded[rows, columns + 1])
    found: np.ndarray = peaks + np.stack([down, across], axis=1)
    return found


def specimen_crops(
    n_crops: int,
    size: int,
    rng: np.random.Generator,
    families: Sequence[str] | None = None,
    *,
    pixel_size: float | None = None,
    imaging: ImagingSettings | None = None,
) -> tuple[np.ndarray, list[Truth], list[str]]:
    """Crops of specimens with their truths, atoms and particles bright.

    Specimens are drawn as they come, a fifth of them inverted. Where a picture falls with what its truth says is there,
    it is turned round, so that all look as in an annular dark field; grains, bands and cracks stay as they are. The
    same state of ``rng`` gives the same crops.

    Args:
        n_crops: Number of crops N, at least 0.
        size: Side S of a crop [px], at least 16.
        rng: Source of everything random.
        families: Names among `adaptive_scan.specimens.recipes.SPECIMEN_FAMILIES`, by default all; each crop is of one
            of them, drawn with equal probability.
        pixel_size: Side of a pixel of the families at atomic resolution [Å]; drawn by default. At 0.3 Å or less most
            lattices outlive the blur of the targets.
        imaging: What the microscope adds, never an inversion; by default nothing, which leaves it to the instrument.

    Returns:
        Crops in [-1, 1], float32, shape (N, S, S), the truths, and the names of their families.

    Raises:
        ValueError: If ``n_crops`` is negative, the size too small, or a family unknown or none given.

    Example:
        >>> crops, truths, names = specimen_crops(2, 32, np.random.default_rng(0), ["boxes"])
        >>> crops.shape, names, sorted(truths[0].masks)
        ((2, 32, 32), ['boxes', 'boxes'], ['particles'])
    """
    chosen = list(SPECIMEN_FAMILIES if families is None else families)
    if n_crops < 0 or not chosen:
        raise SettingError(f"got {n_crops} crops of {len(chosen)} families; expected at least 0 of at least 1")
    names = [chosen[k] for k in rng.integers(len(chosen), size=n_crops)]
    pictures = np.empty((n_crops, size, size), np.float32)
    truths = []
    for picture, name in zip(pictures, names, strict=True):
        specimen = make_specimen(name, size, rng, pixel_size=pixel_size if name in ATOMIC_FAMILIES else None)
        picture[:] = specimen.picture if _is_bright(specimen.picture, specimen.truth) else 1.0 - specimen.picture
        truths.append(specimen.truth)
    if imaging is None or n_crops == 0:
        return normalise(pictures), truths, names
    return record(pictures, rng, dataclasses.replace(imaging, inverted_share=0.0)), truths, names


def _atoms(truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Positions [px], float64, and masses of the atoms that are not of the support."""
    own = truth.parts > 0
    return truth.positions_px[own].astype(np.float64), truth.numbers[own].astype(np.float64) ** _CONTRAST_POWER


def _within(positions: np.ndarray, image_size: int, margin: float) -> np.ndarray:
    found: np.ndarray = np.all((positions >= margin) & (positions <= image_size - 1 - margin), axis=1)
    return found


def _connected(points: np.ndarray, reach: float) -> tuple[int, np.ndarray]:
    """Number of groups of points that are joined by steps within a reach, and the group of each."""
    # Atoms of one column lie above each other; one of them stands for all, which saves most of the pairs.
    cells = np.rint(20.0 * points).astype(np.int64)
    _, first, place = np.unique(cells[:, 0] * 2**32 + cells[:, 1], return_index=True, return_inverse=True)
    pairs = spatial.KDTree(points[first]).query_pairs(reach, output_type="ndarray")
    ones = np.ones(len(pairs), dtype=np.bool_)
    graph = sparse.coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(len(first), len(first)))
    n_groups, labels = sparse.csgraph.connected_components(graph, directed=False)
    return int(n_groups), labels[place]


def _response(picture: np.ndarray, resolution: float) -> np.ndarray:
    """How far the picture rises above its surroundings."""
    found: np.ndarray = ndimage.gaussian_filter(picture, _FINE * resolution) - ndimage.gaussian_filter(
        picture, resolution
    )
    return found


def _vertex(before: np.ndarray, top: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Place of the vertex of parabolas through three neighbours, the middle one highest [px]."""
    curvature = before - 2.0 * top + after
    offsets = np.zeros_like(top)
    np.divide(0.5 * (before - after), curvature, out=offsets, where=curvature < 0.0)
    found: np.ndarray = np.clip(offsets, -0.5, 0.5)
    return found


def _matched(peaks: np.ndarray, columns: Columns) -> _Peaks:
    distances = spatial.distance.cdist(columns.positions, peaks)
    of_column, of_peak = optimize.linear_sum_assignment(np.minimum(distances, columns.tolerance) ** 2)
    matched = distances[of_column, of_peak]
    near = matched < columns.tolerance
    return _Peaks(peaks, of_column[near], of_peak[near], matched[near])


def _atom_scores(peaks: _Peaks, columns: Columns, image_size: int) -> tuple[float, float, float]:
    """Share of columns missed, share of peaks invented, and root mean square distance [px]."""
    of_required = columns.required[peaks.of_column]
    missed = 1.0 - of_required.sum() / columns.required.sum()
    error = float(np.sqrt(np.mean(peaks.distances[of_required] ** 2))) if of_required.any() else np.nan
    judged = _within(peaks.positions, image_size, _MARGIN)
    if len(columns.crowds):
        judged &= spatial.KDTree(columns.crowds).query(peaks.positions)[0] > columns.resolution
    invented = judged.copy()
    invented[peaks.of_peak] = False
    return float(missed), float(invented.sum() / max(judged.sum(), 1)), error


def _vacancies_seen(completion: np.ndarray, truth: Truth, columns: Columns, peaks: _Peaks) -> float:
    sites = truth.vacancies[:, :2].astype(np.float64) / truth.pixel_size
    sites = sites[_within(sites, len(completion), _MARGIN)]
    if len(sites) == 0:
        return np.nan
    sites = sites[spatial.KDTree(_atoms(truth)[0]).query(sites)[0] >= columns.resolution]
    required = columns.positions[columns.required]
    found = np.isin(np.flatnonzero(columns.required), peaks.of_column)
    smooth = ndimage.gaussian_filter(completion, _FINE * columns.resolution)
    at_columns, at_sites = (
        ndimage.map_coordinates(smooth, places.T, order=1, mode="nearest") for places in (required, sites)
    )
    pixels = np.indices(completion.shape)
    seen = []
    for site, height in zip(sites, at_sites, strict=True):
        near = np.hypot(*(required - site).T) <= _AROUND * columns.spacing
        if near.any():
            around = np.hypot(*(pixels - site[:, None, None])) <= _AROUND * columns.spacing
            halfway = 0.5 * (smooth[around].min() + at_columns[near].mean())
            seen.append(found[near].mean() >= 0.5 and height < halfway)
    return float(np.mean(seen)) if seen else np.nan


def _particle_area_error(completion: np.ndarray, truth: Truth) -> float:
    if len(truth.positions) or "particles" not in truth.masks:
        return np.nan
    particles = truth.masks["particles"] > 0
    width = int(RESOLUTION_PX)
    opened = ndimage.binary_opening(particles, np.ones((width, width)))
    if not opened.any() or particles.all() or opened.sum() < _OPENED_SHARE * particles.sum():
        return np.nan
    flat = _without_slope(completion)
    area = np.count_nonzero(flat > threshold_otsu(flat)) if np.ptp(flat) >= _LEAST_CONTRAST else 0
    return float(abs(area - particles.sum()) / particles.sum())


def _without_slope(picture: np.ndarray) -> np.ndarray:
    """The picture less the plane that fits its background, what is not above Otsu's threshold, best."""
    steps = np.linspace(-1.0, 1.0, len(picture))
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    terms = np.stack([np.ones_like(rows), rows, columns], axis=-1)
    flat = picture
    # What counts as background depends on the plane, and after a few turns no longer.
    for _ in range(_N_TURNS):
        if np.ptp(flat) < _LEAST_CONTRAST:
            break
        background = flat <= threshold_otsu(flat)
        slope, *_ = np.linalg.lstsq(terms[background], picture[background])
        flat = picture - terms @ slope
    return flat


def _is_bright(picture: np.ndarray, truth: Truth) -> bool:
    """Whether a picture rises with what its truth says is there, by the sign of their covariance."""
    background = 4.0 if len(truth.positions) else 12.0  # wider than an atom, or than a particle [px]
    expected = _expected(truth, len(picture))
    rise, wanted = (
        ndimage.gaussian_filter(values, 1.0) - ndimage.gaussian_filter(values, background)
        for values in (picture.astype(np.float64), expected)
    )
    return float(np.sum((rise - rise.mean()) * (wanted - wanted.mean()))) >= 0.0


def _expected(truth: Truth, image_size: int) -> np.ndarray:
    """What is bright in a dark field: mass at the atoms, or particles."""
    atoms, masses = _atoms(truth)
    if len(atoms) == 0:
        return (truth.masks.get("particles", np.zeros((image_size, image_size))) > 0).astype(np.float64)
    expected = np.zeros((image_size, image_size))
    inside = _within(atoms, image_size, 0.0)
    np.add.at(expected, tuple(np.rint(atoms[inside]).astype(np.int64).T), masses[inside])
    found: np.ndarray = ndimage.gaussian_filter(expected, 0.6 / truth.pixel_size)
    return found
