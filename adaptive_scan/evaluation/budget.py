"""Equal budgets: what a scan may spend, and the refusal, with all figures, of one that spends something else.

The dose is what scans are compared at, so it has to be equal: as many positions, and as many electrons, no more and no
less. Time and length of the path are limits. What a scan measures for its dose, distinct pixels and its largest turn,
is no part of a budget, but stands beside it wherever a scan is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from adaptive_scan.acquisition import Acquisition, Instrument, ScanCosts, as_instrument, scan_costs
from adaptive_scan.errors import SettingError
from adaptive_scan.scans import coverage

_TOLERANCE = 1e-6  # relative: sums of dwell times and of float32 positions


class BudgetError(SettingError):
    """A scan does not keep to its budget; the message is one line with all its figures beside the budget's."""


@dataclass(frozen=True)
class Budget:
    """What each scan of a comparison spends.

    Attributes:
        n_positions: Probing positions, exactly.
        electrons: Electrons of the beam on the specimen, up to rounding; infinite where the instrument knows no limit
            of the dose. None leaves them to the positions.
        scan_time: Longest time of a scan, flybacks and settling included [s]; None for no limit.
        path_length: Longest path, jumps included [px]; None for no limit.

    Raises:
        SettingError: If the number of positions is not a positive integer, or another figure is not positive.

    Example:
        >>> budget = Budget(3, path_length=2.0)
        >>> budget.check("line", [[[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]]], image_size=8)
        >>> budget.check("long", [[[0.0, 0.0], [0.0, 1.0], [0.0, 5.0]]], image_size=8)
        Traceback (most recent call last):
        ...
        adaptive_scan.evaluation.budget.BudgetError: scan 'long' spends 5 px of path length; expected at most 2 px: \
positions 3 (budget 3), electrons inf (no limit), distinct pixels 3 (no limit), path length 5 px (budget 2 px), \
scan time 3e-06 s (no limit), largest turn 0 rad (no limit), in scan 0 of 1
    """

    n_positions: int
    electrons: float | None = None
    scan_time: float | None = None
    path_length: float | None = None

    def __post_init__(self) -> None:
        count = self.n_positions
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise SettingError(f"n_positions: got {count!r}; expected a positive integer")
        for name in ("electrons", "scan_time", "path_length"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingError(f"{name}: got {value!r}; expected a positive number or None")

    @classmethod
    def of_instrument(cls, n_positions: int, acquisition: Instrument | Acquisition | str | None = None) -> Budget:
        """The dose of so many positions at the dwell time of an instrument, without other limits.

        Args:
            n_positions: Probing positions.
            acquisition: The instrument or a preset's name; None is the ideal one, whose electrons have no limit.

        Example:
            >>> Budget.of_instrument(400).electrons
            inf
        """
        instrument = as_instrument(acquisition)
        return cls(n_positions, electrons=float(instrument.exposure.incident(_dwelt(n_positions, instrument))))

    @classmethod
    def within(
        cls,
        n_positions: int,
        acquisition: Instrument | Acquisition | str | None = None,
        *,
        electrons: float | None = None,
        scan_time: float | None = None,
        path_length: float | None = None,
    ) -> Budget:
        """The dose of so many positions at the dwell time of an instrument, within upper bounds.

        Args:
            n_positions: Probing positions.
            acquisition: The instrument or a preset's name; None is the ideal one.
            electrons: Most electrons; each scan spends those of its dose all the same, no fewer.
            scan_time: Longest time of a scan [s].
            path_length: Longest path [px].

        Raises:
            SettingError: If no scan of that dose can keep to a bound.

        Example:
            >>> Budget.within(400, "low-dose", scan_time=1e-9)  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ...
            adaptive_scan.errors.SettingError: scan_time: got 1e-09 s; expected at least 0.0032 s, for which...
        """
        budget = replace(cls.of_instrument(n_positions, acquisition), scan_time=scan_time, path_length=path_length)
        spent = math.inf if budget.electrons is None else budget.electrons
        if electrons is not None and not spent <= electrons * (1.0 + _TOLERANCE):
            raise SettingError(f"electrons: got {electrons:.7g}; expected at least {spent:.7g}, those of the dose")
        dwelt = _dwelt(n_positions, as_instrument(acquisition))
        if scan_time is not None and dwelt > scan_time * (1.0 + _TOLERANCE):
            raise SettingError(
                f"scan_time: got {scan_time:.6g} s; expected at least {dwelt:.6g} s, for which the probe dwells"
            )
        return budget

    def check(
        self,
        name: str,
        positions: ArrayLike,
        acquisition: Instrument | Acquisition | str | None = None,
        *,
        image_size: int,
        dwell: ArrayLike | None = None,
    ) -> None:
        """Refuse scans that do not keep to the budget.

        Args:
            name: What the scan is called.
            positions: Positions where the probe was sent [px], shape (n_scans, ..., 2); the axes between are read in
                order.
            acquisition: The instrument, or a preset's name, whose dwell time, exposure and timing count; None is the
                ideal one.
            image_size: Side S of the field [px].
            dwell: Dwell times [s], broadcast to (n_scans, n_positions); None for the instrument's.

        Raises:
            BudgetError: If a scan has more or fewer positions or electrons than the budget, takes longer, goes further,
                or has a position that is not finite; all figures of the scan that is furthest off are named.
            ValueError: If the positions have another shape.
        """
        paths = np.asarray(positions, dtype=np.float64)
        if paths.ndim < 3 or paths.shape[-1] != 2 or paths.size == 0:
            raise ValueError(f"scan {name!r} has positions of shape {paths.shape}; expected (n_scans, n_positions, 2)")
        paths = paths.reshape(len(paths), -1, 2)
        unusable = ~np.isfinite(paths).all(axis=(1, 2))
        if unusable.any():
            found = f"{int(unusable.sum())} of {len(paths)} scans with positions that are not finite"
            raise BudgetError(f"scan {name!r} has {found}; expected (row, column) in px")
        n_pixels = np.rint(coverage(paths, image_size).astype(np.float64) * image_size**2)
        self.check_costs(name, scan_costs(paths, acquisition, dwell), n_pixels)

    def check_costs(self, name: str, costs: ScanCosts, n_pixels: ArrayLike) -> None:
        """Refuse scans that do not keep to the budget, where what they cost is known.

        Args:
            name: What the scan is called.
            costs: What it costs, of n_scans scans.
            n_pixels: Distinct pixels that it measures, broadcast to (n_scans,).

        Raises:
            BudgetError: As `check`.
        """
        refusal = self._refusal(costs)
        if refusal is not None:
            scan, what = refusal
            n_scans = len(costs.n_positions)
            figures = self._figures(costs, scan, int(np.broadcast_to(n_pixels, (n_scans,))[scan]))
            raise BudgetError(f"scan {name!r} spends {what}: {figures}, in scan {scan} of {n_scans}")

    def check_raster(self, name: str, costs: ScanCosts, image_size: int) -> None:
        """Refuse a raster over all pixels unless it keeps to the budget in all but the number of its positions.

        Args:
            name: What the raster is called.
            costs: What it costs.
            image_size: Side S of the field [px].

        Raises:
            BudgetError: As `check`, with a budget of S^2 positions.
        """
        n_pixels = image_size**2
        replace(self, n_positions=n_pixels).check_costs(name, costs, n_pixels)

    def _refusal(self, costs: ScanCosts) -> tuple[int, str] | None:
        """The scan that is furthest off in the first figure that does not fit, and what it spends; None if all fit."""
        if (found := int(costs.n_positions[0])) != self.n_positions:
            return 0, f"{found} positions; expected exactly {self.n_positions}"
        if self.electrons is not None:
            excess = _excess(costs.electrons, self.electrons, both_ways=True)
            if excess[worst := int(np.argmax(excess))] > _TOLERANCE:
                return worst, f"{costs.electrons[worst]:.7g} electrons; expected exactly {self.electrons:.7g}"
        if self.scan_time is not None and (scan := _beyond(costs.time, self.scan_time)) is not None:
            return scan, f"{costs.time[scan]:.6g} s of scan time; expected at most {self.scan_time:.6g} s"
        if self.path_length is not None and (scan := _beyond(costs.path_length, self.path_length)) is not None:
            return scan, f"{costs.path_length[scan]:.6g} px of path length; expected at most {self.path_length:.6g} px"
        return None

    def _figures(self, costs: ScanCosts, scan: int, n_pixels: int) -> str:
        """All figures of one scan with the budget's beside them."""
        rows: tuple[tuple[str, float, float | None, str], ...] = (
            ("positions", costs.n_positions[scan], self.n_positions, ""),
            ("electrons", costs.electrons[scan], self.electrons, ""),
            ("distinct pixels", n_pixels, None, ""),
            ("path length", costs.path_length[scan], self.path_length, " px"),
            ("scan time", costs.time[scan], self.scan_time, " s"),
            ("largest turn", costs.largest_turn[scan], None, " rad"),
        )
        parts = []
        for what, spent, limit, unit in rows:
            allowed = "no limit" if limit is None else f"budget {limit:.7g}{unit}"
            parts.append(f"{what} {spent:.7g}{unit} ({allowed})")
        return ", ".join(parts)


def _dwelt(n_positions: int, instrument: Instrument) -> float:
    """Dwell times of so many positions together [s]."""
    return float(np.broadcast_to(np.asarray(instrument.dwell, dtype=np.float64), (n_positions,)).sum())


def _beyond(spent: np.ndarray, limit: float) -> int | None:
    """The scan that spends most, where that is beyond the limit."""
    worst = int(np.argmax(spent))
    return worst if _excess(spent, limit)[worst] > _TOLERANCE else None


def _excess(spent: np.ndarray, allowed: float, *, both_ways: bool = False) -> np.ndarray:
    """What is spent beyond what is allowed, as a share of it; what is spent short of it counts as well, if asked."""
    if math.isinf(allowed):
        # Nothing exceeds infinity; a dose that is not infinite is short of it.
        return np.where(np.isinf(spent) | (not both_ways), 0.0, np.inf)
    excess = spent / allowed - 1.0
    return np.abs(excess) if both_ways else excess
