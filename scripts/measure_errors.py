"""Measure where completions are wrong: by pixel, by distance from path and edge, and by picture."""

import sys

from adaptive_scan.commands import measure_errors_main

if __name__ == "__main__":
    sys.exit(measure_errors_main())
