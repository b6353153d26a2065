import numpy as np
import pytest
import torch

from adaptive_scan.acquisition import as_instrument
from adaptive_scan.agents.path_learning import PathLearning, learn_path, train_pathwise
from adaptive_scan.agents.path_loss import PathLoss, outside, relative
from adaptive_scan.agents.pathwise import PathwiseSettings
from adaptive_scan.generators import InfillCompleter, blur_targets, completion_loss, make_generator
from adaptive_scan.micrographs import ArrayCrops
from adaptive_scan.scans import ScanGeometry, filling_path, partial_scans, sample

GEOMETRY = ScanGeometry(16, 12, 1, spacing=(0.7, 8.0))


def banded(n_crops: int, seed: int) -> np.ndarray:
    """Crops that are flat but for a band of structure along their lower edge: there the dose belongs."""
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
    loss = PathLoss(None, as_instrument(acquisition))
    found = loss.hard(torch.from_numpy(crops), torch.from_numpy(positions), np.random.default_rng(5))
    instrument = as_instrument(acquisition)
    state = instrument.begin(3, np.random.default_rng(5))
    values = instrument.measure(positions, lambda displaced: sample(crops, displaced), state).values
    partial = torch.from_numpy(partial_scans(values, positions, 16))
    completed = blur_targets(InfillCompleter()(partial))
    torch.testing.assert_close(found, completion_loss(completed, blur_targets(torch.from_numpy(crops)[:, None])))


def test_gradients_lead_to_a_lower_loss_of_each_crop() -> None:
    # With the crop known, positions may be moved to where they serve it best.
    crops = torch.from_numpy(banded(4, 2))
    loss, rng = PathLoss(None, as_instrument(None)), np.random.default_rng(0)
    positions = torch.from_numpy(GEOMETRY.path(*(part[None] for part in filling_path(GEOMETRY))))
    positions = positions.expand(4, -1, -1, -1).clone().requires_grad_()
    before = loss.hard(crops, positions, rng)
    optimiser = torch.optim.Adam([positions], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        loss(crops, positions, rng).sum().backward()
        optimiser.step()
    assert (loss.hard(crops, positions, rng) < 0.8 * before).all()


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
    with pytest.raises(ValueError, match="network is None"):
        learn_path(ArrayCrops(banded(16, 1), normalise=False), GEOMETRY, validation=validation, settings=settings)


def test_losses_are_shares_and_positions_outside_cost() -> None:
    shares = relative(torch.tensor([1.0, 0.5]), torch.tensor([0.95, 0.0]))
    torch.testing.assert_close(shares, torch.tensor([1.0, 10.0]))
    positions = torch.tensor([[[-1.0, 3.0], [2.0, 9.0]]])
    assert outside(positions, 8).item() == pytest.approx((1.0 + 4.0) / 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"completer": "linear"}, "completer is 'linear'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PathLearning(**settings)
