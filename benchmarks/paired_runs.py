"""Ratio of the losses of runs to those of other runs, on the held-out crops that both were compared on.

    python benchmarks/paired_runs.py --reference runs/real-0 runs/real-1 --runs runs/procedural-0 runs/procedural-1

Run i is paired with reference i, crop by crop. A group of micrographs counts once, in whichever pairs it was held out:
the bootstrap draws groups, with all their crops of all pairs.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from adaptive_scan.evaluation.statistics import bootstrap_ratio, ratio_of_means, win_rate
from common import markdown_table

Key = tuple[str, ...]


def main() -> None:
    """Print a table in Markdown: one line for each scan, and one for all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, nargs="+", required=True, help="folders with comparison.csv")
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="as many folders")
    parser.add_argument("--groups", type=Path, help="CSV with the columns file and group")
    parser.add_argument("--completer", default="generator")
    arguments = parser.parse_args()
    if len(arguments.runs) != len(arguments.reference):
        parser.error(
            f"--runs: found {len(arguments.runs)}; expected {len(arguments.reference)}, one for each reference"
        )
    groups = {} if arguments.groups is None else _groups(arguments.groups)
    pairs = [
        _paired(_losses(run, arguments.completer), _losses(reference, arguments.completer))
        for run, reference in zip(arguments.runs, arguments.reference, strict=True)
    ]
    scans = [*dict.fromkeys(key[3] for keys, _ in pairs for key in keys), None]
    columns = ("scan", "loss", "reference", "ratio [95 %]", "each pair", "wins", "crops", "groups")
    print(markdown_table(columns, [_line(scan, pairs, groups) for scan in scans]))


def _groups(path: Path) -> dict[str, str]:
    with path.open(newline="") as lines:
        return {Path(row["file"]).name: row["group"] for row in csv.DictReader(lines)}


def _losses(folder: Path, completer: str) -> dict[Key, float]:
    """Loss by micrograph, row, column and scan."""
    with (folder / "comparison.csv").open(newline="") as lines:
        return {
            (row["micrograph"], row["row"], row["column"], row["scan"]): float(row["loss"])
            for row in csv.DictReader(lines)
            if row["completer"] == completer
        }


def _paired(losses: dict[Key, float], reference: dict[Key, float]) -> tuple[list[Key], np.ndarray]:
    """Crops and scans that both have, and both losses, shape (n, 2); those of one run alone would be no pairs."""
    keys = [key for key in reference if key in losses]
    if {key[:3] for key in losses} != {key[:3] for key in reference}:
        raise SystemExit("runs: got other crops than the reference's; expected the same held-out crops")
    return keys, np.array([(losses[key], reference[key]) for key in keys])


def _line(scan: str | None, pairs: list[tuple[list[Key], np.ndarray]], groups: dict[str, str]) -> list[object]:
    chosen = [
        (
            [groups.get(Path(key[0]).name, key[0]) for key in keys if scan in (None, key[3])],
            losses[[scan in (None, key[3]) for key in keys]],
        )
        for keys, losses in pairs
    ]
    ids = np.array([group for names, _ in chosen for group in names])
    losses = np.concatenate([part for _, part in chosen])
    interval = bootstrap_ratio(losses[:, 0], losses[:, 1], ids, np.random.default_rng(0))
    each = ", ".join(f"{ratio_of_means(part[:, 0], part[:, 1]):.3f}" for _, part in chosen)
    ratio = f"{ratio_of_means(losses[:, 0], losses[:, 1]):.3f}"
    if interval is not None:
        ratio += f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    mean, reference = losses.mean(axis=0)
    wins = f"{100 * win_rate(losses[:, 0], losses[:, 1]):.0f} %"
    return [scan or "all", f"{mean:.4f}", f"{reference:.4f}", ratio, each, wins, len(losses), len(set(ids))]


if __name__ == "__main__":
    main()
