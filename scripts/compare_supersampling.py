"""Compare methods that supersample uniform grids, on crops of any folder of micrographs."""

import sys

from adaptive_scan.commands import compare_supersampling_main

if __name__ == "__main__":
    sys.exit(compare_supersampling_main())
