r"""A network of MONAI as the completer and PPO of Stable-Baselines3 as the policy, compared with static scans.

MONAI's `BasicUNet` comes from medical imaging and knows nothing of partial scans. `OwnCompleter` is all that it takes
to make a completer of it: a module that is given values and masks, (N, 2, S, S), and returns pictures, (N, 1, S, S).
PPO learns in `PartialScanVecEnv` as in any other vector environment; its reward is what the new completer makes of its
scans.

    pip install -e ".[examples]"
    python examples/own_completer_and_policy.py
    python examples/own_completer_and_policy.py --n-updates 3000 --n-steps 200000

Both are written to a folder, `own_models`, from which `monai_unet` and `ppo` read them back. By these names they join
the comparison of a run of the preset "quick", from the checkout, where `own_models` and `examples` are:

    python scripts/compare_scans.py --run DIR --policies examples.own_completer_and_policy:ppo \
        --completers examples.own_completer_and_policy:monai_unet

This takes about a minute on one core, in which neither learns much. The network took 2% off the loss of the infill
that it starts from, and 8% on the grid. PPO starts from the static filling path, sees 1,024 scans, and ended 5% above
that path, on the wrong side: do not expect more of so short a training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import tyro
from monai.networks.nets import BasicUNet
from rich.console import Console
from safetensors.torch import load_model, save_model
from stable_baselines3 import PPO
from torch import Tensor, nn

from adaptive_scan.envs import PartialScanVecEnv
from adaptive_scan.evaluation import Comparison, Contender, compare_scans, static_contenders
from adaptive_scan.generators import Completer, GeneratorTrainer, GeneratorTraining
from adaptive_scan.generators.completers import InfillCompleter
from adaptive_scan.generators.infill import pull_push_infill
from adaptive_scan.micrographs import ArrayCrops
from adaptive_scan.report import comparison_sentence, comparison_table
from adaptive_scan.scans import PRESETS, filling_path
from adaptive_scan.specimens import procedural_crops

GEOMETRY = PRESETS["quick48"]
FOLDER = Path("own_models")
N_SCANS = 32

# What PPO is trained with is what it is compared with: a zero action follows the filling path, others turn off it, and
# the whole partial scan is seen at each segment, because PPO remembers nothing.
ENVIRONMENT = {
    "geometry": GEOMETRY,
    "reference_headings": filling_path(GEOMETRY)[0],
    "action_kind": "angle",
    "observe_image": True,
}


class OwnCompleter(nn.Module):
    """A U-Net of MONAI as a completer.

    The values of a partial scan are 0 where nothing was measured, and 0 is also a grey like any other: only the mask
    tells the two apart. So the network is given both, and a coarse infill besides, to which it adds what is missing.
    Its last layer is zero at first, so that training starts from the infill and not from noise.

    Args:
        features: Channels of the network: on five resolutions, and before its last layer.
    """

    def __init__(self, features: tuple[int, ...] = (8, 8, 16, 16, 32, 8)) -> None:
        super().__init__()
        self.network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=1, features=features)
        nn.init.zeros_(self.network.final_conv.weight)
        nn.init.zeros_(self.network.final_conv.bias)

    def forward(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (N, 2, S, S), to pictures, shape (N, 1, S, S)."""
        coarse = pull_push_infill(partial_scans)
        return coarse + self.network(torch.cat((coarse, partial_scans), dim=1))


def train_completer(crops: np.ndarray, n_updates: int, seed: int) -> OwnCompleter:
    """Train the network as one of our own would be: on scans of several families, towards blurred crops."""
    torch.manual_seed(seed)
    completer = OwnCompleter()
    scans = ("filling_path", "random_headings", "spiral", "raster", "grid")
    settings = GeneratorTraining(scans=scans, n_updates=n_updates, batch_size=16, seed=seed)
    trainer = GeneratorTrainer(completer, ArrayCrops(crops), GEOMETRY, settings)
    while trainer.step < n_updates:
        trainer.update()
    return completer.eval()


def make_ppo(envs: PartialScanVecEnv, seed: int = 0) -> PPO:
    """A new PPO for these environments; each of its updates takes one scan of each of them."""
    scan_steps = GEOMETRY.n_segments - 1
    return PPO(
        "MultiInputPolicy",
        envs,
        n_steps=scan_steps,
        batch_size=envs.num_envs * scan_steps // 2,
        n_epochs=5,
        learning_rate=3e-4,
        gamma=1.0,
        # Headings wander by some 0.1 of pi at first; with the default of 1 every scan would be a tangle.
        policy_kwargs={"log_std_init": -2.3},
        seed=seed,
        device="cpu",
    )


def train_policy(crops: np.ndarray, completer: Completer, n_steps: int, seed: int) -> PPO:
    """Let PPO scan crops; it is paid minus the loss of what the completer makes of each scan."""
    model = make_ppo(PartialScanVecEnv(N_SCANS, crops, completer=completer, **ENVIRONMENT), seed)
    return model.learn(n_steps)


def ppo_contender(model: PPO) -> Contender:
    """PPO as it takes part in a comparison: with the settings of the environment that it was trained in."""
    return Contender("ppo", policy=model, environment=ENVIRONMENT)


def ppo() -> Contender:
    """The trained policy, for `--policies`."""
    model = make_ppo(PartialScanVecEnv(2, completer=None, **ENVIRONMENT))
    load_model(model.policy, FOLDER / "ppo.safetensors")
    return ppo_contender(model)


def monai_unet() -> OwnCompleter:
    """The trained completer, for `--completers`."""
    completer = OwnCompleter()
    load_model(completer, FOLDER / "monai_unet.safetensors")
    return completer.eval()


def main(
    n_updates: int = 500, n_steps: int = 9_216, n_train: int = 2_000, n_crops: int = 200, seed: int = 0
) -> Comparison:
    """Train both, write them, compare them with static scans on other crops, and print the table.

    Args:
        n_updates: Updates of the completer.
        n_steps: Steps of PPO, 9 for each scan.
        n_train: Procedural crops to train on.
        n_crops: Procedural crops to compare on.
        seed: Of everything random.

    Returns:
        The comparison.
    """
    train, _ = procedural_crops(n_train, GEOMETRY.image_size, np.random.default_rng([seed, 0]))
    test, _ = procedural_crops(n_crops, GEOMETRY.image_size, np.random.default_rng([seed, 1]))
    completer = train_completer(train, n_updates, seed)
    model = train_policy(train, completer, n_steps, seed)
    # Weights alone, in a format that runs no code when it is read; PPO's own `save` would pickle its settings.
    FOLDER.mkdir(exist_ok=True)
    save_model(completer, str(FOLDER / "monai_unet.safetensors"))
    save_model(model.policy, str(FOLDER / "ppo.safetensors"))

    path = GEOMETRY.path(filling_path(GEOMETRY)[0][None]).reshape(-1, 2)
    comparison = compare_scans(
        test,
        contenders=[
            ppo_contender(model),
            Contender("filling_path", path=path),
            *static_contenders(["spiral", "raster", "grid"]),
        ],
        completers={"monai_unet": completer, "infill": InfillCompleter()},
        geometry=GEOMETRY,
        second_reference="filling_path",
        seed=seed,
    )
    # Wide enough for the whole table, whatever the terminal says.
    Console(width=120).print(comparison_table(comparison))
    for name in comparison.completers:
        print(comparison_sentence(comparison, "ppo", name))
    return comparison


if __name__ == "__main__":
    tyro.cli(main)
