"""The table and the figure of all runs of ``run.py`` that have finished; by default of those in the documentation.

Run with ``python benchmarks/pomdp/table.py --figure docs/images/pomdp.png``, or for runs of your own with
``python benchmarks/pomdp/table.py --folder runs/pomdp``.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import markdown_table
from pomdp.tasks import TASKS, Task

COLOURS = ("#0072B2", "#009E73", "#000000", "#E69F00", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")  # Okabe and Ito
N_LAST = 10  # evaluations that others average over


@dataclass(frozen=True)
class Settings:
    """What to show.

    Attributes:
        folder: Where the results are.
        figure: Picture to write, if any.
    """

    folder: Path = Path(__file__).parent / "results"
    figure: Path | None = None


def finished_runs(folder: Path) -> list[dict[str, Any]]:
    """The records of all runs that reached their end, by name."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [record for record in records if record["finished"]]


def _agent(record: dict[str, Any]) -> tuple[str, str, bool]:
    return record["algorithm"], record["memory"], record["forgets"]


def _label(agent: tuple[str, str, bool]) -> str:
    algorithm, memory, forgets = agent
    name = {"rdpg": "RDPG", "td3": "recurrent TD3"}[algorithm]
    return f"{name}, {memory.upper() if len(memory) < 5 else memory}{', state zeroed' if forgets else ''}"


def rows_of(task: Task, runs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row for each agent, and one for each published figure."""
    rows = []
    number = f".{1 if abs(task.goal) >= 10 else 3}f"
    for agent, group in itertools.groupby(sorted(runs, key=_agent), key=_agent):
        some = list(group)
        finals = np.array([np.mean(run["final_returns"]) for run in some])
        last = [np.mean(run["means"][-N_LAST:]) for run in some]
        spread = np.mean([np.std(run["final_returns"]) for run in some])
        rows.append(
            [
                _label(agent),
                f"{some[0]['steps'][-1]:,}",
                str(len(some)),
                f"{np.median(finals):{number}}",
                ", ".join(f"{final:{number}}" for final in finals),
                f"{spread:{number}}",
                ", ".join(f"{mean:{number}}" for mean in last),
            ]
        )
    for known in task.published:
        spread_text = "" if known.spread is None else f"{known.spread:{number}}"
        rows.append(
            [f"{known.agent} ({known.source})", f"{known.n_steps:,}", "", f"{known.mean:{number}}", "", spread_text, ""]
        )
    return rows


def draw_curves(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Mean return of each agent against steps, one panel for each task: the median of the seeds and their range."""
    names = [name for name in TASKS if any(run["task"] == name for run in runs)]
    n_columns = min(3, len(names))
    n_rows = -(-len(names) // n_columns)
    size = (3.0 * n_columns, 2.5 * n_rows + 0.5)
    figure, grid = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, layout="constrained")
    axes = grid.ravel()[: len(names)]
    for spare in grid.ravel()[len(names) :]:
        spare.set_axis_off()
    agents = sorted({_agent(run) for run in runs}, key=lambda agent: (agent[2], agent))
    for axis, name in zip(axes, names, strict=True):
        for colour, agent in zip(COLOURS, agents, strict=False):
            some = [run for run in runs if run["task"] == name and _agent(run) == agent]
            if not some:
                continue
            n = min(len(run["steps"]) for run in some)
            steps, means = some[0]["steps"][:n], np.array([run["means"][:n] for run in some])
            axis.plot(steps, np.median(means, axis=0), color=colour, ls="--" if agent[2] else "-", label=_label(agent))
            axis.fill_between(steps, means.min(axis=0), means.max(axis=0), color=colour, alpha=0.15, lw=0)
        for known in TASKS[name].published:
            axis.axhline(known.mean, color="0.4", lw=0.8, ls=":")
            axis.annotate(known.agent, (0.02, known.mean), xycoords=("axes fraction", "data"), fontsize=6, va="bottom")
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("steps")
        axis.xaxis.set_major_formatter(lambda steps, _: f"{steps / 1_000:g}k")
        axis.grid(alpha=0.2)
    for row in grid:
        row[0].set_ylabel("return")
    handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


COLUMNS = (
    *("agent", "steps", "seeds", "return (median)", "each seed", "spread over episodes"),
    f"mean of the last {N_LAST} evaluations, each seed",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each task that has finished runs, and draw them all."""
    settings = tyro.cli(Settings, args=arguments, description=__doc__)
    runs = finished_runs(settings.folder)
    for name, task in TASKS.items():
        some = [run for run in runs if run["task"] == name]
        if some:
            # Others report the last evaluations where learning has long come to rest by then.
            n_columns = len(COLUMNS) if task.published else len(COLUMNS) - 1
            rows = [row[:n_columns] for row in rows_of(task, some)]
            print(f"\n{name} (goal {task.goal:g})\n\n{markdown_table(COLUMNS[:n_columns], rows)}")
    if settings.figure is not None and runs:
        draw_curves(runs, settings.figure)
        print(f"\n{settings.figure}")


if __name__ == "__main__":
    main()
