"""What a picture shows: how sparse its structure is, and of which broad kind it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adaptive_scan.micrographs.preprocessing import UNIFORM_RANGE
from adaptive_scan.micrographs.splits import find_column, read_column
from adaptive_scan.specimens import FAMILIES
from adaptive_scan.specimens.recipes import SPECIMEN_FAMILIES

CONTENT_CLASSES = ("lattice", "particles", "single atoms", "precipitates", "other")
"""Broad kinds of micrographs."""

# The first rule that finds its words in the text holds, so what is special stands before what is general: a precipitate
# is seen in a lattice, and the lattice of a nanoparticle is a lattice.
_RULES = (
    ("single atoms", re.compile(r"single[ -](heavy )?atom|adatom")),
    ("precipitates", re.compile(r"precipitate")),
    ("lattice", re.compile(r"lattice|dumbbell|monolayer|bilayer|boundary|atomic column|dislocation")),
    ("particles", re.compile(r"particle|catalyst|agglomerate|\brods?\b|crystals on")),
)


def sparsity(crops: np.ndarray) -> np.ndarray:
    """How concentrated the structure of each picture is: Hoyer's sparsity of the magnitude of its gradient.

    ``(sqrt(n) - |g|_1 / |g|_2) / (sqrt(n) - 1)`` over the n pixels' magnitudes g (P. O. Hoyer 2004, J. Mach. Learn.
    Res. 5, 1457, section 3.1): 1 where all of the gradient is at one pixel, 0 where it is the same everywhere. The
    gradient knows no background and is that of central differences. A lattice is at about 0.05, white noise at
    ``1 - sqrt(pi) / 2 = 0.11``, a few particles at 0.3 to 0.5. Noise hides what is sparse: hand in
    blurred pictures, such as the targets.

    Args:
        crops: Shape ``(n, S, S)``, S at least 2.

    Returns:
        Float64, shape ``(n,)``, in [0, 1]; 0 for a picture without a gradient, as nothing stands out.

    Raises:
        ValueError: If the shape is not that of a batch of square pictures.

    Example:
        >>> plane, step = np.add.outer(np.arange(32.0), np.arange(32.0)), np.repeat([-1.0, 1.0], 16)
        >>> sparsity(np.stack([plane, np.tile(step, (32, 1))])).round(3).tolist()
        [0.0, 0.774]
    """
    if crops.ndim != 3 or crops.shape[1] != crops.shape[2] or crops.shape[2] < 2:
        raise ValueError(f"got crops {crops.shape}; expected (n, S, S), S >= 2")
    rows, columns = np.gradient(crops.astype(np.float64), axis=(1, 2))
    magnitudes = np.hypot(rows, columns).reshape(len(crops), -1)
    # The gradient of a uniform picture is what rounding left.
    magnitudes *= magnitudes.max(axis=1, keepdims=True) >= UNIFORM_RANGE
    norms = np.sqrt(np.sum(magnitudes**2, axis=1))
    root = np.sqrt(magnitudes.shape[1])
    ratios = np.full(len(crops), root)
    np.divide(magnitudes.sum(axis=1), norms, out=ratios, where=norms > 0.0)
    found: np.ndarray = np.clip((root - ratios) / (root - 1.0), 0.0, 1.0)
    return found


def content_class(text: str) -> str:
    """Broad kind of what a picture shows, from a few words about it.

    Args:
        text: As in the column ``content`` of a table of micrographs, or the name of a family of procedural pictures, or
            one of `CONTENT_CLASSES`.

    Returns:
        One of `CONTENT_CLASSES`; the name itself where the text is that of a family or a class.

    Example:
        >>> content_class("Si <110> dumbbells"), content_class("supported metal nanoparticles"), content_class("cracks")
        ('lattice', 'particles', 'cracks')
    """
    words = text.strip().lower()
    if words in FAMILIES or words in SPECIMEN_FAMILIES or words in CONTENT_CLASSES:
        return words
    return next((name for name, keys in _RULES if keys.search(words)), "other")


def read_contents(manifest: Path, folders: Sequence[Path] = ()) -> dict[Path, str]:
    """Read what files show from a CSV with the columns ``file`` and ``content``.

    Names are looked up as `adaptive_scan.micrographs.splits.read_column` does.

    Args:
        manifest: The CSV, UTF-8.
        folders: Further places that names may be relative to.

    Returns:
        Resolved path to the text; nothing where the table lacks one of the columns.

    Raises:
        MicrographError: If it cannot be read.
    """
    return _stripped(read_column(manifest, "content", folders, required=False))


def find_contents(root: Path) -> dict[Path, str]:
    """Read what files show from a ``manifest.csv`` in the folder of ``root`` or its parent, if there is one.

    Args:
        root: A folder, or a file whose folder is meant.

    Returns:
        Resolved path to the text; nothing where no such table is found.
    """
    return _stripped(find_column(root, "content"))


def _stripped(told: dict[Path, str]) -> dict[Path, str]:
    return {file: text.strip() for file, text in told.items() if text.strip()}
