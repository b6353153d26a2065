"""The one exception that files of micrographs raise."""

from __future__ import annotations

from adaptive_scan.files import FileContentError


class MicrographError(FileContentError):
    """A file or folder that does not hold what a micrograph needs.

    Example:
        >>> print(MicrographError("scan.tif", "an empty file", "a TIFF file"))
        scan.tif: got an empty file; expected a TIFF file
    """
