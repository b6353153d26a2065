"""The example that brings somebody else's network and algorithm; needs MONAI, of the extra "examples"."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from adaptive_scan.commands.plugins import load_completer, load_policy
from adaptive_scan.evaluation import compare_scans, measure, static_contenders
from adaptive_scan.generators.infill import pull_push_infill
from adaptive_scan.scans import filling_path

ROOT = Path(__file__).resolve().parents[1]
NAME = "examples.own_completer_and_policy"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(autouse=True)
def at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, in the folder of the models, with the checkout where modules are found."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def example() -> ModuleType:
    # Here and not above: it takes seconds to import, also where these tests are not asked for.
    pytest.importorskip("monai")
    return importlib.import_module(NAME)


def test_the_example_trains_compares_and_reads_back(
    example: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison = example.main(n_updates=3, n_steps=576, n_train=30, n_crops=6)
    printed = capsys.readouterr().out
    assert comparison.scans == ["ppo", "filling_path", "spiral", "raster", "grid"]
    assert comparison.completers == ["monai_unet", "infill"]
    assert (comparison.n_positions, comparison.policies) == (100, ("ppo",))
    assert all(f"ppo against filling_path ({name}): ratio " in printed for name in comparison.completers)
    written = {path.name for path in (folder / "own_models").iterdir()}
    assert written == {"monai_unet.safetensors", "ppo.safetensors"}

    # By their names, as on the command line, both do what they did before they were written.
    policy = load_policy(f"{NAME}:ppo")
    name, completer = load_completer(f"{NAME}:monai_unet", image_size=48)
    assert (policy.name, name, completer.training) == ("ppo", "monai_unet", False)
    crops, _ = example.procedural_crops(6, 48, np.random.default_rng([0, 1]))
    again = compare_scans(
        crops,
        contenders=[policy, *static_contenders(["spiral"])],
        completers={name: completer},
        geometry=example.GEOMETRY,
        n_resamples=10,
    )
    for scan in ("ppo", "spiral"):
        np.testing.assert_array_equal(again.rows(scan, name)["loss"], comparison.rows(scan, name)["loss"])


def test_the_network_starts_from_the_infill_and_sees_the_mask(example: ModuleType) -> None:
    partial_scans = torch.zeros(1, 2, 48, 48)
    partial_scans[0, :, ::6, ::6] = torch.rand((8, 8), generator=torch.Generator().manual_seed(0))
    partial_scans[0, 1] = (partial_scans[0, 1] > 0).float()
    torch.manual_seed(0)
    completer = example.OwnCompleter().eval()
    with torch.inference_mode():
        coarse = pull_push_infill(partial_scans)
        torch.testing.assert_close(completer(partial_scans), coarse, rtol=0, atol=0)
        # The same infill behind another mask is another picture, once the last layer is no longer zero.
        torch.nn.init.ones_(completer.network.final_conv.weight)
        other = torch.cat((partial_scans[:, :1], torch.ones(1, 1, 48, 48)), dim=1)
        added = [completer.network(torch.cat((coarse, scans), dim=1)) for scans in (partial_scans, other)]
    assert float((added[0] - added[1]).abs().mean()) > 0.01


def test_ppo_begins_close_to_the_filling_path(example: ModuleType) -> None:
    geometry = example.GEOMETRY
    model = example.make_ppo(example.PartialScanVecEnv(2, completer=None, **example.ENVIRONMENT))
    crops, _ = example.procedural_crops(4, 48, np.random.default_rng(0))
    positions = measure(example.ppo_contender(model), crops, geometry).positions
    path = geometry.path(filling_path(geometry)[0][None]).reshape(-1, 2)
    assert np.linalg.norm(positions - path, axis=-1).mean() < 2
    with torch.no_grad():
        spread = float(model.policy.log_std.exp())
    assert spread == pytest.approx(0.1, abs=0.01)
