"""What people copy from: the example, and every Python block of the README and of the documentation."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from adaptive_scan.agents import MEMORIES, RDPG, EpisodeReplayBuffer, MemoryPolicy, RecurrentTD3
from adaptive_scan.agents.dnc import DncMemory
from adaptive_scan.agents.recurrent import RecurrentMemory
from adaptive_scan.agents.transformer import TransformerMemory
from adaptive_scan.evaluation import compare_scans, measure
from adaptive_scan.generators import NearestCompleter
from adaptive_scan.scans import PRESETS, STATIC_SCANS
from adaptive_scan.specimens import FAMILIES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_LINES, LONGEST_LINE = 150, 120
MOST_BYTES = 600_000


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small run slower on several threads than on one."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def load(path: Path) -> ModuleType:
    """A module from a file that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def custom_policy() -> ModuleType:
    return load(ROOT / "examples" / "custom_policy.py")


def python_blocks(page: Path) -> list[str]:
    """Python blocks of a page; lines before each keep the line numbers of the page for tracebacks."""
    text = page.read_text(encoding="utf-8")
    return [
        "\n" * (text[: match.start(1)].count("\n")) + match[1]
        for match in re.finditer(r"```python\n(.*?)```", text, re.S)
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.name)
def test_python_blocks_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem}
    for block in python_blocks(page):
        exec(compile(block, str(page), "exec"), names)  # noqa: S102  our own pages


def test_a_policy_in_the_readme_takes_less_than_20_lines():
    (block,) = python_blocks(ROOT / "README.md")
    assert len(block.strip().splitlines()) < 20
    assert "def predict" in block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, heading = target.partition("#")
        if re.match(r"https?:", target):
            continue
        linked = page.parent / place if place else page
        assert linked.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)", linked.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w\s-]", "", found).strip().lower().replace(" ", "-") for found in headings}
            assert heading in slugs, target


def prose_lines(page: Path) -> list[str]:
    """Lines of a page outside code, equations, tables and pictures."""
    text = re.sub(r"^ *(```|\$\$).*?^ *\1", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return [line for line in text.splitlines() if not line.lstrip().startswith(("|", "![", "$$"))]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_prose_can_be_compared(page):
    assert [line for line in prose_lines(page) if len(line) > LONGEST_LINE] == []


def test_the_readme_says_nothing_of_this_machine():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert re.findall(r"(?:/home/|/work/|/root/|/tmp/|C:\\)\S*", text) == []


def test_tables_of_names_are_complete():
    scans = (ROOT / "docs" / "scans.md").read_text(encoding="utf-8")
    assert [name for name in (*STATIC_SCANS, *PRESETS) if f"| `{name}`" not in scans] == []
    environment = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    from adaptive_scan.envs import PartialScanEnv, ScanSettings

    keywords = {"crops", "render_mode", *ScanSettings.__annotations__}
    assert [name for name in keywords if f"| `{name}` |" not in environment] == []
    env = PartialScanEnv(geometry="wide48", observe_image=True)
    env.reset(seed=0)
    ended = False
    while not ended:
        observation, _, ended, _, info = env.step(env.action_space.sample())
    assert [key for key in (*observation, *info) if f"`{key}`" not in environment] == []


def tables_of(page: Path) -> dict[str, list[list[str]]]:
    """Rows of the tables of a page by the first cell of their head, without the marks of code."""
    tables: dict[str, list[list[str]]] = {}
    for table in re.findall(r"(?:^\|.*\|\n)+", page.read_text(encoding="utf-8"), re.M):
        rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table.splitlines()]
        tables.setdefault(rows[0][0], []).extend(rows[2:])
    return tables


