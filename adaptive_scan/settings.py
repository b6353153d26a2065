"""Settings as JSON values and back: the one codec of every file of settings, with complaints that name the key.

Settings are dataclasses. A class with the methods ``to_dict`` and ``from_dict``, such as
`adaptive_scan.scans.ScanGeometry`, writes and reads itself where it stands in the settings of another one.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from adaptive_scan.errors import SettingError

Settings = TypeVar("Settings")

_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def settings_to_json(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON values.

    Args:
        settings: A dataclass. Its own ``to_dict`` is not called, so that it may call this.

    Returns:
        Dataclasses and mappings in it as objects, tuples as lists, paths as strings.

    Example:
        >>> from adaptive_scan.scans import ScanGeometry
        >>> settings_to_json(ScanGeometry(48, 10, 10))["image_size"]
        48
    """
    return {part.name: setting_to_json(getattr(settings, part.name)) for part in dataclasses.fields(settings)}


def setting_to_json(value: Any) -> Any:
    """One setting as a JSON value; what JSON knows nothing of stays as it is.

    Example:
        >>> setting_to_json({"out": Path("runs/a"), "seeds": (0, 1)})
        {'out': 'runs/a', 'seeds': [0, 1]}
    """
    if _is_own(type(value)):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return settings_to_json(value)
    if isinstance(value, Mapping):
        return {name: setting_to_json(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [setting_to_json(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def settings_from_json(kind: type[Settings], content: Mapping[str, Any], where: str = "") -> Settings:
    """The dataclass that `settings_to_json` wrote down; what is left out takes its default.

    A setting that an older file lacks so is as it was before it could be set, if its default says so.

    Args:
        kind: The dataclass.
        content: JSON values by the names of its fields.
        where: The way to it from the top of the file, such as ``"pictures."``.

    Raises:
        SettingError: If a key is unknown or missing, or a value is of another kind or refused; the message names the
            key.

    Example:
        >>> @dataclasses.dataclass
        ... class Size:
        ...     side: int = 96
        >>> settings_from_json(Size, {"sides": 48})
        Traceback (most recent call last):
        ...
        adaptive_scan.errors.SettingError: got the unknown key 'sides'; expected some of side
    """
    hints = typing.get_type_hints(kind)
    fields = {part.name: part for part in dataclasses.fields(kind) if part.init}  # type: ignore[arg-type]
    for key in content:
        if key not in fields:
            raise SettingError(f"got the unknown key {where + key!r}; expected some of {', '.join(fields) or 'none'}")
    for name, part in fields.items():
        if name not in content and part.default is part.default_factory is dataclasses.MISSING:
            raise SettingError(f"got no key {where + name!r}; expected it there")
    values = {key: setting_from_json(hints[key], value, where + key) for key, value in content.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise SettingError(f"{where}{error}") from error


def setting_from_json(hint: Any, value: Any, where: str) -> Any:
    """A JSON value as the setting of this type holds it.

    Args:
        hint: The type of the setting; of one that JSON knows nothing of, all is taken.
        value: The value.
        where: The way to it from the top of the file.

    Raises:
        SettingError: If the value is of another kind; the message begins with ``where``.

    Example:
        >>> setting_from_json(float | None, 3, "exploration")
        3.0
        >>> setting_from_json(int, "3", "n_updates")
        Traceback (most recent call last):
        ...
        adaptive_scan.errors.SettingError: n_updates: got '3'; expected a whole number
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments, value, where)
    if origin in (tuple, Sequence):
        return _parts(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise SettingError(f"{where}: got {value!r}; expected one of {', '.join(map(str, arguments))}")
        return value
    if origin is not None:
        items = _checked(dict, value, where).items()
        return {key: setting_from_json(arguments[1], part, f"{where}.{key}") for key, part in items}
    if _is_own(hint):
        return _own(hint, _checked(dict, value, where), where)
    if dataclasses.is_dataclass(hint):
        return settings_from_json(typing.cast(type, hint), _checked(dict, value, where), f"{where}.")
    if hint is Path:
        return Path(_checked(str, value, where))
    return _checked(hint, value, where) if hint in _KINDS else value


def _is_own(kind: Any) -> bool:
    """Whether a class writes and reads itself."""
    return isinstance(kind, type) and hasattr(kind, "to_dict") and hasattr(kind, "from_dict")


def _own(kind: Any, content: Mapping[str, Any], where: str) -> Any:
    try:
        return kind.from_dict(content)
    except (ValueError, TypeError) as error:
        raise SettingError(f"{where}.{error}") from error


def _one_of(options: Sequence[Any], value: Any, where: str) -> Any:
    """A value of one of several types: of the one beside None, or else of the first that JSON holds in this form."""
    if value is None and types.NoneType in options:
        return None
    inner = [option for option in options if option is not types.NoneType]
    if len(inner) == 1:
        return setting_from_json(inner[0], value, where)
    for option in inner:
        is_object = isinstance(value, Mapping) and (_is_own(option) or dataclasses.is_dataclass(option))
        if is_object or (option is Path and isinstance(value, str) and str not in inner):
            return setting_from_json(option, value, where)
        if typing.get_origin(option) is tuple and isinstance(value, list) and list not in inner:
            return setting_from_json(option, value, where)
    return value


def _parts(hints: Sequence[Any], value: Any, where: str) -> tuple[Any, ...]:
    """The parts of a tuple, all of the first type, or each of its own where the type names so many."""
    parts = _checked(list, list(value) if isinstance(value, tuple) else value, where)
    each = hints if len(hints) == len(parts) and Ellipsis not in hints else [hints[0]] * len(parts)
    return tuple(
        setting_from_json(hint, part, f"{where}[{place}]")
        for place, (hint, part) in enumerate(zip(each, parts, strict=True))
    )


def _checked(kind: type, value: Any, where: str) -> Any:
    """A JSON value of the kind expected; a whole number will do as a number, a truth value never."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise SettingError(f"{where}: got {value!r}; expected {_KINDS[kind]}")
    return value
