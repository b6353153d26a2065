"""Networks of a command: where they run, and the generator before its training."""

from __future__ import annotations

import inspect

import torch
from torch import nn

from adaptive_scan.commands.crops import DataConfig
from adaptive_scan.commands.errors import settings_border
from adaptive_scan.errors import SettingError
from adaptive_scan.generators import GENERATORS, make_generator


def make_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one.

    Raises:
        SettingError: If CUDA is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError("device: got 'cuda', and PyTorch finds no CUDA device; expected 'cpu' or 'auto'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def use_threads(n_threads: int) -> None:
    """Let PyTorch use so many threads on the CPU; 0 leaves it its own choice."""
    if n_threads:
        torch.set_num_threads(n_threads)


def make_network(kind: str, config: DataConfig, *, blurred: bool, **sizes: float) -> nn.Module:
    """The generator before training.

    Args:
        kind: A name of `adaptive_scan.generators.GENERATORS`.
        config: Settings with the side of the crops and the seed.
        blurred: Whether targets are blurred, for networks that must know.
        sizes: Constructor keywords of networks, such as the U-Net's ``n_channels`` and ``n_levels``; a network takes
            those that it knows.

    Raises:
        SettingError: If crops of this size cannot go through it.
    """
    known = inspect.signature(GENERATORS[kind]).parameters if kind in GENERATORS else {}
    settings = {"blurred": blurred, **sizes}
    with settings_border():
        network = make_generator(kind, seed=config.seed, **{name: settings[name] for name in settings if name in known})
    check_size(network, config.geometry.image_size, "geometry.image_size")
    return network


def check_size(network: object, size: int, name: str) -> None:
    """Refuse pictures that cannot go through a network, whose levels halve them.

    Args:
        network: The network, or any other completer, which takes every size.
        size: Side of the pictures [px].
        name: What the complaint calls it.

    Raises:
        SettingError: If the side is not a multiple of what the network asks for.
    """
    stride = getattr(network, "stride", 1)
    if size % stride:
        raise SettingError(f"{name}: got {size} px; expected a multiple of {stride} for this generator")
