"""``train_generator``: what it leaves behind, how it is killed and goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from adaptive_scan.commands import train_generator as generator_training
from adaptive_scan.commands.generator_settings import generator_preset_config, parse_generator_training
from adaptive_scan.commands.run_folder import CHECKPOINT, read_json
from adaptive_scan.errors import SettingError
from adaptive_scan.generators import (
    GeneratorTrainer,
    TwoStageGenerator,
    load_generator,
    read_generator_header,
    save_generator,
)
from adaptive_scan.generators.distributed import Processes
from adaptive_scan.generators.normalisation import freeze_normalisation
from adaptive_scan.trees import read_tree

Command = Callable[..., int]
Results = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def kept() -> dict[str, Path]:
    return {}


@pytest.fixture
def trained(
    train_generator: Command,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_generator: tuple[str, ...],
    kept: dict[str, Path],
) -> Path:
    """The folder of a run that nothing interrupted, made once; not to be changed."""
    if "trained" not in kept:
        folder = tmp_path_factory.mktemp("generators") / "trained"
        scans = ("--scans", "spiral", "grid", "polygonal_spiral", "random_headings")
        assert train_generator(*tiny_generator, *scans, "--out", folder) == 0
        kept["trained"] = folder
    return kept["trained"]


def test_it_leaves_a_generator_judged_beside_interpolation(trained: Path) -> None:
    assert load_generator(trained / "generator.safetensors").config["n_channels"] == 4
    assert read_generator_header(trained / "generator.safetensors")["metadata"] == {"n_updates": 12}
    rows = read_json(trained / "comparison.json")["rows"]
    assert [(row["scan"], row["completer"]) for row in rows] == [
        (scan, completer)
        for scan in ("spiral", "grid", "polygonal_spiral", "random_headings")
        for completer in ("generator", "linear", "nearest")
    ]
    manifest = read_json(trained / "manifest.json")
    assert (manifest["iterations_done"], manifest["seed"]) == (12, 0)
    log = EventAccumulator(str(trained / "tensorboard"))
    log.Reload()
    assert set(log.Tags()["scalars"]) == {"generator/loss", "generator/loss_std", "generator/learning_rate"}
    assert [event.step for event in log.Images("pictures/scan_completion_target")] == [4, 8, 12]


class Killed(BaseException):
    """The end of the process, as far as the program can tell."""


def test_killed_and_resumed_it_ends_with_the_same_bits(
    train_generator: Command,
    tmp_path: Path,
    tiny_generator: tuple[str, ...],
    results: Results,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    update = GeneratorTrainer.update

    def update_until_killed(self: GeneratorTrainer) -> object:
        if self.step == 8:
            raise Killed
        return update(self)

    folder = tmp_path / "killed"
    scans = ("--scans", "spiral", "grid", "polygonal_spiral", "random_headings")
    with monkeypatch.context() as patch:
        patch.setattr(GeneratorTrainer, "update", update_until_killed)
        with pytest.raises(Killed):
            train_generator(*tiny_generator, *scans, "--out", folder)
    assert read_json(folder / "manifest.json")["iterations_done"] == 6
    assert train_generator("--resume", folder) == 0
    assert results(folder) == results(trained)


def test_ctrl_c_saves_and_says_how_to_go_on(
    train_generator: Command,
    tmp_path: Path,
    tiny_generator: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    update = GeneratorTrainer.update

    def update_and_interrupt(self: GeneratorTrainer) -> object:
        losses = update(self)
        if self.step == 5:
            signal.raise_signal(signal.SIGINT)
        return losses

    monkeypatch.setattr(GeneratorTrainer, "update", update_and_interrupt)
    folder = tmp_path / "run"
    assert train_generator(*tiny_generator, "--out", folder) == 130
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"interrupted: saved after 5 iterations; go on with --resume {folder}"
    assert (folder / CHECKPOINT).exists()
    assert train_generator("--resume", folder) == 0
    assert read_json(folder / "manifest.json")["iterations_done"] == 12


def test_the_folder_of_another_kind_of_run_is_refused(
    finished_run: Path, train_generator: Command, complaint: Callable[[], str]
) -> None:
    assert train_generator("--resume", finished_run) == 2
    assert complaint() == f"error: {finished_run}: got a run of train; expected one of train-generator"


def test_a_generator_s_folder_is_no_run_to_compare(
    trained: Path, compare: Command, train: Command, complaint: Callable[[], str]
) -> None:
    for command, option in ((compare, "--run"), (train, "--resume")):
        assert command(option, trained) == 2
        assert complaint() == f"error: {trained}: got a run of train-generator; expected one of train"


def test_it_uses_the_threads_it_is_given(
    train_generator: Command, tmp_path: Path, tiny_generator: tuple[str, ...]
) -> None:
    line = ("--n-updates", "1", "--n-threads", "2", "--out", tmp_path / "run")
    assert train_generator(*tiny_generator, *line) == 0
    assert read_json(tmp_path / "run" / "manifest.json")["n_threads"] == 2


UNIFIED = (
    *("--scans", "spiral", "random", "--coverages", "1/4", "1/16", "--prioritisation", "tracked", "--alrc"),
    *("--sampling", "epochs", "--ema-decay", "0.9", "--max-grad-norm", "1", "--known-pixels", "excluded"),
)


def test_a_unified_generator_resumes_to_the_same_bits_and_saves_its_average(
    train_generator: Command,
    tmp_path: Path,
    tiny_generator: tuple[str, ...],
    results: Results,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train_generator(*tiny_generator, *UNIFIED, "--out", tmp_path / "whole") == 0
    assert "compared at the geometry's dose alone, a coverage of 1/16" in capsys.readouterr().out
    state = read_tree(tmp_path / "whole" / CHECKPOINT)
    saved = load_generator(tmp_path / "whole" / "generator.safetensors").state_dict()
    assert all(torch.equal(saved[name], value) for name, value in state["ema_network"].items())
    log = EventAccumulator(str(tmp_path / "whole" / "tensorboard"))
    log.Reload()
    assert {"generator/priority_1_in_4", "generator/priority_1_in_16"} <= set(log.Tags()["scalars"])
    update = GeneratorTrainer.update

    def update_until_killed(self: GeneratorTrainer) -> object:
        if self.step == 8:
            raise Killed
        return update(self)

    with monkeypatch.context() as patch:
        patch.setattr(GeneratorTrainer, "update", update_until_killed)
        with pytest.raises(Killed):
            train_generator(*tiny_generator, *UNIFIED, "--out", tmp_path / "killed")
    assert train_generator("--resume", tmp_path / "killed") == 0
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


def test_fine_tuning_starts_from_the_weights_of_a_file(
    train_generator: Command, tmp_path: Path, tiny_generator: tuple[str, ...], trained: Path
) -> None:
    """A learning rate too small for float32 to notice leaves the weights where they started."""
    line = ("--n-updates", "2", "--learning-rate", "1e-30", "--final-learning-rate", "0", "--weight-decay", "0")
    file = trained / "generator.safetensors"
    assert train_generator(*tiny_generator, *line, "--start-from", file, "--out", tmp_path / "tuned") == 0
    before, after = (load_generator(path).state_dict() for path in (file, tmp_path / "tuned" / "generator.safetensors"))
    assert all(torch.allclose(before[name], after[name], rtol=0, atol=1e-20) for name in before)
    assert json.loads((tmp_path / "tuned" / "config.json").read_text())["start_from"] == str(file)


UNMOVED = ("--n-updates", "2", "--learning-rate", "1e-30", "--final-learning-rate", "0", "--weight-decay", "0")


def test_fine_tuning_killed_before_its_first_checkpoint_starts_from_the_file_again(
    train_generator: Command,
    tmp_path: Path,
    tiny_generator: tuple[str, ...],
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(self: GeneratorTrainer) -> Tensor:
        raise Killed

    file, folder = trained / "generator.safetensors", tmp_path / "tuned"
    with monkeypatch.context() as patch:
        patch.setattr(GeneratorTrainer, "update", killed)
        with pytest.raises(Killed):
            train_generator(*tiny_generator, *UNMOVED, "--start-from", file, "--out", folder)
    assert not (folder / CHECKPOINT).exists()
    assert train_generator("--resume", folder) == 0
    before, after = (load_generator(path).state_dict() for path in (file, folder / "generator.safetensors"))
    assert all(torch.allclose(before[name], after[name], rtol=0, atol=1e-20) for name in before)


def test_fine_tuning_two_stages_begins_with_a_scaled_auxiliary_trainer_and_normalisations_that_learn(
    train_generator: Command, tmp_path: Path, tiny_generator: tuple[str, ...]
) -> None:
    network = TwoStageGenerator(width=1 / 32)
    freeze_normalisation(network)
    save_generator(network, tmp_path / "frozen.safetensors")
    line = ("--generator.kind", "two_stage", "--width", "0.03125", "--geometry.image-size", "32", "--scans", "spiral")
    start = ("--start-from", tmp_path / "frozen.safetensors", "--out", tmp_path / "tuned")
    assert train_generator(*tiny_generator, *line, *UNMOVED, *start) == 0
    state = read_tree(tmp_path / "tuned" / CHECKPOINT)
    lengths = [value for name, value in state["auxiliary"].items() if name.endswith("original0")]
    assert len(lengths) == 2
    assert not any(torch.isclose(value, torch.tensor(2.0).sqrt()).any() for value in lengths)
    means = [value for name, value in state["network"].items() if name.endswith("running_mean")]
    assert len(means) > 10
    assert all(value.any() for value in means[:3])


def test_a_mask_aware_network_knows_whether_targets_are_blurred(
    train_generator: Command, tmp_path: Path, tiny_generator: tuple[str, ...]
) -> None:
    line = ("--generator.kind", "mask_aware", "--n-updates", "1", "--scans", "spiral")
    for option in ("--blur", "--no-blur"):
        assert train_generator(*tiny_generator, *line, option, "--out", tmp_path / option) == 0
        config = read_generator_header(tmp_path / option / "generator.safetensors")["config"]
        assert config["blurred"] == (option == "--blur")


class Twins(Processes):
    """Two processes of which the other does as this one does."""

    def gather(self, own: Tensor) -> Tensor:
        return torch.stack((own, own), dim=1).flatten(0, 1)

    def _average(self, tensors: list[Tensor]) -> None:
        """The mean of equal ones."""

    def copy_from_first(self, network: nn.Module) -> None:
        """The other is equal already."""

    def any(self, flag: bool) -> bool:
        return flag

    def wait(self) -> None:
        """The other is here."""

    def from_first(self, tree: Any) -> Any:
        return tree


def test_ctrl_c_in_the_last_update_of_several_processes_is_heard(
    train_generator: Command,
    tmp_path: Path,
    tiny_generator: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    update = GeneratorTrainer.update

    def update_and_interrupt(self: GeneratorTrainer) -> Tensor:
        losses = update(self)
        if self.step == 2:
            signal.raise_signal(signal.SIGINT)
        return losses

    monkeypatch.setattr(GeneratorTrainer, "update", update_and_interrupt)
    monkeypatch.setattr(
        generator_training, "joined_processes", lambda cuda: contextlib.nullcontext(Twins(n_processes=2))
    )
    folder = tmp_path / "run"
    assert train_generator(*tiny_generator, "--n-updates", "2", "--out", folder) == 130
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"interrupted: training is done; for the comparison go on with --resume {folder}"
    assert read_json(folder / "manifest.json")["iterations_done"] == 2


def test_fine_tuning_another_network_is_refused(
    train_generator: Command,
    tmp_path: Path,
    tiny_generator: tuple[str, ...],
    trained: Path,
    complaint: Callable[[], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = trained / "generator.safetensors"
    capped = ("--start-from", file, "--out", tmp_path / "tuned")
    complaints = {
        ("--n-channels", "8"): f"{file}: got a unet generator with {{'n_channels': 4, 'n_levels': 2}};"
        " expected a unet generator with {'n_channels': 8, 'n_levels': 2}",
        ("--generator.kind", "residual"): f"{file}: got a unet generator with {{'n_channels': 4, 'n_levels': 2}};"
        " expected a residual generator with {'width': 1.0}",
    }
    capsys.readouterr()
    for change, expected in complaints.items():
        assert train_generator(*tiny_generator, *change, *capped) == 2
        assert complaint() == f"error: {expected}"
    assert train_generator(*tiny_generator, "--start-from", tmp_path / "none", "--out", tmp_path / "tuned") == 2
    assert complaint() == f"error: {tmp_path / 'none'}: got no such file; expected a generator file"
    assert not (tmp_path / "tuned").exists()


def test_scans_of_a_policy_join_the_mixture(
    train_generator: Command, tmp_path: Path, tiny_generator: tuple[str, ...], finished_run: Path
) -> None:
    geometry = json.loads((finished_run / "config.json").read_text())["geometry"]["spacing"]
    line = ("--geometry.spacing", *map(str, geometry), "--scans", "adaptive", "spiral", "--policy-run", finished_run)
    assert train_generator(*tiny_generator, *line, "--n-updates", "2", "--out", tmp_path / "run") == 0
    rows = read_json(tmp_path / "run" / "comparison.json")["rows"]
    assert {row["scan"] for row in rows} == {"adaptive", "spiral"}


def test_a_policy_of_another_geometry_is_refused(
    train_generator: Command, tmp_path: Path, tiny_generator: tuple[str, ...], finished_run: Path,
    complaint: Callable[[], str],
) -> None:  # fmt: skip
    line = (
        "--scans",
        "adaptive",
        "--policy-run",
        finished_run,
        "--geometry.n-segments",
        "3",
        "--out",
        tmp_path / "run",
    )
    assert train_generator(*tiny_generator, *line) == 2
    assert complaint().startswith(f"error: {finished_run}: got a policy for ScanGeometry(image_size=16, n_segments=4")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            ("--scans", "adaptive"),
            "policy-run: got nothing with the scans 'adaptive'; expected a run folder",
        ),
        (("--policy-run", "runs/a"), "policy-run: got one without the scans 'adaptive'; expected them among the scans"),
        (("--coverages", "1/0"), "coverages: got '1/0'; expected numbers above 0 and at most 1"),
        (("--coverages", "3/2"), "coverages holds 1.5; expected numbers above 0 and at most 1"),
        (("--preset", "huge"), "preset: got 'huge'; expected one of quick, ede96, partial-stem-512, supersampling-512"),
    ],
)
def test_settings_that_do_not_go_together(line: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingError, match=message.replace("(", r"\(")):
        parse_generator_training(list(line))


def test_changed_settings_are_refused_beside_resume(trained: Path) -> None:
    for line in (["--ema-decay", "0.9"], ["--coverages", "0.1"], ["--adversarial.adversarial-weight", "2"]):
        with pytest.raises(SettingError, match="got it beside --resume; expected the run's own settings to stand"):
            parse_generator_training(["--resume", str(trained), *line])


def test_presets_are_those_of_the_papers() -> None:
    """Ede and Beanland 2020, supplement; Ede, arXiv 1910.10467, section II and table 1."""
    partial_stem, supersampling = (generator_preset_config(f"{name}-512") for name in ("partial-stem", "supersampling"))
    for config in (partial_stem, supersampling):
        training = config.training
        assert config.geometry.image_size == 512
        assert (training.batch_size, training.n_updates, training.n_supervised) == (1, 2_000_000, 1_000_000)
        rates = [training.learning_rate_at(step) for step in (0, 499_999, 999_999, 1_000_000, 1_499_999, 1_999_999)]
        assert rates == pytest.approx([3e-4, 3e-4, 3e-4 / 8, 1e-4, 1e-4, 1e-4 / 8])
        assert [training.beta1_at(step) for step in (0, 999_999)] == pytest.approx([0.9, 0.55])
        assert (training.alrc, training.alrc_mu1, training.alrc_mu2) == (True, 25.0, 900.0)
        # 200 times the squared error on [0, 1] is 50 times that on [-1, 1]
        assert training.loss_scale == 200 * 0.5**2
    assert partial_stem.geometry.nominal_coverage == pytest.approx(1 / 20, rel=1e-4)
    assert partial_stem.training.beta1_at(1_000_000) == 0.9
    assert partial_stem.adversarial.adversarial_weight == 5.0
    assert supersampling.training.beta1_at(1_000_000) == 0.5
    assert [round(1 / coverage) for coverage in supersampling.training.coverages] == [16, 25, 36, 49, 64, 81, 100]
    assert supersampling.training.prioritisation == "given"
    assert supersampling.training.known_pixels == "excluded"
    assert (supersampling.adversarial.adversarial_weight, supersampling.adversarial.blur_completions) == (1.0, True)


def test_an_adversarial_second_half_leaves_its_log(
    train_generator: Command, tmp_path: Path, tiny_generator: tuple[str, ...]
) -> None:
    line = ("--adversarial-share", "0.5", "--adversarial.discriminator-width", "0.02", "--n-updates", "4")
    assert train_generator(*tiny_generator, *line, "--out", tmp_path / "run") == 0
    log = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    log.Reload()
    assert [event.step for event in log.Scalars("adversarial/discriminator")] == [4]


def test_two_processes_stop_at_ctrl_c_and_one_goes_on(
    train_generator: Command, tmp_path: Path, tiny_generator: tuple[str, ...]
) -> None:
    """Ctrl-C goes to all processes of a terminal, and ``torchrun`` passes it on to its own a second time."""
    line = (*tiny_generator, "--n-updates", "4000", "--checkpoint-every", "2", "--schedule", "constant")
    folder, script = tmp_path / "run", Path(__file__).resolve().parents[2] / "scripts" / "train_generator.py"
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script))
    process = subprocess.Popen(
        [sys.executable, *launch, *line, "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
    )
    try:
        limit = time.monotonic() + 240
        while not (folder / CHECKPOINT).exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode != 0
    manifest = read_json(folder / "manifest.json")
    done = manifest["iterations_done"]
    assert manifest["n_processes"] == 2
    assert f"interrupted: saved after {done} iterations; go on with --resume {folder}" in said
    assert read_tree(folder / CHECKPOINT)["step"] == done
    config = json.loads((folder / "config.json").read_text())
    config["training"]["n_updates"] = done + 3
    (folder / "config.json").write_text(json.dumps(config))
    assert train_generator("--resume", folder) == 0
    assert read_json(folder / "manifest.json")["iterations_done"] == done + 3
