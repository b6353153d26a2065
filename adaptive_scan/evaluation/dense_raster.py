"""The other way to spend electrons: every pixel is measured, each with a share of the dose, and the noise is taken out.

A partial scan gives n positions N electrons each. A dense raster of the same total dose gives all S^2 pixels
``N n / S^2`` each. Which of the two is better is a question about noise; without counting statistics the raster would
be perfect at any dose and the comparison without meaning, so it is refused.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from adaptive_scan.acquisition import (
    Acquisition,
    Instrument,
    PoissonCounting,
    Quantisation,
    Saturation,
    ScanCosts,
    Zingers,
    as_instrument,
    scan_costs,
)
from adaptive_scan.acquisition.detector import FaultyReadings
from adaptive_scan.acquisition.models import Model
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.contenders import VALIDATION, instrument_seed
from adaptive_scan.evaluation.metrics import loss
from adaptive_scan.scans import sample

_ANSCOMBE = 3.0 / 8.0


def _gaussian(picture: np.ndarray, strength: float) -> np.ndarray:
    found: np.ndarray = ndimage.gaussian_filter(picture, strength)
    return found


def _total_variation(picture: np.ndarray, strength: float) -> np.ndarray:
    found: np.ndarray = denoise_tv_chambolle(picture, weight=strength)
    return found


def _non_local_means(picture: np.ndarray, strength: float) -> np.ndarray:
    found: np.ndarray = denoise_nl_means(picture, patch_size=5, patch_distance=7, h=strength, sigma=1.0, fast_mode=True)
    return found


DENOISERS: MappingProxyType[str, tuple[Callable[[np.ndarray, float], np.ndarray], tuple[float, ...]]] = (
    MappingProxyType(
        {
            "none": (lambda picture, strength: picture, (0.0,)),
            "gaussian": (_gaussian, (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.2)),
            "total_variation": (_total_variation, (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)),
            "non_local_means": (_non_local_means, (0.2, 0.4, 0.6, 0.8, 1.0, 1.4, 2.0, 2.8)),
        }
    )
)
"""Denoisers of pictures whose noise has a standard deviation of about 1, and the strengths that are tried.

The strength is the standard deviation in px of the Gaussian, the weight of total variation (A. Chambolle 2004,
doi:10.1023/B:JMIV.0000011325.36760.1e) and the filtering parameter h of non-local means (A. Buades, B. Coll and J.-M.
Morel 2005, doi:10.1109/CVPR.2005.38), both in standard deviations of the noise; the last two are scikit-image's.
"""


@dataclass(frozen=True)
class Denoiser:
    """A denoiser with its strength.

    Counts k are either made stable first, ``y = 2 sqrt(k + 3/8)``, which has a standard deviation of about 1 whatever
    the mean (F. J. Anscombe 1948, doi:10.1093/biomet/35.3-4.246), and brought back by the unbiased inverse in its
    closed form (M. Makitalo and A. Foi 2011, doi:10.1109/TIP.2011.2121085); or divided by the square root of their mean
    over the picture. With fewer than a few electrons per pixel no transform of single counts makes them stable.

    Attributes:
        method: A name of `DENOISERS`.
        strength: How much it takes out; its meaning is the method's.
        stabilised: Whether counts are made stable.

    Raises:
        SettingError: If the method is unknown, or the strength negative or not finite.

    Example:
        >>> counts = np.random.default_rng(0).poisson(30.0, (2, 16, 16)).astype(float)
        >>> bool(Denoiser("gaussian", 2.0)(counts).std() < 0.5 * counts.std())
        True
    """

    method: str = "none"
    strength: float = 0.0
    stabilised: bool = False

    def __post_init__(self) -> None:
        if self.method not in DENOISERS:
            raise SettingError(f"method: got {self.method!r}; expected one of {', '.join(DENOISERS)}")
        if not 0.0 <= self.strength < math.inf:
            raise SettingError(f"strength: got {self.strength}; expected a finite number of at least 0")

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Expected counts.

        Args:
            counts: Electrons of each pixel, not necessarily whole numbers, shape ``(n, S, S)``.

        Returns:
            Float64, the same shape.
        """
        denoise, _ = DENOISERS[self.method]
        pictures = np.asarray(counts, dtype=np.float64)
        if self.stabilised:
            stable = 2.0 * np.sqrt(np.maximum(pictures + _ANSCOMBE, 0.0))
            return _unstable(np.stack([denoise(picture, self.strength) for picture in stable]))
        scales = np.sqrt(np.maximum(pictures.mean(axis=(1, 2)), 1e-3))
        pairs = zip(pictures, scales, strict=True)
        return np.stack([scale * denoise(picture / scale, self.strength) for picture, scale in pairs])


def _unstable(stable: np.ndarray) -> np.ndarray:
    """Mean counts of which the mean of ``2 sqrt(k + 3/8)`` is given."""
    # At no counts the mean is 2 sqrt(3/8), below which the closed form has no meaning.
    d = np.maximum(stable, 2.0 * math.sqrt(_ANSCOMBE))
    root = math.sqrt(1.5)
    found: np.ndarray = np.maximum(d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8, 0.0)
    return found


