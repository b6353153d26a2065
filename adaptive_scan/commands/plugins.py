"""Policies and completers of somebody else's, found by name: ``package.module:factory``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_scan.acquisition import Acquisition, Instrument
from adaptive_scan.commands.networks import check_size
from adaptive_scan.commands.options import is_file
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.contenders import Contender, Policy, measure
from adaptive_scan.generators import Completer, load_generator, make_completer
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
        SettingError: If the name has another form, there is no such module or factory, it fails, or what it makes
            cannot predict.
    """
    made = _make("policy", name, "a function that makes a policy")
    if isinstance(made, Contender):
        return made
    if not callable(getattr(made, "predict", None)):
        raise SettingError(f"policy: got a {type(made).__name__} without predict; expected a policy")
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


class PolicyError(SettingError):
    """Somebody's policy that fails while it scans; the message has its name."""


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
        adaptive_scan.commands.plugins.PolicyError: policy 'mine': got actions that are not finite; expected finite ones
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
            PolicyError: If it fails, or its actions are no finite numbers.
        """
        try:
            actions, state = self._policy.predict(
                observation, state=state, episode_start=episode_start, deterministic=deterministic
            )
            are_finite = bool(np.isfinite(np.asarray(actions, dtype=np.float64)).all())
        except Exception as error:  # whatever somebody else's code may raise
            raise PolicyError(f"policy {self._name!r}: got {_told(error)} from predict; expected actions") from error
        if not are_finite:
            raise PolicyError(f"policy {self._name!r}: got actions that are not finite; expected finite ones")
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
        SettingError: If it fails, or does not measure the dose of the geometry.

    Example:
        >>> class Right:
        ...     def predict(self, observation, state=None, episode_start=None, deterministic=False):
        ...         return np.array([[1.0, 0.0]]), state
        >>> check_policy("mine", Contender("mine", policy=Right()), ScanGeometry(16, 4, 4))
        Traceback (most recent call last):
        ...
        adaptive_scan.errors.SettingError: policy 'mine': actions have shape (1, 2); expected (2, 2)
    """
    side = geometry.image_size
    crops = np.random.default_rng(0).uniform(-1, 1, (_N_TRIAL_SCANS, side, side)).astype(np.float32)
    try:
        measure(contender, crops, geometry, acquisition=acquisition)
    except PolicyError:
        raise
    except ValueError as error:
        raise SettingError(f"policy {name!r}: {' '.join(str(error).split())}") from error
    except Exception as error:  # whatever its own settings of the environment may lead to
        raise SettingError(f"policy {name!r}: got {_told(error)} on two crops; expected scans") from error


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
        SettingError: If the name has another form, there is no such module or factory, it fails, or what it makes does
            not complete partial scans of that size.
    """
    made = _make("completer", name, "a function that makes a completer")
    if not callable(made):
        raise SettingError(f"completer: {name!r} makes a {type(made).__name__}; expected a callable on tensors")
    named: NamedCompleter | NamedNetwork
    named = NamedNetwork(name, made).to(device).eval() if isinstance(made, nn.Module) else NamedCompleter(name, made)
    if image_size is not None:
        check_completer(named, image_size, device=device)
    return _factory_name(name), named


def load_completers(
    names: Sequence[str], *, image_size: int, device: torch.device | str = "cpu"
) -> dict[str, Completer]:
    """Completers of a command line by what tables call them, in the order given.

    Args:
        names: Interpolations (a + behind one blurs), files of generators, or package.module:factory.
        image_size: Side of the partial scans [px].
        device: Where networks run.

    Raises:
        SettingError: If one is unknown, fails on a trial, takes no scans of this size, or has the name of another.
        GeneratorFileError: If a file is no whole generator.

    Example:
        >>> list(load_completers(["linear", "infill+"], image_size=16))
        ['linear', 'infill+']
    """
    loaded: dict[str, Completer] = {}
    title: str
    completer: Completer
    for name in names:
        if is_file(name):
            title, completer = generator_name(Path(name)), load_sized_generator(Path(name), image_size, device)
        elif ":" in name:
            title, completer = load_completer(name, image_size=image_size, device=device)
        else:
            title, completer = name, make_completer(name)
        if title in loaded:
            raise SettingError(f"completers: got the name {title!r} twice; expected each once")
        loaded[title] = completer
    return loaded


def generator_name(path: Path) -> str:
    """What tables call the generator of a file: its stem or, where that says nothing, its folder.

    Example:
        >>> generator_name(Path("runs/a/generator.safetensors")), generator_name(Path("b.safetensors"))
        ('a', 'b')
    """
    return path.stem if path.stem != "generator" else path.resolve().parent.name


def load_sized_generator(path: Path, image_size: int, device: torch.device | str) -> nn.Module:
    """The generator of a file for pictures of this size.

    Raises:
        SettingError: If it takes none of this size.
        GeneratorFileError: If the file is no whole generator.
    """
    network = load_generator(path, device=device)
    check_size(network, image_size, f"{path}, size")
    return network


class NamedCompleter:
    """Somebody's completer, whose failures are one line with its name.

    Args:
        name: What messages call it.
        complete: What completes.

    Example:
        >>> NamedCompleter("a", lambda partial_scans: partial_scans)(torch.zeros(2, 2, 8, 8))
        Traceback (most recent call last):
        ...
        adaptive_scan.errors.SettingError: completer 'a': got completions (2, 2, 8, 8); expected (2, 1, 8, 8)
    """

    def __init__(self, name: str, complete: Completer) -> None:
        self._name, self._complete = name, complete

    def __call__(self, partial_scans: Tensor) -> Tensor:
        """Complete.

        Raises:
            SettingError: If it fails, or what it returns is no finite tensor of shape (N, 1, S, S).
        """
        return _completed(self._name, self._complete, partial_scans)


class NamedNetwork(nn.Module):
    """A `NamedCompleter` of a network, which has parameters, modes and a device as the network does."""

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        self._title, self.network = name, network

    def forward(self, partial_scans: Tensor) -> Tensor:
        """Complete, as a `NamedCompleter`."""
        return _completed(self._title, self.network, partial_scans)


def _completed(name: str, complete: Completer, partial_scans: Tensor) -> Tensor:
    shape = tuple(partial_scans.shape)
    try:
        completions = complete(partial_scans)
    except Exception as error:  # whatever somebody else's code may raise
        raise SettingError(
            f"completer {name!r}: got {_told(error)} on partial scans {shape}; expected completions"
        ) from error
    expected = (shape[0], 1, *shape[2:])
    if not isinstance(completions, Tensor):
        found = type(completions).__name__
        raise SettingError(f"completer {name!r}: got completions in a {found}; expected a tensor {expected}")
    if tuple(completions.shape) != expected:
        raise SettingError(f"completer {name!r}: got completions {tuple(completions.shape)}; expected {expected}")
    if not bool(torch.isfinite(completions).all()):
        raise SettingError(f"completer {name!r}: got non-finite completions; expected finite ones")
    return completions


def check_completer(completer: Completer, image_size: int, *, device: torch.device | str = "cpu") -> None:
    """Try a completer on two scans that measured nothing but zeros, on every fourth pixel of every fourth row.

    Args:
        completer: What to try, a `NamedCompleter` or `NamedNetwork`.
        image_size: Side S of the partial scans [px].
        device: Where a network runs.

    Raises:
        SettingError: If it fails, or what it returns is no finite tensor of shape (2, 1, S, S).
    """
    partial_scans = torch.zeros(_N_TRIAL_SCANS, 2, image_size, image_size)
    partial_scans[:, 1, ::_TRIAL_STEP, ::_TRIAL_STEP] = 1.0
    place = device if isinstance(completer, nn.Module) else "cpu"
    with torch.inference_mode():
        completer(partial_scans.to(place))


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
        raise SettingError(f"{what}: got {name!r}; expected package.module:factory")
    _find_modules_here()
    try:
        factory: Any = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise SettingError(f"{what}: got {name!r} ({error}); expected package.module:factory") from error
    except Exception as error:
        raise SettingError(f"{what}: {module_name!r} raises {_told(error)}; expected a module") from error
    if not callable(factory):
        raise SettingError(f"{what}: {name!r} cannot be called; expected {expected}")
    try:
        return factory()
    except Exception as error:
        raise SettingError(f"{what}: {name!r} raises {_told(error)}; expected {expected}") from error


def _told(error: Exception) -> str:
    """An error in one line, with the last line of the user's own code: what a command prints has no traceback."""
    said = " ".join(str(error).split()) or "no message"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    place = f"; {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""
    return f"{type(error).__name__} ({said}{place})"


def _is_library(filename: str) -> bool:
    """Whether code is of an installed library, of the import machinery or of this module."""
    return "site-packages" in filename or filename.startswith("<frozen") or filename == __file__
