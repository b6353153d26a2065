"""Policies and completers of somebody else's, found by name: ``package.module:factory``."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_scan.commands.errors import InputError
from adaptive_scan.evaluation.contenders import Contender
from adaptive_scan.generators import Completer

_TRIAL_STEP = 4
_N_TRIAL_SCANS = 2


def load_policy(name: str) -> Contender:
    """A user's policy as a contender, from ``package.module:factory``; modules in the current folder are found.

    The factory returns a policy with Stable-Baselines3's ``predict``, or a Contender that brings its own settings.

    Args:
        name: Module and factory; the factory is called without arguments.

    Returns:
        The contender, named after the factory unless it brings its own name.

    Raises:
        InputError: If the name has another form, there is no such module or factory, it fails, or what it makes cannot
            predict.
    """
    made = _make("policy", name, "a function that makes a policy")
    if isinstance(made, Contender):
        return made
    if not callable(getattr(made, "predict", None)):
        raise InputError(f"policy: found a {type(made).__name__} without predict; expected a policy")
    return Contender(_factory_name(name), policy=made)


def load_completer(
    name: str, *, image_size: int | None = None, device: torch.device | str = "cpu"
) -> tuple[str, Completer]:
    """A user's completer, from ``package.module:factory``; modules in the current folder are found.

    The factory returns a callable on tensors, partial scans (N, 2, S, S) to pictures (N, 1, S, S). Networks are put in
    evaluation mode.

    Args:
        name: Module and factory; the factory is called without arguments.
        image_size: Side S of the partial scans it will be given [px], on which it is tried once (see
            `check_completer`); None tries nothing.
        device: Where a network runs; other callables are given tensors on the CPU.

    Returns:
        The name of the factory, and the completer.

    Raises:
        InputError: If the name has another form, there is no such module or factory, it fails, or what it makes does
            not complete partial scans of that size.
    """
    made = _make("completer", name, "a function that makes a completer")
    if not callable(made):
        raise InputError(
            f"completer: found that {name!r} makes a {type(made).__name__}; expected a callable on tensors"
        )
    if isinstance(made, nn.Module):
        made = made.to(device).eval()
    if image_size is not None:
        check_completer(name, made, image_size, device=device)
    return _factory_name(name), made


def check_completer(name: str, completer: Completer, image_size: int, *, device: torch.device | str = "cpu") -> None:
    """Try a completer on two scans that measured nothing but zeros, on every fourth pixel of every fourth row.

    Args:
        name: What messages call it.
        completer: What to try.
        image_size: Side S of the partial scans [px].
        device: Where a network runs.

    Raises:
        InputError: If it fails, or what it returns is no finite tensor of shape (2, 1, S, S).

    Example:
        >>> check_completer("a", lambda partial_scans: partial_scans[:, 1:], 8)
        >>> check_completer("a", lambda partial_scans: partial_scans, 8)
        Traceback (most recent call last):
        ...
        adaptive_scan.commands.errors.InputError: completer 'a': found completions (2, 2, 8, 8); expected (2, 1, 8, 8)
    """
    partial_scans = torch.zeros(_N_TRIAL_SCANS, 2, image_size, image_size)
    partial_scans[:, 1, ::_TRIAL_STEP, ::_TRIAL_STEP] = 1.0
    place = device if isinstance(completer, nn.Module) else "cpu"
    try:
        with torch.inference_mode():
            completions = completer(partial_scans.to(place))
    except Exception as error:  # whatever somebody else's code may raise
        shape = tuple(partial_scans.shape)
        raise InputError(
            f"completer {name!r}: found {_told(error)} on partial scans {shape}; expected completions"
        ) from error
    expected = (_N_TRIAL_SCANS, 1, image_size, image_size)
    if not isinstance(completions, Tensor):
        found = type(completions).__name__
        raise InputError(f"completer {name!r}: found completions in a {found}; expected a tensor {expected}")
    if tuple(completions.shape) != expected:
        raise InputError(f"completer {name!r}: found completions {tuple(completions.shape)}; expected {expected}")
    if not bool(torch.isfinite(completions).all()):
        raise InputError(f"completer {name!r}: found non-finite completions; expected finite ones")


def _factory_name(name: str) -> str:
    return name.partition(":")[2]


def _make(what: str, name: str, expected: str) -> Any:
    """What the factory of that name returns."""
    module_name, _, factory_name = name.partition(":")
    if not module_name or not factory_name or module_name.startswith("."):
        raise InputError(f"{what}: found {name!r}; expected package.module:factory")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        factory: Any = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{what}: found {name!r} ({error}); expected package.module:factory") from error
    except Exception as error:
        raise InputError(f"{what}: found that {module_name!r} raises {_told(error)}; expected a module") from error
    if not callable(factory):
        raise InputError(f"{what}: found that {name!r} cannot be called; expected {expected}")
    try:
        return factory()
    except Exception as error:
        raise InputError(f"{what}: found that {name!r} raises {_told(error)}; expected {expected}") from error


def _told(error: Exception) -> str:
    """An error in one line, with the last line of the user's own code: what a command prints has no traceback."""
    said = " ".join(str(error).split()) or "no message"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    place = f"; {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""
    return f"{type(error).__name__} ({said}{place})"


def _is_library(filename: str) -> bool:
    """Whether code is of an installed library, of the import machinery or of this module."""
    return "site-packages" in filename or filename.startswith("<frozen") or filename == __file__
