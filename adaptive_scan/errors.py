"""What a user of the package may cause: settings that cannot be used."""

from __future__ import annotations


class SettingError(ValueError):
    """A setting, a file or a plug-in that the caller chose and that cannot be used; the message is one line.

    It says what it is about, what was given and what can be used: ``name: got X; expected Y``. Commands end with that
    line and exit status 2. Every other exception is a defect of the program and keeps its traceback.

    Example:
        >>> raise SettingError("seed: got -1; expected at least 0")
        Traceback (most recent call last):
        ...
        adaptive_scan.errors.SettingError: seed: got -1; expected at least 0
    """
