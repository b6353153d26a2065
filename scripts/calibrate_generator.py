"""Train an error head for the generator of a run, calibrate it on held-out crops, and report how right it is."""

import sys

from adaptive_scan.commands import calibrate_generator_main

if __name__ == "__main__":
    sys.exit(calibrate_generator_main())
