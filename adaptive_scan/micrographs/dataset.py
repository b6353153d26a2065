"""A lazy collection of micrographs over files, stacks and folder trees."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import index as as_index
from pathlib import Path

import numpy as np

from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs.border import Plane
from adaptive_scan.micrographs.cache import PictureCache
from adaptive_scan.micrographs.errors import MicrographError
from adaptive_scan.micrographs.readers import (
    SUFFIXES,
    as_micrograph,
    list_planes,
    open_plane,
    require_finite_value,
    to_float32,
)
from adaptive_scan.micrographs.splits import find_column, read_column

PAGES_APART = "#page"
"""The group, in a table, of a file whose pages show different specimens."""

SPLIT_NAMES = ("train", "validation", "test")
"""Subfolders that predefine a split."""

DEFAULT_CACHE_BYTES = 512 * 2**20
"""Bound on the decoded pictures that a dataset keeps [bytes]."""

_SAMPLE_BYTES = 4096
# A mapped picture that would fill more than this fraction of the cache is read square by square.
_LARGEST_SHARE = 16


@dataclass(frozen=True, slots=True)
class _Entry:
    """One micrograph: its file, where in it, and what it is called."""

    file: Path
    page: int
    plane: Plane
    name: str
    group: str
    split: str | None


class MicrographDataset:
    """Micrographs in a file, a stack or a folder tree, read when they are asked for.

    Construction reads headers only. It finds files that are of another format than their suffix says, coloured,
    complex, 1-D, empty, too small, or (TIFF, NumPy, PNG) truncated. Damage inside the data, and pictures without one
    finite value, show when the picture is decoded, as a :class:`MicrographError`.

    With ``skip_bad``, files found bad at construction are left out and listed in ``skipped``. If all pictures fit in
    the cache, each is decoded once at construction so that this list is complete and every micrograph left is good.
    Otherwise a bad picture found later still raises where it is asked for by index, is then added to ``skipped``, and
    :class:`~adaptive_scan.micrographs.MicrographCrops` draws another in its place.

    A folder gives the files in it, at any depth, that have a known suffix, in the order of their names; hidden files
    are left out, and so is an ``.emi`` file beside the ``.ser`` files that hold its data. Subfolders ``train``,
    ``validation`` and ``test`` become ``predefined_splits``.

    Args:
        path_or_paths: A file, a folder or several of them.
        crop_size: Least side that a micrograph must have [px]; any from 2 px when None.
        skip_bad: Leave out and report bad files; by default the first one raises.
        groups: CSV with the columns ``file`` and ``group``: micrographs of one group show one specimen or area. When
            None, a ``manifest.csv`` with these columns in the folder or its parent is used if it names its files.
            A file that it does not name is a group of its own, all pages of a stack together. ``stack.tif#3`` names
            a page, and the group `PAGES_APART` makes each page of a file a group of its own.
        cache_bytes: Bound on the decoded pictures that are kept [bytes].

    Attributes:
        names: Name of each micrograph: its path below the folder given, and ``#page`` where a file has several.
        groups: Group of each micrograph.
        skipped: The error of each file or page left out.

    Raises:
        MicrographError: If a path does not exist or holds no micrograph, a file is bad and ``skip_bad`` is False, or
            ``groups`` is no such table or names none of the files.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/stack.npy", np.arange(32, dtype=np.float32).reshape(2, 4, 4))
        ...     dataset = MicrographDataset(folder, crop_size=4)
        ...     print(dataset.names, dataset[1].mean())
        ['stack.npy#0', 'stack.npy#1'] 23.5
    """

    def __init__(
        self,
        path_or_paths: str | Path | Sequence[str | Path],
        *,
        crop_size: int | None = None,
        skip_bad: bool = False,
        groups: str | Path | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        if crop_size is not None and crop_size < 1:
            raise SettingError(f"crop_size: got {crop_size!r} px; expected at least 1")
        given = [path_or_paths] if isinstance(path_or_paths, str | Path) else list(path_or_paths)
        if not given:
            raise SettingError("no path of micrographs was given; expected at least one")
        roots = [Path(path) for path in given]
        self.skip_bad = skip_bad
        self.skipped: list[MicrographError] = []
        self._least_side = 1 if crop_size is None else crop_size
        self._cache = PictureCache(cache_bytes)
        self._bad: set[tuple[Path, int]] = set()
        self._good: set[tuple[Path, int]] = set()
        self._root = roots[0]
        self._entries = self._with_groups(self._list_entries(roots), roots, groups)
        n_bytes = sum(4 * entry.plane.height * entry.plane.width for entry in self._entries)
        if skip_bad and n_bytes <= cache_bytes:
            self._entries = [entry for number, entry in enumerate(self._entries) if self.is_readable(number)]
        self._require_some()

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, number: int) -> np.ndarray:
        """Read micrograph ``number``: a fresh float32 array of shape (height, width).

        Raises:
            IndexError: If there is no such micrograph.
            MicrographError: If it turns out bad when decoded.
        """
        return self._picture(self._entry(number)).copy()

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Name of each micrograph."""
        return [entry.name for entry in self._entries]

    @property
    def groups(self) -> list[str]:
        """Group of each micrograph: those of one group show one specimen or area."""
        return [entry.group for entry in self._entries]

    @property
    def files(self) -> list[Path]:
        """File of each micrograph."""
        return [entry.file for entry in self._entries]

    @property
    def shapes(self) -> np.ndarray:
        """Height and width of each micrograph [px], int64, shape (n_micrographs, 2)."""
        sides = [(entry.plane.height, entry.plane.width) for entry in self._entries]
        return np.array(sides, dtype=np.int64).reshape(-1, 2)

    @property
    def root(self) -> Path:
        """The first path that the dataset was made from."""
        return self._root

    @property
    def predefined_splits(self) -> dict[str, np.ndarray] | None:
        """Indices of the micrographs in the subfolders train, validation and test; None without any of them."""
        splits = [entry.split for entry in self._entries]
        found = {name: np.flatnonzero([split == name for split in splits]) for name in SPLIT_NAMES}
        return {name: indices for name, indices in found.items() if len(indices)} or None

    def subset(self, indices: Sequence[int] | np.ndarray) -> MicrographDataset:
        """Make the dataset of some of the micrographs; the two share their cache and ``skipped``.

        Args:
            indices: Which ones, in the order wanted, shape (n,).

        Returns:
            The smaller dataset.

        Raises:
            IndexError: If there is no such micrograph.
        """
        smaller = copy.copy(self)
        smaller._entries = [self._entry(number) for number in indices]
        return smaller

    def window(self, number: int, row: int, column: int, side: int) -> np.ndarray:
        """Read a square of micrograph ``number``.

        Of a picture too large to be worth keeping whole, and stored uncompressed, only the square is read.

        Args:
            number: Which micrograph.
            row: First row [px].
            column: First column [px].
            side: Rows and columns [px].

        Returns:
            A fresh float32 array, shape (side, side).

        Raises:
            IndexError: If there is no such micrograph, or the square does not lie inside it.
            MicrographError: If the picture turns out bad.
        """
        entry = self._entry(number)
        plane = entry.plane
        if min(row, column) < 0 or side < 1 or row + side > plane.height or column + side > plane.width:
            raise IndexError(
                f"square at ({row}, {column}) of {side} px; expected inside {plane.height} x {plane.width} px"
            )
        square = (slice(row, row + side), slice(column, column + side))
        if not self._is_read_in_parts(plane):
            return self._picture(entry)[square].copy()
        with self._noting(entry):
            picture = open_plane(entry.file, plane)
            values = to_float32(picture[square])
            if not np.isfinite(values).any():
                require_finite_value(entry.file, picture, entry.page)
        return values

    def is_readable(self, number: int) -> bool:
        """Whether micrograph ``number`` can be decoded, found by trying it once.

        Raises:
            IndexError: If there is no such micrograph.
        """
        entry = self._entry(number)
        key = (entry.file, entry.page)
        if key not in self._good and key not in self._bad:
            try:
                with self._noting(entry):
                    if self._is_read_in_parts(entry.plane):
                        require_finite_value(entry.file, open_plane(entry.file, entry.plane), entry.page)
                    else:
                        self._picture(entry)
                self._good.add(key)
            except MicrographError:
                return False
        return key in self._good

    def _picture(self, entry: _Entry) -> np.ndarray:
        """Return the whole picture, read-only."""
        key = (entry.file, entry.page)
        picture = self._cache.get(key)
        if picture is None:
            with self._noting(entry):
                picture = as_micrograph(entry.file, open_plane(entry.file, entry.plane), entry.page)
            self._cache.put(key, picture)
            self._good.add(key)
        return picture

    def _is_read_in_parts(self, plane: Plane) -> bool:
        return plane.mapping is not None and 4 * plane.height * plane.width > self._cache.n_bytes // _LARGEST_SHARE

    @contextmanager
    def _noting(self, entry: _Entry) -> Iterator[None]:
        """Remember a micrograph that turns out bad, once, and let its error pass."""
        key = (entry.file, entry.page)
        try:
            yield
        except MicrographError as error:
            if key not in self._bad:
                self._bad.add(key)
                if self.skip_bad:
                    self.skipped.append(error)
            raise

    def _entry(self, number: int) -> _Entry:
        position = as_index(number)
        if not -len(self) <= position < len(self):
            raise IndexError(f"micrograph {position} of {len(self)}; expected 0 to {len(self) - 1}")
        return self._entries[position]

    def _list_entries(self, roots: Sequence[Path]) -> list[_Entry]:
        entries = []
        seen: set[Path] = set()
        for root in roots:
            for file in _files_of(root):
                resolved = file.resolve()
                if resolved in seen:
                    continue
                seen.add(resolved)
                entries.extend(self._entries_of(file, root, len(roots) > 1))
        return entries

    def _entries_of(self, file: Path, root: Path, several_roots: bool) -> list[_Entry]:
        """List the pictures of one file that are large enough."""
        try:
            planes = list_planes(file, self.skipped)
        except MicrographError as error:
            self._skip_or_raise(error)
            return []
        below = file.relative_to(root) if file != root else Path(file.name)
        # With several paths the same name may come twice, so each is named as it was given.
        name = file.as_posix() if several_roots else below.as_posix()
        split = below.parts[0] if len(below.parts) > 1 and below.parts[0] in SPLIT_NAMES else None
        entries = []
        for page, plane in enumerate(planes):
            label = f"{name}#{page}" if len(planes) > 1 else name
            if min(plane.height, plane.width) < self._least_side:
                where = f"page {page}: " if len(planes) > 1 else ""
                found = f"{where}a picture of {plane.height} x {plane.width} px"
                self._skip_or_raise(
                    MicrographError(file, found, f"sides of at least {self._least_side} px for the crop")
                )
                continue
            entries.append(_Entry(file, page, plane, label, label if plane.apart else name, split))
        return entries

    def _skip_or_raise(self, error: MicrographError) -> None:
        if not self.skip_bad:
            raise error
        self.skipped.append(error)

    def _with_groups(self, entries: list[_Entry], roots: Sequence[Path], groups: str | Path | None) -> list[_Entry]:
        named: dict[Path, str] = {}
        if groups is None:
            for root in reversed(roots):
                named |= find_column(root, "group")
        else:
            folders = [root if root.is_dir() else root.parent for root in roots]
            named = read_column(Path(groups), "group", [*folders, *(folder.parent for folder in folders)])
        if not named and groups is None:
            return entries
        found = [_group_in_table(entry, named) for entry in entries]
        if entries and groups is not None and not any(found):
            raise MicrographError(groups, "a table that names none of the files", f"files of {self._root}")
        return [replace(entry, group=group or entry.group) for entry, group in zip(entries, found, strict=True)]

    def _require_some(self) -> None:
        if self._entries:
            return
        found = "no readable micrograph"
        if self.skipped:
            found += f" ({len(self.skipped)} skipped, the first: {self.skipped[0]})"
        raise MicrographError(self._root, found, "at least one micrograph")


