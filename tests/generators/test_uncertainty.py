"""Predicted errors: what the head is trained towards, whom it belongs to, and how it comes back from a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from adaptive_scan.generators import (
    GeneratorFileError,
    LinearCompleter,
    NearestCompleter,
    ResidualGenerator,
    UNetGenerator,
    save_generator,
)
from adaptive_scan.generators.completers import InfillCompleter
from adaptive_scan.generators.files import _write
from adaptive_scan.generators.tiles import TiledCompleter
from adaptive_scan.generators.uncertainty import (
    ERROR_HEADER,
    CompleterWithError,
    EnsembleCompleter,
    ErrorHead,
    ErrorTraining,
    beta_nll,
    completer_fingerprint,
    fit_scale,
    load_error_head,
    make_error_head,
    save_error_head,
    scan_rmse,
    train_error_head,
)

MakeScans = Callable[..., Tensor]


@given(
    errors=st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    log_sigmas=st.lists(st.floats(-3, 1), min_size=4, max_size=4),
    beta=st.floats(0, 1),
)
def test_likelihood_is_that_of_the_formula_and_its_weights_have_no_gradient(
    errors: list[float], log_sigmas: list[float], beta: float
) -> None:
    predicted = torch.tensor(log_sigmas, dtype=torch.float64).reshape(1, 1, 2, 2).requires_grad_()
    found = beta_nll(torch.tensor(errors, dtype=torch.float64).reshape(1, 1, 2, 2), predicted, beta=beta)
    found.sum().backward()
    terms, gradients = [], []
    for error, log_sigma in zip(errors, log_sigmas, strict=True):
        sigma = math.exp(log_sigma)
        terms.append(sigma ** (2 * beta) * (log_sigma + error**2 / (2 * sigma**2)))
        gradients.append(sigma ** (2 * beta) * (1 - error**2 / sigma**2) / 4)
    assert found.item() == pytest.approx(sum(terms) / 4, abs=1e-9)
    assert predicted.grad is not None
    assert predicted.grad.flatten().tolist() == pytest.approx(gradients, abs=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_what_is_learned_is_the_rms_error_even_where_errors_are_not_normal(beta: float) -> None:
    # Three quarters of the errors are 0 and one quarter 0.8: the root mean square is 0.4.
    errors = torch.zeros(1, 1, 2, 2)
    errors[..., 0, 0] = 0.8
    log_sigma = torch.zeros(1, 1, 1, 1, requires_grad=True)
    optimiser = torch.optim.Adam([log_sigma], lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        beta_nll(errors, log_sigma.expand_as(errors), beta=beta).sum().backward()
        optimiser.step()
    assert log_sigma.exp().item() == pytest.approx(0.4, rel=1e-3)


@pytest.mark.parametrize("size", [1, 5, 8, 14])
def test_a_head_takes_any_side_and_starts_at_the_same_error_everywhere(size: int, make_scans: MakeScans) -> None:
    scans = make_scans(2, size)
    log_sigmas = ErrorHead(n_channels=4)(scans, scans[:, :1])
    assert log_sigmas.shape == (2, 1, size, size)
    torch.testing.assert_close(log_sigmas.exp(), torch.full_like(log_sigmas, 0.2))


def test_predicted_errors_stay_within_the_range_of_errors(make_scans: MakeScans) -> None:
    head = make_error_head(seed=0, n_channels=4)
    nn.init.normal_(head.last.weight, std=1e4)
    scans = make_scans(2, 12)
    errors = head(scans, scans[:, :1]).exp()
    assert errors.min().item() == pytest.approx(1e-3)
    assert errors.max().item() == pytest.approx(2.0)


def test_a_prediction_depends_on_its_own_scan_alone(make_scans: MakeScans) -> None:
    head = make_error_head(seed=0, n_channels=4)
    nn.init.normal_(head.last.weight)
    scans = make_scans(3, 12)
    completions = NearestCompleter()(scans)
    together = head(scans, completions)
    alone = torch.cat([head(scans[i : i + 1], completions[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_shapes_that_do_not_fit_are_refused(make_scans: MakeScans) -> None:
    scans = make_scans(2, 8)
    with pytest.raises(ValueError, match=r"completions have shape \(2, 1, 4, 8\); expected \(2, 1, 8, 8\)"):
        ErrorHead()(scans, scans[:, :1, :4])
    with pytest.raises(ValueError, match=r"partial scans have shape \(2, 1, 8, 8\); expected \(n_scans, 2, S, S\)"):
        ErrorHead()(scans[:, :1], scans[:, :1])
    with pytest.raises(ValueError, match="n_channels: got 0; expected at least 1"):
        ErrorHead(n_channels=0)


def heteroscedastic(seed: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """Full scans of two levels and targets beside them by normal errors of 0.05 in dark pictures and 0.4 in bright."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> tuple[Tensor, Tensor]:
        is_bright = torch.rand((16, 1, 1, 1), generator=generator) < 0.5
        pictures = torch.where(is_bright, 0.5, -0.5).expand(16, 1, 8, 8)
        scans = torch.cat((pictures, torch.ones(16, 1, 8, 8)), dim=1)
        errors = torch.where(is_bright, 0.4, 0.05) * torch.randn((16, 1, 8, 8), generator=generator)
        return scans, pictures - errors

    return draw


