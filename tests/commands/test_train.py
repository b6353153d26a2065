"""What ``train_rdpg`` leaves behind."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adaptive_scan.commands.agent import make_agent
from adaptive_scan.commands.checkpoints import make_logger, picture_strip
from adaptive_scan.commands.contenders import environment_settings
from adaptive_scan.commands.crops import load_data
from adaptive_scan.commands.run_folder import read_config, read_json
from adaptive_scan.commands.runs import load_run
from adaptive_scan.commands.settings import (
    TrainingConfig,
    preset_config,
)
from adaptive_scan.generators import MaskAwareGenerator, ResidualGenerator
from adaptive_scan.micrographs import ArrayCrops, MixedCrops
from adaptive_scan.settings import settings_from_json, settings_to_json
from adaptive_scan.specimens import procedural_crops
from adaptive_scan.specimens.imaging import IMAGINGS

Command = Callable[..., int]


def test_the_run_folder_has_the_files_of_the_contract(finished_run: Path) -> None:
    names = {path.name for path in finished_run.iterdir()}
    results = {"policy.zip", "generator.safetensors", "checkpoints", "tensorboard"}
    assert names == {"config.json", "manifest.json", *results, *(f"comparison.{end}" for end in ("json", "csv", "png"))}
    assert not list(finished_run.rglob(".*"))


def test_the_manifest_says_what_the_run_was_made_with(finished_on_micrographs: tuple[Path, Path]) -> None:
    run, pictures = finished_on_micrographs
    manifest = read_json(run / "manifest.json")
    assert manifest["packages"]["torch"] == torch.__version__
    assert manifest["packages"]["numpy"] == np.__version__
    assert manifest["git_commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", manifest["git_commit"])
    assert (manifest["seed"], manifest["iterations_done"]) == (0, 12)
    assert manifest["seconds_training"] > 0
    assert manifest["seconds_comparison"] > 0
    data = manifest["data"]
    assert data["micrographs"] == str(pictures)
    assert re.fullmatch(r"[0-9a-f]{64}", data["fingerprint"])
    assert sorted(data["train"] + data["test"]) == sorted(path.name for path in pictures.iterdir())
    assert len(data["train_hashes"]) == len(data["train"]) == 4


def test_the_settings_come_back(finished_on_micrographs: tuple[Path, Path]) -> None:
    run, pictures = finished_on_micrographs
    config = read_config(TrainingConfig, run)
    assert (config.micrographs, config.resume, config.iterations) == (pictures, None, 12)
    assert config.agent.hidden_size == 8


@pytest.mark.parametrize("name", ["quick", "ede96"])
def test_settings_survive_json(name: str) -> None:
    config = dataclasses.replace(preset_config(name), micrographs=Path("a"), groups=Path("b"))
    free = dataclasses.replace(config, geometry=dataclasses.replace(config.geometry, spacing=(1.0, 2.0)))
    for settings in (config, free):
        assert settings_from_json(TrainingConfig, json.loads(json.dumps(settings_to_json(settings)))) == settings


def test_the_log_has_grouped_scalars_and_pictures(finished_run: Path) -> None:
    log = EventAccumulator(str(finished_run / "tensorboard"))
    log.Reload()
    tags = log.Tags()
    assert {"train/critic_loss", "train/actor_loss", "train/actor_learning_rate", "train/noise_scale"} <= set(
        tags["scalars"]
    )
    assert {"generator/loss", "generator/loss_reference", "generator/learning_rate"} <= set(tags["scalars"])
    assert [event.step for event in log.Scalars("generator/loss")] == [2, 4, 6, 8, 10, 12]
    pictures = log.Images("pictures/scan_completion_target")
    assert [picture.step for picture in pictures] == [4, 8, 12]
    assert (pictures[0].width, pictures[0].height) == (3 * 16, 4 * 16)


def test_a_resumed_log_hides_what_was_written_after_the_checkpoint(tmp_path: Path) -> None:
    for first, last, value in ((0, 5, 1.0), (3, 5, 2.0)):
        logger = make_logger(tmp_path, first)
        for step in range(first + 1, last + 1):
            logger.record("train/x", value)
            logger.dump(step)
        logger.close()
    log = EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    assert [(event.step, event.value) for event in log.Scalars("train/x")] == [
        *((step, 1.0) for step in (1, 2, 3)),
        *((step, 2.0) for step in (4, 5)),
    ]


def test_pictures_stand_in_rows() -> None:
    scans, completions, targets = torch.full((2, 2, 3, 3), -1.0), torch.zeros(2, 1, 3, 3), torch.full((2, 1, 3, 3), 7.0)
    completions[1] = 1.0
    strip = picture_strip(scans, completions, targets)
    assert strip.shape == (6, 9)
    assert strip[::3, ::3].tolist() == [[0, 128, 255], [0, 255, 255]]


def test_a_normal_run_says_little_and_warns_of_nothing(
    train: Command, tmp_path: Path, tiny_run: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train(*tiny_run, "--iterations", "4", "--out", tmp_path / "run") == 0
    captured = capfd.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == f"run folder: {tmp_path / 'run'}"
    assert lines[-1].startswith(f"written: {tmp_path / 'run' / 'comparison.csv'}")
    bars = [line for line in re.split(r"[\r\n]", captured.err) if line.strip()]
    assert all(line.startswith(("training:", "comparing:")) for line in bars)
    last = next(line for line in reversed(bars) if line.startswith("training:"))
    assert re.search(r"4/4 \[.*loss=[\d.]+, static=[\d.]+, generator lr=1e-05, actor lr=5e-05, critic lr=0\.002", last)
    assert any("<" in line for line in bars)


def test_the_default_folder_is_named_by_time_preset_and_seed(
    train: Command, tmp_path: Path, tiny_run: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(*tiny_run, "--iterations", "1", "--seed", "3") == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-quick-seed3", folder.name)


def test_training_starts_at_the_filling_path(finished_run: Path) -> None:
    config = load_run(finished_run).config
    agent = make_agent(config, load_data(config).train)
    observation = agent.env.reset()
    actions, _ = agent.predict(observation, episode_start=np.ones(4, dtype=bool), deterministic=True)
    assert actions.shape == (4, 2)
    assert not actions.any()


def test_the_paper_s_setting_makes_an_agent() -> None:
    config = preset_config("ede96")
    small = dataclasses.replace(config, device="cpu", agent=dataclasses.replace(config.agent, buffer_scans=64))
    agent = make_agent(small, ArrayCrops(np.zeros((2, 96, 96), dtype=np.float32)))
    assert isinstance(agent.generator, ResidualGenerator)
    for part in (agent.actor, agent.critic):
        assert isinstance(part.optimizer, torch.optim.RMSprop)
        assert part.optimizer.param_groups[0]["weight_decay"] == 1e-5
    assert (agent.lr_schedule(1.0), agent.critic_lr_schedule(1.0)) == (5e-4, 1e-3)
    taus = [agent.tau_schedule(progress) for progress in (1.0, 0.95, 0.9, 0.5)]
    assert taus == pytest.approx([0.033, 0.018, 0.003, 0.003])
    assert "reference_headings" not in environment_settings(small)


def test_targets_of_the_whole_scan_are_those_of_no_number_of_steps() -> None:
    config = preset_config("quick")
    agent = make_agent(config, ArrayCrops(np.zeros((2, 48, 48), dtype=np.float32)))
    assert (config.agent.n_target_steps, agent.n_target_steps) == (0, config.geometry.n_segments - 1)
    assert agent.tau == config.agent.tau


def test_the_seed_decides_the_training_crops_and_not_those_of_the_comparison() -> None:
    config = preset_config("quick")
    small = dataclasses.replace(config, data=dataclasses.replace(config.data, n_procedural=3, n_procedural_test=3))
    one, same, other = (load_data(dataclasses.replace(small, seed=seed)) for seed in (0, 0, 1))
    assert one.description == same.description
    assert one.description["train_sha256"] != other.description["train_sha256"]
    assert np.array_equal(one.test.crops, other.test.crops)


@pytest.mark.real_data
def test_real_micrographs_go_all_the_way(
    train: Command, tmp_path: Path, tiny_run: tuple[str, ...], real_data_dir: Path
) -> None:
    pictures = real_data_dir / "micrographs"
    line = ("--micrographs", pictures, "--data.downsample", "2", "--iterations", "2", "--out", tmp_path / "run")
    assert train(*tiny_run, *line) == 0
    data = read_json(tmp_path / "run" / "manifest.json")["data"]
    groups = dict(row.split(",")[:2] for row in (real_data_dir / "manifest.csv").read_text().splitlines()[1:])
    group_of = {Path(file).name: group for file, group in groups.items()}
    assert len(data["train"]) + len(data["test"]) == len(list(pictures.iterdir()))
    assert not {group_of[name] for name in data["train"]} & {group_of[name] for name in data["test"]}
    assert read_json(tmp_path / "run" / "comparison.json")["n_micrographs"] == len(data["test"])


def test_procedural_training_is_tested_on_the_micrographs_that_training_on_them_holds_out(
    tmp_path: Path, write_micrographs: Callable[..., Path]
) -> None:
    config = preset_config("quick")
    settings = dataclasses.replace(config.data, downsample=1, n_procedural=3)
    config = dataclasses.replace(config, micrographs=write_micrographs(tmp_path, n=4), data=settings)
    on_pictures = load_data(config)
    procedural = dataclasses.replace(settings, train_on="procedural")
    on_crops = load_data(dataclasses.replace(config, data=procedural))
    assert on_crops.test.micrographs == on_pictures.test.micrographs
    assert np.array_equal(on_crops.test.crops, on_pictures.test.crops)
    expected, _ = procedural_crops(3, config.geometry.image_size, np.random.default_rng([config.seed, 0]))
    assert isinstance(on_crops.train, ArrayCrops)
    assert np.array_equal(on_crops.train.crops, expected)
    assert "train_hashes" not in on_crops.description  # a later comparison leaves nothing out
    on_both = load_data(dataclasses.replace(config, data=dataclasses.replace(settings, train_on="both")))
    assert np.array_equal(on_both.test.crops, on_pictures.test.crops)
    assert on_both.description == {**on_pictures.description, **on_crops.description}
    assert isinstance(on_both.train, MixedCrops)
    crops = on_both.train.take(np.array([[1, 2, 0, 0, 0], [0, 0, 3, 4, 0]]))
    assert np.array_equal(crops[:1], expected[2:])
    assert np.array_equal(crops[1:], on_pictures.train.take(np.array([[0, 3, 4, 0]])))


def test_families_and_imaging_decide_the_procedural_crops() -> None:
    config = preset_config("quick")
    chosen = dataclasses.replace(
        config.data, n_procedural=3, n_procedural_test=2, families=("grains",), imaging="realistic"
    )
    data = load_data(dataclasses.replace(config, data=chosen))
    rng = np.random.default_rng([config.seed, 0])
    expected, _ = procedural_crops(
        3, config.geometry.image_size, rng, families=["grains"], imaging=IMAGINGS["realistic"]
    )
    assert isinstance(data.train, ArrayCrops)
    assert np.array_equal(data.train.crops, expected)
    assert data.test.micrographs == ["grains_0000", "grains_0001"]
    with pytest.raises(ValueError, match="families: got 'atoms'; expected some of lattice, "):
        dataclasses.replace(config.data, families=("atoms",))


def test_settings_that_a_file_of_an_older_run_lacks_are_as_they_were() -> None:
    config = preset_config("quick")
    stored = settings_to_json(config)
    del stored["acquisition"], stored["data"]["train_on"], stored["data"]["families"], stored["data"]["imaging"]
    assert settings_from_json(TrainingConfig, stored) == config
    with pytest.raises(ValueError, match="got the unknown key 'speed'"):
        settings_from_json(TrainingConfig, stored | {"speed": 1})


@pytest.mark.parametrize("blur", [True, False])
def test_the_mask_aware_generator_knows_whether_targets_are_blurred(blur: bool) -> None:
    config = preset_config("quick")
    generator = dataclasses.replace(config.generator, kind="mask_aware")
    config = dataclasses.replace(config, generator=generator, data=dataclasses.replace(config.data, blur=blur))
    agent = make_agent(config, ArrayCrops(np.zeros((2, 48, 48), dtype=np.float32)))
    assert isinstance(agent.generator, MaskAwareGenerator)
    assert agent.generator.config == {"n_channels": 24, "n_levels": 2, "blurred": blur}
