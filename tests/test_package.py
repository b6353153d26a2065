"""The package as a whole: what importing it costs, what it ships, and which way its imports go."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.resources
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest

import adaptive_scan

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "adaptive_scan"
FLOORS = {
    "micrographs": 0,
    "specimens": 0,
    "scans": 1,
    "acquisition": 2,
    "generators": 3,
    "envs": 4,
    "agents": 5,
    "evaluation": 6,
    "benchmark": 7,
    "report": 8,
    "commands": 9,
}
# Two rooms on one floor: procedural crops are normalised like measured ones, never the other way round.
BESIDE = {("specimens", "micrographs")}


def imported_modules(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    """Absolute names of all that ``tree`` imports, at any depth; ``from a import b`` gives both a and a.b."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*parts, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def upward_imports(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """The imports in ``source`` that leave its room for another that is not below it.

    A module outside the rooms lies below all of them.
    """
    room = module.partition(".")[2].split(".")[0]
    found = []
    for name in imported_modules(ast.parse(source), module, is_package=is_package):
        top, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if top != "adaptive_scan" or target not in FLOORS or target == room or (room, target) in BESIDE:
            continue
        if FLOORS[target] >= FLOORS.get(room, -1):
            found.append(name)
    return found


def pickle_uses(source: str) -> list[str]:
    """Calls and imports in ``source`` that can execute code hidden in a data file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [name for name in names if name.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib"}]
        if isinstance(node, ast.Call):
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if ast.unparse(node.func) == "torch.load" and keywords.get("weights_only") != "True":
                found.append(ast.unparse(node))
            if keywords.get("allow_pickle", "False") != "False":
                found.append(ast.unparse(node))
    return found


def is_thin(source: str) -> bool:
    """Whether a script only imports from ``adaptive_scan.commands`` and calls one thing it imported."""
    body = ast.parse(source).body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    imported = set()
    rest = []
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        if isinstance(node, ast.ImportFrom) and re.match(r"adaptive_scan\.commands(\.|$)", node.module or ""):
            imported |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import) and [alias.name for alias in node.names] == ["sys"]:
            continue
        else:
            rest.append(node)
    if len(rest) == 1 and isinstance(rest[0], ast.If) and not rest[0].orelse:
        if ast.unparse(rest[0].test) != "__name__ == '__main__'":
            return False
        rest = rest[0].body
    call = r"(?:sys\.exit\(|raise SystemExit\()?(\w+)\(\)\)?"
    found = re.fullmatch(call, "; ".join(ast.unparse(node) for node in rest))
    return found is not None and found[1] in imported


def modules() -> list[tuple[str, Path]]:
    """Dotted names and files of all modules of the package."""
    files = sorted(PACKAGE.rglob("*.py"))
    return [(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path) for path in files]


def test_import_loads_neither_torch_nor_numba() -> None:
    heavy = {"torch", "numba", "matplotlib", "skimage"}
    code = f"import sys, adaptive_scan; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["scans", "generators"])
def test_names_on_demand_are_those_of_no_module(package: str) -> None:
    # Python would put a module in the place of an exported name as soon as the module is imported.
    shown = importlib.import_module(f"adaptive_scan.{package}")
    assert not {path.stem for path in (PACKAGE / package).glob("*.py")}.intersection(shown.__all__)
    assert [name for name in shown.__all__ if getattr(shown, name) is None] == []
    with pytest.raises(AttributeError, match=f"'adaptive_scan.{package}' has no attribute 'nothing'"):
        shown.nothing  # noqa: B018


def test_import_registers_the_environment() -> None:
    spec = gym.spec(adaptive_scan.ENVIRONMENT_ID)
    assert spec.id == "adaptive_scan/PartialScan-v0"
    assert spec.entry_point == "adaptive_scan.envs:PartialScanEnv"
    assert spec.vector_entry_point == "adaptive_scan.envs:PartialScanVectorEnv"


def test_version_is_that_of_the_metadata_and_of_the_citation() -> None:
    assert adaptive_scan.__version__ == importlib.metadata.version("adaptive_scan")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1] == adaptive_scan.__version__


def test_console_command_is_declared() -> None:
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="adaptive-scan")
    assert command.value == "adaptive_scan.commands:main"


def test_type_marker_is_packaged() -> None:
    assert importlib.resources.files("adaptive_scan").joinpath("py.typed").is_file()
    assert "adaptive_scan = py.typed" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


def test_every_room_is_on_a_floor() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(FLOORS)


def test_imports_go_down_only() -> None:
    found = {
        name: upward
        for name, path in modules()
        if (upward := upward_imports(path.read_text(encoding="utf-8"), name, is_package=path.name == "__init__.py"))
    }
    assert found == {}


