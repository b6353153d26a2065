from __future__ import annotations

import numpy as np
import pytest

from adaptive_scan.specimens.elements import (
    COVALENT_RADII,
    HEAVIEST,
    MASSES,
    POTENTIAL_RADII,
    SYMBOLS,
    number_of,
)


def test_tables_run_from_hydrogen_to_lawrencium() -> None:
    assert (SYMBOLS[0], SYMBOLS[-1], len(SYMBOLS)) == ("H", "Lr", HEAVIEST)
    for table in (MASSES, COVALENT_RADII, POTENTIAL_RADII):
        assert table.shape == (HEAVIEST + 1,)
        assert np.isnan(table[0])
        assert (table[1:] > 0).all()
        assert not table.flags.writeable


def test_values_are_the_published_ones() -> None:
    # IUPAC standard atomic weights; Cordero et al. 2008, table 2.
    published = {
        "H": (1.008, 0.31),
        "C": (12.011, 0.76),
        "O": (15.999, 0.66),
        "Si": (28.085, 1.11),
        "Au": (196.97, 1.36),
    }
    for symbol, (mass, radius) in published.items():
        number = number_of(symbol)
        assert MASSES[number] == pytest.approx(mass, rel=1e-4)
        assert COVALENT_RADII[number] == radius
    assert COVALENT_RADII[number_of("Cs")] == COVALENT_RADII[1:].max() - 0.16 == pytest.approx(2.44)
    np.testing.assert_array_equal(COVALENT_RADII[97:], COVALENT_RADII[96])


def test_radius_of_the_potential_is_the_second_moment_of_the_scattering_factor() -> None:
    # Hydrogen as Lobato & Van Dyck 2014 parameterise it: r^2 = -f''(0) / (2 pi^2 f(0)), here by finite differences.
    a = np.array([0.00647384848835291, -0.490192576780229, 0.573284160390876, -0.37940330148399, 0.554426474774079])
    b = np.array([2.78519885379148, 2.77620428330644, 2.77538591050625, 2.76759302867258, 2.76511897642927])

    def factor(g: float) -> float:
        return float((a * (2 + b * g**2) / (1 + b * g**2) ** 2).sum())

    step = 1e-3
    second = (factor(step) - 2 * factor(0.0) + factor(-step)) / step**2
    assert POTENTIAL_RADII[1] == pytest.approx(np.sqrt(-second / (2 * np.pi**2 * factor(0.0))), abs=1e-3)


def test_unknown_symbols_are_refused() -> None:
    with pytest.raises(ValueError, match="symbol: got 'Xx'; expected one of the elements H to Lr"):
        number_of("Xx")
