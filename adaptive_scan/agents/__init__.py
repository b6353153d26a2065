"""Agents: recurrent deterministic policy gradients, memories, replay; static, heuristic and pathwise policies."""

from adaptive_scan.agents.heuristics import CoverageGreedy, GradientFollowing, VarianceGreedy
from adaptive_scan.agents.learned_path import learn_path, train_pathwise
from adaptive_scan.agents.memories import MEMORIES, make_memory
from adaptive_scan.agents.memory import Memory
from adaptive_scan.agents.noise import GaussianNoise, OrnsteinUhlenbeckNoise
from adaptive_scan.agents.oracle import LookAheadOracle
from adaptive_scan.agents.pathwise import PathwisePolicy, load_pathwise
from adaptive_scan.agents.pickles import ModelFileError
from adaptive_scan.agents.policies import MemoryPolicy
from adaptive_scan.agents.recurrent_td3 import RDPG, RecurrentTD3
from adaptive_scan.agents.replay import EpisodeReplayBuffer
from adaptive_scan.agents.scan_rdpg import CoTraining, ScanRDPG
from adaptive_scan.agents.static import StaticScanPolicy

__all__ = [
    "MEMORIES",
    "RDPG",
    "CoTraining",
    "CoverageGreedy",
    "EpisodeReplayBuffer",
    "GaussianNoise",
    "GradientFollowing",
    "LookAheadOracle",
    "Memory",
    "MemoryPolicy",
    "ModelFileError",
    "OrnsteinUhlenbeckNoise",
    "PathwisePolicy",
    "RecurrentTD3",
    "ScanRDPG",
    "StaticScanPolicy",
    "VarianceGreedy",
    "learn_path",
    "load_pathwise",
    "make_memory",
    "train_pathwise",
]
