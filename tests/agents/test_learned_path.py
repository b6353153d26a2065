from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from adaptive_scan.acquisition import as_instrument
from adaptive_scan.agents import learned_path, path_loss
from adaptive_scan.agents.learned_path import PATH_LEARNING, PathLearning, learn_path, train_pathwise
from adaptive_scan.agents.path_loss import PathLoss, Readings, outside, relative
from adaptive_scan.agents.pathwise import PathwiseSettings, single_positions
from adaptive_scan.errors import SettingError
from adaptive_scan.generators import blur_targets, completion_loss, make_generator
from adaptive_scan.generators.completers import InfillCompleter
from adaptive_scan.micrographs import ArrayCrops
from adaptive_scan.scans import ScanGeometry, filling_path, partial_scans, sample, static_scan

GEOMETRY = ScanGeometry(16, 12, 1, spacing=(0.7, 8.0))


def banded(n_crops: int, seed: int) -> np.ndarray:
    """Crops that are flat but for a band of structure along their lower edge: there the positions belong."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(-1, 1, (n_crops, 1, 16, 16)).astype(np.float32))
    crops = 3 * blur_targets(coarse)[:, 0].numpy()
    crops[:, :10] = -1.0
    return np.clip(crops, -1, 1)


def turned(n_crops: int, seed: int) -> np.ndarray:
    """The same with the band at either edge, so that only what is measured tells where it is."""
    crops = banded(n_crops, seed)
    upper = np.random.default_rng(seed + 99).random(n_crops) < 0.5
    crops[upper] = crops[upper, ::-1]
    return crops


@pytest.mark.parametrize("acquisition", [None, "low-dose"])
def test_the_loss_without_gradients_is_that_of_a_comparison(acquisition: str | None) -> None:
    crops = banded(3, 0)
    positions = np.random.default_rng(1).uniform(0, 15, (3, 12, 2)).astype(np.float32)
    instrument = as_instrument(acquisition)
    loss, pictures = PathLoss(None, instrument), torch.from_numpy(crops)
    values = None
    if acquisition is not None:
        readings = Readings(instrument, pictures, loss.keys(3, np.random.default_rng(5)))
        values = readings.follow(torch.from_numpy(positions)[:, :, None])[:, :, 0]
    found = loss.hard(pictures, torch.from_numpy(positions), values)
    state = instrument.begin(3, np.random.default_rng(5))
    values = instrument.measure(positions, lambda displaced: sample(crops, displaced), state).values
    partial = torch.from_numpy(partial_scans(values, positions, 16))
    completed = blur_targets(InfillCompleter()(partial))
    torch.testing.assert_close(found, completion_loss(completed, blur_targets(torch.from_numpy(crops)[:, None])))


def test_gradients_lead_to_a_lower_loss_of_each_crop() -> None:
    # With the crop known, positions may be moved to where they serve it best.
    crops = torch.from_numpy(banded(4, 2))
    loss = PathLoss(None, as_instrument(None))
    positions = torch.from_numpy(GEOMETRY.path(*(part[None] for part in filling_path(GEOMETRY))))
    positions = positions.expand(4, -1, -1, -1).clone().requires_grad_()
    before = loss.hard(crops, positions)
    optimiser = torch.optim.Adam([positions], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        loss(crops, positions).sum().backward()
        optimiser.step()
    assert (loss.hard(crops, positions) < 0.8 * before).all()


def test_a_learned_path_spends_its_dose_where_the_structure_is() -> None:
    shares: list[float] = []
    headings, spacings = learn_path(
        ArrayCrops(banded(256, 1), normalise=False),
        GEOMETRY,
        validation=banded(128, 9),
        settings=PathLearning(completer="infill", n_updates=60, batch_size=32, learning_rate=0.15, try_every=20),
        on_trial=lambda _, share: shares.append(share),
    )
    assert min(shares) < 0.8 * shares[0]
    learned, start = (GEOMETRY.path(*path).reshape(-1, 2) for path in (_batch(headings, spacings), _filling()))
    assert learned[:, 0].mean() > start[:, 0].mean() + 0.5
    assert np.isclose(headings[0], GEOMETRY.first_heading)
    assert ((spacings >= 0.7) & (spacings <= 8.0)).all()


def test_an_actor_learns_to_go_where_what_it_saw_points() -> None:
    geometry = ScanGeometry(16, 24, 1, spacing=(0.7, 6.0))
    shares: list[float] = []
    actor = train_pathwise(
        ArrayCrops(turned(1024, 1), normalise=False),
        geometry,
        filling_path(geometry),
        validation=turned(256, 9),
        actor_settings=PathwiseSettings(n_together=2),
        settings=PathLearning(completer="infill", n_updates=150, batch_size=32, learning_rate=3e-3, try_every=30),
        on_trial=lambda _, share: shares.append(share),
    )
    # A static path that is learned in the same way, which cannot know where the band is, and can only do so much.
    static: list[float] = []
    learn_path(
        ArrayCrops(turned(1024, 1), normalise=False),
        geometry,
        validation=turned(256, 9),
        settings=PathLearning(completer="infill", n_updates=100, batch_size=32, learning_rate=0.1, try_every=20),
        on_trial=lambda _, share: static.append(share),
    )
    assert min(shares) < 0.96 * min(static)
    crops = turned(128, 10)
    with torch.no_grad():
        rows = actor.scan(torch.from_numpy(crops))[..., 0].flatten(1)
    is_upper = torch.from_numpy(crops[:, -6:].std(axis=(1, 2)) < 1e-6)
    assert (rows[is_upper].mean(dim=0) - rows[~is_upper].mean(dim=0)).abs().max() > 0.5


def test_the_same_seed_learns_the_same_and_the_best_trial_is_kept() -> None:
    crops, validation = ArrayCrops(banded(64, 1), normalise=False), banded(16, 9)
    settings = PathLearning(completer="infill", n_updates=4, batch_size=4, learning_rate=0.1, try_every=1)
    first, second = (learn_path(crops, GEOMETRY, validation=validation, settings=settings, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    wild = PathLearning(completer="infill", n_updates=3, batch_size=4, learning_rate=50.0, try_every=3)
    kept = learn_path(crops, GEOMETRY, validation=validation, settings=wild)
    np.testing.assert_allclose(GEOMETRY.path(kept[0][None], kept[1][None]), GEOMETRY.path(*_filling()), atol=1e-3)


def test_each_learning_rate_is_tried_and_the_best_trial_of_all_is_kept() -> None:
    crops, validation = ArrayCrops(banded(64, 1), normalise=False), banded(32, 9)
    settings = PathLearning(completer="infill", n_updates=10, batch_size=8, learning_rate=0.001, try_every=5)
    every = replace(settings, further_learning_rates=[0.15, 0.001, 50.0])  # JSON has lists
    assert every.learning_rates == (0.001, 0.15, 50.0)
    trials: list[tuple[int, float]] = []
    learn = partial(learn_path, crops, GEOMETRY, validation=validation)
    found = learn(settings=every, on_trial=lambda *trial: trials.append(trial))
    assert [step for step, _ in trials] == [0, 5, 10, 15, 20, 25, 30]
    alone: list[float] = []
    best = learn(settings=replace(settings, learning_rate=0.15), on_trial=lambda _, ratio: alone.append(ratio))
    # Each begins where the first began, with the same crops.
    assert [ratio for _, ratio in trials[3:5]] == alone[1:]
    assert min(alone) < min(ratio for _, ratio in trials[:3])
    np.testing.assert_array_equal(found, best)


def test_a_path_tries_a_rate_that_moves_it_far() -> None:
    assert PATH_LEARNING.learning_rates == (0.03, 0.1, 0.3)


def test_trials_are_judged_by_the_ratio_of_mean_losses() -> None:
    # The path of a wild update on crops of which half are nearly flat: what their shares do is not what losses do.
    validation = banded(32, 9)
    validation[:16] = 0.01 * validation[:16] - 0.99
    ratios: list[float] = []
    settings = PathLearning(completer="infill", n_updates=3, batch_size=4, learning_rate=1.0, try_every=3)
    crops = ArrayCrops(banded(16, 1), normalise=False)
    paths = []

    class Watched(PathLoss):
        def hard(self, *arguments: Any) -> torch.Tensor:
            paths.append(super().hard(*arguments))
            return paths[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learned_path, "PathLoss", Watched)
        learn_path(
            crops, GEOMETRY, validation=validation, settings=settings, on_trial=lambda _, ratio: ratios.append(ratio)
        )
    own, filling = paths[-2:]
    assert ratios[-1] == pytest.approx((own.mean() / filling.mean()).item(), rel=1e-5)
    assert abs(ratios[-1] - relative(own, filling).mean().item()) > 0.01


class Stepping(torch.nn.Module):
    """A completer that notes how it is run."""

    calls: ClassVar[list[tuple[bool, bool, bool]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.is_at_home = False

    def cpu(self) -> Stepping:
        self.is_at_home = True
        return super().cpu()

    def forward(self, scans: torch.Tensor) -> torch.Tensor:
        assert self.is_at_home
        self.calls.append((self.training, torch.is_grad_enabled(), self.gain.requires_grad))
        return self.gain * blur_targets(InfillCompleter()(scans))


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_the_network_comes_to_the_crops_and_learns_only_where_it_has_a_rate(rate: float) -> None:
    Stepping.calls.clear()
    given = Stepping().train()
    settings = PathLearning(n_updates=2, batch_size=4, network_learning_rate=rate, try_every=1)
    learn_path(ArrayCrops(banded(16, 1), normalise=False), GEOMETRY, given, validation=banded(8, 9), settings=settings)
    assert {call for call in Stepping.calls if call[1]} == {(rate > 0, True, rate > 0)}
    assert given.training
    assert given.gain.requires_grad


def test_trials_are_made_in_evaluation_mode() -> None:
    modes = []

    class Watched(PathLoss):
        def hard(self, *arguments: Any) -> torch.Tensor:
            modes.append(self.network.training)
            return super().hard(*arguments)

    settings = PathLearning(n_updates=2, batch_size=4, network_learning_rate=1e-3, try_every=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learned_path, "PathLoss", Watched)
        learn_path(
            ArrayCrops(banded(16, 1), normalise=False), GEOMETRY, Stepping(), validation=banded(8, 9), settings=settings
        )
    assert modes == [False] * 6


def test_an_actor_learns_from_what_the_instrument_reads() -> None:
    # It sees, is judged by and is chosen on the same noisy readings, segment by segment.
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    lost: list[torch.Tensor] = []

    class Watched(PathLoss):
        def __call__(self, crops: torch.Tensor, positions: torch.Tensor, values: torch.Tensor | None = None) -> Any:
            lost.append(values)
            return super().__call__(crops, positions, values)

        def hard(self, crops: torch.Tensor, positions: torch.Tensor, values: torch.Tensor | None = None) -> Any:
            lost.append(values)
            return super().hard(crops, positions, values)

    class WatchedReadings(Readings):
        def follow(self, positions: torch.Tensor) -> torch.Tensor:
            values = super().follow(positions)
            seen.append((positions.detach().clone(), values))
            return values

    settings = PathLearning(completer="infill", n_updates=1, batch_size=3, try_every=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learned_path, "PathLoss", Watched)
        patch.setattr(path_loss, "Readings", WatchedReadings)
        train_pathwise(
            ArrayCrops(banded(16, 1), normalise=False),
            GEOMETRY,
            filling_path(GEOMETRY),
            validation=banded(4, 9),
            settings=settings,
            acquisition="low-dose",
        )
    whole = [values for positions, values in seen if positions.shape[1] == GEOMETRY.n_segments]
    assert len(whole) == len(lost) == 6
    for read, used in zip(whole, lost, strict=True):
        assert torch.equal(read, used)
    # The reference meets the faults that the learner meets; an untrained learner is the reference.
    torch.testing.assert_close(lost[0], lost[1], atol=0.05, rtol=0)
    n_seen = [values.shape[1] for _, values in seen]
    assert n_seen[:7] == [1, 3, 5, 7, 9, 11, 12]


def _filling() -> tuple[np.ndarray, np.ndarray]:
    return _batch(*filling_path(GEOMETRY))


def _batch(headings: np.ndarray, spacings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return headings[None], spacings[None]


def test_a_network_learns_along_and_the_one_given_stays() -> None:
    network = make_generator("mask_aware", seed=0, n_channels=4, n_levels=1)
    before = {name: weights.clone() for name, weights in network.state_dict().items()}
    settings = PathLearning(n_updates=2, batch_size=4, network_learning_rate=1e-2, try_every=2)
    validation = banded(8, 9)
    learn_path(ArrayCrops(banded(16, 1), normalise=False), GEOMETRY, network, validation=validation, settings=settings)
    assert all(torch.equal(weights, before[name]) for name, weights in network.state_dict().items())
    with pytest.raises(SettingError, match="network: got None"):
        learn_path(ArrayCrops(banded(16, 1), normalise=False), GEOMETRY, validation=validation, settings=settings)


def test_losses_are_shares_and_positions_outside_cost() -> None:
    shares = relative(torch.tensor([1.0, 0.5]), torch.tensor([0.95, 0.0]))
    torch.testing.assert_close(shares, torch.tensor([1.0, 10.0]))
    positions = torch.tensor([[[-1.0, 3.0], [2.0, 9.0]]])
    assert outside(positions, 8).item() == pytest.approx((1.0 + 4.0) / 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"learning_rate": float("inf")}, "learning_rate: got inf"),
        ({"further_learning_rates": (0.1, -1.0)}, r"further_learning_rates hold -1\.0"),
        ({"completer": "linear"}, "completer: got 'linear'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        PathLearning(**settings)


def test_a_path_is_learned_from_any_other_and_is_never_worse_on_the_validation_crops() -> None:
    raster = static_scan("wide_raster", 12, 16)
    geometry, headings, spacings = single_positions(raster, 16)
    shares: list[float] = []
    learned = learn_path(
        ArrayCrops(banded(256, 1), normalise=False),
        geometry,
        validation=banded(128, 9),
        start=(headings, spacings),
        settings=PathLearning(completer="infill", n_updates=40, learning_rate=0.15, try_every=20),
        on_trial=lambda _, share: shares.append(share),
    )
    assert shares[0] == pytest.approx(1.0)
    assert min(shares) < 0.95
    np.testing.assert_allclose(geometry.path(learned[0][None], learned[1][None])[0, 0, 0], raster[0], atol=1e-4)
