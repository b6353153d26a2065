"""Agents: recurrent deterministic policy gradients, memories, replay; static, heuristic and pathwise policies."""

from adaptive_scan.agents.candidates import CandidatePolicy, Candidates
from adaptive_scan.agents.dnc import DncMemory
from adaptive_scan.agents.heuristics import CoverageGreedy, GradientFollowing, LookAheadOracle, VarianceGreedy
from adaptive_scan.agents.memories import MEMORIES, make_memory
from adaptive_scan.agents.memory import Memory, MemoryState
from adaptive_scan.agents.noise import ExplorationNoise, GaussianNoise, OrnsteinUhlenbeckNoise
from adaptive_scan.agents.path_learning import PathLearning, learn_path, train_pathwise
from adaptive_scan.agents.pathwise import (
    PathwiseActor,
    PathwisePolicy,
    PathwiseSettings,
    load_pathwise,
    pathwise_geometry,
    single_positions,
)
from adaptive_scan.agents.pickles import ModelFileError
from adaptive_scan.agents.policies import CnnMemoryPolicy, MemoryPolicy, MultiInputMemoryPolicy
from adaptive_scan.agents.recurrent import RecurrentMemory
from adaptive_scan.agents.recurrent_td3 import RDPG, RecurrentTD3
from adaptive_scan.agents.replay import BurnIn, EpisodeBatch, EpisodeReplayBuffer, FieldSpec
from adaptive_scan.agents.replay_files import ReplayFileError
from adaptive_scan.agents.scan_rdpg import CoTraining, ScanExamples, ScanRDPG, ScanReplayBuffer
from adaptive_scan.agents.static import StaticScanPolicy
from adaptive_scan.agents.targets import actor_loss, critic_loss, masked_mean, n_step_targets, saturation
from adaptive_scan.agents.transformer import TransformerMemory

__all__ = [
    "MEMORIES",
    "RDPG",
    "BurnIn",
    "CandidatePolicy",
    "Candidates",
    "CnnMemoryPolicy",
    "CoTraining",
    "CoverageGreedy",
    "DncMemory",
    "EpisodeBatch",
    "EpisodeReplayBuffer",
    "ExplorationNoise",
    "FieldSpec",
    "GaussianNoise",
    "GradientFollowing",
    "LookAheadOracle",
    "Memory",
    "MemoryPolicy",
    "MemoryState",
    "ModelFileError",
    "MultiInputMemoryPolicy",
    "OrnsteinUhlenbeckNoise",
    "PathLearning",
    "PathwiseActor",
    "PathwisePolicy",
    "PathwiseSettings",
    "RecurrentMemory",
    "RecurrentTD3",
    "ReplayFileError",
    "ScanExamples",
    "ScanRDPG",
    "ScanReplayBuffer",
    "StaticScanPolicy",
    "TransformerMemory",
    "VarianceGreedy",
    "actor_loss",
    "critic_loss",
    "learn_path",
    "load_pathwise",
    "make_memory",
    "masked_mean",
    "n_step_targets",
    "pathwise_geometry",
    "saturation",
    "single_positions",
    "train_pathwise",
]
