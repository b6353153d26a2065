"""Instruments by name."""

from __future__ import annotations

from types import MappingProxyType

from adaptive_scan.acquisition.detector import (
    DetectorLag,
    Dropouts,
    FaultyReadings,
    Photomultiplier,
    PoissonCounting,
    Quantisation,
    ReadoutLag,
    Saturation,
    Zingers,
)
from adaptive_scan.acquisition.exposure import Exposure
from adaptive_scan.acquisition.instrument import Acquisition, Instrument, Memoryless
from adaptive_scan.acquisition.probe import CoilLag, ScanJitter, SpecimenDrift
from adaptive_scan.acquisition.timing import Timing
from adaptive_scan.errors import SettingError

# Why these numbers: docs/acquisition.md. A pixel is taken as 0.2 Å, and as 1 Å for beam-sensitive specimens.
INSTRUMENTS = MappingProxyType(
    {
        "ideal": Instrument(),
        "probe-corrected-200kv": Instrument(
            (
                CoilLag(1e-6),
                ScanJitter(deviation=0.15, correlation_time=1e-5),
                SpecimenDrift(speed=0.5, diffusion=0.1),
                DetectorLag(0.5e-6),
                PoissonCounting(),
                Photomultiplier(electronic=0.5),
                Saturation(1.5),
                Quantisation.of_bits(12, highest=1.5),
            ),
            Exposure(current=25.0, collected=0.1, dark=0.05),
            dwell=1e-5,
        ),
        "fast-scan": Instrument(
            (
                CoilLag(0.3e-6, damping=0.8),
                ScanJitter(deviation=0.3, correlation_time=1e-6),
                PoissonCounting(),
                Photomultiplier(electronic=0.5),
                DetectorLag(1e-6),
                ReadoutLag(0.2e-6, period=2e-6),
                Dropouts(0.001, length=8.0),
                Saturation(2.0),
                Quantisation.of_bits(8, highest=2.0),
            ),
            Exposure(current=150.0, collected=0.15, dark=0.05),
            dwell=0.2e-6,
            timing=Timing.of_lag(0.3e-6, flyback=1e-5),
        ),
        "low-dose": Instrument(
            (
                CoilLag(1e-6),
                ScanJitter(deviation=0.1, correlation_time=1e-5),
                SpecimenDrift(speed=5.0, diffusion=2.0),
                PoissonCounting(),
                Photomultiplier(electronic=0.2),
                FaultyReadings(dead=0.001),
                Zingers(0.0005),
                Saturation(2.0),
                Quantisation.of_bits(12, highest=2.0),
            ),
            Exposure(current=0.5, collected=0.2, dark=0.1),
            dwell=8e-6,
        ),
    }
)


def make_instrument(name: str) -> Instrument:
    """The instrument of that name.

    Args:
        name: One of `INSTRUMENTS`.

    Returns:
        The instrument.

    Raises:
        ValueError: If there is none of that name.

    Example:
        >>> make_instrument("ideal").is_ideal
        True
    """
    if name not in INSTRUMENTS:
        raise SettingError(f"acquisition: got {name!r}; expected an Instrument or one of {sorted(INSTRUMENTS)}")
    return INSTRUMENTS[name]


def as_instrument(acquisition: Instrument | Acquisition | str | None) -> Instrument:
    """The instrument that a setting means.

    Args:
        acquisition: An instrument, a preset's name, an `Acquisition`, or None for the ideal instrument.

    Returns:
        The instrument.

    Raises:
        TypeError: If it is none of these.
        ValueError: If there is no preset of that name.

    Example:
        >>> as_instrument("low-dose") is INSTRUMENTS["low-dose"]
        True
    """
    if acquisition is None:
        return INSTRUMENTS["ideal"]
    if isinstance(acquisition, str):
        return make_instrument(acquisition)
    if isinstance(acquisition, Instrument):
        return acquisition
    if isinstance(acquisition, Acquisition):
        return Memoryless(acquisition=acquisition)
    raise TypeError(f"acquisition: got {type(acquisition).__name__}; expected an Instrument or one's name")
