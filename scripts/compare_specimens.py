"""Compare procedural crops with crops of real micrographs, by family."""

import sys

from adaptive_scan.commands import compare_specimens_main

if __name__ == "__main__":
    sys.exit(compare_specimens_main())
