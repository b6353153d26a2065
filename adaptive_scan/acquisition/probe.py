"""Where the probe really is: scan jitter, drift of the specimen, and the lag of the scan coils."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from adaptive_scan.acquisition.exposure import Exposure, check_range
from adaptive_scan.acquisition.kernels import follow, oscillator, recur
from adaptive_scan.acquisition.models import Memory, ProbeModel, Visit
from adaptive_scan.errors import SettingError


@dataclass(frozen=True)
class ScanJitter(ProbeModel):
    """Correlated jitter of the probe, an Ornstein-Uhlenbeck process along rows and another one along columns.

    D_i = f_i D_{i-1} + s sqrt(1 - f_i^2) n_i with f_i = exp(-dwell_i / tau), D_0 = s n_0 and standard normal n_i: every
    D_i has standard deviation s, and the autocorrelation over a time t is exp(-t / tau). At equal dwell times this is
    the series of equation 41 (Lobato et al. 2023, "Scanning jitter distortion"), phi = f and sigma = s sqrt(1 - f^2),
    which the paper draws from [0, 0.7] and [0.0025, 0.8] Å.

    Attributes:
        deviation: Standard deviation s of the displacement along each axis [px], at least 0.
        correlation_time: Time tau after which the autocorrelation is 1/e [s], at least 0.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> ScanJitter.of_series(0.4, 0.6, dwell=1e-6).deviation
        0.5
    """

    deviation: float
    correlation_time: float = 0.0

    def __post_init__(self) -> None:
        check_range("deviation", self.deviation, 0.0, 1e6)
        check_range("correlation_time", self.correlation_time, 0.0, 1e6)

    @classmethod
    def of_series(cls, sigma: float, phi: float, dwell: float) -> ScanJitter:
        """The jitter that at this dwell time is the series of equation 41.

        Args:
            sigma: Standard deviation of the innovations a_i [px].
            phi: Correlation of neighbouring displacements, in [0, 1).
            dwell: Dwell time [s].

        Returns:
            The jitter.

        Raises:
            ValueError: If a number is out of its range.

        Example:
            >>> ScanJitter.of_series(1.0, 0.0, dwell=1e-6)
            ScanJitter(deviation=1.0, correlation_time=0.0)
        """
        if not 0.0 <= phi < 1.0:
            raise SettingError(f"phi: got {phi}; expected a number in [0, 1)")
        return cls(sigma / math.sqrt(1.0 - phi**2), -dwell / math.log(phi) if phi else 0.0)

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether there is no displacement."""
        return self.deviation == 0.0

    def begin(self, n_scans: int) -> Memory:
        """The last displacement of each scan [px], shape (n_scans, 2)."""
        return {"displacement": np.zeros((n_scans, 2))}

    def displace(self, positions: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """The positions, displaced."""
        factors = np.exp(-visit.dwell / self.correlation_time) if self.correlation_time else np.zeros_like(visit.dwell)
        scales = np.broadcast_to(np.sqrt(1.0 - factors**2), positions.shape[:2]).copy()
        # Nothing comes before the first displacement, so that it has the whole deviation by itself.
        scales[visit.begins, 0] = 1.0
        series = visit.normals(2)
        series *= self.deviation * scales[..., None]
        recur(factors, series, memory["displacement"])
        positions += series
        return positions


@dataclass(frozen=True)
class SpecimenDrift(ProbeModel):
    """Slow drift of the specimen: a constant velocity and a random walk.

    D(t) = v t + W(t), where W has independent increments of variance (diffusion^2 dt) along each axis; t is the time
    since the scan began. Against the specimen it is the probe that moves (on scan noise and drift: Jones and Nellist
    2013, Microsc. Microanal. 19, 1050).

    Attributes:
        speed: Speed |v| [px/s], at least 0.
        diffusion: Standard deviation of the walk after one second [px/sqrt(s)], at least 0.
        heading: Direction of v [rad], 0 along +row; None draws one for each scan.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> SpecimenDrift(speed=0.05)
        SpecimenDrift(speed=0.05, diffusion=0.0, heading=None)
    """

    speed: float = 0.0
    diffusion: float = 0.0
    heading: float | None = None

    def __post_init__(self) -> None:
        check_range("speed", self.speed, 0.0, 1e12)
        check_range("diffusion", self.diffusion, 0.0, 1e12)
        if self.heading is not None and not math.isfinite(self.heading):
            raise SettingError(f"heading: got {self.heading}; expected a finite angle [rad] or None")

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether nothing moves."""
        return self.speed == 0.0 and self.diffusion == 0.0

    def begin(self, n_scans: int) -> Memory:
        """The direction [rad], shape (n_scans, 1), and the last displacement [px], shape (n_scans, 2), of each scan."""
        return {"heading": np.zeros((n_scans, 1)), "displacement": np.zeros((n_scans, 2))}

    def displace(self, positions: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """The positions, displaced."""
        if len(visit.begins):
            drawn = 2.0 * math.pi * visit.uniforms(3)[visit.begins, 0, 2]
            memory["heading"][visit.begins, 0] = drawn if self.heading is None else self.heading
        heading = memory["heading"][:, None]
        dwell = np.broadcast_to(visit.dwell, positions.shape[:2])[..., None]
        series = self.speed * np.concatenate([np.cos(heading), np.sin(heading)], axis=2) * dwell
        if self.diffusion:
            series = series + self.diffusion * np.sqrt(dwell) * visit.normals(2)
        recur(np.ones((1, 1)), series, memory["displacement"])
        positions += series
        return positions


@dataclass(frozen=True)
class CoilLag(ProbeModel):
    """Scan coils of finite bandwidth: the probe follows the commanded path late, and cuts its turns.

    The command c runs straight from each position to the next, and the probe p follows it as a linear system,
    tau p' + p = c, or with a damping ratio zeta the oscillator p'' + 2 zeta w p' + w^2 p = w^2 c, w = 2 zeta / tau, of
    which the first is the limit of strong damping. Both lag by v tau on a straight line at constant velocity v, and the
    step response of the first is 1 - exp(-t / tau). A scan begins at rest at its first position. The solution between
    positions is exact, whatever the dwell time. Spirals of constant speed are distorted by it (Sang et al. 2016,
    doi:10.1038/srep43585).

    Attributes:
        time_constant: Lag tau [s], at least 0; the bandwidth of the first order is 1 / (2 pi tau).
        damping: Damping ratio zeta in [0.05, 100], below 1 for coils that overshoot; infinite for the first order.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> CoilLag(1e-6, damping=0.7)
        CoilLag(time_constant=1e-06, damping=0.7)
    """

    time_constant: float
    damping: float = math.inf

    def __post_init__(self) -> None:
        check_range("time_constant", self.time_constant, 0.0, 1e6)
        if self.damping != math.inf:
            check_range("damping", self.damping, 0.05, 100.0)

    def is_ideal(self, exposure: Exposure) -> bool:
        """Whether the probe is where it is sent at once."""
        return self.time_constant == 0.0

    def begin(self, n_scans: int) -> Memory:
        """Last command [px], distance from it [px] and velocity [px/s] of each scan, shape (n_scans, 2) each."""
        return {name: np.zeros((n_scans, 2)) for name in ("command", "error", "velocity")}

    def displace(self, positions: np.ndarray, visit: Visit, memory: Memory) -> np.ndarray:
        """The path that the probe takes."""
        memory["command"][visit.begins] = positions[visit.begins, 0]
        positions = np.ascontiguousarray(positions)
        steering = self._transitions(visit.dwell)
        states = memory["command"], memory["error"], memory["velocity"]
        follow(positions, steering, self.time_constant, visit.dwell, *states)
        return positions

    def _transitions(self, dwell: np.ndarray) -> np.ndarray:
        if self.damping != math.inf:
            return oscillator(2.0 * self.damping / self.time_constant, self.damping, dwell)
        transitions = np.zeros((*dwell.shape, 2, 2))
        transitions[..., 0, 0] = np.exp(-dwell / self.time_constant)
        return transitions
