"""Command lines to settings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adaptive_scan.commands import COMMANDS
from adaptive_scan.commands.compare_forms import parse_compare
from adaptive_scan.commands.generator_settings import GeneratorConfig, generator_preset_config, parse_generator_training
from adaptive_scan.commands.run_folder import read_config
from adaptive_scan.commands.settings import TrainingConfig, parse_training, preset_config
from adaptive_scan.commands.table import find_command
from adaptive_scan.errors import SettingError
from adaptive_scan.files import write_json
from adaptive_scan.settings import settings_to_json

SEE = " (see adaptive-scan train --help)"


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
    config = parse_compare(["--run", "r", "--scans", "adaptive", "spiral", "raster", "--policies", "a:b"])
    assert (config.scans, config.policies) == (("adaptive", "spiral", "raster"), ("a:b",))
    assert parse_compare(["--run", "r", "--scans", "polygonal_spiral"]).scans == ("polygonal_spiral",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--iteration 3",
            f"Unrecognized options: --iteration, 3; perhaps --iterations was meant{SEE}",
        ),
        (
            "--iterations x",
            f"--iterations: invalid literal for int() with base 10: 'x'{SEE}",
        ),
        ("--iterations 0", f"iterations: got 0; expected at least 1{SEE}"),
        ("--seed -1", f"seed: got -1; expected a number of at least 0{SEE}"),
        ("--agent.gamma 2", f"agent: gamma: got 2.0; expected between 0 and 1{SEE}"),
        ("--agent.tau nan", f"agent: tau: got nan; expected between 0 and 1{SEE}"),
        (
            "--data.test-fraction 1",
            f"data: test_fraction: got 1.0; expected between 0 and 1{SEE}",
        ),
        (
            "--geometry.n-segments 0",
            f"geometry: n_segments: got 0; expected an integer of at least 1{SEE}",
        ),
        ("--geometry.n-segments 1", f"geometry.n_segments: got 1; expected at least 2{SEE}"),
        (
            "--agent.n-environments 40",
            "agent: batch_size: got 32 with complete 'newest'; expected at least n_environments, 40, or some scans"
            f" would never be completed{SEE}",
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
    complaint = f"geometry: start: got (90.0, 2.0); expected (row, column) inside [0, 47] px{SEE}"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {complaint}\n")


def test_a_choice_names_the_choices() -> None:
    with pytest.raises(SettingError, match=r"'foo' .*--agent.memory.*'lstm', *'gru'"):
        parse_training(["--agent.memory", "foo"])


@pytest.mark.parametrize("line", ["--run r --scans", "--run r --scans spiral foo", "--run r --seed -1"])
def test_comparisons_are_checked_before_anything_is_loaded(line: str) -> None:
    with pytest.raises(SettingError, match=r"^(scans: got|seed: got)"):
        parse_compare(line.split())


def test_a_generator_needs_known_scans() -> None:
    with pytest.raises(SettingError, match="'foo'; expected some of polygonal_spiral"):
        parse_generator_training(["--scans", "foo"])


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    config = parse_training(["--agent.hidden-size", "9", "--out", "elsewhere", "--micrographs", "pictures"])
    write_json(tmp_path / "config.json", settings_to_json(config))
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
    with pytest.raises(SettingError, match=r"config\.json: got .*; expected (the file|some of)"):
        parse_training(["--resume", str(tmp_path)])


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_help_loads_neither_torch_nor_numba(command: str) -> None:
    code = (
        "import sys; from adaptive_scan.commands import main\n"
        f"sys.argv = ['adaptive-scan', {command!r}, '--help']\n"
        "print(main(), sorted({'torch', 'numba'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "0 []"
    assert said.stderr == ""


def test_help_shows_a_dozen_options_and_all_of_them_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_training(["--help"])
    basic = capsys.readouterr().out
    with pytest.raises(SystemExit):
        parse_training(["--preset", "ede96", "--help-all"])
    everything = capsys.readouterr().out
    assert len(option_names(basic)) == len(TrainingConfig.BASIC) == 12
    assert {"--micrographs", "--iterations", "--data.downsample"} <= option_names(basic)
    hidden = int(basic.splitlines()[-1].removesuffix(" more options: --help-all"))
    assert len(option_names(everything)) == 12 + hidden
    assert "--agent.noise-sigma FLOAT" in everything
    assert "Standard deviation of the noise at each segment [rad]." in everything
    assert "(default: 1000000)" in everything


def test_help_calls_the_kind_of_network_by_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_generator_training(["--help"])
    shown = option_names(capsys.readouterr().out)
    assert len(shown) == len(GeneratorConfig.BASIC) == 12
    assert {"--generator.kind", "--scans", "--coverages", "--n-updates"} <= shown
    config = parse_generator_training(["--generator.kind", "residual", "--scans", "adaptive", "--policy-run", "runs/a"])
    assert (config.training.generator, config.policy, type(config)) == ("residual", Path("runs/a"), GeneratorConfig)


def option_names(said: str) -> set[str]:
    """Names of options at the beginning of lines of help, but for help itself."""
    return set(re.findall(r"^[│ ]*(--(?!help)[a-z][\w.-]+)", said, re.MULTILINE))


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        ("train-generator", "--generator unet", "--generator.kind unet"),
        ("train-generator", "--scans adaptive --policy a", "--scans adaptive --policy-run a"),
        ("compare", "--run a --policy b:c --completer=linear", "--run a --policies b:c --completers=linear"),
        ("compare", "b.json --policy b:c d:e", "b.json --policies b:c d:e"),
        ("measure-errors", "--scan grid --completer linear", "--scans grid --completers linear"),
        ("measure-errors", "--generator a.safetensors", "--generators a.safetensors"),
        ("specimens", "--out a --family points", "--out a --families points"),
    ],
)
def test_old_names_of_options_work_with_a_warning(
    command: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = find_command(command)
    assert found is not None
    expected = found.read(new.split(), "x")
    assert capsys.readouterr().err == ""
    assert found.read(old.split(), "x") == expected
    changed = [pair for pair in zip(old.split(), new.split(), strict=True) if pair[0] != pair[1]]
    lines = [
        f"warning: {was.partition('=')[0]} is now {now.partition('=')[0]}; the old name goes in version 0.3"
        for was, now in changed
    ]
    assert capsys.readouterr().err.splitlines() == lines


def test_runs_of_version_0_1_are_read(tmp_path: Path) -> None:
    for kind, name in ((TrainingConfig, "train"), (GeneratorConfig, "train_generator")):
        shutil.copy(Path(__file__).parent / "old_runs" / f"{name}_0_1.json", tmp_path / "config.json")
        config = read_config(kind, tmp_path)
        stored = json.loads((tmp_path / "config.json").read_text())
        assert settings_to_json(config) == stored
        preset = preset_config("quick") if name == "train" else generator_preset_config("supersampling-512")
        assert config.geometry.image_size == preset.geometry.image_size
        assert config.data == preset.data
    assert (config.policy, config.training.scans) == (Path("/run"), ("adaptive",))
