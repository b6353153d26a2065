"""The one exception that files of micrographs raise."""

from __future__ import annotations

from pathlib import Path

_LONGEST = 300


def _one_line(text: str) -> str:
    """Join the lines of a message, which may quote a library, and cut it to a readable length."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


class MicrographError(ValueError):
    """A file or folder that does not hold what a micrograph needs.

    Its text is one line: ``<path>: found <found>; expected <expected>``.

    Args:
        path: The file or folder, as the caller named it.
        found: What is there.
        expected: What was needed instead.

    Example:
        >>> print(MicrographError("scan.tif", "an empty file", "a TIFF file"))
        scan.tif: found an empty file; expected a TIFF file
    """

    def __init__(self, path: str | Path, found: str, expected: str) -> None:
        # The three arguments go to the base class so that the error survives a pickle between processes.
        super().__init__(path, found, expected)
        self.path = Path(path)
        self.found = _one_line(found)
        self.expected = _one_line(expected)

    def __str__(self) -> str:
        return f"{self.path}: found {self.found}; expected {self.expected}"
