"""``compare --run``: the scans of a run beside static ones, at equal dose, on micrographs it did not see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from adaptive_scan.acquisition import Acquisition, Instrument
from adaptive_scan.commands.command_options import RUN_SCANS, ComparisonConfig
from adaptive_scan.commands.contenders import adaptive_contender, family_contender
from adaptive_scan.commands.crops import TestCrops, open_micrographs, report_skipped, test_crops
from adaptive_scan.commands.held_out import held_out_crops, without_trained
from adaptive_scan.commands.networks import make_device, use_threads
from adaptive_scan.commands.options import check_scan_names
from adaptive_scan.commands.plugins import check_policy, load_completers, load_named_policy
from adaptive_scan.commands.run_folder import make_comparison_folder, make_folder
from adaptive_scan.commands.runs import Run, load_run
from adaptive_scan.commands.terminal import print_whole
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation import Comparison, Contender, compare_scans
from adaptive_scan.generators import Completer, make_completer
from adaptive_scan.report import comparison_sentence, comparison_table, write_comparison

_CLASSICAL = ("linear", "infill")


def compare_run(
    run: Run,
    test: TestCrops,
    *,
    scans: Sequence[str] = RUN_SCANS,
    policies: Sequence[Contender] = (),
    completers: Mapping[str, Completer] = MappingProxyType({}),
    acquisition: Instrument | Acquisition | str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Comparison:
    """Compare the actor of a run with static scans and further policies, by its generator and classical completers.

    Args:
        run: The trained run.
        test: Crops that it did not see.
        scans: Scans to compare; the spiral that ratios refer to is added where it is missing.
        policies: Further contenders.
        completers: Further completers by their names, as `load_completers` returns them.
        acquisition: The instrument that all scans go through, or a preset's name; None is the run's.
        seed: Of random scans, of the instrument and of the bootstrap.
        progress: Whether to show a progress bar.

    Raises:
        SettingError: If a scan is unknown, a policy or a completer has the name of another, or what one of them does is
            refused, such as a scan of another dose.
    """
    check_scan_names(scans)
    names = list(dict.fromkeys([*scans, "spiral"]))
    judges: dict[str, Completer] = {"generator": run.generator, **{name: make_completer(name) for name in _CLASSICAL}}
    _check_names("policy", [policy.name for policy in policies], names)
    _check_names("completer", completers, judges)
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
        judges | dict(completers),
        geometry=run.config.geometry,
        acquisition=run.config.acquisition if acquisition is None else acquisition,
        groups=test.groups,
        corners=test.corners,
        blur_targets=run.config.data.blur,
        second_reference="filling_path",
        seed=seed,
        progress=progress,
    )


def _check_names(what: str, names: Iterable[str], taken: Iterable[str]) -> None:
    """Refuse names that others have: each row of the table says by its names whose it is."""
    known = list(taken)
    for name in names:
        if name in known:
            raise SettingError(f"{what}: got the name {name!r}; expected none of {', '.join(known)}, which are taken")
        known.append(name)


def compare_command(config: ComparisonConfig) -> None:
    """Compare the scans of a run with static ones at equal dose, on held-out micrographs.

    Raises:
        SettingError: If there is no such run, policy, completer or folder, or no held-out picture.
        FileContentError: If a file of the run or of the micrographs cannot be used.
    """
    device = make_device(config.device)
    policies = [load_named_policy(name) for name in config.policies]
    run = load_run(config.run, device)
    use_threads(run.config.n_threads)
    image_size = run.config.geometry.image_size
    acquisition = run.config.acquisition if config.acquisition is None else config.acquisition
    for name, policy in zip(config.policies, policies, strict=True):
        check_policy(name, policy, run.config.geometry, acquisition=acquisition)
    completers = load_completers(config.completers, image_size=image_size, device=device)
    test = _held_out_crops(config, run)
    folder = _folder_of(config)
    comparison = compare_run(
        run,
        test,
        scans=config.scans,
        policies=policies,
        completers=completers,
        acquisition=acquisition,
        seed=config.seed,
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
