"""How commands end: one line and status 2 for bad input, the shell's own status for an interrupt, else a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adaptive_scan.errors import SettingError

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

# What a disk says that no input and no program is to blame for.
_DISK_TROUBLES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


class TrainingFailedError(RuntimeError):
    """Training that cannot go on under its settings, such as one that diverged; its message is one line."""


@contextmanager
def settings_border() -> Iterator[None]:
    """Turn whatever settings and plug-ins are refused with into :class:`~adaptive_scan.errors.SettingError`.

    For the places where they come in: a block makes dataclasses of settings, or runs somebody else's code, and nothing
    more. Wherever else a ValueError is raised, it is a defect and keeps its traceback.

    Raises:
        SettingError: In place of a ValueError or TypeError.

    Example:
        >>> with settings_border():
        ...     raise ValueError("n_segments: got 0; expected an integer of at least 1")
        Traceback (most recent call last):
        ...
        adaptive_scan.errors.SettingError: n_segments: got 0; expected an integer of at least 1
    """
    try:
        yield
    except SettingError:
        raise
    except (ValueError, TypeError) as error:
        raise SettingError(str(error)) from error


def run_command(command: Callable[[list[str]], None], arguments: list[str]) -> int:
    """Run a command and say how it ended.

    Args:
        command: Takes the arguments of the command line.
        arguments: Those arguments.

    Returns:
        Exit status: 0 on success; 2 for bad input, 1 for a full disk or training that diverged, each after one line
        on standard error; 130 after an interrupt. Defects of the program propagate.
    """
    try:
        command(arguments)
    except SettingError as error:
        return _say(f"error: {error}", BAD_INPUT)
    except TrainingFailedError as error:
        return _say(f"error: {error}", FAILED)
    except BrokenPipeError:
        # Whoever read the output has gone; the interpreter must not try to flush what is left of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        if error.errno not in _DISK_TROUBLES:
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        return _say(f"error: {where}{error.strerror}", FAILED)
    except KeyboardInterrupt as interrupt:
        return _say(f"interrupted{': ' if interrupt.args else ''}{interrupt}", INTERRUPTED)
    return 0


def _say(message: str, status: int) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return status
