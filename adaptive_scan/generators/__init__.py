"""Completing partial scans: networks, classical completers, their losses, files and training."""

from __future__ import annotations

from adaptive_scan.generators.augment import apply_symmetries, augment
from adaptive_scan.generators.completers import (
    COMPLETERS,
    Completer,
    InfillCompleter,
    LinearCompleter,
    NearestCompleter,
    make_completer,
)
from adaptive_scan.generators.distance import distance_to_measured, nearest_infill, nearest_measured
from adaptive_scan.generators.families import draw_positions, known_families, random_headings
from adaptive_scan.generators.files import (
    GeneratorFileError,
    load_generator,
    read_generator_header,
    save_generator,
)
from adaptive_scan.generators.infill import pull_push_infill
from adaptive_scan.generators.losses import AlrcState, alrc, blur_targets, completion_loss
from adaptive_scan.generators.networks import GENERATORS, ResidualGenerator, UNetGenerator
from adaptive_scan.generators.training import (
    GeneratorTrainer,
    GeneratorTraining,
    generator_step,
    make_generator,
    train_generator,
)

__all__ = [
    "COMPLETERS",
    "GENERATORS",
    "AlrcState",
    "Completer",
    "GeneratorFileError",
    "GeneratorTrainer",
    "GeneratorTraining",
    "InfillCompleter",
    "LinearCompleter",
    "NearestCompleter",
    "ResidualGenerator",
    "UNetGenerator",
    "alrc",
    "apply_symmetries",
    "augment",
    "blur_targets",
    "completion_loss",
    "distance_to_measured",
    "draw_positions",
    "generator_step",
    "known_families",
    "load_generator",
    "make_completer",
    "make_generator",
    "nearest_infill",
    "nearest_measured",
    "pull_push_infill",
    "random_headings",
    "read_generator_header",
    "save_generator",
    "train_generator",
]
