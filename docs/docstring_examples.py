"""Lets the reference show the examples of docstrings as code: what is "Example" here is "Examples" to griffe."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Reads the section "Example" of a docstring as what Google's style calls "Examples"."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the section where an object has one."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
