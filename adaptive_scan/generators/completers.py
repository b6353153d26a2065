"""Classical completers: interpolation of the measured pixels, called as a network is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from torch import Tensor

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.distance import nearest_infill
from adaptive_scan.generators.grids import GridCompleter
from adaptive_scan.generators.infill import pull_push_infill
from adaptive_scan.generators.inpainting import BiharmonicCompleter, TotalVariationCompleter
from adaptive_scan.generators.interpolation import CloughTocherCompleter, LinearCompleter, ThinPlateSplineCompleter
from adaptive_scan.generators.losses import blur_targets

__all__ = [
    "COMPLETERS",
    "GRID_COMPLETERS",
    "BiharmonicCompleter",
    "CloughTocherCompleter",
    "Completer",
    "GridCompleter",
    "InfillCompleter",
    "LinearCompleter",
    "NearestCompleter",
    "ThinPlateSplineCompleter",
    "TotalVariationCompleter",
    "blurred",
    "make_completer",
]


class Completer(Protocol):
    """Anything that completes partial scans: a network, an interpolation, a function.

    Example:
        >>> import torch
        >>> def zeros(partial_scans: torch.Tensor) -> torch.Tensor:
        ...     return torch.zeros_like(partial_scans[:, :1])
        >>> completer: Completer = zeros
    """

    def __call__(self, partial_scans: Tensor, /) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        ...


class NearestCompleter:
    """Every pixel takes the value of the nearest measured one; 0 where nothing was measured.

    Example:
        >>> import torch
        >>> partial_scan = torch.tensor([[[[0.0, 0.5], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]])
        >>> NearestCompleter()(partial_scan).unique()
        tensor([0.5000])
    """

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        return nearest_infill(partial_scans)


class InfillCompleter:
    """The pull-push infill that `UNetGenerator` starts from, without the network.

    What it scores is the part of that network's score that no training earned.

    Example:
        >>> import torch
        >>> partial_scan = torch.zeros(1, 2, 8, 8)
        >>> partial_scan[0, :, 3, 5] = 1.0
        >>> bool(torch.isclose(InfillCompleter()(partial_scan), torch.ones(1)).all())
        True
    """

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        return pull_push_infill(partial_scans)


COMPLETERS: dict[str, Callable[[], Completer]] = {
    "nearest": NearestCompleter,
    "linear": LinearCompleter,
    "infill": InfillCompleter,
    "clough_tocher": CloughTocherCompleter,
    "thin_plate_spline": ThinPlateSplineCompleter,
    "biharmonic": BiharmonicCompleter,
    "total_variation": TotalVariationCompleter,
    "area": partial(GridCompleter, "area"),
    "bilinear": partial(GridCompleter, "bilinear"),
    "bicubic": partial(GridCompleter, "bicubic"),
    "lanczos": partial(GridCompleter, "lanczos"),
}
"""Classical completers by name; all keep the measured pixels."""

GRID_COMPLETERS = ("area", "bilinear", "bicubic", "lanczos")
"""Those that complete uniform grids only and refuse other masks with a ValueError."""


def is_classical(name: str) -> bool:
    """Whether `make_completer` knows a completer of that name, which is then none that is trained.

    Example:
        >>> is_classical("infill+"), is_classical("shared"), is_classical("my_module:my_network")
        (True, False, False)
    """
    return name.removesuffix("+") in COMPLETERS


def make_completer(name: str) -> Completer:
    """Classical completer of that name.

    Args:
        name: A key of ``COMPLETERS``; with "+" behind it, its pictures are blurred as targets are.

    Returns:
        The completer.

    Raises:
        SettingError: If there is no completer of that name.

    Example:
        >>> type(make_completer("linear")).__name__
        'LinearCompleter'
    """
    if not is_classical(name):
        raise SettingError(f"completer: got {name!r}; expected one of {', '.join(COMPLETERS)}")
    plain = COMPLETERS[name.removesuffix("+")]()
    return blurred(plain) if name.endswith("+") else plain


def blurred(completer: Completer) -> Completer:
    """A completer whose pictures are blurred as targets are (5x5 Gaussian, sigma 2.5 px).

    Where targets are blurred, an interpolation that is not pays for the noise that it keeps; blurred, it is the fair
    rival of a network, which learns the blur.

    Example:
        >>> import torch
        >>> scan = torch.zeros(1, 2, 8, 8)
        >>> scan[0, :, 3, 3] = 1.0
        >>> bool(torch.isclose(blurred(NearestCompleter())(scan), torch.ones(1)).all())
        True
    """

    def completed(partial_scans: Tensor) -> Tensor:
        return blur_targets(completer(partial_scans))

    return completed