def settings_of(function: Callable[..., Any], *left_out: str) -> dict[str, Any]:
    """Arguments of a constructor with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    known = {each.name: each.default for each in parameters if not each.name.startswith("_")}
    return {name: default for name, default in known.items() if name not in left_out}


def read_default(text: str) -> Any:
    """A default as a table has it; classes go by their names."""
    try:
        return ast.literal_eval(text)
    except ValueError:
        return text


def test_tables_of_the_settings_of_recurrent_td3_are_complete_and_true():
    tables = tables_of(ROOT / "docs" / "recurrent_td3.md")
    columns = {name: {row[0]: row[1] for row in rows} for name, rows in tables.items() if name != "option"}
    for kind, place in {"lstm": 1, "gru": 1, "dnc": 2, "transformer": 3}.items():
        columns[kind] = {row[0]: row[place] for row in tables["option"] if row[place]}
    spaces = ("observation_space", "action_space", "lr_schedule")
    buffer = (*spaces, "buffer_size", "device", "n_envs", "optimize_memory_usage", "max_episode_steps")
    settings = {
        "parameter": settings_of(RecurrentTD3),
        "setting": settings_of(MemoryPolicy, *spaces) | settings_of(EpisodeReplayBuffer, *buffer),
        "lstm": settings_of(RecurrentMemory, "kind", "input_size"),
        "gru": settings_of(RecurrentMemory, "kind", "input_size"),
        "dnc": settings_of(DncMemory, "input_size"),
        "transformer": settings_of(TransformerMemory, "input_size"),
    }
    for kind, expected in settings.items():
        found = {name: read_default(text) for name, text in columns[kind].items() if text}
        needed = {
            name: default.__name__ if isinstance(default, type) else default
            for name, default in expected.items()
            if default is not inspect.Parameter.empty
        }
        assert found == needed, kind
        assert set(columns[kind]) == set(expected), kind
    ours = {name for name, make in MEMORIES.items() if make.__module__.startswith("adaptive_scan.")}
    assert [set(columns["name"]), len(tables["name"])] == [ours, 2 * len(ours)]
    assert {row[0] for row in tables["policy"]} == {f'"{name}"' for name in RecurrentTD3.policy_aliases}


def test_the_example_compares_at_equal_dose(custom_policy, capsys):
    comparison = custom_policy.main(n_crops=6)
    printed = capsys.readouterr().out
    expected = ["open_space", "open_space_bright", "polygonal_spiral", "spiral", "raster", "grid", "random"]
    assert comparison.scans == expected
    assert all(f"{name} " in printed for name in expected)
    assert "6 crops of 6 micrographs, 100 positions each" in printed
    assert comparison.summary("spiral", "nearest").ratio_to_reference == 1.0
    both = [comparison.rows(name, "nearest")["loss"] for name in ("open_space", "open_space_bright")]
    assert not np.array_equal(*both)  # one of them looks


def test_the_example_s_policy_remembers_where_it_was(custom_policy):
    geometry = PRESETS["quick48"]
    policy = custom_policy.OpenSpacePolicy(geometry)
    measured = measure(custom_policy.Contender("open", policy=policy), np.zeros((2, 48, 48), np.float32), geometry)
    # A path that knows what it has measured crosses itself on few of its 100 pixels, and stays inside but for a corner.
    pixels = [len(np.unique(np.floor(scan + 0.5), axis=0)) for scan in measured.positions]
    assert min(pixels) >= 95
    assert measured.positions.min() >= -1
    assert measured.positions.max() <= 48
    np.testing.assert_array_equal(measured.positions[0], measured.positions[1])


def test_the_example_s_policy_turns_to_what_is_bright(custom_policy):
    # The first segment just reaches a bright edge: only a policy with interest goes on along it.
    geometry = PRESETS["quick48"]
    crops = np.full((1, 48, 48), -1.0, np.float32)
    crops[:, 30:] = 1.0
    shares = []
    for interest in (0.0, 5.0):
        contender = custom_policy.Contender("open", policy=custom_policy.OpenSpacePolicy(geometry, interest=interest))
        shares.append((measure(contender, crops, geometry).values > 0).mean())
    assert shares[1] > shares[0] + 0.2


def test_the_example_s_factory_fits_runs_of_the_quick_preset(custom_policy):
    from adaptive_scan.commands.settings import preset_config

    crops = np.random.default_rng(0).uniform(-1, 1, (2, 48, 48))
    comparison = compare_scans(
        crops,
        contenders=[custom_policy.make_policy(), custom_policy.static_contenders(["spiral"])[0]],
        completers={"nearest": NearestCompleter()},
        geometry=preset_config("quick").geometry,
        n_examples=0,
        n_resamples=10,
    )
    assert comparison.n_positions == 100
    assert comparison.policies == ("open_space",)


def test_the_example_of_the_hidden_velocity_learns_saves_loads_and_evaluates(tmp_path, capsys):
    hidden_velocity = load(ROOT / "examples" / "hidden_velocity.py")
    seen, _ = hidden_velocity.make_pendulum().reset(seed=0)
    np.testing.assert_allclose(np.hypot(*seen), 1.0, rtol=1e-6)  # an angle, and nothing else
    got = hidden_velocity.main(steps=1_640, path=tmp_path / "model.zip")
    assert -2_000 < got < -500
    assert f"model.zip: return {got:.0f} +- " in capsys.readouterr().out
    assert RDPG.load(tmp_path / "model.zip", device="cpu").num_timesteps == 1_640


def test_pictures_of_the_documentation_are_those_of_the_script(tmp_path):
    figures = load(ROOT / "docs" / "figures.py")
    made = figures.main(tmp_path)
    assert {path.name for path in made} == {
        *("static_scans.png", "specimens.png", "specimen_gallery.png"),
        *("instruments.png", "time_alignment.png"),
    }
    assert len(FAMILIES) == 5  # as scans.md says
    for path in made:
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        kept = ROOT / "docs" / "images" / path.name
        # Fonts and versions may move a few bytes; another picture would have another size.
        assert kept.stat().st_size == pytest.approx(path.stat().st_size, rel=0.1)


def test_pictures_are_small():
    pictures = sorted((ROOT / "docs" / "images").glob("*.png"))
    assert [picture.name for picture in pictures if picture.stat().st_size > MOST_BYTES] == []
    assert (ROOT / "docs" / "images" / "static_scans.png").stat().st_size < 200_000
