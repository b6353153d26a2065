"""Command lines to options, by tyro; loads neither torch nor numba, so that help and complaints come quickly."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
import typing
from collections.abc import Collection, Mapping
from typing import Annotated, Any, TypeVar, cast

import tyro

from adaptive_scan.commands.options import CommandOptions
from adaptive_scan.errors import SettingError

Options = TypeVar("Options", bound=CommandOptions)


def parse_options(
    kind: type[Options], arguments: list[str], prog: str, description: str, *, default: Options | None = None
) -> Options:
    """Options of a command; what tyro would say in a box of many lines becomes one line.

    Coverages may be given as fractions, such as 1/20. Old names of options work, with a warning on standard error.

    Args:
        kind: Dataclass of the options.
        arguments: Arguments of the command line.
        prog: What help and complaints call the command.
        description: What help says of it.
        default: Where options start that are not given.

    Raises:
        SettingError: If an option or a value is none.
        SystemExit: After help, which shows the basic options, and all of them after ``--help-all``.
    """
    asked = _help_asked(arguments)
    if asked is not None:
        print_help(kind, prog, description, default=default, everything=asked)
        raise SystemExit(0)
    parsed = option_class(kind, names=kind.NAMES)
    start = {} if default is None else {"default": _as_kind(parsed, default)}
    plain, said = _without_fractions(_with_new_names(kind, arguments)), io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found = tyro.cli(parsed, args=plain, prog=prog, description=description, **start)
    except SystemExit as end:
        raise SettingError(f"{_summary(said.getvalue())} (see {prog} --help)") from end
    return cast(Options, _as_kind(kind, found))


def _help_asked(arguments: list[str]) -> bool | None:
    """Whether help is to show every option; None where no help is asked for."""
    if "--help-all" in arguments:
        return True
    return False if {"-h", "--help"} & {*arguments} else None


def print_help(
    kind: type[CommandOptions],
    prog: str,
    description: str,
    *,
    default: CommandOptions | None = None,
    everything: bool = False,
) -> None:
    """Print what a command does and its options: the basic ones, or every one."""
    basic = None if everything or not kind.BASIC else kind.BASIC
    shown = option_class(kind, basic=basic, names=kind.NAMES)
    start = {} if default is None else {"default": _as_kind(shown, default)}
    with contextlib.suppress(SystemExit):
        tyro.cli(shown, args=["--help"], prog=prog, description=description, **start)
    if basic is not None:
        print(f"{_n_options(kind) - len(basic)} more options: --help-all")


def _n_options(kind: Any) -> int:
    inner = (_split(hint)[0] for hint in typing.get_type_hints(kind, include_extras=True).values())
    kinds = {part.name: part for part in dataclasses.fields(kind)}
    return len(kinds) + sum(_n_options(one) - 1 for one in inner if dataclasses.is_dataclass(one))


def option_class(
    kind: Any, *, basic: Collection[str] | None = None, names: Mapping[str, str] | None = None, prefix: str = ""
) -> Any:
    """The dataclass as the command line shows it.

    Args:
        kind: The dataclass.
        basic: Fields that help shows; None for all. An option that has to be given is always shown.
        names: Names of options that differ from those of their fields.
        prefix: The way to its fields from the whole of the options.

    Returns:
        A subclass of the same name whose fields bear the marks that tyro knows, or the class where none is needed.
    """
    hints, changed = typing.get_type_hints(kind, include_extras=True), {}
    for part in dataclasses.fields(kind):
        name, hint = prefix + part.name, hints[part.name]
        inner, marks = _split(hint)
        if dataclasses.is_dataclass(inner):
            made = option_class(inner, basic=basic, names=names, prefix=f"{name}.")
            if made is not inner:
                changed[part.name] = Annotated[(made, *marks)] if marks else made
        elif basic is not None and name not in basic and not _is_required(part):
            changed[part.name] = Annotated[hint, tyro.conf.Suppress]
        elif names and name in names:
            changed[part.name] = Annotated[hint, tyro.conf.arg(name=names[name])]
    if not changed:
        return kind
    content = {"__annotations__": changed, "__doc__": kind.__doc__, "__module__": kind.__module__}
    fields = {part.name: part for part in dataclasses.fields(kind)}
    for name, hint in changed.items():
        content[name] = _default(fields[name], _split(hint)[0])
    return dataclasses.dataclass(frozen=True, kw_only=True)(type(kind.__name__, (kind,), content))


def _split(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type and the marks that it bears."""
    if typing.get_origin(hint) is Annotated:
        inner, *marks = typing.get_args(hint)
        return inner, tuple(marks)
    return hint, ()


