"""Nested states on disk: safetensors with a JSON header, written by rename, read without pickle.

A tree is any nesting of dicts, lists, tuples, numbers, strings, None, tensors and NumPy arrays. Its arrays become
entries of a safetensors file and its structure a JSON string in the header. Classes and instances of dataclasses can be
in it by name: whoever reads it says which names are known, and gets no other.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from adaptive_scan.files import FileContentError, write_atomically


class TreeFileError(FileContentError):
    """A file that holds no whole tree."""


def encode_tree(node: Any, tensors: dict[str, Tensor], known: Mapping[str, type] | None = None) -> Any:
    """A tree as JSON can hold it; its arrays go into ``tensors`` and leave their names.

    Args:
        node: The tree.
        tensors: Where its arrays go.
        known: Classes that are written by name, as are instances of those that are dataclasses.

    Raises:
        TypeError: If something in it is neither a number, a string, an array, a known class nor a nesting of them.

    Example:
        >>> encode_tree({"rate": math.inf, "kind": (int, 3)}, {}, {"int": int})
        {'rate': {'__float__': 'inf'}, 'kind': {'__tuple__': [{'__class__': 'int'}, 3]}}
    """
    known = {} if known is None else known
    if isinstance(node, Tensor | np.ndarray):
        tensor = torch.from_numpy(np.ascontiguousarray(node)) if isinstance(node, np.ndarray) else node.detach()
        key = str(len(tensors))
        tensors[key] = tensor.cpu().contiguous()
        return {"__array__" if isinstance(node, np.ndarray) else "__tensor__": key}
    if isinstance(node, np.generic):
        return encode_tree(node.item(), tensors)
    if isinstance(node, dict):
        return _encode_dict(node, tensors, known)
    if isinstance(node, list | tuple):
        parts = [encode_tree(value, tensors, known) for value in node]
        return {"__tuple__": parts} if isinstance(node, tuple) else parts
    if isinstance(node, type) and known.get(node.__name__) is node:
        return {"__class__": node.__name__}
    if dataclasses.is_dataclass(node) and known.get(type(node).__name__) is type(node):
        fields = [getattr(node, field.name) for field in dataclasses.fields(node)]
        return {"__instance__": [type(node).__name__, *(encode_tree(value, tensors, known) for value in fields)]}
    if isinstance(node, float) and not math.isfinite(node):
        return {"__float__": repr(node)}
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"tree: got a {type(node).__name__}; expected numbers, strings, arrays and nestings of them")


def _encode_dict(node: dict[Any, Any], tensors: dict[str, Tensor], known: Mapping[str, type]) -> dict[str, Any]:
    if all(isinstance(key, str) and not key.startswith("__") for key in node):
        return {key: encode_tree(value, tensors, known) for key, value in node.items()}
    return {"__items__": [[encode_tree(part, tensors, known) for part in item] for item in node.items()]}


def decode_tree(node: Any, tensors: Mapping[str, Tensor], known: Mapping[str, type] | None = None) -> Any:
    """The tree that :func:`encode_tree` took apart.

    Raises:
        KeyError: If it names an array or a class that is not there.
    """
    known = {} if known is None else known
    if isinstance(node, list):
        return [decode_tree(value, tensors, known) for value in node]
    if not isinstance(node, dict):
        return node
    kind = next(iter(node), "")
    match kind:
        case "__tensor__":
            return tensors[node[kind]]
        case "__array__":
            return tensors[node[kind]].numpy()
        case "__items__":
            return {decode_tree(k, tensors, known): decode_tree(value, tensors, known) for k, value in node[kind]}
        case "__tuple__":
            return tuple(decode_tree(value, tensors, known) for value in node[kind])
        case "__instance__":
            name, *fields = node[kind]
            makers = {key: each for key, each in known.items() if dataclasses.is_dataclass(each)}
            return makers[name](*(decode_tree(value, tensors, known) for value in fields))
        case "__class__":
            return known[node[kind]]
        case "__float__":
            return float(node[kind])
    return {key: decode_tree(value, tensors, known) for key, value in node.items()}


def tree_to_bytes(tree: Any) -> bytes:
    """A tree as one safetensors file.

    Raises:
        TypeError: If something in the tree is neither a number, a string, an array nor a nesting of them.

    Example:
        >>> tree_from_bytes(tree_to_bytes({"step": 3, "weights": (torch.ones(2), None)}))
        {'step': 3, 'weights': (tensor([1., 1.]), None)}
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(encode_tree(tree, tensors), allow_nan=False)
    # Tensors that share memory (a parameter kept twice) are written apart.
    seen: set[int] = set()
    for key, tensor in tensors.items():
        if tensor.numel() and tensor.untyped_storage().data_ptr() in seen:
            tensors[key] = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
    # One entry alone: safetensors writes several in an order of chance, and equal trees must be equal bytes.
    return save_tensors(tensors, metadata={"tree": structure})


def tree_from_bytes(data: bytes, name: str | os.PathLike[str] = "tree") -> Any:
    """The tree of :func:`tree_to_bytes`.

    Raises:
        TreeFileError: If the bytes are cut short or something else; ``name`` says where they came from.
    """
    try:
        tensors = load_tensors(data)
        size = int.from_bytes(data[:8], "little")
        structure = json.loads(data[8 : 8 + size])["__metadata__"]["tree"]
        return decode_tree(json.loads(structure), tensors)
    except (SafetensorError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise TreeFileError(name, f"no readable tree ({error})", "a whole safetensors file with a tree") from error


def write_tree(path: str | os.PathLike[str], tree: Any) -> None:
    """Write a tree; the file appears by rename."""
    write_atomically(path, tree_to_bytes(tree))


def read_tree(path: str | os.PathLike[str]) -> Any:
    """Read :func:`write_tree`'s file.

    Raises:
        TreeFileError: If it is missing or broken.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise TreeFileError(path, error.strerror or "nothing readable", "a file written by this package") from error
    return tree_from_bytes(data, path)