def import_graph(sources: dict[str, str], packages: set[str]) -> dict[str, set[str]]:
    """Which modules each module imports: at the top, in functions and for type checkers alike.

    Args:
        sources: Source of each module by its dotted name.
        packages: Names of those that are ``__init__`` files. What one of them shows is imported from where it stands.
    """
    graph = {}
    for module, source in sources.items():
        found = set(imported_modules(ast.parse(source), module, is_package=module in packages))
        # "from a import b" gives a as well as a.b; where a.b is a module, a package alone is what Python runs first.
        names = {name for name in found if name in sources}
        names = {name for name in names if name not in packages or not any(n.startswith(f"{name}.") for n in names)}
        graph[module] = names - {module}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes of which each leads to every other, by Tarjan's algorithm."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in order:
                visit(target)
            if target in stack:
                low[node] = min(low[node], low[target])
        if low[node] == order[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return found


def test_imports_make_no_circles() -> None:
    sources = {name: path.read_text(encoding="utf-8") for name, path in modules()}
    packages = {name for name, path in modules() if path.name == "__init__.py"}
    assert circles(import_graph(sources, packages)) == []


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"p.a": "import p.b", "p.b": "def f():\n    from p import a"}, [["p.a", "p.b"]]),
        ({"p.a": "from p.b import x", "p.b": "if TYPE_CHECKING:\n    from p.c import y", "p.c": ""}, []),
        ({"p.a": "import p.b", "p.b": "from .c import x", "p.c": "from . import a"}, [["p.a", "p.b", "p.c"]]),
        ({"p": "from p.a import x", "p.a": "from p import x"}, [["p", "p.a"]]),
        ({"p": "from p.a import x", "p.a": "from p.b import x", "p.b": ""}, []),
    ],
)
def test_circles_are_found(sources: dict[str, str], expected: list[list[str]]) -> None:
    assert circles(import_graph({"p": "", **sources}, {"p"})) == expected


@pytest.mark.parametrize(
    ("source", "module", "upward"),
    [
        ("import adaptive_scan.envs", "adaptive_scan.scans.static", ["adaptive_scan.envs"]),
        ("from adaptive_scan import agents", "adaptive_scan.envs.single", ["adaptive_scan.agents"]),
        ("def f():\n    from ..envs import x", "adaptive_scan.scans.static", ["adaptive_scan.envs"] * 2),
        ("from ..specimens import x", "adaptive_scan.micrographs.crops", ["adaptive_scan.specimens"] * 2),
        ("from .. import envs", "adaptive_scan.scans.static", ["adaptive_scan.envs"]),
        ("from adaptive_scan.scans import x", "adaptive_scan.envs.single", []),
        ("from adaptive_scan.micrographs import x", "adaptive_scan.specimens.imaging", []),
        ("from .geometry import x", "adaptive_scan.scans.static", []),
        ("from adaptive_scan.scans import x", "adaptive_scan.files", ["adaptive_scan.scans"] * 2),
        ("from adaptive_scan.files import x", "adaptive_scan.micrographs.crops", []),
        ("import torch.envs", "adaptive_scan.scans.static", []),
    ],
)
def test_upward_imports_are_found(source: str, module: str, upward: list[str]) -> None:
    found = upward_imports(source, module)
    assert [".".join(name.split(".")[:2]) for name in found] == upward


def test_relative_imports_of_a_package_start_at_itself() -> None:
    found = upward_imports("from ..envs import x", "adaptive_scan.scans", is_package=True)
    assert found == ["adaptive_scan.envs", "adaptive_scan.envs.x"]


def test_nothing_we_read_needs_pickle() -> None:
    found = {name: uses for name, path in modules() if (uses := pickle_uses(path.read_text(encoding="utf-8")))}
    # Stable-Baselines3's own files have pickles; tests/agents/test_storage.py shows that only trusted ones are read.
    assert list(found) == ["adaptive_scan.agents.pickles"]


@pytest.mark.parametrize(
    ("source", "n_uses"),
    [
        ("import pickle", 1),
        ("from cloudpickle import loads", 1),
        ("torch.load(path)", 1),
        ("torch.load(path, weights_only=False)", 1),
        ("torch.load(path, weights_only=True)", 0),
        ("np.load(path, allow_pickle=True)", 1),
        ("np.load(path, allow_pickle=False)", 0),
        ("np.load(path, mmap_mode='r')", 0),
    ],
)
def test_pickle_uses_are_found(source: str, n_uses: int) -> None:
    assert len(pickle_uses(source)) == n_uses


def test_scripts_are_thin() -> None:
    thick = [
        path.name for path in sorted((ROOT / "scripts").glob("*.py")) if not is_thin(path.read_text(encoding="utf-8"))
    ]
    assert thick == []


IMPORT_MAIN = "from adaptive_scan.commands import main\n"
IF_MAIN = 'if __name__ == "__main__":\n    '


@pytest.mark.parametrize(
    ("source", "thin"),
    [
        (f"{IMPORT_MAIN}main()", True),
        (f'"""Doc."""\nimport sys\n{IMPORT_MAIN}{IF_MAIN}sys.exit(main())', True),
        (f"{IMPORT_MAIN}{IF_MAIN}raise SystemExit(main())", True),
        (f"import argparse\n{IMPORT_MAIN}main()", False),
        (f"{IMPORT_MAIN}main(['--seed', '1'])", False),
        (f"{IMPORT_MAIN}x = 1\nmain()", False),
        ("from adaptive_scan.agents import train\ntrain()", False),
    ],
)
def test_thickness_is_noticed(source: str, thin: bool) -> None:
    assert is_thin(source) is thin


def test_constraints_pin_every_declared_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pins["torch"] == "2.13.0"
    requirements = importlib.metadata.requires("adaptive_scan") or []
    names = {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in requirements}
    assert names - pins.keys() == set()
    assert not any(name.startswith(("nvidia", "triton", "cuda")) for name in pins)


def test_ci_runs_the_readme_test_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("--quiet ", "").splitlines()
    (block,) = [block for block in re.findall(r"```bash\n(.*?)```", readme, re.DOTALL) if "-m pytest" in block]
    commands = [line for line in block.splitlines() if line.startswith(("pip install", "python -m"))]
    assert len(commands) == 2
    assert [command for command in commands if command not in script] == []
    assert script[-1] == commands[-1]
