"""Compare the scans of a run with static ones on held-out micrographs."""

import sys

from adaptive_scan.commands import compare_scans_main

if __name__ == "__main__":
    sys.exit(compare_scans_main())
