"""Completing partial scans: networks, classical completers, their losses, training, uncertainty and files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptive_scan.lazy import exports

if TYPE_CHECKING:
    from adaptive_scan.generators.completers import COMPLETERS, Completer, NearestCompleter, make_completer
    from adaptive_scan.generators.completion import complete
    from adaptive_scan.generators.families import known_families
    from adaptive_scan.generators.files import GeneratorFileError, load_generator, read_generator_header, save_generator
    from adaptive_scan.generators.interpolation import LinearCompleter
    from adaptive_scan.generators.losses import blur_targets, completion_loss
    from adaptive_scan.generators.networks import GENERATORS, MaskAwareGenerator, ResidualGenerator, UNetGenerator
    from adaptive_scan.generators.partial_stem import TwoStageGenerator
    from adaptive_scan.generators.tiles import TiledCompleter
    from adaptive_scan.generators.training import GeneratorTrainer, make_generator, train_generator
    from adaptive_scan.generators.training_settings import GeneratorTraining
    from adaptive_scan.generators.uncertainty import CompleterWithError, EnsembleCompleter
else:
    __getattr__ = exports(__name__, __file__)

__all__ = [
    "COMPLETERS",
    "GENERATORS",
    "Completer",
    "CompleterWithError",
    "EnsembleCompleter",
    "GeneratorFileError",
    "GeneratorTrainer",
    "GeneratorTraining",
    "LinearCompleter",
    "MaskAwareGenerator",
    "NearestCompleter",
    "ResidualGenerator",
    "TiledCompleter",
    "TwoStageGenerator",
    "UNetGenerator",
    "blur_targets",
    "complete",
    "completion_loss",
    "known_families",
    "load_generator",
    "make_completer",
    "make_generator",
    "read_generator_header",
    "save_generator",
    "train_generator",
]