def _group_in_table(entry: _Entry, named: dict[Path, str]) -> str | None:
    """The group that a table gives a page, or its file; None where it gives none."""
    file = entry.file.resolve()
    group = named.get(file.with_name(f"{file.name}#{entry.page}"), named.get(file))
    return entry.name if group == PAGES_APART else group


def fingerprint(dataset: MicrographDataset, *, with_names: bool = True) -> str:
    """Hash what a dataset holds, for the manifest of a run.

    SHA-256 over the name and shape of each micrograph, and of each file its size and three samples of
    its content (start, middle, end). Where the files lie does not matter for a dataset over one path.

    Args:
        dataset: The dataset or a subset of one.
        with_names: Whether names count; else the page of each micrograph in its file stands in their place, and a
            renamed copy has the hash of the original.

    Returns:
        64 hexadecimal digits.

    Raises:
        MicrographError: If a file cannot be read any more.
    """
    digest = hashlib.sha256()
    hashed: set[Path] = set()
    labels = dataset.names if with_names else [str(entry.page) for entry in dataset._entries]
    shapes = dataset.shapes.tolist()
    for label, file, shape in zip(labels, dataset.files, shapes, strict=True):
        digest.update(f"{label}\0{shape}\0".encode())
        if file not in hashed:
            hashed.add(file)
            digest.update(_sample(file))
    return digest.hexdigest()