def test_a_head_learns_where_errors_are_large_and_how_large_and_the_same_seed_repeats_it() -> None:
    settings = ErrorTraining(n_updates=150, n_channels=4, learning_rate=1e-2)
    steps = []
    heads = [
        train_error_head(
            NearestCompleter(), heteroscedastic(0), settings, on_update=lambda step, losses: steps.append(step)
        )
        for _ in range(2)
    ]
    scans, _ = heteroscedastic(1)()
    predicted = CompleterWithError(NearestCompleter(), heads[0]).with_error(scans)[1].detach()
    is_bright = scans[:, 0, 0, 0] > 0
    assert predicted[is_bright].square().mean().sqrt().item() == pytest.approx(0.4, rel=0.1)
    assert predicted[~is_bright].square().mean().sqrt().item() == pytest.approx(0.05, rel=0.2)
    assert steps == [*range(1, 151)] * 2
    for first, second in zip(heads[0].parameters(), heads[1].parameters(), strict=True):
        assert torch.equal(first, second)


def test_training_a_head_leaves_the_completer_as_it_was(make_scans: MakeScans) -> None:
    network = ResidualGenerator().train()
    network.layers[0].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    scans = make_scans(3, 8)
    train_error_head(network, lambda: (scans, scans[:, :1]), ErrorTraining(n_updates=2, n_channels=4))
    assert network.training
    assert not network.layers[0].training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


def test_errors_that_are_not_finite_end_the_training(make_scans: MakeScans) -> None:
    scans = make_scans(2, 8)
    with pytest.raises(FloatingPointError, match="a loss of update 1 is not finite"):
        train_error_head(NearestCompleter(), lambda: (scans, scans[:, :1] * torch.nan), ErrorTraining(n_updates=2))


def test_a_completer_with_an_error_is_that_completer(make_scans: MakeScans) -> None:
    network = UNetGenerator(n_channels=4, n_levels=1)
    nn.init.normal_(network.correction.weight)
    completer = CompleterWithError(network, ErrorHead(n_channels=4), scale=1.5)
    scans = make_scans(2, 8)
    completions, errors = completer.with_error(scans)
    assert torch.equal(completions, network(scans))
    assert torch.equal(completer(scans), completions)
    torch.testing.assert_close(errors, torch.full_like(errors, 0.3))
    torch.testing.assert_close(completer.predicted_rmse(scans), torch.full((2,), 0.15))
    torch.testing.assert_close(completer.scaled(2.0).predicted_rmse(scans), torch.full((2,), 0.3))
    # What is followed through the errors moves the head alone.
    errors.sum().backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert completer.head.last.bias.grad is not None


def test_rmse_of_a_scan_is_half_the_root_mean_square(rng: np.random.Generator) -> None:
    errors = rng.normal(size=(3, 1, 4, 4))
    expected = [math.sqrt((scan**2).mean()) / 2 for scan in errors]
    assert scan_rmse(torch.from_numpy(errors)).tolist() == pytest.approx(expected)


