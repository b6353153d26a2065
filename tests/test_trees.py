"""Nested states on disk: what comes back is what went in, and nothing else is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from adaptive_scan.trees import TreeFileError, decode_tree, encode_tree, read_tree, tree_to_bytes, write_tree


def test_tree_comes_back_equal(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).bit_generator.state
    shared = torch.ones(3)
    tree = {
        "bits": bits,
        0: [torch.arange(3), (1.1, None, True, "text")],
        "array": np.eye(2, dtype=np.float64),
        "generator": torch.Generator().manual_seed(4).get_state(),
        "twice": [shared, shared],
        "scalar": torch.tensor(2.5),
        "number": np.float32(0.5),
        "infinite": (math.inf, -math.inf),
        "nested": {"__tensor__": 1},
        "empty": {},
    }
    write_tree(tmp_path / "state.safetensors", tree)
    loaded = read_tree(tmp_path / "state.safetensors")
    assert list(loaded) == list(tree)
    assert loaded["bits"] == bits
    assert torch.equal(loaded[0][0], torch.arange(3))
    assert loaded[0][1] == (1.1, None, True, "text")
    assert loaded["array"].dtype == np.float64
    np.testing.assert_array_equal(loaded["array"], np.eye(2))
    assert torch.equal(loaded["generator"], tree["generator"])
    assert [t.tolist() for t in loaded["twice"]] == [[1.0] * 3] * 2
    assert loaded["scalar"].item() == 2.5
    assert loaded["number"] == 0.5
    assert loaded["infinite"] == (math.inf, -math.inf)
    assert loaded["nested"] == {"__tensor__": 1}
    assert loaded["empty"] == {}


def test_objects_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="tree: got a set; expected numbers, strings, arrays"):
        write_tree(tmp_path / "state.safetensors", {"names": {1, 2}})
    assert list(tmp_path.iterdir()) == []


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    with pytest.raises(TreeFileError, match=r"state\.safetensors: got No such file"):
        read_tree(path)
    write_tree(path, {"weights": torch.ones(10)})
    whole = path.read_bytes()
    for content in (whole[:-4], whole[:12], b"", b"PK\x03\x04" + bytes(50)):
        path.write_bytes(content)
        with pytest.raises(TreeFileError, match="expected a whole safetensors file with a tree"):
            read_tree(path)


def test_equal_trees_are_equal_bytes() -> None:
    assert len({tree_to_bytes({"weights": torch.ones(3), "step": [1, 2]}) for _ in range(30)}) == 1


@dataclass(frozen=True)
class Place:
    """A place with a name."""

    row: int
    names: tuple[str, ...]


def test_known_classes_and_instances_of_dataclasses_are_written_by_name() -> None:
    known: dict[str, type] = {"Place": Place, "int": int}
    tree = {"kinds": [int, (Place, Place(3, ("a", "b")))], 1: (2,)}
    written = encode_tree(tree, {}, known)
    assert written["__items__"][0][1] == [
        {"__class__": "int"},
        {"__tuple__": [{"__class__": "Place"}, {"__instance__": ["Place", 3, {"__tuple__": ["a", "b"]}]}]},
    ]
    read = decode_tree(written, {}, known)
    assert read == tree
    assert type(read["kinds"][1][1]) is Place
    with pytest.raises(TypeError, match="tree: got a type"):
        encode_tree([float], {}, known)
    with pytest.raises(TypeError, match="tree: got a Place"):
        encode_tree(Place(1, ()), {})
    # Of other classes no instances are made, and unknown ones are not found.
    for foreign in ({"__instance__": ["int", 3]}, {"__class__": "float"}, {"__instance__": ["Other"]}):
        with pytest.raises(KeyError):
            decode_tree(foreign, {}, known)


def test_endless_nesting_is_named(tmp_path: Path) -> None:
    save_file({}, tmp_path / "state.safetensors", metadata={"tree": "[" * 100_000})
    with pytest.raises(TreeFileError, match="expected a whole safetensors file with a tree"):
        read_tree(tmp_path / "state.safetensors")


@pytest.mark.parametrize("structure", ['{"__items__": 3}', '{"__items__": [[[1], 2]]}', '{"__tensor__": "9"}', "{"])
def test_foreign_structures_are_named(tmp_path: Path, structure: str) -> None:
    save_file({"0": torch.ones(1)}, tmp_path / "state.safetensors", metadata={"tree": structure})
    with pytest.raises(TreeFileError, match="expected a whole safetensors file with a tree"):
        read_tree(tmp_path / "state.safetensors")
