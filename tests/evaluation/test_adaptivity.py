"""Figures of how different the paths of different crops are."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive_scan.evaluation.adaptivity import adaptivity


def test_diversity_and_overlap_against_loops(rng: np.random.Generator) -> None:
    paths = rng.integers(0, 12, (6, 20, 2)).astype(np.float64)
    found = adaptivity(paths, rng.uniform(size=(6, 12, 12)), list("aabbcc"), rng)
    distances, overlaps = [], []
    for i in range(6):
        for j in range(i):
            distances.append(np.mean([np.linalg.norm(p - q) for p, q in zip(paths[i], paths[j], strict=True)]))
            first, second = ({tuple(p) for p in path.tolist()} for path in (paths[i], paths[j]))
            overlaps.append(len(first & second) / len(first | second))
    assert found["path_diversity"] == pytest.approx(np.mean(distances))
    assert found["pixel_overlap"] == pytest.approx(np.mean(overlaps), rel=1e-5)


def smooth_crops(rng: np.random.Generator, n_crops: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops of four patterns of random strength, and the strengths."""
    strengths = rng.normal(size=(n_crops, 4)) * np.array([2.0, 1.5, 1.0, 0.8])
    patterns = rng.normal(size=(4, 16, 16))
    return np.tensordot(strengths, patterns, axes=1), strengths


def test_a_path_that_is_linear_in_the_crop_is_explained_by_it_and_a_random_one_is_not(rng: np.random.Generator) -> None:
    crops, strengths = smooth_crops(rng, 120)
    groups = np.repeat(np.arange(30), 4)
    linear = 8.0 + np.tensordot(strengths, rng.normal(size=(4, 10, 2)), axes=1)
    explained = adaptivity(linear, crops, groups, rng)["predicted_share"]
    assert explained > 0.98
    # As much noise as signal leaves half.
    noisy = linear + rng.normal(size=linear.shape) * linear.std(axis=0)
    assert adaptivity(noisy, crops, groups, rng)["predicted_share"] == pytest.approx(0.5, abs=0.08)
    unrelated = [adaptivity(rng.normal(size=linear.shape), crops, groups, rng)["predicted_share"] for _ in range(5)]
    assert np.mean(unrelated) == pytest.approx(0.0, abs=0.02)


def test_what_is_known_of_a_specimen_alone_explains_nothing_across_specimens(rng: np.random.Generator) -> None:
    # Crops and paths agree within each specimen, by chance alone: no split that mixes specimens would see through it.
    patterns, favourites = rng.normal(size=(8, 16, 16)), rng.normal(size=(8, 10, 2))
    groups = np.repeat(np.arange(8), 12)
    crops = patterns[groups] + 0.05 * rng.normal(size=(96, 16, 16))
    paths = favourites[groups] + 0.05 * rng.normal(size=(96, 10, 2))
    assert adaptivity(paths, crops, groups, rng)["predicted_share"] < 0.1
    assert adaptivity(paths, crops, np.arange(96), rng)["predicted_share"] > 0.8


def test_the_share_of_the_crop_among_repeats_is_the_intraclass_correlation(rng: np.random.Generator) -> None:
    crops = rng.uniform(size=(60, 8, 8))
    own = rng.normal(scale=2.0, size=(60, 30, 2))
    for noise, expected in ((0.0, 1.0), (2.0, 0.5), (6.0, 0.1)):
        repeats = own + noise * rng.normal(size=(5, 60, 30, 2))
        found = adaptivity(repeats[0], crops, np.arange(60), rng, repeats=repeats)["crop_share"]
        assert found == pytest.approx(expected, abs=0.02)
    nothing = rng.normal(size=(5, 60, 30, 2))
    assert adaptivity(nothing[0], crops, np.arange(60), rng, repeats=nothing)["crop_share"] < 0.02


def test_a_static_path_has_no_diversity_and_nothing_to_explain(rng: np.random.Generator) -> None:
    path = rng.uniform(0, 15, (40, 2)).astype(np.float32)
    repeats = np.broadcast_to(path, (3, 10, 40, 2))
    found = adaptivity(repeats[0], rng.uniform(size=(10, 16, 16)), list("aabbccddee"), rng, repeats=repeats)
    assert found == {
        "path_diversity": pytest.approx(0.0, abs=1e-12),
        "pixel_overlap": 1.0,
        "predicted_share": 0.0,
        "crop_share": 0.0,
    }


def test_few_crops_and_few_specimens(rng: np.random.Generator) -> None:
    paths, crops = rng.uniform(0, 7, (4, 5, 2)), rng.uniform(size=(4, 8, 8))
    assert set(adaptivity(paths, crops, ["a"] * 4, rng)) == {"path_diversity", "pixel_overlap"}
    assert np.isfinite(adaptivity(paths[:2], crops[:2], ["a", "b"], rng)["predicted_share"])
    uniform = adaptivity(paths, np.zeros((4, 8, 8)), list("abcd"), rng)
    assert np.isfinite(uniform["predicted_share"])
    many = adaptivity(np.tile(paths, (5, 1, 1)), np.tile(crops, (5, 1, 1)), np.arange(20), rng, n_most=7)
    assert all(np.isfinite(list(many.values())))
    with pytest.raises(ValueError, match=r"positions have shape \(1, 5, 2\); expected .* at least 2 crops"):
        adaptivity(paths[:1], crops[:1], ["a"], rng)
    with pytest.raises(ValueError, match=r"groups have shape \(3,\); expected \(4,\)"):
        adaptivity(paths, crops, ["a"] * 3, rng)
    with pytest.raises(ValueError, match=r"targets have shape \(3, 8, 8\); expected \(4, S, S\)"):
        adaptivity(paths, crops[:3], ["a"] * 4, rng)
    with pytest.raises(ValueError, match=r"repeats have shape \(1, 4, 5, 2\); expected .* at least 2 repeats"):
        adaptivity(paths, crops, list("aabb"), rng, repeats=paths[None])
