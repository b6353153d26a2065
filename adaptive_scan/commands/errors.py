"""How commands end: one line and status 2 for bad input, the shell's own status for an interrupt, else a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adaptive_scan.files import FileContentError

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

# What a disk says that no input and no program is to blame for.
_DISK_TROUBLES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


class InputError(ValueError):
    """Something that the person who runs a command can mend; its message is one line.

    Example:
        >>> raise InputError("seed: got -1; expected at least 0")
        Traceback (most recent call last):
        ...
        adaptive_scan.commands.errors.InputError: seed: got -1; expected at least 0
    """


class TrainingFailedError(RuntimeError):
    """Training that cannot go on under its settings, such as one that diverged; its message is one line."""


@contextmanager
def refusals_as_input_errors() -> Iterator[None]:
    """Turn what settings and data were refused with into :class:`InputError`; for the borders where they come in.

    The package refuses values with a ValueError that says what it expected. Any other ValueError in the block is a
    defect of the program and passes as it is, with its traceback.

    Raises:
        InputError: In place of such a refusal.

    Example:
        >>> with refusals_as_input_errors():
        ...     raise ValueError("n_segments: got 0; expected an integer of at least 1")
        Traceback (most recent call last):
        ...
        adaptive_scan.commands.errors.InputError: n_segments: got 0; expected an integer of at least 1
    """
    try:
        yield
    except (InputError, FileContentError):
        raise
    except ValueError as error:
        if "; expected " not in str(error):
            raise
        raise InputError(str(error)) from error


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
    except (FileContentError, InputError) as error:
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
