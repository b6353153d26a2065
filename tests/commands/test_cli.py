"""Command lines to settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adaptive_scan.commands.cli import parse_comparison, parse_training
from adaptive_scan.commands.generator_settings import generator_preset_config, parse_generator_training
from adaptive_scan.commands.settings import config_to_dict, preset_config
from adaptive_scan.errors import SettingError
from adaptive_scan.files import write_json


def test_no_arguments_give_the_quick_preset() -> None:
    assert parse_training([]) == preset_config("quick")
    assert parse_generator_training([]) == generator_preset_config("quick")


def test_the_preset_is_where_other_settings_start() -> None:
    config = parse_training(["--seed", "3", "--preset=ede96", "--agent.memory", "gru"])
    assert (config.seed, config.agent.memory) == (3, "gru")
    assert config.geometry == preset_config("ede96").geometry
    assert config.agent.hidden_size == preset_config("ede96").agent.hidden_size


def test_ede96_is_the_setting_of_the_paper() -> None:
    config = preset_config("ede96")
    geometry, agent, generator = config.geometry, config.agent, config.generator
    assert (geometry.image_size, geometry.n_segments, geometry.n_positions) == (96, 20, 20)
    assert geometry.spacing == pytest.approx(2**0.5)
    assert (generator.kind, generator.n_static) == ("residual", 0)
    assert (agent.reward, agent.start_from_path, agent.complete) == ("absolute", False, "replayed")
    assert (agent.optimizer, agent.actor_learning_rate, agent.critic_learning_rate) == ("rmsprop", 5e-4, 1e-3)
    assert (agent.weight_decay, agent.gamma, agent.max_grad_norm, agent.n_target_steps) == (1e-5, 0.97, None, 1)
    assert (agent.first_tau, agent.tau) == (0.033, 0.003)
    assert (agent.noise, agent.noise_theta, agent.noise_sigma) == ("ornstein-uhlenbeck", 0.1, 0.2)
    assert (agent.buffer_scans, agent.batch_size, agent.n_environments) == (100_000, 32, 32)
    assert config.iterations == 1_000_000
    assert generator_preset_config("ede96").training.generator == "residual"


def test_every_option_of_the_issue_is_there() -> None:
    line = "--micrographs a --groups b.csv --out c --seed 1 --device cpu --iterations 2 --skip-bad"
    config = parse_training(line.split())
    assert (config.micrographs, config.groups, config.out) == (Path("a"), Path("b.csv"), Path("c"))
    assert (config.seed, config.device, config.iterations, config.skip_bad) == (1, "cpu", 2, True)


def test_scans_are_words() -> None:
    config = parse_comparison(["--run", "r", "--scans", "adaptive", "spiral", "raster", "--policy", "a:b"])
    assert (config.scans, config.policy) == (("adaptive", "spiral", "raster"), ("a:b",))
    assert parse_comparison(["--run", "r", "--scans", "polygonal_spiral"]).scans == ("polygonal_spiral",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--iteration 3",
            "Unrecognized options: --iteration, 3; perhaps --iterations was meant (see train_rdpg --help)",
        ),
        ("--iterations x", "--iterations: invalid literal for int() with base 10: 'x' (see train_rdpg --help)"),
        ("--iterations 0", "iterations: got 0; expected at least 1 (see train_rdpg --help)"),
        ("--seed -1", "seed: got -1; expected a number of at least 0 (see train_rdpg --help)"),
        ("--agent.gamma 2", "agent: gamma: got 2.0; expected between 0 and 1 (see train_rdpg --help)"),
        ("--agent.tau nan", "agent: tau: got nan; expected between 0 and 1 (see train_rdpg --help)"),
        ("--data.test-fraction 1", "data: test_fraction: got 1.0; expected between 0 and 1 (see train_rdpg --help)"),
        (
            "--geometry.n-segments 0",
            "geometry: n_segments: got 0; expected an integer of at least 1 (see train_rdpg --help)",
        ),
        ("--geometry.n-segments 1", "geometry.n_segments: got 1; expected at least 2 (see train_rdpg --help)"),
        (
            "--agent.n-environments 40",
            "agent: batch_size: got 32 with complete 'newest'; expected at least n_environments, 40, or some scans"
            " would never be completed (see train_rdpg --help)",
        ),
        ("--preset slow", "preset: got 'slow'; expected one of quick, ede96"),
        ("--resume nowhere", "nowhere: got no such folder; expected a run folder"),
    ],
)
def test_refused_lines_are_one_line(line: str, message: str) -> None:
    with pytest.raises(SettingError) as raised:
        parse_training(line.split())
    assert str(raised.value) == message


def test_complaints_are_one_line_in_a_terminal_without_line_drawing() -> None:
    code = "import sys; from adaptive_scan.commands import train_rdpg_main; sys.exit(train_rdpg_main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--geometry.start", "90", "2"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    complaint = "geometry: start: got (90.0, 2.0); expected (row, column) inside [0, 47] px (see train_rdpg --help)"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {complaint}\n")


def test_a_choice_names_the_choices() -> None:
    with pytest.raises(SettingError, match=r"'foo' .*--agent.memory.*'lstm', *'gru'"):
        parse_training(["--agent.memory", "foo"])


@pytest.mark.parametrize("line", ["", "--run r --scans", "--run r --scans spiral foo", "--run r --seed -1"])
def test_comparisons_are_checked_before_anything_is_loaded(line: str) -> None:
    with pytest.raises(SettingError, match=r"^(Missing .*--run|scans: got|seed: got)"):
        parse_comparison(line.split())


def test_a_generator_needs_known_scans() -> None:
    with pytest.raises(SettingError, match="'foo'; expected some of polygonal_spiral"):
        parse_generator_training(["--scans", "foo"])


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    config = parse_training(["--agent.hidden-size", "9", "--out", "elsewhere", "--micrographs", "pictures"])
    write_json(tmp_path / "config.json", config_to_dict(config))
    return tmp_path


def test_a_resumed_run_keeps_its_settings(run_folder: Path) -> None:
    config = parse_training(["--resume", str(run_folder), "--micrographs", "moved", "--checkpoint-every", "7"])
    assert (config.agent.hidden_size, config.resume, config.out) == (9, run_folder, None)
    assert (config.micrographs, config.checkpoint_every) == (Path("moved"), 7)


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("--agent.hidden-size 8", "agent.hidden-size"),
        ("--iterations 1", "iterations"),
        ("--out x", "out"),
        ("--preset ede96", "preset"),
        ("--seed 5", "seed"),
    ],
)
def test_a_resumed_run_takes_no_other_settings(run_folder: Path, line: str, option: str) -> None:
    with pytest.raises(SettingError) as raised:
        parse_training(["--resume", str(run_folder), *line.split()])
    assert str(raised.value) == f"--{option}: got it beside --resume; expected the run's own settings to stand"


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1}', "{"])
def test_a_foreign_folder_is_refused(tmp_path: Path, content: str) -> None:
    if content:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(SettingError, match=r"config\.json: got .*; expected the (file|settings)"):
        parse_training(["--resume", str(tmp_path)])


def test_help_is_rich_and_loads_no_networks() -> None:
    code = (
        "import sys; from adaptive_scan.commands import train_rdpg_main\n"
        "sys.argv = ['train_rdpg.py', '--help']\n"
        "try: train_rdpg_main()\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "0 False"
    assert "--agent.noise-sigma FLOAT" in said.stdout
    assert "Standard deviation of the noise at each segment [rad]." in said.stdout
    assert said.stderr == ""
