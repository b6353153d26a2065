"""Policies and completers of somebody else's, found by name: ``package.module:factory``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_scan.acquisition import Acquisition, Instrument
from adaptive_scan.commands.errors import InputError
from adaptive_scan.evaluation.contenders import Contender, Policy, measure
from adaptive_scan.generators import Completer
from adaptive_scan.scans import ScanGeometry

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
        raise InputError(f"policy: got a {type(made).__name__} without predict; expected a policy")
    return Contender(_factory_name(name), policy=made)


def load_named_policy(name: str) -> Contender:
    """A user's policy as `load_policy` has it, whose failures are one line with its name."""
    made = load_policy(name)
    return made if made.policy is None else replace(made, policy=NamedPolicy(name, made.policy))


def source_hash(name: str) -> str:
    """SHA-256 of the source file of the module of ``package.module:factory``; "unknown" where there is none.

    Example:
        >>> len(source_hash("adaptive_scan.commands.plugins:load_policy")), source_hash("no_such_module:a")
        (64, 'unknown')
    """
    _find_modules_here()
    try:
        spec = importlib.util.find_spec(name.partition(":")[0])
    except Exception:  # the packages above it are imported, and may raise anything
        return "unknown"
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return "unknown"
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


class NamedPolicy:
    """Somebody's policy, whose failures are one line with its name.

    Args:
        name: What messages call it.
        policy: The policy; whatever else it has, such as ``peek``, is to be found here as well.

    Example:
        >>> class Lost:
        ...     def predict(self, observation, state=None, episode_start=None, deterministic=False):
        ...         return np.full((1, 2), np.nan), state
        >>> NamedPolicy("mine", Lost()).predict({})
        Traceback (most recent call last):
        ...
        adaptive_scan.commands.errors.InputError: policy 'mine': got actions that are not finite; expected finite ones
    """

    def __init__(self, name: str, policy: Policy) -> None:
        self._name, self._policy = name, policy

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a copy is asked for these before it has anything
            raise AttributeError(name)
        return getattr(self._policy, name)

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """What the policy does.

        Raises:
            InputError: If it fails, or its actions are no finite numbers.
        """
        try:
            actions, state = self._policy.predict(
                observation, state=state, episode_start=episode_start, deterministic=deterministic
            )
            are_finite = bool(np.isfinite(np.asarray(actions, dtype=np.float64)).all())
        except Exception as error:  # whatever somebody else's code may raise
            raise InputError(f"policy {self._name!r}: got {_told(error)} from predict; expected actions") from error
        if not are_finite:
            raise InputError(f"policy {self._name!r}: got actions that are not finite; expected finite ones")
        return np.asarray(actions), state


def check_policy(
    name: str,
    contender: Contender,
    geometry: ScanGeometry,
    *,
    acquisition: Instrument | Acquisition | str | None = None,
) -> None:
    """Let a policy scan two crops of noise.

    Args:
        name: What messages call it.
        contender: What to try.
        geometry: The geometry of the scans.
        acquisition: The instrument, or a preset's name; None is the ideal one.

    Raises:
        InputError: If it fails, or does not measure the dose of the geometry.

    Example:
        >>> class Right:
        ...     def predict(self, observation, state=None, episode_start=None, deterministic=False):
        ...         return np.array([[1.0, 0.0]]), state
        >>> check_policy("mine", Contender("mine", policy=Right()), ScanGeometry(16, 4, 4))
        Traceback (most recent call last):
        ...
        adaptive_scan.commands.errors.InputError: policy 'mine': actions have shape (1, 2); expected (2, 2)
    """
    side = geometry.image_size
    crops = np.random.default_rng(0).uniform(-1, 1, (_N_TRIAL_SCANS, side, side)).astype(np.float32)
    try:
        measure(contender, crops, geometry, acquisition=acquisition)
    except InputError:
        raise
    except Exception as error:  # whatever its own settings of the environment may lead to
        said = " ".join(str(error).split())
        refusal = said if "; expected " in said else f"got {_told(error)} on two crops; expected scans"
        raise InputError(f"policy {name!r}: {refusal}") from error


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
        raise InputError(f"completer: {name!r} makes a {type(made).__name__}; expected a callable on tensors")
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
        adaptive_scan.commands.errors.InputError: completer 'a': got completions (2, 2, 8, 8); expected (2, 1, 8, 8)
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
            f"completer {name!r}: got {_told(error)} on partial scans {shape}; expected completions"
        ) from error
    expected = (_N_TRIAL_SCANS, 1, image_size, image_size)
    if not isinstance(completions, Tensor):
        found = type(completions).__name__
        raise InputError(f"completer {name!r}: got completions in a {found}; expected a tensor {expected}")
    if tuple(completions.shape) != expected:
        raise InputError(f"completer {name!r}: got completions {tuple(completions.shape)}; expected {expected}")
    if not bool(torch.isfinite(completions).all()):
        raise InputError(f"completer {name!r}: got non-finite completions; expected finite ones")


def _find_modules_here() -> None:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _factory_name(name: str) -> str:
    return name.partition(":")[2]


def _make(what: str, name: str, expected: str) -> Any:
    """What the factory of that name returns."""
    module_name, _, factory_name = name.partition(":")
    if not module_name or not factory_name or module_name.startswith("."):
        raise InputError(f"{what}: got {name!r}; expected package.module:factory")
    _find_modules_here()
    try:
        factory: Any = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{what}: got {name!r} ({error}); expected package.module:factory") from error
    except Exception as error:
        raise InputError(f"{what}: {module_name!r} raises {_told(error)}; expected a module") from error
    if not callable(factory):
        raise InputError(f"{what}: {name!r} cannot be called; expected {expected}")
    try:
        return factory()
    except Exception as error:
        raise InputError(f"{what}: {name!r} raises {_told(error)}; expected {expected}") from error


def _told(error: Exception) -> str:
    """An error in one line, with the last line of the user's own code: what a command prints has no traceback."""
    said = " ".join(str(error).split()) or "no message"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    place = f"; {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""
    return f"{type(error).__name__} ({said}{place})"


def _is_library(filename: str) -> bool:
    """Whether code is of an installed library, of the import machinery or of this module."""
    return "site-packages" in filename or filename.startswith("<frozen") or filename == __file__
