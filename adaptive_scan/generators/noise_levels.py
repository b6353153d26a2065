"""Losses evened out between noisy and clean micrographs, by a network that reads the noise off small crops."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_scan.errors import SettingError


class NoiseLevelPredictors:
    """Predicts the loss of a scan from the noise of its target, so that losses can be divided by it.

    Without blurred targets noisy micrographs have the greater losses and rule the training. The supersampling paper
    (Ede, arXiv 1910.10467, eqs. 4 to 6, fig. 3) lets N = 20 identical multilayer perceptrons, one network M on 20
    random crops C of 5x5 px, predict the loss L of a scan: crops are so small that M can tell noise but no features.
    M minimises mean_i (M(C_i) - L)², and the scan's loss is multiplied by mu1 / max(mean_i M(C_i), epsilon), with the
    running mean mu1 of the losses and epsilon = 0.1.

    Here M predicts L / mu1, so that nothing depends on the unit of the losses: the weight is 1 / max(prediction,
    ``floor``). M's last layer starts at a prediction of 1, so that all weights are 1 before it has learnt. The
    perceptrons have 100 and 200 hidden units, as in the paper's published source code; the text does not say.

    Args:
        n_crops: Crops of each target, N.
        crop_size: Their side [px].
        widths: Hidden units of each layer.
        learning_rate: Adam's learning rate; the paper's at the start of its schedule.
        decay: Decay of the running mean.
        floor: Smallest prediction that is divided by, in units of the running mean.
        seed: Seed of the first weights.
        device: Where the network is.

    Attributes:
        network: The perceptron, (..., crop_size²) -> (..., 1).

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> predictors = NoiseLevelPredictors(n_crops=4)
        >>> crops = predictors.draw_crops(torch.zeros(3, 1, 16, 16), torch.Generator().manual_seed(0))
        >>> crops.shape, predictors.weights(crops)
        (torch.Size([3, 4, 25]), tensor([1., 1., 1.]))
    """

    def __init__(
        self,
        *,
        n_crops: int = 20,
        crop_size: int = 5,
        widths: Sequence[int] = (100, 200),
        learning_rate: float = 3e-4,
        decay: float = 0.999,
        floor: float = 0.1,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        for name, count in (("n_crops", n_crops), ("crop_size", crop_size), ("widths", min(widths, default=0))):
            if count < 1:
                raise SettingError(f"{name}: got {count}; expected at least 1")
        for name, number in (("learning_rate", learning_rate), ("floor", floor)):
            if not 0 < number < math.inf:
                raise SettingError(f"{name}: got {number}; expected more than 0")
        if not 0 <= decay < 1:
            raise SettingError(f"decay: got {decay}; expected 0 or more, and less than 1")
        self.n_crops = n_crops
        self.crop_size = crop_size
        self.decay = decay
        self.floor = floor
        self.network = _perceptron(crop_size**2, widths, seed).to(device)
        self._optimiser = torch.optim.Adam(self.network.parameters(), lr=learning_rate)
        self._sum = 0.0
        self._weight = 0.0

    @property
    def mean(self) -> float:
        """Running mean of the losses, mu1, corrected for its start at zero; 1 before there are any."""
        return self._sum / self._weight if self._sum > 0 else 1.0

    def draw_places(self, n_scans: int, image_size: int, generator: torch.Generator) -> Tensor:
        """Draw where crops are cut, uniformly over all places inside the picture.

        Args:
            n_scans: Number of targets.
            image_size: Their side S [px].
            generator: Source of the places.

        Returns:
            Top-left pixels (row, column), int64, shape (n_scans, n_crops, 2).

        Raises:
            ValueError: If the pictures are smaller than a crop.
        """
        if image_size < self.crop_size:
            raise SettingError(f"pictures have side {image_size} px; expected at least {self.crop_size}")
        n_places = image_size - self.crop_size + 1
        return torch.randint(n_places, (n_scans, self.n_crops, 2), generator=generator, device=generator.device)

    def cut(self, targets: Tensor, places: Tensor) -> Tensor:
        """Crops of targets.

        Args:
            targets: Pictures, shape (n_scans, 1, S, S).
            places: From ``draw_places``, shape (n_scans, n_crops, 2).

        Returns:
            The pixels of each crop, shape (n_scans, n_crops, crop_size²).
        """
        places = places.to(targets.device)
        steps = torch.arange(self.crop_size, device=targets.device)
        rows = (places[..., 0, None] + steps)[..., :, None]
        columns = (places[..., 1, None] + steps)[..., None, :]
        scans = torch.arange(len(targets), device=targets.device)[:, None, None, None]
        return targets[scans, 0, rows, columns].flatten(2)

    def draw_crops(self, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Draw crops of targets, shape (n_scans, 1, S, S), as ``cut`` gives them."""
        return self.cut(targets, self.draw_places(len(targets), targets.shape[-1], generator))

    @torch.no_grad()
    def predictions(self, crops: Tensor) -> Tensor:
        """Predicted losses in units of their running mean: the mean over crops (n_scans, n_crops, crop_size²)."""
        predicted: Tensor = self.network(crops)[..., 0].mean(dim=1)
        return predicted

    def weights(self, crops: Tensor) -> Tensor:
        """What the losses of scans are multiplied by, 1 / max(prediction, floor).

        Args:
            crops: Crops of their targets, shape (n_scans, n_crops, crop_size²).

        Returns:
            Weights, without gradients, shape (n_scans,).
        """
        return 1 / self.predictions(crops).clamp(min=self.floor)

    def update(self, crops: Tensor, losses: Tensor) -> float:
        """Learn the losses of a batch; the running mean moves first.

        Several processes that hand in the whole batch each make the same update, without exchanging gradients.

        Args:
            crops: Crops of the targets, shape (n_scans, n_crops, crop_size²).
            losses: Losses before any weight, not negative, shape (n_scans,).

        Returns:
            The squared error of the predictions before the update, in units of the running mean, over all crops.
        """
        known = losses.detach()
        self._sum = self.decay * self._sum + (1 - self.decay) * known.double().mean().item()
        self._weight = self.decay * self._weight + (1 - self.decay)
        errors = self.network(crops.detach())[..., 0] - (known / self.mean)[:, None]
        error = errors.square().mean()
        self._optimiser.zero_grad(set_to_none=True)
        error.backward()
        self._optimiser.step()
        result: float = error.item()
        return result

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides how it goes on; ``adaptive_scan.trees.write_tree`` writes it."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "mean": [self._sum, self._weight],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of predictors with the same arguments."""
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._sum, self._weight = state["mean"]


def _perceptron(n_in: int, widths: Sequence[int], seed: int) -> nn.Sequential:
    """Linear layers with ReLU between them, whose output is 1 at the start."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):  # initialisers of torch.nn draw from the global state only
        torch.manual_seed(seed)
        for before, after in pairwise((n_in, *widths)):
            layers += [nn.Linear(before, after), nn.ReLU()]
        last = nn.Linear(widths[-1], 1)
    nn.init.zeros_(last.weight)
    nn.init.ones_(last.bias)
    return nn.Sequential(*layers, last)
