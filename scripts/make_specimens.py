"""Make procedural micrographs with their truth, as a folder of TIFF files."""

import sys

from adaptive_scan.commands import make_specimens_main

if __name__ == "__main__":
    sys.exit(make_specimens_main())
