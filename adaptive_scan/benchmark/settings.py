"""Dataclasses of settings as JSON values and back, with complaints that name the key."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from adaptive_scan.scans import ScanGeometry

Settings = TypeVar("Settings")

_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def settings_to_json(value: Any) -> Any:
    """Settings as JSON values: dataclasses as objects, tuples as lists.

    Example:
        >>> settings_to_json({"quick": ScanGeometry(48, 10, 10)})["quick"]["image_size"]
        48
    """
    if isinstance(value, ScanGeometry):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return {part.name: settings_to_json(getattr(value, part.name)) for part in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: settings_to_json(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [settings_to_json(inner) for inner in value]
    return value


def settings_from_json(kind: type[Settings], content: Mapping[str, Any], where: str = "") -> Settings:
    """The dataclass that `settings_to_json` wrote down; what is left out takes its default.

    Args:
        kind: The dataclass.
        content: JSON values by the names of its fields.
        where: The way to it from the top of the file, such as ``"pictures."``.

    Raises:
        ValueError: If a key is unknown or missing, or a value is of another kind or refused; the message names the key.

    Example:
        >>> @dataclasses.dataclass
        ... class Size:
        ...     side: int = 96
        >>> settings_from_json(Size, {"sides": 48})
        Traceback (most recent call last):
        ...
        ValueError: unknown key 'sides'; expected some of side
    """
    hints = typing.get_type_hints(kind)
    fields = {part.name: part for part in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in content:
        if key not in fields:
            raise ValueError(f"unknown key {where + key!r}; expected some of {', '.join(fields)}")
    for name, part in fields.items():
        if name not in content and part.default is part.default_factory is dataclasses.MISSING:
            raise ValueError(f"no key {where + name!r}; expected it there")
    values = {key: setting_from_json(hints[key], value, where + key) for key, value in content.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from error


def setting_from_json(hint: Any, value: Any, where: str) -> Any:
    """A JSON value as the setting of this type holds it.

    Args:
        hint: The type of the setting; of one that JSON knows nothing of, and of a union of several, all is taken.
        value: The value.
        where: The way to it from the top of the file.

    Raises:
        ValueError: If the value is of another kind; the message begins with ``where``.

    Example:
        >>> setting_from_json(float | None, 3, "exploration")
        3.0
        >>> setting_from_json(int, "3", "n_updates")
        Traceback (most recent call last):
        ...
        ValueError: n_updates: got '3'; expected a whole number
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [option for option in arguments if option is not types.NoneType]
        if len(inner) > 1 or (value is None and len(inner) < len(arguments)):
            return value
        return setting_from_json(inner[0], value, where)
    if origin in (tuple, Sequence):
        parts = enumerate(_checked(list, list(value) if isinstance(value, tuple) else value, where))
        return tuple(setting_from_json(arguments[0], part, f"{where}[{place}]") for place, part in parts)
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{where}: got {value!r}; expected one of {', '.join(map(str, arguments))}")
        return value
    if hint is ScanGeometry:
        return _geometry(_checked(dict, value, where), where)
    if dataclasses.is_dataclass(hint):
        return settings_from_json(typing.cast(type, hint), _checked(dict, value, where), f"{where}.")
    if origin is not None:
        parts = _checked(dict, value, where).items()
        return {key: setting_from_json(arguments[1], part, f"{where}.{key}") for key, part in parts}
    return _checked(hint, value, where) if hint in _KINDS else value


def _geometry(settings: Mapping[str, Any], where: str) -> ScanGeometry:
    try:
        return ScanGeometry.from_dict(settings)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}.{error}") from error


def _checked(kind: type, value: Any, where: str) -> Any:
    """A JSON value of the kind expected; a whole number will do as a number, a truth value never."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where}: got {value!r}; expected {_KINDS[kind]}")
    return value
