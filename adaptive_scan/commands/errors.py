"""How commands end: one line and status 2 for bad input, the shell's own status for an interrupt."""

from __future__ import annotations

import sys
from collections.abc import Callable

BAD_INPUT = 2
INTERRUPTED = 130


class InputError(ValueError):
    """Something that the person who runs a command can mend; its message is one line."""


def run_command(command: Callable[[list[str]], None], arguments: list[str] | None = None) -> int:
    """Run a command and say how it ended.

    Args:
        command: Takes the arguments of the command line.
        arguments: Those arguments; None takes ``sys.argv``.

    Returns:
        Exit status: 0 on success, 2 for bad input after one line on standard error, 130 after an interrupt.
    """
    try:
        command(sys.argv[1:] if arguments is None else arguments)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as interrupt:
        print(f"interrupted{': ' if interrupt.args else ''}{interrupt}", file=sys.stderr)
        return INTERRUPTED
    return 0
