"""What the console command ``adaptive-scan`` and the scripts run; all commands are in the table of ``table.py``."""

from __future__ import annotations

from adaptive_scan.commands.table import COMMANDS, main, script

train_rdpg_main = script("train")
compare_scans_main = script("compare")
train_generator_main = script("train-generator")
compare_completers_main = script("compare-completers")
measure_errors_main = script("measure-errors")
export_generator_main = script("export")
make_specimens_main = script("specimens")
calibrate_generator_main = script("calibrate")

__all__ = [
    "COMMANDS",
    "calibrate_generator_main",
    "compare_completers_main",
    "compare_scans_main",
    "export_generator_main",
    "main",
    "make_specimens_main",
    "measure_errors_main",
    "train_generator_main",
    "train_rdpg_main",
]