def _sample(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            parts = [str(size).encode()]
            for start in (0, size // 2, max(0, size - _SAMPLE_BYTES)):
                opened.seek(start)
                parts.append(opened.read(_SAMPLE_BYTES))
    except OSError as error:
        raise MicrographError(file, f"a file that cannot be read ({error.strerror})", "the file listed") from error
    return b"\0".join(parts)


def _files_of(root: Path) -> list[Path]:
    """List the files that a path stands for: itself, or those with a known suffix below the folder."""
    if not root.is_dir():
        return [root]
    files = []
    visited: set[Path] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        place = Path(folder)
        # A link to a folder above would otherwise be walked for ever.
        if place.resolve() in visited:
            subfolders.clear()
            continue
        visited.add(place.resolve())
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        files += [place / name for name in names if not name.startswith(".")]
    known = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not known:
        found = f"no micrograph files ({len(files)} other files)" if files else "no micrograph files, an empty folder"
        raise MicrographError(root, found, f"files with one of the suffixes {', '.join(SUFFIXES)}")
    data_of_emi = {(file.parent, file.stem.rpartition("_")[0]) for file in known if file.suffix.lower() == ".ser"}
    kept = [file for file in known if not (file.suffix.lower() == ".emi" and (file.parent, file.stem) in data_of_emi)]
    return sorted(kept, key=lambda file: file.relative_to(root).as_posix())
