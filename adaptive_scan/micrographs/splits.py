"""Which micrographs belong together, and splits that keep them together."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs.errors import MicrographError

MANIFEST_NAME = "manifest.csv"


def split_groups(
    groups: Sequence[str], fractions: Sequence[float] = (0.8, 0.2), seed: int = 0
) -> tuple[np.ndarray, ...]:
    """Split micrographs into parts so that no group is in two of them.

    The groups, sorted by name, are shuffled with ``seed`` and dealt out by ``fractions``, counted in groups, each part
    getting at least one. Which part a group falls into depends on the set of groups and the seed alone: neither the
    order of the files nor how many a group has matters.

    Args:
        groups: Group of each micrograph, shape (n_micrographs,).
        fractions: Share of each part, positive, with a sum of 1.
        seed: Of the shuffle.

    Returns:
        For each part, the sorted indices of its micrographs, int64.

    Raises:
        ValueError: If the fractions are not positive with a sum of 1, or there are fewer groups than parts.

    Example:
        >>> train, test = split_groups(["a", "a", "b", "c", "d", "e"], seed=1)
        >>> len(train) + len(test)
        6
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.ndim != 1 or not (shares > 0).all() or abs(shares.sum() - 1.0) > 1e-6:
        raise SettingError(f"fractions: got {tuple(fractions)}; expected positive numbers with a sum of 1")
    names = np.array(sorted(set(groups)), dtype=object)
    if len(names) < len(shares):
        raise SettingError(
            f"{len(names)} group(s) of micrographs for {len(shares)} parts; expected at least one group per part"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    ends = np.cumsum(_counts(shares, len(names)))
    part_of = {names[group]: int(np.searchsorted(ends, place, side="right")) for place, group in enumerate(order)}
    parts = np.array([part_of[group] for group in groups])
    return tuple(np.flatnonzero(parts == part) for part in range(len(shares)))


def _counts(shares: np.ndarray, n_groups: int) -> np.ndarray:
    """Share out whole groups by largest remainder, at least one to each part."""
    ideal = shares * n_groups
    counts = np.maximum(np.floor(ideal + 1e-9), 1).astype(np.int64)
    while counts.sum() < n_groups:
        counts[np.argmax(ideal - counts)] += 1
    while counts.sum() > n_groups:
        surplus = np.where(counts > 1, counts - ideal, -np.inf)
        counts[np.argmax(surplus)] -= 1
    return counts


def read_column(manifest: Path, column: str, folders: Sequence[Path] = (), *, required: bool = True) -> dict[Path, str]:
    """Read what a CSV with the column ``file`` says of files in another column, such as ``group``.

    A relative file name is looked for beside the CSV and in ``folders``, and the first that exists is meant. Rows
    with an empty cell are left out.

    Args:
        manifest: The CSV, UTF-8.
        column: Name of the column.
        folders: Further places that names may be relative to.
        required: Whether a table without the columns is refused; otherwise there is nothing in it.

    Returns:
        Resolved path to the text, as it stands; where a page is named, such as ``stack.tif#3``, with that behind it.

    Raises:
        MicrographError: If it cannot be read or lacks one of the columns.
    """
    expected = f"a CSV with the columns file and {column}"
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            columns = list(table.fieldnames or [])
            rows = list(table) if {"file", column} <= {*columns} else None
    except FileNotFoundError as error:
        raise MicrographError(manifest, "nothing there", expected) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MicrographError(manifest, f"a file that is no CSV ({error})", expected) from error
    if rows is None and required:
        raise MicrographError(manifest, f"the columns {', '.join(columns) or '(none)'}", expected)
    told = {}
    for row in rows or []:
        name = row["file"] or ""
        before, mark, page = name.rpartition("#")
        is_page = bool(mark) and page.isdigit()
        candidates = [place / (before if is_page else name) for place in (manifest.parent, *folders)]
        named = next((candidate.resolve() for candidate in candidates if candidate.is_file()), None)
        if named is not None and row[column]:
            told[named.with_name(f"{named.name}#{page}") if is_page else named] = row[column]
    return told


def find_column(root: Path, column: str) -> dict[Path, str]:
    """Read a column of a ``manifest.csv`` in the folder of ``root`` or its parent, if there is one.

    Args:
        root: A folder, or a file whose folder is meant.
        column: Name of the column.

    Returns:
        Resolved path to the text, as it stands; nothing where no such table is found.
    """
    folder = (root if root.is_dir() else root.parent).resolve()
    for place in (folder, folder.parent):
        manifest = place / MANIFEST_NAME
        if not manifest.is_file():
            continue
        try:
            told = read_column(manifest, column, [folder])
        except MicrographError:
            # Any other table may bear this common name; only one with our columns was meant for us.
            continue
        if any(named.is_relative_to(folder) for named in told):
            return told
    return {}
