"""Train a generator on a mixture of static scans."""

import sys

from adaptive_scan.commands import train_generator_main

if __name__ == "__main__":
    sys.exit(train_generator_main())
