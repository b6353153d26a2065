"""Splits keep groups whole and do not depend on the order of files; groups come from tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_scan.micrographs import MicrographError, split_groups
from adaptive_scan.micrographs.splits import find_column, read_column


class TestSplitGroups:
    @given(
        st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=40),
        st.sampled_from([(0.8, 0.2), (0.5, 0.3, 0.2), (0.98, 0.01, 0.01), (1.0,)]),
        st.integers(0, 50),
    )
    def test_groups_stay_whole_and_all_parts_get_some(self, groups: list[str], fractions: tuple[float, ...], seed: int):
        if len(set(groups)) < len(fractions):
            with pytest.raises(ValueError, match="expected at least one group per part"):
                split_groups(groups, fractions, seed)
            return
        parts = split_groups(groups, fractions, seed)
        assert sorted(np.concatenate(parts)) == list(range(len(groups)))
        named = [{groups[index] for index in part} for part in parts]
        assert all(named)
        assert sum(map(len, named)) == len(set(groups))
        for part in parts:
            assert list(part) == sorted(part)

    @given(st.permutations([f"g{number % 7}" for number in range(20)]))
    def test_file_order_and_counts_do_not_matter(self, groups: list[str]):
        expected = {f"g{index}" for index in split_groups([f"g{n}" for n in range(7)], seed=3)[1]}
        assert {groups[index] for index in split_groups(groups, seed=3)[1]} == expected

    @pytest.mark.parametrize(
        ("n_groups", "fractions", "counts"),
        [
            (10, (0.8, 0.2), [8, 2]),
            (5, (0.8, 0.2), [4, 1]),
            (2, (0.8, 0.2), [1, 1]),
            (103, (0.8, 0.1, 0.1), [83, 10, 10]),
            (3, (0.98, 0.01, 0.01), [1, 1, 1]),
            (100, (0.7, 0.2, 0.1), [70, 20, 10]),
        ],
    )
    def test_counts(self, n_groups: int, fractions: tuple[float, ...], counts: list[int]):
        parts = split_groups([str(number) for number in range(n_groups)], fractions)
        assert sum(map(len, parts)) == n_groups
        assert [len(part) for part in parts] == counts

    def test_seeds_differ_and_repeat(self):
        groups = [str(number) for number in range(30)]
        tests = [tuple(split_groups(groups, seed=seed)[1]) for seed in range(5)]
        assert len(set(tests)) == 5
        assert tests[2] == tuple(split_groups(groups, seed=2)[1])

    @pytest.mark.parametrize("fractions", [(0.8, 0.3), (1.2, -0.2), (0.5, 0.5, 0.0), (), (float("nan"), 1.0)])
    def test_refuses_fractions(self, fractions: tuple[float, ...]):
        with pytest.raises(ValueError, match="fractions: got"):
            split_groups(["a", "b", "c"], fractions)


class TestTables:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir()
        for name in ("a.tif", "b.tif", "c.tif"):
            (folder / name).touch()
        return folder

    def test_beside_or_above_the_files(self, folder: Path):
        expected = {(folder / "a.tif").resolve(): "one", (folder / "b.tif").resolve(): "two"}
        table = "file,group,notes\npictures/a.tif,one,x\npictures/b.tif,two,\nabsent.tif,three,\npictures/c.tif,,\n"
        (folder.parent / "manifest.csv").write_text("\ufeff" + table, encoding="utf-8")
        assert find_column(folder, "group") == expected
        assert find_column(folder / "c.tif", "group") == expected
        (folder / "manifest.csv").write_text("group,file\nnear,a.tif\n")
        assert find_column(folder, "group") == {(folder / "a.tif").resolve(): "near"}

    def test_other_tables_of_this_name_are_not_ours(self, folder: Path):
        (folder / "manifest.csv").write_text("name,colour\na.tif,red\n")
        assert find_column(folder, "group") == {}
        (folder / "manifest.csv").write_bytes(b"\xff\xfe\x00binary")
        assert find_column(folder, "group") == {}
        (folder / "manifest.csv").unlink()
        (folder.parent / "elsewhere.tif").touch()
        (folder.parent / "manifest.csv").write_text("file,group\nelsewhere.tif,red\n")
        assert find_column(folder, "group") == {}

    def test_named_table_must_be_one(self, folder: Path, tmp_path: Path):
        table = tmp_path / "table.csv"
        with pytest.raises(MicrographError, match="nothing there; expected a CSV with the columns file and group"):
            read_column(table, "group", [])
        table.write_text("name,group\na,b\n")
        with pytest.raises(MicrographError, match="the columns name, group"):
            read_column(table, "group", [])
        table.write_bytes(b"\xff\xfe\x00binary")
        with pytest.raises(MicrographError, match="no CSV"):
            read_column(table, "group", [])
        table.write_text("file,group\na.tif,one\n")
        assert read_column(table, "group", [folder]) == {(folder / "a.tif").resolve(): "one"}
