"""Completing partial scans: networks, classical completers, their losses, training, uncertainty and files."""

from __future__ import annotations

from adaptive_scan.generators.adversarial import (
    ExperienceReplay,
    adversarial_losses,
    discriminator_losses,
    replace_known,
)
from adaptive_scan.generators.adversarial_training import AdversarialSettings, AdversarialTrainer
from adaptive_scan.generators.augment import apply_symmetries, augment
from adaptive_scan.generators.averaging import averaged_copy, move_average
from adaptive_scan.generators.completers import (
    COMPLETERS,
    GRID_COMPLETERS,
    Completer,
    InfillCompleter,
    NearestCompleter,
    make_completer,
)
from adaptive_scan.generators.completion import complete
from adaptive_scan.generators.coverage import TrackedPriorities, given_priorities
from adaptive_scan.generators.detail_losses import (
    DetailLosses,
    fourier_loss,
    local_whitening,
    local_whitening_loss,
    mean_loss,
    sobel_loss,
    standard_deviation_loss,
)
from adaptive_scan.generators.discriminators import Discriminators
from adaptive_scan.generators.distance import distance_to_measured, nearest_infill, nearest_measured
from adaptive_scan.generators.distributed import Processes, joined_processes
from adaptive_scan.generators.epochs import EpochOrder
from adaptive_scan.generators.families import draw_positions, draw_scans, known_families, random_headings
from adaptive_scan.generators.files import GeneratorFileError, load_generator, read_generator_header, save_generator
from adaptive_scan.generators.grids import GridCompleter
from adaptive_scan.generators.infill import pull_push_infill
from adaptive_scan.generators.inpainting import BiharmonicCompleter, TotalVariationCompleter
from adaptive_scan.generators.interpolation import CloughTocherCompleter, LinearCompleter, ThinPlateSplineCompleter
from adaptive_scan.generators.losses import AlrcState, alrc, blur_targets, completion_loss
from adaptive_scan.generators.networks import GENERATORS, MaskAwareGenerator, ResidualGenerator, UNetGenerator
from adaptive_scan.generators.noise_levels import NoiseLevelPredictors
from adaptive_scan.generators.normalisation import freeze_normalisation, initialise_from_data
from adaptive_scan.generators.partial_stem import AuxiliaryTrainer, TwoStageGenerator
from adaptive_scan.generators.supersampling import SupersamplingGenerator
from adaptive_scan.generators.tiles import TiledCompleter
from adaptive_scan.generators.training import (
    GeneratorTrainer,
    TrainingBatch,
    generator_step,
    make_generator,
    train_generator,
)
from adaptive_scan.generators.training_settings import GeneratorTraining
from adaptive_scan.generators.uncertainty import (
    CompleterWithError,
    EnsembleCompleter,
    ErrorHead,
    ErrorTraining,
    load_error_head,
    save_error_head,
    train_error_head,
)

__all__ = [
    "COMPLETERS",
    "GENERATORS",
    "GRID_COMPLETERS",
    "AdversarialSettings",
    "AdversarialTrainer",
    "AlrcState",
    "AuxiliaryTrainer",
    "BiharmonicCompleter",
    "CloughTocherCompleter",
    "Completer",
    "CompleterWithError",
    "DetailLosses",
    "Discriminators",
    "EnsembleCompleter",
    "EpochOrder",
    "ErrorHead",
    "ErrorTraining",
    "ExperienceReplay",
    "GeneratorFileError",
    "GeneratorTrainer",
    "GeneratorTraining",
    "GridCompleter",
    "InfillCompleter",
    "LinearCompleter",
    "MaskAwareGenerator",
    "NearestCompleter",
    "NoiseLevelPredictors",
    "Processes",
    "ResidualGenerator",
    "SupersamplingGenerator",
    "ThinPlateSplineCompleter",
    "TiledCompleter",
    "TotalVariationCompleter",
    "TrackedPriorities",
    "TrainingBatch",
    "TwoStageGenerator",
    "UNetGenerator",
    "adversarial_losses",
    "alrc",
    "apply_symmetries",
    "augment",
    "averaged_copy",
    "blur_targets",
    "complete",
    "completion_loss",
    "discriminator_losses",
    "distance_to_measured",
    "draw_positions",
    "draw_scans",
    "fourier_loss",
    "freeze_normalisation",
    "generator_step",
    "given_priorities",
    "initialise_from_data",
    "joined_processes",
    "known_families",
    "load_error_head",
    "load_generator",
    "local_whitening",
    "local_whitening_loss",
    "make_completer",
    "make_generator",
    "mean_loss",
    "move_average",
    "nearest_infill",
    "nearest_measured",
    "pull_push_infill",
    "random_headings",
    "read_generator_header",
    "replace_known",
    "save_error_head",
    "save_generator",
    "sobel_loss",
    "standard_deviation_loss",
    "train_error_head",
    "train_generator",
]
