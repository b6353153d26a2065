"""Makers of scans whose settings are keywords: what a benchmark leaves out is filled in, and all of it is checked.

A default is a part of the question: were it not written down, a benchmark would mean another one, under the same
identity, as soon as the default changed.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from adaptive_scan.benchmark.cells import Cell, ScanMaker
from adaptive_scan.benchmark.definition import Benchmark, ScanEntry
from adaptive_scan.benchmark.settings import setting_from_json, settings_to_json
from adaptive_scan.scans import ScanGeometry

ScanCheck = Callable[[ScanEntry, ScanGeometry, Benchmark], None]
"""``(entry, geometry, benchmark)``: raises a ValueError if a scan with all its settings cannot be prepared there."""

Completion = Callable[[ScanEntry, dict[str, Any]], Mapping[str, Any]]
"""``(entry, settings) -> settings``: fills in what depends on other settings."""


class KeywordMaker:
    """A maker whose settings are keywords, so that what is wrong with them is found before anything is trained.

    Args:
        make: ``(cell, *, keywords) -> contender``.
        unpacked: Defaults of the keywords that it takes by an unpacked dictionary.
        complete: Fills in what depends on other settings.
        check: Refuses values.

    Attributes:
        known: Names of its settings; None where it takes any.
        needed: Names of those that have no default.

    Example:
        >>> from adaptive_scan.benchmark.scan_kinds import SCAN_KINDS
        >>> tuned = SCAN_KINDS["tuned"]
        >>> tuned.known, tuned.needed
        (('family', 'n_most'), ('family',))
        >>> tuned.completed(ScanEntry("spiral", "tuned", {"family": "spiral"})).settings
        {'family': 'spiral', 'n_most': 60}
    """

    def __init__(
        self,
        make: Callable[..., Any],
        *,
        unpacked: Mapping[str, Any] | None = None,
        complete: Completion | None = None,
        check: ScanCheck | None = None,
    ) -> None:
        self._make, self._complete, self._check = make, complete, check
        keywords = [each for each in inspect.signature(make).parameters.values() if each.kind == each.KEYWORD_ONLY]
        self._hints, takes_any = _hints(make)
        self.known = None if takes_any else tuple(self._hints)
        self.needed = tuple(each.name for each in keywords if each.default is each.empty)
        own = {each.name: each.default for each in keywords if each.default is not each.empty}
        self._defaults = {**own, **(unpacked or {})}

    def __call__(self, cell: Cell, settings: Mapping[str, Any]) -> Any:
        """Prepare a scan."""
        return self._make(cell, **self._typed(cell.name, settings))

    def check(self, entry: ScanEntry) -> None:
        """Raise a ValueError at the first setting of an entry that is unknown, missing or of another type."""
        for name in entry.settings:
            if self.known is not None and name not in self.known:
                known = ", ".join(self.known) or "none"
                raise ValueError(f"scan {entry.name!r}: got the unknown setting {name!r}; expected some of {known}")
        for name in self.needed:
            if name not in entry.settings:
                raise ValueError(f"scan {entry.name!r}: got no setting {name!r}; expected it for {entry.kind!r}")
        self._typed(entry.name, entry.settings)

    def completed(self, entry: ScanEntry) -> ScanEntry:
        """An entry with all settings, those that it left out at their defaults, as JSON values.

        Raises:
            ValueError: As `check`.
        """
        self.check(entry)
        every = self._typed(entry.name, {**self._defaults, **entry.settings})
        settings: Mapping[str, Any] = {name: every[name] for name in (*self._hints, *every) if name in every}
        if self._complete is not None:
            settings = self._complete(entry, dict(settings))
        return replace(entry, settings=settings_to_json(settings))

    def check_at(self, entry: ScanEntry, geometry: ScanGeometry, benchmark: Benchmark) -> None:
        """Raise a ValueError if a scan with all its settings cannot be prepared at a geometry."""
        if self._check is not None:
            self._check(entry, geometry, benchmark)

    def _typed(self, scan: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a scan as their types have them: 3 for a number is 3.0, a list a tuple."""
        return {
            name: setting_from_json(self._hints.get(name, Any), value, f"scan {scan!r}: {name}")
            for name, value in settings.items()
        }


def _hints(make: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Types of keywords with those of an unpacked dictionary, and whether any other keyword will do."""
    parameters = inspect.signature(make).parameters.values()
    hints = get_type_hints(make)
    found = {each.name: hints.get(each.name, Any) for each in parameters if each.kind == each.KEYWORD_ONLY}
    rest = [hints.get(each.name, Any) for each in parameters if each.kind == each.VAR_KEYWORD]
    if rest and rest[0] is not Any:
        return found | get_type_hints(get_args(rest[0])[0]), False
    return found, bool(rest)


def resolve_scans(benchmark: Benchmark, makers: Mapping[str, ScanMaker]) -> Benchmark:
    """A benchmark whose scans say all their settings, the makers' defaults among them.

    Settings of a maker that is no `KeywordMaker` stay as they are.

    Args:
        benchmark: The benchmark.
        makers: What prepares a scan, by kind.

    Raises:
        ValueError: If a kind is unknown, or a setting is unknown, missing or of another type.
    """
    return replace(benchmark, scans=tuple(_resolved(scan, makers) for scan in benchmark.scans))


def _resolved(entry: ScanEntry, makers: Mapping[str, ScanMaker]) -> ScanEntry:
    if entry.kind not in makers:
        raise ValueError(
            f"scan {entry.name!r}: got kind {entry.kind!r}; expected one of {', '.join(makers)}, or what prepares it "
            f"among `makers`, as adaptive_scan.commands.compare.MAKERS does for 'policy' and 'rdpg'"
        )
    maker = makers[entry.kind]
    found = maker.completed(entry) if isinstance(maker, KeywordMaker) else entry
    try:
        json.dumps(settings_to_json(found.settings), allow_nan=False)
    except (ValueError, TypeError) as error:
        raise ValueError(f"scan {entry.name!r}: got settings that no JSON has ({error}); expected JSON") from error
    return found


def check_scans(benchmark: Benchmark, makers: Mapping[str, ScanMaker]) -> None:
    """See that each scan can be prepared at each geometry, as far as that shows before anything is trained.

    Args:
        benchmark: A benchmark of `resolve_scans`.
        makers: What prepares a scan, by kind.

    Raises:
        ValueError: If one cannot; the message names the scan, the geometry and the setting.
    """
    for entry in benchmark.scans:
        maker = makers[entry.kind]
        for name, geometry in benchmark.geometries.items():
            if isinstance(maker, KeywordMaker):
                _check_at(maker, entry, name, geometry, benchmark)


def _check_at(maker: KeywordMaker, entry: ScanEntry, name: str, geometry: ScanGeometry, benchmark: Benchmark) -> None:
    try:
        maker.check_at(entry, geometry, benchmark)
    except (ValueError, TypeError) as error:
        said = str(error) if "; expected " in str(error) else f"got settings that fail ({error}); expected others"
        raise ValueError(f"scan {entry.name!r} at {name!r}: {said}") from error
