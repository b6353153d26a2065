"""Names of a subpackage that are imported when they are first asked for, so that settings and help load little."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def exports(package: str, file: str) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that imports what the file imports under ``if TYPE_CHECKING:``.

    So the names are written once, where type checkers and readers look for them. No exported name may be that of a
    module of the package, which Python would put in its place.

    Args:
        package: Name of the package, ``__name__``.
        file: Its ``__init__.py``, ``__file__``.

    Returns:
        The function: it takes a name, gives the object and keeps it in the package.

    Example:
        >>> import adaptive_scan.scans
        >>> exports("adaptive_scan.scans", adaptive_scan.scans.__file__)("ScanGeometry").__name__
        'ScanGeometry'
    """
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    origins = {alias.name: node.module for node in imports for alias in node.names if node.module}

    def get(name: str) -> Any:
        if name not in origins:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(origins[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
