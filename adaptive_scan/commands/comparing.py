"""``compare_scans``: the scans of a run beside static ones, at equal dose, on micrographs it did not see."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from adaptive_scan.commands.building import (
    TestCrops,
    adaptive_contender,
    load_data,
    open_micrographs,
    spiral_contender,
    test_crops,
)
from adaptive_scan.commands.errors import InputError
from adaptive_scan.commands.runs import Run, load_run
from adaptive_scan.evaluation import (
    Comparison,
    Contender,
    compare_scans,
    comparison_table,
    static_contenders,
    write_comparison,
)
from adaptive_scan.generators import make_completer
from adaptive_scan.scans import STATIC_SCANS

DEFAULT_SCANS = ("adaptive", "polygonal_spiral", "spiral", "raster", "grid", "random")
_OWN = ("adaptive", "polygonal_spiral")


@dataclass(frozen=True)
class ComparisonConfig:
    """What is compared, and on which pictures."""

    run: Path
    """Run folder that training wrote."""
    micrographs: Path | None = None
    """File or folder of micrographs, all of which count as held out; without it those that the run held out."""
    groups: Path | None = None
    """CSV with the columns file and group: the bootstrap draws groups."""
    scans: tuple[str, ...] = DEFAULT_SCANS
    """Scans to compare: adaptive, polygonal_spiral and static families."""
    policy: str | None = None
    """One more policy, as package.module:factory; the factory is called without arguments."""
    out: Path | None = None
    """Folder for the comparison; without it the run folder."""
    seed: int = 0
    """Seed of random scans and of the bootstrap."""
    skip_bad: bool = False
    """Whether files that cannot be used are skipped and reported."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run."""


def compare_run(
    run: Run,
    test: TestCrops,
    *,
    scans: Sequence[str] = DEFAULT_SCANS,
    policies: Sequence[Contender] = (),
    seed: int = 0,
    progress: bool = True,
) -> Comparison:
    """Compare the actor of a run with static scans and further policies, by its generator and by linear interpolation.

    Raises:
        InputError: If a scan is unknown.
    """
    unknown = sorted(set(scans) - set(_OWN) - set(STATIC_SCANS))
    if unknown:
        raise InputError(f"scans: found {unknown[0]!r}; expected some of {', '.join((*_OWN, *STATIC_SCANS))}")
    own = {"adaptive": adaptive_contender(run.config, run.policy), "polygonal_spiral": spiral_contender(run.config)}
    names = list(dict.fromkeys([*scans, "spiral"]))
    contenders = [own[name] if name in own else static_contenders([name])[0] for name in names]
    return compare_scans(
        test.crops,
        test.micrographs,
        [*contenders, *policies],
        {"generator": run.generator, "linear": make_completer("linear")},
        geometry=run.config.geometry,
        groups=test.groups,
        corners=test.corners,
        blur_targets=run.config.data.blur,
        seed=seed,
        progress=progress,
    )


def load_policy(name: str) -> Contender:
    """A user's policy as a contender, from ``package.module:factory``.

    The factory returns a policy with Stable-Baselines3's ``predict``, or a Contender where it needs settings of its own.

    Raises:
        InputError: If the name has another form, or there is no such module or factory, or what it makes cannot predict.
    """
    module_name, _, factory_name = name.partition(":")
    if not module_name or not factory_name:
        raise InputError(f"policy: found {name!r}; expected package.module:factory")
    try:
        factory: Any = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"policy: found {name!r} ({error}); expected package.module:factory") from error
    made = factory()
    if isinstance(made, Contender):
        return made
    if not hasattr(made, "predict"):
        raise InputError(f"policy: found a {type(made).__name__} without predict; expected a policy")
    return Contender(factory_name, policy=made)


def compare_command(arguments: list[str]) -> None:
    """Compare the scans of a run with static ones at equal dose, on held-out micrographs."""
    config = tyro.cli(ComparisonConfig, args=arguments, prog="compare_scans", description=compare_command.__doc__)
    run = load_run(config.run)
    test = _test_crops(config, run)
    policies = [] if config.policy is None else [load_policy(config.policy)]
    comparison = compare_run(run, test, scans=config.scans, policies=policies, seed=config.seed)
    print_comparison(comparison, config.run if config.out is None else config.out)


def _test_crops(config: ComparisonConfig, run: Run) -> TestCrops:
    if config.micrographs is None:
        return load_data(run.config).test
    dataset = open_micrographs(config.micrographs, run.config, skip_bad=config.skip_bad, groups=config.groups)
    for error in dataset.skipped:
        print(f"skipped: {error}")
    return test_crops(dataset, run.config)


def print_comparison(comparison: Comparison, folder: Path) -> None:
    """Write the files of a comparison and show its table."""
    files = write_comparison(comparison, folder)
    console = Console()
    console.print(comparison_table(comparison))
    console.print(f"written: {', '.join(str(file) for file in files)}", soft_wrap=True, highlight=False)