def diluted(instrument: Instrument, share: float) -> Instrument:
    """The same instrument with a share of the beam current: the same dwell time, and fewer electrons in it.

    What the detector adds or does at a level of its own keeps it in electrons, and so grows as a share of the full
    scale: saturation, the steps of the converter, zingers and hot readings.

    Args:
        instrument: The instrument.
        share: Electrons per position over those of the instrument, in (0, 1].

    Returns:
        The instrument with less current.

    Raises:
        SettingError: If the share is out of its range, or the instrument has no counting statistics.

    Example:
        >>> from adaptive_scan.acquisition import make_instrument
        >>> round(float(diluted(make_instrument("low-dose"), 0.25).exposure.current), 6)
        0.125
    """
    if not 0.0 < share <= 1.0:
        raise SettingError(f"share: got {share}; expected a number in (0, 1]")
    counts = any(isinstance(model, PoissonCounting) for model in instrument.models)
    if not counts or math.isinf(instrument.exposure.current):
        raise SettingError(
            "acquisition: got an instrument without counting noise, with which every pixel is measured perfectly at any"
            " dose; expected one with a finite current and PoissonCounting, such as 'low-dose', for a dense raster"
        )
    exposure = dataclasses.replace(instrument.exposure, current=share * instrument.exposure.current)
    # One electron may be more than the full scale now, and clipping it would darken the picture.
    low, high = instrument.exposure.values(instrument.exposure.intensities(np.array(instrument.limits)) / share)
    limits = (min(float(low), instrument.limits[0]), max(float(high), instrument.limits[1]))
    models = tuple(_at_share(model, share) for model in instrument.models)
    return dataclasses.replace(instrument, models=models, exposure=exposure, limits=limits)


def _at_share(model: Model, share: float) -> Model:
    if isinstance(model, Saturation | FaultyReadings):
        return dataclasses.replace(model, level=model.level / share)
    if isinstance(model, Quantisation):
        return dataclasses.replace(model, step=model.step / share)
    if isinstance(model, Zingers):
        return dataclasses.replace(model, brightness=model.brightness / share)
    return model


@dataclass(frozen=True)
class DenseRaster:
    """A raster over all pixels with the total dose of a partial scan, denoised.

    The rows are scanned forwards and backwards in turn, so that the probe never jumps. The dwell time stays and the
    current falls, which spares the raster the lags that S^2 / n times shorter dwell times would bring; it takes that
    much longer instead, as `costs` says.

    Attributes:
        instrument: The instrument as the partial scans have it, or a preset's name.
        n_positions: Positions of the partial scans, whose electrons are shared out.
        denoiser: What takes out the noise.

    Raises:
        SettingError: If ``n_positions`` is not positive, or the instrument has no counting statistics.

    Example:
        >>> raster = DenseRaster("probe-corrected-200kv", 100, Denoiser("gaussian", 1.0))
        >>> raster.scan(np.zeros((2, 32, 32), np.float32), seed=0).shape
        (2, 32, 32)
        >>> float(raster.costs(32).electrons[0] / scan_costs(np.zeros((1, 100, 2)), raster.instrument).electrons[0])
        1.0
    """

    instrument: Instrument | Acquisition | str
    n_positions: int
    denoiser: Denoiser = Denoiser()

    def __post_init__(self) -> None:
        if self.n_positions < 1:
            raise SettingError(f"n_positions: got {self.n_positions}; expected at least 1")
        object.__setattr__(self, "instrument", as_instrument(self.instrument))
        diluted(as_instrument(self.instrument), 1.0)

    def scan(self, crops: np.ndarray, seed: int = 0, *, first_crop: int = 0) -> np.ndarray:
        """Measure every pixel of crops, and denoise.

        Args:
            crops: Shape ``(n, S, S)``, in [-1, 1].
            seed: Of the instrument.
            first_crop: Index of the first of these crops among all that are compared, which is part of the seed.

        Returns:
            Completions, float32, shape ``(n, S, S)``, in [-1, 1].

        Raises:
            SettingError: If there are fewer pixels than positions.
        """
        instrument = self.instrument_at(crops.shape[-1])
        counts = _counts(instrument, self.measure(crops, seed, first_crop=first_crop))
        return _as_values(instrument, self.denoiser(counts))

    def measure(self, crops: np.ndarray, seed: int = 0, *, first_crop: int = 0, stream: int = 0) -> np.ndarray:
        """What is measured before it is denoised; arguments as in `scan`.

        Args:
            crops: As there.
            seed: As there.
            first_crop: As there.
            stream: Which random numbers of the seed, as in `adaptive_scan.evaluation.contenders.measure`.

        Returns:
            Values on the scale of the crops, seldom within [-1, 1], float32, shape ``(n, S, S)``.
        """
        n, size = len(crops), crops.shape[-1]
        instrument, path = self.instrument_at(size), _serpentine(size)
        state = instrument.begin(n, np.random.default_rng(instrument_seed(seed, first_crop, stream)))
        positions = np.broadcast_to(path, (n, *path.shape))
        reading = instrument.measure(positions, lambda displaced: sample(crops, displaced), state)
        pictures = np.empty((n, size, size), np.float32)
        rows, columns = path.astype(np.int64).T
        pictures[:, rows, columns] = reading.values
        return pictures

    def costs(self, image_size: int, n_scans: int = 1) -> ScanCosts:
        """What the raster costs: the electrons of the partial scan, and S^2 / n times its dwell times.

        Args:
            image_size: Side S of the crops [px].
            n_scans: Number of scans.

        Returns:
            The costs, shape ``(n_scans,)`` each.

        Raises:
            SettingError: If there are fewer pixels than positions.
        """
        path = _serpentine(image_size)
        return scan_costs(np.broadcast_to(path, (n_scans, *path.shape)), self.instrument_at(image_size))

    def instrument_at(self, image_size: int) -> Instrument:
        """The instrument with the current that shares the electrons out over all pixels.

        Args:
            image_size: Side S of the crops [px].

        Returns:
            The instrument.

        Raises:
            SettingError: If there are fewer pixels than positions.
        """
        share = self.n_positions / image_size**2
        if share > 1.0:
            raise SettingError(
                f"n_positions: got {self.n_positions} for crops of {image_size} x {image_size} px; expected at most one"
                " position per pixel"
            )
        return diluted(as_instrument(self.instrument), share)


