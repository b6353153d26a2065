"""Biharmonic and total-variation inpainting: against scikit-image, linear programming and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage, sparse
from scipy.optimize import linprog
from skimage.restoration import inpaint_biharmonic

from adaptive_scan.generators import inpainting
from adaptive_scan.generators.completers import BiharmonicCompleter, TotalVariationCompleter, make_completer
from adaptive_scan.generators.inpainting import total_variation

MakeScans = Callable[..., torch.Tensor]
DIRECTIONS = {(1, 0): 1.0, (0, 1): 1.0, (1, 1): 0.5**0.5, (1, -1): 0.5**0.5}


def test_biharmonic_equals_scikit_image(make_scans: MakeScans) -> None:
    scans = make_scans(2, 14, 0.15)
    found = BiharmonicCompleter()(scans)[:, 0].numpy()
    for (values, mask), picture in zip(scans.double().numpy(), found, strict=True):
        expected = inpaint_biharmonic(values, mask == 0)
        # Theirs stays between the extremes of what was measured, as ours does not.
        np.testing.assert_allclose(np.clip(picture, values.min(), values.max()), expected, atol=1e-5)


def test_biharmonic_solves_its_equation(make_scans: MakeScans) -> None:
    scans = make_scans(1, 24, 0.1)
    picture, mask = BiharmonicCompleter()(scans)[0, 0].double().numpy(), scans[0, 1].numpy() != 0
    twice = ndimage.laplace(ndimage.laplace(picture, mode="reflect"), mode="reflect")
    assert np.abs(twice[~mask]).max() < 1e-5 < np.abs(twice[mask]).max()


def test_scans_of_the_same_pixels_share_one_factorisation(
    make_scans: MakeScans, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, factorised = make_scans(3, 12), []

    def counted(matrix: sparse.csc_matrix, **options: object) -> object:
        factorised.append(matrix.shape[0])
        return solve(matrix, **options)

    scans[2, 1] = scans[0, 1]
    solve = inpainting.splu
    monkeypatch.setattr(inpainting, "splu", counted)
    BiharmonicCompleter()(scans)
    assert factorised == [int((scans[number, 1] == 0).sum()) for number in (0, 1)]


def _pairs(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of all pairs of neighbours, shape (n_pairs, 2), and their weights."""
    pairs, weights = [], []
    for row in range(side):
        for column in range(side):
            for (down, right), weight in DIRECTIONS.items():
                if row + down < side and 0 <= column + right < side:
                    pairs.append((row * side + column, (row + down) * side + column + right))
                    weights.append(math.pi / 8 * weight)
    return np.array(pairs), np.array(weights)


def _least_variation(values: np.ndarray, mask: np.ndarray) -> float:
    """The minimum by linear programming: a bound t >= |difference| for each pair, and the least weighted sum of t."""
    pairs, weights = _pairs(len(mask))
    n_pairs = len(pairs)
    numbers = np.arange(n_pairs)
    signs = np.concatenate((-np.ones(n_pairs), np.ones(n_pairs)))
    places = (np.concatenate((numbers, numbers)), pairs.T.reshape(-1))
    differences = sparse.coo_matrix((signs, places), shape=(n_pairs, mask.size))
    bounds = sparse.vstack(
        [sparse.hstack([sign * differences, -sparse.eye(n_pairs)]) for sign in (1.0, -1.0)], format="csr"
    )
    known = [(v, v) if m else (None, None) for v, m in zip(values.ravel(), mask.ravel(), strict=True)]
    costs = np.concatenate((np.zeros(mask.size), weights))
    return linprog(costs, A_ub=bounds, b_ub=np.zeros(2 * n_pairs), bounds=known + [(0, None)] * n_pairs).fun


@pytest.mark.parametrize("fraction", [0.05, 0.2])
def test_total_variation_converges_to_the_least_one(make_scans: MakeScans, fraction: float) -> None:
    scans = make_scans(1, 14, fraction)
    scans[0, 1, [0, 13, 5], [3, 9, 1]] = 1.0
    least = _least_variation(scans[0, 0].double().numpy(), scans[0, 1].numpy() != 0)
    found = [float(total_variation(TotalVariationCompleter(n)(scans).double())) for n in (1, 500, 4000)]
    assert least * (1 - 1e-5) < found[2] < 1.002 * least
    assert found[2] <= found[1] < 1.05 * least < found[0]
    others = [float(total_variation(make_completer(name)(scans))) for name in ("nearest", "linear", "biharmonic")]
    assert found[1] < min(others)


def test_total_variation_equals_a_sum_over_pairs(rng: np.random.Generator) -> None:
    picture = rng.uniform(-1, 1, (6, 6))
    pairs, weights = _pairs(6)
    expected = (weights * np.abs(picture.ravel()[pairs[:, 0]] - picture.ravel()[pairs[:, 1]])).sum()
    assert float(total_variation(torch.from_numpy(picture)[None, None])) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("angle", np.linspace(0.0, math.pi / 2, 7))
def test_total_variation_of_an_outline_is_its_length_in_any_direction(angle: float) -> None:
    side, radius = 400, 150.0
    rows, columns = np.indices((side, side)) - side / 2
    # A half plane seen through a disc: beyond the disc nothing varies but its rim, which is subtracted.
    disc = np.hypot(rows, columns) < radius
    half = (math.cos(angle) * rows + math.sin(angle) * columns > 0.25) & disc
    other = disc & ~half
    pictures = torch.from_numpy(np.stack((half, other, disc))).double()[:, None]
    first, second, both = total_variation(pictures).tolist()
    assert 0.5 * (first + second - both) == pytest.approx(2.0 * radius, rel=0.06)


def test_total_variation_keeps_a_step_edge_sharp() -> None:
    scan = torch.zeros(1, 2, 12, 12)
    scan[:, 1, :, ::3] = 1.0
    scan[:, 0] = torch.where(torch.arange(12) < 6, -0.5, 0.75) * scan[:, 1]
    picture = TotalVariationCompleter(2000)(scan)
    # Between columns 3 and 6 the edge may lie anywhere; elsewhere the picture is flat.
    torch.testing.assert_close(picture[..., :4], torch.full((1, 1, 12, 4), -0.5), rtol=0, atol=1e-3)
    torch.testing.assert_close(picture[..., 6:], torch.full((1, 1, 12, 6), 0.75), rtol=0, atol=1e-3)
    closed = 1.25 * (12 * math.pi / 8 + 2 * 11 * math.pi / 8 / math.sqrt(2))
    assert float(total_variation(picture)) == pytest.approx(closed, rel=1e-3)


def test_total_variation_takes_large_batches_in_parts(make_scans: MakeScans, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = make_scans(5, 16, 0.1)
    scans[:, 1, [0, 3, 9], [2, 12, 5]] = 1.0
    together = TotalVariationCompleter(20)(scans)
    monkeypatch.setattr(inpainting, "_PIXELS_AT_ONCE", 2 * 256)
    torch.testing.assert_close(TotalVariationCompleter(20)(scans), together, rtol=0, atol=0)


def test_total_variation_refuses_no_iterations() -> None:
    with pytest.raises(ValueError, match="n_iterations: got 0; expected at least 1"):
        TotalVariationCompleter(0)
