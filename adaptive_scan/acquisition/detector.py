"""What is read: counting, photomultiplier, lags, dropouts, faulty readings, saturation and quantisation.

All work on intensities x as shares of the full scale, as `adaptive_scan.acquisition.Exposure` defines it. Equation
numbers are those of Lobato, Friedrich and Van Aert, "Deep convolutional neural networks to restore single-shot electron
microscopy images" (2023), section "S(T)EM noise model".
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import numpy as np

from adaptive_scan.acquisition.draws import poisson_counts
from adaptive_scan.acquisition.exposure import Exposure, check_range
from adaptive_scan.acquisition.kernels import drop_out, recur, smear
from adaptive_scan.acquisition.models import DetectorModel, Memory, Visit
from adaptive_scan.errors import SettingError


@dataclass(frozen=True)
class PoissonCounting(DetectorModel):
    """Electrons arrive one by one: x <- Poisson(N x) / N, with N the electrons at full scale (equation 45).

    The mean is x and the variance x / N. Without a limit of the dose, N infinite, nothing changes.

    Example:
        >>> PoissonCounting().is_ideal(Exposure())
        True
    """

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether the current is infinite."""
        return math.isinf(exposure.current)

    def detect(self, intensities: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """Counts, as shares of the full scale."""
        result: np.ndarray = poisson_counts(intensities * visit.electrons, visit.keys, visit.n_before) / visit.electrons
        return result


@dataclass(frozen=True)
class Photomultiplier(DetectorModel):
    """Spread of the pulses of scintillator and photomultiplier, and noise of the electronics (equations 43 to 46).

    One electron brings m photons, each of them a photoelectron with efficiency eta; each dynode multiplies by delta.
    The pulse's standard deviation as a share of its mean m eta G is equation 44,
    s = sqrt((1 - eta + 1 / (delta - 1)) / (m eta) + photon_variance / m^2), and its full width at half maximum is
    equation 43, 2 sqrt(2 ln 2) s. The pulses of k electrons are independent and add:
    x <- x + sqrt(s^2 max(x, 0) N + r^2) n / N, with r the noise of the electronics [electrons] and n standard normal.
    Equation 46 as printed has one width for any number of electrons; that is the noise r.

    Attributes:
        photons: Photons m that one electron sends to the photocathode, above 0; the paper says about 100.
        efficiency: Quantum efficiency eta, in (0, 1].
        gain: Gain delta of a dynode, above 1.
        photon_variance: Variance of the number of photons; None for that of a Poisson number, m.
        electronic: Root mean square noise r of the electronics [electrons], at least 0.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> round(Photomultiplier().spread, 4)
        0.2236
    """

    photons: float = 100.0
    efficiency: float = 0.25
    gain: float = 5.0
    photon_variance: float | None = None
    electronic: float = 0.0

    def __post_init__(self) -> None:
        check_range("photons", self.photons, 0.0, 1e9, above=True)
        check_range("efficiency", self.efficiency, 0.0, 1.0, above=True)
        check_range("gain", self.gain, 1.0, 1e9, above=True)
        check_range("photon_variance", self.photon_variance or 0.0, 0.0, 1e18)
        check_range("electronic", self.electronic, 0.0, 1e9)

    @property
    def spread(self) -> float:
        """Standard deviation s of one electron's pulse as a share of its mean (equation 44)."""
        variance = self.photons if self.photon_variance is None else self.photon_variance
        cascade = (1.0 - self.efficiency + 1.0 / (self.gain - 1.0)) / (self.photons * self.efficiency)
        return math.sqrt(cascade + variance / self.photons**2)

    @property
    def width(self) -> float:
        """Full width at half maximum of one electron's pulse as a share of its mean (equation 43)."""
        return 2.0 * math.sqrt(2.0 * math.log(2.0)) * self.spread

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether the current is infinite, so that the pulses of many electrons have averaged."""
        return math.isinf(exposure.current)

    def detect(self, intensities: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """Intensities with the noise of the pulses."""
        counts = np.maximum(intensities, 0.0) * visit.electrons
        deviations = np.sqrt(self.spread**2 * counts + self.electronic**2) / visit.electrons
        result: np.ndarray = intensities + deviations * visit.normals()[..., 0]
        return result


@dataclass(frozen=True)
class DetectorLag(DetectorModel):
    """The slow decay of the scintillator: a reading is a weighted mean of the last ones (equations 47 and 48).

    The weights are w(u) ~ 1 / (4 pi^2 u^2 + alpha^2) with u the time since each reading; they are made to sum to 1 over
    the readings that are remembered. The paper has u in pixels of the fast-scan direction; here it runs along the path,
    whatever its shape. Before a scan the probe has rested at its first position.

    Attributes:
        alpha: Width [s], at least 0; the weight is half at u = alpha / (2 pi).
        n_remembered: Number of readings that are averaged, at least 2.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> DetectorLag(1e-6)
        DetectorLag(alpha=1e-06, n_remembered=16)
    """

    alpha: float
    n_remembered: int = 16

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, 0.0, 1e6)
        check_range("n_remembered", self.n_remembered, 2, 10_000)

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether a reading has no memory."""
        return self.alpha == 0.0

    def begin(self, n_scans: int) -> Memory:
        """The last intensities and their times [s] of each scan, shape (n_scans, n_remembered - 1) each."""
        return {name: np.zeros((n_scans, self.n_remembered - 1)) for name in ("intensities", "times")}

    def detect(self, intensities: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """Intensities smeared along the path."""
        if len(visit.begins):
            rest = np.broadcast_to(visit.dwell, intensities.shape)[visit.begins, :1]
            memory["intensities"][visit.begins] = intensities[visit.begins, :1]
            memory["times"][visit.begins] = -rest * np.arange(self.n_remembered - 2, -1, -1)
        intensities = np.ascontiguousarray(intensities)
        past, times = memory["intensities"], memory["times"]
        smear(intensities, visit.dwell, self.alpha / (2.0 * math.pi), past, times, self.n_remembered)
        return intensities


@dataclass(frozen=True)
class ReadoutLag(DetectorModel):
    """The read-out electronics as a damped oscillator along the path (equations 47, 49 and 50).

    y(t) is the integral of w(u) x(t - u) with w(u) ~ exp(-u / beta) sin(2 pi u / gamma + theta), each intensity lasting
    for its dwell time. With r = 1 / beta - 2 pi i / gamma and f_i = exp(-r dwell_i) that is a recurrence, exact for any
    dwell times and without an end to the memory: z_i = f_i z_{i-1} + (1 - f_i) x_i and y_i = Im(c z_i) / Im(c) with
    c = exp(i theta) / r. Im(c) is the integral of w. Equation 50 as printed is this integral and not its inverse,
    and has 4 pi where it should have 2 pi. With gamma infinite and theta = pi/2 the lag is of first order. Before a
    scan the probe has rested at its first position.

    Attributes:
        decay: Decay time beta [s], at least 0.
        period: Period gamma [s], above 0.
        phase: Phase theta [rad], in [0, pi/2].

    Raises:
        ValueError: If a number is out of its range, or both the period is infinite and the phase 0.

    Example:
        >>> ReadoutLag(1e-6).period
        inf
    """

    decay: float
    period: float = math.inf
    phase: float = math.pi / 2.0

    def __post_init__(self) -> None:
        check_range("decay", self.decay, 0.0, 1e6)
        check_range("period", self.period, 0.0, math.inf, above=True)
        check_range("phase", self.phase, 0.0, math.pi / 2.0, above=math.isinf(self.period))

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether a reading has no memory."""
        return self.decay == 0.0

    def begin(self, n_scans: int) -> Memory:
        """Real and imaginary part of z of each scan, shape (n_scans, 2)."""
        return {"phasor": np.zeros((n_scans, 2))}

    def detect(self, intensities: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """Intensities smeared along the path."""
        rate = 1.0 / self.decay - 2j * math.pi / self.period
        factors = np.exp(-rate * visit.dwell)
        series = ((1.0 - factors) * intensities)[..., None]
        last = memory["phasor"][:, :1] + 1j * memory["phasor"][:, 1:]
        last[visit.begins] = intensities[visit.begins, :1]
        recur(factors, series, last)
        memory["phasor"][:, :1], memory["phasor"][:, 1:] = last.real, last.imag
        turn = cmath.exp(1j * self.phase) / rate
        result: np.ndarray = (turn.imag * series.real + turn.real * series.imag)[..., 0] / turn.imag
        return result


@dataclass(frozen=True)
class Dropouts(DetectorModel):
    """Stretches of the path where the detector does not respond (row-line noise, equation 51).

    A stretch begins at a position with a given probability and has a random length, geometric with a given mean. Its
    readings become its mean intensity times one factor, uniform between bounds. The mean is that of the stretch so far,
    because later values are not known when the earlier ones are read; at its end it is the paper's.

    Attributes:
        probability: Of a stretch to begin at a position outside one, in [0, 1].
        length: Mean length [positions], at least 1.
        factors: Lowest and highest factor; the paper's are 0.5 and 1.5.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> Dropouts(0.01).length
        8.0
    """

    probability: float
    length: float = 8.0
    factors: tuple[float, float] = (0.5, 1.5)

    def __post_init__(self) -> None:
        check_range("probability", self.probability, 0.0, 1.0)
        check_range("length", self.length, 1.0, 1e9)
        low, high = self.factors
        if not 0.0 <= low <= high < math.inf:
            raise SettingError(f"factors: got {self.factors}; expected 0 <= lowest <= highest")

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether there are none."""
        return self.probability == 0.0

    def begin(self, n_scans: int) -> Memory:
        """Length so far, sum of intensities and factor of the present stretch of each scan, shape (n_scans, 3)."""
        return {"stretch": np.zeros((n_scans, 3))}

    def detect(self, intensities: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """Intensities with stretches replaced."""
        intensities = np.ascontiguousarray(intensities)
        factors = (float(self.factors[0]), float(self.factors[1]))
        drop_out(intensities, visit.uniforms(3), self.probability, 1.0 / self.length, factors, memory["stretch"])
        return intensities


@dataclass(frozen=True)
class FaultyReadings(DetectorModel):
    """Single readings that are dead or hot: x <- S x with S = 0 (black pixels, equation 52), or x <- a high level.

    Attributes:
        dead: Probability of a dead reading, in [0, 1].
        hot: Probability of a hot reading; ``dead + hot`` is at most 1.
        level: What a hot reading shows, as a share of the full scale.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> FaultyReadings(dead=0.01, hot=0.002)
        FaultyReadings(dead=0.01, hot=0.002, level=1.0)
    """

    dead: float = 0.0
    hot: float = 0.0
    level: float = 1.0

    def __post_init__(self) -> None:
        check_range("dead", self.dead, 0.0, 1.0)
        check_range("hot", self.hot, 0.0, 1.0 - self.dead)
        check_range("level", self.level, 0.0, 1e6)

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether there are none."""
        return self.dead == 0.0 and self.hot == 0.0

    def detect(self, intensities: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """Intensities, some of them replaced."""
        numbers = visit.uniforms()[..., 0]
        intensities[numbers < self.dead] = 0.0
        intensities[(numbers >= self.dead) & (numbers < self.dead + self.hot)] = self.level
        return intensities


@dataclass(frozen=True)
class Zingers(DetectorModel):
    """Bursts of light from X-rays and cosmic rays in the scintillator (equation 53).

    x <- x + b with an exponential b at random positions. The paper multiplies by a mask of sensitivity; a burst needs
    no bright specimen, so here it adds.

    Attributes:
        probability: Of a burst at a position, in [0, 1].
        brightness: Mean of b as a share of the full scale, at least 0.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> Zingers(1e-3).brightness
        2.0
    """

    probability: float
    brightness: float = 2.0

    def __post_init__(self) -> None:
        check_range("probability", self.probability, 0.0, 1.0)
        check_range("brightness", self.brightness, 0.0, 1e6)

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether there are none."""
        return self.probability == 0.0 or self.brightness == 0.0

    def detect(self, intensities: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """Intensities with bursts."""
        numbers = visit.uniforms(2)
        hit = numbers[..., 0] < self.probability
        intensities[hit] -= self.brightness * np.log1p(-numbers[hit, 1])
        return intensities


@dataclass(frozen=True)
class Saturation(DetectorModel):
    """The converter's highest input: x <- min(x, level) (upper clip, equation 54).

    Attributes:
        level: Highest intensity T_u as a share of the full scale, above 0; infinite for none.

    Raises:
        ValueError: If the level is not positive.

    Example:
        >>> Saturation(1.2)
        Saturation(level=1.2)
    """

    level: float

    def __post_init__(self) -> None:
        check_range("level", self.level, 0.0, math.inf, above=True)

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether there is no highest input."""
        return math.isinf(self.level)

    def detect(self, intensities: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """Clipped intensities."""
        result: np.ndarray = np.minimum(intensities, self.level)
        return result


@dataclass(frozen=True)
class Quantisation(DetectorModel):
    """The converter's steps: x <- q round(x / q) (equation 55, whose gain alpha is 1 / q).

    The error of a signal spread over many steps is uniform, with variance q^2 / 12.

    Attributes:
        step: Step q as a share of the full scale, at least 0.

    Raises:
        ValueError: If the step is negative or not finite.

    Example:
        >>> Quantisation.of_bits(8, highest=1.0).step == 1 / 255
        True
    """

    step: float

    def __post_init__(self) -> None:
        check_range("step", self.step, 0.0, 1e6)

    @classmethod
    def of_bits(cls, n_bits: int, highest: float = 2.0) -> Quantisation:
        """The converter whose 2^n_bits levels span intensities from 0 to ``highest``.

        Raises:
            ValueError: If a number is out of its range.

        Example:
            >>> Quantisation.of_bits(1)
            Quantisation(step=2.0)
        """
        check_range("n_bits", n_bits, 1, 64)
        return cls(highest / (2**n_bits - 1))

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether there are no steps."""
        return self.step == 0.0

    def detect(self, intensities: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """Rounded intensities."""
        return self.step * np.rint(intensities / self.step)


@dataclass(frozen=True)
class DurationNoise(DetectorModel):
    """Noise that grows where the probe stays for less than a full dwell time: x <- x (F + (1 - F) U).

    F = min(dwell / full_dwell, 1), and U is uniform on [0, 2): the mean is x and the standard deviation
    x (1 - F) / sqrt(3). It is the noise of partial STEM's blurred paths (Ede and Beanland 2020,
    doi:10.1038/s41598-020-65261-0), chosen by its authors for simplicity and not from physics.

    Attributes:
        full_dwell: Dwell time without noise [s], at least 0.

    Raises:
        ValueError: If the time is negative or not finite.

    Example:
        >>> DurationNoise(1e-5)
        DurationNoise(full_dwell=1e-05)
    """

    full_dwell: float

    def __post_init__(self) -> None:
        check_range("full_dwell", self.full_dwell, 0.0, 1e6)

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether every dwell time is long enough."""
        return self.full_dwell == 0.0

    def detect(self, intensities: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """Noisy intensities."""
        share = np.minimum(visit.dwell / self.full_dwell, 1.0)
        result: np.ndarray = intensities * (share + (1.0 - share) * 2.0 * visit.uniforms()[..., 0])
        return result
