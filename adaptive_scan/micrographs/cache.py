"""Decoded pictures, kept within a bound in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock

import numpy as np


class PictureCache:
    """The most recently used pictures, at most ``n_bytes`` of them; one that is larger by itself is not kept.

    Copies that go to another process start empty.

    Args:
        n_bytes: Bound on the sum of the pictures [bytes].

    Example:
        >>> cache = PictureCache(n_bytes=8)
        >>> cache.put("a", np.zeros((1, 2), dtype=np.float32))
        >>> cache.put("b", np.ones((1, 2), dtype=np.float32))
        >>> cache.get("a") is None, cache.get("b")
        (True, array([[1., 1.]], dtype=float32))
    """

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self.n_used = 0
        self._pictures: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[PictureCache], tuple[int]]:
        return PictureCache, (self.n_bytes,)

    def get(self, key: Hashable) -> np.ndarray | None:
        """Return the read-only picture kept under ``key``, or None."""
        with self._lock:
            picture = self._pictures.get(key)
            if picture is not None:
                self._pictures.move_to_end(key)
            return picture

    def put(self, key: Hashable, picture: np.ndarray) -> None:
        """Keep a picture, read-only from now on, in place of those not used for longest."""
        picture.flags.writeable = False
        if picture.nbytes > self.n_bytes:
            return
        with self._lock:
            replaced = self._pictures.pop(key, None)
            self.n_used += picture.nbytes - (0 if replaced is None else replaced.nbytes)
            self._pictures[key] = picture
            while self.n_used > self.n_bytes:
                self.n_used -= self._pictures.popitem(last=False)[1].nbytes
