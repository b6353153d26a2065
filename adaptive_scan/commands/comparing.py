"""``compare_scans``: the scans of a run beside static ones, at equal dose, on micrographs it did not see."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adaptive_scan.acquisition import Acquisition, Instrument
from adaptive_scan.commands.building import (
    TestCrops,
    adaptive_contender,
    family_contender,
    make_device,
    open_micrographs,
    report_skipped,
    test_crops,
    use_threads,
)
from adaptive_scan.commands.config import RUN_SCANS, ComparisonConfig, check_scan_names
from adaptive_scan.commands.errors import InputError, refusals_as_input_errors
from adaptive_scan.commands.folders import make_comparison_folder, make_folder
from adaptive_scan.commands.held_out import held_out_crops, without_trained
from adaptive_scan.commands.runs import Run, load_run
from adaptive_scan.commands.tables import print_whole
from adaptive_scan.evaluation import (
    Comparison,
    Contender,
    compare_scans,
    comparison_sentence,
    comparison_table,
    write_comparison,
)
from adaptive_scan.generators import make_completer


def compare_run(
    run: Run,
    test: TestCrops,
    *,
    scans: Sequence[str] = RUN_SCANS,
    policies: Sequence[Contender] = (),
    acquisition: Instrument | Acquisition | str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Comparison:
    """Compare the actor of a run with static scans and further policies, by its generator and by linear interpolation.

    Args:
        run: The trained run.
        test: Crops that it did not see.
        scans: Scans to compare; the spiral that ratios refer to is added where it is missing.
        policies: Further contenders.
        acquisition: The instrument that all scans go through, or a preset's name; None is the run's.
        seed: Of random scans, of the instrument and of the bootstrap.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a scan is unknown or a policy has the name of one.
    """
    with refusals_as_input_errors():
        check_scan_names(scans)
    names = list(dict.fromkeys([*scans, "spiral"]))
    taken = [policy.name for policy in policies if policy.name in names]
    if taken:
        raise InputError(f"policy: found the name {taken[0]!r}; expected another than those of the scans")
    contenders = [
        adaptive_contender(run.config, run.policy)
        if name == "adaptive"
        else family_contender(name, run.config.geometry)
        for name in names
    ]
    return compare_scans(
        test.crops,
        test.micrographs,
        [*contenders, *policies],
        {"generator": run.generator, **{name: make_completer(name) for name in ("linear", "infill")}},
        geometry=run.config.geometry,
        acquisition=run.config.acquisition if acquisition is None else acquisition,
        groups=test.groups,
        corners=test.corners,
        blur_targets=run.config.data.blur,
        second_reference="filling_path",
        seed=seed,
        progress=progress,
    )


def load_policy(name: str) -> Contender:
    """A user's policy as a contender, from ``package.module:factory``; modules in the current folder are found.

    The factory returns a policy with Stable-Baselines3's ``predict``, or a Contender that brings its own settings.

    Raises:
        InputError: If the name has another form, there is no such module or factory, or what it makes cannot predict.
    """
    module_name, _, factory_name = name.partition(":")
    if not module_name or not factory_name:
        raise InputError(f"policy: found {name!r}; expected package.module:factory")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        factory: Any = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"policy: found {name!r} ({error}); expected package.module:factory") from error
    if not callable(factory):
        raise InputError(f"policy: found that {name!r} cannot be called; expected a function that makes a policy")
    made = factory()
    if isinstance(made, Contender):
        return made
    if not hasattr(made, "predict"):
        raise InputError(f"policy: found a {type(made).__name__} without predict; expected a policy")
    return Contender(factory_name, policy=made)


def compare_command(config: ComparisonConfig) -> None:
    """Compare the scans of a run with static ones at equal dose, on held-out micrographs.

    Raises:
        InputError: If there is no such run, policy or folder, or no held-out picture.
        FileContentError: If a file of the run or of the micrographs cannot be used.
    """
    device = make_device(config.device)
    policies = [] if config.policy is None else [load_policy(config.policy)]
    run = load_run(config.run, device)
    use_threads(run.config.n_threads)
    test = _held_out_crops(config, run)
    folder = _folder_of(config)
    acquisition = run.config.acquisition if config.acquisition is None else config.acquisition
    comparison = compare_run(
        run, test, scans=config.scans, policies=policies, acquisition=acquisition, seed=config.seed
    )
    micrographs = run.config.micrographs if config.micrographs is None else config.micrographs
    print_comparison(
        comparison, folder, run=config.run, micrographs=micrographs, acquisition=acquisition, seed=config.seed
    )


def _folder_of(config: ComparisonConfig) -> Path:
    """Where a comparison goes: what the run itself compared is replaced by the same comparison only."""
    if config.out is not None:
        return make_folder(config.out)
    plain = ComparisonConfig(run=config.run, skip_bad=config.skip_bad, device=config.device)
    if config == plain:
        return config.run
    folder = make_comparison_folder(config.run)
    print(f"comparison folder: {folder}", flush=True)
    return folder


def _held_out_crops(config: ComparisonConfig, run: Run) -> TestCrops:
    """Crops of micrographs that the run did not train on."""
    if config.micrographs is not None:
        dataset = open_micrographs(config.micrographs, run.config, skip_bad=config.skip_bad, groups=config.groups)
        report_skipped(dataset.skipped)
        return test_crops(without_trained(dataset, run.manifest), run.config)
    return held_out_crops(run.folder, run.config, run.manifest, skip_bad=config.skip_bad, groups=config.groups)


def print_comparison(
    comparison: Comparison, folder: Path, *, run: Path, micrographs: Path | None, acquisition: str, seed: int
) -> None:
    """Write the files of a comparison, show its table, and say how each policy did against the filling path.

    Args:
        comparison: What was found.
        folder: Where the files go.
        run: Run folder of the networks.
        micrographs: Where the pictures came from; None for procedural ones.
        acquisition: Name of the instrument.
        seed: Of the comparison.
    """
    place = None if micrographs is None else str(micrographs.absolute())
    origin = {"run": str(run), "micrographs": place, "acquisition": acquisition, "seed": seed}
    files = write_comparison(comparison, folder, origin=origin)
    print_whole(comparison_table(comparison))
    for policy in comparison.policies:
        sentence = comparison_sentence(comparison, policy, comparison.completers[0])
        if sentence is not None:
            print(sentence)
    print(f"written: {', '.join(str(file) for file in files)}")
