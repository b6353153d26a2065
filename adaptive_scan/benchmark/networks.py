"""The networks of a benchmark: a base for all scans of a seed, fine-tuned ones, and a head for its errors."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_scan.acquisition import Instrument
from adaptive_scan.benchmark.definition import Benchmark
from adaptive_scan.evaluation.contenders import Contender, Measurement, measure
from adaptive_scan.generators import GENERATORS, GeneratorTrainer, GeneratorTraining, make_generator
from adaptive_scan.generators.families import ADAPTIVE, PathMaker
from adaptive_scan.generators.uncertainty import CompleterWithError, ErrorTraining, train_error_head
from adaptive_scan.micrographs import CropSource
from adaptive_scan.scans import ScanGeometry

_FRACTIONS = (1.0, 0.75, 0.5, 0.25)  # of a scan at which its errors are predicted, as a greedy policy asks


class SameCrops:
    """A source that draws the same crops for all who train under one seed, whatever else they draw.

    Two networks that are fine-tuned to other scans use up other random numbers for these scans; their crops must be the
    same nevertheless.

    Args:
        source: Where crops come from.
        seed: Which sequence of crops.
    """

    def __init__(self, source: CropSource, seed: int) -> None:
        self._source = source
        self._rng = np.random.default_rng([seed, 1])
        self.crop_size, self.id_width = source.crop_size, source.id_width

    def draw(self, n_crops: int, rng: np.random.Generator) -> np.ndarray:
        """The next ids of the sequence; ``rng`` is not used."""
        return self._source.draw(n_crops, self._rng)

    def take(self, ids: np.ndarray) -> np.ndarray:
        """Build the crops of ids."""
        return self._source.take(ids)


def train_base(benchmark: Benchmark, crops: CropSource, seed: int, device: torch.device | str = "cpu") -> nn.Module:
    """A generator trained on the mixture of static families at the coverages of all geometries.

    Families bound to segments have the geometry of most positions, the last by name where several have it.

    Args:
        benchmark: Says how.
        crops: Where crops come from.
        seed: Seed of the weights and of everything drawn.
        device: Where the network learns.

    Returns:
        The network, in evaluation mode.
    """
    plan, geometries = benchmark.generator, _by_n_positions(benchmark)
    settings = _training(
        benchmark,
        plan.scans,
        seed,
        coverages=tuple(dict.fromkeys(geometry.nominal_coverage for geometry in geometries)),
        n_updates=plan.n_updates,
        learning_rate=plan.learning_rate,
        final_learning_rate=plan.final_learning_rate,
    )
    network, instrument = _new_network(benchmark, seed), benchmark.acquisition
    trainer = GeneratorTrainer(network, crops, geometries[-1], settings, device=device, acquisition=instrument)
    trainer.initialise()
    return _trained(trainer)


def fine_tune(
    benchmark: Benchmark,
    base: nn.Module,
    crops: CropSource,
    geometry: ScanGeometry,
    contenders: Sequence[Contender],
    seed: int,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """A copy of the base network trained on, with an equal mixture of some scans.

    The crops and their order depend on the seed alone, and their number on the benchmark, so networks fine-tuned to
    other scans have seen the same.

    Args:
        benchmark: Says how long.
        base: The network to begin with; it is left as it was.
        crops: Where crops come from.
        geometry: Of the scans.
        contenders: The scans.
        seed: Seed of everything drawn.
        device: Where the network learns.

    Returns:
        The network, in evaluation mode.
    """
    plan, instrument = benchmark.generator, benchmark.acquisition
    paths = {f"{ADAPTIVE}: {each.name}": _paths(each, geometry, instrument) for each in contenders}
    settings = _training(
        benchmark,
        tuple(paths),
        seed,
        n_updates=plan.fine_tuning_crops // plan.batch_size,
        learning_rate=plan.fine_tuning_learning_rate,
        final_learning_rate=plan.final_learning_rate,
    )
    network, same = copy.deepcopy(base), SameCrops(crops, seed)
    return _trained(
        GeneratorTrainer(network, same, geometry, settings, device=device, acquisition=instrument, paths=paths)
    )


def _training(benchmark: Benchmark, scans: tuple[str, ...], seed: int, **settings: Any) -> GeneratorTraining:
    """Settings of a training with what all trainings of a benchmark share."""
    plan, blur = benchmark.generator, benchmark.pictures.blur
    return GeneratorTraining(
        generator=cast(Any, plan.kind), scans=scans, batch_size=plan.batch_size, blur=blur, seed=seed, **settings
    )


def _by_n_positions(benchmark: Benchmark) -> list[ScanGeometry]:
    """All geometries by number of positions and name, for their order in the file is no part of the identity."""
    named = sorted(benchmark.geometries.items(), key=lambda item: (item[1].n_positions_total, item[0]))
    return [geometry for _, geometry in named]


def _new_network(benchmark: Benchmark, seed: int) -> nn.Module:
    """The network before training; each kind takes the settings that it has."""
    plan = benchmark.generator
    known = inspect.signature(GENERATORS[plan.kind]).parameters
    settings = {"n_channels": plan.n_channels, "n_levels": plan.n_levels, "blurred": benchmark.pictures.blur}
    return make_generator(plan.kind, seed=seed, **{name: settings[name] for name in settings if name in known})


def _paths(contender: Contender, geometry: ScanGeometry, instrument: Instrument | str) -> PathMaker:
    """What makes a contender's scans of crops to train on, with the readings that a policy chose its path from."""

    def make(crops: np.ndarray, rng: np.random.Generator) -> Measurement:
        seed = int(rng.integers(2**31))
        return measure(contender, crops, geometry, acquisition=instrument, seed=seed)

    return make


def _trained(trainer: GeneratorTrainer) -> nn.Module:
    while trainer.step < trainer.settings.n_updates:
        trainer.update()
    return trainer.saved_network.eval()


def train_predictor(
    benchmark: Benchmark, base: nn.Module, crops: CropSource, seed: int, device: torch.device | str = "cpu"
) -> CompleterWithError:
    """The base network with a head that predicts its errors, on whole scans and on those that have just begun.

    Families bound to segments have the geometry that `train_base` gives them.

    Args:
        benchmark: Says how long.
        base: The network.
        crops: Where crops come from.
        seed: Seed of the weights and of everything drawn.
        device: Where the head learns.
    """
    plan = benchmark.generator
    coverages = {
        fraction * geometry.nominal_coverage for geometry in benchmark.geometries.values() for fraction in _FRACTIONS
    }
    settings = _training(benchmark, plan.scans, seed, coverages=tuple(sorted(coverages)))
    geometry = _by_n_positions(benchmark)[-1]
    # The trainer draws scans only; the network that it would train is a copy.
    drawing = GeneratorTrainer(
        copy.deepcopy(base), crops, geometry, settings, device=device, acquisition=benchmark.acquisition
    )

    def draw() -> tuple[Tensor, Tensor]:
        scans, targets = drawing.draw_batch()
        return scans, targets

    head = train_error_head(base, draw, ErrorTraining(n_updates=plan.error_updates, seed=seed), device=device)
    return CompleterWithError(base, head)