def _is_required(part: dataclasses.Field[Any]) -> bool:
    return part.default is part.default_factory is dataclasses.MISSING


def _default(part: dataclasses.Field[Any], kind: Any) -> Any:
    """The default of a field, as the class that the field is of now."""
    if part.default is not dataclasses.MISSING:
        return dataclasses.field(default=part.default)
    if part.default_factory is dataclasses.MISSING:
        return dataclasses.field()
    make, is_group = part.default_factory, dataclasses.is_dataclass(kind)
    return dataclasses.field(default_factory=lambda: _as_kind(kind, make()) if is_group else make())


def _as_kind(kind: Any, value: Any) -> Any:
    """Options as a dataclass with the same fields."""
    if type(value) is kind:
        return value
    hints = typing.get_type_hints(kind)
    values = {part.name: getattr(value, part.name) for part in dataclasses.fields(kind)}
    return kind(**{n: _as_kind(hints[n], v) if dataclasses.is_dataclass(v) else v for n, v in values.items()})


def _with_new_names(kind: type[CommandOptions], arguments: list[str]) -> list[str]:
    """Arguments with options by the names that they have now; says what was renamed."""
    renamed, told = [], set()
    for argument in arguments:
        option, equals, value = argument.partition("=")
        old = option.removeprefix("--").replace("_", "-")
        new = kind.RENAMED.get(old) if option.startswith("--") else None
        if new is not None and old not in told:
            told.add(old)
            print(f"warning: --{old} is now --{new}; the old name goes in version 0.3", file=sys.stderr)
        renamed.append(argument if new is None else f"--{new}{equals}{value}")
    return renamed


def _without_fractions(arguments: list[str]) -> list[str]:
    """Arguments in which coverages such as 1/25 are decimal numbers.

    Example:
        >>> _without_fractions(["--coverages", "1/4", "0.1", "--out", "1/2"])
        ['--coverages', '0.25', '0.1', '--out', '1/2']
    """
    plain, option = [], ""
    for argument in arguments:
        option = argument.partition("=")[0] if argument.startswith("--") else option
        found = re.fullmatch(r"(--coverages?=)?(\d+)/(\d+)", argument)
        if option in ("--coverage", "--coverages") and found is not None:
            before, above, below = found.groups()
            if int(below) == 0:
                raise SettingError(f"{option[2:]}: got {argument!r}; expected numbers above 0 and at most 1")
            argument = f"{before or ''}{int(above) / int(below)!r}"
        plain.append(argument)
    return plain


def _summary(box: str) -> str:
    r"""What tyro's box says first, and the option that it thinks was meant.

    Example:
        >>> _summary("╭─ Error ─╮\n│ Bad │\n│ value │\n│ ─── │\n│ Perhaps you meant: │\n│     --seed INT │\n╰──╯")
        'Bad value; perhaps --seed was meant'
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│ ") for line in plain.splitlines() if not line.startswith(("╭", "╰"))]
    rules = [place for place, line in enumerate(lines) if line and not line.strip("─-")]
    if "│" not in plain:
        # Where the terminal has no such characters, the title is a line of its own above the first rule.
        lines, rules = lines[rules[0] + 1 :], [place - rules[0] - 1 for place in rules[1:]]
    said = " ".join(" ".join(lines[: rules[0] if rules else None]).split())
    first = re.sub(r"^Error parsing (\w+Config: )?", "", said)
    likely = re.search(r"Perhaps you meant:[\s│]*(--[\w.-]+)", plain)
    return first.rstrip(".") + (f"; perhaps {likely[1]} was meant" if likely else "")