def test_an_ensemble_completes_by_the_mean_and_errs_by_the_deviation(make_scans: MakeScans) -> None:
    members = [NearestCompleter(), LinearCompleter(), InfillCompleter()]
    scans = make_scans(2, 12)
    pictures = np.stack([member(scans).numpy() for member in members])
    completions, errors = EnsembleCompleter(members, scale=2.0).with_error(scans)
    np.testing.assert_allclose(completions, pictures.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(errors, 2.0 * pictures.std(axis=0, ddof=1), atol=1e-6)
    assert torch.equal(EnsembleCompleter(members)(scans), completions)
    assert EnsembleCompleter(members, 2.0).scaled(0.25).scale == 0.5
    with pytest.raises(ValueError, match="completers: got 1; expected at least 2"):
        EnsembleCompleter(members[:1])


def test_networks_of_an_ensemble_follow_it_into_evaluation() -> None:
    network = ResidualGenerator().train()
    EnsembleCompleter([NearestCompleter(), network]).eval()
    assert not network.training


@given(scale=st.floats(0.1, 10), seed=st.integers(0, 100))
def test_the_scale_makes_the_mean_square_error_right(scale: float, seed: int) -> None:
    true = torch.from_numpy(np.random.default_rng(seed).uniform(0.01, 1.0, 20))
    assert fit_scale(true / scale, true) == pytest.approx(scale)
    predicted = torch.from_numpy(np.random.default_rng(seed + 1).uniform(0.01, 1.0, 20))
    corrected = fit_scale(predicted, true) * predicted
    assert corrected.square().mean().item() == pytest.approx(true.square().mean().item())


def test_a_scale_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"square errors sum up to 0\.0 and 1\.0; expected positive, finite sums"):
        fit_scale(torch.zeros(1), torch.ones(1))
    with pytest.raises(ValueError, match=r"shapes \(1,\) and \(2,\); expected the same"):
        fit_scale(torch.ones(1), torch.ones(2))
    with pytest.raises(ValueError, match="scale: got nan; expected a positive, finite factor"):
        CompleterWithError(NearestCompleter(), ErrorHead(), math.nan)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_updates": 0}, "n_updates: got 0; expected more than 0"),
        ({"learning_rate": -1.0}, "learning_rate: got -1.0; expected more than 0"),
        ({"beta": 1.5}, "beta: got 1.5; expected between 0 and 1"),
        ({"seed": -1}, "seed: got -1; expected 0 or more"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ErrorTraining(**settings)  # type: ignore[arg-type]


class Weighted:
    """A classical completer with a setting, or one around a network."""

    def __init__(self, weight: float, inside: nn.Module | None = None) -> None:
        self.weight, self.inside = weight, inside

    def __call__(self, partial_scans: Tensor) -> Tensor:
        return self.weight * partial_scans[:, :1]


def test_fingerprints_tell_completers_apart_by_weights_and_settings() -> None:
    one, same, other = (UNetGenerator(n_channels=4, n_levels=1) for _ in range(3))
    same.load_state_dict(one.state_dict())
    same.eval()
    assert completer_fingerprint(one) == completer_fingerprint(same)
    with torch.no_grad():
        same.correction.bias[0] += 1e-7
    different = [one, same, other, NearestCompleter(), LinearCompleter(), Weighted(1.0), Weighted(2.0)]
    different += [Weighted(1.0, one), Weighted(1.0, other)]
    different += [TiledCompleter(inside, 16, 4) for inside in (NearestCompleter(), LinearCompleter(), one)]
    assert len({completer_fingerprint(completer) for completer in different}) == len(different)
    assert completer_fingerprint(Weighted(1.0)) == completer_fingerprint(Weighted(1.0))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[CompleterWithError, Path]:
    network = UNetGenerator(n_channels=4, n_levels=1)
    head = make_error_head(seed=3, n_channels=4)
    nn.init.normal_(head.last.weight)
    completer, path = CompleterWithError(network, head, 1.25), tmp_path / "deep" / "uncertainty.safetensors"
    save_error_head(completer, path, metadata={"n_updates": 7})
    return completer, path


def test_a_saved_head_comes_back_equal_for_its_own_generator(
    saved: tuple[CompleterWithError, Path], make_scans: MakeScans
) -> None:
    completer, path = saved
    loaded = load_error_head(path, completer.completer)
    scans = make_scans(2, 8)
    assert loaded.scale == 1.25
    assert torch.equal(loaded.with_error(scans)[1], completer.with_error(scans)[1])
    save_error_head(completer, path.with_name("again"), metadata={"n_updates": 7})
    assert path.with_name("again").read_bytes() == path.read_bytes()


def test_the_head_of_another_generator_is_refused_in_one_line(saved: tuple[CompleterWithError, Path]) -> None:
    completer, path = saved
    other = UNetGenerator(n_channels=4, n_levels=1)
    with pytest.raises(GeneratorFileError) as refusal:
        load_error_head(path, other)
    own, given = (completer_fingerprint(network)[:12] for network in (completer.completer, other))
    assert str(refusal.value) == (
        f"{path}: got an error head of a completer with the hash {own}; "
        f"expected that of the UNetGenerator given, with the hash {given}"
    )


def test_files_that_are_no_error_heads_are_refused(saved: tuple[CompleterWithError, Path], tmp_path: Path) -> None:
    completer, path = saved
    network = completer.completer
    with pytest.raises(GeneratorFileError, match="got no such file; expected a file of an error head"):
        load_error_head(tmp_path / "none", network)
    save_generator(network, tmp_path / "generator")  # type: ignore[arg-type]
    with pytest.raises(GeneratorFileError, match=f"expected a file of an error head with the header {ERROR_HEADER}"):
        load_error_head(tmp_path / "generator", network)
    (tmp_path / "half").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(GeneratorFileError, match="no whole safetensors file"):
        load_error_head(tmp_path / "half", network)
    good = {
        "format_version": 1,
        "config": {"n_channels": 4},
        "scale": 1.0,
        "completer": completer_fingerprint(network),
    }
    tensors = completer.head.state_dict()
    for change in ({"config": {"n_channels": 5}}, {"config": {"depth": 5}}, {"scale": -1.0}, {"scale": None}):
        _write(tmp_path / "foreign", ERROR_HEADER, {**good, **change}, tensors)
        with pytest.raises(GeneratorFileError, match="an error head that cannot be rebuilt"):
            load_error_head(tmp_path / "foreign", network)
    _write(tmp_path / "newer", ERROR_HEADER, {**good, "format_version": 99}, tensors)
    with pytest.raises(GeneratorFileError, match="got format version 99"):
        load_error_head(tmp_path / "newer", network)
