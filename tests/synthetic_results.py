"""Results of a benchmark that never ran: rows, sums and examples made from arrays of losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from adaptive_scan.evaluation.results import COST_COLUMNS, METRIC_COLUMNS, SCHEMA, ExampleScans, Results, Sums

TRUTH_METRICS = ("atom_error_pm", "atoms_missed", "atoms_invented", "defect_recall", "particle_area_error")
"""Metrics that are NaN where the truth is not known."""

ROLES = {
    "spiral": "static",
    "raster": "static",
    "grid": "static",
    "learned_path": "static",
    "pathwise": "adaptive",
    "coverage_greedy": "adaptive",
    "look_ahead_oracle": "oracle",
    "pathwise_constant": "control",
    "dense": "dense",
}
"""What each scan of `small_results` is."""

FACTORS = {
    "spiral": 1.0,
    "raster": 1.3,
    "grid": 0.6,
    "learned_path": 0.8,
    "pathwise": 0.7,
    "coverage_greedy": 0.9,
    "look_ahead_oracle": 0.5,
    "pathwise_constant": 0.82,
    "dense": 1.1,
}
"""Loss of each scan of `small_results` over that of the spiral, before noise."""

COMPLETERS = {"shared": 1.0, "own": 0.95, "infill+": 1.6, "linear": 2.0}
"""Loss by each completer of `small_results` over that by the shared generator."""


def nested_losses(
    rng: np.random.Generator,
    *,
    n_seeds: int = 3,
    n_groups: int = 6,
    n_crops: int = 4,
    spreads: tuple[float, float, float] = (0.1, 0.5, 0.3),
    mean: float = 0.1,
) -> np.ndarray:
    """Log-normal losses, shape (n_seeds, n_groups, n_crops).

    Args:
        rng: Draws them.
        n_seeds: Number of seeds.
        n_groups: Number of specimens of each seed's test set.
        n_crops: Number of crops of each specimen.
        spreads: Standard deviation of the logarithm between seeds, between specimens of a seed, between crops.
        mean: Median loss.
    """
    seed, group, crop = spreads
    logs = seed * rng.standard_normal((n_seeds, 1, 1)) + group * rng.standard_normal((n_seeds, n_groups, 1))
    return mean * np.exp(logs + crop * rng.standard_normal((n_seeds, n_groups, n_crops)))


def synthetic_results(
    losses: Mapping[tuple[str, str, str], np.ndarray],
    *,
    roles: Mapping[str, str] | None = None,
    scattered: Sequence[str] = ("grid",),
    content: Sequence[str] = ("lattices", "particles"),
    sparsity: np.ndarray | None = None,
    crossed: bool = False,
    description: Mapping[str, object] | None = None,
    image_size: int = 16,
    n_examples: int = 3,
    adaptivity: dict[str, dict[str, dict[str, float]]] | None = None,
) -> Results:
    """Results whose losses are given; all else is made to fit.

    Args:
        losses: By geometry, scan and completer, all of one shape (n_seeds, n_groups, n_crops).
        roles: Of each scan; those not named are those of `ROLES`, or static.
        scattered: Scans that are not contiguous.
        content: What the pictures of a group show, given to the groups in turn.
        sparsity: Of each crop, the shape of the losses; rises evenly through the table if None.
        crossed: Whether all seeds have the same groups; else the test sets of the seeds are disjoint.
        description: Added to the benchmark's; its reference is the first scan of the losses if not given.
        image_size: Side S of the pictures [px].
        n_examples: Number of example crops of each geometry.
        adaptivity: Controls of adaptivity.
    """
    shape = np.shape(next(iter(losses.values())))
    roles = {**ROLES, **(roles or {})}
    if sparsity is None:
        sparsity = np.linspace(0.05, 0.95, math.prod(shape)).reshape(shape)
    parts = [
        _rows(key, values, roles.get(key[1], "static"), key[1] not in scattered, content, sparsity, crossed)
        for key, values in losses.items()
    ]
    rng = np.random.default_rng(7)
    scans = list(dict.fromkeys(scan for _, scan, _ in losses))
    completers = list(dict.fromkeys(completer for _, _, completer in losses))
    return Results(
        name="synthetic",
        identity="0123456789abcdef",
        description={"name": "synthetic", "reference": scans[0], "completers": completers, **(description or {})},
        rows=pa.concat_tables(parts),
        sums={key: _sums(values, image_size, rng) for key, values in losses.items()},
        examples=[
            _examples(name, losses, image_size, n_examples, rng) for name in dict.fromkeys(key[0] for key in losses)
        ],
        adaptivity=adaptivity or {},
    )


def small_results(
    seed: int = 0, *, geometries: Sequence[str] = ("1/23", "1/46"), n_groups: int = 6, image_size: int = 16
) -> Results:
    """Two geometries, nine scans and four completers, as a benchmark would leave them.

    Only the learned path, the pathwise policy and the spiral have a generator of their own; the dense scan has a
    completer of its own alone.
    """
    rng = np.random.default_rng(seed)
    losses: dict[tuple[str, str, str], np.ndarray] = {}
    for geometry in geometries:
        spiral = nested_losses(rng, n_groups=n_groups)
        for scan, factor in FACTORS.items():
            completers = {"denoiser": 1.0} if scan == "dense" else COMPLETERS
            noisy = factor * spiral * np.exp(0.05 * rng.standard_normal(spiral.shape))
            for completer, worse in completers.items():
                if completer != "own" or scan in ("spiral", "learned_path", "pathwise"):
                    losses[geometry, scan, completer] = worse * noisy * np.exp(0.02 * rng.standard_normal(spiral.shape))
    adaptivity = {
        geometry: {"pathwise": {"path_diversity": 0.21, "variance_explained_by_crop": 0.34}} for geometry in geometries
    }
    return synthetic_results(
        losses,
        description={"best_static": dict.fromkeys(geometries, "learned_path")},
        image_size=image_size,
        adaptivity=adaptivity,
    )


def _rows(
    key: tuple[str, str, str],
    losses: np.ndarray,
    role: str,
    contiguous: bool,
    content: Sequence[str],
    sparsity: np.ndarray,
    crossed: bool,
) -> pa.Table:
    n_seeds, n_groups, n_crops = losses.shape
    seeds, groups, _ = (index.ravel() for index in np.indices(losses.shape))
    specimens = [
        f"specimen {group if crossed else seed * n_groups + group}" for seed, group in zip(seeds, groups, strict=True)
    ]
    n = losses.size
    rmse = np.sqrt(losses.ravel() / 10) / 2
    columns: dict[str, object] = {
        "seed": seeds,
        "geometry": [key[0]] * n,
        "scan": [key[1]] * n,
        "completer": [key[2]] * n,
        "crop": np.tile(np.arange(n_groups * n_crops), n_seeds),
        "micrograph": [f"{specimen}.tif" for specimen in specimens],
        "group": specimens,
        "row": [0] * n,
        "column": [0] * n,
        "content": [content[group % len(content)] for group in groups],
        "sparsity": sparsity.ravel(),
        "role": [role] * n,
        "contiguous": [contiguous] * n,
        "loss": losses.ravel(),
        "rmse": rmse,
        "psnr": -20 * np.log10(np.maximum(rmse, 1e-5)),
        "ssim": 1 - rmse,
        "rmse_measured": rmse / 2,
        "rmse_unmeasured": 1.1 * rmse,
        "frc_cutoff": 0.1 + 0 * rmse,
        **{name: np.full(n, math.nan) for name in TRUTH_METRICS},
        **{name: np.full(n, 400.0) for name in COST_COLUMNS},
        "coverage": np.full(n, 0.04),
    }
    assert set(METRIC_COLUMNS) <= set(columns)
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def _sums(losses: np.ndarray, image_size: int, rng: np.random.Generator) -> Sums:
    n_bins, n_rings = math.ceil(math.sqrt(2) * (image_size - 1)) + 1, image_size // 2 + 1
    mse = float(np.mean(losses)) / 10
    pixels = np.where(np.arange(n_bins) < 6, 100.0 * losses.size, 0.0)
    ring_power = losses.size * np.exp(-np.arange(n_rings) / 3.0)
    return Sums(
        n_crops=losses.size,
        squared_error=losses.size * mse * rng.uniform(0.5, 1.5, (image_size, image_size)),
        distance_squared_error=pixels * mse * np.linspace(0.5, 2.0, n_bins),
        distance_pixels=pixels,
        visits=rng.poisson(2.0, (image_size, image_size)).astype(np.float64),
        frc_cross=ring_power * np.linspace(0.95, 0.05, n_rings),
        frc_completion=ring_power,
        frc_target=ring_power,
    )


def _examples(
    geometry: str,
    losses: Mapping[tuple[str, str, str], np.ndarray],
    image_size: int,
    n_examples: int,
    rng: np.random.Generator,
) -> ExampleScans:
    pictures = (n_examples, image_size, image_size)
    here = [(scan, completer) for name, scan, completer in losses if name == geometry]
    targets = rng.uniform(-1, 1, pictures).astype(np.float32)
    steps = rng.uniform(-1.5, 1.5, (n_examples, 12, 2))
    return ExampleScans(
        geometry=geometry,
        seed=0,
        indices=np.arange(n_examples),
        targets=targets,
        positions={
            scan: np.clip(image_size / 2 + np.cumsum(steps, axis=1) * factor, 0, image_size - 1).astype(np.float32)
            for factor, scan in enumerate(dict.fromkeys(scan for scan, _ in here), start=1)
        },
        completions={key: np.clip(targets + rng.normal(0, 0.2, pictures), -1, 1).astype(np.float32) for key in here},
    )