def _serpentine(size: int) -> np.ndarray:
    """All pixels, row by row, forwards and backwards, float32, shape ``(S^2, 2)``."""
    rows, columns = np.indices((size, size), dtype=np.float32)
    columns[1::2] = columns[1::2, ::-1]
    return np.stack([rows, columns], axis=-1).reshape(-1, 2)


def _counts(instrument: Instrument, values: np.ndarray) -> np.ndarray:
    """Electrons that stand for values."""
    return instrument.exposure.intensities(values) * float(instrument.exposure.electrons(instrument.dwell))


def _as_values(instrument: Instrument, counts: np.ndarray) -> np.ndarray:
    intensities = counts / float(instrument.exposure.electrons(instrument.dwell))
    found: np.ndarray = np.clip(instrument.exposure.values(intensities), -1.0, 1.0).astype(np.float32)
    return found


class Tuning(NamedTuple):
    """The best denoiser and the losses of all.

    Attributes:
        denoiser: That of the lowest mean loss.
        losses: Mean loss of each that was tried.
    """

    denoiser: Denoiser
    losses: dict[Denoiser, float]


def tune_denoiser(
    crops: np.ndarray,
    targets: np.ndarray,
    instrument: Instrument | Acquisition | str,
    n_positions: int,
    *,
    seed: int = 0,
    methods: Sequence[str] | None = None,
) -> Tuning:
    """The denoiser and the strength that are best on crops which nothing else is judged on.

    Each method of `DENOISERS` is tried with all of its strengths, with and without stabilised counts, on one
    measurement of each crop.

    Args:
        crops: Validation crops, shape ``(n, S, S)``, in [-1, 1], at least one.
        targets: What completions are compared with, the same shape.
        instrument: The instrument of the partial scans, or a preset's name.
        n_positions: Positions of the partial scans.
        seed: Of the instrument, whose faults are those of validation, not those that a comparison meets.
        methods: Names of `DENOISERS`; all by default.

    Returns:
        The best denoiser and the mean losses of all.

    Raises:
        ValueError: If the instrument has no counting statistics, a method is unknown, there are no crops, or the shapes
            differ.

    Example:
        >>> crops = np.sin(np.arange(24.0) / 3)[None, :, None] * np.ones((2, 24, 24))
        >>> tune_denoiser(crops, crops, "low-dose", 64, methods=["none", "gaussian"]).denoiser.method
        'gaussian'
    """
    if crops.shape != targets.shape or len(crops) == 0:
        raise ValueError(f"got crops {crops.shape} and targets {targets.shape}; expected the same, at least one crop")
    raster = DenseRaster(instrument, n_positions)
    exposed = raster.instrument_at(crops.shape[-1])
    counts = _counts(exposed, raster.measure(crops, seed, stream=VALIDATION))
    losses: dict[Denoiser, float] = {}
    for denoiser in _candidates(list(DENOISERS) if methods is None else methods):
        losses[denoiser] = float(np.mean(loss(_as_values(exposed, denoiser(counts)), targets)))
    return Tuning(min(losses, key=lambda each: losses[each]), losses)


def _candidates(methods: Sequence[str]) -> list[Denoiser]:
    candidates = []
    for method in methods:
        strengths = DENOISERS[method][1] if method in DENOISERS else (0.0,)  # which Denoiser refuses by name
        # With nothing done in between, there and back again only adds a bias.
        kinds = (False,) if method == "none" else (False, True)
        candidates += [Denoiser(method, strength, stabilised) for strength in strengths for stabilised in kinds]
    return candidates
